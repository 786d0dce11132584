//! The commands of HAProxy's admin socket, beside a real HAProxy: the same is said of the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::harness::*;

/// What is said by a socket when this is sent.
#[track_caller]
fn say(socket: &Path, text: &str) -> String {
    let mut client = Client::connect_unix(socket);
    client.send(text);
    String::from_utf8(client.wire.rest().unwrap()).unwrap()
}

/// The socket of a Ravelin that was given one in its directory.
fn socket(ravelin: &Ravelin) -> PathBuf {
    ravelin.dir().join("admin.sock")
}

fn with_socket(urls: &[&str], more: &str) -> Ravelin {
    let management = format!("{more}\n[management]\nsocket = \"admin.sock\"\n");
    let ravelin = Ravelin::start(&site(urls, &management));
    ravelin.stderr.line_with(&["admin socket "]);
    ravelin
}

/// A name as these commands have it.
fn name(backend: &Backend) -> String {
    backend.url().replace("http://", "")
}

/// A real one, with the same pool.
struct Haproxy {
    child: Child,
    directory: TempDir,
}

impl Haproxy {
    #[track_caller]
    fn start(backends: &[&Backend]) -> Haproxy {
        require("haproxy", &["-v"], "apt-get install haproxy");
        let directory = TempDir::new();
        let at = directory.path().display();
        let server = |backend: &&Backend| {
            let name = name(backend);
            format!("    server {name} {name} check inter 100ms fall 3 rise 2\n")
        };
        let servers: String = backends.iter().map(server).collect();
        let configuration = format!(
            "global\n    stats socket {at}/admin.sock level admin\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
             backend backend\n    balance roundrobin\n    option httpchk GET /health\n{servers}"
        );
        directory.write("haproxy.cfg", &configuration);
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f", "haproxy.cfg"]).current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let haproxy = Haproxy { child, directory };
        until("HAProxy's socket", || haproxy.socket().exists());
        haproxy
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks as HAProxy's.
const CHECKS: &str = "[sites.proxy.health_check]\nenabled = true\npath = \"/health\"\ninterval = \"100ms\"\n\
     timeout = \"5s\"\nfall = 3\nrise = 2\nstart = \"fragile\"\n";

/// `show servers state` without the seconds since the last change, which are not the same.
fn states(text: &str) -> Vec<Vec<String>> {
    let line = |line: &str| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if words.len() > 20 && !line.starts_with('#') {
            words[9].clear();
        }
        words
    };
    text.lines().map(line).collect()
}

#[test]
fn the_same_commands_are_answered_with_the_same_words() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let haproxy = Haproxy::start(&[&one, &other]);
    let ravelin = with_socket(&[&one.url(), &other.url()], CHECKS);
    let sockets = [haproxy.socket(), socket(&ravelin)];
    let both = |text: &str| sockets.each_ref().map(|socket| say(socket, &format!("{text}\n")));
    let first = name(&one);
    for command in [
        "show backend".to_owned(),
        "show backend;show backend".to_owned(),
        " show  backend  ".to_owned(),
        format!("get weight backend/{first}"),
        "get weight backend".to_owned(),
        "get weight backend/nobody".to_owned(),
        "get weight nobody/nobody".to_owned(),
        "get weight #2/#1".to_owned(),
        "set server".to_owned(),
        "set server backend".to_owned(),
        "set server nobody/nobody state drain".to_owned(),
        "set server backend/nobody state drain".to_owned(),
        format!("set server backend/{first} state"),
        format!("set server backend/{first} state foo"),
        format!("set server backend/{first} weight"),
        format!("set server backend/{first} weight 300"),
        format!("set server backend/{first} weight -1"),
        format!("set server backend/{first} weight abc"),
        format!("set server backend/{first} weight 10x"),
        format!("set server backend/{first} weight 20; get weight backend/{first}"),
        format!("set server backend/{first} weight 200%; get weight backend/{first}"),
        format!("set weight backend/{first} 100%; get weight backend/{first}"),
        format!("set weight backend/{first}"),
        "disable server".to_owned(),
        "disable server nobody/nobody".to_owned(),
        "show servers state nobody".to_owned(),
        "show servers conn nobody".to_owned(),
        "show stat nobody 4 -1".to_owned(),
        "show cli level".to_owned(),
        "operator; show cli level; disable server a/b; get weight backend/nobody".to_owned(),
        "user;operator;show cli level".to_owned(),
        "set timeout cli".to_owned(),
        "set timeout cli foo".to_owned(),
        "set timeout cli 10s".to_owned(),
        "help show servers".to_owned(),
        "show servers".to_owned(),
        "quit".to_owned(),
        "prompt\nshow backend\nshow cli level;get weight a\nprompt\nshow backend".to_owned(),
    ] {
        let [expected, said] = both(&command);
        assert_eq!(said, expected, "{command}");
    }
    let header = |text: &str| text.lines().next().unwrap().to_owned();
    let [expected, said] = both("show stat");
    assert_eq!(header(&said), header(&expected));
    // Where it says how many threads there are.
    let connections =
        both("show servers conn").map(|text| header(&text).split_once('[').unwrap().0.to_owned());
    assert_eq!(connections[1], connections[0]);
}

