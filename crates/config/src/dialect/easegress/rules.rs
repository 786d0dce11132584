//! `rules` of an HTTPServer: hosts, paths and conditions, each pair of rule and path a native route.

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, list, text, texts};
use crate::dialect::never_open;
use crate::pattern;
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::tree::{Entry, Node};

use super::http_server::{BodySize, CLIENT_MAX_BODY_SIZE};
use super::notes::Note;

pub(super) static RULES: Section = Section {
    path: "HTTPServer.rules",
    list: true,
    about: "Hosts and what they lead to.",
    keys: &[
        now("host", Kind::Text, "", ""),
        now("hostRegexp", Kind::Text, "", ""),
        now("hosts", Kind::Tables(&HOSTS), "", ""),
        now("paths", Kind::Tables(&PATHS), "", ""),
        now("ipFilter", Kind::Table(&IP_FILTER), "", ""),
    ],
};

static HOSTS: Section = Section {
    path: "HTTPServer.rules.hosts",
    list: true,
    about: "One host.",
    keys: &[now("isRegexp", Kind::Bool, "false", ""), now("value", Kind::Text, "required", "")],
};

static PATHS: Section = Section {
    path: "HTTPServer.rules.paths",
    list: true,
    about: "Requests that lead to one pipeline.",
    keys: &[
        now("path", Kind::Text, "", ""),
        now("pathPrefix", Kind::Text, "", ""),
        now("pathRegexp", Kind::Text, "", ""),
        now("rewriteTarget", Kind::Text, "", ""),
        now("methods", Kind::Texts, "", ""),
        now("headers", Kind::Tables(&HEADERS), "", ""),
        now("queries", Kind::Tables(&QUERIES), "", ""),
        now("matchAllHeader", Kind::Bool, "false", ""),
        now("matchAllQuery", Kind::Bool, "false", ""),
        now("setHeaders", Kind::Map, "", ""),
        CLIENT_MAX_BODY_SIZE,
        now("ipFilter", Kind::Table(&IP_FILTER), "", ""),
        now("backend", Kind::Text, "required", ""),
        now("backendPool", Kind::Text, "", ""),
    ],
};

static HEADERS: Section = Section {
    path: "HTTPServer.rules.paths.headers",
    list: true,
    about: "A field that requests have to have.",
    keys: CONDITION,
};

static QUERIES: Section = Section {
    path: "HTTPServer.rules.paths.queries",
    list: true,
    about: "A parameter that the query has to have.",
    keys: CONDITION,
};

const CONDITION: &[crate::schema::Key] = &[
    now("key", Kind::Text, "required", ""),
    now("values", Kind::Texts, "", ""),
    now("regexp", Kind::Text, "", ""),
];

pub(super) static IP_FILTER: Section = Section {
    path: "HTTPServer.ipFilter",
    list: false,
    about: "Who may connect.",
    keys: &[
        now("blockByDefault", Kind::Bool, "false", ""),
        now("allowIPs", Kind::Texts, "", ""),
        now("blockIPs", Kind::Texts, "", ""),
    ],
};

/// Requests that lead to one pipeline.
pub(super) struct Path<'n> {
    /// What it takes; several if it names several kinds of paths.
    pub(super) bases: Vec<Base>,
    /// The pipeline's name.
    pub(super) backend: Option<Spanned<&'n str>>,
    /// Where it is written.
    pub(super) span: Span,
}

/// What a route is made from.
#[derive(Clone)]
pub(super) struct Base {
    /// Which requests it takes, and what they have to pass.
    pub(super) matchers: TableNode,
    /// What becomes of requests before the pipeline has them.
    pub(super) request: TableNode,
}

impl Base {
    /// A route that changes nothing.
    pub(super) fn alone(matchers: TableNode) -> Base {
        let request = TableNode::at(matchers.span());
        Base { matchers, request }
    }
}

/// Decodes a rule: one [`Path`] for each of its paths, in order.
pub(super) fn decode<'n>(rule: Table<'n>, body: &BodySize) -> Vec<Path<'n>> {
    never_open(&rule, &["ipFilter"]);
    let hosts = hosts(&rule);
    let filter = rule.table("ipFilter").map(ip_filter);
    if !rule.has_or_means("paths") {
        rule.context().push(
            Diagnostic::warning(Code::Unused, rule.span, "the rule has no `paths`")
                .label("takes no request"),
        );
    }
    let paths = rule.tables("paths").into_iter();
    let decoded = paths.map(|table| path(table, &hosts, filter.as_ref(), body)).collect();
    rule.finish();
    decoded
}

/// Native `hosts` and `hosts_regex`.
#[derive(Default)]
struct Hosts {
    names: Vec<Node>,
    patterns: Vec<Node>,
}

