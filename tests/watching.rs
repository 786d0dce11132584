//! Looking at traffic while it happens and afterwards: `ravelin tail`, `ravelin top`, the lists of
//! connections and WebSockets; and that nobody who looks holds anything up.

mod connections;
mod tail;
mod top;
mod websockets;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{Client, Json, Lines, Ravelin, binary, run};

/// The admin socket.
#[track_caller]
fn socket(ravelin: &Ravelin) -> PathBuf {
    let line = ravelin.stderr.line_with(&["admin socket "]);
    PathBuf::from(line.split_once("admin socket ").unwrap().1)
}

/// A command that asks this Ravelin, to its end.
#[track_caller]
fn command(ravelin: &Ravelin, args: &[&str]) -> Output {
    let socket = socket(ravelin);
    run(ravelin.dir(), &[args, &["--socket", socket.to_str().unwrap()]].concat())
}

/// What it prints, if it goes well.
#[track_caller]
fn told(ravelin: &Ravelin, args: &[&str]) -> String {
    let output = command(ravelin, args);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {err}");
    out.into_owned()
}

/// The answer of the admin API to a GET, as JSON.
#[track_caller]
fn get(ravelin: &Ravelin, path: &str) -> Json {
    asked(ravelin, "GET", path)
}

/// The same for any method.
#[track_caller]
fn asked(ravelin: &Ravelin, method: &str, path: &str) -> Json {
    let mut client = Client::connect_unix(&socket(ravelin));
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = client.ask(request);
    assert_eq!(response.status, 200, "{}", response.text());
    Json::parse(&response.text())
}

#[track_caller]
fn items<'j>(json: &'j Json, name: &str) -> &'j [Json] {
    match json.get(name) {
        Json::List(items) => items,
        other => panic!("{name} is no list: {other:?}"),
    }
}

/// A command that runs until it is dropped.
struct Running {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Running {
    #[track_caller]
    fn start(ravelin: &Ravelin, args: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .args(args)
            .arg("--socket")
            .arg(socket(ravelin))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = Lines::read(child.stdout.take().unwrap());
        let err = Lines::read(child.stderr.take().unwrap());
        Self { child, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
