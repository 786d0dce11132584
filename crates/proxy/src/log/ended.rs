//! How an exchange ended: who is to blame, what was being done, what went wrong.
//!
//! Each place on the path says these three, as exactly as it can; the [table](super::reasons) of reasons
//! gives the whole a name and a sentence.

use super::reasons::{self, Reason};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ended {
    /// The response was delivered whole (a tunnel: both sides closed in order).
    #[default]
    Complete,
    /// Somebody broke it off or it could not be served.
    Failed {
        /// Who is to blame: whoever acted, or whoever was waited for in vain.
        by: Party,
        /// What was being done.
        phase: Phase,
        /// What went wrong.
        cause: Cause,
    },
}

impl Ended {
    /// What is said of it; `None` if it ended well.
    #[must_use]
    pub fn reason(self) -> Option<&'static Reason> {
        match self {
            Self::Complete => None,
            Self::Failed { by, phase, cause } => Some(reasons::of(by, phase, cause)),
        }
    }
}

/// A side of a proxied request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Who sent the request.
    Client,
    /// The endpoint it was, or was to be, forwarded to.
    Upstream,
    /// Ravelin itself: its limits, its configuration, its shutdown.
    Proxy,
}

/// The steps of a request, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The connection is new or idle; no byte of a request has come.
    Accept,
    /// Reading the request head.
    Head,
    /// Finding the site, the route and what its rules say.
    Decide,
    /// Finding or waiting for an endpoint that may take the request.
    Queue,
    /// Opening an upstream connection.
    Connect,
    /// Sending the request to the upstream (its body included).
    Send,
    /// Waiting for the response head.
    FirstByte,
    /// Passing on the response body.
    Transfer,
    /// Passing on bytes both ways after an upgrade.
    Tunnel,
}

/// What went wrong. Those with a class say more exactly what the cause of that class was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The other side closed the connection in order, but too early.
    Closed,
    /// The connection was reset.
    Reset,
    /// Nothing happened for too long.
    Timeout,
    /// The connection was refused.
    Refused,
    /// There is no way to the address.
    Unreachable,
    /// The endpoint's host name has no address.
    Unresolved,
    /// No TLS connection could be agreed upon, a certificate is no good, or one side broke TLS.
    Tls,
    /// What was received breaks the protocol.
    Malformed,
    /// Right, but not something that Ravelin offers.
    Unsupported,
    /// No endpoint could take the request.
    NoEndpoint,
    /// The circuit breaker of the pool keeps requests away from it.
    CircuitOpen,
    /// A limit of the configuration was exceeded.
    Limit,
    /// More requests came than a rate limit takes.
    RateLimit,
    /// Refused by a rule of the configuration.
    Denied,
    /// Given up on purpose, as at shutdown.
    Aborted,
    /// A fault inside Ravelin or the machine.
    Internal,
    /// Denied: an origin that may not ask for this.
    Preflight,
    /// Denied: credentials that are missing or wrong.
    Unauthorized,
    /// Denied: credentials that do not suffice.
    Forbidden,
    /// Denied: a WebSocket for a page of another origin.
    Origin,
    /// Limit: more bytes than may come ahead of an upgrade.
    EarlyUpgrade,
    /// Limit: as many WebSockets are open as may be.
    Sockets,
    /// Limit: more credentials to check than can be checked.
    AuthBusy,
    /// Limit: more streams, or bytes of their heads, than a connection may have.
    Streams,
    /// Limit: more messages than a WebSocket may carry in a time.
    MessageRate,
    /// No endpoint: as many wait for one as may wait.
    QueueFull,
    /// No endpoint: none had room in time.
    QueueTimeout,
    /// Timeout: the endpoint was found down meanwhile.
    Down,
    /// Reset: the upstream said that it did nothing with the request.
    Goaway,
    /// Malformed: a head that is larger than Ravelin takes.
    HeadTooLarge,
    /// Malformed: a change of protocol nobody asked for.
    BadUpgrade,
    /// TLS: the certificate is no good.
    Certificate,
    /// Aborted: a fault in Ravelin.
    Panic,
}

