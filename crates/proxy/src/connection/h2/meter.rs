//! What a client's frames cost: counts them as they come in, before h2 sees them.
//!
//! Why it exists: many frames cost the sender nine bytes and the receiver much more, and h2 bounds
//! only some of them. A client has a stock of such frames; it grows again with time and with useful
//! work, so a client that transfers much may also say much. When the stock is used up the connection
//! ends with ENHANCE_YOUR_CALM (RFC 9113 §10.5). The 2019 family (CVE-2019-9511 to 9518), Rapid Reset
//! (CVE-2023-44487) and floods of CONTINUATION (CVE-2024-27316) are all of this kind.
//!
//! What always holds: no frame is held up or changed; the cost of a frame does not depend on how it
//! is split over reads.

use h2::Reason;
use net::timer::Tick;

/// Bytes of a frame's header (RFC 9113 §4.1).
const FRAME_HEADER: usize = 9;
/// Bytes of the client's preface before its first frame (RFC 9113 §3.4).
pub(in crate::connection) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Control frames a client may send at once. h2load with 128 streams begins with about 130.
const STOCK_MAX: u32 = 1024;
/// Control frames a second that need no work in return: keep-alive pings, window updates.
const STOCK_A_SECOND: u32 = 64;
/// Streams a client may give up at once. A browser that leaves a page of images needs about a hundred.
const RESETS_MAX: u32 = 200;
/// Streams a second that may be given up without any that are answered.
const RESETS_A_SECOND: u32 = 20;
/// Bytes of a control frame that cost as much as another frame: a SETTINGS frame of 16 KiB is 2730
/// settings.
const BYTES_A_COST: u32 = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Reads along with one connection.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes of the preface or of the present frame's payload that are still to come.
    skip: usize,
    header: [u8; FRAME_HEADER],
    /// How many bytes of `header` are there.
    have: usize,
    frame: Frame,
    stock: u32,
    resets: u32,
    /// Until when the two have grown by the second.
    grown: Tick,
    /// Since when a header block is under way.
    block: Option<Tick>,
    settled: bool,
    verdict: Option<Reason>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    len: usize,
}

