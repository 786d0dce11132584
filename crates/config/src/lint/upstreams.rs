//! Upstreams that nothing leads to, or that are not looked after.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Of, Rule};
use crate::diagnostic::Diagnostic;
use crate::model::{Pool, Route, Timeouts, UpstreamAddress};

/// A connection that takes longer will not come.
const CONNECT_MAX: Duration = Duration::from_secs(60);

/// Who waits longer for a byte waits for nothing.
const SILENCE_MAX: Duration = Duration::from_secs(600);

pub(super) fn look(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    let Some(proxy) = &of.site.proxy else { return };
    let used: HashSet<usize> = of.site.routes.iter().flat_map(Route::pools).collect();
    for (index, pool) in proxy.pools.iter().enumerate() {
        let name = &pool.name;
        if !used.contains(&index) {
            let message = format!("nothing leads to the upstream `{name}`");
            found.push(Diagnostic::lint(Rule::UnusedUpstream, of.pool(name, &[]), message));
            continue;
        }
        timeouts(of, pool, found);
        if let Some(why) = neglected(pool) {
            let message = format!(
                "no health check looks after `{name}`, and {why} when one of its {} upstreams is down",
                pool.upstreams.len()
            );
            let mut finding = Diagnostic::lint(Rule::NoHealthCheck, of.pool(name, &[]), message);
            finding.help.push("add `[sites.proxy.health_check]` with a `path`".to_owned());
            found.push(finding);
        }
        entries(of, pool, found);
    }
    // Once for all pools that say nothing of their own.
    let mut seen = BTreeSet::new();
    found.retain(|finding| {
        finding.code.as_str() != Rule::MissingTimeout.code() || seen.insert(finding.span)
    });
}

/// What becomes of requests if an upstream of a pool is down, when nothing spares clients of it.
fn neglected(pool: &Pool) -> Option<&'static str> {
    let settings = &pool.settings;
    if pool.upstreams.len() < 2 || !settings.health_checks.is_empty() {
        return None;
    }
    let never_out = pool.upstreams.iter().all(|upstream| upstream.max_fails == 0);
    if settings.retry.attempts <= 1 {
        Some("requests fail, as there is one attempt,")
    } else if never_out && settings.outlier.is_none() {
        Some("requests go on to be sent there")
    } else {
        None
    }
}

fn timeouts(of: &Of<'_>, pool: &Pool, found: &mut Vec<Diagnostic>) {
    let Timeouts { connect, first_byte, read, write, tunnel: _, request: _ } =
        pool.settings.timeout;
    let name = &pool.name;
    for (key, time, max) in [
        ("connect", connect, CONNECT_MAX),
        ("first_byte", first_byte, SILENCE_MAX),
        ("read", read, SILENCE_MAX),
        ("write", write, SILENCE_MAX),
    ] {
        // `first_byte` is as `read` if nothing is said of it.
        if time > max && (key != "first_byte" || first_byte != read) {
            let message =
                format!("the `{key}` timeout of `{name}` is {time:?}, which is as good as none");
            let place = of.pool(name, &["timeout", key]);
            found.push(Diagnostic::lint(Rule::MissingTimeout, place, message));
        }
    }
}

fn entries(of: &Of<'_>, pool: &Pool, found: &mut Vec<Diagnostic>) {
    for (nth, upstream) in pool.upstreams.iter().enumerate() {
        let url = &upstream.url;
        match (&upstream.transport.tls, &upstream.address) {
            (Some(tls), _) if !tls.verify => {
                let place = of
                    .model
                    .places
                    .upstream(of.index, &pool.name, nth, &["tls", "verify"])
                    .or_else(|| of.upstream(&pool.name, nth, &["tls"]));
                let message = format!("anybody on the way can pose as {url}");
                found.push(Diagnostic::lint(Rule::UnverifiedUpstream, place, message));
            }
            (None, UpstreamAddress::Tcp { host, .. }) if is_public(host) => {
                let place = of.upstream(&pool.name, nth, &["url"]);
                let message = format!("requests go to {url} as plain text, through other networks");
                let mut finding = Diagnostic::lint(Rule::PlainUpstream, place, message);
                finding.help.push("use `https://` if it can".to_owned());
                found.push(finding);
            }
            _ => {}
        }
    }
}

/// An address that others than one's own network stand between. Of names nothing is known.
fn is_public(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            let shared = u32::from(ip) >> 22 == u32::from_be_bytes([100, 64, 0, 0]) >> 22;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_documentation()
                || shared)
        }
        Ok(IpAddr::V6(ip)) => {
            let first = ip.segments().first().copied().unwrap_or_default();
            let own = first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80;
            let documentation = ip.segments().starts_with(&[0x2001, 0xdb8]);
            !(own || ip.is_loopback() || ip.is_unspecified() || documentation)
        }
        Err(_) => false,
    }
}
