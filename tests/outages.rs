//! Five origins under load, and what can happen to them: no request is lost that could be saved.
//!
//! The origins are processes, so what happens to them is what happens to real ones. All requests of
//! the load may be sent twice. `RAVELIN_OUTAGE_SECONDS` makes each outage longer, and with
//! `--nocapture` the numbers are shown.

use std::time::{Duration, Instant};

use crate::harness::*;

const ORIGINS: usize = 5;
/// With the service time this is some 800 requests a second: a load, but none that keeps a small
/// machine from running anything else.
const CLIENTS: usize = 16;
const SERVICE: Duration = Duration::from_millis(20);

/// How long a pool has to find out. What fails before is told, but no failure of the test.
const GRACE: Duration = Duration::from_secs(1);

/// What an operator writes who wants to keep his users from seeing any of this.
const RESILIENT: &str = r#"
[sites.proxy.load_balancing]
method = "least_time"
fail_open = true

[sites.proxy.retry]
attempts = 4
on = ["connect", "reset", "refused", "timeout", "invalid", 500, 502, 503, 504]

[sites.proxy.outlier]
consecutive = 5

[sites.proxy.timeout]
connect = 1
read = 1
"#;

/// Beside it: what finds out without a request.
const CHECKS: &str = r#"
[sites.proxy.health_check]
path = "/health"
interval = "500ms"
timeout = "1s"
fall = 2
rise = 2
"#;

fn before(fleet: &Fleet, more: &str) -> Ravelin {
    let urls = fleet.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    Ravelin::start(&format!("[logging]\nlog_requests = false\n{}", site(&urls, more)))
}

