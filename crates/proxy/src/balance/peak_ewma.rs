//! Power of two choices by peak EWMA: of two members at random the one where a request is expected
//! to take less time, as in Finagle and Linkerd.
//!
//! Two choices are nearly as good as looking at all members and do not send every worker to the same
//! one. The average is one of the peaks: a slower response counts at once and in full, faster ones
//! only as time passes, so that a member that stalls is left at once and comes back with care.

use std::sync::atomic::{AtomicU64, Ordering};

use net::timer::Tick;

use super::random::scale;

/// Time after which an older observation counts 1/e of a new one, in milliseconds.
const DECAY_MS: f32 = 10_000.0;
/// Cost of a member that nothing is known of and that has nothing to do, in microseconds: less than
/// that of any other, so that it is tried.
const UNKNOWN_COST: u64 = 1;
/// Cost of a member that nothing is known of, for each request it has not answered, in microseconds:
/// more than that of any other that does its work, so that it is tried with one request at a time.
const UNANSWERED_COST: u64 = 1_000_000;

/// The latency of a member, shared by all workers.
#[derive(Debug, Default)]
pub struct Ewma(
    /// The average in microseconds as the bits of an `f32`, 0 before the first observation, and in
    /// the lower half the time of the last observation, in milliseconds modulo 2^32.
    AtomicU64,
);

impl Ewma {
    /// A response took `latency_us` microseconds.
    pub fn observe(&self, latency_us: u64, now: Tick) {
        let latency = latency_us.max(1) as f32;
        let update = |bits| {
            let known = Known::from_bits(bits);
            if known.latency < latency {
                return Some(Known { latency, at: now.as_millis() as u32 }.into_bits());
            }
            let kept = known.kept(now);
            // Within the tick of the last observation it has no weight, and nothing to be written.
            (kept < 1.0).then(|| {
                let latency = latency + (known.latency - latency) * kept;
                Known { latency, at: now.as_millis() as u32 }.into_bits()
            })
        };
        // An `Err` means that there was nothing to write.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Forgets everything, as when the member has another address.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// How long a request is expected to take in microseconds, if `in_flight` requests are before
    /// it.
    ///
    /// What is known fades with time, so that a slow member is tried again; but not while it has
    /// requests in flight, for then it is being tried.
    pub fn cost(&self, in_flight: u32, now: Tick) -> u64 {
        let known = Known::from_bits(self.0.load(Ordering::Relaxed));
        if known.latency == 0.0 {
            return (u64::from(in_flight) * UNANSWERED_COST).max(UNKNOWN_COST);
        }
        if in_flight == 0 {
            return ((known.latency * known.kept(now)) as u64).max(UNKNOWN_COST);
        }
        (known.latency as u64).saturating_mul(u64::from(in_flight) + 1)
    }
}

/// What [`Ewma`] holds.
struct Known {
    latency: f32,
    at: u32,
}

impl Known {
    fn from_bits(bits: u64) -> Self {
        Self { latency: f32::from_bits((bits >> 32) as u32), at: bits as u32 }
    }

    fn into_bits(self) -> u64 {
        u64::from(self.latency.to_bits()) << 32 | u64::from(self.at)
    }

    /// What part of it still counts. Another worker may be a tick ahead of `now`: nothing has passed
    /// then. After 24 days without a request it may be taken for new.
    fn kept(&self, now: Tick) -> f32 {
        let passed = (now.as_millis() as u32).wrapping_sub(self.at);
        if passed == 0 || passed > u32::MAX / 2 { 1.0 } else { (-(passed as f32) / DECAY_MS).exp() }
    }
}

/// What a member would cost, and its weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// By [`Ewma::cost`].
    pub(super) cost: u64,
    /// Its share relative to the others: with twice the weight it may cost twice as much. Members of
    /// weight 0 come after all others.
    pub(super) weight: u32,
}

/// The index of the cheaper of two of `members` that `random` picks.
pub(super) fn choose(members: usize, random: u64, cost: impl Fn(usize) -> Cost) -> Option<usize> {
    if members < 2 {
        return (members == 1).then_some(0);
    }
    let (one, other) = pick_two(random, members);
    Some(if cost(other).is_less_than(&cost(one)) { other } else { one })
}

/// Two different indices below `members`, all pairs equally likely; the same twice if there are no
/// two.
pub(super) fn pick_two(random: u64, members: usize) -> (usize, usize) {
    let members = members as u64;
    let one = scale(random, members);
    // The lower half has had next to no influence on `one`.
    let other = scale(random << 32, members.saturating_sub(1));
    let other = if other >= one && members > 1 { other + 1 } else { other };
    (one as usize, other as usize)
}

impl Cost {
    fn is_less_than(&self, other: &Self) -> bool {
        let (own, others) = match (self.weight, other.weight) {
            (0, 0) => (1, 1),
            weights => weights,
        };
        u128::from(self.cost) * u128::from(others) < u128::from(other.cost) * u128::from(own)
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash;
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from(millis)
    }

    fn after(latency_us: u64) -> Ewma {
        let ewma = Ewma::default();
        ewma.observe(latency_us, at(1000));
        ewma
    }

    #[test]
    fn a_slower_response_counts_at_once() {
        let ewma = after(1000);
        ewma.observe(50_000, at(1000));
        assert_eq!(ewma.cost(0, at(1000)), 50_000);
    }

