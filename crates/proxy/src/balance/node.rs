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
