//! A named group of endpoints: what a route leads to.
//!
//! It brings together what decides over a request to one of them: the [`Balancer`], what is known of
//! each member, and the budget for further attempts. [`Pool::answered`] and [`Pool::failed`] take the
//! outcome of every attempt, and tell of what they decide in the log, once and with the reason.

mod queue;
mod state;

pub use queue::{Place, Queue, Room};
pub use state::{InPool, PoolState};

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use config::model::{PoolSettings, UpstreamState};
use net::timer::Tick;

use crate::balance::{Balancer, Member, Trial, Tried};
use crate::health::adaptive::Limit;
use crate::health::breaker::{Breaker, Outcome, Permit};
use crate::health::budget::Budget;
use crate::health::outlier::{Detector, Failure, Standing};
use crate::health::{later, millis};
use crate::log::{Cause, ErrorLog};
use crate::metrics::Series;
use crate::sticky::{Mark, Sticky, Tag};

/// What a failure counts as where members are chosen by latency, in microseconds.
const FAILURE_LATENCY: u64 = 1_000_000;

/// Whoever waits looks for room at least as often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
    pub budget: Arc<Budget>,
    /// What is known of it; it outlives the configuration in force.
    pub state: Arc<PoolState>,
    /// Keeps clients with a member, if the pool does that.
    pub sticky: Option<Sticky>,
    /// Where it is counted.
    pub series: Series,
    tags: ArcSwap<Tags>,
    detector: Option<Detector>,
    breaker: Option<Arc<Breaker>>,
    limit: Option<Arc<Limit>>,
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
        let tags = sticky.as_ref().map(|sticky| Tags::new(sticky, &balancer)).unwrap_or_default();
        Self {
            name: pool.name.clone(),
            budget: state.budget(&settings),
            detector: settings.outlier.clone().map(detector),
            breaker: state.breaker(&settings),
            limit: state.limit(&settings),
            balancer,
            sticky,
            series: Series::default(),
            tags: ArcSwap::from_pointee(tags),
            settings,
            state,
        }
    }

    /// The same, counted there.
    #[must_use]
    pub fn counted_in(self, series: Series) -> Self {
        Self { series, ..self }
    }

    /// The member that keeps clients with this mark, if it can be used and was not tried yet.
    pub fn keeper(&self, mark: Mark, tried: &Tried, now: Tick) -> Option<(&Member, Trial)> {
        match mark {
            Mark::Member(tag) => {
                let index = self.tags()?.tags.iter().position(|known| *known == tag)?;
                self.balancer.keeper(index, tried, now)
            }
            Mark::Hash(hash) => self.balancer.keeper_by_hash(hash, tried, now),
        }
    }

    /// The member that clients with this mark would go to at `now`, by index. No member is tried.
    pub fn would_keep(&self, mark: Mark, now: Tick) -> Option<usize> {
        match mark {
            Mark::Member(tag) => {
                let index = self.tags()?.tags.iter().position(|known| *known == tag)?;
                self.balancer.would_keep(index, now).then_some(index)
            }
            Mark::Hash(hash) => self.balancer.would_keep_by_hash(hash, now),
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
    pub fn permit(&self, log: &ErrorLog, now: Tick) -> Result<Option<Permit>, u64> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        match breaker.permit(now) {
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
    pub fn done(
        &self,
        log: &ErrorLog,
        permit: Permit,
        status: Option<u16>,
        micros: Option<u64>,
        now: Tick,
    ) {
        let Some(breaker) = &self.breaker else { return };
        let outcome = match status {
            Some(status) if !breaker.is_failure(status) => Outcome::Success,
            _ => Outcome::Failure,
        };
        let slow = micros.is_some_and(|micros| breaker.is_slow(micros));
        self.tell(log, permit.done(outcome, slow, now).as_ref());
    }

    fn tell(&self, log: &ErrorLog, change: Option<&impl Display>) {
        if let Some(change) = change {
            log.warn(format_args!("pool \"{}\": {change}", self.name));
        }
    }

    /// A place for a request, unless the pool has as many as it may. To be taken after the place at a
    /// member: nobody is turned away by one that then finds no member.
    pub fn enter(&self) -> Option<Option<InPool<'_>>> {
        match self.most() {
            None => Some(None),
            Some(max) => self.state.enter(max).map(Some),
        }
    }

    /// There is a place in the pool.
    pub fn has_room(&self) -> bool {
        self.most().is_none_or(|max| self.state.in_flight() < max)
    }

    /// A request would find a member with room.
    pub fn has_free_member(&self, now: Tick) -> bool {
        self.has_room() && self.balancer.has_free_member(now)
    }

    /// Most requests that may be in flight in the pool now.
    pub fn most(&self) -> Option<u32> {
        let limit = self.limit.as_ref().map(|limit| limit.current());
        limit.into_iter().chain(self.settings.concurrency.max).min()
    }

    /// Done when there may be room: when some was made, and when a member comes back because time has
    /// passed.
    pub fn room(&self, now: Tick) -> Room<'_> {
        self.state.queue.room(self.look_again(now).since(now))
    }

    /// When those who wait should look again whatever happens: an ejection ends by time alone, and an
    /// earlier configuration may have other ideas of what is full.
    pub fn look_again(&self, now: Tick) -> Tick {
        let latest = later(now, millis(LOOK_AGAIN));
        self.balancer.next_change(now).map_or(latest, |next| next.min(latest))
    }

    /// The breaker, if the pool has one.
    pub fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_deref()
    }

    /// The member at `index` answered with `status`, in so many microseconds if that was measured.
    pub fn answered(
        &self,
        log: &ErrorLog,
        member: &Member,
        status: u16,
        micros: Option<u64>,
        now: Tick,
    ) {
        let listed = self.settings.retry.on.statuses.contains(&status);
        let failure = (listed || status >= 500).then_some(Failure::Status);
        if listed {
            self.count(log, member, &format_args!("status {status}"), now);
            return self.judge(log, member, failure, micros, now);
        }
        if member.state.fails.succeeded(member.max_fails) {
            member.state.comes_back(now);
            member.state.changed();
            log.info(format_args!("pool \"{}\": {} answers again", self.name, member.place()));
        }
        self.judge(log, member, failure, micros, now);
        if let (Some(limit), Some(micros), None) = (&self.limit, micros, failure) {
            let before = limit.current();
            limit.sample(micros, self.state.in_flight(), now);
            if limit.current() > before {
                self.state.queue.leave_room();
            }
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
        now: Tick,
    ) {
        if let (Some(limit), Cause::Timeout) = (&self.limit, cause.class()) {
            limit.timed_out(self.state.in_flight(), now);
        }
        // First counted: a member that is left out now is no reason to eject another one.
        self.count(log, member, &cause.as_str(), now);
        self.judge(log, member, Some(failure), micros, now);
    }

    /// Another attempt was answered before the one at `member`, which took at least this long.
    pub fn overtaken(&self, log: &ErrorLog, member: &Member, micros: u64, now: Tick) {
        self.judge(log, member, None, Some(micros), now);
    }

    /// Counts a failure as nginx does.
    fn count(&self, log: &ErrorLog, member: &Member, what: &dyn Display, now: Tick) {
        let (max, time) = (member.max_fails, member.fail_timeout);
        let fails = &member.state.fails;
        let was_listed = fails.usable(now, max, time) || fails.is_being_tried();
        let left_out = fails.failed(now, max);
        // One that is asked although it is left out changes nothing by failing again.
        if was_listed && !fails.usable(now, max, time) {
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
            Some(other) if other.wanted() == UpstreamState::Up && other.is_well(now) => {
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

#[cfg(test)]
mod tests;
