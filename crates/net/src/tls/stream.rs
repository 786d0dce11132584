//! A connection with TLS, once it exists.
//!
//! Why it exists: it lets the path of requests read and write as on a plain socket, by `&self` and
//! without a call to flush.
//!
//! What always holds:
//! - A write that is [`Poll::Ready`] is wholly in the kernel. What was encrypted but not yet sent
//!   when the socket had no room leaves with the next call, which must begin with the same bytes.
//! - An end of the connection without `close_notify` is an error to whoever reads, never a clean end.
//! - While nothing moves no buffer is held: ciphertext that was read and is not used yet is all.
//! - What TLS itself has to say (tickets, key updates) leaves with the next bytes written.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::{Connection, HandshakeKind, ProtocolVersion};

use super::accept::closed;
use super::server::cipher_name;
use super::{Alpn, ClientCertificate, Facts, HandshakeError, PolicyId};
use crate::stream::Stream;

/// Bytes asked of the socket at once: the largest record (RFC 8446 §5.2) and the head of the next.
const RECEIVE: usize = 17 * 1024;

thread_local! {
    /// Where a worker receives ciphertext; what is not used at once is copied from here.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE].into());
}

/// A TCP or Unix stream with TLS on it.
#[derive(Debug)]
pub struct TlsStream {
    socket: Stream,
    state: RefCell<State>,
    facts: Facts,
    /// The peer is not to be told that this is the end.
    cut_off: Cell<bool>,
}

#[derive(Debug)]
struct State {
    session: Connection,
    ciphertext: Ciphertext,
    /// Plaintext that was encrypted for a write whose ciphertext is not all sent.
    taken: usize,
    /// What broke the connection for reading.
    broken: Option<io::ErrorKind>,
}

impl TlsStream {
    /// Drives `session` on `socket` until the handshake is done. `ciphertext` has come already.
    pub(super) async fn handshake(
        socket: Stream,
        session: Connection,
        ciphertext: Ciphertext,
        policy: PolicyId,
    ) -> Result<Self, HandshakeError> {
        let mut state = State { session, ciphertext, taken: 0, broken: None };
        std::future::poll_fn(|cx| state.poll_handshake(cx, &socket)).await?;
        let facts = facts(&state.session, policy);
        Ok(Self { socket, state: RefCell::new(state), facts, cut_off: Cell::new(false) })
    }

    /// What the handshake settled.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The connection below.
    pub(crate) fn socket(&self) -> &Stream {
        &self.socket
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        loop {
            if state.has_something_to_tell() {
                return Poll::Ready(Ok(()));
            }
            if state.ciphertext.is_empty() {
                ready!(self.socket.poll_read_ready(cx))?;
            }
            match state.receive(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What broke it is for the next read to say.
                _ if state.broken.is_some() => return Poll::Ready(Ok(())),
                _ => {}
            }
        }
    }

    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        loop {
            match state.session.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            state.receive(&self.socket)?;
        }
    }

    pub(crate) fn try_peek(&self) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        loop {
            match state.session.reader().into_first_chunk() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                chunk => return chunk.map(|chunk| chunk.len().min(1)),
            }
            state.receive(&self.socket)?;
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    pub(crate) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.say_goodbye();
        self.socket.shutdown_write()
    }

    pub(crate) fn reset_on_close(&self) {
        self.cut_off.set(true);
        self.socket.reset_on_close();
    }

    /// Says that nothing more will be sent, as far as the socket takes that at once.
    fn say_goodbye(&self) {
        if self.cut_off.replace(true) {
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
    }
}

impl State {
    fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Stream,
    ) -> Poll<Result<(), HandshakeError>> {
        loop {
            let handshaking = self.session.is_handshaking();
            // A server that is done keeps its tickets for the first response.
            if self.session.wants_write()
                && (handshaking || matches!(self.session, Connection::Client(_)))
            {
                ready!(self.poll_send(cx, socket)).map_err(HandshakeError::Closed)?;
            }
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.session.wants_write() {
                continue;
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

    /// A read would not say `WouldBlock`.
    fn has_something_to_tell(&mut self) -> bool {
        self.broken.is_some()
            || !matches!(self.session.reader().into_first_chunk(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Takes ciphertext, from the socket if there is none left, until there is plaintext or it is
    /// used up.
    fn receive(&mut self, socket: &Stream) -> io::Result<()> {
        if let Some(kind) = self.broken {
            return Err(kind.into());
        }
        let result = self.receive_from(socket);
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::WouldBlock
        {
            self.broken = Some(error.kind());
        }
        result
    }

    fn receive_from(&mut self, socket: &Stream) -> io::Result<()> {
        if self.ciphertext.is_empty() && self.ciphertext.receive(socket)? == 0 {
            // Lets the session know that this is the end; its reader then says which kind.
            self.session.read_tls(&mut io::empty())?;
            self.session.process_new_packets().map_err(invalid)?;
            return Ok(());
        }
        while !self.ciphertext.is_empty() {
            self.session.read_tls(&mut self.ciphertext)?;
            match self.session.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() => {
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    // The peer is told by an alert, if that can be sent at once.
                    let _ = self.poll_send(&mut Context::from_waker(Waker::noop()), socket);
                    return Err(invalid(error));
                }
            }
        }
        Ok(())
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
}

/// Ciphertext that was received and is not used yet.
#[derive(Debug, Default)]
pub(super) struct Ciphertext {
    bytes: Vec<u8>,
    used: usize,
}

impl Ciphertext {
    pub(super) fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// It begins as a request of HTTP does, and no record of TLS.
    pub(super) fn is_http(&self) -> bool {
        self.bytes.first().is_some_and(u8::is_ascii_uppercase)
    }

    /// Receives once. 0 means that the peer sends nothing more.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Stream,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match self.receive(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn receive(&mut self, socket: &Stream) -> io::Result<usize> {
        RECEIVED.with_borrow_mut(|received| {
            let count = socket.try_read(received)?;
            self.bytes.extend_from_slice(received.get(..count).unwrap_or_default());
            Ok(count)
        })
    }
}

impl Read for Ciphertext {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.bytes.get(self.used..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.used += count;
        if self.is_empty() {
            *self = Self::default();
        }
        Ok(count)
    }
}

/// Lets rustls write to a socket of ours.
pub(super) struct SocketWriter<'a, 'b> {
    socket: &'a Stream,
    cx: &'a mut Context<'b>,
}

impl<'a, 'b> SocketWriter<'a, 'b> {
    pub(super) fn new(socket: &'a Stream, cx: &'a mut Context<'b>) -> Self {
        Self { socket, cx }
    }
}

impl Write for SocketWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.socket.poll_write_vectored(self.cx, slices) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn facts(session: &Connection, policy: PolicyId) -> Facts {
    let server_name = match session {
        Connection::Server(session) => session.server_name().map(str::to_ascii_lowercase),
        Connection::Client(_) => None,
    };
    let client = match session {
        Connection::Server(session) => session.peer_certificates().and_then(<[_]>::first),
        Connection::Client(_) => None,
    };
    Facts {
        server_name: server_name.map(Into::into),
        alpn: Alpn::of(session.alpn_protocol()),
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        cipher: session.negotiated_cipher_suite().map_or("", |suite| cipher_name(suite.suite())),
        resumed: matches!(session.handshake_kind(), Some(HandshakeKind::Resumed)),
        policy,
        client: client.and_then(|der| ClientCertificate::of(der)).map(Arc::new),
    }
}
