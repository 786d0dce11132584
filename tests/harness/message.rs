//! HTTP/1 messages read strictly, byte by byte as RFC 9112 has them, with no library: what a
//! lenient reader would repair shows here as an error.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

/// Why a message could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The peer closed before the first byte.
    Closed,
    /// The peer closed in the middle; how much of the body had come.
    Truncated(Vec<u8>),
    /// The connection was reset.
    Reset,
    /// Nothing came for [`super::PATIENCE`] (or the time the test set).
    TimedOut,
    /// Not HTTP/1 by the letter.
    Malformed(String),
}

/// A start line and its fields.
#[derive(Debug, Clone)]
pub struct Head {
    /// Without the line's end.
    pub start: String,
    /// In order, names as written.
    pub fields: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: &[u8]) -> Result<Head, Broken> {
        let text: String = raw.iter().map(|&b| b as char).collect();
        let mut lines = text.strip_suffix("\r\n\r\n").unwrap_or(&text).split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for line in lines {
            fields.push(field(line)?);
        }
        if start.contains(['\r', '\n', '\0']) {
            return Err(Broken::Malformed(format!("start line {start:?}")));
        }
        Ok(Head { start, fields })
    }

    /// The value of the only field of that name.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} came {} times: {:?}", all.len(), self.fields);
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |n: &str| n.eq_ignore_ascii_case(name);
        self.fields.iter().filter(|(n, _)| same(n)).map(|(_, v)| v.as_str()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub fn names(&self) -> Vec<&str> {
        self.fields.iter().map(|(n, _)| n.as_str()).collect()
    }

    /// The length its fields give, [`None`] when neither length nor coding is there.
    fn framing(&self) -> Result<Option<Framing>, Broken> {
        let bad = |what: &str| Err(Broken::Malformed(format!("{what}: {:?}", self.fields)));
        match (&self.all("transfer-encoding")[..], &self.all("content-length")[..]) {
            ([], []) => Ok(None),
            (["chunked"], []) => Ok(Some(Framing::Chunked)),
            ([], [n]) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
                n.parse().map(|n| Some(Framing::Length(n))).or(bad("length"))
            }
            _ => bad("framing"),
        }
    }
}

fn field(line: &str) -> Result<(String, String), Broken> {
    let bad = || Broken::Malformed(format!("field line {line:?}"));
    let (name, value) = line.split_once(':').ok_or_else(bad)?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) || value.contains(['\r', '\n', '\0']) {
        return Err(bad());
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub framing: Framing,
    /// 1xx responses that came before.
    pub interim: Vec<Head>,
}

impl Response {
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts the status; returns itself to go on with.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{:?}\n{}", self.head, self.text());
        self
    }
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub framing: Framing,
    /// Which connection of the origin it came over, from 0.
    pub connection: usize,
}

impl Request {
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.head.all(name)
    }
}

/// A stream socket of either family, or TLS on one.
#[derive(Debug)]
pub enum Sock {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Sock {
    pub fn set_patience(&self, time: Duration) {
        match self {
            Sock::Unix(s) => {
                s.set_read_timeout(Some(time)).and_then(|()| s.set_write_timeout(Some(time)))
            }
            Sock::Tcp(_) | Sock::Tls(_) => {
                let s = self.tcp().unwrap();
                s.set_read_timeout(Some(time)).and_then(|()| s.set_write_timeout(Some(time)))
            }
        }
        .unwrap();
    }

