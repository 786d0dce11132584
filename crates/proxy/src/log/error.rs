//! The error log: short lines for people, with time and level.
//!
//! Off the fast path: a line is written only when something is wrong or when the process starts or
//! ends, so it may be formatted and allocated for.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use config::model::Level;

use super::stamp::rfc3339;
use super::{Cause, Party, Phase, Sink, escape, steers};

/// Messages that are remembered, those of single requests not among them.
pub const RECENT_MAX: usize = 256;
/// Bytes of each that are.
const RECENT_BYTES: usize = 512;

/// Where messages go that are not about one request's normal life. Cheap to clone, may be used
/// from any thread, never waits.
#[derive(Debug, Clone)]
pub struct ErrorLog {
    sink: Sink,
    level: Arc<AtomicU8>,
    recent: Arc<Mutex<VecDeque<Message>>>,
}

/// A message that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How severe.
    pub level: Level,
    /// What it said, or the beginning of that.
    pub text: String,
}

impl ErrorLog {
    /// Lines of `level` and more severe ones go to `sink`.
    #[must_use]
    pub fn new(sink: Sink, level: Level) -> Self {
        Self { sink, level: Arc::new(AtomicU8::new(level as u8)), recent: Arc::default() }
    }

    /// Lines that were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    /// Whether a line of this level would be written.
    #[must_use]
    pub fn enabled(&self, level: Level) -> bool {
        level as u8 <= self.level.load(Ordering::Relaxed)
    }

    /// From now on lines of `level` and more severe ones are written, whoever writes them.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes one line, such as `log.write(Level::Info, format_args!("listening on {addr}"))`.
    /// Control characters are escaped: a message is always one line.
    ///
    /// From [`Level::Info`] on it is remembered, whether it is written or not.
    pub fn write(&self, level: Level, message: fmt::Arguments<'_>) {
        if !self.enabled(level) && level > Level::Info {
            return;
        }
        let text = text_of(message);
        if self.enabled(level) {
            self.line(level, &text);
        }
        if level <= Level::Info {
            self.remember(level, text);
        }
    }

    /// The last messages that were not about single requests, the oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Message> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }

    fn remember(&self, level: Level, mut text: String) {
        let cut = (0..=RECENT_BYTES).rev().find(|at| text.is_char_boundary(*at));
        if let (Some(cut), true) = (cut, text.len() > RECENT_BYTES) {
            text.truncate(cut);
        }
        let at = unix_us(SystemTime::now()) / 1000;
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(Message { at, level, text });
    }

    /// [`Level::Error`]: requests fail or the process cannot go on.
    pub fn error(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Error, message);
    }

    /// [`Level::Warn`]: an operator should look.
    pub fn warn(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Warn, message);
    }

    /// [`Level::Info`]: normal life.
    pub fn info(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Info, message);
    }

    /// [`Level::Debug`]: for those who look for a fault.
    pub fn debug(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Debug, message);
    }

    /// Reports a request that could not be proxied as it should. What a client did is
    /// [`Level::Info`]: no operator can mend it.
    pub fn failure(&self, failure: &Failure<'_>) {
        let level = if failure.by == Party::Client { Level::Info } else { Level::Warn };
        if self.enabled(level) {
            self.line(level, &text_of(format_args!("{failure}")));
        }
    }

    fn line(&self, level: Level, message: &str) {
        let mut line = Vec::with_capacity(message.len() + 40);
        rfc3339(&mut line, unix_us(SystemTime::now()));
        line.push(b' ');
        line.extend_from_slice(level_word(level).as_bytes());
        line.push(b' ');
        for character in message.chars() {
            if steers(character) {
                line.extend_from_slice(character.escape_default().to_string().as_bytes());
            } else {
                line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        line.push(b'\n');
        self.sink.write(line, 1);
    }
}

fn text_of(message: fmt::Arguments<'_>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _infallible = text.write_fmt(message);
    text
}

/// A proxied request that went wrong; displays as the error log's message.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// Label of the endpoint; empty when none could be chosen.
    pub endpoint: &'a str,
    /// Name of the pool.
    pub pool: &'a str,
    /// Name of the site.
    pub site: &'a str,
    /// Who is to blame.
    pub by: Party,
    /// What was being done.
    pub phase: Phase,
    /// What went wrong.
    pub cause: Cause,
    /// What the operating system or the parser said; may be empty.
    pub detail: &'a str,
    /// The status answered; `None` when the response had begun and had to be broken off.
    pub answered: Option<u16>,
    /// The method as received.
    pub method: &'a [u8],
    /// The request target as received.
    pub target: &'a [u8],
    /// The request's id.
    pub request_id: &'a [u8],
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("proxy: upstream ")?;
        if !self.endpoint.is_empty() {
            write!(f, "{} ", self.endpoint)?;
        }
        write!(f, "(pool {:?}, site {:?}): ", self.pool, self.site)?;
        if self.by != Party::Upstream {
            write!(f, "{}: ", self.by.as_str())?;
        }
        write!(f, "{}: {}", self.phase.as_str(), self.cause.explain())?;
        // "connection refused (Connection refused (os error 111))" says it twice.
        let explained = self.cause.explain();
        let repeats =
            self.detail.get(..explained.len()).is_some_and(|s| s.eq_ignore_ascii_case(explained));
        if !self.detail.is_empty() && !repeats {
            write!(f, " ({})", self.detail)?;
        }
        match self.answered {
            Some(status) => write!(f, "; answered {status} to ")?,
            None => f.write_str("; broke off the response to ")?,
        }
        let mut request = Vec::new();
        escape::quoted(&mut request, self.method);
        request.push(b' ');
        escape::quoted(&mut request, self.target);
        request.extend_from_slice(b" id=");
        escape::word(&mut request, self.request_id);
        f.write_str(&String::from_utf8_lossy(&request))
    }
}

