//! HTTP/2 from clients: real ones first, then RFC 9113 section by section, frame by frame.

use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::*;

/// A Ravelin before `origin` that takes HTTP/2 without TLS; `more` goes before the site.
#[track_caller]
fn h2c(origin: &Origin, more: &str) -> Ravelin {
    Ravelin::start(&format!("{more}\n{}", site_with("h2c = true", &[&origin.url()], "")))
}

fn curl_h2(ravelin: &Ravelin, args: &[&str]) -> String {
    let mut all = vec!["--http2-prior-knowledge"];
    all.extend(args);
    let url = ravelin.url("/path?x=y");
    all.push(&url);
    curl(&all)
}

#[track_caller]
fn tool(program: &str, args: &[&str]) -> String {
    require(program, &["--version"], "apt-get install nghttp2-client");
    let mut command = Command::new(program);
    command.args(args);
    let output = run_to_end(command);
    assert!(output.status.success(), "{program} {args:?}: {}", printed(&output));
    printed(&output)
}

#[test]
fn curl_gets_what_the_origin_says_and_the_log_says_http_2() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 201 Created\r\nX-Odd-Name: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\
          \r\nhello"
            .to_vec()
    });
    let ravelin = h2c(&origin, "");
    let said = curl_h2(&ravelin, &["-i", "-A", "me"]);
    assert!(said.starts_with("HTTP/2 201 \r\n"), "{said}");
    assert!(said.contains("\r\nx-odd-name: a\r\n") && said.ends_with("\r\n\r\nhello"), "{said}");
    assert!(!said.contains("connection"), "{said}");
    let request = origin.request(0);
    assert_eq!((&*request.method, &*request.target), ("GET", "/path?x=y"));
    assert_eq!(request.version, "HTTP/1.1");
    assert_eq!(request.get("host").unwrap(), ravelin.addr().to_string());
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    ravelin.stdout.line_with(&["\"GET /path?x=y HTTP/2.0\" 201 5 ", "\"me\""]);
}

#[test]
fn both_versions_are_taken_at_one_port() {
    let origin = Origin::saying("hello");
    let ravelin = h2c(&origin, "");
    assert_eq!(curl_h2(&ravelin, &["-w", " %{http_version}"]), "hello 2");
    assert_eq!(curl(&[&ravelin.url("/"), "-w", " %{http_version}"]), "hello 1.1");
    // One byte at a time, the preface is recognised all the same.
    let mut client = Http2::silent(ravelin.addr());
    for byte in PREFACE {
        client.send([*byte]);
    }
    client.frame(SETTINGS, 0, 0, settings(&[(HEADER_TABLE_SIZE, 0)]));
    assert_eq!(client.get(1, "/").body, b"hello");
    // What only begins like it is HTTP/1, and no request.
    ravelin.ask("PRI * HTTP/1.1\r\nHost: a\r\n\r\n").expect(400);
}

#[test]
fn without_h2c_the_preface_is_no_request() {
    let origin = Origin::saying("hello");
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send(PREFACE);
    client.response("PRI").expect(505);
}

#[test]
fn bodies_of_all_lengths_go_both_ways() {
    let origin = Origin::serve(|request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        [head.as_bytes(), &request.body].concat()
    });
    let ravelin = h2c(&origin, "");
    let dir = TempDir::new();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    let name = format!("@{}", input.display());
    for len in [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 1_000_000, 5_000_000] {
        let body = pattern(len, len as u64);
        std::fs::write(&input, &body).unwrap();
        let out = output.to_str().unwrap();
        curl_h2(&ravelin, &["--data-binary", &name, "-o", out, "-H", "Content-Type: a/b"]);
        assert_same_bytes(&std::fs::read(&output).unwrap(), &body);
        // The same without a length.
        let upload = input.to_str().unwrap();
        curl_h2(&ravelin, &["-T", upload, "-X", "POST", "-H", "Content-Length:", "-o", out]);
        assert_same_bytes(&std::fs::read(&output).unwrap(), &body);
    }
}

#[test]
fn a_response_without_a_length_ends_where_the_origin_ends_it() {
    let origin = Origin::serve(|request| match request.target.as_str() {
        "/chunked" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                .to_vec()
        }
        _ => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde".to_vec(),
    });
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    assert_eq!(client.get(1, "/chunked").body, b"abcde");
    assert_eq!(client.get(3, "/closes").body, b"abcde");
}

#[test]
fn responses_without_a_body_end_with_their_fields() {
    let origin = Origin::serve(|request| match request.target.as_str() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec(),
    });
    let ravelin = h2c(&origin, "");
    let said = curl_h2(&ravelin, &["-I"]);
    assert!(said.starts_with("HTTP/2 200") && said.contains("content-length: 1000\r\n"), "{said}");
    let mut client = Http2::connect(ravelin.addr());
    assert_eq!(client.get(1, "/204").status, 204);
    assert_eq!(client.get(3, "/304").status, 304);
}

