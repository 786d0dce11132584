//! The pools of a scenario as they are in a process, and what the simulation knows of them besides.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use config::model::{
    self, FailOpen, HealthCheck, Level, Transport, UpstreamAddress, UpstreamState,
};
use net::timer::Tick;
use proxy::balance::{Balancer, Member};
use proxy::live::{Endpoint, Live, Lookup};
use proxy::log::{ErrorLog, sink};
use proxy::pool::Pool;

use super::super::super::{Health, Target};
use super::scenario::{Kind, PoolPlan, START, Scenario};

/// All but the pools.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) log: ErrorLog,
    /// What active checks know, and when the next one is, by pool and member.
    pub(super) checks: Vec<Vec<Option<Checked>>>,
    clock: Arc<AtomicU64>,
}

pub(super) struct Checked {
    health: Health,
    make: Box<dyn Fn() -> Health>,
    check: HealthCheck,
    pub(super) next: u64,
    /// What was reported.
    pub(super) up: Arc<AtomicBool>,
}

impl World {
    /// The world at its start, and all pools, each before and after the reload.
    pub(super) fn new(scenario: Scenario) -> (Self, Vec<[Pool; 2]>) {
        let live = Live::default();
        let (sink, _) = sink(1);
        let log = ErrorLog::new(sink, Level::Error);
        let clock = Arc::new(AtomicU64::new(START));
        let endpoints: Vec<Arc<Endpoint>> = (0..scenario.endpoints.len())
            .map(|index| {
                let named = scenario.endpoints[index].unresolved.is_some();
                let host = if named { "a.example" } else { "192.0.2.1" }.to_owned();
                let address = UpstreamAddress::Tcp { host, port: port(index) };
                live.endpoint(&address, &Transport::default(), Lookup::Addresses, 0)
            })
            .collect();
        let pools = scenario.pools.iter().enumerate().map(|(index, plans)| {
            let name = format!("pool-{index}");
            plans.each_ref().map(|plan| pool(&live, &name, plan, &endpoints))
        });
        let pools: Vec<[Pool; 2]> = pools.collect();
        let checks = pools.iter().map(|pools| {
            let members = pools[0].balancer.members().iter();
            let checks = &pools[0].settings.health_checks;
            members.map(|member| Checked::new(member, checks, &log, &clock)).collect()
        });
        let checks = checks.collect();
        let mut world = Self { endpoints, log, checks, clock, scenario };
        world.resolve(0);
        (world, pools)
    }

    /// Names resolve as they do at this time since the start.
    pub(super) fn resolve(&mut self, time: u64) {
        self.clock.store(START + time, Ordering::Relaxed);
        for index in 0..self.endpoints.len() {
            let Some((from, to)) = self.scenario.endpoints[index].unresolved else { continue };
            let (known, endpoint) = (!(from..to).contains(&time), &self.endpoints[index]);
            if known == endpoint.is_known() {
                continue;
            }
            let address = SocketAddr::new([192, 0, 2, 1].into(), port(index));
            endpoint.set_addresses(if known { vec![address] } else { Vec::new() });
            // Nothing is known of what is at another address.
            for checks in &mut self.checks {
                checks[index].iter_mut().for_each(Checked::forget);
            }
        }
    }

    /// Makes the active checks that are due at this time since the start.
    pub(super) fn probe(&mut self, time: u64) {
        self.clock.store(START + time, Ordering::Relaxed);
        for checks in &mut self.checks {
            for (checked, nature) in checks.iter_mut().zip(&self.scenario.endpoints) {
                let Some(checked) = checked.as_mut().filter(|checked| checked.next <= time) else {
                    continue;
                };
                let is_well = !matches!(
                    nature.fault(time),
                    Some(Kind::Dead | Kind::Stalled | Kind::Resets | Kind::Errors(_))
                );
                let outcome = if is_well { Ok(()) } else { Err("no".to_owned()) };
                checked.health.settle(0, outcome, std::time::Duration::ZERO);
                let check = &checked.check;
                let up = checked.health.is_up();
                let interval = if up { check.interval } else { check.down_interval };
                checked.next = time + interval.as_millis() as u64;
            }
        }
    }

