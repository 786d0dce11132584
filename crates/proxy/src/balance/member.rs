//! The members of a pool and what is known of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use config::model::{FailOpen, UpstreamState};
use net::timer::{Tick, unix_millis};
use net::tls::ClientConfig;

use super::peak_ewma::Ewma;
use super::steering::Steering;
use crate::health::max_fails::{Fails, Turn};
use crate::health::outlier::Stats;
use crate::health::standing::Standing;
use crate::live::{Endpoint, Epoch};
use crate::metrics::Series;

/// An endpoint as a member of a pool. An upstream entry given by a host name has several, one for
/// each address the name may have.
#[derive(Debug)]
pub struct Member {
    /// The endpoint requests go to; entries of several pools may share one.
    pub endpoint: Arc<Endpoint>,
    /// What is known of it in this pool.
    pub state: Arc<MemberState>,
    /// What a TLS connection to it has to agree to; `None` where it is plain.
    pub tls: Option<ClientConfig>,
    /// As the operator wrote it, for logs.
    pub url: String,
    /// Put before every path; empty or "/x".
    pub base_path: String,
    /// The entry's share of requests as configured, where the method goes by weights.
    pub weight: u32,
    /// The entry's tier.
    pub priority: u8,
    /// Whether the configuration wants it used; see [`Member::wanted`].
    pub wanted: UpstreamState,
    /// Most requests in flight.
    pub max_conns: Option<u32>,
    /// Time over which its weight grows after it came back.
    pub slow_start: Duration,
    /// Failures within `fail_timeout` that make it unusable for as long; 0 turns that off.
    pub max_fails: u32,
    /// See `max_fails`.
    pub fail_timeout: Duration,
    /// Send it the client's Host, or its own; `None`: as the route says.
    pub preserve_host: Option<bool>,
    /// Where it is counted; all addresses of its entry together.
    pub series: Series,
}

/// Largest weight that may be given at run time, as in the configuration.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// What is known of a member; it outlives the configuration in force.
#[derive(Debug)]
#[repr(align(128))]
pub struct MemberState {
    /// By active checks.
    down: AtomicBool,
    /// Nothing is sent to it before active checks have found it up.
    begins_down: AtomicBool,
    /// When it last came back, for its slow start; 0 if it was never away.
    back: AtomicU64,
    /// Failed attempts, for `max_fails`.
    pub fails: Fails,
    /// Responses and ejection, for those that stand out.
    pub stats: Arc<Stats>,
    /// Latency, for the method that goes by it.
    pub latency: Ewma,
    /// How it fares, for operators.
    pub standing: Standing,
    /// What an operator said of it at run time.
    steering: Steering,
    epoch: Arc<Epoch>,
}

impl MemberState {
    /// One that nothing is known of, and so is taken to be well. Changes that matter for choosing
    /// advance `epoch`.
    pub fn new(epoch: Arc<Epoch>) -> Self {
        Self {
            down: AtomicBool::new(false),
            begins_down: AtomicBool::new(false),
            back: AtomicU64::new(0),
            fails: Fails::default(),
            stats: Arc::default(),
            latency: Ewma::default(),
            standing: Standing::new(unix_millis()),
            steering: Steering::default(),
            epoch,
        }
    }

    /// An operator wants it used so from now on, whatever the configuration says; `None`: as that
    /// says. Requests under way are not disturbed.
    pub fn steer(&self, wanted: Option<UpstreamState>) {
        self.steer_as(wanted, false);
    }

    /// The same for as long as it is at the address that it has now: what was meant for one of the
    /// addresses of a name is not held against another.
    pub fn steer_here(&self, wanted: Option<UpstreamState>) {
        self.steer_as(wanted, true);
    }

    fn steer_as(&self, wanted: Option<UpstreamState>, here: bool) {
        let was_off = self.steered() == Some(UpstreamState::Down);
        if !self.steering.steer(wanted, here) {
            return;
        }
        if was_off {
            // Nobody looked meanwhile: its checks begin anew.
            self.down.store(self.begins_down.load(Ordering::Relaxed), Ordering::Relaxed);
            self.comes_back(Tick::now());
        }
        self.standing.is_another(unix_millis());
        self.changed();
    }

    /// What an operator said at run time; `None`: nothing.
    pub fn steered(&self) -> Option<UpstreamState> {
        self.steering.state()
    }

    /// From now on its share is this, whatever the configuration says, at most [`WEIGHT_MAX`];
    /// `None`: as that says.
    pub fn set_weight(&self, weight: Option<u32>) {
        if self.steering.set_weight(weight.map(|weight| weight.min(WEIGHT_MAX))) {
            self.changed();
        }
    }

    /// The share that an operator gave it at run time.
    pub fn given_weight(&self) -> Option<u32> {
        self.steering.weight()
    }

    /// What active checks found. A member that comes back starts slowly, if it is told to.
    pub fn set_health(&self, up: bool, now: Tick) {
        let was_down = self.down.swap(!up, Ordering::Relaxed);
        if up && was_down {
            self.comes_back(now);
        }
        if up == was_down {
            self.standing.changes(up, unix_millis());
            self.changed();
        }
    }

    /// Whether it is to be taken for down where nothing is known of it, because active checks are to
    /// find it up first.
    pub fn set_begins_down(&self, begins_down: bool) {
        self.begins_down.store(begins_down, Ordering::Relaxed);
    }

