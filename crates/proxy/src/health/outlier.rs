//! Ejection of members that stand out from their pool: by failures in a row, by their share of
//! failures, or by latency.
//!
//! [`Stats`] are what is known of one member and outlive a reload; the [`Detector`] of a pool looks
//! at those of all its members. An ejection ends by itself when its time has passed.
//!
//! What always holds: the share of ejected members never passes its ceiling, but one may always be
//! ejected; a member is never ejected unless another one is usable. Windows are evaluated once, by
//! the worker that is first to pass their end; two workers never eject at the same time, and the one
//! that comes second leaves it to its next failure rather than wait.

mod streak;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use config::model;
use net::timer::Tick;

use self::streak::Streak;
use super::{Span, later, millis};

/// How a request failed at a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// The connection ended before a response.
    Reset,
    /// No response in time.
    Timeout,
    /// What came was no response.
    Invalid,
    /// A response of 5xx.
    Status,
}

/// What is known of a member, shared by all workers.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Stats {
    /// See `streak`.
    streak: AtomicU64,
    /// Requests of this window, how many of them failed, and the sum of the latencies of the others
    /// in microseconds.
    requests: AtomicU64,
    failed: AtomicU64,
    latency_sum: AtomicU64,
    /// End of the last ejection, in milliseconds; 0 if there was none.
    until: AtomicU64,
    /// Ejections in a row.
    times: AtomicU32,
}

/// Whether a member could get requests if it were not ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has no address, and does not count.
    Absent,
    /// It counts, but gets none: down, or found unhealthy.
    Unusable,
    /// It could.
    Usable,
}

/// The detector of a pool, shared by all workers.
#[derive(Debug)]
pub struct Detector {
    settings: model::Outlier,
    window: u64,
    members: Box<[Arc<Stats>]>,
    /// Begin of this window, in milliseconds; 0 before the first request.
    began: AtomicU64,
    /// A worker is about to eject.
    ejecting: AtomicBool,
}

/// A member that was just ejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// Its index in the pool.
    pub member: usize,
    /// Why.
    pub reason: Reason,
    /// When it is back.
    pub until: Tick,
    /// The how-manieth in a row this is, from 1.
    pub times: u32,
}

/// Why a member was ejected. Its `Display` is what the log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// So many failures in a row.
    Consecutive {
        /// How many.
        failures: u32,
        /// Of what kind; `None` if they differ.
        kind: Option<Failure>,
        /// From the first to the last, in milliseconds.
        within: u64,
    },
    /// The share of failures in a window.
    Failures {
        /// Failed requests.
        failed: u64,
        /// All requests.
        requests: u64,
    },
    /// The average latency in a window.
    Latency {
        /// That of the member, in microseconds.
        own: u64,
        /// The median of the other members' averages.
        median: u64,
    },
}

impl Stats {
    /// Whether the member is ejected.
    pub fn ejected(&self, now: Tick) -> bool {
        self.until.load(Ordering::Relaxed) > now.as_millis()
    }

    /// When it is back; `None` if it is not ejected.
    pub fn until(&self, now: Tick) -> Option<Tick> {
        Some(Tick::from(self.until.load(Ordering::Relaxed))).filter(|until| *until > now)
    }

    /// Forgets everything, as when the member has another address. Ends an ejection.
    pub fn forget(&self) {
        self.until.store(0, Ordering::Relaxed);
        self.times.store(0, Ordering::Relaxed);
        self.begin_again();
    }

    fn begin_again(&self) {
        self.streak.store(0, Ordering::Relaxed);
        let _ = self.take();
    }

    /// The counts of the window that has ended; the next one begins.
    fn take(&self) -> Counts {
        let failed = self.failed.swap(0, Ordering::Relaxed);
        let requests = self.requests.swap(0, Ordering::Relaxed);
        let latency_sum = self.latency_sum.swap(0, Ordering::Relaxed);
        // A worker may have been between two of them.
        Counts { requests, failed: failed.min(requests), latency_sum }
    }

