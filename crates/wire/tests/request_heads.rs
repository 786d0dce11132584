//! What a client may and may not send as a request head. Each refusal is named after the attack or
//! the section it answers.

use wire::field::FieldId;
use wire::head::{Fault, Framing, HeadError, HeadLimits, Parse, RequestHead, Upgrade, Version};

fn parse(head: &str) -> Result<RequestHead, HeadError> {
    let mut parsed = RequestHead::default();
    match parsed.parse(head.as_bytes(), 0, &HeadLimits::default())? {
        Parse::Complete => Ok(parsed),
        Parse::Partial => panic!("{head:?} is not complete"),
    }
}

/// A GET with these further lines, each ending in CRLF.
fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn accepted(head: &str) -> RequestHead {
    parse(head).unwrap_or_else(|error| panic!("{head:?}: {error}"))
}

#[track_caller]
fn refused(head: &str, status: u16, fault: Fault) {
    match parse(head) {
        Ok(_) => panic!("{head:?} was accepted"),
        Err(error) => {
            assert_eq!(error, HeadError::Request(fault), "{head:?}");
            assert_eq!(error.status(), status, "{head:?}");
        }
    }
}

#[test]
fn a_head_is_an_index_over_the_buffer() {
    let buf = b"\r\nPOST /a?b HTTP/1.1\r\nHost: Example.com \r\nX-A:\t b c\t\r\nCONTENT-LENGTH: 3\r\nempty:\r\n\r\nabc";
    let mut head = RequestHead::default();
    assert_eq!(head.parse(buf, 0, &HeadLimits::default()), Ok(Parse::Complete));
    assert_eq!(
        (head.method.of(buf), head.target.of(buf)),
        (b"POST".as_slice(), b"/a?b".as_slice())
    );
    assert_eq!((head.version, head.framing), (Version::Http11, Framing::Length(3)));
    assert_eq!(&buf[head.len..], b"abc");
    assert_eq!(head.host.unwrap().of(buf), b"Example.com");
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|field| (field.name.of(buf), field.value.of(buf), field.id))
        .collect();
    assert_eq!(
        fields,
        [
            (b"Host".as_slice(), b"Example.com".as_slice(), FieldId::Host),
            (b"X-A", b"b c", FieldId::Other),
            (b"CONTENT-LENGTH", b"3", FieldId::ContentLength),
            (b"empty", b"", FieldId::Other),
        ]
    );
    assert_eq!(head.get(FieldId::ContentLength).unwrap().value.of(buf), b"3");
    assert_eq!(head.get(FieldId::Cookie), None);
}

#[test]
fn a_reused_head_forgets_the_one_before() {
    let mut head = RequestHead::default();
    let limits = HeadLimits::default();
    let first = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    head.parse(first, 0, &limits).unwrap();
    let second = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(head.parse(second, 0, &limits), Ok(Parse::Complete));
    assert_eq!(head.fields.len(), 1);
    assert_eq!((head.host, head.framing, head.upgrade), (None, Framing::None, Upgrade::None));
    assert!(head.keep_alive && !head.expect_continue && !head.nominated(second, b"x"));
    assert_eq!(head.get(FieldId::Host), None);
}

#[test]
fn rfc9112_2_2_bare_line_feeds_are_400() {
    for head in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\nY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.0\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        refused(head, 400, Fault::LineEnd);
    }
}

