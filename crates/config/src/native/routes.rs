//! `[[sites.routes]]` and `[[sites.proxy.routes]]`, which are one list: which requests are taken, and
//! what becomes of them.

use crate::decode::{Context, Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{
    Bound, Files, Headers, Outcome, PathMatch, Pool, Route, RouteAction, RouteOrder, Split,
    UpstreamHttp, WebSocket,
};
use crate::pattern;
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::syntax::{authority, path, quoted};

use super::auth::{Asked, SetFields};
use super::conditions::{self, host_matches, methods, when};
use super::upstreams::Pools;
use super::{access, auth, cors, guards, headers, rate_limit};
use super::{split, websocket};

mod action;
mod connect;
mod hidden;
mod rewrite;

const MATCHES: &[&str] = &["prefix", "exact", "starts_with", "regex", "regex_ignore_case"];

pub(super) static ROUTES: Section = Section {
    path: "sites.routes",
    list: true,
    about: "Which requests are taken, and what becomes of them: exactly one of `upstream`, `root`, `redirect` and `status`. May be written as `[[sites.proxy.routes]]` as well; those come first.",
    keys: KEYS,
};

pub(super) static PROXY_ROUTES: Section = Section {
    path: "sites.proxy.routes",
    list: true,
    about: "The same as `[[sites.routes]]`. The longest path that matches wins; declared order breaks ties.",
    keys: KEYS,
};

const KEYS: &[crate::schema::Key] = &[
    now("name", Kind::Text, "none", "What `on_result` of other routes calls it."),
    now(
        "path",
        Kind::Text,
        "required, but for routes that others lead to",
        "Prefix of whole path segments: `/api` matches `/api` and `/api/x`, not `/apix`.",
    ),
    now(
        "match",
        Kind::Choice(MATCHES, &[]),
        "\"prefix\"",
        "What `path` is: `exact`, the whole path; `starts_with`, any characters at its beginning; a regular expression that is found in the path.",
    ),
    now(
        "before_regex",
        Kind::Bool,
        "false",
        "If it is the longest prefix, regular expressions are not asked.",
    ),
    now(
        "hosts",
        Kind::Texts,
        "all of the site",
        "Hosts it is for: a name, `*.example.com` or `example.*`.",
    ),
    now("hosts_regex", Kind::Texts, "none", "More of them, as regular expressions."),
    now(
        "methods",
        Kind::Texts,
        "all",
        "Methods it takes; others are answered 405 if no other route takes them.",
    ),
    now("when", Kind::Tables(&conditions::WHEN), "none", "What else a request has to be like."),
    now("any_header", Kind::Bool, "false", "Of the conditions about fields one is enough."),
    now("any_query", Kind::Bool, "false", "Of the conditions about the query one is enough."),
    now("upstream", Kind::Text, "none", "Name of the pool that requests go to."),
    now(
        "root",
        Kind::Text,
        "none",
        "Directory of files that answer: the whole path is looked up there, or what `strip_prefix` leaves.",
    ),
    now("index_files", Kind::Texts, "as for a site", "Names tried in a directory of `root`."),
    now(
        "spa_fallback",
        Kind::Text,
        "none",
        "File below `root` that answers, with 200, a GET for a page that does not exist.",
    ),
    now(
        "spa_exclude",
        Kind::Texts,
        "none",
        "Beginnings of paths that `spa_fallback` does not answer for: `[\"/api/\"]`.",
    ),
    now("cache_control", Kind::Text, "none", "`Cache-Control` of files below `root`."),
    now(
        "redirect",
        Kind::Text,
        "none",
        "Where clients are sent, with `status`: `$host`, `$path`, `$query`, `$uri` (path and query), `$scheme`, and `$1` for a group of a regular expression. The query is kept if it names none.",
    ),
    now(
        "status",
        Kind::Integer(200, 599),
        "302 for a redirect",
        "The status of the response; with neither `redirect` nor `upstream` nor `root` all there is to it.",
    ),
    now("body", Kind::Text, "none", "The content of a response with `status`."),
    now("content_type", Kind::Text, "\"text/plain; charset=utf-8\"", "`Content-Type` of `body`."),
    now("strip_prefix", Kind::Bool, "false", "Take `path` off before forwarding."),
    now(
        "rewrite_target",
        Kind::Text,
        "none",
        "Replaces the whole path (the query is kept); wins over `strip_prefix`.",
    ),
    now(
        "rewrite",
        Kind::Tables(&rewrite::REWRITE),
        "none",
        "Changes to the path after those two, in order.",
    ),
    now("set_method", Kind::Text, "the client's", "The method that the upstream gets."),
    now("set_host", Kind::Text, "none", "The `Host` that the upstream gets."),
    now(
        "headers",
        Kind::Table(&headers::OF_A_ROUTE),
        "",
        "Changes to messages, after those of `[sites.proxy.headers]`.",
    ),
    now("request_headers", Kind::Table(&headers::REQUEST_OF_A_ROUTE), "", "Changes to requests."),
    now(
        "response_headers",
        Kind::TableOrTables(&headers::RESPONSE_OF_A_ROUTE),
        "",
        "Changes to responses.",
    ),
    now(
        "websocket",
        Kind::BoolOrTable(&websocket::OF_A_ROUTE),
        "false",
        "Allow `Upgrade: websocket`; other routes answer it as plain HTTP. A table allows it, too, and takes the place of `[sites.proxy.websocket]`.",
    ),
    now(
        "rewrite_location",
        Kind::Bool,
        "false",
        "Make URLs of the upstream in `Location`, `Content-Location` and `URI` those that clients see.",
    ),
    now(
        "redirect_slash",
        Kind::Bool,
        "false",
        "301 a request for `/x` to `/x/` when `path` is `/x/`.",
    ),
    now(
        "max_request_size",
        Kind::Bound,
        "`security.max_request_size`",
        "Longest request body; more is 413.",
    ),
    now(
        "max_response_size",
        Kind::Bound,
        "\"unlimited\"",
        "Longest body of an upstream's response.",
    ),
    now(
        "access",
        Kind::TableOrTables(&access::OF_A_ROUTE),
        "everybody whom the site admits",
        "Who may use it, by the client's address.",
    ),
    now(
        "access_control",
        Kind::Table(&cors::OF_A_ROUTE),
        "as for the site",
        "Requests that pages of other origins make (CORS).",
    )
    .or(&["cors"]),
    now(
        "rate_limit",
        Kind::TableOrTables(&rate_limit::OF_A_ROUTE),
        "none",
        "How many requests it takes in a time, beside what the site says.",
    ),
    now(
        "auth",
        Kind::TableOrTables(&auth::OF_A_ROUTE),
        "nothing but what the site asks for",
        "What its requests have to prove, beside what the site asks for.",
    ),
    now(
        "redirects",
        Kind::Tables(&action::REDIRECTS_OF),
        "none",
        "Redirects of some of its requests, looked at before the action.",
    ),
    now("split", Kind::Tables(&split::SPLIT), "none", "Other pools for some of its requests."),
    now("mirror", Kind::Table(&split::MIRROR), "none", "A pool that gets copies of requests."),
    now(
        "failure_statuses",
        Kind::Statuses,
        "\"5xx\"",
        "Statuses of an upstream that stand for failure, in `on_result` and in `when` of response headers.",
    ),
    now(
        "on_result",
        Kind::Map,
        "empty",
        "The `name` of the route that takes over when a request ends so, or `\"end\"`: `unreachable = \"fallback\"`. There are `denied`, `unauthorized`, `rate_limited`, `preflight`, `redirected`, `unreachable`, `timeout`, `no_endpoint`, `circuit_open`, `failure_status` and `client_error`.",
    ),
];

/// What routes may refer to.
pub(super) struct Site<'t> {
    /// The pools of the site's proxy.
    pub(super) pools: &'t Pools,
    /// What its proxy does to fields.
    pub(super) headers: &'t Headers,
    /// What holds for WebSockets of routes that say nothing themselves.
    pub(super) websocket: &'t WebSocket,
    /// How its files are served.
    pub(super) files: Option<&'t Files>,
    /// In which order its routes are asked.
    pub(super) order: RouteOrder,
    /// Its proxy is enabled.
    pub(super) proxies: bool,
    /// What it asks clients to prove.
    pub(super) auth: &'t Asked<'t>,
}

