//! The list of connections, and ending them.

use super::*;
use crate::harness::{Backend, Broken, GOAWAY, Http2, Origin, site, site_with, until};

/// The one connection there is.
#[track_caller]
fn only(ravelin: &Ravelin) -> Json {
    let json = get(ravelin, "/v1/connections");
    let [one] = items(&json, "connections") else { panic!("{json:?}") };
    one.clone()
}

/// What the only connection says it does.
fn does(ravelin: &Ravelin, what: &str) -> bool {
    let json = get(ravelin, "/v1/connections");
    matches!(items(&json, "connections"), [one] if one.get("doing").text() == what)
}

#[test]
fn a_connection_says_what_it_does() {
    let backend = Backend::new("b");
    let ravelin = Ravelin::start(&site(&[&backend.url()], ""));
    let mut client = ravelin.client();
    until("a connection", || does(&ravelin, "idle"));
    client.send("GET /slow HTTP/1.1\r\n");
    until("a part of a head", || does(&ravelin, "head"));
    let gate = backend.hold();
    client.send("Host: example.com\r\n\r\n");
    backend.await_held();
    let one = only(&ravelin);
    assert_eq!(one.get("doing").text(), "exchange");
    assert_eq!(one.get("site").text(), "test");
    assert_eq!(one.get("route").text(), "/");
    assert_eq!(one.get("pool").text(), "backend");
    assert_eq!(one.get("endpoint").text(), backend.url());
    assert_eq!(one.get("requests").number(), 1.0);
    assert_eq!(one.get("protocol").text(), "HTTP/1");
    gate.open();
    client.response("GET").expect(200);
    until("an idle connection", || does(&ravelin, "idle"));
    let one = only(&ravelin);
    assert_eq!(*one.get("site"), Json::Null);
    assert_eq!(one.get("response_bytes").number(), 1.0);
    let port = one.get("peer").text().rsplit_once(':').unwrap().1.to_owned();
    let text = told(&ravelin, &["connections"]);
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    drop(client);
    until("no connection", || get(&ravelin, "/v1/connections").get("total").number() == 0.0);
}

#[test]
fn an_idle_connection_is_closed_at_once() {
    let origin = Origin::saying("fine");
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.get("/").expect(200);
    let mut fresh = ravelin.client();
    until("both", || get(&ravelin, "/v1/connections").get("total").number() == 2.0);
    let json = get(&ravelin, "/v1/connections");
    for one in items(&json, "connections") {
        let out = told(&ravelin, &["connections", "close", one.get("id").text()]);
        assert_eq!(out, "1 told to end\n");
    }
    client.expect_close();
    fresh.expect_close();
    let gone = command(&ravelin, &["connections", "close", "0-999"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no such connection"));
}

#[test]
fn a_busy_connection_is_closed_after_its_response() {
    let backend = Backend::new("b");
    let ravelin = Ravelin::start(&site(&[&backend.url()], ""));
    let gate = backend.hold();
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    backend.await_held();
    let id = only(&ravelin).get("id").text().to_owned();
    told(&ravelin, &["connections", "close", &id]);
    assert_eq!(*only(&ravelin).get("closing"), Json::Bool(true));
    gate.open();
    let response = client.response("GET");
    assert_eq!((response.status, response.head.get("connection")), (200, Some("close")));
    client.expect_close();
}

#[test]
fn a_busy_connection_can_be_cut_and_that_looks_like_no_end() {
    let (begun, beginning) = std::sync::mpsc::channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        // Without a length: only the end of the connection is the end of the response.
        conn.send("HTTP/1.0 200 OK\r\n\r\nthe beginning");
        begun.send(()).unwrap();
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.0\r\nHost: example.com\r\n\r\n");
    crate::harness::next(&beginning, "the response");
    until("some of it", || does(&ravelin, "exchange"));
    let id = only(&ravelin).get("id").text().to_owned();
    told(&ravelin, &["connections", "close", "--force", &id]);
    let mut end = client.wire.some();
    while end.is_ok() {
        end = client.wire.some();
    }
    assert_eq!(end, Err(Broken::Reset));
    ravelin.stdout.line_with(&["GET / ", "ended=proxy", "cause=aborted"]);
}

#[test]
fn an_http2_connection_has_streams_and_is_told_to_go_away() {
    let backend = Backend::new("b");
    let ravelin = Ravelin::start(&site_with("h2c = true", &[&backend.url()], ""));
    let gate = backend.hold();
    let mut client = Http2::connect(ravelin.addr());
    client.open(1, &crate::harness::get_fields("/a"));
    backend.await_held();
    let one = only(&ravelin);
    assert_eq!(one.get("protocol").text(), "HTTP/2");
    assert_eq!((one.get("streams").number(), one.get("requests").number()), (1.0, 1.0));
    assert_eq!(one.get("doing").text(), "exchange");
    told(&ravelin, &["connections", "close", one.get("id").text()]);
    // At once, while its stream goes on.
    assert_eq!(client.until(|frame| frame.kind == GOAWAY).code(), 0);
    gate.open();
    assert_eq!(client.response(1).status, 200);
    until("no connection", || get(&ravelin, "/v1/connections").get("total").number() == 0.0);
}

#[test]
fn a_list_comes_in_pages() {
    let origin = Origin::saying("fine");
    let ravelin = Ravelin::before(&origin);
    let clients: Vec<_> = (0..7).map(|_| ravelin.client()).collect();
    until("all", || get(&ravelin, "/v1/connections").get("total").number() == 7.0);
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let json = get(&ravelin, &format!("/v1/connections?limit=3{after}"));
        assert!(items(&json, "connections").len() <= 3);
        let ids = items(&json, "connections").iter().map(|one| one.get("id").text().to_owned());
        found.extend(ids);
        match json.get("next").text() {
            "" => break,
            next => after = format!("&after={next}"),
        }
    }
    let mut distinct = found.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((found.len(), distinct.len()), (7, 7), "{found:?}");
    let none = get(&ravelin, "/v1/connections?client=192.0.2.1");
    assert_eq!(items(&none, "connections").len(), 0);
    let all = get(&ravelin, "/v1/connections?client=127.0.0.1&doing=idle");
    assert_eq!(items(&all, "connections").len(), 7);
    drop(clients);
}
