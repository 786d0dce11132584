//! `healthCheck` of a pool: `http`, `ws`, or both, which then both have to be passed.

use crate::decode::{Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, list, number, text};
use crate::pattern;
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::tree::{Node, Value};

use super::rules::regexp;
use super::{base64, copy};

pub(super) static HEALTH_CHECK: Section = Section {
    path: "pools.healthCheck",
    list: false,
    about: "Probes that a server has to pass.",
    keys: &[
        now("interval", Kind::Duration(false), "60s", ""),
        now("timeout", Kind::Duration(false), "3s", ""),
        now("fails", Kind::Integer(1, 1000), "1", ""),
        // The tutorial of Easegress says `pass`, its code reads `passes`.
        now("passes", Kind::Integer(1, 1000), "1", "").or(&["pass"]),
        now("http", Kind::Table(&HTTP), "", ""),
        now("ws", Kind::Table(&WS), "", ""),
        now("path", Kind::Text, "", ""),
        now("uri", Kind::Text, "", ""),
    ],
};

static HTTP: Section = Section {
    path: "pools.healthCheck.http",
    list: false,
    about: "A request that is answered as expected.",
    keys: &[
        now("port", Kind::Integer(1, 65535), "", ""),
        now("uri", Kind::Text, "", ""),
        now("method", Kind::Text, "GET", ""),
        now("headers", Kind::Map, "", ""),
        now("body", Kind::Text, "", ""),
        now("username", Kind::Text, "", ""),
        now("password", Kind::Text, "", ""),
        now("match", Kind::Table(&MATCH), "", ""),
    ],
};

static WS: Section = Section {
    path: "pools.healthCheck.ws",
    list: false,
    about: "A WebSocket handshake that is answered as expected.",
    keys: &[
        now("port", Kind::Integer(1, 65535), "", ""),
        now("uri", Kind::Text, "", ""),
        now("headers", Kind::Map, "", ""),
        now("match", Kind::Table(&MATCH), "", ""),
    ],
};

static MATCH: Section = Section {
    path: "pools.healthCheck match",
    list: false,
    about: "What is expected of a response.",
    keys: &[
        now("statusCodes", Kind::Statuses, "", ""),
        now("headers", Kind::Tables(&MATCH_HEADERS), "", ""),
        now("body", Kind::Table(&MATCH_BODY), "", ""),
    ],
};

static MATCH_HEADERS: Section = Section {
    path: "pools.healthCheck match.headers",
    list: true,
    about: "A field that is expected.",
    keys: &[
        now("name", Kind::Text, "required", ""),
        now("value", Kind::Text, "", ""),
        now("type", Kind::Choice(&["exact", "regexp"], &[]), "exact", ""),
    ],
};

static MATCH_BODY: Section = Section {
    path: "pools.healthCheck match.body",
    list: false,
    about: "Content that is expected.",
    keys: &[
        now("value", Kind::Text, "required", ""),
        now("type", Kind::Choice(&["contains", "regexp"], &[]), "contains", ""),
    ],
};

/// The native `health_check`; `None` if there is nothing to check.
pub(super) fn decode(table: Table<'_>, websocket: bool, path: &str) -> Option<Node> {
    let place = table.span;
    let mut common = TableNode::at(place);
    let defaults = [("interval", "interval", "60s"), ("timeout", "timeout", "3s")];
    for (key, to, default) in defaults {
        if !copy(&table, key, &mut common, to) {
            common.put(to, text(default, place));
        }
    }
    for (key, to) in [("fails", "fall"), ("passes", "rise")] {
        if !copy(&table, key, &mut common, to) {
            common.put(to, number(1, place));
        }
    }
    // Above `http` and `ws` in old versions, for HTTP.
    let old = [table.text("uri"), table.text("path")].into_iter().flatten().next();
    let mut checks = Vec::new();
    let written = [("http", "http"), ("ws", "websocket")];
    for (key, kind) in written {
        let Some(below) = table.table(key) else { continue };
        let mut check = common.clone();
        check.put("type", text(kind, below.span));
        probe(&below, &mut check, path, kind == "http");
        below.finish();
        checks.push(check.build());
    }
    if let Some(uri) = old.filter(|_| checks.is_empty()) {
        let mut check = common;
        check.put("type", text("http", uri.span));
        check.put("path", text(target(uri), uri.span));
        checks.push(check.build());
    }
    if checks.is_empty() {
        let example = if websocket { "ws: {uri: /health}" } else { "http: {uri: /health}" };
        table.context().push(
            Diagnostic::error(Code::MissingKey, place, "a health check that checks nothing")
                .label("needs `http` or `ws`")
                .help(format!("for example `{example}`")),
        );
    }
    table.finish();
    match checks.len() {
        0 => None,
        1 => checks.pop(),
        _ => Some(list(checks, place)),
    }
}

