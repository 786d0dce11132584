//! Weighted random: any member, likely by weight.

use super::random::scale;

/// The weights in a form that is searched in logarithmic time.
#[derive(Debug)]
pub(super) struct Table {
    /// The sum of the weights up to each member.
    sums: Vec<u64>,
}

impl Table {
    /// A table for these weights. A weight of 0 is never chosen; if all are 0, all count as 1.
    pub(super) fn new(weights: &[u32]) -> Self {
        let equal = weights.iter().all(|&weight| weight == 0);
        let mut sum = 0u64;
        let sums = weights.iter().map(|&weight| {
            sum = sum.saturating_add(if equal { 1 } else { u64::from(weight) });
            sum
        });
        Self { sums: sums.collect() }
    }

    /// The index of a member, by a uniformly distributed number; `None` only if there is none.
    pub(super) fn choose(&self, random: u64) -> Option<usize> {
        self.at(scale(random, self.total()))
    }

    /// The sum of all weights; 0 only if there is no member.
    pub(super) fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// The member to which unit `unit` of the total belongs.
    pub(super) fn at(&self, unit: u64) -> Option<usize> {
        let index = self.sums.partition_point(|&sum| sum <= unit);
        (index < self.sums.len()).then_some(index)
    }
}
