//! One body from one carrier to another.
//!
//! A pump decodes where the body ends, and writes it on with the sink's coding. The head of the
//! message leaves in the same write as the first body bytes. It is a poll function, so that the two
//! directions of an exchange can be driven by one task.
//!
//! What always holds: body bytes are read into a buffer and written from it, not copied in between
//! (short bodies excepted); a pump that waits for its source with nothing in hand holds no buffer;
//! the sink sees the end of a body only if the source sent it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use net::buffer::{BUFFER_SIZE, Buffer};
use net::splice::{PIPE_SIZE, SPLICE_AGAIN, SPLICE_WORTH, Splice, Unfilled};
use net::stream::Stream;
use net::worker::WorkerContext;
use wire::body::{BodyDecoder, chunk_prefix};
use wire::head::Framing;

use super::kept::Kept;
use crate::carrier::Carrier;
use crate::filters::Edits;
use crate::log::Cause;

/// Pieces of one buffer that go out in one write; more chunks than that are rare in 16 KiB.
const SLICES_MAX: usize = 8;
/// Up to this many bytes of body are copied behind the head: a memcpy of this size costs less than
/// the second slice of a writev.
const COALESCE_MAX: usize = 2048;

/// A source of unknown length (a tunnel, a response that ends with its connection) goes through a pipe after
/// so many long reads in a row.
pub(super) const LONG_READS_TO_SPLICE: u32 = 2;

/// Moves one body.
pub struct Pump<'a> {
    decoder: BodyDecoder,
    /// The sink gets chunked coding.
    chunked: bool,
    /// The last chunk is written, or none is needed.
    ended: bool,
    /// Trailers that came otherwise than in the body's coding.
    trailers: Option<Vec<u8>>,
    /// What the head may not have, trailers may not bring.
    edits: Option<&'a Edits>,
    /// All is written but the end, which the sink marks itself.
    finishing: bool,
    /// Bytes read together with the head, not decoded yet.
    early: &'a [u8],
    /// Keeps what is read, and gives what an earlier pump has read.
    kept: Option<&'a Kept>,
    buffer: Option<Buffer>,
    /// Where buffers and pipes come from.
    context: &'a WorkerContext,
    /// The pipe, while bytes go through one.
    splice: Option<Splice>,
    /// The sink takes the body as the source codes it.
    raw: bool,
    /// No pipe is to be had, or the sockets do not support it.
    no_splice: bool,
    /// What is there behind the head goes into the pipe before the head is written.
    fills_ahead: bool,
    /// Bytes to write before the slices: a head, the size of a chunk, short bodies.
    lead: Vec<u8>,
    segment: Segment,
    payload: u64,
    /// Most payload that may be passed on.
    payload_max: u64,
    progress: u64,
    has_read: bool,
    has_written: bool,
    /// How many times in a row at least an ordinary buffer's worth came at once.
    long_reads: u32,
}

/// A place in the input, which is no longer than a buffer.
#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    start: u32,
    len: u32,
}

impl Slice {
    fn of(self, input: &[u8]) -> &[u8] {
        let start = self.start as usize;
        input.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// What is being written after the lead.
#[derive(Debug, Default)]
struct Segment {
    /// Places in the input.
    slices: [Slice; SLICES_MAX],
    count: usize,
    tail: &'static [u8],
    /// Input bytes that these slices use up.
    consumed: usize,
    /// Bytes of lead, slices and tail already written.
    written: usize,
}

/// Why a body did not arrive whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PumpError {
    /// The sender is at fault.
    Source(Cause),
    /// The receiver is.
    Sink(Cause),
}

/// Who a pump that is pending waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// More to come.
    OnSource,
    /// Room to write.
    OnSink,
}

