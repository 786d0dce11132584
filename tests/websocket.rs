//! WebSocket and other upgrades.

use std::sync::mpsc::channel;

use crate::harness::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const WS: &str = "websocket = true\n";

fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

fn switching() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
}

/// An origin that switches and then sends every byte back, upper-cased.
fn shouting() -> Origin {
    Origin::script(|conn| {
        conn.request();
        conn.send(switching());
        while let Ok(bytes) = conn.wire.some() {
            conn.send(bytes.to_ascii_uppercase());
        }
    })
}

#[test]
fn a_python_client_and_a_python_origin_talk_through_it() {
    let echo = Python::websocket_echo();
    let ravelin = Ravelin::start(&site(&[&echo.url()], WS));
    let url = format!("ws://{}/chat?room=1", ravelin.addr());
    let said = websocket_client(
        &url,
        "for text in ['hello', '', 'x' * 125, 'y' * 126, 'z' * 70000]:\n\
         \x20   ws.send(text)\n\
         \x20   assert ws.recv(timeout=8) == text\n\
         for n in [0, 1, 125, 126, 65535, 65536, 1 << 20]:\n\
         \x20   data = os.urandom(n)\n\
         \x20   ws.send(data)\n\
         \x20   assert ws.recv(timeout=8) == data\n\
         ws.ping().wait(8)\n\
         ws.close(4001, 'enough')\n\
         print('code', ws.protocol.close_rcvd.code)",
    );
    assert_eq!(said.trim(), "code 4001");
    ravelin.stdout.line_with(&["GET /chat?room=1 ", " 101 "]);
}

#[test]
fn many_messages_at_once_keep_their_order() {
    let echo = Python::websocket_echo();
    let ravelin = Ravelin::start(&site(&[&echo.url()], WS));
    let said = websocket_client(
        &format!("ws://{}/", ravelin.addr()),
        "import threading\n\
         def send():\n\
         \x20   for i in range(2000):\n\
         \x20       ws.send(str(i) * 20)\n\
         sender = threading.Thread(target=send)\n\
         sender.start()\n\
         for i in range(2000):\n\
         \x20   assert ws.recv(timeout=8) == str(i) * 20\n\
         sender.join()\n\
         print('done')",
    );
    assert_eq!(said.trim(), "done");
}