#[test]
fn rfc9112_2_2_bare_carriage_returns_and_nul_are_400() {
    for lines in
        ["X: a\rb\r\n", "X: a\r\r\n", "X:\ra\r\n", "X: a\0b\r\n", "X: \0\r\n", "X: a\u{7f}\r\n"]
    {
        refused(&with(lines), 400, Fault::FieldValue);
    }
    for lines in ["X\r: a\r\n", "\rX: a\r\n", "X\0: a\r\n", "\0: a\r\n"] {
        assert_eq!(parse(&with(lines)).unwrap_err().status(), 400, "{lines:?}");
    }
    refused("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, Fault::LineEnd);
    for head in
        ["GET /\r HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\rHost: a\r\n\r\n", "G\0T / HTTP/1.1\r\n\r\n"]
    {
        assert_eq!(parse(head).unwrap_err().status(), 400, "{head:?}");
    }
}

#[test]
fn cve_2025_32094_obsolete_line_folding_is_400() {
    for lines in
        ["X: a\r\n b\r\n", "X: a\r\n\tb\r\n", "X:\r\n a\r\n", "Expect: 100-continue\r\n \r\n"]
    {
        refused(&with(lines), 400, Fault::FieldName);
    }
    refused("OPTIONS / HTTP/1.1\r\n Host: a\r\n\r\n", 400, Fault::FieldName);
    refused(
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nExpect:\r\n 100-continue\r\n\r\n",
        400,
        Fault::FieldName,
    );
}

#[test]
fn cve_2023_25725_empty_field_name_is_400() {
    refused(&with(": a\r\n"), 400, Fault::FieldName);
    refused("GET / HTTP/1.1\r\n: a\r\nHost: a\r\n\r\n", 400, Fault::FieldName);
}

#[test]
fn rfc9112_5_1_odd_field_names_are_400() {
    for lines in [
        "Content-Length : 5\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "X\r\n",
        "X Y: a\r\n",
        "X(: a\r\n",
        "\"X\": a\r\n",
        "X@: a\r\n",
        "X[: a\r\n",
        "Ä: a\r\n",
        "X\u{b}: a\r\n",
        "=: a\r\n",
        "X/Y: a\r\n",
    ] {
        refused(&with(lines), 400, Fault::FieldName);
    }
    accepted(&with("!#$%&'*+-.^_`|~09azAZ: a\r\n"));
}

#[test]
fn only_space_and_tab_are_trimmed_and_high_bytes_are_kept() {
    let buf = b"GET / HTTP/1.0\r\nX: \t \x80\xa0 a \xff\x85 \t\r\n\r\n";
    let mut head = RequestHead::default();
    head.parse(buf, 0, &HeadLimits::default()).unwrap();
    assert_eq!(head.fields[0].value.of(buf), b"\x80\xa0 a \xff\x85");
    let padded = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \xa05\r\n\r\n";
    assert_eq!(
        head.parse(padded, 0, &HeadLimits::default()),
        Err(HeadError::Request(Fault::Length))
    );
}

#[test]
fn rfc9112_2_2_at_most_two_leading_empty_lines() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for lines in 0..=2 {
        let head = accepted(&format!("{}{request}", "\r\n".repeat(lines)));
        assert_eq!(head.len, request.len() + 2 * lines);
    }
    refused(&format!("\r\n\r\n\r\n{request}"), 400, Fault::LeadingLines);
}

#[test]
fn rfc9112_3_malformed_request_lines_are_400() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /",
        "GET",
        "GET / ",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "GET / HTTP 1.1",
        "GET / HTTP/x",
        "GET / HTTPS/1.1",
        "GET /a b HTTP/1.1",
        "GÄT / HTTP/1.1",
    ] {
        let error = parse(&format!("{line}\r\nHost: a\r\n\r\n")).unwrap_err();
        assert_eq!(error.status(), 400, "{line}: {error}");
    }
    accepted("patch.it! / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn rfc9110_15_6_6_other_versions_are_505() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0", "HTTP/1.9"] {
        refused(&format!("GET / {version}\r\nHost: a\r\n\r\n"), 505, Fault::Version);
    }
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, Fault::Version);
}

#[test]
fn rfc9112_6_3_both_te_and_cl_is_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: chunked\r\nX: a\r\ncontent-length: 0\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
        "Transfer-Encoding:\r\nContent-Length: 5\r\n",
    ] {
        refused(&with(lines), 400, Fault::LengthAndCoding);
    }
}

