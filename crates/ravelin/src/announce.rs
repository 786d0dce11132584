//! What the log says at the start and at the end.

use std::time::Duration;

use config::Model;
use config::model::{HostPattern, PathMatch, Pool, RouteAction, Site};
use net::listener::Local;
use net::worker::Workers;

use crate::configuration::count;

/// A configuration may have thousands of sites; the log shows the first ones.
const SITES_SHOWN: usize = 20;
/// Routes, hosts and upstreams shown of one site.
const PARTS_SHOWN: usize = 8;

/// The first line.
pub(crate) fn start(workers: usize, connections: Option<usize>) -> String {
    let connections = match connections {
        Some(number) => format!("up to {number} connections"),
        None => "connections as many as may be".to_owned(),
    };
    let version = env!("CARGO_PKG_VERSION");
    format!("ravelin {version}: {}, {connections}", count(workers, "worker"))
}

/// The lines that say that it serves: each address on its own line, last in it, then each site.
pub(crate) fn serving(model: &Model, addresses: &[Local]) -> Vec<String> {
    let mut lines: Vec<String> =
        addresses.iter().map(|address| format!("listening on {address}")).collect();
    let served = || model.sites.iter();
    lines.extend(served().take(SITES_SHOWN).map(about_site));
    let more = served().count().saturating_sub(SITES_SHOWN);
    if more > 0 {
        lines.push(format!("and {more} more sites"));
    }
    lines
}

/// The last line.
pub(crate) fn end<S>(workers: &Workers<S>, after: Duration) -> String {
    let counters = workers.counters();
    let sum = |of: fn(&net::worker::Counters) -> u64| counters.iter().map(of).sum::<u64>();
    let (accepted, refused) = (sum(|one| one.accepted), sum(|one| one.refused));
    let accepted = count(usize::try_from(accepted).unwrap_or(usize::MAX), "connection");
    let mut line = format!("stopped after {}: {accepted} served", duration(after));
    if refused > 0 {
        line.push_str(&format!(", {refused} refused for their number"));
    }
    line
}

/// `site "main" (example.com): /api/ -> upstream "backend" (http://10.0.0.1:80); files in static`.
fn about_site(site: &Site) -> String {
    let hosts = list(site.hosts.iter().map(|host| match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(name) => format!("*.{name}"),
        HostPattern::Any => "any host".to_owned(),
    }));
    let mut parts: Vec<String> = Vec::new();
    if site.redirect_to_https.is_some() {
        parts.push("redirects to https".to_owned());
    }
    if !site.routes.is_empty() {
        parts.push(about_routes(site));
    }
    if let Some(files) = &site.files {
        parts.push(format!("files in {}", files.root.display()));
    }
    if parts.is_empty() {
        parts.push("nothing to serve".to_owned());
    }
    format!("site \"{}\" ({hosts}): {}", site.name, parts.join("; "))
}

fn about_routes(site: &Site) -> String {
    let pools = site.proxy.as_ref().map(|proxy| &proxy.pools[..]).unwrap_or_default();
    list(site.routes.iter().filter(|route| route.path != PathMatch::Never).map(|route| {
        let path = route.path.text();
        match &route.action {
            RouteAction::Upstream(pool) => {
                let pool = pools.get(*pool).map_or_else(String::new, about_pool);
                let websocket = if route.websocket.is_some() { " with WebSocket" } else { "" };
                format!("proxies {path} to upstream {pool}{websocket}")
            }
            RouteAction::Files(files) => format!("{path} from files in {}", files.root.display()),
            RouteAction::Redirect { to, .. } => format!("redirects {path} to {to}"),
            RouteAction::Respond { status, .. } => format!("answers {path} with {status}"),
        }
    }))
}

fn about_pool(pool: &Pool) -> String {
    let urls = list(pool.upstreams.iter().map(|upstream| upstream.url.clone()));
    format!("\"{}\" ({urls})", pool.name)
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut items = items;
    let mut text = items.by_ref().take(PARTS_SHOWN).collect::<Vec<_>>().join(", ");
    let more = items.count();
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// "3 h 12 min", "4 min 5 s", "12 s".
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3_600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
