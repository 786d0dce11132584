//! Attacks on the framing and the canonical form, one test a row, named after where it is from.
//!
//! What is asserted is always the same: the attack is refused with its status and the connection
//! closed, or what reaches the origin is one unambiguous request. That the origin reads strictly
//! is part of every test: a second reading of the bytes would fail it.

use crate::harness::*;

const HOST: &str = "Host: example.com\r\n";

/// An origin that answers every request with its method, target and body.
fn telling() -> Origin {
    Origin::serve(|r| {
        ok(&format!("{} {} {:?}", r.method, r.target, String::from_utf8_lossy(&r.body)))
    })
}

/// Sends the bytes, then a harmless request: asserts this status, then a closed connection, and
/// that the origin saw nothing of it.
#[track_caller]
fn refused_with(status: u16, attacks: &[&[u8]]) {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    for attack in attacks {
        let shown = String::from_utf8_lossy(attack).into_owned();
        let mut client = ravelin.client();
        client.send(attack).send(format!("GET /next HTTP/1.1\r\n{HOST}\r\n"));
        match client.wire.response("GET") {
            Ok(response) => assert_eq!(response.status, status, "{shown:?}: {}", response.text()),
            Err(e) => panic!("{shown:?}: no answer: {e:?}"),
        }
        let rest = client.wire.rest();
        let quiet = matches!(&rest, Ok(rest) if rest.is_empty()) || rest == Err(Broken::Reset);
        assert!(quiet, "{shown:?}: something follows the refusal: {rest:?}");
        assert!(origin.requests().is_empty(), "{shown:?} reached the origin");
        assert_eq!(origin.connections(), 0, "{shown:?} opened an upstream connection");
    }
}

/// Sends targets whose framing is beyond doubt but whose meaning is not: 400, nothing of it reaches
/// the origin, and the next request on the connection, if it is kept, is answered as itself.
#[track_caller]
fn targets_refused(targets: &[&str]) {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    for target in targets {
        let mut client = ravelin.client();
        client.send(format!("GET {target} HTTP/1.1\r\n{HOST}\r\n"));
        client.send(format!("GET /next HTTP/1.1\r\n{HOST}\r\n"));
        let response = client.response("GET");
        assert_eq!(response.status, 400, "{target:?}: {}", response.text());
        if let Ok(next) = client.wire.response("GET") {
            assert_eq!(next.text(), "GET /next \"\"", "{target:?}");
        }
    }
    assert!(origin.requests().iter().all(|r| r.target == "/next"), "{:?}", origin.requests());
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\n{HOST}{fields}\r\n\r\n{body}").into_bytes()
}

#[track_caller]
fn posts_refused_with(status: u16, attacks: &[(&str, &str)]) {
    let attacks: Vec<Vec<u8>> = attacks.iter().map(|(fields, body)| post(fields, body)).collect();
    let attacks: Vec<&[u8]> = attacks.iter().map(Vec::as_slice).collect();
    refused_with(status, &attacks);
}

#[test]
fn rfc9112_6_3_both_transfer_encoding_and_content_length_is_400() {
    posts_refused_with(
        400,
        &[
            ("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 4", "1\r\nZ\r\n0\r\n\r\n"),
            ("transfer-encoding: chunked\r\nContent-length: 0", "0\r\n\r\n"),
        ],
    );
}

#[test]
fn rfc9112_6_3_differing_content_lengths_are_400() {
    posts_refused_with(
        400,
        &[
            ("Content-Length: 5\r\nContent-Length: 6", "hello!"),
            ("Content-Length: 5, 6", "hello!"),
            ("Content-Length: 0\r\nContent-Length: 5", "hello"),
        ],
    );
}

#[test]
fn rfc9110_8_6_content_lengths_that_are_no_plain_number_are_400() {
    posts_refused_with(
        400,
        &[
            ("Content-Length: +5", "hello"),
            ("Content-Length: -5", "hello"),
            ("Content-Length: 0x5", "hello"),
            ("Content-Length: 5_0", "hello"),
            ("Content-Length: 5 5", "hello"),
            ("Content-Length: 5.0", "hello"),
            ("Content-Length: 5e0", "hello"),
            ("Content-Length: \"5\"", "hello"),
            ("Content-Length: five", "hello"),
            ("Content-Length: 5;", "hello"),
            ("Content-Length: 5,", "hello"),
            ("Content-Length: ,5", "hello"),
            ("Content-Length: \x0b5", "hello"),
        ],
    );
}

