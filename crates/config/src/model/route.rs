//! Routes: which requests are taken, and what becomes of them.

use super::{Files, Guards, HeaderRules, Headers, HostPattern, WebSocket};

/// One route of a site.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// What other routes call it in `on_result`.
    pub name: Option<String>,
    /// The paths it takes.
    pub path: PathMatch,
    /// If it has the longest prefix of a path, regular expressions are not asked. Default false.
    pub before_regex: bool,
    /// The hosts it is for; empty: all of the site.
    pub hosts: Vec<HostMatch>,
    /// The methods it takes; empty: all. Others are answered 405 if no other route takes them.
    pub methods: Vec<String>,
    /// What else a request has to be like.
    pub when: When,
    /// What becomes of the requests it takes.
    pub action: RouteAction,
    /// Take the path's prefix off before forwarding, or before files are looked up.
    pub strip_prefix: bool,
    /// Replaces the whole path (query kept); wins over `strip_prefix`.
    pub rewrite_target: Option<String>,
    /// Changes to the path, one after the other, after those two.
    pub rewrite: Vec<Rewrite>,
    /// The method to send in the place of the client's.
    pub set_method: Option<String>,
    /// The Host to send in the place of any other.
    pub set_host: Option<String>,
    /// What is added to and removed from messages: what holds for the site's proxy, and what the route
    /// says after that.
    pub headers: Headers,
    /// What holds for WebSockets; `None`: the route takes none.
    pub websocket: Option<WebSocket>,
    /// 301 a request for `/x` to `/x/` when the path is `/x/`. Default false.
    pub redirect_slash: bool,
    /// Make URLs of the upstream in `Location` and its like those that clients see. Default false.
    pub rewrite_location: bool,
    /// Longest request body. Default [`Security::max_request_size`](super::Security).
    pub max_request_size: Bound,
    /// Longest body of an upstream's response.
    pub max_response_size: Option<u64>,
    /// What is asked of every request that it takes, beside what its site asks.
    pub guards: Guards,
    /// Redirects that are looked at before the action, in order.
    pub redirects: Vec<Redirect>,
    /// Pools that get some of the requests in the place of the action's, in order.
    pub split: Vec<Split>,
    /// A pool that gets a copy of requests, whose responses are dropped.
    pub mirror: Option<Split>,
    /// Changes of responses to requests that ended in one of these ways, after those of `headers`.
    pub response_when: Vec<(Vec<Outcome>, HeaderRules)>,
    /// Statuses of an upstream that stand for failure; each with the last of its range. Default 5xx.
    pub failure_statuses: Vec<(u16, u16)>,
    /// The route that takes over when a request ends so, by index in the site's routes; `None`: it ends,
    /// which is so for all that are not here.
    pub on_result: Vec<(Outcome, Option<usize>)>,
}

impl Route {
    /// Statuses that stand for failure if nothing is said.
    pub const FAILURES: &[(u16, u16)] = &[(500, 599)];

    /// The route to a site's only pool, for every path.
    pub(crate) fn every_path(headers: &Headers) -> Self {
        Self {
            name: None,
            path: PathMatch::Prefix("/".to_owned()),
            before_regex: false,
            hosts: Vec::new(),
            methods: Vec::new(),
            when: When::default(),
            action: RouteAction::Upstream(0),
            strip_prefix: false,
            rewrite_target: None,
            rewrite: Vec::new(),
            set_method: None,
            set_host: None,
            headers: headers.clone(),
            websocket: None,
            redirect_slash: false,
            rewrite_location: false,
            max_request_size: Bound::Inherited,
            max_response_size: None,
            guards: Guards::default(),
            redirects: Vec::new(),
            split: Vec::new(),
            mirror: None,
            response_when: Vec::new(),
            failure_statuses: Self::FAILURES.to_vec(),
            on_result: Vec::new(),
        }
    }

    /// The pools that some of its requests go to, by index.
    pub fn pools(&self) -> impl Iterator<Item = usize> {
        let action = match self.action {
            RouteAction::Upstream(pool) => Some(pool),
            _ => None,
        };
        action.into_iter().chain(self.split.iter().chain(&self.mirror).map(|split| split.pool))
    }
}

/// Paths that a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// What begins with these whole segments: `/api` takes `/api` and `/api/x`, not `/apix`; `/api/`
    /// takes what starts with it.
    Prefix(String),
    /// This one.
    Exact(String),
    /// What begins with these characters.
    StartsWith(String),
    /// What this regular expression is found in.
    Regex {
        /// As it is compiled.
        pattern: String,
        /// Whatever the case of letters.
        ignore_case: bool,
    },
    /// None: requests come here from other routes only.
    Never,
}

impl PathMatch {
    /// The path or regular expression as it is written; empty for [`PathMatch::Never`].
    pub fn text(&self) -> &str {
        match self {
            Self::Prefix(text) | Self::Exact(text) | Self::StartsWith(text) => text,
            Self::Regex { pattern, .. } => pattern,
            Self::Never => "",
        }
    }
}