#[test]
fn endpoints_are_in_the_same_states() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let haproxy = Haproxy::start(&[&one, &other]);
    let ravelin = with_socket(&[&one.url(), &other.url()], CHECKS);
    let sockets = [haproxy.socket(), socket(&ravelin)];
    let (first, second) = (name(&one), name(&other));
    let agree = |what: &str| {
        // Checks settle in their own time.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let [expected, said] =
                sockets.each_ref().map(|socket| states(&say(socket, "show servers state\n")));
            if expected == said {
                return;
            }
            assert!(Instant::now() < deadline, "{what}\n{expected:?}\n{said:?}");
            thread::yield_now();
        }
    };
    agree("both up");
    for (command, what) in [
        (format!("set server backend/{first} state drain"), "drained"),
        (format!("set server backend/{first} state maint"), "in maintenance"),
        (format!("set server backend/{first} state ready"), "ready again"),
        (format!("disable server backend/{second}"), "disabled"),
        (format!("enable server backend/{second}"), "enabled"),
        (format!("set server backend/{first} weight 50"), "weighed"),
    ] {
        sockets
            .iter()
            .for_each(|socket| assert_eq!(say(socket, &format!("{command}\n")), "\n", "{command}"));
        agree(what);
    }
    other.set_status(503);
    until("one that is down", || {
        sockets.iter().all(|socket| say(socket, "show stat 2 4 -1\n").contains(",DOWN,"))
    });
    agree("one down");
    let statuses = sockets.each_ref().map(|socket| {
        let csv = say(socket, "show stat 2 4 -1\n");
        let cells = |line: &str| -> Vec<String> {
            let all: Vec<&str> = line.split(',').collect();
            // Name, status, check_status and check_desc.
            [1, 17, 36, 65].iter().map(|at| all[*at].to_owned()).collect()
        };
        csv.lines().skip(1).filter(|line| !line.is_empty()).map(cells).collect::<Vec<_>>()
    });
    assert_eq!(statuses[0], statuses[1]);
}

#[test]
fn what_is_drained_gets_nothing_until_it_is_ready() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin = with_socket(&[&one.url(), &other.url()], "");
    let at = socket(&ravelin);
    let (mut client, first) = (ravelin.client(), name(&one));
    for (command, share) in [
        ("state drain", 0),
        ("state ready", 2),
        ("state maint", 0),
        ("state ready", 2),
        ("weight 3", 3),
        ("weight 0", 0),
        ("weight 100%", 2),
    ] {
        assert_eq!(say(&at, &format!("set server backend/{first} {command}\n")), "\n");
        assert_eq!(order(&mut client, 4).matches("one").count(), share, "{command}");
    }
    ravelin.stderr.line_with(&["is in maintenance, says uid "]);
}

