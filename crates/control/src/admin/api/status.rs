//! `/v1/status`: what runs here, and since when.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use config::model::Listen;
use proxy::snapshot::Listener;
use serde_json::{Value, json};

use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Shape, has};
use super::super::{Request, Response, Running};
use super::{seconds, time};

pub(super) static ROUTES: &[Route] =
    &[Route::get("/v1/status", "What runs here, and since when.", status)
        .answer(Content::Json(&STATUS))];

static STATUS: Shape = Shape::Object(
    "Status",
    &[
        has("version", Shape::Text, "The version of Ravelin."),
        has("pid", Shape::Integer, "The process."),
        has("started", Shape::Time, "When it began to serve."),
        has("uptime", Shape::Number, "Seconds since then."),
        has("generation", Shape::Integer, "The number of the configuration in force."),
        has("configuration", Shape::List(&Shape::Text), "The files it was read from."),
        has("listeners", Shape::List(&Shape::Text), "Addresses that are served."),
        has("sites", Shape::List(&Shape::Text), "Names of the sites."),
        has("connections", Shape::Integer, "Client connections now."),
        has("accepted", Shape::Integer, "Client connections since the start."),
        has("refused", Shape::Integer, "Those that were closed for their number."),
        has("workers", Shape::List(&WORKER), "Each worker's part of that."),
    ],
);

static WORKER: Shape = Shape::Object(
    "Worker",
    &[
        has("connections", Shape::Integer, "Client connections now."),
        has("accepted", Shape::Integer, "Connections it took."),
        has("handed_over", Shape::Integer, "Of those, how many it gave to another worker."),
        has("shortages", Shape::Integer, "Times it lacked descriptors or memory."),
        has("errors", Shape::Integer, "Other failures of accepting."),
    ],
);

fn status(running: &Running, _: Request) -> Answer<'_> {
    Box::pin(async { Ok(Response::json(&value(running))) })
}

fn value(running: &Running) -> Value {
    let counters = running.workers.counters();
    let sum = |of: fn(&net::worker::Counters) -> u64| counters.iter().map(of).sum::<u64>();
    let uptime = running.started.elapsed();
    let history = running.history.borrow();
    let in_force = history.get(history.in_force());
    let files = in_force.map(|entry| {
        entry.texts.iter().map(|text| text.path.display().to_string()).collect::<Vec<_>>()
    });
    let model = running.model.borrow();
    let snapshot = running.snapshot.borrow();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started": time(SystemTime::now().checked_sub(uptime).unwrap_or(UNIX_EPOCH)),
        "uptime": seconds(uptime),
        "generation": history.in_force(),
        "configuration": files.unwrap_or_default(),
        "listeners": snapshot.listeners.iter().map(listen).collect::<Vec<_>>(),
        "sites": model.sites.iter().map(|site| site.name.as_str()).collect::<Vec<_>>(),
        "connections": sum(|one| one.connections as u64),
        "accepted": sum(|one| one.accepted),
        "refused": sum(|one| one.refused),
        "workers": counters.iter().map(|one| json!({
            "connections": one.connections,
            "accepted": one.accepted,
            "handed_over": one.handed_over,
            "shortages": one.shortages,
            "errors": one.errors,
        })).collect::<Vec<_>>(),
    })
}

/// An address as it is really listened at.
fn listen(listener: &Listener) -> String {
    match &listener.listen {
        Listen::Port(_) => format!("*:{}", listener.port),
        Listen::Address(address) => SocketAddr::new(address.ip(), listener.port).to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}
