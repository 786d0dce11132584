//! Two other readers of HTTP/1, httparse and hyper, look at the same random messages: what wire
//! accepts they accept as well, and they read the same message from it. So whatever one of them
//! refuses, wire refuses, and no message that passes Ravelin means something else behind it.
//!
//! Deliberate differences, which the generators leave out:
//! - targets: wire accepts `` < > ` `` in a path and `" < >` in a query, hyper does not. Clients send
//!   them; in a path Ravelin forwards them percent-encoded.
//!
//! In the other direction there are many more, all in `request_heads.rs`: hyper accepts bare LF, any
//! number of leading empty lines, a missing or repeated `Host`, equal repeated `Content-Length`s,
//! `Content-Length` besides `Transfer-Encoding`, and white space after a chunk size.

#[allow(clippy::expect_used, reason = "a test fails by panicking")]
mod oracle;

use oracle::{Reading, httparse_fields, hyper_reads_request, hyper_reads_response};
use proptest::collection::vec;
use proptest::prelude::*;
use wire::body::BodyDecoder;
use wire::field::Field;
use wire::head::{Framing, HeadLimits, Parse, RequestHead, ResponseHead};
use wire::target::{Form, parse_target};

/// What wire makes of a request: `None` unless the whole message is there and in order.
fn wire_reads_request(data: &[u8]) -> Option<Reading> {
    let mut head = RequestHead::default();
    if head.parse(data, 0, &HeadLimits::default()) != Ok(Parse::Complete) {
        return None;
    }
    let target = parse_target(head.method.of(data), head.target.of(data), true).ok()?;
    let raw = String::from_utf8(head.target.of(data).to_vec()).ok()?;
    Some(Reading {
        start: String::from_utf8(head.method.of(data).to_vec()).ok()?,
        target: match target.form {
            Form::Absolute | Form::Asterisk if raw.contains("://") => {
                let path = raw
                    .find("://")
                    .and_then(|at| raw[at + 3..].find(['/', '?']).map(|end| at + 3 + end));
                let path = path.map_or("", |at| &raw[at..]);
                if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
            }
            Form::Authority => String::new(),
            _ => raw,
        },
        fields: fields(data, &head.fields),
        body: body(head.framing, &data[head.len..])?,
    })
}

fn wire_reads_response(data: &[u8], to_head: bool) -> Option<Reading> {
    let mut head = ResponseHead::default();
    if head.parse(data, 0, &HeadLimits::default(), to_head) != Ok(Parse::Complete) {
        return None;
    }
    Some(Reading {
        start: head.status.to_string(),
        target: String::new(),
        fields: fields(data, &head.fields),
        body: body(head.framing, &data[head.len..])?,
    })
}

fn fields(data: &[u8], fields: &[Field]) -> Vec<(String, Vec<u8>)> {
    let one = |field: &Field| {
        let name = String::from_utf8_lossy(field.name.of(data)).to_ascii_lowercase();
        (name, field.value.of(data).to_vec())
    };
    fields.iter().map(one).collect()
}

fn body(framing: Framing, mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = BodyDecoder::new(framing);
    let mut body = Vec::new();
    loop {
        let piece = decoder.next(rest).ok()?;
        body.extend_from_slice(&rest[piece.payload]);
        rest = &rest[piece.consumed..];
        if piece.done || piece.consumed == 0 {
            break;
        }
    }
    decoder.finish_eof().ok()?;
    Some(body)
}

/// The fields of one message in an order that both sides agree on: hyper keeps the order of fields
/// of one name only.
fn sorted(mut reading: Reading) -> Reading {
    reading.fields.sort_by(|a, b| a.0.cmp(&b.0));
    reading
}

fn agree_on_request(data: &[u8]) -> bool {
    let Some(ours) = wire_reads_request(data) else { return false };
    assert_eq!(httparse_fields(data).as_ref(), Some(&ours.fields), "{}", data.escape_ascii());
    let theirs = hyper_reads_request(data);
    assert_eq!(theirs.map(sorted), Some(sorted(ours)), "{}", data.escape_ascii());
    true
}

