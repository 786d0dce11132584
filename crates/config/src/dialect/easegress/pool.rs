//! Pools of `Proxy` and `WebSocketProxy`: servers, how one is chosen, and what becomes of failures.

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, list, number, text};
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::tree::{Entry, Node, Value};

use super::copy;
use super::filter::Site;
use super::health_check::{self, HEALTH_CHECK};
use super::load_balance::{self, LOAD_BALANCE};
use super::matcher::{self, FILTER};
use super::notes::{Note, not_in_effect};

/// Longest time that is waited for a connection, whatever a pool's `timeout` is.
const CONNECT_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Statuses that are failures where nothing is said.
const FAILURES: &str = "500-599";

pub(super) static SERVERS: Section = Section {
    path: "pools.servers",
    list: true,
    about: "One server.",
    keys: &[
        now("url", Kind::Text, "required", ""),
        now("weight", Kind::Integer(0, 100), "0", ""),
        now("keepHost", Kind::Bool, "false", ""),
        now("setUpstreamHost", Kind::Bool, "false", ""),
        now("tags", Kind::Texts, "", ""),
    ],
};

/// Keys of every pool.
pub(super) const SERVERS_KEY: Key = now("servers", Kind::Tables(&SERVERS), "required", "");
pub(super) const LOAD_BALANCE_KEY: Key = now("loadBalance", Kind::Table(&LOAD_BALANCE), "", "");
pub(super) const HEALTH_CHECK_KEY: Key = now("healthCheck", Kind::Table(&HEALTH_CHECK), "", "");
pub(super) const FILTER_KEY: Key = now("filter", Kind::Table(&FILTER), "", "");
pub(super) const SERVER_TAGS: Key = now("serverTags", Kind::Texts, "", "");
pub(super) const SERVICE_REGISTRY: Key = now("serviceRegistry", Kind::Text, "", "");
pub(super) const SERVICE_NAME: Key = now("serviceName", Kind::Text, "", "");

pub(super) static PROXY_POOL: Section = Section {
    path: "Proxy.pools",
    list: true,
    about: "Servers for requests.",
    keys: &[
        SERVERS_KEY,
        LOAD_BALANCE_KEY,
        HEALTH_CHECK_KEY,
        FILTER_KEY,
        SERVER_TAGS,
        SERVICE_REGISTRY,
        SERVICE_NAME,
        now("timeout", Kind::Duration(false), "", ""),
        now("retryPolicy", Kind::Text, "", ""),
        now("circuitBreakerPolicy", Kind::Text, "", ""),
        now("circuitBreakPolicy", Kind::Text, "", ""),
        now("failureCodes", Kind::Statuses, "5xx", ""),
        now("serverMaxBodySize", Kind::Integer(-1, i64::MAX), "4194304", ""),
        now("memoryCache", Kind::Text, "", ""),
        now("spanName", Kind::Text, "", ""),
    ],
};

/// What both filters say about all their pools.
pub(super) struct Common<'t> {
    pub(super) site: &'t Site<'t>,
    /// Whether it is a `WebSocketProxy`.
    pub(super) websocket: bool,
    /// Keys for the `tls` of servers that speak it.
    pub(super) tls: Option<TableNode>,
    /// Keys of the native pool that hold for all of them.
    pub(super) pool: TableNode,
}

/// A pool, decoded.
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) place: Span,
    pub(super) upstreams: Vec<Node>,
    /// What holds for the pool natively.
    pub(super) settings: TableNode,
    /// What requests have to be like, for pools with a `filter`; several that are as good.
    pub(super) wanted: Option<Vec<TableNode>>,
    /// Statuses that are failures, where something leads on from them.
    pub(super) failures: Option<Node>,
    pub(super) max_body: Option<Node>,
}

