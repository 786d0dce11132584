//! A named group of endpoints: what a route leads to.
//!
//! It brings together what decides over a request to one of them: the [`Balancer`], what is known of
//! each member, and the budget for further attempts. [`Pool::answered`] and [`Pool::failed`] take the
//! outcome of every attempt, and tell of what they decide in the log, once and with the reason.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use arc_swap::ArcSwap;
use config::model::{PoolSettings, UpstreamState};
use net::timer::Tick;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::balance::{Balancer, Member, Tried};
use crate::health::adaptive::Limit;
use crate::health::breaker::{Breaker, Outcome, Permit};
use crate::health::budget::Budget;
use crate::health::outlier::{Detector, Failure, Standing};
use crate::live::Turn;
use crate::log::{Cause, ErrorLog};
use crate::sticky::{Mark, Sticky, Tag};

/// What a failure counts as where members are chosen by latency, in microseconds.
const FAILURE_LATENCY: u64 = 1_000_000;

/// A named group of endpoints.
#[derive(Debug)]
pub struct Pool {
    /// The operator's name for it.
    pub name: String,
    /// Chooses among its endpoints.
    pub balancer: Balancer,
    /// What holds for it as a whole.
    pub settings: PoolSettings,
    /// Pays for further attempts.
    pub budget: Budget,
    /// What is known of it; it outlives the configuration in force.
    pub state: Arc<PoolState>,
    /// Keeps clients with a member, if the pool does that.
    pub sticky: Option<Sticky>,
    tags: ArcSwap<Tags>,
    detector: Option<Detector>,
    breaker: Option<Arc<Breaker>>,
    limit: Option<Limit>,
}

/// The names of a pool's members in cookies. They go by addresses: a client of a host name stays at
/// the address it met, wherever among the name's addresses that is after the next answer.
#[derive(Debug, Default)]
struct Tags {
    /// How often endpoints had changed their addresses then.
    moves: u64,
    /// By index.
    tags: Vec<Tag>,
}

impl Tags {
    fn new(sticky: &Sticky, balancer: &Balancer) -> Self {
        // Read first: what changes meanwhile makes them out of date.
        let moves = balancer.moves();
        let tag = |member: &Member| sticky.member_tag(&member.name());
        Self { moves, tags: balancer.members().iter().map(tag).collect() }
    }
}

/// What is known of a pool, shared by all workers.
#[derive(Debug, Default)]
pub struct PoolState {
    /// Whose turn it is.
    pub turn: Turn,
    /// Requests that wait because every endpoint is full.
    pub queue: Queue,
    /// Requests that have a place.
    in_flight: AtomicU32,
}

/// A request's place in the pool, left when this is dropped.
#[derive(Debug)]
pub struct InPool<'a>(&'a PoolState);

/// Requests that wait for room.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU32,
    room: Notify,
}

/// A place in the queue, left when this is dropped.
#[derive(Debug)]
pub struct Place<'a>(&'a Queue);

impl Pool {
    /// A pool of the configuration.
    pub fn new(
        pool: &config::model::Pool,
        balancer: Balancer,
        sticky: Option<Sticky>,
        state: Arc<PoolState>,
    ) -> Self {
        let settings = pool.settings.clone();
        let stats = || balancer.members().iter().map(|member| Arc::clone(&member.state.stats));
        let detector = |outlier| Detector::new(outlier, stats().collect());
        let concurrency = &settings.concurrency;
        let tags = sticky.as_ref().map(|sticky| Tags::new(sticky, &balancer)).unwrap_or_default();
        Self {
            name: pool.name.clone(),
            budget: Budget::new(settings.retry.budget, settings.retry.budget_minimum),
            detector: settings.outlier.clone().map(detector),
            breaker: settings.breaker.clone().map(|breaker| Arc::new(Breaker::new(breaker))),
            limit: concurrency.adaptive.then(|| Limit::new(concurrency.max)),
            balancer,
            sticky,
            tags: ArcSwap::from_pointee(tags),
            settings,
            state,
        }
    }

