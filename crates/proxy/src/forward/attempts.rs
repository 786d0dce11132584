//! The attempts of one request: to which endpoint the next one goes, and whether there is a next one.
//!
//! What always holds: no more attempts than the pool's settings allow, all of them begun within their
//! time; attempts beyond the first are paid from the pool's budget, so that they never multiply an
//! outage; a request that may have been acted upon is not sent again unless acting twice is harmless
//! or the operator says so.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use config::model::RetryOn;
use net::timer::{Tick, unix_millis};
use tokio::time::sleep;
use wire::field::FieldId;

use super::attempt::Lost;
use super::property::{cookies, property};
use super::wait::ClientWatch;
use super::{Broken, Patience};
use crate::balance::{Ask, Choice, Member, MemberState, TRIED_MAX, Trial, Tried};
use crate::decide::Matched;
use crate::exchange::Inbound;
use crate::health::breaker::Permit;
use crate::health::outlier::Failure;
use crate::live::InFlight;
use crate::log::{Cause, Party, Phase};
use crate::metrics::Why;
use crate::pool::{InPool, Pool, Queue};
use crate::sticky::Found;
use crate::worker::Heads;

/// Longest pause before another attempt, however often the pause was doubled.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    pool: &'a Pool,
    /// Of the pool's breaker, if it has one.
    permit: Cell<Option<Permit>>,
    tried: RefCell<Tried>,
    made: Cell<u32>,
    /// A further attempt that was allowed and paid for, and its pause.
    granted: Cell<Option<Duration>>,
    /// One of them waits in the pool's queue.
    waiting: Cell<bool>,
    /// How long they have waited there, in microseconds.
    queued: Cell<Option<u64>>,
    began: Tick,
    hash: u64,
    /// Taken when the balancer is first asked: a client that a member keeps takes nobody's.
    turn: Cell<Option<usize>>,
    /// What the client's cookie says of the member that keeps it.
    found: Found,
}

/// Where an attempt went, where somebody goes by how long it takes.
#[derive(Clone, Copy)]
pub(super) struct SentTo<'a> {
    pub(super) member: &'a Member,
    pub(super) began: Instant,
}

impl SentTo<'_> {
    /// How long it has taken.
    pub(super) fn micros(self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Why an attempt failed, as far as it matters for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No connection: nothing was sent.
    Connect,
    /// The upstream did nothing with the request, and said so.
    Refused,
    /// No response in time.
    Timeout,
    /// The connection ended before a response.
    Reset,
    /// The time of the whole request was over before the endpoint had had its own.
    Expired,
    /// What came is no response.
    Invalid,
    /// A response with this status.
    Status(u16),
}

impl Reason {
    /// Of a response that did not come.
    pub(super) fn of(cause: Cause) -> Self {
        match cause.class() {
            Cause::Timeout => Self::Timeout,
            Cause::Malformed | Cause::Limit | Cause::Unsupported => Self::Invalid,
            _ => Self::Reset,
        }
    }

    fn is_listed(self, on: &RetryOn) -> bool {
        match self {
            Self::Connect => on.connect,
            Self::Refused => on.refused,
            Self::Timeout => on.timeout,
            Self::Expired => false,
            Self::Reset => on.reset,
            Self::Invalid => on.invalid,
            Self::Status(status) => on.statuses.contains(&status),
        }
    }

    /// What it is counted as.
    fn why(self) -> Why {
        match self {
            Self::Connect => Why::Connect,
            Self::Refused => Why::Refused,
            Self::Timeout | Self::Expired => Why::Timeout,
            Self::Reset => Why::Reset,
            Self::Invalid => Why::Invalid,
            Self::Status(_) => Why::Status,
        }
    }

    /// The upstream surely did nothing with the request.
    fn is_harmless(self) -> bool {
        matches!(self, Self::Connect | Self::Refused)
    }
}

