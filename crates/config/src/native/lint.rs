//! `[lint]`: what the linter says nothing about.

use crate::decode::{Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::lint::Rule;
use crate::schema::{Kind, Section, now};
use crate::syntax::quoted;

pub(super) static LINT: Section = Section {
    path: "lint",
    list: false,
    about: "What `ravelin check --strict` says nothing about.",
    keys: &[now(
        "allow",
        Kind::Texts,
        "[]",
        "Codes or names of rules, `\"L004\"` or `\"missing-timeout\"`, and codes of warnings.",
    )],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Vec<String> {
    let Some(table) = table else { return Vec::new() };
    let context = table.context();
    let mut allow = Vec::new();
    for text in table.texts("allow").unwrap_or_default() {
        let is_code = Code::ALL.iter().any(|(_, name, _)| *name == text.value);
        if is_code || Rule::called(text.value).is_some() {
            allow.push(text.value.to_owned());
            continue;
        }
        let message = format!("no rule is called `{}`", text.value.escape_debug());
        let error = Diagnostic::error(Code::BadValue, text.span, message);
        let rules = Rule::ALL.iter().flat_map(|(_, code, name, _)| [*code, *name]);
        let names = rules.chain(Code::ALL.iter().map(|(_, name, _)| *name));
        context.push(match nearest(text.value, names) {
            Some(near) => error.suggest(text.span, quoted(near), format!("did you mean `{near}`?")),
            None => error.help("a rule has a code such as \"L004\" and a name"),
        });
    }
    table.finish();
    allow
}
