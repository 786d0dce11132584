//! Which snapshot a connection of a worker is served by.
//!
//! Nearly always the one in force, looked up anew by each request. There are two exceptions: while a
//! new snapshot is tried out (a canary), a share of the new connections gets that one and stays with
//! it; and a connection whose listener the snapshot in force does not have any more is served by the last
//! one that had it, for as long as it takes to end politely.
//!
//! What always holds: a connection never gets a snapshot without its listener while there may be a request
//! under way; what was counted for a canary is of its own time only.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use net::timer::Tick;

use crate::log::{Ended, Party, Record};
use crate::snapshot::Snapshot;
use crate::worker::LocalSnapshot;

/// A connection that had no request when its listener went may still bring one: it may be in the midst of
/// its TLS handshake or its first head. Beyond that time it meets a snapshot that knows nothing of it.
const GONE_FOR: Duration = Duration::from_secs(30);

/// Snapshots that are kept for such connections; with more reloads in that time the oldest goes.
const GONE_MAX: usize = 4;

/// Shares are in millionths.
const WHOLE: u32 = 1_000_000;

/// Time classes of a [`Group`]: each is a quarter of a power of two of microseconds wide.
pub const CLASSES: usize = 128;

/// The snapshots of a worker.
#[derive(Debug)]
pub struct Serving {
    in_force: RefCell<LocalSnapshot>,
    canary: RefCell<Option<Rc<Canary>>>,
    gone: RefCell<Vec<Gone>>,
    /// Of each listener by its number, those that are gone too.
    ports: RefCell<Vec<u16>>,
}

/// A snapshot that is tried out.
#[derive(Debug)]
struct Canary {
    /// Greater than 0, and another one each time.
    number: u32,
    snapshot: LocalSnapshot,
    /// The share of new connections that get it, of [`WHOLE`].
    share: u32,
    /// What came of requests of other connections, and of those with it.
    groups: [Counting; 2],
}

/// A listener that the snapshot in force does not have, or not so.
#[derive(Debug)]
struct Gone {
    number: usize,
    is_secure: bool,
    snapshot: LocalSnapshot,
    since: Tick,
}

#[derive(Debug)]
struct Counting {
    requests: Cell<u64>,
    failures: Cell<u64>,
    classes: RefCell<[u64; CLASSES]>,
}

/// What came of the requests of a group of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// How many have ended.
    pub requests: u64,
    /// Of these, how many were answered 5xx or broke off, not by their client.
    pub failures: u64,
    /// How many took how long, by [`class_of`].
    pub classes: [u64; CLASSES],
}

impl Default for Group {
    fn default() -> Self {
        Self { requests: 0, failures: 0, classes: [0; CLASSES] }
    }
}

impl Group {
    /// Adds what another worker has counted.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        for (sum, more) in self.classes.iter_mut().zip(&other.classes) {
            *sum = sum.saturating_add(*more);
        }
    }
}

/// The time class of so many microseconds.
pub fn class_of(micros: u64) -> usize {
    let micros = micros.max(4);
    let power = 63 - micros.leading_zeros() as usize;
    let quarter = (micros >> (power - 2)) as usize & 3;
    (power * 4 + quarter).min(CLASSES - 1)
}

/// The most microseconds of a time class.
pub fn most_of(class: usize) -> u64 {
    let (power, quarter) = (class / 4, class as u64 % 4);
    (4 + quarter + 1).checked_shl(power.saturating_sub(2) as u32).unwrap_or(u64::MAX) - 1
}

