//! Words for YAML syntax errors: what is wrong as an operator sees it, the place where it began, and
//! which lines cannot be relied on because of it.

use std::ops::Range;

use granit_parser::{ErrorKind, ScanError};

use super::lines::{Lines, item, key_of};
use super::{Fault, Reached};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::Span;
use crate::syntax::quoted;
use crate::tree::{Node, Value};

pub(super) const TOO_DEEP: &str = "more levels than any configuration has";
pub(super) const TOO_LARGE: &str = "more lists, tables and values than any configuration has";
pub(super) const TOO_MANY_ALIASES: &str = "more aliases than any configuration has";
pub(super) const TOO_MUCH_ALIASED: &str = "aliases of aliases, which stand for too much";

/// The finding for a fault, and the lines that are spoilt by it.
pub(super) fn report(text: &Lines<'_>, fault: &Fault, at: &Reached) -> (Diagnostic, Range<usize>) {
    match fault {
        Fault::Bound(span, why) => {
            let error = Diagnostic::error(Code::Syntax, *span, "the file is too complex");
            (error.label(*why), 0..text.count())
        }
        Fault::Grammar(error) => Trouble::new(text, error, at).words(error.kind()),
    }
}

/// What the grammar does not take, and where.
struct Trouble<'t> {
    text: &'t Lines<'t>,
    /// Where the parser noticed.
    place: usize,
    line: usize,
    /// What the parser says.
    says: String,
    at: &'t Reached,
}

type Found = (Diagnostic, Range<usize>);

