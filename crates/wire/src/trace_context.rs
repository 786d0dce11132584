//! `traceparent`: which trace a request belongs to (W3C Trace Context).

/// Length of the field in version 00.
pub const TRACEPARENT_LEN: usize = 55;

/// The flag of a trace that its callers may have recorded.
const SAMPLED: u8 = 1;

/// What a `traceparent` field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not all nought.
    pub trace_id: [u8; 16],
    /// The span of who sends the field; not all nought.
    pub span_id: [u8; 8],
    /// Whoever sends it may have recorded its span.
    pub sampled: bool,
}

impl TraceParent {
    /// What the value of a field says; `None` if it is none that can be used, and a new trace begins.
    /// Of later versions than 00 the part that they have in common with it counts (§3.3).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, later) = value.split_at_checked(TRACEPARENT_LEN)?;
        let version = hex::<1>(known.get(..2)?)?;
        let fits = match version {
            [0xff] => false,
            [0] => later.is_empty(),
            _ => later.is_empty() || later.starts_with(b"-"),
        };
        let dashes = [2, 35, 52].iter().all(|&at| known.get(at) == Some(&b'-'));
        let trace_id = hex::<16>(known.get(3..35)?)?;
        let span_id = hex::<8>(known.get(36..52)?)?;
        let [flags] = hex::<1>(known.get(53..55)?)?;
        let valid = fits && dashes && trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, sampled: flags & SAMPLED != 0 })
    }

    /// The value of the field, in version 00.
    pub fn to_text(&self) -> [u8; TRACEPARENT_LEN] {
        let mut text = [b'-'; TRACEPARENT_LEN];
        let flags = [if self.sampled { SAMPLED } else { 0 }];
        let parts: [(usize, &[u8]); 4] =
            [(0, &[0]), (3, &self.trace_id), (36, &self.span_id), (53, &flags)];
        for (at, bytes) in parts {
            write_hex(bytes, text.get_mut(at..).unwrap_or_default());
        }
        text
    }
}

/// The lower-case hexadecimal digits of `bytes`, as far as there is room for them.
pub fn write_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (digit, nibble) in text.iter_mut().zip(nibbles) {
        *digit = DIGITS[usize::from(nibble & 15)];
    }
}

/// The bytes that lower-case hexadecimal digits stand for; upper-case ones are not allowed (§3.2.2).
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn w3c_3_2_the_example_is_read_and_written() {
        let parent = TraceParent::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(parent.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(parent.span_id[7], 0x31);
        assert!(parent.sampled);
        assert_eq!(parent.to_text(), EXAMPLE.as_bytes());
        let unsampled = TraceParent { sampled: false, ..parent };
        assert!(unsampled.to_text().ends_with(b"-00"));
        assert_eq!(TraceParent::parse(&unsampled.to_text()), Some(unsampled));
    }

    #[test]
    fn w3c_3_2_2_what_breaks_a_rule_is_none() {
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
        ] {
            assert_eq!(TraceParent::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn w3c_3_3_of_a_later_version_the_known_part_counts() {
        for later in [
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09-what-the-future-brings",
        ] {
            assert!(TraceParent::parse(later.as_bytes()).unwrap().sampled, "{later}");
        }
    }
}
