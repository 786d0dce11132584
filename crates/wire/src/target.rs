//! Request targets, and the canonical path.
//!
//! Matching on one spelling of a path and forwarding another is how access rules are bypassed. There
//! is one canonical path here, and matching, authorisation, logging and forwarding all use it: dot
//! segments removed, empty segments merged, percent-encoding in one form only. What different servers
//! are known to read differently (an encoded slash, a backslash, dots that appear only after
//! decoding, `..;`) is refused. The query is opaque and kept byte for byte.

use std::borrow::Cow;
use std::fmt;

use crate::host;

/// The form a target has (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    Origin,
    /// `http://authority/path?query`
    Absolute,
    /// `host:port`, with CONNECT only.
    Authority,
    /// `*`, with OPTIONS only; also `http://authority` with OPTIONS (RFC 9112 §3.2.4).
    Asterisk,
}

/// The scheme of an absolute-form target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// A target that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// Its form.
    pub form: Form,
    /// The canonical path, borrowed if it came in that form. `*` for [`Form::Asterisk`], empty for
    /// [`Form::Authority`], else begins with a slash.
    pub path: Cow<'a, [u8]>,
    /// The query without its `?`, byte for byte; `None` without a `?`.
    pub query: Option<&'a [u8]>,
    /// The authority of absolute and authority form; [`crate::host::Host::parse`] accepts it.
    pub authority: Option<&'a [u8]>,
    /// The scheme of an absolute form.
    pub scheme: Option<Scheme>,
}

/// Why a target was refused. The client is at fault: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// None of the four forms, or a form that the method does not allow.
    Form,
    /// The authority is not `host[:port]`.
    Authority,
    /// A fragment, which is never sent (RFC 3986 §3.5).
    Fragment,
    /// A control byte, space, backslash or byte outside ASCII.
    Byte,
    /// `%` without two hexadecimal digits.
    Percent,
    /// `%00`, or a slash or backslash in encoded form, overlong UTF-8 included.
    EncodedDelimiter,
    /// A dot segment that shows only after decoding, or that has a parameter (`..;`).
    HiddenDots,
    /// More `..` than segments before them.
    AboveRoot,
}

impl TargetError {
    /// A short reason, for logs.
    pub fn reason(self) -> &'static str {
        match self {
            TargetError::Form => "malformed request target",
            TargetError::Authority => "invalid authority in the request target",
            TargetError::Fragment => "fragment in the request target",
            TargetError::Byte => "forbidden byte in the request target",
            TargetError::Percent => "malformed percent-encoding",
            TargetError::EncodedDelimiter => "encoded slash, backslash or NUL in the path",
            TargetError::HiddenDots => "disguised dot segment in the path",
            TargetError::AboveRoot => "path leaves the root",
        }
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for TargetError {}

/// Understands the target of a request.
///
/// With `allow_encoded_slashes` `%2F` and `%5C` are accepted and stay encoded, for applications that
/// carry them in their identifiers.
///
/// # Errors
/// See [`TargetError`]; the answer is 400.
pub fn parse_target<'a>(
    method: &[u8],
    target: &'a [u8],
    allow_encoded_slashes: bool,
) -> Result<Target<'a>, TargetError> {
    if target.first() == Some(&b'/') && method != b"CONNECT" {
        return origin_form(target, allow_encoded_slashes);
    }
    match (method, target) {
        (b"CONNECT", _) => authority_form(target),
        (b"OPTIONS", b"*") => Ok(asterisk(None, None)),
        _ => absolute_form(method, target, allow_encoded_slashes),
    }
}

/// The canonical form of a path that begins with a slash and has no query: what
/// [`parse_target`] does to the path, for paths made by rewriting.
///
/// # Errors
/// As [`parse_target`].
pub fn canonical_path(
    path: &[u8],
    allow_encoded_slashes: bool,
) -> Result<Cow<'_, [u8]>, TargetError> {
    if path.first() != Some(&b'/') {
        return Err(TargetError::Form);
    }
    match scan(path)? {
        Scan { end, .. } if end != path.len() => Err(TargetError::Form),
        Scan { canonical: true, .. } => Ok(Cow::Borrowed(path)),
        Scan { .. } => rebuild(path, allow_encoded_slashes),
    }
}

