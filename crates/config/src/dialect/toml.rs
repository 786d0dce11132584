//! TOML text to the spanned tree, with every syntax error.
//!
//! The grammar is the `toml` crate's; its errors get words for operators in `mistakes`. It also bounds
//! the nesting of what it returns, so that the tree can be walked by recursion.

use std::collections::BTreeSet;

use ::toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostics;
use crate::source::{Source, Span};
use crate::tree::{Entry, Node, Value};

use super::Broken;

mod mistakes;

/// What was understood of a text.
pub(crate) struct Document {
    /// The root table; the parts around a syntax error may be missing or wrong.
    pub(crate) root: Node,
    /// What of it cannot be relied on.
    pub(crate) broken: Broken,
}

/// Reads one file.
pub(crate) fn read(source: &Source, file: usize, out: &Diagnostics) -> Document {
    let nothing = Span { file, start: 0, end: 0 };
    if let Some(refused) = mistakes::foreign(source, file) {
        out.push(refused);
        let root = Node { value: Value::Table(Vec::new()), span: nothing };
        let broken = Broken { lines: BTreeSet::from([0]), tables: true };
        return Document { root, broken };
    }
    let (root, errors) = DeTable::parse_recoverable(source.text());
    let broken = mistakes::report(source, file, &errors, out);
    let reader = Reader { source, file, broken: &broken.lines };
    Document { root: Node { value: reader.table(root.into_inner()), span: nothing }, broken }
}

struct Reader<'a> {
    source: &'a Source,
    file: usize,
    broken: &'a BTreeSet<usize>,
}

impl Reader<'_> {
    fn table(&self, table: DeTable<'_>) -> Value {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| Entry {
                key_span: self.span(key.span()),
                key: key.into_inner().into_owned(),
                node: self.node(value.span(), value.into_inner()),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Value::Table(entries)
    }

    fn node(&self, range: std::ops::Range<usize>, value: DeValue<'_>) -> Node {
        let value = match value {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(number) => Value::Integer(integer(number.as_str(), number.radix())),
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(on) => Value::Bool(on),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => Value::Array(
                items.into_iter().map(|item| self.node(item.span(), item.into_inner())).collect(),
            ),
            DeValue::Table(table) => self.table(table),
        };
        let span = self.span(range);
        let value = if self.is_spoilt(&value, span) { Value::Broken } else { value };
        Node { value, span }
    }

    /// Whether a value stands on lines with a syntax error. The place of a table is only its header,
    /// and its entries are looked at one by one.
    fn is_spoilt(&self, value: &Value, span: Span) -> bool {
        let lines = self.source.line_of(span.start)..=self.source.line_of(span.end);
        !matches!(value, Value::Table(_))
            && !value.is_list_of_tables()
            && self.broken.range(lines).next().is_some()
    }

    fn span(&self, range: std::ops::Range<usize>) -> Span {
        let start = self.source.floor(range.start);
        Span { file: self.file, start, end: self.source.floor(range.end).max(start) }
    }
}

/// The number, or the largest one there is: every key's range ends far below it.
fn integer(digits: &str, radix: u32) -> i128 {
    let limit = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    i128::from_str_radix(digits, radix).unwrap_or(limit)
}
