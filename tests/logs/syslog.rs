//! Logs that go to a syslog: the receivers are written here, from RFC 5424 and RFC 6587.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};

use crate::harness::*;

use super::logging;

/// A message's parts (RFC 5424 §6): priority, host, application, process, kind and text.
struct Message {
    priority: u32,
    application: String,
    process: u32,
    kind: String,
    text: String,
}

#[track_caller]
fn parse(bytes: &[u8]) -> Message {
    let text = std::str::from_utf8(bytes).unwrap();
    let (priority, rest) = text.strip_prefix('<').unwrap().split_once(">1 ").unwrap();
    let words: Vec<&str> = rest.splitn(7, ' ').collect();
    let &[time, host, application, process, kind, data, text] = &words[..] else {
        panic!("{rest}")
    };
    assert!(time.len() == 24 && time.ends_with('Z') && time.contains('T'), "{time}");
    assert!(!host.is_empty() && data == "-", "{rest}");
    Message {
        priority: priority.parse().unwrap(),
        application: application.to_owned(),
        process: process.parse().unwrap(),
        kind: kind.to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn rfc5426_a_line_is_a_datagram() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let origin = Origin::saying("");
    let keys = format!(
        "access_log = \"syslog:udp://{}\"\nsyslog_facility = \"daemon\"\nsyslog_tag = \"edge\"\n\
         format = \"compact\"",
        receiver.local_addr().unwrap()
    );
    let ravelin = logging(&keys, &origin).start();
    let mut buffer = [0; 4096];
    for target in ["/one", "/two"] {
        ravelin.get(target).expect(200);
        let length = receiver.recv(&mut buffer).unwrap();
        let message = parse(&buffer[..length]);
        assert_eq!(message.priority, 3 * 8 + 6);
        assert_eq!((&*message.application, &*message.kind), ("edge", "access"));
        assert_eq!(message.process, ravelin.pid());
        assert!(message.text.contains(&format!(" GET {target} 200 ")), "{}", message.text);
    }
}

/// Takes one frame whose octets are counted (RFC 6587 §3.4.1).
fn frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = String::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        match byte[0] {
            b' ' => break,
            digit => length.push(char::from(digit)),
        }
    }
    let mut message = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut message).unwrap();
    message
}

#[test]
fn rfc6587_3_4_1_octets_are_counted_and_a_lost_connection_is_made_again() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = Origin::saying("");
    let keys = format!(
        "access_log = \"syslog:tcp://{}\"\nformat = '{{target}}'",
        receiver.local_addr().unwrap()
    );
    let ravelin = logging(&keys, &origin).start();
    for round in ["first", "second"] {
        let accepted = std::thread::spawn({
            let receiver = receiver.try_clone().unwrap();
            move || receiver.accept().unwrap().0
        });
        // What was on its way when the connection was lost may be lost with it.
        until("a connection", || {
            ravelin.get(&format!("/{round}")).expect(200);
            accepted.is_finished()
        });
        let mut stream = accepted.join().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let message = parse(&frame(&mut stream));
        assert_eq!((message.priority, &*message.application), (134, "ravelin"));
        assert!(message.text.starts_with('/'), "{}", message.text);
    }
}

#[test]
fn a_syslog_that_is_not_there_costs_lines_and_nothing_else() {
    let origin = Origin::saying("");
    let keys = format!("access_log = \"syslog:tcp://127.0.0.1:{}\"", free_port());
    let mut ravelin = logging(&keys, &origin).start();
    let mut client = ravelin.client();
    for number in 0..500 {
        client.get(&format!("/{number}")).expect(200);
    }
    drop(client);
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
    ravelin.stderr.line_with(&["error log: ", " lines lost, cannot write to the syslog at tcp://"]);
}

#[test]
fn the_error_log_has_its_severity_on_a_unix_socket() {
    let dir = TempDir::new();
    let path = dir.path().join("log");
    let receiver = UnixDatagram::bind(&path).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let toml = format!(
        "[logging]\nerror_log = \"syslog:unix:{}\"\n{}",
        path.display(),
        site(&[&nobody], "")
    );
    // What is served where goes to the syslog, so the test chooses the port.
    let port = free_port();
    let toml = toml.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let dir = TempDir::new();
    dir.write("ravelin.toml", toml);
    let mut command = std::process::Command::new(binary());
    command.args(["run", "-c", "ravelin.toml"]).current_dir(dir.path());
    command.env("RUNTIME_DIRECTORY", dir.path());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut buffer = [0; 8192];
    let mut next = || {
        let length = receiver.recv(&mut buffer).unwrap();
        parse(&buffer[..length])
    };
    let first = next();
    assert_eq!((first.priority, &*first.kind), (16 * 8 + 6, "error"));
    while !next().text.starts_with("listening on ") {}
    Client::connect(([127, 0, 0, 1], port).into()).get("/").expect(502);
    let warning = loop {
        let message = next();
        if message.text.starts_with("proxy: upstream ") {
            break message;
        }
    };
    assert_eq!(warning.priority, 16 * 8 + 4);
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn a_stream_socket_is_taken_where_there_is_one() {
    let dir = TempDir::new();
    let path = dir.path().join("log");
    let receiver = UnixListener::bind(&path).unwrap();
    let origin = Origin::saying("");
    let keys = format!("access_log = \"syslog:unix:{}\"\nformat = '{{target}}'", path.display());
    let ravelin = logging(&keys, &origin).start();
    ravelin.get("/one").expect(200);
    let (mut stream, _) = receiver.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    assert_eq!(parse(line.trim_ascii_end()).text, "/one");
}