    /// The member that keeps clients with this mark, if it can be used and was not tried yet.
    pub fn keeper(&self, mark: Mark, tried: &Tried) -> Option<&Member> {
        match mark {
            Mark::Member(tag) => {
                let index = self.tags()?.tags.iter().position(|known| *known == tag)?;
                self.balancer.keeper(index, tried, Tick::now())
            }
            Mark::Hash(hash) => self.balancer.keeper_by_hash(hash, tried, Tick::now()),
        }
    }

    /// The name of a member in cookies.
    pub fn tag_of(&self, member: &Member) -> Option<Tag> {
        self.tags()?.tags.get(self.balancer.index_of(member)?).copied()
    }

    /// The names of the members in cookies as they are now, where there are such cookies.
    fn tags(&self) -> Option<Arc<Tags>> {
        let sticky = self.sticky.as_ref()?;
        let tags = self.tags.load();
        if tags.moves == self.balancer.moves() {
            return Some(Arc::clone(&tags));
        }
        let tags = Arc::new(Tags::new(sticky, &self.balancer));
        self.tags.store(Arc::clone(&tags));
        Some(tags)
    }

    /// Somebody goes by latency, so it has to be measured.
    pub fn wants_latency(&self) -> bool {
        let outlier = self.settings.outlier.as_ref();
        self.balancer.wants_latency()
            || self.limit.is_some()
            || self.breaker.is_some()
            || outlier.is_some_and(|outlier| outlier.latency > 0)
    }

    /// Leave to make a request, where a breaker has to give it.
    ///
    /// # Errors
    /// The pool is left alone; seconds after which to come again.
    pub fn permit(&self, log: &ErrorLog) -> Result<Option<Permit>, u64> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        match breaker.permit(Tick::now()) {
            Ok(permit) => {
                self.tell(log, permit.change());
                Ok(Some(permit))
            }
            Err(rejected) => {
                self.tell(log, rejected.change.as_ref());
                Err(rejected.retry_after)
            }
        }
    }

    /// How a request that had a permit ended: with this status, or without a response.
    pub fn done(&self, log: &ErrorLog, permit: Permit, status: Option<u16>, micros: Option<u64>) {
        let Some(breaker) = &self.breaker else { return };
        let outcome = match status {
            Some(status) if !breaker.is_failure(status) => Outcome::Success,
            _ => Outcome::Failure,
        };
        let slow = micros.is_some_and(|micros| breaker.is_slow(micros));
        self.tell(log, permit.done(outcome, slow, Tick::now()).as_ref());
    }

    fn tell(&self, log: &ErrorLog, change: Option<&impl Display>) {
        if let Some(change) = change {
            log.warn(format_args!("pool \"{}\": {change}", self.name));
        }
    }

    /// A place for a request, unless the pool has as many as it may.
    pub fn enter(&self) -> Option<Option<InPool<'_>>> {
        let limit = self.limit.as_ref().map(Limit::current);
        let Some(max) = limit.into_iter().chain(self.settings.concurrency.max).min() else {
            return Some(None);
        };
        let before = self.state.in_flight.fetch_add(1, Ordering::Relaxed);
        let place = InPool(&self.state);
        (before < max).then_some(Some(place))
    }

    /// The member at `index` answered with `status`, in so many microseconds if that was measured.
    pub fn answered(&self, log: &ErrorLog, member: &Member, status: u16, micros: Option<u64>) {
        let now = Tick::now();
        let listed = self.settings.retry.on.statuses.contains(&status);
        let failure = (listed || status >= 500).then_some(Failure::Status);
        self.judge(log, member, failure, micros, now);
        if listed {
            return self.count(log, member, &format_args!("status {status}"), now);
        }
        if member.state.fails.succeeded(member.max_fails) {
            member.state.comes_back(now);
            member.state.changed();
            log.info(format_args!("pool \"{}\": {} answers again", self.name, member.place()));
        }
        if let (Some(limit), Some(micros), None) = (&self.limit, micros, failure) {
            limit.sample(micros, self.state.in_flight.load(Ordering::Relaxed), now);
        }
    }

    /// An attempt at `member` failed.
    pub fn failed(
        &self,
        log: &ErrorLog,
        member: &Member,
        failure: Failure,
        cause: Cause,
        micros: Option<u64>,
    ) {
        let now = Tick::now();
        self.judge(log, member, Some(failure), micros, now);
        self.count(log, member, &cause.as_str(), now);
    }

    /// Counts a failure as nginx does.
    fn count(&self, log: &ErrorLog, member: &Member, what: &dyn Display, now: Tick) {
        let (max, time) = (member.max_fails, member.fail_timeout);
        let left_out = member.state.fails.failed(now, max);
        if !member.state.fails.usable(now, max, time) {
            member.state.changed();
        }
        if left_out && self.balancer.may_leave_out() {
            log.warn(format_args!(
                "pool \"{}\": {} is left out for {time:?}: {max} failures, the last: {what}",
                self.name,
                member.place()
            ));
        }
    }

    /// Compares the member with the others.
    fn judge(
        &self,
        log: &ErrorLog,
        member: &Member,
        failure: Option<Failure>,
        micros: Option<u64>,
        now: Tick,
    ) {
        if let Some(micros) = micros {
            // One that fails at once must not look fast.
            let least = if failure.is_some() { FAILURE_LATENCY } else { 0 };
            member.state.latency.observe(micros.max(least), now);
        }
        let Some(detector) = &self.detector else { return };
        let Some(index) = self.balancer.index_of(member) else { return };
        let standing = |index: usize| match self.balancer.members().get(index) {
            Some(other) if !other.endpoint.is_known() => Standing::Absent,
            Some(other) if other.wanted == UpstreamState::Up && other.is_well(now) => {
                Standing::Usable
            }
            Some(_) => Standing::Unusable,
            None => Standing::Absent,
        };
        for ejection in detector.record(index, failure, micros.unwrap_or(0), now, standing) {
            let Some(ejected) = self.balancer.members().get(ejection.member) else { continue };
            ejected.state.comes_back(ejection.until);
            ejected.state.changed();
            let (name, place) = (&self.name, ejected.place());
            let (reason, time) = (&ejection.reason, ejection.until.since(now));
            log.warn(format_args!("pool \"{name}\": ejected {place} for {time:?}: {reason}"));
        }
    }
}