#[test]
fn nghttp_and_h2load_find_nothing_amiss() {
    let origin = Origin::saying("hello");
    let ravelin = h2c(&origin, "");
    let (a, b) = (ravelin.url("/a"), ravelin.url("/b"));
    let said = tool("nghttp", &["-ns", &a, &b]);
    assert!(said.contains("200    5 /a") && said.contains("200    5 /b"), "{said}");
    let said = tool("h2load", &["-n", "2000", "-c", "4", "-m", "16", &ravelin.url("/")]);
    assert!(said.contains("2000 succeeded, 0 failed, 0 errored"), "{said}");
    assert!(said.contains("status codes: 2000 2xx"), "{said}");
    // The streams share the upstream connections that HTTP/1 uses as well.
    assert!(origin.connections() <= 64 + 2, "{} connections", origin.connections());
}

#[test]
fn streams_are_served_side_by_side() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::serve(move |request| {
        if request.target == "/slow" {
            held.pass();
        }
        ok(&request.target)
    });
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    client.open(1, &get_fields("/slow"));
    assert_eq!(client.get(3, "/fast").body, b"/fast");
    gate.open();
    assert_eq!(client.response(1).body, b"/slow");
}

#[test]
fn files_and_errors_are_answered_over_http2_as_well() {
    let toml = "[[sites]]\nname = \"files\"\nhostname = \"example.com\"\n\
                listen = [\"127.0.0.1:0\"]\nh2c = true\nstatic_dir = \"www\"\n";
    let setup = Setup::new(toml);
    std::fs::create_dir(setup.dir().join("www")).unwrap();
    let content = pattern(300_000, 7);
    std::fs::write(setup.dir().join("www/big.bin"), &content).unwrap();
    let ravelin = setup.start();
    let mut client = Http2::connect(ravelin.addr());
    assert_same_bytes(&client.get(1, "/big.bin").body, &content);
    let missing = client.get(3, "/none");
    assert_eq!(missing.status, 404);
    assert!(!missing.body.is_empty());
    assert_eq!(client.get(5, "/%00").status, 400);
    client.open(7, &with_method("CONNECT", "/")[..1]);
    assert_eq!(client.reset_code(7), PROTOCOL_ERROR);
}

#[test]
fn rfc9113_3_4_what_is_no_preface_or_no_settings_ends_the_connection() {
    let origin = Origin::saying("");
    let ravelin = h2c(&origin, "");
    let mut client = Http2::silent(ravelin.addr());
    client.send(PREFACE);
    client.frame(PING, 0, 0, [0; 8]);
    assert_eq!(client.goaway_code(), Some(PROTOCOL_ERROR));
    let mut client = Http2::silent(ravelin.addr());
    client.send(PREFACE);
    client.frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&get_fields("/")));
    assert_eq!(client.goaway_code(), Some(PROTOCOL_ERROR));
}

#[test]
fn slowloris_a_client_that_does_not_finish_its_preface_is_let_go() {
    let origin = Origin::saying("");
    let ravelin = h2c(&origin, "[limits]\nhead_timeout = \"500ms\"");
    for sent in [&PREFACE[..10], PREFACE, &[PREFACE, &[0, 0, 6, 4, 0]].concat()] {
        let mut client = Http2::silent(ravelin.addr());
        client.send(sent);
        assert_ne!(client.goaway_code(), Some(NO_ERROR));
    }
}

/// Each of these on a connection of its own has to end it with this code.
#[track_caller]
fn connection_errors(cases: &[(&str, Vec<u8>, &[u32])]) {
    let origin = Origin::saying("hello");
    let ravelin = h2c(&origin, "");
    for (what, bytes, codes) in cases {
        let mut client = Http2::connect(ravelin.addr());
        client.send(bytes);
        let code = client.goaway_code();
        assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: {code:?}");
    }
    assert_eq!(Http2::connect(ravelin.addr()).get(1, "/").body, b"hello");
}

fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block(&with_method("POST", "/")))
}

