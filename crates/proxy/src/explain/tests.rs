//! What explaining says, and that it changes nothing.

use config::Options;
use config::model::UpstreamState;
use net::timer::Tick;

use super::*;
use crate::balance::{Ask, Choice, Tried};
use crate::guards::Verdict;
use crate::live::Live;

const SITE: &str = "[[sites]]\nname = \"main\"\nhostname = \"example.com\"\nport = 80\n";

/// Two entries with weights of 3 and 1, the second by another port.
const UPSTREAMS: &str = "[sites.proxy]\nenabled = true\nMETHOD\n\
     [[sites.proxy.upstreams]]\nname = \"b\"\nurl = \"http://127.0.0.1:1/base\"\nweight = 3\n\
     max_conns = 2\n\
     [[sites.proxy.upstreams]]\nname = \"b\"\nurl = \"http://127.0.0.1:2\"\n";

fn snapshot(toml: &str) -> Snapshot {
    let loaded = config::load(&[("site.toml".into(), toml)], &Options::default());
    let model = loaded.model.as_ref().unwrap_or_else(|| panic!("{}", loaded.render(false)));
    Snapshot::compile(model, &Live::default()).unwrap().0
}

fn proxied(method: &str, routes: &str) -> Snapshot {
    snapshot(&format!("{SITE}{}{routes}", UPSTREAMS.replace("METHOD", method)))
}

fn ask(snapshot: &Snapshot, request: &str) -> Explanation {
    explain(snapshot, &Asked::of(request).unwrap()).unwrap()
}

fn why<'e>(explained: &'e Explanation, route: &str) -> &'e str {
    let found = explained.routes.iter().find(|one| one.name == route);
    &found.unwrap_or_else(|| panic!("no route {route}")).why
}

#[test]
fn every_route_that_lost_has_a_reason() {
    let keys = [
        "path = \"/\"",
        "path = \"/api\"",
        "path = \"/api/v1\"",
        "path = \"/api/v1/users\"",
        "path = \"/api/v\"",
        "path = \"/api/v1/x\"\nmatch = \"exact\"",
        "path = \"^/api/v2\"\nmatch = \"regex\"",
        "path = \"/api/v1/p\"\nmethods = [\"POST\"]",
        "path = \"/api/v1/p/q\"\nwhen = [{ header = \"X-Env\", values = [\"test\", \"dev\"] }]",
        "path = \"/api/v1/p/q/\"\nhosts = [\"other.example\"]",
    ];
    let routes: String =
        keys.iter().map(|keys| format!("[[sites.routes]]\n{keys}\nupstream = \"b\"\n")).collect();
    let snapshot = proxied("", &routes);
    let explained = ask(&snapshot, "http://example.com/api/v1/p/q/r");
    assert_eq!(explained.route.as_ref().unwrap().name, "/api/v1");
    for (route, reason) in [
        ("/", "`/api/v1` is the longer prefix"),
        ("/api", "`/api/v1` is the longer prefix"),
        ("/api/v1/users", "its path"),
        ("/api/v", "its path ends inside of a segment here"),
        ("/api/v1/x", "its path"),
        ("^/api/v2", "its regular expression is not found in the path"),
        ("/api/v1/p", "its methods are POST"),
        ("/api/v1/p/q", "the field X-Env has to be \"test\" or \"dev\""),
        ("/api/v1/p/q/", "its hosts are other.example"),
    ] {
        assert_eq!(why(&explained, route), reason, "{route}");
    }
    let exact = ask(&snapshot, "http://example.com/api/v1/x");
    assert_eq!(why(&exact, "/api/v1"), "`/api/v1/x` is the exact path");
    let regex = ask(&snapshot, "http://example.com/api/v2/x");
    assert_eq!(why(&regex, "/api"), "`^/api/v2`, a regular expression, is asked first");
}

