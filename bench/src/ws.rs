//! WebSocket load: each connection sends a message, waits for its echo, sends the next.
//!
//! Messages are single binary frames of at most [`MESSAGE_MAX`] bytes, masked by the client as
//! RFC 6455 §5.3 asks, and every echo is compared with what was sent.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lab::Lab;
use crate::measure::Load;
use crate::tally::{self, Tally};
use crate::{Result, client, origin};

/// Longest frame taken, its header included.
pub(crate) const MESSAGE_MAX: usize = 256 << 10;

/// Longest frame header: two bytes, eight of length, four of mask.
const HEADER_MAX: usize = 14;

const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Runs the load in a process of its own on the load core.
pub(crate) fn run(
    lab: &Lab,
    target: SocketAddr,
    connections: usize,
    size: usize,
    seconds: u64,
) -> Result<Load> {
    let [target, connections, size, seconds] =
        [target.to_string(), connections.to_string(), size.to_string(), seconds.to_string()];
    let args = ["ws-load", "--connect", &target, "--connections", &connections];
    let rest = ["--size", &size, "--seconds", &seconds];
    let said = lab.run_load(&std::env::current_exe()?, &[&args[..], &rest[..]].concat())?;
    tally::parse(&said)
}

/// Makes the load and prints what came of it; the other end of [`run`].
pub(crate) fn load(
    target: SocketAddr,
    connections: usize,
    size: usize,
    seconds: u64,
) -> Result<()> {
    tally::tasks(connections, seconds, |end, tally| talk(target, size, end, tally))
}

async fn talk(target: SocketAddr, size: usize, end: Instant, tally: Rc<Tally>) -> Result<()> {
    let mut stream = handshake(target).await?;
    let payload: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
    let sent = frame(&payload, Some(MASK));
    let expected = frame(&payload, None);
    let mut echo = Message::new();
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok(());
        }
        let arrived = async {
            stream.write_all(&sent).await?;
            echo.read(&mut stream).await
        };
        match tokio::time::timeout(Duration::from_secs(10), arrived).await {
            Err(_) => return Err("no echo within 10 s".into()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(false)) => return Err("closed while an echo was awaited".into()),
            Ok(Ok(true)) if echo.bytes() != expected => return Err("a wrong echo".into()),
            Ok(Ok(true)) => tally.record(begin.elapsed()),
        }
    }
}

/// Opens one, without a runtime, and has a message of this many bytes echoed.
pub(crate) fn open(target: SocketAddr, size: usize) -> Result<std::net::TcpStream> {
    let mut stream = client::connect(target)?;
    stream.write_all(request(target).as_bytes())?;
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    while client::head_length(&head).is_none() {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err("closed during the handshake".into());
        }
        head.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    check(&head)?;
    let payload = vec![b'x'; size];
    stream.write_all(&frame(&payload, Some(MASK)))?;
    let expected = frame(&payload, None);
    let mut echo = vec![0; expected.len()];
    stream.read_exact(&mut echo)?;
    if echo == expected { Ok(stream) } else { Err("a wrong echo".into()) }
}

fn request(target: SocketAddr) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
        origin::KEY
    )
}

async fn handshake(target: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request(target).as_bytes()).await?;
    let mut head = Vec::new();
    // The origin sends nothing after its head before it is sent a message.
    while client::head_length(&head).is_none() {
        if stream.read_buf(&mut head).await? == 0 {
            return Err("closed during the handshake".into());
        }
    }
    check(&head)?;
    Ok(stream)
}

fn check(head: &[u8]) -> Result<()> {
    if head.starts_with(b"HTTP/1.1 101 ") {
        return Ok(());
    }
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    Err(format!("the handshake was answered {}", String::from_utf8_lossy(line)).into())
}

/// One frame with this payload.
fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { MASKED } else { 0 };
    let mut out = vec![BINARY];
    match payload.len() {
        len @ 0..=125 => out.push(masked | len as u8),
        len @ 126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(masked | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| out.extend_from_slice(mask)).unwrap_or_default();
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(out.get_mut(start..).unwrap_or_default(), mask);
    out
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for four in payload.chunks_mut(4) {
        for (byte, key) in four.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

/// A buffer for one frame at a time: both sides wait for each other, so no second can be behind it.
pub(crate) struct Message {
    buffer: Vec<u8>,
    filled: usize,
}

impl Message {
    pub(crate) fn new() -> Message {
        Message { buffer: vec![0; MESSAGE_MAX], filled: 0 }
    }

    /// Reads one frame; false at the end of the stream.
    pub(crate) async fn read(&mut self, stream: &mut TcpStream) -> Result<bool> {
        self.filled = 0;
        loop {
            let space = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let count = stream.read(space).await?;
            if count == 0 {
                return Ok(false);
            }
            self.filled += count;
            match frame_length(self.bytes()) {
                Some(length) if length > MESSAGE_MAX => return Err("a frame too long".into()),
                Some(length) if length < self.filled => return Err("bytes after a frame".into()),
                Some(length) if length == self.filled => return Ok(true),
                _ => (),
            }
        }
    }

    /// The frame as it arrived.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    /// The frame a server echoes for a masked one: the same payload, not masked.
    pub(crate) fn echo(&mut self) -> &[u8] {
        let header = header_length(self.bytes()).unwrap_or(HEADER_MAX).min(self.filled);
        let frame = self.buffer.get_mut(..self.filled).unwrap_or_default();
        let (header, payload) = frame.split_at_mut(header);
        let mut plain = 0;
        if let Some(([_, second, rest @ ..], mask)) = header.split_last_chunk_mut::<4>() {
            unmask(payload, *mask);
            *second &= !MASKED;
            plain = 2 + rest.len();
        }
        // Close the gap that the mask leaves by moving the few bytes before it.
        self.buffer.copy_within(..plain, 4);
        self.buffer.get(4..self.filled).unwrap_or_default()
    }
}

/// Bytes before the payload, once the first two have arrived.
fn header_length(frame: &[u8]) -> Option<usize> {
    let second = *frame.get(1)?;
    let mask = if second & MASKED != 0 { 4 } else { 0 };
    Some(
        mask + if second & 0x7f == 127 {
            10
        } else if second & 0x7f == 126 {
            4
        } else {
            2
        },
    )
}

/// Bytes of the whole frame, once enough of it has arrived to say.
fn frame_length(frame: &[u8]) -> Option<usize> {
    let payload = match frame.get(1)? & 0x7f {
        127 => usize::try_from(u64::from_be_bytes(*frame.get(2..)?.first_chunk()?)).ok()?,
        126 => usize::from(u16::from_be_bytes(*frame.get(2..)?.first_chunk()?)),
        short => usize::from(short),
    };
    Some(header_length(frame)?.saturating_add(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_the_payload_without_the_mask() {
        for size in [0, 5, 125, 126, 128, 65535, 65536, 70000] {
            let payload: Vec<u8> = (0..size).map(|i| (i * 7 % 256) as u8).collect();
            let mut message = Message::new();
            let sent = frame(&payload, Some(MASK));
            assert_eq!(frame_length(&sent), Some(sent.len()), "{size}");
            message.buffer[..sent.len()].copy_from_slice(&sent);
            message.filled = sent.len();
            assert_eq!(message.echo(), frame(&payload, None), "{size}");
        }
    }
}
