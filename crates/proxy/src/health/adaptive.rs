//! A limit of requests at once that finds itself by latency: the gradient of Netflix's
//! concurrency-limits and of Envoy's adaptive concurrency.
//!
//! While the upstreams answer about as fast as they do without a queue, the limit grows by its
//! square root; when they take longer, it shrinks in proportion. How fast they answer without a
//! queue is measured twice a minute, by holding the limit at its half for an instant: otherwise
//! the limit would get used to a queue of its own making, and would throttle upstreams for ever that
//! became slower for good.
//!
//! A request that times out is a sign of overload by itself: the limit loses their share.
//!
//! What always holds: the limit is at least [`LEAST`] and at most what was asked for; it is worked
//! out once a window, by the worker that is first to pass its end; it does not grow, and nothing is
//! measured, while it is not needed.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use net::timer::Tick;

/// The lowest limit: with fewer, nothing is learnt.
const LEAST: u32 = 4;
/// The limit at first.
const FIRST: u32 = 20;
/// The highest limit if none was asked for.
const MOST: u32 = 10_000;
/// Shortest and longest window in milliseconds. Between them it is twice the latency without a
/// queue; it goes on until there are [`SAMPLES`].
const WINDOW: u64 = 100;
const WINDOW_MAX: u64 = 10_000;
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
/// How much of a latency is taken over that was lower than the one without a queue, or was seen
/// while there was none.
const FOLLOW: f32 = 0.1;
/// Between two measurements of the latency without a queue, in milliseconds.
const MEASURE_EVERY: u64 = 30_000;
/// Windows after which a measurement is taken although requests of before are still in flight.
const DRAIN_MAX: u32 = 10;

/// The limit of a pool, shared by all workers.
#[derive(Debug)]
pub struct Limit {
    max: f32,
    /// What holds now.
    current: AtomicU32,
    /// Samples of this window (16 bits) and the sum of their latencies (48).
    samples: AtomicU64,
    /// Requests of this window that got no response in time.
    timeouts: AtomicU32,
    /// Most requests in flight seen in this window.
    peak: AtomicU32,
    /// When this window began, and how long it is, in milliseconds.
    began: AtomicU64,
    window: AtomicU64,
    // Of the worker that evaluates a window only:
    /// The limit, and in the lower half the latency without a queue in microseconds, 0 before the
    /// first window; both as the bits of an `f32`.
    known: AtomicU64,
    /// See [`Phase`].
    phase: AtomicU32,
    /// When the latency without a queue was measured, in milliseconds.
    measured: AtomicU64,
}

/// What a window is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The limit is worked out.
    Steady,
    /// The limit is held at half; requests of before are in flight. So many windows have been.
    Draining(u32),
    /// The limit is held at half; what is measured is without a queue.
    Measuring,
}

impl Limit {
    /// A limit that is never above `max`.
    pub fn new(max: Option<u32>) -> Self {
        let max = max.unwrap_or(MOST).max(1);
        let first = FIRST.min(max);
        Self {
            max: max as f32,
            current: AtomicU32::new(first),
            samples: AtomicU64::new(0),
            timeouts: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            began: AtomicU64::new(0),
            window: AtomicU64::new(WINDOW),
            known: AtomicU64::new(Known { limit: first as f32, base: 0.0 }.into_bits()),
            phase: AtomicU32::new(Phase::Steady.into_bits()),
            measured: AtomicU64::new(0),
        }
    }

    /// Most requests that may be in flight now.
    pub fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    /// A request took `latency_us` microseconds until its response, with `in_flight` requests in
    /// flight, itself included. To be told of successes, not of failures, which may be fast.
    pub fn sample(&self, latency_us: u64, in_flight: u32, now: Tick) {
        let latency = latency_us.min(LONGEST);
        let count = |bits| (count_of(bits) < SAMPLES_COUNTED).then(|| bits + (1 << 48) + latency);
        // An `Err` means that there are as many as count.
        let _ = self.samples.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        self.counted(in_flight, now);
    }

    /// A request got no response in time, with `in_flight` requests in flight, itself included. How
    /// long it would have taken nobody knows, so it tells nothing of latency; but it is a sign of
    /// overload, and takes its share of the limit away.
    pub fn timed_out(&self, in_flight: u32, now: Tick) {
        let more = |count: u32| count.checked_add(1);
        // An `Err` means that there are as many as count.
        let _ = self.timeouts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        self.counted(in_flight, now);
    }

    /// Ends the window if it is over.
    fn counted(&self, in_flight: u32, now: Tick) {
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
        let timeouts = u64::from(self.timeouts.load(Ordering::Relaxed));
        let samples = count_of(self.samples.load(Ordering::Relaxed)) + timeouts;
        let began = self.began.load(Ordering::Relaxed);
        // A clock that has jumped back far ends a window, too.
        let is_over = now.as_millis().abs_diff(began) >= self.window.load(Ordering::Relaxed);
        if samples >= SAMPLES && is_over && self.begin(began, now) {
            self.evaluate(now);
        }
    }