#[test]
fn a_subprotocol_is_negotiated_end_to_end() {
    let origin = Origin::script(|conn| {
        let request = conn.request();
        assert_eq!(request.get("sec-websocket-protocol"), Some("chat, superchat"));
        assert_eq!(request.get("sec-websocket-key"), Some(KEY));
        assert_eq!(request.get("sec-websocket-version"), Some("13"));
        assert_eq!(request.get("sec-websocket-extensions"), Some("permessage-deflate"));
        assert!(request.get("connection").unwrap().eq_ignore_ascii_case("upgrade"));
        assert!(request.get("upgrade").unwrap().eq_ignore_ascii_case("websocket"));
        let answer = switching()
            .replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\nSet-Cookie: a=1\r\n\r\n");
        conn.send(answer);
        conn.wait_closed();
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let request = upgrade("/").replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    );
    let response = ravelin.ask(request).expect(101);
    assert_eq!(response.get("sec-websocket-protocol"), Some("chat"));
    assert_eq!(response.get("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(response.get("set-cookie"), Some("a=1"));
    assert!(response.get("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert!(response.get("upgrade").unwrap().eq_ignore_ascii_case("websocket"));
}

#[test]
fn bytes_pass_both_ways_after_the_switch() {
    let origin = shouting();
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    for _ in 0..3 {
        client.send("hello");
        assert_eq!(client.wire.bytes(5).unwrap(), b"HELLO");
    }
}

#[test]
fn ten_mebibytes_pass_through_a_tunnel() {
    let origin = shouting();
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    let data = pattern(10 << 20, 3);
    let mut sender = client.wire.sock.try_clone();
    let sending = std::thread::spawn({
        let data = data.clone();
        move || sender.write_all(&data).unwrap()
    });
    let got = client.wire.bytes(data.len()).unwrap();
    sending.join().unwrap();
    assert_same_bytes(&got, &data.to_ascii_uppercase());
}

#[test]
fn a_side_that_was_silent_while_the_other_said_much_is_heard() {
    const MUCH: usize = 2 << 20;
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(switching());
        while conn.wire.bytes(MUCH).is_ok() {
            conn.send("heard");
            assert_eq!(conn.wire.bytes(2).unwrap(), b"go");
            conn.send(pattern(MUCH, 7));
        }
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    for _ in 0..20 {
        // In small pieces, so that it takes more steps than a task may take at a time.
        for piece in pattern(MUCH, 3).chunks(4096) {
            client.send(piece);
        }
        assert_eq!(client.wire.bytes(5).unwrap(), b"heard");
        client.send("go");
        assert_same_bytes(&client.wire.bytes(MUCH).unwrap(), &pattern(MUCH, 7));
    }
}

#[test]
fn bytes_the_origin_sends_right_behind_the_101_arrive() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(switching() + "first words");
        conn.wait_closed();
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    assert_eq!(client.wire.bytes(11).unwrap(), b"first words");
}

#[test]
fn cve_2026_2833_bytes_before_the_101_are_held_until_it_comes() {
    let (held, arrived) = channel();
    let gate = Gate::new();
    let origin = Origin::script({
        let gate = gate.clone();
        move |conn| {
            conn.request();
            gate.pass();
            // Nothing but the request may have come so far.
            conn.wire.sock.set_patience(std::time::Duration::from_millis(300));
            held.send(conn.wire.some()).unwrap();
            conn.wire.sock.set_patience(PATIENCE);
            conn.send(switching());
            held.send(conn.wire.bytes(5)).unwrap();
            conn.wait_closed();
        }
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.send(upgrade("/")).send("early");
    origin.request(0);
    gate.open();
    assert_eq!(next(&arrived, "what came early"), Err(Broken::TimedOut));
    assert_eq!(client.response("GET").status, 101);
    assert_eq!(next(&arrived, "the held bytes"), Ok(b"early".to_vec()));
}

#[test]
fn cve_2026_2833_a_request_sent_early_is_no_request_when_the_upgrade_fails() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        while let Ok(request) = conn.try_request() {
            conn.send(ok(&request.target));
        }
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.send(upgrade("/") + "GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n");
    assert_eq!(client.response("GET").expect(403).text(), "no");
    // Whether Ravelin answers it as the next request or closes: never on the refused connection.
    let _ = client.wire.response("GET");
    let reused = origin.requests().iter().filter(|r| r.connection == 0).count();
    assert_eq!(reused, 1, "{:?}", origin.requests());
}

#[test]
fn early_bytes_are_held_within_a_bound() {
    let gate = Gate::new();
    let origin = Origin::script({
        let gate = gate.clone();
        move |conn| {
            conn.request();
            gate.pass();
        }
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.send(upgrade("/"));
    client.wire.sock.set_patience(std::time::Duration::from_millis(500));
    let piece = vec![b'x'; 1 << 20];
    let mut taken = 0;
    while taken < 64 && client.wire.sock.write_all(&piece).is_ok() {
        taken += 1;
    }
    assert!(taken < 32, "took {taken} MiB before the upgrade was decided");
    let rss = memory_kib(ravelin.pid(), "VmRSS");
    assert!(rss < 64 * 1024, "{rss} KiB resident");
    gate.open();
}

#[test]
fn a_200_to_an_upgrade_is_a_normal_response() {
    let origin = Origin::saying("no sockets here");
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    let response = client.ask(upgrade("/")).expect(200);
    assert_eq!(response.text(), "no sockets here");
    assert!(!response.head.has("upgrade"));
}

#[test]
fn a_refusal_with_a_body_is_passed_on() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 3\r\n\r\nold"
            .to_vec()
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let response = ravelin.ask(upgrade("/")).expect(426);
    assert_eq!(response.get("sec-websocket-version"), Some("13"));
    assert_eq!(response.text(), "old");
}

#[test]
fn a_101_that_does_not_match_is_502() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let origin = Origin::script(move |conn| {
            conn.request();
            conn.send(answer);
            conn.wait_closed();
        });
        let ravelin = Ravelin::before_with(&origin, WS);
        let status = ravelin.ask(upgrade("/")).status;
        assert_eq!(status, 502, "{answer:?}");
    }
}

#[test]
fn a_101_nobody_asked_for_is_502() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(switching());
        conn.wait_closed();
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    ravelin.get("/").expect(502);
}

#[test]
fn a_route_without_websocket_strips_the_upgrade() {
    let origin = Origin::saying("plain");
    let ravelin = Ravelin::before(&origin);
    assert_eq!(ravelin.ask(upgrade("/")).expect(200).text(), "plain");
    let request = origin.request(0);
    assert!(!request.head.has("upgrade"), "{:?}", request.head);
    let connection = request.get("connection").unwrap_or_default().to_ascii_lowercase();
    assert!(!connection.contains("upgrade"), "{connection}");
}

#[test]
fn a_101_on_a_route_without_websocket_is_502() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(switching());
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    ravelin.ask(upgrade("/")).expect(502);
}

#[test]
fn cve_2022_41721_h2c_is_never_forwarded() {
    let origin = Origin::saying("plain");
    let ravelin = Ravelin::before_with(&origin, WS);
    for token in ["h2c", "h2c, websocket", "TLS/1.0"] {
        let request = upgrade("/").replace("Upgrade: websocket", &format!("Upgrade: {token}"));
        let request = request.replace("\r\n\r\n", "\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n\r\n");
        let _ = ravelin.ask(request);
    }
    for request in origin.requests() {
        let upgrade = request.get("upgrade").unwrap_or_default();
        assert!(!upgrade.contains("h2c") && !upgrade.contains("TLS"), "{:?}", request.head);
        assert!(!request.head.has("http2-settings"), "{:?}", request.head);
    }
}

#[test]
fn an_upgrade_needs_both_fields_get_and_http_1_1() {
    let origin = Origin::saying("plain");
    let ravelin = Ravelin::before_with(&origin, WS);
    for request in [
        upgrade("/").replace("Connection: Upgrade\r\n", ""),
        upgrade("/").replace("Upgrade: websocket\r\n", ""),
        upgrade("/").replace("Connection: Upgrade", "Connection: keep-alive"),
        upgrade("/").replace("HTTP/1.1", "HTTP/1.0"),
        upgrade("/").replace("GET ", "DELETE "),
    ] {
        let before = origin.requests().len();
        let response = ravelin.ask(&request);
        assert!(response.status != 101, "{request}");
        if response.status == 200 {
            let seen = origin.request(before);
            assert!(!seen.head.has("upgrade"), "{request}{:?}", seen.head);
        }
    }
}

#[test]
fn field_values_of_an_upgrade_may_be_in_any_case() {
    let origin = shouting();
    let ravelin = Ravelin::before_with(&origin, WS);
    let request = upgrade("/")
        .replace("Connection: Upgrade", "connection: keep-alive, UPGRADE")
        .replace("Upgrade: websocket", "UPGRADE: WebSocket");
    ravelin.ask(request).expect(101);
}

#[test]
fn plain_requests_on_a_websocket_route_are_plain() {
    let origin = Origin::saying("page");
    let ravelin = Ravelin::before_with(&origin, WS);
    assert_eq!(ravelin.get("/").expect(200).text(), "page");
}

#[test]
fn strip_prefix_and_headers_apply_to_upgrades_too() {
    let origin = shouting();
    let more = "[[sites.proxy.routes]]\npath = \"/ws\"\nupstream = \"backend\"\nwebsocket = true\n\
                strip_prefix = true\n[sites.proxy.headers.add]\n\"X-G\" = \"1\"\n";
    let ravelin = Ravelin::before_with(&origin, more);
    ravelin.ask(upgrade("/ws/chat?a=b")).expect(101);
    let request = origin.request(0);
    assert_eq!(request.target, "/chat?a=b");
    assert_eq!(request.get("x-g"), Some("1"));
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn when_the_client_closes_the_origin_sees_it() {
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(switching());
        conn.wait_closed();
        gone.send(()).unwrap();
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    drop(client);
    next(&closed, "the origin to see the close");
}

#[test]
fn when_the_origin_closes_the_client_sees_it_after_the_last_byte() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(switching());
        conn.send("goodbye");
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    assert_eq!(client.wire.rest().unwrap(), b"goodbye");
}

#[test]
fn a_half_closed_tunnel_still_carries_the_other_way() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(switching());
        assert_eq!(conn.wire.rest().unwrap(), b"question");
        conn.send("answer");
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    client.send("question");
    client.finish();
    assert_eq!(client.wire.rest().unwrap(), b"answer");
}

#[test]
fn an_idle_tunnel_is_closed_after_its_own_timeout() {
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(switching());
        conn.wait_closed();
        gone.send(()).unwrap();
    });
    let more = "websocket = true\n[sites.proxy.timeout]\ntunnel = \"500ms\"\n";
    let ravelin = Ravelin::before_with(&origin, more);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    client.expect_close();
    next(&closed, "the origin to see the close");
}

