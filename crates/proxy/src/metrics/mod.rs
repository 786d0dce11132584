//! What a worker counts, for `/metrics`.
//!
//! Every worker counts for itself, in plain numbers of its own thread: no atomics, no cache lines
//! that two cores write to. Whoever wants to see them copies them, a piece at a time, between two steps
//! of the worker's tasks, and adds them up elsewhere.
//!
//! What always holds: to count something is to index a table by a number that the compiled
//! configuration carries ([`Series`]), without a search by name and, but for the first time, without an
//! allocation; no table has more rows than [`SERIES_MAX`]; counts of one thing are never taken for
//! those of another, whatever is reloaded.

mod counts;
mod histogram;
mod series;

pub use counts::{
    CLASSES, CODES_MAX, Counts, End, ListenerCounts, METHODS, MemberCounts, PROTOCOLS, PoolCounts,
    RouteCounts, STEPS, SiteCounts, Sparse, Unshaken, Why, WorkerCounts,
};
pub use histogram::{BUCKETS, Histogram, bound};
pub use series::{Kind, Known, Registry, SERIES_MAX, Series};

use std::cell::{Cell, RefCell};
use std::ops::Range;

use crate::log::{Cause, Ended, Phase, Record, Times};
use counts::{class_index, method_index, protocol_index};

/// One worker's counts.
#[derive(Debug)]
pub struct Metrics {
    on: Cell<bool>,
    begun: Cell<u64>,
    ended: Cell<u64>,
    tables: RefCell<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    worker: WorkerCounts,
    sites: Table<SiteCounts>,
    routes: Table<RouteCounts>,
    pools: Table<PoolCounts>,
    members: Table<MemberCounts>,
    listeners: Table<ListenerCounts>,
}

/// What is counted of each thing of a kind, by the number of its series. What never happened has no
/// row.
#[derive(Debug)]
struct Table<C> {
    rows: Vec<Option<Box<Row<C>>>>,
}

#[derive(Debug)]
struct Row<C> {
    owner: u32,
    counts: C,
}

/// What one worker has counted for one series.
#[derive(Debug, Clone)]
pub struct Sample<C> {
    /// The number of the series.
    pub number: u32,
    /// Who had it when that was counted.
    pub owner: u32,
    /// What was counted.
    pub counts: C,
}

/// How a client's TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Well.
    Done {
        /// The version is TLS 1.3.
        is_1_3: bool,
        /// An earlier session was resumed.
        resumed: bool,
    },
    /// Not at all.
    Failed(Unshaken),
}

impl Metrics {
    /// Nothing is counted yet; nothing ever is unless it is `on`.
    #[must_use]
    pub fn new(on: bool) -> Self {
        let (begun, ended) = (Cell::new(0), Cell::new(0));
        Self { on: Cell::new(on), begun, ended, tables: RefCell::default() }
    }

