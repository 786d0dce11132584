//! `kind: RateLimiter`: how many requests are taken in a time.

use crate::decode::{Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, number, text};
use crate::schema::{Kind, Section, now};
use crate::source::Span;

use super::filter::{Part, Role, Site};
use super::matcher::{self, STRING_MATCHER};
use super::{NAME, copy};

pub(super) static RATE_LIMITER: Section = Section {
    path: "RateLimiter",
    list: false,
    about: "How many requests are taken in a time.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("policies", Kind::Tables(&POLICIES), "required", ""),
        now("defaultPolicyRef", Kind::Text, "", ""),
        now("urls", Kind::Tables(&URLS), "required", ""),
    ],
};

static POLICIES: Section = Section {
    path: "RateLimiter.policies",
    list: true,
    about: "A limit.",
    keys: &[
        NAME,
        now("timeoutDuration", Kind::Duration(true), "100ms", ""),
        now("limitRefreshPeriod", Kind::Duration(false), "10ms", ""),
        now("limitForPeriod", Kind::Integer(1, u32::MAX as i64), "50", ""),
    ],
};

static URLS: Section = Section {
    path: "RateLimiter.urls",
    list: true,
    about: "Requests with a limit.",
    keys: &[
        now("methods", Kind::Texts, "all", ""),
        now("url", Kind::Table(&STRING_MATCHER), "required", ""),
        now("policyRef", Kind::Text, "", ""),
    ],
};

/// What the filter is in a native route.
pub(super) fn decode(table: &Table<'_>, site: &Site<'_>) -> Part {
    let context = table.context();
    let place = table.span;
    table.require("policies", "[{name: limit, limitForPeriod: 50}]");
    table.require("urls", "[{url: {prefix: /}}]");
    let mut policies: Vec<(Spanned<&str>, TableNode)> = Vec::new();
    for policy in table.tables("policies") {
        policy.require("name", "limit");
        let name = policy.text("name");
        let native = self::policy(&policy);
        policy.finish();
        let Some(name) = name else { continue };
        if let Some((first, _)) = policies.iter().find(|(other, _)| other.value == name.value) {
            let message = format!("two policies are called `{}`", name.value.escape_debug());
            context.push(
                Diagnostic::error(Code::DuplicateKey, name.span, message)
                    .label("again")
                    .also(first.span, "first here"),
            );
        }
        policies.push((name, native));
    }
    let default = table.text("defaultPolicyRef").filter(|name| !name.value.is_empty());
    let mut route = TableNode::at(place);
    for (number, url) in table.tables("urls").into_iter().enumerate() {
        let requests = matcher::methods_and_url(&url);
        let own = url.text("policyRef").filter(|name| !name.value.is_empty());
        let span = url.span;
        url.finish();
        let Some(mut limit) = find(table, &policies, own.or(default), span) else { continue };
        for entry in requests.entries() {
            limit.put(entry.key.as_str(), entry.node.clone());
        }
        // The filter is one, however many paths lead to its Pipeline.
        let zone = format!("{}/{}/{number}", site.pipeline, site.name);
        limit.put("zone", text(&zone, place));
        route.push("rate_limit", limit);
    }
    Part::new(Role::Guard, route)
}

fn policy(table: &Table<'_>) -> TableNode {
    let place = table.span;
    let mut native = TableNode::at(place);
    if !copy(table, "limitForPeriod", &mut native, "requests") {
        native.put("requests", number(50, place));
    }
    for (key, to, default) in
        [("limitRefreshPeriod", "per", "10ms"), ("timeoutDuration", "wait", "100ms")]
    {
        if !copy(table, key, &mut native, to) {
            native.put(to, text(default, place));
        }
    }
    native.put("key", text("route", place));
    native
}

fn find(
    table: &Table<'_>,
    policies: &[(Spanned<&str>, TableNode)],
    name: Option<Spanned<&str>>,
    place: Span,
) -> Option<TableNode> {
    let context = table.context();
    let Some(name) = name else {
        context.push(
            Diagnostic::error(Code::MissingKey, place, "a limit without a policy")
                .label("needs `policyRef`, or the filter `defaultPolicyRef`"),
        );
        return None;
    };
    let found = policies.iter().find(|(policy, _)| policy.value == name.value);
    if found.is_none() {
        let message = format!("there is no policy `{}`", name.value.escape_debug());
        let error = Diagnostic::error(Code::BadValue, name.span, message)
            .label("`policies` of this filter has none of that name");
        context.push(match nearest(name.value, policies.iter().map(|(policy, _)| policy.value)) {
            Some(near) => error.suggest(name.span, near, format!("did you mean `{near}`?")),
            None => error,
        });
    }
    found.map(|(_, native)| native.clone())
}
