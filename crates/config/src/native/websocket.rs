//! `[sites.proxy.websocket]`: what holds for WebSockets, of a whole site or of one route.

use std::time::Duration;

use crate::decode::{Spanned, SwitchTable, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Bound, MessageRate, Origins, WebSocket};
use crate::schema::{Key, Kind, Section, now};
use crate::syntax::quoted;
use crate::tree::Value;

/// Highest number that counters can hold.
const COUNT_MAX: i64 = u32::MAX as i64;

/// 30 s after a graceful stop began all that is left is cut, and to close takes time as well.
const DRAIN_WINDOW_MAX: Duration = Duration::from_secs(25);

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.websocket",
    list: false,
    about: "What holds for WebSockets of routes that have no such table of their own. Frames are looked at only where one of the keys asks for it; else bytes are passed on as they come.",
    keys: &keys(&MESSAGES),
};

pub(super) static OF_A_ROUTE: Section = Section {
    path: "sites.routes.websocket",
    list: false,
    about: "What holds for the WebSockets of this route, in the place of the proxy's table.",
    keys: &keys(&MESSAGES_OF_A_ROUTE),
};

const fn keys(messages: &'static Section) -> [Key; 14] {
    [
        now(
            "client_max_message_size",
            Kind::Bound,
            "no limit",
            "Longest message from a client, over all its fragments. A longer one: close 1009 to the client, 1011 to the upstream. A compressed message counts as it is sent.",
        )
        .or(&["client_max_msg_size"]),
        now(
            "server_max_message_size",
            Kind::Bound,
            "no limit",
            "Longest message from an upstream, likewise: close 1009 to the upstream, 1011 to the client.",
        )
        .or(&["server_max_msg_size"]),
        now(
            "origins",
            Kind::TextOrTexts,
            "\"any\"",
            "Whose pages may open one: `\"any\"`, `\"same\"` (their host and port are those of the request), or patterns of hosts, with a port if it is not that of the scheme, in which `*` stands for any characters and `?` for one; the same host always may. Others are answered 403. A request without `Origin` passes.",
        )
        .or(&["origin_patterns"]),
        now(
            "default_origin",
            Kind::Text,
            "none",
            "The `Origin` that the upstream gets when the client sends none.",
        ),
        now(
            "ping_interval",
            Kind::Duration(false),
            "no pings",
            "A side that has sent nothing for so long is sent a ping by Ravelin. Its pong goes no further.",
        ),
        now(
            "pong_timeout",
            Kind::Duration(false),
            "10",
            "A side that sends nothing for so long after that is given up: close 1011 to both.",
        ),
        now(
            "idle_timeout",
            Kind::Duration(false),
            "`timeout.tunnel`",
            "A socket on which neither side sends a frame for so long is closed, 1001 to both. Ravelin's own pings and their pongs do not count.",
        ),
        now(
            "max_age",
            Kind::Duration(false),
            "no limit",
            "A socket that is so old is closed, 1001 to both.",
        ),
        now(
            "max_age_jitter",
            Kind::Integer(0, 100),
            "10",
            "Up to so many per cent earlier, so that those opened together do not come back together.",
        ),
        now(
            "max_open",
            Kind::Integer(1, COUNT_MAX),
            "no limit",
            "Most open at once; further requests are answered 503.",
        ),
        now(
            "max_open_per_address",
            Kind::Integer(1, COUNT_MAX),
            "no limit",
            "Most open at once of one client address (IPv6: /64); further requests are answered 503.",
        ),
        now(
            "messages",
            Kind::Table(messages),
            "no limit",
            "How many messages a client may send on one socket.",
        ),
        now(
            "drain_window",
            Kind::Duration(true),
            "10 where frames are looked at",
            "At a graceful stop sockets are closed, 1012 to both, spread over this time (25 s at most).",
        ),
        now(
            "required",
            Kind::Bool,
            "false",
            "Answer 426 to a request that asks for no WebSocket.",
        ),
    ]
}

static MESSAGES: Section = Section {
    path: "sites.proxy.websocket.messages",
    list: false,
    about: "How many messages (pings, pongs nobody asked for and empty fragments included) a client may send on one socket; more: close 1008 to the client, 1011 to the upstream.",
    keys: MESSAGES_KEYS,
};

static MESSAGES_OF_A_ROUTE: Section = Section {
    path: "sites.routes.websocket.messages",
    list: false,
    about: "How many messages (pings, pongs nobody asked for and empty fragments included) a client may send on one socket of this route.",
    keys: MESSAGES_KEYS,
};

const MESSAGES_KEYS: &[Key] = &[
    now("rate", Kind::Integer(1, COUNT_MAX), "required", "So many on average, ..."),
    now("per", Kind::Duration(false), "1", "... in this time."),
    now("burst", Kind::Integer(1, COUNT_MAX), "as `rate`", "So many at once."),
];

/// Decodes the table of a proxy.
pub(super) fn decode(proxy: &Table<'_>) -> Option<WebSocket> {
    proxy.table("websocket").map(settings)
}

/// Decodes the key of a route: whether it takes WebSockets, and what holds for them if it says so
/// itself.
pub(super) fn of_route(route: &Table<'_>) -> (bool, Option<WebSocket>) {
    match route.switch_table("websocket") {
        None => (false, None),
        Some(SwitchTable::Bool(on)) => (on, None),
        Some(SwitchTable::Table(table)) => (true, Some(settings(table))),
    }
}

