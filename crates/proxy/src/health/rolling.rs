//! Counts of the last seconds: a bucket for each second, and the sum of those before the present one
//! worked out once a second.
//!
//! What always holds: a bucket says which second and generation it counts, so that what is too old
//! or was counted before a reset is never taken for new and nothing has to be cleared. (The second
//! is kept modulo 2^24: after exactly 194 days without a call a bucket may be.)

use std::sync::atomic::{AtomicU64, Ordering};

use net::timer::Tick;

/// Most seconds a window may have.
pub(super) const MAX_SECONDS: u32 = 3600;

const SECOND_MASK: u64 = (1 << 24) - 1;
const COUNT_MASK: u64 = u32::MAX as u64;

/// The seconds that are counted in. Time does not go back: who is a little behind counts for the
/// latest second seen.
#[derive(Debug, Default)]
pub(super) struct Seconds(
    /// The latest second seen.
    AtomicU64,
);

impl Seconds {
    /// The present second.
    pub(super) fn at(&self, now: Tick) -> u64 {
        let second = now.as_millis() / 1000;
        let latest = self.0.load(Ordering::Relaxed);
        if second <= latest {
            return latest;
        }
        self.0.fetch_max(second, Ordering::Relaxed).max(second)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rolling {
    /// Generation (8 bits), second (24), count (32).
    buckets: Box<[AtomicU64]>,
    /// The same for all buckets but that of the second it names.
    before: AtomicU64,
}

impl Rolling {
    /// Counts the last `seconds`, of which the present one has begun only.
    pub(super) fn new(seconds: u32) -> Self {
        let seconds = seconds.clamp(1, MAX_SECONDS);
        let buckets = (0..seconds).map(|_| AtomicU64::new(0)).collect();
        Self { buckets, before: AtomicU64::new(0) }
    }

    /// Counts one.
    pub(super) fn add(&self, generation: u8, second: u64) {
        let tag = tag(generation, second);
        let update = |bits| Some(tag | (count(bits, tag) + 1).min(COUNT_MASK));
        if let Some(bucket) = self.bucket(second) {
            // It cannot be an `Err`.
            let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        }
    }

    /// Counts one if `allow` says so of the sum of the earlier seconds and the count of this one.
    /// Whoever else counts meanwhile is taken into account.
    pub(super) fn add_if(
        &self,
        generation: u8,
        second: u64,
        allow: impl Fn(u64, u64) -> bool,
    ) -> bool {
        let before = self.before(generation, second);
        let tag = tag(generation, second);
        let update = |bits| {
            let count = count(bits, tag);
            allow(before, count).then(|| tag | (count + 1).min(COUNT_MASK))
        };
        self.bucket(second).is_some_and(|bucket| {
            bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
        })
    }

    /// How many were counted in the last seconds.
    pub(super) fn sum(&self, generation: u8, second: u64) -> u64 {
        self.before(generation, second) + self.count(generation, second)
    }

    fn before(&self, generation: u8, second: u64) -> u64 {
        let tag = tag(generation, second);
        let known = self.before.load(Ordering::Relaxed);
        // 0 may be that nothing is known yet.
        if known & !COUNT_MASK == tag && tag != 0 {
            return known & COUNT_MASK;
        }
        let others = self.buckets.len() as u64 - 1;
        let earlier = (1..=others.min(second)).map(|ago| self.count(generation, second - ago));
        let sum = earlier.sum::<u64>().min(COUNT_MASK);
        self.before.store(tag | sum, Ordering::Relaxed);
        sum
    }

    fn count(&self, generation: u8, second: u64) -> u64 {
        let bits = self.bucket(second).map_or(0, |bucket| bucket.load(Ordering::Relaxed));
        count(bits, tag(generation, second))
    }

    fn bucket(&self, second: u64) -> Option<&AtomicU64> {
        self.buckets.get((second % self.buckets.len() as u64) as usize)
    }
}

fn tag(generation: u8, second: u64) -> u64 {
    u64::from(generation) << 56 | (second & SECOND_MASK) << 32
}

fn count(bits: u64, tag: u64) -> u64 {
    if bits & !COUNT_MASK == tag { bits & COUNT_MASK } else { 0 }
}
