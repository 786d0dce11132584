//! A log that is sent to a syslog (RFC 5424), here or elsewhere.
//!
//! Everything happens on the writer's thread: looking up the name, connecting, sending. What always
//! holds: lines wait for a connection within a bound of bytes, and what is beyond it is lost and
//! counted; a line is sent as one datagram, or as a frame whose length is counted (RFC 6587), so that
//! nothing a client sends can begin a line of its own there.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use config::model::{SyslogAddress, SyslogLabel};
use proxy::log::rfc3339;
use rustix::io::Errno;

use super::output::Kind;
use super::{Lost, lines_in};

/// Bytes of lines that wait while there is no connection.
const WAITING_MAX: usize = 4 * 1024 * 1024;

/// Longest message in a datagram: every receiver takes 2048 (RFC 5424 §6.1), common ones 8192.
const DATAGRAM_MAX: usize = 8 * 1024;
const DATAGRAM_SURE: usize = 2 * 1024;

/// For connecting, and for one write.
const STEP_MAX: Duration = Duration::from_secs(2);

/// Between two attempts to connect: the first pause, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// A name of a host is looked up again after this, so that a syslog that has moved is found.
const LOOKUP_AGAIN: Duration = Duration::from_secs(300);

/// Severities (RFC 5424 §6.2.1).
const ERROR: u8 = 3;
const WARNING: u8 = 4;
const INFO: u8 = 6;
const DEBUG: u8 = 7;

