//! A client's stream of an HTTP/2 connection as a carrier (RFC 9113 §8).
//!
//! The exchange writes a response as HTTP/1 text. Here its head becomes a HEADERS frame and what
//! follows DATA, with END_STREAM where the message ends; the request body and its trailers come the
//! other way. An extended CONNECT (RFC 8441) is a WebSocket handshake to the exchange: its 101
//! becomes a 200, and bytes flow both ways.
//!
//! What always holds: a response that was not completed ends with RST_STREAM, never with END_STREAM;
//! DATA is handed to h2 only where the client's windows have room for it, so what waits is what the
//! socket has not taken, and that is bounded ([`WAITING_MAX`](share::WAITING_MAX)); received bytes
//! count against the client's window until the exchange has taken them.

mod response;
mod share;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use wire::field::FieldId;
use wire::head::{Framing, HeadLimits, Parse, ResponseHead};

use self::share::{CHUNK_MAX, Flight};
pub(crate) use self::share::{Chunk, Share};
use super::trailers::{trailer_fields, trailer_lines};

/// Bounds on a response head, which was judged when it came from the upstream.
const HEAD_LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024 - 1, fields: 256 };

/// What the carrier has to know of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// No body follows a response head.
    Head,
    /// A WebSocket; the upstream has to answer this key.
    WebSocket([u8; 28]),
    /// Anything else.
    Other,
}

/// One request and its response on a connection with others.
pub struct ServerStream {
    id: u32,
    asked: Asked,
    receiving: RefCell<Receiving>,
    sending: RefCell<Sending>,
    share: Rc<Share>,
}

impl ServerStream {
    /// The stream that a request came by, with its body and the place for its response.
    pub(crate) fn new(
        body: RecvStream,
        respond: SendResponse<Chunk>,
        asked: Asked,
        share: &Rc<Share>,
    ) -> Self {
        Self {
            id: respond.stream_id().as_u32(),
            asked,
            receiving: RefCell::new(Receiving {
                body: Some(body),
                chunk: Bytes::new(),
                held: 0,
                state: Reading::Open,
                trailers: Vec::new(),
            }),
            sending: RefCell::new(Sending {
                respond,
                body: None,
                head: Vec::new(),
                last: None,
                phase: Phase::Head,
                flight: None,
            }),
            share: Rc::clone(share),
        }
    }

    /// Ready when a read gives bytes, the end, or an error; once the end was seen, when the client
    /// has given the stream up.
    ///
    /// # Errors
    /// None; what broke the stream comes from reading.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut receiving = self.receiving.borrow_mut();
        if !receiving.chunk.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match receiving.state {
            Reading::Open => ready!(receiving.poll_receive(cx)),
            Reading::Ended | Reading::Failed(_) => {}
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there of the request body.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there; else how the stream ended.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut receiving = self.receiving.borrow_mut();
        if !receiving.chunk.is_empty() {
            return Ok(receiving.take(buf));
        }
        match receiving.state {
            Reading::Open => Err(io::ErrorKind::WouldBlock.into()),
            Reading::Failed(kind) => Err(kind.into()),
            Reading::Ended => Ok(0),
        }
    }

    /// 1 if there is something to read, bytes of the body or its end; 0 if the client has given the
    /// stream up.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when neither is so.
    pub fn try_peek(&self) -> io::Result<usize> {
        let receiving = self.receiving.borrow();
        match receiving.state {
            Reading::Failed(_) if receiving.chunk.is_empty() => Ok(0),
            Reading::Open if receiving.chunk.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(1),
        }
    }