impl<'a> Attempts<'a> {
    /// Leave of the pool's breaker to make some, if it has one.
    ///
    /// # Errors
    /// The pool is left alone at present.
    pub(super) fn permit(
        inbound: &Inbound<'_>,
        matched: &Matched<'_>,
    ) -> Result<Option<Permit>, Broken> {
        let permit = matched.pool.permit(&inbound.connection.worker.error_log, Tick::now());
        permit.map_err(|seconds| {
            let open = Broken::new(Party::Proxy, Phase::Queue, Cause::CircuitOpen);
            Broken { retry_after: Some(seconds), ..open }
        })
    }

    /// None yet.
    pub(super) fn new(
        inbound: &Inbound<'_>,
        matched: &Matched<'a>,
        permit: Option<Permit>,
    ) -> Self {
        let pool = matched.pool;
        let now = Tick::now();
        pool.budget.request(now);
        let hash = pool.balancer.hash_key();
        let hash = hash.map_or(0, |key| Ask::hash_of(&property(inbound, key)));
        let found = match &pool.sticky {
            Some(sticky) => sticky.find(cookies(inbound), unix_millis() / 1000),
            None => Found::None,
        };
        Self {
            pool,
            permit: Cell::new(permit),
            tried: RefCell::default(),
            made: Cell::new(0),
            granted: Cell::new(None),
            waiting: Cell::new(false),
            queued: Cell::new(None),
            began: now,
            hash,
            turn: Cell::new(None),
            found,
        }
    }

    /// How many there have been, the one under way included.
    pub(super) fn made(&self) -> u32 {
        self.made.get()
    }

    /// How long they have waited for room, in microseconds; `None` if none of them had to.
    pub(super) fn queued(&self) -> Option<u64> {
        self.queued.get()
    }

    /// Somebody goes by how long an attempt takes.
    pub(super) fn wants_latency(&self) -> bool {
        self.pool.wants_latency()
    }

