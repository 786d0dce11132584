//! Where a response leads: URLs of an upstream, in the form that its clients can use.
//!
//! An upstream behind a prefix that is taken off does not know the prefix. Its redirect to `/login`
//! would lead past it, one to `http://backend:3000/login` to a host that clients cannot reach. What
//! always holds: a URL of anybody else passes as it came, and no rewriting makes one that leads to
//! another host.

use wire::field::{Field, FieldId};

/// What a route's clients see in the place of its upstream.
#[derive(Debug, Clone, Copy)]
pub struct PublicPath<'a> {
    /// What stands before the upstream's paths in public; without a final slash, so empty for none.
    pub prefix: &'a str,
    /// What stands before them at the upstream; empty, or without a final slash.
    pub base_path: &'a str,
    /// The upstream's host; none for a Unix socket. IPv6 addresses without brackets.
    pub host: Option<&'a str>,
    /// Its port.
    pub port: u16,
    /// It is spoken to with TLS, which is what a URL without a scheme means.
    pub secure: bool,
}

impl PublicPath<'_> {
    /// A field with a URL that may have to be rewritten: `Location`, `Content-Location`, and `URI` of
    /// RFC 2068, which some still send.
    #[inline]
    pub fn concerns(field: &Field, head: &[u8]) -> bool {
        match field.id {
            FieldId::Location => true,
            FieldId::Other => {
                let name = field.name.of(head);
                name.eq_ignore_ascii_case(b"content-location") || name.eq_ignore_ascii_case(b"uri")
            }
            _ => false,
        }
    }

    /// Appends the line of such a field.
    pub fn write(&self, field: &Field, head: &[u8], out: &mut Vec<u8>) {
        let value = field.value.of(head);
        out.extend_from_slice(field.name.of(head));
        out.extend_from_slice(b": ");
        match self.below_base(value) {
            Some(rest) => {
                out.extend_from_slice(self.prefix.as_bytes());
                if !rest.starts_with(b"/") {
                    out.push(b'/');
                }
                out.extend_from_slice(rest);
            }
            None => out.extend_from_slice(value),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Path and query of a URL of the upstream, without its base path; `None` if it is not one, or if
    /// it must be left alone.
    fn below_base<'v>(&self, url: &'v [u8]) -> Option<&'v [u8]> {
        let path = self.path_at_upstream(url)?;
        let rest = path.strip_prefix(self.base_path.as_bytes())?;
        if !self.base_path.is_empty() && !matches!(rest.first(), None | Some(b'/' | b'?' | b'#')) {
            return None;
        }
        // With nothing before them, two slashes would name a host.
        let names_a_host = matches!(rest, [b'/', b'/' | b'\\', ..]);
        (!names_a_host || !self.prefix.is_empty()).then_some(rest)
    }

    fn path_at_upstream<'v>(&self, url: &'v [u8]) -> Option<&'v [u8]> {
        const SCHEMES: [(&[u8], u16); 2] = [(b"http:", 80), (b"https:", 443)];
        let scheme = SCHEMES.iter().find_map(|(scheme, port)| {
            let (start, rest) = url.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some((rest, *port))
        });
        let (rest, default_port) = scheme.unwrap_or((url, if self.secure { 443 } else { 80 }));
        let Some(rest) = rest.strip_prefix(b"//") else {
            return (scheme.is_none() && rest.starts_with(b"/")).then_some(rest);
        };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\'));
        let (authority, path) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        let (host, port) = host_and_port(authority)?;
        let ours = self.host.is_some_and(|own| host.eq_ignore_ascii_case(own.as_bytes()));
        (ours && port.unwrap_or(default_port) == self.port).then_some(path)
    }
}

