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