    /// When the next check or change of a name is.
    pub(super) fn next_event(&self, time: u64) -> Option<u64> {
        let checks = self.checks.iter().flatten().flatten().map(|checked| checked.next);
        let names = self.scenario.endpoints.iter().filter_map(|nature| nature.unresolved);
        let names = names.flat_map(|(from, to)| [from, to]).filter(|at| *at > time);
        checks.chain(names).min()
    }
}

impl Checked {
    fn new(
        member: &Member,
        checks: &[HealthCheck],
        log: &ErrorLog,
        clock: &Arc<AtomicU64>,
    ) -> Option<Self> {
        let check = checks.first()?.clone();
        let up = Arc::new(AtomicBool::new(true));
        let (state, clock, seen) = (Arc::clone(&member.state), Arc::clone(clock), Arc::clone(&up));
        let report = move |up| {
            seen.store(up, Ordering::Relaxed);
            state.set_health(up, Tick::from(clock.load(Ordering::Relaxed)));
        };
        let (endpoint, url) = (Arc::clone(&member.endpoint), member.url.clone());
        let (checks, log) = (vec![check.clone()], log.clone());
        let make = move || {
            let report = report.clone();
            let target = Target {
                site: "site".to_owned(),
                pool: "pool".to_owned(),
                url: url.clone(),
                endpoint: Arc::clone(&endpoint),
                tls: None,
                checks: checks.clone(),
                report: Box::new(report),
                is_wanted: Box::new(|| true),
                seen: Box::new(|_, _| {}),
            };
            Health::new(target, None, log.clone())
        };
        Some(Self { health: make(), make: Box::new(make), check, next: 0, up })
    }

    fn forget(&mut self) {
        self.health = (self.make)();
    }
}

fn port(index: usize) -> u16 {
    8000 + index as u16
}

fn pool(live: &Live, name: &str, plan: &PoolPlan, endpoints: &[Arc<Endpoint>]) -> Pool {
    let member = |plan: &super::scenario::MemberPlan| {
        let endpoint = Arc::clone(&endpoints[plan.endpoint]);
        let url = format!("http://{}", endpoint.label);
        Member {
            state: live.member("site", name, &url, &endpoint),
            endpoint,
            tls: None,
            url,
            base_path: String::new(),
            weight: plan.weight,
            priority: plan.priority,
            wanted: plan.wanted,
            max_conns: plan.max_conns,
            slow_start: plan.slow_start,
            max_fails: plan.max_fails,
            fail_timeout: plan.fail_timeout,
            preserve_host: None,
            series: Default::default(),
        }
    };
    let members = plan.members.iter().map(member).collect();
    let state = live.pool("site", name);
    let epoch = Arc::clone(live.epoch());
    let settings = plan.settings.clone();
    let now = Tick::from(START);
    let balancer = Balancer::new(&settings, members, Arc::clone(&state), epoch, now);
    let pool = model::Pool { name: name.to_owned(), upstreams: Vec::new(), settings };
    Pool::new(&pool, balancer, None, state)
}

/// What has to come of a choice.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// One of these.
    OneOf(Vec<usize>),
    /// One of these, which may be left out otherwise, or patience.
    Any(Vec<usize>),
    Full,
    Nothing,
}

/// A pool as the simulation sees it: worked out from first principles, without plans and tables.
pub(super) struct View<'a> {
    pub(super) pool: &'a Pool,
    pub(super) checks: &'a [Option<Checked>],
    /// Requests in flight at each endpoint, as counted by the simulation.
    pub(super) in_flight: &'a HashMap<usize, u32>,
    pub(super) now: Tick,
}

