//! Listening sockets that are there before anybody asks for them: passed on by the process before this
//! one, or by a service manager, or bound while the process still had the right to.
//!
//! What always holds: a socket that was passed is never closed while connections may wait at it, unless
//! the configuration does not listen there any more; nothing but a listening stream socket is taken.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::ioctl_fionbio;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, getsockname, sockopt};

use super::{Bound, Listen, Local, SocketFile, bind, ip_socket};

/// Listening sockets by where they listen.
#[derive(Debug, Default)]
pub struct Stock {
    ready: Vec<Ready>,
}

#[derive(Debug)]
struct Ready {
    listen: Listen,
    bound: io::Result<Bound>,
    /// Others may be bound beside it, for workers that have none.
    may_grow: bool,
}

impl Stock {
    /// Takes in the sockets of a listener of the process before this one, which was asked for as
    /// `listen`. With `has_file`, the file of a Unix socket is removed by whoever is the last to serve it.
    ///
    /// # Errors
    /// There is none, or one is no listening stream socket.
    pub fn pass(
        &mut self,
        listen: Listen,
        sockets: Vec<OwnedFd>,
        has_file: bool,
    ) -> io::Result<()> {
        let bound = take_over(Some(&listen), sockets, has_file)?;
        self.ready.push(Ready { listen, bound: Ok(bound), may_grow: true });
        Ok(())
    }

    /// Takes in a socket of a service manager, and says where it listens. Its file, if it has one, is the
    /// manager's.
    ///
    /// # Errors
    /// It is no listening stream socket.
    pub fn activate(&mut self, socket: OwnedFd) -> io::Result<Local> {
        let bound = take_over(None, vec![socket], false)?;
        let local = bound.local.clone();
        self.ready.push(Ready { listen: bound.listen.clone(), bound: Ok(bound), may_grow: false });
        Ok(local)
    }

    /// Binds `listen` now, for whoever asks later; also keeps why it cannot be.
    pub fn prepare(&mut self, listen: &Listen, workers: usize, backlog: i32) {
        if self.find(listen).is_none() {
            let bound = bind(listen, workers, backlog);
            self.ready.push(Ready { listen: listen.clone(), bound, may_grow: false });
        }
    }

    /// Listens at `listen` as [`bind`] does, with sockets from here if there are any. Workers beyond their
    /// number get sockets of their own where that is possible; else they get connections from the others.
    ///
    /// # Errors
    /// As for [`bind`].
    pub fn bind(&mut self, listen: &Listen, workers: usize, backlog: i32) -> io::Result<Bound> {
        let Some(found) = self.find(listen) else { return bind(listen, workers, backlog) };
        let Ready { bound, may_grow, .. } = self.ready.remove(found);
        let mut bound = bound?;
        bound.listen = listen.clone();
        for socket in &bound.sockets {
            rustix::net::listen(socket, backlog)?; // only changes the backlog
        }
        if may_grow {
            grow(&mut bound, workers, backlog);
        }
        Ok(bound)
    }

    /// Where sockets listen that nobody has asked for.
    pub fn left(&self) -> impl Iterator<Item = &Local> {
        self.ready.iter().filter_map(|ready| Some(&ready.bound.as_ref().ok()?.local))
    }

    /// By what was asked for, which tells apart addresses whose port the kernel chose; else by where it
    /// listens.
    fn find(&self, listen: &Listen) -> Option<usize> {
        let asked = self.ready.iter().position(|ready| ready.listen == *listen);
        asked.or_else(|| {
            self.ready.iter().position(|ready| {
                ready.bound.as_ref().is_ok_and(|bound| fits(listen, &bound.local))
            })
        })
    }
}

/// Whether who asked for `listen` is content with `local`.
fn fits(listen: &Listen, local: &Local) -> bool {
    match (listen, local) {
        (Listen::Address(address), Local::Ip(local)) => address == local,
        (Listen::Port(port), Local::Ip(local)) => {
            local.port() == *port && local.ip().is_unspecified()
        }
        (Listen::Unix(path), Local::Unix(local)) => path == local || same_file(path, local),
        _ => false,
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn take_over(listen: Option<&Listen>, sockets: Vec<OwnedFd>, has_file: bool) -> io::Result<Bound> {
    let Some(first) = sockets.first() else {
        return Err(io::Error::other("an address without a socket"));
    };
    let local = local_of(first)?;
    for socket in &sockets {
        let listens = sockopt::socket_type(socket)? == SocketType::STREAM
            && sockopt::socket_acceptconn(socket)?
            && local_of(socket)? == local;
        if !listens {
            return Err(io::Error::other("not a socket that listens"));
        }
        ioctl_fionbio(socket, true)?;
        if matches!(local, Local::Ip(_)) {
            sockopt::set_tcp_nodelay(socket, true)?; // accepted sockets inherit it
        }
    }
    let listen = match (listen, &local) {
        (Some(listen), _) => listen.clone(),
        (None, Local::Ip(address)) => Listen::Address(*address),
        (None, Local::Unix(path)) => Listen::Unix(path.clone()),
    };
    let file = match &listen {
        // Somebody may have removed it; then there is none to care for.
        Listen::Unix(path) if has_file => SocketFile::at(path).ok(),
        _ => None,
    };
    Ok(Bound { listen, local, sockets, file, max_connections: None })
}

/// Where a socket listens.
pub(crate) fn local_of(socket: &OwnedFd) -> io::Result<Local> {
    let address = getsockname(socket)?;
    if address.address_family() == AddressFamily::UNIX {
        let address = SocketAddrUnix::try_from(address)?;
        let path = address.path_bytes().unwrap_or_default();
        return Ok(Local::Unix(PathBuf::from(std::ffi::OsStr::from_bytes(path))));
    }
    Ok(Local::Ip(SocketAddr::try_from(address)?))
}

/// Binds sockets for the workers that have none. Where that may not be done (another user bound those
/// there are, or the port is a low one) they do without.
fn grow(bound: &mut Bound, workers: usize, backlog: i32) {
    let Local::Ip(address) = bound.local else { return };
    let v6_only =
        bound.sockets.first().is_some_and(|one| sockopt::ipv6_v6only(one).unwrap_or(true));
    while bound.sockets.len() < workers {
        let one_more = || -> io::Result<OwnedFd> {
            let socket = ip_socket(&address, v6_only)?;
            sockopt::set_socket_reuseport(&socket, true)?;
            rustix::net::bind(&socket, &address)?;
            rustix::net::listen(&socket, backlog)?;
            Ok(socket)
        };
        match one_more() {
            Ok(socket) => bound.sockets.push(socket),
            Err(_) => return,
        }
    }
}
