//! What holds for a pool as a whole: the tables of the proxy, and `[[sites.proxy.pools]]` with tables
//! that replace them for one pool.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{
    Balance, Breaker, Concurrency, IdleConnections, Outlier, Pool, PoolSettings, Queue, Retry,
    Sticky, StickyMode, Timeouts, Upstream, UpstreamState,
};
use crate::schema::{Kind, Section, now};
use crate::source::Span;

use super::balancing::{self, Balancing};
use super::capacity;
use super::health_check::{self, Checks};
use super::routes::unknown_upstream;
use super::upstreams::{Pools, Written};
use super::{breaker, outlier, proxy as whole, retry};

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.pools",
    list: true,
    about: "What holds for one pool, in the place of what holds for all pools of the site: a table here replaces the table of the same name in `[sites.proxy]` as a whole.",
    keys: &[
        now("name", Kind::Text, "required", "Name of the pool."),
        now("load_balancing", Kind::Table(&balancing::OF_A_POOL), "", "How an upstream is chosen."),
        now(
            "health_check",
            Kind::TableOrTables(&health_check::OF_A_POOL),
            "",
            "Active health checks.",
        ),
        now("outlier", Kind::Table(&outlier::OF_A_POOL), "", "Ejection of upstreams."),
        now("retry", Kind::Table(&retry::OF_A_POOL), "", "When a request is sent again."),
        now(
            "circuit_breaker",
            Kind::Table(&breaker::OF_A_POOL),
            "",
            "Stops requests when the pool fails.",
        ),
        now("concurrency", Kind::Table(&capacity::CONCURRENCY_OF_A_POOL), "", "Requests at once."),
        now("queue", Kind::Table(&capacity::QUEUE_OF_A_POOL), "", "Requests that wait."),
        now("timeout", Kind::Table(&whole::TIMEOUT_OF_A_POOL), "", "How long each step may take."),
        now(
            "idle_connections",
            Kind::Table(&whole::IDLE_OF_A_POOL),
            "",
            "Idle upstream connections.",
        ),
    ],
};

/// The tables of a proxy or of a pool, as far as they are written.
#[derive(Clone, Default)]
struct Tables {
    balancing: Option<Balancing>,
    checks: Option<Checks>,
    outlier: Option<Option<Outlier>>,
    retry: Option<Retry>,
    breaker: Option<Option<Breaker>>,
    concurrency: Option<Concurrency>,
    queue: Option<(Queue, Span)>,
    timeout: Option<Timeouts>,
    idle: Option<IdleConnections>,
}

impl Tables {
    fn decode(parent: &Table<'_>) -> Tables {
        Tables {
            balancing: balancing::decode(parent),
            checks: health_check::decode(parent),
            outlier: outlier::decode(parent),
            retry: retry::decode(parent),
            breaker: breaker::decode(parent),
            concurrency: capacity::concurrency(parent),
            queue: capacity::queue(parent),
            timeout: whole::timeouts(parent),
            idle: whole::idle(parent),
        }
    }

    /// These, and those of the proxy where there are none.
    fn or(self, proxy: &Tables) -> Tables {
        let proxy = proxy.clone();
        Tables {
            balancing: self.balancing.or(proxy.balancing),
            checks: self.checks.or(proxy.checks),
            outlier: self.outlier.or(proxy.outlier),
            retry: self.retry.or(proxy.retry),
            breaker: self.breaker.or(proxy.breaker),
            concurrency: self.concurrency.or(proxy.concurrency),
            queue: self.queue.or(proxy.queue),
            timeout: self.timeout.or(proxy.timeout),
            idle: self.idle.or(proxy.idle),
        }
    }

    fn settings(&self) -> PoolSettings {
        let default = PoolSettings::default();
        let balancing = self.balancing.clone();
        PoolSettings {
            balance: balancing.as_ref().map_or(default.balance, |found| found.balance.clone()),
            fail_open: balancing.as_ref().map_or(default.fail_open, |found| found.fail_open),
            sticky: balancing.and_then(|found| found.sticky).map(|kept| kept.sticky),
            health_checks: self.checks.clone().map_or_else(Vec::new, |found| found.checks),
            outlier: self.outlier.clone().flatten(),
            retry: self.retry.clone().unwrap_or_default(),
            breaker: self.breaker.clone().flatten(),
            concurrency: self.concurrency.clone().unwrap_or_default(),
            queue: self.queue.clone().map_or(default.queue, |(queue, _)| queue),
            timeout: self.timeout.unwrap_or_default(),
            idle: self.idle.unwrap_or_default(),
        }
    }
}

