//! Pools: how requests are spread over upstreams, kept from those that fail, and tried again.
//!
//! Shares and factors are whole per cent, so that settings can be compared and hashed.

use std::path::PathBuf;
use std::time::Duration;

use super::{IdleConnections, Timeouts, Transport, UpstreamAddress};

/// Upstream entries that share a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The shared name.
    pub name: String,
    /// Its members in declared order; never empty.
    pub upstreams: Vec<Upstream>,
    /// What holds for the pool as a whole.
    pub settings: PoolSettings,
}

/// What holds for a pool as a whole: that of the site's proxy, unless the pool says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// How an endpoint is chosen. Default round robin.
    pub balance: Balance,
    /// Keeps a client with an endpoint. Default none.
    pub sticky: Option<Sticky>,
    /// Probes that an endpoint has to pass, all of them. Default none.
    pub health_checks: Vec<HealthCheck>,
    /// Ejection of endpoints that stand out by their errors or latency. Default none.
    pub outlier: Option<Outlier>,
    /// Which endpoints are asked when none is usable.
    pub fail_open: FailOpen,
    /// When a request is sent again.
    pub retry: Retry,
    /// Stops requests to a pool that fails. Default none.
    pub breaker: Option<Breaker>,
    /// Requests at once. Default no limit.
    pub concurrency: Concurrency,
    /// Waiting for an endpoint below its `max_conns`, or for a place under `concurrency`.
    pub queue: Queue,
    /// How long each step of talking to an upstream may take.
    pub timeout: Timeouts,
    /// Idle upstream connections.
    pub idle: IdleConnections,
}

/// Which endpoints are asked when none is usable, instead of answering 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailOpen {
    /// None.
    Never,
    /// Those left out because requests failed there, but none that active checks found down.
    #[default]
    ToFailing,
    /// All.
    ToAll,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            balance: Balance::RoundRobin,
            sticky: None,
            health_checks: Vec::new(),
            outlier: None,
            fail_open: FailOpen::default(),
            retry: Retry::default(),
            breaker: None,
            concurrency: Concurrency::default(),
            queue: Queue::default(),
            timeout: Timeouts::default(),
            idle: IdleConnections::default(),
        }
    }
}

/// One upstream entry: where requests may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// As the operator wrote it; appears in logs.
    pub url: String,
    /// What it resolves to.
    pub address: UpstreamAddress,
    /// The host is looked up as SRV records, which give names, ports, priorities and weights
    /// (`srv+http://`).
    pub srv: bool,
    /// Path put before every request's path; empty, or starts with "/" and does not end with it.
    pub base_path: String,
    /// Share of requests relative to the other entries. Default 1.
    pub weight: u32,
    /// Tier: those with the lowest number that have a usable endpoint get all requests. Default 0;
    /// `backup` is written as 1.
    pub priority: u8,
    /// Gets no requests (`down`), or none but those of clients that stick to it (`drain`). Default
    /// in use.
    pub state: UpstreamState,
    /// Most requests in flight at once; more wait in the pool's queue. Default no limit.
    pub max_conns: Option<u32>,
    /// After it comes back its weight grows from nothing over this time. Default zero.
    pub slow_start: Duration,
    /// So many failed attempts within `fail_timeout` make it unusable for `fail_timeout`; 0 turns
    /// that off. As in nginx. Default 3.
    pub max_fails: u32,
    /// See `max_fails`. Default 10 s.
    pub fail_timeout: Duration,
    /// What is spoken to it.
    pub transport: Transport,
    /// Send it the client's Host, or its own; `None`: as the route says.
    pub preserve_host: Option<bool>,
}

/// Whether an upstream entry takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamState {
    /// It does.
    #[default]
    Up,
    /// Only of clients that stick to it already.
    Drain,
    /// None at all.
    Down,
}

/// Balancing method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn, weights ignored.
    RoundRobin,
    /// Smooth weighted round robin.
    Weighted,
    /// The fewest requests in flight for its weight; ties go round.
    LeastConnections,
    /// Any, equally likely.
    Random,
    /// Any, likely by weight.
    WeightedRandom,
    /// Of two at random the one with the lower expected latency: peak EWMA times requests in flight.
    PeakEwma,
    /// By a property of the request.
    Hash {
        /// Which.
        key: HashKey,
        /// From hash to endpoint.
        table: HashTable,
        /// No endpoint gets more than this many per cent of the average of requests in flight; the
        /// next one by hash has them. `None`: no bound.
        bounded_load: Option<u32>,
    },
}

