//! The admin API: what a running Ravelin tells and takes, from whom, and that nobody who talks to it holds up
//! traffic.

mod api;
mod attacks;
mod commands;
mod config;
mod keys;
mod sockets;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::harness::{Client, Json, Ravelin, Response, curl};

/// The Unix socket that it says it has.
#[track_caller]
fn socket(ravelin: &Ravelin) -> PathBuf {
    let line = ravelin.stderr.line_with(&["admin socket "]);
    let (_, path) = line.split_once("admin socket ").unwrap();
    PathBuf::from(path)
}

/// The TCP address that it says it has.
#[track_caller]
fn address(ravelin: &Ravelin, what: &str) -> SocketAddr {
    let line = ravelin.stderr.line_with(&[&format!("{what} at http://")]);
    let (_, address) = line.split_once(" at http://").unwrap();
    address.parse().unwrap()
}

/// What curl gets over the socket.
#[track_caller]
fn over(socket: &Path, args: &[&str], path: &str) -> String {
    let url = format!("http://localhost{path}");
    curl(&[&["--unix-socket", socket.to_str().unwrap()], args, &[&url]].concat())
}

/// The same as JSON.
#[track_caller]
fn get(socket: &Path, path: &str) -> Json {
    Json::parse(&over(socket, &[], path))
}

/// One request over the socket, on a connection of its own.
#[track_caller]
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Response {
    Client::connect_unix(socket).ask(request(method, path, "localhost", "", body))
}

/// A request with these lines in its head.
fn request(method: &str, path: &str, host: &str, lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// The items of a list.
#[track_caller]
fn items(json: &Json) -> &[Json] {
    match json {
        Json::List(items) => items,
        other => panic!("no list: {other:?}"),
    }
}

/// Texts of a list.
#[track_caller]
fn texts(json: &Json) -> Vec<&str> {
    items(json).iter().map(Json::text).collect()
}
