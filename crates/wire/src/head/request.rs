//! Request heads.

use std::mem::MaybeUninit;

use super::connection::{self, Options};
use super::error::{Fault, HeadError};
use super::framing::{self, Framing};
use super::index::{self, Index};
use super::{FIELDS_CEILING, HeadLimits, Parse, Upgrade, Version};
use crate::field::{Field, FieldId, Span};
use crate::{host, target};

/// The head of a request, as an index over the buffer it was parsed from. Reuse one value for all
/// requests of a connection: parsing keeps the memory of `fields`.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    /// The method, a token.
    pub method: Span,
    /// The request target as it was sent; [`crate::target::parse_target`] judges it.
    pub target: Span,
    /// The version.
    pub version: Version,
    /// The fields in the order they came in.
    pub fields: Vec<Field>,
    /// Bytes of the head in the buffer, leading empty lines and final empty line included.
    pub len: usize,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client wants the connection to persist (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body. Never set without a body, nor
    /// for HTTP/1.0.
    pub expect_continue: bool,
    /// What the client asks to turn the connection into.
    pub upgrade: Upgrade,
    /// The host in effect: the authority of an absolute-form target, else the value of `Host`
    /// (RFC 9112 §3.2.2). [`crate::host::Host::parse`] accepts it. `None` only in HTTP/1.0.
    pub host: Option<Span>,
    present: u64,
    nominates: bool,
}

impl RequestHead {
    /// Parses the head at the start of `buf`. `scanned` is how many bytes of `buf` an earlier call
    /// that returned [`Parse::Partial`] was given, 0 for the first call: when it is not 0, only the
    /// bytes after it are looked at until the head's end is among them.
    ///
    /// # Errors
    /// The request must be answered with [`HeadError::status`] and the connection closed.
    pub fn parse(
        &mut self,
        buf: &[u8],
        scanned: usize,
        limits: &HeadLimits,
    ) -> Result<Parse, HeadError> {
        self.parse_within(buf, scanned, limits).map_err(HeadError::Request)
    }

    /// The first field of this id.
    #[inline]
    pub fn get(&self, id: FieldId) -> Option<&Field> {
        index::find(&self.fields, self.present, id)
    }

    /// Whether a `Connection` field nominates fields called `name` as hop-by-hop (RFC 9110 §7.6.1).
    /// Immediate when it only holds `keep-alive`, `close` and `upgrade`, which no end-to-end field is
    /// called. `Host` and `Content-Length` are never nominated. `buf` is what was parsed.
    #[inline]
    pub fn nominated(&self, buf: &[u8], name: &[u8]) -> bool {
        self.nominates && connection::nominated(buf, &self.fields, name)
    }

    fn parse_within(
        &mut self,
        buf: &[u8],
        scanned: usize,
        limits: &HeadLimits,
    ) -> Result<Parse, Fault> {
        let (window, cut) = index::window(buf, limits);
        if scanned > 0 && !index::may_end(window, scanned)? {
            return unfinished(window, cut);
        }
        let skipped = index::leading_lines(window)?;
        let message = window.get(skipped..).unwrap_or_default();

        let mut headers = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
        let room = headers.get_mut(..index::fields_limit(limits)).unwrap_or_default();
        let mut parsed = httparse::Request::new(&mut []);
        let len = match parsed.parse_with_uninit_headers(message, room) {
            Ok(httparse::Status::Complete(len)) => skipped.saturating_add(len),
            Ok(httparse::Status::Partial) => return unfinished(window, cut),
            Err(error) => return Err(fault_of(error, message)),
        };
        self.take(window, len, &parsed)?;
        Ok(Parse::Complete)
    }

    /// Indexes and judges a head that is syntactically whole.
    fn take<'a>(
        &mut self,
        buf: &'a [u8],
        len: usize,
        parsed: &httparse::Request<'_, 'a>,
    ) -> Result<(), Fault> {
        let method = parsed.method.unwrap_or_default().as_bytes();
        let target = parsed.path.unwrap_or_default().as_bytes();
        self.len = len;
        self.method = index::span_in(buf, method);
        self.target = index::span_in(buf, target);
        self.version = match parsed.version {
            Some(0) => Version::Http10,
            _ => Version::Http11,
        };
        let index = Index::build(buf, len, parsed.headers, &mut self.fields)?;
        let options = Options::of(&index);
        let may_be_websocket = method == b"GET" && self.version == Version::Http11;
        self.host = effective_host(&index, method, self.target, target, self.version)?;
        self.framing = framing::of_request(&index, self.version)?;
        self.keep_alive = options.persistent(self.version);
        self.expect_continue = expects_continue(&index, self.version, self.framing)?;
        self.upgrade =
            connection::upgrade(&index, options, may_be_websocket && !has_body(self.framing));
        self.present = index.present();
        self.nominates = options.others;
        Ok(())
    }
}

/// A head that has not ended: to be continued, unless it already fills its limit.
#[inline]
fn unfinished(window: &[u8], cut: bool) -> Result<Parse, Fault> {
    if !cut {
        return Ok(Parse::Partial);
    }
    let skipped = index::leading_lines(window)?;
    let message = window.get(skipped..).unwrap_or_default();
    let in_first_line = memchr::memchr(b'\n', message).is_none();
    Err(if in_first_line { Fault::TargetTooLong } else { Fault::TooLarge })
}

/// The host in effect and its validity (RFC 9112 §3.2, §3.2.2). `Host` is required and judged even
/// where the target overrides it.
#[inline]
fn effective_host(
    index: &Index<'_>,
    method: &[u8],
    target_span: Span,
    target: &[u8],
    version: Version,
) -> Result<Option<Span>, Fault> {
    let field = index.span(FieldId::Host);
    match index.value(FieldId::Host) {
        Some(value) => host::check(value).map_err(|_| Fault::Host)?,
        None if version == Version::Http11 => return Err(Fault::NoHost),
        None => {}
    }
    if target.first() == Some(&b'/') || target == b"*" || method == b"CONNECT" {
        return Ok(field);
    }
    let absolute = target::split_absolute(target).ok_or(Fault::Target)?;
    host::check(absolute.authority).map_err(|_| Fault::Host)?;
    let start = target_span.start().saturating_add(absolute.authority_at);
    Ok(Some(Span::new(start, absolute.authority.len())))
}

/// Whether the client waits for `100 Continue` (RFC 9110 §10.1.1). Any other expectation is refused:
/// a server further on might wait where this one does not.
#[inline]
fn expects_continue(index: &Index<'_>, version: Version, framing: Framing) -> Result<bool, Fault> {
    match index.value(FieldId::Expect) {
        Some(value) if version == Version::Http11 => {
            if value.eq_ignore_ascii_case(b"100-continue") {
                Ok(has_body(framing))
            } else {
                Err(Fault::Expectation)
            }
        }
        _ => Ok(false),
    }
}

#[inline]
fn has_body(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}

#[cold]
fn fault_of(error: httparse::Error, message: &[u8]) -> Fault {
    match error {
        httparse::Error::HeaderName => Fault::FieldName,
        httparse::Error::HeaderValue => Fault::FieldValue,
        httparse::Error::NewLine => Fault::LineEnd,
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::Version if names_other_version(message) => Fault::Version,
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => {
            Fault::StartLine
        }
    }
}

/// Whether the third word of the first line is some version of HTTP.
fn names_other_version(message: &[u8]) -> bool {
    let line = message.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let third = line.split(|byte| *byte == b' ').nth(2).unwrap_or_default();
    third.strip_prefix(b"HTTP/").and_then(|version| version.first()).is_some_and(u8::is_ascii_digit)
}
