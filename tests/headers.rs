//! What happens to fields on their way, both ways.

use crate::harness::*;

/// No fields of Ravelin's own on the request.
const BARE: &str = "[sites.proxy.headers]\nadd_x_forwarded = false\nadd_forwarded = false\n";

fn names(request: &Request) -> Vec<String> {
    request.head.names().iter().map(|n| n.to_string()).collect()
}

#[test]
fn order_and_case_of_request_fields_are_kept() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before_with(&origin, BARE);
    ravelin.ask(
        "GET / HTTP/1.1\r\nX-Zeta: 1\r\nhOST: example.com\r\nacCept: */*\r\nX-Alpha:2\r\n\
         x-zeta:  3  \r\nCookie: a=b; c=d\r\n\r\n",
    );
    let request = origin.request(0);
    let end_to_end: Vec<String> =
        names(&request).into_iter().filter(|n| !n.eq_ignore_ascii_case("host")).collect();
    assert_eq!(end_to_end, ["X-Zeta", "acCept", "X-Alpha", "x-zeta", "Cookie"]);
    assert_eq!(request.head.all("x-zeta"), ["1", "3"]);
    assert_eq!(request.get("cookie"), Some("a=b; c=d"));
    assert_eq!(request.get("host"), Some("example.com"));
}

#[test]
fn order_and_case_of_response_fields_are_kept() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 Very Fine\r\nX-B: 1\r\nset-cookie: a=1; Path=/\r\ncontent-LENGTH: 0\r\n\
          Set-Cookie: b=2, x\r\nx-a: 2\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: mine\r\n\
          SET-COOKIE: c=3\r\n\r\n"
            .to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.get("/").expect(200);
    assert_eq!(response.head.start, "HTTP/1.1 200 Very Fine");
    let kept: Vec<&str> = response
        .head
        .names()
        .into_iter()
        .filter(|n| !n.eq_ignore_ascii_case("content-length"))
        .collect();
    assert_eq!(kept, ["X-B", "set-cookie", "Set-Cookie", "x-a", "Date", "Server", "SET-COOKIE"]);
    assert_eq!(response.head.all("set-cookie"), ["a=1; Path=/", "b=2, x", "c=3"]);
    assert_eq!(response.get("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
}

#[test]
fn field_values_pass_byte_for_byte() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nX-Latin: caf\xe9\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask(
        b"GET / HTTP/1.1\r\nHost: example.com\r\nX-Latin: \xe9t\xe9\r\nX-Tab: a\tb\r\nX-Empty:\r\n\r\n",
    );
    let request = origin.request(0);
    assert_eq!(request.get("x-latin"), Some("\u{e9}t\u{e9}"));
    assert_eq!(request.get("x-tab"), Some("a\tb"));
    assert_eq!(request.get("x-empty"), Some(""));
    assert_eq!(response.get("x-latin"), Some("caf\u{e9}"));
}

#[test]
fn x_forwarded_fields_say_who_asked_and_how() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask("GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n").expect(200);
    let request = origin.request(0);
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.get("x-forwarded-host"), Some("example.com:8080"));
    let port = ravelin.addr().port().to_string();
    assert_eq!(request.get("x-forwarded-port"), Some(port.as_str()));
}

#[test]
fn x_forwarded_for_is_appended_to() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask(
        "GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: 203.0.113.7\r\n\
         X-Forwarded-For: 198.51.100.2, 192.0.2.1\r\n\r\n",
    );
    let all = origin.request(0).head.all("x-forwarded-for").join(", ");
    assert_eq!(all, "203.0.113.7, 198.51.100.2, 192.0.2.1, 127.0.0.1");
}

#[test]
fn forged_x_forwarded_proto_and_host_of_an_untrusted_peer_are_replaced() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask(
        "GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 443\r\n\r\n",
    );
    let request = origin.request(0);
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.get("x-forwarded-host"), Some("example.com"));
    assert_ne!(request.get("x-forwarded-port"), Some("443"));
}