impl<'t> Trouble<'t> {
    fn new(text: &'t Lines<'t>, error: &ScanError, at: &'t Reached) -> Trouble<'t> {
        let place = text.floor(error.marker().byte_offset().unwrap_or(0));
        Trouble { text, place, line: text.line_of(place), says: error.kind().to_string(), at }
    }

    fn words(&self, kind: &ErrorKind) -> Found {
        use ErrorKind as Kind;
        let known = match kind {
            Kind::TabNotAllowed
            | Kind::TabInBlockIndentation
            | Kind::TabInIndentation
            | Kind::TabInPlainScalar
            | Kind::InvalidBlockEntryWhitespace
            | Kind::InvalidMappingValueWhitespace
            | Kind::ExpectedWhitespace => self.tab(),
            Kind::TabAtBlockScalarStart => self.tab(),
            Kind::UnclosedQuotedScalar
            | Kind::InvalidQuotedScalarIndent
            | Kind::DocumentIndicatorInQuotedScalar => self.open_quote(),
            Kind::InvalidTrailingSingleQuotedScalar | Kind::InvalidTrailingDoubleQuotedScalar => {
                self.after_quote()
            }
            Kind::UnknownQuotedScalarEscape => self.escape(),
            Kind::UnclosedFlowCollection { open } => Some(self.open_bracket(self.place, *open)),
            Kind::MismatchedFlowCollectionEnd { open, close } => {
                let message = format!("`{open}` is closed by `{close}`");
                let label = format!("`{}` is missing", closing(*open));
                Some(self.error(self.span(self.place, 1), message, label))
            }
            Kind::MisplacedFlowCollectionEnd => {
                let span = self.span(self.place, 1);
                let message = format!("`{}` closes nothing", self.text.get(span));
                let label = "a text that starts so stands in quotes";
                Some(self.error(span, message, label.to_owned()))
            }
            Kind::UnexpectedEofImplicitFlowMapping => {
                let message = "nothing stands between two commas";
                Some(self.error(self.span(self.place, 1), message, "a value is missing".into()))
            }
            Kind::UnexpectedCharacter { character } => Some(self.unquoted(*character)),
            Kind::CommentNotSeparated => Some(self.comment()),
            Kind::BlockSequenceEntryNotAllowed => Some(self.item_beside_key()),
            Kind::RecursionLimitExceeded => {
                let message = "nested too deeply".to_owned();
                let (error, _) = self.error(self.span(self.place, 1), message, TOO_DEEP.to_owned());
                Some((error, 0..self.text.count()))
            }
            _ => None,
        };
        known
            .or_else(|| self.bracket_before())
            .or_else(|| self.structure(kind))
            .unwrap_or_else(|| self.other())
    }

    fn error(&self, span: Span, message: impl Into<String>, label: String) -> Found {
        let line = self.text.line_of(span.start);
        let error = Diagnostic::error(Code::Syntax, span, message).label(label);
        (error, line..self.text.block_end(line))
    }

    fn span(&self, start: usize, length: usize) -> Span {
        self.text.span(start, start + length)
    }

    /// What the parser says, without what it was doing at that.
    fn other(&self) -> Found {
        let says = self.says.as_str();
        let bare =
            says.rsplit_once(", ").filter(|_| says.starts_with("while ")).map_or(says, |s| s.1);
        self.error(self.span(self.place, 1), format!("this is not YAML: {bare}"), String::new())
    }

    /// A tab where only spaces may stand.
    fn tab(&self) -> Option<Found> {
        // The parser may notice at the end of the line before.
        let mut lines = self.line..(self.line + 3).min(self.text.count());
        let (line, tabs) = lines.find_map(|line| {
            let words = self.text.words(line);
            let indent = words.get(..words.len() - words.trim_start().len())?;
            indent.contains('\t').then_some((line, indent))
        })?;
        let start = self.text.start(line);
        let span = self.span(start, tabs.len());
        let tabbed = |line: &usize| self.text.indent_is_tabbed(*line);
        let others = (line + 1..self.text.count()).filter(tabbed).count();
        let message = "a tab indents a line";
        let (error, lines) = self.error(span, message, "YAML takes spaces only".to_owned());
        let above = self.text.line_above(line).map_or(0, |above| self.text.indent(above));
        let blanks = tabs.replace('\t', "  ");
        let width = if above > 0 && tabs.chars().all(|c| c == '\t') { above } else { blanks.len() };
        let error = error.suggest(span, " ".repeat(width), "write spaces");
        let error = match others {
            0 => error,
            1 => error.help("one more line has tabs too"),
            _ => error.help(format!("{others} more lines have tabs too")),
        };
        Some((error, lines))
    }

    fn open_quote(&self) -> Option<Found> {
        let start = self.text.open_quote(self.at.end, self.place)?;
        let line = self.text.line_of(start);
        let span = self.span(start, 1);
        let quote = self.text.get(span).to_owned();
        let end = self.text.start(line) + self.text.words(line).trim_end().len();
        let (error, lines) =
            self.error(span, "a text in quotes is not closed", "starts here".to_owned());
        Some((error.suggest(self.span(end, 0), quote, "close it"), lines))
    }

    fn after_quote(&self) -> Option<Found> {
        let rest = self.text.rest_of_line(self.place);
        let (error, lines) = self.error(
            self.span(self.place, rest.trim_end().len().max(1)),
            "something stands behind a closing quote",
            "the text ended before this".to_owned(),
        );
        let before = self.text.words(self.line);
        let before = before.get(..self.place - self.text.start(self.line))?;
        Some(match before.ends_with('\'') || before.trim_end().ends_with('\'') {
            true => (error.help("a quote inside of single quotes is written twice: `''`"), lines),
            false => (error.help("a quote inside of double quotes is written `\\\"`"), lines),
        })
    }

    fn escape(&self) -> Option<Found> {
        const KNOWN: &str = "0abtnvfre \"/\\N_LPxuU\t\n\r";
        let rest = self.text.rest_of_line(self.place);
        let mut chars = rest.char_indices();
        let mut bad = None;
        while let Some((at, c)) = chars.next() {
            if c == '\\' && chars.next().is_some_and(|(_, c)| !KNOWN.contains(c)) {
                bad = Some(at);
                break;
            }
        }
        let (error, lines) = self.error(
            self.span(self.place + bad?, 2),
            "a backslash that starts no escape",
            "not known inside of double quotes".to_owned(),
        );
        let inner = rest.strip_prefix('"')?;
        let written = inner.split_once('"').map(|(inner, _)| inner);
        Some(match written.filter(|inner| !inner.contains(['\'']) && !inner.contains("\\\\")) {
            Some(inner) => {
                let whole = self.span(self.place, inner.len() + 2);
                (error.suggest(whole, format!("'{inner}'"), "single quotes know no escapes"), lines)
            }
            None => (error.help("write `\\\\` for a backslash"), lines),
        })
    }

    fn open_bracket(&self, place: usize, open: char) -> Found {
        let (what, close) = if open == '[' { ("list", ']') } else { ("table", '}') };
        let line = self.text.line_of(place);
        let end = self.text.start(line) + self.text.words(line).trim_end().len();
        let label = format!("`{close}` is missing");
        let (error, lines) =
            self.error(self.span(place, 1), format!("a {what} is not closed"), label);
        (error.suggest(self.span(end, 0), close, "close it"), lines)
    }

    /// A list or table in brackets that reaches into the next key because its end is missing.
    fn bracket_before(&self) -> Option<Found> {
        let opener = self.at.flow?;
        let line = self.text.line_of(opener);
        let open = self.text.rest_of_line(opener).chars().next()?;
        let statement = key_of(self.text.words(self.line)).is_some();
        (line < self.line && statement).then(|| self.open_bracket(opener, open))
    }

    /// A text that starts with a character that has a meaning.
    fn unquoted(&self, character: char) -> Found {
        let value = self.value_at(self.place);
        let start = match character {
            '`' => "a backquote".to_owned(),
            _ => format!("`{character}`"),
        };
        let message = format!("a text that starts with {start} stands in quotes");
        let (error, lines) = self.error(value, message, "stands without quotes".to_owned());
        (error.suggest(value, quoted(self.text.get(value)), "quote it"), lines)
    }

    fn comment(&self) -> Found {
        let rest = self.text.rest_of_line(self.place);
        let hash = self.place + rest.find('#').unwrap_or(0);
        let (error, lines) = self.error(
            self.span(hash, 1),
            "a comment stands right behind something",
            "a space is missing before `#`".to_owned(),
        );
        (error.suggest(self.span(hash, 0), " ", "write a space"), lines)
    }

    fn item_beside_key(&self) -> Found {
        let (error, lines) = self.error(
            self.span(self.place, 1),
            "a list starts on the line of its key",
            "belongs on a line of its own".to_owned(),
        );
        (error.help("write each item on its own line, or the list in brackets: `[a, b]`"), lines)
    }

    /// From a place to the end of the value that stands there.
    fn value_at(&self, start: usize) -> Span {
        let rest = self.text.rest_of_line(start);
        let rest = rest.split(" #").next().unwrap_or("").trim_end();
        self.span(start, rest.len().max(1))
    }

    /// Mistakes in how lines make up lists and tables.
    fn structure(&self, kind: &ErrorKind) -> Option<Found> {
        const OF_LINES: &[ErrorKind] = &[
            ErrorKind::MappingValueNotAllowed,
            ErrorKind::SimpleKeyExpected,
            ErrorKind::ExpectedBlockMappingKey,
            ErrorKind::ExpectedBlockSequenceEntry,
            ErrorKind::MappingKeyNotAllowed,
            ErrorKind::InvalidSimpleKey,
            ErrorKind::InvalidIndentation,
            ErrorKind::ExpectedDocumentStart,
        ];
        if !OF_LINES.contains(kind) {
            return None;
        }
        let above = self.text.line_above(self.line);
        self.glued(self.line)
            .or_else(|| self.dash(self.line))
            .or_else(|| self.two_colons())
            .or_else(|| above.and_then(|above| self.glued(above)))
            .or_else(|| above.and_then(|above| self.dash(above)))
            .or_else(|| above.and_then(|above| self.no_colon(above, true)))
            .or_else(|| self.indentation(above?))
            .or_else(|| self.no_colon(self.line, false))
            .or_else(|| self.mixed(above?))
    }

    /// `key:value`, which is a text and no key.
    fn glued(&self, line: usize) -> Option<Found> {
        let (start, words) = (self.text.start(line), self.text.words(line));
        let (offset, words) = item(words);
        let (key, rest) = words.split_once(':')?;
        let word = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let is_key = !key.is_empty() && key.chars().all(word);
        if !is_key || rest.is_empty() || rest.starts_with([' ', '/']) {
            return None;
        }
        let colon = self.span(start + offset + key.len(), 1);
        let (error, lines) =
            self.error(colon, "a space is missing after `:`", "part of a text here".to_owned());
        let behind = self.span(colon.end, 0);
        Some((error.suggest(behind, " ", format!("make `{key}` a key")), lines))
    }

    /// `-item`, which is a text and no item.
    fn dash(&self, line: usize) -> Option<Found> {
        let (start, words) = (self.text.start(line), self.text.words(line));
        let (offset, words) = item(words);
        let rest = words.strip_prefix('-')?;
        if !rest.starts_with(|c: char| c.is_alphabetic() || "\"'{[".contains(c)) {
            return None;
        }
        let dash = self.span(start + offset, 1);
        let (error, lines) =
            self.error(dash, "a space is missing after `-`", "part of a text here".to_owned());
        let behind = self.span(dash.end, 0);
        Some((error.suggest(behind, " ", "make it an item of a list"), lines))
    }

    /// `key: a: b`, where the value is no text because of its colon.
    fn two_colons(&self) -> Option<Found> {
        let (start, words) = (self.text.start(self.line), self.text.words(self.line));
        let before = words.get(..self.place.checked_sub(start)?)?;
        let colon = before.find(": ")?;
        let value = words.get(colon + 2..)?;
        let at = start + colon + 2 + value.len() - value.trim_start().len();
        let value = self.value_at(at);
        let (error, lines) = self.error(
            self.span(self.place, 1),
            "a second `:` on a line",
            "a text with `: ` stands in quotes".to_owned(),
        );
        Some((error.suggest(value, quoted(self.text.get(value)), "quote it"), lines))
    }

    /// A line of one word or more that is no key, because it has no colon.
    fn no_colon(&self, line: usize, above: bool) -> Option<Found> {
        let (start, words) = (self.text.start(line), self.text.words(line));
        let (offset, bare) = item(words);
        let bare = bare.split(" #").next().unwrap_or("").trim_end();
        let is_item = offset > words.len() - words.trim_start().len();
        if bare.is_empty() || bare.contains(": ") || bare.ends_with(':') || is_item {
            return None;
        }
        let at = start + offset;
        if let Some((key, _)) = bare.split_once('=').filter(|(key, _)| is_word(key.trim())) {
            let sign = self.span(at + key.len(), 1);
            let (error, lines) =
                self.error(sign, "a key is followed by `=`", "YAML has `:` here".to_owned());
            let blanks = self.span(at + key.trim_end().len(), key.len() - key.trim_end().len() + 1);
            return Some((error.suggest(blanks, ":", "write a colon"), lines));
        }
        if let Some(key) = bare.strip_suffix('{').map(str::trim_end).filter(|key| is_word(key)) {
            let brace = self.span(at + bare.len() - 1, 1);
            let (error, lines) = self.error(brace, "a key is followed by `{`", String::new());
            let help = format!("write `{key}:` and its keys below it, further in");
            return Some((error.help(help), lines));
        }
        // Any text may go on in the next line; only one word is surely meant as a key.
        if above && (!is_word(bare) || self.text.indent(line) > self.text.indent(self.line)) {
            return None;
        }
        let span = self.span(at, bare.len());
        let (error, lines) =
            self.error(span, "`:` is missing after a key", "a key and its value stand here".into());
        // `port 80`: the value stands in this line too.
        let key = bare.split(' ').next().filter(|key| is_word(key)).unwrap_or(bare);
        let help = error.suggest(self.span(at + key.len(), 0), ":", "write a colon");
        Some((help, lines))
    }

    /// A line that starts at a column where no line above it starts.
    fn indentation(&self, above: usize) -> Option<Found> {
        let levels = self.text.levels_above(self.line);
        let own = self.text.indent(self.line);
        if levels.contains(&own) {
            return None;
        }
        let nearest = levels.iter().min_by_key(|level| level.abs_diff(own))?;
        let start = self.text.start(self.line);
        let words = self.text.words(self.line).trim();
        let deeper = levels.iter().all(|level| *level < own);
        let label = match deeper {
            true => "stands further in than the line above, which is complete",
            false => "no line above starts at this column",
        };
        let first = words.find([' ', ':']).unwrap_or(words.len()).max(1);
        let span = self.span(start + own, first);
        let (error, lines) = self.error(span, "wrong indentation", label.to_owned());
        let error = match key_of(self.text.words(above)) {
            Some((at, key)) if deeper => {
                let at = self.text.start(above) + at;
                error.also(self.span(at, key.len()), "has its value already")
            }
            _ => error,
        };
        let blanks = match nearest {
            1 => "start at column 2".to_owned(),
            _ => format!("start at column {}", nearest + 1),
        };
        Some((error.suggest(self.span(start, own), " ".repeat(*nearest), blanks), lines))
    }

    /// Items among keys, or keys among items.
    fn mixed(&self, above: usize) -> Option<Found> {
        let words = self.text.words(self.line);
        let is_item = |words: &str| item(words).0 > words.len() - words.trim_start().len();
        let span = self.span(self.text.start(self.line) + self.text.indent(self.line), 1);
        let (what, label) = match (is_item(words), is_item(self.text.words(above))) {
            (true, _) => ("an item of a list among keys", "the lines around it are keys"),
            (false, true) => ("a key among the items of a list", "the lines above are items"),
            _ => return None,
        };
        let (error, lines) = self.error(span, what, label.to_owned());
        Some((
            error.help("a list stands below its key, further in, with `- ` before each item"),
            lines,
        ))
    }
}

fn closing(open: char) -> char {
    if open == '[' { ']' } else { '}' }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
}

/// A character that no text may hold.
pub(super) fn control(span: Span, character: char) -> Diagnostic {
    let name = format!("U+{:04X}", u32::from(character));
    Diagnostic::error(Code::Syntax, span, format!("a control character, {name}, is in the file"))
        .label("cannot be seen")
        .help("take it out; inside of double quotes it may be written with `\\x`")
}

pub(super) fn unknown_alias(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(Code::Syntax, span, format!("there is no anchor `&{name}` above"))
        .label("stands for what an anchor names")
        .suggest(span, quoted(&format!("*{name}")), "quote it if it is a text")
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

/// A key that is a list or table; its text is known if it is written in brackets.
pub(super) fn no_key(node: &Node, written: &str) -> Diagnostic {
    let message = format!("{} cannot be a key", node.value.noun());
    let error = Diagnostic::error(Code::Syntax, node.span, message);
    match written.starts_with('{') {
        true => error
            .label("`{` starts a table")
            .help("a text that starts with `{` stands in quotes, as what a template puts in does"),
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
