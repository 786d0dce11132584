//! The routes of a PyServe server before they are native ones: what takes which paths, in PyServe's
//! terms, so that a path which asks for a password can do what it would do without one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use regex_automata::PatternID;
use regex_automata::meta::Regex;

use crate::dialect::build::{self, TableNode};
use crate::source::Span;
use crate::tree::Node;

/// Paths that a route takes.
pub(super) enum Takes {
    /// This one.
    Exact(String),
    /// What begins with these whole segments.
    Prefix(String),
    /// What a regular expression is found in.
    Regex { pattern: String, ignore_case: bool, compiled: Regex },
}

/// What becomes of the requests that a route takes.
#[derive(Clone)]
pub(super) enum Does {
    /// They go to a backend, an index into [`Plan::backends`].
    Proxy { backend: usize, path: Path },
    /// They are answered from files. With `spa` the page of the directory answers for what does not exist, but
    /// not for paths that begin as one of these.
    Files { root: String, index: Option<String>, spa: Option<Vec<String>>, path: Path },
    /// They are sent elsewhere.
    Redirect { to: String, status: u16 },
    /// They are answered with this.
    Respond { status: u16, body: String, content_type: Option<String> },
}

/// What a backend gets of a path, or is looked up.
#[derive(Clone)]
pub(super) enum Path {
    /// All of it.
    Kept,
    /// What is behind the route's prefix.
    Stripped,
    /// This.
    Replaced(String),
}

impl Path {
    fn put(&self, span: Span, route: &mut TableNode) {
        match self {
            Path::Kept => {}
            Path::Stripped => route.put("strip_prefix", build::boolean(true, span)),
            Path::Replaced(path) => route.put("rewrite_target", build::text(path.as_str(), span)),
        }
    }
}

/// A field to set.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
    /// The value has placeholders, as native TOML writes them.
    pub(super) fill: bool,
    pub(super) span: Span,
}

/// How hashes of passwords begin. PyServe knows none, and Ravelin advises them.
const HASHES: &[&str] = &["$argon2id$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$apr1$", "{SHA}"];

/// Who may come in.
#[derive(Clone)]
pub(super) struct Auth {
    pub(super) username: (String, Span),
    pub(super) password: (String, Span),
    pub(super) span: Span,
}

/// A route.
pub(super) struct Planned {
    pub(super) takes: Takes,
    pub(super) does: Does,
    /// Set on requests to a backend.
    pub(super) request: Vec<Field>,
    /// Set on responses.
    pub(super) response: Vec<Field>,
    pub(super) cache_control: Option<Field>,
    pub(super) auth: Option<Auth>,
    /// It is for what nothing else takes.
    pub(super) takes_the_rest: bool,
    /// What it comes from.
    pub(super) span: Span,
}

/// Where requests may be sent.
pub(super) struct Backend {
    pub(super) url: String,
    pub(super) name: String,
    pub(super) span: Span,
}

/// All routes.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) routes: Vec<Planned>,
    pub(super) backends: Vec<Backend>,
    pub(super) backend_of_url: HashMap<String, usize>,
    pub(super) backend_names: HashSet<String>,
    /// Directory of the files that answer where no route does.
    pub(super) files: String,
}

impl Takes {
    fn takes(&self, path: &str) -> bool {
        match self {
            Takes::Exact(own) => own == path,
            Takes::Prefix(prefix) => covers(prefix, path),
            Takes::Regex { compiled, .. } => compiled.is_match(path),
        }
    }
}

