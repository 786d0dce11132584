//! A body at rest, as a carrier: what is written to it waits in a [`Spool`] until it is read.
//!
//! So the pumps that move bodies between connections move them in and out of memory and files as
//! well, with all codings, limits and trailers, and exist once.
//!
//! What always holds: the end of the body is read only if it was written ([`SpooledBody::finish`]);
//! one task writes and reads, so nothing here wakes anybody.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use config::model::Buffering;

use super::{Reading, Spool, SpoolError};
use crate::worker::Worker;

/// Bytes that are written before other tasks have a turn (1 MiB): some hundred microseconds when
/// they go to a file.
const TURN_BYTES: usize = 1024 * 1024;

/// A body that was not passed on yet.
pub struct SpooledBody {
    state: RefCell<State>,
}

struct State {
    spool: Spool,
    reading: Reading,
    /// What was read can be read again.
    keeps: bool,
    /// How the body ended, once it has.
    end: Option<Result<(), io::ErrorKind>>,
    trailers: Vec<u8>,
    /// What went wrong with the temporary file.
    fault: Option<SpoolError>,
    /// Bytes written since others had a turn.
    turn: usize,
}

impl SpooledBody {
    /// A body that is kept to be read several times. More than there is room for is an error.
    pub fn kept(settings: &Arc<Buffering>, worker: &Worker) -> Self {
        Self::new(Arc::clone(settings), worker, true)
    }

    /// A body that is forgotten as it is read, and takes no more while it is full. When its file
    /// fails it goes on without.
    pub fn passing(settings: &Arc<Buffering>, worker: &Worker) -> Self {
        Self::new(Arc::clone(settings), worker, false)
    }

    fn new(settings: Arc<Buffering>, worker: &Worker, keeps: bool) -> Self {
        let buffers = worker.context.buffers.clone();
        let spool = Spool::new(settings, buffers, Rc::clone(&worker.spools));
        let state = State {
            spool,
            reading: Reading::default(),
            keeps,
            end: None,
            trailers: Vec::new(),
            fault: None,
            turn: 0,
        };
        Self { state: RefCell::new(state) }
    }

    /// Bytes it holds.
    pub fn len(&self) -> u64 {
        self.state.borrow().spool.len()
    }

    /// It holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next read begins at the front again.
    pub fn rewind(&self) {
        let mut state = self.state.borrow_mut();
        debug_assert!(state.keeps);
        state.reading = Reading::default();
    }

    /// What is written is the end of the body.
    pub fn finish(&self, trailers: &[u8]) {
        let mut state = self.state.borrow_mut();
        state.trailers.clear();
        state.trailers.extend_from_slice(trailers);
        state.end = Some(Ok(()));
    }

    /// What is written breaks off: after it a read gives this error.
    pub fn fail(&self, kind: io::ErrorKind) {
        self.state.borrow_mut().end = Some(Err(kind));
    }

    /// What went wrong with the temporary file, told once.
    pub fn take_fault(&self) -> Option<SpoolError> {
        self.state.borrow_mut().fault.take()
    }

    /// Ready when there are bytes, or the body has ended.
    ///
    /// # Errors
    /// None.
    pub fn poll_read_ready(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.state.borrow();
        match state.end.is_some() || state.spool.has_more(&state.reading) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Reads into `buf`, which must not be empty. 0 at the end of the body.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing yet; how the body broke off; that the
    /// temporary file cannot be read.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        match state.spool.read(&mut state.reading, buf) {
            Ok(0) => match state.end {
                None => Err(io::ErrorKind::WouldBlock.into()),
                Some(Ok(())) => Ok(0),
                Some(Err(kind)) => Err(kind.into()),
            },
            Ok(count) => {
                if !state.keeps {
                    state.spool.forget(&mut state.reading);
                }
                Ok(count)
            }
            Err(error) => Err(state.fault(error)),
        }
    }

    /// 1 if there are bytes, 0 if the body has ended.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when neither is so.
    pub fn try_peek(&self) -> io::Result<usize> {
        let state = self.state.borrow();
        match (state.spool.has_more(&state.reading), state.end) {
            (true, _) => Ok(1),
            (false, Some(_)) => Ok(0),
            (false, None) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Adds some of `bytes`.
    ///
    /// # Errors
    /// For a body that is kept: the temporary file failed, or there is no room left.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        if state.turn >= TURN_BYTES {
            state.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let added = match state.spool.add(bytes) {
            Err(error) if !state.keeps => {
                state.fault = Some(error);
                state.spool.give_up_file();
                state.spool.add(bytes)
            }
            added => added,
        };
        match added {
            Ok(0) if !bytes.is_empty() => match state.keeps {
                true => Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into())),
                false => Poll::Pending,
            },
            Ok(count) => {
                state.turn += count;
                Poll::Ready(Ok(count))
            }
            Err(error) => Poll::Ready(Err(state.fault(error))),
        }
    }

    /// As [`SpooledBody::poll_write`].
    ///
    /// # Errors
    /// As [`SpooledBody::poll_write`].
    pub fn poll_write_more(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes)
    }

    /// Adds some of the first of `slices` that is not empty.
    ///
    /// # Errors
    /// As [`SpooledBody::poll_write`].
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(cx, first.map_or(&[], |slice| slice))
    }

    /// The trailers that came with the end of the body, as "name: value\r\n" lines.
    pub fn trailers(&self) -> Vec<u8> {
        self.state.borrow().trailers.clone()
    }

    /// As [`SpooledBody::finish`], without trailers.
    ///
    /// # Errors
    /// None.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.finish(&[]);
        Ok(())
    }
}

impl State {
    /// Notes what went wrong, and puts it in the terms of a carrier.
    fn fault(&mut self, error: SpoolError) -> io::Error {
        self.fault = Some(error);
        io::ErrorKind::Other.into()
    }
}

impl fmt::Debug for SpooledBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.borrow().spool.fmt(f)
    }
}
