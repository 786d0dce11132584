//! A route as the exchange uses it.

use std::sync::Arc;

use config::model::{self, Outcome, PathMatch};
use regex_automata::meta::Regex;

use super::rewrite::begins_whole;
use super::{Conditions, PathRewrite, Split};
use crate::files::FileServer;
use crate::filters::Edits;
use crate::guards::Guards;
use crate::guards::cors::CORS_FIELDS;
use crate::metrics::Series;
use crate::redirect::Redirect;
use crate::snapshot::Forwarding;
use crate::websocket;

/// One route.
#[derive(Debug)]
pub struct Route {
    /// The path or regular expression as it is configured, for logs.
    pub name: String,
    /// What `on_result` of other routes calls it.
    pub called: Option<String>,
    /// The paths it takes.
    pub path: Path,
    /// If it has the longest prefix, regular expressions are not asked.
    pub before_regex: bool,
    /// What else a request has to be like, if anything.
    pub conditions: Option<Conditions>,
    /// What becomes of the requests it takes.
    pub action: RouteAction,
    /// The path that is forwarded, or looked up.
    pub rewrite: PathRewrite,
    /// The method that is sent in the place of the client's.
    pub set_method: Option<String>,
    /// The Host that is sent in the place of any other.
    pub set_host: Option<String>,
    /// What holds for WebSockets; `None`: it takes none.
    pub websocket: Option<websocket::Settings>,
    /// A request for the path without its final "/" is redirected to it.
    pub redirect_slash: bool,
    /// URLs of the upstream in responses become those that clients see: what stands before its paths
    /// then, without a final slash.
    pub public_prefix: Option<String>,
    /// What is asked of requests before anything is done for them.
    pub guards: Guards,
    /// Longest body of an upstream's response.
    pub max_response_size: Option<u64>,
    /// Which fields about the client go upstream.
    pub forwarding: Forwarding,
    /// Edits of the request to the upstream.
    pub request: Edits,
    /// Edits of the response, whoever made it.
    response: Edits,
    /// Those where the way in which the request ended makes a difference.
    response_when: Vec<(Outcome, Edits)>,
    /// Statuses of an upstream that stand for failure; each with the last of its range.
    failure_statuses: Vec<(u16, u16)>,
    /// The route that takes over when a request ends so, by index in the table.
    on_result: Vec<(Outcome, usize)>,
    /// Redirects that come before the action.
    pub redirects: Vec<Redirect>,
    /// Pools that get some of the requests.
    pub split: Vec<Split>,
    /// A pool that gets copies of requests.
    pub mirror: Option<Split>,
    /// A rule asks for the request's id, so every request of the route has one.
    pub wants_request_id: bool,
    /// Where it is counted, together with those of its site that have the same path.
    pub series: Series,
}

/// What becomes of the requests a route takes.
#[derive(Debug)]
pub enum RouteAction {
    /// They go to the pool of this index.
    Pool(usize),
    /// They are answered here.
    Local(LocalAction),
}

/// How a route answers itself.
#[derive(Debug)]
pub enum LocalAction {
    /// From files.
    Files(Arc<FileServer>),
    /// By sending the client elsewhere; the target may have placeholders.
    Redirect {
        /// Where.
        to: String,
        /// The status.
        status: u16,
    },
    /// With this.
    Respond {
        /// The status.
        status: u16,
        /// The content, if any.
        body: Option<String>,
        /// Its type.
        content_type: String,
    },
}

/// The paths a route takes.
#[derive(Debug)]
pub enum Path {
    /// What begins with these whole segments.
    Prefix(String),
    /// This one.
    Exact(String),
    /// What begins with these characters.
    StartsWith(String),
    /// What this is found in.
    Regex(Regex),
    /// None.
    Never,
}

impl Path {
    /// Compiles what is configured; a regular expression that does not compile takes nothing, and
    /// configurations with one are not accepted.
    pub fn compile(path: &PathMatch) -> Self {
        match path {
            PathMatch::Prefix(path) => Self::Prefix(path.clone()),
            PathMatch::Exact(path) => Self::Exact(path.clone()),
            PathMatch::StartsWith(path) => Self::StartsWith(path.clone()),
            PathMatch::Regex { pattern, ignore_case } => {
                let pattern = match ignore_case {
                    true => format!("(?i){pattern}"),
                    false => pattern.clone(),
                };
                config::pattern::compile(&pattern).map_or(Self::Never, Self::Regex)
            }
            PathMatch::Never => Self::Never,
        }
    }

