//! Workers: one thread a core, each with a runtime, sockets, buffers and deadlines of its own.
//!
//! What always holds: what a worker owns stays on its thread (`Rc`, `Cell`, no lock); workers meet
//! only in the counters of `admission` and in the bounded queues of sockets handed over; who is no
//! worker reaches what they own only by errands that they run themselves ([`Workers::ask`]); stopping
//! closes the listening sockets first, so that no connection is taken and then dropped unserved; while
//! accepting is paused they stay open, and nothing is taken off them, until they are let go.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

pub use crate::accept::Accepted;
use crate::accept::{Door, HAND_OVER_MAX, Handed, Listener, accept_all, receive};
pub use crate::admission::ConnectionGuard;
use crate::admission::{Admission, Limits, Load, places};
use crate::buffer::Pool;
use crate::clock;
pub use crate::cores::worker_count;
use crate::descriptors::Reserve;
use crate::listener::{Bound, Listen, Local, SocketFile, local_of};
use crate::splice::PipePool;
use crate::timer::{Tick, Timers};

/// Errands under way to one worker; those who have more wait.
const ERRANDS_MAX: usize = 64;

/// How to run workers.
#[derive(Debug)]
pub struct Options {
    /// How many; at least one is started.
    pub workers: usize,
    /// Where they accept connections; the number of a listener is its place here.
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
    life: Rc<Cell<Life>>,
}

/// What part of its life a worker is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Life {
    /// It takes connections and keeps them.
    #[default]
    Serves,
    /// Another process takes the connections that come. Those that are open end between two requests,
    /// each after one that was told so if there is another; tunnels stay. This may be taken back.
    Drains,
    /// It is to end.
    Stops,
}

/// Running workers, each with a state `S` of its own. Dropping this ends them, and the connections they
/// have, at once.
pub struct Workers<S: 'static> {
    admission: Arc<Admission>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// What they listen with, by the number of the listener.
    listeners: Mutex<BTreeMap<usize, Kept>>,
    errands: Vec<mpsc::Sender<Errand<S>>>,
}

/// Something that a worker is to do for somebody else.
enum Errand<S> {
    /// Look at its state.
    Look(Box<dyn FnOnce(&S) + Send>),
    /// Accept connections here too.
    Open(Socket, oneshot::Sender<io::Result<()>>),
    /// Accept no more connections of this listener.
    Close(usize),
    /// Accept no more connections for now, leave those that wait, and let those that are open end.
    Pause(Life, oneshot::Sender<()>),
    /// Keep connections again.
    Resume,
}

/// A listening socket of one worker, not yet registered.
struct Socket {
    /// Which listener it belongs to.
    index: usize,
    socket: Arc<OwnedFd>,
    places: Option<Arc<Semaphore>>,
}

/// A listener, for as long as it is open.
struct Kept {
    listen: Listen,
    sockets: Vec<Arc<OwnedFd>>,
    places: Option<Arc<Semaphore>>,
    /// Removed when the listener is closed.
    file: Option<SocketFile>,
}