#[test]
fn the_client_address_is_the_right_most_untrusted_one() {
    let origin = Origin::saying("");
    let toml = format!(
        "[security]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n[logging]\nformat = \"combined\"\n{}",
        site(&[&origin.url()], "")
    );
    let ravelin = Ravelin::start(&toml);
    let ask = |path: &str, xff: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: {xff}\r\n\r\n");
        ravelin.ask(request).expect(200);
        let line = ravelin.stdout.line_with(&[&format!("GET {path} ")]);
        line.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(ask("/one", "6.6.6.6, 203.0.113.7, 10.1.2.3"), "203.0.113.7");
    assert_eq!(ask("/two", "203.0.113.7"), "203.0.113.7");
    assert_eq!(ask("/three", "6.6.6.6, 2001:db8::1"), "2001:db8::1");
}

#[test]
fn without_trusted_proxies_x_forwarded_for_is_not_believed() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask("GET /spoof HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
    let line = ravelin.stdout.line_with(&["GET /spoof "]);
    assert!(line.starts_with("127.0.0.1 "), "{line}");
}

#[test]
fn rfc7239_forwarded_is_sent_and_appended_to() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask("GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n");
    let first = origin.request(0);
    let element = first.get("forwarded").unwrap().to_owned();
    let mut parts: Vec<&str> = element.split(';').collect();
    parts.sort_unstable();
    assert!(parts.contains(&"for=127.0.0.1"), "{element}");
    assert!(parts.contains(&"proto=http"), "{element}");
    assert!(parts.contains(&"host=\"example.com:8080\""), "a port needs quotes: {element}");
    ravelin.ask(
        "GET / HTTP/1.1\r\nHost: example.com\r\nForwarded: for=192.0.2.60;proto=https\r\n\r\n",
    );
    let all = origin.request(1).head.all("forwarded").join(", ");
    assert!(all.starts_with("for=192.0.2.60;proto=https, "), "{all}");
    assert!(all.contains("for=127.0.0.1"), "{all}");
}

#[test]
fn forwarding_fields_can_be_turned_off() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before_with(&origin, BARE);
    ravelin.get("/").expect(200);
    let request = origin.request(0);
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via"] {
        assert!(!request.head.has(name), "{name}: {:?}", request.head);
    }
}

#[test]
fn rfc9110_7_6_1_hop_by_hop_fields_stay_on_their_hop() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=99\r\n\
          X-Private: 1\r\nProxy-Connection: keep-alive\r\nX-Public: 2\r\nProxy-Authenticate: Basic\r\n\
          Upgrade: h2c\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask(
        "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, X-Secret ,,x-other\r\n\
         Keep-Alive: 300\r\nX-Secret: s\r\nX-Other: o\r\nX-Kept: k\r\nProxy-Connection: close\r\n\
         TE: trailers, deflate\r\nProxy-Authorization: Basic x\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABk\r\nProxy: http://evil\r\n\r\n",
    );
    let request = origin.request(0);
    assert_eq!(request.get("x-kept"), Some("k"));
    for name in [
        "x-secret",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "proxy",
    ] {
        assert!(!request.head.has(name), "{name} reached the origin: {:?}", request.head);
    }
    assert!(matches!(request.get("te"), None | Some("trailers")), "{:?}", request.head);
    assert_eq!(response.get("x-public"), Some("2"));
    for name in ["x-private", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!response.head.has(name), "{name} reached the client: {:?}", response.head);
    }
}

#[test]
fn cve_2024_45410_connection_cannot_remove_what_the_proxy_sets() {
    let origin = Origin::saying("");
    let more = "[sites.proxy.headers.add]\n\"X-Gateway\" = \"G\"\n";
    let ravelin = Ravelin::before_with(&origin, more);
    ravelin.ask(
        "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close, X-Forwarded-For, X-Real-IP, \
         X-Gateway, X-Forwarded-Proto, X-Forwarded-Host, Forwarded, Host, Content-Length\r\n\
         X-Real-IP: 6.6.6.6\r\nContent-Length: 2\r\n\r\nab",
    );
    let request = origin.request(0);
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.get("x-forwarded-host"), Some("example.com"));
    assert_eq!(request.get("x-gateway"), Some("G"));
    assert_eq!(request.get("host"), Some("example.com"));
    assert_eq!(request.body, b"ab", "the framing is not the client's to remove");
    assert!(request.head.has("forwarded"));
    assert_ne!(request.get("x-real-ip"), Some("6.6.6.6"));
}

