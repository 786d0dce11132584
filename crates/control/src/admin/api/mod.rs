//! What the admin API answers, one file a part. Each has its routes with the forms of what goes in and out
//! above the handlers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::routes::Route;

mod cache;
mod certificates;
mod config;
mod connections;
mod dashboard;
mod document;
mod endpoints;
mod exchanges;
mod explain;
mod metrics;
mod orders;
mod status;
mod timeline;
mod traffic;

/// Everything there is.
pub(super) static ROUTES: &[&[Route]] = &[
    document::ROUTES,
    status::ROUTES,
    config::ROUTES,
    orders::ROUTES,
    endpoints::ROUTES,
    cache::ROUTES,
    certificates::ROUTES,
    connections::ROUTES,
    exchanges::ROUTES,
    explain::ROUTES,
    metrics::ROUTES,
    traffic::ROUTES,
    timeline::ROUTES,
    dashboard::ROUTES,
];

/// Seconds with three places.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// A time as RFC 3339 writes it.
fn time(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The same from milliseconds since 1970.
fn unix_millis(millis: u64) -> String {
    let mut text = Vec::new();
    proxy::log::rfc3339(&mut text, millis.saturating_mul(1000));
    String::from_utf8_lossy(&text).into_owned()
}
