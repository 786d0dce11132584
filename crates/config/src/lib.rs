//! Configuration text to one [`model`], with diagnostics; no I/O.
//!
//! [`load`] is the way in: it takes files that somebody else has read, finds each one's [`Dialect`],
//! reads it into a spanned tree and decodes the tree into the model. It goes on after a mistake, so
//! that all of them are reported at once, each with its place and what to write instead. There is a
//! model only if there is no error: a setting that cannot be understood never fails open.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub mod diagnostic;
pub mod model;
pub mod pattern;
pub mod schema;
pub mod source;

mod decode;
mod dialect;
mod native;
mod render;
mod syntax;
mod tree;

pub use diagnostic::{Code, Diagnostic, Severity};
pub use dialect::Dialect;
pub use model::Model;
pub use native::ROOT;
pub use source::{Source, Sources, Span};

use diagnostic::Diagnostics;

/// What [`load`] needs to know beside the text.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The language of every file; `None` to go by the file names.
    pub dialect: Option<Dialect>,
    /// Whether a file or directory exists; true also where that cannot be known. This crate looks at no
    /// file itself. One that nothing can be served without is an error if it is missing, another a warning.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

impl Default for Options<'_> {
    /// Dialect by file name; every file is taken to exist.
    fn default() -> Self {
        Options { dialect: None, exists: &|_| true }
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
/// Texts that are not UTF-8 are reported like any other mistake.
pub fn load<T: AsRef<[u8]>>(files: &[(PathBuf, T)], options: &Options<'_>) -> Loaded {
    let out = Diagnostics::default();
    let mut sources = Sources::default();
    let mut roots = Vec::new();
    let mut unread = Unread::default();
    for (path, bytes) in files {
        let text = String::from_utf8_lossy(bytes.as_ref());
        let file = sources.add(Source::new(path, &text));
        let Some(source) = sources.get(file) else { continue };
        if let Err(error) = std::str::from_utf8(bytes.as_ref()) {
            out.push(not_utf8(source, file, error.valid_up_to()));
            continue;
        }
        match options.dialect.or_else(|| Dialect::detect(path)) {
            Some(Dialect::Native) => {
                let document = dialect::toml::read(source, file, &out);
                unread.tables |= document.broken.tables;
                unread.lines.extend(document.broken.lines.into_iter().map(|line| (file, line)));
                roots.push(document.root);
            }
            None => out.push(unknown_dialect(path, file)),
        }
    }
    let all_read = roots.len() == files.len() && unread.lines.is_empty();
    unread.tables |= roots.len() != files.len();
    let context = decode::Context::new(&sources, options.exists);
    let model = native::decode(&context, &roots);
    for diagnostic in context.into_diagnostics() {
        if all_read || unread.leaves_true(&diagnostic, &sources) {
            out.push(diagnostic);
        }
    }
    let diagnostics = out.into_sorted();
    let refused = diagnostics.iter().any(|found| found.severity == Severity::Error);
    Loaded { model: model.filter(|_| !refused), diagnostics, sources }
}

impl Loaded {
    /// How many findings are errors.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
    }

    /// How many findings are warnings.
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
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
    /// Lines with syntax errors, by file and zero-based number.
    lines: HashSet<(usize, usize)>,
    /// Whole tables may be missing.
    tables: bool,
}

impl Unread {
    /// Whether a finding of the decoder is true although parts of the text could not be read: it does
    /// not say that something is missing, and its line is whole.
    fn leaves_true(&self, found: &Diagnostic, sources: &Sources) -> bool {
        let about_what_is_there = match found.code {
            Code::MissingKey | Code::Unused => false,
            Code::UnknownUpstream => !self.tables,
            _ => true,
        };
        let line = |span: Span| Some((span.file, sources.get(span.file)?.line_of(span.start)));
        let broken = found.span.and_then(line).is_some_and(|line| self.lines.contains(&line));
        about_what_is_there && !broken
    }
}

fn not_utf8(source: &Source, file: usize, at: usize) -> Diagnostic {
    let at = at.min(source.text().len());
    let span = Span { file, start: at, end: at };
    Diagnostic::error(Code::Syntax, span, "the file is not UTF-8 text")
        .label("the first byte that is not")
        .help("save it as UTF-8")
}

fn unknown_dialect(path: &Path, file: usize) -> Diagnostic {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let span = Span { file, start: 0, end: 0 };
    Diagnostic::error(Code::UnknownDialect, span, format!("the format of `{name}` is not known"))
        .help("Ravelin reads native TOML now: name the file `*.toml`, or say `--dialect native`")
}
