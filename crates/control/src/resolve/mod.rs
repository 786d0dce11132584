//! Keeps the addresses of endpoints that are given by host name up to date.
//!
//! A request never waits for a name: it uses what was published last. Names are looked up at the
//! start and then again whenever an answer's time to live is over. A name that does not resolve is
//! no reason not to start; one that stops resolving keeps the addresses it had, because a broken name
//! server should not take the sites down that still run.
//!
//! - `names`: whom a name is asked of (`/etc/hosts`, name servers, the system), and the answers
//! - `places`: from an answer to the slots of endpoints
//!
//! What always holds: no more than [`LOOKUPS_MAX`] names are looked up at once, each bounded in time;
//! a name is not looked up again before [`Dns::min_ttl`] has passed, whatever answers say, nor tried
//! again before [`RETRY_MIN`]; an endpoint keeps its slot for as long as its address is in the answer.

mod names;
mod places;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use config::model::Dns;
use proxy::live::{Endpoint, Live, Lookup, Share};
use proxy::log::ErrorLog;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use self::names::{Answer, Failure, Found, Names, Question, Service};
use self::places::{Place, fill};

/// An answer that says nothing of its time to live is looked up again after this, give or take a
/// tenth: those of `/etc/hosts` and of the system.
const INTERVAL: Duration = Duration::from_secs(30);

/// A name that does not resolve is tried again after this, then after twice as long and so on …
const RETRY_MIN: Duration = Duration::from_secs(1);
/// … up to this, give or take a tenth.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The start waits this long for the first answers.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(2);

/// One lookup may take this long before it counts as failed, with all that it takes for SRV records.
const LOOKUP_MAX: Duration = Duration::from_secs(10);

/// Names that are looked up at once; more wait their turn.
const LOOKUPS_MAX: usize = 32;

/// New endpoints are noticed after this at the latest.
const NOTICE: Duration = Duration::from_secs(1);

/// Wishes that wait to be looked at.
const WISHES_MAX: usize = 4;

/// Changes of addresses are told no more often than this for each name: some have others in every
/// answer.
const TOLD_APART: Duration = Duration::from_secs(10);

/// Starts looking names up on the current runtime, for as long as it lives. Returns when each name
/// has been looked up once, or after two seconds.
pub async fn start(live: Arc<Live>, dns: &Dns, log: ErrorLog) -> Resolving {
    let lookup = lookup(dns, &log);
    let (mut resolver, first_round) = Resolver::new(live, dns.clone(), log.clone(), lookup);
    let resolving = Resolving { wishes: resolver.wisher.clone(), dns: dns.clone(), log };
    tokio::spawn(async move { resolver.run().await });
    let _late = timeout(FIRST_ROUND_MAX, first_round).await;
    resolving
}

/// Name resolution at work.
#[derive(Debug)]
pub struct Resolving {
    wishes: mpsc::Sender<Wish>,
    dns: Dns,
    log: ErrorLog,
}

impl Resolving {
    /// From now on names are looked up so.
    pub async fn set(&mut self, dns: &Dns) {
        if self.dns == *dns {
            return;
        }
        self.dns = dns.clone();
        // Fails only when the runtime ends.
        let _ = self.wishes.send(Wish::LookUp(dns.clone(), lookup(dns, &self.log))).await;
    }

    /// Notices endpoints that are new now. Returns when each name has been looked up once, or after two
    /// seconds.
    pub async fn settle(&self) {
        let (done, all) = oneshot::channel();
        if self.wishes.send(Wish::Settle(done)).await.is_ok() {
            let _late = timeout(FIRST_ROUND_MAX, all).await;
        }
    }
}

/// Something that the resolver is to do.
enum Wish {
    /// Look names up in another way.
    LookUp(Dns, Lookups),
    /// Say when each name has been looked up once.
    Settle(oneshot::Sender<()>),
}

/// Asks whom the configuration says.
fn lookup(dns: &Dns, log: &ErrorLog) -> Lookups {
    let names = Arc::new(Names::new(dns.servers.clone(), log.clone()));
    Arc::new(move |question| {
        let names = Arc::clone(&names);
        Box::pin(async move { names.answer(question).await })
    })
}

/// Looks a name up.
type Lookups = Arc<
    dyn Fn(Question) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>> + Send + Sync,
>;