/// The property of a request that is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address; of IPv4 the first three octets, as nginx's `ip_hash` does.
    ClientNetwork,
    /// The client's whole address.
    ClientAddress,
    /// Path and query.
    Uri,
    /// The first value of this field, in lower case.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

/// How a hash becomes an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashTable {
    /// Remainder by total weight: most keys move when an endpoint comes or goes.
    Modulo,
    /// A ring with 1024 points for each unit of weight: at most 1.2/n of the keys move.
    Ketama,
    /// Maglev's table: evener than the ring, slightly more keys move.
    Maglev,
}

/// Keeps a client with an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// How the endpoint is remembered.
    pub mode: StickyMode,
    /// Secret for signing cookies; `None`: random at the start, so that a restart forgets.
    pub key_file: Option<PathBuf>,
    /// `Secure`: always, or when the client's connection is. Default as the connection.
    pub secure: Option<bool>,
    /// `SameSite`. Default "Lax".
    pub same_site: SameSite,
    /// `Path`. Default "/".
    pub path: String,
    /// `Domain`. Default none.
    pub domain: Option<String>,
}

/// Ways to remember an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StickyMode {
    /// A cookie of Ravelin's, set on responses to clients that do not have a valid one.
    Cookie {
        /// Its name; `None`: `RAVELIN_ROUTE_` and eight digits that follow from the pool's name.
        name: Option<String>,
        /// `Max-Age`; `None` for the browser's session.
        duration: Option<Duration>,
    },
    /// The same, but set only when the application sets a cookie of its own.
    ApplicationCookie {
        /// The application's cookie.
        application: String,
        /// Ravelin's, as above.
        name: Option<String>,
    },
    /// Consistent hash of a cookie of the application's.
    ConsistentHash {
        /// The application's cookie.
        application: String,
    },
}

/// The `SameSite` attribute of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// `Strict`
    Strict,
    /// `Lax`
    Lax,
    /// `None`, which browsers take only with `Secure`.
    None,
}

/// A probe of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is sent and expected.
    pub probe: Probe,
    /// The port, if not that of traffic.
    pub port: Option<u16>,
    /// Between two probes of an endpoint. Default 30 s.
    pub interval: Duration,
    /// Between two probes while it is down. Default `interval`.
    pub down_interval: Duration,
    /// For a whole probe. Default 5 s.
    pub timeout: Duration,
    /// Successes in a row until an endpoint that was down is up. Default 1.
    pub rise: u32,
    /// Failures in a row until an endpoint that was up is down. Default 3.
    pub fall: u32,
    /// Intervals vary by up to so many per cent, so that probes do not come in step. Default 10.
    pub jitter: u32,
    /// What an endpoint is before the first probe.
    pub start: StartState,
}

/// What an endpoint is before its first probe has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartState {
    /// Up, and down only after `fall` failures, as in nginx and Easegress.
    #[default]
    Up,
    /// Up, but the first failure makes it down, as in HAProxy.
    UpUntilFailure,
    /// Down until the first success, as nginx's `mandatory`.
    Down,
}

/// What a probe sends and expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A connection is taken.
    Tcp,
    /// A TLS handshake succeeds, with the settings of traffic.
    Tls,
    /// An HTTP request is answered as expected.
    Http(HttpProbe),
    /// gRPC health checking protocol, version 1, of this service (empty: the server as a whole).
    Grpc(String),
    /// A WebSocket handshake is answered as expected, then closed with 1000.
    WebSocket(HttpProbe),
}

/// A request and what is expected of its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Default GET.
    pub method: String,
    /// Path and query. Default `/health`.
    pub target: String,
    /// `Host`; `None`: the endpoint's.
    pub host: Option<String>,
    /// More fields.
    pub fields: Vec<(String, String)>,
    /// Default empty.
    pub body: Vec<u8>,
    /// Inclusive ranges. Default 200 to 399, and 101 for a WebSocket.
    pub statuses: Vec<(u16, u16)>,
    /// Fields that have to be there.
    pub expect_fields: Vec<(String, TextMatch)>,
    /// What the beginning of the body (64 KiB) has to hold.
    pub expect_body: Option<TextMatch>,
}

/// What a text has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextMatch {
    /// This.
    Exact(String),
    /// With this in it.
    Contains(String),
    /// Matching this regular expression, which was checked.
    Regex(String),
}

