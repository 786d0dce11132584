use std::sync::Mutex;

use config::model::{Level, Transport, UpstreamAddress};
use proxy::log::{Order, Source, sink};

use super::*;

/// Names as the test wants them, and how often they were asked for.
#[derive(Clone, Default)]
struct Zone(Arc<Mutex<Records>>);

#[derive(Default)]
struct Records {
    answers: HashMap<Question, Result<Answer, Failure>>,
    /// In seconds since the start, by the clock that stands still while nobody waits for it.
    asked: Vec<f64>,
    /// Nobody answers.
    silent: bool,
    at_once: usize,
    most: usize,
}

struct Scene {
    zone: Zone,
    live: Arc<Live>,
    source: Source,
    log: ErrorLog,
}

fn scene() -> Scene {
    let (sink, source) = sink(64);
    let log = ErrorLog::new(sink, Level::Info);
    Scene { zone: Zone::default(), live: Arc::default(), source, log }
}

impl Scene {
    fn endpoint(&self, host: &str, lookup: Lookup, slot: usize) -> Arc<Endpoint> {
        let address = UpstreamAddress::Tcp { host: host.to_owned(), port: 80 };
        self.live.endpoint(&address, &Transport::default(), lookup, slot)
    }

    fn slots(&self, host: &str, lookup: Lookup, count: usize) -> Vec<Arc<Endpoint>> {
        (0..count).map(|slot| self.endpoint(host, lookup, slot)).collect()
    }

    fn set(&self, question: Question, answer: Result<Answer, Failure>) {
        self.zone.0.lock().unwrap().answers.insert(question, answer);
    }

    /// The host has these addresses.
    fn host(&self, host: &str, last: &[u8], ttl: u64) {
        let answer = Answer::Addresses(found(last, Some(ttl)));
        self.set(Question::Addresses(host.to_owned()), Ok(answer));
    }

    fn asked(&self) -> Vec<f64> {
        std::mem::take(&mut self.zone.0.lock().unwrap().asked)
    }

    fn lines(&self) -> Vec<String> {
        let orders = std::iter::from_fn(|| self.source.orders.try_recv().ok());
        let lines = orders.filter_map(|order| match order {
            Order::Write(block) => String::from_utf8(block.bytes).ok(),
            _ => None,
        });
        lines.filter_map(|line| Some(line.trim_end().split_once(' ')?.1.to_owned())).collect()
    }

    /// Begins to resolve; done when each name has been looked up once.
    async fn start(&self, dns: Dns) {
        let (zone, began) = (self.zone.clone(), Instant::now());
        let lookup: Lookups = Arc::new(move |question| {
            let zone = zone.clone();
            Box::pin(async move {
                let answer = {
                    let mut records = zone.0.lock().unwrap();
                    records.asked.push(began.elapsed().as_secs_f64());
                    records.at_once += 1;
                    records.most = records.most.max(records.at_once);
                    records.answers.get(&question).cloned()
                };
                let silent = zone.0.lock().unwrap().silent;
                if silent {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                zone.0.lock().unwrap().at_once -= 1;
                answer.unwrap_or_else(|| Err(Failure::of("no such name")))
            })
        });
        let (mut resolver, first) =
            Resolver::new(Arc::clone(&self.live), dns, self.log.clone(), lookup);
        tokio::spawn(async move { resolver.run().await });
        first.await.unwrap();
    }
}

fn dns() -> Dns {
    Dns { servers: Vec::new(), min_ttl: seconds(1), max_ttl: seconds(300) }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn sleep(time: u64) {
    tokio::time::sleep(seconds(time)).await;
}

fn found(last: &[u8], ttl: Option<u64>) -> Found {
    let addresses = last.iter().map(|&last| IpAddr::from([10, 0, 0, last])).collect();
    Found { addresses, ttl: ttl.map(seconds), lacks_v6: false }
}

fn service(host: &str, port: u16, priority: u16, weight: u16, last: &[u8]) -> Service {
    let found = match last {
        [] => Err(Failure::of("no answer")),
        last => Ok(found(last, Some(20))),
    };
    Service { host: host.to_owned(), port, priority, weight, found }
}

fn at(last: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, last], port).into()
}

fn first(endpoints: &[Arc<Endpoint>]) -> Vec<Option<SocketAddr>> {
    endpoints.iter().map(|endpoint| endpoint.addresses().first().copied()).collect()
}

/// Runs a scene in which time passes only when everybody waits for it.
fn play<F: Future<Output = ()>>(play: impl FnOnce(Scene) -> F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(play(scene()));
}

