use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use config::model::{self, BreakerWindow};
use net::timer::Tick;

use super::{Breaker, Change, Outcome, Permit, Reason, Rejected, State};
use crate::health::millis;
use crate::health::testing::{Random, SEEDS};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(millis: u64) -> Tick {
    Tick::from(millis)
}

/// The settings of Easegress's own test.
fn settings(window: BreakerWindow) -> model::Breaker {
    model::Breaker {
        window,
        failure_rate: 50,
        slow_rate: 60,
        slow: Duration::from_millis(10),
        minimum: 10,
        trials: 5,
        open: s(5),
        half_open_max: s(5),
        statuses: vec![(500, 599)],
    }
}

fn breaker(window: BreakerWindow) -> Arc<Breaker> {
    Arc::new(Breaker::new(settings(window)))
}

const GOOD: (Outcome, bool) = (Outcome::Success, false);
const SLOW: (Outcome, bool) = (Outcome::Success, true);
const BAD: (Outcome, bool) = (Outcome::Failure, false);

fn permit(breaker: &Arc<Breaker>, now: u64) -> Permit {
    breaker.permit(at(now)).expect("a permit")
}

/// Makes so many calls that end at once; the last change.
fn calls(
    breaker: &Arc<Breaker>,
    count: u32,
    (outcome, slow): (Outcome, bool),
    now: u64,
) -> Option<Change> {
    (0..count).fold(None, |last, call| {
        assert_eq!(last, None, "changed before call {call}");
        permit(breaker, now).done(outcome, slow, at(now))
    })
}

fn rejected(breaker: &Arc<Breaker>, now: u64) -> Rejected {
    breaker.permit(at(now)).expect_err("a rejection")
}

fn is(change: Option<Change>, to: State, text: &str) {
    let change = change.expect("a change");
    assert_eq!((change.to, change.to_string().as_str()), (to, text));
}

/// `runSharedCases` of Easegress.
fn shared(breaker: &Arc<Breaker>) -> u64 {
    assert_eq!(calls(breaker, 10, GOOD, 1000), None);
    let change = calls(breaker, 10, BAD, 1000);
    is(change, State::Open, "circuit open: 10 of 20 requests failed");
    assert_eq!(rejected(breaker, 1000), Rejected { retry_after: 5, change: None });

    let trial = permit(breaker, 6000);
    let text = "circuit half open: 5 s have passed, at most 5 trials";
    is(trial.change().cloned(), State::HalfOpen, text);
    assert_eq!(trial.done(Outcome::Success, false, at(6000)), None);
    let change = calls(breaker, 4, GOOD, 6000);
    is(change, State::Closed, "circuit closed: 0 of 5 trials failed");

    assert_eq!(calls(breaker, 8, GOOD, 6000), None);
    let change = calls(breaker, 12, SLOW, 6000);
    is(change, State::Open, "circuit open: 12 of 20 requests were slow");
    assert_eq!(rejected(breaker, 6100).retry_after, 5);

    let change = calls(breaker, 5, SLOW, 11_000);
    is(change, State::Open, "circuit open: 5 of 5 trials were slow");
    assert_eq!(rejected(breaker, 11_000).retry_after, 5);

    let change = calls(breaker, 5, GOOD, 16_000);
    is(change, State::Closed, "circuit closed: 0 of 5 trials failed");
    16_000
}

#[test]
fn easegress_count_window() {
    let breaker = breaker(BreakerWindow::Count(20));
    let now = shared(&breaker);
    // Of twenty-two calls the last twenty count.
    assert_eq!(calls(&breaker, 12, GOOD, now), None);
    let change = calls(&breaker, 10, BAD, now);
    is(change, State::Open, "circuit open: 10 of 20 requests failed");
}

