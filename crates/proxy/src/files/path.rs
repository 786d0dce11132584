//! From the canonical path of a request to a path below the root.
//!
//! The one place where percent-encoding is undone. What always holds afterwards: no NUL, no
//! backslash, no empty segment but a last one, no segment `.` or `..`; so a path can lead upward
//! through a symbolic link only, which is the concern of [`super::root`].
//!
//! Names that begin with a dot are served like any other: `/.well-known/` needs it, and what must
//! not be read must not lie below the root.

use std::ffi::CString;

/// The path below the root that a canonical path names, percent-decoded once, without its leading
/// slash. Empty for `/`; ends in a slash where the request does. `None` if no file can have it.
pub(super) fn below_root(canonical: &[u8]) -> Option<Vec<u8>> {
    let path = decode(canonical.strip_prefix(b"/")?)?;
    is_plain(path.strip_suffix(b"/").unwrap_or(&path), path.is_empty()).then_some(path)
}

/// The path that a configuration file names below the root, such as `/errors/404.html`; `None`
/// if it is not below the root.
pub(super) fn configured(path: &str) -> Option<CString> {
    let path = path.strip_prefix("./").unwrap_or(path).trim_start_matches('/').as_bytes();
    if is_plain(path, false) { CString::new(path).ok() } else { None }
}

fn is_plain(path: &[u8], may_be_empty: bool) -> bool {
    if path.is_empty() {
        return may_be_empty;
    }
    path.split(|&byte| byte == b'/').all(|segment| {
        !matches!(segment, b"" | b"." | b"..") && !segment.iter().any(|b| matches!(b, 0 | b'\\'))
    })
}

/// Undoes percent-encoding; `None` for a malformed escape and for one that hides a slash.
fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let byte = hex(*rest.next()?)? << 4 | hex(*rest.next()?)?;
        if byte == b'/' {
            return None;
        }
        decoded.push(byte);
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once() {
        assert_eq!(below_root(b"/").as_deref(), Some(&b""[..]));
        assert_eq!(below_root(b"/a/b%20c.txt").as_deref(), Some(&b"a/b c.txt"[..]));
        assert_eq!(below_root(b"/caf%C3%A9/").as_deref(), Some("café/".as_bytes()));
        assert_eq!(below_root(b"/%2541").as_deref(), Some(&b"%41"[..]));
        assert_eq!(below_root(b"/.well-known/x").as_deref(), Some(&b".well-known/x"[..]));
        assert_eq!(below_root(b"/...").as_deref(), Some(&b"..."[..]));
    }

    #[test]
    fn nothing_that_could_lead_upward_is_a_path() {
        for path in [
            "",
            "a",
            "//",
            "//a",
            "/a//b",
            "/..",
            "/../",
            "/a/..",
            "/a/../b",
            "/.",
            "/./a",
            "/%2e%2e",
            "/%2e%2e/a",
            "/.%2E/a",
            "/a%2f..",
            "/a%2Fb",
            "/a%5Cb",
            "/a\\b",
            "/..%5c..",
            "/a%00",
            "/%",
            "/%2",
            "/%zz",
            "/a/%2e/b",
        ] {
            assert_eq!(below_root(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn configured_paths_stay_below_the_root() {
        assert_eq!(configured("/errors/404.html").as_deref(), Some(c"errors/404.html"));
        assert_eq!(configured("./404.html").as_deref(), Some(c"404.html"));
        for path in ["", "/", "../secret", "a/../../b", "a\0b"] {
            assert_eq!(configured(path), None, "{path:?}");
        }
    }
}
