//! A connected, non-blocking byte stream: TCP or a Unix socket, seen by the rest of Ravelin as one
//! type.
//!
//! Why it exists: the data path may spend exactly one system call on a read and one on a write, and
//! must notice that an idle connection was closed without any. Tokio's own `&mut self` traits would
//! also force one side of an exchange to be borrowed while the other waits.
//!
//! What always holds:
//! - Every call works on `&self`; reader and writer of one stream belong to one task.
//! - A read or write that moves fewer bytes than asked clears the readiness that tokio remembers.
//!   Epoll is edge-triggered, so the kernel reports the next byte (or the next free space) by
//!   itself, and no call is spent on being told `EAGAIN`.
//! - Each `poll_*` function waits for readiness through tokio, which spends the task's budget: a
//!   peer that always has bytes ready cannot keep other tasks from running.

use std::ffi::c_int;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use crate::clock;
use crate::tls::{Facts, TlsStream};

/// Bytes in a socket's send queue (tcp(7), unix(7)): the number is the same everywhere but on MIPS,
/// PowerPC and SPARC.
const SIOCOUTQ: Opcode = 0x5411;

/// A connected stream socket, registered with the worker that made it.
#[derive(Debug)]
pub enum Stream {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
    /// Either of them with TLS.
    Tls(Box<TlsStream>),
}

/// Who is at the other end of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An IP address and port. An IPv4 peer of a dual-stack socket is given as IPv4.
    Ip(SocketAddr),
    /// A process of this machine, which has no address.
    Unix,
}

