//! Pools that get some of a route's requests, or copies of them.

use crate::decode::{Spanned, Table};
use crate::model::{PathMatch, Split, SplitBy};
use crate::schema::{Kind, Section, now};
use crate::syntax::field_name;

use super::conditions::{self, methods, when};
use super::routes::{checked_path, regex, unknown_upstream};
use super::upstreams::Pools;

pub(super) static SPLIT: Section = Section {
    path: "sites.routes.split",
    list: true,
    about: "A pool that gets some requests in the place of the route's `upstream`. The first that wants a request has it.",
    keys: KEYS,
};

pub(super) static MIRROR: Section = Section {
    path: "sites.routes.mirror",
    list: false,
    about: "A pool that gets copies of requests; nobody sees what it answers.",
    keys: KEYS,
};

const MATCHES: &[&str] = &["exact", "prefix", "starts_with", "regex"];

const KEYS: &[crate::schema::Key] = &[
    now("upstream", Kind::Text, "required", "Name of a pool."),
    now("share", Kind::Text, "all", "How many of the requests, in per cent: `\"2.5%\"`."),
    now(
        "by",
        Kind::Text,
        "\"random\"",
        "What decides whether a request is among the share: `random`, `address`, or `header:` and the name of a field.",
    ),
    now("when", Kind::Tables(&conditions::WHEN), "none", "What else a request has to be like."),
    now("any_header", Kind::Bool, "false", "Of the conditions about fields one is enough."),
    now("any_query", Kind::Bool, "false", "Of the conditions about the query one is enough."),
    now("methods", Kind::Texts, "all", "Methods of the requests."),
    now("path", Kind::Text, "all", "Paths of the requests."),
    now("match", Kind::Choice(MATCHES, &[]), "\"prefix\"", "What `path` is, as for a route."),
];

/// Decodes one.
pub(super) fn decode(table: Table<'_>, pools: &Pools) -> Option<Split> {
    let context = table.context();
    table.require("upstream", "\"canary\"");
    let pool = table.text("upstream").and_then(|name| {
        let found = pools.find(name.value);
        if found.is_none() && !pools.incomplete {
            unknown_upstream(context, name, pools);
        }
        found
    });
    let share = table.text("share").and_then(|text| share(&table, text));
    let by = table.text("by").map_or(Some(SplitBy::Random), |text| by(&table, text));
    let kind = table.choice("match").unwrap_or("prefix");
    let path = table.text("path").and_then(|text| match kind {
        "regex" => {
            let pattern = regex(context, "path", text)?;
            Some(PathMatch::Regex { pattern, ignore_case: false })
        }
        "exact" => checked_path(context, "path", text).map(PathMatch::Exact),
        "starts_with" => checked_path(context, "path", text).map(PathMatch::StartsWith),
        _ => checked_path(context, "path", text).map(PathMatch::Prefix),
    });
    let (when, methods) = (when(&table), methods(&table));
    table.finish();
    Some(Split { pool: pool?, share, by: by?, when, methods, path })
}

/// Per cent as parts of a million.
fn share(table: &Table<'_>, text: Spanned<&str>) -> Option<u32> {
    let number = text.value.trim().strip_suffix('%').unwrap_or(text.value).trim().parse::<f64>();
    match number {
        Ok(percent) if (0.0..=100.0).contains(&percent) => {
            Some((percent * 10_000.0).round() as u32)
        }
        _ => {
            let context = table.context();
            context.push(context.bad("share", text.span, "expected per cent, as in \"5%\""));
            None
        }
    }
}

fn by(table: &Table<'_>, text: Spanned<&str>) -> Option<SplitBy> {
    match text.value {
        "random" => return Some(SplitBy::Random),
        "address" => return Some(SplitBy::Address),
        _ => {}
    }
    let name = text.value.strip_prefix("header:").map(str::trim);
    match name {
        Some(name) if field_name(name).is_ok() => Some(SplitBy::Header(name.to_owned())),
        _ => {
            let context = table.context();
            let reason = "expected \"random\", \"address\" or \"header:\" and a name";
            context.push(context.bad("by", text.span, reason));
            None
        }
    }
}
