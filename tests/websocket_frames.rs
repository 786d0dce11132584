//! WebSockets whose frames are looked at, frame by frame.

mod closing;
mod keep_alive;
mod limits;
mod policy;
mod protocol;

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::*;

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
/// The first byte of a text message that goes on.
pub const TEXT_BEGINS: u8 = 0x01;
pub const GOES_ON: u8 = 0x00;
pub const ENDS: u8 = 0x80;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a server sends it.
pub fn plain(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = vec![first];
    push_length(&mut frame, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// A frame as a client sends it.
pub fn masked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = vec![first];
    push_length(&mut frame, payload.len(), 0x80);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn push_length(frame: &mut Vec<u8>, len: usize, bit: u8) {
    match len {
        0..=125 => frame.push(len as u8 | bit),
        126..=0xffff => {
            frame.push(126 | bit);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            frame.push(127 | bit);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// The payload of a close frame.
pub fn status(status: u16, reason: &str) -> Vec<u8> {
    [&status.to_be_bytes(), reason.as_bytes()].concat()
}

/// A frame that was received.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    /// Unmasked.
    pub payload: Vec<u8>,
    pub masked: bool,
}

impl Frame {
    /// The status and reason of a close frame.
    #[track_caller]
    pub fn closed(&self) -> (u16, String) {
        assert_eq!(self.first, CLOSE, "{self:?}");
        let (status, reason) = self.payload.split_at(2);
        let reason = String::from_utf8(reason.to_vec()).unwrap();
        (u16::from_be_bytes([status[0], status[1]]), reason)
    }
}

pub fn read_frame(wire: &mut Wire) -> Result<Frame, Broken> {
    let head = wire.bytes(2)?;
    let masked = head[1] & 0x80 != 0;
    let len = match head[1] & 0x7f {
        126 => wire.bytes(2)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
        127 => wire.bytes(8)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
        len => len.into(),
    };
    let mask = if masked { wire.bytes(4)? } else { vec![0; 4] };
    let payload = if len == 0 { Vec::new() } else { wire.bytes(len)? };
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Ok(Frame { first: head[0], payload, masked })
}

/// One end of a WebSocket.
pub struct End {
    pub wire: Wire,
    is_client: bool,
}

impl End {
    /// Sends a frame as this end has to.
    pub fn send(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        let frame = match self.is_client {
            true => masked(first, payload),
            false => plain(first, payload),
        };
        self.raw(frame);
    }

    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.wire.sock.write_all(bytes.as_ref());
    }

    /// The next frame.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        let frame = read_frame(&mut self.wire).unwrap_or_else(|e| panic!("no frame: {e:?}"));
        assert_eq!(frame.masked, !self.is_client, "masked towards the server only: {frame:?}");
        frame
    }

    /// The next frame is this.
    #[track_caller]
    pub fn expect(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        let frame = self.frame();
        assert_eq!(frame.first, first, "{frame:?}");
        assert_same_bytes(&frame.payload, payload.as_ref());
    }

    /// The next frame is a close frame with this.
    #[track_caller]
    pub fn expect_close(&mut self, status: u16, reason: &str) {
        assert_eq!(self.frame().closed(), (status, reason.to_owned()));
    }

    /// The next frame is a close frame with this, which is answered.
    #[track_caller]
    pub fn answer_close(&mut self, status: u16, reason: &str) {
        self.expect_close(status, reason);
        self.send(CLOSE, status.to_be_bytes());
    }

    /// The connection ends in order, without another byte.
    #[track_caller]
    pub fn expect_end(&mut self) {
        assert_eq!(self.wire.some(), Err(Broken::Closed));
    }

    /// Nothing comes for a while.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.wire.sock.set_patience(Duration::from_millis(300));
        assert_eq!(self.wire.some(), Err(Broken::TimedOut));
        self.wire.sock.set_patience(PATIENCE);
    }
}

/// A WebSocket through Ravelin, with both ends in the hands of the test.
pub struct Pair {
    pub client: End,
    pub origin: End,
    pub ravelin: Ravelin,
    listener: TcpListener,
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub fn upgrade(more: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

pub fn switching(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}

/// TOML of a route that takes WebSockets, with these keys for all of them.
pub fn sockets(keys: &str) -> String {
    format!("websocket = true\n[sites.proxy.websocket]\n{keys}\n")
}

impl Pair {
    #[track_caller]
    pub fn new(keys: &str) -> Pair {
        Pair::with(keys, "")
    }

    /// The same, where the origin's answer has these fields too.
    #[track_caller]
    pub fn with(keys: &str, answer: &str) -> Pair {
        Pair::early(keys, answer, b"", b"")
    }

    /// The same, where the client sends `before` right behind its request, and the origin `behind`
    /// right behind its answer.
    #[track_caller]
    pub fn early(keys: &str, answer: &str, before: &[u8], behind: &[u8]) -> Pair {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ravelin = Ravelin::start(&site(&[&url], &sockets(keys)));
        let (client, origin) = connect(&ravelin, &listener, answer, before, behind);
        Pair { client, origin, ravelin, listener }
    }

    /// One more WebSocket.
    #[track_caller]
    pub fn another(&self) -> (End, End) {
        connect(&self.ravelin, &self.listener, "", b"", b"")
    }

    /// Both ways work.
    #[track_caller]
    pub fn talk(&mut self) {
        self.client.send(TEXT, "question");
        self.origin.expect(TEXT, "question");
        self.origin.send(TEXT, "answer");
        self.client.expect(TEXT, "answer");
    }
}

#[track_caller]
fn connect(
    ravelin: &Ravelin,
    listener: &TcpListener,
    answer: &str,
    before: &[u8],
    behind: &[u8],
) -> (End, End) {
    let mut client = ravelin.client();
    client.send([upgrade("").as_bytes(), before].concat());
    let (stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let sock = Sock::Tcp(stream);
    sock.set_patience(PATIENCE);
    let mut origin = End { wire: Wire::new(sock), is_client: false };
    assert!(origin.wire.request().unwrap().head.has("upgrade"));
    origin.raw([switching(answer).as_bytes(), behind].concat());
    client.response("GET").expect(101);
    (End { wire: client.wire, is_client: true }, origin)
}
