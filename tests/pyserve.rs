//! PyServe's YAML: every example of its documentation as it is there, but for hosts and ports that a
//! test cannot have, and every promise that the text around them makes.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::*;

const CONFIGURATION: &str = r#"
server:
  reverse_proxy:
    - host: localhost      # Backend server host
      path: /api          # Path to proxy
      port: 3000         # Backend server port
      ssl: false         # Backend SSL/TLS
      
    - host: localhost
      path: /ws
      port: 8080
      ssl: false         # Backend SSL/TLS
      
    - host: example.com
      path: /socket.io
      port: 443
      ssl: true          # Use SSL for backend connection
"#;

const HTTP_PROXYING: &str = r#"
# Example HTTP proxy configuration
server:
  reverse_proxy:
    - host: api.internal
      path: /api
      port: 8000
      websocket: false
"#;

const WEBSOCKET_PROXYING: &str = r#"
# Example WebSocket proxy configuration
server:
  reverse_proxy:
    - host: ws.example.com
      path: /ws
      port: 8080
      websocket: true
      ssl: false
"#;

const SSL_AND_TLS: &str = r#"
# Frontend SSL (Client to PyServe)
ssl:
  enabled: true
  cert_file: ./ssl/cert.pem
  key_file: ./ssl/key.pem

# Backend SSL (PyServe to Backend)
server:
  reverse_proxy:
    - host: secure.example.com
      path: /secure
      port: 443
      ssl: true      # Enable SSL for backend connection
"#;

const API_GATEWAY: &str = r#"
server:
  reverse_proxy:
    - host: auth.internal
      path: /auth
      port: 3000
    - host: api.internal
      path: /api/v1
      port: 8000
    - host: api.internal
      path: /api/v2
      port: 8001
"#;

const CHAT_SERVER: &str = r#"
server:
  reverse_proxy:
    - host: chat.internal
      path: /ws/chat
      port: 8080
      websocket: true
    - host: notifications.internal
      path: /ws/notifications
      port: 8081
      websocket: true
"#;

const MIXED: &str = r#"
server:
  reverse_proxy:
    - host: api.example.com
      path: /api
      port: 443
      ssl: true
    - host: ws.example.com
      path: /realtime
      port: 443
      websocket: true
      ssl: true
"#;

const EXAMPLES: &[(&str, &str)] = &[
    ("Configuration", CONFIGURATION),
    ("HTTP Proxying", HTTP_PROXYING),
    ("WebSocket Proxying", WEBSOCKET_PROXYING),
    ("SSL/TLS Configuration", SSL_AND_TLS),
    ("API Gateway", API_GATEWAY),
    ("WebSocket Chat Server", CHAT_SERVER),
    ("Mixed HTTP/WebSocket", MIXED),
];

/// The same example with the backends of these paths at this host and these ports.
#[track_caller]
fn aimed(example: &str, host: &str, backends: &[(&str, u16)]) -> String {
    let mut lines: Vec<String> = example.lines().map(str::to_owned).collect();
    for (path, port) in backends {
        let says = |line: &str, key: &str| {
            let (name, value) = line.trim_start_matches([' ', '-']).split_once(':')?;
            (name == key).then(|| value.split_whitespace().next().unwrap_or("").to_owned())
        };
        let at = lines.iter().position(|line| says(line, "path").as_deref() == Some(path));
        let at = at.unwrap_or_else(|| panic!("no {path} in {example}"));
        let first =
            (0..=at).rev().find(|line| lines[*line].trim_start().starts_with("- ")).unwrap();
        let rest = lines[first + 1..].iter().position(|line| line.trim_start().starts_with("- "));
        let end = rest.map_or(lines.len(), |rest| first + 1 + rest);
        for line in &mut lines[first..end] {
            for (key, value) in [("host", host.to_owned()), ("port", port.to_string())] {
                if says(line, key).is_some() {
                    let (before, _) = line.split_once(':').unwrap();
                    *line = format!("{before}: {value}");
                }
            }
        }
    }
    lines.join("\n") + "\n"
}

/// A configuration that is not started yet. PyServe's variable says where to listen.
fn pyserve(yaml: &str) -> Setup {
    pyserve_at(yaml, free_port())
}

fn pyserve_at(yaml: &str, port: u16) -> Setup {
    Setup::of("config.yaml", yaml).env("PYSERVE_PORT", port)
}

/// Answers with what it was asked, as far as that does not depend on the time or a port.
fn telling() -> Origin {
    Origin::serve(|request| {
        let mut text = format!("{} {}\n", request.method, request.target);
        for (name, value) in &request.head.fields {
            if !name.eq_ignore_ascii_case("x-forwarded-port") {
                text += &format!("{name}: {value}\n");
            }
        }
        text += &String::from_utf8_lossy(&request.body);
        ok(if request.method == "HEAD" { "" } else { &text })
    })
}