impl Cause {
    /// A phrase for people.
    fn explain(self) -> &'static str {
        match self {
            Self::QueueFull => "no endpoint had room, and too many wait for one",
            Self::QueueTimeout => "no endpoint had room in time",
            Self::Down => "found down while it owed a response",
            Self::Goaway => "the upstream did nothing with the request",
            Self::HeadTooLarge => "the head of the response is too large",
            Self::BadUpgrade => "a change of protocol nobody asked for",
            Self::Certificate => "TLS failed, the certificate is no good",
            finer => finer.class().explain_class(),
        }
    }

    fn explain_class(self) -> &'static str {
        match self {
            Self::Closed => "connection closed too early",
            Self::Reset => "connection reset",
            Self::Timeout => "timed out",
            Self::Refused => "connection refused",
            Self::Unreachable => "host or network unreachable",
            Self::Unresolved => "address not found",
            Self::Tls => "TLS failed",
            Self::Malformed => "broken HTTP",
            Self::Unsupported => "not supported",
            Self::NoEndpoint => "no endpoint available",
            Self::CircuitOpen => "the circuit breaker is open",
            Self::Limit => "over a configured limit",
            Self::RateLimit => "beyond a rate limit",
            Self::Denied => "denied by the configuration",
            Self::Aborted => "given up",
            // And those that are no class.
            _ => "internal error",
        }
    }
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

fn unix_us(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{Order, sink};
    use super::*;

    fn written(source: &super::super::Source) -> Option<String> {
        match source.orders.try_recv() {
            Ok(Order::Write(block)) => Some(String::from_utf8(block.bytes).unwrap()),
            _ => None,
        }
    }

    fn refused() -> Failure<'static> {
        Failure {
            endpoint: "http://10.0.0.2:80",
            pool: "backend",
            site: "main",
            by: Party::Upstream,
            phase: Phase::Connect,
            cause: Cause::Refused,
            detail: "",
            answered: Some(502),
            method: b"GET",
            target: b"/api/x",
            request_id: b"7",
        }
    }

    #[test]
    fn a_failure_says_what_happened_where_and_what_the_client_got() {
        let (sink, source) = sink(8);
        let log = ErrorLog::new(sink, Level::Warn);
        log.failure(&refused());
        let line = written(&source).unwrap();
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        assert_eq!(
            rest,
            "warn proxy: upstream http://10.0.0.2:80 (pool \"backend\", site \"main\"): connect: \
             connection refused; answered 502 to GET /api/x id=7\n"
        );
        let os_error = Failure { detail: "Connection refused (os error 111)", ..refused() };
        assert_eq!(os_error.to_string(), refused().to_string());
        let parser = Failure { detail: "status line", ..refused() };
        assert!(parser.to_string().contains("connection refused (status line); answered"));
        let none = Failure {
            endpoint: "",
            by: Party::Proxy,
            phase: Phase::Queue,
            cause: Cause::NoEndpoint,
            answered: Some(503),
            ..refused()
        };
        assert_eq!(
            none.to_string(),
            "proxy: upstream (pool \"backend\", site \"main\"): proxy: queue: no endpoint \
             available; answered 503 to GET /api/x id=7"
        );
    }

    #[test]
    fn less_severe_lines_are_left_out() {
        let (sink, source) = sink(8);
        let log = ErrorLog::new(sink, Level::Warn);
        log.info(format_args!("nothing to see"));
        log.failure(&Failure { by: Party::Client, ..refused() });
        assert!(written(&source).is_none());
        log.error(format_args!("seen"));
        assert!(written(&source).unwrap().ends_with(" error seen\n"));
    }

    #[test]
    fn a_message_stays_one_line() {
        let (sink, source) = sink(8);
        let log = ErrorLog::new(sink, Level::Info);
        log.warn(format_args!("a\nb\x1b[31m"));
        assert!(written(&source).unwrap().ends_with(" warn a\\nb\\u{1b}[31m\n"));
        log.failure(&Failure { target: b"/\r\n\xff", ..refused() });
        let line = written(&source).unwrap();
        assert!(line.contains("GET /\\x0d\\x0a\\xff id=7\n"), "{line}");
    }

    #[test]
    fn messages_are_remembered_and_those_of_requests_are_not() {
        let (sink, _source) = sink(8);
        let log = ErrorLog::new(sink, Level::Error);
        let clone = log.clone();
        log.failure(&refused());
        log.debug(format_args!("detail"));
        assert_eq!(log.recent(), []);
        clone.info(format_args!("up"));
        clone.warn(format_args!("{}", "ä".repeat(1000)));
        let recent = log.recent();
        assert_eq!((recent[0].level, &*recent[0].text), (Level::Info, "up"));
        assert_eq!(recent[1].text, "ä".repeat(RECENT_BYTES / 2));
        (0..RECENT_MAX).for_each(|number| log.warn(format_args!("{number}")));
        assert_eq!((log.recent().len(), &*log.recent()[0].text), (RECENT_MAX, "0"));
    }
}
