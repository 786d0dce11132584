//! The routes of a site: which one takes a request.
//!
//! In the usual order an exact path comes first, then regular expressions as declared, then the longest
//! prefix, on whole segments. Prefixes are sorted by path and each knows the longest other that is a
//! prefix of it, so a look-up is one binary search and a walk up that chain, however many routes there
//! are. Where routes are asked as declared, they are.
//!
//! What always holds: nothing here depends on anything but the request and the snapshot, so the same
//! request meets the same route.

mod conditions;
mod rewrite;
mod route;
mod split;
mod why;

pub use conditions::{Conditions, Fields};
pub use rewrite::{PathRewrite, replace_all};
pub use route::{LocalAction, Path, Route, RouteAction};
pub use split::Split;
pub use why::Against;

use std::collections::HashMap;

use config::model::RouteOrder;

use crate::decide::{Request, Trace};

/// The routes of one site.
#[derive(Debug)]
pub struct RouteTable {
    /// As declared.
    routes: Vec<Route>,
    order: RouteOrder,
    /// Exact paths, with their routes.
    exact: HashMap<String, Vec<usize>>,
    /// Regular expressions, as declared.
    patterns: Vec<usize>,
    /// Prefixes, sorted byte for byte.
    prefixes: Vec<Prefix>,
    /// Some route asks for a redirect to its final slash.
    redirects: bool,
    /// Some route looks for a token in the query.
    reads_query: bool,
}

#[derive(Debug)]
struct Prefix {
    path: String,
    /// Its routes as declared.
    routes: Vec<usize>,
    /// The longest other whose path is a (byte) prefix of this one.
    parent: Option<usize>,
}

/// What a request met.
#[derive(Debug)]
pub enum Found<'a> {
    /// This route takes it.
    Route(&'a Route),
    /// The path lacks only the final "/" of a route that asks for a redirect.
    AddSlash,
    /// Nothing, but some would have taken it.
    Missed(Missed<'a>),
}

/// Why routes whose path matched did not take a request.
#[derive(Debug, Default)]
pub struct Missed<'a> {
    /// A condition on its fields, query or cookies did not hold.
    pub conditions: bool,
    /// The methods that would have been taken.
    pub methods: Vec<&'a str>,
}

impl RouteTable {
    /// A table of `routes` in declared order.
    pub fn new(routes: Vec<Route>, order: RouteOrder) -> Self {
        let redirects = routes.iter().any(|route| route.redirect_slash);
        let reads_query = routes.iter().any(|route| route.guards.reads_query());
        let mut table = Self {
            routes,
            order,
            exact: HashMap::new(),
            patterns: Vec::new(),
            prefixes: Vec::new(),
            redirects,
            reads_query,
        };
        let mut prefixes: Vec<(String, usize)> = Vec::new();
        for (index, route) in table.routes.iter().enumerate() {
            if let Some(prefix) = route.path.prefix() {
                prefixes.push((prefix.to_owned(), index));
            } else if let Some(exact) = route.path.exact() {
                table.exact.entry(exact.to_owned()).or_default().push(index);
            } else if route.path.is_pattern() {
                table.patterns.push(index);
            }
        }
        // Stable, so that of two with one path the first comes first.
        prefixes.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        table.add_prefixes(prefixes);
        table
    }

    fn add_prefixes(&mut self, sorted: Vec<(String, usize)>) {
        for (path, route) in sorted {
            if let Some(last) = self.prefixes.last_mut().filter(|last| last.path == path) {
                last.routes.push(route);
                continue;
            }
            let mut parent = self.prefixes.len().checked_sub(1);
            while let Some(entry) = parent.and_then(|index| self.prefixes.get(index)) {
                if path.starts_with(&entry.path) {
                    break;
                }
                parent = entry.parent;
            }
            self.prefixes.push(Prefix { path, routes: vec![route], parent });
        }
    }

    /// The routes as declared.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Some route looks for a token in the query.
    pub fn reads_query(&self) -> bool {
        self.reads_query
    }

