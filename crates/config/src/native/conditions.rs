//! What a request has to be like for a route: hosts, methods, fields, parameters, cookies.

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Condition, Expected, HostMatch, Property, When};
use crate::schema::{Kind, Section, now};
use crate::syntax::{field_name, host_name, host_pattern, method_name};

use super::routes::regex;

pub(super) static WHEN: Section = Section {
    path: "sites.routes.when",
    list: true,
    about: "One thing that a request has to have: `{ header = \"X-Env\", values = [\"test\"] }`. Of `values`, `prefix`, `regex` and `empty` one is enough; with none of them it only has to be there.",
    keys: &[
        now("header", Kind::Text, "none", "Name of a field that is looked at."),
        now("query", Kind::Text, "none", "Name of a parameter of the query that is looked at."),
        now("cookie", Kind::Text, "none", "Name of a cookie that is looked at."),
        now("values", Kind::Texts, "none", "It is one of these."),
        now("prefix", Kind::Text, "none", "It begins with this."),
        now("regex", Kind::Text, "none", "This regular expression is found in it."),
        now("empty", Kind::Bool, "false", "It is not there, or empty."),
    ],
};

/// The conditions of a table with `when`, `any_header` and `any_query`.
pub(super) fn when(table: &Table<'_>) -> When {
    When {
        conditions: table.tables("when").into_iter().filter_map(condition).collect(),
        any_header: table.boolean("any_header").unwrap_or(false),
        any_query: table.boolean("any_query").unwrap_or(false),
    }
}

fn condition(table: Table<'_>) -> Option<Condition> {
    let context = table.context();
    let place = table.span;
    let header = table.text("header");
    let query = table.text("query");
    let cookie = table.text("cookie");
    if let Some(name) = header
        && let Err(reason) = field_name(name.value)
    {
        context.push(context.bad("header", name.span, &reason));
    }
    let mut is = Vec::new();
    for value in table.texts("values").unwrap_or_default() {
        is.push(Expected::Value(value.value.to_owned()));
    }
    is.extend(table.text("prefix").map(|text| Expected::Prefix(text.value.to_owned())));
    let pattern = table.text("regex").and_then(|text| regex(context, "regex", text));
    is.extend(pattern.map(Expected::Regex));
    if table.boolean("empty").unwrap_or(false) {
        is.push(Expected::Empty);
    }
    table.finish();
    let own = |text: Spanned<&str>| text.value.to_owned();
    let of = match (header, query, cookie) {
        (Some(name), None, None) => Property::Header(own(name)),
        (None, Some(name), None) => Property::Query(own(name)),
        (None, None, Some(name)) => Property::Cookie(own(name)),
        _ => {
            context.push(
                Diagnostic::error(Code::BadValue, place, "a condition looks at one thing")
                    .label("needs one of `header`, `query` and `cookie`"),
            );
            return None;
        }
    };
    Some(Condition { of, is })
}

/// The hosts of a table with `hosts` and `hosts_regex`.
pub(super) fn host_matches(table: &Table<'_>) -> Vec<HostMatch> {
    let context = table.context();
    let mut found = Vec::new();
    for text in table.texts("hosts").unwrap_or_default() {
        let host = match text.value.strip_suffix(".*") {
            Some(begin) => host_name(begin).map(HostMatch::Leading).map_err(|reason| {
                context.push(context.bad("hosts", text.span, &reason));
            }),
            None => host_pattern(text.value).map(HostMatch::Pattern).map_err(|hint| {
                context.push_hint("hosts", text.span, hint);
            }),
        };
        found.extend(host);
    }
    for text in table.texts("hosts_regex").unwrap_or_default() {
        found.extend(regex(context, "hosts_regex", text).map(HostMatch::Regex));
    }
    found
}

/// The methods of a table with `methods`.
pub(super) fn methods(table: &Table<'_>) -> Vec<String> {
    let context = table.context();
    let texts = table.texts("methods").unwrap_or_default();
    texts.into_iter().filter_map(|text| method(context, text)).collect()
}

/// One method. They are case-sensitive (RFC 9110 section 9.1), and all that are registered are in
/// capitals.
pub(super) fn method(context: &Context<'_>, text: Spanned<&str>) -> Option<String> {
    if let Err(reason) = method_name(text.value) {
        context.push(context.bad("methods", text.span, &reason));
        return None;
    }
    let upper = text.value.to_ascii_uppercase();
    if upper != text.value {
        let message = format!("methods are written in capitals: `{upper}`");
        context.push(Diagnostic::warning(Code::BadValue, text.span, message).suggest(
            text.span,
            crate::syntax::quoted(&upper),
            "taken as that",
        ));
    }
    Some(upper)
}
