//! Active health checks: endpoints are probed again and again, and those that fail get no requests
//! until they pass.
//!
//! They run on the control runtime and tell what they find through [`Target::report`]; a request never
//! waits for them. A probe speaks what traffic to the endpoint speaks (TLS, PROXY protocol, HTTP/2,
//! Unix sockets) on a connection of its own.
//!
//! - `rise_fall`: from outcomes to up and down
//! - `probe`: a check made ready; `tcp`, `tls`, `http`, `grpc`, `websocket`: what each sends
//! - `connect`, `http1`, `http2`: how it gets there and back; `matching`: what the answer has to be
//!
//! What always holds: no more than [`PROBES_MAX`] probes are under way at once; each ends within its
//! `timeout` and reads a bounded number of bytes; an endpoint without an address is not probed and
//! stays as it was; one that gets another address begins anew, and what a probe found at the old one
//! counts for nothing; each change is told once, in the log and to the balancer.

mod connect;
mod grpc;
mod http;
mod http1;
mod http2;
mod matching;
mod probe;
mod rise_fall;
mod tcp;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod websocket;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::model::{HealthCheck, Probe, StartState, UpstreamAddress};
use net::timer::unix_millis;
use net::tls::ClientConfig;
use proxy::health::standing::{CheckKind, Checked};
use proxy::live::Endpoint;
use proxy::log::ErrorLog;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use self::probe::Prepared;
use self::rise_fall::{Change, RiseFall};

/// Probes under way at once; more wait their turn. Each has a descriptor and up to some 150 KiB.
pub const PROBES_MAX: usize = 64;

/// First probes are so far apart, so that a start is no burst …
const FIRST_APART: Duration = Duration::from_millis(20);
/// … but the last of them begins no later than this, or than an interval.
const FIRST_LAST: Duration = Duration::from_secs(1);

/// An endpoint without an address is looked at again after this.
const NO_ADDRESS: Duration = Duration::from_secs(1);

/// An endpoint whose checks are paused is looked at again after this.
const PAUSED: Duration = Duration::from_secs(1);

/// Least time between two probes of an endpoint, whatever the configuration says.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// An endpoint as a member of a pool, to be checked.
pub struct Target {
    /// Name of the pool's site; with `pool`, `url` and `endpoint` it says which target this is.
    pub site: String,
    /// Name of the pool.
    pub pool: String,
    /// As the operator wrote it, for logs.
    pub url: String,
    /// Where probes go.
    pub endpoint: Arc<Endpoint>,
    /// What a TLS connection of traffic has to agree to; `None` where it is plain.
    pub tls: Option<ClientConfig>,
    /// All have to pass; one that fails is enough for down.
    pub checks: Vec<HealthCheck>,
    /// Is told whether it is up: once at the beginning and then at each change.
    pub report: Box<dyn Fn(bool) + Send + Sync>,
    /// Whether it is to be probed at present: not while an operator wants nothing sent to it. After
    /// that its checks begin anew.
    pub is_wanted: Box<dyn Fn() -> bool + Send + Sync>,
    /// Is told what each probe found, and whether the target was up before.
    pub seen: Box<dyn Fn(Checked, bool) + Send + Sync>,
}

/// The checks that are carried out; they end when this is dropped.
pub struct HealthChecks {
    log: ErrorLog,
    watched: Vec<Watched>,
    /// Places for probes.
    places: Rc<Semaphore>,
    carry_out: CarryOut,
}

/// Carries a check out once.
type CarryOut = Rc<dyn Fn(Rc<Prepared>, Arc<Endpoint>) -> Pin<Box<dyn Future<Output = Outcome>>>>;

/// Whether a probe succeeded; if not, why.
type Outcome = Result<(), String>;

/// A target whose checks run.
struct Watched {
    health: Rc<Health>,
    checks: Vec<HealthCheck>,
    tasks: Vec<AbortHandle>,
}

/// What the checks of one target have found; they share it.
struct Health {
    target: RefCell<Target>,
    /// One for each check.
    states: RefCell<Vec<RiseFall>>,
    /// Of the endpoint, whose states these are.
    generation: Cell<u64>,
    /// Nobody looks at it at present.
    is_paused: Cell<bool>,
    /// It was up at some time.
    was_up: Cell<bool>,
    /// Nothing was told of it although it is down.
    untold: Cell<bool>,
    log: ErrorLog,
}

impl HealthChecks {
    /// No checks yet.
    pub fn new(log: ErrorLog) -> Self {
        let carry_out: CarryOut =
            Rc::new(|prepared, endpoint| Box::pin(async move { prepared.run(&endpoint).await }));
        let places = Rc::new(Semaphore::new(PROBES_MAX));
        Self { log, watched: Vec::new(), places, carry_out }
    }

