//! `[sites.proxy]`: routes, balancing and time limits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use crate::decode::{Context, Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{IdleConnections, Proxy, Route, Timeouts, UpstreamHttp};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::syntax::{path, quoted};

use super::upstreams::{self, Pools};
use super::{balancing, breaker, buffering, capacity, health_check, outlier, pools, retry};

/// More idle connections to one endpoint than a worker could use.
const IDLE_MAX: i64 = 65_536;

pub(super) static PROXY: Section = Section {
    path: "sites.proxy",
    list: false,
    about: "The proxy part of a site.",
    keys: &[
        now("enabled", Kind::Bool, "false", "Proxy at all."),
        now(
            "upstreams",
            Kind::Tables(&upstreams::UPSTREAMS),
            "required",
            "Where requests may be sent.",
        ),
        now(
            "routes",
            Kind::Tables(&ROUTES),
            "every path to the only pool",
            "Which requests go where. May be left out if all upstreams share one name.",
        ),
        now("load_balancing", Kind::Table(&balancing::SECTION), "", "How an upstream is chosen."),
        now("timeout", Kind::Table(&TIMEOUT), "", "How long each step may take."),
        now(
            "headers",
            Kind::Table(&super::headers::HEADERS),
            "",
            "Changes to messages, both ways.",
        ),
        now("request_headers", Kind::Table(&super::headers::REQUEST), "", "Changes to requests."),
        now(
            "response_headers",
            Kind::Table(&super::headers::RESPONSE),
            "",
            "Changes to responses.",
        ),
        now("idle_connections", Kind::Table(&IDLE), "", "Idle upstream connections."),
        now("buffering", Kind::Table(&buffering::SECTION), "", "Bodies that are taken whole."),
        now(
            "health_check",
            Kind::TableOrTables(&health_check::SECTION),
            "",
            "Active health checks.",
        ),
        now("outlier", Kind::Table(&outlier::SECTION), "", "Ejection of upstreams."),
        now("retry", Kind::Table(&retry::SECTION), "", "When a request is sent again."),
        now(
            "circuit_breaker",
            Kind::Table(&breaker::SECTION),
            "",
            "Stops requests to a pool that fails.",
        ),
        now("concurrency", Kind::Table(&capacity::CONCURRENCY), "", "Requests of a pool at once."),
        now("queue", Kind::Table(&capacity::QUEUE), "", "Requests that wait."),
        now("pools", Kind::Tables(&pools::SECTION), "", "What holds for one pool."),
    ],
};

static ROUTES: Section = Section {
    path: "sites.proxy.routes",
    list: true,
    about: "Which requests go to which pool. The longest path that matches wins; declared order breaks ties.",
    keys: &[
        now(
            "path",
            Kind::Text,
            "required",
            "Prefix of whole path segments: `/api` matches `/api` and `/api/x`, not `/apix`.",
        ),
        now("upstream", Kind::Text, "required", "Name of a pool."),
        now("strip_prefix", Kind::Bool, "false", "Take `path` off before forwarding."),
        now(
            "rewrite_target",
            Kind::Text,
            "none",
            "Replaces the whole path (the query is kept); wins over `strip_prefix`.",
        ),
        now(
            "websocket",
            Kind::Bool,
            "false",
            "Allow `Upgrade: websocket`; other routes answer it as plain HTTP.",
        ),
        now(
            "redirect_slash",
            Kind::Bool,
            "false",
            "301 a request for `/x` to `/x/` when `path` is `/x/`.",
        ),
    ],
};

static TIMEOUT: Section = Section {
    path: "sites.proxy.timeout",
    list: false,
    about: "How long each step of talking to an upstream may take; running out is 504.",
    keys: &[
        now("connect", Kind::Duration(false), "10", "For a connection to be established."),
        now(
            "first_byte",
            Kind::Duration(false),
            "as `read`",
            "From the end of a request to the first byte of its response.",
        )
        .or(&["response", "response_header", "header"]),
        now("read", Kind::Duration(false), "30", "Between two successive reads."),
        now("write", Kind::Duration(false), "30", "Between two successive writes."),
        now(
            "tunnel",
            Kind::Duration(false),
            "\"1h\"",
            "For a WebSocket without a byte in either direction; 30 s at most once one side has closed.",
        ),
        now(
            "request",
            Kind::Duration(false),
            "no limit",
            "From the head of a request to the end of its response, waiting and further attempts included; not for tunnels.",
        ),
    ],
};

static IDLE: Section = Section {
    path: "sites.proxy.idle_connections",
    list: false,
    about: "Idle upstream connections kept for reuse.",
    keys: &[
        now(
            "max",
            Kind::Integer(0, IDLE_MAX),
            "1024",
            "For each endpoint and worker; 0 keeps none.",
        ),
        now("timeout", Kind::Duration(false), "60", "An idle connection is closed after this."),
        now(
            "max_age",
            Kind::Duration(false),
            "\"1h\"",
            "A connection older than this is not reused.",
        ),
    ],
};

