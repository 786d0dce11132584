//! Upstream URLs, and paths as routes and rewrites have them.

use std::net::Ipv6Addr;

use super::address::{host_name, unix_path};
use crate::model::UpstreamAddress;

/// Why an upstream URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// `https` or `wss`: it must never be spoken to in plain text.
    Tls,
    /// Anything else, and perhaps what was meant.
    Because { reason: String, instead: Option<String> },
}

/// `http://host[:port][/base]`, `ws://…` or `unix:/path`; returns the address and the base path.
pub(crate) fn upstream(url: &str) -> Result<(UpstreamAddress, String), Rejected> {
    if let Some(path) = url.strip_prefix("unix:") {
        let path = unix_path(path).map_err(because)?;
        return Ok((UpstreamAddress::Unix(path), String::new()));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        if let Some((scheme @ ("http" | "ws"), rest)) = url.split_once(':')
            && !rest.starts_with(|c: char| c.is_ascii_digit())
        {
            let reason = format!("two slashes follow `{scheme}:`");
            let instead = format!("{scheme}://{}", rest.trim_start_matches('/'));
            let instead = upstream(&instead).is_ok().then_some(instead);
            return Err(Rejected::Because { reason, instead });
        }
        let reason = "the scheme is missing".to_owned();
        let instead = authority(url.split('/').next().unwrap_or("")).is_ok();
        return Err(Rejected::Because {
            reason,
            instead: instead.then(|| format!("http://{url}")),
        });
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => {}
        "https" | "wss" => return Err(Rejected::Tls),
        "http+unix" => return Err(written_as_unix(rest)),
        _ => return Err(because("the scheme must be http or ws, or the value unix:/path")),
    }
    if let Some(path) = rest.strip_prefix("unix:") {
        return Err(written_as_unix(path));
    }
    if rest.contains(['?', '#']) {
        return Err(because("an upstream URL has no query and no fragment"));
    }
    let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = authority(host).map_err(because)?;
    let base = base.trim_end_matches('/');
    let base = if base.is_empty() { String::new() } else { path(base).map_err(because)? };
    Ok((address, base))
}

/// A Unix socket in the way of another system.
fn written_as_unix(path: &str) -> Rejected {
    let path = path.split(':').next().unwrap_or("").trim_start_matches('/');
    let reason = "a Unix socket is written as \"unix:/path\"".to_owned();
    Rejected::Because { reason, instead: Some(format!("unix:/{path}")) }
}

fn because(reason: impl Into<String>) -> Rejected {
    Rejected::Because { reason: reason.into(), instead: None }
}

/// A host and an optional port.
pub(crate) fn authority(text: &str) -> Result<UpstreamAddress, String> {
    const HTTP_PORT: u16 = 80;
    if text.contains('@') {
        return Err("an upstream URL has no user and no password".to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => HTTP_PORT,
        Some(Ok(port)) if port > 0 => port,
        _ => return Err("the port must be a number from 1 to 65535".to_owned()),
    };
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match literal.map(str::parse::<Ipv6Addr>) {
        Some(Ok(ip)) => ip.to_string(),
        Some(Err(_)) => return Err("expected an IPv6 address in the brackets".to_owned()),
        None if host.contains(':') => return Err("an IPv6 address stands in brackets".to_owned()),
        None => host_name(host)?,
    };
    Ok(UpstreamAddress::Tcp { host, port })
}

/// An absolute path in the canonical form that requests are matched in. What no request can contain in
/// that form is refused.
pub(crate) fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("a path must start with \"/\"".to_owned());
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#' | '\\')) {
        return Err(format!("a path must not contain `{c}`"));
    }
    if text.contains("//") {
        return Err("a path must not contain \"//\": requests have such slashes merged".to_owned());
    }
    if text.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(
            "a path must not contain \".\" or \"..\" segments: requests have them resolved"
                .to_owned(),
        );
    }
    if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(unencoded(text));
    }
    let allow_encoded_slashes = true; // whether requests may have them is another key's affair
    match wire::target::parse_target(b"GET", text.as_bytes(), allow_encoded_slashes) {
        Ok(target) => Ok(String::from_utf8_lossy(&target.path).into_owned()),
        Err(wire::target::TargetError::Percent) => {
            Err("`%` must be followed by two hexadecimal digits".to_owned())
        }
        Err(error) => Err(format!("no request can have this path: {}", error.reason())),
    }
}

/// The reason for a path with bytes that must be encoded, and how they are.
fn unencoded(text: &str) -> String {
    let encoded: String = text
        .bytes()
        .map(|byte| match byte.is_ascii_graphic() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    format!("blanks and non-ASCII characters must be encoded: \"{encoded}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> UpstreamAddress {
        UpstreamAddress::Tcp { host: host.into(), port }
    }

    #[test]
    fn upstream_urls() {
        assert_eq!(
            upstream("http://A.internal:3001"),
            Ok((tcp("a.internal", 3001), String::new()))
        );
        assert_eq!(upstream("ws://a/base/"), Ok((tcp("a", 80), "/base".into())));
        assert_eq!(upstream("http://[::1]:9/"), Ok((tcp("::1", 9), String::new())));
        assert_eq!(upstream("http://[::1]"), Ok((tcp("::1", 80), String::new())));
        assert_eq!(
            upstream("unix:///run/a"),
            Ok((UpstreamAddress::Unix("/run/a".into()), "".into()))
        );
        assert_eq!(
            upstream("unix:/run/a.sock"),
            Ok((UpstreamAddress::Unix("/run/a.sock".into()), String::new()))
        );
    }

    #[test]
    fn tls_is_never_spoken_to_in_plain_text() {
        assert_eq!(upstream("https://a"), Err(Rejected::Tls));
        assert_eq!(upstream("WSS://a"), Err(Rejected::Tls));
    }

    #[test]
    fn upstream_urls_that_are_none() {
        for url in [
            "",
            "a:80",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:x",
            "http://a:",
            "ftp://a",
            "http://u:p@a",
            "http://a?x",
            "http://a#x",
            "http://a/b c",
            "http://::1:80",
            "http://[x]:80",
            "unix:a",
            "http://a b/",
            "http://a/../b",
            "http://a\r\n",
            "http+unix://x",
            "http://unix:/x",
        ] {
            assert!(upstream(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn paths_are_canonical() {
        assert_eq!(path("/a%2fb%41%c3"), Ok("/a%2FbA%C3".into()));
        for text in [
            "",
            "a",
            "/a?b",
            "/a//b",
            "/a/../b",
            "/%2e%2e/",
            "/a b",
            "/é",
            "/%",
            "/%zz",
            "/%00",
            "/a\\b",
            "/a/..;/b",
            "/a%00",
            "/a/%2e%2e",
        ] {
            assert!(path(text).is_err(), "{text:?}");
        }
    }
}
