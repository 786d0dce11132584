//! Those who watch exchanges as they end.
//!
//! What always holds: a subscriber that does not take what is there for it, or asks for more than its
//! rate, loses exchanges, which are counted; one that is gone is forgotten.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use net::timer::Tick;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

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
    /// How many it has missed, because it was too slow or there were too many.
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
        if self.filter.as_ref().is_some_and(|filter| !filter.passes(exchange)) {
            return;
        }
        if self.second != second {
            (self.second, self.left) = (second, *rate);
        }
        let permit = match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                sink.try_reserve()
            }
            None => Err(TrySendError::Full(())),
        };
        match permit {
            Ok(permit) => permit.send(Kept::new(exchange)),
            Err(_) => drop(missed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}
