//! `kind: WebSocketProxy`: WebSockets to pools, message by message.

use crate::decode::{Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, list, number, text};
use crate::schema::{Kind, Section, now};
use crate::source::Span;

use super::NAME;
use super::filter::{Part, Role, Site};
use super::pool::{
    self, Common, FILTER_KEY, HEALTH_CHECK_KEY, LOAD_BALANCE_KEY, SERVER_TAGS, SERVERS_KEY,
    SERVICE_NAME, SERVICE_REGISTRY,
};
use super::proxy_filter;

/// Longest message where nothing is said.
const MESSAGE_DEFAULT: i64 = 32_768;

pub(super) static WEBSOCKET_PROXY: Section = Section {
    path: "WebSocketProxy",
    list: false,
    about: "WebSockets to pools.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("defaultOrigin", Kind::Text, "", ""),
        now("pools", Kind::Tables(&POOLS), "required", ""),
    ],
};

static POOLS: Section = Section {
    path: "WebSocketProxy.pools",
    list: true,
    about: "Servers for WebSockets.",
    keys: &[
        SERVERS_KEY,
        LOAD_BALANCE_KEY,
        HEALTH_CHECK_KEY,
        FILTER_KEY,
        SERVER_TAGS,
        SERVICE_REGISTRY,
        SERVICE_NAME,
        now("clientMaxMsgSize", Kind::Integer(i64::MIN, i64::MAX), "32768", ""),
        now("serverMaxMsgSize", Kind::Integer(i64::MIN, i64::MAX), "32768", ""),
        now("insecureSkipVerify", Kind::Bool, "false", ""),
        now("originPatterns", Kind::Texts, "", ""),
    ],
};

/// What the filter is in a native route.
pub(super) fn decode(table: &Table<'_>, site: &Site<'_>) -> Part {
    let place = table.span;
    let mut part = Part::new(Role::Answer, TableNode::at(place));
    let tls = Some(TableNode::at(place));
    let common = Common { site, websocket: true, tls, pool: TableNode::at(place) };
    let default_origin = table.text("defaultOrigin").filter(|origin| !origin.value.is_empty());
    let mut sockets: Option<TableNode> = None;
    let pools = pool::pools(table, &common, |pool, span| {
        let own = socket(pool, span);
        if !pool.has("filter") || sockets.is_none() {
            sockets = Some(own);
        }
    });
    if let Some((main, others)) = pools {
        proxy_filter::add(&mut part, main, others, None);
    }
    let mut sockets = sockets.unwrap_or_else(|| TableNode::at(place));
    if let Some(origin) = default_origin {
        sockets.put("default_origin", text(self::origin(table, origin), origin.span));
    }
    sockets.put("required", boolean(true, place));
    part.route.put("websocket", sockets);
    let mut headers = TableNode::at(place);
    headers.put("add_x_forwarded", boolean(true, place));
    part.route.put("headers", headers);
    part
}

/// The native `websocket` table of a pool.
fn socket(pool: &Table<'_>, place: Span) -> TableNode {
    let mut native = TableNode::at(place);
    for (key, to) in [
        ("clientMaxMsgSize", "client_max_message_size"),
        ("serverMaxMsgSize", "server_max_message_size"),
    ] {
        let size = pool.integer(key);
        native.put(
            to,
            match size {
                Some(size) if size.value == -1 => text("unlimited", size.span),
                Some(size) if size.value > 0 => number(size.value, size.span),
                Some(size) => {
                    let message = format!("`{key}` is neither a size nor -1");
                    pool.context().push(
                        Diagnostic::warning(Code::BadValue, size.span, message)
                            .label(format!("taken for the default, {MESSAGE_DEFAULT}"))
                            .suggest(size.span, "-1", "for no limit"),
                    );
                    number(MESSAGE_DEFAULT, size.span)
                }
                None => number(MESSAGE_DEFAULT, place),
            },
        );
    }
    let patterns = pool.texts("originPatterns").unwrap_or_default();
    let any = pool.boolean("insecureSkipVerify").unwrap_or(false);
    let at = pool.peek("insecureSkipVerify").map_or(place, |entry| entry.node.span);
    native.put(
        "origins",
        match patterns.is_empty() {
            _ if any => text("any", at),
            true => text("same", place),
            false => {
                let patterns = patterns.iter().map(|pattern| text(pattern.value, pattern.span));
                list(patterns, place)
            }
        },
    );
    native
}

/// An origin is a scheme and a host (RFC 6454 section 6.2); a URL has more.
fn origin(table: &Table<'_>, written: Spanned<&str>) -> String {
    let Some((scheme, rest)) = written.value.split_once("://") else {
        return written.value.to_owned();
    };
    let Some(at) = rest.find(['/', '?', '#']) else { return written.value.to_owned() };
    let (host, path) = rest.split_at(at);
    let origin = format!("{scheme}://{host}");
    if path != "/" {
        table.context().push(
            Diagnostic::note(Code::Changed, written.span, "an origin has no path")
                .label(format!("`{origin}` is what servers get")),
        );
    }
    origin
}
