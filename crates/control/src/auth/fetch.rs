//! Key sets of URLs: fetched at start, again and again, and when a token names a key that is not there.

use std::error::Error as StdError;
use std::future::{Future as _, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use proxy::auth::{JWKS_BYTES_MAX, KeyRing};
use proxy::log::ErrorLog;
use rustls::ClientConfig;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::certificates::Trust;

/// One request and its answer may take this long.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// After a failure it is tried again after this, then after twice as long, and so on …
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// … up to this, or to the time between two refreshes.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Tokens that name unknown keys make it fetch once in this time: anybody can send such tokens.
const MISSED_APART: Duration = Duration::from_secs(10);

/// Keys that could not be fetched again for so long are not believed any more.
pub const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

const PRODUCT: HeaderValue =
    HeaderValue::from_static(concat!("ravelin/", env!("CARGO_PKG_VERSION")));

/// An HTTP client for one key set.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    uri: Uri,
}

impl Http {
    /// One that believes the authorities in `ca_file`, or those of the system.
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let uri = url.parse().map_err(|error| format!("the key set {url}: {error}"))?;
        let trust = Trust::load(ca_file).map_err(|why| match ca_file {
            Some(file) => format!("{} {why}", file.display()),
            None => why,
        })?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("the key set {url}: {error}"))?
            .with_root_certificates(trust.roots())
            .with_no_client_auth();
        // Plain HTTP is for this machine only; the configuration sees to that.
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = connector.enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), uri })
    }

    /// The content that is there now. Redirects are not followed: the configuration says whom to believe.
    async fn get(&self) -> Result<Bytes, String> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(USER_AGENT, PRODUCT);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = timeout(REQUEST_MAX, async {
            let response = self.client.request(request).await.map_err(|error| root(&error))?;
            if response.status() != StatusCode::OK {
                return Err(format!("it answered {}", response.status()));
            }
            let body = Limited::new(response.into_body(), JWKS_BYTES_MAX).collect().await;
            Ok(body.map_err(|error| error.to_string())?.to_bytes())
        });
        answer
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", REQUEST_MAX.as_secs())))
    }
}

/// The innermost of nested errors, which says what happened.
fn root(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Fetches a key set for as long as it runs.
pub(super) async fn keep(
    ring: Arc<KeyRing>,
    http: Http,
    refresh: Duration,
    log: ErrorLog,
    mut wake: Receiver<u64>,
) {
    let mut state = State { known: None, told: None, failures: 0 };
    let mut missed_last: Option<Instant> = None;
    loop {
        let pause = state.fetched(http.get().await, &ring, &http.uri, refresh, &log);
        let next = Instant::now() + pause;
        let missed_from = missed_last.map_or_else(Instant::now, |last| last + MISSED_APART);
        let event = {
            let mut missed = pin!(missed(&ring, missed_from));
            let mut woken = pin!(wake.changed());
            let event = poll_fn(|context| match missed.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Event::Missed),
                Poll::Pending => woken.as_mut().poll(context).map(|woken| match woken {
                    Ok(()) => Event::Woken,
                    Err(_) => Event::End,
                }),
            });
            timeout_at(next, event).await
        };
        match event {
            Ok(Event::Missed) => missed_last = Some(Instant::now()),
            Ok(Event::End) => return,
            Ok(Event::Woken) | Err(_) => {}
        }
    }
}

/// Why a key set is fetched before its time.
enum Event {
    /// A token names a key that is not there.
    Missed,
    /// Somebody asks for it.
    Woken,
    /// Nobody needs it any more.
    End,
}

/// A token named an unknown key, and it is time to do something about it.
async fn missed(ring: &KeyRing, from: Instant) {
    sleep_until(from).await;
    ring.missed().await;
}

/// What is known of a key set.
struct State {
    /// What was there last, and when it was fetched.
    known: Option<(Bytes, Instant)>,
    /// The failure that was told.
    told: Option<String>,
    failures: u32,
}

impl State {
    /// Takes what was fetched, and says how long to wait for the next time.
    fn fetched(
        &mut self,
        answer: Result<Bytes, String>,
        ring: &KeyRing,
        uri: &Uri,
        refresh: Duration,
        log: &ErrorLog,
    ) -> Duration {
        let now = Instant::now();
        let taken = answer.and_then(|content| match &self.known {
            // What workers remember of tokens stays good with the keys.
            Some((known, _)) if *known == content => Ok((content, None)),
            _ => ring.take(&content).map(|count| (content, Some(count))),
        });
        match taken {
            Ok((content, count)) => {
                if let Some(count) = count {
                    log.info(format_args!("auth: {count} keys from {uri}"));
                } else if self.told.is_some() {
                    log.info(format_args!("auth: {uri} can be fetched again"));
                }
                *self = Self { known: Some((content, now)), told: None, failures: 0 };
                refresh
            }
            Err(why) => {
                let stale = self.known.as_ref().is_some_and(|(_, at)| now - *at >= STALE_MAX);
                if stale {
                    ring.forget();
                    self.known = None;
                }
                if stale || self.told.as_ref() != Some(&why) {
                    let then = match self.known {
                        Some(_) => "the keys that were fetched before stay in force",
                        None => "requests with tokens are answered 503 until it can",
                    };
                    log.error(format_args!("auth: the key set {uri} cannot be had: {why}; {then}"));
                }
                self.told = Some(why);
                let longer = RETRY_FIRST * 2u32.saturating_pow(self.failures.min(16));
                self.failures = self.failures.saturating_add(1);
                longer.min(RETRY_MAX).min(refresh)
            }
        }
    }
}
