//! From listening sockets to connections: starts the workers and gives each connection its driver.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use config::Model;
use config::model::{CertificateSource, Connections, Listen, Performance};
use net::listener::{BACKLOG, Bound, Local};
use net::worker::{Options, Workers, start};

use crate::boxed::boxed;
use crate::challenges::Challenges;
use crate::connection::{self, Connection, h1};
use crate::local;
use crate::log::{AccessLog, AccessSettings, ErrorLog};
use crate::snapshot::{Listener, Snapshot};
use crate::worker::{Shared, Worker};

/// Where log lines go.
#[derive(Debug, Clone)]
pub struct Logs {
    /// What the access log is like; `None` if requests are not logged.
    pub access: Option<AccessSettings>,
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
    /// Where Ravelin itself takes some of its connections, if that is why.
    pub own: Option<Local>,
}

impl BindError {
    /// Names the address of `known` that is in the way, if one is.
    fn beside<'k>(self, known: impl IntoIterator<Item = &'k Known>) -> Self {
        let in_use = self.error.kind() == io::ErrorKind::AddrInUse;
        let mut own = known.into_iter().filter(|known| in_use && known.overlaps(&self.listen));
        let own = own.next().map(|known| known.local.clone());
        Self { own, ..self }
    }
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

/// Binds an address for so many workers, with so many places in the backlog of each.
pub type Bind<'a> = dyn FnMut(&net::listener::Listen, usize, i32) -> io::Result<Bound> + 'a;

/// What is listened at, whatever snapshots say of it.
///
/// An address keeps its number and its sockets for as long as it is listened at, and no number is given
/// twice.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    known: Vec<Known>,
    /// The first number that was never given.
    next: usize,
}

#[derive(Debug, Clone)]
struct Known {
    number: usize,
    listen: Listen,
    local: Local,
    /// As it was bound.
    connections: Connections,
}

/// What has to be opened and closed so that a snapshot can be served.
#[derive(Debug)]
pub struct Change {
    /// Those that are new, by their numbers.
    pub opened: Vec<(usize, Bound)>,
    /// Those that are gone, by their numbers.
    pub closed: Vec<usize>,
    /// Those that are there for challenges only and cannot be bound.
    pub missing: Vec<BindError>,
    /// What cannot be changed while it is listened there, one sentence each.
    pub warnings: Vec<String>,
    /// What is listened at then.
    pub addresses: Addresses,
}

