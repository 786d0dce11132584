//! Why a route does not take a request, and which of several that would is asked first.

use super::{Path, Route, RouteTable};
use crate::decide::Request;

/// What speaks against a route, taken by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// Its path is another.
    Path(String),
    /// Its path fits, but something else that it asks for does not.
    Condition(String),
}

impl Route {
    /// Why it would not take a request, were it the only one; `None` if it would.
    pub fn against(&self, request: &Request<'_>) -> Option<Against> {
        if !self.path.takes(request.path) {
            return Some(Against::Path(self.other_path(request.path)));
        }
        let conditions = self.conditions.as_ref()?;
        conditions.why_not(request).map(Against::Condition)
    }

    fn other_path(&self, path: &[u8]) -> String {
        match &self.path {
            Path::Never => "only other routes lead to it".to_owned(),
            Path::Prefix(prefix) if path.starts_with(prefix.as_bytes()) => {
                "its path ends inside of a segment here".to_owned()
            }
            Path::Prefix(prefix)
                if prefix.strip_suffix('/').is_some_and(|bare| bare.as_bytes() == path) =>
            {
                "its path has a slash at the end".to_owned()
            }
            Path::Exact(exact) if path.starts_with(exact.as_bytes()) => {
                "its path is exact, and there is more behind it".to_owned()
            }
            Path::Regex(_) => "its regular expression is not found in the path".to_owned(),
            _ => "its path".to_owned(),
        }
    }

    /// What kind of path it has, for those who ask why another came first.
    pub fn kind(&self) -> &'static str {
        match &self.path {
            Path::Prefix(_) => "prefix",
            Path::StartsWith(_) => "starts_with",
            Path::Exact(_) => "exact",
            Path::Regex(_) => "regex",
            Path::Never => "by name",
        }
    }
}

impl RouteTable {
    /// Why `taken` had a request that `other` would have taken, too.
    pub fn why_first(&self, taken: &Route, other: &Route) -> String {
        let name = &taken.name;
        let by_order = || format!("`{name}` comes before it");
        if self.order == config::model::RouteOrder::Declared {
            return by_order();
        }
        match (&taken.path, &other.path) {
            (Path::Exact(_), Path::Exact(_)) | (Path::Regex(_), Path::Regex(_)) => by_order(),
            (Path::Exact(_), _) => format!("`{name}` is the exact path"),
            (Path::Regex(_), _) => format!("`{name}`, a regular expression, is asked first"),
            (_, Path::Regex(_)) if taken.before_regex => {
                format!("`{name}` is the longest prefix and has `before_regex`")
            }
            (one, two) => match (one.prefix(), two.prefix()) {
                (Some(one), Some(two)) if one.len() > two.len() => {
                    format!("`{name}` is the longer prefix")
                }
                _ => by_order(),
            },
        }
    }
}
