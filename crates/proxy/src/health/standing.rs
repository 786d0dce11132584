//! What is told to operators of how a member fares: since when it is as it is, how often it was down
//! and for how long, and what its checks found last.
//!
//! Nothing here decides anything. It is written by the checks and by operators, never by a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

/// How a member fares.
#[derive(Debug)]
pub struct Standing {
    /// When it became what it is, in milliseconds since 1970.
    since: AtomicU64,
    /// How often checks found it down.
    downs: AtomicU32,
    /// Milliseconds that it was down before.
    down_for: AtomicU64,
    /// Checks that failed while it was up.
    failed_checks: AtomicU64,
    /// What the last check found.
    last: ArcSwapOption<Checked>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// When it was over, in milliseconds since 1970.
    pub at: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// What was asked.
    pub kind: CheckKind,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// Checks in a row that speak against what it is now: up or down.
    pub against: u32,
    /// How many of them make it change.
    pub needed: u32,
}

/// What a check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// Whether a connection can be made.
    Tcp,
    /// Whether a TLS handshake succeeds.
    Tls,
    /// What the answer to an HTTP request is.
    Http,
    /// What the health service of gRPC says.
    Grpc,
    /// Whether a WebSocket can be opened.
    WebSocket,
}

impl CheckKind {
    /// One word for it, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::WebSocket => "websocket",
        }
    }
}

impl Standing {
    /// That of one that is up since `now`, in milliseconds since 1970.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            since: AtomicU64::new(now),
            downs: AtomicU32::new(0),
            down_for: AtomicU64::new(0),
            failed_checks: AtomicU64::new(0),
            last: ArcSwapOption::empty(),
        }
    }

    /// It goes down or comes up at `now`.
    pub(crate) fn changes(&self, up: bool, now: u64) {
        let before = self.since.swap(now, Ordering::Relaxed);
        if up {
            self.down_for.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        } else {
            self.downs.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something else about it changes at `now`: an operator has spoken.
    pub(crate) fn is_another(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
    }

    /// A check was carried out.
    pub fn checked(&self, checked: Checked, was_up: bool) {
        if was_up && checked.failure.is_some() {
            self.failed_checks.fetch_add(1, Ordering::Relaxed);
        }
        self.last.store(Some(Arc::new(checked)));
    }

    /// It is at another address: no check was carried out there.
    pub(crate) fn forget(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
        self.last.store(None);
    }

    /// When it became what it is, in milliseconds since 1970.
    pub fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// How often checks found it down.
    pub fn downs(&self) -> u32 {
        self.downs.load(Ordering::Relaxed)
    }

    /// Milliseconds that it was down, but for the present time if it is.
    pub fn down_for(&self) -> u64 {
        self.down_for.load(Ordering::Relaxed)
    }

    /// Checks that failed while it was up.
    pub fn failed_checks(&self) -> u64 {
        self.failed_checks.load(Ordering::Relaxed)
    }

    /// What the last check found; `None` if there was none.
    pub fn last(&self) -> Option<Arc<Checked>> {
        self.last.load_full()
    }
}