/// Pools in order, of which exactly one has no filter: the first of the result.
pub(super) fn pools<'n>(
    table: &Table<'n>,
    common: &Common<'_>,
    mut decode: impl FnMut(&Table<'n>, Span),
) -> Option<(Pool, Vec<Pool>)> {
    let context = table.context();
    table.require("pools", "[{servers: [{url: \"http://127.0.0.1:9095\"}]}]");
    let tables = table.tables("pools");
    let (mut main, mut others): (Vec<Pool>, Vec<Pool>) = (Vec::new(), Vec::new());
    let several = tables.len();
    for pool in tables {
        let filtered = pool.has("filter");
        let name = match filtered {
            true => format!("{}/{}", own_name(common.site), others.len() + 1),
            false => own_name(common.site),
        };
        decode(&pool, pool.span);
        let pool = self::pool(pool, name, common);
        if filtered { others.push(pool) } else { main.push(pool) }
    }
    let mut main = main.into_iter();
    let first = main.next();
    if let (Some(first), Some(second)) = (&first, main.next()) {
        context.push(
            Diagnostic::error(Code::Conflict, second.place, "a second pool without `filter`")
                .label("which of them gets requests that no filter wants?")
                .also(first.place, "the first one")
                .help("give all pools but one a `filter`"),
        );
    }
    if first.is_none() && several > 0 {
        context.push(
            Diagnostic::error(Code::MissingKey, table.span, "no pool without `filter`")
                .label("where do requests go that no filter wants?")
                .help("add a pool without `filter`"),
        );
    }
    first.map(|first| (first, others))
}

/// The native name of a filter's pool.
pub(super) fn own_name(site: &Site<'_>) -> String {
    match site.pipeline == site.name {
        true => site.name.to_owned(),
        false => format!("{}/{}", site.pipeline, site.name),
    }
}

/// Decodes one pool and finishes its table.
pub(super) fn pool(table: Table<'_>, name: String, common: &Common<'_>) -> Pool {
    let context = table.context();
    let place = table.span;
    let mut settings = TableNode::at(place);
    settings.put("name", text(name.as_str(), place));
    for entry in common.pool.entries() {
        settings.put_at(entry.key.as_str(), entry.key_span, entry.node.clone());
    }
    let upstreams = servers(&table, &name, common);
    discovery(&table, upstreams.is_empty());
    if let Some(balance) = table.table("loadBalance") {
        settings.put_some("load_balancing", load_balance::decode(balance));
    }
    if let Some(check) = table.table("healthCheck") {
        let path = default_path(&table);
        settings.put_some("health_check", health_check::decode(check, common.websocket, &path));
    }
    let wanted = table.table("filter").map(matcher::decode);
    let (mut failures, mut max_body) = (None, None);
    if !common.websocket {
        failures = self::failures(&table);
        timeouts(&table, &mut settings);
        policies(context, &table, common, failures.as_ref(), &mut settings);
        max_body = self::max_body(&table);
        not_in_effect(&table, &["memoryCache"]);
        if let Some(entry) = table.take("spanName") {
            context.note_at(entry, "there is no tracing");
        }
    }
    table.finish();
    Pool { name, place, upstreams, settings, wanted, failures, max_body }
}

fn servers(table: &Table<'_>, pool: &str, common: &Common<'_>) -> Vec<Node> {
    let mut upstreams = Vec::new();
    let mut weighted: Vec<(bool, Span)> = Vec::new();
    for server in table.tables("servers") {
        let place = server.span;
        server.require("url", "http://127.0.0.1:9095");
        let url = server.text("url");
        let weight = server.integer("weight");
        let keep = server.boolean("keepHost").unwrap_or(false);
        let own = server.boolean("setUpstreamHost").unwrap_or(false);
        server.texts("tags");
        weighted.push((weight.is_some_and(|weight| weight.value > 0), place));
        if let Some(url) = url.and_then(|url| Url::read(server.context(), url, common.websocket)) {
            let mut upstream = TableNode::at(place);
            upstream.put("name", text(pool, place));
            upstream.put("url", text(url.text.as_str(), url.span));
            if let Some(weight) = weight.filter(|weight| weight.value > 0) {
                upstream.put("weight", number(weight.value, weight.span));
            }
            let host = server.peek("keepHost").map_or(place, |entry| entry.node.span);
            upstream.put("preserve_host", boolean((keep || url.ip) && !own, host));
            if let Some(tls) = common.tls.as_ref().filter(|tls| url.tls && !tls.is_empty()) {
                upstream.put("tls", tls.clone());
            }
            if url.tls && !common.websocket && common.tls.is_none() {
                verified(server.context(), url.span);
            }
            upstreams.push(upstream.build());
        }
        server.finish();
    }
    partly_weighted(table.context(), &weighted);
    upstreams
}

