//! Clients that hurt where a handshake is not done yet, and that others do not notice it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::*;

const HOST: &str = "example.com";

/// What the whole process may take under attack, in KiB.
const MEMORY_MAX: u64 = 256 * 1024;

struct Served {
    authority: Authority,
    origin: Origin,
    ravelin: Ravelin,
}

impl Served {
    #[track_caller]
    fn with(limits: &str) -> Served {
        let origin = Origin::saying("served");
        let authority = Authority::new();
        let toml = format!("[limits]\n{limits}\n{}", tls_site(HOST, "", &origin.url()));
        let ravelin = Setup::new(&toml).pair(HOST, &authority.server(&[HOST])).start();
        Served { authority, origin, ravelin }
    }

    fn addr(&self) -> SocketAddr {
        self.ravelin.addr()
    }

    fn open(&self) -> TcpStream {
        let socket = TcpStream::connect_timeout(&self.addr(), PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// An honest client is served; how long it took.
    #[track_caller]
    fn serve_honest(&self) -> Duration {
        let start = Instant::now();
        let mut client = TlsClient::trusting(&self.authority).connect(self.addr(), HOST);
        assert_eq!(client.get("/").expect(200).text(), "served");
        start.elapsed()
    }

    #[track_caller]
    fn assert_small(&self) {
        let peak = memory_kib(self.ravelin.pid(), "VmHWM");
        assert!(peak < MEMORY_MAX, "{peak} KiB");
    }
}

/// Whether the server has ended this connection, waiting for it until then.
#[track_caller]
fn await_end(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("the connection stays open")
        }
        Err(_) => {}
    }
    let text = String::from_utf8_lossy(&rest);
    assert!(!text.contains("HTTP"), "an answer before the handshake was done: {text}");
}

/// The first flight of a client.
fn client_hello() -> Vec<u8> {
    let client = TlsClient::trusting(&Authority::new());
    let name = HOST.try_into().unwrap();
    let mut session = rustls::ClientConnection::new(client.config.into(), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_client_that_is_silent_is_closed_after_the_handshake_timeout() {
    let served = Served::with("handshake_timeout = \"300ms\"");
    let start = Instant::now();
    await_end(&mut served.open());
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(250) && time < Duration::from_secs(3), "{time:?}");
    served.serve_honest();
}

#[test]
fn cve_2026_22045_a_client_that_stalls_anywhere_in_the_handshake_is_closed() {
    let served = Served::with("handshake_timeout = \"300ms\"");
    let hello = client_hello();
    // After a part of its first flight, or after all of it, when the server has answered.
    for sent in [1, 5, 6, 100, hello.len() - 1, hello.len()] {
        let start = Instant::now();
        let mut socket = served.open();
        socket.write_all(&hello[..sent]).unwrap();
        await_end(&mut socket);
        let time = start.elapsed();
        assert!(time < Duration::from_secs(3), "after {sent} bytes it took {time:?}");
    }
    served.serve_honest();
    assert_eq!(served.origin.requests().len(), 1);
}

#[test]
fn slowloris_a_byte_now_and_then_does_not_extend_the_handshake_timeout() {
    let served = Served::with("handshake_timeout = \"300ms\"");
    let start = Instant::now();
    let mut socket = served.open();
    // The pace is what is tested, so it is the one clock here.
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    for byte in client_hello() {
        let _ = socket.write_all(&[byte]);
        match socket.read(&mut [0; 64]) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
        assert!(start.elapsed() < PATIENCE, "a client that drips is waited for");
    }
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(250) && time < Duration::from_secs(3), "{time:?}");
}

#[test]
fn the_handshake_timeout_is_no_limit_on_what_comes_after_it() {
    let served = Served::with("handshake_timeout = \"300ms\"\nhead_timeout = 5");
    let mut client = TlsClient::trusting(&served.authority).connect(served.addr(), HOST);
    client.send("GET / HTTP/1.1\r\n");
    client.wire.sock.set_patience(Duration::from_millis(600));
    assert_eq!(client.wire.some(), Err(Broken::TimedOut));
    client.wire.sock.set_patience(PATIENCE);
    assert_eq!(client.ask("Host: example.com\r\n\r\n").expect(200).text(), "served");
}