fn hosts(rule: &Table<'_>) -> Hosts {
    let context = rule.context();
    let mut hosts = Hosts::default();
    if let Some(host) = rule.text("host") {
        hosts.name(host);
    }
    if let Some(pattern) = rule.text("hostRegexp") {
        hosts.pattern(context, "hostRegexp", pattern);
    }
    for host in rule.tables("hosts") {
        host.require("value", "example.com");
        let pattern = host.boolean("isRegexp").unwrap_or(false);
        match host.text("value") {
            Some(value) if pattern => hosts.pattern(context, "value", value),
            Some(value) => hosts.name(value),
            None => {}
        }
        host.finish();
    }
    hosts
}

impl Hosts {
    /// A host, with one `*` at its beginning or end perhaps.
    fn name(&mut self, host: Spanned<&str>) {
        let text = |value: &str| text(value, host.span);
        let value = host.value;
        if value.is_empty() {
            return; // as if it were not there
        }
        let whole_labels = value.strip_prefix("*.").or_else(|| value.strip_suffix(".*"));
        if whole_labels.is_some_and(|rest| !rest.contains('*')) || !value.contains('*') {
            self.names.push(text(value));
        } else if value != "*" {
            let parts: Vec<String> = value.split('*').map(escape).collect();
            self.patterns.push(text(&format!("^{}$", parts.join(".*"))));
        } else {
            self.names.push(text("*"));
        }
    }

    fn pattern(&mut self, context: &Context<'_>, key: &str, host: Spanned<&str>) {
        if regexp(context, key, host).is_some() && !host.value.is_empty() {
            self.patterns.push(text(host.value, host.span));
        }
    }
}

/// A regular expression for a text.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if !c.is_alphanumeric() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Checks a regular expression.
pub(super) fn regexp(context: &Context<'_>, key: &str, text: Spanned<&str>) -> Option<()> {
    match pattern::compile(text.value) {
        Ok(_) => Some(()),
        Err(reason) => {
            context.push(context.bad(key, text.span, &reason));
            None
        }
    }
}

fn path<'n>(table: Table<'n>, hosts: &Hosts, filter: Option<&Node>, body: &BodySize) -> Path<'n> {
    never_open(&table, &["ipFilter", "methods", "headers", "queries", "clientMaxBodySize"]);
    let place = table.span;
    let mut matchers = TableNode::at(place);
    for (key, found) in [("hosts", &hosts.names), ("hosts_regex", &hosts.patterns)] {
        if !found.is_empty() {
            matchers.put(key, list(found.iter().cloned(), place));
        }
    }
    if let Some(entry) = table.peek("methods") {
        let methods = table.texts("methods").unwrap_or_default();
        if !methods.is_empty() {
            let methods = methods.iter().map(|method| text(method.value, method.span));
            matchers.put("methods", list(methods, entry.node.span));
        }
    } else {
        table.take("methods");
    }
    conditions(&table, &mut matchers);
    let own = table.table("ipFilter").map(ip_filter);
    let filters: Vec<Node> = filter.cloned().into_iter().chain(own).collect();
    match filters.as_slice() {
        [] => {}
        [one] => matchers.put("access", one.clone()),
        _ => matchers.put("access", list(filters, place)),
    }
    let body = BodySize::of(&table, "clientMaxBodySize").unwrap_or(*body);
    matchers.put("max_request_size", body.node());
    let mut request = TableNode::at(place);
    set_headers(&table, &mut request);
    let bases = bases(&table, &matchers, &request);
    let backend = backend(&table);
    table.finish();
    Path { bases, backend, span: place }
}

fn backend<'n>(table: &Table<'n>) -> Option<Spanned<&'n str>> {
    if let Some(entry) = table.take("backendPool") {
        table.context().push(
            Diagnostic::error(Code::NotInEffect, entry.key_span, "`backendPool` is not understood")
                .label("these requests would go nowhere")
                .help("put the pool into a `Proxy` filter of a Pipeline, and name that with `backend`"),
        );
        return table.text("backend");
    }
    table.require("backend", "my-pipeline");
    table.text("backend")
}

/// `headers` and `queries`.
fn conditions(table: &Table<'_>, matchers: &mut TableNode) {
    for (key, of, all, any) in [
        ("headers", "header", "matchAllHeader", "any_header"),
        ("queries", "query", "matchAllQuery", "any_query"),
    ] {
        let conditions = table.tables(key);
        let several = conditions.len() > 1;
        for condition in conditions {
            if let Some(node) = self::condition(condition, of) {
                matchers.push("when", node);
            }
        }
        let all = table.boolean(all).unwrap_or(false);
        if several && !all {
            matchers.put(any, boolean(true, table.span));
        }
    }
}

fn condition(table: Table<'_>, of: &str) -> Option<Node> {
    let context = table.context();
    let place = table.span;
    table.require("key", "X-Version");
    let key = table.text("key");
    let values = table.texts("values").unwrap_or_default();
    let pattern = table.text("regexp").filter(|pattern| !pattern.value.is_empty());
    if values.is_empty() && pattern.is_none() {
        context.push(
            Diagnostic::error(Code::MissingKey, place, "a condition without a value")
                .label("needs `values` or `regexp`"),
        );
    }
    let mut node = TableNode::at(place);
    let key = key?;
    node.put(of, text(key.value, key.span));
    if !values.is_empty() {
        let values = values.iter().map(|value| text(value.value, value.span));
        node.put("values", list(values, place));
    }
    if let Some(pattern) = pattern {
        regexp(context, "regexp", pattern)?;
        node.put("regex", text(pattern.value, pattern.span));
    }
    table.finish();
    Some(node.build())
}