#[test]
fn rfc9113_4_frames_that_break_their_format_end_the_connection() {
    let fields = block(&get_fields("/"));
    connection_errors(&[
        ("4.2 too large", frame(DATA, 0, 1, vec![0; 16_385]), &[FRAME_SIZE_ERROR]),
        (
            "4.3 no HPACK",
            frame(HEADERS, END_HEADERS, 1, [0xff; 20]),
            &[COMPRESSION_ERROR, PROTOCOL_ERROR],
        ),
        ("6.1 DATA on stream 0", frame(DATA, 0, 0, "a"), &[PROTOCOL_ERROR]),
        (
            "6.1 too much padding",
            [open(1), frame(DATA, PADDED, 1, [9, 1])].concat(),
            &[PROTOCOL_ERROR],
        ),
        ("6.2 HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, &fields), &[PROTOCOL_ERROR]),
        ("6.2 too much padding", frame(HEADERS, END_HEADERS | PADDED, 1, [200]), &[PROTOCOL_ERROR]),
        ("6.3 PRIORITY on stream 0", frame(PRIORITY, 0, 0, [0; 5]), &[PROTOCOL_ERROR]),
        ("6.4 RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, [0; 4]), &[PROTOCOL_ERROR]),
        (
            "6.4 RST_STREAM of 3 bytes",
            frame(RST_STREAM, 0, 1, [0; 3]),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        ("6.5 SETTINGS on stream 1", frame(SETTINGS, 0, 1, []), &[PROTOCOL_ERROR]),
        (
            "6.5 ACK with content",
            frame(SETTINGS, ACK, 0, [0; 6]),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        ("6.5 half a setting", frame(SETTINGS, 0, 0, [0; 3]), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("6.6 PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2]), &[PROTOCOL_ERROR]),
        ("6.7 PING on stream 1", frame(PING, 0, 1, [0; 8]), &[PROTOCOL_ERROR]),
        ("6.7 PING of 6 bytes", frame(PING, 0, 0, [0; 6]), &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("6.8 GOAWAY on stream 1", frame(GOAWAY, 0, 1, [0; 8]), &[PROTOCOL_ERROR]),
        (
            "6.9 WINDOW_UPDATE of 3 bytes",
            frame(WINDOW_UPDATE, 0, 0, [0; 3]),
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        ("6.9 WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, [0; 4]), &[PROTOCOL_ERROR]),
        (
            "6.10 CONTINUATION alone",
            frame(CONTINUATION, END_HEADERS, 1, &fields),
            &[PROTOCOL_ERROR],
        ),
    ]);
}

#[test]
fn rfc9113_5_1_frames_a_stream_cannot_take_end_the_connection() {
    let whole = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, block(&get_fields("/")));
    connection_errors(&[
        ("DATA on an idle stream", frame(DATA, 0, 1, "a"), &[PROTOCOL_ERROR]),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 1, [0; 4]), &[PROTOCOL_ERROR]),
        (
            "WINDOW_UPDATE on an idle stream",
            frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]),
            &[PROTOCOL_ERROR],
        ),
        ("5.1.1 an even stream", whole(2), &[PROTOCOL_ERROR]),
        ("5.1.1 a lower stream", [whole(5), whole(3)].concat(), &[PROTOCOL_ERROR, STREAM_CLOSED]),
        (
            "DATA after the end",
            [whole(1), frame(DATA, 0, 1, "a")].concat(),
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
    ]);
}

#[test]
fn rfc9113_6_5_2_settings_out_of_range_end_the_connection() {
    let of = |id, value| frame(SETTINGS, 0, 0, settings(&[(id, value)]));
    connection_errors(&[
        ("push 2", of(ENABLE_PUSH, 2), &[PROTOCOL_ERROR]),
        ("window 2^31", of(INITIAL_WINDOW_SIZE, 1 << 31), &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ("frames of 16383", of(MAX_FRAME_SIZE, 16_383), &[PROTOCOL_ERROR]),
        ("frames of 2^24", of(MAX_FRAME_SIZE, 1 << 24), &[PROTOCOL_ERROR]),
        ("extended CONNECT 2", of(ENABLE_CONNECT_PROTOCOL, 2), &[PROTOCOL_ERROR]),
    ]);
}

#[test]
fn rfc9113_6_9_1_windows_that_overflow_are_an_error() {
    let most = 0x7fff_ffff_u32.to_be_bytes();
    connection_errors(&[(
        "of the connection",
        frame(WINDOW_UPDATE, 0, 0, most),
        &[FLOW_CONTROL_ERROR],
    )]);
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::serve(move |_| {
        held.pass();
        ok("")
    });
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    client.open(1, &get_fields("/"));
    client.frame(WINDOW_UPDATE, 0, 1, most);
    assert_eq!(client.reset_code(1), FLOW_CONTROL_ERROR);
    gate.open();
}

#[test]
fn rfc9113_6_10_nothing_may_come_between_the_parts_of_a_header_block() {
    let fields = block(&get_fields("/"));
    let begun = frame(HEADERS, END_STREAM, 1, &fields[..5]);
    let rest = &fields[5..];
    connection_errors(&[
        ("a PING", [&begun[..], &frame(PING, 0, 0, [0; 8])].concat(), &[PROTOCOL_ERROR]),
        ("DATA", [&begun[..], &frame(DATA, 0, 1, "a")].concat(), &[PROTOCOL_ERROR]),
        ("an unknown frame", [&begun[..], &frame(0x55, 0, 1, "a")].concat(), &[PROTOCOL_ERROR]),
        (
            "CONTINUATION of another stream",
            [&begun[..], &frame(CONTINUATION, END_HEADERS, 3, rest)].concat(),
            &[PROTOCOL_ERROR],
        ),
    ]);
    let origin = Origin::saying("hello");
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    client.send(begun);
    for byte in &rest[..3] {
        client.frame(CONTINUATION, 0, 1, [*byte]);
    }
    client.frame(CONTINUATION, END_HEADERS, 1, &rest[3..]);
    assert_eq!(client.response(1).body, b"hello");
}

#[test]
fn rfc9113_4_1_and_5_5_what_is_unknown_is_ignored() {
    let origin = Origin::saying("hello");
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect_with(ravelin.addr(), &[(0xaaaa, 1)]);
    client.frame(0x0b, 0xff, 0, "what is this");
    client.frame(0xfe, 0, 77, []);
    assert_eq!(client.get(1, "/").body, b"hello");
    // 6.7: flags that mean nothing, and 6.8: debug data.
    client.frame(PING, 0xfe, 0, *b"12345678");
    client.until(|frame| frame.kind == PING && frame.has(ACK) && frame.payload == b"12345678");
}

#[test]
fn rfc9113_5_1_2_more_streams_than_allowed_are_refused_and_can_be_tried_again() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::serve(move |_| {
        held.pass();
        ok("hello")
    });
    let ravelin = h2c(&origin, "[limits]\nhttp2_streams = 2");
    let mut client = Http2::silent(ravelin.addr());
    client.send(PREFACE);
    client.frame(SETTINGS, 0, 0, settings(&[(HEADER_TABLE_SIZE, 0)]));
    let announced = client.until(|frame| frame.kind == SETTINGS && !frame.has(ACK));
    let two = settings(&[(MAX_CONCURRENT_STREAMS, 2)]);
    assert!(announced.payload.chunks(6).any(|setting| setting == two), "{announced:?}");
    for stream in [1, 3, 5] {
        client.open(stream, &get_fields("/"));
    }
    assert_eq!(client.reset_code(5), REFUSED_STREAM);
    gate.open();
    client.response(1);
    client.response(3);
    assert_eq!(client.get(7, "/").body, b"hello");
}

#[test]
fn rfc9113_6_9_2_a_window_of_one_byte_gets_one_byte_at_a_time() {
    let origin = Origin::saying("hello");
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect_with(ravelin.addr(), &[(INITIAL_WINDOW_SIZE, 1)]);
    client.open(1, &get_fields("/"));
    client.generous = false;
    for byte in b"hello" {
        let data = client.until(|frame| frame.kind == DATA);
        assert_eq!(data.payload, [*byte]);
        client.frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]);
    }
    // A window may become negative, and a change of the first window size opens it.
    client.frame(SETTINGS, 0, 0, settings(&[(INITIAL_WINDOW_SIZE, 0)]));
    client.open(3, &get_fields("/"));
    client.until(|frame| frame.kind == HEADERS && frame.stream == 3);
    client.frame(SETTINGS, 0, 0, settings(&[(INITIAL_WINDOW_SIZE, 100)]));
    let data = client.until(|frame| frame.kind == DATA && frame.stream == 3);
    assert_eq!(data.payload, b"hello");
}

#[test]
fn rfc9113_6_9_uploads_get_windows_as_the_origin_takes_them() {
    let origin = Origin::serve(|request| ok(&request.body.len().to_string()));
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    client.open_body(1, &with_method("POST", "/"));
    // Sixteen times the window of a stream, sent no faster than windows come.
    let mut sent = 0;
    let all = 4 * 1024 * 1024;
    while sent < all {
        let window = client.first_window.min(client.window) as usize;
        let size = (all - sent).min(16_384).min(window);
        if size == 0 {
            client.until(|frame| frame.kind == WINDOW_UPDATE);
            continue;
        }
        sent += size;
        client.window -= size as i64;
        client.first_window -= size as i64;
        client.frame(DATA, if sent == all { END_STREAM } else { 0 }, 1, vec![b'x'; size]);
    }
    assert_eq!(client.response(1).body, b"4194304");
}

/// Header lists that are malformed: the stream is reset with PROTOCOL_ERROR, nothing is answered, and
/// the upstream sees nothing.
#[test]
fn rfc9113_8_1_1_and_cve_2026_42926_malformed_requests_are_reset_and_not_forwarded() {
    let origin = Origin::saying("hello");
    let ravelin = h2c(&origin, "");
    let with = |more: &[(&'static str, &'static str)]| {
        let mut fields = get_fields("/");
        fields.extend_from_slice(more);
        fields
    };
    let without = |name: &str| {
        let mut fields = get_fields("/");
        fields.retain(|(n, _)| *n != name);
        fields
    };
    let replaced = |name: &'static str, value: &'static str| {
        let mut fields = get_fields("/");
        fields.iter_mut().filter(|(n, _)| *n == name).for_each(|field| field.1 = value);
        fields
    };
    let mut early = vec![("x", "y")];
    early.extend(get_fields("/"));
    let cases = [
        ("8.2.2 connection", with(&[("connection", "close")])),
        ("8.2.2 transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("8.2.2 upgrade", with(&[("upgrade", "h2c")])),
        ("8.2.2 keep-alive", with(&[("keep-alive", "1")])),
        ("8.2.2 proxy-connection", with(&[("proxy-connection", "close")])),
        ("8.2.2 te", with(&[("te", "trailers, gzip")])),
        ("8.2.1 space before a value", with(&[("x", " y")])),
        ("8.2.1 tab after a value", with(&[("x", "y\t")])),
        ("8.3 pseudo-fields after others", early),
        ("8.3 a pseudo-field twice", with(&[(":path", "/b")])),
        ("8.3 :status", with(&[(":status", "200")])),
        ("8.3.1 no :method", without(":method")),
        ("8.3.1 no :scheme", without(":scheme")),
        ("8.3.1 no :path", without(":path")),
        ("8.3.1 no authority", without(":authority")),
        ("8.3.1 empty :path", replaced(":path", "")),
        ("8.3.1 :path without a slash", replaced(":path", "a")),
        ("8.3.1 absolute :path", replaced(":path", "http://evil.example/")),
        ("8.3.1 * in a GET", replaced(":path", "*")),
        ("8.3.1 space in :path", replaced(":path", "/a HTTP/1.1")),
        ("8.3.1 line break in :path", replaced(":path", "/ HTTP/1.1\r\nX: y")),
        ("8.3.1 another :scheme", replaced(":scheme", "ftp")),
        ("8.3.1 Host differs", with(&[("host", "example.org")])),
        ("8.3.1 Host twice", with(&[("host", "example.com"), ("host", "example.com")])),
        ("8.3.1 a list in :authority", replaced(":authority", "example.com,evil.example")),
        ("8.3.1 user in :authority", replaced(":authority", "user@example.com")),
        ("8.3.1 path in :authority", replaced(":authority", "example.com/a")),
        ("8.3.1 space in :authority", replaced(":authority", "example.com a")),
        ("8.1.1 no number for a length", with(&[("content-length", "+0")])),
        ("8.1.1 two lengths", with(&[("content-length", "0"), ("content-length", "0")])),
        ("8.1.1 a length without content", with(&[("content-length", "5")])),
    ];
    for (what, fields) in cases {
        let mut client = Http2::connect(ravelin.addr());
        client.open(1, &fields);
        assert_eq!(client.reset_code(1), PROTOCOL_ERROR, "{what}");
        // The connection is as good as before.
        assert_eq!(client.get(3, "/fine").body, b"hello", "{what}");
    }
    // These break the connection, which RFC 9113 §5.4.1 allows.
    for (what, fields) in [
        ("8.2.1 upper case", with(&[("X-A", "y")])),
        ("8.2.1 line break in a value", with(&[("x", "y\r\nz: 1")])),
        ("8.2.1 NUL in a value", with(&[("x", "y\0")])),
        ("8.2.1 colon in a name", with(&[("x:y", "z")])),
        ("8.2.1 space in a name", with(&[("x y", "z")])),
        ("8.2.1 empty name", with(&[("", "z")])),
        ("8.3 an unknown pseudo-field", with(&[(":protocols", "x")])),
        ("8.3.1 no token as :method", replaced(":method", "GE T")),
    ] {
        let mut client = Http2::connect(ravelin.addr());
        client.open(1, &fields);
        let ended = client.try_response(1);
        let code = ended.unwrap_err().map(|frame| frame.code());
        assert!(matches!(code, Some(PROTOCOL_ERROR | COMPRESSION_ERROR)), "{what}: {code:?}");
    }
    let seen: Vec<String> = origin.requests().into_iter().map(|r| r.target).collect();
    assert!(seen.iter().all(|target| target == "/fine"), "{seen:?}");
    ravelin.stdout.line_with(&[" 400 ", "cause=malformed"]);
    // What was asked for is told though it became no request.
    let mut client = Http2::connect(ravelin.addr());
    client.open(1, &[get_fields("/told?a=b"), vec![("host", "example.org")]].concat());
    assert!(client.try_response(1).is_err());
    ravelin.stdout.line_with(&["\"GET /told?a=b HTTP/2.0\" 400 ", "cause=malformed"]);
}

#[test]
fn rfc9113_8_1_1_content_that_is_not_as_long_as_it_says_is_reset() {
    let origin = Origin::serve(|_| ok("hello"));
    let ravelin = h2c(&origin, "");
    for (sent, ends) in [("abcd", END_STREAM), ("abcdef", 0)] {
        let mut client = Http2::connect(ravelin.addr());
        let mut fields = with_method("POST", "/");
        fields.push(("content-length", "5"));
        client.open_body(1, &fields);
        client.frame(DATA, ends, 1, sent);
        assert_eq!(client.reset_code(1), PROTOCOL_ERROR, "{sent}");
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
}

#[test]
fn rfc9113_8_2_3_cookie_crumbs_reach_the_origin_as_one_field() {
    let origin = Origin::saying("");
    let ravelin = h2c(&origin, "");
    let mut fields = get_fields("/");
    fields.extend([("cookie", "a=b"), ("x", "y"), ("cookie", "c=d; e=f"), ("cookie", "g=h")]);
    let mut client = Http2::connect(ravelin.addr());
    client.open(1, &fields);
    client.response(1);
    let request = origin.request(0);
    assert_eq!(request.get("cookie"), Some("a=b; c=d; e=f; g=h"));
    assert_eq!((request.get("x"), request.get("host")), (Some("y"), Some("example.com")));
}

#[test]
fn rfc9113_8_1_trailers_go_both_ways() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
          2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n"
            .to_vec()
    });
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    client.open_body(1, &with_method("POST", "/"));
    client.frame(DATA, 0, 1, "body");
    let trailers = [("x-sum", "4"), ("content-length", "9"), ("authorization", "x")];
    client.frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&trailers));
    let response = client.response(1);
    assert_eq!((&response.body[..], response.has_trailers), (&b"ok"[..], true));
    let request = origin.request(0);
    assert_eq!(request.body, b"body");
    assert_eq!(request.trailers, [("x-sum".to_owned(), "4".to_owned())]);
    let said = tool("nghttp", &["-v", &ravelin.url("/")]);
    assert!(said.contains("x-sum: 2"), "{said}");
}

