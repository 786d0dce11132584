//! Every endpoint as an operator sees it, and what an operator may say of it: the one source of the
//! REST interface, the text commands, the stats page, the dashboard and `ravelin top`.
//!
//! A pool goes by its name, or by `site/pool` where two sites have pools of one name. An endpoint goes
//! by `host:port`; where a host name has several addresses each is `host:port@address`, and `host:port`
//! means all of them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::model::UpstreamState;
use net::timer::Tick;
use proxy::balance::Member;
use proxy::health::breaker;
use proxy::health::standing::Checked;
use proxy::log::ErrorLog;
use proxy::metrics::{MemberCounts, Why};
use proxy::pool::Pool;
use proxy::snapshot::{Site, Snapshot};

use crate::metrics::gather::Table;
use crate::orders::Author;

/// A pool and its endpoints.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// Name of its site.
    pub site: String,
    /// Its name in the configuration.
    pub pool: String,
    /// Its name among all pools of the process: with the site's where that is needed.
    pub name: String,
    /// Its number among all sites and pools, from 1; the sites come first.
    pub number: usize,
    /// Requests that wait because every endpoint is full.
    pub waiting: u32,
    /// Requests in flight, over all endpoints.
    pub in_flight: u32,
    /// Most requests in flight, where that is bounded.
    pub max_in_flight: Option<u32>,
    /// State of its breaker, if it has one.
    pub breaker: Option<breaker::State>,
    /// In declared order.
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint as a member of a pool.
#[derive(Debug, Clone)]
pub struct EndpointView {
    /// Name of the pool's site.
    pub site: String,
    /// Name of the pool in the configuration.
    pub pool: String,
    /// Its name in its pool.
    pub name: String,
    /// Its number in its pool, from 1; the same as long as the configuration is.
    pub number: usize,
    /// As configured.
    pub url: String,
    /// `address:port` or `unix:/path`; `None` while a host name is not resolved.
    pub address: Option<String>,
    /// What it is now.
    pub status: Status,
    /// Why it is that, in one sentence; empty where it is just up.
    pub why: String,
    /// Since when it is up, down or steered so, in milliseconds since 1970.
    pub since: u64,
    /// Whether the configuration wants it used.
    pub configured: UpstreamState,
    /// Whether an operator said at run time that it is to be used.
    pub steered: Option<UpstreamState>,
    /// Its weight now.
    pub weight: u32,
    /// Its weight in the configuration.
    pub configured_weight: u32,
    /// Its tier: above 0 it is a backup.
    pub priority: u8,
    /// Requests in flight to it.
    pub in_flight: u32,
    /// Most requests in flight, where that is bounded.
    pub max_conns: Option<u32>,
    /// Requests that wait in its pool.
    pub pool_waiting: u32,
    /// State of its pool's breaker, if that has one.
    pub breaker: Option<breaker::State>,
    /// Its pool has active checks.
    pub has_checks: bool,
    /// What the last active check found.
    pub check: Option<Arc<Checked>>,
    /// How often checks found it down.
    pub downs: u32,
    /// How long it was down in all.
    pub down_for: Duration,
    /// Checks that failed while it was up.
    pub failed_checks: u64,
    /// For how long it is still ejected as one that stands out.
    pub ejected_for: Option<Duration>,
    /// For how long it is still left out because requests failed.
    pub left_out_for: Option<Duration>,
    /// Numbers of its series in metrics.
    pub counters: Counters,
}

/// What was counted of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Attempts that have ended.
    pub requests: u64,
    /// Bytes of requests that went to it.
    pub bytes_out: u64,
    /// Bytes of responses that came from it.
    pub bytes_in: u64,
    /// Attempts without a connection.
    pub connect_errors: u64,
    /// Attempts without a whole response.
    pub response_errors: u64,
    /// Attempts that used a connection that was there.
    pub reused: u64,
    /// Responses of the classes 1xx to 5xx.
    pub classes: [u64; 5],
}