    /// From now on these targets are checked and no others. Targets that are checked already keep
    /// their state; those that are no longer checked are reported as up, since nothing is known
    /// against them. Returns at once, when each target has been reported as it begins.
    ///
    /// # Panics
    /// Outside of a `LocalRuntime`.
    pub fn set(&mut self, targets: Vec<Target>) {
        let mut before = std::mem::take(&mut self.watched);
        let count = targets.iter().map(|target| target.checks.len()).sum();
        let mut first = 0;
        for mut target in targets {
            // HTTP first: it says most about why an endpoint fails.
            target.checks.sort_by_key(|check| !matches!(check.probe, Probe::Http(_)));
            let same = before.iter().position(|watched| watched.health.is_of(&target));
            let known = same.map(|index| before.swap_remove(index));
            let begins = first;
            first += target.checks.len();
            if target.checks.is_empty() {
                (target.report)(true);
                continue;
            }
            let watched = match known {
                Some(watched) if watched.checks == target.checks => {
                    watched.health.take_over(target);
                    watched
                }
                known => self.watch(target, known.map(|known| known.health.is_up()), begins, count),
            };
            self.watched.push(watched);
        }
        for watched in before {
            (watched.health.target.borrow().report)(true);
        }
    }

    /// Starts the checks of a target that is new, or was `found` to be up or not by other checks. The
    /// first one is number `begins` of `count` that start now.
    fn watch(&self, target: Target, found: Option<bool>, begins: usize, count: usize) -> Watched {
        let checks = target.checks.clone();
        let endpoint = Arc::clone(&target.endpoint);
        let prepare = |check| Prepared::new(check, &endpoint.transport, target.tls.as_ref());
        let prepared: Vec<Rc<Prepared>> = checks.iter().map(prepare).map(Rc::new).collect();
        let health = Rc::new(Health::new(target, found, self.log.clone()));
        let tasks = prepared.into_iter().enumerate().map(|(index, prepared)| {
            let first = first_delay(begins + index, count, prepared.check.interval);
            let job = Job {
                health: Rc::clone(&health),
                index,
                prepared,
                endpoint: Arc::clone(&endpoint),
                places: Rc::clone(&self.places),
                carry_out: Rc::clone(&self.carry_out),
            };
            tokio::task::spawn_local(job.repeat(first)).abort_handle()
        });
        let tasks = tasks.collect();
        Watched { health, checks, tasks }
    }
}

impl fmt::Debug for HealthChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HealthChecks({} targets)", self.watched.len())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}, {}, {})", self.site, self.pool, self.url)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// One check of one target.
struct Job {
    health: Rc<Health>,
    index: usize,
    prepared: Rc<Prepared>,
    endpoint: Arc<Endpoint>,
    places: Rc<Semaphore>,
    carry_out: CarryOut,
}

impl Job {
    /// Carries the check out for as long as it is wanted.
    async fn repeat(self, first: Duration) {
        sleep(first).await;
        let check = &self.prepared.check;
        loop {
            let generation = self.endpoint.generation();
            if self.health.pauses() {
                self.wait(Instant::now() + PAUSED, generation).await;
                continue;
            }
            self.health.begin_again(generation);
            if !has_address(&self.endpoint) {
                let again = Instant::now() + jittered(NO_ADDRESS, check.jitter, random());
                self.wait(again, generation).await;
                continue;
            }
            let begun = {
                let Ok(_place) = self.places.acquire().await else { return };
                let begun = Instant::now();
                let probe = (self.carry_out)(Rc::clone(&self.prepared), Arc::clone(&self.endpoint));
                let outcome = probe.await;
                if self.endpoint.generation() != generation || self.health.pauses() {
                    continue;
                }
                self.health.settle(self.index, outcome, begun.elapsed());
                begun
            };
            let interval = if self.health.is_up() { check.interval } else { check.down_interval };
            self.wait(begun + jittered(interval, check.jitter, random()), generation).await;
        }
    }

    /// Waits until then, or until the endpoint is another one.
    async fn wait(&self, until: Instant, generation: u64) {
        let another = self.endpoint.next_generation();
        if self.endpoint.generation() == generation {
            let _either = timeout_at(until, another).await;
        }
    }
}

impl Health {
    fn new(target: Target, found: Option<bool>, log: ErrorLog) -> Self {
        let state = |check: &HealthCheck| match found {
            Some(up) => RiseFall::found(check.rise, check.fall, up),
            None => RiseFall::new(check.rise, check.fall, check.start),
        };
        let states: Vec<RiseFall> = target.checks.iter().map(state).collect();
        let starts_up = target.checks.iter().all(|check| check.start != StartState::Down);
        let was_up = found.unwrap_or(starts_up);
        let generation = Cell::new(target.endpoint.generation());
        let health = Self {
            target: RefCell::new(target),
            states: RefCell::new(states),
            generation,
            is_paused: Cell::new(false),
            was_up: Cell::new(was_up || found.is_some()),
            untold: Cell::new(!was_up && found.is_none()),
            log,
        };
        health.report();
        health
    }

