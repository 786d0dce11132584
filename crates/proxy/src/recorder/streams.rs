//! Those who watch exchanges as they end.
//!
//! What always holds: a subscriber that does not take what is there for it, or asks for more than its
//! rate, loses exchanges, which are counted; one that is gone is forgotten.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use net::timer::Tick;
use tokio::sync::mpsc::Sender;

use super::exchange::{Exchange, Kept};
use super::filter::Filter;

/// Subscribers at once: each has its filter run over every exchange.
pub const STREAMS_MAX: usize = 16;

/// Somebody who watches. Clones are for the workers, one each.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Which exchanges; `None`: all.
    pub filter: Option<Arc<Filter>>,
    /// Where they go.
    pub sink: Sender<Kept>,
    /// How many it has missed, because it was too slow or there were too many; once there are, the filter
    /// is not asked about more of them.
    pub missed: Arc<AtomicU64>,
    /// How many a second one worker gives it at most.
    pub rate: u32,
}

/// The subscribers of one worker.
#[derive(Debug, Default)]
pub(super) struct Streams {
    any: Cell<bool>,
    subscribed: RefCell<Vec<Subscribed>>,
}

#[derive(Debug)]
struct Subscribed {
    subscription: Subscription,
    /// A copy of its filter, whose regular expressions have working memory of this worker's own.
    filter: Option<Filter>,
    /// How many it may still have in this second.
    left: u32,
    second: u64,
}

impl Streams {
    /// There are subscribers.
    pub(super) fn any(&self) -> bool {
        self.any.get()
    }

    /// False if there are too many already.
    pub(super) fn add(&self, subscription: Subscription) -> bool {
        self.sweep();
        let mut subscribed = self.subscribed.borrow_mut();
        let room = subscribed.len() < STREAMS_MAX;
        if room {
            let left = subscription.rate;
            let filter = subscription.filter.as_deref().cloned();
            subscribed.push(Subscribed { subscription, filter, left, second: 0 });
            self.any.set(true);
        }
        room
    }

    /// Forgets those who are gone.
    pub(super) fn sweep(&self) {
        if !self.any() {
            return;
        }
        let mut subscribed = self.subscribed.borrow_mut();
        subscribed.retain(|one| !one.subscription.sink.is_closed());
        self.any.set(!subscribed.is_empty());
    }

    /// Gives an exchange to those who want it.
    pub(super) fn offer(&self, exchange: &Exchange<'_>) {
        let second = Tick::now().as_millis() / 1000;
        for one in &mut *self.subscribed.borrow_mut() {
            one.offer(exchange, second);
        }
    }
}

impl Subscribed {
    fn offer(&mut self, exchange: &Exchange<'_>, second: u64) {
        let Subscription { sink, missed, rate, .. } = &self.subscription;
        if self.second != second {
            (self.second, self.left) = (second, *rate);
        }
        // Before the filter, which costs more: what would pass it is not known then.
        let Some(left) = self.left.checked_sub(1) else {
            missed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if self.filter.as_ref().is_some_and(|filter| !filter.passes(exchange)) {
            return;
        }
        self.left = left;
        match sink.try_reserve() {
            Ok(permit) => permit.send(Kept::new(exchange)),
            Err(_) => drop(missed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::log::Record;

    #[test]
    fn the_rate_is_looked_at_before_the_filter() {
        let (sink, mut source) = channel(10);
        let missed = Arc::new(AtomicU64::new(0));
        let subscription = Subscription { filter: None, sink, missed: missed.clone(), rate: 2 };
        let filter = Filter::parse("path == /b").ok();
        let mut one = Subscribed { subscription, filter, left: 0, second: 0 };
        let (a, b) = (
            Record { target: b"/a", ..Record::default() },
            Record { target: b"/b", ..Record::default() },
        );
        let missed = || missed.swap(0, Ordering::Relaxed);
        // What does not pass uses nothing up.
        for record in [&a, &a, &a, &b, &b] {
            one.offer(&Exchange::of(record), 1);
        }
        assert_eq!(missed(), 0);
        one.offer(&Exchange::of(&a), 1);
        one.offer(&Exchange::of(&b), 1);
        assert_eq!(missed(), 2);
        one.offer(&Exchange::of(&a), 2);
        one.offer(&Exchange::of(&b), 2);
        assert_eq!(missed(), 0);
        assert_eq!(std::iter::from_fn(|| source.try_recv().ok()).count(), 3);
    }
}
