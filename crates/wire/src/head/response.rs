//! Response heads.

use std::mem::MaybeUninit;

use super::connection::{self, Options};
use super::error::{Fault, HeadError};
use super::framing::{self, Framing};
use super::index::{self, Index};
use super::{FIELDS_CEILING, HeadLimits, Parse, Upgrade, Version};
use crate::field::{Field, FieldId, Span};

/// Length of `HTTP/1.1 200`, after which the reason phrase follows.
const STATUS_END: usize = 12;

/// The head of a response, as an index over the buffer it was parsed from. Reuse one value for all
/// responses of a connection: parsing keeps the memory of `fields`.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 999: real origins use more than RFC 9110 §15 knows.
    pub status: u16,
    /// The reason phrase, often empty.
    pub reason: Span,
    /// The version.
    pub version: Version,
    /// The fields in the order they came in.
    pub fields: Vec<Field>,
    /// Bytes of the head in the buffer, final empty line included.
    pub len: usize,
    /// Where the body ends. [`Framing::None`] for every 1xx: a 101 is the caller's matter.
    pub framing: Framing,
    /// Whether the connection may carry another exchange after this one. Also false when the body
    /// lasts until close, and when a 1xx or 204 declares a body: such a connection must not be
    /// reused even if the final response that follows a 1xx says otherwise.
    pub keep_alive: bool,
    /// What a 101 turns the connection into; [`Upgrade::WebSocket`] only for status 101.
    pub upgrade: Upgrade,
    present: u64,
    nominates: bool,
}

impl ResponseHead {
    /// Parses the head at the start of `buf`. `scanned` as in [`super::RequestHead::parse`];
    /// `request_method_is_head` because such a response never has a body.
    ///
    /// # Errors
    /// The upstream is at fault: 502, and the connection to it must be closed.
    pub fn parse(
        &mut self,
        buf: &[u8],
        scanned: usize,
        limits: &HeadLimits,
        request_method_is_head: bool,
    ) -> Result<Parse, HeadError> {
        self.parse_within(buf, scanned, limits, request_method_is_head).map_err(HeadError::Response)
    }

    /// The first field of this id.
    #[inline]
    pub fn get(&self, id: FieldId) -> Option<&Field> {
        index::find(&self.fields, self.present, id)
    }

    /// As [`super::RequestHead::nominated`].
    #[inline]
    pub fn nominated(&self, buf: &[u8], name: &[u8]) -> bool {
        self.nominates && connection::nominated(buf, &self.fields, name)
    }

    /// Whether this is an interim response, after which another head follows (RFC 9110 §15.2). 101
    /// is none: what follows it is another protocol.
    #[inline]
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    fn parse_within(
        &mut self,
        buf: &[u8],
        scanned: usize,
        limits: &HeadLimits,
        to_head: bool,
    ) -> Result<Parse, Fault> {
        let (window, cut) = index::window(buf, limits);
        let unfinished = if cut { Err(Fault::TooLarge) } else { Ok(Parse::Partial) };
        if scanned > 0 && !index::may_end(window, scanned)? {
            return unfinished;
        }
        // An empty line here would be bytes left over from the response before.
        if matches!(window.first(), Some(b'\r' | b'\n')) {
            return Err(Fault::LeadingLines);
        }
        let mut headers = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
        let room = headers.get_mut(..index::fields_limit(limits)).unwrap_or_default();
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, window, room) {
            Ok(httparse::Status::Complete(len)) => self.take(window, len, &parsed, to_head)?,
            Ok(httparse::Status::Partial) => return unfinished,
            Err(error) => return Err(fault_of(error, window)),
        }
        Ok(Parse::Complete)
    }

    /// Indexes and judges a head that is syntactically whole.
    fn take<'a>(
        &mut self,
        buf: &'a [u8],
        len: usize,
        parsed: &httparse::Response<'_, 'a>,
        to_head: bool,
    ) -> Result<(), Fault> {
        self.len = len;
        self.status = parsed.code.filter(|code| *code >= 100).ok_or(Fault::Status)?;
        self.version = match parsed.version {
            Some(0) => Version::Http10,
            _ => Version::Http11,
        };
        self.reason = reason(buf);
        let index = Index::build(buf, len, parsed.headers, &mut self.fields)?;
        let options = Options::of(&index);
        let (framing, reusable) = framing::of_response(&index, self.version, self.status, to_head)?;
        self.framing = framing;
        self.keep_alive = reusable && options.persistent(self.version);
        self.upgrade = connection::upgrade(&index, options, self.status == 101);
        self.present = index.present();
        self.nominates = options.others;
        Ok(())
    }
}

/// The reason phrase; `httparse` hides one with bytes outside ASCII.
#[inline]
fn reason(buf: &[u8]) -> Span {
    let rest = buf.get(STATUS_END..).unwrap_or_default();
    let len = memchr::memchr(b'\r', rest).unwrap_or(0);
    // The space is part of the line even when no phrase follows.
    Span::new(STATUS_END + 1, len.saturating_sub(1))
}

#[cold]
fn fault_of(error: httparse::Error, head: &[u8]) -> Fault {
    match error {
        httparse::Error::HeaderName => Fault::FieldName,
        httparse::Error::HeaderValue => Fault::FieldValue,
        httparse::Error::NewLine => Fault::LineEnd,
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::Version if head.starts_with(b"HTTP/") => Fault::Version,
        httparse::Error::Version | httparse::Error::Status | httparse::Error::Token => {
            Fault::StartLine
        }
    }
}
