//! Native trees made by front ends: nodes that carry the place of what they stand for.
//!
//! A front end checks its own tree and says here what it means in native TOML. The native decoder reads
//! the result, so every finding about it points at the line of the file it came from, and `convert`
//! prints it.

use crate::source::Span;
use crate::tree::{Entry, Node, Value};

/// A string.
pub(crate) fn text(value: impl Into<String>, span: Span) -> Node {
    Node { value: Value::String(value.into()), span }
}

/// A whole number.
pub(crate) fn number(value: impl Into<i128>, span: Span) -> Node {
    Node { value: Value::Integer(value.into()), span }
}

/// A decimal number.
pub(crate) fn decimal(value: f64, span: Span) -> Node {
    Node { value: Value::Float(value), span }
}

/// `true` or `false`.
pub(crate) fn boolean(value: bool, span: Span) -> Node {
    Node { value: Value::Bool(value), span }
}

/// A list.
pub(crate) fn list(items: impl IntoIterator<Item = Node>, span: Span) -> Node {
    Node { value: Value::Array(items.into_iter().collect()), span }
}

/// A list of strings at one place.
pub(crate) fn texts<T: Into<String>>(items: impl IntoIterator<Item = T>, span: Span) -> Node {
    list(items.into_iter().map(|item| text(item, span)), span)
}

/// A table that keys are put into, in the order they come.
#[derive(Debug, Clone)]
pub(crate) struct TableNode {
    entries: Vec<Entry>,
    span: Span,
}

impl TableNode {
    /// An empty table that stands for what is at this place.
    pub(crate) fn at(span: Span) -> TableNode {
        TableNode { entries: Vec::new(), span }
    }

    /// A table with these entries.
    pub(crate) fn of(entries: Vec<Entry>, span: Span) -> TableNode {
        TableNode { entries, span }
    }

    /// The place of what it stands for.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// What has been put in.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether nothing has been put in.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a key has been put in.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Puts a key in, at the place of its value; a key that is there already gets the new value.
    pub(crate) fn put(&mut self, key: impl Into<String>, node: impl Into<Node>) {
        let node = node.into();
        let key_span = node.span;
        self.put_at(key, key_span, node);
    }

    /// The same with a place of its own for the key.
    pub(crate) fn put_at(&mut self, key: impl Into<String>, key_span: Span, node: impl Into<Node>) {
        let (key, node) = (key.into(), node.into());
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => (entry.key_span, entry.node) = (key_span, node),
            None => self.entries.push(Entry { key, key_span, node }),
        }
    }

    /// Puts a key in if there is a value.
    pub(crate) fn put_some(&mut self, key: impl Into<String>, node: Option<Node>) {
        if let Some(node) = node {
            self.put(key, node);
        }
    }

    /// Adds an item to the list at a key, which is begun with the first one.
    pub(crate) fn push(&mut self, key: &str, item: impl Into<Node>) {
        let item = item.into();
        let span = item.span;
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(Entry { node: Node { value: Value::Array(items), .. }, .. }) => items.push(item),
            _ => self.put(key, list([item], span)),
        }
    }

    /// Changes the table at a key, which is begun empty, at this place, if there is none. One that is
    /// still empty afterwards is there all the same.
    pub(crate) fn within(&mut self, key: &str, span: Span, change: impl FnOnce(&mut TableNode)) {
        let at = self.entries.iter().position(|entry| entry.key == key);
        let mut table = match at.and_then(|at| self.entries.get_mut(at)) {
            Some(Entry { node: Node { value: Value::Table(entries), span }, .. }) => {
                TableNode { entries: std::mem::take(entries), span: *span }
            }
            _ => TableNode::at(span),
        };
        change(&mut table);
        let key_span = at.and_then(|at| self.entries.get(at)).map_or(span, |entry| entry.key_span);
        self.put_at(key, key_span, table);
    }

    /// Takes the keys out that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
    }

    /// The finished table.
    pub(crate) fn build(self) -> Node {
        Node { value: Value::Table(self.entries), span: self.span }
    }
}

impl From<TableNode> for Node {
    fn from(table: TableNode) -> Node {
        table.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Span = Span { file: 0, start: 3, end: 5 };
    const THERE: Span = Span { file: 0, start: 7, end: 9 };

    #[test]
    fn tables_grow_key_by_key_and_keep_their_places() {
        let mut site = TableNode::at(HERE);
        site.put("name", text("a", THERE));
        site.put_some("port", None);
        site.push("routes", TableNode::at(THERE));
        site.push("routes", TableNode::at(HERE));
        site.within("proxy", HERE, |proxy| proxy.put("enabled", boolean(true, THERE)));
        site.within("proxy", THERE, |proxy| proxy.put("timeout", number(3, THERE)));
        site.put("name", text("b", HERE));
        assert!(site.has("proxy") && !site.has("port") && !site.is_empty());
        let Value::Table(entries) = site.build().value else { panic!("a table") };
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["name", "routes", "proxy"]);
        assert!(matches!(&entries[0].node.value, Value::String(name) if name == "b"));
        assert_eq!(entries[0].node.span, HERE);
        assert!(matches!(&entries[1].node.value, Value::Array(routes) if routes.len() == 2));
        assert_eq!(entries[2].node.span, HERE, "the place of the first words about it");
        assert!(matches!(&entries[2].node.value, Value::Table(proxy) if proxy.len() == 2));
    }
}
