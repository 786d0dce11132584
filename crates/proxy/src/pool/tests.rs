use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use config::model::{
    self, BreakerWindow, Concurrency, FailOpen, Retry, Transport, UpstreamAddress,
};
use tokio::runtime::Builder;
use tokio::sync::futures::Notified;

use super::*;
use crate::balance::{Ask, Choice, Trial};
use crate::health::breaker::State;
use crate::live::{Live, Lookup};
use crate::log::sink;

/// What every test has.
struct Scene {
    live: Live,
    log: ErrorLog,
}

impl Scene {
    fn new() -> Self {
        let log = ErrorLog::new(sink(1).0, model::Level::Error);
        Self { live: Live::default(), log }
    }

    /// A pool called `name` with these members: `max_conns` and priority.
    fn pool(&self, name: &str, settings: &PoolSettings, members: &[(Option<u32>, u8)]) -> Pool {
        let members = members.iter().zip(8000..).map(|(&(max_conns, priority), port)| {
            let address = UpstreamAddress::Tcp { host: "192.0.2.1".to_owned(), port };
            let transport = Transport::default();
            let endpoint = self.live.endpoint(&address, &transport, Lookup::Addresses, 0);
            let url = format!("http://{}", endpoint.label);
            Member {
                state: self.live.member("site", name, &url, &endpoint),
                endpoint,
                tls: None,
                url,
                base_path: String::new(),
                weight: 1,
                priority,
                wanted: UpstreamState::Up,
                max_conns,
                slow_start: Duration::ZERO,
                max_fails: 1,
                fail_timeout: Duration::from_millis(50),
                preserve_host: None,
                series: Default::default(),
            }
        });
        let (state, epoch) = (self.live.pool("site", name), Arc::clone(self.live.epoch()));
        let members = members.collect();
        let balancer = Balancer::new(settings, members, Arc::clone(&state), epoch, at(0));
        let settings = settings.clone();
        let pool = model::Pool { name: name.to_owned(), upstreams: Vec::new(), settings };
        Pool::new(&pool, balancer, None, state)
    }
}

fn at(millis: u64) -> Tick {
    Tick::from(millis)
}

fn choose(pool: &Pool, now: u64) -> Choice<'_> {
    let ask = Ask { hash: 0, random: 0, turn: 0, now: at(now) };
    pool.balancer.choose(&ask, &Tried::default())
}

fn listen(pool: &Pool) -> Pin<Box<Notified<'_>>> {
    let mut news = Box::pin(pool.state.queue.news());
    news.as_mut().enable();
    news
}

