//! Connections that a load balancer passes on with the PROXY protocol: who the client is then, and
//! that nobody else may say so.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use crate::harness::*;

const HOST: &str = "example.com";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

/// A client far away, and the balancer's address that it connected to.
const CLIENT: &str = "192.0.2.1:56324";
const BALANCER: &str = "198.51.100.2:443";

/// Said to the origin of the client [`CLIENT`].
const NAMED: &str = "192.0.2.1 for=192.0.2.1;host=example.com;proto=http";

/// An origin that answers with what it was told of the client.
fn telling() -> Origin {
    Origin::serve(|request| {
        let said = |name| request.get(name).unwrap_or("-");
        ok(&format!("{} {}", said("x-forwarded-for"), said("forwarded")))
    })
}

/// Ravelin on a listener with the PROXY protocol, where 127.0.0.1 is the balancer.
struct Behind {
    origin: Origin,
    ravelin: Ravelin,
}

impl Behind {
    #[track_caller]
    fn start() -> Behind {
        Behind::with("", "")
    }

    /// With these keys of `[limits]` and of the site.
    #[track_caller]
    fn with(limits: &str, keys: &str) -> Behind {
        let origin = telling();
        let site = site_with(&format!("proxy_protocol = true\n{keys}"), &[&origin.url()], "");
        let toml = format!("{TRUSTED}[limits]\n{limits}\n{site}");
        Behind { ravelin: Ravelin::start(&toml), origin }
    }

    fn addr(&self) -> SocketAddr {
        self.ravelin.addr()
    }

    #[track_caller]
    fn client(&self) -> Client {
        self.ravelin.client()
    }

    /// A connection on which nothing is read but what is asked for.
    #[track_caller]
    fn open(&self) -> TcpStream {
        let socket = TcpStream::connect_timeout(&self.addr(), PATIENCE).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// These bytes get the connection closed, without an answer and without the origin's knowledge.
    #[track_caller]
    fn assert_refused(&self, bytes: &[u8]) {
        let before = self.origin.connections();
        self.client().send(bytes).expect_close();
        assert_eq!(self.origin.connections(), before, "{}", bytes.escape_ascii());
    }

    /// The balancer still gets through.
    #[track_caller]
    fn serve_honest(&self) {
        let mut client = self.client();
        client.send(proxy_v1_between(CLIENT, BALANCER));
        assert_eq!(client.get("/").expect(200).text(), NAMED);
    }
}

/// The balancer is at 127.0.0.1, another proxy behind the balancer in 10.0.0.0/8.
const TRUSTED: &str = "[security]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n\
                       [logging]\nformat = \"json\"\n";

/// [`Behind`] with TLS.
struct BehindTls {
    authority: Authority,
    behind: Behind,
}

impl BehindTls {
    #[track_caller]
    fn with(limits: &str) -> BehindTls {
        let (origin, authority) = (telling(), Authority::new());
        let site = tls_site(HOST, "", &origin.url());
        let site = site.replacen("listen", "proxy_protocol = true\nlisten", 1);
        let setup = Setup::new(&format!("{TRUSTED}[limits]\n{limits}\n{site}"));
        let ravelin = setup.pair(HOST, &authority.server(&[HOST])).start();
        BehindTls { authority, behind: Behind { origin, ravelin } }
    }

