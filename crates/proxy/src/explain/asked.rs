//! The request that somebody asks about, as a head that is read like any other.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use wire::head::{HeadLimits, Parse, RequestHead};
use wire::host::Host;

use crate::snapshot::Snapshot;

/// A request that somebody asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its URL; a path alone is of the host "localhost".
    pub url: String,
    /// Its fields beside `Host`.
    pub fields: Vec<(String, String)>,
    /// Its client's address.
    pub client: IpAddr,
    /// It comes over TLS, whatever the URL says.
    pub tls: bool,
}

impl Default for Asked {
    /// `GET http://localhost/` from this machine.
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            url: "http://localhost/".to_owned(),
            fields: Vec::new(),
            client: Ipv4Addr::LOCALHOST.into(),
            tls: false,
        }
    }
}

/// Why what is asked for is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRequest(String);

impl fmt::Display for NoRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoRequest {}

/// A request as it would come in.
pub(super) struct Written {
    /// Its head.
    pub(super) head: RequestHead,
    /// The bytes of that.
    pub(super) bytes: Vec<u8>,
    /// Over TLS.
    pub(super) tls: bool,
    /// The port of the URL, or that of its scheme.
    pub(super) port: u16,
    /// The URL names it.
    pub(super) names_port: bool,
    /// The name that the client asks for in its TLS handshake (SNI): the host of the URL, nothing if that is
    /// an address. `None`: the URL has no host.
    pub(super) server_name: Option<String>,
    /// The URL has a fragment.
    pub(super) has_fragment: bool,
    /// Why serving would refuse the head, and with which status.
    pub(super) refused: Option<(u16, &'static str)>,
}

/// Longest URL or field that is asked about, in bytes; a head may be no longer.
const TEXT_MAX: usize = 60 << 10;

/// Most fields.
const FIELDS_MAX: usize = 1000;

impl Asked {
    /// Reads "GET https://example.com/x" or a URL alone.
    ///
    /// # Errors
    /// It is more than two words, or none.
    pub fn of(text: &str) -> Result<Self, NoRequest> {
        let mut words = text.split_whitespace();
        let (method, url) = match (words.next(), words.next(), words.next()) {
            (Some(url), None, None) => ("GET", url),
            (Some(method), Some(url), None) => (method, url),
            _ => return Err(NoRequest("expected a method and a URL".to_owned())),
        };
        Ok(Self { method: method.to_owned(), url: url.to_owned(), ..Self::default() })
    }

    /// Adds a field as it is written on a command line: `Name: value`.
    ///
    /// # Errors
    /// There is no colon.
    pub fn add_field(&mut self, line: &str) -> Result<(), NoRequest> {
        let Some((name, value)) = line.split_once(':') else {
            return Err(NoRequest(format!("the field `{line}` has no colon")));
        };
        self.fields.push((name.trim().to_owned(), value.trim().to_owned()));
        Ok(())
    }

    /// The head that it would come with.
    pub(super) fn written(&self, snapshot: &Snapshot) -> Result<Written, NoRequest> {
        let (scheme, authority, target) = parts(&self.url)?;
        let is_token = |text: &str| {
            let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            !text.is_empty() && text.bytes().all(tchar)
        };
        if !is_token(&self.method) {
            return Err(NoRequest(format!("`{}` is no method", self.method.escape_debug())));
        }
        if self.url.len() > TEXT_MAX || self.fields.len() > FIELDS_MAX {
            return Err(NoRequest("that is too much for a request".to_owned()));
        }
        let secure = matches!(scheme, "https" | "wss");
        let names_host = self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        // A query right behind the host is one of "/".
        let root = if target.starts_with('?') { "/" } else { "" };
        let mut text = format!("{} {root}{target} HTTP/1.1\r\n", self.method);
        if !names_host {
            text.push_str(&format!("Host: {authority}\r\n"));
        }
        for (name, value) in &self.fields {
            let clean = value.bytes().all(|b| b == b'\t' || !b.is_ascii_control());
            if !is_token(name) || !clean || value.len() > TEXT_MAX {
                return Err(NoRequest(format!("`{}` cannot be a field", name.escape_debug())));
            }
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if matches!(scheme, "ws" | "wss") {
            self.ask_for_websocket(&mut text);
        }
        text.push_str("\r\n");
        let bytes = text.into_bytes();
        let limits =
            HeadLimits { bytes: snapshot.limits.head_size, fields: snapshot.limits.fields };
        let mut head = RequestHead::default();
        let refused = match head.parse(&bytes, 0, &limits) {
            Ok(Parse::Complete) => None,
            Ok(Parse::Partial) => Some((400, "incomplete")),
            Err(error) => Some((error.status(), error.reason())),
        };
        let named = authority.rsplit_once(':').and_then(|(host, port)| {
            let inside = host.starts_with('[') && !host.ends_with(']');
            port.parse().ok().filter(|_| !inside)
        });
        let usual = if secure { 443 } else { 80 };
        let has_host = !self.url.starts_with(['/', '*']);
        let of_url = Host::parse(authority.as_bytes()).ok();
        let of_url = of_url.as_ref().map_or("", Host::name);
        // RFC 6066 §3: an address is no server name.
        let is_address = of_url.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        Ok(Written {
            head,
            bytes,
            tls: secure || self.tls,
            port: named.unwrap_or(usual),
            names_port: named.is_some(),
            server_name: has_host.then(|| if is_address { "" } else { of_url }.to_owned()),
            has_fragment: self.url.contains('#'),
            refused,
        })
    }

    fn ask_for_websocket(&self, text: &mut String) {
        const FIELDS: &[(&str, &str)] = &[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in FIELDS {
            if !self.fields.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
    }
}

/// Scheme, authority and request target of a URL.
fn parts(url: &str) -> Result<(&'static str, &str, &str), NoRequest> {
    if url.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
        return Err(NoRequest("there are blanks in the URL".to_owned()));
    }
    // A fragment is never sent.
    let url = url.split('#').next().unwrap_or_default();
    if url.starts_with('/') || url == "*" {
        return Ok(("http", "localhost", url));
    }
    let known = ["https", "http", "wss", "ws"].into_iter().find_map(|scheme| {
        let (begin, rest) = url.split_at_checked(scheme.len())?;
        let rest = rest.strip_prefix("://")?;
        begin.eq_ignore_ascii_case(scheme).then_some((scheme, rest))
    });
    let Some((scheme, rest)) = known else {
        let what = format!("`{}` is no URL: expected https://host/path", url.escape_debug());
        return Err(NoRequest(what));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if authority.is_empty() {
        return Err(NoRequest("the URL has no host".to_owned()));
    }
    if authority.contains('@') {
        let what = "the URL has a user in it, which clients send as a field if at all: leave it out, and give \
                    `-H 'Authorization: Basic ...'`";
        return Err(NoRequest(what.to_owned()));
    }
    Ok((scheme, authority, if target.is_empty() { "/" } else { target }))
}
