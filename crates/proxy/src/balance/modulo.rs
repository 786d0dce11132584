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
