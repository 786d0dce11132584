//! Names and values as they stand in paths and queries.

/// The pairs of a query; `None` if something in it cannot be read.
pub(crate) fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name, true)?, decode(value, true)?))
    });
    decoded.collect()
}

/// What a part of a URL stands for: `%2F` is `/`, and in a query `+` is a space. `None` if it is
/// malformed or no UTF-8.
pub(super) fn decode(text: &str, query: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                high << 4 | low
            }
            b'+' if query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// Text as it may stand in a part of a URL.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "a b", "main/backend/http://[::1]:80", "50%", "ä+&="] {
            assert_eq!(decode(&encode(text), true).as_deref(), Some(text));
            assert_eq!(decode(&encode(text), false).as_deref(), Some(text));
        }
        assert_eq!(decode("a+b", true).as_deref(), Some("a b"));
        assert_eq!(decode("a+b", false).as_deref(), Some("a+b"));
    }

    #[test]
    fn what_is_malformed_is_nothing() {
        for text in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(text, true), None, "{text}");
        }
        assert_eq!(pairs("a=%ff"), None);
    }

    #[test]
    fn a_query_is_pairs() {
        let pairs = pairs("a=1&&b&c=x%26y=z").unwrap();
        let expected = [("a", "1"), ("b", ""), ("c", "x&y=z")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
