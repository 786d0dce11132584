//! One direction of a WebSocket: frames from one side to the other as they come, and now and then a
//! control frame of Ravelin's own between two of them.
//!
//! What always holds: bytes are read into a buffer, looked at there and written from it, never copied,
//! and the payload of a long frame, which needs no looking at, goes through a pipe; a message is never
//! held back to be whole, only a header or a control frame that has not come as a whole; nothing of a
//! frame that breaks the rules is passed on; nothing follows a close frame; a direction that waits with
//! nothing in hand holds no buffer and no pipe.

use std::io;
use std::task::{Context, Poll, ready};

use net::buffer::{BUFFER_SIZE, Buffer};
use net::splice::{PIPE_SIZE, SPLICE_AGAIN, SPLICE_WORTH, Splice, Unfilled};
use net::stream::Stream;
use net::timer::Tick;
use net::worker::WorkerContext;
use wire::websocket::{ControlFrame, Fault, Opcode, Payload, Scanner, Step};

use super::rate::Bucket;
use crate::carrier::Carrier;
use crate::connections::Moved;
use crate::log::Cause;

/// What tells Ravelin's pings from others.
pub(super) type Token = [u8; 8];

/// Behind a frame that went through a pipe so much is read of the next, which may be as long: enough
/// for headers and short messages.
const READ_BEHIND: usize = 512;

/// One direction.
pub(super) struct Direction<'a> {
    scanner: Scanner,
    /// How many messages may come.
    bucket: Option<Bucket>,
    /// A pong of the source with this payload answers a ping of Ravelin's.
    token: Token,
    /// What is written before any frame: the head of the handshake's answer.
    lead: Vec<u8>,
    lead_written: usize,
    buffer: Option<Buffer>,
    /// The pipe, while the payload of a long frame goes through one. Its bytes follow those that are
    /// to be written from the buffer, which has nothing behind them.
    pipe: Option<Splice>,
    /// The sockets do not support pipes.
    no_pipe: bool,
    /// Little came at once, or no pipe was to be had: the next long read says that it is worth it again.
    is_thin: bool,
    /// The frame that is under way, or was the last, went through a pipe.
    behind_pipe: bool,
    /// The source has ended, and why; it is said when what came before is written.
    end_of_source: Option<Option<Cause>>,
    /// Where buffers and pipes come from.
    context: &'a WorkerContext,
    /// How many bytes at the front of the buffer are to be written.
    passable: usize,
    /// How many bytes behind them go no further.
    dropped: usize,
    /// A close frame ends them.
    passes_close: bool,
    /// The source's close frame goes no further: another one will be sent.
    holds_close: bool,
    /// A frame of Ravelin's own, to be written between two frames of the source.
    own: Option<Box<Own>>,
    /// When the last ping of Ravelin's was written, and how much had been with it.
    ping_written: Option<(Tick, u64)>,
    /// How much had been written with the last bytes of the source.
    frames_end: u64,
    /// What is to be written finds no room, and nothing is read until it does.
    is_blocked: bool,
    /// The last such frame.
    close: Option<Box<ControlFrame>>,
    source: Source,
    /// Its connection has ended after its close frame.
    has_left: bool,
    sink: Sink,
    read: u64,
    written: u64,
    passed: u64,
    /// How many times in a row at least an ordinary buffer's worth came at once.
    long_reads: u32,
}

struct Own {
    frame: ControlFrame,
    written: usize,
    closes: bool,
}

/// What still comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Frames.
    Open,
    /// Nothing: a close frame has come.
    Closed,
    /// Nothing that is looked at: a frame broke the rules.
    Faulty,
    /// Nothing: the connection has ended without a close frame.
    Ended,
}

/// What may still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// Frames.
    Open,
    /// Nothing: a close frame was sent.
    Closed,
    /// Nothing: the connection has ended, or nobody is left to send to.
    Lost,
}

