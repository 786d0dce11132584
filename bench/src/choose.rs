//! What it costs a request to be given to one of several upstreams and to be accounted for.
//!
//! A request does here what it does in `proxy::forward` on its way to an upstream and back, in the
//! same order and on pools made from a configuration: leave of the circuit breaker, the retry budget,
//! its turn, the choice, a place in the pool and at the member; then its outcome for the member, for
//! the adaptive limit and for the breaker. A few requests are in flight at any time. All of them
//! succeed, as nearly all do.
//!
//! In a loop everything is in the cache of the one core. So it is measured once more with two workers
//! and a pause between requests: what one has written the other has to fetch.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use config::model::{HashKey, Level};
use net::timer::{Tick, unix_millis};
use proxy::balance::{Ask, Choice, Member, Tried};
use proxy::health::breaker::Permit;
use proxy::live::{InFlight, Live};
use proxy::log::{ErrorLog, sink};
use proxy::pool::{InPool, Pool};
use proxy::snapshot::Snapshot;
use proxy::sticky::Found;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::Result;
use crate::scenario::FIVE;

/// Requests of one measurement: few, so that on a busy machine too some are not disturbed.
const REQUESTS: u32 = 25_000;
/// Requests in flight; fewer than the adaptive limit allows at first.
const IN_FLIGHT: usize = 16;
/// Workers on cores of their own that share a pool, and the requests of each in one measurement.
const WORKERS: usize = 2;
const REQUESTS_APART: usize = 1_000;
/// Between two requests of a worker.
const PAUSE: Duration = Duration::from_micros(2);
/// How long a request may be without a place.
const PATIENCE: Duration = Duration::from_secs(10);
/// Different values of what is hashed.
const PROPERTIES: usize = 4096;

/// Each member's part of "everything".
const MEMBER: &str = "max_conns = 1000\nmax_fails = 3\nfail_timeout = 10\nslow_start = \"10s\"\n";
/// The pool's part of it. What is not said has its default.
const EVERYTHING: &str = "[sites.proxy.health_check]\ninterval = 1\n\
    [sites.proxy.outlier]\nconsecutive = 5\nfailures = 50\nlatency = 500\n\
    [sites.proxy.retry]\nattempts = 3\non = [\"connect\", \"reset\", \"refused\", 502, 503]\nbudget = 20\n\
    [sites.proxy.circuit_breaker]\nfailure_rate = 50\n\
    [sites.proxy.concurrency]\nmax = 1000\nadaptive = true\n\
    [sites.proxy.queue]\nmax = 1000\n";

/// Every method, with everything on.
const METHODS: &[(&str, &str)] = &[
    ("round_robin", "method = \"round_robin\""),
    ("weighted", "method = \"weighted\""),
    ("least_connections", "method = \"least_connections\""),
    ("random", "method = \"random\""),
    ("weighted_random", "method = \"weighted_random\""),
    ("least_time", "method = \"least_time\""),
    ("ip_hash", "method = \"ip_hash\""),
    ("uri_hash", "method = \"uri_hash\""),
    ("header_hash", "method = \"header_hash\"\nhash_key = \"X-Session\""),
    ("cookie_hash", "method = \"cookie_hash\"\nhash_key = \"session\""),
    ("uri_hash, ketama", "method = \"uri_hash\"\nconsistent = \"ketama\""),
    ("uri_hash, maglev", "method = \"uri_hash\"\nconsistent = \"maglev\""),
    (
        "uri_hash, ketama, bounded_load",
        "method = \"uri_hash\"\nconsistent = \"ketama\"\nbounded_load = 125",
    ),
    (
        "uri_hash, maglev, bounded_load",
        "method = \"uri_hash\"\nconsistent = \"maglev\"\nbounded_load = 125",
    ),
];

