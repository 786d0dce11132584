//! How many requests are taken in a time.
//!
//! A request is looked at by every limit that is meant for it before any of them counts it, so that one
//! that is refused costs nothing. Time is an argument: [`now`] reads the clock for those who have it.
//!
//! What always holds: of one key never are more requests admitted than the rate and a burst allow, over
//! all workers ([`Table`] says when a key may be forgotten); memory does not grow, whatever clients
//! send; at most [`WAITING_MAX`] requests of a limit are held.

mod fields;
mod hold;
mod look;
mod rate;
mod table;

pub use hold::Hold;
pub use look::Look;
pub use rate::{Rate, Verdict};
pub use table::{Key, Table};

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use config::model::{self, RateKey};

use super::access::AccessList;
use crate::decide::Request;
use crate::routes::Path;

/// Requests of one limit that are held at once; more are refused. Each holds a buffer of
/// 16 KiB, unless it is short.
pub const WAITING_MAX: usize = 1024;

/// What is known of the keys of one limit. It outlives a configuration.
#[derive(Debug)]
pub struct Counts {
    table: Table,
    /// How many requests are held.
    waiting: AtomicUsize,
}

impl Counts {
    /// Nothing is known, of at least so many keys.
    pub fn new(keys: usize) -> Self {
        Self { table: Table::new(keys), waiting: AtomicUsize::new(0) }
    }
}

/// What identifies the counts of a limit to an operator: as long as this stays, so do they.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CountsId {
    /// The site's name; empty for a limit over all sites.
    pub site: String,
    /// What identifies its route there; empty for a limit of the site.
    pub route: String,
    /// The limit's name.
    pub name: String,
    /// What is counted together.
    pub key: RateKey,
    /// How many keys are remembered.
    pub keys: usize,
}

impl CountsId {
    /// Of limits that count together wherever they are: a route without a site, which none has otherwise.
    fn of_zone(zone: &str, key: RateKey, keys: usize) -> Self {
        Self { site: String::new(), route: "zone".to_owned(), name: zone.to_owned(), key, keys }
    }
}

/// The limits of a site or of a route.
#[derive(Debug, Default)]
pub struct RateLimits {
    limits: Vec<Limit>,
}

#[derive(Debug)]
struct Limit {
    name: String,
    rate: Rate,
    key: RateKey,
    /// Who is not counted.
    whitelist: AccessList,
    methods: Vec<String>,
    path: Option<Path>,
    /// How long a request may be held, in nanoseconds.
    patience: u64,
    status: u16,
    /// What clients are told of it, if anything.
    policy: Option<fields::Policy>,
    counts: Arc<Counts>,
}

