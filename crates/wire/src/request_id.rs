//! `X-Request-ID`: making one, and judging one that came in.

/// Longest request id accepted from a client, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// A UUID version 7 (RFC 9562 §5.7) in its text form: ids sort by the time they were made. `unix_ms` is
/// milliseconds since 1970, of which 48 bits are used; of `random` 74 bits are used.
pub fn uuid_v7(unix_ms: u64, random: [u8; 10]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let [_, _, t0, t1, t2, t3, t4, t5] = unix_ms.to_be_bytes();
    let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9] = random;
    let bytes = [
        [t0, t1, t2, t3, t4, t5, 0x70 | r0 & 0x0f, r1],
        [0x80 | r2 & 0x3f, r3, r4, r5, r6, r7, r8, r9],
    ];
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|at| !matches!(at, 8 | 13 | 18 | 23));
    let nibbles = bytes.as_flattened().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (at, nibble) in places.zip(nibbles) {
        text[at] = DIGITS[usize::from(nibble & 15)];
    }
    text
}

/// Whether a client's request id may be kept: 1 to [`REQUEST_ID_BYTES_MAX`] bytes of
/// `A-Z a-z 0-9 . _ ~ + / = : @ -`, which can stand unquoted in any log.
pub fn is_valid_request_id(id: &[u8]) -> bool {
    matches!(id.len(), 1..=REQUEST_ID_BYTES_MAX)
        && id.iter().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b':' | b'@' | b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9562_a_6_the_example_uuid() {
        let random = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
        assert_eq!(&uuid_v7(0x017F_22E2_79B0, random), b"017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
    }

    #[test]
    fn version_and_variant_hold_for_any_input() {
        for fill in [0x00, 0xff] {
            let id = uuid_v7(u64::MAX, [fill; 10]);
            assert_eq!(id[14], b'7');
            assert!(matches!(id[19], b'8' | b'9' | b'a' | b'b'));
            assert!(is_valid_request_id(&id));
        }
    }

    #[test]
    fn what_a_client_may_send() {
        assert!(is_valid_request_id(b"1"));
        assert!(is_valid_request_id(b"Root=1-67891233-abcdef012345678912345678"));
        assert!(is_valid_request_id(&[b'a'; REQUEST_ID_BYTES_MAX]));
        for id in [b"".as_slice(), b"a b", b"a\"b", b"a\tb", b"a,b", b"\xc3\xa4", &[b'a'; 129]] {
            assert!(!is_valid_request_id(id), "{id:?}");
        }
    }
}
