//! `[[tests]]`: requests, and what is expected to become of them.

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Expectation;
use crate::schema::{Kind, Section, now};
use crate::syntax::{field_name, field_value, method_name};

pub(super) static TESTS: Section = Section {
    path: "tests",
    list: true,
    about: "A request, and what is expected to become of it. `check` says where the configuration does something else, and neither a start nor a reload takes it then. Nothing is sent anywhere.",
    keys: &[
        now(
            "request",
            Kind::Text,
            "required",
            "Method and URL: `\"GET https://example.com/api/x\"`; without a method it is GET.",
        ),
        now("request_headers", Kind::Map, "empty", "Fields of the request."),
        now("client", Kind::Text, "\"127.0.0.1\"", "The address it comes from."),
        now("site", Kind::Text, "any", "The `name` of the site that answers."),
        now(
            "route",
            Kind::Text,
            "any",
            "The `path` or `name` of the route that takes it; empty if none is to.",
        ),
        now(
            "status",
            Kind::Integer(100, 599),
            "any",
            "The status that Ravelin answers with itself; a request that goes to an upstream has none.",
        ),
        now("location", Kind::Text, "any", "Where a redirect leads."),
        now(
            "upstream",
            Kind::Text,
            "any",
            "The pool that the request goes to; empty if it is to go to none.",
        ),
        now("path", Kind::Text, "any", "Path and query as the upstream gets them."),
        now(
            "headers",
            Kind::Map,
            "any",
            "Fields of the response, as far as Ravelin makes them; with an empty value the field must not be there.",
        ),
        now(
            "upstream_headers",
            Kind::Map,
            "any",
            "Fields of the request as the upstream gets it, likewise.",
        ),
    ],
};

/// Decodes one.
pub(super) fn decode(table: Table<'_>) -> Option<Expectation> {
    let context = table.context();
    let place = table.span;
    table.require("request", "\"GET https://example.com/\"");
    let request = table.text("request").and_then(|text| request(context, text));
    let own = |name: &'static str| table.text(name).map(|text| text.value.to_owned());
    let client = table.text("client").and_then(|text| match text.value.parse() {
        Ok(client) => Some(client),
        Err(_) => {
            context.push(context.bad("client", text.span, "expected an address: \"192.0.2.1\""));
            None
        }
    });
    let status = table.integer("status");
    let found = Expectation {
        method: String::new(),
        url: String::new(),
        fields: fields(&table, "request_headers"),
        client,
        site: own("site"),
        route: own("route"),
        status: status.and_then(|status| u16::try_from(status.value).ok()),
        location: own("location"),
        upstream: own("upstream"),
        path: own("path"),
        response: fields(&table, "headers"),
        request: fields(&table, "upstream_headers"),
    };
    const EXPECTED: &[&str] =
        &["site", "route", "status", "location", "upstream", "path", "headers", "upstream_headers"];
    if !EXPECTED.iter().any(|key| table.has_or_means(key)) {
        context.push(
            Diagnostic::warning(Code::Unused, place, "a test that expects nothing")
                .label("it cannot fail")
                .help("say what is expected: `site`, `route`, `status`, `upstream`…"),
        );
    }
    table.finish();
    let (method, url) = request?;
    Some(Expectation { method, url, ..found })
}

/// "GET https://example.com/x", or the URL alone.
fn request(context: &Context<'_>, text: Spanned<&str>) -> Option<(String, String)> {
    let mut words = text.value.split_whitespace();
    let (method, url) = match (words.next(), words.next(), words.next()) {
        (Some(url), None, None) => ("GET", url),
        (Some(method), Some(url), None) => (method, url),
        _ => ("", ""),
    };
    let scheme = ["http://", "https://", "ws://", "wss://"];
    let is_url = |scheme: &&str| {
        let begin = url.get(..scheme.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)) && url.len() > scheme.len()
    };
    if method_name(method).is_err() || !scheme.iter().any(is_url) {
        let reason = "expected a method and a URL: \"GET https://example.com/x\"";
        context.push(context.bad("request", text.span, reason));
        return None;
    }
    Some((method.to_owned(), url.to_owned()))
}

fn fields(table: &Table<'_>, name: &'static str) -> Vec<(String, String)> {
    let context = table.context();
    let mut found = Vec::new();
    for entry in table.map(name) {
        let Some(value) = context.text(&entry.key, &entry.node) else { continue };
        if let Err(reason) = field_name(&entry.key) {
            context.push(context.bad(name, entry.key_span, &reason));
        }
        match field_value(value.value) {
            Ok(value) => found.push((entry.key.clone(), value.to_owned())),
            Err(reason) => context.push(context.bad(name, value.span, &reason)),
        }
    }
    found
}