#[test]
fn rfc9113_8_1_interim_responses_are_passed_on() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    });
    let ravelin = h2c(&origin, "");
    let response = Http2::connect(ravelin.addr()).get(1, "/");
    assert_eq!((response.status, &response.interim[..]), (200, &[103][..]));
}

#[test]
fn rfc9110_10_1_1_expect_is_answered_by_the_origin() {
    let origin = Origin::script(|conn| {
        conn.wire.sock.set_patience(PATIENCE);
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        let request = conn.request();
        conn.send(ok(&String::from_utf8(request.body).unwrap()));
    });
    let ravelin = h2c(&origin, "");
    let said = curl_h2(&ravelin, &["-d", "hello", "-H", "Expect: 100-continue"]);
    assert_eq!(said, "hello");
}

#[test]
fn rfc9113_8_1_an_early_response_is_followed_by_no_error() {
    let origin = Origin::saying("");
    let ravelin = h2c(&origin, "[security]\nmax_request_size = \"1KB\"");
    let mut client = Http2::connect(ravelin.addr());
    let mut fields = with_method("POST", "/");
    fields.push(("content-length", "100000"));
    client.open_body(1, &fields);
    assert_eq!(client.response(1).status, 413);
    assert_eq!(client.reset_code(1), NO_ERROR);
    assert_eq!(client.get(3, "/").status, 200);
}

