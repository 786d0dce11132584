//! `/v1/connections` and `/v1/websockets`: what is open, and how to end it.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use proxy::connections::{
    CLOSE_STATUSES, Close, Doing, Id, Listed, OpenView, Tunnel, TunnelView, Wanted,
};
use proxy::recorder::Filter;
use proxy::worker::Worker;
use serde_json::{Value, json};

use super::super::bounds::PAGE_MAX;
use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Field, Shape, has, may};
use super::super::{Problem, Request, Response, Running};
use super::exchanges::{EXCHANGE, FILTER, filter};
use super::{seconds, unix_millis};
use crate::stream::{self, Search};

pub(super) static ROUTES: &[Route] = &[
    Route::get("/v1/connections", "Open client connections.", connections)
        .query(&[
            CLIENT,
            may("doing", Shape::OneOf(DOING), "Only those that do this."),
            LIMIT,
            AFTER,
        ])
        .answer(Content::Json(&CONNECTIONS)),
    Route::to(
        "DELETE",
        "/v1/connections/{id}",
        "Ends a connection: at once if it is idle, else after its request, unless it is forced.",
        close,
    )
    .query(&[may("force", Shape::Bool, "Ends it also in the middle of a response.")])
    .answer(Content::Json(&CLOSED)),
    Route::get("/v1/websockets", "Open WebSockets.", websockets)
        .query(&[CLIENT, FILTER, LIMIT, AFTER])
        .answer(Content::Json(&WEBSOCKETS)),
    Route::to("DELETE", "/v1/websockets/{id}", "Ends a WebSocket.", close_websocket)
        .query(&[STATUS])
        .answer(Content::Json(&CLOSED)),
    Route::to(
        "DELETE",
        "/v1/websockets",
        "Ends the WebSockets that a filter lets pass.",
        close_all,
    )
    .query(&[FILTER, STATUS])
    .answer(Content::Json(&CLOSED)),
];

const CLIENT: Field = may("client", Shape::Text, "Only those of this address.");
const LIMIT: Field = may("limit", Shape::Integer, "At most so many; 100 if nothing is said.");
const AFTER: Field = may("after", Shape::Text, "Only those behind this id: what `next` said.");
const STATUS: Field = may(
    "status",
    Shape::Integer,
    "Where frames are looked at: the close status; 1012 if not said.",
);
const DOING: &[&str] = &["idle", "head", "exchange", "tunnel"];

static CLOSED: Shape =
    Shape::Object("Closed", &[has("closed", Shape::Integer, "How many were told to end.")]);

static CONNECTIONS: Shape = Shape::Object(
    "Connections",
    &[
        has("total", Shape::Integer, "How many are open."),
        has("connections", Shape::List(&CONNECTION), "By their ids."),
        has("next", Shape::Maybe(&Shape::Text), "There are more behind this id."),
    ],
);

static CONNECTION: Shape = Shape::Object(
    "Connection",
    &[
        has("id", Shape::Text, "What it is called."),
        has(
            "peer",
            Shape::Maybe(&Shape::Text),
            "Who is at the other end; `null` on a Unix socket.",
        ),
        has("listener", Shape::Integer, "The number of the listener."),
        has("protocol", Shape::OneOf(&["HTTP/1", "HTTP/2"]), "What is spoken."),
        has("tls", Shape::Maybe(&TLS), "What TLS agreed to; `null` on a plain connection."),
        has("since", Shape::Time, "When it was opened."),
        has("requests", Shape::Integer, "Requests that it brought."),
        has("request_bytes", Shape::Integer, "Content received with those that are over."),
        has("response_bytes", Shape::Integer, "Content sent for those."),
        has("streams", Shape::Maybe(&Shape::Integer), "Open streams, of HTTP/2."),
        has("doing", Shape::OneOf(DOING), "What it is doing."),
        has("doing_for", Shape::Number, "Since so many seconds."),
        has("site", Shape::Maybe(&Shape::Text), "The site of its request."),
        has("route", Shape::Maybe(&Shape::Text), "The route of its request."),
        has("pool", Shape::Maybe(&Shape::Text), "The pool of its request."),
        has("endpoint", Shape::Maybe(&Shape::Text), "The endpoint of its request."),
        has("closing", Shape::Bool, "It was told to end."),
    ],
);

static TLS: Shape = Shape::Object(
    "ConnectionTls",
    &[
        has("version", Shape::Text, "Its version."),
        has("cipher", Shape::Text, "The cipher suite."),
        has("server_name", Shape::Maybe(&Shape::Text), "The name that the client asked for."),
    ],
);

