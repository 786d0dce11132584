//! Workers: one thread a core, each with a runtime, sockets, buffers and deadlines of its own.
//!
//! What always holds: what a worker owns stays on its thread (`Rc`, `Cell`, no lock); workers meet
//! only in the counters of `admission` and in the bounded queues of sockets handed over; stopping
//! closes the listening sockets first, so that no connection is taken and then dropped unserved.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

pub use crate::accept::Accepted;
use crate::accept::{Door, HAND_OVER_MAX, Handed, Listener, accept_all, receive};
pub use crate::admission::ConnectionGuard;
use crate::admission::{Admission, Limits, Load};
use crate::buffer::Pool;
pub use crate::cores::worker_count;
use crate::descriptors::Reserve;
use crate::listener::{Bound, SocketFile};
use crate::splice::PipePool;
use crate::timer::{Tick, Timers};

/// How to run workers.
#[derive(Debug)]
pub struct Options {
    /// How many; at least one is started.
    pub workers: usize,
    /// Where they accept connections.
    pub listeners: Vec<Bound>,
    /// Connections at once over all workers; more wait in the backlog. `None`: no limit.
    pub max_connections: Option<usize>,
    /// Connections at once of one client address (IPv6: /64); more are closed at once. `None`: no
    /// limit.
    pub max_per_address: Option<usize>,
}

/// What a worker has for the tasks it runs. Clones share everything.
#[derive(Clone)]
pub struct WorkerContext {
    /// The worker's number, from 0.
    pub id: usize,
    /// Its free buffers.
    pub buffers: Pool,
    /// Its deadlines.
    pub timers: Timers,
    /// Its free pipes.
    pub pipes: PipePool,
    stopping: Rc<Cell<bool>>,
}

/// Running workers. Dropping this ends them, and the connections they have, at once.
pub struct Workers {
    admission: Arc<Admission>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    files: Mutex<Vec<SocketFile>>,
}

/// What one worker has counted since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections it has now.
    pub connections: usize,
    /// Connections it took off a listening socket.
    pub accepted: u64,
    /// Of those, how many it gave to another worker.
    pub handed_over: u64,
    /// Connections closed because their address had as many as it may.
    pub refused: u64,
    /// Times that accepting paused for want of descriptors or memory.
    pub shortages: u64,
    /// Other failures of accepting or of registering a connection.
    pub errors: u64,
}

/// Starts the workers and returns when all of them accept connections.
///
/// On each worker `init` makes its state, and `accepted` is called for each connection: it should
/// spawn a local task and return. When stopping begins, every task that has polled a
/// [`crate::timer::Deadline`] is woken to look at [`WorkerContext::stopping`].
///
/// # Errors
/// A thread, runtime or descriptor is not to be had; nothing is left running.
pub fn start<S: 'static>(
    options: Options,
    init: impl Fn(&WorkerContext) -> S + Send + Clone + 'static,
    accepted: impl Fn(&S, Accepted) + Send + Clone + 'static,
) -> io::Result<Workers> {
    let count = options.workers.max(1);
    let limits = Limits {
        connections: options.max_connections,
        of_listeners: options.listeners.iter().map(|bound| bound.max_connections).collect(),
        per_address: options.max_per_address,
    };
    let admission = Arc::new(Admission::new(count, limits));
    let (mut sockets, files) = share_out(options.listeners, count);
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::channel(HAND_OVER_MAX)).unzip();
    let (ready, all_ready) = std_mpsc::channel();
    let workers = Workers {
        admission: Arc::clone(&admission),
        threads: Mutex::default(),
        files: Mutex::new(files),
    };
    for (id, inbox) in inboxes.into_iter().enumerate() {
        let (init, accepted, ready) = (init.clone(), accepted.clone(), ready.clone());
        let seed = Seed {
            id,
            admission: Arc::clone(&admission),
            sockets: sockets.get_mut(id).map(std::mem::take).unwrap_or_default(),
            others: senders.clone(),
            inbox,
        };
        let main = move || match runtime() {
            Ok(runtime) => {
                runtime.block_on(run(seed, init, accepted, ready));
                runtime.shutdown_background();
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let thread = thread::Builder::new().name(format!("worker-{id}")).spawn(main)?;
        workers.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }
    drop(ready);
    for _ in 0..count {
        // A worker that is gone without a word has panicked in `init`.
        all_ready.recv().unwrap_or_else(|_| Err(io::Error::other("a worker did not start")))?;
    }
    Ok(workers)
}

impl Workers {
    /// Stops: no further connections, idle ones are told, and what is left after `grace` is cut.
    /// Returns at once; [`Workers::join`] waits. Called again, the new `grace` counts.
    pub fn stop(&self, grace: Duration) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let now = Instant::now();
        self.admission.stop_by(now.checked_add(grace).unwrap_or(now));
    }

    /// Waits until every worker has ended.
    pub fn join(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join(); // a panic has been reported by its hook
        }
    }

    /// The counters of each worker.
    pub fn counters(&self) -> Vec<Counters> {
        self.admission.loads().iter().map(Counters::of).collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl WorkerContext {
    /// The context of worker `id`, on the runtime this is called on. Workers make their own; this
    /// is for running what serves connections without them.
    ///
    /// # Panics
    /// Outside of a `LocalRuntime`.
    pub fn start(id: usize) -> Self {
        Self {
            id,
            buffers: Pool::new(),
            timers: Timers::start(),
            pipes: PipePool::new(),
            stopping: Rc::default(),
        }
    }

    /// The present, coarsely and without a system call.
    pub fn now(&self) -> Tick {
        Tick::now()
    }

    /// Whether the worker is to end: a connection should close as soon as it is between requests.
    pub fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Says that the worker is to end, and wakes every task that has polled a deadline.
    pub fn begin_stopping(&self) {
        self.stopping.set(true);
        self.timers.wake_all();
    }
}

impl Counters {
    fn of(load: &Load) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            connections: load.connections(),
            accepted: read(&load.accepted),
            handed_over: read(&load.handed_over),
            refused: read(&load.refused),
            shortages: read(&load.shortages),
            errors: read(&load.errors),
        }
    }
}