impl Addresses {
    /// Binds the addresses of `snapshot` that are new, for `workers` workers, and gives all of its
    /// listeners their numbers and ports. From here on connections to the new ones queue up. A listener
    /// that is there for challenges only and cannot be bound is taken out of `snapshot`.
    ///
    /// # Errors
    /// The first address that cannot be bound; what was bound is released.
    pub fn prepare(
        &self,
        snapshot: &mut Snapshot,
        workers: usize,
        bind: &mut Bind<'_>,
    ) -> Result<Change, BindError> {
        let mut addresses = Self { known: Vec::new(), next: self.next };
        let (mut opened, mut missing, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for listener in snapshot.listeners.take() {
            let known = match self.known.iter().find(|known| known.listen == listener.listen) {
                Some(known) => {
                    warnings.extend(known.fixed(&listener));
                    known.clone()
                }
                None => match bind_one(&listener, workers, bind)
                    .map_err(|error| error.beside(self.known.iter().chain(&addresses.known)))
                {
                    Ok(bound) => {
                        let known = Known {
                            number: addresses.next,
                            listen: listener.listen.clone(),
                            local: bound.local().clone(),
                            connections: listener.connections,
                        };
                        addresses.next += 1;
                        opened.push((known.number, bound));
                        known
                    }
                    Err(error) if listener.for_challenges => {
                        missing.push(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            let (number, port) = (known.number, known.port());
            addresses.known.push(known);
            snapshot.listeners.add(listener.bound(number, port));
        }
        let is_gone = |number: &usize| addresses.known.iter().all(|known| known.number != *number);
        let closed = self.known.iter().map(|known| known.number).filter(is_gone).collect();
        Ok(Change { opened, closed, missing, warnings, addresses })
    }

    /// What was listened at `local` is closed, although a snapshot in force may have it: the next one that
    /// has it binds it anew.
    pub fn forget(&mut self, local: &Local) {
        self.known.retain(|known| known.local != *local);
    }

    /// Where is listened, in the configuration's order, with the ports that are really bound.
    pub fn locals(&self) -> Vec<Local> {
        self.known.iter().map(|known| known.local.clone()).collect()
    }

    /// Where the listener with this number listens.
    pub fn local(&self, number: usize) -> Option<&Local> {
        let known = self.known.iter().find(|known| known.number == number);
        known.map(|known| &known.local)
    }
}

impl Known {
    fn port(&self) -> u16 {
        match &self.local {
            Local::Ip(address) => address.port(),
            Local::Unix(_) => 0,
        }
    }

    /// Some connections to `wanted` come here: an address is of IPv4 or of IPv6, a port of both.
    fn overlaps(&self, wanted: &Listen) -> bool {
        let Local::Ip(local) = &self.local else { return false };
        match wanted {
            Listen::Unix(_) => false,
            Listen::Port(port) => local.port() == *port,
            Listen::Address(address) => {
                let (ip, other) = (local.ip(), address.ip());
                let of_one_family =
                    matches!(self.listen, Listen::Port(_)) || ip.is_ipv4() == other.is_ipv4();
                let one_is_all = ip.is_unspecified() || other.is_unspecified();
                local.port() == address.port() && (ip == other || of_one_family && one_is_all)
            }
        }
    }

    /// What `listener` wants that its sockets cannot be given any more.
    fn fixed(&self, listener: &Listener) -> Vec<String> {
        let (is, wants) = (&self.connections, &listener.connections);
        let at = &self.local;
        let say = |what: &str| format!("{what} of {at} stays as it is until Ravelin is restarted");
        let mut fixed = Vec::new();
        if is.max != wants.max {
            fixed.push(say("the most connections at once"));
        }
        if is.backlog != wants.backlog {
            fixed.push(say("the backlog"));
        }
        fixed
    }
}

fn bind_one(listener: &Listener, workers: usize, bind: &mut Bind<'_>) -> Result<Bound, BindError> {
    let listen = as_bound(&listener.listen);
    let connections = &listener.connections;
    bind(&listen, workers, connections.backlog.unwrap_or(BACKLOG))
        .map(|bound| bound.with_max_connections(connections.max))
        .map_err(|error| BindError { listen: listener.listen.clone(), error, own: None })
}

fn as_bound(listen: &Listen) -> net::listener::Listen {
    match listen {
        Listen::Port(port) => net::listener::Listen::Port(*port),
        Listen::Address(address) => net::listener::Listen::Address(*address),
        Listen::Unix(path) => net::listener::Listen::Unix(path.clone()),
    }
}

/// Every address that serving `model` listens at, each once, with its backlog: for a process that has to
/// bind them before it can do anything else.
pub fn addresses(model: &Model) -> Vec<(net::listener::Listen, i32)> {
    let mut addresses: Vec<(net::listener::Listen, i32)> = Vec::new();
    let mut add = |listen: &Listen, backlog: Option<i32>| {
        let listen = as_bound(listen);
        if addresses.iter().all(|(known, _)| *known != listen) {
            addresses.push((listen, backlog.unwrap_or(BACKLOG)));
        }
    };
    for site in &model.sites {
        site.listen.iter().for_each(|listen| add(listen, site.connections.backlog));
    }
    let is_listened_at = |port: u16| {
        model.sites.iter().flat_map(|site| &site.listen).any(|listen| match listen {
            Listen::Port(listened) => *listened == port,
            Listen::Address(address) => address.port() == port,
            Listen::Unix(_) => false,
        })
    };
    for tls in model.sites.iter().filter_map(|site| site.tls.as_ref()) {
        if let CertificateSource::Acme(acme) = &tls.certificate
            && !is_listened_at(acme.http_port)
        {
            add(&Listen::Port(acme.http_port), None);
        }
    }
    addresses
}

/// Starts `workers` workers that serve `snapshot` at `bound`, where each listener is at the place of its
/// number.
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
    let options = Options {
        workers,
        listeners: bound,
        max_connections: performance.max_connections,
        max_per_address: snapshot.limits.connections_per_address,
    };
    start(
        options,
        move |context| {
            let access_log = AccessLog::new(logs.access.clone());
            let error_log = logs.error.clone();
            let shared =
                Shared { snapshot: Arc::clone(&snapshot), challenges: Arc::clone(&challenges) };
            Worker::new(context.clone(), shared, access_log, error_log)
        },
        |worker, accepted| {
            let worker = Rc::clone(worker);
            match worker.is_simple(accepted.listener) {
                true => {
                    // In a box: a task is copied where it begins, and where it ends.
                    let connection = boxed(|| Connection::new(worker, accepted));
                    tokio::task::spawn_local(async move { h1::serve(&connection).await });
                }
                false => {
                    tokio::task::spawn_local(connection::serve(worker, accepted));
                }
            }
        },
    )
}
