//! The extension `routing` of PyServe: patterns of paths, and what they do.
//!
//! An exact path goes first, then regular expressions, the case-sensitive ones before the others, then
//! the longest prefix, then `__default__`: the order of PyServe's documentation.

use regex_automata::PatternID;

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::pattern;
use crate::schema::Kind;
use crate::source::Span;
use crate::syntax;
use crate::tree::{Entry, Node, Value};

use super::plan::{Does, Field, Path, Plan, Planned, Takes};
use super::sections::{PATTERN, PATTERNS, ROUTING};
use super::server::{checked_path, destination, path_behind};

/// What takes all that nothing else takes.
const DEFAULT: &str = "__default__";

/// Where `spa_fallback` is not for, if nothing is said.
const EXCLUDED: &[&str] = &["/api/", "/admin/"];

/// Adds the routes of all extensions.
pub(super) fn extensions(top: &Table<'_>, version: i64, plan: &mut Plan) {
    let context = top.context();
    if let (Some(entry), 1) = (top.peek("extensions"), version) {
        context.push(
            Diagnostic::warning(Code::Ignored, entry.key_span, "`extensions` without `version: 2`")
                .label("PyServe passes over them, and so does Ravelin")
                .help("write `version: 2` at the top level"),
        );
    }
    let mut later: Vec<(String, Span)> = Vec::new();
    for table in top.tables("extensions") {
        table.require("type", "routing");
        let kind = table.text("type");
        let config = table.take("config");
        let source = table.text("source");
        table.finish();
        let Some(kind) = kind else { continue };
        match kind.value {
            "routing" if version == 1 => {}
            "routing" => {
                if let Some(source) = source {
                    elsewhere(context, source);
                }
                let routing = config
                    .and_then(|config| Table::open(context, "config", &config.node, &ROUTING));
                if let Some(routing) = routing {
                    locations(&routing, plan);
                    routing.finish();
                }
            }
            "security" | "caching" | "monitoring" => later.push((kind.value.to_owned(), kind.span)),
            other => {
                let message = format!("there is no extension `{}`", other.escape_debug());
                let warning = Diagnostic::warning(Code::Ignored, kind.span, message);
                context.push(match crate::decode::nearest(other, ["routing"].into_iter()) {
                    Some(near) => warning.suggest(
                        kind.span,
                        near.to_owned(),
                        format!("did you mean `{near}`?"),
                    ),
                    None => warning.label("passed over, as in PyServe"),
                });
            }
        }
    }
    if let Some(((_, first), rest)) = later.split_first().filter(|_| version > 1) {
        let names: Vec<String> = later.iter().map(|(name, _)| format!("`{name}`")).collect();
        let message = format!("the extensions {} are not in effect", names.join(", "));
        let mut warning = Diagnostic::warning(Code::NotInEffect, *first, message)
            .label("nothing acts on it, as in PyServe")
            .help("`ravelin convert` this file and add what is needed: `[[sites.rate_limit]]`, `[sites.access]`, `[sites.access_control]`");
        for (_, place) in rest {
            warning = warning.also(*place, "nor on this");
        }
        context.push(warning);
    }
}

fn elsewhere(context: &Context<'_>, source: Spanned<&str>) {
    context.push(
        Diagnostic::error(Code::BadValue, source.span, "routes in another file are not read")
            .label("its routes would be missing")
            .help("write what is in its `config` here, as `config`"),
    );
}

fn locations(routing: &Table<'_>, plan: &mut Plan) {
    let context = routing.context();
    let Some(entry) = routing.take("regex_locations") else { return };
    let Value::Table(entries) = &entry.node.value else {
        context.wrong_type::<()>("regex_locations", &entry.node, &Kind::Table(&PATTERNS));
        return;
    };
    let mut routes: Vec<Planned> = Vec::new();
    for entry in entries {
        let table = Table::open(context, &entry.key, &entry.node, &PATTERN);
        routes.extend(table.and_then(|table| route(context, entry, table, plan)));
    }
    // Regular expressions without regard to case come after the others, what takes the rest at last.
    routes.sort_by_key(|route| match route.takes {
        Takes::Regex { ignore_case, .. } => u8::from(ignore_case),
        _ if route.takes_the_rest => 2,
        _ => 0,
    });
    for route in routes {
        add(context, route, plan);
    }
}

