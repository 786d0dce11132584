//! HTTP to an authority, for the ACME library: with a time limit, a bound on what is read, and the
//! `Retry-After` of refusals, which the library would drop.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};
use net::tls::pem_text;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use super::super::files;

/// One request and its answer may take this long.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// Longest answer that is read. Chains are some 10 KiB.
const ANSWER_MAX: usize = 1024 * 1024;

const PRODUCT: HeaderValue =
    HeaderValue::from_static(concat!("ravelin/", env!("CARGO_PKG_VERSION"), " instant-acme"));

/// Whom to trust to be the authority.
#[derive(Clone)]
pub(crate) struct Trust(RootCertStore);

impl Trust {
    /// The certificates in this PEM file, or those of the system.
    pub(crate) fn load(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let Some(path) = ca_file else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(Self(roots));
        };
        let pem = files::read(path).map_err(|error| format!("cannot be read: {error}"))?;
        let pem = pem_text(&pem).map_err(|error| format!("is of no use: {error}"))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| format!("is not PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("holds a bad certificate: {error}"))?;
        }
        if roots.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(Self(roots)) }
    }

    /// Their certificates.
    pub(crate) fn roots(&self) -> RootCertStore {
        self.0.clone()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} certificates)", self.0.len())
    }
}

/// An HTTP client for one authority.
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Http {
    /// One that speaks to servers with a certificate by those trusted, over TLS only (RFC 8555 §6.1).
    pub(super) fn new(trust: &Trust) -> Result<Self, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trust.0.clone())
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        let connector = connector.enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        request.headers_mut().insert(USER_AGENT, PRODUCT);
        let client = self.0.clone();
        Box::pin(async move {
            let answer = timeout(REQUEST_MAX, async move {
                let response = client.request(request).await.map_err(other)?;
                let (parts, body) = response.into_parts();
                let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(Error::Other)?;
                Ok::<_, Error>(Response::from_parts(parts, body.to_bytes()))
            });
            let late = |_| other(Silent);
            checked(answer.await.map_err(late)??)
        })
    }
}

/// An answer that the library can make something of, or what it would not understand.
fn checked(response: Response<Bytes>) -> Result<BytesResponse, Error> {
    let (parts, body) = response.into_parts();
    let bad = parts.status.is_client_error() || parts.status.is_server_error();
    let later = parts.status == StatusCode::TOO_MANY_REQUESTS || parts.status.is_server_error();
    if bad && (later || !is_problem(&parts.headers)) {
        return Err(other(Refusal {
            status: parts.status,
            problem: serde_json::from_slice(&body).ok(),
            retry_after: retry_after(&parts.headers, SystemTime::now()),
        }));
    }
    Ok(BytesResponse { parts, body: Box::new(body) })
}

/// RFC 8555 §6.7: errors are problem documents.
fn is_problem(headers: &HeaderMap) -> bool {
    let is = |value: &HeaderValue| value.as_bytes().starts_with(b"application/problem+json");
    headers.get(CONTENT_TYPE).is_some_and(is)
}

/// How long the answer asks to wait (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => wire::date::parse_http_date(value.as_bytes())?.duration_since(now).ok(),
    }
}

fn other(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}

/// The authority did not answer in time.
#[derive(Debug)]
pub(super) struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", REQUEST_MAX.as_secs())
    }
}

impl StdError for Silent {}

/// An error response that says to come back later, or that is not ACME's.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The status.
    pub(super) status: StatusCode,
    /// The problem document, if it is one.
    pub(super) problem: Option<Problem>,
    /// How long to wait.
    pub(super) retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(problem) => problem.fmt(f),
            None => write!(f, "it answered {}", self.status),
        }
    }
}

impl StdError for Refusal {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::time::UNIX_EPOCH;

    use super::super::super::testing::{Directory, issued};
    use super::*;

    fn response(status: u16, kind: &str, body: &'static str) -> Response<Bytes> {
        let builder = Response::builder().status(status).header(RETRY_AFTER, "120");
        builder.header(CONTENT_TYPE, kind).body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    fn refusal(result: Result<BytesResponse, Error>) -> Refusal {
        match result {
            Err(Error::Other(error)) => *error.downcast::<Refusal>().unwrap(),
            Err(error) => panic!("{error}: {:?}", error.source()),
            Ok(_) => panic!("taken"),
        }
    }

    #[test]
    fn rfc8555_6_6_a_rate_limit_says_how_long_to_wait() {
        let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#;
        let refusal = refusal(checked(response(429, "application/problem+json", body)));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(120)));
        assert_eq!(refusal.problem.unwrap().detail.unwrap(), "too many");
    }

    #[test]
    fn an_error_that_is_not_acme_is_named_by_its_status() {
        let refusal = refusal(checked(response(502, "text/html", "<h1>Bad gateway</h1>")));
        assert_eq!(refusal.to_string(), "it answered 502 Bad Gateway");
        let refusal = self::refusal(checked(response(404, "text/html", "")));
        assert_eq!(refusal.to_string(), "it answered 404 Not Found");
    }

    #[test]
    fn other_answers_are_the_librarys() {
        assert!(checked(response(200, "application/json", "{}")).is_ok());
        let bad_nonce = r#"{"type":"urn:ietf:params:acme:error:badNonce"}"#;
        assert!(checked(response(400, "application/problem+json", bad_nonce)).is_ok());
    }

    #[test]
    fn rfc9110_10_2_3_retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            retry_after(&headers, now)
        };
        assert_eq!(wait("30"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:36 GMT"), None);
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_file_of_authorities_may_hold_several_and_must_hold_one() {
        let directory = Directory::new();
        let path = directory.path().join("ca.pem");
        let problem = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Trust::load(Some(&path)).map(|trust| trust.0.len())
        };
        let both = issued(&["a.test"]).0 + &issued(&["b.test"]).0;
        assert_eq!(problem(&both), Ok(2));
        assert_eq!(problem("nothing"), Err("holds no certificate".to_owned()));
        assert_eq!(problem(&format!("\u{feff}{both}")), Ok(2), "with a byte order mark");
        std::fs::remove_file(&path).unwrap();
        assert!(Trust::load(Some(&path)).unwrap_err().starts_with("cannot be read: No such file"));
    }
}
