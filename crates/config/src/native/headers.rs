//! `[sites.proxy.headers]` and every other table of header fields.

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{HeaderRules, HeaderValue, Headers, Outcome};
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::syntax::{authority, field_name, field_value, managed_field};
use crate::tree::{Entry, Value};

pub(super) static HEADERS: Section = Section {
    path: "sites.proxy.headers",
    list: false,
    about: "Changes to messages on their way through. Removal happens first, then setting.",
    keys: KEYS,
};

pub(super) static OF_A_ROUTE: Section = Section {
    path: "sites.routes.headers",
    list: false,
    about: "Changes to messages of one route, after those of `[sites.proxy.headers]`, whose switches hold where nothing is written.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now(
        "preserve_host",
        Kind::Bool,
        "true",
        "Send the client's `Host` to the upstream (else the upstream's own).",
    ),
    now(
        "add_x_forwarded",
        Kind::Bool,
        "true",
        "Send `X-Forwarded-For` (appended), `-Proto`, `-Host` and `-Port`.",
    ),
    now(
        "add_x_real_ip",
        Kind::Bool,
        "false",
        "Send `X-Real-IP`, the client's address, in the place of what the client sent under that name.",
    ),
    now("add_forwarded", Kind::Bool, "true", "Send `Forwarded` (RFC 7239), appended."),
    now("via", Kind::Bool, "false", "Send `Via`, both ways."),
    now(
        "add",
        Kind::Map,
        "empty",
        "Fields set on the request to the upstream and on the response to the client. `\"X-Request-ID\" = \"auto\"` is the id of the request.",
    ),
    now(
        "remove",
        Kind::Names,
        "empty",
        "Fields removed from the request and from the response: a list of names, or a table of booleans in which `false` keeps the field.",
    ),
];

pub(super) static REQUEST: Section = Section {
    path: "sites.proxy.request_headers",
    list: false,
    about: "Changes to the request to the upstream only, after those of `[sites.proxy.headers]`.",
    keys: RULES_OF_REQUESTS,
};

pub(super) static RESPONSE: Section = Section {
    path: "sites.proxy.response_headers",
    list: false,
    about: "Changes to the response to the client only, after those of `[sites.proxy.headers]`.",
    keys: RULES,
};

pub(super) static REQUEST_OF_A_ROUTE: Section = Section {
    path: "sites.routes.request_headers",
    list: false,
    about: "Changes to the request to the upstream only, after those of `[sites.routes.headers]`.",
    keys: RULES_OF_REQUESTS,
};

pub(super) static RESPONSE_OF_A_ROUTE: Section = Section {
    path: "sites.routes.response_headers",
    list: false,
    about: "Changes to the response to the client only, after those of `[sites.routes.headers]`. May be a list of tables, each for some ways in which requests end.",
    keys: RULES_WHEN,
};

const RULES_WHEN: &[Key] = &[
    now(
        "when",
        Kind::Choices(OUTCOMES),
        "all",
        "How requests ended whose responses are changed: the words of `on_result`, and `success`.",
    ),
    SET,
    APPEND,
    REMOVE,
];

const OUTCOMES: &[&str] = &[
    "success",
    "denied",
    "unauthorized",
    "rate_limited",
    "preflight",
    "redirected",
    "unreachable",
    "timeout",
    "no_endpoint",
    "circuit_open",
    "failure_status",
    "client_error",
];

const RULES: &[Key] = &[SET, APPEND, REMOVE];

const RULES_OF_REQUESTS: &[Key] = &[
    SET,
    now(
        "fill",
        Kind::Map,
        "empty",
        "Fields to set to what the request says: `$remote_addr`, the client's address, `$host`, `$scheme`, `$path`, `$query`, `$uri` (path and query), and `$1` or `${name}` for a group of the route's regular expression. One that comes out empty is not sent.",
    ),
    APPEND,
    REMOVE,
];

const SET: Key = now(
    "set",
    Kind::Map,
    "empty",
    "Fields to set, as `name = \"value\"`; an existing field is replaced.",
);

const APPEND: Key =
    now("append", Kind::Map, "empty", "Fields to add beside those of that name that are there.");

const REMOVE: Key = now(
    "remove",
    Kind::Names,
    "empty",
    "Fields to remove: a list of names, or a table of booleans.",
);

/// Which messages a rule is for.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Request,
    Response,
    Both,
}

/// What holds without any of these tables.
pub(super) const DEFAULT: Headers = Headers {
    preserve_host: true,
    x_forwarded: true,
    x_real_ip: false,
    forwarded: true,
    via: false,
    request: NO_RULES,
    response: NO_RULES,
};

