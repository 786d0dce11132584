//! A file that was loaded: its content or an open descriptor, and the field lines about it.
//!
//! A [`Representation`] never changes. Its lines are laid out so that every answer is a slice of
//! them or a slice and one line more:
//!
//! ```text
//! Content-Type, Content-Encoding | ETag, Last-Modified, Cache-Control, Vary | Accept-Ranges
//! `- about the content             `- about the resource: all a 304 has
//! ```

use super::answer::{Answer, Body, Fields, Part};
use super::conditional::Validators;
use super::media_type;
use super::precompressed::{self, Coding};
use super::root::{Stamp, stamp_of};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use wire::range::ByteRange;

/// Content up to this many octets is kept in memory: one write with the head, no descriptor held.
/// Above it `sendfile` is cheaper than the memory is worth.
pub(super) const MEMORY_MAX: u64 = 64 * 1024;

/// Readings of a file that changes while it is read.
const READ_ATTEMPTS: u32 = 3;

/// What a site wants said about its files.
#[derive(Debug)]
pub(super) struct Sayings {
    pub(super) etag: bool,
    pub(super) last_modified: bool,
    /// A valid field value.
    pub(super) cache_control: Option<String>,
}

/// A file and its precompressed neighbours.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) identity: Representation,
    /// In the order of preference.
    pub(super) coded: Vec<(Coding, Representation)>,
}

impl Resource {
    /// The representation for a client; RFC 9110 §12.1.
    pub(super) fn select(&self, accept_encoding: Option<&[u8]>) -> &Representation {
        if self.coded.is_empty() {
            return &self.identity;
        }
        let coding =
            precompressed::choose(accept_encoding, self.coded.iter().map(|(coding, _)| *coding));
        let coded = self.coded.iter().find(|(offered, _)| Some(*offered) == coding);
        coded.map_or(&self.identity, |(_, representation)| representation)
    }

    /// Every representation there is.
    pub(super) fn representations(&self) -> impl Iterator<Item = &Representation> {
        let coded = self.coded.iter().map(|(_, representation)| representation);
        std::iter::once(&self.identity).chain(coded)
    }
}

/// Content with the fields that describe it.
#[derive(Debug)]
pub(super) struct Representation {
    /// Octets.
    pub(super) len: u64,
    content: Content,
    fields: Rc<[u8]>,
    /// Where in `fields` the lines about the content end, and those about the resource.
    ends: (usize, usize),
    not_modified: Rc<[u8]>,
    etag: Option<String>,
    modified: Option<SystemTime>,
}

/// Where the octets are.
#[derive(Debug)]
pub(super) enum Content {
    Memory(Rc<[u8]>),
    File(Rc<File>),
}

