//! Random: any member, equally likely.

/// The index of one of `members` members, by a uniformly distributed number.
pub(super) fn choose(members: usize, random: u64) -> Option<usize> {
    (members > 0).then(|| scale(random, members as u64) as usize)
}

/// A number below `limit` (0 if that is 0), as evenly distributed as `random` is over all numbers.
pub(super) fn scale(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}
