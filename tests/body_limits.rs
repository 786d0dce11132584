//! How long bodies may be, by route.

use std::sync::mpsc::channel;

use crate::bodies::chunked;
use crate::harness::*;

/// A site with a bound of 1 KiB for all, and routes with others.
fn bounded(origin: &Origin) -> Ravelin {
    let routes = "[[sites.routes]]\npath = \"/large\"\nupstream = \"backend\"\nmax_request_size = \"4KB\"\n\
                  [[sites.routes]]\npath = \"/any\"\nupstream = \"backend\"\n\
                  max_request_size = \"unlimited\"\n\
                  [[sites.routes]]\npath = \"/small\"\nstatus = 200\nmax_request_size = 10\n\
                  [[sites.routes]]\npath = \"/short\"\nupstream = \"backend\"\n\
                  max_response_size = 100\n";
    Ravelin::start(&format!(
        "[security]\nmax_request_size = \"1KB\"\n{}",
        site_with("h2c = true\n", &[&origin.url()], routes)
    ))
}

fn post(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: example.com\r\nContent-Length: {length}\r\n\r\n{}",
        "x".repeat(length)
    )
}

fn post_chunked(path: &str, length: usize) -> Vec<u8> {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n");
    [head.as_bytes(), chunked(&pattern(length, 1), &[500], "").as_ref()].concat()
}

#[test]
fn a_routes_bound_stands_in_the_place_of_that_of_all() {
    let origin = Origin::saying("fits");
    let ravelin = bounded(&origin);
    for (path, length, status) in [
        ("/", 1024, 200),
        ("/", 1025, 413),
        ("/large", 4096, 200),
        ("/large", 4097, 413),
        ("/any", 100_000, 200),
        ("/small", 10, 200),
        ("/small", 11, 413),
    ] {
        assert_eq!(ravelin.ask(post(path, length)).status, status, "{path} {length}");
        if !path.starts_with("/small") {
            let counted = ravelin.ask(post_chunked(path, length)).status;
            assert_eq!(counted, status, "{path} {length} chunked");
        }
    }
    let line = ravelin.stdout.line_with(&["POST /small ", " 413 "]);
    assert!(line.contains("ended=client phase=decide cause=limit"), "{line}");
}

#[test]
fn http2_bodies_are_counted_and_the_upstreams_request_is_broken_off() {
    let (sent, came) = channel();
    let origin = Origin::script(move |conn| {
        let _ = sent.send(conn.try_request().is_ok());
    });
    let ravelin = bounded(&origin);
    let mut client = Http2::connect(ravelin.addr());
    client.open_body(1, &with_method("POST", "/large"));
    for _ in 0..5 {
        client.frame(DATA, 0, 1, vec![b'x'; 1000]);
    }
    assert_eq!(client.response(1).status, 413);
    assert!(!next(&came, "the origin to see the request end"), "the upstream got a whole request");
    // By its length, before anything is sent.
    let mut fields = with_method("POST", "/large");
    fields.push(("content-length", "5000"));
    client.open_body(3, &fields);
    assert_eq!(client.response(3).status, 413);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_response_that_says_it_is_too_long_is_502() {
    let origin = Origin::serve(|request| {
        let length = if request.target == "/short/fits" { 100 } else { 101 };
        ok(&"x".repeat(length))
    });
    let ravelin = bounded(&origin);
    ravelin.get("/short/fits").expect(200);
    ravelin.get("/short/not").expect(502);
    ravelin.get("/other").expect(200);
    let line = ravelin.stdout.line_with(&["GET /short/not ", " 502 "]);
    assert!(line.contains("ended=upstream phase=transfer cause=limit"), "{line}");
}

#[test]
fn a_response_that_turns_out_too_long_breaks_off() {
    // In chunks, and until the connection is closed, to a client that gets it as it is.
    let chunks = ["Transfer-Encoding: chunked\r\n\r\n32\r\n", "\r\n", "3c\r\n", "\r\n0\r\n\r\n"];
    turns_out_too_long("1.1", chunks);
    turns_out_too_long("1.0", ["\r\n", "", "", ""]);
}

/// Has an upstream send 50 bytes and, when the client has seen the head, 60 more, each between what its
/// coding `has`.
fn turns_out_too_long(version: &str, has: [&'static str; 4]) {
    let (go, goes) = channel::<()>();
    let goes = std::sync::Mutex::new(goes);
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(format!("HTTP/1.1 200 OK\r\n{}", has[0]));
        conn.send([b'x'; 50]);
        conn.send(has[1]);
        let _ = goes.lock().unwrap().recv_timeout(PATIENCE);
        let _ = conn.try_send(has[2]);
        let _ = conn.try_send([b'y'; 60]);
        let _ = conn.try_send(has[3]);
        conn.wait_closed();
    });
    let ravelin = bounded(&origin);
    let mut client = ravelin.client();
    client.send(format!("GET /short HTTP/{version}\r\nHost: example.com\r\n\r\n"));
    let head = client.wire.head().unwrap();
    assert!(head.start.contains(" 200 "), "{head:?}");
    go.send(()).unwrap();
    let mut rest = Vec::new();
    while let Ok(some) = client.wire.some() {
        rest.extend(some);
    }
    assert!(!rest.contains(&b'y') && !rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    ravelin.stdout.line_with(&["GET /short ", "ended=upstream phase=transfer cause=limit"]);
}