/// Decodes what holds for each pool of a proxy, and says what does not fit together.
pub(super) fn decode(proxy: &Table<'_>, pools: &mut Pools) {
    let context = proxy.context();
    let common = Tables::decode(proxy);
    let mut own = own(proxy, pools);
    let mut queues = Queues::default();
    let mut cookies = Cookies::default();
    for (index, pool) in pools.pools.iter_mut().enumerate() {
        let tables = own.remove(&index).map_or_else(|| common.clone(), |own| own.or(&common));
        pool.settings = tables.settings();
        let method = tables.balancing.as_ref().and_then(|balancing| balancing.place);
        if method.is_none()
            && pool.settings.balance == Balance::RoundRobin
            && pool.upstreams.iter().any(|upstream| upstream.srv)
        {
            // SRV records have weights, and whoever wrote them meant something by them.
            pool.settings.balance = Balance::Weighted;
        }
        let place = pools.places.get(index).copied().unwrap_or(proxy.span);
        let written = pools.written.get(index).map(Vec::as_slice).unwrap_or_default();
        usable(context, pool, place);
        ignored_weights(context, pool, written, &tables);
        never_full(context, pool, written);
        drains_for_nobody(context, pool, written);
        without_tls(context, pool, written, &tables);
        queues.add(pool, &tables);
        cookies.add(context, pool, &tables);
    }
    if !pools.incomplete {
        queues.report(context);
    }
}

/// The tables of single pools, by index of the pool.
fn own(proxy: &Table<'_>, pools: &Pools) -> HashMap<usize, Tables> {
    let mut found = HashMap::new();
    let mut seen: HashMap<usize, Span> = HashMap::new();
    for table in proxy.tables("pools") {
        let context = table.context();
        table.require("name", "\"backend\"");
        let name = table.text("name");
        let tables = Tables::decode(&table);
        table.finish();
        let Some(name) = name else { continue };
        let Some(index) = pools.find(name.value) else {
            if !pools.incomplete {
                unknown_upstream(context, name, pools);
            }
            continue;
        };
        match seen.entry(index) {
            Entry::Occupied(first) => {
                let message = format!("the pool `{}` is described twice", name.value);
                context.push(
                    Diagnostic::error(Code::DuplicateKey, name.span, message)
                        .label("again")
                        .also(*first.get(), "first here")
                        .help("put its tables below one `[[sites.proxy.pools]]`"),
                );
            }
            Entry::Vacant(free) => {
                free.insert(name.span);
                found.insert(index, tables);
            }
        }
    }
    found
}

/// Reports a pool to which nothing could ever be sent.
fn usable(context: &Context<'_>, pool: &Pool, place: Span) {
    if pool.upstreams.is_empty() {
        return;
    }
    let mut in_use =
        pool.upstreams.iter().filter(|upstream| upstream.state != UpstreamState::Down).peekable();
    let some_down = pool.upstreams.iter().any(|upstream| upstream.state == UpstreamState::Down);
    let (message, help) = if in_use.peek().is_none() {
        let message = format!("every upstream of `{}` is down", pool.name);
        (message, "take `down = true` out of at least one of its entries")
    } else if in_use.all(|upstream| upstream.weight == 0) {
        let which = if some_down { " that is not down" } else { "" };
        let message = format!("every upstream of `{}`{which} has the weight 0", pool.name);
        (message, "give at least one of its entries a weight above 0")
    } else {
        let takes = pool.upstreams.iter().any(|upstream| upstream.state == UpstreamState::Up);
        if !takes {
            let message = format!("no upstream of `{}` takes new clients", pool.name);
            context.push(
                Diagnostic::warning(Code::Conflict, place, message)
                    .label("all of them drain: only clients that stick to one are served"),
            );
        }
        return;
    };
    context.push(
        Diagnostic::error(Code::BadValue, place, message)
            .label("nothing could ever be sent to it")
            .help(help),
    );
}

/// Reports weights that make no difference.
fn ignored_weights(context: &Context<'_>, pool: &Pool, written: &[Written], tables: &Tables) {
    let method = match pool.settings.balance {
        Balance::RoundRobin => "round_robin",
        Balance::Random => "random",
        _ => return,
    };
    if tables.balancing.as_ref().is_some_and(|balancing| balancing.unknown) {
        return;
    }
    let with = if method == "random" { "weighted_random" } else { "weighted" };
    let mut weights = pool.upstreams.iter().map(|upstream| upstream.weight).filter(|w| *w != 0);
    let first = weights.next();
    if weights.all(|weight| Some(weight) == first) {
        return;
    }
    let mut places = pool.upstreams.iter().zip(written);
    let odd = places.find_map(|(upstream, written)| {
        written.weight.filter(|_| !matches!(upstream.weight, 0 | 1))
    });
    let Some(place) = odd else { return };
    let message = format!("the weights of `{}` make no difference", pool.name);
    let warning = Diagnostic::warning(Code::Unused, place, message)
        .label(format!("`{method}` takes no account of weights"));
    let method = tables.balancing.as_ref().and_then(|balancing| balancing.place);
    context.push(match method {
        Some(method) => {
            let with = format!("\"{with}\"");
            warning.suggest(method, with, "to share requests by weight")
        }
        None => warning.help(format!(
            "add `method = \"{with}\"` in `[sites.proxy.load_balancing]` to share requests by weight"
        )),
    });
}

