//! Words for TOML syntax errors: what is wrong as an operator sees it, the place where it began, and
//! one finding instead of the many that a parser trips over after the first.

use ::toml::de::Error;

use super::super::Broken;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::source::{Source, Span};
use crate::syntax::quoted;

/// More errors than anybody would read; the rest of such a file is not looked at.
const ERRORS_MAX: usize = 500;

/// Reports the errors of one text; returns what cannot be relied on.
pub(super) fn report(source: &Source, file: usize, errors: &[Error], out: &Diagnostics) -> Broken {
    let text = Text { source, file };
    let mut broken = Broken::default();
    let mut list_is_open = false;
    let mut repeated_header = None;
    let mut errors: Vec<(Span, &str)> =
        errors.iter().map(|error| (text.place(error), error.message())).collect();
    errors.sort_by_key(|(span, _)| span.start);
    if let Some((span, _)) = errors.get(ERRORS_MAX) {
        broken.lines.extend(source.line_of(span.start)..source.line_count());
        broken.tables = true;
        errors.truncate(ERRORS_MAX);
    }
    for &(span, message) in &errors {
        let line = source.line_of(span.start);
        if message == "duplicate key" {
            let header = text.header_above(line);
            if text.is_header(line) {
                repeated_header = Some(line);
            } else if header.is_some() && header == repeated_header {
                continue; // the whole table stands twice, which has been said
            }
            out.push(text.duplicate(span));
            continue;
        }
        if list_is_open || broken.lines.contains(&line) {
            list_is_open &= !message.starts_with("unclosed");
            broken.lines.insert(line);
            continue;
        }
        broken.lines.insert(line);
        broken.tables |= text.words(line).1.trim_start().starts_with('[');
        if message.starts_with("unclosed array table") || message.starts_with("unclosed table") {
            // Without its header, a table's keys are in another table.
            broken
                .lines
                .extend((line + 1..source.line_count()).take_while(|line| !text.is_header(*line)));
        }
        let in_list =
            |message: &str| message.starts_with("missing comma") || message.contains("in array");
        let here =
            |other: &&(Span, &str)| source.line_of(other.0.start) == line && in_list(other.1);
        if text.starts_statement(line)
            && let Some((_, message)) = errors.iter().find(here)
        {
            list_is_open = true;
            broken.tables = true;
            out.push(text.open_list(span, line, message.contains("array")));
            continue;
        }
        out.push(text.syntax(span, message));
    }
    broken
}

/// Refuses a text that is not TOML but some other language, or some other system's configuration, in
/// one finding.
pub(super) fn foreign(source: &Source, file: usize) -> Option<Diagnostic> {
    let mut seen = Seen::default();
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        let words = line.trim();
        if !words.is_empty() && !words.starts_with('#') {
            seen.line(words, start + line.len() - line.trim_start().len());
        }
        start += line.len();
    }
    let (what, (at, length)) = seen.language()?;
    let span = Span { file, start: at, end: at + length };
    let help = match what {
        "YAML" => "name the file `*.yaml` if it is of PyServe or Easegress",
        _ => "native TOML is expected here: a site starts with `[[sites]]`",
    };
    Some(
        Diagnostic::error(Code::UnknownDialect, span, "this is not TOML")
            .label(format!("looks like {what}"))
            .help(help),
    )
}

/// What tells other languages from TOML with mistakes in it. A place is an offset and a length.
#[derive(Default)]
struct Seen<'a> {
    lines: usize,
    first: Option<(&'a str, (usize, usize))>,
    /// Lines that end as in languages with blocks in braces.
    braced: usize,
    first_braced: Option<(usize, usize)>,
    semicolons: usize,
    /// Lines as in YAML.
    colons: usize,
    /// Something that is TOML and not YAML.
    toml: bool,
}

impl<'a> Seen<'a> {
    fn line(&mut self, words: &'a str, at: usize) {
        let place = (at, words.len());
        self.lines += 1;
        self.first.get_or_insert((words, place));
        if words.ends_with([';', '{']) || words == "}" {
            self.braced += 1;
            self.first_braced.get_or_insert(place);
            self.semicolons += usize::from(words.ends_with(';'));
        }
        let item = words.strip_prefix("- ");
        let key = item.unwrap_or(words).split_once(':').filter(|(key, rest)| {
            let word = |c: char| c.is_alphanumeric() || "-_.".contains(c);
            key.chars().all(word) && (rest.is_empty() || rest.starts_with(' '))
        });
        self.colons += usize::from(item.is_some() || key.is_some() || words == "---");
        self.toml |= words.starts_with('[');
    }

