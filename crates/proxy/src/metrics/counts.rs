//! What is counted of a site, a route, a pool, an entry of a pool, a listener and a worker.
//!
//! Counters only grow; a worker has its own of each, and whoever renders them adds them up.

use super::Histogram;
use crate::log::{Cause, Party, Phase};

/// Statuses of one site that are told apart; what there is beyond is counted as 0.
pub const CODES_MAX: usize = 64;

/// Methods that are told apart, and "other".
pub const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "other"];

/// Protocols of client connections.
pub const PROTOCOLS: [&str; 4] = ["HTTP/1.0", "HTTP/1.1", "HTTP/2", "other"];

/// Classes of statuses. `none`: no response was possible.
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Steps of an exchange whose time is measured.
pub const STEPS: [&str; 5] = ["head", "queue", "connect", "first_byte", "transfer"];

/// Why an attempt failed, or another one followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No connection.
    Connect,
    /// The upstream did nothing with the request, and said so.
    Refused,
    /// No response in time.
    Timeout,
    /// The connection ended before a response, or within it.
    Reset,
    /// What came is no response.
    Invalid,
    /// A response with a status that is a reason.
    Status,
    /// A response took long, so a second attempt was made beside the first.
    Hedge,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Connect,
        Self::Refused,
        Self::Timeout,
        Self::Reset,
        Self::Invalid,
        Self::Status,
        Self::Hedge,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Invalid => "invalid",
            Self::Status => "status",
            Self::Hedge => "hedge",
        }
    }
}

/// Why a client's TLS handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unshaken {
    /// The client closed the connection, or it broke.
    Closed,
    /// It spoke plain HTTP.
    PlainHttp,
    /// There is no certificate for the name it asked for.
    UnknownName,
    /// The two sides cannot agree, or a certificate is no good.
    Refused,
    /// It took too long.
    Timeout,
    /// It gave way to newer handshakes.
    Displaced,
}

impl Unshaken {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Closed,
        Self::PlainHttp,
        Self::UnknownName,
        Self::Refused,
        Self::Timeout,
        Self::Displaced,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::PlainHttp => "plain_http",
            Self::UnknownName => "unknown_name",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Displaced => "displaced",
        }
    }
}

/// Things counted that can be added to those of another worker.
pub trait Counts: Clone + Default {
    /// Adds what another worker has counted.
    fn add(&mut self, other: &Self);
}

/// Counted for a site.
#[derive(Debug, Clone, Default)]
pub struct SiteCounts {
    /// By status.
    pub codes: Sparse<u16>,
    /// By [`METHODS`].
    pub methods: [u64; METHODS.len()],
    /// By [`PROTOCOLS`].
    pub protocols: [u64; PROTOCOLS.len()],
    /// By [`STEPS`].
    pub steps: [Histogram; STEPS.len()],
    /// Exchanges that did not end as they should, by who, when and why.
    pub failures: Sparse<End>,
}

/// Counted for a route.
#[derive(Debug, Clone, Default)]
pub struct RouteCounts {
    /// By [`CLASSES`].
    pub classes: [u64; CLASSES.len()],
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
    /// From the first byte of a request to the last of its response; tunnels are not in it.
    pub duration: Histogram,
    /// WebSockets opened.
    pub sockets_opened: u64,
    /// WebSockets that have ended.
    pub sockets_closed: u64,
    /// Bytes from clients in WebSockets that have ended.
    pub socket_bytes_in: u64,
    /// Bytes to clients in WebSockets that have ended.
    pub socket_bytes_out: u64,
}

/// Counted for a pool.
#[derive(Debug, Clone, Default)]
pub struct PoolCounts {
    /// Exchanges that were, or were to be, forwarded.
    pub requests: u64,
    /// Attempts made for them.
    pub attempts: u64,
    /// What clients got, whoever made it, by [`CLASSES`].
    pub classes: [u64; CLASSES.len()],
    /// Further attempts, by [`Why::ALL`].
    pub retries: [u64; Why::ALL.len()],
    /// Exchanges for which no endpoint was found.
    pub no_endpoint: u64,
    /// Exchanges that the circuit breaker kept away.
    pub circuit_open: u64,
    /// Time waited for an endpoint.
    pub queue: Histogram,
}

/// Counted for an entry of a pool.
#[derive(Debug, Clone, Default)]
pub struct MemberCounts {
    /// Attempts that have ended, whatever came of them: a response may have begun, or not, or nobody
    /// may have waited for it any more.
    pub attempts: u64,
    /// Responses, by [`CLASSES`].
    pub classes: [u64; CLASSES.len()],
    /// Attempts that failed, by [`Why::ALL`].
    pub failures: [u64; Why::ALL.len()],
    /// Attempts that used a connection that was there.
    pub reused: u64,
    /// Time that new connections took.
    pub connect: Histogram,
    /// Time from the end of a request's head to the beginning of the response.
    pub first_byte: Histogram,
    /// Bytes of request bodies.
    pub request_bytes: u64,
    /// Bytes of response bodies.
    pub response_bytes: u64,
}

/// Counted for a listener.
#[derive(Debug, Clone, Default)]
pub struct ListenerCounts {
    /// Handshakes that went well, by version (TLS 1.2, 1.3) and whether a session was resumed.
    pub handshakes: [[u64; 2]; 2],
    /// Those that did not, by [`Unshaken::ALL`].
    pub unshaken: [u64; Unshaken::ALL.len()],
    /// Time of the handshakes that went well.
    pub handshake: Histogram,
    /// Time from a connection's acceptance to its first request's first byte, handshake not included.
    pub accept: Histogram,
}