fn probe(table: &Table<'_>, check: &mut TableNode, path: &str, http: bool) {
    let place = table.span;
    copy(table, "port", check, "port");
    let uri = table.text("uri").filter(|uri| !uri.value.is_empty());
    match uri {
        Some(uri) => check.put("path", text(target(uri), uri.span)),
        None => check.put("path", text(path, place)),
    }
    let mut headers = TableNode::at(place);
    for entry in table.map("headers") {
        if let Some(value) = table.context().text(&entry.key, &entry.node) {
            headers.put_at(entry.key.as_str(), entry.key_span, text(value.value, value.span));
        }
    }
    if http {
        copy(table, "method", check, "method");
        copy(table, "body", check, "body");
        credentials(table, &mut headers);
    }
    if !headers.is_empty() {
        check.put("headers", headers);
    }
    if let Some(expected) = table.table("match") {
        self::expected(&expected, check, http);
        expected.finish();
    }
}

/// Path and query of a URI that may be a whole URL.
fn target(uri: Spanned<&str>) -> String {
    match uri.value.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/").to_owned(),
        None => uri.value.to_owned(),
    }
}

fn credentials(table: &Table<'_>, headers: &mut TableNode) {
    let (user, password) = (table.text("username"), table.text("password"));
    match (user, password) {
        (Some(user), Some(password)) => {
            let both = base64::encode(format!("{}:{}", user.value, password.value).as_bytes());
            headers.put("Authorization", text(format!("Basic {both}"), user.span));
        }
        (None, None) => {}
        (Some(one), None) | (None, Some(one)) => table.context().push(
            Diagnostic::error(Code::MissingKey, one.span, "`username` and `password` go together")
                .label("the other one is missing"),
        ),
    }
}

fn expected(table: &Table<'_>, check: &mut TableNode, http: bool) {
    let context = table.context();
    if let Some(entry) = table.take("statusCodes")
        && let Some(statuses) = statuses(table, &entry.node)
    {
        check.put_at("expect_status", entry.key_span, statuses);
    }
    let mut fields = TableNode::at(table.span);
    for header in table.tables("headers") {
        header.require("name", "X-Status");
        let name = header.text("name");
        let value = header.text("value").map_or(("", header.span), |text| (text.value, text.span));
        let regex = header.choice("type") == Some("regexp");
        header.finish();
        let Some(name) = name else { continue };
        if regex && regexp(context, "value", Spanned { value: value.0, span: value.1 }).is_none() {
            continue;
        }
        let node = if regex { matching(value.0, "regex", value.1) } else { text(value.0, value.1) };
        fields.put_at(name.value, name.span, node);
    }
    if !fields.is_empty() {
        check.put("expect_headers", fields);
    }
    let Some(body) = table.table("body") else { return };
    body.require("value", "ok");
    let value = body.text("value");
    let regex = body.choice("type") == Some("regexp");
    let place = body.span;
    body.finish();
    let Some(value) = value else { return };
    if !http {
        context.push(
            Diagnostic::warning(Code::Unused, place, "a WebSocket handshake has no content")
                .label("never looked at"),
        );
    } else if !regex || pattern::compile(value.value).is_ok() {
        let way = if regex { "regex" } else { "contains" };
        check.put("expect_body", matching(value.value, way, value.span));
    } else {
        _ = regexp(context, "value", value);
    }
}

fn matching(value: &str, way: &str, span: Span) -> Node {
    let mut table = TableNode::at(span);
    table.put(way, text(value, span));
    table.build()
}

/// Pairs of the lowest and the highest status.
fn statuses(table: &Table<'_>, node: &Node) -> Option<Node> {
    let context = table.context();
    let refuse = |span| {
        context.push(
            Diagnostic::error(Code::WrongType, span, "expected ranges of statuses")
                .label("each a pair of the lowest and the highest: `- [200, 299]`"),
        );
        None
    };
    let Value::Array(items) = &node.value else { return refuse(node.span) };
    let mut found = Vec::new();
    for item in items {
        let Value::Array(pair) = &item.value else { return refuse(item.span) };
        let ends: Vec<i128> = pair
            .iter()
            .filter_map(|end| match end.value {
                Value::Integer(status) if (100..600).contains(&status) => Some(status),
                _ => None,
            })
            .collect();
        let [low, high] = ends[..] else { return refuse(item.span) };
        if pair.len() != 2 || low > high {
            return refuse(item.span);
        }
        found.push(match low == high {
            true => number(low, item.span),
            false => text(format!("{low}-{high}"), item.span),
        });
    }
    Some(list(found, node.span))
}
