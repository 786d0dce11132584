//! The little JSON that the demo's origins write.

use std::fmt::Write;

/// A JSON string (RFC 8259 section 7); what is not UTF-8 becomes U+FFFD.
pub(crate) fn string(bytes: &[u8]) -> String {
    let mut quoted = String::from('"');
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                // Writing to a String does not fail.
                let _infallible = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn quotes_controls_and_broken_text_are_escaped() {
        assert_eq!(string(b"a\"\\\t\xff"), "\"a\\\"\\\\\\u0009\u{fffd}\"");
    }
}