    /// Its checks are paused now.
    fn pauses(&self) -> bool {
        let pauses = !(self.target.borrow().is_wanted)();
        if pauses {
            self.is_paused.set(true);
        }
        pauses
    }

    /// Forgets what was found if it was another endpoint's, or before a pause.
    fn begin_again(&self, generation: u64) {
        let was_paused = self.is_paused.replace(false);
        if self.generation.replace(generation) == generation && !was_paused {
            return;
        }
        let state = |check: &HealthCheck| RiseFall::new(check.rise, check.fall, check.start);
        let states: Vec<RiseFall> = self.target.borrow().checks.iter().map(state).collect();
        *self.states.borrow_mut() = states;
        let up = self.is_up();
        self.was_up.set(up);
        self.untold.set(!up);
        self.report();
    }

    fn is_up(&self) -> bool {
        self.states.borrow().iter().all(RiseFall::is_up)
    }

    fn is_of(&self, other: &Target) -> bool {
        let target = self.target.borrow();
        Arc::ptr_eq(&target.endpoint, &other.endpoint)
            && (&target.site, &target.pool, &target.url) == (&other.site, &other.pool, &other.url)
    }

    fn take_over(&self, target: Target) {
        *self.target.borrow_mut() = target;
        self.report();
    }

    fn report(&self) {
        (self.target.borrow().report)(self.is_up());
    }

    /// Takes the outcome of check number `index`.
    fn settle(&self, index: usize, outcome: Outcome, took: Duration) {
        let before = self.is_up();
        let change = match self.states.borrow_mut().get_mut(index) {
            Some(state) => state.record(outcome.is_ok()),
            None => None,
        };
        let up = self.is_up();
        self.tell(index, &outcome, took, before);
        // First it is so, then it is told.
        match (change, outcome) {
            (Some(Change::Up(count)), _) if up => {
                let again = if self.was_up.replace(true) { " again" } else { "" };
                self.untold.set(false);
                self.report();
                self.log.info(format_args!("{} is up{again} after {}", self.name(), checks(count)));
            }
            (Some(Change::Down(count)), Err(reason)) if before => {
                self.report();
                self.log.warn(format_args!("{} is down: {}", self.name(), failed(count, &reason)));
            }
            (None, Err(reason)) if !up && self.untold.replace(false) => {
                self.log.warn(format_args!("{} is not up yet: {reason}", self.name()));
            }
            _ => {}
        }
    }

    /// Tells what check number `index` found.
    fn tell(&self, index: usize, outcome: &Outcome, took: Duration, was_up: bool) {
        let (target, states) = (self.target.borrow(), self.states.borrow());
        let (Some(check), Some(state)) = (target.checks.get(index), states.get(index)) else {
            return;
        };
        let (against, needed) = state.against();
        let checked = Checked {
            at: unix_millis(),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            kind: kind(&check.probe),
            failure: outcome.as_ref().err().cloned(),
            against,
            needed,
        };
        (target.seen)(checked, was_up);
    }

    /// `pool "backend": http://10.0.0.2:80`, with the address where the URL does not say it.
    fn name(&self) -> String {
        let target = self.target.borrow();
        let (pool, url) = (&target.pool, &target.url);
        match (target.endpoint.name_to_resolve(), target.endpoint.addresses().first()) {
            (Some(_), Some(address)) => format!("pool {pool:?}: {url} ({address})"),
            _ => format!("pool {pool:?}: {url}"),
        }
    }
}

fn kind(probe: &Probe) -> CheckKind {
    match probe {
        Probe::Tcp => CheckKind::Tcp,
        Probe::Tls => CheckKind::Tls,
        Probe::Http(_) => CheckKind::Http,
        Probe::Grpc(_) => CheckKind::Grpc,
        Probe::WebSocket(_) => CheckKind::WebSocket,
    }
}

fn checks(count: u32) -> String {
    format!("{count} check{}", if count == 1 { "" } else { "s" })
}

fn failed(count: u32, reason: &str) -> String {
    let last = if count == 1 { "" } else { ", the last" };
    format!("{} failed{last}: {reason}", checks(count))
}

fn has_address(endpoint: &Endpoint) -> bool {
    matches!(endpoint.address, UpstreamAddress::Unix(_)) || !endpoint.addresses().is_empty()
}

/// When the first probe of check number `index` of `count` begins.
fn first_delay(index: usize, count: usize, interval: Duration) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let apart = FIRST_APART.min(FIRST_LAST.min(interval) / count);
    apart * u32::try_from(index).unwrap_or(u32::MAX).min(count)
}

/// `interval`, give or take up to `percent` of it as `random` has it.
fn jittered(interval: Duration, percent: u32, random: u64) -> Duration {
    let span = f64::from(percent.min(100)) / 100.0;
    let part = (random % 2001) as f64 / 1_000.0 - 1.0;
    interval.mul_f64(1.0 + span * part).max(INTERVAL_MIN)
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