    fn session(&self) -> ClientConnection {
        let client = TlsClient::trusting(&self.authority);
        ClientConnection::new(client.config.into(), HOST.try_into().unwrap()).unwrap()
    }
}

/// The first flight of a TLS client.
fn hello(session: &mut ClientConnection) -> Vec<u8> {
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

fn v1(line: &str) -> Vec<u8> {
    format!("{line}\r\n").into_bytes()
}

fn v2(tlvs: &[u8]) -> Vec<u8> {
    proxy_v2_between(CLIENT, BALANCER, tlvs)
}

/// A header, and the address and port of the client it names. `None` if it names nobody.
type Header = (Vec<u8>, Option<(&'static str, u16)>);

fn headers() -> Vec<Header> {
    let client = Some(("192.0.2.1", 56324));
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let unknown = format!("PROXY UNKNOWN {longest} {longest} 65535 65535");
    assert_eq!(unknown.len() + 2, 107);
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 0xbb];
    let tlvs = [
        proxy_tlv(0x01, "h2"),
        proxy_tlv(0x02, "example.com"),
        proxy_tlv(0x04, ""),
        proxy_tlv(0x05, [7; 128]),
        proxy_tlv(0x20, [&[1, 0, 0, 0, 0][..], &proxy_tlv(0x21, "TLSv1.3")].concat()),
        proxy_tlv(0x30, "netns"),
        proxy_tlv(0xea, "vendor"),
    ];
    vec![
        (v1("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443"), client),
        (
            v1("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535"),
            Some(("255.255.255.255", 65535)),
        ),
        (v1("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535"), Some(("2001:db8::1", 1))),
        (v1(&unknown.replace("UNKNOWN", "TCP6")), Some((longest, 65535))),
        // The same client as if it had come over IPv4.
        (v1("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 56324 443"), client),
        (v1("PROXY UNKNOWN"), None),
        (v1("PROXY UNKNOWN what ever 6.6.6.6"), None),
        (v1(&unknown), None),
        (v2(&[]), client),
        (
            proxy_v2_between("[2001:db8::1]:4711", "[2001:db8::2]:443", &[]),
            Some(("2001:db8::1", 4711)),
        ),
        (v2(&tlvs.concat()), client),
        // PP2_TYPE_CRC32C, computed elsewhere.
        (v2(&proxy_tlv(0x03, 0x20ec_9549_u32.to_be_bytes())), client),
        // As long as is taken.
        (v2(&proxy_tlv(0xea, vec![0; 4096 - 16 - 12 - 3])), client),
        (proxy_v2(0x20, 0x00, []), None),
        (proxy_v2(0x20, 0x00, tlvs.concat()), None),
        // What a LOCAL header says of addresses is to be ignored.
        (proxy_v2(0x20, 0x11, v4), None),
        (proxy_v2(0x20, 0x21, []), None),
        (proxy_v2(0x21, 0x00, []), None),
        (proxy_v2(0x21, 0x00, [9; 30]), None),
        (proxy_v2(0x21, 0x31, [b'/'; 216]), None),
    ]
}

/// The `Forwarded` element of a client by HTTP.
fn forwarded(client: &str) -> String {
    let node = if client.contains(':') { format!("\"[{client}]\"") } else { client.to_owned() };
    format!("for={node};host=example.com;proto=http")
}

#[test]
fn every_header_is_understood() {
    let behind = Behind::start();
    let mut logged = Vec::new();
    for (n, (header, named)) in headers().into_iter().enumerate() {
        let mut client = behind.client();
        let own = client.wire.sock.tcp().unwrap().local_addr().unwrap().port();
        let (ip, port) = named.unwrap_or(("127.0.0.1", own));
        let told = format!("{ip} {}", forwarded(ip));
        // The header comes alone, and the connection stays that client's.
        client.send(&header);
        for step in ["first", "second"] {
            let shown = header.escape_ascii();
            assert_eq!(client.get(&format!("/{n}/{step}")).expect(200).text(), told, "{shown}");
            let target = format!("\"target\":\"/{n}/{step}\"");
            logged.push((target, format!("\"client\":\"{ip}\",\"client_port\":{port},")));
        }
    }
    for (target, client) in logged {
        let line = behind.ravelin.stdout.line_with(&[&target]);
        assert!(line.contains(&client), "not {client}: {line}");
    }
}

#[test]
fn requests_may_come_with_the_header() {
    let behind = Behind::start();
    for (header, named) in headers() {
        let mut client = behind.client();
        client.send([&header, REQUEST.as_bytes(), REQUEST.as_bytes()].concat());
        let ip = named.map_or("127.0.0.1", |(ip, _)| ip);
        for _ in 0..2 {
            let told = format!("{ip} {}", forwarded(ip));
            assert_eq!(client.response("GET").expect(200).text(), told);
        }
        client.finish();
        client.expect_close();
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let behind = Behind::start();
    for header in [proxy_v1_between(CLIENT, BALANCER), v2(&proxy_tlv(0x02, HOST))] {
        let mut socket = behind.open();
        drip(&mut socket, &[&header, &REQUEST.as_bytes()[..REQUEST.len() - 1]].concat());
        let mut client = Client::over(Sock::Tcp(socket));
        assert_eq!(client.ask("\n").expect(200).text(), NAMED);
    }
}

/// Sends each byte on its own, and gives the peer the time to see it. Nothing comes back.
#[track_caller]
fn drip(socket: &mut TcpStream, bytes: &[u8]) {
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    for byte in bytes {
        socket.write_all(&[*byte]).unwrap();
        let kind = socket.read(&mut [0]).map_err(|e| e.kind());
        assert!(matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{kind:?}");
    }
}

#[test]
fn tls_follows_the_header() {
    let tls = BehindTls::with("");
    for (header, named) in headers() {
        let mut socket = tls.behind.open();
        let ip = named.map_or("127.0.0.1", |(ip, _)| ip);
        let told = format!("{ip} {}", forwarded(ip).replace("http", "https"));
        socket.write_all(&header).unwrap();
        let client = TlsClient::trusting(&tls.authority);
        let mut client = client.try_connect_over(socket, HOST).unwrap();
        for _ in 0..2 {
            assert_eq!(client.get("/").expect(200).text(), told);
        }
    }
}

#[test]
fn tls_may_begin_in_the_segment_of_the_header() {
    let tls = BehindTls::with("");
    let told = NAMED.replace("http", "https");
    let headers = [proxy_v1_between(CLIENT, BALANCER), v2(&proxy_tlv(0x02, HOST))];
    for (header, at_once) in headers.iter().flat_map(|header| [(header, true), (header, false)]) {
        let mut session = tls.session();
        let first = [&header[..], &hello(&mut session)].concat();
        let mut socket = tls.behind.open();
        match at_once {
            true => socket.write_all(&first).unwrap(),
            false => {
                let (slowly, rest) = first.split_at(header.len() + 20);
                drip(&mut socket, slowly);
                socket.write_all(rest).unwrap();
            }
        }
        let stream = StreamOwned::new(session, socket);
        let mut client = Client::over(Sock::Tls(Box::new(stream)));
        assert_eq!(client.get("/").expect(200).text(), told);
    }
}

#[test]
fn http2_follows_the_header() {
    let behind = Behind::with("", "h2c = true");
    let first = [PREFACE, &frame(SETTINGS, 0, 0, settings(&[(HEADER_TABLE_SIZE, 0)]))].concat();
    for (header, named) in headers() {
        let ip = named.map_or("127.0.0.1", |(ip, _)| ip);
        let told = format!("{ip} {}", forwarded(ip));
        // In one segment, with the preface torn, and alone.
        for cut in [0, 7, first.len()] {
            let mut client = Http2::silent(behind.addr());
            let (with, after) = first.split_at(first.len() - cut);
            client.send([&header[..], with].concat());
            client.send(after);
            for stream in [1, 3] {
                let response = client.get(stream, "/");
                assert_eq!(response.status, 200);
                assert_eq!(String::from_utf8(response.body).unwrap(), told);
            }
        }
        // The listener takes HTTP/1 as before.
        let mut client = behind.client();
        assert_eq!(client.ask([&header, REQUEST.as_bytes()].concat()).expect(200).text(), told);
    }
}

#[test]
fn a_client_behind_the_balancer_cannot_say_that_it_is_another() {
    let behind = Behind::start();
    for (n, (client, forged, counts, told)) in [
        (CLIENT, "6.6.6.6", "192.0.2.1", "6.6.6.6, 192.0.2.1"),
        (CLIENT, "127.0.0.1, 10.0.0.1", "192.0.2.1", "127.0.0.1, 10.0.0.1, 192.0.2.1"),
        // The balancer's client is a proxy that is trusted itself.
        ("10.0.0.9:1", "6.6.6.6, 203.0.113.5", "203.0.113.5", "6.6.6.6, 203.0.113.5, 10.0.0.9"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut conn = behind.client();
        conn.send(proxy_v2_between(client, BALANCER, &[]));
        let fields = format!("X-Forwarded-For: {forged}\r\nForwarded: for=6.6.6.6");
        let request = format!("GET /{n} HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n\r\n");
        conn.ask(request).expect(200);
        let request = behind.origin.request(n);
        assert_eq!(request.get("x-forwarded-for"), Some(told));
        let forwarded = request.get("forwarded").unwrap();
        let ip = client.rsplit_once(':').unwrap().0;
        assert!(forwarded.ends_with(&format!(", for={ip};host=example.com;proto=http")));
        let target = format!("\"target\":\"/{n}\"");
        let line = behind.ravelin.stdout.line_with(&[&target]);
        assert!(line.contains(&format!("\"client\":\"{counts}\"")), "{line}");
    }
}

#[test]
fn a_header_counts_once_at_the_front_of_a_connection() {
    let behind = Behind::start();
    let header = proxy_v1_between("6.6.6.6:6", BALANCER);
    // A second one is no request, neither at once nor later.
    let mut client = behind.client();
    client.send([&v2(&[])[..], &header, REQUEST.as_bytes()].concat());
    client.response("GET").expect(400);
    client.expect_close();
    let mut client = behind.client();
    client.send(v2(&[]));
    client.get("/").expect(200);
    client.send([&header, REQUEST.as_bytes()].concat());
    client.response("GET").expect(400);
    client.expect_close();
    assert_eq!(behind.origin.requests().len(), 1);
}

#[test]
fn a_listener_without_the_protocol_takes_no_header() {
    let origin = telling();
    let ravelin = Ravelin::start(&format!("{TRUSTED}{}", site(&[&origin.url()], "")));
    for header in [proxy_v1_between(CLIENT, BALANCER), v2(&[])] {
        let mut client = ravelin.client();
        client.send([&header, REQUEST.as_bytes()].concat());
        client.response("GET").expect(400);
        client.expect_close();
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_peer_that_is_not_trusted_is_closed_whatever_it_says() {
    let behind = Behind::with("handshake_timeout = 60", "");
    let header = [&proxy_v1_between(CLIENT, BALANCER), REQUEST.as_bytes()].concat();
    for bytes in [&header[..], &[&v2(&[]), REQUEST.as_bytes()].concat(), REQUEST.as_bytes(), b""] {
        let mut client = Client::connect_from("127.0.0.2", behind.addr());
        client.send(bytes).expect_close();
    }
    assert_eq!(behind.origin.connections(), 0);
    behind.serve_honest();
    // The same over TLS.
    let tls = BehindTls::with("handshake_timeout = 60");
    let mut client = Client::connect_from("127.0.0.2", tls.behind.addr());
    client.send([&v2(&[])[..], &hello(&mut tls.session())].concat()).expect_close();
}

#[test]
fn a_peer_on_a_unix_socket_is_not_trusted() {
    let (origin, dir) = (telling(), TempDir::new());
    let path = dir.path().join("r.sock");
    let site = site_with("proxy_protocol = true", &[&origin.url()], "");
    let site = site.replace("127.0.0.1:0", &format!("unix:{}", path.display()));
    let _ravelin = Ravelin::start(&format!("{TRUSTED}{site}"));
    let mut client = Client::connect_unix(&path);
    client.send([&v2(&[]), REQUEST.as_bytes()].concat()).expect_close();
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_connection_without_a_header_is_closed_without_an_answer() {
    let behind = Behind::with("handshake_timeout = 60", "h2c = true");
    behind.assert_refused(REQUEST.as_bytes());
    behind.assert_refused(PREFACE);
    behind.assert_refused(b"\r\n\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    behind.assert_refused(b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n");
    behind.assert_refused(&[0]);
    let tls = BehindTls::with("handshake_timeout = 60");
    tls.behind.assert_refused(&hello(&mut tls.session()));
    tls.behind.assert_refused(REQUEST.as_bytes());
    // A header and no TLS where TLS is wanted: the client is told, and nothing is served.
    let mut client = tls.behind.client();
    client.send([&v2(&[]), REQUEST.as_bytes()].concat());
    assert!(client.response("GET").expect(400).text().contains("HTTPS port"));
    assert_eq!(tls.behind.origin.connections(), 0);
    // The listeners are none the worse for it.
    behind.serve_honest();
}

#[test]
fn a_malformed_header_is_closed_without_an_answer() {
    let behind = Behind::with("handshake_timeout = 60", "");
    let text: [&[u8]; 24] = [
        b"proxy TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b" PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY\tTCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 80\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 +56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2  443\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.2 1 443\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n",
        b"PROXY TCP4 192.0.2 198.51.100.2 1 443\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 1 443\r\n",
        b"PROXY TCP6 [2001:db8::1] [2001:db8::2] 1 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 443\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
        b"PROXY TCP4 \xff 198.51.100.2 1 443\r\n",
        b"PROXY \r\n",
    ];
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 0xbb];
    let bent = |at: usize, byte: u8| {
        let mut header = v2(&[]);
        header[at] = byte;
        header
    };
    let binary = vec![
        bent(11, b'\r'),
        // Versions, commands, families and transports that there are not.
        bent(12, 0x11),
        bent(12, 0x31),
        bent(12, 0x22),
        bent(12, 0x2f),
        bent(13, 0x13),
        bent(13, 0x41),
        bent(13, 0xf1),
        bent(13, 0x10),
        // Addresses that do not fit into the length.
        proxy_v2(0x21, 0x11, &v4[..11]),
        proxy_v2(0x21, 0x11, []),
        proxy_v2(0x21, 0x21, v4),
        proxy_v2(0x21, 0x31, v4),
        // TLVs that reach beyond it.
        v2(&[0x01]),
        v2(&[0x01, 0]),
        v2(&[0x01, 0, 3, b'h', b'2']),
        v2(&[0x04, 0xff, 0xff]),
        v2(&[&proxy_tlv(0x01, "h2")[..], &[0xea, 0, 1]].concat()),
        // A checksum that is wrong, and one that is none.
        v2(&proxy_tlv(0x03, 0x20ec_9548_u32.to_be_bytes())),
        v2(&proxy_tlv(0x03, [0; 3])),
    ];
    for header in text.into_iter().chain(binary.iter().map(|header| &header[..])) {
        behind.assert_refused(&[header, REQUEST.as_bytes()].concat());
    }
    assert_eq!(behind.origin.requests().len(), 0);
    behind.serve_honest();
}

#[test]
fn cve_2026_47692_a_header_that_is_too_long_is_refused_by_its_first_bytes() {
    let behind = Behind::with("handshake_timeout = 60", "");
    // Version 1 has 107 bytes for a line with its end.
    let spun = |len: usize| [b"PROXY UNKNOWN ", &vec![b'x'; len - 14][..]].concat();
    behind.assert_refused(&spun(107));
    behind.assert_refused(&[&spun(106)[..], b"\r\n", REQUEST.as_bytes()].concat());
    behind.assert_refused(&spun(100_000));
    // Of version 2 a length that is more than 4 KiB is all that is looked at: nothing else is sent.
    for length in [4081_u16, 0x7fff, 0x8000, 0xffff] {
        for (command, family) in [(0x21, 0x11), (0x21, 0x21), (0x20, 0x00), (0x21, 0x00)] {
            let mut header = proxy_v2(command, family, []);
            header[14..].copy_from_slice(&length.to_be_bytes());
            behind.assert_refused(&header);
        }
    }
    behind.assert_refused(&v2(&proxy_tlv(0xea, vec![0; 60_000])));
    behind.assert_refused(&v2(&proxy_tlv(0xea, vec![0; 4096 - 16 - 12 - 3 + 1])));
    assert_eq!(behind.origin.connections(), 0);
    behind.serve_honest();
}

/// Headers that end before their time.
fn unfinished() -> Vec<Vec<u8>> {
    let (v1, v2) = (proxy_v1_between(CLIENT, BALANCER), v2(&proxy_tlv(0x02, HOST)));
    let mut all = vec![v2[..1].to_vec(), v2[..12].to_vec(), v2[..15].to_vec(), v2[..16].to_vec()];
    all.extend([v1[..1].to_vec(), v1[..6].to_vec(), v1[..20].to_vec()]);
    all.extend([v1, v2].map(|whole| whole[..whole.len() - 1].to_vec()));
    all
}

#[test]
fn a_header_that_is_never_finished_is_closed_after_the_handshake_timeout() {
    let behind = Behind::with("handshake_timeout = \"300ms\"", "");
    for bytes in [vec![Vec::new()], unfinished()].concat() {
        let start = Instant::now();
        behind.client().send(&bytes).expect_close();
        let time = start.elapsed();
        let (least, most) = (Duration::from_millis(250), Duration::from_secs(3));
        assert!(time >= least && time < most, "{}: {time:?}", bytes.escape_ascii());
    }
    assert_eq!(behind.origin.connections(), 0);
    behind.serve_honest();
}

#[test]
fn slowloris_a_byte_now_and_then_does_not_extend_the_handshake_timeout() {
    let tls = BehindTls::with("handshake_timeout = \"300ms\"");
    let start = Instant::now();
    let mut socket = tls.behind.open();
    // The pace is what is tested, so it is the one clock here. The header takes half of the time,
    // and what it leaves is all there is for the handshake.
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    for byte in [v2(&[]), hello(&mut tls.session())].concat() {
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
fn the_handshake_timeout_is_no_limit_on_what_comes_after_the_header() {
    let behind = Behind::with("handshake_timeout = \"300ms\"", "");
    let mut client = behind.client();
    client.send(v2(&[])).wire.sock.set_patience(Duration::from_millis(600));
    assert_eq!(client.wire.some(), Err(Broken::TimedOut));
    client.wire.sock.set_patience(PATIENCE);
    assert_eq!(client.get("/").expect(200).text(), NAMED);
}

#[test]
fn a_peer_that_ends_in_its_header_is_closed_at_once() {
    let behind = Behind::with("handshake_timeout = 60", "");
    for bytes in [vec![Vec::new()], unfinished()].concat() {
        let mut client = behind.client();
        client.send(&bytes).finish();
        client.expect_close();
    }
    assert_eq!(behind.origin.connections(), 0);
    behind.serve_honest();
}

#[test]
fn unfinished_headers_keep_nobody_out() {
    let behind = Behind::with("handshake_timeout = 60\n[performance]\nworker_threads = 1", "");
    let long = v2(&proxy_tlv(0xea, vec![0; 4096 - 16 - 12 - 3]));
    behind.serve_honest();
    let before = memory_kib(behind.ravelin.pid(), "VmRSS");
    let mut stalled: Vec<TcpStream> = (0..500).map(|_| behind.open()).collect();
    for socket in &mut stalled {
        socket.write_all(&long[..long.len() - 1]).unwrap();
    }
    behind.serve_honest();
    let after = memory_kib(behind.ravelin.pid(), "VmRSS");
    let each = after.saturating_sub(before) * 1024 / stalled.len() as u64;
    assert!(each <= 24 * 1024, "{each} bytes for a connection that waits");
    // Each of them is still served once it goes on.
    for socket in stalled {
        let mut client = Client::over(Sock::Tcp(socket));
        client.send([&long[long.len() - 1..], REQUEST.as_bytes()].concat());
        assert_eq!(client.response("GET").expect(200).text(), NAMED);
        client.wire.sock.shutdown(Shutdown::Both);
    }
}

#[test]
fn curl_names_itself() {
    let behind = Behind::with("", "h2c = true");
    let url = behind.ravelin.url("/");
    for http in ["--http1.1", "--http2-prior-knowledge"] {
        let text = curl(&["--haproxy-protocol", "-H", "Host: example.com", http, &url]);
        assert_eq!(text, NAMED.replace("192.0.2.1", "127.0.0.1"), "{http}");
    }
    assert!(!curl_any(&[&url]).0, "served without a header");
    let tls = BehindTls::with("");
    let ca = tls.behind.ravelin.dir().join("ca.pem");
    std::fs::write(&ca, &tls.authority.pem).unwrap();
    let port = tls.behind.addr().port();
    let resolve = format!("{HOST}:{port}:127.0.0.1");
    let url = format!("https://{HOST}:{port}/");
    for http in ["--http1.1", "--http2"] {
        let args = ["--haproxy-protocol", "--cacert", ca.to_str().unwrap(), "--resolve", &resolve];
        let text = curl(&[&args[..], &["-w", " %{http_version}", http, &url]].concat());
        let version = http.trim_start_matches("--http");
        assert!(text.starts_with("127.0.0.1 for=127.0.0.1;"), "{text}");
        assert!(text.ends_with(&format!("proto=https {version}")), "{text}");
    }
}

/// HAProxy that passes connections on to Ravelin with this setting.
fn balancer(behind: &Behind, setting: &str) -> HaProxy {
    let lines = format!(
        "    mode tcp\n    default_backend b\nbackend b\n    mode tcp\n    server s {} {setting}",
        behind.addr()
    );
    HaProxy::start("", &lines, &[])
}

const BALANCERS: [&str; 4] = [
    "send-proxy",
    "send-proxy-v2",
    "send-proxy-v2 proxy-v2-options crc32c,unique-id",
    "send-proxy-v2-ssl-cn proxy-v2-options authority,cert-key,cert-sig,ssl-cipher",
];

#[test]
fn haproxy_in_front_names_each_client() {
    let behind = Behind::with("", "h2c = true");
    for setting in BALANCERS {
        let haproxy = balancer(&behind, setting);
        let mut ports = Vec::new();
        for n in 0..3 {
            let ip = format!("127.0.0.{}", n + 5);
            let mut client = Client::connect_from(&ip, haproxy.addr());
            let port = client.wire.sock.tcp().unwrap().local_addr().unwrap().port();
            ports.push(port);
            let told = format!("{ip} {}", forwarded(&ip));
            for _ in 0..2 {
                assert_eq!(client.get(&format!("/{port}")).expect(200).text(), told, "{setting}");
            }
            let target = format!("\"target\":\"/{port}\"");
            let line = behind.ravelin.stdout.line_with(&[&target]);
            let logged = format!("\"client\":\"{ip}\",\"client_port\":{port},");
            assert!(line.contains(&logged), "{setting}: {line}");
        }
        let mut client = Http2::connect(haproxy.addr());
        assert_eq!(client.get(1, "/").status, 200, "{setting}");
    }
}

#[test]
fn haproxy_in_front_leaves_tls_to_ravelin() {
    let tls = BehindTls::with("");
    for setting in BALANCERS {
        let haproxy = balancer(&tls.behind, setting);
        let socket = Client::connect_from("127.0.0.7", haproxy.addr());
        let Sock::Tcp(socket) = socket.wire.sock else { unreachable!() };
        let client = TlsClient::trusting(&tls.authority);
        let mut client = client.try_connect_over(socket, HOST).unwrap();
        let told = NAMED.replace("192.0.2.1", "127.0.0.7").replace("http", "https");
        assert_eq!(client.get("/").expect(200).text(), told, "{setting}");
    }
}

#[test]
fn haproxy_checks_with_a_local_header() {
    // Its own connections say LOCAL: they are its, not a client's.
    let behind = Behind::start();
    let lines = format!(
        "    mode http\n    default_backend b\nbackend b\n    mode http\n    option httpchk\n    \
         http-check send meth GET uri /check hdr Host example.com\n    \
         server s {} send-proxy-v2 check check-send-proxy inter 100ms",
        behind.addr()
    );
    let _haproxy = HaProxy::start("", &lines, &[]);
    let check = behind.origin.request(0);
    assert_eq!((&check.target[..], check.get("x-forwarded-for")), ("/check", Some("127.0.0.1")));
    // The second one comes after the first was found good.
    assert_eq!(behind.origin.request(1).target, "/check");
}