static WEBSOCKETS: Shape = Shape::Object(
    "WebSockets",
    &[
        has("total", Shape::Integer, "How many are open."),
        has("websockets", Shape::List(&WEBSOCKET), "By their ids."),
        has("next", Shape::Maybe(&Shape::Text), "There are more behind this id."),
    ],
);

static WEBSOCKET: Shape = Shape::Object(
    "WebSocket",
    &[
        has("id", Shape::Text, "What it is called."),
        has("connection", Shape::Text, "What its connection is called."),
        has("since", Shape::Time, "When it was opened."),
        has("framed", Shape::Bool, "Its frames are looked at."),
        has("received_bytes", Shape::Integer, "Bytes that came from the client."),
        has("sent_bytes", Shape::Integer, "Bytes that came from the upstream."),
        has("received_messages", Shape::Maybe(&Shape::Integer), "Likewise messages, if framed."),
        has("sent_messages", Shape::Maybe(&Shape::Integer), "Likewise messages, if framed."),
        has("closing", Shape::Bool, "It was told to end."),
        has("request", Shape::Same(&EXCHANGE), "The request that it was."),
    ],
);

fn connections(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let doing =
            match request.query("doing") {
                None => None,
                Some(word) => Some(Doing::of(word).ok_or_else(|| {
                    Problem::bad(format!("`doing` is one of {}", DOING.join(", ")))
                })?),
            };
        let (wanted, after) = wanted(&request)?;
        let wanted = Wanted { doing, ..wanted };
        let limit = wanted.limit;
        let look = move |worker: &Rc<Worker>| {
            worker.connections.list(&part(&wanted, after, worker.context.id))
        };
        let page = Page::of(running.workers.ask(look).await, limit, |view: &OpenView| view.id);
        let found: Vec<Value> = page.found.iter().map(connection).collect();
        let Page { total, next, .. } = page;
        Ok(Response::json(
            &json!({ "total": total, "connections": found, "next": next.map(|id| id.to_string()) }),
        ))
    })
}

fn websockets(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let filter = filter(&request)?.map(Arc::new);
        let (wanted, after) = wanted(&request)?;
        let page = match filter {
            None => tunnels(running, wanted, after).await,
            Some(filter) => searched(running, wanted, after, filter).await,
        };
        let found: Vec<Value> = page.found.iter().map(websocket).collect();
        let Page { total, next, .. } = page;
        Ok(Response::json(
            &json!({ "total": total, "websockets": found, "next": next.map(|id| id.to_string()) }),
        ))
    })
}

async fn tunnels(running: &Running, wanted: Wanted, after: Option<Id>) -> Page<TunnelView> {
    let limit = wanted.limit;
    let look = move |worker: &Rc<Worker>| {
        worker.connections.list_tunnels(&part(&wanted, after, worker.context.id))
    };
    Page::of(running.workers.ask(look).await, limit, |view: &TunnelView| view.id)
}

/// Those that a filter lets pass; it sees them as exchanges that have not ended yet.
async fn searched(
    running: &Running,
    wanted: Wanted,
    mut after: Option<Id>,
    filter: Arc<Filter>,
) -> Page<TunnelView> {
    let limit = wanted.limit;
    let search = Search::begin(filter).await;
    let mut found: Vec<TunnelView> = Vec::new();
    loop {
        let all = Wanted { limit: PAGE_MAX, ..wanted.clone() };
        let page = tunnels(running, all, after).await;
        let room = limit - found.len();
        found.extend(search.sift(page.found, room, |view| &view.kept).await);
        let full = found.len() >= limit;
        if full || page.next.is_none() {
            // There may be more behind the last one that was taken.
            let next = found.last().filter(|_| full).map(|view| view.id);
            return Page { total: page.total, found, next };
        }
        after = page.next;
    }
}

fn close(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let id = id(request.value(0))?;
        let how = if request.switch("force")? { Close::AtOnce } else { Close::Politely };
        let told = at(running, id, move |worker, number| worker.connections.close(number, how));
        answer(told.await, "no such connection")
    })
}

fn close_websocket(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let (id, status) = (id(request.value(0))?, status(&request)?);
        let told =
            at(running, id, move |worker, number| worker.connections.close_tunnel(number, status));
        answer(told.await, "no such WebSocket")
    })
}