/// Decodes a table of either section.
fn settings(table: Table<'_>) -> WebSocket {
    let default = WebSocket::default();
    let count = |key| table.integer(key).and_then(|count| usize::try_from(count.value).ok());
    let websocket = WebSocket {
        client_message_max: limit(&table, "client_max_message_size"),
        server_message_max: limit(&table, "server_max_message_size"),
        origins: origins(&table),
        default_origin: default_origin(&table),
        ping_interval: table.duration("ping_interval"),
        pong_timeout: table.duration("pong_timeout").unwrap_or(default.pong_timeout),
        idle_timeout: table.duration("idle_timeout"),
        max_age: table.duration("max_age"),
        max_age_jitter: table
            .integer("max_age_jitter")
            .and_then(|percent| u32::try_from(percent.value).ok())
            .unwrap_or(default.max_age_jitter),
        max_open: count("max_open"),
        max_open_per_address: count("max_open_per_address"),
        messages: table.table("messages").and_then(messages),
        drain_window: drain_window(&table),
        required: table.boolean("required").unwrap_or(false),
    };
    for (key, without, with) in [
        ("pong_timeout", websocket.ping_interval.is_none(), "ping_interval"),
        ("max_age_jitter", websocket.max_age.is_none(), "max_age"),
    ] {
        if let Some(entry) = table.peek(key).filter(|_| without && !table.has_or_means(with)) {
            let message = format!("`{key}` has no meaning without `{with}`");
            table.context().push(
                Diagnostic::warning(Code::Unused, entry.key_span, message)
                    .label("nothing comes of it"),
            );
        }
    }
    table.finish();
    websocket
}

fn limit(table: &Table<'_>, key: &'static str) -> Option<u64> {
    match table.bound(key) {
        Bound::Bytes(bytes) => Some(bytes),
        Bound::Inherited | Bound::Unlimited => None,
    }
}

fn messages(table: Table<'_>) -> Option<MessageRate> {
    table.require("rate", "100");
    let count = |key| table.integer(key).and_then(|count| u32::try_from(count.value).ok());
    let (rate, burst) = (count("rate"), count("burst"));
    let per = table.duration("per").unwrap_or(Duration::from_secs(1));
    table.finish();
    rate.map(|rate| MessageRate { rate, per, burst: burst.unwrap_or(rate) })
}

fn drain_window(table: &Table<'_>) -> Option<Duration> {
    let window = table.duration("drain_window")?;
    if window > DRAIN_WINDOW_MAX
        && let Some(entry) = table.peek("drain_window")
    {
        let reason = "at most 25 s: 30 s after a graceful stop began all that is left is cut";
        table.context().push(table.context().bad("drain_window", entry.node.span, reason));
    }
    Some(window)
}

fn origins(table: &Table<'_>) -> Origins {
    let Some(entry) = table.take("origins") else { return Origins::Any };
    let context = table.context();
    let patterns = match &entry.node.value {
        Value::String(word) if word.eq_ignore_ascii_case("any") => return Origins::Any,
        Value::String(word) if word.eq_ignore_ascii_case("same") => Some(Vec::new()),
        Value::String(text) => {
            let reason = "expected \"any\", \"same\" or a list of patterns";
            let error = context.bad("origins", entry.node.span, reason);
            let list = format!("[{}]", quoted(without_scheme(text)));
            context.push(error.suggest(entry.node.span, list, "a list of one pattern"));
            None
        }
        Value::Array(_) => context.texts("origins", &entry.node),
        _ => context.wrong_type("origins", &entry.node, &Kind::TextOrTexts),
    };
    let checked = patterns.unwrap_or_default().into_iter().filter_map(|text| pattern(table, text));
    Origins::Listed(checked.collect())
}

/// A pattern of hosts, lower-case.
fn pattern(table: &Table<'_>, text: Spanned<&str>) -> Option<String> {
    let context = table.context();
    let pattern = text.value.to_ascii_lowercase();
    if pattern.contains("://") {
        let error = context.bad("origins", text.span, "a host, without a scheme");
        let instead = quoted(without_scheme(&pattern));
        context.push(error.suggest(text.span, instead, "leave the scheme out"));
        return None;
    }
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '@' | ',' | '"' | '\\');
    if pattern.is_empty() || !pattern.chars().all(fits) {
        let reason = "a host such as \"app.example.com\" or \"*.example.com:8443\"";
        context.push(context.bad("origins", text.span, reason));
        return None;
    }
    Some(pattern)
}

/// The host of what is written as a URL.
fn without_scheme(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

fn default_origin(table: &Table<'_>) -> Option<String> {
    let text = table.text("default_origin")?;
    let context = table.context();
    let host = text.value.split_once("://").map(|(scheme, host)| {
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '@' | '?' | '#' | '"');
        let host = host.strip_suffix('/').unwrap_or(host);
        let known = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        (known && !host.is_empty() && host.chars().all(fits)).then(|| format!("{scheme}://{host}"))
    });
    match host.flatten() {
        Some(origin) => Some(origin),
        None => {
            let reason = "a scheme and a host such as \"https://app.example.com\"";
            context.push(context.bad("default_origin", text.span, reason));
            None
        }
    }
}