#[test]
fn a_response_that_breaks_off_is_reset_and_never_ends() {
    let origin = Origin::serve(|request| {
        match request.target.as_str() {
        "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nabc".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n"
            .to_vec(),
    }
    });
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    for (stream, path) in [(1, "/length"), (3, "/chunked")] {
        client.open(stream, &get_fields(path));
        let broken = client.try_response(stream).unwrap_err().unwrap();
        assert_eq!((broken.kind, broken.code()), (RST_STREAM, INTERNAL_ERROR), "{path}");
    }
    ravelin.stdout.line_with(&["/length", "ended=upstream"]);
}

#[test]
fn a_client_that_gives_a_request_up_frees_the_upstream() {
    let (gone, closed) = channel();
    let (came, arrived) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        came.send(()).unwrap();
        conn.wait_closed();
        gone.send(()).unwrap();
    });
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    client.open(1, &get_fields("/"));
    next(&arrived, "the request");
    client.frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes());
    next(&closed, "the end of the upstream connection");
    ravelin.stdout.line_with(&["\"GET / HTTP/2.0\" 499 ", "ended=client"]);
    client.ping();
    // The end of the connection gives up what is under way as well.
    client.open(3, &get_fields("/"));
    next(&arrived, "the second request");
    drop(client);
    next(&closed, "the end of the second upstream connection");
}

