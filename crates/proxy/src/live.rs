//! What outlives a [`Snapshot`](crate::snapshot::Snapshot): the endpoints and what is known of them.
//!
//! A snapshot is thrown away at each reload; counters, resolved addresses and round-robin positions
//! must not be. They live here, keyed by what identifies them to an operator (an address; a site and
//! a pool name), and each new snapshot takes its references from here. All of it is shared by the
//! workers, so everything that changes is atomic.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use config::model::UpstreamAddress;

/// The registry of everything that survives a reload.
#[derive(Debug, Default)]
pub struct Live {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    endpoints: HashMap<UpstreamAddress, Arc<Endpoint>>,
    turns: HashMap<(String, String), Arc<Turn>>,
}

impl Live {
    /// The endpoint at `address`, made if it is new.
    pub fn endpoint(&self, address: &UpstreamAddress) -> Arc<Endpoint> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = state.endpoints.len();
        state
            .endpoints
            .entry(address.clone())
            .or_insert_with(|| Arc::new(Endpoint::new(id, address.clone())))
            .clone()
    }

    /// The balancing position of pool `pool` of site `site`, made if it is new.
    pub fn turn(&self, site: &str, pool: &str) -> Arc<Turn> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.turns.entry((site.to_owned(), pool.to_owned())).or_default().clone()
    }

    /// Every endpoint known, in no particular order.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.endpoints.values().cloned().collect()
    }
}

/// One upstream address and what is known of it.
#[derive(Debug)]
pub struct Endpoint {
    /// Dense number, fit to index a per-worker table. Never reused.
    pub id: usize,
    /// Where it is.
    pub address: UpstreamAddress,
    /// `host:port` or `unix:/path`, for logs and for the Host field when the client's is not kept.
    pub label: String,
    /// What the host name resolved to; empty until it does. Unused for Unix sockets.
    resolved: ArcSwap<Vec<SocketAddr>>,
    in_flight: InFlightCount,
}

/// Requests in flight; on a cache line of its own because every worker writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct InFlightCount(AtomicU32);

impl Endpoint {
    fn new(id: usize, address: UpstreamAddress) -> Self {
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
        Self { id, address, label, resolved, in_flight: InFlightCount::default() }
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

    /// Publishes what the host name resolved to.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.resolved.store(Arc::new(addresses));
    }

    /// What is known of the addresses; empty while the name does not resolve.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.resolved.load_full()
    }

    /// Requests in flight to this endpoint, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.0.load(Ordering::Relaxed)
    }

    /// Counts a request in flight until the guard is dropped.
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.0.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
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
