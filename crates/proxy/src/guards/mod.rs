//! What a request has to pass before anything is done for it, in this order:
//!
//! 1. access lists (403)
//! 2. methods, which [`decide`](crate::decide) has looked at (405)
//! 3. the length of its body, where it is known (413)
//! 4. CORS: a preflight is answered here (204, 403)
//! 5. rate limits (429)
//! 6. credentials (401, 403), see [`authenticate`]
//!
//! What costs least and depends least on what a client says comes first, so that who may not come in
//! spends nothing of anybody's: a request that is denied counts in no limit.

pub mod access;
pub mod cors;
pub(crate) mod look;
pub mod rate_limit;

pub use look::{Says, Verdict};

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use config::model::{self, AllowedOrigins, CorsRule, Outcome};
use wire::head::Framing;

use self::access::Access;
use self::cors::Cors;
use self::rate_limit::{Admission, Counts, CountsId, Hold, RateLimits, Scope};
use crate::auth::{Auth, Presented, Sources, Stripped, tell};
use crate::decide::{Action, Decision, Request, Trace};
use crate::drain::Left;
use crate::exchange::Inbound;
use crate::files::Answer;
use crate::local::Rest;
use crate::log::Cause;
use crate::respond;

/// What a site or a route asks of a request.
#[derive(Debug, Default)]
pub struct Guards {
    access: Access,
    /// A route has the site's rules if it has none of its own.
    cors: Option<Arc<Cors>>,
    rate_limits: RateLimits,
    /// Longest body; a route has the site's bound if it has none of its own.
    max_body: Option<u64>,
    /// What requests have to prove beside what the site of a route asks for.
    auth: Auth,
    /// What of the credentials, the site's and the route's, upstreams do not see.
    hidden: Stripped,
    /// Names of the fields that tell upstreams what was proved, the site's and the route's.
    told: Vec<String>,
}

/// What holds for all sites.
pub struct Common<'a> {
    /// Rules for every site.
    pub security: &'a model::Security,
    /// What is known of the keys of limits.
    pub counts: &'a dyn Fn(CountsId) -> Arc<Counts>,
    /// What credentials are checked with.
    pub credentials: &'a RefCell<Sources>,
}

impl Guards {
    /// What is asked of requests to a site.
    ///
    /// # Errors
    /// A file that an access list names cannot be used.
    pub fn of_site(
        name: &str,
        guards: &model::Guards,
        common: &Common<'_>,
    ) -> Result<Self, String> {
        let security = common.security;
        let everywhere = Scope { called: "global", site: "", route: "" };
        let own = Scope { called: "site", site: name, route: "" };
        let limits = [(security.rate_limit.as_slice(), everywhere), (&guards.rate_limits[..], own)];
        let auth = Auth::compile(guards.auth.iter(), &mut common.credentials.borrow_mut())?;
        Ok(Self {
            access: Access::compile(&guards.access)?,
            cors: compile_cors(&guards.cors, &security.allowed_origins),
            rate_limits: RateLimits::compile(&limits, common.counts),
            max_body: security.max_request_size,
            hidden: auth.stripped().clone(),
            told: auth.told().cloned().collect(),
            auth,
        })
    }

    /// What a route asks of requests beside its site, of which `self` is; `id` is the site's name and
    /// what tells the route from its others.
    ///
    /// # Errors
    /// A file that an access list names cannot be used.
    pub fn of_route(
        &self,
        (site, route): (&str, &str),
        model: &model::Route,
        common: &Common<'_>,
    ) -> Result<Self, String> {
        let guards = &model.guards;
        let scope = Scope { called: "route", site, route };
        let auth = Auth::compile(guards.auth.iter(), &mut common.credentials.borrow_mut())?;
        Ok(Self {
            access: Access::compile(&guards.access)?,
            cors: match &guards.cors {
                CorsRule::Inherited => self.cors.clone(),
                rule => compile_cors(rule, &common.security.allowed_origins),
            },
            rate_limits: RateLimits::compile(&[(&guards.rate_limits, scope)], common.counts),
            max_body: match model.max_request_size {
                model::Bound::Inherited => self.max_body,
                model::Bound::Unlimited => None,
                model::Bound::Bytes(bytes) => Some(bytes),
            },
            hidden: self.hidden.and(auth.stripped()),
            told: self.told.iter().chain(auth.told()).cloned().collect(),
            auth,
        })
    }

