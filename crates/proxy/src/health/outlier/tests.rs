use std::sync::Arc;
use std::time::Duration;

use config::model;
use net::timer::Tick;

use super::{Detector, Ejection, Failure, Reason, Standing, Stats};
use crate::health::testing::{Random, SEEDS};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(millis: u64) -> Tick {
    Tick::from(millis)
}

fn settings() -> model::Outlier {
    model::Outlier {
        consecutive: 5,
        failures: 50,
        latency: 0,
        minimum: 20,
        window: s(10),
        base_time: s(10),
        max_time: s(300),
        max_ejected: 50,
    }
}

fn detector(settings: model::Outlier, members: usize) -> Detector {
    Detector::new(settings, (0..members).map(|_| Arc::default()).collect())
}

fn usable(_: usize) -> Standing {
    Standing::Usable
}

/// Records the same end of a request so many times; what that ejected.
fn record(
    detector: &Detector,
    count: u32,
    member: usize,
    failure: Option<Failure>,
    now: u64,
) -> Vec<Ejection> {
    (0..count).flat_map(|_| detector.record(member, failure, 1000, at(now), usable)).collect()
}

fn fail(detector: &Detector, member: usize, now: u64) -> Vec<Ejection> {
    record(detector, 5, member, Some(Failure::Connect), now)
}

#[test]
fn failures_in_a_row_eject() {
    let detector = detector(settings(), 3);
    for now in [1000, 2000, 3000, 3500] {
        assert_eq!(record(&detector, 1, 1, Some(Failure::Connect), now), []);
    }
    let ejections = record(&detector, 1, 1, Some(Failure::Connect), 4000);
    let [ejection] = &ejections[..] else { panic!("{ejections:?}") };
    assert_eq!((ejection.member, ejection.until, ejection.times), (1, at(14_000), 1));
    assert_eq!(ejection.reason.to_string(), "5 connect errors in 3 s");
    let stats = &detector.members[1];
    assert_eq!(stats.until(at(13_999)), Some(at(14_000)));
    assert!(!stats.ejected(at(14_000)));
    assert_eq!(detector.ejected(at(5000)), 1);
}

#[test]
fn a_success_between_breaks_the_row() {
    let detector = detector(settings(), 3);
    record(&detector, 4, 0, Some(Failure::Status), 1000);
    record(&detector, 1, 0, None, 1000);
    assert_eq!(record(&detector, 4, 0, Some(Failure::Status), 1000), []);
    assert_eq!(record(&detector, 1, 0, Some(Failure::Reset), 1000).len(), 1);
}

#[test]
fn reasons_for_the_log() {
    let consecutive =
        |failures, kind, within| Reason::Consecutive { failures, kind, within }.to_string();
    assert_eq!(consecutive(5, Some(Failure::Timeout), 65_000), "5 timeouts in 65 s");
    assert_eq!(consecutive(7, Some(Failure::Status), 40), "7 error responses in 40 ms");
    assert_eq!(consecutive(2, Some(Failure::Invalid), 1500), "2 invalid responses in 1.5 s");
    assert_eq!(consecutive(2, None, 12_345), "2 failures in 12 s");
    assert_eq!(consecutive(1, Some(Failure::Reset), 0), "1 reset");
    let failures = Reason::Failures { failed: 12, requests: 20 };
    assert_eq!(failures.to_string(), "12 of 20 requests failed");
    let latency = Reason::Latency { own: 900_000, median: 90_000 };
    assert_eq!(latency.to_string(), "latency 900 ms, median of the others 90 ms");
    let latency = Reason::Latency { own: 2500, median: 80 };
    assert_eq!(latency.to_string(), "latency 2.5 ms, median of the others 80 us");
}

#[test]
fn the_share_of_failures_in_a_window_ejects() {
    let detector = detector(settings(), 3);
    for _ in 0..4 {
        record(&detector, 2, 0, None, 1000);
        record(&detector, 3, 0, Some(Failure::Status), 1000);
    }
    // Too few of member 1, too few failures of member 2.
    record(&detector, 4, 1, Some(Failure::Status), 1000);
    record(&detector, 4, 2, Some(Failure::Status), 1000);
    record(&detector, 20, 2, None, 1000);
    assert_eq!(record(&detector, 1, 2, None, 10_999), []);
    let ejections = record(&detector, 1, 2, None, 11_000);
    let reason = Reason::Failures { failed: 12, requests: 20 };
    assert_eq!(ejections, [Ejection { member: 0, reason, until: at(21_000), times: 1 }]);
}

