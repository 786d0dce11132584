//! An HTTP/2 client that sends exactly the frames it is told.
//!
//! Header blocks are written as literals without compression; of those received only `:status` is
//! read, which needs no table because the client allows none. What names and values arrive is for
//! real clients to say (curl, nghttp).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::PATIENCE;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The error code of RST_STREAM or GOAWAY.
    #[track_caller]
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a SETTINGS frame.
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    payload
}

/// A header block of literals (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A string's length (RFC 7541 §5.1, with a prefix of 7 bits and no Huffman coding).
fn integer(block: &mut Vec<u8>, number: usize) {
    if number < 127 {
        return block.push(number as u8);
    }
    block.push(127);
    let mut rest = number - 127;
    while rest >= 128 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The fields of a GET.
pub fn get_fields(path: &str) -> Vec<(&str, &str)> {
    with_method("GET", path)
}

pub fn with_method<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "example.com"), (":path", path)]
}

/// Why there is no further frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The connection has ended.
    Closed,
    /// Nothing came for as long as it was waited for.
    Silent,
}

/// A response as far as the frame client understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Response {
    pub status: u16,
    /// The statuses of interim responses before it.
    pub interim: Vec<u16>,
    pub body: Vec<u8>,
    /// A header block came after the body.
    pub has_trailers: bool,
}

pub struct Http2 {
    pub stream: TcpStream,
    received: Vec<u8>,
    /// Frames of streams that nobody has asked for yet.
    stash: Vec<Frame>,
    /// Give windows for what is received.
    pub generous: bool,
    /// The window of the connection for what is sent; whoever sends DATA takes it from here.
    pub window: i64,
    /// The same of a stream that is the only one to send DATA.
    pub first_window: i64,
}

impl Http2 {
    /// Connects and exchanges settings, with these ones beside that of no table.
    #[track_caller]
    pub fn connect_with(to: SocketAddr, more: &[(u16, u32)]) -> Http2 {
        let mut client = Http2::silent(to);
        client.send(PREFACE);
        let all = [&[(HEADER_TABLE_SIZE, 0)], more].concat();
        client.send(frame(SETTINGS, 0, 0, settings(&all)));
        client.until(|frame| frame.kind == SETTINGS && frame.has(ACK));
        client
    }

    #[track_caller]
    pub fn connect(to: SocketAddr) -> Http2 {
        Http2::connect_with(to, &[])
    }

