//! What an upstream is told of the client and of how it asked: `X-Forwarded-*` and `Forwarded` (RFC 7239).
//!
//! The requests of one connection mostly name the same host, and these lines are the same for all of
//! them then. So a connection keeps what it wrote for the last one.
//!
//! What always holds: lines that are kept are used only for a request of the same connection with the same
//! authority, by a route that tells the same, and only if no hop before this one has said anything.

use std::cell::{Cell, RefCell};

use wire::field::FieldId;
use wire::forwarded::write_forwarded as write_element;

use super::edits::FieldSet;
use super::request::{RequestHeadParts, field};

/// Fields with what was said of the client, and of how it asked.
pub(super) const X_FORWARDED: FieldSet = FieldSet::of(&[
    FieldId::XForwardedFor,
    FieldId::XForwardedProto,
    FieldId::XForwardedHost,
    FieldId::XForwardedPort,
]);

/// Longer lines are written anew each time: a connection that waits shall cost little.
const KEPT_MAX: usize = 512;

/// What a connection keeps of it.
#[derive(Debug, Default)]
pub struct ToldBefore {
    /// They were written before; many connections have one request alone.
    again: Cell<bool>,
    kept: RefCell<Option<Box<Kept>>>,
}

#[derive(Debug, Default)]
struct Kept {
    x_forwarded: bool,
    forwarded: bool,
    authority: Vec<u8>,
    lines: Vec<u8>,
}

/// Appends the lines that the route wants.
pub(super) fn write_told(parts: &RequestHeadParts<'_>, out: &mut Vec<u8>) {
    let forwarding = &parts.route.forwarding;
    if !forwarding.x_forwarded && !forwarding.forwarded {
        return;
    }
    let said = X_FORWARDED.union(FieldSet::of(&[FieldId::Forwarded]));
    if parts.head.fields.iter().any(|field| said.contains(field.id)) {
        return write_anew(parts, out);
    }
    if let Some(kept) = &*parts.told_before.kept.borrow()
        && kept.fits(parts)
    {
        return out.extend_from_slice(&kept.lines);
    }
    let start = out.len();
    write_anew(parts, out);
    parts.told_before.keep(parts, out.get(start..).unwrap_or_default());
}

impl ToldBefore {
    fn keep(&self, parts: &RequestHeadParts<'_>, lines: &[u8]) {
        if !self.again.replace(true) || lines.len() > KEPT_MAX {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        let kept = kept.get_or_insert_default();
        kept.x_forwarded = parts.route.forwarding.x_forwarded;
        kept.forwarded = parts.route.forwarding.forwarded;
        kept.authority.clear();
        kept.authority.extend_from_slice(parts.authority);
        kept.lines.clear();
        kept.lines.extend_from_slice(lines);
    }
}

impl Kept {
    fn fits(&self, parts: &RequestHeadParts<'_>) -> bool {
        let forwarding = &parts.route.forwarding;
        self.x_forwarded == forwarding.x_forwarded
            && self.forwarded == forwarding.forwarded
            && self.authority == parts.authority
    }
}

#[inline(never)]
fn write_anew(parts: &RequestHeadParts<'_>, out: &mut Vec<u8>) {
    if parts.route.forwarding.x_forwarded {
        write_x_forwarded(parts, out);
    }
    if parts.route.forwarding.forwarded {
        write_forwarded(parts, out);
    }
}

fn write_x_forwarded(parts: &RequestHeadParts<'_>, out: &mut Vec<u8>) {
    appended(parts, out, b"X-Forwarded-For", FieldId::XForwardedFor, |out| {
        out.extend_from_slice(parts.client.text());
    });
    said_or(
        parts,
        out,
        b"X-Forwarded-Proto",
        FieldId::XForwardedProto,
        if parts.secure { b"https" } else { b"http" },
    );
    if !parts.authority.is_empty() {
        said_or(parts, out, b"X-Forwarded-Host", FieldId::XForwardedHost, parts.authority);
    }
    let mut port = itoa::Buffer::new();
    let port = port.format(parts.port).as_bytes();
    said_or(parts, out, b"X-Forwarded-Port", FieldId::XForwardedPort, port);
}

/// RFC 7239: one element for this hop, after those of earlier hops.
fn write_forwarded(parts: &RequestHeadParts<'_>, out: &mut Vec<u8>) {
    let scheme = if parts.secure { "https" } else { "http" };
    appended(parts, out, b"Forwarded", FieldId::Forwarded, |out| {
        write_element(out, parts.client.ip(), scheme, parts.authority);
    });
}

/// A list field: what came, then what `ours` writes.
pub(super) fn appended(
    parts: &RequestHeadParts<'_>,
    out: &mut Vec<u8>,
    name: &[u8],
    id: FieldId,
    ours: impl FnOnce(&mut Vec<u8>),
) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for value in values(parts, id) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    ours(out);
    out.extend_from_slice(b"\r\n");
}

/// A field that only a trusted peer may fill; else it is `ours`.
fn said_or(parts: &RequestHeadParts<'_>, out: &mut Vec<u8>, name: &[u8], id: FieldId, ours: &[u8]) {
    let said = match parts.peer_trusted {
        true => values(parts, id).last(),
        false => None,
    };
    field(out, name, &[said.unwrap_or(ours)]);
}

fn values<'a>(parts: &RequestHeadParts<'a>, id: FieldId) -> impl Iterator<Item = &'a [u8]> {
    let bytes = parts.bytes;
    let fields = parts.head.fields.iter().filter(move |field| field.id == id);
    fields.map(|field| field.value.of(bytes)).filter(|value| !value.is_empty())
}
