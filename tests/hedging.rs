//! A second attempt beside one that takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use crate::harness::*;

const HEDGE: &str = "[sites.proxy.retry]\nhedge = \"100ms\"\nbudget = 100\n";

/// An origin that takes requests and answers none of them; tells of each, and when it was let go.
fn silent() -> (Origin, Receiver<&'static str>) {
    let (tell, told) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        let _ = tell.send("came");
        conn.wait_closed();
        let _ = tell.send("let go");
    });
    (origin, told)
}

#[test]
fn the_client_gets_the_response_that_begins_first_and_the_other_is_let_go() {
    let (a, told) = silent();
    let b = Origin::saying("b");
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], HEDGE));
    let mut client = ravelin.client();
    assert_eq!(client.get("/hedged").expect(200).text(), "b");
    assert_eq!(told.recv_timeout(PATIENCE), Ok("came"));
    assert_eq!(told.recv_timeout(PATIENCE), Ok("let go"));
    // The client's connection is as good as before.
    assert_eq!(client.get("/").expect(200).text(), "b");
}

#[test]
fn a_response_in_time_is_asked_for_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let origin = |text: &'static str| {
        let count = count.clone();
        Origin::serve(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            ok(text)
        })
    };
    let (a, b) = (origin("a"), origin("b"));
    let more = HEDGE.replace("100ms", "60s");
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], &more));
    (0..20).for_each(|_| _ = ravelin.get("/").expect(200));
    assert_eq!(count.load(Ordering::SeqCst), 20);
}

#[test]
fn the_first_attempt_may_still_win() {
    let gate = Gate::new();
    let (passing, opening) = (gate.clone(), gate.clone());
    let a = Origin::serve(move |_| {
        passing.pass();
        ok("a")
    });
    // The second one lets the first go on, and never answers.
    let b = Origin::script(move |conn| {
        conn.request();
        opening.open();
        conn.wait_closed();
    });
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], HEDGE));
    assert_eq!(ravelin.get("/").expect(200).text(), "a");
}

#[test]
fn an_attempt_that_fails_leaves_it_to_the_other() {
    let gate = Gate::new();
    let (passing, opening) = (gate.clone(), gate.clone());
    let a = Origin::serve(move |_| {
        passing.pass();
        ok("a")
    });
    let b = Origin::script(move |conn| {
        conn.request();
        conn.reset_on_close();
        opening.open();
    });
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], HEDGE));
    assert_eq!(ravelin.get("/").expect(200).text(), "a");
}

#[test]
fn rfc9110_15_2_interim_responses_of_the_one_that_answers_are_passed_on() {
    let (a, _told) = silent();
    let b = Origin::serve(|_| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </b>; rel=preload\r\n\r\n".to_vec();
        bytes.extend_from_slice(&ok("b"));
        bytes
    });
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], HEDGE));
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let response = client.response("GET").expect(200);
    assert_eq!(response.text(), "b");
    assert_eq!(response.interim.len(), 1);
    assert_eq!(response.interim[0].get("link"), Some("</b>; rel=preload"));
}

#[test]
fn what_may_do_harm_twice_or_has_a_body_is_asked_for_once() {
    for request in [
        "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let (a, told) = silent();
        let b = Origin::saying("b");
        let more = format!("{HEDGE}on = [\"connect\"]\n[sites.proxy.timeout]\nread = 1\n");
        let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], &more));
        ravelin.ask(request).expect(504);
        assert_eq!(told.recv_timeout(PATIENCE), Ok("came"));
        assert_eq!(b.connections(), 0);
    }
}

#[test]
fn the_budget_pays_for_it() {
    let (a, _told) = silent();
    let b = Origin::saying("b");
    let more = "[sites.proxy.retry]\nhedge = \"100ms\"\nbudget = 0\nbudget_minimum = 0\n[sites.proxy.timeout]\nread = 1\n";
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], more));
    ravelin.get("/").expect(504);
    assert_eq!(b.connections(), 0);
}

#[test]
fn the_log_tells_of_both_attempts() {
    let (a, _told) = silent();
    let b = Origin::saying("b");
    let toml = format!("[logging]\nformat = \"json\"\n{}", site(&[&a.url(), &b.url()], HEDGE));
    let ravelin = Ravelin::start(&toml);
    ravelin.get("/hedged").expect(200);
    let line = ravelin.stdout.line_with(&["/hedged"]);
    assert!(line.contains("\"attempts\":2"), "{line}");
    assert!(line.contains(&b.url()), "{line}");
}

/// Two origins: one that answers 503 as soon as the other has a request, which goes on with that a
/// moment later. Most often the 503 is there first; what the tests expect holds otherwise too.
fn bad_and(then: impl Fn(&mut Conn) + Send + Sync + 'static) -> (Origin, Origin) {
    let gate = Gate::new();
    let passing = gate.clone();
    let bad = Origin::serve(move |_| {
        passing.pass();
        b"HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\nx".to_vec()
    });
    let other = Origin::script(move |conn| {
        conn.request();
        gate.open();
        let (_never, clock) = channel::<()>();
        let _ = clock.recv_timeout(std::time::Duration::from_millis(200));
        then(conn);
    });
    (bad, other)
}

#[test]
fn a_response_that_would_be_tried_again_does_not_win_over_one_under_way() {
    let (a, b) = bad_and(|conn| conn.send(ok("b")));
    let more = format!("{HEDGE}on = [\"connect\", 503]\nattempts = 2\n");
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], &more));
    assert_eq!(ravelin.get("/").expect(200).text(), "b");
}

#[test]
fn a_bad_response_is_better_than_none() {
    let (a, b) = bad_and(Conn::reset_on_close);
    let more = format!("{HEDGE}on = [\"connect\", \"reset\", 503]\nattempts = 2\n");
    let ravelin = Ravelin::start(&site(&[&a.url(), &b.url()], &more));
    assert_eq!(ravelin.get("/").expect(503).text(), "x");
}
