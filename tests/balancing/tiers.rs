//! Who is asked at all: tiers of priority, backups, those that are down or drain.

use crate::harness::*;

const FAILS: &str = "max_fails = 1\nfail_timeout = 1";
const RETRY: &str = "[sites.proxy.retry]\non = [\"connect\", \"reset\", 503]\nbudget = 100\n";

fn keys<'a>(backends: &[&Backend], keys: &[&'a str]) -> Vec<(String, &'a str)> {
    backends.iter().map(|backend| backend.url()).zip(keys.iter().copied()).collect()
}

#[test]
fn several_backups_share_the_requests_until_a_primary_is_back() {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Backend::new);
    let entries = keys(&[&c, &a, &d, &b], &["backup = true", FAILS, "backup = true", FAILS]);
    let ravelin = Ravelin::start(&site_of(&entries, RETRY));
    let mut client = ravelin.client();
    assert_eq!(order(&mut client, 6), "ababab");
    b.set_status(503);
    // One primary is enough.
    let one = order(&mut client, 6);
    assert_eq!(one, "aaaaaa");
    assert_eq!((c.asked(), d.asked()), (0, 0));
    a.set_status(503);
    until("both backups", || {
        let order = order(&mut client, 4);
        order == "cdcd" || order == "dcdc"
    });
    a.set_status(200);
    ravelin.stderr.line_with_after(&mut || drop(client.get("/")), &[&a.url(), "answers again"]);
    let (c_before, d_before) = (c.asked(), d.asked());
    assert_eq!(order(&mut client, 6), "aaaaaa");
    assert_eq!((c.asked(), d.asked()), (c_before, d_before));
}

#[test]
fn the_lowest_tier_with_a_usable_endpoint_has_all_requests() {
    let [mut a, mut b, c, d] = ["a", "b", "c", "d"].map(Backend::new);
    // The order in which they are written is of no account.
    let entries =
        keys(&[&d, &b, &c, &a], &["priority = 7", "priority = 2", "priority = 7", "priority = 0"]);
    let ravelin = Ravelin::start(&site_of(&entries, ""));
    let mut client = ravelin.client();
    assert_eq!(order(&mut client, 4), "aaaa");
    a.kill();
    assert_eq!(order(&mut client, 8), "bbbbbbbb");
    b.kill();
    let last = order(&mut client, 20);
    assert!(last.contains("cd") && last.contains("dc"), "{last}");
}

#[test]
fn one_that_is_down_gets_nothing_even_when_all_others_fail() {
    let [a, mut b] = ["a", "b"].map(Backend::new);
    let ravelin = Ravelin::start(&site_of(&keys(&[&a, &b], &["down = true", ""]), ""));
    let mut client = ravelin.client();
    assert_eq!(order(&mut client, 4), "bbbb");
    b.kill();
    let failed = client.get("/");
    assert_eq!(failed.status, 502);
    assert_eq!(a.asked(), 0);
}

/// The same pool before and after `drain = true` was written for one of its servers.
#[test]
fn one_that_drains_keeps_its_clients_and_gets_no_new_ones() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let more = "[sites.proxy.load_balancing]\nsticky_sessions = { key_file = \"sticky.key\" }\n";
    let start = |drain: &str| {
        let setup = Setup::new(&site_of(&keys(&[&a, &b], &[drain, ""]), more));
        setup.file("sticky.key", "a secret that both of them know").start()
    };
    let ask = |ravelin: &Ravelin, cookie: &str| {
        let fields =
            if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        ravelin.ask(format!("GET / HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n")).expect(200)
    };
    let ravelin = start("");
    let first = ask(&ravelin, "");
    assert_eq!(first.text(), "a");
    let cookie = first.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    drop(ravelin);
    let ravelin = start("drain = true");
    for _ in 0..4 {
        assert_eq!(ask(&ravelin, &cookie).text(), "a", "it stays");
        assert_eq!(ask(&ravelin, "").text(), "b", "a new one");
    }
    drop(ravelin);
    let ravelin = start("down = true");
    assert_eq!(ask(&ravelin, &cookie).text(), "b", "down is down for everybody");
}

#[test]
fn one_that_drains_gets_nothing_even_when_all_others_fail() {
    let [a, mut b] = ["a", "b"].map(Backend::new);
    let ravelin = Ravelin::start(&site_of(&keys(&[&a, &b], &["drain = true", ""]), ""));
    b.kill();
    ravelin.get("/").expect(502);
    assert_eq!(a.asked(), 0);
}
