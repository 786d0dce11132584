//! Ciphertext on its way between a socket and rustls.
//!
//! Why it exists: rustls reads 4 KiB at a time and keeps what it reads. Here a whole record comes with
//! one system call, into a buffer that all connections of a worker share.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll, ready};

use crate::stream::Stream;

/// Bytes asked of the socket at once: the largest record (RFC 8446 §5.2) and the head of the next.
const RECEIVE: usize = 17 * 1024;

thread_local! {
    /// Where a worker receives ciphertext; what is not used at once is copied from here.
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE].into());
}

/// Receives once and gives `take` what came: nothing if the peer sends nothing more.
pub(super) fn with_received<R>(
    socket: &Stream,
    take: impl FnOnce(&[u8]) -> io::Result<R>,
) -> io::Result<R> {
    RECEIVED.with_borrow_mut(|received| {
        let count = socket.try_read(received)?;
        take(received.get(..count).unwrap_or_default())
    })
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

    /// It begins as a request of HTTP does, with a method, and as no record of TLS can. Other protocols
    /// begin with a word, too ("SSH-2.0-"), but not with one of capitals alone.
    pub(super) fn is_http(&self) -> bool {
        const METHOD_MAX: usize = 16;
        let word = self.bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
        (1..=METHOD_MAX).contains(&word.len()) && word.iter().all(u8::is_ascii_uppercase)
    }

    /// What there is.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    /// Adds `bytes`.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops all but the last `left` bytes.
    pub(super) fn drop_to(&mut self, left: usize) {
        self.used = self.bytes.len().saturating_sub(left);
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Receives once. 0 means that the peer sends nothing more.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Stream,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let received = with_received(socket, |bytes| {
                self.keep(bytes);
                Ok(bytes.len())
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl Read for Ciphertext {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.rest();
        let count = rest.read(buf)?;
        let left = rest.len();
        self.drop_to(left);
        Ok(count)
    }
}

/// Lets rustls write to a socket of ours. `WouldBlock` means that the task is woken when there is
/// room.
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