/// Decodes the routes of a site.
pub(super) fn decode(tables: Vec<Table<'_>>, site: &Site<'_>) -> Vec<Route> {
    let mut drafts = Vec::new();
    for table in tables {
        let (context, place) = (table.context(), table.span);
        let Some(draft) = route(context, table, site) else { continue };
        drafts.push((draft, place));
    }
    hidden::report(&drafts, site.order);
    let mut routes = connect::connect(drafts, site.auth);
    // Those of a proxy that is off were only checked.
    if !site.proxies {
        routes.retain(|route| !matches!(route.action, RouteAction::Upstream(_)));
        for route in &mut routes {
            route.on_result.clear();
            route.split.clear();
            route.mirror = None;
        }
    }
    routes
}

/// A route whose `on_result` is still names.
struct Draft<'n> {
    context: &'n Context<'n>,
    route: Route,
    name: Option<Spanned<&'n str>>,
    on_result: Vec<(Outcome, Spanned<&'n str>)>,
    auth: Asked<'n>,
    set: SetFields<'n>,
}

fn route<'n>(context: &'n Context<'n>, table: Table<'n>, site: &Site<'_>) -> Option<Draft<'n>> {
    let name = table.text("name");
    let path = path_match(&table, name.is_some());
    let action = action::decode(&table, site);
    let websocket = takes_websockets(&table, site, action.as_ref());
    let split = split_pools(&table, site, websocket.is_some());
    let mirror = mirror_pool(&table, site);
    action::report_for_nothing(&table, action.as_ref());
    let (headers, response_when) = headers::of_a_route(&table, site.headers);
    let route = Route {
        name: name.map(|name| name.value.to_owned()),
        path: PathMatch::Never,
        before_regex: table.boolean("before_regex").unwrap_or(false),
        hosts: host_matches(&table),
        methods: methods(&table),
        when: when(&table),
        action: RouteAction::Upstream(0),
        strip_prefix: table.boolean("strip_prefix").unwrap_or(false),
        rewrite_target: table
            .text("rewrite_target")
            .and_then(|text| checked_path(context, "rewrite_target", text)),
        rewrite: table.tables("rewrite").into_iter().filter_map(rewrite::decode).collect(),
        set_method: table.text("set_method").and_then(|text| conditions::method(context, text)),
        set_host: table.text("set_host").and_then(|text| set_host(context, text)),
        headers,
        websocket,
        redirect_slash: table.boolean("redirect_slash").unwrap_or(false),
        rewrite_location: table.boolean("rewrite_location").unwrap_or(false),
        max_request_size: table.bound("max_request_size"),
        max_response_size: match table.bound("max_response_size") {
            Bound::Bytes(bytes) => Some(bytes),
            Bound::Inherited | Bound::Unlimited => None,
        },
        guards: guards::decode(&table),
        redirects: table.tables("redirects").into_iter().filter_map(action::redirect).collect(),
        split,
        mirror,
        response_when,
        failure_statuses: table
            .statuses("failure_statuses")
            .unwrap_or_else(|| Route::FAILURES.to_vec()),
        on_result: Vec::new(),
    };
    let on_result = connect::on_result(&table);
    let (auth, set) = (Asked::of(&table), SetFields::of(&table));
    table.finish();
    let route = Route { path: path?, action: action?, ..route };
    Some(Draft { context, route, name, on_result, auth, set })
}

