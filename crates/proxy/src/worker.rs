//! What one core has for serving requests: its buffers, idle upstream connections, file cache, log
//! buffer and the snapshot in force. Nothing of it is shared, so nothing is locked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use net::timer::{Tick, unix_millis};
use net::worker::WorkerContext;
use wire::head::{RequestHead, ResponseHead};

use crate::auth::Memory;
use crate::buffering::SpoolMemory;
use crate::challenges::Challenges;
use crate::connection::Handshakes;
use crate::connections::Connections;
use crate::files::FileCache;
use crate::log::{AccessLog, ErrorLog, Record};
use crate::metrics::Metrics;
use crate::recorder::Recorder;
use crate::serving::Serving;
use crate::snapshot::Snapshot;
use crate::upstream::{Http2Pool, IdlePool};

/// Working memory kept between requests (some 3 MiB if so many were under way at once). What does not
/// fit is freed.
const SCRATCH_MAX: usize = 1024;
/// Of these, how many may have grown large.
const LARGE_SCRATCH_MAX: usize = 64;
/// Bytes of a head, and fields, from which on working memory counts as large.
const LARGE_HEAD: usize = 4096;
const LARGE_FIELDS: usize = 64;
/// How often idle upstream connections are looked at and log lines handed over.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// A snapshot as one worker holds it. Each request takes a reference; counting those in the [`Arc`]
/// would have every worker write to one cache line.
#[allow(clippy::redundant_allocation, reason = "the outer count is the worker's own")]
pub type LocalSnapshot = Rc<Arc<Snapshot>>;

/// One core's state.
pub struct Worker {
    /// Buffers, deadlines, pipes and the stop signal.
    pub context: WorkerContext,
    /// Idle upstream connections.
    pub idle: RefCell<IdlePool>,
    /// Upstream connections that carry many exchanges.
    pub http2: Http2Pool,
    /// Open files and small contents.
    pub files: RefCell<FileCache>,
    /// This worker's part of the access log.
    pub access_log: AccessLog,
    /// What is counted of what it does.
    pub metrics: Metrics,
    /// What became of the last exchanges.
    pub recorder: Recorder,
    /// The client connections that are open.
    pub connections: Connections,
    /// Where failures are told.
    pub error_log: ErrorLog,
    /// Which snapshot serves what.
    pub serving: Serving,
    /// TLS handshakes under way.
    pub handshakes: Handshakes,
    /// Answers to the challenges of certificate authorities.
    pub challenges: Arc<Challenges>,
    /// Memory in use by buffered bodies.
    pub spools: Rc<SpoolMemory>,
    /// Bytes of request bodies that are kept to be sent again.
    pub kept: Rc<Cell<usize>>,
    /// What is remembered of credentials.
    pub credentials: Memory,
    /// Copies of requests under way.
    pub mirrors: Rc<Cell<usize>>,
    #[expect(clippy::vec_box, reason = "they go from here to connections and back, by pointer")]
    scratch: RefCell<Vec<Box<Scratch>>>,
    date: RefCell<DateLine>,
    random: Cell<u64>,
}

/// What all workers have in common.
#[derive(Clone)]
pub struct Shared {
    /// The snapshot in force.
    pub snapshot: Arc<Snapshot>,
    /// Answers to the challenges of certificate authorities.
    pub challenges: Arc<Challenges>,
}

/// Memory a request works in, reused for the next one.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Index over the client's head.
    pub request: RequestHead,
    /// The upstream's head, and heads on their way out.
    pub heads: Heads,
    /// The id of the request, if it has one.
    pub request_id: Vec<u8>,
    /// How long the client took to send the head, in microseconds.
    pub head_micros: u64,
}

/// The heads of a forwarded request and its response.
#[derive(Debug, Default)]
pub struct Heads {
    /// Index over the upstream's head.
    pub response: ResponseHead,
    /// An interim response declared a body, so the connection is not fit for reuse.
    pub interim_at_fault: bool,
    /// The head that goes to the upstream, or one that Ravelin makes itself.
    pub out: Vec<u8>,
    /// The head that goes to the client.
    pub spare: Vec<u8>,
    /// A `Set-Cookie` line for it, or nothing.
    pub cookie: Vec<u8>,
}

impl Scratch {
    fn is_large(&self) -> bool {
        let Heads { response, out, spare, cookie, .. } = &self.heads;
        let bytes = [out, spare, cookie, &self.request_id].map(Vec::capacity);
        let fields = [&self.request.fields, &response.fields].map(Vec::capacity);
        bytes.iter().any(|bytes| *bytes > LARGE_HEAD)
            || fields.iter().any(|fields| *fields > LARGE_FIELDS)
    }
}

/// "Date: …\r\n", made once a second.
#[derive(Debug, Default)]
struct DateLine {
    second: u64,
    line: Rc<[u8]>,
}