    /// Counts a failure; the streak it belongs to.
    fn failed(&self, kind: Failure, now: Tick) -> Streak {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut bits = self.streak.load(Ordering::Relaxed);
        loop {
            let streak = Streak::from_bits(bits).and(kind, now);
            let (old, new) = (bits, streak.into_bits());
            match self.streak.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return streak,
                Err(other) => bits = other,
            }
        }
    }

    /// A window has passed without a reason to eject.
    fn forgive(&self) {
        let less = |times: u32| times.checked_sub(1);
        // An `Err` means that there was nothing to forgive.
        let _ = self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn succeeded(&self, latency_us: u64) {
        self.latency_sum.fetch_add(latency_us.min(LONGEST), Ordering::Relaxed);
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }
}

/// Longest latency that counts, in microseconds: 71 minutes. The sum of four billion fits.
const LONGEST: u64 = u32::MAX as u64;

impl Detector {
    /// The detector of a pool with these members, whose indices are those of `members`.
    pub fn new(settings: model::Outlier, members: Vec<Arc<Stats>>) -> Self {
        let window = millis(settings.window).max(1);
        Self {
            settings,
            window,
            members: members.into(),
            began: AtomicU64::new(0),
            ejecting: AtomicBool::new(false),
        }
    }

    /// A request to `member` has ended: after `latency_us` microseconds with a response, or with a
    /// `failure`. Gives the members that this ejects: nearly always none, at most one unless a
    /// window has ended.
    ///
    /// `standing` is asked for the standing of a member only when one is to be ejected. Requests of
    /// members that are ejected do not count.
    pub fn record(
        &self,
        member: usize,
        failure: Option<Failure>,
        latency_us: u64,
        now: Tick,
        standing: impl Fn(usize) -> Standing,
    ) -> Vec<Ejection> {
        let mut ejections = Vec::new();
        self.pass(now, &standing, &mut ejections);
        let Some(stats) = self.members.get(member) else { return ejections };
        if stats.ejected(now) {
            return ejections;
        }
        stats.requests.fetch_add(1, Ordering::Relaxed);
        let Some(kind) = failure else {
            stats.succeeded(latency_us);
            return ejections;
        };
        let streak = stats.failed(kind, now);
        if self.settings.consecutive != 0 && streak.failures >= self.limit() {
            ejections.extend(self.eject(member, streak.reason(now), now, &standing));
        }
        ejections
    }

    /// How many members are ejected.
    pub fn ejected(&self, now: Tick) -> usize {
        self.members.iter().filter(|stats| stats.ejected(now)).count()
    }

    fn limit(&self) -> u32 {
        self.settings.consecutive.min(streak::MOST)
    }

    /// Evaluates the window if it has ended.
    fn pass(
        &self,
        now: Tick,
        standing: &impl Fn(usize) -> Standing,
        ejections: &mut Vec<Ejection>,
    ) {
        let began = self.began.load(Ordering::Relaxed);
        let passed = now.as_millis().abs_diff(began);
        if passed < self.window && began != 0 {
            return;
        }
        let begin = now.as_millis().max(1);
        let begun = self.began.compare_exchange(began, begin, Ordering::Relaxed, Ordering::Relaxed);
        if begun.is_err() {
            return;
        }
        let counts: Vec<_> = self.members.iter().map(|stats| stats.take()).collect();
        // What was long ago says nothing of the present.
        if passed >= self.window.saturating_mul(2) || began == 0 {
            return;
        }
        let mut found: Vec<_> = (0..counts.len())
            .filter_map(|member| Some((member, self.judge(member, &counts)?)))
            .collect();
        // The ceiling may not let all of them be ejected: the worst first.
        found.sort_by_key(|(_, reason)| std::cmp::Reverse(reason.severity()));
        for ((member, stats), counts) in self.members.iter().enumerate().zip(&counts) {
            let is_found = found.iter().any(|(other, _)| *other == member);
            if counts.requests > 0 && !is_found && !stats.ejected(now) {
                stats.forgive();
            }
        }
        for (member, reason) in found {
            ejections.extend(self.eject(member, reason, now, standing));
        }
    }

