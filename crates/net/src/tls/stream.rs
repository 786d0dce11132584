//! A connection with TLS, once it exists.
//!
//! Why it exists: it lets the path of requests read and write as on a plain socket, by `&self` and
//! without a call to flush.
//!
//! What always holds:
//! - A write that is [`Poll::Ready`] is wholly in the kernel. What was encrypted but not yet sent
//!   when the socket had no room leaves with the next call, which must begin with the same bytes.
//! - An end of the connection without `close_notify` is an error to whoever reads, never a clean end.
//! - While nothing moves no buffer is held that grew with what has moved; what a peer can make it
//!   hold is a few records in each direction ([`PLAINTEXT_MAX`], [`ENCRYPTED_MAX`]).
//! - What TLS itself has to say (tickets, key updates, what a client says last in a handshake) leaves
//!   with the next bytes written.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read};
use std::task::{Context, Poll, Waker, ready};

use rustls::{Connection, ProtocolVersion};

use super::accept::closed;
use super::ciphertext::{Ciphertext, SocketWriter, with_received};
use super::{Facts, HandshakeError, PolicyId, TlsFault, explain};
use crate::stream::Stream;

/// Bytes encrypted for one write at most: two full records (RFC 8446 §5.1), for one system call.
const ENCRYPTED_MAX: usize = 32 * 1024;
/// With more plaintext than this no ciphertext is taken until it has been read: one full record.
/// rustls has the same limit.
const PLAINTEXT_MAX: usize = 16 * 1024;
/// Times that one call without a wait receives from the socket. A peer may send records with nothing
/// in them for ever, and nobody else would get a turn.
const RECEIVES_MAX: usize = 8;

/// A TCP or Unix stream with TLS on it.
#[derive(Debug)]
pub struct TlsStream {
    socket: Stream,
    state: RefCell<State>,
    facts: Facts,
    /// The peer has been told that this is the end, or is not to be told.
    goodbye_said: Cell<bool>,
}

#[derive(Debug)]
struct State {
    session: Connection,
    /// What came behind the records that are to be read first.
    ciphertext: Ciphertext,
    /// Plaintext that was encrypted for a write whose ciphertext is not all sent.
    taken: usize,
    /// What broke the connection for reading.
    broken: Option<io::Error>,
    /// A FIN is due once `close_notify` is sent.
    fin_due: bool,
}

impl TlsStream {
    /// Drives `session` on `socket` until the handshake is done. `ciphertext` has come already.
    pub(super) async fn handshake(
        socket: Stream,
        mut session: Connection,
        ciphertext: Ciphertext,
        policy: PolicyId,
    ) -> Result<Self, HandshakeError> {
        session.set_buffer_limit(Some(ENCRYPTED_MAX));
        let mut state = State { session, ciphertext, taken: 0, broken: None, fin_due: false };
        std::future::poll_fn(|cx| state.poll_handshake(cx, &socket)).await?;
        let facts = Facts::of(&state.session, policy);
        Ok(Self { socket, state: RefCell::new(state), facts, goodbye_said: Cell::new(false) })
    }

    /// What the handshake settled.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The connection below.
    pub(crate) fn socket(&self) -> &Stream {
        &self.socket
    }