/// What each thing costs alone, with round robin: its name, for each member, for the pool.
const PARTS: &[(&str, &str, &str)] = &[
    ("five members, nothing on", NO_FAILS, ""),
    ("max_fails", "", ""),
    ("max_conns", "max_fails = 0\nmax_conns = 1000\n", ""),
    ("outlier", NO_FAILS, "[sites.proxy.outlier]\nconsecutive = 5\n"),
    ("outlier, by latency too", NO_FAILS, "[sites.proxy.outlier]\nlatency = 500\n"),
    ("circuit_breaker, of calls", NO_FAILS, "[sites.proxy.circuit_breaker]\nwindow = 100\n"),
    ("circuit_breaker, of time", NO_FAILS, "[sites.proxy.circuit_breaker]\nwindow = \"10s\"\n"),
    ("concurrency, max", NO_FAILS, "[sites.proxy.concurrency]\nmax = 1000\n"),
    ("concurrency, adaptive", NO_FAILS, "[sites.proxy.concurrency]\nadaptive = true\n"),
    ("sticky cookie", NO_FAILS, "[sites.proxy.load_balancing]\nsticky_sessions = true\n"),
];
const NO_FAILS: &str = "max_fails = 0\n";

/// Prints what every method costs a request in CPU time; false if one costs over `most` nanoseconds
/// more than round robin with one upstream.
pub(crate) fn measure(runs: u32, most: f64) -> Result<bool> {
    let (lines, _written) = sink(1);
    let log = ErrorLog::new(lines, Level::Error);
    let all = |method: &str| format!("[sites.proxy.load_balancing]\n{method}\n{EVERYTHING}");
    let mut plain = Case::new("round robin, one member, nothing on", 1, NO_FAILS, "")?;
    let mut methods = METHODS
        .iter()
        .map(|(name, method)| Case::new(name, FIVE, MEMBER, &all(method)))
        .collect::<Result<Vec<_>>>()?;
    let mut parts = PARTS
        .iter()
        .map(|(name, member, pool)| Case::new(name, FIVE, member, pool))
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..runs {
        // All of them in each run, so that a machine that is busy for a while is so for all.
        for case in [&mut plain].into_iter().chain(&mut methods).chain(&mut parts) {
            case.run(&log)?;
            case.run_apart(&log)?;
        }
    }
    print("", std::slice::from_ref(&plain), &plain);
    print(&format!("{FIVE} members, everything on"), &methods, &plain);
    print("round robin, this alone", &parts, &plain);
    let dear = methods.iter().filter(|case| case.best_ns - plain.best_ns > most);
    let dear: Vec<&str> = dear.map(|case| case.name).collect();
    match dear.is_empty() {
        true => println!("Every method: at most {most:.0} ns more."),
        false => println!("**Too dear**, over {most:.0} ns more: {}", dear.join("; ")),
    }
    Ok(dear.is_empty())
}

fn print(title: &str, cases: &[Case], plain: &Case) {
    println!("| {title} | CPU ns | more | two workers, ns | more |\n|---|---|---|---|---|");
    for case in cases {
        let (name, best, apart) = (case.name, case.best_ns, case.apart_ns());
        let (more, more_apart) = (best - plain.best_ns, apart - plain.apart_ns());
        println!("| {name} | {best:.0} | {more:.0} | {apart:.0} | {more_apart:.0} |");
    }
    println!();
}

/// A pool, and what a request to it has cost.
struct Case {
    name: &'static str,
    snapshot: Snapshot,
    /// What a request may have that the method goes by.
    properties: Vec<Vec<u8>>,
    /// The `Cookie` field of a client that keeps to a member, where the pool has that.
    cookie: Option<Vec<u8>>,
    random: u64,
    /// With one worker.
    best_ns: f64,
    /// With several: the median of each measurement.
    apart_ns: Vec<f64>,
}

impl Case {
    fn new(name: &'static str, members: usize, member: &str, pool: &str) -> Result<Self> {
        let text = configuration(members, member, pool);
        let loaded = config::load(&[("pool.toml".into(), text)], &config::Options::default());
        let model = loaded.model.as_ref().ok_or_else(|| loaded.render(false))?;
        let (snapshot, _) = Snapshot::compile(model, &Live::default())?;
        let random = 0x5eed;
        let (properties, cookie) = (Vec::new(), None);
        let (best_ns, apart_ns) = (f64::INFINITY, Vec::new());
        let mut case = Self { name, snapshot, properties, cookie, random, best_ns, apart_ns };
        let key = case.pool()?.balancer.hash_key();
        case.properties = (0..PROPERTIES).map(|number| property(key, number)).collect();
        case.cookie = cookie_of(case.pool()?)?;
        Ok(case)
    }