struct Resolver {
    live: Arc<Live>,
    dns: Dns,
    log: ErrorLog,
    lookup: Lookups,
    /// The state of the endpoints that were looked at.
    seen: usize,
    names: HashMap<Question, Name>,
    under_way: JoinSet<(Question, Result<Answer, Failure>)>,
    /// Told when each name has been looked up once.
    waiting: Vec<oneshot::Sender<()>>,
    wishes: mpsc::Receiver<Wish>,
    wisher: mpsc::Sender<Wish>,
}

/// What is known of one name.
#[derive(Debug)]
struct Name {
    /// The slots that its addresses are for: for each port and what is spoken there.
    slots: Vec<Vec<Arc<Endpoint>>>,
    /// `None` while it is being looked up.
    due: Option<Instant>,
    state: State,
    /// It had an answer.
    known: bool,
    /// Lookups in a row that brought nothing, or not all.
    failures: u32,
    /// The last addresses of each host that it leads to.
    hosts: HashMap<String, Vec<IpAddr>>,
    /// What its endpoints are now.
    places: Vec<Place>,
    /// When a change of its addresses was told last.
    told: Option<Instant>,
    /// That it has more addresses than slots was told.
    told_more: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Resolved,
    /// Some of the targets of SRV records do not resolve.
    InPart,
    Failed,
}

impl Resolver {
    fn new(
        live: Arc<Live>,
        dns: Dns,
        log: ErrorLog,
        lookup: Lookups,
    ) -> (Self, oneshot::Receiver<()>) {
        let (done, first_round) = oneshot::channel();
        let (wisher, wishes) = mpsc::channel(WISHES_MAX);
        let resolver = Self {
            live,
            dns,
            log,
            lookup,
            seen: 0,
            names: HashMap::new(),
            under_way: JoinSet::new(),
            waiting: vec![done],
            wishes,
            wisher,
        };
        (resolver, first_round)
    }

    async fn run(&mut self) {
        loop {
            self.step().await;
        }
    }

    /// Begins what is due and waits for the next thing to happen.
    async fn step(&mut self) {
        self.notice();
        self.begin();
        if self.names.values().all(|name| name.state != State::New) {
            for done in self.waiting.drain(..) {
                let _nobody_waits = done.send(());
            }
        }
        let until = self.next_due();
        match timeout_at(until, self.next()).await {
            Ok(Event::Answered(question, answer)) => self.settle(&question, answer),
            Ok(Event::Wished(Wish::Settle(done))) => self.waiting.push(done),
            Ok(Event::Wished(Wish::LookUp(dns, lookup))) => {
                (self.dns, self.lookup) = (dns, lookup);
                // What other servers say may be something else.
                let idle = self.names.values_mut().filter(|name| name.due.is_some());
                idle.for_each(|name| name.due = Some(Instant::now()));
            }
            Err(_) => {}
        }
    }

    /// Looks at endpoints that have come or gone.
    fn notice(&mut self) {
        let seen = self.live.endpoint_changes();
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        let mut slots: HashMap<Question, Vec<Arc<Endpoint>>> = HashMap::new();
        for endpoint in self.live.endpoints() {
            if let Some(question) = Question::of(&endpoint) {
                slots.entry(question).or_default().push(endpoint);
            }
        }
        self.names.retain(|question, _| slots.contains_key(question));
        for (question, endpoints) in slots {
            let name = self.names.entry(question).or_insert_with(Name::new);
            if !name.has(&endpoints) {
                name.slots = places::slots(endpoints);
                name.publish();
            }
        }
    }

    /// Begins to look up the names that are due.
    fn begin(&mut self) {
        let now = Instant::now();
        for (question, name) in &mut self.names {
            if self.under_way.len() >= LOOKUPS_MAX {
                return;
            }
            if name.due.is_none_or(|due| due > now) {
                continue;
            }
            name.due = None;
            let (question, lookup) = (question.clone(), Arc::clone(&self.lookup));
            self.under_way.spawn(async move {
                let answer = timeout(LOOKUP_MAX, lookup(question.clone())).await;
                (question, answer.unwrap_or_else(|_| Err(Failure::late(LOOKUP_MAX))))
            });
        }
    }

