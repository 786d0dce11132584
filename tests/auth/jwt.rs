//! Signed tokens (RFC 7519, RFC 6750).

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::AsyncWriteExt as _;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const HS256: &str = "[sites.auth]\ntype = \"jwt\"\nalgorithms = [\"HS256\"]\n\
                     secret = \"0123456789abcdef0123456789abcdef\"\n";
/// The year 2100, as tokens write it.
const LATE: &str = "4102444800";

fn token(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    token("{\"alg\":\"HS256\"}", claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// An RSA key, and how it is written in a key set.
struct Rsa(RsaKeyPair);

impl Rsa {
    fn new() -> Rsa {
        Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn jwk(&self, id: &str) -> String {
        // SEQUENCE of the modulus and the exponent 65537.
        let modulus = URL_SAFE_NO_PAD.encode(&self.0.public_key().as_ref()[9..265]);
        format!("{{\"kty\":\"RSA\",\"kid\":\"{id}\",\"n\":\"{modulus}\",\"e\":\"AQAB\"}}")
    }

    fn pem(&self) -> String {
        let der = base64(self.0.public_key().as_ref());
        format!("-----BEGIN RSA PUBLIC KEY-----\n{der}\n-----END RSA PUBLIC KEY-----\n")
    }

    fn token(&self, id: &str, claims: &str) -> String {
        let header = format!("{{\"alg\":\"RS256\",\"kid\":\"{id}\"}}");
        token(&header, claims, |message| {
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        })
    }
}

#[test]
fn a_good_token_opens_and_its_claims_are_told() {
    let origin = switching();
    let auth = format!(
        "{HS256}strip = true\nclaims_to_headers = {{ sub = \"X-User\", roles = \"X-Roles\" }}"
    );
    let ravelin = guarded(&origin, &auth).start();
    let claims = format!("{{\"exp\":{LATE},\"sub\":\"ann \\\" x\",\"roles\":[\"a\",\"b\"]}}");
    let lines = bearer(&hs256(&claims)) + "X-User: root\r\nX_Roles: root\r\n";
    for _ in 0..3 {
        ravelin.ask(get("/api/x", &lines)).expect(200);
    }
    ravelin.ask(get("/page.txt", &lines)).expect(200);
    let mut client = ravelin.client();
    client.send(upgrade("/ws", &lines));
    switched(&mut client);
    for n in 0..4 {
        let request = origin.request(n);
        assert_eq!(request.head.get("x-user"), Some("ann \" x"));
        assert_eq!(request.head.get("x-roles"), Some("a,b"));
        assert!(!request.head.has("x_roles") && !request.head.has("authorization"));
    }
    ravelin.stdout.line_with(&["127.0.0.1 - \"ann \\\" x\" [", "\"GET /api/x HTTP/1.1\" 200"]);
}

#[test]
fn a_bad_token_reaches_nobody() {
    let origin = switching();
    let auth =
        format!("{HS256}audience = \"us\"\nrequired_claims = {{ role = \"admin\" }}\nleeway = 0");
    let ravelin = guarded(&origin, &auth).start();
    let good = format!("{{\"exp\":{LATE},\"aud\":\"us\",\"role\":\"admin\"}}");
    let with = |from: &str, to: &str| hs256(&good.replace(from, to));
    let none = token("{\"alg\":\"none\"}", &good, |_| Vec::new());
    let crit = {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let header = "{\"alg\":\"HS256\",\"crit\":[\"x\"],\"x\":1}";
        token(header, &good, |message| hmac::sign(&key, message).as_ref().to_vec())
    };
    let other = token("{\"alg\":\"HS256\"}", &good, |_| vec![7; 32]);
    for (token, status, error) in [
        (with(LATE, "1"), 401, "invalid_token"),
        (with(LATE, "\"x\""), 401, "invalid_token"),
        (with("\"us\"", "\"them\""), 401, "invalid_token"),
        (with("admin", "user"), 403, "insufficient_scope"),
        (none, 401, "invalid_token"),
        (crit, 401, "invalid_token"),
        (other, 401, "invalid_token"),
        ("x".to_owned(), 401, "invalid_token"),
    ] {
        for request in [
            get("/api", &bearer(&token)),
            get("/page.txt", &bearer(&token)),
            upgrade("/ws", &bearer(&token)),
        ] {
            let response = ravelin.ask(request).expect(status);
            let challenge = response.get("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer realm=\"restricted\", "), "{challenge}");
            assert!(challenge.contains(&format!("error=\"{error}\"")), "{challenge}");
        }
    }
    let response = ravelin.ask(get("/api", "")).expect(401);
    assert_eq!(response.get("www-authenticate"), Some("Bearer realm=\"restricted\""));
    ravelin.ask(get("/api", &bearer(&hs256(&good)).repeat(2))).expect(400);
    assert_eq!(origin.connections(), 0);
    ravelin.ask(get("/api", &bearer(&hs256(&good)))).expect(200);
}

#[test]
fn cve_2015_9235_a_public_key_is_no_secret() {
    let rsa = Rsa::new();
    let pem = rsa.pem();
    let origin = switching();
    let auth =
        "[sites.auth]\ntype = \"jwt\"\nalgorithms = [\"RS256\"]\npublic_key_file = \"key.pem\"";
    let ravelin = guarded(&origin, auth).file("key.pem", &pem).start();
    let claims = format!("{{\"exp\":{LATE}}}");
    ravelin.ask(get("/api", &bearer(&rsa.token("", &claims)))).expect(200);
    for secret in [pem.as_bytes(), pem.trim().as_bytes(), rsa.0.public_key().as_ref()] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        for algorithm in ["HS256", "RS256"] {
            let header = format!("{{\"alg\":\"{algorithm}\"}}");
            let forged = token(&header, &claims, |m| hmac::sign(&key, m).as_ref().to_vec());
            ravelin.ask(get("/api", &bearer(&forged))).expect(401);
        }
    }
}

#[test]
fn a_token_in_a_cookie_or_in_the_query_goes_no_further() {
    let origin = switching();
    let good = hs256(&format!("{{\"exp\":{LATE}}}"));
    let ravelin =
        guarded(&origin, &format!("{HS256}strip = true\nfrom = \"cookie:session\"")).start();
    ravelin.ask(get("/api", &format!("Cookie: a=b; session={good}; c=d\r\n"))).expect(200);
    assert_eq!(origin.request(0).head.get("cookie"), Some("a=b; c=d"));
    ravelin.ask(get("/api", &format!("Cookie: session={good}\r\n"))).expect(200);
    assert!(!origin.request(1).head.has("cookie"));
    ravelin.ask(get("/api", "Cookie: session=x\r\n")).expect(401);
    let mut client = ravelin.client();
    client.send(upgrade("/ws", &format!("Cookie: session={good}\r\n")));
    switched(&mut client);

    let origin = switching();
    let ravelin = guarded(&origin, &format!("{HS256}strip = true\nfrom = \"query:token\"")).start();
    ravelin.ask(get(&format!("/api/x?a=b&token={good}&c=d"), "")).expect(200);
    ravelin.ask(get(&format!("/api/y?token={good}"), "")).expect(200);
    ravelin.ask(get("/api/z?token=x", "")).expect(401);
    // However its name is written, and however often.
    ravelin.ask(get(&format!("/api/v?t%6Fken={good}&e=f"), "")).expect(200);
    ravelin.ask(get(&format!("/api/w?token={good}&%74oken={good}"), "")).expect(400);
    assert_eq!(origin.request(0).target, "/api/x?a=b&c=d");
    assert_eq!(origin.request(1).target, "/api/y");
    assert_eq!(origin.request(2).target, "/api/v?e=f");
    assert_eq!(origin.requests().len(), 3);
    for path in ["/api/v", "/api/w", "/api/x", "/api/y", "/api/z"] {
        let line = ravelin.stdout.line_with(&[&format!("\"GET {path} HTTP/1.1\"")]);
        assert!(!line.contains(&good), "{line}");
    }
}

/// A table of `auth` that wants a token there.
fn inline(more: &str) -> String {
    format!("{{ type = \"jwt\", algorithms = [\"HS256\"], secret = \"{SECRET}\", {more} }}")
}

#[test]
fn a_query_with_a_token_is_not_logged_whatever_comes_of_it() {
    let origin = switching();
    let auth = inline("from = \"query:token\"");
    let denied = "access = { deny = [\"127.0.0.1\"] }";
    let route = |path: &str, keys: &str| {
        let to = "upstream = \"backend\"";
        format!("[[sites.routes]]\npath = \"{path}\"\n{to}\nauth = {auth}\n{keys}\n")
    };
    let routes = [
        route("/denied", denied),
        route("/limited", "rate_limit = { requests = 1, per = \"1h\" }"),
        route("/small", "max_request_size = 1"),
        route("/got", "methods = [\"GET\"]"),
        format!("[[sites.routes]]\npath = \"/passed\"\nstatus = 200\n{denied}\n"),
        "on_result = { denied = \"other\" }\n".to_owned(),
        format!("[[sites.routes]]\nname = \"other\"\nstatus = 200\n{denied}\nauth = {auth}\n"),
    ];
    let toml = site_with("", &[&origin.url()], &routes.concat());
    let ravelin = Ravelin::start(&toml.replace("path = \"/\"", "path = \"/free\""));
    let ask = |method: &str, path: &str| {
        let lines = "Host: example.com\r\nContent-Length: 2\r\n";
        ravelin.ask(format!("{method} {path}?token=abc.def HTTP/1.1\r\n{lines}\r\nab"))
    };
    ask("GET", "/limited").expect(401);
    for (method, path, status) in [
        ("GET", "/denied", 403),
        ("GET", "/limited", 429),
        ("POST", "/small", 413),
        ("POST", "/got", 405),
        ("GET", "/passed", 403),
        ("GET", "/nothing", 404),
        ("GET", "/small/%zz", 400),
    ] {
        ask(method, path).expect(status);
        ravelin.stdout.line_with(&[&format!("\"{method} {path} HTTP/1.1\" {status} ")]);
    }
    // What no token is looked for in is logged.
    ravelin.ask(get("/free?a=b", "")).expect(200);
    ravelin.stdout.line_with(&["\"GET /free?a=b HTTP/1.1\" 200 "]);
}

#[test]
fn one_field_tells_one_thing() {
    let auth = inline("from = \"header:X-Token\", claims_to_headers = { sub = \"X-User\" }");
    let basic = "type = \"basic\"\nusers = { ann = \"plain:secret\" }\nuser_header = \"X_User\"";
    let origin = Origin::serve(|request| match request.target.as_str() {
        "/fails" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok(""),
    });
    let route = |path: &str, keys: &str| {
        let to = "upstream = \"backend\"";
        format!("[[sites.routes]]\npath = \"{path}\"\n{to}\nauth = {auth}\n{keys}\n")
    };
    let set = "request_headers = { set = { X-User = \"nobody\" } }";
    let ask = |ravelin: &Ravelin, path: &str, claims: &str| {
        let token = hs256(&format!("{{\"exp\":{LATE}{claims}}}"));
        let basic = format!("Authorization: Basic {}\r\n", base64("ann:secret"));
        ravelin.ask(get(path, &format!("{basic}X-Token: {token}\r\n"))).expect(200);
        let request = origin.requests().pop().unwrap();
        ["x-user", "x_user"].map(|name| request.head.all(name).join("+"))
    };
    let bob = ",\"sub\":\"bob\"";
    // The site's and then the route's: the one who says it last is the one who knows.
    let site = format!("[sites.auth]\n{basic}\n");
    let ravelin = Ravelin::start(&site_with(&site, &[&origin.url()], &route("/both", "")));
    assert_eq!(ask(&ravelin, "/free", bob), ["", "ann"]);
    assert_eq!(ask(&ravelin, "/both", bob), ["bob", ""]);
    assert_eq!(ask(&ravelin, "/both", ""), ["", ""]);
    // What is set beside what was proved, by its route and by one that takes over from it.
    let routes = [
        route("/set", set),
        route("/fails", "on_result = { failure_status = \"other\" }"),
        "[[sites.routes]]\nname = \"other\"\nupstream = \"backend\"\n".to_owned(),
        format!("rewrite_target = \"/\"\n{set}\n"),
    ];
    let ravelin = Ravelin::start(&site_with("", &[&origin.url()], &routes.concat()));
    assert_eq!(ask(&ravelin, "/set", bob), ["bob", ""]);
    assert_eq!(ask(&ravelin, "/set", ""), ["", ""]);
    assert_eq!(ask(&ravelin, "/fails", bob), ["nobody", ""]);
}

#[test]
fn a_number_is_told_exactly_or_not_at_all() {
    let origin = switching();
    let auth = format!("{HS256}claims_to_headers = {{ n = \"X-N\" }}");
    let ravelin = guarded(&origin, &auth).start();
    let told = |number: &str| {
        let token = hs256(&format!("{{\"exp\":{LATE},\"n\":{number}}}"));
        ravelin.ask(get("/api", &(bearer(&token) + "X-N: 1\r\n"))).expect(200);
        let request = origin.requests().pop().unwrap();
        request.head.all("x-n").concat()
    };
    for number in ["18446744073709551615", "-9223372036854775808", "0", "1.5"] {
        assert_eq!(told(number), number);
    }
    for number in ["18446744073709551616", "-9223372036854775809", "9007199254740993.0", "1e300"] {
        assert_eq!(told(number), "", "{number}");
    }
}

/// Serves what is in it as a key set, and counts how often.
#[derive(Clone, Default)]
struct KeySets(Arc<Mutex<(Option<String>, usize)>>);

impl KeySets {
    fn put(&self, keys: &[String]) {
        self.0.lock().unwrap().0 = Some(format!("{{\"keys\":[{}]}}", keys.join(",")));
    }

    fn served(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn origin(&self) -> Origin {
        let own = self.clone();
        Origin::serve(move |_| {
            let mut state = own.0.lock().unwrap();
            state.1 += 1;
            match &state.0 {
                Some(keys) => ok(keys),
                None => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
            }
        })
    }
}

fn rs256_by_url(url: &str, more: &str) -> String {
    format!("[sites.auth]\ntype = \"jwt\"\nalgorithms = [\"RS256\"]\njwks_url = \"{url}\"\n{more}")
}

#[test]
fn a_key_set_is_fetched_and_again_for_a_key_that_is_not_there() {
    let (one, two) = (Rsa::new(), Rsa::new());
    let sets = KeySets::default();
    sets.put(&[one.jwk("1")]);
    let (origin, keys) = (switching(), sets.origin());
    let ravelin = guarded(&origin, &rs256_by_url(&(keys.url() + "/keys"), "")).start();
    ravelin.stderr.line_with(&["1 keys from http://127.0.0.1:", "/keys"]);
    let claims = format!("{{\"exp\":{LATE}}}");
    let status =
        |rsa: &Rsa, id: &str| ravelin.ask(get("/api", &bearer(&rsa.token(id, &claims)))).status;
    assert_eq!(status(&one, "1"), 200);
    assert_eq!(status(&two, "1"), 401);
    assert_eq!(sets.served(), 1);
    // The authority changes its keys.
    sets.put(&[two.jwk("2")]);
    assert_eq!(status(&one, "1"), 200);
    until("the other key", || status(&two, "2") == 200);
    assert_eq!(status(&one, "1"), 401);
    // Whoever names keys that do not exist does not make it fetch again and again.
    for n in 0..200 {
        assert_eq!(status(&two, &format!("x{n}")), 401);
    }
    assert!(sets.served() <= 4, "fetched {} times", sets.served());
}

#[test]
fn without_a_key_set_nobody_gets_in_and_with_it_they_do() {
    let rsa = Rsa::new();
    let sets = KeySets::default();
    let (origin, keys) = (switching(), sets.origin());
    let ravelin = guarded(&origin, &rs256_by_url(&keys.url(), "")).start();
    let lines = bearer(&rsa.token("1", &format!("{{\"exp\":{LATE}}}")));
    ravelin.stderr.line_with(&["cannot be had: it answered 500", "answered 503"]);
    let response = ravelin.ask(get("/api", &lines)).expect(503);
    assert_eq!(response.get("retry-after"), Some("1"));
    ravelin.ask(get("/api", "")).expect(401);
    assert_eq!(origin.connections(), 0);
    sets.put(&[rsa.jwk("1")]);
    ravelin.signal("HUP");
    until("the key set", || ravelin.ask(get("/api", &lines)).status == 200);
}

#[test]
fn what_is_no_key_set_is_not_taken() {
    let rsa = Rsa::new();
    let sets = KeySets::default();
    sets.put(&[rsa.jwk("1")]);
    let (origin, keys) = (switching(), sets.origin());
    let ravelin = guarded(&origin, &rs256_by_url(&keys.url(), "")).start();
    let lines = bearer(&rsa.token("1", &format!("{{\"exp\":{LATE}}}")));
    ravelin.stderr.line_with(&["1 keys from"]);
    sets.0.lock().unwrap().0 = Some("<html>".to_owned());
    ravelin.signal("HUP");
    ravelin.stderr.line_with(&["cannot be had: this is no JSON", "stay in force"]);
    ravelin.ask(get("/api", &lines)).expect(200);
}

#[test]
fn a_key_set_over_tls_is_believed_only_from_the_right_server() {
    let (authority, other) = (Authority::new(), Authority::new());
    let rsa = Rsa::new();
    let answer = ok(&format!("{{\"keys\":[{}]}}", rsa.jwk("1")));
    let pair = authority.server(&["localhost"]);
    let tls = Some(pair.server(&["http/1.1"], None));
    let keys = AsyncOrigin::connections(tls, move |mut taken, _| {
        let answer = answer.clone();
        async move {
            while taken.read_head().await.is_some() {
                if taken.write_all(&answer).await.is_err() {
                    return;
                }
            }
        }
    });
    let origin = switching();
    let url = format!("{}/keys", keys.https_url());
    let start = |authority: &Authority| {
        let auth = rs256_by_url(&url, "jwks_ca_file = \"ca.pem\"");
        guarded(&origin, &auth).file("ca.pem", &authority.pem).start()
    };
    let lines = bearer(&rsa.token("1", &format!("{{\"exp\":{LATE}}}")));
    let ravelin = start(&authority);
    ravelin.stderr.line_with(&["1 keys from https://localhost:"]);
    ravelin.ask(get("/api", &lines)).expect(200);
    let ravelin = start(&other);
    ravelin.stderr.line_with(&["the key set https://localhost:", "cannot be had: "]);
    ravelin.ask(get("/api", &lines)).expect(503);
}

#[test]
fn a_changed_key_file_is_in_force() {
    let (one, two) = (Rsa::new(), Rsa::new());
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"jwt\"\nalgorithms = [\"RS256\"]\njwks_file = \"keys.json\"";
    let set = |rsa: &Rsa| format!("{{\"keys\":[{}]}}", rsa.jwk("1"));
    let ravelin = guarded(&origin, auth).file("keys.json", set(&one)).start();
    let claims = format!("{{\"exp\":{LATE}}}");
    let status = |rsa: &Rsa| ravelin.ask(get("/api", &bearer(&rsa.token("1", &claims)))).status;
    assert_eq!([status(&one), status(&two)], [200, 401]);
    std::fs::write(ravelin.dir().join("keys.json"), set(&two)).unwrap();
    ravelin.signal("HUP");
    ravelin.stderr.line_with(&["keys.json read again: 1 key"]);
    assert_eq!([status(&one), status(&two)], [401, 200]);
}

#[test]
fn a_token_in_the_query_goes_no_further_in_filled_fields_either() {
    let origin = switching();
    let good = hs256(&format!("{{\"exp\":{LATE}}}"));
    let auth = format!(
        "{HS256}strip = true\nfrom = \"query:token\"\n\
         [sites.proxy.request_headers]\nfill = {{ X-Uri = \"$uri\", X-Query = \"$query\" }}\n"
    );
    let ravelin = guarded(&origin, &auth).start();
    ravelin.ask(get(&format!("/api/x?a=b&token={good}&c=d"), "")).expect(200);
    ravelin.ask(get(&format!("/api/y?token={good}"), "")).expect(200);
    let request = origin.request(0);
    assert_eq!(request.get("x-uri"), Some("/api/x?a=b&c=d"));
    assert_eq!(request.get("x-query"), Some("a=b&c=d"));
    let request = origin.request(1);
    assert_eq!((request.get("x-uri"), request.get("x-query")), (Some("/api/y"), None));
}