impl Counters {
    /// What the counts of metrics say.
    pub fn of(counts: &MemberCounts) -> Self {
        let failed = |why: Why| counts.failures.get(why as usize).copied().unwrap_or(0);
        let connect_errors = failed(Why::Connect);
        let response_errors =
            [Why::Refused, Why::Timeout, Why::Reset, Why::Invalid].map(failed).iter().sum();
        let [_, classes @ ..] = counts.classes;
        Self {
            requests: counts.attempts,
            bytes_out: counts.request_bytes,
            bytes_in: counts.response_bytes,
            connect_errors,
            response_errors,
            reused: counts.reused,
            classes,
        }
    }
}

/// What an endpoint is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It takes requests.
    Up,
    /// It takes those of clients that stick to it.
    Drain,
    /// It takes none, because an operator wants it so.
    Maintenance,
    /// It takes none, because active checks fail.
    Down,
    /// It takes none for a time, because requests failed.
    Failing,
    /// It takes none for a time, because it stands out from the others.
    Ejected,
    /// Its name has no address.
    Unresolved,
}

impl Status {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drain => "drain",
            Self::Maintenance => "maint",
            Self::Down => "down",
            Self::Failing => "failing",
            Self::Ejected => "ejected",
            Self::Unresolved => "unresolved",
        }
    }
}

/// Every endpoint of every pool, in declared order.
pub fn views(snapshot: &Snapshot) -> Vec<EndpointView> {
    pool_views(snapshot).into_iter().flat_map(|pool| pool.endpoints).collect()
}

/// Every pool, in declared order.
pub fn pool_views(snapshot: &Snapshot) -> Vec<PoolView> {
    let now = Tick::now();
    let first = snapshot.sites.len() + 1;
    let pools = pools(snapshot).enumerate();
    pools.map(|(index, place)| pool_view(snapshot, first + index, place, now)).collect()
}

/// Puts what was counted of each endpoint into its view. The addresses of a name are counted together.
pub fn count(pools: &mut [PoolView], counted: &Table<MemberCounts>) {
    let counted: HashMap<&[String], &MemberCounts> = counted.iter().collect();
    for pool in pools {
        for endpoint in &mut pool.endpoints {
            let labels = [pool.site.clone(), pool.pool.clone(), endpoint.url.clone()];
            let counts = counted.get(labels.as_slice());
            endpoint.counters = counts.map(|counts| Counters::of(counts)).unwrap_or_default();
        }
    }
}

/// All pools with their sites, in declared order.
pub fn pools(snapshot: &Snapshot) -> impl Iterator<Item = (&Site, &Pool)> {
    let of_site = |site| pools_of(site).map(move |pool| (site, pool));
    snapshot.sites.iter().flat_map(of_site)
}

fn pools_of(site: &Site) -> impl Iterator<Item = &Pool> {
    site.proxy.iter().flat_map(|proxy| &proxy.pools)
}

/// What a pool is called among all pools.
pub fn pool_name(snapshot: &Snapshot, site: &Site, pool: &Pool) -> String {
    let same = pools(snapshot).filter(|(_, other)| other.name == pool.name).count();
    if same > 1 { format!("{}/{}", site.name, pool.name) } else { pool.name.clone() }
}

/// The members of a pool that an operator sees, each with its number and name: those at an address,
/// and the first of an entry that has none.
pub fn members(pool: &Pool) -> Vec<(usize, String, &Member)> {
    let names = Names::of(pool);
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut shown = Vec::new();
    for (index, member) in pool.balancer.members().iter().enumerate() {
        let known = names.known.get(member.url.as_str()).copied().unwrap_or(0);
        let is_shown = member.endpoint.is_known() || known == 0 && member.endpoint.slot == 0;
        if !is_shown {
            continue;
        }
        let mut name = names.entry(member);
        if let (Some(address), true) = (member.endpoint.place(), known > 1) {
            name = format!("{name}@{address}");
        }
        // An entry that is there twice has one state, and is told apart here only.
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            name = format!("{name}#{times}");
        }
        shown.push((index + 1, name, member));
    }
    shown
}

