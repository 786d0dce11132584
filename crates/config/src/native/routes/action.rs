//! What becomes of the requests of a route: sent to a pool, answered from files, redirected or
//! answered at once; and what is written there for nothing.

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Redirect, RouteAction, UrlPart};
use crate::schema::{Kind, Section, now};
use crate::source::Span;

use super::super::files;
use super::super::upstreams::Pools;
use super::{Site, regex, unknown_upstream};

/// Statuses of redirects, the default first.
const REDIRECTS: &[u16] = &[302, 301, 303, 307, 308];

pub(super) static REDIRECTS_OF: Section = Section {
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

/// The one thing that becomes of requests.
pub(super) fn decode(table: &Table<'_>, site: &Site<'_>) -> Option<RouteAction> {
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

pub(super) fn redirect(table: Table<'_>) -> Option<Redirect> {
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

/// Keys that say how requests are passed on, and whether files have a use for them.
const OF_UPSTREAMS: &[(&str, bool)] = &[
    ("strip_prefix", true),
    ("rewrite_target", true),
    ("rewrite", true),
    ("set_method", false),
    ("set_host", false),
    ("request_headers", false),
    ("websocket", false),
    ("rewrite_location", false),
    ("max_response_size", false),
    ("split", false),
    ("mirror", false),
    ("failure_statuses", false),
];

/// Reports what is written about upstreams where there is none.
pub(super) fn report_for_nothing(table: &Table<'_>, action: Option<&RouteAction>) {
    let (answers, files) = match action {
        None | Some(RouteAction::Upstream(_)) => return,
        Some(RouteAction::Files(_)) => ("from files", true),
        Some(RouteAction::Redirect { .. }) => ("with a redirect", false),
        Some(RouteAction::Respond { .. }) => ("by itself", false),
    };
    for (name, for_files) in OF_UPSTREAMS {
        let written = table.peek(name).filter(|entry| !entry.node.value.is_off());
        let Some(entry) = written.filter(|_| !(files && *for_files)) else { continue };
        let message = format!("`{name}` does nothing here");
        table.context().push(
            Diagnostic::warning(Code::Unused, entry.key_span, message)
                .label(format!("the route answers {answers} and passes nothing on")),
        );
    }
}
