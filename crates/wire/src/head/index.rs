//! Lines to fields, and the strictness that `httparse` leaves to its caller.
//!
//! `httparse` checks every byte once with SIMD: tokens for names, no control bytes in values, no
//! folding, no space before the colon. It also accepts a bare LF as line end and any number of
//! leading empty lines; those are refused here by looking at the two bytes before each name, without
//! a second pass.

use super::error::Fault;
use super::{FIELDS_CEILING, HEAD_BYTES_CEILING, HeadLimits};
use crate::field::{Field, FieldId, Span, field_id};

/// Empty lines tolerated before a request (RFC 9112 §2.2 asks for one; some old clients send one
/// after a POST body, and a pipelining one may add its own).
const LEADING_LINES_MAX: usize = 2;

/// The fields that a message may carry once only.
const ONCE: u64 = FieldId::Host.bit()
    | FieldId::ContentLength.bit()
    | FieldId::TransferEncoding.bit()
    | FieldId::Expect.bit();

const FRAMING: u64 = FieldId::ContentLength.bit() | FieldId::TransferEncoding.bit();

/// The fields of a head under judgement.
pub(super) struct Index<'a> {
    buf: &'a [u8],
    fields: &'a [Field],
    present: u64,
}

impl<'a> Index<'a> {
    /// Turns what `httparse` found in `buf`, a head that ends at `len`, into `fields`.
    pub(super) fn build(
        buf: &'a [u8],
        len: usize,
        headers: &[httparse::Header<'a>],
        fields: &'a mut Vec<Field>,
    ) -> Result<Index<'a>, Fault> {
        let mut present: u64 = 0;
        let mut repeated: u64 = 0;
        // Faults are collected and looked at after the loop, which keeps it straight.
        let mut lines_end = ends_in_crlf(buf, len) & ends_in_crlf(buf, len.saturating_sub(2));
        fields.clear();
        fields.extend(headers.iter().map(|header| {
            let name = span_in(buf, header.name.as_bytes());
            let id = field_id(header.name.as_bytes());
            lines_end &= ends_in_crlf(buf, name.start());
            repeated |= present & id.bit();
            present |= id.bit();
            Field { name, value: span_in(buf, header.value), id }
        }));
        if !lines_end {
            return Err(Fault::LineEnd);
        }
        if repeated & ONCE != 0 {
            return Err(fault_of_repeated(repeated));
        }
        Ok(Index { buf, fields, present })
    }

    /// Whether a field of this id is there.
    #[inline]
    pub(super) fn has(&self, id: FieldId) -> bool {
        self.present & id.bit() != 0
    }

    /// Whether a field is there that speaks about the body's length.
    #[inline]
    pub(super) fn has_framing(&self) -> bool {
        self.present & FRAMING != 0
    }

    /// Where the value of the first field of this id is.
    #[inline]
    pub(super) fn span(&self, id: FieldId) -> Option<Span> {
        find(self.fields, self.present, id).map(|field| field.value)
    }

    /// The value of the first field of this id.
    #[inline]
    pub(super) fn value(&self, id: FieldId) -> Option<&'a [u8]> {
        self.span(id).map(|span| span.of(self.buf))
    }

    /// The values of all fields of this id.
    pub(super) fn values(&self, id: FieldId) -> impl Iterator<Item = &'a [u8]> {
        let (fields, buf) = (self.fields, self.buf);
        fields.iter().filter(move |field| field.id == id).map(move |field| field.value.of(buf))
    }

    /// Which ids are there, for the head to keep.
    #[inline]
    pub(super) fn present(&self) -> u64 {
        self.present
    }
}

/// The first field of this id; `present` answers for absent ones without a search.
#[inline]
pub(super) fn find(fields: &[Field], present: u64, id: FieldId) -> Option<&Field> {
    if present & id.bit() == 0 {
        return None;
    }
    fields.iter().find(|field| field.id == id)
}

/// The part of `buf` a head may lie in, and whether it is cut to the limit (if so, a head that does
/// not end within it is too large).
#[inline]
pub(super) fn window<'a>(buf: &'a [u8], limits: &HeadLimits) -> (&'a [u8], bool) {
    let limit = limits.bytes.min(HEAD_BYTES_CEILING);
    match buf.get(..limit) {
        Some(window) => (window, true),
        None => (buf, false),
    }
}

/// The number of fields to accept.
#[inline]
pub(super) fn fields_limit(limits: &HeadLimits) -> usize {
    limits.fields.min(FIELDS_CEILING)
}

/// Whether a head may end in the bytes that came after the first `scanned` ones. Looks at the new
/// bytes only, so that a sender of single bytes costs no more than any other.
pub(super) fn may_end(window: &[u8], scanned: usize) -> Result<bool, Fault> {
    let from = scanned.min(window.len());
    let tail = window.get(from..).unwrap_or_default();
    for at in memchr::memchr_iter(b'\n', tail) {
        let line_feed = from.saturating_add(at);
        if !ends_in_crlf(window, line_feed.saturating_add(1)) {
            return Err(Fault::LineEnd);
        }
        if ends_in_crlf(window, line_feed.saturating_sub(1)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many bytes of empty lines stand before the request.
#[inline]
pub(super) fn leading_lines(buf: &[u8]) -> Result<usize, Fault> {
    let mut skipped: usize = 0;
    loop {
        match buf.get(skipped..).unwrap_or_default() {
            [b'\r', b'\n', ..] if skipped < LEADING_LINES_MAX * 2 => skipped += 2,
            [b'\r', b'\n', ..] => return Err(Fault::LeadingLines),
            [b'\n', ..] | [b'\r', _, ..] => return Err(Fault::LineEnd),
            _ => return Ok(skipped),
        }
    }
}

/// Where in `buf`, the window of a head, its part `part` is.
#[inline]
pub(super) fn span_in(buf: &[u8], part: &[u8]) -> Span {
    Span::of_head((part.as_ptr() as usize).wrapping_sub(buf.as_ptr() as usize), part.len())
}

/// Whether the two bytes before `end` are CRLF.
#[inline]
fn ends_in_crlf(buf: &[u8], end: usize) -> bool {
    let lines = buf.get(..end).unwrap_or_default();
    lines.last_chunk() == Some(b"\r\n")
}

#[cold]
fn fault_of_repeated(repeated: u64) -> Fault {
    if repeated & FieldId::Host.bit() != 0 {
        Fault::RepeatedHost
    } else if repeated & FieldId::ContentLength.bit() != 0 {
        Fault::RepeatedLength
    } else if repeated & FieldId::TransferEncoding.bit() != 0 {
        Fault::Coding
    } else {
        Fault::Expectation
    }
}
