//! What is told of an exchange that is recorded.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::{SpanId, Traced};
use crate::log::{Ended, Record};

/// Exchanges that wait to be sent to the collector, some kilobyte each.
pub const SPANS_MAX: usize = 4096;

/// Bytes of a text of a client's in a span.
const TEXT_MAX: usize = 1024;

/// An exchange and its attempts.
#[derive(Debug, Clone)]
pub struct Span {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The exchange.
    pub id: SpanId,
    /// Who made the request.
    pub parent: Option<SpanId>,
    /// When the request's first byte came, in microseconds since 1970.
    pub began_us: u64,
    /// When its head was there, in microseconds since then.
    pub head_us: u64,
    /// How long it took.
    pub total_us: u64,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// Host and port as the client named them.
    pub authority: String,
    /// The protocol, such as `HTTP/1.1`.
    pub version: String,
    /// The client uses TLS.
    pub secure: bool,
    /// The client.
    pub client: Option<IpAddr>,
    /// The `User-Agent` field.
    pub user_agent: String,
    /// Site, route and pool, as far as there are any.
    pub site: String,
    /// The route.
    pub route: Option<String>,
    /// The pool.
    pub pool: Option<String>,
    /// The status sent.
    pub status: u16,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// How it ended.
    pub ended: Ended,
    /// The request's id.
    pub request_id: String,
    /// In the order in which they began.
    pub attempts: Vec<AttemptSpan>,
}

/// One attempt of an exchange.
#[derive(Debug, Clone)]
pub struct AttemptSpan {
    /// Its id.
    pub id: SpanId,
    /// The URL of the endpoint.
    pub endpoint: String,
    /// When it began, in microseconds since the request's head was there.
    pub began_us: u64,
    /// When it was answered or failed; `None` if it was neither.
    pub ended_us: Option<u64>,
    /// The status it was answered with; 0 if it was not.
    pub status: u16,
    /// How it failed.
    pub failure: Option<&'static str>,
}

impl AttemptSpan {
    pub(super) fn new(id: SpanId, endpoint: &str, micros: u64) -> Self {
        let endpoint = endpoint.to_owned();
        Self { id, endpoint, began_us: micros, ended_us: None, status: 0, failure: None }
    }

    pub(super) fn ended(&mut self, micros: u64, how: Result<u16, &'static str>) {
        self.ended_us = Some(micros);
        match how {
            Ok(status) => self.status = status,
            Err(failure) => self.failure = Some(failure),
        }
    }
}

impl Span {
    fn of(record: &Record<'_>, traced: &Traced<'_>) -> Self {
        let path = record.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        Self {
            trace_id: traced.trace_id,
            id: traced.span_id,
            parent: traced.parent,
            began_us: record.wall_us,
            head_us: record.times.head.unwrap_or(0),
            total_us: record.times.total,
            method: text(record.method),
            path: text(path),
            authority: text(record.host),
            version: record.version.to_owned(),
            secure: record.tls.is_some(),
            client: record.client,
            user_agent: text(record.user_agent),
            site: record.site.to_owned(),
            route: record.route.map(str::to_owned),
            pool: record.pool.map(|pool| pool.name.clone()),
            status: record.status,
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            ended: record.ended,
            request_id: text(record.request_id),
            attempts: traced.attempts.try_borrow().map(|all| all.clone()).unwrap_or_default(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.get(..TEXT_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where workers hand spans over. Never waits: what finds the queue full is counted and dropped.
#[derive(Debug, Clone)]
pub struct SpanSink {
    queue: mpsc::Sender<Box<Span>>,
    counts: Arc<SpanCounts>,
}

/// What became of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    /// The collector took them.
    pub exported: AtomicU64,
    /// They found the queue full.
    pub queue_full: AtomicU64,
    /// The collector did not take them, or was not there.
    pub refused: AtomicU64,
}

/// A queue of at most [`SPANS_MAX`] exchanges, whose fate is counted in `counts`.
#[must_use]
pub fn spans(counts: Arc<SpanCounts>) -> (SpanSink, mpsc::Receiver<Box<Span>>) {
    let (queue, receiver) = mpsc::channel(SPANS_MAX);
    (SpanSink { queue, counts }, receiver)
}

impl SpanSink {
    /// Hands over what is to be told of an exchange.
    pub(crate) fn tell(&self, record: &Record<'_>, traced: &Traced<'_>) {
        match self.queue.try_reserve() {
            Ok(place) => place.send(Box::new(Span::of(record, traced))),
            Err(_) => {
                let attempts = traced.attempts.try_borrow().map_or(0, |all| all.len());
                self.counts.queue_full.fetch_add(1 + attempts as u64, Ordering::Relaxed);
            }
        }
    }

    /// What became of those that were handed over.
    #[must_use]
    pub fn counts(&self) -> &SpanCounts {
        &self.counts
    }
}