#[test]
fn everything_has_its_place() {
    let snapshot = proxied(
        "timeout = { read = \"5s\" }",
        "[[sites.routes]]\npath = \"/x\"\nupstream = \"b\"\nmax_request_size = 10\n",
    );
    let explained = ask(&snapshot, "http://example.com/x/y");
    let line = |place: &Option<Place>| place.as_ref().map(|place| place.line);
    assert_eq!(line(&explained.site.as_ref().unwrap().place), Some(1));
    assert_eq!(line(&explained.route.as_ref().unwrap().place), Some(16));
    assert_eq!(line(&explained.routes[0].place), Some(16));
    assert_eq!(line(&explained.guards[0].1), Some(19));
    let pool = &explained.pools[0];
    assert_eq!(line(&pool.place), Some(8));
    assert_eq!(
        pool.members.iter().map(|one| line(&one.place)).collect::<Vec<_>>(),
        [Some(10), Some(15)]
    );
    let setting = |name: &str| explained.settings.iter().find(|one| one.name == name).unwrap();
    assert_eq!(line(&setting("timeout.read").place), Some(7));
    assert_eq!(line(&setting("timeout.connect").place), None);
    assert_eq!(setting("timeout.read").value, "5s");
    assert_eq!(setting("max_request_size").value, "10 B");
    let text = explained.to_string();
    assert!(text.contains("site.toml:16") && text.contains("default"), "{text}");
}

#[test]
fn members_are_weighed_as_they_are_chosen() {
    for method in ["round_robin", "weighted", "least_connections", "ip_hash", "uri_hash"] {
        let snapshot = proxied(
            &format!("load_balancing = {{ method = \"{method}\" }}"),
            "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n",
        );
        let balancer = &snapshot.sites[0].proxy.as_ref().unwrap().pools[0].balancer;
        for round in 0..20 {
            let url = format!("http://example.com/{round}");
            let explained = ask(&snapshot, &url);
            let members = &explained.pools[0].members;
            let next = members.iter().position(|one| one.next).unwrap();
            let property = match method {
                "ip_hash" => vec![127, 0, 0],
                _ => format!("/{round}?").into_bytes(),
            };
            let hash = balancer.hash_key().map_or(0, |_| Ask::hash_of(&property));
            let ask = Ask { hash, random: 0, turn: balancer.take_turn(), now: Tick::now() };
            let Choice::Member(member, _) = balancer.choose(&ask, &Tried::default()) else {
                panic!("nobody");
            };
            assert_eq!(balancer.index_of(member), Some(next), "{method} {round}");
        }
    }
    let shares = |method: &str| -> Vec<f64> {
        let method = format!("load_balancing = {{ method = \"{method}\" }}");
        let routes = "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n";
        let explained = ask(&proxied(&method, routes), "http://example.com/");
        explained.pools[0].members.iter().filter_map(|one| one.share).collect()
    };
    assert_eq!(shares("random"), [0.5, 0.5]);
    assert_eq!(shares("weighted_random"), [0.75, 0.25]);
    assert_eq!(shares("round_robin"), [0.5, 0.5]);
    assert!(shares("least_time").is_empty());
}

