//! What client connections a worker has now, what each is doing, and how to end one.
//!
//! A connection has an entry ([`Open`]) from its first byte of HTTP on, a tunnel another one
//! ([`Tunnel`]) for as long as it lasts. What they do is told by stores into these; the lists are only
//! walked when somebody asks ([`Connections::list`]).
//!
//! What always holds: nothing is allocated for a request; a list gives at most [`LIST_MAX`] entries at
//! once; to end a connection is to say so in its entry and to wake its task, which sees to the rest itself.

mod id;
mod open;
mod slab;
#[cfg(test)]
mod tests;
mod tunnels;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use net::timer::{Deadline, unix_millis};

pub use id::Id;
pub use open::{Doing, Open, OpenView, Seat, UnderWay};
pub use tunnels::{Moved, Tunnel, TunnelSeat, TunnelView};

use self::slab::Slab;
use crate::connection::ClientAddress;
use crate::recorder::Exchange;
use crate::worker::Worker;

/// Entries that one look at a worker's connections gives at most: it does nothing else meanwhile.
pub const LIST_MAX: usize = 1000;

/// Close statuses of WebSockets that an operator may choose (RFC 6455 §7.4).
pub const CLOSE_STATUSES: std::ops::RangeInclusive<u16> = 1000..=4999;

/// The open connections of one worker.
#[derive(Debug)]
pub struct Connections {
    worker: usize,
    /// How many are told to end at once and have not. Nearly always none, so that nobody needs to look at
    /// the entry of each.
    cut: Cell<usize>,
    open: RefCell<Slab<Open>>,
    tunnels: RefCell<Slab<Tunnel>>,
}

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Close {
    /// Not yet.
    No,
    /// As soon as it is between two requests; at once if it is.
    Politely,
    /// At once, also in the middle of a response, which its client cannot take for complete.
    AtOnce,
}

/// Which connections a list is to have.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only those behind this one in the order of their numbers.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// Only of this client.
    pub client: Option<IpAddr>,
    /// Only those that do this.
    pub doing: Option<Doing>,
}

/// A part of a worker's list.
#[derive(Debug, Clone)]
pub struct Listed<V> {
    /// How many there are in all.
    pub total: usize,
    /// Those that were wanted, in the order of their numbers.
    pub found: Vec<V>,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(worker: usize) -> Self {
        let (open, tunnels) = (RefCell::default(), RefCell::default());
        Self { worker, cut: Cell::new(0), open, tunnels }
    }

    /// The open connections.
    pub fn list(&self, wanted: &Wanted) -> Listed<OpenView> {
        let open = self.open.borrow();
        let fits = |open: &&Rc<Open>| {
            wanted.after.is_none_or(|after| open.number() > after)
                && wanted.client.is_none_or(|client| open.ip() == Some(client))
                && wanted.doing.is_none_or(|doing| open.doing() == doing)
        };
        let found = smallest(open.iter().filter(fits), wanted.limit, |open| open.number());
        Listed {
            total: open.len(),
            found: found.into_iter().map(|open| open.view(self.worker)).collect(),
        }
    }

    /// The open tunnels. Filters are for another thread: they take long.
    pub fn list_tunnels(&self, wanted: &Wanted) -> Listed<TunnelView> {
        let tunnels = self.tunnels.borrow();
        let fits = |tunnel: &&Rc<Tunnel>| {
            wanted.after.is_none_or(|after| tunnel.number() > after)
                && wanted.client.is_none_or(|client| tunnel.client() == Some(client))
        };
        let found = smallest(tunnels.iter().filter(fits), wanted.limit, |tunnel| tunnel.number());
        Listed {
            total: tunnels.len(),
            found: found.into_iter().map(|tunnel| tunnel.view(self.worker)).collect(),
        }
    }

