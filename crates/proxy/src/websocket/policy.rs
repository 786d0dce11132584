//! Who may open a WebSocket: a pure function of a request's fields, asked before an endpoint is.

use config::model::{Origins, WebSocket};

/// What the decision depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// It asks for a WebSocket.
    pub(crate) upgrade: bool,
    /// Its `Origin`; of several all but the first are not looked at, `several` says that there are.
    pub(crate) origin: Option<&'a [u8]>,
    /// It has more than one `Origin`.
    pub(crate) several: bool,
    /// Host and port as the client named them.
    pub(crate) authority: &'a [u8],
    /// The client is known to use TLS.
    pub(crate) secure: bool,
}

/// Why there will be no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nothing but a WebSocket is here (RFC 9110 §15.5.22): 426.
    NotAsked,
    /// The page that asks is none of those that may: 403.
    Origin,
}

/// Whether the request may go on to the upstream.
pub(crate) fn judge(settings: &WebSocket, asked: &Asked<'_>) -> Result<(), Refused> {
    if !asked.upgrade {
        return if settings.required { Err(Refused::NotAsked) } else { Ok(()) };
    }
    let Origins::Listed(patterns) = &settings.origins else { return Ok(()) };
    let Some(origin) = asked.origin else { return Ok(()) };
    // Whoever takes another of them than we do would be led astray.
    let admitted = !asked.several && may_open(patterns, origin, asked);
    if admitted { Ok(()) } else { Err(Refused::Origin) }
}

/// Whether a page of `origin` may, on the host that was asked for or by a pattern.
fn may_open(patterns: &[String], origin: &[u8], asked: &Asked<'_>) -> bool {
    let Ok(origin) = str::from_utf8(origin) else { return false };
    let origin = origin.to_ascii_lowercase();
    // What is no URL ("null", of a page without an origin) has to be named as it is.
    let Some((scheme, place)) = origin.split_once("://") else {
        return patterns.contains(&origin);
    };
    // An origin is a scheme, a host and perhaps a port (RFC 6454 §7.1). A pattern for the end of a host is
    // not for the end of a path.
    if place.contains(['/', '\\', '?', '#', '@']) {
        return false;
    }
    let Ok(authority) = str::from_utf8(asked.authority) else { return false };
    let default = match scheme {
        "http" | "ws" => "80",
        "https" | "wss" => "443",
        _ => "",
    };
    // Whoever can change what http brings must not get at what TLS protects. The other way round a
    // page of https may: TLS may end before Ravelin without its knowing.
    let asked_secure = asked.secure;
    let asked = authority.to_ascii_lowercase();
    let (host, port) = split_port(place);
    let port = port.unwrap_or(default);
    let (asked_host, asked_port) = split_port(&asked);
    let scheme_fits = if asked_secure { default == "443" } else { !default.is_empty() };
    if host == asked_host && port == asked_port.unwrap_or(default) && scheme_fits {
        return !host.is_empty();
    }
    patterns.iter().any(|pattern| {
        let bare = port == default && matches(pattern.as_bytes(), host.as_bytes());
        bare || matches(pattern.as_bytes(), place.as_bytes())
    })
}

/// Host and port of an authority; an IPv6 literal keeps its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, Some(port).filter(|port| !port.is_empty()))
        }
        _ => (authority, None),
    }
}

