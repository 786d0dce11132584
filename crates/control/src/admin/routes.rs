//! The table of everything that the admin API answers. Requests are dispatched by it and the OpenAPI
//! document is made from it, so that neither knows of anything the other does not.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use config::model::AdminLevel;
use http::Method;

use super::response::{Problem, Response};
use super::schema::{Field, Shape};
use super::{Request, Running, api, bounds, query};

/// An answer on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response, Problem>> + 'a>>;

/// Answers requests of a route.
pub type Handler = for<'a> fn(&'a Running, Request) -> Answer<'a>;

/// One thing that can be asked for.
#[derive(Debug)]
pub struct Route {
    /// The method; HEAD is answered where GET is.
    pub method: &'static str,
    /// The path; `{name}` stands for one segment of any text.
    pub path: &'static str,
    /// Who may; `None`: anybody who gets here, without a key. It must tell nothing then.
    pub level: Option<AdminLevel>,
    /// What it does, as a sentence.
    pub summary: &'static str,
    /// The parameters that the query may have.
    pub query: &'static [Field],
    /// The body that it takes.
    pub body: Content,
    /// Longest such body, in bytes.
    pub body_max: usize,
    /// What it answers when it has done what it was asked to.
    pub answer: Content,
    /// Longest time it may take.
    pub time: Duration,
    /// Does it.
    pub handler: Handler,
}

/// The content of a request or response.
#[derive(Debug)]
pub enum Content {
    /// None.
    None,
    /// JSON of this form.
    Json(&'static Shape),
    /// JSON of this form, or a text of any other media type.
    JsonOrText(&'static Shape),
    /// A text of this media type.
    Text(&'static str),
}

impl Route {
    /// A route for GET.
    pub const fn get(path: &'static str, summary: &'static str, handler: Handler) -> Self {
        Self::new("GET", path, AdminLevel::User, summary, handler)
    }

    /// A route of another method; those are for operators unless they say otherwise.
    pub const fn to(
        method: &'static str,
        path: &'static str,
        summary: &'static str,
        handler: Handler,
    ) -> Self {
        Self::new(method, path, AdminLevel::Operator, summary, handler)
    }

    const fn new(
        method: &'static str,
        path: &'static str,
        level: AdminLevel,
        summary: &'static str,
        handler: Handler,
    ) -> Self {
        Self {
            method,
            path,
            level: Some(level),
            summary,
            query: &[],
            body: Content::None,
            body_max: bounds::BODY_MAX,
            answer: Content::None,
            time: bounds::ANSWER_TIME,
            handler,
        }
    }

    /// The same for this level only.
    #[must_use]
    pub const fn level(self, level: Option<AdminLevel>) -> Self {
        Self { level, ..self }
    }

    /// The same with these parameters.
    #[must_use]
    pub const fn query(self, query: &'static [Field]) -> Self {
        Self { query, ..self }
    }

    /// The same with a body.
    #[must_use]
    pub const fn body(self, body: Content, body_max: usize) -> Self {
        Self { body, body_max, ..self }
    }

    /// The same with an answer of this form.
    #[must_use]
    pub const fn answer(self, answer: Content) -> Self {
        Self { answer, ..self }
    }

    /// The same with more or less time.
    #[must_use]
    pub const fn time(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// The values of the path's `{…}` if this is its path.
    fn values(&self, path: &str) -> Option<Vec<String>> {
        let mut asked = path.split('/');
        let mut values = Vec::new();
        for segment in self.path.split('/') {
            let asked = asked.next()?;
            match segment.starts_with('{') {
                true => values.push(query::decode(asked, false).filter(|it| !it.is_empty())?),
                false if segment == asked => {}
                false => return None,
            }
        }
        asked.next().is_none().then_some(values)
    }
}

/// Everything there is.
pub(super) fn table() -> impl Iterator<Item = &'static Route> + Clone {
    api::ROUTES.iter().copied().flatten()
}

/// What the OpenAPI document has: method and path of each route.
pub fn documented() -> impl Iterator<Item = (&'static str, &'static str)> {
    table().map(|route| (route.method, route.path))
}

/// Where a request leads.
#[derive(Debug)]
pub(super) enum Found {
    /// To this route, with the values of its path.
    Route(&'static Route, Vec<String>),
    /// To a path that takes these methods.
    OtherMethods(String),
    /// Nowhere.
    Nothing,
}

/// The route of a request.
pub(super) fn find(method: &Method, path: &str) -> Found {
    let asked = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut methods: Vec<&str> = Vec::new();
    for route in table() {
        let Some(values) = route.values(path) else { continue };
        if route.method == asked {
            return Found::Route(route, values);
        }
        methods.push(route.method);
        if route.method == "GET" {
            methods.push("HEAD");
        }
    }
    if methods.is_empty() { Found::Nothing } else { Found::OtherMethods(methods.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_one_route() {
        let mut seen: Vec<(&str, String)> = Vec::new();
        for route in table() {
            assert!(route.path.starts_with('/'), "{}", route.path);
            assert!(route.summary.ends_with('.'), "{}: {}", route.path, route.summary);
            let pattern: Vec<&str> = route
                .path
                .split('/')
                .map(|segment| if segment.starts_with('{') { "{}" } else { segment })
                .collect();
            let this = (route.method, pattern.join("/"));
            assert!(!seen.contains(&this), "{this:?} is there twice");
            seen.push(this);
        }
    }

    #[test]
    fn paths_are_met_whole() {
        assert!(matches!(find(&Method::GET, "/v1/status"), Found::Route(..)));
        assert!(matches!(find(&Method::HEAD, "/v1/status"), Found::Route(..)));
        for path in ["", "/v1", "/v1/status/", "/v1/status/x", "//v1/status", "/V1/status"] {
            assert!(matches!(find(&Method::GET, path), Found::Nothing), "{path}");
        }
        match find(&Method::DELETE, "/v1/status") {
            Found::OtherMethods(methods) => assert_eq!(methods, "GET, HEAD"),
            other => panic!("{other:?}"),
        }
    }
}
