//! Logs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Access and error log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logging {
    /// Least severe line in the error log.
    pub level: Level,
    /// A line for each request. Default true.
    pub log_requests: bool,
    /// And for each connection that ended before it had one: a handshake that failed, a PROXY header
    /// that is none. Default false.
    pub failed_connections: bool,
    /// Where they go. Default standard output.
    pub access_log: LogTarget,
    /// Where the error log goes. Default standard error.
    pub error_log: LogTarget,
    /// Shape of an access-log line. Default combined.
    pub format: LogFormat,
    /// Which requests have a line.
    pub sampling: Sampling,
    /// When files begin anew.
    pub rotation: Rotation,
    /// What is said of Ravelin to a syslog.
    pub syslog: SyslogLabel,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: Level::Info,
            log_requests: true,
            failed_connections: false,
            access_log: LogTarget::Stdout,
            error_log: LogTarget::Stderr,
            format: LogFormat::Combined,
            sampling: Sampling::default(),
            rotation: Rotation::default(),
            syslog: SyslogLabel::default(),
        }
    }
}

/// Severity, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Requests fail or the process cannot go on.
    Error,
    /// Something needs an operator's eye.
    Warn,
    /// Normal life.
    Info,
    /// For those who look for a fault.
    Debug,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
    /// Sent to a syslog (RFC 5424).
    Syslog(SyslogAddress),
}

/// Where a syslog listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogAddress {
    /// A datagram or stream socket, such as `/dev/log`.
    Unix(PathBuf),
    /// Host and port; one line a datagram (RFC 5426).
    Udp(String, u16),
    /// Host and port; lines are counted in octets (RFC 6587 §3.4.1).
    Tcp(String, u16),
}

/// Shape of an access-log line.
#[derive(Debug, Clone, PartialEq)]
pub enum LogFormat {
    /// Apache's combined, followed by Ravelin's own fields.
    Combined,
    /// Method, path, status, bytes and duration only.
    Compact,
    /// One JSON object a line.
    Json,
    /// The operator's own.
    Own(Arc<OwnFormat>),
}

/// A line that the operator has put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFormat {
    /// What it consists of.
    pub pieces: Vec<LogPiece>,
    /// How values are made safe.
    pub escape: LogEscape,
    /// Fields of responses that it shows, in lower case; pieces refer to them by index.
    pub response_fields: Vec<String>,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPiece {
    /// This text.
    Text(String),
    /// Something known of the request.
    Value(LogValue),
    /// A step's time.
    Time(LogTime, TimeUnit),
    /// A field of the request, by its name in lower case.
    RequestField(String),
    /// A field of the response, by its index among those shown.
    ResponseField(usize),
}

/// How values are made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEscape {
    /// `"` and `\` get a backslash, what is not printable ASCII becomes `\xHH`; `-` for nothing.
    Default,
    /// As within a JSON string; nothing for nothing, `null` for a number that is not known.
    Json,
}

/// What a number of seconds is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds with six decimals.
    Seconds,
    /// Whole milliseconds.
    Millis,
    /// Whole microseconds.
    Micros,
}

/// The steps of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTime {
    /// From the accepted connection to its first request.
    Accept,
    /// The TLS handshake.
    Tls,
    /// The request's head.
    Head,
    /// Held by a rate limit.
    Held,
    /// Waiting for room at an endpoint.
    Queue,
    /// Connecting.
    Connect,
    /// Until the response's head.
    FirstByte,
    /// Passing the response on.
    Transfer,
    /// All of it.
    Total,
}

macro_rules! values {
    ($($name:literal $variant:ident $about:literal;)*) => {
        /// What else is known of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum LogValue {
            $(#[doc = $about] $variant,)*
        }

        impl LogValue {
            /// All of them, with the name each has in a format and a sentence.
            pub const ALL: &'static [(&'static str, Self, &'static str)] =
                &[$(($name, Self::$variant, $about),)*];
        }
    };
}

