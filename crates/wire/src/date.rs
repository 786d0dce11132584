//! Dates as HTTP writes them (RFC 9110 §5.6.7).

use std::io::Write;
use std::time::{Duration, SystemTime};

/// Seconds from 1970 to the end of the year 9999, the last one that the format can express.
const LAST_SECOND: u64 = 253_402_300_799;

/// A time as `Sun, 06 Nov 1994 08:49:37 GMT`. Times the format cannot express, before 1970 or after
/// 9999, become the nearest one it can.
pub fn http_date(time: SystemTime) -> [u8; 29] {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = Duration::from_secs(since_1970.min(LAST_SECOND));
    let time = SystemTime::UNIX_EPOCH.checked_add(seconds).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut text = [b' '; 29];
    // Exactly 29 bytes for every year of four digits.
    let _ = write!(text.as_mut_slice(), "{}", httpdate::HttpDate::from(time));
    text
}

/// The time that a date in any of the three formats names; `None` if it is none of them.
pub fn parse_http_date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_5_6_7_the_three_formats_are_one_time() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(&http_date(time), b"Sun, 06 Nov 1994 08:49:37 GMT");
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), Some(time), "{text}");
        }
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(&http_date(before), b"Thu, 01 Jan 1970 00:00:00 GMT");
        let after = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 1);
        assert_eq!(&http_date(after), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn other_text_is_no_date() {
        for text in
            ["", "0", "Sun, 06 Nov 1994 08:49:37", "Sun, 32 Nov 1994 08:49:37 GMT", "\u{e4}"]
        {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
    }
}
