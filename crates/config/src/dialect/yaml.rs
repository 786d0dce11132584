//! YAML text to spanned trees, one a document, with every syntax error.
//!
//! The grammar is granit-parser's, whose events are put together here; its errors get words for
//! operators in `mistakes`. It stops at the first error, so the spoilt part of the text is taken out and
//! the rest read again, until nothing is wrong or too much is. Scalars are those of the core schema of
//! YAML 1.2 (so `on` is a string), aliases are replaced by what they stand for, merge keys (`<<`) by the
//! entries they bring, and keys that are no strings by their text.
//!
//! What always holds: a tree is not deeper than [`DEPTH_MAX`] and the trees of a text have no more than
//! [`NODES_MAX`] nodes together, whatever aliases ask for.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, StructureStyle, Tag};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{Source, Span};
use crate::tree::{Entry, Node, Value};

use super::Broken;

mod foreign;
mod lines;
mod mistakes;
mod scalar;

use lines::Lines;

/// Levels of lists and tables in each other: more than any configuration has, and few enough for
/// functions that call themselves once a level.
const DEPTH_MAX: usize = 64;

/// Nodes of all documents of a text, copies made for aliases included: ten thousand sites have a tenth.
const NODES_MAX: usize = 4_000_000;

/// Aliases in a text.
const ALIASES_MAX: usize = 10_000;

/// Nodes that aliases may add to a text.
const ALIASED_NODES_MAX: usize = 100_000;

/// Syntax errors that are taken out of a text before the rest of it is not looked at.
const ERRORS_MAX: usize = 20;

/// What was understood of a text.
pub(crate) struct Documents {
    /// The documents that are not empty, in order; parts around a syntax error are missing.
    pub(crate) roots: Vec<Node>,
    /// What of them cannot be relied on.
    pub(crate) broken: Broken,
}

/// Reads one file.
pub(crate) fn read(source: &Source, file: usize, out: &Diagnostics) -> Documents {
    let mut broken = Broken::default();
    if let Some(refused) = foreign::refuse(source, file) {
        out.push(refused);
        broken.spoil_all(source);
        return Documents { roots: Vec::new(), broken };
    }
    let mut text = Cow::Borrowed(source.text());
    if without_controls(source, file, &mut text, &mut broken, out) {
        broken.spoil_all(source);
        return Documents { roots: Vec::new(), broken };
    }
    let mut tabbed = BTreeSet::new();
    for _ in 0..ERRORS_MAX {
        let mut reader = Reader::new(source, file);
        let fault = match reader.documents(&text) {
            Ok(roots) => {
                reader.found.into_iter().for_each(|found| out.push(found));
                return Documents { roots, broken };
            }
            Err(fault) => fault,
        };
        let lines = Lines { source, file, text: &text };
        let (found, spoilt) = mistakes::report(&lines, &fault, &reader.reached());
        let first = found.span.map_or(0, |span| source.line_of(span.start));
        if !tabbed.contains(&first) {
            out.push(found);
        }
        broken.tables = true;
        if tabbed.is_empty() && lines.indent_is_tabbed(first) {
            // One finding speaks of all the tabs. Where nothing else indents, they may be read as spaces.
            tabbed.extend((0..lines.count()).filter(|line| lines.indent_is_tabbed(*line)));
            broken.lines.extend(tabbed.iter().copied());
            let spaced = |line: &usize| lines.indent(*line) > 0 && !lines.indent_is_tabbed(*line);
            text = Cow::Owned(match (0..lines.count()).any(|line| spaced(&line)) {
                true => without(source, &text, &tabbed),
                false => without_tabs(&lines),
            });
            continue;
        }
        let spoilt: BTreeSet<usize> = spoilt.collect();
        let left = without(source, &text, &spoilt);
        broken.lines.extend(spoilt);
        if left == text {
            break;
        }
        text = Cow::Owned(left);
    }
    broken.spoil_all(source);
    Documents { roots: Vec::new(), broken }
}

/// Reports control characters, of which the parser takes some for the end of the text. True if they are
/// too many.
fn without_controls(
    source: &Source,
    file: usize,
    text: &mut Cow<'_, str>,
    broken: &mut Broken,
    out: &Diagnostics,
) -> bool {
    let is_control = |c: char| c.is_ascii_control() && !"\t\n\r".contains(c);
    let mut found = 0;
    for (at, character) in source.text().char_indices().filter(|(_, c)| is_control(*c)) {
        if broken.lines.insert(source.line_of(at)) {
            found += 1;
            out.push(mistakes::control(Span { file, start: at, end: at + 1 }, character));
        }
        if found >= ERRORS_MAX {
            return true;
        }
    }
    if found > 0 {
        broken.tables = true;
        *text = Cow::Owned(source.text().replace(is_control, " "));
    }
    false
}

