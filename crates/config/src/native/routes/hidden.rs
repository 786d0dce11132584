//! Routes that no request comes to, because others before them take all of theirs.

use std::collections::HashMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::{PathMatch, Route, RouteOrder};
use crate::prefixes::Prefixes;
use crate::source::Span;

use super::Draft;

/// Reports routes that never take a request because one before takes all of theirs.
pub(super) fn report(drafts: &[(Draft<'_>, Span)], order: RouteOrder) {
    let mut seen: HashMap<&PathMatch, Span> = HashMap::new();
    for (Draft { context, route, .. }, place) in drafts {
        if route.path == PathMatch::Never {
            continue;
        }
        if let Some(first) = seen.get(&route.path) {
            let message = format!("a second route for `{}`", route.path.text());
            context.push(
                Diagnostic::warning(Code::Unused, *place, message)
                    .label("never used: the first one takes every request")
                    .also(*first, "the first one"),
            );
        } else if takes_all(route) {
            seen.insert(&route.path, *place);
        }
    }
    // With routes asked as declared, a shorter prefix hides all that come behind it.
    if order == RouteOrder::Declared {
        hidden(drafts);
    }
}

/// Whether a route takes every request with a path of its own.
fn takes_all(route: &Route) -> bool {
    route.hosts.is_empty() && route.methods.is_empty() && route.when.conditions.is_empty()
}

fn hidden(drafts: &[(Draft<'_>, Span)]) {
    // By path, the number and the place of the first route that takes all below it.
    let mut before: Prefixes<(usize, Span)> = Prefixes::default();
    for (index, (Draft { context, route, .. }, place)) in drafts.iter().enumerate() {
        let PathMatch::Prefix(path) = &route.path else { continue };
        let shorter = before.of(path).filter(|(prefix, _)| {
            let rest = path.get(prefix.len()..).unwrap_or_default();
            !rest.is_empty() && (prefix.ends_with('/') || rest.starts_with('/'))
        });
        let earlier = shorter.filter_map(|(_, at)| at.first()).min_by_key(|(index, _)| *index);
        if let Some((_, first)) = earlier {
            context.push(
                Diagnostic::warning(Code::Unused, *place, format!("no request comes to `{path}`"))
                    .label("never used: routes are asked as declared")
                    .also(*first, "this one takes every request before"),
            );
        }
        if takes_all(route) && before.at(path).is_empty() {
            before.add(path, (index, *place));
        }
    }
}
