//! Exchanges from the workers to those who look at them: what the recorders have, and what ends from now
//! on.
//!
//! What always holds: between a worker and one who watches is a queue of [`QUEUE`] exchanges, and behind it
//! nothing is waited for; what does not fit is counted ([`Watching::missed`]).

use std::cmp::Reverse;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use net::worker::Workers;
use proxy::recorder::{Exchange, Filter, Kept, LOOK_MAX, Subscription, TIMED, Text, Which, how};
use proxy::worker::Worker;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;

/// Exchanges that wait for one who watches. At about a KiB each at most.
pub const QUEUE: usize = 1024;

/// Exchanges of one worker in a second that somebody may watch.
pub const RATE_MAX: u32 = 10_000;

/// One search at a time runs its filter, so that many of them leave the workers their processors.
static SEARCHES: Semaphore = Semaphore::const_new(1);

/// What the recorders of all workers have: at most `limit`, the latest first, or the slowest. A filter sees
/// the first [`LOOK_MAX`] of each worker.
pub async fn recorded(
    workers: &Workers<Rc<Worker>>,
    which: Which,
    limit: usize,
    filter: Option<Arc<Filter>>,
) -> Vec<Kept> {
    let search = match filter {
        Some(filter) => Some(Search::begin(filter).await),
        None => None,
    };
    let of_each = if search.is_some() { LOOK_MAX } else { limit };
    let look = move |worker: &Rc<Worker>| worker.recorder.look(which, of_each);
    let mut found: Vec<Kept> = workers.ask(look).await.into_iter().flatten().collect();
    found.sort_by_key(|kept| {
        let facts = kept.exchange().facts;
        Reverse(match which {
            Which::Slow => facts.total_us,
            Which::Last | Which::Failed => facts.wall_us.saturating_add(facts.total_us),
        })
    });
    match search {
        Some(search) => search.sift(found, limit, |kept| kept).await,
        None => {
            found.truncate(limit);
            found
        }
    }
}

/// Runs a filter where no worker waits for it.
pub(crate) struct Search {
    filter: Arc<Filter>,
    /// Held until the filter is done, also when nobody wants to know any more.
    turn: Arc<Option<SemaphorePermit<'static>>>,
}

impl Search {
    /// Waits until it may search. Before anything is copied, so that there is one copy at a time.
    pub(crate) async fn begin(filter: Arc<Filter>) -> Self {
        // It is never closed.
        Self { filter, turn: Arc::new(SEARCHES.acquire().await.ok()) }
    }

    /// The first `limit` that the filter lets pass.
    pub(crate) async fn sift<T: Send + 'static>(
        &self,
        found: Vec<T>,
        limit: usize,
        kept: fn(&T) -> &Kept,
    ) -> Vec<T> {
        let (filter, turn) = (Arc::clone(&self.filter), Arc::clone(&self.turn));
        let sifted = spawn_blocking(move || {
            let passes = |one: &T| filter.passes(&kept(one).exchange());
            let sifted = found.into_iter().filter(passes).take(limit).collect();
            drop(turn);
            sifted
        });
        sifted.await.unwrap_or_default()
    }
}

/// Exchanges as they end. Ends when it is dropped.
#[derive(Debug)]
pub struct Watching {
    source: Receiver<Kept>,
    missed: Arc<AtomicU64>,
}

/// Watches the exchanges that `filter` lets pass, at most `rate` a second of each worker. `None` if too many
/// watch already.
pub async fn watch(
    workers: &Workers<Rc<Worker>>,
    filter: Option<Filter>,
    rate: u32,
) -> Option<Watching> {
    let (sink, source) = channel(QUEUE);
    let missed = Arc::new(AtomicU64::new(0));
    let filter = filter.map(Arc::new);
    let rate = rate.clamp(1, RATE_MAX);
    let subscription = Subscription { filter, sink, missed: Arc::clone(&missed), rate };
    let subscribe = move |worker: &Rc<Worker>| worker.recorder.subscribe(subscription.clone());
    let all = workers.ask(subscribe).await;
    // One who is not on all workers is on none once this is dropped.
    all.into_iter().all(|subscribed| subscribed).then_some(Watching { source, missed })
}

