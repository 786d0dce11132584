//! The list of WebSockets, and ending them.

use super::*;
use crate::harness::{Origin, site, until};
use crate::websocket_frames::{CLOSE, Pair, TEXT, status, switching, upgrade};

/// The one WebSocket there is.
#[track_caller]
fn only(ravelin: &Ravelin) -> Json {
    let json = get(ravelin, "/v1/websockets");
    let [one] = items(&json, "websockets") else { panic!("{json:?}") };
    one.clone()
}

const CHECKED: &str = "client_max_message_size = \"1MB\"";

#[test]
fn a_websocket_is_listed_with_its_messages_and_closed_with_a_status() {
    for (query, code) in [("", 1012), ("?status=4000", 4000)] {
        let mut pair = Pair::new(CHECKED);
        pair.talk();
        pair.client.send(TEXT, "more");
        pair.origin.expect(TEXT, "more");
        let ravelin = &pair.ravelin;
        until("what came", || only(ravelin).get("received_messages").number() == 2.0);
        let one = only(ravelin);
        assert_eq!(*one.get("framed"), Json::Bool(true));
        assert_eq!(one.get("sent_messages").number(), 1.0);
        // Header and mask are part of what comes.
        assert_eq!(one.get("received_bytes").number(), (6 + 8 + 6 + 4) as f64);
        assert_eq!(one.get("sent_bytes").number(), (2 + 6) as f64);
        let request = one.get("request");
        assert_eq!(request.get("target").text(), "/chat");
        assert_eq!(request.get("pool").text(), "backend");
        assert_eq!(request.get("client").text(), "127.0.0.1");
        let connections = get(ravelin, "/v1/connections");
        let connection = &items(&connections, "connections")[0];
        assert_eq!(connection.get("id"), one.get("connection"));
        assert_eq!(connection.get("doing").text(), "tunnel");

        let path = format!("/v1/websockets/{}{query}", one.get("id").text());
        assert_eq!(asked(ravelin, "DELETE", &path).get("closed").number(), 1.0);
        pair.client.expect_close(code, "closed by an operator");
        pair.origin.expect_close(code, "closed by an operator");
        pair.client.send(CLOSE, status(code, ""));
        pair.origin.send(CLOSE, status(code, ""));
        pair.client.expect_end();
        pair.ravelin.stdout.line_with(&["GET /chat ", "ended=proxy", "cause=aborted"]);
        let gone = || get(&pair.ravelin, "/v1/websockets").get("total").number() == 0.0;
        until("no WebSocket", gone);
    }
}

#[test]
fn a_connection_that_is_closed_takes_its_websocket_with_it() {
    let mut pair = Pair::new(CHECKED);
    pair.talk();
    let connection = only(&pair.ravelin).get("connection").text().to_owned();
    told(&pair.ravelin, &["connections", "close", &connection]);
    pair.client.answer_close(1012, "closed by an operator");
    pair.origin.answer_close(1012, "closed by an operator");
    pair.client.expect_end();
}

#[test]
fn a_pipe_for_bytes_is_cut() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(switching(""));
        while let Ok(bytes) = conn.wire.some() {
            conn.send(bytes);
        }
    });
    let ravelin = Ravelin::start(&site(&[&origin.url()], "websocket = true\n"));
    let mut client = ravelin.client();
    client.send(upgrade(""));
    client.response("GET").expect(101);
    client.send("hello");
    assert_eq!(client.wire.bytes(5).unwrap(), b"hello");
    let one = only(&ravelin);
    assert_eq!(*one.get("framed"), Json::Bool(false));
    assert_eq!(*one.get("received_messages"), Json::Null);
    until("what came", || only(&ravelin).get("sent_bytes").number() == 5.0);
    assert_eq!(only(&ravelin).get("received_bytes").number(), 5.0);
    let text = told(&ravelin, &["connections", "--websockets"]);
    assert!(text.contains("/chat") && text.contains(&origin.url()), "{text}");
    let id = one.get("id").text();
    told(&ravelin, &["connections", "close", "--websocket", id]);
    assert!(client.wire.some().is_err());
    until("no WebSocket", || get(&ravelin, "/v1/websockets").get("total").number() == 0.0);
}

#[test]
fn those_that_a_filter_lets_pass_are_closed_together() {
    let mut pair = Pair::new(CHECKED);
    let (mut client, mut origin) = pair.another();
    pair.talk();
    assert_eq!(get(&pair.ravelin, "/v1/websockets").get("total").number(), 2.0);
    let none = get(&pair.ravelin, "/v1/websockets?filter=path%3D%3D%2Fother");
    assert_eq!(items(&none, "websockets").len(), 0);
    let closed = asked(&pair.ravelin, "DELETE", "/v1/websockets?filter=path%3D%3D%2Fchat");
    assert_eq!(closed.get("closed").number(), 2.0);
    for end in [&mut client, &mut origin, &mut pair.client, &mut pair.origin] {
        end.answer_close(1012, "closed by an operator");
    }
}
