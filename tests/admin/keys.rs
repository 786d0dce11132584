//! Who is answered, over TCP and on the socket, and what those may do.

use super::{address, ask, get, request, socket};
use crate::harness::{Client, Json, Origin, Ravelin, Setup, curl, curl_any, ok, site};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn with_tcp(origin: &Origin, keys: &str) -> String {
    let site = site(&[&origin.url()], "");
    format!("{site}\n[management]\nenabled = true\nport = 0\n{keys}\n")
}

fn with_key(origin: &Origin) -> Ravelin {
    Ravelin::start(&with_tcp(origin, &format!("api_key = \"{KEY}\"")))
}

#[test]
fn over_tcp_every_request_needs_the_key() {
    let origin = Origin::saying("traffic");
    let ravelin = with_key(&origin);
    let admin = address(&ravelin, "admin API");
    let host = admin.to_string();
    let status = |lines: &str, path: &str| {
        Client::connect(admin).ask(request("GET", path, &host, lines, "")).status
    };
    assert_eq!(status("", "/v1/status"), 401);
    assert_eq!(status("X-API-Key: wrong\r\n", "/v1/status"), 401);
    assert_eq!(status("Authorization: Bearer wrong\r\n", "/v1/status"), 401);
    assert_eq!(status(&format!("X-API-Key: {KEY}x\r\n"), "/v1/status"), 401);
    assert_eq!(status(&format!("X-API-Key: {KEY}\r\n"), "/v1/status"), 200);
    assert_eq!(status(&format!("Authorization: Bearer {KEY}\r\n"), "/v1/status"), 200);
    // Whoever has no key does not learn what there is.
    assert_eq!(status("", "/nothing"), 401);
    assert_eq!(status(&format!("X-API-Key: {KEY}\r\n"), "/nothing"), 404);

    let refused = Client::connect(admin).ask(request("GET", "/v1/status", &host, "", ""));
    let challenges = refused.head.all("www-authenticate");
    assert!(challenges.iter().any(|it| it.starts_with("Bearer")), "{challenges:?}");
    let problem = Json::parse(&refused.text());
    assert_eq!(refused.get("content-type"), Some("application/problem+json"));
    assert_eq!(
        (problem.get("status").number(), problem.get("title").text()),
        (401.0, "Unauthorized")
    );
    ravelin.stderr.line_with(&[" warn ", "admin: a request of 127.0.0.1 has not the right key"]);
    let named = format!("admin:{KEY}");
    let page = curl(&["-u", &named, &format!("http://{admin}/v1/status")]);
    assert!(page.contains("\"generation\":1"), "{page}");
}

#[test]
fn the_reload_that_bws_has_works_as_it_is_written() {
    let origin = Origin::saying("before");
    let other = Origin::saying("after");
    let toml = with_tcp(&origin, &format!("api_key = \"{KEY}\""));
    let ravelin = Ravelin::start(&toml);
    let url = format!("http://{}/api/config/reload", address(&ravelin, "admin API"));
    let key = format!("X-API-Key: {KEY}");
    assert_eq!(ravelin.get("/").text(), "before");
    std::fs::write(ravelin.dir().join("ravelin.toml"), toml.replace(&origin.url(), &other.url()))
        .unwrap();

    let (_, wrong, _) = curl_any(&[
        "-w",
        "%{http_code}",
        "-o",
        "/dev/null",
        "-X",
        "POST",
        "-H",
        "X-API-Key: no",
        &url,
    ]);
    assert_eq!(wrong, "401");
    assert_eq!(ravelin.get("/").text(), "before");
    let answer = Json::parse(&curl(&["-X", "POST", "-H", &key, &url]));
    assert_eq!(answer.get("status").text(), "success");
    assert_eq!(answer.get("generation").number(), 2.0);
    assert_eq!(ravelin.get("/").text(), "after");
    let (_, got, _) = curl_any(&["-w", "%{http_code}", "-o", "/dev/null", "-H", &key, &url]);
    assert_eq!(got, "405");
}

#[test]
fn without_a_key_this_machine_may_look_and_reload_but_not_apply() {
    let origin = Origin::saying("traffic");
    let ravelin = Ravelin::start(&with_tcp(&origin, ""));
    let admin = address(&ravelin, "admin API");
    ravelin.stderr.line_with(&[" warn ", "without an `api_key`"]);
    let host = admin.to_string();
    let status = |method: &str, path: &str| {
        Client::connect(admin).ask(request(method, path, &host, "", "")).status
    };
    assert_eq!(status("GET", "/v1/status"), 200);
    assert_eq!(status("POST", "/api/config/reload"), 200);
    assert_eq!(status("PUT", "/v1/config"), 403);
    assert_eq!(status("POST", "/v1/upgrade"), 403);
}

