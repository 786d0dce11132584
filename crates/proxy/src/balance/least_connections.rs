//! Least connections: the fewest requests in flight, the first in order on a tie.

/// The index of the smallest count.
pub(super) fn choose(in_flight: impl Iterator<Item = u32>) -> Option<usize> {
    in_flight.enumerate().min_by_key(|&(_, count)| count).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn the_fewest_in_flight_wins() {
        assert_eq!(choose([3, 1, 2].into_iter()), Some(1));
    }

    #[test]
    fn ties_go_to_the_first_in_order() {
        assert_eq!(choose([2, 1, 1].into_iter()), Some(1));
    }
}