#[test]
fn who_is_not_used_has_a_reason() {
    let routes = "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n";
    let of = |change: &dyn Fn(&Snapshot)| {
        let snapshot = proxied("", routes);
        change(&snapshot);
        ask(&snapshot, "http://example.com/").pools.remove(0)
    };
    let member = |snapshot: &Snapshot, index: usize| {
        let pool = &snapshot.sites[0].proxy.as_ref().unwrap().pools[0];
        std::sync::Arc::clone(&pool.balancer.members()[index].state)
    };
    let now = Tick::now();
    for (change, reason) in [
        (
            &(|s: &Snapshot| member(s, 0).set_health(false, now)) as &dyn Fn(&Snapshot),
            "down by health checks",
        ),
        (
            &|s: &Snapshot| member(s, 0).steer(Some(UpstreamState::Drain)),
            "draining, as an operator",
        ),
        (&|s: &Snapshot| member(s, 0).steer(Some(UpstreamState::Down)), "taken out by an operator"),
        (
            &|s: &Snapshot| {
                for _ in 0..3 {
                    member(s, 0).fails.failed(now, 3);
                }
                member(s, 0).changed();
            },
            "left out after 3 failures",
        ),
    ] {
        let pool = of(change);
        let why = pool.members[0].why.clone().unwrap_or_default();
        assert!(why.starts_with(reason), "{why}");
        assert_eq!((pool.members[0].usable, pool.members[1].usable), (false, true), "{reason}");
        assert_eq!(pool.members[1].share, Some(1.0), "{reason}");
    }
    let snapshot = proxied("", routes);
    let members = snapshot.sites[0].proxy.as_ref().unwrap().pools[0].balancer.members();
    let flights: Vec<_> = (0..2).map(|_| members[0].endpoint.enter(Some(2)).unwrap()).collect();
    let pool = ask(&snapshot, "http://example.com/").pools.remove(0);
    assert_eq!(pool.members[0].why.as_deref(), Some("full: 2 of 2 requests in flight"));
    drop(flights);
    let both = of(&|s: &Snapshot| (0..2).for_each(|index| member(s, index).set_health(false, now)));
    assert_eq!(both.closed.as_deref(), Some("none of its members can be used: 503"));
}

/// A member that failed and may be tried again is not tried by asking.
#[test]
fn nobody_is_tried_by_asking() {
    let snapshot = proxied("", "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n");
    let members = snapshot.sites[0].proxy.as_ref().unwrap().pools[0].balancer.members();
    let long_ago = Tick::from(Tick::now().as_millis().saturating_sub(60_000));
    for _ in 0..3 {
        members[0].state.fails.failed(long_ago, 3);
    }
    members[0].state.changed();
    for _ in 0..10 {
        ask(&snapshot, "http://example.com/");
    }
    assert!(!members[0].state.fails.is_being_tried());
    assert_eq!(members[0].endpoint.in_flight(), 0);
}

#[test]
fn splits_have_their_share() {
    let snapshot = snapshot(&format!(
        "{SITE}[sites.proxy]\nenabled = true\n\
         upstreams = [{{ name = \"a\", url = \"http://127.0.0.1:1\" }}, \
         {{ name = \"b\", url = \"http://127.0.0.1:2\" }}, {{ name = \"c\", url = \"http://127.0.0.1:3\" }}]\n\
         [[sites.routes]]\npath = \"/\"\nupstream = \"a\"\n\
         split = [{{ upstream = \"c\", when = [{{ header = \"X-C\" }}] }}, {{ upstream = \"b\", share = \"20%\" }}]\n"
    ));
    let pools = |fields: &[(String, String)]| -> Vec<(String, f64)> {
        let asked = Asked {
            url: "http://example.com/".to_owned(),
            fields: fields.to_vec(),
            ..Asked::default()
        };
        let explained = explain(&snapshot, &asked).unwrap();
        explained.pools.iter().map(|pool| (pool.name.clone(), pool.chance)).collect()
    };
    assert_eq!(pools(&[]), [("a".to_owned(), 0.8), ("b".to_owned(), 0.2)]);
    assert_eq!(pools(&[("X-C".to_owned(), "1".to_owned())]), [("c".to_owned(), 1.0)]);
}

#[test]
fn listeners_are_found_by_port_and_by_what_is_spoken() {
    let tls = "[sites.ssl]\nenabled = true\ncert_file = \"c\"\nkey_file = \"k\"\n";
    let site = |name: &str, port: u16, more: &str| {
        format!(
            "[[sites]]\nname = \"{name}\"\nhostname = \"{name}.example\"\nport = {port}\n{more}\n\
             [[sites.routes]]\npath = \"/\"\nstatus = 204\n"
        )
    };
    let snapshot = snapshot(
        &[
            site("plain", 8080, ""),
            site("away", 8081, "redirect_to_https = true"),
            format!("{}{tls}", site("secure", 8443, "")),
            format!("{}{tls}", site("away", 8444, ""))
                .replace("name = \"away\"", "name = \"safe\""),
        ]
        .concat(),
    );
    let site = |request: &str| ask(&snapshot, request).site.map(|site| site.name);
    assert_eq!(site("http://plain.example/").as_deref(), Some("plain"));
    assert_eq!(site("https://secure.example/").as_deref(), Some("secure"));
    assert_eq!(site("https://away.example/").as_deref(), Some("safe"));
    assert_eq!(site("http://plain.example:8081/").as_deref(), Some("away"));
    assert_eq!(ask(&snapshot, "http://secure.example:8443/").status, Some(400));
    let away = ask(&snapshot, "http://away.example:8081/x?y");
    assert_eq!(
        (away.status, away.location.as_deref()),
        (Some(301), Some("https://away.example:8444/x?y"))
    );
}

