//! Another configuration while it serves: what changes, and what does not.

mod canary;
mod listeners;
mod many;
mod state;

use std::sync::mpsc::channel;

use crate::harness::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Lines about what came of a reload.
fn outcomes(ravelin: &Ravelin) -> Vec<String> {
    let is_outcome =
        |line: &String| line.contains("configuration reloaded by ") || line.contains("reload by ");
    ravelin.stderr.all().into_iter().filter(is_outcome).collect()
}

/// Has it read its configuration again by a signal; what it says of that.
#[track_caller]
fn reload(ravelin: &Ravelin) -> String {
    let before = outcomes(ravelin).len();
    ravelin.signal("HUP");
    until("a word about the reload", || outcomes(ravelin).len() > before);
    outcomes(ravelin)[before].clone()
}

fn write(ravelin: &Ravelin, toml: &str) {
    std::fs::write(ravelin.dir().join("ravelin.toml"), toml).unwrap();
}

/// Gives it another configuration.
#[track_caller]
fn change(ravelin: &Ravelin, toml: &str) -> String {
    write(ravelin, toml);
    let said = reload(ravelin);
    assert!(said.contains("configuration reloaded by signal"), "{said}");
    said
}

/// Asks it by a command, which has to succeed.
#[track_caller]
fn command(ravelin: &Ravelin, args: &[&str]) -> String {
    let output = run(ravelin.dir(), args);
    let said = printed(&output);
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

/// The same site with this answer to everything, and no upstream.
fn answering(text: &str) -> String {
    format!(
        "[[sites]]\nname = \"test\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
         [[sites.routes]]\npath = \"/\"\nstatus = 200\nbody = \"{text}\"\n"
    )
}

#[test]
fn a_changed_route_applies_to_the_next_request_of_the_same_connection() {
    let (one, other) = (Origin::saying("one"), Origin::saying("other"));
    let ravelin = Ravelin::start(&site(&[&one.url()], ""));
    let mut client = ravelin.client();
    assert_eq!(client.get("/").expect(200).text(), "one");
    let said = change(&ravelin, &site(&[&other.url()], ""));
    assert!(said.contains("generation 2"), "{said}");
    assert!(said.contains(&format!("upstream \"backend\" has {}", other.url())), "{said}");
    assert_eq!(client.get("/").expect(200).text(), "other");
    change(&ravelin, &answering("here"));
    assert_eq!(client.get("/").expect(200).text(), "here");
}

#[test]
fn a_mistake_leaves_what_is_served_and_is_reported() {
    let origin = Origin::saying("served");
    let good = site(&[&origin.url()], "");
    let ravelin = Ravelin::start(&good);
    let mut client = ravelin.client();
    client.get("/").expect(200);
    write(&ravelin, &good.replace("path = \"/\"", "path = \"/\"\nupsteam = \"x\""));
    let said = reload(&ravelin);
    assert!(said.contains("refused") && said.contains("1 error"), "{said}");
    ravelin.stderr.line_with(&["ravelin.toml:", "error: unknown key `upsteam`"]);
    assert_eq!(client.get("/").expect(200).text(), "served");
    // Whoever asks by the command is told as `check` tells it.
    let output = run(ravelin.dir(), &["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = printed(&output);
    assert!(said.contains("unknown key `upsteam`") && said.contains("--> ravelin.toml:"), "{said}");
    assert_eq!(ravelin.get("/").expect(200).text(), "served");
    // What only shows when it is to be served is a mistake too.
    for (more, expected) in [
        ("[logging]\nerror_log = \"/proc/none/x.log\"\n", "cannot open the log file"),
        ("[[tests]]\nrequest = \"http://example.com/\"\nupstream = \"other\"\n", "1 error"),
    ] {
        write(&ravelin, &format!("{good}\n{more}"));
        let said = reload(&ravelin);
        assert!(said.contains("refused") && said.contains(expected), "{said}");
        assert_eq!(client.get("/").expect(200).text(), "served");
    }
    write(&ravelin, &good);
    assert!(command(&ravelin, &["reload"]).contains("generation 2"));
    let history = command(&ravelin, &["history"]);
    assert_eq!(history.matches("refused").count(), 4, "{history}");
    assert!(history.contains("applied, in force"), "{history}");
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_holds_up_nothing() {
    let mut ravelin = Ravelin::start(&answering("here"));
    let path = ravelin.dir().join("ravelin.toml");
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let said = reload(&ravelin);
    assert!(said.contains("refused") && said.contains("it is not a file"), "{said}");
    assert_eq!(ravelin.get("/").expect(200).text(), "here");
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
}

#[test]
fn a_pipe_in_place_of_a_file_that_is_named_is_refused_and_holds_up_nothing() {
    let mut ravelin = Ravelin::start(&answering("here"));
    let path = ravelin.dir().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let tls = |keys: &str| site_of(&[("https://127.0.0.1:1".to_owned(), keys)], "");
    let sticky = "[sites.proxy.load_balancing]\nsticky_sessions = { key_file = \"pipe\" }\n";
    for toml in [
        tls("tls = { ca_file = \"pipe\" }"),
        tls("tls = { cert_file = \"pipe\", key_file = \"pipe\" }"),
        site_with("[sites.access]\ndeny_file = \"pipe\"\n", &["http://127.0.0.1:1"], ""),
        site(&["http://127.0.0.1:1"], sticky),
    ] {
        write(&ravelin, &toml);
        let said = reload(&ravelin);
        assert!(said.contains("refused") && said.contains("it is not a file"), "{toml}: {said}");
    }
    assert_eq!(ravelin.get("/").expect(200).text(), "here");
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
}

#[test]
fn an_address_that_cannot_be_had_leaves_everything_as_it_is() {
    let (one, other) = (Origin::saying("one"), Origin::saying("other"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ravelin = Ravelin::start(&site(&[&one.url()], ""));
    let mut client = ravelin.client();
    client.get("/").expect(200);
    let listen = format!("\"127.0.0.1:0\", \"{}\"", taken.local_addr().unwrap());
    write(&ravelin, &site(&[&other.url()], "").replace("\"127.0.0.1:0\"", &listen));
    let said = reload(&ravelin);
    assert!(said.contains("refused") && said.contains("cannot listen on"), "{said}");
    assert_eq!(client.get("/").expect(200).text(), "one");
}

#[test]
fn requests_under_way_end_with_the_configuration_they_began_with() {
    let gate = Gate::new();
    let held = gate.clone();
    let (came, arrived) = channel();
    let slow = Origin::serve(move |_| {
        let _ = came.send(());
        held.pass();
        ok("slow")
    });
    let fast = Origin::saying("fast");
    let ravelin = Ravelin::start(&site(&[&slow.url()], ""));
    let mut active = ravelin.client();
    active.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&arrived, "the request at the origin");
    change(&ravelin, &site(&[&fast.url()], ""));
    // The upstream that is gone gets nothing new ...
    assert_eq!(ravelin.get("/").expect(200).text(), "fast");
    assert_eq!(slow.requests().len(), 1);
    gate.open();
    // ... what it has is finished, and the client's connection goes on.
    assert_eq!(active.response("GET").expect(200).text(), "slow");
    assert_eq!(active.get("/").expect(200).text(), "fast");
    // No connection to it is kept.
    until("the end of connections to what is gone", || established_to(slow.port()) == 0);
}

#[test]
fn connections_kept_to_an_upstream_that_goes_are_closed_and_others_are_kept() {
    let (stays, goes) = (Origin::saying("stays"), Origin::saying("goes"));
    let ravelin = Ravelin::start(&site(&[&stays.url(), &goes.url()], ""));
    let mut client = ravelin.client();
    for _ in 0..4 {
        client.get("/").expect(200);
    }
    assert!(established_to(stays.port()) == 1 && established_to(goes.port()) == 1);
    change(&ravelin, &site(&[&stays.url()], ""));
    until("the end of the kept connection", || established_to(goes.port()) == 0);
    assert_eq!(client.get("/").expect(200).text(), "stays");
    assert_eq!(stays.connections(), 1, "the same connection as before");
    // It is taken up again as if it were new.
    change(&ravelin, &site(&[&stays.url(), &goes.url()], ""));
    let answers: String = (0..4).map(|_| client.get("/").expect(200).text()).collect();
    assert_eq!(answers.matches("goes").count(), 2, "{answers}");
    assert_eq!(goes.connections(), 2);
}

#[test]
fn websockets_go_on_whatever_is_changed() {
    let echo = Origin::script(|conn| {
        let request = conn.request();
        assert_eq!(request.get("sec-websocket-key"), Some(KEY));
        conn.send(SWITCHING);
        while let Ok(bytes) = conn.wire.some() {
            conn.send(bytes.to_ascii_uppercase());
        }
    });
    let ravelin = Ravelin::start(&site(&[&echo.url()], "websocket = true\n"));
    let mut socket = ravelin.client();
    socket.ask(UPGRADE).expect(101);
    let mut talk = |text: &str| {
        socket.send(text);
        assert_eq!(socket.wire.bytes(text.len()).unwrap(), text.to_ascii_uppercase().as_bytes());
    };
    talk("before");
    change(&ravelin, &site(&[&echo.url()], "websocket = true\nstrip_prefix = true\n"));
    talk("another route");
    change(&ravelin, &answering("no upstream at all"));
    talk("no upstream");
    for _ in 0..5 {
        reload(&ravelin);
    }
    talk("at last");
}

#[test]
fn http2_connections_stay_and_their_next_stream_meets_the_new_configuration() {
    let gate = Gate::new();
    let held = gate.clone();
    let (came, arrived) = channel();
    let slow = Origin::serve(move |_| {
        let _ = came.send(());
        held.pass();
        ok("slow")
    });
    let fast = Origin::saying("fast");
    let h2c = |origin: &Origin| site_with("h2c = true\n", &[&origin.url()], "");
    let ravelin = Ravelin::start(&h2c(&slow));
    let mut client = Http2::connect(ravelin.addr());
    client.open(1, &get_fields("/"));
    next(&arrived, "the request at the origin");
    change(&ravelin, &h2c(&fast));
    assert_eq!(client.get(3, "/").body, b"fast");
    gate.open();
    assert_eq!(client.response(1).body, b"slow");
    assert_eq!(client.get(5, "/").body, b"fast");
    client.ping();
}

#[test]
fn two_signals_in_a_row_lose_nothing() {
    let origin = Origin::saying("old");
    let ravelin = Ravelin::start(&site(&[&origin.url()], ""));
    for round in 0..20 {
        write(&ravelin, &answering(&format!("half {round}")));
        ravelin.signal("HUP");
        write(&ravelin, &answering(&format!("whole {round}")));
        ravelin.signal("HUP");
        let wanted = format!("whole {round}");
        until("the last configuration", || ravelin.get("/").text() == wanted);
    }
}

#[test]
fn what_was_served_before_can_be_served_again() {
    let ravelin = Ravelin::start(&answering("one"));
    change(&ravelin, &answering("two"));
    change(&ravelin, &answering("three"));
    assert_eq!(ravelin.get("/").text(), "three");
    // Whatever the files say meanwhile.
    write(&ravelin, "nothing of use");
    assert!(command(&ravelin, &["rollback"]).contains("generation 4"));
    assert_eq!(ravelin.get("/").text(), "two");
    ravelin.stderr.line_with(&["rolled back to generation 2", "not as its files are", "uid "]);
    command(&ravelin, &["rollback", "1"]);
    assert_eq!(ravelin.get("/").text(), "one");
    let output = run(ravelin.dir(), &["rollback", "77"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).contains("generation 77 is not known"), "{}", printed(&output));
    let history = command(&ravelin, &["history", "2"]);
    assert!(history.contains("-body = \"one\"\n+body = \"two\"\n"), "{history}");
    // The files count again with the next reload.
    assert!(reload(&ravelin).contains("refused"));
    change(&ravelin, &answering("four"));
    assert_eq!(ravelin.get("/").text(), "four");
}

#[test]
fn changed_files_are_taken_by_themselves_if_that_is_wanted() {
    let watching = |text: &str| format!("{}\n[reload]\nwatch = true\n", answering(text));
    let ravelin = Ravelin::start(&watching("one"));
    write(&ravelin, &watching("two"));
    until("the new configuration", || ravelin.get("/").text() == "two");
    ravelin.stderr.line_with(&["configuration reloaded by file watch, generation 2"]);
    write(&ravelin, "a mistake");
    ravelin.stderr.line_with(&["reload by file watch refused"]);
    assert_eq!(ravelin.get("/").text(), "two");
    // With a file that is renamed over it, which turns the watch off.
    std::fs::write(ravelin.dir().join("new"), answering("three")).unwrap();
    std::fs::rename(ravelin.dir().join("new"), ravelin.dir().join("ravelin.toml")).unwrap();
    until("the renamed configuration", || ravelin.get("/").text() == "three");
}

#[test]
fn logs_and_limits_follow() {
    let ravelin = Ravelin::start(&answering("here"));
    ravelin.get("/first").expect(200);
    ravelin.stdout.line_with(&["GET /first "]);
    change(&ravelin, &format!("{}\n[logging]\nformat = \"json\"\n", answering("here")));
    ravelin.get("/second").expect(200);
    ravelin.stdout.line_with(&["{", "\"/second\""]);
    let to_file = "[logging]\naccess_log = \"access.log\"\n[limits]\nfields = 3\n";
    change(&ravelin, &format!("{}\n{to_file}", answering("here")));
    let mut client = ravelin.client();
    client.get("/third").expect(200);
    let file = ravelin.dir().join("access.log");
    until("the line in the file", || {
        std::fs::read_to_string(&file).unwrap_or_default().contains("/third")
    });
    let many = "GET / HTTP/1.1\r\nHost: example.com\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n";
    assert_eq!(client.ask(many).status, 431);
    // What cannot be changed is said.
    let said = "`performance.worker_threads` stays as it is until Ravelin is restarted";
    change(&ravelin, &format!("{}\n[performance]\nworker_threads = 7\n", answering("here")));
    ravelin.stderr.line_with(&["warn", said]);
}

#[test]
fn a_name_that_is_new_is_looked_up_before_it_is_asked_for() {
    let origin = Origin::saying("found");
    let server = NameServer::start();
    server.set("app.test", 60, &["127.0.0.1"]);
    let servers = server.toml();
    let ravelin = Ravelin::start(&format!("{}\n{servers}", answering("none yet")));
    let url = format!("http://app.test:{}", origin.port());
    for _ in 0..3 {
        change(&ravelin, &format!("{}\n{servers}", site(&[&url], "")));
        assert_eq!(ravelin.get("/").expect(200).text(), "found");
        change(&ravelin, &format!("{}\n{servers}", answering("gone again")));
        assert_eq!(ravelin.get("/").text(), "gone again");
    }
}
