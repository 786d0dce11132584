//! One upstream address and what is known of it.
//!
//! What always holds: what was learnt at one address is never held against another; a connection is
//! kept no longer than the address it was made to; requests in flight are counted over all workers,
//! and never more than the limit of the entry they came by.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use config::model::{Transport, UpstreamAddress};
use net::timer::Tick;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Epoch;
use crate::balance::MemberState;
use crate::pool::PoolState;

/// One upstream address, what is spoken there, and what is known of it.
#[derive(Debug)]
pub struct Endpoint {
    /// Dense number, fit to index a per-worker table; no other endpoint has it at the same time.
    pub id: usize,
    /// Where it is. The port of a name with SRV records means nothing.
    pub address: UpstreamAddress,
    /// What is spoken to it.
    pub transport: Transport,
    /// How a host name is looked up.
    pub lookup: Lookup,
    /// `host:port` or `unix:/path`, for the Host field when the client's is not kept. For SRV records
    /// the name alone, without `_service._protocol`.
    pub label: String,
    /// Which of the addresses of a host name.
    pub slot: usize,
    /// What the host name resolved to; nothing until it does. Unused for Unix sockets.
    found: ArcSwap<Found>,
    /// No connections to it are kept: no snapshot in force uses it. Another flag each time.
    over: ArcSwap<AtomicBool>,
    /// Told when it has other addresses.
    moved: Notify,
    /// How often it was another one than before.
    generation: AtomicU64,
    /// What pools know of it.
    members: Mutex<Vec<Weak<MemberState>>>,
    epoch: Arc<Epoch>,
    in_flight: InFlightCount,
    /// The pools that have it as a member.
    users: ArcSwap<Vec<User>>,
}

/// How a host name is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// By its addresses.
    Addresses,
    /// By its SRV records, and their targets by their addresses.
    Services,
}

/// Leave to use a connection to an address, until the address is no longer the endpoint's, or nobody uses
/// the endpoint any more.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    address: Option<Arc<AtomicBool>>,
    /// As long as a snapshot uses the endpoint.
    endpoint: Option<Arc<AtomicBool>>,
}

impl Lease {
    fn new() -> Self {
        Self { address: Some(Arc::default()), endpoint: None }
    }

    fn end(&self) {
        if let Some(over) = &self.address {
            over.store(true, Ordering::Relaxed);
        }
    }

    /// The address is not the endpoint's any more, or no snapshot uses the endpoint. Never so for what has
    /// neither.
    pub fn is_over(&self) -> bool {
        let over = [&self.address, &self.endpoint];
        over.into_iter().flatten().any(|over| over.load(Ordering::Relaxed))
    }
}

/// What a slot of a host name is at present.
#[derive(Debug, Default)]
struct Found {
    addresses: Arc<Vec<SocketAddr>>,
    /// One for each address.
    leases: Vec<Lease>,
    share: Share,
}

/// What SRV records say of a target beside its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Those with the lowest number come first.
    pub priority: u16,
    /// By how much its entry's weight is multiplied.
    pub weight: u16,
}

impl Default for Share {
    /// That of one that is not from SRV records.
    fn default() -> Self {
        Self { priority: 0, weight: 1 }
    }
}

/// Requests in flight; on a cache line of its own because every worker writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct InFlightCount {
    count: AtomicU32,
    /// A request that ends may make room for some that it does not know of: in other pools, or since
    /// a reload.
    is_shared: AtomicBool,
}

/// A pool that an endpoint is a member of.
#[derive(Debug, Clone)]
struct User {
    pool: Weak<PoolState>,
    /// It bounds the requests in flight to the endpoint, so that some may wait for their end.
    limits: bool,
    /// It does not, or did not before a reload: requests of that time wake nobody by themselves.
    is_free: bool,
}