    /// Connects and sends nothing.
    #[track_caller]
    pub fn silent(to: SocketAddr) -> Http2 {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)
            .unwrap_or_else(|e| panic!("cannot connect to {to}: {e}"));
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Http2 {
            stream,
            received: Vec::new(),
            stash: Vec::new(),
            generous: true,
            window: 65_535,
            first_window: 65_535,
        }
    }

    /// Sends these bytes; says whether the connection took them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> bool {
        self.send(frame(kind, flags, stream, payload))
    }

    /// Opens a stream with these fields and no body.
    pub fn open(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, block(fields))
    }

    /// Opens a stream with these fields that a body follows.
    pub fn open_body(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.frame(HEADERS, END_HEADERS, stream, block(fields))
    }

    /// A GET and its response.
    #[track_caller]
    pub fn get(&mut self, stream: u32, path: &str) -> Http2Response {
        self.open(stream, &get_fields(path));
        self.response(stream)
    }

    /// The next frame, whatever it is.
    pub fn raw_frame(&mut self) -> Result<Frame, Gone> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Gone::Silent);
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut buf = [0; 16 * 1024];
            match self.stream.read(&mut buf) {
                Ok(0) => return Err(Gone::Closed),
                Ok(count) => self.received.extend_from_slice(&buf[..count]),
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    return Err(Gone::Silent);
                }
                Err(_) => return Err(Gone::Closed),
            }
        }
    }

    /// The next frame; settings and pings are acknowledged, windows given for what comes.
    pub fn next_frame(&mut self) -> Result<Frame, Gone> {
        let next = self.raw_frame()?;
        match next.kind {
            SETTINGS | PING if !next.has(ACK) => {
                let payload = if next.kind == PING { &next.payload[..] } else { &[] };
                self.frame(next.kind, ACK, 0, payload);
            }
            DATA if self.generous && !next.payload.is_empty() => {
                let size = (next.payload.len() as u32).to_be_bytes();
                self.frame(WINDOW_UPDATE, 0, 0, size);
                self.frame(WINDOW_UPDATE, 0, next.stream, size);
            }
            _ => {}
        }
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        match next.kind {
            WINDOW_UPDATE if next.stream == 0 => self.window += i64::from(number(&next.payload)),
            WINDOW_UPDATE => self.first_window += i64::from(number(&next.payload)),
            SETTINGS => {
                for setting in next.payload.chunks_exact(6).filter(|s| s[1] == 4) {
                    self.first_window += i64::from(number(&setting[2..])) - 65_535;
                }
            }
            _ => {}
        }
        Ok(next)
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.received.get(..9)?.try_into().unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.received.get(9..9 + len)?.to_vec();
        self.received.drain(..9 + len);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads frames until one fits, and gives that.
    #[track_caller]
    pub fn until(&mut self, fits: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            match self.next_frame() {
                Ok(frame) if fits(&frame) => return frame,
                Ok(_) => {}
                Err(gone) => panic!("the frame waited for did not come: {gone:?}"),
            }
        }
    }

    /// The whole response on a stream.
    #[track_caller]
    pub fn response(&mut self, stream: u32) -> Http2Response {
        match self.try_response(stream) {
            Ok(response) => response,
            Err(frame) => panic!("no whole response on stream {stream}: {frame:?}"),
        }
    }

    /// The same, or what ended the stream or connection.
    pub fn try_response(&mut self, stream: u32) -> Result<Http2Response, Option<Frame>> {
        let mut interim = Vec::new();
        let mut response: Option<Http2Response> = None;
        loop {
            let frame = match self.stash.iter().position(|frame| frame.stream == stream) {
                Some(at) => self.stash.remove(at),
                None => self.next_frame().map_err(|_| None)?,
            };
            match frame.kind {
                GOAWAY if frame.code() != NO_ERROR => return Err(Some(frame)),
                _ if frame.stream == 0 => continue,
                _ if frame.stream != stream => {
                    self.stash.push(frame);
                    continue;
                }
                RST_STREAM => return Err(Some(frame)),
                HEADERS => match &mut response {
                    Some(response) => response.has_trailers = true,
                    None => match status(&frame.payload) {
                        status @ 100..200 => interim.push(status),
                        status => {
                            let interim = std::mem::take(&mut interim);
                            let body = Vec::new();
                            let has_trailers = false;
                            response = Some(Http2Response { status, interim, body, has_trailers });
                        }
                    },
                },
                DATA => {
                    if let Some(response) = &mut response {
                        response.body.extend_from_slice(&frame.payload);
                    }
                }
                _ => continue,
            }
            if frame.has(END_STREAM) {
                return response.ok_or(None);
            }
        }
    }

    /// Waits until the stream is reset, and gives the error code.
    #[track_caller]
    pub fn reset_code(&mut self, stream: u32) -> u32 {
        self.until(|frame| frame.kind == RST_STREAM && frame.stream == stream).code()
    }

    /// Waits until the connection ends with GOAWAY (the last one counts) and gives its error code.
    /// `None` if it ends without one.
    #[track_caller]
    pub fn goaway_code(&mut self) -> Option<u32> {
        let mut code = None;
        loop {
            match self.next_frame() {
                Ok(frame) if frame.kind == GOAWAY => code = Some(frame.code()),
                Ok(_) => {}
                Err(Gone::Closed) => return code,
                Err(Gone::Silent) => panic!("the connection stays open (GOAWAY: {code:?})"),
            }
        }
    }

    /// Answers a ping: everything sent before it has been dealt with.
    #[track_caller]
    pub fn ping(&mut self) {
        self.frame(PING, 0, 0, b"in order");
        self.until(|frame| frame.kind == PING && frame.has(ACK) && frame.payload == b"in order");
    }
}

/// The status at the front of a header block (RFC 9113 §8.3.2).
#[track_caller]
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A size update of the table may come first (RFC 7541 §6.3).
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20).expect("an empty block");
    match block[start..] {
        [index @ 0x88..=0x8e, ..] => INDEXED[usize::from(index - 0x88)],
        [0x08 | 0x18 | 0x48, len, ref value @ ..] => {
            let value = &value[..usize::from(len & 0x7f)];
            let digits = if len & 0x80 == 0 { value.to_vec() } else { huffman_digits(value) };
            String::from_utf8(digits).unwrap().parse().unwrap()
        }
        ref other => panic!("not a status: {other:x?}"),
    }
}

/// Three digits in the code of RFC 7541, Appendix B: 5 bits for 0 to 2, 6 for the others.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    let mut digits = Vec::new();
    let mut at = 0;
    while digits.len() < 3 {
        let short = number(&bits[at..at + 5]);
        if short < 3 {
            digits.push(b'0' + short);
            at += 5;
        } else {
            digits.push(b'3' + number(&bits[at..at + 6]) - 0x19);
            at += 6;
        }
    }
    digits
}
