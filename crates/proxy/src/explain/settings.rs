//! Limits and timeouts that apply to a request, and where each is written.

use std::time::Duration;

use config::model::{Concurrency, Timeouts};
use config::places::Place;

use super::{Explanation, Setting};
use crate::decide::{Decision, Matched};
use crate::snapshot::Snapshot;

/// What the settings are of.
pub(super) struct Where<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// The site's index.
    pub(super) site: usize,
    /// The route's, if one takes the request.
    pub(super) route: Option<usize>,
}

impl Where<'_> {
    pub(super) fn top(&self, keys: &[&str]) -> Option<Place> {
        self.snapshot.places.top(keys)
    }

    pub(super) fn site(&self, keys: &[&str]) -> Option<Place> {
        self.snapshot.places.site(self.site, keys)
    }

    pub(super) fn route(&self, keys: &[&str]) -> Option<Place> {
        self.snapshot.places.route(self.site, self.route?, keys)
    }

    pub(super) fn pool(&self, pool: &str, keys: &[&str]) -> Option<Place> {
        self.snapshot.places.pool(self.site, pool, keys)
    }
}

/// Those that hold for clients.
pub(super) fn of_clients(out: &mut Explanation, at: &Where<'_>, met: &Decision<'_>) {
    let limits = &at.snapshot.limits;
    let mut add = |name, value: String, place| out.settings.push(Setting { name, value, place });
    add("head_size", bytes(limits.head_size as u64), at.top(&["limits", "head_size"]));
    add("fields", limits.fields.to_string(), at.top(&["limits", "fields"]));
    add("head_timeout", seconds(limits.head_timeout), at.top(&["limits", "head_timeout"]));
    let rate = match limits.body_min_rate {
        0 => "none".to_owned(),
        rate => format!("{rate} B/s after {}", seconds(limits.body_grace)),
    };
    add("body_min_rate", rate, at.top(&["limits", "body_min_rate"]));
    let guards = met.route.map_or(&met.site.guards, |route| &route.guards);
    let place =
        at.route(&["max_request_size"]).or_else(|| at.top(&["security", "max_request_size"]));
    add("max_request_size", guards.max_body().map_or_else(none, bytes), place);
}

/// Those that hold for a request to an upstream.
pub(super) fn of_upstreams(out: &mut Explanation, at: &Where<'_>, matched: &Matched<'_>) {
    let pool = matched.pool;
    let name = &pool.name;
    let settings = &pool.settings;
    let Timeouts { connect, first_byte, read, write, tunnel, request } = settings.timeout;
    let mut add = |name, value: String, place| out.settings.push(Setting { name, value, place });
    let max = matched.route.max_response_size.map_or_else(none, bytes);
    add("max_response_size", max, at.route(&["max_response_size"]));
    let timeout = |key| at.pool(name, &["timeout", key]);
    add("timeout.connect", seconds(connect), timeout("connect"));
    let place = timeout("first_byte").or_else(|| timeout("read"));
    add("timeout.first_byte", seconds(first_byte), place);
    add("timeout.read", seconds(read), timeout("read"));
    add("timeout.write", seconds(write), timeout("write"));
    match matched.upgrade {
        true => add("timeout.tunnel", seconds(tunnel), timeout("tunnel")),
        false => {
            add("timeout.request", request.map_or_else(none, seconds), timeout("request"));
        }
    }
    let retry = &settings.retry;
    add("retry.attempts", retry.attempts.to_string(), at.pool(name, &["retry", "attempts"]));
    let Concurrency { max, .. } = settings.concurrency;
    if let Some(max) = max {
        add("concurrency.max", max.to_string(), at.pool(name, &["concurrency", "max"]));
    }
    if settings.health_checks.is_empty() {
        add("health_check", none(), None);
    } else {
        let place = at.pool(name, &["health_check"]);
        add("health_check", settings.health_checks.len().to_string(), place);
    }
    let buffering = &matched.proxy.buffering;
    for (key, on) in
        [("buffering.request", buffering.request), ("buffering.response", buffering.response)]
    {
        if on {
            let below = key.rsplit('.').next().unwrap_or(key);
            add(key, "on".to_owned(), at.site(&["proxy", "buffering", below]));
        }
    }
    if buffering.request || buffering.response {
        let place = |key| at.site(&["proxy", "buffering", key]);
        add("buffering.memory", bytes(buffering.memory as u64), place("memory"));
        add("buffering.max", bytes(buffering.max), place("max"));
    }
}

fn none() -> String {
    "none".to_owned()
}

fn seconds(time: Duration) -> String {
    format!("{time:?}")
}

fn bytes(count: u64) -> String {
    const UNITS: &[(u64, &str)] = &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(size, _)| count >= *size && count.is_multiple_of(*size));
    match unit {
        Some((size, name)) => format!("{} {name}", count / size),
        None => format!("{count} B"),
    }
}
