//! The spanned tree: what a configuration file says, before anybody asks what it means.
//!
//! The readers of TOML and YAML produce it, front ends translate theirs into native ones, and the native
//! decoder makes the model of those. What always holds: a
//! table's entries stand in the order they were written, no key stands twice in one table, and each key and value knows its place.

use crate::source::Span;

/// A value and where it was written. The place of a table that a header opens is the header.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// One key of a table with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

/// What was written.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Table(Vec<Entry>),
    Array(Vec<Node>),
    String(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
    /// Nothing, in YAML: a key without a value is as good as one that is not written.
    Null,
    /// A date or time; no key takes one.
    Date,
    /// Something with a syntax error, which has been reported; nothing more is said about it.
    Broken,
}

impl Value {
    /// What it is, with its article, as a message names it.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Value::Table(_) => "a table",
            Value::Array(_) if self.is_list_of_tables() => "a list of tables",
            Value::Array(_) => "a list",
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a decimal number",
            Value::Bool(_) => "a boolean",
            Value::Null => "nothing",
            Value::Date => "a date or time",
            Value::Broken => "something unreadable",
        }
    }

    /// Whether it is a list with nothing but tables in it.
    pub(crate) fn is_list_of_tables(&self) -> bool {
        let Value::Array(items) = self else { return false };
        !items.is_empty() && items.iter().all(|item| matches!(item.value, Value::Table(_)))
    }

    /// Whether it says "off": `false`, or nothing at all.
    pub(crate) fn is_off(&self) -> bool {
        match self {
            Value::Bool(on) => !on,
            Value::Table(entries) => entries.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Null => true,
            Value::Integer(_) | Value::Float(_) | Value::Date | Value::Broken => false,
        }
    }
}
