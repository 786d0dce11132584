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

#[cfg(test)]
mod tests {
    use super::super::hash;
    use super::*;

    #[test]
    fn members_are_likely_by_weight() {
        const DRAWS: u64 = 100_000;
        let weights = [5u32, 0, 1, 94, 900];
        let table = Table::new(&weights);
        let mut counts = [0u64; 5];
        for draw in 0..DRAWS {
            counts[table.choose(hash::again(2, draw)).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        for (count, weight) in counts.into_iter().zip(weights) {
            let mean = DRAWS as f64 * f64::from(weight) / 1000.0;
            assert!((count as f64 - mean).abs() <= 5.0 * mean.sqrt(), "{count} for {mean}");
        }
    }

    #[test]
    fn each_unit_of_weight_has_its_member() {
        let table = Table::new(&[2, 0, 1]);
        let units: Vec<_> = (0..4).map(|unit| table.at(unit)).collect();
        assert_eq!(units, [Some(0), Some(0), Some(2), None]);
        assert_eq!(table.choose(u64::MAX), Some(2));
    }

    #[test]
    fn without_any_weight_all_are_equal() {
        let table = Table::new(&[0, 0, 0]);
        let units: Vec<_> = (0..3).map(|unit| table.at(unit)).collect();
        assert_eq!(units, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn no_members_no_choice() {
        assert_eq!(Table::new(&[]).choose(7), None);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let table = Table::new(&[u32::MAX; 3]);
        assert_eq!(table.choose(0), Some(0));
        assert_eq!(table.choose(u64::MAX / 2), Some(1));
        assert_eq!(table.choose(u64::MAX), Some(2));
    }
}
