//! Who may ask the admin API for anything.
//!
//! On the Unix socket the system says who it is, and the rights of the file say who may connect. Over
//! TCP it takes the key; without one only processes of this machine are let in, to look and to have the
//! files read again. Beside those there are browsers, which ask whatever any page tells them to: a page
//! somewhere else has a name of its own in `Host` (DNS rebinding) or in `Origin`, and is turned away.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use config::model::{AdminLevel, Management};
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, Method, StatusCode};

use super::response::Problem;
use crate::orders::Author;

/// Somebody at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// On the Unix socket: as the system says, `uid 0 pid 123`.
    Unix(String),
    /// At the TCP address.
    Tcp {
        /// Who.
        peer: SocketAddr,
        /// To which address of this machine.
        local: SocketAddr,
    },
    /// At the address for metrics, which has nothing else.
    Metrics {
        /// To which address of this machine.
        local: SocketAddr,
    },
}

/// What the configuration says of who may ask.
pub(super) struct Gate {
    key: Option<digest::Digest>,
    socket_level: AdminLevel,
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// Who is let in.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) author: Author,
    /// What they may do; `None`: nothing but what anybody may.
    pub(super) level: Option<AdminLevel>,
}

impl Gate {
    pub(super) fn new(management: &Management) -> Self {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self {
            key: management.api_key.as_ref().map(|key| sha256(&key.0)),
            socket_level: management.socket_level,
            hosts: lower(&management.allowed_hosts),
            origins: lower(&management.allowed_origins),
        }
    }

    /// What those may do who connect to the Unix socket.
    pub(super) fn socket_level(&self) -> AdminLevel {
        self.socket_level
    }

    /// Whether a request with these fields is answered, and as whose. With `open` it is for something
    /// that anybody may have.
    pub(super) fn check(
        &self,
        caller: &Caller,
        fields: &HeaderMap,
        method: &Method,
        open: bool,
    ) -> Result<Pass, Problem> {
        let host = self.host(caller, fields)?;
        if matches!(caller, Caller::Metrics { .. }) {
            let author = Author::new("metrics");
            return Ok(Pass { author, level: None });
        }
        self.origin(fields, method, host)?;
        match caller {
            Caller::Unix(who) => {
                let author = Author::new(who.clone());
                Ok(Pass { author, level: Some(self.socket_level) })
            }
            Caller::Tcp { peer, .. } => self.tcp(*peer, fields, open),
            Caller::Metrics { .. } => Err(Problem::forbidden("")),
        }
    }

    fn tcp(&self, peer: SocketAddr, fields: &HeaderMap, open: bool) -> Result<Pass, Problem> {
        let Some(key) = &self.key else {
            if peer.ip().to_canonical().is_loopback() {
                let author = Author::new(format!("{peer} without a key"));
                return Ok(Pass { author, level: Some(AdminLevel::Operator) });
            }
            return Err(Problem::forbidden(
                "without an `api_key` only processes of this machine are answered",
            ));
        };
        let right = presented(fields).is_some_and(|presented| {
            let presented = sha256(&presented);
            constant_time::verify_slices_are_equal(presented.as_ref(), key.as_ref()).is_ok()
        });
        let author = |what| Author::new(format!("{what} from {}", peer.ip().to_canonical()));
        match (right, open) {
            (true, _) => Ok(Pass { author: author("token"), level: Some(AdminLevel::Admin) }),
            (false, true) => Ok(Pass { author: author("nobody"), level: None }),
            (false, false) => Err(Problem::unauthorized(
                "the key is needed: `X-API-Key: KEY` or `Authorization: Bearer KEY`",
            )),
        }
    }