#[test]
fn rfc9112_6_3_repeated_content_length_is_400_even_if_equal() {
    for (a, b) in [("5", "5"), ("5", "6"), ("", "5"), ("0", "0")] {
        let lines = format!("Content-Length: {a}\r\nCONTENT-length: {b}\r\n");
        refused(&with(&lines), 400, Fault::RepeatedLength);
    }
}

#[test]
fn cve_2021_40346_and_cve_2023_40225_odd_content_lengths_are_400() {
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "0x10",
        "1_0",
        "5,5",
        "5, 5",
        "5;",
        "5 5",
        "\"5\"",
        "five",
        "5.0",
        "1e3",
        "５",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        refused(&with(&format!("Content-Length: {value}\r\n")), 400, Fault::Length);
    }
    for (value, length) in
        [("0", 0), ("005", 5), ("\t5 ", 5), ("9223372036854775807", i64::MAX as u64)]
    {
        let head = accepted(&with(&format!("Content-Length: {value}\r\n")));
        assert_eq!(head.framing, Framing::Length(length), "{value}");
    }
}

#[test]
fn cve_2022_26377_obfuscated_transfer_encodings_are_400() {
    for value in [
        "",
        "identity",
        "chunked, identity",
        "chunked,identity",
        ",chunked",
        "chunked,",
        ", ,chunked",
        "xchunked",
        "chunkedx",
        "x-chunked",
        "\"chunked\"",
        "'chunked'",
        "chunked;q=1",
        "chunked ;",
        "chunked chunked",
        "chunked, chunked",
        "gzip;q=1, chunked",
        "gzip",
        "chunked, gzip",
        "identity, chunked",
        "ch\u{e4}nked",
        "[chunked]",
        "gzip,,chunked",
    ] {
        refused(&with(&format!("Transfer-Encoding: {value}\r\n")), 400, Fault::Coding);
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    ] {
        refused(&with(lines), 400, Fault::Coding);
    }
    refused(&with("Transfer-Encoding: \u{b}chunked\r\n"), 400, Fault::FieldValue);
    refused(&with("Transfer-Encoding:\r\n chunked\r\n"), 400, Fault::FieldName);
}

#[test]
fn rfc9112_6_1_unknown_transfer_codings_are_501() {
    for value in ["gzip, chunked", "gzip,chunked", "deflate , x-foo, Chunked"] {
        refused(&with(&format!("Transfer-Encoding: {value}\r\n")), 501, Fault::UnknownCoding);
    }
}

#[test]
fn rfc9112_6_3_chunked_is_compared_ignoring_case() {
    for value in ["chunked", "Chunked", "CHUNKED", "\tchunked "] {
        let head = accepted(&with(&format!("Transfer-Encoding: {value}\r\n")));
        assert_eq!(head.framing, Framing::Chunked, "{value}");
    }
    assert_eq!(accepted(&with("")).framing, Framing::None);
}

#[test]
fn cve_2026_2835_http_1_0_with_transfer_encoding_is_400() {
    for value in ["chunked", "identity", "gzip, chunked"] {
        let head = format!("POST / HTTP/1.0\r\nTransfer-Encoding: {value}\r\n\r\n");
        refused(&head, 400, Fault::CodingInHttp10);
    }
}

