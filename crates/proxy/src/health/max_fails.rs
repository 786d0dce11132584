//! `max_fails` and `fail_timeout`, with nginx's exact meaning: an endpoint that failed `max` times
//! gets no requests for `timeout` after its last failure, then one that tries it.
//!
//! Exactly: failures add up, whatever succeeds between them, until an attempt that began more than
//! `timeout` after the last one has succeeded. So a success soon after a failure proves nothing, and
//! "within `fail_timeout`" is the distance between failures, as in nginx's code.
//!
//! What always holds: all is one word, so that nobody sees half a change; while an endpoint is being
//! tried again no other request gets to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use net::timer::Tick;

use super::{later, millis};

/// The failures of an endpoint, shared by all workers.
///
/// `max` and `timeout` are those of the upstream; `max` is 0 to turn this off. Those of the only member
/// of a pool are counted too, since it may not be the only one for long, but do not keep requests from it.
#[derive(Debug, Default)]
pub struct Fails(AtomicU64);

/// Whether a request may go to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Free,
    /// It may, and is the one that tries the endpoint. If it ends neither well nor badly, as when
    /// the client goes away, [`Fails::abandoned`] is to be told.
    Probe,
    /// It may not.
    Refused,
}

impl Fails {
    /// Whether the endpoint takes requests, or could be tried. Changes nothing.
    pub fn usable(&self, now: Tick, max: u32, timeout: Duration) -> bool {
        let known = self.known();
        !known.is_down(max) || known.is_due(now, timeout)
    }

    /// Somebody tries it, so it may be taken to be usable.
    pub fn is_being_tried(&self) -> bool {
        self.known().tried
    }

    /// When the endpoint may be tried; `None` if it is usable.
    pub fn until(&self, now: Tick, max: u32, timeout: Duration) -> Option<Tick> {
        let known = self.known();
        let wait = millis(timeout).saturating_add(1);
        (known.is_down(max) && !known.is_due(now, timeout))
            .then(|| later(Tick::from(known.checked), wait))
    }

    /// Asks for a request that is about to be sent. Costs one load unless the endpoint has failed.
    pub fn try_probe(&self, now: Tick, max: u32, timeout: Duration) -> Turn {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let known = Known::from_bits(bits);
            let is_down = known.is_down(max);
            if known.fails == 0 || max == 0 {
                return Turn::Free;
            }
            if !known.is_due(now, timeout) {
                return if is_down { Turn::Refused } else { Turn::Free };
            }
            let tried = Known { tried: true, due: false, checked: now.as_millis(), ..known };
            match self.replace(bits, tried) {
                Ok(()) => return if is_down { Turn::Probe } else { Turn::Free },
                Err(other) => bits = other,
            }
        }
    }

    /// An attempt failed. True if that made the endpoint unusable; not if it was already, or was
    /// being tried.
    pub fn failed(&self, now: Tick, max: u32) -> bool {
        if max == 0 {
            return false;
        }
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let known = Known::from_bits(bits);
            let fails = known.fails.saturating_add(1);
            let failed = Known { fails, tried: false, due: false, checked: now.as_millis() };
            match self.replace(bits, failed) {
                Ok(()) => return !known.is_down(max) && failed.is_down(max),
                Err(other) => bits = other,
            }
        }
    }

    /// An attempt succeeded. True if the endpoint had been unusable and is usable now. Costs one
    /// load unless the endpoint has failed.
    pub fn succeeded(&self, max: u32) -> bool {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let known = Known::from_bits(bits);
            if !known.tried {
                return false;
            }
            match self.replace(bits, Known::default()) {
                Ok(()) => return known.is_down(max),
                Err(other) => bits = other,
            }
        }
    }

    /// A request with [`Turn::Probe`] ended neither well nor badly: the next one may try. False if it
    /// has ended otherwise meanwhile.
    pub fn abandoned(&self) -> bool {
        let update = |bits| {
            let known = Known::from_bits(bits);
            known.tried.then(|| Known { tried: false, due: true, ..known }.into_bits())
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
    }

    /// Forgets all failures, as when the endpoint has another address.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn known(&self) -> Known {
        Known::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn replace(&self, bits: u64, known: Known) -> Result<(), u64> {
        self.0
            .compare_exchange_weak(bits, known.into_bits(), Ordering::Relaxed, Ordering::Relaxed)
            .map(|_| ())
    }
}

/// What [`Fails`] holds.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    fails: u16,
    /// An attempt began more than `timeout` after the last failure: nginx's `accessed < checked`.
    tried: bool,
    /// That attempt came to nothing: another one may begin at once.
    due: bool,
    /// The last failure, or the begin of that attempt, in milliseconds.
    checked: u64,
}