#[test]
fn cve_2026_26999_three_hundred_silent_clients_do_not_keep_others_out() {
    let served = Served::with("handshakes = 8");
    let silent: Vec<TcpStream> = (0..300).map(|_| served.open()).collect();
    let time = served.serve_honest();
    assert!(time < Duration::from_secs(3), "an honest client waited {time:?}");
    served.assert_small();
    drop(silent);
}

#[test]
fn cve_2026_26999_clients_that_stall_do_not_keep_others_out() {
    // Far more than there are places, each of which could be held for ten seconds.
    let served = Served::with("handshakes = 8\n[performance]\nworker_threads = 1");
    let hello = client_hello();
    for sent in [1, hello.len() / 2, hello.len()] {
        let mut stalled: Vec<TcpStream> = (0..100)
            .map(|_| {
                let mut socket = served.open();
                socket.write_all(&hello[..sent]).unwrap();
                socket
            })
            .collect();
        // All have begun when only the youngest are left: else some would be younger than those who
        // come now.
        stalled[..92].iter_mut().for_each(await_end);
        for _ in 0..5 {
            let time = served.serve_honest();
            assert!(time < Duration::from_secs(3), "an honest client waited {time:?}");
        }
        drop(stalled);
    }
    served.assert_small();
}

#[test]
fn cve_2026_26999_handshakes_in_progress_are_bounded() {
    let served = Served::with("handshakes = 8\n[performance]\nworker_threads = 1");
    let hello = client_hello();
    let mut stalled: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut socket = served.open();
            socket.write_all(&hello[..100]).unwrap();
            socket
        })
        .collect();
    served.serve_honest();
    // All but the youngest have been ended, long before their time is up.
    let start = Instant::now();
    for socket in &mut stalled[..32] {
        await_end(socket);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let last = stalled.last_mut().unwrap();
    last.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let kind = last.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
}

#[test]
fn cve_2024_11738_a_hello_cut_anywhere_costs_one_connection() {
    let served = Served::with("");
    let hello = client_hello();
    for end in 0..hello.len().min(300) {
        let mut socket = served.open();
        socket.write_all(&hello[..end]).unwrap();
        let _ = socket.shutdown(Shutdown::Write);
        await_end(&mut socket);
    }
    served.serve_honest();
}

#[test]
fn rfc8446_5_1_garbage_of_any_kind_costs_one_connection() {
    let served = Served::with("");
    let hello = client_hello();
    let mut attempts: Vec<Vec<u8>> = vec![
        pattern(20_000, 31),
        vec![0; 20_000],
        vec![0x16; 20_000],
        // Records of a type, a version, or a length that there are not.
        b"\x16\x03\x01\xff\xff".repeat(4_000),
        b"\x17\x03\x03\x00\x01a".repeat(4_000),
        b"\x14\x03\x03\x00\x01\x01".repeat(4_000),
        b"\x15\x03\x03\x00\x02\x01\x00".repeat(4_000),
        b"\x16\x03\x01\x00\x00".repeat(4_000),
        // A handshake message that is said to be of 16 MiB.
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".iter().copied().chain(vec![0; 50_000]).collect(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        [&hello[..], b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"].concat(),
        hello.repeat(3),
    ];
    for at in (0..hello.len()).step_by(7) {
        let mut bent = hello.clone();
        bent[at] ^= 0xff;
        attempts.push(bent);
    }
    for bytes in attempts {
        let mut socket = served.open();
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        await_end(&mut socket);
    }
    served.serve_honest();
    served.assert_small();
    assert_eq!(served.origin.requests().len(), 1);
}

