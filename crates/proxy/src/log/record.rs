//! One exchange as those see it who look at traffic.

use std::net::IpAddr;

use net::tls::Facts;
use wire::head::RequestHead;

use super::Ended;
use crate::balance::Member;
use crate::pool::Pool;
use crate::routes::Route;
use crate::snapshot::Site;
use crate::traces::Traced;

/// Everything that is known of one exchange when it is over: for the access log, metrics and whoever
/// else looks at traffic. Borrowed: building one allocates nothing. An empty slice means "not known".
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When the request's first byte arrived, in microseconds since the Unix epoch.
    pub wall_us: u64,
    /// The client's address (behind a trusted proxy: the one it vouches for). `None` for a peer on
    /// a Unix socket.
    pub client: Option<IpAddr>,
    /// The address as text, if it is there already.
    pub client_text: &'a [u8],
    /// The client's port; 0 when not known.
    pub client_port: u16,
    /// The method as received.
    pub method: &'a [u8],
    /// The request target as received, escaped only when written.
    pub target: &'a [u8],
    /// The protocol version, such as `HTTP/1.1`; empty when the head could not be read.
    pub version: &'a str,
    /// The status sent to the client; 499 when it went away before there was one.
    pub status: u16,
    /// Bytes of response content sent to the client, without framing; for a tunnel all bytes that
    /// went to the client.
    pub response_bytes: u64,
    /// Bytes of request content received, without framing; for a tunnel all bytes from the client.
    pub request_bytes: u64,
    /// The `Referer` field.
    pub referer: &'a [u8],
    /// The `User-Agent` field.
    pub user_agent: &'a [u8],
    /// The `Host` field, or the authority of an absolute target.
    pub host: &'a [u8],
    /// Who makes the request, as its credentials say.
    pub user: &'a [u8],
    /// Name of the site that took the request.
    pub site: &'a str,
    /// Path of the route that took it; `None` when it was not proxied.
    pub route: Option<&'a str>,
    /// Label of the last endpoint tried, such as `http://10.0.0.2:80`; empty when none was.
    pub endpoint: &'a str,
    /// The request's id.
    pub request_id: &'a [u8],
    /// How many times the request was sent, or tried to be sent, to an endpoint.
    pub attempts: u32,
    /// The last attempt used a kept connection.
    pub reused: bool,
    /// The site that took the request.
    pub site_at: Option<&'a Site>,
    /// The route that took it, whatever its action.
    pub route_at: Option<&'a Route>,
    /// The pool it was, or was to be, forwarded to.
    pub pool: Option<&'a Pool>,
    /// The last member of the pool that was tried.
    pub member: Option<&'a Member>,
    /// What the client's TLS handshake settled; `None` for a plain connection.
    pub tls: Option<&'a Facts>,
    /// Number of the listener that the connection came in by.
    pub listener: usize,
    /// The port of that listener; 0 on a Unix socket.
    pub port: u16,
    /// Number of the canary that the connection belongs to; 0: of none.
    pub canary: u32,
    /// The trace it belongs to, if requests are traced.
    pub traced: Option<&'a Traced<'a>>,
    /// What a cache had to do with the response: `-` for nothing.
    pub cache: &'a str,
    /// Index over the request's head, and its bytes.
    pub head: Option<(&'a RequestHead, &'a [u8])>,
    /// Values of the response's fields that the access log wants, in its order.
    pub response_fields: &'a [Vec<u8>],
    /// How long each step took.
    pub times: Times,
    /// Who ended the request, and how.
    pub ended: Ended,
}