fn path_match(table: &Table<'_>, has_name: bool) -> Option<PathMatch> {
    let context = table.context();
    let kind = table.choice("match").unwrap_or(MATCHES[0]);
    if !table.has("path") && has_name && !table.has("match") {
        return Some(PathMatch::Never);
    }
    table.require("path", "\"/api/\"");
    let text = table.text("path")?;
    let ignore_case = kind == "regex_ignore_case";
    if ignore_case || kind == "regex" {
        regex(context, "path", text)?;
        return Some(PathMatch::Regex { pattern: text.value.to_owned(), ignore_case });
    }
    let path = checked_path(context, "path", text)?;
    if path.contains('*') {
        wildcard(context, text);
    }
    Some(match kind {
        "exact" => PathMatch::Exact(path),
        "starts_with" => PathMatch::StartsWith(path),
        _ => PathMatch::Prefix(path),
    })
}

fn takes_websockets(
    table: &Table<'_>,
    site: &Site<'_>,
    action: Option<&RouteAction>,
) -> Option<WebSocket> {
    let (websocket, own) = websocket::of_route(table);
    if let (true, Some(entry), Some(RouteAction::Upstream(index))) =
        (websocket, table.peek("websocket"), action)
        && site.pools.pools.get(*index).is_some_and(speaks_http2)
    {
        table.context().push(
            Diagnostic::error(
                Code::Conflict,
                entry.key_span,
                "a WebSocket route needs an HTTP/1.1 upstream",
            )
            .label("its upstream is spoken to in HTTP/2 (`h2` or `h2c`)")
            .help("give the route an upstream of its own with `http://` or `https://`"),
        );
    }
    websocket.then(|| own.unwrap_or_else(|| site.websocket.clone()))
}

