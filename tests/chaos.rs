//! Everything at once, with an origin that dies and comes back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use crate::harness::*;

const CONNECTIONS: usize = 200;
const REQUESTS: usize = 10_000;

/// An origin whose answers follow from the target alone: a body of that many bytes, made from
/// that number, with a length or in chunks. Any mix-up of two responses shows.
fn answering(addr: SocketAddr) -> Origin {
    Origin::script_at(addr, |conn| {
        while let Ok(request) = conn.try_request() {
            let n: usize = request.target[1..].parse().unwrap();
            let body = body_of(n);
            let bytes = if n.is_multiple_of(2) {
                let mut out = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                out.push_str(&body);
                out
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                    body.len()
                )
            };
            // In two pieces, so that a kill may come in the middle.
            let (a, b) = bytes.split_at(bytes.len() / 2);
            if conn.try_send(a).is_err() || conn.try_send(b).is_err() {
                return;
            }
        }
    })
}

fn body_of(n: usize) -> String {
    let unit = format!("<{n}>");
    unit.repeat(1 + n % 700)
}

/// What came of one request.
fn ask(client: &mut Client, n: usize) -> Result<&'static str, String> {
    client.send(format!("GET /{n} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
    match client.wire.response("GET") {
        Ok(r) if r.status == 200 && r.text() == body_of(n) => Ok("right"),
        Ok(r) if r.status == 200 => Err(format!("/{n} got a wrong body: {:.60}", r.text())),
        Ok(r) if matches!(r.status, 502..=504) => Ok("refused"),
        Ok(r) => Err(format!("/{n} got {}", r.status)),
        // Broken off in the body, where no status can say so any more.
        Err(Broken::Truncated(_) | Broken::Reset) => Ok("broken"),
        Err(e) => Err(format!("/{n}: {e:?}")),
    }
}

#[test]
fn ten_thousand_requests_while_an_origin_is_killed_and_restarted() {
    let steady = answering("127.0.0.1:0".parse().unwrap());
    let fragile = answering("127.0.0.1:0".parse().unwrap());
    let addr = fragile.addr();
    let toml =
        format!("[logging]\nlog_requests = false\n{}", site(&[&steady.url(), &fragile.url()], ""));
    let ravelin = Ravelin::start(&toml);

    let next = Arc::new(AtomicUsize::new(0));
    let outcomes: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(CONNECTIONS + 1));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (next, outcomes, start) = (next.clone(), outcomes.clone(), start.clone());
            let to = ravelin.addr();
            std::thread::spawn(move || {
                let mut client = Client::connect(to);
                start.wait();
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= REQUESTS {
                        return;
                    }
                    let outcome = ask(&mut client, n);
                    if !matches!(outcome, Ok("right")) {
                        // A refusal may close the connection; a break always does.
                        client = Client::connect(to);
                    }
                    let key = match outcome {
                        Ok(kind) => kind.to_owned(),
                        Err(what) => what,
                    };
                    *outcomes.lock().unwrap().entry(key).or_default() += 1;
                }
            })
        })
        .collect();

    // Kill and restart the fragile origin whenever another five hundred requests are through.
    let killer = std::thread::spawn({
        let (next, done) = (next.clone(), done.clone());
        let mut origin = Some(fragile);
        move || {
            let mut at = 250;
            while !done.load(Ordering::SeqCst) && at < REQUESTS {
                if next.load(Ordering::SeqCst) < at {
                    std::thread::yield_now();
                    continue;
                }
                match origin.take() {
                    Some(mut alive) => alive.kill(),
                    None => origin = Some(answering(addr)),
                }
                at += 500;
            }
        }
    });
    start.wait();
    for client in clients {
        client.join().expect("a client hung or failed");
    }
    done.store(true, Ordering::SeqCst);
    killer.join().unwrap();

    let outcomes = outcomes.lock().unwrap();
    let total: usize = outcomes.values().sum();
    assert_eq!(total, REQUESTS, "{outcomes:?}");
    let known = ["right", "refused", "broken"];
    assert!(outcomes.keys().all(|k| known.contains(&k.as_str())), "{outcomes:?}");
    let right = outcomes.get("right").copied().unwrap_or(0);
    assert!(right > REQUESTS / 3, "the steady origin alone serves half: {outcomes:?}");

    // And afterwards it is as if nothing had happened.
    let mut client = ravelin.client();
    assert_eq!(client.get("/2").status / 100, if right > 0 { 2 } else { 5 });
}
