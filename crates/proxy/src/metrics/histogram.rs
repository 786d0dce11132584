//! Durations by how long they are, in buckets whose bounds double.

/// Longest duration of the first bucket, in microseconds. What is shorter is a matter of scheduling.
const FIRST_MICROS: u64 = 100;

/// Buckets with a bound; the last one's is 52 s. What takes longer is only in the sum and the count.
pub const BUCKETS: usize = 20;

/// How many durations there were of which length. In this order, because the first buckets, where nearly
/// everything is, and the sum are one line of the cache then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Histogram {
    sum_micros: u64,
    /// By bucket, without those below; the last one has no bound.
    counts: [u64; BUCKETS + 1],
}

impl Histogram {
    /// One more of so many microseconds.
    #[inline]
    pub fn observe(&mut self, micros: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(micros)) {
            *count += 1;
        }
        self.sum_micros = self.sum_micros.wrapping_add(micros);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in microseconds.
    #[must_use]
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros
    }

    /// For each bucket its upper bound in microseconds and how many were no longer than that, in
    /// growing order and without the bucket that has no bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter().take(BUCKETS).enumerate();
        counts.scan(0, |sum, (index, count)| {
            *sum += count;
            Some((bound(index), *sum))
        })
    }

    /// Adds those that another worker has counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum_micros = self.sum_micros.wrapping_add(other.sum_micros);
    }
}

/// The upper bound of the bucket at `index`, in microseconds.
#[must_use]
pub fn bound(index: usize) -> u64 {
    FIRST_MICROS << index.min(BUCKETS)
}

/// The bucket of a duration: the first whose bound is not less.
#[inline]
fn bucket_of(micros: u64) -> usize {
    let hundreds = micros.div_ceil(FIRST_MICROS);
    let doublings = u64::BITS - hundreds.saturating_sub(1).leading_zeros();
    (doublings as usize).min(BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_is_not_shorter() {
        for (micros, bucket) in [
            (0, 0),
            (1, 0),
            (100, 0),
            (101, 1),
            (200, 1),
            (201, 2),
            (400, 2),
            (401, 3),
            (52_428_800, 19),
            (52_428_801, 20),
            (u64::MAX, 20),
        ] {
            assert_eq!(bucket_of(micros), bucket, "{micros}");
        }
        for index in 0..BUCKETS {
            assert_eq!(bucket_of(bound(index)), index);
            assert_eq!(bucket_of(bound(index) + 1), index + 1);
        }
    }

    #[test]
    fn buckets_add_up_over_workers() {
        let mut one = Histogram::default();
        let mut other = Histogram::default();
        one.observe(50);
        one.observe(150);
        other.observe(150);
        other.observe(u64::from(u32::MAX));
        one.add(&other);
        let cumulative: Vec<_> = one.cumulative().collect();
        assert_eq!(cumulative[..3], [(100, 1), (200, 3), (400, 3)]);
        assert_eq!(cumulative.last(), Some(&(52_428_800, 3)));
        assert_eq!((one.count(), one.sum_micros()), (4, 350 + u64::from(u32::MAX)));
    }
}
