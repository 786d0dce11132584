//! What tables of `auth` do to each other: those of one list, and those of a site to those of its routes.
//!
//! This looks at what is written and takes nothing: every table is decoded on its own as well.

use std::collections::HashMap;

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::Span;
use crate::tree::{Entry, Node, Value};

use super::canonical;

/// The tables of `auth` of a site or a route.
#[derive(Default)]
pub(in super::super) struct Asked<'n> {
    tables: Vec<One<'n>>,
}

struct One<'n> {
    /// Where the table is.
    place: Span,
    reads: Option<Scheme>,
    /// The fields that tell the upstream who it is.
    told: Vec<(&'n str, Span)>,
}

/// What a table wants in `Authorization`, which has one value.
#[derive(Clone, Copy, PartialEq)]
enum Scheme {
    Basic,
    Bearer,
}

/// The fields that rules of a site or a route set, and where.
#[derive(Default)]
pub(in super::super) struct SetFields<'n> {
    names: Vec<(&'n str, Span)>,
}

impl<'n> Asked<'n> {
    /// What the table of a site or a route says.
    pub(in super::super) fn of(parent: &Table<'n>) -> Asked<'n> {
        let Some(entry) = parent.peek("auth") else { return Asked::default() };
        let nodes = match &entry.node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.node),
        };
        Asked { tables: nodes.iter().filter_map(One::of).collect() }
    }

    /// Reports tables of one list that do not go together.
    pub(in super::super) fn report(&self, context: &Context<'_>) {
        let all: Vec<&One<'_>> = self.tables.iter().collect();
        both(context, &all, 0);
        twice(context, &all, 0);
    }

    /// Reports tables of a route that do not go together with those of its site, and fields that it sets
    /// in vain.
    pub(in super::super) fn report_beside(
        &self,
        context: &Context<'_>,
        site: &Asked<'_>,
        set: &SetFields<'_>,
    ) {
        let all: Vec<&One<'_>> = site.tables.iter().chain(&self.tables).collect();
        if !self.tables.is_empty() {
            both(context, &all, site.tables.len());
            twice(context, &all, site.tables.len());
        }
        set.report(context, &all);
    }
}

impl<'n> SetFields<'n> {
    /// What the table of a proxy or a route sets on requests.
    pub(in super::super) fn of(parent: &Table<'n>) -> SetFields<'n> {
        let within = |table: &str, keys: &[&str]| -> Vec<(&'n str, Span)> {
            let entries = parent.peek(table).map_or(&[][..], |entry| entries(&entry.node));
            let maps = entries.iter().filter(|entry| keys.contains(&entry.key.as_str()));
            let fields = maps.flat_map(|map| self::entries(&map.node));
            fields.map(|field| (field.key.as_str(), field.key_span)).collect()
        };
        let mut names = within("headers", &["add"]);
        names.extend(within("request_headers", &["set", "fill", "append"]));
        SetFields { names }
    }

    /// Reports those that the site's `auth` tells.
    pub(in super::super) fn report_at(&self, context: &Context<'_>, site: &Asked<'_>) {
        self.report(context, &site.tables.iter().collect::<Vec<_>>());
    }

    fn report(&self, context: &Context<'_>, asked: &[&One<'_>]) {
        if self.names.is_empty() {
            return;
        }
        let told = asked.iter().flat_map(|one| &one.told);
        let told: HashMap<String, Span> =
            told.map(|(name, place)| (canonical(name), *place)).collect();
        for (name, place) in &self.names {
            let Some(teller) = told.get(&canonical(name)) else { continue };
            let message = format!("`{}` does not reach the upstream", name.escape_debug());
            context.push(
                Diagnostic::warning(Code::Conflict, *place, message)
                    .label("what `auth` proves takes the place of what is set here")
                    .also(*teller, "told here"),
            );
        }
    }
}

impl<'n> One<'n> {
    fn of(node: &'n Node) -> Option<One<'n>> {
        let Value::Table(entries) = &node.value else { return None };
        let get =
            |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node);
        let text = |node: &'n Node| match &node.value {
            Value::String(text) => Some((text.as_str(), node.span)),
            _ => None,
        };
        let (kind, _) = get("type").and_then(text)?;
        let (reads, told) = match kind.to_ascii_lowercase().as_str() {
            "basic" => {
                (Some(Scheme::Basic), get("user_header").and_then(text).into_iter().collect())
            }
            "jwt" => {
                // Where there are several places, a token need not be in this one.
                let bearer = match get("from") {
                    None => true,
                    Some(Node { value: Value::Array(places), .. }) => {
                        matches!(&places[..], [only] if text(only).is_some_and(is_bearer))
                    }
                    Some(place) => text(place).is_some_and(is_bearer),
                };
                let told = get("claims_to_headers").map_or(&[][..], self::entries);
                let told = told.iter().filter_map(|claim| text(&claim.node)).collect();
                (bearer.then_some(Scheme::Bearer), told)
            }
            _ => (None, Vec::new()),
        };
        Some(One { place: node.span, reads, told })
    }
}

/// A token is in `Authorization`.
fn is_bearer((from, _): (&str, Span)) -> bool {
    from.eq_ignore_ascii_case("header:authorization")
}

fn entries(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Table(entries) => entries,
        _ => &[],
    }
}

/// Reports a table, not among the first `known`, that wants something else in `Authorization` than one
/// before it: no request can satisfy both.
fn both(context: &Context<'_>, tables: &[&One<'_>], known: usize) {
    for (index, one) in tables.iter().enumerate().skip(known) {
        let Some(reads) = one.reads else { continue };
        let other =
            tables.iter().take(index).find(|other| other.reads.is_some_and(|other| other != reads));
        let Some(other) = other else { continue };
        let wants = |scheme: Option<Scheme>| match scheme {
            Some(Scheme::Basic) => "name and password in `Authorization`",
            _ => "a token in `Authorization`",
        };
        context.push(
            Diagnostic::error(Code::Conflict, one.place, "nobody can satisfy both of these")
                .label(wants(one.reads))
                .also(other.place, wants(other.reads))
                .help("a request has one `Authorization`: take the token from elsewhere, as with `from = \"header:X-Token\"`")
                .help("where one of them is enough, ask for the second in a route that takes over: `on_result = { unauthorized = … }`"),
        );
        return;
    }
}

/// Reports fields of tables, not among the first `known`, that one before tells too.
fn twice(context: &Context<'_>, tables: &[&One<'_>], known: usize) {
    let mut seen: HashMap<String, (usize, Span)> = HashMap::new();
    for (index, one) in tables.iter().enumerate() {
        for (name, place) in &one.told {
            let before = seen.insert(canonical(name), (index, *place));
            let Some((other, first)) = before.filter(|_| index >= known) else { continue };
            // Of one table it is an error, reported with the table.
            if other != index {
                let message = format!("`{}` is told twice", name.escape_debug());
                context.push(
                    Diagnostic::warning(Code::Conflict, *place, message)
                        .label("this one counts")
                        .also(first, "never sent")
                        .help("give one of them another name"),
                );
            }
        }
    }
}
