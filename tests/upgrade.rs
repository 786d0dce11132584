//! A new binary in place of the one that runs.
//!
//! What is run is a copy in the test's directory, so that a test can put another file in its place. Both
//! processes write to the same standard error.

mod deaths;
mod handing_over;
pub mod load;
mod sockets;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::*;

/// Where the binary is, beside the configuration.
const BINARY: &str = "bin/ravelin";

/// A Ravelin that can be upgraded, and those that took its place.
pub struct Place {
    pub ravelin: Ravelin,
    upgrades: usize,
    /// Killed at the end: nobody else would.
    successors: Vec<u32>,
}

impl Place {
    #[track_caller]
    pub fn new(toml: &str) -> Place {
        Place::of(Setup::new(toml))
    }

    #[track_caller]
    pub fn of(setup: Setup) -> Place {
        let path = setup.dir().join(BINARY);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Another file, which can be replaced, with the same contents.
        if fs::hard_link(binary(), &path).is_err() {
            fs::copy(binary(), &path).unwrap();
        }
        Place { ravelin: setup.program(path).start(), upgrades: 0, successors: Vec::new() }
    }

    fn path(&self) -> PathBuf {
        self.ravelin.dir().join(BINARY)
    }

    /// Puts another program where the binary is, as package managers do: the one that runs keeps its file.
    fn replace(&self, program: &str) {
        self.replace_at(&self.path(), program);
    }

    fn replace_at(&self, path: &Path, program: &str) {
        let new = path.with_extension("new");
        fs::write(&new, program).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Asks the first process for an upgrade and waits until another one serves. Its id.
    #[track_caller]
    pub fn upgrade(&mut self) -> u32 {
        let pid = self.ravelin.pid();
        self.upgrade_from(pid)
    }

    /// The same with this process.
    #[track_caller]
    pub fn upgrade_from(&mut self, pid: u32) -> u32 {
        send_signal(pid, "USR2");
        self.await_upgrade()
    }

    #[track_caller]
    fn await_upgrade(&mut self) -> u32 {
        self.upgrades += 1;
        let mut found = Vec::new();
        until("an upgrade", || {
            found = self.serving();
            found.len() >= self.upgrades
        });
        let pid = found[self.upgrades - 1];
        self.successors.push(pid);
        pid
    }

    /// The ids of those that took the place, as logged.
    fn serving(&self) -> Vec<u32> {
        let lines = self.ravelin.stderr.all();
        let pid = |line: &String| {
            let (before, _) = line.split_once(" serves in place of this one")?;
            before.rsplit_once("process ")?.1.parse().ok()
        };
        lines.iter().filter_map(pid).collect()
    }

    /// Waits until the first process has ended in order.
    #[track_caller]
    pub fn await_end(&mut self) {
        until("the end of the old process", || !self.ravelin.runs());
        assert!(self.ravelin.status().success());
    }

    fn said(&self, parts: &[&str]) -> String {
        self.ravelin.stderr.line_with(parts)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for pid in &self.successors {
            let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).output();
        }
    }
}

/// Runs `ravelin upgrade` beside it.
fn order(place: &Place) -> std::process::Output {
    let mut command = Command::new(binary());
    command.args(["upgrade", "-c", "ravelin.toml"]).current_dir(place.ravelin.dir());
    command.env("RUNTIME_DIRECTORY", place.ravelin.dir());
    run_to_end(command)
}

#[test]
fn it_is_ordered_by_command_which_says_what_came_of_it() {
    let origin = Origin::saying("served");
    let mut place = Place::new(&site(&[&origin.url()], ""));
    for _ in 0..3 {
        let output = order(&place);
        assert!(output.status.success(), "{}", printed(&output));
        place.await_upgrade();
        place.ravelin.get("/").expect(200);
    }
    fs::write(place.ravelin.dir().join("ravelin.toml"), "[[sites]]\nname = 7\n").unwrap();
    let output = order(&place);
    assert_eq!(output.status.code(), Some(1));
    for part in ["ravelin.toml:2:8", "name = 7", "nothing is served"] {
        assert!(printed(&output).contains(part), "{}", printed(&output));
    }
    place.ravelin.get("/").expect(200);
}