    /// The `Host`, if it is a name of this machine: a page whose name was made to lead here has its own.
    fn host<'f>(&self, caller: &Caller, fields: &'f HeaderMap) -> Result<&'f str, Problem> {
        let mut hosts = fields.get_all(HOST).iter();
        let (host, more) = (hosts.next(), hosts.next());
        let host = match (host.map(|host| host.to_str()), more) {
            (Some(Ok(host)), None) => host,
            _ => return Err(Problem::bad("one `Host` field is needed, with a name in it")),
        };
        let name = name(host);
        let known = self.hosts.contains(&name)
            || match caller {
                // No browser gets here but by something that passes on to the socket.
                Caller::Unix(_) => name.is_empty() || is_own(&name, None),
                Caller::Tcp { local, .. } => is_own(&name, Some(local.ip())),
                // Those who collect metrics know a machine by any name of it.
                Caller::Metrics { local } => {
                    !local.ip().to_canonical().is_loopback() || is_own(&name, None)
                }
            };
        if known {
            return Ok(host);
        }
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, unknown(host)))
    }

    /// Pages of other origins are not answered, whatever they ask for.
    fn origin(&self, fields: &HeaderMap, method: &Method, host: &str) -> Result<(), Problem> {
        let refused = || Err(Problem::forbidden("pages of other origins may not ask"));
        let mut origins = fields.get_all(ORIGIN).iter();
        if let Some(origin) = origins.next() {
            let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
            let same = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
                .is_some_and(|authority| authority == host.to_ascii_lowercase());
            let allowed = same || self.origins.contains(&origin);
            return if allowed && origins.next().is_none() { Ok(()) } else { refused() };
        }
        // Browsers leave `Origin` out of some requests that a page makes them send, such as images.
        let site = HeaderName::from_static("sec-fetch-site");
        let mode = HeaderName::from_static("sec-fetch-mode");
        let is = |name: &HeaderName, value: &str| fields.get(name).is_some_and(|it| it == value);
        let from_here = is(&site, "same-origin") || is(&site, "none");
        // Following a link from elsewhere shows a page, and tells nothing to where the link was. Sending a
        // form from there is no such thing: it could change something.
        let followed = (method == Method::GET || method == Method::HEAD)
            && is(&mode, "navigate")
            && is(&HeaderName::from_static("sec-fetch-dest"), "document");
        if !fields.contains_key(&site) || from_here || followed { Ok(()) } else { refused() }
    }
}

/// The key in a request, if there is one.
fn presented(fields: &HeaderMap) -> Option<Vec<u8>> {
    if let Some(key) = fields.get("x-api-key") {
        return Some(key.as_bytes().to_vec());
    }
    let value = fields.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        // As browsers ask for it: any name, and the key as its password.
        let pair = STANDARD.decode(rest).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        return pair.get(colon + 1..).map(<[u8]>::to_vec);
    }
    None
}

/// Digests are of one length, so that comparing them does not tell the key's.
fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

/// Whether a `Host` is one of the names in `allowed`, or can be that of who asked for something
/// at `local`.
pub(crate) fn is_known(host: &str, allowed: &[String], local: IpAddr) -> bool {
    let name = name(host);
    allowed.iter().any(|one| one.eq_ignore_ascii_case(&name)) || is_own(&name, Some(local))
}

/// What is said to somebody with another `Host`.
pub(crate) fn unknown(host: &str) -> String {
    format!(
        "`{}` is not known as a name of this server; if it is one, list it in `allowed_hosts` of \
         `[management]`",
        name(host)
    )
}

/// Whether this is `localhost` or an address that can be `local`'s: names of other machines are none.
fn is_own(name: &str, local: Option<IpAddr>) -> bool {
    let Some(local) = local.map(|local| local.to_canonical()) else {
        return name == "localhost" || name == "ravelin" || address(name).is_some();
    };
    match address(name) {
        Some(address) => address == local || (local.is_loopback() && address.is_loopback()),
        None => name == "localhost" && local.is_loopback(),
    }
}

