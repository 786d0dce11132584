//! What a filter can ask about.

use crate::recorder::exchange::{Exchange, Text, Timed, how};

/// A name that a filter may begin a test with.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The name, and others for the same.
    pub names: &'static [&'static str],
    /// What it is, for the documentation.
    pub about: &'static str,
    pub(super) kind: Kind,
}

/// What a field is compared with, and how it is found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A plain number.
    Number(Number),
    /// A status, which may also be "5xx".
    Status,
    /// Bytes, in units.
    Bytes(Number),
    /// Microseconds, in units of time.
    Time(Number),
    /// Text.
    Text(Value),
    /// Text that is one of these words.
    Word(Value, &'static [&'static str]),
    /// The name of a reason.
    Reason,
    /// The client's address.
    Client,
    /// Something that is so or not.
    Flag(Flag),
}

/// A number of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Status,
    Attempts,
    Listener,
    RequestBytes,
    ResponseBytes,
    Total,
    Phase(Timed),
}

/// A text of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Text(Text),
    Path,
    Host,
    Protocol,
    Tls,
    Cipher,
    Ended,
    Phase,
    Cause,
    Reason,
}

/// Something that is so or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Failed,
    Reused,
    Resumed,
    WebSocket,
}

const ENDED: &[&str] = &["complete", "client", "upstream", "proxy"];

const fn field(names: &'static [&'static str], kind: Kind, about: &'static str) -> Field {
    Field { names, about, kind }
}

const fn time(names: &'static [&'static str], phase: Timed, about: &'static str) -> Field {
    Field { names, about, kind: Kind::Time(Number::Phase(phase)) }
}

/// Every name there is.
pub static FIELDS: &[Field] = &[
    field(&["status"], Kind::Status, "the status sent, or its class: `5xx`"),
    field(&["method"], Kind::Text(Value::Text(Text::Method)), "the method"),
    field(&["path"], Kind::Text(Value::Path), "the target without its query"),
    field(&["target"], Kind::Text(Value::Text(Text::Target)), "the target as it is logged"),
    field(&["host"], Kind::Text(Value::Host), "the host without its port, in any case"),
    field(&["site"], Kind::Text(Value::Text(Text::Site)), "the site's name"),
    field(&["route", "proxy"], Kind::Text(Value::Text(Text::Route)), "the route's path"),
    field(
        &["upstream", "pool"],
        Kind::Text(Value::Text(Text::Pool)),
        "the name of the pool it was forwarded to",
    ),
    field(
        &["endpoint"],
        Kind::Text(Value::Text(Text::Endpoint)),
        "the URL of the last endpoint tried",
    ),
    field(&["client"], Kind::Client, "the client's address; compared with addresses and networks"),
    field(&["user"], Kind::Text(Value::Text(Text::User)), "who asked, by credentials"),
    field(&["user_agent"], Kind::Text(Value::Text(Text::UserAgent)), "the `User-Agent`"),
    field(&["request_id", "id"], Kind::Text(Value::Text(Text::RequestId)), "the request's id"),
    field(
        &["protocol", "version"],
        Kind::Word(Value::Protocol, &["HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0", ""]),
        "the version of HTTP that the client spoke",
    ),
    field(
        &["tls"],
        Kind::Word(Value::Tls, &["TLSv1.2", "TLSv1.3", ""]),
        "the version of TLS; `\"\"` for a plain connection",
    ),
    field(&["cipher"], Kind::Text(Value::Cipher), "the TLS cipher suite"),
    field(
        &["ended"],
        Kind::Word(Value::Ended, ENDED),
        "`complete`, or who is to blame: `client`, `upstream`, `proxy`",
    ),
    field(&["phase"], Kind::Text(Value::Phase), "what was being done when it failed"),
    field(&["cause"], Kind::Text(Value::Cause), "why it failed"),
    field(&["reason"], Kind::Reason, "one name for who, what and why, as in the log"),
    field(&["bytes", "response_bytes"], Kind::Bytes(Number::ResponseBytes), "content sent"),
    field(&["request_bytes"], Kind::Bytes(Number::RequestBytes), "content received"),
    field(&["attempts"], Kind::Number(Number::Attempts), "how many attempts were made"),
    field(&["listener"], Kind::Number(Number::Listener), "the number of the listener"),
    field(&["time", "total"], Kind::Time(Number::Total), "how long all of it took"),
    time(&["time.accept"], Timed::Accept, "from the new connection to its first byte"),
    time(&["time.tls"], Timed::Tls, "the TLS handshake"),
    time(&["time.head", "head"], Timed::Head, "reading the head"),
    time(&["time.held", "held"], Timed::Held, "held back by a rate limit"),
    time(&["time.queue", "queue"], Timed::Queue, "waiting for room at an endpoint"),
    time(&["time.connect", "connect"], Timed::Connect, "opening a connection to the endpoint"),
    time(
        &["time.first_byte", "first_byte"],
        Timed::FirstByte,
        "from the request's head to the response's",
    ),
    time(&["time.transfer", "transfer"], Timed::Transfer, "from there to the response's end"),
    field(&["failed"], Kind::Flag(Flag::Failed), "broken off, not served, or status 500 and above"),
    field(&["reused"], Kind::Flag(Flag::Reused), "over a kept connection to the endpoint"),
    field(&["resumed"], Kind::Flag(Flag::Resumed), "the TLS session was resumed"),
    field(&["websocket"], Kind::Flag(Flag::WebSocket), "it became a WebSocket"),
];