    /// There is nothing for [`check`] to ask, which is then left out.
    fn is_none(&self) -> bool {
        self.access.is_empty()
            && self.cors.is_none()
            && self.rate_limits.is_empty()
            && self.max_body.is_none()
    }

    /// Longest request body.
    pub fn max_body(&self) -> Option<u64> {
        self.max_body
    }

    /// What of the credentials upstreams do not see.
    pub fn hidden(&self) -> &Stripped {
        &self.hidden
    }

    /// Names of the fields that tell upstreams what was proved.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// A token may stand in the query.
    pub fn reads_query(&self) -> bool {
        self.auth.reads_query()
    }

    /// There are rules for other origins.
    pub fn has_cors(&self) -> bool {
        self.cors.is_some()
    }
}

fn compile_cors(rule: &CorsRule, allowed: &AllowedOrigins) -> Option<Arc<Cors>> {
    match rule {
        CorsRule::Inherited | CorsRule::Off => None,
        CorsRule::Rules(rules) => Some(Arc::new(Cors::compile(rules, allowed))),
    }
}

/// Whether rules let pages of any origin read what only a user may see.
pub fn is_open(rule: &CorsRule, allowed: &AllowedOrigins) -> bool {
    let any = |origins: &AllowedOrigins| !matches!(origins, AllowedOrigins::Only(_));
    match rule {
        CorsRule::Rules(rules) => {
            // Those who name any origin were warned where they did.
            rules.credentials && rules.origins == AllowedOrigins::Inherited && any(allowed)
        }
        CorsRule::Inherited | CorsRule::Off => false,
    }
}

/// Field lines that guards have for the response, whatever that is.
#[derive(Debug, Default)]
pub struct Lines {
    cors: Vec<u8>,
    limits: Vec<u8>,
    /// `Proxy-Status`.
    pub(crate) status: Vec<u8>,
}

impl Lines {
    /// Appends them.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.cors);
        out.extend_from_slice(&self.limits);
        out.extend_from_slice(&self.status);
    }
}

/// Why a request does not go on, or not yet.
pub(crate) enum Stop<'s> {
    /// It is answered here.
    Answered(Answered),
    /// It has to wait for its time.
    Held(Hold<'s>),
}

/// The answer of a guard.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    /// Why, for the log; a preflight is answered well.
    pub(crate) cause: Option<Cause>,
    /// How the request ended, as routes call it.
    pub(crate) outcome: Outcome,
    /// What is left of the request.
    pub(crate) rest: Rest,
}

/// What a request met has guards, or asks for credentials. Where it has not, [`check`] is not asked.
pub(crate) fn has_any(met: &Decision<'_>) -> bool {
    asks_for_credentials(met)
        || !met.site.guards.is_none()
        || met.route.is_some_and(|route| !route.guards.is_none())
}

