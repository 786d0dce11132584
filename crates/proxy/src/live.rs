//! What outlives a [`Snapshot`](crate::snapshot::Snapshot): the endpoints and what is known of them.
//!
//! A snapshot is thrown away at each reload; counters, resolved addresses and round-robin positions
//! must not be. They live here, keyed by what identifies them to an operator (an address and what is
//! spoken there; a site and a pool name), and each new snapshot takes its references from here. All of it is shared by the
//! workers, so everything that changes is atomic.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use config::model::{Transport, UpstreamAddress};

/// The registry of everything that survives a reload.
#[derive(Debug, Default)]
pub struct Live {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    endpoints: HashMap<(UpstreamAddress, Transport), Arc<Endpoint>>,
    turns: HashMap<(String, String), Arc<Turn>>,
}

impl Live {
    /// The endpoint at `address` where `transport` is spoken, made if it is new. Connections made
    /// under other settings (another authority, another client certificate) are another endpoint's.
    pub fn endpoint(&self, address: &UpstreamAddress, transport: &Transport) -> Arc<Endpoint> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = state.endpoints.len();
        let made = || Arc::new(Endpoint::new(id, address.clone(), transport.clone()));
        let key = (address.clone(), transport.clone());
        Arc::clone(state.endpoints.entry(key).or_insert_with(made))
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
    /// What the host name resolved to; empty until it does. Unused for Unix sockets.
    resolved: ArcSwap<Vec<SocketAddr>>,
    in_flight: InFlightCount,
}

/// Requests in flight; on a cache line of its own because every worker writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct InFlightCount(AtomicU32);

impl Endpoint {
    fn new(id: usize, address: UpstreamAddress, transport: Transport) -> Self {
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
        Self { id, address, transport, label, resolved, in_flight: InFlightCount::default() }
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
            assert_eq!(live.endpoint(&address, transport).id, id);
        }
        for (id, transport) in transports.iter().enumerate() {
            assert_eq!(live.endpoint(&address, transport).id, id);
        }
    }
}
