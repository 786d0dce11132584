//! The one configuration model. Every dialect is a front end that turns text into these types; the
//! rest of Ravelin reads nothing else.
//!
//! What holds here: values are resolved (defaults filled in, durations are [`Duration`]s, sizes are
//! bytes, host names are lower-case, one name means one pool) and consistent (every route names a
//! pool that exists, every address parses). A model that breaks a rule is never built: the front end
//! reports the mistake with its place instead.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::places::Places;

mod auth;
mod expectation;
mod guards;
mod logging;
mod management;
mod observing;
mod pool;
mod process;
mod route;
mod websocket;

pub use auth::*;
pub use expectation::*;
pub use guards::*;
pub use logging::*;
pub use management::*;
pub use observing::*;
pub use pool::*;
pub use process::*;
pub use route::*;
pub use websocket::*;

/// Everything one configuration says.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Process-wide identity, as `[server]` gives it.
    pub server: Server,
    /// The sites in declared order; never empty.
    pub sites: Vec<Site>,
    /// Access and error log.
    pub logging: Logging,
    /// Workers and connection limits.
    pub performance: Performance,
    /// How host names of upstreams are looked up.
    pub dns: Dns,
    /// Rules that hold for every site.
    pub security: Security,
    /// Bounds on what a client may send or hold.
    pub limits: Limits,
    /// How a running Ravelin is looked at and told what to do.
    pub management: Management,
    /// As whom the process runs, and how it gives way to another.
    pub process: Process,
    /// When a changed configuration is taken.
    pub reload: Reload,
    /// What is counted.
    pub metrics: Metrics,
    /// How requests are traced.
    pub tracing: Tracing,
    /// What is expected to become of requests.
    pub expectations: Vec<Expectation>,
    /// What the linter says nothing about: codes and names of its rules, and codes of warnings.
    pub lint_allow: Vec<String>,
    /// Where all of it is written.
    pub places: Places,
}

impl Model {
    /// Index of the site that takes requests at this listener whose host no site of it answers to:
    /// the one with `default`, else the first. `None` if no site listens there.
    pub fn default_site(&self, listen: &Listen) -> Option<usize> {
        let mut there =
            self.sites.iter().enumerate().filter(|(_, site)| site.listen.contains(listen));
        let first = there.clone().next();
        there.find(|(_, site)| site.default).or(first).map(|(index, _)| index)
    }
}

/// Who the server says it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Sent as the `Server` field of responses Ravelin makes itself. Default "ravelin".
    pub name: String,
    /// Shown by `/api/health`. Default: the version of Ravelin.
    pub version: String,
    /// Free text for operators.
    pub description: String,
}

/// One virtual host.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// The operator's name for it; appears in logs.
    pub name: String,
    /// Host names it answers to, `hostname` first.
    pub hosts: Vec<HostPattern>,
    /// Where it listens; never empty.
    pub listen: Vec<Listen>,
    /// Takes requests of its listeners that no other site's host matches. At most one site of each
    /// listener has this set; [`Model::default_site`] also knows the listeners where none has.
    pub default: bool,
    /// TLS at its listeners (`ssl.enabled = true`), which then never speak plain HTTP. All sites of
    /// a listener have it or none.
    pub tls: Option<Tls>,
    /// Take HTTP/2 with prior knowledge (RFC 9113 §3.3) at its plain listeners. Default false.
    pub http2_cleartext: bool,
    /// Each connection to its listeners begins with a PROXY protocol header, which only
    /// [`Security::trusted_proxies`] may send; others are closed. All sites of a listener agree.
    pub proxy_protocol: bool,
    /// What holds for connections to each of its listeners. All sites of a listener agree.
    pub connections: Connections,
    /// Redirect every plain request to the same URL under `https`, with this status (301 or 308).
    pub redirect_to_https: Option<u16>,
    /// What is asked of every request.
    pub guards: Guards,
    /// Files to serve for paths that no route takes.
    pub files: Option<Files>,
    /// `/api/health` and the pages below it are answered by Ravelin. Default true.
    pub health: bool,
    /// Fields set on every response of the site.
    pub response_headers: Vec<(String, String)>,
    /// Routes in declared order. One that leads to a pool is only there with `proxy`.
    pub routes: Vec<Route>,
    /// In which order they are asked.
    pub route_order: RouteOrder,
    /// Requests that a route would take but for a condition of it are answered 400, instead of as if
    /// the route were not there. Default false.
    pub mismatch_is_error: bool,
    /// Responses say what became of their requests. Default off.
    pub proxy_status: ProxyStatus,
    /// The proxy part, when enabled.
    pub proxy: Option<Proxy>,
}

