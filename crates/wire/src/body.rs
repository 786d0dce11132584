//! Bodies: which of the bytes that follow a head are payload, and where the message ends.
//!
//! A [`BodyDecoder`] is fed whatever was read and answers with ranges inside it; payload is never
//! copied. It can be interrupted at every byte. Chunked coding (RFC 9112 §7.1) is read strictly: a
//! size is 1 to 16 hexadecimal digits, every line ends in CRLF, and chunk extensions, which no
//! application uses but attacks do, are skipped within a small budget.
//!
//! What always holds: payload ranges lie inside the consumed part of the input; once
//! [`BodyDecoder::is_done`], nothing is consumed any more, so what is left belongs to the next
//! message; an error is final.

mod trailers;

use std::fmt;
use std::ops::Range;

use crate::head::Framing;
use trailers::Trailers;
pub use trailers::{TRAILER_BYTES_MAX, TRAILER_FIELDS_MAX, may_be_trailer};

/// Bytes of chunk extensions accepted over a whole body, white space and semicolons included. Real
/// traffic has none; without a bound, single-byte chunks could each carry kilobytes
/// (CVE-2023-39326).
pub const CHUNK_EXTENSION_BYTES_MAX: u16 = 256;

/// Digits of a chunk size: as many as a 64-bit number has.
const SIZE_DIGITS_MAX: u8 = 16;

/// Reads one body.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
    /// Payload bytes to come: of the body, or of the current chunk.
    left: u64,
    /// Digits of the current chunk size seen.
    digits: u8,
    /// Chunk extension bytes seen.
    extension_bytes: u16,
    trailers: Trailers,
}

/// What one call of [`BodyDecoder::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes of the input are dealt with.
    pub consumed: usize,
    /// Which of them are payload; may be empty.
    pub payload: Range<usize>,
    /// Whether the body ends with them.
    pub done: bool,
}

/// Why a body was refused. Whoever sent it is to blame; the connection cannot be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk size has no or a wrong digit, more than 16 of them, or is 2^63 or more.
    ChunkSize,
    /// A line does not end in CRLF, or a chunk is not followed by CRLF.
    LineEnd,
    /// A control byte in a chunk extension, or white space where none may be.
    ChunkExtension,
    /// More chunk extensions than [`CHUNK_EXTENSION_BYTES_MAX`].
    ChunkExtensionsTooLarge,
    /// A malformed trailer field.
    Trailer,
    /// More trailers than [`TRAILER_BYTES_MAX`] or [`TRAILER_FIELDS_MAX`].
    TrailersTooLarge,
    /// The connection closed before the body's end.
    Truncated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Length,
    UntilClose,
    /// In a chunk size, at least one digit to come or seen.
    Size,
    /// After a chunk size: white space, only a semicolon may follow.
    SizeSpace,
    /// In chunk extensions, until CR.
    Extension,
    /// After the CR of a chunk size line.
    SizeLineFeed,
    /// In the payload of a chunk.
    Data,
    /// After a chunk's payload.
    DataReturn,
    DataLineFeed,
    /// In the trailer section.
    Trailers,
    Failed(BodyError),
}

