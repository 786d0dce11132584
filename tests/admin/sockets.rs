//! Where the Unix socket is, and what stands in its way.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{ask, get, socket};
use crate::harness::{Client, Gate, Json, Origin, Ravelin, Setup, ok, printed, site};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn with(origin: &Origin, keys: &str) -> Setup {
    Setup::new(&format!("{}\n[management]\n{keys}\n", site(&[&origin.url()], "")))
}

#[test]
fn the_socket_is_for_its_user_alone_and_gone_at_the_end() {
    let origin = Origin::saying("traffic");
    let mut ravelin = Ravelin::before(&origin);
    let socket = socket(&ravelin);
    assert_eq!(socket.parent().unwrap(), ravelin.dir());
    assert_eq!(mode(&socket), 0o600);
    let status = get(&socket, "/v1/status");
    assert_eq!(status.get("pid").number(), f64::from(ravelin.pid()));
    ravelin.signal("TERM");
    ravelin.exit();
    assert!(!socket.exists());
}

#[test]
fn another_path_and_other_rights_may_be_said() {
    let origin = Origin::saying("traffic");
    let ravelin = with(&origin, "socket = \"own.sock\"\nsocket_mode = \"660\"").start();
    socket(&ravelin);
    let path = ravelin.dir().join("own.sock");
    assert_eq!(mode(&path), 0o660);
    assert_eq!(ask(&path, "GET", "/v1/status", "").status, 200);
}

#[test]
fn it_may_be_turned_off() {
    let origin = Origin::saying("traffic");
    let ravelin = with(&origin, "socket = \"none\"").start();
    assert_eq!(ravelin.get("/").text(), "traffic");
    let is_socket =
        |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_type().unwrap().is_socket();
    assert!(!std::fs::read_dir(ravelin.dir()).unwrap().any(is_socket));
}

#[test]
fn a_socket_that_nobody_listens_at_is_replaced() {
    let origin = Origin::saying("traffic");
    let setup = with(&origin, "socket = \"own.sock\"");
    let path = setup.dir().join("own.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let ravelin = setup.start();
    socket(&ravelin);
    assert_eq!(ask(&path, "GET", "/v1/status", "").status, 200);
}

#[test]
fn what_killed_processes_have_left_is_cleared_away() {
    let origin = Origin::saying("traffic");
    let setup = Setup::new(&site(&[&origin.url()], ""));
    let (dead, live) = (setup.dir().join("dead.sock"), setup.dir().join("live.sock"));
    drop(UnixListener::bind(&dead).unwrap());
    let _listener = UnixListener::bind(&live).unwrap();
    let ravelin = setup.start();
    socket(&ravelin);
    assert!(!dead.exists() && live.exists());
}

#[test]
fn one_that_somebody_else_has_is_left_alone() {
    let origin = Origin::saying("traffic");
    let setup = with(&origin, "socket = \"own.sock\"");
    let path = setup.dir().join("own.sock");
    let _other = UnixListener::bind(&path).unwrap();
    let refused = setup.run(&["run"]);
    let said = printed(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("own.sock: process") && said.contains("listens there"), "{said}");
    // Nothing is announced that never comes to be.
    assert!(!said.contains("listening on"), "{said}");
    assert!(path.exists());

    // What nobody asked for is no reason not to serve.
    let first = Ravelin::before(&origin);
    let name = socket(&first);
    let toml = first.dir().join("ravelin.toml");
    let second = Setup::new("")
        .args(&["run", "-c", toml.to_str().unwrap()])
        .env("RUNTIME_DIRECTORY", first.dir().display())
        .start();
    second.stderr.line_with(&[" warn ", "no admin socket at", "listens there"]);
    assert_eq!(second.get("/").text(), "traffic");
    drop(second);
    let status = get(&name, "/v1/status");
    assert_eq!(status.get("pid").number(), f64::from(first.pid()));
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let origin = Origin::saying("traffic");
    let setup = with(&origin, "socket = \"ravelin.toml\"");
    let said = printed(&setup.run(&["run"]));
    assert!(said.contains("the file is no socket"), "{said}");
    assert!(setup.dir().join("ravelin.toml").is_file());
}

#[test]
fn without_a_place_for_it_ravelin_serves_all_the_same() {
    let origin = Origin::saying("traffic");
    let ravelin = Setup::new(&site(&[&origin.url()], ""))
        .env("RUNTIME_DIRECTORY", "/proc/no/such/place")
        .start();
    ravelin.stderr.line_with(&[" warn ", "no admin socket"]);
    assert_eq!(ravelin.get("/").text(), "traffic");
}

#[test]
fn the_first_line_says_what_is_spoken() {
    let origin = Origin::saying("traffic");
    let ravelin = Ravelin::before(&origin);
    let socket = socket(&ravelin);
    let mut client = Client::connect_unix(&socket);
    client.send("help\n");
    let text = String::from_utf8(client.wire.rest().unwrap()).unwrap();
    assert!(text.contains("show stat"), "{text}");
    // In pieces, as it may come.
    let mut client = Client::connect_unix(&socket);
    client.send("GET /v1/sta");
    client.send("tus HTTP/1.1\r\nHo");
    assert_eq!(client.ask("st: localhost\r\n\r\n").status, 200);
    // Nothing at all is nothing to answer.
    let mut client = Client::connect_unix(&socket);
    client.finish();
    client.expect_close();
}

#[test]
fn after_an_upgrade_the_new_process_answers_and_the_old_one_again_if_that_dies() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::serve(move |request| {
        if request.target == "/held" {
            held.pass();
        }
        ok("traffic")
    });
    let ravelin = with(&origin, "enabled = true\nport = 0").start();
    let socket = socket(&ravelin);
    let pid = || get(&socket, "/v1/status").get("pid").number();
    assert_eq!(pid(), f64::from(ravelin.pid()));
    // The old process lasts for as long as it has a request under way.
    let mut kept = ravelin.client();
    kept.send("GET /held HTTP/1.1\r\nHost: example.com\r\n\r\n");
    crate::harness::until("the request is under way", || origin.connections() == 1);
    ask(&socket, "POST", "/v1/upgrade", "").expect(200);
    let next = pid();
    assert_ne!(next, f64::from(ravelin.pid()));
    let killed = std::process::Command::new("kill").args(["-9", &next.to_string()]).status();
    assert!(killed.unwrap().success());
    crate::harness::until("the old process answers again", || {
        // For a moment nobody may listen there.
        let asked = std::process::Command::new("curl")
            .args(["-s", "--unix-socket", socket.to_str().unwrap(), "http://localhost/v1/status"])
            .output();
        let answer = asked.unwrap().stdout;
        !answer.is_empty()
            && Json::parse(std::str::from_utf8(&answer).unwrap()).get("pid").number()
                == f64::from(ravelin.pid())
    });
    gate.open();
    assert_eq!(kept.response("GET").text(), "traffic");
    assert_eq!(ravelin.get("/").text(), "traffic");
}