/// Whether all of `text` matches: `*` stands for any characters, `?` for one. Linear but for the last
/// star, which is tried at every place: bounded by the two lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut in_pattern) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(at) {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                star = Some((in_pattern + 1, at));
                in_pattern += 1;
            }
            Some(wanted) if wanted == byte || *wanted == b'?' => {
                at += 1;
                in_pattern += 1;
            }
            _ => match &mut star {
                Some((behind, from)) => {
                    *from += 1;
                    (in_pattern, at) = (*behind, *from);
                }
                None => return false,
            },
        }
    }
    pattern.get(in_pattern..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(origins: Origins, origin: Option<&str>, authority: &str) -> bool {
        judged_over(false, origins, origin, authority)
    }

    fn judged_over(secure: bool, origins: Origins, origin: Option<&str>, authority: &str) -> bool {
        let settings = WebSocket { origins, ..WebSocket::default() };
        let asked = Asked {
            upgrade: true,
            origin: origin.map(str::as_bytes),
            several: false,
            authority: authority.as_bytes(),
            secure,
        };
        judge(&settings, &asked).is_ok()
    }

    fn listed(patterns: &[&str]) -> Origins {
        Origins::Listed(patterns.iter().map(|&pattern| pattern.to_owned()).collect())
    }

    #[test]
    fn the_same_host_and_port_may_and_others_may_not() {
        for (origin, authority, may) in [
            (None, "example.com", true),
            (Some("https://example.com"), "example.com", true),
            (Some("HTTPS://Example.COM"), "eXample.com", true),
            (Some("https://example.com"), "example.com:443", true),
            (Some("https://example.com:443"), "example.com", true),
            (Some("http://example.com"), "example.com:80", true),
            (Some("https://example.com:8443"), "example.com:8443", true),
            (Some("http://[::1]:8080"), "[::1]:8080", true),
            (Some("http://[::1]"), "[::1]", true),
            (Some("https://example.com"), "example.com:8443", false),
            (Some("https://example.com:8443"), "example.com", false),
            (Some("https://evil.example"), "example.com", false),
            (Some("https://example.com.evil.example"), "example.com", false),
            (Some("https://evilexample.com"), "example.com", false),
            (Some("https://example.com@evil.example"), "example.com", false),
            (Some("null"), "example.com", false),
            (Some("null"), "null", false),
            (Some(""), "", false),
            (Some("https://"), "", false),
            (Some("\u{fc}"), "example.com", false),
        ] {
            assert_eq!(judged(listed(&[]), origin, authority), may, "{origin:?} at {authority}");
            assert!(judged(Origins::Any, origin, authority));
        }
    }

    #[test]
    fn over_tls_a_page_without_it_is_not_the_same() {
        for (origin, authority, plain, over_tls) in [
            ("http://example.com", "example.com", true, false),
            ("ws://example.com", "example.com", true, false),
            ("https://example.com", "example.com", true, true),
            ("wss://example.com", "example.com:443", true, true),
            ("http://example.com:80", "example.com", true, false),
            ("http://example.com:8443", "example.com:8443", true, false),
            ("https://example.com:8443", "example.com:8443", true, true),
            ("http://example.com:443", "example.com", false, false),
            ("ftp://example.com", "example.com", false, false),
            ("app://example.com:8443", "example.com:8443", false, false),
        ] {
            for (secure, may) in [(false, plain), (true, over_tls)] {
                let judged = judged_over(secure, listed(&[]), Some(origin), authority);
                assert_eq!(judged, may, "{origin} at {authority}, TLS {secure}");
            }
        }
        assert!(judged_over(true, listed(&["example.com"]), Some("http://example.com"), "x.test"));
    }

    #[test]
    fn patterns_match_hosts_with_and_without_port() {
        let patterns = ["*.example.com", "app.example.org:8443", "dev-?.test:*", "null"];
        for (origin, may) in [
            ("https://a.example.com", true),
            ("https://a.b.example.com", true),
            ("https://A.EXAMPLE.com", true),
            ("https://a.example.com:443", true),
            ("https://a.example.com:8443", false),
            ("https://example.com", false),
            ("https://aexample.com", false),
            ("https://a.example.com.evil.example", false),
            ("https://evil.example/a.example.com", false),
            ("https://evil.example?a.example.com", false),
            ("https://evil.example#a.example.com", false),
            ("https://evil.example\\a.example.com", false),
            ("https://user@a.example.com", false),
            ("https://app.example.org:8443", true),
            ("https://app.example.org", false),
            ("http://dev-1.test:3000", true),
            ("http://dev-12.test:3000", false),
            ("http://dev-1.test", false),
            ("null", true),
        ] {
            assert_eq!(judged(listed(&patterns), Some(origin), "x.test"), may, "{origin}");
        }
        assert!(judged(listed(&["*"]), Some("https://any.example"), "x.test"));
        assert!(!judged(listed(&["*"]), Some("null"), "x.test"));
    }

    #[test]
    fn stars_take_as_much_as_they_have_to() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("*", "", true),
            ("**", "abc", true),
            ("a*c", "abcbc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("?", "", false),
            ("a?", "ab", true),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn two_origins_are_none_and_a_request_without_upgrade_may_be_refused() {
        let settings =
            WebSocket { origins: listed(&["*"]), required: true, ..WebSocket::default() };
        let origin = Some(&b"https://a.example"[..]);
        let asked =
            Asked { upgrade: true, origin, several: true, authority: b"a.example", secure: false };
        assert_eq!(judge(&settings, &asked), Err(Refused::Origin));
        let plain = Asked { upgrade: false, several: false, ..asked };
        assert_eq!(judge(&settings, &plain), Err(Refused::NotAsked));
        assert_eq!(judge(&WebSocket::default(), &plain), Ok(()));
    }
}
