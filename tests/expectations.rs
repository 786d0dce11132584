//! Tests in the configuration: `check` runs them, and nothing is served that does not meet them.

use crate::harness::*;

const CONFIGURATION: &str = r#"[[sites]]
name = "main"
hostname = "example.com"
listen = ["127.0.0.1:0"]
headers = { X-Frame-Options = "DENY" }

[sites.proxy]
enabled = true

[[sites.proxy.upstreams]]
name = "backend"
url = "http://127.0.0.1:3001"

[[sites.proxy.upstreams]]
name = "canary"
url = "http://127.0.0.1:3002/new"

[[sites.routes]]
path = "/api/"
upstream = "backend"
strip_prefix = true
request_headers = { set = { X-From = "proxy" } }

[[sites.routes]]
path = "/canary"
methods = ["GET"]
upstream = "canary"

[[sites.routes]]
name = "old"
path = "/old"
redirect = "https://$host/new"
status = 301

[[sites.routes]]
path = "/inside"
status = 204
access = { allow = ["10.0.0.0/8"] }

"#;

fn check(tests: &str) -> (Option<i32>, String) {
    let dir = TempDir::new();
    dir.write("site.toml", format!("{CONFIGURATION}{tests}"));
    let output = run(dir.path(), &["check", "site.toml"]);
    (output.status.code(), printed(&output))
}

#[test]
fn what_is_expected_and_comes_is_no_word_worth() {
    let (code, text) = check(
        r#"
[[tests]]
request = "GET http://example.com/api/users?x=1"
site = "main"
route = "/api/"
upstream = "backend"
path = "/users?x=1"
upstream_headers = { X-From = "proxy", Host = "example.com", X-Real-IP = "" }
headers = { X-Frame-Options = "DENY" }

[[tests]]
request = "http://example.com/canary/x"
upstream = "canary"
path = "/new/canary/x"

[[tests]]
request = "POST http://example.com/canary"
status = 405
headers = { Allow = "GET" }

[[tests]]
request = "http://example.com/old"
route = "old"
status = 301
location = "https://example.com/new"
upstream = ""

[[tests]]
request = "http://example.com/inside"
status = 403

[[tests]]
request = "http://example.com/inside"
client = "10.1.2.3"
status = 204

[[tests]]
request = "http://example.com/nothing"
route = ""
status = 404
"#,
    );
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("ok"), "{text}");
}

#[test]
fn each_failure_is_at_its_line_and_says_what_came_and_why() {
    let (code, text) = check(
        r#"
[[tests]]
request = "POST http://example.com/canary/x"
route = "/canary"

[[tests]]
request = "http://example.com/inside"
client = "192.0.2.1"
status = 204
"#,
    );
    assert_eq!(code, Some(1), "{text}");
    for part in [
        "error[failed-test]",
        "POST http://example.com/canary/x: no route takes it",
        "not `/canary`: its methods are GET",
        "site.toml:43:1",
        "http://example.com/inside: answered 403",
        "does not admit 192.0.2.1",
        "site.toml:48:1",
        "2 errors",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn nothing_is_served_that_does_not_meet_its_tests() {
    let dir = TempDir::new();
    let test = "[[tests]]\nrequest = \"http://example.com/old\"\nstatus = 302\n";
    dir.write("ravelin.toml", format!("{CONFIGURATION}{test}"));
    let output = run(dir.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert!(printed(&output).contains("answered 301"), "{}", printed(&output));
}

#[test]
fn a_reload_that_does_not_meet_its_tests_changes_nothing() {
    let test = |status: u16| {
        format!("[[tests]]\nrequest = \"http://example.com/old\"\nstatus = {status}\n")
    };
    let setup = Setup::new(&format!("{CONFIGURATION}{}", test(301)));
    let ravelin = setup.start();
    ravelin.stderr.line_with(&["admin socket"]);
    let changed = CONFIGURATION.replace("status = 301", "status = 302");
    let path = ravelin.dir().join("ravelin.toml");
    std::fs::write(&path, format!("{changed}{}", test(301))).unwrap();
    let output = run(ravelin.dir(), &["reload", "-c", "ravelin.toml"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert!(printed(&output).contains("answered 302"), "{}", printed(&output));
    ravelin.get("/old").expect(301);
    std::fs::write(&path, format!("{changed}{}", test(302))).unwrap();
    let output = run(ravelin.dir(), &["reload", "-c", "ravelin.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    ravelin.get("/old").expect(302);
}