/// Asks the guards of what a request met: those of the route, and before them those of the site unless
/// the request was `passed_on` by another route. `None`: it goes on.
pub(crate) fn check<'s>(
    inbound: &Inbound<'_>,
    request: &Request<'_>,
    met: &Decision<'s>,
    passed_on: bool,
    trace: &mut Trace,
) -> Option<Stop<'s>> {
    if passed_on {
        // What the rules of the other route said.
        inbound.lines.borrow_mut().cors.clear();
    }
    let of_route = met.route.map(|route| &route.guards);
    let of_site = Some(&met.site.guards).filter(|_| !passed_on || of_route.is_none());
    if of_site.is_none_or(Guards::is_none) && of_route.is_none_or(Guards::is_none) {
        return None;
    }
    let layers = of_site.into_iter().chain(of_route);
    let guards = of_route.unwrap_or(&met.site.guards);
    let cors = guards.cors.as_deref();
    let preflight = cors.filter(|_| Cors::asks_for(request.method, request.fields).is_some());
    if let Some(cors) = cors.filter(|_| preflight.is_none()) {
        // First of all, so that pages can read why they were refused.
        cors.write(request.fields, &mut inbound.lines.borrow_mut().cors);
    }
    let client = match layers.clone().all(|one| one.access.is_empty() && one.rate_limits.is_empty())
    {
        true => None,
        false => inbound.client_ip(),
    };
    if !layers.clone().all(|one| one.access.admits(client)) {
        trace.filter("access", "denied");
        return Some(Stop::Answered(refused(inbound, 403, Outcome::Denied, Cause::Denied)));
    }
    // Who asks whether Ravelin is well is not counted, and what is refused as it is needs no other
    // reason.
    let settled =
        matches!(met.action, Action::Health(_) | Action::NotAllowed(_) | Action::Refuse(405 | 421));
    if settled && preflight.is_none() {
        return None;
    }
    if is_too_long(inbound, guards) {
        trace.filter("max_request_size", "too long");
        let answered = refused(inbound, 413, Outcome::ClientError, Cause::Limit);
        return Some(Stop::Answered(Answered { rest: Rest::of(Left::TooMuch), ..answered }));
    }
    if let Some(cors) = preflight {
        return Some(answer_preflight(inbound, request, cors, trace));
    }
    let mut limits = [&NO_LIMITS; 2];
    for (place, layer) in limits.iter_mut().zip(layers) {
        *place = &layer.rate_limits;
    }
    count(inbound, request, limits, client, trace)
}

static NO_LIMITS: RateLimits = RateLimits::NONE;

fn is_too_long(inbound: &Inbound<'_>, guards: &Guards) -> bool {
    match (inbound.head.framing, guards.max_body) {
        (Framing::Length(length), Some(max)) => length > max,
        _ => false,
    }
}

fn answer_preflight<'s>(
    inbound: &Inbound<'_>,
    request: &Request<'_>,
    cors: &Cors,
    trace: &mut Trace,
) -> Stop<'s> {
    let mut fields = Vec::new();
    if !cors.preflight(request.fields, &mut fields) {
        trace.filter("access_control", "refused the preflight");
        inbound.lines.borrow_mut().cors = b"Vary: Origin\r\n".to_vec();
        return Stop::Answered(refused(inbound, 403, Outcome::Preflight, Cause::Preflight));
    }
    trace.filter("access_control", "answered the preflight");
    let answer = respond::preflight(fields);
    Stop::Answered(Answered {
        answer,
        cause: None,
        outcome: Outcome::Preflight,
        rest: inbound.rest(),
    })
}

fn count<'s>(
    inbound: &Inbound<'_>,
    request: &Request<'_>,
    limits: [&'s RateLimits; 2],
    client: Option<IpAddr>,
    trace: &mut Trace,
) -> Option<Stop<'s>> {
    if limits.iter().all(|limits| limits.is_empty()) {
        return None;
    }
    let lines = &mut inbound.lines.borrow_mut().limits;
    match rate_limit::admit(&limits, request, client, rate_limit::now(), lines) {
        Admission::Admitted => {
            trace.filter("rate_limit", "admitted");
            None
        }
        Admission::Held(hold) => {
            trace.filter("rate_limit", "held");
            Some(Stop::Held(hold))
        }
        Admission::Refused { status, retry_after } => {
            trace.filter("rate_limit", "refused");
            Some(Stop::Answered(Answered {
                answer: respond::come_again(status, retry_after),
                cause: Some(Cause::RateLimit),
                outcome: Outcome::RateLimited,
                rest: inbound.rest(),
            }))
        }
    }
}