/// 2231 years.
const CHECKED_BITS: u32 = 46;
const CHECKED: u64 = (1 << CHECKED_BITS) - 1;
const TRIED: u64 = 1 << CHECKED_BITS;
const DUE: u64 = TRIED << 1;
const FAILS_SHIFT: u32 = CHECKED_BITS + 2;

impl Known {
    fn from_bits(bits: u64) -> Self {
        Self {
            fails: (bits >> FAILS_SHIFT) as u16,
            tried: bits & TRIED != 0,
            due: bits & DUE != 0,
            checked: bits & CHECKED,
        }
    }

    fn into_bits(self) -> u64 {
        u64::from(self.fails) << FAILS_SHIFT
            | if self.tried { TRIED } else { 0 }
            | if self.due { DUE } else { 0 }
            | self.checked.min(CHECKED)
    }

    fn is_down(&self, max: u32) -> bool {
        max != 0 && u32::from(self.fails) >= max.min(u32::from(u16::MAX))
    }

    /// The time is over. A clock that jumped back by more than `timeout` ends it, too.
    fn is_due(&self, now: Tick, timeout: Duration) -> bool {
        self.due || now.as_millis().abs_diff(self.checked) > millis(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, SEEDS};
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(millis: u64) -> Tick {
        Tick::from(millis)
    }

    enum Event {
        Fails { is_news: bool },
        Succeeds { is_news: bool },
        Asks(Turn),
        Abandons,
    }
    use Event::{Abandons, Asks, Fails as Failed, Succeeds};
    use Turn::{Free, Probe, Refused};

    fn check(max: u32, timeout: u64, events: &[(u64, Event)]) {
        let fails = Fails::default();
        for (time, event) in events {
            let now = at(*time);
            match event {
                Failed { is_news } => assert_eq!(fails.failed(now, max), *is_news, "{time}"),
                Succeeds { is_news } => assert_eq!(fails.succeeded(max), *is_news, "{time}"),
                Abandons => drop(fails.abandoned()),
                Asks(turn) => {
                    assert_eq!(fails.usable(now, max, s(timeout)), *turn != Refused, "{time}");
                    assert_eq!(fails.try_probe(now, max, s(timeout)), *turn, "{time}");
                }
            }
        }
    }

    #[test]
    fn max_fails_1_fail_timeout_10s() {
        check(
            1,
            10,
            &[
                (1000, Asks(Free)),
                (1000, Failed { is_news: true }),
                (1000, Asks(Refused)),
                (11_000, Asks(Refused)),
                (11_001, Asks(Probe)),
                (11_001, Asks(Refused)),
                // The probe fails: for another ten seconds nothing.
                (11_050, Failed { is_news: false }),
                (21_050, Asks(Refused)),
                (21_051, Asks(Probe)),
                (21_060, Succeeds { is_news: true }),
                (21_060, Asks(Free)),
                (21_061, Failed { is_news: true }),
            ],
        );
    }

    #[test]
    fn max_fails_3_fail_timeout_30s() {
        check(
            3,
            30,
            &[
                (0, Failed { is_news: false }),
                (10_000, Failed { is_news: false }),
                // A success so soon after a failure proves nothing.
                (10_000, Asks(Free)),
                (10_001, Succeeds { is_news: false }),
                (20_000, Failed { is_news: true }),
                (50_000, Asks(Refused)),
                (50_001, Asks(Probe)),
                (50_002, Succeeds { is_news: true }),
                // All are forgotten.
                (50_003, Failed { is_news: false }),
                (50_004, Failed { is_news: false }),
                (50_004, Asks(Free)),
            ],
        );
    }

    #[test]
    fn failures_farther_apart_than_fail_timeout_are_forgotten_by_a_success_between() {
        check(
            3,
            30,
            &[
                (0, Failed { is_news: false }),
                (1000, Failed { is_news: false }),
                (31_001, Asks(Free)),
                (31_002, Succeeds { is_news: false }),
                (31_003, Failed { is_news: false }),
                (31_004, Failed { is_news: false }),
                (31_005, Failed { is_news: true }),
            ],
        );
    }

    #[test]
    fn requests_of_before_that_fail_later_are_no_news() {
        check(
            2,
            10,
            &[
                (0, Failed { is_news: false }),
                (0, Failed { is_news: true }),
                (5000, Failed { is_news: false }),
                (10_001, Asks(Refused)),
                (15_001, Asks(Probe)),
            ],
        );
    }

    #[test]
    fn a_success_of_before_does_not_end_it() {
        let events =
            [(0, Failed { is_news: true }), (1, Succeeds { is_news: false }), (2, Asks(Refused))];
        check(1, 10, &events);
    }

    #[test]
    fn a_probe_that_is_abandoned_leaves_its_turn_to_the_next() {
        check(
            1,
            10,
            &[
                (0, Failed { is_news: true }),
                (10_001, Asks(Probe)),
                (10_002, Abandons),
                (10_002, Asks(Probe)),
                (10_003, Asks(Refused)),
                // One that is never heard of again does so after fail_timeout.
                (20_002, Asks(Refused)),
                (20_003, Asks(Probe)),
                (20_004, Succeeds { is_news: true }),
                (20_005, Abandons),
                (20_005, Asks(Free)),
            ],
        );
    }

    #[test]
    fn max_fails_0_is_off() {
        let fails = Fails::default();
        for _ in 0..10 {
            assert!(!fails.failed(at(5), 0));
        }
        assert_eq!(fails.try_probe(at(5), 0, s(10)), Free);
        assert_eq!(fails.until(at(5), 0, s(10)), None);
    }

    #[test]
    fn until_says_when_it_may_be_tried() {
        let fails = Fails::default();
        assert_eq!(fails.until(at(500), 1, s(10)), None);
        fails.failed(at(500), 1);
        assert_eq!(fails.until(at(600), 1, s(10)), Some(at(10_501)));
        assert!(!fails.usable(at(10_500), 1, s(10)));
        assert!(fails.usable(at(10_501), 1, s(10)));
        assert_eq!(fails.until(at(10_501), 1, s(10)), None);
        fails.forget();
        assert!(fails.usable(at(600), 1, s(10)));
    }

    #[test]
    fn of_many_workers_one_probes() {
        let fails = Fails::default();
        fails.failed(at(0), 1);
        let probes = std::thread::scope(|scope| {
            let ask = || fails.try_probe(at(20_000), 1, s(10)) == Probe;
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).filter(|won| *won).count()
        });
        assert_eq!(probes, 1);
    }

