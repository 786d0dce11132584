//! Round robin: each member in its turn, weights ignored.

/// The index of the member whose turn it is among `members`.
pub(super) fn choose(members: usize, turn: usize) -> Option<usize> {
    turn.checked_rem(members)
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn every_member_once_a_round() {
        let order: Vec<_> = (0..6).map(|turn| choose(3, turn)).collect();
        assert_eq!(order, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn an_empty_pool_has_no_turn() {
        assert_eq!(choose(0, 7), None);
    }
}