/// The text with a blank for every tab at the start of a line.
fn without_tabs(lines: &Lines<'_>) -> String {
    let mut left = String::with_capacity(lines.text.len());
    for line in lines.text.split_inclusive('\n') {
        let bare = line.trim_start_matches([' ', '\t']);
        left.extend(std::iter::repeat_n(' ', line.len() - bare.len()));
        left.push_str(bare);
    }
    left
}

/// The text with blanks in the place of these lines, so that every other byte keeps its offset.
fn without(source: &Source, text: &str, lines: &BTreeSet<usize>) -> String {
    let mut left = String::with_capacity(text.len());
    let mut end = 0;
    for line in lines {
        let (from, to) = source.line_bounds(*line);
        left.push_str(text.get(end..from).unwrap_or(""));
        left.extend(std::iter::repeat_n(' ', to.saturating_sub(from)));
        end = to;
    }
    left.push_str(text.get(end..).unwrap_or(""));
    left
}

/// A text that cannot be read as a tree.
enum Fault {
    /// The grammar refuses it.
    Grammar(ScanError),
    /// It goes beyond a bound, at this place.
    Bound(Span, &'static str),
}

/// A list or table that is not at its end.
struct Open {
    span: Span,
    anchor: usize,
    /// Whether it stands in brackets.
    flow: bool,
    tag: Kept,
    what: Collection,
}

enum Collection {
    List(Vec<Node>),
    Table { entries: Vec<Entry>, names: HashMap<String, Span>, merged: Vec<Node>, key: Option<Key> },
}

/// A key whose value comes next.
struct Key {
    /// Its text; `None` if it cannot be a key, which has been reported.
    text: Option<String>,
    span: Span,
    merge: bool,
}

/// What a tag leaves of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// As it is written.
    Written,
    /// A string, whatever it looks like.
    Text,
    /// What it would be without quotes.
    Plain,
    /// Nothing: the tag has been refused.
    Nothing,
}

/// What an anchor names.
struct Anchored {
    node: Node,
    /// Levels and nodes in it.
    depth: usize,
    nodes: usize,
}

/// How far a reader came.
struct Reached {
    /// The end of what it understood.
    end: usize,
    /// Where the outermost list or table in brackets starts that is not at its end.
    flow: Option<usize>,
}

struct Reader<'s> {
    source: &'s Source,
    file: usize,
    found: Vec<Diagnostic>,
    anchors: HashMap<usize, Anchored>,
    open: Vec<Open>,
    root: Option<Node>,
    end: usize,
    nodes: usize,
    aliases: usize,
    aliased: usize,
}

