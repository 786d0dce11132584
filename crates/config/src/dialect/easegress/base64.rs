//! Base64 (RFC 4648 section 4), for certificates and credentials in configurations.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text for some bytes, padded.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits: u32 = 0;
        for at in 0..3 {
            bits = bits << 8 | u32::from(group.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let letter = LETTERS.get((bits >> (18 - 6 * at)) as usize & 63).copied();
            let letter = letter.filter(|_| at <= group.len()).unwrap_or(b'=');
            text.push(char::from(letter));
        }
    }
    text
}

/// The bytes of a text, which may have line ends in it; `None` if it is none.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count): (u32, u32) = (0, 0);
    let letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let mut ended = false;
    for letter in letters {
        if letter == b'=' {
            ended = true;
            continue;
        }
        let value = LETTERS.iter().position(|known| *known == letter).filter(|_| !ended)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (count < 6 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 section 10.
    #[test]
    fn the_vectors_of_the_standard() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(decode("Zm 9v\nYg==").as_deref(), Some(&b"foob"[..]));
        for none in ["Z", "Zg=x", "Zm9v!", "Zh"] {
            assert_eq!(decode(none), None, "{none}");
        }
    }
}