    fn language(self) -> Option<(&'static str, (usize, usize))> {
        const OF_HAPROXY: &[&str] = &["global", "defaults", "frontend", "backend", "listen"];
        let (first, place) = self.first?;
        if first.starts_with('{') {
            return Some(("JSON", place));
        }
        if first.starts_with('<') && !first.starts_with("<<") {
            return Some(("XML, or the configuration of Apache", place));
        }
        if self.braced * 2 > self.lines {
            let what = match self.semicolons {
                0 => "the configuration of another system",
                _ => "the configuration of nginx",
            };
            return Some((what, self.first_braced?));
        }
        if self.toml {
            return None;
        }
        if self.colons * 2 > self.lines {
            return Some(("YAML", place));
        }
        let word = first.split_whitespace().next()?;
        let section = OF_HAPROXY.contains(&word) && !first.contains('=');
        section.then_some(("the configuration of HAProxy", place))
    }
}

struct Text<'a> {
    source: &'a Source,
    file: usize,
}

impl<'a> Text<'a> {
    fn span(&self, start: usize, end: usize) -> Span {
        let start = self.source.floor(start);
        Span { file: self.file, start, end: self.source.floor(end).max(start) }
    }

    fn place(&self, error: &Error) -> Span {
        let range = error.span().unwrap_or(0..0);
        self.span(range.start, range.end)
    }

    fn words(&self, line: usize) -> (usize, &'a str) {
        let (start, end) = self.source.line_bounds(line);
        (start, self.source.text().get(start..end).unwrap_or(""))
    }

