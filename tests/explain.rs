//! `ravelin explain`: what it says is what serving does.

use std::fmt::Write as _;

use crate::harness::*;

/// The configurations that are made up, and requests to each of them.
const CONFIGURATIONS: u64 = 16;
const REQUESTS: usize = 40;

/// Numbers that look like chance, and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len())]
    }
}

const SEGMENTS: &[&str] = &["a", "api", "files", "x", "v1", "apix", "%61pi", "b%20c", "a.png"];

fn path(dice: &mut Dice) -> String {
    let mut path = String::new();
    for _ in 0..dice.roll(4) {
        let segment = match dice.roll(12) {
            0 => "..",
            1 => ".",
            2 => "",
            _ => dice.of(SEGMENTS),
        };
        write!(path, "/{segment}").unwrap();
    }
    if path.is_empty() || dice.one_in(4) {
        path.push('/');
    }
    path
}

/// A path as routes have them.
fn route_path(dice: &mut Dice) -> String {
    let mut path = String::new();
    for _ in 0..dice.roll(3) {
        write!(path, "/{}", dice.of(&["a", "api", "files", "x", "v1"])).unwrap();
    }
    if path.is_empty() || dice.one_in(3) {
        path.push('/');
    }
    path
}

fn route(dice: &mut Dice, number: usize, last: usize) -> String {
    let mut keys = format!("[[sites.routes]]\nname = \"r{number}\"\n");
    match dice.roll(9) {
        0 => {
            _ = writeln!(
                keys,
                "path = '{}'\nmatch = \"regex\"",
                dice.of(&["^/api", "png$", "/v[0-9]+(/|$)", "^/A"])
            )
        }
        1 => {
            _ = writeln!(
                keys,
                "path = '{}'\nmatch = \"regex_ignore_case\"",
                dice.of(&["^/API", "PNG$"])
            )
        }
        2 => _ = writeln!(keys, "path = \"{}\"\nmatch = \"exact\"", route_path(dice)),
        3 => _ = writeln!(keys, "path = \"{}\"\nmatch = \"starts_with\"", route_path(dice)),
        4 => _ = writeln!(keys, "path = \"{}\"\nbefore_regex = true", route_path(dice)),
        _ => _ = writeln!(keys, "path = \"{}\"", route_path(dice)),
    }
    if dice.one_in(4) {
        _ = writeln!(
            keys,
            "methods = {}",
            dice.of(&["[\"GET\"]", "[\"POST\", \"PUT\"]", "[\"DELETE\"]"])
        );
    }
    if dice.one_in(5) {
        _ = writeln!(keys, "hosts = {}", dice.of(&["[\"a.test\"]", "[\"*.b.test\"]", "[\"x.*\"]"]));
    }
    if dice.one_in(4) {
        _ = writeln!(
            keys,
            "when = [{}]",
            dice.of(&[
                "{ header = \"X-Env\", values = [\"test\", \"dev\"] }",
                "{ header = \"X-Env\", empty = true }",
                "{ query = \"debug\" }",
                "{ query = \"v\", regex = \"^[0-9]+$\" }",
                "{ cookie = \"who\", prefix = \"a\" }",
            ])
        );
    }
    let upstream = match dice.roll(8) {
        0 => {
            _ = writeln!(
                keys,
                "redirect = \"{}\"",
                dice.of(&["/new", "https://$host$uri", "/to$path?x=$query"])
            );
            false
        }
        1 => {
            _ = writeln!(keys, "status = {}\nbody = \"here\"", dice.of(&[200, 403, 410, 503]));
            false
        }
        2 => {
            _ = writeln!(keys, "status = 204");
            false
        }
        _ => {
            _ = writeln!(keys, "upstream = \"{}\"", dice.of(&["one", "two"]));
            true
        }
    };
    if upstream {
        match dice.roll(6) {
            0 => keys.push_str("strip_prefix = true\n"),
            1 => keys.push_str("rewrite_target = \"/rewritten\"\n"),
            2 => keys.push_str("rewrite = [{ trim_prefix = \"/a\" }, { add_prefix = \"/p\" }]\n"),
            3 => keys.push_str("rewrite = [{ regex = '^/([^/]*)/(.*)$', with = '/$2/$1' }]\n"),
            4 => keys.push_str(
                "strip_prefix = true\nrewrite = [{ replace_prefix = \"/v\", with = \"/..\" }]\n",
            ),
            _ => {}
        }
        if dice.one_in(6) {
            keys.push_str("set_method = \"POST\"\n");
        }
        if dice.one_in(6) {
            keys.push_str("set_host = \"inside.test\"\n");
        }
        if dice.one_in(6) {
            keys.push_str("split = [{ upstream = \"two\", when = [{ header = \"X-Env\" }] }]\n");
        }
    }
    if dice.one_in(6) {
        keys.push_str("redirects = [{ regex = '/x$', of = \"path\", to = '/y' }]\n");
    }
    if dice.one_in(5) {
        let access = dice.of(&[
            "{ deny = [\"127.0.0.1\"] }",
            "{ allow = [\"10.0.0.0/8\"] }",
            "{ allow = [\"127.0.0.0/8\"] }",
        ]);
        _ = writeln!(keys, "access = {access}");
    }
    if dice.one_in(6) {
        keys.push_str("max_request_size = 3\n");
    }
    if dice.one_in(6) {
        keys.push_str("auth = { type = \"basic\", users = { ann = \"plain:secret-of-ann\" } }\n");
    }
    if dice.one_in(8) {
        keys.push_str("access_control = { allow_origins = [\"https://page.test\"], allow_methods = [\"GET\", \"PUT\"] }\n");
    }
    if dice.one_in(8) {
        keys.push_str("redirect_slash = true\n");
    }
    if number < last && dice.one_in(3) {
        let to = number + 1 + dice.roll(last - number);
        let outcome = dice.of(&["denied", "unauthorized", "redirected", "client_error"]);
        _ = writeln!(keys, "on_result = {{ {outcome} = \"r{to}\" }}");
    }
    _ = writeln!(keys, "response_headers = {{ set = {{ X-Route = \"r{number}\" }} }}\n");
    keys
}

