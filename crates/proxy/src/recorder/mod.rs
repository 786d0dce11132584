//! The flight recorder: what became of the last exchanges of one worker, for those who ask afterwards,
//! and a live view for those who watch.
//!
//! Each worker keeps the last exchanges, the last that failed and the slowest of the last minutes in
//! memory that is allocated once ([`Recorder::new`]). An exchange is copied there when it ends, with long
//! texts cut; what must not be logged is no part of its [`Record`] any more.
//!
//! What always holds: memory does not grow; an exchange costs a copy of some hundred bytes and no
//! allocation; who watches and does not keep up loses exchanges, which are counted, and holds up nothing;
//! as long as nobody watches that costs one comparison.

mod exchange;
pub mod filter;
mod ring;
mod slowest;
mod streams;

use std::cell::RefCell;

use net::timer::Tick;

pub use exchange::{Exchange, Facts, Kept, TIMED, Text, Timed, how};
pub use filter::{Filter, FilterError};
pub use slowest::SPAN;
pub use streams::{STREAMS_MAX, Subscription};

use self::ring::Ring;
use self::slowest::Slowest;
use self::streams::Streams;
use crate::log::{Ended, Party, Record};

/// Bytes that one worker's recorder takes unless the configuration says otherwise: about 1,500 exchanges,
/// 750 failed ones, 350 that failed by what their client did, and the 2 x 64 slowest.
pub const DEFAULT_BYTES: usize = 1024 * 1024;

/// Exchanges that one look at a worker's recorder gives at most: a worker does nothing else meanwhile.
/// They take some 2 MiB.
pub const LOOK_MAX: usize = 4096;

/// One worker's recorder.
#[derive(Debug)]
pub struct Recorder {
    memory: RefCell<Option<Memory>>,
    streams: Streams,
}

/// Which of the recorded exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The last ones.
    Last,
    /// The last ones that failed.
    Failed,
    /// The slowest of the last minutes.
    Slow,
}

#[derive(Debug)]
struct Memory {
    bytes: usize,
    last: Ring,
    /// Those that an upstream or Ravelin made fail.
    failed: Ring,
    /// Those that failed by what their client did: with nonsense a client could fill a ring, so they
    /// have their own.
    by_client: Ring,
    slowest: Slowest,
}

impl Recorder {
    /// A recorder in `bytes` of memory; 0: it keeps nothing.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { memory: RefCell::new(Memory::new(bytes)), streams: Streams::default() }
    }

    /// Whether it has to be told of exchanges.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.streams.any() || self.memory.borrow().is_some()
    }

    /// Gives it another size. What it has recorded is lost if that differs from the one it has.
    pub fn resize(&self, bytes: usize) {
        let mut memory = self.memory.borrow_mut();
        if memory.as_ref().map_or(0, |memory| memory.bytes) != bytes {
            *memory = Memory::new(bytes);
        }
    }

    /// An exchange has ended.
    pub fn finished(&self, record: &Record<'_>) {
        let exchange = Exchange::of(record);
        if self.streams.any() {
            self.streams.offer(&exchange);
        }
        if let Some(memory) = &mut *self.memory.borrow_mut() {
            memory.add(&exchange);
        }
    }

    /// To be called now and then.
    pub fn sweep(&self, now: Tick) {
        self.streams.sweep();
        if let Some(memory) = &mut *self.memory.borrow_mut() {
            memory.slowest.turn(now);
        }
    }

    /// Shows what is recorded to whoever subscribes. False if there are too many of them.
    pub fn subscribe(&self, subscription: Subscription) -> bool {
        self.streams.add(subscription)
    }

    /// At most `limit` recorded exchanges, the latest first, or the slowest. Filters are for another thread:
    /// they take long.
    pub fn look(&self, which: Which, limit: usize) -> Vec<Kept> {
        let memory = self.memory.borrow();
        let Some(memory) = &*memory else { return Vec::new() };
        let limit = limit.min(LOOK_MAX);
        match which {
            Which::Last => {
                memory.last.latest().take(limit).map(|exchange| Kept::new(&exchange)).collect()
            }
            Which::Failed => {
                let rings = [&memory.failed, &memory.by_client];
                let all = rings.into_iter().flat_map(|ring| ring.latest().take(limit));
                let mut found: Vec<Exchange<'_>> = all.collect();
                found.sort_unstable_by_key(|found| std::cmp::Reverse(ended_at(found)));
                found.iter().take(limit).map(Kept::new).collect()
            }
            Which::Slow => {
                let mut found: Vec<Exchange<'_>> = memory.slowest.iter().collect();
                found.sort_unstable_by_key(|found| std::cmp::Reverse(found.facts.total_us));
                found.iter().take(limit).map(Kept::new).collect()
            }
        }
    }
}

fn ended_at(exchange: &Exchange<'_>) -> u64 {
    exchange.facts.wall_us.saturating_add(exchange.facts.total_us)
}

impl Memory {
    fn new(bytes: usize) -> Option<Self> {
        (bytes > 0).then(|| Self {
            bytes,
            last: Ring::new(bytes / 2),
            failed: Ring::new(bytes / 4),
            by_client: Ring::new(bytes / 8),
            slowest: Slowest::new(bytes / 8, Tick::now()),
        })
    }

    fn add(&mut self, exchange: &Exchange<'_>) {
        self.last.push(exchange);
        if exchange.is_failed() {
            match exchange.facts.ended {
                Ended::Failed { by: Party::Client, .. } => self.by_client.push(exchange),
                _ => self.failed.push(exchange),
            }
        }
        // A tunnel is not slow, it lasts.
        if exchange.facts.status != 101 {
            self.slowest.offer(exchange);
        }
    }
}

#[cfg(test)]
mod tests;
