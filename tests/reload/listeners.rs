//! Addresses that come and go.

use super::*;

/// The site of [`answering`], listening here.
fn at(listen: &str, text: &str) -> String {
    answering(text).replace("\"127.0.0.1:0\"", listen)
}

fn local(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port).into()
}

#[test]
fn an_address_is_listened_at_as_soon_as_the_configuration_says_so() {
    let (first, second) = (free_port(), free_port());
    let one = format!("\"127.0.0.1:{first}\"");
    let both = format!("{one}, \"127.0.0.1:{second}\"");
    let ravelin = Ravelin::start(&at(&one, "one"));
    assert!(std::net::TcpStream::connect(local(second)).is_err());
    let mut kept = Client::connect(local(first));
    kept.get("/").expect(200);
    change(&ravelin, &at(&both, "both"));
    ravelin.stderr.line_with(&[&format!("info listening on 127.0.0.1:{second}")]);
    assert_eq!(Client::connect(local(second)).get("/").expect(200).text(), "both");
    // The other was not touched.
    assert_eq!(kept.get("/").expect(200).text(), "both");
    change(&ravelin, &at(&one, "one again"));
    ravelin.stderr.line_with(&[&format!("no longer listening on 127.0.0.1:{second}")]);
    until("no listener", || std::net::TcpStream::connect(local(second)).is_err());
    assert_eq!(kept.get("/").expect(200).text(), "one again");
}

#[test]
fn an_address_that_ravelin_itself_is_in_the_way_of_is_refused_and_told_so() {
    let port = free_port();
    let (every, one) = (format!("\"0.0.0.0:{port}\""), format!("\"127.0.0.1:{port}\""));
    let ravelin = Ravelin::start(&at(&every, "every"));
    for toml in [at(&one, "one"), at(&format!("{every}, {one}"), "both")] {
        write(&ravelin, &toml);
        let said = reload(&ravelin);
        assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
        let why = format!("Ravelin itself listens at 0.0.0.0:{port}");
        ravelin.stderr.line_with(&[&why, "leave both out of one reload"]);
        assert_eq!(Client::connect(local(port)).get("/").expect(200).text(), "every");
    }
}

#[test]
fn two_addresses_of_one_configuration_that_overlap_are_refused_and_told_so() {
    let port = free_port();
    let both = at(&format!("\"0.0.0.0:{port}\", \"127.0.0.1:{port}\""), "both");
    let output = Setup::new(&both).run(&["run", "-c", "ravelin.toml"]);
    assert!(!output.status.success());
    let said = printed(&output);
    assert!(said.contains(&format!("Ravelin itself listens at 0.0.0.0:{port}")), "{said}");
}

#[test]
fn another_process_in_the_way_is_not_taken_for_ravelin_itself() {
    let other = std::net::TcpListener::bind("[::1]:0").unwrap();
    let port = other.local_addr().unwrap().port();
    // Of IPv4 alone, so it is not in the way.
    let four = format!("\"0.0.0.0:{port}\"");
    let ravelin = Ravelin::start(&at(&four, "four"));
    write(&ravelin, &at(&format!("{four}, \"[::1]:{port}\""), "both"));
    let said = reload(&ravelin);
    assert!(said.contains(&format!("cannot listen on [::1]:{port}")), "{said}");
    ravelin.stderr.line_with(&["another process listens there"]);
}

#[test]
fn connections_of_an_address_that_goes_end_politely() {
    let (first, second) = (free_port(), free_port());
    let gate = Gate::new();
    let held = gate.clone();
    let (came, arrived) = channel();
    let slow = Origin::serve(move |_| {
        let _ = came.send(());
        held.pass();
        ok("slow")
    });
    let one = format!("\"127.0.0.1:{first}\"");
    let both = format!("{one}, \"127.0.0.1:{second}\"");
    let slow = |listen: &str| site(&[&slow.url()], "").replace("\"127.0.0.1:0\"", listen);
    let ravelin = Setup::new(&at(&both, "fast")).listeners(2).start();
    let mut idle = Client::connect(local(second));
    idle.get("/").expect(200);
    change(&ravelin, &slow(&both));
    let mut active = Client::connect(local(second));
    active.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&arrived, "the request at the origin");
    // Not a byte of its request is there yet; it is owed an answer all the same.
    let mut fresh = Client::connect(local(second));
    until("the fresh connection", || open_at(second) >= 3);
    change(&ravelin, &at(&one, "one"));
    idle.expect_close();
    gate.open();
    let response = active.response("GET").expect(200);
    assert_eq!(response.text(), "slow");
    assert_eq!(response.get("connection"), Some("close"));
    active.expect_close();
    let response = fresh.get("/").expect(200);
    assert_eq!((&*response.text(), response.get("connection")), ("slow", Some("close")));
    fresh.expect_close();
}

