//! One direction of a tunnel.
//!
//! Why it exists beside [`Pump`](super::Pump): a tunnel's bytes have no framing and no end that is known
//! before, and what passes is often so short that to look for them costs a good part of passing it on.
//!
//! What always holds: bytes go out in the order in which they came; nothing is read as long as something is
//! to be written; a direction in which nothing moves holds neither a buffer nor a pipe.

use std::io;
use std::task::{Context, Poll, ready};

use net::buffer::{BUFFER_SIZE, Buffer};
use net::splice::{PIPE_SIZE, SPLICE_AGAIN, Splice, Unfilled};
use net::stream::Stream;
use net::worker::WorkerContext;
use tokio::task::coop::has_budget_remaining;

use super::PumpError;
use super::pump::LONG_READS_TO_SPLICE;
use crate::carrier::Carrier;
use crate::log::Cause;

/// Passes bytes on until their source ends.
pub(super) struct Way {
    /// What goes first, and how much of it is written.
    lead: Vec<u8>,
    lead_written: usize,
    /// What was read and not taken.
    rest: Option<Buffer>,
    /// The pipe, while bytes go through one.
    splice: Option<Splice>,
    read: u64,
    written: u64,
    /// Bytes of the lead that the source has not sent.
    own: u64,
    /// How many times in a row at least an ordinary buffer's worth came at once.
    long_reads: u32,
    /// The sockets do not support it.
    no_splice: bool,
    /// The source has sent all.
    ended: bool,
    /// Nothing is in hand, and the task is going to be woken when more comes: nobody else reads the source.
    rests: bool,
}

impl Way {
    /// One that begins with `lead` of our own, and what has come from the source already.
    pub(super) fn new(mut lead: Vec<u8>, early: &[u8]) -> Self {
        let own = lead.len() as u64;
        lead.extend_from_slice(early);
        // Its memory may stay for as long as the tunnel does, where nothing is taken.
        lead.shrink_to_fit();
        Self {
            lead,
            lead_written: 0,
            rest: None,
            splice: None,
            read: early.len() as u64,
            written: 0,
            own,
            long_reads: 0,
            no_splice: false,
            ended: false,
            rests: false,
        }
    }

    /// Moves what can be moved, by buffers and pipes of `context`. Ready when the source has sent all and
    /// it is written.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        (from, to): (&Carrier, &Carrier),
    ) -> Poll<Result<(), PumpError>> {
        let sockets = from.plain().zip(to.plain());
        let mut came = false;
        if let (true, Some((from, _))) = (self.rests, sockets) {
            came = from.is_read_ready();
            if !came {
                return Poll::Pending;
            }
        }
        loop {
            ready!(self.poll_write(cx, to)).map_err(sink)?;
            if self.ended {
                return to.poll_finish(cx, &[]).map_err(sink);
            }
            let passed = match sockets {
                Some((from, _)) if self.wants_splice() => self.poll_fill_pipe(cx, context, from),
                _ => {
                    let came = std::mem::take(&mut came);
                    self.poll_pass(cx, context, (from, to), (sockets, came))
                }
            };
            // Without budget it was not asked whether something is there.
            self.rests = passed.is_pending() && has_budget_remaining();
            ready!(passed)?;
        }
    }

    /// Bytes of the source that have been passed on.
    pub(super) fn payload(&self) -> u64 {
        self.written.saturating_sub(self.own)
    }

    /// Grows with every byte read or written.
    pub(super) fn progress(&self) -> u64 {
        self.read + self.written
    }

    /// The sink takes nothing more: what was for it is dropped.
    pub(super) fn give_up(&mut self) {
        self.drop_lead();
        self.rest = None;
        self.splice = None;
    }

    fn drop_lead(&mut self) {
        self.lead = Vec::new();
        self.lead_written = 0;
    }

    fn wants_splice(&self) -> bool {
        self.long_reads >= LONG_READS_TO_SPLICE && !self.no_splice
    }

    /// Writes what is in hand.
    fn poll_write(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Poll<io::Result<()>> {
        while let Some(lead @ [_, ..]) = self.lead.get(self.lead_written..) {
            let written = ready!(to.poll_write(cx, lead))?;
            self.has_written(written)?;
            self.lead_written += written;
            if self.lead_written >= self.lead.len() {
                self.drop_lead();
            }
        }
        while let Some(rest) = &self.rest {
            let written = ready!(to.poll_write(cx, rest))?;
            self.has_written(written)?;
            self.rest = self.rest.take().and_then(|rest| left(rest, written));
        }
        if let Some(to) = to.plain() {
            while let Some(splice) = self.splice.as_mut().filter(|splice| splice.in_pipe() > 0) {
                self.written += ready!(splice.poll_drain(cx, to))? as u64;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn has_written(&mut self, count: usize) -> io::Result<()> {
        self.written += count as u64;
        match count {
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }

    /// Reads once, and writes at once what is taken of it. Where something `came` it need not ask whether.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        (from, to): (&Carrier, &Carrier),
        (sockets, mut came): (Option<(&Stream, &Stream)>, bool),
    ) -> Poll<Result<(), PumpError>> {
        self.splice = None;
        loop {
            if !std::mem::take(&mut came) {
                ready!(from.poll_read_ready(cx)).map_err(source)?;
            }
            let mut buffer = match self.long_reads {
                0 => context.buffers.get(),
                _ => context.buffers.get_bulk(),
            };
            let count = match from.try_read(buffer.spare_mut()) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(source(error))),
            };
            if count == 0 {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            let long = count == buffer.capacity() || count >= BUFFER_SIZE;
            self.long_reads = if long { self.long_reads.saturating_add(1) } else { 0 };
            self.read += count as u64;
            buffer.advance(count);
            // Each read but the first spends of the task's budget; what finds no room waits for it after this.
            let written = match sockets {
                Some((_, to)) => match to.try_write(&buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                    written => Poll::Ready(written),
                },
                None => to.poll_write(cx, &buffer),
            };
            self.rest = match written {
                Poll::Pending => Some(buffer),
                Poll::Ready(written) => {
                    let written = written.map_err(sink)?;
                    self.has_written(written).map_err(sink)?;
                    left(buffer, written)
                }
            };
            return Poll::Ready(Ok(()));
        }
    }

    fn poll_fill_pipe(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        from: &Stream,
    ) -> Poll<Result<(), PumpError>> {
        match ready!(context.pipes.poll_fill(&mut self.splice, cx, from, PIPE_SIZE)) {
            Ok(0) => self.ended = true,
            Ok(moved) => {
                self.read += moved as u64;
                if moved < SPLICE_AGAIN {
                    self.long_reads = 0;
                }
            }
            // Perhaps there is one when some more has passed; a tunnel may last for days.
            Err(Unfilled::NoPipe) => self.long_reads = 0,
            Err(Unfilled::Unfit) => self.no_splice = true,
            Err(Unfilled::Broken(error)) => return Poll::Ready(Err(source(error))),
        }
        Poll::Ready(Ok(()))
    }
}

/// The buffer without the bytes that were written, if some are left.
fn left(mut buffer: Buffer, written: usize) -> Option<Buffer> {
    buffer.consume(written);
    (!buffer.is_empty()).then_some(buffer)
}

fn source(error: io::Error) -> PumpError {
    PumpError::Source(Cause::of(&error))
}

fn sink(error: io::Error) -> PumpError {
    PumpError::Sink(Cause::of(&error))
}
