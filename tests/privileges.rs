//! As whom it runs. All of this needs a root to start from; without one it says so and is passed over.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::*;

/// A user that everybody has a number for, and that no test is started as.
const NOBODY: u32 = 65534;
/// CAP_NET_BIND_SERVICE alone, as /proc shows it.
const BIND: &str = "0000000000000400";
const NONE: &str = "0000000000000000";

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("this is not run as root: nothing can be tested here");
    }
    root
}

/// A port below 1024 that was free a moment ago, each time another.
fn low_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at once begin at different places.
    let begin = (std::process::id() % 400) as u16;
    let next = || 600 + (begin + NEXT.fetch_add(1, Ordering::SeqCst)) % 424;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).take(424).find(free).expect("a free port below 1024")
}

/// Every thread's value of this line of /proc/PID/status.
fn of_threads(pid: u32, name: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let value = |path: std::path::PathBuf| {
        let status = fs::read_to_string(path.join("status")).ok()?; // it may have ended
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:")))?.to_owned();
        Some(line[name.len() + 1..].split_whitespace().collect::<Vec<_>>().join(" "))
    };
    threads.filter_map(|thread| value(thread.unwrap().path())).collect()
}

#[track_caller]
fn every_thread_has(pid: u32, uid: u32, gid: u32, groups: &str, capabilities: &str) {
    let four = |id: u32| [id.to_string(), id.to_string(), id.to_string(), id.to_string()].join(" ");
    for (name, wanted) in [
        ("Uid", four(uid)),
        ("Gid", four(gid)),
        ("Groups", groups.to_owned()),
        ("CapEff", capabilities.to_owned()),
        ("CapPrm", capabilities.to_owned()),
        ("CapInh", capabilities.to_owned()),
        ("CapAmb", capabilities.to_owned()),
    ] {
        let found = of_threads(pid, name);
        assert!(found.len() >= 4, "main, workers and log writers: {found:?}");
        assert!(found.iter().all(|value| *value == wanted), "{name}: {found:?}, not {wanted:?}");
    }
}

fn on_port(origin: &Origin, port: u16, process: &str) -> String {
    let listen = format!("127.0.0.1:{port}");
    let site = site(&[&origin.url()], "").replace("127.0.0.1:0", &listen);
    format!("[performance]\nworker_threads = 2\n[process]\n{process}\n{site}")
}

#[test]
fn every_thread_is_the_user_and_has_no_capability() {
    if !is_root() {
        return;
    }
    let origin = Origin::saying("served");
    let port = low_port();
    let ravelin = Ravelin::start(&on_port(&origin, port, "user = \"65534\""));
    ravelin.get("/").expect(200);
    assert_eq!(ravelin.addr().port(), port);
    every_thread_has(ravelin.pid(), NOBODY, NOBODY, "", NONE);
    // A port that was not bound before cannot be had any more: said, and nothing is changed.
    let other = on_port(&origin, low_port(), "user = \"65534\"");
    fs::write(ravelin.dir().join("ravelin.toml"), other).unwrap();
    ravelin.signal("HUP");
    ravelin.stderr.line_with(&["cannot listen", "ermission denied"]);
    ravelin.get("/").expect(200);
}

#[test]
fn a_group_may_be_named() {
    if !is_root() {
        return;
    }
    let origin = Origin::saying("served");
    let process = "user = \"65534\"\ngroup = \"1234\"";
    let ravelin = Ravelin::start(&on_port(&origin, 0, process));
    every_thread_has(ravelin.pid(), NOBODY, 1234, "", NONE);
}

#[test]
fn the_right_to_bind_low_ports_is_kept_if_that_is_asked_for_also_by_an_upgrade() {
    if !is_root() {
        return;
    }
    let origin = Origin::saying("served");
    let process = "user = \"65534\"\nkeep_bind = true";
    let mut place = crate::upgrade::Place::new(&on_port(&origin, low_port(), process));
    every_thread_has(place.ravelin.pid(), NOBODY, NOBODY, "", BIND);
    let toml = place.ravelin.dir().join("ravelin.toml");
    let other = low_port();
    fs::write(&toml, on_port(&origin, other, process)).unwrap();
    place.ravelin.signal("HUP");
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    until("the other port", || std::net::TcpStream::connect(at(other)).is_ok());
    let new = place.upgrade();
    place.await_end();
    every_thread_has(new, NOBODY, NOBODY, "", BIND);
    Client::connect(at(other)).get("/").expect(200);
    // A port that neither had.
    let third = low_port();
    fs::write(&toml, on_port(&origin, third, process)).unwrap();
    place.upgrade_from(new);
    Client::connect(at(third)).get("/").expect(200);
}

#[test]
fn what_is_passed_over_needs_no_right_to_bind() {
    if !is_root() {
        return;
    }
    let origin = Origin::saying("served");
    let mut place = crate::upgrade::Place::new(&on_port(&origin, low_port(), "user = \"65534\""));
    let new = place.upgrade();
    place.await_end();
    every_thread_has(new, NOBODY, NOBODY, "", NONE);
    place.ravelin.get("/").expect(200);
}

#[test]
fn files_are_read_as_the_user_from_the_start() {
    if !is_root() {
        return;
    }
    const HOST: &str = "a.example.com";
    let toml = format!("[process]\nuser = \"65534\"\n{}", tls_site(HOST, "", "http://127.0.0.1:9"));
    let setup = Setup::new(&toml).pair(HOST, &Authority::new().server(&[HOST]));
    let key = setup.dir().join(format!("{HOST}.key"));
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    let output = setup.run(&["run", "-c", "ravelin.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).contains("ermission denied"), "{}", printed(&output));
}

#[test]
fn a_user_that_cannot_be_had_refuses_the_start() {
    let dir = TempDir::new();
    let toml =
        |user: &str| format!("[process]\nuser = \"{user}\"\n{}", site(&["http://127.0.0.1:9"], ""));
    dir.write("ravelin.toml", toml("no-such-user-here"));
    let output = run(dir.path(), &["run", "-c", "ravelin.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).contains("no user \"no-such-user-here\""), "{}", printed(&output));
    dir.write("ravelin.toml", toml("0"));
    let output = run_unprivileged(dir.path(), &["run", "-c", "ravelin.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).contains("cannot become the user 0"), "{}", printed(&output));
}
