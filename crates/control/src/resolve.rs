//! Keeps the addresses of endpoints that are given by host name up to date.
//!
//! A request never waits for a name: it uses what was published last. Names are looked up at the
//! start and then again and again, with the system's own resolver (`/etc/hosts`, search domains,
//! containers' DNS). A name that does not resolve is no reason not to start; one that stops
//! resolving keeps the addresses it had, because a broken name server should not take the sites
//! down that still run.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use config::model::Transport;
use proxy::live::{Endpoint, Live};
use proxy::log::ErrorLog;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// A name that resolves is looked up again after this, give or take a tenth.
const INTERVAL: Duration = Duration::from_secs(30);

/// A name that does not resolve is tried again after this, give or take a tenth.
const RETRY: Duration = Duration::from_secs(5);

/// The start waits this long for the first answers.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(2);

/// One lookup may take this long before it counts as failed.
const LOOKUP_MAX: Duration = Duration::from_secs(10);

/// New endpoints are noticed after this at the latest.
const NOTICE: Duration = Duration::from_secs(1);

/// Starts looking names up on the current runtime, for as long as it lives. Returns when each name
/// has been looked up once, or after two seconds.
pub async fn start(live: Arc<Live>, log: ErrorLog) {
    let (done, first_round) = oneshot::channel();
    let mut resolver = Resolver { live, log, names: HashMap::new(), lookup: system_lookup };
    tokio::spawn(async move {
        resolver.round().await;
        let _nobody_waits = done.send(());
        loop {
            sleep_until(resolver.next_round()).await;
            resolver.round().await;
        }
    });
    let _late = timeout(FIRST_ROUND_MAX, first_round).await;
}

type Lookup = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

fn system_lookup(host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
    Box::pin(async move {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    })
}

struct Resolver {
    live: Arc<Live>,
    log: ErrorLog,
    names: HashMap<String, Name>,
    lookup: Lookup,
}

/// What is known of one host name.
#[derive(Debug)]
struct Name {
    due: Instant,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Resolved,
    Failed,
}

impl Resolver {
    /// Looks up every name that is due, all at once; each is published as soon as it is known.
    async fn round(&mut self) {
        let now = Instant::now();
        let endpoints = self.endpoints_by_host();
        self.names.retain(|host, _| endpoints.contains_key(host));
        let mut lookups = JoinSet::new();
        for host in endpoints.keys() {
            let name =
                self.names.entry(host.clone()).or_insert(Name { due: now, state: State::New });
            if name.due <= now {
                let (host, lookup) = (host.clone(), self.lookup);
                lookups.spawn(async move {
                    let late = || io::Error::from(io::ErrorKind::TimedOut);
                    let found = timeout(LOOKUP_MAX, lookup(host.clone())).await;
                    (host, found.unwrap_or_else(|_| Err(late())))
                });
            }
        }
        while let Some(finished) = lookups.join_next().await {
            if let Ok((host, found)) = finished {
                let endpoints = endpoints.get(&host).map_or(&[][..], Vec::as_slice);
                self.settle(&host, found, endpoints);
            }
        }
    }

    fn endpoints_by_host(&self) -> HashMap<String, Vec<Arc<Endpoint>>> {
        let mut hosts: HashMap<String, Vec<Arc<Endpoint>>> = HashMap::new();
        for endpoint in self.live.endpoints() {
            if let Some((host, _)) = endpoint.name_to_resolve() {
                hosts.entry(host.to_owned()).or_default().push(endpoint.clone());
            }
        }
        hosts
    }

    /// Publishes what a lookup found, tells of a change for better or worse, and sets the next date.
    fn settle(&mut self, host: &str, found: io::Result<Vec<IpAddr>>, endpoints: &[Arc<Endpoint>]) {
        let Some(name) = self.names.get_mut(host) else { return };
        let before = name.state;
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                publish(&addresses, endpoints);
                name.state = State::Resolved;
                name.due = Instant::now() + jittered(INTERVAL);
                if before == State::Failed {
                    self.log.info(format_args!(
                        "resolve: upstream host \"{host}\" resolves again: {addresses:?}"
                    ));
                }
            }
            other => {
                name.state = State::Failed;
                name.due = Instant::now() + jittered(RETRY);
                if before != State::Failed {
                    let reason = match other {
                        Err(error) => error.to_string(),
                        Ok(_) => "no address".to_owned(),
                    };
                    self.log.warn(format_args!("{}", unresolved(host, &reason, endpoints)));
                }
            }
        }
    }

    fn next_round(&self) -> Instant {
        let notice = Instant::now() + NOTICE;
        self.names.values().map(|name| name.due).fold(notice, Instant::min)
    }
}

fn unresolved(host: &str, reason: &str, endpoints: &[Arc<Endpoint>]) -> String {
    let known = endpoints.iter().any(|endpoint| !endpoint.addresses().is_empty());
    let meanwhile =
        if known { "the last known addresses stay in use" } else { "requests to it get 503" };
    let retry = RETRY.as_secs();
    format!(
        "resolve: upstream host \"{host}\" does not resolve ({reason}); {meanwhile}, \
         trying again every {retry} s"
    )
}

