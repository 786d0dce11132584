//! Whether a snapshot that is tried out on some connections is fit for all.
//!
//! Pure: it is told the time and what was counted, and says what to do. Compared are the share of requests
//! that failed and how long the slower ones took, of connections with the new snapshot and of the others,
//! in the same time.
//!
//! What always holds: it comes to an end, after three times the time it was given at the latest; too few
//! requests to tell are no reason to promote.

use std::fmt;
use std::time::Duration;

use proxy::serving::{Group, most_of};

use crate::orders::Canary as Settings;

/// Requests with the new snapshot that it takes to promote it.
pub const SAMPLES_MIN: u64 = 100;

/// Requests with the new snapshot that it takes to withdraw it before its time is over.
const EARLY_MIN: u64 = 20;

/// Failures that count as chance, whatever their share.
const FAILURES_MIN: u64 = 5;

/// By how much the share of failures may be higher: this much …
const FAILURES_MORE: f64 = 0.01;
/// … and this many standard deviations of the difference, when its time is over …
const DEVIATIONS: f64 = 4.0;
/// … and this many before: it is looked at many times, and once in a while chance has its way.
const DEVIATIONS_EARLY: f64 = 6.0;

/// The ninth decile of the time of requests may be so many times that of the others …
const SLOWER: f64 = 1.5;
/// … and so much longer, in microseconds.
const SLOWER_MICROS: u64 = 20_000;

/// After so many times its time there is an end, whether there were enough requests or not.
const PATIENCE: u32 = 3;

/// A snapshot that is tried out.
#[derive(Debug, Clone)]
pub struct Canary {
    settings: Settings,
    /// Since when, on the clock that [`Canary::look`] is given.
    begun: Duration,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Look again later.
    Wait,
    /// It is fit for all, for this reason.
    Promote(String),
    /// It is fit for nobody, for this reason.
    Withdraw(String),
}

impl Canary {
    /// One that begins at `now`.
    pub fn new(settings: Settings, now: Duration) -> Self {
        Self { settings, begun: now }
    }

    /// Looks at what was counted until `now`: of connections with the snapshot in force, and of those
    /// with the new one.
    pub fn look(&self, now: Duration, old: &Group, new: &Group) -> Verdict {
        let passed = now.saturating_sub(self.begun);
        let is_over = passed >= self.settings.lasts;
        let deviations = if is_over { DEVIATIONS } else { DEVIATIONS_EARLY };
        if new.requests >= EARLY_MIN
            && let Some(reason) = fails_more(old, new, deviations)
        {
            return Verdict::Withdraw(reason);
        }
        if !is_over {
            return Verdict::Wait;
        }
        if new.requests < SAMPLES_MIN {
            return match passed < self.settings.lasts.saturating_mul(PATIENCE) {
                true => Verdict::Wait,
                false => Verdict::Withdraw(format!(
                    "only {} requests met it in {} s, too few to tell ({SAMPLES_MIN})",
                    new.requests,
                    passed.as_secs()
                )),
            };
        }
        match is_slower(old, new) {
            Some(reason) => Verdict::Withdraw(reason),
            None => Verdict::Promote(format!("as good: {}", Compared(old, new))),
        }
    }
}

/// Why the new snapshot fails too many requests.
fn fails_more(old: &Group, new: &Group, deviations: f64) -> Option<String> {
    let (old_share, new_share) = (share(old), share(new));
    if new.failures < FAILURES_MIN || new_share <= old_share + FAILURES_MORE {
        return None;
    }
    // Of two shares of one population (pooled), their difference deviates so much by chance.
    let requests = (old.requests + new.requests) as f64;
    let pooled = (old.failures + new.failures) as f64 / requests.max(1.0);
    let parts = 1.0 / (new.requests.max(1) as f64) + 1.0 / (old.requests.max(1) as f64);
    let deviation = (pooled * (1.0 - pooled) * parts).sqrt();
    // With nothing to compare with, what fails is to blame.
    let is_chance = old.requests > 0 && new_share - old_share <= deviations * deviation;
    (!is_chance).then(|| format!("more failures: {}", Compared(old, new)))
}

/// Why the new snapshot is too slow.
fn is_slower(old: &Group, new: &Group) -> Option<String> {
    let (before, after) = (ninth_decile(old)?, ninth_decile(new)?);
    let is_slower =
        after as f64 > before as f64 * SLOWER && after.saturating_sub(before) > SLOWER_MICROS;
    is_slower.then(|| format!("slower: {}", Compared(old, new)))
}

/// The share of requests that failed.
fn share(group: &Group) -> f64 {
    group.failures as f64 / group.requests.max(1) as f64
}

/// Microseconds that nine of ten requests took at most; `None` without requests.
fn ninth_decile(group: &Group) -> Option<u64> {
    let all: u64 = group.classes.iter().sum();
    let mut left = all - all / 10;
    for (class, count) in group.classes.iter().enumerate() {
        left = left.saturating_sub(*count);
        if left == 0 && all > 0 {
            return Some(most_of(class));
        }
    }
    None
}

/// Both groups in words.
struct Compared<'a>(&'a Group, &'a Group);

