//! A finished exchange as the recorder has it: plain values, and texts that are cut to a bounded length.
//!
//! One form for everything: [`Exchange::of`] borrows it from the [`Record`] of an exchange that has just
//! ended, the rings give it back from their memory, and [`Kept`] owns one on its way to another thread.
//! Filters look at nothing else.

use std::net::IpAddr;

use crate::copy::copy;
use crate::log::{Ended, Phase, Record, Times, reasons};

/// How many texts an exchange has.
pub(super) const TEXTS: usize = 10;

/// The texts of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// The method as received.
    Method,
    /// The request target, as it may be logged.
    Target,
    /// The `Host` field, or the authority of an absolute target.
    Host,
    /// The `User-Agent` field.
    UserAgent,
    /// Who made the request, by its credentials.
    User,
    /// The site.
    Site,
    /// The route.
    Route,
    /// The pool.
    Pool,
    /// The last endpoint tried.
    Endpoint,
    /// The id of the request.
    RequestId,
}

impl Text {
    /// All of them, in the order of their places.
    pub const ALL: [Text; TEXTS] = [
        Text::Method,
        Text::Target,
        Text::Host,
        Text::UserAgent,
        Text::User,
        Text::Site,
        Text::Route,
        Text::Pool,
        Text::Endpoint,
        Text::RequestId,
    ];

    /// Bytes of it that are kept; what is longer is cut and marked.
    pub const fn max(self) -> usize {
        match self {
            Text::Method | Text::Site | Text::Pool => 32,
            Text::Host | Text::User | Text::Route => 64,
            Text::UserAgent | Text::Endpoint => 96,
            Text::RequestId => 64,
            Text::Target => 256,
        }
    }
}

/// Bytes that the texts of one exchange take at most.
pub(super) const TEXT_MAX: usize = {
    let (mut sum, mut at) = (0, 0);
    while at < TEXTS {
        sum += Text::ALL[at].max();
        at += 1;
    }
    sum
};

/// [`Text::max`] of each.
const MAXES: [usize; TEXTS] = {
    let (mut all, mut at) = ([0; TEXTS], 0);
    while at < TEXTS {
        all[at] = Text::ALL[at].max();
        at += 1;
    }
    all
};

/// The phases whose times are kept, beside the total.
pub(super) const PHASES: usize = 8;

/// A time that was not measured, because its phase was not reached.
const NO_TIME: u32 = u32::MAX;

/// What of an exchange is no text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// When its first byte arrived, in microseconds since the Unix epoch.
    pub wall_us: u64,
    /// From the first byte of the request to the last of the response, in microseconds.
    pub total_us: u64,
    /// Bytes of content from the client.
    pub request_bytes: u64,
    /// Bytes of content to the client.
    pub response_bytes: u64,
    /// The version of HTTP the client spoke; empty if its head could not be read.
    pub protocol: &'static str,
    /// The version of TLS; empty on a plain connection.
    pub tls: &'static str,
    /// Name of the TLS cipher suite.
    pub cipher: &'static str,
    /// See [`Facts::phase`].
    phases: [u32; PHASES],
    /// The client's address; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// The client's port; 0 if it is not known.
    pub client_port: u16,
    /// The status sent.
    pub status: u16,
    /// How many attempts were made.
    pub attempts: u16,
    /// The number of the listener.
    pub listener: u16,
    /// The last attempt used a kept connection.
    pub reused: bool,
    /// Its TLS session was resumed.
    pub resumed: bool,
    /// How it ended.
    pub ended: Ended,
}

/// The order of the times in [`Facts`].
pub const TIMED: [Timed; PHASES] = [
    Timed::Accept,
    Timed::Tls,
    Timed::Head,
    Timed::Held,
    Timed::Queue,
    Timed::Connect,
    Timed::FirstByte,
    Timed::Transfer,
];

/// A step of an exchange that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// From the accepted connection to the first byte of its first request.
    Accept,
    /// The TLS handshake.
    Tls,
    /// Reading the request's head.
    Head,
    /// Held until a rate limit let it go on.
    Held,
    /// Waiting for an endpoint.
    Queue,
    /// Opening a connection to it.
    Connect,
    /// Until the response head.
    FirstByte,
    /// Passing the response on.
    Transfer,
}

impl Timed {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Timed::Accept => "accept",
            Timed::Tls => "tls",
            Timed::Head => "head",
            Timed::Held => "held",
            Timed::Queue => "queue",
            Timed::Connect => "connect",
            Timed::FirstByte => "first_byte",
            Timed::Transfer => "transfer",
        }
    }
}

/// A finished exchange.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// What is no text.
    pub facts: Facts,
    texts: [&'a [u8]; TEXTS],
    cut: u16,
}

impl<'a> Exchange<'a> {
    /// What `record` says, uncut.
    pub fn of(record: &Record<'a>) -> Self {
        let times = &record.times;
        let facts = Facts {
            wall_us: record.wall_us,
            total_us: times.total,
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            protocol: protocol(record.version),
            tls: record.tls.map_or("", |tls| tls.version),
            cipher: record.tls.map_or("", |tls| tls.cipher),
            phases: phases(times),
            client: record.client,
            client_port: record.client_port,
            status: record.status,
            attempts: u16::try_from(record.attempts).unwrap_or(u16::MAX),
            listener: u16::try_from(record.listener).unwrap_or(u16::MAX),
            reused: record.reused,
            resumed: record.tls.is_some_and(|tls| tls.resumed),
            ended: record.ended,
        };
        let texts = [
            record.method,
            record.target,
            record.host,
            record.user_agent,
            record.user,
            record.site.as_bytes(),
            record.route.unwrap_or_default().as_bytes(),
            record.pool.map_or(&[], |pool| pool.name.as_bytes()),
            record.endpoint.as_bytes(),
            record.request_id,
        ];
        Self { facts, texts, cut: 0 }
    }