    fn pool(&self) -> Result<&Pool> {
        let proxy = self.snapshot.sites.first().and_then(|site| site.proxy.as_ref());
        proxy.and_then(|proxy| proxy.pools.first()).ok_or_else(|| "there is no pool".into())
    }

    /// Measures one worker once and keeps the best.
    fn run(&mut self, log: &ErrorLog) -> Result<()> {
        let mut worker = Worker::new(self, log, self.random, IN_FLIGHT)?;
        let before = cpu_ns();
        for _ in 0..REQUESTS {
            worker.request()?;
        }
        let best_ns = (cpu_ns() - before) / f64::from(REQUESTS);
        self.random = worker.end();
        self.best_ns = self.best_ns.min(best_ns);
        Ok(())
    }

    /// Measures several workers once.
    fn run_apart(&mut self, log: &ErrorLog) -> Result<()> {
        let (case, barrier) = (&*self, Barrier::new(WORKERS));
        let work = |core: usize| {
            // With fewer cores they take turns, and the figure says less.
            let mut cores = CpuSet::new();
            cores.set(core);
            sched_setaffinity(None, &cores).ok();
            barrier.wait();
            case.durations(log, core as u64).map_err(|error| error.to_string())
        };
        let durations: std::result::Result<Vec<_>, String> = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..WORKERS).map(|core| scope.spawn(move || work(core))).collect();
            let ended = workers.into_iter().map(|worker| worker.join());
            ended.map(|worker| worker.map_err(|_| "a worker panicked".to_owned())?).collect()
        });
        self.apart_ns.push(median(durations?.into_iter().flatten().collect()));
        Ok(())
    }

    /// How long each request of a worker took, in nanoseconds.
    fn durations(&self, log: &ErrorLog, random: u64) -> Result<Vec<f64>> {
        let mut worker = Worker::new(self, log, random, IN_FLIGHT / WORKERS)?;
        let mut durations = Vec::with_capacity(REQUESTS_APART);
        let mut now = Instant::now();
        for _ in 0..REQUESTS_APART {
            let next = now + PAUSE;
            while now < next {
                std::hint::spin_loop();
                now = Instant::now();
            }
            worker.request()?;
            let after = Instant::now();
            durations.push((after - now).as_nanos() as f64);
            now = after;
        }
        worker.end();
        Ok(durations)
    }

    fn apart_ns(&self) -> f64 {
        median(self.apart_ns.clone())
    }
}

/// Makes requests one after another.
struct Worker<'a> {
    case: &'a Case,
    pool: &'a Pool,
    log: &'a ErrorLog,
    random: u64,
    /// How many have been made.
    number: usize,
    /// The requests in flight, the oldest first, and how many there may be.
    in_flight: VecDeque<Request<'a>>,
    most: usize,
}

impl<'a> Worker<'a> {
    fn new(case: &'a Case, log: &'a ErrorLog, random: u64, most: usize) -> Result<Self> {
        let (pool, in_flight) = (case.pool()?, VecDeque::with_capacity(most));
        Ok(Self { case, pool, log, random, number: 0, in_flight, most })
    }

    /// Makes a request; the oldest one ends if there are enough in flight.
    fn request(&mut self) -> Result<()> {
        let Self { case, pool, log, .. } = *self;
        let property = case.properties.get(self.number % PROPERTIES);
        self.number += 1;
        if self.in_flight.len() == self.most {
            self.end_oldest();
        }
        let mut request = Request::new(pool, log, black_box(property), case.cookie.as_deref())?;
        let mut since = None;
        while !request.take_place(next_random(&mut self.random))? {
            // The adaptive limit falls for a moment when it measures; all places may then be those of
            // a worker that is not running.
            if self.in_flight.is_empty() {
                thread::yield_now();
            }
            self.end_oldest();
            if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return Err("there is never a place".into());
            }
        }
        self.in_flight.push_back(request);
        Ok(())
    }

    fn end_oldest(&mut self) {
        if let Some(oldest) = self.in_flight.pop_front() {
            oldest.end(self.log);
        }
    }

    /// Ends all that are in flight; gives the state of the random numbers.
    fn end(mut self) -> u64 {
        while !self.in_flight.is_empty() {
            self.end_oldest();
        }
        self.random
    }
}

