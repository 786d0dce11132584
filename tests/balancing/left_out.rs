//! `max_fails` and `fail_timeout`, and what happens when nobody is left.

use crate::harness::*;

/// A status of the upstream's is a failure and a reason to go elsewhere.
const RETRY: &str = "[sites.proxy.retry]\non = [503]\nbudget = 100\n";
const NO_RETRY: &str = "[sites.proxy.retry]\non = [503]\nattempts = 1\n";

fn before(backends: &[&Backend], keys: &str, more: &str) -> Ravelin {
    let entries: Vec<_> = backends.iter().map(|backend| (backend.url(), keys)).collect();
    Ravelin::start(&site_of(&entries, more))
}

#[test]
fn exactly_max_fails_failures_leave_one_out() {
    for max in [1, 2, 5] {
        let [a, b] = ["a", "b"].map(Backend::new);
        let keys = format!("max_fails = {max}\nfail_timeout = \"1h\"");
        let ravelin = before(&[&a, &b], &keys, RETRY);
        let mut client = ravelin.client();
        a.set_status(503);
        assert_eq!(order(&mut client, 30), "b".repeat(30));
        assert_eq!(a.asked(), max);
        let failures = format!("left out for 3600s: {max} failures, the last: status 503");
        ravelin.stderr.line_with(&["warn pool \"backend\": ", &a.url(), &failures]);
    }
}

/// As nginx: a success soon after a failure does not take it back.
#[test]
fn failures_add_up_whatever_succeeds_between_them() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let ravelin = before(&[&a, &b], "max_fails = 3\nfail_timeout = \"1h\"", RETRY);
    let mut client = ravelin.client();
    for _ in 0..2 {
        a.set_status(503);
        assert_eq!(order(&mut client, 2), "bb");
        a.set_status(200);
        assert_eq!(order(&mut client, 2).matches('a').count(), 1);
    }
    a.set_status(503);
    assert_eq!(order(&mut client, 2), "bb");
    a.set_status(200);
    assert_eq!(order(&mut client, 10), "b".repeat(10));
}

#[test]
fn after_fail_timeout_one_request_tries_it_and_nobody_else() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let ravelin = before(&[&a, &b], "max_fails = 1\nfail_timeout = 3", RETRY);
    let mut client = ravelin.client();
    a.set_status(503);
    assert_eq!(order(&mut client, 4), "bbbb");
    assert_eq!(a.asked(), 1);
    let gate = a.hold();
    a.set_status(200);
    let mut other = ravelin.client();
    let trying = std::thread::spawn(move || while other.get("/").expect(200).text() != "a" {});
    a.await_held();
    assert_eq!(order(&mut client, 20), "b".repeat(20), "while it is tried");
    assert_eq!(a.asked(), 2);
    gate.open();
    ravelin.stderr.line_with(&["info pool \"backend\": ", &a.url(), " answers again"]);
    trying.join().unwrap();
    let order = order(&mut client, 10);
    assert_eq!(order.matches('a').count(), 5, "{order}");
}

#[test]
fn a_trial_that_fails_leaves_it_out_again_and_says_nothing_new() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let ravelin = before(&[&a, &b], "max_fails = 3\nfail_timeout = 1", RETRY);
    let mut client = ravelin.client();
    a.set_status(503);
    until("trials", || {
        assert_eq!(client.get("/").expect(200).text(), "b");
        a.asked() == 5
    });
    let lines = ravelin.stderr.all();
    let told = lines.iter().filter(|line| line.contains("is left out")).count();
    assert_eq!(told, 1, "{lines:?}");
}

#[test]
fn without_fail_open_nobody_is_asked_when_all_are_left_out_and_it_is_503() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let more = format!("{NO_RETRY}[sites.proxy.load_balancing]\nfail_open = false\n");
    let ravelin = before(&[&a, &b], "max_fails = 1\nfail_timeout = \"1h\"", &more);
    let mut client = ravelin.client();
    for backend in [&a, &b] {
        backend.set_status(503);
        assert_eq!(client.get("/").expect(503).text().len(), 1, "the upstream's own");
    }
    for _ in 0..5 {
        assert!(client.get("/").expect(503).text().len() > 1, "Ravelin's");
    }
    assert_eq!((a.asked(), b.asked()), (1, 1));
}

#[test]
fn those_left_out_are_asked_when_none_is_usable() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let ravelin = before(&[&a, &b], "max_fails = 1\nfail_timeout = \"1h\"", NO_RETRY);
    let mut client = ravelin.client();
    for backend in [&a, &b] {
        backend.set_status(503);
    }
    for _ in 0..6 {
        client.get("/").expect(503);
    }
    assert_eq!((a.asked(), b.asked()), (3, 3));
    // One that has come back serves at once, long before `fail_timeout` is over.
    for backend in [&a, &b] {
        backend.set_status(200);
    }
    assert_eq!(order(&mut client, 6).len(), 6);
}

#[test]
fn the_only_one_is_never_left_out() {
    let a = Backend::new("a");
    let ravelin = before(&[&a], "max_fails = 1\nfail_timeout = \"1h\"", NO_RETRY);
    let mut client = ravelin.client();
    a.set_status(503);
    for _ in 0..10 {
        client.get("/").expect(503);
    }
    assert_eq!(a.asked(), 10);
    a.set_status(200);
    assert_eq!(order(&mut client, 2), "aa");
    let lines = ravelin.stderr.all();
    assert!(!lines.iter().any(|line| line.contains("left out")), "{lines:?}");
}

/// A member that had failed is tried by one of its clients, or it would never be well again.
#[test]
fn one_that_all_clients_stick_to_is_well_again_after_a_trial() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let more = format!("{RETRY}[sites.proxy.load_balancing]\nsticky_sessions = true\n");
    let ravelin = before(&[&a, &b], "max_fails = 1\nfail_timeout = 1", &more);
    let first = ravelin.get("/").expect(200);
    assert_eq!(first.text(), "a");
    let cookie = first.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let request = format!("GET / HTTP/1.1\r\nHost: example.com\r\nCookie: {cookie}\r\n\r\n");
    let mut client = ravelin.client();
    a.set_status(503);
    assert_eq!(client.ask(&request).expect(200).text(), "b");
    a.set_status(200);
    until("its return", || client.ask(&request).expect(200).text() == "a");
    ravelin.stderr.line_with(&["info pool \"backend\": ", &a.url(), " answers again"]);
}
