//! `/v1/endpoints`: every endpoint of every pool, and what an operator says of it.

use config::model::UpstreamState;
use proxy::snapshot::Snapshot;
use serde_json::{Value, json};

use super::super::bounds::BODY_MAX;
use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Shape, has, may};
use super::super::{Problem, Request, Response, Running};
use super::{seconds, unix_millis};
use crate::endpoints::{EndpointView, Named, NotFound, PoolView, find, pool_views};

/// Largest weight that may be given, as in the configuration.
const WEIGHT_MAX: u32 = 65_535;

pub(super) static ROUTES: &[Route] = &[
    Route::get("/v1/endpoints", "Every pool with its endpoints.", list)
        .query(&[
            may("site", Shape::Text, "Only those of this site."),
            may("pool", Shape::Text, "Only those of this pool."),
        ])
        .answer(Content::Json(&POOLS)),
    Route::to(
        "POST",
        "/v1/endpoints/{pool}/{endpoint}/drain",
        "No new clients for it; those that stick to it go on.",
        drain,
    )
    .answer(Content::Json(&ENDPOINTS)),
    Route::to(
        "POST",
        "/v1/endpoints/{pool}/{endpoint}/maintenance",
        "No requests for it.",
        maintenance,
    )
    .answer(Content::Json(&ENDPOINTS)),
    Route::to("POST", "/v1/endpoints/{pool}/{endpoint}/enable", "It is used again.", enable)
        .answer(Content::Json(&ENDPOINTS)),
    Route::to(
        "PUT",
        "/v1/endpoints/{pool}/{endpoint}/weight",
        "Gives it a weight, until it is given another or the process ends.",
        weight,
    )
    .body(Content::Json(&WEIGHT), BODY_MAX)
    .answer(Content::Json(&ENDPOINTS)),
];

static WEIGHT: Shape = Shape::Object(
    "Weight",
    &[has("weight", Shape::Maybe(&Shape::Integer), "0 to 65535; `null`: as configured.")],
);

static POOLS: Shape =
    Shape::Object("Pools", &[has("pools", Shape::List(&POOL), "In declared order.")]);

static ENDPOINTS: Shape = Shape::Object(
    "Endpoints",
    &[has("endpoints", Shape::List(&ENDPOINT), "Those that the name means, as they are now.")],
);

static POOL: Shape = Shape::Object(
    "Pool",
    &[
        has("name", Shape::Text, "Its name in paths: with that of its site where two have one."),
        has("configured_name", Shape::Text, "Its name in the configuration."),
        has("site", Shape::Text, "Its site."),
        has("waiting", Shape::Integer, "Requests that wait because every endpoint is full."),
        has("in_flight", Shape::Integer, "Requests in flight."),
        has("max_in_flight", Shape::Maybe(&Shape::Integer), "Most of them, where that is bounded."),
        has("breaker", Shape::Maybe(&Shape::Text), "State of its breaker, if it has one."),
        has("endpoints", Shape::List(&ENDPOINT), "In declared order."),
    ],
);

static ENDPOINT: Shape = Shape::Object(
    "Endpoint",
    &[
        has("name", Shape::Text, "Its name in paths."),
        has("pool", Shape::Text, "The name of its pool in paths."),
        has("site", Shape::Text, "Its site."),
        has("url", Shape::Text, "As configured."),
        has("address", Shape::Maybe(&Shape::Text), "`null` while its host name is not resolved."),
        has(
            "status",
            Shape::OneOf(&["up", "drain", "maint", "down", "failing", "ejected", "unresolved"]),
            "What it is now.",
        ),
        has("why", Shape::Text, "Why it is that; empty where it is just up."),
        has("since", Shape::Time, "Since when it is up, down or set so."),
        has("steered", Shape::Maybe(&STATE), "What an operator said of it at run time."),
        has("weight", Shape::Integer, "Its weight now."),
        has("configured_weight", Shape::Integer, "Its weight in the configuration."),
        has("priority", Shape::Integer, "Above 0 it is a backup."),
        has("in_flight", Shape::Integer, "Requests in flight."),
        has("max_conns", Shape::Maybe(&Shape::Integer), "Most of them, where that is bounded."),
        has("downs", Shape::Integer, "How often checks found it down."),
        has("down_for", Shape::Number, "For how many seconds in all."),
        has("failed_checks", Shape::Integer, "Checks that failed while it was up."),
        has("ejected_for", Shape::Maybe(&Shape::Number), "Seconds that it stays ejected."),
        has("left_out_for", Shape::Maybe(&Shape::Number), "Seconds that it stays left out."),
        has("check_failure", Shape::Maybe(&Shape::Text), "Why the last check failed, if it did."),
        has("requests", Shape::Integer, "Attempts that have ended."),
        has("bytes_out", Shape::Integer, "Bytes of requests that went to it."),
        has("bytes_in", Shape::Integer, "Bytes of responses that came from it."),
        has("connect_errors", Shape::Integer, "Attempts without a connection."),
        has("response_errors", Shape::Integer, "Attempts without a whole response."),
        has("responses", Shape::List(&Shape::Integer), "Of the classes 1xx to 5xx."),
    ],
);

static STATE: Shape = Shape::OneOf(&["up", "drain", "maint"]);