    /// Ready when the client has given the stream up, whatever was read of its request.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.sending.borrow_mut().poll_gone(cx)
    }

    /// Writes some of the response.
    ///
    /// # Errors
    /// The stream was reset, the connection is gone, or what is written is not a response.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// The same as [`ServerStream::poll_write`]: the connection sends what its streams have when all
    /// of them had their turn.
    ///
    /// # Errors
    /// As for [`ServerStream::poll_write`].
    pub fn poll_write_more(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes)
    }

    /// Writes some of the response.
    ///
    /// # Errors
    /// As for [`ServerStream::poll_write`].
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut sending = self.sending.borrow_mut();
        let mut head_bytes = 0;
        if sending.phase == Phase::Head {
            let mut index = self.share.response.borrow_mut();
            for slice in slices {
                head_bytes += sending.take_heads(slice, &mut index, &self.asked)?;
                if sending.phase != Phase::Head {
                    break;
                }
            }
        }
        match sending.poll_send(cx, slices, head_bytes, &self.share) {
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(head_bytes + count)),
            Poll::Pending if head_bytes > 0 => Poll::Ready(Ok(head_bytes)),
            other => other,
        }
    }

    /// Ends the response, with these trailers.
    ///
    /// # Errors
    /// The stream was reset, or the response is shorter than it said.
    pub fn poll_finish(&self, _cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>> {
        Poll::Ready(self.sending.borrow_mut().finish(trailers, &self.share))
    }

    /// The trailers of the request, once its body was read to the end.
    pub fn trailers(&self) -> Vec<u8> {
        std::mem::take(&mut self.receiving.borrow_mut().trailers)
    }

    /// Ends our side of a tunnel.
    ///
    /// # Errors
    /// The stream was reset.
    pub fn shutdown_write(&self) -> io::Result<()> {
        let mut sending = self.sending.borrow_mut();
        match sending.phase {
            Phase::Body { left: None } => sending.finish(b"", &self.share),
            _ => Ok(()),
        }
    }

    /// Ends the stream for this reason, unless its response is complete.
    pub(crate) fn reset(&self, reason: Reason) {
        let mut sending = self.sending.borrow_mut();
        if sending.phase != Phase::Done {
            sending.phase = Phase::Done;
            sending.respond.send_reset(reason);
        }
    }

    /// Bytes of the request body that are on their way: h2 passes a DATA frame on when all of it is
    /// here, for which a slow client needs a while.
    pub fn arriving(&self) -> u64 {
        self.share.arriving(self.id)
    }

    /// How many bytes the client's system has taken of this connection, while some of this stream
    /// wait. `None` if none do: then it is the client's window that this stream waits for.
    pub fn taken(&self) -> Option<u64> {
        let sending = self.sending.borrow();
        let in_flight = sending.flight.as_ref().is_some_and(|flight| !flight.is_empty());
        in_flight.then(|| self.share.taken()).flatten()
    }
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        let (receiving, sending) = (self.receiving.get_mut(), self.sending.get_mut());
        // A panic inside h2 leaves its lock poisoned, and then its own drop panics again: caught, so
        // that it costs the connection and not the process.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            if sending.phase != Phase::Done {
                sending.respond.send_reset(Reason::INTERNAL_ERROR);
            }
        }));
        let body = receiving.body.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(body)));
    }
}

impl fmt::Debug for ServerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerStream({})", self.id)
    }
}

/// The request body.
struct Receiving {
    /// `None` only while the stream is dropped.
    body: Option<RecvStream>,
    /// What of the last DATA frame was not taken yet.
    chunk: Bytes,
    /// Bytes of that frame, which count against the client's window until all are taken.
    held: usize,
    state: Reading,
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    Ended,
    Failed(io::ErrorKind),
}

impl Receiving {
    /// Waits for bytes, the end, or a failure.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(body) = &mut self.body else { return Poll::Ready(()) };
        self.state = loop {
            match ready!(body.poll_data(cx)) {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    self.held = chunk.len();
                    self.chunk = chunk;
                    return Poll::Ready(());
                }
                Some(Err(error)) => break Reading::Failed(kind_of(&error)),
                None => match ready!(body.poll_trailers(cx)) {
                    Ok(None) => break Reading::Ended,
                    Ok(Some(fields)) => match trailer_lines(&fields) {
                        Some(lines) => {
                            self.trailers = lines;
                            break Reading::Ended;
                        }
                        None => break Reading::Failed(io::ErrorKind::InvalidData),
                    },
                    Err(error) => break Reading::Failed(kind_of(&error)),
                },
            }
        };
        Poll::Ready(())
    }

    fn take(&mut self, buf: &mut [u8]) -> usize {
        let count = self.chunk.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..count), self.chunk.get(..count)) {
            to.copy_from_slice(from);
        }
        self.chunk.advance(count);
        if self.chunk.is_empty() {
            self.chunk = Bytes::new(); // gives its memory back
            if let Some(body) = &mut self.body {
                // It can only fail for more than was received.
                let _ = body.flow_control().release_capacity(self.held);
            }
            self.held = 0;
        }
        count
    }
}

/// The response.
struct Sending {
    respond: SendResponse<Chunk>,
    /// There once the final head was sent.
    body: Option<SendStream<Chunk>>,
    /// The bytes of a head that is not whole yet.
    head: Vec<u8>,
    /// The last piece of a body of known length: whether trailers follow it is only known when the
    /// response is finished.
    last: Option<Chunk>,
    phase: Phase,
    flight: Option<Rc<Flight>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    /// Bytes that are still to come, if that is known.
    Body {
        left: Option<u64>,
    },
    /// END_STREAM or a reset was sent.
    Done,
}

