//! Hashes for balancing.
//!
//! The same key has the same hash on every machine and after every restart, so that several proxies
//! send a client to the same endpoint. Hence there is no secret in it: a client that wants to can
//! choose its endpoint, and bounded load is what limits the harm.

use xxhash_rust::xxh3::xxh3_64;

/// The hash of a key, or of the name of a member.
pub(super) fn of(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Number `round` of the hashes that follow from `hash`; all are independent of each other and of
/// `hash`. Also a generator of random numbers, if `round` counts (SplitMix64).
pub(super) fn again(hash: u64, round: u64) -> u64 {
    let mut z = hash.wrapping_add(round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the reference implementations: another value would send every client elsewhere.
    #[test]
    fn hashes_are_the_same_everywhere() {
        assert_eq!(of(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(of(b"abc"), 0x78af_5f94_892f_3950);
        assert_eq!(
            [0, 1].map(|round| again(1_234_567, round)),
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }
}