/// A request and what it holds of its pool; the steps are those of `proxy::forward`'s attempts.
struct Request<'a> {
    pool: &'a Pool,
    permit: Option<Permit>,
    tried: Tried,
    began: Tick,
    hash: u64,
    turn: usize,
    found: Found,
    started: Option<Instant>,
    place: Option<(&'a Member, InFlight<'a>, Option<InPool<'a>>)>,
}

impl<'a> Request<'a> {
    fn new(
        pool: &'a Pool,
        log: &ErrorLog,
        property: Option<&Vec<u8>>,
        cookie: Option<&[u8]>,
    ) -> Result<Self> {
        let began = Tick::now();
        let permit = pool.permit(log, began).map_err(|_| "the circuit breaker is open")?;
        pool.budget.request(began);
        let key = pool.balancer.hash_key().and(property);
        // The proxy copies the property too.
        let hash = key.map_or(0, |property| Ask::hash_of(&black_box(property.clone())));
        let turn = pool.balancer.take_turn();
        let seconds = unix_millis() / 1000;
        let sticky = pool.sticky.as_ref();
        let found = sticky.map_or(Found::None, |s| s.find(black_box(cookie).into_iter(), seconds));
        let tried = Tried::default();
        Ok(Self { pool, permit, tried, began, hash, turn, found, started: None, place: None })
    }

    /// Chooses a member and takes a place at it; false if there is none at present.
    fn take_place(&mut self, random: u64) -> Result<bool> {
        let pool = self.pool;
        if !pool.has_room() {
            return Ok(false);
        }
        let now = Tick::now();
        let keeper = self.found.tag().and_then(|tag| pool.keeper(tag, &self.tried, now));
        let ask = Ask { hash: self.hash, random, turn: self.turn, now };
        let choice = match keeper {
            Some((member, trial)) => Choice::Member(member, trial),
            None => pool.balancer.choose(&ask, &self.tried),
        };
        let member = match choice {
            Choice::Member(member, _) => member,
            Choice::Full => return Ok(false),
            Choice::Nothing => return Err("there is no member that can be used".into()),
        };
        let Some(in_flight) = member.endpoint.enter(member.max_conns) else { return Ok(false) };
        let Some(in_pool) = pool.enter() else { return Ok(false) };
        if let Some(index) = pool.balancer.index_of(member) {
            self.tried.add(index);
        }
        self.place = Some((member, in_flight, in_pool));
        self.started = pool.wants_latency().then(Instant::now);
        Ok(true)
    }

    /// It is answered with 200.
    fn end(mut self, log: &ErrorLog) {
        let (pool, started) = (self.pool, self.started);
        let micros = || started.map(|started| started.elapsed().as_micros() as u64);
        let Some((member, in_flight, in_pool)) = self.place.take() else { return };
        pool.answered(log, member, black_box(200), micros(), Tick::now());
        if let Some(permit) = self.permit.take() {
            pool.done(log, permit, Some(black_box(200)), micros(), Tick::now());
        }
        if let (Some(sticky), Some(tag)) = (&pool.sticky, pool.tag_of(member)) {
            black_box(sticky.needs_cookie(self.found, tag, std::iter::empty()));
        }
        let is_limited = member.max_conns.is_some() || in_pool.is_some();
        drop((in_flight, in_pool));
        if is_limited {
            pool.state.queue.leave_room();
        }
        black_box((self.began, &self.tried));
    }
}

/// What requests have that differ.
fn property(key: Option<&HashKey>, number: usize) -> Vec<u8> {
    let address = Ipv4Addr::from_bits(0x0a00_0000 | (number as u32) << 8).octets();
    match key {
        None => Vec::new(),
        Some(HashKey::ClientNetwork) => address[..3].to_vec(),
        Some(HashKey::ClientAddress) => address.to_vec(),
        Some(HashKey::Uri) => {
            format!("/section-{}/articles/2026/some-title?page={number}", number % 11).into_bytes()
        }
        Some(HashKey::Header(_) | HashKey::Cookie(_)) => format!("{number:032x}").into_bytes(),
    }
}

