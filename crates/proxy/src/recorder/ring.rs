//! The last exchanges, in memory of a fixed size.
//!
//! What always holds: nothing is allocated after [`Ring::new`]; exchanges are in the order in which they
//! ended, and it is the oldest that give way.

use std::collections::VecDeque;

use super::exchange::{Exchange, Stored, TEXT_MAX};

/// Bytes of text that an exchange usually has, for sharing the memory out: with more of it fewer
/// exchanges are kept.
const TEXT_USUAL: usize = 176;

/// Keeps the last exchanges.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    max: usize,
    text: Box<[u8]>,
    /// Where the next text goes.
    head: usize,
}

#[derive(Debug)]
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
            entries: VecDeque::with_capacity(max),
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
        if self.entries.len() >= self.max {
            self.entries.pop_front();
        }
        let Some(memory) = self.text.get_mut(range) else { return };
        let (stored, len) = Stored::write(exchange, memory);
        self.entries.push_back(Entry { stored, start });
        self.head = start + len;
    }

    /// Forgets the oldest exchanges as long as their text begins at such a place.
    fn forget(&mut self, lost: impl Fn(usize) -> bool) {
        while self.entries.front().is_some_and(|oldest| lost(oldest.start)) {
            self.entries.pop_front();
        }
    }

    /// The exchanges, the latest first.
    pub(super) fn latest(&self) -> impl Iterator<Item = Exchange<'_>> {
        self.entries.iter().rev().map(|entry| {
            let memory = self.text.get(entry.start..).unwrap_or_default();
            entry.stored.read(memory)
        })
    }

    /// Bytes of memory in use, which do not change.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.entries.capacity() * size_of::<Entry>()
    }
}
