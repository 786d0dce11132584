//! How many requests are taken in a time.
//!
//! Rates are so slow that nothing comes back while a test runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

/// A proxied site with these keys of its own.
fn limited(origin: &Origin, keys: &str) -> Ravelin {
    Ravelin::start(&site_with(keys, &[&origin.url()], ""))
}

/// How many of so many requests from there are taken; the others are 429.
fn taken(ravelin: &Ravelin, ip: &str, request: &str, times: usize) -> usize {
    let mut client = Client::connect_from(ip, ravelin.addr());
    let answered = (0..times).map(|_| client.ask(request).status);
    answered
        .filter(|status| {
            matches!(status, 200..300) || {
                assert_eq!(*status, 429);
                false
            }
        })
        .count()
}

/// The number behind `name=` in a field.
fn parameter(response: &Response, field: &str, name: &str) -> u64 {
    let value = response.get(field).unwrap_or_else(|| panic!("no {field}: {:?}", response.head));
    let found = value.split(';').find_map(|part| part.strip_prefix(&format!("{name}=")));
    found.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{field}: {value}"))
}

#[test]
fn limits_of_one_zone_count_together_and_others_apart() {
    let origin = Origin::saying("in");
    let route = |path: &str, zone: &str| {
        format!(
            "[[sites.routes]]\npath = \"{path}\"\nupstream = \"backend\"\n\
             rate_limit = [{{ requests = 3, per = \"1h\", key = \"route\", zone = \"{zone}\" }}]\n"
        )
    };
    let routes = [route("/a", "x"), route("/b", "x"), route("/c", "y")].concat();
    let ravelin = Ravelin::start(&site_with("", &[&origin.url()], &routes));
    let ask = |path: &str| ravelin.get(path).status;
    assert_eq!([ask("/a"), ask("/b"), ask("/a")], [200; 3]);
    assert_eq!([ask("/a"), ask("/b")], [429; 2]);
    assert_eq!([ask("/c"), ask("/c"), ask("/c"), ask("/c")], [200, 200, 200, 429]);
}

#[test]
fn a_burst_passes_and_what_follows_is_told_when_to_come_again() {
    let origin = Origin::saying("in");
    let ravelin = limited(&origin, "[[sites.rate_limit]]\nrequests = 3\nper = \"1h\"\n");
    let mut client = ravelin.client();
    for left in [2, 1, 0] {
        let response = client.get("/").expect(200);
        assert_eq!(response.get("ratelimit-policy"), Some("\"site\";q=3;w=3600"));
        assert!(response.get("ratelimit").unwrap().starts_with("\"site\";r="));
        assert_eq!(parameter(&response, "ratelimit", "r"), left);
        assert!(!response.head.has("retry-after"));
    }
    let refused = client.get("/").expect(429);
    let after: u64 = refused.get("retry-after").unwrap().parse().unwrap();
    assert!((1100..=1200).contains(&after), "{after}");
    assert_eq!(parameter(&refused, "ratelimit", "r"), 0);
    assert_eq!(parameter(&refused, "ratelimit", "t"), after);
    assert_eq!(origin.requests().len(), 3, "what is refused reaches nobody");
    let line = ravelin.stdout.line_with(&[" 429 "]);
    assert!(line.contains("ended=client phase=decide cause=rate_limit"), "{line}");
}

#[test]
fn a_refused_upload_does_not_break_the_connection() {
    let origin = Origin::saying("in");
    let ravelin = limited(
        &origin,
        "[[sites.rate_limit]]\nrequests = 1\nper = \"1h\"\nmethods = [\"POST\"]\n",
    );
    let post = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello";
    let mut client = ravelin.client();
    client.ask(post).expect(200);
    client.ask(post).expect(429);
    client.ask(post).expect(429);
    assert_eq!(client.get("/").expect(200).text(), "in");
}

#[test]
fn addresses_are_counted_apart() {
    let origin = Origin::saying("in");
    let ravelin = limited(&origin, "rate_limit = { requests = 2, per = \"1h\" }\n");
    assert_eq!(taken(&ravelin, "127.0.0.1", GET, 5), 2);
    assert_eq!(taken(&ravelin, "127.0.0.2", GET, 5), 2);
    assert_eq!(taken(&ravelin, "127.0.0.1", GET, 5), 0);
}

