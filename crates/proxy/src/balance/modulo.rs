//! Hash by remainder: the plain way, by which most keys move when a member comes or goes.

use super::candidates::by_rehash;
use super::weighted_random::Table;

/// The weights, and who has any.
#[derive(Debug)]
pub(super) struct Modulo {
    table: Table,
    members: Vec<u32>,
}

impl Modulo {
    /// For these weights. A weight of 0 gets no keys; if all are 0, all count as 1.
    pub(super) fn new(weights: &[u32]) -> Self {
        let equal = weights.iter().all(|&weight| weight == 0);
        let weighted = weights.iter().zip(0..).filter(|&(&weight, _)| equal || weight > 0);
        let members = weighted.map(|(_, index)| index).collect();
        Self { table: Table::new(weights), members }
    }

    /// The member whose unit of the total weight is the remainder of `hash`, then those by rehash,
    /// each member that has weight once.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = usize> {
        by_rehash(hash, &self.members, |hash| self.table.at(hash.checked_rem(self.table.total())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(weights: &[u32], hash: u64) -> Option<usize> {
        Modulo::new(weights).candidates(hash).next()
    }

    #[test]
    fn the_remainder_by_total_weight_decides() {
        let members: Vec<_> = (0..8).map(|hash| first(&[2, 0, 1, 1], hash)).collect();
        assert_eq!(members, [0, 0, 2, 3, 0, 0, 2, 3].map(Some));
    }

    #[test]
    fn without_any_weight_all_are_equal() {
        assert_eq!([0, 1, 2].map(|hash| first(&[0, 0, 0], hash)), [0, 1, 2].map(Some));
        assert_eq!(first(&[], 1), None);
    }

    #[test]
    fn every_member_with_weight_is_a_candidate_once() {
        let modulo = Modulo::new(&[1, 0, 1_000_000, 3]);
        for hash in 0..100 {
            let mut members: Vec<_> = modulo.candidates(hash).collect();
            members.sort_unstable();
            assert_eq!(members, [0, 2, 3]);
        }
    }
}
