//! The documents whose system Ravelin implements, example by example and command by command.

use std::io::{Read as _, Write as _};

use crate::harness::*;

const BASIC: &str = r#"
[[sites]]
name = "proxy"
hostname = "api.example.com"
port = 80
static_dir = "static"

[sites.proxy]
enabled = true

# Backend servers
[[sites.proxy.upstreams]]
name = "backend"
url = "http://127.0.0.1:3001"
weight = 1

[[sites.proxy.upstreams]]
name = "backend" 
url = "http://127.0.0.1:3002"
weight = 2

# Routes
[[sites.proxy.routes]]
path = "/api/"
upstream = "backend"
strip_prefix = false

# Load balancing
[sites.proxy.load_balancing]
method = "round_robin"
"#;

const COMPLETE: &str = r#"
[server]
name = "BWS Proxy Server"

# Main site with mixed static/proxy
[[sites]]
name = "main"
hostname = "example.com"
port = 80
static_dir = "static"

[sites.proxy]
enabled = true

# API backend cluster
[[sites.proxy.upstreams]]
name = "api-cluster"
url = "http://api1.internal:3001"
weight = 2

[[sites.proxy.upstreams]]
name = "api-cluster"
url = "http://api2.internal:3001"
weight = 1

# WebSocket backend
[[sites.proxy.upstreams]]
name = "websocket-backend"
url = "http://ws.internal:3002"

# Route API requests
[[sites.proxy.routes]]
path = "/api/"
upstream = "api-cluster"
strip_prefix = false

# Route WebSocket connections
[[sites.proxy.routes]]
path = "/ws"
upstream = "websocket-backend"
websocket = true

# Load balancing
[sites.proxy.load_balancing]
method = "weighted"

# Timeouts
[sites.proxy.timeout]
read = 30
write = 30
connect = 5

# Headers
[sites.proxy.headers]
add_x_forwarded = true
add_forwarded = true

[sites.proxy.headers.add]
"X-Gateway" = "BWS"
"#;

/// Two directories served by Python, each saying which one it is at /api/test.
fn two_python_backends() -> [(Python, TempDir); 2] {
    ["one", "two"].map(|name| {
        let dir = TempDir::new();
        dir.write("api/test", name);
        (Python::http_server(dir.path()), dir)
    })
}

/// Starts a configuration that names `port = 80` on a free port instead.
fn start_on_free_port(toml: &str) -> (Ravelin, u16) {
    let port = free_port();
    let toml = toml.replace("port = 80", &format!("port = {port}"));
    let setup = Setup::new(&toml).file("static/index.html", "<h1>static</h1>");
    (setup.start(), port)
}

#[test]
fn basic_configuration_and_its_testing_section_line_by_line() {
    let [(one, _dir_one), (two, _dir_two)] = two_python_backends();
    let toml = BASIC
        .replace("127.0.0.1:3001", &format!("127.0.0.1:{}", one.port()))
        .replace("127.0.0.1:3002", &format!("127.0.0.1:{}", two.port()));
    let (ravelin, port) = start_on_free_port(&toml);

    // for i in {1..10}; do curl -H "X-Request-ID: $i" http://localhost/api/test; done
    let mut answers = Vec::new();
    for i in 1..=10 {
        let id = format!("X-Request-ID: {i}");
        answers.push(curl(&["-H", &id, &format!("http://localhost:{port}/api/test")]));
    }
    let of = |name: &str| answers.iter().filter(|a| *a == name).count();
    assert_eq!((of("one"), of("two")), (5, 5), "round robin ignores weights: {answers:?}");

    // Check which backend handled each request: both servers logged five.
    for backend in [&one, &two] {
        backend.stderr.line_with(&["GET /api/test HTTP/1.1", "200"]);
    }
    // curl -v http://localhost/api/test
    let (_, _, verbose) = curl_any(&["-v", &format!("http://localhost:{port}/api/test")]);
    assert!(verbose.contains("< HTTP/1.1 200"), "{verbose}");

    // curl http://localhost/api/health
    let health = curl(&[&format!("http://localhost:{port}/api/health")]);
    assert_eq!(Json::parse(&health).get("status").text(), "ok");

    // tail -f /var/log/bws.log | grep proxy
    ravelin.stdout.line_with(&["/api/test", "proxy", "upstream"]);

    // the rest of the site is static
    assert_eq!(curl(&[&format!("http://localhost:{port}/")]), "<h1>static</h1>");
}

