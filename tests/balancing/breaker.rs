//! The circuit breaker of a pool: closed, open, half open, and what the log says of it.

use crate::harness::*;

fn before(backend: &Backend, keys: &str) -> Ravelin {
    let more = format!("[sites.proxy.circuit_breaker]\nwindow = 4\nminimum = 4\n{keys}\n");
    Ravelin::start(&site(&[&backend.url()], &more))
}

const OPEN: &str = "warn pool \"backend\": circuit open: 4 of 4 requests failed";

/// Makes it open.
fn open(client: &mut Client, backend: &Backend) {
    backend.set_status(500);
    (0..4).for_each(|_| _ = client.get("/").expect(500));
    let refused = client.get("/").expect(503);
    assert!(
        refused.get("retry-after").is_some_and(|value| value.parse::<u64>().is_ok_and(|n| n > 0))
    );
    assert_eq!(backend.asked(), 4, "nobody is asked");
}

#[test]
fn trials_that_go_well_close_it() {
    let a = Backend::new("a");
    let ravelin = before(&a, "open = 2\ntrials = 2");
    let mut client = ravelin.client();
    assert_eq!(order(&mut client, 3), "aaa");
    let asked = a.asked();
    a.set_status(500);
    until("it to be open", || client.get("/").status == 503);
    // Half of the last four have failed: with those before it was enough of them.
    assert_eq!(a.asked(), asked + 2);
    let opened = ravelin.stderr.line_with(&["warn pool \"backend\": circuit open: "]);
    assert!(opened.ends_with("2 of 4 requests failed"), "{opened}");
    a.set_status(200);
    until("a trial", || client.get("/").status == 200);
    client.get("/").expect(200);
    let half_open = "circuit half open: 2 s have passed, at most 2 trials";
    ravelin.stderr.line_with(&["warn pool \"backend\": ", half_open]);
    ravelin.stderr.line_with(&["pool \"backend\": circuit closed: 0 of 2 trials failed"]);
    assert_eq!(order(&mut client, 10), "a".repeat(10));
}

#[test]
fn trials_that_fail_open_it_again() {
    let a = Backend::new("a");
    let ravelin = before(&a, "open = 2\ntrials = 2");
    let mut client = ravelin.client();
    open(&mut client, &a);
    ravelin.stderr.line_with(&[OPEN]);
    until("trials", || {
        client.get("/");
        a.asked() == 6
    });
    ravelin.stderr.line_with(&["circuit open: 2 of 2 trials failed"]);
    client.get("/").expect(503);
    assert_eq!(a.asked(), 6);
}

#[test]
fn while_trials_are_under_way_nobody_else_is_let_through() {
    let a = Backend::new("a");
    let ravelin = before(&a, "open = 2\ntrials = 1");
    let mut client = ravelin.client();
    open(&mut client, &a);
    a.set_status(200);
    let gate = a.hold();
    let mut other = ravelin.client();
    let trying = std::thread::spawn(move || while other.get("/").status != 200 {});
    a.await_held();
    (0..5).for_each(|_| _ = client.get("/").expect(503));
    assert_eq!(a.asked(), 5);
    gate.open();
    ravelin.stderr.line_with(&["circuit closed: 0 of 1 trials failed"]);
    trying.join().unwrap();
    assert_eq!(order(&mut client, 3), "aaa");
}

#[test]
fn slow_responses_open_it_too() {
    let a = Backend::new("a");
    let ravelin = before(&a, "slow = \"1ms\"\nslow_rate = 100\nopen = \"1h\"");
    let mut client = ravelin.client();
    for _ in 0..4 {
        let gate = a.hold();
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        a.await_held();
        let since = std::time::Instant::now();
        until("time to pass", || since.elapsed().as_millis() > 5);
        gate.open();
        client.response("GET").expect(200);
    }
    client.get("/").expect(503);
    ravelin.stderr.line_with(&["circuit open: 4 of 4 requests were slow"]);
}

#[test]
fn what_counts_as_a_failure_can_be_said() {
    let a = Backend::new("a");
    let ravelin = before(&a, "open = \"1h\"\nstatuses = [\"400-499\"]");
    let mut client = ravelin.client();
    a.set_status(500);
    (0..10).for_each(|_| _ = client.get("/").expect(500));
    a.set_status(404);
    (0..2).for_each(|_| _ = client.get("/").expect(404));
    client.get("/").expect(503);
}
