//! Values and keys as TOML text.

use std::fmt::Write as _;

use wire::text::steers;

use super::LINE_MAX;
use crate::tree::{Entry, Node, Value};

/// A value on one line; only texts of several lines go on over more.
pub(super) fn inline(node: &Node) -> String {
    match &node.value {
        Value::Table(entries) => {
            let known = |entry: &&Entry| !matches!(entry.node.value, Value::Null);
            let write = |entry: &Entry| format!("{} = {}", key(&entry.key), inline(&entry.node));
            let entries: Vec<String> = entries.iter().filter(known).map(write).collect();
            match entries.is_empty() {
                true => "{}".to_owned(),
                false => format!("{{ {} }}", entries.join(", ")),
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) => quoted(text, false),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(on) => on.to_string(),
        // No configuration without errors has one of these.
        Value::Null | Value::Date | Value::Broken => "\"\"".to_owned(),
    }
}

/// Whether the items of a list stand on lines of their own.
pub(super) fn list_of_lines(key: &str, items: &[Node]) -> bool {
    let tables = items.iter().filter(|item| matches!(item.value, Value::Table(_))).count();
    let length: usize = items.iter().map(|item| inline(item).chars().count() + ", ".len()).sum();
    tables > 1 || (items.len() > 1 && key.len() + " = []".len() + length > LINE_MAX)
}

/// A key, in quotes if it needs them.
pub(super) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => quoted(name, false),
    }
}

/// A text as a string: in single quotes if that saves escapes, over several lines if it has them and may.
pub(super) fn quoted(text: &str, lines: bool) -> String {
    let lines = lines && text.trim_end_matches('\n').contains('\n') && !text.contains('\r');
    let plain = !text.chars().any(|c| steers(c) && !(lines && c == '\n'));
    if text.contains(['\\', '"']) && !text.contains('\'') && plain {
        return match lines {
            true => format!("'''\n{text}'''"),
            false => format!("'{text}'"),
        };
    }
    let mut quoted = String::from(if lines { "\"\"\"\n" } else { "\"" });
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' if lines => quoted.push('\n'),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if steers(c) => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push_str(if lines { "\"\"\"" } else { "\"" });
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_read_as_they_were() {
        for (text, expected) in [
            ("a b", "\"a b\""),
            ("", "\"\""),
            (r"^/\d+", r"'^/\d+'"),
            (r"it's \d", r#""it's \\d""#),
            ("say \"x\"", "'say \"x\"'"),
            ("\t\u{1}\u{7f}\u{85}é", "\"\\t\\u0001\\u007F\\u0085é\""),
            ("\u{202e}\\", "\"\\u202E\\\\\""),
            ("a\nb\n", "\"\"\"\na\nb\n\"\"\""),
            ("a\n", "\"a\\n\""),
            ("a\r\nb", "\"a\\r\\nb\""),
            ("a\n\"\"\"\"b\\", "'''\na\n\"\"\"\"b\\'''"),
            ("'\n\"\"\"b\\", "\"\"\"\n'\n\\\"\\\"\\\"b\\\\\"\"\""),
            ("\na\nb", "\"\"\"\n\na\nb\"\"\""),
        ] {
            let written = quoted(text, true);
            assert_eq!(written, expected);
            let written = format!("a = {written}");
            let read = toml::de::DeTable::parse(&written).unwrap().into_inner();
            assert_eq!(read["a"].get_ref().as_str(), Some(text));
        }
    }

    #[test]
    fn keys_have_quotes_only_where_they_must() {
        for (name, expected) in
            [("a_B-1", "a_B-1"), ("", "\"\""), ("a.b", "\"a.b\""), ("é", "\"é\""), ("a\"", "'a\"'")]
        {
            assert_eq!(key(name), expected);
        }
    }
}
