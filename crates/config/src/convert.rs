//! The same configuration as native TOML: what `ravelin convert` prints.
//!
//! The tree that the model is made of is written as text, so the text means the same by construction: it
//! loads without an error and gives the same model. What a front end had to say about lines that mean
//! something else than where they come from stands as a comment above what became of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use wire::text::steers;

use crate::native::ROOT;
use crate::tree::{Entry, Node, Value};
use crate::{Dialect, Loaded, Options, Sources, assemble};

mod notes;
mod values;

use notes::Notes;
use values::{inline, key, list_of_lines, quoted};

/// Longest line in characters, where it is up to us.
const LINE_MAX: usize = 100;

/// Levels of tables that always have a header of their own: `[[sites]]` and `[sites.proxy]`.
const HEADERS_MIN: usize = 2;

/// What became of files that were to be converted.
#[derive(Debug)]
pub struct Converted {
    /// What loading the files gave.
    pub loaded: Loaded,
    /// The configuration as native TOML; `None` if there is any error.
    pub text: Option<String>,
}

/// Reads files as [`load`](crate::load) does and writes them as one native file.
pub fn convert<T: AsRef<[u8]>>(files: &[(PathBuf, T)], options: &Options<'_>) -> Converted {
    let assembled = assemble(files, options);
    let loaded = assembled.loaded;
    let text = loaded.model.is_some().then(|| {
        let entries = merged(assembled.roots);
        let mut notes = Notes::place(&assembled.notes, &entries, &loaded.sources);
        let mut writer = Writer { text: String::new(), notes: &mut notes };
        writer.origin(&assembled.dialects, &loaded.sources);
        writer.table(&[], &entries);
        writer.text
    });
    Converted { loaded, text }
}

/// The tables of all files as one: sites together and last, the others as the reference has them.
fn merged(roots: Vec<Node>) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for root in roots {
        let Value::Table(entries) = root.value else { continue };
        for entry in entries {
            let known = all.iter_mut().find(|known| known.key == entry.key);
            match (known.map(|known| &mut known.node.value), entry.node.value) {
                (Some(Value::Array(sites)), Value::Array(more)) => sites.extend(more),
                (Some(_), _) => {}
                (None, value) => all.push(Entry { node: Node { value, ..entry.node }, ..entry }),
            }
        }
    }
    let place = |entry: &Entry| {
        let known = ROOT.keys.iter().position(|key| key.is(&entry.key));
        (entry.key == "sites", known.unwrap_or(usize::MAX))
    };
    all.sort_by_key(place);
    all
}

/// How an entry is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Behind its key.
    Value,
    /// As a table with a header.
    Header,
    /// As tables with headers in double brackets.
    Headers,
}

struct Writer<'w, 'n> {
    text: String,
    notes: &'w mut Notes<'n>,
}

impl Writer<'_, '_> {
    /// Says what files the text comes from, if they are not native.
    fn origin(&mut self, files: &[(usize, Dialect)], sources: &Sources) {
        for (file, dialect) in files.iter().filter(|(_, dialect)| *dialect != Dialect::Native) {
            let path = sources.get(*file).map_or(Path::new(""), |source| source.path());
            self.comment(&format!("{}, read as {}", path.display(), dialect.title()));
        }
        for note in self.notes.of_nothing() {
            self.comment(&note);
        }
    }

    /// The keys of a table whose header stands above: values first, then tables, as TOML wants it.
    fn table(&mut self, path: &[&str], entries: &[Entry]) {
        let entries = || entries.iter().filter(|entry| !matches!(entry.node.value, Value::Null));
        for entry in entries().filter(|entry| form(entry, path.len()) == Form::Value) {
            self.comments(&entry.node);
            self.value(entry);
        }
        for entry in entries() {
            let mut below = path.to_vec();
            below.push(&entry.key);
            match (form(entry, path.len()), &entry.node.value) {
                (Form::Header, Value::Table(inner)) => {
                    let only_tables = |form: Form| form != Form::Value;
                    let bare = inner.iter().all(|entry| only_tables(form(entry, below.len())));
                    if inner.is_empty() || !bare || self.notes.has(&entry.node) {
                        self.header(&entry.node, "[", &below, "]");
                    }
                    self.table(&below, inner);
                }
                (Form::Headers, Value::Array(items)) => {
                    self.comments_of(&entry.node);
                    for item in items {
                        self.header(item, "[[", &below, "]]");
                        if let Value::Table(inner) = &item.value {
                            self.table(&below, inner);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn header(&mut self, node: &Node, open: &str, path: &[&str], close: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.comments_of(node);
        let path: Vec<String> = path.iter().map(|part| key(part)).collect();
        _ = writeln!(self.text, "{open}{}{close}", path.join("."));
    }

    fn value(&mut self, entry: &Entry) {
        let name = key(&entry.key);
        match &entry.node.value {
            Value::Array(items) if list_of_lines(&name, items) => {
                _ = writeln!(self.text, "{name} = [");
                for item in items {
                    self.comments(item);
                    _ = writeln!(self.text, "    {},", inline(item));
                }
                self.text.push_str("]\n");
            }
            Value::String(text) => _ = writeln!(self.text, "{name} = {}", quoted(text, true)),
            _ => _ = writeln!(self.text, "{name} = {}", inline(&entry.node)),
        }
    }

    /// What is to be said about a node and all in it.
    fn comments(&mut self, node: &Node) {
        self.comments_of(node);
        match &node.value {
            Value::Table(entries) => entries.iter().for_each(|entry| self.comments(&entry.node)),
            Value::Array(items) => items.iter().for_each(|item| self.comments(item)),
            _ => {}
        }
    }

    /// What is to be said about a node, and not about what is in it.
    fn comments_of(&mut self, node: &Node) {
        for note in self.notes.take(node) {
            self.comment(&note);
        }
    }

    /// A comment of as many lines as it takes.
    fn comment(&mut self, words: &str) {
        let mut line = String::from("#");
        for word in words.split_whitespace() {
            let length = line.chars().count() + 1 + word.chars().count();
            if length > LINE_MAX && line.len() > "#  ".len() {
                _ = writeln!(self.text, "{line}");
                line = String::from("#  ");
            }
            line.push(' ');
            line.extend(word.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }));
        }
        _ = writeln!(self.text, "{line}");
    }
}

/// How an entry is written in a table that is this deep.
fn form(entry: &Entry, depth: usize) -> Form {
    let fits = |node: &Node, room: usize| {
        let text = inline(node);
        depth >= HEADERS_MIN && !text.contains('\n') && text.chars().count() <= room
    };
    let room = LINE_MAX.saturating_sub(key(&entry.key).chars().count() + " = ".len());
    match &entry.node.value {
        Value::Table(_) if fits(&entry.node, room) => Form::Value,
        Value::Table(_) => Form::Header,
        Value::Array(items) if entry.node.value.is_list_of_tables() => {
            let room = LINE_MAX - "    ,".len();
            match items.iter().all(|item| fits(item, room)) {
                true => Form::Value,
                false => Form::Headers,
            }
        }
        _ => Form::Value,
    }
}
