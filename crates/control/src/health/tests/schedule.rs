use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use config::model::{Level, Transport};
use proxy::live::Live;
use proxy::log::{Order, Source, sink};
use tokio::runtime::{Builder, LocalOptions};

use super::super::testing::{check, http_probe};
use super::super::*;

/// What happened, in seconds since the start.
#[derive(Default)]
struct Scene {
    live: Live,
    /// By port: outcomes to come, then successes for ever.
    scripts: RefCell<HashMap<u16, Vec<Outcome>>>,
    probes: RefCell<Vec<(f64, u16, &'static str)>>,
    reports: Arc<Mutex<Vec<(u16, bool)>>>,
    /// A probe takes this long.
    takes: Cell<Duration>,
    under_way: Cell<usize>,
    most: Cell<usize>,
}

impl Scene {
    fn script(&self, port: u16, outcomes: &str) {
        let outcome = |one| match one {
            '+' => Ok(()),
            _ => Err("status 500 (expected 200-399)".to_owned()),
        };
        self.scripts.borrow_mut().insert(port, outcomes.chars().map(outcome).collect());
    }

    fn target(&self, port: u16, checks: &[HealthCheck]) -> Target {
        let address = UpstreamAddress::Tcp { host: "127.0.0.1".to_owned(), port };
        let reports = Arc::clone(&self.reports);
        Target {
            site: "main".to_owned(),
            pool: "backend".to_owned(),
            url: format!("http://127.0.0.1:{port}"),
            endpoint: endpoint(&self.live, &address),
            tls: None,
            checks: checks.to_vec(),
            report: Box::new(move |up| reports.lock().unwrap().push((port, up))),
            is_wanted: Box::new(|| true),
            seen: Box::new(|_, _| {}),
        }
    }

    fn reports(&self) -> Vec<(u16, bool)> {
        std::mem::take(&mut self.reports.lock().unwrap())
    }