    /// It takes this canonical path.
    #[inline]
    pub fn takes(&self, path: &[u8]) -> bool {
        match self {
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| begins_whole(prefix, rest))
            }
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::StartsWith(prefix) => path.starts_with(prefix.as_bytes()),
            Self::Regex(regex) => regex.is_match(path),
            Self::Never => false,
        }
    }

    /// The characters that all its paths begin with.
    pub fn prefix(&self) -> Option<&str> {
        match self {
            Self::Prefix(prefix) | Self::StartsWith(prefix) => Some(prefix),
            Self::Exact(_) | Self::Regex(_) | Self::Never => None,
        }
    }

    pub(super) fn exact(&self) -> Option<&str> {
        match self {
            Self::Exact(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn is_pattern(&self) -> bool {
        matches!(self, Self::Regex(_))
    }
}

impl Route {
    /// Compiles a route, without what the site has to add: `action`, and the edits in `response` that
    /// come before the route's. What holds for its WebSockets has to be added.
    pub fn compile(
        route: &model::Route,
        action: RouteAction,
        base: (Edits, Edits),
        guards: Guards,
    ) -> Self {
        let headers = &route.headers;
        let (mut request, mut response) = base;
        request.apply(&headers.request);
        // What was proved says what these are.
        request.leave_alone(&guards.told().iter().map(String::as_str).collect::<Vec<_>>());
        response.apply(&headers.response);
        if guards.has_cors() {
            response.leave_alone(CORS_FIELDS);
        }
        let outcomes = Outcome::ALL.iter().map(|(_, outcome)| *outcome);
        let response_when: Vec<(Outcome, Edits)> = match route.response_when.is_empty() {
            true => Vec::new(),
            false => {
                outcomes.map(|outcome| (outcome, edits_for(route, outcome, &response))).collect()
            }
        };
        let uses_request_id = |edits: &Edits| edits.uses_request_id();
        let path = Path::compile(&route.path);
        Self {
            name: match (&route.path, &route.name) {
                (PathMatch::Never, Some(name)) => name.clone(),
                (path, _) => path.text().to_owned(),
            },
            called: route.name.clone(),
            before_regex: route.before_regex,
            conditions: Conditions::compile(&route.hosts, &route.methods, &route.when),
            action,
            rewrite: PathRewrite::compile(route, path.prefix()),
            path,
            set_method: route.set_method.clone(),
            set_host: route.set_host.clone(),
            websocket: None,
            redirect_slash: route.redirect_slash,
            public_prefix: public_prefix(route),
            guards,
            max_response_size: route.max_response_size,
            forwarding: Forwarding {
                preserve_host: headers.preserve_host,
                x_forwarded: headers.x_forwarded,
                x_real_ip: headers.x_real_ip,
                forwarded: headers.forwarded,
                via: headers.via,
            },
            wants_request_id: uses_request_id(&request)
                || uses_request_id(&response)
                || response_when.iter().any(|(_, edits)| uses_request_id(edits)),
            series: Series::default(),
            request,
            response,
            response_when,
            failure_statuses: route.failure_statuses.clone(),
            on_result: route
                .on_result
                .iter()
                .filter_map(|(outcome, to)| Some((*outcome, (*to)?)))
                .collect(),
            redirects: route.redirects.iter().filter_map(Redirect::compile).collect(),
            split: route.split.iter().map(Split::compile).collect(),
            mirror: route.mirror.as_ref().map(Split::compile),
        }
    }

    /// A field beside the forwarding ones may tell the upstream who the client is.
    pub fn tells_client(&self) -> bool {
        self.forwarding.x_real_ip || !self.request.templates().is_empty()
    }

    /// Edits of the response to a request that ended so.
    pub fn response(&self, outcome: Outcome) -> &Edits {
        let found = self.response_when.iter().find(|(of, _)| *of == outcome);
        found.map_or(&self.response, |(_, edits)| edits)
    }

    /// How a request ended that an upstream answered with this status.
    pub fn outcome_of(&self, status: u16) -> Outcome {
        let fails = |(first, last): &(u16, u16)| (*first..=*last).contains(&status);
        match self.failure_statuses.iter().any(fails) {
            true => Outcome::FailureStatus,
            false => Outcome::Success,
        }
    }

    /// The route that takes over from this one when a request ended so, by index.
    pub fn next(&self, outcome: Outcome) -> Option<usize> {
        self.on_result.iter().find(|(of, _)| *of == outcome).map(|(_, next)| *next)
    }
}

/// What stands before an upstream's paths in public; `None` if its URLs are left alone, as they are
/// where other changes of the path cannot be taken back.
fn public_prefix(route: &model::Route) -> Option<String> {
    if !route.rewrite_location || !route.rewrite.is_empty() {
        return None;
    }
    let prefix = match (&route.rewrite_target, &route.path) {
        (Some(target), path) => path.text().strip_suffix(target.as_str()).unwrap_or(""),
        (None, PathMatch::Prefix(path) | PathMatch::StartsWith(path)) if route.strip_prefix => path,
        (None, _) => "",
    };
    Some(prefix.trim_end_matches('/').to_owned())
}

fn edits_for(route: &model::Route, outcome: Outcome, of_all: &Edits) -> Edits {
    let mut edits = of_all.clone();
    for (_, rules) in route.response_when.iter().filter(|(on, _)| on.contains(&outcome)) {
        edits.apply(rules);
    }
    edits
}
