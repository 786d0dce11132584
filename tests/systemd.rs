//! What a service manager sees of it: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};

use crate::harness::*;

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// At a path in this directory.
    fn at(setup: &Setup) -> (Manager, String) {
        let path = setup.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Manager(socket), path.display().to_string())
    }

    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("the manager is told nothing");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// The next message, which begins with this line.
    #[track_caller]
    fn expect(&self, first: &str) -> String {
        let message = self.next();
        assert_eq!(message.lines().next(), Some(first), "{message}");
        message
    }
}

#[test]
fn the_manager_is_told_when_it_serves_reloads_and_stops() {
    let origin = Origin::saying("served");
    let setup = Setup::new(&site(&[&origin.url()], ""));
    let (manager, path) = Manager::at(&setup);
    let mut ravelin = setup.env("NOTIFY_SOCKET", path).start();
    manager.expect("READY=1");
    ravelin.get("/").expect(200);
    ravelin.signal("HUP");
    let reloading = manager.expect("RELOADING=1");
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.unwrap().parse::<u64>().unwrap() > 0);
    manager.expect("READY=1");
    ravelin.signal("TERM");
    manager.expect("STOPPING=1");
    assert!(ravelin.exit().success());
}

#[test]
fn an_abstract_name_is_told_too_and_nobody_who_is_not_there() {
    let origin = Origin::saying("served");
    let name = format!("ravelin-manager-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let toml = site(&[&origin.url()], "");
    let ravelin = Setup::new(&toml).env("NOTIFY_SOCKET", format!("@{name}")).start();
    Manager(socket).expect("READY=1");
    ravelin.get("/").expect(200);
    let ravelin = Setup::new(&toml).env("NOTIFY_SOCKET", "/nonexistent/notify").start();
    ravelin.get("/").expect(200);
}

#[test]
fn after_an_upgrade_the_new_process_is_the_main_one() {
    let origin = Origin::saying("served");
    let setup = Setup::new(&site(&[&origin.url()], ""));
    let (manager, path) = Manager::at(&setup);
    let own = setup.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", 60_000_000);
    let mut place = crate::upgrade::Place::of(own);
    manager.expect("READY=1");
    manager.expect("WATCHDOG=1");
    let new = place.upgrade();
    // Both say that they are alive; the manager listens to the main one.
    let main = loop {
        let message = manager.next();
        if message != "WATCHDOG=1" {
            break message;
        }
    };
    assert_eq!(main, format!("MAINPID={new}"));
}

#[test]
fn the_watchdog_is_fed_as_long_as_the_workers_answer() {
    let origin = Origin::saying("served");
    let toml = site(&[&origin.url()], "");
    let setup = Setup::new(&toml);
    let (manager, path) = Manager::at(&setup);
    let ravelin = setup.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", 100_000).start();
    manager.expect("READY=1");
    for _ in 0..5 {
        manager.expect("WATCHDOG=1");
    }
    drop(ravelin);
    // One that is meant for another process is none.
    let setup = Setup::new(&toml);
    let (manager, path) = Manager::at(&setup);
    let other = setup.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", 1000).env("WATCHDOG_PID", 1);
    let mut ravelin = other.start();
    manager.expect("READY=1");
    ravelin.signal("TERM");
    manager.expect("STOPPING=1");
    ravelin.exit();
}

/// A Ravelin that is passed sockets as descriptor 3, as systemd does it.
struct Activated {
    child: Child,
    stderr: Lines,
    _dir: TempDir,
}

impl Activated {
    fn start(toml: &str, socket: &TcpListener, meant_for: &str) -> Activated {
        let dir = TempDir::new();
        dir.write("ravelin.toml", toml);
        let mut command = Command::new("sh");
        // Standard input is the socket; `exec` keeps the process id.
        let script = format!(
            "exec 3<&0 </dev/null; LISTEN_PID={meant_for} LISTEN_FDS=1 LISTEN_FDNAMES=web \
             exec \"$0\" run -c ravelin.toml"
        );
        command.args(["-c", &script]).arg(binary()).current_dir(dir.path());
        command.env("RUNTIME_DIRECTORY", dir.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.stdin(std::os::fd::OwnedFd::from(socket.try_clone().unwrap()));
        let mut child = command.spawn().unwrap();
        let stderr = Lines::read(child.stderr.take().unwrap());
        Activated { child, stderr, _dir: dir }
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_socket_of_the_manager_is_served_and_outlives_the_process() {
    let origin = Origin::saying("served");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let toml = site(&[&origin.url()], "").replace("127.0.0.1:0", &address.to_string());
    // The manager listens before there is anybody to serve.
    let mut early = Client::connect(address);
    early.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let mut first = Activated::start(&toml, &socket, "$$");
    early.response("GET").expect(200);
    send_term(&first.child);
    assert!(first.child.wait().unwrap().success());
    // While there is nobody, connections wait.
    let mut between = Client::connect(address);
    between.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let _second = Activated::start(&toml, &socket, "$$");
    between.response("GET").expect(200);
}

#[test]
fn sockets_that_are_not_meant_for_it_or_not_configured_are_not_served() {
    let origin = Origin::saying("served");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let toml = site(&[&origin.url()], "").replace("127.0.0.1:0", &address);
    // It tries to bind the address itself.
    let mut other = Activated::start(&toml, &socket, "1");
    assert_eq!(other.child.wait().unwrap().code(), Some(1));
    other.stderr.line_with(&["cannot listen", &address]);
    let elsewhere = Activated::start(&site(&[&origin.url()], ""), &socket, "$$");
    elsewhere.stderr.line_with(&["service manager listens on", &address, "is closed"]);
}

fn send_term(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}
