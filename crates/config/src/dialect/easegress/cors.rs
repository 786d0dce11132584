//! `kind: CORSAdaptor`: requests that pages of other origins make.

use crate::decode::Table;
use crate::dialect::build::{TableNode, number, texts};
use crate::schema::{Kind, Section, now};

use super::filter::{Part, Role, Site};
use super::{NAME, copy};

pub(super) static CORS_ADAPTOR: Section = Section {
    path: "CORSAdaptor",
    list: false,
    about: "Requests that pages of other origins make.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("allowedOrigins", Kind::Texts, "*", ""),
        now("allowedMethods", Kind::Texts, "HEAD, GET, POST", ""),
        now("allowedHeaders", Kind::Texts, "", ""),
        now("allowCredentials", Kind::Bool, "false", ""),
        now("exposedHeaders", Kind::Texts, "", ""),
        now("maxAge", Kind::Integer(0, 86_400 * 30), "0", ""),
        now("supportCORSRequest", Kind::Bool, "false", ""),
    ],
};

/// What pages may use where nothing is said.
const METHODS: &[&str] = &["HEAD", "GET", "POST"];
/// What they may send where nothing is said.
const HEADERS: &[&str] = &["Origin", "Accept", "Content-Type", "X-Requested-With"];

/// What the filter is in a native route.
pub(super) fn decode(table: &Table<'_>, _: &Site<'_>) -> Part {
    let place = table.span;
    let mut native = TableNode::at(place);
    for (key, to, default) in [
        ("allowedOrigins", "allow_origins", &["*"][..]),
        ("allowedMethods", "allow_methods", METHODS),
        ("allowedHeaders", "allow_headers", HEADERS),
    ] {
        let none = table.peek(key).is_none_or(|entry| entry.node.value.is_off());
        match none {
            true => {
                table.take(key);
                native.put(to, texts(default.iter().copied(), place));
            }
            false => _ = copy(table, key, &mut native, to),
        }
    }
    copy(table, "exposedHeaders", &mut native, "expose_headers");
    copy(table, "allowCredentials", &mut native, "allow_credentials");
    if !copy(table, "maxAge", &mut native, "max_age") {
        native.put("max_age", number(0, place));
    }
    table.boolean("supportCORSRequest");
    let mut route = TableNode::at(place);
    route.put("access_control", native);
    Part::new(Role::Guard, route)
}