    /// Whether anything is counted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.get()
    }

    /// Whether to count from now on. What was counted before stays.
    pub fn switch(&self, on: bool) {
        self.on.set(on);
    }

    /// An exchange begins. Whether that was counted: then its end is to be, too, whatever is switched
    /// meanwhile.
    #[inline]
    pub fn begun(&self) -> bool {
        if self.is_on() {
            self.begun.set(self.begun.get().wrapping_add(1));
        }
        self.is_on()
    }

    /// An exchange that was counted when it began is over.
    #[inline]
    pub fn ended(&self) {
        self.ended.set(self.ended.get().wrapping_add(1));
    }

    /// An exchange is over, or a request was refused before there was one.
    pub fn finished(&self, record: &Record<'_>) {
        if !self.is_on() {
            return;
        }
        let Ok(mut tables) = self.tables.try_borrow_mut() else { return };
        let tables = &mut *tables;
        let none = Series::default();
        let times = &record.times;
        let tunnel = record.status == 101;
        tables.worker.refused += u64::from(record.version.is_empty());

        let site = tables.sites.row(record.site_at.map_or(&none, |site| &site.series));
        site.codes.count(record.status);
        if let Some(count) = site.methods.get_mut(method_index(record.method)) {
            *count += 1;
        }
        if let Some(count) = site.protocols.get_mut(protocol_index(record.version)) {
            *count += 1;
        }
        let transfer = times.transfer.filter(|_| !tunnel);
        let steps = [times.head, times.queue, times.connect, times.first_byte, transfer];
        for (histogram, micros) in site.steps.iter_mut().zip(steps) {
            if let Some(micros) = micros {
                histogram.observe(micros);
            }
        }
        if let Ended::Failed { by, phase, cause } = record.ended {
            site.failures.count(End { by, phase, cause });
        }

        let class = class_index(record.status);
        let of_route = record.route_at.map(|route| &route.series);
        let of_route = of_route.or_else(|| record.site_at.map(|site| &site.no_route));
        let route = tables.routes.row(of_route.unwrap_or(&none));
        if let Some(count) = route.classes.get_mut(class) {
            *count += 1;
        }
        if tunnel {
            route.sockets_closed += 1;
            route.socket_bytes_in += record.request_bytes;
            route.socket_bytes_out += record.response_bytes;
        } else {
            route.request_bytes += record.request_bytes;
            route.response_bytes += record.response_bytes;
            route.duration.observe(times.total);
        }

        if let Some(pool) = record.pool {
            let pool = tables.pools.row(&pool.series);
            pool.requests += 1;
            pool.attempts += u64::from(record.attempts);
            if let Some(count) = pool.classes.get_mut(class) {
                *count += 1;
            }
            pool.queue.observe(times.queue.unwrap_or(0));
            match record.ended {
                Ended::Failed { cause: Cause::CircuitOpen, .. } => pool.circuit_open += 1,
                Ended::Failed { phase: Phase::Queue, cause, .. }
                    if cause.class() == Cause::NoEndpoint =>
                {
                    pool.no_endpoint += 1;
                }
                _ => {}
            }
        }
        if let Some(member) = record.member {
            let member = tables.members.row(&member.series);
            match times.connect {
                Some(micros) => member.connect.observe(micros),
                None => member.reused += u64::from(record.reused),
            }
            if let Some(micros) = times.first_byte {
                member.first_byte.observe(micros);
            }
            member.request_bytes += record.request_bytes;
            member.response_bytes += record.response_bytes;
        }
    }

    /// The first request of a connection by this listener is over.
    pub fn opened(&self, listener: &Series, times: &Times) {
        let (true, Ok(mut tables)) = (self.is_on(), self.tables.try_borrow_mut()) else { return };
        let listener = tables.listeners.row(listener);
        if let Some(micros) = times.accept {
            listener.accept.observe(micros);
        }
        if let Some(micros) = times.tls {
            listener.handshake.observe(micros);
        }
    }

    /// An attempt at a member has ended, whatever came of it.
    #[inline]
    pub fn attempted(&self, member: &Series) {
        self.of_member(member, |counts| counts.attempts += 1);
    }

    /// A member answered with `status`.
    #[inline]
    pub fn answered(&self, member: &Series, status: u16) {
        self.of_member(member, |counts| {
            if let Some(count) = counts.classes.get_mut(class_index(status)) {
                *count += 1;
            }
        });
    }

    /// An attempt at a member failed.
    pub fn failed(&self, member: &Series, why: Why) {
        self.of_member(member, |counts| count(&mut counts.failures, why));
    }

    /// Another attempt is made.
    pub fn retried(&self, pool: &Series, why: Why) {
        if let (true, Ok(mut tables)) = (self.is_on(), self.tables.try_borrow_mut()) {
            count(&mut tables.pools.row(pool).retries, why);
        }
    }

    /// A WebSocket is open.
    pub fn socket_opened(&self, route: &Series) {
        if let (true, Ok(mut tables)) = (self.is_on(), self.tables.try_borrow_mut()) {
            tables.routes.row(route).sockets_opened += 1;
        }
    }

    /// A client's TLS handshake has ended.
    pub fn handshake(&self, listener: &Series, how: Handshake) {
        let (true, Ok(mut tables)) = (self.is_on(), self.tables.try_borrow_mut()) else { return };
        let counts = tables.listeners.row(listener);
        let count = match how {
            Handshake::Done { is_1_3, resumed } => {
                let version = counts.handshakes.get_mut(usize::from(is_1_3));
                version.and_then(|version| version.get_mut(usize::from(resumed)))
            }
            Handshake::Failed(why) => counts.unshaken.get_mut(why as usize),
        };
        if let Some(count) = count {
            *count += 1;
        }
    }

    #[inline]
    fn of_member(&self, member: &Series, change: impl FnOnce(&mut MemberCounts)) {
        if let (true, Ok(mut tables)) = (self.is_on(), self.tables.try_borrow_mut()) {
            change(tables.members.row(member));
        }
    }
}

/// Copies for whoever renders them. To be asked for in pieces, so that no worker is held up.
impl Metrics {
    /// What concerns the worker as a whole.
    pub fn worker(&self) -> WorkerCounts {
        let (begun, ended) = (self.begun.get(), self.ended.get());
        let refused = self.tables.try_borrow().map_or(0, |tables| tables.worker.refused);
        WorkerCounts { begun, ended, refused }
    }

    /// Sites with these numbers.
    pub fn sites(&self, numbers: Range<usize>) -> Vec<Sample<SiteCounts>> {
        self.tables.try_borrow().map(|tables| tables.sites.copy(numbers)).unwrap_or_default()
    }