fn configuration(dice: &mut Dice, one: &Origin, two: &Origin) -> String {
    let mut toml = "[management]\nsocket = \"admin.sock\"\n\n".to_owned();
    let hosts = ["\"a.test\"", "\"*.b.test\"", "\"x.test\"", "\"*\""];
    let sites = 1 + dice.roll(hosts.len());
    for (number, host) in hosts.iter().take(sites).enumerate() {
        _ = writeln!(
            toml,
            "[[sites]]\nname = \"s{number}\"\nhostname = {host}\nlisten = [\"127.0.0.1:0\"]\n\
             headers = {{ X-Site = \"s{number}\" }}"
        );
        for (key, sides) in [
            ("route_order = \"declared\"", 3),
            ("mismatch = 400", 4),
            ("health = false", 3),
            ("redirect_to_https = true", 8),
            ("static_dir = \"static\"", 3),
            ("access = { deny = [\"127.0.0.2\"] }", 4),
        ] {
            if dice.one_in(sides) {
                _ = writeln!(toml, "{key}");
            }
        }
        _ = writeln!(
            toml,
            "[sites.proxy]\nenabled = true\nupstreams = [{{ name = \"one\", url = \"{}/base\" }}, \
             {{ name = \"two\", url = \"{}\" }}]\n",
            one.url(),
            two.url()
        );
        let routes = 1 + dice.roll(8);
        for number in 0..routes {
            toml.push_str(&route(dice, number, routes - 1));
        }
    }
    toml
}

