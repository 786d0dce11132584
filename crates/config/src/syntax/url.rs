//! Upstream URLs, and paths as routes and rewrites have them.

use std::net::{IpAddr, Ipv6Addr};

use super::address::{Hint, host_name, unix_path};
use crate::model::{UpstreamAddress, UpstreamHttp};

/// An upstream URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpstreamUrl {
    pub(crate) address: UpstreamAddress,
    /// Empty, or starts with "/" and does not end with it.
    pub(crate) base_path: String,
    /// The scheme asks for TLS.
    pub(crate) tls: bool,
    pub(crate) http: UpstreamHttp,
    /// The host has SRV records to look up.
    pub(crate) srv: bool,
}

/// `http://host[:port][/base]`, the same with `https`, `ws`, `wss`, `h2` or `h2c`, or `unix:/path`;
/// `srv+` before a scheme for a host with SRV records and without a port.
pub(crate) fn upstream(url: &str) -> Result<UpstreamUrl, Hint> {
    if let Some(path) = url.strip_prefix("unix:") {
        let address = UpstreamAddress::Unix(unix_path(path).map_err(Hint::because)?);
        let base_path = String::new();
        return Ok(UpstreamUrl {
            address,
            base_path,
            tls: false,
            http: UpstreamHttp::Http1,
            srv: false,
        });
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        if let Some((scheme, rest)) = url.split_once(':')
            && matches!(
                scheme.strip_prefix("srv+").unwrap_or(scheme),
                "http" | "ws" | "https" | "wss" | "h2" | "h2c"
            )
            && !rest.starts_with(|c: char| c.is_ascii_digit())
        {
            let reason = format!("two slashes follow `{scheme}:`");
            let instead = format!("{scheme}://{}", rest.trim_start_matches('/'));
            let instead = upstream(&instead).is_ok().then_some(instead);
            return Err(Hint { reason, instead });
        }
        let reason = "the scheme is missing".to_owned();
        let instead = authority(url.split('/').next().unwrap_or(""), 80).is_ok();
        return Err(Hint { reason, instead: instead.then(|| format!("http://{url}")) });
    };
    let scheme = scheme.to_ascii_lowercase();
    let srv = scheme.starts_with("srv+");
    let (tls, http) = match scheme.strip_prefix("srv+").unwrap_or(&scheme) {
        "http" | "ws" => (false, UpstreamHttp::Http1),
        "https" | "wss" => (true, UpstreamHttp::Http1),
        "h2c" => (false, UpstreamHttp::Http2),
        "h2" => (true, UpstreamHttp::Http2),
        "http+unix" => return Err(written_as_unix(rest)),
        "grpc" => return Err(over_http2("h2c", rest)),
        "grpcs" => return Err(over_http2("h2", rest)),
        _ => {
            let reason =
                "the scheme must be http, https, ws, wss, h2 or h2c, or the value unix:/path";
            return Err(Hint::because(reason));
        }
    };
    if let Some(path) = rest.strip_prefix("unix:") {
        return Err(written_as_unix(path));
    }
    if rest.contains(['?', '#']) {
        return Err(Hint::because("an upstream URL has no query and no fragment"));
    }
    let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = authority(host, if tls { 443 } else { 80 }).map_err(Hint::because)?;
    if srv {
        without_port(&scheme, rest, host, &address)?;
    }
    let base = base.trim_end_matches('/');
    let base_path =
        if base.is_empty() { String::new() } else { path(base).map_err(Hint::because)? };
    Ok(UpstreamUrl { address, base_path, tls, http, srv })
}

/// The ports of a host with SRV records come from these.
fn without_port(
    scheme: &str,
    rest: &str,
    host: &str,
    address: &UpstreamAddress,
) -> Result<(), Hint> {
    let UpstreamAddress::Tcp { host: name, .. } = address else { return Ok(()) };
    if name.parse::<IpAddr>().is_ok() {
        let plain = scheme.trim_start_matches("srv+");
        let reason = "an address has no SRV records".to_owned();
        return Err(Hint { reason, instead: Some(format!("{plain}://{rest}")) });
    }
    if let Some((bare, _)) = host.split_once(':') {
        let reason = "SRV records give the port".to_owned();
        let base = rest.strip_prefix(host).unwrap_or("");
        return Err(Hint { reason, instead: Some(format!("{scheme}://{bare}{base}")) });
    }
    Ok(())
}

