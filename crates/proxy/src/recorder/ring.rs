//! The last exchanges, in memory of a fixed size.
//!
//! What always holds: nothing is allocated after [`Ring::new`]; exchanges are in the order in which they
//! ended, and it is the oldest that give way.

use net::prefetch::prefetch;

use super::exchange::{Exchange, Stored, TEXT_MAX};

/// Bytes of text that an exchange usually has, for sharing the memory out: with more of it fewer
/// exchanges are kept.
const TEXT_USUAL: usize = 176;

/// Keeps the last exchanges.
#[derive(Debug)]
pub(super) struct Ring {
    /// Those from `first` on, `count` of them, round the end; they are written where they are, because
    /// every request has one.
    entries: Vec<Entry>,
    first: usize,
    count: usize,
    max: usize,
    text: Box<[u8]>,
    /// Where the next text goes.
    head: usize,
}

#[derive(Debug, Default)]
struct Entry {
    stored: Stored,
    start: usize,
}

impl Ring {
    /// A ring in `bytes` of memory, but at least of one exchange.
    pub(super) fn new(bytes: usize) -> Self {
        let each = size_of::<Entry>() + TEXT_USUAL;
        let max = (bytes / each).max(1);
        let text = bytes.saturating_sub(max * size_of::<Entry>()).max(TEXT_MAX);
        Self {
            entries: Vec::with_capacity(max),
            first: 0,
            count: 0,
            max,
            text: vec![0; text].into_boxed_slice(),
            head: 0,
        }
    }

    /// Adds an exchange.
    pub(super) fn push(&mut self, exchange: &Exchange<'_>) {
        if self.head + TEXT_MAX > self.text.len() {
            // What is left of the end was written before what is at the beginning.
            let head = std::mem::take(&mut self.head);
            self.forget(|start| start >= head);
        }
        let start = self.head;
        let range = start..start + TEXT_MAX;
        self.forget(|start| range.contains(&start));
        if self.count >= self.max {
            self.forget_oldest();
        }
        let place = self.place(self.count);
        if place == self.entries.len() {
            self.entries.push(Entry::default());
        }
        let entry = self.entries.get_mut(place);
        let (Some(entry), Some(memory)) = (entry, self.text.get_mut(range)) else { return };
        entry.start = start;
        self.head = start + entry.stored.fill(exchange, memory);
        self.count += 1;
        self.fetch_next();
    }

    /// Has the memory of the next exchange come in the meantime.
    fn fetch_next(&self) {
        if let Some(oldest) = self.entries.get(self.first) {
            prefetch(&oldest.start);
        }
        if let Some(next) = self.entries.get(self.place(self.count)) {
            prefetch(next);
        }
        let text = self.text.get(self.head..).unwrap_or_default();
        prefetch(text.get(..TEXT_USUAL).unwrap_or(text));
    }

    /// Forgets the oldest exchanges as long as their text begins at such a place.
    fn forget(&mut self, lost: impl Fn(usize) -> bool) {
        while self.count > 0
            && self.entries.get(self.first).is_some_and(|oldest| lost(oldest.start))
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        self.first = self.place(1);
        self.count -= 1;
    }

    /// Where the entry is that so many others are before.
    fn place(&self, before: usize) -> usize {
        let place = self.first + before;
        if place < self.max { place } else { place - self.max }
    }

    /// The exchanges, the latest first.
    pub(super) fn latest(&self) -> impl Iterator<Item = Exchange<'_>> {
        (0..self.count).rev().filter_map(|before| {
            let entry = self.entries.get(self.place(before))?;
            let memory = self.text.get(entry.start..).unwrap_or_default();
            Some(entry.stored.read(memory))
        })
    }

    /// Bytes of memory in use, which do not change.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.entries.capacity() * size_of::<Entry>()
    }
}
