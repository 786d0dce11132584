//! `[limits]`: bounds on what a client may send or hold.

use std::time::Duration;

use crate::decode::Table;
use crate::model::Limits;
use crate::schema::{Kind, Section, now};

/// Offsets into a head are 16 bits wide.
const HEAD_SIZE_MAX: u64 = u16::MAX as u64;
/// A request line and a Host field need some room.
const HEAD_SIZE_MIN: u64 = 1024;
/// Every field takes some bytes of a head that has at most [`HEAD_SIZE_MAX`].
const FIELDS_MAX: i64 = 256;
/// What is held for a tunnel that may never open stays small.
const EARLY_UPGRADE_MAX: u64 = 1 << 20;
/// Highest rate that may be demanded of a client.
const RATE_MAX: u64 = 1 << 30;

/// More than these a worker could not finish in time.
const HANDSHAKES_MAX: i64 = 100_000;
/// Each stream may have a head and a window of body in memory.
const HTTP2_STREAMS_MAX: i64 = 1024;

pub(super) static LIMITS: Section = Section {
    path: "limits",
    list: false,
    about: "Bounds on what a client may send or hold.",
    keys: &[
        now(
            "head_size",
            Kind::Size(HEAD_SIZE_MIN, HEAD_SIZE_MAX),
            "\"32KB\"",
            "Longest request head in bytes, 1024 to 65535; more is 431. Room for large cookies, too little to fill memory with.",
        ),
        now("fields", Kind::Integer(1, FIELDS_MAX), "100", "Most fields in a head; more is 431."),
        now(
            "head_timeout",
            Kind::Duration(false),
            "10",
            "From the first byte of a head to its end; slower is 408. Stops clients that send a byte now and then.",
        ),
        now(
            "body_min_rate",
            Kind::Size(0, RATE_MAX),
            "240",
            "Least bytes a second of a request body, and of a response the client reads, after `body_grace`; 0 is no limit. Slower than any modem.",
        ),
        now(
            "body_grace",
            Kind::Duration(true),
            "10",
            "How long a body may be slower than `body_min_rate`.",
        ),
        now(
            "connections_per_address",
            Kind::Integer(1, i64::MAX),
            "no limit",
            "Connections of one client address at once. Many clients may share an address.",
        ),
        now(
            "early_upgrade",
            Kind::Size(0, EARLY_UPGRADE_MAX),
            "\"16KB\"",
            "Bytes held that a client sends after an upgrade request and before its answer.",
        ),
        now(
            "drain",
            Kind::Size(0, u64::MAX),
            "\"64KB\"",
            "Bytes of an unwanted request body read and dropped so that the connection can be kept.",
        ),
        now(
            "handshake_timeout",
            Kind::Duration(false),
            "10",
            "From accepting a connection to the end of its TLS handshake.",
        ),
        now(
            "handshakes",
            Kind::Integer(1, HANDSHAKES_MAX),
            "1024",
            "TLS handshakes under way at once in one worker; when more begin, those that have waited longest for their client end. One address has a quarter of them at most.",
        ),
        now(
            "http2_streams",
            Kind::Integer(1, HTTP2_STREAMS_MAX),
            "128",
            "Streams of one HTTP/2 connection at once.",
        ),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Limits {
    let mut limits = Limits {
        head_size: 32 * 1024,
        fields: 100,
        head_timeout: Duration::from_secs(10),
        body_min_rate: 240,
        body_grace: Duration::from_secs(10),
        connections_per_address: None,
        early_upgrade: 16 * 1024,
        drain: 64 * 1024,
        handshake_timeout: Duration::from_secs(10),
        handshakes: 1024,
        http2_streams: 128,
    };
    let Some(table) = table else { return limits };
    let small = |name| table.size(name).and_then(|size| usize::try_from(size).ok());
    let count = |name| table.integer(name).and_then(|count| usize::try_from(count.value).ok());
    limits.head_size = small("head_size").unwrap_or(limits.head_size);
    limits.fields = count("fields").unwrap_or(limits.fields);
    limits.head_timeout = table.duration("head_timeout").unwrap_or(limits.head_timeout);
    limits.body_min_rate = table.size("body_min_rate").unwrap_or(limits.body_min_rate);
    limits.body_grace = table.duration("body_grace").unwrap_or(limits.body_grace);
    limits.connections_per_address = count("connections_per_address");
    limits.early_upgrade = small("early_upgrade").unwrap_or(limits.early_upgrade);
    limits.drain = table.size("drain").unwrap_or(limits.drain);
    limits.handshake_timeout =
        table.duration("handshake_timeout").unwrap_or(limits.handshake_timeout);
    limits.handshakes = count("handshakes").unwrap_or(limits.handshakes);
    let streams = table.integer("http2_streams").and_then(|n| u32::try_from(n.value).ok());
    limits.http2_streams = streams.unwrap_or(limits.http2_streams);
    table.finish();
    limits
}
