//! A request head of HTTP/2 as HTTP/1 text.
//!
//! The exchange works on heads as HTTP/1 writes them, and every other server behind Ravelin may get
//! this one in that form. So whatever HTTP/2 can say that HTTP/1 text cannot, or would say otherwise,
//! is refused here as malformed (RFC 9113 §8.1.1) before a byte of it is text: that is what request
//! smuggling through a downgrade lives on.
//!
//! What always holds for a head that was written: one request line and one Host, which is what the
//! client called the authority; no field that speaks of a connection, but for those of a WebSocket
//! handshake that are made here; no line break but at the end of a line.

use http::header::{COOKIE, HOST};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, uri};
use wire::field::{FieldId, field_id};
use wire::head::HeadLimits;

/// Lines written here beside the client's fields: Host, and four of a WebSocket handshake.
pub(super) const OWN_FIELDS_MAX: usize = 5;

/// Bytes of a line beside its name and value.
const LINE_EXTRA: usize = b": \r\n".len();
/// Bytes of all that is written here beside lines, target and host; a longer method makes it grow.
const OWN_BYTES: usize = 192;

/// Bytes of a Sec-WebSocket-Key: 16 bytes in base64.
pub(super) type WebSocketKey = [u8; 24];

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is malformed: the stream is reset, and nothing is answered.
    Malformed(&'static str),
    /// More bytes or fields than the limits allow.
    TooLarge,
    /// An extended CONNECT for another protocol than WebSocket.
    Unsupported,
}

/// Writes `parts` to `out`, which is empty. An extended CONNECT needs `key` for the handshake that it
/// becomes. `Cookie` fields count as they came, so that crumbs are no way around the limit
/// (CVE-2026-49975). With an error `out` has a request line, for the log.
pub(super) fn write_head(
    parts: Parts,
    limits: &HeadLimits,
    key: Option<&WebSocketKey>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let Parts { method, uri, headers, extensions, .. } = parts;
    let uri = uri.into_parts();
    let written = write((&method, &uri, &headers, &extensions), limits, key, out);
    if written.is_err() {
        out.clear();
        let path = uri.path_and_query.as_ref().map_or("-", |path| path.as_str());
        write_line(&method, path, out);
    }
    written
}

/// A request line as the log has it.
pub(super) fn write_line(method: &Method, path: &str, out: &mut Vec<u8>) {
    for part in [method.as_str(), " ", path, " HTTP/2.0\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write(
    (method, uri, headers, extensions): (&Method, &uri::Parts, &HeaderMap, &Extensions),
    limits: &HeadLimits,
    key: Option<&WebSocketKey>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    if headers.len() > limits.fields {
        return Err(Fault::TooLarge);
    }
    let websocket = match extensions.get::<h2::ext::Protocol>() {
        Some(protocol) if protocol.as_str() == "websocket" => key,
        Some(_) => return Err(Fault::Unsupported),
        None => None,
    };
    let authority = uri.authority.as_ref().map(|authority| authority.as_str());
    let host = host(authority, headers)?;
    let connect = *method == Method::CONNECT && websocket.is_none();
    if !connect {
        // h2 keeps the scheme only beside an authority, and sees to it that there is one.
        if uri.scheme.as_ref().is_some_and(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
            return Err(Fault::Malformed("a :scheme that is neither http nor https"));
        }
    }
    let target = match &uri.path_and_query {
        Some(path) if !connect => path.as_str().as_bytes(),
        None if connect => host,
        Some(_) => return Err(Fault::Malformed(":path in CONNECT")),
        None => return Err(Fault::Malformed("no :path")),
    };
    let asterisk = target == b"*" && *method == Method::OPTIONS;
    if !(connect || asterisk || target.starts_with(b"/")) {
        return Err(Fault::Malformed(":path does not begin with a slash"));
    }
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE_EXTRA);
    out.reserve(lines.sum::<usize>() + target.len() + host.len() + OWN_BYTES);
    let method = if websocket.is_some() { "GET" } else { method.as_str() };
    for part in [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"] {
        out.extend_from_slice(part);
    }
    write_fields(headers, websocket.is_some(), out)?;
    if let Some(key) = websocket {
        write_handshake(headers, key, out);
    }
    out.extend_from_slice(b"\r\n");
    match out.len() > limits.bytes {
        true => Err(Fault::TooLarge),
        false => Ok(()),
    }
}