/// What the names of a pool's members depend on.
struct Names<'a> {
    /// How many addresses of each entry are known, by URL.
    known: HashMap<&'a str, usize>,
    /// Addresses at which there are entries with different base paths.
    shared: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(pool: &'a Pool) -> Self {
        let (mut known, mut shared) = (HashMap::new(), HashSet::new());
        let mut paths: HashMap<&str, &str> = HashMap::new();
        for member in pool.balancer.members() {
            let count: &mut usize = known.entry(member.url.as_str()).or_default();
            *count += usize::from(member.endpoint.is_known());
            let label = member.endpoint.label.as_str();
            if *paths.entry(label).or_insert(&member.base_path) != member.base_path {
                shared.insert(label);
            }
        }
        Self { known, shared }
    }

    /// What an entry is called: by its address, and its base path where two have one address.
    fn entry(&self, member: &Member) -> String {
        let label = &member.endpoint.label;
        match self.shared.contains(label.as_str()) {
            true => format!("{label}{}", member.base_path),
            false => label.clone(),
        }
    }
}

fn pool_view(
    snapshot: &Snapshot,
    number: usize,
    (site, pool): (&Site, &Pool),
    now: Tick,
) -> PoolView {
    let members = members(pool);
    let view = |(number, name, member): (usize, String, &Member)| {
        endpoint_view((site, pool), number, name, member, now)
    };
    let endpoints: Vec<EndpointView> = members.into_iter().map(view).collect();
    PoolView {
        site: site.name.clone(),
        pool: pool.name.clone(),
        name: pool_name(snapshot, site, pool),
        number,
        waiting: pool.state.queue.waiting(),
        in_flight: endpoints.iter().map(|endpoint| endpoint.in_flight).sum(),
        max_in_flight: pool.most(),
        breaker: pool.breaker().map(breaker::Breaker::state),
        endpoints,
    }
}

fn endpoint_view(
    (site, pool): (&Site, &Pool),
    number: usize,
    name: String,
    member: &Member,
    now: Tick,
) -> EndpointView {
    let (endpoint, state) = (&member.endpoint, &member.state);
    let checks = &pool.settings.health_checks;
    let alone = !pool.balancer.may_leave_out();
    let until = |until: Option<Tick>| until.filter(|_| !alone).map(|until| until.since(now));
    let ejected_for = until(state.stats.until(now));
    let left_out_for = until(state.fails.until(now, member.max_fails, member.fail_timeout));
    let check = state.standing.last();
    let status = match member.wanted() {
        UpstreamState::Down => Status::Maintenance,
        _ if !endpoint.is_known() => Status::Unresolved,
        _ if !state.is_up() => Status::Down,
        UpstreamState::Drain => Status::Drain,
        UpstreamState::Up if ejected_for.is_some() => Status::Ejected,
        UpstreamState::Up if left_out_for.is_some() => Status::Failing,
        UpstreamState::Up => Status::Up,
    };
    let said = match state.steered() {
        Some(_) => "set by an operator",
        None => "set by the configuration",
    };
    let why = match status {
        Status::Maintenance | Status::Drain => said.to_owned(),
        Status::Unresolved => "the host name has no address".to_owned(),
        Status::Down => match check.as_ref().and_then(|check| check.failure.as_ref()) {
            Some(failure) => failure.clone(),
            None => "not checked yet".to_owned(),
        },
        Status::Ejected => "it failed more, or was slower, than the others".to_owned(),
        Status::Failing => format!("{} requests failed", member.max_fails),
        Status::Up => String::new(),
    };
    let address = endpoint.addresses().first().map(ToString::to_string);
    let is_unix = endpoint.host().is_none();
    EndpointView {
        site: site.name.clone(),
        pool: pool.name.clone(),
        name,
        number,
        url: member.url.clone(),
        address: address.or_else(|| is_unix.then(|| endpoint.label.clone())),
        status,
        why,
        since: state.standing.since(),
        configured: member.wanted,
        steered: state.steered(),
        weight: member.own_weight(),
        configured_weight: member.weight,
        priority: member.priority,
        in_flight: endpoint.in_flight(),
        max_conns: member.max_conns,
        pool_waiting: pool.state.queue.waiting(),
        breaker: pool.breaker().map(breaker::Breaker::state),
        has_checks: !checks.is_empty(),
        check,
        downs: state.standing.downs(),
        down_for: Duration::from_millis(state.standing.down_for()),
        failed_checks: state.standing.failed_checks(),
        ejected_for,
        left_out_for,
        counters: Counters::default(),
    }
}