    /// Ends a connection. False if there is none with this number.
    pub fn close(&self, number: u64, how: Close) -> bool {
        let open = self.open.borrow().iter().find(|open| open.number() == number).cloned();
        let Some(open) = open else { return false };
        if open.end(how) {
            self.cut.set(self.cut.get() + 1);
        }
        // What it tunnels would keep it open for hours.
        let tunnels = self.tunnels.borrow();
        tunnels.iter().filter(|tunnel| tunnel.connection() == number).for_each(|tunnel| {
            tunnel.end(Tunnel::GOING_AWAY);
        });
        true
    }

    /// Ends a tunnel: with a close frame of this status where frames are known, else both its connections
    /// just end. False if there is none with this number.
    pub fn close_tunnel(&self, number: u64, status: u16) -> bool {
        let tunnels = self.tunnels.borrow();
        let tunnel = tunnels.iter().find(|tunnel| tunnel.number() == number);
        tunnel.map(|tunnel| tunnel.end(status)).is_some()
    }

    /// Ends those of these tunnels that this worker has, and says how many they are. They are sorted.
    pub fn close_tunnels(&self, ids: &[Id], status: u16) -> usize {
        let tunnels = self.tunnels.borrow();
        let fits = |tunnel: &&Rc<Tunnel>| {
            ids.binary_search(&Id { worker: self.worker, number: tunnel.number() }).is_ok()
        };
        tunnels.iter().filter(fits).map(|tunnel| tunnel.end(status)).count()
    }

    /// Some connection is to end at once.
    pub fn any_cut(&self) -> bool {
        self.cut.get() > 0
    }

    fn remove(&self, open: &Open) {
        if open.is_cut() {
            self.cut.set(self.cut.get().saturating_sub(1));
        }
        let removed = self.open.borrow_mut().remove(open.slot());
        drop(removed); // after the list is free again
    }

    fn remove_tunnel(&self, tunnel: &Tunnel) {
        let removed = self.tunnels.borrow_mut().remove(tunnel.slot());
        drop(removed);
    }
}

/// Enters a connection of `client` that came in by `listener` into its worker's list, for as long as the
/// seat is kept; `deadline` is that which wakes its task.
pub fn enter(
    worker: &Rc<Worker>,
    client: &ClientAddress,
    listener: usize,
    tls: Option<Rc<net::tls::Facts>>,
    deadline: &Deadline,
) -> Seat {
    let nudge = deadline.nudge();
    let peer = client.ip().map(|ip| SocketAddr::new(ip, client.port()));
    let mut all = worker.connections.open.borrow_mut();
    let open = all.add(|number, slot| {
        let place = open::Place { number, slot, peer, listener, since_ms: unix_millis() };
        Open::new(place, tls, nudge)
    });
    drop(all);
    Seat::new(Rc::clone(worker), open)
}

/// Enters a tunnel of the connection with this `seat`, which `exchange` has become.
pub fn enter_tunnel(
    seat: &Seat,
    exchange: &Exchange<'_>,
    framed: bool,
    deadline: &Deadline,
) -> TunnelSeat {
    let worker = seat.worker();
    let nudge = deadline.nudge();
    let mut all = worker.connections.tunnels.borrow_mut();
    let tunnel = all.add(|number, slot| {
        let connection = seat.number();
        Tunnel::new(tunnels::Place { number, slot, connection, framed }, exchange, nudge)
    });
    drop(all);
    TunnelSeat::new(Rc::clone(worker), tunnel)
}

/// At most `limit` of these, those with the smallest numbers, in their order.
fn smallest<'a, T: 'a>(
    all: impl Iterator<Item = &'a Rc<T>>,
    limit: usize,
    number: impl Fn(&T) -> u64,
) -> Vec<&'a Rc<T>> {
    let limit = limit.min(LIST_MAX);
    let mut found: Vec<&Rc<T>> = all.collect();
    if found.len() > limit && limit > 0 {
        found.select_nth_unstable_by_key(limit, |one| number(one));
    }
    found.truncate(limit);
    found.sort_unstable_by_key(|one| number(one));
    found
}