#[test]
fn what_is_shown_moves_no_terminal() {
    let snapshot = snapshot(&format!("{SITE}[[sites.routes]]\npath = \"/\"\nstatus = 204\n"));
    let asked = Asked { url: "http://example.com/%1b[2J\u{9b}x".to_owned(), ..Asked::default() };
    if let Ok(explained) = explain(&snapshot, &asked) {
        assert!(!explained.to_string().chars().any(|c| c.is_control() && c != '\n'));
    }
    for url in ["", "x", "http://", "http://a b/", "ftp://a/", "http://a/\r\nX: y"] {
        let asked = Asked { url: url.to_owned(), ..Asked::default() };
        assert!(explain(&snapshot, &asked).is_err(), "{url}");
    }
    let mut asked = Asked::default();
    assert!(asked.add_field("no colon").is_err());
    asked.add_field("Bad Name: x").unwrap();
    assert!(explain(&snapshot, &asked).is_err());
}

#[test]
fn credentials_that_are_added_are_not_for_everybody() {
    let routes = "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n\
         request_headers = { set = { Authorization = \"Bearer hush\", X-Env = \"seen\" } }\n\
         [[sites.routes]]\npath = \"/x\"\nupstream = \"b\"\n\
         when = [{ header = \"X-Api-Key\", values = [\"hush\"] }]\n\
         [[tests]]\nrequest = \"http://example.com/\"\n\
         upstream_headers = { Authorization = \"x\", X-Env = \"y\" }\n";
    let toml = format!("{SITE}{}{routes}", UPSTREAMS.replace("METHOD", ""));
    let loaded = config::load(&[("site.toml".into(), &toml)], &Options::default());
    let model = loaded.model.as_ref().unwrap_or_else(|| panic!("{}", loaded.render(false)));
    let snapshot = Snapshot::compile(model, &Live::default()).unwrap().0;
    let mut explained = ask(&snapshot, "http://example.com/x");
    assert!(explained.to_json().to_string().contains("Bearer hush"));
    explained.conceal();
    let (json, text) = (explained.to_json().to_string(), explained.to_string());
    assert!(!json.contains("hush") && !text.contains("hush"), "{json} {text}");
    assert!(text.contains("Authorization: *****") && text.contains("X-Env: seen"), "{text}");
    let unmet: Vec<String> =
        unmet(&snapshot, &model.expectations).into_iter().map(|unmet| unmet.message).collect();
    let all = unmet.join("\n");
    assert!(
        !all.contains("hush") && all.contains("*****") && all.contains("X-Env is seen"),
        "{all}"
    );
}

#[test]
fn what_a_route_says_to_websockets_is_asked() {
    let routes = "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n\
         websocket = { required = true, origins = [\"*.example.org\"] }\n";
    let snapshot = proxied("", routes);
    let says = |url: &str, origin: Option<&str>| {
        let mut asked = Asked::of(url).unwrap();
        asked.fields.extend(origin.map(|origin| ("Origin".to_owned(), origin.to_owned())));
        let explained = explain(&snapshot, &asked).unwrap();
        let (last, place) = explained.guards.last().unwrap();
        assert_eq!(last.guard, "websocket");
        (explained.status, place.as_ref().map(|place| place.line))
    };
    assert_eq!(says("http://example.com/", None).0, Some(426));
    assert_eq!(says("ws://example.com/", Some("https://evil.example")).0, Some(403));
    assert_eq!(says("ws://example.com/", Some("https://a.example.org")).0, None);
    assert!(says("ws://example.com/", None).1.is_some());
}

