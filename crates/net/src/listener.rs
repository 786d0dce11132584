//! Listening sockets: from an address an operator wrote to sockets that workers accept from.
//!
//! What always holds: an address that another process listens at is refused, although workers share
//! it among themselves with `SO_REUSEPORT`; a file that is not a dead Unix socket is never removed, and
//! none that another process serves now ([`leave_socket_files`]).

mod stock;

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, getsockname, sockopt};

use crate::stream::stream_socket;

pub use stock::Stock;
pub(crate) use stock::local_of;

/// Connections that may wait at one listening socket, unless the operator says otherwise; the kernel
/// caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;
/// Rights of a Unix socket, less what the umask takes.
const UNIX_MODE: u32 = 0o666;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    /// Every address of the machine at this port, IPv6 and IPv4; 0 lets the kernel choose.
    Port(u16),
    /// One address and port. `[::]` is IPv6 only.
    Address(SocketAddr),
    /// A Unix stream socket at this path.
    Unix(PathBuf),
}

/// An address that is being listened at, not yet served.
#[derive(Debug)]
pub struct Bound {
    /// As it was asked for.
    pub(crate) listen: Listen,
    pub(crate) local: Local,
    /// One for each worker; a Unix socket cannot be shared out and has one.
    pub(crate) sockets: Vec<OwnedFd>,
    pub(crate) file: Option<SocketFile>,
    pub(crate) max_connections: Option<usize>,
}

/// Where a [`Bound`] listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// An address and the port that was really bound.
    Ip(SocketAddr),
    /// A path.
    Unix(PathBuf),
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Bound {
    /// Where it listens.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// The same with at most so many connections at once, over all workers; more wait in the backlog.
    #[must_use]
    pub fn with_max_connections(self, max: Option<usize>) -> Self {
        Self { max_connections: max, ..self }
    }

    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        match self.local {
            Local::Ip(address) => Some(address.port()),
            Local::Unix(_) => None,
        }
    }
}

/// Listens at `listen` with a socket for each of `workers`. From here on connections queue up, at most
/// `backlog` at each socket.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when another process listens there or a file is in the way; else
/// what the kernel says: no right to a low port, an address that is not this machine's.
pub fn bind(listen: &Listen, workers: usize, backlog: i32) -> io::Result<Bound> {
    match listen {
        Listen::Unix(path) => bind_unix(path, backlog),
        Listen::Address(address) => bind_ip(listen, *address, workers, true, backlog),
        Listen::Port(port) => {
            let every_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
            let every_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port));
            bind_ip(listen, every_v6, workers, false, backlog).or_else(|error| {
                match Errno::from_io_error(&error) {
                    // A machine without IPv6, or with it turned off.
                    Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                        bind_ip(listen, every_v4, workers, true, backlog)
                    }
                    _ => Err(error),
                }
            })
        }
    }
}

/// The first socket is bound alone, so that an address somebody else listens at is an error; only
/// then is it opened to sharing with those of the other workers.
fn bind_ip(
    listen: &Listen,
    mut address: SocketAddr,
    workers: usize,
    v6_only: bool,
    backlog: i32,
) -> io::Result<Bound> {
    let mut sockets = Vec::with_capacity(workers.max(1));
    for number in 0..workers.max(1) {
        let socket = ip_socket(&address, v6_only)?;
        if number == 0 {
            rustix::net::bind(&socket, &address)?;
            sockopt::set_socket_reuseport(&socket, true)?;
            if address.port() == 0 {
                address.set_port(SocketAddr::try_from(getsockname(&socket)?)?.port());
            }
        } else {
            sockopt::set_socket_reuseport(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
        }
        sockets.push(socket);
    }
    // All are bound before any listens: a connection must not meet half of the group.
    for socket in &sockets {
        rustix::net::listen(socket, backlog)?;
    }
    let local = Local::Ip(address);
    Ok(Bound { listen: listen.clone(), local, sockets, file: None, max_connections: None })
}

pub(crate) fn ip_socket(address: &SocketAddr, v6_only: bool) -> io::Result<OwnedFd> {
    let socket = match address {
        SocketAddr::V4(_) => stream_socket(AddressFamily::INET)?,
        SocketAddr::V6(_) => {
            let socket = stream_socket(AddressFamily::INET6)?;
            sockopt::set_ipv6_v6only(&socket, v6_only)?;
            socket
        }
    };
    sockopt::set_socket_reuseaddr(&socket, true)?; // or connections in TIME_WAIT block a restart
    sockopt::set_tcp_nodelay(&socket, true)?; // accepted sockets inherit it
    Ok(socket)
}

fn bind_unix(path: &Path, backlog: i32) -> io::Result<Bound> {
    let address = SocketAddrUnix::new(path)?;
    let socket = stream_socket(AddressFamily::UNIX)?;
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_dead_socket(path, &address)?;
            rustix::net::bind(&socket, &address)?;
        }
        result => result?,
    }
    let file = SocketFile::at(path)?;
    let mode = fs::symlink_metadata(path)?.mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode & UNIX_MODE))?;
    rustix::net::listen(&socket, backlog)?;
    Ok(Bound {
        listen: Listen::Unix(path.into()),
        local: Local::Unix(path.into()),
        sockets: vec![socket],
        file: Some(file),
        max_connections: None,
    })
}

/// Removes the socket file that a process which is gone left behind.
fn remove_dead_socket(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    let in_use = |why| io::Error::new(io::ErrorKind::AddrInUse, why);
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(in_use("a file that is not a socket is in the way"));
    }
    match rustix::net::connect(stream_socket(AddressFamily::UNIX)?, address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        _ => Err(in_use("another process listens at this socket")),
    }
}

/// The file of a listening Unix socket; removed when this is dropped, unless it has been replaced or
/// is to be left.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Whether the socket files of this process are served by another one too.
static FILES_LEFT: AtomicBool = AtomicBool::new(false);

/// Says whether this process is to leave the files of its Unix sockets where they are, because another
/// process has the sockets too and is to be found there.
pub fn leave_socket_files(leave: bool) {
    FILES_LEFT.store(leave, Ordering::SeqCst);
}

impl SocketFile {
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.into(), device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if FILES_LEFT.load(Ordering::SeqCst) {
            return;
        }
        let own = fs::symlink_metadata(&self.path)
            .is_ok_and(|now| now.dev() == self.device && now.ino() == self.inode);
        if own {
            // If it cannot be removed, the next start finds it dead and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
