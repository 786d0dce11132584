//! TLS handshakes under way in one worker, of which there are never more than `limits.handshakes`.
//!
//! A handshake waits for nothing but its client, so the one that has waited longest is the one that is
//! least likely to be honest: when all places are taken it gives way, and clients that stall cannot keep
//! others out (CVE-2026-26999). One address has a quarter of the places at most, so that it can only
//! push out its own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::Notify;

/// One address has at most one in so many places.
const PART_OF_ONE: usize = 4;

/// The handshakes under way.
#[derive(Debug)]
pub struct Handshakes {
    max: Cell<usize>,
    begun: Cell<u64>,
    /// In the order in which they began.
    places: RefCell<BTreeMap<u64, Taken>>,
}

/// A place that is taken.
#[derive(Debug)]
struct Taken {
    by: Option<Network>,
    /// Tells the handshake to give way.
    told: Rc<Notify>,
}

/// An IPv4 address, or the network of an IPv6 address, of which anybody has many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    V4(Ipv4Addr),
    V6(u64),
}

impl Handshakes {
    /// None yet, and never more than `max` (at least one).
    pub fn new(max: usize) -> Self {
        let max = Cell::new(max.max(1));
        Self { max, begun: Cell::default(), places: RefCell::default() }
    }

    /// From now on never more than `max` begin. Those under way are not touched.
    pub fn set_max(&self, max: usize) {
        self.max.set(max.max(1));
    }

    /// The result of `step`, a handshake with a client at `address` (none for a Unix socket), unless it
    /// has to give way to newer ones.
    pub async fn run<T>(
        &self,
        address: Option<IpAddr>,
        mut step: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let place = self.enter(address.map(Network::of));
        let mut told = pin!(place.told.notified());
        poll_fn(|cx| match step.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => told.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    fn enter(&self, by: Option<Network>) -> Place<'_> {
        let number = self.begun.get();
        self.begun.set(number.wrapping_add(1));
        let told = Rc::new(Notify::new());
        let mut places = self.places.borrow_mut();
        let own = || places.iter().filter(|(_, taken)| by.is_some() && taken.by == by);
        let oldest = match own().count() >= self.max.get().div_ceil(PART_OF_ONE) {
            true => own().next().map(|(&number, _)| number),
            false if places.len() >= self.max.get() => places.keys().next().copied(),
            false => None,
        };
        if let Some(taken) = oldest.and_then(|number| places.remove(&number)) {
            taken.told.notify_one();
        }
        places.insert(number, Taken { by, told: Rc::clone(&told) });
        Place { handshakes: self, number, told }
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
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

    fn address(last: u8) -> Option<IpAddr> {
        Some([192, 0, 2, last].into())
    }

    #[test]
    fn the_oldest_gives_way_when_all_places_are_taken() {
        let handshakes = Handshakes::new(2);
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut a, mut b, mut c) = (pin!(pending()), pin!(pending::<()>()), pin!(pending::<()>()));
        let mut first = pin!(handshakes.run::<()>(address(1), a.as_mut()));
        let mut second = pin!(handshakes.run(address(2), b.as_mut()));
        let mut third = pin!(handshakes.run(address(3), c.as_mut()));
        assert!(first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending());
        assert!(first.as_mut().poll(cx).is_pending(), "there is room for two");
        assert!(third.as_mut().poll(cx).is_pending());
        assert_eq!(first.as_mut().poll(cx), Poll::Ready(None));
        assert!(second.as_mut().poll(cx).is_pending() && third.as_mut().poll(cx).is_pending());
    }

    #[test]
    fn an_address_with_a_quarter_of_the_places_pushes_out_its_own() {
        let handshakes = Handshakes::new(8);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut waits = pin!(pending::<()>());
        let mut honest = pin!(handshakes.run(address(1), waits.as_mut()));
        assert!(honest.as_mut().poll(cx).is_pending());
        let mut flood: Vec<_> = (0..100)
            .map(|_| Box::pin(async { handshakes.run(address(2), pin!(pending::<()>())).await }))
            .collect();
        assert!(flood.iter_mut().all(|one| one.as_mut().poll(cx).is_pending()));
        assert!(honest.as_mut().poll(cx).is_pending());
        let left =
            flood.iter_mut().filter_map(|one| one.as_mut().poll(cx).is_pending().then_some(()));
        assert_eq!(left.count(), 2);
    }

    #[test]
    fn one_that_is_done_leaves_its_place() {
        let handshakes = Handshakes::new(1);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            let mut step = pin!(ready(7));
            let mut run = pin!(handshakes.run(address(1), step.as_mut()));
            assert_eq!(run.as_mut().poll(cx), Poll::Ready(Some(7)));
        }
        assert!(handshakes.places.borrow().is_empty());
    }
}