fn route(
    context: &Context<'_>,
    entry: &Entry,
    table: Table<'_>,
    plan: &mut Plan,
) -> Option<Planned> {
    let takes = takes(context, entry);
    let mut action = action(context, &table, takes.as_ref(), plan);
    fallback(context, &table, action.as_mut());
    let set = fields(context, &table);
    let cache_control = cache_control(context, &table);
    does_nothing(context, entry, &table, action.as_ref());
    table.finish();
    let mut route = Planned::new(takes?, action?, entry.key_span);
    route.takes_the_rest = entry.key == DEFAULT;
    match &route.does {
        Does::Proxy { .. } => route.request = for_a_backend(&route.takes, set),
        _ => route.response = constant(context, set),
    }
    match (&route.does, cache_control) {
        (Does::Files { .. }, field) => route.cache_control = field,
        (_, Some(field)) => route.response.push(field),
        (_, None) => {}
    }
    Some(route)
}

/// Says what has no effect.
fn does_nothing(context: &Context<'_>, entry: &Entry, table: &Table<'_>, action: Option<&Does>) {
    let acts = ["proxy_pass", "root", "return", "spa_fallback"]
        .into_iter()
        .any(|key| table.has_or_means(key));
    if !acts {
        context.push(
            Diagnostic::warning(Code::Unused, entry.key_span, "a pattern that does nothing")
                .label("passed over")
                .help("give it `proxy_pass`, `root` or `return`"),
        );
    }
    if let (Some(Does::Proxy { .. } | Does::Files { .. }), Some(entry)) =
        (action, table.peek("content_type"))
    {
        context.push(
            Diagnostic::warning(Code::Ignored, entry.key_span, "`content_type` is for `return`")
                .label("does nothing here"),
        );
    }
}

fn takes(context: &Context<'_>, entry: &Entry) -> Option<Takes> {
    let key = entry.key.as_str();
    let path = |text: &str| {
        let text = Spanned { value: text.trim(), span: entry.key_span };
        let sign = key.strip_suffix(text.value).unwrap_or("");
        path_behind(sign, context, "regex_locations", text)
    };
    if key == DEFAULT {
        return Some(Takes::Prefix("/".to_owned()));
    }
    if let Some(exact) = key.strip_prefix('=') {
        return path(exact).map(Takes::Exact);
    }
    if let Some(prefix) = key.strip_prefix("^~") {
        return path(prefix).map(Takes::Prefix);
    }
    let Some(regex) = key.strip_prefix('~') else { return path(key).map(Takes::Prefix) };
    let (regex, ignore_case) = match regex.strip_prefix('*') {
        Some(regex) => (regex, true),
        None => (regex, false),
    };
    let regex = regex.trim();
    let compiled = match ignore_case {
        true => pattern::compile(&format!("(?i){regex}")),
        false => pattern::compile(regex),
    };
    match compiled {
        Ok(compiled) => Some(Takes::Regex { pattern: regex.to_owned(), ignore_case, compiled }),
        Err(reason) => {
            let message = format!("`{}` is no regular expression", regex.escape_debug());
            let error = Diagnostic::error(Code::BadValue, entry.key_span, message).label(reason);
            let python = ["(?=", "(?!", "(?<=", "(?<!", "(?P=", "\\Z"];
            context.push(match python.iter().any(|part| regex.contains(part)) {
                true => error.help("there are no look-around, back-references and `\\Z` here: matching takes time in proportion to the path"),
                false => error,
            });
            None
        }
    }
}

/// The one thing that becomes of requests.
fn action(
    context: &Context<'_>,
    table: &Table<'_>,
    takes: Option<&Takes>,
    plan: &mut Plan,
) -> Option<Does> {
    let proxy_pass = table.text("proxy_pass");
    let root = table.text("root");
    let index = table.text("index_file").and_then(|text| file_name(context, text));
    let spa = table.boolean("spa_fallback").unwrap_or(false);
    let says = table.take("return");
    let content_type =
        table.text("content_type").and_then(|text| value(context, "content_type", text));
    let written = ["proxy_pass", "root", "return"].into_iter().filter_map(|key| table.peek(key));
    let places: Vec<&Entry> = written.collect();
    if let [first, second, ..] = places[..] {
        let message = format!("`{}` beside `{}`", second.key, first.key);
        context.push(
            Diagnostic::error(Code::Conflict, second.key_span, message)
                .label("a pattern does one thing")
                .also(first.key_span, "the other one"),
        );
        return None;
    }
    if let (true, None, Some(entry)) = (spa, root, table.peek("spa_fallback")) {
        context.push(
            Diagnostic::error(Code::MissingKey, entry.key_span, "`spa_fallback` needs `root`")
                .label("where is the page?")
                .help("for example `root: ./dist`"),
        );
    }
    if let Some(url) = proxy_pass {
        return backend(context, url, takes, plan);
    }
    if let Some(root) = root {
        let root = Some(root.value).filter(|root| !root.is_empty() && !root.contains('\0'));
        let spa = spa.then(Vec::new);
        return Some(Does::Files { root: root?.to_owned(), index, spa, path: Path::Kept });
    }
    says.and_then(|entry| answer(context, &entry.node, content_type))
}

