//! `[sites.proxy]`: pools, balancing and time limits.

use std::collections::HashSet;

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Headers, IdleConnections, Proxy, Route, Timeouts, WebSocket};
use crate::schema::{Kind, Section, now};

use super::auth::{Asked, SetFields};
use super::upstreams::{self, Pools};
use super::{
    balancing, breaker, buffering, capacity, health_check, outlier, pools, retry, websocket,
};

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
            Kind::Tables(&super::routes::PROXY_ROUTES),
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
        now(
            "websocket",
            Kind::Table(&websocket::SECTION),
            "",
            "What holds for the WebSockets of routes that say nothing themselves.",
        ),
    ],
};

static TIMEOUT: Section = Section {
    path: "sites.proxy.timeout",
    list: false,
    about: "How long each step of talking to an upstream may take; running out is 504.",
    keys: TIMEOUT_KEYS,
};

pub(super) static TIMEOUT_OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.timeout",
    list: false,
    about: "How long each step of talking to an upstream of this pool may take.",
    keys: TIMEOUT_KEYS,
};

const TIMEOUT_KEYS: &[crate::schema::Key] = &[
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
];

static IDLE: Section = Section {
    path: "sites.proxy.idle_connections",
    list: false,
    about: "Idle upstream connections kept for reuse.",
    keys: IDLE_KEYS,
};

pub(super) static IDLE_OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.idle_connections",
    list: false,
    about: "Idle upstream connections of this pool kept for reuse.",
    keys: IDLE_KEYS,
};

const IDLE_KEYS: &[crate::schema::Key] = &[
    now("max", Kind::Integer(0, IDLE_MAX), "1024", "For each endpoint and worker; 0 keeps none."),
    now("timeout", Kind::Duration(false), "60", "An idle connection is closed after this."),
    now("max_age", Kind::Duration(false), "\"1h\"", "A connection older than this is not reused."),
];

/// The proxy part of a site, and what its routes refer to.
pub(super) struct Decoded<'n> {
    /// The proxy, if it is enabled.
    pub(super) proxy: Option<Proxy>,
    /// Its pools, if it is enabled or not, with their places.
    pub(super) pools: Pools,
    /// Its routes, to be decoded with those of the site.
    pub(super) routes: Vec<Table<'n>>,
    /// What it does to fields.
    pub(super) headers: Headers,
    /// What holds for WebSockets of routes that say nothing themselves.
    pub(super) websocket: WebSocket,
    table: Option<Table<'n>>,
}

/// Decodes the proxy part; [`Decoded::complete`] has to follow.
pub(super) fn decode<'n>(site: &Table<'n>) -> Decoded<'n> {
    let Some(table) = site.table("proxy") else {
        let pools = Pools::default();
        let headers = super::headers::DEFAULT;
        let websocket = WebSocket::default();
        return Decoded { proxy: None, pools, routes: Vec::new(), headers, websocket, table: None };
    };
    let context = table.context();
    let enabled = table.boolean("enabled");
    let mut pools = upstreams::decode(context, table.tables("upstreams"));
    pools.incomplete |= !table.has("upstreams") && table.has_or_means("upstreams");
    let routes = table.tables("routes");
    pools::decode(&table, &mut pools);
    let headers = super::headers::decode(&table);
    SetFields::of(&table).report_at(context, &Asked::of(site));
    let websocket = websocket::decode(&table).unwrap_or_default();
    let proxy = Proxy {
        buffering: buffering::decode(&table),
        headers: headers.clone(),
        pools: pools.pools.clone(),
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
    let proxy = (enabled == Some(true)).then_some(proxy);
    Decoded { proxy, pools, routes, headers, websocket, table: Some(table) }
}

impl Decoded<'_> {
    /// Says what does not fit, now that the site's routes are known. A single pool without any route
    /// gets every path.
    pub(super) fn complete(&self, site: &Table<'_>, routes: &mut Vec<Route>) {
        let Some(table) = &self.table else { return };
        let written = table.has_or_means("routes") || site.has_or_means("routes");
        if !written && self.pools.pools.len() == 1 {
            routes.push(Route::every_path(&self.headers));
        }
        if self.proxy.is_some() {
            complete(table, &self.pools, routes, written);
        }
    }

    /// Looks at what was not taken.
    pub(super) fn finish(self) -> Option<Proxy> {
        if let Some(table) = self.table {
            table.finish();
        }
        self.proxy
    }
}

/// What an enabled proxy must have, and what it has for nothing.
fn complete(table: &Table<'_>, pools: &Pools, routes: &[Route], written: bool) {
    let context = table.context();
    if !table.has_or_means("upstreams") {
        context.push(
            Diagnostic::error(Code::MissingKey, table.span, "the proxy has no upstream")
                .label("enabled, but there is nowhere to send requests to")
                .help("add `[[sites.proxy.upstreams]]` with `name` and `url`"),
        );
        return;
    }
    if !written {
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
    unused_pools(context, pools, routes);
}

fn unused_pools(context: &Context<'_>, pools: &Pools, routes: &[Route]) {
    if routes.is_empty() {
        return;
    }
    let used: HashSet<usize> = routes.iter().flat_map(Route::pools).collect();
    for (index, (pool, place)) in pools.pools.iter().zip(&pools.places).enumerate() {
        if !used.contains(&index) {
            let message = format!("no route leads to the upstream `{}`", pool.name);
            context.push(Diagnostic::warning(Code::Unused, *place, message).label("never used"));
        }
    }
}

/// The time limits of a proxy or a pool, if it has the table.
pub(super) fn timeouts(parent: &Table<'_>) -> Option<Timeouts> {
    let table = parent.table("timeout")?;
    let mut timeouts = Timeouts::default();
    timeouts.connect = table.duration("connect").unwrap_or(timeouts.connect);
    timeouts.read = table.duration("read").unwrap_or(timeouts.read);
    timeouts.first_byte = table.duration("first_byte").unwrap_or(timeouts.read);
    timeouts.write = table.duration("write").unwrap_or(timeouts.write);
    timeouts.tunnel = table.duration("tunnel").unwrap_or(timeouts.tunnel);
    timeouts.request = table.duration("request");
    table.finish();
    Some(timeouts)
}

/// The idle connections of a proxy or a pool, if it has the table.
pub(super) fn idle(parent: &Table<'_>) -> Option<IdleConnections> {
    let table = parent.table("idle_connections")?;
    let mut idle = IdleConnections::default();
    if let Some(max) = table.integer("max") {
        idle.max = usize::try_from(max.value).unwrap_or(idle.max);
    }
    idle.timeout = table.duration("timeout").unwrap_or(idle.timeout);
    idle.max_age = table.duration("max_age").unwrap_or(idle.max_age);
    table.finish();
    Some(idle)
}