    /// Begins a window; false if another worker was first.
    fn begin(&self, began: u64, now: Tick) -> bool {
        self.began
            .compare_exchange(began, now.as_millis(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    fn evaluate(&self, now: Tick) {
        let bits = self.samples.swap(0, Ordering::Relaxed);
        let timeouts = self.timeouts.swap(0, Ordering::Relaxed);
        let peak = self.peak.swap(0, Ordering::Relaxed);
        let samples = count_of(bits);
        let all = samples + u64::from(timeouts);
        if all == 0 {
            return;
        }
        let latency = (bits & SUM_MASK).checked_div(samples).map(|mean| mean.max(1) as f32);
        let answered = samples as f32 / all as f32;
        let known = Known::from_bits(self.known.load(Ordering::Relaxed));
        let (known, phase) = match Phase::from_bits(self.phase.load(Ordering::Relaxed)) {
            Phase::Steady => {
                let known = known.after(latency, answered, peak, self.max);
                let is_due = || {
                    let measured = self.measured.load(Ordering::Relaxed);
                    now.as_millis().abs_diff(measured) >= MEASURE_EVERY
                };
                let is_measured = known.is_needed(peak) && is_due();
                (known, if is_measured { Phase::Draining(0) } else { Phase::Steady })
            }
            Phase::Draining(windows) if windows < DRAIN_MAX && peak > self.current() => {
                (known, Phase::Draining(windows + 1))
            }
            Phase::Draining(_) => (known, Phase::Measuring),
            Phase::Measuring => {
                self.measured.store(now.as_millis(), Ordering::Relaxed);
                // Where requests time out, nothing was measured.
                let base = latency.filter(|_| timeouts == 0).unwrap_or(known.base);
                (Known { base, ..known }.shrunk(answered, self.max), Phase::Steady)
            }
        };
        self.known.store(known.into_bits(), Ordering::Relaxed);
        self.phase.store(phase.into_bits(), Ordering::Relaxed);
        self.window.store(known.window(), Ordering::Relaxed);
        let limit = if phase == Phase::Steady { known.limit } else { known.limit / 2.0 };
        self.current.store(within(limit, self.max) as u32, Ordering::Relaxed);
    }
}

const SUM_MASK: u64 = (1 << 48) - 1;

fn count_of(bits: u64) -> u64 {
    bits >> 48
}

/// A limit that is neither too low nor above `max`.
fn within(limit: f32, max: f32) -> f32 {
    limit.max(LEAST as f32).min(max)
}

impl Phase {
    fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Steady,
            1 => Self::Measuring,
            windows => Self::Draining(windows - 2),
        }
    }

    fn into_bits(self) -> u32 {
        match self {
            Self::Steady => 0,
            Self::Measuring => 1,
            Self::Draining(windows) => windows.saturating_add(2),
        }
    }
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

    /// A limit that is half used or more holds requests back, or is about to.
    fn is_needed(&self, peak: u32) -> bool {
        peak as f32 * 2.0 >= self.limit
    }

    /// How long a window is, in milliseconds.
    fn window(&self) -> u64 {
        ((self.base / 500.0) as u64).clamp(WINDOW, WINDOW_MAX)
    }

    /// `latency`: of those that were answered, if any were; `answered`: their share.
    fn after(self, latency: Option<f32>, answered: f32, peak: u32, max: f32) -> Self {
        let is_needed = self.is_needed(peak);
        let Some(latency) = latency else {
            return if is_needed { self.shrunk(answered, max) } else { self };
        };
        let base = match self.base {
            0.0 => latency,
            base if latency < base || !is_needed => base + (latency - base) * FOLLOW,
            base => base,
        };
        if !is_needed {
            return Self { base, ..self };
        }
        let gradient = (TOLERANCE * base / latency).clamp(STEEPEST, 1.0);
        let gradient = (gradient * answered).max(STEEPEST);
        let target = self.limit * gradient + self.limit.sqrt();
        let limit = self.limit + (target - self.limit) * SMOOTHING;
        Self { limit: within(limit, max), base }
    }

    /// With so much less of the limit as was not answered.
    fn shrunk(self, answered: f32, max: f32) -> Self {
        let target = self.limit * answered.max(STEEPEST);
        let limit = self.limit + (target - self.limit) * SMOOTHING;
        Self { limit: within(limit, max), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, SEEDS};
    use super::*;

    /// Upstreams that answer `capacity` requests at once within `latency_us`, and more of them in
    /// proportion later; as many requests as the limit allows, or `demand`, for `seconds`.
    struct World {
        limit: Limit,
        latency_us: u64,
        capacity: u64,
        demand: u32,
        now: u64,
    }

    impl World {
        fn new(max: Option<u32>) -> Self {
            let limit = Limit::new(max);
            Self { limit, latency_us: 10_000, capacity: 100, demand: u32::MAX, now: 1000 }
        }

        /// Fifty milliseconds.
        fn step(&mut self) {
            let in_flight = self.limit.current().min(self.demand);
            let queued = u64::from(in_flight).max(self.capacity);
            let latency = self.latency_us * queued / self.capacity;
            for _ in 0..20 {
                self.limit.sample(latency, in_flight, Tick::from(self.now));
            }
            self.now += 50;
        }

        /// The limit after some time, or what it will be when a measurement has ended.
        fn run(&mut self, seconds: u64) -> u32 {
            (0..seconds * 20).for_each(|_| self.step());
            Known::from_bits(self.limit.known.load(Ordering::Relaxed)).limit as u32
        }
    }

    #[test]
    fn finds_what_the_upstreams_can_do() {
        for capacity in [20, 100, 500, 2000] {
            let mut world = World { capacity, ..World::new(None) };
            let limit = u64::from(world.run(120));
            assert!((capacity..=capacity * 5 / 2).contains(&limit), "{capacity}: {limit}");
        }
    }

    #[test]
    fn does_not_get_used_to_a_queue_of_its_own_making() {
        let mut world = World::new(None);
        for _ in 0..60 {
            assert!(world.run(60) <= 250);
        }
    }

    #[test]
    fn is_held_at_half_for_an_instant_only() {
        let mut world = World::new(None);
        let before = world.run(60);
        let low = (0..2400).filter(|_| {
            world.step();
            world.limit.current() < before * 3 / 4
        });
        // In two minutes.
        assert!((1..=48).contains(&low.count()));
    }

    #[test]
    fn stays_when_it_is_not_needed() {
        let mut world = World { demand: 5, ..World::new(None) };
        assert_eq!(world.run(60), FIRST);
    }

    #[test]
    fn shrinks_when_the_upstreams_stall_and_recovers() {
        let mut world = World::new(None);
        let before = world.run(60);
        world.latency_us = 1_000_000;
        assert!(world.run(25) < before / 4);
        world.latency_us = 10_000;
        let after = world.run(90);
        assert!(after.abs_diff(before) < before / 4, "{before} {after}");
    }

    /// Latency of what is answered says nothing where most is not.
    #[test]
    fn requests_that_time_out_are_signs_of_overload() {
        let shrinks = |of_twenty: usize| {
            let mut world = World::new(None);
            let before = world.run(60);
            for _ in 0..500 {
                let in_flight = world.limit.current();
                let now = Tick::from(world.now);
                (0..of_twenty).for_each(|_| world.limit.timed_out(in_flight, now));
                (of_twenty..20).for_each(|_| world.limit.sample(10_000, in_flight, now));
                world.now += 50;
            }
            let least = before / 4;
            let after = world.run(0);
            let recovered = world.run(90);
            assert!(recovered.abs_diff(before) < before / 4, "{before} {recovered}");
            after < least
        };
        assert!(shrinks(20));
        assert!(shrinks(15));
        // A few are no reason to turn many others away.
        assert!(!shrinks(1));
    }

    #[test]
    fn upstreams_that_stay_slower_are_not_throttled_for_ever() {
        let mut world = World::new(None);
        world.run(60);
        world.latency_us = 40_000;
        assert!(world.run(20) < 60);
        assert!(world.run(60) >= 100);
    }

    #[test]
    fn is_never_above_what_was_asked_for() {
        for max in [1, 3, 4, 60] {
            let mut world = World::new(Some(max));
            assert_eq!(world.run(60), max);
            world.latency_us = 1_000_000;
            world.run(5);
            assert!((LEAST.min(max)..=max).contains(&world.limit.current()));
        }
        assert_eq!(Limit::new(Some(0)).current(), 1);
    }

    #[test]
    fn a_few_requests_decide_nothing() {
        let limit = Limit::new(None);
        for sample in 0..SAMPLES - 1 {
            limit.sample(1000, 50, Tick::from(1000 + sample * 1000));
        }
        assert_eq!(limit.current(), FIRST);
        limit.sample(1000, 50, Tick::from(60_000));
        assert_ne!(limit.current(), FIRST);
    }

    #[test]
    fn ten_thousand_seeds_stay_within_bounds() {
        for seed in 0..SEEDS {
            let mut random = Random::new(seed);
            let max = random.percent(50).then(|| random.below(100) as u32);
            let most = max.map_or(MOST, |max| max.max(1));
            let limit = Limit::new(max);
            let mut now = Tick::from(0);
            for step in 0..100 {
                now = random.jump(now);
                let latency = match random.below(8) {
                    0 => 0,
                    1 => u64::MAX,
                    _ => random.below(1_000_000),
                };
                let in_flight = if random.percent(5) { u32::MAX } else { random.below(200) as u32 };
                match random.percent(20) {
                    true => limit.timed_out(in_flight, now),
                    false => limit.sample(latency, in_flight, now),
                }
                let range = LEAST.min(most)..=most;
                assert!(range.contains(&limit.current()), "seed {seed}, step {step}");
            }
        }
    }
}
