//! `/v1/traffic`: what was counted of requests, so that whoever asks twice knows what happened in between.

use proxy::metrics::{BUCKETS, Histogram, MemberCounts, RouteCounts, bound};
use serde_json::{Value, json};

use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Shape, has};
use super::super::{Request, Response, Running};
use super::seconds;
use crate::metrics::gather;

pub(super) static ROUTES: &[Route] = &[Route::get(
    "/v1/traffic",
    "Requests and latencies by route and endpoint, since the start.",
    traffic,
)
.answer(Content::Json(&TRAFFIC))];

static TRAFFIC: Shape = Shape::Object(
    "Traffic",
    &[
        has("uptime", Shape::Number, "Seconds since the start."),
        has("connections", Shape::Integer, "Client connections now."),
        has("requests", Shape::Integer, "Requests that began."),
        has("active", Shape::Integer, "Those of them that have not ended."),
        has("refused", Shape::Integer, "Requests whose head was refused."),
        has("bounds", Shape::List(&Shape::Number), "Upper bounds of `buckets`, in seconds."),
        has("routes", Shape::List(&ROUTE), "By site and path; the path is empty for no route."),
        has("endpoints", Shape::List(&ENDPOINT), "By site, pool and URL."),
    ],
);

static ROUTE: Shape = Shape::Object(
    "RouteTraffic",
    &[
        has("site", Shape::Text, "The site."),
        has("route", Shape::Text, "The route's path."),
        has("requests", Shape::Integer, "Requests that have ended."),
        has("classes", CLASSES, "Those with a status of no class, 1xx, 2xx, 3xx, 4xx, 5xx."),
        has("request_bytes", Shape::Integer, "Content received."),
        has("response_bytes", Shape::Integer, "Content sent."),
        has("websockets", Shape::Integer, "WebSockets that are open."),
        has("buckets", Shape::List(&Shape::Integer), "How many took how long, without WebSockets."),
        has("seconds", Shape::Number, "How long those took together."),
    ],
);

static ENDPOINT: Shape = Shape::Object(
    "EndpointTraffic",
    &[
        has("site", Shape::Text, "The site."),
        has("pool", Shape::Text, "The pool."),
        has("endpoint", Shape::Text, "Its URL."),
        has("requests", Shape::Integer, "Attempts that have ended."),
        has(
            "failures",
            Shape::Integer,
            "Those that failed, those with a response that broke off included.",
        ),
        has("classes", CLASSES, "Responses of no class, 1xx, 2xx, 3xx, 4xx, 5xx."),
        has("request_bytes", Shape::Integer, "Content sent to it."),
        has("response_bytes", Shape::Integer, "Content that came from it."),
        has("buckets", Shape::List(&Shape::Integer), "How many response heads took how long."),
        has("seconds", Shape::Number, "How long those took together."),
    ],
);

const CLASSES: Shape = Shape::List(&Shape::Integer);

fn traffic(running: &Running, _: Request) -> Answer<'_> {
    Box::pin(async move {
        let (workers, live) = (&running.workers, &running.live);
        let counted = workers.ask(|worker| worker.metrics.worker()).await;
        let sum =
            |of: fn(&proxy::metrics::WorkerCounts) -> u64| counted.iter().map(of).sum::<u64>();
        let (begun, ended) = (sum(|one| one.begun), sum(|one| one.ended));
        let routes = gather::routes(workers, live).await;
        let endpoints = gather::members(workers, live).await;
        let connections: usize = workers.counters().iter().map(|one| one.connections).sum();
        Ok(Response::json(&json!({
            "uptime": seconds(running.started.elapsed()),
            "connections": connections,
            "requests": begun,
            "active": begun.saturating_sub(ended),
            "refused": sum(|one| one.refused),
            "bounds": (0..BUCKETS).map(|index| bound(index) as f64 / 1e6).collect::<Vec<_>>(),
            "routes": routes.iter().map(|(labels, counts)| route(labels, counts)).collect::<Vec<_>>(),
            "endpoints": endpoints
                .iter()
                .map(|(labels, counts)| endpoint(labels, counts))
                .collect::<Vec<_>>(),
        })))
    })
}

fn route(labels: &[String], counts: &RouteCounts) -> Value {
    json!({
        "site": labels.first(),
        "route": labels.get(1),
        "requests": counts.classes.iter().sum::<u64>(),
        "classes": counts.classes,
        "request_bytes": counts.request_bytes,
        "response_bytes": counts.response_bytes,
        "websockets": counts.sockets_opened.saturating_sub(counts.sockets_closed),
        "buckets": buckets(&counts.duration),
        "seconds": counts.duration.sum_micros() as f64 / 1e6,
    })
}

fn endpoint(labels: &[String], counts: &MemberCounts) -> Value {
    let failures: u64 = counts.failures.iter().sum();
    json!({
        "site": labels.first(),
        "pool": labels.get(1),
        "endpoint": labels.get(2),
        "requests": counts.attempts,
        "failures": failures,
        "classes": counts.classes,
        "request_bytes": counts.request_bytes,
        "response_bytes": counts.response_bytes,
        "buckets": buckets(&counts.first_byte),
        "seconds": counts.first_byte.sum_micros() as f64 / 1e6,
    })
}

/// How many there are in each bucket, the one without a bound at the end.
fn buckets(histogram: &Histogram) -> Vec<u64> {
    let mut below = 0;
    let cumulative = histogram.cumulative().map(|(_, count)| count).chain([histogram.count()]);
    cumulative.map(|count| count - std::mem::replace(&mut below, count).min(count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_described_and_buckets_add_up() {
        let mut counts = RouteCounts::default();
        for micros in [10, 150, 150, u64::from(u32::MAX)] {
            counts.duration.observe(micros);
        }
        let labels = ["main".to_owned(), "/".to_owned()];
        let value = route(&labels, &counts);
        assert_eq!(ROUTE.mismatch(&value), None);
        let buckets = buckets(&counts.duration);
        assert_eq!((buckets.len(), buckets[..3].to_vec()), (BUCKETS + 1, vec![1, 2, 0]));
        assert_eq!((buckets.last(), buckets.iter().sum::<u64>()), (Some(&1), 4));
        let labels = ["main".to_owned(), "b".to_owned(), "http://10.0.0.1".to_owned()];
        assert_eq!(ENDPOINT.mismatch(&endpoint(&labels, &MemberCounts::default())), None);
    }
}