/// A backend's URL. One with a path has it in the place of the pattern's prefix, as in nginx.
fn backend(
    context: &Context<'_>,
    url: Spanned<&str>,
    takes: Option<&Takes>,
    plan: &mut Plan,
) -> Option<Does> {
    let parsed = match syntax::upstream(url.value) {
        Ok(parsed) => parsed,
        Err(hint) => {
            context.push_hint("proxy_pass", url.span, hint);
            return None;
        }
    };
    let (scheme, rest) = url.value.split_once("://").unwrap_or(("http", url.value));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let origin = format!("{scheme}://{authority}");
    let name = match &parsed.address {
        crate::model::UpstreamAddress::Tcp { host, port } if host.contains(':') => {
            format!("[{host}]:{port}")
        }
        crate::model::UpstreamAddress::Tcp { host, port } => format!("{host}:{port}"),
        crate::model::UpstreamAddress::Unix(path) => path.display().to_string(),
    };
    let origin = if rest == url.value { url.value.to_owned() } else { origin };
    let (origin, sent) = match (takes?, path) {
        (_, "") => (origin, Path::Kept),
        (Takes::Exact(_), path) => (origin, Path::Replaced(path.to_owned())),
        (Takes::Prefix(prefix), "/") if prefix == "/" => (origin, Path::Kept),
        (Takes::Prefix(_), "/") => (origin, Path::Stripped),
        (Takes::Prefix(_), path) => {
            (format!("{origin}{}", path.trim_end_matches('/')), Path::Stripped)
        }
        (_, "/") => (origin, Path::Kept),
        (_, path) => {
            let message = format!("`proxy_pass` with the path `{path}` for a regular expression");
            context.push(
                Diagnostic::error(Code::Conflict, url.span, message)
                    .label("there is no prefix that it could replace")
                    .help("write the URL without a path: the whole path of the request is sent"),
            );
            return None;
        }
    };
    Some(Does::Proxy { backend: plan.backend(origin, &name, url.span), path: sent })
}