fn agree_on_response(data: &[u8], to_head: bool) -> bool {
    let Some(ours) = wire_reads_response(data, to_head) else { return false };
    // hyper swallows interim responses, and hands the connection over after a 101.
    if ours.start.starts_with('1') {
        return false;
    }
    let theirs = hyper_reads_response(data, to_head);
    assert_eq!(theirs.map(sorted), Some(sorted(ours)), "{}", data.escape_ascii());
    true
}

fn pick(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(choices)
}

/// Mostly the first, sometimes one of the others.
fn mostly(
    usual: &'static str,
    odd: &'static [&'static str],
) -> impl Strategy<Value = &'static str> {
    prop_oneof![15 => Just(usual), 1 => pick(odd)]
}

const NAMES: &[&str] = &[
    "Host",
    "X-A",
    "x-a",
    "Accept",
    "Cookie",
    "Content-Type",
    "Connection",
    "User-Agent",
    "TE",
    "Expect",
    "Upgrade",
    "Content-Length",
    "Transfer-Encoding",
    "content_length",
    "Trailer",
];

const VALUES: &[&str] = &[
    "a",
    "",
    "b c",
    "close",
    "keep-alive",
    "100-continue",
    "5",
    "0",
    "chunked",
    "trailers",
    "\t x \t",
    "a, b",
    "\u{e4}",
    "upgrade",
    "h2c",
];

fn line(parts: (&str, &str, &str, &str)) -> String {
    let (name, colon, value, end) = parts;
    format!("{name}{colon}{value}{end}")
}

fn field_lines() -> impl Strategy<Value = String> {
    let odd_ends: &[&str] = &["\n", "\r", "\r\n ", "", "\r\r\n", "\0\r\n"];
    let one =
        (pick(NAMES), mostly(": ", &[":", " :", "", "::"]), pick(VALUES), mostly("\r\n", odd_ends));
    vec(one.prop_map(line), 0..5).prop_map(|lines| lines.concat())
}

/// A body and, most of the time, the field that announces it.
fn framed_body() -> impl Strategy<Value = (String, String)> {
    let chunk = prop_oneof![
        8 => pick(&["1\r\nx\r\n", "5\r\nhello\r\n", "A\r\n0123456789\r\n", "1;a=b\r\nx\r\n"]),
        1 => pick(&["1 \r\nx\r\n", "1\nx\r\n", "1\r\nx\n", "0x1\r\nx\r\n", "1\r\nxy\r\n", "+1\r\nx\r\n", "g\r\n", "1;\n\r\nx\r\n"]),
    ];
    let end = mostly(
        "0\r\n\r\n",
        &[
            "0\r\nX-T: a\r\n\r\n",
            "0\r\nbad\r\n\r\n",
            "0\r\n",
            "0\n\r\n",
            "00\r\n\r\n",
            "",
            "0\r\n\r\nmore",
        ],
    );
    let coding = mostly(
        "chunked",
        &["Chunked", "gzip, chunked", "chunked, chunked", "xchunked", "identity", ""],
    );
    let chunked = (vec(chunk, 0..3), end, coding).prop_map(|(chunks, end, coding)| {
        (format!("Transfer-Encoding: {coding}\r\n"), format!("{}{end}", chunks.concat()))
    });
    let length = mostly("5", &["05", "+5", "5,5", "", "4", "6", "0x5", "-0", " 5 "]);
    let plain =
        length.prop_map(|length| (format!("Content-Length: {length}\r\n"), "hello".to_owned()));
    prop_oneof![2 => Just((String::new(), String::new())), 2 => chunked, 2 => plain]
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let targets = pick(&[
        "/",
        "/a/b?c=d&e",
        "/%2e/x",
        "/a//../b",
        "http://b.example:81/x?y",
        "http://b",
        "https://b?q",
        "*",
        "b:443",
        "/a|b{}",
        "//x",
        "/a\\b",
        "/a#b",
        "http://u@b/",
        "/[x]",
        "/a?{|}[]^",
    ]);
    let host = mostly(
        "Host: a.example:80\r\n",
        &["", "Host: a\r\nHost: a\r\n", "Host: a@b\r\n", "host:[::1]\r\n"],
    );
    let start = (
        mostly("", &["\r\n", "\n", "\r\n\r\n\r\n", " "]),
        pick(&["GET", "GET", "POST", "HEAD", "OPTIONS", "CONNECT", "M-X", "get", "G(T", ""]),
        mostly(" ", &["  ", "\t"]),
        targets,
        mostly(
            " HTTP/1.1\r\n",
            &[
                " HTTP/1.0\r\n",
                " HTTP/1.1\n",
                " HTTP/2.0\r\n",
                "\r\n",
                " HTTP/1.1 \r\n",
                " http/1.1\r\n",
            ],
        ),
    );
    let start = start.prop_map(|(lead, method, space, target, version)| {
        format!("{lead}{method}{space}{target}{version}")
    });
    (start, host, field_lines(), framed_body(), mostly("\r\n", &["\n", "\r\n\r\n", ""]), noise())
        .prop_map(|(start, host, lines, (announced, body), end, noise)| {
            disturbed(format!("{start}{host}{lines}{announced}{end}{body}").into_bytes(), noise)
        })
}

