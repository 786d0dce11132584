//! Ketama: a ring on which each member has many points, and a key belongs to the member whose point
//! comes next. When one of n members leaves, its keys move to the others and no other key does.

use super::candidates::distinct;
use super::hash;
use super::node::{self, Node, WHOLE};

/// Points for each unit of weight, after weights were divided by their greatest common divisor. As
/// in libketama and nginx; shares are within about 8 % (one over the root of it) of exact.
const POINTS_PER_WEIGHT: u64 = 160;
/// Most points of a ring whose members have whole shares (768 KiB), unless there are more members:
/// each has at least one. Weights that would have more are scaled down.
const POINTS_MAX: u64 = 65_536;

/// The ring.
#[derive(Debug)]
pub(super) struct Ring {
    /// Where the points are, in ascending order.
    points: Vec<u64>,
    /// Whose they are.
    owners: Vec<u32>,
    /// How many members have any.
    members: usize,
}

impl Ring {
    /// The ring of these members; see [`Node`]. A member without weight has no point, but if none
    /// has weight, all have the same, and if none can be used, all can.
    pub(super) fn new(nodes: &[Node<'_>]) -> Self {
        let nodes = node::level(nodes);
        let hashes = node::hashes(&nodes);
        let counts = counts(&nodes);
        let mut points = Vec::with_capacity(counts.iter().sum::<u64>() as usize);
        for ((hash, count), owner) in hashes.into_iter().zip(&counts).zip(0u32..) {
            points.extend((0..*count).map(|round| (hash::again(hash, round), owner)));
        }
        points.sort_unstable();
        let (points, owners) = points.into_iter().unzip();
        Self { points, owners, members: counts.iter().filter(|&&count| count > 0).count() }
    }

    /// The members from `hash` on in the order of the ring, each once.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|&point| point < hash);
        let (before, after) = self.owners.split_at(start.min(self.owners.len()));
        distinct(after.iter().chain(before).map(|&owner| owner as usize)).take(self.members)
    }
}

/// The number of points of each member.
fn counts(nodes: &[Node<'_>]) -> Vec<u64> {
    let weights = || nodes.iter().map(|node| u64::from(node.weight));
    let unit = weights().fold(0, greatest_common_divisor).max(1);
    let total = weights().sum::<u64>() / unit;
    let scale = total.saturating_mul(POINTS_PER_WEIGHT).div_ceil(POINTS_MAX).max(1);
    let count = |node: &Node<'_>| match node.present_weight() {
        0 => 0,
        weight => (weight / unit * POINTS_PER_WEIGHT / scale / u64::from(WHOLE)).max(1),
    };
    nodes.iter().map(count).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