impl View<'_> {
    fn is_wanted(&self, member: &Member) -> bool {
        member.wanted == UpstreamState::Up && member.endpoint.is_known()
    }

    /// Members that may get requests: wanted, up, and not found failing while there are others.
    pub(super) fn usable(&self) -> Vec<usize> {
        let members = self.pool.balancer.members();
        let alone = members.iter().filter(|member| self.is_wanted(member)).count() == 1;
        let is_usable = |index: &usize| {
            let member = &members[*index];
            let checked = self.checks.get(*index).and_then(Option::as_ref);
            let fails = &member.state.fails;
            self.is_wanted(member)
                && checked.is_none_or(|checked| checked.up.load(Ordering::Relaxed))
                && (alone
                    || fails.usable(self.now, member.max_fails, member.fail_timeout)
                        && !member.state.stats.ejected(self.now))
        };
        (0..members.len()).filter(is_usable).collect()
    }

    fn has_room(&self, index: usize) -> bool {
        let member = &self.pool.balancer.members()[index];
        let in_flight = self.in_flight.get(&member.endpoint.id).copied().unwrap_or(0);
        member.max_conns.is_none_or(|max| in_flight < max)
    }

    /// What a request that has tried these members is to be told.
    pub(super) fn expected(&self, tried: &[usize]) -> Expected {
        let members = self.pool.balancer.members();
        let mut candidates = self.usable();
        let fail_open = self.pool.settings.fail_open;
        let is_open = |index: &usize| {
            self.is_wanted(&members[*index])
                && match fail_open {
                    FailOpen::Never => false,
                    FailOpen::ToFailing => members[*index].state.is_up(),
                    FailOpen::ToAll => true,
                }
        };
        if candidates.is_empty() {
            candidates = (0..members.len()).filter(is_open).collect();
        }
        let mut tiers: Vec<u8> = candidates.iter().map(|index| members[*index].priority).collect();
        tiers.sort_unstable();
        tiers.dedup();
        let of_tier = |tier: u8| -> Vec<usize> {
            let of_tier = candidates.iter().copied().filter(|i| members[*i].priority == tier);
            let with_weight = of_tier.clone().filter(|index| self.has_weight(*index));
            let with_weight: Vec<usize> = with_weight.collect();
            if with_weight.is_empty() { of_tier.collect() } else { with_weight }
        };
        let no_other =
            self.usable().iter().all(|one| tried.contains(one) || !self.has_weight(*one));
        let usable = self.usable();
        let mut open: Vec<usize> = (0..members.len()).filter(is_open).collect();
        open.extend(usable.iter().filter(|index| !is_open(index)));
        if fail_open != FailOpen::Never && !tried.is_empty() && no_other && !open.is_empty() {
            open.retain(|index| self.has_room(*index));
            return Expected::Any(open);
        }
        for is_again in [false, true] {
            for &tier in &tiers {
                let mut of_tier = of_tier(tier);
                of_tier.retain(|index| is_again || !tried.contains(index));
                if of_tier.is_empty() {
                    continue;
                }
                of_tier.retain(|index| self.has_room(*index));
                return match of_tier.is_empty() {
                    true => Expected::Full,
                    false => Expected::OneOf(of_tier),
                };
            }
        }
        Expected::Nothing
    }

    /// For a message.
    pub(super) fn describe(&self) -> String {
        let usable = self.usable();
        let members = self.pool.balancer.members().iter().enumerate().map(|(index, member)| {
            let state = if usable.contains(&index) { "usable" } else { "unusable" };
            let (up, ejected) = (member.state.is_up(), member.state.stats.ejected(self.now));
            let fails = (&member.state.fails, member.max_fails, member.fail_timeout);
            format!(
                "\n{index}: {state}, {:?}, tier {}, weight {}, room {}, known {}, up {up}, ejected \
                 {ejected}, {fails:?}",
                member.wanted,
                member.priority,
                member.weight,
                self.has_room(index),
                member.endpoint.is_known(),
            )
        });
        let members: String = members.collect();
        format!("{:?}{members}", self.pool.settings.balance)
    }

    fn has_weight(&self, index: usize) -> bool {
        self.pool.balancer.members()[index].weight > 0
    }
}
