//! The small grammar that several fields share: tokens, optional white space, comma lists
//! (RFC 9110 §5.6).

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2, tchar).
#[inline]
pub(crate) fn is_tchar(byte: u8) -> bool {
    TCHAR[usize::from(byte)]
}

/// Whether `bytes` is a token: at least one tchar and nothing else.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_tchar(*byte))
}

/// Whether `byte` may stand in a field value: HTAB, SP, visible ASCII, 0x80-0xff (RFC 9110 §5.5).
#[inline]
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `bytes` without the spaces and tabs around it (OWS, RFC 9110 §5.6.3), and only those.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether `bytes` equals `lower` ignoring ASCII case. `lower` is in lower case and consists of
/// letters, digits and hyphens.
///
/// Compares words of eight bytes that may overlap: this runs for every field of every head.
#[inline]
pub(crate) fn eq_ignoring_case(bytes: &[u8], lower: &[u8]) -> bool {
    if bytes.len() != lower.len() {
        return false;
    }
    if let (Some(a), Some(b)) = (ends::<8>(bytes), ends::<8>(lower)) {
        let middle_eq = || {
            let words = bytes.as_chunks().0.iter().zip(lower.as_chunks().0);
            words.skip(1).all(|(a, b)| folded_eq(u64::from_ne_bytes(*a), u64::from_ne_bytes(*b)))
        };
        folded_eq(u64::from_ne_bytes(*a.0), u64::from_ne_bytes(*b.0))
            && folded_eq(u64::from_ne_bytes(*a.1), u64::from_ne_bytes(*b.1))
            && (bytes.len() <= 16 || middle_eq())
    } else if let (Some(a), Some(b)) = (ends::<4>(bytes), ends::<4>(lower)) {
        let word = |ends: (&[u8; 4], &[u8; 4])| {
            u64::from(u32::from_ne_bytes(*ends.0)) << 32 | u64::from(u32::from_ne_bytes(*ends.1))
        };
        folded_eq(word(a), word(b))
    } else {
        bytes.iter().zip(lower).all(|(a, b)| a.to_ascii_lowercase() == *b)
    }
}

/// The first and the last `N` bytes.
#[inline]
fn ends<const N: usize>(bytes: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
    Some((bytes.first_chunk()?, bytes.last_chunk()?))
}

/// Whether eight bytes equal eight others in lower case. Setting bit 5 makes letters lower-case and
/// leaves digits and hyphens alone. It also turns control bytes into digits and hyphens, hence the
/// second condition.
#[inline]
fn folded_eq(word: u64, lower: u64) -> bool {
    const BIT_5: u64 = 0x2020_2020_2020_2020;
    (word | BIT_5) == lower && ((word | word >> 1) & BIT_5) == BIT_5
}

/// The elements of a comma list, trimmed, empty ones left out (RFC 9110 §5.6.1.2).
#[inline]
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

static TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_ignoring_case_is_exact() {
        for lower in [
            "",
            "a",
            "te",
            "via",
            "host",
            "upgrade",
            "location",
            "http2-settings",
            "x-forwarded-proto",
        ] {
            let lower = lower.as_bytes();
            assert!(eq_ignoring_case(lower, lower));
            assert!(eq_ignoring_case(&lower.to_ascii_uppercase(), lower));
            assert!(!eq_ignoring_case(&[lower, b"x"].concat(), lower));
            for at in 0..lower.len() {
                for byte in 0..=255 {
                    let mut bytes = lower.to_vec();
                    bytes[at] = byte;
                    let expected = bytes.eq_ignore_ascii_case(lower);
                    assert_eq!(eq_ignoring_case(&bytes, lower), expected, "{bytes:?}");
                }
            }
        }
    }
}
