//! What outlives a [`Snapshot`](crate::snapshot::Snapshot): the endpoints and what is known of them.
//!
//! A snapshot is thrown away at each reload; counters, resolved addresses and round-robin positions
//! must not be. They live here, keyed by what identifies them to an operator (an address and what is
//! spoken there; a site and a pool name), and each new snapshot takes its references from here. All
//! of it is shared by the workers, so everything that changes is atomic.

mod endpoint;

pub use endpoint::{Endpoint, InFlight, Lease, Lookup, Share};

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use config::model::{Transport, UpstreamAddress};

use crate::balance::MemberState;
use crate::guards::rate_limit::{Counts, CountsId};
use crate::metrics::{Kind, Known, Registry, Series};
use crate::pool::PoolState;
use crate::websocket::OpenSockets;

/// The registry of everything that survives a reload.
#[derive(Debug, Default)]
pub struct Live {
    state: Mutex<State>,
    epoch: Arc<Epoch>,
}

#[derive(Debug, Default)]
struct State {
    endpoints: HashMap<(UpstreamAddress, Transport, Lookup, usize), Arc<Endpoint>>,
    pools: HashMap<(String, String), Arc<PoolState>>,
    members: HashMap<MemberKey, Arc<MemberState>>,
    counts: HashMap<CountsId, Arc<Counts>>,
    sockets: HashMap<(String, String), Arc<OpenSockets>>,
    series: Registry,
}

/// Site, pool, URL and slot.
type MemberKey = (String, String, String, usize);

impl Live {
    /// The endpoint at `address` where `transport` is spoken, made if it is new. Connections made
    /// under other settings (another authority, another client certificate) are another endpoint's.
    /// A host name may have several addresses, and SRV records several targets (`lookup`): each has
    /// an endpoint, numbered by `slot`.
    pub fn endpoint(
        &self,
        address: &UpstreamAddress,
        transport: &Transport,
        lookup: Lookup,
        slot: usize,
    ) -> Arc<Endpoint> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = state.endpoints.len();
        let key = (address.clone(), transport.clone(), lookup, slot);
        let (address, transport) = (address.clone(), transport.clone());
        let epoch = Arc::clone(&self.epoch);
        let made = || Arc::new(Endpoint::new(id, address, transport, lookup, slot, epoch));
        Arc::clone(state.endpoints.entry(key).or_insert_with(made))
    }

    /// What is known of an entry of a pool at its endpoint, made if it is new. It is forgotten when
    /// the endpoint gets another address.
    pub fn member(&self, site: &str, pool: &str, url: &str, at: &Endpoint) -> Arc<MemberState> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (site.to_owned(), pool.to_owned(), url.to_owned(), at.slot);
        let made = || Arc::new(MemberState::new(Arc::clone(&self.epoch)));
        let member = Arc::clone(state.members.entry(key).or_insert_with(made));
        at.tell(&member);
        member
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

    /// The open WebSockets of route `route` of site `site`.
    pub fn sockets(&self, site: &str, route: &str) -> Arc<OpenSockets> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sockets.entry((site.to_owned(), route.to_owned())).or_default().clone()
    }

    /// What is known of the keys of a rate limit, made if it is new.
    pub fn counts(&self, id: CountsId) -> Arc<Counts> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = id.keys;
        Arc::clone(state.counts.entry(id).or_insert_with(|| Arc::new(Counts::new(keys))))
    }

    /// Where what has these labels is counted; their names are those of [`Kind::labels`].
    pub fn series(&self, kind: Kind, labels: &[&str]) -> Series {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.series.series(kind, labels)
    }

    /// Every series of a kind that anything may have been counted in.
    pub fn known_series(&self, kind: Kind) -> Vec<Known> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).series.known(kind)
    }

    /// How many endpoints are known; there are never less than before.
    pub fn endpoint_count(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).endpoints.len()
    }

    /// Every endpoint known, in no particular order.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.endpoints.values().cloned().collect()
    }
}

/// Counts the changes to what decides which endpoints can be used. Written seldom, read by every
/// request. Each change makes those look again who wait for an endpoint.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Epoch {
    changes: AtomicU64,
    /// How many of them gave an endpoint other addresses.
    moves: AtomicU64,
    pools: Mutex<Waiting>,
}

/// Pools where requests may be waiting, by address, which is theirs as long as one is kept here.
#[derive(Debug, Default)]
struct Waiting {
    pools: HashMap<usize, Weak<PoolState>>,
    /// How many there are to be before those that are gone are looked for.
    swept_at: usize,
}

impl Epoch {
    /// The number of changes so far.
    pub fn current(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Something has changed.
    pub fn advance(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.pools.values().filter_map(Weak::upgrade).for_each(|pool| pool.queue.leave_room());
    }

    /// How often endpoints have changed their addresses so far.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// An endpoint has other addresses.
    fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Release);
        self.advance();
    }

    /// From now on those who wait in `pool` are woken by changes.
    pub fn wakes(&self, pool: &Arc<PoolState>) {
        let mut waiting = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { pools, swept_at } = &mut *waiting;
        pools.entry(Arc::as_ptr(pool).addr()).or_insert_with(|| Arc::downgrade(pool));
        if pools.len() > *swept_at {
            pools.retain(|_, known| known.strong_count() > 0);
            *swept_at = pools.len() * 2;
        }
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