#[test]
fn easegress_time_window() {
    let breaker = breaker(BreakerWindow::Time(s(20)));
    let mut now = shared(&breaker);
    for _ in 0..12 {
        assert_eq!(calls(&breaker, 1, GOOD, now), None);
        now += 500;
    }
    assert_eq!(calls(&breaker, 10, BAD, now), None);
    // The first successes are too old when another one comes.
    now += 15_500;
    assert_eq!(breaker.state(), State::Closed);
    let change = calls(&breaker, 1, GOOD, now);
    is(change, State::Open, "circuit open: 10 of 19 requests failed");
}

#[test]
fn fewer_calls_than_the_minimum_decide_nothing() {
    let breaker = breaker(BreakerWindow::Count(20));
    assert_eq!(calls(&breaker, 9, BAD, 0), None);
    assert!(calls(&breaker, 1, BAD, 0).is_some());
}

#[test]
fn a_window_smaller_than_the_minimum_is_enough() {
    let breaker = breaker(BreakerWindow::Count(4));
    assert_eq!(calls(&breaker, 3, BAD, 0), None);
    assert!(calls(&breaker, 1, BAD, 0).is_some());
}

#[test]
fn no_more_than_the_trials_are_made_while_half_open() {
    let breaker = breaker(BreakerWindow::Count(20));
    calls(&breaker, 10, BAD, 0);
    let mut trials: Vec<_> = (0..5).map(|_| permit(&breaker, 5000)).collect();
    assert_eq!(rejected(&breaker, 5000), Rejected { retry_after: 1, change: None });
    // One that comes to nothing leaves its place to another, one that has ended does not.
    trials.pop();
    trials.push(permit(&breaker, 6000));
    rejected(&breaker, 6000);
    let first = trials.remove(0);
    assert_eq!(first.done(Outcome::Success, false, at(6000)), None);
    rejected(&breaker, 6000);
}

#[test]
fn half_open_for_too_long_is_open_again() {
    let breaker = breaker(BreakerWindow::Count(20));
    calls(&breaker, 10, BAD, 0);
    let trials: Vec<_> = (0..5).map(|_| permit(&breaker, 5000)).collect();
    assert_eq!(rejected(&breaker, 10_000).change, None);
    let change = rejected(&breaker, 10_001).change;
    is(change, State::Open, "circuit open: the trials did not end within 5 s");
    // Those trials are of no account any more.
    for trial in trials {
        assert_eq!(trial.done(Outcome::Success, false, at(10_002)), None);
    }
    assert_eq!(rejected(&breaker, 15_000).retry_after, 1);
    let again: Vec<_> = (0..5).map(|_| permit(&breaker, 15_001)).collect();
    assert_eq!(again.len(), 5);
}

#[test]
fn without_half_open_max_it_waits_for_its_trials() {
    let settings =
        model::Breaker { half_open_max: Duration::ZERO, ..settings(BreakerWindow::Count(20)) };
    let breaker = Arc::new(Breaker::new(settings));
    calls(&breaker, 10, BAD, 0);
    let trials: Vec<_> = (0..5).map(|_| permit(&breaker, 5000)).collect();
    assert_eq!(rejected(&breaker, 1_000_000), Rejected { retry_after: 1, change: None });
    drop(trials);
    assert_eq!(calls(&breaker, 5, GOOD, 1_000_000).map(|change| change.to), Some(State::Closed));
}

#[test]
fn calls_of_an_earlier_state_are_of_no_account() {
    let breaker = breaker(BreakerWindow::Count(20));
    let late: Vec<_> = (0..20).map(|_| permit(&breaker, 0)).collect();
    calls(&breaker, 10, BAD, 0);
    calls(&breaker, 5, GOOD, 5000);
    assert_eq!(breaker.state(), State::Closed);
    for permit in late {
        assert_eq!(permit.done(Outcome::Failure, false, at(5000)), None);
    }
    assert_eq!(calls(&breaker, 9, BAD, 5000), None);
}

