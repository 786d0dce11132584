//! Sending part of a file to a socket without copying it to user memory.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;

use crate::stream::Stream;

/// Bytes sent in one call at most: a file that is not in memory makes the call wait for the disk,
/// and the worker with it, so one turn is kept short.
pub const SENDFILE_MAX: usize = 256 * 1024;

/// Sends at most `max` bytes of `file` from `offset`, which moves on by what was sent. 0 for a `max`
/// above 0 means that the file ends here: it has become shorter than it was.
///
/// # Errors
/// What the kernel says about `to`, or an error of reading the file.
pub fn poll_sendfile(
    cx: &mut Context<'_>,
    to: &Stream,
    file: BorrowedFd<'_>,
    offset: &mut u64,
    max: usize,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(to.poll_write_ready(cx))?;
        let sent = to.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(to, file, Some(offset), max.min(SENDFILE_MAX))?)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}
