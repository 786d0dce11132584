//! A named group of endpoints: what a route leads to.
//!
//! It brings together what decides over a request to one of them: the [`Balancer`], what is known of
//! each member, and the budget for further attempts. [`Pool::answered`] and [`Pool::failed`] take the
//! outcome of every attempt, and tell of what they decide in the log, once and with the reason.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use config::model::PoolSettings;
use net::timer::Tick;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::balance::{Balancer, Member};
use crate::exchange::Inbound;
use crate::health::{Budget, Verdict};
use crate::live::Turn;
use crate::log::Cause;

/// A named group of endpoints.
#[derive(Debug)]
pub struct Pool {
    /// The operator's name for it.
    pub name: String,
    /// Chooses among its endpoints.
    pub balancer: Balancer,
    /// What holds for it as a whole.
    pub settings: PoolSettings,
    /// What is known of it; it outlives the configuration in force.
    pub state: Arc<PoolState>,
}

/// What is known of a pool, shared by all workers.
#[derive(Debug, Default)]
pub struct PoolState {
    /// Whose turn it is.
    pub turn: Turn,
    /// Pays for further attempts.
    pub budget: Budget,
    /// Requests that wait because every endpoint is full.
    pub queue: Queue,
}

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
    pub fn new(pool: &config::model::Pool, balancer: Balancer, state: Arc<PoolState>) -> Self {
        Self { name: pool.name.clone(), balancer, settings: pool.settings.clone(), state }
    }

    /// Somebody goes by latency, so it has to be measured.
    pub fn wants_latency(&self) -> bool {
        let outlier = self.settings.outlier.as_ref();
        self.balancer.wants_latency() || outlier.is_some_and(|outlier| outlier.latency > 0)
    }

    /// `member` answered with `status`, in so many microseconds if that was measured.
    pub fn answered(
        &self,
        inbound: &Inbound<'_>,
        member: &Member,
        status: u16,
        micros: Option<u64>,
    ) {
        let now = Tick::now();
        if self.settings.retry.on.statuses.contains(&status) {
            return self.failed_by(inbound, member, &format_args!("status {status}"), micros, now);
        }
        if member.state.fails.succeeded(member.max_fails) {
            member.state.comes_back(now);
            member.state.changed();
            let log = &inbound.connection.worker.error_log;
            log.info(format_args!("pool \"{}\": {} answers again", self.name, member.place()));
        }
        if let Some(micros) = micros {
            member.state.latency.observe(micros, now);
        }
    }

    /// An attempt at `member` failed.
    pub fn failed(
        &self,
        inbound: &Inbound<'_>,
        member: &Member,
        cause: Cause,
        micros: Option<u64>,
    ) {
        self.failed_by(inbound, member, &cause.as_str(), micros, Tick::now());
    }

    fn failed_by(
        &self,
        inbound: &Inbound<'_>,
        member: &Member,
        what: &dyn Display,
        micros: Option<u64>,
        now: Tick,
    ) {
        if let Some(micros) = micros {
            member.state.latency.observe(micros, now);
        }
        let (max, time) = (member.max_fails, member.fail_timeout);
        let verdict = member.state.fails.failed(now, max);
        if verdict != Verdict::Usable {
            member.state.changed();
        }
        if verdict == Verdict::LeftOut && self.balancer.may_leave_out() {
            let log = &inbound.connection.worker.error_log;
            log.warn(format_args!(
                "pool \"{}\": {} is left out for {time:?}: {max} failures, the last: {what}",
                self.name,
                member.place()
            ));
        }
    }
}

impl Queue {
    /// A place, unless `max` wait already.
    pub fn enter(&self, max: u32) -> Option<Place<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        let place = Place(self);
        (before < max).then_some(place)
    }

    /// Done when there may be room.
    pub fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// An endpoint may have room now.
    pub fn leave_room(&self) {
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
