//! TOML text to the spanned tree, with every syntax error.
//!
//! The grammar is the `toml` crate's; here its errors get words for operators and, for keys written
//! twice, the first place.

use ::toml::de::{DeTable, DeValue};

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::source::{Source, Span};
use crate::tree::{Entry, Node, Value};

/// Deepest nesting of tables and arrays, as in the `toml` crate, which does not count dotted keys.
const DEPTH_MAX: usize = 80;

/// What was understood of a text.
pub(crate) struct Document {
    /// The root table; the parts around a syntax error may be missing or wrong.
    pub(crate) root: Node,
    /// Zero-based lines that hold a syntax error other than a key written twice.
    pub(crate) broken_lines: Vec<usize>,
}

/// Reads one file.
pub(crate) fn read(source: &Source, file: usize, out: &Diagnostics) -> Document {
    let text = source.text();
    if let Some(span) = too_deep(source, file) {
        let message = format!("a key with more than {DEPTH_MAX} parts");
        out.push(Diagnostic::error(Code::Syntax, span, message));
        let root = Node { value: Value::Table(Vec::new()), span: Span { file, start: 0, end: 0 } };
        return Document { root, broken_lines: vec![source.line_of(span.start)] };
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut broken_lines = Vec::new();
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        let span = Span {
            file,
            start: source.floor(range.start),
            end: source.floor(range.end.max(range.start)),
        };
        if error.message() == "duplicate key" {
            out.push(duplicate(source, span));
        } else {
            broken_lines.push(source.line_of(span.start));
            out.push(syntax(span, error.message()));
        }
    }
    let reader = Reader { source, file, out };
    let span = Span { file, start: 0, end: 0 };
    Document { root: Node { value: reader.table(root.into_inner()), span }, broken_lines }
}

struct Reader<'a> {
    source: &'a Source,
    file: usize,
    out: &'a Diagnostics,
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
        let span = self.span(range);
        let value = match value {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(number) => self.integer(span, number.as_str(), number.radix()),
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(on) => Value::Bool(on),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => Value::Array(
                items.into_iter().map(|item| self.node(item.span(), item.into_inner())).collect(),
            ),
            DeValue::Table(table) => self.table(table),
        };
        Node { value, span }
    }

    fn integer(&self, span: Span, digits: &str, radix: u32) -> Value {
        i64::from_str_radix(digits, radix).map_or_else(
            |_| {
                let message = "an integer that does not fit into 64 bits";
                self.out.push(Diagnostic::error(Code::Syntax, span, message));
                Value::Integer(i64::MAX)
            },
            Value::Integer,
        )
    }

    fn span(&self, range: std::ops::Range<usize>) -> Span {
        let start = self.source.floor(range.start);
        Span { file: self.file, start, end: self.source.floor(range.end).max(start) }
    }
}

/// A line whose dotted key would nest deeper than [`DEPTH_MAX`].
fn too_deep(source: &Source, file: usize) -> Option<Span> {
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        // Inline tables on one line each may hold a dotted key of their own.
        let deepest = line.split(['=', ',']).map(|part| part.matches('.').count()).max();
        let head = line.trim_start();
        let quoted = head.contains(['"', '\'']) || head.starts_with('#');
        if deepest.is_some_and(|dots| dots > DEPTH_MAX) && !quoted {
            return Some(Span { file, start, end: start + line.trim_end().len() });
        }
        start += line.len();
    }
    None
}

fn syntax(span: Span, message: &str) -> Diagnostic {
    Diagnostic::error(Code::Syntax, span, message.to_owned())
}

fn duplicate(source: &Source, span: Span) -> Diagnostic {
    let key = source.text().get(span.start..span.end).unwrap_or("");
    let error = Diagnostic::error(Code::DuplicateKey, span, format!("`{key}` is written twice"))
        .label("written again");
    match first_place(source, span, key) {
        Some(first) => error.also(first, "first here"),
        None => error,
    }
}

/// Where a key that is written twice stood first: the nearest earlier line of the same table that
/// sets it, or the nearest earlier header with the same words.
fn first_place(source: &Source, again: Span, key: &str) -> Option<Span> {
    let line = source.line_of(again.start);
    let text = |line: usize| {
        let (start, end) = source.line_bounds(line);
        (start, source.text().get(start..end).unwrap_or(""))
    };
    let (_, own) = text(line);
    let own_header = header(own);
    for earlier in (0..line).rev() {
        let (start, words) = text(earlier);
        match (&own_header, header(words)) {
            (Some(own), Some(other)) if *own == other => {
                let at = words.rfind(key)?;
                return Some(Span {
                    file: again.file,
                    start: start + at,
                    end: start + at + key.len(),
                });
            }
            (None, Some(_)) => return None,
            (None, None) => {
                let (name, _) = words.split_once('=').unwrap_or_default();
                if name.trim() == key && !key.is_empty() {
                    let at = start + words.find(key)?;
                    return Some(Span { file: again.file, start: at, end: at + key.len() });
                }
            }
            _ => {}
        }
    }
    None
}

/// The words of a table header line, without blanks, quotes and comment.
fn header(line: &str) -> Option<String> {
    let line = line.trim_start();
    if !line.starts_with('[') {
        return None;
    }
    let end = line.rfind(']')?;
    Some(line.get(..=end)?.chars().filter(|c| !c.is_whitespace() && *c != '"').collect())
}