impl Representation {
    /// Describes content that [`read`] found at `path`. `varies` if the resource has
    /// representations in several codings, of which this one has `coding`.
    pub(super) fn new(
        (content, stamp): (Content, Stamp),
        path: &[u8],
        coding: Option<Coding>,
        varies: bool,
        sayings: &Sayings,
    ) -> Self {
        let etag = sayings.etag.then(|| entity_tag(&stamp, coding));
        let modified = sayings.last_modified.then(|| last_modified(&stamp));

        let mut lines = Vec::with_capacity(256);
        let (media_type, charset) = media_type::of(path);
        let mut value = media_type.to_owned();
        if let Some(charset) = charset {
            value.push_str("; charset=");
            value.push_str(charset);
        }
        push_line(&mut lines, "Content-Type", value.as_bytes());
        if let Some(coding) = coding {
            push_line(&mut lines, "Content-Encoding", coding.name().as_bytes());
        }
        let content_end = lines.len();
        if let Some(etag) = &etag {
            push_line(&mut lines, "ETag", etag.as_bytes());
        }
        if let Some(modified) = modified {
            push_line(&mut lines, "Last-Modified", &wire::date::http_date(modified));
        }
        if let Some(value) = &sayings.cache_control {
            push_line(&mut lines, "Cache-Control", value.as_bytes());
        }
        if varies {
            push_line(&mut lines, "Vary", b"Accept-Encoding");
        }
        let resource_end = lines.len();
        let not_modified = lines.get(content_end..).unwrap_or_default().into();
        push_line(&mut lines, "Accept-Ranges", b"bytes");

        let len = match &content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_) => stamp.size,
        };
        let ends = (content_end, resource_end);
        Self { len, content, fields: lines.into(), ends, not_modified, etag, modified }
    }

    /// 200 with everything.
    pub(super) fn whole(&self) -> Answer {
        let body = match &self.content {
            Content::Memory(bytes) => {
                Body::Memory { bytes: Rc::clone(bytes), range: 0..bytes.len() }
            }
            Content::File(file) => Body::File { file: Rc::clone(file), start: 0, len: self.len },
        };
        Answer { status: 200, fields: Fields::Shared(Rc::clone(&self.fields)), body }
    }

    /// 304 (RFC 9110 §15.4.5).
    pub(super) fn not_modified(&self) -> Answer {
        let fields = Fields::Shared(Rc::clone(&self.not_modified));
        Answer { status: 304, fields, body: Body::Empty }
    }

    /// The content under another status, described only as what it is: no validators, no ranges.
    pub(super) fn as_page(&self, status: u16) -> Answer {
        let fields = Fields::Owned(self.content_lines().to_vec());
        Answer { status, fields, ..self.whole() }
    }

    /// What the representation can be compared by.
    pub(super) fn validators(&self) -> Validators<'_> {
        Validators { etag: self.etag.as_deref().map(str::as_bytes), modified: self.modified }
    }

    /// `Content-Type` and `Content-Encoding`.
    pub(super) fn content_lines(&self) -> &[u8] {
        self.fields.get(..self.ends.0).unwrap_or_default()
    }

    /// All lines but those about the content.
    pub(super) fn resource_lines(&self) -> &[u8] {
        self.fields.get(self.ends.0..).unwrap_or_default()
    }

    /// All lines.
    pub(super) fn lines(&self) -> &[u8] {
        &self.fields
    }

    /// Some of the content. `range` lies within it.
    pub(super) fn piece(&self, range: ByteRange) -> Part {
        match &self.content {
            Content::Memory(bytes) => {
                let at = |offset: u64| {
                    usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()))
                };
                let range = at(range.first)..at(range.last.saturating_add(1));
                Part::Memory { bytes: Rc::clone(bytes), range }
            }
            Content::File(file) => {
                Part::File { file: Rc::clone(file), start: range.first, len: range.len() }
            }
        }
    }

    /// Octets of memory and descriptors that this costs while it is kept.
    pub(super) fn cost(&self) -> (usize, usize) {
        let lines = self.fields.len().saturating_add(self.not_modified.len());
        match &self.content {
            Content::Memory(bytes) => (lines.saturating_add(bytes.len()), 0),
            Content::File(_) => (lines, 1),
        }
    }
}

/// Reads what is small into memory, all of it in one state of the file: a file that was changed
/// meanwhile is read again. One that does not come to rest stays on disk, and its stamp is the
/// last one seen.
pub(super) fn read(file: File, mut stamp: Stamp) -> (Content, Stamp) {
    for _ in 0..READ_ATTEMPTS {
        let Some(mut bytes) = zeroed(stamp.size) else { break };
        let read = file.read_exact_at(&mut bytes, 0);
        let Ok(after) = stamp_of(&file) else { break };
        if read.is_ok() && after == stamp {
            return (Content::Memory(bytes.into()), stamp);
        }
        stamp = after;
    }
    (Content::File(Rc::new(file)), stamp)
}

fn zeroed(size: u64) -> Option<Vec<u8>> {
    if size > MEMORY_MAX { None } else { usize::try_from(size).ok().map(|size| vec![0; size]) }
}

/// Adds `name: value`.
pub(super) fn push_line(lines: &mut Vec<u8>, name: &str, value: &[u8]) {
    lines.extend_from_slice(name.as_bytes());
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

/// Strong as far as the file system's clock is: it changes with time of modification, size and
/// coding. The inode is left out, so that copies on several machines agree.
fn entity_tag(stamp: &Stamp, coding: Option<Coding>) -> String {
    let (seconds, nanoseconds) = stamp.modified;
    let modified = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let coding = coding.map_or("", Coding::extension).replace('.', "-");
    format!("\"{modified:x}-{:x}{coding}\"", stamp.size)
}

/// In whole seconds, and never in the future (RFC 9110 §8.8.2.1).
fn last_modified(stamp: &Stamp) -> SystemTime {
    let seconds = u64::try_from(stamp.modified.0).unwrap_or(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(now.as_secs()))
}
