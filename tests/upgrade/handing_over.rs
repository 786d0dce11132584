//! What one process says to the other, with the test in the place of either: also what Ravelin never says,
//! and where it stops in the middle.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};

use super::*;

/// A new process whose predecessor is the test.
struct Heir {
    child: Child,
    socket: Option<OwnedFd>,
    stderr: Lines,
    _dir: TempDir,
}

impl Heir {
    fn start(toml: &str) -> Heir {
        let dir = TempDir::new();
        dir.write("ravelin.toml", toml);
        let (own, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        sockopt::set_socket_timeout(&own, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        let mut command = Command::new(binary());
        command.args(["run", "-c", "ravelin.toml"]).current_dir(dir.path());
        command.env("RAVELIN_HANDOVER", "stdin").env("RUNTIME_DIRECTORY", dir.path());
        command.stdin(other).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let stderr = Lines::read(child.stderr.take().unwrap());
        Heir { child, socket: Some(own), stderr, _dir: dir }
    }

    fn say(&self, message: &str, passed: &[&dyn AsFd]) {
        let passed: Vec<_> = passed.iter().map(|one| one.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !passed.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
        }
        let bytes = [IoSlice::new(message.as_bytes())];
        let socket = self.socket.as_ref().unwrap();
        // It may have ended meanwhile.
        let _ = sendmsg(socket, &bytes, &mut control, SendFlags::NOSIGNAL);
    }

    /// What it says; nothing when it has ended.
    fn hear(&self) -> String {
        let mut bytes = vec![0; 65536];
        let into = &mut [IoSliceMut::new(&mut bytes)];
        let socket = self.socket.as_ref().unwrap();
        let mut control = RecvAncillaryBuffer::default();
        let received = loop {
            match recvmsg(socket, into, &mut control, RecvFlags::empty()) {
                Ok(received) => break received.bytes,
                // It has ended with something unread; what it said before comes after this.
                Err(rustix::io::Errno::CONNRESET) => {}
                Err(error) => panic!("the new process says nothing: {error}"),
            }
        };
        bytes.truncate(received);
        String::from_utf8(bytes).unwrap()
    }

    fn die(&mut self) {
        self.socket = None;
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A listening socket that another process might have had, and what the configuration says of it.
fn listening(origin: &Origin) -> (TcpListener, String, String) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let toml = site(&[&origin.url()], "").replace("127.0.0.1:0", &address);
    (socket, toml, format!("listener - address {address}"))
}

#[track_caller]
fn serves(at: &str) {
    Client::connect(at.parse().unwrap()).get("/").expect(200);
}

#[test]
fn a_new_process_serves_at_what_it_is_passed_and_says_so() {
    let origin = Origin::saying("served");
    let (socket, toml, message) = listening(&origin);
    let address = socket.local_addr().unwrap().to_string();
    let mut heir = Heir::start(&toml);
    heir.say("hello 1 0.0.1", &[]);
    heir.say(&message, &[&socket]);
    heir.say("item of-a-later-version whatever", &[]);
    heir.say("over", &[]);
    assert_eq!(heir.hear(), "ready");
    drop(socket);
    serves(&address);
    heir.die();
    heir.stderr.line_with(&["the process before this one has ended"]);
    serves(&address);
    send_signal(heir.child.id(), "TERM");
    assert!(heir.child.wait().unwrap().success());
}

#[test]
fn a_process_that_dies_in_the_middle_of_handing_over_is_replaced() {
    let origin = Origin::saying("served");
    for step in 0..=3 {
        let (socket, toml, message) = listening(&origin);
        let address = socket.local_addr().unwrap().to_string();
        let mut heir = Heir::start(&toml);
        for done in 0..step {
            match done {
                0 => heir.say("hello 1 0.0.1", &[]),
                1 => heir.say(&message, &[&socket]),
                _ => heir.say("over", &[]),
            }
        }
        drop(socket);
        heir.die();
        heir.stderr.line_with(&["listening on ", &address]);
        serves(&address);
    }
}

#[test]
fn a_new_process_that_is_not_told_what_it_understands_says_so_and_ends() {
    let origin = Origin::saying("served");
    let (socket, toml, message) = listening(&origin);
    let stream = std::os::unix::net::UnixStream::pair().unwrap().0;
    let cases: [(&str, &[&dyn AsFd]); 5] = [
        ("hello 2 9.9.9", &[]),
        ("nonsense", &[]),
        ("ready", &[]),
        // No socket, or none that listens: told at the end of the list.
        (&message, &[]),
        (&message, &[&stream]),
    ];
    for (said, passed) in cases {
        let mut heir = Heir::start(&toml);
        heir.say(said, passed);
        heir.say("over", &[]);
        let answer = heir.hear();
        assert!(answer.starts_with("failed cannot take over from the process before"), "{answer}");
        assert_eq!(heir.hear(), "");
        assert_eq!(heir.child.wait().unwrap().code(), Some(1));
    }
    drop(socket);
}

#[test]
fn a_new_process_that_cannot_serve_says_why() {
    let origin = Origin::saying("served");
    let (socket, toml, message) = listening(&origin);
    let mut heir = Heir::start(&toml.replace("path = \"/\"", "path = 7"));
    heir.say("hello 1 0.0.1", &[]);
    heir.say(&message, &[&socket]);
    heir.say("over", &[]);
    let answer = heir.hear();
    assert!(answer.starts_with("failed "), "{answer}");
    for part in ["error[", "ravelin.toml:", "path = 7", "nothing is served"] {
        assert!(answer.contains(part), "{part} is not in {answer}");
    }
    assert_eq!(heir.child.wait().unwrap().code(), Some(1));
}

/// A program that is no Ravelin in place of one: takes everything and then does `what`.
fn impostor(what: &str) -> String {
    format!(
        "#!/usr/bin/env python3\n\
         import os, signal, socket, sys, time\n\
         s = socket.socket(fileno=0)\n\
         fds = []\n\
         while True:\n\
         \x20   data, got, flags, _ = socket.recv_fds(s, 65536, 253)\n\
         \x20   fds += got\n\
         \x20   if data in (b'over', b''): break\n\
         {what}\n"
    )
}

#[test]
fn a_program_that_does_not_come_to_serve_leaves_the_old_process_serving() {
    require("python3", &["--version"], "apt-get install python3");
    let origin = Origin::saying("served");
    let mut place = Place::new(&site(&[&origin.url()], ""));
    let kill = "os.kill(os.getpid(), signal.SIGKILL)";
    for (what, told) in [
        ("s.send(b'failed because\\n  of this')", "because"),
        ("s.send(b'what')", "cannot be heard"),
        ("s.send(b'over')", "says what is not understood"),
        (kill, "signal 9"),
        ("sys.exit(3)", "exit status 3"),
    ] {
        place.replace(&impostor(what));
        send_signal(place.ravelin.pid(), "USR2");
        place.said(&["upgrade failed", told]);
        place.said(&["this process goes on"]);
        place.ravelin.get("/").expect(200);
    }
    for (program, told) in
        [("#!/bin/sh\nexit 4\n", "exit status 4"), ("#!/nonexistent\n", "cannot execute")]
    {
        place.replace(program);
        send_signal(place.ravelin.pid(), "USR2");
        place.said(&["upgrade failed", told]);
        place.ravelin.get("/").expect(200);
    }
    fs::remove_file(place.path()).unwrap();
    send_signal(place.ravelin.pid(), "USR2");
    until("a failure for want of the file", || {
        let lines = place.ravelin.stderr.all();
        lines.iter().filter(|line| line.contains("cannot execute")).count() == 2
    });
    let mut kept = place.ravelin.client();
    assert_eq!(kept.get("/").expect(200).get("connection"), None);
    assert!(place.ravelin.runs());
}

#[test]
fn connections_that_a_new_process_left_waiting_are_served_when_it_dies() {
    require("python3", &["--version"], "apt-get install python3");
    let origin = Origin::script(|conn| {
        if let Ok(request) = conn.try_request() {
            if request.target == "/ws" {
                conn.send(SWITCHING);
                conn.wait_closed();
            } else {
                conn.send(ok("served"));
            }
        }
    });
    let mut place = Place::new(&site(&[&origin.url()], "websocket = true\n"));
    // Holds the old process.
    let mut socket = place.ravelin.client();
    socket.send(UPGRADE);
    assert_eq!(socket.response("GET").status, 101);
    place.replace(&impostor("s.send(b'ready')\ntime.sleep(600)"));
    let new = place.upgrade();
    let clients: Vec<Client> = (0..64)
        .map(|_| {
            let mut client = place.ravelin.client();
            client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
            client
        })
        .collect();
    send_signal(new, "KILL");
    for mut client in clients {
        client.response("GET").expect(200);
    }
    place.said(&["has died (signal 9)"]);
    drop(socket);
}

#[test]
fn standard_input_that_is_no_such_socket_is_refused() {
    let dir = TempDir::new();
    dir.write("ravelin.toml", site(&["http://127.0.0.1:9"], ""));
    let mut command = Command::new(binary());
    command.args(["run", "-c", "ravelin.toml"]).current_dir(dir.path()).stdin(Stdio::null());
    let output = run_to_end({
        command.env("RAVELIN_HANDOVER", "stdin");
        command
    });
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).contains("cannot take over"), "{}", printed(&output));
}