/// The paths, each with what `rewriteTarget` makes of it.
fn bases(table: &Table<'_>, matchers: &TableNode, request: &TableNode) -> Vec<Base> {
    let context = table.context();
    let target = table.text("rewriteTarget").filter(|target| !target.value.is_empty());
    let mut bases = Vec::new();
    for (key, kind) in [("path", "exact"), ("pathPrefix", "starts_with"), ("pathRegexp", "regex")] {
        let Some(path) = table.text(key).filter(|path| !path.value.is_empty()) else { continue };
        let (mut matchers, mut request) = (matchers.clone(), request.clone());
        if kind == "regex" {
            if regexp(context, key, path).is_none() {
                continue;
            }
        } else if !path.value.starts_with('/') {
            let instead = format!("/{}", path.value);
            context.push(context.bad(key, path.span, "a path starts with \"/\"").suggest(
                path.span,
                instead,
                "start it with a slash",
            ));
            continue;
        }
        matchers.put_at("path", path.span, text(path.value, path.span));
        matchers.put("match", text(kind, path.span));
        if let Some(target) = target {
            rewritten(&mut request, kind, path.value, target);
        }
        bases.push(Base { matchers, request });
    }
    let none = ["path", "pathPrefix", "pathRegexp"].iter().all(|key| !table.has(key));
    if bases.is_empty() && (none || all_empty(table)) {
        let (mut matchers, request) = (matchers.clone(), request.clone());
        matchers.put("path", text("/", table.span));
        if let Some(target) = target {
            context.push(
                Diagnostic::warning(Code::Unused, target.span, "`rewriteTarget` without a path")
                    .label("never used: it says what takes the place of `path`, `pathPrefix` or `pathRegexp`"),
            );
        }
        bases.push(Base { matchers, request });
    }
    bases
}

fn all_empty(table: &Table<'_>) -> bool {
    ["path", "pathPrefix", "pathRegexp"]
        .iter()
        .filter_map(|key| table.peek(key))
        .all(|entry| entry.node.value.is_off())
}

fn rewritten(request: &mut TableNode, kind: &str, path: &str, target: Spanned<&str>) {
    let mut change = TableNode::at(target.span);
    let (from, key) = match kind {
        "exact" => (None, "replace"),
        "starts_with" => (Some("replace_prefix"), "with"),
        _ => (Some("regex"), "with"),
    };
    if let Some(from) = from {
        change.put(from, text(path, target.span));
    }
    change.put(key, text(target.value, target.span));
    request.push("rewrite", change);
}

/// Fields for the upstream. Values of nginx's kind (`$remote_addr`) are not known here.
fn set_headers(table: &Table<'_>, request: &mut TableNode) {
    let context = table.context();
    let mut set = TableNode::at(table.span);
    for entry in table.map("setHeaders") {
        let Some(value) = context.text(&entry.key, &entry.node) else { continue };
        if value.value.contains('$') {
            variable(context, entry);
            continue;
        }
        set.put_at(entry.key.as_str(), entry.key_span, text(value.value, value.span));
    }
    if !set.is_empty() {
        request.within("request_headers", table.span, |headers| headers.put("set", set));
    }
}

fn variable(context: &Context<'_>, entry: &Entry) {
    context.note_at(entry, "values with variables are not sent");
}

/// Native `access`.
///
/// In Easegress an address in both lists has the default; here the more exact entry decides.
pub(super) fn ip_filter(table: Table<'_>) -> Node {
    let place = table.span;
    never_open(&table, &["blockByDefault", "allowIPs", "blockIPs"]);
    let block = table.boolean("blockByDefault").unwrap_or(false);
    let mut access = TableNode::at(place);
    let mut only = false;
    for (key, native) in [("allowIPs", "allow"), ("blockIPs", "deny")] {
        let Some(entry) = table.peek(key) else {
            table.take(key);
            continue;
        };
        let nets = table.texts(key).unwrap_or_default();
        if nets.is_empty() {
            continue;
        }
        only |= native == "allow";
        let nets = nets.iter().map(|net| text(net.value, net.span));
        access.put_at(native, entry.key_span, list(nets, entry.node.span));
    }
    let word = if block || only { "deny" } else { "allow" };
    access.put("default", text(word, place));
    table.finish();
    access.build()
}

/// A list of strings as it is written.
pub(super) fn strings(found: &[Spanned<&str>], place: Span) -> Node {
    match found {
        [] => texts(Vec::<String>::new(), place),
        found => list(found.iter().map(|one| text(one.value, one.span)), place),
    }
}
