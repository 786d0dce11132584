//! Where it listens.

use std::net::SocketAddr;

use crate::harness::*;

fn listening(listen: &str, origin: &Origin) -> String {
    site(&[&origin.url()], "").replace("[\"127.0.0.1:0\"]", listen)
}

/// The free port stands in a configuration that can only name one.
fn on_port(origin: &Origin) -> (Ravelin, u16) {
    let port = free_port();
    let toml =
        site(&[&origin.url()], "").replace("listen = [\"127.0.0.1:0\"]", &format!("port = {port}"));
    (Ravelin::start(&toml), port)
}

#[test]
fn a_port_is_served_over_ipv4_and_ipv6() {
    let origin = Origin::saying("both");
    let (_ravelin, port) = on_port(&origin);
    let v4: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    assert_eq!(Client::connect(v4).get("/").text(), "both");
    assert_eq!(origin.request(0).get("x-forwarded-for"), Some("127.0.0.1"), "not ::ffff:127.0.0.1");
    if !has_ipv6() {
        eprintln!("this machine has no IPv6: that half cannot be tested here");
        return;
    }
    let v6: SocketAddr = format!("[::1]:{port}").parse().unwrap();
    assert_eq!(Client::connect(v6).get("/").text(), "both");
    assert_eq!(origin.request(1).get("x-forwarded-for"), Some("::1"));
    let forwarded = origin.request(1).get("forwarded").unwrap().to_owned();
    assert!(forwarded.contains("for=\"[::1]\""), "{forwarded}");
}

fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn an_ipv6_address_alone() {
    if !has_ipv6() {
        eprintln!("this machine has no IPv6: nothing can be tested here");
        return;
    }
    let origin = Origin::saying("six");
    let ravelin = Ravelin::start(&listening("[\"[::1]:0\"]", &origin));
    let addr = ravelin.addr();
    assert!(addr.is_ipv6());
    assert_eq!(Client::connect(addr).get("/").text(), "six");
    let v4: SocketAddr = format!("127.0.0.1:{}", addr.port()).parse().unwrap();
    assert!(std::net::TcpStream::connect(v4).is_err());
}

#[test]
fn one_address_alone_is_not_served_on_the_others() {
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before(&origin);
    let other: SocketAddr = format!("127.0.0.3:{}", ravelin.addr().port()).parse().unwrap();
    assert!(std::net::TcpStream::connect(other).is_err());
}

#[test]
fn one_site_listens_at_several_addresses() {
    let origin = Origin::saying("x");
    let toml = listening("[\"127.0.0.1:0\", \"127.0.0.2:0\"]", &origin);
    let ravelin = Setup::new(&toml).listeners(2).start();
    for ip in ["127.0.0.1", "127.0.0.2"] {
        assert_eq!(Client::connect(ravelin.addr_on(ip)).get("/").text(), "x");
    }
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end() {
    let origin = Origin::saying("unix");
    let dir = TempDir::new();
    let path = dir.path().join("r.sock");
    let toml = listening(&format!("[\"unix:{}\"]", path.display()), &origin);
    let mut ravelin = Ravelin::start(&toml);
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.get("/").text(), "unix");
    assert_eq!(client.get("/").text(), "unix");
    let by_curl = curl(&["--unix-socket", path.to_str().unwrap(), "http://example.com/"]);
    assert_eq!(by_curl, "unix");
    drop(client);
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let origin = Origin::saying("unix");
    let dir = TempDir::new();
    let path = dir.path().join("r.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _ravelin = Ravelin::start(&listening(&format!("[\"unix:{}\"]", path.display()), &origin));
    assert_eq!(Client::connect_unix(&path).get("/").text(), "unix");
}

#[test]
fn a_unix_socket_in_use_and_a_file_in_the_way_are_not_replaced() {
    let origin = Origin::saying("unix");
    let dir = TempDir::new();
    let used = dir.path().join("used.sock");
    let _owner = std::os::unix::net::UnixListener::bind(&used).unwrap();
    let file = dir.write("file", "precious");
    for path in [&used, &file] {
        dir.write("ravelin.toml", listening(&format!("[\"unix:{}\"]", path.display()), &origin));
        let output = run(dir.path(), &["run"]);
        assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
        assert!(printed(&output).contains(path.to_str().unwrap()), "{}", printed(&output));
    }
    assert_eq!(std::fs::read(file).unwrap(), b"precious");
}

#[test]
fn an_upstream_may_be_a_unix_socket() {
    use std::io::{Read, Write};
    let dir = TempDir::new();
    let path = dir.path().join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        while !seen.ends_with(b"\r\n\r\n") {
            let n = stream.read(&mut piece).unwrap();
            assert!(n > 0);
            seen.extend_from_slice(&piece[..n]);
        }
        stream.write_all(&ok("from the socket")).unwrap();
        String::from_utf8(seen).unwrap()
    });
    let ravelin = Ravelin::start(&site(&[&format!("unix:{}", path.display())], ""));
    assert_eq!(ravelin.get("/x").expect(200).text(), "from the socket");
    let seen = serving.join().unwrap();
    assert!(seen.starts_with("GET /x HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("\r\nhost: example.com\r\n"), "{seen}");
}

#[test]
fn an_upstream_may_be_ipv6() {
    if !has_ipv6() {
        eprintln!("this machine has no IPv6: nothing can be tested here");
        return;
    }
    let origin = Origin::script_at("[::1]:0".parse().unwrap(), |conn| {
        conn.request();
        conn.send(ok("six"));
        conn.wait_closed();
    });
    let ravelin = Ravelin::before(&origin);
    assert_eq!(ravelin.get("/").text(), "six");
}

#[test]
fn an_upstream_may_be_a_name() {
    let origin = Origin::saying("named");
    let ravelin = Ravelin::start(&site(&[&format!("http://localhost:{}", origin.port())], ""));
    assert_eq!(ravelin.get("/").expect(200).text(), "named");
}

#[test]
fn a_restart_on_the_same_port_needs_no_waiting() {
    let origin = Origin::saying("again");
    let (mut first, port) = on_port(&origin);
    let addr: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    Client::connect(addr).get("/").expect(200);
    first.signal("TERM");
    first.exit();
    let toml =
        site(&[&origin.url()], "").replace("listen = [\"127.0.0.1:0\"]", &format!("port = {port}"));
    let _second = Ravelin::start(&toml);
    Client::connect(addr).get("/").expect(200);
}
