//! What is known of the health of endpoints and pools from the requests they were given.
//!
//! Each file is one state machine: when an endpoint is left alone ([`max_fails`], [`outlier`]), when
//! a whole pool is ([`breaker`]), how much is tried again ([`budget`]) and how much is sent at once
//! ([`adaptive`]); [`standing`] is what operators are told. They stand beside `balance` and `forward`, which ask them before an attempt and
//! tell them how it ended. Active probes are elsewhere; they do not need requests.
//!
//! What always holds: time is an argument, so that nothing here reads a clock. All state is atomic
//! and shared by all workers; nothing waits. A clock that jumps, forwards or back, may make a
//! decision late or early but never overflows. Who changes a state is told so, exactly once, and
//! can write the line in the log.

pub mod adaptive;
pub mod breaker;
pub mod budget;
pub mod max_fails;
pub mod outlier;
mod rolling;
pub mod standing;
#[cfg(test)]
mod testing;

use std::fmt;
use std::time::Duration;

use net::timer::Tick;

/// A length of time in milliseconds, the longest there is if it does not fit.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The point in time `millis` later, or the last there is.
pub(crate) fn later(now: Tick, millis: u64) -> Tick {
    Tick::from(now.as_millis().saturating_add(millis))
}

/// A length of time for a log line: "900 ms", "3 s".
struct Span(
    /// In milliseconds.
    u64,
);

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            millis if millis < 1000 => write!(out, "{millis} ms"),
            millis if millis % 1000 == 0 => write!(out, "{} s", millis / 1000),
            millis if millis < 10_000 => write!(out, "{}.{} s", millis / 1000, millis % 1000 / 100),
            millis => write!(out, "{} s", millis / 1000),
        }
    }
}
