//! Upstreams given by names: where they lead, and what happens when that changes or nobody says it.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use h2::server::Builder;

use crate::harness::*;

const CHANGED: &str = "has other addresses";

/// Origins at 127.0.0.1, 127.0.0.2 … with one port, each saying its name.
fn on_one_port(names: &[&'static str]) -> (u16, Vec<Origin>) {
    let ip = |index: usize| IpAddr::from([127, 0, 0, index as u8 + 1]);
    let port = (0..100).find_map(|_| {
        let first = TcpListener::bind((ip(0), 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let free = (1..names.len()).all(|index| TcpListener::bind((ip(index), port)).is_ok());
        free.then_some(port)
    });
    let port = port.expect("a port that is free at all addresses");
    let origin = |(index, name): (usize, &&'static str)| {
        let text = ok(name);
        Origin::script_at((ip(index), port).into(), move |conn| {
            while conn.try_request().is_ok() && conn.try_send(&text).is_ok() {}
        })
    };
    (port, names.iter().enumerate().map(origin).collect())
}

fn start(names: &NameServer, url: &str, more: &str) -> Ravelin {
    Ravelin::start(&format!("{}\n{}", site(&[url], more), names.toml()))
}

fn answers(client: &mut Client, count: usize) -> String {
    (0..count).map(|_| client.get("/").expect(200).text()).collect()
}

#[test]
fn a_name_that_moves_is_followed_when_its_time_to_live_is_over() {
    let (port, origins) = on_one_port(&["a", "b"]);
    let names = NameServer::start();
    names.set("backend.test", 1, &["127.0.0.1"]);
    let ravelin = start(&names, &format!("http://backend.test:{port}"), "");
    let mut client = ravelin.client();
    assert_eq!(answers(&mut client, 3), "aaa");
    names.set("backend.test", 1, &["127.0.0.2"]);
    let line = ravelin.stderr.line_with(&["\"backend.test\"", CHANGED]);
    assert!(line.ends_with(&format!(": 127.0.0.2:{port}")), "{line}");
    // Kept connections to the old address are not used any more.
    assert_eq!(answers(&mut client, 3), "bbb");
    assert_eq!(origins[0].requests().len(), 3);
}

#[test]
fn a_name_with_a_long_time_to_live_is_not_asked_for_again() {
    let (port, _origins) = on_one_port(&["a"]);
    let names = NameServer::start();
    names.set("backend.test", 100, &["127.0.0.1"]);
    names.set("other.test", 1, &["127.0.0.1"]);
    let urls = [format!("http://backend.test:{port}"), format!("http://other.test:{port}")];
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let ravelin = Ravelin::start(&format!("{}\n{}", site(&urls, ""), names.toml()));
    names.remove("backend.test");
    // The other one has been asked for at least twice since.
    names.wait_asked("other.test", 4);
    assert_eq!(answers(&mut ravelin.client(), 2), "aa");
    assert!(!ravelin.stderr.all().iter().any(|line| line.contains("does not resolve")));
}

#[test]
fn two_addresses_are_two_endpoints_in_whatever_order() {
    let (port, _origins) = on_one_port(&["a", "b", "c"]);
    let names = NameServer::start();
    names.set("backend.test", 1, &["127.0.0.1", "127.0.0.2"]);
    let ravelin = start(&names, &format!("http://backend.test:{port}"), "");
    let mut client = ravelin.client();
    assert_eq!(answers(&mut client, 4), "abab");
    names.set("backend.test", 1, &["127.0.0.2", "127.0.0.1"]);
    names.wait_asked("backend.test", 4);
    assert_eq!(answers(&mut client, 4), "abab");
    assert!(!ravelin.stderr.all().iter().any(|line| line.contains(CHANGED)));
    names.set("backend.test", 1, &["127.0.0.3", "127.0.0.2"]);
    ravelin.stderr.line_with(&[CHANGED]);
    let order = answers(&mut client, 6);
    assert_eq!((order.matches('b').count(), order.matches('c').count()), (3, 3), "{order}");
}

#[test]
fn a_name_that_is_no_more_keeps_its_addresses() {
    for conduct in [Conduct::Well, Conduct::Fails, Conduct::Silent] {
        let (port, _origins) = on_one_port(&["a"]);
        let names = NameServer::start();
        names.set("backend.test", 1, &["127.0.0.1"]);
        let ravelin = start(&names, &format!("http://backend.test:{port}"), "");
        let mut client = ravelin.client();
        assert_eq!(answers(&mut client, 2), "aa");
        names.conduct(conduct);
        names.remove("backend.test");
        let line =
            ravelin.stderr.line_with(&[" warn resolve: upstream host \"backend.test\" does"]);
        assert!(line.contains("the last known addresses stay in use"), "{line}");
        assert_eq!(answers(&mut client, 2), "aa");
        assert_eq!(answers(&mut ravelin.client(), 2), "aa");
    }
}

#[test]
fn a_name_server_that_does_not_answer_holds_up_nobody() {
    let (port, _origins) = on_one_port(&["a"]);
    let literal = Origin::saying("literal");
    let names = NameServer::start();
    names.conduct(Conduct::Silent);
    let url = format!("http://backend.test:{port}");
    let routes = "[[sites.proxy.upstreams]]\nname = \"literal\"\nurl = \"URL\"\n\n\
                  [[sites.proxy.routes]]\npath = \"/literal\"\nupstream = \"literal\"\n";
    let ravelin = start(&names, &url, &routes.replace("URL", &literal.url()));
    assert_eq!(ravelin.get("/literal").expect(200).text(), "literal");
    ravelin.get("/").expect(503);
    ravelin.stderr.line_with(&["\"backend.test\" does not resolve", "requests to it get 503"]);
    names.set("backend.test", 60, &["127.0.0.1"]);
    names.conduct(Conduct::Well);
    ravelin.stderr.line_with(&["\"backend.test\" resolves again"]);
    assert_eq!(ravelin.get("/").expect(200).text(), "a");
}

#[test]
fn answers_that_are_none_change_nothing() {
    let owner = [0xc0, 12];
    let all = [
        Vec::new(),
        vec![0xff; 400],
        pattern(300, 7),
        // A name that points to itself; an address of three octets; a length past the end.
        vec![0xc0, 29, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 9],
        [&owner[..], &[0, 1, 0, 1, 0, 0, 0, 1, 0, 3, 127, 0, 0]].concat(),
        [&owner[..], &[0, 1, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 127, 0, 0, 9]].concat(),
        // The address of somebody else.
        [&[3, b'x', b'y', b'z', 0][..], &[0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 9]].concat(),
    ];
    let (port, _origins) = on_one_port(&["a"]);
    let url = format!("http://backend.test:{port}");
    std::thread::scope(|scope| {
        for garbage in all {
            scope.spawn(|| {
                let names = NameServer::start();
                names.set("backend.test", 1, &["127.0.0.1"]);
                let ravelin = start(&names, &url, "");
                let mut client = ravelin.client();
                assert_eq!(answers(&mut client, 1), "a");
                names.conduct(Conduct::Garbage(garbage));
                ravelin.stderr.line_with(&["does not resolve", "stay in use"]);
                assert_eq!(answers(&mut client, 3), "aaa");
                names.conduct(Conduct::Well);
                ravelin.stderr.line_with(&["resolves again"]);
                assert_eq!(answers(&mut client, 3), "aaa");
            });
        }
    });
}

#[test]
fn of_very_many_addresses_some_are_used() {
    let (port, _origins) = on_one_port(&["a"]);
    let names = NameServer::start();
    let all: Vec<String> =
        (0..3000).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let all: Vec<&str> = std::iter::once("127.0.0.1").chain(all.iter().map(|a| &**a)).collect();
    names.set("backend.test", 1, &all);
    let ravelin = start(&names, &format!("http://backend.test:{port}"), "");
    let line = ravelin.stderr.line_with(&["has more addresses than are used"]);
    assert!(line.ends_with("which are 16"), "{line}");
    names.set("backend.test", 1, &["127.0.0.1"]);
    ravelin.stderr.line_with(&[CHANGED]);
    assert_eq!(answers(&mut ravelin.client(), 3), "aaa");
}

/// Origins each at a port of its own, all of host.test.
fn services(names: &NameServer, said: &[&str]) -> Vec<Origin> {
    names.set("host.test", 1, &["127.0.0.1"]);
    said.iter().map(|name| Origin::saying(name)).collect()
}

const SERVICE: &str = "_http._tcp.backend.test";

#[test]
fn srv_records_give_ports_weights_and_priorities() {
    let names = NameServer::start();
    let mut origins = services(&names, &["a", "b", "c"]);
    let [a, b, c] = [0, 1, 2].map(|index: usize| origins[index].port());
    let record = |priority, weight, port| (priority, weight, port, "host.test");
    names.set_services(SERVICE, 1, &[record(20, 1, c), record(10, 3, a), record(10, 1, b)]);
    let ravelin = start(&names, &format!("srv+http://{SERVICE}"), "");
    let mut client = ravelin.client();
    let order = answers(&mut client, 8);
    assert_eq!((order.matches('a').count(), order.matches('b').count()), (6, 2), "{order}");
    // Weights change, and the order of answers.
    names.set_services(SERVICE, 1, &[record(10, 3, b), record(10, 1, a), record(20, 1, c)]);
    names.wait_asked("host.test", 4);
    let order = answers(&mut client, 8);
    assert_eq!((order.matches('a').count(), order.matches('b').count()), (2, 6), "{order}");
    // The second priority is for when the first has nobody.
    drop(origins.drain(..2));
    assert_eq!(answers(&mut ravelin.client(), 8), "cccccccc");
    names.set_services(SERVICE, 1, &[record(5, 0, c)]);
    ravelin.stderr.line_with(&["(SRV)", CHANGED]);
    assert_eq!(answers(&mut ravelin.client(), 2), "cc");
}

#[test]
fn a_weight_of_0_in_srv_records_is_next_to_nothing_and_all_of_0_are_equal() {
    let names = NameServer::start();
    let origins = services(&names, &["a", "b"]);
    let [a, b] = [0, 1].map(|index: usize| origins[index].port());
    names.set_services(SERVICE, 1, &[(0, 9, a, "host.test"), (0, 0, b, "host.test")]);
    let ravelin = start(&names, &format!("srv+http://{SERVICE}"), "");
    let mut client = ravelin.client();
    assert_eq!(answers(&mut client, 20).matches('b').count(), 2);
    names.set_services(SERVICE, 1, &[(0, 0, a, "host.test"), (0, 0, b, "host.test")]);
    names.wait_asked("host.test", 4);
    assert_eq!(answers(&mut client, 20).matches('b').count(), 10);
}

#[test]
fn a_backup_comes_after_every_priority_of_srv_records() {
    let names = NameServer::start();
    let mut origins = services(&names, &["a", "b"]);
    let backup = Origin::saying("backup");
    let [a, b] = [0, 1].map(|index: usize| origins[index].port());
    names.set_services(SERVICE, 60, &[(10, 0, a, "host.test"), (20, 0, b, "host.test")]);
    let toml = site(&[&format!("srv+http://{SERVICE}"), &backup.url()], "");
    let last = format!("url = \"{}\"\n", backup.url());
    let toml = toml.replace(&last, &format!("{last}backup = true\n"));
    let ravelin = Ravelin::start(&format!("{toml}\n{}", names.toml()));
    assert_eq!(answers(&mut ravelin.client(), 3), "aaa");
    drop(origins.remove(0));
    assert_eq!(answers(&mut ravelin.client(), 3), "bbb");
    drop(origins.remove(0));
    assert_eq!(answers(&mut ravelin.client(), 2), "backupbackup");
}

#[test]
fn targets_of_srv_records_have_health_checks() {
    let names = NameServer::start();
    names.set("host.test", 1, &["127.0.0.1"]);
    let well = Arc::new(AtomicBool::new(true));
    let a = Origin::saying("a");
    let b = Origin::serve({
        let well = well.clone();
        move |request| match request.target == "/health" && !well.load(Ordering::SeqCst) {
            true => b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n".to_vec(),
            false => ok("b"),
        }
    });
    let c = Origin::saying("c");
    let record = |origin: &Origin| (0, 0, origin.port(), "host.test");
    names.set_services(SERVICE, 1, &[record(&a), record(&b)]);
    let check = "[sites.proxy.health_check]\npath = \"/health\"\ninterval = \"100ms\"\nfall = 2\n\
                 rise = 1\n";
    let ravelin = start(&names, &format!("srv+http://{SERVICE}"), check);
    well.store(false, Ordering::SeqCst);
    let address = format!("(127.0.0.1:{})", b.port());
    ravelin.stderr.line_with(&[" warn pool \"backend\": ", SERVICE, &address, " is down: "]);
    assert_eq!(answers(&mut ravelin.client(), 4), "aaaa");
    // Its place is another's now, of which nothing bad is known.
    names.set_services(SERVICE, 1, &[record(&a), record(&c)]);
    ravelin.stderr.line_with(&[CHANGED]);
    let order = answers(&mut ravelin.client(), 4);
    assert_eq!(order.matches('c').count(), 2, "{order}");
    // The first of its requests may be a client's.
    let check = (0..).map(|n| c.request(n)).find(|request| request.target == "/health");
    let host = check.unwrap().get("host").map(str::to_owned);
    assert_eq!(host.as_deref(), Some("backend.test"), "the name without the service");
}

#[test]
fn a_service_that_is_not_offered_gets_503() {
    let names = NameServer::start();
    let origins = services(&names, &["a"]);
    names.set_services(SERVICE, 1, &[(0, 0, origins[0].port(), "host.test")]);
    let ravelin = start(&names, &format!("srv+http://{SERVICE}"), "");
    assert_eq!(answers(&mut ravelin.client(), 1), "a");
    names.set_services(SERVICE, 1, &[(0, 0, 0, ".")]);
    ravelin.stderr.line_with(&["says that the service is not offered"]);
    ravelin.get("/").expect(503);
}

#[test]
fn a_client_sticks_to_an_address_not_to_its_place_in_an_answer() {
    let (port, _origins) = on_one_port(&["a", "b", "c"]);
    let names = NameServer::start();
    let toml = "[sites.proxy.load_balancing]\n\
                sticky_sessions = { mode = \"cookie\", key_file = \"key\" }\n";
    let url = format!("http://backend.test:{port}");
    let begin = |addresses: &[&str]| {
        names.set("backend.test", 1, addresses);
        let toml = format!("{}\n{}", site(&[&url], toml), names.toml());
        Setup::new(&toml).file("key", pattern(32, 1)).start()
    };
    let ravelin = begin(&["127.0.0.1", "127.0.0.2"]);
    let mut client = ravelin.client();
    assert_eq!(answers(&mut client, 1), "a");
    let response = client.get("/").expect(200);
    assert_eq!(response.text(), "b");
    let cookie = response.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let stays = |ravelin: &Ravelin| {
        let ask = format!("GET / HTTP/1.1\r\nHost: example.com\r\nCookie: {cookie}\r\n\r\n");
        let mut client = ravelin.client();
        assert!((0..4).all(|_| client.ask(&ask).expect(200).text() == "b"));
    };
    stays(&ravelin);
    names.set("backend.test", 1, &["127.0.0.3", "127.0.0.2"]);
    ravelin.stderr.line_with(&[CHANGED]);
    stays(&ravelin);
    // Another process with the same key, which got another answer.
    stays(&begin(&["127.0.0.2", "127.0.0.3"]));
}

#[test]
fn http2_connections_to_an_old_address_get_no_new_requests() {
    // What the connections of HTTP/1 do is in the first test; here the same by `srv+h2c`.
    let names = NameServer::start();
    names.set("host.test", 1, &["127.0.0.1"]);
    let origin = |name: &'static str| {
        AsyncOrigin::http2(None, Builder::new(), move |_, respond| async move {
            h2_answer(respond, name.to_owned()).await;
        })
    };
    let (a, b) = (origin("a"), origin("b"));
    names.set_services(SERVICE, 1, &[(0, 0, a.addr().port(), "host.test")]);
    let ravelin = start(&names, &format!("srv+h2c://{SERVICE}"), "");
    let mut client = ravelin.client();
    assert_eq!(answers(&mut client, 2), "aa");
    names.set_services(SERVICE, 1, &[(0, 0, b.addr().port(), "host.test")]);
    ravelin.stderr.line_with(&[CHANGED]);
    assert_eq!(answers(&mut client, 2), "bb");
}
