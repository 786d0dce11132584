//! What is said about the lines a configuration came from, and beside which part of the result.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::source::{Sources, Span};
use crate::tree::{Entry, Node, Value};

/// Remarks by the node that they stand above.
pub(super) struct Notes<'n> {
    above: HashMap<*const Node, Vec<String>>,
    of_nothing: Vec<String>,
    entries: std::marker::PhantomData<&'n [Entry]>,
}

impl<'n> Notes<'n> {
    /// Finds for each finding what became of its line: the first node from that line, or from the
    /// nearest one above it.
    pub(super) fn place(
        found: &[Diagnostic],
        entries: &'n [Entry],
        sources: &Sources,
    ) -> Notes<'n> {
        let line = |span: Span| Some((span.file, sources.get(span.file)?.line_of(span.start)));
        let mut nodes: Vec<(Option<(usize, usize)>, &Node)> = Vec::new();
        entries.iter().for_each(|entry| {
            walk(&entry.node, &mut |node| {
                nodes.push((line(node.span), node));
            })
        });
        let mut notes =
            Notes { above: HashMap::new(), of_nothing: Vec::new(), entries: Default::default() };
        for finding in found {
            let own = finding.span.and_then(line);
            let same_file = |at: &Option<(usize, usize)>| matches!((at, own), (Some(at), Some(own)) if at.0 == own.0 && *at <= own);
            let nearest = nodes.iter().filter(|(at, _)| same_file(at)).map(|(at, _)| *at).max();
            // Rather beside the value that came from there than above the table around it.
            let is_value = |node: &Node| !matches!(node.value, Value::Table(_) | Value::Array(_));
            let there = |at| nodes.iter().filter(move |(other, _)| *other == at);
            let node = nearest
                .and_then(|at| there(at).find(|(_, node)| is_value(node)).or(there(at).next()));
            let words = words(finding, own, sources);
            match node {
                Some((_, node)) => {
                    notes.above.entry(std::ptr::from_ref(*node)).or_default().push(words);
                }
                None => notes.of_nothing.push(words),
            }
        }
        notes
    }

    /// Remarks on what nothing became of, taken out.
    pub(super) fn of_nothing(&mut self) -> Vec<String> {
        std::mem::take(&mut self.of_nothing)
    }

    /// Whether there is a remark on a node.
    pub(super) fn has(&self, node: &Node) -> bool {
        self.above.contains_key(&std::ptr::from_ref(node))
    }

    /// The remarks on a node, taken out.
    pub(super) fn take(&mut self, node: &Node) -> Vec<String> {
        self.above.remove(&std::ptr::from_ref(node)).unwrap_or_default()
    }
}

fn walk<'n>(node: &'n Node, visit: &mut impl FnMut(&'n Node)) {
    visit(node);
    match &node.value {
        Value::Table(entries) => entries.iter().for_each(|entry| walk(&entry.node, visit)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

/// A finding as one sentence with its place.
fn words(finding: &Diagnostic, line: Option<(usize, usize)>, sources: &Sources) -> String {
    let place = line.and_then(|(file, line)| {
        let source = sources.get(file)?;
        Some(format!("{}:{}: ", source.path().display(), line + 1))
    });
    let mut words = place.unwrap_or_default() + &finding.message;
    for more in std::iter::once(&finding.label).chain(&finding.help) {
        if !more.is_empty() {
            words.push_str("; ");
            words.push_str(more);
        }
    }
    words
}