/// Reports bounds that a tighter bound of the pool never lets an upstream reach.
fn never_full(context: &Context<'_>, pool: &Pool, written: &[Written]) {
    let Some(max) = pool.settings.concurrency.max else { return };
    for (upstream, written) in pool.upstreams.iter().zip(written) {
        if let (Some(own), Some(place)) = (upstream.max_conns, written.max_conns)
            && own > max
        {
            let message = "`max_conns` has no effect";
            context.push(
                Diagnostic::warning(Code::Unused, place, message)
                    .label(format!("the pool as a whole has at most {max} requests at once"))
                    .help("that is `max` in `[sites.proxy.concurrency]`"),
            );
        }
    }
}

/// Reports upstreams that keep their clients where there is nothing to know them by.
fn drains_for_nobody(context: &Context<'_>, pool: &Pool, written: &[Written]) {
    use StickyMode::{ApplicationCookie, Cookie};
    let mode = pool.settings.sticky.as_ref().map(|sticky| &sticky.mode);
    if matches!(mode, Some(Cookie { .. } | ApplicationCookie { .. })) {
        return;
    }
    let drains = |(upstream, _): &(&Upstream, &Written)| upstream.state == UpstreamState::Drain;
    for (_, written) in pool.upstreams.iter().zip(written).filter(drains) {
        let Some(place) = written.drain else { continue };
        let warning = Diagnostic::warning(Code::Unused, place, "`drain` keeps no clients here");
        context.push(
            warning.label("no client sticks to an upstream by a cookie of Ravelin's").help(
                "turn `sticky_sessions` on, with `mode = \"cookie\"`, or write `down = true`",
            ),
        );
    }
}

/// Reports upstreams in plain text that a check asks TLS of.
fn without_tls(context: &Context<'_>, pool: &Pool, written: &[Written], tables: &Tables) {
    let Some(place) = tables.checks.as_ref().and_then(|checks| checks.tls) else { return };
    let plain = pool.upstreams.iter().zip(written).find(|(up, _)| up.transport.tls.is_none());
    let Some((_, written)) = plain else { return };
    context.push(
        Diagnostic::error(Code::Conflict, place, "a `tls` check of an upstream without TLS")
            .label("would never succeed")
            .also(written.url, "is spoken to in plain text")
            .help("use `type = \"tcp\"`, or `https://` for the upstream"),
    );
}

/// The cookies that pools set under names of the operator's.
#[derive(Default)]
struct Cookies {
    /// By name, path and domain: the first pool, and the place of the name.
    found: HashMap<(String, String, Option<String>), (String, Span)>,
}

impl Cookies {
    /// Reports a cookie that would take the place of another pool's: browsers keep one for a name,
    /// domain and path (RFC 6265 section 5.3).
    fn add(&mut self, context: &Context<'_>, pool: &Pool, tables: &Tables) {
        let kept = tables.balancing.as_ref().and_then(|balancing| balancing.sticky.as_ref());
        let Some((kept, place)) = kept.and_then(|kept| Some((kept, kept.cookie?))) else { return };
        let Sticky { mode, path, domain, .. } = &kept.sticky;
        let (StickyMode::Cookie { name, .. } | StickyMode::ApplicationCookie { name, .. }) = mode
        else {
            return;
        };
        let Some(name) = name.clone() else { return };
        let (other, first) = match self.found.entry((name, path.clone(), domain.clone())) {
            Entry::Occupied(same) => same.into_mut(),
            Entry::Vacant(free) => {
                free.insert((pool.name.clone(), place));
                return;
            }
        };
        let message = format!("the pools `{other}` and `{}` set the same cookie", pool.name);
        let warning = Diagnostic::warning(Code::Conflict, place, message)
            .label("a browser keeps one, so a client that uses both pools stays with neither");
        let warning = if *first == place { warning } else { warning.also(*first, "the other") };
        context
            .push(warning.help("take `cookie` out: then each pool's cookie has a name of its own"));
    }
}

/// Which queue tables are of use to any pool.
#[derive(Default)]
struct Queues {
    found: BTreeMap<Span, bool>,
}

impl Queues {
    fn add(&mut self, pool: &Pool, tables: &Tables) {
        let Some((_, place)) = tables.queue else { return };
        let concurrency = &pool.settings.concurrency;
        let used = concurrency.max.is_some()
            || concurrency.adaptive
            || pool.upstreams.iter().any(|upstream| upstream.max_conns.is_some());
        *self.found.entry(place).or_default() |= used;
    }

    fn report(self, context: &Context<'_>) {
        for (place, _) in self.found.into_iter().filter(|(_, used)| !used) {
            context.push(
                Diagnostic::warning(Code::Unused, place, "nothing ever waits in this queue")
                    .label("never used: the pool has no bound")
                    .help("requests wait for an upstream with `max_conns`, or for `[sites.proxy.concurrency]`"),
            );
        }
    }
}
