//! What there is: every path that is documented answers, and answers as documented.

use std::path::Path;

use super::{ask, get, items, over, socket, texts};
use crate::harness::{Authority, Client, Json, Origin, Ravelin, Setup, ok, site, site_of};

/// What of `value` is not as `schema` says.
fn mismatch(document: &Json, schema: &Json, value: &Json) -> Option<String> {
    if let Json::Text(place) = schema.get("$ref") {
        let name = place.strip_prefix("#/components/schemas/").expect(place);
        let named = document.get("components").get("schemas").get(name);
        assert_ne!(*named, Json::Null, "{name} is not described");
        return mismatch(document, named, value).map(|wrong| format!("{name}.{wrong}"));
    }
    if let Json::List(any) = schema.get("anyOf") {
        let wrong: Vec<String> =
            any.iter().filter_map(|it| mismatch(document, it, value)).collect();
        return (wrong.len() == any.len()).then(|| wrong.join(" and "));
    }
    let is = match schema.get("type").text() {
        "" => true,
        "string" => matches!(value, Json::Text(_)),
        "integer" => matches!(value, Json::Number(n) if n.fract() == 0.0),
        "number" => matches!(value, Json::Number(_)),
        "boolean" => matches!(value, Json::Bool(_)),
        "null" => *value == Json::Null,
        "array" => match value {
            Json::List(all) => {
                let wrong = |one| mismatch(document, schema.get("items"), one);
                return all.iter().find_map(wrong).map(|wrong| format!("[]: {wrong}"));
            }
            _ => false,
        },
        "object" => match value {
            Json::Object(members) => {
                let required = texts_or_none(schema.get("required"));
                if let Some(missing) = required.iter().find(|name| !members.contains_key(**name)) {
                    return Some(format!("{missing} is missing"));
                }
                let known = schema.get("properties");
                let wrong = |(name, one): (&String, &Json)| {
                    let schema = match known.get(name) {
                        Json::Null => match schema.get("additionalProperties") {
                            Json::Null if *known == Json::Null => return None,
                            Json::Null => return Some(format!("{name} is not described")),
                            others => others,
                        },
                        own => own,
                    };
                    mismatch(document, schema, one).map(|wrong| format!("{name}: {wrong}"))
                };
                return members.iter().find_map(wrong);
            }
            _ => false,
        },
        other => panic!("a type {other}"),
    };
    let words = texts_or_none(schema.get("enum"));
    let is = is && (words.is_empty() || words.contains(&value.text()));
    (!is).then(|| format!("{value:?} is not as {schema:?} says"))
}

fn texts_or_none(json: &Json) -> Vec<&str> {
    match json {
        Json::Null => Vec::new(),
        list => texts(list),
    }
}

/// A Ravelin with something of everything to tell.
fn full(origin: &Origin) -> (Ravelin, Client) {
    let authority = Authority::new();
    let identity = authority.server(&["example.com"]);
    let more = "[sites.ssl]\nenabled = true\ncert_file = \"site.crt\"\nkey_file = \"site.key\"\n";
    let toml = site(&[&origin.url()], "");
    let tls = "[[sites]]\nname = \"secure\"\nhostname = \"secure.example\"\nlisten = [\"127.0.0.2:0\"]\n\
               static_dir = \".\"\n";
    let ravelin = Setup::new(&format!("{toml}\n{tls}{more}"))
        .file("site.crt", identity.certificate)
        .file("site.key", identity.key)
        .listeners(2)
        .start();
    let mut client = ravelin.client();
    assert_eq!(client.get("/kept").text(), "traffic");
    (ravelin, client)
}

#[test]
fn every_documented_path_answers_as_documented() {
    let origin = Origin::saying("traffic");
    let (ravelin, _client) = full(&origin);
    let socket = socket(&ravelin);
    let document = get(&socket, "/openapi.json");
    let Json::Object(paths) = document.get("paths") else { panic!("no paths") };
    assert!(paths.len() > 15, "{:?}", paths.keys());
    let mut answered = 0;
    for (path, methods) in paths {
        let Json::Object(methods) = methods else { panic!("no methods of {path}") };
        for (method, operation) in methods {
            let asked = ask_one(&socket, method, path);
            let nothing_there = asked.status == 404 && asked.text().contains("there is nothing at");
            assert!(!nothing_there && asked.status != 405, "{method} {path}: {}", asked.status);
            assert!(asked.status < 500, "{method} {path}: {} {}", asked.status, asked.text());
            let described = match asked.status {
                200 => operation.get("responses").get("200"),
                _ => operation.get("responses").get("default"),
            };
            let Json::Object(contents) = described.get("content") else { continue };
            let media = asked.get("content-type").unwrap().split(';').next().unwrap().to_owned();
            let content =
                contents.get(&media).unwrap_or_else(|| panic!("{method} {path}: {media}"));
            if !media.ends_with("json") {
                continue;
            }
            answered += 1;
            let wrong = mismatch(&document, content.get("schema"), &Json::parse(&asked.text()));
            assert_eq!(wrong, None, "{method} {path}");
        }
    }
    assert!(answered > 20, "{answered}");
}

