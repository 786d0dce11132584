//! `[sites.proxy.health_check]`: probes that an upstream has to pass.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{HealthCheck, HttpProbe, Probe, StartState, TextMatch};
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::syntax::{authority, field_name, field_value, managed_field, quoted, request_target};

/// More probes of one upstream than anyone needs.
const CHECKS_MAX: usize = 16;
/// More in a row would take longer than anyone waits.
const ROW_MAX: i64 = 1000;

const TYPES: Kind = Kind::Choice(
    &["http", "tcp", "tls", "grpc", "websocket"],
    &["https", "connect", "ssl", "ws", "wss"],
);

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.health_check",
    list: false,
    about: "Active health checks: probes that each upstream has to pass. With `[[sites.proxy.health_check]]` there may be several, all of which have to be passed. Probes go over the same connection settings (TLS) as traffic.",
    keys: KEYS,
};

pub(super) static OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.health_check",
    list: false,
    about: "Active health checks of this pool, in the place of the proxy's; `enabled = false` for none.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now("enabled", Kind::Bool, "true", "`false`: the same as no such table."),
    now(
        "type",
        TYPES,
        "\"http\"",
        "`http`: a request is answered as expected. `tcp`: a connection is taken. `tls`: a TLS handshake succeeds. `grpc`: the gRPC health checking protocol says SERVING. `websocket`: a WebSocket handshake is answered as expected.",
    ),
    now("path", Kind::Text, "\"/health\"", "Path and query to ask for.").or(&["uri"]),
    now("method", Kind::Text, "\"GET\"", "Method of the request."),
    now("host", Kind::Text, "the upstream's", "`Host` of the request."),
    now("headers", Kind::Map, "none", "More fields of the request, as `name = \"value\"`."),
    now("body", Kind::Text, "none", "Content of the request."),
    now("port", Kind::Integer(1, 65535), "that of the URL", "Port to ask at."),
    now(
        "expect_status",
        Kind::Statuses,
        "[\"200-399\"]; 101 with `websocket`",
        "Statuses that are good: `[200, \"300-399\", \"4xx\"]`.",
    )
    .or(&["status", "status_codes", "expected_status"]),
    now(
        "expect_headers",
        Kind::MatchMap,
        "none",
        "Fields that have to be in the response: `name = \"value\"` for this value, or `name = { regex = \"…\" }`, or `{ contains = \"…\" }`.",
    ),
    now(
        "expect_body",
        Kind::Match,
        "anything",
        "What the first 64 KiB of the content have to hold: a string, or `{ regex = \"…\" }`, or `{ exact = \"…\" }`.",
    ),
    now("service", Kind::Text, "\"\": the server as a whole", "gRPC service to ask for."),
    now("interval", Kind::Duration(false), "30", "Time between two probes of an upstream.")
        .or(&["interval_seconds", "inter"]),
    now(
        "down_interval",
        Kind::Duration(false),
        "`interval`",
        "The same while the upstream is down.",
    )
    .or(&["fast_interval", "downinter"]),
    now("timeout", Kind::Duration(false), "5", "Time for a whole probe."),
    now(
        "rise",
        Kind::Integer(1, ROW_MAX),
        "1",
        "Probes in a row that succeed until an upstream that was down is up.",
    )
    .or(&["passes", "pass", "healthy_threshold"]),
    now(
        "fall",
        Kind::Integer(1, ROW_MAX),
        "3",
        "Probes in a row that fail until an upstream that was up is down.",
    )
    .or(&["retries", "fails", "unhealthy_threshold"]),
    now(
        "jitter",
        Kind::Integer(0, 100),
        "10",
        "Intervals vary by up to so many per cent, so that probes do not come in step.",
    ),
    now(
        "start",
        Kind::Choice(&["up", "fragile", "down"], &["fully-up", "mandatory"]),
        "\"up\"",
        "What an upstream is before its first probe: `up`; `fragile`, up, but the first failure makes it down; `down`, until the first success.",
    ),
];

/// Keys of requests, which other probes do not send.
const REQUEST_KEYS: &[&str] = &[
    "path",
    "method",
    "host",
    "headers",
    "body",
    "expect_status",
    "expect_headers",
    "expect_body",
];

/// What the tables say.
#[derive(Clone)]
pub(super) struct Checks {
    pub(super) checks: Vec<HealthCheck>,
    /// Where a check asks for TLS.
    pub(super) tls: Option<Span>,
}

