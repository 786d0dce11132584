//! Lists with response statuses in them.

use super::Context;
use crate::schema::Kind;
use crate::syntax;
use crate::tree::{Node, Value};

/// Words and statuses of one list.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    /// As the schema has them.
    pub(crate) words: Vec<&'static str>,
    /// Ranges, both ends included.
    pub(crate) statuses: Vec<(u16, u16)>,
}

impl Context<'_> {
    /// A status, a range or a class of them, or a list of these; a range is `(first, last)`. What is
    /// none is reported and left out.
    pub(crate) fn statuses(&self, name: &str, node: &Node) -> Option<Vec<(u16, u16)>> {
        let Value::Array(items) = &node.value else {
            return self.status(name, node).map(|range| vec![range]);
        };
        if items.is_empty() {
            self.bad_value(name, node, "no status could ever be one of these");
            return None;
        }
        Some(items.iter().filter_map(|item| self.status(name, item)).collect())
    }

    /// A list of words and statuses; what is neither is reported and left out.
    pub(crate) fn reasons(
        &self,
        name: &str,
        node: &Node,
        words: &'static [&'static str],
        aliases: &'static [&'static str],
    ) -> Option<Reasons> {
        let Value::Array(items) = &node.value else {
            return self.wrong_type(name, node, &Kind::ChoicesOrStatuses(words, aliases));
        };
        let mut reasons = Reasons::default();
        for item in items {
            match &item.value {
                Value::String(text) if text.starts_with(|c: char| !c.is_ascii_digit()) => {
                    reasons.words.extend(self.choice(name, item, words, aliases));
                }
                _ => reasons.statuses.extend(self.status(name, item)),
            }
        }
        Some(reasons)
    }

    fn status(&self, name: &str, node: &Node) -> Option<(u16, u16)> {
        let read = match &node.value {
            Value::Integer(status) => syntax::status(*status).map(|status| (status, status)),
            Value::String(text) => syntax::statuses(text),
            _ => return self.wrong_type(name, node, &Kind::Statuses),
        };
        match read {
            Ok(range) => Some(range),
            Err(reason) => {
                self.bad_value(name, node, &reason);
                None
            }
        }
    }
}
