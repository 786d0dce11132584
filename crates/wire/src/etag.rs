//! Comparing entity tags (RFC 9110 §8.8.3).

use crate::token;

/// Whether `If-None-Match` with this value names `current`: `*`, or an equal tag by weak comparison
/// (RFC 9110 §13.1.2). Tags that do not parse match nothing.
pub fn matches_weakly(list: &[u8], current: &[u8]) -> bool {
    token::trim(list) == b"*" || tags(list).any(|tag| opaque(tag) == opaque(current))
}

/// Whether `If-Match` with this value names `current`: `*`, or an equal tag by strong comparison, in
/// which weak tags equal nothing (RFC 9110 §13.1.1).
pub fn matches_strongly(list: &[u8], current: &[u8]) -> bool {
    token::trim(list) == b"*" || tags(list).any(|tag| strong_eq(tag, current))
}

/// Strong comparison of two tags, as `If-Range` needs it (RFC 9110 §13.1.5).
pub fn strong_eq(a: &[u8], b: &[u8]) -> bool {
    a == b && is_tag(a) && !a.starts_with(b"W/")
}

/// Whether `value` is one entity tag, weak or strong.
pub fn is_tag(value: &[u8]) -> bool {
    match opaque(value) {
        [b'"', inner @ .., b'"'] => inner.iter().all(|byte| is_tag_byte(*byte)),
        _ => false,
    }
}

/// The tags of a list. Commas within the quotes belong to the tag.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        while let [b',' | b' ' | b'\t', after @ ..] = rest {
            rest = after;
        }
        let quote = if rest.starts_with(b"W/") { 2 } else { 0 };
        let inner = rest.get(quote..)?.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', inner)?.saturating_add(quote).saturating_add(2);
        let (tag, after) = rest.split_at_checked(end)?;
        rest = after;
        is_tag(tag).then_some(tag)
    })
}

/// The tag without its weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// etagc
fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_8_8_3_2_the_comparison_table() {
        for (a, b, strong, weak) in [
            (r#"W/"1""#, r#"W/"1""#, false, true),
            (r#"W/"1""#, r#"W/"2""#, false, false),
            (r#"W/"1""#, r#""1""#, false, true),
            (r#""1""#, r#""1""#, true, true),
        ] {
            assert_eq!(matches_strongly(a.as_bytes(), b.as_bytes()), strong, "{a} {b}");
            assert_eq!(matches_weakly(a.as_bytes(), b.as_bytes()), weak, "{a} {b}");
            assert_eq!(strong_eq(a.as_bytes(), b.as_bytes()), strong, "{a} {b}");
        }
    }

    #[test]
    fn lists() {
        let list = br#""a", W/"b" ,,"c,d","#;
        for tag in [br#""a""#.as_slice(), br#""b""#, br#""c,d""#] {
            assert!(matches_weakly(list, tag), "{tag:?}");
        }
        assert!(!matches_weakly(list, br#""c""#));
        assert!(!matches_strongly(list, br#""b""#));
        assert!(matches_strongly(list, br#""c,d""#));
        assert!(matches_weakly(b" * ", br#""x""#));
        assert!(matches_strongly(b"*", br#""x""#));
    }

    #[test]
    fn what_does_not_parse_matches_nothing() {
        for list in [b"".as_slice(), b"a", b"\"a", b"w/\"a\"", b"\"a b\"", b"W/", b"W/\""] {
            assert!(!matches_weakly(list, b"\"a\""), "{list:?}");
        }
        assert!(!matches_strongly(b"abc", b"abc"));
    }
}