#[test]
fn a_tunnel_outlives_the_read_timeout() {
    let gate = Gate::new();
    let origin = Origin::script({
        let gate = gate.clone();
        move |conn| {
            conn.request();
            conn.send(switching());
            gate.pass();
            conn.send("still here");
            conn.wait_closed();
        }
    });
    let more = "websocket = true\n[sites.proxy.timeout]\nread = \"300ms\"\nwrite = \"300ms\"\n";
    let ravelin = Ravelin::before_with(&origin, more);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    client.wire.sock.set_patience(std::time::Duration::from_millis(1000));
    assert_eq!(client.wire.some(), Err(Broken::TimedOut), "closed before its time");
    gate.open();
    client.wire.sock.set_patience(PATIENCE);
    assert_eq!(client.wire.bytes(10).unwrap(), b"still here");
}

#[test]
fn a_tunnelled_connection_never_returns_to_the_pool() {
    let origin = Origin::script(|conn| {
        let request = conn.request();
        if request.head.has("upgrade") {
            conn.send(switching());
            conn.wait_closed();
        } else {
            conn.send(ok("other connection"));
        }
    });
    let ravelin = Ravelin::before_with(&origin, WS);
    let mut client = ravelin.client();
    client.ask(upgrade("/")).expect(101);
    client.finish();
    client.expect_close();
    assert_eq!(ravelin.get("/").text(), "other connection");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_unreachable_websocket_origin_is_502() {
    let ravelin = Ravelin::start(&site(&[&format!("http://127.0.0.1:{}", free_port())], WS));
    ravelin.ask(upgrade("/")).expect(502);
}
