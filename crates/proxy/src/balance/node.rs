//! A member as consistent hashing sees it.

use std::collections::HashMap;

use super::hash;

/// A member of a pool. Tables are built of all members of a pool, also of those that cannot be used
/// at present: what they would have decides how finely the table is divided, which must not change
/// when a member leaves, or more keys would move than have to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    /// What tells it from the others, and where its keys follow from; the same on every machine.
    pub(super) name: &'a [u8],
    /// As configured.
    pub(super) weight: u32,
    /// Per cent of its weight that it has at present: 0 if it cannot be used.
    pub(super) share: u32,
}

/// The share that leaves a member its whole weight.
pub(super) const WHOLE: u32 = 100;

impl Node<'_> {
    /// Hundredths of a unit of weight.
    pub(super) fn present_weight(&self) -> u64 {
        u64::from(self.weight) * u64::from(self.share.min(WHOLE))
    }
}

/// A hash for each member, from its name. Members of the same name have different ones.
pub(super) fn hashes(nodes: &[Node<'_>]) -> Vec<u64> {
    let mut namesakes: HashMap<&[u8], u64> = HashMap::new();
    let hashes = nodes.iter().map(|node| {
        let earlier = namesakes.entry(node.name).or_insert(0);
        let hash = hash::again(hash::of(node.name), *earlier);
        *earlier += 1;
        hash
    });
    hashes.collect()
}

/// `nodes` with something for everybody if nobody has anything: if no member has weight, all have
/// the same, and if none that has weight can be used, all can.
pub(super) fn level<'a>(nodes: &[Node<'a>]) -> Vec<Node<'a>> {
    let mut nodes = nodes.to_vec();
    if nodes.iter().all(|node| node.weight == 0) {
        nodes.iter_mut().for_each(|node| node.weight = 1);
    }
    if nodes.iter().all(|node| node.present_weight() == 0) {
        nodes.iter_mut().for_each(|node| node.share = WHOLE);
    }
    nodes
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The names of `count` members.
    pub(in super::super) fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("http://10.0.0.{index}:8080")).collect()
    }

    /// Members of these names and weights, all usable.
    pub(in super::super) fn weighted<'a>(names: &'a [String], weights: &[u32]) -> Vec<Node<'a>> {
        let node =
            |(name, &weight): (&'a String, _)| Node { name: name.as_bytes(), weight, share: WHOLE };
        names.iter().zip(weights).map(node).collect()
    }

    /// Members of these names and equal weight, all usable.
    pub(in super::super) fn equal(names: &[String]) -> Vec<Node<'_>> {
        weighted(names, &vec![1; names.len()])
    }

    /// The same members while one of them cannot be used.
    pub(in super::super) fn without<'a>(nodes: &[Node<'a>], leaving: usize) -> Vec<Node<'a>> {
        let mut nodes = nodes.to_vec();
        nodes[leaving].share = 0;
        nodes
    }

    /// The hashes of so many different keys.
    pub(in super::super) fn keys(count: u64) -> Vec<u64> {
        (0..count).map(|key| hash::of(format!("key-{key}").as_bytes())).collect()
    }

    #[test]
    fn namesakes_have_different_hashes() {
        let node = Node { name: b"a", weight: 1, share: WHOLE };
        let hashes = hashes(&[node, node, Node { name: b"b", ..node }]);
        assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
    }

    #[test]
    fn if_nobody_has_anything_all_have_something() {
        let node = |weight, share| Node { name: b"", weight, share };
        let present = |nodes: &[Node<'_>]| -> Vec<u64> {
            level(nodes).iter().map(Node::present_weight).collect()
        };
        assert_eq!(present(&[node(0, 100), node(0, 100)]), [100, 100]);
        assert_eq!(present(&[node(3, 0), node(1, 0)]), [300, 100]);
        assert_eq!(present(&[node(3, 0), node(0, 100)]), [300, 0]);
        assert_eq!(present(&[node(3, 50), node(1, 0)]), [150, 0]);
    }
}
