//! Random: any member, equally likely.

/// The index of one of `members` members, by a uniformly distributed number.
pub(super) fn choose(members: usize, random: u64) -> Option<usize> {
    (members > 0).then(|| scale(random, members as u64) as usize)
}

/// A number below `limit` (0 if that is 0), as evenly distributed as `random` is over all numbers.
pub(super) fn scale(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::super::hash;
    use super::*;

    #[test]
    fn every_member_is_as_likely() {
        const DRAWS: u64 = 100_000;
        for members in [1usize, 2, 3, 7, 50] {
            let mut counts = vec![0u64; members];
            for draw in 0..DRAWS {
                counts[choose(members, hash::again(1, draw)).unwrap()] += 1;
            }
            let mean = DRAWS as f64 / members as f64;
            for count in counts {
                // Five standard deviations of a binomial distribution, at most.
                let deviation = (count as f64 - mean).abs() / mean.sqrt();
                assert!(deviation < 5.0, "{members} members: {count} for {mean}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_members() {
        assert_eq!(choose(3, 0), Some(0));
        assert_eq!(choose(3, u64::MAX), Some(2));
        assert_eq!(choose(0, 7), None);
    }
}
