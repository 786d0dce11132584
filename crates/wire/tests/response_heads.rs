//! What an upstream may and may not send as a response head.

use wire::field::FieldId;
use wire::head::{Fault, Framing, HeadError, HeadLimits, Parse, ResponseHead, Upgrade, Version};

fn parse(head: &str, to_head: bool) -> Result<ResponseHead, HeadError> {
    let mut parsed = ResponseHead::default();
    match parsed.parse(head.as_bytes(), 0, &HeadLimits::default(), to_head)? {
        Parse::Complete => Ok(parsed),
        Parse::Partial => panic!("{head:?} is not complete"),
    }
}

fn accepted(head: &str) -> ResponseHead {
    parse(head, false).unwrap_or_else(|error| panic!("{head:?}: {error}"))
}

#[track_caller]
fn refused(head: &str, fault: Fault) {
    match parse(head, false) {
        Ok(_) => panic!("{head:?} was accepted"),
        Err(error) => {
            assert_eq!((error, error.status()), (HeadError::Response(fault), 502), "{head:?}")
        }
    }
}

#[test]
fn a_head_is_an_index_over_the_buffer() {
    let buf = b"HTTP/1.1 404 Not  Found\r\nServer: x\r\nContent-Length: 2\r\n\r\nab";
    let mut head = ResponseHead::default();
    assert_eq!(head.parse(buf, 0, &HeadLimits::default(), false), Ok(Parse::Complete));
    assert_eq!((head.status, head.reason.of(buf)), (404, b"Not  Found".as_slice()));
    assert_eq!(
        (head.version, head.framing, head.keep_alive),
        (Version::Http11, Framing::Length(2), true)
    );
    assert_eq!(head.get(FieldId::Server).unwrap().value.of(buf), b"x");
    assert_eq!(&buf[head.len..], b"ab");
}

#[test]
fn rfc9112_4_status_lines() {
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.1 200 ", 200, ""),
        ("HTTP/1.1 200", 200, ""),
        ("HTTP/1.0 999 a\tb", 999, "a\tb"),
        ("HTTP/1.1 600 Schön", 600, "Schön"),
    ] {
        let text = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        let head = accepted(&text);
        assert_eq!(
            (head.status, head.reason.of(text.as_bytes())),
            (status, reason.as_bytes()),
            "{line}"
        );
    }
    for (line, fault) in [
        ("HTTP/1.1 099 x", Fault::Status),
        ("HTTP/1.1 20 OK", Fault::StartLine),
        ("HTTP/1.1 2000 OK", Fault::StartLine),
        ("HTTP/1.1  200 OK", Fault::StartLine),
        ("HTTP/1.1 200 O\0K", Fault::StartLine),
        ("HTTP/2.0 200 OK", Fault::Version),
        ("ICY 200 OK", Fault::StartLine),
        ("SSH-2.0-OpenSSH_9.2", Fault::StartLine),
        ("\r\nHTTP/1.1 200 OK", Fault::LeadingLines),
    ] {
        refused(&format!("{line}\r\n\r\n"), fault);
    }
    refused("HTTP/1.1 200 OK\nX: y\r\n\r\n", Fault::LineEnd);
    refused("HTTP/1.1 200 OK\r\nX: y\r\n\n", Fault::LineEnd);
    refused("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", Fault::FieldName);
    refused("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", Fault::FieldName);
}

#[test]
fn rfc9112_6_3_where_a_response_body_ends() {
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (status, fields, to_head, framing, keep_alive) in [
        (200, length, false, Framing::Length(5), true),
        (200, chunked, false, Framing::Chunked, true),
        (200, "", false, Framing::UntilClose, false),
        (205, length, false, Framing::Length(5), true),
        (200, length, true, Framing::None, true),
        (200, chunked, true, Framing::None, true),
        (200, "", true, Framing::None, true),
        (304, length, false, Framing::None, true),
        (304, "", false, Framing::None, true),
        (204, "", false, Framing::None, true),
        (100, "", false, Framing::None, true),
        (101, "", false, Framing::None, true),
    ] {
        let text = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        let head = parse(&text, to_head).unwrap();
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{text} {to_head}");
    }
}

