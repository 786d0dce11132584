//! A YAML text line by line, for those who look for what the grammar stumbled over.

use crate::source::{Source, Span};

/// A text whose spoilt lines are blank, with the offsets of the whole one.
pub(super) struct Lines<'a> {
    pub(super) source: &'a Source,
    pub(super) file: usize,
    pub(super) text: &'a str,
}

impl<'a> Lines<'a> {
    pub(super) fn count(&self) -> usize {
        self.source.line_count()
    }

    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.source.line_of(offset)
    }

    pub(super) fn floor(&self, offset: usize) -> usize {
        self.source.floor(offset)
    }

    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        let start = self.source.floor(start);
        Span { file: self.file, start, end: self.source.floor(end).max(start) }
    }

    pub(super) fn get(&self, span: Span) -> &'a str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// Offset of a line's first byte.
    pub(super) fn start(&self, line: usize) -> usize {
        self.source.line_bounds(line).0
    }

    /// A line without its end.
    pub(super) fn words(&self, line: usize) -> &'a str {
        let (start, end) = self.source.line_bounds(line);
        self.text.get(start..end).unwrap_or("")
    }

    /// From an offset to the end of its line.
    pub(super) fn rest_of_line(&self, offset: usize) -> &'a str {
        let (_, end) = self.source.line_bounds(self.line_of(offset));
        self.text.get(offset..end).unwrap_or("")
    }

    /// How far in a line starts, in bytes.
    pub(super) fn indent(&self, line: usize) -> usize {
        let words = self.words(line);
        words.len() - words.trim_start().len()
    }

    pub(super) fn indent_is_tabbed(&self, line: usize) -> bool {
        let words = self.words(line);
        !self.says_nothing(line)
            && words.get(..self.indent(line)).is_some_and(|indent| indent.contains('\t'))
    }

    fn says_nothing(&self, line: usize) -> bool {
        let words = self.words(line).trim_start();
        words.is_empty() || words.starts_with('#')
    }

    /// The nearest line above with something on it.
    pub(super) fn line_above(&self, line: usize) -> Option<usize> {
        (0..line).rev().find(|line| !self.says_nothing(*line))
    }

    /// The line after those that belong to this one: which are blank or stand further in.
    pub(super) fn block_end(&self, line: usize) -> usize {
        if self.says_nothing(line) {
            return line + 1;
        }
        let own = self.indent(line);
        let below = |line: &usize| self.says_nothing(*line) || self.indent(*line) > own;
        line + 1 + (line + 1..self.count()).take_while(below).count()
    }

    /// The columns at which a line may start after those above it, from the innermost out.
    pub(super) fn levels_above(&self, line: usize) -> Vec<usize> {
        let mut levels: Vec<usize> = Vec::new();
        for above in (0..line).rev().filter(|line| !self.says_nothing(*line)) {
            let words = self.words(above);
            if words.starts_with("---") {
                break;
            }
            for column in [item(words).0, self.indent(above)] {
                if levels.last().is_none_or(|last| column < *last) {
                    levels.push(column);
                }
            }
            if levels.last() == Some(&0) {
                break;
            }
        }
        levels
    }

    /// The first quote between two offsets that is not closed on its line.
    pub(super) fn open_quote(&self, from: usize, to: usize) -> Option<usize> {
        let mut offset = self.start(self.line_of(from));
        while offset <= to {
            let line = self.line_of(offset);
            if let Some(at) = open_quote(self.words(line)) {
                return Some(self.start(line) + at);
            }
            if line + 1 >= self.count() {
                return None;
            }
            offset = self.start(line + 1);
        }
        None
    }
}

/// The first quote of a line that starts a text and has no other to close it.
fn open_quote(words: &str) -> Option<usize> {
    let mut before = ' ';
    let mut chars = words.char_indices();
    while let Some((at, c)) = chars.next() {
        let starts = before.is_whitespace() || "[{,:-".contains(before);
        match c {
            '#' if before.is_whitespace() => return None,
            '"' | '\'' if starts => {
                let mut closed = false;
                while let Some((_, inner)) = chars.next() {
                    match inner {
                        '\\' if c == '"' => _ = chars.next(),
                        _ if inner == c => {
                            closed = true;
                            break;
                        }
                        _ => {}
                    }
                }
                if !closed {
                    return Some(at);
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

/// What a line says behind its blanks and the dashes of list items, and where that starts.
pub(super) fn item(words: &str) -> (usize, &str) {
    let mut bare = words.trim_start();
    while let Some(rest) = bare.strip_prefix("- ") {
        bare = rest.trim_start();
    }
    (words.len() - bare.len(), bare)
}

/// The key at the start of a line, without quotes, and where it stands.
pub(super) fn key_of(words: &str) -> Option<(usize, &str)> {
    let (at, bare) = item(words);
    let (key, rest) = bare.split_once(':')?;
    let word = |c: char| c.is_alphanumeric() || "-_.\"'/".contains(c);
    let is_key = !key.is_empty() && key.chars().all(word);
    (is_key && (rest.is_empty() || rest.starts_with([' ', '\t']))).then_some((at, key))
}
