//! Telling an upstream of the client with the PROXY protocol: what stands at the front of each
//! connection to it, byte for byte, and whose it is.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use h2::server::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::harness::*;

/// One site before this upstream, which wants headers of this version; `more` continues the
/// upstream's table and may open its own.
fn toml(version: &str, url: &str, more: &str) -> String {
    format!(
        "[performance]\nworker_threads = 1\n[[sites]]\nname = \"test\"\n\
         hostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n[sites.proxy]\nenabled = true\n\
         [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"backend\"\nwebsocket = {}\n\
         [[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n\
         proxy_protocol = \"{version}\"\n{more}\n",
        !url.starts_with("h2")
    )
}

/// The same with 127.0.0.1 as a proxy that says who its clients are.
fn trusting(version: &str, url: &str) -> String {
    let trusted = "[security]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n";
    format!("{trusted}{}", toml(version, url, ""))
}

/// An origin that takes a header of this version off each connection, and hands on the header and the
/// first request behind it. The connection stays open for as long as Ravelin wants.
fn reading(version: &'static str) -> (Origin, Receiver<(Vec<u8>, Request)>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let origin = Origin::script(move |conn| {
        let header = header(&mut conn.wire, version);
        let request = conn.request();
        let _ = sender.lock().unwrap().send((header, request));
        conn.send(ok("served"));
        // Nothing else comes over it: it has told of one client.
        assert_eq!(conn.wire.rest().unwrap_or_default().escape_ascii().to_string(), "");
    });
    (origin, receiver)
}

/// The header at the front of a connection, as it came.
fn header(wire: &mut Wire, version: &str) -> Vec<u8> {
    if version == "v1" {
        return wire.until(b"\r\n").unwrap();
    }
    let mut header = wire.bytes(16).unwrap();
    let length = u16::from_be_bytes([header[14], header[15]]);
    header.extend(wire.bytes(length.into()).unwrap());
    header
}

/// The header of this version for a TCP connection between these.
fn between(version: &str, source: impl ToString, destination: impl ToString) -> Vec<u8> {
    let (source, destination) = (source.to_string(), destination.to_string());
    match version {
        "v1" => proxy_v1_between(&source, &destination),
        _ => proxy_v2_between(&source, &destination, &[]),
    }
}

/// The header of this version that names nobody.
fn nobody(version: &str) -> Vec<u8> {
    match version {
        "v1" => b"PROXY UNKNOWN\r\n".to_vec(),
        _ => proxy_v2(0x20, 0x00, []),
    }
}

fn address(client: &Client) -> SocketAddr {
    client.wire.sock.tcp().unwrap().local_addr().unwrap()
}

#[test]
fn a_connection_begins_with_the_header_and_goes_on_with_the_request() {
    for version in ["v1", "v2"] {
        let (origin, seen) = reading(version);
        let ravelin = Ravelin::start(&toml(version, &origin.url(), ""));
        let mut client = Client::connect_from("127.0.0.9", ravelin.addr());
        assert_eq!(client.get("/path").expect(200).text(), "served");
        let (header, request) = next(&seen, "a connection");
        let expected = between(version, address(&client), ravelin.addr());
        assert_eq!(header.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(request.target, "/path");
        assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.9"));
    }
}

#[test]
fn addresses_are_of_one_family() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6: nothing can be tested here");
        return;
    }
    for version in ["v1", "v2"] {
        let (origin, seen) = reading(version);
        // A listener for both families.
        let port = free_port();
        let listen = format!("port = {port}");
        let toml = toml(version, &origin.url(), "").replace("listen = [\"127.0.0.1:0\"]", &listen);
        let _ravelin = Ravelin::start(&toml);
        for ip in ["127.0.0.1", "[::1]"] {
            let to: SocketAddr = format!("{ip}:{port}").parse().unwrap();
            let mut client = Client::connect(to);
            client.get("/").expect(200);
            let expected = between(version, address(&client), to);
            assert_eq!(next(&seen, "a connection").0, expected, "{version} {ip}");
        }
    }
}

#[test]
fn a_client_without_an_address_is_not_named() {
    for version in ["v1", "v2"] {
        let (origin, seen) = reading(version);
        let dir = TempDir::new();
        let path = dir.path().join("r.sock");
        let listen = format!("unix:{}", path.display());
        let toml = toml(version, &origin.url(), "").replace("127.0.0.1:0", &listen);
        let _ravelin = Ravelin::start(&toml);
        Client::connect_unix(&path).get("/").expect(200);
        assert_eq!(next(&seen, "a connection").0, nobody(version));
    }
}