/// The parts of an absolute-form target that are found without judging it.
pub(crate) struct Absolute<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) authority: &'a [u8],
    /// Where the authority begins in the target.
    pub(crate) authority_at: usize,
    /// Path and query.
    rest: &'a [u8],
}

/// Takes an absolute-form target apart; `None` if it is not `http://` or `https://`.
pub(crate) fn split_absolute(target: &[u8]) -> Option<Absolute<'_>> {
    let (scheme, authority_at) = match target {
        _ if starts_with_ignoring_case(target, b"http://") => (Scheme::Http, 7),
        _ if starts_with_ignoring_case(target, b"https://") => (Scheme::Https, 8),
        _ => return None,
    };
    let after = target.get(authority_at..)?;
    let end =
        after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after.len());
    let (authority, rest) = after.split_at_checked(end)?;
    Some(Absolute { scheme, authority, authority_at, rest })
}

fn starts_with_ignoring_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn authority_form(target: &[u8]) -> Result<Target<'_>, TargetError> {
    let host = host::Host::parse(target).map_err(|_| TargetError::Authority)?;
    if host.port().is_none() {
        return Err(TargetError::Authority);
    }
    Ok(Target {
        form: Form::Authority,
        path: Cow::Borrowed(b""),
        query: None,
        authority: Some(target),
        scheme: None,
    })
}

fn asterisk<'a>(authority: Option<&'a [u8]>, scheme: Option<Scheme>) -> Target<'a> {
    Target { form: Form::Asterisk, path: Cow::Borrowed(b"*"), query: None, authority, scheme }
}

fn absolute_form<'a>(
    method: &[u8],
    target: &'a [u8],
    allow_encoded_slashes: bool,
) -> Result<Target<'a>, TargetError> {
    let Absolute { scheme, authority, rest, .. } =
        split_absolute(target).ok_or(TargetError::Form)?;
    host::check(authority).map_err(|_| TargetError::Authority)?;
    if rest.is_empty() && method == b"OPTIONS" {
        return Ok(asterisk(Some(authority), Some(scheme)));
    }
    let origin = match rest.first() {
        None => origin_form(b"/", allow_encoded_slashes)?,
        Some(b'/') => origin_form(rest, allow_encoded_slashes)?,
        Some(b'?') => {
            let query = rest.get(1..).unwrap_or_default();
            check_query(query)?;
            Target { query: Some(query), ..origin_form(b"/", allow_encoded_slashes)? }
        }
        Some(_) => return Err(TargetError::Fragment),
    };
    Ok(Target { form: Form::Absolute, authority: Some(authority), scheme: Some(scheme), ..origin })
}

/// A path with or without a query.
#[inline]
fn origin_form(rest: &[u8], allow_encoded_slashes: bool) -> Result<Target<'_>, TargetError> {
    let Scan { end, canonical } = scan(rest)?;
    let (path, query) = rest.split_at_checked(end).ok_or(TargetError::Form)?;
    let query = query.get(1..);
    if let Some(query) = query {
        check_query(query)?;
    }
    let path = match canonical {
        true => Cow::Borrowed(path),
        false => rebuild(path, allow_encoded_slashes)?,
    };
    Ok(Target { form: Form::Origin, path, query, authority: None, scheme: None })
}

/// The query is opaque: only what no URI may hold is refused.
#[inline]
fn check_query(query: &[u8]) -> Result<(), TargetError> {
    for byte in query {
        match byte {
            b'#' => return Err(TargetError::Fragment),
            0x21..=0x7e => {}
            _ => return Err(TargetError::Byte),
        }
    }
    Ok(())
}

/// What one look over a path finds.
struct Scan {
    /// Where the path ends and the query begins, or the length.
    end: usize,
    /// Whether the path is canonical already.
    canonical: bool,
}

/// Finds the end of the path and whether it is canonical. `false` may be wrong (then rebuilding
/// yields the same bytes), `true` never is.
#[inline]
fn scan(path: &[u8]) -> Result<Scan, TargetError> {
    let mut canonical = true;
    let mut previous = 0;
    for (at, byte) in path.iter().enumerate() {
        match CLASS[usize::from(*byte)] {
            Class::Plain => {}
            Class::Slash | Class::Dot => canonical &= previous != b'/',
            Class::Rewrite => canonical = false,
            Class::Query => return Ok(Scan { end: at, canonical }),
            Class::Fragment => return Err(TargetError::Fragment),
            Class::Forbidden => return Err(TargetError::Byte),
        }
        previous = *byte;
    }
    Ok(Scan { end: path.len(), canonical })
}

