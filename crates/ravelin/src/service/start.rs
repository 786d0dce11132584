//! Starting: log writers, compiled snapshot, listening sockets, name resolution, health checks, workers, in
//! this order.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use config::Model;
use config::model::{Listen, LogTarget};
use control::admin::{self, Running};
use control::auth;
use control::certificates::{CertificateError, Certificates};
use control::health::{HealthChecks, PROBES_MAX};
use control::history::{Cause, Entry, History};
use control::orders::{Author, Orders};
use control::resolve;
use control::tracing::Exporter;
use control::writer::LogWriters;
use net::descriptors::raise_limit;
use net::worker::worker_count;
use proxy::challenges::Challenges;
use proxy::listener::{Addresses, BindError, Logs, serve};
use proxy::live::Live;
use proxy::log::ErrorLog;
use proxy::snapshot::Snapshot;

use super::give_way::Succession;
use super::{Configuration, Service};
use crate::announce;
use crate::health;
use crate::secure;
use crate::signals::Signals;
use crate::terminal::{self, Failure};
use crate::upgrade::Inheritance;

/// Descriptors left for files, logs, pipes, listening sockets and health checks when the number of
/// client connections is derived from the limit.
const DESCRIPTORS_KEPT: u64 = 128 + PROBES_MAX as u64;

/// What to do when the admin socket that is named cannot be made.
const ADMIN_SOCKET: &str = "choose another path with `socket` of `[management]`; without that key it is where the \
     user who runs Ravelin may have it";

/// A proxied connection has a client side and an upstream side.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;

/// What is there before anything else.
struct Parts<'a> {
    log: &'a ErrorLog,
    writers: &'a LogWriters,
    /// The limit on them.
    descriptors: io::Result<Option<u64>>,
    signals: Signals,
}

impl Service {
    /// Starts everything and says in the log what is served where. Call on the control runtime.
    ///
    /// # Errors
    /// Something cannot be had (an address, a log file, descriptors): nothing is left running.
    pub(crate) async fn start(
        configuration: Configuration,
        inheritance: &mut Inheritance,
    ) -> Result<Self, Failure> {
        let signals = Signals::new().map_err(|error| no_resources("take signals", &error))?;
        let descriptors = raise_limit();
        let logging = &configuration.model.logging;
        let writers = LogWriters::start(logging).map_err(|error| Failure::new(error, ""))?;
        let log = writers.error_log();
        let to_file = logs_to_file(&configuration.model);
        let parts = Parts { log: &log, writers: &writers, descriptors, signals };
        match Self::start_with(configuration, inheritance, parts).await {
            Ok(service) => Ok(service(writers)),
            Err(failure) => {
                if let (Failure::Plain(what, _), true) = (&failure, to_file) {
                    log.error(format_args!("{what}"));
                }
                writers.finish();
                Err(failure)
            }
        }
    }

