//! `[[sites.routes]]` and `[[sites.proxy.routes]]`, which are one list: which requests are taken, and
//! what becomes of them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::decode::{Context, Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{
    Bound, Files, Headers, Outcome, PathMatch, Redirect, Rewrite, Route, RouteAction, RouteOrder,
    UpstreamHttp, UrlPart, WebSocket,
};
use crate::pattern;
use crate::prefixes::Prefixes;
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::syntax::{authority, path, quoted, request_target};

use super::auth::{Asked, SetFields};
use super::conditions::{self, host_matches, methods, when};
use super::upstreams::Pools;
use super::{access, auth, cors, guards, headers, rate_limit};
use super::{files, split, websocket};

/// Statuses of redirects, the default first.
const REDIRECTS: &[u16] = &[302, 301, 303, 307, 308];

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
        Kind::Tables(&REWRITE),
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
        Kind::Tables(&REDIRECTS_OF),
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

static REWRITE: Section = Section {
    path: "sites.routes.rewrite",
    list: true,
    about: "One change to a path.",
    keys: &[
        now("trim_prefix", Kind::Text, "none", "Taken off the beginning."),
        now("add_prefix", Kind::Text, "none", "Put before it."),
        now(
            "replace_prefix",
            Kind::Text,
            "none",
            "If it begins with this, `with` takes its place.",
        ),
        now(
            "with",
            Kind::Text,
            "empty",
            "What takes the place of what was matched; `$1` is a group.",
        ),
        now("replace", Kind::Text, "none", "Takes the place of the whole path."),
        now("regex", Kind::Text, "none", "Whatever it matches is replaced by `with`."),
    ],
};

static REDIRECTS_OF: Section = Section {
    path: "sites.routes.redirects",
    list: true,
    about: "One redirect of some requests.",
    keys: &[
        now("regex", Kind::Text, "required", "Requests in whose URL it is found are redirected."),
        now(
            "of",
            Kind::Choice(PARTS, &[]),
            "\"uri\"",
            "The part of the URL: `uri` is path and query.",
        ),
        now(
            "to",
            Kind::Text,
            "required",
            "What takes the place of what it matched; `$1` is a group.",
        ),
        now("status", Kind::Integer(301, 308), "302", "301, 302, 303, 307 or 308."),
    ],
};

const PARTS: &[&str] = &["uri", "path", "full"];

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
    same_paths(&drafts, site.order);
    let mut routes = connect(drafts, site.auth);
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
    let action = action(&table, site);
    let websocket = takes_websockets(&table, site, action.as_ref());
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
        rewrite: table.tables("rewrite").into_iter().filter_map(rewrite).collect(),
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
        redirects: table.tables("redirects").into_iter().filter_map(redirect).collect(),
        split: table
            .tables("split")
            .into_iter()
            .filter_map(|t| split::decode(t, site.pools))
            .collect(),
        mirror: table.table("mirror").and_then(|table| split::decode(table, site.pools)),
        response_when,
        failure_statuses: table
            .statuses("failure_statuses")
            .unwrap_or_else(|| Route::FAILURES.to_vec()),
        on_result: Vec::new(),
    };
    let on_result = on_result(&table);
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

