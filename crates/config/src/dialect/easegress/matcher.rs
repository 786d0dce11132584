//! `filter` of a pool: which requests it wants.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, list, text};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::tree::Value;

use super::rules::{escape, regexp, strings};

pub(super) static FILTER: Section = Section {
    path: "pools.filter",
    list: false,
    about: "Which requests a pool wants.",
    keys: &[
        now(
            "policy",
            Kind::Choice(&["general", "ipHash", "headerHash", "random"], &[""]),
            "general",
            "",
        ),
        now("headers", Kind::Text, "", ""),
        now("matchAllHeaders", Kind::Bool, "false", ""),
        now("urls", Kind::Tables(&URLS), "", ""),
        now("permil", Kind::Integer(0, 1000), "", ""),
        now("headerHashKey", Kind::Text, "", ""),
    ],
};

static URLS: Section = Section {
    path: "urls",
    list: true,
    about: "Requests.",
    keys: &[
        now("methods", Kind::Texts, "all", ""),
        now("url", Kind::Table(&STRING_MATCHER), "required", ""),
    ],
};

pub(super) static STRING_MATCHER: Section = Section {
    path: "exact, prefix, regex, empty",
    list: false,
    about: "What a text has to be; one of them is enough.",
    keys: &[
        now("exact", Kind::Text, "", ""),
        now("prefix", Kind::Text, "", ""),
        now("regex", Kind::Text, "", ""),
        now("empty", Kind::Bool, "false", ""),
    ],
};

/// What requests have to be like, as keys of a native `split`; several that are as good.
pub(super) fn decode(table: Table<'_>) -> Vec<TableNode> {
    let context = table.context();
    let place = table.span;
    let at = table.peek("policy").map_or(place, |entry| entry.node.span);
    let policy = table.choice("policy").unwrap_or("general");
    let permil = table.integer("permil");
    let key = table.text("headerHashKey").filter(|key| !key.value.is_empty());
    let all = table.boolean("matchAllHeaders").unwrap_or(false);
    let mut base = TableNode::at(place);
    let conditions = headers(&table, &mut base);
    if conditions > 1 && !all {
        base.put("any_header", boolean(true, place));
    }
    let urls = urls(&table);
    table.finish();
    if matches!(policy, "general" | "") {
        if conditions == 0 {
            context.push(
                Diagnostic::error(Code::MissingKey, place, "a filter without `headers`")
                    .label("which requests does this pool get?")
                    .help("for a share of all of them: `policy: random` and `permil: 100`"),
            );
        }
        if urls.is_empty() {
            return vec![base];
        }
        let combined = urls.into_iter().map(|url| {
            let mut both = base.clone();
            url.entries().iter().for_each(|entry| both.put(entry.key.as_str(), entry.node.clone()));
            both
        });
        return combined.collect();
    }
    let mut share = TableNode::at(place);
    match permil {
        Some(permil) => {
            let percent = format!("{}.{}%", permil.value / 10, permil.value % 10);
            share.put("share", text(percent, permil.span));
        }
        None => context.push(
            Diagnostic::error(Code::MissingKey, at, format!("`{policy}` without `permil`"))
                .label("how many requests of a thousand does this pool get?")
                .help("for example `permil: 100`"),
        ),
    }
    let by = match (policy, key) {
        ("ipHash", _) => "address".to_owned(),
        ("headerHash", Some(key)) => format!("header:{}", key.value),
        ("headerHash", None) => {
            context.push(
                Diagnostic::error(Code::MissingKey, at, "`headerHash` without `headerHashKey`")
                    .label("which field is hashed?")
                    .help("for example `headerHashKey: X-User`"),
            );
            "random".to_owned()
        }
        _ => "random".to_owned(),
    };
    share.put("by", text(by, at));
    vec![share]
}

