//! What a client sees when something behind the proxy fails, and that it can tell.

use std::net::TcpListener;

use crate::harness::*;

/// A site before this address, with more TOML.
fn before(addr: &str, more: &str) -> Ravelin {
    Ravelin::start(&site(&[&format!("http://{addr}")], more))
}

#[test]
fn an_upstream_that_refuses_the_connection_is_502() {
    let ravelin = before(&format!("127.0.0.1:{}", free_port()), "");
    let mut client = ravelin.client();
    client.get("/").expect(502);
    client.get("/").expect(502);
}

#[test]
fn an_upstream_whose_name_does_not_resolve_is_502_or_503() {
    let ravelin = before("no-such-host.invalid:80", "");
    let response = ravelin.get("/");
    assert!(matches!(response.status, 502 | 503), "{:?}", response.head);
    ravelin.stderr.line_with(&["no-such-host.invalid"]);
}

#[test]
fn an_upstream_that_never_accepts_is_504_after_the_connect_timeout() {
    // A listener with a full backlog drops further connection attempts.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let listener: TcpListener = socket.into();
    let addr = listener.local_addr().unwrap();
    let quick = std::time::Duration::from_millis(200);
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&addr, quick) {
        held.push(stream);
    }
    let ravelin = before(&addr.to_string(), "[sites.proxy.timeout]\nconnect = \"500ms\"\n");
    ravelin.get("/").expect(504);
    ravelin.stdout.line_with(&["GET / ", " 504 "]);
}

#[test]
fn a_silent_upstream_is_504_after_the_read_timeout() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let ravelin = Ravelin::before_with(&origin, "[sites.proxy.timeout]\nread = \"500ms\"\n");
    let mut client = ravelin.client();
    client.get("/").expect(504);
    client.get("/").expect(504);
    assert_eq!(origin.requests().len(), 2, "each asked once");
}

#[test]
fn the_first_byte_has_a_time_of_its_own() {
    let origin = Origin::script(|conn| {
        let request = conn.request();
        if request.target == "/body" {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx");
            // Longer than the first byte may take; on purpose by the clock, which is what is tested.
            let (_never, clock) = std::sync::mpsc::channel::<()>();
            let _ = clock.recv_timeout(std::time::Duration::from_millis(1200));
            return conn.send("y");
        }
        conn.wait_closed();
    });
    let more = "[sites.proxy.timeout]\nfirst_byte = \"500ms\"\nread = \"1h\"\n";
    let ravelin = Ravelin::before_with(&origin, more);
    ravelin.get("/").expect(504);
    let line = ravelin.stdout.line_with(&["GET / ", " 504 "]);
    assert!(line.contains("phase=first_byte cause=timeout"), "{line}");
    assert_eq!(ravelin.get("/body").expect(200).text(), "xy");
}

#[test]
fn the_read_timeout_is_between_two_reads_not_for_the_whole() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
        // Paced by the clock on purpose: the pace is what is tested.
        let (_never, clock) = std::sync::mpsc::channel::<()>();
        for _ in 0..8 {
            let _ = clock.recv_timeout(std::time::Duration::from_millis(250));
            conn.send("x");
        }
    });
    let ravelin = Ravelin::before_with(&origin, "[sites.proxy.timeout]\nread = 1\n");
    assert_eq!(ravelin.get("/").expect(200).text(), "xxxxxxxx");
}

#[test]
fn an_upstream_that_stalls_in_the_body_breaks_it() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        conn.wait_closed();
    });
    let ravelin = Ravelin::before_with(&origin, "[sites.proxy.timeout]\nread = \"500ms\"\n");
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let broken = client.wire.response("GET").unwrap_err();
    assert!(matches!(broken, Broken::Truncated(_) | Broken::Reset), "{broken:?}");
}

#[test]
fn an_upstream_that_closes_without_a_byte_is_502() {
    let origin = Origin::script(|conn| {
        conn.request();
    });
    let ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(502);
}

#[test]
fn an_upstream_that_resets_is_502() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.reset_on_close();
    });
    let ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(502);
}

#[test]
fn an_upstream_that_closes_in_its_head_is_502() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Le");
    });
    let ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(502);
}

