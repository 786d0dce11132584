//! Sends spans to a collector as OTLP over HTTP, some hundred at a time.

use std::future::{Future as _, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use proxy::log::ErrorLog;
use proxy::traces::{Span, SpanCounts};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::otlp;
use crate::certificates::Trust;

/// Exchanges in one request.
const BATCH_MAX: usize = 512;
/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// One request and its answer may take this long.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How often a batch is sent before it is dropped.
const ATTEMPTS_MAX: u32 = 3;
/// Pause before it is sent again, twice as long each time.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of an answer that are looked at.
const ANSWER_MAX: usize = 64 * 1024;
/// At the end of the process a collector has this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

const PRODUCT: HeaderValue =
    HeaderValue::from_static(concat!("ravelin/", env!("CARGO_PKG_VERSION")));
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Where spans are sent.
pub(super) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    service: String,
}

/// Why a batch was not taken.
struct Refused {
    why: String,
    /// It may be taken later.
    for_now: bool,
}

impl Collector {
    /// The collector at `url`, vouched for by the authorities in `ca_file` or those of the system.
    pub(super) fn new(url: &str, ca_file: Option<&Path>, service: &str) -> Result<Self, String> {
        let uri = url.parse().map_err(|error| format!("tracing: the endpoint {url}: {error}"))?;
        let trust = Trust::load(ca_file).map_err(|why| match ca_file {
            Some(file) => format!("tracing: {} {why}", file.display()),
            None => format!("tracing: {why}"),
        })?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("tracing: the endpoint {url}: {error}"))?
            .with_root_certificates(trust.roots())
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let client = Client::builder(TokioExecutor::new()).build(connector.enable_http1().build());
        Ok(Self { client, uri, service: service.to_owned() })
    }

    /// Sends exchanges; how many of their spans were not taken.
    async fn send(&self, body: Bytes) -> Result<u64, Refused> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(USER_AGENT, PRODUCT);
        request.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
        let later = |why: String| Refused { why, for_now: true };
        let answer = timeout(REQUEST_MAX, async {
            let response =
                self.client.request(request).await.map_err(|error| later(root(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            Ok((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
        });
        let (status, body) = match answer.await {
            Ok(answer) => answer?,
            Err(_) => return Err(later(format!("no answer within {REQUEST_MAX:?}"))),
        };
        if status.is_success() {
            let said = ExportTraceServiceResponse::decode(body).unwrap_or_default();
            let rejected = said.partial_success.map_or(0, |partial| partial.rejected_spans);
            return Ok(u64::try_from(rejected).unwrap_or(0));
        }
        // Those that the specification of OTLP says may be sent again.
        let for_now = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        Err(Refused { why: format!("it answered {status}"), for_now })
    }
}

fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A task that sends spans.
pub(super) struct Sending {
    to: Slot,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The collector in force.
type Slot = Arc<Mutex<Option<Arc<Collector>>>>;

impl Sending {
    /// Sends what comes by `queue` until nobody can hand anything over any more.
    pub(super) fn start(
        queue: mpsc::Receiver<Box<Span>>,
        counts: Arc<SpanCounts>,
        log: ErrorLog,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let to = Slot::default();
        let mut sender = Sender { to: Arc::clone(&to), counts, log, is_told: false };
        let mut queue = Queue { spans: queue, stop: Some(stopped) };
        let task = tokio::spawn(async move { sender.run(&mut queue).await });
        Self { to, stop, task }
    }

    /// From now on spans are sent to `collector`.
    pub(super) fn set(&self, collector: Option<Collector>) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = collector.map(Arc::new);
    }

    /// Sends what is there, within a bounded time.
    pub(super) async fn finish(self) {
        let _ = self.stop.send(());
        let _ = timeout(LAST_WORDS, self.task).await;
    }
}

/// Where spans come from.
struct Queue {
    spans: mpsc::Receiver<Box<Span>>,
    /// Tells it to take no more.
    stop: Option<oneshot::Receiver<()>>,
}

impl Queue {
    /// Adds what is there to `batch`, or waits for it. False if nothing will come any more.
    #[allow(clippy::vec_box, reason = "they come in boxes, which are moved instead of the spans")]
    async fn take(&mut self, batch: &mut Vec<Box<Span>>) -> bool {
        let room = BATCH_MAX.saturating_sub(batch.len());
        poll_fn(|cx| {
            if let Some(stop) = &mut self.stop
                && let Poll::Ready(told) = Pin::new(stop).poll(cx)
            {
                self.stop = None;
                if told.is_ok() {
                    self.spans.close();
                }
            }
            self.spans.poll_recv_many(cx, batch, room)
        })
        .await
            > 0
    }
}

struct Sender {
    to: Slot,
    counts: Arc<SpanCounts>,
    log: ErrorLog,
    /// That the collector does not take spans is in the log.
    is_told: bool,
}

impl Sender {
    async fn run(&mut self, queue: &mut Queue) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.take(&mut batch).await {
            let until = Instant::now() + LINGER;
            while batch.len() < BATCH_MAX
                && let Ok(true) = timeout_at(until, queue.take(&mut batch)).await
            {}
            self.deliver(&mut batch).await;
        }
    }

    /// Sends a batch, several times if need be.
    #[allow(clippy::vec_box, reason = "they come in boxes, which are moved instead of the spans")]
    async fn deliver(&mut self, batch: &mut Vec<Box<Span>>) {
        let spans = batch.iter().map(|exchange| otlp::count(exchange)).sum();
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Recorded by a request of a configuration that is over.
        let Some(to) = to else {
            batch.clear();
            return add(&self.counts.refused, spans);
        };
        let body = Bytes::from(otlp::request(&to.service, batch).encode_to_vec());
        batch.clear();
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            match to.send(body.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(spans);
                    add(&self.counts.exported, spans - rejected);
                    add(&self.counts.refused, rejected);
                    if std::mem::take(&mut self.is_told) {
                        let uri = &to.uri;
                        self.log.info(format_args!("tracing: {uri} takes spans again"));
                    }
                    return;
                }
                Err(Refused { for_now: true, .. }) if attempt < ATTEMPTS_MAX => {
                    sleep(pause).await;
                    pause *= 2;
                }
                Err(Refused { why, .. }) => {
                    add(&self.counts.refused, spans);
                    if !std::mem::replace(&mut self.is_told, true) {
                        let uri = &to.uri;
                        self.log.warn(format_args!("tracing: {uri} takes no spans: {why}"));
                    }
                    return;
                }
            }
        }
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
