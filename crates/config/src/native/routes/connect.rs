//! `name` and `on_result`: which routes take over from which.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::decode::{Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Outcome, PathMatch, Route};
use crate::source::Span;
use crate::syntax::quoted;

use super::super::auth::Asked;
use super::Draft;

/// What stands in `on_result` for no route at all.
const END: &str = "end";

/// The routes that take over, by the names they are given.
pub(super) fn on_result<'n>(table: &Table<'n>) -> Vec<(Outcome, Spanned<&'n str>)> {
    let context = table.context();
    let mut found = Vec::new();
    for entry in table.map("on_result") {
        let Some(name) = context.text(&entry.key, &entry.node) else { continue };
        match Outcome::ALL.iter().find(|(word, _)| *word == entry.key) {
            Some((_, outcome)) => found.push((*outcome, name)),
            None => {
                let message =
                    format!("`{}` is no way for a request to end", entry.key.escape_debug());
                let error = Diagnostic::error(Code::BadValue, entry.key_span, message);
                let words = Outcome::ALL.iter().map(|(word, _)| *word);
                context.push(match nearest(&entry.key, words.clone()) {
                    Some(near) => error.suggest(
                        entry.key_span,
                        near.to_owned(),
                        format!("did you mean `{near}`?"),
                    ),
                    None => {
                        error.help(format!("there are {}", words.collect::<Vec<_>>().join(", ")))
                    }
                });
            }
        }
    }
    found
}

/// Finds the routes that others lead to; each must come later than the one that leads there, so that
/// no request goes round.
pub(super) fn connect(mut drafts: Vec<(Draft<'_>, Span)>, site: &Asked<'_>) -> Vec<Route> {
    let mut names: HashMap<&str, (usize, Span)> = HashMap::new();
    for (index, (draft, _)) in drafts.iter().enumerate() {
        let Some(name) = draft.name else { continue };
        if name.value == END {
            draft.context.push(
                Diagnostic::error(Code::BadValue, name.span, "a route cannot have the name `end`")
                    .label("in `on_result` it stands for no route at all")
                    .help("give it another name"),
            );
        }
        match names.entry(name.value) {
            Entry::Occupied(first) => {
                let message = format!("two routes have the name `{}`", name.value.escape_debug());
                draft.context.push(
                    Diagnostic::error(Code::DuplicateKey, name.span, message)
                        .label("again")
                        .also(first.get().1, "first here"),
                );
            }
            Entry::Vacant(free) => _ = free.insert((index, name.span)),
        }
    }
    let mut reached = vec![false; drafts.len()];
    // Routes that the site's `auth` lets strangers come to.
    let mut for_strangers = HashSet::new();
    for (index, (draft, _)) in drafts.iter_mut().enumerate() {
        for (outcome, name) in &draft.on_result {
            let target = match (name.value, names.get(name.value)) {
                (END, _) => None,
                (_, Some((target, _))) if *target > index => Some(*target),
                _ if draft.context.is_full() => continue,
                (_, found) => {
                    let (message, label) = match found {
                        Some(_) => ("a route leads back", "this route comes before it"),
                        None => ("a route leads nowhere", "no route of the site has this name"),
                    };
                    let error = Diagnostic::error(Code::BadValue, name.span, message).label(label);
                    draft.context.push(match nearest(name.value, names.keys().copied()) {
                        Some(near) if found.is_none() => error.suggest(
                            name.span,
                            quoted(near),
                            format!("did you mean `{near}`?"),
                        ),
                        _ => error.help("`on_result` names a route further down, or `\"end\"`"),
                    });
                    continue;
                }
            };
            if let Some(reached) = target.and_then(|target| reached.get_mut(target)) {
                *reached = true;
            }
            if *outcome == Outcome::Unauthorized {
                for_strangers.extend(target);
            }
            draft.route.on_result.push((*outcome, target));
        }
    }
    for (index, ((draft, place), reached)) in drafts.iter().zip(reached).enumerate() {
        if !for_strangers.contains(&index) {
            draft.auth.report_beside(draft.context, site, &draft.set);
        }
        if draft.route.path == PathMatch::Never && !reached {
            let place = draft.name.map_or(*place, |name| name.span);
            draft.context.push(
                Diagnostic::warning(Code::Unused, place, "no request comes to this route")
                    .label("it has no `path`, and no `on_result` names it"),
            );
        }
    }
    drafts.into_iter().map(|(draft, _)| draft.route).collect()
}
