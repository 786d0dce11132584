//! What a seed stands for: a configuration, what is wrong with the endpoints and when, and when
//! requests come.

use std::time::Duration;

use config::model::{
    self, Balance, BreakerWindow, Concurrency, FailOpen, HashKey, HashTable, HealthCheck, Outlier,
    PoolSettings, Probe, Queue, Retry, RetryOn, StartState, UpstreamState,
};

use super::super::super::testing::check;
use super::chance::Chance;

/// Faults come and go for so long, in milliseconds.
pub(super) const FAULTS_END: u64 = 20_000;
/// Then all is well, and a request comes now and then, so that what has failed is tried again.
pub(super) const SETTLED: u64 = FAULTS_END + 30_000;

/// The first moment. Time 0 has a meaning of its own to some.
pub(super) const START: u64 = 1_000_000;

pub(super) struct Scenario {
    pub(super) endpoints: Vec<Nature>,
    /// Pools, each before and after a reload.
    pub(super) pools: Vec<[PoolPlan; 2]>,
    /// When the reload is, in milliseconds since the start.
    pub(super) reload: u64,
    /// When requests come, and to which pool.
    pub(super) arrivals: Vec<(u64, usize)>,
    /// Until the first byte of a response has to come.
    pub(super) patience: u64,
}

/// What an endpoint is like.
pub(super) struct Nature {
    /// Known by a name, which does not resolve at these times.
    pub(super) unresolved: Option<(u64, u64)>,
    /// Until it answers, in milliseconds; without a fault not so different that it stands out.
    pub(super) latency: u64,
    pub(super) faults: Vec<Fault>,
}

pub(super) struct Fault {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody takes connections.
    Dead,
    /// It takes requests and is silent.
    Stalled,
    /// It answers 500 or 503, so many times out of a hundred.
    Errors(u64),
    /// So many times its latency.
    Slow(u64),
    /// It takes requests and closes.
    Resets,
    /// Dead and well in turn, for so long each.
    Flaps(u64),
}

pub(super) struct PoolPlan {
    pub(super) settings: PoolSettings,
    pub(super) members: Vec<MemberPlan>,
}

#[derive(Clone)]
pub(super) struct MemberPlan {
    pub(super) endpoint: usize,
    pub(super) weight: u32,
    pub(super) priority: u8,
    pub(super) wanted: UpstreamState,
    pub(super) max_conns: Option<u32>,
    pub(super) slow_start: Duration,
    pub(super) max_fails: u32,
    pub(super) fail_timeout: Duration,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Scenario {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let count = chance.from(1, 6) as usize;
        let all_down = chance.percent(20).then(|| chance.below(FAULTS_END));
        let nature = |_| Nature::new(chance, all_down);
        let endpoints = (0..count).map(nature).collect();
        let mut pools = vec![plans(chance, count)];
        if chance.percent(30) {
            pools.push(plans(chance, count));
        }
        let mut arrivals = Vec::new();
        let mut time = 0;
        while time < FAULTS_END {
            // Many at once, then few.
            let (apart, requests) = match chance.below(3) {
                0 => (0, 10),
                1 => (20, 6),
                _ => (1500, 2),
            };
            for _ in 0..=chance.below(requests) {
                time += chance.below(apart + 1);
                arrivals.push((time, chance.below(pools.len() as u64) as usize));
            }
            time += chance.below(5000);
        }
        while time < SETTLED {
            time += chance.from(500, 1500);
            arrivals.extend((0..pools.len()).map(|pool| (time, pool)));
        }
        let reload = chance.below(SETTLED / 2);
        Self { endpoints, pools, reload, arrivals, patience: chance.from(200, 3000) }
    }
}

impl Nature {
    fn new(chance: &mut Chance, all_down: Option<u64>) -> Self {
        let fault = |chance: &mut Chance| {
            let from = chance.below(FAULTS_END);
            let to = (from + chance.from(100, FAULTS_END / 2)).min(FAULTS_END);
            let kind = match chance.below(6) {
                0 => Kind::Dead,
                1 => Kind::Stalled,
                2 => Kind::Errors(chance.from(30, 100)),
                3 => Kind::Slow(chance.from(5, 200)),
                4 => Kind::Resets,
                _ => Kind::Flaps(chance.from(50, 3000)),
            };
            Fault { from, to, kind }
        };
        let mut faults: Vec<Fault> = (0..chance.below(3)).map(|_| fault(chance)).collect();
        faults.extend(all_down.map(|from| {
            let to = (from + 5000).min(FAULTS_END);
            Fault { from, to, kind: Kind::Dead }
        }));
        let named = chance.percent(10);
        let unresolved = named.then(|| (chance.below(3000), chance.from(3000, FAULTS_END)));
        Self { unresolved, latency: chance.from(30, 60), faults }
    }

    /// What is wrong with it at `time` since the start.
    pub(super) fn fault(&self, time: u64) -> Option<Kind> {
        let fault = self.faults.iter().find(|fault| (fault.from..fault.to).contains(&time))?;
        match fault.kind {
            Kind::Flaps(period) if ((time - fault.from) / period).is_multiple_of(2) => {
                Some(Kind::Dead)
            }
            Kind::Flaps(_) => None,
            kind => Some(kind),
        }
    }
}