    /// The next thing to happen.
    async fn next(&mut self) -> Event {
        poll_fn(|cx| {
            // There is a sender here too, so there is no end of them.
            if let Poll::Ready(Some(wish)) = self.wishes.poll_recv(cx) {
                return Poll::Ready(Event::Wished(wish));
            }
            loop {
                match self.under_way.poll_join_next(cx) {
                    Poll::Ready(Some(Ok((question, answer)))) => {
                        return Poll::Ready(Event::Answered(question, answer));
                    }
                    // One that panicked is not tried again; nothing here does.
                    Poll::Ready(Some(Err(_))) => {}
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn next_due(&self) -> Instant {
        let notice = Instant::now() + NOTICE;
        if self.under_way.len() >= LOOKUPS_MAX {
            return notice;
        }
        self.names.values().filter_map(|name| name.due).fold(notice, Instant::min)
    }

    /// Publishes what a lookup found, tells of a change for better or worse, and sets the next date.
    fn settle(&mut self, question: &Question, answer: Result<Answer, Failure>) {
        let Some(name) = self.names.get_mut(question) else { return };
        let news = match answer {
            Ok(Answer::Addresses(found)) => name.addresses(question, found),
            Ok(Answer::Services(services, ttl)) => name.services(services, ttl),
            Err(failure) => Err(failure),
        };
        let before = name.state;
        match news {
            Ok(Settled { ttl, doubt }) => {
                let (shown, left_out) = (name.shown(), name.publish());
                name.known = true;
                name.state = if doubt.is_some() { State::InPart } else { State::Resolved };
                let good = match ttl {
                    Some(ttl) => later(ttl.clamp(self.dns.min_ttl, self.dns.max_ttl)),
                    None => jittered(INTERVAL),
                };
                name.failures = if doubt.is_some() { name.failures.saturating_add(1) } else { 0 };
                let again = if doubt.is_some() { good.min(retry(name.failures)) } else { good };
                name.due = Some(Instant::now() + again);
                tell(&self.log, question, name, before, &shown, doubt.as_deref(), left_out);
            }
            Err(failure) => {
                name.state = State::Failed;
                name.failures = name.failures.saturating_add(1);
                let again = retry(name.failures);
                name.due = Some(Instant::now() + again);
                if before != State::Failed {
                    let known = name.slots.iter().flatten().any(|endpoint| endpoint.is_known());
                    let meanwhile = match known {
                        true => "the last known addresses stay in use",
                        false => "requests to it get 503",
                    };
                    self.log.warn(format_args!(
                        "resolve: {question} does not resolve ({failure}); {meanwhile}, trying again \
                         and again, at first in {} s",
                        again.as_secs().max(1)
                    ));
                }
            }
        }
    }
}

/// What a resolver waits for.
enum Event {
    Answered(Question, Result<Answer, Failure>),
    Wished(Wish),
}

/// What came of an answer.
struct Settled {
    /// For how long it is good, if it says so.
    ttl: Option<Duration>,
    /// Something that could not be found out.
    doubt: Option<String>,
}

impl Name {
    fn new() -> Self {
        Self {
            slots: Vec::new(),
            due: Some(Instant::now()),
            state: State::New,
            known: false,
            failures: 0,
            hosts: HashMap::new(),
            places: Vec::new(),
            told: None,
            told_more: false,
        }
    }

    /// Its slots are these endpoints.
    fn has(&self, endpoints: &[Arc<Endpoint>]) -> bool {
        let known = || self.slots.iter().flatten();
        known().count() == endpoints.len()
            && endpoints.iter().all(|one| known().any(|other| Arc::ptr_eq(one, other)))
    }

    /// Takes the addresses of a host.
    fn addresses(&mut self, question: &Question, found: Found) -> Result<Settled, Failure> {
        let (ttl, doubt) = (found.ttl, found.doubt());
        let addresses = self.remember(question.name(), found);
        if addresses.is_empty() {
            return Err(Failure::of("no address"));
        }
        // The port is that of each endpoint.
        let place =
            |ip| Place { address: SocketAddr::new(ip, 0), target: 0, share: Share::default() };
        self.places = addresses.into_iter().map(place).collect();
        Ok(Settled { ttl, doubt })
    }

    /// Takes the targets of SRV records. None at all: the service is not offered.
    fn services(&mut self, services: Vec<Service>, ttl: Duration) -> Result<Settled, Failure> {
        let mut settled = Settled { ttl: Some(ttl), doubt: None };
        let mut places: Vec<Place> = Vec::new();
        let mut failed = None;
        let is_offered = !services.is_empty();
        let hosts: Vec<String> = services.iter().map(|service| service.host.clone()).collect();
        for (target, service) in services.into_iter().enumerate() {
            let addresses = match service.found {
                Ok(found) => {
                    settled.ttl = settled.ttl.min(Some(found.ttl.unwrap_or(INTERVAL)));
                    settled.doubt = settled.doubt.or(found.doubt());
                    self.remember(&service.host, found)
                }
                Err(failure) => {
                    let doubt =
                        format!("its target \"{}\" does not resolve ({failure})", service.host);
                    settled.doubt = Some(doubt);
                    failed = Some(failure);
                    self.hosts.get(&service.host).cloned().unwrap_or_default()
                }
            };
            let share = Share { priority: service.priority, weight: service.weight };
            for ip in addresses {
                let address = SocketAddr::new(ip, service.port);
                if !places.iter().any(|place| place.address == address) {
                    places.push(Place { address, target, share });
                }
            }
        }
        if places.is_empty() && is_offered {
            return Err(failed.unwrap_or_else(|| Failure::of("its targets have no address")));
        }
        self.hosts.retain(|host, _| hosts.contains(host));
        self.places = places;
        Ok(settled)
    }

    /// The addresses of `host` as they were found, with those of before where nothing was learned of
    /// a family.
    fn remember(&mut self, host: &str, found: Found) -> Vec<IpAddr> {
        let mut addresses = found.addresses;
        if let Some(known) = self.hosts.get(host).filter(|_| found.lacks_v6) {
            addresses.extend(known.iter().filter(|address| address.is_ipv6()));
        }
        self.hosts.insert(host.to_owned(), addresses.clone());
        addresses
    }

    /// Publishes the places; how many have no slot.
    fn publish(&self) -> usize {
        let left_out = self.slots.iter().map(|slots| fill(slots, &self.places, self.known));
        left_out.max().unwrap_or(0)
    }

    /// The addresses in use.
    fn shown(&self) -> Vec<SocketAddr> {
        let slots = self.slots.first().into_iter().flatten();
        let addresses = slots.flat_map(|slot| slot.addresses().to_vec());
        addresses.collect()
    }
}

/// Tells what is new of a name that resolves.
fn tell(
    log: &ErrorLog,
    question: &Question,
    name: &mut Name,
    before: State,
    shown: &[SocketAddr],
    doubt: Option<&str>,
    left_out: usize,
) {
    let addresses = name.shown();
    if addresses.is_empty() {
        if !shown.is_empty() || before == State::New {
            log.warn(format_args!(
                "resolve: {question} says that the service is not offered; requests to it get 503"
            ));
        }
        return;
    }
    if let (Some(doubt), false) = (doubt, before == State::InPart) {
        log.warn(format_args!("resolve: {question}: {doubt}; trying again"));
    } else if before == State::Failed || (before == State::InPart && doubt.is_none()) {
        log.info(format_args!("resolve: {question} resolves again: {}", listed(&addresses)));
    } else if before != State::New && addresses != shown {
        let now = Instant::now();
        if name.told.is_none_or(|told| now - told >= TOLD_APART) {
            name.told = Some(now);
            let addresses = listed(&addresses);
            log.info(format_args!("resolve: {question} has other addresses: {addresses}"));
        }
    }
    if left_out > 0 && !std::mem::replace(&mut name.told_more, true) {
        log.warn(format_args!(
            "resolve: {question} has more addresses than are used, which are {}",
            addresses.len()
        ));
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// When to try again after so many failures.
fn retry(failures: u32) -> Duration {
    let longer = RETRY_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    jittered(longer.min(RETRY_MAX))
}

/// `around`, give or take a tenth, so that names do not stay in step.
fn jittered(around: Duration) -> Duration {
    around.mul_f64(0.9 + random() * 0.2)
}

/// `from`, or up to a tenth later: a name server that keeps answers has a new one then.
fn later(from: Duration) -> Duration {
    from.mul_f64(1.0 + random() * 0.1)
}

/// From 0 to 1.
fn random() -> f64 {
    (RandomState::new().build_hasher().finish() % 1_001) as f64 / 1_000.0
}

impl Question {
    /// What an endpoint has to be asked for, if its address is a name.
    fn of(endpoint: &Endpoint) -> Option<Self> {
        let (name, _) = endpoint.name_to_resolve()?;
        Some(match endpoint.lookup {
            Lookup::Addresses => Self::Addresses(name.to_owned()),
            Lookup::Services => Self::Services(name.to_owned()),
        })
    }
}
