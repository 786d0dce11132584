//! What would become of a request, and why: `ravelin explain`.
//!
//! The request is made of what somebody asks, written out as a head and read like one, so everything
//! that serving looks at is there. Then the same [`decide`] is asked, with its trace turned on, and the
//! same rules in the same order as in [`exchange`](crate::exchange). What serving would take (a turn, a
//! place, a request of a limit's) is only looked at: explaining changes nothing.

mod asked;
mod expected;
mod pools;
mod render;
mod rounds;
mod settings;

use std::net::IpAddr;

use config::model::Outcome;
use config::places::Place;
use config::secrets::{HIDDEN, is_secret_field};
use serde_json::Value;

use crate::guards::Says;
use crate::snapshot::Snapshot;

pub use asked::{Asked, NoRequest};
pub use expected::{Unmet, unmet};

/// What would become of a request.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// The request as it is seen.
    pub request: Canonical,
    /// Where it comes in.
    pub listener: Option<ListenerFound>,
    /// The site that answers.
    pub site: Option<SiteFound>,
    /// Every route of the site, in the order they are declared, and why it does or does not take the
    /// request.
    pub routes: Vec<Candidate>,
    /// The route that takes it, or the one that took over last.
    pub route: Option<RouteFound>,
    /// Routes that passed it on: which, how it ended there, and to which.
    pub passed_on: Vec<(String, Outcome, String)>,
    /// Guards in their order.
    pub guards: Vec<(Says, Option<Place>)>,
    /// What is done, in a few words.
    pub action: String,
    /// The status of Ravelin's own answer; `None` where an upstream answers.
    pub status: Option<u16>,
    /// `Location` of that answer.
    pub location: Option<String>,
    /// Fields of that answer, or what Ravelin adds to an upstream's.
    pub response: Vec<(String, String)>,
    /// Fields that are taken off an upstream's answer.
    pub response_without: Vec<String>,
    /// The pools that it may go to, the likeliest first.
    pub pools: Vec<PoolFound>,
    /// The request as the upstream gets it.
    pub sent: Option<Sent>,
    /// Limits and timeouts that apply.
    pub settings: Vec<Setting>,
    /// The steps of the decision.
    pub steps: Vec<String>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// A request as it is matched, forwarded and logged.
#[derive(Debug, Clone, Default)]
pub struct Canonical {
    /// Its method.
    pub method: String,
    /// As it was asked for.
    pub url: String,
    /// Its path in the one form that everything refers to.
    pub path: String,
    /// Its query, without "?".
    pub query: Option<String>,
    /// Its host in lower case, without port.
    pub host: String,
    /// Host and port as the client names them.
    pub authority: String,
    /// Its client, as far as trusted proxies tell.
    pub client: Option<IpAddr>,
    /// The client speaks TLS, to Ravelin or to a trusted proxy.
    pub secure: bool,
    /// Why it is no request that is served.
    pub fault: Option<&'static str>,
}

/// A listener.
#[derive(Debug, Clone)]
pub struct ListenerFound {
    /// Where it listens.
    pub listen: String,
    /// It speaks TLS.
    pub tls: bool,
}

/// A site and how it comes to answer.
#[derive(Debug, Clone)]
pub struct SiteFound {
    /// Its name.
    pub name: String,
    /// How its hosts fit.
    pub how: String,
    /// Where it is written.
    pub place: Option<Place>,
}

/// A route of the site.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its path, or its name.
    pub name: String,
    /// What kind of path that is.
    pub kind: &'static str,
    /// It takes the request.
    pub takes: bool,
    /// Why not.
    pub why: String,
    /// Where it is written.
    pub place: Option<Place>,
}

/// The route that takes a request.
#[derive(Debug, Clone)]
pub struct RouteFound {
    /// Its path, or its name.
    pub name: String,
    /// The name that other routes call it by, if it has one.
    pub called: Option<String>,
    /// Where it is written.
    pub place: Option<Place>,
}

/// A pool that a request may go to.
#[derive(Debug, Clone)]
pub struct PoolFound {
    /// Its name.
    pub name: String,
    /// How likely it goes there, from 0 to 1.
    pub chance: f64,
    /// Why: the route's own pool, or a split of it.
    pub why: String,
    /// Where it is written.
    pub place: Option<Place>,
    /// How a member is chosen.
    pub method: String,
    /// What stands against a request to any of its members now.
    pub closed: Option<String>,
    /// Its members.
    pub members: Vec<MemberFound>,
}

/// A member of a pool.
#[derive(Debug, Clone)]
pub struct MemberFound {
    /// Its URL, and the address where the URL has a name.
    pub url: String,
    /// A request may go to it now.
    pub usable: bool,
    /// Why not; or what else there is to say.
    pub why: Option<String>,
    /// Its tier; only the first one with somebody in it is used.
    pub tier: (u8, u16),
    /// Its weight.
    pub weight: u32,
    /// How likely it has the request, from 0 to 1.
    pub share: Option<f64>,
    /// What the method goes by; the least has the request.
    pub score: Option<f64>,
    /// Requests in flight.
    pub in_flight: u32,
    /// It is the next one's turn, or the one that keeps the client.
    pub next: bool,
    /// Where it is written.
    pub place: Option<Place>,
}

/// A request as an upstream gets it.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All fields.
    pub fields: Vec<(String, String)>,
    /// Fields that the client's request does not have, or not so.
    pub added: Vec<(String, String)>,
    /// Names of the client's fields that are not there.
    pub removed: Vec<String>,
}

/// A limit or time limit that applies.
#[derive(Debug, Clone)]
pub struct Setting {
    /// What it is.
    pub name: &'static str,
    /// How much.
    pub value: String,
    /// Where that is written; `None`: nowhere, it is the default.
    pub place: Option<Place>,
}

/// Explains what would become of a request.
///
/// # Errors
/// What is asked for is no request.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> Result<Explanation, NoRequest> {
    let written = asked.written(snapshot)?;
    Ok(rounds::explain(snapshot, asked, &written))
}

impl Explanation {
    /// Conceals fields that have credentials by their names: for whoever may ask and may not know them.
    pub fn conceal(&mut self) {
        let sent =
            self.sent.iter_mut().flat_map(|sent| sent.fields.iter_mut().chain(&mut sent.added));
        for (name, value) in sent.chain(&mut self.response) {
            if is_secret_field(name) {
                HIDDEN.clone_into(value);
            }
        }
    }

    /// For tools.
    pub fn to_json(&self) -> Value {
        render::json(self)
    }

    /// For people, with terminal colours or without.
    pub fn render(&self, color: bool) -> String {
        render::text(self, color)
    }
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

#[cfg(test)]
mod tests;
