//! What must hold for any bytes whatsoever, one function a fuzz target.
//!
//! Each function takes arbitrary bytes and panics if a promise of `wire` is broken. The fuzz targets
//! feed them what the fuzzer invents; the tests of `wire` include this file and feed them the corpus
//! and random messages, so that the promises are also checked where no fuzzer runs.
//!
//! With a nightly compiler and `cargo-fuzz`: `cargo +nightly fuzz run request_head`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use wire::body::{BodyDecoder, BodyError};
use wire::field::{Field, FieldId, Span};
use wire::head::{Framing, HeadLimits, Parse, RequestHead, ResponseHead, Upgrade, Version};
use wire::host::Host;
use wire::proxy_protocol::{Addresses, Parsed, V1_MAX, V2_MAX, parse, write_v1, write_v2};
use wire::target::{Form, canonical_path, parse_target};
use wire::websocket::{
    CONTROL_FRAME_MAX, Fault, FrameScanner, Payload, Reserved, Rules, Scanned, Scanner, Sender,
    Step,
};

/// Small enough for the fuzzer to reach the bounds.
const LIMITS: HeadLimits = HeadLimits { bytes: 512, fields: 12 };

/// Request heads: what is accepted is well-formed, and the same in any pieces.
pub fn request_head(data: &[u8]) {
    let mut whole = RequestHead::default();
    let outcome = whole.parse(data, 0, &LIMITS);
    let pieces = in_pieces(data, |buf, scanned| {
        let mut head = RequestHead::default();
        head.parse(buf, scanned, &LIMITS).map(|parse| (parse == Parse::Complete).then_some(head))
    });
    match outcome {
        Ok(Parse::Complete) => {
            let pieces = pieces.expect("complete as a whole, so complete in pieces");
            assert_eq!(format!("{pieces:?}"), format!("{whole:?}"));
            check_request(data, &whole);
        }
        Ok(Parse::Partial) => assert!(pieces.is_none() && data.len() < LIMITS.bytes),
        Err(error) => {
            assert!(pieces.is_none(), "accepted in pieces, but {error} as a whole");
            assert!(matches!(error.status(), 400 | 414 | 417 | 431 | 501 | 505));
        }
    }
}

/// Response heads: the first byte says whether the request was HEAD, the rest is the head.
pub fn response_head(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let to_head = first & 1 == 1;
    let mut whole = ResponseHead::default();
    let outcome = whole.parse(data, 0, &LIMITS, to_head);
    let pieces = in_pieces(data, |buf, scanned| {
        let mut head = ResponseHead::default();
        let parse = head.parse(buf, scanned, &LIMITS, to_head)?;
        Ok::<_, wire::head::HeadError>((parse == Parse::Complete).then_some(head))
    });
    match outcome {
        Ok(Parse::Complete) => {
            let pieces = pieces.expect("complete as a whole, so complete in pieces");
            assert_eq!(format!("{pieces:?}"), format!("{whole:?}"));
            check_response(data, &whole, to_head);
        }
        Ok(Parse::Partial) => assert!(pieces.is_none() && data.len() < LIMITS.bytes),
        Err(error) => {
            assert!(pieces.is_none(), "accepted in pieces, but {error} as a whole");
            assert_eq!(error.status(), 502);
        }
    }
}

/// Chunked bodies: the first byte is the size of the pieces, the rest is the body.
pub fn chunked(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let whole = decode(data, usize::MAX);
    for size in [1, usize::from(*first).max(1)] {
        assert_eq!(decode(data, size), whole, "in pieces of {size}");
    }
    if let Ok((payload, consumed, trailers)) = whole {
        assert!(payload.len() <= consumed && consumed <= data.len());
        assert!(data[..consumed].ends_with(b"\r\n"));
        assert!(trailers.is_empty() || trailers.ends_with(b"\r\n"));
        assert!(!trailers.windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r'));
        // What was decoded can be said again.
        let mut again = Vec::new();
        if !payload.is_empty() {
            let mut prefix = [0; 20];
            again.extend_from_slice(wire::body::chunk_prefix(payload.len(), &mut prefix));
            again.extend_from_slice(&payload);
            again.extend_from_slice(b"\r\n");
        }
        again.extend_from_slice(b"0\r\n");
        again.extend_from_slice(&trailers);
        again.extend_from_slice(b"\r\n");
        assert_eq!(decode(&again, usize::MAX), Ok((payload, again.len(), trailers)));
    }
}

/// Targets, hosts, and the small parsers of field values.
pub fn target(data: &[u8]) {
    for method in [b"GET".as_slice(), b"OPTIONS", b"CONNECT"] {
        for allow_encoded_slashes in [false, true] {
            check_target(method, data, allow_encoded_slashes);
        }
    }
    if let Ok(host) = Host::parse(data) {
        let name = host.name();
        assert!(!name.is_empty() && !name.ends_with("..") && name == name.to_ascii_lowercase());
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte)));
        if !name.contains(':') {
            assert_eq!(
                Host::parse(name.as_bytes()).map(|again| again.name().to_owned()).as_deref(),
                Ok(name)
            );
        }
    }
    check_values(data);
}

