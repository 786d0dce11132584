//! WebSocket clients and servers that others wrote, each before another: Chromium, Python's
//! `websockets`, Node's `ws`, and the curl of the documents whose systems Ravelin implements.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::harness::*;

/// What a route has besides: nothing for a byte pipe, or what makes Ravelin look at frames.
const MODES: [&str; 2] = [
    "",
    "[sites.proxy.websocket]\nclient_max_message_size = \"4MB\"\n\
     server_max_message_size = \"4MB\"\n",
];

/// How the lines begin that every client here prints after it has talked: an extension and a
/// subprotocol were agreed upon from end to end, the server's code and reason arrived.
const TALKED: [&str; 3] =
    ["protocol one", "extensions permessage-deflate", "closed 4002 as you wish"];

#[test]
fn nodes_client_talks_to_nodes_and_to_pythons_server() {
    through_each_to_each(|ravelin| {
        printed_by(node(&["talk", &format!("ws://{}/", ravelin.addr())]))
    });
}

#[test]
fn pythons_client_talks_to_nodes_and_to_pythons_server() {
    through_each_to_each(|ravelin| {
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("websocket_clients/python_client.py")]);
        command.arg(format!("ws://{}/", ravelin.addr())).stdin(Stdio::null());
        printed_by(command)
    });
}

#[test]
fn chromium_talks_to_nodes_and_to_pythons_server() {
    for (server, mode) in each_server_and_mode() {
        let page = Page::new();
        let ravelin = Ravelin::start(&page.site("example.com", &server, mode));
        page.assert_talked(&format!("http://example.com:{}/", ravelin.addr().port()));
        ravelin.stdout.line_with(&["\"GET /ws HTTP/1.1\" 101 "]);
    }
}

#[test]
fn chromium_talks_over_the_http2_connection_it_has() {
    for (server, mode) in each_server_and_mode() {
        let page = Page::new();
        let tls = "[sites.ssl]\nenabled = true\ncert_file = \"example.com.pem\"\n\
                   key_file = \"example.com.key\"\n";
        let toml = page.site("example.com", &server, &format!("{mode}{tls}"));
        let pair = Authority::new().server(&["example.com"]);
        let ravelin = Setup::new(&toml).pair("example.com", &pair).start();
        page.assert_talked(&format!("https://example.com:{}/", ravelin.addr().port()));
        ravelin.stdout.line_with(&["\"GET /ws HTTP/2.0\" 101 "]);
    }
}