impl Endpoint {
    pub(super) fn new(
        id: usize,
        address: UpstreamAddress,
        transport: Transport,
        lookup: Lookup,
        slot: usize,
        epoch: Arc<Epoch>,
    ) -> Self {
        let mut found = Found::default();
        let label = match &address {
            UpstreamAddress::Tcp { host, port } => match (host.parse::<IpAddr>(), lookup) {
                (Ok(ip), _) => {
                    found.addresses = Arc::new(vec![SocketAddr::new(ip, *port)]);
                    SocketAddr::new(ip, *port).to_string()
                }
                (Err(_), Lookup::Addresses) => format!("{host}:{port}"),
                (Err(_), Lookup::Services) => without_service(host).to_owned(),
            },
            UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
        };
        Self {
            id,
            address,
            transport,
            lookup,
            label,
            slot,
            found: ArcSwap::from_pointee(found),
            over: ArcSwap::default(),
            moved: Notify::new(),
            generation: AtomicU64::new(0),
            members: Mutex::default(),
            epoch,
            in_flight: InFlightCount::default(),
            users: ArcSwap::default(),
        }
    }

    /// The host name that has to be resolved, and the port; `None` for IP literals and Unix sockets.
    pub fn name_to_resolve(&self) -> Option<(&str, u16)> {
        match &self.address {
            UpstreamAddress::Tcp { host, port } if host.parse::<IpAddr>().is_err() => {
                Some((host, *port))
            }
            _ => None,
        }
    }

    /// The host as the operator wrote it, without `_service._protocol` where it has SRV records; none
    /// for a Unix socket. It is not a target's name: who forges an answer must not also choose which
    /// certificate is asked for.
    pub fn host(&self) -> Option<&str> {
        match (&self.address, self.lookup) {
            (UpstreamAddress::Tcp { host, .. }, Lookup::Addresses) => Some(host),
            (UpstreamAddress::Tcp { host, .. }, Lookup::Services) => Some(without_service(host)),
            (UpstreamAddress::Unix(_), _) => None,
        }
    }

    /// There is an address to connect to.
    pub fn is_known(&self) -> bool {
        matches!(self.address, UpstreamAddress::Unix(_)) || !self.found.load().addresses.is_empty()
    }

