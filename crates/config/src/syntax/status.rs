//! Response statuses (RFC 9110 section 15).

/// A status that a response can have.
pub(crate) fn status(number: i128) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(status @ 100..=599) => Ok(status),
        _ => Err("a status is a number from 100 to 599".to_owned()),
    }
}

/// "200", "200-399" or "2xx", both ends included.
pub(crate) fn statuses(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| -> Result<u16, String> {
        match text.trim().parse::<u16>() {
            Ok(number) => status(number.into()),
            Err(_) => Err("expected a status, or such as \"200-399\" or \"5xx\"".to_owned()),
        }
    };
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        return match class.parse::<u16>() {
            Ok(class @ 1..=5) => Ok((class * 100, class * 100 + 99)),
            _ => Err("there are the classes \"1xx\" to \"5xx\"".to_owned()),
        };
    }
    let range = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if range.0 > range.1 {
        return Err("the range ends before it begins".to_owned());
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_classes() {
        for (text, range) in [
            ("404", (404, 404)),
            ("200-399", (200, 399)),
            ("200 - 204", (200, 204)),
            ("5xx", (500, 599)),
            ("1XX", (100, 199)),
        ] {
            assert_eq!(statuses(text), Ok(range), "{text}");
        }
        for text in ["", "99", "600", "6xx", "xx", "300-200", "200-", "-1", "2x", "200-299-399"] {
            assert!(statuses(text).is_err(), "{text}");
        }
    }
}
