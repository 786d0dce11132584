//! Words for what Ravelin reads and does otherwise, or not at all.

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::tree::Entry;

/// Says that a key has no effect.
pub(super) trait Note {
    /// The key has no effect, for this reason.
    fn note_at(&self, entry: &Entry, reason: &str);
}

impl Note for Context<'_> {
    fn note_at(&self, entry: &Entry, reason: &str) {
        let message = format!("`{}` has no effect", entry.key);
        self.push(
            Diagnostic::warning(Code::NotInEffect, entry.key_span, message)
                .label(reason.to_owned()),
        );
    }
}

/// Takes keys that are read whatever they hold, and says together that they have no effect.
pub(super) fn not_in_effect(table: &Table<'_>, keys: &[&'static str]) {
    let found: Vec<&Entry> = keys
        .iter()
        .filter_map(|key| table.take(key))
        .filter(|entry| !entry.node.value.is_off())
        .collect();
    let Some((first, rest)) = found.split_first() else { return };
    let names: Vec<String> = found.iter().map(|entry| format!("`{}`", entry.key)).collect();
    let verb = if rest.is_empty() { "is" } else { "are" };
    let message = format!("{} {verb} not in effect yet", names.join(", "));
    let warning = Diagnostic::warning(Code::NotInEffect, first.key_span, message)
        .label("accepted, but nothing acts on it");
    let warning = rest.iter().fold(warning, |warning, entry| warning.also(entry.key_span, ""));
    table.context().push(warning);
}
