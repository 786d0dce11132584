//! What can be wrong with a head, and who is to blame.

use std::fmt;

/// Why a head was refused. The connection cannot be used any further: where the next message would
/// begin is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// The client's request is at fault.
    Request(Fault),
    /// The upstream's response is at fault.
    Response(Fault),
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request or status line does not follow the grammar (RFC 9112 §3, §4).
    StartLine,
    /// More than a couple of empty lines before a request, or any before a response.
    LeadingLines,
    /// A line does not end in CRLF (RFC 9112 §2.2).
    LineEnd,
    /// A field name is empty, not a token, or followed by something else than a colon; obsolete line
    /// folding ends up here as well (RFC 9112 §5.1, §5.2).
    FieldName,
    /// A control byte in a field value (RFC 9110 §5.5).
    FieldValue,
    /// Well-formed, but neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// The head is larger than the limit.
    TooLarge,
    /// The request line alone is larger than the limit.
    TargetTooLong,
    /// More fields than the limit.
    TooManyFields,
    /// The request target is none of the four forms (RFC 9112 §3.2).
    Target,
    /// An HTTP/1.1 request without `Host` (RFC 9112 §3.2).
    NoHost,
    /// More than one `Host` (RFC 9112 §3.2).
    RepeatedHost,
    /// The host is not a host name or address with an optional port.
    Host,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.3).
    LengthAndCoding,
    /// More than one `Content-Length`, equal or not.
    RepeatedLength,
    /// `Content-Length` is not a plain decimal number below 2^63.
    Length,
    /// `Transfer-Encoding` is repeated, malformed, or does not end in `chunked`.
    Coding,
    /// A well-formed `Transfer-Encoding` with a coding Ravelin does not implement.
    UnknownCoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112 §6.1).
    CodingInHttp10,
    /// An `Expect` other than one `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// A status code below 100.
    Status,
}

impl HeadError {
    /// The status to answer the client with. What a client did wrong is a 4xx or, for things that
    /// are right but not offered, 501 and 505; what an upstream did wrong is always 502.
    pub fn status(&self) -> u16 {
        match self {
            HeadError::Response(_) => 502,
            HeadError::Request(fault) => match fault {
                Fault::TargetTooLong => 414,
                Fault::Expectation => 417,
                Fault::TooLarge | Fault::TooManyFields => 431,
                Fault::UnknownCoding => 501,
                Fault::Version => 505,
                _ => 400,
            },
        }
    }

    /// The head has more bytes or fields than its limits allow.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        let (Self::Request(fault) | Self::Response(fault)) = self;
        matches!(fault, Fault::TooLarge | Fault::TooManyFields | Fault::TargetTooLong)
    }

    /// A short reason, for logs.
    pub fn reason(&self) -> &'static str {
        let (HeadError::Request(fault) | HeadError::Response(fault)) = self;
        match fault {
            Fault::StartLine if matches!(self, HeadError::Response(_)) => {
                "does not begin with an HTTP status line"
            }
            Fault::StartLine => "malformed start line",
            Fault::LeadingLines => "unexpected empty line before the head",
            Fault::LineEnd => "line does not end in CRLF",
            Fault::FieldName => "malformed field name",
            Fault::FieldValue => "control byte in a field value",
            Fault::Version => "HTTP version not supported",
            Fault::TooLarge => "head too large",
            Fault::TargetTooLong => "request target too long",
            Fault::TooManyFields => "too many fields",
            Fault::Target => "malformed request target",
            Fault::NoHost => "no Host field",
            Fault::RepeatedHost => "more than one Host field",
            Fault::Host => "invalid host",
            Fault::LengthAndCoding => "both Content-Length and Transfer-Encoding",
            Fault::RepeatedLength => "more than one Content-Length",
            Fault::Length => "invalid Content-Length",
            Fault::Coding => "invalid Transfer-Encoding",
            Fault::UnknownCoding => "transfer coding not implemented",
            Fault::CodingInHttp10 => "Transfer-Encoding in HTTP/1.0",
            Fault::Expectation => "unknown expectation",
            Fault::Status => "invalid status code",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self {
            HeadError::Request(_) => "client request",
            HeadError::Response(_) => "upstream response",
        };
        write!(f, "{who}: {}", self.reason())
    }
}

impl std::error::Error for HeadError {}