impl Number {
    /// Its value; `None` if that is not known.
    pub(super) fn of(self, exchange: &Exchange<'_>) -> Option<u64> {
        let facts = &exchange.facts;
        Some(match self {
            Self::Status => u64::from(facts.status),
            Self::Attempts => u64::from(facts.attempts),
            Self::Listener => u64::from(facts.listener),
            Self::RequestBytes => facts.request_bytes,
            Self::ResponseBytes => facts.response_bytes,
            Self::Total => facts.total_us,
            Self::Phase(phase) => facts.phase(phase)?,
        })
    }
}

impl Value {
    /// Its value; empty if that is not known.
    pub(super) fn of<'a>(self, exchange: &Exchange<'a>) -> &'a [u8] {
        let [ended, phase, cause, reason] = how(exchange.facts.ended);
        match self {
            Self::Text(text) => exchange.text(text),
            Self::Path => exchange.path(),
            Self::Host => exchange.host(),
            Self::Protocol => exchange.facts.protocol.as_bytes(),
            Self::Tls => exchange.facts.tls.as_bytes(),
            Self::Cipher => exchange.facts.cipher.as_bytes(),
            Self::Ended => ended.as_bytes(),
            Self::Phase => phase.as_bytes(),
            Self::Cause => cause.as_bytes(),
            Self::Reason => reason.as_bytes(),
        }
    }

    /// As much of that as the recorder keeps.
    pub(super) fn beginning<'a>(self, exchange: &Exchange<'a>) -> &'a [u8] {
        let text = self.of(exchange);
        let max = match self {
            Self::Text(text) => text.max(),
            Self::Path => Text::Target.max(),
            Self::Host => Text::Host.max(),
            _ => text.len(),
        };
        text.get(..max).unwrap_or(text)
    }

    /// Upper and lower case are the same in it.
    pub(super) fn ignores_case(self) -> bool {
        matches!(self, Self::Host)
    }
}

impl Flag {
    /// It is so.
    pub(super) fn of(self, exchange: &Exchange<'_>) -> bool {
        match self {
            Self::Failed => exchange.is_failed(),
            Self::Reused => exchange.facts.reused,
            Self::Resumed => exchange.facts.resumed,
            Self::WebSocket => exchange.facts.status == 101,
        }
    }
}
