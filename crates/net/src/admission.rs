//! Who may come in, and to which worker: connection counts, the limits on them, and the guard that
//! counts a connection down when it ends.
//!
//! What always holds: a connection is counted at exactly one worker from before it is handed on
//! until its guard is dropped; the limits are exact, because a place is taken before the connection
//! is; counters of different workers never share a cache line.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::stream::Peer;

/// Independent parts of the table of client addresses, so that workers seldom wait for each other.
const ADDRESS_SHARDS: usize = 16;

/// What all workers share.
pub(crate) struct Admission {
    loads: Vec<Load>,
    /// Most connections at once, of all listeners together.
    max: Option<usize>,
    places: Option<Arc<Semaphore>>,
    addresses: Option<Addresses>,
    /// Set once stopping has begun: when connections that remain are cut.
    stop: Mutex<Option<Instant>>,
    stopping: AtomicBool,
}

/// One worker's counters, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Load {
    connections: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) handed_over: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) shortages: AtomicU64,
    pub(crate) errors: AtomicU64,
    /// Wakes the worker's main task: stopping began or moved, or the last connection ended.
    pub(crate) wake: Notify,
}

/// Counts one connection for as long as it exists.
pub struct ConnectionGuard {
    admission: Arc<Admission>,
    worker: usize,
    address: Option<AddressKey>,
    _place: Place,
}

/// How many connections there may be. `None`: no limit.
#[derive(Default)]
pub(crate) struct Limits {
    /// Over all workers.
    pub(crate) connections: Option<usize>,
    /// Of one client address.
    pub(crate) per_address: Option<usize>,
}

/// A place for a connection among those of its listener and among all; nothing to hold where there is
/// no limit.
#[derive(Default)]
pub(crate) struct Place {
    _own: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub(crate) fn new(workers: usize, limits: Limits) -> Self {
        Self {
            loads: (0..workers).map(|_| Load::default()).collect(),
            max: limits.connections,
            places: limits.connections.map(places),
            addresses: limits.per_address.map(Addresses::new),
            stop: Mutex::new(None),
            stopping: AtomicBool::new(false),
        }
    }

    /// Most connections at once, of all listeners together; `None` where nothing limits them.
    pub(crate) fn connections_max(&self) -> Option<usize> {
        self.max
    }

    /// A worker's counters. `worker` is always one that exists.
    pub(crate) fn load(&self, worker: usize) -> &Load {
        &self.loads[worker]
    }

    pub(crate) fn loads(&self) -> &[Load] {
        &self.loads
    }

    /// Waits until a connection of a listener with these places may be taken.
    pub(crate) async fn place(&self, own: Option<&Arc<Semaphore>>) -> Place {
        // In this order: who waits for others of its listener must keep no place from the rest.
        let own = one_of(own).await;
        Place { _own: own, _of_all: one_of(self.places.as_ref()).await }
    }

    /// A place if there is one now.
    pub(crate) fn place_now(&self, own: Option<&Arc<Semaphore>>) -> Option<Place> {
        let own = one_now(own)?;
        Some(Place { _own: own, _of_all: one_now(self.places.as_ref())? })
    }

    /// Lets a connection in at the worker that should have it, seen from worker `from`. `None` when
    /// its address has as many as it may.
    pub(crate) fn enter(
        self: &Arc<Self>,
        from: usize,
        peer: &Peer,
        place: Place,
    ) -> Option<ConnectionGuard> {
        let address = match (&self.addresses, peer.ip()) {
            (Some(addresses), Some(ip)) => Some(addresses.enter(ip)?),
            _ => None,
        };
        let worker = if self.loads.len() == 1 {
            from
        } else {
            target(from, self.loads.iter().map(Load::connections))
        };
        self.load(worker).connections.fetch_add(1, Ordering::Relaxed);
        Some(ConnectionGuard { admission: Arc::clone(self), worker, address, _place: place })
    }

    /// Begins to stop, or moves the moment at which connections are cut.
    pub(crate) fn stop_by(&self, deadline: Instant) {
        *lock(&self.stop) = Some(deadline);
        self.stopping.store(true, Ordering::SeqCst);
        self.loads.iter().for_each(|load| load.wake.notify_one());
    }