/// Decodes the proxy part; `None` if there is none or it is not enabled.
pub(super) fn decode(site: &Table<'_>) -> Option<Proxy> {
    let table = site.table("proxy")?;
    let context = table.context();
    let enabled = table.boolean("enabled");
    let mut pools = upstreams::decode(context, table.tables("upstreams"));
    pools.incomplete |= !table.has("upstreams") && table.has_or_means("upstreams");
    let routes = routes(&table, &pools);
    pools::decode(&table, &mut pools);
    let proxy = Proxy {
        routes,
        buffering: buffering::decode(&table),
        timeout: timeouts(&table),
        headers: super::headers::decode(&table),
        idle: idle(&table),
        pools: Vec::new(),
    };
    if enabled.is_none() && !table.has("enabled") {
        context.push(
            Diagnostic::warning(
                Code::Unused,
                table.span,
                "the proxy part is off: `enabled` is not set",
            )
            .label("nothing in this table is used")
            .help(
                "write `enabled = true` below `[sites.proxy]`, or `enabled = false` to keep it off",
            ),
        );
    }
    if enabled == Some(true) {
        complete(&table, &pools, &proxy.routes);
    }
    table.finish();
    (enabled == Some(true)).then_some(Proxy { pools: pools.pools, ..proxy })
}

fn routes(table: &Table<'_>, pools: &Pools) -> Vec<Route> {
    if !table.has("routes") && pools.pools.len() == 1 {
        return vec![Route {
            path: "/".to_owned(),
            pool: 0,
            strip_prefix: false,
            rewrite_target: None,
            websocket: false,
            redirect_slash: false,
        }];
    }
    let mut seen: HashMap<String, Span> = HashMap::new();
    let mut routes = Vec::new();
    for table in table.tables("routes") {
        let (context, place) = (table.context(), table.span);
        let Some(route) = route(table, pools) else { continue };
        match seen.entry(route.path.clone()) {
            Entry::Occupied(first) => context.push(
                Diagnostic::warning(
                    Code::Unused,
                    place,
                    format!("a second route for `{}`", route.path),
                )
                .label("never used: the first one takes every request")
                .also(*first.get(), "the first one"),
            ),
            Entry::Vacant(free) => _ = free.insert(place),
        }
        routes.push(route);
    }
    routes
}

fn route(table: Table<'_>, pools: &Pools) -> Option<Route> {
    let context = table.context();
    table.require("path", "\"/api/\"");
    table.require("upstream", "\"backend\"");
    let prefix = table.text("path").and_then(|text| {
        let path = checked_path(context, "path", text)?;
        if path.contains('*') {
            wildcard(context, text);
        }
        Some(path)
    });
    let pool = table.text("upstream").and_then(|name| {
        let pool = pools.find(name.value);
        if pool.is_none() && !pools.incomplete {
            unknown_upstream(context, name, pools);
        }
        pool
    });
    let strip_prefix = table.boolean("strip_prefix").unwrap_or(false);
    let rewrite_target =
        table.text("rewrite_target").and_then(|text| checked_path(context, "rewrite_target", text));
    let websocket = table.boolean("websocket").unwrap_or(false);
    if let (true, Some(entry), Some(index)) = (websocket, table.peek("websocket"), pool) {
        let members = pools.pools.get(index).map(|pool| &pool.upstreams[..]).unwrap_or_default();
        if members.iter().any(|member| member.transport.http == UpstreamHttp::Http2) {
            context.push(
                Diagnostic::error(
                    Code::Conflict,
                    entry.key_span,
                    "a WebSocket route needs an HTTP/1.1 upstream",
                )
                .label("its upstream is spoken to in HTTP/2 (`h2` or `h2c`)")
                .help("give the route an upstream of its own with `http://` or `https://`"),
            );
        }
    }
    let redirect_slash = table.boolean("redirect_slash").unwrap_or(false);
    table.finish();
    Some(Route {
        path: prefix?,
        pool: pool?,
        strip_prefix,
        rewrite_target,
        websocket,
        redirect_slash,
    })
}

fn checked_path(context: &Context<'_>, key: &str, text: Spanned<&str>) -> Option<String> {
    match path(text.value) {
        Ok(path) => Some(path),
        Err(reason) => {
            let error = context.bad(key, text.span, &reason);
            context.push(match text.value.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                true => {
                    let instead = quoted(&format!("/{}", text.value));
                    error.suggest(text.span, instead, "start it with a slash")
                }
                false => error,
            });
            None
        }
    }
}

