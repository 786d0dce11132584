//! One open tunnel, nearly always a WebSocket, as the list has it.

use std::cell::Cell;
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;

use net::timer::{Nudge, unix_millis};

use super::Id;
use crate::recorder::{Exchange, Kept};
use crate::worker::Worker;

/// An open tunnel. In this order, because what each message meets is one line of the cache then.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Tunnel {
    /// From the client, and from the upstream.
    moved: Cell<[Moved; 2]>,
    close: Cell<Option<u16>>,
    place: Place,
    kept: Kept,
    since_ms: u64,
    nudge: Nudge,
}

/// What does not change in an entry.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) slot: usize,
    /// The number of its connection.
    pub(super) connection: u64,
    /// Its frames are looked at.
    pub(super) framed: bool,
}

/// What has come through in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes.
    pub bytes: u64,
    /// Messages; 0 where frames are not looked at.
    pub messages: u64,
}

/// A tunnel in a list.
#[derive(Debug, Clone)]
pub struct TunnelView {
    /// What it is called.
    pub id: Id,
    /// What its connection is called.
    pub connection: Id,
    /// The request that it was.
    pub kept: Kept,
    /// When it was opened, in milliseconds since 1970.
    pub since_ms: u64,
    /// What came from the client.
    pub up: Moved,
    /// What came from the upstream.
    pub down: Moved,
    /// Frames are looked at, so that messages are counted and it can be closed with a status.
    pub framed: bool,
    /// It is told to end.
    pub closing: bool,
}

impl Tunnel {
    /// The close status of those that end with their connection, as at a restart.
    pub const GOING_AWAY: u16 = 1012;

    pub(super) fn new(place: Place, exchange: &Exchange<'_>, nudge: Nudge) -> Self {
        Self {
            place,
            kept: Kept::new(exchange),
            since_ms: unix_millis(),
            nudge,
            close: Cell::new(None),
            moved: Cell::default(),
        }
    }

    /// Its number on its worker.
    pub fn number(&self) -> u64 {
        self.place.number
    }

    pub(super) fn slot(&self) -> usize {
        self.place.slot
    }

    pub(super) fn connection(&self) -> u64 {
        self.place.connection
    }

    pub(super) fn client(&self) -> Option<IpAddr> {
        self.kept.exchange().facts.client
    }

    /// The request that it was.
    pub fn exchange(&self) -> Exchange<'_> {
        self.kept.exchange()
    }

    /// It is to end with this close status.
    pub fn asked_to_close(&self) -> Option<u16> {
        self.close.get()
    }

    pub(super) fn end(&self, status: u16) {
        if self.close.get().is_none() {
            self.close.set(Some(status));
        }
        self.nudge.wake();
    }

    /// So much has come through from the client, and from the upstream.
    pub fn moved(&self, up: Moved, down: Moved) {
        self.moved.set([up, down]);
    }

    pub(super) fn view(&self, worker: usize) -> TunnelView {
        let [up, down] = self.moved.get();
        TunnelView {
            id: Id { worker, number: self.number() },
            connection: Id { worker, number: self.connection() },
            kept: self.kept.clone(),
            since_ms: self.since_ms,
            up,
            down,
            framed: self.place.framed,
            closing: self.close.get().is_some(),
        }
    }
}

/// The place of a tunnel in the list. It ends when this is dropped.
pub struct TunnelSeat {
    worker: Rc<Worker>,
    tunnel: Rc<Tunnel>,
}

impl TunnelSeat {
    pub(super) fn new(worker: Rc<Worker>, tunnel: Rc<Tunnel>) -> Self {
        Self { worker, tunnel }
    }

    /// The entry, for those who have something to enter as long as the seat is held.
    pub fn entry(&self) -> Rc<Tunnel> {
        Rc::clone(&self.tunnel)
    }
}

impl Deref for TunnelSeat {
    type Target = Tunnel;

    fn deref(&self) -> &Tunnel {
        &self.tunnel
    }
}

impl Drop for TunnelSeat {
    fn drop(&mut self) {
        self.worker.connections.remove_tunnel(&self.tunnel);
    }
}
