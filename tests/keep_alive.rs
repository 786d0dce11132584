//! Connections kept, reused, pipelined and given up, on both sides.

use std::sync::mpsc::channel;

use crate::harness::*;

#[test]
fn one_client_connection_serves_many_requests_over_one_upstream_connection() {
    let origin = Origin::serve(|r| ok(&r.target));
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for i in 0..50 {
        assert_eq!(client.get(&format!("/{i}")).text(), format!("/{i}"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn connection_close_of_the_client_is_honoured() {
    let origin = Origin::saying("bye");
    let ravelin = Ravelin::before_with(&origin, "[performance]\nworker_threads = 1\n");
    let mut client = ravelin.client();
    let response =
        client.ask("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Close\r\n\r\n").expect(200);
    assert_eq!(response.get("connection").map(str::to_ascii_lowercase), Some("close".into()));
    assert_eq!(response.text(), "bye");
    client.expect_close();
    // The upstream's side is its own.
    ravelin.get("/").expect(200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_http_1_0_client_is_closed_unless_it_asks_to_be_kept() {
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.ask("GET / HTTP/1.0\r\nHost: example.com\r\n\r\n").expect(200);
    client.expect_close();
    let mut client = ravelin.client();
    for _ in 0..3 {
        let response = client
            .ask("GET / HTTP/1.0\r\nHost: example.com\r\nConnection: keep-alive\r\n\r\n")
            .expect(200);
        let connection = response.get("connection").map(str::to_ascii_lowercase);
        assert_eq!(connection.as_deref(), Some("keep-alive"), "{:?}", response.head);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::serve(|r| ok(&r.target));
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    let all: String =
        (0..40).map(|i| format!("GET /{i} HTTP/1.1\r\nHost: example.com\r\n\r\n")).collect();
    client.send(all);
    for i in 0..40 {
        assert_eq!(client.response("GET").text(), format!("/{i}"));
    }
}

#[test]
fn pipelined_bodies_do_not_run_into_the_next_request() {
    let origin =
        Origin::serve(|r| ok(&format!("{} {}", r.target, String::from_utf8_lossy(&r.body))));
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send(
        "POST /1 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc\
         POST /2 HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: example.com\r\n\r\n\
         POST /4 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n\
         HEAD /5 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    );
    for want in ["/1 abc", "/2 GET ", "/3 ", "/4 "] {
        assert_eq!(client.response("POST").text(), want);
    }
}

#[test]
fn a_pipelined_request_after_close_is_not_answered() {
    let origin = Origin::serve(|r| ok(&r.target));
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n\
         GET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    );
    assert_eq!(client.response("GET").text(), "/1");
    client.expect_close();
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn rfc9112_2_2_an_empty_line_before_a_request_is_ignored() {
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.ask("\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(200);
    client.ask("\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(200);
}

#[test]
fn a_client_that_half_closes_before_its_answer_is_taken_for_gone() {
    // The end of what a client sends looks the same whether it still reads or not. As in nginx, the
    // upstream is spared the work.
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.wait_closed();
        gone.send(()).unwrap();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
    origin.request(0);
    client.finish();
    next(&closed, "the upstream request to be given up");
    client.expect_close();
    ravelin.stdout.line_with(&["\" 499 ", "ended=client"]);
}

#[test]
fn an_upstream_connection_that_says_close_is_not_reused() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx".to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for _ in 0..3 {
        let response = client.get("/").expect(200);
        let connection = response.get("connection").map(str::to_ascii_lowercase);
        assert_ne!(connection.as_deref(), Some("close"), "that was for the upstream's hop");
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn an_http_1_0_upstream_connection_is_not_reused() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx");
        assert!(conn.try_request().is_err(), "reused a connection of an HTTP/1.0 origin");
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.get("/").expect(200);
    client.get("/").expect(200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_idle_upstream_connection_that_was_closed_is_noticed() {
    let (closed, seen) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(ok("x"));
        conn.half_close();
        closed.send(()).unwrap();
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for _ in 0..5 {
        // A POST is never sent twice: that it succeeds shows that the close was noticed before.
        client
            .ask("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\n\r\n1")
            .expect(200);
        next(&seen, "the origin's close");
    }
    assert_eq!(origin.connections(), 5);
    assert_eq!(origin.requests().len(), 5);
}

/// An origin whose first connection answers once, reads a second request and closes without a
/// byte of an answer: a stale connection that could not be seen as such.
fn closes_on_the_second_request() -> Origin {
    Origin::script(|conn| {
        while let Ok(request) = conn.try_request() {
            if conn.index == 0 && request.target == "/second" {
                return;
            }
            conn.send(ok(&format!("{}", conn.index)));
        }
    })
}

#[test]
fn a_get_on_a_stale_connection_is_sent_once_more_on_a_fresh_one() {
    let origin = closes_on_the_second_request();
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    assert_eq!(client.get("/first").text(), "0");
    assert_eq!(client.get("/second").expect(200).text(), "1");
    let targets: Vec<String> = origin.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/first", "/second", "/second"]);
}

#[test]
fn a_get_is_not_sent_a_third_time() {
    let origin = Origin::script(|conn| {
        while let Ok(request) = conn.try_request() {
            if request.target == "/second" {
                return;
            }
            conn.send(ok(""));
        }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.get("/first").expect(200);
    client.get("/second").expect(502);
    assert_eq!(origin.requests().iter().filter(|r| r.target == "/second").count(), 2);
}

#[test]
fn a_get_on_a_fresh_connection_is_not_retried() {
    let origin = Origin::script(|conn| {
        conn.request();
    });
    let ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(502);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_post_with_a_body_on_a_stale_connection_is_not_sent_again() {
    let origin = closes_on_the_second_request();
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.get("/first").expect(200);
    client
        .ask("POST /second HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\npay")
        .expect(502);
    let posts = origin.requests().iter().filter(|r| r.method == "POST").count();
    assert_eq!(posts, 1, "a payment must not be made twice");
}

#[test]
fn a_response_that_began_is_never_retried() {
    let origin = Origin::script(|conn| {
        while let Ok(request) = conn.try_request() {
            if request.target == "/second" {
                let _ = conn.try_send("HTTP/1.1 200 O");
                return;
            }
            conn.send(ok(""));
        }
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.get("/first").expect(200);
    client.get("/second").expect(502);
    assert_eq!(origin.requests().iter().filter(|r| r.target == "/second").count(), 1);
}

#[test]
fn an_idle_client_connection_is_closed_in_its_time() {
    let origin = Origin::saying("x");
    let toml = format!("[performance]\nkeep_alive_timeout = 1\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    client.get("/").expect(200);
    let start = std::time::Instant::now();
    client.expect_close();
    assert!(start.elapsed().as_millis() >= 900, "closed after {:?}", start.elapsed());
}

#[test]
fn a_listener_may_have_its_own_time_for_idle_connections() {
    let origin = Origin::saying("x");
    let own = site_with("keep_alive_timeout = 1", &[&origin.url()], "");
    let ravelin = Ravelin::start(&format!("[performance]\nkeep_alive_timeout = \"1h\"\n{own}"));
    let mut client = ravelin.client();
    client.get("/").expect(200);
    client.expect_close();
}

#[test]
fn without_keep_alive_a_connection_ends_after_one_response() {
    let origin = Origin::saying("once");
    let own = site_with("keep_alive = false\nh2c = true", &[&origin.url()], "");
    let ravelin = Ravelin::start(&format!("[performance]\nworker_threads = 1\n{own}"));
    let http_1_0 = "GET / HTTP/1.0\r\nHost: example.com\r\nConnection: keep-alive\r\n\r\n";
    let not_there = "GET /api/health HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let with_body = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc";
    for request in [http_1_0, not_there, with_body] {
        let mut client = ravelin.client();
        let response = client.ask(request);
        assert_eq!(response.get("connection"), Some("close"), "{request}");
        client.expect_close();
    }
    // What came along with the first request is not answered.
    let mut client = ravelin.client();
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.send(get("/first") + &get("/second"));
    assert_eq!(client.response("GET").text(), "once");
    client.expect_close();
    assert!(origin.requests().iter().all(|request| request.target != "/second"));
    // The upstream's connection is another matter, and so is HTTP/2.
    assert_eq!(origin.connections(), 1);
    let mut client = Http2::connect(ravelin.addr());
    for stream in [1, 3] {
        assert_eq!(client.get(stream, "/").body, b"once");
    }
}

#[test]
fn a_client_abort_ends_the_upstream_request() {
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.wait_closed();
        gone.send(()).unwrap();
    });
    let ravelin = Ravelin::before(&origin);
    for rude in [false, true] {
        let mut client = ravelin.client();
        client.send("GET /abort HTTP/1.1\r\nHost: example.com\r\n\r\n");
        origin.request(usize::from(rude));
        if rude {
            client.reset();
        } else {
            drop(client);
        }
        next(&closed, "the upstream connection to be closed");
        ravelin.stdout.line_with(&["GET /abort ", " 499 "]);
    }
}

#[test]
fn a_client_abort_in_the_middle_of_a_download_ends_the_upstream_request() {
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![0; 1 << 20];
        while conn.try_send(&piece).is_ok() {}
        gone.send(()).unwrap();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.wire.head().unwrap();
    client.wire.bytes(100_000).unwrap();
    client.reset();
    next(&closed, "the upstream connection to be closed");
}

#[test]
fn a_client_abort_in_the_middle_of_an_upload_breaks_the_upstream_request() {
    let (gone, result) = channel();
    let origin = Origin::script(move |conn| {
        gone.send(conn.try_request().err()).unwrap();
    });
    let ravelin = Ravelin::before(&origin);
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut client = ravelin.client();
        let piece = if framing.starts_with('C') { "half" } else { "4\r\nhalf\r\n" };
        client.send(format!("POST / HTTP/1.1\r\nHost: example.com\r\n{framing}\r\n\r\n{piece}"));
        drop(client);
        // None would be a whole request: the origin would act on half an upload.
        let broken = next(&result, "the upstream request to break");
        assert!(broken.is_some(), "{framing}: a broken upload was passed on as whole");
    }
}

#[test]
fn bytes_after_a_response_keep_its_connection_from_being_reused() {
    let origin = Origin::script(|conn| {
        let first = conn.request();
        assert_eq!(first.target, "/1");
        conn.send(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
             HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        );
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    assert_eq!(client.get("/1").text(), "ok");
    client.send("GET /1 HTTP/1.1\r\nHost: example.com\r\n\r\n");
    assert_eq!(client.response("GET").text(), "ok", "not the bytes of another response");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn bytes_that_arrive_on_an_idle_connection_keep_it_from_being_reused() {
    let (poisoned, done) = channel();
    let gate = Gate::new();
    let over = gate.clone();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(ok("clean"));
        // The exchange is over at the client too; now an unsolicited response comes.
        over.pass();
        let _ = conn.try_send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
        poisoned.send(()).unwrap();
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    assert_eq!(client.get("/").text(), "clean");
    gate.open();
    next(&done, "the unsolicited response");
    assert_eq!(client.get("/").text(), "clean");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_idle_upstream_connection_is_closed_in_its_time() {
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(ok("x"));
        conn.wait_closed();
        gone.send(()).unwrap();
    });
    let more = "[sites.proxy.idle_connections]\ntimeout = \"500ms\"\n";
    let ravelin = Ravelin::before_with(&origin, more);
    let mut client = ravelin.client();
    client.get("/").expect(200);
    next(&closed, "the idle upstream connection to be closed");
}

#[test]
fn no_idle_upstream_connections_are_kept_when_none_may_be() {
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before_with(&origin, "[sites.proxy.idle_connections]\nmax = 0\n");
    let mut client = ravelin.client();
    for _ in 0..3 {
        client.get("/").expect(200);
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_faulty_interim_response_costs_its_own_connection_only() {
    let origin = Origin::serve(|request| match request.target.as_str() {
        "/faulty" => {
            [b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n", &ok("x")[..]].concat()
        }
        _ => ok("x"),
    });
    let toml = site(&[&origin.url()], "");
    let ravelin = Ravelin::start(&format!("[performance]\nworker_threads = 1\n{toml}"));
    let mut client = ravelin.client();
    for target in ["/", "/faulty", "/", "/", "/", "/"] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
        while client.response("GET").status == 103 {}
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_get_is_not_sent_again_after_an_interim_response() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(ok("first"));
        if conn.try_request().is_ok() {
            conn.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        }
    });
    let toml = site(&[&origin.url()], "");
    let ravelin = Ravelin::start(&format!("[performance]\nworker_threads = 1\n{toml}"));
    let mut client = ravelin.client();
    client.get("/").expect(200);
    client.send("GET /again HTTP/1.1\r\nHost: example.com\r\n\r\n");
    assert!(client.wire.head().unwrap().start.contains(" 103 "));
    assert_eq!(client.response("GET").status, 502);
    assert_eq!(origin.requests().iter().filter(|r| r.target == "/again").count(), 1);
}