/// Method, target, host and further fields.
fn request(dice: &mut Dice) -> (&'static str, String, &'static str, Vec<(&'static str, String)>) {
    let method = dice.of(&["GET", "GET", "GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT"]);
    let mut target = match dice.roll(12) {
        0 => "/api/health".to_owned(),
        1 => "/index.html".to_owned(),
        _ => path(dice),
    };
    if dice.one_in(3) {
        target.push_str(dice.of(&["?debug", "?v=12&x=y", "?v=z", "?"]));
    }
    let host = dice.of(&["a.test", "one.b.test", "x.test", "other.example", "A.test:99", "b.test"]);
    let mut fields = Vec::new();
    if dice.one_in(3) {
        fields.push(("X-Env", dice.of(&["test", "prod"]).to_owned()));
    }
    if dice.one_in(4) {
        fields.push(("Cookie", dice.of(&["who=ann", "a=b; who=bob"]).to_owned()));
    }
    if dice.one_in(5) {
        fields.push(("Origin", dice.of(&["https://page.test", "https://other.test"]).to_owned()));
        if dice.one_in(2) {
            fields.push(("Access-Control-Request-Method", "PUT".to_owned()));
        }
    }
    if method == "POST" || method == "PUT" {
        fields.push(("Content-Length", dice.of(&["2", "5"]).to_owned()));
    }
    (method, target, host, fields)
}

/// An origin that says what it got.
fn echo(name: &'static str) -> Origin {
    Origin::serve(move |request| {
        let host = request.get("host").unwrap_or_default();
        let got = format!("{} {} {host}", request.method, request.target);
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Got: {got}\r\nX-Origin: {name}\r\n\r\n")
            .into_bytes()
    })
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "%{byte:02X}").unwrap();
        out
    })
}

/// What the running Ravelin says would become of a request.
#[track_caller]
fn explained(ravelin: &Ravelin, method: &str, url: &str, fields: &[(&str, String)]) -> Json {
    let mut path = format!("/v1/explain?method={method}&url={}", encoded(url));
    for (name, value) in fields {
        write!(path, "&header={}", encoded(&format!("{name}: {value}"))).unwrap();
    }
    let mut client = Client::connect_unix(&ravelin.dir().join("admin.sock"));
    let response =
        client.ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    assert_eq!(response.status, 200, "{}", response.text());
    Json::parse(&response.text())
}

fn list(json: &Json) -> &[Json] {
    match json {
        Json::List(items) => items,
        _ => &[],
    }
}

/// The value of a field in a list of names and values.
fn field<'j>(fields: &'j Json, name: &str) -> Option<&'j str> {
    let mut fields = list(fields).iter();
    fields
        .find(|one| one.get("name").text().eq_ignore_ascii_case(name))
        .map(|one| one.get("value").text())
}