#[test]
fn latency_far_above_that_of_the_others_ejects() {
    let detector = detector(model::Outlier { latency: 300, ..settings() }, 4);
    for (member, latency) in [(0, 100_000), (1, 900_000), (2, 90_000), (3, 80_000)] {
        for _ in 0..20 {
            detector.record(member, None, latency, at(1000), usable);
        }
    }
    let ejections = record(&detector, 1, 0, None, 11_000);
    let reason = Reason::Latency { own: 900_000, median: 90_000 };
    assert_eq!(ejections, [Ejection { member: 1, reason, until: at(21_000), times: 1 }]);
}

#[test]
fn of_several_the_worst_is_ejected() {
    let detector = detector(model::Outlier { latency: 300, ..settings() }, 3);
    for _ in 0..20 {
        detector.record(0, None, 900_000, at(1000), usable);
        detector.record(1, None, 1000, at(1000), usable);
        detector.record(1, None, 1000, at(1000), usable);
        detector.record(2, Some(Failure::Status), 1000, at(1000), usable);
        detector.record(2, None, 1000, at(1000), usable);
    }
    let ejections = record(&detector, 1, 1, None, 11_000);
    let reason = Reason::Failures { failed: 20, requests: 40 };
    assert_eq!(ejections, [Ejection { member: 2, reason, until: at(21_000), times: 1 }]);
}

#[test]
fn a_window_of_long_ago_says_nothing() {
    let detector = detector(settings(), 3);
    for _ in 0..20 {
        record(&detector, 1, 0, Some(Failure::Status), 1000);
        record(&detector, 1, 0, None, 1000);
    }
    assert_eq!(record(&detector, 1, 1, None, 21_000), []);
    assert_eq!(record(&detector, 1, 1, None, 31_000), []);
}

#[test]
fn each_ejection_in_a_row_takes_longer() {
    let detector = detector(settings(), 3);
    let mut now = 1000;
    let mut times = Vec::new();
    for _ in 0..40 {
        let until = fail(&detector, 0, now)[0].until.as_millis();
        times.push((until - now) / 1000);
        now = until;
    }
    assert_eq!(times[..4], [10, 20, 30, 40]);
    assert_eq!(times[28..32], [290, 300, 300, 300]);
}

#[test]
fn healthy_windows_shorten_the_next_ejection() {
    let detector = detector(settings(), 3);
    let mut now = 1000;
    for _ in 0..3 {
        now = fail(&detector, 0, now)[0].until.as_millis();
    }
    for _ in 0..2 {
        record(&detector, 1, 0, None, now);
        now += 10_000;
    }
    assert_eq!(fail(&detector, 0, now)[0].times, 2);
}

#[test]
fn ceilings() {
    // Members, per cent, how many may be ejected.
    let table = [
        (1, 100, 0),
        (2, 10, 1),
        (2, 100, 1),
        (3, 0, 1),
        (3, 50, 1),
        (3, 66, 1),
        (3, 67, 2),
        (4, 50, 2),
        (4, 100, 3),
        (10, 10, 1),
        (10, 35, 3),
        (10, 100, 9),
        (10, u32::MAX, 9),
    ];
    for (members, max_ejected, expected) in table {
        let detector = detector(model::Outlier { max_ejected, ..settings() }, members);
        let ejected: usize = (0..members).map(|member| fail(&detector, member, 1000).len()).sum();
        assert_eq!(ejected, expected, "{members} members, {max_ejected} %");
        assert_eq!(detector.ejected(at(1000)), expected);
    }
}

#[test]
fn the_only_usable_member_is_not_ejected() {
    let detector = detector(settings(), 3);
    let standing = |member| if member == 0 { Standing::Usable } else { Standing::Unusable };
    for _ in 0..10 {
        let failure = Some(Failure::Connect);
        assert_eq!(detector.record(0, failure, 0, at(1000), standing), []);
    }
    // As soon as another one is usable, it is.
    assert_eq!(record(&detector, 1, 0, Some(Failure::Connect), 1000).len(), 1);
}

#[test]
fn members_without_an_address_do_not_count() {
    let detector = detector(settings(), 16);
    let standing = |member| if member < 3 { Standing::Usable } else { Standing::Absent };
    let failure = Some(Failure::Connect);
    let ejected: usize = (0..3)
        .flat_map(|member| (0..5).map(move |_| member))
        .map(|member| detector.record(member, failure, 0, at(1000), standing).len())
        .sum();
    assert_eq!(ejected, 1);
}

#[test]
fn requests_of_an_ejected_member_do_not_count() {
    let detector = detector(settings(), 3);
    fail(&detector, 0, 1000);
    record(&detector, 40, 0, Some(Failure::Reset), 5000);
    assert_eq!(record(&detector, 1, 1, None, 11_000), []);
    assert_eq!(record(&detector, 4, 0, Some(Failure::Reset), 11_000), []);
}

