//! One direction of a WebSocket, checked while its bytes pass.
//!
//! [`Scanner`] is for whoever passes frames on without touching them: it says how many of the bytes at
//! hand may go on as they are, and stops at every control frame and before the first byte that must
//! not go on. It decodes no message and keeps no byte.
//!
//! What always holds: whatever the pieces in which bytes come, the same of them pass and the same
//! fault is found at the same place; a header or control frame that has not come as a whole is left
//! to the caller, so what was passed on always ends between two frames or inside a payload; of a
//! frame with a fault nothing passes.

use std::fmt;

use super::{FrameError, FrameHeader, Opcode, apply_mask, parse_frame_header};

/// Longest control frame that a scanner takes, header and mask included, in bytes.
pub const CONTROL_FRAME_MAX: usize = 2 + 4 + CONTROL_PAYLOAD_MAX;

/// Longest payload of a control frame, in bytes.
const CONTROL_PAYLOAD_MAX: usize = super::CONTROL_PAYLOAD_MAX as usize;

/// Who sends in a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The side that asked for the WebSocket. It masks every frame (RFC 6455 §5.1).
    Client,
    /// The other. It masks none.
    Server,
}

/// Which of the three reserved bits may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// None: no extension was agreed on.
    None,
    /// RSV1 on the first frame of a message: permessage-deflate (RFC 7692 §6).
    Deflate,
    /// Any on every frame: an extension was agreed on whose rules are not known here.
    Any,
}

impl Reserved {
    /// What the values of `Sec-WebSocket-Extensions` in a handshake's answer allow.
    pub fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut allowed = Self::None;
        for extension in values.flat_map(|value| value.split(|byte| *byte == b',')) {
            let name = extension.split(|byte| *byte == b';').next().unwrap_or_default();
            match name.trim_ascii() {
                b"" => {}
                name if name.eq_ignore_ascii_case(b"permessage-deflate") => {
                    if allowed == Self::None {
                        allowed = Self::Deflate;
                    }
                }
                _ => allowed = Self::Any,
            }
        }
        allowed
    }
}

/// What a direction may carry.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Who sends.
    pub sender: Sender,
    /// What was agreed on in the handshake.
    pub reserved: Reserved,
    /// Longest message in bytes of payload on the wire, over all its fragments; a compressed one
    /// counts as it is sent. `u64::MAX`: any.
    pub message_max: u64,
}

/// Follows the frames of one direction.
#[derive(Debug, Clone)]
pub struct Scanner {
    rules: Rules,
    /// Payload bytes of the current frame to come.
    payload_left: u64,
    /// Bytes of the current message, if one has begun and not ended.
    message: Option<u64>,
    /// How many more messages and pings may begin.
    allowed: u64,
    /// How many messages have come to their last frame.
    messages: u64,
    closed: bool,
}

/// What [`Scanner::scan`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many bytes belong to data frames and may go on as they are.
    Pass(usize),
    /// A whole control frame: so many bytes, which may go on as they are.
    Control(FrameHeader, usize),
    /// So many bytes came behind a close frame. They have no meaning and must not go on.
    Drop(usize),
    /// What is there, if anything, is the beginning of a header or of a control frame: call again with
    /// it and what comes behind it.
    More,
}

/// What is wrong with a direction: nothing more of it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The header breaks the protocol.
    Header(FrameError),
    /// A client's frame without a mask, or a server's with one.
    Mask,
    /// A reserved bit that no extension was agreed on for.
    Reserved,
    /// A continuation of nothing, or a new message inside another.
    Order,
    /// A close frame with half a status, or with one that must not be sent.
    CloseStatus,
    /// The reason of a close frame is not UTF-8.
    CloseReason,
    /// A message is longer than [`Rules::message_max`].
    TooLong,
    /// More messages began than [`Scanner::allow`] allowed.
    TooMany,
}

impl Fault {
    /// The status to close with (RFC 6455 §7.4.1).
    pub fn status(self) -> u16 {
        match self {
            Self::Header(_) | Self::Mask | Self::Reserved | Self::Order | Self::CloseStatus => 1002,
            Self::CloseReason => 1007,
            Self::TooMany => 1008,
            Self::TooLong => 1009,
        }
    }