#[test]
fn what_is_slow_and_what_is_a_failure() {
    let breaker = breaker(BreakerWindow::Count(20));
    assert_eq!([9999, 10_000].map(|micros| breaker.is_slow(micros)), [false, true]);
    let statuses = [404, 499, 500, 599, 600].map(|status| breaker.is_failure(status));
    assert_eq!(statuses, [false, false, true, true, false]);
    // A slow failure is a failure.
    let change = calls(&breaker, 10, (Outcome::Failure, true), 0);
    let reason = Reason::Failed { failed: 10, all: 10, trials: false };
    assert_eq!(change, Some(Change { to: State::Open, reason }));
}

#[test]
fn workers_change_a_state_once() {
    for window in [BreakerWindow::Count(20), BreakerWindow::Time(s(5))] {
        let breaker = breaker(window);
        let (granted, opened) = std::thread::scope(|scope| {
            let work = || {
                let mut granted = 0;
                let mut opened = 0;
                for _ in 0..500 {
                    if let Ok(permit) = breaker.permit(at(1000)) {
                        granted += 1;
                        opened += permit.done(Outcome::Failure, false, at(1000)).iter().len();
                    }
                }
                (granted, opened)
            };
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            let done = workers.into_iter().filter_map(|worker| worker.join().ok());
            done.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        });
        assert_eq!(opened, 1);
        assert!((10..30).contains(&granted), "{granted}");
        let trials: usize = std::thread::scope(|scope| {
            let ask = || (0..50).filter_map(|_| breaker.permit(at(6000)).ok()).collect::<Vec<_>>();
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let permits: Vec<_> =
                workers.into_iter().filter_map(|worker| worker.join().ok()).collect();
            permits.iter().map(Vec::len).sum()
        });
        assert_eq!(trials, 5);
    }
}

/// `circuitbreaker.go` of Easegress, with the calls themselves instead of counts.
struct Easegress {
    settings: model::Breaker,
    state: State,
    since: u64,
    id: u32,
    permitted: u32,
    /// Second and outcome.
    calls: VecDeque<(u64, (Outcome, bool))>,
}

impl Easegress {
    fn new(settings: model::Breaker) -> Self {
        let calls = VecDeque::new();
        Self { settings, state: State::Closed, since: 0, id: 0, permitted: 0, calls }
    }

    fn turn(&mut self, state: State, now: u64) {
        self.state = state;
        self.since = now;
        self.id += 1;
        self.permitted = 0;
        self.calls.clear();
    }

    fn acquire(&mut self, now: u64) -> Option<u32> {
        if self.state == State::Open {
            if now - self.since < millis(self.settings.open) {
                return None;
            }
            self.turn(State::HalfOpen, now);
        }
        if self.state == State::Closed {
            return Some(self.id);
        }
        if self.permitted < self.settings.trials {
            self.permitted += 1;
            return Some(self.id);
        }
        let max = millis(self.settings.half_open_max);
        if max > 0 && now - self.since > max {
            self.turn(State::Open, now);
        }
        None
    }

    fn record(&mut self, id: u32, outcome: (Outcome, bool), now: u64) {
        if id != self.id {
            return;
        }
        let second = now / 1000;
        self.calls.push_back((second, outcome));
        let mut minimum = self.settings.minimum as usize;
        if self.state == State::HalfOpen {
            minimum = minimum.min(self.settings.trials as usize);
        } else {
            match self.settings.window {
                BreakerWindow::Count(size) => {
                    let size = size as usize;
                    // Resilience4j's: with Easegress such a breaker never opens.
                    minimum = minimum.min(size);
                    let passed = self.calls.len().saturating_sub(size);
                    self.calls.drain(..passed);
                }
                BreakerWindow::Time(time) => {
                    self.calls.retain(|(one, _)| one + time.as_secs() > second);
                }
            }
        }
        let all = self.calls.len();
        if all < minimum {
            return;
        }
        let failed = |outcome: &(Outcome, bool)| outcome.0 == Outcome::Failure;
        let count = |kind: &dyn Fn(&(Outcome, bool)) -> bool| {
            self.calls.iter().filter(|(_, outcome)| kind(outcome)).count()
        };
        let failures = count(&failed);
        let slow = count(&|outcome| !failed(outcome) && outcome.1);
        if failures * 100 / all >= self.settings.failure_rate as usize
            || slow * 100 / all >= self.settings.slow_rate as usize
        {
            self.turn(State::Open, now);
        } else if self.state == State::HalfOpen {
            self.turn(State::Closed, now);
        }
    }
}

