//! The streams of a connection: from the request that h2 has received to the task that serves it.
//!
//! What always holds: a malformed request is reset and never answered (RFC 9113 §8.1.1); the fields
//! that h2 unpacked are gone before anything waits; a stream counts as long as its task runs.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use config::model::Level;
use config::model::Limits;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Method;
use net::timer::Tick;
use wire::head::{Framing, HeadLimits, Parse, Version};
use wire::websocket::accept_key;

use super::request::{Fault, OWN_FIELDS_MAX, websocket_key, write_head, write_line};
use super::socket::Socket;
use crate::boxed::boxed;
use crate::carrier::Carrier;
use crate::carrier::http2_server::{Asked, Chunk, ServerStream, Share};
use crate::connection::{Connection, Known};
use crate::exchange::exchange;
use crate::local::{self, Refusal};
use crate::log::Cause;
use crate::worker::{LocalSnapshot, Scratch, Worker};

/// Bytes of request heads that one connection may have under way; streams beyond are refused, and can
/// be tried again. Each is held for as long as its request lasts, so a client that unpacks the same
/// large fields on every stream would make us hold 4 MiB otherwise (CVE-2026-49975).
const HEADS_MAX: usize = 1024 * 1024;

/// The streams of one connection.
pub(super) struct Streams {
    worker: Rc<Worker>,
    share: Rc<Share>,
    socket: Rc<Socket>,
    active: Rc<Active>,
    /// Most at once.
    max: usize,
    limits: HeadLimits,
    known: Known,
    /// Makes a connection of its own for a stream.
    connection: Box<dyn Fn(Carrier) -> Connection>,
}

/// How many streams are being served.
struct Active {
    count: Cell<usize>,
    /// Bytes of their heads.
    heads: Cell<usize>,
    /// Since when none is; only meaningful then.
    idle_since: Cell<Tick>,
    /// The connection's task.
    driver: RefCell<Option<Waker>>,
}

impl Streams {
    /// None yet. `connection` makes a stream a connection of its own.
    pub(super) fn new(
        worker: &Rc<Worker>,
        share: Rc<Share>,
        socket: Rc<Socket>,
        known: Known,
        connection: impl Fn(Carrier) -> Connection + 'static,
    ) -> Self {
        let snapshot = known.snapshot(worker);
        let limits = &snapshot.limits;
        Self {
            worker: Rc::clone(worker),
            share,
            socket,
            active: Rc::new(Active {
                count: Cell::default(),
                heads: Cell::default(),
                idle_since: Cell::new(Tick::now()),
                driver: RefCell::default(),
            }),
            max: usize::try_from(limits.http2_streams).unwrap_or(usize::MAX),
            limits: HeadLimits { bytes: limits.head_size, fields: limits.fields },
            known,
            connection: Box::new(connection),
        }
    }