impl Peer {
    /// The peer's IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl Stream {
    /// Connects to `address` with `TCP_NODELAY`: three system calls, registration, and no more when
    /// the connection succeeds. Takes no time limit of its own; drop the future to give up.
    ///
    /// # Errors
    /// What the kernel says: refused, unreachable, timed out, no descriptor left.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = stream_socket(family)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from_std(socket.into())?;
        let readiness = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
        // A connection that failed always reports an error or hang-up with its writability, so the
        // good case needs no SO_ERROR.
        if readiness.is_error() || readiness.is_write_closed() {
            let error = stream.take_error()?;
            return Err(error.unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()));
        }
        Ok(Self::Tcp(stream))
    }

    /// Connects to the Unix stream socket at `path`.
    ///
    /// # Errors
    /// What the kernel says; [`io::ErrorKind::ResourceBusy`] when the listener's backlog is full.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let socket = stream_socket(AddressFamily::UNIX)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(io::ErrorKind::ResourceBusy.into()),
            Err(error) => return Err(error.into()),
        }
        Ok(Self::Unix(UnixStream::from_std(socket.into())?))
    }

    /// Two connected Unix streams, each the other's peer.
    ///
    /// # Errors
    /// No descriptor left, or not called on a worker.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self::Unix(one), Self::Unix(other)))
    }

    /// Registers an accepted socket, already non-blocking, with this worker.
    pub(crate) fn from_accepted(socket: OwnedFd, peer: &Peer) -> io::Result<Self> {
        Ok(match peer {
            Peer::Ip(_) => Self::Tcp(TcpStream::from_std(socket.into())?),
            Peer::Unix => Self::Unix(UnixStream::from_std(socket.into())?),
        })
    }

    /// Reads into `buf`, which must not be empty. 0 means that the peer sends nothing more.
    ///
    /// # Errors
    /// What the kernel says about the connection.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Self::Tls(stream) = self {
            return stream.poll_read(cx, buf);
        }
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Ready when a read may give bytes, the end, or an error. Lets an idle connection wait without
    /// holding a buffer.
    ///
    /// # Errors
    /// Only when the worker is ending.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Whether a read may give something; costs no system call. As long as it may not, the task that
    /// [`Stream::poll_read_ready`] left waiting is still going to be woken, if nobody has tried to read since.
    pub fn is_read_ready(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            // It may hold what it has read already.
            Self::Tls(_) => true,
        }
    }

    /// Ready when a write may be taken.
    ///
    /// # Errors
    /// Only when the worker is ending.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
            Self::Tls(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Reads what is there now into `buf`, which must not be empty. No system call when tokio has
    /// seen no readiness.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there; else what the kernel says.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        if let Self::Tls(stream) = self {
            return stream.try_read(buf);
        }
        let mut short = None;
        let result = self.try_io(Interest::READABLE, || {
            let room = buf.len();
            let (_, read) = rustix::net::recv(self, &mut *buf, RecvFlags::empty())?;
            if 0 < read && read < room {
                short = Some(read);
                return Err(io::ErrorKind::WouldBlock.into()); // makes tokio clear the readiness
            }
            Ok(read)
        });
        short.map_or(result, Ok)
    }

    /// Reads what is there now into `room`, which must not be empty, and gives what was read. No system call when
    /// tokio has seen no readiness.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there; [`io::ErrorKind::InvalidInput`] on TLS; else what
    /// the kernel says.
    #[inline]
    pub fn try_read_uninit<'r>(&self, room: &'r mut [MaybeUninit<u8>]) -> io::Result<&'r mut [u8]> {
        let size = room.len();
        let mut bytes = &mut [][..];
        let result = self.try_io(Interest::READABLE, || {
            ((bytes, _), _) = rustix::net::recv(self, room, RecvFlags::empty())?;
            match !bytes.is_empty() && bytes.len() < size {
                true => Err(io::ErrorKind::WouldBlock.into()), // makes tokio clear the readiness
                false => Ok(()),
            }
        });
        match result {
            Err(error) if bytes.is_empty() => Err(error),
            _ => Ok(bytes),
        }
    }

    /// Looks at what is there now without taking it: 1 if there are bytes, 0 if the peer sends
    /// nothing more. No system call when tokio has seen no readiness.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there; else what the kernel says.
    pub fn try_peek(&self) -> io::Result<usize> {
        if let Self::Tls(stream) = self {
            return stream.try_peek();
        }
        self.try_io(Interest::READABLE, || {
            let (_, read) = rustix::net::recv(self, &mut [0], RecvFlags::PEEK)?;
            Ok(read)
        })
    }

    /// Looks at the first bytes of what is there now without taking them, as far as `buf` has room;
    /// says how many there are, 0 if the peer sends nothing more. If `enough` does not say that they
    /// suffice, and more may come, the socket counts as ready again only when more have come. Once it
    /// is known that no more come, those there are suffice.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there, or not enough; [`io::ErrorKind::InvalidInput`]
    /// on TLS; else what the kernel says.
    pub fn try_peek_at(
        &self,
        buf: &mut [u8],
        enough: impl FnOnce(&[u8]) -> bool,
    ) -> io::Result<usize> {
        // Asked first: what came before the end is there then.
        let ended = self.saw_end();
        self.try_io(Interest::READABLE, || {
            let (_, seen) = rustix::net::recv(self, &mut *buf, RecvFlags::PEEK)?;
            let all = seen == 0 || seen == buf.len() || ended;
            match all || enough(buf.get(..seen).unwrap_or_default()) {
                true => Ok(seen),
                false => Err(io::ErrorKind::WouldBlock.into()), // makes tokio clear the readiness
            }
        })
    }

    /// The kernel has reported that the peer sends nothing more than what is there. That it did makes
    /// the socket ready for good: who waits for more without asking this never rests.
    fn saw_end(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let readiness = match self {
            Self::Tcp(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
            Self::Unix(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
            Self::Tls(_) => Poll::Pending,
        };
        matches!(readiness, Poll::Ready(Ok(readiness)) if readiness.is_read_closed())
    }

    /// Takes exactly the first `buf.len()` bytes, which [`Stream::try_peek_at`] has shown, and leaves
    /// the socket ready if it was.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] on TLS or when there are fewer; else what the kernel says.
    pub fn take_peeked(&self, buf: &mut [u8]) -> io::Result<()> {
        self.try_io(Interest::READABLE, || {
            let wanted = buf.len();
            let (_, read) = rustix::net::recv(self, &mut *buf, RecvFlags::empty())?;
            if read == wanted { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
        })
    }

    /// Writes some of `bytes`, telling the kernel that more follows at once.
    ///
    /// # Errors
    /// What the kernel says about the connection.
    pub fn poll_write_more(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Self::Tls(stream) = self {
            return stream.poll_write_vectored(cx, &[IoSlice::new(bytes)]);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
        self.poll_send(cx, bytes.len(), || rustix::net::send(self, bytes, flags))
    }

    /// Writes some of `bytes`.
    ///
    /// # Errors
    /// What the kernel says about the connection.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Self::Tls(stream) = self {
            return stream.poll_write_vectored(cx, &[IoSlice::new(bytes)]);
        }
        self.poll_send(cx, bytes.len(), || rustix::net::send(self, bytes, SendFlags::NOSIGNAL))
    }

    /// Writes some of `bytes` now, without spending the task's budget. No system call when tokio has seen no
    /// room.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is no room; [`io::ErrorKind::InvalidInput`] on TLS; else what
    /// the kernel says about the connection.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_send(bytes.len(), || rustix::net::send(self, bytes, SendFlags::NOSIGNAL))
    }

    /// Writes some of `slices` in order, as one segment where the kernel can.
    ///
    /// # Errors
    /// What the kernel says about the connection.
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Self::Tls(stream) = self {
            return stream.poll_write_vectored(cx, slices);
        }
        match slices {
            [one] => self.poll_write(cx, one),
            [one, rest] if rest.is_empty() => self.poll_write(cx, one),
            [head, one] if head.is_empty() => self.poll_write(cx, one),
            _ => {
                let total = slices.iter().map(|slice| slice.len()).sum();
                self.poll_send(cx, total, || rustix::io::writev(self, slices))
            }
        }
    }

    /// Writes some of `slices` in order, telling the kernel that more follows at once.
    ///
    /// # Errors
    /// What the kernel says about the connection.
    pub fn poll_write_vectored_more(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Self::Tls(stream) = self {
            return stream.poll_write_vectored(cx, slices);
        }
        let total = slices.iter().map(|slice| slice.len()).sum();
        let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
        self.poll_send(cx, total, || {
            rustix::net::sendmsg(self, slices, &mut SendAncillaryBuffer::default(), flags)
        })
    }

    /// Whether an idle connection is fit to be used again: still open, and the peer has sent
    /// nothing. Costs no system call unless the kernel has reported something about it; what it
    /// reports later than the worker's last look is not seen.
    pub fn idle_check(&self) -> bool {
        if let Self::Tls(stream) = self {
            return stream.idle_check();
        }
        match self.try_read(&mut [0]) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }

    /// Tells the peer that nothing more will be sent; reading goes on.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] when the peer has reset the connection.
    pub fn shutdown_write(&self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            return stream.shutdown_write();
        }
        Ok(rustix::net::shutdown(self, Shutdown::Write)?)
    }

    /// Makes the close of a TCP connection a reset, so that the peer cannot take a cut-off message
    /// for a complete one. Bytes not yet sent are lost.
    pub fn reset_on_close(&self) {
        match self {
            // It can only fail for a socket that is no longer connected, where it has no meaning.
            Self::Tcp(stream) => drop(stream.set_zero_linger()),
            Self::Unix(_) => {}
            Self::Tls(stream) => stream.reset_on_close(),
        }
    }

    /// How many bytes written here the peer's system has not taken yet. `None` where the kernel does
    /// not say.
    #[allow(unsafe_code)]
    pub fn untaken(&self) -> Option<u64> {
        // SAFETY: this request stores one C int, on every architecture that has it under this number;
        // elsewhere the kernel refuses the number for a socket.
        let queued = unsafe { rustix::ioctl::ioctl(self, Getter::<SIOCOUTQ, c_int>::new()) };
        queued.ok().and_then(|bytes| u64::try_from(bytes).ok())
    }

    /// The address that the peer of this TCP connection connected to, or is connected from. `None` for
    /// a Unix socket. Costs a system call.
    pub fn local_address(&self) -> Option<SocketAddr> {
        rustix::net::getsockname(self).ok()?.try_into().ok()
    }

    /// Whether this is TCP, with or without TLS.
    pub fn is_tcp(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Unix(_) => false,
            Self::Tls(stream) => stream.socket().is_tcp(),
        }
    }

    /// The system may move its bytes (`splice`, `sendfile`): there is no TLS on it.
    pub fn is_plain(&self) -> bool {
        self.tls().is_none()
    }

    /// What the TLS handshake settled.
    pub fn tls(&self) -> Option<&Facts> {
        match self {
            Self::Tls(stream) => Some(stream.facts()),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Runs `operation`, which must be non-blocking input or output on this socket, if tokio has
    /// seen readiness for `interest`. `WouldBlock` from it clears that readiness. `InvalidInput` for
    /// a stream with TLS.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        operation: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        clock::step();
        match self {
            Self::Tcp(stream) => stream.try_io(interest, operation),
            Self::Unix(stream) => stream.try_io(interest, operation),
            // Nobody but TLS itself may touch the socket.
            Self::Tls(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Waits for room, then sends once. `total` is what `send` would send at most.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        total: usize,
        send: impl Fn() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(cx))?;
            match self.try_send(total, &send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Sends once, if tokio has seen that there is room.
    fn try_send(
        &self,
        total: usize,
        send: impl FnOnce() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut short = None;
        let result = self.try_io(Interest::WRITABLE, || {
            let sent = send()?;
            if 0 < sent && sent < total {
                short = Some(sent);
                return Err(io::ErrorKind::WouldBlock.into()); // the socket's buffer is full
            }
            Ok(sent)
        });
        short.map_or(result, Ok)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.socket().as_fd(),
        }
    }
}

/// A new non-blocking stream socket that child processes do not inherit, in one system call.
pub(crate) fn stream_socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}