    /// The member for the next attempt, if one has room for it at once; it counts the request from now
    /// on. An attempt that `waits` where there is no room does not overtake those who do already.
    pub(super) fn next(&self, inbound: &Inbound<'_>, waits: bool) -> Next<'a> {
        self.made.set(self.made.get() + 1);
        match waits && self.pool.state.queue.is_in_order() {
            true => Next::Full,
            false => self.take(inbound),
        }
    }

    /// The member for the next attempt when one has room for it, if it is one that `waits`.
    pub(super) async fn wait(
        &self,
        inbound: &Inbound<'_>,
        patience: &Patience<'_>,
        waits: bool,
    ) -> Result<(&'a Member, Flight<'a>), Broken> {
        if !waits {
            return Err(no_endpoint());
        }
        self.waiting.set(true);
        let began = Instant::now();
        let waited = self.room(inbound, patience).await;
        self.waiting.set(false);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.queued.set(Some(self.queued.get().unwrap_or(0).saturating_add(micros)));
        waited
    }

    /// An attempt is made at `member`.
    pub(super) fn tries(&self, member: &Member) {
        if let Some(index) = self.pool.balancer.index_of(member) {
            self.tried.borrow_mut().add(index);
        }
    }

    /// Chooses a member and takes a place at it.
    fn take(&self, inbound: &Inbound<'_>) -> Next<'a> {
        let pool = self.pool;
        if !pool.has_room() {
            return Next::Full;
        }
        // Another worker may take the last place after it was seen free.
        for _ in 0..=pool.balancer.members().len() {
            let (member, trial) = match self.choose(inbound) {
                Choice::Nothing => return Next::Nothing,
                Choice::Full => return Next::Full,
                Choice::Member(member, trial) => (member, trial),
            };
            let probe = (trial == Trial::Yes).then_some(&*member.state);
            let in_flight = member.endpoint.enter(member.max_conns);
            // Last, so that none is turned away for one that then finds no member.
            let in_pool = in_flight.as_ref().and_then(|_| pool.enter());
            let limited = member.max_conns.is_some() || in_pool.iter().flatten().count() > 0;
            match in_pool {
                Some(in_pool) => {
                    let queue = limited.then_some(&pool.state.queue);
                    let flight = Flight { in_flight, in_pool, queue, probe };
                    return Next::Member(member, flight);
                }
                None => {
                    if let Some(state) = probe {
                        state.trial_abandoned();
                    }
                    if in_flight.is_some() {
                        return Next::Full;
                    }
                }
            }
        }
        Next::Full
    }

    /// Why there is no member to choose.
    pub(super) fn nothing(&self) -> Broken {
        let mut endpoints = self.pool.balancer.members().iter().map(|member| &member.endpoint);
        let unresolved = endpoints.all(|endpoint| {
            endpoint.name_to_resolve().is_some() && endpoint.addresses().is_empty()
        });
        match unresolved {
            true => {
                let detail = "no host name of its upstreams resolves".to_owned();
                Broken { cause: Cause::Unresolved, detail, ..no_endpoint() }
            }
            false => no_endpoint(),
        }
    }

    fn choose(&self, inbound: &Inbound<'_>) -> Choice<'a> {
        let (now, tried) = (Tick::now(), &*self.tried.borrow());
        if tried.is_empty()
            && let Some(member) = self.pool.balancer.only(now)
        {
            return Choice::Member(member, Trial::No);
        }
        let keeper = self.found.tag().and_then(|tag| self.pool.keeper(tag, tried, now));
        if let Some((member, trial)) = keeper {
            return Choice::Member(member, trial);
        }
        let random = inbound.connection.worker.next_random();
        let turn = self.turn.get().unwrap_or_else(|| self.pool.balancer.take_turn());
        self.turn.set(Some(turn));
        let ask = Ask { hash: self.hash, random, turn, now };
        self.pool.balancer.choose(&ask, tried)
    }

    /// Waits in the pool's queue until a member has room.
    async fn room(
        &self,
        inbound: &Inbound<'_>,
        patience: &Patience<'_>,
    ) -> Result<(&'a Member, Flight<'a>), Broken> {
        let settings = &self.pool.settings.queue;
        let queue = &self.pool.state.queue;
        let mut overtakes = !queue.is_in_order();
        let Some(place) = queue.enter(settings.max, !self.tried.borrow().is_empty()) else {
            let detail = format!("{} requests wait for an endpoint already", settings.max);
            return Err(Broken { cause: Cause::QueueFull, detail, ..no_endpoint() });
        };
        let deadline = &inbound.connection.deadline;
        deadline.set(patience.within(settings.timeout));
        let mut watch = ClientWatch::new();
        let mut room = pin!(self.pool.room(Tick::now()));
        loop {
            // Asked for before looking, so that room made in between is not missed.
            room.as_mut().enable();
            match std::mem::replace(&mut overtakes, true).then(|| self.take(inbound)) {
                Some(Next::Member(member, flight)) => {
                    place.leave(self.pool.has_free_member(Tick::now()));
                    return Ok((member, flight));
                }
                Some(Next::Nothing) => return Err(self.nothing()),
                Some(Next::Full) | None => {}
            }
            let expired = poll_fn(|cx| match room.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(false)),
                Poll::Pending if watch.is_gone(cx, &inbound.connection.carrier) => {
                    Poll::Ready(Err(Broken::new(Party::Client, Phase::Queue, Cause::Closed)))
                }
                Poll::Pending if deadline.expired() => Poll::Ready(Ok(true)),
                Poll::Pending => Poll::Pending,
            });
            let expired = expired.await?;
            if expired && patience.is_over() {
                return Err(Broken::new(Party::Proxy, Phase::Queue, Cause::Timeout));
            }
            if expired {
                let detail = format!("no endpoint had room within {:?}", settings.timeout);
                return Err(Broken { cause: Cause::QueueTimeout, detail, ..no_endpoint() });
            }
            room.as_mut().again(self.pool.look_again(Tick::now()).since(Tick::now()));
        }
    }

    /// The upstream answered.
    pub(super) fn answered(
        &self,
        inbound: &Inbound<'_>,
        member: &Member,
        status: u16,
        micros: Option<u64>,
    ) {
        let worker = &inbound.connection.worker;
        worker.metrics.answered(&member.series, status);
        inbound.attempt_ended(member, Ok(status));
        self.pool.answered(&worker.error_log, member, status, micros, Tick::now());
    }

    /// The attempt was lost.
    pub(super) fn lost(&self, inbound: &Inbound<'_>, lost: &Lost<'_>) {
        if let Some((member, _)) = lost.failed {
            inbound.attempt_ended(member, Err(lost.broken.cause.as_str()));
        }
        match lost.failed {
            // One that says in order that it takes no more (GOAWAY) has not failed.
            None | Some((_, Reason::Expired)) => {}
            Some((member, Reason::Refused)) => {
                inbound.connection.worker.metrics.failed(&member.series, Why::Refused);
            }
            Some(_) if lost.broken.by != Party::Upstream => {}
            Some((member, reason)) => {
                self.failed(inbound, member, reason, lost.broken.cause, lost.micros);
            }
        }
    }

    /// The upstream failed.
    pub(super) fn failed(
        &self,
        inbound: &Inbound<'_>,
        member: &Member,
        reason: Reason,
        cause: Cause,
        micros: Option<u64>,
    ) {
        let failure = match reason {
            Reason::Connect => Failure::Connect,
            Reason::Timeout | Reason::Expired => Failure::Timeout,
            Reason::Refused | Reason::Reset => Failure::Reset,
            Reason::Invalid => Failure::Invalid,
            Reason::Status(_) => Failure::Status,
        };
        let worker = &inbound.connection.worker;
        worker.metrics.failed(&member.series, reason.why());
        self.pool.failed(&worker.error_log, member, failure, cause, micros, Tick::now());
    }

    /// Another attempt was answered first: this one took at least as long as it had.
    pub(super) fn overtaken(&self, inbound: &Inbound<'_>, sent_to: Option<SentTo<'_>>) {
        if let Some(sent_to) = sent_to {
            let log = &inbound.connection.worker.error_log;
            self.pool.overtaken(log, sent_to.member, sent_to.micros(), Tick::now());
        }
    }

    /// Makes the cookie line that keeps the client with `member`, if the response has to have one.
    pub(super) fn stick(
        &self,
        inbound: &Inbound<'_>,
        member: &Member,
        heads: &mut Heads,
        response: &[u8],
    ) {
        heads.cookie.clear();
        let Some(sticky) = &self.pool.sticky else { return };
        let Some(tag) = self.pool.tag_of(member) else { return };
        let fields = heads.response.fields.iter().filter(|field| field.id == FieldId::SetCookie);
        let set = fields.map(|field| field.value.of(response));
        if sticky.needs_cookie(self.found, tag, set) {
            let https = inbound.connection.tls.is_some();
            sticky.set_cookie(tag, https, unix_millis() / 1000, &mut heads.cookie);
        }
    }

    /// There are no more attempts: the response with `status` is passed on, or there is none.
    pub(super) fn end(&self, inbound: &Inbound<'_>, status: Option<u16>, micros: Option<u64>) {
        if let Some(permit) = self.permit.take() {
            let log = &inbound.connection.worker.error_log;
            self.pool.done(log, permit, status, micros, Tick::now());
        }
    }

    /// A response with this status is a reason for another attempt.
    pub(super) fn retries(&self, status: u16) -> bool {
        Reason::Status(status).is_listed(&self.pool.settings.retry.on)
    }

    /// How long to wait before another attempt after one that failed for `reason`; `None` if there
    /// is none. `intact`: the whole request can be sent again.
    pub(super) fn again(
        &self,
        inbound: &Inbound<'_>,
        patience: &Patience<'_>,
        reason: Reason,
        intact: bool,
    ) -> Option<Duration> {
        if let Some(pause) = self.granted.take() {
            return Some(pause);
        }
        let retry = &self.pool.settings.retry;
        let pause = self.pause(inbound, retry.backoff);
        let allowed = reason.is_listed(&retry.on)
            && intact
            && (reason.is_harmless() || retry.non_idempotent || is_idempotent(inbound))
            // With nowhere else to go, the same again only makes sense if time has passed.
            && (reason == Reason::Refused || self.has_another() || !pause.is_zero())
            && patience.within(pause) == pause
            // What nobody has seen yet is not more load than it was.
            && self.may_make_more(pause, reason.is_harmless());
        if allowed {
            inbound.connection.worker.metrics.retried(&self.pool.series, reason.why());
        }
        allowed.then_some(pause)
    }

    /// One of them waits in the pool's queue.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.get()
    }