const NO_RULES: HeaderRules =
    HeaderRules { remove: Vec::new(), set: Vec::new(), append: Vec::new() };

/// Decodes the three tables of a proxy that change fields.
pub(super) fn decode(proxy: &Table<'_>) -> Headers {
    let mut headers = over(proxy, DEFAULT);
    if let Some(table) = proxy.table("request_headers") {
        extend(&mut headers.request, table, Direction::Request);
    }
    if let Some(table) = proxy.table("response_headers") {
        extend(&mut headers.response, table, Direction::Response);
    }
    headers
}

/// Changes of responses that depend on how a request ended.
pub(super) type ResponseWhen = Vec<(Vec<Outcome>, HeaderRules)>;

/// Decodes the same tables of a route, which come after those of the proxy.
pub(super) fn of_a_route(route: &Table<'_>, proxy: &Headers) -> (Headers, ResponseWhen) {
    let mut headers = over(route, proxy.clone());
    if let Some(table) = route.table("request_headers") {
        extend(&mut headers.request, table, Direction::Request);
    }
    let mut response_when = Vec::new();
    for table in route.tables("response_headers") {
        let words = table.choices("when").unwrap_or_default();
        let named = |word: &&str| Outcome::ALL.iter().find(|(name, _)| name == word);
        let outcomes: Vec<Outcome> = words.iter().filter_map(named).map(|(_, one)| *one).collect();
        if outcomes.is_empty() {
            extend(&mut headers.response, table, Direction::Response);
            continue;
        }
        let mut rules = HeaderRules::default();
        extend(&mut rules, table, Direction::Response);
        response_when.push((outcomes, rules));
    }
    (headers, response_when)
}

fn over(parent: &Table<'_>, mut headers: Headers) -> Headers {
    if let Some(table) = parent.table("headers") {
        let switch = |key, default| table.boolean(key).unwrap_or(default);
        headers.preserve_host = switch("preserve_host", headers.preserve_host);
        headers.x_forwarded = switch("add_x_forwarded", headers.x_forwarded);
        headers.x_real_ip = switch("add_x_real_ip", headers.x_real_ip);
        headers.forwarded = switch("add_forwarded", headers.forwarded);
        headers.via = switch("via", headers.via);
        let set = assignments(&table, "add", Direction::Both);
        let remove = names(&table, "remove");
        for rules in [&mut headers.request, &mut headers.response] {
            extend_by(rules, HeaderRules { remove: remove.clone(), set: set.clone(), ..NO_RULES });
        }
        table.finish();
    }
    headers
}

/// Fields for responses, from a table of strings.
pub(super) fn plain(table: &Table<'_>, name: &'static str) -> Vec<(String, String)> {
    let fields = table.map(name).iter().filter_map(|entry| {
        let value = checked(table.context(), entry, Direction::Response)?;
        Some((entry.key.clone(), value.to_owned()))
    });
    without_repeats(table.context(), table.map(name), fields.collect())
}

fn extend(rules: &mut HeaderRules, table: Table<'_>, direction: Direction) {
    let mut set = assignments(&table, "set", direction);
    if direction == Direction::Request {
        set.extend(templates(&table, &set));
    }
    let append = assignments(&table, "append", direction);
    let remove = names(&table, "remove");
    extend_by(rules, HeaderRules { remove, set, append });
    table.finish();
}

/// A field that is removed later is not set or added; one that is set later is only that.
fn extend_by(rules: &mut HeaderRules, later: HeaderRules) {
    let gone = |name: &str| {
        let set = later.set.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        set || later.remove.iter().any(|other| other.eq_ignore_ascii_case(name))
    };
    rules.set.retain(|(name, _)| !gone(name));
    rules.append.retain(|(name, _)| !gone(name));
    rules.remove.extend(later.remove);
    rules.set.extend(later.set);
    rules.append.extend(later.append);
}

fn assignments(
    table: &Table<'_>,
    key: &'static str,
    direction: Direction,
) -> Vec<(String, HeaderValue)> {
    let entries = table.map(key);
    let set = entries.iter().filter_map(|entry| {
        let value = checked(table.context(), entry, direction)?;
        let id = entry.key.eq_ignore_ascii_case("x-request-id") && value == "auto";
        let value = if id { HeaderValue::RequestId } else { HeaderValue::Text(value.to_owned()) };
        Some((entry.key.clone(), value))
    });
    without_repeats(table.context(), entries, set.collect())
}