#[test]
fn upstream_connections_can_be_seen_with_netstat() {
    // netstat -an | grep :3001
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(200);
    assert_eq!(established_to(origin.port()), 1, "one kept upstream connection");
}

#[test]
fn complete_example_with_its_host_names_replaced() {
    let one = Origin::saying("one");
    let two = Origin::saying("two");
    let echo = Python::websocket_echo();
    let toml = COMPLETE
        .replace("api1.internal:3001", &one.addr().to_string())
        .replace("api2.internal:3001", &two.addr().to_string())
        .replace("ws.internal:3002", &format!("127.0.0.1:{}", echo.port()));
    let (_ravelin, port) = start_on_free_port(&toml);

    // weight 2 and 1
    let url = format!("http://localhost:{port}/api/test");
    let answers: Vec<String> = (0..9).map(|_| curl(&[&url])).collect();
    let of = |name: &str| answers.iter().filter(|a| *a == name).count();
    assert_eq!((of("one"), of("two")), (6, 3), "{answers:?}");

    let request = one.request(0);
    assert_eq!(request.get("x-gateway"), Some("BWS"));
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    assert!(request.get("forwarded").unwrap().contains("for=127.0.0.1"));
    assert_eq!(request.target, "/api/test");

    // npx wscat -c ws://localhost/ws
    let url = format!("ws://localhost:{port}/ws");
    let said = websocket_client(&url, "ws.send('hello')\nprint(ws.recv())");
    assert_eq!(said.trim(), "hello");

    // curl --upgrade websocket http://localhost/ws, in the flags curl really has
    let (_, answer, _) = curl_any(&[
        "-i",
        "--http1.1",
        "--max-time",
        "1",
        "-H",
        "Connection: Upgrade",
        "-H",
        "Upgrade: websocket",
        "-H",
        "Sec-WebSocket-Version: 13",
        "-H",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &format!("http://localhost:{port}/ws"),
    ]);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");

    // static files beside it
    assert_eq!(curl(&[&format!("http://localhost:{port}/index.html")]), "<h1>static</h1>");
}

#[test]
fn complete_example_starts_though_its_hosts_do_not_resolve() {
    let (ravelin, port) = start_on_free_port(COMPLETE);
    let url = format!("http://localhost:{port}/api/test");
    let status = curl(&["-o", "/dev/null", "-w", "%{http_code}", &url]);
    assert!(matches!(status.as_str(), "502" | "503"), "{status}");
    ravelin.stderr.line_with(&["api1.internal"]);
    assert_eq!(curl(&[&format!("http://localhost:{port}/")]), "<h1>static</h1>");
}

#[test]
fn a_missing_static_dir_is_a_warning() {
    let toml = site_with("static_dir = \"nowhere\"", &["http://127.0.0.1:9"], "");
    let ravelin = Ravelin::start(&toml);
    ravelin.stderr.line_with(&["nowhere"]);
}

#[test]
fn security_headers_are_added_and_server_and_x_powered_by_removed() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nServer: secret/1\r\nX-Powered-By: PHP\r\nX-Frame-Options: SAMEORIGIN\r\n\
          Content-Length: 2\r\n\r\nok"
            .to_vec()
    });
    let more = r#"
[sites.proxy.headers.add]
"X-Content-Type-Options" = "nosniff"
"X-Frame-Options" = "DENY"
"X-XSS-Protection" = "1; mode=block"