/// The sockets of a listener, to be passed to another process.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// What was asked for.
    pub listen: Listen,
    /// One for each worker, or one for all.
    pub sockets: Vec<Arc<OwnedFd>>,
    /// There is a file that whoever closes them for good has to remove.
    pub has_file: bool,
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
) -> io::Result<Workers<S>> {
    let count = options.workers.max(1);
    let limits =
        Limits { connections: options.max_connections, per_address: options.max_per_address };
    let admission = Arc::new(Admission::new(count, limits));
    let listeners: BTreeMap<usize, Kept> =
        options.listeners.into_iter().map(Kept::new).enumerate().collect();
    let mut sockets = share_out(&listeners, count);
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::channel(HAND_OVER_MAX)).unzip();
    let (errands, to_do): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(ERRANDS_MAX)).unzip();
    let (ready, all_ready) = std_mpsc::channel();
    let workers = Workers {
        admission: Arc::clone(&admission),
        threads: Mutex::default(),
        listeners: Mutex::new(listeners),
        errands,
    };
    for (id, (inbox, errands)) in inboxes.into_iter().zip(to_do).enumerate() {
        let (init, accepted, ready) = (init.clone(), accepted.clone(), ready.clone());
        let seed = Seed {
            id,
            admission: Arc::clone(&admission),
            sockets: sockets.get_mut(id).map(std::mem::take).unwrap_or_default(),
            others: senders.clone(),
            inbox,
            errands,
        };
        let main = move || match runtime() {
            Ok(runtime) => {
                runtime.block_on(run(seed, init, accepted, ready));
                runtime.shutdown_background();
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let thread = thread::Builder::new().name(format!("worker-{id}")).spawn(main)?;
        lock(&workers.threads).push(thread);
    }
    drop(ready);
    for _ in 0..count {
        // A worker that is gone without a word has panicked in `init`.
        all_ready.recv().unwrap_or_else(|_| Err(io::Error::other("a worker did not start")))?;
    }
    Ok(workers)
}

impl<S: 'static> Workers<S> {
    /// Has every worker look at its state, and returns what each saw, without those that have ended.
    /// `look` runs between two steps of the worker's tasks: it must not take long.
    pub async fn ask<T: Send + 'static>(
        &self,
        look: impl Fn(&S) -> T + Send + Clone + 'static,
    ) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.errands.len());
        for worker in &self.errands {
            let (answer, answered) = oneshot::channel();
            let look = look.clone();
            let errand = Errand::Look(Box::new(move |state| drop(answer.send(look(state)))));
            if worker.send(errand).await.is_ok() {
                answers.push(answered);
            }
        }
        let mut all = Vec::with_capacity(answers.len());
        for answered in answers {
            all.extend(answered.await.ok());
        }
        all
    }

    /// Accepts connections at `bound` too, as listener `index`, which no other may have. Connections
    /// may come before this returns.
    ///
    /// # Errors
    /// A worker cannot register its socket; then none of them is left open.
    pub async fn open(&self, index: usize, bound: Bound) -> io::Result<()> {
        let kept = Kept::new(bound);
        let sockets = kept.share_out(index, self.errands.len());
        lock(&self.listeners).insert(index, kept);
        let result = self.register(sockets).await;
        if result.is_err() {
            self.close(index).await;
        }
        result
    }

    /// Accepts no more connections of listener `index`. What waits there already is taken first;
    /// connections that are open are not touched.
    pub async fn close(&self, index: usize) {
        let kept = lock(&self.listeners).remove(&index);
        for worker in &self.errands {
            // One that has ended accepts nothing.
            let _ = worker.send(Errand::Close(index)).await;
        }
        drop(kept);
    }

    /// The sockets of every listener that is open, for another process to accept connections with too.
    pub fn sockets(&self) -> Vec<Sockets> {
        lock(&self.listeners).values().map(Kept::sockets).collect()
    }

    /// Accepts no more connections and keeps the listening sockets: what waits there is for another
    /// process that has them, or for [`Workers::resume`]. `life` says what becomes of open connections.
    /// When this returns nothing more is taken.
    pub async fn pause(&self, life: Life) {
        let mut answers = Vec::with_capacity(self.errands.len());
        for worker in &self.errands {
            let (answer, answered) = oneshot::channel();
            if worker.send(Errand::Pause(life, answer)).await.is_ok() {
                answers.push(answered);
            }
        }
        for answered in answers {
            // One that has ended accepts nothing.
            let _ = answered.await;
        }
    }

    /// Takes [`Workers::pause`] back.
    ///
    /// # Errors
    /// A worker cannot register a socket; it does without.
    pub async fn resume(&self) -> io::Result<()> {
        for worker in &self.errands {
            let _ = worker.send(Errand::Resume).await;
        }
        let sockets = share_out(&lock(&self.listeners), self.errands.len());
        let sockets = sockets.into_iter().enumerate();
        self.register(
            sockets.flat_map(|(worker, sockets)| {
                sockets.into_iter().map(move |socket| (worker, socket))
            }),
        )
        .await
    }

    /// Closes the listening sockets while accepting is paused, and takes nothing off them: what waits there
    /// is for another process that has them. There is nothing to resume with after this.
    pub fn let_sockets_go(&self) {
        lock(&self.listeners).clear();
    }

    /// The same for the sockets that listen at `local`. Says whether there were any.
    pub fn let_socket_go(&self, local: &Local) -> bool {
        let mut listeners = lock(&self.listeners);
        let before = listeners.len();
        listeners.retain(|_, kept| !kept.listens_at(local));
        listeners.len() < before
    }

    /// Has each of these sockets accepted from by the worker it is for.
    async fn register(&self, sockets: impl IntoIterator<Item = (usize, Socket)>) -> io::Result<()> {
        let mut answers = Vec::new();
        for (worker, socket) in sockets {
            let (answer, answered) = oneshot::channel();
            let Some(errands) = self.errands.get(worker) else { continue };
            if errands.send(Errand::Open(socket, answer)).await.is_ok() {
                answers.push(answered);
            }
        }
        let mut result = Ok(());
        for answered in answers {
            result = result.and(answered.await.unwrap_or(Ok(())));
        }
        result
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.admission.loads().iter().map(Load::connections).sum()
    }

    /// Stops: no further connections, idle ones are told, and what is left after `grace` is cut.
    /// Returns at once; [`Workers::join`] waits. Called again, the new `grace` counts.
    pub fn stop(&self, grace: Duration) {
        lock(&self.listeners).clear();
        let now = Instant::now();
        self.admission.stop_by(now.checked_add(grace).unwrap_or(now));
    }

    /// Waits until every worker has ended.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            let _ = thread.join(); // a panic has been reported by its hook
        }
    }

    /// Most connections at once, of all listeners together; `None` where nothing limits them.
    pub fn connections_max(&self) -> Option<usize> {
        self.admission.connections_max()
    }

    /// The counters of each worker.
    pub fn counters(&self) -> Vec<Counters> {
        self.admission.loads().iter().map(Counters::of).collect()
    }
}

