//! One direction of a tunnel.
//!
//! Why it exists beside [`Pump`](super::Pump): a tunnel's bytes have no framing and no end that is known
//! before, and what passes is often so short that to look for them costs a good part of passing it on.
//!
//! What always holds: bytes go out in the order in which they came; nothing is read as long as something is
//! to be written; a direction in which nothing moves holds neither a buffer nor a pipe.

use std::io;
use std::mem::MaybeUninit;
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

/// What comes is read onto the stack as long as it is shorter than this: to fetch a buffer and to give it back
/// would cost a good part of passing a short message on.
const SHORT: usize = 4096;
/// So many reads go into a buffer after one that was not short.
const READS_AFTER_LONGER: u8 = 16;

/// Passes bytes on until their source ends. Small, because each message touches it: what is seldom there is
/// elsewhere.
pub(super) struct Way {
    /// `None` unless there is something.
    in_hand: Option<Box<InHand>>,
    read: u64,
    written: u64,
    /// Bytes written that the source has not sent.
    own: u64,
    /// How many times in a row at least an ordinary buffer's worth came at once.
    long_reads: u32,
    /// How many of the next reads go into a buffer although they may be short.
    buffered_reads: u8,
    /// The sockets do not support it.
    no_splice: bool,
    /// The source has sent all.
    ended: bool,
    /// Nothing is in hand, and the task is going to be woken when more comes: nobody else reads the source.
    rests: bool,
}

/// What has come and is not written, and what it takes for that.
#[derive(Default)]
struct InHand {
    /// What goes first, and how much of it is written.
    lead: Vec<u8>,
    lead_written: usize,
    /// What was read and not taken.
    rest: Option<Buffer>,
    /// The pipe, while bytes go through one.
    splice: Option<Splice>,
}

impl Way {
    /// One that begins with `lead` of our own, and what has come from the source already.
    pub(super) fn new(mut lead: Vec<u8>, early: &[u8]) -> Self {
        let own = lead.len() as u64;
        lead.extend_from_slice(early);
        // Its memory may stay for as long as the tunnel does, where nothing is taken.
        lead.shrink_to_fit();
        let in_hand = (!lead.is_empty()).then(|| Box::new(InHand { lead, ..InHand::default() }));
        Self {
            in_hand,
            read: early.len() as u64,
            written: 0,
            own,
            long_reads: 0,
            buffered_reads: 0,
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
                Some(sockets) if self.long_reads == 0 && self.buffered_reads == 0 => {
                    self.poll_pass_short(cx, context, sockets, std::mem::take(&mut came))
                }
                _ => self.poll_pass(cx, context, (from, to), sockets),
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
        self.in_hand = None;
    }

    fn wants_splice(&self) -> bool {
        self.long_reads >= LONG_READS_TO_SPLICE && !self.no_splice
    }

    /// Writes what is in hand.
    fn poll_write(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Poll<io::Result<()>> {
        match &mut self.in_hand {
            Some(in_hand) => in_hand.poll_write(cx, to, &mut self.written),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Reads once onto the stack, and writes at once what is taken of it. If something `came` it need not ask
    /// whether.
    fn poll_pass_short(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        (from, to): (&Stream, &Stream),
        mut came: bool,
    ) -> Poll<Result<(), PumpError>> {
        self.in_hand = None;
        let mut room = [const { MaybeUninit::uninit() }; SHORT];
        let bytes = loop {
            if !std::mem::take(&mut came) {
                ready!(from.poll_read_ready(cx)).map_err(source)?;
            }
            match from.try_read_uninit(&mut room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read.map_err(source)?,
            }
        };
        if bytes.len() == SHORT {
            self.buffered_reads = READS_AFTER_LONGER;
        }
        self.has_read(bytes.len());
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let written = self.has_passed(to.try_write(bytes))?;
        if let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let mut buffer = context.buffers.get();
            buffer.append(rest);
            self.in_hand = Some(InHand::rest(buffer));
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once into a buffer, and writes at once what is taken of it.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        (from, to): (&Carrier, &Carrier),
        sockets: Option<(&Stream, &Stream)>,
    ) -> Poll<Result<(), PumpError>> {
        self.in_hand = None;
        loop {
            ready!(from.poll_read_ready(cx)).map_err(source)?;
            let mut buffer = match self.long_reads {
                0 => context.buffers.get(),
                _ => context.buffers.get_bulk(),
            };
            let count = match from.try_read(buffer.spare_mut()) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(source(error))),
            };
            self.has_read(count);
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let long = count == buffer.capacity() || count >= BUFFER_SIZE;
            self.long_reads = if long { self.long_reads.saturating_add(1) } else { 0 };
            self.buffered_reads = match count > SHORT {
                true => READS_AFTER_LONGER,
                false => self.buffered_reads.saturating_sub(1),
            };
            buffer.advance(count);
            // What finds no room waits for it after this.
            let written = match sockets {
                Some((_, to)) => to.try_write(&buffer),
                None => match to.poll_write(cx, &buffer) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                },
            };
            buffer.consume(self.has_passed(written)?);
            if !buffer.is_empty() {
                self.in_hand = Some(InHand::rest(buffer));
            }
            return Poll::Ready(Ok(()));
        }
    }

    fn has_read(&mut self, count: usize) {
        self.read += count as u64;
        self.ended = count == 0;
    }

    /// How much was taken of what was to be written, perhaps nothing.
    fn has_passed(&mut self, written: io::Result<usize>) -> Result<usize, PumpError> {
        let count = match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            written => written.and_then(something).map_err(sink)?,
        };
        self.written += count as u64;
        Ok(count)
    }