/// Counted for a worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerCounts {
    /// Requests whose exchange has begun.
    pub begun: u64,
    /// Requests whose exchange has ended.
    pub ended: u64,
    /// Requests whose head was refused, so that no exchange began.
    pub refused: u64,
}

impl Counts for SiteCounts {
    fn add(&mut self, other: &Self) {
        self.codes.add_all(&other.codes);
        add_each(&mut self.methods, &other.methods);
        add_each(&mut self.protocols, &other.protocols);
        for (sum, more) in self.steps.iter_mut().zip(&other.steps) {
            sum.add(more);
        }
        self.failures.add_all(&other.failures);
    }
}

impl Counts for RouteCounts {
    fn add(&mut self, other: &Self) {
        add_each(&mut self.classes, &other.classes);
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.duration.add(&other.duration);
        self.sockets_opened += other.sockets_opened;
        self.sockets_closed += other.sockets_closed;
        self.socket_bytes_in += other.socket_bytes_in;
        self.socket_bytes_out += other.socket_bytes_out;
    }
}

impl Counts for PoolCounts {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.attempts += other.attempts;
        add_each(&mut self.classes, &other.classes);
        add_each(&mut self.retries, &other.retries);
        self.no_endpoint += other.no_endpoint;
        self.circuit_open += other.circuit_open;
        self.queue.add(&other.queue);
    }
}

impl Counts for MemberCounts {
    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        add_each(&mut self.classes, &other.classes);
        add_each(&mut self.failures, &other.failures);
        self.reused += other.reused;
        self.connect.add(&other.connect);
        self.first_byte.add(&other.first_byte);
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
    }
}

impl Counts for ListenerCounts {
    fn add(&mut self, other: &Self) {
        for (sum, more) in self.handshakes.iter_mut().zip(&other.handshakes) {
            add_each(sum, more);
        }
        add_each(&mut self.unshaken, &other.unshaken);
        self.handshake.add(&other.handshake);
        self.accept.add(&other.accept);
    }
}

fn add_each<const N: usize>(sums: &mut [u64; N], more: &[u64; N]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

/// Who ended an exchange, when and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Who.
    pub by: Party,
    /// When.
    pub phase: Phase,
    /// Why.
    pub cause: Cause,
}

/// Counts of few values out of many. The commonest are found first, because they come first.
#[derive(Debug, Clone)]
pub struct Sparse<K> {
    counts: Vec<(K, u64)>,
    /// Those beyond [`CODES_MAX`].
    others: u64,
}

impl<K> Default for Sparse<K> {
    fn default() -> Self {
        Self { counts: Vec::new(), others: 0 }
    }
}

impl<K: Copy + PartialEq> Sparse<K> {
    /// One more of `key`.
    #[inline]
    pub fn count(&mut self, key: K) {
        self.add(key, 1);
    }

    fn add(&mut self, key: K, more: u64) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| *known == key) {
            *count += more;
        } else if self.counts.len() < CODES_MAX {
            self.counts.push((key, more));
        } else {
            self.others += more;
        }
    }

    fn add_all(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            self.add(*key, *count);
        }
        self.others += other.others;
    }

    /// What there was, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        self.counts.iter().copied()
    }

    /// How often there was something for which there was no room.
    #[must_use]
    pub fn others(&self) -> u64 {
        self.others
    }
}

/// The index in [`METHODS`].
#[inline]
pub(super) fn method_index(method: &[u8]) -> usize {
    match method {
        b"GET" => 0,
        b"HEAD" => 1,
        b"POST" => 2,
        b"PUT" => 3,
        b"DELETE" => 4,
        b"PATCH" => 5,
        b"OPTIONS" => 6,
        b"CONNECT" => 7,
        _ => 8,
    }
}

/// The index in [`PROTOCOLS`] of a version as the log has it.
#[inline]
pub(super) fn protocol_index(version: &str) -> usize {
    match version.as_bytes() {
        b"HTTP/1.1" => 1,
        b"HTTP/2.0" | b"HTTP/2" => 2,
        b"HTTP/1.0" => 0,
        _ => 3,
    }
}

/// The index in [`CLASSES`].
#[inline]
pub(super) fn class_index(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_protocols_stand_at_their_index() {
        for method in METHODS {
            let index = method_index(method.as_bytes());
            assert_eq!(METHODS[index], method);
        }
        assert_eq!(METHODS[method_index(b"BREW")], "other");
        for (version, name) in [
            ("HTTP/1.0", "HTTP/1.0"),
            ("HTTP/1.1", "HTTP/1.1"),
            ("HTTP/2.0", "HTTP/2"),
            ("", "other"),
        ] {
            assert_eq!(PROTOCOLS[protocol_index(version)], name);
        }
        for (status, class) in
            [(0, "none"), (101, "1xx"), (204, "2xx"), (599, "5xx"), (999, "none")]
        {
            assert_eq!(CLASSES[class_index(status)], class);
        }
    }

    #[test]
    fn no_more_values_are_told_apart_than_the_bound_says() {
        let mut codes = Sparse::default();
        (0..CODES_MAX as u16 + 10).for_each(|code| codes.count(100 + code));
        codes.count(100);
        let mut sum = Sparse::default();
        sum.add_all(&codes);
        sum.add_all(&codes);
        assert_eq!(sum.iter().count(), CODES_MAX);
        assert_eq!((sum.iter().next(), sum.others()), (Some((100, 4)), 20));
    }
}
