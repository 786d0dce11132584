//! A limit of requests at once that finds itself by latency: the gradient of Netflix's
//! concurrency-limits and of Envoy's adaptive concurrency.
//!
//! While the upstreams answer about as fast as they do without a queue, the limit grows by its
//! square root; when they take longer, it shrinks in proportion. "Without a queue" is an average of
//! the latency that falls fast and rises slowly, so that upstreams that became slower for good are
//! not throttled for ever.
//!
//! What always holds: the limit is at least [`LEAST`] and at most what was asked for; it is worked
//! out once a window, by the worker that is first to pass its end; it does not grow while it is not
//! needed.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use net::timer::Tick;

/// The lowest limit: with fewer, nothing is learnt.
const LEAST: u32 = 4;
/// The limit at first.
const FIRST: u32 = 50;
/// The highest limit if none was asked for.
const MOST: u32 = 10_000;
/// Shortest window in milliseconds; it goes on until there are [`SAMPLES`].
const WINDOW: u64 = 100;
/// Least samples of a window.
const SAMPLES: u64 = 10;
/// Samples of a window that count; further ones are left out, so that no sum overflows.
const SAMPLES_COUNTED: u64 = u16::MAX as u64;
/// Longest latency that counts, in microseconds: 71 minutes.
const LONGEST: u64 = u32::MAX as u64;
/// Latency may be so many times that without a queue before the limit shrinks.
const TOLERANCE: f32 = 1.5;
/// What a window may take of the limit at most: half.
const STEEPEST: f32 = 0.5;
/// How much of a new limit is taken over at once.
const SMOOTHING: f32 = 0.2;
/// How fast the latency without a queue follows one that is lower, and one that is higher, each
/// window.
const FALL: f32 = 0.1;
const RISE: f32 = 0.001;

/// The limit of a pool, shared by all workers.
#[derive(Debug)]
pub struct Limit {
    max: f32,
    /// The limit, and in the lower half the latency without a queue in microseconds, 0 before the
    /// first window; both as the bits of an `f32`. Written by who evaluates a window.
    known: AtomicU64,
    /// Samples of this window (16 bits) and the sum of their latencies (48).
    samples: AtomicU64,
    /// Most requests in flight seen in this window.
    peak: AtomicU32,
    /// When this window began, in milliseconds.
    began: AtomicU64,
}

impl Limit {
    /// A limit that is never above `max`.
    pub fn new(max: Option<u32>) -> Self {
        let max = max.unwrap_or(MOST).max(1);
        let known = Known { limit: FIRST.min(max) as f32, base: 0.0 };
        Self {
            max: max as f32,
            known: AtomicU64::new(known.into_bits()),
            samples: AtomicU64::new(0),
            peak: AtomicU32::new(0),
            began: AtomicU64::new(0),
        }
    }

    /// Most requests that may be in flight now.
    pub fn current(&self) -> u32 {
        Known::from_bits(self.known.load(Ordering::Relaxed)).limit as u32
    }

    /// A request took `latency_us` microseconds until its response, with `in_flight` requests in
    /// flight, itself included. To be told of successes, not of failures, which may be fast.
    pub fn sample(&self, latency_us: u64, in_flight: u32, now: Tick) {
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
        let latency = latency_us.min(LONGEST);
        let count = |bits| (count_of(bits) < SAMPLES_COUNTED).then(|| bits + (1 << 48) + latency);
        let bits = match self.samples.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) {
            Ok(before) => before + (1 << 48),
            Err(full) => full,
        };
        let began = self.began.load(Ordering::Relaxed);
        if count_of(bits) >= SAMPLES && is_over(began, now) && self.begin(began, now) {
            self.evaluate();
        }
    }

    /// Begins a window; false if another worker was first.
    fn begin(&self, began: u64, now: Tick) -> bool {
        self.began
            .compare_exchange(began, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn evaluate(&self) {
        let bits = self.samples.swap(0, Ordering::Relaxed);
        let peak = self.peak.swap(0, Ordering::Relaxed);
        let samples = count_of(bits);
        if samples == 0 {
            return;
        }
        let latency = ((bits & SUM_MASK) / samples).max(1) as f32;
        let known = Known::from_bits(self.known.load(Ordering::Relaxed));
        let known = known.after(latency, peak, self.max);
        self.known.store(known.into_bits(), Ordering::Relaxed);
    }
}

const SUM_MASK: u64 = (1 << 48) - 1;

fn count_of(bits: u64) -> u64 {
    bits >> 48
}

/// The window has ended, or the clock has jumped back far.
fn is_over(began: u64, now: Tick) -> bool {
    now.as_millis().abs_diff(began) >= WINDOW
}

/// What [`Limit`] has found.
#[derive(Debug, Clone, Copy)]
struct Known {
    limit: f32,
    base: f32,
}

impl Known {
    fn from_bits(bits: u64) -> Self {
        Self { limit: f32::from_bits((bits >> 32) as u32), base: f32::from_bits(bits as u32) }
    }

    fn into_bits(self) -> u64 {
        u64::from(self.limit.to_bits()) << 32 | u64::from(self.base.to_bits())
    }

    fn after(self, latency: f32, peak: u32, max: f32) -> Self {
        let base = match self.base {
            0.0 => latency,
            base if latency < base => base + (latency - base) * FALL,
            base => base + (latency - base) * RISE,
        };
        let gradient = (TOLERANCE * base / latency).clamp(STEEPEST, 1.0);
        let is_needed = peak as f32 * 2.0 >= self.limit;
        if !is_needed && gradient >= 1.0 {
            return Self { base, ..self };
        }
        let headroom = if is_needed { self.limit.sqrt() } else { 0.0 };
        let target = self.limit * gradient + headroom;
        let limit = self.limit + (target - self.limit) * SMOOTHING;
        Self { limit: limit.min(max).max((LEAST as f32).min(max)), base }
    }
}
