//! Bodies: every framing, both ways, any size, whole or visibly broken.

use std::sync::mpsc::channel;

use crate::harness::*;

const BIG: usize = 10 * 1024 * 1024;

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

/// The body in chunks of these sizes, in turn.
pub fn chunked(body: &[u8], sizes: &[usize], trailers: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, left) = rest.split_at((*size).min(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        rest = left;
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

#[test]
fn ten_mebibytes_down_with_a_length() {
    let body = pattern(BIG, 1);
    let answer = with_length(&body);
    let origin = Origin::serve(move |_| answer.clone());
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for _ in 0..2 {
        let response = client.get("/").expect(200);
        assert_eq!(response.framing, Framing::Length(BIG));
        assert_same_bytes(&response.body, &body);
    }
}

#[test]
fn ten_mebibytes_down_in_chunks() {
    let body = pattern(BIG, 2);
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    answer.extend(chunked(&body, &[1, 100, 16_384, 70_000, 1_000_000], ""));
    let origin = Origin::serve(move |_| answer.clone());
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for _ in 0..2 {
        let response = client.get("/").expect(200);
        assert_eq!(response.framing, Framing::Chunked);
        assert_same_bytes(&response.body, &body);
    }
}

#[test]
fn ten_mebibytes_down_until_close() {
    let body = pattern(BIG, 3);
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &body].concat();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(&answer);
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.get("/").expect(200);
    assert_same_bytes(&response.body, &body);
}

#[test]
fn ten_mebibytes_up_with_a_length() {
    let body = pattern(BIG, 4);
    let origin = Origin::saying("got it");
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for i in 0..2 {
        let head =
            format!("POST /up HTTP/1.1\r\nHost: example.com\r\nContent-Length: {BIG}\r\n\r\n");
        client.send(head).send(&body);
        assert_eq!(client.response("POST").expect(200).text(), "got it");
        let request = origin.request(i);
        assert_eq!(request.framing, Framing::Length(BIG));
        assert_same_bytes(&request.body, &body);
    }
}

#[test]
fn ten_mebibytes_up_in_chunks() {
    let body = pattern(BIG, 5);
    let origin = Origin::saying("got it");
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for i in 0..2 {
        client.send("POST /up HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunked(&body, &[7, 4096, 65_536, 300_000], ""));
        assert_eq!(client.response("POST").expect(200).text(), "got it");
        assert_same_bytes(&origin.request(i).body, &body);
    }
}

#[test]
fn an_echo_of_ten_mebibytes_through_curl_is_the_same() {
    let origin = Origin::serve(|r| with_length(&r.body));
    let ravelin = Ravelin::before(&origin);
    let dir = TempDir::new();
    let body = pattern(BIG, 6);
    let (up, down) = (dir.write("up", &body), dir.path().join("down"));
    let data = format!("@{}", up.display());
    curl(&["--data-binary", &data, "-o", down.to_str().unwrap(), &ravelin.url("/")]);
    assert_same_bytes(&std::fs::read(down).unwrap(), &body);
}

#[test]
fn bodies_of_awkward_sizes_pass_in_every_framing() {
    let origin = Origin::serve(|r| {
        let mut out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        out.extend(chunked(&r.body, &[1000, 3], ""));
        out
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for size in [0, 1, 2, 15, 16, 4095, 4096, 16_383, 16_384, 16_385, 65_535, 65_536, 131_073] {
        let body = pattern(size, size as u64);
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {size}\r\n\r\n"
        ));
        client.send(&body);
        assert_same_bytes(&client.response("POST").expect(200).body, &body);
        client.send("POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunked(&body, &[16_384, 1], ""));
        assert_same_bytes(&client.response("POST").expect(200).body, &body);
    }
}

#[test]
fn bodies_arrive_whole_when_every_byte_comes_alone() {
    let origin = Origin::serve(|r| ok(&String::from_utf8_lossy(&r.body)));
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    let request = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nX-T: 1\r\n\r\n";
    for byte in request.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.response("POST").expect(200).text(), "hello world");
}

#[test]
fn trailers_pass_both_ways_without_the_forbidden_ones() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
          2\r\nok\r\n0\r\nX-Sum: 99\r\nContent-Length: 7\r\n\r\n"
            .to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask(
        "POST / HTTP/1.1\r\nHost: example.com\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Check: 12\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let request = origin.request(0);
    assert_eq!(request.body, b"abc");
    assert_eq!(request.trailers, [("X-Check".to_owned(), "12".to_owned())]);
    assert_eq!(response.text(), "ok");
    assert_eq!(response.trailers, [("X-Sum".to_owned(), "99".to_owned())]);
}

#[test]
fn chunk_extensions_are_not_forwarded() {
    // The strict readers of both sides refuse any extension.
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0;c\r\n\r\n".to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask(
        "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
         3 ; name=\"va lue\"\r\nabc\r\n0\r\n\r\n",
    );
    assert_eq!(response.expect(200).text(), "ok");
    assert_eq!(origin.request(0).body, b"abc");
}

#[test]
fn head_gets_the_length_and_no_body() {
    let origin = Origin::serve(|r| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-M: 1\r\n\r\n".as_slice();
        if r.method == "HEAD" { head.to_vec() } else { [head, b"hello"].concat() }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for _ in 0..2 {
        let response = client.ask("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(200);
        assert_eq!(response.get("content-length"), Some("5"));
        assert_eq!(client.get("/").text(), "hello");
    }
    assert_eq!(origin.connections(), 1, "a HEAD does not cost the upstream connection");
}

#[test]
fn head_of_a_chunked_resource_has_no_body_either() {
    let origin = Origin::serve(|r| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        if r.method == "HEAD" { head.to_vec() } else { [head, b"1\r\nx\r\n0\r\n\r\n"].concat() }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.ask("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(200);
    assert_eq!(client.get("/").text(), "x");
}

#[test]
fn a_204_and_a_304_have_no_body_and_keep_the_connection() {
    let origin = Origin::serve(|r| match r.target.as_str() {
        "/204" => b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n".to_vec(),
        "/304" => {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 500\r\n\r\n".to_vec()
        }
        _ => ok("after"),
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    assert_eq!(client.get("/204").expect(204).get("x-a"), Some("1"));
    assert_eq!(client.get("/304").expect(304).get("etag"), Some("\"x\""));
    assert_eq!(client.get("/").text(), "after");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn informational_responses_are_passed_on() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
          HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for _ in 0..2 {
        let response = client.get("/").expect(200);
        assert_eq!(response.text(), "ok");
        let codes: Vec<&str> = response.interim.iter().map(|h| &h.start[9..12]).collect();
        assert_eq!(codes, ["103", "102"]);
        assert_eq!(response.interim[0].get("link"), Some("</a.css>; rel=preload"));
    }
}

#[test]
fn rfc9110_15_2_no_informational_response_goes_to_an_http_1_0_client() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask("GET / HTTP/1.0\r\nHost: example.com\r\n\r\n").expect(200);
    assert!(response.interim.is_empty());
}

#[test]
fn expect_100_continue_is_answered_before_the_body_comes() {
    let origin = Origin::script(|conn| {
        let head = conn.wire.head().unwrap();
        assert!(head.start.starts_with("PUT /doc"));
        if head.has("expect") {
            conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        assert_eq!(conn.wire.bytes(5).unwrap(), b"hello");
        conn.send(ok("stored"));
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send(
        "PUT /doc HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    let interim = client.wire.head().unwrap();
    assert!(interim.start.starts_with("HTTP/1.1 100 "), "{interim:?}");
    client.send("hello");
    let response = client.response("PUT").expect(200);
    assert_eq!(response.text(), "stored");
    assert!(response.interim.is_empty(), "100 must come once");
}

#[test]
fn expect_100_continue_the_origin_may_refuse_without_the_body() {
    let origin = Origin::script(|conn| {
        let head = conn.wire.head().unwrap();
        assert_eq!(head.get("expect"), Some("100-continue"));
        conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send(
        "PUT / HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n",
    );
    let response = client.response("PUT").expect(403);
    assert!(response.interim.is_empty(), "nobody asked for the body: {:?}", response.interim);
    client.expect_close();
}

#[test]
fn expect_100_continue_works_with_curl() {
    let origin = Origin::serve(|r| ok(&r.body.len().to_string()));
    let ravelin = Ravelin::before(&origin);
    let dir = TempDir::new();
    let file = dir.write("data", pattern(2_000_000, 9));
    let data = format!("@{}", file.display());
    let answer = curl(&["-H", "Expect: 100-continue", "--data-binary", &data, &ravelin.url("/")]);
    assert_eq!(answer, "2000000");
}

#[test]
fn any_other_expectation_is_417() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask("GET / HTTP/1.1\r\nHost: example.com\r\nExpect: miracles\r\n\r\n").expect(417);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn an_http_1_0_client_gets_a_body_until_close() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    let response = client.ask("GET / HTTP/1.0\r\n\r\n").expect(200);
    assert_eq!(
        response.framing,
        Framing::UntilClose,
        "no chunks for HTTP/1.0: {:?}",
        response.head
    );
    assert_eq!(response.text(), "hello");
}

#[test]
fn an_http_1_0_origin_may_end_its_body_by_closing() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello");
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.get("/").expect(200);
    assert_eq!(response.text(), "hello");
    assert!(response.head.start.starts_with("HTTP/1.1 "), "each hop has its own version");
}

#[test]
fn a_body_until_close_does_not_cost_a_keep_alive_client_its_connection() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for _ in 0..3 {
        let response = client.get("/").expect(200);
        assert_eq!((response.framing, response.text().as_str()), (Framing::Chunked, "hello"));
    }
}

#[test]
fn the_response_streams_while_the_origin_still_writes() {
    let gate = Gate::new();
    let origin = Origin::script({
        let gate = gate.clone();
        move |conn| {
            conn.request();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            gate.pass();
            conn.send("after");
            conn.wait_closed();
        }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.wire.head().unwrap();
    assert_eq!(client.wire.bytes(5).unwrap(), b"first");
    gate.open();
    assert_eq!(client.wire.bytes(5).unwrap(), b"after");
}

#[test]
fn chunks_stream_one_by_one() {
    let gate = Gate::new();
    let origin = Origin::script({
        let gate = gate.clone();
        move |conn| {
            conn.request();
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n");
            gate.pass();
            conn.send("0\r\n\r\n");
            conn.wait_closed();
        }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.wire.head().unwrap();
    assert_eq!(client.wire.until(b"event").unwrap(), b"5\r\nevent");
    gate.open();
    assert_eq!(client.wire.until(b"0\r\n\r\n").unwrap(), b"\r\n0\r\n\r\n");
}

#[test]
fn the_request_streams_while_the_client_still_writes() {
    let (came, first) = channel();
    let origin = Origin::script(move |conn| {
        conn.wire.head().unwrap();
        came.send(conn.wire.bytes(5).unwrap()).unwrap();
        conn.wire.bytes(5).unwrap();
        conn.send(ok("done"));
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\nfirst");
    assert_eq!(next(&first, "the first half at the origin"), b"first");
    client.send("after");
    assert_eq!(client.response("POST").expect(200).text(), "done");
}

#[test]
fn an_early_response_reaches_a_client_that_still_uploads() {
    let origin = Origin::script(|conn| {
        conn.wire.head().unwrap();
        conn.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 50000000\r\n\r\nsome");
    let response = client.response("POST");
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    // The rest of the body cannot be read as a request.
    client.send("GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let rest = client.wire.rest();
    assert!(rest.as_ref().map_or(true, Vec::is_empty), "{rest:?}");
    assert!(origin.requests().iter().all(|r| r.target != "/smuggled"));
}

#[test]
fn a_response_and_the_request_body_may_overlap() {
    // An origin that answers as it reads: neither direction waits for the other to end.
    const PIECES: usize = 64;
    let origin = Origin::script(|conn| {
        conn.wire.head().unwrap();
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PIECES * 4096));
        for _ in 0..PIECES {
            let piece = conn.wire.bytes(4096).unwrap();
            conn.send(piece);
        }
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    let body = pattern(PIECES * 4096, 8);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body[..4096]);
    client.wire.head().unwrap();
    let mut echoed = client.wire.bytes(4096).unwrap();
    for piece in body[4096..].chunks(4096) {
        client.send(piece);
        echoed.extend(client.wire.bytes(4096).unwrap());
    }
    assert_same_bytes(&echoed, &body);
}

#[test]
fn a_slow_reader_holds_the_origin_back_instead_of_filling_memory() {
    let (sent, total) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        let len = 256 * 1024 * 1024;
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n"));
        conn.wire.sock.set_patience(std::time::Duration::from_millis(500));
        let piece = vec![0; 1 << 20];
        let mut written = 0;
        while written < 256 && conn.try_send(&piece).is_ok() {
            written += 1;
        }
        sent.send(written).unwrap();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.wire.head().unwrap();
    let written = next(&total, "the origin to be held back");
    assert!(written < 64, "the origin could write {written} MiB to a client that reads nothing");
    let rss = memory_kib(ravelin.pid(), "VmRSS");
    assert!(rss < 64 * 1024, "{rss} KiB resident");
}

#[test]
fn max_request_size_is_413_by_length_and_by_counting() {
    let origin = Origin::saying("fits");
    let toml = format!("[security]\nmax_request_size = \"1KB\"\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let post = |n: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {n}\r\n\r\n{}",
            "x".repeat(n)
        )
    };
    ravelin.ask(post(900)).expect(200);
    ravelin.ask(post(1100)).expect(413);
    let mut client = ravelin.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunked(&pattern(5000, 1), &[500], ""));
    assert_eq!(client.response("POST").status, 413);
    // What is left of the body is no request, whether the connection is kept or not.
    client.send("GET /next HTTP/1.1\r\nHost: example.com\r\n\r\n");
    if let Ok(response) = client.wire.response("GET") {
        assert_eq!((response.status, response.text().as_str()), (200, "fits"));
    }
}

#[test]
fn a_chunked_body_over_the_limit_never_reaches_the_upstream_whole() {
    let (sent, came) = channel();
    let origin = Origin::script(move |conn| {
        let _ = sent.send(conn.try_request().is_ok());
    });
    let toml = format!("[security]\nmax_request_size = \"1KB\"\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let body = chunked(&pattern(4096, 1), &[4096], "");
    let mut request =
        b"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    request.extend_from_slice(body.as_ref());
    ravelin.ask(request).expect(413);
    assert!(!next(&came, "the origin to see the request end"), "the upstream got a whole request");
}

#[test]
fn a_refusal_reaches_a_client_that_sends_its_whole_upload_first() {
    let origin = Origin::saying("never");
    let toml = format!("[security]\nmax_request_size = \"1KB\"\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    let length = 30 << 20;
    let head = format!("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {length}\r\n\r\n");
    client.send(head);
    let sent = client.wire.sock.write_all(&vec![0; length]);
    assert!(sent.is_ok(), "the upload was cut off: {sent:?}");
    assert_eq!(client.response("POST").status, 413);
}

#[test]
fn an_upload_that_goes_on_during_the_answer_is_no_silence() {
    const PIECES: usize = 30;
    let origin = Origin::script(|conn| {
        conn.wire.head().unwrap();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        conn.wire.bytes(PIECES * 1000).unwrap();
        conn.send("done");
        conn.wait_closed();
    });
    let ravelin = Ravelin::before_with(&origin, "[sites.proxy.timeout]\nread = 1\n");
    let mut client = ravelin.client();
    let length = PIECES * 1000;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {length}\r\n\r\n"));
    client.wire.head().unwrap();
    for _ in 0..PIECES {
        client.send("x".repeat(1000));
        // The pace, three times the time limit in all.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(client.wire.bytes(4).unwrap(), b"done");
}
