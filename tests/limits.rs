//! Bounds, each with its status.

use crate::harness::*;

fn with(tables: &str, origin: &Origin) -> Ravelin {
    Ravelin::start(&format!("{tables}\n{}", site(&[&origin.url()], "")))
}

fn with_cookie(bytes: usize) -> String {
    format!("GET / HTTP/1.1\r\nHost: example.com\r\nCookie: {}\r\n\r\n", "c".repeat(bytes))
}

#[test]
fn a_large_head_passes_and_a_too_large_one_is_431() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask(with_cookie(20_000)).expect(200);
    assert_eq!(origin.request(0).get("cookie").map(str::len), Some(20_000));
    let mut client = ravelin.client();
    client.ask(with_cookie(40_000)).expect(431);
    client.expect_close();
}

#[test]
fn cve_2025_58186_a_flood_of_fields_is_431() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    let many = |n: usize| {
        let fields: String = (0..n).map(|i| format!("X-{i}: y\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n")
    };
    ravelin.ask(many(90)).expect(200);
    ravelin.ask(many(101)).expect(431);
    ravelin.ask(many(2000)).expect(431);
}

#[test]
fn a_long_target_is_414() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    let get = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: example.com\r\n\r\n", "u".repeat(n));
    ravelin.ask(get(8000)).expect(200);
    ravelin.ask(get(40_000)).expect(414);
}

#[test]
fn an_endless_head_is_refused_while_it_comes() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\nX: ");
    let piece = vec![b'x'; 1 << 16];
    for _ in 0..16 {
        client.send(&piece);
    }
    let response = client.response("GET");
    assert_eq!(response.status, 431);
}

#[test]
fn limits_can_be_changed() {
    let origin = Origin::saying("");
    let ravelin = with("[limits]\nhead_size = \"2KB\"\nfields = 5\n", &origin);
    ravelin.ask(with_cookie(1000)).expect(200);
    ravelin.ask(with_cookie(3000)).expect(431);
    ravelin.ask("GET / HTTP/1.1\r\nHost: a\r\nA:1\r\nB:2\r\nC:3\r\nD:4\r\n\r\n").expect(200);
    ravelin.ask("GET / HTTP/1.1\r\nHost: a\r\nA:1\r\nB:2\r\nC:3\r\nD:4\r\nE:5\r\n\r\n").expect(431);
}

#[test]
fn connections_of_one_address_are_limited_and_others_still_served() {
    let origin = Origin::saying("in");
    let ravelin = with("[limits]\nconnections_per_address = 3\n", &origin);
    let mut inside: Vec<Client> = (0..3).map(|_| ravelin.client()).collect();
    for client in &mut inside {
        client.get("/").expect(200);
    }
    let mut outside = ravelin.client();
    outside.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    match outside.wire.response("GET") {
        Err(Broken::Closed | Broken::Reset) => {}
        Ok(response) => assert!(matches!(response.status, 429 | 503), "{}", response.status),
        Err(e) => panic!("neither served nor refused: {e:?}"),
    }
    let mut other = Client::connect_from("127.0.0.9", ravelin.addr());
    other.get("/").expect(200);
    // A place becomes free when a connection ends.
    let mut leaving = inside.pop().unwrap();
    leaving.ask("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").expect(200);
    leaving.expect_close();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut again = ravelin.client();
        again.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        if again.wire.response("GET").is_ok_and(|r| r.status == 200) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the free place is never given away");
    }
}

#[test]
fn connections_beyond_the_maximum_wait_and_are_served_later() {
    let origin = Origin::saying("served");
    let ravelin = with("[performance]\nmax_connections = 2\n", &origin);
    let mut first = ravelin.client();
    let mut second = ravelin.client();
    first.get("/").expect(200);
    second.get("/").expect(200);
    // Many more than wait: some may sit in the backlog, none may be forgotten.
    let mut waiting = ravelin.client();
    waiting.send("GET /waiting HTTP/1.1\r\nHost: example.com\r\n\r\n");
    drop(first);
    drop(second);
    assert_eq!(waiting.response("GET").text(), "served");
}

#[test]
fn connections_beyond_the_maximum_of_a_listener_wait_and_others_are_served() {
    let origin = Origin::saying("served");
    let limited = site_with("max_connections = 2", &[&origin.url()], "");
    let free = site(&[&origin.url()], "").replace("127.0.0.1:0", "127.0.0.2:0");
    let ravelin = Setup::new(&format!("{limited}\n{free}")).listeners(2).start();
    let elsewhere = ravelin.addr_on("127.0.0.2");
    let mut inside: Vec<Client> = (0..2).map(|_| ravelin.client()).collect();
    inside.iter_mut().for_each(|client| drop(client.get("/").expect(200)));
    // Enough for some to wait at the socket of every worker.
    let mut waiting: Vec<Client> = (0..16).map(|_| ravelin.client()).collect();
    for client in &mut waiting {
        client.send("GET /waiting HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
    }
    for _ in 0..4 {
        Client::connect(elsewhere).get("/").expect(200);
    }
    assert!(origin.requests().iter().all(|request| request.target == "/"));
    drop(inside.pop());
    for client in &mut waiting {
        assert_eq!(client.response("GET").text(), "served");
    }
    // The one that has been in from the beginning is as it was.
    inside[0].get("/").expect(200);
}

#[test]
fn only_so_many_connections_wait_as_the_backlog_says() {
    let origin = Origin::saying("served");
    // A Unix socket says at once that its backlog is full.
    let keys = "max_connections = 1\nbacklog = 2";
    let dir = TempDir::new();
    let path = dir.path().join("r.sock");
    let listen = format!("unix:{}", path.display());
    let toml = site_with(keys, &[&origin.url()], "").replace("127.0.0.1:0", &listen);
    let _ravelin = Ravelin::start(&toml);
    let mut inside = Client::connect_unix(&path);
    inside.get("/").expect(200);
    let address = socket2::SockAddr::unix(&path).unwrap();
    let connect = || {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&address).map(|()| socket)
    };
    let waiting: Vec<_> = std::iter::from_fn(|| connect().ok()).take(10).collect();
    assert!((2..=3).contains(&waiting.len()), "{} wait", waiting.len());
    assert_eq!(connect().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    inside.get("/").expect(200);
}

#[test]
fn running_out_of_descriptors_does_not_end_the_service() {
    let origin = Origin::saying("served");
    let ravelin = Setup::new(&site(&[&origin.url()], "")).open_files(80).start();
    let crowd: Vec<Client> = (0..200).map(|_| ravelin.client()).collect();
    drop(crowd);
    let mut client = ravelin.client();
    client.get("/").expect(200);
}

#[test]
fn descriptors_are_given_back() {
    let origin = Origin::saying("served");
    let ravelin = Ravelin::before(&origin);
    let mut keeper = ravelin.client();
    keeper.get("/").expect(200);
    let before = open_files(ravelin.pid());
    for _ in 0..100 {
        ravelin.ask("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").expect(200);
    }
    keeper.get("/").expect(200);
    let after = open_files(ravelin.pid());
    assert!(after <= before + 10, "{before} descriptors became {after}");
}
