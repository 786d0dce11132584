//! `access`: who may come in, by address.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Access;
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::syntax::network;
use crate::tree::{Entry, Value};

use super::ssl::needed_file;

pub(super) static SECTION: Section = Section {
    path: "sites.access",
    list: false,
    about: "Who may come in, by the client's address; others are answered 403. Several of them, `[[sites.access]]`, must all admit a client, and so must those of its route.",
    keys: KEYS,
};

pub(super) static OF_A_ROUTE: Section = Section {
    path: "sites.routes.access",
    list: false,
    about: "Who may use the route, as in `[sites.access]`; the site's must admit them too.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now(
        "allow",
        Kind::Texts,
        "[]",
        "Addresses and networks (`\"10.0.0.0/8\"`, `\"2001:db8::/32\"`) that may come in; an empty list admits nobody. Of all networks that an address is in, the smallest counts. `::/0` has no IPv4 address in it.",
    ),
    now(
        "deny",
        Kind::Texts,
        "[]",
        "Addresses and networks that may not; of two that are the same, this one counts.",
    ),
    now(
        "allow_file",
        Kind::Text,
        "none",
        "File with more networks that may, one a line; `#` begins a comment. It is read at start.",
    ),
    now("deny_file", Kind::Text, "none", "File with more networks that may not."),
    now(
        "default",
        Kind::Choice(&["allow", "deny"], &[]),
        "\"deny\" if there is only `allow`, else \"allow\"",
        "Addresses that are in none of them, and clients on Unix sockets, which have none.",
    ),
];

/// Decodes all tables of this name.
pub(super) fn decode(parent: &Table<'_>) -> Vec<Access> {
    parent.tables("access").into_iter().map(one).collect()
}

fn one(table: Table<'_>) -> Access {
    let (allow, deny) = (networks(&table, "allow"), networks(&table, "deny"));
    let why = "nobody knows who may come in without it";
    let allow_file = needed_file(&table, "allow_file", true, why);
    let deny_file = needed_file(&table, "deny_file", true, why);
    // An empty list admits nobody.
    let allows = table.has("allow_file") || table.has("allow");
    let denies = table.has("deny_file") || !deny.is_empty();
    let default = table.choice("default");
    let others = match default {
        Some(word) => word == "allow",
        None => !allows || denies,
    };
    // What could not be read is reported for that alone.
    if default.is_some() || !table.has("default") {
        match table.peek("allow") {
            Some(list) if allow.is_empty() && !table.has("allow_file") && is_empty(list) => {
                for_nobody(&table, list, default, denies, others);
            }
            _ => pointless(&table, allows, denies, others),
        }
    }
    undecided(&table, &allow, &deny);
    table.finish();
    let nets = |places: Vec<(IpNet, Span)>| places.into_iter().map(|(net, _)| net).collect();
    Access { allow: nets(allow), deny: nets(deny), allow_file, deny_file, others }
}

/// A list of networks, each with its place.
pub(super) fn networks(table: &Table<'_>, name: &'static str) -> Vec<(IpNet, Span)> {
    let context = table.context();
    let mut found = Vec::new();
    for text in table.texts(name).unwrap_or_default() {
        match network(text.value) {
            Ok(net) => found.push((net, text.span)),
            Err(_) if matches!(text.value, "all" | "any" | "*") => {
                let error = context.bad(name, text.span, "expected an address or a network");
                context.push(error.help(match table.section().key("default") {
                    Some(_) => format!("what holds for all others is `default = \"{name}\"`"),
                    None => "all are `\"0.0.0.0/0\"` and `\"::/0\"`".to_owned(),
                }));
            }
            Err(hint) => context.push_hint(name, text.span, hint),
        }
    }
    found
}

fn is_empty(list: &Entry) -> bool {
    matches!(&list.node.value, Value::Array(items) if items.is_empty())
}

/// Says what an empty list comes to, unless `default` says the same.
fn for_nobody(table: &Table<'_>, list: &Entry, default: Option<&str>, denies: bool, others: bool) {
    let (message, label) = match (default, others) {
        (Some("deny"), _) => return,
        (_, false) => ("admits nobody", "an empty list has nobody in it"),
        (Some(_), true) if !denies => ("admits everybody", "this empty list changes nothing"),
        (_, true) => ("admits whom `deny` does not name", "this empty list changes nothing"),
    };
    let message = format!("`{}` {message}", table.section().header());
    let warning = Diagnostic::warning(Code::Unused, list.key_span, message).label(label);
    table.context().push(match default {
        Some(_) => warning,
        None => warning.help(
            "name who may come in, or write `default`: what holds for addresses that are in neither list",
        ),
    });
}

/// Says that lists change nothing.
fn pointless(table: &Table<'_>, allows: bool, denies: bool, others: bool) {
    let written = |name| table.has(name);
    let message = match (allows, denies, others) {
        (false, false, true) if !written("allow") && !written("deny") => "admits everybody",
        (true, false, true) => "admits everybody: who is not in `allow` may come in as well",
        (false, true, false) => "admits nobody: who is not in `deny` may not come in either",
        _ => return,
    };
    let place = table.peek("default").map_or(table.span, |entry| entry.key_span);
    let message = format!("`{}` {message}", table.section().header());
    table.context().push(
        Diagnostic::warning(Code::Unused, place, message)
            .label("as it stands, the lists decide nothing")
            .help("`default` is what holds for addresses that are in neither list"),
    );
}

/// Points out networks that are in both lists.
fn undecided(table: &Table<'_>, allow: &[(IpNet, Span)], deny: &[(IpNet, Span)]) {
    let denied: HashMap<&IpNet, &Span> = deny.iter().map(|(net, span)| (net, span)).collect();
    for (net, span) in allow {
        if let Some(place) = denied.get(net) {
            table.context().push(
                Diagnostic::warning(Code::Conflict, *span, format!("{net} is in both lists"))
                    .label("changes nothing: `deny` counts")
                    .also(**place, "denied here"),
            );
        }
    }
}