impl Meter {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            skip: PREFACE.len(),
            header: [0; FRAME_HEADER],
            have: 0,
            frame: Frame { kind: u8::MAX, ..Frame::default() },
            stock: STOCK_MAX,
            resets: RESETS_MAX,
            grown: now,
            block: None,
            settled: false,
            verdict: None,
        }
    }

    /// Reads along with bytes that were received.
    pub(super) fn pass(&mut self, mut bytes: &[u8], now: Tick) {
        while !bytes.is_empty() && self.verdict.is_none() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                if self.skip == 0 {
                    self.frame_ended();
                }
                continue;
            }
            let taken = (FRAME_HEADER - self.have).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(taken).unwrap_or((bytes, &[]));
            if let Some(room) = self.header.get_mut(self.have..self.have + taken) {
                room.copy_from_slice(head);
            }
            self.have += taken;
            bytes = rest;
            if self.have == FRAME_HEADER {
                self.have = 0;
                self.frame_begun(now);
            }
        }
    }

    /// Adds what the client has earned: the worth of what was sent to it, and the number of streams
    /// that were answered.
    pub(super) fn earn(&mut self, worth: u32, answered: u32) {
        self.stock = self.stock.saturating_add(worth).min(STOCK_MAX);
        self.resets = self.resets.saturating_add(answered).min(RESETS_MAX);
    }

    /// Counts a stream that had to be reset because of what the client sent (MadeYouReset,
    /// CVE-2025-8671) as one that it gave up.
    pub(super) fn count_fault(&mut self, now: Tick) {
        self.spend_reset(now);
    }

    /// Why the connection has to end.
    pub(super) fn verdict(&self) -> Option<Reason> {
        self.verdict
    }

    /// The client's first frame, its settings, is here.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Since when the client has been sending the fields of one message.
    pub(super) fn block_since(&self) -> Option<Tick> {
        self.block
    }

    /// The stream of the DATA frame under way and how many bytes of its payload are here.
    pub(super) fn arriving(&self) -> (u32, u32) {
        match self.frame.kind == DATA && self.skip > 0 {
            true => (self.frame.stream, (self.frame.len - self.skip) as u32),
            false => (0, 0),
        }
    }

    fn frame_begun(&mut self, now: Tick) {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
        let len = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        self.frame = Frame { kind, flags, stream, len: len as usize };
        self.skip = self.frame.len;
        // RFC 9113 §3.4: the preface has to be followed by SETTINGS.
        if !self.settled && (kind != SETTINGS || flags & ACK != 0) {
            self.verdict = Some(Reason::PROTOCOL_ERROR);
            return;
        }
        match kind {
            DATA if len > 0 => {}
            HEADERS => {
                self.block.get_or_insert(now);
                self.spend(1, now);
            }
            CONTINUATION => self.spend(1, now),
            RST_STREAM => {
                self.spend(1, now);
                self.spend_reset(now);
            }
            _ => self.spend(1 + len / BYTES_A_COST, now),
        }
        if self.skip == 0 {
            self.frame_ended();
        }
    }

    /// Also called at the end of the preface.
    fn frame_ended(&mut self) {
        match self.frame.kind {
            HEADERS | CONTINUATION if self.frame.flags & END_HEADERS != 0 => self.block = None,
            SETTINGS => self.settled = true,
            _ => {}
        }
    }

    fn spend(&mut self, cost: u32, now: Tick) {
        if self.stock < cost {
            self.grow(now);
        }
        match self.stock.checked_sub(cost) {
            Some(left) => self.stock = left,
            None => self.verdict = Some(Reason::ENHANCE_YOUR_CALM),
        }
    }

    fn spend_reset(&mut self, now: Tick) {
        if self.resets == 0 {
            self.grow(now);
        }
        match self.resets.checked_sub(1) {
            Some(left) => self.resets = left,
            None => self.verdict = Some(Reason::ENHANCE_YOUR_CALM),
        }
    }

    /// Adds what time gives. Only whole steps, so that being asked often does not round it away.
    fn grow(&mut self, now: Tick) {
        let seconds = now.since(self.grown).as_secs();
        if seconds > 0 {
            self.grown = now;
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            self.earn(
                seconds.saturating_mul(STOCK_A_SECOND),
                seconds.saturating_mul(RESETS_A_SECOND),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn now() -> Tick {
        Tick::from(1_000_000)
    }

    fn settled() -> Meter {
        let mut meter = Meter::new(now());
        meter.pass(PREFACE, now());
        meter.pass(&frame(SETTINGS, 0, 0, &[]), now());
        assert!(meter.is_settled());
        meter
    }

    #[test]
    fn rfc9113_3_4_the_first_frame_has_to_be_settings() {
        for first in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, ACK, 0, &[])] {
            let mut meter = Meter::new(now());
            meter.pass(PREFACE, now());
            meter.pass(&first, now());
            assert_eq!(meter.verdict(), Some(Reason::PROTOCOL_ERROR));
        }
    }

    #[test]
    fn frames_are_found_however_they_are_split() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[0; 12]));
        bytes.extend(frame(HEADERS, 0, 1, b"abc"));
        for step in [1, 2, 7, 9, 100] {
            let mut meter = Meter::new(now());
            bytes.chunks(step).for_each(|part| meter.pass(part, now()));
            assert!(meter.is_settled());
            assert_eq!(meter.block_since(), Some(now()));
            meter.pass(&frame(CONTINUATION, END_HEADERS, 1, b"d"), now());
            assert_eq!(meter.block_since(), None);
            assert_eq!(meter.stock, STOCK_MAX - 3);
        }
    }

    #[test]
    fn cve_2019_9512_a_flood_of_pings_ends_the_connection() {
        let mut meter = settled();
        let ping = frame(PING, 0, 0, &[0; 8]);
        for _ in 1..STOCK_MAX {
            assert_eq!(meter.verdict(), None);
            meter.pass(&ping, now());
        }
        assert_eq!(meter.verdict(), None);
        meter.pass(&ping, now());
        assert_eq!(meter.verdict(), Some(Reason::ENHANCE_YOUR_CALM));
    }

    #[test]
    fn time_and_work_give_new_frames() {
        let mut meter = settled();
        let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
        for second in 0..600 {
            let later = Tick::from(1_000_000 + second * 1000);
            (0..STOCK_A_SECOND).for_each(|_| meter.pass(&update, later));
        }
        for _ in 0..10 * STOCK_MAX {
            meter.earn(1, 0);
            meter.pass(&update, now());
        }
        assert_eq!(meter.verdict(), None);
    }

    #[test]
    fn cve_2023_44487_giving_up_streams_that_are_not_answered_ends_the_connection() {
        let mut meter = settled();
        let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        for _ in 0..10 * RESETS_MAX {
            meter.earn(8, 1);
            meter.pass(&reset, now());
        }
        assert_eq!(meter.verdict(), None);
        for _ in 0..=RESETS_MAX {
            meter.earn(8, 0);
            meter.pass(&reset, now());
        }
        assert_eq!(meter.verdict(), Some(Reason::ENHANCE_YOUR_CALM));
    }

    #[test]
    fn data_is_free_and_known_while_it_arrives() {
        let mut meter = settled();
        let data = frame(DATA, 0, 5, &[0; 100]);
        let (stock, half) = (meter.stock, &data[..59]);
        meter.pass(half, now());
        assert_eq!(meter.arriving(), (5, 50));
        meter.pass(&data[59..], now());
        assert_eq!(meter.arriving(), (0, 0));
        assert_eq!(meter.stock, stock);
    }
}
