//! HTTP/2 from clients (RFC 9113), through the `h2` crate.
//!
//! One task drives the connection: it moves frames between the socket and h2, takes the streams that
//! the client opens, and watches over time limits. Each stream is a task of its own, with a
//! [`Connection`] whose carrier is that stream, and runs the same [`exchange`] as HTTP/1 does. A panic
//! in one of them resets its stream and nothing else.
//!
//! What always holds: every limit of h2 is set here, none is its default; a stream counts until its
//! exchange has ended, also when the client has given it up (CVE-2023-44487); what a client can make
//! one connection hold is bounded, by streams, header list, windows, and the bytes that wait to be
//! sent; every wait for the client ends, by the exchange's patience or by a limit here.

mod meter;
mod request;
mod socket;
mod streams;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use config::model::Limits;
use h2::Reason;
use h2::server::Builder;
use net::timer::{Deadline, Tick};

pub(super) use self::meter::PREFACE;
use self::socket::{Io, Socket};
use self::streams::Streams;
use super::{Connection, Known};
use crate::carrier::Carrier;
use crate::carrier::http2_server::{Chunk, Share};
use crate::forward::TunnelSlot;

/// Bytes of a request body that a client may send ahead on one stream. Enough for 40 MB/s at a round
/// trip of 5 ms.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams together: what one connection can make us hold of bodies.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of a frame from the client. The least there is: frames are held until they are whole.
const FRAME_MAX: u32 = 16 * 1024;
/// Bytes of the table that the client's header compression fills here (RFC 7541 §4.2).
const HEADER_TABLE: u32 = 4096;
/// Bytes of DATA of one stream that wait for the socket. What all streams of a connection may have
/// waiting is bounded beside it.
const STREAM_WAITING_MAX: usize = 64 * 1024;
/// Streams that a client gave up before they were looked at. It can only be many in one burst.
const PENDING_RESETS_MAX: usize = 20;
/// Streams reset because of what the client sent, in the life of a connection (CVE-2025-8671).
const FAULTS_MAX: usize = 100;
/// Streams that were reset here are remembered, so that frames under way for them are no mistake.
const REMEMBERED_RESETS_MAX: usize = 50;
/// How long they are: a round trip, with something to spare.
const REMEMBERED_TIME: Duration = Duration::from_secs(1);

/// How long a client has to answer that it knows of the end, and to take the last frames.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// Bytes dropped while a connection ends: a close with bytes unread, or that others come after, is a
/// reset, and a reset takes from the client what it has not read yet.
const DROPPED_MAX: usize = 1024 * 1024;
/// Bytes on their way to a client that may well be the words of farewell. With more it has yet to take
/// what it asked for.
const FAREWELL_MAX: u64 = 1024;
/// How long a client may be about that in all, once nothing more is sent to it.
const TAKE_TIME: Duration = Duration::from_secs(10 * 60);

/// Serves a connection until it ends.
pub async fn serve(connection: Connection) {
    let Connection {
        carrier,
        tls,
        certificate_lines,
        told_before,
        worker,
        client,
        listener,
        canary,
        deadline,
        opened,
        seat,
        tunnel: _,
        guard: _guard,
    } = connection;
    let Carrier::Socket(stream) = carrier else { return };
    let stream = Rc::new(stream);
    let buffers = worker.context.buffers.clone();
    let share = Share::new(buffers.clone(), Rc::clone(&stream));
    let socket = Socket::new(stream, Rc::clone(&share), buffers);
    let its_worker = Rc::clone(&worker);
    seat.speaks_http2();
    let seat = Rc::new(seat);
    let known = Known { client, listener, canary, tls: tls.clone(), seat: Rc::clone(&seat) };
    let connection = move |carrier| Connection {
        carrier,
        told_before: Rc::clone(&told_before),
        tls: tls.clone(),
        certificate_lines: Rc::clone(&certificate_lines),
        deadline: its_worker.context.timers.deadline(),
        worker: Rc::clone(&its_worker),
        client,
        listener,
        canary,
        // Of the first stream.
        opened: Cell::new(opened.take()),
        seat: seat.stream(),
        tunnel: TunnelSlot::default(),
        guard: None,
    };
    let streams = Streams::new(&worker, Rc::clone(&share), Rc::clone(&socket), known, connection);
    let mut driver = Driver {
        socket,
        share,
        streams,
        deadline,
        due: None,
        opened: Tick::now(),
        leaving: None,
        ending: None,
        amiss: false,
        taken: None,
        behind: None,
    };
    let Some(mut h2) = driver.handshake().await else { return };
    let complete = poll_fn(|cx| driver.poll(cx, &mut h2)).await;
    drop(h2); // tells the streams that are left
    if complete || driver.ending.is_some() {
        driver.drop_input().await;
    }
    driver.streams.ended().await;
}

