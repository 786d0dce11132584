//! What the operator can read afterwards.

mod endings;
mod formats;
mod proxy_status;
mod sampling;
mod syslog;
mod targets;

use crate::harness::*;

fn logging(keys: &str, origin: &Origin) -> Setup {
    Setup::new(&format!("[logging]\n{keys}\n{}", site(&[&origin.url()], "")))
}

#[test]
fn a_combined_line_starts_as_apache_writes_it() {
    let origin = Origin::saying("hello");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask(
        "GET /page?x=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test/1\r\n\
         Referer: http://from.test/\r\n\r\n",
    );
    let line = ravelin.stdout.line_with(&["GET /page"]);
    let (start, rest) = line.split_once(" [").unwrap();
    assert_eq!(start, "127.0.0.1 - -");
    let (time, rest) = rest.split_once("] ").unwrap();
    assert!(time.len() == 26 && time.contains(':') && time.ends_with("+0000"), "{time}");
    let own = rest
        .strip_prefix("\"GET /page?x=1 HTTP/1.1\" 200 5 \"http://from.test/\" \"test/1\"")
        .unwrap_or_else(|| panic!("{line}"));
    for word in ["proxy", "upstream", &origin.port().to_string()] {
        assert!(own.contains(word), "{word} is missing: {line}");
    }
}

#[test]
fn json_lines_are_json_whatever_the_client_sends() {
    let origin = Origin::saying("hello");
    let ravelin = logging("format = \"json\"", &origin).start();
    ravelin.ask(
        b"GET /j\"son?\xff\x01 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: a\"b\\c\t\xe9\r\n\r\n",
    );
    ravelin.ask(
        b"GET /json?q=\"x\" HTTP/1.1\r\nHost: example.com\r\nUser-Agent: a\"b\\c\t\xe9\r\n\r\n",
    );
    let line = Json::parse(&ravelin.stdout.line_with(&["/json?q="]));
    assert_eq!(line.get("status").number(), 200.0);
    assert_eq!(line.get("method").text(), "GET");
    assert_eq!(line.get("target").text(), "/json?q=\"x\"");
    assert_eq!(line.get("client").text(), "127.0.0.1");
    assert_eq!(line.get("response_bytes").number(), 5.0);
    assert!(line.get("upstream").text().contains(&origin.port().to_string()), "{line:?}");
    for line in ravelin.stdout.all() {
        Json::parse(&line);
    }
}

#[test]
fn compact_lines_are_short() {
    let origin = Origin::saying("hello");
    let ravelin = logging("format = \"compact\"", &origin).start();
    ravelin.get("/compact").expect(200);
    let line = ravelin.stdout.line_with(&["GET /compact 200 5 "]);
    assert!(!line.contains("HTTP/1.1"), "{line}");
}

#[test]
fn a_line_feed_cannot_forge_a_log_line() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask("GET /x?a=\"%0a127.0.0.1 HTTP/1.1\r\nHost: example.com\r\n\r\n");
    ravelin.ask("GET /forged HTTP/1.1\r\nHost: example.com\r\nUser-Agent: \"x\" \x1b[31m\r\n\r\n");
    ravelin.get("/after").expect(200);
    ravelin.stdout.line_with(&["GET /after "]);
    for line in ravelin.stdout.all() {
        assert!(!line.contains('\x1b'), "{line:?}");
        assert!(line.starts_with("127.0.0.1 - - ["), "{line:?}");
    }
}

#[test]
fn the_access_log_can_go_to_a_file() {
    let origin = Origin::saying("hello");
    let mut ravelin = logging("access_log = \"access.log\"", &origin).start();
    ravelin.get("/to-a-file").expect(200);
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
    let log = std::fs::read_to_string(ravelin.dir().join("access.log")).unwrap();
    assert!(log.contains("GET /to-a-file HTTP/1.1"), "{log}");
    assert!(!ravelin.stdout.all().iter().any(|l| l.contains("/to-a-file")));
}

#[test]
fn every_request_is_logged_before_a_clean_end() {
    let origin = Origin::saying("");
    let mut ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    for i in 0..200 {
        client.get(&format!("/n{i}")).expect(200);
    }
    drop(client);
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
    let lines = ravelin.stdout.all();
    for i in 0..200 {
        let part = format!("GET /n{i} ");
        assert_eq!(lines.iter().filter(|l| l.contains(&part)).count(), 1, "{part}");
    }
}

#[test]
fn log_requests_false_writes_none() {
    let origin = Origin::saying("");
    let mut ravelin = logging("log_requests = false", &origin).start();
    ravelin.get("/quiet").expect(200);
    ravelin.signal("TERM");
    ravelin.exit();
    assert!(!ravelin.stdout.all().iter().any(|l| l.contains("/quiet")));
}

