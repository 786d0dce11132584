//! What a message travels on: the byte stream that an exchange reads a body from and writes a head
//! and a body to, at either side.
//!
//! Why it exists: a request and its response are the same exchange whatever protocol carries them.
//! Every carrier takes and gives a head as HTTP/1 text followed by the bytes of the body. On a socket
//! these are the bytes sent; a stream of an HTTP/2 connection turns the head into a HEADERS frame and
//! what follows into DATA. So filters, retries, time limits and logs exist once. A body that is
//! [buffered](crate::buffering) rests in a carrier of its own: what is written to it is read from it.
//!
//! What always holds: a carrier belongs to one task; it takes bytes in the order they are written;
//! `poll_*` functions wake the task that polled them last.

pub mod http2_client;
pub mod http2_server;
mod request_text;
mod trailers;

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use net::stream::Stream;

use self::http2_client::ClientStream;
use self::http2_server::ServerStream;
use crate::buffering::SpooledBody;

/// One way to carry a message.
#[derive(Debug)]
pub enum Carrier {
    /// HTTP/1 on a connection of its own, with or without TLS.
    Socket(Stream),
    /// A stream that a client opened on an HTTP/2 connection.
    Http2Server(Box<ServerStream>),
    /// A stream of an HTTP/2 connection to an upstream.
    Http2Client(Box<ClientStream>),
    /// A body that rests between the two.
    Spooled(Box<SpooledBody>),
}

/// Calls the method of the same name, whatever carries the message.
macro_rules! each {
    ($self:ident, $carrier:ident => $call:expr) => {
        match $self {
            Carrier::Socket($carrier) => $call,
            Carrier::Http2Server($carrier) => $call,
            Carrier::Http2Client($carrier) => $call,
            Carrier::Spooled($carrier) => $call,
        }
    };
}

impl Carrier {
    /// Reads into `buf`, which must not be empty. 0 means that the peer sends nothing more.
    ///
    /// # Errors
    /// What broke the connection or the stream.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Ready when a read may give bytes, the end, or an error.
    ///
    /// # Errors
    /// Only when the worker is ending.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, carrier => carrier.poll_read_ready(cx))
    }

    /// Reads what is there now into `buf`, which must not be empty.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there; else what broke the connection or the
    /// stream.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        each!(self, carrier => carrier.try_read(buf))
    }

    /// Looks at what is there now without taking it: 1 if there are bytes, 0 if the peer is gone.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when neither is so; else what broke the connection.
    pub fn try_peek(&self) -> io::Result<usize> {
        each!(self, carrier => carrier.try_peek())
    }

    /// Writes some of `bytes`. After `Pending` the next call has to begin with the same bytes.
    ///
    /// # Errors
    /// What broke the connection or the stream.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, carrier => carrier.poll_write(cx, bytes))
    }

    /// Writes some of `bytes`, telling the system that more follows at once.
    ///
    /// # Errors
    /// What broke the connection or the stream.
    pub fn poll_write_more(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, carrier => carrier.poll_write_more(cx, bytes))
    }

    /// Writes some of `slices` in order. After `Pending` the next call has to begin with the same
    /// bytes.
    ///
    /// # Errors
    /// What broke the connection or the stream.
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, carrier => carrier.poll_write_vectored(cx, slices))
    }

    /// Says that the message written is complete, with its trailers ("name: value\r\n" lines, or
    /// nothing). On a socket the message itself says so.
    ///
    /// # Errors
    /// What broke the stream.
    pub fn poll_finish(&self, cx: &mut Context<'_>, trailers: &[u8]) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(_) => Poll::Ready(Ok(())),
            Self::Http2Server(stream) => stream.poll_finish(cx, trailers),
            Self::Http2Client(stream) => stream.poll_finish(cx, trailers),
            Self::Spooled(body) => {
                body.finish(trailers);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The trailers that came with the end of the body, as "name: value\r\n" lines. On a socket they
    /// are part of the body's coding, and this is empty.
    pub fn trailers(&self) -> Vec<u8> {
        match self {
            Self::Socket(_) => Vec::new(),
            Self::Http2Server(stream) => stream.trailers(),
            Self::Http2Client(stream) => stream.trailers(),
            Self::Spooled(body) => body.trailers(),
        }
    }

    /// The carrier itself marks the end of a message, so that no body is chunked on it.
    pub fn delimits(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Http2Server(_) | Self::Http2Client(_) | Self::Spooled(_) => true,
        }
    }

    /// It broke, and the peer surely did nothing with the message. Never known of a socket.
    pub fn was_refused(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Http2Server(_) | Self::Spooled(_) => false,
            Self::Http2Client(stream) => stream.was_refused(),
        }
    }

    /// Tells the peer that nothing more will be sent; reading goes on.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        each!(self, carrier => carrier.shutdown_write())
    }

    /// Makes sure that the peer cannot take a cut-off message for a complete one. A stream sees to
    /// that itself.
    pub fn reset_on_close(&self) {
        match self {
            Self::Socket(stream) => stream.reset_on_close(),
            Self::Http2Client(stream) => stream.reset_on_close(),
            Self::Http2Server(_) | Self::Spooled(_) => {}
        }
    }

    /// A number that grows with every byte that the peer's system takes of what was written here,
    /// `moved` bytes so far. `None` where that is not known, and where it is not for the system that
    /// the carrier waits.
    pub fn taken(&self, moved: u64) -> Option<u64> {
        let untaken = match self {
            Self::Socket(stream) => stream.untaken(),
            Self::Http2Client(stream) => stream.untaken(),
            Self::Http2Server(stream) => return stream.taken(),
            Self::Spooled(_) => None,
        };
        untaken.map(|untaken| moved.saturating_sub(untaken))
    }

    /// Bytes that have come and cannot be read yet, because what holds them is not complete.
    pub fn arriving(&self) -> u64 {
        match self {
            Self::Socket(_) | Self::Http2Client(_) | Self::Spooled(_) => 0,
            Self::Http2Server(stream) => stream.arriving(),
        }
    }

    /// Whether an idle connection is fit to carry another exchange. What shares its connection with
    /// others is not kept itself.
    pub fn idle_check(&self) -> bool {
        match self {
            Self::Socket(stream) => stream.idle_check(),
            Self::Http2Server(_) | Self::Http2Client(_) | Self::Spooled(_) => false,
        }
    }

    /// The socket, where the message is on it as it is written: then the system may move its bytes.
    pub fn plain(&self) -> Option<&Stream> {
        match self {
            Self::Socket(stream) => Some(stream).filter(|stream| stream.is_plain()),
            Self::Http2Server(_) | Self::Http2Client(_) | Self::Spooled(_) => None,
        }
    }
}