#[test]
fn rfc9112_3_2_host_is_required_once_and_valid() {
    refused("GET / HTTP/1.1\r\n\r\n", 400, Fault::NoHost);
    refused("GET http://a/ HTTP/1.1\r\n\r\n", 400, Fault::NoHost);
    assert_eq!(accepted("GET / HTTP/1.0\r\n\r\n").host, None);
    for lines in ["Host: a\r\nHost: a\r\n", "Host: a\r\nX: y\r\nhost: b\r\n"] {
        refused(&format!("GET / HTTP/1.1\r\n{lines}\r\n"), 400, Fault::RepeatedHost);
        refused(&format!("GET / HTTP/1.0\r\n{lines}\r\n"), 400, Fault::RepeatedHost);
    }
    for value in ["", "a@b", "a/b", "a\\b", "a,b", "a b", "a:b", "a:80@b", "a#b", "a?b", "ä"] {
        refused(&format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"), 400, Fault::Host);
        refused(&format!("GET http://c/ HTTP/1.1\r\nHost: {value}\r\n\r\n"), 400, Fault::Host);
    }
}

#[test]
fn cve_2022_31813_the_authority_of_an_absolute_target_wins_over_host() {
    for (target, expected) in [
        ("http://b.example:81/x", "b.example:81"),
        ("HTTPS://B.example", "B.example"),
        ("http://b?c", "b"),
        ("/http://b/", "a"),
        ("/", "a"),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            accepted(&text).host.unwrap().of(text.as_bytes()),
            expected.as_bytes(),
            "{target}"
        );
    }
    for (target, fault) in [
        ("http://a@b/", Fault::Host),
        ("http:///", Fault::Host),
        ("http://", Fault::Host),
        ("http://a\\@b/", Fault::Host),
        ("ftp://b/", Fault::Target),
        ("b:80", Fault::Target),
        ("a", Fault::Target),
        ("*a", Fault::Target),
    ] {
        refused(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), 400, fault);
    }
    accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    accepted("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n");
}

#[test]
fn rfc9112_9_3_persistence() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: x, ,Close ,y\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: not close\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
        ("1.0", "Keep-Alive: 5\r\n", false),
    ] {
        let head = accepted(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"));
        assert_eq!(head.keep_alive, expected, "{version} {connection:?}");
    }
}

#[test]
fn rfc9110_10_1_1_expectations() {
    let body = "Content-Length: 5\r\n";
    for value in ["100-continue", "100-Continue", " 100-CONTINUE\t"] {
        assert!(accepted(&with(&format!("Expect: {value}\r\n{body}"))).expect_continue, "{value}");
    }
    for value in [
        "",
        "100-continued",
        "100-continue, x",
        "100-continue;a",
        "200-ok",
        "y 100-continue",
        "\"100-continue\"",
    ] {
        refused(&with(&format!("Expect: {value}\r\n{body}")), 417, Fault::Expectation);
    }
    refused(&with("Expect: 100-continue\r\nExpect: 100-continue\r\n"), 417, Fault::Expectation);
    let old = "POST / HTTP/1.0\r\nExpect: anything\r\nContent-Length: 5\r\n\r\n";
    assert!(!accepted(old).expect_continue);
}

#[test]
fn cve_2024_24791_no_expectation_without_a_body() {
    assert!(!accepted(&with("Expect: 100-continue\r\n")).expect_continue);
    assert!(!accepted(&with("Expect: 100-continue\r\nContent-Length: 0\r\n")).expect_continue);
    assert!(
        accepted(&with("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n")).expect_continue
    );
}

#[test]
fn rfc9110_7_6_1_connection_nominates_fields() {
    let text =
        with("Connection: close, X-Real-IP\r\nX: y\r\nConnection: foo,\tContent-Length, host\r\n");
    let head = accepted(&text);
    for name in ["X-Real-IP", "x-real-ip", "Foo", "close"] {
        assert!(head.nominated(text.as_bytes(), name.as_bytes()), "{name}");
    }
    for name in ["X", "X-Real", "", "Host", "Content-Length", "fo", "real-ip"] {
        assert!(!head.nominated(text.as_bytes(), name.as_bytes()), "{name}");
    }
    let plain = with("Connection: keep-alive, Upgrade\r\n");
    assert!(!accepted(&plain).nominated(plain.as_bytes(), b"X"));
}

