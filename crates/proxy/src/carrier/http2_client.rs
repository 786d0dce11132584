//! A request to an upstream and its response, on one stream of an HTTP/2 connection.
//!
//! Bytes are written as on a socket: a request head as HTTP/1 text, then the body. The head becomes
//! a HEADERS frame, the body DATA; reading gives the response in the same way, interim ones first.
//! Where the body ends is said by the stream, so it is never chunked here (RFC 9113 §8.1).
//!
//! What always holds: what is buffered here is one response head and one DATA frame; the last bytes
//! of a body whose length is known are given only when the stream has ended, so that the trailers are
//! there with the end; a body that breaks off is an error, never an end. Dropping a stream that is
//! not over cancels it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::request_text::{RequestText, read_request};
use super::trailers::{trailer_fields, trailer_lines};
use crate::upstream::Place;

/// Bytes of a request head as text. The client's own head is bounded far below it; the rest are
/// fields that the configuration adds.
const REQUEST_TEXT_MAX: usize = 256 * 1024;
/// Bytes of a body copied into one piece for the connection to send.
const PIECE_MAX: usize = 64 * 1024;

/// One request and its response.
pub struct ClientStream {
    /// Its place on the connection, free again when this is dropped.
    place: Place,
    sending: RefCell<Sending>,
    receiving: RefCell<Receiving>,
    /// What broke the response, told again to whoever reads.
    broken: RefCell<Option<(ErrorKind, String)>>,
    refused: Cell<bool>,
}

/// How far the request is.
enum Sending {
    /// The beginning of the head.
    Head(Vec<u8>),
    Body {
        stream: SendStream<Bytes>,
        /// Bytes still to come, if the head said how many there are.
        remaining: Option<u64>,
        /// The last piece of a body of known length: whether the stream ends with it is known when
        /// the trailers are.
        last: Option<Bytes>,
    },
    Over,
}

/// How far the response is.
enum Receiving {
    /// The request is not sent yet.
    Nothing,
    /// Waiting for a head; `text` is what is left to be read of the one that came before.
    Head { response: ResponseFuture, text: Bytes },
    Body {
        text: Bytes,
        body: RecvStream,
        /// Bytes that have not come yet, if the head said how many there are.
        remaining: Option<u64>,
        piece: Bytes,
        /// The stream is over; `piece` is the end of the body.
        ended: bool,
        trailers: Vec<u8>,
    },
}

