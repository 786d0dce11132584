//! Everything that runs while Ravelin serves, from log writers to workers.
//!
//! - `start`: in which order it comes about
//! - `apply`: another configuration in its place, all or nothing; `changes`: what is different then
//! - `trial`: another configuration for a share of the connections first
//! - `give_way`: another process in the place of this one
//! - `stop`: how it ends
//!
//! This runs on the control runtime, on the process's main thread; the path of requests is on the
//! workers and is not held up by anything here. Signals and orders are carried out one at a time.

mod apply;
mod changes;
mod give_way;
mod start;
mod stop;
mod trial;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use config::Model;
use control::admin::Admin;
use control::auth;
use control::certificates::{Report, Upkeep};
use control::health::HealthChecks;
use control::history::{History, Texts};
use control::orders::{Applied, Author, Canary, Order, Orders, Refused, Reply};
use control::resolve::Resolving;
use control::tracing::Exporter;
use control::watch_config::Watch;
use control::writer::LogWriters;
use net::listener::Local;
use net::tls::Tickets;
use net::worker::Workers;
use proxy::challenges::Challenges;
use proxy::listener::Addresses;
use proxy::live::Live;
use proxy::log::ErrorLog;
use proxy::snapshot::Snapshot;
use proxy::worker::Worker;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::give_way::Succession;
use self::trial::Trial;
use crate::configuration::Source;
use crate::signals::{Event, Signals};
use crate::terminal::Failure;
use crate::upgrade::Progress;

/// Threads for name look-ups and other things that block; more of them wait for each other.
const BLOCKING_THREADS: usize = 8;

/// How often a configuration that is tried out is looked at, and what is left of those before.
const TICK: Duration = Duration::from_secs(1);

/// What is to be served.
pub(crate) struct Configuration {
    /// As it was read.
    pub(crate) model: Model,
    /// The texts that it was read from.
    pub(crate) texts: Texts,
    /// Where these come from.
    pub(crate) source: Source,
}

/// A running Ravelin.
pub(crate) struct Service {
    writers: LogWriters,
    log: ErrorLog,
    workers: Arc<Workers<Rc<Worker>>>,
    /// How many workers there are.
    count: usize,
    live: Arc<Live>,
    addresses: Addresses,
    /// The snapshot in force.
    snapshot: Rc<RefCell<Arc<Snapshot>>>,
    /// What it was compiled from.
    model: Rc<RefCell<Arc<Model>>>,
    history: Rc<RefCell<History>>,
    source: Source,
    /// Looks at all of this and gives orders, for those who may.
    admin: Admin,
    /// The certificates that sites show.
    reports: Rc<RefCell<Vec<Report>>>,
    /// Gives an order when the files change, if that is wanted.
    watch: Option<Watch>,
    /// Keys of TLS sessions, for the life of the process.
    tickets: Tickets,
    challenges: Arc<Challenges>,
    /// Renews certificates for as long as it is kept.
    certificates: Upkeep,
    /// Keeps what credentials are checked with up to date for as long as it is kept.
    credentials: auth::Upkeep,
    names: Resolving,
    /// Looks after endpoints for as long as it is kept.
    health: HealthChecks,
    /// Sends spans to a collector.
    spans: Exporter,
    /// A configuration that is tried out.
    trial: Option<Trial>,
    /// How many there were.
    trials: u32,
    /// The last generation that was made of the files, whether it is in force or was taken back.
    from_files: u64,
    /// Snapshots that were in force and may have requests under way. Kept here, so that none of them is
    /// taken apart on a worker.
    past: Vec<Arc<Snapshot>>,
    /// Endpoints that none in force uses, to which workers may have connections yet.
    gone: Vec<usize>,
    /// Something may be left to forget.
    sweep_due: bool,
    ticks: Interval,
    /// What was before this process, and what comes after it.
    succession: Succession,
    signals: Signals,
    /// Where orders are given …
    orders: Orders,
    /// … and come out.
    inbox: mpsc::Receiver<Order>,
    started: Instant,
}

/// The runtime for everything that is not the path of a request.
pub(crate) fn control_runtime() -> Result<LocalRuntime, Failure> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS);
    builder
        .build_local(LocalOptions::default())
        .map_err(|error| start::no_resources("start the control runtime", &error))
}

/// Something for the main loop to do.
enum Next {
    Signal(Event),
    Order(Box<Order>),
    Upgrade(Progress),
    Tick,
}