/// Configurations and requests made up by chance; what is said of a request is what becomes of it.
#[test]
fn what_is_explained_is_what_is_served() {
    let seed = std::env::var("EXPLAIN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(1..=CONFIGURATIONS, |seed| seed..=seed);
    let (one, two) = (echo("one"), echo("two"));
    let (mut passed_on, mut answered) = (0, 0);
    for seed in seeds {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let toml = configuration(&mut dice, &one, &two);
        let ravelin = Setup::new(&toml).file("static/index.html", "x").start();
        ravelin.stderr.line_with(&["admin socket"]);
        for _ in 0..REQUESTS {
            let (method, target, host, fields) = request(&mut dice);
            let url = format!("http://{host}{target}");
            let said = explained(&ravelin, method, &url, &fields);
            let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
            let mut body = 0;
            for (name, value) in &fields {
                write!(text, "{name}: {value}\r\n").unwrap();
                if *name == "Content-Length" {
                    body = value.parse().unwrap();
                }
            }
            write!(text, "Connection: close\r\n\r\n{}", "x".repeat(body)).unwrap();
            let served = ravelin.ask(&text);
            let about = format!("seed {seed}\n{toml}\n{text}\n{:?}\n{said:?}", served.head);
            if *said.get("request").get("fault") != Json::Null {
                assert_eq!(f64::from(served.status), said.get("status").number(), "{about}");
                continue;
            }
            match said.get("status") {
                Json::Null => {
                    passed_on += 1;
                    let sends = said.get("sends");
                    let got = format!(
                        "{} {} {}",
                        sends.get("method").text(),
                        sends.get("target").text(),
                        field(sends.get("fields"), "host").unwrap_or_default()
                    );
                    assert_eq!(served.get("x-got"), Some(got.as_str()), "{about}");
                    let pool = list(said.get("pools"))[0].get("pool").text();
                    assert_eq!(served.get("x-origin"), Some(pool), "{about}");
                }
                status => {
                    answered += 1;
                    assert_eq!(f64::from(served.status), status.number(), "{about}");
                    assert_eq!(served.get("x-origin"), None, "{about}");
                    let location = said.get("location");
                    let location = (*location != Json::Null).then(|| location.text());
                    assert_eq!(served.get("location"), location, "{about}");
                    for name in ["allow", "www-authenticate", "content-type"] {
                        let said = field(said.get("response"), name);
                        assert_eq!(served.get(name), said, "{name} {about}");
                    }
                }
            }
            assert_eq!(
                served.get("x-site").unwrap_or_default(),
                field(said.get("response"), "x-site").unwrap_or_default(),
                "{about}"
            );
            let route = field(said.get("response"), "x-route");
            assert_eq!(served.get("x-route"), route, "{about}");
            if let Some(route) = route {
                assert_eq!(said.get("route").get("name").text(), route, "{about}");
                assert_eq!(
                    served.get("x-site"),
                    Some(said.get("site").get("site").text()),
                    "{about}"
                );
            }
        }
    }
    if seed.is_none() {
        assert!(passed_on >= 100 && answered >= 100, "{passed_on} passed on, {answered} answered");
    }
}

const TWO_MEMBERS: &str = r#"
[management]
socket = "admin.sock"

[[sites]]
name = "main"
hostname = "example.com"
listen = ["127.0.0.1:0"]

[sites.rate_limit]
requests = 3
per = "1h"

[sites.proxy]
enabled = true
load_balancing = { method = "weighted" }

[[sites.proxy.upstreams]]
name = "backend"
url = "ONE"
weight = 3

[[sites.proxy.upstreams]]
name = "backend"
url = "TWO"

[[sites.proxy.routes]]
path = "/api"
upstream = "backend"
strip_prefix = true
"#;

/// Explaining is looking: turns, limits and places are as they were.
#[test]
fn explaining_changes_nothing() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let toml = TWO_MEMBERS.replace("ONE", &one.url()).replace("TWO", &two.url());
    let ravelin = Ravelin::start(&toml);
    ravelin.stderr.line_with(&["admin socket"]);
    let url = "http://example.com/api/x";
    let members = |said: &Json| list(list(said.get("pools"))[0].get("members")).to_vec();
    let next = |said: &Json| {
        members(said)
            .iter()
            .find(|one| *one.get("next") == Json::Bool(true))
            .unwrap()
            .get("url")
            .text()
            .to_owned()
    };
    for round in 0..3 {
        // The request of the last round may not be counted as over yet.
        let mut said = Json::Null;
        until("nothing is in flight", || {
            said = explained(&ravelin, "GET", url, &[]);
            members(&said).iter().all(|one| one.get("in_flight").number() == 0.0)
        });
        for _ in 0..20 {
            assert_eq!(explained(&ravelin, "GET", url, &[]), said, "round {round}");
        }
        let left = format!("{} of 3 left after this one", 2 - round);
        let guards = list(said.get("guards"));
        assert!(
            guards.iter().any(|one| one.get("says").text().contains(&left)),
            "{left} {guards:?}"
        );
        // The turn that was foretold is the one that is taken.
        let expected = if next(&said) == one.url() { "one" } else { "two" };
        assert_eq!(ravelin.get("/api/x").text(), expected, "round {round}");
    }
    let said = explained(&ravelin, "GET", url, &[]);
    assert_eq!(said.get("status").number(), 429.0, "{said:?}");
    ravelin.get("/api/x").expect(429);
}

