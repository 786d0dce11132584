//! What a site says of its listeners' connections: whether and how long they are kept between requests,
//! how many there are, how many wait.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Connections;
use crate::schema::{Key, Kind, now};
use crate::source::Span;

use super::performance::CONNECTIONS_MAX;

/// Highest backlog that `listen(2)` takes.
const BACKLOG_MAX: i64 = i32::MAX as i64;

pub(super) const KEEP_ALIVE: Key = now(
    "keep_alive",
    Kind::Bool,
    "true",
    "Keep connections open for the next request. Off, each HTTP/1 connection is closed after one response; HTTP/2 is as it is. All sites of a listener agree on this key and the next three.",
);
pub(super) const KEEP_ALIVE_TIMEOUT: Key = now(
    "keep_alive_timeout",
    Kind::Duration(false),
    "`performance.keep_alive_timeout`",
    "A connection to its listeners idle between two requests is closed after this.",
);
pub(super) const MAX_CONNECTIONS: Key = now(
    "max_connections",
    Kind::Integer(1, CONNECTIONS_MAX),
    "`performance.max_connections`, of all listeners together",
    "Connections at once to each of its listeners; more wait in the backlog.",
);
pub(super) const BACKLOG: Key = now(
    "backlog",
    Kind::Integer(1, BACKLOG_MAX),
    "4096",
    "Connections that may wait at its listeners until they are taken, of each worker; the system caps it (`net.core.somaxconn`). What comes beyond it has to try again.",
);

/// The keys on which all sites of a listener agree, and how to tell whether two do.
pub(super) static AGREED: [(&str, Agrees); 4] = [
    ("keep_alive", |one, other| one.keep_alive == other.keep_alive),
    ("keep_alive_timeout", |one, other| one.keep_alive_timeout == other.keep_alive_timeout),
    ("max_connections", |one, other| one.max == other.max),
    ("backlog", |one, other| one.backlog == other.backlog),
];

pub(super) type Agrees = fn(&Connections, &Connections) -> bool;

/// Where each key of [`AGREED`] is written.
pub(super) type Written = [Option<Span>; AGREED.len()];

/// Decodes a site's keys. `http2`: its listeners take HTTP/2.
pub(super) fn decode(table: &Table<'_>, http2: bool) -> (Connections, Written) {
    let connections = Connections {
        keep_alive: table.boolean("keep_alive").unwrap_or(true),
        keep_alive_timeout: table.duration("keep_alive_timeout"),
        max: table.integer("max_connections").and_then(|max| usize::try_from(max.value).ok()),
        backlog: table.integer("backlog").and_then(|backlog| i32::try_from(backlog.value).ok()),
    };
    if let (true, false, Some(entry)) = (http2, connections.keep_alive, table.peek("keep_alive")) {
        table.context().push(
            Diagnostic::note(
                Code::NotInEffect,
                entry.key_span,
                "`keep_alive` concerns connections of HTTP/1 only",
            )
            .label("those of HTTP/2 are kept until they have been idle for `keep_alive_timeout`"),
        );
    }
    let written = AGREED.map(|(key, _)| table.peek(key).map(|entry| entry.node.span));
    (connections, written)
}
