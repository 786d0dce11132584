//! How busy a member is, compared fairly between members of different weight.

/// Requests in flight at a member, and its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// Requests it has not answered yet.
    pub(super) in_flight: u32,
    /// Its share relative to the others. Members of weight 0 come after all others.
    pub(super) weight: u32,
}

impl Load {
    /// With one more request it would be less busy for its weight than `other` with one more.
    pub(super) fn is_less_than(&self, other: &Self) -> bool {
        let (own, others) = match (self.weight, other.weight) {
            (0, 0) => (1, 1),
            weights => weights,
        };
        // (in_flight + 1) / weight without a division; a product of two u32 fits.
        let next = |load: &Self| u64::from(load.in_flight.saturating_add(1));
        next(self) * u64::from(others) < next(other) * u64::from(own)
    }
}

#[cfg(test)]
mod tests {
    use super::Load;

    fn less(one: (u32, u32), other: (u32, u32)) -> bool {
        let load = |(in_flight, weight)| Load { in_flight, weight };
        load(one).is_less_than(&load(other))
    }

    #[test]
    fn weight_divides_what_is_in_flight() {
        assert!(less((1, 2), (1, 1)));
        assert!(less((8, 10), (0, 1)));
        assert!(!less((9, 10), (0, 1)));
        assert!(!less((0, 1), (9, 10)));
    }

    #[test]
    fn weight_zero_is_busier_than_any_other() {
        assert!(less((u32::MAX, 1), (0, 0)));
        assert!(!less((0, 0), (u32::MAX, 1)));
        assert!(less((0, 0), (1, 0)));
        assert!(!less((1, 0), (1, 0)));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        assert!(less((0, u32::MAX), (u32::MAX, u32::MAX)));
        assert!(!less((u32::MAX, 1), (u32::MAX, u32::MAX)));
    }
}