/// What comes of a body that the upstream breaks off.
fn broken_body(answer: &'static str, reset: bool) -> Broken {
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(answer);
        if reset {
            conn.reset_on_close();
        }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let broken = client.wire.response("GET").expect_err("a broken body ended cleanly");
    ravelin.stdout.line_with(&["GET / "]);
    broken
}

#[test]
fn a_length_body_that_breaks_off_is_short_for_the_client_too() {
    for reset in [false, true] {
        let broken = broken_body("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", reset);
        assert!(matches!(broken, Broken::Truncated(_) | Broken::Reset), "{broken:?}");
    }
}

#[test]
fn a_chunked_body_that_breaks_off_has_no_last_chunk_for_the_client_either() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        let broken = broken_body(answer, false);
        assert!(matches!(broken, Broken::Truncated(_) | Broken::Reset), "{answer:?}: {broken:?}");
    }
}

#[test]
fn a_chunked_body_that_turns_malformed_has_no_last_chunk_for_the_client() {
    let (told, read) = (Gate::new(), Gate::new());
    let origin = Origin::script({
        let (told, read) = (told.clone(), read.clone());
        move |conn| {
            conn.request();
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            read.pass();
            conn.send("zz\r\nboo\r\n0\r\n\r\n");
            told.open();
            conn.wait_closed();
        }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let (_, _, _, framing) = client.wire.response_head("GET").unwrap();
    read.open();
    told.pass();
    let broken = client.wire.body(framing).unwrap_err();
    assert!(matches!(broken, Broken::Truncated(_) | Broken::Reset), "{broken:?}");
}

#[test]
fn a_chunked_body_that_is_malformed_from_the_start_is_502_or_visibly_broken() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nboo\r\n0\r\n\r\n",
        );
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    match client.wire.response("GET") {
        Ok(response) => assert_eq!(response.status, 502),
        Err(e) => {
            assert!(matches!(e, Broken::Truncated(_) | Broken::Reset | Broken::Closed), "{e:?}")
        }
    }
}

#[test]
fn a_body_until_close_that_is_reset_is_not_a_clean_end() {
    // HTTP/1.1 clients get it in chunks, so that a break can be told from the end.
    let broken = broken_body("HTTP/1.1 200 OK\r\n\r\npart of it", true);
    assert!(matches!(broken, Broken::Truncated(_) | Broken::Reset), "{broken:?}");
}

#[test]
fn a_broken_body_breaks_for_an_http_1_0_client_too() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.0\r\nHost: example.com\r\n\r\n");
    // Without chunks only a reset can say so.
    let broken = client.wire.response("GET").unwrap_err();
    assert_eq!(broken, Broken::Reset);
}

#[test]
fn malformed_upstream_responses_are_502() {
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        "ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: empty\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let origin = Origin::script(move |conn| {
            conn.request();
            let _ = conn.try_send(answer);
            conn.wait_closed();
        });
        let ravelin = Ravelin::before(&origin);
        let status = ravelin.get("/").status;
        assert_eq!(status, 502, "{answer:?}");
    }
}

#[test]
fn an_endless_upstream_head_is_502() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\n");
        let field = format!("X-Fill: {}\r\n", "x".repeat(1000));
        while conn.try_send(&field).is_ok() {}
    });
    let ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(502);
}

