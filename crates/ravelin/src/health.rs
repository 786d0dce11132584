//! Which endpoints are looked at by active health checks, and who is told.

use std::sync::Arc;

use config::model::UpstreamState;
use control::health::Target;
use net::timer::Tick;
use proxy::snapshot::Snapshot;

/// The members of all pools that have checks. What is found is kept with the member, where the next
/// choice of an endpoint sees it. Members that nobody wants used are not probed.
pub(crate) fn targets(snapshot: &Snapshot) -> Vec<Target> {
    let mut targets = Vec::new();
    for site in &snapshot.sites {
        for pool in site.proxy.iter().flat_map(|proxy| &proxy.pools) {
            let checks = &pool.settings.health_checks;
            let members = pool.balancer.members().iter().filter(|_| !checks.is_empty());
            targets.extend(members.map(|member| {
                let state = || Arc::clone(&member.state);
                let (report, seen, steered) = (state(), state(), state());
                let configured = member.wanted;
                Target {
                    site: site.name.clone(),
                    pool: pool.name.clone(),
                    url: member.url.clone(),
                    endpoint: Arc::clone(&member.endpoint),
                    tls: member.tls.clone(),
                    checks: checks.clone(),
                    report: Box::new(move |up| report.set_health(up, Tick::now())),
                    is_wanted: Box::new(move || {
                        steered.steered().unwrap_or(configured) != UpstreamState::Down
                    }),
                    seen: Box::new(move |checked, was_up| seen.standing.checked(checked, was_up)),
                }
            }));
        }
    }
    targets
}