/// In other systems `*` is a wildcard; here such a route would silently take nothing.
fn wildcard(context: &Context<'_>, text: Spanned<&str>) {
    let message = "`*` in a path stands for itself";
    let warning = Diagnostic::warning(Code::Unused, text.span, message)
        .label("only takes requests with a `*` at this place");
    context.push(match text.value.trim_end_matches('*') {
        prefix if prefix.ends_with('/') && !prefix.contains('*') => {
            warning.suggest(text.span, quoted(prefix), "a path takes everything below it without")
        }
        _ => warning.help("a path is a prefix: it takes everything below it"),
    });
}

/// Reports the name of a pool that does not exist.
pub(super) fn unknown_upstream(context: &Context<'_>, name: Spanned<&str>, pools: &Pools) {
    let message = format!("no upstream has the name `{}`", name.value.escape_debug());
    let error = Diagnostic::error(Code::UnknownUpstream, name.span, message)
        .label("this site has no `[[sites.proxy.upstreams]]` entry of that name");
    let names = pools.pools.iter().map(|pool| pool.name.as_str());
    context.push(match nearest(name.value, names.clone()) {
        Some(near) => {
            let place = pools.find(near).and_then(|index| pools.places.get(index));
            let error = match place {
                Some(place) => error.also(*place, "a similar name"),
                None => error,
            };
            error.suggest(name.span, quoted(near), format!("did you mean `{near}`?"))
        }
        None if pools.pools.is_empty() => error.help("this site has no upstreams at all"),
        None => {
            const NAMES_SHOWN_MAX: usize = 6;
            let shown: Vec<String> =
                names.take(NAMES_SHOWN_MAX).map(|name| format!("`{name}`")).collect();
            error.help(format!("its upstreams are {}", shown.join(", ")))
        }
    });
}

/// What an enabled proxy must have, and what it has for nothing.
fn complete(table: &Table<'_>, pools: &Pools, routes: &[Route]) {
    let context = table.context();
    if !table.has_or_means("upstreams") {
        context.push(
            Diagnostic::error(Code::MissingKey, table.span, "the proxy has no upstream")
                .label("enabled, but there is nowhere to send requests to")
                .help("add `[[sites.proxy.upstreams]]` with `name` and `url`"),
        );
        return;
    }
    if !table.has_or_means("routes") {
        if let (Some(first), Some(second)) = (pools.places.first(), pools.places.get(1)) {
            context.push(
                Diagnostic::error(Code::MissingKey, table.span, "the proxy has no route")
                    .label("which requests go to which upstream?")
                    .also(*first, "one pool")
                    .also(*second, "another one")
                    .help("add `[[sites.proxy.routes]]` with `path` and `upstream`; only upstreams of one name need no route"),
            );
        }
        return;
    }
    if table.has("routes") {
        unused_pools(context, pools, routes);
    }
}

fn unused_pools(context: &Context<'_>, pools: &Pools, routes: &[Route]) {
    for (index, (pool, place)) in pools.pools.iter().zip(&pools.places).enumerate() {
        if !routes.is_empty() && routes.iter().all(|route| route.pool != index) {
            let message = format!("no route leads to the upstream `{}`", pool.name);
            context.push(Diagnostic::warning(Code::Unused, *place, message).label("never used"));
        }
    }
}

fn timeouts(proxy: &Table<'_>) -> Timeouts {
    let mut timeouts = Timeouts {
        connect: Duration::from_secs(10),
        first_byte: Duration::from_secs(30),
        read: Duration::from_secs(30),
        write: Duration::from_secs(30),
        tunnel: Duration::from_secs(3600),
        request: None,
    };
    let Some(table) = proxy.table("timeout") else { return timeouts };
    timeouts.connect = table.duration("connect").unwrap_or(timeouts.connect);
    timeouts.read = table.duration("read").unwrap_or(timeouts.read);
    timeouts.first_byte = table.duration("first_byte").unwrap_or(timeouts.read);
    timeouts.write = table.duration("write").unwrap_or(timeouts.write);
    timeouts.tunnel = table.duration("tunnel").unwrap_or(timeouts.tunnel);
    timeouts.request = table.duration("request");
    table.finish();
    timeouts
}

fn idle(proxy: &Table<'_>) -> IdleConnections {
    let mut idle = IdleConnections {
        max: 1024,
        timeout: Duration::from_secs(60),
        max_age: Duration::from_secs(3600),
    };
    let Some(table) = proxy.table("idle_connections") else { return idle };
    if let Some(max) = table.integer("max") {
        idle.max = usize::try_from(max.value).unwrap_or(idle.max);
    }
    idle.timeout = table.duration("timeout").unwrap_or(idle.timeout);
    idle.max_age = table.duration("max_age").unwrap_or(idle.max_age);
    table.finish();
    idle
}