/// What holds for connections to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// An HTTP/1 connection may have more than one request. Default true.
    pub keep_alive: bool,
    /// One that is idle between requests is closed after this. `None`: as
    /// [`Performance::keep_alive_timeout`] says.
    pub keep_alive_timeout: Option<Duration>,
    /// How many there are at once; more wait in the backlog. `None`: no limit but
    /// [`Performance::max_connections`].
    pub max: Option<usize>,
    /// How many may wait to be taken, at each worker's socket. `None`: 4096.
    pub backlog: Option<i32>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { keep_alive: true, keep_alive_timeout: None, max: None, backlog: None }
    }
}

/// TLS for a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Where the certificate comes from.
    pub certificate: CertificateSource,
    /// DER file with an OCSP response to staple.
    pub ocsp_file: Option<PathBuf>,
    /// What a connection must agree to.
    pub policy: TlsPolicy,
}

/// Where a site's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// PEM files, read at start and whenever they change.
    Files {
        /// The chain, leaf first; may hold the key as well.
        certificate: PathBuf,
        /// The key. `None`: it is in the certificate's file.
        key: Option<PathBuf>,
    },
    /// Texts in the configuration, at least one; the client's server name chooses among them.
    Texts(Vec<PemPair>),
    /// An ACME authority.
    Acme(Acme),
}

/// A certificate and its key as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemPair {
    /// The chain in PEM, leaf first.
    pub certificate: String,
    /// The key in PEM.
    pub key: SecretBytes,
}

/// PEM in a file, or in the configuration itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Pem {
    /// A file's path.
    File(PathBuf),
    /// The text.
    Text(String),
}

impl Pem {
    /// The file, if it is in one.
    pub fn file(&self) -> Option<&std::path::Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// What it is called in a message. A text may be secret and is not shown.
impl std::fmt::Display for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Text(_) => f.write_str("the text in the configuration"),
        }
    }
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Text(_) => f.write_str("text"),
        }
    }
}

/// How to get a certificate by ACME (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Names in the certificate: the site's exact host names and `domains`, lower-case, each once.
    pub names: Vec<String>,
    /// Address the authority may write to.
    pub email: String,
    /// URL of the authority's directory. Default Let's Encrypt, or its test service with `staging`.
    pub directory_url: String,
    /// PEM file with the root of the directory's own certificate, for a private authority.
    pub ca_file: Option<PathBuf>,
    /// Challenge files are also written below this directory, if it is given, for a web server that
    /// answers in Ravelin's place.
    pub challenge_dir: Option<PathBuf>,
    /// Key id and base64url HMAC key that bind the account to one the authority knows.
    pub external_account: Option<ExternalAccount>,
    /// Certificate profile to ask for, if the authority has profiles.
    pub profile: Option<String>,
    /// Port at which HTTP-01 challenges are answered; opened if no site listens there. Default 80.
    pub http_port: u16,
    /// Directory for the account key, certificates and their keys. Default `ravelin-state`.
    pub state_dir: PathBuf,
}

/// External account binding (RFC 8555 §7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Key identifier.
    pub key_id: String,
    /// HMAC key, base64url as the authority gives it. Secret.
    pub hmac_key: String,
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalAccount").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// What a TLS connection must agree to. A connection made under one policy cannot be used for a site
/// with another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// Oldest version taken. Default TLS 1.2.
    pub min_version: TlsVersion,
    /// Newest version taken. Default TLS 1.3.
    pub max_version: TlsVersion,
    /// Names of cipher suites, by preference; empty: all that are safe. IANA names (`TLS_...`).
    pub ciphers: Vec<String>,
    /// Names of key exchange groups, by preference; empty: X25519MLKEM768 and the usual curves.
    pub groups: Vec<String>,
    /// Certificates of clients.
    pub client_auth: Option<ClientAuth>,
    /// Offer HTTP/2. Default true.
    pub http2: bool,
    /// Resume sessions by tickets. Default true; never with client certificates.
    pub tickets: bool,
}

impl TlsPolicy {
    /// What `ciphers` may name: every suite with forward secrecy and authenticated encryption, in the
    /// order in which they are preferred if none is named.
    pub const CIPHERS: &[&str] = &[
        "TLS_AES_256_GCM_SHA384",
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ];

    /// What `groups` may name.
    pub const GROUPS: &[&str] = &[
        "X25519MLKEM768",
        "secp256r1MLKEM768",
        "X25519",
        "secp256r1",
        "secp384r1",
        "MLKEM768",
        "MLKEM1024",
    ];