impl Serving {
    /// Everything is served by `snapshot`.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        let serving = Self {
            in_force: RefCell::new(Rc::new(snapshot)),
            canary: RefCell::default(),
            gone: RefCell::default(),
            ports: RefCell::default(),
        };
        serving.note_ports();
        serving
    }

    /// The snapshot in force.
    pub fn in_force(&self) -> LocalSnapshot {
        Rc::clone(&self.in_force.borrow())
    }

    /// The snapshot for a request on a connection to this listener, with TLS or without, that belongs to
    /// this canary (0: to none).
    pub fn of(&self, listener: usize, is_secure: bool, canary: u32) -> LocalSnapshot {
        self.find(
            canary,
            |known| known.number == listener && known.is_secure == is_secure,
            || self.listens(listener, is_secure),
        )
    }

    /// The snapshot for a connection that was just accepted at this listener.
    pub fn at(&self, listener: usize, canary: u32) -> LocalSnapshot {
        let is_there = || self.in_force.borrow().listeners.get(listener).is_some();
        self.find(canary, |known| known.number == listener, is_there)
    }

    fn find(
        &self,
        canary: u32,
        is_meant: impl Fn(&Gone) -> bool,
        is_there: impl FnOnce() -> bool,
    ) -> LocalSnapshot {
        if canary != 0
            && let Some(running) = &*self.canary.borrow()
            && running.number == canary
        {
            return Rc::clone(&running.snapshot);
        }
        if !is_there()
            && let Some(gone) = self.gone.borrow().iter().rev().find(|gone| is_meant(gone))
        {
            return Rc::clone(&gone.snapshot);
        }
        self.in_force()
    }

    /// The snapshot in force has this listener, and TLS is spoken there or not: connections to it may have
    /// more requests.
    pub fn listens(&self, listener: usize, is_secure: bool) -> bool {
        let in_force = self.in_force.borrow();
        in_force.listeners.get(listener).is_some_and(|listener| listener.tls == is_secure)
    }

    /// The port of a listener, also of one that is gone; 0 on a Unix socket.
    pub fn port_of(&self, listener: usize) -> u16 {
        self.ports.borrow().get(listener).copied().unwrap_or(0)
    }

    /// Puts a snapshot in force, and ends a canary. True: some listener of the one before is gone or
    /// speaks something else, so that its connections have to look whether they should end.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) -> bool {
        *self.canary.borrow_mut() = None;
        let before = self.in_force.replace(Rc::new(snapshot));
        self.note_ports();
        let mut gone = self.gone.borrow_mut();
        gone.retain(|gone| !self.listens(gone.number, gone.is_secure));
        let known = gone.len();
        for listener in &before.listeners {
            let (number, is_secure) = (listener.number, listener.tls);
            if !self.listens(number, is_secure) {
                let snapshot = Rc::clone(&before);
                gone.push(Gone { number, is_secure, snapshot, since: Tick::now() });
            }
        }
        let any_new = gone.len() > known;
        // Those of one snapshot stand together.
        let mut kept: Vec<*const Arc<Snapshot>> =
            gone.iter().map(|gone| Rc::as_ptr(&gone.snapshot)).collect();
        kept.dedup();
        let over = kept.get(..kept.len().saturating_sub(GONE_MAX)).unwrap_or_default();
        gone.retain(|gone| !over.contains(&Rc::as_ptr(&gone.snapshot)));
        any_new
    }

    /// From now on a share of the new connections, in millionths, gets `snapshot`. It has the listeners of
    /// the one in force.
    pub(crate) fn try_out(&self, number: u32, snapshot: Arc<Snapshot>, share: u32) {
        let groups = [Counting::new(), Counting::new()];
        let snapshot = Rc::new(snapshot);
        *self.canary.borrow_mut() = Some(Rc::new(Canary { number, snapshot, share, groups }));
    }

    /// Everything is served by the snapshot in force again.
    pub(crate) fn withdraw(&self) {
        *self.canary.borrow_mut() = None;
    }

    /// The canary that a new connection belongs to; 0: to none. `random` is evenly distributed.
    pub(crate) fn canary_for(&self, random: impl FnOnce() -> u64) -> u32 {
        match &*self.canary.borrow() {
            Some(canary) if random() % u64::from(WHOLE) < u64::from(canary.share) => canary.number,
            _ => 0,
        }
    }

    /// Somebody wants to know what becomes of requests.
    pub(crate) fn counts(&self) -> bool {
        self.canary.borrow().is_some()
    }

    /// A request has ended.
    pub(crate) fn finished(&self, record: &Record<'_>) {
        let canary = self.canary.borrow();
        let Some(canary) = &*canary else { return };
        // A tunnel lasts as long as its two sides like.
        if record.status == 101 {
            return;
        }
        let [others, own] = &canary.groups;
        let group = if record.canary == canary.number { own } else { others };
        let broke = matches!(&record.ended, Ended::Failed { by, .. } if *by != Party::Client);
        group.count(broke || record.status >= 500, record.times.total);
    }

    /// What was counted since the canary began: of other connections, and of those with it.
    pub fn groups(&self) -> Option<(Group, Group)> {
        let canary = self.canary.borrow();
        let [others, own] = &canary.as_ref()?.groups;
        Some((others.group(), own.group()))
    }

    /// Forgets listeners that have been gone for long enough.
    pub(crate) fn sweep(&self) {
        let now = Tick::now();
        self.gone.borrow_mut().retain(|gone| now.since(gone.since) < GONE_FOR);
    }

    fn note_ports(&self) {
        let mut ports = self.ports.borrow_mut();
        for listener in self.in_force.borrow().listeners.iter() {
            if ports.len() <= listener.number {
                ports.resize(listener.number + 1, 0);
            }
            if let Some(port) = ports.get_mut(listener.number) {
                *port = listener.port;
            }
        }
    }
}

impl Counting {
    fn new() -> Self {
        let classes = RefCell::new([0; CLASSES]);
        Self { requests: Cell::new(0), failures: Cell::new(0), classes }
    }

    fn count(&self, failed: bool, micros: u64) {
        self.requests.set(self.requests.get().saturating_add(1));
        self.failures.set(self.failures.get().saturating_add(u64::from(failed)));
        if let Some(class) = self.classes.borrow_mut().get_mut(class_of(micros)) {
            *class = class.saturating_add(1);
        }
    }

    fn group(&self) -> Group {
        Group {
            requests: self.requests.get(),
            failures: self.failures.get(),
            classes: *self.classes.borrow(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_classes_are_in_order_and_a_quarter_wide() {
        for micros in [5, 7, 8, 100, 999, 1_000, 65_535, 65_536, 10_000_000] {
            let class = class_of(micros);
            assert!(most_of(class) >= micros, "{micros}");
            assert!(class == 0 || most_of(class - 1) < micros, "{micros}");
            assert!(most_of(class) as f64 <= micros as f64 * 1.25, "{micros}");
        }
        assert_eq!(class_of(0), class_of(4));
        assert_eq!(class_of(u64::MAX), CLASSES - 1);
    }
}
