//! Taking connections off a listening socket, and giving each to the worker that should have it.
//!
//! What always holds: a connection is only taken when it may be kept (past `max_connections` it
//! waits in the kernel's backlog, likewise past the listener's own limit); at most [`BATCH`] are taken before other tasks run; a shortage of
//! descriptors pauses accepting and never spins.
//!
//! A connection costs one `accept4`, which also makes it non-blocking, and one `epoll_ctl` to
//! register it; at its end another `epoll_ctl` and `close`. The kernel would forget a closed
//! descriptor by itself, but tokio frees its side of a registration only after it has taken the
//! descriptor out. `TCP_NODELAY` is inherited from the listening socket and costs nothing.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc};

use crate::admission::{Admission, ConnectionGuard, Load, Place};
use crate::descriptors::Reserve;
use crate::stream::{Peer, Stream};

/// Connections taken before the worker's other tasks have their turn.
const BATCH: usize = 16;
/// Accepted sockets on their way to one worker; when it is this far behind, the others keep theirs.
pub(crate) const HAND_OVER_MAX: usize = 256;
/// Connections taken off a listening socket that is about to be closed: clients that go on connecting
/// must not keep it open.
const TAKEN_AT_THE_END: usize = 4096;
/// Pause after `accept` failed for want of a resource.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A connection that a worker is to serve.
pub struct Accepted {
    /// The connection, registered with the worker.
    pub stream: Stream,
    /// Who connected.
    pub peer: Peer,
    /// The number of the listener that took it.
    pub listener: usize,
    /// Counts the connection until it is dropped: keep it as long as the connection.
    pub guard: ConnectionGuard,
}

/// An accepted socket between two workers.
pub(crate) struct Handed {
    socket: OwnedFd,
    peer: Peer,
    listener: usize,
    guard: ConnectionGuard,
}

/// A listening socket of one worker.
pub(crate) struct Listener {
    /// Its listener's number.
    index: usize,
    socket: AsyncFd<Arc<OwnedFd>>,
    /// For the connections of its listener, if there may only be so many.
    places: Option<Arc<Semaphore>>,
}

impl Listener {
    /// Registers a listening socket with the worker this is called on.
    #[allow(unsafe_code)]
    pub(crate) fn register(
        index: usize,
        socket: Arc<OwnedFd>,
        places: Option<Arc<Semaphore>>,
    ) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open and keeps its number until it is dropped, `AsyncFd` has a share
        // of it from here on, and nothing in this module takes it out or changes it.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self { index, socket: registered?, places })
    }
}

/// One worker's door: what its accepting tasks share.
pub(crate) struct Door {
    pub(crate) worker: usize,
    pub(crate) admission: Arc<Admission>,
    /// The way to each worker, by its number.
    pub(crate) others: Vec<mpsc::Sender<Handed>>,
    pub(crate) reserve: RefCell<Reserve>,
    pub(crate) serve: Box<dyn Fn(Accepted)>,
}

/// Takes connections of one listener until it is aborted.
pub(crate) async fn accept_all(door: Rc<Door>, listener: Rc<Listener>) {
    loop {
        let mut batch = 0;
        // Fails only when the worker ends.
        let Ok(mut readiness) = listener.socket.readable().await else { return };
        let failure = loop {
            let place = door.admission.place(listener.places.as_ref()).await;
            match readiness.try_io(|socket| accept(socket.as_fd())) {
                Ok(Ok((socket, peer))) => door.admit(listener.index, socket, peer, place),
                Ok(Err(error)) if concerns_one_connection(&error) => {}
                Ok(Err(error)) => break Some(error),
                Err(_nothing_waits) => break None,
            }
            batch += 1;
            if batch == BATCH {
                batch = 0;
                tokio::task::yield_now().await;
            }
        };
        drop(readiness);
        if let Some(error) = failure {
            door.shortage(&listener, &error);
            tokio::time::sleep(BACK_OFF).await;
        }
    }
}

/// Serves what other workers hand over, until the worker ends.
pub(crate) async fn receive(door: Rc<Door>, mut inbox: mpsc::Receiver<Handed>) {
    while let Some(handed) = inbox.recv().await {
        door.serve(handed);
    }
}

/// Takes one connection, if one waits.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Peer)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, address) = acceptfrom_with(listener, flags)?;
    let peer = match address.map(std::net::SocketAddr::try_from) {
        Some(Ok(mut address)) => {
            address.set_ip(address.ip().to_canonical());
            Peer::Ip(address)
        }
        _ => Peer::Unix,
    };
    Ok((socket, peer))
}

impl Door {
    /// Serves everything that already waits at `listener`, which is about to be closed.
    pub(crate) fn empty(&self, listener: &Listener) {
        for _ in 0..TAKEN_AT_THE_END {
            let Some(place) = self.admission.place_now(listener.places.as_ref()) else { return };
            match accept(listener.socket.as_fd()) {
                Ok((socket, peer)) => self.admit(listener.index, socket, peer, place),
                Err(error) if concerns_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn admit(&self, listener: usize, socket: OwnedFd, peer: Peer, place: Place) {
        let load = self.admission.load(self.worker);
        Load::count(&load.accepted);
        let Some(guard) = self.admission.enter(self.worker, &peer, place) else {
            Load::count(&load.refused);
            return;
        };
        let to = guard.worker();
        let handed = Handed { socket, peer, listener, guard };
        if to == self.worker {
            return self.serve(handed);
        }
        let result = match self.others.get(to) {
            Some(other) => other.try_send(handed).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(handed),
        };
        match result {
            Ok(()) => Load::count(&load.handed_over),
            Err(mut kept) => {
                kept.guard.move_to(self.worker);
                self.serve(kept);
            }
        }
    }

    fn serve(&self, handed: Handed) {
        let Handed { socket, peer, listener, guard } = handed;
        match Stream::from_accepted(socket, &peer) {
            Ok(stream) => {
                let accepted = Accepted { stream, peer, listener, guard };
                // A fault in setting up one connection must not make the worker deaf. The panic
                // hook has reported it.
                let _ = catch_unwind(AssertUnwindSafe(|| (self.serve)(accepted)));
            }
            Err(_) => Load::count(&self.admission.load(self.worker).errors),
        }
    }

    fn shortage(&self, listener: &Listener, error: &io::Error) {
        let load = self.admission.load(self.worker);
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => {
                Load::count(&load.shortages);
                self.reserve.borrow_mut().shed(listener.socket.as_fd());
            }
            Some(Errno::NOBUFS | Errno::NOMEM) => Load::count(&load.shortages),
            _ => Load::count(&load.errors),
        }
    }
}

/// Whether `accept` reported the fate of one connection, which is gone, rather than of the listener.
/// Linux passes on network errors that wait on the new socket (accept(2), "Error handling").
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
        )
    )
}
