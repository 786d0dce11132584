//! The generic cell rate algorithm (GCRA, ITU-T I.371): a token bucket in one number.
//!
//! All that is kept of a key is the time until which it has spent what it may: every request adds the
//! time that one takes, and may do so as long as that does not reach further into the future than a
//! whole burst takes. Never are more requests admitted in a time than it allows and a burst.

use std::time::Duration;

/// How many requests are taken in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What one request takes, in nanoseconds; at least 1.
    each: u64,
    /// What a whole burst takes.
    burst: u64,
}

/// What becomes of a request. Times are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is admitted.
    Admitted {
        /// Until when its key has spent what it may.
        until: u64,
        /// How long it has to wait until its time comes.
        wait: u64,
    },
    /// It is not.
    Refused {
        /// When another would be.
        again_in: u64,
    },
}

impl Rate {
    /// `requests` in the time `per`, evenly, and `burst` at once. None of them is zero.
    pub fn new(requests: u32, per: Duration, burst: u32) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        // Rounded up: rather a little less than asked for than more.
        let each = per.div_ceil(u64::from(requests.max(1))).max(1);
        Self { each, burst: each.saturating_mul(u64::from(burst.max(1))) }
    }

    /// What becomes of a request at `now` whose key has spent until `until`, and that may wait for
    /// `patience`.
    pub fn verdict(&self, until: u64, now: u64, patience: u64) -> Verdict {
        let until = until.max(now).saturating_add(self.each);
        let wait = (until - now).saturating_sub(self.burst);
        match wait <= patience {
            true => Verdict::Admitted { until, wait },
            false => Verdict::Refused { again_in: wait },
        }
    }

    /// When another request would be admitted, from `now` on, of a key that has spent until `until`.
    pub fn next_in(&self, until: u64, now: u64) -> u64 {
        until.saturating_sub(now).saturating_add(self.each).saturating_sub(self.burst)
    }

    /// Until when a key that has spent until `until` had spent without the last request.
    pub fn without(&self, until: u64) -> u64 {
        until.saturating_sub(self.each)
    }

    /// How many more requests would be admitted at `now` by a key that has spent until `until`.
    pub fn left(&self, until: u64, now: u64) -> u64 {
        self.burst.saturating_sub(until.saturating_sub(now)) / self.each
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Requests at these times, and which of them were admitted.
    fn admitted(rate: &Rate, times: &[u64]) -> Vec<bool> {
        let mut spent = 0;
        let ask = |now: &u64| match rate.verdict(spent, *now, 0) {
            Verdict::Admitted { until, wait } => {
                assert_eq!(wait, 0);
                spent = until;
                true
            }
            Verdict::Refused { .. } => false,
        };
        times.iter().map(ask).collect()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::new(2, Duration::from_secs(1), 3);
        let at = |tenths: &[u64]| tenths.iter().map(|t| 100 * SECOND + t * SECOND / 10).collect();
        let times: Vec<u64> = at(&[0, 0, 0, 0, 4, 5, 5, 9, 10, 10, 100, 100, 100, 100]);
        let expected = "yyynnynnynyyyn";
        let got: String =
            admitted(&rate, &times).iter().map(|y| if *y { 'y' } else { 'n' }).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_again() {
        let rate = Rate::new(1, Duration::from_secs(10), 1);
        let Verdict::Admitted { until, .. } = rate.verdict(0, SECOND, 0) else { panic!() };
        let refused = rate.verdict(until, 3 * SECOND, 0);
        assert_eq!(refused, Verdict::Refused { again_in: 8 * SECOND });
        assert!(matches!(rate.verdict(until, 11 * SECOND, 0), Verdict::Admitted { .. }));
    }

    #[test]
    fn who_waits_has_a_time_of_its_own() {
        let rate = Rate::new(1, Duration::from_secs(1), 1);
        let mut spent = 0;
        let mut waits = Vec::new();
        for _ in 0..4 {
            match rate.verdict(spent, SECOND, 2 * SECOND) {
                Verdict::Admitted { until, wait } => {
                    spent = until;
                    waits.push(wait / SECOND);
                }
                Verdict::Refused { again_in } => assert_eq!(again_in, 3 * SECOND),
            }
        }
        assert_eq!(waits, [0, 1, 2]);
    }

    #[test]
    fn what_is_left_is_what_would_be_admitted() {
        let rate = Rate::new(10, Duration::from_secs(1), 5);
        let mut spent = 0;
        for left in (0..5).rev() {
            let Verdict::Admitted { until, .. } = rate.verdict(spent, SECOND, 0) else { panic!() };
            spent = until;
            assert_eq!(rate.left(spent, SECOND), left);
        }
        assert_eq!(rate.left(spent, SECOND + SECOND / 10), 1);
        assert_eq!(rate.left(spent, 100 * SECOND), 5);
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let rate = Rate::new(1, Duration::from_secs(30 * 86_400), u32::MAX);
        let verdict = rate.verdict(u64::MAX, u64::MAX - 1, u64::MAX);
        assert!(matches!(verdict, Verdict::Admitted { until: u64::MAX, .. }));
        let fast = Rate::new(u32::MAX, Duration::from_millis(1), 1);
        assert_eq!(fast, Rate { each: 1, burst: 1 });
    }

    proptest! {
        /// Whenever requests come: in no stretch of time are there more than it allows and a burst.
        #[test]
        fn never_more_than_the_rate_and_a_burst(
            requests in 1u32..50,
            burst in 1u32..50,
            gaps in prop::collection::vec(0u64..100_000_000, 1..200),
        ) {
            let rate = Rate::new(requests, Duration::from_secs(1), burst);
            let mut now = SECOND;
            let times: Vec<u64> = gaps.iter().map(|gap| { now += gap; now }).collect();
            let passed: Vec<u64> = times
                .iter()
                .zip(admitted(&rate, &times))
                .filter_map(|(time, admitted)| admitted.then_some(*time))
                .collect();
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let allowed = u64::from(burst) + (to - from) * u64::from(requests) / SECOND;
                    prop_assert!(((last - first) as u64) < allowed);
                }
            }
        }
    }
}
