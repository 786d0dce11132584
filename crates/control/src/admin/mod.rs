//! The admin API: where a running Ravelin is looked at and told what to do.
//!
//! - [`routes`]: the table of everything it answers, from which requests are dispatched and the OpenAPI
//!   document is made; one file of [`api`] a part
//! - [`gate`]: who may ask: tokens, `Host`, `Origin`
//! - [`listen`]: the Unix socket, the TCP address, the address for metrics
//! - [`connection`]: HTTP on one connection, with a bound on everything a client can hold
//! - `places`: how many connections there may be, and who gives way when there are more
//! - [`socket`]: where the Unix socket is, for those who serve at it and those who look for it
//!
//! All of it runs on the control runtime. What always holds: a client that is slow, or does not read, or
//! asks too much costs a place among [`bounds`], nothing else; workers are asked by
//! [`Workers::ask`], which they answer between two steps of their own tasks, and never wait for anybody here.

mod api;
pub mod bounds;
mod connection;
pub(crate) mod gate;
mod listen;
mod openapi;
mod patient;
pub(crate) mod places;
pub(crate) mod query;
mod request;
mod response;
mod routes;
pub mod schema;
pub mod socket;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use config::Model;
use config::model::Management;
use net::worker::Workers;
use proxy::live::Live;
use proxy::log::ErrorLog;
use proxy::snapshot::Snapshot;
use proxy::worker::Worker;
use tokio::sync::Semaphore;

use self::gate::Gate;
use self::listen::Listeners;
use crate::certificates::Report;
use crate::history::History;
use crate::orders::Orders;

pub use self::query::encode;
pub use self::request::Request;
pub use self::response::{Body, Problem, Response};
pub use self::routes::{Answer, Handler, Route, documented};

/// What runs, as those see it who look at it. Clones see the same.
#[derive(Clone)]
pub struct Running {
    /// The workers, to be asked.
    pub workers: Arc<Workers<Rc<Worker>>>,
    /// What outlives snapshots.
    pub live: Arc<Live>,
    /// The snapshot in force.
    pub snapshot: Rc<RefCell<Arc<Snapshot>>>,
    /// What it was compiled from.
    pub model: Rc<RefCell<Arc<Model>>>,
    /// What was served, and by whose order.
    pub history: Rc<RefCell<History>>,
    /// The certificates that sites show.
    pub certificates: Rc<RefCell<Vec<Report>>>,
    /// Where orders are given.
    pub orders: Orders,
    /// The error log.
    pub log: ErrorLog,
    /// When the process began to serve.
    pub started: Instant,
}

/// The admin API at work. It ends when this is dropped.
pub struct Admin {
    state: Rc<State>,
    listeners: Listeners,
}

/// What all connections have in common.
struct State {
    running: Running,
    /// Who may ask, as the configuration in force says.
    gate: RefCell<Rc<Gate>>,
    /// Places of those who follow a stream.
    followers: Arc<Semaphore>,
    /// Requests without the right key: when they were told of, and how many there were since.
    keyless: Cell<(Option<Instant>, u64)>,
    /// The process that started this one gives way to it, and may have an address for a moment yet.
    takes_over: bool,
}

/// Serves the admin API as `management` says, for the process that was started with the files of
/// `configuration` (as given on the command line). What cannot be had is told in the log and tried again,
/// so that the path of requests does not depend on it. With `takes_over` the process that started this one
/// gives way to it, with its socket too. Call on the control runtime.
///
/// # Errors
/// The socket that `management` names cannot be made.
pub async fn start(
    management: &Management,
    configuration: &[PathBuf],
    running: Running,
    takes_over: bool,
) -> Result<Admin, String> {
    let state = Rc::new(State {
        gate: RefCell::new(Rc::new(Gate::new(management))),
        followers: Arc::new(Semaphore::new(bounds::FOLLOWERS_MAX)),
        keyless: Cell::default(),
        takes_over,
        running,
    });
    let mut listeners = Listeners::new(configuration);
    listeners.set(management, &state, true).await?;
    Ok(Admin { state, listeners })
}

impl Admin {
    /// What a new configuration says holds from now on: addresses that are the same stay open, and so do
    /// connections, whose next requests meet the new keys. What cannot be had is told in the log.
    pub async fn set(&mut self, management: &Management) {
        *self.state.gate.borrow_mut() = Rc::new(Gate::new(management));
        if let Err(error) = self.listeners.set(management, &self.state, false).await {
            self.state.running.log.warn(format_args!("{error}"));
        }
    }

    /// Accepts no more connections: another process takes over the addresses. Those that are open stay.
    pub fn stop_listening(&mut self) {
        self.listeners.close();
    }
}
