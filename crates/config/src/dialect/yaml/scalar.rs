//! What a scalar without quotes is: the core schema of YAML 1.2 (YAML 1.2.2, 10.3.2).

use crate::tree::Value;

/// The value of a scalar that stands without quotes and tag.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    integer(text)
        .map(Value::Integer)
        .or_else(|| float(text).map(Value::Float))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A whole number, or the largest one there is: every key's range ends far below it.
fn integer(text: &str) -> Option<i128> {
    let (digits, radix) = match text.get(..2) {
        Some("0o") => (text.get(2..)?, 8),
        Some("0x") => (text.get(2..)?, 16),
        _ => (text, 10),
    };
    let bare = if radix == 10 { digits.strip_prefix(['-', '+']).unwrap_or(digits) } else { digits };
    if bare.is_empty() || !bare.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let limit = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    Some(i128::from_str_radix(digits, radix).unwrap_or(limit))
}

fn float(text: &str) -> Option<f64> {
    let (sign, bare) = match text.strip_prefix('-') {
        Some(bare) => (-1.0, bare),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    match bare {
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if bare.len() == text.len() => return Some(f64::NAN),
        _ => {}
    }
    let starts = bare.starts_with(|c: char| c.is_ascii_digit())
        || bare.strip_prefix('.')?.starts_with(|c: char| c.is_ascii_digit());
    let number = |c: char| c.is_ascii_digit() || ".eE+-".contains(c);
    if !starts || !bare.chars().all(number) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        for (text, expected) in [
            ("", "Null"),
            ("~", "Null"),
            ("true", "Bool(true)"),
            ("FALSE", "Bool(false)"),
            ("0", "Integer(0)"),
            ("-12", "Integer(-12)"),
            ("+7", "Integer(7)"),
            ("0o17", "Integer(15)"),
            ("0xfF", "Integer(255)"),
            ("0755", "Integer(755)"),
            ("1.5", "Float(1.5)"),
            ("1.", "Float(1.0)"),
            (".5", "Float(0.5)"),
            ("1e3", "Float(1000.0)"),
            ("-.inf", "Float(-inf)"),
            (".nan", "Float(NaN)"),
        ] {
            assert_eq!(format!("{:?}", plain(text)), expected, "{text}");
        }
        for text in [
            "yes", "on", "No", "off", "y", "tRue", "1_000", "0b1", "0o8", "0x", "-", "+", ".",
            "..", "1.2.3", "1e", "e1", "10.0.0.1", "12:30", "60s", "-0x1", "inf", "nan", "-.nan",
            "２",
        ] {
            let written = matches!(plain(text), Value::String(same) if same == text);
            assert!(written, "{text} is a string");
        }
    }

    #[test]
    fn numbers_too_long_for_any_key_are_the_longest_there_are() {
        let digits = "9".repeat(60);
        assert!(matches!(plain(&digits), Value::Integer(i128::MAX)));
        assert!(matches!(plain(&format!("-{digits}")), Value::Integer(i128::MIN)));
    }
}