/// PROXY protocol headers: the same in any pieces, no longer than allowed, and never a byte of what
/// follows.
pub fn proxy_protocol(data: &[u8]) {
    let outcome = parse(data);
    let mut end = 0;
    while end < data.len() {
        match (parse(&data[..end]), outcome) {
            (Ok(Parsed::Partial), Ok(Parsed::Header { len, .. })) => assert!(end < len),
            (Ok(Parsed::Partial), _) => {}
            // What was decided stays so, whatever follows.
            (decided, _) => assert_eq!(decided, outcome),
        }
        end += if end < 256 { 1 } else { 13 };
    }
    match outcome {
        Ok(Parsed::Partial) => {
            let most = if data.starts_with(b"P") { V1_MAX } else { V2_MAX };
            assert!(data.len() < most);
        }
        Ok(Parsed::Header { len, addresses }) => {
            assert_eq!(parse(&data[..len]), outcome);
            assert_eq!(parse(&data[..len - 1]), Ok(Parsed::Partial));
            check_proxy_header(&data[..len], addresses);
        }
        Err(_) => assert!(!data.is_empty()),
    }
}

/// A direction of a WebSocket: the first two bytes are its rules and the size of the pieces, the rest
/// are its frames. The same passes in any pieces, and nothing that a receiver would have to refuse.
pub fn websocket(data: &[u8]) {
    let [first, size, data @ ..] = data else { return };
    let rules = Rules {
        sender: if first & 1 == 0 { Sender::Client } else { Sender::Server },
        reserved: match first >> 1 & 3 {
            0 => Reserved::None,
            1 => Reserved::Any,
            _ => Reserved::Deflate,
        },
        message_max: if first & 8 == 0 { u64::MAX } else { 200 },
    };
    let whole = passed(rules, data, usize::MAX);
    for size in [1, usize::from(*size).max(1)] {
        assert_eq!(passed(rules, data, size), whole, "in pieces of {size}");
    }
    let (passed, ..) = whole;
    // What passed can be followed by one who only knows of frames, and keeps the rules.
    let mut frames = FrameScanner::default();
    let (mut rest, mut message) = (&passed[..], 0u64);
    while let Ok(found) = frames.next(rest) {
        match found {
            Scanned::Header { consumed, header } => {
                assert_eq!(header.mask.is_some(), rules.sender == Sender::Client);
                assert!(header.reserved == 0 || rules.reserved != Reserved::None);
                if !header.opcode.is_control() {
                    message = message.saturating_add(header.payload_len);
                    assert!(message <= rules.message_max);
                    if header.fin {
                        message = 0;
                    }
                }
                rest = &rest[consumed..];
            }
            Scanned::Payload { consumed } => rest = &rest[consumed..],
            Scanned::More => return,
        }
    }
    panic!("what passed breaks the protocol");
}