impl Sending {
    /// Takes heads from `bytes` up to the final one, and says how many bytes that were.
    fn take_heads(
        &mut self,
        bytes: &[u8],
        index: &mut ResponseHead,
        asked: &Asked,
    ) -> io::Result<usize> {
        let mut taken = 0;
        while self.phase == Phase::Head {
            let rest = bytes.get(taken..).filter(|rest| !rest.is_empty());
            let Some(rest) = rest else { break };
            let before = self.head.len();
            let mut kept = std::mem::take(&mut self.head);
            if before > 0 {
                kept.extend_from_slice(rest);
            }
            let text = if before > 0 { kept.as_slice() } else { rest };
            match index.parse(text, before, &HEAD_LIMITS, *asked == Asked::Head) {
                Ok(Parse::Complete) => {
                    taken += index.len.saturating_sub(before);
                    self.respond(index, text, asked)?;
                }
                Ok(Parse::Partial) => {
                    if before == 0 {
                        kept.extend_from_slice(rest);
                    }
                    self.head = kept;
                    return Ok(bytes.len());
                }
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(taken)
    }

    /// Sends the head that `index` describes.
    fn respond(&mut self, index: &ResponseHead, text: &[u8], asked: &Asked) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        if index.is_interim() {
            let interim = response::response(index, text, index.status).ok_or_else(invalid)?;
            return self.respond.send_informational(interim).map_err(|error| broken(&error));
        }
        let status = match asked {
            Asked::WebSocket(answer) if index.status == 101 => {
                let given = index.get(FieldId::SecWebSocketAccept).map(|f| f.value.of(text));
                match given == Some(answer) {
                    true => 200,
                    false => return self.refuse_tunnel(502),
                }
            }
            // The client would take it for a tunnel (RFC 8441 §5).
            Asked::WebSocket(_) if (200..300).contains(&index.status) => {
                return self.refuse_tunnel(501);
            }
            _ if index.status == 101 => return Err(invalid()),
            _ => index.status,
        };
        let response = response::response(index, text, status).ok_or_else(invalid)?;
        let left = match index.framing {
            _ if index.status == 101 => None,
            Framing::None | Framing::Length(0) => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let ends = left == Some(0);
        let body = self.respond.send_response(response, ends).map_err(|error| broken(&error))?;
        self.body = Some(body);
        self.phase = if ends { Phase::Done } else { Phase::Body { left } };
        Ok(())
    }

    /// Answers a request for a WebSocket that will not be one; what else comes has no place to go.
    fn refuse_tunnel(&mut self, status: u16) -> io::Result<()> {
        let mut response = http::Response::new(());
        if let Ok(status) = http::StatusCode::from_u16(status) {
            *response.status_mut() = status;
        }
        self.respond.send_response(response, true).map_err(|error| broken(&error))?;
        self.phase = Phase::Done;
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Hands some of `slices` after the first `skip` bytes to h2.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        skip: usize,
        share: &Rc<Share>,
    ) -> Poll<io::Result<usize>> {
        let total = slices.iter().map(|slice| slice.len()).sum::<usize>().saturating_sub(skip);
        let (Phase::Body { left }, Some(body)) = (self.phase, &mut self.body) else {
            // Nothing follows a head that says so; what is written nevertheless is dropped.
            return Poll::Ready(Ok(total));
        };
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if left.is_some_and(|left| (total as u64) > left) {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        ready!(share.poll_room(cx));
        let wanted = total.min(CHUNK_MAX);
        let room = ready!(poll_capacity(cx, body, wanted))?;
        let count = wanted.min(room);
        let flight = self.flight.get_or_insert_with(|| Flight::new(share));
        let chunk = Chunk::copy(slices, skip, count, flight);
        if count == wanted {
            share.sent_whole_piece();
        }
        let left = left.map(|left| left - count as u64);
        self.phase = Phase::Body { left };
        match left {
            Some(0) => self.last = Some(chunk),
            _ => body.send_data(chunk, false).map_err(|error| broken(&error))?,
        }
        Poll::Ready(Ok(count))
    }

    fn finish(&mut self, trailers: &[u8], share: &Share) -> io::Result<()> {
        let (left, body) = match (self.phase, &mut self.body) {
            (Phase::Done, _) => {
                share.completed_response();
                return Ok(());
            }
            (Phase::Body { left }, Some(body)) => (left, body),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if left.is_some_and(|left| left > 0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let fields = trailer_fields(trailers);
        let ends = fields.is_empty();
        if ends || self.last.is_some() {
            let chunk = self.last.take().unwrap_or_else(Chunk::empty);
            body.send_data(chunk, ends).map_err(|error| broken(&error))?;
        }
        if !ends {
            body.send_trailers(fields).map_err(|error| broken(&error))?;
        }
        self.phase = Phase::Done;
        share.completed_response();
        Ok(())
    }

    /// Ready when the stream was reset or the connection is lost.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.body {
            Some(body) => body.poll_reset(cx).map(|_| ()),
            None if self.phase == Phase::Done => Poll::Pending,
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }
}

/// Waits until the client's windows have room for some of `wanted` bytes.
fn poll_capacity(
    cx: &mut Context<'_>,
    body: &mut SendStream<Chunk>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    body.reserve_capacity(wanted);
    let room = body.capacity();
    if room > 0 {
        return Poll::Ready(Ok(room));
    }
    match ready!(body.poll_capacity(cx)) {
        Some(Ok(room)) => Poll::Ready(Ok(room)),
        Some(Err(error)) => Poll::Ready(Err(broken(&error))),
        None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
    }
}

fn broken(error: &h2::Error) -> io::Error {
    kind_of(error).into()
}

/// How a stream that failed ended: that of a lost connection is an end, anything else is a reset.
fn kind_of(error: &h2::Error) -> io::ErrorKind {
    match error.get_io() {
        Some(error) => error.kind(),
        None => io::ErrorKind::ConnectionReset,
    }
}

#[cfg(test)]
mod tests;