fn is_woken(news: &mut Pin<Box<Notified<'_>>>) -> bool {
    news.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn one_that_finds_no_room_wakes_nobody() {
    // It would wake itself, and go on so until its time is up.
    let concurrency = Concurrency { max: Some(1), adaptive: false };
    let settings = PoolSettings { concurrency, ..PoolSettings::default() };
    let pool = Scene::new().pool("a", &settings, &[(None, 0)]);
    let first = pool.enter();
    assert!(first.is_some() && !pool.has_room());
    let _place = pool.state.queue.enter(10, false).unwrap();
    let mut news = listen(&pool);
    assert!(pool.enter().is_none());
    assert!(!is_woken(&mut news));
    pool.state.queue.leave_room();
    assert!(is_woken(&mut news));
}

#[test]
fn who_waits_is_woken_when_a_request_of_another_pool_ends() {
    let (scene, settings) = (Scene::new(), PoolSettings::default());
    let pool = scene.pool("a", &settings, &[(Some(1), 0)]);
    // It does not bound the endpoint itself.
    let other = scene.pool("b", &settings, &[(None, 0)]);
    let in_flight = other.balancer.members()[0].endpoint.enter(None);
    assert!(matches!(choose(&pool, 1), Choice::Full));
    let _place = pool.state.queue.enter(10, false).unwrap();
    let mut news = listen(&pool);
    assert!(!is_woken(&mut news));
    drop(in_flight);
    assert!(is_woken(&mut news));
    assert!(matches!(choose(&pool, 1), Choice::Member(..)));
}

#[test]
fn who_waits_is_woken_when_a_request_of_before_the_reload_ends() {
    let (scene, settings) = (Scene::new(), PoolSettings::default());
    let before = scene.pool("a", &settings, &[(None, 0)]);
    let in_flight = before.balancer.members()[0].endpoint.enter(None);
    let after = scene.pool("a", &settings, &[(Some(1), 0)]);
    assert!(matches!(choose(&after, 1), Choice::Full));
    let _place = after.state.queue.enter(10, false).unwrap();
    let mut news = listen(&after);
    drop(in_flight);
    assert!(is_woken(&mut news));
}

#[test]
fn who_waits_is_woken_when_an_endpoint_comes_back() {
    let pool = Scene::new().pool("a", &PoolSettings::default(), &[(Some(1), 0), (None, 1)]);
    let [full, other] = pool.balancer.members() else { unreachable!() };
    let _in_flight = full.endpoint.enter(Some(1));
    other.state.set_health(false, at(1));
    assert!(matches!(choose(&pool, 1), Choice::Full));
    let _place = pool.state.queue.enter(10, false).unwrap();
    let mut news = listen(&pool);
    assert!(!is_woken(&mut news));
    // The one it waits for is down: then it is the other tier's turn.
    other.state.set_health(true, at(2));
    assert!(is_woken(&mut news));
    let mut news = listen(&pool);
    full.state.set_health(false, at(3));
    assert!(is_woken(&mut news));
    assert!(matches!(choose(&pool, 3), Choice::Member(..)));
}

#[test]
fn all_who_wait_are_woken_while_one_cannot_use_all_room() {
    let pool = Scene::new().pool("a", &PoolSettings::default(), &[(Some(1), 0)]);
    let queue = &pool.state.queue;
    let choosy = queue.enter(10, true).unwrap();
    let _other = queue.enter(10, false).unwrap();
    let (mut first, mut second) = (listen(&pool), listen(&pool));
    queue.leave_room();
    assert!(is_woken(&mut first) && is_woken(&mut second));
    // Without it, one.
    drop(choosy);
    assert!(is_woken(&mut listen(&pool)), "the room it did not need");
    let _third = queue.enter(10, false).unwrap();
    let (mut first, mut second) = (listen(&pool), listen(&pool));
    queue.leave_room();
    assert!(is_woken(&mut first));
    assert!(!is_woken(&mut second));
}

/// It is left out for 50 ms, and nothing else happens.
#[test]
fn who_waits_looks_again_when_time_brings_an_endpoint_back() {
    let scene = Scene::new();
    let pool = scene.pool("a", &PoolSettings::default(), &[(Some(1), 0), (None, 1)]);
    let other = &pool.balancer.members()[1];
    pool.failed(&scene.log, other, Failure::Connect, Cause::Refused, None, at(100));
    assert_eq!(pool.look_again(at(110)), at(151));
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut room = pin!(pool.room(at(110)));
        room.as_mut().enable();
        poll_fn(|cx| {
            assert!(room.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        room.await;
    });
}

#[test]
fn nobody_waits_for_an_endpoint_that_is_being_tried() {
    let scene = Scene::new();
    let pool = scene.pool("a", &PoolSettings::default(), &[(Some(1), 0), (None, 1)]);
    let [first, second] = pool.balancer.members() else { unreachable!() };
    pool.failed(&scene.log, first, Failure::Connect, Cause::Refused, None, at(100));
    let Choice::Member(tried, Trial::Yes) = choose(&pool, 200) else { panic!("no trial") };
    assert!(std::ptr::eq(tried, first));
    let in_flight = tried.endpoint.enter(tried.max_conns);
    // It is full, but nobody else would get to it.
    let Choice::Member(chosen, Trial::No) = choose(&pool, 200) else { panic!("nobody") };
    assert!(std::ptr::eq(chosen, second));
    // When the trial ends without an outcome, the next one may try, at once.
    drop(in_flight);
    first.state.trial_abandoned();
    assert!(matches!(choose(&pool, 200), Choice::Member(_, Trial::Yes)));
}

#[test]
fn while_all_are_being_tried_there_is_none() {
    let scene = Scene::new();
    let settings = PoolSettings { fail_open: FailOpen::Never, ..PoolSettings::default() };
    let pool = scene.pool("a", &settings, &[(None, 0); 40]);
    for member in pool.balancer.members() {
        pool.failed(&scene.log, member, Failure::Connect, Cause::Refused, None, at(100));
    }
    for _ in 0..40 {
        assert!(matches!(choose(&pool, 200), Choice::Member(_, Trial::Yes)));
    }
    assert!(matches!(choose(&pool, 200), Choice::Nothing));
}

#[test]
fn one_that_is_asked_although_it_is_left_out_changes_nothing_by_failing_again() {
    // Every change makes plans anew, which must not be the work of each request in an outage.
    let scene = Scene::new();
    let pool = scene.pool("a", &PoolSettings::default(), &[(None, 0), (None, 0)]);
    let fails = |now| {
        for member in pool.balancer.members() {
            pool.failed(&scene.log, member, Failure::Connect, Cause::Refused, None, at(now));
        }
    };
    fails(100);
    let epoch = scene.live.epoch().current();
    for now in 101..140 {
        assert!(matches!(choose(&pool, now), Choice::Member(_, Trial::No)));
        fails(now);
    }
    assert_eq!(scene.live.epoch().current(), epoch);
    // A trial that fails does change something.
    assert!(matches!(choose(&pool, 300), Choice::Member(_, Trial::Yes)));
    fails(300);
    assert!(scene.live.epoch().current() > epoch);
}

#[test]
fn a_success_of_the_only_one_ends_what_had_failed() {
    // It is not the only one for ever: a reload that adds another would find it failing.
    let scene = Scene::new();
    let pool = scene.pool("a", &PoolSettings::default(), &[(None, 0)]);
    let [member] = pool.balancer.members() else { panic!("one member") };
    pool.failed(&scene.log, member, Failure::Connect, Cause::Refused, None, at(100));
    let left_out = |now| member.state.fails.until(at(now), 1, Duration::from_millis(50));
    assert!(left_out(101).is_some());
    assert!(pool.balancer.only(at(200)).is_some());
    pool.answered(&scene.log, member, 200, None, at(210));
    assert!(left_out(101).is_none() && !member.state.fails.is_being_tried());
}

#[test]
fn what_has_learnt_is_kept_while_its_settings_are_the_same() {
    let scene = Scene::new();
    let breaker = model::Breaker {
        window: BreakerWindow::Count(1),
        failure_rate: 50,
        slow_rate: 100,
        slow: Duration::from_secs(60),
        minimum: 1,
        trials: 1,
        open: Duration::from_secs(60),
        half_open_max: Duration::ZERO,
        statuses: vec![(500, 599)],
    };
    let settings = PoolSettings {
        breaker: Some(breaker.clone()),
        concurrency: Concurrency { max: Some(1000), adaptive: true },
        retry: Retry { budget: 100, budget_minimum: 0, ..Retry::default() },
        ..PoolSettings::default()
    };
    let before = scene.pool("a", &settings, &[(None, 0)]);
    let permit = before.permit(&scene.log, at(1000)).unwrap().unwrap();
    before.done(&scene.log, permit, Some(500), None, at(1000));
    before.budget.request(at(1000));
    let first = before.most();
    let latencies = [(2000, 1000), (2200, 1000), (2400, 100_000), (2600, 100_000)];
    for (millis, micros) in latencies {
        for _ in 0..20 {
            before.limit.as_ref().unwrap().sample(micros, 20, at(millis));
        }
    }
    let learnt = before.most();
    assert_ne!(learnt, first);

    let fail_open = PoolSettings { fail_open: FailOpen::ToAll, ..settings.clone() };
    let after = scene.pool("a", &fail_open, &[(None, 0), (None, 0)]);
    assert_eq!(after.breaker().unwrap().state(), State::Open);
    assert!(after.permit(&scene.log, at(1001)).is_err());
    assert_eq!(after.most(), learnt);
    assert!(after.budget.try_retry(at(1000)) && !after.budget.try_retry(at(1000)));

    let changed = PoolSettings {
        breaker: Some(model::Breaker { trials: 2, ..breaker }),
        concurrency: Concurrency { max: Some(1001), adaptive: true },
        retry: Retry { budget: 50, ..settings.retry.clone() },
        ..settings
    };
    let changed = scene.pool("a", &changed, &[(None, 0)]);
    assert_eq!(changed.breaker().unwrap().state(), State::Closed);
    assert_eq!(changed.most(), first);
    assert!(!changed.budget.try_retry(at(1000)));
}

#[test]
fn timeouts_make_the_adaptive_limit_smaller() {
    let scene = Scene::new();
    let concurrency = Concurrency { max: None, adaptive: true };
    let settings = PoolSettings { concurrency, ..PoolSettings::default() };
    let pool = scene.pool("a", &settings, &[(None, 0)]);
    let first = pool.most().unwrap();
    let places: Vec<_> = (0..first).map(|_| pool.enter()).collect();
    assert!(!pool.has_room());
    for second in 1..20 {
        for _ in 0..20 {
            let member = &pool.balancer.members()[0];
            let now = at(second * 1000);
            pool.failed(&scene.log, member, Failure::Timeout, Cause::Timeout, Some(1), now);
        }
    }
    drop(places);
    assert!(pool.most().unwrap() < first / 2);
}

/// How many of `requests` turns each of two members gets.
fn turns(pool: &Pool, requests: usize) -> [usize; 2] {
    let mut counts = [0; 2];
    for turn in 0..requests {
        let ask = Ask { hash: 0, random: 0, turn, now: at(1) };
        let Choice::Member(member, _) = pool.balancer.choose(&ask, &Tried::default()) else {
            continue;
        };
        counts[pool.balancer.index_of(member).unwrap()] += 1;
    }
    counts
}

#[test]
fn what_an_operator_says_at_run_time_holds_until_it_is_taken_back() {
    let (scene, settings) = (Scene::new(), PoolSettings::default());
    let pool = scene.pool("a", &settings, &[(None, 0), (None, 0)]);
    let first = &pool.balancer.members()[0];
    let keeps = |pool: &Pool| pool.balancer.keeper(0, &Tried::default(), at(1)).is_some();
    for (said, expected, kept) in [
        (UpstreamState::Drain, [0, 20], true),
        (UpstreamState::Down, [0, 20], false),
        (UpstreamState::Up, [10, 10], true),
    ] {
        first.state.steer(Some(said));
        assert_eq!((turns(&pool, 20), keeps(&pool)), (expected, kept), "{said:?}");
        // A reload changes nothing about it.
        let after = scene.pool("a", &settings, &[(None, 0), (None, 0)]);
        assert_eq!((turns(&after, 20), keeps(&after)), (expected, kept), "{said:?}");
    }
    first.state.steer(Some(UpstreamState::Drain));
    first.state.steer(None);
    assert_eq!(turns(&pool, 20), [10, 10]);
}

#[test]
fn one_that_is_drained_gets_nothing_even_where_nobody_else_is_left() {
    let settings = PoolSettings { fail_open: FailOpen::ToAll, ..PoolSettings::default() };
    let pool = Scene::new().pool("a", &settings, &[(None, 0), (None, 0)]);
    pool.balancer.members()[0].state.steer(Some(UpstreamState::Drain));
    pool.balancer.members()[1].state.set_health(false, at(1));
    assert_eq!(turns(&pool, 20), [0, 20]);
    pool.balancer.members()[1].state.steer(Some(UpstreamState::Down));
    assert!(matches!(choose(&pool, 1), Choice::Nothing));
}

#[test]
fn who_waits_is_woken_when_an_operator_brings_an_endpoint_back() {
    let pool = Scene::new().pool("a", &PoolSettings::default(), &[(Some(1), 0), (None, 1)]);
    let [full, other] = pool.balancer.members() else { unreachable!() };
    let _in_flight = full.endpoint.enter(Some(1));
    other.state.steer(Some(UpstreamState::Down));
    assert!(matches!(choose(&pool, 1), Choice::Full));
    let _place = pool.state.queue.enter(10, false).unwrap();
    let mut news = listen(&pool);
    other.state.steer(Some(UpstreamState::Up));
    assert!(is_woken(&mut news));
}

#[test]
fn a_weight_given_at_run_time_counts_with_every_method() {
    for balance in [model::Balance::RoundRobin, model::Balance::Weighted] {
        let scene = Scene::new();
        let settings = PoolSettings { balance, ..PoolSettings::default() };
        let pool = scene.pool("a", &settings, &[(None, 0), (None, 0)]);
        let first = &pool.balancer.members()[0];
        for (weight, expected) in [(3, [15, 5]), (1, [10, 10]), (0, [0, 20])] {
            first.state.set_weight(Some(weight));
            assert_eq!(turns(&pool, 20), expected, "{:?} {weight}", settings.balance);
            assert_eq!((first.own_weight(), first.weight), (weight, 1));
            let after = scene.pool("a", &settings, &[(None, 0), (None, 0)]);
            assert_eq!(turns(&after, 20), expected);
        }
        // Who sticks to one of weight 0 may still come.
        assert!(pool.balancer.keeper(0, &Tried::default(), at(1)).is_some());
        first.state.set_weight(None);
        assert_eq!(turns(&pool, 20), [10, 10]);
    }
}

#[test]
fn one_whose_checks_were_paused_comes_back_as_it_began() {
    let pool = Scene::new().pool("a", &PoolSettings::default(), &[(None, 0), (None, 0)]);
    let first = &pool.balancer.members()[0];
    first.state.set_health(false, at(1));
    first.state.steer(Some(UpstreamState::Drain));
    first.state.steer(Some(UpstreamState::Up));
    assert!(!first.state.is_up(), "its checks went on");
    first.state.steer(Some(UpstreamState::Down));
    first.state.steer(Some(UpstreamState::Up));
    assert!(first.state.is_up());
}
