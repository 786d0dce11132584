//! The slowest exchanges of the last minutes, in memory of a fixed size.
//!
//! There are two spans of time: that which goes on, and the one before it. Each keeps its slowest, so
//! that what is shown is never only of the last moment, nor ever older than two spans.
//!
//! What always holds: nothing is allocated after [`Slowest::new`]; an exchange that is no slower than
//! those that are kept costs one comparison.

use std::time::Duration;

use net::timer::Tick;

use super::exchange::{Exchange, Stored, TEXT_MAX};

/// How long a span lasts.
pub const SPAN: Duration = Duration::from_secs(5 * 60);

/// Keeps the slowest exchanges.
#[derive(Debug)]
pub(super) struct Slowest {
    current: Span,
    before: Span,
    since: Tick,
}

#[derive(Debug)]
struct Span {
    slots: Vec<Slot>,
    max: usize,
    text: Box<[u8]>,
    /// What is kept is at least so slow, once there are as many as may be.
    least: u64,
}

#[derive(Debug)]
struct Slot {
    stored: Stored,
    total_us: u64,
}

impl Slowest {
    /// In `bytes` of memory, but at least one exchange a span.
    pub(super) fn new(bytes: usize, now: Tick) -> Self {
        let max = (bytes / 2 / (size_of::<Slot>() + TEXT_MAX)).max(1);
        Self { current: Span::new(max), before: Span::new(max), since: now }
    }

    /// Adds an exchange, if it is one of the slowest.
    pub(super) fn offer(&mut self, exchange: &Exchange<'_>) {
        if exchange.facts.total_us > self.current.least || !self.current.is_full() {
            self.current.add(exchange);
        }
    }

    /// Begins a new span when it is time.
    pub(super) fn turn(&mut self, now: Tick) {
        let age = now.since(self.since);
        if age < SPAN {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.before);
        self.current.clear();
        if age >= SPAN * 2 {
            self.before.clear();
        }
        self.since = now;
    }

    /// The exchanges, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Exchange<'_>> {
        self.current.iter().chain(self.before.iter())
    }
}

impl Span {
    fn new(max: usize) -> Self {
        let text = vec![0; max * TEXT_MAX].into_boxed_slice();
        Self { slots: Vec::with_capacity(max), max, text, least: 0 }
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= self.max
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.least = 0;
    }

    fn add(&mut self, exchange: &Exchange<'_>) {
        let least = self.slots.iter().enumerate().min_by_key(|(_, slot)| slot.total_us);
        let place = match self.is_full() {
            true => least.map_or(0, |(place, _)| place),
            false => self.slots.len(),
        };
        let memory = self.text.chunks_exact_mut(TEXT_MAX).nth(place);
        let Some(memory) = memory else { return };
        let mut stored = Stored::default();
        stored.fill(exchange, memory);
        let slot = Slot { stored, total_us: exchange.facts.total_us };
        match self.slots.get_mut(place) {
            Some(kept) => *kept = slot,
            None => self.slots.push(slot),
        }
        if self.is_full() {
            self.least = self.slots.iter().map(|slot| slot.total_us).min().unwrap_or(0);
        }
    }

    fn iter(&self) -> impl Iterator<Item = Exchange<'_>> {
        let texts = self.text.chunks_exact(TEXT_MAX);
        self.slots.iter().zip(texts).map(|(slot, text)| slot.stored.read(text))
    }
}