impl ClientStream {
    /// A stream in `place`; nothing is sent before a whole head was written.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            sending: RefCell::new(Sending::Head(Vec::new())),
            receiving: RefCell::new(Receiving::Nothing),
            broken: RefCell::default(),
            refused: Cell::new(false),
        }
    }

    /// It broke, and the upstream surely did nothing with the request: it said so (RFC 9113 §6.8,
    /// §8.7), or the connection ended before a byte of the request was sent.
    pub fn was_refused(&self) -> bool {
        self.refused.get()
    }

    /// Ready when a read may give bytes, the end, or an error.
    ///
    /// # Errors
    /// None: what broke the stream is what a read gives.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_broken() {
            return Poll::Ready(Ok(()));
        }
        if let Err(error) = ready!(self.receiving.borrow_mut().poll_fill(cx)) {
            let error = self.judge(&error);
            self.breaks(&error);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what is there now into `buf`, which must not be empty.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when nothing is there; else what broke the stream.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self.receiving.borrow_mut().take(buf) {
            Some(count) => Ok(count),
            None => Err(self.error().unwrap_or_else(|| ErrorKind::WouldBlock.into())),
        }
    }

    /// Looks at what is there now: 1 if there are bytes, 0 if the stream is broken.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when neither is so.
    pub fn try_peek(&self) -> io::Result<usize> {
        match (self.receiving.borrow().has_bytes(), self.is_broken()) {
            (true, _) => Ok(1),
            (false, true) => Ok(0),
            (false, false) => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes some of `bytes`: up to the end of the head, or as much of the body as the upstream's
    /// windows and the connection's buffer have room for.
    ///
    /// # Errors
    /// What broke the stream; [`ErrorKind::InvalidInput`] for a head that cannot be sent.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut sending = self.sending.borrow_mut();
        let written = match &mut *sending {
            Sending::Head(text) => {
                let (taken, whole) = take_head(text, bytes);
                if !whole && text.len() > REQUEST_TEXT_MAX {
                    Err(invalid("the request head is too long"))
                } else if !whole {
                    Ok(taken)
                } else {
                    let text = Bytes::from(std::mem::take(text));
                    self.send_head(&text, &mut sending).map(|()| taken)
                }
            }
            _ if bytes.is_empty() => Ok(0),
            Sending::Over | Sending::Body { remaining: Some(0), .. } => {
                Err(invalid("bytes behind the end of the request"))
            }
            Sending::Body { stream, remaining, last } => {
                let sent = ready!(poll_send(cx, stream, remaining, last, bytes));
                sent.map_err(|error| cut(&error))
            }
        };
        Poll::Ready(written)
    }

    /// As [`ClientStream::poll_write`]; frames are put together by the connection anyway.
    ///
    /// # Errors
    /// As [`ClientStream::poll_write`].
    pub fn poll_write_more(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes)
    }

    /// Writes some of the first of `slices` that is not empty.
    ///
    /// # Errors
    /// As [`ClientStream::poll_write`].
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(cx, first.map_or(&[], |slice| slice))
    }

    /// Says that the request is complete, with its trailers ("name: value\r\n" lines, or nothing).
    ///
    /// # Errors
    /// What broke the stream; [`ErrorKind::InvalidInput`] when the head or bytes that it announced
    /// are missing.
    pub fn poll_finish(&self, _cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>> {
        let mut sending = self.sending.borrow_mut();
        let result = match &mut *sending {
            Sending::Over => Ok(()),
            Sending::Head(_) => Err(invalid("the request has no whole head")),
            Sending::Body { remaining: Some(1..), .. } => Err(invalid("the request is too short")),
            Sending::Body { stream, last, .. } => {
                let last = last.take().unwrap_or_default();
                finish(stream, last, trailers).map_err(|error| cut(&error))
            }
        };
        if result.is_ok() {
            *sending = Sending::Over;
        }
        Poll::Ready(result)
    }

    /// The trailers that came with the end of the body, as "name: value\r\n" lines.
    pub fn trailers(&self) -> Vec<u8> {
        match &*self.receiving.borrow() {
            Receiving::Body { trailers, .. } => trailers.clone(),
            _ => Vec::new(),
        }
    }

    /// Ends the request where it is; reading goes on.
    ///
    /// # Errors
    /// As [`ClientStream::poll_finish`].
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self.poll_finish(&mut Context::from_waker(std::task::Waker::noop()), &[]) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Nothing to do: a stream that is not over is reset when it is dropped.
    pub fn reset_on_close(&self) {}

    /// Not known: the connection's buffer is shared.
    pub fn untaken(&self) -> Option<u64> {
        None
    }

    /// Sends the request whose head is `text` and begins to wait for the response.
    fn send_head(&self, text: &Bytes, sending: &mut Sending) -> io::Result<()> {
        let told = read_request(text, self.place.scheme());
        let RequestText { request, has_body, length } =
            told.inspect_err(|error| self.breaks(error))?;
        let (response, stream) = self.place.send(request, !has_body).map_err(|error| {
            // The connection ended, or was told to, before it took the request.
            self.refused.set(error.is_go_away() || error.is_io());
            let error = self.judge(&error);
            self.breaks(&error);
            error
        })?;
        *self.receiving.borrow_mut() = Receiving::Head { response, text: Bytes::new() };
        *sending = match has_body {
            true => Sending::Body { stream, remaining: length, last: None },
            false => Sending::Over,
        };
        Ok(())
    }

    fn is_broken(&self) -> bool {
        self.broken.borrow().is_some()
    }

    fn error(&self) -> Option<io::Error> {
        self.broken.borrow().as_ref().map(|(kind, what)| io::Error::new(*kind, what.clone()))
    }

    fn breaks(&self, error: &io::Error) {
        *self.broken.borrow_mut() = Some((error.kind(), error.to_string()));
    }

    /// What broke the response, in the system's terms. Notes whether the upstream did nothing.
    fn judge(&self, error: &h2::Error) -> io::Error {
        let refused = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
        // A stream only ever learns of a GOAWAY that says that it was not processed.
        let gone = error.is_remote() && error.is_go_away();
        if refused || gone || self.place.is_unsent() {
            self.refused.set(true);
        }
        let kind = match error.get_io() {
            // The end of the connection, which is a broken pipe to h2 whatever it was doing.
            Some(error) if error.kind() == ErrorKind::BrokenPipe => ErrorKind::UnexpectedEof,
            Some(error) => error.kind(),
            None if error.is_remote() => ErrorKind::ConnectionReset,
            None => ErrorKind::InvalidData,
        };
        io::Error::new(kind, explain(error))
    }
}

