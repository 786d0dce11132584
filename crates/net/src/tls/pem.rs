//! PEM text as editors and other systems leave it.

use std::borrow::Cow;

/// What Windows' editors put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// PEM without byte order marks, which would hide the first line behind them from its reader; files
/// put together from several may have one in the middle, too.
///
/// # Errors
/// The text is in UTF-16, in which there is no PEM.
pub fn pem_text(bytes: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16 text; save it as ASCII or UTF-8");
    }
    let is_mark = |part: &[u8]| part == BYTE_ORDER_MARK;
    if !bytes.windows(BYTE_ORDER_MARK.len()).any(is_mark) {
        return Ok(bytes.into());
    }
    let mut clean = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, others)) = rest.split_first() {
        rest = match rest.strip_prefix(BYTE_ORDER_MARK) {
            Some(behind) => behind,
            None => {
                clean.push(*first);
                others
            }
        };
    }
    Ok(clean.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_are_left_out_wherever_they_are() {
        let clean = |bytes: &[u8]| pem_text(bytes).unwrap().into_owned();
        assert_eq!(clean(b"\xef\xbb\xbfa\nb\xef\xbb"), b"a\nb\xef\xbb");
        assert_eq!(clean(b"a\n\xef\xbb\xbf\xef\xbb\xbfb\n\xef\xbb\xbf"), b"a\nb\n");
        assert!(matches!(pem_text(b"as it is"), Ok(Cow::Borrowed(_))));
        assert!(pem_text(b"\xff\xfe-\0-\0").unwrap_err().contains("UTF-16"));
        assert!(pem_text(b"\xfe\xff\0-\0-").unwrap_err().contains("UTF-16"));
    }
}
