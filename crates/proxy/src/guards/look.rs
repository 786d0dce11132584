//! What guards would say to a request, in their order, without counting it or asking anybody.
//!
//! [`check`](super::check) and [`authenticate`](super::authenticate) decide for requests that are served;
//! here the same is asked in the same order for those who want to know. That both say the same is tested
//! with requests that are served.

use std::net::IpAddr;
use std::time::Duration;

use config::model::Outcome;
use wire::head::Framing;

use super::cors::Cors;
use super::rate_limit::{self, RateLimits};
use super::{Guards, NO_LIMITS};
use crate::auth::{Presented, Said};
use crate::decide::{Action, Decision, Request};

/// A request for those who look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Its credentials.
    pub(crate) presented: Presented<'a>,
    /// How long its body is.
    pub(crate) framing: Framing,
    /// Its client.
    pub(crate) client: Option<IpAddr>,
}

/// What one guard would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Says {
    /// The guard, as the reference calls it.
    pub guard: &'static str,
    /// It is the site's; else the route's.
    pub of_site: bool,
    /// What it says.
    pub words: String,
    /// What becomes of the request.
    pub verdict: Verdict,
}

/// What becomes of a request at a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Passes,
    /// It goes on, or not: that depends on what is not looked at here.
    Unknown,
    /// It is answered with this status.
    Ends(u16),
}

/// What all of them would say.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// One after the other, up to the first that ends it.
    pub(crate) says: Vec<Says>,
    /// Status and outcome, and field lines of the response, if one ends it.
    pub(crate) ended: Option<(u16, Outcome, Vec<u8>)>,
    /// Field lines for the response, whatever that is.
    pub(crate) lines: Vec<u8>,
    /// Field lines that tell the upstream what was proved.
    pub(crate) proved: Vec<u8>,
    /// The site got what it asks for.
    pub(crate) site_proved: bool,
}

impl Looked {
    fn says(&mut self, guard: &'static str, of_site: bool, words: String, verdict: Verdict) {
        self.says.push(Says { guard, of_site, words, verdict });
    }

    fn ends(&mut self, status: u16, outcome: Outcome, lines: Vec<u8>) {
        self.ended = Some((status, outcome, lines));
    }
}

/// Asks the guards of what a request met. `passed_on`: by another route; `for_site`: it has still to
/// prove what the site asks for.
pub(crate) fn look(
    seen: &Seen<'_>,
    request: &Request<'_>,
    met: &Decision<'_>,
    (passed_on, for_site): (bool, bool),
) -> Looked {
    let mut looked = Looked::default();
    let of_route = met.route.map(|route| &route.guards);
    let of_site = Some(&met.site.guards).filter(|_| !passed_on || of_route.is_none());
    let layers: Vec<(&Guards, bool)> = of_site
        .map(|guards| (guards, true))
        .into_iter()
        .chain(of_route.map(|own| (own, false)))
        .collect();
    let guards = of_route.unwrap_or(&met.site.guards);
    let cors = guards.cors.as_deref();
    let preflight = cors.filter(|_| Cors::asks_for(request.method, request.fields).is_some());
    if let Some(cors) = cors.filter(|_| preflight.is_none()) {
        cors.write(request.fields, &mut looked.lines);
    }
    for (layer, is_site) in layers.iter().filter(|(layer, _)| !layer.access.is_empty()) {
        let who = seen.client.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        if layer.access.admits(seen.client) {
            looked.says("access", *is_site, format!("admits {who}"), Verdict::Passes);
        } else {
            looked.says("access", *is_site, format!("does not admit {who}"), Verdict::Ends(403));
            looked.ends(403, Outcome::Denied, Vec::new());
            return looked;
        }
    }
    let settled =
        matches!(met.action, Action::Health(_) | Action::NotAllowed(_) | Action::Refuse(405 | 421));
    if !settled || preflight.is_some() {
        if let Some(max) = guards.max_body {
            let words = match seen.framing {
                Framing::Length(length) if length > max => {
                    let words = format!("{length} bytes are more than {max}");
                    looked.says("max_request_size", false, words, Verdict::Ends(413));
                    looked.ends(413, Outcome::ClientError, Vec::new());
                    return looked;
                }
                Framing::Length(length) => format!("{length} of at most {max} bytes"),
                _ => format!("at most {max} bytes, counted as they come"),
            };
            looked.says("max_request_size", false, words, Verdict::Passes);
        }
        if let Some(cors) = preflight {
            let mut fields = Vec::new();
            let (status, words) = match cors.preflight(request.fields, &mut fields) {
                true => (204, "answers the preflight"),
                false => (403, "refuses the preflight: the origin is not among those allowed"),
            };
            looked.says("access_control", false, words.to_owned(), Verdict::Ends(status));
            looked.ends(status, Outcome::Preflight, fields);
            return looked;
        }
        if limits(seen, request, &layers, &mut looked) {
            return looked;
        }
    }
    credentials(seen, met, for_site, &mut looked);
    looked
}