/// Decodes the tables of a proxy or a pool, if it has any.
pub(super) fn decode(parent: &Table<'_>) -> Option<Checks> {
    let place = parent.peek("health_check")?.key_span;
    let mut found = Checks { checks: Vec::new(), tls: None };
    let tables = parent.tables("health_check");
    if tables.len() > CHECKS_MAX {
        let message = format!("more than {CHECKS_MAX} health checks");
        parent.context().push(
            Diagnostic::error(Code::BadValue, place, message)
                .label("each of them is sent to every upstream"),
        );
    }
    for table in tables.into_iter().take(CHECKS_MAX) {
        let enabled = table.boolean("enabled").unwrap_or(true);
        let check = check(&table);
        if enabled && check.probe == Probe::Tls {
            let place = table.peek("type").map_or(table.span, |entry| entry.node.span);
            found.tls = found.tls.or(Some(place));
        }
        found.checks.extend(enabled.then_some(check));
        table.finish();
    }
    Some(found)
}

fn check(table: &Table<'_>) -> HealthCheck {
    let kind = table.choice("type").unwrap_or("http");
    let http = request(table, kind);
    let service = table.text("service").map_or("", |text| text.value).to_owned();
    let (probe, unused): (Probe, &[&str]) = match kind {
        "tcp" | "connect" => (Probe::Tcp, REQUEST_KEYS),
        "tls" | "ssl" => (Probe::Tls, REQUEST_KEYS),
        "grpc" => (Probe::Grpc(service), REQUEST_KEYS),
        "websocket" | "ws" | "wss" => {
            let method = "GET".to_owned(); // RFC 6455 section 4.1
            let http = HttpProbe { method, body: Vec::new(), expect_body: None, ..http };
            (Probe::WebSocket(http), &["method", "body", "expect_body"])
        }
        _ => {
            contentless(table, &http);
            (Probe::Http(http), &[])
        }
    };
    let service: &[&str] = if kind == "grpc" { &[] } else { &["service"] };
    for entry in unused.iter().chain(service).filter_map(|key| table.peek(key)) {
        let message = format!("`{}` has no meaning for this type of check", entry.key);
        let warning = Diagnostic::warning(Code::Unused, entry.key_span, message)
            .label(format!("never used: the type is `{kind}`"));
        table.context().push(match table.peek("type") {
            Some(kind) => warning.also(kind.node.span, "the type"),
            None => warning.help("for a gRPC service, add `type = \"grpc\"`"),
        });
    }
    let seconds = Duration::from_secs;
    let interval = table.duration("interval").unwrap_or(seconds(30));
    let row = |key| table.integer(key).and_then(|count| u32::try_from(count.value).ok());
    HealthCheck {
        probe,
        port: table.integer("port").and_then(|port| u16::try_from(port.value).ok()),
        interval,
        down_interval: table.duration("down_interval").unwrap_or(interval),
        timeout: table.duration("timeout").unwrap_or(seconds(5)),
        rise: row("rise").unwrap_or(1),
        fall: row("fall").unwrap_or(3),
        jitter: row("jitter").unwrap_or(10),
        start: match table.choice("start") {
            Some("fragile") => StartState::UpUntilFailure,
            Some("down" | "mandatory") => StartState::Down,
            _ => StartState::Up,
        },
    }
}

/// The request of a probe and what is expected of the response, as far as they are written.
fn request(table: &Table<'_>, kind: &str) -> HttpProbe {
    let websocket = matches!(kind, "websocket" | "ws" | "wss");
    let (host_field, fields) = fields(table);
    HttpProbe {
        method: method(table).unwrap_or_else(|| "GET".to_owned()),
        target: target(table).unwrap_or_else(|| "/health".to_owned()),
        host: host(table).or(host_field),
        fields,
        body: table.text("body").map_or_else(Vec::new, |text| text.value.as_bytes().to_vec()),
        statuses: table
            .statuses("expect_status")
            .unwrap_or_else(|| vec![if websocket { (101, 101) } else { (200, 399) }]),
        expect_fields: expect_fields(table),
        expect_body: table.text_match("expect_body", TextMatch::Contains),
    }
}

