//! A steady load: clients that ask again and again, and what came of each request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Client, PATIENCE};

/// Clients at work, each with a connection of its own and one request at a time.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Sample>>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    answered: AtomicUsize,
}

/// A request and what came of it.
#[derive(Debug, Clone)]
pub struct Sample {
    pub began: Instant,
    pub took: Duration,
    /// The number of the origin of a [`super::Fleet`] that answered, or what went wrong.
    pub outcome: Result<usize, String>,
}

/// The requests of a time, in the order of their beginnings.
#[derive(Debug, Clone)]
pub struct Samples(pub Vec<Sample>);

impl Load {
    /// Requests that may be sent twice: three of four are a GET, the other a PUT with a body that
    /// has to come back.
    pub fn replayable(to: SocketAddr, clients: usize) -> Load {
        Load::replayable_at(to, "/", clients)
    }

    /// The same for this target.
    pub fn replayable_at(to: SocketAddr, target: &'static str, clients: usize) -> Load {
        let shared = Arc::<Shared>::default();
        let client = |number| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || ask_until_over(to, target, number, &shared))
        };
        let clients = (0..clients).map(client).collect();
        Load { shared, clients }
    }

    /// Waits until so many more requests have been answered.
    #[track_caller]
    pub fn await_requests(&self, more: usize) {
        let wanted = self.shared.answered.load(Ordering::SeqCst) + more;
        let deadline = Instant::now() + 3 * PATIENCE;
        while self.shared.answered.load(Ordering::SeqCst) < wanted {
            assert!(Instant::now() < deadline, "{more} requests are not answered");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Goes on for this time, which is what is tested.
    pub fn go_on_for(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Ends it when every client has its answer.
    #[track_caller]
    pub fn end(self) -> Samples {
        self.shared.over.store(true, Ordering::SeqCst);
        let of_client = |client: JoinHandle<Vec<Sample>>| client.join().expect("a client failed");
        let mut samples: Vec<Sample> = self.clients.into_iter().flat_map(of_client).collect();
        samples.sort_by_key(|sample| sample.began);
        Samples(samples)
    }
}

fn ask_until_over(to: SocketAddr, target: &str, number: usize, shared: &Shared) -> Vec<Sample> {
    let mut client = Client::connect(to);
    let mut samples = Vec::new();
    while !shared.over.load(Ordering::SeqCst) {
        let body = match samples.len() % 4 {
            3 => format!("{number}/{} ", samples.len()).repeat(100),
            _ => String::new(),
        };
        let began = Instant::now();
        let outcome = ask(&mut client, target, &body);
        samples.push(Sample { began, took: began.elapsed(), outcome });
        if !matches!(samples.last(), Some(Sample { outcome: Ok(_), .. })) {
            // A refusal may close the connection; a break always does.
            client = Client::connect(to);
        }
        shared.answered.fetch_add(1, Ordering::SeqCst);
    }
    samples
}

fn ask(client: &mut Client, target: &str, body: &str) -> Result<usize, String> {
    let (method, length) = match body.len() {
        0 => ("GET", String::new()),
        length => ("PUT", format!("Content-Length: {length}\r\n")),
    };
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: example.com\r\n{length}\r\n{body}"));
    let response =
        client.wire.response(method).map_err(|broken| format!("{method}: {broken:?}"))?;
    if response.status != 200 {
        return Err(format!("{method}: {}", response.status));
    }
    let text = response.text();
    match text.split_once(' ') {
        Some((origin, echo)) if echo == body => Ok(origin.parse().unwrap()),
        _ => Err(format!("{method}: another body: {text:.60}")),
    }
}

impl Samples {
    /// Those that began from `from` on and before `to`.
    pub fn between(&self, from: Instant, to: Instant) -> Samples {
        let within = |sample: &&Sample| sample.began >= from && sample.began < to;
        Samples(self.0.iter().filter(within).cloned().collect())
    }

    pub fn since(&self, from: Instant) -> Samples {
        Samples(self.0.iter().filter(|sample| sample.began >= from).cloned().collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What went wrong, and how often.
    pub fn failures(&self) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for what in self.0.iter().filter_map(|sample| sample.outcome.as_ref().err()) {
            *failures.entry(what.clone()).or_default() += 1;
        }
        failures
    }

    /// How many this origin answered.
    pub fn answered_by(&self, origin: usize) -> usize {
        self.0.iter().filter(|sample| sample.outcome == Ok(origin)).count()
    }

    /// The time in which so many of a thousand were answered or failed.
    pub fn quantile(&self, of_thousand: usize) -> Duration {
        let mut times: Vec<Duration> = self.0.iter().map(|sample| sample.took).collect();
        times.sort_unstable();
        let index = (times.len() * of_thousand / 1000).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    }

    /// All of it in a line.
    pub fn report(&self) -> String {
        let [p50, p99, most] = [500, 990, 1000].map(|n| self.quantile(n).as_secs_f64() * 1000.0);
        let (count, failures) = (self.len(), self.failures());
        let failed: usize = failures.values().sum();
        let share = failed as f64 * 100.0 / count.max(1) as f64;
        format!(
            "{count} requests, {failed} failed ({share:.3} %) {failures:?}, \
             p50 {p50:.1} ms, p99 {p99:.1} ms, most {most:.1} ms"
        )
    }
}
