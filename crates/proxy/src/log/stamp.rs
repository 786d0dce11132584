//! Calendar time for log lines, in UTC. The Unix time is an argument; nothing here reads a clock.

use super::escape::four_digits;

/// Seconds of a day.
const DAY: u64 = 86_400;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// A moment in calendar terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// Year of the Gregorian calendar.
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Utc {
    /// The calendar time of a Unix time in seconds.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        // Days are counted from 0000-03-01, so that the leap day is the last of its year; eras are
        // the 400 years after which the calendar repeats (Hinnant, "chrono-compatible low-level
        // date algorithms").
        let days = seconds / DAY + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let second = seconds % DAY;
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month: month as u8,
            day: day as u8,
            hour: (second / 3_600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }
}

/// `2026-11-21T03:48:01.250Z` from microseconds since the Unix epoch, appended.
pub fn rfc3339(out: &mut Vec<u8>, unix_us: u64) {
    rfc3339_second(out, unix_us / 1_000_000);
    millis(out, unix_us);
}

/// The second a line belongs to, rendered once and reused for every line of that second.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    rendered: Option<u64>,
    clf: Vec<u8>,
    rfc3339: Vec<u8>,
}

impl Stamp {
    /// `[21/Nov/2026:03:48:01 +0000]`.
    pub(super) fn clf(&mut self, unix_us: u64) -> &[u8] {
        self.render(unix_us / 1_000_000);
        &self.clf
    }

    /// `2026-11-21T03:48:01.250Z`, appended.
    pub(super) fn rfc3339(&mut self, out: &mut Vec<u8>, unix_us: u64) {
        self.render(unix_us / 1_000_000);
        out.extend_from_slice(&self.rfc3339);
        millis(out, unix_us);
    }

    /// The same in two parts: what stands before the point, and the milliseconds.
    pub(super) fn rfc3339_parts(&mut self, unix_us: u64) -> (&[u8], [u8; 4]) {
        self.render(unix_us / 1_000_000);
        (&self.rfc3339, millis_text(unix_us))
    }

    fn render(&mut self, second: u64) {
        if self.rendered == Some(second) {
            return;
        }
        self.rendered = Some(second);
        self.clf.clear();
        self.rfc3339.clear();
        clf_second(&mut self.clf, second);
        rfc3339_second(&mut self.rfc3339, second);
    }
}

fn clf_second(out: &mut Vec<u8>, second: u64) {
    let utc = Utc::from_unix(second);
    out.push(b'[');
    two(out, utc.day);
    out.push(b'/');
    let month = MONTHS.get(usize::from(utc.month).saturating_sub(1)).copied();
    out.extend_from_slice(month.unwrap_or(b"---"));
    out.push(b'/');
    super::escape::number(out, utc.year);
    for part in [utc.hour, utc.minute, utc.second] {
        out.push(b':');
        two(out, part);
    }
    out.extend_from_slice(b" +0000]");
}

/// `2026-11-21T03:48:01`.
fn rfc3339_second(out: &mut Vec<u8>, second: u64) {
    let utc = Utc::from_unix(second);
    super::escape::number(out, utc.year);
    out.push(b'-');
    two(out, utc.month);
    out.push(b'-');
    two(out, utc.day);
    out.push(b'T');
    two(out, utc.hour);
    out.push(b':');
    two(out, utc.minute);
    out.push(b':');
    two(out, utc.second);
}

/// `.250Z`.
fn millis(out: &mut Vec<u8>, unix_us: u64) {
    out.push(b'.');
    out.extend_from_slice(&millis_text(unix_us));
}

/// `250Z`.
#[inline]
fn millis_text(unix_us: u64) -> [u8; 4] {
    let [_, hundreds, tens, ones] = four_digits((unix_us / 1_000 % 1_000) as u32);
    [hundreds, tens, ones, b'Z']
}

fn two(out: &mut Vec<u8>, value: u8) {
    out.extend_from_slice(&[b'0' + value / 10 % 10, b'0' + value % 10]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_days_are_right_around_leap_days_and_century_years() {
        for (unix, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_795_232_881, "2026-11-21T03:48:01"),
            (1_798_761_599, "2026-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let mut out = Vec::new();
            rfc3339_second(&mut out, unix);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_stamp_follows_the_second() {
        let mut stamp = Stamp::default();
        assert_eq!(stamp.clf(1_795_232_881_000_000), b"[21/Nov/2026:03:48:01 +0000]");
        assert_eq!(stamp.clf(1_795_232_881_999_999), b"[21/Nov/2026:03:48:01 +0000]");
        assert_eq!(stamp.clf(1_795_232_882_000_000), b"[21/Nov/2026:03:48:02 +0000]");
        let mut out = Vec::new();
        stamp.rfc3339(&mut out, 1_795_232_881_045_000);
        assert_eq!(out, b"2026-11-21T03:48:01.045Z");
        let parts = stamp.rfc3339_parts(1_795_232_881_045_000);
        assert_eq!(parts, (&b"2026-11-21T03:48:01"[..], *b"045Z"));
    }
}