#[test]
fn preserve_host_false_sends_the_upstreams_own() {
    let origin = Origin::saying("");
    let more = "[sites.proxy.headers]\npreserve_host = false\n";
    let ravelin = Ravelin::before_with(&origin, more);
    ravelin.get("/").expect(200);
    let request = origin.request(0);
    assert_eq!(request.get("host"), Some(origin.addr().to_string().as_str()));
    assert_eq!(request.get("x-forwarded-host"), Some("example.com"));
}

#[test]
fn headers_add_works_both_ways_and_replaces() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nX-API-Gateway: forged\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    let more = "[sites.proxy.headers.add]\n\"X-API-Gateway\" = \"BWS\"\n";
    let ravelin = Ravelin::before_with(&origin, more);
    let response =
        ravelin.ask("GET / HTTP/1.1\r\nHost: example.com\r\nx-api-gateway: forged\r\n\r\n");
    assert_eq!(origin.request(0).get("x-api-gateway"), Some("BWS"));
    assert_eq!(response.get("x-api-gateway"), Some("BWS"));
}

#[test]
fn headers_remove_works_both_ways_as_table_and_as_list() {
    for remove in [
        "[sites.proxy.headers.remove]\n\"X-Secret\" = true\n\"X-Kept\" = false\n",
        "[sites.proxy.headers]\nremove = [\"x-secret\"]\n",
    ] {
        let origin = Origin::serve(|_| {
            b"HTTP/1.1 200 OK\r\nX-Secret: 1\r\nx-kept: 1\r\nX-SECRET: 2\r\nContent-Length: 0\r\n\r\n"
                .to_vec()
        });
        let ravelin = Ravelin::before_with(&origin, remove);
        let response =
            ravelin.ask("GET / HTTP/1.1\r\nHost: example.com\r\nX-secret: 1\r\nX-Kept: 1\r\n\r\n");
        assert!(!response.head.has("x-secret"), "{:?}", response.head);
        assert!(response.head.has("x-kept"), "{:?}", response.head);
        let request = origin.request(0);
        assert!(!request.head.has("x-secret"), "{:?}", request.head);
        assert!(request.head.has("x-kept"), "{:?}", request.head);
    }
}

#[test]
fn request_headers_and_response_headers_are_for_one_way_only() {
    let origin =
        Origin::serve(|_| b"HTTP/1.1 200 OK\r\nX-Both: 1\r\nContent-Length: 0\r\n\r\n".to_vec());
    let more = "[sites.proxy.request_headers]\nremove = [\"X-Both\"]\n\
                set = { \"X-To-Origin\" = \"1\" }\n\
                [sites.proxy.response_headers]\nset = { \"X-To-Client\" = \"2\" }\n";
    let ravelin = Ravelin::before_with(&origin, more);
    let response = ravelin.ask("GET / HTTP/1.1\r\nHost: example.com\r\nX-Both: 1\r\n\r\n");
    let request = origin.request(0);
    assert_eq!(request.get("x-to-origin"), Some("1"));
    assert!(!request.head.has("x-to-client") && !request.head.has("x-both"));
    assert_eq!(response.get("x-to-client"), Some("2"));
    assert!(!response.head.has("x-to-origin"));
    assert!(response.head.has("x-both"));
}

#[test]
fn site_headers_are_set_on_proxied_responses_too() {
    let origin = Origin::saying("");
    let toml = site_with("[sites.headers]\n\"X-Site\" = \"yes\"\n", &[&origin.url()], "");
    let ravelin = Ravelin::start(&toml);
    assert_eq!(ravelin.get("/").get("x-site"), Some("yes"));
}

const AUTO: &str = "[sites.proxy.headers.add]\n\"X-Request-ID\" = \"auto\"\n";