impl Default for Record<'_> {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl<'a> Record<'a> {
    /// One of which nothing is known. A constant, because it is copied as one piece then: every request
    /// has a record, also if nobody looks at it.
    pub const UNKNOWN: Self = Self {
        wall_us: 0,
        client: None,
        client_text: &[],
        client_port: 0,
        method: &[],
        target: &[],
        version: "",
        status: 0,
        response_bytes: 0,
        request_bytes: 0,
        referer: &[],
        user_agent: &[],
        host: &[],
        user: &[],
        site: "",
        route: None,
        endpoint: "",
        request_id: &[],
        attempts: 0,
        reused: false,
        site_at: None,
        route_at: None,
        pool: None,
        member: None,
        tls: None,
        listener: 0,
        port: 0,
        canary: 0,
        traced: None,
        cache: "",
        head: None,
        response_fields: &[],
        times: Times::NONE,
        ended: Ended::Complete,
    };

    /// The value of the first field with this name, which is in lower case.
    #[must_use]
    pub fn request_field(&self, name: &str) -> &'a [u8] {
        let Some((head, bytes)) = self.head else { return &[] };
        let is_it = |found: &[u8]| found.eq_ignore_ascii_case(name.as_bytes());
        let mut fields = head.fields.iter();
        let found = fields.find(|field| is_it(field.name.of(bytes)));
        found.map_or(&[], |field| field.value.of(bytes))
    }
}

/// How long the steps of a request took, in microseconds. `None`: the step was not reached, or not
/// taken.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From the accepted connection to the first byte of its first request, without the handshake;
    /// `None` for every later request of a connection.
    pub accept: Option<u64>,
    /// The connection's TLS handshake; of its first request only.
    pub tls: Option<u64>,
    /// From the first byte of the request head to its last.
    pub head: Option<u64>,
    /// Held until a rate limit let it go on.
    pub held: Option<u64>,
    /// Waiting for room at an endpoint.
    pub queue: Option<u64>,
    /// From asking for an upstream connection to having one; `None` for a kept one.
    pub connect: Option<u64>,
    /// From the end of the request head to the first response head, interim ones included.
    pub first_byte: Option<u64>,
    /// From there to the response's last byte, or to the end of the tunnel.
    pub transfer: Option<u64>,
    /// From the request's first byte to the response's last, or to the end of the tunnel.
    pub total: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self::NONE
    }
}

impl Times {
    const NONE: Self = Self {
        accept: None,
        tls: None,
        head: None,
        held: None,
        queue: None,
        connect: None,
        first_byte: None,
        transfer: None,
        total: 0,
    };

    /// Settles what follows from the others, now that the exchange has taken `micros` since its head
    /// was there.
    pub(crate) fn over(&mut self, micros: u64) {
        self.total = micros.saturating_add(self.head.unwrap_or(0));
        self.transfer = self.first_byte.map(|first_byte| micros.saturating_sub(first_byte));
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! Sample records for the format tests.

    use super::super::{Cause, Party, Phase};
    use super::*;

    /// A request answered from a file.
    pub(crate) fn local() -> Record<'static> {
        Record {
            wall_us: 1_795_232_881_250_000,
            client: Some([192, 0, 2, 7].into()),
            client_port: 40_001,
            method: b"GET",
            target: b"/index.html",
            version: "HTTP/1.1",
            status: 200,
            response_bytes: 612,
            user_agent: b"curl/8.5.0",
            host: b"example.com",
            site: "main",
            request_id: b"7",
            times: Times { total: 1_204, head: Some(9), ..Times::default() },
            ..Record::default()
        }
    }

    /// A request answered by an upstream over a kept connection.
    pub(crate) fn proxied() -> Record<'static> {
        Record {
            target: b"/api/x?q=1",
            route: Some("/api/"),
            endpoint: "http://10.0.0.2:80",
            attempts: 1,
            reused: true,
            times: Times { first_byte: Some(1_100), ..local().times },
            ..local()
        }
    }

    /// A proxied request that went wrong.
    pub(crate) fn failed(status: u16, by: Party, phase: Phase, cause: Cause) -> Record<'static> {
        Record { status, ended: Ended::Failed { by, phase, cause }, ..proxied() }
    }
}
