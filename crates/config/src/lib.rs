//! Configuration text to one [`model`], with diagnostics; no I/O.
//!
//! [`load`] is the way in: it takes files that somebody else has read, finds each one's [`Dialect`],
//! reads it into spanned trees, translates those into native ones if they are not, and decodes these into
//! the model. It goes on after a mistake, so
//! that all of them are reported at once, each with its place and what to write instead. There is a
//! model only if there is no error: a setting that cannot be understood never fails open.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub mod diagnostic;
pub mod lint;
pub mod model;
pub mod password;
pub mod pattern;
pub mod places;
pub mod schema;
pub mod secrets;
pub mod source;

mod convert;
mod decode;
mod dialect;
mod native;
mod prefixes;
mod render;
mod syntax;
mod tree;

pub use convert::{Converted, convert};
pub use diagnostic::{Code, Diagnostic, Severity};
pub use dialect::Dialect;
pub use model::Model;
pub use native::ROOT;
pub use source::{Source, Sources, Span};
pub use syntax::size_unit;

use decode::Context;
use diagnostic::Diagnostics;
use dialect::Grammar;

/// What [`load`] needs to know beside the text.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The language of every file; `None` to go by the files' names and content.
    pub dialect: Option<Dialect>,
    /// Whether a file or directory exists; true also where that cannot be known. This crate looks at no
    /// file itself. One that nothing can be served without is an error if it is missing, another a warning.
    pub exists: &'a dyn Fn(&Path) -> bool,
    /// A variable of the environment by its name, which only dialects that are configured by it too ask
    /// for.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Default for Options<'_> {
    /// Dialect by file name and content; every file is taken to exist, no variable to be set.
    fn default() -> Self {
        Options { dialect: None, exists: &|_| true, environment: &|_| None }
    }
}

/// What became of the files.
#[derive(Debug)]
pub struct Loaded {
    /// The model; `None` if there is any error.
    pub model: Option<Model>,
    /// Every finding, by place.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that the findings point into.
    pub sources: Sources,
}

/// Reads files as one configuration: their sites together, every other table in one file only.
///
/// Files may be in several dialects. Texts that are not UTF-8 are reported like any other mistake.
pub fn load<T: AsRef<[u8]>>(files: &[(PathBuf, T)], options: &Options<'_>) -> Loaded {
    assemble(files, options).loaded
}

/// What became of the files, and how.
struct Assembled {
    loaded: Loaded,
    /// The native trees that the model is made of.
    roots: Vec<tree::Node>,
    /// The dialect of each file that is in one.
    dialects: Vec<(usize, Dialect)>,
    /// What front ends said about lines that can be used.
    notes: Vec<Diagnostic>,
}

fn assemble<T: AsRef<[u8]>>(files: &[(PathBuf, T)], options: &Options<'_>) -> Assembled {
    let out = Diagnostics::default();
    let mut sources = Sources::default();
    let mut unread = Unread::default();
    let mut texts = Vec::new();
    let mut dialects = Vec::new();
    for (path, bytes) in files {
        let text = String::from_utf8_lossy(bytes.as_ref());
        let file = sources.add(Source::new(path, &text));
        let Some(source) = sources.get(file) else { continue };
        let read = match std::str::from_utf8(bytes.as_ref()) {
            Ok(_) => read(source, file, options.dialect, &mut unread, &out),
            Err(error) => {
                out.push(not_utf8(source, file, error.valid_up_to()));
                None
            }
        };
        unread.files |= read.is_none();
        dialects.extend(read.iter().map(|(dialect, _)| (file, *dialect)));
        texts.extend(read);
    }
    let (mut found, mut concealed) = (Vec::new(), Vec::new());
    let mut roots = Vec::new();
    while let Some((dialect, _)) = texts.first() {
        // All files of a dialect together, where the first of them stands.
        let dialect = *dialect;
        let (same, others): (Vec<_>, Vec<_>) =
            texts.into_iter().partition(|(other, _)| *other == dialect);
        texts = others;
        let documents = same.into_iter().flat_map(|(_, documents)| documents).collect();
        let context = Context::new(&sources, dialect, options);
        roots.extend(dialect.translate(&context, documents));
        concealed.extend(context.concealed());
        found.extend(context.into_diagnostics());
    }
    let notes = found.iter().filter(|found| found.severity != Severity::Error).cloned().collect();
    let mistaken = Mistaken::of(&found, &dialects, &sources);
    let context = Context::new(&sources, Dialect::Native, options);
    concealed.iter().for_each(|span| context.conceal(*span));
    let model = native::decode(&context, &roots);
    concealed = context.concealed();
    let native = context.into_diagnostics().into_iter();
    found.extend(native.filter(|found| mistaken.leaves_true(found, &sources)));
    for diagnostic in found {
        if unread.leaves_true(&diagnostic, &sources) {
            out.push(diagnostic);
        }
    }
    sources.conceal(&concealed);
    let is_error = |found: &Diagnostic| found.severity == Severity::Error;
    let mut diagnostics = out.into_sorted();
    if model.is_none() && !diagnostics.iter().any(is_error) {
        diagnostics.push(nothing_to_serve());
    }
    let refused = diagnostics.iter().any(is_error);
    let loaded = Loaded { model: model.filter(|_| !refused), diagnostics, sources };
    Assembled { loaded, roots, dialects, notes }
}