impl Receiving {
    /// Ready when there is something for [`Receiving::take`].
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if self.has_bytes() || matches!(self, Self::Body { ended: true, .. }) {
                return Poll::Ready(Ok(()));
            }
            match self {
                Self::Nothing => return Poll::Pending,
                Self::Head { response, text } => {
                    if let Some(interim) = ready!(response.poll_informational(cx)) {
                        *text = response_text(&interim?, false);
                        continue;
                    }
                    let (head, body) = ready!(Pin::new(response).poll(cx))?.into_parts();
                    let head = Response::from_parts(head, ());
                    let ended = body.is_end_stream();
                    *self = Self::Body {
                        text: response_text(&head, ended),
                        body,
                        remaining: content_length(head.headers()),
                        piece: Bytes::new(),
                        ended,
                        trailers: Vec::new(),
                    };
                }
                Self::Body { body, remaining, piece, ended, trailers, .. } => {
                    match ready!(body.poll_data(cx)) {
                        Some(more) => {
                            let more = more?;
                            if let Some(remaining) = remaining {
                                *remaining = remaining.saturating_sub(more.len() as u64);
                            }
                            // A piece that was held back is followed by nothing but the end.
                            if !more.is_empty() {
                                *piece = more;
                            }
                            *ended = body.is_end_stream();
                        }
                        None => {
                            if let Some(fields) = ready!(body.poll_trailers(cx))? {
                                *trailers =
                                    trailer_lines(&fields).ok_or(Reason::ENHANCE_YOUR_CALM)?;
                            }
                            *ended = true;
                        }
                    }
                }
            }
        }
    }

    fn has_bytes(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Head { text, .. } => !text.is_empty(),
            Self::Body { text, piece, remaining, ended, .. } => {
                !text.is_empty() || (!piece.is_empty() && (*ended || *remaining != Some(0)))
            }
        }
    }

    /// Copies what is there; 0 at the end, `None` if nothing is there.
    fn take(&mut self, buf: &mut [u8]) -> Option<usize> {
        let has_bytes = self.has_bytes();
        match self {
            Self::Head { text, .. } | Self::Body { text, .. } if !text.is_empty() => {
                Some(copy(text, buf))
            }
            Self::Body { body, piece, .. } if has_bytes => {
                let count = copy(piece, buf);
                // It cannot be more than came.
                let _ = body.flow_control().release_capacity(count);
                Some(count)
            }
            Self::Body { ended: true, .. } => Some(0),
            _ => None,
        }
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").field("broken", &self.broken).finish_non_exhaustive()
    }
}

