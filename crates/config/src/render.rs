//! How findings look: for people as rustc shows its own, for tools as JSON lines.

use std::borrow::Cow;
use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use wire::text::steers;

use crate::diagnostic::{Diagnostic, Label, Severity, Suggestion};
use crate::source::{Source, Sources, Span};

/// Lines between two places of one finding that are still shown in one piece.
const PIECE_LINES_MAX: usize = 12;

/// Most characters of what is said about a place; what stands in the file may be part of it.
const WORDS_MAX: usize = 2000;

/// Longest lines, in bytes, that a replacement is shown in; the renderer does not shorten them.
const SUGGESTION_MAX: usize = 1000;

/// Most characters of a replacement that is shown without its lines.
const SHOWN_MAX: usize = 60;

/// Text for people.
pub(crate) fn human(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.extend(renderer.render(&report(diagnostic, sources)).chars().map(visible));
        text.push_str("\n\n");
    }
    text
}

/// A character as a terminal may have it, where the renderer leaves it as it is in the file.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        // Its own colours and ends of lines are below; what is in the file of those it shows by symbols.
        '\u{7f}'.. if steers(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

fn report<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title =
        level.primary_title(cut(&diagnostic.message, WORDS_MAX)).id(diagnostic.code.as_str());
    let mut group = Group::with_title(title).elements(pieces(diagnostic, sources));
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(cut(help, WORDS_MAX)));
    }
    let mut groups = vec![group];
    if let Some(suggestion) = &diagnostic.suggestion
        && let Some(source) = sources.get(suggestion.span.file)
    {
        groups.push(suggested(suggestion, source));
    }
    groups
}

/// The source lines of a finding: places near the first one in one piece, others in their own.
fn pieces<'a>(
    diagnostic: &'a Diagnostic,
    sources: &'a Sources,
) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let Some(span) = diagnostic.span else { return Vec::new() };
    let Some(source) = sources.get(span.file) else { return Vec::new() };
    let line = source.line_of(span.start);
    let near = |label: &&Label| {
        label.span.file == span.file
            && source.line_of(label.span.start).abs_diff(line) <= PIECE_LINES_MAX
    };
    let close: Vec<&Label> = diagnostic.labels.iter().filter(near).collect();
    let lines = close.iter().map(|label| source.line_of(label.span.start)).chain([line]);
    let first = lines.clone().min().unwrap_or(line);
    let last = lines.max().unwrap_or(line);
    let window = Window::new(source, first, last);
    let mut main =
        window.snippet().annotation(window.mark(AnnotationKind::Primary, span, &diagnostic.label));
    for label in &close {
        main = main.annotation(window.mark(AnnotationKind::Context, label.span, &label.message));
    }
    let far = diagnostic.labels.iter().filter(|label| !near(label)).filter_map(|label| {
        let source = sources.get(label.span.file)?;
        let line = source.line_of(label.span.start);
        let window = Window::new(source, line, line);
        Some(window.snippet().annotation(window.mark(
            AnnotationKind::Context,
            label.span,
            &label.message,
        )))
    });
    std::iter::once(main).chain(far).collect()
}

fn suggested<'a>(suggestion: &'a Suggestion, source: &'a Source) -> Group<'a> {
    let line = source.line_of(suggestion.span.start);
    let last = source.line_of(suggestion.span.end.max(suggestion.span.start));
    let window = Window::new(source, line, last);
    let range = window.range(suggestion.span, window.text.len());
    let message = tame(&suggestion.message, WORDS_MAX);
    if window.text.len().max(suggestion.replacement.len()) > SUGGESTION_MAX {
        let old = tame(window.text.get(range).unwrap_or(""), SHOWN_MAX);
        let new = tame(&suggestion.replacement, SHOWN_MAX);
        let words = match old.is_empty() {
            true => format!("{message} `{new}`"),
            false => format!("{message} `{new}` in the place of `{old}`"),
        };
        return Group::with_title(Level::HELP.secondary_title(words));
    }
    let snippet = Snippet::source(window.text)
        .line_start(window.line + 1)
        .path(source.path().to_string_lossy())
        .patch(Patch::new(range, suggestion.replacement.as_str()));
    Group::with_title(Level::HELP.secondary_title(message)).element(snippet)
}

