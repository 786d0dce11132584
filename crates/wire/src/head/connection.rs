//! Persistence, `Connection` options and upgrades (RFC 9110 §7.6.1, §7.8; RFC 9112 §9.3).

use super::Version;
use super::index::Index;
use crate::field::{Field, FieldId, field_id};
use crate::token;

/// What a message asks to turn the connection into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Upgrade {
    /// Nothing.
    #[default]
    None,
    /// A WebSocket: in a request GET, HTTP/1.1, no body, `Connection: upgrade`,
    /// `Upgrade: websocket`; in a response status 101 and the same two fields.
    WebSocket,
    /// Anything else with `Connection: upgrade`, h2c for example. Never forwarded.
    Other,
}

/// What all `Connection` fields of a head say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Options {
    /// `close`
    pub(super) close: bool,
    /// `keep-alive`
    pub(super) keep_alive: bool,
    /// `upgrade`
    pub(super) upgrade: bool,
    /// Some other option, so that fields may be nominated.
    pub(super) others: bool,
}

impl Options {
    #[inline]
    pub(super) fn of(index: &Index<'_>) -> Options {
        let mut options = Options::default();
        if index.has(FieldId::Connection) {
            for value in index.values(FieldId::Connection) {
                options.add(value);
            }
        }
        options
    }

    #[inline]
    fn add(&mut self, value: &[u8]) {
        // Nearly every head has one option.
        if !self.add_known(value) {
            for option in token::elements(value) {
                self.others |= !self.add_known(option);
            }
        }
    }

    /// Notes an option with a meaning of its own; `false` if it is none.
    #[inline]
    fn add_known(&mut self, option: &[u8]) -> bool {
        let known = match option.len() {
            10 if token::eq_ignoring_case(option, b"keep-alive") => &mut self.keep_alive,
            5 if token::eq_ignoring_case(option, b"close") => &mut self.close,
            7 if token::eq_ignoring_case(option, b"upgrade") => &mut self.upgrade,
            _ => return false,
        };
        *known = true;
        true
    }

    /// Whether the sender wants the connection to persist (RFC 9112 §9.3).
    #[inline]
    pub(super) fn persistent(self, version: Version) -> bool {
        match version {
            Version::Http11 | Version::Http2 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }
}

/// What the head asks to upgrade to; `websocket_possible` says whether everything besides the two
/// fields allows a WebSocket.
#[inline]
pub(super) fn upgrade(index: &Index<'_>, options: Options, websocket_possible: bool) -> Upgrade {
    if !options.upgrade || !index.has(FieldId::Upgrade) {
        return Upgrade::None;
    }
    let named = index
        .values(FieldId::Upgrade)
        .flat_map(token::elements)
        .any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    if named && websocket_possible { Upgrade::WebSocket } else { Upgrade::Other }
}

/// Whether one of the `Connection` fields names `name` (RFC 9110 §7.6.1), compared ignoring case.
/// `Host` and `Content-Length` cannot be nominated: they are for every recipient, and without them
/// the message would be another one.
pub(super) fn nominated(buf: &[u8], fields: &[Field], name: &[u8]) -> bool {
    if matches!(field_id(name), FieldId::Host | FieldId::ContentLength) {
        return false;
    }
    fields
        .iter()
        .filter(|field| field.id == FieldId::Connection)
        .flat_map(|field| token::elements(field.value.of(buf)))
        .any(|option| option.eq_ignore_ascii_case(name))
}