/// The differences lie between the two.
#[track_caller]
fn assert_apart(times: &[f64], from: f64, to: f64) {
    assert!(times.len() > 1, "{times:?}");
    let fits = |pair: &[f64]| (from..=to).contains(&(pair[1] - pair[0]));
    assert!(times.windows(2).all(fits), "{times:?} are not {from} to {to} s apart");
}

#[test]
fn every_endpoint_of_a_host_gets_its_addresses_with_its_port() {
    play(async |scene| {
        let one = scene.endpoint("a.test", Lookup::Addresses, 0);
        let address = UpstreamAddress::Tcp { host: "a.test".to_owned(), port: 81 };
        let other = scene.live.endpoint(&address, &Transport::default(), Lookup::Addresses, 0);
        let literal = scene.endpoint("127.0.0.1", Lookup::Addresses, 0);
        scene.host("a.test", &[1, 1], 60);
        scene.start(dns()).await;
        assert_eq!((*one.addresses()).clone(), [at(1, 80)]);
        assert_eq!((*other.addresses()).clone(), [at(1, 81)]);
        assert_eq!(literal.addresses().len(), 1);
        assert_eq!(scene.asked().len(), 1, "a literal is not looked up, a name once");
        assert!(scene.lines().is_empty());
    });
}

#[test]
fn a_name_is_looked_up_again_when_its_time_to_live_is_over() {
    play(async |scene| {
        let slots = scene.slots("a.test", Lookup::Addresses, 2);
        scene.host("a.test", &[1], 20);
        scene.start(dns()).await;
        sleep(110).await;
        assert_apart(&scene.asked(), 20., 22.2);
        scene.host("a.test", &[2, 3], 20);
        sleep(23).await;
        assert_eq!(first(&slots), [Some(at(2, 80)), Some(at(3, 80))]);
        assert_eq!(
            scene.lines(),
            [
                "info resolve: upstream host \"a.test\" has other addresses: 10.0.0.2:80, 10.0.0.3:80"
            ]
        );
    });
}

#[test]
fn times_to_live_are_bounded_both_ways() {
    for (ttl, from, to) in [(0, 3., 3.4), (86_400, 40., 44.1)] {
        play(async |scene| {
            scene.endpoint("a.test", Lookup::Addresses, 0);
            scene.host("a.test", &[1], ttl);
            scene.start(Dns { min_ttl: seconds(3), max_ttl: seconds(40), ..dns() }).await;
            sleep(200).await;
            assert_apart(&scene.asked(), from, to);
        });
    }
}

#[test]
fn what_says_nothing_of_its_time_to_live_is_looked_up_every_30_seconds() {
    play(async |scene| {
        scene.endpoint("a.test", Lookup::Addresses, 0);
        let answer = Answer::Addresses(found(&[1], None));
        scene.set(Question::Addresses("a.test".to_owned()), Ok(answer));
        scene.start(dns()).await;
        sleep(200).await;
        assert_apart(&scene.asked(), 27., 33.1);
    });
}

#[test]
fn a_name_that_stops_resolving_keeps_its_addresses_and_is_told_once() {
    play(async |scene| {
        let slots = scene.slots("a.test", Lookup::Addresses, 1);
        scene.host("a.test", &[1], 5);
        scene.start(dns()).await;
        scene.set(Question::Addresses("a.test".to_owned()), Err(Failure::of("no such name")));
        sleep(1000).await;
        assert_eq!(first(&slots), [Some(at(1, 80))]);
        let told = scene.lines();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("warn resolve: upstream host \"a.test\" does not resolve (no such")
        );
        assert!(told[0].contains("the last known addresses stay in use"), "{told:?}");
        // It is tried ever more seldom.
        let asked = scene.asked();
        let apart: Vec<f64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (apart, expected) in apart[1..].iter().zip([1., 2., 4., 8., 16., 30., 30., 30.]) {
            assert!((expected * 0.9..expected * 1.1 + 0.1).contains(apart), "{apart} {expected}");
        }
        scene.host("a.test", &[1], 5);
        sleep(35).await;
        assert_eq!(
            scene.lines(),
            ["info resolve: upstream host \"a.test\" resolves again: 10.0.0.1:80"]
        );
        scene.asked();
        sleep(30).await;
        assert_apart(&scene.asked(), 5., 5.6);
    });
}

