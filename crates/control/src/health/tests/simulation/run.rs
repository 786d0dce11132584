//! Time and order: which request makes its next step, and what has to be true before and after it.

use std::collections::HashMap;
use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use config::model::{Balance, FailOpen};
use net::timer::Tick;
use proxy::balance::{Ask, Choice, Trial, Tried};
use proxy::health::breaker::State;
use proxy::health::outlier::Failure;
use proxy::log::Cause;
use proxy::pool::Pool;

use super::chance::Chance;
use super::request::{Ended, Flight, Request, Response, Step};
use super::scenario::{FAULTS_END, Kind, START};
use super::world::{Expected, View, World};

/// Pauses are doubled, and no longer than this.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// No member starts more slowly.
const SLOW_START_MAX: u64 = 5000;
/// More steps than any run takes.
const STEPS_MAX: u32 = 200_000;

pub(super) struct Run<'a> {
    pools: &'a [[Pool; 2]],
    requests: Vec<Request<'a>>,
    chance: Chance,
    /// Since the start.
    time: u64,
    /// By endpoint.
    in_flight: HashMap<usize, u32>,
    ledgers: Vec<Ledger>,
    pub(super) answered: usize,
    pub(super) failed: usize,
}

/// What was seen of a pool.
#[derive(Default)]
struct Ledger {
    requests: u64,
    /// Further attempts that the budget paid.
    paid: u64,
    /// Rounds of trials of the breaker, and trials of this one.
    round: u64,
    trials: u32,
}

impl<'a> Run<'a> {
    pub(super) fn new(pools: &'a [[Pool; 2]], chance: Chance) -> Self {
        let ledgers = pools.iter().map(|_| Ledger::default()).collect();
        let (requests, in_flight) = (Vec::new(), HashMap::new());
        Self { pools, requests, chance, time: 0, in_flight, ledgers, answered: 0, failed: 0 }
    }

    fn now(&self) -> Tick {
        Tick::from(START + self.time)
    }

    /// From the first request to the last.
    pub(super) fn run(&mut self, world: &mut World) {
        let mut arrivals = world.scenario.arrivals.clone().into_iter().peekable();
        for _ in 0..STEPS_MAX {
            while arrivals.peek().is_some_and(|(time, _)| *time <= self.time) {
                let Some((_, index)) = arrivals.next() else { break };
                let generation = usize::from(self.time >= world.scenario.reload);
                self.arrive(index, generation);
            }
            self.requests.retain(|request| !matches!(request.step, Step::Done));
            let now = self.now();
            let able: Vec<usize> = (0..self.requests.len())
                .filter(|&index| is_able(&mut self.requests[index], now))
                .collect();
            if able.is_empty() {
                self.check_waiting(world);
                let untils = self.requests.iter().filter_map(Request::until);
                let untils = untils.map(|until| until.as_millis() - START);
                let next = arrivals.peek().map(|(time, _)| *time);
                let next = next.into_iter().chain(untils).min();
                // What goes on for ever alone does not count.
                let Some(next) = next else { break };
                let next = next.min(world.next_event(self.time).unwrap_or(next));
                self.time = next.max(self.time);
                world.resolve(self.time);
                world.probe(self.time);
                continue;
            }
            let index = able[self.chance.below(able.len() as u64) as usize];
            let step = std::mem::replace(&mut self.requests[index].step, Step::Done);
            let next = self.step(index, step, world);
            self.requests[index].step = next;
        }
        assert!(self.requests.is_empty(), "{} requests do not end", self.requests.len());
        for [pool, _] in self.pools {
            assert_eq!(pool.state.in_flight(), 0, "places that nobody has");
            assert_eq!(pool.state.queue.waiting(), 0, "waiting that nobody does");
        }
        let left: u32 = world.endpoints.iter().map(|endpoint| endpoint.in_flight()).sum();
        assert_eq!(left, 0, "requests in flight that nobody has");
    }