/// gRPC is HTTP/2, which is what the scheme says here.
fn over_http2(scheme: &str, rest: &str) -> Hint {
    let reason = format!("gRPC is spoken over HTTP/2, whose scheme is {scheme}");
    Hint { reason, instead: Some(format!("{scheme}://{rest}")) }
}

/// A Unix socket in the way of another system.
fn written_as_unix(path: &str) -> Hint {
    let path = path.split(':').next().unwrap_or("").trim_start_matches('/');
    let reason = "a Unix socket is written as \"unix:/path\"".to_owned();
    Hint { reason, instead: Some(format!("unix:/{path}")) }
}

/// A host and an optional port, which is `default` if it is not there.
pub(crate) fn authority(text: &str, default: u16) -> Result<UpstreamAddress, String> {
    if text.contains('@') {
        return Err("an upstream URL has no user and no password".to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => default,
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

/// A path with a query, as a request line has them. Nothing is changed in it.
pub(crate) fn request_target(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("a path must start with \"/\"".to_owned());
    }
    if text.contains('#') {
        return Err("a fragment is never sent".to_owned());
    }
    if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(unencoded(text));
    }
    Ok(())
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
        let unix = |path: &str| UpstreamAddress::Unix(path.into());
        for (url, address, base) in [
            ("http://A.internal:3001", tcp("a.internal", 3001), ""),
            ("ws://a/base/", tcp("a", 80), "/base"),
            ("http://[::1]:9/", tcp("::1", 9), ""),
            ("http://[::1]", tcp("::1", 80), ""),
            ("unix:///run/a", unix("/run/a"), ""),
            ("unix:/run/a.sock", unix("/run/a.sock"), ""),
        ] {
            let Ok(parsed) = upstream(url) else { panic!("{url}") };
            assert_eq!((parsed.address, &*parsed.base_path), (address, base), "{url}");
            assert_eq!((parsed.tls, parsed.http), (false, UpstreamHttp::Http1), "{url}");
        }
    }

    #[test]
    fn the_scheme_says_what_is_spoken() {
        for (url, port, tls, http) in [
            ("https://a", 443, true, UpstreamHttp::Http1),
            ("WSS://a:1", 1, true, UpstreamHttp::Http1),
            ("h2://a", 443, true, UpstreamHttp::Http2),
            ("h2c://a/b", 80, false, UpstreamHttp::Http2),
        ] {
            let Ok(parsed) = upstream(url) else { panic!("{url}") };
            let found = (parsed.address, parsed.tls, parsed.http);
            assert_eq!(found, (tcp("a", port), tls, http), "{url}");
        }
    }

    #[test]
    fn hosts_with_srv_records_have_no_port() {
        for (url, port, tls, base) in [
            ("srv+http://_api._tcp.example.com", 80, false, ""),
            ("SRV+https://a.example/base", 443, true, "/base"),
        ] {
            let Ok(parsed) = upstream(url) else { panic!("{url}") };
            let host = if tls { "a.example" } else { "_api._tcp.example.com" };
            assert!(parsed.srv, "{url}");
            assert_eq!((parsed.address, parsed.tls), (tcp(host, port), tls), "{url}");
            assert_eq!(parsed.base_path, base, "{url}");
        }
        for (url, instead) in [
            ("srv+http://a.example:80/b", Some("srv+http://a.example/b")),
            ("srv+http://127.0.0.1/b", Some("http://127.0.0.1/b")),
            ("srv+http://[::1]:80", Some("http://[::1]:80")),
            ("srv+unix:/x", None),
            ("srv+ftp://a", None),
        ] {
            let Err(hint) = upstream(url) else { panic!("{url}") };
            assert_eq!(hint.instead.as_deref(), instead, "{url}");
        }
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