/// Builds the canonical path of `path`, which begins with a slash and holds no forbidden byte.
#[cold]
fn rebuild(path: &[u8], allow_encoded_slashes: bool) -> Result<Cow<'_, [u8]>, TargetError> {
    let mut out = Vec::with_capacity(path.len().saturating_add(8));
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"" if !last => {}
            b"" | b"." if last => out.push(b'/'),
            b"." => {}
            b".." => {
                let parent = memchr::memrchr(b'/', &out).ok_or(TargetError::AboveRoot)?;
                out.truncate(parent);
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                let start = out.len();
                push_segment(&mut out, segment, allow_encoded_slashes)?;
                refuse_hidden_dots(out.get(start..).unwrap_or_default())?;
            }
        }
    }
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

/// Appends one segment with its percent-encoding in canonical form: unreserved bytes decoded, what
/// RFC 3986 does not allow in a path encoded, hexadecimal digits in upper case.
fn push_segment(
    out: &mut Vec<u8>,
    segment: &[u8],
    allow_encoded_slashes: bool,
) -> Result<(), TargetError> {
    let mut bytes = segment;
    let mut overlong_lead = false;
    while let Some((byte, rest)) = bytes.split_first() {
        bytes = rest;
        if *byte != b'%' {
            overlong_lead = false;
            match is_path_byte(*byte) {
                true => out.push(*byte),
                false => push_encoded(out, *byte),
            }
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(TargetError::Percent) };
        let decoded = match (hex(*high), hex(*low)) {
            (Some(high), Some(low)) => high << 4 | low,
            _ => return Err(TargetError::Percent),
        };
        bytes = after;
        match decoded {
            0 => return Err(TargetError::EncodedDelimiter),
            b'/' | b'\\' if !allow_encoded_slashes => return Err(TargetError::EncodedDelimiter),
            // 0xc0 and 0xc1 never begin a character: `%C0%AF` is a slash only to sloppy decoders.
            0x80..=0xbf if overlong_lead => return Err(TargetError::EncodedDelimiter),
            _ if is_unreserved(decoded) => out.push(decoded),
            _ => push_encoded(out, decoded),
        }
        overlong_lead = matches!(decoded, 0xc0 | 0xc1);
    }
    Ok(())
}

/// Refuses a canonical segment that some server behind might still take for a dot segment: it was
/// disguised by encoding, carries a parameter, or stands between encoded slashes.
fn refuse_hidden_dots(segment: &[u8]) -> Result<(), TargetError> {
    let mut rest = segment;
    loop {
        let end = rest.windows(3).position(|three| matches!(three, b"%2F" | b"%5C"));
        let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let name = piece.split(|byte| *byte == b';').next().unwrap_or_default();
        let name = name.windows(3).position(|three| three == b"%3B").map_or(name, |at| &name[..at]);
        if matches!(name, b"." | b"..") {
            return Err(TargetError::HiddenDots);
        }
        match end.and_then(|end| rest.get(end.saturating_add(3)..)) {
            Some(after) => rest = after,
            None => return Ok(()),
        }
    }
}

fn push_encoded(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
}

#[inline]
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[inline]
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// pchar without percent-encoding (RFC 3986 §3.3).
#[inline]
const fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

#[derive(Clone, Copy)]
enum Class {
    /// Canonical wherever it stands.
    Plain,
    /// Begins a segment.
    Slash,
    /// May begin a dot segment.
    Dot,
    /// Percent-encoding, or visible ASCII that has to be encoded.
    Rewrite,
    Query,
    Fragment,
    Forbidden,
}

static CLASS: [Class; 256] = {
    let mut table = [Class::Forbidden; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'/' => Class::Slash,
            b'.' => Class::Dot,
            b'?' => Class::Query,
            b'#' => Class::Fragment,
            b'\\' => Class::Forbidden,
            b if is_path_byte(b) => Class::Plain,
            0x21..=0x7e => Class::Rewrite,
            _ => Class::Forbidden,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
