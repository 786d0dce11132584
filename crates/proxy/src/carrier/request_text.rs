//! A request head as HTTP/1 text, turned into what an HTTP/2 connection sends.
//!
//! The text was written by [`filters`](crate::filters), which left out the fields of one connection
//! and took the length of the body from what `wire` decided. So this is a translation and no second
//! judgement; it still never gives more than one line as one field.

use std::io::{self, ErrorKind};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderName, HeaderValue, Method, Request, Version};

/// Room made at once for so many fields: what most requests have with those of a proxy.
const FIELDS_EXPECTED: usize = 24;

/// A request, and what its head says of the body.
#[derive(Debug)]
pub(super) struct RequestText {
    pub(super) request: Request<()>,
    /// A body follows.
    pub(super) has_body: bool,
    /// So many bytes of it, if that is known.
    pub(super) length: Option<u64>,
}

/// Reads a whole head, which ends with an empty line. The values of its fields share the memory of
/// `text`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if HTTP/2 has no way to say what it says, [`ErrorKind::Unsupported`]
/// for an upgrade.
pub(super) fn read_request(text: &Bytes, scheme: &Scheme) -> io::Result<RequestText> {
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next().unwrap_or_default());
    let method = method.map_err(|_| invalid("the method is no token"))?;
    let target = words.next().unwrap_or_default();

    let mut request = Request::new(());
    let mut authority = None;
    let (mut chunked, mut length) = (false, None);
    let fields = request.headers_mut();
    fields.reserve(FIELDS_EXPECTED);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = field(text, line)?;
        match name {
            HOST => authority = Some(value),
            CONTENT_LENGTH => {
                length = value.to_str().ok().and_then(|digits| digits.parse::<u64>().ok());
                fields.append(name, value);
            }
            TRANSFER_ENCODING => chunked = true,
            UPGRADE => {
                let what = "an upgrade over HTTP/2 to the upstream; use an http:// or https:// URL";
                return Err(io::Error::new(ErrorKind::Unsupported, what));
            }
            CONNECTION => {}
            // The only value that has a meaning here (RFC 9113 §8.2.2).
            TE if value != "trailers" => {}
            EXPECT | TE => {
                fields.insert(name, value);
            }
            _ if matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings") => {}
            _ => {
                fields.append(name, value);
            }
        }
    }
    *request.uri_mut() = uri(text, scheme, authority.as_ref(), target)?;
    *request.method_mut() = method;
    *request.version_mut() = Version::HTTP_2;
    let has_body = chunked || length.is_some_and(|length| length > 0);
    Ok(RequestText { request, has_body, length: length.filter(|_| !chunked) })
}

fn field(text: &Bytes, line: &[u8]) -> io::Result<(HeaderName, HeaderValue)> {
    let colon = memchr::memchr(b':', line);
    let (name, value) = line.split_at(colon.ok_or_else(|| invalid("a field without a colon"))?);
    let name = HeaderName::from_bytes(name).map_err(|_| invalid("a field name is no token"))?;
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    let value = HeaderValue::from_maybe_shared(text.slice_ref(value))
        .map_err(|_| invalid("a field value is none"))?;
    Ok((name, value))
}

fn uri(
    text: &Bytes,
    scheme: &Scheme,
    authority: Option<&HeaderValue>,
    target: &[u8],
) -> io::Result<Uri> {
    let authority = authority.map_or(&b""[..], HeaderValue::as_bytes);
    let authority = Authority::from_maybe_shared(text.slice_ref(authority));
    let authority = authority.map_err(|_| invalid("the host is none that HTTP/2 can name"))?;
    let path = PathAndQuery::from_maybe_shared(text.slice_ref(target))
        .or_else(|_| PathAndQuery::try_from(percent_encoded(target)))
        .map_err(|_| invalid("the path is none that HTTP/2 can name"))?;
    let uri = Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path);
    uri.build().map_err(|_| invalid("the target is no URI"))
}

/// The same target, with the bytes that no URI may hold percent-encoded (RFC 3986 §2.1): over
/// HTTP/1.1 they pass as they are, but the library takes none.
fn percent_encoded(target: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(target.len() + 32);
    for &byte in target {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' | 0x7f.. => {
                let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
                encoded.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => encoded.push(byte),
        }
    }
    encoded
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RequestText {
        read_request(&Bytes::copy_from_slice(text.as_bytes()), &Scheme::HTTPS).unwrap()
    }

    #[test]
    fn the_request_line_and_host_become_pseudo_fields() {
        let read = read("POST /a/b?c=d HTTP/1.1\r\nHost: example.com:8443\r\nX-Id: 7\r\n\r\n");
        assert_eq!(read.request.method(), "POST");
        assert_eq!(read.request.uri(), "https://example.com:8443/a/b?c=d");
        assert_eq!(read.request.headers().len(), 1);
        assert_eq!(read.request.headers()["x-id"], "7");
        assert!(!read.has_body);
    }

    #[test]
    fn rfc9113_8_2_2_fields_of_a_connection_are_left_out() {
        let read = read(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: close\r\nHTTP2-Settings: AAMAAABk\r\nTE: trailers\r\nX: y\r\n\r\n",
        );
        let names: Vec<&str> = read.request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["te", "x"]);
        let read = self::read("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\n\r\n");
        assert!(read.request.headers().is_empty());
    }

    #[test]
    fn a_body_follows_if_the_head_says_so() {
        let known = read("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n");
        assert!(known.has_body && known.length == Some(12));
        assert_eq!(known.request.headers()["content-length"], "12");
        let unknown = read("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(unknown.has_body && unknown.length.is_none());
        assert!(unknown.request.headers().is_empty());
        let empty = read("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert!(!empty.has_body);
    }

    #[test]
    fn a_target_that_is_no_uri_is_encoded() {
        let read = read("GET /a|b?q=<x>\"`{é} HTTP/1.1\r\nHost: a\r\n\r\n");
        let path = read.request.uri().path_and_query().unwrap().as_str();
        assert_eq!(path, "/a%7Cb?q=%3Cx%3E%22%60%7B%C3%A9%7D");
    }

    #[test]
    fn the_whole_server_can_be_asked_about() {
        let read = read("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(read.request.uri().path(), "*");
    }

    #[test]
    fn what_cannot_be_said_is_an_error() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nxyz\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        ] {
            assert!(
                read_request(&Bytes::copy_from_slice(text.as_bytes()), &Scheme::HTTP).is_err(),
                "{text:?}"
            );
        }
    }
}