#[test]
fn what_is_forgotten_ends_an_ejection() {
    let detector = detector(settings(), 3);
    fail(&detector, 0, 1000);
    detector.members[0].forget();
    assert_eq!(detector.ejected(at(1001)), 0);
    assert_eq!(fail(&detector, 0, 2000)[0].times, 1);
}

#[test]
fn zero_turns_a_reason_off() {
    let off = model::Outlier { consecutive: 0, failures: 0, ..settings() };
    let detector = detector(off, 3);
    assert_eq!(record(&detector, 100, 0, Some(Failure::Connect), 1000), []);
    assert_eq!(record(&detector, 100, 0, Some(Failure::Connect), 11_000), []);
}

#[test]
fn a_member_that_does_not_exist_is_no_matter() {
    assert_eq!(fail(&detector(settings(), 0), 3, 1000), []);
}

#[test]
fn workers_do_not_pass_the_ceiling_together() {
    for _ in 0..50 {
        let detector = detector(settings(), 8);
        std::thread::scope(|scope| {
            for member in 0..8 {
                let detector = &detector;
                scope.spawn(move || record(detector, 100, member, Some(Failure::Reset), 1000));
            }
        });
        assert_eq!(detector.ejected(at(1000)), 4);
    }
}

fn any_settings(random: &mut Random) -> model::Outlier {
    model::Outlier {
        consecutive: random.below(5) as u32,
        failures: random.below(101) as u32,
        latency: random.below(2) as u32 * random.below(500) as u32,
        minimum: random.below(10) as u32,
        window: Duration::from_millis(random.below(10_000)),
        base_time: Duration::from_millis(random.below(20_000)),
        max_time: Duration::from_millis(random.below(60_000)),
        max_ejected: random.below(101) as u32,
    }
}

/// Asserts what always holds, `now`.
fn assert_bounds(detector: &Detector, standings: &[Standing], now: Tick, what: &str) {
    let present = |member: &usize| standings[*member] != Standing::Absent;
    let ejected = |member: &usize| detector.members[*member].ejected(now);
    let members: Vec<_> = (0..standings.len()).filter(present).collect();
    let ceiling = members.len() * detector.settings.max_ejected as usize / 100;
    let count = members.iter().filter(|member| ejected(member)).count();
    assert!(count <= ceiling.max(1), "{count} ejected, {what}");
    let is_usable = |member: &usize| standings[*member] == Standing::Usable;
    let left = members.iter().filter(|member| is_usable(member) && !ejected(member)).count();
    assert!(left > 0 || count == 0, "none left, {what}");
}

fn any_standings(random: &mut Random, members: usize) -> Vec<Standing> {
    let standings = [Standing::Usable, Standing::Usable, Standing::Unusable, Standing::Absent];
    (0..members).map(|_| standings[random.below(4) as usize]).collect()
}

fn any_end(random: &mut Random, trouble: u64) -> Option<Failure> {
    let failures =
        [Failure::Connect, Failure::Reset, Failure::Timeout, Failure::Invalid, Failure::Status];
    random.percent(trouble).then(|| failures[random.below(5) as usize])
}

#[test]
fn ten_thousand_seeds_keep_the_ceiling_and_leave_one() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let members = 1 + random.below(8) as usize;
        let detector = detector(any_settings(&mut random), members);
        let standings = any_standings(&mut random, members);
        let trouble = random.below(101);
        let mut now = at(random.below(1 << 44));
        for step in 0..100 {
            now = random.later(now);
            let member = random.below(members as u64) as usize;
            let (end, latency) = (any_end(&mut random, trouble), random.below(1_000_000));
            detector.record(member, end, latency, now, |member| standings[member]);
            assert_bounds(&detector, &standings, now, &format!("seed {seed}, step {step}"));
        }
    }
}

#[test]
fn ten_thousand_seeds_keep_them_whatever_the_clock_and_the_members_do() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let members = 1 + random.below(8) as usize;
        let detector = detector(any_settings(&mut random), members);
        let mut now = at(0);
        for step in 0..100 {
            now = random.jump(now);
            let standings = any_standings(&mut random, members);
            let member = random.below(members as u64) as usize;
            let latency = if random.percent(5) { u64::MAX } else { random.below(1_000_000) };
            let end = any_end(&mut random, 60);
            let ejections = detector.record(member, end, latency, now, |member| standings[member]);
            if !ejections.is_empty() {
                assert_bounds(&detector, &standings, now, &format!("seed {seed}, step {step}"));
            }
            for ejection in ejections {
                assert!(ejection.times >= 1);
                assert!(!ejection.reason.to_string().is_empty());
            }
        }
    }
}

#[test]
fn stats_have_a_line_of_their_own() {
    assert_eq!(size_of::<Stats>(), 64);
}