    /// One of its texts; empty if that is not known.
    pub fn text(&self, which: Text) -> &'a [u8] {
        self.texts.get(which as usize).copied().unwrap_or_default()
    }

    /// Only the beginning of that text was kept.
    pub fn is_cut(&self, which: Text) -> bool {
        self.cut & 1 << which as usize != 0
    }

    /// The target without its query.
    pub fn path(&self) -> &'a [u8] {
        let target = self.text(Text::Target);
        let end = target.iter().position(|byte| *byte == b'?');
        target.get(..end.unwrap_or(target.len())).unwrap_or_default()
    }

    /// The host without its port.
    pub fn host(&self) -> &'a [u8] {
        let host = self.text(Text::Host);
        let port = host.iter().rposition(|byte| *byte == b':');
        match port.and_then(|at| host.split_at_checked(at)) {
            Some((name, port)) if port.iter().skip(1).all(u8::is_ascii_digit) => name,
            _ => host,
        }
    }

    /// Those of its texts that are longer than what is kept of them, as bits.
    fn long(&self) -> u16 {
        let long = self.texts.iter().zip(MAXES).enumerate();
        long.fold(0, |all, (at, (text, max))| all | u16::from(text.len() > max) << at)
    }

    /// It went wrong: it was broken off or could not be served, or the status says so.
    pub fn is_failed(&self) -> bool {
        self.facts.status >= 500 || self.facts.ended != Ended::Complete
    }
}

impl Facts {
    /// How long a phase took, in microseconds (an hour at most); `None` if it was not reached.
    pub fn phase(&self, which: Timed) -> Option<u64> {
        let time = self.phases.get(which as usize).copied().unwrap_or(NO_TIME);
        (time != NO_TIME).then(|| u64::from(time))
    }
}

fn phases(times: &Times) -> [u32; PHASES] {
    [
        times.accept,
        times.tls,
        times.head,
        times.held,
        times.queue,
        times.connect,
        times.first_byte,
        times.transfer,
    ]
    .map(micros)
}

fn micros(time: Option<u64>) -> u32 {
    time.map_or(NO_TIME, |time| u32::try_from(time).unwrap_or(NO_TIME).min(NO_TIME - 1))
}

/// The same for as long as the process lives.
fn protocol(version: &str) -> &'static str {
    match version {
        "HTTP/1.1" => "HTTP/1.1",
        "HTTP/2.0" => "HTTP/2.0",
        "HTTP/1.0" => "HTTP/1.0",
        "HTTP/3.0" => "HTTP/3.0",
        _ => "",
    }
}

/// The text of an exchange in memory that is used again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stored {
    facts: Facts,
    lens: [u16; TEXTS],
    cut: u16,
}

impl Stored {
    /// Becomes that of `exchange`, whose texts it writes, cut, to the front of `memory`. That has room for
    /// [`TEXT_MAX`] bytes; how many it took.
    pub(super) fn fill(&mut self, exchange: &Exchange<'_>, memory: &mut [u8]) -> usize {
        let size = memory.len();
        let mut room = memory;
        for (text, (len, max)) in exchange.texts.iter().zip(self.lens.iter_mut().zip(MAXES)) {
            let kept = text.get(..max).unwrap_or(text);
            let before = room.len();
            room = copy(room, kept);
            *len = (before - room.len()) as u16;
        }
        let end = size - room.len();
        self.facts = exchange.facts;
        self.cut = exchange.cut | exchange.long();
        end
    }

    /// The exchange whose texts are at the front of `memory`.
    pub(super) fn read<'a>(&self, memory: &'a [u8]) -> Exchange<'a> {
        let mut rest = memory;
        let texts = self.lens.map(|len| {
            let (text, after) = rest.split_at_checked(usize::from(len)).unwrap_or_default();
            rest = after;
            text
        });
        Exchange { facts: self.facts, texts, cut: self.cut }
    }
}

/// An exchange that owns its texts.
#[derive(Debug, Clone)]
pub struct Kept {
    stored: Stored,
    memory: Box<[u8]>,
}

impl Kept {
    /// A copy of `exchange`, its texts cut.
    pub fn new(exchange: &Exchange<'_>) -> Self {
        let (mut stored, mut memory) = (Stored::default(), [0; TEXT_MAX]);
        let len = stored.fill(exchange, &mut memory);
        Self { stored, memory: memory.get(..len).unwrap_or_default().into() }
    }

    /// The exchange.
    pub fn exchange(&self) -> Exchange<'_> {
        self.stored.read(&self.memory)
    }
}

/// The words for how an exchange ended: who, in which phase, for which cause, and the name for all of it;
/// the first is `complete`, and the others are empty, if it ended well.
pub fn how(ended: Ended) -> [&'static str; 4] {
    match ended {
        Ended::Complete => ["complete", "", "", ""],
        Ended::Failed { by, phase, cause } => {
            let reason = reasons::of(by, phase, cause);
            [by.as_str(), Phase::as_str(phase), cause.as_str(), reason.name]
        }
    }
}