/// What happened to a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The source has sent a close frame.
    Closed,
    /// The source has broken the rules.
    Fault(Fault),
    /// The source has ended without a close frame, or broken off.
    Ended(Option<Cause>),
    /// The source has ended after its close frame.
    Left,
    /// The sink takes no more.
    SinkLost(Cause),
}

impl<'a> Direction<'a> {
    /// A direction that `scanner` follows, and `bucket` limits.
    pub(super) fn new(
        scanner: Scanner,
        bucket: Option<Bucket>,
        token: Token,
        lead: Vec<u8>,
        buffer: Option<Buffer>,
        context: &'a WorkerContext,
    ) -> Self {
        Self {
            scanner,
            bucket,
            token,
            lead,
            lead_written: 0,
            buffer,
            pipe: None,
            no_pipe: false,
            is_thin: false,
            behind_pipe: false,
            end_of_source: None,
            context,
            passable: 0,
            dropped: 0,
            passes_close: false,
            holds_close: false,
            own: None,
            ping_written: None,
            frames_end: 0,
            is_blocked: false,
            close: None,
            source: Source::Open,
            has_left: false,
            sink: Sink::Open,
            read: 0,
            written: 0,
            passed: 0,
            long_reads: 0,
        }
    }

    /// Moves what can be moved, until something happens that concerns both directions.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &Carrier,
        to: &Carrier,
    ) -> Poll<Event> {
        loop {
            let written = self.poll_write(cx, to);
            self.is_blocked = written.is_pending();
            if let Err(error) = ready!(written) {
                self.lose_sink();
                return Poll::Ready(Event::SinkLost(Cause::of(&error)));
            }
            if self.source != Source::Open {
                self.buffer = None;
                if self.source != Source::Closed || self.has_left {
                    return Poll::Pending;
                }
                ready!(poll_end(cx, from));
                self.has_left = true;
                return Poll::Ready(Event::Left);
            }
            // All that may go on leaves with one write.
            while self.dropped == 0 {
                let before = (self.passable, self.in_hand());
                if let Some(event) = self.scan() {
                    return Poll::Ready(event);
                }
                if before == (self.passable, self.in_hand()) {
                    break;
                }
            }
            if self.passable == 0
                && let Some(cause) = self.end_of_source.take()
            {
                self.source = Source::Ended;
                return Poll::Ready(Event::Ended(cause));
            }
            if let (true, Some(from), Some(_)) = (self.wants_pipe(), from.plain(), to.plain()) {
                let filled = self.poll_fill_pipe(cx, from);
                if self.passable == 0 {
                    ready!(filled);
                }
            } else if self.passable == 0 {
                ready!(self.poll_read(cx, from));
            }
        }
    }

    /// What still comes.
    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// What may still be sent.
    pub(super) fn sink(&self) -> Sink {
        self.sink
    }

    /// Nothing more will be sent.
    pub(super) fn is_sent(&self) -> bool {
        let nothing_due =
            self.close.is_none() && self.own.is_none() && self.passable == 0 && self.in_pipe() == 0;
        self.sink != Sink::Open || self.source == Source::Ended && nothing_due
    }

    /// The source has ended inside a frame, so that no other can follow.
    pub(super) fn is_inside_frame(&self) -> bool {
        !self.scanner.between_frames()
    }

    /// Bytes that came from the source.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Bytes that the sink took.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of the source's frames that were passed on.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// What has come through so far.
    pub(super) fn moved(&self) -> Moved {
        Moved { bytes: self.passed, messages: self.scanner.messages() }
    }

    /// The payload of a ping to the source.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// A ping has not been written yet.
    pub(super) fn ping_waits(&self) -> bool {
        self.own.is_some()
    }

    /// When the last ping was written, and how many bytes had been with it.
    pub(super) fn ping_written(&self) -> Option<(Tick, u64)> {
        self.ping_written
    }

    /// How many bytes had been written with the last ones of the source.
    pub(super) fn frames_end(&self) -> u64 {
        self.frames_end
    }

    /// The sink does not take what is to be written now, and so nothing is read from the source.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Sends a ping to the sink when there is a place for it.
    pub(super) fn send_ping(&mut self, frame: ControlFrame) {
        if self.own.is_none() && self.close.is_none() {
            self.own = Some(Box::new(Own { frame, written: 0, closes: false }));
        }
    }

    /// Sends a close frame to the sink when there is a place for it, unless one was or is being sent.
    pub(super) fn send_close(&mut self, frame: ControlFrame) {
        if self.sink == Sink::Open && !self.passes_close && self.close.is_none() {
            self.close = Some(Box::new(frame));
        }
    }

    /// From now on a close frame of the source goes no further.
    pub(super) fn hold_close(&mut self) {
        self.holds_close = true;
    }

    /// Nobody is left to send to.
    pub(super) fn lose_sink(&mut self) {
        if self.sink == Sink::Open {
            self.sink = Sink::Lost;
        }
        self.own = None;
        self.close = None;
        self.lead.clear();
        self.pipe = None;
        self.use_up();
    }

    /// Nothing more comes.
    pub(super) fn end_source(&mut self) {
        if self.source == Source::Open {
            self.source = Source::Ended;
        }
    }

    /// Passes nothing more on: lets its buffer and its pipe go, and gives back the memory of the lead.
    pub(super) fn end(&mut self) -> Vec<u8> {
        self.buffer = None;
        self.pipe = None;
        std::mem::take(&mut self.lead)
    }

    /// Says what the next bytes in the buffer are, behind those that are to be written, and what
    /// follows from that.
    fn scan(&mut self) -> Option<Event> {
        let filled = self.buffer.as_ref().map(|buffer| buffer.filled());
        let next = filled.and_then(|filled| filled.get(self.passable..));
        let next = next.filter(|next| !next.is_empty())?;
        let allowed = self.bucket.as_mut().map(|bucket| bucket.available(Tick::now()));
        if let Some(allowed) = allowed {
            self.scanner.allow(allowed);
        }
        let step = self.scanner.scan(next);
        if let (Some(bucket), Some(allowed)) = (&mut self.bucket, allowed) {
            bucket.take(allowed.saturating_sub(self.scanner.allowed()));
        }
        match step {
            Ok(Step::Pass(count)) => self.pass(count),
            Ok(Step::Control(header, count)) => {
                let frame = next.get(..count).unwrap_or_default();
                let payload = match header.opcode {
                    Opcode::Close => {
                        self.source = Source::Closed;
                        if self.holds_close || self.close.is_some() {
                            self.discard(count);
                        } else {
                            self.passes_close = self.sink == Sink::Open;
                            self.pass(count);
                        }
                        return Some(Event::Closed);
                    }
                    Opcode::Pong => Some(Payload::of(&header, frame)),
                    _ => None,
                };
                let is_pong = payload.is_some();
                match payload.is_some_and(|payload| payload.bytes() == self.token) {
                    true => self.discard(count),
                    // Only those that Ravelin asked for are free.
                    false if is_pong && !self.may_send_one() => {
                        self.source = Source::Faulty;
                        return Some(Event::Fault(Fault::TooMany));
                    }
                    false => self.pass(count),
                }
            }
            Ok(Step::Drop(count)) => self.discard(count),
            Ok(Step::More) => {}
            // What comes before it goes on first; it is found again.
            Err(_) if self.passable > 0 => {}
            Err(fault) => {
                self.source = Source::Faulty;
                return Some(Event::Fault(fault));
            }
        }
        None
    }

    /// The source may send one more of what is limited, and has.
    fn may_send_one(&mut self) -> bool {
        let Some(bucket) = &mut self.bucket else { return true };
        let may = bucket.available(Tick::now()) > 0;
        if may {
            bucket.take(1);
        }
        may
    }

    /// The next `count` bytes in the buffer are to be written, if anything is.
    fn pass(&mut self, count: usize) {
        match self.sink {
            Sink::Open => {
                self.passable += count;
                self.passed += count as u64;
            }
            Sink::Closed | Sink::Lost => self.skip(count),
        }
    }

    fn in_hand(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }

    /// The next `count` bytes in the buffer go no further.
    fn discard(&mut self, count: usize) {
        match self.passable {
            0 => self.skip(count),
            _ => self.dropped = count,
        }
    }

    fn skip(&mut self, count: usize) {
        if let Some(buffer) = &mut self.buffer {
            buffer.consume(count);
        }
    }

    fn use_up(&mut self) {
        let count = std::mem::take(&mut self.passable) + std::mem::take(&mut self.dropped);
        self.skip(count);
    }

    /// Ready when all that may be written now is.
    fn poll_write(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Poll<io::Result<()>> {
        loop {
            if self.passable > 0 && self.lead.is_empty() {
                let filled = self.buffer.as_ref().map(|buffer| buffer.filled());
                let bytes = filled.and_then(|filled| filled.get(..self.passable));
                let bytes = bytes.unwrap_or_default();
                let count = match self.in_pipe() {
                    0 => ready!(to.poll_write(cx, bytes))?,
                    _ => ready!(to.poll_write_more(cx, bytes))?,
                };
                let count = written(count)?;
                self.written += count as u64;
                self.frames_end = self.written;
                self.passable = self.passable.saturating_sub(count);
                self.skip(count);
                if self.passable == 0 {
                    self.use_up();
                }
                if self.passes_close && self.passable == 0 {
                    self.sink = Sink::Closed;
                }
                continue;
            }
            if !self.lead.is_empty() {
                let rest = self.lead.get(self.lead_written..).unwrap_or_default();
                self.lead_written += written(ready!(to.poll_write(cx, rest))?)?;
                if self.lead_written >= self.lead.len() {
                    self.lead.clear();
                }
                continue;
            }
            if self.in_pipe() > 0 {
                self.let_empty_buffer_go();
                ready!(self.poll_drain_pipe(cx, to))?;
                continue;
            }
            if (self.own.is_none() && self.close.is_none())
                || self.sink != Sink::Open
                || !self.scanner.between_frames()
            {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write_own(cx, to))?;
        }
    }

    /// Writes a frame of Ravelin's own; there is one, and a place for it.
    fn poll_write_own(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Poll<io::Result<()>> {
        if let Some(frame) =
            self.close.take_if(|_| self.own.as_ref().is_none_or(|own| own.written == 0))
        {
            self.own = Some(Box::new(Own { frame: *frame, written: 0, closes: true }));
        }
        let Some(own) = &mut self.own else { return Poll::Ready(Ok(())) };
        let rest = own.frame.bytes().get(own.written..).unwrap_or_default();
        let count = written(ready!(to.poll_write(cx, rest))?)?;
        self.written += count as u64;
        own.written += count;
        if own.written >= own.frame.bytes().len() {
            match own.closes {
                true => self.sink = Sink::Closed,
                false => self.ping_written = Some((Tick::now(), self.written)),
            }
            self.own = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more, or takes note that nothing more comes.
    fn poll_read(&mut self, cx: &mut Context<'_>, from: &Carrier) -> Poll<()> {
        loop {
            match from.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.ends(Some(&error)),
                Poll::Pending => {
                    self.let_empty_buffer_go();
                    return Poll::Pending;
                }
            }
            let mut buffer = match self.buffer.take() {
                Some(buffer) if !(buffer.is_empty() && self.wants_bulk(&buffer)) => buffer,
                None if self.long_reads == 0 => self.context.buffers.get(),
                _ => self.context.buffers.get_bulk(),
            };
            buffer.make_room();
            let rest = self.scanner.payload_left();
            let room = self.room(buffer.spare_mut());
            let most = room.len();
            let result = from.try_read(room);
            let count = *result.as_ref().unwrap_or(&0);
            buffer.advance(count);
            self.buffer = Some(buffer);
            match result {
                Ok(0) => return self.ends(None),
                Ok(_) => {
                    self.read += count as u64;
                    let long = !self.behind_pipe && (count == most || count >= BUFFER_SIZE);
                    self.long_reads = if long { self.long_reads.saturating_add(1) } else { 0 };
                    self.is_thin &= !long;
                    self.behind_pipe &= rest > 0;
                    return Poll::Ready(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return self.ends(Some(&error)),
            }
        }
    }

    /// Where to read, and so how much at most.
    fn room<'b>(&self, spare: &'b mut [u8]) -> &'b mut [u8] {
        let rest = usize::try_from(self.scanner.payload_left()).unwrap_or(usize::MAX);
        let most = match self.behind_pipe {
            true => rest.saturating_add(READ_BEHIND).min(spare.len()),
            false => spare.len(),
        };
        spare.split_at_mut(most).0
    }

    /// What comes next is payload, and enough of it to send it through a pipe.
    fn wants_pipe(&self) -> bool {
        self.scanner.payload_left() >= SPLICE_WORTH as u64
            && !(self.no_pipe || self.is_thin)
            && self.sink == Sink::Open
            && self.end_of_source.is_none()
            && self.in_hand() == self.passable
    }

    fn in_pipe(&self) -> usize {
        self.pipe.as_ref().map_or(0, Splice::in_pipe)
    }

    /// Fills the pipe from the source, or takes note that nothing more comes.
    fn poll_fill_pipe(&mut self, cx: &mut Context<'_>, from: &Stream) -> Poll<()> {
        self.let_empty_buffer_go();
        let most = self.scanner.payload_left().min(PIPE_SIZE as u64) as usize;
        match ready!(self.context.pipes.poll_fill(&mut self.pipe, cx, from, most)) {
            Ok(0) => return self.ends(None),
            Ok(moved) => {
                self.scanner.skip(moved as u64);
                self.read += moved as u64;
                self.passed += moved as u64;
                self.long_reads = 0;
                self.is_thin = moved < SPLICE_AGAIN;
                self.behind_pipe = !self.is_thin;
            }
            Err(Unfilled::NoPipe) => self.is_thin = true,
            Err(Unfilled::Unfit) => self.no_pipe = true,
            Err(Unfilled::Broken(error)) => return self.ends(Some(&error)),
        }
        Poll::Ready(())
    }

    /// Writes what is in the pipe, and lets it go when the frame has not much more for it.
    fn poll_drain_pipe(&mut self, cx: &mut Context<'_>, to: &Carrier) -> Poll<io::Result<()>> {
        if let (Some(pipe), Some(to)) = (&mut self.pipe, to.plain()) {
            let moved = ready!(pipe.poll_drain(cx, to))?;
            self.written += moved as u64;
            self.frames_end = self.written;
        }
        if self.in_pipe() == 0 && !self.wants_pipe() {
            self.pipe = None;
        }
        Poll::Ready(Ok(()))
    }

    fn let_empty_buffer_go(&mut self) {
        self.buffer = self.buffer.take().filter(|buffer| !buffer.is_empty());
    }

    /// Takes note that nothing more comes.
    fn ends(&mut self, error: Option<&io::Error>) -> Poll<()> {
        self.end_of_source = Some(error.map(Cause::of));
        Poll::Ready(())
    }

    /// A source that filled the last buffer to the brim gets a larger one.
    fn wants_bulk(&self, current: &Buffer) -> bool {
        current.capacity() == BUFFER_SIZE && self.long_reads > 0
    }
}

/// Ready when the connection has ended. What comes before is for nobody.
fn poll_end(cx: &mut Context<'_>, from: &Carrier) -> Poll<()> {
    let mut nothing = [0; 256];
    loop {
        if ready!(from.poll_read_ready(cx)).is_err() {
            return Poll::Ready(());
        }
        match from.try_read(&mut nothing) {
            Ok(0) => return Poll::Ready(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(()),
        }
    }
}

fn written(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
}