#[test]
fn a_refused_request_is_logged_too() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask("GET /bad HTTP/1.1\r\nHost: example.com\r\nBad Name: x\r\n\r\n").expect(400);
    let line = ravelin.stdout.line_with(&[" 400 "]);
    assert!(line.contains("ended=client"), "{line}");
}

#[test]
fn static_lines_do_not_speak_of_proxying() {
    let toml = "[[sites]]\nname = \"files\"\nhostname = \"h\"\nlisten = [\"127.0.0.1:0\"]\nstatic_dir = \"www\"\n";
    let ravelin = Setup::new(toml).file("www/a.txt", "a").start();
    ravelin.get("/a.txt").expect(200);
    let line = ravelin.stdout.line_with(&["GET /a.txt"]);
    assert!(!line.contains("proxy") && !line.contains("upstream"), "{line}");
}

#[test]
fn a_blocked_log_pipe_does_not_block_requests() {
    // Standard output is a pipe nobody reads: it fills, and Ravelin must go on.
    use std::process::{Command, Stdio};
    let origin = Origin::saying("");
    let dir = TempDir::new();
    dir.write("ravelin.toml", site(&[&origin.url()], ""));
    let mut child = Command::new(binary())
        .args(["run", "-c", "ravelin.toml"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _unread = child.stdout.take();
    let stderr = Lines::read(child.stderr.take().unwrap());
    let line = stderr.line_with(&["listening on "]);
    let addr = line.rsplit(' ').next().unwrap().parse().unwrap();
    let mut client = Client::connect(addr);
    let long = "x".repeat(2000);
    for i in 0..500 {
        client.get(&format!("/{i}?{long}")).expect(200);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn a_tunnel_is_logged_when_it_ends() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n12345678",
        );
        conn.wait_closed();
    });
    let toml =
        format!("[logging]\nformat = \"json\"\n{}", site(&[&origin.url()], "websocket = true\n"));
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    client
        .ask(
            "GET /tunnel HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .expect(101);
    client.wire.bytes(8).unwrap();
    client.send("abc");
    drop(client);
    let line = Json::parse(&ravelin.stdout.line_with(&["/tunnel"]));
    assert_eq!(line.get("status").number(), 101.0);
    assert_eq!(line.get("response_bytes").number(), 8.0, "{line:?}");
    assert_eq!(line.get("request_bytes").number(), 3.0, "{line:?}");
}

#[test]
fn at_debug_the_error_log_says_why_a_request_was_refused() {
    let origin = Origin::saying("");
    let ravelin = logging("level = \"debug\"", &origin).start();
    ravelin.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").expect(400);
    let line = ravelin.stderr.line_with(&[" debug client 127.0.0.1: ", "more than one Host"]);
    let id = line.rsplit("id=").next().unwrap();
    ravelin.stdout.line_with(&[" 400 ", id]);
    ravelin.ask("GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n").expect(400);
    ravelin.stderr.line_with(&[" debug client 127.0.0.1: ", "encoded slash"]);
}

#[test]
fn a_head_that_took_too_long_has_the_time_it_took() {
    let origin = Origin::saying("");
    let keys = "format = \"json\"\n[limits]\nhead_timeout = \"500ms\"";
    let ravelin = logging(keys, &origin).start();
    ravelin.ask("GET / HTTP/1.1\r\nHost: exam").expect(408);
    let line = Json::parse(&ravelin.stdout.line_with(&["408"]));
    assert!(line.get("total_us").number() >= 500_000.0, "{line:?}");
}

#[test]
fn what_is_cut_off_at_the_end_has_a_line_with_its_phase_and_time() {
    let origin = Origin::script(|conn| {
        let request = conn.request();
        if request.head.has("Upgrade") {
            conn.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            );
        }
        conn.wait_closed();
    });
    let toml =
        format!("[logging]\nformat = \"json\"\n{}", site(&[&origin.url()], "websocket = true\n"));
    let ravelin = Ravelin::start(&toml);
    let mut tunnel = ravelin.client();
    tunnel
        .ask(
            "GET /tunnel HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .expect(101);
    let mut waiting = ravelin.client();
    waiting.send("GET /waiting HTTP/1.1\r\nHost: example.com\r\n\r\n");
    origin.request(1);
    ravelin.signal("QUIT");
    for (target, phase) in [("/tunnel", "tunnel"), ("/waiting", "first_byte")] {
        let line = Json::parse(&ravelin.stdout.line_with(&[target]));
        assert_eq!(line.get("cause").text(), "aborted", "{line:?}");
        assert_eq!(line.get("phase").text(), phase, "{line:?}");
        assert!(line.get("total_us").number() > 0.0, "{line:?}");
    }
}
