//! What happens when there are no descriptors left. It needs a process of its own, because the
//! limit holds for all of it: the test runs this program once more.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use net::descriptors::raise_limit;
use net::listener::{BACKLOG, Listen, bind};
use net::worker::{Accepted, Options, start};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set in the process that runs short.
const CHILD: &str = "RAVELIN_TEST_SHORTAGE";

#[test]
fn without_descriptors_accepting_pauses_sheds_and_recovers() {
    if std::env::var_os(CHILD).is_some() {
        return run_short();
    }
    let name = "without_descriptors_accepting_pauses_sheds_and_recovers";
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}{}", String::from_utf8_lossy(&child.stderr));
}

fn run_short() {
    let bound = bind(&Listen::Address("127.0.0.1:0".parse().unwrap()), 1, BACKLOG).unwrap();
    let address = ([127, 0, 0, 1], bound.port().unwrap());
    let (tell, told) = channel();
    let accepted = move |(): &(), accepted: Accepted| tell.send(accepted).unwrap();
    let options = Options {
        workers: 1,
        listeners: vec![bound],
        max_connections: None,
        max_per_address: None,
    };
    let workers = start(options, |_| (), accepted).unwrap();

    // Made before the descriptors run out, so that only the server's end is missing.
    let sockets: Vec<_> = (0..2).map(|_| socket()).collect();
    let mut hoard = Vec::new();
    let limit = Rlimit { current: Some(64), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let mut clients = sockets.into_iter().map(|socket| connect(socket, address));
    let mut shed = clients.next().unwrap();
    assert_eq!(shed.read(&mut [0]).unwrap(), 0); // told at once, not left to wait
    let counters = workers.counters()[0];
    assert!(counters.shortages >= 1);
    assert_eq!((counters.accepted, counters.errors), (0, 0));

    hoard.clear();
    let _client = clients.next().unwrap();
    drop(told.recv_timeout(Duration::from_secs(60)).unwrap());
    // Ten tries a second at most, not a loop: a busy one counts thousands in this time.
    assert!(workers.counters()[0].shortages < 100);

    let raised = raise_limit().unwrap();
    assert_eq!((getrlimit(Resource::Nofile).current, raised), (limit.maximum, limit.maximum));
}

fn socket() -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType};
    rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
}

fn connect(socket: std::os::fd::OwnedFd, address: ([u8; 4], u16)) -> TcpStream {
    rustix::net::connect(&socket, &std::net::SocketAddr::from(address)).unwrap();
    socket.into()
}