#[test]
fn cve_2023_40225_an_empty_content_length_is_400() {
    posts_refused_with(
        400,
        &[("Content-Length:", ""), ("Content-Length: ", "x"), ("Content-Length:\t", "")],
    );
}

#[test]
fn cve_2021_40346_lengths_beyond_64_bits_are_400() {
    posts_refused_with(
        400,
        &[
            ("Content-Length: 18446744073709551616", ""),
            ("Content-Length: 18446744073709551621", "hello"),
            ("Content-Length: 99999999999999999999999999999999999999", ""),
        ],
    );
    let long_name = format!("Content-Length0{}: 5", "a".repeat(255));
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask(format!("GET / HTTP/1.1\r\n{HOST}{long_name}\r\n\r\n"));
    assert_eq!(response.expect(200).text(), "GET / \"\"");
}

#[test]
fn the_same_content_length_twice_is_400_or_one() {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    for fields in ["Content-Length: 5\r\nContent-Length: 5", "Content-Length: 5, 5"] {
        let before = origin.requests().len();
        let mut client = ravelin.client();
        let response = client.ask(post(fields, "hello"));
        assert!(matches!(response.status, 200 | 400), "{fields}");
        if response.status == 200 {
            // The strict origin fails on anything but one plain length.
            assert_eq!(origin.request(before).body, b"hello");
        }
    }
}

#[test]
fn cve_2026_2835_obfuscated_transfer_codings_are_refused() {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity, chunked",
        "identity",
        ", chunked",
        "chunked,",
        "chunked, chunked",
        "\"chunked\"",
        "chunked;q=1",
        "gzip",
        "chunked, gzip",
        "",
        " ",
        "\x0bchunked",
        "chunked\x0c",
        "ch unked",
        "chunked\x0b",
        "[asd]",
        "chunked foo",
        "\u{a0}chunked",
    ] {
        let mut client = ravelin.client();
        client.send(post(&format!("Transfer-Encoding: {value}"), "0\r\n\r\n"));
        client.send(format!("GET /next HTTP/1.1\r\n{HOST}\r\n"));
        let response = client.response("POST");
        assert!(matches!(response.status, 400 | 501), "{value:?}: {}", response.status);
        let rest = client.wire.rest().unwrap_or_default();
        assert!(rest.is_empty(), "{value:?}: {}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn rfc9112_6_1_several_transfer_encoding_fields_are_refused() {
    posts_refused_with(
        400,
        &[
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
        ],
    );
}

#[test]
fn rfc9112_6_1_transfer_encoding_in_http_1_0_is_400() {
    refused_with(400, &[
        b"POST / HTTP/1.0\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: example.com\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn transfer_encoding_in_another_case_is_the_same_coding() {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask(post("tRANSFER-eNCODING: Chunked", "2\r\nok\r\n0\r\n\r\n"));
    assert_eq!(response.expect(200).text(), "POST / \"ok\"");
    assert_eq!(origin.request(0).head.all("transfer-encoding"), ["chunked"]);
}

/// Sends a chunked body that is wrong; the answer is 400 and the origin gets no whole request.
#[track_caller]
fn chunks_refused(bodies: &[&str]) {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    for body in bodies {
        let mut client = ravelin.client();
        client.send(post("Transfer-Encoding: chunked", body));
        client.send(format!("GET /next HTTP/1.1\r\n{HOST}\r\n"));
        let response = client.wire.response("POST").unwrap_or_else(|e| panic!("{body:?}: {e:?}"));
        assert_eq!(response.status, 400, "{body:?}: {}", response.text());
        let rest = client.wire.rest().unwrap_or_default();
        assert!(rest.is_empty(), "{body:?}: {}", String::from_utf8_lossy(&rest));
        assert!(origin.requests().is_empty(), "{body:?} reached the origin as a whole request");
    }
}

#[test]
fn cve_2025_22871_bare_line_feeds_in_chunk_lines_are_400() {
    chunks_refused(&[
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5;ext\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a=\rb\r\nhello\r\n0\r\n\r\n",
    ]);
}

#[test]
fn rfc9112_7_1_chunk_sizes_are_hex_digits_only() {
    chunks_refused(&[
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";ext\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
    ]);
}

#[test]
fn rfc9112_7_1_chunk_sizes_that_overflow_are_400() {
    chunks_refused(&[
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "00000000000000000000000000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
    ]);
}

#[test]
fn term_spill_chunk_data_must_end_where_its_size_says() {
    chunks_refused(&[
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    ]);
}

#[test]
fn cve_2023_39326_a_flood_of_chunk_extensions_is_400() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100_000));
    let many = "1;x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\nz\r\n".repeat(1000) + "0\r\n\r\n";
    chunks_refused(&[&long, &many]);
}

