//! `kind: RequestAdaptor` and `kind: ResponseAdaptor`: changes to messages.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, text};
use crate::schema::{Kind, Section, now};

use super::filter::{Part, Role, Site};
use super::notes::not_in_effect;
use super::rules::{regexp, strings};
use super::{NAME, copy};

pub(super) static REQUEST_ADAPTOR: Section = Section {
    path: "RequestAdaptor",
    list: false,
    about: "Changes to requests.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("host", Kind::Text, "", ""),
        now("method", Kind::Text, "", ""),
        now("path", Kind::Table(&PATH), "", ""),
        now("header", Kind::Table(&HEADER), "", ""),
        now("body", Kind::Text, "", ""),
        now("compress", Kind::Text, "", ""),
        now("decompress", Kind::Text, "", ""),
        now("sign", Kind::Text, "", ""),
        now("template", Kind::Text, "", ""),
        now("leftDelim", Kind::Text, "", ""),
        now("rightDelim", Kind::Text, "", ""),
    ],
};

pub(super) static RESPONSE_ADAPTOR: Section = Section {
    path: "ResponseAdaptor",
    list: false,
    about: "Changes to responses.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("header", Kind::Table(&HEADER), "", ""),
        now("body", Kind::Text, "", ""),
        now("compress", Kind::Text, "", ""),
        now("decompress", Kind::Text, "", ""),
        now("template", Kind::Text, "", ""),
        now("leftDelim", Kind::Text, "", ""),
        now("rightDelim", Kind::Text, "", ""),
    ],
};

static PATH: Section = Section {
    path: "RequestAdaptor.path",
    list: false,
    about: "A change of the path.",
    keys: &[
        now("replace", Kind::Text, "", ""),
        now("addPrefix", Kind::Text, "", ""),
        now("trimPrefix", Kind::Text, "", ""),
        now("regexpReplace", Kind::Table(&REGEXP_REPLACE), "", ""),
    ],
};

static REGEXP_REPLACE: Section = Section {
    path: "RequestAdaptor.path.regexpReplace",
    list: false,
    about: "What is replaced, and by what.",
    keys: &[now("regexp", Kind::Text, "required", ""), now("replace", Kind::Text, "", "")],
};

static HEADER: Section = Section {
    path: "header",
    list: false,
    about: "Changes to fields, in this order.",
    keys: &[
        now("del", Kind::Texts, "", ""),
        now("set", Kind::Map, "", ""),
        now("add", Kind::Map, "", ""),
    ],
};

/// What a RequestAdaptor is in a native route.
pub(super) fn request(table: &Table<'_>, _: &Site<'_>) -> Part {
    let mut route = TableNode::at(table.span);
    copy_if_any(table, "method", &mut route, "set_method");
    copy_if_any(table, "host", &mut route, "set_host");
    if let Some(path) = table.table("path") {
        self::path(path, &mut route);
    }
    if let Some(headers) = table.table("header").map(header).filter(|it| !it.is_empty()) {
        route.put("request_headers", headers);
    }
    not_in_effect(table, &["body", "compress", "decompress", "sign", "template"]);
    for key in ["leftDelim", "rightDelim"] {
        table.take(key);
    }
    Part::new(Role::Request, route)
}

/// What a ResponseAdaptor is in a native route: the `response_headers` that the flow puts there.
pub(super) fn response(table: &Table<'_>, _: &Site<'_>) -> Part {
    let headers = table.table("header").map(header);
    not_in_effect(table, &["body", "compress", "decompress", "template"]);
    for key in ["leftDelim", "rightDelim"] {
        table.take(key);
    }
    Part::new(Role::Response, headers.unwrap_or_else(|| TableNode::at(table.span)))
}

fn copy_if_any(table: &Table<'_>, key: &'static str, route: &mut TableNode, to: &str) {
    if table.peek(key).is_some_and(|entry| entry.node.value.is_off()) {
        table.take(key);
    } else {
        copy(table, key, route, to);
    }
}

/// One of them counts, as in Easegress: the first of this order.
fn path(table: Table<'_>, route: &mut TableNode) {
    let context = table.context();
    let mut first = None;
    for (key, to) in
        [("replace", "replace"), ("addPrefix", "add_prefix"), ("trimPrefix", "trim_prefix")]
    {
        let Some(value) = table.text(key).filter(|value| !value.value.is_empty()) else { continue };
        let mut change = TableNode::at(value.span);
        change.put(to, text(value.value, value.span));
        only(&table, key, &mut first, change);
    }
    if let Some(regexp_replace) = table.table("regexpReplace") {
        regexp_replace.require("regexp", "\"^/old/(.*)$\"");
        let pattern = regexp_replace.text("regexp");
        let by = regexp_replace.text("replace");
        regexp_replace.finish();
        if let Some(pattern) = pattern.filter(|it| regexp(context, "regexp", *it).is_some()) {
            let mut change = TableNode::at(pattern.span);
            change.put("regex", text(pattern.value, pattern.span));
            change.put(
                "with",
                by.map_or_else(|| text("", pattern.span), |by| text(by.value, by.span)),
            );
            only(&table, "regexpReplace", &mut first, change);
        }
    }
    table.finish();
    if let Some((_, change)) = first {
        route.push("rewrite", change);
    }
}

fn only(
    table: &Table<'_>,
    key: &'static str,
    first: &mut Option<(&'static str, TableNode)>,
    change: TableNode,
) {
    let Some((before, _)) = first else {
        *first = Some((key, change));
        return;
    };
    if let (Some(entry), Some(before)) = (table.peek(key), table.peek(before)) {
        let message = format!("`{key}` beside `{}`", before.key);
        table.context().push(
            Diagnostic::warning(Code::Ignored, entry.key_span, message)
                .label("never used")
                .also(before.key_span, "this one counts"),
        );
    }
}

/// Native rules for fields.
fn header(table: Table<'_>) -> TableNode {
    let context = table.context();
    let mut native = TableNode::at(table.span);
    let remove = table.texts("del").unwrap_or_default();
    if !remove.is_empty() {
        native.put("remove", strings(&remove, table.span));
    }
    for (key, to) in [("set", "set"), ("add", "append")] {
        let mut fields = TableNode::at(table.span);
        for entry in table.map(key) {
            if let Some(value) = context.text(&entry.key, &entry.node) {
                fields.put_at(entry.key.as_str(), entry.key_span, text(value.value, value.span));
            }
        }
        if !fields.is_empty() {
            native.put(to, fields);
        }
    }
    table.finish();
    native
}