/// Adds a condition for each field; returns how many.
fn headers(table: &Table<'_>, base: &mut TableNode) -> usize {
    let context = table.context();
    let Some(entry) = table.take("headers") else { return 0 };
    let Value::Table(entries) = &entry.node.value else {
        context.wrong_type::<()>("headers", &entry.node, &Kind::Map);
        return 1; // said enough
    };
    for entry in entries {
        let mut condition = TableNode::at(entry.key_span);
        condition.put("header", text(entry.key.as_str(), entry.key_span));
        if let Some(matcher) = Table::open(context, &entry.key, &entry.node, &STRING_MATCHER) {
            string_matcher(&matcher, &mut condition);
            matcher.finish();
        }
        base.push("when", condition);
    }
    entries.len()
}

fn string_matcher(table: &Table<'_>, condition: &mut TableNode) {
    let mut any = false;
    if let Some(exact) = table.text("exact").filter(|text| !text.value.is_empty()) {
        condition.put("values", list([text(exact.value, exact.span)], exact.span));
        any = true;
    }
    if let Some(prefix) = table.text("prefix").filter(|text| !text.value.is_empty()) {
        condition.put("prefix", text(prefix.value, prefix.span));
        any = true;
    }
    if let Some(regex) = table.text("regex").filter(|text| !text.value.is_empty()) {
        any = true;
        if regexp(table.context(), "regex", regex).is_some() {
            condition.put("regex", text(regex.value, regex.span));
        }
    }
    if table.boolean("empty").unwrap_or(false) {
        condition.put("empty", boolean(true, table.span));
        any = true;
    }
    if !any {
        empty(table);
    }
}

fn empty(table: &Table<'_>) {
    table.context().push(
        Diagnostic::error(Code::MissingKey, table.span, "nothing to compare with")
            .label("needs `exact`, `prefix`, `regex` or `empty`"),
    );
}

/// Methods and paths.
fn urls(table: &Table<'_>) -> Vec<TableNode> {
    let rules = table.tables("urls").into_iter().map(|rule| {
        let found = methods_and_url(&rule);
        rule.finish();
        found
    });
    rules.collect()
}

/// `methods` and `url` of a table, as native `methods`, `path` and `match`.
pub(super) fn methods_and_url(table: &Table<'_>) -> TableNode {
    let place = table.span;
    let mut native = TableNode::at(place);
    let written = table.texts("methods").unwrap_or_default();
    if !written.is_empty() {
        native.put("methods", strings(&written, place));
    }
    table.require("url", "{prefix: /api}");
    let Some(url) = table.table("url") else { return native };
    let mut ways: Vec<(&str, &str, Span)> = Vec::new();
    for (key, kind) in [("exact", "exact"), ("prefix", "starts_with"), ("regex", "regex")] {
        let Some(path) = url.text(key).filter(|path| !path.value.is_empty()) else { continue };
        if kind != "regex" || regexp(url.context(), key, path).is_some() {
            ways.push((path.value, kind, path.span));
        }
    }
    // No path is empty.
    let empty = url.boolean("empty").unwrap_or(false);
    if ways.is_empty() && !empty && !url.has("regex") {
        self::empty(&url);
    }
    url.finish();
    if let Some(every) = ways.iter().find(|(path, kind, _)| (*path, *kind) == ("/", "starts_with"))
    {
        ways = vec![*every];
    }
    match ways[..] {
        [] => {}
        [(path, kind, span)] => {
            native.put("path", text(path, span));
            native.put("match", text(kind, span));
        }
        [(.., span), ..] => {
            // One is enough.
            let patterns: Vec<String> = ways
                .iter()
                .map(|(path, kind, _)| match *kind {
                    "exact" => format!("^{}$", escape(path)),
                    "starts_with" => format!("^{}", escape(path)),
                    _ => format!("(?:{path})"),
                })
                .collect();
            native.put("path", text(patterns.join("|"), span));
            native.put("match", text("regex", span));
        }
    }
    native
}
