//! Request bodies that are kept, so that the request can be sent again.

use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::harness::*;

const RETRY: &str = "[sites.proxy.retry]\nbudget = 100\n";

/// An origin that tells when a head has come, reads the body and closes without an answer.
fn resetting() -> (Origin, Receiver<()>) {
    let (head_came, heads) = channel();
    let origin = Origin::script(move |conn| {
        let Ok(head) = conn.wire.head() else { return };
        let _ = head_came.send(());
        let framing = match head.get("transfer-encoding") {
            Some(_) => Framing::Chunked,
            None => Framing::Length(head.get("content-length").unwrap().parse().unwrap()),
        };
        conn.wire.body(framing).unwrap();
    });
    (origin, heads)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 251) as u8).collect()
}

#[test]
fn a_body_that_came_after_the_head_is_sent_again_whole() {
    for len in [1, 5_000, 60_000] {
        let body = pattern(len);
        let (a, heads) = resetting();
        let b = Origin::saying("b");
        let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], RETRY));
        let mut client = ravelin.client();
        client
            .send(format!("PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {len}\r\n\r\n"));
        heads.recv_timeout(PATIENCE).unwrap();
        client.send(&body);
        assert_eq!(client.response("PUT").expect(200).text(), "b");
        assert!(b.request(0).body == body, "{len} bytes");
        // The connection goes on with the next request.
        assert_eq!(client.get("/next").expect(200).text(), "b");
    }
}

#[test]
fn a_chunked_body_and_the_request_behind_it_are_kept_apart() {
    let (a, heads) = resetting();
    let b = Origin::saying("b");
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], RETRY));
    let mut client = ravelin.client();
    client.send("PUT /1 HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n");
    heads.recv_timeout(PATIENCE).unwrap();
    client.send("3\r\nabc\r\n5;x=y\r\ndefgh\r\n0\r\nX-Sum: 7\r\n\r\nGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n");
    assert_eq!(client.response("PUT").expect(200).text(), "b");
    assert_eq!(client.response("GET").expect(200).text(), "b");
    let (first, second) = (b.request(0), b.request(1));
    assert_eq!((&first.target[..], &first.body[..]), ("/1", &b"abcdefgh"[..]));
    assert_eq!(second.target, "/2");
}

#[test]
fn a_body_that_is_longer_than_what_is_kept_is_sent_once() {
    for (framing, body) in [
        ("Content-Length: 101", "x".repeat(101)),
        ("Transfer-Encoding: chunked", format!("65\r\n{}\r\n0\r\n\r\n", "x".repeat(101))),
    ] {
        let (a, heads) = resetting();
        let b = Origin::saying("b");
        let more = "[sites.proxy.retry]\nbody = 100\nbudget = 100\n";
        let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], more));
        let mut client = ravelin.client();
        client.send(format!("PUT / HTTP/1.1\r\nHost: example.com\r\n{framing}\r\n\r\n"));
        heads.recv_timeout(PATIENCE).unwrap();
        client.send(&body);
        client.response("PUT").expect(502);
        assert_eq!(b.connections(), 0, "{framing}");
    }
}

#[test]
fn rfc9110_9_2_2_a_body_of_what_may_do_harm_twice_is_sent_once_unless_told() {
    for (more, status) in [("", 502), ("non_idempotent = true\n", 200)] {
        let (a, heads) = resetting();
        let b = Origin::saying("b");
        let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], &format!("{RETRY}{more}")));
        let mut client = ravelin.client();
        client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\n");
        heads.recv_timeout(PATIENCE).unwrap();
        client.send("hi");
        client.response("POST").expect(status);
    }
}

#[test]
fn a_body_is_sent_again_while_the_client_still_sends_it() {
    // The first endpoint gives up in the middle of the body; the second gets it from its beginning.
    let (head_came, heads) = channel();
    let a = Origin::script(move |conn| {
        conn.wire.head().unwrap();
        conn.wire.bytes(1_000).unwrap();
        let _ = head_came.send(());
        conn.reset_on_close();
    });
    let b = Origin::saying("b");
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], RETRY));
    let body = pattern(50_000);
    let mut client = ravelin.client();
    client.send("PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 50000\r\n\r\n");
    client.send(&body[..1_000]);
    heads.recv_timeout(PATIENCE).unwrap();
    let sender = {
        let mut sock = client.wire.sock.try_clone();
        let rest = body[1_000..].to_vec();
        thread::spawn(move || rest.chunks(10_000).for_each(|piece| sock.write_all(piece).unwrap()))
    };
    assert_eq!(client.response("PUT").expect(200).text(), "b");
    sender.join().unwrap();
    assert!(b.request(0).body == body);
}

