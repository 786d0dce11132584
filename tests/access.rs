//! Who may come in, by address.

use std::fmt::Write;
use std::path::Path;

use crate::harness::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

/// A proxied site with these keys of its own.
fn guarded(origin: &Origin, keys: &str) -> Ravelin {
    Ravelin::start(&site_with(keys, &[&origin.url()], ""))
}

fn status_from(ravelin: &Ravelin, ip: &str) -> u16 {
    Client::connect_from(ip, ravelin.addr()).ask(GET).status
}

#[test]
fn the_smallest_network_decides_and_who_is_denied_reaches_nobody() {
    let origin = Origin::saying("in");
    let ravelin = guarded(
        &origin,
        "[sites.access]\nallow = [\"127.0.0.0/24\", \"127.0.0.9\"]\ndeny = [\"127.0.0.8/29\"]\n\
         default = \"deny\"\n",
    );
    for (ip, status) in [
        ("127.0.0.7", 200),
        ("127.0.0.8", 403),
        ("127.0.0.9", 200),
        ("127.0.0.15", 403),
        ("127.0.0.16", 200),
        ("127.0.1.1", 403),
    ] {
        assert_eq!(status_from(&ravelin, ip), status, "{ip}");
    }
    assert_eq!(origin.requests().len(), 3);
    let line = ravelin.stdout.line_with(&["127.0.0.8 ", " 403 "]);
    assert!(line.contains("ended=client phase=decide cause=denied"), "{line}");
}

#[test]
fn an_allow_list_alone_is_for_those_on_it_and_a_deny_list_alone_against_those() {
    let origin = Origin::saying("in");
    let only = guarded(&origin, "access = { allow = [\"127.0.0.2\"] }\n");
    assert_eq!([status_from(&only, "127.0.0.2"), status_from(&only, "127.0.0.3")], [200, 403]);
    let but = guarded(&origin, "access = { deny = [\"127.0.0.2\"] }\n");
    assert_eq!([status_from(&but, "127.0.0.2"), status_from(&but, "127.0.0.3")], [403, 200]);
}

#[test]
fn a_connection_may_go_on_after_a_refusal() {
    let origin = Origin::saying("in");
    let ravelin = guarded(
        &origin,
        "access = { deny = [\"10.0.0.0/8\"] }\n[[sites.routes]]\npath = \"/in\"\nstatus = 204\n\
         access = { deny = [\"127.0.0.1\"] }\n",
    );
    let mut client = ravelin.client();
    client.get("/in").expect(403);
    client
        .ask("POST /in HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello")
        .expect(403);
    assert_eq!(client.get("/").expect(200).text(), "in");
}

#[test]
fn a_route_asks_beside_its_site() {
    let origin = Origin::saying("in");
    let ravelin = Ravelin::start(&site_with(
        "access = { allow = [\"127.0.0.0/28\"] }\n",
        &[&origin.url()],
        "[[sites.routes]]\npath = \"/admin\"\nupstream = \"backend\"\n\
         access = [{ allow = [\"127.0.0.4/30\", \"127.0.1.1\"] }, { deny = [\"127.0.0.6\"] }]\n",
    ));
    let admin = "GET /admin HTTP/1.1\r\nHost: example.com\r\n\r\n";
    for (ip, everywhere, admins) in [
        ("127.0.0.1", 200, 403),
        ("127.0.0.5", 200, 200),
        ("127.0.0.6", 200, 403),
        ("127.0.1.1", 403, 403),
    ] {
        assert_eq!(status_from(&ravelin, ip), everywhere, "{ip}");
        assert_eq!(Client::connect_from(ip, ravelin.addr()).ask(admin).status, admins, "{ip}");
    }
}