    /// Routes with these numbers.
    pub fn routes(&self, numbers: Range<usize>) -> Vec<Sample<RouteCounts>> {
        self.tables.try_borrow().map(|tables| tables.routes.copy(numbers)).unwrap_or_default()
    }

    /// Pools with these numbers.
    pub fn pools(&self, numbers: Range<usize>) -> Vec<Sample<PoolCounts>> {
        self.tables.try_borrow().map(|tables| tables.pools.copy(numbers)).unwrap_or_default()
    }

    /// Entries of pools with these numbers.
    pub fn members(&self, numbers: Range<usize>) -> Vec<Sample<MemberCounts>> {
        self.tables.try_borrow().map(|tables| tables.members.copy(numbers)).unwrap_or_default()
    }

    /// Listeners with these numbers.
    pub fn listeners(&self, numbers: Range<usize>) -> Vec<Sample<ListenerCounts>> {
        self.tables.try_borrow().map(|tables| tables.listeners.copy(numbers)).unwrap_or_default()
    }
}

impl<C> Default for Table<C> {
    fn default() -> Self {
        Self { rows: Vec::new() }
    }
}

impl<C: Counts> Table<C> {
    /// The row of a series; one that had another owner begins at nought.
    #[inline]
    fn row(&mut self, series: &Series) -> &mut C {
        let index = series.number as usize;
        if index >= self.rows.len() {
            // Numbers are dense and bounded, see `SERIES_MAX`.
            self.rows.resize_with(index + 1, || None);
        }
        let owner = series.owner;
        let new = || Box::new(Row { owner, counts: C::default() });
        let row = self.rows[index].get_or_insert_with(new);
        if row.owner != owner {
            // A request of an older snapshot cannot come here: the number is only given to another
            // when no snapshot refers to it.
            **row = Row { owner, counts: C::default() };
        }
        &mut row.counts
    }

    fn copy(&self, numbers: Range<usize>) -> Vec<Sample<C>> {
        let end = numbers.end.min(self.rows.len());
        let rows = self.rows.get(numbers.start.min(end)..end).unwrap_or_default();
        let sample = |(index, row): (usize, &Option<Box<Row<C>>>)| {
            let Row { owner, counts } = &**row.as_ref()?;
            let number = (numbers.start + index) as u32;
            Some(Sample { number, owner: *owner, counts: counts.clone() })
        };
        rows.iter().enumerate().filter_map(sample).collect()
    }
}

fn count(counts: &mut [u64; Why::ALL.len()], why: Why) {
    if let Some(count) = counts.get_mut(why as usize) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Party;

    #[test]
    fn an_exchange_counts_once_everywhere_it_belongs() {
        let metrics = Metrics::new(true);
        assert!(metrics.begun());
        metrics.ended();
        let mut record =
            Record { status: 200, method: b"GET", version: "HTTP/1.1", ..Record::default() };
        (record.times.head, record.times.total) = (Some(0), 250);
        metrics.finished(&record);
        metrics.finished(&Record { status: 400, ..Record::default() });
        let worker = metrics.worker();
        assert_eq!((worker.begun, worker.ended, worker.refused), (1, 1, 1));
        let site = &metrics.sites(0..10)[0].counts;
        assert_eq!(site.codes.iter().collect::<Vec<_>>(), [(200, 1), (400, 1)]);
        assert_eq!((site.methods[0], site.protocols[1]), (1, 1));
        let route = &metrics.routes(0..10)[0].counts;
        assert_eq!((route.classes[2], route.classes[4], route.duration.count()), (1, 1, 2));
    }

    #[test]
    fn a_number_with_another_owner_begins_at_nought() {
        let mut table: Table<RouteCounts> = Table::default();
        let mut registry = Registry::default();
        let one = registry.series(Kind::Route, &["a", "/"]);
        table.row(&one).request_bytes = 7;
        let same = registry.series(Kind::Route, &["a", "/"]);
        assert_eq!(table.row(&same).request_bytes, 7);
        let mut another = one.clone();
        another.owner += 1;
        assert_eq!(table.row(&another).request_bytes, 0);
        let copied = table.copy(0..usize::MAX);
        assert_eq!((copied[0].number, copied[0].owner), (another.number, another.owner));
    }

    #[test]
    fn nothing_is_counted_while_it_is_off() {
        let metrics = Metrics::new(false);
        let ended =
            Ended::Failed { by: Party::Proxy, phase: Phase::Queue, cause: Cause::NoEndpoint };
        metrics.finished(&Record { ended, ..Record::default() });
        metrics.retried(&Series::default(), Why::Connect);
        assert!(metrics.routes(0..9).is_empty() && metrics.pools(0..9).is_empty());
    }
}