    pub(crate) fn stop_deadline(&self) -> Option<Instant> {
        *lock(&self.stop)
    }
}

impl Load {
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Only for connections that enter or leave, and those are many times rarer than requests.
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl ConnectionGuard {
    /// The worker that counts this connection.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// Counts the connection at `worker` instead.
    pub(crate) fn move_to(&mut self, worker: usize) {
        self.admission.load(worker).connections.fetch_add(1, Ordering::Relaxed);
        self.leave();
        self.worker = worker;
    }

    fn leave(&self) {
        let load = self.admission.load(self.worker);
        let left = load.connections.fetch_sub(1, Ordering::SeqCst) - 1;
        // In one total order with the store in `stop_by`: either this sees that stopping has begun,
        // or the worker, which is woken after that store, sees the count.
        if left == 0 && self.admission.stopping.load(Ordering::SeqCst) {
            load.wake.notify_one();
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let (Some(addresses), Some(key)) = (&self.admission.addresses, self.address) {
            addresses.leave(key);
        }
        self.leave();
    }
}

/// So many places.
pub(crate) fn places(max: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)))
}

/// Waits for one of these places; `None` where there is no limit.
async fn one_of(places: Option<&Arc<Semaphore>>) -> Option<OwnedSemaphorePermit> {
    // Fails only for a closed semaphore, and nothing closes these.
    Arc::clone(places?).acquire_owned().await.ok()
}

/// The same at once; the outer `None` says that all are taken.
fn one_now(places: Option<&Arc<Semaphore>>) -> Option<Option<OwnedSemaphorePermit>> {
    match places {
        None => Some(None),
        Some(places) => Arc::clone(places).try_acquire_owned().ok().map(Some),
    }
}

/// The worker that a connection accepted by `from` goes to: another one only if `from` has clearly
/// more than the least loaded, because a hand-over wakes another core.
fn target(from: usize, connections: impl Iterator<Item = usize> + Clone) -> usize {
    let mine = connections.clone().nth(from).unwrap_or(0);
    match connections.enumerate().min_by_key(|(_, count)| *count) {
        Some((worker, least)) if mine > least + least / 4 => worker,
        _ => from,
    }
}

/// An IPv4 address, or the /64 of an IPv6 one: a client has all of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum AddressKey {
    V4(u32),
    V6(u64),
}

/// Connections of each client address. It holds only addresses that have a connection, so
/// connections bound it.
struct Addresses {
    max: usize,
    shards: Vec<Mutex<HashMap<AddressKey, usize>>>,
}

impl Addresses {
    fn new(max: usize) -> Self {
        let shards = (0..ADDRESS_SHARDS).map(|_| Mutex::default()).collect();
        Self { max: max.max(1), shards }
    }

    fn enter(&self, ip: IpAddr) -> Option<AddressKey> {
        let key = AddressKey::from(ip);
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(key)
    }

    fn leave(&self, key: AddressKey) {
        let mut shard = self.shard(key);
        if let Some(count) = shard.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                shard.remove(&key);
            }
        }
    }

    fn shard(&self, key: AddressKey) -> MutexGuard<'_, HashMap<AddressKey, usize>> {
        let folded = match key {
            AddressKey::V4(bits) => u64::from(bits),
            AddressKey::V6(bits) => bits ^ (bits >> 32),
        };
        lock(&self.shards[(folded as usize) % ADDRESS_SHARDS])
    }
}

