//! Header fields as places in a buffer, and the names that Ravelin treats specially.
//!
//! A field is never copied out of the read buffer: it is a [`Field`], two [`Span`]s and a
//! [`FieldId`]. The id is found once, while the head is indexed, so that every later question ("is
//! there a `Host`?", "is this hop-by-hop?") compares one byte instead of a name.
//!
//! What always holds: a [`Span`] read against the wrong or a shorter buffer yields fewer bytes,
//! never a panic; two names have the same id exactly when they are equal ignoring ASCII case, or
//! both are [`FieldId::Other`].

use crate::token;

/// A run of bytes, relative to the slice that was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    start: u16,
    len: u16,
}

impl Span {
    /// The span of `len` bytes from `start`; empty if it cannot be expressed (heads are bounded to
    /// 64 KiB, so this does not happen to spans of a head).
    #[inline]
    pub fn new(start: usize, len: usize) -> Span {
        match (u16::try_from(start), u16::try_from(len)) {
            (Ok(start), Ok(len)) => Span { start, len },
            _ => Span::default(),
        }
    }

    /// The span of a part of a head, which fits because heads are bounded.
    #[inline]
    pub(crate) fn of_head(start: usize, len: usize) -> Span {
        debug_assert!(start.max(len) <= usize::from(u16::MAX));
        Span { start: start as u16, len: len as u16 }
    }

    /// The bytes it names in `buf`; empty if it reaches out of `buf`.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start()..self.end()).unwrap_or_default()
    }

    /// Where it begins.
    #[inline]
    pub fn start(self) -> usize {
        usize::from(self.start)
    }

    /// One past its last byte.
    #[inline]
    pub fn end(self) -> usize {
        usize::from(self.start) + usize::from(self.len)
    }

    /// Its length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        usize::from(self.len)
    }

    /// Whether it names no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// One header field of a parsed head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The name as it was sent, case included.
    pub name: Span,
    /// The value without surrounding spaces and tabs.
    pub value: Span,
    /// Which of the special names it is.
    pub id: FieldId,
}

macro_rules! field_ids {
    ($($id:ident = $name:literal,)+) => {
        /// A field name that some part of Ravelin treats specially.
        #[repr(u8)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FieldId {
            /// Any name that is not in this list.
            Other,
            $(#[doc = concat!("`", $name, "`")] $id,)+
        }

        /// Every special name in lower case, in the order of [`FieldId`] without `Other`.
        const NAMES: &[(FieldId, &str)] = &[$((FieldId::$id, $name),)+];
    };
}

field_ids! {
    Host = "host",
    Connection = "connection",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    Expect = "expect",
    XForwardedFor = "x-forwarded-for",
    XForwardedProto = "x-forwarded-proto",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XRealIp = "x-real-ip",
    Forwarded = "forwarded",
    Via = "via",
    XRequestId = "x-request-id",
    Range = "range",
    IfRange = "if-range",
    IfMatch = "if-match",
    IfNoneMatch = "if-none-match",
    IfModifiedSince = "if-modified-since",
    IfUnmodifiedSince = "if-unmodified-since",
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    Authorization = "authorization",
    Cookie = "cookie",
    SetCookie = "set-cookie",
    Referer = "referer",
    UserAgent = "user-agent",
    Origin = "origin",
    Location = "location",
    Server = "server",
    Date = "date",
    ContentType = "content-type",
    ContentEncoding = "content-encoding",
    CacheControl = "cache-control",
    Etag = "etag",
    LastModified = "last-modified",
    Proxy = "proxy",
    Http2Settings = "http2-settings",
    SecWebSocketKey = "sec-websocket-key",
    SecWebSocketVersion = "sec-websocket-version",
    SecWebSocketProtocol = "sec-websocket-protocol",
    SecWebSocketExtensions = "sec-websocket-extensions",
    SecWebSocketAccept = "sec-websocket-accept",
    XAccelBuffering = "x-accel-buffering",
    Vary = "vary",
    ContentRange = "content-range",
    AcceptRanges = "accept-ranges",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
}

impl FieldId {
    /// The name in lower case; empty for [`FieldId::Other`].
    pub fn name(self) -> &'static str {
        (self as usize).checked_sub(1).and_then(|at| NAMES.get(at)).map_or("", |(_, name)| name)
    }

    /// The id with this number, in the order of declaration; `None` for [`FieldId::Other`] and numbers
    /// without one.
    pub fn from_number(number: u8) -> Option<Self> {
        NAMES.get(usize::from(number).checked_sub(1)?).map(|(id, _)| *id)
    }

    /// One bit an id, for sets of ids. `Other` has a bit as well.
    #[inline]
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// The id of `name`, ignoring ASCII case.
#[inline]
pub fn field_id(name: &[u8]) -> FieldId {
    let (id, expected) = CANDIDATES[slot(name)];
    if token::eq_ignoring_case(name, expected) { id } else { FieldId::Other }
}

/// Sets of ids are `u64`s.
const _: () = assert!(NAMES.len() < 64);

/// Slots of the perfect hash. A power of two, as [`slot`] takes the top eight bits.
const SLOTS: usize = 256;

/// Spreads the special names over the slots without a collision; found by trying. If a new name
/// collides, the crate does not compile: choose another odd number.
const MULTIPLIER: u32 = 0xa6ec_c31f;

static CANDIDATES: [(FieldId, &[u8]); SLOTS] = {
    let mut slots: [(FieldId, &[u8]); SLOTS] = [(FieldId::Other, b""); SLOTS];
    let mut i = 0;
    while i < NAMES.len() {
        let (id, name) = NAMES[i];
        let at = slot(name.as_bytes());
        assert!(slots[at].1.is_empty(), "two field names share a slot: change MULTIPLIER");
        slots[at] = (id, name.as_bytes());
        i += 1;
    }
    slots
};

/// Length, first and last two bytes tell all special names apart; setting bit 5 folds the case of
/// letters.
#[inline]
const fn slot(name: &[u8]) -> usize {
    let (first, before_last, last) = match name {
        [first, .., before_last, last] => (*first, *before_last, *last),
        [first, last] => (*first, *first, *last),
        [only] => (*only, *only, *only),
        [] => (0, 0, 0),
    };
    let key = u32::from_le_bytes([name.len() as u8, first | 32, before_last | 32, last | 32]);
    (key.wrapping_mul(MULTIPLIER) >> 24) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_name_is_found_in_any_case() {
        for (id, name) in NAMES {
            assert_eq!(field_id(name.as_bytes()), *id, "{name}");
            assert_eq!(field_id(name.to_ascii_uppercase().as_bytes()), *id, "{name}");
            assert_eq!(id.name(), *name);
        }
        assert_eq!(FieldId::Other.name(), "");
    }

    #[test]
    fn neighbours_of_special_names_are_other() {
        for (_, name) in NAMES {
            for changed in [format!("{name}x"), name[1..].to_owned(), name.replace('-', "_")] {
                if NAMES.iter().all(|(_, other)| *other != changed) {
                    assert_eq!(field_id(changed.as_bytes()), FieldId::Other, "{changed}");
                }
            }
        }
        for name in ["", "x", "content\rlength", "Content-Lengtı"] {
            assert_eq!(field_id(name.as_bytes()), FieldId::Other, "{name}");
        }
    }

    #[test]
    fn a_span_out_of_range_is_empty() {
        assert_eq!(Span::new(2, 3).of(b"0123456"), b"234");
        assert_eq!(Span::new(2, 3).of(b"0123"), b"");
        assert_eq!(Span::new(70_000, 1), Span::default());
    }
}