    /// The route for a request.
    pub fn find<'t>(&'t self, request: &Request<'_>, trace: &mut Trace) -> Found<'t> {
        if self.redirects && self.asks_for_slash(request.path) {
            return Found::AddSlash;
        }
        let mut search = Search { request, trace, missed: Missed::default() };
        let found = match self.order {
            RouteOrder::Longest => self.most_specific(&mut search),
            RouteOrder::Declared => self.routes.iter().find(|route| search.takes(route)),
        };
        match found {
            Some(route) => Found::Route(route),
            None => Found::Missed(search.missed),
        }
    }

    fn most_specific<'t>(&'t self, search: &mut Search<'_, '_, 't>) -> Option<&'t Route> {
        let path = search.request.path;
        if !self.exact.is_empty()
            && let Some(routes) = std::str::from_utf8(path).ok().and_then(|p| self.exact.get(p))
            && let Some(route) = self.first(routes, search)
        {
            return Some(route);
        }
        if !self.patterns.is_empty() {
            let mut longest = self.prefixes_of(path).flat_map(|prefix| &prefix.routes);
            let longest = longest.find_map(|index| {
                let route = self.routes.get(*index)?;
                route.path.takes(path).then_some(route)
            });
            if let Some(route) = longest.filter(|route| route.before_regex)
                && search.takes(route)
            {
                return Some(route);
            }
            if let Some(route) = self.first(&self.patterns, search) {
                return Some(route);
            }
        }
        self.prefixes_of(path).find_map(|prefix| self.first(&prefix.routes, search))
    }

    /// The first of these that takes the request.
    fn first<'t>(&'t self, routes: &[usize], search: &mut Search<'_, '_, 't>) -> Option<&'t Route> {
        let mut routes = routes.iter().filter_map(|index| self.routes.get(*index));
        routes.find(|route| search.takes(route))
    }

    /// The entries whose path is a byte prefix of `path`, the longest first.
    fn prefixes_of(&self, path: &[u8]) -> impl Iterator<Item = &Prefix> {
        // Every prefix of `path` sorts before it, and so does nothing between the longest of them and
        // `path` that is not an extension of that longest: walking up from the last entry not after
        // `path` meets it first.
        let after = self.prefixes.partition_point(|entry| entry.path.as_bytes() <= path);
        let entry = |index: Option<usize>| index.and_then(|index| self.prefixes.get(index));
        let first = entry(after.checked_sub(1));
        std::iter::successors(first, move |prefix| entry(prefix.parent))
            .filter(move |prefix| path.starts_with(prefix.path.as_bytes()))
    }

    fn asks_for_slash(&self, path: &[u8]) -> bool {
        let found = self
            .prefixes
            .binary_search_by(|entry| entry.path.bytes().cmp(path.iter().copied().chain([b'/'])));
        let entry = found.ok().and_then(|index| self.prefixes.get(index));
        entry.is_some_and(|entry| {
            let mut routes = entry.routes.iter().filter_map(|index| self.routes.get(*index));
            routes.any(|route| route.redirect_slash)
        })
    }
}

/// The search of one request.
struct Search<'r, 'q, 't> {
    request: &'r Request<'q>,
    trace: &'r mut Trace,
    missed: Missed<'t>,
}

impl<'t> Search<'_, '_, 't> {
    /// The route takes the request; notes why not.
    fn takes(&mut self, route: &'t Route) -> bool {
        let request = self.request;
        if !route.path.takes(request.path) {
            return false;
        }
        let Some(conditions) = &route.conditions else {
            self.trace.took(route);
            return true;
        };
        let why = if !conditions.host(request.host) {
            "its hosts"
        } else if !conditions.properties(request) {
            self.missed.conditions = true;
            "a condition"
        } else if !conditions.method(request.method) {
            for method in conditions.methods() {
                if !self.missed.methods.contains(&method) {
                    self.missed.methods.push(method);
                }
            }
            "its methods"
        } else {
            self.trace.took(route);
            return true;
        };
        self.trace.passed(route, why);
        false
    }
}

#[cfg(test)]
mod tests;