    fn poll_fill_pipe(
        &mut self,
        cx: &mut Context<'_>,
        context: &WorkerContext,
        from: &Stream,
    ) -> Poll<Result<(), PumpError>> {
        let splice = &mut self.in_hand.get_or_insert_default().splice;
        let filled = context.pipes.poll_fill(splice, cx, from, PIPE_SIZE);
        if splice.is_none() {
            self.in_hand = None;
        }
        match ready!(filled) {
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

impl InHand {
    fn rest(buffer: Buffer) -> Box<Self> {
        Box::new(Self { rest: Some(buffer), ..Self::default() })
    }

    /// Writes all of it, and counts what is written.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &Carrier,
        written: &mut u64,
    ) -> Poll<io::Result<()>> {
        while let Some(lead @ [_, ..]) = self.lead.get(self.lead_written..) {
            let count = ready!(to.poll_write(cx, lead)).and_then(something)?;
            *written += count as u64;
            self.lead_written += count;
        }
        while let Some(rest) = &mut self.rest {
            let count = ready!(to.poll_write(cx, rest)).and_then(something)?;
            *written += count as u64;
            rest.consume(count);
            if rest.is_empty() {
                self.rest = None;
            }
        }
        if let Some(to) = to.plain() {
            while let Some(splice) = self.splice.as_mut().filter(|splice| splice.in_pipe() > 0) {
                *written += ready!(splice.poll_drain(cx, to))? as u64;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How much was written, which is never nothing.
fn something(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(count),
    }
}

fn source(error: io::Error) -> PumpError {
    PumpError::Source(Cause::of(&error))
}

fn sink(error: io::Error) -> PumpError {
    PumpError::Sink(Cause::of(&error))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use net::worker::runtime;

    use super::*;

    /// Polls it once, which is no error, and says whether something is in hand then.
    async fn step(way: &mut Way, context: &WorkerContext, ends: (&Carrier, &Carrier)) -> bool {
        poll_fn(|cx| {
            assert!(way.poll(cx, context, ends).is_pending());
            Poll::Ready(way.in_hand.is_some())
        })
        .await
    }

    /// Has `len` bytes said, and polls until nothing is in hand, of what a sink that hears only when there is
    /// need of it has heard.
    async fn pass(pieces: impl Iterator<Item = usize>) -> (Vec<u8>, Vec<u8>) {
        let context = WorkerContext::start(0);
        let (source, from) = Stream::pair().unwrap();
        let (to, sink) = Stream::pair().unwrap();
        let ends = (&Carrier::Socket(from), &Carrier::Socket(to));
        let mut way = Way::new(b"lead ".to_vec(), b"early ");
        let (mut said, mut heard) = (b"lead early ".to_vec(), Vec::new());
        let mut waited = 0;
        for (number, len) in pieces.enumerate() {
            let piece: Vec<u8> = (0..len).map(|at| (at * 7 + number) as u8).collect();
            said.extend_from_slice(&piece);
            let mut left = &piece[..];
            while !left.is_empty() {
                let count = poll_fn(|cx| source.poll_write(cx, left)).await.unwrap();
                left = &left[count..];
                tokio::task::yield_now().await;
                while step(&mut way, &context, ends).await {
                    waited += 1;
                    let mut room = [0; 1 << 16];
                    let count = poll_fn(|cx| sink.poll_read(cx, &mut room)).await.unwrap();
                    heard.extend_from_slice(&room[..count]);
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(waited > 0, "the sink was never full");
        assert!(way.in_hand.is_none());
        assert_eq!(way.progress(), 2 * said.len() as u64 - 5);
        assert_eq!(way.payload(), said.len() as u64 - 5);
        while heard.len() < said.len() {
            let mut room = [0; 1 << 16];
            let count = poll_fn(|cx| sink.poll_read(cx, &mut room)).await.unwrap();
            heard.extend_from_slice(&room[..count]);
        }
        (said, heard)
    }

    #[test]
    fn short_messages_that_find_no_room_arrive_in_order() {
        let (said, heard) = runtime().unwrap().block_on(pass((0..2000).map(|_| 1000)));
        assert!(said == heard);
    }

    #[test]
    fn messages_of_every_length_arrive_in_order() {
        let lengths = [1, SHORT - 1, SHORT, SHORT + 1, BUFFER_SIZE, 100_000, 3];
        let all = (0..20).flat_map(move |_| lengths);
        let (said, heard) = runtime().unwrap().block_on(pass(all));
        assert!(said == heard);
    }
}