/// Whether a path is below a prefix, by whole segments.
pub(super) fn covers(prefix: &str, path: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

impl Planned {
    pub(super) fn new(takes: Takes, does: Does, span: Span) -> Planned {
        let (request, response) = (Vec::new(), Vec::new());
        Planned {
            takes,
            does,
            request,
            response,
            cache_control: None,
            auth: None,
            takes_the_rest: false,
            span,
        }
    }
}

impl Plan {
    /// The backend at a URL, which is added if it is new.
    pub(super) fn backend(&mut self, url: String, name: &str, span: Span) -> usize {
        let new = self.backends.len();
        match self.backend_of_url.entry(url.clone()) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(place) => _ = place.insert(new),
        }
        // Two that differ in the scheme or in the path behind the port get names that differ too.
        let is_new = self.backend_names.insert(name.to_owned());
        let name = if is_new { name.to_owned() } else { url.clone() };
        self.backend_names.insert(name.clone());
        self.backends.push(Backend { url, name, span });
        new
    }

    /// The prefix route for exactly these paths.
    pub(super) fn prefix(&self, path: &str) -> Option<&Planned> {
        let same = |route: &&Planned| matches!(&route.takes, Takes::Prefix(own) if own == path);
        self.routes.iter().find(same)
    }

    /// The route for exactly this path.
    pub(super) fn exact(&mut self, path: &str) -> Option<&mut Planned> {
        let same = |route: &&mut Planned| matches!(&route.takes, Takes::Exact(own) if own == path);
        self.routes.iter_mut().find(same)
    }

    /// The route that takes a path, in the order in which native routes are asked.
    pub(super) fn find(&self, path: &str) -> Option<&Planned> {
        let taking = || self.routes.iter().filter(|route| route.takes.takes(path));
        let exact = taking().find(|route| matches!(route.takes, Takes::Exact(_)));
        let regex = || taking().find(|route| matches!(route.takes, Takes::Regex { .. }));
        let length = |route: &&Planned| match &route.takes {
            Takes::Prefix(text) => text.len(),
            Takes::Exact(_) | Takes::Regex { .. } => 0,
        };
        exact.or_else(regex).or_else(|| taking().max_by_key(length))
    }

    /// What becomes of one path: as the route that takes it says, which is `prefix` if it is one.
    pub(super) fn does_at(&self, path: &str) -> Option<Does> {
        let route = self.find(path)?;
        let behind = |prefix: &str| {
            let rest = path.strip_prefix(prefix).unwrap_or(path);
            if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
        };
        let mut does = route.does.clone();
        if let (
            Takes::Prefix(prefix),
            Does::Proxy { path: sent, .. } | Does::Files { path: sent, .. },
        ) = (&route.takes, &mut does)
            && matches!(sent, Path::Stripped)
        {
            *sent = Path::Replaced(behind(prefix));
        }
        Some(does)
    }

    /// What becomes of a path that no route takes.
    pub(super) fn does_without_route(&self) -> Does {
        Does::Files { root: self.files.clone(), index: None, spa: None, path: Path::Kept }
    }

    /// The fields that a backend gets of one path, as the route that takes it says.
    pub(super) fn fields_at(&self, path: &str) -> Vec<Field> {
        let Some(route) = self.find(path) else { return Vec::new() };
        let mut fields = route.request.clone();
        if let Takes::Regex { compiled, .. } = &route.takes {
            let mut captures = compiled.create_captures();
            compiled.captures(path, &mut captures);
            let names = compiled.group_info().pattern_names(PatternID::ZERO);
            for (name, span) in names.zip(captures.iter()) {
                let Some(name) = name else { continue };
                let said = span.and_then(|span| path.get(span.range())).unwrap_or("");
                for field in fields.iter_mut().filter(|field| field.fill) {
                    field.value = field.value.replace(&format!("${{{name}}}"), said);
                }
            }
        }
        fields
    }

    /// The native routes, in the order in which they are asked.
    pub(super) fn build(&self) -> Vec<Node> {
        self.routes.iter().map(|route| self.route(route)).collect()
    }

    fn route(&self, route: &Planned) -> Node {
        let span = route.span;
        let mut node = TableNode::at(span);
        let (path, kind) = match &route.takes {
            Takes::Exact(path) => (path, Some("exact")),
            Takes::Prefix(path) => (path, None),
            Takes::Regex { pattern, ignore_case: false, .. } => (pattern, Some("regex")),
            Takes::Regex { pattern, ignore_case: true, .. } => (pattern, Some("regex_ignore_case")),
        };
        node.put("path", build::text(path.as_str(), span));
        node.put_some("match", kind.map(|kind| build::text(kind, span)));
        self.action(route, &mut node);
        put_fields("request_headers", &route.request, &mut node);
        put_fields("response_headers", &route.response, &mut node);
        if let Some(auth) = &route.auth {
            node.put("auth", auth.build());
        }
        node.build()
    }

    fn action(&self, route: &Planned, node: &mut TableNode) {
        let span = route.span;
        let yes = || build::boolean(true, span);
        match &route.does {
            Does::Proxy { backend, path } => {
                let name = self.backends.get(*backend).map_or("", |backend| backend.name.as_str());
                node.put("upstream", build::text(name, span));
                path.put(span, node);
                node.put("websocket", yes());
                node.put("rewrite_location", yes());
            }
            Does::Files { root, index, spa, path } => {
                node.put("root", build::text(root.as_str(), span));
                let index = index.as_deref();
                node.put_some("index_files", index.map(|name| build::texts([name], span)));
                if let Some(exclude) = spa {
                    node.put("spa_fallback", build::text(index.unwrap_or("index.html"), span));
                    if !exclude.is_empty() {
                        let exclude = exclude.iter().map(String::as_str);
                        node.put("spa_exclude", build::texts(exclude, span));
                    }
                }
                path.put(span, node);
                let field = route.cache_control.as_ref();
                node.put_some(
                    "cache_control",
                    field.map(|field| build::text(field.value.as_str(), field.span)),
                );
            }
            Does::Redirect { to, status } => {
                // A dollar sign stands for itself in PyServe.
                node.put("redirect", build::text(to.replace('$', "${}"), span));
                if *status != 302 {
                    node.put("status", build::number(*status, span));
                }
            }
            Does::Respond { status, body, content_type } => {
                node.put("status", build::number(*status, span));
                if !body.is_empty() {
                    node.put("body", build::text(body.as_str(), span));
                    node.put_some(
                        "content_type",
                        content_type
                            .as_ref()
                            .map(|media_type| build::text(media_type.as_str(), span)),
                    );
                }
            }
        }
    }

    /// The native upstreams.
    pub(super) fn upstreams(&self) -> Vec<Node> {
        let upstream = |backend: &Backend| {
            let mut node = TableNode::at(backend.span);
            node.put("name", build::text(backend.name.as_str(), backend.span));
            node.put("url", build::text(backend.url.as_str(), backend.span));
            // There is no other one to go to: each request is tried, and its failure is a 502.
            node.put("max_fails", build::number(0, backend.span));
            node.build()
        };
        self.backends.iter().map(upstream).collect()
    }
}

fn put_fields(table: &str, fields: &[Field], route: &mut TableNode) {
    for Field { name, value, fill, span } in fields {
        let key = if *fill { "fill" } else { "set" };
        route.within(table, *span, |table| {
            table.within(key, *span, |fields| {
                fields.put(name.as_str(), build::text(value.as_str(), *span));
            });
        });
    }
}

impl Auth {
    fn build(&self) -> Node {
        let span = self.span;
        let mut users = TableNode::at(span);
        let ((name, name_span), (password, password_span)) = (&self.username, &self.password);
        let hashed = HASHES.iter().any(|begin| password.starts_with(begin));
        let password = if hashed { password.clone() } else { format!("plain:{password}") };
        let password = build::text(password, *password_span);
        users.put_at(name.as_str(), *name_span, password);
        let mut auth = TableNode::at(span);
        auth.put("type", build::text("basic", span));
        auth.put("realm", build::text("Restricted Area", span));
        auth.put("users", users);
        auth.build()
    }
}