/// What an operator names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// There is no such pool.
    Pool,
    /// The pool has no such endpoint.
    Endpoint,
}

/// The pool of this name.
pub fn find_pool<'a>(snapshot: &'a Snapshot, name: &str) -> Option<(&'a Site, &'a Pool)> {
    pools(snapshot).find(|(site, pool)| is_called(snapshot, site, pool, name))
}

fn is_called(snapshot: &Snapshot, site: &Site, pool: &Pool, name: &str) -> bool {
    let qualified = || {
        name.strip_suffix(&pool.name).and_then(|rest| rest.strip_suffix('/')) == Some(&site.name)
    };
    pool_name(snapshot, site, pool) == name || qualified()
}

/// Whom an operator speaks of.
#[derive(Debug)]
pub struct Named<'a> {
    /// The pool's site.
    pub site: &'a Site,
    /// The pool.
    pub pool: &'a Pool,
    /// All that go by the name; never empty.
    pub members: Vec<&'a Member>,
    /// One address of several of its host name is meant.
    pub here: bool,
}

/// The endpoint of this name in the pool of this name.
///
/// # Errors
/// There is none.
pub fn find<'a>(snapshot: &'a Snapshot, pool: &str, name: &str) -> Result<Named<'a>, NotFound> {
    let (site, pool) = find_pool(snapshot, pool).ok_or(NotFound::Pool)?;
    let all = pool.balancer.members();
    let names = Names::of(pool);
    let is_entry = |member: &&Member| names.entry(member) == name || member.url == name;
    let entry: Vec<&Member> = all.iter().filter(is_entry).collect();
    let (named, here) = match entry.is_empty() {
        false => (entry, false),
        true => {
            let shown = members(pool).into_iter().filter(|(_, other, _)| other == name);
            (shown.map(|(_, _, member)| member).collect(), true)
        }
    };
    match named.is_empty() {
        true => Err(NotFound::Endpoint),
        false => Ok(Named { site, pool, members: named, here }),
    }
}

/// The endpoint that `path` names, as in `pool/endpoint`; both may have slashes in their names.
///
/// # Errors
/// There is none.
pub fn find_path<'a>(snapshot: &'a Snapshot, path: &str) -> Result<Named<'a>, NotFound> {
    let mut failure = NotFound::Pool;
    for (at, _) in path.match_indices('/') {
        let (pool, name) = (path.get(..at).unwrap_or(""), path.get(at + 1..).unwrap_or(""));
        match find(snapshot, pool, name) {
            Ok(named) => return Ok(named),
            Err(NotFound::Endpoint) => failure = NotFound::Endpoint,
            Err(NotFound::Pool) => {}
        }
    }
    Err(failure)
}

impl Named<'_> {
    /// Says whether it is to be used from now on; `None`, or what the configuration says: as
    /// configured. `author` and what was said are told in the log.
    pub fn steer(&self, log: &ErrorLog, author: &Author, wanted: Option<UpstreamState>) {
        for member in &self.members {
            let wanted = wanted.filter(|wanted| *wanted != member.wanted);
            match self.here {
                true => member.state.steer_here(wanted),
                false => member.state.steer(wanted),
            }
        }
        let what = match wanted {
            None => "is used as configured",
            Some(UpstreamState::Up) => "is ready",
            Some(UpstreamState::Drain) => "is drained",
            Some(UpstreamState::Down) => "is in maintenance",
        };
        self.tell(log, author, format_args!("{what}"));
    }

    /// Says what its share is from now on; `None`, or what the configuration says: as configured.
    pub fn set_weight(&self, log: &ErrorLog, author: &Author, weight: Option<u32>) {
        for member in &self.members {
            member.state.set_weight(weight.filter(|weight| *weight != member.weight));
        }
        match weight {
            Some(weight) => self.tell(log, author, format_args!("has weight {weight}")),
            None => self.tell(log, author, format_args!("has its configured weight")),
        }
    }

    fn tell(&self, log: &ErrorLog, author: &Author, what: fmt::Arguments<'_>) {
        let Some(member) = self.members.first() else { return };
        let place = if self.here { member.place() } else { member.url.clone() };
        log.info(format_args!("pool \"{}\": {place} {what}, says {author}", self.pool.name));
    }
}
