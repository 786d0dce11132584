//! Real clients and origins: curl, Python's http.server, Python's websockets. A tool that is not
//! there fails the test and says how to get it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Lines, run_to_end};

/// Panics unless the program can be run.
#[track_caller]
pub fn require(program: &str, try_args: &[&str], install: &str) {
    let found = Command::new(program)
        .args(try_args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    assert!(found, "this test needs `{program} {}`: install it with `{install}`", try_args[0]);
}

/// Runs curl with a time limit; its standard output.
#[track_caller]
pub fn curl(args: &[&str]) -> String {
    let (ok, out, err) = curl_any(args);
    assert!(ok, "curl {args:?} failed: {err}\n{out}");
    out
}

/// Runs curl: whether it succeeded, standard output, standard error.
#[track_caller]
pub fn curl_any(args: &[&str]) -> (bool, String, String) {
    require("curl", &["--version"], "apt-get install curl");
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10"]).args(args).stdin(Stdio::null());
    let out = run_to_end(command);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}

/// A Python program that runs beside the test.
pub struct Python {
    child: Child,
    pub stderr: Lines,
    port: u16,
}

impl Python {
    /// `python3 -m http.server` on a free port, serving this directory.
    #[track_caller]
    pub fn http_server(dir: &Path) -> Python {
        require("python3", &["--version"], "apt-get install python3");
        let dir = dir.to_str().unwrap();
        let args = ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", dir];
        Python::start(&args, "Serving HTTP on 127.0.0.1 port ")
    }

    /// A WebSocket server on a free port that sends every message back.
    #[track_caller]
    pub fn websocket_echo() -> Python {
        require_websockets();
        Python::start(&["-u", "-c", ECHO], "port ")
    }

    /// A program that prints "port " and where it listens.
    #[track_caller]
    pub fn run(program: &str) -> Python {
        require("python3", &["--version"], "apt-get install python3");
        Python::start(&["-u", "-c", program], "port ")
    }

    #[track_caller]
    fn start(args: &[&str], announce: &str) -> Python {
        let mut command = Command::new("python3");
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Lines::read(child.stdout.take().unwrap());
        let stderr = Lines::read(child.stderr.take().unwrap());
        let line = stdout.line_with(&[announce]);
        let digits: String =
            line.split_once(announce).unwrap().1.chars().take_while(char::is_ascii_digit).collect();
        Python { child, stderr, port: digits.parse().unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a Python program that uses `websockets` as `ws` and the URL as `url`; its output.
#[track_caller]
pub fn websocket_client(url: &str, body: &str) -> String {
    run_websocket_client(Command::new("python3"), url, body)
}

/// The same for a `wss` URL, trusting the authorities in this file.
#[track_caller]
pub fn websocket_client_trusting(ca_file: &Path, url: &str, body: &str) -> String {
    let mut command = Command::new("python3");
    command.env("SSL_CERT_FILE", ca_file);
    run_websocket_client(command, url, body)
}

#[track_caller]
fn run_websocket_client(mut command: Command, url: &str, body: &str) -> String {
    require_websockets();
    let body: String = body.lines().map(|l| format!("        {l}\n")).collect();
    let program = CLIENT.replace("{url}", url).replace("{body}", &body);
    command.args(["-c", &program]).stdin(Stdio::null());
    let out = run_to_end(command);
    let (stdout, stderr) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "the WebSocket client failed: {stderr}\n{stdout}\n{program}");
    stdout.into_owned()
}

#[track_caller]
fn require_websockets() {
    require(
        "python3",
        &["-c", "import websockets.sync.client, websockets.sync.server"],
        "python3 -m pip install websockets",
    );
}

const ECHO: &str = r#"
from websockets.sync.server import serve
def echo(ws):
    for message in ws:
        ws.send(message)
def choose(ws, offered):
    return offered[0] if offered else None
with serve(echo, "127.0.0.1", 0, select_subprotocol=choose, max_size=None) as server:
    print("port", server.socket.getsockname()[1])
    server.serve_forever()
"#;

const CLIENT: &str = r#"
import sys, os, hashlib
from websockets.sync.client import connect
from websockets.exceptions import *
from websockets.typing import Subprotocol
url = "{url}"
def main():
    with connect(url, max_size=None, open_timeout=8, proxy=None, additional_headers={"Origin": "http://example.com"}) as ws:
{body}
main()
"#;