[sites.proxy.headers.remove]
"Server" = true
"X-Powered-By" = true
"#;
    let ravelin = Ravelin::before_with(&origin, more);
    let response = ravelin.get("/").expect(200);
    assert_eq!(response.get("x-content-type-options"), Some("nosniff"));
    assert_eq!(response.get("x-frame-options"), Some("DENY"));
    assert_eq!(response.get("x-xss-protection"), Some("1; mode=block"));
    assert!(!response.head.has("server") && !response.head.has("x-powered-by"));
}

/// Every other fragment of the documents, as the body of a site.
#[test]
fn every_fragment_of_the_documents_is_accepted() {
    let upstreams = |name: &str, urls: &[&str]| -> String {
        let one = |u: &&str| {
            format!(
                "[[sites.proxy.upstreams]]\nname = \"{name}\"\nurl = \"http://{u}:3001\"\nweight = 1\n"
            )
        };
        urls.iter().map(one).collect()
    };
    let frame = "[[sites]]\nname = \"s\"\nhostname = \"h.example\"\nport = 8080\nstatic_dir = \".\"\n\
                 [sites.proxy]\nenabled = true\n";
    let fragments = [
        upstreams("backend", &["server1", "server2"])
            + "[sites.proxy.load_balancing]\nmethod = \"weighted\"\n",
        upstreams("backend", &["server1"])
            + "[sites.proxy.load_balancing]\nmethod = \"least_connections\"    # fewest\n",
        upstreams("api-backend", &["a"])
            + &upstreams("admin-backend", &["b"])
            + "[[sites.proxy.routes]]\npath = \"/api/\"\nupstream = \"api-backend\"\nstrip_prefix = false\n\
               [[sites.proxy.routes]]\npath = \"/admin/\"\nupstream = \"admin-backend\"\nstrip_prefix = true\n",
        upstreams("production-api", &["api1.prod", "api2.prod", "api3.prod"])
            + "[sites.proxy.timeout]\nread = 60\nwrite = 60\nconnect = 10\n",
        upstreams("backend", &["a"])
            + "[sites.proxy.headers.add]\n\"X-API-Gateway\" = \"BWS\"\n\"X-Request-ID\" = \"auto\"\n\
               [sites.proxy.headers.remove]\n\"Server\" = true\n\"X-Powered-By\" = true\n",
    ];
    for fragment in fragments {
        let dir = TempDir::new();
        dir.write("site.toml", format!("{frame}{fragment}"));
        let output = run(dir.path(), &["check", "site.toml"]);
        assert_eq!(output.status.code(), Some(0), "{fragment}\n{}", printed(&output));
    }
}

#[test]
fn ssl_termination_is_accepted_and_never_served_in_plain() {
    let toml = r#"
[[sites]]
name = "ssl-proxy"
hostname = "api.example.com"
port = 443
static_dir = "static"

[sites.ssl]
enabled = true
auto_cert = true
domains = ["api.example.com"]

[sites.ssl.acme]
enabled = true
email = "admin@example.com"

[sites.proxy]
enabled = true

[[sites.proxy.upstreams]]
name = "backend"
url = "http://internal-api:3001"  # HTTP to internal backend
"#;
    let dir = TempDir::new();
    dir.write("static/index.html", "x");
    dir.write("site.toml", toml);
    let output = run(dir.path(), &["check", "site.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(!printed(&output).contains("warning"), "{}", printed(&output));

    // With an authority that cannot be reached: the stand-in is shown, and nothing goes out in plain.
    let port = free_port();
    let email = "email = \"admin@example.com\"";
    let local = format!(
        "{email}\ndirectory_url = \"https://127.0.0.1:1/directory\"\nhttp_port = {}",
        free_port()
    );
    let toml = toml.replace("443", &port.to_string()).replace(email, &local);
    let ravelin = Setup::new(&toml).file("static/index.html", "x").start();
    let mut plain = std::net::TcpStream::connect(ravelin.addr()).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _reset_is_fine = plain.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("HTTPS port"), "{answer}");
}
