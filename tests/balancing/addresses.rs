//! Endpoints of different kinds in one pool.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use crate::harness::*;

/// Answers at a Unix socket with this text until the test ends.
fn at_socket(listener: UnixListener, text: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut head = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    head.extend_from_slice(&piece[..count]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let _ = stream.write_all(&ok(text));
                    }
                }
            });
        }
    });
}

#[test]
fn unix_sockets_ipv6_and_ipv4_take_turns() {
    let dir = TempDir::new();
    let path = |name: &str| dir.path().join(name);
    at_socket(UnixListener::bind(path("u.sock")).unwrap(), "u");
    at_socket(UnixListener::bind(path("v.sock")).unwrap(), "v");
    let four = Origin::saying("4");
    let mut urls = vec![
        format!("unix:{}", path("u.sock").display()),
        four.url(),
        format!("unix:{}", path("v.sock").display()),
    ];
    let mut turn = "u4v".to_owned();
    // Not every machine has it.
    let six = std::net::TcpListener::bind("[::1]:0").is_ok().then(|| {
        Origin::script_at("[::1]:0".parse().unwrap(), |conn| {
            while conn.try_request().is_ok() {
                conn.send(ok("6"));
            }
        })
    });
    if let Some(six) = &six {
        urls.push(six.url());
        turn.push('6');
    }
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let ravelin = Ravelin::start(&site(&urls, ""));
    assert_eq!(order(&mut ravelin.client(), 3 * turn.len()), turn.repeat(3));
}

#[test]
fn a_socket_that_nobody_listens_at_is_passed_over() {
    let dir = TempDir::new();
    let path = dir.path().join("gone.sock");
    drop(UnixListener::bind(&path).unwrap());
    let b = Backend::new("b");
    let gone = format!("unix:{}", path.display());
    let ravelin = Ravelin::start(&site(&[&gone, &b.url()], ""));
    assert_eq!(order(&mut ravelin.client(), 10), "bbbbbbbbbb");
    ravelin.stderr.line_with(&["warn", &gone, "is left out"]);
}
