//! Client connections. A protocol driver (one file each) reads requests, hands each to the
//! [exchange](crate::exchange), and sees to it that the connection ends as it should.

mod client_address;
pub mod h1;
mod linger;

pub use client_address::ClientAddress;

use std::rc::Rc;

use net::timer::Deadline;
use net::worker::{Accepted, ConnectionGuard};

use crate::carrier::Carrier;
use crate::worker::Worker;

/// A client connection and what is known of it for its whole life.
pub struct Connection {
    /// What requests and responses travel on.
    pub carrier: Carrier,
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// Who is at the other end.
    pub client: ClientAddress,
    /// Index of the listener it came in by.
    pub listener: usize,
    /// The one deadline of the connection: every time limit uses it in turn.
    pub deadline: Deadline,
    _guard: ConnectionGuard,
}

impl Connection {
    /// The connection that was accepted.
    pub fn new(worker: Rc<Worker>, accepted: Accepted) -> Self {
        Self {
            carrier: Carrier::Socket(accepted.stream),
            client: ClientAddress::new(&accepted.peer),
            listener: accepted.listener,
            deadline: worker.context.timers.deadline(),
            worker,
            _guard: accepted.guard,
        }
    }

    /// The port it came in by; 0 on a Unix socket.
    pub fn port(&self) -> u16 {
        self.worker.ports.get(self.listener).copied().unwrap_or(0)
    }
}