/// Connections that Ravelin has taken at this port.
fn open_at(port: u16) -> usize {
    let local = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fits = |line: &&str| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        // An inode: some process has it, so it is no longer in the backlog.
        parts.get(1).is_some_and(|one| one.ends_with(&local))
            && parts.get(3) == Some(&"01")
            && parts.get(9) != Some(&"0")
    };
    table.lines().skip(1).filter(fits).count()
}

#[test]
fn http2_connections_of_an_address_that_goes_are_told_so() {
    let (first, second) = (free_port(), free_port());
    let h2c = |listen: &str| {
        at(listen, "here").replace("[[sites.routes]]", "h2c = true\n[[sites.routes]]")
    };
    let one = format!("\"127.0.0.1:{first}\"");
    let both = format!("{one}, \"127.0.0.1:{second}\"");
    let ravelin = Setup::new(&h2c(&both)).listeners(2).start();
    let (mut stays, mut goes) = (Http2::connect(local(first)), Http2::connect(local(second)));
    assert_eq!(stays.get(1, "/").body, b"here");
    assert_eq!(goes.get(1, "/").body, b"here");
    change(&ravelin, &h2c(&one));
    assert_eq!(goes.goaway_code(), Some(NO_ERROR));
    assert_eq!(stays.get(3, "/").body, b"here");
}

#[test]
fn what_is_spoken_at_an_address_holds_for_new_connections() {
    let authority = Authority::new();
    let pair = authority.server(&["example.com"]);
    let port = free_port();
    let listen = format!("\"127.0.0.1:{port}\"");
    let plain = at(&listen, "plain");
    let ssl = "[sites.ssl]\nenabled = true\ncert_file = \"example.com.pem\"\n\
               key_file = \"example.com.key\"\n[[sites.routes]]";
    let secure = at(&listen, "secure").replace("[[sites.routes]]", ssl);
    let ravelin = Setup::new(&plain).pair("example.com", &pair).start();
    let mut before = Client::connect(local(port));
    before.get("/").expect(200);
    change(&ravelin, &secure);
    // It cannot go on without TLS where there is to be TLS.
    before.expect_close();
    let mut client = TlsClient::trusting(&authority).connect(local(port), "example.com");
    assert_eq!(client.get("/").expect(200).text(), "secure");
    change(&ravelin, &secure.replace("secure", "secure still"));
    assert_eq!(client.get("/").expect(200).text(), "secure still");
    change(&ravelin, &plain);
    client.expect_close();
    assert_eq!(Client::connect(local(port)).get("/").expect(200).text(), "plain");
}

#[test]
fn a_port_that_the_kernel_chose_stays() {
    let ravelin = Ravelin::start(&answering("one"));
    let mut kept = ravelin.client();
    for round in 0..5 {
        change(&ravelin, &answering(&format!("{round}")));
        assert_eq!(kept.get("/").expect(200).text(), format!("{round}"));
        assert_eq!(ravelin.get("/").expect(200).text(), format!("{round}"));
    }
}

#[test]
fn a_unix_socket_comes_and_goes() {
    let ravelin = Ravelin::start(&answering("here"));
    let path = ravelin.dir().join("web.sock");
    let listen = format!("\"127.0.0.1:0\", \"unix:{}\"", path.display());
    change(&ravelin, &at(&listen, "here"));
    assert_eq!(Client::connect_unix(&path).get("/").expect(200).text(), "here");
    change(&ravelin, &answering("here"));
    until("the end of the socket's file", || !path.exists());
    ravelin.get("/").expect(200);
}