#[test]
fn an_error_is_html_for_browsers_and_json_for_programs() {
    let ravelin = before(&format!("127.0.0.1:{}", free_port()), "");
    let ask = |accept: &str| {
        let accept =
            if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
        ravelin.ask(format!("GET / HTTP/1.1\r\nHost: example.com\r\n{accept}\r\n")).expect(502)
    };
    let html = ask("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    assert!(html.get("content-type").unwrap().starts_with("text/html"), "{:?}", html.head);
    assert!(html.text().contains("502") && html.text().contains("<html"), "{}", html.text());
    for accept in ["application/json", "application/problem+json, application/json"] {
        let json = ask(accept);
        assert!(json.get("content-type").unwrap().contains("json"), "{:?}", json.head);
        assert_eq!(Json::parse(&json.text()).get("status").number(), 502.0, "{}", json.text());
    }
    let any = ask("");
    assert!(any.text().contains("502"), "{}", any.text());
}

#[test]
fn an_error_carries_the_request_id_that_the_log_has() {
    let more = "[sites.proxy.headers.add]\n\"X-Request-ID\" = \"auto\"\n";
    let ravelin = before(&format!("127.0.0.1:{}", free_port()), more);
    let response = ravelin.get("/").expect(502);
    let id = response.get("x-request-id").unwrap().to_owned();
    assert!(response.text().contains(&id), "{}", response.text());
    ravelin.stdout.line_with(&["GET / ", " 502 ", &id]);
}

#[test]
fn an_error_body_does_not_repeat_what_the_client_sent() {
    let ravelin = before(&format!("127.0.0.1:{}", free_port()), "");
    let response = ravelin.ask(
        "GET /<script>alert(1)</script> HTTP/1.1\r\nHost: example.com\r\nAccept: text/html\r\n\
         X-Request-ID: <script>\r\n\r\n",
    );
    assert!(response.status >= 400);
    assert!(!response.text().contains("<script>"), "{}", response.text());
}

#[test]
fn an_error_to_head_has_no_body() {
    let ravelin = before(&format!("127.0.0.1:{}", free_port()), "");
    let mut client = ravelin.client();
    client.ask("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(502);
    // A body would be read as the start of this response.
    client.get("/").expect(502);
}

#[test]
fn the_log_says_who_ended_a_failed_request() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
    });
    let toml = format!("[logging]\nformat = \"json\"\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    client.send("GET /broken HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.wire.response("GET").unwrap_err();
    let line = ravelin.stdout.line_with(&["/broken"]);
    let line = Json::parse(&line);
    assert_eq!(line.get("ended").text(), "upstream", "{line:?}");
    assert_eq!(line.get("phase").text(), "transfer", "{line:?}");
}

#[test]
fn a_failing_endpoint_does_not_take_the_site_down() {
    let origin = Origin::saying("alive");
    let dead = format!("http://127.0.0.1:{}", free_port());
    let ravelin = Ravelin::start(&site(&[&dead, &origin.url()], ""));
    let mut client = ravelin.client();
    let statuses: Vec<u16> = (0..6).map(|_| client.get("/").status).collect();
    assert!(statuses.iter().filter(|s| **s == 200).count() >= 3, "{statuses:?}");
    assert!(statuses.iter().all(|s| matches!(s, 200 | 502 | 503)), "{statuses:?}");
}

#[test]
fn a_client_that_uploads_to_a_dead_upstream_learns_it() {
    let ravelin = before(&format!("127.0.0.1:{}", free_port()), "");
    let mut client = ravelin.client();
    let body = pattern(1_000_000, 1);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    assert_eq!(client.response("POST").status, 502);
}

#[test]
fn an_upstream_that_comes_back_is_used_again() {
    let mut origin = Origin::saying("first life");
    let addr = origin.addr();
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    assert_eq!(client.get("/").text(), "first life");
    origin.kill();
    client.get("/").expect(502);
    let _second = Origin::script_at(addr, |conn| {
        while conn.try_request().is_ok() {
            conn.send(ok("second life"));
        }
    });
    assert_eq!(client.get("/").text(), "second life");
}

#[test]
fn every_request_of_a_burst_has_its_time_limit() {
    // Requests that are there before their connection is first looked at must be timed as well. A
    // worker that is held up and has much to do meets such connections.
    let origin = Origin::script(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let toml = site(&[&origin.url()], "[sites.proxy.timeout]\nread = 1\n");
    let ravelin = Ravelin::start(&format!("[performance]\nworker_threads = 1\n{toml}"));
    let health = "GET /api/health/live HTTP/1.1\r\nHost: example.com\r\n\r\n".repeat(20);
    let mut busy: Vec<Client> = (0..400).map(|_| ravelin.client()).collect();
    let mut burst = Vec::new();
    for _ in 0..5 {
        ravelin.signal("STOP");
        busy.iter_mut().for_each(|client| _ = client.send(&health));
        burst.extend((0..30).map(|_| {
            let mut client = ravelin.client();
            client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
            client
        }));
        ravelin.signal("CONT");
        for client in &mut busy {
            let answer = b"HTTP/1.1 200 OK";
            let mut got = Vec::new();
            while got.windows(answer.len()).filter(|part| part == answer).count() < 20 {
                got.extend(client.wire.some().unwrap());
            }
        }
    }
    for client in &mut burst {
        assert_eq!(client.response("GET").status, 504);
    }
}