    /// Whether a member stood out in the window with these counts.
    fn judge(&self, member: usize, counts: &[Counts]) -> Option<Reason> {
        let Counts { requests, failed, .. } = *counts.get(member)?;
        let minimum = u64::from(self.settings.minimum).max(1);
        let share = u64::from(self.settings.failures);
        if share != 0 && requests >= minimum && is_share(failed, requests, share) {
            return Some(Reason::Failures { failed, requests });
        }
        if self.settings.latency == 0 {
            return None;
        }
        let own = counts.get(member)?.average(minimum)?;
        let others = counts.iter().enumerate().filter(|(other, _)| *other != member);
        let median = median(others.filter_map(|(_, counts)| counts.average(minimum)).collect())?;
        is_share(own, median, u64::from(self.settings.latency))
            .then_some(Reason::Latency { own, median })
    }

    /// Ejects a member, if that leaves one and the ceiling allows it.
    fn eject(
        &self,
        member: usize,
        reason: Reason,
        now: Tick,
        standing: &impl Fn(usize) -> Standing,
    ) -> Option<Ejection> {
        if self.ejecting.swap(true, Ordering::Acquire) {
            return None;
        }
        let ejection = self.try_eject(member, reason, now, standing);
        self.ejecting.store(false, Ordering::Release);
        ejection
    }

    fn try_eject(
        &self,
        member: usize,
        reason: Reason,
        now: Tick,
        standing: &impl Fn(usize) -> Standing,
    ) -> Option<Ejection> {
        let (mut present, mut ejected, mut others) = (0u64, 0u64, 0u64);
        for (index, stats) in self.members.iter().enumerate() {
            let standing = standing(index);
            if standing == Standing::Absent {
                continue;
            }
            present += 1;
            match stats.ejected(now) {
                true => ejected += 1,
                false if index != member && standing == Standing::Usable => others += 1,
                false => {}
            }
        }
        let ceiling = (present * u64::from(self.settings.max_ejected.min(100)) / 100).max(1);
        let stats = self.members.get(member)?;
        if others == 0 || ejected >= ceiling || stats.ejected(now) {
            return None;
        }
        let times = stats.times.load(Ordering::Relaxed).saturating_add(1);
        let time = millis(self.settings.base_time).saturating_mul(u64::from(times));
        let until = later(now, time.min(millis(self.settings.max_time)).max(1));
        stats.times.store(times, Ordering::Relaxed);
        stats.until.store(until.as_millis(), Ordering::Relaxed);
        stats.begin_again();
        Some(Ejection { member, reason, until, times })
    }
}

/// What was counted of a member in a window.
#[derive(Debug, Clone, Copy)]
struct Counts {
    requests: u64,
    failed: u64,
    latency_sum: u64,
}

impl Counts {
    /// The average latency, if there were enough responses.
    fn average(&self, minimum: u64) -> Option<u64> {
        let responses = self.requests.saturating_sub(self.failed);
        (responses >= minimum.max(1)).then(|| self.latency_sum / responses.max(1))
    }
}

/// `part` is at least `share` per cent of `whole`.
fn is_share(part: u64, whole: u64, share: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(share) && part > 0
}

/// The lower one of the two in the middle if their number is even.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

impl Reason {
    /// How much worse than the limit, in per cent, to compare with others.
    fn severity(&self) -> u64 {
        match *self {
            Self::Consecutive { .. } => u64::MAX,
            // Before any latency: a failed request is worse than a slow one.
            Self::Failures { failed, requests } => u64::MAX / 2 + failed * 100 / requests.max(1),
            Self::Latency { own, median } => own.saturating_mul(100) / median.max(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Connect => "connect error",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid response",
            Self::Status => "error response",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Consecutive { failures, kind, within } => {
                write!(out, "{failures} ")?;
                match kind {
                    Some(kind) => write!(out, "{kind}")?,
                    None => out.write_str("failure")?,
                }
                if failures == 1 {
                    return Ok(());
                }
                write!(out, "s in {}", Span(within))
            }
            Self::Failures { failed, requests } => {
                write!(out, "{failed} of {requests} requests failed")
            }
            Self::Latency { own, median } => {
                let (own, median) = (Micros(own), Micros(median));
                write!(out, "latency {own}, median of the others {median}")
            }
        }
    }
}

/// A latency for a log line.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros if micros < 1000 => write!(out, "{micros} us"),
            micros if micros < 10_000 => {
                write!(out, "{}.{} ms", micros / 1000, micros % 1000 / 100)
            }
            micros => Span(micros / 1000).fmt(out),
        }
    }
}
