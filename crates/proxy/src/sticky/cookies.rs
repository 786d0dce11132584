//! Reading `Cookie` and `Set-Cookie` fields (RFC 6265 §4.2, §5.2, §5.4).
//!
//! Cookies are separated by ";" whatever stands around it, quotes included, and a name ends at the
//! first "=". Names are compared byte by byte. Empty pieces and pieces without "=" have no name.

use memchr::memchr;

/// The values of the cookies called `name` in `fields`, which are values of `Cookie` fields.
pub(crate) fn values<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    name: &[u8],
) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.flat_map(pieces).filter_map(pair);
    pairs.filter_map(move |(found, value)| (found == name).then_some(value))
}

/// Appends the cookies in `field`, the value of a `Cookie` field, but those called `name`. The
/// others stay as they are. False if there are no others; nothing is appended then.
pub(crate) fn write_without(field: &[u8], name: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut any = false;
    for piece in pieces(field) {
        if pair(piece).is_some_and(|(found, _)| found == name) {
            continue;
        }
        if out.len() == start {
            out.extend_from_slice(piece.trim_ascii_start());
        } else {
            out.push(b';');
            out.extend_from_slice(piece);
        }
        any |= !piece.trim_ascii().is_empty();
    }
    if !any {
        out.truncate(start);
    }
    any
}

/// `field`, the value of a `Set-Cookie` field, sets the cookie called `name`.
pub(super) fn sets(field: &[u8], name: &[u8]) -> bool {
    pieces(field).next().and_then(pair).is_some_and(|(found, _)| found == name)
}

fn pair(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = piece.split_at_checked(memchr(b'=', piece)?)?;
    Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
}

fn pieces(field: &[u8]) -> Pieces<'_> {
    Pieces { rest: Some(field) }
}

/// What stands between the semicolons; at least one piece, which may be empty.
struct Pieces<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let Some((piece, after)) = memchr(b';', rest).and_then(|at| rest.split_at_checked(at))
        else {
            return Some(rest);
        };
        self.rest = after.get(1..);
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all<'a>(fields: &[&'a str], name: &str) -> Vec<&'a str> {
        let fields = fields.iter().map(|field| field.as_bytes());
        values(fields, name.as_bytes()).map(|value| std::str::from_utf8(value).unwrap()).collect()
    }

    fn without(field: &str, name: &str) -> Option<String> {
        let mut out = b"before".to_vec();
        let any = write_without(field.as_bytes(), name.as_bytes(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("before").unwrap();
        assert_eq!(any, !text.is_empty());
        any.then(|| text.to_owned())
    }

    #[test]
    fn rfc6265_4_2_1_cookies_are_found_by_name() {
        assert_eq!(all(&["SID=31d4d96e407aad42; lang=en-US"], "lang"), ["en-US"]);
        assert_eq!(all(&["a=1;b=2 ;\tc = 3;"], "b"), ["2"]);
        assert_eq!(all(&["a=1;b=2 ;\tc = 3;"], "c"), ["3"]);
        assert_eq!(all(&["a=1; b=2; a=3", "a=4"], "a"), ["1", "3", "4"]);
        assert_eq!(all(&["a=b=c; d=\"x y\""], "a"), ["b=c"]);
        assert_eq!(all(&["a=b=c; d=\"x y\""], "d"), ["\"x y\""]);
        assert_eq!(all(&["a="], "a"), [""]);
    }

    #[test]
    fn other_names_are_not_taken_for_the_cookie() {
        let field = "A=1; xa=2; ax=3; a; b=a=4; $a=5; \"a\"=6";
        assert_eq!(all(&[field], "a"), [""; 0]);
        assert_eq!(all(&["", ";", "=", ";=;", "==="], "a"), [""; 0]);
    }

    #[test]
    fn other_cookies_stay_as_they_were() {
        for (field, left) in [
            ("r=1", None),
            (" r = 1 ;", None),
            ("r=1; r=2;; r=3", None),
            ("", None),
            ("r=1; a=1", Some("a=1")),
            ("a=1; r=1", Some("a=1")),
            ("a=1; r=1; b=\"x,y\"; c", Some("a=1; b=\"x,y\"; c")),
            ("a=1;r=1;b=2", Some("a=1;b=2")),
            ("a=r=1; R=2; rr=3", Some("a=r=1; R=2; rr=3")),
            ("r", Some("r")),
        ] {
            assert_eq!(without(field, "r").as_deref(), left, "{field:?}");
        }
    }

    #[test]
    fn rfc6265_5_2_a_response_sets_the_cookie_before_the_first_semicolon() {
        let sets = |field: &str| sets(field.as_bytes(), b"sid");
        assert!(sets("sid=1; Path=/"));
        assert!(sets(" sid =; HttpOnly"));
        assert!(sets("sid="));
        for field in ["", "sid", "SID=1", "x=sid=1", "x=1; sid=2", "sid2=1", ";sid=1", "=sid"] {
            assert!(!sets(field), "{field:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_are_the_other_cookies_in_their_order(field in "[ab;= \t\"]{0,40}") {
            let field = field.as_bytes();
            let mut out = Vec::new();
            write_without(field, b"a", &mut out);
            let expected: Vec<_> =
                pieces(field).filter_map(pair).filter(|(name, _)| *name != b"a").collect();
            let left: Vec<_> = pieces(&out).filter_map(pair).collect();
            prop_assert_eq!(left, expected);
            prop_assert_eq!(values([out.as_slice()].into_iter(), b"a").count(), 0);
        }

        #[test]
        fn any_bytes_can_be_read(field: Vec<u8>, name: Vec<u8>) {
            let mut out = Vec::new();
            write_without(&field, &name, &mut out);
            prop_assert!(out.len() <= field.len());
            prop_assert!(values([field.as_slice()].into_iter(), &name).count() <= field.len());
            sets(&field, &name);
        }
    }
}