    /// The TCP connection, with or without TLS on it.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Sock::Tcp(s) => Some(s),
            Sock::Tls(s) => Some(&s.sock),
            Sock::Unix(_) => None,
        }
    }

    /// Ends what is said here; over TLS with `close_notify` first.
    pub fn shutdown(&mut self, how: Shutdown) {
        if let Sock::Tls(s) = self {
            s.conn.send_close_notify();
            let _ = s.flush();
        }
        let _ = match self {
            Sock::Tcp(s) => s.shutdown(how),
            Sock::Unix(s) => s.shutdown(how),
            Sock::Tls(s) => s.sock.shutdown(how),
        };
    }

    /// Makes the close that follows a reset (TCP RST) instead of an orderly end.
    pub fn reset_on_close(&self) {
        if let Some(s) = self.tcp() {
            socket2::SockRef::from(s).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }

    pub fn try_clone(&self) -> Sock {
        match self {
            Sock::Tcp(s) => Sock::Tcp(s.try_clone().unwrap()),
            Sock::Unix(s) => Sock::Unix(s.try_clone().unwrap()),
            Sock::Tls(_) => panic!("a TLS session has one owner"),
        }
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Sock::Tcp(s) => s.write_all(bytes),
            Sock::Unix(s) => s.write_all(bytes),
            Sock::Tls(s) => s.write_all(bytes),
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Sock::Tcp(s) => s.read(buf),
            Sock::Unix(s) => s.read(buf),
            Sock::Tls(s) => s.read(buf),
        }
    }
}

/// Longest head or chunk line read, in bytes; more would only ever fill memory.
const LINES_MAX: usize = 1 << 20;

/// Most 1xx responses read before a final one.
const INTERIM_MAX: usize = 1000;

/// One end of a connection: raw bytes out, strictly read messages in.
#[derive(Debug)]
pub struct Wire {
    pub sock: Sock,
    buf: Vec<u8>,
}

impl Wire {
    pub fn new(sock: Sock) -> Wire {
        Wire { sock, buf: Vec::new() }
    }

    /// Reads once; 0 is the peer's close.
    fn fill(&mut self) -> Result<usize, Broken> {
        let mut piece = vec![0; 64 * 1024];
        loop {
            match self.sock.read(&mut piece) {
                Ok(n) => {
                    self.buf.extend_from_slice(&piece[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Broken::TimedOut);
                }
                Err(_) => return Err(Broken::Reset),
            }
        }
    }

    /// Exactly `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<Vec<u8>, Broken> {
        while self.buf.len() < n {
            if self.fill()? == 0 {
                return Err(Broken::Truncated(std::mem::take(&mut self.buf)));
            }
        }
        Ok(self.buf.drain(..n).collect())
    }

