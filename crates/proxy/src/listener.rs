//! From listening sockets to connections: starts the workers and gives each connection its driver.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use config::model::{Listen, LogFormat, Performance};
use net::listener::{BACKLOG, Bound, bind};
use net::worker::{Options, Workers, start};

use crate::challenges::Challenges;
use crate::connection::{self, Connection, h1};
use crate::local;
use crate::log::{AccessLog, ErrorLog, Sink};
use crate::snapshot::{Listener, Snapshot};
use crate::worker::{Shared, Worker};

/// Where log lines go.
#[derive(Debug, Clone)]
pub struct Logs {
    /// Blocks of access-log lines; `None` if requests are not logged.
    pub access: Option<Sink>,
    /// Shape of a line.
    pub format: LogFormat,
    /// Failures and messages.
    pub error: ErrorLog,
}

/// An address that cannot be listened at.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub listen: Listen,
    /// What the system says.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listen {
            Listen::Port(port) => write!(f, "cannot listen on port {port}: {}", self.error),
            Listen::Address(address) => write!(f, "cannot listen on {address}: {}", self.error),
            Listen::Unix(path) => {
                write!(f, "cannot listen on unix:{}: {}", path.display(), self.error)
            }
        }
    }
}

impl std::error::Error for BindError {}

/// Binds every address of `snapshot`, in its order, for `workers` workers. From here on connections
/// queue up; [`serve`] takes them. A listener that is there for challenges only and cannot be bound
/// is taken out of `snapshot` and returned with the reason.
///
/// # Errors
/// The first address that cannot be bound; what was bound is released.
pub fn bind_all(
    snapshot: &mut Snapshot,
    workers: usize,
) -> Result<(Vec<Bound>, Vec<BindError>), BindError> {
    let mut bound = Vec::with_capacity(snapshot.listeners.len());
    let mut missing = Vec::new();
    let listeners = std::mem::take(&mut snapshot.listeners);
    for listener in listeners {
        match bind_one(&listener, workers) {
            Ok(one) => {
                bound.push(one);
                snapshot.listeners.push(listener);
            }
            Err(error) if listener.for_challenges => missing.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((bound, missing))
}

fn bind_one(listener: &Listener, workers: usize) -> Result<Bound, BindError> {
    let listen = match &listener.listen {
        Listen::Port(port) => net::listener::Listen::Port(*port),
        Listen::Address(address) => net::listener::Listen::Address(*address),
        Listen::Unix(path) => net::listener::Listen::Unix(path.clone()),
    };
    let connections = &listener.connections;
    bind(&listen, workers, connections.backlog.unwrap_or(BACKLOG))
        .map(|bound| bound.with_max_connections(connections.max))
        .map_err(|error| BindError { listen: listener.listen.clone(), error })
}

/// Starts `workers` workers that serve `snapshot` at `bound`.
///
/// # Errors
/// No thread or descriptor to be had.
pub fn serve(
    snapshot: Arc<Snapshot>,
    bound: Vec<Bound>,
    workers: usize,
    performance: &Performance,
    challenges: Arc<Challenges>,
    logs: Logs,
) -> io::Result<Workers<Rc<Worker>>> {
    local::started();
    let ports: Vec<u16> = bound.iter().map(|bound| bound.port().unwrap_or(0)).collect();
    let options = Options {
        workers,
        listeners: bound,
        max_connections: performance.max_connections,
        max_per_address: snapshot.limits.connections_per_address,
    };
    start(
        options,
        move |context| {
            let access_log = AccessLog::new(logs.format, logs.access.clone());
            let error_log = logs.error.clone();
            let ports: Rc<[u16]> = ports.as_slice().into();
            let shared =
                Shared { snapshot: Arc::clone(&snapshot), challenges: Arc::clone(&challenges) };
            Worker::new(context.clone(), shared, ports, access_log, error_log)
        },
        |worker, accepted| {
            let worker = Rc::clone(worker);
            match worker.is_simple(accepted.listener) {
                true => {
                    let connection = Connection::new(worker, accepted);
                    tokio::task::spawn_local(h1::serve(connection));
                }
                false => {
                    tokio::task::spawn_local(connection::serve(worker, accepted));
                }
            }
        },
    )
}