#[test]
fn a_request_under_way_is_finished_by_what_is_in_maintenance() {
    let one = Backend::new("one");
    let ravelin = with_socket(&[&one.url()], "");
    let gate = one.hold();
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    one.await_held();
    say(&socket(&ravelin), &format!("disable server backend/{}\n", name(&one)));
    gate.open();
    assert_eq!(client.response("GET").expect(200).text(), "one");
    ravelin.get("/").expect(503);
}

#[test]
fn the_seeds_line_works_with_socat() {
    require("socat", &["-V"], "apt-get install socat");
    let one = Backend::new("one");
    let ravelin = with_socket(&[&one.url()], "");
    let line =
        format!("echo \"show servers state backend\" | socat stdio {}", socket(&ravelin).display());
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    let output = run_to_end(command);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("1"));
    assert!(
        lines.next().unwrap().starts_with("# be_id be_name srv_id srv_name srv_addr srv_op_state")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with(&format!("2 backend 1 {} 127.0.0.1 2 0 1 1 ", name(&one)))
    );
    assert_eq!((lines.next(), lines.next()), (Some(""), None));
}

#[test]
fn levels_bound_what_may_be_said() {
    let one = Backend::new("one");
    let more = "[management]\nsocket = \"admin.sock\"\nsocket_level = \"operator\"\n";
    let ravelin = Ravelin::start(&site(&[&one.url()], more));
    ravelin.stderr.line_with(&["admin socket "]);
    let at = socket(&ravelin);
    for command in ["set server backend/x state drain", "set weight a/b 1", "disable server a/b"] {
        assert_eq!(say(&at, &format!("{command}\n")), "Permission denied\n\n");
    }
    assert_eq!(say(&at, "show cli level\n"), "operator\n\n");
    assert!(say(&at, "show info\n").contains("\nUptime_sec: "));
}

#[test]
fn as_many_connections_as_there_may_be_are_said_whoever_says_how_many() {
    let one = Backend::new("one");
    let maxconn = |ravelin: &Ravelin| {
        let info = say(&socket(ravelin), "show info\n");
        let line = info.lines().find_map(|line| line.strip_prefix("Maxconn: "));
        line.unwrap_or_else(|| panic!("{info}")).to_owned()
    };
    let by_descriptors = with_socket(&[&one.url()], "");
    let line = by_descriptors.stderr.line_with(&["up to ", " connections"]);
    assert!(line.contains(&format!("up to {} connections", maxconn(&by_descriptors))), "{line}");

    let by_setting = with_socket(&[&one.url()], "[performance]\nmax_connections = 7\n");
    assert_eq!(maxconn(&by_setting), "7");
    let management = "[performance]\nmax_connections = 9\n[management]\nsocket = \"admin.sock\"\n";
    fs::write(by_setting.dir().join("ravelin.toml"), site(&[&one.url()], management)).unwrap();
    by_setting.signal("HUP");
    by_setting.stderr.line_with(&["configuration reloaded by "]);
    assert_eq!(maxconn(&by_setting), "7", "it stays as it is until a restart");
}

#[test]
fn nonsense_ends_a_connection_and_nothing_else() {
    let one = Backend::new("one");
    let ravelin = with_socket(&[&one.url()], "");
    let at = socket(&ravelin);
    let long = format!("show {}\n", "a".repeat(100_000));
    for text in [long.as_bytes(), b"\xff\xfe\0;\n", b";;;;\n", b"\n"] {
        let mut client = Client::connect_unix(&at);
        client.send(text);
        let _ = client.wire.rest();
    }
    assert_eq!(say(&at, "show backend\n"), "# name\nbackend\n\n");
    assert!(fs::metadata(&at).is_ok());
}
