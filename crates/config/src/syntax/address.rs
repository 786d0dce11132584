//! Host names, listen addresses and networks.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::model::{HostPattern, Listen};

/// Why a value cannot be used, and perhaps what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) reason: String,
    pub(crate) instead: Option<String>,
}

impl Hint {
    pub(super) fn because(reason: impl Into<String>) -> Hint {
        Hint { reason: reason.into(), instead: None }
    }

    fn instead(reason: impl Into<String>, instead: impl Into<String>) -> Hint {
        Hint { reason: reason.into(), instead: Some(instead.into()) }
    }
}

/// A host name, an IP literal, `*.example.com`, or `*` / `_` for any host.
pub(crate) fn host_pattern(text: &str) -> Result<HostPattern, Hint> {
    if text == "*" || text == "_" {
        return Ok(HostPattern::Any);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or("");
        return Err(Hint::instead("a host name stands without scheme and path", host));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<Ipv6Addr>() {
        return Ok(HostPattern::Exact(ip.to_string()));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(Hint::instead("the port belongs into `port`", host));
    }
    let (name, wildcard) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if name.contains('*') {
        return Err(Hint::because(
            "`*` may only stand for whole labels at the start: \"*.example.com\"",
        ));
    }
    let name = host_name(name).map_err(Hint::because)?;
    Ok(if wildcard { HostPattern::Wildcard(name) } else { HostPattern::Exact(name) })
}

/// A host name in lower case without a trailing dot.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    const NAME_MAX: usize = 253; // RFC 1035 section 2.3.4, in text form
    const LABEL_MAX: usize = 63;
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err("a host name must not be empty".to_owned());
    }
    if !name.is_ascii() {
        return Err("write international names in their ASCII form (xn--…)".to_owned());
    }
    if name.len() > NAME_MAX {
        return Err(format!("a host name has at most {NAME_MAX} characters"));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("a host name must not have an empty label".to_owned());
        }
        if label.len() > LABEL_MAX {
            return Err(format!("a label of a host name has at most {LABEL_MAX} characters"));
        }
        if let Some(c) = label.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c)) {
            return Err(format!("a host name must not contain {}", super::field::named(c)));
        }
    }
    Ok(name.to_ascii_lowercase())
}

/// A name server: `"10.0.0.53"`, `"10.0.0.53:5353"`, `"2001:db8::53"` or `"[2001:db8::53]:5353"`.
pub(crate) fn name_server(text: &str) -> Result<SocketAddr, Hint> {
    const PORT: u16 = 53; // RFC 1035 section 4.2
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, PORT));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        Ok(_) => Err(Hint::because("the port must be a number from 1 to 65535")),
        Err(_) if text.contains("://") => {
            Err(Hint::because("name servers are asked by UDP and TCP, there is no URL"))
        }
        Err(_) => Err(Hint::because(
            "expected an address, with a port if it is not 53: \"10.0.0.53:5353\"",
        )),
    }
}

/// `"127.0.0.1:80"`, `"[::1]:80"`, `":80"` or `"*:80"` for every address, `"unix:/path"`.
pub(crate) fn listen(text: &str) -> Result<Listen, Hint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Listen::Unix).map_err(Hint::because);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text.parse::<u16>() {
            Ok(port) => Hint::instead("a port alone is written with a colon", format!(":{port}")),
            Err(_) => Hint::because("expected \"address:port\", \":port\" or \"unix:/path\""),
        });
    };
    // Port 0 is a free one that the system chooses; the error log says which.
    let Ok(port) = port.parse::<u16>() else {
        return Err(Hint::because("the port must be a number from 1 to 65535"));
    };
    if host.is_empty() || host == "*" || host == "[::]" {
        return Ok(Listen::Port(port));
    }
    if let Ok(ip) = host.parse::<Ipv6Addr>() {
        return Err(Hint::instead("IPv6 addresses stand in brackets", format!("[{ip}]:{port}")));
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(Listen::Address(SocketAddr::new(ip, port))),
        Err(_) if host == "localhost" => {
            Err(Hint::instead("expected an IP address", format!("127.0.0.1:{port}")))
        }
        Err(_) => Err(Hint::because("expected an IP address before the port, not a name")),
    }
}

