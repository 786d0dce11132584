//! Distinguished names as text (RFC 4514).
//!
//! Why it exists: the text reaches upstreams in a header field, and they decide by it. So whoever
//! chose the name must not be able to write into it what looks like another part of it, and it has to
//! fit in a field.
//!
//! What always holds: the text is printable ASCII; what else a value holds is escaped byte by byte.

use std::fmt::Write as _;

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::facts::hex;

/// Short names of attribute types: those of RFC 4514 §3, and what most software writes for others.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The last part of the name first, parts separated by commas.
pub(super) fn one_line(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        for (index, attribute) in part.iter().enumerate() {
            match index {
                0 if text.is_empty() => {}
                0 => text.push(','),
                _ => text.push('+'),
            }
            write(&mut text, attribute);
        }
    }
    text
}

fn write(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let known = SHORT_NAMES.iter().find(|(id, _)| *id == oid);
    text.push_str(known.map_or(&oid, |(_, name)| name));
    text.push('=');
    match attribute.as_str() {
        Ok(value) => escape(text, value),
        // Not a string: its bytes (RFC 4514 §2.4).
        Err(_) => {
            text.push('#');
            text.push_str(&hex(attribute.as_slice()));
        }
    }
}

/// RFC 4514 §2.4.
fn escape(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' if index == 0 => text.push_str("\\#"),
            b' ' if index == 0 || index == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}"); // never fails for a String
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn rfc4514_2_4_a_value_cannot_look_like_another_attribute_or_leave_its_line() {
        for (value, expected) in [
            ("Ravelin", "Ravelin"),
            ("a, O=Admin", "a\\, O=Admin"),
            ("a+OU=x", "a\\+OU=x"),
            ("#hex", "\\#hex"),
            (" both ends ", "\\ both ends\\ "),
            (" ", "\\ "),
            ("a\r\nX: y", "a\\0D\\0AX: y"),
            ("Lučić", "Lu\\C4\\8Di\\C4\\87"),
            ("back\\slash \"quoted\" <;>", "back\\\\slash \\\"quoted\\\" \\<\\;\\>"),
            ("", ""),
        ] {
            let mut text = String::new();
            escape(&mut text, value);
            assert_eq!(text, expected);
        }
    }
}
