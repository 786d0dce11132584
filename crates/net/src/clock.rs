//! The time to the microsecond, for those who measure how long requests take.
//!
//! Why it exists: to read that clock costs as much as a good part of a line of the log, and a request would
//! read it three times. Where a few microseconds do not matter, what a worker has read last is as good. It
//! is even better: a request that is taken up now may have been waiting since.
//!
//! What always holds: what is given as the time of late is older than the present by no more than
//! [`STEPS_MAX`] reads or writes, and the thread has not slept in between.

use std::cell::Cell;
use std::time::Instant;

/// Reads and writes after which the clock is read anew: some ten microseconds if they are short, and some
/// milliseconds if each of them moves as much as it may.
const STEPS_MAX: u32 = 16;

thread_local! {
    /// What was read last, and at which step; nothing if the thread has slept since.
    static LAST: Cell<Option<(Instant, u32)>> = const { Cell::new(None) };
    /// How many reads and writes there were.
    static STEPS: Cell<u32> = const { Cell::new(0) };
}

/// The present.
pub fn now() -> Instant {
    let now = Instant::now();
    LAST.set(Some((now, STEPS.get())));
    now
}

/// The present, or a moment shortly before it.
#[inline]
pub fn lately() -> Instant {
    match LAST.get() {
        Some((last, step)) if STEPS.get().wrapping_sub(step) <= STEPS_MAX => last,
        _ => now(),
    }
}

/// This thread reads from a socket or writes to it.
#[inline]
pub(crate) fn step() {
    STEPS.set(STEPS.get().wrapping_add(1));
}

/// This thread is going to sleep, if there is nothing to do.
pub(crate) fn sleep() {
    LAST.set(None);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_is_read_anew_after_a_sleep_or_some_steps() {
        crate::worker::runtime().unwrap().block_on(async {
            let first = now();
            (0..STEPS_MAX).for_each(|_| step());
            assert_eq!((lately(), lately()), (first, first));
            step();
            let second = lately();
            assert!(second > first);
            assert_eq!(lately(), second);
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(lately() > second);
        });
    }
}
