//! Brings together what the workers have counted, without holding any of them up.
//!
//! What always holds: a worker is asked for [`PIECE`] series at a time, so that it copies some hundred
//! kilobytes at most between two steps of its tasks; counts of a number that meanwhile belongs to
//! somebody else are left out.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use net::worker::Workers;
use proxy::live::Live;
use proxy::metrics::{
    Counts, Kind, Known, ListenerCounts, MemberCounts, Metrics, PoolCounts, RouteCounts, Sample,
    SiteCounts, WorkerCounts,
};
use proxy::worker::Worker;

/// Series that a worker copies at once.
const PIECE: usize = 128;

/// What all workers have counted.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Of each worker.
    pub workers: Vec<WorkerCounts>,
    /// By site.
    pub sites: Table<SiteCounts>,
    /// By site and path.
    pub routes: Table<RouteCounts>,
    /// By site and pool.
    pub pools: Table<PoolCounts>,
    /// By site, pool and URL.
    pub members: Table<MemberCounts>,
    /// By address.
    pub listeners: Table<ListenerCounts>,
    /// Longest time that a worker took to copy a piece.
    pub longest_hold: Duration,
}

/// What was counted of things of one kind.
#[derive(Debug, Default)]
pub struct Table<C> {
    rows: Vec<(Known, C)>,
}

impl<C: Counts> Table<C> {
    /// Adds up what the workers have counted of the series that are known.
    pub(super) fn new(known: Vec<Known>, samples: Vec<Sample<C>>) -> Self {
        let mut sums: HashMap<(u32, u32), C> = HashMap::new();
        for Sample { number, owner, counts } in samples {
            sums.entry((number, owner)).or_default().add(&counts);
        }
        let mut rows = Vec::with_capacity(known.len());
        for known in known {
            match sums.remove(&(known.number, known.owner)) {
                Some(counts) => rows.push((known, counts)),
                None if known.in_use => rows.push((known, C::default())),
                None => {}
            }
        }
        rows.sort_by(|(one, _), (other, _)| one.labels.cmp(&other.labels));
        Self { rows }
    }

    /// Values of the labels and what was counted, of all that anything was counted of or that a
    /// configuration has.
    pub fn iter(&self) -> impl Iterator<Item = (&[String], &C)> {
        self.rows.iter().map(|(known, counts)| (&*known.labels, counts))
    }

    /// What was counted of the thing with these labels.
    pub fn get(&self, labels: &[&str]) -> Option<&C> {
        let is_it =
            |known: &Known| known.labels.iter().zip(labels).all(|(one, other)| one == other);
        self.rows.iter().find(|(known, _)| is_it(known)).map(|(_, counts)| counts)
    }
}

/// Asks all workers for everything.
pub async fn gather(workers: &Workers<Rc<Worker>>, live: &Live) -> Gathered {
    let mut gathered = Gathered {
        workers: workers.ask(|worker| worker.metrics.worker()).await,
        ..Gathered::default()
    };
    let hold = &mut gathered.longest_hold;
    gathered.sites = table(workers, live, Kind::Site, Metrics::sites, hold).await;
    gathered.routes = table(workers, live, Kind::Route, Metrics::routes, hold).await;
    gathered.pools = table(workers, live, Kind::Pool, Metrics::pools, hold).await;
    gathered.members = table(workers, live, Kind::Member, Metrics::members, hold).await;
    gathered.listeners = table(workers, live, Kind::Listener, Metrics::listeners, hold).await;
    gathered
}

/// Asks all workers for what they know of the entries of pools.
pub async fn members(workers: &Workers<Rc<Worker>>, live: &Live) -> Table<MemberCounts> {
    table(workers, live, Kind::Member, Metrics::members, &mut Duration::default()).await
}

/// Asks all workers for what they know of sites.
pub async fn sites(workers: &Workers<Rc<Worker>>, live: &Live) -> Table<SiteCounts> {
    table(workers, live, Kind::Site, Metrics::sites, &mut Duration::default()).await
}

/// Asks all workers for what they know of routes.
pub async fn routes(workers: &Workers<Rc<Worker>>, live: &Live) -> Table<RouteCounts> {
    table(workers, live, Kind::Route, Metrics::routes, &mut Duration::default()).await
}

async fn table<C: Counts + Send + 'static>(
    workers: &Workers<Rc<Worker>>,
    live: &Live,
    kind: Kind,
    copy: fn(&Metrics, Range<usize>) -> Vec<Sample<C>>,
    longest_hold: &mut Duration,
) -> Table<C> {
    // Asked first: what is counted for a series that comes later is shown the next time.
    let known = live.known_series(kind);
    let mut samples = Vec::new();
    for begin in (0..known.len()).step_by(PIECE) {
        let piece = begin..begin + PIECE;
        let copied = workers.ask(move |worker| {
            let began = Instant::now();
            let samples = copy(&worker.metrics, piece.clone());
            (began.elapsed(), samples)
        });
        for (held, of_worker) in copied.await {
            *longest_hold = (*longest_hold).max(held);
            samples.extend(of_worker);
        }
    }
    Table::new(known, samples)
}