    /// When probes were made to `port`.
    fn times(&self, port: u16) -> Vec<f64> {
        self.probes.borrow().iter().filter(|probe| probe.1 == port).map(|probe| probe.0).collect()
    }
}

fn endpoint(live: &Live, address: &UpstreamAddress) -> Arc<Endpoint> {
    live.endpoint(address, &Transport::default(), proxy::live::Lookup::Addresses, 0)
}

/// Checks whose probes follow the scene's scripts.
fn checks(scene: &Rc<Scene>) -> (HealthChecks, Source) {
    let (sink, source) = sink(64);
    let mut checks = HealthChecks::new(ErrorLog::new(sink, Level::Info));
    let (scene, start) = (Rc::clone(scene), Instant::now());
    checks.carry_out = Rc::new(move |prepared, endpoint| {
        let UpstreamAddress::Tcp { port, .. } = endpoint.address else { unreachable!() };
        let kind = if matches!(prepared.check.probe, Probe::Tcp) { "tcp" } else { "http" };
        scene.probes.borrow_mut().push((start.elapsed().as_secs_f64(), port, kind));
        let scene = Rc::clone(&scene);
        Box::pin(async move {
            scene.under_way.set(scene.under_way.get() + 1);
            scene.most.set(scene.most.get().max(scene.under_way.get()));
            sleep(scene.takes.get()).await;
            scene.under_way.set(scene.under_way.get() - 1);
            let mut scripts = scene.scripts.borrow_mut();
            match scripts.get_mut(&port) {
                Some(outcomes) if !outcomes.is_empty() => outcomes.remove(0),
                _ => Ok(()),
            }
        })
    });
    (checks, source)
}

fn lines(source: &Source) -> Vec<String> {
    let orders = std::iter::from_fn(|| source.orders.try_recv().ok());
    let lines = orders.filter_map(|order| match order {
        Order::Write(block) => String::from_utf8(block.bytes).ok(),
        _ => None,
    });
    // Without the time.
    lines.filter_map(|line| Some(line.trim_end().split_once(' ')?.1.to_owned())).collect()
}

/// Runs a scene in which time passes only when everybody waits for it.
fn play<F: Future<Output = ()>>(scene: impl FnOnce(Rc<Scene>) -> F) {
    let mut builder = Builder::new_current_thread();
    let builder = builder.enable_time().start_paused(true);
    let runtime = builder.build_local(LocalOptions::default()).unwrap();
    runtime.block_on(scene(Rc::new(Scene::default())));
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn http() -> HealthCheck {
    HealthCheck {
        interval: seconds(10),
        down_interval: seconds(10),
        ..check(Probe::Http(http_probe()))
    }
}

/// Timers have milliseconds.
#[track_caller]
fn assert_times(times: &[f64], expected: &[f64]) {
    let near = |(time, expected): (&f64, &f64)| (time - expected).abs() < 0.01;
    let same = times.len() == expected.len() && times.iter().zip(expected).all(near);
    assert!(same, "{times:?} instead of {expected:?}");
}

#[test]
fn it_goes_down_after_fall_failures_and_comes_back_after_rise_successes() {
    play(async |scene| {
        let (mut checks, source) = checks(&scene);
        scene.script(1, "+--+---+-++");
        let check = HealthCheck { rise: 2, down_interval: seconds(2), ..http() };
        checks.set(vec![scene.target(1, &[check])]);
        assert_eq!(scene.reports(), [(1, true)]);
        sleep(seconds(59)).await;
        assert_eq!(scene.reports(), []);
        assert!(lines(&source).is_empty());
        sleep(seconds(2)).await;
        assert_eq!(scene.reports(), [(1, false)]);
        let down = "warn pool \"backend\": http://127.0.0.1:1 is down: 3 checks failed, the last: \
                    status 500 (expected 200-399)";
        assert_eq!(lines(&source), [down]);
        sleep(seconds(8)).await;
        assert_eq!(scene.reports(), [(1, true)]);
        let up = "info pool \"backend\": http://127.0.0.1:1 is up again after 2 checks";
        assert_eq!(lines(&source), [up]);
        sleep(seconds(30)).await;
        assert!(scene.reports().is_empty() && lines(&source).is_empty());
        // Every 10 s, every 2 s while it is down.
        let expected = [0., 10., 20., 30., 40., 50., 60., 62., 64., 66., 68., 78., 88., 98.];
        assert_times(&scene.times(1), &expected);
    });
}

#[test]
fn one_that_starts_down_waits_for_its_first_success() {
    play(async |scene| {
        let (mut checks, source) = checks(&scene);
        scene.script(2, "--+");
        let check = HealthCheck { start: StartState::Down, ..http() };
        checks.set(vec![scene.target(1, std::slice::from_ref(&check)), scene.target(2, &[check])]);
        assert_eq!(scene.reports(), [(1, false), (2, false)]);
        sleep(seconds(1)).await;
        assert_eq!(scene.reports(), [(1, true)]);
        let first = "info pool \"backend\": http://127.0.0.1:1 is up after 1 check";
        let second = "warn pool \"backend\": http://127.0.0.1:2 is not up yet: status 500 \
                      (expected 200-399)";
        assert_eq!(lines(&source), [first, second]);
        sleep(seconds(30)).await;
        assert_eq!(scene.reports(), [(2, true)]);
        assert_eq!(
            lines(&source),
            ["info pool \"backend\": http://127.0.0.1:2 is up after 1 check"]
        );
    });
}

#[test]
fn the_first_failure_may_be_enough() {
    play(async |scene| {
        let (mut checks, source) = checks(&scene);
        scene.script(1, "-");
        checks.set(vec![
            scene.target(1, &[HealthCheck { start: StartState::UpUntilFailure, ..http() }]),
        ]);
        sleep(seconds(1)).await;
        assert_eq!(scene.reports(), [(1, true), (1, false)]);
        let line = "is down: 1 check failed: status 500 (expected 200-399)";
        assert!(lines(&source)[0].ends_with(line));
    });
}

#[test]
fn all_checks_have_to_pass_and_http_is_asked_first() {
    play(async |scene| {
        let (mut checks, _source) = checks(&scene);
        // By turns: HTTP fails, TCP does not; then the other way round.
        scene.script(1, "-++-++");
        let tcp = HealthCheck { probe: Probe::Tcp, fall: 1, ..http() };
        checks.set(vec![scene.target(1, &[tcp, HealthCheck { fall: 1, ..http() }])]);
        assert_eq!(scene.reports(), [(1, true)]);
        sleep(seconds(5)).await;
        assert_eq!(scene.reports(), [(1, false)]);
        sleep(seconds(10)).await;
        assert_eq!(scene.reports(), [(1, true), (1, false)]);
        sleep(seconds(10)).await;
        assert_eq!(scene.reports(), [(1, true)]);
        let kinds: Vec<&str> = scene.probes.borrow().iter().map(|probe| probe.2).collect();
        assert_eq!(kinds, ["http", "tcp", "http", "tcp", "http", "tcp"]);
    });
}

#[test]
fn probes_under_way_are_bounded_and_none_is_forgotten() {
    play(async |scene| {
        let (mut checks, _source) = checks(&scene);
        scene.takes.set(seconds(1));
        let count = 3 * PROBES_MAX as u16 + 7;
        checks.set((1..=count).map(|port| scene.target(port, &[http()])).collect());
        sleep(seconds(6)).await;
        assert_eq!(scene.most.get(), PROBES_MAX);
        assert!((1..=count).all(|port| scene.times(port).len() == 1));
    });
}

#[test]
fn first_probes_are_spread() {
    let delay = |index, count, interval| first_delay(index, count, Duration::from_millis(interval));
    let millis = Duration::from_millis;
    assert_eq!(delay(0, 1, 30_000), millis(0));
    assert_eq!(delay(4, 5, 30_000), millis(80));
    assert_eq!(delay(999, 1000, 30_000), millis(999));
    assert_eq!(delay(4, 10, 100), millis(40));
    play(async |scene| {
        let (mut checks, _source) = checks(&scene);
        checks.set((1..=100).map(|port| scene.target(port, &[http()])).collect());
        sleep(seconds(2)).await;
        let times: Vec<f64> = (1..=100).flat_map(|port| scene.times(port)).collect();
        let expected: Vec<f64> = (0..100).map(|index| f64::from(index) / 100.).collect();
        assert_times(&times, &expected);
    });
}

#[test]
fn a_slow_probe_shortens_the_pause_after_it() {
    play(async |scene| {
        let (mut checks, _source) = checks(&scene);
        scene.takes.set(seconds(4));
        checks.set(vec![scene.target(1, &[http()])]);
        sleep(seconds(25)).await;
        scene.takes.set(seconds(15));
        sleep(seconds(40)).await;
        assert_times(&scene.times(1), &[0., 10., 20., 30., 45., 60.]);
    });
}

#[test]
fn intervals_vary_within_the_jitter() {
    let interval = seconds(10);
    let all: Vec<Duration> = (0..2001).map(|random| jittered(interval, 20, random)).collect();
    assert_eq!(all.iter().min(), Some(&seconds(8)));
    assert_eq!(all.iter().max(), Some(&seconds(12)));
    assert_eq!(jittered(interval, 0, 77), interval);
    assert_eq!(jittered(interval, 400, 0), INTERVAL_MIN);
    assert_eq!(jittered(Duration::ZERO, 10, 1000), INTERVAL_MIN);
}

#[test]
fn a_target_that_stays_keeps_its_state_and_its_pace() {
    play(async |scene| {
        let (mut checks, source) = checks(&scene);
        scene.script(1, "---");
        scene.script(2, "--+--+");
        checks.set(vec![scene.target(1, &[http()]), scene.target(2, &[http()])]);
        sleep(seconds(15)).await;
        scene.reports();
        checks.set(vec![scene.target(2, &[http()]), scene.target(1, &[http()])]);
        assert_eq!(scene.reports(), [(2, true), (1, true)]);
        sleep(seconds(10)).await;
        assert_eq!(scene.reports(), [(1, false)]);
        checks.set(vec![scene.target(1, &[http()]), scene.target(2, &[http()])]);
        assert_eq!(scene.reports(), [(1, false), (2, true)]);
        sleep(seconds(10)).await;
        assert_eq!(scene.reports(), [(1, true)]);
        assert_eq!(lines(&source).len(), 2);
        assert_times(&scene.times(1), &[0., 10., 20., 30.]);
    });
}

#[test]
fn one_whose_checks_change_is_what_it_was_found_to_be() {
    play(async |scene| {
        let (mut checks, source) = checks(&scene);
        scene.script(1, "---+-++");
        checks.set(vec![scene.target(1, &[http()])]);
        sleep(seconds(25)).await;
        scene.reports();
        lines(&source);
        let changed = HealthCheck { rise: 2, start: StartState::Up, ..http() };
        checks.set(vec![scene.target(1, &[changed])]);
        assert_eq!(scene.reports(), [(1, false)]);
        sleep(seconds(25)).await;
        assert_eq!(scene.reports(), []);
        sleep(seconds(10)).await;
        assert_eq!(scene.reports(), [(1, true)]);
        let up = "info pool \"backend\": http://127.0.0.1:1 is up again after 2 checks";
        assert_eq!(lines(&source), [up]);
    });
}

#[test]
fn one_that_is_no_longer_checked_is_taken_to_be_up() {
    play(async |scene| {
        let (mut checks, _source) = checks(&scene);
        (1..=3).for_each(|port| scene.script(port, "---------"));
        checks.set((1..=3).map(|port| scene.target(port, &[http()])).collect());
        sleep(seconds(25)).await;
        scene.reports();
        checks.set(vec![scene.target(1, &[http()]), scene.target(2, &[])]);
        assert_eq!(scene.reports(), [(1, false), (2, true), (3, true)]);
        scene.probes.borrow_mut().clear();
        sleep(seconds(25)).await;
        assert_eq!((scene.times(2), scene.times(3)), (vec![], vec![]));
        assert!(!scene.times(1).is_empty());
        drop(checks);
        scene.probes.borrow_mut().clear();
        sleep(seconds(25)).await;
        assert!(scene.probes.borrow().is_empty());
    });
}

#[test]
fn one_without_an_address_is_not_probed() {
    play(async |scene| {
        let (mut checks, source) = checks(&scene);
        let address = UpstreamAddress::Tcp { host: "backend.test".to_owned(), port: 80 };
        let endpoint = endpoint(&scene.live, &address);
        let mut target = scene.target(80, &[http()]);
        target.url = "http://backend.test".to_owned();
        target.endpoint = Arc::clone(&endpoint);
        scene.script(80, "---");
        checks.set(vec![target]);
        sleep(Duration::from_millis(5500)).await;
        assert!(scene.probes.borrow().is_empty());
        endpoint.set_addresses(vec![([10, 0, 0, 1], 80).into()]);
        sleep(seconds(21)).await;
        assert_times(&scene.times(80), &[5.5, 15.5, 25.5]);
        let line = "http://backend.test (10.0.0.1:80) is down: 3 checks failed";
        assert!(lines(&source)[0].contains(line));
    });
}

#[test]
fn one_that_gets_another_address_begins_anew_and_at_once() {
    play(async |scene| {
        let (mut checks, source) = checks(&scene);
        let address = UpstreamAddress::Tcp { host: "backend.test".to_owned(), port: 80 };
        let endpoint = endpoint(&scene.live, &address);
        endpoint.set_addresses(vec![([10, 0, 0, 1], 80).into()]);
        let check = HealthCheck { fall: 2, rise: 3, start: StartState::Down, ..http() };
        let mut target = scene.target(80, &[check]);
        target.endpoint = Arc::clone(&endpoint);
        checks.set(vec![target]);
        sleep(seconds(1)).await;
        assert_eq!(scene.reports(), [(80, false), (80, true)]);
        scene.takes.set(seconds(5));
        sleep(seconds(12)).await;
        assert_times(&scene.times(80), &[0., 10.]);
        // The second probe is under way.
        endpoint.set_addresses(vec![([10, 0, 0, 2], 80).into()]);
        sleep(seconds(1)).await;
        assert_eq!(scene.reports(), []);
        // It ends at 15 s, for nothing; the new address has to pass on its own.
        scene.script(80, "-");
        sleep(seconds(5)).await;
        assert_eq!(scene.reports(), [(80, false)]);
        assert_times(&scene.times(80), &[0., 10., 15.]);
        sleep(seconds(2)).await;
        assert_eq!(scene.reports(), [(80, true)]);
        // While it waits, a change is noticed at once.
        scene.takes.set(seconds(0));
        endpoint.set_addresses(vec![([10, 0, 0, 3], 80).into()]);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(scene.reports(), [(80, false), (80, true)]);
        drop(source);
    });
}

#[test]
fn one_that_an_operator_does_not_want_is_not_probed_and_begins_anew_after_that() {
    play(async |scene| {
        let (mut checks, source) = checks(&scene);
        let wanted = Arc::new(AtomicBool::new(true));
        let mut target = scene.target(80, &[HealthCheck { fall: 2, ..http() }]);
        let is_wanted = Arc::clone(&wanted);
        target.is_wanted = Box::new(move || is_wanted.load(Ordering::Relaxed));
        scene.script(80, "+--");
        checks.set(vec![target]);
        sleep(Duration::from_millis(20_500)).await;
        assert_eq!(scene.reports(), [(80, true), (80, false)]);
        assert_times(&scene.times(80), &[0., 10., 20.]);
        wanted.store(false, Ordering::Relaxed);
        sleep(seconds(60)).await;
        assert_eq!(scene.times(80).len(), 3);
        assert_eq!(scene.reports(), []);
        // The first failure after that is one of two again.
        scene.script(80, "-+");
        wanted.store(true, Ordering::Relaxed);
        sleep(seconds(1)).await;
        assert_eq!(scene.reports(), [(80, true)]);
        assert_eq!(scene.times(80).len(), 4);
        sleep(seconds(11)).await;
        assert_eq!((scene.times(80).len(), scene.reports().len()), (5, 0));
        drop(source);
    });
}