/// What `fill` says beside what `set` says already.
fn templates(table: &Table<'_>, set: &[(String, HeaderValue)]) -> Vec<(String, HeaderValue)> {
    let context = table.context();
    let entries = table.map("fill");
    let filled = entries.iter().filter_map(|entry| {
        let value = checked(context, entry, Direction::Request)?;
        if set.iter().any(|(name, _)| name.eq_ignore_ascii_case(&entry.key)) {
            let message = format!("`{}` is in `set` and in `fill`", shown(&entry.key));
            context.push(
                Diagnostic::error(Code::DuplicateKey, entry.key_span, message)
                    .label("it has one value"),
            );
        }
        Some((entry.key.clone(), HeaderValue::Template(value.to_owned())))
    });
    without_repeats(context, entries, filled.collect())
}

/// The value of a field rule, if its name and value can be sent.
fn checked<'n>(context: &Context<'_>, entry: &'n Entry, direction: Direction) -> Option<&'n str> {
    name_is_free(context, &entry.key, entry.key_span)?;
    if entry.key.eq_ignore_ascii_case("host") && direction != Direction::Request {
        context.push(
            refused(&entry.key, entry.key_span, "`Host` is a field of requests")
                .help("set it in `[sites.proxy.request_headers.set]`, or use `preserve_host`"),
        );
        return None;
    }
    let text = context.text(&entry.key, &entry.node)?;
    let host = entry.key.eq_ignore_ascii_case("host");
    let sendable = field_value(text.value)
        .and_then(|value| if host { authority(value, 80).map(|_| value) } else { Ok(value) });
    match sendable {
        Ok(value) => Some(value),
        Err(reason) => {
            let message = format!("the value of `{}` cannot be sent", shown(&entry.key));
            context.push(Diagnostic::error(Code::BadField, text.span, message).label(reason));
            None
        }
    }
}

/// The names of a list, or the keys of a table that are true.
fn names(table: &Table<'_>, key: &'static str) -> Vec<String> {
    let context = table.context();
    let Some(entry) = table.take(key) else { return Vec::new() };
    let named: Vec<(&str, Span)> = match &entry.node.value {
        Value::Table(entries) => entries
            .iter()
            .filter(|entry| context.boolean(&entry.key, &entry.node).unwrap_or(false))
            .map(|entry| (entry.key.as_str(), entry.key_span))
            .collect(),
        Value::Array(items) => items
            .iter()
            .filter_map(|item| context.text(key, item))
            .map(|text| (text.value, text.span))
            .collect(),
        _ => {
            context.wrong_type::<()>(key, &entry.node, &Kind::Names);
            return Vec::new();
        }
    };
    named
        .into_iter()
        .filter(|(name, span)| removable(context, name, *span))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn removable(context: &Context<'_>, name: &str, span: Span) -> bool {
    if name.eq_ignore_ascii_case("host") {
        context.push(refused(name, span, "every request must have a `Host`"));
        return false;
    }
    name_is_free(context, name, span).is_some()
}

/// Checks that a name is a field name and not one that Ravelin manages itself.
fn name_is_free(context: &Context<'_>, name: &str, span: Span) -> Option<()> {
    if let Err(reason) = field_name(name) {
        let message = format!("`{}` is no field name", shown(name));
        context.push(Diagnostic::error(Code::BadField, span, message).label(reason));
        return None;
    }
    if managed_field(name) {
        context.push(
            refused(name, span, "it says how one connection or message is framed")
                .help("Ravelin writes this field itself, for each connection anew"),
        );
        return None;
    }
    Some(())
}

fn refused(name: &str, span: Span, reason: &str) -> Diagnostic {
    let message = format!("`{}` cannot be changed by a rule", shown(name));
    Diagnostic::error(Code::BadField, span, message).label(reason.to_owned())
}

/// Reports names that differ in case only, and keeps the first of them.
fn without_repeats<T>(
    context: &Context<'_>,
    entries: &[Entry],
    fields: Vec<(String, T)>,
) -> Vec<(String, T)> {
    let mut seen = std::collections::BTreeMap::new();
    for entry in entries {
        if let Some(first) = seen.insert(entry.key.to_ascii_lowercase(), entry.key_span) {
            context.push(
                Diagnostic::error(
                    Code::DuplicateKey,
                    entry.key_span,
                    format!("`{}` is set twice", shown(&entry.key)),
                )
                .label("field names do not differ in case")
                .also(first, "first here"),
            );
        }
    }
    fields
}

fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}
