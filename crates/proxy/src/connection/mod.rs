//! Client connections. A protocol driver (one file each) reads requests, hands each to the
//! [exchange](crate::exchange), and sees to it that the connection ends as it should.

mod client_address;
pub mod h1;
pub mod h2;
mod handshakes;
mod linger;
mod open;
mod preface;
mod proxy_protocol;

pub use client_address::ClientAddress;
pub use handshakes::Handshakes;
pub(crate) use linger::linger_on;
pub use open::serve;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use net::clock;
use net::timer::Deadline;
use net::tls::Facts;
use net::worker::{Accepted, ConnectionGuard};

use crate::carrier::Carrier;
use crate::connections::{self, Seat};
use crate::filters::ToldBefore;
use crate::forward::TunnelSlot;
use crate::log::{Record, Times};
use crate::worker::{LocalSnapshot, Worker};

/// When a connection was accepted, and how long its TLS handshake took.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// When it was accepted.
    pub at: Instant,
    /// Of its TLS handshake; `None` for a plain connection.
    pub tls: Option<Duration>,
}

/// A client connection and what is known of it for its whole life. In this order, because what each message of
/// a tunnel meets is two lines of the cache then.
#[repr(C, align(64))]
pub struct Connection {
    /// What requests and responses travel on.
    pub carrier: Carrier,
    /// What it passes on, if it has become a tunnel.
    pub tunnel: TunnelSlot,
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The one deadline of the connection: every time limit uses it in turn.
    pub deadline: Deadline,
    /// What its TLS handshake settled; `None` for a plain connection.
    pub tls: Option<Rc<Facts>>,
    /// Field lines about the client's certificate; empty where none was asked for.
    pub certificate_lines: Rc<[u8]>,
    /// Who is at the other end.
    pub client: ClientAddress,
    /// What upstreams were told of the client for an earlier request; of all its streams.
    pub told_before: Rc<ToldBefore>,
    /// Number of the listener it came in by.
    pub listener: usize,
    /// Number of the canary that it belongs to; 0: of none.
    pub canary: u32,
    /// How it came about, until its first request takes note of it.
    pub opened: Cell<Option<Opened>>,
    /// Its place in the list of connections, or that of its stream.
    pub seat: Seat,
    /// Counts the connection for as long as it lasts; streams leave that to their connection.
    pub guard: Option<ConnectionGuard>,
}

impl Opened {
    /// A connection that was accepted just now, if somebody wants to know.
    pub fn now(worker: &Worker) -> Option<Self> {
        worker.observes().then(|| Self { at: clock::now(), tls: None })
    }
}

impl Connection {
    /// A plain connection as it was accepted.
    pub fn new(worker: Rc<Worker>, accepted: Accepted) -> Self {
        let client = ClientAddress::new(&accepted.peer);
        let deadline = worker.context.timers.deadline();
        Self {
            carrier: Carrier::Socket(accepted.stream),
            tls: None,
            certificate_lines: Rc::default(),
            seat: connections::enter(&worker, &client, accepted.listener, None, &deadline),
            client,
            tunnel: TunnelSlot::default(),
            told_before: Rc::default(),
            listener: accepted.listener,
            canary: worker.canary_for_new(),
            deadline,
            opened: Cell::new(Opened::now(&worker)),
            worker,
            guard: Some(accepted.guard),
        }
    }

    /// What is known of every request that comes in by it.
    pub fn record(&self) -> Record<'_> {
        let mut record = Record::default();
        self.describe(&mut record);
        record
    }

    /// Records it.
    pub fn describe<'a>(&'a self, record: &mut Record<'a>) {
        let (client, tls) = (&self.client, self.tls.as_deref());
        describe(&self.worker, client, (self.listener, self.canary), tls, record);
    }

    /// The snapshot that its next request is served by.
    pub fn snapshot(&self) -> LocalSnapshot {
        self.worker.serving.of(self.listener, self.tls.is_some(), self.canary)
    }

    /// It is to end as soon as it is between two requests: the worker ends, or the listener that it came
    /// in by is gone or speaks something else, or an operator says so.
    pub fn ends(&self) -> bool {
        ends(&self.worker, self.listener, self.tls.is_some()) || self.seat.is_closing()
    }

    /// Says of the first request of the connection, whose head was there at `now`, how long it took to
    /// come to that.
    pub fn times_of_opening(&self, now: Instant, times: &mut Times) {
        let Some(Opened { at, tls }) = self.opened.take() else { return };
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let since = micros(now.saturating_duration_since(at));
        times.tls = tls.map(micros);
        let known = times.tls.unwrap_or(0).saturating_add(times.head.unwrap_or(0));
        times.accept = Some(since.saturating_sub(known));
    }

    /// The port it came in by; 0 on a Unix socket.
    pub fn port(&self) -> u16 {
        self.worker.serving.port_of(self.listener)
    }
}

/// What is known of a connection that has left its streams to themselves.
pub(crate) struct Known {
    pub(crate) client: ClientAddress,
    pub(crate) listener: usize,
    pub(crate) canary: u32,
    pub(crate) tls: Option<Rc<Facts>>,
    pub(crate) seat: Rc<Seat>,
}

impl Known {
    /// The snapshot that its next request is served by.
    pub(crate) fn snapshot(&self, worker: &Worker) -> LocalSnapshot {
        worker.serving.of(self.listener, self.tls.is_some(), self.canary)
    }

    /// It is to have no more requests.
    pub(crate) fn ends(&self, worker: &Worker) -> bool {
        ends(worker, self.listener, self.tls.is_some()) || self.seat.is_closing()
    }

    /// What is known of every request that comes in by it.
    pub(crate) fn record(&self, worker: &Worker) -> Record<'_> {
        let mut record = Record::default();
        let (canary, tls) = (self.canary, self.tls.as_deref());
        describe(worker, &self.client, (self.listener, canary), tls, &mut record);
        record
    }
}

fn ends(worker: &Worker, listener: usize, is_secure: bool) -> bool {
    worker.context.stopping() || !worker.serving.listens(listener, is_secure)
}

fn describe<'a>(
    worker: &Worker,
    client: &'a ClientAddress,
    (listener, canary): (usize, u32),
    tls: Option<&'a Facts>,
    record: &mut Record<'a>,
) {
    record.client = client.ip();
    record.client_text = client.text();
    record.client_port = client.port();
    record.tls = tls;
    record.listener = listener;
    record.port = worker.serving.port_of(listener);
    record.canary = canary;
    record.cache = "-";
}
