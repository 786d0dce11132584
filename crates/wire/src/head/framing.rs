//! The one decision on message length (RFC 9112 §6.3).
//!
//! Request smuggling is two parties deciding differently, so nothing else in Ravelin looks at
//! `Content-Length` or `Transfer-Encoding`, and whatever a lenient reader could take differently is
//! an error here rather than a choice.

use super::Version;
use super::error::Fault;
use super::index::Index;
use crate::field::FieldId;
use crate::token;

/// Where the body of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything until the connection closes; responses only.
    UntilClose,
}

/// The length of a request body: none unless a field says otherwise.
#[inline]
pub(super) fn of_request(index: &Index<'_>, version: Version) -> Result<Framing, Fault> {
    if !index.has_framing() {
        return Ok(Framing::None);
    }
    Ok(declared(index, version)?.unwrap_or(Framing::None))
}

/// The length of a response body, and whether the connection may be used again as far as framing
/// is concerned.
///
/// A 1xx or 204 response that declares a body (RFC 9110 §8.6 forbids it) is taken to have none, but
/// nothing that follows on the connection can be trusted.
#[inline]
pub(super) fn of_response(
    index: &Index<'_>,
    version: Version,
    status: u16,
    to_head: bool,
) -> Result<(Framing, bool), Fault> {
    if matches!(status, 100..=199 | 204) {
        return Ok((Framing::None, !index.has_framing()));
    }
    let declared = declared(index, version)?;
    if to_head || status == 304 {
        return Ok((Framing::None, true));
    }
    Ok(match declared {
        Some(framing) => (framing, true),
        None => (Framing::UntilClose, false),
    })
}

/// What the fields declare. Repeated framing fields were refused when the head was indexed.
fn declared(index: &Index<'_>, version: Version) -> Result<Option<Framing>, Fault> {
    match (index.value(FieldId::ContentLength), index.value(FieldId::TransferEncoding)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Fault::LengthAndCoding),
        (Some(length), None) => Ok(Some(Framing::Length(parse_length(length)?))),
        (None, Some(_)) if version == Version::Http10 => Err(Fault::CodingInHttp10),
        (None, Some(coding)) => judge_coding(coding).map(|()| Some(Framing::Chunked)),
    }
}

/// `1*DIGIT`, below 2^63 so that the number also fits the signed integers of others.
fn parse_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() {
        return Err(Fault::Length);
    }
    let mut length: u64 = 0;
    for byte in value {
        if !byte.is_ascii_digit() {
            return Err(Fault::Length);
        }
        length = length
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
            .filter(|length| *length <= i64::MAX as u64)
            .ok_or(Fault::Length)?;
    }
    Ok(length)
}

/// Accepts exactly `chunked`. Of the rest, a proper list of tokens with one final `chunked` is
/// honest but not implemented; anything else is malformed or an attempt to be read in two ways.
fn judge_coding(value: &[u8]) -> Result<(), Fault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|byte| *byte == b',').map(token::trim).rev();
    let last_is_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let others_are_honest = codings.all(|coding| {
        token::is_token(coding)
            && !coding.eq_ignore_ascii_case(b"chunked")
            && !coding.eq_ignore_ascii_case(b"identity")
    });
    Err(if last_is_chunked && others_are_honest { Fault::UnknownCoding } else { Fault::Coding })
}
