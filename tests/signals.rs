//! How it ends.

use std::sync::mpsc::channel;

use crate::harness::*;

/// An origin whose answers wait for the gate.
fn slow(gate: &Gate) -> (Origin, std::sync::mpsc::Receiver<()>) {
    let (came, arrived) = channel();
    let gate = gate.clone();
    let origin = Origin::serve(move |request| {
        if request.target == "/slow" {
            let _ = came.send(());
            gate.pass();
        }
        ok("finished")
    });
    (origin, arrived)
}

#[test]
fn sigterm_lets_an_active_request_finish_then_ends_with_0() {
    let gate = Gate::new();
    let (origin, arrived) = slow(&gate);
    let mut ravelin = Ravelin::before(&origin);
    let mut idle = ravelin.client();
    idle.get("/").expect(200);
    let mut active = ravelin.client();
    active.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&arrived, "the request at the origin");

    ravelin.signal("TERM");
    // Idle connections are closed at once, ...
    idle.expect_close();
    // ... soon nobody new is let in (and who slipped in is served or closed, never left alone), ...
    let addr = ravelin.addr();
    let deadline = std::time::Instant::now() + PATIENCE;
    while let Ok(stream) = std::net::TcpStream::connect(addr) {
        let sock = Sock::Tcp(stream);
        sock.set_patience(PATIENCE);
        let mut late = Wire::new(sock);
        let _ = late.sock.write_all(b"GET /late HTTP/1.1\r\nHost: example.com\r\n\r\n");
        match late.response("GET") {
            Ok(response) => assert_eq!(response.status, 200),
            Err(e) => assert!(matches!(e, Broken::Closed | Broken::Reset), "{e:?}"),
        }
        assert!(
            std::time::Instant::now() < deadline,
            "new connections are accepted while draining"
        );
    }
    // ... and what is under way is finished.
    assert!(ravelin.runs());
    gate.open();
    let response = active.response("GET").expect(200);
    assert_eq!(response.text(), "finished");
    active.expect_close();
    assert_eq!(ravelin.exit().code(), Some(0));
}

#[test]
fn sigterm_without_connections_ends_at_once() {
    let origin = Origin::saying("");
    let mut ravelin = Ravelin::before(&origin);
    ravelin.signal("TERM");
    assert_eq!(ravelin.exit().code(), Some(0));
}

#[test]
fn sigint_ends_with_0() {
    let origin = Origin::saying("");
    let mut ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(200);
    ravelin.signal("INT");
    assert_eq!(ravelin.exit().code(), Some(0));
}

#[test]
fn sigquit_ends_at_once_with_requests_under_way() {
    let gate = Gate::new();
    let (origin, arrived) = slow(&gate);
    let mut ravelin = Ravelin::before(&origin);
    let mut active = ravelin.client();
    active.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&arrived, "the request at the origin");
    ravelin.signal("QUIT");
    ravelin.exit();
    assert!(active.wire.response("GET").is_err());
    gate.open();
}

#[test]
fn a_second_sigterm_does_not_wait_for_the_first() {
    let gate = Gate::new();
    let (origin, arrived) = slow(&gate);
    let mut ravelin = Ravelin::before(&origin);
    let mut active = ravelin.client();
    active.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&arrived, "the request at the origin");
    let mut idle = ravelin.client();
    idle.get("/").expect(200);
    ravelin.signal("TERM");
    idle.expect_close();
    ravelin.signal("TERM");
    ravelin.exit();
    gate.open();
}

#[test]
fn a_client_that_hangs_up_while_draining_does_not_hold_it() {
    let gate = Gate::new();
    let (origin, arrived) = slow(&gate);
    let mut ravelin = Ravelin::before(&origin);
    let mut active = ravelin.client();
    active.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&arrived, "the request at the origin");
    ravelin.signal("TERM");
    drop(active);
    assert_eq!(ravelin.exit().code(), Some(0));
    gate.open();
}

#[test]
fn a_closed_standard_output_does_not_kill_it() {
    // SIGPIPE: the log's reader goes away.
    let origin = Origin::saying("still here");
    let dir = TempDir::new();
    dir.write("ravelin.toml", site(&[&origin.url()], ""));
    let mut child = std::process::Command::new(binary())
        .args(["run", "-c", "ravelin.toml"])
        .current_dir(dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let stderr = Lines::read(child.stderr.take().unwrap());
    let addr = stderr.line_with(&["listening on "]).rsplit(' ').next().unwrap().parse().unwrap();
    let mut client = Client::connect(addr);
    for _ in 0..100 {
        assert_eq!(client.get("/").text(), "still here");
    }
    let _ = child.kill();
    let _ = child.wait();
}
