//! The circuit breaker of a pool, as Easegress and Resilience4j have it: closed while calls go well,
//! open for a time when too many of the last ones failed or were slow, then half open with a few
//! trials that decide.
//!
//! What always holds: the state is one word that changes by compare and swap, so that each change
//! happens once and whoever made it is told. Each state has a generation; how a call of an older
//! one ended is of no account. While half open, no more than `trials` calls of a generation are
//! under way or have ended.

mod window;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use config::model;
use net::timer::Tick;

use self::window::{Call, Counts, MAX_CALLS, Window};
use super::{Span, millis};

/// Seconds after which to come again, if it is not known better.
const SOON: u64 = 1;

/// The breaker of a pool, shared by all workers.
#[derive(Debug)]
pub struct Breaker {
    settings: model::Breaker,
    /// See [`Now`].
    now: AtomicU64,
    /// Trials under way or ended (32 bits) of a generation (above).
    trials: AtomicU64,
    window: Window,
}

/// Leave to make a call. Dropped without an outcome, as when the client goes away, it counts for
/// nothing and gives its trial back.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    breaker: Arc<Breaker>,
    generation: u16,
    is_trial: bool,
    change: Option<Change>,
}

/// No call is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Seconds after which to come again, at least 1: for `Retry-After`.
    pub retry_after: u64,
    /// What asking has changed.
    pub change: Option<Change>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// Without a response, or with a status that counts as a failure.
    Failure,
}

/// States of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All calls are made.
    Closed,
    /// None are.
    Open,
    /// Trials are.
    HalfOpen,
}

/// A change of state. Its `Display` is what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The state now.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

/// Why a breaker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Too many calls failed.
    Failed {
        /// How many.
        failed: u64,
        /// Of how many.
        all: u64,
        /// They were trials.
        trials: bool,
    },
    /// Too many calls were slow.
    Slow {
        /// How many.
        slow: u64,
        /// Of how many.
        all: u64,
        /// They were trials.
        trials: bool,
    },
    /// It was open long enough.
    Waited {
        /// In milliseconds.
        open: u64,
        /// Trials it allows now.
        trials: u32,
    },
    /// It was half open too long.
    Overdue {
        /// In milliseconds.
        half_open: u64,
    },
    /// The trials went well.
    Recovered {
        /// How many failed.
        failed: u64,
        /// How many there were.
        trials: u64,
    },
}

impl Breaker {
    /// A breaker that is closed. Windows of more than 16384 calls or an hour are shortened to that.
    pub fn new(settings: model::Breaker) -> Self {
        Self {
            now: AtomicU64::new(Now { state: State::Closed, generation: 0, since: 0 }.into_bits()),
            trials: AtomicU64::new(0),
            window: Window::new(settings.window),
            settings,
        }
    }

    /// What it was made with.
    pub fn settings(&self) -> &model::Breaker {
        &self.settings
    }

    /// The state as it was left; an open breaker becomes half open when it is asked for a permit.
    pub fn state(&self) -> State {
        self.load().state
    }

    /// Whether a response with this status is a failure.
    pub fn is_failure(&self, status: u16) -> bool {
        self.settings.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }

    /// Whether a call that took so long is slow.
    pub fn is_slow(&self, latency_us: u64) -> bool {
        u128::from(latency_us) >= self.settings.slow.as_micros()
    }

    /// Asks for a call.
    ///
    /// # Errors
    /// None is to be made now.
    pub fn permit(self: &Arc<Self>, now: Tick) -> Result<Permit, Rejected> {
        let mut change = None;
        loop {
            let current = self.load();
            match current.state {
                State::Closed => return Ok(self.permitted(current, false, change)),
                State::Open => {
                    let open = millis(self.settings.open);
                    let passed = current.passed(now);
                    if passed < open {
                        return Err(Rejected { retry_after: seconds(open - passed), change });
                    }
                    let reason = Reason::Waited { open, trials: self.trials() };
                    change = self.change(current, State::HalfOpen, reason, now).or(change);
                }
                State::HalfOpen if self.take_trial(current.generation) => {
                    return Ok(self.permitted(current, true, change));
                }
                State::HalfOpen => {
                    let max = millis(self.settings.half_open_max);
                    if max == 0 || current.passed(now) <= max {
                        return Err(Rejected { retry_after: SOON, change });
                    }
                    let reason = Reason::Overdue { half_open: max };
                    let change = self.change(current, State::Open, reason, now).or(change);
                    let retry_after = seconds(millis(self.settings.open));
                    return Err(Rejected { retry_after, change });
                }
            }
        }
    }

    fn permitted(self: &Arc<Self>, current: Now, is_trial: bool, change: Option<Change>) -> Permit {
        let breaker = Arc::clone(self);
        Permit { breaker, generation: current.generation, is_trial, change }
    }

