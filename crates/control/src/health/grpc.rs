//! The gRPC health checking protocol, version 1: `/grpc.health.v1.Health/Check` says SERVING.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use net::tls::ClientConfig;
use proxy::live::Endpoint;

use super::connect::{Progress, connect, secure};
use super::http::{Answer, USER_AGENT_NAME, host_of, http2_request};
use super::http2;

const METHOD: &str = "/grpc.health.v1.Health/Check";

/// The message for `service` with the five bytes before it; empty for the server as a whole.
pub(super) fn message(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(FIELD_1_BYTES);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0); // not compressed
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.unsplit(message);
    framed.freeze()
}

/// Asks with `message` and judges the answer.
///
/// # Errors
/// In words.
pub(super) async fn probe(
    message: &Bytes,
    endpoint: &Endpoint,
    port: Option<u16>,
    tls: Option<&ClientConfig>,
    progress: &Progress,
) -> Result<(), String> {
    let mut socket = connect(endpoint, port, progress).await?;
    if let Some(tls) = tls {
        socket = secure(socket, endpoint, tls, true, progress).await?;
    }
    let target = PathAndQuery::from_static(METHOD);
    let mut request = http2_request(Method::POST, host_of(endpoint), &target, tls.is_some())?;
    let fields = request.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(TE, HeaderValue::from_static("trailers"));
    fields.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_NAME));
    judge(&http2::exchange(socket, request, message.clone(), true, progress).await?)
}

fn judge(answer: &Answer) -> Result<(), String> {
    if answer.status != 200 {
        return Err(format!("status {} (expected 200)", answer.status));
    }
    // A response without a message has its status among the first fields.
    let fields = [&answer.trailers, &answer.fields];
    let find = |name| fields.iter().find_map(|fields| fields.get(name));
    match find("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(b"5") => return Err("gRPC status 5: the service is not known there".to_owned()),
        Some(b"12") => return Err("gRPC status 12: it offers no grpc.health.v1".to_owned()),
        Some(other) => {
            let told = find("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
            let (status, told) = (String::from_utf8_lossy(other), String::from_utf8_lossy(told));
            return Err(format!("gRPC status {status}: {told}").trim_end_matches(": ").to_owned());
        }
        None => return Err("the response has no grpc-status".to_owned()),
    }
    match serving_status(&answer.body).ok_or("the answer is no HealthCheckResponse")? {
        1 => Ok(()),
        0 => Err("it says UNKNOWN (expected SERVING)".to_owned()),
        2 => Err("it says NOT_SERVING (expected SERVING)".to_owned()),
        3 => Err("it says SERVICE_UNKNOWN (expected SERVING)".to_owned()),
        other => Err(format!("it says {other} (expected SERVING)")),
    }
}

/// Protocol Buffers: number and kind of a field, `bytes service = 1`.
const FIELD_1_BYTES: u8 = 1 << 3 | 2;

/// `status = 1` of a HealthCheckResponse behind the five bytes of gRPC; 0 if it does not say.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (&[compressed, a, b, c, d], message) = body.split_first_chunk::<5>()?;
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    let mut rest = message.get(..len).filter(|_| compressed == 0)?;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = take_varint(&mut rest)?,
            (_, 0) => drop(take_varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let len = usize::try_from(take_varint(&mut rest)?).ok()?;
                rest = rest.get(len..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number > 0x7f {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_service() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = message(&"s".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn a_status_is_found_among_other_fields() {
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        let others = [0, 0, 0, 0, 9, 0x12, 1, b'x', 0x18, 0x80, 1, 8, 2, 0x20];
        assert_eq!(serving_status(&others), None, "it breaks off");
        let others = [0, 0, 0, 0, 8, 0x12, 1, b'x', 0x18, 0x80, 1, 8, 2];
        assert_eq!(serving_status(&others), Some(2));
        for broken in [&[][..], &[0, 0, 0, 0, 2, 8], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 1, 0xff]]
        {
            assert_eq!(serving_status(broken), None, "{broken:?}");
        }
    }
}
