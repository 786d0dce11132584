//! An HTTP request is answered as expected. Redirects are answers like any other and are not
//! followed.

use bytes::Bytes;
use config::model::{HttpProbe, UpstreamAddress, UpstreamHttp};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use net::tls::ClientConfig;
use proxy::live::Endpoint;

use super::connect::{Progress, connect, secure};
use super::matching::Expected;
use super::{http1, http2};

/// What probes call themselves.
pub(super) const USER_AGENT_NAME: &str =
    concat!("Ravelin/", env!("CARGO_PKG_VERSION"), " health check");

/// Bytes of a body that are read.
pub(super) const BODY_MAX: usize = 64 * 1024;

/// Fields that say how a message is framed or a connection used: never taken from the operator.
const OWN_FIELDS: [HeaderName; 5] = [CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE];

/// A request that is sent again and again, and what is expected of the response.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    target: PathAndQuery,
    host: Option<String>,
    /// In the operator's spelling.
    fields: Vec<(String, HeaderName, HeaderValue)>,
    body: Bytes,
    pub(super) expected: Expected,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    /// At most [`BODY_MAX`] bytes; empty if nobody wanted them.
    pub(super) body: Vec<u8>,
    /// Fields after the body; only HTTP/2's are kept.
    pub(super) trailers: HeaderMap,
}

/// Sends the request and judges the response.
///
/// # Errors
/// In words.
pub(super) async fn probe(
    question: &Question,
    endpoint: &Endpoint,
    port: Option<u16>,
    tls: Option<&ClientConfig>,
    progress: &Progress,
) -> Result<(), String> {
    let http2 = endpoint.transport.http == UpstreamHttp::Http2;
    let mut socket = connect(endpoint, port, progress).await?;
    if let Some(tls) = tls {
        socket = secure(socket, endpoint, tls, http2, progress).await?;
    }
    let wants_body = question.expected.wants_body();
    let answer = if http2 {
        let request = question.request(endpoint, tls.is_some())?;
        http2::exchange(socket, request, question.body.clone(), wants_body, progress).await?
    } else {
        let head = question.head(endpoint, &[("Connection", "close")]);
        let to_head = question.method == Method::HEAD;
        let (answer, rest) =
            http1::exchange(socket, &[&head, &question.body], to_head, wants_body, progress)
                .await?;
        rest.wait_for_end();
        answer
    };
    question.expected.judge_status(answer.status)?;
    question.expected.judge_fields(&answer.fields)?;
    question.expected.judge_body(&answer.body)
}

impl Question {
    /// Makes the request ready.
    ///
    /// # Errors
    /// The operator's settings make no request.
    pub(super) fn new(probe: &HttpProbe) -> Result<Self, String> {
        let method = Method::from_bytes(probe.method.as_bytes());
        let method = method.map_err(|_| format!("{:?} is no method", probe.method))?;
        let target = PathAndQuery::try_from(&probe.target);
        let target = target.map_err(|_| format!("{:?} is no path", probe.target))?;
        let (mut fields, mut host) = (Vec::new(), probe.host.clone());
        for (name, value) in &probe.fields {
            let wrong = || format!("{name:?}: {value:?} is no field");
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            if parsed == HOST {
                let given = value.to_str().map_err(|_| wrong())?;
                host.get_or_insert_with(|| given.to_owned());
            } else if !OWN_FIELDS.contains(&parsed) {
                fields.push((name.clone(), parsed, value));
            }
        }
        if let Some(host) = &host {
            HeaderValue::from_str(host).map_err(|_| format!("{host:?} is no host"))?;
        }
        let expected = Expected::new(probe)?;
        let body = Bytes::from(probe.body.clone());
        Ok(Self { method, target, host, fields, body, expected })
    }

    /// The head for HTTP/1.1, with `more` fields.
    pub(super) fn head(&self, endpoint: &Endpoint, more: &[(&str, &str)]) -> Vec<u8> {
        let mut head = Vec::with_capacity(512);
        let mut line = |parts: &[&[u8]]| {
            parts.iter().for_each(|part| head.extend_from_slice(part));
            head.extend_from_slice(b"\r\n");
        };
        let (method, target) = (self.method.as_str(), self.target.as_str());
        line(&[method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"]);
        line(&[b"Host: ", self.host(endpoint).as_bytes()]);
        if self.says_nothing_of(&USER_AGENT) {
            line(&[b"User-Agent: ", USER_AGENT_NAME.as_bytes()]);
        }
        for (name, _, value) in &self.fields {
            line(&[name.as_bytes(), b": ", value.as_bytes()]);
        }
        if self.has_body() {
            line(&[b"Content-Length: ", self.body.len().to_string().as_bytes()]);
        }
        for (name, value) in more {
            line(&[name.as_bytes(), b": ", value.as_bytes()]);
        }
        line(&[]);
        head
    }

    /// The same for HTTP/2.
    fn request(&self, endpoint: &Endpoint, secure: bool) -> Result<Request<()>, String> {
        let mut request =
            http2_request(self.method.clone(), self.host(endpoint), &self.target, secure)?;
        let fields = request.headers_mut();
        if self.says_nothing_of(&USER_AGENT) {
            fields.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_NAME));
        }
        for (_, name, value) in &self.fields {
            fields.append(name, value.clone());
        }
        if self.has_body() {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        Ok(request)
    }

    fn host<'a>(&'a self, endpoint: &'a Endpoint) -> &'a str {
        self.host.as_deref().unwrap_or(host_of(endpoint))
    }

    fn says_nothing_of(&self, name: &HeaderName) -> bool {
        self.fields.iter().all(|(_, other, _)| other != name)
    }

    /// Methods whose requests have a body say that it is empty (RFC 9110 §8.6).
    fn has_body(&self) -> bool {
        let with_body = [Method::POST, Method::PUT, Method::PATCH];
        !self.body.is_empty() || with_body.contains(&self.method)
    }
}

/// A request for HTTP/2 without fields.
pub(super) fn http2_request(
    method: Method,
    authority: &str,
    target: &PathAndQuery,
    secure: bool,
) -> Result<Request<()>, String> {
    let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(target.clone());
    let uri = uri.build().map_err(|_| format!("{authority:?} is no host"))?;
    let request = Request::builder().method(method).uri(uri).body(());
    request.map_err(|error| error.to_string())
}

/// The host of an endpoint as requests that do not keep the client's have it.
pub(super) fn host_of(endpoint: &Endpoint) -> &str {
    match endpoint.address {
        UpstreamAddress::Tcp { .. } => &endpoint.label,
        UpstreamAddress::Unix(_) => "localhost",
    }
}
