//! What outlives a [`Snapshot`](crate::snapshot::Snapshot): the endpoints and what is known of them.
//!
//! A snapshot is thrown away at each reload; counters, resolved addresses and round-robin positions
//! must not be. They live here, keyed by what identifies them to an operator (an address and what is
//! spoken there; a site and a pool name), and each new snapshot takes its references from here. All of it is shared by the
//! workers, so everything that changes is atomic.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use config::model::{Transport, UpstreamAddress};

use crate::balance::MemberState;
use crate::pool::PoolState;

/// The registry of everything that survives a reload.
#[derive(Debug, Default)]
pub struct Live {
    state: Mutex<State>,
    epoch: Arc<Epoch>,
}

#[derive(Debug, Default)]
struct State {
    endpoints: HashMap<(UpstreamAddress, Transport, usize), Arc<Endpoint>>,
    pools: HashMap<(String, String), Arc<PoolState>>,
    members: HashMap<MemberKey, Arc<MemberState>>,
}

/// Site, pool, URL and slot.
type MemberKey = (String, String, String, usize);

impl Live {
    /// The endpoint at `address` where `transport` is spoken, made if it is new. Connections made
    /// under other settings (another authority, another client certificate) are another endpoint's.
    /// A host name may have several addresses: each has an endpoint, numbered by `slot`.
    pub fn endpoint(
        &self,
        address: &UpstreamAddress,
        transport: &Transport,
        slot: usize,
    ) -> Arc<Endpoint> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = state.endpoints.len();
        let epoch = Arc::clone(&self.epoch);
        let made = || Arc::new(Endpoint::new(id, address.clone(), transport.clone(), slot, epoch));
        let key = (address.clone(), transport.clone(), slot);
        Arc::clone(state.endpoints.entry(key).or_insert_with(made))
    }

    /// What is known of an entry of a pool and the slot of its endpoint, made if it is new.
    pub fn member(&self, site: &str, pool: &str, url: &str, slot: usize) -> Arc<MemberState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (site.to_owned(), pool.to_owned(), url.to_owned(), slot);
        let made = || Arc::new(MemberState::new(Arc::clone(&self.epoch)));
        Arc::clone(state.members.entry(key).or_insert_with(made))
    }

    /// Grows whenever something changes that decides which endpoints can be used.
    pub fn epoch(&self) -> &Arc<Epoch> {
        &self.epoch
    }

    /// What is known of pool `pool` of site `site`, made if it is new.
    pub fn pool(&self, site: &str, pool: &str) -> Arc<PoolState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pools.entry((site.to_owned(), pool.to_owned())).or_default().clone()
    }

    /// Every endpoint known, in no particular order.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.endpoints.values().cloned().collect()
    }
}

/// Counts the changes to what decides which endpoints can be used. Written seldom, read by every
/// request.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Epoch(AtomicU64);

impl Epoch {
    /// The number of changes so far.
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Something has changed.
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// One upstream address, what is spoken there, and what is known of it.
#[derive(Debug)]
pub struct Endpoint {
    /// Dense number, fit to index a per-worker table. Never reused.
    pub id: usize,
    /// Where it is.
    pub address: UpstreamAddress,
    /// What is spoken to it.
    pub transport: Transport,
    /// `host:port` or `unix:/path`, for logs and for the Host field when the client's is not kept.
    pub label: String,
    /// Which of the addresses of a host name.
    pub slot: usize,
    /// What the host name resolved to; empty until it does. Unused for Unix sockets.
    resolved: ArcSwap<Vec<SocketAddr>>,
    epoch: Arc<Epoch>,
    in_flight: InFlightCount,
}

/// Requests in flight; on a cache line of its own because every worker writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct InFlightCount(AtomicU32);

impl Endpoint {
    fn new(
        id: usize,
        address: UpstreamAddress,
        transport: Transport,
        slot: usize,
        epoch: Arc<Epoch>,
    ) -> Self {
        let mut known = Vec::new();
        let label = match &address {
            UpstreamAddress::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => {
                    known.push(SocketAddr::new(ip, *port));
                    SocketAddr::new(ip, *port).to_string()
                }
                Err(_) => format!("{host}:{port}"),
            },
            UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
        };
        let resolved = ArcSwap::from_pointee(known);
        let in_flight = InFlightCount::default();
        Self { id, address, transport, label, slot, resolved, epoch, in_flight }
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

    /// The host as the operator wrote it; none for a Unix socket.
    pub fn host(&self) -> Option<&str> {
        match &self.address {
            UpstreamAddress::Tcp { host, .. } => Some(host),
            UpstreamAddress::Unix(_) => None,
        }
    }

    /// There is an address to connect to.
    pub fn is_known(&self) -> bool {
        matches!(self.address, UpstreamAddress::Unix(_)) || !self.resolved.load().is_empty()
    }

    /// Publishes the addresses of this slot: one, or one of each family of the same host, which are
    /// tried in turn.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.resolved.store(Arc::new(addresses));
        self.epoch.advance();
    }

    /// What is known of the addresses; empty while the name does not resolve.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.resolved.load_full()
    }

    /// Requests in flight to this endpoint, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.0.load(Ordering::Relaxed)
    }

    /// Counts a request in flight until the guard is dropped; `None` if there are `max` already.
    pub fn enter(&self, max: Option<u32>) -> Option<InFlight<'_>> {
        let before = self.in_flight.0.fetch_add(1, Ordering::Relaxed);
        let entered = InFlight(self);
        max.is_none_or(|max| before < max).then_some(entered)
    }
}

/// A request in flight to an endpoint.
#[derive(Debug)]
pub struct InFlight<'a>(&'a Endpoint);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whose turn it is in a pool; one count for all workers, so that turns are exact.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Turn(AtomicUsize);

impl Turn {
    /// Takes the next turn: 0, 1, 2, … wrapping at the end of `usize`.
    pub fn take(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use config::model::{ProxyProtocol, UpstreamHttp, UpstreamTls};

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
            assert_eq!(live.endpoint(&address, transport, 0).id, id);
        }
        for (id, transport) in transports.iter().enumerate() {
            assert_eq!(live.endpoint(&address, transport, 0).id, id);
        }
    }
}
