//! Endpoints that fail their health checks get no requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::*;

const CHECK: &str = "[sites.proxy.health_check]\npath = \"/health\"\ninterval = \"100ms\"\n\
                     fall = 2\nrise = 2\n";

/// An origin whose answer at /health can be changed; everywhere else it says its name.
struct Checked {
    origin: Origin,
    well: Arc<AtomicBool>,
    /// Since it was changed last.
    asked: Arc<AtomicUsize>,
}

impl Checked {
    fn new(name: &'static str, well: bool) -> Checked {
        let well = Arc::new(AtomicBool::new(well));
        let asked = Arc::new(AtomicUsize::new(0));
        let origin = Origin::serve({
            let (well, asked) = (well.clone(), asked.clone());
            move |request| match request.target.as_str() {
                "/health" => {
                    asked.fetch_add(1, Ordering::SeqCst);
                    match well.load(Ordering::SeqCst) {
                        true => ok("well"),
                        false => b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n".to_vec(),
                    }
                }
                _ => ok(name),
            }
        });
        Checked { origin, well, asked }
    }

    fn set(&self, well: bool) {
        self.well.store(well, Ordering::SeqCst);
        self.asked.store(0, Ordering::SeqCst);
    }

    fn url(&self) -> String {
        self.origin.url()
    }

    /// Requests that were none of the checks'.
    fn served(&self) -> usize {
        self.origin.requests().iter().filter(|request| request.target != "/health").count()
    }
}

fn before(origins: &[&Checked], more: &str) -> Ravelin {
    let urls: Vec<String> = origins.iter().map(|origin| origin.url()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    Ravelin::start(&site(&urls, more))
}

fn names(ravelin: &Ravelin, count: usize) -> String {
    let mut client = ravelin.client();
    (0..count).map(|_| client.get("/").expect(200).text()).collect()
}

#[test]
fn one_that_fails_gets_no_requests_until_it_has_come_back() {
    let (a, b) = (Checked::new("a", true), Checked::new("b", true));
    let ravelin = before(&[&a, &b], CHECK);
    assert_eq!(names(&ravelin, 4), "abab");
    b.set(false);
    let url = b.url();
    let line = ravelin.stderr.line_with(&[" warn pool \"backend\": ", &url, " is down: "]);
    assert!(line.ends_with("2 checks failed, the last: status 500 (expected 200-399)"), "{line}");
    assert!(b.asked.load(Ordering::SeqCst) >= 2);
    let before = b.served();
    assert_eq!(names(&ravelin, 10), "a".repeat(10));
    assert_eq!(b.served(), before);
    b.set(true);
    let line = ravelin.stderr.line_with(&[" info pool \"backend\": ", &url, " is up again after "]);
    assert!(line.ends_with("2 checks"), "{line}");
    let order = names(&ravelin, 10);
    assert_eq!(order.matches('b').count(), 5, "{order}");
    let lines = ravelin.stderr.all();
    let told = lines.iter().filter(|line| line.contains("pool \"backend\": ")).count();
    assert_eq!(told, 2, "each change once: {lines:?}");
}

#[test]
fn when_all_are_down_the_answer_is_503() {
    let (a, b) = (Checked::new("a", false), Checked::new("b", false));
    let ravelin = before(&[&a, &b], CHECK);
    for origin in [&a, &b] {
        ravelin.stderr.line_with(&[&origin.url(), " is down: "]);
    }
    ravelin.get("/").expect(503);
    assert_eq!(a.served() + b.served(), 0);
    a.set(true);
    ravelin.stderr.line_with(&[&a.url(), " is up again"]);
    assert_eq!(names(&ravelin, 3), "aaa");
}

#[test]
fn one_that_nobody_listens_at_is_down_before_a_request_finds_it_out() {
    let a = Checked::new("a", true);
    let closed = format!("http://127.0.0.1:{}", free_port());
    let toml = site(&[&a.url(), &closed], CHECK);
    let ravelin = Ravelin::start(&toml);
    let line = ravelin.stderr.line_with(&[&closed, " is down: "]);
    assert!(line.ends_with("2 checks failed, the last: connection refused"), "{line}");
    assert_eq!(names(&ravelin, 6), "aaaaaa");
    let failures = ravelin.stderr.all().into_iter().filter(|line| line.contains("answered"));
    assert_eq!(failures.count(), 0);
}

#[test]
fn a_check_is_a_request_that_says_what_it_is() {
    let a = Checked::new("a", true);
    let _ravelin = before(&[&a], CHECK);
    let request = a.origin.request(0);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/health"));
    assert_eq!(request.get("host"), Some(a.origin.addr().to_string().as_str()));
    assert_eq!(request.get("connection"), Some("close"));
    let agent = request.get("user-agent").unwrap();
    assert!(agent.starts_with("Ravelin/") && agent.ends_with(" health check"), "{agent}");
}

#[test]
fn a_request_that_waits_at_one_found_down_goes_elsewhere() {
    let stuck = Arc::new(AtomicBool::new(false));
    let (came, waits) = channel();
    let is_stuck = stuck.clone();
    // A held process: its system takes connections, nobody answers.
    let a = Origin::script(move |conn| {
        while let Ok(request) = conn.try_request() {
            match (&*request.target, is_stuck.load(Ordering::SeqCst)) {
                ("/health", false) => conn.send(ok("well")),
                ("/health", true) => return conn.wait_closed(),
                _ => {
                    let _ = came.send(());
                    return conn.wait_closed();
                }
            }
        }
    });
    let b = Origin::saying("b");
    let more = "[sites.proxy.health_check]\npath = \"/health\"\ninterval = \"100ms\"\n\
                timeout = \"100ms\"\nfall = 2\n[sites.proxy.timeout]\nread = \"1h\"\n";
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], more));
    let mut put = ravelin.client();
    let mut post = ravelin.client();
    let head = "/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi";
    put.send(format!("PUT {head}"));
    waits.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ravelin.get("/").expect(200).text(), "b");
    post.send(format!("POST {head}"));
    waits.recv_timeout(PATIENCE).unwrap();
    stuck.store(true, Ordering::SeqCst);
    ravelin.stderr.line_with(&[&a.url(), " is down: "]);
    assert_eq!(put.response("PUT").expect(200).text(), "b");
    // Nobody knows whether it was acted upon, so it waits on.
    post.wire.sock.set_patience(Duration::from_millis(1500));
    assert!(matches!(post.wire.response("POST"), Err(Broken::TimedOut)));
}

#[test]
fn a_request_waits_on_at_one_found_down_if_nobody_else_would_be_asked() {
    let gate = Gate::new();
    let passing = gate.clone();
    let a = Origin::serve(move |request| match &*request.target {
        "/health" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => {
            passing.pass();
            ok("a")
        }
    });
    let b = Origin::saying("b");
    let more = "[sites.proxy.health_check]\npath = \"/health\"\ninterval = \"500ms\"\n\
                fall = 2\n[sites.proxy.retry]\nbudget = 0\nbudget_minimum = 0\n";
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], more));
    let mut client = ravelin.client();
    client.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    ravelin.stderr.line_with(&[&a.url(), " is down: "]);
    client.wire.sock.set_patience(Duration::from_millis(1500));
    let early = client.wire.response("GET");
    assert!(matches!(early, Err(Broken::TimedOut)), "{early:?}");
    gate.open();
    client.wire.sock.set_patience(PATIENCE);
    assert_eq!(client.response("GET").expect(200).text(), "a");
}
