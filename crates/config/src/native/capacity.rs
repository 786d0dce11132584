//! `[sites.proxy.concurrency]` and `[sites.proxy.queue]`: how many requests at once, and where the
//! others wait.

use crate::decode::Table;
use crate::model::{Concurrency, Queue};
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;

/// Highest number that counters can hold.
const COUNT_MAX: i64 = u32::MAX as i64;
/// Each request that waits holds a client's connection.
const QUEUE_MAX: i64 = 1_000_000;

pub(super) static CONCURRENCY: Section = Section {
    path: "sites.proxy.concurrency",
    list: false,
    about: "Requests of a pool at once; more wait in its queue.",
    keys: CONCURRENCY_KEYS,
};

pub(super) static CONCURRENCY_OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.concurrency",
    list: false,
    about: "Requests of this pool at once, in the place of the proxy's table.",
    keys: CONCURRENCY_KEYS,
};

const CONCURRENCY_KEYS: &[Key] = &[
    now("max", Kind::Integer(1, COUNT_MAX), "no limit", "Most requests at once.")
        .or(&["max_requests"]),
    now(
        "adaptive",
        Kind::Bool,
        "false",
        "Find the limit by latency, below `max` if that is given.",
    ),
];

pub(super) static QUEUE: Section = Section {
    path: "sites.proxy.queue",
    list: false,
    about: "Requests that wait because every usable upstream has its `max_conns`, or the pool its `concurrency`.",
    keys: QUEUE_KEYS,
};

pub(super) static QUEUE_OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.queue",
    list: false,
    about: "Requests to this pool that wait, in the place of the proxy's table.",
    keys: QUEUE_KEYS,
};

const QUEUE_KEYS: &[Key] = &[
    now(
        "max",
        Kind::Integer(0, QUEUE_MAX),
        "1024",
        "Most that wait; more are answered 503 at once. 0: none waits.",
    )
    .or(&["size", "length"]),
    now("timeout", Kind::Duration(false), "10", "Longest wait, then 503."),
];

/// Decodes the limit of a proxy or a pool, if it has one.
pub(super) fn concurrency(parent: &Table<'_>) -> Option<Concurrency> {
    let table = parent.table("concurrency")?;
    let max = table.integer("max").and_then(|max| u32::try_from(max.value).ok());
    let concurrency = Concurrency { max, adaptive: table.boolean("adaptive").unwrap_or(false) };
    table.finish();
    Some(concurrency)
}

/// Decodes the queue of a proxy or a pool, if it has one, and where it is.
pub(super) fn queue(parent: &Table<'_>) -> Option<(Queue, Span)> {
    let table = parent.table("queue")?;
    let mut queue = Queue::default();
    let max = table.integer("max").and_then(|max| u32::try_from(max.value).ok());
    queue.max = max.unwrap_or(queue.max);
    queue.timeout = table.duration("timeout").unwrap_or(queue.timeout);
    let place = table.span;
    table.finish();
    Some((queue, place))
}