/// What passes of `data` in pieces of `size`, the payloads of control frames, and what ended it.
fn passed(rules: Rules, data: &[u8], size: usize) -> (Vec<u8>, Vec<Vec<u8>>, Option<Fault>) {
    let mut scanner = Scanner::new(rules);
    let (mut passed, mut controls, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for piece in data.chunks(size) {
        held.extend_from_slice(piece);
        loop {
            let used = match scanner.scan(&held) {
                Ok(Step::Pass(count)) => count,
                Ok(Step::Control(header, count)) => {
                    controls.push(Payload::of(&header, &held[..count]).bytes().to_vec());
                    count
                }
                Ok(Step::Drop(count)) => {
                    held.drain(..count);
                    continue;
                }
                Ok(Step::More) => break,
                Err(fault) => return (passed, controls, Some(fault)),
            };
            passed.extend(held.drain(..used));
        }
        assert!(held.len() < CONTROL_FRAME_MAX);
    }
    (passed, controls, None)
}

fn check_proxy_header(header: &[u8], addresses: Option<Addresses>) {
    if let Some(line) = header.strip_prefix(b"PROXY ") {
        assert!(header.len() <= V1_MAX && line.ends_with(b"\r\n"));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        if addresses.is_some() {
            assert!(line.trim_ascii_end().iter().all(|byte| (0x20..0x7f).contains(byte)));
            assert_eq!(line.iter().filter(|byte| **byte == b' ').count(), 4);
        } else {
            assert!(line.starts_with(b"UNKNOWN"));
        }
    } else {
        assert!((16..=V2_MAX).contains(&header.len()));
        assert_eq!(header.len() - 16, usize::from(header[14]) << 8 | usize::from(header[15]));
        assert!(addresses.is_none() || header[12] == 0x21);
    }
    // Passed on, it says the same.
    let canonical = |ends: Addresses| {
        let end = |address: SocketAddr| (address.ip().to_canonical(), address.port());
        (end(ends.source), end(ends.destination))
    };
    for write in [write_v1, write_v2] {
        let mut again = Vec::new();
        write(&mut again, addresses);
        match parse(&again) {
            Ok(Parsed::Header { len, addresses: said }) => {
                assert_eq!(len, again.len());
                assert_eq!(said.map(canonical), addresses.map(canonical));
            }
            other => panic!("{} is {other:?}", again.escape_ascii()),
        }
    }
}

/// Feeds growing prefixes of `data` until a head comes out; an error ends it.
fn in_pieces<H, E>(
    data: &[u8],
    mut parse: impl FnMut(&[u8], usize) -> Result<Option<H>, E>,
) -> Option<H> {
    // Single bytes first, then larger steps, to keep long inputs cheap.
    let mut scanned = 0;
    while scanned < data.len() {
        let step = if scanned < 256 { 1 } else { 13 };
        let end = scanned.saturating_add(step).min(data.len());
        match parse(&data[..end], scanned) {
            Ok(Some(head)) => return Some(head),
            Ok(None) => scanned = end,
            Err(_) => return None,
        }
    }
    None
}

fn check_request(data: &[u8], head: &RequestHead) {
    check_lines(data, head.len, &head.fields);
    assert!(!head.method.is_empty() && head.method.of(data).is_ascii());
    assert!(!head.target.is_empty());
    assert!(head.host.is_some() || head.version == Version::Http10);
    if let Some(host) = head.host {
        assert!(Host::parse(host.of(data)).is_ok());
    }
    assert!(count(&head.fields, FieldId::Host) <= 1);
    check_framing(data, &head.fields, head.framing);
    assert_ne!(head.framing, Framing::UntilClose);
    if head.expect_continue {
        assert!(head.version == Version::Http11 && head.framing != Framing::None);
    }
    if head.upgrade == Upgrade::WebSocket {
        assert_eq!(head.method.of(data), b"GET");
    }
    for field in &head.fields {
        assert_eq!(wire::field::field_id(field.name.of(data)), field.id);
        assert!(head.get(field.id).is_some());
        head.nominated(data, field.name.of(data));
    }
}

fn check_response(data: &[u8], head: &ResponseHead, to_head: bool) {
    check_lines(data, head.len, &head.fields);
    assert!((100..=999).contains(&head.status));
    assert!(!head.reason.of(data).contains(&b'\r') && head.reason.end() <= head.len);
    let bodiless = to_head || matches!(head.status, 100..=199 | 204 | 304);
    if bodiless {
        assert_eq!(head.framing, Framing::None);
    } else {
        assert_ne!(head.framing, Framing::None);
        check_framing(data, &head.fields, head.framing);
    }
    assert!(!(head.framing == Framing::UntilClose && head.keep_alive));
}

/// Every line ends in CRLF, holds nothing a line may not hold, and is accounted for.
fn check_lines(data: &[u8], len: usize, fields: &[Field]) {
    let head = &data[..len];
    assert!(head.ends_with(b"\r\n\r\n") && len <= LIMITS.bytes && fields.len() <= LIMITS.fields);
    for (at, byte) in head.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(head[at - 1], b'\r'),
            b'\r' => assert_eq!(head[at + 1], b'\n'),
            _ => assert!(*byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)),
        }
    }
    let inside = |span: Span| span.end() <= len;
    for field in fields {
        let (name, value) = (field.name.of(data), field.value.of(data));
        assert!(inside(field.name) && inside(field.value) && !name.is_empty());
        assert_eq!(data[field.name.end()], b':');
        assert!(!value.contains(&b'\n') && value.trim_ascii() == value);
    }
    let lines = head.split(|byte| *byte == b'\n').filter(|line| line.contains(&b':')).count();
    assert!(fields.len() <= lines);
}

