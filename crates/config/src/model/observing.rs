//! What is counted and traced.

use std::path::PathBuf;

/// Parts of a whole in which shares are given.
pub const SHARE_WHOLE: u32 = 1_000_000;

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Count what happens, for `/metrics` and whoever else wants to know. Default true.
    pub enabled: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// How requests are traced (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// Tell upstreams which trace a request belongs to, and begin one for a request that belongs to
    /// none. Default: if spans are exported.
    pub propagate: bool,
    /// Whose `traceparent` counts. Default everybody's.
    pub accept: TraceAccept,
    /// Share of the traces begun here that are recorded, in parts of [`SHARE_WHOLE`].
    pub sample: u32,
    /// What a caller says of recording its trace holds here too. Default true.
    pub parent_based: bool,
    /// Where spans are sent, as OTLP over HTTP. `None`: nowhere.
    pub endpoint: Option<String>,
    /// Authorities that may vouch for it, in the place of those of the system.
    pub ca_file: Option<PathBuf>,
    /// `service.name` of the spans.
    pub service: String,
}

/// Whose `traceparent` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceAccept {
    /// Every client's.
    Always,
    /// That of `trusted_proxies`.
    Trusted,
    /// Nobody's.
    Never,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            propagate: false,
            accept: TraceAccept::Always,
            sample: SHARE_WHOLE,
            parent_based: true,
            endpoint: None,
            ca_file: None,
            service: "ravelin".to_owned(),
        }
    }
}
