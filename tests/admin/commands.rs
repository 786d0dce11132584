//! `ravelin status`, `reload` and the like: what they say, and how they end.

use std::process::Output;

use super::{address, socket};
use crate::harness::{Client, Json, Origin, Ravelin, Setup, TempDir, printed, run, site};

/// A command in a Ravelin's directory.
#[track_caller]
fn tell(ravelin: &Ravelin, args: &[&str]) -> Output {
    run(ravelin.dir(), args)
}

/// What a command that succeeds writes.
#[track_caller]
fn said(ravelin: &Ravelin, args: &[&str]) -> String {
    let output = tell(ravelin, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", printed(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn start(origin: &Origin) -> Ravelin {
    let ravelin = Ravelin::before(origin);
    socket(&ravelin);
    ravelin
}

#[test]
fn status_finds_the_only_one_that_runs() {
    let origin = Origin::saying("traffic");
    let ravelin = start(&origin);
    ravelin.get("/");
    let text = said(&ravelin, &["status"]);
    for part in
        ["version ", &format!("{}, ", ravelin.pid()), "ravelin.toml", &ravelin.addr().to_string()]
    {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let named = said(&ravelin, &["status", "-c", "ravelin.toml"]);
    assert_eq!(named.lines().nth(1), text.lines().nth(1));
    let json = Json::parse(&said(&ravelin, &["status", "--format", "json"]));
    assert_eq!(json.get("pid").number(), f64::from(ravelin.pid()));
}

#[test]
fn what_cannot_be_found_is_told_with_what_was_tried() {
    let dir = TempDir::new();
    let nobody = run(dir.path(), &["status"]);
    let text = printed(&nobody);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text.contains("no Ravelin runs here") && text.contains("ravelin run"), "{text}");
    assert!(text.contains(dir.path().to_str().unwrap()), "{text}");

    let origin = Origin::saying("traffic");
    let one = start(&origin);
    let second = Setup::new(&site(&[&origin.url()], ""))
        .env("RUNTIME_DIRECTORY", one.dir().display())
        .start();
    socket(&second);
    let several = tell(&one, &["status"]);
    let text = printed(&several);
    assert_eq!(several.status.code(), Some(1));
    assert!(text.contains("several run here") && text.contains("--socket PATH"), "{text}");
    assert!(text.contains(socket(&one).to_str().unwrap()), "{text}");
    let path = socket(&second);
    let chosen = said(&one, &["status", "--format", "json", "--socket", path.to_str().unwrap()]);
    assert_eq!(Json::parse(&chosen).get("pid").number(), f64::from(second.pid()));
    let chosen = said(&one, &["status", "--format", "json", "-c", "ravelin.toml"]);
    assert_eq!(Json::parse(&chosen).get("pid").number(), f64::from(one.pid()));
}

#[test]
fn reload_takes_what_is_right_and_reports_mistakes_as_check_does() {
    let (origin, other) = (Origin::saying("before"), Origin::saying("after"));
    let ravelin = start(&origin);
    let write = |text: &str| std::fs::write(ravelin.dir().join("ravelin.toml"), text).unwrap();
    let toml = site(&[&origin.url()], "");
    write(&toml.replace("hostname", "hostnam"));
    let refused = tell(&ravelin, &["reload"]);
    assert_eq!(refused.status.code(), Some(1), "{}", printed(&refused));
    let checked = tell(&ravelin, &["check", "ravelin.toml"]);
    let (refused, checked) = (text(&refused.stdout), text(&checked.stdout));
    let findings = checked.rsplit_once("\n\n").unwrap().0;
    assert_eq!(refused.trim_end(), findings.trim_end());
    assert!(findings.contains("ravelin.toml:"), "{findings}");
    let refused = tell(&ravelin, &["reload", "--format", "json"]);
    let checked = tell(&ravelin, &["check", "ravelin.toml", "--format", "json"]);
    let lines = |text: &str| text.lines().map(Json::parse).collect::<Vec<_>>();
    assert_eq!(lines(&text(&refused.stdout)), lines(&text(&checked.stdout)));
    assert_eq!(ravelin.get("/").text(), "before");

    write(&toml.replace(&origin.url(), &other.url()));
    let done = said(&ravelin, &["reload"]);
    assert!(done.starts_with("ok: generation 2 is in force\n"), "{done}");
    assert_eq!(ravelin.get("/").text(), "after");
    let history = said(&ravelin, &["history"]);
    assert!(history.contains("refused") && history.contains("applied, in force"), "{history}");
    assert!(said(&ravelin, &["history", "2"]).contains(&format!("+url = \"{}\"", other.url())));
    assert!(said(&ravelin, &["rollback"]).starts_with("ok: generation 3 is in force\n"));
    assert_eq!(ravelin.get("/").text(), "before");
    let unknown = tell(&ravelin, &["rollback", "99"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(printed(&unknown).contains("generation 99 is not known"), "{}", printed(&unknown));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn endpoints_are_shown_drained_and_weighed() {
    let (one, other) = (Origin::saying("one"), Origin::saying("other"));
    let ravelin = Ravelin::start(&site(&[&one.url(), &other.url()], ""));
    socket(&ravelin);
    let name = format!("127.0.0.1:{}", one.port());
    let table = said(&ravelin, &["endpoints"]);
    assert!(table.contains(&name) && table.lines().count() == 3, "{table}");
    let drained = said(&ravelin, &["endpoints", "drain", "backend", &name]);
    assert!(drained.contains("drain") && drained.lines().count() == 2, "{drained}");
    assert!((0..4).all(|_| ravelin.get("/").text() == "other"));
    said(&ravelin, &["endpoint", "enable", "backend", &name]);
    let weighed = said(&ravelin, &["endpoints", "weight", "backend", &name, "7"]);
    assert!(weighed.contains("7 (of 1)"), "{weighed}");
    said(&ravelin, &["endpoints", "weight", "backend", &name, "configured"]);
    said(&ravelin, &["endpoints", "maint", "backend", &name]);
    let json = Json::parse(&said(&ravelin, &["endpoints", "list", "--format", "json"]));
    let [pool] = super::items(json.get("pools")) else { panic!("{json:?}") };
    assert_eq!(super::items(pool.get("endpoints"))[0].get("status").text(), "maint");
    let wrong = tell(&ravelin, &["endpoints", "drain", "backend", "nobody:1"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(printed(&wrong).contains("has no endpoint `nobody:1`"), "{}", printed(&wrong));
    assert_eq!(tell(&ravelin, &["endpoints", "drain", "backend"]).status.code(), Some(2));
    assert_eq!(
        tell(&ravelin, &["endpoints", "weight", "backend", &name, "much"]).status.code(),
        Some(1)
    );
}

#[test]
fn connections_are_shown_and_closed() {
    let origin = Origin::saying("traffic");
    let ravelin = start(&origin);
    let mut client = ravelin.client();
    client.get("/");
    let table = said(&ravelin, &["connections"]);
    let row = table.lines().nth(1).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("127.0.0.1:") && row.contains("idle"), "{table}");
    let id = row.split_whitespace().next().unwrap();
    assert_eq!(said(&ravelin, &["connections", "close", id]), "1 told to end\n");
    client.expect_close();
    assert_eq!(tell(&ravelin, &["connections", "close", "0-999999"]).status.code(), Some(1));
    assert_eq!(said(&ravelin, &["connections", "--websockets"]).lines().count(), 1);
}

#[test]
fn log_level_and_certificates_are_told() {
    let origin = Origin::saying("traffic");
    let ravelin = start(&origin);
    assert_eq!(said(&ravelin, &["log-level"]), "info\n");
    assert_eq!(said(&ravelin, &["log-level", "debug"]), "debug\n");
    assert_eq!(said(&ravelin, &["log-level"]), "debug\n");
    assert_eq!(said(&ravelin, &["certificates"]).lines().count(), 1);
    assert_eq!(tell(&ravelin, &["log-level", "loud"]).status.code(), Some(2));
}

#[test]
fn one_on_another_machine_is_asked_with_its_key() {
    let origin = Origin::saying("traffic");
    let key = "0123456789abcdef";
    let keys =
        format!("[management]\nenabled = true\nport = 0\napi_key = \"{key}\"\nsocket = \"none\"");
    let ravelin = Setup::new(&format!("{}\n{keys}\n", site(&[&origin.url()], "")))
        .file("key", format!("{key}\n"))
        .file("wrong", "another\n")
        .start();
    let url = format!("http://{}", address(&ravelin, "admin API"));
    let json =
        said(&ravelin, &["status", "--format", "json", "--url", &url, "--token-file", "key"]);
    assert_eq!(Json::parse(&json).get("pid").number(), f64::from(ravelin.pid()));
    let refused = tell(&ravelin, &["status", "--url", &url]);
    let text = printed(&refused);
    assert!(refused.status.code() == Some(1) && text.contains("--token-file"), "{text}");
    let refused = tell(&ravelin, &["status", "--url", &url, "--token-file", "wrong"]);
    assert_eq!(refused.status.code(), Some(1));
    // Its configuration says that there is no socket.
    let none = printed(&tell(&ravelin, &["status", "-c", "ravelin.toml"]));
    assert!(none.contains("no admin socket") && none.contains("--url"), "{none}");
}

#[test]
fn one_that_is_about_to_end_can_still_be_asked() {
    let origin = Origin::script(|connection| {
        connection.request();
        connection.wait_closed();
    });
    let mut ravelin = start(&origin);
    let mut client: Client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    crate::harness::until("the request is under way", || origin.connections() == 1);
    ravelin.signal("TERM");
    ravelin.stderr.line_with(&["stopping: 1 connection open"]);
    assert!(said(&ravelin, &["connections"]).contains("exchange"));
    ravelin.signal("TERM");
    ravelin.exit();
}
