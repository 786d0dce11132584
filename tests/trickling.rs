//! A thousand clients that take their responses drop by drop, and an origin that must not wait for
//! them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::harness::*;

const READERS: usize = 1000;
/// More than the system keeps for a client, given how little it takes at a time.
const BODY: usize = 300 * 1024;
/// What each takes at a time. With their pace, a whole body would take them minutes.
const DROP: usize = 512;
const PACE: Duration = Duration::from_millis(100);

/// A client that has asked and is in no hurry.
struct Reader {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Reader {
    fn ask(to: SocketAddr) -> Reader {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // As far away as clients are: the system keeps megabytes for one that is near.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_tcp_mss(536).unwrap();
        socket.connect(&to.into()).unwrap();
        let mut stream: TcpStream = socket.into();
        let request = format!("GET /bytes/{BODY} HTTP/1.1\r\nHost: example.com\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Reader { stream, received: Vec::new() }
    }

    /// Takes up to so much of what is there.
    fn take(&mut self, most: usize) {
        let mut piece = vec![0; most];
        match self.stream.read(&mut piece) {
            Ok(0) => panic!("ended after {} bytes", self.received.len()),
            Ok(count) => self.received.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("broken after {} bytes: {error}", self.received.len()),
        }
    }

    fn status(&self) -> Option<&[u8]> {
        self.received.get(9..12)
    }

    /// The body so far.
    fn body(&self) -> &[u8] {
        let end = self.received.windows(4).position(|four| four == b"\r\n\r\n");
        end.map_or(&[], |end| &self.received[end + 4..])
    }

    fn has_all(&self) -> bool {
        self.received.len() > BODY && self.body().len() >= BODY
    }
}

fn trickle(readers: &mut [Reader]) {
    readers.iter_mut().for_each(|reader| reader.take(DROP));
    // The pace of the clients is what is tested.
    std::thread::sleep(PACE);
}

/// An origin that can do twenty requests at once, before which nobody waits longer than this.
fn before(fleet: &Fleet, buffering: &str, wait: &str) -> Ravelin {
    let toml = site(&[&fleet[0].url()], &format!("{buffering}[sites.proxy.queue]\n{wait}"));
    let toml =
        toml.replace("[[sites.proxy.upstreams]]", "[[sites.proxy.upstreams]]\nmax_conns = 20");
    Ravelin::start(&format!(
        "[logging]\nlog_requests = false\n[performance]\nworker_threads = 2\n\
         [limits]\nbody_grace = 60\n{toml}"
    ))
}

#[test]
fn a_thousand_trickling_readers_hold_nothing_of_the_origin() {
    let fleet = Fleet::start(1, Duration::from_millis(1));
    let buffering = "[sites.proxy.buffering]\nresponse = true\nmemory = \"32KB\"\n";
    let ravelin = before(&fleet, buffering, "max = 1000\ntimeout = \"10s\"\n");
    let memory_before = memory_kib(ravelin.pid(), "VmRSS");
    let mut readers: Vec<Reader> = (0..READERS).map(|_| Reader::ask(ravelin.addr())).collect();

    // The origin is done with all of them while they have hardly begun.
    let deadline = Instant::now() + PATIENCE;
    loop {
        trickle(&mut readers);
        let [asked, _, busy] = fleet[0].counts();
        assert!(busy <= 20, "{busy} requests at once");
        if asked == READERS {
            break;
        }
        assert!(Instant::now() < deadline, "the origin was asked {asked} times");
    }
    let another = ravelin.get("/").expect(200).text();
    assert_eq!(another, "0 ");
    let most = readers.iter().map(|reader| reader.body().len()).max().unwrap();
    assert!(most < BODY / 2, "a reader has {most} bytes already");
    let [_, connections, busy] = fleet[0].counts();
    // Each worker keeps its own; the test asked over one more.
    assert!(busy <= 20 && connections <= 41, "{busy} requests, {connections} connections at once");

    // What they have not taken lies in files, not in memory.
    let memory = memory_kib(ravelin.pid(), "VmHWM").saturating_sub(memory_before);
    let bodies = (READERS * BODY / 1024) as u64;
    eprintln!("{memory} KiB more for {bodies} KiB; {connections} connections, {busy} requests");
    assert!(memory < bodies / 2, "{memory} KiB of memory for {bodies} KiB of bodies");

    // Nor is anything lost, now that they hurry.
    for reader in &readers {
        socket2::SockRef::from(&reader.stream).set_recv_buffer_size(1 << 20).unwrap();
    }
    let wanted: Vec<u8> = (0..=255).cycle().take(BODY).collect();
    let deadline = Instant::now() + PATIENCE;
    while !readers.iter().all(Reader::has_all) {
        readers
            .iter_mut()
            .filter(|reader| !reader.has_all())
            .for_each(|reader| reader.take(65_536));
        assert!(Instant::now() < deadline, "not all of them get all");
    }
    for reader in &readers {
        assert_eq!(reader.status(), Some(&b"200"[..]));
        // Compared as a whole, which is faster, and byte by byte only to say where they differ.
        if reader.body() != wanted {
            assert_same_bytes(reader.body(), &wanted);
        }
    }
}

/// What buffering is for, seen from the other side.
#[test]
fn without_buffering_as_many_readers_as_the_origin_can_serve_shut_out_all_others() {
    let fleet = Fleet::start(1, Duration::from_millis(1));
    let ravelin = before(&fleet, "", "max = 1000\ntimeout = \"500ms\"\n");
    let mut readers: Vec<Reader> = (0..20).map(|_| Reader::ask(ravelin.addr())).collect();
    let deadline = Instant::now() + PATIENCE;
    while !readers.iter().all(|reader| reader.status() == Some(b"200")) {
        trickle(&mut readers);
        assert!(Instant::now() < deadline, "the readers get no response");
    }
    ravelin.get("/").expect(503);
    assert_eq!(established_to(fleet[0].port()), 20);
}