fn close_all(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let status = status(&request)?;
        let Some(filter) = filter(&request)?.map(Arc::new) else {
            return Err(Problem::bad("say which: `filter=websocket` means all of them"));
        };
        let (mut closed, mut after) = (0, None);
        loop {
            let wanted = Wanted { limit: PAGE_MAX, ..Wanted::default() };
            let page = searched(running, wanted, after, Arc::clone(&filter)).await;
            let ids: Arc<[Id]> = page.found.iter().map(|view| view.id).collect();
            let close = move |worker: &Rc<Worker>| worker.connections.close_tunnels(&ids, status);
            closed += running.workers.ask(close).await.into_iter().sum::<usize>();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Response::json(&json!({ "closed": closed })))
    })
}

/// Has the worker of `id` do something with what is called so.
async fn at(
    running: &Running,
    id: Id,
    what: impl Fn(&Worker, u64) -> bool + Clone + Send + 'static,
) -> bool {
    let what = move |worker: &Rc<Worker>| worker.context.id == id.worker && what(worker, id.number);
    running.workers.ask(what).await.contains(&true)
}

fn answer(told: bool, missing: &str) -> Result<Response, Problem> {
    match told {
        true => Ok(Response::json(&json!({ "closed": 1 }))),
        false => Err(Problem::missing(missing)),
    }
}

fn id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(Problem::bad)
}

fn status(request: &Request) -> Result<u16, Problem> {
    let status = request.number("status")?.unwrap_or(Tunnel::GOING_AWAY);
    let reserved = matches!(status, 1004..=1006 | 1015..=2999);
    match CLOSE_STATUSES.contains(&status) && !reserved {
        true => Ok(status),
        false => Err(Problem::bad("a close status is from 1000 to 1014 or from 3000 to 4999")),
    }
}

/// What a request wants of a list, and behind which id.
fn wanted(request: &Request) -> Result<(Wanted, Option<Id>), Problem> {
    let client: Option<IpAddr> =
        request.number("client").map_err(|_| Problem::bad("`client` is an address"))?;
    let client = client.map(|ip| ip.to_canonical());
    let after = request.query("after").map(id).transpose()?;
    Ok((Wanted { after: None, limit: request.limit()?, client, doing: None }, after))
}

/// What one worker gives of that: ids are in the order of workers.
fn part(wanted: &Wanted, after: Option<Id>, worker: usize) -> Wanted {
    let wanted = wanted.clone();
    match after {
        Some(after) if worker < after.worker => Wanted { limit: 0, ..wanted },
        Some(after) if worker == after.worker => Wanted { after: Some(after.number), ..wanted },
        _ => wanted,
    }
}

/// A page of a list.
struct Page<V> {
    total: usize,
    found: Vec<V>,
    /// The last id, if there may be more behind it.
    next: Option<Id>,
}

impl<V> Page<V> {
    fn of(parts: Vec<Listed<V>>, limit: usize, id: impl Fn(&V) -> Id) -> Self {
        let total = parts.iter().map(|part| part.total).sum();
        // Each worker gave as many as there may be in all.
        let full = parts.iter().any(|part| limit > 0 && part.found.len() >= limit);
        let mut found: Vec<V> = parts.into_iter().flat_map(|part| part.found).collect();
        found.sort_by_key(&id);
        let more = full || found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(&id);
        Self { total, found, next }
    }
}

fn connection(view: &OpenView) -> Value {
    let [site, route, pool, endpoint] = &view.met;
    json!({
        "id": view.id.to_string(),
        "peer": view.peer.map(|peer| peer.to_string()),
        "listener": view.listener,
        "protocol": view.protocol,
        "tls": view.tls.as_ref().map(|(version, cipher, server_name)| json!({
            "version": version, "cipher": cipher, "server_name": server_name,
        })),
        "since": unix_millis(view.since_ms),
        "requests": view.requests,
        "request_bytes": view.request_bytes,
        "response_bytes": view.response_bytes,
        "streams": view.streams,
        "doing": view.doing.as_str(),
        "doing_for": seconds(view.doing_for),
        "site": site,
        "route": route,
        "pool": pool,
        "endpoint": endpoint,
        "closing": view.closing,
    })
}

fn websocket(view: &TunnelView) -> Value {
    let messages = |count| view.framed.then_some(count);
    json!({
        "id": view.id.to_string(),
        "connection": view.connection.to_string(),
        "since": unix_millis(view.since_ms),
        "framed": view.framed,
        "received_bytes": view.up.bytes,
        "sent_bytes": view.down.bytes,
        "received_messages": messages(view.up.messages),
        "sent_messages": messages(view.down.messages),
        "closing": view.closing,
        "request": stream::value(&view.kept.exchange()),
    })
}
