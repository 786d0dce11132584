//! HTTP on one connection of the admin API: from a head to its answer, with a limit on each step.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use config::model::AdminLevel;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::gate::{Caller, Pass};
use super::places::{Answering, Asked, Seat};
use super::response::{Body, Problem, Response};
use super::routes::{Content, Found, Route, find};
use super::{Request, State, bounds, query};

/// The only path at the address for metrics.
const METRICS: &str = "/metrics";

/// Answers requests until the connection ends.
pub(super) async fn serve<S>(state: Rc<State>, caller: Caller, stream: S, seat: Rc<Seat>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let caller = Rc::new(caller);
    let service = service_fn(move |request| {
        let (state, caller, asked) = (Rc::clone(&state), Rc::clone(&caller), seat.ask());
        async move { Ok::<_, Infallible>(answer(&state, &caller, request, asked).await) }
    });
    let connection = bounds::http().serve_connection(TokioIo::new(stream), service);
    // That a client breaks off, or what it sends is no HTTP, is its own affair.
    let _ = connection.await;
}

async fn answer(
    state: &State,
    caller: &Caller,
    request: http::Request<Incoming>,
    asked: Asked,
) -> http::Response<Answering<Body>> {
    let (parts, body) = request.into_parts();
    let answered = answer_to(state, caller, &parts, body, &asked).await;
    let response = answered.unwrap_or_else(Problem::response).finish();
    response.map(|body| asked.answering(body))
}

async fn answer_to(
    state: &State,
    caller: &Caller,
    parts: &Parts,
    body: Incoming,
    asked: &Asked,
) -> Result<Response, Problem> {
    if parts.uri.authority().is_some() || !parts.uri.path().starts_with('/') {
        return Err(Problem::bad("the target of a request is a path here"));
    }
    let path = parts.uri.path();
    let found = match (caller, path) {
        (Caller::Metrics { .. }, METRICS) | (Caller::Unix(_) | Caller::Tcp { .. }, _) => {
            find(&parts.method, path)
        }
        (Caller::Metrics { .. }, _) => Found::Nothing,
    };
    let open = matches!(&found, Found::Route(Route { level: None, .. }, _));
    let gate = Rc::clone(&state.gate.borrow());
    let pass = gate.check(caller, &parts.headers, &parts.method, open).map_err(|problem| {
        state.running.log.debug(format_args!("admin: {caller:?} is turned away: {problem:?}"));
        if problem.is_unauthorized() {
            tell_keyless(state, caller);
        }
        // Who has no key keeps no place from those who have.
        problem.last()
    })?;
    let (route, values) = match found {
        Found::Route(route, values) => (route, values),
        Found::OtherMethods(methods) => return Err(Problem::other_methods(&methods)),
        Found::Nothing => {
            return Err(Problem::missing(format!(
                "there is nothing at {path}; GET /openapi.json lists what there is"
            )));
        }
    };
    if !matches!(caller, Caller::Metrics { .. }) {
        allowed(route, &pass)?;
    }
    let query = known_query(route, parts.uri.query().unwrap_or_default())?;
    let body = whole(route, body).await?;
    asked.is_whole();
    let media_type = media_type(&parts.headers);
    check_body(route, &media_type, &body)?;
    let request = Request {
        author: pass.author,
        level: pass.level.unwrap_or(AdminLevel::User),
        values,
        query,
        accept: accept(&parts.headers),
        media_type,
        body,
        followers: state.followers.clone(),
    };
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let (author, method) = (&request.author, &parts.method);
        state.running.log.info(format_args!("admin: {author}: {method} {path}"));
    }
    let answered = timeout(route.time, (route.handler)(&state.running, request)).await;
    answered.unwrap_or_else(|_| {
        let detail = format!("it was not done within {} s", route.time.as_secs());
        Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, detail))
    })
}

/// Tells of requests without the right key, now and then: somebody may try one after the other.
fn tell_keyless(state: &State, caller: &Caller) {
    let (told, more) = state.keyless.get();
    let now = Instant::now();
    if told.is_some_and(|told| now.duration_since(told) < bounds::KEYLESS_TOLD) {
        state.keyless.set((told, more.saturating_add(1)));
        return;
    }
    state.keyless.set((Some(now), 0));
    let Caller::Tcp { peer, .. } = caller else { return };
    let more = match more {
        0 => String::new(),
        more => format!(" (and {more} more since this was last told)"),
    };
    let peer = peer.ip().to_canonical();
    state.running.log.warn(format_args!("admin: a request of {peer} has not the right key{more}"));
}

/// Whether the one who asks may.
fn allowed(route: &Route, pass: &Pass) -> Result<(), Problem> {
    let Some(needed) = route.level else { return Ok(()) };
    if pass.level >= Some(needed) {
        return Ok(());
    }
    let has = pass.level.map_or("nobody", AdminLevel::as_str);
    let needed = needed.as_str();
    Err(Problem::forbidden(format!("this needs the level {needed}, and you have {has}")))
}

/// The query, if the route knows every name in it: what is misspelled is not passed over.
fn known_query(route: &Route, query: &str) -> Result<Vec<(String, String)>, Problem> {
    let pairs = query::pairs(query).ok_or_else(|| Problem::bad("the query cannot be read"))?;
    let known = |name: &str| route.query.iter().any(|field| field.name == name);
    let Some((name, _)) = pairs.iter().find(|(name, _)| !known(name)) else { return Ok(pairs) };
    let names: Vec<String> = route.query.iter().map(|field| format!("`{}`", field.name)).collect();
    Err(Problem::bad(match names.is_empty() {
        true => format!("`{name}` has no meaning here, nor has any other parameter"),
        false => format!("`{name}` has no meaning here; there is {}", names.join(", ")),
    }))
}

/// The body, within the route's bound.
async fn whole(route: &Route, body: Incoming) -> Result<Bytes, Problem> {
    let max = route.body_max;
    let collected = timeout(bounds::BODY_TIME, Limited::new(body, max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body is longer than {max} bytes");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Ok(Err(error)) => Err(Problem::bad(format!("the body cannot be read: {error}"))),
        Err(_) => {
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come to its end"))
        }
    }
}

/// Whether the body is of a kind that the route takes.
fn check_body(route: &Route, media_type: &str, body: &Bytes) -> Result<(), Problem> {
    match route.body {
        // What is not asked for does no harm.
        Content::None | Content::JsonOrText(_) | Content::Text(_) => Ok(()),

        Content::Json(_) if body.is_empty() || media_type == "application/json" => Ok(()),
        Content::Json(_) => {
            let detail = "the body is to be JSON, and `Content-Type: application/json` to say so";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

fn accept(fields: &HeaderMap) -> String {
    let all = fields.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    all.collect::<Vec<_>>().join(", ")
}

fn media_type(fields: &HeaderMap) -> String {
    let value = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let value = value.split(';').next().unwrap_or_default();
    value.trim().to_ascii_lowercase()
}
