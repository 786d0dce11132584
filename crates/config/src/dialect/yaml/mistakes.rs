//! Words for YAML syntax errors: what is wrong as an operator sees it, and the place where it began.

use std::ops::Range;

use super::Fault;
use crate::diagnostic::{Code, Diagnostic};
use crate::source::{Source, Span};
use crate::tree::{Node, Value};

pub(super) const TOO_DEEP: &str = "more levels than any configuration has";
pub(super) const TOO_LARGE: &str = "more lists, tables and values than any configuration has";
pub(super) const TOO_MANY_ALIASES: &str = "more aliases than any configuration has";
pub(super) const TOO_MANY_ALIASED: &str = "aliases of aliases, which stand for too much";

/// The finding for a fault, and the lines that cannot be relied on because of it.
pub(super) fn report(
    source: &Source,
    file: usize,
    _text: &str,
    fault: &Fault,
) -> (Diagnostic, Range<usize>) {
    match fault {
        Fault::Bound(span, why) => {
            let error = Diagnostic::error(Code::Syntax, *span, "the file is too complex");
            (error.label(*why), 0..source.line_count())
        }
        Fault::Grammar(error) => {
            let start = source.floor(error.marker().byte_offset().unwrap_or(0));
            let span = Span { file, start, end: start };
            let line = source.line_of(start);
            (Diagnostic::error(Code::Syntax, span, error.info()), line..block_end(source, line))
        }
    }
}

/// The line after those that belong to this one: which are blank or stand further in.
fn block_end(source: &Source, line: usize) -> usize {
    let indent = |line: usize| {
        let (start, end) = source.line_bounds(line);
        let words = source.text().get(start..end).unwrap_or("");
        let bare = words.trim_start();
        (!bare.is_empty() && !bare.starts_with('#')).then(|| words.len() - bare.len())
    };
    let Some(own) = indent(line) else { return line + 1 };
    let below = |line: &usize| indent(*line).is_none_or(|indent| indent > own);
    line + 1 + (line + 1..source.line_count()).take_while(below).count()
}

pub(super) fn foreign(_source: &Source, _file: usize) -> Option<Diagnostic> {
    None
}

pub(super) fn unknown_alias(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(Code::Syntax, span, format!("there is no anchor `&{name}`"))
        .label("stands for nothing")
        .help("an anchor stands above its aliases, in the same document; a text that starts with `*` stands in quotes")
}

pub(super) fn endless_alias(span: Span) -> Diagnostic {
    Diagnostic::error(Code::Syntax, span, "an alias stands inside of what it stands for")
        .label("would never end")
}

pub(super) fn unknown_tag(span: Span) -> Diagnostic {
    Diagnostic::error(Code::Syntax, span, "a tag that has no meaning here")
        .label("what it would do to the value is not known")
        .help("write the value itself; a text that starts with `!` stands in quotes")
}

/// The text of a key that is a scalar.
pub(super) fn key_text(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(on) => Some(on.to_string()),
        Value::Null => Some(String::new()),
        Value::Table(_) | Value::Array(_) | Value::Date | Value::Broken => None,
    }
}

pub(super) fn no_key(source: &Source, node: &Node) -> Diagnostic {
    let error = Diagnostic::error(
        Code::Syntax,
        node.span,
        format!("{} cannot be a key", node.value.noun()),
    );
    match source.text().get(node.span.start..).is_some_and(|rest| rest.starts_with('{')) {
        true => error.label("`{` starts a table here").help("a text with braces stands in quotes"),
        false => error.label("keys are texts"),
    }
}

pub(super) fn duplicate(key: &str, again: Span, first: Span) -> Diagnostic {
    Diagnostic::error(Code::DuplicateKey, again, format!("`{key}` is written twice"))
        .label("written again")
        .also(first, "first here")
}

pub(super) fn no_merge(span: Span) -> Diagnostic {
    Diagnostic::error(Code::Syntax, span, "`<<` takes in tables only")
        .label("not a table")
        .help("for example `<<: *common`, with `&common` at a table above")
}
