//! Request and response heads: from bytes to an index over those bytes.
//!
//! This is where everything a peer says about a message is judged, once: [`RequestHead::parse`] and
//! [`ResponseHead::parse`] find the lines, refuse what is ambiguous, and take the one decision on
//! where the body ends ([`Framing`]). The rest of Ravelin asks the head and never reads framing
//! fields itself.
//!
//! What always holds for a head that was accepted: every line ends in CRLF, names are tokens, values
//! hold no control bytes, there is at most one `Host`, `Content-Length`, `Transfer-Encoding` and
//! `Expect`, all spans lie within the first [`RequestHead::len`] bytes. After an error or
//! [`Parse::Partial`] the head's contents mean nothing.
//!
//! - `request`, `response`: the two parsers
//! - `index`: lines to fields, and the strictness that `httparse` leaves to its caller
//! - `framing`: the message-length decision
//! - `connection`: persistence, `Connection` options, upgrades
//! - `error`: what can be wrong with a head, and who is to blame

mod connection;
mod error;
mod framing;
mod index;
mod request;
mod response;

pub use connection::Upgrade;
pub use error::{Fault, HeadError};
pub use framing::Framing;
pub use request::RequestHead;
pub use response::ResponseHead;

/// Default bound on a head, in bytes, leading empty line included. Ample for cookies of several
/// applications on one domain; nginx takes 32 KiB as well (4 x 8 KiB).
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Default bound on the number of fields of a head. hyper and Apache httpd take 100 as well.
pub const FIELDS_MAX: usize = 100;

/// Upper bound on what [`HeadLimits::bytes`] may ask for, in bytes: spans are 16 bits wide.
pub const HEAD_BYTES_CEILING: usize = u16::MAX as usize;

/// Upper bound on what [`HeadLimits::fields`] may ask for: parsing keeps 32 bytes a field on the
/// stack.
pub const FIELDS_CEILING: usize = 256;

/// Bounds on a head. Larger values than the ceilings are cut to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the start of the buffer to the end of the head's empty line.
    pub bytes: usize,
    /// Number of fields.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits { bytes: HEAD_BYTES_MAX, fields: FIELDS_MAX }
    }
}

/// The versions of HTTP. A head in this syntax has one of the first two; it has another if it was
/// made from a message of that version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

/// Whether a head was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse {
    /// The whole head was in the buffer.
    Complete,
    /// Nothing wrong so far; more bytes are needed.
    Partial,
}
