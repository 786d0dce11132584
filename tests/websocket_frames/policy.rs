//! Who may open a WebSocket, and how many.

use super::*;

/// An origin that takes every WebSocket, and answers other requests.
fn taking() -> Origin {
    Origin::script(|conn| {
        let request = conn.request();
        if request.head.has("upgrade") {
            conn.send(switching(""));
            conn.wait_closed();
        } else {
            conn.send(ok("a page"));
        }
    })
}

fn from(origin: &str) -> String {
    upgrade(&format!("Origin: {origin}\r\n"))
}

#[test]
fn pages_of_the_same_host_may_open_one_and_others_get_403() {
    let origin = taking();
    let ravelin = Ravelin::before_with(&origin, &sockets("origins = \"same\""));
    ravelin.ask(upgrade("")).expect(101);
    ravelin.ask(from("https://example.com")).expect(101);
    ravelin.ask(from("http://EXAMPLE.com")).expect(101);
    for foreign in ["https://evil.example", "https://example.com.evil.example", "null", "x"] {
        ravelin.ask(from(foreign)).expect(403);
    }
    let two = upgrade("Origin: https://example.com\r\nOrigin: https://evil.example\r\n");
    ravelin.ask(two).expect(403);
    // What is no WebSocket is not asked where it comes from.
    let page = "GET / HTTP/1.1\r\nHost: example.com\r\nOrigin: https://evil.example\r\n\r\n";
    ravelin.ask(page).expect(200);
    assert_eq!(origin.requests().len(), 4, "{:?}", origin.requests());
    let line = ravelin.stdout.line_with(&["GET /chat ", " 403 "]);
    assert!(line.contains("ended=client phase=decide cause=denied"), "{line}");
}

#[test]
fn pages_that_a_pattern_names_may_open_one() {
    let origin = taking();
    let keys = "origins = [\"*.friend.example\", \"app.test:8443\"]";
    let ravelin = Ravelin::before_with(&origin, &sockets(keys));
    for admitted in ["https://example.com", "https://a.friend.example", "https://app.test:8443"] {
        ravelin.ask(from(admitted)).expect(101);
    }
    for refused in ["https://friend.example", "https://app.test", "https://a.friend.example:1"] {
        ravelin.ask(from(refused)).expect(403);
    }
}

#[test]
fn any_page_may_if_nothing_is_said() {
    let origin = taking();
    let ravelin = Ravelin::before_with(&origin, "websocket = true");
    ravelin.ask(from("https://evil.example")).expect(101);
    assert_eq!(origin.request(0).get("origin"), Some("https://evil.example"));
}

#[test]
fn a_client_without_origin_is_given_one() {
    let origin = taking();
    let keys = "default_origin = \"https://app.example\"";
    let ravelin = Ravelin::before_with(&origin, &sockets(keys));
    ravelin.ask(upgrade("")).expect(101);
    ravelin.ask(from("https://own.example")).expect(101);
    ravelin.get("/").expect(200);
    assert_eq!(origin.request(0).head.all("origin"), ["https://app.example"]);
    assert_eq!(origin.request(1).head.all("origin"), ["https://own.example"]);
    assert_eq!(origin.request(2).get("origin"), None);
}

#[test]
fn rfc9110_15_5_22_where_only_websockets_are_taken_others_get_426() {
    let origin = taking();
    let ravelin = Ravelin::before_with(&origin, &sockets("required = true"));
    let response = ravelin.get("/").expect(426);
    assert_eq!(response.get("upgrade"), Some("websocket"));
    assert_eq!(response.get("sec-websocket-version"), Some("13"));
    assert!(response.get("connection").unwrap().to_ascii_lowercase().contains("upgrade"));
    ravelin.ask(upgrade("")).expect(101);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn more_open_sockets_than_may_be_are_503() {
    let origin = taking();
    let ravelin = Ravelin::before_with(&origin, &sockets("max_open = 2"));
    let mut open: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = ravelin.client();
            client.ask(upgrade("")).expect(101);
            client
        })
        .collect();
    let refused = ravelin.ask(upgrade("")).expect(503);
    assert!(refused.get("retry-after").is_some());
    let line = ravelin.stdout.line_with(&["GET /chat ", " 503 "]);
    assert!(line.contains("ended=client phase=decide cause=limit"), "{line}");
    // Other requests are not counted.
    ravelin.get("/").expect(200);
    drop(open.pop());
    until("a place to be free", || ravelin.ask(upgrade("")).status == 101);
}

#[test]
fn more_open_sockets_of_one_address_than_may_be_are_503() {
    let origin = taking();
    let ravelin = Ravelin::before_with(&origin, &sockets("max_open_per_address = 1"));
    let mut one = ravelin.client();
    one.ask(upgrade("")).expect(101);
    ravelin.ask(upgrade("")).expect(503);
    let mut two = Client::connect_from("127.0.0.2", ravelin.addr());
    two.ask(upgrade("")).expect(101);
    Client::connect_from("127.0.0.2", ravelin.addr()).ask(upgrade("")).expect(503);
}

#[test]
fn a_place_is_given_back_when_the_origin_refuses() {
    let origin = Origin::serve(|_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
    let ravelin = Ravelin::before_with(&origin, &sockets("max_open = 1"));
    for _ in 0..3 {
        ravelin.ask(upgrade("")).expect(404);
    }
}

#[test]
fn a_dead_origin_is_502_and_no_101() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let ravelin = Ravelin::start(&site(&[&url], &sockets("client_max_message_size = 10")));
    ravelin.ask(upgrade("")).expect(502);
    let silent = Origin::script(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let more =
        sockets("client_max_message_size = 10") + "[sites.proxy.timeout]\nread = \"300ms\"\n";
    Ravelin::before_with(&silent, &more).ask(upgrade("")).expect(504);
    let url = "http://nowhere.invalid:80";
    let ravelin = Ravelin::start(&site(&[url], &sockets("client_max_message_size = 10")));
    ravelin.ask(upgrade("")).expect(503);
}

#[test]
fn a_route_has_settings_of_its_own() {
    let origin = taking();
    let more = "websocket = { origins = \"same\" }\n\
                [[sites.proxy.routes]]\npath = \"/open\"\nupstream = \"backend\"\nwebsocket = true\n";
    let ravelin = Ravelin::before_with(&origin, more);
    ravelin.ask(from("https://evil.example")).expect(403);
    let open = from("https://evil.example").replace("/chat", "/open");
    ravelin.ask(open).expect(101);
}
