//! Control frames to send: at most 131 bytes, made in place.

use std::fmt;

use super::{CONTROL_FRAME_MAX, Opcode, apply_mask};

/// Longest reason of a close frame, in bytes: a status comes before it.
const REASON_MAX: usize = 123;

/// A control frame as it is sent.
#[derive(Clone, Copy)]
pub struct ControlFrame {
    bytes: [u8; CONTROL_FRAME_MAX],
    len: usize,
}

impl ControlFrame {
    /// A close frame. A reason that is too long for one is cut off. A client's frame has a `mask`.
    pub fn close(status: u16, reason: &str, mask: Option<[u8; 4]>) -> Self {
        let cut = reason.floor_char_boundary(REASON_MAX);
        let reason = reason.get(..cut).unwrap_or_default();
        Self::new(Opcode::Close, &[&status.to_be_bytes(), reason.as_bytes()], mask)
    }

    /// A ping. At most 125 bytes of `payload` are sent.
    pub fn ping(payload: &[u8], mask: Option<[u8; 4]>) -> Self {
        Self::new(Opcode::Ping, &[payload], mask)
    }

    /// A pong. At most 125 bytes of `payload` are sent.
    pub fn pong(payload: &[u8], mask: Option<[u8; 4]>) -> Self {
        Self::new(Opcode::Pong, &[payload], mask)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn new(opcode: Opcode, parts: &[&[u8]], mask: Option<[u8; 4]>) -> Self {
        let mut bytes = [0; CONTROL_FRAME_MAX];
        let header_len = if mask.is_some() { 6 } else { 2 };
        let most = header_len + usize::try_from(super::CONTROL_PAYLOAD_MAX).unwrap_or_default();
        let mut len = header_len;
        let room = bytes.iter_mut().take(most).skip(header_len);
        for (to, from) in room.zip(parts.iter().copied().flatten()) {
            *to = *from;
            len += 1;
        }
        let payload_len = (len - header_len) as u8; // at most 125
        bytes[0] = 0x80 | opcode.code();
        bytes[1] = payload_len;
        if let Some(mask) = mask {
            bytes[1] |= 0x80;
            bytes[2..6].copy_from_slice(&mask);
            if let Some(payload) = bytes.get_mut(6..len) {
                apply_mask(payload, mask, 0);
            }
        }
        Self { bytes, len }
    }
}

impl fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlFrame({})", self.bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Payload, Reserved, Rules, Scanner, Sender, Step};
    use super::*;

    /// The payload of the one frame that `frame` is.
    fn taken(frame: &ControlFrame, sender: Sender) -> (Opcode, Vec<u8>) {
        let rules = Rules { sender, reserved: Reserved::None, message_max: 0 };
        match Scanner::new(rules).scan(frame.bytes()) {
            Ok(Step::Control(header, len)) if len == frame.bytes().len() => {
                (header.opcode, Payload::of(&header, frame.bytes()).bytes().to_vec())
            }
            other => panic!("{frame:?}: {other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (mask, sender) in [(None, Sender::Server), (Some([9, 0, 255, 3]), Sender::Client)] {
            let long = "\u{e4}".repeat(80);
            for (reason, kept) in [("", ""), ("enough", "enough"), (&long, &long[..122])] {
                let frame = ControlFrame::close(1009, reason, mask);
                let payload = [&1009u16.to_be_bytes(), kept.as_bytes()].concat();
                assert_eq!(taken(&frame, sender), (Opcode::Close, payload));
            }
            for payload in [&b""[..], b"a", &[7; 125]] {
                let ping = ControlFrame::ping(payload, mask);
                assert_eq!(taken(&ping, sender), (Opcode::Ping, payload.to_vec()));
                let pong = ControlFrame::pong(payload, mask);
                assert_eq!(taken(&pong, sender), (Opcode::Pong, payload.to_vec()));
            }
            let cut = ControlFrame::ping(&[7; 200], mask);
            assert_eq!(taken(&cut, sender), (Opcode::Ping, vec![7; 125]));
        }
    }
}
