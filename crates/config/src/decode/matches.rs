//! What a text has to be, as a string or as a table that says how it is compared.

use super::Context;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::TextMatch;
use crate::pattern;
use crate::schema::Kind;
use crate::tree::{Entry, Node, Value};

/// The keys of such a table.
const WAYS: &[&str] = &["exact", "contains", "regex"];

impl Context<'_> {
    /// A string, which `plain` makes a match of, or a table with one of [`WAYS`].
    pub(crate) fn text_match(
        &self,
        name: &str,
        node: &Node,
        plain: fn(String) -> TextMatch,
    ) -> Option<TextMatch> {
        let entries = match &node.value {
            Value::String(text) => return Some(plain(text.clone())),
            Value::Table(entries) => entries,
            _ => return self.wrong_type(name, node, &Kind::Match),
        };
        for unknown in entries.iter().filter(|entry| !WAYS.contains(&entry.key.as_str())) {
            let message = format!("unknown key `{}`", self.sources.text(unknown.key_span));
            self.push(
                Diagnostic::error(Code::UnknownKey, unknown.key_span, message)
                    .label("there are `exact`, `contains` and `regex`"),
            );
        }
        let mut ways = entries.iter().filter(|entry| WAYS.contains(&entry.key.as_str()));
        let Some(way) = ways.next() else {
            if entries.is_empty() {
                self.bad_value(name, node, "needs one of `exact`, `contains` and `regex`");
            }
            return None;
        };
        if let Some(other) = ways.next() {
            let message = format!("`{}` and `{}` cannot be together", way.key, other.key);
            self.push(
                Diagnostic::error(Code::Conflict, other.key_span, message)
                    .label("one way to compare is enough")
                    .also(way.key_span, "the other one"),
            );
        }
        self.way(way)
    }

    fn way(&self, way: &Entry) -> Option<TextMatch> {
        let text = self.text(&way.key, &way.node)?;
        match way.key.as_str() {
            "exact" => Some(TextMatch::Exact(text.value.to_owned())),
            "contains" => Some(TextMatch::Contains(text.value.to_owned())),
            _ => match pattern::compile(text.value) {
                Ok(_) => Some(TextMatch::Regex(text.value.to_owned())),
                Err(reason) => {
                    self.push(self.bad("regex", text.span, &reason));
                    None
                }
            },
        }
    }

    /// A table of such matches by name.
    pub(crate) fn text_matches<'n>(
        &self,
        name: &str,
        node: &'n Node,
        plain: fn(String) -> TextMatch,
    ) -> Vec<(&'n Entry, TextMatch)> {
        let Value::Table(entries) = &node.value else {
            self.wrong_type::<()>(name, node, &Kind::MatchMap);
            return Vec::new();
        };
        let matches = entries
            .iter()
            .filter_map(|entry| Some((entry, self.text_match(&entry.key, &entry.node, plain)?)));
        matches.collect()
    }
}
