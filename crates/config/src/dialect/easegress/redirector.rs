//! `kind: Redirector`: redirects of requests that match.

use crate::decode::Table;
use crate::dialect::build::{TableNode, number, text};
use crate::schema::{Kind, Section, now};

use super::NAME;
use super::filter::{Part, Role, Site};
use super::rules::regexp;

pub(super) static REDIRECTOR: Section = Section {
    path: "Redirector",
    list: false,
    about: "Redirects of requests that match.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("match", Kind::Text, "required", ""),
        now("matchPart", Kind::Choice(&["uri", "path", "full"], &[""]), "uri", ""),
        now("replacement", Kind::Text, "required", ""),
        now("statusCode", Kind::Integer(301, 308), "301", ""),
    ],
};

/// What the filter is in a native route.
pub(super) fn decode(table: &Table<'_>, _: &Site<'_>) -> Part {
    let place = table.span;
    table.require("match", "\"^/old/(.*)$\"");
    table.require("replacement", "\"/new/$1\"");
    let pattern = table.text("match");
    let to = table.text("replacement");
    let at = table.peek("matchPart").map_or(place, |entry| entry.node.span);
    let part = table.choice("matchPart").filter(|part| !part.is_empty()).unwrap_or("uri");
    let status = table.integer("statusCode").map(|status| (status.value, status.span));
    let mut route = TableNode::at(place);
    if let (Some(pattern), Some(to)) = (pattern, to)
        && regexp(table.context(), "match", pattern).is_some()
    {
        let (status, span) = status.unwrap_or((301, place));
        let mut redirect = TableNode::at(place);
        redirect.put("regex", text(pattern.value, pattern.span));
        redirect.put("of", text(part, at));
        redirect.put("to", text(to.value, to.span));
        redirect.put("status", number(status, span));
        route.push("redirects", redirect);
    }
    Part::new(Role::Guard, route)
}