/// True if one of the limits would refuse the request.
fn limits(
    seen: &Seen<'_>,
    request: &Request<'_>,
    layers: &[(&Guards, bool)],
    looked: &mut Looked,
) -> bool {
    let now = rate_limit::now();
    let mut refusal: Option<(Duration, u16)> = None;
    for (layer, is_site) in layers {
        let limits: &RateLimits = match layer.rate_limits.is_empty() {
            true => &NO_LIMITS,
            false => &layer.rate_limits,
        };
        for look in limits.look(request, seen.client, now) {
            let name = &look.name;
            let (words, verdict) = match look.refused_for {
                _ if look.exempt => {
                    (format!("`{name}` does not count this request"), Verdict::Passes)
                }
                Some(again_in) => {
                    // The one that holds out longest is answered with.
                    if refusal.is_none_or(|(longest, _)| again_in >= longest) {
                        refusal = Some((again_in, look.status));
                    }
                    let again_in = again_in.as_secs_f64();
                    let words = format!("`{name}` is used up; again in {again_in:.1} s");
                    (words, Verdict::Ends(look.status))
                }
                None => {
                    let (left, burst, key) = (look.left, look.burst, look.key);
                    let wait = match look.wait {
                        Duration::ZERO => String::new(),
                        wait => format!(", after a wait of {:.1} s", wait.as_secs_f64()),
                    };
                    let words =
                        format!("`{name}` by {key}: {left} of {burst} left after this one{wait}");
                    (words, Verdict::Passes)
                }
            };
            looked.says("rate_limit", *is_site, words, verdict);
        }
    }
    if let Some((again_in, status)) = refusal {
        let seconds = (again_in.as_nanos().div_ceil(1_000_000_000)).max(1);
        let lines = format!("Retry-After: {seconds}\r\n").into_bytes();
        looked.ends(status, Outcome::RateLimited, lines);
    }
    refusal.is_some()
}

fn credentials(seen: &Seen<'_>, met: &Decision<'_>, for_site: bool, looked: &mut Looked) {
    let silent = matches!(
        met.action,
        Action::Health(_) | Action::ToHttps(_) | Action::NotAllowed(_) | Action::Refuse(405 | 421)
    );
    if silent {
        return;
    }
    let of_site = Some(&met.site.guards.auth).filter(|_| for_site);
    let of_route = met.route.map(|route| &route.guards.auth);
    let asked = of_site.map(|auth| (auth, true)).into_iter();
    for (auth, is_site) in asked.chain(of_route.map(|auth| (auth, false))) {
        looked.site_proved |= for_site && !is_site;
        for asks in auth.asks(&seen.presented) {
            let what = asks.what;
            match asks.says {
                Said::Proved(verified) => {
                    looked.proved.extend_from_slice(&verified.lines);
                    looked.says("auth", is_site, format!("{what}: proved"), Verdict::Passes);
                }
                Said::Unknown => {
                    let words = format!("{what}: there, and not checked here");
                    looked.says("auth", is_site, words, Verdict::Unknown);
                }
                Said::Denied(denied) => {
                    let words = format!("asks for {what}: {}", denied.why);
                    looked.says("auth", is_site, words, Verdict::Ends(denied.status));
                    looked.ends(denied.status, Outcome::Unauthorized, denied.fields);
                    return;
                }
            }
        }
    }
    looked.site_proved |= for_site;
}