fn method(table: &Table<'_>) -> Option<String> {
    const KNOWN: &[&str] = &["GET", "HEAD", "OPTIONS", "POST", "PUT"];
    let text = table.text("method")?;
    let error = |reason: &str| table.context().bad("method", text.span, reason);
    let upper = text.value.to_ascii_uppercase();
    table.context().push(match field_name(text.value) {
        Err(_) => error("a method is one word, such as \"GET\""),
        Ok(()) if upper == "CONNECT" => error("there is nothing to tunnel to"),
        Ok(()) if KNOWN.contains(&upper.as_str()) && upper != text.value => {
            error("methods differ in case").suggest(text.span, quoted(&upper), "in capitals")
        }
        Ok(()) => return Some(text.value.to_owned()),
    });
    None
}

fn target(table: &Table<'_>) -> Option<String> {
    let text = table.text("path")?;
    match request_target(text.value) {
        Ok(()) => Some(text.value.to_owned()),
        Err(reason) => {
            let error = table.context().bad("path", text.span, &reason);
            let instead = format!("/{}", text.value);
            table.context().push(match request_target(&instead) {
                Ok(()) => error.suggest(text.span, quoted(&instead), "start it with a slash"),
                Err(_) => error,
            });
            None
        }
    }
}

fn host(table: &Table<'_>) -> Option<String> {
    let text = table.text("host")?;
    match authority(text.value, 80) {
        Ok(_) => Some(text.value.to_owned()),
        Err(reason) => {
            table.context().push(table.context().bad("host", text.span, &reason));
            None
        }
    }
}

/// The fields to send; `Host` apart from the others.
fn fields(table: &Table<'_>) -> (Option<String>, Vec<(String, String)>) {
    let context = table.context();
    let (mut host, mut fields) = (None, Vec::new());
    for entry in table.map("headers") {
        let name = entry.key.as_str();
        if !named(context, name, entry.key_span) {
            continue;
        }
        let Some(text) = context.text(name, &entry.node) else { continue };
        let is_host = name.eq_ignore_ascii_case("host");
        let value = field_value(text.value).and_then(|value| {
            if is_host { authority(value, 80).map(|_| value) } else { Ok(value) }
        });
        match value {
            Ok(value) if is_host => host = Some((value.to_owned(), entry.key_span)),
            Ok(value) => fields.push((name.to_owned(), value.to_owned())),
            Err(reason) => {
                let message = format!("the value of `{name}` cannot be sent");
                context.push(Diagnostic::error(Code::BadField, text.span, message).label(reason));
            }
        }
    }
    if let (Some((_, place)), Some(entry)) = (&host, table.peek("host")) {
        context.push(
            Diagnostic::error(Code::Conflict, *place, "`Host` is given twice")
                .label("once is enough")
                .also(entry.key_span, "the other one"),
        );
    }
    (host.map(|(host, _)| host), fields)
}

/// Whether a field of this name can be sent.
fn named(context: &Context<'_>, name: &str, span: Span) -> bool {
    let (message, reason) = match field_name(name) {
        Err(reason) => (format!("`{}` is no field name", name.escape_debug()), reason),
        Ok(()) if managed_field(name) => (
            format!("`{name}` cannot be set"),
            "it says how one connection or message is framed".to_owned(),
        ),
        Ok(()) => return true,
    };
    context.push(Diagnostic::error(Code::BadField, span, message).label(reason));
    false
}

fn expect_fields(table: &Table<'_>) -> Vec<(String, TextMatch)> {
    let context = table.context();
    let mut seen = BTreeSet::new();
    let mut fields = Vec::new();
    for (entry, text) in table.text_matches("expect_headers", TextMatch::Exact) {
        let problem = match field_name(&entry.key) {
            Err(reason) => (Code::BadField, reason),
            Ok(()) if !seen.insert(entry.key.to_ascii_lowercase()) => {
                (Code::DuplicateKey, "field names do not differ in case".to_owned())
            }
            Ok(()) => {
                fields.push((entry.key.clone(), text));
                continue;
            }
        };
        let message = format!("`{}` cannot be expected", entry.key.escape_debug());
        context.push(Diagnostic::error(problem.0, entry.key_span, message).label(problem.1));
    }
    fields
}

/// Responses to HEAD have no content.
fn contentless(table: &Table<'_>, http: &HttpProbe) {
    let Some(entry) = table.peek("expect_body").filter(|_| http.method == "HEAD") else { return };
    let message = "a response to HEAD has no content";
    let error =
        Diagnostic::error(Code::Conflict, entry.key_span, message).label("would never be there");
    table.context().push(match table.peek("method") {
        Some(method) => error.suggest(method.node.span, "\"GET\"", "to look at the content"),
        None => error,
    });
}
