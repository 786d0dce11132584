//! Autobahn|Testsuite through Ravelin: what it says of an echo server must be the same, case by
//! case, whether it speaks to the server or to Ravelin before it.
//!
//! The suite lives in `target/autobahn`, where `.ci/autobahn` installs it. `RAVELIN_AUTOBAHN` is a
//! list of the cases to run, as `1.*,5.3`; `all` are all of them, which takes an hour. Without
//! it those are run that take no more than seconds.

#![forbid(unsafe_code)]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, unused_imports, reason = "the other tests use the rest")]
#[path = "../harness/mod.rs"]
mod harness;
mod suite;
mod verdicts;

use harness::*;
use suite::Echo;

#[test]
fn a_byte_pipe_changes_no_verdict() {
    let echo = Echo::start();
    let ravelin = Ravelin::start(&plain(&echo, ""));
    echo.assert_same_through("byte-pipe", &format!("ws://{}", ravelin.addr()));
}

#[test]
fn a_byte_pipe_to_a_client_that_speaks_tls_changes_no_verdict() {
    let echo = Echo::start();
    let ravelin = over_tls(&echo, "");
    echo.assert_same_through("byte-pipe-tls", &format!("wss://{}", ravelin.addr()));
}

/// What makes Ravelin look at frames: limits that no case reaches.
const FRAMES: &str = "[sites.proxy.websocket]\nclient_max_message_size = \"64MB\"\n\
                      server_max_message_size = \"64MB\"\n";

#[test]
fn looking_at_frames_changes_no_verdict() {
    let echo = Echo::start();
    let ravelin = Ravelin::start(&plain(&echo, FRAMES));
    echo.assert_same_through("frames", &format!("ws://{}", ravelin.addr()));
}

#[test]
fn looking_at_frames_of_a_client_that_speaks_tls_changes_no_verdict() {
    let echo = Echo::start();
    let ravelin = over_tls(&echo, FRAMES);
    echo.assert_same_through("frames-tls", &format!("wss://{}", ravelin.addr()));
}

/// The echo server refuses a `Host` that names another port than its own.
const OWN_HOST: &str = "[sites.proxy.headers]\npreserve_host = false\n";

fn plain(echo: &Echo, more: &str) -> String {
    site(&[&echo.url()], &format!("websocket = true\n{OWN_HOST}{more}"))
}

fn over_tls(echo: &Echo, more: &str) -> Ravelin {
    let pair = Authority::new().server(&["127.0.0.1"]);
    let toml = tls_site("127.0.0.1", &format!("{OWN_HOST}{more}"), &echo.url());
    Setup::new(&toml).pair("127.0.0.1", &pair).start()
}