    /// The version of TLS that a suite of [`TlsPolicy::CIPHERS`] is for. Those of TLS 1.3 say nothing
    /// of how keys are agreed on (RFC 8446 section B.4).
    pub fn version_of(cipher: &str) -> TlsVersion {
        if cipher.contains("_WITH_") { TlsVersion::Tls12 } else { TlsVersion::Tls13 }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246)
    Tls12,
    /// TLS 1.3 (RFC 8446)
    Tls13,
}

/// Certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// The authorities whose certificates are taken.
    pub ca_file: Pem,
    /// A client without one is refused. Default true.
    pub required: bool,
}

/// A host name a site answers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// One host, lower-case, without a trailing dot or port. IPv6 literals without brackets.
    Exact(String),
    /// `*.example.com` is kept as `example.com`: matches one or more labels before it.
    Wildcard(String),
    /// `*` or `_`: any host.
    Any,
}

impl HostPattern {
    /// There is a host that both match.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let below = |name: &str, suffix: &str| {
            name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
        };
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Exact(one), Self::Exact(other)) => one == other,
            (Self::Exact(name), Self::Wildcard(suffix))
            | (Self::Wildcard(suffix), Self::Exact(name)) => below(name, suffix),
            (Self::Wildcard(one), Self::Wildcard(other)) => {
                one == other || below(one, other) || below(other, one)
            }
        }
    }
}

/// One address to listen at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listen {
    /// Every address of the machine, IPv6 and IPv4, at this port.
    Port(u16),
    /// One address and port.
    Address(SocketAddr),
    /// A Unix stream socket at this path.
    Unix(PathBuf),
}

/// Static files of a site.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// The root directory; relative to the working directory.
    pub root: PathBuf,
    /// Names tried in a directory, in order. Default `index.html`, `index.htm`.
    pub index: Vec<String>,
    /// Status to file below the root.
    pub error_pages: BTreeMap<u16, String>,
    /// File below the root that answers, with 200, a GET for a page that does not exist.
    pub spa_fallback: Option<String>,
    /// Beginnings of paths, as clients ask for them, that it does not answer for.
    pub spa_exclude: Vec<String>,
    /// Serve what a symbolic link outside of the root points to. Default false.
    pub follow_symlinks: bool,
    /// `Cache-Control` value for files, if any.
    pub cache_control: Option<String>,
    /// Send `ETag`. Default true.
    pub etag: bool,
    /// Send `Last-Modified`. Default true.
    pub last_modified: bool,
}

/// The proxy part of a site.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Pools in the order their names first appear; never empty.
    pub pools: Vec<Pool>,
    /// Bodies that are taken whole before they are passed on.
    pub buffering: Buffering,
    /// What is added to and removed from messages.
    pub headers: Headers,
}

/// What is spoken to an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Transport {
    /// The version of HTTP.
    pub http: UpstreamHttp,
    /// TLS, for `https`, `wss` and `h2` URLs.
    pub tls: Option<UpstreamTls>,
    /// Begin each connection with a PROXY protocol header that names the client.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Versions of HTTP spoken to upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UpstreamHttp {
    /// HTTP/1.1: `http`, `https`, `ws`, `wss`, `unix`.
    #[default]
    Http1,
    /// HTTP/2, many exchanges on one connection: `h2` (over TLS) and `h2c` (prior knowledge).
    Http2,
}

/// TLS to an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Check the upstream's certificate and its name. Default true.
    pub verify: bool,
    /// The authorities that are trusted. `None`: those of the system.
    pub ca_file: Option<Pem>,
    /// Name in SNI and in the certificate. `None`: the URL's host.
    pub server_name: Option<String>,
    /// A certificate chain and its key to show the upstream.
    pub client_certificate: Option<(Pem, Pem)>,
}

/// Versions of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// Where an upstream is reached: TCP or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// A host name or IP literal (no brackets) and port.
    Tcp {
        /// The host, lower-case.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl UpstreamAddress {
    /// A host name, which has to be looked up and may have several addresses.
    pub fn is_name(&self) -> bool {
        matches!(self, Self::Tcp { host, .. } if host.parse::<std::net::IpAddr>().is_err())
    }
}

/// Upstream time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to be established. Default 10 s.
    pub connect: Duration,
    /// From the end of a request to the first byte of its response. Default `read`.
    pub first_byte: Duration,
    /// Between two successive reads from the upstream. Default 30 s.
    pub read: Duration,
    /// Between two successive writes to the upstream. Default 30 s.
    pub write: Duration,
    /// For a tunnel (WebSocket) without a byte in either direction. Default 1 h.
    pub tunnel: Duration,
    /// From the request's head to the end of the response, attempts and waiting included; tunnels
    /// are free of it. Default none.
    pub request: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            read: Duration::from_secs(30),
            write: Duration::from_secs(30),
            tunnel: Duration::from_secs(3600),
            request: None,
        }
    }
}

