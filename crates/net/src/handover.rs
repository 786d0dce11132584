//! From one process to the one that takes its place: listening sockets, keys, and who serves from when on.
//!
//! The two have a pair of connected sockets. A message is one packet, so that it is there whole or not at
//! all, and the end of either process is seen by the other as the end of the connection:
//!
//! ```text
//! old                                          new (its standard input is the socket)
//!  | Hello, Listener..., Item..., Over  ------>  |
//!  |                                             | reads the configuration, takes the sockets, starts
//!  | <------------------------  Ready or Failed  |
//!  | accepts no more, lets connections end       | serves
//!  | <----------------------------- (Gone...)    | listens somewhere no more
//!  | <-------------------------------- (Ending)  | is told to end before the old one has
//! ```
//!
//! What always holds: at every moment the listening sockets are open in a process that accepts from
//! them or will; messages are bounded ([`MESSAGE_BYTES_MAX`], [`SOCKETS_MAX`]); nothing in them is
//! written anywhere else.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zeroize::Zeroizing;

use crate::listener::{Listen, Local};

/// Longest message, in bytes: ample for a path, a key, or what went wrong.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Sockets in one message: the kernel takes no more (`SCM_MAX_FD`).
pub const SOCKETS_MAX: usize = 253;
/// What is understood here. One that says another number is not understood.
const VERSION: u32 = 1;
/// Descriptors that a service manager passes begin here (sd_listen_fds(3)).
const ACTIVATED_FIRST: RawFd = 3;
/// More are a mistake.
const ACTIVATED_MAX: RawFd = 4096;

/// Something that one process tells the other.
#[derive(Debug)]
pub enum Message {
    /// First of all: the version of the program that speaks.
    Hello(String),
    /// A listener. One with more sockets than a message holds comes in several.
    Listener {
        /// As it was asked for.
        listen: Listen,
        /// There is a file that the last to serve it removes.
        has_file: bool,
        /// Its sockets.
        sockets: Vec<Arc<OwnedFd>>,
    },
    /// Something secret that goes on to be used, by its name.
    Item(String, Zeroizing<Vec<u8>>),
    /// That was all.
    Over,
    /// The new process serves.
    Ready,
    /// The new process cannot serve, and says why.
    Failed(String),
    /// The new process does not listen here (any more): nobody is to hold clients that come there.
    Gone(Local),
    /// The new process ends because it was told to: the old one is not to serve in its place.
    Ending,
}

/// One end of the connection between the two.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Two connected ends. The second is for the standard input of the new process.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: own }, other))
    }

    /// The end that is this process's standard input, where `/dev/null` takes its place.
    ///
    /// # Errors
    /// Standard input is no such socket.
    pub fn from_stdin() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        if sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::Error::other("standard input is not what a process hands over by"));
        }
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Self { socket })
    }

    /// Sending and receiving wait at most so long each.
    ///
    /// # Errors
    /// None that is known of.
    pub fn set_timeout(&self, time: Duration) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(time))?;
        Ok(sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Send, Some(time))?)
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// The other process is gone ([`io::ErrorKind::BrokenPipe`]), or the message is too long.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        self.send_as(message, SendFlags::NOSIGNAL)
    }

    /// Sends a message if there is room for it: also to a process that does not exist yet.
    ///
    /// # Errors
    /// As [`Channel::send`]; there is no room ([`io::ErrorKind::WouldBlock`]).
    pub fn try_send(&self, message: &Message) -> io::Result<()> {
        self.send_as(message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_as(&self, message: &Message, flags: SendFlags) -> io::Result<()> {
        let (bytes, sockets) = encode(message);
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
        if bytes.len() > MESSAGE_BYTES_MAX || sockets.len() > SOCKETS_MAX {
            return Err(io::Error::other("too much for one message"));
        }
        let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("too many sockets for one message"));
        }
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, flags)?;
        Ok(())
    }

    /// The next message, waiting for it. `None` when the other process is gone.
    ///
    /// # Errors
    /// What comes is not understood; or nothing comes in time.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut bytes = Zeroizing::new(vec![0; MESSAGE_BYTES_MAX]);
        let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut bytes)];
        let received = loop {
            match recvmsg(&self.socket, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // It has ended with something unread. That is told once, before what it has said itself.
                Err(rustix::io::Errno::CONNRESET) => {}
                received => break received?,
            }
        };
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                sockets.extend(passed.map(Arc::new));
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a message was cut short: too few descriptors are left"));
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let message = bytes.get(..received.bytes).and_then(|bytes| decode(bytes, sockets));
        match message {
            Some(message) => Ok(Some(message)),
            None => Err(io::Error::other("a message that is not understood")),
        }
    }

    /// For waiting on the runtime this is called on.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    #[allow(unsafe_code)]
    pub fn watched(self) -> io::Result<Watched> {
        ioctl_fionbio(&self.socket, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: a `Channel` keeps its descriptor open, and the number of it, until it is dropped, and
        // nothing in this module takes it out.
        let watched = unsafe { AsyncFd::register_with_interest(self, interest) };
        Ok(Watched(watched?))
    }
}