/// The one thing that becomes of requests.
fn action(table: &Table<'_>, site: &Site<'_>) -> Option<RouteAction> {
    let context = table.context();
    let upstream = table.text("upstream");
    let root = table.peek("root");
    let redirect = table.text("redirect");
    let status = table.integer("status");
    let body = table.text("body");
    let content_type = table.text("content_type");
    let files = files::of_a_route(table, site.files);
    let written: Vec<Span> = [
        table.peek("upstream").map(|entry| entry.key_span),
        root.map(|entry| entry.key_span),
        table.peek("redirect").map(|entry| entry.key_span),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let [first, second, ..] = written[..] {
        context.push(
            Diagnostic::error(Code::Conflict, second, "a route does one thing")
                .label("another one")
                .also(first, "one")
                .help("keep one of `upstream`, `root`, `redirect` and `status`"),
        );
        return None;
    }
    if let (None, Some(body)) = (status, body.or(content_type)) {
        let message = "a body without a status";
        context.push(
            Diagnostic::error(Code::MissingKey, body.span, message)
                .label("never sent")
                .help("add `status = 200`"),
        );
    }
    let number = status.and_then(|status| u16::try_from(status.value).ok());
    if let Some(upstream) = upstream {
        unused_status(context, status);
        return pool(context, upstream, site.pools).map(RouteAction::Upstream);
    }
    if root.is_some() {
        unused_status(context, status);
        return files.map(RouteAction::Files);
    }
    if let Some(to) = redirect {
        let status = redirect_status(context, status)?;
        return target(context, "redirect", to).map(|to| RouteAction::Redirect { to, status });
    }
    if table.has_or_means("redirect") || table.has_or_means("upstream") {
        return None;
    }
    let Some(status) = number else {
        if !table.has_or_means("status") {
            table.require("upstream", "\"backend\"");
        }
        return None;
    };
    let content_type = content_type
        .and_then(|text| field_text(context, "content_type", text))
        .unwrap_or_else(|| "text/plain; charset=utf-8".to_owned());
    Some(RouteAction::Respond {
        status,
        body: body.map(|body| body.value.to_owned()),
        content_type,
    })
}

fn field_text(context: &Context<'_>, key: &str, text: Spanned<&str>) -> Option<String> {
    match crate::syntax::field_value(text.value) {
        Ok(value) => Some(value.to_owned()),
        Err(reason) => {
            context.push(context.bad(key, text.span, &reason));
            None
        }
    }
}

fn unused_status(context: &Context<'_>, status: Option<Spanned<i64>>) {
    if let Some(status) = status {
        context.push(
            Diagnostic::error(Code::Conflict, status.span, "`status` where something else answers")
                .label("only for `redirect`, or alone")
                .help("take it out, or make it the only thing that the route does"),
        );
    }
}

fn redirect_status(context: &Context<'_>, status: Option<Spanned<i64>>) -> Option<u16> {
    let Some(status) = status else { return REDIRECTS.first().copied() };
    let found = REDIRECTS.iter().copied().find(|known| i64::from(*known) == status.value);
    if found.is_none() {
        let reason = "a redirect has 301, 302, 303, 307 or 308";
        context.push(context.bad("status", status.span, reason));
    }
    found
}

/// A URL with placeholders, as far as it can be checked: it can be sent in a field.
fn target(context: &Context<'_>, key: &str, text: Spanned<&str>) -> Option<String> {
    let value = field_text(context, key, text)?;
    let begins = ["/", "http://", "https://", "$"].iter().any(|begin| value.starts_with(begin));
    if !begins || value.contains(' ') {
        let reason = "expected a URL such as \"https://example.com$uri\", or a path";
        context.push(context.bad(key, text.span, reason));
        return None;
    }
    Some(value)
}

fn pool(context: &Context<'_>, name: Spanned<&str>, pools: &Pools) -> Option<usize> {
    let pool = pools.find(name.value);
    if pool.is_none() && !pools.incomplete {
        unknown_upstream(context, name, pools);
    }
    pool
}

fn takes_websockets(
    table: &Table<'_>,
    site: &Site<'_>,
    action: Option<&RouteAction>,
) -> Option<WebSocket> {
    let (websocket, own) = websocket::of_route(table);
    if let (true, Some(entry), Some(RouteAction::Upstream(index))) =
        (websocket, table.peek("websocket"), action)
    {
        let pool = site.pools.pools.get(*index);
        let members = pool.map(|pool| &pool.upstreams[..]).unwrap_or_default();
        if members.iter().any(|member| member.transport.http == UpstreamHttp::Http2) {
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
    }
    websocket.then(|| own.unwrap_or_else(|| site.websocket.clone()))
}

fn rewrite(table: Table<'_>) -> Option<Rewrite> {
    let context = table.context();
    let with = table.text("with");
    let mut found: Vec<(Rewrite, Span)> = Vec::new();
    let mut add = |text: Option<Spanned<&str>>, make: &dyn Fn(String) -> Rewrite| {
        if let Some(text) = text {
            found.push((make(text.value.to_owned()), text.span));
        }
    };
    let by = with.map_or("", |with| with.value).to_owned();
    add(table.text("trim_prefix"), &Rewrite::TrimPrefix);
    add(table.text("add_prefix"), &Rewrite::AddPrefix);
    add(table.text("replace"), &Rewrite::Replace);
    add(table.text("replace_prefix"), &|from| Rewrite::ReplacePrefix(from, by.clone()));
    let pattern = table.text("regex");
    add(pattern.filter(|text| regex(context, "regex", *text).is_some()), &|from| {
        Rewrite::Regex(from, by.clone())
    });
    let place = table.span;
    let broken = ["trim_prefix", "add_prefix", "replace", "replace_prefix", "regex"];
    let written = broken.iter().filter(|key| table.has(key)).count();
    table.finish();
    if written != 1 {
        let message = match written {
            0 => "a change of a path that changes nothing",
            _ => "two changes of a path in one table",
        };
        context.push(Diagnostic::error(Code::BadValue, place, message).label(
            "needs one of `trim_prefix`, `add_prefix`, `replace`, `replace_prefix` and `regex`",
        ));
        return None;
    }
    let (rewrite, span) = found.pop()?;
    // What is sent must be a request target; groups of regular expressions are parts of one.
    let text = match &rewrite {
        Rewrite::Regex(_, text) => text,
        Rewrite::AddPrefix(text) | Rewrite::Replace(text) | Rewrite::ReplacePrefix(_, text) => text,
        Rewrite::TrimPrefix(_) => "/",
    };
    let text = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    if let Err(reason) = request_target(&text) {
        context.push(context.bad("rewrite", span, &reason));
        return None;
    }
    Some(rewrite)
}

fn redirect(table: Table<'_>) -> Option<Redirect> {
    let context = table.context();
    table.require("regex", "\"^/old/(.*)$\"");
    table.require("to", "\"/new/$1\"");
    let pattern = table.text("regex").and_then(|text| regex(context, "regex", text));
    let to = table.text("to").and_then(|text| field_text(context, "to", text));
    let of = match table.choice("of") {
        Some("path") => UrlPart::Path,
        Some("full") => UrlPart::Full,
        _ => UrlPart::Uri,
    };
    let status = redirect_status(context, table.integer("status"));
    table.finish();
    Some(Redirect { of, regex: pattern?, to: to?, status: status? })
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

fn on_result<'n>(table: &Table<'n>) -> Vec<(Outcome, Spanned<&'n str>)> {
    let context = table.context();
    let mut found = Vec::new();
    for entry in table.map("on_result") {
        let Some(name) = context.text(&entry.key, &entry.node) else { continue };
        match Outcome::ALL.iter().find(|(word, _)| *word == entry.key) {
            Some((_, outcome)) => found.push((*outcome, name)),
            None => {
                let message =
                    format!("`{}` is no way for a request to end", entry.key.escape_debug());
                let error = Diagnostic::error(Code::BadValue, entry.key_span, message);
                let words = Outcome::ALL.iter().map(|(word, _)| *word);
                context.push(match nearest(&entry.key, words.clone()) {
                    Some(near) => error.suggest(
                        entry.key_span,
                        near.to_owned(),
                        format!("did you mean `{near}`?"),
                    ),
                    None => {
                        error.help(format!("there are {}", words.collect::<Vec<_>>().join(", ")))
                    }
                });
            }
        }
    }
    found
}

/// Finds the routes that others lead to; each must come later than the one that leads there, so that
/// no request goes round.
fn connect(mut drafts: Vec<(Draft<'_>, Span)>, site: &Asked<'_>) -> Vec<Route> {
    let mut names: HashMap<&str, (usize, Span)> = HashMap::new();
    for (index, (draft, _)) in drafts.iter().enumerate() {
        let Some(name) = draft.name else { continue };
        match names.entry(name.value) {
            Entry::Occupied(first) => {
                let message = format!("two routes have the name `{}`", name.value.escape_debug());
                draft.context.push(
                    Diagnostic::error(Code::DuplicateKey, name.span, message)
                        .label("again")
                        .also(first.get().1, "first here"),
                );
            }
            Entry::Vacant(free) => _ = free.insert((index, name.span)),
        }
    }
    let mut reached = vec![false; drafts.len()];
    // Routes that the site's `auth` lets strangers come to.
    let mut for_strangers = HashSet::new();
    for (index, (draft, _)) in drafts.iter_mut().enumerate() {
        for (outcome, name) in &draft.on_result {
            let target = match (name.value, names.get(name.value)) {
                ("end", _) => None,
                (_, Some((target, _))) if *target > index => Some(*target),
                _ if draft.context.is_full() => continue,
                (_, found) => {
                    let (message, label) = match found {
                        Some(_) => ("a route leads back", "this route comes before it"),
                        None => ("a route leads nowhere", "no route of the site has this name"),
                    };
                    let error = Diagnostic::error(Code::BadValue, name.span, message).label(label);
                    draft.context.push(match nearest(name.value, names.keys().copied()) {
                        Some(near) if found.is_none() => error.suggest(
                            name.span,
                            quoted(near),
                            format!("did you mean `{near}`?"),
                        ),
                        _ => error.help("`on_result` names a route further down, or `\"end\"`"),
                    });
                    continue;
                }
            };
            if let Some(reached) = target.and_then(|target| reached.get_mut(target)) {
                *reached = true;
            }
            if *outcome == Outcome::Unauthorized {
                for_strangers.extend(target);
            }
            draft.route.on_result.push((*outcome, target));
        }
    }
    for (index, ((draft, place), reached)) in drafts.iter().zip(reached).enumerate() {
        if !for_strangers.contains(&index) {
            draft.auth.report_beside(draft.context, site, &draft.set);
        }
        if draft.route.path == PathMatch::Never && !reached {
            let place = draft.name.map_or(*place, |name| name.span);
            draft.context.push(
                Diagnostic::warning(Code::Unused, place, "no request comes to this route")
                    .label("it has no `path`, and no `on_result` names it"),
            );
        }
    }
    drafts.into_iter().map(|(draft, _)| draft.route).collect()
}

/// Reports routes that never take a request because one before takes all of theirs.
fn same_paths(drafts: &[(Draft<'_>, Span)], order: RouteOrder) {
    let mut seen: HashMap<&PathMatch, Span> = HashMap::new();
    for (Draft { context, route, .. }, place) in drafts {
        if route.path == PathMatch::Never {
            continue;
        }
        if let Some(first) = seen.get(&route.path) {
            let message = format!("a second route for `{}`", route.path.text());
            context.push(
                Diagnostic::warning(Code::Unused, *place, message)
                    .label("never used: the first one takes every request")
                    .also(*first, "the first one"),
            );
        } else if takes_all(route) {
            seen.insert(&route.path, *place);
        }
    }
    // With routes asked as declared, a shorter prefix hides all that come behind it.
    if order == RouteOrder::Declared {
        hidden(drafts);
    }
}

/// Whether a route takes every request with a path of its own.
fn takes_all(route: &Route) -> bool {
    route.hosts.is_empty() && route.methods.is_empty() && route.when.conditions.is_empty()
}

fn hidden(drafts: &[(Draft<'_>, Span)]) {
    // By path, the number and the place of the first route that takes all below it.
    let mut before: Prefixes<(usize, Span)> = Prefixes::default();
    for (index, (Draft { context, route, .. }, place)) in drafts.iter().enumerate() {
        let PathMatch::Prefix(path) = &route.path else { continue };
        let shorter = before.of(path).filter(|(prefix, _)| {
            let rest = path.get(prefix.len()..).unwrap_or_default();
            !rest.is_empty() && (prefix.ends_with('/') || rest.starts_with('/'))
        });
        let earlier = shorter.filter_map(|(_, at)| at.first()).min_by_key(|(index, _)| *index);
        if let Some((_, first)) = earlier {
            context.push(
                Diagnostic::warning(Code::Unused, *place, format!("no request comes to `{path}`"))
                    .label("never used: routes are asked as declared")
                    .also(*first, "this one takes every request before"),
            );
        }
        if takes_all(route) && before.at(path).is_empty() {
            before.add(path, (index, *place));
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