    fn arrive(&mut self, index: usize, generation: usize) {
        let pool = &self.pools[index][generation];
        let mut request = Request::new(pool, index, self.now());
        if self.time < FAULTS_END {
            request.idempotent = self.chance.percent(70);
            if self.chance.percent(5) {
                request.leaves = START + self.time + self.chance.below(2000);
            }
        }
        request.hash = self.chance.bits();
        self.requests.push(request);
    }

    fn view<'v>(&'v self, request: &Request<'a>, world: &'v World) -> View<'v>
    where
        'a: 'v,
    {
        let checks = &world.checks[request.index];
        View { pool: request.pool, checks, in_flight: &self.in_flight, now: self.now() }
    }

    /// Nobody waits who could go on.
    fn check_waiting(&self, world: &World) {
        for request in &self.requests {
            if !matches!(request.step, Step::Wait(_)) || !request.pool.has_room() {
                continue;
            }
            let expected = self.view(request, world).expected(&request.tried_indices);
            let is_full = matches!(expected, Expected::Full | Expected::Any(_));
            let waiting = self.requests.iter().filter(|one| matches!(one.step, Step::Wait(_)));
            let after = |one: &&Request<'_>| std::ptr::eq(one.pool, &self.pools[one.index][1]);
            assert!(
                is_full,
                "a request waits that could go on: {expected:?}, {} tried {:?}, {} wait, {} of them \
                 came after the reload, at {:?} of {}",
                self.time,
                request.tried_indices,
                waiting.clone().count(),
                waiting.filter(after).count(),
                self.now(),
                self.view(request, world).describe(),
            );
        }
    }

    fn step(&mut self, index: usize, step: Step<'a>, world: &World) -> Step<'a> {
        let now = self.now();
        let request = &self.requests[index];
        if now.as_millis() >= request.leaves && !matches!(step, Step::Arrive | Step::Done) {
            return self.client_leaves(index, step);
        }
        let pool = request.pool;
        match step {
            Step::Arrive => self.admit(index, world),
            Step::Look if pool.has_room() => Step::Choose,
            Step::Look => self.is_full(index),
            Step::Choose => self.choose(index, world),
            Step::TakeMember(member, probe) => match member.endpoint.enter(member.max_conns) {
                Some(in_flight) => {
                    let count = self.in_flight.entry(member.endpoint.id).or_default();
                    let has_room = member.max_conns.is_none_or(|max| *count < max);
                    assert!(has_room, "more requests than max_conns: {count}");
                    *count += 1;
                    Step::TakePool(member, probe, in_flight)
                }
                None => {
                    give_up_trial(probe);
                    Step::Choose
                }
            },
            Step::TakePool(member, probe, in_flight) => {
                let (before, most) = (pool.state.in_flight(), pool.most());
                let Some(in_pool) = pool.enter() else {
                    self.left(member.endpoint.id);
                    give_up_trial(probe);
                    drop(in_flight);
                    return self.is_full(index);
                };
                assert!(most.is_none_or(|most| before < most), "more requests than allowed");
                let limited = member.max_conns.is_some() || in_pool.is_some();
                let flight = Flight {
                    member,
                    in_flight: Some(in_flight),
                    in_pool,
                    queue: limited.then_some(&pool.state.queue),
                    probe,
                    started: now,
                };
                self.take_off(index, flight, world)
            }
            Step::Queue => {
                let settings = &pool.settings.queue;
                let choosy = !self.requests[index].tried.is_empty();
                let Some(place) = pool.state.queue.enter(settings.max, choosy) else {
                    return self.end(index, Ended::Unserved);
                };
                assert!(pool.state.queue.waiting() <= settings.max, "too many wait");
                let until = now.after(settings.timeout);
                let request = &mut self.requests[index];
                request.place = Some(place);
                request.patient_until = until;
                Step::Listen
            }
            Step::Listen => {
                let mut news = Box::pin(pool.state.queue.news());
                news.as_mut().enable();
                self.requests[index].news = Some(news);
                Step::Look
            }
            Step::Wait(_) => {
                let request = &mut self.requests[index];
                let is_over = now >= request.patient_until;
                request.news = None;
                if is_over { self.end(index, Ended::Unserved) } else { Step::Listen }
            }
            Step::Fly(flight, _, response) => self.land(index, flight, response, world),
            Step::Body(flight, _) => {
                self.drop_flight(flight);
                Step::Done
            }
            Step::Pause(_) => Step::Look,
            Step::Done => Step::Done,
        }
    }

    fn admit(&mut self, index: usize, world: &World) -> Step<'a> {
        let now = self.now();
        let request = &mut self.requests[index];
        let (pool, ledger) = (request.pool, &mut self.ledgers[request.index]);
        let before = pool.breaker().map(|breaker| breaker.state());
        let Ok(permit) = pool.permit(&world.log, now) else {
            assert!(before.is_some_and(|state| state != State::Closed), "turned away by nobody");
            return self.end(index, Ended::Unserved);
        };
        if let (Some(permit), Some(breaker)) = (&permit, pool.breaker()) {
            if permit.change().is_some() {
                ledger.round += 1;
                ledger.trials = 0;
            }
            assert_ne!(breaker.state(), State::Open, "a request passes an open breaker");
            if breaker.state() == State::HalfOpen {
                ledger.trials += 1;
                request.round = Some(ledger.round);
                let most = breaker.settings().trials;
                assert!(ledger.trials <= most, "{} of {most} trials", ledger.trials);
            }
        }
        request.permit = permit;
        pool.budget.request(now);
        ledger.requests += 1;
        request.turn = pool.balancer.take_turn();
        Step::Look
    }

    fn is_full(&mut self, index: usize) -> Step<'a> {
        let now = self.now();
        let request = &self.requests[index];
        match request.news {
            Some(_) => Step::Wait(request.pool.look_again(now)),
            None => Step::Queue,
        }
    }

    fn choose(&mut self, index: usize, world: &World) -> Step<'a> {
        let now = self.now();
        let random = self.chance.bits();
        let request = &self.requests[index];
        let pool = request.pool;
        let expected = self.view(request, world).expected(&request.tried_indices);
        let ask = Ask { hash: request.hash, random, turn: request.turn, now };
        let choice = pool.balancer.choose(&ask, &request.tried);
        let told = match choice {
            Choice::Member(member, _) => pool.balancer.index_of(member).map(|one| vec![one]),
            Choice::Full | Choice::Nothing => None,
        };
        let is_right = match (&expected, &choice) {
            (Expected::OneOf(these) | Expected::Any(these), Choice::Member(..)) => {
                told.iter().flatten().all(|one| these.contains(one))
            }
            (Expected::Full | Expected::Any(_), Choice::Full) => true,
            (Expected::Nothing, Choice::Nothing) => true,
            _ => false,
        };
        assert!(
            is_right,
            "expected {expected:?}, got {told:?} (full: {}), tried {:?}, at {now:?} of {}",
            matches!(choice, Choice::Full),
            request.tried_indices,
            self.view(request, world).describe(),
        );
        match choice {
            Choice::Member(member, trial) => {
                let probe = (trial == Trial::Yes).then_some(&*member.state);
                Step::TakeMember(member, probe)
            }
            Choice::Full => self.is_full(index),
            Choice::Nothing => self.end(index, Ended::Unserved),
        }
    }

    fn take_off(&mut self, index: usize, flight: Flight<'a>, world: &World) -> Step<'a> {
        let request = &mut self.requests[index];
        request.made += 1;
        let attempts = request.pool.settings.retry.attempts;
        assert!(request.made <= attempts, "{} of {attempts} attempts", request.made);
        (request.place, request.news) = (None, None);
        if let Some(member) = request.pool.balancer.index_of(flight.member) {
            request.tried.add(member);
            request.tried_indices.push(member);
        }
        let nature = &world.scenario.endpoints[flight.member.endpoint.id];
        let (latency, fault) = (nature.latency, nature.fault(self.time));
        let latency = latency + self.chance.below(latency + 1) / 4;
        let patience = world.scenario.patience;
        let (after, response) = match fault {
            Some(Kind::Dead) => (0, Response::NoConnection),
            Some(Kind::Stalled) => (patience, Response::Timeout),
            Some(Kind::Resets) => (latency, Response::Reset),
            Some(Kind::Errors(percent)) if self.chance.percent(percent) => {
                (latency, Response::Status(self.chance.one_of(&[500, 503])))
            }
            Some(Kind::Slow(times)) if latency * times >= patience => (patience, Response::Timeout),
            Some(Kind::Slow(times)) => (latency * times, Response::Status(200)),
            _ => (latency, Response::Status(200)),
        };
        Step::Fly(flight, self.now().after(Duration::from_millis(after)), response)
    }

    /// The attempt has ended.
    fn land(
        &mut self,
        index: usize,
        flight: Flight<'a>,
        response: Response,
        world: &World,
    ) -> Step<'a> {
        let now = self.now();
        let (member, log) = (flight.member, &world.log);
        let pool = self.requests[index].pool;
        let micros = now.since(flight.started).as_micros() as u64;
        let micros = pool.wants_latency().then_some(micros);
        let before = self.ejected(pool);
        let failure = match response {
            Response::Status(status) => {
                pool.answered(log, member, status, micros, now);
                None
            }
            Response::NoConnection => Some((Failure::Connect, Cause::Refused)),
            Response::Reset => Some((Failure::Reset, Cause::Reset)),
            Response::Timeout => Some((Failure::Timeout, Cause::Timeout)),
        };
        if let Some((failure, cause)) = failure {
            self.drop_flight(flight);
            pool.failed(log, member, failure, cause, micros, now);
            self.check_ejections(pool, &before);
            if let Some(step) = self.again(index, response, world) {
                return step;
            }
            self.done(index, None, micros, world);
            return self.end(index, Ended::Failed);
        }
        self.check_ejections(pool, &before);
        let Response::Status(status) = response else { unreachable!() };
        if pool.settings.retry.on.statuses.contains(&status)
            && let Some(step) = self.again(index, response, world)
        {
            self.drop_flight(flight);
            return step;
        }
        self.done(index, Some(status), micros, world);
        let body = now.after(Duration::from_millis(self.chance.below(50)));
        self.end(index, Ended::Answered(status));
        Step::Body(flight, body)
    }

    /// Whether there is another attempt, as `forward::attempts` decides it.
    fn again(&mut self, index: usize, response: Response, world: &World) -> Option<Step<'a>> {
        let now = self.now();
        let request = &self.requests[index];
        let (pool, retry) = (request.pool, &request.pool.settings.retry);
        let (is_listed, is_harmless) = match response {
            Response::NoConnection => (retry.on.connect, true),
            Response::Timeout => (retry.on.timeout, false),
            Response::Reset => (retry.on.reset, false),
            Response::Status(status) => (retry.on.statuses.contains(&status), false),
        };
        let elsewhere = pool.balancer.has_another(&request.tried, now);
        let usable = self.view(request, world).usable();
        let untried = usable.iter().any(|index| !request.tried_indices.contains(index));
        let tried = &request.tried_indices;
        // Where nobody can be used, those that cannot may be tried all the same.
        let is_right =
            elsewhere == untried || (elsewhere && pool.settings.fail_open != FailOpen::Never);
        assert!(is_right, "another one: {elsewhere}, usable {usable:?}, tried {tried:?}");
        let may = is_listed
            && request.made < retry.attempts
            && retry.timeout.is_none_or(|time| now.since(request.began) < time)
            && (is_harmless || retry.non_idempotent || request.idempotent);
        let allowed = may && (elsewhere || !retry.backoff.is_zero());
        if !allowed {
            assert!(!may || !untried, "a request is lost that could have been saved");
            return None;
        }
        if !is_harmless {
            if !pool.budget.try_retry(now) {
                return None;
            }
            let ledger = &mut self.ledgers[request.index];
            ledger.paid += 1;
            let share = ledger.requests * u64::from(retry.budget) / 100;
            let most = share + u64::from(retry.budget_minimum) * (self.time / 1000 + 2);
            assert!(ledger.paid <= most, "{} further attempts of {most}", ledger.paid);
        }
        if retry.backoff.is_zero() {
            return Some(Step::Look);
        }
        let doubled = retry.backoff.saturating_mul(1 << (request.made - 1).min(16));
        let pause = doubled.min(BACKOFF_MAX) / 2;
        Some(Step::Pause(now.after(pause + pause.mul_f64(self.chance.below(1000) as f64 / 1000.0))))
    }

    /// The breaker is told.
    fn done(&mut self, index: usize, status: Option<u16>, micros: Option<u64>, world: &World) {
        let now = self.now();
        let request = &mut self.requests[index];
        request.round = None;
        if let Some(permit) = request.permit.take() {
            request.pool.done(&world.log, permit, status, micros, now);
        }
    }

    fn client_leaves(&mut self, index: usize, step: Step<'a>) -> Step<'a> {
        match step {
            Step::Fly(flight, ..) | Step::Body(flight, _) => self.drop_flight(flight),
            Step::TakeMember(_, probe) => give_up_trial(probe),
            Step::TakePool(member, probe, in_flight) => {
                self.left(member.endpoint.id);
                give_up_trial(probe);
                drop(in_flight);
            }
            _ => {}
        }
        self.end(index, Ended::ClientGone)
    }

    fn end(&mut self, index: usize, ended: Ended) -> Step<'a> {
        let request = &mut self.requests[index];
        match ended {
            Ended::Answered(_) => self.answered += 1,
            _ => self.failed += 1,
        }
        request.ended = Some(ended);
        (request.news, request.place) = (None, None);
        if request.permit.take().is_some()
            && request.round == Some(self.ledgers[request.index].round)
        {
            // It is given back.
            self.ledgers[request.index].trials -= 1;
        }
        Step::Done
    }

    fn drop_flight(&mut self, flight: Flight<'a>) {
        self.left(flight.member.endpoint.id);
        drop(flight);
    }

    fn left(&mut self, endpoint: usize) {
        if let Some(count) = self.in_flight.get_mut(&endpoint) {
            *count -= 1;
        }
    }

    fn ejected(&self, pool: &Pool) -> Vec<bool> {
        let now = self.now();
        pool.balancer.members().iter().map(|member| member.state.stats.ejected(now)).collect()
    }

    /// What was ejected just now might be.
    fn check_ejections(&self, pool: &Pool, before: &[bool]) {
        let Some(outlier) = &pool.settings.outlier else { return };
        let (now, after) = (self.now(), self.ejected(pool));
        let count = |all: &[bool]| all.iter().filter(|one| **one).count();
        let members = pool.balancer.members();
        for member in members {
            let until = member.state.stats.until(now);
            let ends = until.is_none_or(|until| until.since(now) <= outlier.max_time);
            assert!(ends, "an ejection longer than max_time");
        }
        if count(&after) <= count(before) {
            return;
        }
        let present = members.iter().filter(|member| member.endpoint.is_known()).count();
        let ceiling = (present * outlier.max_ejected as usize / 100).max(1);
        let ejected = members.iter().zip(&after).filter(|(m, is)| m.endpoint.is_known() && **is);
        assert!(ejected.count() <= ceiling, "more ejected than {ceiling} of {present}");
        let others = members.iter().zip(&after).any(|(member, ejected)| {
            let fails = &member.state.fails;
            !ejected
                && member.wanted == config::model::UpstreamState::Up
                && member.endpoint.is_known()
                && member.state.is_up()
                && fails.usable(now, member.max_fails, member.fail_timeout)
        });
        assert!(others, "ejected although there is no other");
    }

    /// How many of so many requests each member gets, at once or one after the other.
    fn spread(&mut self, index: usize, requests: u64, at_once: bool, world: &World) -> Vec<u64> {
        let now = self.now();
        let pool = &self.pools[index][1];
        let mut counts = vec![0u64; pool.balancer.members().len()];
        let mut held = Vec::new();
        for _ in 0..requests {
            let turn = pool.balancer.take_turn();
            let ask = Ask { hash: self.chance.bits(), random: self.chance.bits(), turn, now };
            if let Choice::Member(member, _) = pool.balancer.choose(&ask, &Tried::default())
                && let Some(index) = pool.balancer.index_of(member)
            {
                counts[index] += 1;
                held.extend(at_once.then(|| member.endpoint.enter(None)));
                pool.answered(&world.log, member, 200, Some(30_000), now);
            }
        }
        counts
    }

    /// All is well since long: every member can be used, and has what it should.
    pub(super) fn check_shares(&mut self, world: &World) {
        for index in 0..self.pools.len() {
            let pool = &self.pools[index][1];
            let request = Request::new(pool, index, self.now());
            let view = self.view(&request, world);
            let wanted = |member: &&proxy::balance::Member| {
                member.wanted == config::model::UpstreamState::Up
            };
            let members = pool.balancer.members();
            let usable = view.usable();
            assert_eq!(usable.len(), members.iter().filter(wanted).count(), "not all are back");
            let Expected::OneOf(first) = view.expected(&[]) else {
                assert!(usable.is_empty(), "full without a request");
                continue;
            };
            let weights: Vec<u64> = first
                .iter()
                .map(|one| match pool.settings.balance {
                    Balance::RoundRobin | Balance::Random => 1,
                    _ => u64::from(members[*one].weight).max(1),
                })
                .collect();
            let weightless = first.iter().all(|one| members[*one].weight == 0);
            let weights = if weightless { vec![1; weights.len()] } else { weights };
            let total: u64 = weights.iter().sum();
            let holds = pool.settings.balance == Balance::LeastConnections;
            let is_exact =
                holds || matches!(pool.settings.balance, Balance::RoundRobin | Balance::Weighted);
            if holds && first.iter().any(|one| members[*one].max_conns.is_some()) {
                continue;
            }
            let rounds = if is_exact { 2 } else { 30 };
            // Whoever was away is tried again, and has its whole weight after some time.
            self.spread(index, total * rounds, holds, world);
            self.time += SLOW_START_MAX;
            let counts = self.spread(index, total * rounds, holds, world);
            for (one, weight) in first.iter().zip(weights) {
                let count = counts[*one];
                match is_exact {
                    true => assert_eq!(count, weight * rounds, "{one} of {counts:?}"),
                    // One that was slow once is chosen less by latency.
                    false if pool.settings.balance == Balance::PeakEwma => {}
                    false => assert!(count > 0, "{one} of {counts:?} gets nothing"),
                }
            }
        }
    }
}

fn give_up_trial(probe: Option<&proxy::balance::MemberState>) {
    if let Some(state) = probe {
        state.trial_abandoned();
    }
}

fn has_news(request: &mut Request<'_>) -> bool {
    let cx = &mut Context::from_waker(Waker::noop());
    request.news.as_mut().is_some_and(|news| news.as_mut().poll(cx).is_ready())
}

/// It does not have to wait for time or for others.
fn is_able(request: &mut Request<'_>, now: Tick) -> bool {
    if matches!(request.step, Step::Wait(_)) && has_news(request) {
        // It must not be asked again.
        request.news = None;
        request.step = Step::Listen;
    }
    match request.step {
        Step::Done => false,
        _ => request.until().is_none_or(|until| until <= now),
    }
}
