//! A WebSocket server that sends every message back, frame by frame as it comes (RFC 6455).
//!
//! It answers pings, ends on close, and refuses frames that break the protocol. Whether text is
//! UTF-8 is left to the client, which gets back what it sent.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::field::FieldId;
use wire::head::Upgrade;
use wire::websocket::{
    FrameHeader, FrameScanner, Opcode, Scanned, accept_key, apply_mask, is_websocket_key,
    write_frame_header,
};

use super::connection::{Connection, IDLE_MAX, READ_BYTES};

/// Close status "protocol error" (RFC 6455 section 7.4.1).
const PROTOCOL_ERROR: [u8; 2] = 1002u16.to_be_bytes();

/// Serves one connection: a handshake, then frames until one side ends it.
pub(crate) async fn serve(mut connection: Connection) -> io::Result<()> {
    if !connection.next_head().await? {
        return Ok(());
    }
    let Some(accept) = handshake(&connection) else {
        let refusal = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nContent-Type: text/plain\r\n\
                       Content-Length: 22\r\nConnection: upgrade, close\r\n\r\n\
                       This speaks WebSocket\n";
        return connection.write(refusal.as_bytes()).await;
    };
    let mut switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                          Upgrade: websocket\r\nSec-WebSocket-Accept: "
        .to_vec();
    switching.extend_from_slice(&accept);
    switching.extend_from_slice(b"\r\n\r\n");
    connection.write(&switching).await?;
    let (stream, early) = connection.upgrade();
    frames(stream, early).await
}

/// The answer to a correct opening handshake (RFC 6455 section 4.2.1).
fn handshake(connection: &Connection) -> Option<[u8; 28]> {
    let head = &connection.head;
    let value = |id| head.get(id).map(|field| connection.text(field.value));
    let key = value(FieldId::SecWebSocketKey)?;
    let fits = head.upgrade == Upgrade::WebSocket
        && value(FieldId::SecWebSocketVersion) == Some(b"13")
        && is_websocket_key(key);
    fits.then(|| accept_key(key))
}

async fn frames(mut stream: TcpStream, mut input: Vec<u8>) -> io::Result<()> {
    let (mut echo, mut out) = (Echo::default(), Vec::new());
    loop {
        let ended = echo.take(&mut input, &mut out);
        stream.write_all(&out).await?;
        out.clear();
        input.clear();
        if ended {
            return stream.shutdown().await;
        }
        input.reserve(READ_BYTES);
        // A tunnel may be idle for long, but a client that is gone for good should not stay.
        match timeout(IDLE_MAX * 40, stream.read_buf(&mut input)).await {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(read) => read?,
        };
    }
}

/// Turns what the client sends into what it gets back; holds at most one control frame.
#[derive(Default)]
struct Echo {
    scanner: FrameScanner,
    /// The frame whose payload is coming, and how much of it has come.
    frame: Option<(FrameHeader, u64)>,
    control: Vec<u8>,
    in_message: bool,
}