/// Easegress verifies nobody without `mtls`.
fn verified(context: &Context<'_>, url: Span) {
    context.push(
        Diagnostic::note(Code::Changed, url, "the certificate of this server is verified")
            .label("Easegress would take any")
            .help("if it cannot be: `mtls: {insecureSkipVerify: true}`, or its authority as `rootCertBase64`"),
    );
}

fn partly_weighted(context: &Context<'_>, weighted: &[(bool, Span)]) {
    let with = weighted.iter().find(|(weighted, _)| *weighted);
    let without = weighted.iter().find(|(weighted, _)| !*weighted);
    if let (Some((_, with)), Some((_, without))) = (with, without) {
        context.push(
            Diagnostic::error(Code::Conflict, *without, "a server without `weight`")
                .label("how many requests does it get?")
                .also(*with, "this one has a weight")
                .help("give all servers of a pool a `weight` of at least 1, or none"),
        );
    }
}

/// The URL of a server.
struct Url {
    text: String,
    span: Span,
    /// Its host is an IP address.
    ip: bool,
    tls: bool,
}

impl Url {
    fn read(context: &Context<'_>, url: Spanned<&str>, websocket: bool) -> Option<Url> {
        let schemes: &[&str] = match websocket {
            true => &["ws", "wss", "http", "https"],
            false => &["http", "https"],
        };
        let refuse = |reason: &str, instead: Option<String>| {
            let error = context.bad("url", url.span, reason);
            context.push(match instead {
                Some(instead) => {
                    let question = format!("did you mean `{instead}`?");
                    error.suggest(url.span, instead, question)
                }
                None => error,
            });
            None
        };
        let first = schemes.first().copied().unwrap_or_default();
        let Some((scheme, rest)) = url.value.split_once("://") else {
            let instead = format!("{first}://{}", url.value);
            return refuse("a URL begins with its scheme", Some(instead));
        };
        if !schemes.contains(&scheme) {
            let instead = match scheme {
                "wss" => Some(format!("https://{rest}")),
                "ws" => Some(format!("http://{rest}")),
                _ => None,
            };
            return refuse(&format!("expected {}", schemes.join(", ")), instead);
        }
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let text = match path {
            "" | "/" => format!("{scheme}://{authority}"),
            path if websocket => {
                context.push(
                    Diagnostic::note(Code::Ignored, url.span, "the path of this URL is not used")
                        .label(format!("`{path}`: paths and queries are those of requests")),
                );
                format!("{scheme}://{authority}")
            }
            _ => url.value.to_owned(),
        };
        Some(Url {
            text,
            span: url.span,
            ip: is_ip(authority),
            tls: matches!(scheme, "wss" | "https"),
        })
    }
}

/// Whether the host of an authority is an IP address.
fn is_ip(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.parse::<std::net::IpAddr>().is_ok()
}

