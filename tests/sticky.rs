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
fn clients_that_stay_take_nobodys_turn() {
    let (_origins, ravelin) = start(STICKY);
    let mut client = ravelin.client();
    let first = ask(&mut client, "").expect(200);
    let cookie = format!("Cookie: {}\r\n", set(&first).unwrap());
    let mut order = first.text();
    for _ in 0..5 {
        assert_eq!(ask(&mut client, &cookie).expect(200).text(), first.text());
        order += &ask(&mut client, "").expect(200).text();
    }
    assert_eq!(order, "abcabc");
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

const BY_HASH: &str = "[sites.proxy.load_balancing]\nsticky_sessions = { \
                       mode = \"CookieConsistentHash\", appCookieName = \"SID\" }\n";

/// No multiple of three, so that going round does not look like keeping sessions.
const SESSIONS: usize = 61;

/// Who serves each of so many sessions.
fn sessions(client: &mut Client, count: usize) -> Vec<String> {
    let ask = |session| ask(client, &format!("Cookie: x=1; SID=s{session}\r\n"));
    (0..count).map(ask).map(|response| response.expect(200).text()).collect()
}

#[test]
fn by_hash_of_the_applications_cookie_sessions_stay_and_spread() {
    let (origins, ravelin) = start(BY_HASH);
    let mut client = ravelin.client();
    let first = sessions(&mut client, SESSIONS);
    for name in ["a", "b", "c"] {
        assert!(first.iter().any(|member| member == name), "{first:?}");
    }
    assert_eq!(sessions(&mut ravelin.client(), SESSIONS), first);
    // The cookie is the application's: it gets it, and none is set.
    let response = ask(&mut client, "Cookie: SID=s1; y=2\r\n");
    assert!(set(&response).is_none());
    let seen: Vec<Request> = origins.iter().flat_map(Origin::requests).collect();
    assert!(seen.iter().any(|request| request.get("cookie") == Some("SID=s1; y=2")));
}

#[test]
fn by_hash_clients_without_the_cookie_are_balanced_by_the_method() {
    let (_origins, ravelin) = start(BY_HASH);
    let mut client = ravelin.client();
    for cookie in ["", "Cookie: SID=; x=SID=1; sid=3\r\n"] {
        let order: String = (0..6).map(|_| ask(&mut client, cookie).text()).collect();
        assert_eq!(order, "abcabc", "{cookie:?}");
    }
}

#[test]
fn by_hash_only_the_sessions_of_an_endpoint_that_is_gone_are_moved() {
    let (mut origins, ravelin) = start(BY_HASH);
    let mut client = ravelin.client();
    let before = sessions(&mut client, SESSIONS);
    origins[1].kill();
    // At the first attempts, and when it is left out.
    for _ in 0..2 {
        let after = sessions(&mut client, SESSIONS);
        for (before, after) in before.iter().zip(&after) {
            assert!(after == before || before == "b", "{before} -> {after}");
            assert_ne!(after, "b");
        }
    }
}

#[test]
fn by_hash_another_proxy_keeps_a_session_with_the_same_endpoint() {
    let (origins, ravelin) = start(BY_HASH);
    let urls: Vec<String> = origins.iter().map(Origin::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let other = Ravelin::start(&site(&urls, BY_HASH));
    other.get("/").expect(200);
    assert_eq!(sessions(&mut ravelin.client(), SESSIONS), sessions(&mut other.client(), SESSIONS));
}

#[test]
fn by_hash_the_lowest_tier_with_a_usable_endpoint_has_all_sessions() {
    let [mut a, b, c] = ["a", "b", "c"].map(Backend::new);
    let entries = [(a.url(), ""), (b.url(), "backup = true"), (c.url(), "backup = true")];
    let ravelin = Ravelin::start(&site_of(&entries, BY_HASH));
    let mut client = ravelin.client();
    assert!(sessions(&mut client, 30).iter().all(|member| member == "a"));
    a.kill();
    let moved = sessions(&mut client, 30);
    assert!(moved.contains(&"b".to_owned()) && moved.contains(&"c".to_owned()), "{moved:?}");
    assert_eq!(sessions(&mut client, 30), moved);
}

/// RFC 6265 §5.3: a browser keeps one cookie for a name, domain and path.
#[test]
fn two_pools_of_a_site_do_not_take_each_others_cookie() {
    let origins: Vec<Origin> =
        ["a", "b", "c", "d"].iter().map(|name| Origin::saying(name)).collect();
    let entry = |name: &str, origin: &Origin| {
        format!("[[sites.proxy.upstreams]]\nname = \"{name}\"\nurl = \"{}\"\n", origin.url())
    };
    let others = entry("other", &origins[2]) + &entry("other", &origins[3]);
    let routes = "[[sites.proxy.routes]]\n";
    let toml = site(&[&origins[0].url(), &origins[1].url()], STICKY).replacen(
        routes,
        &format!("{others}\n{routes}path = \"/other\"\nupstream = \"other\"\n\n{routes}"),
        1,
    );
    let ravelin = Ravelin::start(&toml);
    let dir = TempDir::new();
    let jar = dir.path().join("cookies");
    let jar = jar.to_str().unwrap();
    let browse = |path: &str| curl(&["-b", jar, "-c", jar, &ravelin.url(path)]);
    let (first, other) = (browse("/"), browse("/other"));
    // Without a cookie it would be somebody else's turn.
    for _ in 0..4 {
        assert_eq!((browse("/"), browse("/other")), (first.clone(), other.clone()));
        for path in ["/", "/other", "/", "/other"] {
            ravelin.get(path).expect(200);
        }
    }
    let cookies = std::fs::read_to_string(jar).unwrap();
    assert_eq!(cookies.matches("RAVELIN_ROUTE_").count(), 2, "{cookies}");
}
