//! Ketama: a ring on which each member has many points, and a key belongs to the member whose point
//! comes next. When one of n members leaves, its keys move to the others and no other key does.

use super::candidates::distinct;
use super::hash;
use super::node::{self, Node, WHOLE};

/// Points for each unit of weight, after weights were divided by their greatest common divisor.
/// Shares vary by one over the root of it, 3 %: with it none of fifty members ever has a fifth more
/// than its share, as with the 160 of libketama one of a hundred members has.
const POINTS_PER_WEIGHT: u64 = 1024;
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

#[cfg(test)]
mod tests {
    use super::super::node::tests::{equal, keys, names, weighted, without};
    use super::*;

    fn firsts(nodes: &[Node<'_>], keys: &[u64]) -> Vec<usize> {
        let ring = Ring::new(nodes);
        keys.iter().map(|&key| ring.candidates(key).next().unwrap()).collect()
    }

    /// The share of the ring that each of `count` members has, times their number.
    fn shares(count: usize, name: impl Fn(usize) -> String) -> Vec<f64> {
        let names: Vec<String> = (0..count).map(name).collect();
        let ring = Ring::new(&equal(&names));
        let mut shares = vec![0.0; count];
        let mut before = *ring.points.last().unwrap();
        for (&point, &owner) in ring.points.iter().zip(&ring.owners) {
            shares[owner as usize] += point.wrapping_sub(before) as f64;
            before = point;
        }
        shares.into_iter().map(|arc| arc * count as f64 / 2f64.powi(64)).collect()
    }

    /// What a member has of the ring is what moves when it leaves.
    #[test]
    fn no_member_has_more_than_one_and_a_fifth_nth() {
        for count in 2..=50 {
            let of_addresses = shares(count, |n| format!("http://10.0.0.{n}:80#10.0.0.{n}:80"));
            let of_ports = shares(count, |n| format!("http://127.0.0.1:{}", 8000 + n));
            for share in of_addresses.into_iter().chain(of_ports) {
                assert!((0.8..=1.2).contains(&share), "{share} of {count}");
            }
        }
    }

    #[test]
    fn at_most_one_and_a_fifth_nth_of_the_keys_move_when_one_of_n_leaves() {
        let keys = keys(20_000);
        for count in [2, 3, 5, 10, 20] {
            let names = names(count);
            let nodes = equal(&names);
            let before = firsts(&nodes, &keys);
            for leaving in 0..count {
                let after = firsts(&without(&nodes, leaving), &keys);
                let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
                let moved = moved.inspect(|(before, _)| assert_eq!(**before, leaving)).count();
                assert!(moved * count <= 24_000, "{leaving} of {count}: {moved}");
            }
        }
    }

    /// One ring may be a tenth off for a member of little weight; many rings are not on average.
    #[test]
    fn shares_follow_weights() {
        const RINGS: usize = 20;
        let keys = keys(5_000);
        let mut counts = [0u32; 3];
        for names in names(3 * RINGS).chunks(3) {
            for member in firsts(&weighted(names, &[500, 100, 400]), &keys) {
                counts[member] += 1;
            }
        }
        for (count, share) in counts.into_iter().zip([0.5, 0.1, 0.4]) {
            let has = f64::from(count) / (RINGS * keys.len()) as f64;
            assert!((has / share - 1.0).abs() < 0.05, "{has} for {share}");
        }
    }

    #[test]
    fn keys_of_a_member_that_leaves_go_to_their_second_candidates() {
        let names = names(7);
        let nodes = weighted(&names, &[1, 2, 3, 0, 5, 6, 7]);
        let ring = Ring::new(&nodes);
        for key in keys(1000) {
            let order: Vec<_> = ring.candidates(key).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 4, 5, 6]);
            let less = Ring::new(&without(&nodes, order[0]));
            assert!(less.candidates(key).eq(order[1..].iter().copied()));
        }
    }

    #[test]
    fn a_member_that_starts_slowly_takes_keys_only_for_itself() {
        let names = names(5);
        let nodes = equal(&names);
        let keys = keys(10_000);
        let mut before = firsts(&without(&nodes, 2), &keys);
        for share in [1, 10, 50, 99, WHOLE] {
            let mut nodes = nodes.clone();
            nodes[2].share = share;
            let after = firsts(&nodes, &keys);
            for (before, after) in before.iter().zip(&after) {
                assert!(before == after || *after == 2);
            }
            before = after;
        }
    }

    #[test]
    fn a_common_factor_makes_no_more_points() {
        let names = names(2);
        assert_eq!(counts(&weighted(&names, &[200, 100])), [2048, 1024]);
        assert_eq!(counts(&weighted(&names, &[2, 1])), [2048, 1024]);
        assert_eq!(counts(&without(&weighted(&names, &[2, 1]), 1)), [2048, 0]);
    }

    #[test]
    fn points_are_bounded_and_every_member_has_one() {
        let names = names(4);
        let counts = counts(&weighted(&names, &[u32::MAX, 1, 1_000_000, u32::MAX - 1]));
        assert!(counts.iter().sum::<u64>() <= POINTS_MAX + 4, "{counts:?}");
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
        assert!(counts.iter().sum::<u64>() > POINTS_MAX / 2, "{counts:?}");
    }

    #[test]
    fn an_empty_ring_has_no_candidates() {
        assert_eq!(Ring::new(&[]).candidates(1).next(), None);
    }
}