fn address(name: &str) -> Option<IpAddr> {
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// The name in a `Host`, in lower case.
fn name(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use config::model::SecretBytes;
    use http::HeaderValue;

    use super::*;

    fn gate(key: Option<&str>) -> Gate {
        Gate::new(&Management {
            api_key: key.map(|key| SecretBytes(key.as_bytes().to_vec())),
            allowed_hosts: vec!["Admin.example.com".to_owned()],
            allowed_origins: vec!["https://ops.example.com".to_owned()],
            ..Management::default()
        })
    }

    fn tcp(peer: &str) -> Caller {
        let local: SocketAddr = "127.0.0.1:7654".parse().unwrap();
        Caller::Tcp { peer: format!("{peer}:5555").parse().unwrap(), local }
    }

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut fields: HeaderMap = HeaderMap::new();
        for (name, value) in lines.iter().map(pair) {
            fields.append(name, value);
        }
        fields
    }

    /// What a request from this address is answered: the level or the status.
    fn answer(gate: &Gate, caller: &Caller, lines: &[(&'static str, &'static str)]) -> String {
        answer_to(gate, caller, &Method::GET, lines)
    }

    /// The same for a request of this method.
    fn answer_to(
        gate: &Gate,
        caller: &Caller,
        method: &Method,
        lines: &[(&'static str, &'static str)],
    ) -> String {
        match gate.check(caller, &fields(lines), method, false) {
            Ok(pass) => format!("{:?}", pass.level.unwrap()),
            Err(problem) => problem.response().finish().status().as_u16().to_string(),
        }
    }

    #[test]
    fn the_key_is_taken_from_three_fields_and_must_be_right() {
        let gate = gate(Some("secret"));
        let host = ("host", "127.0.0.1:7654");
        let local = tcp("127.0.0.1");
        for (field, expected) in [
            (("x-api-key", "secret"), "Admin"),
            (("authorization", "Bearer secret"), "Admin"),
            (("authorization", "bearer  secret"), "Admin"),
            (("authorization", "Basic YW55OnNlY3JldA=="), "Admin"),
            (("x-api-key", "secre"), "401"),
            (("x-api-key", "secrets"), "401"),
            (("x-api-key", ""), "401"),
            (("authorization", "secret"), "401"),
            (("authorization", "Basic c2VjcmV0"), "401"),
            (("authorization", "Digest secret"), "401"),
        ] {
            assert_eq!(answer(&gate, &local, &[host, field]), expected, "{field:?}");
        }
        assert_eq!(answer(&gate, &local, &[host]), "401");
        // A wrong one counts, even if another field has the right one.
        let both = [host, ("x-api-key", "no"), ("authorization", "Bearer secret")];
        assert_eq!(answer(&gate, &local, &both), "401");
        assert_eq!(answer(&gate, &tcp("10.0.0.9"), &[host, ("x-api-key", "secret")]), "Admin");
    }

    #[test]
    fn without_a_key_only_this_machine_is_answered_and_may_not_do_everything() {
        let gate = gate(None);
        let host = [("host", "localhost:7654")];
        assert_eq!(answer(&gate, &tcp("127.0.0.1"), &host), "Operator");
        assert_eq!(answer(&gate, &tcp("127.9.9.9"), &host), "Operator");
        assert_eq!(answer(&gate, &tcp("10.0.0.9"), &host), "403");
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_is_none_of_this_machine() {
        let gate = gate(None);
        let local = tcp("127.0.0.1");
        for (host, expected) in [
            ("127.0.0.1:7654", "Operator"),
            ("localhost", "Operator"),
            ("LOCALHOST:7654", "Operator"),
            ("[::1]:7654", "Operator"),
            ("admin.example.com", "Operator"),
            ("evil.example.com:7654", "421"),
            ("localhost.evil.example.com", "421"),
            ("10.0.0.1:7654", "421"),
            ("", "421"),
        ] {
            assert_eq!(answer(&gate, &local, &[("host", host)]), expected, "{host}");
        }
        assert_eq!(answer(&gate, &local, &[]), "400");
        assert_eq!(answer(&gate, &local, &[("host", "localhost"), ("host", "localhost")]), "400");
        let unix = Caller::Unix("uid 0 pid 1".to_owned());
        for (host, expected) in
            [("localhost", "Admin"), ("", "Admin"), ("ravelin", "Admin"), ("evil.example", "421")]
        {
            assert_eq!(answer(&gate, &unix, &[("host", host)]), expected, "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_turned_away() {
        let gate = gate(Some("secret"));
        let local = tcp("127.0.0.1");
        let ask = |lines: &[(&'static str, &'static str)]| {
            let common = [("host", "localhost:7654"), ("x-api-key", "secret")];
            answer(&gate, &local, &[&common, lines].concat())
        };
        assert_eq!(ask(&[("origin", "http://localhost:7654")]), "Admin");
        assert_eq!(ask(&[("origin", "https://ops.example.com")]), "Admin");
        for origin in ["http://localhost:8080", "http://evil.example", "null", "", "localhost:7654"]
        {
            assert_eq!(ask(&[("origin", origin)]), "403", "{origin}");
        }
        assert_eq!(ask(&[("sec-fetch-site", "same-origin")]), "Admin");
        assert_eq!(ask(&[("sec-fetch-site", "none")]), "Admin");
        assert_eq!(ask(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]), "403");
        assert_eq!(ask(&[("sec-fetch-site", "same-site")]), "403");
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(ask(&link), "Admin");
        let sent = [&[("host", "localhost:7654"), ("x-api-key", "secret")], &link[..]].concat();
        for (method, expected) in [(Method::HEAD, "Admin"), (Method::POST, "403")] {
            assert_eq!(answer_to(&gate, &local, &method, &sent), expected, "{method}");
        }
    }
}
