//! The other paths at which a client gets what it gets at one: what asks for a password asks at all of
//! them.
//!
//! A file has a name in `static_dir` and one below `/static/`, the page of a directory has its own name
//! and the directory's, and two prefixes may lead to one backend.

use std::collections::BTreeSet;

use super::plan::{Does, Path, Plan, Planned, Takes};

/// Pages of a directory where nothing else is said.
const INDEX: &[&str] = &["index.html", "index.htm"];

/// The other paths with the same answer as `path`, in order.
pub(super) fn of(path: &str, plan: &Plan) -> BTreeSet<String> {
    let mut answers = answers(plan, path);
    let is_file = path.rsplit('/').next().is_some_and(|name| name.is_empty() || name.contains('.'));
    let below = format!("{path}/");
    if !is_file && matches!(at(plan, path), Does::Files { .. }) {
        // Perhaps a directory, to which a slash leads.
        answers.append(&mut self::answers(plan, &below));
    }
    let mut found: BTreeSet<String> = BTreeSet::new();
    for answer in &answers {
        for route in &plan.routes {
            found.extend(leading(plan, route, answer));
        }
        found.extend(names_of_a_file(&plan.files, None, answer));
    }
    found.remove(path);
    found.retain(|path| !self::answers(plan, path).is_disjoint(&answers));
    found
}

/// Whether a file is the page that answers for those that are not there.
pub(super) fn is_page_of_all(path: &str, plan: &Plan) -> bool {
    let answers = answers(plan, path);
    plan.routes.iter().any(|route| match &route.does {
        Does::Files { root, index, spa: Some(_), .. } => {
            let page = index.as_deref().unwrap_or("index.html");
            answers.contains(&format!("{}{page}", directory(root)))
        }
        _ => false,
    })
}

/// What becomes of a path.
fn at(plan: &Plan, path: &str) -> Does {
    plan.does_at(path).unwrap_or_else(|| plan.does_without_route())
}

/// What a path may be answered with: files, or a URL of a backend.
fn answers(plan: &Plan, path: &str) -> BTreeSet<String> {
    let sent = |kind: &Path| match kind {
        Path::Kept | Path::Stripped => path.to_owned(),
        Path::Replaced(path) => path.clone(),
    };
    match at(plan, path) {
        Does::Files { root, index, path, .. } => {
            let file = directory(&root) + sent(&path).trim_start_matches('/');
            match file.is_empty() || file.ends_with('/') {
                true => indexes(index.as_deref()).map(|name| format!("{file}{name}")).collect(),
                false => BTreeSet::from([file]),
            }
        }
        Does::Proxy { backend, path } => {
            let url = plan.backends.get(backend).map_or("", |backend| backend.url.as_str());
            BTreeSet::from([format!("{url}{}", sent(&path))])
        }
        Does::Redirect { .. } | Does::Respond { .. } => BTreeSet::new(),
    }
}

fn indexes(name: Option<&str>) -> impl Iterator<Item = &str> {
    let usual = if name.is_none() { INDEX } else { &[] };
    name.into_iter().chain(usual.iter().copied())
}

/// The paths that a route might answer so.
fn leading(plan: &Plan, route: &Planned, answer: &str) -> Vec<String> {
    let (rests, stripped) = match &route.does {
        Does::Files { root, index, path, .. } => {
            (names_of_a_file(root, index.as_deref(), answer), matches!(path, Path::Stripped))
        }
        Does::Proxy { backend, path } => {
            let url = plan.backends.get(*backend).map_or("", |backend| backend.url.as_str());
            let rest = answer.strip_prefix(url).filter(|rest| rest.starts_with('/'));
            (rest.map(str::to_owned).into_iter().collect(), matches!(path, Path::Stripped))
        }
        Does::Redirect { .. } | Does::Respond { .. } => return Vec::new(),
    };
    match &route.takes {
        Takes::Exact(path) => vec![path.clone()],
        Takes::Prefix(prefix) if stripped => {
            let bare = prefix.trim_end_matches('/');
            let mut paths: Vec<String> = rests.iter().map(|rest| format!("{bare}{rest}")).collect();
            if rests.iter().any(|rest| rest == "/") && !bare.is_empty() {
                paths.push(bare.to_owned());
            }
            paths
        }
        Takes::Prefix(_) | Takes::Regex { .. } => rests,
    }
}

/// The paths below a directory at which a file is; that of its directory too if it is the page of it.
fn names_of_a_file(root: &str, index: Option<&str>, file: &str) -> Vec<String> {
    let Some(rest) = file.strip_prefix(&directory(root)) else { return Vec::new() };
    let (above, name) = rest.rsplit_once('/').map_or(("", rest), |(above, name)| (above, name));
    let mut names = vec![format!("/{rest}")];
    if indexes(index).any(|index| index == name) {
        names.push(if above.is_empty() { "/".to_owned() } else { format!("/{above}/") });
    }
    names
}

/// A directory in the one form in which it is compared, with a slash at its end.
fn directory(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if segments.last().is_some_and(|last| *last != "..") => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let start = if path.starts_with('/') { "/" } else { "" };
    let inner = segments.join("/");
    if inner.is_empty() { start.to_owned() } else { format!("{start}{inner}/") }
}