/// A connection as h2 has it.
type H2 = h2::server::Connection<Io, Chunk>;

/// What drives a connection.
struct Driver {
    socket: Rc<Socket>,
    share: Rc<Share>,
    streams: Streams,
    deadline: Deadline,
    /// When the deadline is set to pass, in milliseconds of [`Tick`].
    due: Option<u64>,
    opened: Tick,
    /// Since when the client has known that it should open no more streams.
    leaving: Option<Tick>,
    /// Since when the connection has been ending because of an error or for want of an answer.
    ending: Option<Tick>,
    /// It ends because of something that the client did.
    amiss: bool,
    /// How many bytes the client had taken when it was last looked at, if it is slow to take more.
    taken: Option<u64>,
    /// Of a client that had yet to take part of its responses when there were no more streams: when it
    /// had last taken enough of that, and how many bytes it had taken then.
    behind: Option<(Tick, u64)>,
}

/// What a time limit that has passed calls for.
enum Late {
    /// The client has sent nothing for long enough.
    Leave,
    /// It has known that for long enough.
    Close,
    /// It takes too long over the fields of a message.
    Calm,
    /// It does not take what is there for it, or there is nothing to wait for any more.
    End,
}

impl Driver {
    /// Exchanges prefaces. `None` if the connection ends instead.
    async fn handshake(&mut self) -> Option<H2> {
        let limits = self.streams.snapshot().limits;
        let list_max = u32::try_from(limits.head_size).unwrap_or(u32::MAX);
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_MAX)
            .max_header_list_size(list_max)
            .header_table_size(HEADER_TABLE)
            .max_concurrent_streams(limits.http2_streams)
            .max_send_buffer_size(STREAM_WAITING_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(Some(FAULTS_MAX))
            .max_concurrent_reset_streams(REMEMBERED_RESETS_MAX)
            .reset_stream_duration(REMEMBERED_TIME)
            .enable_connect_protocol()
            .handshake(Io(Rc::clone(&self.socket)));
        let mut handshake = pin!(handshake);
        poll_fn(|cx| {
            if let Poll::Ready(result) = handshake.as_mut().poll(cx) {
                return Poll::Ready(result.ok());
            }
            let flushed = self.socket.poll_flush(cx);
            match flushed.map(|flushed| flushed.is_err()) == Poll::Ready(true)
                || self.late(cx).is_some()
            {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Ready when the connection has ended; true if nothing is left to be said on it.
    fn poll(&mut self, cx: &mut Context<'_>, h2: &mut H2) -> Poll<bool> {
        self.streams.wakes(cx.waker());
        if self.streams.is_cut() {
            return Poll::Ready(false);
        }
        loop {
            let verdict = self.socket.meter().verdict();
            if let Some(reason) = verdict.filter(|_| self.ending.is_none()) {
                self.end(h2, reason);
            }
            match h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.streams.open(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    if error.is_library() {
                        self.streams.tell(&error);
                        self.ending.get_or_insert_with(Tick::now);
                        self.amiss = true;
                    }
                    return Poll::Ready(false);
                }
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Pending => {}
            }
            if self.socket.meter().verdict().is_some() && self.ending.is_none() {
                continue;
            }
            if let Poll::Ready(Err(_)) = self.socket.poll_flush(cx) {
                return Poll::Ready(false);
            }
            if self.streams.stopping() && self.leaving.is_none() {
                self.leave(h2);
                continue;
            }
            match self.late(cx) {
                None => return Poll::Pending,
                Some(Late::Leave) => self.leave(h2),
                Some(Late::Close) => self.end(h2, Reason::NO_ERROR),
                Some(Late::Calm) => self.end(h2, Reason::ENHANCE_YOUR_CALM),
                Some(Late::End) => return Poll::Ready(false),
            }
        }
    }

    /// Tells the client to open no more streams; those under way go on.
    fn leave(&mut self, h2: &mut H2) {
        self.leaving = Some(Tick::now());
        h2.graceful_shutdown();
    }

    /// Ends all streams and the connection.
    fn end(&mut self, h2: &mut H2, reason: Reason) {
        self.ending = Some(Tick::now());
        self.amiss = reason != Reason::NO_ERROR;
        h2.abrupt_shutdown(reason);
    }

    /// The time limit that has passed, if one has; else the deadline is set for the next one.
    fn late(&mut self, cx: &mut Context<'_>) -> Option<Late> {
        let now = Tick::now();
        let mut next: Option<u64> = None;
        let mut passed = |since: Option<Tick>, limit: Duration| {
            let Some(since) = since else { return false };
            let due = since.after(limit).as_millis();
            next = Some(next.map_or(due, |next| next.min(due)));
            due <= now.as_millis()
        };
        // Idle or not, a connection keeps no snapshot that is not in force any more.
        let (limits, keep_alive_timeout) = self.streams.limits_now();
        let blocked = self.socket.blocked_since();
        let idle = self.streams.idle_since();
        let (settled, block) = {
            let meter = self.socket.meter();
            (meter.is_settled(), meter.block_since())
        };
        if blocked.is_none() {
            self.taken = None;
        } else if self.taken.is_none() {
            self.taken = Some(self.share.taken().unwrap_or_else(|| self.share.written()));
        }
        if idle.is_some() && self.leaving.is_some() {
            self.see_what_is_taken(&limits);
        }
        let unsettled = Some(self.opened).filter(|_| !settled);
        // While the socket is full the next rule but one is for those who have done nothing wrong.
        let ending = self.ending.filter(|_| self.amiss || blocked.is_none());
        let late = if passed(ending, CLOSE_TIME) || passed(unsettled, limits.head_timeout) {
            Some(Late::End)
        } else if passed(block.filter(|_| self.ending.is_none()), limits.head_timeout) {
            Some(Late::Calm)
        } else if passed(blocked, limits.body_grace) && !self.keeps_up() {
            Some(Late::End)
        } else if let (Some(idle), None) = (idle, self.ending) {
            match (self.leaving, self.behind) {
                (None, _) => passed(Some(idle), keep_alive_timeout).then_some(Late::Leave),
                (Some(since), None) => {
                    passed(Some(idle.max(since)), CLOSE_TIME).then_some(Late::Close)
                }
                (Some(_), Some((since, _))) => {
                    passed(Some(since), limits.body_grace).then_some(Late::Close)
                }
            }
        } else {
            None
        };
        if late.is_none() {
            self.set_deadline(next, now);
        }
        let _ = self.deadline.poll_expired(cx);
        late
    }

    /// A client that has not taken all there is for it has taken enough of it nevertheless.
    fn keeps_up(&mut self) -> bool {
        let least = least_taken(&self.streams.snapshot().limits);
        let taken = self.share.taken().unwrap_or_else(|| self.share.written());
        let before = self.taken.replace(taken).unwrap_or(taken);
        self.socket.excuse();
        taken.saturating_sub(before) >= least
    }

    /// Looks whether the client, for whom there are no more streams, has yet to take part of what they
    /// sent, and whether it goes on taking it.
    fn see_what_is_taken(&mut self, limits: &Limits) {
        let written = self.share.written();
        let taken = self.share.taken().unwrap_or(written);
        self.behind = match self.behind {
            None if self.share.is_waiting() || written.saturating_sub(taken) > FAREWELL_MAX => {
                Some((Tick::now(), taken))
            }
            Some((_, before)) if taken.saturating_sub(before) >= least_taken(limits).max(1) => {
                Some((Tick::now(), taken))
            }
            same => same,
        };
    }

    fn set_deadline(&mut self, due: Option<u64>, now: Tick) {
        if self.due == due && !self.deadline.expired() {
            return;
        }
        self.due = due;
        match due {
            Some(due) => {
                let rest = due.saturating_sub(now.as_millis());
                self.deadline.set(Duration::from_millis(rest));
            }
            None => self.deadline.clear(),
        }
    }

    /// Drops what still comes in, for a while; for as long as the client goes on taking what it asked
    /// for, or speaks of it, if it has done nothing wrong.
    async fn drop_input(&mut self) {
        let limits = self.streams.snapshot().limits;
        let began = Tick::now();
        let (mut heard, mut dropped) = (began, 0);
        poll_fn(|cx| {
            while dropped < DROPPED_MAX && !self.streams.is_cut() {
                match self.socket.poll_drop_input(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(count)) => {
                        dropped += count;
                        heard = Tick::now();
                        continue;
                    }
                    Poll::Pending => {}
                }
                self.see_what_is_taken(&limits);
                let (since, limit) = match self.behind {
                    _ if self.amiss => (began, CLOSE_TIME),
                    None => (heard, CLOSE_TIME),
                    Some((since, _)) => (since.max(heard), limits.body_grace),
                };
                let now = Tick::now();
                let left = limit.saturating_sub(now.since(since));
                let left = left.min(TAKE_TIME.saturating_sub(now.since(began)));
                if left.is_zero() {
                    return Poll::Ready(());
                }
                self.deadline.set(left);
                if self.deadline.poll_expired(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// Bytes that a client takes in the grace time if it is not too slow.
fn least_taken(limits: &Limits) -> u64 {
    limits.body_min_rate.saturating_mul(limits.body_grace.as_secs().max(1))
}
