//! Answers to range requests: RFC 9110 §14, §15.3.7, §15.5.17.
//!
//! A range is of the selected representation, so of the compressed octets where a compressed
//! neighbour was chosen. How many ranges count and how they are merged is decided where they are
//! parsed, in [`wire::range`].

use super::answer::{Answer, Body, Fields, Part};
use super::resource::{Representation, push_line};
use wire::range::{ByteRange, Ranges, parse};

/// The answer to a `GET` with `Range`; `None` if the field is to be ignored. `boundary` is called
/// for a multipart body.
pub(super) fn answer(
    representation: &Representation,
    range: &[u8],
    boundary: impl FnOnce() -> u64,
) -> Option<Answer> {
    match parse(range, representation.len) {
        Ranges::Ignore => None,
        Ranges::Unsatisfiable => {
            let mut fields = Vec::with_capacity(64);
            push_line(
                &mut fields,
                "Content-Range",
                format!("bytes */{}", representation.len).as_bytes(),
            );
            Some(Answer::empty(416, fields))
        }
        Ranges::Satisfiable(ranges) => Some(match ranges.as_slice() {
            [range] => single(representation, *range),
            ranges => multipart(representation, ranges, boundary()),
        }),
    }
}

fn single(representation: &Representation, range: ByteRange) -> Answer {
    let mut fields = representation.lines().to_vec();
    push_line(&mut fields, "Content-Range", &content_range(range, representation.len));
    Answer { status: 206, fields: Fields::Owned(fields), body: representation.piece(range).into() }
}

/// Each part says its own type and coding; the whole is neither.
fn multipart(representation: &Representation, ranges: &[ByteRange], boundary: u64) -> Answer {
    let boundary = format!("ravelin-{boundary:016x}");
    let mut parts = Vec::with_capacity(ranges.len().saturating_mul(2).saturating_add(1));
    for &range in ranges {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        head.extend_from_slice(representation.content_lines());
        push_line(&mut head, "Content-Range", &content_range(range, representation.len));
        head.extend_from_slice(b"\r\n");
        parts.push(Part::text(head));
        parts.push(representation.piece(range));
    }
    parts.push(Part::text(format!("\r\n--{boundary}--\r\n").into_bytes()));
    let mut fields = Vec::with_capacity(256);
    let media_type = format!("multipart/byteranges; boundary={boundary}");
    push_line(&mut fields, "Content-Type", media_type.as_bytes());
    fields.extend_from_slice(representation.resource_lines());
    Answer { status: 206, fields: Fields::Owned(fields), body: Body::Parts(parts) }
}

fn content_range(range: ByteRange, len: u64) -> Vec<u8> {
    format!("bytes {}-{}/{len}", range.first, range.last).into_bytes()
}
