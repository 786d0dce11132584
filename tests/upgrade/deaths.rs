//! `kill -9` of the old or the new process at each step: one of them serves.
//!
//! A step is held by what a process waits for: the binary is a script that waits for a pipe, the
//! configuration is a pipe, a request is under way. Nothing is timed.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;

use super::*;

/// Makes a pipe with a name.
fn pipe(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The writing end of a pipe, once somebody waits at its reading end.
fn await_reader(path: &Path) -> fs::File {
    const NONBLOCK: i32 = 0o4000;
    let mut found = None;
    until("somebody who reads the pipe", || {
        let mut options = OpenOptions::new();
        found = options.write(true).custom_flags(NONBLOCK).open(path).ok();
        found.is_some()
    });
    found.unwrap()
}

/// Connections that clients make while nobody may be there to take them: none is refused.
fn connect_some(place: &Place) -> Vec<Client> {
    (0..16).map(|_| place.ravelin.client()).collect()
}

#[track_caller]
fn served(clients: Vec<Client>) {
    for mut client in clients {
        client.get("/").expect(200);
    }
}

/// Has the old process start a new one, which is held before it is Ravelin: it has been passed the
/// sockets and has taken none. Its id, and what lets it go on.
fn held_at_its_start(place: &Place) -> (u32, PathBuf) {
    let gate = place.ravelin.dir().join("gate");
    pipe(&gate);
    let (real, gate_path) = (binary(), gate.display());
    // The shell's own standard input stays what Ravelin is passed.
    place.replace(&format!(
        "#!/bin/sh\necho new process $$ >&2\nread -r line < {gate_path}\nexec {} \"$@\"\n",
        real.display()
    ));
    send_signal(place.ravelin.pid(), "USR2");
    let line = place.said(&["new process "]);
    (line.rsplit(' ').next().unwrap().parse().unwrap(), gate)
}

#[test]
fn the_new_process_dies_before_it_has_taken_the_sockets() {
    let origin = Origin::saying("served");
    let mut place = Place::new(&site(&[&origin.url()], ""));
    let (new, _gate) = held_at_its_start(&place);
    send_signal(new, "KILL");
    place.said(&["upgrade failed", "signal 9"]);
    served(connect_some(&place));
    // The next attempt is not worse for it.
    place.replace(&format!("#!/bin/sh\nexec {} \"$@\"\n", binary().display()));
    place.upgrade();
    served(connect_some(&place));
}

#[test]
fn the_old_process_dies_before_the_new_one_has_taken_the_sockets() {
    let origin = Origin::saying("served");
    let port = free_port();
    let toml = site(&[&origin.url()], "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let mut place = Place::new(&toml);
    let (new, gate) = held_at_its_start(&place);
    place.successors.push(new);
    send_signal(place.ravelin.pid(), "KILL");
    until("the end of the old process", || !place.ravelin.runs());
    // Everything was on its way to the new one, so not even now is a connection refused.
    let clients = connect_some(&place);
    await_reader(&gate).write_all(b"go\n").unwrap();
    served(clients);
    served(connect_some(&place));
}

/// Has the old process start a new one, which is held when it has the sockets and reads the
/// configuration. What it is to read goes into the pipe.
pub(super) fn held_at_its_configuration(place: &Place) -> (u32, fs::File, String) {
    let path = place.ravelin.dir().join("ravelin.toml");
    let toml = fs::read_to_string(&path).unwrap();
    pipe(&path);
    send_signal(place.ravelin.pid(), "USR2");
    let writer = await_reader(&path);
    let children = format!("/proc/{0}/task/{0}/children", place.ravelin.pid());
    let child = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    (child, writer, toml)
}

#[test]
fn the_new_process_dies_before_it_serves() {
    let origin = Origin::saying("served");
    let place = Place::new(&site(&[&origin.url()], ""));
    let (new, _writer, _) = held_at_its_configuration(&place);
    let clients = connect_some(&place);
    send_signal(new, "KILL");
    place.said(&["upgrade failed", "signal 9"]);
    served(clients);
    served(connect_some(&place));
}

#[test]
fn the_old_process_dies_before_the_new_one_serves() {
    let origin = Origin::saying("served");
    let mut place = Place::new(&site(&[&origin.url()], ""));
    let (new, mut writer, toml) = held_at_its_configuration(&place);
    place.successors.push(new);
    send_signal(place.ravelin.pid(), "KILL");
    until("the end of the old process", || !place.ravelin.runs());
    // The port was chosen by the kernel: only who was passed the sockets can listen there.
    let clients = connect_some(&place);
    writer.write_all(toml.as_bytes()).unwrap();
    drop(writer);
    served(clients);
    served(connect_some(&place));
}

#[test]
fn the_old_process_dies_while_its_connections_end() {
    let gate = Gate::new();
    let (origin, mut place, mut active) = draining(&gate);
    let new = *place.successors.last().unwrap();
    send_signal(place.ravelin.pid(), "KILL");
    until("the end of the old process", || !place.ravelin.runs());
    assert!(active.wire.response("GET").is_err());
    served(connect_some(&place));
    place.said(&["the process before this one has ended"]);
    assert!(lives(new));
    gate.open();
    drop(origin);
}

#[test]
fn the_new_process_dies_while_connections_of_the_old_one_end() {
    let gate = Gate::new();
    let (origin, mut place, mut active) = draining(&gate);
    let new = place.successors.pop().unwrap();
    send_signal(new, "KILL");
    // At once, before anybody notices: they wait.
    let clients = connect_some(&place);
    served(clients);
    place.said(&["has died (signal 9)", "this one goes on"]);
    gate.open();
    active.response("GET").expect(200);
    // It serves as before, and keeps connections again.
    let mut kept = place.ravelin.client();
    assert_eq!(kept.get("/").expect(200).get("connection"), None);
    kept.get("/").expect(200);
    let newer = place.upgrade();
    assert_ne!(newer, new);
    drop(kept);
    place.await_end();
    served(connect_some(&place));
    drop(origin);
}

#[test]
fn a_new_process_that_is_told_to_end_is_not_replaced_by_the_old_one() {
    let gate = Gate::new();
    let (origin, mut place, mut active) = draining(&gate);
    let new = place.successors.pop().unwrap();
    send_signal(new, "TERM");
    until("the end of the new process", || !lives(new));
    place.said(&["ends too"]);
    // It is not listened at by the old one, which accepts nothing.
    until("a free address", || TcpStream::connect(place.ravelin.addr()).is_err());
    assert!(place.ravelin.runs());
    gate.open();
    active.response("GET").expect(200);
    place.await_end();
    drop(origin);
}

#[test]
fn one_that_gave_way_to_the_process_before_keeps_no_address() {
    let gate = Gate::new();
    let (origin, mut place, mut active) = draining(&gate);
    let second = *place.successors.last().unwrap();
    let third = place.upgrade_from(second);
    until("the end of the second process", || !lives(second));
    place.said(&["ends too"]);
    served(connect_some(&place));
    send_signal(third, "KILL");
    until("a free address", || TcpStream::connect(place.ravelin.addr()).is_err());
    assert!(place.ravelin.runs());
    gate.open();
    active.response("GET").expect(200);
    place.await_end();
    drop(origin);
}

/// An old process with a request under way at the origin, and a new one that serves.
fn draining(gate: &Gate) -> (Origin, Place, Client) {
    let (came, arrived) = std::sync::mpsc::channel();
    let held = gate.clone();
    let origin = Origin::serve(move |request| {
        if request.target == "/slow" {
            let _ = came.send(());
            held.pass();
        }
        ok("served")
    });
    let mut place = Place::new(&site(&[&origin.url()], ""));
    let mut active = place.ravelin.client();
    active.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&arrived, "the request at the origin");
    place.upgrade();
    (origin, place, active)
}

#[test]
fn a_reload_while_the_new_process_starts_is_not_lost() {
    let answering = |text: &str| {
        format!(
            "[[sites]]\nname = \"test\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
             routes = [{{ path = \"/\", status = 200, body = \"{text}\" }}]\n"
        )
    };
    let more = "[limits]\nfields = 100\n";
    let args = ["run", "-c", "ravelin.toml", "-c", "gate.toml"];
    let mut place = Place::of(Setup::new(&answering("one")).file("gate.toml", more).args(&args));
    let directory = place.ravelin.dir().to_owned();
    let (file, gate) = (directory.join("ravelin.toml"), directory.join("gate.toml"));
    pipe(&gate);
    send_signal(place.ravelin.pid(), "USR2");
    // It has read the first file.
    let mut writer = await_reader(&gate);
    fs::write(directory.join("new"), more).unwrap();
    fs::rename(directory.join("new"), &gate).unwrap();
    fs::write(&file, answering("two")).unwrap();
    let reload = run(&directory, &["reload"]);
    assert!(reload.status.success(), "{}", printed(&reload));
    place.ravelin.get("/").expect(200);
    // What is in no file would be lost.
    let rollback = run(&directory, &["rollback"]);
    assert_eq!(rollback.status.code(), Some(1));
    assert!(printed(&rollback).contains("an upgrade is under way"), "{}", printed(&rollback));
    writer.write_all(more.as_bytes()).unwrap();
    drop(writer);
    place.await_upgrade();
    place.said(&["configuration reloaded by upgrade, generation 2"]);
    assert_eq!(place.ravelin.get("/").expect(200).text(), "two");
}