#[test]
fn rfc8441_a_websocket_over_http2_reaches_an_http1_origin() {
    let origin = Origin::script(|conn| {
        let request = conn.request();
        assert_eq!((&*request.method, &*request.target), ("GET", "/chat"));
        assert_eq!(request.get("upgrade"), Some("websocket"));
        assert_eq!(request.get("sec-websocket-version"), Some("13"));
        assert_eq!(request.get("sec-websocket-protocol"), Some("soap"));
        let key = request.get("sec-websocket-key").unwrap();
        let answer = wire::websocket::accept_key(key.as_bytes());
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            String::from_utf8_lossy(&answer)
        ));
        while let Ok(bytes) = conn.wire.some() {
            conn.send(bytes.to_ascii_uppercase());
        }
    });
    let route = "websocket = true";
    let toml = site_with("h2c = true", &[&origin.url()], route);
    let ravelin = Ravelin::start(&toml);
    let mut client = Http2::connect(ravelin.addr());
    let mut fields = with_method("CONNECT", "/chat");
    fields.extend([(":protocol", "websocket"), ("sec-websocket-version", "13")]);
    fields.push(("sec-websocket-protocol", "soap"));
    client.open_body(1, &fields);
    let head = client.until(|frame| frame.kind == HEADERS && frame.stream == 1);
    assert_eq!(head.payload.iter().find(|byte| *byte & 0xe0 != 0x20), Some(&0x88), "not a 200");
    assert!(!head.has(END_STREAM));
    for text in ["hello", "again"] {
        client.frame(DATA, 0, 1, text);
        let data = client.until(|frame| frame.kind == DATA && frame.stream == 1);
        assert_eq!(data.payload, text.to_ascii_uppercase().as_bytes());
    }
    client.frame(DATA, END_STREAM, 1, []);
    client.until(|frame| frame.stream == 1 && frame.has(END_STREAM));
    ravelin.stdout.line_with(&["\"GET /chat HTTP/2.0\" 101 "]);
}

