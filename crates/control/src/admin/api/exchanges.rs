//! `/v1/requests` and `/v1/events`: exchanges that are over, and those that end from now on.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use proxy::recorder::{Exchange, Filter, Kept, Which};
use serde_json::json;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Field, Shape, has, may};
use super::super::{Problem, Request, Response, Running};
use crate::stream::{self, RATE_MAX, Watching};

/// So often somebody who follows is told that there is nothing.
const HEARTBEAT_TIME: Duration = Duration::from_secs(5);
/// An event that is none.
const HEARTBEAT: &str = ":\n\n";
/// Pieces that wait for a follower who does not read, each with [`TOGETHER_MAX`] exchanges at most.
const PIECES: usize = 4;
/// Exchanges that are written together.
const TOGETHER_MAX: usize = 64;

pub(super) static ROUTES: &[Route] = &[
    Route::get("/v1/requests", "Requests that are over, as the recorder has them.", requests)
        .query(&[
            may("which", WHICH, "`last` if nothing is said; `slow` is of the last minutes."),
            FILTER,
            may("limit", Shape::Integer, "At most so many; 100 if nothing is said."),
        ])
        .answer(Content::Json(&REQUESTS)),
    Route::get("/v1/events", "Requests as they end, as server-sent events.", events)
        .query(&[FILTER, may("rate", Shape::Integer, "At most so many a second of each worker.")])
        .answer(Content::Text("text/event-stream")),
];

const WHICH: Shape = Shape::OneOf(&["last", "failed", "slow"]);

/// The parameter with a filter.
pub(super) const FILTER: Field =
    may("filter", Shape::Text, "A condition such as `status>=500 && site==\"main\"`.");

static REQUESTS: Shape = Shape::Object(
    "Requests",
    &[has("requests", Shape::List(&EXCHANGE), "The latest first; of `slow` the slowest.")],
);

/// An exchange.
pub(super) static EXCHANGE: Shape = Shape::Object(
    "Exchange",
    &[
        has("time", Shape::Time, "When its first byte came."),
        may("client", Shape::Text, "The client's address."),
        may("client_port", Shape::Integer, "0 where a trusted proxy speaks for the client."),
        may("user", Shape::Text, "Who asked, by credentials."),
        may("method", Shape::Text, "The method."),
        may(
            "target",
            Shape::Text,
            "The target as it is logged. Long texts are cut: they end in `…`.",
        ),
        may("host", Shape::Text, "The `Host`."),
        may("user_agent", Shape::Text, "The `User-Agent`."),
        may("site", Shape::Text, "The site."),
        may("route", Shape::Text, "The route's path."),
        may("pool", Shape::Text, "The pool."),
        may("endpoint", Shape::Text, "The URL of the last endpoint tried."),
        may("request_id", Shape::Text, "Its id."),
        has("status", Shape::Integer, "The status sent."),
        has("request_bytes", Shape::Integer, "Content received."),
        has("response_bytes", Shape::Integer, "Content sent."),
        may("protocol", Shape::Text, "The version of HTTP."),
        may("tls", TLS, "What its TLS connection agreed to."),
        has("listener", Shape::Integer, "The number of the listener."),
        may("attempts", Shape::Integer, "How many attempts were made."),
        may("reused", Shape::Bool, "The last one used a kept connection."),
        has("total", Shape::Number, "How long it took."),
        has(
            "phases",
            Shape::Map(&Shape::Number),
            "How long its steps took, as far as they were taken.",
        ),
        has("failed", Shape::Bool, "It broke off, was not served, or its status is 500 or above."),
        has("ended", Shape::Text, "`complete`, or who is to blame: `client`, `upstream`, `proxy`."),
        may("phase", Shape::Text, "What was being done when it failed."),
        may("cause", Shape::Text, "Why it failed."),
        may("reason", Shape::Text, "One name for all of that, as in the log."),
    ],
);

const TLS: Shape = Shape::Object(
    "Tls",
    &[
        has("version", Shape::Text, "Its version."),
        has("cipher", Shape::Text, "The cipher suite."),
        has("resumed", Shape::Bool, "An earlier session went on."),
    ],
);

/// The filter that a request gives, if it gives one.
pub(super) fn filter(request: &Request) -> Result<Option<Filter>, Problem> {
    let text = request.query("filter").filter(|text| !text.trim().is_empty());
    text.map(Filter::parse).transpose().map_err(|error| Problem::bad(error.to_string()))
}

fn requests(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let which = match request.query("which") {
            None | Some("last") => Which::Last,
            Some("failed") => Which::Failed,
            Some("slow") => Which::Slow,
            Some(_) => return Err(Problem::bad("`which` is `last`, `failed` or `slow`")),
        };
        let (limit, filter) = (request.limit()?, filter(&request)?);
        let found = stream::recorded(&running.workers, which, limit, filter.map(Arc::new)).await;
        let found: Vec<_> = found.iter().map(|kept| stream::value(&kept.exchange())).collect();
        Ok(Response::json(&json!({ "requests": found })))
    })
}

fn events(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let filter = filter(&request)?;
        let rate = request.number("rate")?.unwrap_or(RATE_MAX);
        let place = request.place()?;
        let Some(watching) = stream::watch(&running.workers, filter, rate).await else {
            let detail = "too many watch requests already; end one of them first";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        };
        let (pieces, body) = channel(PIECES);
        tokio::task::spawn_local(follow(watching, pieces));
        Ok(Response::events(body, place))
    })
}

/// Writes what is watched until nobody reads it any more.
async fn follow(mut watching: Watching, pieces: Sender<Bytes>) {
    // At once, so that whoever follows knows that nothing is missed from here on.
    let mut text = HEARTBEAT.to_owned();
    loop {
        let missed = watching.missed();
        if missed > 0 {
            let _ = write!(text, "event: missed\ndata: {{\"missed\":{missed}}}\n\n");
        }
        if pieces.send(std::mem::take(&mut text).into()).await.is_err() {
            return;
        }
        match next(&mut watching, &pieces).await {
            Some(Ok(found)) if !found.is_empty() => {
                for kept in &found {
                    write_event(&mut text, &kept.exchange());
                }
            }
            Some(Err(_nothing)) => text.push_str(HEARTBEAT),
            // The workers have ended, or nobody reads it any more.
            Some(Ok(_)) | None => return,
        }
    }
}

/// What is watched next, within the time for a heartbeat; `None` if nobody reads it any more.
async fn next(
    watching: &mut Watching,
    pieces: &Sender<Bytes>,
) -> Option<Result<Vec<Kept>, Elapsed>> {
    let mut gone = pin!(pieces.closed());
    let mut next = pin!(timeout(HEARTBEAT_TIME, watching.next(TOGETHER_MAX)));
    poll_fn(|cx| match gone.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => next.as_mut().poll(cx).map(Some),
    })
    .await
}

fn write_event(text: &mut String, exchange: &Exchange<'_>) {
    let value = stream::value(exchange);
    // A JSON text has no line break.
    let _ = write!(text, "event: exchange\ndata: {value}\n\n");
}

#[cfg(test)]
mod tests {
    use proxy::log::Record;

    use super::*;

    #[test]
    fn an_exchange_is_as_described_and_one_event() {
        let record =
            Record { target: b"/a\n\xff", method: b"GET", status: 200, ..Record::default() };
        let exchange = Exchange::of(&record);
        assert_eq!(EXCHANGE.mismatch(&stream::value(&exchange)), None);
        let mut text = String::new();
        write_event(&mut text, &exchange);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.starts_with("event: exchange\ndata: {") && text.ends_with("}\n\n"), "{text}");
    }
}
