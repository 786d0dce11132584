//! `ravelin demo`: something to look at on a fresh machine.

use std::sync::Mutex;

use crate::harness::*;

/// The demo has one address of its own; only one may run at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn the_demo_serves_files_two_origins_and_a_websocket_echo_and_stops_on_ctrl_c() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    if std::net::TcpListener::bind("127.0.0.1:8080").is_err() {
        panic!("this test needs port 8080 of 127.0.0.1, which the demo serves; free it");
    }
    let mut demo = Setup::new("").args(&["demo"]).start();
    assert_eq!(demo.addr().to_string(), "127.0.0.1:8080");

    let index = demo.get("/").expect(200);
    assert!(index.get("content-type").unwrap().starts_with("text/html"));

    let mut client = demo.client();
    let answers: Vec<String> = (0..4).map(|_| client.get("/api/").expect(200).text()).collect();
    assert_eq!(answers[0], answers[2]);
    assert_eq!(answers[1], answers[3]);
    assert_ne!(answers[0], answers[1], "two origins that say who they are");

    let said = websocket_client(
        "ws://127.0.0.1:8080/ws",
        "for text in ['hello', 'x' * 70000]:\n\
         \x20   ws.send(text)\n\
         \x20   assert ws.recv(timeout=8) == text\n\
         ws.send(b'bytes')\n\
         assert ws.recv(timeout=8) == b'bytes'\n\
         ws.ping().wait(8)\n\
         print('done')",
    );
    assert_eq!(said.trim(), "done");

    let printed = [demo.stdout.all(), demo.stderr.all()].concat().join("\n");
    for hint in ["http://127.0.0.1:8080", "curl", "/api/", "/ws"] {
        assert!(printed.contains(hint), "{hint} is missing in\n{printed}");
    }

    let (_, dashboard) = printed
        .split_once("  the dashboard")
        .map(|(before, _)| before.rsplit_once("http://").unwrap())
        .unwrap();
    let address: std::net::SocketAddr = dashboard.trim().trim_end_matches('/').parse().unwrap();
    let page = Client::connect(address)
        .ask(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"))
        .expect(200);
    assert!(page.text().contains("<title>Ravelin</title>"));

    drop(client);
    demo.signal("INT");
    assert!(demo.exit().success());
}