    /// Publishes the addresses of this slot: one, or one of each family of the same host, which are
    /// tried in turn.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.publish(addresses, Share::default(), false);
    }

    /// The same, with what SRV records say of them. If none of the addresses was here before, it is
    /// another endpoint: what pools know of it is forgotten, and if it joins others that serve
    /// already (`joins`), it starts slowly where that is configured.
    pub fn publish(&self, addresses: Vec<SocketAddr>, share: Share, joins: bool) {
        let old = self.found.load_full();
        if *old.addresses == addresses && old.share == share {
            return;
        }
        let kept = |address| old.addresses.iter().position(|known| *known == address);
        let lease = |address| kept(address).and_then(|index| old.leases.get(index).cloned());
        let leases = addresses.iter().map(|&address| lease(address).unwrap_or_else(Lease::new));
        let leases = leases.collect();
        let is_another = !addresses.iter().any(|&address| kept(address).is_some());
        let gone = old.addresses.iter().zip(&old.leases);
        let gone = gone.filter(|(address, _)| !addresses.contains(address));
        let gone: Vec<Lease> = gone.map(|(_, lease)| lease.clone()).collect();
        let moves = *old.addresses != addresses;
        self.found.store(Arc::new(Found { addresses: Arc::new(addresses), leases, share }));
        gone.iter().for_each(Lease::end);
        if is_another {
            self.forget(joins);
        }
        if moves {
            self.epoch.moved();
        } else {
            self.epoch.advance();
        }
        if is_another {
            self.generation.fetch_add(1, Ordering::Release);
            self.moved.notify_waiters();
        }
    }

    fn forget(&self, joins: bool) {
        let now = Tick::now();
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| match member.upgrade() {
            Some(member) => {
                member.forget(joins.then_some(now));
                true
            }
            None => false,
        });
    }

    /// From now on, `member` is told to forget when this is another endpoint.
    pub(super) fn tell(&self, member: &Arc<MemberState>) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let weak = Arc::downgrade(member);
        if !members.iter().any(|known| known.ptr_eq(&weak)) {
            members.push(weak);
        }
    }

    /// What is known of the addresses; empty while the name does not resolve.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        Arc::clone(&self.found.load().addresses)
    }

    /// The lease of connections that go by no address.
    pub fn lease(&self) -> Lease {
        Lease { address: None, endpoint: Some(self.over.load_full()) }
    }

    /// No more connections to it are kept. False if that was so already.
    pub(super) fn let_go(&self) -> bool {
        !self.over.load().swap(true, Ordering::Relaxed)
    }

    /// Connections to it may be kept: new ones, if it was let go of.
    pub(super) fn keep(&self) {
        if self.over.load().load(Ordering::Relaxed) {
            self.over.store(Arc::default());
        }
    }

    /// It is used by some pool.
    pub(super) fn has_members(&self) -> bool {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.strong_count() > 0);
        !members.is_empty()
    }

    /// The addresses, each with the lease that connections to it need.
    pub fn leased(&self) -> Vec<(SocketAddr, Lease)> {
        let found = self.found.load();
        let endpoint = Some(self.over.load_full());
        let lease = |index| {
            let known = found.leases.get(index).cloned().unwrap_or_default();
            Lease { endpoint: endpoint.clone(), ..known }
        };
        found.addresses.iter().enumerate().map(|(index, &one)| (one, lease(index))).collect()
    }

    /// Its name among the endpoints of its host, the same as long as it is at the same address.
    pub fn place(&self) -> Option<SocketAddr> {
        self.found.load().addresses.iter().min().copied()
    }

    /// What SRV records say of it.
    pub fn share(&self) -> Share {
        self.found.load().share
    }

    /// How often it was another one than before: what was found out in one generation is not true
    /// of the next.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Done when the generation changes, from the moment of the call on.
    pub fn next_generation(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// Requests in flight to this endpoint, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.count.load(Ordering::Relaxed)
    }

    /// Counts a request in flight until the guard is dropped; `None` if there are `max` already.
    pub fn enter(&self, max: Option<u32>) -> Option<InFlight<'_>> {
        let count = &self.in_flight.count;
        match max {
            None => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            // One that finds no room must not look like one that takes it.
            Some(max) => {
                let more = |before: u32| (before < max).then(|| before + 1);
                count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
            }
        }
        Some(InFlight(self))
    }

    /// It is a member of `pool`, which bounds the requests in flight to it or not. When a request of
    /// any pool ends, those are woken who wait in the ones that do.
    pub fn is_used_by(&self, pool: &Arc<PoolState>, limits: bool) {
        let is_same = |user: &User| std::ptr::eq(user.pool.as_ptr(), Arc::as_ptr(pool));
        let users = self.users.rcu(|users| {
            let alive = users.iter().filter(|user| user.pool.strong_count() > 0);
            let mut users: Vec<User> = alive.cloned().collect();
            match users.iter_mut().find(|user| is_same(user)) {
                // What was so in an earlier configuration may still matter to those who wait.
                Some(user) => {
                    user.limits |= limits;
                    user.is_free |= !limits;
                }
                None => {
                    let pool = Arc::downgrade(pool);
                    users.push(User { pool, limits, is_free: !limits });
                }
            }
            users
        });
        drop(users);
        let users = self.users.load();
        let is_shared = users.iter().any(|user| user.limits)
            && (users.len() > 1 || users.iter().any(|user| user.is_free));
        self.in_flight.is_shared.store(is_shared, Ordering::Relaxed);
    }
}

/// A name without leading labels that begin with an underscore: what they name is not a host.
fn without_service(name: &str) -> &str {
    let mut rest = name;
    while let Some((label, parent)) = rest.split_once('.') {
        if !label.starts_with('_') {
            break;
        }
        rest = parent;
    }
    rest
}

/// A request in flight to an endpoint.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Endpoint);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let in_flight = &self.0.in_flight;
        in_flight.count.fetch_sub(1, Ordering::SeqCst);
        if in_flight.is_shared.load(Ordering::Relaxed) {
            let users = self.0.users.load();
            let pools = users.iter().filter(|user| user.limits);
            pools.filter_map(|user| user.pool.upgrade()).for_each(|pool| pool.queue.leave_room());
        }
    }
}

#[cfg(test)]
mod tests {
    use config::model::{ProxyProtocol, UpstreamHttp, UpstreamTls};