fn check_framing(data: &[u8], fields: &[Field], framing: Framing) {
    let lengths = count(fields, FieldId::ContentLength);
    let codings = count(fields, FieldId::TransferEncoding);
    assert!(lengths + codings <= 1);
    match framing {
        Framing::Chunked => assert_eq!(codings, 1),
        Framing::Length(length) => {
            let field = fields.iter().find(|field| field.id == FieldId::ContentLength);
            let text =
                std::str::from_utf8(field.expect("declared").value.of(data)).expect("digits");
            assert_eq!(text.parse(), Ok(length));
        }
        Framing::None | Framing::UntilClose => assert_eq!(lengths + codings, 0),
    }
}

fn count(fields: &[Field], id: FieldId) -> usize {
    fields.iter().filter(|field| field.id == id).count()
}

type Decoded = (Vec<u8>, usize, Vec<u8>);

fn decode(data: &[u8], size: usize) -> Result<Decoded, BodyError> {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let (mut payload, mut total) = (Vec::new(), 0);
    for mut piece in data.chunks(size) {
        loop {
            let found = decoder.next(piece)?;
            assert!(found.payload.end <= found.consumed && found.consumed <= piece.len());
            assert_eq!(found.done, decoder.is_done());
            payload.extend_from_slice(&piece[found.payload]);
            total += found.consumed;
            piece = &piece[found.consumed..];
            if found.done || found.consumed == 0 {
                break;
            }
        }
    }
    decoder.finish_eof()?;
    Ok((payload, total, decoder.trailers().to_vec()))
}

fn check_target(method: &[u8], data: &[u8], allow_encoded_slashes: bool) {
    let Ok(target) = parse_target(method, data, allow_encoded_slashes) else { return };
    let path = &*target.path;
    assert!(data.is_ascii() && !data.contains(&b'#'));
    match target.form {
        Form::Asterisk => assert_eq!(path, b"*"),
        Form::Authority => assert!(path.is_empty() && target.authority.is_some()),
        Form::Origin | Form::Absolute => check_path(path, allow_encoded_slashes),
    }
    if let Some(query) = target.query {
        assert!(data.ends_with(query));
    }
    if let Some(authority) = target.authority {
        assert!(Host::parse(authority).is_ok());
    }
}

/// A canonical path stays as it is, and no reader can leave its directory.
fn check_path(path: &[u8], allow_encoded_slashes: bool) {
    assert_eq!(path.first(), Some(&b'/'));
    assert_eq!(canonical_path(path, allow_encoded_slashes).as_deref(), Ok(path));
    assert!(!path.windows(2).any(|two| two == b"//") && !path.contains(&b'\\'));
    assert!(path.iter().all(|byte| (0x21..0x7f).contains(byte)));
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < path.len() {
        if path[at] == b'%' {
            let digits = std::str::from_utf8(&path[at + 1..at + 3]).expect("two digits");
            decoded.push(u8::from_str_radix(digits, 16).expect("two digits"));
            at += 3;
        } else {
            decoded.push(path[at]);
            at += 1;
        }
    }
    assert!(!decoded.contains(&0));
    if !allow_encoded_slashes {
        let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
        assert_eq!(slashes(&decoded), slashes(path));
        assert!(!decoded.contains(&b'\\'));
    }
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(name != b"." && name != b"..", "{:?}", String::from_utf8_lossy(path));
    }
}

/// The parsers of single values: no panic, and what little can be said of any result.
fn check_values(data: &[u8]) {
    if let wire::range::Ranges::Satisfiable(set) = wire::range::parse(data, 1000) {
        let ranges = set.as_slice();
        assert!(!ranges.is_empty() && ranges.len() <= wire::range::RANGES_MAX);
        assert!(ranges.iter().all(|range| range.first <= range.last && range.last < 1000));
        assert!(ranges.iter().map(|range| range.len()).sum::<u64>() <= 1000);
    }
    wire::etag::matches_weakly(data, b"\"a\"");
    wire::etag::matches_strongly(data, b"\"a\"");
    wire::websocket::accept_key(data);
    if let Some(time) = wire::date::parse_http_date(data) {
        assert_eq!(wire::date::parse_http_date(&wire::date::http_date(time)), Some(time));
    }
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = wire::forwarded::client_address(peer, data.split(|byte| *byte == b'\n'), |_| true);
    let mut out = Vec::new();
    wire::forwarded::write_forwarded(&mut out, Some(client), "http", data);
    assert!(!out.contains(&b'\r') && !out.contains(&b'\n') && !out.contains(&0));
    check_frames(data);
}

fn check_frames(data: &[u8]) {
    let mut scanner = FrameScanner::default();
    let mut rest = data;
    while let Ok(Scanned::Header { consumed, .. } | Scanned::Payload { consumed }) =
        scanner.next(rest)
    {
        assert!(consumed > 0 && consumed <= rest.len());
        rest = &rest[consumed..];
    }
}
