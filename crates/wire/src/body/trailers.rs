//! The trailer section after the last chunk (RFC 9112 §7.1.2).
//!
//! Bounded, validated like fields of a head, and reduced to what may be forwarded: RFC 9110 §6.5.1
//! lets a recipient ignore trailers, and forbids those that framing, routing, authentication,
//! request modifiers, response control or the content's meaning depend on. Without that, a trailer
//! would be a way to add a field after every check has been made.

use super::BodyError;
use crate::field::{FieldId, field_id};
use crate::token;

/// Bytes of a trailer section, dropped fields included. What gRPC and checksums need is far less.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Fields of a trailer section, dropped ones included.
pub const TRAILER_FIELDS_MAX: usize = 32;

/// A trailer section being read.
#[derive(Debug, Clone, Default)]
pub(super) struct Trailers {
    /// Kept lines in `name: value` form, then the raw line that is still being read.
    bytes: Vec<u8>,
    /// Where the line being read begins in `bytes`.
    line: usize,
    /// Raw bytes seen.
    seen: usize,
    fields: usize,
    /// The CR of the empty line that ends the section was seen.
    ending: bool,
}

impl Trailers {
    /// The kept lines.
    pub(super) fn lines(&self) -> &[u8] {
        self.bytes.get(..self.line).unwrap_or_default()
    }

    /// Reads on; returns how many bytes were consumed and whether the section has ended. Consumes at
    /// least one byte of a non-empty input.
    pub(super) fn next(&mut self, input: &[u8]) -> Result<(usize, bool), BodyError> {
        let at_line_start = self.bytes.len() == self.line;
        match input {
            [b'\n', ..] if self.ending => return Ok((1, true)),
            _ if self.ending => return Err(BodyError::LineEnd),
            [b'\r', b'\n', ..] if at_line_start => return Ok((2, true)),
            [b'\r', ..] if at_line_start => {
                self.ending = true;
                return Ok((1, false));
            }
            _ => {}
        }
        let taken = memchr::memchr(b'\n', input).map_or(input.len(), |at| at.saturating_add(1));
        let part = input.get(..taken).unwrap_or_default();
        self.seen = self.seen.saturating_add(taken);
        if self.seen > TRAILER_BYTES_MAX {
            return Err(BodyError::TrailersTooLarge);
        }
        self.bytes.extend_from_slice(part);
        if part.ends_with(b"\n") {
            self.end_line()?;
        }
        Ok((taken, false))
    }

    /// Judges the line that was just completed: keeps it in its one form, or drops it.
    fn end_line(&mut self) -> Result<(), BodyError> {
        let raw = self.bytes.split_off(self.line);
        let line = raw.strip_suffix(b"\r\n").ok_or(BodyError::LineEnd)?;
        let colon = memchr::memchr(b':', line).ok_or(BodyError::Trailer)?;
        let (name, value) = line.split_at_checked(colon).ok_or(BodyError::Trailer)?;
        let value = token::trim(value.get(1..).unwrap_or_default());
        if !token::is_token(name) || !value.iter().all(|byte| token::is_value_byte(*byte)) {
            return Err(BodyError::Trailer);
        }
        self.fields = self.fields.saturating_add(1);
        if self.fields > TRAILER_FIELDS_MAX {
            return Err(BodyError::TrailersTooLarge);
        }
        if may_be_trailer(name) {
            for part in [name, b": ", value, b"\r\n"] {
                self.bytes.extend_from_slice(part);
            }
            self.line = self.bytes.len();
        }
        Ok(())
    }
}

/// Whether a field of this name may be forwarded in trailers (RFC 9110 §6.5.1). Underscores count as
/// hyphens, because gateways further on make them one.
pub fn may_be_trailer(name: &[u8]) -> bool {
    let name: Vec<u8> = name
        .iter()
        .map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() })
        .collect();
    let known_to_head = !matches!(field_id(&name), FieldId::Other | FieldId::Etag);
    !known_to_head
        && !FORBIDDEN.contains(&name.as_slice())
        && !FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Names forbidden besides those with a [`FieldId`], which all matter in the head.
const FORBIDDEN: &[&[u8]] = &[
    b"age",
    b"allow",
    b"client-cert",
    b"client-cert-chain",
    b"early-data",
    b"expires",
    b"max-forwards",
    b"pragma",
    b"priority",
    b"remote-user",
    b"retry-after",
    b"true-client-ip",
    b"warning",
    b"www-authenticate",
];

const FORBIDDEN_PREFIXES: &[&[u8]] =
    &[b"access-control-", b"content-", b"proxy-", b"sec-", b"x-auth-", b"x-forwarded-", b"x-ssl-"];