fn responses() -> impl Strategy<Value = Vec<u8>> {
    let line = pick(&[
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 x\r\n",
        "HTTP/1.1 304 \r\n",
        "HTTP/1.1 404 a b\tc\r\n",
        "HTTP/1.1 999 x\r\n",
        "HTTP/1.1 099 x\r\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
    ]);
    (line, field_lines(), framed_body(), mostly("\r\n", &["\n", ""]), noise()).prop_map(
        |(line, lines, (announced, body), end, noise)| {
            disturbed(format!("{line}{lines}{announced}{end}{body}").into_bytes(), noise)
        },
    )
}

type Noise = Option<(prop::sample::Index, u8)>;

/// Rarely, one byte is replaced, by anything but what the deliberate differences are about.
fn noise() -> impl Strategy<Value = Noise> {
    let byte = any::<u8>().prop_filter("deliberate difference", |byte| !b"<>`\"".contains(byte));
    prop::option::weighted(0.2, (any::<prop::sample::Index>(), byte))
}

fn disturbed(mut message: Vec<u8>, noise: Noise) -> Vec<u8> {
    if let Some((at, byte)) = noise {
        let at = at.index(message.len());
        message[at] = byte;
    }
    message
}

/// How many of `cases` random messages wire accepted; the comparison is only worth something if
/// that is a good part of them.
fn accepted_of<T: std::fmt::Debug>(
    cases: u32,
    messages: impl Strategy<Value = T>,
    agree: impl Fn(&T) -> bool,
) -> u32 {
    let accepted = std::cell::Cell::new(0);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = proptest::test_runner::TestRunner::new(config).run(&messages, |message| {
        accepted.set(accepted.get() + u32::from(agree(&message)));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    accepted.get()
}

#[test]
fn whatever_request_wire_accepts_httparse_and_hyper_read_alike() {
    let accepted = accepted_of(4000, requests(), |data| agree_on_request(data));
    assert!(accepted > 400, "only {accepted} requests were accepted");
}

#[test]
fn whatever_response_wire_accepts_hyper_reads_alike() {
    let accepted = accepted_of(4000, (responses(), any::<bool>()), |(data, to_head)| {
        agree_on_response(data, *to_head)
    });
    assert!(accepted > 400, "only {accepted} responses were accepted");
}

#[test]
fn the_deliberate_differences_are_real() {
    for target in ["/a<b", "/a>b", "/a`b", "/?<", "/?\""] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(wire_reads_request(request.as_bytes()).is_some(), "{target}");
        assert!(hyper_reads_request(request.as_bytes()).is_none(), "{target}");
    }
    for request in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
    ] {
        assert!(wire_reads_request(request.as_bytes()).is_none(), "{request:?}");
        assert!(hyper_reads_request(request.as_bytes()).is_some(), "{request:?}");
    }
}