#[test]
fn nobody_answers_and_what_is_known_stays() {
    play(async |scene| {
        let slots = scene.slots("a.test", Lookup::Addresses, 1);
        scene.host("a.test", &[1], 5);
        scene.start(dns()).await;
        scene.zone.0.lock().unwrap().silent = true;
        sleep(100).await;
        assert_eq!(first(&slots), [Some(at(1, 80))]);
        assert!(scene.lines()[0].contains("(no answer within 10 s); the last known"));
        scene.zone.0.lock().unwrap().silent = false;
        scene.host("a.test", &[2], 5);
        sleep(45).await;
        assert_eq!(first(&slots), [Some(at(2, 80))]);
    });
}

#[test]
fn one_slow_name_does_not_hold_up_the_others() {
    play(async |scene| {
        scene.slots("a.test", Lookup::Addresses, 1);
        scene.host("a.test", &[1], 1);
        scene.start(dns()).await;
        scene.zone.0.lock().unwrap().silent = true;
        sleep(2).await;
        scene.zone.0.lock().unwrap().silent = false;
        // The lookup of a.test hangs; b.test is new.
        let b = scene.slots("b.test", Lookup::Addresses, 1);
        scene.host("b.test", &[2], 1);
        sleep(2).await;
        assert_eq!(first(&b), [Some(at(2, 80))]);
    });
}

#[test]
fn lookups_at_once_are_bounded() {
    play(async |scene| {
        let hosts: Vec<String> = (0..100).map(|host| format!("host{host}.test")).collect();
        for host in &hosts {
            scene.slots(host, Lookup::Addresses, 1);
            scene.host(host, &[1], 60);
        }
        scene.start(dns()).await;
        let records = scene.zone.0.lock().unwrap();
        assert_eq!((records.asked.len(), records.most), (100, LOOKUPS_MAX));
    });
}

#[test]
fn srv_records_give_ports_priorities_and_weights() {
    play(async |scene| {
        let slots = scene.slots("_http._tcp.a.test", Lookup::Services, 4);
        let question = Question::Services("_http._tcp.a.test".to_owned());
        let services = vec![
            service("one.test", 8001, 0, 30, &[1]),
            service("two.test", 8002, 0, 10, &[2]),
            service("two.test", 8003, 5, 0, &[2]),
        ];
        scene.set(question.clone(), Ok(Answer::Services(services, seconds(60))));
        scene.start(dns()).await;
        assert_eq!(first(&slots), [Some(at(1, 8001)), Some(at(2, 8002)), Some(at(2, 8003)), None]);
        let shares: Vec<Share> = slots.iter().map(|slot| slot.share()).take(3).collect();
        let share = |priority, weight| Share { priority, weight };
        assert_eq!(shares, [share(0, 30), share(0, 10), share(5, 0)]);
        // The addresses are good for 20 s only.
        sleep(90).await;
        assert_apart(&scene.asked(), 20., 22.2);
        // One target is gone, one cannot be looked up, and the order is another.
        let services =
            vec![service("two.test", 8002, 0, 40, &[]), service("three.test", 8004, 0, 1, &[3])];
        scene.set(question.clone(), Ok(Answer::Services(services, seconds(60))));
        sleep(25).await;
        assert_eq!(first(&slots), [Some(at(3, 8004)), Some(at(2, 8002)), None, None]);
        assert_eq!(slots[1].share(), share(0, 40));
        let told = scene.lines();
        assert!(
            told[0].contains("its target \"two.test\" does not resolve (no answer)"),
            "{told:?}"
        );
        // The service is given up.
        scene.set(question, Ok(Answer::Services(Vec::new(), seconds(60))));
        sleep(40).await;
        assert_eq!(first(&slots), [None; 4]);
        assert!(scene.lines().last().unwrap().contains("is not offered"));
    });
}

#[test]
fn addresses_of_a_family_that_nothing_was_learned_of_stay() {
    play(async |scene| {
        let slots = scene.slots("a.test", Lookup::Addresses, 1);
        let question = Question::Addresses("a.test".to_owned());
        let v6: IpAddr = "fd00::1".parse().unwrap();
        let mut both = found(&[1], Some(5));
        both.addresses.push(v6);
        scene.set(question.clone(), Ok(Answer::Addresses(both)));
        scene.start(dns()).await;
        let expected = [at(1, 80), SocketAddr::new(v6, 80)];
        assert_eq!(*slots[0].addresses(), expected);
        let half = Found { lacks_v6: true, ..found(&[1], Some(5)) };
        scene.set(question, Ok(Answer::Addresses(half)));
        sleep(20).await;
        assert_eq!(*slots[0].addresses(), expected);
    });
}