impl Watching {
    /// The next exchanges, as soon as there is one; empty if there will be no more.
    pub async fn next(&mut self, max: usize) -> Vec<Kept> {
        let mut found = Vec::new();
        self.source.recv_many(&mut found, max.max(1)).await;
        found
    }

    /// How many have been missed since this was last asked.
    pub fn missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

/// An exchange as JSON; what is not known is left out. Durations are in seconds.
pub fn value(exchange: &Exchange<'_>) -> Value {
    let facts = &exchange.facts;
    let mut time = Vec::new();
    proxy::log::rfc3339(&mut time, facts.wall_us);
    let mut all = Map::new();
    let mut add = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    add("time", lossy(&time));
    if let Some(client) = facts.client {
        add("client", client.to_canonical().to_string().into());
        add("client_port", facts.client_port.into());
    }
    for (name, which) in TEXTS {
        let text = exchange.text(which);
        if !text.is_empty() {
            let mut text = String::from_utf8_lossy(text).into_owned();
            if exchange.is_cut(which) {
                text.push('…');
            }
            add(name, text.into());
        }
    }
    add("status", facts.status.into());
    add("request_bytes", facts.request_bytes.into());
    add("response_bytes", facts.response_bytes.into());
    if !facts.protocol.is_empty() {
        add("protocol", facts.protocol.into());
    }
    if !facts.tls.is_empty() {
        let tls = json!({
            "version": facts.tls, "cipher": facts.cipher, "resumed": facts.resumed,
        });
        add("tls", tls);
    }
    add("listener", facts.listener.into());
    if facts.attempts > 0 {
        add("attempts", facts.attempts.into());
        add("reused", facts.reused.into());
    }
    add("total", seconds(facts.total_us));
    let phases = TIMED.into_iter().filter_map(|phase| {
        facts.phase(phase).map(|micros| (phase.as_str().to_owned(), seconds(micros)))
    });
    add("phases", Value::Object(phases.collect()));
    add("failed", exchange.is_failed().into());
    let [ended, phase, cause, reason] = how(facts.ended);
    add("ended", ended.into());
    if !phase.is_empty() {
        add("phase", phase.into());
        add("cause", cause.into());
        add("reason", reason.into());
    }
    Value::Object(all)
}

/// What the texts of an exchange are called.
const TEXTS: [(&str, Text); 10] = [
    ("user", Text::User),
    ("method", Text::Method),
    ("target", Text::Target),
    ("host", Text::Host),
    ("user_agent", Text::UserAgent),
    ("site", Text::Site),
    ("route", Text::Route),
    ("pool", Text::Pool),
    ("endpoint", Text::Endpoint),
    ("request_id", Text::RequestId),
];

fn lossy(text: &[u8]) -> Value {
    String::from_utf8_lossy(text).into_owned().into()
}

fn seconds(micros: u64) -> Value {
    (micros as f64 / 1e6).into()
}

#[cfg(test)]
mod tests {
    use proxy::log::{Cause, Ended, Party, Phase, Record, Times};

    use super::*;

    #[test]
    fn an_exchange_as_json_leaves_out_what_is_not_known() {
        let record = Record {
            wall_us: 1_795_232_881_250_000,
            client: Some([192, 0, 2, 7].into()),
            client_port: 4000,
            method: b"GET",
            target: &[b'a'; 300],
            version: "HTTP/1.1",
            status: 502,
            site: "main",
            attempts: 1,
            times: Times { total: 1204, connect: Some(1000), ..Times::default() },
            ended: Ended::Failed {
                by: Party::Upstream,
                phase: Phase::Connect,
                cause: Cause::Refused,
            },
            ..Record::default()
        };
        let kept = Kept::new(&Exchange::of(&record));
        let expected = json!({
            "time": "2026-11-21T03:48:01.250Z",
            "client": "192.0.2.7",
            "client_port": 4000,
            "method": "GET",
            "target": format!("{}…", "a".repeat(256)),
            "site": "main",
            "status": 502,
            "request_bytes": 0,
            "response_bytes": 0,
            "protocol": "HTTP/1.1",
            "listener": 0,
            "attempts": 1,
            "reused": false,
            "total": 0.001204,
            "phases": { "connect": 0.001 },
            "failed": true,
            "ended": "upstream",
            "phase": "connect",
            "cause": "refused",
            "reason": "connect_refused",
        });
        assert_eq!(value(&kept.exchange()), expected);
    }
}
