//! Moving bytes from one socket to another through a pipe, without copying them to user memory.
//!
//! Why it exists: a long plain body costs half the CPU of reading and writing it, or less. A pipe is
//! two descriptors and two system calls to make, so each worker keeps drained ones.
//!
//! What always holds:
//! - **Only an empty pipe is filled.** `splice` from a socket into a pipe says `EAGAIN` both when
//!   the socket has nothing and when the pipe is full (which depends on how the bytes lie in pages,
//!   not on their number). Taking the second for the first would clear a readiness that epoll,
//!   edge-triggered, never reports again: a hang. An empty pipe always has room, so here `EAGAIN`
//!   means that the socket is empty. Nothing is lost by it: while the pipe drains, the kernel's
//!   receive buffer takes what comes.
//! - Likewise only a non-empty pipe is drained, so `EAGAIN` means that the target has no room.
//! - Readiness is cleared by `EAGAIN` alone, never because fewer bytes moved than asked.
//! - A pipe goes back to the pool only when it is empty; bytes of one connection can never reach
//!   another.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};
use tokio::io::Interest;

use crate::stream::Stream;

/// Bytes a pipe is asked to hold. In larger ones the first pages have left the processor's cache before the
/// last have come (measured with responses of 1 MiB: a pipe of 1 MiB costs 5 % more, one of 64 KiB 20 %).
/// Where the kernel refuses (a user's pipes are limited in all), the pipe stays as it was made.
pub const PIPE_SIZE: usize = 256 * 1024;
/// From so many bytes on a pipe costs less than a buffer: below, its two calls more outweigh the copies
/// that it saves. Measured with responses of 64 KiB, which cost a quarter less this way; a page takes
/// half as long as to copy it twice.
pub const SPLICE_WORTH: usize = 32 * 1024;
/// A pipe into which less than this came at once is given up for a buffer, where it is not known how
/// much is to come, or more than one message is.
pub const SPLICE_AGAIN: usize = 16 * 1024;
/// Pipes lent by one worker at once (256 descriptors, and 32 MiB of the kernel's pages where all are
/// full). When slow peers hold so many, others make do with buffers.
pub const LENT_PIPES_MAX: usize = 128;
/// What a pipe has to hold: the kernel makes them smaller where a user has many.
const USEFUL_SIZE: usize = 64 * 1024;
/// Drained pipes kept by one worker (two descriptors each).
pub const FREE_PIPES_MAX: usize = 32;

/// One worker's pipes. Clones share them.
#[derive(Clone, Default)]
pub struct PipePool {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    free: RefCell<Vec<Pipe>>,
    lent: Cell<usize>,
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// One direction between two sockets: fill the pipe from one, then drain it to the other.
pub struct Splice {
    pipe: Option<Pipe>,
    in_pipe: usize,
    shared: Rc<Shared>,
}

/// Why a pipe was not filled.
#[derive(Debug)]
pub enum Unfilled {
    /// No pipe is to be had now; a buffer does it too.
    NoPipe,
    /// The system does not move this socket's bytes into a pipe, now or later; or the pipe was not empty, or
    /// nothing was asked for.
    Unfit,
    /// What the kernel says about the connection.
    Broken(io::Error),
}

impl PipePool {
    /// A pool with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves at most `max` bytes from `from` into the pipe in `slot`: an empty one, or one that is put there. It
    /// is given back if nothing came: then it may serve somebody else. 0 means that the peer sends nothing
    /// more.
    ///
    /// # Errors
    /// Why nothing was filled.
    pub fn poll_fill(
        &self,
        slot: &mut Option<Splice>,
        cx: &mut Context<'_>,
        from: &Stream,
        max: usize,
    ) -> Poll<Result<usize, Unfilled>> {
        let splice = match slot {
            Some(splice) => splice,
            None => match self.get() {
                Ok(splice) => slot.insert(splice),
                Err(_) => return Poll::Ready(Err(Unfilled::NoPipe)),
            },
        };
        let filled = splice.poll_fill(cx, from, max);
        slot.take_if(|splice| splice.in_pipe == 0);
        filled.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Unfilled::Unfit,
            _ => Unfilled::Broken(error),
        })
    }

    /// An empty pipe for one direction.
    ///
    /// # Errors
    /// Too many are lent, no descriptor is left, or only a tiny pipe is to be had; copy through a
    /// buffer instead.
    pub fn get(&self) -> io::Result<Splice> {
        let Shared { free, lent } = &*self.shared;
        if lent.get() >= LENT_PIPES_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let free = free.borrow_mut().pop();
        let pipe = match free {
            Some(pipe) => pipe,
            None => Pipe::new()?,
        };
        lent.set(lent.get() + 1);
        Ok(Splice { pipe: Some(pipe), in_pipe: 0, shared: Rc::clone(&self.shared) })
    }
}

impl Splice {
    /// Bytes that left the source and have not reached the target.
    pub fn in_pipe(&self) -> usize {
        self.in_pipe
    }

    /// Moves at most `max` bytes from `from` into the pipe, which must be empty. 0 means that the
    /// peer sends nothing more.
    ///
    /// # Errors
    /// What the kernel says about `from`; [`io::ErrorKind::InvalidInput`] when the pipe is not
    /// empty or `max` is 0.
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.in_pipe == 0 && max > 0) else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &pipe.write, None, max.min(PIPE_SIZE), FLAGS)?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(moved) => {
                    self.in_pipe = moved;
                    return Poll::Ready(Ok(moved));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Moves bytes from the pipe, which must not be empty, to `to`. Call it until
    /// [`Splice::in_pipe`] is 0.
    ///
    /// # Errors
    /// What the kernel says about `to`; [`io::ErrorKind::InvalidInput`] when the pipe is empty.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Stream) -> Poll<io::Result<usize>> {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.in_pipe > 0) else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        loop {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&pipe.read, None, to, None, self.in_pipe, FLAGS)?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(moved) => {
                    self.in_pipe = self.in_pipe.saturating_sub(moved);
                    return Poll::Ready(Ok(moved));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

impl Drop for Splice {
    fn drop(&mut self) {
        let Shared { free, lent } = &*self.shared;
        lent.set(lent.get().saturating_sub(1));
        let mut free = free.borrow_mut();
        if self.in_pipe == 0 && free.len() < FREE_PIPES_MAX {
            free.extend(self.pipe.take());
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller pipe only means more calls, but one of two pages is worse than a buffer.
        if fcntl_setpipe_size(&write, PIPE_SIZE).is_err()
            && fcntl_getpipe_size(&write)? < USEFUL_SIZE
        {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Self { read, write })
    }
}