    fn written(&self, span: Span) -> &'a str {
        self.source.text().get(span.start..span.end).unwrap_or("")
    }

    fn is_header(&self, line: usize) -> bool {
        header(self.words(line).1).is_some()
    }

    fn header_above(&self, line: usize) -> Option<usize> {
        (0..line).rev().find(|line| self.is_header(*line))
    }

    /// Whether the line looks like the start of a table or of a key with its value.
    fn starts_statement(&self, line: usize) -> bool {
        let words = self.words(line).1.trim_start();
        let key = words.split_once('=').map_or("", |(key, _)| key.trim());
        words.starts_with('[')
            || (!key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "-_.\"".contains(c)))
    }

    /// A list or an inline table that reaches into the next statement because its end is missing.
    fn open_list(&self, span: Span, line: usize, list: bool) -> Diagnostic {
        let (what, open, close) = if list { ("list", '[', ']') } else { ("table", '{', '}') };
        let (start, words) = self.words(line);
        let at = start + words.len() - words.trim_start().len();
        let message = format!("a {what} is not closed");
        let error = Diagnostic::error(Code::Syntax, self.span(at, span.end.max(at)), message)
            .label(format!("the {what} goes on here, because no `{close}` came before"));
        let opener = (0..line).rev().find_map(|line| {
            let (start, words) = self.words(line);
            let at = words.find('=')?;
            let bracket = at + words.get(at..)?.find(open)?;
            Some(self.span(start + bracket, start + bracket + 1))
        });
        match opener {
            Some(opener) => error.also(opener, format!("the {what} starts here")),
            None => error,
        }
    }

    fn syntax(&self, span: Span, message: &str) -> Diagnostic {
        let error = |message: &str| Diagnostic::error(Code::Syntax, span, message);
        const UNQUOTED: &[&str] = &[
            "string values must be quoted",
            "invalid boolean",
            "invalid date",
            "invalid float",
            "invalid integer",
            "invalid number",
            "invalid time",
        ];
        if UNQUOTED.iter().any(|start| message.starts_with(start)) {
            return self.unquoted(span);
        }
        if message.starts_with("key with no value") {
            let (start, _) = self.words(self.source.line_of(span.start));
            let before = self.source.text().get(start..span.start).unwrap_or("").trim_end();
            if let Some(key) = before.strip_suffix(':') {
                let at = start + key.len();
                return self.colon(self.span(at, at + 1));
            }
            return error("`=` is missing after a key").label("expected `=` here");
        }
        if message.starts_with("invalid unquoted key") && self.written(span).starts_with(':') {
            return self.colon(span);
        }
        if message.starts_with("invalid basic string") && message.contains("expected `\"`") {
            return error("a string is not closed").label("the closing quote is missing").suggest(
                self.span(span.start, span.start),
                "\"",
                "close it",
            );
        }
        if message.starts_with("unclosed table") || message.starts_with("unclosed array table") {
            return error("a table header is not closed").label("`]` is missing").suggest(
                self.span(span.start, span.start),
                "]",
                "close it",
            );
        }
        if message.starts_with("unexpected key or value") {
            let rest = self.source.text().get(span.start..).unwrap_or("");
            return match rest {
                _ if rest.starts_with(';') => self.semicolon(span),
                _ if rest.starts_with("//") => self.comment(span.start),
                _ => error("more than one thing on a line").label("the line should end here"),
            };
        }
        if message.starts_with("recursion limit") || message.starts_with("cannot recurse") {
            return error("nested too deeply").label("more levels than any configuration has");
        }
        if message.starts_with("missing escaped value") {
            return error("a backslash that starts no escape")
                .label("not one of `b`, `e`, `f`, `n`, `r`, `t`, `\\`, `\"`, `x`, `u`, `U`")
                .help("write `\\\\` for a backslash, or put the string in single quotes");
        }
        let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let label =
            if expected.is_empty() { String::new() } else { format!("expected {expected}") };
        error(what).label(label)
    }

    /// A value that TOML would only take in quotes, or not at all.
    fn unquoted(&self, span: Span) -> Diagnostic {
        let written = self.written(span);
        let error = |message: &str| Diagnostic::error(Code::Syntax, span, message);
        let lower = written.to_ascii_lowercase();
        match lower.as_str() {
            "" => return error("a value is missing").label("expected a value after `=`"),
            "true" | "false" => {
                return error("booleans are written in lower case").suggest(
                    span,
                    lower.clone(),
                    format!("write `{lower}`"),
                );
            }
            "yes" | "on" | "no" | "off" => {
                let word = if matches!(lower.as_str(), "yes" | "on") { "true" } else { "false" };
                return error("booleans are `true` and `false`")
                    .label("stands without quotes")
                    .suggest(span, word, format!("write `{word}`, or quotes if it is a string"));
            }
            _ => {}
        }
        if written.ends_with(';') {
            return self.semicolon(self.span(span.end.saturating_sub(1), span.end));
        }
        if let Some(at) = written.find(" //") {
            return self.comment(span.start + at + 1);
        }
        let message = match written.starts_with(|c: char| c.is_ascii_digit()) {
            true => "a number with something after it must stand in quotes",
            false => "a string must stand in quotes",
        };
        let curly = ['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}'];
        let bare = written.trim_matches(curly);
        let label = if bare == written { "stands without quotes" } else { "these are no quotes" };
        error(message).label(label).suggest(span, quoted(bare), "quote it")
    }

    fn colon(&self, span: Span) -> Diagnostic {
        Diagnostic::error(Code::Syntax, span, "a key is followed by `:`")
            .label("TOML has `=` here")
            .suggest(span, " =", "write an equals sign")
    }

    /// A comment in the way of other languages, at this offset.
    fn comment(&self, at: usize) -> Diagnostic {
        let span = self.span(at, at + 2);
        Diagnostic::error(Code::Syntax, span, "a comment starts with `//`")
            .label("TOML has `#` here")
            .suggest(span, "#", "write a number sign")
    }

    fn semicolon(&self, span: Span) -> Diagnostic {
        let span = self.span(span.start, span.start + 1);
        Diagnostic::error(Code::Syntax, span, "a line ends with `;`")
            .label("TOML has nothing at the end of a line")
            .suggest(span, "", "leave it out")
    }

    fn duplicate(&self, again: Span) -> Diagnostic {
        let key = self.written(again);
        let line = self.source.line_of(again.start);
        let (start, words) = self.words(line);
        let what = header(words).unwrap_or_else(|| key.to_owned());
        let error =
            Diagnostic::error(Code::DuplicateKey, again, format!("`{what}` is written twice"))
                .label("written again");
        if what.starts_with("[[") {
            // Such headers may stand any number of times, but not after a table of that name.
            let message = format!("`{what}` stands below a table of the same name");
            return Diagnostic::error(Code::DuplicateKey, again, message)
                .label("this list should start here")
                .help("move the tables of this name below it");
        }
        let before = words.get(..again.start.saturating_sub(start)).unwrap_or("");
        let first = match before.rfind(key).filter(|_| before.contains('{') && !key.is_empty()) {
            Some(at) => Some(self.span(start + at, start + at + key.len())),
            None => self.first_place(line, key),
        };
        match first {
            Some(first) => error.also(first, "first here"),
            None => error,
        }
    }

    /// Where what stands again on this line stood first: the nearest earlier header with the same
    /// words, or the nearest earlier line of the same table that sets the key.
    fn first_place(&self, line: usize, key: &str) -> Option<Span> {
        let own = header(self.words(line).1);
        for earlier in (0..line).rev() {
            let (start, words) = self.words(earlier);
            match (&own, header(words)) {
                (Some(own), Some(other)) if *own == other => {
                    let at = start + words.rfind(key)?;
                    return Some(self.span(at, at + key.len()));
                }
                (None, Some(_)) => return None,
                (None, None) => {
                    let name = words.split_once('=').map_or("", |(name, _)| name.trim());
                    if name == key && !key.is_empty() {
                        let at = start + words.find(key)?;
                        return Some(self.span(at, at + key.len()));
                    }
                }
                (Some(_), _) => {}
            }
        }
        None
    }
}

/// The words of a table header line, without blanks and comment.
fn header(line: &str) -> Option<String> {
    let line = line.trim_start();
    if !line.starts_with('[') {
        return None;
    }
    let line = line.split('#').next()?;
    let end = line.rfind(']')?;
    Some(line.get(..=end)?.chars().filter(|c| !c.is_whitespace()).collect())
}