#[test]
fn an_attack_on_handshakes_costs_no_more_cpu_than_as_many_honest_clients() {
    const ATTACKERS: u32 = 60;
    const HONEST: u32 = 10;
    // Times an honest handshake with a request; what an attacker asks for is a handshake at most.
    const COST_MAX: u32 = 3;
    let served = Served::with("handshake_timeout = 1\n[performance]\nworker_threads = 1");
    let hello = client_hello();
    let cpu = || cpu_time(served.ravelin.pid());
    served.serve_honest();
    for (attack, bytes) in [
        ("a byte", hello[..1].to_vec()),
        ("half of a hello", hello[..hello.len() / 2].to_vec()),
        ("a hello and no answer", hello.clone()),
        ("garbage", vec![0x16; 20_000]),
        ("empty records", b"\x16\x03\x01\x00\x00".repeat(4_000)),
        ("records of a byte", b"\x16\x03\x01\x00\x01\x01".repeat(4_000)),
        ("changes of the cipher", b"\x14\x03\x03\x00\x01\x01".repeat(4_000)),
        ("hellos", hello.repeat(10)),
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100)),
    ] {
        let start = cpu();
        (0..HONEST).for_each(|_| _ = served.serve_honest());
        let (start, price) = (cpu(), (cpu() - start) / HONEST);
        let mut sockets: Vec<TcpStream> = (0..ATTACKERS).map(|_| served.open()).collect();
        for socket in &mut sockets {
            let _ = socket.write_all(&bytes);
        }
        // On the same worker others are served meanwhile.
        for _ in 0..HONEST {
            let time = served.serve_honest();
            assert!(time < PATIENCE, "{attack}: an honest client waited {time:?}");
        }
        for socket in &mut sockets {
            let _ended_or_reset = socket.read_to_end(&mut Vec::new());
        }
        let used = cpu() - start;
        println!("{attack}: {used:?}, an honest client {price:?}");
        let allowed = price * (COST_MAX * ATTACKERS + 3 * HONEST);
        assert!(used < allowed, "{attack}: {used:?} of CPU, an honest client costs {price:?}");
    }
    served.assert_small();
}

#[test]
fn cve_2026_32305_a_hello_in_many_records_is_understood_or_refused_but_never_mistaken() {
    // Each handshake byte in a record of its own: whoever reads the name from the first record only
    // chooses the wrong policy.
    let clients = Authority::new();
    let authority = Authority::new();
    let toml = tls_site("open.test", "", "http://127.0.0.1:1")
        + &tls_site("secure.test", "client_ca = \"clients.pem\"\n", "http://127.0.0.1:1");
    let setup = Setup::new(&toml).file("clients.pem", &clients.pem);
    let pair = authority.server(&["open.test", "secure.test"]);
    let ravelin = setup.pair("open.test", &pair).pair("secure.test", &pair).start();
    let client = TlsClient::tls12(&authority);
    let name = "secure.test".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(client.config.into(), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut socket = TcpStream::connect(ravelin.addr()).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for piece in hello[5..].chunks(3) {
        let record = [&[0x16, 3, 1, 0, piece.len() as u8], piece].concat();
        socket.write_all(&record).unwrap();
    }
    // It asks for a certificate (in TLS 1.2 that can be seen from outside), as it does of clients who
    // speak in one piece.
    let mut got = Vec::new();
    let asks = |bytes: &[u8]| handshake_types(bytes).contains(&13);
    while !asks(&got) {
        let mut piece = [0; 4096];
        let count = socket.read(&mut piece).unwrap();
        assert!(count > 0, "no certificate was asked for: {:?}", handshake_types(&got));
        got.extend_from_slice(&piece[..count]);
    }
}

/// The types of the handshake messages in records of TLS 1.2 without encryption.
fn handshake_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut messages = Vec::new();
    while let [0x16, 3, 3, high, low, rest @ ..] = bytes {
        let length = usize::from(*high) << 8 | usize::from(*low);
        messages.extend_from_slice(&rest[..length.min(rest.len())]);
        bytes = &rest[length.min(rest.len())..];
    }
    let mut types = Vec::new();
    let mut messages = &messages[..];
    while let [kind, a, b, c, rest @ ..] = messages {
        types.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        messages = &rest[length.min(rest.len())..];
    }
    types
}

#[test]
fn a_thousand_idle_clients_cost_little() {
    const CLIENTS: usize = 1000;
    let served = Served::with("[performance]\nworker_threads = 1\nkeep_alive_timeout = 60");
    let client = TlsClient::trusting(&served.authority);
    let connect = || {
        let mut client = client.connect(served.addr(), HOST);
        client.get("/").expect(200);
        client
    };
    // What the first ones cost is not theirs alone.
    let first: Vec<Client> = (0..50).map(|_| connect()).collect();
    let before = memory_kib(served.ravelin.pid(), "VmRSS");
    let idle: Vec<Client> = (0..CLIENTS).map(|_| connect()).collect();
    let after = memory_kib(served.ravelin.pid(), "VmRSS");
    let each = after.saturating_sub(before) * 1024 / CLIENTS as u64;
    assert!(each <= 24 * 1024, "{each} bytes for an idle connection");
    println!("{each} bytes for an idle connection");
    drop((first, idle));
}