/// How serving ends.
struct Ending {
    grace: Duration,
}

impl Service {
    /// The addresses served, in the configuration's order, with their real ports.
    pub(crate) fn addresses(&self) -> Vec<Local> {
        self.addresses.locals()
    }

    /// Serves until a signal or an order ends it. Requests under way are given `drain_max` to finish,
    /// unless it is said otherwise or said again. All log lines are written when this returns.
    pub(crate) async fn until_stopped(mut self, drain_max: Duration) {
        let ending = loop {
            let ending = match self.next().await {
                Next::Signal(event) => self.obey(event, drain_max).await,
                Next::Order(order) => self.carry_out(*order, drain_max).await,
                Next::Upgrade(progress) => self.upgrade_goes(progress, drain_max).await,
                Next::Tick => {
                    self.look_at_trial().await;
                    self.sweep().await;
                    None
                }
            };
            if let Some(ending) = ending {
                break ending;
            }
        };
        self.stop(ending.grace).await;
    }

    async fn next(&mut self) -> Next {
        let has_ticks = self.trial.is_some() || self.sweep_due || !self.past.is_empty();
        poll_fn(|cx| {
            if let Poll::Ready(event) = self.signals.poll_next(cx) {
                return Poll::Ready(Next::Signal(event));
            }
            if let Poll::Ready(Some(order)) = self.inbox.poll_recv(cx) {
                return Poll::Ready(Next::Order(Box::new(order)));
            }
            if let Poll::Ready(progress) = self.succession.upgrade.poll_progress(cx) {
                return Poll::Ready(Next::Upgrade(progress));
            }
            match has_ticks && self.ticks.poll_tick(cx).is_ready() {
                true => Poll::Ready(Next::Tick),
                false => Poll::Pending,
            }
        })
        .await
    }

    async fn obey(&mut self, event: Event, drain_max: Duration) -> Option<Ending> {
        match event {
            Event::Drain => return Some(Ending { grace: drain_max }),
            Event::Quit => return Some(Ending { grace: Duration::ZERO }),
            Event::ReopenLogs => self.reopen_logs(),
            Event::Reload => {
                // What came of it is in the log.
                let _ = self.reload_told(None, Author::new("signal")).await;
            }
            Event::Upgrade => self.begin_upgrade(&Author::new("signal"), None),
        }
        None
    }

    async fn carry_out(&mut self, order: Order, drain_max: Duration) -> Option<Ending> {
        match order {
            Order::Reload { canary, author, reply } => {
                let done = self.reload_told(canary, author).await;
                answer(reply, done);
            }
            Order::Apply { files, canary, author, dry_run, reply } => {
                let done = match self.gives_way() {
                    Some(refused) => Err(refused),
                    None => self.take_texts(files, canary, author, dry_run).await,
                };
                answer(reply, done);
            }
            Order::Rollback { to, author, reply } => {
                let done = match self.gives_way() {
                    Some(refused) => Err(refused),
                    None => self.roll_back(to, author).await,
                };
                answer(reply, done);
            }
            Order::Upgrade { author, reply } => self.begin_upgrade(&author, Some(reply)),
            Order::Stop { grace, author } => {
                self.log.info(format_args!("told to stop by {author}"));
                return Some(Ending { grace: grace.unwrap_or(drain_max) });
            }
            Order::ReopenLogs => self.reopen_logs(),
            Order::SetLogLevel(level) => self.log.set_level(level),
        }
        None
    }

    /// Reads the files again, and tells the service manager so.
    async fn reload_told(
        &mut self,
        canary: Option<Canary>,
        author: Author,
    ) -> Result<Applied, Refused> {
        let refused = match canary {
            Some(_) => self.gives_way(),
            None => self.has_given_way(),
        };
        if let Some(refused) = refused {
            self.log.warn(format_args!("not reloaded: {refused}"));
            return Err(refused);
        }
        self.succession.manager.reloading();
        let done = self.reload(canary, author).await;
        self.succession.manager.ready();
        done
    }

    fn reopen_logs(&self) {
        if self.writers.reopen() {
            self.log.info(format_args!("log files opened anew"));
        }
    }
}

/// Whoever gave the order may have gone.
fn answer<T>(reply: Reply<T>, done: Result<T, Refused>) {
    let _nobody_waits = reply.send(done);
}

fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