#[test]
fn rfc9112_7_1_2_malformed_trailers_are_400() {
    let endless = format!("0\r\n{}\r\n", "X-T: v\r\n".repeat(50_000));
    chunks_refused(&[
        "0\r\nno colon\r\n\r\n",
        "0\r\n: no name\r\n\r\n",
        "0\r\nX : space\r\n\r\n",
        "0\r\nX: a\r\n folded\r\n\r\n",
        "0\r\nX: a\0\r\n\r\n",
        &endless,
    ]);
}

#[test]
fn cve_2023_25725_empty_field_name_is_400() {
    refused_with(
        400,
        &[
            b"GET / HTTP/1.1\r\nHost: example.com\r\n: value\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\n:\r\nContent-Length: 5\r\n\r\nhello",
        ],
    );
}

#[test]
fn rfc9112_5_1_space_before_the_colon_is_400() {
    refused_with(400, &[
        b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length : 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : example.com\r\n\r\n",
    ]);
}

#[test]
fn cve_2025_32094_line_folding_is_400() {
    refused_with(400, &[
        b"GET / HTTP/1.1\r\nHost: example.com\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: example.com\r\nX: a\r\n\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\n X: a\r\nHost: example.com\r\n\r\n",
        b"OPTIONS / HTTP/1.1\r\nHost: example.com\r\nExpect:\r\n 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn rfc9110_5_5_control_characters_in_fields_are_400() {
    refused_with(
        400,
        &[
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX: a\0b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX: a\rb\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX: a\r\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX: a\x01\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX: a\x7f\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX\0: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX Y: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX\xe9: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\n\x0bX: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\n(X): a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nno colon\r\n\r\n",
        ],
    );
}

#[test]
fn rfc9112_2_2_bare_line_feeds_in_the_head_are_400() {
    refused_with(
        400,
        &[
            b"GET / HTTP/1.1\nHost: example.com\n\n",
            b"GET / HTTP/1.1\r\nHost: example.com\nX: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nX: a\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\n\n",
        ],
    );
}

#[test]
fn whitespace_of_high_bytes_is_not_stripped() {
    // 0x85 and 0xa0 are spaces to some: they must not turn "xchunked"-like values into chunked.
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    for byte in [0x85, 0xa0] {
        let attack = [
            b"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: ".as_slice(),
            &[byte],
            b"chunked\r\n\r\n0\r\n\r\n",
        ]
        .concat();
        let status = ravelin.ask(attack).status;
        assert!(matches!(status, 400 | 501), "{byte:#x}: {status}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn rfc9112_3_malformed_request_lines_are_400() {
    refused_with(
        400,
        &[
            b"GET  / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET /  HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET\t/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b" GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: example.com\r\n\r\n",
            b"GET / http/1.1\r\nHost: example.com\r\n\r\n",
            b"GET / HTTP/1.1x\r\nHost: example.com\r\n\r\n",
            b"GET / x HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET /\x7f HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET /\xc3\xa9 HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"G(T / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET x HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET * HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET /a#frag HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET ftp://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET\r\nHost: example.com\r\n\r\n",
        ],
    );
}

#[test]
fn rfc9112_2_3_other_major_versions_are_505_and_http_0_9_is_refused() {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    for line in
        ["GET / HTTP/2.0", "GET / HTTP/3.0", "GET / HTTP/0.9", "GET / HTTP/11", "GET / HTTP/1."]
    {
        let status = ravelin.ask(format!("{line}\r\n{HOST}\r\n")).status;
        assert!(matches!(status, 400 | 505), "{line}: {status}");
    }
    // HTTP/0.9 has no version at all; a connection preface of HTTP/2 is none of HTTP/1.
    for bytes in ["GET /\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let status = ravelin.ask(bytes).status;
        assert!(matches!(status, 400 | 505), "{bytes:?}: {status}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_minor_version_above_1_1_is_served_or_refused_but_not_crashed_on() {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    let status = ravelin.ask(format!("GET / HTTP/1.2\r\n{HOST}\r\n")).status;
    assert!(matches!(status, 200 | 400 | 505), "{status}");
}

#[test]
fn rfc9112_3_2_hosts_must_be_exactly_one() {
    refused_with(
        400,
        &[
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nHost: example.com\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com\r\nhost: evil.test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: example.com, evil.test\r\n\r\n",
            b"GET http://example.com/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ],
    );
}

#[test]
fn cve_2021_40438_odd_authorities_are_400() {
    refused_with(
        400,
        &[
            b"GET / HTTP/1.1\r\nHost: unix:/tmp/x|http://y\r\n\r\n",
            b"GET http://a@b/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET http://a\\b/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET @evil.test/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"GET http:/// HTTP/1.1\r\nHost: example.com\r\n\r\n",
        ],
    );
}

#[test]
fn cve_2025_66490_ambiguous_path_encodings_are_400() {
    targets_refused(&["/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a%00", "/a%zz", "/a%", "/a%2"]);
}

#[test]
fn cve_2021_41773_paths_that_escape_the_root_are_400() {
    targets_refused(&[
        "/..",
        "/../etc/passwd",
        "/a/../../b",
        "/cgi-bin/.%2e/%2e%2e/etc/passwd",
        "/a/..;/b",
        "http://example.com/../x",
    ]);
}

#[test]
fn allow_encoded_slashes_lets_them_through_still_encoded() {
    let origin = telling();
    let toml = format!("[security]\nallow_encoded_slashes = true\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    ravelin.get("/a%2fb%5Cc").expect(200);
    assert_eq!(origin.request(0).target, "/a%2Fb%5Cc");
    ravelin.get("/a%2f..%2fb").expect(400);
}

#[test]
fn strip_prefix_cannot_be_made_to_escape_or_change_the_host() {
    let origin = telling();
    let more =
        "[[sites.proxy.routes]]\npath = \"/cut\"\nupstream = \"backend\"\nstrip_prefix = true\n";
    let ravelin = Ravelin::before_with(&origin, more);
    for target in ["/cut//evil.test/x", "/cut/%2e%2e/x", "/cut/..//x", "/cut/.//evil.test"] {
        let before = origin.requests().len();
        if ravelin.get(target).status == 200 {
            let seen = origin.request(before).target;
            assert!(seen.starts_with('/') && !seen.starts_with("//"), "{target} -> {seen}");
            assert!(!seen.contains(".."), "{target} -> {seen}");
        }
    }
}

#[test]
fn zero_cl_a_get_with_a_body_is_one_request() {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    let inner = format!("GET /smuggled HTTP/1.1\r\n{HOST}\r\n");
    let mut client = ravelin.client();
    client.send(format!(
        "GET /outer HTTP/1.1\r\n{HOST}Content-Length: {}\r\n\r\n{inner}",
        inner.len()
    ));
    client.response("GET").expect(200);
    assert_eq!(client.get("/next").text(), "GET /next \"\"");
    let targets: Vec<String> = origin.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/outer", "/next"]);
    assert_eq!(origin.request(0).body, inner.as_bytes());
}

#[test]
fn cve_2024_24791_a_body_that_was_never_sent_desynchronises_nobody() {
    // The origin answers early, without 100: the client's next bytes may be the body or a request.
    let origin = Origin::script(|conn| {
        while let Ok(head) = conn.wire.head() {
            if head.has("expect") {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
            } else {
                conn.send(ok(head.start.split(' ').nth(1).unwrap()));
            }
        }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send(format!(
        "POST /outer HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 30\r\n\r\n"
    ));
    assert_eq!(client.response("POST").text(), "early");
    client.send(format!("GET /other HTTP/1.1\r\n{HOST}\r\n"));
    // Only a close is safe here; any answer would be to bytes of unknown meaning.
    client.expect_close();
    // And the upstream connection with its open end is not used for another client.
    assert_eq!(ravelin.get("/fresh").text(), "/fresh");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn response_smuggling_a_body_after_head_304_or_204_is_not_the_next_response() {
    for (request, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\npoison"),
    ] {
        let origin = Origin::script(move |conn| {
            let first = conn.request();
            if first.target == "/poisoned" {
                conn.send(answer);
            } else {
                conn.send(ok("clean"));
            }
            conn.wait_closed();
        });
        let ravelin = Ravelin::before(&origin);
        let mut client = ravelin.client();
        client.send(format!("{request} /poisoned HTTP/1.1\r\n{HOST}\r\n"));
        client.response(if request == "HEAD" { "HEAD" } else { "GET" });
        assert_eq!(client.get("/next").text(), "clean", "{answer:?}");
        assert_eq!(origin.connections(), 2, "{answer:?}");
    }
}

#[test]
fn response_smuggling_both_framings_in_a_response_is_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        let origin = Origin::script(move |conn| {
            conn.request();
            conn.send(answer);
            conn.wait_closed();
        });
        let ravelin = Ravelin::before(&origin);
        ravelin.get("/").expect(502);
    }
}

#[test]
fn a_flood_of_informational_responses_is_502() {
    let origin = Origin::script(|conn| {
        conn.request();
        while conn.try_send("HTTP/1.1 102 Processing\r\n\r\n").is_ok() {}
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send(format!("GET / HTTP/1.1\r\n{HOST}\r\n"));
    let response = client.response("GET").expect(502);
    assert!(response.interim.len() <= 8, "{} passed on", response.interim.len());
}

#[test]
fn httpoxy_the_proxy_field_is_dropped() {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    ravelin.ask(format!("GET / HTTP/1.1\r\n{HOST}Proxy: http://evil.test\r\n\r\n")).expect(200);
    assert!(!origin.request(0).head.has("proxy"));
}

#[test]
fn cve_2023_25690_nothing_of_the_path_becomes_a_line_of_its_own() {
    let origin = telling();
    let more =
        "[[sites.proxy.routes]]\npath = \"/cut/\"\nupstream = \"backend\"\nstrip_prefix = true\n";
    let ravelin = Ravelin::before_with(&origin, more);
    for target in ["/cut/x%0d%0aX-Injected:%201", "/cut/%0AGET%20/", "/x?%0d%0aX-Injected: 1"] {
        let before = origin.requests().len();
        if ravelin.get(target).status == 200 {
            let request = origin.request(before);
            assert!(!request.head.has("x-injected"), "{target}: {:?}", request.head);
        }
    }
    let toml = site(&[&origin.url()], "redirect_slash = true\n")
        .replace("path = \"/\"", "path = \"/dir/\"");
    let ravelin = Ravelin::start(&toml);
    let response = ravelin.get("/dir?x%0d%0aX-Injected:1");
    assert!(!response.head.has("x-injected"), "{:?}", response.head);
}

#[test]
fn a_tls_client_on_a_plain_port_is_refused() {
    let origin = telling();
    let ravelin = Ravelin::before(&origin);
    let hello = [
        0x16, 0x03, 0x01, 0x00, 0xc8, 0x01, 0x00, 0x00, 0xc4, 0x03, 0x03, 0x0d, 0x0a, 0x0d, 0x0a,
        0x00,
    ];
    let mut client = ravelin.client();
    client.send(hello);
    match client.wire.response("GET") {
        Ok(response) => assert_eq!(response.status, 400),
        Err(e) => assert!(matches!(e, Broken::Closed | Broken::Reset), "{e:?}"),
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_body_that_the_upstream_stopped_taking_is_not_the_next_request() {
    // The upstream answers without reading the body. Of a body of the right size, the last bytes are
    // in the proxy's hands then, read whole from the client and not written to the upstream.
    use std::io::{Read, Write};
    let dir = TempDir::new();
    let path = dir.path().join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (sent, is_sent) = std::sync::mpsc::channel();
    let (seen, saw) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                head.push(byte[0]);
            }
            let start = head.split(|&b| b == b'\r').next().unwrap_or_default();
            let _ = seen.send(String::from_utf8_lossy(start).into_owned());
            if start.starts_with(b"POST") && is_sent.recv().is_err() {
                return;
            }
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nearly";
            let _ = stream.write_all(answer.as_bytes());
            open.push(stream);
        }
    });
    let ravelin = Ravelin::start(&site(&[&format!("unix:{}", path.display())], ""));
    let smuggled = format!("GET /smuggled HTTP/1.1\r\n{HOST}\r\n");
    let chunk = smuggled.repeat(100);
    let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
    for chunks in 10..140 {
        let mut client = ravelin.client();
        client.send(format!("POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"));
        client.send(chunk.repeat(chunks)).send("0\r\n\r\n");
        sent.send(()).unwrap();
        assert_eq!(client.response("POST").text(), "early");
        client.finish();
        let rest = client.wire.rest();
        assert!(rest.as_ref().map_or(true, Vec::is_empty), "{chunks} chunks: {rest:?}");
    }
    let starts: Vec<String> = saw.try_iter().collect();
    assert!(starts.iter().all(|start| start == "POST / HTTP/1.1"), "{starts:?}");
}