    /// A second attempt may be made beside the one under way.
    pub(super) fn may_hedge(&self) -> bool {
        self.has_another() && self.may_make_more(Duration::ZERO, false)
    }

    /// Whether the attempt under way is given up, now that its endpoint is known to be down: only if
    /// there will be another one, elsewhere.
    pub(super) fn leaves(
        &self,
        inbound: &Inbound<'_>,
        patience: &Patience<'_>,
        intact: bool,
    ) -> bool {
        if self.has_another() {
            self.granted.set(self.again(inbound, patience, Reason::Timeout, intact));
        }
        self.granted.get().is_some()
    }

    fn may_make_more(&self, pause: Duration, free: bool) -> bool {
        let retry = &self.pool.settings.retry;
        let now = Tick::now();
        self.made.get() < retry.attempts.min(TRIED_MAX as u32)
            && retry.timeout.is_none_or(|time| now.since(self.began) + pause < time)
            && (free || self.pool.budget.try_retry(now))
    }

    fn has_another(&self) -> bool {
        self.pool.balancer.has_another(&self.tried.borrow(), Tick::now())
    }

    /// Doubled for each further attempt, and varied by half, so that requests that failed together do
    /// not come back together.
    fn pause(&self, inbound: &Inbound<'_>, first: Duration) -> Duration {
        if first.is_zero() {
            return first;
        }
        let doubled = first.saturating_mul(1 << self.made.get().saturating_sub(1).min(16));
        let most = doubled.min(BACKOFF_MAX);
        let random = inbound.connection.worker.next_random() % 1000;
        most / 2 + most.mul_f64(random as f64 / 2000.0)
    }
}

