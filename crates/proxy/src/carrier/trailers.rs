//! Trailers: fields of HTTP/2 on one side, "name: value\r\n" lines between the carriers of an
//! exchange.
//!
//! What always holds, in both directions: their number and size are bounded as in the chunked coding,
//! and those that must not be trailers (RFC 9110 §6.5.1) are left out.

use http::{HeaderMap, HeaderName, HeaderValue};
use wire::body::{TRAILER_BYTES_MAX, TRAILER_FIELDS_MAX, may_be_trailer};

/// Lines as fields; a line that is none is left out.
pub(super) fn trailer_fields(lines: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(TRAILER_FIELDS_MAX) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            && may_be_trailer(name.as_str().as_bytes())
        {
            fields.append(name, value);
        }
    }
    fields
}

/// Fields as lines. `None` if there are too many.
pub(super) fn trailer_lines(fields: &HeaderMap) -> Option<Vec<u8>> {
    let mut lines = Vec::new();
    for (index, (name, value)) in fields.iter().enumerate() {
        if index >= TRAILER_FIELDS_MAX || lines.len() > TRAILER_BYTES_MAX {
            return None;
        }
        if may_be_trailer(name.as_str().as_bytes()) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
    }
    Some(lines).filter(|lines| lines.len() <= TRAILER_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_fields_and_fields_lines() {
        let fields = trailer_fields(b"grpc-status: 0\r\nno field\r\ngrpc-message: \r\nHost: a\r\n");
        assert_eq!(trailer_lines(&fields).unwrap(), b"grpc-status: 0\r\ngrpc-message: \r\n");
    }

    #[test]
    fn rfc9110_6_5_1_what_must_not_be_a_trailer_is_left_out() {
        let mut fields = HeaderMap::new();
        fields.insert("content-length", HeaderValue::from_static("1"));
        fields.insert("x-sum", HeaderValue::from_static("2"));
        assert_eq!(trailer_lines(&fields).unwrap(), b"x-sum: 2\r\n");
    }

    #[test]
    fn too_many_or_too_large_ones_are_refused() {
        let mut many = HeaderMap::new();
        (0..=TRAILER_FIELDS_MAX).for_each(|_| _ = many.append("x", HeaderValue::from_static("y")));
        assert_eq!(trailer_lines(&many), None);
        let mut large = HeaderMap::new();
        let value = "y".repeat(TRAILER_BYTES_MAX);
        large.insert("x", HeaderValue::from_str(&value).unwrap());
        assert_eq!(trailer_lines(&large), None);
    }
}
