//! Routes that no request comes to, and routes that take each other's requests.

use std::collections::HashMap;

use regex_automata::meta::Regex;

use super::{Of, Rule};
use crate::diagnostic::Diagnostic;
use crate::model::{
    Condition, Expected, HostMatch, HostPattern, PathMatch, Property, Route, RouteOrder, When,
};
use crate::pattern;
use crate::places::Place;

/// Routes of a site that are compared with each other; a site with more is not looked at this way.
const ROUTES_MAX: usize = 2000;

pub(super) fn look(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    let routes: Vec<(usize, &Route)> = of.site.routes.iter().enumerate().collect();
    let at = |index: usize| of.route(index, &[]);
    let unreachable = |index: usize, message: String, first: Option<usize>| {
        let finding = Diagnostic::lint(Rule::UnreachableRoute, at(index), message);
        with(finding, first.and_then(at), "this one takes its requests")
    };
    for (index, route) in &routes {
        if let Some(host) = other_host(of, route) {
            let message = format!(
                "no request comes to {}: the site does not answer to `{host}`",
                called(route)
            );
            found.push(unreachable(*index, message, None));
        }
    }
    if routes.len() > ROUTES_MAX {
        return;
    }
    let patterns = patterns(of);
    let everything: Vec<_> = routes.iter().filter(|(_, route)| takes_everything(route)).collect();
    let mut by_path: HashMap<&PathMatch, Vec<(usize, &Route)>> = HashMap::new();
    for (index, route) in &routes {
        if route.path == PathMatch::Never {
            continue;
        }
        let earlier = by_path.entry(&route.path).or_default();
        let first = earlier.iter().find(|(_, one)| takes_all(one)).map(|(first, _)| *first);
        let mut above = everything.iter();
        let above = above.find(|(first, one)| comes_first(of, (*first, one), *index, route));
        let above = first.or(above.map(|(first, _)| *first)).or_else(|| shorter(of, *index, route));
        match above {
            Some(first) => {
                let message = format!("no request comes to {}", called(route));
                found.push(unreachable(*index, message, Some(first)));
            }
            None => overlaps(of, (*index, route), earlier, &patterns, found),
        }
        earlier.push((*index, route));
    }
}

/// Regular expressions that take every request with a path of theirs.
fn patterns<'m>(of: &Of<'m>) -> Vec<(usize, &'m Route, Regex)> {
    let routes = of.site.routes.iter().enumerate().filter(|(_, route)| takes_all(route));
    let compiled = routes.filter_map(|(index, route)| {
        let PathMatch::Regex { pattern, ignore_case } = &route.path else { return None };
        let pattern = if *ignore_case { format!("(?i){pattern}") } else { pattern.clone() };
        Some((index, route, pattern::compile(&pattern).ok()?))
    });
    compiled.collect()
}

/// With routes asked as declared: one before whose prefix this one's path begins with.
fn shorter(of: &Of<'_>, index: usize, route: &Route) -> Option<usize> {
    let (RouteOrder::Declared, Some(path)) = (of.site.route_order, literal(route)) else {
        return None;
    };
    let mut before = of.site.routes.iter().take(index).enumerate();
    let found = before.find(|(_, one)| {
        takes_all(one)
            && match &one.path {
                PathMatch::Prefix(prefix) => {
                    let rest = path.strip_prefix(prefix.as_str());
                    rest.is_some_and(|rest| {
                        prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/')
                    })
                }
                PathMatch::StartsWith(prefix) => path.starts_with(prefix.as_str()),
                _ => false,
            }
    });
    found.map(|(first, _)| first)
}

/// The route at `first`, which takes everything, is asked before this one.
fn comes_first(of: &Of<'_>, (first, one): (usize, &Route), index: usize, route: &Route) -> bool {
    if first == index {
        return false;
    }
    let regex = |route: &Route| matches!(route.path, PathMatch::Regex { .. });
    match of.site.route_order {
        RouteOrder::Declared => first < index,
        RouteOrder::Longest => {
            let exact = matches!(route.path, PathMatch::Exact(_));
            // Of routes of one kind, the longest prefix comes first whatever the order is.
            regex(one) && !exact && !route.before_regex && (!regex(route) || first < index)
        }
    }
}

fn overlaps(
    of: &Of<'_>,
    (index, route): (usize, &Route),
    same: &[(usize, &Route)],
    patterns: &[(usize, &Route, Regex)],
    found: &mut Vec<Diagnostic>,
) {
    let other = same.iter().find(|(_, one)| !takes_all(route) && meet(one, route));
    if let Some((first, _)) = other {
        let message = format!(
            "{} and the one before may both take a request: the first one has it",
            called(route)
        );
        let finding = Diagnostic::lint(Rule::OverlappingRoutes, of.route(index, &[]), message);
        found.push(with(finding, of.route(*first, &[]), "the first one"));
    }
    let (RouteOrder::Longest, false, Some(path)) =
        (of.site.route_order, route.before_regex, literal(route))
    else {
        return;
    };
    if matches!(route.path, PathMatch::Exact(_)) {
        return;
    }
    // Found in the path itself, or right below it: what it takes is no matter of file names.
    let below = format!("{}/x", path.trim_end_matches('/'));
    let taker = patterns
        .iter()
        .find(|(_, _, regex)| regex.is_match(path.as_bytes()) || regex.is_match(below.as_bytes()));
    if let Some((first, one, _)) = taker {
        let message = format!(
            "{} comes before {} and takes requests that are for it",
            called(one),
            called(route)
        );
        let finding = Diagnostic::lint(Rule::OverlappingRoutes, of.route(index, &[]), message);
        let mut finding = with(finding, of.route(*first, &[]), "the regular expression");
        finding.help.push("`before_regex = true` asks a prefix first".to_owned());
        found.push(finding);
    }
}

