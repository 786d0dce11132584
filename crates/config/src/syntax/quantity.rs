//! Durations and sizes.

use std::time::Duration;

/// Longest duration: far above any sensible timeout, and small enough for every timer.
const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Units of a duration in milliseconds.
const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A number of seconds.
pub(crate) fn seconds(seconds: f64) -> Result<Duration, String> {
    if seconds < 0.0 {
        return Err("must not be negative".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_or_else(|_| Err(too_long()), bounded)
}

/// Such as "30s", "500ms" or "1h30m".
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str =
        "expected a number and a unit (ms, s, m, h, d), such as \"30s\" or \"500ms\"";
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() || rest.starts_with('-') {
        return Err(EXPECTED.to_owned());
    }
    while !rest.is_empty() {
        let (number, unit, tail) = number_and_unit(rest).ok_or(EXPECTED)?;
        if unit.is_empty() {
            return Err(format!("a unit is missing: \"{number}s\" if seconds are meant"));
        }
        let (_, scale) = TIME_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("`{unit}` is no unit of time; there are ms, s, m, h and d"))?;
        total = number
            .checked_mul(*scale)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(too_long)?;
        rest = tail.trim_start();
    }
    bounded(Duration::from_millis(total))
}

/// Such as "512", "32KB", "10MB" or "1GiB"; each step is 1024, however it is spelt.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected bytes, or a number and a unit (KB, MB, GB), such as \"10MB\"";
    let (number, unit, tail) = number_and_unit(text.trim()).ok_or(EXPECTED)?;
    if !tail.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    number.checked_mul(size_unit(unit)?).ok_or_else(|| "does not fit into 64 bits".to_owned())
}

/// How many bytes a unit of size stands for, in letters of either case; none is bytes.
///
/// # Errors
/// It is no unit of size.
pub fn size_unit(unit: &str) -> Result<u64, String> {
    match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Ok(1),
        "k" | "kb" | "kib" => Ok(1 << 10),
        "m" | "mb" | "mib" => Ok(1 << 20),
        "g" | "gb" | "gib" => Ok(1 << 30),
        "t" | "tb" | "tib" => Ok(1 << 40),
        _ => Err(format!("`{unit}` is no unit of size; there are B, KB, MB, GB and TB")),
    }
}

/// Splits leading digits, the letters after them (blanks between are allowed) and the rest.
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text.get(..digits)?.parse().ok()?;
    let rest = text.get(digits..)?.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    Some((number, rest.get(..letters)?, rest.get(letters..)?))
}

fn bounded(length: Duration) -> Result<Duration, String> {
    if length > DURATION_MAX { Err(too_long()) } else { Ok(length) }
}

fn too_long() -> String {
    format!("must not be longer than {} days", DURATION_MAX.as_secs() / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units_and_sums() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration(" 30 s "), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(seconds(0.25), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn durations_that_are_none() {
        for text in ["", "30", "-1s", "1.5s", "s", "1x", "1s x", "999999999999d", "31d", "１s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for number in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(seconds(number).is_err(), "{number}");
        }
    }

    #[test]
    fn sizes_step_by_1024() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("32KB"), Ok(32 * 1024));
        assert_eq!(size("10 mb"), Ok(10 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
    }

    #[test]
    fn sizes_that_are_none() {
        for text in
            ["", "MB", "1.5MB", "-1", "10XB", "1MB2", "99999999999GB", "18446744073709551616"]
        {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
