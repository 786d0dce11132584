//! `Range` (RFC 9110 §14.2), bounded so that it cannot multiply the work (CVE-2011-3192).

/// Most ranges answered at once. A request for more is answered with the whole representation.
pub const RANGES_MAX: usize = 8;

/// What a `Range` field asks of a representation of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// Answer as if there were no `Range`: another unit, a syntax error, or too many ranges.
    Ignore,
    /// None of the ranges overlaps the representation: 416.
    Unsatisfiable,
    /// Answer with these: 206.
    Satisfiable(RangeSet),
}

/// One part of a representation. Never empty, never beyond its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
}

impl ByteRange {
    /// Number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// Between one and [`RANGES_MAX`] ranges, in the order they were asked for, without overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RangeSet {
    ranges: [ByteRange; RANGES_MAX],
    count: usize,
}

impl RangeSet {
    /// The ranges.
    pub fn as_slice(&self) -> &[ByteRange] {
        self.ranges.get(..self.count).unwrap_or_default()
    }

    /// Adds a range, merged with all that it overlaps or touches (RFC 9110 §15.3.7.2 allows it). The
    /// merged range takes the place of the first of them.
    fn add(&mut self, mut range: ByteRange) {
        let mut kept = RangeSet::default();
        let mut place = None;
        for other in self.as_slice() {
            if range.first <= other.last.saturating_add(1)
                && other.first <= range.last.saturating_add(1)
            {
                range.first = range.first.min(other.first);
                range.last = range.last.max(other.last);
                if place.is_none() {
                    place = Some(kept.count);
                    kept.push(range);
                }
            } else {
                kept.push(*other);
            }
        }
        match place.and_then(|place| kept.ranges.get_mut(place)) {
            Some(merged) => *merged = range,
            None => kept.push(range),
        }
        *self = kept;
    }

    fn push(&mut self, range: ByteRange) {
        if let Some(room) = self.ranges.get_mut(self.count) {
            *room = range;
            self.count += 1;
        }
    }
}

/// Reads the value of `Range` for a representation of `len` bytes.
pub fn parse(value: &[u8], len: u64) -> Ranges {
    let Some(list) = value
        .split_at_checked(6)
        .and_then(|(unit, list)| unit.eq_ignore_ascii_case(b"bytes=").then_some(list))
    else {
        return Ranges::Ignore;
    };
    let mut set = RangeSet::default();
    let mut asked: usize = 0;
    for element in crate::token::elements(list) {
        asked = asked.saturating_add(1);
        if asked > RANGES_MAX {
            return Ranges::Ignore;
        }
        match parse_one(element, len) {
            None => return Ranges::Ignore,
            Some(None) => {}
            Some(Some(range)) => set.add(range),
        }
    }
    match (asked, set.count) {
        (0, _) => Ranges::Ignore,
        (_, 0) => Ranges::Unsatisfiable,
        _ => Ranges::Satisfiable(set),
    }
}

/// One range: `None` if malformed, `Some(None)` if it lies outside of the representation.
fn parse_one(element: &[u8], len: u64) -> Option<Option<ByteRange>> {
    let dash = memchr::memchr(b'-', element)?;
    let (first, last) = (element.get(..dash)?, element.get(dash.checked_add(1)?..)?);
    let end = len.checked_sub(1);
    match (first, last) {
        (b"", suffix) => {
            let suffix = number(suffix)?;
            Some(
                end.filter(|_| suffix > 0)
                    .map(|last| ByteRange { first: len.saturating_sub(suffix), last }),
            )
        }
        (first, last) => {
            let first = number(first)?;
            let asked_last = if last.is_empty() { u64::MAX } else { number(last)? };
            if asked_last < first {
                return None;
            }
            Some(
                end.filter(|end| first <= *end)
                    .map(|end| ByteRange { first, last: asked_last.min(end) }),
            )
        }
    }
}

/// `1*DIGIT`; what exceeds 64 bits is as good as the largest number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0')))
    });
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(value: &str, len: u64) -> Vec<(u64, u64)> {
        match parse(value.as_bytes(), len) {
            Ranges::Satisfiable(set) => {
                set.as_slice().iter().map(|range| (range.first, range.last)).collect()
            }
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn rfc9110_14_1_2_the_examples() {
        assert_eq!(ranges("bytes=0-499", 10_000), [(0, 499)]);
        assert_eq!(ranges("bytes=500-999", 10_000), [(500, 999)]);
        assert_eq!(ranges("bytes=-500", 10_000), [(9500, 9999)]);
        assert_eq!(ranges("bytes=9500-", 10_000), [(9500, 9999)]);
        assert_eq!(ranges("bytes=0-0,-1", 10_000), [(0, 0), (9999, 9999)]);
        assert_eq!(
            ranges("bytes= 0-999, 4500-5499, -1000", 10_000),
            [(0, 999), (4500, 5499), (9000, 9999)]
        );
        assert_eq!(ranges("bytes=500-600,601-999", 10_000), [(500, 999)]);
        assert_eq!(ranges("bytes=500-700,601-999", 10_000), [(500, 999)]);
    }

    #[test]
    fn edges_of_the_representation() {
        assert_eq!(ranges("BYTES=0-99999999999999999999999", 10), [(0, 9)]);
        assert_eq!(ranges("bytes=-99", 10), [(0, 9)]);
        assert_eq!(ranges("bytes=9-9,10-10", 10), [(9, 9)]);
        for value in ["bytes=10-", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(parse(value.as_bytes(), 10), Ranges::Unsatisfiable, "{value}");
        }
        for value in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            assert_eq!(parse(value.as_bytes(), 0), Ranges::Unsatisfiable, "{value}");
        }
    }

    #[test]
    fn rfc9110_14_2_what_is_malformed_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "lines=0-1",
            "bytes=1",
            "bytes=-",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=0-1-2",
            "bytes=0-1;",
            "bytes=+0-1",
            "bytes=0 - 1",
            "bytes 0-1",
        ] {
            assert_eq!(parse(value.as_bytes(), 10), Ranges::Ignore, "{value}");
        }
    }

    #[test]
    fn cve_2011_3192_many_or_overlapping_ranges_do_not_multiply_work() {
        let many = format!("bytes={}", ["0-"; RANGES_MAX + 1].join(","));
        assert_eq!(parse(many.as_bytes(), 10), Ranges::Ignore);
        let overlapping = format!("bytes={}", ["0-"; RANGES_MAX].join(","));
        assert_eq!(ranges(&overlapping, 10), [(0, 9)]);
        assert_eq!(ranges("bytes=0-1,4-5,8-9,1-8", 10), [(0, 9)]);
        assert_eq!(ranges("bytes=8-9,0-1,4-5,0-1", 10), [(8, 9), (0, 1), (4, 5)]);
    }
}
