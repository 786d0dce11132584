//! What serving a file comes to: a status, field lines and a body that has not been read yet.

use std::fs::File;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// A response without its connection-level fields: `Date`, `Server`, `Connection` and
/// `Content-Length` are the sender's.
///
/// For `HEAD` the answer is the one for `GET`: the sender uses the body's length only. A status of
/// 400 and above with [`Body::Empty`] leaves the page to the sender.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Complete field lines, each ending in CRLF.
    pub fields: Fields,
    /// The content.
    pub body: Body,
}

impl Answer {
    /// An error whose page is left to the sender.
    pub fn error(status: u16) -> Self {
        Self::empty(status, Vec::new())
    }

    /// The same with these field lines instead of its own.
    #[must_use]
    pub fn with_fields(mut self, lines: Vec<u8>) -> Self {
        self.fields = Fields::Owned(lines);
        self
    }

    /// The same with the fields of `other` before its own.
    #[must_use]
    pub fn with_fields_of(mut self, other: Self) -> Self {
        if !other.fields.is_empty() {
            self.fields = Fields::Owned([&other.fields[..], &self.fields[..]].concat());
        }
        self
    }

    /// An answer without content.
    pub(super) fn empty(status: u16, fields: Vec<u8>) -> Self {
        Self { status, fields: Fields::Owned(fields), body: Body::Empty }
    }
}

/// Field lines: made once and shared where they are the same for everyone, so that a hot answer
/// formats and allocates nothing.
#[derive(Debug)]
pub enum Fields {
    /// Those of a cached representation.
    Shared(Rc<[u8]>),
    /// Made for this answer.
    Owned(Vec<u8>),
}

impl Deref for Fields {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Fields::Shared(lines) => lines,
            Fields::Owned(lines) => lines,
        }
    }
}

/// The content of an [`Answer`].
///
/// A file may have become shorter since it was looked at: a sender that meets its end early breaks
/// the connection, because the announced length can no longer be kept.
#[derive(Debug)]
pub enum Body {
    /// None. For 304 and 301 there is none; for 400 and above the sender has one of its own.
    Empty,
    /// Octets in memory, shared with the cache.
    Memory {
        /// The whole representation.
        bytes: Rc<[u8]>,
        /// What of it is the content.
        range: Range<usize>,
    },
    /// Octets of a file.
    File {
        /// Open for reading; its file position is shared and must not be used.
        file: Rc<File>,
        /// Offset of the first octet.
        start: u64,
        /// Octets.
        len: u64,
    },
    /// `multipart/byteranges`: one after the other.
    Parts(Vec<Part>),
}

impl Body {
    /// Octets of content: the value of `Content-Length`.
    pub fn len(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::Memory { range, .. } => range.len() as u64,
            Body::File { len, .. } => *len,
            Body::Parts(parts) => parts.iter().map(Part::len).sum(),
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A piece of a multipart body.
#[derive(Debug)]
pub enum Part {
    /// As [`Body::Memory`].
    Memory {
        /// What the range is of.
        bytes: Rc<[u8]>,
        /// What of it is sent.
        range: Range<usize>,
    },
    /// As [`Body::File`].
    File {
        /// Open for reading; its file position is shared and must not be used.
        file: Rc<File>,
        /// Offset of the first octet.
        start: u64,
        /// Octets.
        len: u64,
    },
}

impl Part {
    /// Octets of this piece.
    pub fn len(&self) -> u64 {
        match self {
            Part::Memory { range, .. } => range.len() as u64,
            Part::File { len, .. } => *len,
        }
    }

    /// Whether the piece has no octets.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A piece of text made for this answer, such as the head of a part.
    pub(super) fn text(text: Vec<u8>) -> Self {
        let range = 0..text.len();
        Part::Memory { bytes: text.into(), range }
    }
}

impl From<Part> for Body {
    fn from(part: Part) -> Self {
        match part {
            Part::Memory { bytes, range } => Body::Memory { bytes, range },
            Part::File { file, start, len } => Body::File { file, start, len },
        }
    }
}
