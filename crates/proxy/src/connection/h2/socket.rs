//! The socket of an HTTP/2 connection, as h2 wants to see it.
//!
//! Small frames are gathered and leave in one write when h2 and all streams had their turn; large
//! ones go straight to the socket. What comes in passes the [`Meter`].
//!
//! What always holds: bytes leave in the order h2 wrote them; after a write that had to wait, the
//! next one begins with the same bytes, as the socket demands (h2 only ever appends to what it could
//! not write); while nothing moves no buffer is held.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use net::buffer::{Buffer, Pool};
use net::stream::Stream;
use net::timer::Tick;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::carrier::http2_server::Share;

/// A write of up to so many bytes is copied and waits for others; for a longer one a system call of
/// its own costs less than the copy.
const GATHER_MAX: usize = 4 * 1024;
/// Slices of one write: h2 passes a frame's header and its payload.
const SLICES_MAX: usize = 4;

/// A socket and what is between it and h2.
pub(super) struct Socket {
    stream: Rc<Stream>,
    share: Rc<Share>,
    buffers: Pool,
    meter: RefCell<Meter>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Read and not passed on yet.
    input: Option<Buffer>,
    /// Gathered and not written yet.
    output: Option<Buffer>,
    /// The last write, of gathered bytes and others of h2's, had to wait: it has to be repeated
    /// before anything else is written.
    direct: bool,
    /// Since when the socket has not taken what was gathered.
    blocked: Option<Tick>,
}

impl Socket {
    /// On `stream`, by a connection that shares `share`.
    pub(super) fn new(stream: Rc<Stream>, share: Rc<Share>, buffers: Pool) -> Rc<Self> {
        Rc::new(Self {
            stream,
            share,
            buffers,
            meter: RefCell::new(Meter::new(Tick::now())),
            state: RefCell::default(),
        })
    }

    /// What the client's frames cost so far.
    pub(super) fn meter(&self) -> std::cell::RefMut<'_, Meter> {
        self.meter.borrow_mut()
    }

    /// Since when the client does not take what is there for it.
    pub(super) fn blocked_since(&self) -> Option<Tick> {
        self.state.borrow().blocked
    }

    /// Begins to measure anew: the client has taken enough.
    pub(super) fn excuse(&self) {
        let mut state = self.state.borrow_mut();
        if state.blocked.is_some() {
            state.blocked = Some(Tick::now());
        }
    }

    /// Writes what was gathered.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        if state.direct {
            return Poll::Pending; // h2 has been refused, and its next write is the one that is due
        }
        let written = self.poll_write_out(cx, state);
        note_blocked(state, written.is_pending());
        written
    }

    /// Reads some bytes and drops them; says how many. 0 when the client sends nothing more.
    pub(super) fn poll_drop_input(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = self.buffers.get();
        self.stream.poll_read(cx, buffer.spare_mut())
    }

    fn poll_write_out(&self, cx: &mut Context<'_>, state: &mut State) -> Poll<io::Result<()>> {
        while let Some(output) = state.output.as_mut().filter(|output| !output.is_empty()) {
            let count = ready!(self.stream.poll_write(cx, output.filled()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.share.wrote(count);
            output.consume(count);
        }
        state.output = None;
        Poll::Ready(Ok(()))
    }

    /// Writes `slices` behind what was gathered, without gathering them.
    fn poll_write_direct(
        &self,
        cx: &mut Context<'_>,
        state: &mut State,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let gathered = state.output.as_ref().map_or(&[][..], |output| output.filled());
            let mut all = [IoSlice::new(gathered); SLICES_MAX + 1];
            let mut count = 1;
            for (to, from) in all.iter_mut().skip(1).zip(slices) {
                *to = IoSlice::new(from);
                count += 1;
            }
            let first = usize::from(gathered.is_empty());
            let all = all.get(first..count).unwrap_or_default();
            let Poll::Ready(written) = self.stream.poll_write_vectored(cx, all)? else {
                state.direct = true;
                note_blocked(state, true);
                return Poll::Pending;
            };
            self.share.wrote(written);
            let of_gathered = gathered.len().min(written);
            if let Some(output) = &mut state.output {
                output.consume(of_gathered);
            }
            state.direct = false;
            if written == 0 || written > of_gathered {
                state.output = None;
                state.blocked = None;
                return Poll::Ready(Ok(written - of_gathered));
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if state.direct || total > GATHER_MAX {
            return self.poll_write_direct(cx, state, slices);
        }
        let room = |state: &mut State| state.output.as_mut().map(|o| o.spare_mut().len());
        if room(state).is_some_and(|room| room < total) {
            let written = self.poll_write_out(cx, state);
            note_blocked(state, written.is_pending());
            ready!(written)?;
        }
        let output = state.output.get_or_insert_with(|| self.buffers.get());
        slices.iter().for_each(|slice| _ = output.append(slice));
        Poll::Ready(Ok(total))
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.meter.borrow().verdict().is_some() {
            return Poll::Pending; // whoever polls looks at the verdict next
        }
        let state = &mut *self.state.borrow_mut();
        while state.input.as_ref().is_none_or(|input| input.is_empty()) {
            state.input = None;
            ready!(self.stream.poll_read_ready(cx))?;
            let mut input = self.buffers.get();
            match self.stream.try_read(input.spare_mut()) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => {
                    input.advance(count);
                    state.input = Some(input);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let Some(input) = &mut state.input else { return Poll::Pending };
        let count = input.len().min(buf.remaining());
        let bytes = input.filled().get(..count).unwrap_or_default();
        let mut meter = self.meter.borrow_mut();
        let (worth, answered) = self.share.take_earnings();
        meter.earn(worth, answered);
        meter.pass(bytes, Tick::now());
        if meter.verdict().is_some() {
            return Poll::Pending;
        }
        let (stream, received) = meter.arriving();
        self.share.set_arriving(stream, received);
        buf.put_slice(bytes);
        input.consume(count);
        if input.is_empty() {
            state.input = None;
        }
        Poll::Ready(Ok(()))
    }
}

fn note_blocked(state: &mut State, is_blocked: bool) {
    match is_blocked {
        true => _ = state.blocked.get_or_insert_with(Tick::now),
        false => state.blocked = None,
    }
}

/// What h2 holds.
pub(super) struct Io(pub(super) Rc<Socket>);

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Slices that are left out are written next.
        self.0.poll_write(cx, slices.get(..SLICES_MAX).unwrap_or(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: what is gathered leaves when the connection has nothing more to do.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_flush(cx))?;
        match self.0.stream.shutdown_write() {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