#[test]
fn credentials_that_cannot_be_read_are_none() {
    let routes = "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n\
         auth = { type = \"basic\", users = { ann = \"plain:secret\" } }\n";
    let snapshot = proxied("", routes);
    let says = |fields: &[&str]| {
        let mut asked = Asked::of("http://example.com/").unwrap();
        fields.iter().for_each(|field| asked.add_field(field).unwrap());
        let explained = explain(&snapshot, &asked).unwrap();
        let challenged = explained
            .response
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
        (explained.status, challenged, explained.guards.last().unwrap().0.verdict)
    };
    let (unauthorized, unknown) = (Verdict::Ends(401), Verdict::Unknown);
    assert_eq!(says(&[]), (Some(401), true, unauthorized));
    // base64 of "ann:wrong", and of "ann".
    assert_eq!(says(&["Authorization: Basic YW5uOndyb25n"]), (None, false, unknown));
    assert_eq!(says(&["Authorization: Basic YW5u"]), (Some(401), true, unauthorized));
    assert_eq!(says(&["Authorization: Basic !"]), (Some(401), true, unauthorized));
    assert_eq!(says(&["Authorization: Bearer abc"]), (Some(401), true, unauthorized));
    let twice = "Authorization: Basic YW5uOndyb25n";
    assert_eq!(says(&[twice, twice]), (Some(400), false, Verdict::Ends(400)));
}

#[test]
fn users_and_fragments_of_urls_are_not_sent() {
    let snapshot = proxied("", "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n");
    for url in ["http://example.com/x#a/b?c", "/x#a"] {
        let explained = ask(&snapshot, url);
        assert_eq!((explained.status, &*explained.request.path), (None, "/x"), "{url}");
        assert!(explained.notes.iter().any(|note| note.contains('#')), "{:?}", explained.notes);
    }
    let asked = Asked::of("http://ann:hush@example.com/").unwrap();
    let why = explain(&snapshot, &asked).unwrap_err().to_string();
    assert!(why.contains("Authorization") && !why.contains("hush"), "{why}");
    assert!(explain(&snapshot, &Asked::of("http://example.com/@x").unwrap()).is_ok());
}

#[test]
fn a_body_beyond_what_is_buffered_is_refused() {
    let routes = "[[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n";
    let snapshot = proxied("buffering = { request = true, max = 100 }", routes);
    let status = |length: usize| {
        let mut asked = Asked::of("POST http://example.com/").unwrap();
        asked.add_field(&format!("Content-Length: {length}")).unwrap();
        let explained = explain(&snapshot, &asked).unwrap();
        let max = explained.settings.iter().find(|one| one.name == "buffering.max").unwrap();
        assert_eq!((&*max.value, max.place.as_ref().map(|place| place.line)), ("100 B", Some(7)));
        explained.status
    };
    assert_eq!((status(100), status(101)), (None, Some(413)));
}

#[test]
fn a_listener_is_chosen_by_the_address_in_the_url() {
    let site = |name: &str, address: &str| {
        format!(
            "[[sites]]\nname = \"{name}\"\nhostname = \"*\"\nlisten = [\"{address}\"]\n\
             proxy = {{ enabled = true, upstreams = [{{ name = \"b\", url = \"http://127.0.0.1:1\" }}] }}\n"
        )
    };
    let toml = site("one", "127.0.0.1:8080") + &site("two", "127.0.0.2:8080");
    let snapshot = snapshot(&toml);
    for (host, name) in [("127.0.0.1", "one"), ("127.0.0.2", "two")] {
        let explained = ask(&snapshot, &format!("http://{host}:8080/"));
        assert_eq!(explained.site.as_ref().unwrap().name, name);
        assert!(explained.notes.iter().any(|note| note.contains("another site")));
    }
}
