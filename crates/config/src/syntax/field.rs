//! Header field names and values (RFC 9110 section 5).

use wire::text::steers;

/// Fields that say how one connection or one message is framed. Ravelin writes them itself; a rule
/// that changed them would let two parties disagree on where a message ends.
const MANAGED: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Checks a field name: a token (RFC 9110 section 5.6.2).
pub(crate) fn field_name(name: &str) -> Result<(), String> {
    token("a field name", name)
}

/// Checks a method: a token too (RFC 9110 section 9.1).
pub(crate) fn method_name(name: &str) -> Result<(), String> {
    token("a method", name)
}

fn token(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} must not be empty"));
    }
    match text.chars().find(|&c| !is_token_char(c)) {
        None => Ok(()),
        Some(c) => Err(format!("{what} must not contain {}", named(c))),
    }
}

/// Checks a field value and takes the blanks around it off.
pub(crate) fn field_value(value: &str) -> Result<&str, String> {
    match value.chars().find(|&c| c.is_control() && c != '\t') {
        None => Ok(value.trim_matches([' ', '\t'])),
        Some(c) => Err(format!("a field value must not contain {}", named(c))),
    }
}

/// Whether Ravelin alone may write this field.
pub(crate) fn managed_field(name: &str) -> bool {
    MANAGED.iter().any(|managed| managed.eq_ignore_ascii_case(name))
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

pub(super) fn named(c: char) -> String {
    match c {
        '\r' | '\n' => "a line break".to_owned(),
        '\0' => "a NUL character".to_owned(),
        ' ' => "a blank".to_owned(),
        c if c.is_control() => format!("the control character U+{:04X}", u32::from(c)),
        c if steers(c) => format!("the character U+{:04X}", u32::from(c)),
        c => format!("`{c}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_and_nul_never_pass() {
        for value in ["a\r\nX: y", "a\nb", "a\rb", "a\0b", "\u{7f}", "a\u{85}b"] {
            assert!(field_value(value).is_err(), "{value:?}");
            assert!(field_name(value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn names_are_tokens() {
        assert_eq!(field_name("X-Frame-Options"), Ok(()));
        for name in ["", "a b", "a:", "ä", "a(b)"] {
            assert!(field_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn blanks_around_a_value_are_not_part_of_it() {
        assert_eq!(field_value(" 1; mode=block\t"), Ok("1; mode=block"));
    }
}