/// Hosts that a route is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    /// As for sites.
    Pattern(HostPattern),
    /// `example.*` is kept as `example`: matches one or more labels behind it.
    Leading(String),
    /// What this regular expression is found in; hosts are in lower case.
    Regex(String),
}

/// What a request has to be like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct When {
    /// All of them have to hold.
    pub conditions: Vec<Condition>,
    /// Of those about fields one is enough.
    pub any_header: bool,
    /// Of those about the query one is enough.
    pub any_query: bool,
}

/// Something a request has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub of: Property,
    /// What it has to be; one is enough. Empty: it has to be there.
    pub is: Vec<Expected>,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// The values of this field.
    Header(String),
    /// The values of this parameter of the query, decoded.
    Query(String),
    /// The value of this cookie.
    Cookie(String),
}

/// What a value has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this.
    Value(String),
    /// Something that begins with this.
    Prefix(String),
    /// Something this regular expression is found in.
    Regex(String),
    /// Nothing, or not there.
    Empty,
}

/// What becomes of the requests a route takes.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteAction {
    /// They go to a pool: an index into [`Proxy::pools`](super::Proxy::pools) of the site.
    Upstream(usize),
    /// They are answered from files.
    Files(Files),
    /// They are sent elsewhere.
    Redirect {
        /// Where, see [`Redirect::to`].
        to: String,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// They are answered with this.
    Respond {
        /// From 200 on.
        status: u16,
        /// The content; `None`: none, or the page of an error.
        body: Option<String>,
        /// Its `Content-Type`.
        content_type: String,
    },
}

/// A change of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// This is taken off its beginning.
    TrimPrefix(String),
    /// This is put before it.
    AddPrefix(String),
    /// If it begins with the first, the second takes the place of that.
    ReplacePrefix(String, String),
    /// This takes its place.
    Replace(String),
    /// Whatever this regular expression matches is replaced by what the second says; `$1` is a group.
    Regex(String, String),
}

/// A redirect of some of a route's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// What the regular expression is looked for in.
    pub of: UrlPart,
    /// Only what it is found in is redirected.
    pub regex: String,
    /// What takes the place of what it matched, in that part; `$1` is a group.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A part of a request's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlPart {
    /// The path.
    Path,
    /// Path and query.
    Uri,
    /// All of it, with scheme and host.
    Full,
}

/// A pool that gets some requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Index into [`Proxy::pools`](super::Proxy::pools).
    pub pool: usize,
    /// How many of a million; `None`: all that the rest lets through.
    pub share: Option<u32>,
    /// What decides whether a request is among them.
    pub by: SplitBy,
    /// What else a request has to be like.
    pub when: When,
    /// The methods it is for; empty: all.
    pub methods: Vec<String>,
    /// The paths it is for.
    pub path: Option<PathMatch>,
}

/// What decides whether a request is among a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitBy {
    /// Chance.
    Random,
    /// The client's address.
    Address,
    /// The value of this field.
    Header(String),
}

/// A bound of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bound {
    /// That of all.
    #[default]
    Inherited,
    /// None.
    Unlimited,
    /// This many bytes.
    Bytes(u64),
}

/// How a request may end at a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered as it should be.
    Success,
    /// Refused by an access list.
    Denied,
    /// Without valid credentials.
    Unauthorized,
    /// Beyond a rate limit.
    RateLimited,
    /// A CORS preflight, which is answered here.
    Preflight,
    /// Redirected.
    Redirected,
    /// No upstream could be connected to, or it failed.
    Unreachable,
    /// An upstream took too long.
    Timeout,
    /// There was no usable upstream.
    NoEndpoint,
    /// The circuit was open.
    CircuitOpen,
    /// An upstream answered with a status that stands for failure.
    FailureStatus,
    /// The client is to blame.
    ClientError,
}

impl Outcome {
    /// Every outcome with its word in configurations.
    pub const ALL: &'static [(&'static str, Outcome)] = &[
        ("success", Outcome::Success),
        ("denied", Outcome::Denied),
        ("unauthorized", Outcome::Unauthorized),
        ("rate_limited", Outcome::RateLimited),
        ("preflight", Outcome::Preflight),
        ("redirected", Outcome::Redirected),
        ("unreachable", Outcome::Unreachable),
        ("timeout", Outcome::Timeout),
        ("no_endpoint", Outcome::NoEndpoint),
        ("circuit_open", Outcome::CircuitOpen),
        ("failure_status", Outcome::FailureStatus),
        ("client_error", Outcome::ClientError),
    ];
}

/// In which order routes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteOrder {
    /// An exact path; the longest prefix if it says so; regular expressions in declared order; the
    /// longest prefix.
    #[default]
    Longest,
    /// As declared.
    Declared,
}
