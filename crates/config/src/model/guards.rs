//! What a request has to pass before anything is done for it: access lists, cross-origin rules, rate
//! limits.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{Auth, PathMatch};

/// What a site or a route asks of every request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guards {
    /// Who may come in; all of these have to admit a client, and those of its site.
    pub access: Vec<Access>,
    /// Which other origins may make requests.
    pub cors: CorsRule,
    /// How many requests are taken in a time; all of these have to admit a request, and those of its
    /// site.
    pub rate_limits: Vec<RateLimit>,
    /// What a request has to prove; all of these, and those of its site.
    pub auth: Vec<Auth>,
}

/// Who may come in, by the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Networks that may.
    pub allow: Vec<IpNet>,
    /// Networks that may not. Of all networks an address is in, the smallest counts; of two that are
    /// the same, this one.
    pub deny: Vec<IpNet>,
    /// A file with more networks for `allow`, one a line.
    pub allow_file: Option<PathBuf>,
    /// A file with more networks for `deny`.
    pub deny_file: Option<PathBuf>,
    /// An address that is in none of them may, and so may a client without an address, on a Unix
    /// socket. Default: not if there is only `allow`.
    pub others: bool,
}

/// What is said of other origins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CorsRule {
    /// Nothing: a route has the rules of its site, a site none.
    #[default]
    Inherited,
    /// That there are no rules: requests and responses pass as they are.
    Off,
    /// These rules.
    Rules(Cors),
}

/// Which other origins may make requests (CORS, as the Fetch standard has it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Who may make them.
    pub origins: AllowedOrigins,
    /// With which methods. Default GET, HEAD, OPTIONS.
    pub methods: Names,
    /// With which fields. Default Content-Type, Authorization.
    pub headers: Names,
    /// Fields of responses that scripts may read beside those they always may.
    pub expose_headers: Names,
    /// With cookies and the like. Default false.
    pub credentials: bool,
    /// How long a browser may remember what it was told. Default 1 day.
    pub max_age: Duration,
}

/// Other origins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AllowedOrigins {
    /// Those of [`Security::allowed_origins`](super::Security::allowed_origins).
    #[default]
    Inherited,
    /// Any.
    Any,
    /// These.
    Only(Vec<OriginPattern>),
}

/// An origin, or many.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OriginPattern {
    /// `https://example.com:8443`: in lower case, without the scheme's own port; or `null`.
    Exact(String),
    /// What begins with the first and ends with the second, with something in between.
    Between(String, String),
}

/// Names of methods or of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Any.
    Any,
    /// These, as they are written.
    Only(Vec<String>),
}

/// How many requests are taken in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// What clients are told it is called, if it has a name.
    pub name: Option<String>,
    /// So many requests...
    pub requests: u32,
    /// ...in this time, evenly. Default 1 min.
    pub per: Duration,
    /// Requests that are taken at once after a pause. Default `requests`.
    pub burst: u32,
    /// What is counted together.
    pub key: RateKey,
    /// Limits with the same one count together, wherever they are; they have the same rate and key.
    pub zone: Option<String>,
    /// Clients that are not counted.
    pub whitelist: Vec<IpNet>,
    /// A request that comes too early is held until its time if that is no longer away than this.
    /// Default 0.
    pub wait: Duration,
    /// The methods it is for; empty: all.
    pub methods: Vec<String>,
    /// The paths it is for.
    pub path: Option<PathMatch>,
    /// What a request beyond it is answered with. Default 429.
    pub status: u16,
    /// Tell clients about it in `RateLimit` and `RateLimit-Policy`. Default true.
    pub fields: bool,
    /// How many keys are remembered at once. Default [`RateLimit::KEYS`].
    pub keys: u32,
}

impl RateLimit {
    /// How many keys are remembered at once if nothing is said: 1 MiB.
    pub const KEYS: u32 = 1 << 16;
}

/// What requests have in common that count together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RateKey {
    /// The client's address; of IPv6 its first 64 bits, which is what one customer has.
    Address,
    /// The value of a field; the address where there is none.
    Header(String),
    /// The value of a cookie; the address where there is none.
    Cookie(String),
    /// All requests.
    Route,
}
