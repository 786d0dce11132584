//! What is known of upstreams, clients and certificates stays known.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Something different from before that changes nothing of what is tested.
fn other(toml: &str) -> String {
    format!("{toml}\n[limits]\ndrain = \"63KB\"\n")
}

#[test]
fn what_health_checks_found_is_not_forgotten() {
    let probes = Arc::new(AtomicUsize::new(0));
    let counted = probes.clone();
    let ill = Origin::serve(move |request| match request.target.as_str() {
        "/health" => {
            counted.fetch_add(1, Ordering::SeqCst);
            b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        _ => ok("ill"),
    });
    let well = Origin::saying("well");
    let checks = "[sites.proxy.health_check]\npath = \"/health\"\ninterval = \"1h\"\nfall = 1\n";
    let toml = site(&[&ill.url(), &well.url()], checks);
    let ravelin = Ravelin::start(&toml);
    ravelin.stderr.line_with(&[&ill.url(), "is down"]);
    for _ in 0..3 {
        reload(&ravelin);
        for _ in 0..4 {
            assert_eq!(ravelin.get("/").expect(200).text(), "well");
        }
    }
    change(&ravelin, &other(&toml));
    for _ in 0..4 {
        assert_eq!(ravelin.get("/").expect(200).text(), "well");
    }
    assert_eq!(probes.load(Ordering::SeqCst), 1, "checks that are the same are not begun anew");
    // Without checks nothing is known against it.
    change(&ravelin, &site(&[&ill.url(), &well.url()], ""));
    let answers: String = (0..4).map(|_| ravelin.get("/").expect(200).text()).collect();
    assert_eq!(answers.matches("ill").count(), 2, "{answers}");
}

#[test]
fn turns_and_rate_limits_are_not_begun_anew() {
    let origins = [Origin::saying("a"), Origin::saying("b"), Origin::saying("c")];
    let urls = origins.each_ref().map(Origin::url);
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let limit = "[[sites.rate_limit]]\nrequests = 6\nper = \"1h\"\n";
    let toml = site_with(limit, &urls, "");
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    let mut answers = String::new();
    for _ in 0..6 {
        answers += &client.get("/").expect(200).text();
        reload(&ravelin);
    }
    assert_eq!(answers, "abcabc");
    client.get("/").expect(429);
    change(&ravelin, &other(&toml));
    client.get("/").expect(429);
}

#[test]
fn clients_stay_with_their_endpoint() {
    let origins = [Origin::saying("a"), Origin::saying("b"), Origin::saying("c")];
    let urls = origins.each_ref().map(Origin::url);
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let sticky = "[sites.proxy.load_balancing]\nsticky_sessions = true\n";
    let ravelin = Ravelin::start(&site(&urls, sticky));
    let mut client = ravelin.client();
    let first = client.get("/").expect(200);
    let cookie = first.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let again = format!("GET / HTTP/1.1\r\nHost: example.com\r\nCookie: {cookie}\r\n\r\n");
    change(&ravelin, &other(&site(&urls, sticky)));
    for _ in 0..4 {
        let response = client.ask(&again).expect(200);
        assert_eq!(response.text(), first.text());
        assert!(!response.head.has("set-cookie"));
    }
}

#[test]
fn a_breaker_that_is_open_stays_open() {
    let origin = Origin::serve(|_| b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n".to_vec());
    let breaker = "[sites.proxy.circuit_breaker]\nminimum = 3\nopen = \"1h\"\n";
    let toml = site(&[&origin.url()], breaker);
    let ravelin = Ravelin::start(&toml);
    until("an open breaker", || ravelin.get("/").status == 503);
    let asked = origin.requests().len();
    change(&ravelin, &other(&toml));
    ravelin.get("/").expect(503);
    assert_eq!(origin.requests().len(), asked);
}

#[test]
fn another_certificate_is_for_new_connections_and_sessions_go_on() {
    let authority = Authority::new();
    let (first, second) = (authority.server(&["example.com"]), authority.server(&["example.com"]));
    let origin = Origin::saying("served");
    let base = tls_site("example.com", "", &origin.url());
    let toml = |name: &str| {
        base.replace("example.com.pem", &format!("{name}.pem"))
            .replace("example.com.key", &format!("{name}.key"))
    };
    let setup = Setup::new(&toml("one")).pair("one", &first).pair("other", &second);
    let ravelin = setup.start();
    let tls = TlsClient::trusting(&authority);
    let mut old = tls.connect(ravelin.addr(), "example.com");
    old.get("/").expect(200);
    assert!(old.was_shown(&first));
    change(&ravelin, &other(&toml("one")));
    let mut resumed = tls.connect(ravelin.addr(), "example.com");
    resumed.get("/").expect(200);
    assert_eq!(
        resumed.tls().handshake_kind(),
        Some(rustls::HandshakeKind::Resumed),
        "the keys of tickets are the same"
    );
    change(&ravelin, &toml("other"));
    let mut new = TlsClient::trusting(&authority).connect(ravelin.addr(), "example.com");
    new.get("/").expect(200);
    assert!(new.was_shown(&second));
    old.get("/").expect(200);
    // One that cannot be read refuses all of it.
    write(&ravelin, &toml("none"));
    let said = reload(&ravelin);
    assert!(said.contains("refused"), "{said}");
    ravelin.stderr.line_with(&["the file \"none.pem\" does not exist"]);
    old.get("/").expect(200);
}
