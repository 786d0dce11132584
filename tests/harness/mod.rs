//! What every black-box test uses: a running Ravelin, a raw client, scripted origins, real peers.
//!
//! What holds here: nothing sleeps to wait for something, every wait ends (with a panic that says
//! what was waited for), no port is fixed, and nothing outlives the test that made it.

mod async_origin;
mod backend;
mod browser;
mod certificates;
mod client;
mod dns;
mod fleet;
mod http2;
mod json;
mod load;
mod message;
mod origin;
#[allow(dead_code, reason = "other tests use the rest")]
pub mod pebble;
mod peers;
mod process;
mod proxy_protocol;
mod ravelin;
mod same;
mod temp;
mod tls_client;

pub use async_origin::*;
pub use backend::*;
pub use browser::*;
pub use certificates::*;
pub use client::*;
pub use dns::*;
pub use fleet::*;
pub use http2::*;
pub use json::*;
pub use load::*;
pub use message::*;
pub use origin::*;
pub use peers::*;
pub use process::*;
pub use proxy_protocol::*;
pub use ravelin::*;
pub use same::*;
pub use temp::*;
pub use tls_client::*;

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// The longest any single wait may take. Generous: it is only ever reached by a failing test.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A door that is opened once; whoever waits at it goes on then.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn new() -> Gate {
        Gate::default()
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open; panics when it stays shut.
    pub fn pass(&self) {
        let guard = self.0.0.lock().unwrap();
        let (guard, timeout) = self.0.1.wait_timeout_while(guard, PATIENCE, |open| !*open).unwrap();
        // A panic with the lock held would make the test fail for the wrong reason.
        drop(guard);
        assert!(!timeout.timed_out(), "nobody opened the gate");
    }
}

/// The next value of a channel; panics when none comes.
pub fn next<T>(from: &Receiver<T>, what: &str) -> T {
    from.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// `len` bytes that differ from place to place, so that lost, doubled or swapped pieces show.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Compares long bodies without printing them.
#[track_caller]
pub fn assert_same_bytes(got: &[u8], want: &[u8]) {
    if let Some(at) = got.iter().zip(want).position(|(a, b)| a != b) {
        panic!("bodies differ from byte {at} on ({} and {} bytes)", got.len(), want.len());
    }
    assert_eq!(got.len(), want.len(), "one body is a prefix of the other");
}
