//! File descriptors as a resource: raising the limit, and what to do when there are none left.
//!
//! Why it exists: each proxied connection takes two descriptors, the usual soft limit is 1024, and a
//! full table makes `accept` fail without taking the connection off the queue, so that a careless
//! loop spins.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::accept::accept;

/// Raises the soft limit on open descriptors to the hard one. Call once, before workers start.
/// Returns the limit that holds then; `None` is no limit.
///
/// # Errors
/// The kernel refuses; the limit is as it was.
pub fn raise_limit() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.maximum)
}

/// A descriptor kept open so that, when there is no other, one connection can be taken off the
/// queue and closed: its client learns at once instead of waiting for nothing.
pub(crate) struct Reserve {
    file: Option<File>,
}

impl Reserve {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { file: Some(open()?) })
    }

    /// Closes the oldest waiting connection of `listener`. Says whether there was a way to.
    pub(crate) fn shed(&mut self, listener: BorrowedFd<'_>) -> bool {
        self.file = None;
        let shed = accept(listener).is_ok();
        self.file = open().ok(); // another thread may have taken the number; next time, then
        shed
    }
}

fn open() -> io::Result<File> {
    File::open("/dev/null")
}
