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

use std::rc::Rc;

use net::timer::Deadline;
use net::tls::Facts;
use net::worker::{Accepted, ConnectionGuard};

use crate::carrier::Carrier;
use crate::worker::Worker;

/// A client connection and what is known of it for its whole life.
pub struct Connection {
    /// What requests and responses travel on.
    pub carrier: Carrier,
    /// What its TLS handshake settled; `None` for a plain connection.
    pub tls: Option<Rc<Facts>>,
    /// Field lines about the client's certificate; empty where none was asked for.
    pub certificate_lines: Rc<[u8]>,
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// Who is at the other end.
    pub client: ClientAddress,
    /// Index of the listener it came in by.
    pub listener: usize,
    /// The one deadline of the connection: every time limit uses it in turn.
    pub deadline: Deadline,
    /// Counts the connection for as long as it lasts; streams leave that to their connection.
    pub guard: Option<ConnectionGuard>,
}

impl Connection {
    /// A plain connection as it was accepted.
    pub fn new(worker: Rc<Worker>, accepted: Accepted) -> Self {
        Self {
            carrier: Carrier::Socket(accepted.stream),
            tls: None,
            certificate_lines: Rc::default(),
            client: ClientAddress::new(&accepted.peer),
            listener: accepted.listener,
            deadline: worker.context.timers.deadline(),
            worker,
            guard: Some(accepted.guard),
        }
    }

    /// The port it came in by; 0 on a Unix socket.
    pub fn port(&self) -> u16 {
        self.worker.ports.get(self.listener).copied().unwrap_or(0)
    }
}