/// The `Cookie` field of a client that belongs to the pool's last member.
fn cookie_of(pool: &Pool) -> Result<Option<Vec<u8>>> {
    let Some(sticky) = &pool.sticky else { return Ok(None) };
    let tag = pool.balancer.members().last().and_then(|member| pool.tag_of(member));
    let mut line = Vec::new();
    sticky.set_cookie(tag.ok_or("a member has no tag")?, false, unix_millis() / 1000, &mut line);
    let value = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let value = value.strip_prefix(b"Set-Cookie: ").ok_or("no cookie is set")?;
    Ok(Some([b"theme=dark; ", value].concat()))
}

fn configuration(members: usize, member: &str, pool: &str) -> String {
    let mut text = "[[sites]]\nname = \"site\"\nhostname = \"www.example.com\"\nport = 80\n\
                    [sites.proxy]\nenabled = true\n"
        .to_owned();
    for number in 0..members {
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "[[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"http://127.0.0.1:{}\"\n\
             weight = {}\n{member}",
            3001 + number,
            1 + number,
        );
    }
    text + pool
}

/// SplitMix64, as the proxy's workers have it.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// CPU time of this thread.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

#[cfg(test)]
mod tests {
    use config::model::UpstreamState;

    use super::*;

    #[test]
    fn everything_is_on_in_every_method() {
        for (name, method) in METHODS {
            let tables = format!("[sites.proxy.load_balancing]\n{method}\n{EVERYTHING}");
            let case = Case::new(name, FIVE, MEMBER, &tables).unwrap();
            let pool = case.pool().unwrap();
            let settings = &pool.settings;
            assert!(settings.outlier.as_ref().is_some_and(|outlier| outlier.latency > 0));
            assert!(settings.breaker.is_some() && settings.concurrency.adaptive);
            assert!(settings.retry.budget > 0 && !settings.health_checks.is_empty());
            assert_eq!(pool.balancer.members().len(), FIVE);
            for member in pool.balancer.members() {
                assert!(member.max_fails > 0 && member.max_conns.is_some());
                assert_eq!(member.wanted, UpstreamState::Up);
            }
        }
    }

    #[test]
    fn requests_are_spread_and_leave_nothing_behind() {
        let (lines, _written) = sink(1);
        let log = ErrorLog::new(lines, Level::Error);
        let tables = format!("[sites.proxy.load_balancing]\nmethod = \"random\"\n{EVERYTHING}");
        let mut case = Case::new("random", FIVE, MEMBER, &tables).unwrap();
        case.run(&log).unwrap();
        assert!(case.best_ns > 0.0 && case.best_ns.is_finite());
        let members = case.pool().unwrap().balancer.members();
        assert!(members.iter().all(|member| member.endpoint.in_flight() == 0));
        assert!(case.pool().unwrap().enter().is_some());
    }

    #[test]
    fn workers_share_a_pool() {
        let (lines, _written) = sink(1);
        let log = ErrorLog::new(lines, Level::Error);
        let tables = format!("[sites.proxy.load_balancing]\nmethod = \"random\"\n{EVERYTHING}");
        let mut case = Case::new("random", FIVE, MEMBER, &tables).unwrap();
        case.run_apart(&log).unwrap();
        case.run_apart(&log).unwrap();
        assert!(case.apart_ns() > 0.0);
        let members = case.pool().unwrap().balancer.members();
        assert!(members.iter().all(|member| member.endpoint.in_flight() == 0));
    }

    #[test]
    fn a_client_with_a_cookie_keeps_to_its_member() {
        let (lines, _written) = sink(1);
        let log = ErrorLog::new(lines, Level::Error);
        let (name, member, pool) = PARTS.last().unwrap();
        let case = Case::new(name, FIVE, member, pool).unwrap();
        let pool = case.pool().unwrap();
        let mut request = Request::new(pool, &log, None, case.cookie.as_deref()).unwrap();
        assert!(request.take_place(0).unwrap());
        let (member, ..) = request.place.as_ref().unwrap();
        assert_eq!(pool.balancer.index_of(member), Some(FIVE - 1));
    }
}
