//! `rewrite` of a route: changes to the path, one after the other.

use crate::decode::{Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Rewrite;
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::syntax::request_target;

use super::regex;

pub(super) static REWRITE: Section = Section {
    path: "sites.routes.rewrite",
    list: true,
    about: "One change to a path.",
    keys: &[
        now("trim_prefix", Kind::Text, "none", "Taken off the beginning."),
        now("add_prefix", Kind::Text, "none", "Put before it."),
        now(
            "replace_prefix",
            Kind::Text,
            "none",
            "If it begins with this, `with` takes its place.",
        ),
        now(
            "with",
            Kind::Text,
            "empty",
            "What takes the place of what was matched; `$1` is a group.",
        ),
        now("replace", Kind::Text, "none", "Takes the place of the whole path."),
        now("regex", Kind::Text, "none", "Whatever it matches is replaced by `with`."),
    ],
};

/// Decodes one.
pub(super) fn decode(table: Table<'_>) -> Option<Rewrite> {
    let context = table.context();
    let with = table.text("with");
    let mut found: Vec<(Rewrite, Span)> = Vec::new();
    let mut add = |text: Option<Spanned<&str>>, make: &dyn Fn(String) -> Rewrite| {
        if let Some(text) = text {
            found.push((make(text.value.to_owned()), text.span));
        }
    };
    let by = with.map_or("", |with| with.value).to_owned();
    add(table.text("trim_prefix"), &Rewrite::TrimPrefix);
    add(table.text("add_prefix"), &Rewrite::AddPrefix);
    add(table.text("replace"), &Rewrite::Replace);
    add(table.text("replace_prefix"), &|from| Rewrite::ReplacePrefix(from, by.clone()));
    let pattern = table.text("regex");
    add(pattern.filter(|text| regex(context, "regex", *text).is_some()), &|from| {
        Rewrite::Regex(from, by.clone())
    });
    let place = table.span;
    let broken = ["trim_prefix", "add_prefix", "replace", "replace_prefix", "regex"];
    let written = broken.iter().filter(|key| table.has(key)).count();
    table.finish();
    if written != 1 {
        let message = match written {
            0 => "a change of a path that changes nothing",
            _ => "two changes of a path in one table",
        };
        context.push(Diagnostic::error(Code::BadValue, place, message).label(
            "needs one of `trim_prefix`, `add_prefix`, `replace`, `replace_prefix` and `regex`",
        ));
        return None;
    }
    let (rewrite, span) = found.pop()?;
    // What is sent must be a request target; groups of regular expressions are parts of one.
    let text = match &rewrite {
        Rewrite::Regex(_, text) => text,
        Rewrite::AddPrefix(text) | Rewrite::Replace(text) | Rewrite::ReplacePrefix(_, text) => text,
        Rewrite::TrimPrefix(_) => "/",
    };
    let text = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    if let Err(reason) = request_target(&text) {
        context.push(context.bad("rewrite", span, &reason));
        return None;
    }
    Some(rewrite)
}