impl<S: 'static> Drop for Workers<S> {
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
            life: Rc::default(),
        }
    }

    /// The present, coarsely and without a system call.
    pub fn now(&self) -> Tick {
        Tick::now()
    }

    /// Whether a connection should close as soon as it is between requests.
    pub fn stopping(&self) -> bool {
        self.life.get() != Life::Serves
    }

    /// What part of its life the worker is in.
    pub fn life(&self) -> Life {
        self.life.get()
    }

    /// Says that the worker is to end, and wakes every task that has polled a deadline.
    pub fn begin_stopping(&self) {
        self.enter(Life::Stops);
    }

    fn enter(&self, life: Life) {
        self.life.set(life);
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
struct Seed<S> {
    id: usize,
    admission: Arc<Admission>,
    sockets: Vec<Socket>,
    others: Vec<mpsc::Sender<Handed>>,
    inbox: mpsc::Receiver<Handed>,
    errands: mpsc::Receiver<Errand<S>>,
}

/// A runtime as every worker has it: one thread, tasks that stay on it.
///
/// # Errors
/// No descriptor for its epoll instance.
pub fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(clock::sleep)
        .build_local(LocalOptions::default())
}

/// A worker's main task, from start to end.
async fn run<S: 'static>(
    seed: Seed<S>,
    init: impl Fn(&WorkerContext) -> S,
    accepted: impl Fn(&S, Accepted) + 'static,
    ready: std_mpsc::Sender<io::Result<()>>,
) {
    let Seed { id, admission, sockets, others, inbox, mut errands } = seed;
    let context = WorkerContext::start(id);
    let state = Rc::new(init(&context));
    let served = Rc::clone(&state);
    let serve = Box::new(move |connection| accepted(&served, connection));
    let mut open = match Open::new(id, &admission, others, serve) {
        Ok(open) => open,
        Err(error) => return drop(ready.send(Err(error))),
    };
    for socket in sockets {
        if let Err(error) = open.accept(socket) {
            return drop(ready.send(Err(error)));
        }
    }
    tokio::task::spawn_local(receive(Rc::clone(&open.door), inbox));
    if ready.send(Ok(())).is_err() {
        return; // another worker failed, and `start` has given up
    }
    drop(ready); // so that `start` notices a worker that says nothing
    let load = admission.load(id);
    while admission.stop_deadline().is_none() {
        if let Some(errand) = next_errand(&mut errands, load).await {
            open.run(errand, &state, &context);
        }
    }
    open.close_all();
    context.begin_stopping();
    tokio::task::spawn_local(async move {
        while let Some(errand) = errands.recv().await {
            // The others have no object any more; whoever waits is told by their end.
            if let Errand::Look(look) = errand {
                look(&state);
            }
        }
    });
    drain(&admission, load).await;
}