/// What a worker's thread is given.
struct Seed {
    id: usize,
    admission: Arc<Admission>,
    sockets: Vec<(usize, OwnedFd)>,
    others: Vec<mpsc::Sender<Handed>>,
    inbox: mpsc::Receiver<Handed>,
}

/// A runtime as every worker has it: one thread, tasks that stay on it.
///
/// # Errors
/// No descriptor for its epoll instance.
pub fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// A worker's main task, from start to end.
async fn run<S: 'static>(
    seed: Seed,
    init: impl Fn(&WorkerContext) -> S,
    accepted: impl Fn(&S, Accepted) + 'static,
    ready: std_mpsc::Sender<io::Result<()>>,
) {
    let Seed { id, admission, sockets, others, inbox } = seed;
    let context = WorkerContext::start(id);
    let state = init(&context);
    let serve = Box::new(move |connection| accepted(&state, connection));
    let (door, listeners) = match open(id, &admission, sockets, others, serve) {
        Ok(open) => open,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let accepting: Vec<_> = listeners
        .iter()
        .map(|listener| tokio::task::spawn_local(accept_all(Rc::clone(&door), Rc::clone(listener))))
        .collect();
    tokio::task::spawn_local(receive(Rc::clone(&door), inbox));
    if ready.send(Ok(())).is_err() {
        return; // another worker failed, and `start` has given up
    }
    drop(ready); // so that `start` notices a worker that says nothing
    let load = admission.load(id);
    while admission.stop_deadline().is_none() {
        load.wake.notified().await;
    }
    for task in accepting {
        task.abort();
    }
    listeners.iter().for_each(|listener| door.empty(listener));
    drop(listeners);
    context.begin_stopping();
    drain(&admission, load).await;
}

/// Waits until the worker has no connection, or until the time to cut them.
async fn drain(admission: &Admission, load: &Load) {
    while load.connections() > 0 {
        let Some(deadline) = admission.stop_deadline() else { return };
        if Instant::now() >= deadline {
            return;
        }
        // Either way the state is looked at again.
        let _ = tokio::time::timeout_at(deadline.into(), load.wake.notified()).await;
    }
}

/// Registers a worker's listening sockets.
fn open(
    worker: usize,
    admission: &Arc<Admission>,
    sockets: Vec<(usize, OwnedFd)>,
    others: Vec<mpsc::Sender<Handed>>,
    serve: Box<dyn Fn(Accepted)>,
) -> io::Result<(Rc<Door>, Vec<Rc<Listener>>)> {
    let reserve = RefCell::new(Reserve::new()?);
    let admission = Arc::clone(admission);
    let listeners = sockets.into_iter().map(|(index, socket)| {
        let listener = Listener::register(index, socket)?;
        Ok(Rc::new(listener))
    });
    let listeners = listeners.collect::<io::Result<_>>()?;
    Ok((Rc::new(Door { worker, admission, others, reserve, serve }), listeners))
}

/// Gives each worker its sockets, each with the number of its listener. An address with fewer
/// sockets than workers is accepted by some and reaches the others by hand-over.
fn share_out(
    listeners: Vec<Bound>,
    workers: usize,
) -> (Vec<Vec<(usize, OwnedFd)>>, Vec<SocketFile>) {
    let mut sockets: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    let mut files = Vec::new();
    for (index, bound) in listeners.into_iter().enumerate() {
        files.extend(bound.file);
        // One-socket addresses start at different workers.
        let first = if bound.sockets.len() == 1 { index } else { 0 };
        for (number, socket) in bound.sockets.into_iter().enumerate() {
            if let Some(worker) = sockets.get_mut((first + number) % workers) {
                worker.push((index, socket));
            }
        }
    }
    (sockets, files)
}