#[test]
fn x_request_id_auto_makes_one_id_for_upstream_client_and_log() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before_with(&origin, AUTO);
    let response = ravelin.get("/").expect(200);
    let id = response.get("x-request-id").unwrap().to_owned();
    assert_eq!(origin.request(0).get("x-request-id"), Some(id.as_str()));
    let digits: Vec<&str> = id.split('-').collect();
    assert_eq!(digits.iter().map(|d| d.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
    assert!(digits[2].starts_with('7'), "a UUIDv7: {id}");
    assert!(digits[3].starts_with(['8', '9', 'a', 'b']), "the RFC 9562 variant: {id}");
    ravelin.stdout.line_with(&["GET / ", &id]);
    let other = ravelin.get("/").get("x-request-id").unwrap().to_owned();
    assert_ne!(other, id);
}

#[test]
fn x_request_id_auto_keeps_a_valid_one_of_the_client() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before_with(&origin, AUTO);
    let response =
        ravelin.ask("GET / HTTP/1.1\r\nHost: example.com\r\nx-request-id: 42-abc\r\n\r\n");
    assert_eq!(response.get("x-request-id"), Some("42-abc"));
    assert_eq!(origin.request(0).get("x-request-id"), Some("42-abc"));
    ravelin.stdout.line_with(&["GET / ", "42-abc"]);
}

#[test]
fn x_request_id_auto_replaces_an_invalid_one() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before_with(&origin, AUTO);
    let long = "x".repeat(129);
    for (i, bad) in ["a b", "<script>", "", "\u{e9}", &long].iter().enumerate() {
        let request = format!("GET / HTTP/1.1\r\nHost: example.com\r\nX-Request-ID: {bad}\r\n\r\n");
        let response = ravelin.ask(request).expect(200);
        let id = response.get("x-request-id").unwrap();
        assert_eq!(id.len(), 36, "{bad:?} -> {id}");
        assert_eq!(origin.request(i).get("x-request-id"), Some(id));
    }
}

#[test]
fn the_origins_server_and_date_pass_and_none_are_invented_twice() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nServer: theirs\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
          Content-Length: 0\r\n\r\n"
            .to_vec()
    });
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.get("/").expect(200);
    assert_eq!(response.get("server"), Some("theirs"));
    assert_eq!(response.get("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
}

#[test]
fn via_is_off_unless_asked_for() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.get("/").expect(200);
    assert!(!response.head.has("via") && !origin.request(0).head.has("via"));
    let ravelin = Ravelin::before_with(&origin, "[sites.proxy.headers]\nvia = true\n");
    let response = ravelin.get("/").expect(200);
    assert!(response.get("via").unwrap().starts_with("1.1 "));
    assert!(origin.request(1).get("via").unwrap().starts_with("1.1 "));
}

#[test]
fn rfc9112_3_2_a_request_without_host_goes_upstream_with_the_endpoints() {
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask("GET / HTTP/1.0\r\n\r\n").expect(200);
    assert_eq!(origin.request(0).get("host"), Some(origin.addr().to_string().as_str()));
}

#[test]
fn a_forged_field_with_underscores_does_not_pass_for_one_of_ours() {
    let origin = Origin::saying("x");
    let rules = "[sites.proxy.request_headers]\nset = { \"X-User\" = \"nobody\" }\n";
    let ravelin = Ravelin::before_with(&origin, rules);
    ravelin
        .ask(
            "GET / HTTP/1.1\r\nHost: example.com\r\nX_Forwarded_For: 6.6.6.6\r\n\
             x-forwarded_proto: https\r\nContent_Length: 7\r\nX_User: root\r\nMy_Own: x\r\n\r\n",
        )
        .expect(200);
    let request = origin.request(0);
    for name in ["X_Forwarded_For", "x-forwarded_proto", "Content_Length", "X_User"] {
        assert!(!request.head.has(name), "{:?}", request.head);
    }
    assert_eq!(request.get("x-user"), Some("nobody"));
    assert_eq!(request.get("my_own"), Some("x"));
}