impl Party {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Client, Self::Upstream, Self::Proxy];

    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
        }
    }
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Accept,
        Self::Head,
        Self::Decide,
        Self::Queue,
        Self::Connect,
        Self::Send,
        Self::FirstByte,
        Self::Transfer,
        Self::Tunnel,
    ];

    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Head => "head",
            Self::Decide => "decide",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::FirstByte => "first_byte",
            Self::Transfer => "transfer",
            Self::Tunnel => "tunnel",
        }
    }
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::Closed,
        Self::Reset,
        Self::Timeout,
        Self::Refused,
        Self::Unreachable,
        Self::Unresolved,
        Self::Tls,
        Self::Malformed,
        Self::Unsupported,
        Self::NoEndpoint,
        Self::CircuitOpen,
        Self::Limit,
        Self::RateLimit,
        Self::Denied,
        Self::Aborted,
        Self::Internal,
        Self::Preflight,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Origin,
        Self::EarlyUpgrade,
        Self::Sockets,
        Self::AuthBusy,
        Self::Streams,
        Self::MessageRate,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Down,
        Self::Goaway,
        Self::HeadTooLarge,
        Self::BadUpgrade,
        Self::Certificate,
        Self::Panic,
    ];

    /// The cause that this one is a case of.
    #[must_use]
    pub const fn class(self) -> Self {
        match self {
            Self::Preflight | Self::Unauthorized | Self::Forbidden | Self::Origin => Self::Denied,
            Self::EarlyUpgrade
            | Self::Sockets
            | Self::AuthBusy
            | Self::Streams
            | Self::MessageRate => Self::Limit,
            Self::QueueFull | Self::QueueTimeout => Self::NoEndpoint,
            Self::Down => Self::Timeout,
            Self::Goaway => Self::Reset,
            Self::HeadTooLarge | Self::BadUpgrade => Self::Malformed,
            Self::Certificate => Self::Tls,
            Self::Panic => Self::Aborted,
            class => class,
        }
    }

    /// The word in the log, which is that of its class.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset | Self::Goaway => "reset",
            Self::Timeout | Self::Down => "timeout",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Unresolved => "unresolved",
            Self::Tls | Self::Certificate => "tls",
            Self::Malformed | Self::HeadTooLarge | Self::BadUpgrade => "malformed",
            Self::Unsupported => "unsupported",
            Self::NoEndpoint | Self::QueueFull | Self::QueueTimeout => "no_endpoint",
            Self::CircuitOpen => "circuit_open",
            Self::Limit
            | Self::EarlyUpgrade
            | Self::Sockets
            | Self::AuthBusy
            | Self::Streams
            | Self::MessageRate => "limit",
            Self::RateLimit => "rate_limit",
            Self::Denied
            | Self::Preflight
            | Self::Unauthorized
            | Self::Forbidden
            | Self::Origin => "denied",
            Self::Aborted | Self::Panic => "aborted",
            Self::Internal => "internal",
        }
    }

    /// The cause an operating-system error stands for.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        if error.get_ref().is_some_and(|inner| inner.is::<net::tls::TlsFault>()) {
            return Self::Tls;
        }
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Self::Reset,
            Kind::TimedOut => Self::Timeout,
            Kind::UnexpectedEof | Kind::NotConnected => Self::Closed,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
                Self::Unreachable
            }
            // A Unix socket's path that is not there.
            Kind::NotFound => Self::Unresolved,
            Kind::InvalidData => Self::Malformed,
            Kind::Unsupported => Self::Unsupported,
            _ => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operating_system_errors_have_a_cause() {
        use std::io::{Error, ErrorKind};
        assert_eq!(Cause::of(&Error::from(ErrorKind::ConnectionRefused)), Cause::Refused);
        assert_eq!(Cause::of(&Error::from(ErrorKind::BrokenPipe)), Cause::Reset);
        assert_eq!(Cause::of(&Error::from(ErrorKind::UnexpectedEof)), Cause::Closed);
        assert_eq!(Cause::of(&Error::from(ErrorKind::OutOfMemory)), Cause::Internal);
    }

    #[test]
    fn the_word_of_a_cause_is_that_of_its_class() {
        for cause in Cause::ALL {
            assert_eq!(cause.as_str(), cause.class().as_str());
            assert_eq!(cause.class().class(), cause.class());
        }
    }
}