    async fn start_with(
        configuration: Configuration,
        inheritance: &mut Inheritance,
        parts: Parts<'_>,
    ) -> Result<impl FnOnce(LogWriters) -> Self + use<>, Failure> {
        let Configuration { model, texts, source } = configuration;
        let Parts { log, writers, descriptors, signals } = parts;
        let live = Arc::new(Live::default());
        let mut spans = Exporter::start(&live, log.clone());
        let (snapshot, warnings) =
            Snapshot::compile(&model, &live).map_err(|error| Failure::new(error, ""))?;
        for warning in warnings {
            log.warn(format_args!("{warning}"));
        }
        net::tls::install();
        let to = spans.prepare(&model.tracing).map_err(|error| Failure::new(error, ""))?;
        spans.set(to);
        let tickets = std::mem::take(&mut inheritance.tickets);
        let mut certificates = Certificates::load(&model, log).map_err(no_certificates)?;
        let configs = secure::configs(&model, &certificates, &tickets)?;
        let mut snapshot =
            snapshot.with_tls(configs).with_challenge_ports(certificates.http_ports());
        let count = worker_count(model.performance.worker_threads);
        let change = Addresses::default()
            .prepare(&mut snapshot, count, &mut |listen, workers, backlog| {
                inheritance.stock.bind(listen, workers, backlog)
            })
            .map_err(|error| cannot_bind(&error))?;
        tell_missing(&change.missing, &mut certificates, log);
        let addresses = change.addresses;
        let credentials =
            auth::start(&snapshot.credentials, log).map_err(|error| Failure::new(error, ""))?;

        let names = resolve::start(Arc::clone(&live), &model.dns, log.clone()).await;
        let mut health = HealthChecks::new(log.clone());
        health.set(health::targets(&snapshot));

        let mut performance = model.performance.clone();
        if performance.max_connections.is_none() {
            performance.max_connections = connections_for(descriptors, log);
        }
        let logs = Logs { access: writers.access(), error: log.clone() };
        let challenges = Arc::new(Challenges::default());
        let snapshot = Arc::new(snapshot);
        let shared = (Arc::clone(&snapshot), Arc::clone(&challenges));
        let workers = serve(shared.0, Vec::new(), count, &performance, shared.1, logs)
            .map_err(|error| no_resources("start the workers", &error))?;
        let reports = Rc::new(RefCell::new(certificates.reports(&model)));
        let certificates = certificates.start(&challenges);

        announce(&model, log, &[announce::start(count, performance.max_connections)]);
        let mut history = History::default();
        let from_files = history.applied(Entry::new(Cause::Start, Author::new("start"), texts));
        let (orders, inbox) = Orders::channel();
        let watch = source.watch(&model, &orders);
        let started = Instant::now();
        let running = Running {
            workers: Arc::new(workers),
            live: Arc::clone(&live),
            snapshot: Rc::new(RefCell::new(snapshot)),
            model: Rc::new(RefCell::new(Arc::new(model))),
            history: Rc::new(RefCell::new(history)),
            certificates: reports,
            orders: orders.clone(),
            log: log.clone(),
            started,
        };
        let management = running.model.borrow().management.clone();
        let admin =
            admin::start(&management, source.paths(), running.clone(), inheritance.takes_over())
                .await;
        let admin = admin.map_err(|error| Failure::new(error, ADMIN_SOCKET))?;
        // Connections are taken only when nothing can fail any more: after an upgrade that fails they are
        // the old process's.
        for (number, bound) in change.opened {
            let opened = running.workers.open(number, bound).await;
            opened.map_err(|error| no_resources("listen", &error))?;
        }
        let model = Arc::clone(&running.model.borrow());
        announce(&model, log, &announce::serving(&model, &addresses.locals()));
        let Running { workers, snapshot, model, history, log, .. } = running.clone();
        Ok(move |writers| Self {
            writers,
            log,
            workers,
            count,
            live,
            addresses,
            snapshot,
            model,
            history,
            source,
            admin,
            reports: running.certificates,
            watch,
            tickets,
            challenges,
            certificates,
            credentials,
            names,
            health,
            spans,
            trial: None,
            trials: 0,
            from_files,
            past: Vec::new(),
            gone: Vec::new(),
            sweep_due: false,
            ticks: super::ticks(),
            succession: Succession::new(),
            signals,
            orders,
            inbox,
            started,
        })
    }
}

/// Tells of ports where challenges cannot be answered.
pub(super) fn tell_missing(missing: &[BindError], certificates: &mut Certificates, log: &ErrorLog) {
    for error in missing {
        log.warn(format_args!(
            "{error}; certificate authorities are asked to check by TLS-ALPN-01 first, unless a \
             `challenge_dir` says that HTTP-01 is answered there"
        ));
        if let Listen::Port(port) = error.listen {
            certificates.without_http(port);
        }
    }
}

/// Whether messages go where nobody who starts Ravelin by hand would see them.
fn logs_to_file(model: &Model) -> bool {
    matches!(model.logging.error_log, LogTarget::File(_))
}

fn announce(model: &Model, log: &ErrorLog, lines: &[String]) {
    for line in lines {
        log.info(format_args!("{line}"));
        if logs_to_file(model) {
            // Whoever starts it by hand should see that it serves.
            terminal::print(io::stderr(), &format!("{line}\n"));
        }
    }
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

pub(super) fn cannot_bind(error: &BindError) -> Failure {
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
        (ErrorKind::AddrInUse, Some(port)) => match &error.own {
            Some(own) => format!(
                "Ravelin itself listens at {own}, which takes the same connections: keep one of the \
                 two; to go from one to the other, leave both out of one reload, or restart"
            ),
            None => format!(
                "another process listens there, or has a connection from that port: \
                 `ss -tanp 'sport = :{port}'` shows which; stop it or choose another port"
            ),
        },
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

pub(super) fn no_certificates(errors: Vec<CertificateError>) -> Failure {
    let what: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let advice = errors.into_iter().map(|error| error.advice).find(|advice| !advice.is_empty());
    Failure::new(what.join("\n"), advice.unwrap_or_default())
}

pub(super) fn no_resources(what: &str, error: &io::Error) -> Failure {
    Failure::new(
        format!("cannot {what}: {error}"),
        "look at the limits of this user and container: `ulimit -a`",
    )
}