/// `200 OK`, `404`, or `301 https://example.com/`.
fn answer(context: &Context<'_>, node: &Node, content_type: Option<String>) -> Option<Does> {
    const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;
    let text = match &node.value {
        Value::Integer(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return context.wrong_type("return", node, &Kind::Text),
    };
    let (status, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let Some(status) = status.parse::<u16>().ok().filter(|status| STATUSES.contains(status)) else {
        context.push(context.bad("return", node.span, "expected a status and a text: \"200 OK\""));
        return None;
    };
    let rest = rest.trim();
    if matches!(status, 301 | 302 | 303 | 307 | 308) && !rest.is_empty() {
        let to = destination(context, Spanned { value: rest, span: node.span })?;
        return Some(Does::Redirect { to, status });
    }
    Some(Does::Respond { status, body: rest.to_owned(), content_type })
}

/// Settles for what paths the page of `spa_fallback` is not, and which page it is.
fn fallback(context: &Context<'_>, table: &Table<'_>, action: Option<&mut Does>) {
    let written = table.texts("exclude_patterns");
    let Some(Does::Files { index, spa: Some(exclude), .. }) = action else {
        let Some(entry) = table.peek("exclude_patterns") else { return };
        return context.push(
            Diagnostic::warning(
                Code::Unused,
                entry.key_span,
                "`exclude_patterns` without `spa_fallback`",
            )
            .label("does nothing here"),
        );
    };
    index.get_or_insert_with(|| "index.html".to_owned());
    *exclude = match written {
        Some(texts) => texts
            .into_iter()
            .filter_map(|text| checked_path(context, "exclude_patterns", text))
            .collect(),
        None => EXCLUDED.iter().map(|path| (*path).to_owned()).collect(),
    };
}

/// `headers`: a list of `Name: value`, or a table.
fn fields(context: &Context<'_>, table: &Table<'_>) -> Vec<Field> {
    let Some(entry) = table.take("headers") else { return Vec::new() };
    let mut found = Vec::new();
    match &entry.node.value {
        Value::Table(entries) => {
            for entry in entries {
                let text = context.text(&entry.key, &entry.node);
                found.extend(
                    text.and_then(|text| field(context, &entry.key, text.value, entry.node.span)),
                );
            }
        }
        _ => {
            for text in context.texts("headers", &entry.node).unwrap_or_default() {
                let Some((name, value)) = text.value.split_once(':') else {
                    let reason = "expected `Name: value`";
                    context.push(context.bad("headers", text.span, reason));
                    continue;
                };
                found.extend(field(context, name.trim(), value, text.span));
            }
        }
    }
    found
}

fn field(context: &Context<'_>, name: &str, value: &str, span: Span) -> Option<Field> {
    let checked = syntax::field_name(name).and_then(|()| syntax::field_value(value));
    let reason = match checked {
        Ok(_) if syntax::managed_field(name) => {
            "Ravelin writes this field itself, for each connection anew".to_owned()
        }
        Ok(value) => {
            let (name, value) = (name.to_owned(), value.to_owned());
            return Some(Field { name, value, fill: false, span });
        }
        Err(reason) => reason,
    };
    context.push(context.bad("headers", span, &reason));
    None
}

/// What stands for the client's address in the value of a field.
const ADDRESS: &str = "$remote_addr";

/// The fields that a backend gets. Those with the client's address are sent in any case.
fn for_a_backend(takes: &Takes, fields: Vec<Field>) -> Vec<Field> {
    const SENT: &[&str] = &["x-forwarded-for", "x-real-ip"];
    let own = |field: &Field| {
        field.value == ADDRESS && SENT.iter().any(|name| name.eq_ignore_ascii_case(&field.name))
    };
    let groups: Vec<&str> = match takes {
        Takes::Regex { compiled, .. } => {
            compiled.group_info().pattern_names(PatternID::ZERO).flatten().collect()
        }
        _ => Vec::new(),
    };
    let filled = |field: Field| match template(&field.value, &groups) {
        Some(value) => Field { value, fill: true, ..field },
        None => field,
    };
    fields.into_iter().filter(|field| !own(field)).map(filled).collect()
}

/// A value with `{group}` and `$remote_addr` as native TOML writes it; `None` if it has neither.
fn template(value: &str, groups: &[&str]) -> Option<String> {
    let mut out = String::new();
    let mut found = false;
    let mut rest = value;
    while let Some(c) = rest.chars().next() {
        let group = groups.iter().find_map(|group| {
            let behind = rest.strip_prefix('{')?.strip_prefix(group)?.strip_prefix('}')?;
            Some((format!("${{{group}}}"), behind))
        });
        let address =
            rest.strip_prefix(ADDRESS).map(|behind| ("${remote_addr}".to_owned(), behind));
        match group.or(address) {
            Some((placeholder, behind)) => {
                out += &placeholder;
                rest = behind;
                found = true;
            }
            None => {
                match c {
                    '$' => out += "${}",
                    c => out.push(c),
                }
                rest = rest.get(c.len_utf8()..).unwrap_or("");
            }
        }
    }
    found.then_some(out)
}

/// Fields whose values are what is written; others are reported.
fn constant(context: &Context<'_>, fields: Vec<Field>) -> Vec<Field> {
    let (constant, other): (Vec<Field>, Vec<Field>) =
        fields.into_iter().partition(|field| !has_placeholder(&field.value));
    for field in other {
        let message = format!("`{}` is not sent", field.name);
        context.push(
            Diagnostic::warning(Code::NotInEffect, field.span, message)
                .label("a response's fields cannot say what is different for each request"),
        );
    }
    constant
}

/// `{name}` of a group, or `$remote_addr`.
fn has_placeholder(value: &str) -> bool {
    let group = value.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    value.contains(ADDRESS) || group.is_some_and(|(name, _)| is_name(name))
}

fn cache_control(context: &Context<'_>, table: &Table<'_>) -> Option<Field> {
    let text = table.text("cache_control")?;
    let value = value(context, "cache_control", text)?;
    Some(Field { name: "Cache-Control".to_owned(), value, fill: false, span: text.span })
}

fn value(context: &Context<'_>, key: &str, text: Spanned<&str>) -> Option<String> {
    match syntax::field_value(text.value) {
        Ok(value) => Some(value.to_owned()),
        Err(reason) => {
            context.push(context.bad(key, text.span, &reason));
            None
        }
    }
}

fn file_name(context: &Context<'_>, text: Spanned<&str>) -> Option<String> {
    let name = text.value.trim_start_matches('/');
    let outside = name.contains('\0') || name.split('/').any(|segment| segment == "..");
    if name.is_empty() || name.ends_with('/') || outside {
        let reason = "expected the name of a file below `root`";
        context.push(context.bad("index_file", text.span, reason));
        return None;
    }
    Some(name.to_owned())
}

fn add(context: &Context<'_>, route: Planned, plan: &mut Plan) {
    let other = match &route.takes {
        Takes::Exact(path) => {
            let path = path.clone();
            plan.exact(&path).map(|other| (path, other.span))
        }
        Takes::Prefix(path) => plan.prefix(path).map(|other| (path.clone(), other.span)),
        Takes::Regex { .. } => None,
    };
    if let Some((path, first)) = other {
        let message = format!("something else takes `{path}`");
        context.push(
            Diagnostic::warning(Code::Unused, route.span, message)
                .label("never used")
                .also(first, "takes every request"),
        );
        return;
    }
    plan.routes.push(route);
}