    /// A short reason, for logs and close frames.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Header(error) => error.reason(),
            Self::Mask => "wrong masking of a WebSocket frame",
            Self::Reserved => "reserved bit of a WebSocket frame",
            Self::Order => "WebSocket fragments out of order",
            Self::CloseStatus => "invalid WebSocket close status",
            Self::CloseReason => "WebSocket close reason is not UTF-8",
            Self::TooLong => "WebSocket message too large",
            Self::TooMany => "too many WebSocket messages",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Fault {}

impl Scanner {
    /// At the beginning of a direction.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            payload_left: 0,
            message: None,
            allowed: u64::MAX,
            messages: 0,
            closed: false,
        }
    }

    /// Says what the first of these bytes are. They have to follow those that earlier calls dealt with
    /// ([`Step::Pass`], [`Step::Control`] and [`Step::Drop`] say how many that were).
    ///
    /// # Errors
    /// The next frame breaks the rules. Nothing of it may go on, and calling again finds the same.
    #[inline]
    pub fn scan(&mut self, input: &[u8]) -> Result<Step, Fault> {
        if self.closed {
            return Ok(if input.is_empty() { Step::More } else { Step::Drop(input.len()) });
        }
        let mut passed = 0;
        loop {
            let rest = input.get(passed..).unwrap_or_default();
            if self.payload_left > 0 {
                let left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
                let count = left.min(rest.len());
                passed += count;
                self.payload_left -= count as u64;
                if self.payload_left > 0 {
                    break;
                }
                continue;
            }
            let begun = match parse_frame_header(rest) {
                Ok(None) => break,
                Ok(Some(header)) if header.opcode.is_control() => match passed {
                    0 => return self.control(header, rest),
                    _ => break,
                },
                Ok(Some(header)) => self.begin(&header).map(|()| header.header_len),
                Err(error) => Err(Fault::Header(error)),
            };
            match begun {
                Ok(header_len) => passed += header_len,
                // What comes before it is fine; it is found again.
                Err(_) if passed > 0 => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(if passed > 0 { Step::Pass(passed) } else { Step::More })
    }

    /// What was dealt with so far ends between two frames, where another one may be put in.
    #[inline]
    pub fn between_frames(&self) -> bool {
        self.payload_left == 0
    }

    /// Payload bytes of the current frame to come; they need no scanning.
    pub fn payload_left(&self) -> u64 {
        self.payload_left
    }

    /// The same as a scan of `count` bytes of the current payload, at most [`Scanner::payload_left`].
    pub fn skip(&mut self, count: u64) {
        self.payload_left = self.payload_left.saturating_sub(count);
    }

    /// Lets so many more messages, pings and empty fragments that end nothing begin, whatever was allowed before.
    pub fn allow(&mut self, count: u64) {
        self.allowed = count;
    }

    /// How many more of them may begin.
    pub fn allowed(&self) -> u64 {
        self.allowed
    }

    /// How many messages have come, those included whose last frame has only begun.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// A close frame has come.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes note of a data frame.
    fn begin(&mut self, header: &FrameHeader) -> Result<(), Fault> {
        self.check(header)?;
        let before = match (header.opcode, self.message) {
            (Opcode::Continuation, Some(before)) => before,
            (Opcode::Continuation, None) | (_, Some(_)) => return Err(Fault::Order),
            (_, None) => 0,
        };
        let length = before.saturating_add(header.payload_len);
        if length > self.rules.message_max {
            return Err(Fault::TooLong);
        }
        let costs_nothing_else = header.payload_len == 0 && !header.fin;
        if header.opcode != Opcode::Continuation || costs_nothing_else {
            self.allowed = self.allowed.checked_sub(1).ok_or(Fault::TooMany)?;
        }
        self.message = (!header.fin).then_some(length);
        self.messages += u64::from(header.fin);
        self.payload_left = header.payload_len;
        Ok(())
    }

    fn control(&mut self, header: FrameHeader, input: &[u8]) -> Result<Step, Fault> {
        self.check(&header)?;
        let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let len = header.header_len.saturating_add(payload_len);
        let Some(frame) = input.get(..len) else { return Ok(Step::More) };
        match header.opcode {
            Opcode::Close => {
                Payload::of(&header, frame).check_close()?;
                self.closed = true;
            }
            Opcode::Ping => self.allowed = self.allowed.checked_sub(1).ok_or(Fault::TooMany)?,
            _ => {}
        }
        Ok(Step::Control(header, len))
    }

    fn check(&self, header: &FrameHeader) -> Result<(), Fault> {
        if header.mask.is_some() != (self.rules.sender == Sender::Client) {
            return Err(Fault::Mask);
        }
        const RSV1: u8 = 4;
        let begins = matches!(header.opcode, Opcode::Text | Opcode::Binary);
        match (header.reserved, self.rules.reserved) {
            (0, _) | (_, Reserved::Any) => Ok(()),
            (RSV1, Reserved::Deflate) if begins => Ok(()),
            _ => Err(Fault::Reserved),
        }
    }
}

/// The payload of a control frame, unmasked.
#[derive(Debug, Clone, Copy)]
pub struct Payload {
    bytes: [u8; CONTROL_PAYLOAD_MAX],
    len: usize,
}

impl Payload {
    /// That of a whole control `frame` with this header.
    pub fn of(header: &FrameHeader, frame: &[u8]) -> Self {
        let from = frame.get(header.header_len..).unwrap_or_default();
        let mut payload = Self { bytes: [0; CONTROL_PAYLOAD_MAX], len: 0 };
        for (to, from) in payload.bytes.iter_mut().zip(from) {
            *to = *from;
            payload.len += 1;
        }
        if let (Some(mask), Some(bytes)) = (header.mask, payload.bytes.get_mut(..payload.len)) {
            apply_mask(bytes, mask, 0);
        }
        payload
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The status of a close frame; `None` if it has none.
    pub fn close_status(&self) -> Option<u16> {
        match self.bytes() {
            [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// Whether it may stand in a close frame: nothing, or a status and UTF-8.
    fn check_close(&self) -> Result<(), Fault> {
        match self.bytes() {
            [] => Ok(()),
            [_] => Err(Fault::CloseStatus),
            [high, low, reason @ ..] => {
                if !may_be_sent(u16::from_be_bytes([*high, *low])) {
                    return Err(Fault::CloseStatus);
                }
                str::from_utf8(reason).map(drop).map_err(|_| Fault::CloseReason)
            }
        }
    }
}

/// Whether a close status may be in a frame: registered (up to 1014; 1004 to 1006 and 1015 are for
/// other uses), or of a library or an application (RFC 6455 §7.4).
fn may_be_sent(status: u16) -> bool {
    matches!(status, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests;