#[test]
fn there_is_none_while_a_canary_runs() {
    let answering = |text: &str| {
        format!(
            "[[sites]]\nname = \"test\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
             routes = [{{ path = \"/\", status = 200, body = \"{text}\" }}]\n"
        )
    };
    let mut place = Place::new(&answering("old"));
    let file = place.ravelin.dir().join("ravelin.toml");
    fs::write(&file, answering("new")).unwrap();
    let canary = run(place.ravelin.dir(), &["reload", "--canary", "1%", "--for", "1h"]);
    assert!(canary.status.success(), "{}", printed(&canary));
    let output = order(&place);
    assert_eq!(output.status.code(), Some(1));
    for part in ["a canary runs", "ravelin rollback"] {
        assert!(printed(&output).contains(part), "{}", printed(&output));
    }
    send_signal(place.ravelin.pid(), "USR2");
    place.said(&["no upgrade, by signal"]);
    let back = run(place.ravelin.dir(), &["rollback"]);
    assert!(back.status.success(), "{}", printed(&back));
    place.ravelin.get("/").expect(200);
    // What was taken back is in the file, so it is what the new process has.
    place.upgrade();
    assert_eq!(place.ravelin.get("/").expect(200).text(), "new");
}

fn send_signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "cannot send SIG{name} to {pid}");
}

fn lives(pid: u32) -> bool {
    // One that nobody has waited for has no program any more.
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[test]
fn another_process_takes_the_place_and_the_old_one_ends() {
    let origin = Origin::saying("served");
    let mut place = Place::new(&site(&[&origin.url()], ""));
    let mut kept = place.ravelin.client();
    kept.get("/").expect(200);
    let new = place.upgrade();
    assert_ne!(new, place.ravelin.pid());
    // The old one tells its clients, which have this one request left.
    let last = kept.get("/").expect(200);
    assert_eq!(last.get("connection"), Some("close"));
    kept.expect_close();
    place.await_end();
    let mut later = place.ravelin.client();
    assert_eq!(later.get("/").expect(200).get("connection"), None);
    // And again, and again.
    let newer = place.upgrade_from(new);
    assert_eq!(later.get("/").expect(200).get("connection"), Some("close"));
    until("the end of the second process", || !lives(new));
    let newest = place.upgrade_from(newer);
    until("the end of the third process", || !lives(newer));
    place.ravelin.get("/").expect(200);
    send_signal(newest, "TERM");
    until("the end of the last process", || !lives(newest));
}

#[test]
fn what_is_executed_is_the_file_as_it_is_now() {
    let origin = Origin::saying("served");
    let mut place = Place::new(&site(&[&origin.url()], ""));
    let real = binary();
    let real = real.display();
    place.replace(&format!("#!/bin/sh\necho replaced \"$@\" >&2\nexec {real} \"$@\"\n"));
    place.upgrade();
    assert_eq!(place.said(&["replaced"]), "replaced run -c ravelin.toml");
    place.await_end();
    place.ravelin.get("/").expect(200);
}

#[test]
fn a_link_that_leads_elsewhere_by_now_is_followed_anew() {
    let origin = Origin::saying("served");
    let setup = Setup::new(&site(&[&origin.url()], ""));
    let link = setup.dir().join("ravelin");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let ravelin = setup.program(link.clone()).start();
    let mut place = Place { ravelin, upgrades: 0, successors: Vec::new() };
    place.replace_at(
        &place.ravelin.dir().join("next"),
        &format!("#!/bin/sh\necho the next one >&2\nexec {} \"$@\"\n", binary().display()),
    );
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("next", &link).unwrap();
    place.upgrade();
    place.said(&["the next one"]);
    place.await_end();
    place.ravelin.get("/").expect(200);
}

#[test]
fn a_connection_that_stays_idle_is_closed_after_a_while() {
    let origin = Origin::saying("served");
    let mut place = Place::new(&site(&[&origin.url()], ""));
    let mut idle = place.ravelin.client();
    idle.get("/").expect(200);
    place.upgrade();
    idle.expect_close();
    place.await_end();
}

#[test]
fn the_configuration_is_read_anew() {
    let origin = Origin::saying("served");
    let mut place = Place::new(&site(&[&origin.url()], ""));
    let changed = "[[sites]]\nname = \"test\"\nhostname = \"example.com\"\n\
                   listen = [\"127.0.0.1:0\"]\nroutes = [{ path = \"/\", status = 418 }]\n";
    fs::write(place.ravelin.dir().join("ravelin.toml"), changed).unwrap();
    place.ravelin.get("/").expect(200);
    place.upgrade();
    place.ravelin.get("/").expect(418);
}

#[test]
fn requests_and_tunnels_end_in_the_process_they_began_in() {
    let gate = Gate::new();
    let (came, arrived) = std::sync::mpsc::channel();
    let held = gate.clone();
    let origin = Origin::script(move |conn| {
        let Ok(request) = conn.try_request() else { return };
        if request.target == "/ws" {
            conn.send(SWITCHING);
            while let Ok(bytes) = conn.wire.some() {
                conn.send(bytes);
            }
        } else {
            let _ = came.send(());
            held.pass();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
        }
    });
    let mut place = Place::new(&site(&[&origin.url()], "websocket = true\n"));
    let mut socket = place.ravelin.client();
    socket.send(UPGRADE);
    assert_eq!(socket.response("GET").status, 101);
    let mut active = place.ravelin.client();
    active.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&arrived, "the request at the origin");

    place.upgrade();
    socket.send(TEXT);
    assert_eq!(socket.wire.bytes(TEXT.len()).unwrap(), TEXT);
    gate.open();
    let response = active.response("GET").expect(200);
    assert_eq!((response.text().as_str(), response.get("connection")), ("late", Some("close")));
    active.expect_close();
    socket.send(TEXT);
    assert_eq!(socket.wire.bytes(TEXT.len()).unwrap(), TEXT);
    assert!(place.ravelin.runs());
    drop(socket);
    place.await_end();
}

#[test]
fn what_is_left_after_the_drain_timeout_is_closed_as_at_a_stop() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send(SWITCHING);
        while let Ok(bytes) = conn.wire.some() {
            conn.send(bytes);
        }
    });
    let toml = site(&[&origin.url()], "websocket = { drain_window = \"100ms\" }\n");
    let mut place = Place::new(&format!("[process]\ndrain_timeout = \"200ms\"\n{toml}"));
    let mut socket = place.ravelin.client();
    socket.send(UPGRADE);
    assert_eq!(socket.response("GET").status, 101);
    place.upgrade();
    // A close frame: service restart.
    let frame = socket.wire.bytes(4).unwrap();
    assert_eq!((frame[0], &frame[2..]), (0x88, &1012_u16.to_be_bytes()[..]));
    drop(socket);
    place.await_end();
}

#[test]
fn http2_clients_are_told_to_open_no_more_streams() {
    let origin = Origin::saying("served");
    let site = site_with("h2c = true\n", &[&origin.url()], "");
    let mut place = Place::new(&site);
    let mut client = Http2::connect(place.ravelin.addr());
    assert_eq!(client.get(1, "/").status, 200);
    place.upgrade();
    let goaway = client.until(|frame| frame.kind == GOAWAY);
    assert_eq!(goaway.code(), NO_ERROR);
    // A stream that crosses with it is served.
    assert_eq!(client.get(3, "/").status, 200);
    place.await_end();
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// A masked text message; the origins here send every byte back.
const TEXT: &[u8] = &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
