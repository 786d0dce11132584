//! What a breaker has seen of calls: the last so many, those of the last seconds, or its trials.
//!
//! What always holds: every count belongs to a generation, which is one closed or half-open state of
//! the breaker. Nothing is cleared when a generation ends; what belongs to an older one is passed
//! over.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use config::model::BreakerWindow;
use net::timer::Tick;

use crate::health::rolling::{Rolling, Seconds};

/// Most calls a window or a series of trials may have.
pub(super) const MAX_CALLS: u32 = 1 << 14;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Good,
    Slow,
    /// Slow or not.
    Failed,
}

/// How many calls were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) all: u64,
    pub(super) failed: u64,
    pub(super) slow: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    tally: Tally,
    calls: Calls,
}

#[derive(Debug)]
enum Calls {
    /// The outcome of each, with its generation; the tally counts them.
    Last { outcomes: Box<[AtomicU32]>, next: AtomicUsize },
    /// The tally is used for trials only.
    Recent { seconds: Seconds, all: Rolling, failed: Rolling, slow: Rolling },
}

impl Window {
    pub(super) fn new(window: BreakerWindow) -> Self {
        let calls = match window {
            BreakerWindow::Count(size) => Calls::Last {
                outcomes: (0..size.clamp(1, MAX_CALLS)).map(|_| AtomicU32::new(0)).collect(),
                next: AtomicUsize::new(0),
            },
            BreakerWindow::Time(time) => {
                let rolling = || Rolling::new(seconds(time));
                Calls::Recent {
                    seconds: Seconds::default(),
                    all: rolling(),
                    failed: rolling(),
                    slow: rolling(),
                }
            }
        };
        Self { tally: Tally(AtomicU64::new(Tallied::new(0).into_bits())), calls }
    }

    /// Begins a generation.
    pub(super) fn begin(&self, generation: u16) {
        self.tally.update(generation, |_| {});
    }

    /// Counts a trial. `None` if its generation has ended.
    pub(super) fn push_trial(&self, generation: u16, call: Call) -> Option<Counts> {
        self.tally.update(generation, |tallied| tallied.add(call))
    }

    /// Counts a call while closed, and leaves out what the window has passed. `None` if its
    /// generation has ended.
    pub(super) fn push(&self, generation: u16, call: Call, now: Tick) -> Option<Counts> {
        match &self.calls {
            Calls::Last { outcomes, next } => {
                let index = next.fetch_add(1, Ordering::Relaxed) % outcomes.len().max(1);
                let outcome = into_outcome(generation, call);
                let passed = outcomes.get(index)?.swap(outcome, Ordering::Relaxed);
                let passed = from_outcome(generation, passed);
                self.tally.update(generation, |tallied| {
                    tallied.add(call);
                    passed.into_iter().for_each(|call| tallied.remove(call));
                })
            }
            Calls::Recent { seconds, all, failed, slow } => {
                let second = seconds.at(now);
                let generation = generation as u8;
                all.add(generation, second);
                match call {
                    Call::Good => {}
                    Call::Slow => slow.add(generation, second),
                    Call::Failed => failed.add(generation, second),
                }
                let sum = |rolling: &Rolling| rolling.sum(generation, second);
                Some(Counts { all: sum(all), failed: sum(failed), slow: sum(slow) })
            }
        }
    }

    /// Most calls it can hold at once; `None` for a window of time.
    pub(super) fn size(&self) -> Option<u32> {
        match &self.calls {
            Calls::Last { outcomes, .. } => u32::try_from(outcomes.len()).ok(),
            Calls::Recent { .. } => None,
        }
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn into_outcome(generation: u16, call: Call) -> u32 {
    let call = match call {
        Call::Good => 1,
        Call::Slow => 2,
        Call::Failed => 3,
    };
    u32::from(generation) << 2 | call
}

fn from_outcome(generation: u16, outcome: u32) -> Option<Call> {
    if outcome >> 2 != u32::from(generation) {
        return None;
    }
    match outcome & 3 {
        1 => Some(Call::Good),
        2 => Some(Call::Slow),
        3 => Some(Call::Failed),
        _ => None,
    }
}

/// The counts of a generation in one word: generation, all, failed, slow, 16 bits each.
#[derive(Debug)]
struct Tally(AtomicU64);

#[derive(Debug, Clone, Copy)]
struct Tallied {
    generation: u16,
    all: u16,
    failed: u16,
    slow: u16,
}

/// Added to each count: a worker may take a call out of the ring before the one that put it there
/// has counted it.
const BIAS: u16 = 1 << 14;

impl Tally {
    /// Changes the counts of `generation`, which are new if it has just begun. `None` if it has
    /// ended.
    fn update(&self, generation: u16, change: impl Fn(&mut Tallied)) -> Option<Counts> {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let mut tallied = Tallied::from_bits(bits);
            match generation.wrapping_sub(tallied.generation) as i16 {
                0 => {}
                1.. => tallied = Tallied::new(generation),
                _ => return None,
            }
            change(&mut tallied);
            let (old, new) = (bits, tallied.into_bits());
            match self.0.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(tallied.counts()),
                Err(other) => bits = other,
            }
        }
    }
}

impl Tallied {
    fn new(generation: u16) -> Self {
        Self { generation, all: BIAS, failed: BIAS, slow: BIAS }
    }

    fn add(&mut self, call: Call) {
        self.all = self.all.saturating_add(1);
        self.of(call).into_iter().for_each(|count| *count = count.saturating_add(1));
    }

    fn remove(&mut self, call: Call) {
        self.all = self.all.saturating_sub(1);
        self.of(call).into_iter().for_each(|count| *count = count.saturating_sub(1));
    }

    fn of(&mut self, call: Call) -> Option<&mut u16> {
        match call {
            Call::Good => None,
            Call::Slow => Some(&mut self.slow),
            Call::Failed => Some(&mut self.failed),
        }
    }

    fn counts(&self) -> Counts {
        let count = |biased: u16| u64::from(biased.saturating_sub(BIAS));
        Counts { all: count(self.all), failed: count(self.failed), slow: count(self.slow) }
    }

    fn from_bits(bits: u64) -> Self {
        Self {
            generation: (bits >> 48) as u16,
            all: (bits >> 32) as u16,
            failed: (bits >> 16) as u16,
            slow: bits as u16,
        }
    }

    fn into_bits(self) -> u64 {
        u64::from(self.generation) << 48
            | u64::from(self.all) << 32
            | u64::from(self.failed) << 16
            | u64::from(self.slow)
    }
}
