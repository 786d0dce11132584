//! Metrics for those who collect them: what the workers have counted, what is known of pools and
//! endpoints, of the configuration and of the process, as one page of text.
//!
//! Everything is brought together on the control runtime ([`gather`]); workers only copy numbers. All
//! metrics there are stand in one [`table`].

pub mod gather;
mod process;
#[cfg(test)]
pub(crate) mod strict;
pub mod table;
pub mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use net::timer::Tick;
use net::worker::Counters;
use proxy::health::breaker::State;
use proxy::log::{Cause, Ended};
use proxy::metrics::{CLASSES, METHODS, PROTOCOLS, STEPS, Unshaken, Why};
use proxy::snapshot::Snapshot;
use proxy::traces::{SpanCounts, SpanSink};
use tokio::task::spawn_blocking;

use self::gather::{Gathered, gather};
use self::process::Process;
use self::table::Family;
use self::text::{Format, Page, Samples};
use crate::admin::{Request, Response, Running};
use crate::endpoints::{self, PoolView, Status};
use crate::history::{History, Outcome};

/// A metric, and where its number is found.
type Column<From, Number = u64> = (&'static Family, fn(&From) -> Number);

/// States of a circuit breaker, and what they are called.
const BREAKER_STATES: [(State, &str); 3] =
    [(State::Closed, "closed"), (State::Open, "open"), (State::HalfOpen, "half_open")];

/// Answers a request for metrics.
pub async fn answer(running: &Running, request: &Request) -> Response {
    let format = Format::accepted(&request.accept);
    Response::whole(format.content_type(), page(running, format).await)
}

/// The page of all metrics.
pub async fn page(running: &Running, format: Format) -> String {
    let gathered = gather(&running.workers, &running.live).await;
    let dropped = running.workers.ask(|worker| worker.access_log.dropped()).await;
    let dropped = dropped.into_iter().max().unwrap_or(0);
    let snapshot = Arc::clone(&running.snapshot.borrow());
    let all = All {
        gathered,
        counters: running.workers.counters(),
        pools: endpoints::pool_views(&snapshot),
        snapshot,
        reloads: Reloads::of(&running.history.borrow()),
        process: Process::now(),
        spans: running.live.spans(),
        dropped: vec![("access", dropped), ("error", running.log.dropped())],
    };
    // Tens of milliseconds for a thousand sites, in which health checks would wait.
    let written = spawn_blocking(move || {
        let mut page = Page::new(format);
        all.write(&mut page);
        page.finish()
    });
    written.await.unwrap_or_default()
}

/// Everything that is rendered.
struct All {
    gathered: Gathered,
    counters: Vec<Counters>,
    snapshot: Arc<Snapshot>,
    pools: Vec<PoolView>,
    reloads: Reloads,
    process: Process,
    /// Lines that logs have dropped, by log.
    dropped: Vec<(&'static str, u64)>,
    /// Where spans go, if they are recorded.
    spans: Option<SpanSink>,
}

/// What is known of configurations that were to be taken.
#[derive(Debug, Default)]
struct Reloads {
    generation: u64,
    /// The last one was taken.
    last_ok: bool,
    /// When one was last taken, in milliseconds since 1970.
    last_ok_at: u64,
    /// How often each outcome was met.
    outcomes: Vec<(&'static str, u64)>,
}

impl Reloads {
    fn of(history: &History) -> Self {
        let mut reloads = Self { generation: history.in_force(), ..Self::default() };
        let all = [Outcome::Applied, Outcome::Refused, Outcome::Canary, Outcome::Withdrawn];
        for outcome in all {
            let count = history.entries().filter(|entry| entry.outcome == outcome).count();
            reloads.outcomes.push((outcome.as_str(), count as u64));
        }
        for entry in history.entries() {
            let was_taken = matches!(entry.outcome, Outcome::Applied | Outcome::Canary);
            reloads.last_ok = was_taken;
            if was_taken {
                reloads.last_ok_at = entry.unix_millis;
            }
        }
        reloads
    }
}

impl All {
    fn write(&self, page: &mut Page) {
        self.write_configuration(page);
        self.write_workers(page);
        self.write_listeners(page);
        self.write_sites(page);
        self.write_routes(page);
        self.write_pools(page);
        self.write_endpoints(page);
        self.write_rest(page);
    }

    fn write_configuration(&self, page: &mut Page) {
        let Reloads { generation, last_ok, last_ok_at, outcomes } = &self.reloads;
        page.family(&table::BUILD_INFO, |samples| samples.flag(&[env!("CARGO_PKG_VERSION")], true));
        page.family(&table::CONFIG_GENERATION, |samples| samples.number(&[], *generation));
        page.family(&table::CONFIG_LAST_OK, |samples| samples.flag(&[], *last_ok));
        page.family(&table::CONFIG_LAST_OK_AT, |samples| {
            samples.real(&[], *last_ok_at as f64 / 1000.0);
        });
        page.family(&table::CONFIG_HISTORY, |samples| {
            outcomes.iter().for_each(|(outcome, count)| samples.number(&[outcome], *count));
        });
    }

    fn write_workers(&self, page: &mut Page) {
        let of_net: [Column<Counters>; 6] = [
            (&table::WORKER_CONNECTIONS, |counters| counters.connections as u64),
            (&table::WORKER_ACCEPTED, |counters| counters.accepted),
            (&table::WORKER_HANDED_OVER, |counters| counters.handed_over),
            (&table::WORKER_REFUSED, |counters| counters.refused),
            (&table::WORKER_SHORTAGES, |counters| counters.shortages),
            (&table::WORKER_ACCEPT_ERRORS, |counters| counters.errors),
        ];
        for (family, value) in of_net {
            page.family(family, |samples| {
                for (index, counters) in self.counters.iter().enumerate() {
                    samples.number(&[&index.to_string()], value(counters));
                }
            });
        }
        let of_proxy: [Column<proxy::metrics::WorkerCounts>; 3] = [
            (&table::WORKER_REQUESTS, |counts| counts.ended),
            (&table::WORKER_IN_FLIGHT, |counts| counts.begun.saturating_sub(counts.ended)),
            (&table::WORKER_REFUSED_HEADS, |counts| counts.refused),
        ];
        for (family, value) in of_proxy {
            page.family(family, |samples| {
                for (index, counts) in self.gathered.workers.iter().enumerate() {
                    samples.number(&[&index.to_string()], value(counts));
                }
            });
        }
    }

    fn write_listeners(&self, page: &mut Page) {
        let all = || self.gathered.listeners.iter().map(|(labels, counts)| (first(labels), counts));
        page.family(&table::ACCEPT, |samples| {
            all().for_each(|(listener, counts)| samples.histogram(&[listener], &counts.accept));
        });
        page.family(&table::HANDSHAKES, |samples| {
            for (listener, counts) in all() {
                for (version, of_version) in ["1.2", "1.3"].iter().zip(&counts.handshakes) {
                    for (resumed, count) in ["false", "true"].iter().zip(of_version) {
                        if *count > 0 {
                            samples.number(&[listener, version, resumed], *count);
                        }
                    }
                }
            }
        });
        page.family(&table::HANDSHAKE_FAILURES, |samples| {
            for (listener, counts) in all() {
                for (why, count) in Unshaken::ALL.iter().zip(&counts.unshaken) {
                    if *count > 0 {
                        samples.number(&[listener, why.as_str()], *count);
                    }
                }
            }
        });
        page.family(&table::HANDSHAKE, |samples| {
            all().for_each(|(listener, counts)| samples.histogram(&[listener], &counts.handshake));
        });
        page.family(&table::CERTIFICATE_EXPIRES, |samples| {
            for (index, site) in self.snapshot.sites.iter().enumerate() {
                let shown = self.snapshot.tls_of(index).and_then(|tls| tls.identity());
                if let Some(identity) = shown {
                    samples.real(&[&site.name], identity.not_after() as f64);
                }
            }
        });
    }

    fn write_sites(&self, page: &mut Page) {
        let all = || self.gathered.sites.iter().map(|(labels, counts)| (first(labels), counts));
        page.family(&table::RESPONSES, |samples| {
            for (site, counts) in all() {
                for (code, count) in counts.codes.iter() {
                    samples.number(&[site, &code.to_string()], count);
                }
                if counts.codes.others() > 0 {
                    samples.number(&[site, "other"], counts.codes.others());
                }
            }
        });
        page.family(&table::METHODS, |samples| {
            for (site, counts) in all() {
                each(samples, &[site], METHODS, &counts.methods);
            }
        });
        page.family(&table::PROTOCOLS, |samples| {
            for (site, counts) in all() {
                each(samples, &[site], PROTOCOLS, &counts.protocols);
            }
        });
        page.family(&table::PHASES, |samples| {
            for (site, counts) in all() {
                for (step, histogram) in STEPS.iter().zip(&counts.steps) {
                    samples.histogram(&[site, step], histogram);
                }
            }
        });
        page.family(&table::FAILURES, |samples| {
            for (site, counts) in all() {
                // Several ends may go by one name.
                let mut sums: Vec<((&str, &str), u64)> = Vec::new();
                for (end, count) in counts.failures.iter() {
                    let ended = Ended::Failed { by: end.by, phase: end.phase, cause: end.cause };
                    let reason = ended.reason().map_or("", |reason| reason.name);
                    let key = (end.by.as_str(), reason);
                    match sums.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, sum)) => *sum += count,
                        None => sums.push((key, count)),
                    }
                }
                if counts.failures.others() > 0 {
                    sums.push((("other", "other"), counts.failures.others()));
                }
                for ((by, reason), count) in sums {
                    samples.number(&[site, by, reason], count);
                }
            }
        });
        for (family, class) in
            [(&table::RATE_LIMITED, Cause::RateLimit), (&table::DENIED, Cause::Denied)]
        {
            page.family(family, |samples| {
                for (site, counts) in all() {
                    let ends = counts.failures.iter();
                    let ends = ends.filter(|(end, _)| end.cause.class() == class);
                    samples.number(&[site], ends.map(|(_, count)| count).sum());
                }
            });
        }
    }

    fn write_routes(&self, page: &mut Page) {
        let all = || self.gathered.routes.iter().map(|(labels, counts)| (two(labels), counts));
        page.family(&table::REQUESTS, |samples| {
            for ([site, route], counts) in all() {
                for (class, count) in CLASSES.iter().zip(counts.classes) {
                    // So that the first error is a change, not a series that was not there.
                    if count > 0 || matches!(*class, "2xx" | "5xx") {
                        samples.number(&[site, route, class], count);
                    }
                }
            }
        });
        page.family(&table::REQUEST_DURATION, |samples| {
            all().for_each(|(labels, counts)| samples.histogram(&labels, &counts.duration));
        });
        let bytes: [Column<proxy::metrics::RouteCounts>; 2] = [
            (&table::REQUEST_BYTES, |counts| counts.request_bytes),
            (&table::RESPONSE_BYTES, |counts| counts.response_bytes),
        ];
        for (family, value) in bytes {
            page.family(family, |samples| {
                all().for_each(|(labels, counts)| samples.number(&labels, value(counts)));
            });
        }
        let sockets: [Column<proxy::metrics::RouteCounts>; 4] = [
            (&table::SOCKETS_OPEN, |counts| {
                counts.sockets_opened.saturating_sub(counts.sockets_closed)
            }),
            (&table::SOCKETS_OPENED, |counts| counts.sockets_opened),
            (&table::SOCKET_BYTES_IN, |counts| counts.socket_bytes_in),
            (&table::SOCKET_BYTES_OUT, |counts| counts.socket_bytes_out),
        ];
        for (family, value) in sockets {
            page.family(family, |samples| {
                for (labels, counts) in all().filter(|(_, counts)| counts.sockets_opened > 0) {
                    samples.number(&labels, value(counts));
                }
            });
        }
    }

    fn write_pools(&self, page: &mut Page) {
        let all = || {
            let all = self.gathered.pools.iter().map(|(labels, counts)| (two(labels), counts));
            // What belongs to no pool is never counted.
            all.filter(|([site, pool], _)| !site.is_empty() || !pool.is_empty())
        };
        let counters: [Column<proxy::metrics::PoolCounts>; 4] = [
            (&table::POOL_REQUESTS, |counts| counts.requests),
            (&table::POOL_ATTEMPTS, |counts| counts.attempts),
            (&table::POOL_NO_ENDPOINT, |counts| counts.no_endpoint),
            (&table::POOL_CIRCUIT_OPEN, |counts| counts.circuit_open),
        ];
        for (family, value) in counters {
            page.family(family, |samples| {
                all().for_each(|(labels, counts)| samples.number(&labels, value(counts)));
            });
        }
        page.family(&table::POOL_RETRIES, |samples| {
            for ([site, pool], counts) in all() {
                each(samples, &[site, pool], Why::ALL.map(Why::as_str), &counts.retries);
            }
        });
        page.family(&table::POOL_QUEUE, |samples| {
            all().for_each(|(labels, counts)| samples.histogram(&labels, &counts.queue));
        });
        let gauges: [Column<PoolView, Option<u64>>; 3] = [
            (&table::POOL_WAITING, |pool| Some(pool.waiting.into())),
            (&table::POOL_IN_FLIGHT, |pool| Some(pool.in_flight.into())),
            (&table::POOL_LIMIT, |pool| pool.max_in_flight.map(u64::from)),
        ];
        for (family, value) in gauges {
            page.family(family, |samples| {
                for pool in &self.pools {
                    if let Some(value) = value(pool) {
                        samples.number(&[&pool.site, &pool.pool], value);
                    }
                }
            });
        }
        let now = Tick::now();
        page.family(&table::POOL_BUDGET, |samples| {
            for (site, pool) in endpoints::pools(&self.snapshot) {
                samples.number(&[&site.name, &pool.name], pool.budget.left(now));
            }
        });
        page.family(&table::POOL_BREAKER, |samples| {
            for pool in &self.pools {
                let Some(now) = pool.breaker else { continue };
                for (state, name) in BREAKER_STATES {
                    samples.flag(&[&pool.site, &pool.pool, name], state == now);
                }
            }
        });
    }

    fn write_endpoints(&self, page: &mut Page) {
        let all = || {
            let all = self.gathered.members.iter().map(|(labels, counts)| (three(labels), counts));
            all.filter(|([site, pool, _], _)| !site.is_empty() || !pool.is_empty())
        };
        page.family(&table::ENDPOINT_RESPONSES, |samples| {
            for (labels, counts) in all() {
                each(samples, &labels, CLASSES, &counts.classes);
            }
        });
        page.family(&table::ENDPOINT_FAILURES, |samples| {
            for (labels, counts) in all() {
                each(samples, &labels, Why::ALL.map(Why::as_str), &counts.failures);
            }
        });
        page.family(&table::ENDPOINT_CONNECT, |samples| {
            all().for_each(|(labels, counts)| samples.histogram(&labels, &counts.connect));
        });
        page.family(&table::ENDPOINT_FIRST_BYTE, |samples| {
            all().for_each(|(labels, counts)| samples.histogram(&labels, &counts.first_byte));
        });
        let counters: [Column<proxy::metrics::MemberCounts>; 4] = [
            (&table::ENDPOINT_ATTEMPTS, |counts| counts.attempts),
            (&table::ENDPOINT_REUSED, |counts| counts.reused),
            (&table::ENDPOINT_SENT, |counts| counts.request_bytes),
            (&table::ENDPOINT_RECEIVED, |counts| counts.response_bytes),
        ];
        for (family, value) in counters {
            page.family(family, |samples| {
                all().for_each(|(labels, counts)| samples.number(&labels, value(counts)));
            });
        }
        let endpoints = || {
            self.pools.iter().flat_map(|pool| &pool.endpoints).map(|endpoint| {
                let address = endpoint.address.as_deref().unwrap_or_default();
                ([&*endpoint.site, &*endpoint.pool, &*endpoint.url, address], endpoint)
            })
        };
        page.family(&table::ENDPOINT_STATUS, |samples| {
            for ([site, pool, url, address], endpoint) in distinct(endpoints()) {
                samples.flag(&[site, pool, url, address, endpoint.status.as_str()], true);
            }
        });
        let gauges: [Column<endpoints::EndpointView>; 5] = [
            (&table::ENDPOINT_UP, |endpoint| u64::from(endpoint.status == Status::Up)),
            (&table::ENDPOINT_EJECTED, |endpoint| u64::from(endpoint.ejected_for.is_some())),
            (&table::ENDPOINT_WEIGHT, |endpoint| endpoint.weight.into()),
            (&table::ENDPOINT_IN_FLIGHT, |endpoint| endpoint.in_flight.into()),
            (&table::ENDPOINT_CHECKS_FAILED, |endpoint| endpoint.failed_checks),
        ];
        for (family, value) in gauges {
            page.family(family, |samples| {
                for (labels, endpoint) in distinct(endpoints()) {
                    samples.number(&labels, value(endpoint));
                }
            });
        }
    }

    fn write_rest(&self, page: &mut Page) {
        page.family(&table::LOG_DROPPED, |samples| {
            self.dropped.iter().for_each(|(log, lines)| samples.number(&[log], *lines));
        });
        if let Some(spans) = &self.spans {
            let SpanCounts { exported, queue_full, refused } = spans.counts();
            let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
            page.family(&table::SPANS_EXPORTED, |samples| samples.number(&[], read(exported)));
            page.family(&table::SPANS_LOST, |samples| {
                samples.number(&["queue_full"], read(queue_full));
                samples.number(&["refused"], read(refused));
            });
        }
        page.family(&table::SCRAPE_HOLD, |samples| {
            samples.real(&[], self.gathered.longest_hold.as_secs_f64());
        });
        let process = &self.process;
        let reals =
            [(&table::PROCESS_CPU, process.cpu_seconds), (&table::PROCESS_START, process.started)];
        for (family, value) in reals {
            page.family(family, |samples| value.iter().for_each(|value| samples.real(&[], *value)));
        }
        let numbers = [
            (&table::PROCESS_RESIDENT, process.resident),
            (&table::PROCESS_VIRTUAL, process.virtual_memory),
            (&table::PROCESS_FDS, process.descriptors),
            (&table::PROCESS_FDS_MAX, process.descriptors_max),
            (&table::PROCESS_THREADS, process.threads),
        ];
        for (family, value) in numbers {
            page.family(family, |samples| {
                value.iter().for_each(|value| samples.number(&[], *value));
            });
        }
    }
}

/// Counts that are not nought, each with its name behind `labels`.
fn each<const N: usize>(
    samples: &mut Samples<'_>,
    labels: &[&str],
    names: [&str; N],
    counts: &[u64; N],
) {
    for (name, count) in names.iter().zip(counts).filter(|(_, count)| **count > 0) {
        samples.number(&[labels, &[*name]].concat(), *count);
    }
}

/// Those whose labels differ from all before: an entry that stands twice in a pool has one state.
fn distinct<'a, T>(
    all: impl Iterator<Item = ([&'a str; 4], T)>,
) -> impl Iterator<Item = ([&'a str; 4], T)> {
    let mut seen = std::collections::HashSet::new();
    all.filter(move |(labels, _)| seen.insert(*labels))
}

fn first(labels: &[String]) -> &str {
    labels.first().map_or("", String::as_str)
}

fn two(labels: &[String]) -> [&str; 2] {
    [0, 1].map(|index| labels.get(index).map_or("", String::as_str))
}

fn three(labels: &[String]) -> [&str; 3] {
    [0, 1, 2].map(|index| labels.get(index).map_or("", String::as_str))
}

#[cfg(test)]
mod tests;