    /// nginx's `ngx_http_upstream_get_peer` and `ngx_http_upstream_free_round_robin_peer`.
    #[derive(Default)]
    struct Nginx {
        fails: u32,
        accessed: u64,
        checked: u64,
    }

    impl Nginx {
        fn get(&mut self, now: u64, max: u32, timeout: u64) -> bool {
            if max != 0 && self.fails >= max && now - self.checked <= timeout {
                return false;
            }
            if now - self.checked > timeout {
                self.checked = now;
            }
            true
        }

        fn free(&mut self, now: u64, has_failed: bool) {
            if has_failed {
                self.fails += 1;
                self.accessed = now;
                self.checked = now;
            } else if self.accessed < self.checked {
                self.fails = 0;
            }
        }
    }

    #[test]
    fn ten_thousand_seeds_do_as_nginx_does() {
        for seed in 0..SEEDS {
            let mut random = Random::new(seed);
            let (max, timeout) = (1 + random.below(4) as u32, random.below(20_000));
            let (fails, mut nginx) = (Fails::default(), Nginx::default());
            let mut now = at(1_000_000);
            for step in 0..100 {
                now = random.later(now);
                match random.below(3) {
                    0 => {
                        fails.failed(now, max);
                        nginx.free(now.as_millis(), true);
                    }
                    1 => {
                        fails.succeeded(max);
                        nginx.free(now.as_millis(), false);
                    }
                    _ => {
                        let timeout = Duration::from_millis(timeout);
                        let is_free = fails.try_probe(now, max, timeout) != Refused;
                        let nginx = nginx.get(now.as_millis(), max, millis(timeout));
                        assert_eq!(is_free, nginx, "seed {seed}, step {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_jump_of_the_clock_overflows() {
        for seed in 0..SEEDS {
            let mut random = Random::new(seed);
            let (max, timeout) = (random.below(3) as u32, Duration::from_secs(random.below(100)));
            let fails = Fails::default();
            let mut now = at(0);
            for _ in 0..100 {
                now = random.jump(now);
                match random.below(4) {
                    0 => drop(fails.failed(now, max)),
                    1 => drop(fails.succeeded(max)),
                    2 => drop(fails.abandoned()),
                    _ => {
                        let usable = fails.usable(now, max, timeout);
                        assert_eq!(fails.until(now, max, timeout).is_none(), usable);
                        assert_eq!(fails.try_probe(now, max, timeout) != Refused, usable);
                    }
                }
            }
        }
    }
}
