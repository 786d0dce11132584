//! Where the admin API listens: a Unix socket, an address for those who have the key, an address for
//! those who collect metrics, one for the stats page.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use config::model::{AdminSocket, Management};
use proxy::log::ErrorLog;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::gate::Caller;
use super::patient::Patient;
use super::places::{Places, Seat};
use super::{State, bounds, connection, socket};
use crate::orders::Author;
use crate::{stats_page, text_commands};

/// Between two attempts to listen at an address that somebody else has.
const AGAIN: Duration = Duration::from_millis(500);

/// The same of a process that takes over: the one before it gives its address up when this one serves, and
/// until it is had here nobody is there.
const AGAIN_SOON: Duration = Duration::from_millis(10);

/// Attempts that fail before an operator is told, of a process that takes over.
const OVERLAP: u32 = 1000;

/// After a failure to accept, which is for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);

/// A key that can be found by trying is none.
const KEY_LENGTH: usize = 16;

/// What is being listened at.
pub(super) struct Listeners {
    configuration: Vec<PathBuf>,
    unix: Option<Unix>,
    tcp: Option<Tcp>,
    metrics: Option<Tcp>,
    stats: Option<Tcp>,
}

struct Unix {
    path: PathBuf,
    mode: u32,
    _accepting: Accepting,
    file: socket::File,
}

struct Tcp {
    address: SocketAddr,
    _accepting: Accepting,
}

/// A task that accepts connections; it ends with this.
struct Accepting(AbortHandle);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listeners {
    pub(super) fn new(configuration: &[PathBuf]) -> Self {
        Self {
            configuration: configuration.to_vec(),
            unix: None,
            tcp: None,
            metrics: None,
            stats: None,
        }
    }

    /// Listens where `management` says and nowhere else. Addresses that are the same stay open.
    pub(super) async fn set(
        &mut self,
        management: &Management,
        state: &Rc<State>,
        starting: bool,
    ) -> Result<(), String> {
        let log = &state.running.log;
        self.set_tcp(management, state);
        if self.metrics.as_ref().map(|tcp| tcp.address) != management.metrics {
            self.metrics = management.metrics.map(|address| {
                let serve = |stream, _, local, state, seat| {
                    let stream = patient(stream, Vec::new(), &seat);
                    connection::serve(state, Caller::Metrics { local }, stream, seat)
                };
                Tcp::listen(address, "metrics", state, serve)
            });
        }
        let stats = management.stats.as_ref().map(|stats| stats.listen);
        if self.stats.as_ref().map(|tcp| tcp.address) != stats {
            self.stats = stats.map(|address| {
                let serve =
                    |stream, peer: SocketAddr, local: SocketAddr, state: Rc<State>, seat| {
                        let stream = patient(stream, Vec::new(), &seat);
                        let ends = stats_page::Ends { peer: peer.ip(), local: local.ip() };
                        stats_page::serve(state.running.clone(), ends, stream, seat)
                    };
                Tcp::listen(address, "stats page", state, serve)
            });
        }
        let (path, own) = match &management.socket {
            AdminSocket::None => {
                self.unix = None;
                return Ok(());
            }
            AdminSocket::Default => (socket::default_path(&self.configuration), true),
            AdminSocket::Path(path) => (path.clone(), false),
        };
        let mode = management.socket_mode;
        let is_same = |unix: &Unix| unix.path == path && unix.mode == mode && unix.file.is_there();
        if self.unix.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        self.unix = None;
        match Unix::listen(path.clone(), mode, own, state).await {
            Ok(unix) => {
                log.info(format_args!("admin socket {}", path.display()));
                self.unix = Some(unix);
            }
            Err(error) => {
                let message = format!("no admin socket at {}: {error}", path.display());
                if starting && !own {
                    return Err(message);
                }
                log.warn(format_args!(
                    "{message}; `ravelin status` and the like will not find this process"
                ));
            }
        }
        Ok(())
    }

    fn set_tcp(&mut self, management: &Management, state: &Rc<State>) {
        let log = &state.running.log;
        let Some(address) = management.tcp else {
            self.tcp = None;
            return;
        };
        doubts(address, management, log);
        if self.tcp.as_ref().is_some_and(|tcp| tcp.address == address) {
            return;
        }
        let serve = |stream, peer, local, state, seat| {
            let stream = patient(stream, Vec::new(), &seat);
            connection::serve(state, Caller::Tcp { peer, local }, stream, seat)
        };
        self.tcp = Some(Tcp::listen(address, "admin API", state, serve));
    }

    /// Accepts no more connections.
    pub(super) fn close(&mut self) {
        self.tcp = None;
        self.metrics = None;
        self.stats = None;
        // The file is another's by now, or it is removed with this.
        self.unix = None;
    }
}

/// What an operator should know who has opened this address.
fn doubts(address: SocketAddr, management: &Management, log: &ErrorLog) {
    match &management.api_key {
        None if address.ip().to_canonical().is_loopback() => log.warn(format_args!(
            "admin: without an `api_key` in `[management]` every process of this machine may look at \
             everything and have the configuration read again"
        )),
        None => log.warn(format_args!(
            "admin: {address} is open to other machines, which are not answered without an `api_key` \
             in `[management]`"
        )),
        Some(key) if key.0.len() < KEY_LENGTH => log.warn(format_args!(
            "admin: the `api_key` is short enough to be guessed; take {KEY_LENGTH} characters or more, \
             such as `openssl rand -hex 24` writes"
        )),
        Some(_) => {}
    }
}