impl<'s> Reader<'s> {
    fn new(source: &'s Source, file: usize) -> Reader<'s> {
        Reader {
            source,
            file,
            found: Vec::new(),
            anchors: HashMap::new(),
            open: Vec::new(),
            root: None,
            end: 0,
            nodes: 0,
            aliases: 0,
            aliased: 0,
        }
    }

    fn documents(&mut self, text: &str) -> Result<Vec<Node>, Fault> {
        let options = granit_parser::options! {
            emit_comments: false,
            emit_unresolved_aliases: true,
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        let mut roots = Vec::new();
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, place) = event.map_err(Fault::Grammar)?;
            let span = self.span(&place);
            self.end = span.end.max(self.end);
            let tag_span = place.tag_span().map_or(span, |tag| self.span(&tag));
            match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let tag = self.tag(tag.as_deref(), tag_span);
                    self.scalar(&text, style, span, anchor, tag)?;
                }
                Event::SequenceStart(style, anchor, tag) => {
                    let tag = self.tag(tag.as_deref(), tag_span);
                    self.start(span, anchor, style, tag, Collection::List(Vec::new()))?;
                }
                Event::MappingStart(style, anchor, tag) => {
                    let tag = self.tag(tag.as_deref(), tag_span);
                    let (entries, names, merged) = Default::default();
                    let what = Collection::Table { entries, names, merged, key: None };
                    self.start(span, anchor, style, tag, what)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
                Event::Alias(anchor) => self.alias(anchor, span)?,
                Event::UnresolvedAlias(name) => {
                    self.found.push(mistakes::unknown_alias(span, &name));
                    self.add(Node { value: Value::Broken, span }, false)?;
                }
                Event::DocumentStart(..) => self.anchors.clear(),
                Event::DocumentEnd => {
                    let root = self.root.take();
                    roots.extend(root.filter(|root| !matches!(root.value, Value::Null)));
                }
                _ => {}
            }
        }
        Ok(roots)
    }

    fn reached(&self) -> Reached {
        let flow = self.open.iter().find(|open| open.flow).map(|open| open.span.start);
        Reached { end: self.end, flow }
    }

    /// A place of the parser. It tells offsets of texts in memory; else the start of the text is meant.
    fn span(&self, place: &granit_parser::Span) -> Span {
        let start = self.source.floor(place.start.byte_offset().unwrap_or(0));
        let end = self.source.floor(place.end.byte_offset().unwrap_or(0));
        Span { file: self.file, start, end: end.max(start) }
    }

    fn written(&self, span: Span) -> &'s str {
        self.source.text().get(span.start..span.end).unwrap_or("")
    }

    /// What is left of a value with this tag; reports one that has no meaning.
    fn tag(&mut self, tag: Option<&Tag>, span: Span) -> Kept {
        let Some(tag) = tag else { return Kept::Written };
        match tag.core_suffix() {
            Some("str") => Kept::Text,
            Some("map" | "seq") => Kept::Written,
            Some("int" | "float" | "bool" | "null") => Kept::Plain,
            _ if tag.original() == "!" => Kept::Text,
            _ => {
                self.found.push(mistakes::unknown_tag(span));
                Kept::Nothing
            }
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        span: Span,
        anchor: usize,
        tag: Kept,
    ) -> Result<(), Fault> {
        let plain = style == ScalarStyle::Plain;
        if self.key_is_next() && tag != Kept::Nothing {
            let merge = plain && text == "<<";
            self.key(Key { text: Some(text.to_owned()), span, merge });
            self.anchor(anchor, || Node { value: Value::String(text.to_owned()), span }, 1, 1);
            return Ok(());
        }
        let value = match tag {
            Kept::Nothing => Value::Broken,
            Kept::Written if plain => scalar::plain(text),
            Kept::Plain => scalar::plain(text),
            Kept::Written | Kept::Text => Value::String(text.to_owned()),
        };
        // Nothing at all stands nowhere: its key is its place.
        let span = if span.start == span.end { self.place_of_next(span) } else { span };
        let blanks = self.written(span).len() - self.written(span).trim_end().len();
        let span = Span { end: span.end - blanks, ..span };
        let node = Node { value, span };
        self.anchor(anchor, || node.clone(), 1, 1);
        self.add(node, false)
    }

    fn start(
        &mut self,
        span: Span,
        anchor: usize,
        style: StructureStyle,
        tag: Kept,
        what: Collection,
    ) -> Result<(), Fault> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Fault::Bound(span, mistakes::TOO_DEEP));
        }
        let flow = style == StructureStyle::Flow;
        let span = if flow { span } else { self.place_of_next(self.first_line(span)) };
        self.open.push(Open { span, anchor, flow, tag, what });
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let mut span = open.span;
        if open.flow {
            span.end = end.end.max(span.end);
        }
        let value = match open.what {
            _ if open.tag == Kept::Nothing => Value::Broken,
            Collection::List(items) => Value::Array(items),
            Collection::Table { entries, names, merged, .. } => {
                Value::Table(self.merge(entries, &names, merged)?)
            }
        };
        let node = Node { value, span };
        if open.anchor != 0 {
            let (depth, nodes) = measure(&node);
            self.count(nodes, span)?;
            self.anchor(open.anchor, || node.clone(), depth, nodes);
        }
        self.add(node, false)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Fault> {
        self.aliases += 1;
        if self.aliases > ALIASES_MAX {
            return Err(Fault::Bound(span, mistakes::TOO_MANY_ALIASES));
        }
        let Some(Anchored { node, depth, nodes }) = self.anchors.get(&anchor) else {
            self.found.push(mistakes::endless_alias(span));
            return self.add(Node { value: Value::Broken, span }, false);
        };
        let (depth, nodes) = (*depth, *nodes);
        if self.open.len() + depth > DEPTH_MAX {
            return Err(Fault::Bound(span, mistakes::TOO_DEEP));
        }
        self.aliased += nodes;
        if self.aliased > ALIASED_NODES_MAX {
            return Err(Fault::Bound(span, mistakes::TOO_MUCH_ALIASED));
        }
        // A key stands where it is written, what is below one where it was written first.
        let place = if self.key_is_next() { span } else { node.span };
        let node = Node { value: node.value.clone(), span: place };
        self.count(nodes, span)?;
        self.add(node, true)
    }

    fn anchor(&mut self, id: usize, node: impl FnOnce() -> Node, depth: usize, nodes: usize) {
        if id != 0 {
            self.anchors.insert(id, Anchored { node: node(), depth, nodes });
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Fault> {
        self.nodes += nodes;
        match self.nodes > NODES_MAX {
            true => Err(Fault::Bound(span, mistakes::TOO_LARGE)),
            false => Ok(()),
        }
    }

    /// Whether the next node is a key.
    fn key_is_next(&self) -> bool {
        matches!(self.open.last(), Some(Open { what: Collection::Table { key: None, .. }, .. }))
    }

    /// The key that the next node belongs to, or this place if there is none.
    fn place_of_next(&self, span: Span) -> Span {
        match self.open.last() {
            Some(Open { what: Collection::Table { key: Some(key), .. }, .. }) => key.span,
            _ => span,
        }
    }

    /// From a place to the end of its line.
    fn first_line(&self, span: Span) -> Span {
        let (_, end) = self.source.line_bounds(self.source.line_of(span.start));
        let line = self.source.text().get(span.start..end).unwrap_or("");
        let line = line.split(" #").next().unwrap_or("").trim_end();
        Span { end: span.start + line.len(), ..span }
    }

    /// Puts a whole node where it belongs. `copied` nodes have been counted.
    fn add(&mut self, node: Node, copied: bool) -> Result<(), Fault> {
        if !copied {
            self.count(1, node.span)?;
        }
        if self.key_is_next() {
            let text = mistakes::key_text(&node);
            if text.is_none() && !matches!(node.value, Value::Broken) {
                self.found.push(mistakes::no_key(&node, self.written(node.span)));
                if let Some(open) = self.open.last_mut().filter(|open| open.flow) {
                    open.tag = Kept::Nothing; // this is no table
                }
            }
            self.key(Key { text, span: node.span, merge: false });
            return Ok(());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { what: Collection::List(items), .. }) => items.push(node),
            Some(Open { what: Collection::Table { entries, merged, key, .. }, .. }) => {
                let Some(Key { text, span, merge }) = key.take() else { return Ok(()) };
                match text {
                    Some(_) if merge => merged.push(node),
                    Some(key) => entries.push(Entry { key, key_span: span, node }),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Takes a key; one that is there already is reported, and what it brings is left out.
    fn key(&mut self, mut found: Key) {
        let Some(Open { what: Collection::Table { names, key, .. }, .. }) = self.open.last_mut()
        else {
            return;
        };
        if let Some(text) = found.text.as_ref().filter(|_| !found.merge) {
            match names.get(text) {
                Some(first) => {
                    self.found.push(mistakes::duplicate(text, found.span, *first));
                    found.text = None;
                }
                None => _ = names.insert(text.clone(), found.span),
            }
        }
        *key = Some(found);
    }

    /// Adds what merge keys bring and is not written in the table itself; what comes first counts.
    fn merge(
        &mut self,
        mut entries: Vec<Entry>,
        names: &HashMap<String, Span>,
        merged: Vec<Node>,
    ) -> Result<Vec<Entry>, Fault> {
        let mut taken: HashSet<String> = HashSet::new();
        for node in merged {
            let span = node.span;
            let tables = match node.value {
                Value::Array(items) => items,
                value => vec![Node { value, span }],
            };
            for table in tables {
                match table.value {
                    Value::Table(brought) => {
                        for entry in brought {
                            if !names.contains_key(&entry.key) && taken.insert(entry.key.clone()) {
                                entries.push(entry);
                            }
                        }
                    }
                    Value::Broken => {}
                    _ => self.found.push(mistakes::no_merge(table.span)),
                }
            }
        }
        Ok(entries)
    }
}

/// Levels and nodes of a tree.
fn measure(node: &Node) -> (usize, usize) {
    let below = |(depth, nodes): (usize, usize), node: &Node| {
        let (below, more) = measure(node);
        (depth.max(below + 1), nodes + more)
    };
    match &node.value {
        Value::Table(entries) => entries.iter().map(|entry| &entry.node).fold((1, 1), below),
        Value::Array(items) => items.iter().fold((1, 1), below),
        _ => (1, 1),
    }
}
