//! What is known of a pool, whatever configuration is in force.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use config::model::{self, PoolSettings};

use super::Queue;
use crate::health::adaptive::Limit;
use crate::health::breaker::Breaker;
use crate::health::budget::Budget;
use crate::live::Turn;

/// What is known of a pool, shared by all workers.
#[derive(Debug, Default)]
pub struct PoolState {
    /// Whose turn it is.
    pub turn: Turn,
    /// Requests that wait because every endpoint is full.
    pub queue: Queue,
    /// Requests that have a place.
    in_flight: AtomicU32,
    budget: Kept<(u32, u32), Budget>,
    breaker: Kept<model::Breaker, Breaker>,
    limit: Kept<Option<u32>, Limit>,
}

/// A request's place in the pool, left when this is dropped.
#[derive(Debug)]
pub struct InPool<'a>(&'a PoolState);

impl PoolState {
    /// A place, if fewer than `max` requests have one.
    pub(super) fn enter(&self, max: u32) -> Option<InPool<'_>> {
        // One that finds no room must not look like one that takes it.
        let more = |before: u32| (before < max).then(|| before + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(InPool(self))
    }

    /// Requests that have a place.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What pays for further attempts.
    pub(super) fn budget(&self, settings: &PoolSettings) -> Arc<Budget> {
        let budget = |(share, minimum)| Budget::new(share, minimum);
        self.budget.with((settings.retry.budget, settings.retry.budget_minimum), budget)
    }

    /// The breaker, where there is to be one.
    pub(super) fn breaker(&self, settings: &PoolSettings) -> Option<Arc<Breaker>> {
        let breaker = settings.breaker.clone();
        breaker.map(|settings| self.breaker.with(settings, Breaker::new))
    }

    /// The limit that finds itself, where there is to be one.
    pub(super) fn limit(&self, settings: &PoolSettings) -> Option<Arc<Limit>> {
        let concurrency = &settings.concurrency;
        concurrency.adaptive.then(|| self.limit.with(concurrency.max, Limit::new))
    }
}

impl Drop for InPool<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Things that have learnt, each kept for as long as a configuration with its settings is: the one in
/// force, or one that is tried out beside it.
struct Kept<S, T>(Mutex<Vec<(S, Weak<T>)>>);

impl<S: Clone + PartialEq, T> Kept<S, T> {
    /// What was made with these settings, or a new one.
    fn with(&self, settings: S, make: impl FnOnce(S) -> T) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, known)| known.strong_count() > 0);
        let same = kept.iter().find(|(same, _)| *same == settings);
        same.and_then(|(_, known)| known.upgrade()).unwrap_or_else(|| {
            let made = Arc::new(make(settings.clone()));
            kept.push((settings, Arc::downgrade(&made)));
            made
        })
    }
}

impl<S, T> Default for Kept<S, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S, T: fmt::Debug> fmt::Debug for Kept<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(kept.iter().filter_map(|(_, known)| known.upgrade())).finish()
    }
}
