//! `ravelin tail`, and the stream of the admin API behind it.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use super::*;
use crate::harness::{Backend, Origin, PATIENCE, Setup, site, site_of};

/// The URL of a port that nobody listens at.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A second route and pool beside those of [`site`].
fn and_route(path: &str, url: &str) -> String {
    format!(
        "[[sites.proxy.routes]]\npath = \"{path}\"\nupstream = \"other\"\n\
         [[sites.proxy.upstreams]]\nname = \"other\"\nurl = \"{url}\"\n"
    )
}

#[test]
fn it_shows_a_failing_request_with_its_reason() {
    let (origin, dead) = (Origin::saying("fine"), nowhere());
    let ravelin = Ravelin::before_with(&origin, &and_route("/dead", &dead));
    ravelin.get("/fine").expect(200);
    ravelin.get("/dead?a=b").expect(502);
    ravelin.ask("GET / HTTP/1.1\r\nHost: example.com\r\nBad Field: x\r\n\r\n").expect(400);

    let text = told(&ravelin, &["tail", "--failed", "upstream==\"other\""]);
    let [line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    for part in [
        " 502 ",
        "GET example.com/dead?a=b",
        "client=127.0.0.1",
        "site=test",
        "route=/dead",
        "pool=other",
        &format!("endpoint={dead}"),
        "ended=upstream  phase=connect  cause=refused",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let text = told(&ravelin, &["tail", "--failed", "ended==client", "--format", "json"]);
    let json = Json::parse(&text);
    assert_eq!((json.get("status").number(), json.get("cause").text()), (400.0, "malformed"));

    let text = told(&ravelin, &["tail", "--last", "10", "--format", "json"]);
    let mut statuses: Vec<f64> =
        text.lines().map(|line| Json::parse(line).get("status").number()).collect();
    // Times are only as fine as the kernel's clock tick, so that those of two workers may change places.
    statuses.sort_by(f64::total_cmp);
    assert_eq!(statuses, [200.0, 400.0, 502.0]);
    assert_eq!(told(&ravelin, &["tail", "-n", "1"]).lines().count(), 1);
}

#[test]
fn it_shows_requests_as_they_end_that_the_filter_lets_pass() {
    let (origin, dead) = (Origin::saying("fine"), nowhere());
    let ravelin = Ravelin::before_with(&origin, &and_route("/dead", &dead));
    let tail = Running::start(&ravelin, &["tail", "status>=500 && path =~ '^/dead/[0-9]+$'"]);
    let mut number = 0;
    let mut ask = || {
        number += 1;
        ravelin.get("/fine").expect(200);
        ravelin.get("/dead/x").expect(502);
        ravelin.get(&format!("/dead/{number}")).expect(502);
    };
    tail.out.line_with_after(&mut ask, &[" 502 ", "GET example.com/dead/"]);
    ravelin.get("/dead/last1").expect(502);
    ravelin.get("/dead/999999").expect(502);
    tail.out.line_with(&["/dead/999999"]);
    let lines = tail.out.all();
    assert!(lines.iter().all(|line| line.contains("/dead/") && !line.contains("/dead/x")));
    assert!(!lines.iter().any(|line| line.contains("last1")), "{lines:?}");
    assert_eq!(tail.err.all(), [""; 0]);
}

#[test]
fn the_slowest_are_found_among_many() {
    let (quick, slow) = (Backend::new("quick"), Backend::new("slow"));
    let ravelin = Ravelin::start(&site(&[&quick.url()], &and_route("/slow", &slow.url())));
    let gate = slow.hold();
    let mut waiting = ravelin.client();
    waiting.send("GET /slow/one HTTP/1.1\r\nHost: example.com\r\n\r\n");
    slow.await_held();
    let mut client = ravelin.client();
    for _ in 0..300 {
        client.get("/").expect(200);
    }
    gate.open();
    waiting.response("GET").expect(200);
    let text = told(&ravelin, &["tail", "--slow", "-n", "1"]);
    assert!(text.lines().count() == 1 && text.contains("/slow/one"), "{text}");
    // The latest are in several workers' memory.
    let text = told(&ravelin, &["tail", "--last", "500", "--format", "json"]);
    assert_eq!(text.lines().count(), 301);
    assert_eq!(text.lines().filter(|line| line.contains("/slow/one")).count(), 1);
}

#[test]
fn a_filter_that_is_none_is_wrong_usage_and_says_where() {
    let output = run(&std::env::temp_dir(), &["tail", "status>=500 && upstrem==\"b\""]);
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8_lossy(&output.stderr);
    let expected =
        "  status>=500 && upstrem==\"b\"\n                 ^^^^^^^ did you mean `upstream`?";
    assert!(err.contains(expected), "{err}");

    let origin = Origin::saying("fine");
    let ravelin = Ravelin::before(&origin);
    let mut client = Client::connect_unix(&socket(&ravelin));
    let request = "GET /v1/requests?filter=statu HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let response = client.ask(request);
    assert_eq!(response.status, 400);
    assert!(response.text().contains("did you mean `status`?"), "{}", response.text());
}

#[test]
fn one_who_never_reads_misses_some_and_holds_up_nobody() {
    const REQUESTS: u64 = 3000;
    let origin = Origin::saying("fine");
    let ravelin = Ravelin::before(&origin);
    let mut reader = BufReader::new(follow(&ravelin));
    // Its first heartbeat says that nothing is missed from here on.
    until_line(&mut reader, ":");
    let mut client = ravelin.client();
    for _ in 0..REQUESTS {
        client.get("/").expect(200);
    }
    // What it gets in the end, and what it is told it has missed, is all there was.
    let (mut got, mut missed) = (0, 0);
    while got + missed < REQUESTS {
        let line = next_line(&mut reader);
        if let Some(data) = line.strip_prefix("data: ") {
            let json = Json::parse(data);
            match json.get("missed") {
                Json::Number(more) => missed += *more as u64,
                _ => got += 1,
            }
        }
    }
    assert_eq!(got + missed, REQUESTS);
    assert!(missed > 0 && got > 0, "{got} {missed}");
}

#[test]
fn followers_are_bounded_and_leave_no_trace() {
    let origin = Origin::saying("fine");
    let ravelin = Ravelin::before(&origin);
    let status = |reader: &mut BufReader<UnixStream>| {
        let line = next_line(reader);
        line.split(' ').nth(1).unwrap().to_owned()
    };
    for _ in 0..2 {
        let mut all: Vec<_> = (0..16).map(|_| BufReader::new(follow(&ravelin))).collect();
        for reader in &mut all {
            assert_eq!(status(reader), "200");
            until_line(reader, ":");
        }
        let mut other = BufReader::new(follow(&ravelin));
        assert_eq!(status(&mut other), "503");
        drop(all);
        // Their places are free as soon as it is known that they are gone.
        crate::harness::until("a free place", || {
            let mut reader = BufReader::new(follow(&ravelin));
            status(&mut reader) == "200"
        });
        ravelin.get("/").expect(200);
    }
}

#[test]
fn a_recorder_that_is_off_has_nothing_and_its_size_may_change() {
    let origin = Origin::saying("fine");
    let toml = site_of(&[(origin.url(), "")], "") + "[management]\nrecorder = 0\n";
    let ravelin = Setup::new(&toml).start();
    ravelin.get("/").expect(200);
    assert_eq!(told(&ravelin, &["tail", "--last"]), "");
    // Whoever watches sees them nevertheless.
    let tail = Running::start(&ravelin, &["tail"]);
    tail.out.line_with_after(&mut || drop(ravelin.get("/seen")), &[" 200 ", "/seen"]);
}

#[test]
fn secrets_in_queries_are_not_recorded() {
    let origin = Origin::saying("fine");
    let auth = "auth = { type = \"jwt\", algorithms = [\"HS256\"], from = \"query:token\", \
                secret = \"0123456789abcdef0123456789abcdef\" }";
    let ravelin = Ravelin::before_with(&origin, auth);
    ravelin.get("/private?token=geheim").expect(401);
    let text = told(&ravelin, &["tail", "--last", "--format", "json"]);
    assert!(text.contains("/private") && !text.contains("geheim"), "{text}");
}

/// A connection to the admin socket that has asked for the stream.
#[track_caller]
fn follow(ravelin: &Ravelin) -> UnixStream {
    use std::io::Write;
    let mut stream = UnixStream::connect(socket(ravelin)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    stream
}

#[track_caller]
fn next_line(reader: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    let read = reader.read_line(&mut line).unwrap();
    assert!(read > 0, "the stream has ended");
    line.trim_end().to_owned()
}

#[track_caller]
fn until_line(reader: &mut BufReader<UnixStream>, wanted: &str) {
    while next_line(reader) != wanted {}
}