/// Moves bytes of a head from `bytes` to `text`: how many, and whether the head is whole.
fn take_head(text: &mut Vec<u8>, bytes: &[u8]) -> (usize, bool) {
    const END: &[u8] = b"\r\n\r\n";
    let before = text.len();
    // The end may have begun in an earlier piece.
    let look_from = before.saturating_sub(END.len() - 1);
    text.extend_from_slice(bytes);
    match memchr::memmem::find(text.get(look_from..).unwrap_or_default(), END) {
        Some(at) => {
            text.truncate(look_from + at + END.len());
            (text.len().saturating_sub(before), true)
        }
        None => (bytes.len(), false),
    }
}

/// Hands a piece of the body to the connection, no larger than there is room for. Gives its length.
fn poll_send(
    cx: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    remaining: &mut Option<u64>,
    last: &mut Option<Bytes>,
    bytes: &[u8],
) -> Poll<Result<usize, h2::Error>> {
    let announced =
        remaining.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
    let wanted = bytes.len().min(PIECE_MAX).min(announced);
    let mut room = stream.capacity();
    if room == 0 {
        stream.reserve_capacity(wanted);
        room = match ready!(stream.poll_capacity(cx)) {
            Some(room) => room?,
            None => return stream.poll_reset(cx).map(|reason| Err(h2::Error::from(reason?))),
        };
    }
    let count = wanted.min(room);
    let piece = Bytes::copy_from_slice(bytes.get(..count).unwrap_or_default());
    if let Some(left) = remaining {
        *left = left.saturating_sub(count as u64);
        if *left == 0 {
            *last = Some(piece);
            return Poll::Ready(Ok(count));
        }
    }
    Poll::Ready(stream.send_data(piece, false).map(|()| count))
}

/// Ends the request with its last bytes and its trailers.
fn finish(stream: &mut SendStream<Bytes>, last: Bytes, trailers: &[u8]) -> Result<(), h2::Error> {
    let fields = trailer_fields(trailers);
    if fields.is_empty() {
        return stream.send_data(last, true);
    }
    if !last.is_empty() {
        stream.send_data(last, false)?;
    }
    stream.send_trailers(fields)
}

/// A response head as text. `ended`: nothing follows it.
fn response_text(head: &Response<()>, ended: bool) -> Bytes {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(head.status().as_str().as_bytes());
    text.push(b' ');
    // HTTP/2 has none, and there are clients of HTTP/1 that do not take a response without it.
    text.extend_from_slice(head.status().canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(b"\r\n");
    let mut has_length = false;
    for (name, value) in head.headers() {
        match name.as_str() {
            // Equal ones, or h2 would have refused the response.
            "content-length" if has_length => continue,
            "content-length" => has_length = true,
            // Where the message ends is not theirs to say here (RFC 9113 §8.2.2).
            "connection" | "transfer-encoding" | "keep-alive" | "upgrade" | "proxy-connection" => {
                continue;
            }
            _ => {}
        }
        write_field(&mut text, name, value);
    }
    let status = head.status().as_u16();
    if ended && !has_length && !matches!(status, 100..=199 | 204 | 304) {
        text.extend_from_slice(b"content-length: 0\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.into()
}

fn write_field(text: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
        text.extend_from_slice(part);
    }
}

fn content_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn copy(from: &mut Bytes, to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    from.advance(count);
    count
}

/// What happened, in words an operator can search for.
fn explain(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_remote() && error.is_go_away() => {
            format!("GOAWAY received: {reason:?}")
        }
        Some(reason) if error.is_remote() => format!("RST_STREAM received: {reason:?}"),
        Some(reason) => format!("not proper HTTP/2: {reason:?}"),
        None => error.to_string(),
    }
}

/// Why no more of the request can be sent. The response may be there all the same.
fn cut(error: &h2::Error) -> io::Error {
    let kind = error.get_io().map_or(ErrorKind::ConnectionReset, io::Error::kind);
    io::Error::new(kind, explain(error))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests;