/// Asks for a documented path, in a way that changes nothing that the others need.
fn ask_one(socket: &Path, method: &str, path: &str) -> crate::harness::Response {
    let mut target = String::new();
    for segment in path.split('/').skip(1) {
        target.push('/');
        // Of what is not there.
        target.push_str(if segment.starts_with('{') { "0" } else { segment });
    }
    match (method, path) {
        // What goes on for ever, and what would end this process.
        ("get", "/v1/events") => target.push_str("?rate=none"),
        ("post", "/v1/upgrade") => target.push_str("?no"),
        ("get", "/v1/explain") => target.push_str("?url=http://example.com/"),
        _ => {}
    }
    ask(socket, &method.to_uppercase(), &target, "")
}

#[test]
fn answers_are_never_kept_and_load_nothing() {
    let origin = Origin::saying("traffic");
    let ravelin = Ravelin::before(&origin);
    let socket = socket(&ravelin);
    for path in ["/v1/status", "/nothing"] {
        let answer = ask(&socket, "GET", path, "");
        assert_eq!(answer.get("cache-control"), Some("no-store"));
        assert_eq!(answer.get("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.get("x-frame-options"), Some("DENY"));
        assert!(answer.get("content-security-policy").unwrap().contains("default-src 'none'"));
    }
    let head =
        Client::connect_unix(&socket).ask("HEAD /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let other = ask(&socket, "DELETE", "/v1/status", "");
    assert_eq!((other.status, other.get("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn what_is_misspelled_is_not_passed_over() {
    let origin = Origin::saying("traffic");
    let ravelin = Ravelin::before(&origin);
    let socket = socket(&ravelin);
    let answer = ask(&socket, "PUT", "/v1/config?dryrun=true", "x");
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("`dryrun` has no meaning here; there is `dry_run`"),
        "{}",
        answer.text()
    );
    assert_eq!(ask(&socket, "PUT", "/v1/config?dry_run=perhaps", "x").status, 400);
    assert_eq!(ask(&socket, "GET", "/v1/status?%zz", "").status, 400);
    assert_eq!(ask(&socket, "POST", "/v1/reload?for=60s", "").status, 400);
    assert_eq!(ask(&socket, "POST", "/v1/reload?canary=200%25", "").status, 400);
    for weight in ["-1", "65536", "1.5", "\"1\"", "true"] {
        let body = format!("{{\"weight\": {weight}}}");
        let put = format!(
            "PUT /v1/endpoints/backend/a/weight HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(Client::connect_unix(&socket).ask(put).status, 400, "{weight}");
    }
    let form = "PUT /v1/log-level HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: text/plain\r\nContent-Length: 17\r\n\r\n{\"level\":\"debug\"}";
    assert_eq!(Client::connect_unix(&socket).ask(form).status, 415);
}

#[test]
fn an_endpoint_is_drained_weighed_and_used_again() {
    let (one, other) = (Origin::saying("one"), Origin::saying("other"));
    let toml = site(&[&one.url(), &other.url()], "");
    let ravelin = Ravelin::start(&toml);
    let socket = socket(&ravelin);
    let name = format!("127.0.0.1:{}", one.port());
    let place = format!("/v1/endpoints/backend/{}", name.replace(':', "%3A"));
    let all = || -> std::collections::BTreeSet<String> {
        (0..8).map(|_| ravelin.get("/").text()).collect()
    };
    assert_eq!(all().len(), 2);
    let drained = Json::parse(&over(&socket, &["-X", "POST"], &format!("{place}/drain")));
    let [view] = items(drained.get("endpoints")) else { panic!("{drained:?}") };
    assert_eq!((view.get("name").text(), view.get("status").text()), (&*name, "drain"));
    assert_eq!(view.get("steered").text(), "drain");
    assert_eq!(all(), ["other".to_owned()].into());
    assert_eq!(ask(&socket, "POST", &format!("{place}/enable"), "").status, 200);
    assert_eq!(all().len(), 2);
    assert_eq!(ask(&socket, "POST", &format!("{place}/maintenance"), "").status, 200);
    assert_eq!(all(), ["other".to_owned()].into());
    assert_eq!(ask(&socket, "POST", &format!("{place}/enable"), "").status, 200);
    let json = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", "{\"weight\": 0}"];
    let weighed = Json::parse(&over(&socket, &json, &format!("{place}/weight")));
    assert_eq!(items(weighed.get("endpoints"))[0].get("weight").number(), 0.0);
    assert_eq!(all(), ["other".to_owned()].into());
    for (path, what) in [
        ("/v1/endpoints/nobody/x/drain", "there is no pool"),
        ("/v1/endpoints/backend/x/drain", "has no endpoint"),
    ] {
        let answer = ask(&socket, "POST", path, "");
        assert!(answer.status == 404 && answer.text().contains(what), "{}", answer.text());
    }
}

#[test]
fn connections_are_listed_and_one_is_closed() {
    let origin = Origin::serve(|_| ok("traffic"));
    let ravelin = Ravelin::before(&origin);
    let socket = socket(&ravelin);
    let mut client = ravelin.client();
    client.get("/");
    let mut other = ravelin.client();
    other.get("/");
    let list = get(&socket, "/v1/connections");
    assert_eq!(list.get("total").number(), 2.0);
    let peer = client.wire.sock.tcp().unwrap().local_addr().unwrap().to_string();
    let of_client = |it: &&Json| it.get("peer").text() == peer;
    let one = items(list.get("connections")).iter().find(of_client).expect(&peer);
    assert_eq!((one.get("requests").number(), one.get("doing").text()), (1.0, "idle"));
    let closed = format!("/v1/connections/{}", one.get("id").text());
    assert_eq!(ask(&socket, "DELETE", &closed, "").status, 200);
    client.expect_close();
    assert_eq!(other.get("/").text(), "traffic");
    crate::harness::until("it is gone from the list", || {
        get(&socket, "/v1/connections").get("total").number() == 1.0
    });
    assert_eq!(ask(&socket, "DELETE", &closed, "").status, 404);
}

#[test]
fn certificates_are_listed_with_their_end() {
    let origin = Origin::saying("traffic");
    let (ravelin, _client) = full(&origin);
    let list = get(&socket(&ravelin), "/v1/certificates");
    let [one] = items(list.get("certificates")) else { panic!("{list:?}") };
    assert_eq!(texts(one.get("sites")), ["secure"]);
    assert_eq!(texts(one.get("names")), ["example.com"]);
    assert_eq!((one.get("source").text(), one.get("place").text()), ("file", "site.crt"));
    assert!(
        one.get("days_left").number() > 0.0 && one.get("issuer").text().contains("CN="),
        "{one:?}"
    );
}

#[test]
fn of_the_cache_it_is_said_that_there_is_none() {
    let origin = Origin::saying("traffic");
    let (ravelin, _client) = full(&origin);
    let socket = socket(&ravelin);
    let cache = get(&socket, "/v1/cache");
    assert_eq!(*cache.get("in_effect"), Json::Bool(false));
    assert_eq!((cache.get("responses").number(), cache.get("bytes").number()), (0.0, 0.0));
    let cleared = ask(&socket, "DELETE", "/v1/cache", "");
    assert_eq!((cleared.status, cleared.text().trim()), (200, "{\"removed\":0}"));
}

#[test]
fn the_level_of_the_log_changes_at_once() {
    let origin = Origin::saying("traffic");
    let upstreams = [(origin.url(), "")];
    let toml = format!("{}\n[logging]\nlevel = \"warn\"\n", site_of(&upstreams, ""));
    let ravelin =
        Setup::new(&toml).args(&["run", "-c", "ravelin.toml", "--log-level", "info"]).start();
    let socket = socket(&ravelin);
    assert_eq!(get(&socket, "/v1/log-level").get("level").text(), "info");
    let set = |level: &str| {
        let body = format!("{{\"level\": \"{level}\"}}");
        let args = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", &body];
        assert_eq!(Json::parse(&over(&socket, &args, "/v1/log-level")).get("level").text(), level);
    };
    set("debug");
    assert_eq!(get(&socket, "/v1/log-level").get("level").text(), "debug");
    assert_eq!(ask(&socket, "GET", "/v1/status", "").status, 200);
    let refused = "GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(Client::connect_unix(&socket).ask(refused).status, 421);
    ravelin.stderr.line_with(&[" debug ", "is turned away"]);
}
