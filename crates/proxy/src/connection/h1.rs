//! HTTP/1.0 and HTTP/1.1 from clients (RFC 9112).
//!
//! What always holds: a connection between requests holds no buffer and no working memory, and one that
//! has become a tunnel neither; requests
//! that arrive together (pipelining) are answered in order, one after the other; once a head was
//! refused nothing more is read as a request from that connection.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use net::buffer::Buffer;
use net::clock;
use net::worker::Life;
use wire::head::{HeadError, HeadLimits, Parse, RequestHead, Upgrade};

use super::Connection;
use super::linger::linger;
use crate::boxed::boxed;
use crate::exchange::{After, exchange};
use crate::local::{self, Refusal};
use crate::log::Cause;
use crate::worker::{Scratch, Worker};

/// Longest that an idle connection is left open when another process takes the new ones: clients that
/// keep a connection busy send more often.
const LAST_REQUEST: Duration = Duration::from_secs(5);
/// Up to this many bytes of a request are copied to be served from: a memcpy of this size costs less
/// than a buffer that nobody has used for a while.
const COPY_MAX: usize = 2048;

/// Serves a connection until it ends. It is lent: an `async fn` has what it is given twice, and idle
/// connections are to be small.
pub async fn serve(connection: &Connection) {
    watch_deadline(connection).await;
    let mut fresh = true;
    loop {
        if !wait_for_request(connection, fresh).await {
            return;
        }
        match until_cut(connection, busy_boxed(connection)).await {
            Then::Idle => fresh = false,
            Then::Nothing => {}
            Then::Close => return,
            // In a box for the same reason.
            Then::Linger => return Box::pin(linger(connection)).await,
            Then::Reset => return connection.carrier.reset_on_close(),
        }
    }
}

/// Lets the deadline wake this task from here on. Later waits that meet a socket which is ready
/// never poll the deadline, and every time limit of their exchange relies on being woken by it.
async fn watch_deadline(connection: &Connection) {
    poll_fn(|cx| {
        let _ = connection.deadline.poll_expired(cx);
        Poll::Ready(())
    })
    .await;
}

/// What follows a spell of requests.
enum Then {
    /// The connection persists, and nothing more is there to read.
    Idle,
    /// Nothing was there to read to begin with.
    Nothing,
    /// It ends, and the client has sent nothing that was not read.
    Close,
    /// It ends, and the client may still be sending.
    Linger,
    /// It ends so that the client sees that its response broke off.
    Reset,
}

