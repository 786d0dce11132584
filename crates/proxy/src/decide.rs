//! What becomes of a request: a pure function of an immutable snapshot and one canonical request.
//!
//! Matching, authorisation, forwarding and logging all use the same canonical form, so nothing can
//! match one spelling of a path and forward another. No I/O, no clock, no counter happens here.

mod trace;

pub use trace::{Step, Trace};

use config::model::Outcome;
use net::tls::PolicyId;
use wire::head::Upgrade;
use wire::target::TargetError;

use crate::exchange::Inbound;
use crate::filters::Edits;
use crate::guards::cors::Cors;
use crate::pool::Pool;
use crate::redirect::Parts;
use crate::routes::{Fields, Found, LocalAction, Missed, Route, RouteAction, Split};
use crate::snapshot::{ProxySite, Site, Snapshot, ToHttps};

/// What a decision may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Index of the listener the connection came in by.
    pub listener: usize,
    /// As received; methods are case-sensitive.
    pub method: &'a [u8],
    /// Lower-case host without port; empty if the client sent none.
    pub host: &'a str,
    /// Host and port as the client named them.
    pub authority: &'a [u8],
    /// Canonical path; "*" for the asterisk form.
    pub path: &'a [u8],
    /// As received, without "?".
    pub query: Option<&'a [u8]>,
    /// The fields of its head.
    pub fields: Fields<'a>,
    /// The client speaks TLS to us, or to a trusted proxy before us.
    pub secure: bool,
    /// The policy under which the connection's TLS handshake was made; `None` without TLS.
    pub policy: Option<PolicyId>,
    /// The request asks for a protocol switch.
    pub upgrade: Upgrade,
}

/// What becomes of a request.
#[derive(Debug)]
pub struct Decision<'s> {
    /// The site that answers.
    pub site: &'s Site,
    /// The route that takes it, if one does.
    pub route: Option<&'s Route>,
    /// How.
    pub action: Action<'s>,
}

/// How a request is answered.
#[derive(Debug)]
pub enum Action<'s> {
    /// Forwarded to an endpoint of a pool.
    Proxy(Matched<'s>),
    /// Redirected there by the route, with this status.
    Redirect(&'s Route, Vec<u8>, u16),
    /// Answered by the route itself.
    Local(&'s Route, &'s LocalAction),
    /// Answered from the site's files.
    Files,
    /// Answered by Ravelin itself.
    Health(Health),
    /// Redirected to https.
    ToHttps(ToHttps),
    /// Redirected to the same path with a final slash.
    AddSlash,
    /// `OPTIONS *`: what the server as a whole can do.
    ServerOptions,
    /// Answered with this error status.
    Refuse(u16),
    /// Answered 400: what the route makes of the path must go nowhere.
    Malformed(&'s Route, TargetError),
    /// Answered 405; these methods are taken.
    NotAllowed(Vec<&'s str>),
}

/// The route a request takes to an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'s> {
    /// The site that took the request.
    pub site: &'s Site,
    /// Its proxy part.
    pub proxy: &'s ProxySite,
    /// The route that took it.
    pub route: &'s Route,
    /// Where it goes.
    pub pool: &'s Pool,
    /// The Upgrade field goes along: the route takes WebSocket and the request asks for it.
    pub upgrade: bool,
}

impl<'s> Matched<'s> {
    /// The same with the pool that the route has for some requests, if this is one of them.
    pub(crate) fn split(self, inbound: &Inbound<'_>, request: &Request<'_>) -> Self {
        let takes = |split: &&Split| {
            let chance = || inbound.connection.worker.next_random();
            split.takes(request, || inbound.client_ip(), chance)
        };
        let split = self.route.split.iter().find(takes);
        let pool = split.and_then(|split| self.proxy.pools.get(split.pool));
        Self { pool: pool.unwrap_or(self.pool), ..self }
    }
}

/// The pages below `/api/health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// `/api/health`
    Summary,
    /// `/api/health/ready`
    Ready,
    /// `/api/health/live`
    Live,
}

const HEALTH_PATH: &[u8] = b"/api/health";

/// Decides `request` by `snapshot`. `None` only for a listener the snapshot does not have.
pub fn decide<'s>(
    snapshot: &'s Snapshot,
    request: &Request<'_>,
    trace: &mut Trace,
) -> Option<Decision<'s>> {
    let listener = snapshot.listeners.get(request.listener)?;
    let index = listener.site_for(request.host);
    let site = snapshot.sites.get(index)?;
    trace.add(|| Step::Site(site.name.clone()));
    // What one policy let in must not reach what another guards: a connection is bound to the policy
    // of the name it was opened for (RFC 9110 §7.4, §15.5.20).
    let (route, action) = match request.policy != snapshot.policy_of(index) {
        true => (None, Action::Refuse(421)),
        false => action(site, request, trace),
    };
    Some(Decision { site, route, action })
}