impl<'a> Pump<'a> {
    /// A pump for a body of `framing` that writes `lead` first. `early` are the bytes that were read
    /// behind the message's head.
    pub fn new(
        framing: Framing,
        chunked: bool,
        lead: Vec<u8>,
        early: &'a [u8],
        context: &'a WorkerContext,
    ) -> Self {
        Self {
            decoder: BodyDecoder::new(framing),
            chunked: chunked && framing != Framing::None,
            ended: false,
            trailers: None,
            edits: None,
            finishing: false,
            early,
            kept: None,
            buffer: None,
            context,
            splice: None,
            raw: !chunked && framing != Framing::Chunked,
            no_splice: false,
            fills_ahead: false,
            lead,
            segment: Segment::default(),
            payload: 0,
            payload_max: u64::MAX,
            progress: 0,
            has_read: false,
            has_written: false,
            long_reads: 0,
        }
    }

    /// The same, where the early bytes are the filled part of `buffer`.
    pub fn with_buffer(mut self, buffer: Buffer) -> Self {
        self.buffer = Some(buffer);
        self
    }

    /// The same, where what is there of a long body leaves together with the head: a write for each would
    /// wake a client for a few bytes. Not for what may have to be sent again: it is taken from the source
    /// before it is known whether the sink takes anything.
    pub fn with_head_and_body_at_once(mut self) -> Self {
        self.fills_ahead = true;
        self
    }

    /// The same, for a body of at most `max` bytes if that is given: of a longer one, nothing from
    /// the piece on that exceeds it is passed on.
    pub fn with_payload_max(mut self, max: Option<u64>) -> Self {
        self.payload_max = max.unwrap_or(u64::MAX);
        self
    }

    /// The same, where trailers that `edits` drop from a head are left out.
    pub fn with_trailers_of(mut self, edits: &'a Edits) -> Self {
        self.edits = Some(edits);
        self
    }

    /// The same, where what is read is kept for another pump, and what was kept is read first.
    pub fn with_kept(mut self, kept: Option<&'a Kept>) -> Self {
        self.kept = kept;
        self
    }