    #[test]
    fn faster_responses_count_as_time_passes() {
        let ewma = after(50_000);
        ewma.observe(1000, at(1000));
        assert_eq!(ewma.cost(0, at(1000)), 50_000);
        ewma.observe(1000, at(11_000));
        // 1000 + 49,000/e
        assert_eq!(ewma.cost(0, at(11_000)) / 10, 1902);
        // The same if it was seen a thousand times on the way.
        let ewma = after(50_000);
        (1..=1000).for_each(|step| ewma.observe(1000, at(1000 + step * 10)));
        assert!(ewma.cost(0, at(11_000)).abs_diff(19_026) < 100);
    }

    #[test]
    fn an_idle_member_is_forgiven_until_it_is_tried() {
        let ewma = after(100_000);
        assert_eq!(ewma.cost(0, at(11_000)), 36_787);
        assert_eq!(ewma.cost(0, at(1_000_000)), UNKNOWN_COST);
        assert_eq!(ewma.cost(1, at(1_000_000)), 200_000);
    }

    #[test]
    fn requests_in_flight_make_it_dearer() {
        let ewma = after(1000);
        assert_eq!([0, 1, 9].map(|n| ewma.cost(n, at(1000))), [1000, 2000, 10_000]);
    }

    #[test]
    fn an_unknown_member_is_tried_with_one_request_at_a_time() {
        let (unknown, known) = (Ewma::default(), after(500));
        assert!(unknown.cost(0, at(1000)) < known.cost(0, at(1000)));
        assert!(unknown.cost(1, at(1000)) > known.cost(100, at(1000)));
        assert!(unknown.cost(1, at(1000)) < unknown.cost(2, at(1000)));
    }

    #[test]
    fn a_worker_that_is_a_tick_behind_does_no_harm() {
        let ewma = after(1000);
        ewma.observe(10, at(990));
        assert_eq!(ewma.cost(0, at(990)), 1000);
        ewma.observe(2000, at(990));
        assert_eq!(ewma.cost(0, at(990)), 2000);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let ewma = after(u64::MAX);
        assert_eq!(ewma.cost(u32::MAX, at(1000)), u64::MAX);
        let ewma = after(0);
        assert_eq!(ewma.cost(0, at(1000)), 1);
        // The time of the last observation is kept modulo 2^32 ms.
        let late = (1 << 40) - 1;
        let ewma = Ewma::default();
        ewma.observe(100_000, at(late));
        assert_eq!(ewma.cost(0, at(late + 10_000)), 36_787);
    }

    #[test]
    fn all_pairs_are_as_likely() {
        const DRAWS: u64 = 200_000;
        let mut counts = [[0u64; 5]; 5];
        for draw in 0..DRAWS {
            let (one, other) = pick_two(hash::again(4, draw), 5);
            counts[one][other] += 1;
        }
        for (one, row) in counts.iter().enumerate() {
            for (other, &count) in row.iter().enumerate() {
                let mean = if one == other { 0.0 } else { DRAWS as f64 / 20.0 };
                assert!((count as f64 - mean).abs() <= 5.0 * mean.sqrt(), "{one} {other} {count}");
            }
        }
    }

    #[test]
    fn with_fewer_than_two_there_is_no_choice() {
        let cost = |_| Cost { cost: 1, weight: 1 };
        assert_eq!(pick_two(u64::MAX, 1), (0, 0));
        assert_eq!(pick_two(u64::MAX, 0), (0, 0));
        assert_eq!(choose(0, u64::MAX, cost), None);
        assert_eq!(choose(1, u64::MAX, cost), Some(0));
    }

    #[test]
    fn twice_the_weight_may_cost_twice_as_much() {
        let chosen = |costs: [(u64, u32); 2]| {
            choose(2, 0, |index| Cost { cost: costs[index].0, weight: costs[index].1 })
        };
        assert_eq!(chosen([(199, 2), (100, 1)]), Some(0));
        assert_eq!(chosen([(201, 2), (100, 1)]), Some(1));
        assert_eq!(chosen([(1, 0), (u64::MAX, 1)]), Some(1));
        assert_eq!(chosen([(2, 0), (1, 0)]), Some(1));
    }

    /// A request every 100 µs for ten seconds; four members answer after 1 ms, one after 100 ms.
    #[test]
    fn a_slow_member_gets_next_to_nothing() {
        let latencies = [1000u64, 1000, 100_000, 1000, 1000];
        let members: [Ewma; 5] = Default::default();
        let mut chosen = [0u32; 5];
        let mut running: Vec<(u64, usize)> = Vec::new();
        for step in 0..100_000u64 {
            let now_us = step * 100;
            let now = at(now_us / 1000);
            running.retain(|&(end_us, member)| {
                let ended = end_us <= now_us;
                if ended {
                    members[member].observe(latencies[member], now);
                }
                !ended
            });
            let cost = |index: usize| {
                let in_flight = running.iter().filter(|&&(_, member)| member == index).count();
                Cost { cost: members[index].cost(in_flight as u32, now), weight: 1 }
            };
            let member = choose(5, hash::again(5, step), cost).unwrap();
            chosen[member] += 1;
            running.push((now_us + latencies[member], member));
        }
        assert!(chosen[2] <= 5, "{chosen:?}");
        for fast in [0, 1, 3, 4] {
            assert!(chosen[fast].abs_diff(25_000) < 2_500, "{chosen:?}");
        }
    }

    #[test]
    fn workers_do_not_lose_each_others_peaks() {
        let ewma = Ewma::default();
        std::thread::scope(|scope| {
            for worker in 1..=4u64 {
                let ewma = &ewma;
                scope.spawn(move || {
                    (1..=10_000).for_each(|step| ewma.observe(step * 4 + worker, at(1000)));
                });
            }
        });
        assert_eq!(ewma.cost(0, at(1000)), 40_004);
    }
}