/// A WebSocket server that sends back each message behind the path it was asked for; with TLS if there
/// are files for it.
fn websocket_telling_its_path(tls: Option<&TempDir>) -> Python {
    let context = match tls {
        None => "None".to_owned(),
        Some(dir) => format!("context({:?})", dir.path().to_str().unwrap()),
    };
    Python::run(&format!(
        r#"
import ssl
from websockets.sync.server import serve
def context(dir):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(dir + "/cert.pem", dir + "/key.pem")
    return made
def echo(ws):
    for message in ws:
        ws.send(message if isinstance(message, bytes) else ws.request.path + " " + message)
with serve(echo, "127.0.0.1", 0, ssl={context}) as server:
    print("port", server.socket.getsockname()[1])
    server.serve_forever()
"#
    ))
}

/// An HTTP/1 origin with TLS that answers with the target and the Host it was asked for.
fn telling_with_tls(pair: &Pair) -> AsyncOrigin {
    use tokio::io::AsyncWriteExt as _;
    AsyncOrigin::connections(Some(pair.server(&["http/1.1"], None)), |mut taken, _| async move {
        while let Some(head) = taken.read_head().await {
            let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or("");
            let target = head.split(' ').nth(1).unwrap_or("");
            taken.write_all(&ok(&format!("{target} at {host}"))).await.unwrap();
            taken.flush().await.unwrap();
        }
    })
}

/// What a client says over WebSocket, and what it hears.
#[track_caller]
fn heard(url: &str) -> String {
    websocket_client(url, "ws.send('hello')\nprint(ws.recv())").trim().to_owned()
}

#[test]
fn every_example_is_accepted_as_it_is() {
    let pair = Authority::new().server(&["localhost"]);
    for (name, example) in EXAMPLES {
        let setup = pyserve(example);
        let setup = setup.file("ssl/cert.pem", &pair.certificate).file("ssl/key.pem", &pair.key);
        // Keys that others may read are worth a warning as well.
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(setup.dir().join("ssl/key.pem"), private).unwrap();
        let output = setup.run(&["check", "config.yaml"]);
        let said = printed(&output);
        assert_eq!(output.status.code(), Some(0), "{name}\n{said}");
        let warned = said.matches("warning[").count();
        let expected = usize::from(example.contains("websocket:"));
        assert_eq!(warned, expected, "{name}: only `websocket` is worth a warning\n{said}");
    }
}

#[test]
fn every_example_starts_though_its_hosts_do_not_exist() {
    for (name, example) in EXAMPLES.iter().filter(|(_, example)| !example.contains("ssl:\n")) {
        let ravelin = pyserve(example).start();
        ravelin.get("/").expect(200);
        let path = example.lines().find_map(|line| line.split_once("path: ")).unwrap().1;
        let status = ravelin.get(path.split(' ').next().unwrap()).status;
        assert!(matches!(status, 502 | 503), "{name}: {status}");
    }
}

#[test]
fn configuration_with_http_websocket_and_tls_backends() {
    let api = telling();
    let echo = websocket_telling_its_path(None);
    let authority = Authority::new();
    let secure = telling_with_tls(&authority.server(&["localhost"]));
    let yaml = aimed(CONFIGURATION, "127.0.0.1", &[("/api", api.port()), ("/ws", echo.port())]);
    let yaml = aimed(&yaml, "localhost", &[("/socket.io", secure.port())]);
    let ravelin =
        pyserve(&yaml).file("ca.pem", &authority.pem).env("SSL_CERT_FILE", "ca.pem").start();

    let told = ravelin.get("/api/users?x=1&y=%20").expect(200).text();
    assert!(told.starts_with("GET /users?x=1&y=%20\n"), "{told}");
    assert_eq!(heard(&format!("ws://{}/ws/room?a=b", ravelin.addr())), "/room?a=b hello");
    let told = ravelin.get("/socket.io/?EIO=4").expect(200).text();
    assert_eq!(told, format!("/?EIO=4 at localhost:{}", secure.port()));
}

#[test]
fn http_proxying_forwards_everything_below_the_prefix_and_nothing_beside_it() {
    let api = telling();
    let ravelin = pyserve(&aimed(HTTP_PROXYING, "127.0.0.1", &[("/api", api.port())])).start();
    for (target, expected) in [
        ("/api", "/"),
        ("/api/", "/"),
        ("/api/users", "/users"),
        ("/api/a/b/?c", "/a/b/?c"),
        ("/api/health", "/health"),
        ("/api/api", "/api"),
    ] {
        let told = ravelin.get(target).expect(200).text();
        assert!(told.starts_with(&format!("GET {expected}\n")), "{target}: {told}");
    }
    for target in ["/apifoo", "/apis/x", "/v1/api"] {
        ravelin.get(target).expect(404);
    }
    // "Preserve HTTP methods", "Forward request headers and body", "Return backend response"
    let request = "PUT /api/x HTTP/1.1\r\nHost: example.com:8000\r\nX-Own: a\r\nContent-Length: 4\r\n\r\nbody";
    let told = ravelin.ask(request).expect(200).text();
    assert!(told.starts_with("PUT /x\n") && told.contains("X-Own: a\n"), "{told}");
    assert!(told.ends_with("body"), "{told}");
}