/// One end, watched by a runtime.
#[derive(Debug)]
pub struct Watched(AsyncFd<Channel>);

impl Watched {
    /// The next message. `None` when the other process is gone.
    ///
    /// # Errors
    /// As [`Channel::receive`].
    pub async fn receive(&self) -> io::Result<Option<Message>> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(received) = ready.try_io(|channel| channel.get_ref().receive()) {
                return received;
            }
        }
    }

    /// Sends a message, waiting for room. If this is cancelled, nothing was sent.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub async fn send(&self, message: &Message) -> io::Result<()> {
        loop {
            let mut ready = self.0.writable().await?;
            if let Ok(sent) = ready.try_io(|channel| channel.get_ref().send(message)) {
                return sent;
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A word, perhaps a space and more.
fn encode(message: &Message) -> (Zeroizing<Vec<u8>>, &[Arc<OwnedFd>]) {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut sockets: &[_] = &[];
    match message {
        Message::Hello(version) => {
            bytes.extend_from_slice(format!("hello {VERSION} {version}").as_bytes());
        }
        Message::Listener { listen, has_file, sockets: passed } => {
            bytes.extend_from_slice(if *has_file { b"listener file " } else { b"listener - " });
            match listen {
                Listen::Port(port) => bytes.extend_from_slice(format!("port {port}").as_bytes()),
                Listen::Address(address) => {
                    bytes.extend_from_slice(format!("address {address}").as_bytes());
                }
                Listen::Unix(path) => {
                    bytes.extend_from_slice(b"unix ");
                    bytes.extend_from_slice(path.as_os_str().as_bytes());
                }
            }
            sockets = passed;
        }
        Message::Item(name, content) => {
            // Reserved in one go: growing would leave a copy behind that nobody wipes.
            bytes.reserve_exact(6 + name.len() + content.len());
            bytes.extend_from_slice(format!("item {name} ").as_bytes());
            bytes.extend_from_slice(content);
        }
        Message::Over => bytes.extend_from_slice(b"over"),
        Message::Ready => bytes.extend_from_slice(b"ready"),
        Message::Failed(why) => {
            bytes.extend_from_slice(b"failed ");
            let most = MESSAGE_BYTES_MAX - bytes.len();
            bytes.extend(why.bytes().take(most));
        }
        Message::Gone(Local::Ip(address)) => {
            bytes.extend_from_slice(format!("gone address {address}").as_bytes());
        }
        Message::Gone(Local::Unix(path)) => {
            bytes.extend_from_slice(b"gone unix ");
            bytes.extend_from_slice(path.as_os_str().as_bytes());
        }
        Message::Ending => bytes.extend_from_slice(b"ending"),
    }
    (bytes, sockets)
}

fn decode(bytes: &[u8], sockets: Vec<Arc<OwnedFd>>) -> Option<Message> {
    let (kind, rest) = word(bytes);
    let message = match kind {
        b"hello" => {
            let (version, program) = word(rest);
            if parse::<u32>(version)? != VERSION {
                return None;
            }
            Message::Hello(String::from_utf8_lossy(program).into_owned())
        }
        b"listener" => {
            let (file, rest) = word(rest);
            let (kind, rest) = word(rest);
            let listen = match kind {
                b"port" => Listen::Port(parse(rest)?),
                b"address" => Listen::Address(parse::<SocketAddr>(rest)?),
                b"unix" => Listen::Unix(path(rest)),
                _ => return None,
            };
            return Some(Message::Listener { listen, has_file: file == b"file", sockets });
        }
        b"item" => {
            let (name, content) = word(rest);
            let name = String::from_utf8_lossy(name).into_owned();
            Message::Item(name, Zeroizing::new(content.to_vec()))
        }
        b"over" => Message::Over,
        b"ready" => Message::Ready,
        b"failed" => Message::Failed(String::from_utf8_lossy(rest).into_owned()),
        b"gone" => {
            let (kind, rest) = word(rest);
            Message::Gone(match kind {
                b"address" => Local::Ip(parse(rest)?),
                b"unix" => Local::Unix(path(rest)),
                _ => return None,
            })
        }
        b"ending" => Message::Ending,
        _ => return None,
    };
    sockets.is_empty().then_some(message)
}

/// What stands before the first space, and what after it.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b' ') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

fn parse<T: FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The sockets that a service manager passed to this process (sd_listen_fds(3)): as many as it says, if
/// they are meant for process `meant_for`. They are given once; who asks again gets none.
///
/// # Errors
/// One of them is not open.
#[allow(unsafe_code)]
pub fn activated(meant_for: Option<&str>, number: Option<&str>) -> io::Result<Vec<OwnedFd>> {
    use std::os::fd::FromRawFd;
    static GIVEN: AtomicBool = AtomicBool::new(false);
    let own = std::process::id().to_string();
    let number = number.and_then(|number| number.parse::<RawFd>().ok()).unwrap_or(0);
    if meant_for != Some(own.as_str()) || number <= 0 || GIVEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let mut sockets = Vec::new();
    for raw in ACTIVATED_FIRST..ACTIVATED_FIRST + number.min(ACTIVATED_MAX) {
        // SAFETY: by the manager's protocol these descriptors were opened for this process and nothing
        // else uses them; they are taken once.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::listener::{BACKLOG, Local, Stock, bind};

    fn ends() -> (Channel, Channel) {
        let (one, other) = Channel::pair().unwrap();
        let other = Channel { socket: other };
        for end in [&one, &other] {
            end.set_timeout(Duration::from_secs(10)).unwrap();
        }
        (one, other)
    }

    fn listener(listen: Listen, has_file: bool, sockets: Vec<OwnedFd>) -> Message {
        let sockets = sockets.into_iter().map(Arc::new).collect();
        Message::Listener { listen, has_file, sockets }
    }

    /// Sends it, and forgets the sender's sockets.
    fn passed(message: Message) -> Message {
        let (old, new) = ends();
        old.send(&message).unwrap();
        drop(message);
        new.receive().unwrap().unwrap()
    }

    fn into_stock(message: Message) -> Stock {
        let Message::Listener { listen, has_file, sockets } = message else { panic!() };
        let sockets = sockets.into_iter().map(|one| Arc::into_inner(one).unwrap()).collect();
        let mut stock = Stock::default();
        stock.pass(listen, sockets, has_file).unwrap();
        stock
    }

    #[test]
    fn words_come_as_they_were_sent() {
        let (old, new) = ends();
        old.send(&Message::Hello("1.2.3".to_owned())).unwrap();
        old.send(&Message::Item("key".to_owned(), vec![0, 32, 10, 255].into())).unwrap();
        old.send(&Message::Over).unwrap();
        assert!(matches!(new.receive().unwrap(), Some(Message::Hello(said)) if said == "1.2.3"));
        let item = new.receive().unwrap();
        assert!(matches!(item, Some(Message::Item(name, content))
            if name == "key" && content[..] == [0, 32, 10, 255]));
        assert!(matches!(new.receive().unwrap(), Some(Message::Over)));
        new.send(&Message::Failed("line 3:\n  no".to_owned())).unwrap();
        new.send(&Message::Ready).unwrap();
        let places = [Local::Ip("[::1]:80".parse().unwrap()), Local::Unix("/run/a b".into())];
        places.iter().for_each(|local| new.send(&Message::Gone(local.clone())).unwrap());
        new.send(&Message::Ending).unwrap();
        let failed = old.receive().unwrap();
        assert!(matches!(failed, Some(Message::Failed(why)) if why == "line 3:\n  no"));
        assert!(matches!(old.receive().unwrap(), Some(Message::Ready)));
        for local in places {
            assert!(matches!(old.receive().unwrap(), Some(Message::Gone(place)) if place == local));
        }
        assert!(matches!(old.receive().unwrap(), Some(Message::Ending)));
        drop(new);
        assert!(old.receive().unwrap().is_none());
        assert_eq!(old.send(&Message::Over).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn who_says_more_than_there_is_room_for_waits() {
        let (old, new) = ends();
        let gone = |port: u16| Message::Gone(Local::Ip(([127, 0, 0, 1], port).into()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (old, new) = (old.watched().unwrap(), new.watched().unwrap());
            let has_room = |port: &u16| new.0.get_ref().try_send(&gone(*port)).is_ok();
            let room = (0..u16::MAX - 10).take_while(has_room).count() as u16;
            // Not before the first time that the other one waits.
            let hearing = tokio::spawn(async move {
                let mut heard = Vec::new();
                while let Some(Message::Gone(Local::Ip(address))) = old.receive().await.unwrap() {
                    heard.push(address.port());
                }
                heard
            });
            for port in room..room + 10 {
                new.send(&gone(port)).await.unwrap();
            }
            drop(new);
            assert_eq!(hearing.await.unwrap(), (0..room + 10).collect::<Vec<_>>());
        });
    }

    #[test]
    fn what_is_unread_is_not_lost_when_the_sender_dies() {
        let (old, new) = ends();
        old.send(&Message::Hello(String::new())).unwrap();
        old.send(&Message::Over).unwrap();
        drop(old);
        assert!(matches!(new.receive().unwrap(), Some(Message::Hello(_))));
        assert!(matches!(new.receive().unwrap(), Some(Message::Over)));
        assert!(new.receive().unwrap().is_none());
    }

    #[test]
    fn what_was_said_is_heard_although_the_speaker_left_something_unread() {
        let (old, new) = ends();
        for _ in 0..3 {
            old.send(&Message::Over).unwrap();
        }
        new.send(&Message::Failed("why".to_owned())).unwrap();
        drop(new);
        assert!(matches!(old.receive().unwrap(), Some(Message::Failed(why)) if why == "why"));
        assert!(old.receive().unwrap().is_none());
    }

    #[test]
    fn connections_that_wait_at_a_socket_that_is_passed_are_served() {
        let listen = Listen::Address("127.0.0.1:0".parse().unwrap());
        let bound = bind(&listen, 2, BACKLOG).unwrap();
        let local = bound.local().clone();
        let port = bound.port().unwrap();
        let waiting: Vec<_> =
            (0..8).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        let mut stock = into_stock(passed(listener(listen.clone(), false, bound.sockets)));
        // By what was asked for, as the port is not in it.
        let again = stock.bind(&listen, 2, BACKLOG).unwrap();
        assert_eq!(*again.local(), local);
        assert_eq!(stock.left().count(), 0);
        let mut accepted = 0;
        for socket in again.sockets {
            let listener = TcpListener::from(socket);
            while listener.accept().is_ok() {
                accepted += 1;
            }
        }
        assert_eq!(accepted, waiting.len());
    }

    #[test]
    fn workers_beyond_the_sockets_passed_get_their_own_and_none_is_given_up() {
        let listen = Listen::Address("127.0.0.1:0".parse().unwrap());
        for (before, workers, sockets) in [(1, 3, 3), (3, 3, 3), (4, 2, 4)] {
            let bound = bind(&listen, before, BACKLOG).unwrap();
            let port = bound.port();
            let mut stock = into_stock(passed(listener(listen.clone(), false, bound.sockets)));
            let again = stock.bind(&listen, workers, BACKLOG).unwrap();
            assert_eq!((again.port(), again.sockets.len()), (port, sockets));
        }
    }

    #[test]
    fn an_address_is_also_found_by_where_it_listens() {
        let bound = bind(&Listen::Port(0), 1, BACKLOG).unwrap();
        let port = bound.port().unwrap();
        let mut stock = into_stock(passed(listener(Listen::Port(0), false, bound.sockets)));
        let elsewhere = Listen::Address("127.0.0.1:0".parse().unwrap());
        assert!(stock.bind(&elsewhere, 1, BACKLOG).is_ok());
        assert_eq!(stock.left().count(), 1);
        assert!(stock.bind(&Listen::Port(port), 1, BACKLOG).is_ok());
        assert_eq!(stock.left().count(), 0);
    }

    #[test]
    fn more_sockets_than_a_message_holds_are_refused() {
        let (old, _new) = ends();
        let sockets = (0..=SOCKETS_MAX).map(|_| Channel::pair().unwrap().1).collect();
        assert!(old.send(&listener(Listen::Port(1), false, sockets)).is_err());
        assert!(old.send(&Message::Hello("x".repeat(MESSAGE_BYTES_MAX))).is_err());
        assert!(old.send(&Message::Failed("x".repeat(MESSAGE_BYTES_MAX))).is_ok());
    }

    #[test]
    fn what_does_not_listen_is_not_taken() {
        let mut stock = Stock::default();
        assert!(stock.activate(Channel::pair().unwrap().1).is_err());
        assert!(stock.pass(Listen::Port(80), Vec::new(), false).is_err());
        let stream = UnixStream::pair().unwrap().0;
        assert!(stock.activate(stream.into()).is_err());
        assert_eq!(stock.left().count(), 0);
    }

    #[test]
    fn a_socket_of_a_service_manager_is_found_by_its_address() {
        let path = std::env::temp_dir().join(format!("ravelin-stock-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let mut stock = Stock::default();
        assert_eq!(stock.activate(socket.into()).unwrap(), Local::Unix(path.clone()));
        assert_eq!(stock.activate(tcp.into()).unwrap(), Local::Ip(address));
        drop(stock.bind(&Listen::Unix(path.clone()), 4, BACKLOG).unwrap());
        // Its file is the manager's.
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
        let bound = stock.bind(&Listen::Address(address), 4, BACKLOG).unwrap();
        assert_eq!(bound.sockets.len(), 1);
    }

    #[test]
    fn nonsense_is_no_message() {
        for bytes in
            ["", "hello", "hello 2 x", "listener", "listener - port x", "listener - tcp 1", "what"]
        {
            assert!(decode(bytes.as_bytes(), Vec::new()).is_none(), "{bytes}");
        }
        let socket = Arc::new(Channel::pair().unwrap().1);
        assert!(decode(b"ready", vec![socket]).is_none());
    }
}