/// Where limits are written, and so what they are called.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// What a limit without a name is called here.
    pub called: &'a str,
    /// The site's name; empty for all of them.
    pub site: &'a str,
    /// What identifies the route; empty for a site.
    pub route: &'a str,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Admission<'a> {
    /// It goes on.
    Admitted,
    /// It goes on after a while.
    Held(Hold<'a>),
    /// It is answered with this status.
    Refused {
        /// That of the limit that holds out longest.
        status: u16,
        /// Seconds after which another may come.
        retry_after: u64,
    },
}

impl RateLimits {
    /// No limits.
    pub const NONE: Self = Self { limits: Vec::new() };

    /// Compiles limits, each list with where it is written; `counts` gives what is known of their keys.
    pub fn compile(
        limits: &[(&[model::RateLimit], Scope<'_>)],
        counts: impl Fn(CountsId) -> Arc<Counts>,
    ) -> Self {
        let mut compiled = Vec::new();
        for (limits, scope) in limits {
            let mut nameless = 0;
            compiled.extend(limits.iter().map(|limit| {
                let name = limit.name.clone().unwrap_or_else(|| {
                    nameless += 1;
                    match nameless {
                        1 => scope.called.to_owned(),
                        n => format!("{}-{n}", scope.called),
                    }
                });
                Limit::compile(limit, name, *scope, &counts)
            }));
        }
        Self { limits: compiled }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }
}

/// Counts a request at `now`, if the limits of all layers admit it. `lines` gets the fields that tell the
/// client, whatever it is answered.
pub fn admit<'a>(
    layers: &[&'a RateLimits],
    request: &Request<'_>,
    client: Option<IpAddr>,
    now: u64,
    lines: &mut Vec<u8>,
) -> Admission<'a> {
    let ours = layers.iter().flat_map(|layer| &layer.limits);
    let ours = ours.filter(|limit| limit.is_for(request, client));
    let mut asked: Vec<(&Limit, Key, Verdict)> = Vec::new();
    asked.extend(ours.map(|limit| {
        let key = limit.key_of(request, client);
        (limit, key, limit.counts.table.look(key, &limit.rate, now, limit.patience))
    }));
    let mut places = Vec::new();
    let mut wait = 0;
    if asked.iter().any(|(.., verdict)| matches!(verdict, Verdict::Refused { .. })) {
        // It costs the others nothing, and that is what the client is told.
        for (limit, _, verdict) in &mut asked {
            if let Verdict::Admitted { until, .. } = verdict {
                *until = limit.rate.without(*until);
            }
        }
    } else {
        for (limit, key, verdict) in &mut asked {
            *verdict = limit.take(*key, now, &mut places);
            match verdict {
                Verdict::Admitted { wait: own, .. } => wait = wait.max(*own),
                // Another took what was left.
                Verdict::Refused { .. } => break,
            }
        }
    }
    fields::write(&asked, now, lines);
    let refusals = asked.iter().filter_map(|(limit, _, verdict)| match verdict {
        Verdict::Refused { again_in } => Some((*again_in, limit.status)),
        Verdict::Admitted { .. } => None,
    });
    match refusals.max_by_key(|(again_in, _)| *again_in) {
        Some((again_in, status)) => {
            let retry_after = fields::seconds(again_in).max(1);
            Admission::Refused { status, retry_after }
        }
        None if wait > 0 => Admission::Held(Hold::new(Duration::from_nanos(wait), places)),
        None => Admission::Admitted,
    }
}

impl Limit {
    fn compile(
        limit: &model::RateLimit,
        name: String,
        scope: Scope<'_>,
        counts: &impl Fn(CountsId) -> Arc<Counts>,
    ) -> Self {
        let keys = match limit.key {
            RateKey::Route => 1,
            _ => limit.keys as usize,
        };
        Self {
            name: name.clone(),
            rate: Rate::new(limit.requests, limit.per, limit.burst),
            key: limit.key.clone(),
            whitelist: AccessList::of(&limit.whitelist),
            methods: limit.methods.clone(),
            path: limit.path.as_ref().map(Path::compile),
            patience: nanos(limit.wait),
            status: limit.status,
            policy: limit.fields.then(|| fields::Policy::new(&name, limit)),
            counts: counts(match &limit.zone {
                Some(zone) => CountsId::of_zone(zone, limit.key.clone(), keys),
                None => CountsId {
                    site: scope.site.to_owned(),
                    route: scope.route.to_owned(),
                    name,
                    key: limit.key.clone(),
                    keys,
                },
            }),
        }
    }

    fn is_for(&self, request: &Request<'_>, client: Option<IpAddr>) -> bool {
        // What answers GET answers HEAD as well (RFC 9110 §9.3.2).
        let method = |one: &String| {
            one.as_bytes() == request.method || one == "GET" && request.method == b"HEAD"
        };
        (self.methods.is_empty() || self.methods.iter().any(method))
            && self.path.as_ref().is_none_or(|path| path.takes(request.path))
            && !self.whitelist.admits(client)
    }

    fn take<'a>(&'a self, key: Key, now: u64, places: &mut Vec<Place<'a>>) -> Verdict {
        let table = &self.counts.table;
        let verdict = table.take(key, &self.rate, now, 0);
        if matches!(verdict, Verdict::Admitted { .. }) || self.patience == 0 {
            return verdict;
        }
        let Some(place) = Place::take(&self.counts.waiting) else { return verdict };
        let verdict = table.take(key, &self.rate, now, self.patience);
        if let Verdict::Admitted { wait: 1.., .. } = verdict {
            places.push(place);
        }
        verdict
    }

    /// What the request counts as.
    fn key_of(&self, request: &Request<'_>, client: Option<IpAddr>) -> Key {
        const ADDRESS: u8 = 0;
        const VALUE: u8 = 1;
        let table = &self.counts.table;
        let value = match &self.key {
            RateKey::Route => return table.key(&[]),
            RateKey::Address => None,
            RateKey::Header(name) => request.fields.values(name).next(),
            RateKey::Cookie(name) => request.fields.cookies(name).next(),
        };
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return table.key_of_parts(VALUE, value);
        }
        match client.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => table.key_of_parts(ADDRESS, &ip.octets()),
            // The network of one customer: who has one address of it has all.
            Some(IpAddr::V6(ip)) => {
                table.key_of_parts(ADDRESS, ip.octets().first_chunk::<8>().map_or(&[], |part| part))
            }
            // Clients on Unix sockets have none and are one.
            None => table.key_of_parts(ADDRESS, &[]),
        }
    }
}

/// One of those who are held.
#[derive(Debug)]
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let another = |held| (held < WAITING_MAX).then_some(held + 1);
        waiting.try_update(Ordering::Relaxed, Ordering::Relaxed, another).ok()?;
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Nanoseconds since the first time somebody asked.
pub fn now() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    nanos(BEGINNING.get_or_init(Instant::now).elapsed())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