fn list(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let is = |name: &str, one: &str| request.query(name).is_none_or(|asked| asked == one);
        let pools: Vec<Value> = views(running)
            .await
            .iter()
            .filter(|pool| {
                is("site", &pool.site) && (is("pool", &pool.name) || is("pool", &pool.pool))
            })
            .map(pool)
            .collect();
        Ok(Response::json(&json!({ "pools": pools })))
    })
}

fn drain(running: &Running, request: Request) -> Answer<'_> {
    steered(running, request, Some(UpstreamState::Drain))
}

fn maintenance(running: &Running, request: Request) -> Answer<'_> {
    steered(running, request, Some(UpstreamState::Down))
}

fn enable(running: &Running, request: Request) -> Answer<'_> {
    steered(running, request, Some(UpstreamState::Up))
}

fn steered(running: &Running, request: Request, state: Option<UpstreamState>) -> Answer<'_> {
    Box::pin(async move {
        say(running, &request, |named| {
            named.steer(&running.log, &request.author, state);
        })
        .await
    })
}

fn weight(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let value = request.json()?;
        if let Some(wrong) = WEIGHT.mismatch(&value) {
            return Err(Problem::bad(format!("the body is not as described: {wrong}")));
        }
        let weight = value.get("weight").and_then(Value::as_i64);
        let weight = match weight.map(u32::try_from) {
            None => None,
            Some(Ok(weight)) if weight <= WEIGHT_MAX => Some(weight),
            Some(_) => return Err(Problem::bad(format!("a weight is from 0 to {WEIGHT_MAX}"))),
        };
        say(running, &request, |named| {
            named.set_weight(&running.log, &request.author, weight);
        })
        .await
    })
}

/// Tells the endpoints that the path names, and answers with what has become of them.
async fn say(
    running: &Running,
    request: &Request,
    what: impl Fn(&Named<'_>),
) -> Result<Response, Problem> {
    let (pool, name) = (request.value(0), request.value(1));
    let snapshot = running.snapshot.borrow().clone();
    let (place, labels) = {
        let named = named(&snapshot, pool, name)?;
        what(&named);
        let labels = named.members.iter().map(|member| member.url.clone()).collect::<Vec<_>>();
        ((named.site.name.clone(), named.pool.name.clone()), labels)
    };
    let views = views(running).await;
    let is_pool = |one: &&PoolView| (&one.site, &one.pool) == (&place.0, &place.1);
    let all =
        views.iter().filter(is_pool).flat_map(|one| one.endpoints.iter().map(move |it| (one, it)));
    let meant = all.filter(|(_, one)| one.name == name || labels.contains(&one.url));
    let endpoints: Vec<Value> = meant.map(|(pool, one)| endpoint(pool, one)).collect();
    Ok(Response::json(&json!({ "endpoints": endpoints })))
}

fn named<'a>(snapshot: &'a Snapshot, pool: &str, name: &str) -> Result<Named<'a>, Problem> {
    find(snapshot, pool, name).map_err(|missing| {
        Problem::missing(match missing {
            NotFound::Pool => format!("there is no pool `{pool}`; GET /v1/endpoints lists them"),
            NotFound::Endpoint => {
                format!("the pool `{pool}` has no endpoint `{name}`; GET /v1/endpoints lists them")
            }
        })
    })
}

async fn views(running: &Running) -> Vec<PoolView> {
    let snapshot = running.snapshot.borrow().clone();
    let mut views = pool_views(&snapshot);
    let counts = crate::metrics::gather::members(&running.workers, &running.live).await;
    crate::endpoints::count(&mut views, &counts);
    views
}

fn pool(pool: &PoolView) -> Value {
    json!({
        "name": pool.name,
        "configured_name": pool.pool,
        "site": pool.site,
        "waiting": pool.waiting,
        "in_flight": pool.in_flight,
        "max_in_flight": pool.max_in_flight,
        "breaker": pool.breaker.map(|state| format!("{state:?}").to_lowercase()),
        "endpoints": pool.endpoints.iter().map(|one| endpoint(pool, one)).collect::<Vec<_>>(),
    })
}

fn endpoint(pool: &PoolView, one: &EndpointView) -> Value {
    let state = |state| match state {
        UpstreamState::Up => "up",
        UpstreamState::Drain => "drain",
        UpstreamState::Down => "maint",
    };
    let check = one.check.as_ref();
    json!({
        "name": one.name,
        "pool": pool.name,
        "site": one.site,
        "url": one.url,
        "address": one.address,
        "status": one.status.as_str(),
        "why": one.why,
        "since": unix_millis(one.since),
        "steered": one.steered.map(state),
        "weight": one.weight,
        "configured_weight": one.configured_weight,
        "priority": one.priority,
        "in_flight": one.in_flight,
        "max_conns": one.max_conns,
        "downs": one.downs,
        "down_for": seconds(one.down_for),
        "failed_checks": one.failed_checks,
        "ejected_for": one.ejected_for.map(seconds),
        "left_out_for": one.left_out_for.map(seconds),
        "check_failure": check.and_then(|check| check.failure.clone()),
        "requests": one.counters.requests,
        "bytes_out": one.counters.bytes_out,
        "bytes_in": one.counters.bytes_in,
        "connect_errors": one.counters.connect_errors,
        "response_errors": one.counters.response_errors,
        "responses": one.counters.classes,
    })
}