    /// See [`Stream::poll_read`].
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        let closing = !state.go_on_closing(cx, &self.socket);
        loop {
            if !state.has_something_to_tell() && state.ciphertext.is_empty() {
                ready!(state.poll_wait(cx, &self.socket))?;
            }
            match state.read(&self.socket, buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) if closing && !buf.is_empty() => return Poll::Pending,
                result => return Poll::Ready(result),
            }
        }
    }

    /// See [`Stream::poll_read_ready`].
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        let closing = !state.go_on_closing(cx, &self.socket);
        while !state.has_something_to_tell() {
            if state.ciphertext.is_empty() {
                ready!(state.poll_wait(cx, &self.socket))?;
            }
            // An error is a want of bytes, or kept for the next read to say.
            let _ = state.receive(&self.socket);
        }
        if closing && state.is_at_end() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// See [`Stream::try_read`].
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.state.borrow_mut().read(&self.socket, buf)
    }

    /// See [`Stream::try_peek`].
    pub(crate) fn try_peek(&self) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        for _ in 0..RECEIVES_MAX {
            match state.session.reader().into_first_chunk() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                chunk => return chunk.map(|chunk| chunk.len().min(1)),
            }
            if let Some(error) = &state.broken {
                return Err(again(error));
            }
            state.receive(&self.socket)?;
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// See [`Stream::poll_write_ready`].
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    /// See [`Stream::poll_write_vectored`]. Takes [`ENCRYPTED_MAX`] bytes at most; after
    /// [`Poll::Pending`] the next call must begin with the same bytes.
    pub(crate) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        use std::io::Write as _;
        let mut state = self.state.borrow_mut();
        if state.taken == 0 {
            state.taken = state.session.writer().write_vectored(slices)?;
        }
        ready!(state.poll_send(cx, &self.socket))?;
        Poll::Ready(Ok(std::mem::take(&mut state.taken)))
    }

    /// See [`Stream::idle_check`].
    pub(crate) fn idle_check(&self) -> bool {
        self.state.borrow().taken == 0
            && matches!(self.try_peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// See [`Stream::shutdown_write`].
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.say_goodbye();
        let mut state = self.state.borrow_mut();
        if state.taken == 0 && state.session.wants_write() {
            // The socket is full, and with a FIN now all that was sent would look cut off. Whoever
            // shuts down goes on reading, and that sends the rest; the end is told after it.
            state.fin_due = true;
            return Ok(());
        }
        self.socket.shutdown_write()
    }

    /// See [`Stream::reset_on_close`].
    pub(crate) fn reset_on_close(&self) {
        self.goodbye_said.set(true);
        self.socket.reset_on_close();
    }

    /// Says that nothing more will be sent, as far as the socket takes that at once.
    fn say_goodbye(&self) {
        if self.goodbye_said.replace(true) {
            return;
        }
        let mut state = self.state.borrow_mut();
        // Behind a record that is half sent it could not be told from it; and a peer that was sent
        // bytes which nobody counted as written must not see a clean end.
        if state.taken == 0 {
            state.session.send_close_notify();
            let _ = state.poll_send(&mut Context::from_waker(Waker::noop()), &self.socket);
        }
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.say_goodbye();
        // The last chance for what the socket did not take before.
        let mut cx = Context::from_waker(Waker::noop());
        self.state.get_mut().go_on_closing(&mut cx, &self.socket);
    }
}