#[test]
fn files_upgrades_and_what_does_not_exist_are_guarded_alike() {
    let origin = Origin::saying("in");
    let setup = Setup::new(&site_with(
        "static_dir = \"www\"\nh2c = true\naccess = { deny = [\"127.0.0.1\"] }\n",
        &[&origin.url()],
        "websocket = true\n",
    ));
    let toml = std::fs::read_to_string(setup.dir().join("ravelin.toml")).unwrap();
    let setup = setup.file("ravelin.toml", toml.replace("path = \"/\"", "path = \"/app\""));
    let ravelin = setup.file("www/index.html", "page").start();
    for target in ["/", "/none", "/app", "/x/../y", "/api/health"] {
        ravelin.get(target).expect(403);
    }
    let upgrade = "GET /app HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    ravelin.ask(upgrade).expect(403);
    // Before anything is said of methods.
    ravelin.ask("DELETE / HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(403);
    let mut http2 = Http2::connect(ravelin.addr());
    assert_eq!(http2.get(1, "/").status, 403);
    assert_eq!(http2.get(3, "/app").status, 403);
    assert_eq!(origin.requests().len(), 0);
    // Others come in.
    let mut other = Client::connect_from("127.0.0.2", ravelin.addr());
    assert_eq!(other.get("/").expect(200).text(), "page");
    assert_eq!(other.get("/app").expect(200).text(), "in");
}

#[test]
fn what_a_trusted_proxy_says_counts_and_what_others_say_does_not() {
    let origin = Origin::saying("in");
    let ravelin = Ravelin::start(&format!(
        "[security]\ntrusted_proxies = [\"127.0.0.1\"]\n{}",
        site_with("access = { allow = [\"192.0.2.0/24\"] }\n", &[&origin.url()], "")
    ));
    let saying =
        |ip: &str| format!("GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: {ip}\r\n\r\n");
    let ask =
        |from: &str, ip: &str| Client::connect_from(from, ravelin.addr()).ask(saying(ip)).status;
    assert_eq!(ask("127.0.0.1", "192.0.2.7"), 200);
    assert_eq!(ask("127.0.0.1", "198.51.100.1"), 403);
    assert_eq!(ask("127.0.0.1", "192.0.2.7, 198.51.100.1"), 403, "the first one is anybody's word");
    assert_eq!(ask("127.0.0.2", "192.0.2.7"), 403);
}

#[test]
fn a_client_on_a_unix_socket_is_one_of_all_others() {
    let origin = Origin::saying("in");
    for (default, status) in [("allow", 200), ("deny", 403)] {
        let dir = TempDir::new();
        let socket = dir.path().join("in.sock");
        let toml = site_with(
            &format!(
                "[sites.access]\nallow = [\"0.0.0.0/0\", \"::/0\"]\ndeny = [\"192.0.2.1\"]\n\
                 default = \"{default}\"\n"
            ),
            &[&origin.url()],
            "",
        );
        let unix = format!("listen = [\"unix:{}\"]", socket.display());
        let ravelin = Ravelin::start(&toml.replace("listen = [\"127.0.0.1:0\"]", &unix));
        assert_eq!(Client::connect_unix(&socket).get("/").status, status, "{default}");
        drop(ravelin);
    }
}

#[test]
fn a_dual_stack_port_knows_ipv4_addresses() {
    let origin = Origin::saying("in");
    let port = free_port();
    let toml = site_with("access = { allow = [\"127.0.0.1\"] }\n", &[&origin.url()], "");
    let toml = toml.replace("listen = [\"127.0.0.1:0\"]", &format!("port = {port}"));
    let _ravelin = Ravelin::start(&toml);
    let to = format!("127.0.0.1:{port}").parse().unwrap();
    Client::connect(to).get("/").expect(200);
    Client::connect_from("127.0.0.2", to).get("/").expect(403);
}

#[test]
fn ten_thousand_networks_from_a_file() {
    let origin = Origin::saying("in");
    let mut nets = String::from("# those we know\n");
    for n in 0..10_000u32 {
        // Every other address of 127.1.0.0/16, and networks far away.
        let _ = match n % 2 {
            0 => writeln!(nets, "127.1.{}.{}", n / 2 / 128, n / 2 % 128 * 2),
            _ => writeln!(nets, "2001:db8:{n:x}::/48 # far away"),
        };
    }
    let toml = site_with(
        "[sites.access]\nallow = [\"127.0.0.1\"]\ndeny = [\"127.1.0.16/29\"]\nallow_file = \"nets\"\n\
         default = \"deny\"\n",
        &[&origin.url()],
        "",
    );
    let ravelin = Setup::new(&toml).file("nets", nets).start();
    for (ip, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.2", 403),
        ("127.1.0.14", 200),
        ("127.1.0.15", 403),
        ("127.1.0.16", 200),
        ("127.1.0.17", 403),
        ("127.1.39.14", 200),
        ("127.1.39.18", 403),
    ] {
        assert_eq!(status_from(&ravelin, ip), status, "{ip}");
    }
}

#[test]
fn a_list_that_cannot_be_read_refuses_the_start() {
    let toml = site_with("[sites.access]\ndeny_file = \"nets\"\n", &["http://127.0.0.1:1"], "");
    let fails = |dir: &Path, parts: &[&str]| {
        for arguments in [&["check", "ravelin.toml"][..], &["run", "-c", "ravelin.toml"]] {
            let output = run(dir, arguments);
            let text = printed(&output);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{arguments:?}: {text}");
        }
    };
    let setup = Setup::new(&toml);
    fails(setup.dir(), &["nets", "does not exist"]);
    let setup = setup.file("nets", "10.0.0.0/8\n10.0.0/33\n");
    fails(setup.dir(), &["site \"test\"", "nets: line 2", "10.0.0/33"]);
}