/// Gives each slot of a host its address with the port that is asked there. A slot keeps its address
/// for as long as the host has it: connections should not wander with every shuffled answer.
///
/// An address of each family makes one endpoint: most hosts with both have them of one machine, and
/// where one family does not work the other is tried.
fn publish(addresses: &[IpAddr], endpoints: &[Arc<Endpoint>]) {
    let mut ports: Vec<(u16, &Transport)> = Vec::new();
    for endpoint in endpoints {
        let Some((_, port)) = endpoint.name_to_resolve() else { continue };
        if !ports.contains(&(port, &endpoint.transport)) {
            ports.push((port, &endpoint.transport));
        }
    }
    for (port, transport) in ports {
        let there = |endpoint: &&Arc<Endpoint>| {
            endpoint.name_to_resolve().is_some_and(|(_, there)| there == port)
                && endpoint.transport == *transport
        };
        let mut slots: Vec<&Arc<Endpoint>> = endpoints.iter().filter(there).collect();
        slots.sort_by_key(|endpoint| endpoint.slot);
        fill(&slots, addresses.iter().map(|&ip| SocketAddr::new(ip, port)));
    }
}

/// Spreads addresses over the slots of one host and port.
fn fill(slots: &[&Arc<Endpoint>], addresses: impl Iterator<Item = SocketAddr>) {
    let mut unplaced: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !unplaced.contains(&address) {
            unplaced.push(address);
        }
    }
    // The family that the system prefers is tried first.
    let first_is_v4 = unplaced.first().is_none_or(SocketAddr::is_ipv4);
    let mut kept: Vec<Vec<SocketAddr>> = slots
        .iter()
        .map(|slot| slot.addresses().iter().copied().filter(|old| unplaced.contains(old)).collect())
        .collect();
    unplaced.retain(|address| !kept.iter().flatten().any(|old| old == address));
    for address in unplaced {
        let lacks = |slot: &Vec<SocketAddr>| slot.iter().all(|a| a.is_ipv4() != address.is_ipv4());
        if let Some(slot) = kept.iter_mut().find(|slot| lacks(slot)) {
            slot.push(address);
        }
    }
    for (slot, mut new) in slots.iter().zip(kept) {
        new.sort_by_key(|address| address.is_ipv4() != first_is_v4);
        if *slot.addresses() != new {
            slot.set_addresses(new);
        }
    }
}

/// `around`, give or take a tenth, so that names do not stay in step.
fn jittered(around: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 201;
    around.mul_f64(0.9 + random as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use config::model::{Level, UpstreamAddress};
    use proxy::log::{Order, Source, sink};

    use super::*;

    fn resolver(hosts: &[(&str, u16)], lookup: Lookup) -> (Resolver, Vec<Arc<Endpoint>>, Source) {
        let live = Arc::new(Live::default());
        let endpoints = hosts.iter().map(|&(host, port)| {
            let address = UpstreamAddress::Tcp { host: host.to_owned(), port };
            live.endpoint(&address, &Transport::default(), 0)
        });
        let endpoints = endpoints.collect();
        let (sink, source) = sink(16);
        let log = ErrorLog::new(sink, Level::Info);
        (Resolver { live, log, names: HashMap::new(), lookup }, endpoints, source)
    }

    fn lines(source: &Source) -> Vec<String> {
        let orders = std::iter::from_fn(|| source.orders.try_recv().ok());
        orders
            .filter_map(|order| match order {
                Order::Write { block, .. } => String::from_utf8(block).ok(),
                _ => None,
            })
            .collect()
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap().block_on(work)
    }

    fn one(_: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async { Ok(vec![[10, 0, 0, 1].into(), [10, 0, 0, 1].into()]) })
    }

    fn none(_: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async { Err(io::Error::other("no such name")) })
    }

    #[test]
    fn every_endpoint_of_a_host_gets_its_addresses_with_its_port() {
        let (mut resolver, endpoints, source) = resolver(&[("a.test", 80), ("a.test", 81)], one);
        run(resolver.round());
        for (endpoint, port) in endpoints.iter().zip([80, 81]) {
            assert_eq!(*endpoint.addresses(), [SocketAddr::from(([10, 0, 0, 1], port))]);
        }
        assert!(lines(&source).is_empty());
        assert!(resolver.names["a.test"].due > Instant::now() + RETRY);
    }

    #[test]
    fn an_address_literal_is_not_looked_up() {
        let (mut resolver, endpoints, _source) = resolver(&[("127.0.0.1", 80)], none);
        run(resolver.round());
        assert!(resolver.names.is_empty());
        assert_eq!(endpoints[0].addresses().len(), 1);
    }

    #[test]
    fn a_name_that_stops_resolving_keeps_its_addresses_and_is_told_once() {
        let (mut resolver, endpoints, source) = resolver(&[("a.test", 80)], one);
        let due = |resolver: &mut Resolver| {
            resolver.names.values_mut().for_each(|name| name.due = Instant::now());
        };
        run(async {
            resolver.round().await;
            resolver.lookup = none;
            for _ in 0..3 {
                due(&mut resolver);
                resolver.round().await;
            }
        });
        assert_eq!(endpoints[0].addresses().len(), 1);
        let told = lines(&source);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("warn resolve: upstream host \"a.test\" does not resolve"));
        assert!(told[0].contains("no such name") && told[0].contains("stay in use"), "{told:?}");
        resolver.lookup = one;
        due(&mut resolver);
        run(resolver.round());
        assert!(lines(&source)[0].contains("resolves again"));
    }

    #[test]
    fn the_same_addresses_in_another_order_change_nothing() {
        let (resolver, endpoints, _source) = resolver(&[("a.test", 80)], one);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        publish(&[a, b], &endpoints);
        publish(&[b, a], &endpoints);
        assert_eq!(endpoints[0].addresses()[0].ip(), a);
        publish(&[b], &endpoints);
        assert_eq!(endpoints[0].addresses()[0].ip(), b);
        drop(resolver);
    }
}