#[test]
fn the_backend_is_told_of_the_client() {
    let api = telling();
    let ravelin = pyserve(&aimed(HTTP_PROXYING, "127.0.0.1", &[("/api", api.port())])).start();
    let forged = "GET /api HTTP/1.1\r\nHost: example.com:8000\r\nX-Real-IP: 192.0.2.1\r\n\
                  X_Real_IP: 192.0.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\r\n";
    ravelin.ask(forged).expect(200);
    let request = api.request(0);
    let own_host = format!("127.0.0.1:{}", api.port());
    assert_eq!(request.get("host"), Some(own_host.as_str()), "the backend's own");
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.get("x-real-ip"), Some("127.0.0.1"), "not what the client claims");
    assert_eq!(request.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.get("x-forwarded-host"), Some("example.com:8000"));
    assert!(!request.head.has("x_real_ip") && !request.head.has("forwarded"));
}

#[test]
fn websocket_proxying_with_all_that_its_features_name() {
    let echo = websocket_telling_its_path(None);
    let ravelin = pyserve(&aimed(WEBSOCKET_PROXYING, "127.0.0.1", &[("/ws", echo.port())])).start();
    let said = websocket_client(
        &format!("ws://{}/ws", ravelin.addr()),
        "ws.send('text')\nprint(ws.recv())\nws.send(b'\\x00\\xff' * 40000)\nprint(len(ws.recv()))\n\
         print(ws.ping('x').wait(5))\nws.close(4001, 'done')\nprint(ws.close_code, ws.close_reason)",
    );
    assert_eq!(said.lines().collect::<Vec<_>>(), ["/ text", "80000", "True", "4001 done"]);
    // What the documents' curl line would send: Connection names more than "upgrade".
    let upgrade = "GET /ws/x HTTP/1.1\r\nHost: example.com\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let response = ravelin.ask(upgrade).expect(101);
    assert_eq!(response.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn tls_on_both_sides_for_http_and_websocket() {
    let authority = Authority::new();
    let pair = authority.server(&["localhost"]);
    let files = TempDir::new();
    files.write("cert.pem", &pair.certificate);
    files.write("key.pem", &pair.key);
    files.write("ca.pem", &authority.pem);
    let ca = files.path().join("ca.pem");
    let start = |port| {
        pyserve(&aimed(SSL_AND_TLS, "localhost", &[("/secure", port)]))
            .file("ssl/cert.pem", &pair.certificate)
            .file("ssl/key.pem", &pair.key)
            .env("SSL_CERT_FILE", ca.display())
            .start()
    };
    let secure = telling_with_tls(&pair);
    let ravelin = start(secure.port());
    let url = format!("https://localhost:{}/secure/x?y", ravelin.addr().port());
    let told = curl(&["--cacert", ca.to_str().unwrap(), &url]);
    assert_eq!(told, format!("/x?y at localhost:{}", secure.port()));

    let echo = websocket_telling_its_path(Some(&files));
    let ravelin = start(echo.port());
    let url = format!("wss://localhost:{}/secure/room", ravelin.addr().port());
    let said = websocket_client_trusting(&ca, &url, "ws.send('hello')\nprint(ws.recv())");
    assert_eq!(said.trim(), "/room hello");
}

#[test]
fn a_backend_with_a_certificate_of_nobody_is_not_believed() {
    let secure = telling_with_tls(&Authority::new().server(&["localhost"]));
    let yaml = format!(
        "server:\n  reverse_proxy:\n    - {{host: localhost, path: /, port: {}, ssl: true}}\n",
        secure.port()
    );
    pyserve(&yaml).start().get("/").expect(502);
}

#[test]
fn api_gateway_sends_each_prefix_to_its_backend() {
    let [auth, v1, v2] = ["auth", "v1", "v2"].map(Origin::saying);
    let ports = [("/auth", auth.port()), ("/api/v1", v1.port()), ("/api/v2", v2.port())];
    let ravelin = pyserve(&aimed(API_GATEWAY, "127.0.0.1", &ports)).start();
    for (target, expected) in
        [("/auth/login", "auth"), ("/api/v1/users", "v1"), ("/api/v2", "v2"), ("/api/v2/x", "v2")]
    {
        assert_eq!(ravelin.get(target).expect(200).text(), expected, "{target}");
    }
    assert_eq!(v1.request(0).target, "/users");
    for target in ["/api", "/api/v3", "/api/v10"] {
        ravelin.get(target).expect(404);
    }
}

#[test]
fn the_longest_prefix_wins_whatever_the_order() {
    let [all, api, users] = ["all", "api", "users"].map(Origin::saying);
    let entry = |path: &str, origin: &Origin| {
        format!("    - {{host: 127.0.0.1, path: {path}, port: {}}}\n", origin.port())
    };
    let yaml = "server:\n  reverse_proxy:\n".to_owned()
        + &entry("/", &all)
        + &entry("/api", &api)
        + &entry("/api/users/", &users);
    let ravelin = pyserve(&yaml).start();
    for (target, expected) in [
        ("/", "all"),
        ("/x", "all"),
        ("/static/x", "all"),
        ("/apix", "all"),
        ("/api", "api"),
        ("/api/users", "api"),
        ("/api/users/1", "users"),
    ] {
        assert_eq!(ravelin.get(target).expect(200).text(), expected, "{target}");
    }
    assert_eq!(users.request(0).target, "/1");
}

#[test]
fn chat_server_keeps_its_two_services_apart() {
    let [chat, notes] = [websocket_telling_its_path(None), websocket_telling_its_path(None)];
    let ports = [("/ws/chat", chat.port()), ("/ws/notifications", notes.port())];
    let ravelin = pyserve(&aimed(CHAT_SERVER, "127.0.0.1", &ports)).start();
    let url = |path: &str| format!("ws://{}{path}", ravelin.addr());
    assert_eq!(heard(&url("/ws/chat/room/1")), "/room/1 hello");
    assert_eq!(heard(&url("/ws/notifications")), "/ hello");
    ravelin.get("/ws/other").expect(404);
}

#[test]
fn mixed_http_and_websocket_behind_tls() {
    let authority = Authority::new();
    let pair = authority.server(&["localhost"]);
    let files = TempDir::new();
    files.write("cert.pem", &pair.certificate);
    files.write("key.pem", &pair.key);
    let api = telling_with_tls(&pair);
    let realtime = websocket_telling_its_path(Some(&files));
    let ports = [("/api", api.port()), ("/realtime", realtime.port())];
    let setup = pyserve(&aimed(MIXED, "localhost", &ports));
    let ravelin = setup.file("ca.pem", &authority.pem).env("SSL_CERT_FILE", "ca.pem").start();
    let told = ravelin.get("/api/a").expect(200).text();
    assert_eq!(told, format!("/a at localhost:{}", api.port()));
    assert_eq!(heard(&format!("ws://{}/realtime/x", ravelin.addr())), "/x hello");
}

#[test]
fn urls_in_responses_lead_back_through_the_prefix() {
    let origin = Origin::script(|conn| {
        while let Ok(request) = conn.try_request() {
            let own = format!("http://{}", request.get("host").unwrap());
            let location = match request.target.as_str() {
                "/relative" => "/login?next=/".to_owned(),
                "/absolute" => format!("{own}/login"),
                "/root" => own,
                "/foreign" => "https://example.org/login".to_owned(),
                _ => "next".to_owned(),
            };
            let head = format!(
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Location: {location}\r\n\
                 URI: {location}\r\nContent-Length: 0\r\n\r\n"
            );
            if conn.try_send(head).is_err() {
                return;
            }
        }
    });
    let ravelin = pyserve(&aimed(HTTP_PROXYING, "127.0.0.1", &[("/api", origin.port())])).start();
    for (target, expected) in [
        ("/api/relative", "/api/login?next=/"),
        ("/api/absolute", "/api/login"),
        ("/api/root", "/api/"),
        ("/api/foreign", "https://example.org/login"),
        ("/api/beside", "next"),
    ] {
        let response = ravelin.get(target).expect(302);
        for field in ["location", "content-location", "uri"] {
            assert_eq!(response.get(field), Some(expected), "{target} {field}");
        }
    }
}

#[test]
fn a_backend_that_is_down_is_502_every_time_and_back_at_once() {
    let mut origin = Origin::saying("up");
    let address = origin.addr();
    let ravelin = pyserve(&aimed(HTTP_PROXYING, "127.0.0.1", &[("/api", address.port())])).start();
    ravelin.get("/api").expect(200);
    origin.kill();
    for _ in 0..8 {
        ravelin.get("/api").expect(502);
    }
    let page = ravelin.ask("GET /api HTTP/1.1\r\nHost: example.com\r\nAccept: text/html\r\n\r\n");
    assert!(page.expect(502).text().contains("<h1>502"), "a page for people");
    let _again = Origin::script_at(address, |conn| {
        conn.request();
        conn.send(ok("back"));
    });
    assert_eq!(ravelin.get("/api").expect(200).text(), "back");
}

#[test]
fn a_backend_that_does_not_answer_is_504() {
    let silent = Origin::script(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let yaml = aimed(HTTP_PROXYING, "127.0.0.1", &[("/api", silent.port())]);
    let setup = pyserve(&yaml);
    let converted = String::from_utf8(setup.run(&["convert", "config.yaml"]).stdout).unwrap();
    let waits = "timeout = { connect = 10, read = 30 }";
    assert!(converted.contains(waits), "ten and thirty seconds:\n{converted}");
    // Thirty seconds are too long for a test.
    let toml = converted.replace(waits, "timeout = { connect = 10, read = 0.2 }");
    Ravelin::start(&toml).get("/api").expect(504);
}

const SERVER: &str = r#"
server:
  host: 127.0.0.1
  redirect_instructions:
    - /home: /index.html
    - /blog: https://example.com/blog
    - /api/old: /api/new
  locations:
    /admin:
      auth: {type: basic, username: admin, password: secretpass}
    /api/private:
      auth: {type: basic, username: "${WHO}", password: secretpass}
    /static/secret.txt:
      auth: {type: basic, username: admin, password: secretpass}
  reverse_proxy:
    - {host: 127.0.0.1, path: /api, port: 3000}
http:
  static_dir: ./public
"#;

/// The configuration above before a backend, with files.
fn server(backend: &Origin, port: u16) -> Setup {
    pyserve_at(&SERVER.replace("3000", &backend.port().to_string()), port)
        .env("WHO", "admin")
        .file("public/index.html", "<h1>index</h1>")
        .file("public/admin", "for admins")
        .file("public/secret.txt", "secret")
        .file("public/css/site.css", "a {}")
}

#[test]
fn redirects_come_first_and_keep_the_query() {
    let api = telling();
    let ravelin = server(&api, free_port()).start();
    for (target, expected) in [
        ("/home", "/index.html"),
        ("/home?param=value", "/index.html?param=value"),
        ("/blog?a=b", "https://example.com/blog?a=b"),
        ("/api/old?x", "/api/new?x"),
    ] {
        let response = ravelin.get(target).expect(302);
        assert_eq!(response.get("location"), Some(expected), "{target}");
    }
    ravelin.get("/home/").expect(404);
    ravelin.get("/api/old/x").expect(200);
    assert_eq!(api.requests().len(), 1, "only the last one reached the backend");
}

#[test]
fn locations_ask_for_a_password_proxied_or_not() {
    let api = telling();
    let ravelin = server(&api, free_port()).start();
    let ask = |target: &str, credentials: &str| {
        let fields = match credentials {
            "" => String::new(),
            credentials => format!("Authorization: Basic {credentials}\r\n"),
        };
        ravelin.ask(format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n"))
    };
    const RIGHT: &str = "YWRtaW46c2VjcmV0cGFzcw=="; // admin:secretpass
    const WRONG: &str = "YWRtaW46c2VjcmV0cGFzcz8="; // admin:secretpass?
    for (target, content) in [
        ("/admin", "for admins"),
        ("/static/secret.txt", "secret"),
        ("/api/private", "GET /private\n"),
    ] {
        for credentials in ["", WRONG, "bm9ib2R5"] {
            let refused = ask(target, credentials).expect(401);
            let challenge = refused.get("www-authenticate").unwrap();
            assert!(challenge.starts_with("Basic realm=\"Restricted Area\""), "{challenge}");
        }
        let told = ask(target, RIGHT).expect(200).text();
        assert!(told.starts_with(content), "{target}: {told}");
    }
    // However the path is written.
    for target in ["/api//private", "/api/./private", "/api/%70rivate", "/x/../api/private"] {
        ask(target, "").expect(401);
    }
    // The exact path and nothing else.
    ask("/api/private/x", "").expect(200);
    ask("/css/site.css", "").expect(200);
    assert_eq!(api.requests().len(), 2, "nothing passed without a password");
}

#[test]
fn a_password_is_asked_for_by_every_name_of_what_it_protects() {
    let api = telling();
    let port = api.port();
    let auth = "{auth: {type: basic, username: admin, password: secretpass}}";
    let other = "{auth: {type: basic, username: other, password: secretpass}}";
    let yaml = format!(
        "version: 2\nserver:\n  default_root: false\n  locations:\n    /secret.html: {auth}\n    \
         /index.html: {auth}\n    /sub/index.html: {auth}\n    /static/deep/: {auth}\n    \
         /room: {auth}\n    /api: {auth}\n    /api/key: {auth}\n    /own.html: {auth}\n    \
         /static/own.html: {other}\n  reverse_proxy:\n    \
         - {{host: 127.0.0.1, path: /api, port: {port}}}\n    \
         - {{host: 127.0.0.1, path: /second, port: {port}}}\nextensions:\n  - type: routing\n    \
         config:\n      regex_locations:\n        \"=/third\": {{proxy_pass: \
         \"http://127.0.0.1:{port}/key\"}}\n        \"~^/sub.*l$\": {{root: ././static//}}\n"
    );
    let mut setup = pyserve(&yaml);
    for name in ["secret.html", "index.html", "own.html", "open.html", "sub/index.html"] {
        setup = setup.file(&format!("static/{name}"), name);
    }
    for name in ["sub/open.html", "deep/index.htm", "room/index.html", "room/open.html"] {
        setup = setup.file(&format!("static/{name}"), name);
    }
    let ravelin = setup.start();
    let ask = |target: &str, credentials: &str| {
        let fields = match credentials {
            "" => String::new(),
            credentials => format!("Authorization: Basic {credentials}\r\n"),
        };
        ravelin.ask(format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n"))
    };
    const ADMIN: &str = "YWRtaW46c2VjcmV0cGFzcw=="; // admin:secretpass
    const OTHER: &str = "b3RoZXI6c2VjcmV0cGFzcw=="; // other:secretpass
    for (targets, content) in [
        (&["/secret.html", "/static/secret.html"][..], "secret.html"),
        (&["/index.html", "/", "/static/", "/static/index.html"], "index.html"),
        (&["/sub/index.html", "/sub/", "/static/sub/", "/static/sub/index.html"], "sub/index.html"),
        (&["/deep/", "/static/deep/", "/deep/index.htm"], "deep/index.htm"),
        (&["/room/", "/room/index.html", "/static/room/"], "room/index.html"),
        (&["/api", "/api/", "/second", "/second/"], "GET /\n"),
        (&["/api/key", "/second/key", "/third"], "GET /key\n"),
        (&["/own.html"], "own.html"),
    ] {
        for target in targets {
            for refused in ["", OTHER] {
                assert_eq!(ask(target, refused).status, 401, "{target}");
            }
            let told = ask(target, ADMIN).expect(200).text();
            assert!(told.starts_with(content), "{target}: {told}");
        }
    }
    for target in
        ["/room", "/static//secret.html", "/static/x/../secret.html", "/static/%73ecret.html"]
    {
        assert_eq!(ask(target, "").status, 401, "{target}");
    }
    for target in ["/static%2fsecret.html", "/secret.html/", "/SECRET.html", "/static/secret.html/"]
    {
        assert_ne!(ask(target, "").status, 200, "{target}");
    }
    // A name with a password of its own has that one.
    assert_eq!(ask("/static/own.html", ADMIN).status, 401);
    assert_eq!(ask("/static/own.html", OTHER).expect(200).text(), "own.html");
    for target in ["/open.html", "/sub/open.html", "/room/open.html", "/api/x", "/second/x"] {
        ask(target, "").expect(200);
    }
}

#[test]
fn files_and_the_page_of_welcome() {
    let api = telling();
    let ravelin = server(&api, free_port()).start();
    assert!(ravelin.get("/").expect(200).text().contains("<h1>Welcome</h1>"));
    assert_eq!(ravelin.get("/index.html").expect(200).text(), "<h1>index</h1>");
    assert_eq!(ravelin.get("/css/site.css").expect(200).text(), "a {}");
    assert_eq!(ravelin.get("/static/css/site.css").expect(200).text(), "a {}");
    ravelin.get("/nothing").expect(404);

    let yaml = "server:\n  default_root: false\n";
    let ravelin = pyserve(yaml).file("static/index.html", "mine").start();
    assert_eq!(ravelin.get("/").expect(200).text(), "mine");
    let yaml = format!(
        "server:\n  reverse_proxy:\n    - {{host: 127.0.0.1, path: /, port: {}}}\n",
        api.port()
    );
    let told = pyserve(&yaml).start().get("/").expect(200).text();
    assert!(told.starts_with("GET /\n"), "a backend takes it: {told}");
}

const ROUTING: &str = r##"
version: 2
server:
  redirect_instructions:
    - /moved: /health
  reverse_proxy:
    - {host: 127.0.0.1, path: /legacy, port: 3000}
http:
  static_dir: ./static
extensions:
  - type: routing
    config:
      regex_locations:
        # API with version capture
        "~^/api/v(?P<version>\\d+)/":
          proxy_pass: "http://127.0.0.1:3000"
          headers:
            - "X-Service: users"
            - "API-Version: {version}"
            - "X-Client: v{version}/{other} of $remote_addr for $5"
            - "X-Forwarded-For: $remote_addr"
        # Static files with caching
        "~*\\.(js|css|png|jpg)$":
          root: "./static"
          cache_control: "max-age=31536000"
          headers:
            - "Access-Control-Allow-Origin: *"
        "~^/upper/A$":
          return: "200 sensitive"
        "~*^/upper/":
          return: "200 insensitive"
        # Health check
        "=/health":
          return: "200 OK"
        "=/status":
          return: '200 {"up": true}'
          content_type: application/json
        "=/gone":
          return: 410
        "=/elsewhere":
          return: 308 https://example.com/x
        "^~/files/":
          proxy_pass: "http://127.0.0.1:3000/data/"
        "/plain":
          proxy_pass: "http://127.0.0.1:3000"
          cache_control: no-store
        # SPA fallback
        "__default__":
          spa_fallback: true
          root: "./dist"
"##;

fn routing(backend: &Origin, port: u16) -> Setup {
    pyserve_at(&ROUTING.replace("3000", &backend.port().to_string()), port)
        .file("static/app.js", "js")
        .file("static/deep/X.CSS", "css")
        .file("static/api/secret", "no route for it")
        .file("dist/index.html", "<h1>app</h1>")
        .file("dist/favicon.ico", "icon")
}

#[test]
fn the_routing_extension_takes_paths_as_documented() {
    let api = telling();
    let ravelin = routing(&api, free_port()).start();
    let text = |target: &str| ravelin.get(target).expect(200).text();

    assert!(text("/api/v2/users?x").starts_with("GET /api/v2/users?x\n"), "nothing is taken off");
    let request = api.request(0);
    assert_eq!(request.get("x-service"), Some("users"));
    assert_eq!(request.get("api-version"), Some("2"));
    assert_eq!(request.get("x-client"), Some("v2/{other} of 127.0.0.1 for $5"));
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    assert!(text("/legacy/x").starts_with("GET /x\n"));
    assert!(text("/files/a/b").starts_with("GET /data/a/b\n"), "the URL's path for the prefix");
    let plain = ravelin.get("/plain/x").expect(200);
    assert!(plain.text().starts_with("GET /plain/x\n"));
    assert_eq!(plain.get("cache-control"), Some("no-store"));

    let js = ravelin.get("/app.js").expect(200);
    assert_eq!((js.text().as_str(), js.get("cache-control")), ("js", Some("max-age=31536000")));
    assert_eq!(js.get("access-control-allow-origin"), Some("*"));
    assert_eq!(text("/deep/X.CSS"), "css");

    assert_eq!(text("/upper/A"), "sensitive");
    assert_eq!(text("/UPPER/a"), "insensitive");
    assert_eq!(text("/health"), "OK");
    let status = ravelin.get("/status").expect(200);
    assert_eq!(status.get("content-type"), Some("application/json"));
    ravelin.get("/gone").expect(410);
    let elsewhere = ravelin.get("/elsewhere").expect(308);
    assert_eq!(elsewhere.get("location"), Some("https://example.com/x"));
    assert_eq!(ravelin.get("/moved").expect(302).get("location"), Some("/health"));
}

#[test]
fn the_page_of_an_application_answers_what_nothing_else_takes() {
    let api = telling();
    let ravelin = routing(&api, free_port()).start();
    for target in ["/", "/about", "/users/7", "/healthy"] {
        assert_eq!(ravelin.get(target).expect(200).text(), "<h1>app</h1>", "{target}");
    }
    assert_eq!(ravelin.get("/favicon.ico").expect(200).text(), "icon");
    for target in ["/missing.js", "/missing.ico", "/api/x", "/admin/x"] {
        ravelin.get(target).expect(404);
    }
    assert_eq!(ravelin.get("/static/app.js").status, 404, "a pattern looks up the whole path");
}

#[test]
fn what_the_page_of_an_application_is_not_for_is_still_served() {
    let api = telling();
    let yaml = |locations: &str| {
        "version: 2\nextensions:\n- type: routing\n  config:\n    regex_locations:\n".to_owned()
            + &locations.replace("3000", &api.port().to_string())
    };
    // Elsewhere the backend has everything, also what the page would not be for.
    let app = yaml(
        "      /app: { root: ./dist, spa_fallback: true }\n      __default__: { proxy_pass: \"http://127.0.0.1:3000\" }\n",
    );
    let ravelin = pyserve(&app).file("dist/index.html", "page").start();
    assert_eq!(ravelin.get("/app/any").expect(200).text(), "page");
    for target in ["/api/users", "/admin/x"] {
        assert!(ravelin.get(target).expect(200).text().starts_with(&format!("GET {target}\n")));
    }
    // Files are served there as anywhere, those of `root` and no others.
    let all = yaml("      __default__: { root: ./dist, spa_fallback: true }\n");
    let setup = pyserve(&all).file("dist/index.html", "page").file("dist/api/a.txt", "a file");
    let ravelin = setup.file("static/api/b.txt", "another").start();
    assert_eq!(ravelin.get("/api/a.txt").expect(200).text(), "a file");
    for target in ["/api/b.txt", "/api/b"] {
        ravelin.get(target).expect(404);
    }
    // A regular expression has its own.
    let regex = yaml(
        "      \"~^/app\": { root: ./dist, spa_fallback: true, exclude_patterns: [/app/no/] }\n",
    );
    let ravelin = pyserve(&regex).file("dist/index.html", "page").start();
    assert_eq!(ravelin.get("/app/yes/x").expect(200).text(), "page");
    ravelin.get("/app/no/x").expect(404);
}

#[test]
fn the_environment_wins_over_the_file() {
    let port = free_port();
    let yaml = "server:\n  host: 192.0.2.1\n  port: 1\nlogging:\n  level: DEBUG\n";
    let setup = Setup::of("config.yaml", yaml)
        .env("PYSERVE_HOST", "127.0.0.1")
        .env("PYSERVE_PORT", port)
        .env("PYSERVE_STATIC_DIR", "pages")
        .file("pages/a.txt", "a page");
    let check = printed(&setup.run(&["check", "config.yaml"]));
    assert!(check.contains("`PYSERVE_PORT` is used in the place of `port`"), "{check}");
    let ravelin = setup.start();
    assert_eq!(ravelin.addr().to_string(), format!("127.0.0.1:{port}"));
    assert_eq!(ravelin.get("/a.txt").expect(200).text(), "a page");
}

#[test]
fn a_word_with_a_mistake_does_not_turn_tls_off() {
    let yaml = "ssl:\n  enabled: true\n";
    let check = |yaml: &str, said: &str| {
        let setup = Setup::of("config.yaml", yaml).env("PYSERVE_SSL_ENABLED", said);
        let output = setup.run(&["convert", "config.yaml"]);
        (output.status.code(), printed(&output))
    };
    for said in ["ture", "enabled", "2", " ", "true,"] {
        for yaml in [yaml, "server: {}\n"] {
            let (code, told) = check(yaml, said);
            assert_eq!(code, Some(1), "{said}: {told}");
            assert!(told.contains("expected one of true, 1, yes, on, false"), "{told}");
        }
    }
    for said in ["true ", "TRUE", " Yes", "on", "1"] {
        let (_, told) = check("server: {}\n", said);
        assert!(told.contains("[sites.ssl]"), "{said}: {told}");
        let note = "`PYSERVE_SSL_ENABLED` is used for `ssl.enabled`:";
        let line = told.lines().find(|line| line.contains(note)).unwrap_or("");
        assert!(line.contains(said.trim()), "{told}");
    }
    for said in ["false", "No ", "OFF", "0"] {
        let (_, told) = check(yaml, said);
        assert!(!told.contains("[sites.ssl]"), "{said}: {told}");
    }
}

#[test]
fn the_log_goes_to_its_file() {
    let yaml = "logging:\n  level: INFO\n  log_file: ./logs/pyserve.log\n  console_output: false\n  \
                structured_logs: true\n";
    let ravelin = pyserve(yaml).start();
    ravelin.get("/").expect(200);
    let file = ravelin.dir().join("logs/pyserve.log");
    until("a line of JSON about the request", || {
        let log = std::fs::read_to_string(&file).unwrap_or_default();
        log.lines().any(|line| line.starts_with('{') && line.contains("\"GET\""))
    });
}

#[test]
fn mistakes_are_refused_with_their_places() {
    for (yaml, expected) in [
        ("server:\n  port: 70000\n", "config.yaml:2:9"),
        ("server:\n  port: \"80\"\n", "numbers stand without quotes"),
        ("server:\n  reverse_proxy:\n    - hots: a\n      path: x\n", "did you mean `host`?"),
        (
            "server:\n  locations:\n    /a: {auth: {type: basic, username: a}}\n",
            "`password` is missing",
        ),
        ("server:\n  locatons:\n    /a: {}\n", "what was to be protected would be open"),
        ("ssl:\n  enable: true\n", "what was to be protected would be open"),
        ("server: [\n", "config.yaml:"),
    ] {
        let setup = Setup::of("config.yaml", yaml);
        for command in [&["check", "config.yaml"][..], &["run", "-c", "config.yaml"]] {
            let output = setup.run(command);
            assert_eq!(output.status.code(), Some(1), "{yaml}\n{}", printed(&output));
            assert!(printed(&output).contains(expected), "{yaml}\n{}", printed(&output));
        }
    }
}

#[test]
fn an_unknown_key_is_passed_over_with_a_warning() {
    let setup = pyserve("server:\n  hots: a\n");
    let output = setup.run(&["check", "config.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(printed(&output).contains("unknown key `hots`"), "{}", printed(&output));
}

#[test]
fn converted_examples_answer_the_same() {
    let origin = telling();
    for (name, example) in EXAMPLES.iter().filter(|(_, example)| !example.contains("ssl: true")) {
        let paths: Vec<&str> = example
            .lines()
            .filter_map(|line| line.split_once("path: "))
            .map(|(_, path)| path.split(' ').next().unwrap())
            .collect();
        let backends: Vec<(&str, u16)> = paths.iter().map(|path| (*path, origin.port())).collect();
        let yaml = aimed(example, "127.0.0.1", &backends);
        let twins = Twins::start("config.yaml", |port| pyserve_at(&yaml, port));
        let requests = a_hundred_requests(&[&paths[..], &["/", "/nothing"]].concat());
        assert!(requests.len() >= 100, "{name}");
        twins.agree(&requests);
    }
}

#[test]
fn converted_servers_and_routes_answer_the_same() {
    let origin = telling();
    let twins = Twins::start("config.yaml", |port| server(&origin, port));
    twins.agree(&a_hundred_requests(&[
        "/",
        "/home",
        "/blog",
        "/admin",
        "/api",
        "/api/private",
        "/api/old",
        "/index.html",
        "/static/css/site.css",
        "/nothing",
    ]));
    let twins = Twins::start("config.yaml", |port| routing(&origin, port));
    twins.agree(&a_hundred_requests(&[
        "/",
        "/api/v1/x",
        "/app.js",
        "/upper/A",
        "/health",
        "/status",
        "/gone",
        "/elsewhere",
        "/files/x",
        "/plain",
        "/moved",
        "/legacy",
        "/about",
        "/api/x",
        "/static/app.js",
    ]));
}