impl Echo {
    /// Deals with all of `input`, unmasking in place; true when the connection is to be closed.
    fn take(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> bool {
        let mut rest = input;
        loop {
            let consumed = match self.scanner.next(rest) {
                Ok(Scanned::Header { consumed, header }) => {
                    if !self.begin(header, out) {
                        return true;
                    }
                    consumed
                }
                Ok(Scanned::Payload { consumed }) => {
                    let (piece, _) = rest.split_at_mut(consumed.min(rest.len()));
                    self.payload(piece, out);
                    consumed
                }
                Ok(Scanned::More) => return false,
                Err(_) => return refuse(out),
            };
            if self.finish(out) {
                return true;
            }
            let (_, after) = rest.split_at_mut(consumed.min(rest.len()));
            rest = after;
        }
    }

    /// Judges a frame by its header; false when it breaks the protocol.
    fn begin(&mut self, header: FrameHeader, out: &mut Vec<u8>) -> bool {
        let continues = header.opcode == Opcode::Continuation;
        let out_of_turn = !header.opcode.is_control() && continues != self.in_message;
        if header.mask.is_none() || header.reserved != 0 || out_of_turn {
            return !refuse(out);
        }
        if !header.opcode.is_control() {
            self.in_message = !header.fin;
            write_frame_header(out, header.fin, header.opcode, header.payload_len);
        }
        self.frame = Some((header, 0));
        true
    }

    fn payload(&mut self, piece: &mut [u8], out: &mut Vec<u8>) {
        let Some((header, seen)) = &mut self.frame else { return };
        apply_mask(piece, header.mask.unwrap_or_default(), *seen);
        *seen = seen.saturating_add(piece.len() as u64);
        // A control frame is at most 125 bytes: the scanner refuses longer ones.
        let to = if header.opcode.is_control() { &mut self.control } else { out };
        to.extend_from_slice(piece);
    }

    /// Acts on a frame that is whole; true when it was a close.
    fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        let Some((header, _)) = self.frame.take_if(|(header, seen)| *seen >= header.payload_len)
        else {
            return false;
        };
        let payload = std::mem::take(&mut self.control);
        match header.opcode {
            Opcode::Ping => control_frame(out, Opcode::Pong, &payload),
            Opcode::Close if payload.len() == 1 => return refuse(out),
            Opcode::Close => {
                control_frame(out, Opcode::Close, &payload);
                return true;
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary | Opcode::Pong => {}
        }
        false
    }
}

/// Closes with status 1002; always true.
fn refuse(out: &mut Vec<u8>) -> bool {
    control_frame(out, Opcode::Close, &PROTOCOL_ERROR);
    true
}

fn control_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    write_frame_header(out, true, opcode, payload.len() as u64);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// A frame as a client sends it.
    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() < 126);
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&MASK);
        let start = frame.len();
        frame.extend_from_slice(payload);
        apply_mask(&mut frame[start..], MASK, 0);
        frame
    }

    /// A frame as the server sends it.
    fn server(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, payload.len() as u8], payload].concat()
    }

    fn echoed(input: &[u8], step: usize) -> (Vec<u8>, bool) {
        let (mut echo, mut out) = (Echo::default(), Vec::new());
        for piece in input.chunks(step) {
            if echo.take(&mut piece.to_vec(), &mut out) {
                return (out, true);
            }
        }
        (out, false)
    }

    #[test]
    fn fragments_come_back_as_fragments_and_pings_in_between_are_answered() {
        let sent = [
            client(0x01, b"frag"),
            client(0x89, b"ping"),
            client(0x80, b"ment"),
            client(0x82, b""),
            client(0x8a, b"unasked"),
            client(0x88, &1000u16.to_be_bytes()),
        ];
        let expected = [
            server(0x01, b"frag"),
            server(0x80, b"ment"),
            server(0x82, b""),
            server(0x88, &1000u16.to_be_bytes()),
        ];
        for step in [1, 3, 1000] {
            let (out, ended) = echoed(&sent.concat(), step);
            assert!(ended);
            // The pong may only come between two frames; take it out to compare the rest.
            let pong = server(0x8a, b"ping");
            let at = out.windows(pong.len()).position(|window| window == pong).unwrap();
            assert_eq!(at, expected[0].len());
            let without = [&out[..at], &out[at + pong.len()..]].concat();
            assert_eq!(without, expected.concat());
        }
    }

    #[test]
    fn rfc6455_5_1_an_unmasked_frame_is_refused() {
        let (out, ended) = echoed(&server(0x81, b"hi"), 100);
        assert!(ended);
        assert_eq!(out, server(0x88, &PROTOCOL_ERROR));
    }

    #[test]
    fn rfc6455_5_4_a_continuation_of_nothing_is_refused() {
        for sent in [client(0x80, b"x"), [client(0x01, b"a"), client(0x81, b"b")].concat()] {
            let (out, ended) = echoed(&sent, 100);
            assert!(ended && out.ends_with(&server(0x88, &PROTOCOL_ERROR)));
        }
    }
}