#[test]
fn rfc8441_what_the_origin_makes_no_websocket_is_none() {
    let origin = Origin::saying("a page");
    let toml = site_with("h2c = true", &[&origin.url()], "websocket = true");
    let ravelin = Ravelin::start(&toml);
    let mut client = Http2::connect(ravelin.addr());
    let mut fields = with_method("CONNECT", "/chat");
    fields.push((":protocol", "websocket"));
    client.open_body(1, &fields);
    assert_eq!(client.response(1).status, 501);
    fields.pop();
    fields.push((":protocol", "connect-udp"));
    client.open_body(3, &fields);
    assert_eq!(client.response(3).status, 501);
}

#[test]
fn sigterm_tells_clients_and_lets_their_streams_finish() {
    let gate = Gate::new();
    let held = gate.clone();
    let (came, arrived) = channel();
    let origin = Origin::serve(move |_| {
        let _ = came.send(());
        held.pass();
        ok("finished")
    });
    let mut ravelin = h2c(&origin, "");
    let mut idle = Http2::connect(ravelin.addr());
    let mut active = Http2::connect(ravelin.addr());
    active.open(1, &get_fields("/"));
    next(&arrived, "the request");
    ravelin.signal("TERM");
    assert_eq!(idle.goaway_code(), Some(NO_ERROR));
    let goaway = active.until(|frame| frame.kind == GOAWAY);
    assert_eq!(goaway.code(), NO_ERROR);
    active.ping();
    gate.open();
    assert_eq!(active.response(1).body, b"finished");
    assert_eq!(active.goaway_code().unwrap_or(NO_ERROR), NO_ERROR);
    assert!(ravelin.exit().success());
}

#[test]
fn sigterm_does_not_wait_for_an_idle_client_that_says_nothing() {
    let origin = Origin::saying("");
    let mut ravelin = h2c(&origin, "");
    let mut idle = Http2::connect(ravelin.addr());
    idle.get(1, "/");
    ravelin.signal("TERM");
    assert!(ravelin.exit_within(Duration::from_secs(5)).success());
}

/// Serves a file of so many bytes, to a client with every window open that has asked for it.
fn downloads(len: usize) -> (Ravelin, Http2) {
    let toml = "[[sites]]\nname = \"files\"\nhostname = \"example.com\"\n\
                listen = [\"127.0.0.1:0\"]\nh2c = true\nstatic_dir = \"www\"\n";
    let ravelin = Setup::new(toml).file("www/big", vec![b'x'; len]).start();
    let mut client = Http2::connect_with(ravelin.addr(), &[(4, 1 << 30)]);
    client.frame(WINDOW_UPDATE, 0, 0, (1_u32 << 30).to_be_bytes());
    client.open(1, &get_fields("/big"));
    (ravelin, client)
}