/// Ejection of endpoints that stand out. An endpoint that is the only usable one is never ejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlier {
    /// Failures in a row (no connection, no response, or 5xx) that eject; 0 turns that off. Default 5.
    pub consecutive: u32,
    /// Per cent of failed responses in a window that eject; 0 turns that off. Default 50.
    pub failures: u32,
    /// Per cent of the pool's median latency that eject; 0 turns that off. Default 0.
    pub latency: u32,
    /// Least requests in a window for `failures` and `latency` to count. Default 20.
    pub minimum: u32,
    /// Length of a window. Default 10 s.
    pub window: Duration,
    /// Time of the first ejection; the n-th in a row takes n times as long. Default 10 s.
    pub base_time: Duration,
    /// Longest ejection. Default 5 min.
    pub max_time: Duration,
    /// Per cent of the pool's endpoints that may be ejected at once; at least one always may. Default 50.
    pub max_ejected: u32,
}

/// When a request is sent again, to another endpoint first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first included. Default 3.
    pub attempts: u32,
    /// Time in which attempts may begin; `None`: no limit. Default none.
    pub timeout: Option<Duration>,
    /// What is a reason.
    pub on: RetryOn,
    /// Also requests whose repetition may do harm (POST, PATCH …) once they were sent. Default false.
    pub non_idempotent: bool,
    /// Bytes of a request body kept for another attempt; a longer one is sent once. Default 64 KiB.
    pub body: usize,
    /// Pause before the second attempt, doubled for each further one and varied by half. Default zero.
    pub backoff: Duration,
    /// Per cent of live requests that may be further attempts. Default 20.
    pub budget: u32,
    /// Further attempts a second that are always allowed. Default 3.
    pub budget_minimum: u32,
    /// A second attempt is started when there is no response after this, and the first response
    /// wins; for idempotent requests without a body. Default none.
    pub hedge: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            timeout: None,
            on: RetryOn::default(),
            non_idempotent: false,
            body: 64 * 1024,
            backoff: Duration::ZERO,
            budget: 20,
            budget_minimum: 3,
            hedge: None,
        }
    }
}

/// Reasons for another attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection: nothing was sent. Default true.
    pub connect: bool,
    /// No response in time. Default true.
    pub timeout: bool,
    /// The connection ended before a response. Default true.
    pub reset: bool,
    /// What came is no response. Default false.
    pub invalid: bool,
    /// HTTP/2: the upstream refused the stream. Default true.
    pub refused: bool,
    /// Response statuses. Default none.
    pub statuses: Vec<u16>,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self {
            connect: true,
            timeout: true,
            reset: true,
            invalid: false,
            refused: true,
            statuses: Vec::new(),
        }
    }
}

/// Stops requests to a pool that fails, in the terms of Easegress (and Resilience4j).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// Of what the rates are taken.
    pub window: BreakerWindow,
    /// Per cent of failures that opens. Default 50.
    pub failure_rate: u32,
    /// Per cent of slow calls that opens. Default 100.
    pub slow_rate: u32,
    /// What is slow. Default 1 min.
    pub slow: Duration,
    /// Least calls before rates count. Default 100.
    pub minimum: u32,
    /// Trials while half open. Default 10.
    pub trials: u32,
    /// How long it stays open. Default 1 min.
    pub open: Duration,
    /// How long it may stay half open before it opens again; zero: until the trials have ended.
    /// Default zero.
    pub half_open_max: Duration,
    /// Statuses that are failures, beside no response. Default 500 to 599.
    pub statuses: Vec<(u16, u16)>,
}

/// Of what a breaker's rates are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerWindow {
    /// The last calls.
    Count(u32),
    /// The calls of the last time, in whole seconds.
    Time(Duration),
}

/// Requests of a pool at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Concurrency {
    /// Most at once. Default no limit.
    pub max: Option<u32>,
    /// Finds the limit itself, by latency, below `max`. Default false.
    pub adaptive: bool,
}

/// Requests that wait because every usable endpoint is full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Most that wait, over all workers; more are 503 at once. Default 1024.
    pub max: u32,
    /// Longest wait, then 503. Default 10 s.
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self { max: 1024, timeout: Duration::from_secs(10) }
    }
}

/// Bodies that are taken whole before they are passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffering {
    /// The whole request body before the upstream is asked. Default false.
    pub request: bool,
    /// The response as fast as the upstream gives it. Default false; `X-Accel-Buffering: yes` or
    /// `no` of a response decides for that response.
    pub response: bool,
    /// Bytes of one body kept in memory; more go to a temporary file. Default 1 MiB.
    pub memory: usize,
    /// Bytes of one body in memory and file together: a request body beyond is 413, a response body
    /// is read no faster than the client takes it. Default 1 GiB.
    pub max: u64,
    /// Where temporary files are; `None`: the system's directory. They have no names.
    pub directory: Option<PathBuf>,
}

impl Default for Buffering {
    fn default() -> Self {
        Self { request: false, response: false, memory: 1 << 20, max: 1 << 30, directory: None }
    }
}
