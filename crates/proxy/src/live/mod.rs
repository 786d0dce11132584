//! What outlives a [`Snapshot`](crate::snapshot::Snapshot): the endpoints and what is known of them.
//!
//! A snapshot is thrown away at each reload; counters, resolved addresses and round-robin positions
//! must not be. They live here, keyed by what identifies them to an operator (an address and what is
//! spoken there; a site and a pool name), and each new snapshot takes its references from here. All
//! of it is shared by the workers, so everything that changes is atomic.

mod endpoint;

pub use endpoint::{Endpoint, InFlight, Lease, Lookup, Share};

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use config::model::{Transport, UpstreamAddress};

use crate::auth::Sources;
use crate::balance::MemberState;
use crate::guards::rate_limit::{Counts, CountsId};
use crate::metrics::{Kind, Known, Registry, Series};
use crate::pool::PoolState;
use crate::snapshot::Snapshot;
use crate::traces::SpanSink;
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
    /// How often an endpoint came or went.
    changes: usize,
    ids: Ids,
    pools: HashMap<(String, String), Arc<PoolState>>,
    members: HashMap<MemberKey, Arc<MemberState>>,
    counts: HashMap<CountsId, Arc<Counts>>,
    sockets: HashMap<(String, String), Arc<OpenSockets>>,
    credentials: Sources,
    series: Registry,
    spans: Option<SpanSink>,
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
        let key = (address.clone(), transport.clone(), lookup, slot);
        if let Some(known) = state.endpoints.get(&key) {
            return Arc::clone(known);
        }
        let id = state.ids.take();
        let (address, transport) = (address.clone(), transport.clone());
        let epoch = Arc::clone(&self.epoch);
        let made = Arc::new(Endpoint::new(id, address, transport, lookup, slot, epoch));
        state.endpoints.insert(key, Arc::clone(&made));
        state.changes = state.changes.wrapping_add(1);
        made
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

    /// Where snapshots that are compiled from now on send spans.
    pub fn set_spans(&self, sink: Option<SpanSink>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).spans = sink;
    }

    /// Where spans go.
    pub fn spans(&self) -> Option<SpanSink> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).spans.clone()
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

    /// Another number whenever endpoints have come or gone.
    pub fn endpoint_changes(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).changes
    }

    /// Every endpoint known, in no particular order.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.endpoints.values().cloned().collect()
    }

    /// From now on connections are kept to endpoints of these snapshots only. The ids of the others,
    /// whose kept connections are to be closed.
    pub fn keep<'s>(&self, snapshots: impl IntoIterator<Item = &'s Snapshot>) -> Vec<usize> {
        let used: HashSet<usize> = snapshots.into_iter().flat_map(Snapshot::endpoint_ids).collect();
        let endpoints = self.endpoints();
        let (kept, others): (Vec<_>, Vec<_>) =
            endpoints.into_iter().partition(|endpoint| used.contains(&endpoint.id));
        kept.iter().for_each(|endpoint| endpoint.keep());
        let over = others.iter().filter(|endpoint| endpoint.let_go());
        over.map(|endpoint| endpoint.id).collect()
    }

    /// Forgets what no snapshot uses any more. The ids of forgotten endpoints are given to others after
    /// [`Live::free`] only: first whoever keeps something by them has to let go of it.
    pub fn sweep(&self) -> Vec<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { endpoints, pools, members, counts, sockets, credentials, .. } = &mut *state;
        members.retain(|_, member| Arc::strong_count(member) > 1);
        pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        counts.retain(|_, counts| Arc::strong_count(counts) > 1);
        sockets.retain(|_, sockets| Arc::strong_count(sockets) > 1);
        credentials.sweep();
        let mut gone = Vec::new();
        endpoints.retain(|_, endpoint| {
            // Whoever looks after all endpoints has them too; only members are of a snapshot.
            let is_used = endpoint.has_members();
            gone.extend((!is_used).then_some(endpoint.id));
            is_used
        });
        state.changes = state.changes.wrapping_add(gone.len());
        gone
    }

    /// Endpoints that are made from now on may have these ids, which [`Live::sweep`] returned.
    pub fn free(&self, ids: Vec<usize>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ids.free.extend(ids);
    }

    /// What credentials are checked with in snapshots that are still used.
    pub fn credentials(&self) -> Sources {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).credentials.clone()
    }

    /// A snapshot checks credentials with these.
    pub fn remember(&self, credentials: &Sources) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.credentials.remember(credentials);
    }
}

/// Gives out small numbers.
#[derive(Debug, Default)]
struct Ids {
    /// The first that was never given out.
    next: usize,
    free: Vec<usize>,
}

impl Ids {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
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

    /// The turn that would be taken next.
    pub fn next(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
