//! How each request ended, as its line says: who, when, why, and one name for it.

use std::sync::mpsc::channel;

use crate::bodies::chunked;
use crate::harness::*;

/// The line of a request as its `reason`, with what a status and a target say.
#[track_caller]
fn ended(ravelin: &Ravelin, target: &str) -> Json {
    Json::parse(&ravelin.stdout.line_with(&[&format!("\"target\":\"{target}")]))
}

#[track_caller]
fn assert_reason(line: &Json, status: u16, reason: &str) {
    assert_eq!(line.get("reason").text(), reason, "{line:?}");
    assert_eq!(line.get("status").number(), f64::from(status), "{line:?}");
}

const JSON: &str = "[logging]\nformat = \"json\"\n";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
}

fn upgrade(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A site whose routes each have a pool of their own name: with keys of the pool, and of its endpoint.
fn pools(pools: &[(&str, String, &str, &str)]) -> String {
    let mut text = "[[sites]]\nname = \"test\"\nhostname = \"example.com\"\n\
                    listen = [\"127.0.0.1:0\"]\n[sites.proxy]\nenabled = true\n"
        .to_owned();
    for (name, url, _, of_endpoint) in pools {
        text.push_str(&format!(
            "[[sites.proxy.upstreams]]\nname = \"{name}\"\nurl = \"{url}\"\n{of_endpoint}\n\
             [[sites.proxy.routes]]\npath = \"/{name}\"\nupstream = \"{name}\"\n"
        ));
    }
    for (name, _, of_pool, _) in pools {
        text.push_str(&format!(
            "[[sites.proxy.pools]]\nname = \"{name}\"\nretry = {{ attempts = 1 }}\n{of_pool}\n"
        ));
    }
    text
}

#[test]
fn what_upstreams_do_wrong_has_a_name() {
    let origin = Origin::script(|conn| {
        let request = conn.request();
        let head = |text: &str| format!("HTTP/1.1 200 OK\r\n{text}\r\n\r\n");
        match &*request.target {
            "/closed" => {}
            "/reset" => conn.reset_on_close(),
            "/bad" => conn.send("this is no HTTP\r\n\r\n"),
            "/large" => {
                let fields: String = (0..300).map(|n| format!("X-{n}: 1\r\n")).collect();
                conn.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            }
            "/switch" => conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
            "/cut" => conn.send(head("Content-Length: 100") + "some of it"),
            "/coding" => conn.send(head("Transfer-Encoding: chunked") + "3\r\nabc\r\nzz\r\n"),
            "/stalls" => {
                conn.send(head("Content-Length: 100") + "some of it");
                conn.wait_closed();
            }
            _ => conn.wait_closed(),
        }
    });
    let names = ["closed", "reset", "bad", "large", "switch", "cut", "coding", "stalls", "silent"];
    let timeout = "timeout = { first_byte = \"300ms\", read = \"300ms\" }";
    let mut all: Vec<_> = names.map(|name| (name, origin.url(), timeout, "")).into();
    all.push(("nobody", format!("http://127.0.0.1:{}", free_port()), "", ""));
    all.push(("nowhere", "http://name.invalid:80".to_owned(), "", ""));
    let ravelin = Ravelin::start(&(JSON.to_owned() + &pools(&all)));
    for (target, status, reason, by) in [
        ("/nobody", 502, "connect_refused", "connect"),
        ("/nowhere", 503, "no_address", "queue"),
        ("/closed", 502, "closed_early", "first_byte"),
        ("/reset", 502, "reset_early", "first_byte"),
        ("/bad", 502, "response_malformed", "first_byte"),
        ("/large", 502, "response_head_too_large", "first_byte"),
        ("/switch", 502, "upgrade_failed", "first_byte"),
        ("/silent", 504, "response_timeout", "first_byte"),
        ("/cut", 200, "response_cut", "transfer"),
        ("/coding", 502, "response_coding", "transfer"),
        ("/stalls", 200, "response_stalled", "transfer"),
    ] {
        let mut client = ravelin.client();
        client.send(get(target));
        let _ = client.wire.rest();
        let line = ended(&ravelin, target);
        assert_reason(&line, status, reason);
        let whose = if reason == "no_address" { "proxy" } else { "upstream" };
        assert_eq!(line.get("ended").text(), whose, "{line:?}");
        assert_eq!(line.get("phase").text(), by, "{line:?}");
        assert_eq!(line.get("pool").text(), target.trim_start_matches('/'), "{line:?}");
    }
}

#[test]
fn tls_of_an_upstream_that_is_no_good_has_a_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.server(&["localhost"]);
    let tls = Some(pair.server(&["http/1.1"], None));
    let origin = AsyncOrigin::connections(tls, |_, _| async {});
    let url = origin.https_url();
    let keys = "tls = { ca_file = \"other.pem\", server_name = \"localhost\" }";
    let plain = Origin::script(|conn| conn.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let both =
        [("unknown", url, "", keys), ("plain", plain.url().replace("http:", "https:"), "", "")];
    let ravelin =
        Setup::new(&(JSON.to_owned() + &pools(&both))).file("other.pem", &other.pem).start();
    for (target, reason) in [("/unknown", "upstream_certificate"), ("/plain", "connect_tls")] {
        ravelin.get(target).expect(502);
        let line = ended(&ravelin, target);
        assert_reason(&line, 502, reason);
        assert_eq!(line.get("cause").text(), "tls", "{line:?}");
    }
}

#[test]
fn what_clients_do_wrong_has_a_name() {
    let origin = Origin::script(|conn| {
        let _ = conn.try_request();
        conn.wait_closed();
    });
    let more = "[[sites.routes]]\npath = \"/small\"\nstatus = 200\nmax_request_size = 10\n\
                [[sites.routes]]\npath = \"/socket\"\nupstream = \"backend\"\n\
                websocket = { required = true, origins = [\"mine.test\"] }\n\
                [[sites.routes]]\npath = \"/early\"\nupstream = \"backend\"\nwebsocket = true\n";
    let limits = "[limits]\nhead_timeout = \"400ms\"\nhead_size = \"4KB\"\nearly_upgrade = 10\n\
                  body_grace = \"1s\"\n";
    let toml = format!("{JSON}{limits}{}", site_with("", &[&origin.url()], more));
    let ravelin = Ravelin::start(&toml);
    let long = "x".repeat(8_000);
    let chunk =
        "POST /chunk HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    for (request, part, status, reason) in [
        (
            "GET /malformed HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n".to_owned(),
            "GET /malformed",
            400,
            "head_malformed",
        ),
        (
            format!("GET /head-large HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            "GET /head-large",
            431,
            "head_too_large",
        ),
        (
            format!("GET /target-{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            "GET /target-",
            414,
            "head_too_large",
        ),
        (
            "GET /version HTTP/1.7\r\nHost: a\r\n\r\n".to_owned(),
            "GET /version",
            505,
            "head_unsupported",
        ),
        ("GET /slow HTTP/1.1\r\nHost: exam".to_owned(), "GET /slow", 408, "head_timeout"),
        (
            "POST /small HTTP/1.1\r\nHost: example.com\r\nContent-Length: 11\r\n\r\n".to_owned(),
            "/small",
            413,
            "body_too_large",
        ),
        (chunk.to_owned(), "/chunk", 400, "body_malformed"),
        (
            "POST /trickle HTTP/1.1\r\nHost: example.com\r\nContent-Length: 9\r\n\r\nx".to_owned(),
            "/trickle",
            408,
            "body_too_slow",
        ),
        (get("/socket/plain"), "/socket/plain", 426, "upgrade_required"),
        (
            upgrade("/socket/origin", "Origin: https://other.test\r\n"),
            "/socket/origin",
            403,
            "origin_denied",
        ),
        (upgrade("/early", "") + "more than ten bytes", "/early", 400, "early_upgrade"),
    ] {
        ravelin.ask(request).expect(status);
        let line = ended(&ravelin, part);
        assert_reason(&line, status, reason);
        assert_eq!(line.get("ended").text(), "client", "{line:?}");
    }
}

#[test]
fn what_rules_refuse_has_a_name() {
    let origin = Origin::saying("");
    let route = |path: &str, keys: &str| {
        format!("[[sites.routes]]\npath = \"{path}\"\nupstream = \"backend\"\n{keys}\n")
    };
    let more = [
        route("/list", "access = { deny = [\"127.0.0.0/8\"] }"),
        route("/cors", "access_control = { allow_origins = [\"https://mine.test\"] }"),
        route("/rate", "rate_limit = { requests = 1, per = \"1h\" }"),
        route("/user", "auth = { type = \"basic\", users = { ann = \"plain:secret\" } }"),
    ]
    .concat();
    let ravelin = Ravelin::start(&(JSON.to_owned() + &site_with("", &[&origin.url()], &more)));
    ravelin.get("/rate/first").expect(200);
    let preflight = "OPTIONS /cors HTTP/1.1\r\nHost: example.com\r\nOrigin: https://other.test\r\n\
                     Access-Control-Request-Method: PUT\r\n\r\n";
    for (request, target, status, reason) in [
        (get("/list"), "/list", 403, "access_denied"),
        (preflight.to_owned(), "/cors", 403, "preflight_refused"),
        (get("/rate/second"), "/rate/second", 429, "rate_limited"),
        (get("/user"), "/user", 401, "unauthorized"),
    ] {
        ravelin.ask(request).expect(status);
        assert_reason(&ended(&ravelin, target), status, reason);
    }
}

#[test]
fn waiting_for_room_has_a_time_and_a_name() {
    let gate = Gate::new();
    let passing = gate.clone();
    let (came, held) = channel();
    // One each: places are those of an endpoint, whatever pool it is in.
    let origins = [(); 4].map(|()| {
        let (came, passing) = (came.clone(), passing.clone());
        Origin::serve(move |request| {
            let _ = came.send(());
            if request.target.contains("/hold") {
                passing.pass();
            }
            ok("")
        })
    });
    let mut urls = origins.iter().map(Origin::url);
    let mut pool = |name: &'static str, queue: &'static str| {
        (name, urls.next().unwrap(), queue, "max_conns = 1")
    };
    let all = [
        pool("full", "queue = { max = 0, timeout = \"5s\" }"),
        pool("late", "queue = { timeout = \"200ms\" }"),
        pool("left", "queue = { timeout = \"30s\" }"),
        pool("waits", "queue = { timeout = \"30s\" }"),
    ];
    let ravelin = Ravelin::start(&(JSON.to_owned() + &pools(&all)));
    let mut holding = Vec::new();
    for (name, ..) in &all {
        let mut client = ravelin.client();
        client.send(get(&format!("/{name}/hold")));
        held.recv_timeout(PATIENCE).unwrap();
        holding.push(client);
    }
    ravelin.get("/full/x").expect(503);
    assert_reason(&ended(&ravelin, "/full/x"), 503, "queue_full");
    ravelin.get("/late/x").expect(503);
    let line = ended(&ravelin, "/late/x");
    assert_reason(&line, 503, "queue_timeout");
    assert!(line.get("queue_us").number() >= 200_000.0, "{line:?}");
    let mut client = ravelin.client();
    client.send(get("/left/x"));
    ravelin.get("/late/y").expect(503);
    drop(client);
    assert_reason(&ended(&ravelin, "/left/x"), 499, "left_waiting_for_room");

    let mut client = ravelin.client();
    client.send(get("/waits/x"));
    ravelin.get("/late/z").expect(503);
    gate.open();
    client.response("GET").expect(200);
    let line = ended(&ravelin, "/waits/x");
    assert_eq!(line.get("ended").text(), "complete");
    assert!(line.get("queue_us").number() > 0.0, "{line:?}");
    assert!(line.get("total_us").number() >= line.get("queue_us").number(), "{line:?}");
}

#[test]
fn clients_that_leave_are_told_apart_by_when_they_left() {
    let (came, held) = channel();
    let origin = Origin::script(move |conn| {
        // One of them leaves in the middle of its request.
        let Ok(request) = conn.try_request() else { return };
        if request.target.contains("/receiving") {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
        }
        let _ = came.send(());
        conn.wait_closed();
    });
    let ravelin = Ravelin::start(&(JSON.to_owned() + &site(&[&origin.url()], "")));
    for (target, reason, status) in
        [("/waiting", "left_waiting", 499), ("/receiving", "left_receiving", 200)]
    {
        let mut client = ravelin.client();
        client.send(get(target));
        held.recv_timeout(PATIENCE).unwrap();
        if status == 200 {
            client.wire.until(b"some").unwrap();
        }
        drop(client);
        assert_reason(&ended(&ravelin, target), status, reason);
    }
    let mut client = ravelin.client();
    client.send("POST /sending HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100\r\n\r\nx");
    ravelin.get("/api/health").expect(200);
    drop(client);
    assert_reason(&ended(&ravelin, "/sending"), 499, "left_sending");
}

#[test]
fn a_pool_that_cannot_be_used_says_why() {
    let nobody = || format!("http://127.0.0.1:{}", free_port());
    let fails = Origin::serve(|_| b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec());
    let all = [
        ("broken", fails.url(), "circuit_breaker = { window = 2, minimum = 2, open = 60 }", ""),
        (
            "down",
            nobody(),
            "load_balancing = { fail_open = false }",
            "max_fails = 1\nfail_timeout = 60",
        ),
    ];
    let another = format!(
        "[[sites.proxy.upstreams]]\nname = \"down\"\nurl = \"{}\"\nmax_fails = 1\nfail_timeout = 60\n",
        nobody()
    );
    let toml = pools(&all).replacen(
        "[[sites.proxy.upstreams]]",
        &(another + "[[sites.proxy.upstreams]]"),
        1,
    );
    let ravelin = Ravelin::start(&(JSON.to_owned() + &toml));
    for number in 0..2 {
        ravelin.get(&format!("/broken/{number}")).expect(500);
    }
    ravelin.get("/broken/open").expect(503);
    assert_reason(&ended(&ravelin, "/broken/open"), 503, "circuit_open");
    ravelin.get("/down/first").expect(502);
    ravelin.get("/down/second").expect(502);
    ravelin.get("/down/then").expect(503);
    assert_reason(&ended(&ravelin, "/down/then"), 503, "no_endpoint");
    let line = ended(&ravelin, "/broken/0");
    assert_eq!(line.get("ended").text(), "complete", "a 500 is a response like any other");
}

#[test]
fn what_is_cut_off_at_the_end_has_a_name() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let ravelin = Ravelin::start(&(JSON.to_owned() + &site(&[&origin.url()], "")));
    let mut client = ravelin.client();
    client.send(get("/waiting"));
    origin.request(0);
    ravelin.signal("QUIT");
    assert_reason(&ended(&ravelin, "/waiting"), 0, "cut_off");
}

#[test]
fn a_websocket_that_ends_badly_has_a_name() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        conn.wait_closed();
    });
    let more = "websocket = { client_max_message_size = 100, idle_timeout = \"1s\" }\n";
    let ravelin = Ravelin::start(&(JSON.to_owned() + &site(&[&origin.url()], more)));
    let open = |target: &str| {
        let mut client = ravelin.client();
        client.ask(upgrade(target, "")).expect(101);
        client
    };
    let mut idle = open("/idle");
    let mut large = open("/large");
    large.send([&[0x82, 0x80 | 126, 1, 0, 1, 2, 3, 4][..], &[0; 256]].concat());
    let _ = large.wire.rest();
    assert_reason(&ended(&ravelin, "/large"), 101, "client_message_too_large");
    let mut faulty = open("/faulty");
    faulty.send([0xff, 0xff]);
    let _ = faulty.wire.rest();
    assert_reason(&ended(&ravelin, "/faulty"), 101, "client_frames");
    let _ = idle.wire.rest();
    assert_reason(&ended(&ravelin, "/idle"), 101, "tunnel_idle");
}