impl State {
    fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Stream,
    ) -> Poll<Result<(), HandshakeError>> {
        loop {
            if !self.can_keep_what_is_unsent() {
                ready!(self.poll_send(cx, socket)).map_err(HandshakeError::Closed)?;
            }
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.ciphertext.is_empty() {
                let received = ready!(self.ciphertext.poll_receive(cx, socket));
                if received.map_err(HandshakeError::Closed)? == 0 {
                    return Poll::Ready(Err(closed()));
                }
            }
            self.session.read_tls(&mut self.ciphertext).map_err(HandshakeError::Closed)?;
            if let Err(error) = self.session.process_new_packets() {
                let _ = self.poll_send(cx, socket);
                return Poll::Ready(Err(HandshakeError::Refused(error)));
            }
        }
    }

    /// After the handshake, what is unsent can leave with the first bytes of the application: a
    /// client's last message, for it is the client who speaks first then, and tickets of TLS 1.3. The
    /// last message of a server of TLS 1.2 is what its client waits for.
    fn can_keep_what_is_unsent(&self) -> bool {
        let speaks_first = matches!(self.session, Connection::Client(_));
        let has_tickets = self.session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        !self.session.is_handshaking() && (speaks_first || has_tickets)
    }

    /// A read would not say `WouldBlock`.
    fn has_something_to_tell(&mut self) -> bool {
        self.broken.is_some()
            || !matches!(self.session.reader().into_first_chunk(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// All was read, and the peer has said that it was all.
    fn is_at_end(&mut self) -> bool {
        matches!(self.session.reader().into_first_chunk(), Ok([]))
    }

    /// Waits until the socket can be read, holding as little as can be.
    fn poll_wait(&mut self, cx: &mut Context<'_>, socket: &Stream) -> Poll<io::Result<()>> {
        let ready = socket.poll_read_ready(cx);
        if ready.is_pending() {
            // rustls shrinks its buffer only when it is about to fill it.
            let _ = self.session.read_tls(&mut NothingYet);
        }
        ready
    }

    /// Fills `buf` as far as there are bytes: the more of them at once, the fewer writes they cost
    /// further on.
    fn read(&mut self, socket: &Stream, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        for _ in 0..=RECEIVES_MAX {
            let room = buf.get_mut(filled..).unwrap_or_default();
            match self.session.reader().read(room) {
                Ok(count) => {
                    filled += count;
                    // Full, or the end.
                    if count == 0 || count == room.len() {
                        return Ok(filled);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) if filled > 0 => return Ok(filled),
                Err(error) => return Err(error),
            }
            if let Some(error) = &self.broken {
                return if filled > 0 { Ok(filled) } else { Err(again(error)) };
            }
            match self.receive(socket) {
                Err(_) if filled > 0 => return Ok(filled),
                result => result?,
            }
        }
        if filled > 0 { Ok(filled) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Takes ciphertext, from the socket if there is none left. What breaks the connection is kept;
    /// the only error is `WouldBlock`.
    fn receive(&mut self, socket: &Stream) -> io::Result<()> {
        let had_unsent = self.session.wants_write();
        let fed = if self.ciphertext.is_empty() {
            with_received(socket, |mut received| {
                let fed = feed(&mut self.session, &mut received);
                self.ciphertext.keep(received);
                fed
            })
        } else {
            let mut rest = self.ciphertext.rest();
            let fed = feed(&mut self.session, &mut rest);
            let left = rest.len();
            self.ciphertext.drop_to(left);
            fed
        };
        match fed {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) => {
                // The peer is told by an alert, if there is one for it and it can be sent at once.
                let _ = self.poll_send(&mut Context::from_waker(Waker::noop()), socket);
                self.broken = Some(error);
                Ok(())
            }
            Ok(()) => {
                // A refusal to renegotiate, which is waited for.
                if !had_unsent && self.session.wants_write() {
                    let _ = self.poll_send(&mut Context::from_waker(Waker::noop()), socket);
                }
                Ok(())
            }
        }
    }

    /// Sends all ciphertext there is.
    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Stream) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut SocketWriter::new(socket, cx)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether nothing is left to be done of [`TlsStream::shutdown_write`]; if there is, the task is
    /// woken when it can be done.
    fn go_on_closing(&mut self, cx: &mut Context<'_>, socket: &Stream) -> bool {
        if self.fin_due && self.poll_send(cx, socket).is_ready() {
            self.fin_due = false;
            let _ = socket.shutdown_write(); // it fails where nobody is left to be told
        }
        !self.fin_due
    }
}

/// Gives `session` bytes from the front of `received`, none being the end of the stream, until they
/// are used up or there is as much plaintext as may wait.
fn feed(session: &mut Connection, received: &mut &[u8]) -> io::Result<()> {
    loop {
        session.read_tls(received)?;
        let state = match session.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                let fault = match session {
                    Connection::Client(_) => explain::of_upstream(&error),
                    Connection::Server(_) => explain::of_client(&error),
                };
                return Err(io::Error::new(io::ErrorKind::InvalidData, TlsFault(fault)));
            }
        };
        if state.peer_has_closed() {
            *received = &[]; // RFC 8446 §6.1: what follows is ignored
        }
        if received.is_empty() || state.plaintext_bytes_to_read() > PLAINTEXT_MAX {
            return Ok(());
        }
    }
}

/// The same error once more.
fn again(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsFault>()) {
        Some(fault) => io::Error::new(error.kind(), fault.clone()),
        None => match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        },
    }
}

/// A source that has no bytes at present.
struct NothingYet;

impl Read for NothingYet {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
