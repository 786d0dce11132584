//! Requests that wait for room at an endpoint or in their pool.
//!
//! What always holds: no more wait than the bound says; whoever makes room wakes one that waits, and
//! whoever leaves the queue passes it on, so that nobody waits while there is room. Those who have
//! tried an endpoint already cannot use all room there is: while one of them waits, everybody looks.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, Sleep, sleep};

/// Requests that wait for room.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU32,
    /// How many of them cannot use all room there is.
    choosy: AtomicU32,
    room: Notify,
}

/// A place in the queue, left when this is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    queue: &'a Queue,
    is_choosy: bool,
    /// Somebody else is to look for room when this one leaves.
    passes_on: bool,
}

/// Done when there may be room.
#[derive(Debug)]
pub struct Room<'a> {
    queue: &'a Queue,
    /// There was news.
    is_over: bool,
    made: Pin<Box<Notified<'a>>>,
    later: Pin<Box<Sleep>>,
}

impl Queue {
    /// A place, unless `max` wait already. `is_choosy`: for a request that does not take any endpoint,
    /// because it has tried some.
    pub fn enter(&self, max: u32, is_choosy: bool) -> Option<Place<'_>> {
        let more = |waiting: u32| (waiting < max).then(|| waiting + 1);
        self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        if is_choosy {
            self.choosy.fetch_add(1, Ordering::SeqCst);
        }
        // Whoever leaves sees that somebody waits, or the one that waits sees the room.
        fence(Ordering::SeqCst);
        Some(Place { queue: self, is_choosy, passes_on: true })
    }

    /// Done when there is news of room; in any case after `at_most`.
    pub fn room(&self, at_most: Duration) -> Room<'_> {
        Room {
            queue: self,
            is_over: false,
            made: Box::pin(self.news()),
            later: Box::pin(sleep(at_most)),
        }
    }

    /// Done when there is news of room.
    pub fn news(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Somebody waits, and each of those can use whatever room there is: who comes now is behind them.
    pub fn is_in_order(&self) -> bool {
        self.waiting() > 0 && self.choosy.load(Ordering::Relaxed) == 0
    }

    /// There may be room now.
    pub fn leave_room(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        match self.choosy.load(Ordering::SeqCst) {
            0 => self.room.notify_one(),
            // Those who are about to wait will look once more before they do.
            _ => self.room.notify_waiters(),
        }
    }
}

impl Place<'_> {
    /// Leaves the queue for a place at an endpoint. Only if there is more room somebody else is woken:
    /// who is woken in vain loses its turn.
    pub fn leave(mut self, more_room: bool) {
        self.passes_on = more_room;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_choosy {
            self.queue.choosy.fetch_sub(1, Ordering::SeqCst);
        }
        self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        // Whoever is woken and does not need the room, or not all of it, passes it on.
        if self.passes_on {
            self.queue.leave_room();
        }
    }
}

impl Room<'_> {
    /// From now on no news is missed.
    pub fn enable(mut self: Pin<&mut Self>) {
        self.made.as_mut().enable();
    }
}

impl Room<'_> {
    /// Waits again, in the same turn unless there was news; in any case no longer than `at_most`.
    pub fn again(mut self: Pin<&mut Self>, at_most: Duration) {
        let Self { queue, made, later, is_over } = &mut *self;
        if std::mem::take(is_over) {
            *made = Box::pin(queue.news());
        }
        later.as_mut().reset(Instant::now() + at_most);
    }
}

impl Future for Room<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.made.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.is_over = true;
                Poll::Ready(())
            }
            Poll::Pending => self.later.as_mut().poll(cx),
        }
    }
}