/// `host`, `host:port`, or the same with an IPv6 address in brackets.
fn host_and_port(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, port) = match authority.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|&byte| byte == b']')?;
            let (host, after) = rest.split_at_checked(end)?;
            (host, after.get(1..)?)
        }
        None => {
            let end = authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len());
            authority.split_at_checked(end)?
        }
    };
    let Some(port) = port.strip_prefix(b":") else {
        return port.is_empty().then_some((host, None));
    };
    if port.is_empty() {
        return Some((host, None));
    }
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: PublicPath<'static> = PublicPath {
        prefix: "/api",
        base_path: "",
        host: Some("backend.internal"),
        port: 3000,
        secure: false,
    };

    fn written(public: &PublicPath<'_>, url: &str) -> String {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\n\r\n");
        let mut parsed = wire::head::ResponseHead::default();
        let limits = wire::head::HeadLimits::default();
        parsed.parse(head.as_bytes(), 0, &limits, false).unwrap();
        let field = parsed.fields.iter().find(|field| PublicPath::concerns(field, head.as_bytes()));
        let mut out = Vec::new();
        public.write(field.unwrap(), head.as_bytes(), &mut out);
        let line = String::from_utf8(out).unwrap();
        line.strip_prefix("Location: ").unwrap().trim_end().to_owned()
    }

    #[test]
    fn paths_and_urls_of_the_upstream_get_the_prefix() {
        for (url, expected) in [
            ("/login", "/api/login"),
            ("/", "/api/"),
            ("/login?next=/x#y", "/api/login?next=/x#y"),
            ("http://backend.internal:3000/login", "/api/login"),
            ("HTTP://Backend.Internal:3000/login?a=b", "/api/login?a=b"),
            ("http://backend.internal:3000", "/api/"),
            ("http://backend.internal:3000?a=b", "/api/?a=b"),
            ("//backend.internal:3000/login", "/api/login"),
        ] {
            assert_eq!(written(&API, url), expected, "{url}");
        }
    }

    #[test]
    fn urls_of_others_and_relative_ones_pass_as_they_came() {
        for url in [
            "https://example.com/login",
            "http://backend.internal/login",
            "http://backend.internal:3001/login",
            "http://backend.internal:3000@evil.example/",
            "http://backend.internal.evil.example:3000/",
            "//example.com/login",
            "login",
            "?page=2",
            "",
            "ftp://backend.internal:3000/",
            "http:/login",
            "http://backend.internal:99999/",
            "http://[::1",
        ] {
            assert_eq!(written(&API, url), url, "{url}");
        }
    }

    #[test]
    fn the_default_port_need_not_be_written() {
        let plain = PublicPath { port: 80, ..API };
        let secure = PublicPath { port: 443, secure: true, ..API };
        assert_eq!(written(&plain, "http://backend.internal/x"), "/api/x");
        assert_eq!(written(&plain, "http://backend.internal:/x"), "/api/x");
        assert_eq!(written(&secure, "https://backend.internal/x"), "/api/x");
        assert_eq!(written(&secure, "//backend.internal/x"), "/api/x");
        let foreign = "http://backend.internal/x";
        assert_eq!(written(&secure, foreign), foreign, "another port");
    }

    #[test]
    fn an_ipv6_upstream_is_known_by_its_address() {
        let upstream = PublicPath { host: Some("::1"), ..API };
        assert_eq!(written(&upstream, "http://[::1]:3000/x"), "/api/x");
        assert_eq!(written(&upstream, "http://[::2]:3000/x"), "http://[::2]:3000/x");
    }

    #[test]
    fn a_base_path_is_taken_off_and_what_is_beside_it_left_alone() {
        let based = PublicPath { base_path: "/app", ..API };
        assert_eq!(written(&based, "/app/login"), "/api/login");
        assert_eq!(written(&based, "/app"), "/api/");
        assert_eq!(written(&based, "http://backend.internal:3000/app/x"), "/api/x");
        assert_eq!(written(&based, "/apple"), "/apple");
        assert_eq!(written(&based, "/other"), "/other");
    }

    #[test]
    fn nothing_becomes_a_url_of_another_host() {
        let root = PublicPath { prefix: "", ..API };
        assert_eq!(written(&root, "http://backend.internal:3000/x"), "/x");
        for url in [
            "http://backend.internal:3000//evil.example/x",
            "http://backend.internal:3000/\\evil.example/x",
        ] {
            assert_eq!(written(&root, url), url);
        }
        assert_eq!(written(&API, "http://backend.internal:3000//x"), "/api//x");
    }
}
