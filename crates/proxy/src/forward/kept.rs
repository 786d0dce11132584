//! What was taken of a request body, kept so that it can be sent again.
//!
//! The bytes are kept as they came, with whatever coding they had: a pump made anew reads them first
//! and then goes on where the client is.
//!
//! What always holds: all that was taken is here, or nothing is and the body cannot be sent again;
//! never more than the pool's settings allow, and all bodies of a worker together no more than
//! [`WORKER_MAX`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use config::model::UpstreamHttp;
use wire::head::Framing;

use super::attempts::is_idempotent;
use crate::balance::Member;
use crate::decide::Matched;
use crate::drain::{Left, body_left};
use crate::exchange::Inbound;

/// Most bytes kept by one worker: many clients that send slowly, or many streams of one, must not take
/// all memory. What comes beyond is sent once.
const WORKER_MAX: usize = 64 << 20;

/// What was taken of a body that is not here as a whole.
#[derive(Debug)]
pub struct Kept {
    bytes: RefCell<Vec<u8>>,
    trailers: RefCell<Vec<u8>>,
    /// How much of it the attempt under way has read.
    given: Cell<usize>,
    /// The body ended there, as only a carrier can tell.
    ended: Cell<bool>,
    max: usize,
    /// What the worker keeps in all.
    of_worker: Rc<Cell<usize>>,
    /// More was taken than may be kept.
    lost: Cell<bool>,
}

impl Kept {
    /// Keeps up to `max` bytes; `of_worker` counts what a worker keeps in all.
    pub fn new(max: usize, of_worker: Rc<Cell<usize>>) -> Self {
        Self {
            bytes: RefCell::default(),
            trailers: RefCell::default(),
            given: Cell::new(0),
            ended: Cell::new(false),
            max,
            of_worker,
            lost: Cell::new(false),
        }
    }

    /// All that was taken is here.
    pub fn is_intact(&self) -> bool {
        !self.lost.get()
    }

    /// Something was taken off the client's connection.
    pub fn has_taken(&self) -> bool {
        self.lost.get() || !self.bytes.borrow().is_empty()
    }

    /// Gives everything once more, from the beginning.
    pub fn rewind(&self) {
        self.given.set(0);
    }

    /// The attempt under way has not read all of it.
    pub fn has_more(&self) -> bool {
        self.given.get() < self.bytes.borrow().len()
    }

    /// Copies what the attempt under way has not read yet; 0 when it has read all.
    pub fn give(&self, into: &mut [u8]) -> usize {
        let bytes = self.bytes.borrow();
        let rest = bytes.get(self.given.get()..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.given.set(self.given.get() + count);
        count
    }

    /// Keeps what was just read.
    pub fn keep(&self, read: &[u8]) {
        let mut bytes = self.bytes.borrow_mut();
        let of_worker = self.of_worker.get();
        let room = (self.max.saturating_sub(bytes.len())).min(WORKER_MAX.saturating_sub(of_worker));
        match self.lost.get() || read.len() > room {
            true => {
                self.lost.set(true);
                self.of_worker.set(of_worker.saturating_sub(bytes.len()));
                *bytes = Vec::new();
            }
            false => {
                bytes.extend_from_slice(read);
                self.of_worker.set(of_worker + read.len());
                self.given.set(bytes.len());
            }
        }
    }

    /// There is nothing behind what was read.
    pub fn end(&self) {
        self.ended.set(true);
    }

    /// All was read, and there is nothing behind it.
    pub fn is_at_end(&self) -> bool {
        self.ended.get() && !self.has_more()
    }

    /// The trailers that came behind the body: what a carrier gives once is kept.
    pub fn trailers(&self, came: Vec<u8>) -> Vec<u8> {
        if !came.is_empty() {
            *self.trailers.borrow_mut() = came;
        }
        self.trailers.borrow().clone()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let of_worker = self.of_worker.get();
        self.of_worker.set(of_worker.saturating_sub(self.bytes.get_mut().len()));
    }
}

/// What keeps the body of the request on its way to `member`: none, if it is not to be sent again
/// once it was, or need not be kept for that.
pub(super) fn kept<'i>(
    inbound: &'i Inbound<'_>,
    matched: &Matched<'_>,
    member: &Member,
) -> Option<&'i Kept> {
    if let Some(kept) = inbound.kept.get() {
        kept.rewind();
        return Some(kept);
    }
    let retry = &matched.pool.settings.retry;
    let fits = match inbound.head.framing {
        Framing::None => false,
        Framing::Length(length) => length <= retry.body as u64,
        Framing::Chunked | Framing::UntilClose => true,
    };
    // Only an upstream that speaks HTTP/2 says that it did nothing with what it took.
    let repeated = is_idempotent(inbound)
        || retry.non_idempotent
        || member.endpoint.transport.http == UpstreamHttp::Http2;
    let wanted = fits
        && repeated
        && retry.attempts > 1
        && retry.body > 0
        && !matched.upgrade
        && inbound.taken.get().is_none()
        && !matches!(body_left(inbound), Left::Nothing(_));
    let of_worker = &inbound.connection.worker.kept;
    let new = || Box::new(Kept::new(retry.body, Rc::clone(of_worker)));
    wanted.then(|| &**inbound.kept.get_or_init(new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_all_that_was_taken_as_often_as_it_is_asked() {
        let kept = Kept::new(8, Rc::default());
        kept.keep(b"abc");
        kept.keep(b"defgh");
        let mut into = [0; 5];
        assert_eq!(kept.give(&mut into), 0, "what was just read is given");
        for _ in 0..2 {
            kept.rewind();
            assert_eq!(kept.give(&mut into), 5);
            assert_eq!(&into, b"abcde");
            assert_eq!(kept.give(&mut into), 3);
            assert_eq!(&into[..3], b"fgh");
            assert_eq!(kept.give(&mut into), 0);
        }
        assert!(kept.is_intact());
    }

    #[test]
    fn keeps_nothing_of_what_is_too_long() {
        let kept = Kept::new(8, Rc::default());
        kept.keep(b"abcdefgh");
        assert!(kept.is_intact());
        kept.keep(b"i");
        assert!(!kept.is_intact());
        assert!(kept.has_taken());
        kept.rewind();
        assert_eq!(kept.give(&mut [0; 8]), 0);
    }

    #[test]
    fn all_bodies_of_a_worker_together_have_a_bound() {
        let of_worker = Rc::new(Cell::new(WORKER_MAX - 3));
        let first = Kept::new(8, Rc::clone(&of_worker));
        first.keep(b"abc");
        let second = Kept::new(8, Rc::clone(&of_worker));
        second.keep(b"d");
        assert!(first.is_intact() && !second.is_intact());
        drop((first, second));
        assert_eq!(of_worker.get(), WORKER_MAX - 3);
    }
}