/// Waits until something can be read. False if the connection ends instead: the client was idle for
/// too long, or the worker or its listener is to end.
async fn wait_for_request(connection: &Connection, fresh: bool) -> bool {
    connection.deadline.set(match fresh {
        true => connection.snapshot().limits.head_timeout,
        false => connection.snapshot().keep_alive_timeout(connection.listener),
    });
    let context = &connection.worker.context;
    let mut is_last = false;
    poll_fn(|cx| {
        if connection.carrier.poll_read_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        if context.life() == Life::Drains && !fresh && !is_last {
            is_last = true;
            connection.deadline.set(time_for_last_request(connection));
        }
        // A connection that has not had its first request is owed an answer to it.
        let stopping = !fresh && context.life() != Life::Drains && connection.ends()
            || connection.seat.is_closing();
        let expired = connection.deadline.poll_expired(cx).is_ready();
        if stopping || expired { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

/// How long a connection that is to end is left for one more request, whose response says that it is the
/// last: the client would lose one that crosses with the end. Not the same for all, because they
/// connect again when it is over.
fn time_for_last_request(connection: &Connection) -> Duration {
    let spread = LAST_REQUEST.as_millis() as u64 / 2;
    let time = LAST_REQUEST - Duration::from_millis(connection.worker.next_random() % spread);
    time.min(connection.snapshot().keep_alive_timeout(connection.listener))
}

/// The future of a request is some kilobytes; boxed, an idle connection does not carry them. (Boxed
/// in a function of its own, because a temporary would have its place in the connection's future.)
fn busy_boxed(connection: &Connection) -> Pin<Box<dyn Future<Output = Then> + '_>> {
    Box::into_pin(boxed(|| busy(connection)))
}

/// What comes of `busy`, unless an operator ends the connection at once. As long as a tunnel only passes
/// bytes on, `busy` is not asked.
fn until_cut<'c>(
    connection: &'c Connection,
    mut busy: Pin<Box<dyn Future<Output = Then> + 'c>>,
) -> impl Future<Output = Then> + 'c {
    poll_fn(move |cx| {
        if connection.worker.connections.any_cut() && connection.seat.is_cut() {
            return Poll::Ready(Then::Reset);
        }
        ready!(connection.tunnel.poll(cx, connection));
        busy.as_mut().poll(cx)
    })
}

/// Serves requests for as long as they follow each other without a pause.
async fn busy(connection: &Connection) -> Then {
    let worker = &connection.worker;
    let mut buffer = worker.context.buffers.get();
    let mut scratch = worker.take_scratch();
    let mut served = false;
    let then = loop {
        match read_head(connection, &mut buffer, &mut scratch).await {
            Head::Complete => {}
            Head::Nothing if served => break Then::Idle,
            Head::Nothing => break Then::Nothing,
            Head::Closed => break Then::Close,
            Head::TimedOut => {
                let why = "the request head took too long";
                let refusal = Refusal { status: 408, cause: Cause::Timeout, why };
                Box::pin(local::refuse(connection, &mut scratch, &buffer, refusal)).await;
                break Then::Linger;
            }
            Head::Refused(error) => {
                let refusal = Refusal::of(&error);
                Box::pin(local::refuse(connection, &mut scratch, &buffer, refusal)).await;
                break Then::Linger;
            }
        }
        let read = match scratch.request.upgrade {
            Upgrade::None => Read::new(buffer),
            _ => Read::to_last(buffer, worker, &mut scratch),
        };
        let done = exchange(connection, &read, &mut scratch).await;
        served = true;
        let behind = done.excess.or_else(|| read.behind(done.consumed, worker));
        match (done.after, behind) {
            (After::Persist, Some(behind)) => buffer = behind,
            (After::Persist, None) => break Then::Idle,
            (After::Close, None) => break Then::Close,
            (After::Close | After::Linger, _) => break Then::Linger,
            (After::Reset, _) => break Then::Reset,
        }
    };
    worker.put_scratch(scratch);
    then
}

/// What was read of a request.
enum Read {
    Buffer(Buffer),
    /// Memory of just its size. The buffer is the next connection's, which finds it in the processor's
    /// cache; a thousand requests that wait would spread over as many buffers.
    Copy(Box<[u8]>),
}

impl Read {
    fn new(buffer: Buffer) -> Self {
        match buffer.len() <= COPY_MAX {
            true => Self::Copy(Box::from(&buffer[..])),
            false => Self::Buffer(buffer),
        }
    }

    /// Of a request that may open a tunnel, which lasts: gives buffer and working memory back before.
    fn to_last(buffer: Buffer, worker: &Worker, scratch: &mut Box<Scratch>) -> Self {
        let mut own: Box<Scratch> = Box::default();
        own.request = scratch.request.clone();
        own.head_micros = scratch.head_micros;
        worker.put_scratch(std::mem::replace(scratch, own));
        Self::Copy(Box::from(&buffer[..]))
    }

    /// What came behind a request of `len` bytes, if anything did.
    fn behind(self, len: usize, worker: &Worker) -> Option<Buffer> {
        match self {
            Self::Buffer(mut buffer) => {
                buffer.consume(len);
                (!buffer.is_empty()).then_some(buffer)
            }
            Self::Copy(bytes) => {
                let rest = bytes.get(len..).filter(|rest| !rest.is_empty())?;
                let mut buffer = worker.context.buffers.get();
                if rest.len() > buffer.capacity() {
                    buffer.grow();
                }
                // It was in one before, so it fits.
                buffer.append(rest);
                Some(buffer)
            }
        }
    }
}

impl Deref for Read {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer,
            Self::Copy(bytes) => bytes,
        }
    }
}

enum Head {
    Complete,
    /// Not one byte was there.
    Nothing,
    /// The client closed, in the middle of a head or before it.
    Closed,
    TimedOut,
    Refused(HeadError),
}

/// Reads until the head at the front of `buffer` is whole. Its time runs from its first byte, so that
/// a client that sends a byte now and then does not hold the connection (slowloris).
async fn read_head(connection: &Connection, buffer: &mut Buffer, scratch: &mut Scratch) -> Head {
    let mut since = None;
    let read = read_head_since(connection, buffer, &mut scratch.request, &mut since).await;
    scratch.head_micros = since.map_or(0, |at| (clock::now() - at).as_micros() as u64);
    read
}

/// `since` becomes when the client was first waited for.
async fn read_head_since(
    connection: &Connection,
    buffer: &mut Buffer,
    head: &mut RequestHead,
    since: &mut Option<Instant>,
) -> Head {
    let snapshot = connection.snapshot();
    let limits = HeadLimits { bytes: snapshot.limits.head_size, fields: snapshot.limits.fields };
    let mut scanned = 0;
    loop {
        if buffer.len() > scanned {
            match head.parse(buffer, scanned, &limits) {
                Ok(Parse::Complete) => return Head::Complete,
                Ok(Parse::Partial) => scanned = buffer.len(),
                Err(error) => return Head::Refused(error),
            }
        }
        if !buffer.make_room() && !buffer.grow() {
            // The parser refuses before that; this is for limits beyond the largest buffer.
            return Head::TimedOut;
        }
        let read = match connection.carrier.try_read(buffer.spare_mut()) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if buffer.is_empty() {
                    return Head::Nothing;
                }
                if since.is_none() {
                    connection.seat.reads_head();
                    connection.deadline.set(snapshot.limits.head_timeout);
                    *since = Some(clock::now());
                }
                if !wait_readable(connection).await {
                    return Head::TimedOut;
                }
                continue;
            }
            read => read,
        };
        match read {
            Ok(0) | Err(_) => return Head::Closed,
            Ok(count) => buffer.advance(count),
        }
    }
}

/// False if the deadline passes first.
async fn wait_readable(connection: &Connection) -> bool {
    poll_fn(|cx| {
        if connection.carrier.poll_read_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        match connection.deadline.poll_expired(cx) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