/// Takes a response at 4 MB/s at most, until `enough` says so of the bytes that `came`.
fn take_slowly(client: &mut Http2, came: &mut usize, enough: impl Fn(usize) -> bool) {
    while !enough(*came) {
        let frame = client.next_frame().unwrap_or_else(|e| panic!("{e:?} after {came} bytes"));
        if frame.kind == DATA {
            *came += frame.payload.len();
            // The pace is what is tested.
            std::thread::sleep(Duration::from_millis(4));
        }
    }
}

#[test]
fn a_download_slower_than_the_server_is_whole_when_sigterm_comes_meanwhile() {
    const LEN: usize = 10 << 20;
    let (mut ravelin, mut client) = downloads(LEN);
    let mut came = 0;
    take_slowly(&mut client, &mut came, |came| came > 0);
    ravelin.signal("TERM");
    take_slowly(&mut client, &mut came, |came| came == LEN);
    drop(client);
    assert!(ravelin.exit_within(Duration::from_secs(5)).success());
}

#[test]
fn what_waits_in_the_socket_at_sigterm_reaches_a_client_that_pauses() {
    const LEN: usize = 10 << 20;
    let (mut ravelin, mut client) = downloads(LEN);
    let mut came = 0;
    take_slowly(&mut client, &mut came, |came| {
        came == LEN || ravelin.stdout.all().iter().any(|line| line.contains("GET /big "))
    });
    assert!(came < LEN, "nothing was left to be taken");
    ravelin.signal("TERM");
    // Longer than is waited for those who have taken everything.
    std::thread::sleep(Duration::from_millis(2500));
    take_slowly(&mut client, &mut came, |came| came == LEN);
    drop(client);
    assert!(ravelin.exit_within(Duration::from_secs(5)).success());
}

#[test]
fn rfc9113_6_8_an_idle_connection_ends_with_goaway() {
    let origin = Origin::saying("");
    let ravelin = h2c(&origin, "[performance]\nkeep_alive_timeout = 1");
    let mut client = Http2::connect(ravelin.addr());
    client.get(1, "/");
    assert_eq!(client.goaway_code(), Some(NO_ERROR));
    // A client that does not answer is not waited for for long.
    let mut silent = Http2::connect(ravelin.addr());
    while let Ok(frame) = silent.raw_frame() {
        assert!(frame.kind != RST_STREAM);
    }
    assert_eq!(silent.raw_frame(), Err(Gone::Closed));
}

#[test]
fn rfc9113_6_8_a_client_that_goes_away_gets_what_it_asked_for() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::serve(move |_| {
        held.pass();
        ok("hello")
    });
    let ravelin = h2c(&origin, "");
    let mut client = Http2::connect(ravelin.addr());
    client.open(1, &get_fields("/"));
    client.frame(GOAWAY, 0, 0, [0; 8]);
    gate.open();
    assert_eq!(client.response(1).body, b"hello");
}

#[test]
fn a_header_list_that_is_too_large_is_431() {
    let origin = Origin::saying("hello");
    let ravelin = h2c(&origin, "[limits]\nfields = 10\nhead_size = \"4KB\"");
    let mut client = Http2::connect(ravelin.addr());
    let mut many = get_fields("/");
    many.extend([("x", "y"); 11]);
    client.open(1, &many);
    assert_eq!(client.response(1).status, 431);
    ravelin.stdout.line_with(&["\"GET / HTTP/2.0\" 431 ", "cause=limit"]);
    let long = "x".repeat(5000);
    let mut large = get_fields("/");
    large.push(("x", &long));
    client.open(3, &large);
    assert_eq!(client.response(3).status, 431);
    assert_eq!(client.get(5, "/").body, b"hello");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_slow_upload_in_large_frames_is_not_cut() {
    let origin = Origin::serve(|request| ok(&request.body.len().to_string()));
    let ravelin = h2c(&origin, "[limits]\nbody_grace = 1\nbody_min_rate = 1000");
    let mut client = Http2::connect(ravelin.addr());
    client.open_body(1, &with_method("POST", "/"));
    // One frame that takes three times the grace, at twice the least rate. The pace is what is tested.
    let bytes = frame(DATA, END_STREAM, 1, vec![b'x'; 6000]);
    let (begin, rest) = bytes.split_at(9);
    client.send(begin);
    for part in rest.chunks(200) {
        client.send(part);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.response(1).body, b"6000");
}
