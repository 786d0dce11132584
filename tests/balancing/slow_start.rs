//! One that came back gets its share little by little.

use crate::harness::*;

const RETRY: &str = "[sites.proxy.retry]\non = [503]\nbudget = 100\n";

/// A pool in which "a" has just come back.
fn after_return(method: &str, slow_start: &str) -> ([Backend; 2], Ravelin) {
    let backends = ["a", "b"].map(Backend::new);
    let keys = format!("max_fails = 1\nfail_timeout = 1\nslow_start = \"{slow_start}\"");
    let entries = backends.each_ref().map(|backend| (backend.url(), keys.as_str()));
    let more = format!("{RETRY}[sites.proxy.load_balancing]\nmethod = \"{method}\"\n");
    let ravelin = Ravelin::start(&site_of(&entries, &more));
    let mut client = ravelin.client();
    let before = order(&mut client, 10);
    let share = before.matches('a').count();
    assert!(share == 5 || method.contains("random"), "whole at the start: {before}");
    backends[0].set_status(503);
    until("the failure", || {
        client.get("/").expect(200);
        backends[0].asked() > share
    });
    backends[0].set_status(200);
    let line = ["info pool \"backend\": ", &backends[0].url(), " answers again"];
    ravelin.stderr.line_with_after(&mut || drop(client.get("/").expect(200)), &line);
    (backends, ravelin)
}

#[test]
fn at_first_it_gets_next_to_nothing() {
    for method in ["round_robin", "weighted", "weighted_random", "random"] {
        let (_backends, ravelin) = after_return(method, "1h");
        let order = order(&mut ravelin.client(), 200);
        assert!(order.matches('a').count() <= 20, "{method}: {order}");
    }
}

#[test]
fn in_the_end_it_has_its_whole_share() {
    for method in ["round_robin", "weighted"] {
        let (_backends, ravelin) = after_return(method, "1s");
        let mut client = ravelin.client();
        until("its share", || order(&mut client, 10).matches('a').count() == 5);
    }
}

#[test]
fn without_it_the_whole_share_comes_at_once() {
    let (_backends, ravelin) = after_return("round_robin", "0s");
    assert_eq!(order(&mut ravelin.client(), 10).matches('a').count(), 5);
}