#[test]
fn a_body_of_an_http2_client_is_sent_again() {
    let (a, heads) = resetting();
    let b = Origin::saying("b");
    let toml = site_with("h2c = true", &[&a.url(), &b.url()], RETRY);
    let ravelin = Ravelin::start(&toml);
    let mut client = Http2::connect(ravelin.addr());
    client.open_body(1, &with_method("PUT", "/"));
    heads.recv_timeout(PATIENCE).unwrap();
    client.frame(DATA, END_STREAM, 1, "hello");
    let response = client.response(1);
    assert_eq!((response.status, &response.body[..]), (200, &b"b"[..]));
    assert_eq!(b.request(0).body, b"hello");
}

#[test]
fn a_pause_before_another_attempt_ends_when_the_client_leaves() {
    let (a, heads) = resetting();
    let b = Origin::saying("b");
    let more = "[sites.proxy.retry]\nbackoff = \"60s\"\nbudget = 100\n";
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], more));
    let mut client = ravelin.client();
    client.send("PUT /left HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi");
    heads.recv_timeout(PATIENCE).unwrap();
    ravelin.stderr.all();
    drop(client);
    ravelin.stdout.line_with(&["/left", "499"]);
    assert_eq!(b.connections(), 0);
}

#[test]
fn no_pause_goes_beyond_the_time_of_the_request() {
    let (a, _heads) = resetting();
    let b = Origin::saying("b");
    let more = "[sites.proxy.timeout]\nrequest = \"5s\"\n[sites.proxy.retry]\nbackoff = \"60s\"\nbudget = 100\n";
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], more));
    let put = "PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi";
    // It would come too late, so the client is told at once.
    ravelin.ask(put).expect(502);
}

#[test]
fn what_came_with_the_end_of_a_replayed_body_is_the_next_request() {
    // Pieces of any size in which the body is read again may end exactly where the body does.
    for len in [16_384, 32_768, 49_152] {
        let (a, heads) = resetting();
        let b = Origin::saying("b");
        let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], RETRY));
        let mut client = ravelin.client();
        client
            .send(format!("PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {len}\r\n\r\n"));
        heads.recv_timeout(PATIENCE).unwrap();
        let next = "POST /next HTTP/1.1\r\nHost: example.com\r\nContent-Length: 24\r\n\r\n";
        client.send([&pattern(len)[..], next.as_bytes()].concat());
        assert_eq!(client.response("PUT").expect(200).text(), "b", "{len}");
        client.send("GET /smuggled HTTP/1.1\r\n");
        assert_eq!(client.response("POST").expect(200).text(), "b", "{len}");
        let next = b.request(1);
        assert_eq!((&next.method[..], &next.target[..]), ("POST", "/next"));
        assert_eq!(next.body, b"GET /smuggled HTTP/1.1\r\n");
    }
}

#[test]
fn an_http2_body_without_a_length_outlasts_a_pause_and_a_queue() {
    let (a, heads) = resetting_chunked();
    let b = Origin::saying("b");
    let more = "[sites.proxy.retry]\nbudget = 100\nbackoff = \"300ms\"\n";
    let toml = site_with("h2c = true", &[&a.url(), &b.url()], more);
    let ravelin = Ravelin::start(&toml);
    let mut client = Http2::connect(ravelin.addr());
    client.open_body(1, &with_method("PUT", "/"));
    client.frame(DATA, 0, 1, "hel");
    heads.recv_timeout(PATIENCE).unwrap();
    client.frame(DATA, END_STREAM, 1, "lo");
    let response = client.response(1);
    assert_eq!((response.status, &response.body[..]), (200, &b"b"[..]));
    assert_eq!(b.request(0).body, b"hello");
}

/// An origin that tells when a head has come, and resets as soon as some of the body has.
fn resetting_chunked() -> (Origin, Receiver<()>) {
    let (head_came, heads) = channel();
    let origin = Origin::script(move |conn| {
        if conn.wire.head().is_ok() {
            let _ = head_came.send(());
            let _ = conn.wire.some();
            conn.reset_on_close();
        }
    });
    (origin, heads)
}
