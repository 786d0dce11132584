//! When a certificate is renewed, and when something that failed is tried again. Pure: the time and
//! the dice are arguments.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first retry comes after this, the next ones after four times as long each.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// How much longer each retry waits than the one before. Authorities allow about five failures of a
/// name an hour.
const RETRY_FACTOR: u32 = 4;

/// No retry waits longer than this, unless the authority asks for it.
const LAST_RETRY: Duration = Duration::from_secs(6 * 3600);

/// An authority that asks for more patience than this is asked again anyway.
const MOST_PATIENCE: Duration = Duration::from_secs(7 * 86_400);

/// Part of the lifetime after which a certificate is renewed when the authority does not say.
const LIFE_USED: f64 = 2.0 / 3.0;

/// Renewals come up to this part of the lifetime earlier, so that those of many do not coincide.
const SPREAD: f64 = 1.0 / 20.0;

/// Whatever the authority suggests, this part of the lifetime is kept for retries.
const LIFE_KEPT: f64 = 1.0 / 12.0;

/// When the authority suggests renewing (RFC 9773 §4.2), in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: i64,
    pub(super) end: i64,
}

/// When a certificate that is valid from `not_before` to `not_after` (Unix seconds) is to be
/// renewed; not before `now`. `dice`, in `0.0..1.0`, is to stay the same for one certificate, so
/// that the date does.
pub(super) fn next_renewal(
    now: i64,
    not_before: i64,
    not_after: i64,
    ari: Option<Window>,
    dice: f64,
) -> i64 {
    let life = not_after.saturating_sub(not_before).max(0) as f64;
    let part = |of_life: f64| (life * of_life) as i64;
    let date = match ari {
        // RFC 9773 §4.2: a random time within the window; one that ends before it starts is void.
        Some(Window { start, end }) if end > start => {
            let chosen = start.saturating_add((end.saturating_sub(start) as f64 * dice) as i64);
            chosen.min(not_after.saturating_sub(part(LIFE_KEPT)))
        }
        _ => not_before.saturating_add(part(LIFE_USED - SPREAD * dice)),
    };
    date.max(now)
}

/// How long to wait after the `failures`th failure in a row (from 1), give or take a tenth, and at
/// least as long as the authority asked for.
pub(super) fn retry_delay(failures: u32, asked: Option<Duration>, dice: f64) -> Duration {
    let times = RETRY_FACTOR.saturating_pow(failures.saturating_sub(1));
    let own = FIRST_RETRY.saturating_mul(times).min(LAST_RETRY).mul_f64(0.9 + dice / 5.0);
    own.max(asked.unwrap_or_default().min(MOST_PATIENCE))
}

/// When to ask for the suggested window again: as the authority says, within reason (RFC 9773
/// §4.3.3).
pub(super) fn ari_interval(asked: Duration) -> Duration {
    asked.clamp(Duration::from_secs(60), Duration::from_secs(86_400))
}

/// A number in `0.0..1.0`.
pub(super) fn dice() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// Now, in Unix seconds.
pub(in super::super) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const HOUR: u64 = 3600;

    #[test]
    fn without_advice_a_certificate_is_renewed_at_two_thirds_or_a_little_earlier() {
        assert_eq!(next_renewal(0, 0, 90 * DAY, None, 0.0), 60 * DAY);
        let early = next_renewal(0, 0, 90 * DAY, None, 0.999);
        assert!((55 * DAY..56 * DAY).contains(&early), "{early}");
        // Six days, as short-lived profiles have.
        assert_eq!(next_renewal(0, 0, 6 * DAY, None, 0.0), 4 * DAY);
        assert_eq!(next_renewal(0, 100 * DAY, 190 * DAY, None, 0.0), 160 * DAY);
    }

    #[test]
    fn what_is_overdue_is_due_now() {
        assert_eq!(next_renewal(70 * DAY, 0, 90 * DAY, None, 0.5), 70 * DAY);
        assert_eq!(next_renewal(100 * DAY, 0, 90 * DAY, None, 0.5), 100 * DAY);
        let past = Some(Window { start: 10 * DAY, end: 12 * DAY });
        assert_eq!(next_renewal(20 * DAY, 0, 90 * DAY, past, 0.5), 20 * DAY);
    }

    #[test]
    fn rfc9773_4_2_a_time_within_the_window_is_chosen() {
        let window = Some(Window { start: 50 * DAY, end: 52 * DAY });
        assert_eq!(next_renewal(0, 0, 90 * DAY, window, 0.0), 50 * DAY);
        assert_eq!(next_renewal(0, 0, 90 * DAY, window, 0.5), 51 * DAY);
        // Asked again a day later, it is the same time.
        assert_eq!(next_renewal(DAY, 0, 90 * DAY, window, 0.5), 51 * DAY);
    }

    #[test]
    fn rfc9773_4_2_a_window_that_makes_no_sense_is_no_advice() {
        let without = next_renewal(0, 0, 90 * DAY, None, 0.3);
        for (start, end) in [(50, 50), (52, 50)] {
            let window = Some(Window { start: start * DAY, end: end * DAY });
            assert_eq!(next_renewal(0, 0, 90 * DAY, window, 0.3), without);
        }
        // One after the end of the certificate leaves time for retries.
        let late = Some(Window { start: 100 * DAY, end: 101 * DAY });
        assert_eq!(next_renewal(0, 0, 96 * DAY, late, 0.5), 88 * DAY);
        let forever = Some(Window { start: i64::MIN, end: i64::MAX });
        assert!(next_renewal(0, 0, 96 * DAY, forever, 0.999) <= 88 * DAY);
    }

    #[test]
    fn dates_that_make_no_sense_are_due_now() {
        assert_eq!(next_renewal(7, 100, 50, None, 0.5), 100);
        assert_eq!(next_renewal(7, i64::MIN, i64::MIN, None, 0.5), 7);
    }

    #[test]
    fn retries_come_after_minutes_then_hours() {
        let waits: Vec<u64> = (1..=6).map(|n| retry_delay(n, None, 0.5).as_secs()).collect();
        assert_eq!(waits, [60, 240, 960, 3840, 15_360, 21_600]);
        assert_eq!(retry_delay(u32::MAX, None, 0.5).as_secs(), 6 * HOUR);
        assert_eq!(retry_delay(1, None, 0.0).as_secs(), 54);
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(retry_delay(1, asked(HOUR), 0.5).as_secs(), HOUR);
        assert_eq!(retry_delay(3, asked(5), 0.5).as_secs(), 960);
        assert_eq!(retry_delay(1, asked(u64::MAX), 0.5).as_secs(), 7 * 24 * HOUR);
    }

    #[test]
    fn rfc9773_4_3_3_the_window_is_asked_for_within_reason() {
        let interval = |seconds| ari_interval(Duration::from_secs(seconds)).as_secs();
        assert_eq!(
            (interval(0), interval(6 * HOUR), interval(u64::MAX)),
            (60, 6 * HOUR, 24 * HOUR)
        );
    }

    #[test]
    fn dice_fall_between_0_and_1() {
        assert!((0..100).map(|_| dice()).all(|number| (0.0..1.0).contains(&number)));
    }
}