/// The next errand; `None` when the worker is woken instead.
async fn next_errand<S>(errands: &mut mpsc::Receiver<Errand<S>>, load: &Load) -> Option<Errand<S>> {
    let mut woken = pin!(load.wake.notified());
    poll_fn(|cx| match errands.poll_recv(cx) {
        Poll::Ready(Some(errand)) => Poll::Ready(Some(errand)),
        _ => woken.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// What a worker accepts connections with.
struct Open {
    door: Rc<Door>,
    /// By the number of the listener; each has at least one.
    listeners: HashMap<usize, Vec<(Rc<Listener>, AbortHandle)>>,
}

impl Open {
    fn new(
        worker: usize,
        admission: &Arc<Admission>,
        others: Vec<mpsc::Sender<Handed>>,
        serve: Box<dyn Fn(Accepted)>,
    ) -> io::Result<Self> {
        let reserve = RefCell::new(Reserve::new()?);
        let admission = Arc::clone(admission);
        let door = Rc::new(Door { worker, admission, others, reserve, serve });
        Ok(Self { door, listeners: HashMap::new() })
    }

    fn run<S>(&mut self, errand: Errand<S>, state: &S, context: &WorkerContext) {
        match errand {
            Errand::Look(look) => look(state),
            Errand::Open(socket, answer) => drop(answer.send(self.accept(socket))),
            Errand::Close(index) => self.close(index),
            Errand::Pause(life, done) => {
                self.leave_all();
                context.enter(life);
                let _ = done.send(());
            }
            Errand::Resume => context.enter(Life::Serves),
        }
    }

    fn accept(&mut self, socket: Socket) -> io::Result<()> {
        let Socket { index, socket, places } = socket;
        let listener = Rc::new(Listener::register(index, socket, places)?);
        let accepting = accept_all(Rc::clone(&self.door), Rc::clone(&listener));
        let task = tokio::task::spawn_local(accepting).abort_handle();
        self.listeners.entry(index).or_default().push((listener, task));
        Ok(())
    }

    fn close(&mut self, index: usize) {
        for (listener, task) in self.listeners.remove(&index).into_iter().flatten() {
            task.abort();
            self.door.empty(&listener);
        }
    }

    /// Accepts no more, and leaves what waits.
    fn leave_all(&mut self) {
        for (_, task) in self.listeners.drain().flat_map(|(_, sockets)| sockets) {
            task.abort();
        }
    }

    fn close_all(&mut self) {
        let open: Vec<usize> = self.listeners.keys().copied().collect();
        open.into_iter().for_each(|index| self.close(index));
    }
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

/// Gives each worker its sockets. An address with fewer sockets than workers is accepted by some and
/// reaches the others by hand-over.
fn share_out(listeners: &BTreeMap<usize, Kept>, workers: usize) -> Vec<Vec<Socket>> {
    let mut all: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, kept) in listeners {
        for (worker, socket) in kept.share_out(*index, workers) {
            if let Some(sockets) = all.get_mut(worker) {
                sockets.push(socket);
            }
        }
    }
    all
}

impl Kept {
    fn new(bound: Bound) -> Self {
        let Bound { listen, sockets, file, max_connections, .. } = bound;
        let sockets = sockets.into_iter().map(Arc::new).collect();
        Self { listen, sockets, places: max_connections.map(places), file }
    }

    /// Its sockets, each with the worker it is for.
    fn share_out(&self, index: usize, workers: usize) -> Vec<(usize, Socket)> {
        // One-socket addresses start at different workers.
        let first = if self.sockets.len() == 1 { index } else { 0 };
        let shared = |(number, socket): (usize, &Arc<OwnedFd>)| {
            let (socket, places) = (Arc::clone(socket), self.places.clone());
            ((first + number) % workers.max(1), Socket { index, socket, places })
        };
        self.sockets.iter().enumerate().map(shared).collect()
    }

    fn listens_at(&self, local: &Local) -> bool {
        self.sockets.first().is_some_and(|one| local_of(one).is_ok_and(|own| own == *local))
    }

    fn sockets(&self) -> Sockets {
        let Self { listen, sockets, file, .. } = self;
        Sockets { listen: listen.clone(), sockets: sockets.clone(), has_file: file.is_some() }
    }
}

/// A panic while one of these is held leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