#[test]
fn a_configuration_is_explained_without_being_served() {
    let dir = TempDir::new();
    let toml =
        TWO_MEMBERS.replace("ONE", "http://127.0.0.1:3001").replace("TWO", "http://127.0.0.1:3002");
    dir.write("site.toml", &toml);
    let output = run(
        dir.path(),
        &["explain", "site.toml", "GET", "http://example.com/api/users?x=1", "-H", "X-A: b"],
    );
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "GET http://example.com/api/users?x=1",
        "client 127.0.0.1",
        "main: `example.com` is one of its hosts",
        "site.toml:27", // the route
        "site.toml:10", // the rate limit
        "GET /users?x=1",
        "backend",
        "75.0 %",
        "25.0 %",
        "http://127.0.0.1:3002",
        "X-Forwarded-For: 127.0.0.1",
        "timeout.connect",
        "default",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let output = run(dir.path(), &["explain", "site.toml", "http://example.com/other"]);
    let text = printed(&output);
    assert!(text.contains("404"), "{text}");
    assert!(text.contains("its path"), "{text}");
    let output =
        run(dir.path(), &["explain", "site.toml", "http://example.com/api/x", "--format", "json"]);
    let said = Json::parse(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(said.get("sends").get("target").text(), "/x");
    let place = said.get("route").get("place");
    assert_eq!((place.get("file").text(), place.get("line").number()), ("site.toml", 27.0));
    // Nothing of a name steers the terminal, and tools have it as it is.
    dir.write("site.toml", toml.replace("\"main\"", "\"m\u{202e}n\""));
    let output =
        run(dir.path(), &["explain", "site.toml", "http://example.com/api/x", "--format", "json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{202e}'), "{text}");
    assert_eq!(Json::parse(&text).get("site").get("site").text(), "m\u{202e}n");
}

#[test]
fn a_running_ravelin_says_how_its_upstreams_fare() {
    let (one, mut two) = (Origin::saying("one"), Origin::saying("two"));
    let toml = TWO_MEMBERS.replace("ONE", &one.url()).replace("TWO", &two.url());
    let toml =
        toml.replace("requests = 3", "requests = 1000") + "\n[sites.proxy.retry]\nattempts = 2\n";
    let setup = Setup::new(&toml);
    let ravelin = setup.start();
    ravelin.stderr.line_with(&["admin socket"]);
    two.kill();
    // A weight of one in four: three of its turns make it unusable.
    for _ in 0..16 {
        assert_eq!(ravelin.get("/api/x").text(), "one");
    }
    let output = run(
        ravelin.dir(),
        &["explain", "--live", "http://example.com/api/x", "--socket", "admin.sock"],
    );
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("left out after 3 failures"), "{text}");
    let said = explained(&ravelin, "GET", "http://example.com/api/x", &[]);
    let members = list(list(said.get("pools"))[0].get("members"));
    assert_eq!(members[1].get("usable"), &Json::Bool(false), "{said:?}");
    assert_eq!(members[0].get("share").number(), 1.0, "{said:?}");
}

#[test]
fn what_is_no_request_is_refused() {
    let dir = TempDir::new();
    dir.write("site.toml", site(&["http://127.0.0.1:1"], ""));
    for words in [
        &["site.toml", "ftp://example.com/"][..],
        &["site.toml", "G ET", "http://example.com/"],
        &["site.toml", "http://example.com/", "-H", "no colon"],
        &["http://example.com/"],
        &["missing.toml", "http://example.com/"],
    ] {
        let output = run(dir.path(), &[&["explain"], words].concat());
        assert_eq!(output.status.code(), Some(1), "{words:?} {}", printed(&output));
    }
}