impl<'s> Decision<'s> {
    /// The rules for the head of a response that Ravelin makes itself to a request that ended so.
    pub fn edits(&self, outcome: Outcome) -> &'s Edits {
        self.route.map_or(&self.site.response, |route| route.response(outcome))
    }

    /// What another route does that takes over when the request ends so.
    pub fn next(&self, outcome: Outcome, request: &Request<'_>) -> Option<Self> {
        Some(passed_on(self.site, self.route?.next(outcome)?, request))
    }
}

fn action<'s>(
    site: &'s Site,
    request: &Request<'_>,
    trace: &mut Trace,
) -> (Option<&'s Route>, Action<'s>) {
    match request.method {
        // A reverse proxy opens no tunnels for clients, and an echo of a request's fields serves
        // only those who want to read what the browser hides (RFC 9110 §9.3.8).
        b"CONNECT" | b"TRACE" => return (None, Action::Refuse(405)),
        b"OPTIONS" if request.path == b"*" => return (None, Action::ServerOptions),
        _ => {}
    }
    let found = find(site, request, trace);
    if let Some(health) = health(request.path).filter(|_| site.health) {
        let shadowed = matches!(&found, Found::Route(route)
            if route.name.as_bytes().starts_with(HEALTH_PATH));
        if !shadowed {
            return (None, Action::Health(health));
        }
    }
    if let Some(to_https) = site.redirect_to_https
        && !request.secure
    {
        return (None, Action::ToHttps(to_https));
    }
    match found {
        Found::Route(route) => (Some(route), taken(site, route, request)),
        Found::AddSlash => (None, Action::AddSlash),
        Found::Missed(missed) => (None, missed_by_all(site, request, missed)),
    }
}

/// The route for a request. A preflight asks about another request, so the route that would take that
/// one answers, if it has rules for other origins.
fn find<'s>(site: &'s Site, request: &Request<'_>, trace: &mut Trace) -> Found<'s> {
    if let Some(method) = Cors::asks_for(request.method, request.fields) {
        let found = site.routes.find(&Request { method, ..*request }, trace);
        if matches!(&found, Found::Route(route) if route.guards.has_cors()) {
            return found;
        }
    }
    site.routes.find(request, trace)
}

/// What the route of this index does with a request that another one passes on to it.
pub fn passed_on<'s>(site: &'s Site, route: usize, request: &Request<'_>) -> Decision<'s> {
    let route = site.routes.routes().get(route);
    let action = route.map_or(Action::Refuse(502), |route| taken(site, route, request));
    Decision { site, route, action }
}

/// What the route that takes a request does with it.
fn taken<'s>(site: &'s Site, route: &'s Route, request: &Request<'_>) -> Action<'s> {
    if !route.redirects.is_empty() {
        let parts = Parts {
            scheme: if request.secure { "https" } else { "http" },
            authority: request.authority,
            path: request.path,
            query: request.query,
        };
        let found =
            route.redirects.iter().find_map(|one| Some((one.location(&parts)?, one.status)));
        if let Some((location, status)) = found {
            return Action::Redirect(route, location, status);
        }
    }
    let fault = match &route.action {
        RouteAction::Pool(_) | RouteAction::Local(LocalAction::Files(_)) => {
            route.rewrite.fault(request.path)
        }
        RouteAction::Local(_) => None,
    };
    if let Some(fault) = fault {
        return Action::Malformed(route, fault);
    }
    let pool = match &route.action {
        RouteAction::Pool(pool) => *pool,
        RouteAction::Local(LocalAction::Files(_))
            if !matches!(request.method, b"GET" | b"HEAD") =>
        {
            return Action::NotAllowed(FILE_METHODS.to_vec());
        }
        RouteAction::Local(action) => return Action::Local(route, action),
    };
    let proxy = site.proxy.as_ref();
    match proxy.and_then(|proxy| Some((proxy, proxy.pools.get(pool)?))) {
        Some((proxy, pool)) => {
            let upgrade = route.websocket.is_some() && request.upgrade == Upgrade::WebSocket;
            Action::Proxy(Matched { site, proxy, route, pool, upgrade })
        }
        None => Action::Refuse(502),
    }
}

/// The methods that files answer.
const FILE_METHODS: &[&str] = &["GET", "HEAD"];

/// No route takes the request, so the site's files do, unless routes would have taken it but for what
/// they also ask for.
fn missed_by_all<'s>(site: &'s Site, request: &Request<'_>, missed: Missed<'s>) -> Action<'s> {
    if missed.conditions && site.mismatch_is_error {
        return Action::Refuse(400);
    }
    if !missed.methods.is_empty() {
        return Action::NotAllowed(missed.methods);
    }
    match request.method {
        _ if site.files.is_none() => Action::Refuse(404),
        b"GET" | b"HEAD" => Action::Files,
        _ => Action::NotAllowed(FILE_METHODS.to_vec()),
    }
}

fn health(path: &[u8]) -> Option<Health> {
    match path.strip_prefix(HEALTH_PATH)? {
        b"" | b"/" => Some(Health::Summary),
        b"/ready" => Some(Health::Ready),
        b"/live" => Some(Health::Live),
        _ => None,
    }
}
