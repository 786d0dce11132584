//! Byte buffers from a free list that each worker has for itself.
//!
//! Why it exists: a fresh allocation of this size page-faults, and an idle connection must own no
//! buffer at all. A connection takes one when it has something to read and drops it when it is idle.
//!
//! What always holds: the filled bytes are one contiguous run; memory is zeroed once, when it is
//! first allocated, and not on reuse (a buffer only ever shows bytes that were filled since it was
//! taken); the free list is bounded, what does not fit in it goes back to the allocator.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Bytes of an ordinary buffer: holds a usual head together with a small body.
pub const BUFFER_SIZE: usize = 16 * 1024;
/// Bytes of a bulk buffer: 64 KiB of content together with the head or frame header before it.
/// Beyond that, a copied body gains nothing from a larger one.
pub const BULK_BUFFER_SIZE: usize = 68 * 1024;
/// Bulk buffers lent by one worker at once (17 MiB). When slow peers hold so many, others make do
/// with ordinary ones.
pub const LENT_BULK_BUFFERS_MAX: usize = 256;
/// Ordinary buffers kept free by one worker (4 MiB).
pub const FREE_BUFFERS_MAX: usize = 256;
/// Bulk buffers kept free by one worker (2 MiB).
pub const FREE_BULK_BUFFERS_MAX: usize = 32;

/// One worker's buffers. Clones share the free list.
#[derive(Clone, Default)]
pub struct Pool {
    free: Rc<Free>,
}

#[derive(Default)]
struct Free {
    small: RefCell<Vec<Box<[u8]>>>,
    bulk: RefCell<Vec<Box<[u8]>>>,
    bulk_lent: Cell<usize>,
}

/// A buffer on loan from a [`Pool`]; dropping it gives it back. Derefs to its filled bytes.
pub struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
    free: Rc<Free>,
}

impl Pool {
    /// A pool with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer of [`BUFFER_SIZE`].
    pub fn get(&self) -> Buffer {
        Buffer::new(self.free.small.borrow_mut().pop(), BUFFER_SIZE, &self.free)
    }

    /// An empty buffer of [`BULK_BUFFER_SIZE`], or an ordinary one if too many of those are lent.
    pub fn get_bulk(&self) -> Buffer {
        match self.free.bulk_lent.get() < LENT_BULK_BUFFERS_MAX {
            true => self.bulk(),
            false => self.get(),
        }
    }

    fn bulk(&self) -> Buffer {
        self.free.bulk_lent.set(self.free.bulk_lent.get() + 1);
        Buffer::new(self.free.bulk.borrow_mut().pop(), BULK_BUFFER_SIZE, &self.free)
    }
}

impl Buffer {
    fn new(data: Option<Box<[u8]>>, size: usize, free: &Rc<Free>) -> Self {
        let data = data.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Self { data, start: 0, end: 0, free: Rc::clone(free) }
    }

    /// The bytes that were filled and not consumed.
    pub fn filled(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    /// The same, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.data.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// The room after the filled bytes, to read into. What is in it has no meaning.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.data.get_mut(self.end..).unwrap_or_default()
    }

    /// Declares the first `count` bytes of the spare room filled.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.data.len() - self.end);
        self.end = self.end.saturating_add(count).min(self.data.len());
    }

    /// Drops the first `count` filled bytes. An emptied buffer has all its room again.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Drops every filled byte.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Moves the filled bytes to the front, so that all free room is after them. Says whether there
    /// is any.
    pub fn make_room(&mut self) -> bool {
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.end < self.data.len()
    }

    /// Moves the filled bytes into a bulk buffer, unless this is one. Says whether it grew.
    pub fn grow(&mut self) -> bool {
        if self.data.len() >= BULK_BUFFER_SIZE {
            return false;
        }
        let mut bulk = Pool { free: Rc::clone(&self.free) }.bulk();
        bulk.append(self.filled());
        *self = bulk;
        true
    }

    /// Appends as much of `bytes` as there is spare room for, and says how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare_mut();
        let count = bytes.len().min(spare.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.advance(count);
        count
    }

    /// Bytes it can hold in all.
    pub fn capacity(&self) -> usize {
        self.data.len()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.filled()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.filled_mut()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {} bytes)", self.len(), self.capacity())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = mem::take(&mut self.data);
        let (free, max) = if data.len() >= BULK_BUFFER_SIZE {
            self.free.bulk_lent.set(self.free.bulk_lent.get().saturating_sub(1));
            (&self.free.bulk, FREE_BULK_BUFFERS_MAX)
        } else {
            (&self.free.small, FREE_BUFFERS_MAX)
        };
        let mut free = free.borrow_mut();
        if free.len() < max {
            free.push(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_shows_only_what_was_filled() {
        let mut buffer = Pool::new().get();
        assert!(buffer.is_empty());
        assert_eq!(buffer.append(b"hello"), 5);
        buffer.consume(2);
        assert_eq!(&*buffer, b"llo");
        assert!(buffer.make_room());
        assert_eq!(&*buffer, b"llo");
        assert_eq!(buffer.spare_mut().len(), BUFFER_SIZE - 3);
    }

    #[test]
    fn memory_is_reused_and_shows_nothing_of_its_last_use() {
        let pool = Pool::new();
        let mut first = pool.get();
        first.append(b"secret");
        let memory = first.filled().as_ptr();
        drop(first);
        let mut second = pool.get();
        assert!(second.is_empty());
        assert_eq!(second.spare_mut().as_ptr(), memory);
    }

    #[test]
    fn a_full_buffer_has_no_room_until_something_is_consumed() {
        let mut buffer = Pool::new().get();
        assert_eq!(buffer.append(&[1; BUFFER_SIZE + 1]), BUFFER_SIZE);
        assert!(!buffer.make_room());
        buffer.consume(1);
        assert!(buffer.spare_mut().is_empty());
        assert!(buffer.make_room());
        assert_eq!(buffer.spare_mut().len(), 1);
    }

    #[test]
    fn growing_keeps_the_filled_bytes_and_happens_once() {
        let pool = Pool::new();
        let mut buffer = pool.get();
        buffer.append(b"0123");
        buffer.consume(1);
        assert!(buffer.grow());
        assert_eq!(&*buffer, b"123");
        assert_eq!(buffer.capacity(), BULK_BUFFER_SIZE);
        assert!(!buffer.grow());
        assert_eq!(pool.free.small.borrow().len(), 1);
    }

    #[test]
    fn the_free_lists_are_bounded() {
        let pool = Pool::new();
        drop((0..=FREE_BUFFERS_MAX).map(|_| pool.get()).collect::<Vec<_>>());
        drop((0..=FREE_BULK_BUFFERS_MAX).map(|_| pool.get_bulk()).collect::<Vec<_>>());
        assert_eq!(pool.free.small.borrow().len(), FREE_BUFFERS_MAX);
        assert_eq!(pool.free.bulk.borrow().len(), FREE_BULK_BUFFERS_MAX);
    }
}
