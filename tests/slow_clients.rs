//! Clients that hold on to something without using it.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::harness::*;

fn limits(keys: &str, origin: &Origin) -> Ravelin {
    Ravelin::start(&format!("[limits]\n{keys}\n{}", site(&[&origin.url()], "")))
}

/// Sends `piece` again and again, as slowly as `pace`, until Ravelin ends the connection; what
/// came back, and after how long. The pace is what is tested, so it is the one clock here.
fn drip(client: &mut Client, piece: &str, pace: Duration) -> (Vec<u8>, Duration) {
    let start = Instant::now();
    client.wire.sock.set_patience(pace);
    while start.elapsed() < PATIENCE {
        client.send(piece);
        match client.wire.some() {
            Err(Broken::TimedOut) => {}
            Ok(bytes) => {
                client.wire.sock.set_patience(PATIENCE);
                let rest = client.wire.rest().unwrap_or_default();
                return ([bytes, rest].concat(), start.elapsed());
            }
            Err(_) => return (Vec::new(), start.elapsed()),
        }
    }
    panic!("a client that drips is served for ever");
}

#[test]
fn slowloris_a_head_that_never_ends_is_408_after_the_head_timeout() {
    let origin = Origin::saying("");
    let ravelin = limits("head_timeout = 1", &origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n");
    let (answer, time) = drip(&mut client, "X-A: b\r\n", Duration::from_millis(50));
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 408 ") || text.is_empty(), "{text}");
    assert!(time >= Duration::from_millis(900), "ended after {time:?}");
    assert!(time < Duration::from_secs(4), "ended after {time:?}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn slowloris_a_byte_now_and_then_does_not_extend_the_head_timeout() {
    let origin = Origin::saying("");
    let ravelin = limits("head_timeout = 1", &origin);
    let mut client = ravelin.client();
    let (_, time) = drip(&mut client, "G", Duration::from_millis(100));
    assert!(time < Duration::from_secs(4), "ended after {time:?}");
}

#[test]
fn the_head_timeout_holds_for_the_second_request_too() {
    let origin = Origin::saying("");
    let ravelin = limits("head_timeout = 1", &origin);
    let mut client = ravelin.client();
    client.get("/").expect(200);
    let (_, time) = drip(&mut client, "X", Duration::from_millis(100));
    assert!(time < Duration::from_secs(4), "ended after {time:?}");
}

#[test]
fn a_slow_body_is_ended_after_its_grace() {
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        gone.send(conn.try_request().err()).unwrap();
    });
    let ravelin = limits("body_min_rate = 10000\nbody_grace = 1", &origin);
    let mut client = ravelin.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000\r\n\r\n");
    let (answer, time) = drip(&mut client, "x", Duration::from_millis(50));
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 408 ") || text.is_empty(), "{text}");
    assert!(time >= Duration::from_millis(900) && time < Duration::from_secs(6), "{time:?}");
    assert!(next(&closed, "the upstream request to break").is_some());
}

#[test]
fn a_slow_reader_is_ended_after_its_grace() {
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![0; 1 << 20];
        while conn.try_send(&piece).is_ok() {}
        gone.send(()).unwrap();
    });
    let ravelin = limits("body_min_rate = 10000\nbody_grace = 1", &origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.wire.head().unwrap();
    // Reads nothing more.
    next(&closed, "the upstream connection to be given up");
}

#[test]
fn a_body_at_an_honest_pace_may_take_its_time() {
    let origin = Origin::serve(|r| ok(&r.body.len().to_string()));
    let ravelin = limits("body_min_rate = 100\nbody_grace = \"500ms\"", &origin);
    let mut client = ravelin.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4000\r\n\r\n");
    client.wire.sock.set_patience(Duration::from_millis(100));
    for _ in 0..20 {
        client.send("x".repeat(200));
        // Waiting in vain for an answer that is not due is the pace: 2000 bytes a second.
        let early = client.wire.some();
        assert!(early == Err(Broken::TimedOut) || origin.requests().len() == 1, "{early:?}");
    }
    assert_eq!(origin.request(0).body.len(), 4000);
}

#[test]
fn a_connection_that_never_speaks_is_closed() {
    let origin = Origin::saying("");
    let toml = format!(
        "[performance]\nkeep_alive_timeout = 1\n[limits]\nhead_timeout = 1\n{}",
        site(&[&origin.url()], "")
    );
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    client.expect_close();
}

#[test]
fn a_thousand_slow_connections_do_not_hold_up_an_honest_one() {
    let origin = Origin::saying("served");
    let ravelin = Ravelin::before(&origin);
    let mut slow: Vec<Client> = (0..1000).map(|_| ravelin.client()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\nX-Slow: ");
    }
    let mut client = ravelin.client();
    let start = Instant::now();
    for _ in 0..100 {
        client.get("/").expect(200);
    }
    let time = start.elapsed();
    assert!(time < Duration::from_secs(3), "100 requests took {time:?}");
    let rss = memory_kib(ravelin.pid(), "VmRSS");
    assert!(rss < 100 * 1024, "{rss} KiB resident");
}

#[test]
fn an_honest_reader_on_a_slow_line_is_not_cut_off() {
    // Megabytes are in the kernel's buffers before the reader's pace is felt, and more is taken from
    // the proxy only when a good part of them is gone: for far longer than the grace time.
    let (gone, closed) = channel();
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![0; 1 << 20];
        while conn.try_send(&piece).is_ok() {}
        let _ = gone.send(());
    });
    let ravelin = limits("body_min_rate = 1000\nbody_grace = 1", &origin);
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.wire.head().unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        client.wire.bytes(20_000).unwrap();
        assert!(closed.recv_timeout(Duration::from_millis(100)).is_err(), "{:?}", start.elapsed());
    }
}