impl Unix {
    async fn listen(
        path: PathBuf,
        mode: u32,
        own_directory: bool,
        state: &Rc<State>,
    ) -> io::Result<Self> {
        let listening = socket::listen(&path, mode, own_directory, state.takes_over);
        let (listener, file) = listening.await?;
        let accepting = tokio::task::spawn_local(accept_unix(listener, Rc::clone(state)));
        Ok(Self { path, mode, _accepting: Accepting(accepting.abort_handle()), file })
    }
}

async fn accept_unix(listener: UnixListener, state: Rc<State>) {
    let places = Places::new(bounds::CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                serve_at(&places, |seat| first_line(Rc::clone(&state), stream, seat)).await;
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Serves a connection that has come, as soon as there is a place for it.
async fn serve_at<F>(places: &Rc<Places>, serve: impl FnOnce(Rc<Seat>) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let place = places.take().await;
    let seat = place.seat();
    let served = serve(Rc::clone(&seat));
    let task = tokio::task::spawn_local(async move {
        served.await;
        drop(place);
    });
    seat.is_served_by(task.abort_handle());
}

fn patient<S>(stream: S, early: Vec<u8>, seat: &Rc<Seat>) -> Patient<S> {
    Patient::new(stream, early, bounds::WRITE_TIME, Rc::clone(seat))
}

/// What is spoken on a connection of the Unix socket is said by its first line.
async fn first_line(state: Rc<State>, mut stream: UnixStream, seat: Rc<Seat>) {
    let who = match stream.peer_cred() {
        Ok(peer) => match peer.pid() {
            Some(pid) => format!("uid {} pid {pid}", peer.uid()),
            None => format!("uid {}", peer.uid()),
        },
        Err(_) => "unknown".to_owned(),
    };
    let mut early = Vec::new();
    let read = timeout(bounds::FIRST_LINE_TIME, read_line(&mut stream, &mut early)).await;
    if !matches!(read, Ok(Ok(()))) || early.is_empty() {
        return;
    }
    let http = is_http(&early);
    let stream = patient(stream, early, &seat);
    if http {
        connection::serve(state, Caller::Unix(who), stream, seat).await;
    } else {
        let level = state.gate.borrow().socket_level();
        // That a client breaks off is its own affair.
        let _ = text_commands::serve(&state.running, stream, &Author::new(who), level, &seat).await;
    }
}

/// Reads until there is a whole line, or no more comes, or more than a line may have.
async fn read_line(stream: &mut (impl AsyncRead + Unpin), line: &mut Vec<u8>) -> io::Result<()> {
    while !line.contains(&b'\n') && line.len() < bounds::FIRST_LINE_MAX {
        if stream.read_buf(line).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Whether this begins with the first line of an HTTP request.
fn is_http(bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return bytes.len() >= bounds::FIRST_LINE_MAX;
    };
    let line = bytes.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    version.starts_with(b"HTTP/")
}

/// Serves a connection: who is at its other end, and at which address of this machine it is.
type Serve<F> = fn(TcpStream, SocketAddr, SocketAddr, Rc<State>, Rc<Seat>) -> F;

impl Tcp {
    /// Listens at `address`, as soon as that can be had.
    fn listen<F>(
        address: SocketAddr,
        what: &'static str,
        state: &Rc<State>,
        serve: Serve<F>,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let accepting = accept_tcp(address, what, Rc::clone(state), serve);
        let accepting = tokio::task::spawn_local(accepting).abort_handle();
        Self { address, _accepting: Accepting(accepting) }
    }
}

async fn accept_tcp<F>(address: SocketAddr, what: &'static str, state: Rc<State>, serve: Serve<F>)
where
    F: Future<Output = ()> + 'static,
{
    let listener = bind(address, what, &state).await;
    let places = Places::new(bounds::CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(local) = stream.local_addr() else { continue };
                let _ = stream.set_nodelay(true); // slower without, no more
                let serve = |seat| serve(stream, peer, local, Rc::clone(&state), seat);
                serve_at(&places, serve).await;
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The listener, when the address can be had: after an upgrade the process before this one may still have it.
async fn bind(address: SocketAddr, what: &str, state: &State) -> TcpListener {
    let log = &state.running.log;
    let patience = if state.takes_over { OVERLAP } else { 0 };
    let mut failures: u32 = 0;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                log.info(format_args!("{what} at http://{address}"));
                return listener;
            }
            Err(error) if failures == patience => log.warn(format_args!(
                "{what}: cannot listen on {address}: {error}; trying again until it can be had"
            )),
            Err(_) => {}
        }
        sleep(if failures < patience { AGAIN_SOON } else { AGAIN }).await;
        failures = failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_is_spoken() {
        for line in ["GET / HTTP/1.1\r\n", "GET / HTTP/1.0\n", "PRI * HTTP/2.0\r\n\r\nSM"] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in ["show stat\n", "show info", "\n", "", "set server a/b weight 1; help\r\n"] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
        assert!(is_http(&vec![b'a'; bounds::FIRST_LINE_MAX]));
    }
}