#[test]
fn rfc6455_4_1_websocket_upgrades() {
    let upgrade =
        |start: &str, lines: &str| accepted(&format!("{start}\r\nHost: a\r\n{lines}\r\n")).upgrade;
    let get = "GET / HTTP/1.1";
    let both = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for lines in [
        both,
        "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n",
        "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: x, websocket\r\n",
    ] {
        assert_eq!(upgrade(get, lines), Upgrade::WebSocket, "{lines}");
    }
    for lines in [
        "",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: close\r\nUpgrade: websocket\r\n",
    ] {
        assert_eq!(upgrade(get, lines), Upgrade::None, "{lines}");
    }
    for (start, lines) in [
        ("POST / HTTP/1.1", both.to_owned()),
        ("GET / HTTP/1.0", both.to_owned()),
        (get, format!("{both}Content-Length: 5\r\n")),
        (get, format!("{both}Transfer-Encoding: chunked\r\n")),
        (get, "Connection: upgrade\r\nUpgrade: websocket2\r\n".to_owned()),
        (get, "Connection: upgrade\r\nUpgrade: web socket\r\n".to_owned()),
    ] {
        assert_eq!(upgrade(start, &lines), Upgrade::Other, "{start} {lines}");
    }
}

#[test]
fn cve_2022_41721_h2c_is_no_websocket() {
    let head = accepted(&with(
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    ));
    assert_eq!(head.upgrade, Upgrade::Other);
}

#[test]
fn heads_are_bounded_in_bytes() {
    let limits = HeadLimits { bytes: 64, fields: 100 };
    let parse = |text: &str| RequestHead::default().parse(text.as_bytes(), 0, &limits);
    let exact = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(64 - 32));
    assert_eq!(exact.len(), 64);
    assert_eq!(parse(&exact), Ok(Parse::Complete));
    assert_eq!(parse(&format!("{exact}more")), Ok(Parse::Complete));
    let over = exact.replace("X: ", "X: x");
    for (text, fault, status) in [
        (over.as_str(), Fault::TooLarge, 431),
        (&over[..64], Fault::TooLarge, 431),
        (&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(64)), Fault::TargetTooLong, 414),
        (&"A".repeat(64), Fault::TargetTooLong, 414),
        (&format!("\r\n{}", "A".repeat(64)), Fault::TargetTooLong, 414),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!((error, error.status()), (HeadError::Request(fault), status), "{text}");
        let mut later = RequestHead::default();
        assert_eq!(later.parse(text.as_bytes(), 40, &limits), Err(error), "{text}");
    }
    assert_eq!(parse(&over[..63]), Ok(Parse::Partial));
}

#[test]
fn cve_2025_58186_fields_are_bounded_in_number() {
    let limits = HeadLimits { bytes: 65_536, fields: 10 };
    let parse = |fields: usize| {
        let text = format!("GET / HTTP/1.0\r\n{}\r\n", "Cookie: a=b\r\n".repeat(fields));
        RequestHead::default().parse(text.as_bytes(), 0, &limits)
    };
    assert_eq!(parse(10), Ok(Parse::Complete));
    let error = parse(11).unwrap_err();
    assert_eq!((error, error.status()), (HeadError::Request(Fault::TooManyFields), 431));
    assert_eq!(parse(3000).unwrap_err(), error);
}

#[test]
fn limits_beyond_the_ceilings_are_cut() {
    let limits = HeadLimits { bytes: usize::MAX, fields: usize::MAX };
    let long = format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let error = RequestHead::default().parse(long.as_bytes(), 0, &limits).unwrap_err();
    assert_eq!(error, HeadError::Request(Fault::TooLarge));
    let many = format!("GET / HTTP/1.0\r\n{}\r\n", "a:\r\n".repeat(257));
    let error = RequestHead::default().parse(many.as_bytes(), 0, &limits).unwrap_err();
    assert_eq!(error, HeadError::Request(Fault::TooManyFields));
}

#[test]
fn a_bare_line_feed_in_a_later_piece_is_refused_at_once() {
    let text = b"GET / HTTP/1.1\r\nHost: a\nX: y";
    let mut head = RequestHead::default();
    assert_eq!(head.parse(&text[..20], 0, &HeadLimits::default()), Ok(Parse::Partial));
    let error = head.parse(text, 20, &HeadLimits::default()).unwrap_err();
    assert_eq!(error, HeadError::Request(Fault::LineEnd));
}