/// The beginning of a text that is too long.
fn cut(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")).into(),
        None => text.into(),
    }
}

/// The same for a title that the renderer takes as it is.
fn tame(text: &str, max: usize) -> String {
    let shown = |c| if c != '\n' && steers(c) { char::REPLACEMENT_CHARACTER } else { c };
    cut(text, max).chars().map(shown).collect()
}

/// A few lines of a file; what is shown of a large file does not depend on its size.
struct Window<'a> {
    source: &'a Source,
    text: &'a str,
    /// Zero-based number of the first line.
    line: usize,
    /// Offset of the first byte in the file.
    start: usize,
}

impl<'a> Window<'a> {
    fn new(source: &'a Source, first: usize, last: usize) -> Window<'a> {
        let (start, _) = source.line_bounds(first);
        let (_, end) = source.line_bounds(last);
        Window { source, text: source.text().get(start..end).unwrap_or(""), line: first, start }
    }

    fn snippet(&self) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        Snippet::source(self.text)
            .line_start(self.line + 1)
            .path(self.source.path().to_string_lossy())
    }

    /// Marks a span; one that reaches over several lines is marked in its first.
    fn mark(
        &self,
        kind: AnnotationKind,
        span: Span,
        label: &'a str,
    ) -> annotate_snippets::Annotation<'a> {
        let (_, line_end) = self.source.line_bounds(self.source.line_of(span.start));
        let range = self.range(span, line_end.saturating_sub(self.start));
        let mark = kind.span(range);
        if label.is_empty() { mark } else { mark.label(cut(label, WORDS_MAX)) }
    }

    fn range(&self, span: Span, end_max: usize) -> std::ops::Range<usize> {
        let end_max = end_max.min(self.text.len());
        let start = self.source.floor(span.start).saturating_sub(self.start).min(end_max);
        let end = self.source.floor(span.end).saturating_sub(self.start).min(end_max);
        start..end.max(start)
    }
}

/// One JSON object a line.
pub(crate) fn json(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let mut object = Object::open(&mut text);
        object.string("severity", diagnostic.severity.as_str());
        object.string("code", diagnostic.code.as_str());
        object.string("message", &diagnostic.message);
        if let Some(span) = diagnostic.span {
            object.place(span, sources);
        }
        object.string("label", &diagnostic.label);
        object.list("labels", &diagnostic.labels, |object, label| {
            object.place(label.span, sources);
            object.string("message", &label.message);
        });
        object.strings("help", &diagnostic.help);
        object.list("suggestions", diagnostic.suggestion.as_slice(), |object, suggestion| {
            object.place(suggestion.span, sources);
            object.string("replacement", &suggestion.replacement);
            object.string("message", &suggestion.message);
        });
        object.close();
        text.push('\n');
    }
    text
}

/// A JSON object being written.
struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut String) -> Object<'a> {
        out.push('{');
        Object { out, first: true }
    }

    fn close(self) {
        self.out.push('}');
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        quote(self.out, key);
        self.out.push(':');
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        quote(self.out, value);
    }

    fn number(&mut self, key: &str, value: usize) {
        self.key(key);
        _ = write!(self.out, "{value}");
    }

    fn strings(&mut self, key: &str, values: &[String]) {
        self.key(key);
        self.out.push('[');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            quote(self.out, value);
        }
        self.out.push(']');
    }

    fn list<T>(&mut self, key: &str, items: &[T], write: impl Fn(&mut Object<'_>, &T)) {
        self.key(key);
        self.out.push('[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            let mut object = Object::open(self.out);
            write(&mut object, item);
            object.close();
        }
        self.out.push(']');
    }

    /// File, line and column of a span, and where it ends (exclusive).
    fn place(&mut self, span: Span, sources: &Sources) {
        let Some(source) = sources.get(span.file) else { return };
        let (start, end) = (source.position(span.start), source.position(span.end));
        self.string("file", &source.path().to_string_lossy());
        self.number("line", start.line);
        self.number("column", start.column);
        self.number("end_line", end.line);
        self.number("end_column", end.column);
    }
}

/// A JSON string (RFC 8259 section 7).
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if steers(c) => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}