fn any_settings(random: &mut Random) -> model::Breaker {
    let window = if random.percent(50) {
        BreakerWindow::Count(1 + random.below(12) as u32)
    } else {
        BreakerWindow::Time(s(1 + random.below(12)))
    };
    model::Breaker {
        window,
        failure_rate: 1 + random.below(100) as u32,
        slow_rate: 1 + random.below(100) as u32,
        slow: s(1),
        minimum: 1 + random.below(10) as u32,
        trials: 1 + random.below(5) as u32,
        open: Duration::from_millis(random.below(8000)),
        half_open_max: Duration::from_millis(random.below(2) * random.below(5000)),
        statuses: Vec::new(),
    }
}

#[test]
fn ten_thousand_seeds_do_as_easegress_does() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let settings = any_settings(&mut random);
        let breaker = Arc::new(Breaker::new(settings.clone()));
        let mut easegress = Easegress::new(settings);
        let mut now = at(random.below(1 << 44));
        easegress.since = now.as_millis();
        let mut under_way = Vec::new();
        let trouble = random.below(100);
        for step in 0..120 {
            now = random.later(now);
            if under_way.is_empty() || random.percent(50) {
                let permit = breaker.permit(now).ok();
                let other = easegress.acquire(now.as_millis());
                assert_eq!(permit.is_some(), other.is_some(), "seed {seed}, step {step}");
                under_way.extend(permit.zip(other));
            } else {
                let index = random.below(under_way.len() as u64) as usize;
                let (permit, other) = under_way.swap_remove(index);
                let failed = random.percent(trouble);
                let outcome = if failed { Outcome::Failure } else { Outcome::Success };
                let outcome = (outcome, random.percent(20));
                let changed = permit.done(outcome.0, outcome.1, now).is_some();
                let before = easegress.id;
                easegress.record(other, outcome, now.as_millis());
                assert_eq!(changed, before != easegress.id, "seed {seed}, step {step}");
            }
            assert_eq!(breaker.state(), easegress.state, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn ten_thousand_seeds_never_make_more_than_the_trials() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let settings = any_settings(&mut random);
        let trials = settings.trials;
        let breaker = Arc::new(Breaker::new(settings));
        let mut now = at(0);
        let mut under_way = Vec::new();
        let (mut generation, mut ended) = (0, 0);
        for step in 0..120 {
            now = random.jump(now);
            if under_way.is_empty() || random.percent(60) {
                match breaker.permit(now) {
                    Ok(permit) => under_way.push(permit),
                    Err(rejected) => assert!(rejected.retry_after >= 1),
                }
            } else {
                let index = random.below(under_way.len() as u64) as usize;
                let permit: Permit = under_way.swap_remove(index);
                if random.percent(30) {
                    drop(permit);
                } else {
                    let is_counted = permit.is_trial && permit.generation == generation;
                    ended += u32::from(is_counted);
                    let failed = random.percent(50);
                    let outcome = if failed { Outcome::Failure } else { Outcome::Success };
                    let _ = permit.done(outcome, random.percent(20), now);
                }
            }
            let current = breaker.load();
            if current.generation != generation {
                (generation, ended) = (current.generation, 0);
            }
            if current.state == State::HalfOpen {
                let of_now = |permit: &&Permit| permit.generation == generation;
                let open = under_way.iter().filter(of_now).count() as u32;
                assert!(open + ended <= trials, "seed {seed}, step {step}");
            }
        }
    }
}
