//! Smooth weighted round robin: shares by weight, spread out instead of in bursts (5/1/1 gives
//! a a b a c a a, as in nginx).
//!
//! The order repeats after (sum of weights / their greatest common divisor) turns, so it is worked
//! out once and a turn is a look-up. That makes it exact across workers without a lock.

/// Longest order kept, in turns (128 KiB of memory). Weights whose order would be longer are scaled
/// down to it, which changes a share by less than 0.01 %, but for a weight so small that it gets
/// one turn of the order instead of less than one.
const TURNS_MAX: u64 = 65_536;

/// The order of turns.
#[derive(Debug)]
pub(super) struct Sequence(Vec<u16>);

impl Sequence {
    /// The order for these weights. A weight of 0 gets no turn; if all are 0, all count as 1.
    pub(super) fn new(weights: &[u32]) -> Self {
        let mut weights: Vec<u64> = weights.iter().map(|&weight| u64::from(weight)).collect();
        if weights.iter().all(|&weight| weight == 0) {
            weights.fill(1);
        }
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        weights.iter_mut().for_each(|weight| *weight /= divisor);
        let total: u64 = weights.iter().sum();
        if total > TURNS_MAX {
            for weight in weights.iter_mut().filter(|weight| **weight > 0) {
                *weight = (*weight * TURNS_MAX / total).max(1);
            }
        }
        Self(smooth_order(&weights))
    }

    /// The index of the member whose turn it is.
    pub(super) fn choose(&self, turn: usize) -> Option<usize> {
        let position = turn.checked_rem(self.0.len())?;
        self.0.get(position).map(|&index| usize::from(index))
    }
}

/// Every turn each member gains its weight; the richest (the first of equals) is chosen and pays the
/// total.
fn smooth_order(weights: &[u64]) -> Vec<u16> {
    let total = weights.iter().sum::<u64>() as i64;
    let mut current = vec![0i64; weights.len()];
    let mut order = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best = 0;
        for index in 0..weights.len() {
            current[index] += weights[index] as i64;
            if current[index] > current[best] || weights[best] == 0 {
                best = index;
            }
        }
        current[best] -= total;
        order.push(best as u16);
    }
    order
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(weights: &[u32]) -> Vec<u16> {
        Sequence::new(weights).0
    }

    #[test]
    fn five_one_one_is_spread_as_in_nginx() {
        assert_eq!(order(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn two_to_one() {
        assert_eq!(order(&[2, 1]), [0, 1, 0]);
    }

    #[test]
    fn a_common_factor_does_not_lengthen_the_order() {
        assert_eq!(order(&[200, 100]), order(&[2, 1]));
    }

    #[test]
    fn weight_zero_gets_no_turn() {
        assert_eq!(order(&[0, 3]), [1]);
        assert_eq!(order(&[0, 0]), [0, 1]);
    }

    #[test]
    fn huge_weights_keep_their_shares() {
        let order = order(&[4_000_000_000, 1_000_000_001]);
        assert!(order.len() <= TURNS_MAX as usize);
        let first = order.iter().filter(|&&index| index == 0).count();
        let share = first as f64 / order.len() as f64;
        assert!((share - 0.8).abs() < 0.001, "{share}");
    }
}
