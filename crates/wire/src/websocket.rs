//! WebSocket (RFC 6455): the handshake key, and the headers of frames.
//!
//! Ravelin tunnels WebSockets without touching payloads; what it needs to know about a frame is in
//! the 2 to 14 bytes before it. [`Scanner`] checks a direction of a WebSocket that somebody passes on;
//! [`FrameScanner`] walks over the frames of a stream for somebody who takes them; [`ControlFrame`] is
//! one to send.

mod control;
mod scan;
mod sha1;

use std::fmt;

pub use control::ControlFrame;
pub use scan::{CONTROL_FRAME_MAX, Fault, Payload, Reserved, Rules, Scanner, Sender, Step};

/// Longest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_MAX: u64 = 125;

/// Longest frame header, in bytes.
pub const FRAME_HEADER_MAX: usize = 14;

/// The value of `Sec-WebSocket-Accept` that answers `key`, the value of `Sec-WebSocket-Key` (RFC 6455
/// §4.2.2).
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = sha1::digest(&[key, GUID]);
    let mut text = [b'='; 28];
    for (three, four) in digest.chunks(3).zip(text.chunks_exact_mut(4)) {
        let at = |i: usize| three.get(i).copied().unwrap_or(0);
        let bits = u32::from_be_bytes([0, at(0), at(1), at(2)]);
        // n bytes need n + 1 characters; the rest stays padding.
        for (character, shift) in four.iter_mut().zip([18, 12, 6, 0]).take(three.len() + 1) {
            *character = BASE64[(bits >> shift & 63) as usize];
        }
    }
    text
}

/// Whether `key` is a valid `Sec-WebSocket-Key`: 16 bytes in base64.
pub fn is_websocket_key(key: &[u8]) -> bool {
    match key {
        [digits @ .., b'=', b'='] => {
            digits.len() == 22 && digits.iter().all(|d| BASE64.contains(d))
        }
        _ => false,
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a frame carries (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with the message of the frame before.
    Continuation,
    /// Begins a message of UTF-8 text.
    Text,
    /// Begins a message of bytes.
    Binary,
    /// Ends the connection.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    /// Whether it is a control frame, which may come between the frames of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    fn code(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    fn of(code: u8) -> Option<Opcode> {
        Some(match code {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }
}

/// The header of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether it is the last frame of its message.
    pub fin: bool,
    /// The three reserved bits, lowest three of the byte. Non-zero only by agreed extension: 4 marks a
    /// compressed message (RFC 7692).
    pub reserved: u8,
    /// What it carries.
    pub opcode: Opcode,
    /// The masking key; clients must mask, servers must not.
    pub mask: Option<[u8; 4]>,
    /// Payload bytes that follow.
    pub payload_len: u64,
    /// Bytes of this header.
    pub header_len: usize,
}

/// A header that breaks RFC 6455: close with status 1002.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved opcode.
    Opcode,
    /// A control frame that is fragmented or longer than [`CONTROL_PAYLOAD_MAX`].
    Control,
    /// A length that is not in its shortest form, or 2^63 or more.
    Length,
}

impl FrameError {
    /// A short reason, for logs.
    pub fn reason(self) -> &'static str {
        match self {
            FrameError::Opcode => "reserved WebSocket opcode",
            FrameError::Control => "fragmented or oversized WebSocket control frame",
            FrameError::Length => "invalid WebSocket frame length",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for FrameError {}

/// Parses the frame header at the start of `buf`; `None` if it is not there as a whole.
///
/// # Errors
/// If the header breaks the protocol.
pub fn parse_frame_header(buf: &[u8]) -> Result<Option<FrameHeader>, FrameError> {
    let [first, second, rest @ ..] = buf else { return Ok(None) };
    let opcode = Opcode::of(first & 15).ok_or(FrameError::Opcode)?;
    let fin = first & 0x80 != 0;
    let short_len = second & 0x7f;
    if opcode.is_control() && (!fin || u64::from(short_len) > CONTROL_PAYLOAD_MAX) {
        return Err(FrameError::Control);
    }
    let (payload_len, rest) = match (short_len, rest) {
        (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
        (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
        }
        (126 | 127, _) => return Ok(None),
        (len, rest) => (u64::from(len), rest),
    };
    let (shortest, header_len) = match short_len {
        126 => (126, 4),
        127 => (1 << 16, 10),
        _ => (0, 2),
    };
    if payload_len < shortest || payload_len > i64::MAX as u64 {
        return Err(FrameError::Length);
    }
    let (mask, header_len) = match (second & 0x80 != 0, rest) {
        (false, _) => (None, header_len),
        (true, [a, b, c, d, ..]) => (Some([*a, *b, *c, *d]), header_len + 4),
        (true, _) => return Ok(None),
    };
    let reserved = first >> 4 & 7;
    Ok(Some(FrameHeader { fin, reserved, opcode, mask, payload_len, header_len }))
}

/// Appends the header of an unmasked frame, as a server sends it.
pub fn write_frame_header(out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload_len: u64) {
    out.push(u8::from(fin) << 7 | opcode.code());
    match payload_len {
        0..=125 => out.push(payload_len as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&payload_len.to_be_bytes());
        }
    }
}

/// Masks or unmasks a piece of a payload that begins `offset` bytes into it (RFC 6455 §5.3).
pub fn apply_mask(piece: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut key = mask;
    key.rotate_left((offset & 3) as usize);
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, tail) = piece.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Walks over a stream of frames that arrives in arbitrary pieces.
#[derive(Debug, Clone, Default)]
pub struct FrameScanner {
    /// The beginning of a header that has not arrived as a whole.
    held: [u8; FRAME_HEADER_MAX],
    held_len: usize,
    /// Payload bytes of the current frame to come.
    payload_left: u64,
}

/// What [`FrameScanner::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    /// A header has ended; `consumed` bytes of the input, its last ones, belong to it.
    Header {
        /// Bytes of the input dealt with.
        consumed: usize,
        /// The header.
        header: FrameHeader,
    },
    /// So many bytes of the input are payload of the current frame.
    Payload {
        /// Bytes of the input dealt with.
        consumed: usize,
    },
    /// All the input is dealt with and more is needed.
    More,
}

impl FrameScanner {
    /// Reads on; call again with the rest of the input until [`Scanned::More`].
    ///
    /// # Errors
    /// If a header breaks the protocol; the stream cannot be followed any further.
    pub fn next(&mut self, input: &[u8]) -> Result<Scanned, FrameError> {
        if self.payload_left > 0 && !input.is_empty() {
            let consumed =
                usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(input.len());
            self.payload_left = self.payload_left.saturating_sub(consumed as u64);
            return Ok(Scanned::Payload { consumed });
        }
        let room = self.held.get_mut(self.held_len..).unwrap_or_default();
        let copied = room.len().min(input.len());
        for (place, byte) in room.iter_mut().zip(input) {
            *place = *byte;
        }
        let held_len = self.held_len.saturating_add(copied);
        let Some(header) = parse_frame_header(self.held.get(..held_len).unwrap_or_default())?
        else {
            self.held_len = held_len;
            return Ok(Scanned::More);
        };
        let consumed = header.header_len.saturating_sub(self.held_len);
        self.held_len = 0;
        self.payload_left = header.payload_len;
        Ok(Scanned::Header { consumed, header })
    }

    /// Whether the stream stands between two frames.
    pub fn between_frames(&self) -> bool {
        self.held_len == 0 && self.payload_left == 0
    }
}

#[cfg(test)]
mod tests;
