//! Requests that pages of other origins make (CORS, as the Fetch standard has it).

use std::process::Command;

use crate::harness::*;

const RULES: &str = "[sites.access_control]\nallow_origins = [\"https://app.example\"]\n\
                     allow_methods = [\"GET\", \"PUT\"]\nallow_headers = [\"X-Own\"]\n\
                     expose_headers = [\"X-Said\"]\nallow_credentials = true\nmax_age = 600\n";

const APP: &str = "Origin: https://app.example\r\n";

/// An origin that has an opinion of its own on who may read what.
fn opinionated() -> Origin {
    Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-credentials: no\r\n\
          Access-Control-Max-Age: 9\r\nAccess-Control-Expose-Headers: X-Other\r\nVary: Accept\r\n\
          Access-Control-Allow-Private-Network: true\r\nX-Said: something\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    })
}

fn request(method: &str, fields: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n")
}

fn preflight(origin: &str, method: &str) -> String {
    let fields = format!("{origin}Access-Control-Request-Method: {method}\r\n");
    request("OPTIONS", &fields)
}

fn cors_fields(response: &Response) -> Vec<(String, String)> {
    let ours = |name: &str| name.to_ascii_lowercase().starts_with("access-control-");
    let mut fields = response.head.fields.clone();
    fields.retain(|(name, _)| ours(name));
    fields.sort();
    fields
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_preflight_is_answered_here() {
    let origin = opinionated();
    let ravelin = Ravelin::start(&site_with(RULES, &[&origin.url()], ""));
    let response = ravelin.ask(preflight(APP, "PUT")).expect(204);
    assert_eq!(
        cors_fields(&response),
        pairs(&[
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Headers", "X-Own"),
            ("Access-Control-Allow-Methods", "GET, PUT"),
            ("Access-Control-Allow-Origin", "https://app.example"),
            ("Access-Control-Max-Age", "600"),
        ])
    );
    assert!(response.get("vary").unwrap().split(", ").any(|name| name == "Origin"));
    assert_eq!(response.body, b"");
    let refused = ravelin.ask(preflight("Origin: https://evil.example\r\n", "PUT")).expect(403);
    assert_eq!(cors_fields(&refused), []);
    assert_eq!(origin.requests().len(), 0);
    ravelin.stdout.line_with(&["\"OPTIONS / HTTP/1.1\" 204 "]);
    let line = ravelin.stdout.line_with(&["\"OPTIONS / HTTP/1.1\" 403 "]);
    assert!(line.contains("cause=denied"), "{line}");
}

#[test]
fn responses_have_these_fields_and_not_the_upstreams() {
    let origin = opinionated();
    let ravelin = Ravelin::start(&site_with(RULES, &[&origin.url()], ""));
    let response = ravelin.ask(request("GET", APP)).expect(200);
    assert_eq!(
        cors_fields(&response),
        pairs(&[
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Origin", "https://app.example"),
            ("Access-Control-Expose-Headers", "X-Said"),
        ])
    );
    assert_eq!(response.head.all("vary"), ["Accept", "Origin"]);
    assert_eq!(response.get("x-said"), Some("something"));
    // Somebody else's page, and no page at all.
    for fields in ["Origin: https://evil.example\r\n", "Origin: null\r\n", ""] {
        let response = ravelin.ask(request("GET", fields)).expect(200);
        assert_eq!(cors_fields(&response), [], "{fields}");
        assert_eq!(response.head.all("vary"), ["Accept", "Origin"]);
    }
    assert_eq!(origin.requests().len(), 4);
}

#[test]
fn files_and_errors_have_them_too() {
    let origin = Origin::saying("");
    let rules = format!("static_dir = \"www\"\n{RULES}");
    let toml = site_with(&rules, &[&origin.url()], "access = { deny = [\"127.0.0.1\"] }\n");
    let toml = toml.replace("path = \"/\"", "path = \"/app\"");
    let ravelin = Setup::new(&toml).file("www/a.txt", "text").start();
    for (method, target, status) in [
        ("GET", "/a.txt", 200),
        ("HEAD", "/a.txt", 200),
        ("GET", "/none", 404),
        ("POST", "/a.txt", 405),
        ("GET", "/app", 403),
    ] {
        let fields = format!("{APP}Content-Length: 0\r\n");
        let text = request(method, &fields).replacen(" / ", &format!(" {target} "), 1);
        let mut client = ravelin.client();
        client.send(text);
        let response = client.response(method).expect(status);
        let allowed = response.get("access-control-allow-origin");
        assert_eq!(allowed, Some("https://app.example"), "{method} {target}");
        assert_eq!(response.get("vary"), Some("Origin"));
    }
    let text = preflight(APP, "GET").replacen(" / ", " /a.txt ", 1);
    ravelin.ask(text).expect(204);
}

#[test]
fn options_that_is_no_preflight_goes_to_the_upstream() {
    let origin = opinionated();
    let ravelin = Ravelin::start(&site_with(RULES, &[&origin.url()], ""));
    ravelin.ask(request("OPTIONS", APP)).expect(200);
    ravelin.ask(request("OPTIONS", "Access-Control-Request-Method: GET\r\n")).expect(200);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn without_rules_nothing_changes() {
    let origin = opinionated();
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask(preflight(APP, "PUT")).expect(200);
    assert_eq!(response.get("access-control-allow-origin"), Some("*"));
    assert_eq!(cors_fields(&response).len(), 5);
    assert_eq!(response.get("vary"), Some("Accept"));
}

#[test]
fn a_routes_rules_stand_in_the_place_of_its_sites() {
    let origin = opinionated();
    let ravelin = Ravelin::start(&site_with(
        RULES,
        &[&origin.url()],
        "[[sites.routes]]\npath = \"/open\"\nupstream = \"backend\"\nmethods = [\"GET\", \"PUT\"]\n\
         cors = { allow_origins = [\"*\"], allow_methods = [\"*\"] }\n\
         [[sites.routes]]\npath = \"/own\"\nupstream = \"backend\"\n\
         access_control = { enabled = false }\n",
    ));
    let other = "Origin: https://other.example\r\n";
    let at = |path: &str, text: String| text.replacen(" / ", &format!(" {path} "), 1);
    let open = ravelin.ask(at("/open", request("GET", other))).expect(200);
    assert_eq!(open.get("access-control-allow-origin"), Some("*"));
    assert_eq!(open.get("vary"), Some("Accept"), "it is the same for all");
    // The route takes no OPTIONS, but what the preflight asks for.
    let asked = ravelin.ask(at("/open", preflight(other, "PUT"))).expect(204);
    assert_eq!(asked.get("access-control-allow-methods"), Some("*"));
    let own = ravelin.ask(at("/own", preflight(other, "PUT"))).expect(200);
    assert_eq!(own.get("access-control-max-age"), Some("9"), "the upstream's");
    ravelin.ask(at("/", preflight(other, "PUT"))).expect(403);
}

#[test]
fn the_rules_are_those_of_the_route_that_answers() {
    let origin = opinionated();
    let ravelin = Ravelin::start(&site_with(
        RULES,
        &[&origin.url()],
        "access = { deny = [\"127.0.0.1\"] }\non_result = { denied = \"closed\" }\n\
         [[sites.routes]]\nname = \"closed\"\nstatus = 200\nbody = \"no\"\ncors = { enabled = false }\n\
         [[sites.routes]]\npath = \"/own\"\nstatus = 200\nbody = \"no\"\n\
         access = { deny = [\"127.0.0.1\"] }\non_result = { denied = \"upstreams\" }\n\
         [[sites.routes]]\nname = \"upstreams\"\nupstream = \"backend\"\ncors = { enabled = false }\n",
    ));
    let response = ravelin.ask(request("GET", APP)).expect(200);
    assert_eq!((cors_fields(&response), response.get("vary")), (vec![], None));
    let text = request("GET", APP).replacen(" / ", " /own ", 1);
    let response = ravelin.ask(text).expect(200);
    assert_eq!(response.head.all("access-control-allow-origin"), ["*"], "the upstream's");
    assert_eq!(response.head.all("vary"), ["Accept"]);
}

#[test]
fn origins_of_all_sites_are_those_of_a_site_that_names_none() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::start(&format!(
        "[security]\nallowed_origins = [\"https://*.example\"]\n{}",
        site_with("[sites.access_control]\nmax_age = 5\n", &[&origin.url()], "")
    ));
    let response = ravelin.ask(preflight(APP, "GET")).expect(204);
    assert_eq!(response.get("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(response.get("access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(response.get("access-control-allow-headers"), Some("Content-Type, Authorization"));
    ravelin.ask(preflight("Origin: https://app.example.evil\r\n", "GET")).expect(403);
}

#[test]
fn http2_is_answered_alike() {
    let origin = opinionated();
    let rules = format!("h2c = true\n{RULES}");
    let ravelin = Ravelin::start(&site_with(&rules, &[&origin.url()], ""));
    let said = |arguments: &[&str]| {
        let mut all = vec!["--http2-prior-knowledge", "-i", "-H", "Origin: https://app.example"];
        all.extend(arguments);
        let url = ravelin.url("/");
        all.push(&url);
        curl(&all)
    };
    let asked = said(&["-X", "OPTIONS", "-H", "Access-Control-Request-Method: PUT"]);
    assert!(asked.starts_with("HTTP/2 204"), "{asked}");
    assert!(asked.contains("access-control-allow-methods: GET, PUT\r\n"), "{asked}");
    let got = said(&[]);
    assert!(got.contains("access-control-allow-origin: https://app.example\r\n"), "{got}");
    assert!(!got.contains("access-control-max-age") && !got.contains(": *\r\n"), "{got}");
}

/// Two sites of one Ravelin: a page of the first makes requests to the second.
#[test]
fn a_browser_lets_pages_do_what_the_rules_allow_and_nothing_else() {
    require("chromium", &["--version"], "apt-get install chromium");
    let page = "<body><p id=o></p><script>\
        const at = p => `http://api.example:${location.port}${p}`;\
        const ask = (name, p, o) => fetch(at(p), o).then(\
            async r => name + '=' + await r.text() + '/' + r.headers.get('X-Said') + '/' \
                + r.headers.get('X-Hidden'), () => name + '=blocked');\
        const own = {method: 'PUT', headers: {'X-Own': '1'}};\
        Promise.all([\
            ask('plain', '/a'), ask('put', '/a', own),\
            ask('with', '/a', {...own, credentials: 'include'}),\
            ask('delete', '/a', {method: 'DELETE'}),\
            ask('field', '/a', {method: 'PUT', headers: {'X-Not': '1'}}),\
            ask('closed', '/closed'), ask('upstream', '/upstream'),\
        ]).then(t => o.textContent = t.join(' '))</script>";
    let pages = Origin::serve(move |_| {
        let length = page.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length:";
        format!("{head} {length}\r\n\r\n{page}").into_bytes()
    });
    let api = Origin::serve(|request| {
        let body = request.method.to_ascii_lowercase();
        format!(
            "HTTP/1.1 200 OK\r\nX-Said: yes\r\nX-Hidden: no\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    });
    let port = free_port();
    let of = |name: &str, host: &str, rules: &str, url: &str, more: &str| {
        site_with(rules, &[url], more)
            .replace("\"test\"", &format!("\"{name}\""))
            .replace("example.com", host)
            .replace("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"127.0.0.1:{port}\"]"))
    };
    let rules = RULES.replace("https://app.example", &format!("http://app.example:{port}"));
    let closed = "[[sites.routes]]\npath = \"/closed\"\nupstream = \"backend\"\n\
                  cors = { allow_origins = [\"http://other.example\"] }\n\
                  [[sites.routes]]\npath = \"/upstream\"\nupstream = \"backend\"\n\
                  cors = { enabled = false }\n";
    let ravelin = Ravelin::start(&format!(
        "{}\n{}",
        of("app", "app.example", "", &pages.url(), ""),
        of("api", "api.example", &rules, &api.url(), closed)
    ));
    let profile = ravelin.dir().join("browser");
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    chromium.args(["--virtual-time-budget=10000", "--dump-dom"]);
    chromium.arg("--host-resolver-rules=MAP *.example 127.0.0.1");
    chromium.arg(format!("--user-data-dir={}", profile.display()));
    chromium.arg(format!("http://app.example:{port}/"));
    let output = run_to_end(chromium);
    let dom = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        dom.contains(
            "plain=get/yes/null put=put/yes/null with=put/yes/null delete=blocked field=blocked \
             closed=blocked upstream=blocked"
        ),
        "{dom}\n{errors}"
    );
    assert!(api.requests().iter().all(|request| request.method != "OPTIONS"));
}
