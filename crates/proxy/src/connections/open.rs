//! One open client connection as the list has it.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use net::timer::{Nudge, Tick};
use net::tls::Facts;

use super::{Close, Id};
use crate::balance::Member;
use crate::pool::Pool;
use crate::routes::Route;
use crate::snapshot::{Site, Snapshot};
use crate::worker::{LocalSnapshot, Worker};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It is between two requests, or had none yet.
    Idle,
    /// The client has sent a part of a head.
    Head,
    /// A request is being served; on HTTP/2 at least one.
    Exchange,
    /// It has become a tunnel.
    Tunnel,
}

impl Doing {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Exchange => "exchange",
            Self::Tunnel => "tunnel",
        }
    }

    /// What the word stands for.
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Idle, Self::Head, Self::Exchange, Self::Tunnel];
        all.into_iter().find(|doing| doing.as_str() == word)
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Open {
    place: Place,
    tls: Option<Rc<Facts>>,
    nudge: Nudge,
    close: Cell<Close>,
    http2: Cell<bool>,
    streams: Cell<u32>,
    requests: Cell<u64>,
    received: Cell<u64>,
    sent: Cell<u64>,
    doing: Cell<Doing>,
    since: Cell<Tick>,
    /// Where the request is, by the addresses of what it met in `snapshot`; 0 where it met nothing.
    met: Cell<Met>,
    snapshot: RefCell<Option<LocalSnapshot>>,
}

/// What does not change in an entry.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) slot: usize,
    pub(super) peer: Option<SocketAddr>,
    pub(super) listener: usize,
    /// When it was opened, in milliseconds since 1970.
    pub(super) since_ms: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Met {
    site: usize,
    route: usize,
    pool: usize,
    member: usize,
}

/// A connection in a list.
#[derive(Debug, Clone)]
pub struct OpenView {
    /// What it is called.
    pub id: Id,
    /// Who is at the other end; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The number of the listener it came in by.
    pub listener: usize,
    /// `HTTP/1` or `HTTP/2`.
    pub protocol: &'static str,
    /// Version, cipher suite and server name of its TLS.
    pub tls: Option<(&'static str, &'static str, Option<Box<str>>)>,
    /// When it was opened, in milliseconds since 1970.
    pub since_ms: u64,
    /// Requests that it brought, with that which is under way.
    pub requests: u64,
    /// Bytes of content that came of those that are over.
    pub request_bytes: u64,
    /// Bytes of content that were sent for those.
    pub response_bytes: u64,
    /// Streams that are open, on HTTP/2.
    pub streams: Option<u32>,
    /// What it is doing.
    pub doing: Doing,
    /// Since when.
    pub doing_for: Duration,
    /// Names of site, route, pool and endpoint that its request has met so far.
    pub met: [Option<Box<str>>; 4],
    /// It is told to end.
    pub closing: bool,
}

impl Open {
    pub(super) fn new(place: Place, tls: Option<Rc<Facts>>, nudge: Nudge) -> Self {
        Self {
            place,
            tls,
            nudge,
            close: Cell::new(Close::No),
            http2: Cell::new(false),
            streams: Cell::new(0),
            requests: Cell::new(0),
            received: Cell::new(0),
            sent: Cell::new(0),
            doing: Cell::new(Doing::Idle),
            since: Cell::new(Tick::now()),
            met: Cell::default(),
            snapshot: RefCell::default(),
        }
    }

    /// Its number on its worker.
    pub fn number(&self) -> u64 {
        self.place.number
    }

    pub(super) fn slot(&self) -> usize {
        self.place.slot
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.place.peer.map(|peer| peer.ip())
    }

    /// It is to end between two requests at the latest.
    pub fn is_closing(&self) -> bool {
        self.close.get() != Close::No
    }

    /// It is to end at once.
    pub fn is_cut(&self) -> bool {
        self.close.get() == Close::AtOnce
    }

    /// Says that it is to end so. Whether it is to end at once, and was not before.
    pub(super) fn end(&self, how: Close) -> bool {
        let before = self.close.replace(self.close.get().max(how));
        self.nudge.wake();
        how == Close::AtOnce && before != Close::AtOnce
    }

    /// It speaks HTTP/2.
    pub fn speaks_http2(&self) {
        self.http2.set(true);
    }

    /// What it is doing.
    pub fn doing(&self) -> Doing {
        match (self.http2.get(), self.streams.get()) {
            (false, _) => self.doing.get(),
            (true, 0) => Doing::Idle,
            (true, _) => Doing::Exchange,
        }
    }

    fn set(&self, doing: Doing) {
        self.doing.set(doing);
        self.since.set(Tick::now());
    }