    use super::super::Live;
    use super::*;

    #[test]
    fn an_endpoint_is_the_same_only_if_the_same_is_spoken() {
        let live = Live::default();
        let address = UpstreamAddress::Tcp { host: "a.example".to_owned(), port: 443 };
        let tls = |verify| UpstreamTls {
            verify,
            ca_file: None,
            server_name: None,
            client_certificate: None,
        };
        let transports = [
            Transport::default(),
            Transport { http: UpstreamHttp::Http2, ..Transport::default() },
            Transport { tls: Some(tls(true)), ..Transport::default() },
            Transport { tls: Some(tls(false)), ..Transport::default() },
            Transport { proxy_protocol: Some(ProxyProtocol::V1), ..Transport::default() },
        ];
        for (id, transport) in transports.iter().enumerate() {
            assert_eq!(live.endpoint(&address, transport, Lookup::Addresses, 0).id, id);
        }
        for (id, transport) in transports.iter().enumerate() {
            assert_eq!(live.endpoint(&address, transport, Lookup::Addresses, 0).id, id);
        }
    }

    fn named(live: &Live) -> Arc<Endpoint> {
        let address = UpstreamAddress::Tcp { host: "a.example".to_owned(), port: 80 };
        live.endpoint(&address, &Transport::default(), Lookup::Addresses, 0)
    }

    fn at(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 80).into()
    }

    #[test]
    fn what_is_known_of_one_address_is_not_taken_for_true_of_another() {
        let live = Live::default();
        let endpoint = named(&live);
        let members = ["one", "other"].map(|pool| live.member("site", pool, "url", &endpoint));
        endpoint.set_addresses(vec![at(1)]);
        let generation = endpoint.generation();
        let spoil = || {
            for member in &members {
                member.set_health(false, Tick::now());
                assert!(member.fails.failed(Tick::now(), 1));
                member.latency.observe(5_000_000, Tick::now());
            }
        };
        let all = |check: fn(&MemberState) -> bool| members.iter().all(|member| check(member));
        spoil();
        endpoint.set_addresses(vec![at(1), "[::1]:80".parse().unwrap()]);
        assert_eq!(endpoint.generation(), generation, "one more address of the same");
        assert!(all(|member| !member.is_up()));
        endpoint.set_addresses(vec![at(2)]);
        assert_ne!(endpoint.generation(), generation);
        assert!(all(|member| member.is_up() && member.fails.failed(Tick::now(), 1)));
        assert!(all(|member| member.latency.cost(0, Tick::now()) == 1));
    }

    #[test]
    fn connections_are_kept_no_longer_than_their_address() {
        let live = Live::default();
        let endpoint = named(&live);
        endpoint.set_addresses(vec![at(1), at(2)]);
        let leases = endpoint.leased();
        endpoint.set_addresses(vec![at(2), at(3)]);
        let over: Vec<bool> = leases.iter().map(|(_, lease)| lease.is_over()).collect();
        assert_eq!(over, [true, false]);
        assert!(endpoint.leased().iter().all(|(_, lease)| !lease.is_over()));
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let live = Live::default();
        let endpoint = named(&live);
        let share = Share { priority: 1, weight: 2 };
        endpoint.publish(vec![at(1)], share, false);
        let (epoch, moves) = (live.epoch().current(), live.epoch().moves());
        endpoint.publish(vec![at(1)], share, false);
        assert_eq!(live.epoch().current(), epoch);
        endpoint.publish(vec![at(1)], Share { weight: 3, ..share }, false);
        assert!(live.epoch().current() > epoch && live.epoch().moves() == moves);
    }

    #[test]
    fn a_host_with_srv_records_is_called_by_its_own_name() {
        for (name, host) in [
            ("_http._tcp.example.com", "example.com"),
            ("service.example.com", "service.example.com"),
            ("_http", "_http"),
        ] {
            let live = Live::default();
            let address = UpstreamAddress::Tcp { host: name.to_owned(), port: 80 };
            let endpoint = live.endpoint(&address, &Transport::default(), Lookup::Services, 0);
            assert_eq!((endpoint.host(), &*endpoint.label), (Some(host), host));
        }
    }
}
