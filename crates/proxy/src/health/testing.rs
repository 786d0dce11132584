//! Chance for tests, the same for the same seed.

use net::timer::Tick;

/// Seeds of a randomized test.
pub(super) const SEEDS: u64 = 10_000;

/// Marsaglia's xorshift.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// True `of` times out of a hundred.
    pub(super) fn percent(&mut self, of: u64) -> bool {
        self.below(100) < of
    }

    /// A later time: at once, after some milliseconds, seconds or minutes.
    pub(super) fn later(&mut self, now: Tick) -> Tick {
        let bound = match self.below(16) {
            0..4 => 1,
            4..11 => 100,
            11..15 => 3000,
            _ => 200_000,
        };
        Tick::from(now.as_millis().saturating_add(self.below(bound)))
    }

    /// Any time: mostly later, sometimes earlier, rarely the first or last there is.
    pub(super) fn jump(&mut self, now: Tick) -> Tick {
        match self.below(64) {
            0 => Tick::from(0),
            1 => Tick::from(u64::MAX - self.below(3)),
            2 => Tick::from(1 << self.below(64)),
            3..8 => Tick::from(now.as_millis().saturating_sub(self.below(100_000))),
            _ => self.later(now),
        }
    }
}
