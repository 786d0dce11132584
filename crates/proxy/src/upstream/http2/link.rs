//! One HTTP/2 connection to an upstream.
//!
//! A task drives it: it reads and writes frames for all streams, and ends when the connection does.
//! Exchanges have a [`Place`] on it each; when the pool and all places have let go of it, it says
//! GOAWAY and closes.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use config::model::IdleConnections;
use h2::SendStream;
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::Request;
use http::uri::Scheme;
use net::stream::Stream;
use net::timer::Tick;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::inspect::Inspector;
use super::settings::{STREAMS_MAX, builder};
use crate::live::Lease;
use crate::upstream::{ConnectError, Opened};

/// Bytes read from the socket at once.
const READ_MAX: usize = 32 * 1024;
/// A stream that is given up after this long, while nothing came for any stream of its connection,
/// makes the connection suspect: its peer may be gone without a word.
const SILENCE: Duration = Duration::from_millis(250);
/// How long saying goodbye may take to a peer that does not read.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    state: Rc<State>,
    /// Streams that exchanges have.
    active: Cell<usize>,
    /// An exchange had a stream before.
    used: Cell<bool>,
    /// It gets no new streams.
    retired: Cell<bool>,
    established: Tick,
    idle_since: Cell<Tick>,
    limits: IdleConnections,
    lease: Lease,
    room: Rc<Notify>,
}

/// What the link and the task that drives it share.
#[derive(Debug, Default)]
struct State {
    /// Bytes read and written.
    read: Cell<u64>,
    written: Cell<u64>,
    inspector: RefCell<Inspector>,
    /// The connection is over.
    closed: Cell<bool>,
    /// Nobody uses the link any more.
    abandoned: Notify,
}

impl Link {
    /// Begins HTTP/2 on a connection that was just made.
    pub(super) async fn open(
        opened: Opened,
        scheme: Scheme,
        limits: IdleConnections,
        room: Rc<Notify>,
    ) -> Result<Self, ConnectError> {
        let Opened { stream, lease } = opened;
        let state = Rc::new(State::default());
        let socket = Socket { stream, state: Rc::clone(&state) };
        let (sender, connection) = builder().handshake(socket).await.map_err(|error| {
            let error = error.into_io().unwrap_or_else(|| ErrorKind::InvalidData.into());
            ConnectError::from(error)
        })?;
        tokio::task::spawn_local(drive(connection, Rc::clone(&state), Rc::clone(&room)));
        let now = Tick::now();
        Ok(Self {
            sender,
            scheme,
            state,
            active: Cell::new(0),
            used: Cell::new(false),
            retired: Cell::new(false),
            established: now,
            idle_since: Cell::new(now),
            limits,
            lease,
            room,
        })
    }

    /// It may get new streams, though perhaps not now.
    pub(super) fn is_fit(&self, now: Tick) -> bool {
        let wanted = !self.retired.get() && now.since(self.established) < self.limits.max_age;
        wanted && !self.lease.is_over() && !self.state.closed.get() && self.is_open()
    }

    /// The peer has not said that it ends the connection.
    fn is_open(&self) -> bool {
        // A clone waits for nothing.
        let ready = self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(())))
    }

    /// It is idle for longer than it should be.
    pub(super) fn is_stale(&self, now: Tick) -> bool {
        self.active.get() == 0 && now.since(self.idle_since.get()) >= self.limits.timeout
    }

    /// A stream can be opened now.
    pub(super) fn has_room(&self) -> bool {
        self.active.get() < self.allowed().unwrap_or(1)
    }

    /// How many streams it may have; `None` while the peer has not said it.
    pub(super) fn allowed(&self) -> Option<usize> {
        let settled = self.state.inspector.borrow().is_settled();
        settled.then(|| self.sender.current_max_send_streams().min(STREAMS_MAX))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.abandoned.notify_one();
    }
}

/// One exchange's place on a connection. Free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    link: Rc<Link>,
    reused: bool,
    sent: Cell<Option<Sent>>,
}

/// The state of the connection when the request was handed to it.
#[derive(Debug, Clone, Copy)]
struct Sent {
    stream: u32,
    at: Tick,
    read: u64,
    written: u64,
}

impl Place {
    /// A place on `link`, which has room or was just made.
    pub(super) fn on(link: Rc<Link>) -> Self {
        link.active.set(link.active.get() + 1);
        let reused = link.used.replace(true);
        Self { link, reused, sent: Cell::new(None) }
    }

    /// The connection carried an earlier exchange.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// `https` if the connection has TLS, else `http`.
    pub fn scheme(&self) -> &Scheme {
        &self.link.scheme
    }

    /// Hands a request to the connection; `whole` if no body follows.
    ///
    /// # Errors
    /// The connection takes no more.
    pub fn send(
        &self,
        request: Request<()>,
        whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let (response, stream) = self.link.sender.clone().send_request(request, whole)?;
        let state = &self.link.state;
        let id = stream.stream_id().as_u32();
        state.inspector.borrow_mut().begin(id);
        self.sent.set(Some(Sent {
            stream: id,
            at: Tick::now(),
            read: state.read.get(),
            written: state.written.get(),
        }));
        Ok((response, stream))
    }

    /// Not a byte has left on the connection since the request was handed to it.
    pub fn is_unsent(&self) -> bool {
        self.sent.get().is_none_or(|sent| sent.written == self.link.state.written.get())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let link = &self.link;
        link.active.set(link.active.get().saturating_sub(1));
        let now = Tick::now();
        if let Some(sent) = self.sent.get() {
            link.state.inspector.borrow_mut().end(sent.stream);
            let silent = sent.read == link.state.read.get() && now.since(sent.at) >= SILENCE;
            if silent {
                link.retired.set(true);
            }
        }
        if link.active.get() == 0 {
            link.idle_since.set(now);
            if link.limits.max == 0 {
                link.retired.set(true);
            }
        }
        link.room.notify_one();
    }
}

/// Moves frames until the connection ends.
async fn drive(mut connection: Connection<Socket, Bytes>, state: Rc<State>, room: Rc<Notify>) {
    let mut goodbye = pin!(async {
        state.abandoned.notified().await;
        tokio::time::sleep(GOODBYE).await;
    });
    let mut before = (false, connection.max_concurrent_send_streams());
    poll_fn(|cx| {
        let over = Pin::new(&mut connection).poll(cx).is_ready();
        let settled = state.inspector.borrow().is_settled();
        let now = (settled, connection.max_concurrent_send_streams());
        if now > before {
            room.notify_waiters();
        }
        before = now;
        match over {
            true => Poll::Ready(()),
            false => goodbye.as_mut().poll(cx),
        }
    })
    .await;
    state.closed.set(true);
    drop(connection);
    room.notify_waiters();
}

/// The socket as the library wants it, watched.
struct Socket {
    stream: Stream,
    state: Rc<State>,
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining().min(READ_MAX);
        let bytes = buf.initialize_unfilled_to(room);
        let count = ready!(self.stream.poll_read(cx, bytes))?;
        let state = &self.state;
        state.read.set(state.read.get() + count as u64);
        if !state.inspector.borrow_mut().look_at(bytes.get(..count).unwrap_or_default()) {
            let what = "too many heads on one stream";
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, what)));
        }
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.stream.poll_write(cx, bytes))?;
        self.state.written.set(self.state.written.get() + count as u64);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.stream.poll_write_vectored(cx, slices))?;
        self.state.written.set(self.state.written.get() + count as u64);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It may be gone already.
        let _ = self.stream.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