    /// Moves what can be moved. Ready when the whole message has been written.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &Carrier,
        to: &Carrier,
    ) -> Poll<Result<(), PumpError>> {
        ready!(self.poll_source(cx, from, to))?;
        self.poll_rest(cx, to)
    }

    /// Moves what can be moved until the whole message has been taken from the source. What of it came last
    /// is not written then: that is for [`Pump::poll_rest`], which needs the source no more.
    pub fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        from: &Carrier,
        to: &Carrier,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            self.take_trailers(from);
            self.prepare().map_err(|_| PumpError::Source(Cause::Malformed))?;
            if self.payload > self.payload_max {
                return Poll::Ready(Err(PumpError::Source(Cause::Limit)));
            }
            if self.decoder.is_done() {
                self.take_trailers(from);
                return Poll::Ready(Ok(()));
            }
            if self.has_output() {
                self.fill_ahead(cx, from, to)?;
                ready!(self.poll_flush(cx, to)).map_err(|e| PumpError::Sink(Cause::of(&e)))?;
                continue;
            }
            ready!(self.poll_drain(cx, to)).map_err(|e| PumpError::Sink(Cause::of(&e)))?;
            if self.may_splice()
                && let (Some(from), Some(_)) = (from.plain(), to.plain())
            {
                ready!(self.poll_splice(cx, from))?;
                continue;
            }
            ready!(self.poll_fill(cx, from))?;
            if self.raw && !self.holds_rest() {
                self.write_through(cx, to)?;
            }
        }
    }

    /// Writes what is left of a message that has been taken whole. Ready when all of it has been written.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Poll<Result<(), PumpError>> {
        let lost = |error: io::Error| PumpError::Sink(Cause::of(&error));
        loop {
            if self.has_output() {
                ready!(self.poll_flush(cx, to)).map_err(lost)?;
            }
            if self.ended {
                break;
            }
            // What is left are the trailers, behind the chunks that were before them.
            self.prepare().map_err(|_| PumpError::Source(Cause::Malformed))?;
        }
        ready!(self.poll_drain(cx, to)).map_err(lost)?;
        self.finishing = true;
        let trailers = self.trailers.as_deref().unwrap_or(self.decoder.trailers());
        to.poll_finish(cx, trailers).map_err(lost)
    }

    /// Body bytes decoded so far.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Grows with every byte read or written.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// Not a byte was read or written.
    pub fn is_untouched(&self) -> bool {
        self.progress == 0
    }

    /// What a pump made anew would find is the same: nothing was taken from the source, or it is kept.
    pub fn is_repeatable(&self) -> bool {
        self.kept.map_or(!self.has_read, Kept::is_intact)
    }

    /// Not a byte was written.
    pub fn is_unsent(&self) -> bool {
        !self.has_written
    }

    /// Who it waits for; only meaningful after `poll` was pending.
    pub fn blocked(&self) -> Blocked {
        match self.in_pipe() || self.has_output() || self.finishing {
            true => Blocked::OnSink,
            false => Blocked::OnSource,
        }
    }

    /// The source has sent its whole message.
    pub fn source_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// How many of the early bytes do not belong to this message. Only after the source is done.
    pub fn early_left(&self) -> usize {
        self.early.len()
    }

    /// There are bytes behind the message. Only when all of the message has been taken.
    pub fn has_excess(&self) -> bool {
        let held = self.buffer.as_ref().map_or(0, |buffer| buffer.len());
        held > self.segment.consumed
    }

    /// Drops what was taken from the source and not written: the sink takes no more. Otherwise bytes
    /// of this message would be left to be read as the next one.
    pub fn abandon(&mut self) {
        self.use_up();
    }

    /// Gives back the lead for reuse, and the buffer if bytes behind the message are in it.
    pub fn take_parts(&mut self) -> (Vec<u8>, Option<Buffer>) {
        self.take_behind();
        let buffer = self.buffer.take().filter(|buffer| !buffer.is_empty());
        (std::mem::take(&mut self.lead), buffer)
    }

    /// Bytes behind the message that are kept, and were not read again, come into the buffer: they
    /// came with one read, so they fit into one buffer.
    fn take_behind(&mut self) {
        let Some(kept) = self.kept.filter(|kept| kept.has_more() && self.decoder.is_done()) else {
            return;
        };
        let mut all = self.context.buffers.get_bulk();
        if let Some(buffer) = &self.buffer {
            all.append(buffer.filled());
        }
        let count = kept.give(all.spare_mut());
        all.advance(count);
        self.buffer = Some(all);
    }

    /// The trailers that came otherwise than in the body's coding, if its end has come.
    fn take_trailers(&mut self, from: &Carrier) {
        if self.trailers.is_some() || !from.delimits() || !self.decoder.is_done() {
            return;
        }
        let trailers = from.trailers();
        let trailers = match self.kept {
            Some(kept) => kept.trailers(trailers),
            None => trailers,
        };
        self.trailers = Some(match self.edits {
            Some(edits) => sifted(edits, &trailers),
            None => trailers,
        });
    }

    /// What was read is all that was left of the message.
    fn holds_rest(&self) -> bool {
        let held = self.buffer.as_ref().map_or(0, |buffer| buffer.len() as u64);
        self.decoder.remaining().is_some_and(|remaining| remaining <= held)
    }

    /// Writes what was just read as it is. What the sink does not take at once is left in the buffer
    /// for [`Pump::prepare`].
    fn write_through(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Result<(), PumpError> {
        let Some(buffer) = &mut self.buffer else { return Ok(()) };
        let remaining = self.decoder.remaining().unwrap_or(u64::MAX);
        let len = usize::try_from(remaining).unwrap_or(usize::MAX).min(buffer.len());
        let body = buffer.filled().get(..len).unwrap_or_default();
        if body.is_empty() || self.payload + body.len() as u64 > self.payload_max {
            return Ok(());
        }
        match to.poll_write(cx, body) {
            Poll::Ready(Ok(0)) => Err(PumpError::Sink(Cause::Closed)),
            Poll::Ready(Ok(written)) => {
                self.has_written = true;
                self.progress += written as u64;
                self.payload += written as u64;
                self.decoder.skip(written as u64);
                buffer.consume(written);
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(PumpError::Sink(Cause::of(&error))),
            Poll::Pending => Ok(()),
        }
    }

    /// Bytes wait in a pipe.
    fn in_pipe(&self) -> bool {
        self.splice.as_ref().is_some_and(|splice| splice.in_pipe() > 0)
    }

    fn has_output(&self) -> bool {
        !self.lead.is_empty() || self.segment.count > 0
    }

    /// Decodes input into the next segment, unless there is one.
    fn prepare(&mut self) -> Result<(), wire::body::BodyError> {
        if self.segment.count > 0 || self.segment.written > 0 || self.ended {
            return Ok(());
        }
        let input = match &self.buffer {
            _ if !self.early.is_empty() => self.early,
            Some(buffer) => buffer.filled(),
            None => &[],
        };
        if input.is_empty() && !self.decoder.is_done() {
            return Ok(());
        }
        let segment = &mut self.segment;
        let mut total = 0;
        while segment.count < SLICES_MAX && !self.decoder.is_done() {
            let rest = input.get(segment.consumed..).unwrap_or_default();
            let piece = self.decoder.next(rest)?;
            if piece.consumed == 0 {
                break;
            }
            if !piece.payload.is_empty() {
                let at = segment.consumed;
                total += piece.payload.len();
                let start = (at + piece.payload.start) as u32;
                segment.slices[segment.count] = Slice { start, len: piece.payload.len() as u32 };
                segment.count += 1;
            }
            segment.consumed += piece.consumed;
        }
        self.payload += total as u64;
        if self.chunked && total > 0 {
            self.lead.extend_from_slice(chunk_prefix(total, &mut [0; 20]));
            segment.tail = b"\r\n";
        }
        if self.decoder.is_done() {
            if let Some(edits) = self.edits.filter(|_| !self.decoder.trailers().is_empty()) {
                self.trailers = Some(sifted(edits, self.decoder.trailers()));
            }
            self.ended = true;
            if self.chunked {
                let trailers = self.trailers.as_deref().unwrap_or(self.decoder.trailers());
                match (total, trailers) {
                    (0, trailers) => {
                        for part in [b"0\r\n", trailers, b"\r\n"] {
                            self.lead.extend_from_slice(part);
                        }
                    }
                    (_, []) => segment.tail = b"\r\n0\r\n\r\n",
                    // The trailers go out with the last chunk, in a write of their own.
                    _ => self.ended = false,
                }
            }
        }
        if segment.count > 0 && total <= COALESCE_MAX {
            for slice in &segment.slices[..segment.count] {
                self.lead.extend_from_slice(slice.of(input));
            }
            self.lead.extend_from_slice(segment.tail);
        }
        if segment.count == 0 || total <= COALESCE_MAX {
            self.use_up();
        }
        Ok(())
    }

    /// Drops the input that the segment stood on.
    fn use_up(&mut self) {
        let consumed = std::mem::take(&mut self.segment).consumed;
        if !self.early.is_empty() {
            self.early = self.early.get(consumed..).unwrap_or_default();
        } else if let Some(buffer) = &mut self.buffer {
            buffer.consume(consumed);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Poll<io::Result<()>> {
        loop {
            let written = match self.segment.count {
                0 => {
                    let rest = self.lead.get(self.segment.written..).unwrap_or_default();
                    match self.in_pipe() {
                        true => ready!(to.poll_write_more(cx, rest))?,
                        false => ready!(to.poll_write(cx, rest))?,
                    }
                }
                _ => ready!(self.poll_write_segment(cx, to))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_written = true;
            self.progress += written as u64;
            self.segment.written += written;
            if self.segment.written >= self.output_len() {
                self.lead.clear();
                self.use_up();
                if self.in_pipe() {
                    // The rest may take long, and comes by another way.
                    self.buffer = self.buffer.take().filter(|buffer| !buffer.is_empty());
                }
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_write_segment(&self, cx: &mut Context<'_>, to: &Carrier) -> Poll<io::Result<usize>> {
        let input = match &self.buffer {
            _ if !self.early.is_empty() => self.early,
            Some(buffer) => buffer.filled(),
            None => &[],
        };
        let segment = &self.segment;
        let parts = std::iter::once(&self.lead[..])
            .chain(segment.slices[..segment.count].iter().map(|slice| slice.of(input)))
            .chain([segment.tail]);
        let mut skip = segment.written;
        let mut slices = [IoSlice::new(&[]); SLICES_MAX + 2];
        let mut count = 0;
        for part in parts {
            let rest = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            if !rest.is_empty() {
                slices[count] = IoSlice::new(rest);
                count += 1;
            }
        }
        match to.plain().filter(|_| self.in_pipe()) {
            Some(to) => to.poll_write_vectored_more(cx, &slices[..count]),
            None => to.poll_write_vectored(cx, &slices[..count]),
        }
    }

    fn output_len(&self) -> usize {
        let segment = &self.segment;
        let slices = segment.slices[..segment.count].iter().map(|slice| slice.len as usize);
        self.lead.len() + slices.sum::<usize>() + segment.tail.len()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, from: &Carrier) -> Poll<Result<(), PumpError>> {
        let lost = |error: io::Error| PumpError::Source(Cause::of(&error));
        if self.reads_kept() {
            return Poll::Ready(Ok(()));
        }
        if self.kept.is_some_and(Kept::is_at_end) {
            let end = self.decoder.finish_eof();
            return Poll::Ready(end.map_err(|_| PumpError::Source(Cause::Closed)));
        }
        loop {
            if from.poll_read_ready(cx).map_err(lost)?.is_pending() {
                if self.buffer.as_ref().is_some_and(|buffer| buffer.is_empty()) {
                    self.buffer = None;
                }
                return Poll::Pending;
            }
            let mut buffer = match self.buffer.take() {
                Some(buffer) if buffer.is_empty() && self.wants_bulk(&buffer) => {
                    self.context.buffers.get_bulk()
                }
                Some(buffer) => buffer,
                None if self.wants_bulk_first() => self.context.buffers.get_bulk(),
                None => self.context.buffers.get(),
            };
            buffer.make_room();
            let room = buffer.spare_mut().len();
            let result = from.try_read(buffer.spare_mut());
            match result {
                Ok(0) => {
                    self.buffer = Some(buffer);
                    if let Some(kept) = self.kept {
                        kept.end();
                    }
                    let end = self.decoder.finish_eof();
                    return Poll::Ready(end.map_err(|_| PumpError::Source(Cause::Closed)));
                }
                Ok(count) => {
                    self.has_read = true;
                    self.progress += count as u64;
                    let long = count == room || count >= BUFFER_SIZE;
                    self.long_reads = if long { self.long_reads + 1 } else { 0 };
                    if let (Some(kept), Some(read)) = (self.kept, buffer.spare_mut().get(..count)) {
                        kept.keep(read);
                    }
                    buffer.advance(count);
                    self.buffer = Some(buffer);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.buffer = Some(buffer);
                }
                Err(error) => return Poll::Ready(Err(lost(error))),
            }
        }
    }

    /// Reads what an earlier pump has read and this one has not.
    fn reads_kept(&mut self) -> bool {
        let Some(kept) = self.kept.filter(|kept| kept.has_more()) else { return false };
        let mut buffer = self.buffer.take().unwrap_or_else(|| self.context.buffers.get());
        buffer.make_room();
        let count = kept.give(buffer.spare_mut());
        buffer.advance(count);
        self.progress += count as u64;
        self.has_read = true;
        self.buffer = Some(buffer);
        true
    }

    /// The rest is long and both sides take it as it is.
    fn may_splice(&self) -> bool {
        self.early.is_empty()
            && self.buffer.as_ref().is_none_or(|buffer| buffer.is_empty())
            && self.wants_splice()
    }

    fn wants_splice(&self) -> bool {
        self.raw
            && !self.no_splice
            && self.kept.is_none()
            && match self.decoder.remaining() {
                Some(remaining) => remaining >= SPLICE_WORTH as u64 || self.splice.is_some(),
                None => self.long_reads >= LONG_READS_TO_SPLICE,
            }
    }

    /// Takes what is there behind a head whose body goes through a pipe, before the head is written.
    fn fill_ahead(
        &mut self,
        cx: &mut Context<'_>,
        from: &Carrier,
        to: &Carrier,
    ) -> Result<(), PumpError> {
        let is_head = self.splice.is_none() && !self.has_written;
        if self.fills_ahead
            && is_head
            && self.wants_splice()
            && let (Some(from), Some(_)) = (from.plain(), to.plain())
            && let Poll::Ready(filled) = self.poll_fill_pipe(cx, from)
        {
            return filled;
        }
        Ok(())
    }

    /// Fills the pipe from the source, instead of the buffer.
    fn poll_splice(&mut self, cx: &mut Context<'_>, from: &Stream) -> Poll<Result<(), PumpError>> {
        self.buffer = None;
        self.poll_fill_pipe(cx, from)
    }

    fn poll_fill_pipe(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
    ) -> Poll<Result<(), PumpError>> {
        let most = self.decoder.remaining().unwrap_or(u64::MAX).min(PIPE_SIZE as u64) as usize;
        match ready!(self.context.pipes.poll_fill(&mut self.splice, cx, from, most)) {
            Ok(0) => {
                let end = self.decoder.finish_eof();
                Poll::Ready(end.map_err(|_| PumpError::Source(Cause::Closed)))
            }
            Ok(moved) => {
                self.has_read = true;
                self.decoder.skip(moved as u64);
                self.payload += moved as u64;
                self.progress += moved as u64;
                if moved < SPLICE_AGAIN {
                    self.long_reads = 0;
                }
                Poll::Ready(Ok(()))
            }
            Err(Unfilled::NoPipe | Unfilled::Unfit) => {
                self.no_splice = true;
                Poll::Ready(Ok(()))
            }
            Err(Unfilled::Broken(error)) => Poll::Ready(Err(PumpError::Source(Cause::of(&error)))),
        }
    }

    /// Empties the pipe into the sink.
    fn poll_drain(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Poll<io::Result<()>> {
        let Some(to) = to.plain() else { return Poll::Ready(Ok(())) };
        while let Some(splice) = self.splice.as_mut().filter(|splice| splice.in_pipe() > 0) {
            let moved = ready!(splice.poll_drain(cx, to))?;
            self.progress += moved as u64;
        }
        Poll::Ready(Ok(()))
    }

    fn wants_bulk(&self, current: &Buffer) -> bool {
        current.capacity() == BUFFER_SIZE && self.wants_bulk_first()
    }

    /// A large rest, or a source that filled the last buffer to the brim.
    fn wants_bulk_first(&self) -> bool {
        match self.decoder.remaining() {
            Some(remaining) => remaining > BUFFER_SIZE as u64,
            None => self.long_reads > 0,
        }
    }
}
/// The "name: value\r\n" lines of trailers that `edits` leave.
fn sifted(edits: &Edits, trailers: &[u8]) -> Vec<u8> {
    let mut left = Vec::new();
    for line in trailers.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if !edits.drops_name(name) {
            left.extend_from_slice(line);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    const LENGTH: usize = 256 * 1024;

    /// What two carriers are for: each is one end of a pair, and the other ends are for the test.
    struct Ends {
        context: WorkerContext,
        from: Carrier,
        to: Carrier,
        source: Stream,
        sink: Stream,
    }

    fn with_ends(test: impl AsyncFnOnce(Rc<Ends>)) {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let ((from, source), (to, sink)) = (Stream::pair().unwrap(), Stream::pair().unwrap());
            let (from, to) = (Carrier::Socket(from), Carrier::Socket(to));
            test(Rc::new(Ends { context: WorkerContext::start(0), from, to, source, sink })).await;
        });
    }

    async fn write(to: &Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| to.poll_write(cx, bytes)).await.unwrap();
            bytes = &bytes[written..];
        }
    }

    async fn read(from: &Stream, count: usize) -> Vec<u8> {
        let mut all = vec![0; count];
        let mut have = 0;
        while have < count {
            have += poll_fn(|cx| from.poll_read(cx, &mut all[have..])).await.unwrap();
        }
        all
    }

    fn body() -> Vec<u8> {
        (0..LENGTH).map(|at| (at / 7) as u8).collect()
    }

    fn pump(context: &WorkerContext) -> Pump<'_> {
        Pump::new(Framing::Length(LENGTH as u64), false, b"head\n".to_vec(), &[], context)
    }

    #[test]
    fn a_long_response_arrives_whole_and_in_order() {
        with_ends(async |ends| {
            let there = Rc::clone(&ends);
            let client = tokio::task::spawn_local(async move {
                write(&there.source, &body()[..100_000]).await;
                let first = read(&there.sink, 1000).await;
                write(&there.source, &body()[100_000..]).await;
                [first, read(&there.sink, 5 + LENGTH - 1000).await].concat()
            });
            poll_fn(|cx| ends.from.plain().unwrap().poll_read_ready(cx)).await.unwrap();
            let mut pump = pump(&ends.context).with_head_and_body_at_once();
            poll_fn(|cx| pump.poll(cx, &ends.from, &ends.to)).await.unwrap();
            assert_eq!(pump.payload(), LENGTH as u64);
            let arrived = client.await.unwrap();
            assert!(arrived == [b"head\n", &body()[..]].concat());
        });
    }

    #[test]
    fn a_source_is_done_with_before_the_sink_can_have_seen_all() {
        with_ends(async |ends| {
            for (length, has_more) in [(0, false), (7, false), (7, true), (9_000, false)] {
                let more: &[u8] = if has_more { b"x" } else { b"" };
                write(&ends.source, &[&body()[..length], more].concat()).await;
                let framing = Framing::Length(length as u64);
                let lead = b"head\n".to_vec();
                let mut pump = Pump::new(framing, false, lead, &[], &ends.context);
                poll_fn(|cx| pump.poll_source(cx, &ends.from, &ends.to)).await.unwrap();
                assert_eq!((pump.payload(), pump.has_excess()), (length as u64, has_more));
                // Nobody else writes to it.
                let mut none = [0; 16 * 1024];
                let seen = match ends.sink.try_read(&mut none) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => panic!("{error}"),
                };
                assert!(seen < 5 + length, "{seen} of {length}");
                poll_fn(|cx| pump.poll_rest(cx, &ends.to)).await.unwrap();
                let rest = read(&ends.sink, 5 + length - seen).await;
                assert!([&none[..seen], &rest].concat() == [b"head\n", &body()[..length]].concat());
            }
        });
    }

    #[test]
    fn trailers_are_no_reason_to_keep_a_source() {
        with_ends(async |ends| {
            let coded = b"3\r\nabc\r\n0\r\nT: 1\r\n\r\n";
            write(&ends.source, coded).await;
            let mut pump =
                Pump::new(Framing::Chunked, true, b"head\n".to_vec(), &[], &ends.context);
            poll_fn(|cx| pump.poll_source(cx, &ends.from, &ends.to)).await.unwrap();
            assert_eq!(read(&ends.sink, 5).await, b"head\n");
            let more = ends.sink.try_read(&mut [0; 100]);
            assert_eq!(more.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            poll_fn(|cx| pump.poll_rest(cx, &ends.to)).await.unwrap();
            assert_eq!(read(&ends.sink, coded.len()).await, coded);
        });
    }

    #[test]
    fn a_response_that_breaks_off_before_its_head_is_written_leaves_the_client_with_nothing() {
        with_ends(async |ends| {
            ends.source.shutdown_write().unwrap();
            poll_fn(|cx| ends.from.plain().unwrap().poll_read_ready(cx)).await.unwrap();
            let mut pump = pump(&ends.context).with_head_and_body_at_once();
            let ended = poll_fn(|cx| pump.poll(cx, &ends.from, &ends.to)).await;
            assert_eq!(ended, Err(PumpError::Source(Cause::Closed)));
            assert!(pump.is_unsent());
        });
    }

    /// Its body can be sent to another upstream: not a byte of it was taken.
    #[test]
    fn a_request_whose_upstream_has_gone_is_untouched() {
        with_ends(async |ends| {
            write(&ends.source, &body()[..100_000]).await;
            poll_fn(|cx| ends.from.plain().unwrap().poll_read_ready(cx)).await.unwrap();
            // The other end is closed.
            let gone = Carrier::Socket(Stream::pair().unwrap().0);
            let mut pump = pump(&ends.context);
            let ended = poll_fn(|cx| pump.poll(cx, &ends.from, &gone)).await;
            assert!(matches!(ended, Err(PumpError::Sink(_))));
            assert!(pump.is_untouched() && pump.is_repeatable());
        });
    }
}
