//! TLS handshakes under way in one worker, of which there are never more than `limits.handshakes`.
//!
//! A handshake waits for nothing but its client, so the one that has waited longest is the one that is
//! least likely to be honest: when all places are taken it gives way, and clients that stall cannot keep
//! others out (CVE-2026-26999).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::Notify;

/// The handshakes under way.
#[derive(Debug)]
pub struct Handshakes {
    max: usize,
    begun: Cell<u64>,
    /// In the order in which they began; each is told by its own signal to give way.
    places: RefCell<BTreeMap<u64, Rc<Notify>>>,
}

impl Handshakes {
    /// None yet, and never more than `max` (at least one).
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), begun: Cell::default(), places: RefCell::default() }
    }

    /// The result of `step`, unless it has to give way to newer ones.
    pub async fn run<T>(&self, mut step: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let place = self.enter();
        let mut told = pin!(place.told.notified());
        poll_fn(|cx| match step.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => told.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    fn enter(&self) -> Place<'_> {
        let number = self.begun.get();
        self.begun.set(number.wrapping_add(1));
        let told = Rc::new(Notify::new());
        let mut places = self.places.borrow_mut();
        if places.len() >= self.max
            && let Some((_, oldest)) = places.pop_first()
        {
            oldest.notify_one();
        }
        places.insert(number, Rc::clone(&told));
        Place { handshakes: self, number, told }
    }
}

/// A place that is free again when this is dropped.
struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
    told: Rc<Notify>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.handshakes.places.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn the_oldest_gives_way_when_all_places_are_taken() {
        let handshakes = Handshakes::new(2);
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut a, mut b, mut c) = (pin!(pending()), pin!(pending::<()>()), pin!(pending::<()>()));
        let mut first = pin!(handshakes.run::<()>(a.as_mut()));
        let mut second = pin!(handshakes.run(b.as_mut()));
        let mut third = pin!(handshakes.run(c.as_mut()));
        assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
        assert!(first.as_mut().poll(cx).is_pending(), "there is room for two");
        assert!(third.as_mut().poll(cx).is_pending());
        assert_eq!(first.as_mut().poll(cx), Poll::Ready(None));
        assert!(second.as_mut().poll(cx).is_pending() && third.as_mut().poll(cx).is_pending());
    }

    #[test]
    fn one_that_is_done_leaves_its_place() {
        let handshakes = Handshakes::new(1);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let mut step = pin!(ready(7));
            assert_eq!(pin!(handshakes.run(step.as_mut())).poll(cx), Poll::Ready(Some(7)));
        }
        assert!(handshakes.places.borrow().is_empty());
    }
}