#[test]
fn cve_2022_37436_bodies_where_none_may_be_end_the_connection() {
    for status in [100, 103, 199, 204] {
        for fields in [
            "Content-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: x\r\n",
            "Transfer-Encoding: gzip\r\nContent-Length: 0\r\n",
        ] {
            let head = accepted(&format!("HTTP/1.1 {status} x\r\n{fields}\r\n"));
            assert_eq!(
                (head.framing, head.keep_alive),
                (Framing::None, false),
                "{status} {fields}"
            );
        }
    }
}

#[test]
fn cve_2023_27522_ambiguous_framing_in_a_response_is_502() {
    for (fields, fault) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Fault::LengthAndCoding),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Fault::RepeatedLength),
        ("Content-Length: 5, 5\r\n", Fault::Length),
        ("Content-Length:\r\n", Fault::Length),
        ("Content-Length: 9223372036854775808\r\n", Fault::Length),
        ("Transfer-Encoding: gzip\r\n", Fault::Coding),
        ("Transfer-Encoding: gzip, chunked\r\n", Fault::UnknownCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Fault::Coding),
    ] {
        for status in [200, 304] {
            let text = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
            refused(&text, fault);
            assert_eq!(parse(&text, true).unwrap_err(), HeadError::Response(fault));
        }
    }
    refused("HTTP/1.0 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::CodingInHttp10);
}

#[test]
fn rfc9112_9_3_persistence() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
    ] {
        let head =
            accepted(&format!("HTTP/{version} 200 x\r\nContent-Length: 0\r\n{connection}\r\n"));
        assert_eq!(head.keep_alive, expected, "{version} {connection}");
    }
}

#[test]
fn cve_2024_23326_only_a_101_with_the_token_is_an_upgrade() {
    let both = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let upgrade = |status: &str, fields: &str| {
        accepted(&format!("HTTP/1.1 {status} x\r\n{fields}\r\n")).upgrade
    };
    assert_eq!(upgrade("101", both), Upgrade::WebSocket);
    assert_eq!(upgrade("200", both), Upgrade::Other);
    assert_eq!(upgrade("101", ""), Upgrade::None);
    assert_eq!(upgrade("101", "Upgrade: websocket\r\n"), Upgrade::None);
    assert_eq!(upgrade("101", "Connection: upgrade\r\nUpgrade: h2c\r\n"), Upgrade::Other);
}

#[test]
fn interim_responses() {
    for (status, interim) in
        [(100, true), (101, false), (102, true), (103, true), (199, true), (200, false)]
    {
        assert_eq!(
            accepted(&format!("HTTP/1.1 {status} x\r\n\r\n")).is_interim(),
            interim,
            "{status}"
        );
    }
}

#[test]
fn rfc9110_7_6_1_connection_nominates_fields() {
    let text = "HTTP/1.1 200 x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n";
    let head = accepted(text);
    assert!(head.nominated(text.as_bytes(), b"x-hop"));
    assert!(!head.nominated(text.as_bytes(), b"Server"));
}

#[test]
fn endless_heads_are_502() {
    let limits = HeadLimits { bytes: 64, fields: 2 };
    let endless = format!("HTTP/1.1 200 {}", "x".repeat(64));
    let error = ResponseHead::default().parse(endless.as_bytes(), 0, &limits, false).unwrap_err();
    assert_eq!((error, error.status()), (HeadError::Response(Fault::TooLarge), 502));
    let many = "HTTP/1.1 200 x\r\na: b\r\na: b\r\na: b\r\n\r\n";
    let error = ResponseHead::default().parse(many.as_bytes(), 0, &limits, false).unwrap_err();
    assert_eq!((error, error.status()), (HeadError::Response(Fault::TooManyFields), 502));
}