fn refused(inbound: &Inbound<'_>, status: u16, outcome: Outcome, cause: Cause) -> Answered {
    Answered { answer: Answer::error(status), cause: Some(cause), outcome, rest: inbound.rest() }
}

/// Waits until the time of a request has come; false if its client leaves before.
pub(crate) async fn wait(inbound: &Inbound<'_>, hold: Hold<'_>) -> bool {
    crate::forward::wait_out(inbound, hold.wait()).await.is_ok()
}

/// What a request has proved.
#[derive(Debug, Default)]
pub struct Proved {
    /// Who makes it: for the log.
    pub user: OnceCell<Rc<[u8]>>,
    /// Field lines that tell it the upstream.
    pub lines: RefCell<Vec<u8>>,
    /// What its site asks for.
    site: Cell<bool>,
}

/// Whether a request has to prove anything.
pub(crate) fn asks_for_credentials(met: &Decision<'_>) -> bool {
    let of_route = met.route.is_some_and(|route| !route.guards.auth.is_empty());
    of_route || !met.site.guards.auth.is_empty()
}

/// Checks what a request has to prove to its site, once, and then to its route. `None`: the request goes
/// on. The route that takes over from one that asked for too much is for those who cannot prove
/// anything: a request that is `excused` proves nothing to its site there, and has to at every other.
///
/// Not for what says nothing about the site: whether Ravelin is well, and the way to https, on which no
/// password should travel.
pub(crate) async fn authenticate(
    inbound: &Inbound<'_>,
    met: &Decision<'_>,
    excused: bool,
    trace: &mut Trace,
) -> Option<(Answered, &'static str)> {
    if matches!(
        met.action,
        Action::Health(_) | Action::ToHttps(_) | Action::NotAllowed(_) | Action::Refuse(405 | 421)
    ) {
        return None;
    }
    let proved = &inbound.proved;
    if !excused && !proved.site.get() {
        let refused = prove(inbound, &met.site.guards.auth, trace).await;
        if refused.is_some() {
            return refused;
        }
        proved.site.set(true);
    }
    prove(inbound, &met.route?.guards.auth, trace).await
}

/// Checks what a request has to prove to a site, or to a route.
async fn prove(
    inbound: &Inbound<'_>,
    auth: &Auth,
    trace: &mut Trace,
) -> Option<(Answered, &'static str)> {
    if auth.is_empty() {
        return None;
    }
    let proved = &inbound.proved;
    let query = inbound.target.query;
    let presented = Presented { head: inbound.head, bytes: inbound.bytes, query };
    match auth.check(&presented, &inbound.connection.worker.credentials).await {
        Ok(verified) => {
            trace.filter("auth", "passed");
            tell(&mut proved.lines.borrow_mut(), auth.told(), &verified.lines);
            if let Some(user) = verified.user {
                // The site's comes first.
                _ = proved.user.set(user);
            }
            None
        }
        Err(denied) => {
            trace.filter("auth", "refused");
            let cause = match denied.status {
                403 => Cause::Forbidden,
                503 => Cause::AuthBusy,
                _ => Cause::Unauthorized,
            };
            let answered = refused(inbound, denied.status, Outcome::Unauthorized, cause);
            let answer = answered.answer.with_fields(denied.fields);
            Some((Answered { answer, ..answered }, denied.why))
        }
    }
}

/// The target of a request as it may be logged: without a query in which a token may stand. What has no
/// route, or a target that `is_faulty` and so has none, may be meant for any.
pub(crate) fn loggable<'t>(met: &Decision<'_>, is_faulty: bool, target: &'t [u8]) -> &'t [u8] {
    let by_route = match met.route.filter(|_| !is_faulty) {
        Some(route) => route.guards.reads_query(),
        None => met.site.routes.reads_query(),
    };
    match by_route || met.site.guards.reads_query() {
        true => target.split(|byte| *byte == b'?').next().unwrap_or_default(),
        false => target,
    }
}
