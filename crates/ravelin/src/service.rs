//! Everything that runs while Ravelin serves, in the order it is started: log writers, compiled
//! snapshot, listening sockets, name resolution, health checks, workers. Ended in the reverse order.
//!
//! This runs on the control runtime, on the process's main thread; the path of requests is on the
//! workers and is not held up by anything here.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use config::Model;
use config::model::{Listen, LogTarget};
use control::auth;
use control::certificates::{CertificateError, Certificates, Upkeep};
use control::health::{HealthChecks, PROBES_MAX};
use control::resolve;
use control::writer::LogWriters;
use net::descriptors::raise_limit;
use net::listener::{Bound, Local};
use net::tls::Tickets;
use net::worker::{Workers, worker_count};
use proxy::challenges::Challenges;
use proxy::listener::{BindError, Logs, bind_all, serve};
use proxy::live::Live;
use proxy::log::ErrorLog;
use proxy::snapshot::Snapshot;
use proxy::worker::Worker;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::JoinHandle;

use crate::announce;
use crate::configuration::count;
use crate::health;
use crate::secure;
use crate::signals::{Event, Signals};
use crate::terminal::{self, Failure};

/// Descriptors left for files, logs, pipes, listening sockets and health checks when the number of
/// client connections is derived from the limit.
const DESCRIPTORS_KEPT: u64 = 128 + PROBES_MAX as u64;

/// A proxied connection has a client side and an upstream side.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;

/// Threads for name look-ups, which block; more names than this wait for each other.
const LOOKUP_THREADS: usize = 8;

/// A running Ravelin.
pub(crate) struct Service {
    writers: LogWriters,
    log: ErrorLog,
    workers: Arc<Workers<Rc<Worker>>>,
    addresses: Vec<Local>,
    signals: Signals,
    started: Instant,
    /// Renews certificates for as long as it is kept.
    certificates: Upkeep,
    /// Keeps what credentials are checked with up to date for as long as it is kept.
    credentials: auth::Upkeep,
    /// Looks after endpoints for as long as it is kept.
    _health: HealthChecks,
}

/// What [`Service::start_with`] has started.
struct Started {
    workers: Arc<Workers<Rc<Worker>>>,
    addresses: Vec<Local>,
    signals: Signals,
    certificates: Upkeep,
    credentials: auth::Upkeep,
    health: HealthChecks,
}

/// The runtime for everything that is not the path of a request.
pub(crate) fn control_runtime() -> Result<LocalRuntime, Failure> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(LOOKUP_THREADS);
    builder
        .build_local(LocalOptions::default())
        .map_err(|error| no_resources("start the control runtime", &error))
}

impl Service {
    /// Starts everything and says in the log what is served where. Call on the control runtime.
    ///
    /// # Errors
    /// Something cannot be had (an address, a log file, descriptors): nothing is left running.
    pub(crate) async fn start(model: &Model) -> Result<Self, Failure> {
        let signals = Signals::new().map_err(|error| no_resources("take signals", &error))?;
        let descriptors = raise_limit();
        let writers = LogWriters::start(&model.logging).map_err(|error| Failure::new(error, ""))?;
        let log = writers.error_log();
        match Self::start_with(model, &writers, descriptors, signals).await {
            Ok(Started {
                workers,
                addresses,
                signals,
                certificates,
                credentials,
                health: _health,
            }) => {
                let started = Instant::now();
                Ok(Self {
                    writers,
                    log,
                    workers,
                    addresses,
                    signals,
                    started,
                    certificates,
                    credentials,
                    _health,
                })
            }
            Err(failure) => {
                if let (Failure::Plain(what, _), true) = (&failure, logs_to_file(model)) {
                    log.error(format_args!("{what}"));
                }
                writers.finish();
                Err(failure)
            }
        }
    }

    async fn start_with(
        model: &Model,
        writers: &LogWriters,
        descriptors: io::Result<Option<u64>>,
        signals: Signals,
    ) -> Result<Started, Failure> {
        let log = writers.error_log();
        let live = Arc::new(Live::default());
        let (snapshot, warnings) =
            Snapshot::compile(model, &live).map_err(|error| Failure::new(error, ""))?;
        for warning in warnings {
            log.warn(format_args!("{warning}"));
        }
        net::tls::install();
        let mut certificates = Certificates::load(model, &log).map_err(no_certificates)?;
        let configs = secure::configs(model, &certificates, &Tickets::new())?;
        let mut snapshot =
            snapshot.with_tls(configs).with_challenge_ports(certificates.http_ports());
        let count = worker_count(model.performance.worker_threads);
        let (bound, missing) =
            bind_all(&mut snapshot, count).map_err(|error| cannot_bind(&error))?;
        for error in missing {
            log.warn(format_args!(
                "{error}; certificate authorities are asked to check by TLS-ALPN-01 first, unless a \
                 `challenge_dir` says that HTTP-01 is answered there"
            ));
            if let Listen::Port(port) = error.listen {
                certificates.without_http(port);
            }
        }
        let addresses: Vec<Local> = bound.iter().map(Bound::local).cloned().collect();
        let credentials =
            auth::start(&snapshot.credentials, &log).map_err(|error| Failure::new(error, ""))?;

        resolve::start(live, &model.dns, log.clone()).await;
        let mut health = HealthChecks::new(log.clone());
        health.set(health::targets(&snapshot));

        let mut performance = model.performance.clone();
        if performance.max_connections.is_none() {
            performance.max_connections = connections_for(descriptors, &log);
        }
        let logs = Logs {
            access: writers.access_sink(),
            format: model.logging.format,
            error: log.clone(),
        };
        let challenges = Arc::new(Challenges::default());
        let workers =
            serve(Arc::new(snapshot), bound, count, &performance, Arc::clone(&challenges), logs)
                .map_err(|error| no_resources("start the workers", &error))?;
        let certificates = certificates.start(&challenges);

        let lines = announce::start(model, &addresses, count, performance.max_connections);
        for line in &lines {
            log.info(format_args!("{line}"));
            if logs_to_file(model) {
                // Whoever starts it by hand should see that it serves.
                terminal::print(io::stderr(), &format!("{line}\n"));
            }
        }
        let workers = Arc::new(workers);
        Ok(Started { workers, addresses, signals, certificates, credentials, health })
    }

