//! What a configuration does that its author may not want: `ravelin check --strict`.
//!
//! Everything here can be served, and is, without a word; a rule says why one may think better of it.
//! Each has a code that stays, and may be allowed in `[lint]`. Nothing is looked at but the model:
//! whoever can read certificates adds what they say with [`Diagnostic::lint`].

mod routes;
mod security;
mod upstreams;

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::model::{Model, Site};
use crate::places::Place;

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident = ($code:literal, $text:literal),)+) => {
        /// What the linter looks for. Codes and names are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule { $($(#[doc = $doc])+ $name,)+ }

        impl Rule {
            /// Every rule, its code, its name and what it says.
            pub const ALL: &'static [(Rule, &'static str, &'static str, &'static str)] =
                &[$((Rule::$name, $code, $text, concat!($($doc),+)),)+];
        }
    };
}

rules! {
    /// No request comes to a route: what comes before it takes all of its requests, or it is for hosts
    /// that its site does not answer to.
    UnreachableRoute = ("L001", "unreachable-route"),
    /// Two routes take the same requests, and only the order in which they are asked decides between
    /// them; or a regular expression takes requests out of what another route is for.
    OverlappingRoutes = ("L002", "overlapping-routes"),
    /// Nothing leads to an upstream.
    UnusedUpstream = ("L003", "unused-upstream"),
    /// A timeout of upstreams is as good as none: `connect` of more than a minute, or `read`, `write` or
    /// `first_byte` of more than ten.
    MissingTimeout = ("L004", "missing-timeout"),
    /// Request bodies are kept here before they are passed on (`buffering.request`), and no
    /// `max_request_size` bounds them before `buffering.max` does.
    NoBodyLimit = ("L005", "no-body-limit"),
    /// Clients are sent round and round: to https, by a site that never knows that they are there; to
    /// the very URL that they asked for; or to one that is sent there again.
    HttpsLoop = ("L006", "https-loop"),
    /// Everybody, or a large part of the Internet, is believed who says that a request is somebody else's.
    TrustsEverybody = ("L007", "trusts-everybody"),
    /// A redirect leads to whatever host the request names, at a site that answers to every host.
    OpenRedirect = ("L008", "open-redirect"),
    /// TLS 1.3 is turned off.
    WeakTls = ("L009", "weak-tls"),
    /// Nobody checks the certificate of an upstream.
    UnverifiedUpstream = ("L010", "unverified-upstream"),
    /// A site with TLS, to which plain requests are redirected, does not tell browsers to stay with it
    /// (HSTS). Not of `localhost` and IP addresses.
    MissingHsts = ("L011", "missing-hsts"),
    /// A certificate does not cover a host of its site.
    CertificateHost = ("L012", "certificate-host"),
    /// A certificate expires within 30 days, or has.
    CertificateExpiry = ("L013", "certificate-expiry"),
    /// Pages of any origin may make requests with the credentials of your users.
    OpenCors = ("L014", "open-cors"),
    /// Passwords or tokens are asked for over plain HTTP.
    PlainCredentials = ("L015", "plain-credentials"),
    /// A pool of several upstreams has no health check, and clients see it when one is down: there is
    /// one attempt only, or failed ones take no upstream out.
    NoHealthCheck = ("L016", "no-health-check"),
    /// Credentials that are easily had: a password as plain text, a hash that is quickly
    /// computed, a secret that is short, a token that never expires.
    WeakCredentials = ("L017", "weak-credentials"),
    /// Requests go to a public address without TLS.
    PlainUpstream = ("L018", "plain-upstream"),
}

/// Days before its end that a certificate is reported.
pub const EXPIRY_DAYS: i64 = 30;

impl Rule {
    /// Its code, "L001".
    pub fn code(self) -> &'static str {
        self.entry().map_or("", |(_, code, ..)| code)
    }

    /// Its name, "unreachable-route".
    pub fn name(self) -> &'static str {
        self.entry().map_or("", |(_, _, name, _)| name)
    }

    /// The rule with this code or name.
    pub fn called(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, code, name, _)| [*code, *name].contains(&text));
        found.map(|(rule, ..)| *rule)
    }

    fn entry(self) -> Option<&'static (Rule, &'static str, &'static str, &'static str)> {
        Self::ALL.iter().find(|(rule, ..)| *rule == self)
    }
}

impl Diagnostic {
    /// What a rule says about a place.
    pub fn lint(rule: Rule, place: Option<Place>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            code: Code::Lint(rule),
            message: message.into(),
            span: place.map(|place| place.span),
            label: rule.name().replace('-', " "),
            labels: Vec::new(),
            help: Vec::new(),
            suggestion: None,
        }
    }
}

/// What the rules say about a model, by place.
pub fn lint(model: &Model) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (index, site) in model.sites.iter().enumerate() {
        let of = Of { model, site, index };
        routes::look(&of, &mut found);
        upstreams::look(&of, &mut found);
        security::of_site(&of, &mut found);
    }
    security::of_all(model, &mut found);
    found.sort_by_key(|finding| (finding.span, finding.code.as_str()));
    found.dedup();
    found
}

/// One site, and what it belongs to.
struct Of<'m> {
    model: &'m Model,
    site: &'m Site,
    index: usize,
}

impl Of<'_> {
    /// Where something of the site is written, else where the site is.
    fn place(&self, keys: &[&str]) -> Option<Place> {
        let places = &self.model.places;
        places.site(self.index, keys).or_else(|| places.site(self.index, &[]))
    }

    /// The same of a route.
    fn route(&self, route: usize, keys: &[&str]) -> Option<Place> {
        let places = &self.model.places;
        places
            .route(self.index, route, keys)
            .or_else(|| places.route(self.index, route, &[]))
            .or_else(|| self.place(&["proxy"]))
    }

    /// The same of a pool, else where its first entry is.
    fn pool(&self, pool: &str, keys: &[&str]) -> Option<Place> {
        let places = &self.model.places;
        places.pool(self.index, pool, keys).or_else(|| places.pool(self.index, pool, &[]))
    }

    /// The same of an entry of a pool.
    fn upstream(&self, pool: &str, nth: usize, keys: &[&str]) -> Option<Place> {
        let places = &self.model.places;
        places
            .upstream(self.index, pool, nth, keys)
            .or_else(|| places.upstream(self.index, pool, nth, &[]))
    }
}

/// Whether the configuration wants to hear nothing of this; never of an error.
pub fn is_allowed(model: &Model, finding: &Diagnostic) -> bool {
    let named = |name: &str| model.lint_allow.iter().any(|allowed| allowed == name);
    match finding.code {
        _ if finding.severity == Severity::Error => false,
        Code::Lint(rule) => named(rule.code()) || named(rule.name()),
        code => named(code.as_str()),
    }
}