/// The path of a Unix socket.
pub(super) fn unix_path(path: &str) -> Result<PathBuf, String> {
    const SOCKET_PATH_MAX: usize = 107; // sun_path of Linux without its final NUL
    if !path.starts_with('/') {
        return Err("the path of a Unix socket must be absolute: \"unix:/run/app.sock\"".to_owned());
    }
    let path = path.trim_start_matches('/');
    let path = format!("/{path}");
    if path.len() > SOCKET_PATH_MAX {
        return Err(format!("the path of a Unix socket has at most {SOCKET_PATH_MAX} bytes"));
    }
    if path.contains('\0') || path.ends_with('/') {
        return Err("expected the path of a socket file".to_owned());
    }
    Ok(PathBuf::from(path))
}

/// An address or a network in CIDR form.
pub(crate) fn network(text: &str) -> Result<IpNet, Hint> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .map_err(|_| Hint::because("expected an address or a network such as \"10.0.0.0/8\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_case_without_trailing_dot() {
        assert_eq!(
            host_pattern("API.Example.com."),
            Ok(HostPattern::Exact("api.example.com".into()))
        );
        assert_eq!(host_pattern("*.Example.com"), Ok(HostPattern::Wildcard("example.com".into())));
        assert_eq!(host_pattern("[::1]"), Ok(HostPattern::Exact("::1".into())));
        assert_eq!(host_pattern("*"), Ok(HostPattern::Any));
    }

    /// A site's host is compared with what `wire` makes of a request's `Host`.
    #[test]
    fn hosts_are_spelt_as_requests_have_them() {
        for text in ["a.Example.", "10.0.0.1", "xn--bcher-kva.example", "a_b"] {
            let Ok(HostPattern::Exact(name)) = host_pattern(text) else { panic!("{text}") };
            assert_eq!(wire::host::Host::parse(text.as_bytes()).unwrap().name(), name);
        }
        for text in ["[0:0::1]", "[2001:DB8::A]", "[::ffff:10.0.0.1]"] {
            let Ok(HostPattern::Exact(name)) = host_pattern(text) else { panic!("{text}") };
            assert_eq!(wire::host::Host::parse(text.as_bytes()).unwrap().name(), name);
        }
    }

    #[test]
    fn hosts_that_are_none() {
        let long = "a".repeat(64);
        for text in
            ["", ".", "a..b", "a b", "*a.b", "a.*", "**.a", "*.", "a/b", "ä.de", &long, "a\0"]
        {
            assert!(host_pattern(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_url_or_a_port_is_taken_off_in_the_hint() {
        let instead = |text| host_pattern(text).err().and_then(|hint| hint.instead);
        assert_eq!(instead("http://a.de:80/x").as_deref(), Some("a.de"));
        assert_eq!(instead("a.de:80").as_deref(), Some("a.de"));
    }

    #[test]
    fn listen_addresses() {
        assert_eq!(listen(":80"), Ok(Listen::Port(80)));
        assert_eq!(listen("*:80"), Ok(Listen::Port(80)));
        assert_eq!(listen("[::]:80"), Ok(Listen::Port(80)), "a dual-stack socket");
        assert_eq!(listen("[::1]:80"), Ok(Listen::Address("[::1]:80".parse().unwrap())));
        assert_eq!(listen("1.2.3.4:0"), Ok(Listen::Address("1.2.3.4:0".parse().unwrap())));
        assert_eq!(listen("unix:/run/x"), Ok(Listen::Unix("/run/x".into())));
        for text in ["", "80", "a:80", "1.2.3.4", "1.2.3.4:65536", "unix:x", "::1:80", "unix:/"] {
            assert!(listen(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn networks_lose_their_host_bits() {
        assert_eq!(network("10.1.2.3/8").map(|net| net.to_string()), Ok("10.0.0.0/8".into()));
        assert_eq!(network("::1").map(|net| net.to_string()), Ok("::1/128".into()));
        assert!(network("10.0.0.0/33").is_err() && network("local").is_err());
    }
}
