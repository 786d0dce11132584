//! What can only be known of an upstream by looking at its frames.
//!
//! Whether its settings have come: until then nobody knows how many streams it allows.
//!
//! How many heads it has sent on each stream: the library keeps interim responses until somebody reads them, and they are subject to no window:
//! an upstream that sends them without end to an exchange which waits for its client could fill the
//! memory. So frame headers are looked at as they come in (RFC 9113 §4.1), and a connection with one
//! stream of too many heads is broken off.

use std::collections::HashMap;

/// Heads of one response: the interim ones an exchange takes, the final one, trailers, and some that
/// the exchange gets to see and refuses.
const HEADS_MAX: u8 = 16;

const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// Looks at frames.
#[derive(Debug, Default)]
pub(super) struct Inspector {
    /// The upstream's settings have come.
    settled: bool,
    /// What has come of a frame's header.
    header: [u8; FRAME_HEADER],
    header_len: usize,
    /// Bytes of the payload that are still to come.
    payload_left: usize,
    /// By stream, for those that an exchange uses.
    heads: HashMap<u32, u8>,
}

impl Inspector {
    /// The upstream's settings have come.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Begins to count for a stream.
    pub(super) fn begin(&mut self, stream: u32) {
        self.heads.insert(stream, 0);
    }

    /// Stops counting for a stream.
    pub(super) fn end(&mut self, stream: u32) {
        self.heads.remove(&stream);
    }

    /// Looks at bytes as they came in. False when a stream had too many heads.
    pub(super) fn look_at(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let (start, rest) = bytes.split_at((FRAME_HEADER - self.header_len).min(bytes.len()));
            if let Some(room) = self.header.get_mut(self.header_len..self.header_len + start.len())
            {
                room.copy_from_slice(start);
            }
            self.header_len += start.len();
            bytes = rest;
            if self.header_len == FRAME_HEADER {
                self.header_len = 0;
                if !self.count() {
                    return false;
                }
            }
        }
        true
    }

    /// Takes the frame whose header is complete.
    fn count(&mut self) -> bool {
        let [a, b, c, kind, flags, id @ ..] = self.header;
        self.payload_left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.settled |= kind == SETTINGS && flags & ACK == 0;
        if kind != HEADERS {
            return true;
        }
        let stream = u32::from_be_bytes(id) & 0x7fff_ffff;
        let Some(heads) = self.heads.get_mut(&stream) else { return true };
        *heads = heads.saturating_add(1);
        *heads <= HEADS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, 4], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn the_settings_have_come_when_a_frame_of_them_has_that_confirms_none() {
        let mut inspector = Inspector::default();
        assert!(inspector.look_at(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]));
        assert!(!inspector.is_settled());
        assert!(inspector.look_at(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]));
        assert!(inspector.is_settled());
    }

    #[test]
    fn heads_are_counted_for_each_stream_however_the_bytes_come() {
        let bytes: Vec<u8> = (0..HEADS_MAX)
            .flat_map(|n| {
                let data = frame(0, 1, &vec![HEADERS; usize::from(n) * 7]);
                [frame(HEADERS, 1, &[n; 20]), data, frame(HEADERS, 3, b"")].concat()
            })
            .collect();
        for size in [1, 2, 8, 9, 10, 64, bytes.len()] {
            let mut inspector = Inspector::default();
            inspector.begin(1);
            inspector.begin(3);
            assert!(bytes.chunks(size).all(|part| inspector.look_at(part)), "in pieces of {size}");
            inspector.end(3);
            assert!(inspector.look_at(&frame(HEADERS, 3, b"nobody counts")));
            assert!(!inspector.look_at(&frame(HEADERS, 1, b"one too many")));
        }
    }
}
