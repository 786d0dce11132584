//! Servers of a pool that say their names, and can be made ill or slow while a test runs.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{Client, Gate, Origin, PATIENCE, next};

/// An origin that answers with its name, as long as it is well.
pub struct Backend {
    origin: Origin,
    state: Arc<State>,
    held: Receiver<()>,
}

struct State {
    status: AtomicU16,
    asked: AtomicUsize,
    gate: Mutex<Option<Gate>>,
}

impl Backend {
    pub fn new(name: &str) -> Backend {
        let state = Arc::new(State {
            status: AtomicU16::new(200),
            asked: AtomicUsize::new(0),
            gate: Mutex::default(),
        });
        let (came, held) = channel();
        let (name, shared) = (name.to_owned(), state.clone());
        let origin = Origin::serve(move |_| {
            shared.asked.fetch_add(1, Ordering::SeqCst);
            let gate = shared.gate.lock().unwrap().clone();
            if let Some(gate) = gate {
                let _ = came.send(());
                gate.pass();
            }
            let status = shared.status.load(Ordering::SeqCst);
            let head = format!("HTTP/1.1 {status} Made up\r\nContent-Length: {}", name.len());
            format!("{head}\r\n\r\n{name}").into_bytes()
        });
        Backend { origin, state, held }
    }

    pub fn url(&self) -> String {
        self.origin.url()
    }

    /// Answers with this status from now on.
    pub fn set_status(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// Requests that have come.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Holds requests from now on until this is opened; later ones pass.
    pub fn hold(&self) -> Gate {
        let gate = Gate::new();
        *self.state.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    /// Waits until a request that is held has come.
    #[track_caller]
    pub fn await_held(&self) {
        next(&self.held, "a request that is held");
    }

    /// No request that is held has come for which nobody waited.
    pub fn holds_no_more(&self) -> bool {
        self.held.try_recv().is_err()
    }

    /// Holds no more requests.
    pub fn hold_none(&self) {
        *self.state.gate.lock().unwrap() = None;
    }

    pub fn kill(&mut self) {
        self.origin.kill();
    }
}

/// The names of those that answered so many requests in turn.
#[track_caller]
pub fn order(client: &mut Client, count: usize) -> String {
    (0..count).map(|_| client.get("/").expect(200).text()).collect()
}

/// Tries until it holds; panics when it never does.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