/// Servers are those that are written down.
fn discovery(table: &Table<'_>, none: bool) {
    let context = table.context();
    let found = [table.take("serviceRegistry"), table.take("serviceName")];
    let found: Option<&Entry> =
        found.into_iter().flatten().find(|entry| !entry.node.value.is_off());
    table.texts("serverTags");
    let error = |span, message: &str| Diagnostic::error(Code::MissingKey, span, message);
    match (found, table.peek("servers")) {
        (Some(entry), _) if none => context.push(
            error(entry.key_span, "service registries are not asked")
                .label("the pool has no server")
                .help("write its servers down: `servers: [{url: …}]`; names are looked up again and again, and SRV records are understood"),
        ),
        (Some(entry), _) => context.note_at(entry, "requests go to `servers`"),
        (None, None) if !table.has_or_means("servers") => context.push(
            error(table.span, "a pool without `servers`")
                .label("where do requests go?")
                .help("for example `servers: [{url: \"http://127.0.0.1:9095\"}]`"),
        ),
        (None, Some(entry)) if none && matches!(&entry.node.value, Value::Array(all) if all.is_empty()) => {
            context.push(error(entry.node.span, "a pool without servers").label("there is none"));
        }
        _ => {}
    }
}

/// Where checks ask that name no path: that of the first server's URL.
fn default_path(table: &Table<'_>) -> String {
    let url = table.peek("servers").and_then(|entry| match &entry.node.value {
        Value::Array(servers) => super::filter::entry(servers.first()?, "url"),
        _ => None,
    });
    let url = url.and_then(|entry| match &entry.node.value {
        Value::String(url) => url.split_once("://"),
        _ => None,
    });
    let path = url.and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
    path.unwrap_or("/").to_owned()
}

fn failures(table: &Table<'_>) -> Option<Node> {
    let entry = table.peek("failureCodes");
    let found = table.statuses("failureCodes")?;
    (!found.is_empty()).then(|| entry.map(|entry| entry.node.clone()))?
}

/// `timeout` is for each attempt.
fn timeouts(table: &Table<'_>, settings: &mut TableNode) {
    let Some(entry) = table.peek("timeout") else {
        table.take("timeout");
        return;
    };
    let Some(timeout) = table.duration("timeout") else { return };
    let node = &entry.node;
    let mut native = TableNode::at(node.span);
    if timeout < CONNECT_MAX {
        native.put("connect", node.clone());
    }
    native.put("first_byte", node.clone());
    native.put("read", node.clone());
    settings.put_at("timeout", entry.key_span, native);
}

fn policies(
    context: &Context<'_>,
    table: &Table<'_>,
    common: &Common<'_>,
    failures: Option<&Node>,
    settings: &mut TableNode,
) {
    let statuses = |span| match failures {
        Some(node) => node.clone(),
        None => list([text(FAILURES, span)], span),
    };
    if let Some(name) = table.text("retryPolicy").filter(|name| !name.value.is_empty())
        && let Some(mut retry) = common.site.policies.find(context, "Retry", name)
    {
        let words = ["connect", "reset", "timeout", "invalid", "refused"];
        let mut on: Vec<Node> = words.iter().map(|word| text(*word, name.span)).collect();
        match statuses(name.span).value {
            Value::Array(more) => on.extend(more),
            one => on.push(Node { value: one, span: name.span }),
        }
        retry.put("on", list(on, name.span));
        settings.put("retry", retry);
    }
    for key in ["circuitBreakerPolicy", "circuitBreakPolicy"] {
        if let Some(name) = table.text(key).filter(|name| !name.value.is_empty())
            && let Some(mut breaker) = common.site.policies.find(context, "CircuitBreaker", name)
        {
            breaker.put("statuses", statuses(name.span));
            settings.put("circuit_breaker", breaker);
        }
    }
}

fn max_body(table: &Table<'_>) -> Option<Node> {
    let size = table.integer("serverMaxBodySize")?;
    match size.value {
        0 => None,
        -1 => Some(text("unlimited", size.span)),
        bytes => Some(number(bytes, size.span)),
    }
}

/// Keys that are the same natively.
pub(super) fn idle(table: &Table<'_>, settings: &mut TableNode) {
    let mut idle = TableNode::at(table.span);
    copy(table, "maxIdleConnsPerHost", &mut idle, "max");
    table.integer("maxIdleConns");
    if !idle.is_empty() {
        settings.put("idle_connections", idle);
    }
}