#[test]
fn curl_as_the_documents_call_it_gets_what_the_server_says() {
    let greets = Python::run(
        "from websockets.sync.server import serve\n\
         def greet(ws):\n\
         \x20   ws.send('welcome')\n\
         with serve(greet, '127.0.0.1', 0) as server:\n\
         \x20   print('port', server.socket.getsockname()[1])\n\
         \x20   server.serve_forever()\n",
    );
    for mode in MODES {
        let ravelin = Ravelin::start(&plain(&greets.url(), mode));
        let ask = |key: &str, to: &str| {
            let key = format!("Sec-WebSocket-Key: {key}");
            let args = [
                "--include",
                "--no-buffer",
                "--http1.1",
                "--header",
                "Connection: Upgrade",
                "--header",
                "Upgrade: websocket",
                "--header",
                "Host: 127.0.0.1:10020",
                "--header",
                &key,
                "--header",
                "Sec-WebSocket-Version: 13",
                to,
            ];
            curl_any(&args).1
        };
        let answer = ask("dGhlIHNhbXBsZSBub25jZQ==", &ravelin.url("/"));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        assert!(answer.contains("\u{7}welcome"), "{answer}");
        // As it stands there the key is none: the server says so, and is heard.
        let refused = ask("your-key-here", &ravelin.url("/"));
        assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
        assert_eq!(body(&refused), body(&ask("your-key-here", &greets.url())));
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Lets a client talk through Ravelin in each mode to each server.
#[track_caller]
fn through_each_to_each(talk: impl Fn(&Ravelin) -> String) {
    for (server, mode) in each_server_and_mode() {
        let ravelin = Ravelin::start(&plain(&server.url(), mode));
        assert_talked(&talk(&ravelin));
    }
}

fn each_server_and_mode() -> impl Iterator<Item = (Server, &'static str)> {
    MODES.iter().flat_map(|mode| [(Server::node(), *mode), (Server::python(), *mode)])
}

fn plain(url: &str, mode: &str) -> String {
    site(&[url], &format!("websocket = true\n{mode}"))
}

#[track_caller]
fn assert_talked(said: &str) {
    let lines: Vec<&str> = said.lines().collect();
    let as_wanted = lines.len() == TALKED.len()
        && lines.iter().zip(TALKED).all(|(line, begin)| line.starts_with(begin));
    assert!(as_wanted, "the client said {said:?}");
}

/// A page that talks in a browser, and waits to be told how it went.
struct Page {
    origin: Origin,
    said: Receiver<String>,
}

impl Page {
    fn new() -> Page {
        let (say, said) = channel();
        let origin = Origin::serve(move |request| {
            if request.method == "POST" {
                let _ = say.send(String::from_utf8_lossy(&request.body).into_owned());
            }
            let page = include_str!("websocket_clients/page.html");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8";
            format!("{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len()).into_bytes()
        });
        Page { origin, said }
    }

    /// The page at every path but `/ws`.
    fn site(&self, host: &str, server: &Server, more: &str) -> String {
        let route = format!(
            "[[sites.proxy.upstreams]]\nname = \"talks\"\nurl = \"{}\"\n\
             [[sites.proxy.routes]]\npath = \"/ws\"\nupstream = \"talks\"\nwebsocket = true\n",
            server.url()
        );
        site(&[&self.origin.url()], &format!("{route}{more}")).replace("example.com", host)
    }

    /// Opens it in a browser of its own.
    #[track_caller]
    fn assert_talked(&self, url: &str) {
        require("chromium", &["--version"], "apt-get install chromium");
        let profile = TempDir::new();
        let mut chromium = Command::new("chromium");
        chromium.args(["--headless=new", "--no-sandbox", "--disable-gpu"]);
        chromium.args(["--disable-dev-shm-usage", "--no-first-run", "--disable-sync"]);
        chromium.args(["--disable-background-networking", "--disable-component-update"]);
        chromium.args(["--ignore-certificate-errors", "--remote-debugging-port=0"]);
        chromium.arg("--host-resolver-rules=MAP example.com 127.0.0.1");
        chromium.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        let browser = Running::start(chromium);
        let said = self.said.recv_timeout(PATIENCE * 3).unwrap_or_else(|_| {
            panic!("the page said nothing\n{}", browser.stderr.all().join("\n"))
        });
        assert_talked(&said);
    }
}

/// A server that echoes, and closes when it is asked to leave.
struct Server {
    _running: Running,
    port: String,
}

impl Server {
    /// Node's `ws`.
    fn node() -> Server {
        Server::start(node(&["serve"]))
    }

    /// Python's `websockets`.
    fn python() -> Server {
        let mut command = Command::new("python3");
        command.args(["-u", "-c", include_str!("websocket_clients/python_server.py")]);
        Server::start(command)
    }

    #[track_caller]
    fn start(command: Command) -> Server {
        let running = Running::start(command);
        let line = running.stdout.line_with(&["port "]);
        Server { port: line.trim_start_matches("port ").to_owned(), _running: running }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A program that runs until the end of the test, with all that it starts.
struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    #[track_caller]
    fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().unwrap();
        let stdout = Lines::read(child.stdout.take().unwrap());
        let stderr = Lines::read(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What a program prints that succeeds.
#[track_caller]
fn printed_by(command: Command) -> String {
    let output = run_to_end(command);
    assert!(output.status.success(), "{}", printed(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn node(args: &[&str]) -> Command {
    require("node", &["--version"], "apt-get install nodejs");
    let packages = project().join("target/node/node_modules");
    assert!(
        packages.join("ws").exists(),
        "this test needs the package ws: install it with `npm install --prefix target/node ws`"
    );
    let mut command = Command::new("node");
    command.arg(project().join("tests/websocket_clients/node.js")).args(args);
    command.env("NODE_PATH", packages).stdin(Stdio::null());
    command
}
