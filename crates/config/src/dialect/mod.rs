//! The languages a configuration may be written in, and how they are told apart.
//!
//! A text is TOML or YAML by its file's name. TOML is native. What YAML says is found by its content: a
//! front end of its own (a module here) checks the tree and translates it into native trees, made with
//! [`build`], so that the native decoder stays the only way to a model.

use std::collections::BTreeSet;
use std::path::Path;

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::{Source, Span};
use crate::tree::{Node, Value};

#[allow(dead_code)]
pub(crate) mod build;
pub(crate) mod easegress;
pub(crate) mod pyserve;
pub(crate) mod toml;
pub(crate) mod yaml;

/// A configuration language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Ravelin's own TOML.
    Native,
    /// PyServe's YAML.
    PyServe,
    /// Easegress's YAML objects.
    Easegress,
}

/// A grammar that dialects are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grammar {
    Toml,
    Yaml,
}

/// The parts of a text that syntax errors spoil. A key written twice spoils nothing: the first counts.
#[derive(Default)]
pub(crate) struct Broken {
    /// Zero-based lines that hold a syntax error, or were misread because of one.
    pub(crate) lines: BTreeSet<usize>,
    /// Whole tables may be missing.
    pub(crate) tables: bool,
}

impl Dialect {
    /// Every dialect with its name, as `--dialect` takes it.
    pub const ALL: &'static [(&'static str, Dialect)] = &[
        ("native", Dialect::Native),
        ("pyserve", Dialect::PyServe),
        ("easegress", Dialect::Easegress),
    ];

    /// How the dialect is called in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Dialect::Native => "native TOML",
            Dialect::PyServe => "PyServe",
            Dialect::Easegress => "Easegress",
        }
    }

    /// The grammar it is written in.
    pub(crate) fn grammar(self) -> Grammar {
        match self {
            Dialect::Native => Grammar::Toml,
            Dialect::PyServe | Dialect::Easegress => Grammar::Yaml,
        }
    }

    /// Finds the dialect of a YAML file by the keys at the top of its documents.
    pub(crate) fn of_documents(documents: &[Node]) -> Option<Dialect> {
        let says = |known: &[&str]| {
            let mut keys = documents.iter().flat_map(keys);
            keys.any(|key| known.contains(&key))
        };
        if documents.iter().any(is_foreign) {
            None
        } else if says(&["kind"]) {
            Some(Dialect::Easegress)
        } else if says(PYSERVE_KEYS) {
            Some(Dialect::PyServe)
        } else {
            None
        }
    }

    /// The native trees of all documents of the dialect; native ones are as they are.
    pub(crate) fn translate(self, context: &Context<'_>, documents: Vec<Node>) -> Vec<Node> {
        match self {
            Dialect::Native => documents,
            Dialect::PyServe => pyserve::translate(context, &documents),
            Dialect::Easegress => easegress::translate(context, &documents),
        }
    }
}

impl Grammar {
    /// The grammar of a file by its name; `None` if it is not one that can be read.
    pub(crate) fn of_file(path: &Path) -> Option<Grammar> {
        const EXTENSIONS: &[(&str, Grammar)] =
            &[("toml", Grammar::Toml), ("yaml", Grammar::Yaml), ("yml", Grammar::Yaml)];
        let extension = path.extension()?.to_str()?;
        let known = EXTENSIONS.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
        known.map(|(_, grammar)| *grammar)
    }
}

impl Broken {
    /// Nothing of a text can be relied on.
    pub(crate) fn spoil_all(&mut self, source: &Source) {
        self.lines.extend(0..source.line_count());
        self.tables = true;
    }
}

/// Refuses what seems to mean one of these keys: unknown keys are passed over in these dialects, but not
/// where something would then be open that was to be closed.
pub(crate) fn never_open(table: &Table<'_>, keys: &[&str]) {
    for key in keys.iter().filter(|key| !table.has(key) && table.has_or_means(key)) {
        let message = format!("`{key}` is not there, but something like it");
        table.context().push(
            Diagnostic::error(Code::MissingKey, table.span, message)
                .label("what was to be protected would be open")
                .help("write it as it is suggested, or take it out"),
        );
    }
}

/// What may stand at the top of a configuration of PyServe.
const PYSERVE_KEYS: &[&str] = &["server", "ssl", "http", "extensions", "logging", "version"];

/// The keys of a table, in order; none of anything else.
fn keys(node: &Node) -> impl Iterator<Item = &str> {
    let entries = match &node.value {
        Value::Table(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|entry| entry.key.as_str())
}

/// What other systems have at the top of their YAML, and what such a file is.
const OTHERS: &[(&str, &str)] = &[
    ("apiVersion", "an object of Kubernetes"),
    ("static_resources", "the configuration of Envoy"),
    ("services", "the configuration of Docker Compose"),
    ("entryPoints", "the configuration of Traefik"),
    ("routers", "the configuration of Traefik"),
    ("sites", "native configuration, which is TOML"),
];

/// What a document is that is none of a dialect's, and where it says so.
fn other(document: &Node) -> Option<(&'static str, Span)> {
    let Value::Table(entries) = &document.value else { return None };
    entries.iter().find_map(|entry| {
        let below = if entry.key == "http" { keys(&entry.node).next() } else { None };
        let key = below.unwrap_or(&entry.key);
        OTHERS.iter().find(|(other, _)| *other == key).map(|(_, what)| (*what, entry.key_span))
    })
}

fn is_foreign(document: &Node) -> bool {
    other(document).is_some()
}

/// The finding for a YAML file that is in no dialect.
pub(crate) fn unknown_yaml(documents: &[Node], path: &Path, file: usize) -> Diagnostic {
    let start = Span { file, start: 0, end: 0 };
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let found = documents.iter().find_map(other);
    let place = || documents.iter().find_map(first_key).unwrap_or(start);
    let span = found.map_or_else(place, |(_, span)| span);
    let message = format!("`{name}` is in no dialect that Ravelin reads");
    let error = Diagnostic::error(Code::UnknownDialect, span, message);
    let error = match found {
        Some((what, _)) => error.label(format!("looks like {what}")),
        None if documents.is_empty() => error.label("nothing is in it"),
        None => error,
    };
    error
        .help("PyServe's YAML has `server` at its top, each object of Easegress has `kind` and `name`")
        .help("say `--dialect pyserve` or `--dialect easegress` to have it read as such")
}

fn first_key(document: &Node) -> Option<Span> {
    match &document.value {
        Value::Table(entries) => Some(entries.first()?.key_span),
        _ => Some(document.span),
    }
}
