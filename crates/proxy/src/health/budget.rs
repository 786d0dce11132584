//! The retry budget: further attempts are a share of live requests, so that they never double an
//! outage.
//!
//! What always holds: a further attempt is allowed only if those of the last ten seconds, this one
//! included, are within the share of the requests of the same time, or those of this second are
//! within the minimum.

use net::timer::Tick;

use super::rolling::{Rolling, Seconds};

/// Time over which the share is taken, in seconds.
const WINDOW: u32 = 10;
/// The budget is never reset.
const GENERATION: u8 = 0;

/// The retry budget of a pool, shared by all workers.
#[derive(Debug)]
pub struct Budget {
    share: u32,
    minimum: u32,
    seconds: Seconds,
    requests: Rolling,
    retries: Rolling,
}

impl Budget {
    /// A budget of `share` per cent of live requests, and `minimum` a second in any case.
    pub fn new(share: u32, minimum: u32) -> Self {
        Self {
            share,
            minimum,
            seconds: Seconds::default(),
            requests: Rolling::new(WINDOW),
            retries: Rolling::new(WINDOW),
        }
    }

    /// A request has come; not to be told of its further attempts.
    pub fn request(&self, now: Tick) {
        self.requests.add(GENERATION, self.seconds.at(now));
    }

    /// How many further attempts would be allowed now.
    pub fn left(&self, now: Tick) -> u64 {
        let second = self.seconds.at(now);
        let share =
            self.requests.sum(GENERATION, second).saturating_mul(u64::from(self.share)) / 100;
        let by_share = share.saturating_sub(self.retries.sum(GENERATION, second));
        by_share.max(u64::from(self.minimum))
    }

    /// Asks for a further attempt, and counts it if it is allowed.
    pub fn try_retry(&self, now: Tick) -> bool {
        let second = self.seconds.at(now);
        let requests = self.requests.sum(GENERATION, second);
        let share = requests.saturating_mul(u64::from(self.share)) / 100;
        self.retries.add_if(GENERATION, second, |earlier, this_second| {
            this_second < u64::from(self.minimum) || earlier + this_second < share
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::testing::{Random, SEEDS};
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from(millis)
    }

    fn retries(budget: &Budget, tries: u32, now: Tick) -> usize {
        (0..tries).filter(|_| budget.try_retry(now)).count()
    }

    #[test]
    fn a_share_of_the_requests_of_ten_seconds() {
        let budget = Budget::new(20, 0);
        assert_eq!(retries(&budget, 10, at(1000)), 0);
        (0..100).for_each(|request| budget.request(at(1000 + request * 10)));
        assert_eq!(retries(&budget, 100, at(2000)), 20);
        assert_eq!(retries(&budget, 100, at(10_999)), 0);
        // The requests are too old now, and then the attempts.
        assert_eq!(retries(&budget, 100, at(11_000)), 0);
        (0..50).for_each(|_| budget.request(at(11_000)));
        assert_eq!(retries(&budget, 100, at(11_000)), 0);
        assert_eq!(retries(&budget, 100, at(12_000)), 10);
    }

    #[test]
    fn a_minimum_each_second() {
        let budget = Budget::new(20, 3);
        for second in 1..20 {
            assert_eq!(retries(&budget, 10, at(second * 1000 + 999)), 3);
        }
    }

    #[test]
    fn a_share_of_nothing_and_of_everything() {
        assert_eq!(retries(&Budget::new(0, 0), 10, at(0)), 0);
        let budget = Budget::new(u32::MAX, 0);
        budget.request(at(0));
        assert_eq!(retries(&budget, 1000, at(0)), 1000);
    }

    #[test]
    fn workers_do_not_exceed_it_together() {
        let budget = Budget::new(20, 0);
        (0..1000).for_each(|_| budget.request(at(5000)));
        let allowed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| retries(&budget, 1000, at(5000)))).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).sum()
        });
        assert_eq!(allowed, 200);
    }

    /// Every request and further attempt by its second.
    #[derive(Default)]
    struct Model {
        requests: VecDeque<u64>,
        retries: VecDeque<u64>,
    }

    impl Model {
        fn last(seconds: &VecDeque<u64>, now: u64) -> u64 {
            seconds.iter().filter(|second| **second + u64::from(WINDOW) > now).count() as u64
        }

        fn allows(&self, share: u64, minimum: u64, now: u64) -> bool {
            let this_second = self.retries.iter().filter(|second| **second == now).count() as u64;
            this_second < minimum
                || Self::last(&self.retries, now) < Self::last(&self.requests, now) * share / 100
        }
    }

    #[test]
    fn ten_thousand_seeds_keep_within_share_and_minimum() {
        for seed in 0..SEEDS {
            let mut random = Random::new(seed);
            let (share, minimum) = (random.below(120), random.below(4));
            let (budget, mut model) = (Budget::new(share as u32, minimum as u32), Model::default());
            let mut now = at(random.below(1 << 45));
            let began = now.as_millis() / 1000;
            let busy = random.below(100);
            for step in 0..100 {
                now = random.later(now);
                let second = now.as_millis() / 1000;
                if random.percent(busy) {
                    budget.request(now);
                    model.requests.push_back(second);
                } else {
                    let is_allowed = budget.try_retry(now);
                    let expected = model.allows(share, minimum, second);
                    assert_eq!(is_allowed, expected, "seed {seed}, step {step}");
                    model.retries.extend(is_allowed.then_some(second));
                }
                let most =
                    model.requests.len() as u64 * share / 100 + minimum * (second - began + 1);
                assert!(model.retries.len() as u64 <= most, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn no_jump_of_the_clock_lets_more_through() {
        for seed in 0..SEEDS {
            let mut random = Random::new(seed);
            let (share, minimum) = (random.below(120), random.below(4));
            let budget = Budget::new(share as u32, minimum as u32);
            let mut now = at(0);
            let (mut requests, mut retries, mut seconds) = (0, 0, 1);
            for step in 0..100 {
                let next = random.jump(now);
                seconds += u64::from(next.as_millis() / 1000 != now.as_millis() / 1000);
                now = next;
                if random.percent(70) {
                    budget.request(now);
                    requests += 1;
                } else if budget.try_retry(now) {
                    retries += 1;
                }
                let most = requests * share / 100 + minimum * seconds;
                assert!(retries <= most, "seed {seed}, step {step}");
            }
        }
    }
}
