//! How many messages a client may send: a token bucket with the time as an argument.

use config::model::MessageRate;
use net::timer::Tick;

/// What a client may still send on one WebSocket.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// Filled by so much each millisecond.
    rate: u64,
    /// What a message takes out of it: the milliseconds of `per`, so that all is whole numbers.
    cost: u64,
    full: u64,
    level: u64,
    since: Tick,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: &MessageRate, now: Tick) -> Self {
        let cost = u64::try_from(rate.per.as_millis()).unwrap_or(u64::MAX).max(1);
        let full = cost.saturating_mul(rate.burst.into());
        Self { rate: rate.rate.into(), cost, full, level: full, since: now }
    }

    /// How many messages may begin now.
    pub(super) fn available(&mut self, now: Tick) -> u64 {
        let passed = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        self.since = self.since.max(now);
        self.level = self.level.saturating_add(passed.saturating_mul(self.rate)).min(self.full);
        self.level / self.cost
    }

    /// So many have begun, at most as many as might.
    pub(super) fn take(&mut self, count: u64) {
        self.level = self.level.saturating_sub(count.saturating_mul(self.cost));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_burst_is_there_at_once_and_the_rate_after_it() {
        let rate = MessageRate { rate: 10, per: Duration::from_secs(1), burst: 3 };
        let at = |millis: u64| Tick::from(1_000_000 + millis);
        let mut bucket = Bucket::new(&rate, at(0));
        assert_eq!(bucket.available(at(0)), 3);
        bucket.take(3);
        assert_eq!(bucket.available(at(99)), 0);
        assert_eq!(bucket.available(at(100)), 1);
        bucket.take(1);
        assert_eq!(bucket.available(at(150)), 0);
        assert_eq!(bucket.available(at(200)), 1);
        assert_eq!(bucket.available(at(100)), 1, "a clock that goes back changes nothing");
        assert_eq!(bucket.available(at(60_000)), 3, "never more than the burst");
    }

    #[test]
    fn long_times_and_large_numbers_do_not_overflow() {
        let rate = MessageRate { rate: u32::MAX, per: Duration::MAX, burst: u32::MAX };
        let mut bucket = Bucket::new(&rate, Tick::from(0));
        let available = bucket.available(Tick::from(u64::MAX));
        bucket.take(available);
        bucket.available(Tick::from(u64::MAX));
        let slow = MessageRate { rate: 1, per: Duration::from_secs(3600), burst: 1 };
        let mut bucket = Bucket::new(&slow, Tick::from(0));
        bucket.take(1);
        assert_eq!(bucket.available(Tick::from(3_599_999)), 0);
        assert_eq!(bucket.available(Tick::from(3_600_000)), 1);
    }
}