    /// The addresses served, in the configuration's order, with their real ports.
    pub(crate) fn addresses(&self) -> &[Local] {
        &self.addresses
    }

    /// Serves until a signal ends it. Requests under way are given `drain_max` to finish, unless the
    /// signal says at once or is repeated. All log lines are written when this returns.
    pub(crate) async fn until_stopped(mut self, drain_max: Duration) {
        let at_once = loop {
            match self.signals.next().await {
                Event::Drain => break false,
                Event::Quit => break true,
                Event::ReopenLogs => {
                    self.writers.reopen();
                    self.log.info(format_args!("log files opened anew"));
                }
                Event::Reload => {
                    self.certificates.look_now();
                    self.credentials.look_now();
                    self.log.warn(format_args!(
                        "SIGHUP: certificates, users and keys are read anew; taking a new configuration without a \
                         restart is not built yet"
                    ));
                }
                Event::NotBuilt(signal, meaning) => self.log.warn(format_args!(
                    "{signal} ignored: {meaning} is not built yet; restart to take a new \
                     configuration"
                )),
            }
        };
        self.stop(if at_once { Duration::ZERO } else { drain_max }).await;
    }

    async fn stop(mut self, grace: Duration) {
        let connections: usize = self.workers.counters().iter().map(|one| one.connections).sum();
        if connections > 0 && !grace.is_zero() {
            let seconds = grace.as_secs();
            self.log.info(format_args!(
                "stopping: {} open, waiting up to {seconds} s for requests under way",
                count(connections, "connection")
            ));
        }
        self.workers.stop(grace);
        let workers = Arc::clone(&self.workers);
        let mut ended = tokio::task::spawn_blocking(move || workers.join());
        while let Some(event) = ended_or_signal(&mut ended, &mut self.signals).await {
            if matches!(event, Event::Drain | Event::Quit) {
                self.log.info(format_args!("stopping at once"));
                self.workers.stop(Duration::ZERO);
            }
        }
        self.log.info(format_args!("{}", announce::end(&self.workers, self.started.elapsed())));
        self.writers.finish();
    }
}

/// Whether messages go where nobody who starts Ravelin by hand would see them.
fn logs_to_file(model: &Model) -> bool {
    matches!(model.logging.error_log, LogTarget::File(_))
}

/// The next signal, or `None` as soon as the task has ended.
async fn ended_or_signal(ended: &mut JoinHandle<()>, signals: &mut Signals) -> Option<Event> {
    poll_fn(|context| match Pin::new(&mut *ended).poll(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => signals.poll_next(context).map(Some),
    })
    .await
}

/// How many client connections the descriptors suffice for.
fn connections_for(descriptors: io::Result<Option<u64>>, log: &ErrorLog) -> Option<usize> {
    match descriptors {
        Ok(Some(limit)) => {
            let each = limit.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_PER_CONNECTION;
            // With a tiny limit accepting still has to go on; it pauses when there are none left.
            Some(usize::try_from(each).unwrap_or(usize::MAX).max(1))
        }
        Ok(None) => None,
        Err(error) => {
            log.warn(format_args!(
                "cannot raise the limit on open files: {error}; `ulimit -n` shows what is left"
            ));
            None
        }
    }
}

fn cannot_bind(error: &BindError) -> Failure {
    let what = error.to_string();
    let port = match &error.listen {
        Listen::Port(port) => Some(*port),
        Listen::Address(address) => Some(address.port()),
        Listen::Unix(_) => None,
    };
    let advice = match (error.error.kind(), port) {
        (ErrorKind::PermissionDenied, Some(port)) => {
            let binary = std::env::current_exe().unwrap_or_else(|_| "ravelin".into());
            format!(
                "port {port} needs a privilege: give it to the binary with `sudo setcap \
                 cap_net_bind_service=+ep {}`, or choose a port from 1024 up",
                binary.display()
            )
        }
        (ErrorKind::AddrInUse, Some(port)) => format!(
            "another process listens there, `ss -ltnp 'sport = :{port}'` shows which; stop it or \
             choose another port"
        ),
        (ErrorKind::AddrNotAvailable, _) => {
            "this machine does not have that address, `ip address` shows those it has".to_owned()
        }
        (ErrorKind::NotFound, None) => "create the socket's directory first".to_owned(),
        (ErrorKind::PermissionDenied, None) => {
            "choose a directory that the user who runs Ravelin may write".to_owned()
        }
        _ => String::new(),
    };
    Failure::new(what, advice)
}

fn no_certificates(errors: Vec<CertificateError>) -> Failure {
    let what: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let advice = errors.into_iter().map(|error| error.advice).find(|advice| !advice.is_empty());
    Failure::new(what.join("\n"), advice.unwrap_or_default())
}

fn no_resources(what: &str, error: &io::Error) -> Failure {
    Failure::new(
        format!("cannot {what}: {error}"),
        "look at the limits of this user and container: `ulimit -a`",
    )
}