#[test]
fn all_workers_share_one_limit() {
    let origin = Origin::saying("in");
    let ravelin = Ravelin::start(&format!(
        "[performance]\nworker_threads = 2\n{}",
        site_with("rate_limit = { requests = 50, per = \"10h\" }\n", &[&origin.url()], "")
    ));
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // A connection each, so that both workers have some.
                for _ in 0..25 {
                    match ravelin.client().ask(GET).status {
                        200 => _ = passed.fetch_add(1, Ordering::Relaxed),
                        status => assert_eq!(status, 429),
                    }
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 50);
    assert_eq!(origin.requests().len(), 50);
}

#[test]
fn keys_may_be_fields_cookies_or_all_together() {
    let origin = Origin::saying("in");
    let with = |field: &str| format!("GET / HTTP/1.1\r\nHost: example.com\r\n{field}\r\n\r\n");
    for (key, one, other) in [
        ("header:X-Api-Key", "X-Api-Key: one", "x-api-key: other"),
        ("cookie:session", "Cookie: a=b; session=one", "Cookie: session=other; a=b"),
    ] {
        let keys = format!("rate_limit = {{ requests = 2, per = \"1h\", key = \"{key}\" }}\n");
        let ravelin = limited(&origin, &keys);
        assert_eq!(taken(&ravelin, "127.0.0.1", &with(one), 1), 1);
        assert_eq!(taken(&ravelin, "127.0.0.2", &with(one), 3), 1, "{key}");
        assert_eq!(taken(&ravelin, "127.0.0.1", &with(other), 3), 2, "{key}");
        assert_eq!(taken(&ravelin, "127.0.0.1", GET, 3), 2, "{key}: without, the address counts");
    }
    let ravelin =
        limited(&origin, "rate_limit = { requests = 3, per = \"1h\", key = \"route\" }\n");
    assert_eq!(taken(&ravelin, "127.0.0.1", GET, 2), 2);
    assert_eq!(taken(&ravelin, "127.0.0.2", GET, 2), 1);
}

#[test]
fn who_is_on_the_whitelist_is_neither_counted_nor_told() {
    let origin = Origin::saying("in");
    let ravelin = limited(
        &origin,
        "[[sites.rate_limit]]\nrequests = 1\nper = \"1h\"\nkey = \"route\"\n\
         whitelist = [\"127.0.1.0/24\", \"::1\"]\n",
    );
    assert_eq!(taken(&ravelin, "127.0.1.7", GET, 5), 5);
    let response = Client::connect_from("127.0.1.7", ravelin.addr()).ask(GET).expect(200);
    assert!(!response.head.has("ratelimit") && !response.head.has("ratelimit-policy"));
    assert_eq!(taken(&ravelin, "127.0.0.1", GET, 5), 1);
}

#[test]
fn paths_and_methods_choose_what_counts() {
    let origin = Origin::saying("in");
    let ravelin = limited(
        &origin,
        "[[sites.rate_limit]]\nname = \"login\"\nrequests = 1\nper = \"1h\"\nmethods = [\"POST\"]\n\
         path = \"^/(login|signup)$\"\nmatch = \"regex\"\nstatus = 503\n",
    );
    let post = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n")
    };
    let mut client = ravelin.client();
    for _ in 0..3 {
        client.get("/login").expect(200);
        client.ask(post("/other")).expect(200);
    }
    client.ask(post("/login")).expect(200);
    let refused = client.ask(post("/signup")).expect(503);
    assert!(refused.get("ratelimit").unwrap().starts_with("\"login\";r=0;t="));
}

#[test]
fn a_request_has_to_pass_its_sites_and_its_routes_limits() {
    let origin = Origin::saying("in");
    let ravelin = Ravelin::start(&site_with(
        "rate_limit = { requests = 5, per = \"1h\" }\n",
        &[&origin.url()],
        "[[sites.routes]]\npath = \"/slow\"\nupstream = \"backend\"\n\
         rate_limit = [{ requests = 2, per = \"2h\" }, { requests = 100, per = \"3h\", fields = false }]\n",
    ));
    let slow = "GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let response = ravelin.ask(slow).expect(200);
    let policies = "\"site\";q=5;w=3600, \"route\";q=2;w=7200";
    assert_eq!(response.get("ratelimit-policy"), Some(policies));
    assert_eq!(taken(&ravelin, "127.0.0.1", slow, 10), 1);
    // What the route refused the site has not counted.
    assert_eq!(taken(&ravelin, "127.0.0.1", GET, 10), 3);
}