values! {
    "time" Time "When the request's first byte was seen, `2026-11-21T03:48:01.250Z`.";
    "time.clf" TimeClf "The same as Apache writes it, `[21/Nov/2026:03:48:01 +0000]`.";
    "time.unix" TimeUnix "The same in seconds since 1970, `1795232881.250`.";
    "time.unix_ms" TimeUnixMillis "The same in whole milliseconds.";
    "client" Client "The client's address; behind a trusted proxy, what that says.";
    "client.port" ClientPort "Port of the peer; 0 if `client` is what a trusted proxy says.";
    "user" User "Who makes the request, by its credentials.";
    "request" RequestLine "Method, target and version, as received.";
    "method" Method "The method.";
    "target" Target "The request target as received.";
    "path" Path "The target up to its query.";
    "query" Query "What is behind the `?` of the target.";
    "protocol" Protocol "`HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.";
    "scheme" Scheme "`https` on a connection with TLS, else `http`.";
    "host" Host "The `Host` field, or the authority of an absolute target.";
    "status" Status "The status sent; 0 if there was none.";
    "bytes.sent" BytesSent "Content sent to the client.";
    "bytes.received" BytesReceived "Content received from the client.";
    "id" Id "The request's id, if a rule asks for one.";
    "trace_id" TraceId "The trace it belongs to, with `[tracing]`.";
    "site" Site "`name` of the site that took the request.";
    "route" Route "Name, or path, of the route that took it.";
    "pool" Pool "Name of the pool it was forwarded to.";
    "upstream" Upstream "`url` of the last endpoint tried.";
    "attempts" Attempts "How many endpoints, or connections, were tried.";
    "connection" Connection "`new` or `reused`: the upstream connection.";
    "cache" Cache "What a cache had to do with it; `-` for nothing.";
    "port" Port "The port that the client's connection came in by.";
    "tls.version" TlsVersion "`TLSv1.2` or `TLSv1.3`.";
    "tls.cipher" TlsCipher "Name of the cipher suite.";
    "tls.name" TlsName "The name that the client asked for (SNI).";
    "tls.alpn" TlsAlpn "The protocol agreed upon.";
    "tls.resumed" TlsResumed "`true` if an earlier session was resumed.";
    "tls.client" TlsClient "Subject of the client's certificate.";
    "tls.client.issuer" TlsClientIssuer "Its issuer.";
    "tls.client.serial" TlsClientSerial "Its serial number.";
    "tls.client.fingerprint" TlsClientFingerprint "SHA-256 of it.";
    "ended" Ended "`complete`, or who is to blame.";
    "phase" Phase "What was being done when it failed.";
    "cause" Cause "What went wrong.";
    "reason" Reason "One name for all three.";
    "error" Error "What `Proxy-Status` calls it.";
    "sample" Sample "The share of requests like this one that have a line; 1 for all.";
}

impl LogTime {
    /// All of them, with the name each has in a format and a sentence.
    pub const ALL: &'static [(&'static str, Self, &'static str)] = &[
        ("time.accept", Self::Accept, "From the accepted connection to its first request."),
        ("time.tls", Self::Tls, "The TLS handshake; first request of a connection only."),
        ("time.head", Self::Head, "From the first byte of the head to its last."),
        ("time.held", Self::Held, "Held until a rate limit let it go on."),
        ("time.queue", Self::Queue, "Waiting for room at an endpoint."),
        ("time.connect", Self::Connect, "Opening the upstream connection; not for a kept one."),
        ("time.first_byte", Self::FirstByte, "From the head to the response's head."),
        ("time.transfer", Self::Transfer, "From there to the last byte."),
        ("time.total", Self::Total, "From the first byte of the request to the last one sent."),
    ];
}

impl TimeUnit {
    /// What is behind the name of a time, for each.
    pub const SUFFIXES: &'static [(&'static str, Self)] =
        &[("_ms", Self::Millis), ("_us", Self::Micros), ("", Self::Seconds)];
}

/// Whether responses say in `Proxy-Status` (RFC 9209) what became of their requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyStatus {
    /// They do not.
    #[default]
    Off,
    /// They do.
    On,
    /// They do, with Ravelin's own name for what went wrong.
    Details,
}

/// Which requests have a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Of a million requests, so many have one. Default all.
    pub of_million: u32,
    /// Statuses that always have one: ranges, both ends included. Default 500 to 599.
    pub statuses: Vec<(u16, u16)>,
    /// So have those that did not end well. Default true.
    pub failed: bool,
    /// And those that took as long. Default 1 s; `None`: being slow is no reason.
    pub slow: Option<Duration>,
}

impl Sampling {
    /// Every request has a line.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.of_million >= 1_000_000
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            of_million: 1_000_000,
            statuses: vec![(500, 599)],
            failed: true,
            slow: Some(Duration::from_secs(1)),
        }
    }
}

/// When log files begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// When they have so many bytes; `None`: never.
    pub size: Option<u64>,
    /// So many older ones are kept. Default 5.
    pub keep: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { size: None, keep: 5 }
    }
}

/// What is said of Ravelin to a syslog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogLabel {
    /// RFC 5424 §6.2.1. Default 16, `local0`.
    pub facility: u8,
    /// The name of the application. Default `ravelin`.
    pub tag: String,
}

impl Default for SyslogLabel {
    fn default() -> Self {
        Self { facility: 16, tag: "ravelin".to_owned() }
    }
}