impl Drop for InPool<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    /// A place, unless `max` wait already.
    pub fn enter(&self, max: u32) -> Option<Place<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        // Whoever leaves sees that somebody waits, or the one that waits sees the room.
        fence(Ordering::SeqCst);
        let place = Place(self);
        (before < max).then_some(place)
    }

    /// Done when there may be room.
    pub fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// An endpoint may have room now.
    pub fn leave_room(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        // Whoever is woken and does not need the room passes it on.
        self.0.leave_room();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use config::model::{self, Concurrency};

    use super::*;
    use crate::live::Epoch;

    #[test]
    fn one_that_finds_no_room_wakes_nobody() {
        // It would wake itself, and go on so until its time is up.
        let concurrency = Concurrency { max: Some(1), adaptive: false };
        let settings = PoolSettings { concurrency, ..PoolSettings::default() };
        let state = Arc::new(PoolState::default());
        let epoch = Arc::new(Epoch::default());
        let balancer = Balancer::new(&settings, Vec::new(), Arc::clone(&state), epoch);
        let pool = model::Pool { name: "a".to_owned(), upstreams: Vec::new(), settings };
        let pool = Pool::new(&pool, balancer, None, state);
        let first = pool.enter();
        assert!(first.is_some());
        let _place = pool.state.queue.enter(10).unwrap();
        let mut room = pin!(pool.state.queue.room());
        room.as_mut().enable();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(pool.enter().is_none());
        assert!(room.as_mut().poll(cx).is_pending());
        pool.state.queue.leave_room();
        assert!(room.as_mut().poll(cx).is_ready());
    }
}