/// The authority, which a `Host` field may repeat and must not contradict (RFC 9113 §8.3.1).
fn host<'a>(authority: Option<&'a str>, headers: &'a HeaderMap) -> Result<&'a [u8], Fault> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (authority, hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(Fault::Malformed("more than one Host field")),
        (None, None, _) => return Err(Fault::Malformed("neither :authority nor Host")),
        (Some(authority), None, _) => authority.as_bytes(),
        (None, Some(host), _) => host.as_bytes(),
        (Some(authority), Some(host), _) => {
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                return Err(Fault::Malformed("Host differs from :authority"));
            }
            authority.as_bytes()
        }
    };
    // User information is deprecated, a list is an attempt to be read in two ways.
    match host.iter().any(|byte| matches!(byte, b'@' | b',') || !byte.is_ascii_graphic()) {
        true => Err(Fault::Malformed("an authority that is not a host and a port")),
        false => Ok(host),
    }
}

fn write_fields(headers: &HeaderMap, websocket: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
    for (name, value) in headers {
        if !is_clean(value) {
            return Err(Fault::Malformed("a field value with a line break or space around it"));
        }
        let name = name.as_str().as_bytes();
        match field_id(name) {
            FieldId::Host | FieldId::Cookie => continue,
            FieldId::Connection
            | FieldId::TransferEncoding
            | FieldId::Upgrade
            | FieldId::KeepAlive
            | FieldId::ProxyConnection => {
                return Err(Fault::Malformed("a field of an HTTP/1 connection"));
            }
            FieldId::Te if !value.as_bytes().eq_ignore_ascii_case(b"trailers") => {
                return Err(Fault::Malformed("TE other than trailers"));
            }
            FieldId::SecWebSocketKey | FieldId::SecWebSocketVersion if websocket => continue,
            _ => {}
        }
        for part in [name, b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    write_cookies(headers, out);
    Ok(())
}

/// HTTP/2 may split a `Cookie` field so that its parts compress better; HTTP/1 has one (RFC 9113
/// §8.2.3).
fn write_cookies(headers: &HeaderMap, out: &mut Vec<u8>) {
    let mut separator: &[u8] = b"cookie: ";
    for crumb in headers.get_all(COOKIE) {
        out.extend_from_slice(separator);
        out.extend_from_slice(crumb.as_bytes());
        separator = b"; ";
    }
    if separator == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

/// What an HTTP/1 handshake says and an extended CONNECT does not (RFC 8441 §5).
fn write_handshake(headers: &HeaderMap, key: &WebSocketKey, out: &mut Vec<u8>) {
    let version = headers.get("sec-websocket-version").map_or(&b"13"[..], HeaderValue::as_bytes);
    for part in [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ",
        &key[..],
        b"\r\nSec-WebSocket-Version: ",
        version,
        b"\r\n",
    ] {
        out.extend_from_slice(part);
    }
}

/// No line break or NUL, which `http` does not let in, and no space or tab at either end (RFC 9113
/// §8.2.1).
fn is_clean(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !is_space(bytes.first())
        && !is_space(bytes.last())
        && !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// A key for a handshake from random bytes.
pub(super) fn websocket_key(random: [u8; 16]) -> WebSocketKey {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key = [b'='; 24];
    for (three, four) in random.chunks(3).zip(key.chunks_mut(4)) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, digit) in four.iter_mut().take(three.len() + 1).enumerate() {
            *digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 10 };
    const KEY: &WebSocketKey = b"AAAAAAAAAAAAAAAAAAAAAA==";

    fn get(path: &str) -> http::request::Builder {
        http::Request::get(format!("https://example.com{path}"))
    }

    fn text(request: http::request::Builder) -> Result<String, Fault> {
        let parts = request.body(()).unwrap().into_parts().0;
        let mut out = Vec::new();
        write_head(parts, &LIMITS, Some(KEY), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn is_malformed(request: http::request::Builder) -> bool {
        matches!(text(request), Err(Fault::Malformed(_)))
    }

    #[test]
    fn a_head_becomes_text() {
        let request = get("/a?b=c").header("accept", "*/*").header("te", "trailers");
        let expected = "GET /a?b=c HTTP/1.1\r\nHost: example.com\r\naccept: */*\r\n\
                        te: trailers\r\n\r\n";
        assert_eq!(text(request).unwrap(), expected);
    }

    #[test]
    fn rfc9113_8_2_3_cookie_crumbs_are_joined() {
        let request = get("/").header("cookie", "a=1").header("x", "y").header("cookie", "b=2");
        let expected = "GET / HTTP/1.1\r\nHost: example.com\r\nx: y\r\ncookie: a=1; b=2\r\n\r\n";
        assert_eq!(text(request).unwrap(), expected);
    }

    #[test]
    fn rfc9113_8_3_1_host_may_repeat_the_authority_and_not_contradict_it() {
        assert!(text(get("/").header("host", "EXAMPLE.com")).is_ok());
        assert!(is_malformed(get("/").header("host", "example.org")));
        assert!(is_malformed(get("/").header("host", "example.com").header("host", "example.com")));
        let without = || http::Request::get("/");
        assert!(text(without().header("host", "a")).unwrap().contains("\r\nHost: a\r\n"));
        assert!(is_malformed(without()));
        for odd in ["a,b", "a@b", "a b", ""] {
            let ours = text(without().header("host", odd));
            // An empty one is left to the parser of the text, which refuses it.
            assert!(odd.is_empty() || matches!(ours, Err(Fault::Malformed(_))), "{odd}");
        }
        assert!(is_malformed(http::Request::get("http://user@example.com/")));
    }

    #[test]
    fn rfc9113_8_2_2_fields_of_a_connection_are_malformed() {
        let fields = ["connection", "transfer-encoding", "upgrade", "keep-alive"];
        for name in fields.into_iter().chain(["proxy-connection"]) {
            assert!(is_malformed(get("/").header(name, "x")), "{name}");
        }
        assert!(is_malformed(get("/").header("te", "gzip")));
    }

    #[test]
    fn rfc9113_8_2_1_a_value_with_space_around_it_is_malformed() {
        for value in [" a", "a ", "\ta", "a\t"] {
            assert!(is_malformed(get("/").header("x", value)), "{value:?}");
        }
        assert!(text(get("/").header("x", "")).is_ok());
    }

    #[test]
    fn rfc9113_8_3_1_a_path_begins_with_a_slash() {
        let of = |method: &str, path: &'static str| {
            let mut parts = uri::Parts::default();
            parts.path_and_query = Some(uri::PathAndQuery::from_static(path));
            let uri = http::Uri::from_parts(parts).unwrap();
            http::Request::builder().method(method).uri(uri).header("host", "a")
        };
        assert!(text(of("OPTIONS", "*")).unwrap().starts_with("OPTIONS * HTTP/1.1\r\n"));
        assert!(is_malformed(of("GET", "*")));
        assert!(is_malformed(of("CONNECT", "/")));
        let no_path = http::Uri::from_parts(uri::Parts::default()).unwrap();
        assert!(is_malformed(http::Request::get(no_path).header("host", "a")));
        assert!(is_malformed(http::Request::get("ftp://example.com/")));
    }

    #[test]
    fn cve_2026_49975_cookie_crumbs_count_as_fields() {
        let mut request = get("/");
        for _ in 0..LIMITS.fields {
            request = request.header("cookie", "a");
        }
        assert!(text(request.body(()).map(rebuilt).unwrap()).is_ok());
        let mut request = get("/");
        for _ in 0..=LIMITS.fields {
            request = request.header("cookie", "a");
        }
        assert_eq!(text(request), Err(Fault::TooLarge));
        assert_eq!(text(get("/").header("x", "y".repeat(1024))), Err(Fault::TooLarge));
    }

    fn rebuilt(request: http::Request<()>) -> http::request::Builder {
        let (parts, ()) = request.into_parts();
        let mut builder = http::Request::builder().method(parts.method).uri(parts.uri);
        *builder.headers_mut().unwrap() = parts.headers;
        builder
    }

    #[test]
    fn rfc8441_5_an_extended_connect_becomes_a_websocket_handshake() {
        let connect = |protocol: &'static str| {
            http::Request::connect("https://example.com/chat")
                .extension(h2::ext::Protocol::from_static(protocol))
        };
        let request = connect("websocket").header("sec-websocket-protocol", "soap");
        let expected = "GET /chat HTTP/1.1\r\nHost: example.com\r\n\
                        sec-websocket-protocol: soap\r\nConnection: Upgrade\r\n\
                        Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                        Sec-WebSocket-Version: 13\r\n\r\n";
        assert_eq!(text(request).unwrap(), expected);
        assert_eq!(text(connect("connect-udp")), Err(Fault::Unsupported));
    }

    #[test]
    fn a_key_is_base64_of_sixteen_bytes() {
        let key = websocket_key(*b"the sample nonce");
        assert_eq!(&key, b"dGhlIHNhbXBsZSBub25jZQ==");
        assert!(wire::websocket::is_websocket_key(&key));
    }
}
