//! Which content coding a client gets: RFC 9110 §12.5.3. Pure.
//!
//! `app.js.br`, `app.js.zst` and `app.js.gz` next to `app.js` hold the same content, compressed in
//! advance. The highest weight wins; among equal weights the order of [`CODINGS`]. The file as it
//! is counts as the least wanted unless `identity` is given a weight. A client that accepts
//! nothing there is gets the file as it is: a body that it may well understand is worth more than
//! a 406.

/// A content coding that a neighbour of a file can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstandard,
    /// RFC 1952.
    Gzip,
}

/// All of them, the best compression first.
pub(super) const CODINGS: [Coding; 3] = [Coding::Brotli, Coding::Zstandard, Coding::Gzip];

impl Coding {
    /// As in `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstandard => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What a file name ends in.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Zstandard => ".zst",
            Coding::Gzip => ".gz",
        }
    }

    fn is_named(self, token: &[u8]) -> bool {
        token.eq_ignore_ascii_case(self.name().as_bytes())
            || self == Coding::Gzip && token.eq_ignore_ascii_case(b"x-gzip")
    }
}

/// Chooses among `offered` (in the order of [`CODINGS`]); `None` is the file as it is.
pub(super) fn choose(
    accept_encoding: Option<&[u8]>,
    offered: impl Iterator<Item = Coding>,
) -> Option<Coding> {
    let list = accept_encoding?;
    let any = weight_of(list, |token| token == b"*");
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let weight = weight_of(list, |token| coding.is_named(token)).or(any).unwrap_or(0);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((coding, weight));
        }
    }
    let (coding, weight) = best?;
    let identity = weight_of(list, |token| token.eq_ignore_ascii_case(b"identity"));
    if identity.is_some_and(|identity| identity > weight) { None } else { Some(coding) }
}

/// The weight, in thousandths, of the first list member that is meant. A weight that cannot be
/// read is 0: what a client says badly it does not get.
fn weight_of(list: &[u8], is_meant: impl Fn(&[u8]) -> bool) -> Option<u16> {
    list.split(|&byte| byte == b',').find_map(|member| {
        let mut parts = member.split(|&byte| byte == b';');
        let token = parts.next()?.trim_ascii();
        is_meant(token).then(|| match parts.next() {
            None => 1000,
            Some(parameter) => thousandths(parameter.trim_ascii()).unwrap_or(0),
        })
    })
}

/// `q=0.5` is 500 (RFC 9110 §12.4.2).
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (&whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => &[],
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    if !matches!(whole, b'0' | b'1') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let fraction =
        [100, 10, 1].iter().zip(digits).map(|(unit, digit)| unit * u16::from(digit - b'0'));
    Some((u16::from(whole - b'0') * 1000 + fraction.sum::<u16>()).min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept_encoding: &str) -> &'static str {
        choose(Some(accept_encoding.as_bytes()), CODINGS.into_iter())
            .map_or("identity", Coding::name)
    }

    #[test]
    fn the_highest_weight_wins_and_the_best_compression_among_equals() {
        for (accept_encoding, expected) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, deflate", "gzip"),
            ("GZIP", "gzip"),
            ("x-gzip", "gzip"),
            ("zstd", "zstd"),
            ("gzip;q=1.0, br;q=0.5", "gzip"),
            ("gzip ; q=0.5 , br ; q=0.501", "br"),
            ("br;q=0, *", "zstd"),
            ("*", "br"),
            ("*;q=0", "identity"),
            ("", "identity"),
            ("identity", "identity"),
            ("deflate", "identity"),
            ("gzip;q=0", "identity"),
            ("gzip;q=0.000", "identity"),
            ("identity;q=1, gzip;q=0.5", "identity"),
            ("identity;q=0.5, gzip;q=1", "gzip"),
            ("identity;q=0, gzip;q=0.001", "gzip"),
            ("identity;q=0", "identity"),
            ("gzip;q=2", "identity"),
            ("gzip;q=nonsense", "identity"),
            ("gzip;q=0.1234", "identity"),
            ("brown", "identity"),
            (",,;q=1,;", "identity"),
        ] {
            assert_eq!(chosen(accept_encoding), expected, "{accept_encoding}");
        }
        assert_eq!(choose(None, CODINGS.into_iter()), None);
    }

    #[test]
    fn only_what_is_there_is_chosen() {
        assert_eq!(choose(Some(b"br, gzip"), [Coding::Gzip].into_iter()), Some(Coding::Gzip));
        assert_eq!(choose(Some(b"br"), [Coding::Gzip].into_iter()), None);
    }
}