impl BodyDecoder {
    /// A decoder for one body.
    #[inline]
    pub fn new(framing: Framing) -> BodyDecoder {
        let (state, left) = match framing {
            Framing::None | Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::Size, 0),
            Framing::UntilClose => (State::UntilClose, 0),
        };
        BodyDecoder { state, left, digits: 0, extension_bytes: 0, trailers: Trailers::default() }
    }

    /// Reads on. Returns after at most one range of payload; call again with the rest of the input
    /// until nothing was consumed or the body is done.
    ///
    /// # Errors
    /// If the input breaks the chunked coding. Every later call returns the same error.
    #[inline]
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        match self.state {
            State::Done => Ok(Piece { consumed: 0, payload: 0..0, done: true }),
            State::Length => {
                let taken = self.take_payload(input.len());
                if self.left == 0 {
                    self.state = State::Done;
                }
                Ok(Piece { consumed: taken, payload: 0..taken, done: self.left == 0 })
            }
            State::UntilClose => {
                Ok(Piece { consumed: input.len(), payload: 0..input.len(), done: false })
            }
            _ => self.next_chunked(input).inspect_err(|error| self.state = State::Failed(*error)),
        }
    }

    /// Whether the body has ended.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers that may be forwarded, as `name: value` lines, each with its CRLF. Complete once
    /// the body is done. Those that RFC 9110 §6.5.1 forbids, because they would change framing,
    /// routing, authentication or the meaning of the content, have been dropped.
    pub fn trailers(&self) -> &[u8] {
        if self.is_done() { self.trailers.lines() } else { &[] }
    }

    /// For a body with a known length, the payload bytes to come.
    #[inline]
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length => Some(self.left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Accounts for `n` payload bytes that were moved without passing through [`BodyDecoder::next`],
    /// by splice for example. Only meaningful for bodies with a known length (of at least `n` more
    /// bytes) and until close.
    #[inline]
    pub fn skip(&mut self, n: u64) {
        if self.state == State::Length {
            self.left = self.left.saturating_sub(n);
            if self.left == 0 {
                self.state = State::Done;
            }
        }
    }

    /// The peer closed its side: ends a body that lasts until close.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] if the body should have gone on, or the error that came before.
    pub fn finish_eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            _ => Err(BodyError::Truncated),
        }
    }

    /// Takes as much payload as is there and due.
    #[inline]
    fn take_payload(&mut self, available: usize) -> usize {
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(available);
        self.left = self.left.saturating_sub(taken as u64);
        taken
    }

    /// One range of payload and all the coding before and after it that is in the input.
    fn next_chunked(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        let mut at = 0;
        let mut payload = 0..0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if self.state == State::Data {
                if !payload.is_empty() {
                    break;
                }
                let taken = self.take_payload(rest.len());
                payload = at..at.saturating_add(taken);
                at = payload.end;
                if self.left == 0 {
                    self.state = State::DataReturn;
                }
                continue;
            }
            if self.state == State::Trailers {
                let (consumed, done) = self.trailers.next(rest)?;
                at = at.saturating_add(consumed);
                if done {
                    self.state = State::Done;
                    return Ok(Piece { consumed: at, payload, done: true });
                }
                continue;
            }
            if let Some(byte) = rest.first() {
                self.state = self.step(*byte)?;
                at = at.saturating_add(1);
            }
        }
        Ok(Piece { consumed: at, payload, done: false })
    }

    /// One byte of chunked coding between payloads.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match self.state {
            State::Size => self.size_byte(byte),
            State::SizeSpace => match byte {
                b' ' | b'\t' => self.extension_byte(State::SizeSpace),
                b';' => self.extension_byte(State::Extension),
                _ => Err(BodyError::ChunkExtension),
            },
            State::Extension => match byte {
                b'\r' => Ok(State::SizeLineFeed),
                b'\n' => Err(BodyError::LineEnd),
                _ if crate::token::is_value_byte(byte) => self.extension_byte(State::Extension),
                _ => Err(BodyError::ChunkExtension),
            },
            State::SizeLineFeed if byte != b'\n' => Err(BodyError::LineEnd),
            State::SizeLineFeed => {
                self.digits = 0;
                Ok(if self.left == 0 { State::Trailers } else { State::Data })
            }
            State::DataReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataLineFeed if byte == b'\n' => Ok(State::Size),
            State::DataReturn | State::DataLineFeed => Err(BodyError::LineEnd),
            State::Failed(error) => Err(error),
            state => Ok(state),
        }
    }

    #[inline]
    fn size_byte(&mut self, byte: u8) -> Result<State, BodyError> {
        if let Some(digit) = hex(byte) {
            self.digits = self.digits.saturating_add(1);
            if self.digits > SIZE_DIGITS_MAX {
                return Err(BodyError::ChunkSize);
            }
            self.left = self
                .left
                .checked_mul(16)
                .map(|shifted| shifted | u64::from(digit))
                .filter(|size| *size <= i64::MAX as u64)
                .ok_or(BodyError::ChunkSize)?;
            return Ok(State::Size);
        }
        match byte {
            _ if self.digits == 0 => Err(BodyError::ChunkSize),
            b'\r' => Ok(State::SizeLineFeed),
            b'\n' => Err(BodyError::LineEnd),
            b';' => self.extension_byte(State::Extension),
            b' ' | b'\t' => self.extension_byte(State::SizeSpace),
            _ => Err(BodyError::ChunkSize),
        }
    }

    fn extension_byte(&mut self, next: State) -> Result<State, BodyError> {
        self.extension_bytes = self.extension_bytes.saturating_add(1);
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
            return Err(BodyError::ChunkExtensionsTooLarge);
        }
        Ok(next)
    }
}

/// The size line of a chunk of `len` bytes, `1f\r\n`, written into `out`. `len` should not be 0: that
/// is the last chunk.
#[inline]
pub fn chunk_prefix(len: usize, out: &mut [u8; 20]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let [digits @ .., carriage_return, line_feed] = &mut *out;
    *carriage_return = b'\r';
    *line_feed = b'\n';
    let mut left = len;
    let mut start = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = DIGITS[left & 15];
        left >>= 4;
        start = at;
        if left == 0 {
            break;
        }
    }
    out.get(start..).unwrap_or_default()
}

impl BodyError {
    /// A short reason, for logs.
    pub fn reason(self) -> &'static str {
        match self {
            BodyError::ChunkSize => "invalid chunk size",
            BodyError::LineEnd => "line of the chunked coding does not end in CRLF",
            BodyError::ChunkExtension => "malformed chunk extension",
            BodyError::ChunkExtensionsTooLarge => "chunk extensions too large",
            BodyError::Trailer => "malformed trailer",
            BodyError::TrailersTooLarge => "trailers too large",
            BodyError::Truncated => "connection closed before the end of the body",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BodyError {}

#[inline]
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
