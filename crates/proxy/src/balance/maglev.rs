//! Maglev: a table whose entries the members take in turns, each in its own order of preference
//! (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016).
//! Evener than a ring and found in one look-up; when a member leaves, its keys move and a few others.

use super::candidates::by_rehash;
use super::hash;
use super::node::{self, Node};

/// Sizes of tables, all prime so that every step reaches every entry. The first one is chosen that
/// has [`ENTRIES_PER_MEMBER`], else the last one (128 KiB).
const SIZES: [u64; 4] = [1021, 4099, 16_381, 65_537];
/// Entries of a table for each member. More make shares evener, fewer keys move and the table take
/// longer to build.
const ENTRIES_PER_MEMBER: u64 = 300;
/// No entry's owner.
const NOBODY: u16 = u16::MAX;

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    owners: Vec<u16>,
    /// Who has weight.
    members: Vec<u32>,
}

impl Table {
    /// The table of these members; see [`Node`]. A member without weight has no entry, but if none
    /// has weight, all have the same, and if none can be used, all can.
    pub(super) fn new(nodes: &[Node<'_>]) -> Self {
        let members = nodes.len() as u64;
        let enough = |size: &u64| *size >= members.saturating_mul(ENTRIES_PER_MEMBER);
        let [.., last] = SIZES;
        let size = SIZES.into_iter().find(enough).unwrap_or(last);
        let nodes = node::level(nodes);
        let takers = takers(&nodes, size);
        let members = takers.iter().map(|taker| u32::from(taker.owner)).collect();
        Self { owners: fill(takers, size), members }
    }

    /// The member in the table's entry for `hash`, then those by rehash, each member once.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = usize> {
        by_rehash(hash, &self.members, |hash| {
            let entry = hash.checked_rem(self.owners.len() as u64)?;
            self.owners.get(entry as usize).map(|&owner| usize::from(owner))
        })
    }
}

/// A member while it takes entries.
struct Taker {
    owner: u16,
    weight: u64,
    /// The entry it would like next.
    next: u64,
    /// From one entry it likes to the one it likes less.
    step: u64,
    /// Rounds times weight from which on it may take another entry.
    due: u64,
}

fn takers(nodes: &[Node<'_>], size: u64) -> Vec<Taker> {
    let hashes = node::hashes(nodes);
    let weighted =
        (0..NOBODY).zip(nodes).zip(hashes).filter(|((_, node), _)| node.present_weight() > 0);
    let takers = weighted.map(|((owner, node), hash)| Taker {
        owner,
        weight: node.present_weight(),
        next: hash % size,
        step: hash::again(hash, 0) % (size - 1) + 1,
        due: 0,
    });
    takers.collect()
}

/// In each round every member takes the free entry it likes best, those of little weight not in
/// every round.
fn fill(mut takers: Vec<Taker>, size: u64) -> Vec<u16> {
    let mut owners = vec![NOBODY; size as usize];
    let Some(heaviest) = takers.iter().map(|taker| taker.weight).max() else { return Vec::new() };
    let mut free = size;
    let mut round = 0;
    loop {
        round += 1;
        for taker in &mut takers {
            if round * taker.weight < taker.due {
                continue;
            }
            if free == 0 {
                return owners;
            }
            taker.due += heaviest;
            take(taker, &mut owners);
            free -= 1;
        }
    }
}

/// Gives `taker` the free entry it likes best, if there is one among all.
fn take(taker: &mut Taker, owners: &mut [u16]) {
    let size = owners.len() as u64;
    for _ in 0..size {
        let entry = taker.next;
        taker.next += taker.step;
        if taker.next >= size {
            taker.next -= size;
        }
        if let Some(owner) = owners.get_mut(entry as usize).filter(|owner| **owner == NOBODY) {
            *owner = taker.owner;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::tests::{equal, keys, names, weighted, without};
    use super::*;

    /// How many entries each member has.
    fn entries(table: &Table, members: usize) -> Vec<u64> {
        let mut counts = vec![0; members];
        table.owners.iter().for_each(|&owner| counts[usize::from(owner)] += 1);
        counts
    }

    #[test]
    fn the_largest_share_is_at_most_a_fiftieth_above_the_average() {
        for count in [1, 2, 3, 5, 10, 13, 14, 30, 54, 55, 100, 219, 500, 1000] {
            let names = names(count);
            let table = Table::new(&equal(&names));
            let entries = entries(&table, count);
            let most = entries.iter().max().unwrap() * count as u64;
            assert!(most * 50 <= 51 * table.owners.len() as u64, "{count}: {most}");
        }
    }

    #[test]
    fn at_most_a_fiftieth_of_other_keys_moves_when_a_member_leaves() {
        let keys = keys(10_000);
        let firsts = |nodes: &[Node<'_>]| -> Vec<usize> {
            let table = Table::new(nodes);
            keys.iter().map(|&key| table.candidates(key).next().unwrap()).collect()
        };
        for count in [2, 3, 5, 10, 13, 14, 30, 50, 54, 100] {
            let names = names(count);
            let nodes = equal(&names);
            let before = firsts(&nodes);
            for leaving in [0, count / 2, count - 1] {
                let after = firsts(&without(&nodes, leaving));
                assert!(!after.contains(&leaving));
                let others = || before.iter().zip(&after).filter(|(was, _)| **was != leaving);
                let moved = others().filter(|(was, is)| was != is).count();
                assert!(moved * 50 <= others().count(), "{leaving} of {count}: {moved}");
            }
        }
    }

    #[test]
    fn shares_follow_weights() {
        let names = names(4);
        let weights = [50, 0, 10, 40];
        let table = Table::new(&weighted(&names, &weights));
        for (has, weight) in entries(&table, 4).into_iter().zip(weights) {
            let fair = table.owners.len() as f64 * f64::from(weight) / 100.0;
            assert!((has as f64 - fair).abs() <= 3.0, "{has} for {fair}");
        }
    }

    #[test]
    fn every_member_with_weight_is_a_candidate_once() {
        let names = names(5);
        let nodes = weighted(&names, &[1, 1_000_000, 0, 1, 7]);
        let table = Table::new(&nodes);
        for key in keys(1000) {
            let mut members: Vec<_> = table.candidates(key).collect();
            members.sort_unstable();
            assert_eq!(members, [0, 1, 3, 4]);
        }
    }

    #[test]
    fn the_size_does_not_depend_on_who_can_be_used() {
        let names = names(4);
        let nodes = equal(&names);
        let (all, less) = (Table::new(&nodes), Table::new(&without(&nodes, 3)));
        assert_eq!(all.owners.len(), 4099);
        assert_eq!(less.owners.len(), 4099);
        assert!(!less.owners.contains(&NOBODY));
    }

    #[test]
    fn sizes_are_prime() {
        for size in SIZES {
            assert!((2..size).take_while(|factor| factor * factor <= size).all(|f| size % f != 0));
        }
    }

    #[test]
    fn an_empty_table_has_no_candidates() {
        assert_eq!(Table::new(&[]).candidates(1).next(), None);
    }
}