/// A pool before and after a reload. What has learnt has the same settings in both.
fn plans(chance: &mut Chance, endpoints: usize) -> [PoolPlan; 2] {
    let settings = settings(chance);
    let tiers = chance.percent(30);
    let members: Vec<MemberPlan> = (0..endpoints)
        .map(|endpoint| {
            let limit = chance.percent(30).then(|| chance.from(1, 3) as u32);
            MemberPlan {
                endpoint,
                weight: if chance.percent(5) { 0 } else { chance.from(1, 4) as u32 },
                priority: if tiers { chance.below(3) as u8 } else { 0 },
                wanted: wanted(chance),
                max_conns: limit,
                slow_start: millis(if chance.percent(20) { chance.from(500, 5000) } else { 0 }),
                max_fails: chance.below(4) as u32,
                fail_timeout: millis(chance.from(200, 6000)),
            }
        })
        .collect();
    let mut after = members.clone();
    if chance.percent(50) {
        for member in &mut after {
            match chance.below(4) {
                0 => member.wanted = wanted(chance),
                1 => member.weight = chance.from(1, 4) as u32,
                2 => member.max_conns = chance.percent(50).then(|| chance.from(1, 3) as u32),
                _ => member.priority = chance.below(2) as u8,
            }
        }
    }
    // Nothing is to be seen of a pool in which nobody is wanted.
    for plan in [&mut after] {
        if plan.iter().all(|member| member.wanted != UpstreamState::Up) {
            plan[0].wanted = UpstreamState::Up;
        }
    }
    let again = settings.clone();
    [PoolPlan { settings, members }, PoolPlan { settings: again, members: after }]
}

fn wanted(chance: &mut Chance) -> UpstreamState {
    match chance.below(12) {
        0 => UpstreamState::Down,
        1 => UpstreamState::Drain,
        _ => UpstreamState::Up,
    }
}

fn settings(chance: &mut Chance) -> PoolSettings {
    let share = |chance: &mut Chance, percent| chance.percent(percent);
    PoolSettings {
        balance: balance(chance),
        health_checks: (0..u64::from(share(chance, 40))).map(|_| health_check(chance)).collect(),
        outlier: share(chance, 50).then(|| outlier(chance)),
        fail_open: match chance.from(0, 2) {
            0 => FailOpen::Never,
            1 => FailOpen::ToFailing,
            _ => FailOpen::ToAll,
        },
        retry: retry(chance),
        breaker: share(chance, 30).then(|| breaker(chance)),
        concurrency: Concurrency {
            max: share(chance, 30).then(|| chance.from(1, 6) as u32),
            adaptive: share(chance, 15),
        },
        queue: Queue { max: chance.below(8) as u32, timeout: millis(chance.from(100, 8000)) },
        ..PoolSettings::default()
    }
}

fn balance(chance: &mut Chance) -> Balance {
    let hash = |table, bounded_load| Balance::Hash { key: HashKey::Uri, table, bounded_load };
    // Tables and rings take long to make without optimization.
    if chance.below(200) == 0 {
        let bound = chance.percent(50).then_some(125);
        return hash(chance.one_of(&[HashTable::Ketama, HashTable::Maglev]), bound);
    }
    chance.one_of(&[
        Balance::RoundRobin,
        Balance::RoundRobin,
        Balance::Weighted,
        Balance::Weighted,
        Balance::LeastConnections,
        Balance::Random,
        Balance::WeightedRandom,
        Balance::PeakEwma,
        hash(HashTable::Modulo, None),
    ])
}

fn health_check(chance: &mut Chance) -> HealthCheck {
    HealthCheck {
        interval: millis(chance.from(300, 3000)),
        down_interval: millis(chance.from(200, 2000)),
        rise: chance.from(1, 3) as u32,
        fall: chance.from(1, 3) as u32,
        start: chance.one_of(&[StartState::Up, StartState::UpUntilFailure, StartState::Down]),
        ..check(Probe::Tcp)
    }
}

fn outlier(chance: &mut Chance) -> Outlier {
    Outlier {
        consecutive: chance.below(6) as u32,
        failures: chance.one_of(&[0, 30, 50]),
        latency: chance.one_of(&[0, 0, 300]),
        minimum: chance.from(2, 10) as u32,
        window: millis(chance.from(500, 5000)),
        base_time: millis(chance.from(200, 3000)),
        max_time: millis(chance.from(3000, 8000)),
        max_ejected: chance.one_of(&[0, 30, 50, 100]),
    }
}

fn retry(chance: &mut Chance) -> Retry {
    let mut on = || chance.percent(70);
    let on = RetryOn {
        connect: on(),
        timeout: on(),
        reset: on(),
        invalid: on(),
        refused: on(),
        statuses: if on() { vec![503] } else { Vec::new() },
    };
    Retry {
        attempts: chance.from(1, 4) as u32,
        timeout: chance.percent(20).then(|| millis(chance.from(100, 3000))),
        on,
        non_idempotent: chance.percent(30),
        backoff: millis(if chance.percent(30) { chance.from(10, 300) } else { 0 }),
        budget: chance.one_of(&[0, 20, 50, 100]),
        budget_minimum: chance.below(4) as u32,
        ..Retry::default()
    }
}

fn breaker(chance: &mut Chance) -> model::Breaker {
    model::Breaker {
        window: match chance.percent(50) {
            true => BreakerWindow::Count(chance.from(2, 20) as u32),
            false => BreakerWindow::Time(Duration::from_secs(chance.from(1, 10))),
        },
        failure_rate: chance.from(20, 100) as u32,
        slow_rate: chance.from(50, 100) as u32,
        slow: millis(chance.from(50, 2000)),
        minimum: chance.from(1, 10) as u32,
        trials: chance.from(1, 4) as u32,
        open: millis(chance.from(200, 4000)),
        half_open_max: millis(chance.one_of(&[0, 2000])),
        statuses: vec![(500, 599)],
    }
}