/// Lets time pass before another attempt.
///
/// # Errors
/// The client has gone meanwhile.
pub(crate) async fn wait_out(inbound: &Inbound<'_>, pause: Duration) -> Result<(), Broken> {
    // Milliseconds matter here, which the worker's deadlines do not count.
    let mut alarm = pin!(sleep(pause));
    let mut watch = ClientWatch::new();
    poll_fn(|cx| match alarm.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(Ok(())),
        Poll::Pending if watch.is_gone(cx, &inbound.connection.carrier) => {
            Poll::Ready(Err(Broken::new(Party::Client, Phase::Queue, Cause::Closed)))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// What became of the choice.
pub(super) enum Next<'a> {
    /// This member counts the request.
    Member(&'a Member, Flight<'a>),
    /// None has room, or others wait for it already.
    Full,
    /// None is usable.
    Nothing,
}

/// A request in flight to a member. Its end makes room for one that waits.
pub(super) struct Flight<'a> {
    /// `None` only while it is dropped.
    in_flight: Option<InFlight<'a>>,
    /// Its place in the pool, where those are limited.
    in_pool: Option<InPool<'a>>,
    /// Where places at the member or in the pool are limited: who waits for one.
    queue: Option<&'a Queue>,
    /// It tries a member that had failed; if it ends without an outcome, another one may.
    probe: Option<&'a MemberState>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.in_flight = None;
        self.in_pool = None;
        if let Some(state) = self.probe {
            state.trial_abandoned();
        }
        if let Some(queue) = self.queue {
            queue.leave_room();
        }
    }
}

/// No endpoint can take the request.
fn no_endpoint() -> Broken {
    Broken::new(Party::Proxy, Phase::Queue, Cause::NoEndpoint)
}

/// Sending it twice does no more than sending it once (RFC 9110 §9.2.2).
pub(super) fn is_idempotent(inbound: &Inbound<'_>) -> bool {
    let method = inbound.head.method.of(inbound.bytes);
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
}
