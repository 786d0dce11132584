//! How much an endpoint and a pool take at once, and what waits meanwhile.

use std::time::Duration;

use crate::harness::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

#[test]
fn one_that_is_full_leaves_requests_to_the_others() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let entries = [(a.url(), "max_conns = 1"), (b.url(), "")];
    let ravelin = Ravelin::start(&site_of(&entries, ""));
    let gate = a.hold();
    let mut busy = ravelin.client();
    busy.send(GET);
    a.await_held();
    let mut client = ravelin.client();
    assert_eq!(order(&mut client, 6), "bbbbbb");
    gate.open();
    assert_eq!(busy.response("GET").expect(200).text(), "a");
    assert_eq!(order(&mut client, 6).matches('a').count(), 3);
}

#[test]
fn a_tier_that_is_full_is_waited_for_and_no_reason_to_ask_a_backup() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let entries = [(a.url(), "max_conns = 1"), (b.url(), "backup = true")];
    let more = "[sites.proxy.queue]\ntimeout = \"300ms\"\n";
    let ravelin = Ravelin::start(&site_of(&entries, more));
    let gate = a.hold();
    let mut busy = ravelin.client();
    busy.send(GET);
    a.await_held();
    ravelin.get("/").expect(503);
    assert_eq!(b.asked(), 0);
    gate.open();
    busy.response("GET").expect(200);
}

#[test]
fn more_than_the_queue_holds_are_503_at_once() {
    let a = Backend::new("a");
    let more = "[sites.proxy.queue]\nmax = 2\ntimeout = \"1h\"\n";
    let ravelin = Ravelin::start(&site_of(&[(a.url(), "max_conns = 1")], more));
    let gate = a.hold();
    let mut first = ravelin.client();
    first.send(GET);
    a.await_held();
    let mut others: Vec<Client> = (0..5).map(|_| ravelin.client()).collect();
    others.iter_mut().for_each(|client| _ = client.send(GET));
    let refused = || ravelin.stdout.all().iter().filter(|line| line.contains(" 503 ")).count();
    until("three to be refused", || refused() == 3);
    assert!(a.holds_no_more());
    gate.open();
    first.response("GET").expect(200);
    let mut statuses: Vec<u16> = Vec::new();
    for client in &mut others {
        let response = client.response("GET");
        if response.status == 503 {
            assert!(response.get("retry-after").is_some_and(|value| value.parse::<u64>().is_ok()));
        }
        statuses.push(response.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503, 503]);
}

#[test]
fn without_a_queue_nobody_waits() {
    let a = Backend::new("a");
    let more = "[sites.proxy.queue]\nmax = 0\n";
    let ravelin = Ravelin::start(&site_of(&[(a.url(), "max_conns = 1")], more));
    let gate = a.hold();
    let mut first = ravelin.client();
    first.send(GET);
    a.await_held();
    (0..3).for_each(|_| _ = ravelin.get("/").expect(503));
    gate.open();
    first.response("GET").expect(200);
    // The place is free before the client can have seen all of the response.
    (0..200).for_each(|_| drop(ravelin.get("/").expect(200)));
}

#[test]
fn those_that_wait_are_served_as_soon_as_there_is_room_anywhere() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let entries = [(a.url(), "max_conns = 1"), (b.url(), "max_conns = 1")];
    let ravelin =
        Ravelin::start(&format!("[performance]\nworker_threads = 4\n{}", site_of(&entries, "")));
    let (hold_a, hold_b) = (a.hold(), b.hold());
    let mut clients: Vec<Client> = (0..12).map(|_| ravelin.client()).collect();
    clients.iter_mut().for_each(|client| _ = client.send(GET));
    a.await_held();
    b.await_held();
    assert!(a.holds_no_more() && b.holds_no_more(), "one at each");
    // All that wait go through b, one after the other.
    hold_b.open();
    until("the others", || b.asked() == 11);
    assert_eq!(a.asked(), 1);
    hold_a.open();
    clients.iter_mut().for_each(|client| drop(client.response("GET").expect(200)));
}

/// Sends a request by each of `clients`, and holds those that reach the upstream. How many that are.
fn at_once(a: &Backend, clients: &mut [Client], limit: usize) {
    let before = a.asked();
    let gate = a.hold();
    clients.iter_mut().for_each(|client| _ = client.send(GET));
    (0..limit).for_each(|_| a.await_held());
    // That nobody comes has no event; a machine too slow to see it fails nothing.
    let since = std::time::Instant::now();
    until("time to pass", || since.elapsed() > Duration::from_millis(200));
    assert_eq!(a.asked() - before, limit, "no more than {limit} at once");
    gate.open();
    clients.iter_mut().for_each(|client| drop(client.response("GET").expect(200)));
}

#[test]
fn adaptive_concurrency_is_bounded_from_the_start_and_serves_all_in_the_end() {
    let a = Backend::new("a");
    let ravelin =
        Ravelin::start(&site_of(&[(a.url(), "")], "[sites.proxy.concurrency]\nadaptive = true\n"));
    let mut clients: Vec<Client> = (0..60).map(|_| ravelin.client()).collect();
    at_once(&a, &mut clients, 20);
    a.hold_none();
    // What was slow once does not slow it down for ever.
    for _ in 0..5 {
        clients.iter_mut().for_each(|client| _ = client.send(GET));
        clients.iter_mut().for_each(|client| drop(client.response("GET").expect(200)));
    }
}

#[test]
fn adaptive_concurrency_stays_below_its_maximum() {
    let a = Backend::new("a");
    let more = "[sites.proxy.concurrency]\nadaptive = true\nmax = 7\n";
    let ravelin = Ravelin::start(&site_of(&[(a.url(), "")], more));
    let mut clients: Vec<Client> = (0..30).map(|_| ravelin.client()).collect();
    at_once(&a, &mut clients, 7);
}

/// Upstreams that are overloaded answer later: the limit gives way, and comes back when they do.
#[test]
fn adaptive_concurrency_shrinks_under_latency_and_recovers() {
    let a = Backend::new("a");
    let more = "[sites.proxy.concurrency]\nadaptive = true\n[sites.proxy.queue]\nmax = 0\n";
    let ravelin = Ravelin::start(&site_of(&[(a.url(), "")], more));
    let mut clients: Vec<Client> = (0..40).map(|_| ravelin.client()).collect();
    // How many of 40 requests at once have reached the upstream after so long. On a slow machine more
    // may be on their way, and it is the next round that counts.
    let mut passed = |millis: u64| {
        let before = a.asked();
        let gate = a.hold();
        clients.iter_mut().for_each(|client| _ = client.send(GET));
        let since = std::time::Instant::now();
        until("time to pass", || since.elapsed() >= Duration::from_millis(millis));
        let passed = a.asked() - before;
        gate.open();
        clients.iter_mut().for_each(|client| drop(client.response("GET")));
        passed
    };
    until("the first limit", || passed(20) >= 15);
    until("a lower limit", || passed(300) <= 12);
    let low = passed(20);
    until("a higher limit", || passed(20) > low + low / 4);
}
