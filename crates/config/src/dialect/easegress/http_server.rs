//! `kind: HTTPServer`: one listener with rules becomes one native site.

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, list, number, text};
use crate::dialect::never_open;
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::tree::Node;

use super::certificates::Manager;
use super::notes::{Note, not_in_effect};
use super::pipeline::{Pipeline, Pipelines};
use super::rules::{self, IP_FILTER, RULES};
use super::{NAME, VERSION, certificates, copy, flow};

/// What Easegress takes of a request body where nothing is said: 4 MiB.
const BODY_DEFAULT: i64 = 4 << 20;
pub(super) static HTTP_SERVER: Section = Section {
    path: "HTTPServer",
    list: false,
    about: "One listener and what it leads to.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        VERSION,
        now("port", Kind::Integer(1, 65535), "required", "Port to listen at."),
        now("address", Kind::Text, "every address", "Address to listen at."),
        now("keepAlive", Kind::Bool, "true", ""),
        now("keepAliveTimeout", Kind::Duration(false), "60s", ""),
        now("maxConnections", Kind::Integer(1, u32::MAX as i64), "10240", ""),
        now("https", Kind::Bool, "false", ""),
        now("autoCert", Kind::Bool, "false", ""),
        now("certBase64", Kind::Text, "", ""),
        now("keyBase64", Kind::Text, "", ""),
        now("certs", Kind::Map, "", ""),
        now("keys", Kind::Map, "", ""),
        now("caCertBase64", Kind::Text, "", ""),
        CLIENT_MAX_BODY_SIZE,
        now("xForwardedFor", Kind::Bool, "false", ""),
        now("ipFilter", Kind::Table(&IP_FILTER), "", ""),
        now("rules", Kind::Tables(&RULES), "", ""),
        now("http3", Kind::Bool, "false", ""),
        now("cacheSize", Kind::Integer(0, u32::MAX as i64), "0", ""),
        now("routerKind", Kind::Choice(&["Ordered", "RadixTree"], &[]), "Ordered", ""),
        now("tracing", Kind::Text, "", ""),
        now("globalFilter", Kind::Text, "", ""),
        now("accessLogFormat", Kind::Text, "", ""),
    ],
};

pub(super) const CLIENT_MAX_BODY_SIZE: Key =
    now("clientMaxBodySize", Kind::Integer(-1, i64::MAX), "4194304", "");

/// The native site of a server.
pub(super) fn translate<'n>(
    context: &'n Context<'n>,
    table: Table<'n>,
    name: Option<Spanned<&'n str>>,
    pipelines: &Pipelines<'n>,
    manager: Option<&Manager>,
) -> Node {
    let place = table.span;
    let named = name.map_or("server", |name| name.value);
    let mut site = TableNode::at(place);
    site.put("name", text(named, name.map_or(place, |name| name.span)));
    site.put("hostname", text("*", place));
    listen(&table, &mut site);
    site.put("route_order", text("declared", place));
    site.put("mismatch", number(400, place));
    connections(&table, &mut site);
    never_open(&table, &["https", "caCertBase64", "ipFilter", "clientMaxBodySize"]);
    certificates::server(&table, manager, &mut site);
    if let Some(filter) = table.table("ipFilter") {
        site.put("access", rules::ip_filter(filter));
    }
    let body = BodySize::of(&table, "clientMaxBodySize")
        .unwrap_or(BodySize { bytes: BODY_DEFAULT, span: place });
    let forwarded = table.boolean("xForwardedFor").unwrap_or(false);
    let mut content = Content::default();
    let mut routes = Vec::new();
    for rule in table.tables("rules") {
        for path in rules::decode(rule, &body) {
            routes.extend(content.route(context, path, named, pipelines));
        }
    }
    unused(&table);
    content.put_into(&mut site, place, forwarded);
    site.put("routes", list(routes, place));
    table.finish();
    site.build()
}

/// The native site for a pipeline, or a filter in one, that no server leads to.
pub(super) fn around<'n>(context: &'n Context<'n>, pipeline: &Pipeline<'n>) -> Node {
    let place = pipeline.place;
    let mut site = TableNode::at(place);
    site.put("name", text(pipeline.name, place));
    site.put("hostname", text("*", place));
    site.put("listen", list([text(super::ALONE_LISTEN, place)], place));
    site.put("route_order", text("declared", place));
    let mut route = TableNode::at(place);
    route.put("path", text("/", place));
    route.put("max_request_size", text("unlimited", place));
    let routes = flow::expand(context, pipeline, rules::Base::alone(route), "");
    let mut content = Content::default();
    content.add(pipeline);
    content.put_into(&mut site, place, false);
    site.put("routes", list(routes, place));
    site.build()
}