/// Changes to messages on their way through.
#[derive(Debug, Clone, PartialEq)]
pub struct Headers {
    /// Send the client's Host to the upstream (else the upstream's own). Default true.
    pub preserve_host: bool,
    /// X-Forwarded-For (appended), -Proto, -Host and -Port. Default true.
    pub x_forwarded: bool,
    /// X-Real-IP, the client's address. Default false.
    pub x_real_ip: bool,
    /// Forwarded (RFC 7239), appended. Default true.
    pub forwarded: bool,
    /// Via, both ways. Default false.
    pub via: bool,
    /// For the request to the upstream.
    pub request: HeaderRules,
    /// For the response to the client.
    pub response: HeaderRules,
}

/// Removal happens first, then `set`, then `append`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeaderRules {
    /// Field names to remove, any case.
    pub remove: Vec<String>,
    /// Fields to set; an existing field of that name is replaced.
    pub set: Vec<(String, HeaderValue)>,
    /// Fields to add beside those of that name that are there.
    pub append: Vec<(String, HeaderValue)>,
}

/// What a field is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// These characters.
    Text(String),
    /// `X-Request-ID = "auto"`: the id of the request.
    RequestId,
    /// What the request says, with placeholders as the target of a redirect has them, and
    /// `$remote_addr`. In requests only.
    Template(String),
}

/// Idle upstream connections kept for reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleConnections {
    /// For each endpoint and worker. Default 1024: a smaller pool than there are busy clients makes
    /// connections only to close them.
    pub max: usize,
    /// An idle connection is closed after this. Default 60 s.
    pub timeout: Duration,
    /// A connection older than this is not reused. Default 1 h.
    pub max_age: Duration,
}

impl Default for IdleConnections {
    fn default() -> Self {
        Self { max: 1024, timeout: Duration::from_secs(60), max_age: Duration::from_secs(3600) }
    }
}

/// Workers and connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Performance {
    /// `None`: as many as the process may use cores.
    pub worker_threads: Option<usize>,
    /// Client connections at once; more wait in the backlog. `None`: as many as descriptors allow.
    pub max_connections: Option<usize>,
    /// A client connection idle between requests is closed after this. Default 60 s.
    pub keep_alive_timeout: Duration,
}

/// When a changed configuration is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reload {
    /// As soon as the files have changed and are at rest. Default false.
    pub watch: bool,
}

/// How host names of upstreams are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Name servers. Empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// An answer is good for so long at least. Default 1 s; never above `max_ttl`.
    pub min_ttl: Duration,
    /// An answer is good for no longer than this. Default 300 s.
    pub max_ttl: Duration,
}

/// Rules for every site.
#[derive(Debug, Clone, PartialEq)]
pub struct Security {
    /// Leave out the `Server` field of Ravelin's own responses.
    pub hide_server_header: bool,
    /// Longest request body in bytes; more is 413. `None`: no limit.
    pub max_request_size: Option<u64>,
    /// Origins that may make cross-origin requests where a site's rules name none.
    pub allowed_origins: AllowedOrigins,
    /// How many requests of one address are taken in a time, over all sites.
    pub rate_limit: Option<RateLimit>,
    /// Fields set on every response.
    pub security_headers: Vec<(String, String)>,
    /// Peers whose `X-Forwarded-For` is believed. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Let `%2F` and `%5C` through in proxied paths instead of answering 400. Default false.
    pub allow_encoded_slashes: bool,
}

/// Bounds on what a client may send or hold; the defaults and their reasons are beside the keys in
/// the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request head in bytes. Default 32 KiB; at most 64 KiB - 1.
    pub head_size: usize,
    /// Most fields in a head. Default 100.
    pub fields: usize,
    /// From the first byte of a head to its end. Default 10 s.
    pub head_timeout: Duration,
    /// Least bytes a second of a request body, and of a response the client reads, after
    /// `body_grace`. Default 240.
    pub body_min_rate: u64,
    /// How long a body may be slower than `body_min_rate`. Default 10 s.
    pub body_grace: Duration,
    /// Connections of one client address at once. `None`: no limit.
    pub connections_per_address: Option<usize>,
    /// Bytes held that a client sends after an upgrade request and before the 101. Default 16 KiB.
    pub early_upgrade: usize,
    /// Bytes of an unwanted request body read and dropped so that a connection can be kept.
    /// Default 64 KiB.
    pub drain: u64,
    /// From accepting a connection to the end of its TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// TLS handshakes under way at once in one worker; when more begin, the oldest end. Default 1024.
    pub handshakes: usize,
    /// Streams of one HTTP/2 connection at once. Default 128.
    pub http2_streams: u32,
}