/// How long an outage is.
fn outage() -> Duration {
    let told = std::env::var("RAVELIN_OUTAGE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(told.unwrap_or(3))
}

/// Something happens to these origins while there is load; what came of the load meanwhile.
fn load_while(what: &str, config: &str, happens: impl FnOnce(&mut Fleet)) -> Samples {
    let mut fleet = Fleet::start(ORIGINS, SERVICE);
    let ravelin = before(&fleet, config);
    let load = Load::replayable(ravelin.addr(), CLIENTS);
    load.await_requests(500);
    let began = Instant::now();
    happens(&mut fleet);
    load.go_on_for(outage());
    let samples = load.end();
    let before = samples.between(began - GRACE * 60, began);
    let (first, later) = (samples.between(began, began + GRACE), samples.since(began + GRACE));
    eprintln!("{what}, before: {}", before.report());
    eprintln!("{what}, in the first second: {}", first.report());
    eprintln!("{what}, later: {}", later.report());
    let ended = |sample: &&Sample| sample.began + sample.took < began;
    let untouched = Samples(before.0.iter().filter(ended).cloned().collect());
    assert!(untouched.failures().is_empty(), "{}", untouched.report());
    for origin in 0..ORIGINS {
        assert!(before.answered_by(origin) > 0, "origin {origin} had no part of the load");
    }
    later
}

#[track_caller]
fn no_request_fails(what: &str, happens: impl Fn(&mut Fleet)) {
    for (how, config) in
        [("with checks", [RESILIENT, CHECKS].concat()), ("without", RESILIENT.into())]
    {
        let later = load_while(&format!("{what}, {how}"), &config, &happens);
        assert!(later.failures().is_empty(), "{}", later.report());
        assert!(later.len() > 200, "{}", later.report());
    }
}

#[test]
fn an_origin_that_is_killed() {
    no_request_fails("killed", |fleet| fleet[1].kill());
}

#[test]
fn an_origin_that_is_held() {
    no_request_fails("held", |fleet| fleet[1].hold());
}

#[test]
fn an_origin_that_answers_500_to_everything() {
    no_request_fails("failing", |fleet| fleet[1].become_("failing"));
}

#[test]
fn an_origin_a_hundred_times_slower() {
    no_request_fails("slow", |fleet| fleet[1].become_("slow"));
}

#[test]
fn an_origin_that_resets_every_connection() {
    no_request_fails("resetting", |fleet| fleet[1].become_("resetting"));
}

#[test]
fn one_killed_and_one_held_and_one_that_fails() {
    no_request_fails("killed, held and failing", |fleet| {
        fleet[0].kill();
        fleet[2].hold();
        fleet[4].become_("failing");
    });
}

#[test]
fn all_but_one_each_in_its_own_way() {
    no_request_fails("killed, held, slow and resetting", |fleet| {
        fleet[0].kill();
        fleet[1].hold();
        fleet[2].become_("slow");
        fleet[3].become_("resetting");
    });
}

/// Restarts all of them, one after the other; each has a part of the load before the next one goes.
#[track_caller]
fn no_request_fails_while_each(config: &str, restarts: impl Fn(&mut OriginProcess)) {
    let mut fleet = Fleet::start(ORIGINS, SERVICE);
    let ravelin = before(&fleet, config);
    let load = Load::replayable(ravelin.addr(), CLIENTS);
    load.await_requests(300);
    for origin in fleet.iter_mut() {
        restarts(origin);
        load.await_requests(150);
    }
    let samples = load.end();
    eprintln!("{}", samples.report());
    assert!(samples.failures().is_empty(), "{}", samples.report());
}

#[test]
fn a_rolling_restart_of_all_five() {
    no_request_fails_while_each(RESILIENT, |origin| {
        origin.end();
        origin.start_again();
    });
}

#[test]
fn a_rolling_restart_of_all_five_with_checks() {
    no_request_fails_while_each(&[RESILIENT, CHECKS].concat(), |origin| {
        origin.end();
        origin.start_again();
    });
}

#[test]
fn a_rolling_restart_that_breaks_off_what_is_under_way() {
    no_request_fails_while_each(RESILIENT, |origin| {
        origin.kill();
        origin.start_again();
    });
}

/// The response times of a pool with a slow one are compared with those of a pool without, served by
/// the same process in the same seconds, so that whatever else the machine does slows down both; each
/// second gives a ratio of its own, and the middle one counts, so that no single hiccup does. The
/// service time is long against the time a thread may have to wait for its turn.
#[test]
fn p99_with_one_slow_of_five_is_at_most_half_more_than_without() {
    const WINDOWS: u32 = 5;
    const SLOW: usize = ORIGINS + 3;
    let fleet = Fleet::start(2 * ORIGINS, SERVICE);
    let urls = fleet.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let entry =
        |url: &&str| format!("[[sites.proxy.upstreams]]\nname = \"other\"\nurl = \"{url}\"\n");
    let entries: String = urls[ORIGINS..].iter().map(entry).collect();
    let route = "[[sites.proxy.routes]]\npath = \"/other\"\nupstream = \"other\"\n";
    let least_time = "[sites.proxy.load_balancing]\nmethod = \"least_time\"\n";
    let toml = site(&urls[..ORIGINS], &[route, &entries, least_time].concat());
    let ravelin = Ravelin::start(&format!("[logging]\nlog_requests = false\n{toml}"));
    let without = Load::replayable(ravelin.addr(), CLIENTS);
    let with = Load::replayable_at(ravelin.addr(), "/other", CLIENTS);
    with.await_requests(300);
    let slowed = Instant::now();
    fleet[SLOW].become_("slow");
    // To learn it takes as long as its first slow answer; the load cannot do so many before.
    with.await_requests(CLIENTS * 150);
    let begin = Instant::now();
    let window = Duration::from_secs(1);
    with.go_on_for(window * WINDOWS);
    let end = Instant::now();
    let (without, with) = (without.end(), with.end());
    let learning = with.between(slowed, begin);
    let (without, with) = (without.between(begin, end), with.between(begin, end));
    eprintln!("without: {}\nwith: {}", without.report(), with.report());
    assert!(without.failures().is_empty() && with.failures().is_empty());

    let mut ratios: Vec<f64> = (0..WINDOWS)
        .map(|n| {
            let (from, to) = (begin + window * n, begin + window * (n + 1));
            let p99 = |samples: &Samples| samples.between(from, to).quantile(990).as_secs_f64();
            p99(&with) / p99(&without)
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    eprintln!("ratios {ratios:.2?}, learned with {}", learning.answered_by(SLOW));
    assert!(median <= 1.5, "p99 is {median:.2} times as long: {ratios:.2?}");
    // While it learns, no more wait for it than for any other, and those are as many as there are clients.
    assert!(learning.answered_by(SLOW) < 2 * CLIENTS, "{} to learn", learning.answered_by(SLOW));
    let again = with.answered_by(SLOW);
    assert!(again * 100 <= with.len(), "tried again with {again} of {}", with.len());
    let others = (ORIGINS..2 * ORIGINS).filter(|&n| n != SLOW);
    for other in others {
        assert!(with.answered_by(other) * 8 >= with.len(), "{other} has too little");
    }
}