impl From<IpAddr> for AddressKey {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

/// A panic while one of these is held leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of<const N: usize>(from: usize, connections: [usize; N]) -> usize {
        target(from, connections.into_iter())
    }

    #[test]
    fn a_connection_moves_only_to_a_clearly_less_loaded_worker() {
        assert_eq!(target_of(0, [0, 0]), 0);
        assert_eq!(target_of(0, [1, 0]), 1);
        assert_eq!(target_of(0, [1, 1]), 0);
        assert_eq!(target_of(1, [4, 5, 9]), 1); // 5 is not above 4 + 4/4
        assert_eq!(target_of(1, [4, 6, 9]), 0);
        assert_eq!(target_of(2, [100, 90, 112]), 2);
        assert_eq!(target_of(2, [100, 90, 113]), 1);
        assert_eq!(target_of(0, [9]), 0);
    }

    fn per_address(max: usize) -> Limits {
        Limits { per_address: Some(max), ..Limits::default() }
    }

    fn v6(address: &str) -> Peer {
        Peer::Ip(format!("[{address}]:1000").parse().unwrap())
    }

    #[test]
    fn an_address_has_only_so_many_connections() {
        let admission = Arc::new(Admission::new(1, per_address(2)));
        let client = Peer::Ip("192.0.2.1:1".parse().unwrap());
        let first = admission.enter(0, &client, Place::default()).unwrap();
        let _second = admission.enter(0, &client, Place::default()).unwrap();
        assert!(admission.enter(0, &client, Place::default()).is_none());
        assert!(
            admission
                .enter(0, &Peer::Ip("192.0.2.2:1".parse().unwrap()), Place::default())
                .is_some()
        );
        assert!(admission.enter(0, &Peer::Unix, Place::default()).is_some());
        drop(first);
        assert!(admission.enter(0, &client, Place::default()).is_some());
    }

    #[test]
    fn an_ipv6_client_is_its_64_bit_network() {
        let admission = Arc::new(Admission::new(1, per_address(1)));
        let _one = admission.enter(0, &v6("2001:db8:1:2::1"), Place::default()).unwrap();
        assert!(admission.enter(0, &v6("2001:db8:1:2:ffff::9"), Place::default()).is_none());
        assert!(admission.enter(0, &v6("2001:db8:1:3::1"), Place::default()).is_some());
    }

    #[test]
    fn the_table_of_addresses_forgets_those_without_a_connection() {
        let admission = Arc::new(Admission::new(1, per_address(1)));
        for low in 0..1000_u32 {
            let peer = Peer::Ip((std::net::Ipv4Addr::from_bits(low), 1).into());
            drop(admission.enter(0, &peer, Place::default()).unwrap());
        }
        let shards = &admission.addresses.as_ref().unwrap().shards;
        assert!(shards.iter().all(|shard| lock(shard).is_empty()));
        assert_eq!(admission.load(0).connections(), 0);
    }

    #[test]
    fn places_are_given_back_by_the_guard() {
        let admission =
            Arc::new(Admission::new(1, Limits { connections: Some(1), ..Limits::default() }));
        let place = admission.place_now(None).unwrap();
        let guard = admission.enter(0, &Peer::Unix, place).unwrap();
        assert!(admission.place_now(None).is_none());
        drop(guard);
        assert!(admission.place_now(None).is_some());
    }

    #[test]
    fn a_listener_that_is_full_keeps_no_place_from_the_others() {
        let (one, two) = (places(1), places(2));
        let limits = Limits { connections: Some(2), ..Limits::default() };
        let admission = Arc::new(Admission::new(1, limits));
        let first = admission.place_now(Some(&one)).unwrap();
        let guard = admission.enter(0, &Peer::Unix, first).unwrap();
        assert!(admission.place_now(Some(&one)).is_none());
        let second = admission.place_now(None).unwrap();
        assert!(admission.place_now(Some(&two)).is_none(), "two are all there may be");
        drop(second);
        drop(guard);
        let _first = admission.place_now(Some(&two)).unwrap();
        let _second = admission.place_now(Some(&two)).unwrap();
        assert!(admission.place_now(Some(&one)).is_none());
    }

    #[test]
    fn a_moved_connection_is_counted_once() {
        let admission = Arc::new(Admission::new(2, Limits::default()));
        let mut guard = admission.enter(0, &Peer::Unix, Place::default()).unwrap();
        guard.move_to(1);
        assert_eq!(admission.load(0).connections(), 0);
        assert_eq!(admission.load(1).connections(), 1);
        drop(guard);
        assert_eq!(admission.load(1).connections(), 0);
    }
}
