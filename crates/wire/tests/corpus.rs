//! Runs the checked-in corpus of every fuzz target through the function the fuzzer uses.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, clippy::expect_used)]
mod promises;

fn run(target: &str, promise: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut seen = 0;
    for entry in std::fs::read_dir(&corpus).expect("the corpus is checked in") {
        let data = std::fs::read(entry.expect("readable").path()).expect("readable");
        promise(&data);
        // The fuzzer starts from these; so do the nearest neighbours here.
        for end in 0..data.len() {
            promise(&data[..end]);
        }
        for at in 0..data.len() {
            for byte in *b"\r\n\0 :;,/.%0\xff" {
                let mut changed = data.clone();
                changed[at] = byte;
                promise(&changed);
            }
        }
        seen += 1;
    }
    assert!(seen >= 10, "{} holds only {seen} files", corpus.display());
}

#[test]
fn request_head() {
    run("request_head", promises::request_head);
}

#[test]
fn response_head() {
    run("response_head", promises::response_head);
}

#[test]
fn chunked() {
    run("chunked", promises::chunked);
}

#[test]
fn target() {
    run("target", promises::target);
}

#[test]
fn proxy_protocol() {
    run("proxy_protocol", promises::proxy_protocol);
}

#[test]
fn websocket() {
    run("websocket", promises::websocket);
}
