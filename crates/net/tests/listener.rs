//! Listening: what may be replaced, what may not, and what accepted sockets inherit.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use net::listener::{BACKLOG, Listen, bind};
use net::stream::{Peer, Stream};
use net::worker::{Accepted, Options, start};

fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ravelin-{name}-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn options(listen: &Listen, workers: usize) -> Options {
    let listeners = vec![bind(listen, workers, BACKLOG).unwrap()];
    Options { workers, listeners, max_connections: None, max_per_address: None }
}

#[test]
fn an_address_that_is_listened_at_is_refused_although_workers_share_it() {
    let first = bind(&Listen::Address("127.0.0.1:0".parse().unwrap()), 3, BACKLOG).unwrap();
    let again = Listen::Address(([127, 0, 0, 1], first.port().unwrap()).into());
    for workers in [1, 3] {
        assert_eq!(bind(&again, workers, BACKLOG).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
    drop(first);
    assert!(bind(&again, 3, BACKLOG).is_ok());
}

#[test]
fn accepted_connections_inherit_nodelay_from_the_listening_socket() {
    let listen = Listen::Address("127.0.0.1:0".parse().unwrap());
    let options = options(&listen, 1);
    let port = options.listeners[0].port().unwrap();
    let (tell, told) = channel();
    let accepted = move |(): &(), accepted: Accepted| match &accepted.stream {
        Stream::Tcp(stream) => tell.send(stream.nodelay().unwrap()).unwrap(),
        Stream::Unix(_) | Stream::Tls(_) => panic!("not TCP"),
    };
    let _workers = start(options, |_| (), accepted).unwrap();
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(told.recv().unwrap());
}

#[test]
fn a_unix_socket_serves_replaces_a_dead_one_and_is_removed_in_the_end() {
    let path = path("served");
    drop(UnixListener::bind(&path).unwrap()); // leaves its file behind
    let accepted = |(): &(), accepted: Accepted| {
        assert_eq!(accepted.peer, Peer::Unix);
        tokio::task::spawn_local(async move {
            std::future::poll_fn(|cx| accepted.stream.poll_write(cx, b"hello")).await
        });
    };
    let workers = start(options(&Listen::Unix(path.clone()), 2), |_| (), accepted).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0);
    for _ in 0..3 {
        let mut got = String::new();
        UnixStream::connect(&path).unwrap().read_to_string(&mut got).unwrap();
        assert_eq!(got, "hello");
    }
    workers.stop(Duration::ZERO);
    workers.join();
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_that_answers_is_left_alone() {
    let path = path("alive");
    let other = UnixListener::bind(&path).unwrap();
    let error = bind(&Listen::Unix(path.clone()), 1, BACKLOG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("another process"), "{error}");
    UnixStream::connect(&path).unwrap().write_all(b"x").unwrap();
    drop(other);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let path = path("file");
    std::fs::write(&path, "precious").unwrap();
    let error = bind(&Listen::Unix(path.clone()), 1, BACKLOG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_socket_file_that_somebody_replaced_is_not_removed() {
    let path = path("replaced");
    let bound = bind(&Listen::Unix(path.clone()), 1, BACKLOG).unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(bound);
    assert!(path.exists());
    drop(other);
    std::fs::remove_file(&path).unwrap();
}