    /// Up to and including `end`, which must come within [`LINES_MAX`] bytes.
    pub fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut from = 0;
        loop {
            if self.buf.len() > LINES_MAX && !self.buf.windows(end.len()).any(|w| w == end) {
                return Err(Broken::Malformed("no end of a head or line".into()));
            }
            let found = self.buf[from..].windows(end.len()).position(|w| w == end);
            if let Some(at) = found {
                return Ok(self.buf.drain(..from + at + end.len()).collect());
            }
            from = self.buf.len().saturating_sub(end.len() - 1);
            if self.fill()? == 0 {
                let rest = std::mem::take(&mut self.buf);
                return Err(if rest.is_empty() { Broken::Closed } else { Broken::Truncated(rest) });
            }
        }
    }

    /// Everything until the peer closes in order.
    pub fn rest(&mut self) -> Result<Vec<u8>, Broken> {
        while self.fill()? != 0 {}
        Ok(std::mem::take(&mut self.buf))
    }

    /// The next bytes, however many come at once.
    pub fn some(&mut self) -> Result<Vec<u8>, Broken> {
        if self.buf.is_empty() && self.fill()? == 0 {
            return Err(Broken::Closed);
        }
        Ok(std::mem::take(&mut self.buf))
    }

    pub fn head(&mut self) -> Result<Head, Broken> {
        Head::parse(&self.until(b"\r\n\r\n")?)
    }

    pub fn body(&mut self, framing: Framing) -> Result<(Vec<u8>, Trailers), Broken> {
        match framing {
            Framing::None => Ok((Vec::new(), Vec::new())),
            Framing::Length(n) => Ok((self.bytes(n)?, Vec::new())),
            Framing::UntilClose => Ok((self.rest()?, Vec::new())),
            Framing::Chunked => self.chunked(),
        }
    }

    fn chunked(&mut self) -> Result<(Vec<u8>, Trailers), Broken> {
        let mut body = Vec::new();
        let short = |body: &[u8], e: Broken| match e {
            Broken::Closed | Broken::Truncated(_) => Broken::Truncated(body.to_vec()),
            e => e,
        };
        loop {
            let line = self.until(b"\r\n").map_err(|e| short(&body, e))?;
            let text = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
            let hex = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(&text, 16);
            let (true, Ok(size)) = (hex, size) else {
                return Err(Broken::Malformed(format!("chunk size {text:?}")));
            };
            if size == 0 {
                break;
            }
            body.extend(self.bytes(size).map_err(|e| short(&body, e))?);
            let end = self.bytes(2).map_err(|e| short(&body, e))?;
            if end != b"\r\n" {
                return Err(Broken::Malformed(format!("chunk end {end:?}")));
            }
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.until(b"\r\n").map_err(|e| short(&body, e))?;
            if line == b"\r\n" {
                return Ok((body, trailers));
            }
            let text: String = line[..line.len() - 2].iter().map(|&b| b as char).collect();
            trailers.push(field(&text)?);
        }
    }

    /// The final response to a request with that method, body and all.
    pub fn response(&mut self, method: &str) -> Result<Response, Broken> {
        let (interim, status, head, framing) = self.response_head(method)?;
        let (body, trailers) = self.body(framing)?;
        Ok(Response { status, head, body, trailers, framing, interim })
    }

    /// Like [`Wire::response`], but leaves the body unread.
    pub fn response_head(
        &mut self,
        method: &str,
    ) -> Result<(Vec<Head>, u16, Head, Framing), Broken> {
        let mut interim = Vec::new();
        loop {
            let head = self.head()?;
            let status = status(&head.start)?;
            if (100..200).contains(&status) && status != 101 {
                if head.framing()?.is_some() {
                    return Err(Broken::Malformed("1xx with a body".into()));
                }
                interim.push(head);
                if interim.len() > INTERIM_MAX {
                    return Err(Broken::Malformed("1xx without end".into()));
                }
                continue;
            }
            let framing = match (head.framing()?, status) {
                (Some(Framing::Length(n)), 204) if n > 0 => {
                    return Err(Broken::Malformed("204 with a body".into()));
                }
                (Some(Framing::Chunked), 204 | 101) => {
                    return Err(Broken::Malformed("chunked where no body can be".into()));
                }
                (_, 101 | 204 | 304) => Framing::None,
                _ if method == "HEAD" => Framing::None,
                (Some(framing), _) => framing,
                (None, _) => Framing::UntilClose,
            };
            return Ok((interim, status, head, framing));
        }
    }

    pub fn request(&mut self) -> Result<Request, Broken> {
        let head = self.head()?;
        let parts: Vec<&str> = head.start.split(' ').collect();
        let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = parts[..] else {
            return Err(Broken::Malformed(format!("request line {:?}", head.start)));
        };
        let (method, target, version) = (method.into(), target.into(), version.into());
        let framing = head.framing()?.unwrap_or(Framing::None);
        let (body, trailers) = self.body(framing)?;
        Ok(Request { method, target, version, head, body, trailers, framing, connection: 0 })
    }
}

/// Field lines after the last chunk.
pub type Trailers = Vec<(String, String)>;

fn status(line: &str) -> Result<u16, Broken> {
    let bad = || Broken::Malformed(format!("status line {line:?}"));
    let rest = line.strip_prefix("HTTP/1.1 ").or(line.strip_prefix("HTTP/1.0 ")).ok_or_else(bad)?;
    let (code, _reason) = rest.split_at_checked(3).ok_or_else(bad)?;
    let valid = rest.as_bytes().get(3) == Some(&b' ') && code.bytes().all(|b| b.is_ascii_digit());
    if valid { code.parse().map_err(|_| bad()) } else { Err(bad()) }
}