#[test]
fn http2_upgrades_and_files_count_alike() {
    let origin = Origin::saying("in");
    let toml = site_with(
        "static_dir = \"www\"\nh2c = true\nrate_limit = { requests = 4, per = \"1h\" }\n",
        &[&origin.url()],
        "websocket = true\n",
    );
    let toml = toml.replace("path = \"/\"", "path = \"/app\"");
    let ravelin = Setup::new(&toml).file("www/index.html", "page").start();
    assert_eq!(parameter(&ravelin.get("/").expect(200), "ratelimit", "r"), 3);
    assert_eq!(parameter(&ravelin.get("/none").expect(404), "ratelimit", "r"), 2);
    let mut http2 = Http2::connect(ravelin.addr());
    assert_eq!(http2.get(1, "/app").status, 200);
    let upgrade = "GET /app HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // The origin answers it as any request.
    assert_eq!(parameter(&ravelin.ask(upgrade).expect(200), "ratelimit", "r"), 0);
    ravelin.ask(upgrade).expect(429);
    ravelin.get("/").expect(429);
    assert_eq!(http2.get(3, "/app").status, 429);
    let (_, said, _) = curl_any(&["--http2-prior-knowledge", "-i", &ravelin.url("/")]);
    assert!(said.starts_with("HTTP/2 429") && said.contains("\r\nretry-after: "), "{said}");
    // Ravelin's own health is not counted.
    ravelin.get("/api/health").expect(200);
}

#[test]
fn the_limit_of_security_is_one_for_all_sites() {
    let origin = Origin::saying("in");
    let one = site(&[&origin.url()], "");
    let other = one.replace("\"test\"", "\"other\"").replace("example.com", "other.example");
    let ravelin = Ravelin::start(&format!(
        "[security.rate_limiting]\nrequests_per_minute = 1\nburst_size = 3\n\
         whitelist = [\"127.0.0.5\"]\n{one}\n{other}"
    ));
    let get = |host: &str| ravelin.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let response = get("example.com").expect(200);
    assert_eq!(response.get("ratelimit-policy"), Some("\"global\";q=1;w=60"));
    get("other.example").expect(200);
    get("example.com").expect(200);
    get("other.example").expect(429);
    get("example.com").expect(429);
    assert_eq!(taken(&ravelin, "127.0.0.5", GET, 9), 9);
}

#[test]
fn who_is_denied_or_asks_a_preflight_is_not_counted() {
    let origin = Origin::saying("in");
    let ravelin = limited(
        &origin,
        "rate_limit = { requests = 1, per = \"1h\", key = \"route\" }\n\
         access = { deny = [\"127.0.0.2\"] }\naccess_control = { allow_origins = [\"*\"] }\n",
    );
    let preflight = "OPTIONS / HTTP/1.1\r\nHost: example.com\r\nOrigin: https://a.example\r\n\
                     Access-Control-Request-Method: GET\r\n\r\n";
    for _ in 0..5 {
        Client::connect_from("127.0.0.2", ravelin.addr()).ask(GET).expect(403);
        ravelin.ask(preflight).expect(204);
    }
    ravelin.ask(GET).expect(200);
    // A page can read why.
    let from_page = GET.replace("\r\n\r\n", "\r\nOrigin: https://a.example\r\n\r\n");
    let refused = ravelin.ask(from_page).expect(429);
    assert_eq!(refused.get("access-control-allow-origin"), Some("*"));
}

#[test]
fn a_request_that_may_wait_is_held_until_its_time() {
    let origin = Origin::saying("in");
    let ravelin = limited(
        &origin,
        "[[sites.rate_limit]]\nrequests = 5\nper = \"1s\"\nburst = 1\nwait = \"10s\"\n",
    );
    let mut client = ravelin.client();
    let begin = Instant::now();
    for _ in 0..4 {
        client.get("/").expect(200);
    }
    // The first at once, the others a fifth of a second apart.
    assert!(begin.elapsed() >= Duration::from_millis(590), "{:?}", begin.elapsed());
}

#[test]
fn a_client_that_leaves_while_it_is_held_is_forgotten() {
    let origin = Origin::saying("in");
    let ravelin = limited(
        &origin,
        "[[sites.rate_limit]]\nrequests = 1\nper = \"1h\"\nburst = 1\nwait = \"2h\"\n",
    );
    ravelin.ask(GET).expect(200);
    let mut client = ravelin.client();
    client.send(GET);
    client.reset();
    ravelin.stdout.line_with(&[" 499 ", "ended=client phase=decide cause=closed"]);
    assert_eq!(origin.requests().len(), 1);
}
