//! The response head as the client gets it.

use wire::field::{Field, FieldId};
use wire::head::{Framing, ResponseHead};

use super::edits::{Edits, FieldSet};
use super::location::PublicPath;
use super::request::{CONNECTION_FIELDS, NEVER_NOMINATED, copy_fields};

use crate::guards::Lines;

/// What a forwarded response head is made of.
#[derive(Debug)]
pub struct ResponseHeadParts<'a> {
    /// The upstream's head.
    pub head: &'a ResponseHead,
    /// The bytes it was parsed from.
    pub bytes: &'a [u8],
    /// The site's rules.
    pub edits: &'a Edits,
    /// Add Via.
    pub via: bool,
    /// URLs of the upstream are rewritten to lead here.
    pub public_path: Option<PublicPath<'a>>,
    /// Leave out `X-Accel-Buffering`, which was meant for Ravelin.
    pub hides_buffering: bool,
    /// The body goes out chunked.
    pub chunked: bool,
    /// What to say of the client connection.
    pub connection: ConnectionSays,
    /// "Date: …\r\n", for a response that has none (RFC 9110 §6.6.1).
    pub date_line: &'a [u8],
    /// A `Set-Cookie` line of Ravelin's own, or nothing.
    pub cookie_line: &'a [u8],
    /// What guards have to say.
    pub lines: &'a Lines,
    /// The id of the request, if a rule wants it.
    pub request_id: &'a [u8],
}

/// What the Connection field of a response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionSays {
    /// Nothing: it persists, as HTTP/1.1 connections do.
    Nothing,
    /// It persists, which an HTTP/1.0 client has to be told.
    KeepAlive,
    /// It ends with this response.
    Close,
    /// It is a WebSocket from here on.
    Upgrade,
}

impl ConnectionSays {
    /// The field lines.
    pub fn lines(self) -> &'static [u8] {
        match self {
            ConnectionSays::Nothing => b"",
            ConnectionSays::KeepAlive => b"Connection: keep-alive\r\n",
            ConnectionSays::Close => b"Connection: close\r\n",
            ConnectionSays::Upgrade => b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        }
    }
}

/// Appends the head to send to `out`.
pub fn write_response_head(parts: &ResponseHeadParts<'_>, out: &mut Vec<u8>) {
    write_status_line(parts.head, parts.bytes, out);
    let mut dropped = CONNECTION_FIELDS.union(parts.edits.dropped());
    // A length beside no body is only meaningful where the body was left out (HEAD, 304).
    let bodiless = matches!(parts.head.status, 100..200 | 204);
    if bodiless || !matches!(parts.head.framing, Framing::None | Framing::Length(_)) {
        dropped = dropped.union(FieldSet::of(&[FieldId::ContentLength]));
    }
    if parts.via {
        dropped = dropped.union(FieldSet::of(&[FieldId::Via]));
    }
    if parts.hides_buffering {
        dropped = dropped.union(FieldSet::of(&[FieldId::XAccelBuffering]));
    }
    let mut has_date = false;
    copy_fields(out, parts.bytes, &parts.head.fields, |field| {
        has_date |= field.id == FieldId::Date;
        !dropped.contains(field.id)
            && (field.id != FieldId::Other || !parts.edits.drops(field, parts.bytes))
            && (parts.public_path.is_none() || !PublicPath::concerns(field, parts.bytes))
            && (NEVER_NOMINATED.contains(field.id)
                || !parts.head.nominated(parts.bytes, field.name.of(parts.bytes)))
    });
    if let Some(public_path) = &parts.public_path {
        let kept = |field: &&Field| {
            PublicPath::concerns(field, parts.bytes)
                && !dropped.contains(field.id)
                && !parts.edits.drops(field, parts.bytes)
                && !parts.head.nominated(parts.bytes, field.name.of(parts.bytes))
        };
        let fields = parts.head.fields.iter().filter(kept);
        fields.for_each(|field| public_path.write(field, parts.bytes, out));
    }
    if !has_date {
        out.extend_from_slice(parts.date_line);
    }
    if parts.chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if parts.via {
        out.extend_from_slice(b"Via: ");
        for field in parts.head.fields.iter().filter(|field| field.id == FieldId::Via) {
            out.extend_from_slice(field.value.of(parts.bytes));
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(b"1.1 ravelin\r\n");
    }
    out.extend_from_slice(parts.connection.lines());
    out.extend_from_slice(parts.cookie_line);
    parts.lines.write(out);
    parts.edits.write(parts.request_id, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim (1xx) response: passed on as it came, but for fields of one connection.
pub fn write_informational(head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    write_status_line(head, bytes, out);
    let dropped = CONNECTION_FIELDS.union(FieldSet::of(&[FieldId::ContentLength]));
    copy_fields(out, bytes, &head.fields, |field| {
        !dropped.contains(field.id) && !head.nominated(bytes, field.name.of(bytes))
    });
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    let mut status = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason.of(bytes));
    out.extend_from_slice(b"\r\n");
}