    /// Lets the end of the last stream wake the connection's task.
    pub(super) fn wakes(&self, driver: &Waker) {
        let mut known = self.active.driver.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(driver)) {
            *known = Some(driver.clone());
        }
    }

    /// Since when no stream is being served; `None` if one is.
    pub(super) fn idle_since(&self) -> Option<Tick> {
        (self.active.count.get() == 0).then(|| self.active.idle_since.get())
    }

    /// Waits until none is being served. They know that the connection is lost.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| {
            self.wakes(cx.waker());
            match self.active.count.get() {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    }

    /// The worker is to end, or the listener that the connection came in by is gone.
    pub(super) fn stopping(&self) -> bool {
        self.known.ends(&self.worker)
    }

    /// The connection is to end at once.
    pub(super) fn is_cut(&self) -> bool {
        self.known.seat.is_cut()
    }

    /// What the next stream is served by.
    pub(super) fn snapshot(&self) -> LocalSnapshot {
        self.known.snapshot(&self.worker)
    }

    /// Its bounds, and how long there may be no stream.
    pub(super) fn limits_now(&self) -> (Limits, Duration) {
        let snapshot = self.snapshot();
        (snapshot.limits, snapshot.keep_alive_timeout(self.known.listener))
    }

    /// Serves a stream that the client opened.
    pub(super) fn open(
        &self,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Chunk>,
    ) {
        // h2 counts those that the client gave up no more; here they count until they have ended.
        if self.active.count.get() >= self.max || self.active.heads.get() >= HEADS_MAX {
            respond.send_reset(Reason::REFUSED_STREAM);
            self.log_refused(&request);
            return self.socket.meter().count_fault(Tick::now());
        }
        let (parts, body) = request.into_parts();
        let key = parts.extensions.get::<h2::ext::Protocol>();
        let key = key.map(|_| websocket_key(random_bytes()));
        let asked = match &key {
            Some(key) => Asked::WebSocket(accept_key(key)),
            None if parts.method == Method::HEAD => Asked::Head,
            None => Asked::Other,
        };
        let has_body = !body.is_end_stream() && parts.method != Method::CONNECT;
        let mut text = self.share.take_head();
        let written = write_head(parts, &self.limits, key.as_ref(), &mut text);
        let stream = boxed(|| ServerStream::new(body, respond, asked, &self.share));
        let mut scratch = self.worker.take_scratch();
        scratch.head_micros = 0;
        scratch.request_id.clear();
        let judged = written.map_err(refusal_of).and_then(|()| {
            let fields = self.limits.fields.saturating_add(OWN_FIELDS_MAX);
            let limits = HeadLimits { fields, ..self.limits };
            match scratch.request.parse(&text, 0, &limits) {
                Ok(Parse::Complete) => Ok(()),
                Ok(Parse::Partial) => Err(refusal_of(Fault::Malformed("a head without an end"))),
                Err(error) => Err(Refusal::of(&error)),
            }
        });
        let counted = Counted::new(&self.active, text.capacity());
        let mut task = boxed(|| {
            let connection = (self.connection)(Carrier::Http2Server(stream));
            Task { connection, text, scratch, share: Rc::clone(&self.share) }
        });
        match judged {
            Ok(()) => {
                let head = &mut task.scratch.request;
                head.version = Version::Http2;
                if has_body && head.framing == Framing::None {
                    head.framing = Framing::UntilClose;
                }
                tokio::task::spawn_local(task.serve(counted));
            }
            Err(refusal) if refusal.status == 400 => self.reset(task, &refusal),
            Err(refusal) => {
                tokio::task::spawn_local(task.refuse(refusal, counted));
            }
        }
    }

    /// Tells those who look for a fault why the connection ends.
    pub(super) fn tell(&self, error: &h2::Error) {
        let log = &self.worker.error_log;
        if log.enabled(Level::Debug) {
            match self.known.client.ip() {
                Some(ip) => log.debug(format_args!("client {ip}: HTTP/2 connection: {error}")),
                None => log.debug(format_args!("client: HTTP/2 connection: {error}")),
            }
        }
    }

    /// Logs a request for which there is no room; the client may send it again.
    fn log_refused(&self, request: &http::Request<RecvStream>) {
        let mut line = self.share.take_head();
        let path = request.uri().path_and_query().map_or("-", |path| path.as_str());
        write_line(request.method(), path, &mut line);
        let mut scratch = self.worker.take_scratch();
        scratch.head_micros = 0;
        scratch.request_id.clear();
        let why = "too many requests at once on its connection";
        let refusal = Refusal { status: 503, cause: Cause::Streams, why };
        let record = self.known.record(&self.worker);
        let client = &self.known.client;
        local::log_refusal(&self.worker, client, &mut scratch, &line, &refusal, record);
        self.worker.put_scratch(scratch);
        self.share.put_head(line);
    }

    /// Resets a stream whose request is malformed.
    fn reset(&self, mut task: Box<Task>, refusal: &Refusal) {
        if let Carrier::Http2Server(stream) = &task.connection.carrier {
            stream.reset(Reason::PROTOCOL_ERROR);
        }
        let (connection, scratch) = (&task.connection, &mut task.scratch);
        let (worker, record) = (&connection.worker, connection.record());
        local::log_refusal(worker, &connection.client, scratch, &task.text, refusal, record);
        task.put_away();
        self.socket.meter().count_fault(Tick::now());
    }
}

fn refusal_of(fault: Fault) -> Refusal {
    match fault {
        Fault::Malformed(why) => Refusal { status: 400, cause: Cause::Malformed, why },
        Fault::TooLarge => {
            Refusal { status: 431, cause: Cause::Limit, why: "header list too large" }
        }
        Fault::Unsupported => {
            let why = "extended CONNECT for another protocol than WebSocket";
            Refusal { status: 501, cause: Cause::Unsupported, why }
        }
    }
}

/// Bytes that nobody can guess: the keys of a hasher are random.
fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    for half in bytes.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
    }
    bytes
}

/// What serves one stream. In a box: a task is copied where it begins, and where it ends.
struct Task {
    connection: Connection,
    /// The head as HTTP/1 text, which everything refers to until the exchange has ended.
    text: Vec<u8>,
    scratch: Box<Scratch>,
    share: Rc<Share>,
}

impl Task {
    async fn serve(mut self: Box<Self>, counted: Counted) {
        self.watch_deadline().await;
        let task = &mut *self;
        let exchange = boxed(|| exchange(&task.connection, &task.text, &mut task.scratch));
        Box::into_pin(exchange).await;
        self.put_away();
        drop(counted);
    }

    async fn refuse(mut self: Box<Self>, refusal: Refusal, counted: Counted) {
        self.watch_deadline().await;
        Box::pin(local::refuse(&self.connection, &mut self.scratch, &self.text, refusal)).await;
        self.put_away();
        drop(counted);
    }

    /// Lets the deadline wake this task: every time limit relies on that.
    async fn watch_deadline(&self) {
        poll_fn(|cx| {
            let _ = self.connection.deadline.poll_expired(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Ends the stream and gives its memory back.
    fn put_away(self: Box<Self>) {
        let Self { connection, text, scratch, share } = *self;
        connection.worker.put_scratch(scratch);
        share.put_head(text);
    }
}

/// A stream that is being served, with so many bytes of head. Dropped after everything that serves it.
struct Counted(Rc<Active>, usize);

impl Counted {
    fn new(active: &Rc<Active>, head: usize) -> Self {
        active.count.set(active.count.get() + 1);
        active.heads.set(active.heads.get() + head);
        Self(Rc::clone(active), head)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let left = self.0.count.get().saturating_sub(1);
        self.0.count.set(left);
        self.0.heads.set(self.0.heads.get().saturating_sub(self.1));
        if left == 0 {
            self.0.idle_since.set(Tick::now());
            if let Some(driver) = &*self.0.driver.borrow() {
                driver.wake_by_ref();
            }
        }
    }
}
