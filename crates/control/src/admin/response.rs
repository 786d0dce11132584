//! What the admin API answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};
use hyper::body::{Frame, SizeHint};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;

use crate::orders::Refused;

/// An answer.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    fields: HeaderMap,
    body: Body,
}

/// What an answer carries.
#[derive(Debug)]
pub enum Body {
    /// All of it at once.
    Whole(Bytes),
    /// Piece by piece, until nobody sends any more. The place is free again when the client is gone.
    Stream(Receiver<Bytes>, OwnedSemaphorePermit),
}

/// An answer that says what is wrong (RFC 9457).
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    more: Map<String, Value>,
    /// Boxed, so that what may fail with it is not large.
    fields: Box<HeaderMap>,
}

/// Pages may load what comes from here and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";

/// What is no page loads nothing.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

impl Response {
    /// 200 with JSON.
    pub fn json(value: &Value) -> Self {
        Self::whole("application/json", format!("{value}\n"))
    }

    /// 200 with this content.
    pub fn whole(media_type: &'static str, content: impl Into<Bytes>) -> Self {
        Self::of(media_type, Body::Whole(content.into()))
    }

    /// 200 with events as they come (`text/event-stream`).
    pub fn events(events: Receiver<Bytes>, place: OwnedSemaphorePermit) -> Self {
        Self::of("text/event-stream", Body::Stream(events, place))
    }

    /// A page that loads scripts, styles and data from here.
    pub fn page(content: impl Into<Bytes>) -> Self {
        let policy = HeaderName::from_static("content-security-policy");
        Self::whole("text/html; charset=utf-8", content)
            .with(policy, HeaderValue::from_static(PAGE_POLICY))
    }

    /// The same with another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with this field, which replaces one of the same name.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.insert(name, value);
        self
    }

    fn of(media_type: &'static str, body: Body) -> Self {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        Self { status: StatusCode::OK, fields, body }
    }

    /// As it goes to the client, with the fields that all answers have.
    pub(super) fn finish(self) -> http::Response<Body> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        *fields = self.fields;
        let default = |fields: &mut HeaderMap, name: HeaderName, value| {
            fields.entry(name).or_insert(HeaderValue::from_static(value));
        };
        default(fields, CACHE_CONTROL, "no-store");
        for (name, value) in [
            ("content-security-policy", DATA_POLICY),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            default(fields, HeaderName::from_static(name), value);
        }
        response
    }
}

impl Problem {
    /// One with this status and a sentence for whoever asked.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), more: Map::new(), fields: Box::default() }
    }

    /// 400: the request says something that has no meaning.
    pub fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: there is no such thing.
    pub fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 403: whoever asks may not do that.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 401: it is not known who asks.
    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, detail);
        // Browsers ask for name and password; the password is the key.
        let challenges = [r#"Bearer realm="ravelin admin""#, r#"Basic realm="ravelin admin""#];
        for challenge in challenges {
            problem.fields.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        problem
    }

    /// The same, and the end of the connection it goes to.
    pub(super) fn last(mut self) -> Self {
        self.fields.insert(CONNECTION, HeaderValue::from_static("close"));
        self
    }

    pub(super) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// 405: the path is there, with other methods.
    pub(super) fn other_methods(methods: &str) -> Self {
        let detail = format!("this path takes {methods}");
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, detail);
        problem.fields.extend(HeaderValue::from_str(methods).ok().map(|value| (ALLOW, value)));
        problem
    }

    /// 422: an order was refused; nothing has changed.
    pub fn refused(refused: Refused) -> Self {
        let Refused { diagnostics, json, reason } = refused;
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason);
        if !diagnostics.is_empty() {
            problem.more.insert("diagnostics".to_owned(), diagnostics.into());
        }
        if !json.is_empty() {
            problem.more.insert("findings".to_owned(), json.into());
        }
        problem
    }

    /// The answer that says so.
    pub(super) fn response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut value = json!({
            "type": "about:blank",
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(members) = value.as_object_mut() {
            members.extend(self.more);
        }
        let text = format!("{value}\n");
        let mut response = Response::of("application/problem+json", Body::Whole(text.into()));
        response.status = self.status;
        response.fields.extend(*self.fields);
        response
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(pieces, _) => {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(..) => SizeHint::default(),
        }
    }
}