#[test]
fn pages_of_elsewhere_are_not_answered() {
    let origin = Origin::saying("traffic");
    let keys = "allowed_hosts = [\"admin.example.com\"]\n\
                allowed_origins = [\"https://ops.example.com\"]";
    let ravelin = Ravelin::start(&with_tcp(&origin, keys));
    let admin = address(&ravelin, "admin API");
    let own = admin.to_string();
    let port = admin.port();
    let ask = |host: &str, lines: &str| {
        Client::connect(admin).ask(request("POST", "/v1/reload", host, lines, "")).status
    };
    // A name that was made to lead here (DNS rebinding) is in Host.
    assert_eq!(ask(&format!("evil.example:{port}"), ""), 421);
    assert_eq!(ask("127.0.0.1.evil.example", ""), 421);
    assert_eq!(ask("admin.example.com", ""), 200);
    assert_eq!(ask(&format!("localhost:{port}"), ""), 200);
    // A page of another origin is in Origin, for reads too.
    for origin in
        ["http://evil.example", "null", "http://localhost:1", &format!("http://evil.{own}")]
    {
        assert_eq!(ask(&own, &format!("Origin: {origin}\r\n")), 403, "{origin}");
    }
    assert_eq!(ask(&own, &format!("Origin: http://{own}\r\n")), 200);
    assert_eq!(ask(&own, "Origin: https://ops.example.com\r\n"), 200);
    assert_eq!(ask(&own, "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n"), 403);
    assert_eq!(ask(&own, "Sec-Fetch-Site: same-origin\r\n"), 200);
    let answer = Client::connect(admin).ask(request("GET", "/v1/status", &own, "", ""));
    assert!(
        !answer.head.names().iter().any(|name| name.to_lowercase().starts_with("access-control"))
    );
    // The target says where it goes, whatever Host says.
    let absolute = format!("GET http://evil.example/v1/status HTTP/1.1\r\nHost: {own}\r\n\r\n");
    assert_eq!(Client::connect(admin).ask(absolute).status, 400);
    let two = format!("GET /v1/status HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n\r\n");
    assert_eq!(Client::connect(admin).ask(two).status, 400);
    assert_eq!(Client::connect(admin).ask("GET /v1/status HTTP/1.0\r\n\r\n").status, 400);
}

#[test]
fn the_level_of_the_socket_says_what_may_be_done_there() {
    let origin = Origin::saying("traffic");
    for (level, look, reload, apply) in
        [("user", 200, 403, 403), ("operator", 200, 200, 403), ("admin", 200, 200, 400)]
    {
        let keys = format!("[management]\nsocket_level = \"{level}\"");
        let ravelin = Ravelin::start(&format!("{}\n{keys}\n", site(&[&origin.url()], "")));
        let socket = socket(&ravelin);
        assert_eq!(ask(&socket, "GET", "/v1/status", "").status, look, "{level}");
        assert_eq!(ask(&socket, "POST", "/v1/reload", "").status, reload, "{level}");
        // Without a text in it.
        assert_eq!(ask(&socket, "PUT", "/v1/config", "").status, apply, "{level}");
    }
}

#[test]
fn who_gave_an_order_is_in_the_history_and_in_the_log() {
    let origin = Origin::saying("traffic");
    let ravelin = with_key(&origin);
    let (socket, admin) = (socket(&ravelin), address(&ravelin, "admin API"));
    assert_eq!(ask(&socket, "POST", "/v1/reload", "").status, 200);
    let key = format!("X-API-Key: {KEY}\r\n");
    Client::connect(admin)
        .ask(request("POST", "/v1/reload", &admin.to_string(), &key, ""))
        .expect(200);
    let history = get(&socket, "/v1/config/history");
    let authors: Vec<&str> =
        super::items(history.get("entries")).iter().map(|it| it.get("author").text()).collect();
    let own = format!("uid {} pid {}", rustix::process::getuid().as_raw(), std::process::id());
    assert_eq!(authors, ["token from 127.0.0.1", &own, "start"]);
    ravelin.stderr.line_with(&[&format!("admin: {own}: POST /v1/reload")]);
}

#[test]
fn a_new_configuration_may_have_another_key_and_another_place() {
    let origin = Origin::saying("traffic");
    let toml = with_tcp(&origin, &format!("api_key = \"{KEY}\""));
    let ravelin = Ravelin::start(&toml);
    let (socket, admin) = (socket(&ravelin), address(&ravelin, "admin API"));
    let mut kept = Client::connect(admin);
    let status = |client: &mut Client, key: &str| {
        let line = format!("X-API-Key: {key}\r\n");
        client.ask(request("GET", "/v1/status", &admin.to_string(), &line, "")).status
    };
    assert_eq!(status(&mut kept, KEY), 200);
    let reload = |toml: &str| {
        std::fs::write(ravelin.dir().join("ravelin.toml"), toml).unwrap();
        ask(&socket, "POST", "/v1/reload", "").expect(200);
    };
    reload(&toml.replace(KEY, "another-key-that-is-long"));
    // Connections that are open meet it too, and end: who has no key keeps no place.
    assert_eq!(status(&mut kept, KEY), 401);
    assert!(kept.wire.rest().is_ok_and(|rest| rest.is_empty()));
    assert_eq!(status(&mut Client::connect(admin), "another-key-that-is-long"), 200);
    reload(&toml.replace("enabled = true\nport", "enabled = false\nport"));
    crate::harness::until("the address is free", || std::net::TcpListener::bind(admin).is_ok());
    assert_eq!(ask(&socket, "GET", "/v1/status", "").status, 200);
}

#[test]
fn metrics_have_an_address_of_their_own() {
    let origin = Origin::serve(|_| ok("traffic"));
    let port = crate::harness::free_port();
    let keys = format!("[management]\nmetrics = \"127.0.0.1:{port}\"");
    let ravelin = Setup::new(&format!("{}\n{keys}\n", site(&[&origin.url()], ""))).start();
    let metrics = address(&ravelin, "metrics");
    let status = |path: &str| {
        Client::connect(metrics).ask(request("GET", path, &metrics.to_string(), "", "")).status
    };
    assert_eq!(status("/metrics"), 200);
    for path in ["/", "/v1/status", "/v1/config", "/openapi.json"] {
        assert_eq!(status(path), 404, "{path}");
    }
    let posted = request("POST", "/v1/reload", &metrics.to_string(), "", "");
    assert_eq!(Client::connect(metrics).ask(posted).status, 404);
    let rebound = request("GET", "/metrics", "evil.example", "", "");
    assert_eq!(Client::connect(metrics).ask(rebound).status, 421);
}