/// Both could take one request: neither their hosts nor their methods nor the values of a property keep
/// them apart, and of what else they ask for neither asks for more than the other.
fn meet(one: &Route, other: &Route) -> bool {
    let apart = |a: &[String], b: &[String]| {
        !a.is_empty() && !b.is_empty() && !a.iter().any(|one| b.contains(one))
    };
    let hosts = |route: &Route| !route.hosts.is_empty();
    let hosts_apart =
        hosts(one) && hosts(other) && !one.hosts.iter().any(|host| other.hosts.contains(host));
    let asks = |route: &Route| !route.when.conditions.is_empty();
    // The special one first, then the rest: that is how it is meant.
    let narrower = asks(one) && !asks(other)
        || hosts(one) && !hosts(other)
        || !one.methods.is_empty() && other.methods.is_empty();
    !apart(&one.methods, &other.methods)
        && !hosts_apart
        && !narrower
        && !values_apart(&one.when, &other.when)
}

/// Both look at one property, and there is no value that suits both.
fn values_apart(one: &When, other: &When) -> bool {
    wanted(one).any(|(property, values)| {
        wanted(other).any(|(same, others)| {
            is_same(property, same) && !values.iter().any(|value| others.contains(value))
        })
    })
}

/// Conditions that name the only values a property may have, and that no other stands in for.
fn wanted(when: &When) -> impl Iterator<Item = (&Property, &[Expected])> {
    let exact = |condition: &Condition| {
        !condition.is.is_empty() && condition.is.iter().all(|is| matches!(is, Expected::Value(_)))
    };
    let instead = |of: &Property| match of {
        Property::Header(_) => when.any_header,
        Property::Query(_) => when.any_query,
        Property::Cookie(_) => false,
    };
    let needed = when.conditions.iter().filter(move |condition| {
        exact(condition) && !(instead(&condition.of) && when.conditions.len() > 1)
    });
    needed.map(|condition| (&condition.of, condition.is.as_slice()))
}

fn is_same(one: &Property, other: &Property) -> bool {
    match (one, other) {
        (Property::Header(one), Property::Header(other)) => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}

/// A host that the route is for, and that no request to the site names.
fn other_host<'r>(of: &Of<'_>, route: &'r Route) -> Option<&'r str> {
    if of.site.default || of.site.hosts.contains(&HostPattern::Any) {
        return None;
    }
    let mut other = None;
    for host in &route.hosts {
        let HostMatch::Pattern(HostPattern::Exact(name)) = host else { return None };
        let known = of.site.hosts.iter().any(|own| match own {
            HostPattern::Exact(own) => own == name,
            HostPattern::Wildcard(suffix) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            HostPattern::Any => true,
        });
        if known {
            return None;
        }
        other = other.or(Some(name.as_str()));
    }
    other
}

fn takes_all(route: &Route) -> bool {
    route.hosts.is_empty() && route.methods.is_empty() && route.when.conditions.is_empty()
}

fn takes_everything(route: &Route) -> bool {
    let every_path = match &route.path {
        PathMatch::Prefix(path) | PathMatch::StartsWith(path) => path == "/",
        PathMatch::Regex { pattern, .. } => {
            matches!(
                pattern.as_str(),
                "" | "^" | ".*" | "^.*" | "^.*$" | ".*$" | "/" | "^/" | "^/.*" | "^/.*$" | "."
            )
        }
        PathMatch::Exact(_) | PathMatch::Never => false,
    };
    every_path && takes_all(route)
}

/// The characters that its paths begin with.
fn literal(route: &Route) -> Option<&str> {
    match &route.path {
        PathMatch::Prefix(path) | PathMatch::StartsWith(path) | PathMatch::Exact(path) => {
            Some(path)
        }
        PathMatch::Regex { .. } | PathMatch::Never => None,
    }
}

fn called(route: &Route) -> String {
    match (&route.path, &route.name) {
        (PathMatch::Never, Some(name)) => format!("the route `{name}`"),
        (path, _) => format!("the route `{}`", path.text()),
    }
}

fn with(mut finding: Diagnostic, other: Option<Place>, message: &str) -> Diagnostic {
    let label =
        |place: Place| crate::diagnostic::Label { span: place.span, message: message.to_owned() };
    finding.labels.extend(other.map(label));
    finding
}