/// A syslog and what waits for it.
#[derive(Debug)]
pub(super) struct Syslog {
    address: SyslogAddress,
    framing: Framer,
    link: Link,
    /// When it was connected.
    since: Instant,
    retry: Option<Instant>,
    pause: Duration,
    /// Why there is no connection.
    fault: Option<String>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

/// Lines that have not been sent.
#[derive(Debug)]
struct Waiting {
    block: Vec<u8>,
    /// How many bytes of it, whole lines, have been sent.
    sent: usize,
}

#[derive(Debug)]
enum Link {
    Down,
    UnixDatagram(UnixDatagram),
    UnixStream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Syslog {
    pub(super) fn new(address: SyslogAddress, label: &SyslogLabel, kind: Kind) -> Self {
        Self {
            address,
            framing: Framer::new(label, kind),
            link: Link::Down,
            since: Instant::now(),
            retry: None,
            pause: PAUSE_MIN,
            fault: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    pub(super) fn name(&self) -> String {
        match &self.address {
            SyslogAddress::Unix(path) => format!("the syslog at {}", path.display()),
            SyslogAddress::Udp(host, port) => format!("the syslog at udp://{host}:{port}"),
            SyslogAddress::Tcp(host, port) => format!("the syslog at tcp://{host}:{port}"),
        }
    }

    /// Connects anew for the next line.
    pub(super) fn hang_up(&mut self) {
        (self.link, self.retry) = (Link::Down, None);
    }

    /// Sends lines, or keeps them until there is a connection.
    pub(super) fn write(&mut self, block: &[u8], lines: u64) -> Lost {
        if self.waiting_bytes.saturating_add(block.len()) > WAITING_MAX {
            let mut lost = self.send();
            if self.waiting_bytes.saturating_add(block.len()) > WAITING_MAX {
                lost.lines = lost.lines.saturating_add(lines);
                lost.why = lost.why.or_else(|| self.fault.clone());
                return lost;
            }
        }
        self.waiting_bytes = self.waiting_bytes.saturating_add(block.len());
        self.waiting.push_back(Waiting { block: block.to_vec(), sent: 0 });
        self.send()
    }

    /// Tries to send what waits.
    pub(super) fn look(&mut self) -> Lost {
        match self.waiting.is_empty() {
            true => Lost::default(),
            false => self.send(),
        }
    }

    /// Sends what waits, once more; what cannot be sent is lost.
    pub(super) fn finish(&mut self) -> Lost {
        self.retry = None;
        let mut lost = self.send();
        let left = self.waiting.drain(..).map(|waiting| lines_in(waiting.rest())).sum::<u64>();
        lost.lines = lost.lines.saturating_add(left);
        lost
    }

    fn send(&mut self) -> Lost {
        let mut lost = Lost::default();
        if let Err(error) = self.connect() {
            lost.why = self.fall(&error);
            return lost;
        }
        while let Some(first) = self.waiting.front_mut() {
            let sent = match &mut self.link {
                Link::Down => return lost,
                Link::UnixDatagram(to) => {
                    self.framing.datagrams(first, &mut lost, |line| to.send(line))
                }
                Link::Udp(to) => {
                    let sent = self.framing.datagrams(first, &mut lost, |line| to.send(line));
                    // Nobody listens there: one that was sent before has not arrived.
                    lost.lines += u64::from(is_refused(&sent));
                    sent
                }
                Link::UnixStream(to) => self.framing.stream(first, false, to),
                Link::Tcp(to) => self.framing.stream(first, true, to),
            };
            if let Err(error) = sent {
                lost.why = self.fall(&error);
                return lost;
            }
            let done = self.waiting.pop_front();
            let bytes = done.map_or(0, |done| done.block.len());
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        }
        lost
    }

    /// Makes sure that there is a connection, if it is time to try.
    fn connect(&mut self) -> io::Result<()> {
        let is_old = match self.link {
            Link::Udp(_) => self.since.elapsed() >= LOOKUP_AGAIN,
            _ => false,
        };
        if is_old || self.link.is_closed() {
            self.hang_up();
        }
        if !matches!(self.link, Link::Down) || self.retry.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        match Link::open(&self.address) {
            Ok(link) => {
                (self.link, self.since) = (link, Instant::now());
                (self.retry, self.pause, self.fault) = (None, PAUSE_MIN, None);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Tries again later; says why.
    fn fall(&mut self, error: &io::Error) -> Option<String> {
        self.fault = Some(error.to_string());
        self.link = Link::Down;
        self.retry = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.fault.clone()
    }
}

impl Waiting {
    fn rest(&self) -> &[u8] {
        self.block.get(self.sent..).unwrap_or_default()
    }

    /// The next line, without its end.
    fn line(&self) -> Option<&[u8]> {
        self.rest().split(|byte| *byte == b'\n').next().filter(|_| !self.rest().is_empty())
    }

    fn advance(&mut self, line: usize) {
        self.sent = self.sent.saturating_add(line).saturating_add(1).min(self.block.len());
    }
}

impl Link {
    fn open(address: &SyslogAddress) -> io::Result<Self> {
        match address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                match socket.connect(path) {
                    Ok(()) => {
                        socket.set_write_timeout(Some(STEP_MAX))?;
                        Ok(Self::UnixDatagram(socket))
                    }
                    // It is a stream socket.
                    Err(error) if is(&error, Errno::PROTOTYPE) => {
                        let stream = UnixStream::connect(path)?;
                        stream.set_write_timeout(Some(STEP_MAX))?;
                        Ok(Self::UnixStream(stream))
                    }
                    Err(error) => Err(error),
                }
            }
            SyslogAddress::Udp(host, port) => first(host, *port, |address| {
                let any: SocketAddr = match address {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Ok(socket)
            })
            .map(Self::Udp),
            SyslogAddress::Tcp(host, port) => first(host, *port, |address| {
                let stream = TcpStream::connect_timeout(&address, STEP_MAX)?;
                stream.set_write_timeout(Some(STEP_MAX))?;
                Ok(stream)
            })
            .map(Self::Tcp),
        }
    }

    /// The other side of a stream has closed it: what is written now would be lost without a word.
    fn is_closed(&mut self) -> bool {
        let mut byte = [0; 64];
        let read = match self {
            Self::Tcp(stream) => stream.set_nonblocking(true).and_then(|()| stream.read(&mut byte)),
            Self::UnixStream(stream) => {
                stream.set_nonblocking(true).and_then(|()| stream.read(&mut byte))
            }
            _ => return false,
        };
        let back = match self {
            Self::Tcp(stream) => stream.set_nonblocking(false),
            Self::UnixStream(stream) => stream.set_nonblocking(false),
            _ => Ok(()),
        };
        let gone = match read {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        gone || back.is_err()
    }
}

fn is_refused(sent: &io::Result<()>) -> bool {
    sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// The first of the addresses of a host that can be opened.
fn first<T>(host: &str, port: u16, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host name does not resolve");
    for address in (host, port).to_socket_addrs()? {
        match open(address) {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Makes messages of lines.
#[derive(Debug)]
struct Framer {
    facility: u8,
    kind: Kind,
    /// Host, application, process and kind, with blanks around each.
    names: String,
    message: Vec<u8>,
    frames: Vec<u8>,
}

impl Framer {
    fn new(label: &SyslogLabel, kind: Kind) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = match host.trim() {
            host if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()) => host,
            _ => "-",
        };
        let what = match kind {
            Kind::Access => "access",
            Kind::Error => "error",
        };
        let names = format!(" {host} {} {} {what} - ", label.tag, std::process::id());
        let (message, frames) = (Vec::new(), Vec::new());
        Self { facility: label.facility, kind, names, message, frames }
    }

    /// Makes the message of one line.
    fn make(&mut self, line: &[u8]) {
        let (severity, time, text) = match self.kind {
            Kind::Access => (INFO, None, line),
            Kind::Error => of_error(line),
        };
        let priority = self.facility.saturating_mul(8).saturating_add(severity);
        self.message.clear();
        self.message.extend_from_slice(format!("<{priority}>1 ").as_bytes());
        match time {
            Some(time) => self.message.extend_from_slice(time),
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                rfc3339(&mut self.message, u64::try_from(now.as_micros()).unwrap_or(0));
            }
        }
        self.message.extend_from_slice(self.names.as_bytes());
        self.message.extend_from_slice(text);
    }

    /// Sends each line as a datagram.
    fn datagrams(
        &mut self,
        waiting: &mut Waiting,
        lost: &mut Lost,
        send: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while let Some(line) = waiting.line() {
            let length = line.len();
            self.make(line);
            let mut sent = send(shortened(&self.message, DATAGRAM_MAX));
            if sent.as_ref().is_err_and(|error| is(error, Errno::MSGSIZE)) {
                sent = send(shortened(&self.message, DATAGRAM_SURE));
            }
            match sent {
                Ok(_) => {}
                // The system has no room for it at present.
                Err(error) if is(&error, Errno::NOBUFS) => {
                    lost.lines = lost.lines.saturating_add(1);
                    lost.why = Some(error.to_string());
                }
                // A socket that takes no more (within its time) is one, too: lines wait for it.
                Err(error) => return Err(error),
            }
            waiting.advance(length);
        }
        Ok(())
    }

    /// Writes all lines, each with its length in front if octets are `counted`, else with its end. What
    /// was not written whole remains.
    fn stream(
        &mut self,
        waiting: &mut Waiting,
        counted: bool,
        to: &mut impl Write,
    ) -> io::Result<()> {
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        // Where each frame ends, and how long its line is.
        let mut ends = Vec::new();
        let mut seen = Waiting { block: std::mem::take(&mut waiting.block), sent: waiting.sent };
        while let Some(line) = seen.line() {
            let length = line.len();
            self.make(line);
            if counted {
                frames.extend_from_slice(format!("{} ", self.message.len()).as_bytes());
            }
            frames.extend_from_slice(&self.message);
            if !counted {
                frames.push(b'\n');
            }
            ends.push((frames.len(), length));
            seen.advance(length);
        }
        waiting.block = seen.block;
        let (written, result) = write_counted(to, &frames);
        for (_, length) in ends.iter().filter(|(end, _)| *end <= written) {
            waiting.advance(*length);
        }
        self.frames = frames;
        result
    }
}

/// Writes all of it; says how much that was if it fails.
fn write_counted(to: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(count) => written = written.saturating_add(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn shortened(message: &[u8], max: usize) -> &[u8] {
    message.get(..max).unwrap_or(message)
}

/// Severity, time and text of a line of the error log: `TIME LEVEL TEXT`.
fn of_error(line: &[u8]) -> (u8, Option<&[u8]>, &[u8]) {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (time, level, text) = (words.next(), words.next(), words.next());
    let severity = match level {
        Some(b"error") => ERROR,
        Some(b"warn") => WARNING,
        Some(b"info") => INFO,
        Some(b"debug") => DEBUG,
        _ => return (WARNING, None, line),
    };
    (severity, time, text.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framer(kind: Kind) -> Framer {
        let mut framer = Framer::new(&SyslogLabel::default(), kind);
        framer.names = " host ravelin 7 error - ".to_owned();
        framer
    }

    fn message(framer: &mut Framer, line: &str) -> String {
        framer.make(line.as_bytes());
        String::from_utf8(framer.message.clone()).unwrap()
    }

    #[test]
    fn rfc5424_6_a_line_of_the_error_log_has_its_own_time_and_severity() {
        let framer = &mut framer(Kind::Error);
        let time = "2026-11-21T05:20:06.285Z";
        for (level, priority) in [("error", 131), ("warn", 132), ("info", 134), ("debug", 135)] {
            assert_eq!(
                message(framer, &format!("{time} {level} it is so")),
                format!("<{priority}>1 {time} host ravelin 7 error - it is so")
            );
        }
        assert!(message(framer, "what is this").ends_with(" - what is this"));
    }

    #[test]
    fn rfc6587_3_4_1_octets_are_counted_and_what_was_not_sent_remains() {
        struct Narrow(Vec<u8>, usize);
        impl Write for Narrow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let count = bytes.len().min(self.1);
                if count == 0 {
                    return Err(ErrorKind::BrokenPipe.into());
                }
                self.0.extend_from_slice(&bytes[..count]);
                self.1 -= count;
                Ok(count)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let framer = &mut framer(Kind::Error);
        let line = "2026-11-21T05:20:06.285Z warn one";
        framer.make(line.as_bytes());
        let frame = framer.message.len() + 3;
        let block = format!("{line}\n{line}\n{line}\n").into_bytes();
        let mut waiting = Waiting { block, sent: 0 };
        let mut to = Narrow(Vec::new(), frame * 2 - 1);
        assert!(framer.stream(&mut waiting, true, &mut to).is_err());
        assert_eq!(lines_in(waiting.rest()), 2, "the second was cut");
        let mut to = Narrow(Vec::new(), 1_000_000);
        framer.stream(&mut waiting, true, &mut to).unwrap();
        assert!(waiting.rest().is_empty());
        let text = String::from_utf8(to.0).unwrap();
        assert_eq!(text.matches(&format!("{} <132>1 ", frame - 3)).count(), 2, "{text}");
    }

    #[test]
    fn what_waits_for_a_connection_is_bounded() {
        let nowhere = SyslogAddress::Unix("/nonexistent/log".into());
        let mut syslog = Syslog::new(nowhere, &SyslogLabel::default(), Kind::Access);
        let block = vec![b'\n'; 1024 * 1024];
        let lost: u64 = (0..6).map(|_| syslog.write(&block, 1024 * 1024).lines).sum();
        assert_eq!(lost, 2 * 1024 * 1024);
        assert_eq!(syslog.waiting_bytes, WAITING_MAX);
        assert_eq!(syslog.finish().lines, 4 * 1024 * 1024);
    }
}