/// What the routes of a site need: pools.
#[derive(Default)]
struct Content<'p> {
    pipelines: Vec<&'p str>,
    /// How many paths there have been.
    paths: usize,
    upstreams: Vec<Node>,
    pools: Vec<Node>,
}

impl<'p> Content<'p> {
    /// The routes of a path of a rule.
    fn route<'n: 'p>(
        &mut self,
        context: &'n Context<'n>,
        path: rules::Path<'n>,
        server: &str,
        pipelines: &'p Pipelines<'n>,
    ) -> Vec<Node> {
        let mut routes = Vec::new();
        for base in path.bases {
            routes.extend(match pipelines.find(context, path.backend, server) {
                Some(pipeline) => {
                    self.add(pipeline);
                    self.paths += 1;
                    let label = format!(" {}", self.paths);
                    flow::expand(context, pipeline, base, &label)
                }
                None => vec![unavailable(base, path.span)],
            });
        }
        routes
    }

    fn add(&mut self, pipeline: &'p Pipeline<'_>) {
        if !self.pipelines.contains(&pipeline.name) {
            self.pipelines.push(pipeline.name);
            self.upstreams.extend(pipeline.upstreams());
            self.pools.extend(pipeline.pools());
        }
    }

    /// The proxy part of the site.
    fn put_into(self, site: &mut TableNode, place: Span, forwarded: bool) {
        if self.upstreams.is_empty() {
            return;
        }
        let mut headers = TableNode::at(place);
        headers.put("preserve_host", boolean(false, place));
        headers.put("add_x_forwarded", boolean(forwarded, place));
        headers.put("add_forwarded", boolean(false, place));
        let mut proxy = TableNode::at(place);
        proxy.put("enabled", boolean(true, place));
        proxy.put("headers", headers);
        proxy.put("upstreams", list(self.upstreams, place));
        if !self.pools.is_empty() {
            proxy.put("pools", list(self.pools, place));
        }
        site.put("proxy", proxy);
    }
}

/// What Easegress answers for a pipeline that is not there.
fn unavailable(base: rules::Base, place: Span) -> Node {
    let mut route = base.matchers;
    route.put("status", number(503, place));
    route.build()
}

fn listen(table: &Table<'_>, site: &mut TableNode) {
    table.require("port", "8080");
    let (port, address) = (table.integer("port"), table.text("address"));
    let Some(port) = port else {
        // There is an error; nothing is to be said about a missing `port` of the site too.
        site.put("listen", list([text("127.0.0.1:0", table.span)], table.span));
        return;
    };
    match address.filter(|address| !address.value.is_empty()) {
        None => site.put("port", number(port.value, port.span)),
        Some(address) => {
            let host = match address.value {
                host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
                host => host.to_owned(),
            };
            let listen = text(format!("{host}:{}", port.value), address.span);
            site.put("listen", list([listen], address.span));
        }
    }
}

/// What is said about connections.
fn connections(table: &Table<'_>, site: &mut TableNode) {
    for (key, to) in [
        ("keepAlive", "keep_alive"),
        ("keepAliveTimeout", "keep_alive_timeout"),
        ("maxConnections", "max_connections"),
    ] {
        copy(table, key, site, to);
    }
}

/// A bound of request bodies.
#[derive(Clone, Copy)]
pub(super) struct BodySize {
    bytes: i64,
    span: Span,
}

impl BodySize {
    /// What a table says; 0 says nothing.
    pub(super) fn of(table: &Table<'_>, key: &'static str) -> Option<BodySize> {
        let size = table.integer(key)?;
        (size.value != 0).then_some(BodySize { bytes: size.value, span: size.span })
    }

    pub(super) fn node(self) -> Node {
        match self.bytes {
            -1 => text("unlimited", self.span),
            bytes => number(bytes, self.span),
        }
    }
}

/// Says what of a server has no effect.
fn unused(table: &Table<'_>) {
    let context = table.context();
    if table.boolean("http3").unwrap_or(false)
        && let Some(entry) = table.peek("http3")
    {
        context.push(
            Diagnostic::warning(Code::NotInEffect, entry.key_span, "HTTP/3 is not in effect yet")
                .label("clients are served over HTTP/2 and HTTP/1.1 at the same port"),
        );
    }
    if let Some(entry) = table.take("cacheSize") {
        context.integer("cacheSize", &entry.node, 0, u32::MAX.into());
        context.note_at(entry, "routes are looked up without a cache");
    }
    if table.choice("routerKind") == Some("RadixTree")
        && let Some(entry) = table.peek("routerKind")
    {
        context.note_at(entry, "rules and paths are tried in the order they are written");
    }
    not_in_effect(table, &["tracing", "globalFilter", "accessLogFormat"]);
}