#[test]
fn connections_without_a_request_have_a_line_if_asked_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.server(&["a.test"]);
    let origin = Origin::saying("");
    for wanted in [true, false] {
        let logging = format!(
            "[logging]\nformat = \"json\"\nfailed_connections = {wanted}\nlevel = \"debug\"\n"
        );
        let toml = logging + &tls_site("a.test", "", &origin.url());
        let ravelin = Setup::new(&toml).pair("a.test", &pair).start();
        let stranger = TlsClient::trusting(&other);
        assert!(stranger.try_connect(ravelin.addr(), "a.test").is_err());
        ravelin.stderr.line_with(&["debug client 127.0.0.1: "]);
        let mut client = TlsClient::trusting(&authority).connect(ravelin.addr(), "a.test");
        client.get_from("a.test", "/after").expect(200);
        let after = Json::parse(&ravelin.stdout.line_with(&["/after"]));
        assert!(after.get("tls").text().starts_with("TLSv1."), "{after:?}");
        assert_eq!(after.get("sni").text(), "a.test");
        assert!(after.get("tls_us").number() > 0.0 && after.get("accept_us").number() >= 0.0);
        if wanted {
            // Another worker may have had that connection, and it hands its lines over when it likes.
            let failed = Json::parse(&ravelin.stdout.line_with(&["\"accept\""]));
            assert_reason(&failed, 0, "tls_handshake");
        }
        let lines = ravelin.stdout.all();
        let failed = lines.iter().filter(|line| line.contains("\"accept\"")).count();
        assert_eq!(failed, usize::from(wanted), "{lines:?}");
    }
}

#[test]
fn a_body_that_grows_too_large_has_the_name_of_one_that_is_announced() {
    let origin = Origin::script(|conn| {
        let _ = conn.try_request();
    });
    let toml = format!("{JSON}[security]\nmax_request_size = 100\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let head = "POST /grows HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = chunked(&[b'x'; 200], &[50], "");
    ravelin.ask([head.as_bytes(), &body].concat()).expect(413);
    let line = ended(&ravelin, "/grows");
    assert_reason(&line, 413, "body_too_large");
    assert_eq!(line.get("phase").text(), "send");
}