    /// Another address has its place: nothing is known of it. It starts slowly if it joins others
    /// that serve (`joins`: when), as far as it is told to.
    pub fn forget(&self, joins: Option<Tick>) {
        self.fails.forget();
        self.stats.forget();
        self.latency.forget();
        self.standing.forget(unix_millis());
        self.steering.forget_here();
        self.down.store(self.begins_down.load(Ordering::Relaxed), Ordering::Relaxed);
        self.back.store(0, Ordering::Relaxed);
        if let Some(now) = joins {
            self.comes_back(now);
        }
    }

    /// Active checks have not found it down.
    pub fn is_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// It can be used again from `now` on.
    pub fn comes_back(&self, now: Tick) {
        self.back.store(now.as_millis().max(1), Ordering::Relaxed);
    }

    /// A request that tried it after failures ended neither well nor badly: the next one may try.
    pub fn trial_abandoned(&self) {
        if self.fails.abandoned() {
            self.changed();
        }
    }

    /// Something changed that matters for choosing.
    pub fn changed(&self) {
        self.epoch.advance();
    }

    /// Per cent of its weight that it has, `slow_start` after it came back, and whether that will
    /// grow.
    fn share(&self, slow_start: Duration, now: Tick) -> u32 {
        let back = self.back.load(Ordering::Relaxed);
        if back == 0 || slow_start.is_zero() {
            return 100;
        }
        let passed = now.since(Tick::from(back)).as_millis();
        let share = passed.saturating_mul(100) / slow_start.as_millis().max(1);
        u32::try_from(share).unwrap_or(100).clamp(1, 100)
    }
}

impl Member {
    /// Requests may go to it, as far as lasting things tell: it has an address, is wanted, and was
    /// not found to be failing. `alone`: it is the only one, so failures of requests do not count.
    pub(super) fn is_usable(&self, alone: bool, now: Tick) -> bool {
        let failing = || {
            !self.state.fails.usable(now, self.max_fails, self.fail_timeout)
                || self.state.stats.ejected(now)
        };
        self.wanted() == UpstreamState::Up
            && self.endpoint.is_known()
            && self.state.is_up()
            && (alone || !failing())
    }

    /// A client that sticks to it may still come.
    pub(super) fn may_keep_clients(&self, alone: bool, now: Tick) -> bool {
        match self.wanted() {
            UpstreamState::Up => self.is_usable(alone, now),
            UpstreamState::Drain => self.endpoint.is_known() && self.state.is_up(),
            UpstreamState::Down => false,
        }
    }

    /// Neither active checks nor failed attempts speak against it.
    pub fn is_well(&self, now: Tick) -> bool {
        self.state.is_up() && self.state.fails.usable(now, self.max_fails, self.fail_timeout)
    }

    /// It is asked rather than nobody.
    pub(super) fn is_open(&self, fail_open: FailOpen) -> bool {
        match fail_open {
            FailOpen::Never => false,
            FailOpen::ToFailing => self.is_wanted() && self.state.is_up(),
            FailOpen::ToAll => self.is_wanted(),
        }
    }

    /// It could be used if it were well.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted() == UpstreamState::Up && self.endpoint.is_known()
    }

    /// Its share of requests: that of its entry, times what SRV records give it. A weight of 0 in
    /// these is next to nothing, unless all have it (RFC 2782): it counts as 1.
    pub(super) fn weight(&self) -> u32 {
        self.own_weight().saturating_mul(u32::from(self.endpoint.share().weight.max(1)))
    }

    /// Whether it is to be used: as an operator said at run time, else as configured.
    pub fn wanted(&self) -> UpstreamState {
        self.state.steered().unwrap_or(self.wanted)
    }

    /// The share of its entry: as an operator said at run time, else as configured.
    pub fn own_weight(&self) -> u32 {
        self.state.given_weight().unwrap_or(self.weight)
    }

    /// The lowest tier with a usable member gets all requests. Priorities of SRV records divide the
    /// tier of their entry, so that a backup of them comes after all of them.
    pub(crate) fn tier(&self) -> (u8, u16) {
        (self.priority, self.endpoint.share().priority)
    }

    /// It has as many requests in flight as it may.
    pub(super) fn is_full(&self) -> bool {
        self.max_conns.is_some_and(|max| self.endpoint.in_flight() >= max)
    }

    /// Per cent of its weight that it has now.
    pub(super) fn share(&self, now: Tick) -> u32 {
        self.state.share(self.slow_start, now)
    }

    /// Whether a request may go to it, as far as failed attempts tell.
    pub(super) fn probe(&self, now: Tick) -> Turn {
        let turn = self.state.fails.try_probe(now, self.max_fails, self.fail_timeout);
        if turn == Turn::Probe {
            // Until it is known how that ends, it is no member that others wait for.
            self.state.changed();
        }
        turn
    }

    /// What it is called in the log: its URL, and the address where the URL has a name.
    pub fn place(&self) -> String {
        match (self.endpoint.name_to_resolve(), self.endpoint.addresses().first()) {
            (Some(_), Some(address)) => format!("{} ({address})", self.url),
            _ => self.url.clone(),
        }
    }

    /// What consistent hashing and cookies know it by: the same as long as it is at the same address.
    pub fn name(&self) -> String {
        match self.endpoint.place() {
            Some(address) => format!("{}#{address}", self.url),
            None => self.url.clone(),
        }
    }

    /// When, after `now`, time alone makes it usable again; `None` if it does not depend on that.
    pub(super) fn next_change(&self, now: Tick) -> Option<Tick> {
        let fails = self.state.fails.until(now, self.max_fails, self.fail_timeout);
        fails.into_iter().chain(self.state.stats.until(now)).min()
    }
}