fn speaks_http2(pool: &Pool) -> bool {
    pool.upstreams.iter().any(|member| member.transport.http == UpstreamHttp::Http2)
}

/// Where a pool is named in a table of its own.
fn named(table: &Table<'_>) -> Span {
    table.peek("upstream").map_or(table.span, |entry| entry.node.span)
}

/// The pools that get some of its requests. WebSockets may be among these.
fn split_pools(table: &Table<'_>, site: &Site<'_>, websocket: bool) -> Vec<Split> {
    let context = table.context();
    let decode = |table: Table<'_>| {
        let place = named(&table);
        let split = split::decode(table, site.pools)?;
        if websocket && site.pools.pools.get(split.pool).is_some_and(speaks_http2) {
            let message = "a WebSocket route needs HTTP/1.1 upstreams";
            context.push(
                Diagnostic::error(Code::Conflict, place, message)
                    .label("this one is spoken to in HTTP/2 (`h2` or `h2c`)")
                    .help("give WebSockets a route of their own, without this `split`"),
            );
        }
        Some(split)
    };
    table.tables("split").into_iter().filter_map(decode).collect()
}

/// The pool that gets copies of its requests.
fn mirror_pool(table: &Table<'_>, site: &Site<'_>) -> Option<Split> {
    let context = table.context();
    let table = table.table("mirror")?;
    let place = named(&table);
    let mirror = split::decode(table, site.pools)?;
    if site.pools.pools.get(mirror.pool).is_some_and(speaks_http2) {
        context.push(
            Diagnostic::warning(Code::Unused, place, "copies are sent in HTTP/1.1 only")
                .label("upstreams with `h2` or `h2c` get none")
                .help("give the copies an upstream with `http://` or `https://`"),
        );
    }
    Some(mirror)
}

/// A regular expression that compiles.
pub(super) fn regex(context: &Context<'_>, key: &str, text: Spanned<&str>) -> Option<String> {
    match pattern::compile(text.value) {
        Ok(_) => Some(text.value.to_owned()),
        Err(reason) => {
            context.push(context.bad(key, text.span, &reason));
            None
        }
    }
}

fn set_host(context: &Context<'_>, text: Spanned<&str>) -> Option<String> {
    match authority(text.value, 80) {
        Ok(_) => Some(text.value.to_owned()),
        Err(reason) => {
            context.push(context.bad("set_host", text.span, &reason));
            None
        }
    }
}

pub(super) fn checked_path(
    context: &Context<'_>,
    key: &str,
    text: Spanned<&str>,
) -> Option<String> {
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
    if context.is_full() {
        return;
    }
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
