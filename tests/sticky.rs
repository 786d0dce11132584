//! Clients that are kept with an endpoint.

use crate::harness::*;

const STICKY: &str = "[sites.proxy.load_balancing]\nsticky_sessions = true\n";

fn ask(client: &mut Client, cookie: &str) -> Response {
    client.ask(format!("GET / HTTP/1.1\r\nHost: example.com\r\n{cookie}\r\n"))
}

fn start(more: &str) -> (Vec<Origin>, Ravelin) {
    let origins: Vec<Origin> = ["a", "b", "c"].iter().map(|name| Origin::saying(name)).collect();
    let urls: Vec<String> = origins.iter().map(Origin::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let ravelin = Ravelin::start(&site(&urls, more));
    (origins, ravelin)
}

/// The cookie that a response sets, without its attributes.
fn set(response: &Response) -> Option<&str> {
    response.get("set-cookie").map(|line| line.split(';').next().unwrap())
}

#[test]
fn a_client_with_the_cookie_stays_where_it_is() {
    let (origins, ravelin) = start(STICKY);
    let mut client = ravelin.client();
    for _ in 0..3 {
        let first = ask(&mut client, "").expect(200);
        let line = first.get("set-cookie").unwrap();
        assert!(line.contains("; HttpOnly") && line.contains("; SameSite=Lax"), "{line}");
        let cookie = format!("Cookie: id=1; {}; x=2\r\n", set(&first).unwrap());
        for _ in 0..5 {
            let again = ask(&mut client, &cookie).expect(200);
            assert_eq!(again.text(), first.text());
            assert!(set(&again).is_none(), "it has it already");
        }
    }
    // The cookie is Ravelin's own; the others are the application's.
    let seen: Vec<Request> = origins.iter().flat_map(Origin::requests).collect();
    let cookies: Vec<_> = seen.iter().filter_map(|request| request.get("cookie")).collect();
    assert_eq!(cookies.len(), 15);
    assert!(cookies.iter().all(|cookie| *cookie == "id=1; x=2"), "{cookies:?}");
}

#[test]
fn a_cookie_that_was_made_up_is_worth_nothing() {
    let (_origins, ravelin) = start(STICKY);
    let mut client = ravelin.client();
    let name = set(&ask(&mut client, "")).unwrap().split('=').next().unwrap().to_owned();
    let forged = format!("Cookie: {name}={}\r\n", "A".repeat(43));
    let mut order = String::new();
    for _ in 0..3 {
        let response = ask(&mut client, &forged).expect(200);
        assert!(set(&response).is_some(), "it gets a good one");
        order += &response.text();
    }
    assert_eq!(order, "bca");
}

#[test]
fn a_client_whose_endpoint_is_gone_is_moved() {
    let (mut origins, ravelin) = start(STICKY);
    let mut client = ravelin.client();
    let first = ask(&mut client, "").expect(200);
    assert_eq!(first.text(), "a");
    let cookie = format!("Cookie: {}\r\n", set(&first).unwrap());
    drop(origins.remove(0));
    let moved = ask(&mut client, &cookie).expect(200);
    assert_ne!(moved.text(), "a");
    let cookie = format!("Cookie: {}\r\n", set(&moved).unwrap());
    assert!((0..4).all(|_| ask(&mut client, &cookie).expect(200).text() == moved.text()));
}

#[test]
fn the_application_may_say_when() {
    let toml = "[sites.proxy.load_balancing]\nsticky_sessions = { mode = \"application\", \
                application_cookie = \"SID\" }\n";
    let origin = Origin::serve(|request| match request.target.as_str() {
        "/login" => b"HTTP/1.1 200 OK\r\nSet-Cookie: SID=7\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("x"),
    });
    let ravelin = Ravelin::start(&site(&[&origin.url()], toml));
    assert!(ravelin.get("/").expect(200).get("set-cookie").is_none());
    let login = ravelin.get("/login").expect(200);
    assert_eq!(login.head.all("set-cookie").len(), 2);
}