impl Worker {
    /// The state of the worker that `context` belongs to; call it on that worker.
    pub fn new(
        context: WorkerContext,
        shared: Shared,
        access_log: AccessLog,
        error_log: ErrorLog,
    ) -> Rc<Self> {
        let Shared { snapshot, challenges } = shared;
        let worker = Rc::new(Self {
            connections: Connections::new(context.id),
            context,
            handshakes: Handshakes::new(snapshot.limits.handshakes),
            challenges,
            spools: Rc::default(),
            kept: Rc::default(),
            credentials: Memory::default(),
            mirrors: Rc::default(),
            idle: RefCell::default(),
            http2: Http2Pool::default(),
            files: RefCell::default(),
            access_log,
            metrics: Metrics::new(snapshot.counts),
            recorder: Recorder::new(snapshot.recorder),
            error_log,
            serving: Serving::new(snapshot),
            scratch: RefCell::default(),
            date: RefCell::default(),
            random: Cell::new(seed()),
        });
        tokio::task::spawn_local(housekeeping(Rc::downgrade(&worker)));
        worker
    }

    /// The snapshot in force. What serves a connection is [`Serving::of`]; a request keeps the one it began
    /// with.
    pub fn snapshot(&self) -> LocalSnapshot {
        self.serving.in_force()
    }

    /// From the next request on this snapshot is in force; a canary ends.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.handshakes.set_max(snapshot.limits.handshakes);
        self.recorder.resize(snapshot.recorder);
        self.metrics.switch(snapshot.counts);
        if self.serving.publish(snapshot) {
            // Idle connections whose listener is gone are to end.
            self.context.timers.wake_all();
        }
    }

    /// From now on this share of the new connections, in millionths, is served by `snapshot`.
    pub fn try_out(&self, number: u32, snapshot: Arc<Snapshot>, share: u32) {
        self.serving.try_out(number, snapshot, share);
    }

    /// Ends a canary: all is served by the snapshot in force again.
    pub fn withdraw(&self) {
        self.serving.withdraw();
    }

    /// The canary that a connection which was just accepted belongs to; 0: to none.
    pub fn canary_for_new(&self) -> u32 {
        self.serving.canary_for(|| self.next_random())
    }

    /// Closes the connections to these endpoints that are kept for further requests. Requests under way
    /// are not touched.
    pub fn let_go(&self, endpoints: &[usize]) {
        let mut idle = self.idle.borrow_mut();
        for &id in endpoints {
            idle.distrust(id);
            self.http2.let_go(id);
        }
    }

    /// Somebody wants to know of exchanges and how long they took.
    pub fn observes(&self) -> bool {
        self.access_log.is_on()
            || self.metrics.is_on()
            || self.recorder.is_on()
            || self.serving.counts()
            || self.serving.in_force().traces.is_some()
    }

    /// An exchange is over: the one place where everybody who looks at traffic learns of it.
    pub fn finished(&self, record: &Record<'_>) {
        self.access_log.record(record);
        self.recorder.finished(record);
        self.serving.finished(record);
        self.metrics.finished(record);
        if record.times.accept.is_some() {
            let snapshot = self.serving.in_force();
            if let Some(listener) = snapshot.listeners.get(record.listener) {
                self.metrics.opened(&listener.series, &record.times);
            }
        }
        if let Some(traced) = record.traced {
            traced.finished(record);
        }
    }

    /// Connections to this listener begin with an HTTP/1 request: there is no TLS, no PROXY header
    /// and no HTTP/2.
    pub fn is_simple(&self, listener: usize) -> bool {
        self.serving
            .in_force()
            .listeners
            .get(listener)
            .is_some_and(|listener| !listener.tls && !listener.proxy_protocol && !listener.http2)
    }

    /// Working memory for a connection that has a request.
    pub fn take_scratch(&self) -> Box<Scratch> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives it back.
    pub fn put_scratch(&self, scratch: Box<Scratch>) {
        let mut free = self.scratch.borrow_mut();
        let max = if scratch.is_large() { LARGE_SCRATCH_MAX } else { SCRATCH_MAX };
        if free.len() < max {
            free.push(scratch);
        }
    }

    /// "Date: …\r\n" for now.
    pub fn date_line(&self) -> Rc<[u8]> {
        let second = unix_millis() / 1000;
        let mut date = self.date.borrow_mut();
        if date.second != second || date.line.is_empty() {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let text = wire::date::http_date(now);
            date.line = [b"Date: ", &text[..], b"\r\n"].concat().into();
            date.second = second;
        }
        Rc::clone(&date.line)
    }

    /// Makes a new request id (UUID version 7) in `out`.
    pub fn new_request_id(&self, out: &mut Vec<u8>) {
        let mut random = [0; 10];
        let (one, other) = (self.next_random(), self.next_random());
        for (byte, source) in
            random.iter_mut().zip(one.to_le_bytes().into_iter().chain(other.to_le_bytes()))
        {
            *byte = source;
        }
        out.clear();
        out.extend_from_slice(&wire::request_id::uuid_v7(unix_millis(), random));
    }

    /// SplitMix64: ids must be distinct, not secret.
    /// Evenly distributed, and no secret.
    pub fn next_random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A number that differs between workers and starts: the keys of a hasher are random.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Twice a second, for as long as the worker lives: closes old upstream connections, hands over log
/// lines.
async fn housekeeping(worker: std::rc::Weak<Worker>) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(worker) = worker.upgrade() else { return };
        worker.idle.borrow_mut().sweep();
        worker.http2.sweep();
        worker.access_log.flush();
        worker.recorder.sweep(Tick::now());
        worker.serving.sweep();
    }
}
