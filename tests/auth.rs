//! Who may make requests: names and passwords, tokens, fields.

mod basic;
mod jwt;

use crate::harness::*;

/// A site with files, a proxied path and one for WebSockets, which asks for this.
fn guarded(origin: &Origin, auth: &str) -> Setup {
    let url = origin.url();
    Setup::new(&format!(
        "[[sites]]\nname = \"test\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
         h2c = true\nstatic_dir = \".\"\n{auth}\n\
         [sites.proxy]\nenabled = true\n\
         [[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n\
         [[sites.proxy.routes]]\npath = \"/api\"\nupstream = \"backend\"\n\
         [[sites.proxy.routes]]\npath = \"/ws\"\nupstream = \"backend\"\nwebsocket = true\n"
    ))
    .file("page.txt", "a page")
}

/// A GET with these field lines.
fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n")
}

/// Asks for WebSocket with these field lines.
fn upgrade(path: &str, lines: &str) -> String {
    let lines = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}"
    );
    get(path, &lines)
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Answers requests, and switches protocols for those that ask for it.
fn switching() -> Origin {
    Origin::script(|conn| {
        while let Ok(request) = conn.try_request() {
            match request.head.has("upgrade") {
                true => conn.send(SWITCHING),
                false => conn.send(ok("served")),
            }
        }
    })
}

/// Ravelin has switched protocols for this client.
#[track_caller]
fn switched(client: &mut Client) {
    let head = client.wire.head().unwrap();
    assert_eq!(head.start, "HTTP/1.1 101 Switching Protocols", "{head:?}");
}

fn base64(text: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn a_key_in_a_field_opens_and_does_not_reach_the_upstream() {
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"header\"\nstrip = true\n\
                fields = { \"X-Api-Key\" = { values = [\"one\", \"two\"] } }";
    let ravelin = guarded(&origin, auth).start();
    for lines in ["", "X-Api-Key: three\r\n", "X-Api-Key: one\r\nX-Api-Key: three\r\n"] {
        ravelin.ask(get("/api", lines)).expect(403);
    }
    assert_eq!(origin.requests().len(), 0);
    ravelin.ask(get("/api", "x-api-key: two\r\nX-Other: a\r\n")).expect(200);
    let request = origin.request(0);
    assert!(!request.head.has("x-api-key") && request.head.has("x-other"));
}

#[test]
fn a_route_asks_in_addition_to_its_site() {
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"header\"\nfields = { X-A = \"a\" }\n\
                [[sites.routes]]\npath = \"/api/admin\"\nroot = \".\"\nstrip_prefix = true\n\
                auth = [{ type = \"header\", fields = { X-B = \"b\" } }, { type = \"header\", fields = { X-C = \"c\" } }]\n";
    let ravelin = guarded(&origin, auth).start();
    let status = |path: &str, lines: &str| ravelin.ask(get(path, lines)).status;
    assert_eq!(status("/page.txt", "X-A: a\r\n"), 200);
    let path = "/api/admin/page.txt";
    assert_eq!(status(path, "X-A: a\r\nX-B: b\r\nX-C: c\r\n"), 200);
    for lines in ["X-A: a\r\nX-B: b\r\n", "X-A: a\r\nX-C: c\r\n", "X-B: b\r\nX-C: c\r\n", ""] {
        assert_eq!(status(path, lines), 403, "{lines:?}");
    }
    // No spelling of the path leads around it.
    for path in [
        "/api/admin//page.txt",
        "/api/./admin/page.txt",
        "/api/%61dmin/page.txt",
        "/api/x/../admin/page.txt",
    ] {
        let status = status(path, "X-A: a\r\n");
        assert!(matches!(status, 400 | 403 | 404), "{path}: {status}");
    }
}

#[test]
fn what_does_not_exist_is_not_told_to_strangers() {
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"basic\"\nusers = { ann = \"plain:secret\" }";
    let ravelin = guarded(&origin, auth).start();
    ravelin.ask(get("/nothing", "")).expect(401);
    ravelin.ask("DELETE /page.txt HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(405);
    // Whoever looks after Ravelin need not know a password.
    ravelin.ask(get("/api/health", "")).expect(200);
}

#[test]
fn the_way_to_https_comes_before_the_password() {
    let origin = switching();
    let keys = "redirect_to_https = true\n[sites.auth]\ntype = \"basic\"\nusers = { ann = \"plain:secret\" }";
    let ravelin = guarded(&origin, keys).start();
    let moved = ravelin.ask(get("/page.txt", "")).expect(301);
    assert!(!moved.head.has("www-authenticate"));
}

#[test]
fn another_route_takes_over_from_who_is_not_let_in() {
    let origin = switching();
    let url = origin.url();
    let ravelin = Ravelin::start(&format!(
        "[[sites]]\nname = \"test\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
         [sites.proxy]\nenabled = true\n\
         [[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n\
         [[sites.routes]]\npath = \"/\"\nupstream = \"backend\"\n\
         on_result = {{ unauthorized = \"login\" }}\n\
         auth = {{ type = \"basic\", users = {{ ann = \"plain:secret\" }} }}\n\
         [[sites.routes]]\nname = \"login\"\nredirect = \"/login\"\nstatus = 303\n"
    ));
    let response = ravelin.ask(get("/x", "")).expect(303);
    assert_eq!(response.get("location"), Some("/login"));
    assert_eq!(origin.requests().len(), 0);
    let lines = format!("Authorization: Basic {}\r\n", base64("ann:secret"));
    ravelin.ask(get("/x", &lines)).expect(200);
}

#[test]
fn only_the_route_for_strangers_is_open_to_them() {
    let origin = switching();
    let ravelin = Ravelin::start(&site_with(
        "[sites.auth]\ntype = \"header\"\nfields = { X-A = \"a\" }\n",
        &[&origin.url()],
        "on_result = { unauthorized = \"hello\" }\n\
         [[sites.routes]]\nname = \"hello\"\nstatus = 200\nbody = \"who are you?\"\n\
         [[sites.routes]]\npath = \"/x\"\nupstream = \"backend\"\n\
         on_result = { unauthorized = \"login\" }\n\
         [[sites.routes]]\nname = \"login\"\nstatus = 200\naccess = { deny = [\"127.0.0.1\"] }\n\
         on_result = { denied = \"inner\" }\n\
         [[sites.routes]]\nname = \"inner\"\nupstream = \"backend\"\n",
    ));
    assert_eq!(ravelin.ask(get("/", "")).expect(200).text(), "who are you?");
    // The login is closed, and what stands in for it is not for strangers.
    ravelin.ask(get("/x", "")).expect(403);
    assert_eq!(origin.requests().len(), 0);
    ravelin.ask(get("/", "X-A: a\r\n")).expect(200);
    assert_eq!(origin.requests().len(), 1);
}