impl fmt::Display for Compared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut one = |name: &str, group: &Group| {
            let (failures, requests) = (group.failures, group.requests);
            let share = share(group) * 100.0;
            write!(f, "{name} {failures} of {requests} failed ({share:.2} %)")?;
            match ninth_decile(group) {
                Some(micros) => write!(f, ", 90 % within {:.1} ms", micros as f64 / 1_000.0),
                None => Ok(()),
            }
        };
        one("new:", self.1)?;
        one("; old:", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proxy::serving::class_of;

    use super::*;

    const LASTS: Duration = Duration::from_secs(60);

    fn canary() -> Canary {
        Canary::new(Settings { percent: 5.0, lasts: LASTS }, Duration::ZERO)
    }

    fn group(requests: u64, failures: u64, micros: u64) -> Group {
        let mut group = Group { requests, failures, ..Group::default() };
        group.classes[class_of(micros)] = requests;
        group
    }

    fn is_withdrawn(verdict: &Verdict, because: &str) -> bool {
        matches!(verdict, Verdict::Withdraw(reason) if reason.contains(because))
    }

    #[test]
    fn one_that_is_as_good_is_promoted_when_its_time_is_over() {
        let (old, new) = (group(10_000, 10, 1_000), group(500, 1, 1_100));
        assert_eq!(canary().look(LASTS - Duration::from_secs(1), &old, &new), Verdict::Wait);
        assert!(matches!(canary().look(LASTS, &old, &new), Verdict::Promote(_)));
    }

    #[test]
    fn one_that_fails_is_withdrawn_as_soon_as_it_is_clear() {
        let old = group(10_000, 10, 1_000);
        let early = Duration::from_secs(2);
        assert_eq!(canary().look(early, &old, &group(19, 19, 900)), Verdict::Wait);
        assert!(is_withdrawn(&canary().look(early, &old, &group(20, 20, 900)), "more failures"));
        assert!(is_withdrawn(&canary().look(early, &old, &group(200, 10, 900)), "more failures"));
        assert_eq!(canary().look(early, &old, &group(200, 4, 900)), Verdict::Wait);
    }

    #[test]
    fn failures_that_both_have_are_not_its_fault() {
        let (old, new) = (group(10_000, 3_000, 1_000), group(500, 155, 1_000));
        assert!(matches!(canary().look(LASTS, &old, &new), Verdict::Promote(_)));
    }

    #[test]
    fn one_that_is_slow_is_withdrawn_at_the_end() {
        let (old, new) = (group(10_000, 0, 10_000), group(500, 0, 100_000));
        assert_eq!(canary().look(LASTS / 2, &old, &new), Verdict::Wait);
        assert!(is_withdrawn(&canary().look(LASTS, &old, &new), "slower"));
        // Twice of next to nothing is next to nothing.
        let (old, new) = (group(10_000, 0, 500), group(500, 0, 1_000));
        assert!(matches!(canary().look(LASTS, &old, &new), Verdict::Promote(_)));
    }

    #[test]
    fn with_too_few_requests_it_waits_but_not_for_ever() {
        let (old, new) = (group(10_000, 0, 500), group(SAMPLES_MIN - 1, 0, 500));
        assert_eq!(canary().look(LASTS * 2, &old, &new), Verdict::Wait);
        assert!(is_withdrawn(&canary().look(LASTS * 3, &old, &new), "too few"));
        assert!(is_withdrawn(&canary().look(LASTS * 3, &old, &Group::default()), "too few"));
    }

    #[test]
    fn without_others_to_compare_with_failures_count_all_the_same() {
        let new = group(1_000, 100, 500);
        assert!(is_withdrawn(&canary().look(LASTS, &Group::default(), &new), "more failures"));
        let new = group(1_000, 0, 500);
        assert!(matches!(canary().look(LASTS, &Group::default(), &new), Verdict::Promote(_)));
    }

    /// Traffic by a generator of random numbers: nobody is withdrawn by chance, and everybody who is
    /// much worse is.
    #[test]
    fn simulated_traffic_is_judged_rightly() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let mut run = |old_share: f64, new_share: f64, slower: f64| {
            let (mut old, mut new) = (Group::default(), Group::default());
            for second in 1..=180_u64 {
                for _ in 0..200 {
                    let is_new = random() < 0.05;
                    let failed = random() < if is_new { new_share } else { old_share };
                    let micros = 1_000.0 + 30_000.0 * random();
                    let micros = if is_new { micros * slower } else { micros };
                    let group = if is_new { &mut new } else { &mut old };
                    group.requests += 1;
                    group.failures += u64::from(failed);
                    group.classes[class_of(micros as u64)] += 1;
                }
                match canary().look(Duration::from_secs(second), &old, &new) {
                    Verdict::Wait => {}
                    verdict => return verdict,
                }
            }
            Verdict::Wait
        };
        for _ in 0..50 {
            assert!(matches!(run(0.01, 0.01, 1.0), Verdict::Promote(_)));
            assert!(matches!(run(0.0, 0.0, 1.1), Verdict::Promote(_)));
            assert!(is_withdrawn(&run(0.01, 0.2, 1.0), "more failures"));
            assert!(is_withdrawn(&run(0.0, 0.0, 3.0), "slower"));
        }
    }
}