#[test]
fn a_client_that_a_trusted_proxy_vouches_for_is_named_without_a_port() {
    for version in ["v1", "v2"] {
        let (origin, seen) = reading(version);
        let ravelin = Ravelin::start(&trusting(version, &origin.url()));
        for (forwarded, client) in [
            ("203.0.113.5", "203.0.113.5:0"),
            ("6.6.6.6, 203.0.113.5, 10.0.0.1", "203.0.113.5:0"),
            ("203.0.113.5:4711", "203.0.113.5:0"),
        ] {
            let request = format!(
                "GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: {forwarded}\r\n\r\n"
            );
            ravelin.ask(request).expect(200);
            let expected = between(version, client, ravelin.addr());
            assert_eq!(next(&seen, "a connection").0, expected, "{version} {forwarded}");
        }
        // An IPv6 client of a proxy that came over IPv4: both ends in one family.
        let request = "GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n";
        ravelin.ask(request).expect(200);
        let (header, _) = next(&seen, "a connection");
        let to = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), ravelin.addr().port());
        assert_eq!(header, between(version, "[2001:db8::7]:0", to));
    }
}

#[test]
fn a_client_that_nobody_vouches_for_cannot_say_that_it_is_another() {
    for version in ["v1", "v2"] {
        let (origin, seen) = reading(version);
        let ravelin = Ravelin::start(&toml(version, &origin.url(), ""));
        let mut client = ravelin.client();
        let forged = "X-Forwarded-For: 203.0.113.5\r\nForwarded: for=203.0.113.5";
        client.ask(format!("GET / HTTP/1.1\r\nHost: example.com\r\n{forged}\r\n\r\n")).expect(200);
        let expected = between(version, address(&client), ravelin.addr());
        assert_eq!(next(&seen, "a connection").0, expected);
    }
}

#[test]
fn what_a_balancer_said_is_passed_on() {
    let (v4, to_v4) = ("192.0.2.1:56324", "198.51.100.2:443");
    let (v6, to_v6) = ("[2001:db8::1]:4711", "[2001:db8::2]:8443");
    for version in ["v1", "v2"] {
        let (origin, seen) = reading(version);
        let toml = trusting(version, &origin.url());
        let ravelin = Ravelin::start(&toml.replace("listen", "proxy_protocol = true\nlisten"));
        for said in ["v1", "v2"] {
            for (from, to) in [(v4, to_v4), (v6, to_v6)] {
                let mut client = ravelin.client();
                client.send(between(said, from, to));
                client.get("/").expect(200);
                let expected = between(version, from, to);
                assert_eq!(next(&seen, "a connection").0, expected, "{said} to {version}");
            }
            // The balancer itself.
            let mut client = ravelin.client();
            client.send(nobody(said)).get("/").expect(200);
            let expected = between(version, address(&client), ravelin.addr());
            assert_eq!(next(&seen, "a connection").0, expected, "{said} to {version}");
        }
    }
}

#[test]
fn no_connection_is_used_for_two_clients() {
    for version in ["v1", "v2"] {
        let (origin, seen) = reading(version);
        let ravelin = Ravelin::start(&toml(version, &origin.url(), ""));
        let mut clients = [ravelin.client(), ravelin.client()];
        for n in 0..6 {
            let client = &mut clients[n % 2];
            client.get(&format!("/{n}")).expect(200);
            let (header, request) = next(&seen, "a connection");
            assert_eq!(request.target, format!("/{n}"));
            assert_eq!(header, between(version, address(client), ravelin.addr()));
        }
        // The origin would have complained of a second request on one of them.
        assert_eq!(origin.connections(), origin.requests().len());
    }
}

#[test]
fn a_body_and_a_tunnel_follow_the_header_too() {
    let origin = Origin::script(|conn| {
        header(&mut conn.wire, "v2");
        if conn.request().head.has("upgrade") {
            let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
            let fields = format!("Connection: upgrade\r\nUpgrade: websocket\r\n{accept}");
            conn.send(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\n"));
            let bytes = conn.wire.bytes(5).unwrap();
            conn.send(bytes);
        } else {
            conn.send(ok("served"));
        }
        conn.wait_closed();
    });
    let ravelin = Ravelin::start(&toml("v2", &origin.url(), ""));
    let body = pattern(300_000, 5);
    let mut client = ravelin.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body).response("POST").expect(200);
    assert_same_bytes(&origin.request(0).body, &body);
    client
        .ask(
            "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .expect(101);
    client.send("\x01\x02\x03\x04\x05");
    assert_eq!(client.wire.bytes(5).unwrap(), b"\x01\x02\x03\x04\x05");
}

/// Reads a header of this version from an origin's connection that has no TLS yet.
async fn read_header(taken: &mut Taken, version: &str) -> Vec<u8> {
    let mut header = Vec::new();
    loop {
        header.push(taken.read_u8().await.unwrap());
        let whole = match (version, &header[..]) {
            ("v1", header) => header.ends_with(b"\r\n"),
            (_, [_, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, rest @ ..]) => {
                rest.len() == usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => false,
        };
        if whole {
            return header;
        }
    }
}

#[test]
fn the_header_comes_before_tls() {
    for version in ["v1", "v2"] {
        let authority = Authority::new();
        let config = authority.server(&["localhost"]).server(&["http/1.1"], None);
        let (sender, seen) = channel();
        let origin = AsyncOrigin::connections(None, move |mut taken, _| {
            let (config, sender) = (config.clone(), sender.clone());
            async move {
                let header = read_header(&mut taken, version).await;
                let mut tls = TlsAcceptor::from(config).accept(taken).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tls.read_u8().await.unwrap());
                }
                sender.send((header, String::from_utf8(head).unwrap())).unwrap();
                tls.write_all(&ok("over TLS")).await.unwrap();
                tls.flush().await.unwrap();
                // Nothing else comes over it.
                let mut rest = Vec::new();
                let _ = tls.read_to_end(&mut rest).await;
                assert!(rest.is_empty(), "{}", rest.escape_ascii());
            }
        });
        let url = format!("https://localhost:{}", origin.port());
        let toml = toml(version, &url, "[sites.proxy.upstreams.tls]\nca_file = \"ca.pem\"");
        let ravelin = Setup::new(&toml).file("ca.pem", &authority.pem).start();
        let mut clients = [ravelin.client(), ravelin.client()];
        for n in 0..4 {
            let client = &mut clients[n % 2];
            assert_eq!(client.get(&format!("/{n}")).expect(200).text(), "over TLS");
            let (header, head) = next(&seen, "a connection");
            assert_eq!(header, between(version, address(client), ravelin.addr()));
            assert!(head.starts_with(&format!("GET /{n} HTTP/1.1\r\n")), "{head}");
        }
    }
}

