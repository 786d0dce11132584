//! What further attempts may cost: a share of the requests that a pool has anyway, so that they never
//! multiply an outage.
//!
//! What always holds: among the attempts of the last ten seconds the further ones are no more than
//! their share of the requests, but for the few a second that are always allowed.

use std::sync::atomic::{AtomicU64, Ordering};

use net::timer::Tick;

/// Seconds that are looked back on.
const SECONDS: u64 = 10;

/// Counts requests and further attempts of a pool. All workers share it.
#[derive(Debug, Default)]
pub struct Budget {
    requests: Counts,
    retries: Counts,
}

/// A count for each of the last seconds: the second in the upper half, the count in the lower.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts([AtomicU64; SECONDS as usize]);

impl Budget {
    /// A request has come.
    pub fn request(&self, now: Tick) {
        self.requests.add(second(now));
    }

    /// Takes the price of a further attempt, if there is as much: `share` per cent of the requests, or
    /// one of `minimum` a second.
    pub fn try_retry(&self, now: Tick, share: u32, minimum: u32) -> bool {
        let now = second(now);
        let allowed = self.requests.sum(now).saturating_mul(u64::from(share)) / 100;
        let within = self.retries.sum(now) < allowed || self.retries.of(now) < u64::from(minimum);
        if within {
            self.retries.add(now);
        }
        within
    }
}

impl Counts {
    fn add(&self, second: u32) {
        let Some(slot) = self.0.get((u64::from(second) % SECONDS) as usize) else { return };
        let fresh = u64::from(second) << 32 | 1;
        let mut seen = slot.load(Ordering::Relaxed);
        loop {
            let same = (seen >> 32) as u32 == second;
            let next = if same && seen as u32 != u32::MAX { seen + 1 } else { fresh };
            match slot.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    fn of(&self, second: u32) -> u64 {
        let slot = self.0.get((u64::from(second) % SECONDS) as usize);
        slot.map_or(0, |slot| count(slot, |of| of == second))
    }

    fn sum(&self, now: u32) -> u64 {
        let recent = |second: u32| now.wrapping_sub(second) < SECONDS as u32;
        self.0.iter().map(|slot| count(slot, recent)).sum()
    }
}

fn count(slot: &AtomicU64, wanted: impl Fn(u32) -> bool) -> u64 {
    let seen = slot.load(Ordering::Relaxed);
    if wanted((seen >> 32) as u32) { u64::from(seen as u32) } else { 0 }
}

fn second(now: Tick) -> u32 {
    (now.as_millis() / 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from(1_000_000 + seconds * 1000)
    }

    #[test]
    fn a_share_of_the_requests_may_be_tried_again() {
        let budget = Budget::default();
        (0..100).for_each(|_| budget.request(at(0)));
        let tried = (0..100).filter(|_| budget.try_retry(at(1), 20, 0)).count();
        assert_eq!(tried, 20);
    }

    #[test]
    fn a_few_a_second_always_may() {
        let budget = Budget::default();
        for second in 0..20 {
            let tried = (0..100).filter(|_| budget.try_retry(at(second), 20, 3)).count();
            assert_eq!(tried, 3);
        }
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let budget = Budget::default();
        (0..100).for_each(|_| budget.request(at(0)));
        assert!(!budget.try_retry(at(10), 20, 0));
        (0..10).for_each(|_| budget.request(at(10)));
        let tried = (0..100).filter(|_| budget.try_retry(at(11), 20, 0)).count();
        assert_eq!(tried, 2);
    }

    #[test]
    fn a_retry_never_doubles_an_outage_whatever_the_load() {
        // Every request fails and would be tried again: seeded loads, a second each.
        for seed in 1..200u64 {
            let budget = Budget::default();
            let (mut random, mut requests, mut retries) = (seed, 0u64, 0u64);
            for second in 0..30 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                for _ in 0..random % 200 {
                    budget.request(at(second));
                    requests += 1;
                    retries += u64::from(budget.try_retry(at(second), 20, 3));
                }
            }
            assert!(retries <= requests / 5 + 30 * 3, "seed {seed}: {retries} of {requests}");
        }
    }
}