    fn record(&self, generation: u16, call: Call, now: Tick) -> Option<Change> {
        let current = self.load();
        if current.generation != generation {
            return None;
        }
        let is_trial = current.state == State::HalfOpen;
        let counts = if is_trial {
            self.window.push_trial(generation, call)?
        } else {
            self.window.push(generation, call, now)?
        };
        if counts.all < u64::from(self.minimum(is_trial)) {
            return None;
        }
        let (to, reason) = self.judge(counts, is_trial)?;
        self.change(current, to, reason, now)
    }

    /// What is to be done when enough calls were seen.
    fn judge(&self, counts: Counts, trials: bool) -> Option<(State, Reason)> {
        let Counts { all, failed, slow } = counts;
        let is_reached =
            |part: u64, rate: u32| part * 100 >= all * u64::from(rate.max(1)) && part > 0;
        if is_reached(failed, self.settings.failure_rate) {
            Some((State::Open, Reason::Failed { failed, all, trials }))
        } else if is_reached(slow, self.settings.slow_rate) {
            Some((State::Open, Reason::Slow { slow, all, trials }))
        } else {
            trials.then_some((State::Closed, Reason::Recovered { failed, trials: all }))
        }
    }

    /// Least calls that are judged; never more than there can be.
    fn minimum(&self, is_trial: bool) -> u32 {
        let most = if is_trial { Some(self.trials()) } else { self.window.size() };
        self.settings.minimum.min(most.unwrap_or(u32::MAX)).max(1)
    }

    fn trials(&self) -> u32 {
        self.settings.trials.clamp(1, MAX_CALLS)
    }

    fn load(&self) -> Now {
        Now::from_bits(self.now.load(Ordering::Acquire))
    }

    /// Changes the state; `None` if another worker was first.
    fn change(&self, from: Now, to: State, reason: Reason, now: Tick) -> Option<Change> {
        let generation = from.generation.wrapping_add(1);
        let next = Now { state: to, generation, since: now.as_millis() };
        let (old, new) = (from.into_bits(), next.into_bits());
        self.now.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        if to != State::Open {
            self.window.begin(generation);
        }
        Some(Change { to, reason })
    }

    fn take_trial(&self, generation: u16) -> bool {
        let take = |bits: u64| {
            let taken = match generation.wrapping_sub((bits >> 32) as u16) as i16 {
                0 => bits as u32,
                1.. => 0,
                _ => return None,
            };
            (taken < self.trials()).then(|| u64::from(generation) << 32 | u64::from(taken + 1))
        };
        self.trials.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn give_trial_back(&self, generation: u16) {
        let give = |bits: u64| {
            let taken = bits as u32;
            ((bits >> 32) as u16 == generation && taken > 0).then(|| bits - 1)
        };
        // An `Err` means that its generation has ended.
        let _ = self.trials.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }
}

impl Permit {
    /// What asking for this permit has changed: the breaker is half open now.
    pub fn change(&self) -> Option<&Change> {
        self.change.as_ref()
    }

    /// The call has ended. What that has changed.
    pub fn done(mut self, outcome: Outcome, slow: bool, now: Tick) -> Option<Change> {
        // From now on it is not to be given back.
        self.is_trial = false;
        let call = match outcome {
            Outcome::Failure => Call::Failed,
            Outcome::Success if slow => Call::Slow,
            Outcome::Success => Call::Good,
        };
        self.breaker.record(self.generation, call, now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_trial {
            self.breaker.give_trial_back(self.generation);
        }
    }
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy)]
struct Now {
    state: State,
    generation: u16,
    /// In milliseconds.
    since: u64,
}

/// 2231 years.
const SINCE_BITS: u32 = 46;
const SINCE: u64 = (1 << SINCE_BITS) - 1;

impl Now {
    fn from_bits(bits: u64) -> Self {
        let state = match bits >> 62 {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        };
        Self { state, generation: (bits >> SINCE_BITS) as u16, since: bits & SINCE }
    }

    fn into_bits(self) -> u64 {
        let state: u64 = match self.state {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2,
        };
        state << 62 | u64::from(self.generation) << SINCE_BITS | self.since.min(SINCE)
    }

    /// Milliseconds since it began.
    fn passed(&self, now: Tick) -> u64 {
        now.as_millis().saturating_sub(self.since)
    }
}

/// Milliseconds as seconds, rounded up.
fn seconds(millis: u64) -> u64 {
    millis.div_ceil(1000).max(1)
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.to {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half open",
        };
        write!(out, "circuit {state}: {}", self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = |trials: bool| if trials { "trials" } else { "requests" };
        match *self {
            Self::Failed { failed, all, trials } => {
                write!(out, "{failed} of {all} {} failed", calls(trials))
            }
            Self::Slow { slow, all, trials } => {
                write!(out, "{slow} of {all} {} were slow", calls(trials))
            }
            Self::Waited { open, trials } => {
                write!(out, "{} have passed, at most {trials} trials", Span(open))
            }
            Self::Overdue { half_open } => {
                write!(out, "the trials did not end within {}", Span(half_open))
            }
            Self::Recovered { failed, trials } => write!(out, "{failed} of {trials} trials failed"),
        }
    }
}