/// Reads one file into the trees of its dialect; `None` if it is in none or nothing of it can be read.
fn read(
    source: &Source,
    file: usize,
    chosen: Option<Dialect>,
    unread: &mut Unread,
    out: &Diagnostics,
) -> Option<(Dialect, Vec<tree::Node>)> {
    let by_name = || Grammar::of_file(source.path());
    let Some(grammar) = chosen.map(Dialect::grammar).or_else(by_name) else {
        out.push(unknown_dialect(source.path(), file));
        return None;
    };
    let (roots, broken) = match grammar {
        Grammar::Toml => {
            let document = dialect::toml::read(source, file, out);
            (vec![document.root], document.broken)
        }
        Grammar::Yaml => {
            let documents = dialect::yaml::read(source, file, out);
            (documents.roots, documents.broken)
        }
    };
    let whole = broken.lines.is_empty();
    unread.tables |= broken.tables;
    unread.lines.extend(broken.lines.into_iter().map(|line| (file, line)));
    let by_content = || match grammar {
        Grammar::Toml => Some(Dialect::Native),
        Grammar::Yaml => Dialect::of_documents(&roots),
    };
    let dialect = chosen.or_else(by_content);
    if dialect.is_none() && (whole || !roots.is_empty()) {
        out.push(dialect::unknown_yaml(&roots, source.path(), file));
    }
    Some((dialect?, roots))
}

impl Loaded {
    /// How many findings are errors.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
    }

    /// How many findings are warnings.
    pub fn warnings(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Warning).count()
    }

    /// The findings as text for people, with terminal colours or without; empty if there are none.
    pub fn render(&self, color: bool) -> String {
        render::human(&self.diagnostics, &self.sources, color)
    }

    /// The findings for tools: one JSON object a line.
    pub fn render_json(&self) -> String {
        render::json(&self.diagnostics, &self.sources)
    }
}

/// What of the files could not be read.
#[derive(Default)]
struct Unread {
    /// A whole file or more.
    files: bool,
    /// Lines with syntax errors, by file and zero-based number.
    lines: HashSet<(usize, usize)>,
    /// Whole tables may be missing.
    tables: bool,
}

impl Unread {
    /// Whether a finding of the decoder is true although parts of the text could not be read: it does
    /// not say that something is missing, and its line is whole.
    fn leaves_true(&self, found: &Diagnostic, sources: &Sources) -> bool {
        if !self.files && self.lines.is_empty() {
            return true;
        }
        let about_what_is_there = match found.code {
            Code::MissingKey | Code::Unused => false,
            Code::UnknownUpstream => !self.tables && !self.files,
            _ => true,
        };
        let line = found.span.and_then(|span| line(span, sources));
        let broken = line.is_some_and(|line| self.lines.contains(&line));
        about_what_is_there && !broken
    }
}

/// What front ends could not translate because it is wrong.
struct Mistaken {
    /// Files in dialects of front ends that found mistakes.
    files: HashSet<usize>,
    /// Lines with mistakes, by file and zero-based number.
    lines: HashSet<(usize, usize)>,
}

impl Mistaken {
    fn of(found: &[Diagnostic], dialects: &[(usize, Dialect)], sources: &Sources) -> Mistaken {
        let errors = found.iter().filter(|found| found.severity == Severity::Error);
        let places: Vec<Span> = errors.filter_map(|found| found.span).collect();
        let of = |span: &Span| dialects.iter().find(|(file, _)| *file == span.file);
        let wrong: Vec<Dialect> = places.iter().filter_map(of).map(|(_, it)| *it).collect();
        let lines = places.iter().filter_map(|span| line(*span, sources)).collect();
        let files = dialects.iter().filter(|(_, dialect)| wrong.contains(dialect));
        Mistaken { files: files.map(|(file, _)| *file).collect(), lines }
    }

    /// Whether a finding about the translation is more than a consequence of a mistake that the front
    /// end has reported in words of the dialect.
    fn leaves_true(&self, found: &Diagnostic, sources: &Sources) -> bool {
        let Some(span) = found.span else { return true };
        let misses = matches!(found.code, Code::MissingKey | Code::Unused | Code::UnknownUpstream);
        let reported = line(span, sources).is_some_and(|line| self.lines.contains(&line));
        !self.files.contains(&span.file) || !misses && !reported
    }
}

/// The file and the zero-based number of the line that a place begins in.
fn line(span: Span, sources: &Sources) -> Option<(usize, usize)> {
    Some((span.file, sources.get(span.file)?.line_of(span.start)))
}

fn not_utf8(source: &Source, file: usize, at: usize) -> Diagnostic {
    let at = at.min(source.text().len());
    let span = Span { file, start: at, end: at };
    Diagnostic::error(Code::Syntax, span, "the file is not UTF-8 text")
        .label("the first byte that is not")
        .help("save it as UTF-8")
}

/// Front ends made nothing of the files and had no other error.
fn nothing_to_serve() -> Diagnostic {
    let span = Span { file: 0, start: 0, end: 0 };
    Diagnostic::error(Code::MissingKey, span, "the configuration has no site")
        .help("there is nothing in it that could be served")
}

fn unknown_dialect(path: &Path, file: usize) -> Diagnostic {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let span = Span { file, start: 0, end: 0 };
    Diagnostic::error(Code::UnknownDialect, span, format!("the format of `{name}` is not known"))
        .help("name the file `*.toml` if it is native, `*.yaml` if it is of PyServe or Easegress, or say `--dialect`")
}