    pub(super) fn view(&self, worker: usize) -> OpenView {
        let Place { number, peer, listener, since_ms, .. } = self.place;
        let snapshot = self.snapshot.borrow();
        let met = snapshot.as_ref().map(|snapshot| self.met.get().names(snapshot));
        OpenView {
            id: Id { worker, number },
            peer,
            listener,
            protocol: if self.http2.get() { "HTTP/2" } else { "HTTP/1" },
            tls: self.tls.as_ref().map(|tls| (tls.version, tls.cipher, tls.server_name.clone())),
            since_ms,
            requests: self.requests.get(),
            request_bytes: self.received.get(),
            response_bytes: self.sent.get(),
            streams: self.http2.get().then(|| self.streams.get()),
            doing: self.doing(),
            doing_for: Tick::now().since(self.since.get()),
            met: met.unwrap_or_default(),
            closing: self.is_closing(),
        }
    }
}

impl Met {
    /// The names of what is at these addresses in `snapshot`.
    fn names(self, snapshot: &Snapshot) -> [Option<Box<str>>; 4] {
        fn at<T>(all: &[T], address: usize) -> Option<&T> {
            all.iter().find(|one| ptr::from_ref(*one).addr() == address)
        }
        let site = at(&snapshot.sites, self.site);
        let route = site.and_then(|site| at(site.routes.routes(), self.route));
        let pools = site.and_then(|site| site.proxy.as_ref()).map(|proxy| &*proxy.pools);
        let pool = at(pools.unwrap_or_default(), self.pool);
        let member = pool.and_then(|pool| at(pool.balancer.members(), self.member));
        let name = |name: Option<&String>| name.map(|name| name.as_str().into());
        [
            name(site.map(|site| &site.name)),
            name(route.map(|route| &route.name)),
            name(pool.map(|pool| &pool.name)),
            name(member.map(|member| &member.url)),
        ]
    }
}

/// The place of a connection, or of a stream of it, in the list. It ends when this is dropped.
pub struct Seat {
    worker: Rc<Worker>,
    open: Rc<Open>,
    is_stream: bool,
}

impl Seat {
    pub(super) fn new(worker: Rc<Worker>, open: Rc<Open>) -> Self {
        Self { worker, open, is_stream: false }
    }

    /// That of a stream of this connection.
    #[must_use]
    pub fn stream(&self) -> Self {
        let streams = &self.open.streams;
        if streams.replace(streams.get().saturating_add(1)) == 0 {
            self.open.since.set(Tick::now());
        }
        Self { worker: Rc::clone(&self.worker), open: Rc::clone(&self.open), is_stream: true }
    }

    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// A part of a head has come.
    pub fn reads_head(&self) {
        self.set(Doing::Head);
    }

    /// A request is served by `snapshot` for as long as what is returned is kept.
    pub fn begins(&self, snapshot: &LocalSnapshot) -> UnderWay<'_> {
        self.open.requests.set(self.open.requests.get().saturating_add(1));
        if !self.is_stream {
            self.open.set(Doing::Exchange);
            self.open.snapshot.replace(Some(Rc::clone(snapshot)));
        }
        UnderWay(self)
    }

    /// It has met this site, and perhaps a route of it.
    pub fn met(&self, site: &Site, route: Option<&Route>) {
        if self.is_stream {
            return;
        }
        let met = Met { site: address(Some(site)), route: address(route), ..Met::default() };
        self.open.met.set(met);
    }

    /// It goes to a member of this pool.
    pub fn tries(&self, pool: &Pool, member: &Member) {
        if self.is_stream {
            return;
        }
        let met = self.open.met.get();
        let (pool, member) = (address(Some(pool)), address(Some(member)));
        self.open.met.set(Met { pool, member, ..met });
    }

    /// It has become a tunnel.
    pub fn tunnels(&self) {
        self.set(Doing::Tunnel);
    }

    /// A request is over for which so many bytes of content came and were sent.
    pub fn passed(&self, received: u64, sent: u64) {
        let open = &self.open;
        open.received.set(open.received.get().saturating_add(received));
        open.sent.set(open.sent.get().saturating_add(sent));
    }

    fn set(&self, doing: Doing) {
        if !self.is_stream {
            self.open.set(doing);
        }
    }
}

impl Deref for Seat {
    type Target = Open;

    fn deref(&self) -> &Open {
        &self.open
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.is_stream {
            return self.worker.connections.remove(&self.open);
        }
        let streams = self.open.streams.get().saturating_sub(1);
        self.open.streams.set(streams);
        if streams == 0 {
            self.open.since.set(Tick::now());
        }
    }
}

/// A request of a connection that is being served.
pub struct UnderWay<'s>(&'s Seat);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let Self(Seat { open, is_stream, .. }) = self;
        if !is_stream {
            open.set(Doing::Idle);
            open.met.set(Met::default());
            let done = open.snapshot.replace(None);
            drop(done); // it may be the last that keeps the snapshot
        }
    }
}

fn address<T>(of: Option<&T>) -> usize {
    of.map_or(0, |of| ptr::from_ref(of).addr())
}