#[test]
fn streams_of_different_clients_never_share_a_connection() {
    for version in ["v1", "v2"] {
        // Each answer says what stood at the front of its connection.
        let origin = AsyncOrigin::connections(None, move |mut taken, _| async move {
            let header = Arc::new(read_header(&mut taken, version).await);
            let mut connection = taken.http2(&Builder::new()).await;
            while let Some(Ok((_, respond))) = connection.accept().await {
                let header = header.clone();
                tokio::task::spawn_local(async move { h2_answer(respond, header.to_vec()).await });
            }
        });
        let toml = toml(version, &origin.http2_url(), "");
        let ravelin = Ravelin::start(&toml.replace("listen", "h2c = true\nlisten"));
        let mut clients = [(); 3].map(|()| Http2::connect(ravelin.addr()));
        let named: Vec<Vec<u8>> = clients
            .iter()
            .map(|client| between(version, client.stream.local_addr().unwrap(), ravelin.addr()))
            .collect();
        for stream in (1..20).step_by(2) {
            for client in &mut clients {
                assert!(client.open(stream, &get_fields("/")));
            }
            for (client, named) in clients.iter_mut().zip(&named) {
                let response = client.response(stream);
                assert_eq!((response.status, &response.body), (200, named));
            }
        }
    }
}

/// HAProxy that expects headers and answers with what they say.
fn haproxy(more: &str, files: &[(&str, &str)]) -> HaProxy {
    let answer = "%[src]:%[src_port] %[dst]:%[dst_port] %[req.ver]";
    let lines = format!(
        "    mode http\n    http-request return status 200 content-type text/plain \
         lf-string \"{answer}\""
    );
    HaProxy::start(&format!("accept-proxy {more}"), &lines, files)
}

#[test]
fn haproxy_is_told_of_each_client() {
    let authority = Authority::new();
    let pair = authority.server(&["localhost"]);
    let pem = format!("{}{}", pair.certificate, pair.key);
    let tls = "[sites.proxy.upstreams.tls]\nca_file = \"ca.pem\"";
    for version in ["v1", "v2"] {
        for (scheme, bind, protocol) in [
            ("http", "", "1.1"),
            ("h2c", "proto h2", "2.0"),
            ("https", "ssl crt both.pem", "1.1"),
            ("h2", "ssl crt both.pem alpn h2", "2.0"),
        ] {
            let haproxy = haproxy(bind, &[("both.pem", &pem)]);
            let url = format!("{scheme}://localhost:{}", haproxy.addr().port());
            let more = if bind.starts_with("ssl") { tls } else { "" };
            let toml = toml(version, &url, more);
            let ravelin = Setup::new(&toml).file("ca.pem", &authority.pem).start();
            let mut clients =
                ["127.0.0.5", "127.0.0.6"].map(|ip| Client::connect_from(ip, ravelin.addr()));
            for _ in 0..3 {
                for client in &mut clients {
                    let expected = format!("{} {} {protocol}", address(client), ravelin.addr());
                    let text = client.get("/").expect(200).text();
                    assert_eq!(text, expected, "{version} {scheme}");
                }
            }
        }
    }
}

#[test]
fn between_two_haproxies_the_client_keeps_its_name() {
    let behind = haproxy("", &[]);
    let url = format!("http://{}", behind.addr());
    let toml = trusting("v2", &url).replace("listen", "proxy_protocol = true\nlisten");
    let ravelin = Ravelin::start(&toml);
    let lines = format!(
        "    mode tcp\n    default_backend b\nbackend b\n    mode tcp\n    \
         server s {} send-proxy-v2",
        ravelin.addr()
    );
    let front = HaProxy::start("", &lines, &[]);
    let mut client = Client::connect_from("127.0.0.8", front.addr());
    let expected = format!("{} {} 1.1", address(&client), front.addr());
    assert_eq!(client.get("/").expect(200).text(), expected);
}
