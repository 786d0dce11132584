//! `[[sites]]`: one virtual host.

use crate::decode::{Context, Spanned, Switch, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{HostPattern, Listen, ProxyStatus, RouteOrder, Site};
use crate::schema::{Kind, Section, later, now};
use crate::source::Span;
use crate::syntax::{host_pattern, listen};

use super::ssl::{self, Ssl};
use super::{
    access, auth, connections, cors, files, guards, headers, later as not_yet, proxy, rate_limit,
    routes,
};

/// HSTS (RFC 6797).
const TRANSPORT_SECURITY: &str = "Strict-Transport-Security";

pub(super) static SITES: Section = Section {
    path: "sites",
    list: true,
    about: "One virtual host.",
    keys: &[
        now("name", Kind::Text, "required", "The operator's name for it; appears in logs."),
        now(
            "hostname",
            Kind::Text,
            "required",
            "Host it answers to: a name, an IP address, `*.example.com` (one or more labels before it), or `*` for any.",
        ),
        now("hostnames", Kind::Texts, "[]", "More hosts it answers to."),
        now(
            "port",
            Kind::Integer(1, 65535),
            "required without `listen`",
            "Port to listen at, on every address of the machine, IPv6 and IPv4.",
        ),
        now(
            "listen",
            Kind::Texts,
            "required without `port`",
            "Where to listen, in the place of `port`: `\"127.0.0.1:80\"`, `\"[::1]:80\"`, `\":80\"` for every address, `\"unix:/path\"`; port 0 is a free one.",
        ),
        now(
            "default",
            Kind::Bool,
            "the first site of a listener",
            "Takes requests of its listeners that no other site's host matches. At most one site of a listener.",
        ),
        now(
            "static_dir",
            Kind::Text,
            "no files",
            "Directory of files to serve for paths that no route takes.",
        ),
        now(
            "index_files",
            Kind::Texts,
            "[\"index.html\", \"index.htm\"]",
            "Names tried in a directory, in order.",
        ),
        now(
            "error_pages",
            Kind::Map,
            "empty",
            "Pages for error statuses, below `static_dir`: `404 = \"404.html\"`.",
        ),
        now(
            "spa_fallback",
            Kind::Text,
            "none",
            "File below `static_dir` that answers, with 200, a GET for a page that does not exist.",
        ),
        now(
            "spa_exclude",
            Kind::Texts,
            "none",
            "Beginnings of paths that `spa_fallback` does not answer for: `[\"/api/\"]`.",
        ),
        now(
            "follow_symlinks",
            Kind::Bool,
            "false",
            "Serve what a symbolic link outside of `static_dir` points to.",
        ),
        now(
            "headers",
            Kind::Map,
            "empty",
            "Fields set on every response of the site, as `name = \"value\"`.",
        ),
        now(
            "redirect_to_https",
            Kind::BoolOrNumber(&[301, 308]),
            "false",
            "Redirect every plain request to the same URL under `https`, with the status 301 or this one; with 308 clients repeat the method and the body.",
        ),
        now(
            "h2c",
            Kind::Bool,
            "false",
            "Take HTTP/2 without TLS from clients that begin with its preface (RFC 9113 §3.3), beside HTTP/1.",
        ),
        now(
            "proxy_protocol",
            Kind::Bool,
            "false",
            "Connections begin with a PROXY protocol header, version 1 or 2, which only `security.trusted_proxies` may send; others are closed.",
        ),
        connections::KEEP_ALIVE,
        connections::KEEP_ALIVE_TIMEOUT,
        connections::MAX_CONNECTIONS,
        connections::BACKLOG,
        now(
            "routes",
            Kind::Tables(&routes::ROUTES),
            "none",
            "Which requests are taken by what; files of `static_dir` have the others.",
        ),
        now(
            "route_order",
            Kind::Choice(&["longest", "declared"], &[]),
            "\"longest\"",
            "Which of the routes that match takes a request: an exact path, then the longest prefix if it has `before_regex`, then regular expressions as declared, then the longest prefix; or the first that is declared.",
        ),
        now(
            "mismatch",
            Kind::Integer(400, 400),
            "none",
            "`400`: answer requests so that a route would take but for its conditions on fields and query; without it they are treated as if the route were not there.",
        ),
        now(
            "health",
            Kind::Bool,
            "true",
            "Answer `/api/health` and the pages below it. Off, those paths are like any other.",
        ),
        now(
            "proxy_status",
            Kind::BoolOrText,
            "false",
            "Say in the field `Proxy-Status` (RFC 9209) of responses who gave them, and what went wrong; `\"details\"`: also Ravelin's own name for that.",
        ),
        now(
            "access",
            Kind::TableOrTables(&access::SECTION),
            "everybody",
            "Who may come in, by the client's address.",
        ),
        now(
            "access_control",
            Kind::Table(&cors::SECTION),
            "",
            "Requests that pages of other origins make (CORS).",
        )
        .or(&["cors"]),
        now(
            "rate_limit",
            Kind::TableOrTables(&rate_limit::SECTION),
            "none",
            "How many requests are taken in a time.",
        ),
        now(
            "auth",
            Kind::TableOrTables(&auth::AUTH),
            "nothing",
            "What requests have to prove: name and password, a signed token, fields.",
        ),
        now("cache", Kind::Table(&files::CACHE), "", "What responses say about caching."),
        now("proxy", Kind::Table(&proxy::PROXY), "", "The proxy part."),
        now("ssl", Kind::Table(&ssl::SSL), "", "TLS."),
        later("api_only", Kind::Bool, "false", "The site has no pages."),
        later("compression", Kind::Table(&not_yet::COMPRESSION), "", "Compression."),
    ],
};

/// A site, and the places that are needed to speak about it together with others.
pub(super) struct Draft {
    pub(super) site: Site,
    /// Where each of the site's hosts is written.
    pub(super) hosts: Vec<Span>,
    /// Where each of the site's listeners is written.
    pub(super) listen: Vec<Span>,
    /// Where `default = true` is written.
    pub(super) default: Option<Span>,
    /// Where `proxy_protocol = true` is written.
    pub(super) proxy_protocol: Option<Span>,
    /// Where it says what of connections.
    pub(super) connections: connections::Written,
}

/// Decodes one site.
pub(super) fn decode(table: Table<'_>) -> Draft {
    let context = table.context();
    table.require("name", "\"main\"");
    table.require("hostname", "\"example.com\"");
    let name = table.text("name");
    if let Some(name) = name.filter(|name| name.value.is_empty()) {
        context.push(context.bad("name", name.span, "must not be empty"));
    }
    let name = name.map_or("", |name| name.value).to_owned();
    let (hosts, host_places) = hosts(&table);
    let (listeners, listen_places) = listeners(&table);
    let default = place_if_true(&table, "default");
    let proxy_protocol = place_if_true(&table, "proxy_protocol");
    let mut response_headers = headers::plain(&table, "headers");
    let ssl = ssl::decode(&table, &hosts, &host_places);
    let http2_cleartext = cleartext(&table, &ssl);
    let http2 = http2_cleartext || ssl.tls.as_ref().is_some_and(|tls| tls.policy.http2);
    let (connections, connection_places) = connections::decode(&table, http2);
    if let Some(policy) = ssl.transport_security {
        not_twice(&table, policy.span);
        response_headers.push((TRANSPORT_SECURITY.to_owned(), policy.value));
    }
    let files = files::decode(&table);
    let mut proxy = proxy::decode(&table);
    let route_order = match table.choice("route_order") {
        Some("declared") => RouteOrder::Declared,
        _ => RouteOrder::Longest,
    };
    let mut tables = std::mem::take(&mut proxy.routes);
    tables.extend(table.tables("routes"));
    let asked = auth::Asked::of(&table);
    let refers = routes::Site {
        pools: &proxy.pools,
        headers: &proxy.headers,
        websocket: &proxy.websocket,
        files: files.as_ref(),
        order: route_order,
        proxies: proxy.proxy.is_some(),
        auth: &asked,
    };
    let mut routes = routes::decode(tables, &refers);
    proxy.complete(&table, &mut routes);
    let site = Site {
        hosts,
        listen: listeners,
        default: default.is_some(),
        tls: ssl.tls,
        http2_cleartext,
        proxy_protocol: proxy_protocol.is_some(),
        connections,
        redirect_to_https: redirect_to_https(&table),
        guards: guards::decode(&table),
        files,
        health: table.boolean("health").unwrap_or(true),
        response_headers,
        routes,
        route_order,
        mismatch_is_error: table.integer("mismatch").is_some(),
        proxy_status: proxy_status(&table),
        proxy: proxy.finish(),
        name,
    };
    if !table.has_or_means("static_dir")
        && !table.has_or_means("proxy")
        && !table.has_or_means("routes")
        && table.peek("redirect_to_https").is_none_or(|entry| entry.node.value.is_off())
    {
        context.push(
            Diagnostic::warning(
                Code::Unused,
                table.span,
                format!("site `{}` serves nothing", site.name),
            )
            .label("every request is answered 404")
            .help("give it `static_dir = \"…\"` or `[sites.proxy]`"),
        );
    }
    table.finish();
    Draft {
        site,
        hosts: host_places,
        listen: listen_places,
        default,
        proxy_protocol,
        connections: connection_places,
    }
}

fn proxy_status(table: &Table<'_>) -> ProxyStatus {
    match table.switch("proxy_status") {
        None | Some(Switch::Bool(false)) => ProxyStatus::Off,
        Some(Switch::Text(text)) if text.value == "details" => ProxyStatus::Details,
        Some(Switch::Text(text)) => {
            let reason = "expected `true`, `false` or \"details\"";
            table.context().push(table.context().bad("proxy_status", text.span, reason));
            ProxyStatus::Off
        }
        Some(_) => ProxyStatus::On,
    }
}

fn redirect_to_https(table: &Table<'_>) -> Option<u16> {
    match table.switch("redirect_to_https")? {
        Switch::Bool(true) => Some(301),
        Switch::Number(status) => Some(status),
        Switch::Bool(false) | Switch::Text(_) => None,
    }
}

/// `hsts` and a field of the site's own cannot both be what is sent.
fn not_twice(table: &Table<'_>, hsts: Span) {
    let mut fields = table.map("headers").iter();
    if let Some(field) = fields.find(|field| field.key.eq_ignore_ascii_case(TRANSPORT_SECURITY)) {
        let message = format!("`{TRANSPORT_SECURITY}` is set twice");
        table.context().push(
            Diagnostic::error(Code::Conflict, hsts, message)
                .label("sets it")
                .also(field.key_span, "sets it too")
                .help("keep `hsts`, which never goes out over plain HTTP"),
        );
    }
}

/// `h2c`, which is for plain listeners only.
fn cleartext(table: &Table<'_>, ssl: &Ssl) -> bool {
    let wanted = table.boolean("h2c").unwrap_or(false);
    if let (true, Some(_), Some(entry)) = (wanted, &ssl.tls, table.peek("h2c")) {
        table.context().push(
            Diagnostic::error(Code::Conflict, entry.key_span, "`h2c` on a site with TLS")
                .label("is HTTP/2 without TLS")
                .help("take it out: with TLS, HTTP/2 is offered unless `http2 = false` in `[sites.ssl]`"),
        );
    }
    wanted && ssl.tls.is_none()
}

/// Where a key is written that is `true`.
fn place_if_true(table: &Table<'_>, name: &'static str) -> Option<Span> {
    let on = table.boolean(name).unwrap_or(false);
    table.peek(name).filter(|_| on).map(|entry| entry.node.span)
}

fn hosts(table: &Table<'_>) -> (Vec<HostPattern>, Vec<Span>) {
    let context = table.context();
    let first = table.text("hostname").map(|host| ("hostname", host));
    let more =
        table.texts("hostnames").unwrap_or_default().into_iter().map(|host| ("hostnames", host));
    let (mut hosts, mut places) = (Vec::new(), Vec::new());
    for (key, text) in first.into_iter().chain(more) {
        match host_pattern(text.value) {
            Ok(host) if hosts.contains(&host) => {} // the same host once more changes nothing
            Ok(host) => {
                hosts.push(host);
                places.push(text.span);
            }
            Err(hint) => context.push_hint(key, text.span, hint),
        }
    }
    (hosts, places)
}

fn listeners(table: &Table<'_>) -> (Vec<Listen>, Vec<Span>) {
    let context = table.context();
    let port = table.integer("port");
    let texts = table.texts("listen");
    if let (Some(port), Some(entry)) = (table.peek("port"), table.peek("listen")) {
        context.push(
            Diagnostic::error(Code::Conflict, port.key_span, "`port` and `listen` are both set")
                .label("listens at this port of every address")
                .also(entry.key_span, "listens at these addresses")
                .help("keep one of them; `listen = [\":80\"]` is the same as `port = 80`"),
        );
    }
    if !table.has_or_means("port") && !table.has_or_means("listen") {
        table.require("port", "80");
    }
    let mut found: Vec<(Listen, Span)> = Vec::new();
    if let Some(port) = port {
        found
            .extend(u16::try_from(port.value).ok().map(|number| (Listen::Port(number), port.span)));
    }
    if let Some(entry) = table.peek("listen").filter(|_| texts.as_ref().is_some_and(Vec::is_empty))
    {
        context.push(context.bad("listen", entry.node.span, "must name at least one address"));
    }
    for text in texts.unwrap_or_default() {
        address(context, text, &mut found);
    }
    found.into_iter().unzip()
}

fn address(context: &Context<'_>, text: Spanned<&str>, found: &mut Vec<(Listen, Span)>) {
    match listen(text.value) {
        Ok(listen) if found.iter().any(|(other, _)| *other == listen) => {}
        Ok(listen) => found.push((listen, text.span)),
        Err(hint) => context.push_hint("listen", text.span, hint),
    }
}
