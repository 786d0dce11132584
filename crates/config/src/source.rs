//! Configuration text and places in it.
//!
//! Every value that the readers produce carries a [`Span`], so that each mistake can be shown where it
//! was written. A span names its file by index into [`Sources`], which lets one mistake point into
//! two files.

use std::path::{Path, PathBuf};

use crate::secrets::HIDDEN;

/// The files of one configuration, in the order they were given.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a file and returns its index.
    pub(crate) fn add(&mut self, source: Source) -> usize {
        self.files.push(source);
        self.files.len() - 1
    }

    /// The file with this index, if there is one.
    pub fn get(&self, file: usize) -> Option<&Source> {
        self.files.get(file)
    }

    /// The files in order.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.files.iter()
    }

    /// Makes what stands at these places unreadable; everything else stays where it is.
    pub(crate) fn conceal(&mut self, spans: &[Span]) {
        for span in spans {
            let Some(source) = self.files.get_mut(span.file) else { continue };
            let (start, end) = (source.floor(span.start), source.floor(span.end));
            let Some(text) = source.text.get(start..end) else { continue };
            // Quotes and line ends stay, so that it still looks like what it is.
            let hidden: String = text
                .chars()
                .flat_map(|c| match c {
                    '"' | '\'' | '\n' | '\r' | '[' | ']' | ',' | ' ' => vec![c],
                    c => vec!['*'; c.len_utf8()],
                })
                .collect();
            source.text.replace_range(start..end, &hidden);
            source.hidden.push((start, end));
        }
    }

    /// The text of a span; empty if the span lies outside of its file.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.file).and_then(|source| source.text.get(span.start..span.end)).unwrap_or("")
    }
}

/// One file's name and text.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    text: String,
    /// Byte offset of each line's first byte; the first is always 0.
    lines: Vec<usize>,
    /// Where something is concealed.
    hidden: Vec<(usize, usize)>,
}

impl Source {
    /// Keeps a text without its byte order mark.
    pub fn new(path: &Path, text: &str) -> Source {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let ends = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Source { path: path.to_owned(), text, lines, hidden: Vec::new() }
    }

    /// The name the file was given with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with the same asterisks for everything that is concealed, which tell not even how long it
    /// is. It has as many lines as the text.
    pub fn shown(&self) -> String {
        let mut hidden = self.hidden.clone();
        hidden.sort_unstable();
        let (mut out, mut at) = (String::with_capacity(self.text.len()), 0);
        for (start, end) in hidden {
            // Of those that overlap what is left.
            let start = start.max(at);
            let Some(text) = self.text.get(start..end) else { continue };
            out.push_str(self.text.get(at..start).unwrap_or_default());
            asterisks(text, &mut out);
            at = end;
        }
        out.push_str(self.text.get(at..).unwrap_or_default());
        out
    }

    /// Line and column of a byte offset; offsets past the end are the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.floor(offset);
        let line = self.line_of(offset);
        let start = self.lines.get(line).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or("");
        Position { line: line + 1, column: before.chars().count() + 1 }
    }

    /// First byte and end of the line (without its line end) with this zero-based number.
    pub(crate) fn line_bounds(&self, line: usize) -> (usize, usize) {
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line + 1).copied().unwrap_or(self.text.len());
        let text = self.text.get(start..end).unwrap_or("");
        let text = text.strip_suffix('\n').unwrap_or(text);
        (start, start + text.strip_suffix('\r').unwrap_or(text).len())
    }

    /// How many lines there are.
    pub(crate) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Zero-based number of the line that holds this offset.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// The nearest character boundary at or before an offset.
    pub(crate) fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// Writes asterisks for a value. Its quotes and its line ends stay.
fn asterisks(text: &str, out: &mut String) {
    const QUOTES: &[(&str, &str)] =
        &[("\"\"\"", "\"\"\""), ("'''", "'''"), ("\"", "\""), ("'", "'"), ("[", "]")];
    let quoted = QUOTES.iter().find_map(|(open, close)| {
        Some((*open, text.strip_prefix(open)?.strip_suffix(close)?, *close))
    });
    let (open, inside, close) = quoted.unwrap_or(("", text, ""));
    out.push_str(open);
    for line in inside.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        if !bare.trim().is_empty() {
            out.push_str(HIDDEN);
        }
        out.push_str(line.get(bare.len()..).unwrap_or_default());
    }
    out.push_str(close);
}

/// A stretch of bytes in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Index into [`Sources`].
    pub file: usize,
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// Whether both have a byte in common.
    pub(crate) fn overlaps(self, other: Span) -> bool {
        self.file == other.file && self.start < other.end && other.start < self.end
    }
}

/// Where something stands, as editors count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// First line is 1.
    pub line: usize,
    /// First character of the line is 1. Characters are counted, not bytes; a tab is one.
    pub column: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, offset: usize) -> (usize, usize) {
        let position = Source::new(Path::new("x"), text).position(offset);
        (position.line, position.column)
    }

    #[test]
    fn columns_count_characters_and_tabs_are_one() {
        assert_eq!(at("aé\tb", 4), (1, 4));
        assert_eq!(at("aé\tb", 2), (1, 2), "inside of a character is its start");
    }

    #[test]
    fn lines_end_with_lf_or_crlf() {
        assert_eq!(at("a\r\nb\nc", 3), (2, 1));
        assert_eq!(at("a\r\nb\nc", 5), (3, 1));
        assert_eq!(Source::new(Path::new("x"), "a\r\nb").line_bounds(0), (0, 1));
    }

    #[test]
    fn empty_text_and_offsets_past_the_end_have_a_place() {
        assert_eq!(at("", 0), (1, 1));
        assert_eq!(at("ab", 99), (1, 3));
        assert_eq!(at("ab\n", 99), (2, 1));
    }

    #[test]
    fn byte_order_mark_is_no_column() {
        assert_eq!(at("\u{feff}ab", 1), (1, 2));
    }
}
