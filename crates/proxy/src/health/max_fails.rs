//! Leaving out a member whose attempts fail: `max_fails` and `fail_timeout` as nginx means them.
//!
//! So many failures, with no more than `fail_timeout` between a failure and the success that would
//! have made up for it, make a member unusable for `fail_timeout`. Then one request tries it, and
//! its success forgets all failures (`ngx_http_upstream_round_robin.c`).
//!
//! What always holds: between the end of a time-out and the outcome of the trial no second request
//! goes there.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use net::timer::Tick;

/// The failures of one member. All workers share it.
#[derive(Debug, Default)]
pub struct Fails {
    count: AtomicU32,
    /// When it last failed, or was tried after its time-out; in milliseconds.
    checked: AtomicU64,
    /// When it last failed.
    failed: AtomicU64,
}

/// What a failure led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The member stays in use.
    Usable,
    /// It is unusable from now on.
    LeftOut,
    /// It was unusable before and stays so: the trial failed.
    StillOut,
}

impl Fails {
    /// Requests may go to it at `now`.
    pub fn usable(&self, now: Tick, max: u32, timeout: Duration) -> bool {
        max == 0 || self.count.load(Ordering::Relaxed) < max || self.lapsed(now, timeout)
    }

    /// When it can be tried again, if it is unusable at `now`.
    pub fn until(&self, now: Tick, max: u32, timeout: Duration) -> Option<Tick> {
        let end = self.checked.load(Ordering::Relaxed).saturating_add(millis(timeout));
        (!self.usable(now, max, timeout)).then(|| Tick::from(end.saturating_add(1)))
    }

    /// Whether a request that chose it may go there: always while it is usable, and once after its
    /// time-out.
    pub fn takes(&self, now: Tick, max: u32, timeout: Duration) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        if max == 0 || count == 0 {
            return true;
        }
        let checked = self.checked.load(Ordering::Relaxed);
        if now.as_millis().saturating_sub(checked) <= millis(timeout) {
            return count < max;
        }
        let order = Ordering::Relaxed;
        let first = self.checked.compare_exchange(checked, now.as_millis(), order, order);
        first.is_ok() || count < max
    }

    /// An attempt failed.
    pub fn failed(&self, now: Tick, max: u32) -> Verdict {
        self.failed.store(now.as_millis(), Ordering::Relaxed);
        self.checked.store(now.as_millis(), Ordering::Relaxed);
        // Far below the number of failures in the life of a process, and it only has to pass `max`.
        let count = self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        match count.cmp(&max) {
            _ if max == 0 => Verdict::Usable,
            std::cmp::Ordering::Less => Verdict::Usable,
            std::cmp::Ordering::Equal => Verdict::LeftOut,
            std::cmp::Ordering::Greater => Verdict::StillOut,
        }
    }

    /// An attempt succeeded. True if that made it usable again.
    pub fn succeeded(&self, max: u32) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        // A success while failures are fresh makes up for none of them.
        let fresh = self.failed.load(Ordering::Relaxed) >= self.checked.load(Ordering::Relaxed);
        !fresh && max > 0 && self.count.swap(0, Ordering::Relaxed) >= max
    }

    fn lapsed(&self, now: Tick, timeout: Duration) -> bool {
        now.as_millis().saturating_sub(self.checked.load(Ordering::Relaxed)) > millis(timeout)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Tick {
        Tick::from(1_000_000 + seconds * 1000)
    }

    #[test]
    fn one_failure_leaves_it_out_for_the_timeout_by_nginx_defaults() {
        let fails = Fails::default();
        assert!(fails.usable(at(0), 1, TIMEOUT));
        assert_eq!(fails.failed(at(0), 1), Verdict::LeftOut);
        for second in [0, 5, 10] {
            assert!(!fails.usable(at(second), 1, TIMEOUT) && !fails.takes(at(second), 1, TIMEOUT));
        }
        assert!(fails.usable(at(11), 1, TIMEOUT));
        assert_eq!(fails.until(at(3), 1, TIMEOUT), Some(Tick::from(at(10).as_millis() + 1)));
    }

    #[test]
    fn after_the_timeout_one_request_tries_it() {
        let fails = Fails::default();
        fails.failed(at(0), 1);
        assert!(fails.takes(at(11), 1, TIMEOUT));
        assert!(!fails.takes(at(11), 1, TIMEOUT) && !fails.takes(at(15), 1, TIMEOUT));
        assert!(fails.succeeded(1));
        assert!(fails.takes(at(15), 1, TIMEOUT) && fails.usable(at(15), 1, TIMEOUT));
        assert!(!fails.succeeded(1), "told once");
    }

    #[test]
    fn a_trial_that_fails_leaves_it_out_again() {
        let fails = Fails::default();
        fails.failed(at(0), 1);
        assert!(fails.takes(at(11), 1, TIMEOUT));
        assert_eq!(fails.failed(at(12), 1), Verdict::StillOut);
        assert!(!fails.takes(at(22), 1, TIMEOUT));
        assert!(fails.takes(at(23), 1, TIMEOUT));
    }

    #[test]
    fn failures_add_up_although_others_succeed_in_between() {
        let fails = Fails::default();
        assert_eq!(fails.failed(at(0), 3), Verdict::Usable);
        assert!(fails.takes(at(1), 3, TIMEOUT));
        fails.succeeded(3);
        assert_eq!(fails.failed(at(2), 3), Verdict::Usable);
        assert_eq!(fails.failed(at(3), 3), Verdict::LeftOut);
    }

    #[test]
    fn a_success_after_the_timeout_forgets_them() {
        let fails = Fails::default();
        fails.failed(at(0), 3);
        fails.failed(at(1), 3);
        assert!(fails.takes(at(20), 3, TIMEOUT));
        fails.succeeded(3);
        assert_eq!(fails.failed(at(21), 3), Verdict::Usable);
        assert_eq!(fails.failed(at(22), 3), Verdict::Usable);
    }

    #[test]
    fn zero_turns_it_off() {
        let fails = Fails::default();
        for second in 0..100 {
            assert_eq!(fails.failed(at(second), 0), Verdict::Usable);
            assert!(fails.usable(at(second), 0, TIMEOUT) && fails.takes(at(second), 0, TIMEOUT));
        }
    }

    #[test]
    fn a_clock_that_goes_back_is_no_lapse() {
        let fails = Fails::default();
        fails.failed(at(100), 1);
        assert!(!fails.usable(at(0), 1, TIMEOUT) && !fails.takes(at(0), 1, TIMEOUT));
    }
}
