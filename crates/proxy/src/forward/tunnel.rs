//! Bytes both ways after an upgrade.
//!
//! What always holds: a tunnel exists only after a 101 that names the protocol the client asked for;
//! what the client sent ahead of it goes first; what a side said before it took nothing more arrives;
//! a tunnel in which nothing moves for its idle time ends; while nothing moves it holds no buffer.
//!
//! A tunnel is a request that lasts, and most of its time all there is to do is to pass bytes on. To wake
//! the future of the request for each of them would cost as much as to pass them on, so what does that
//! has its place at the client's connection ([`TunnelSlot`]), whose driver polls it first and the request
//! only if there is more to do.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use config::model::Timeouts;
use net::buffer::Buffer;

use super::way::Way;
use super::{Held, Patience, PumpError, Waiting};
use crate::connection::Connection;
use crate::connections::{self, Moved};
use crate::exchange::{After, Done, Inbound, failed};
use crate::log::{Cause, Party, Phase, Record};
use crate::upstream::UpstreamConnection;
use crate::worker::Heads;

/// What a tunnel begins with.
pub(crate) struct Taken {
    /// The connection to the upstream.
    pub(crate) connection: Box<UpstreamConnection>,
    /// The bytes of its 101 and what came behind it.
    pub(crate) buffer: Buffer,
    /// The 101 as the client gets it.
    pub(crate) lead: Vec<u8>,
}

/// Moves bytes until both sides are done or one breaks. All that lasts is made before the future, which
/// has it once then; what an `async fn` is given it has twice.
pub(super) fn tunnel<'r>(
    inbound: &'r Inbound<'_>,
    taken: Taken,
    (timeouts, held): (&'r Timeouts, Held<'r>),
    heads: &'r mut Heads,
    record: &'r mut Record<'_>,
) -> Pin<Box<dyn Future<Output = Done> + 'r>> {
    let Taken { connection: upstream, mut buffer, lead } = taken;
    buffer.consume(heads.response.len);
    let connection = inbound.connection;
    let mut patience = Patience::new(connection, &inbound.snapshot.limits, timeouts);
    patience.unbounded();
    let passing = Passing {
        up: Way::new(Vec::new(), inbound.early),
        down: Way::new(lead, &buffer),
        up_over: false,
        down_over: false,
        deaf: None,
        broken: None,
        upstream: *upstream,
        entry: held.seat.entry(),
    };
    drop(buffer);
    *connection.tunnel.0.borrow_mut() = Some(Box::new(passing));
    Box::pin(async move {
        let _held = held;
        let ended = poll_fn(|cx| connection.tunnel.poll_end(cx, connection, &mut patience)).await;
        if let Err((by, cause)) = ended {
            record.ended = failed(by, Phase::Tunnel, cause);
        }
        let consumed = inbound.head.len + inbound.early.len();
        let Some(passed) = connection.tunnel.0.take() else {
            return Done { after: After::Close, consumed, excess: None };
        };
        record.request_bytes = passed.up.payload();
        record.response_bytes = passed.down.payload();
        Done { after: passed.after(), consumed, excess: None }
    })
}

/// The place of a client's connection for the tunnel that it has become.
#[derive(Default)]
pub struct TunnelSlot(RefCell<Option<Box<Passing>>>);

impl TunnelSlot {
    /// Passes on what came, if the connection has become a tunnel. Ready when there is something else to do,
    /// which its request does.
    #[inline]
    pub fn poll(&self, cx: &mut Context<'_>, connection: &Connection) -> Poll<()> {
        match &mut *self.0.borrow_mut() {
            Some(passing) => passing.poll(cx, connection),
            None => Poll::Ready(()),
        }
    }

    /// Ready when the tunnel has ended, or is to.
    fn poll_end(
        &self,
        cx: &mut Context<'_>,
        connection: &Connection,
        patience: &mut Patience<'_>,
    ) -> Poll<Result<(), (Party, Cause)>> {
        match &mut *self.0.borrow_mut() {
            Some(passing) => passing.poll_end(cx, connection, patience),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// A tunnel's two directions. In this order, because each message touches nearly all of it.
#[repr(C, align(64))]
struct Passing {
    /// From the client to the upstream.
    up: Way,
    /// Its entry in the list of those that are open.
    entry: Rc<connections::Tunnel>,
    up_over: bool,
    down_over: bool,
    /// A side that takes nothing more, and why.
    deaf: Option<(Party, Cause)>,
    /// A side whose bytes broke off, and why.
    broken: Option<(Party, Cause)>,
    upstream: UpstreamConnection,
    /// From the upstream to the client.
    down: Way,
}

impl Passing {
    /// Pending for as long as all there is to do is to pass bytes on.
    fn poll(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<()> {
        // Asked first, so that what it takes to answer is fetched while bytes are passed on.
        let is_to_end = self.entry.asked_to_close().is_some() || connection.deadline.expired();
        match is_to_end || self.pass_on(cx, connection) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Ready when the tunnel has ended, or is to. What [`Self::poll`] has found is found again.
    fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
        patience: &mut Patience<'_>,
    ) -> Poll<Result<(), (Party, Cause)>> {
        self.pass_on(cx, connection);
        if let Some(broken) = self.broken {
            return Poll::Ready(Err(broken));
        }
        if self.up_over && self.down_over {
            return Poll::Ready(self.deaf.map_or(Ok(()), Err));
        }
        if self.entry.asked_to_close().is_some() {
            return Poll::Ready(Err((Party::Proxy, Cause::Aborted)));
        }
        let one_is_over = self.up_over || self.down_over;
        let whom = if one_is_over { Waiting::TunnelEnd } else { Waiting::Tunnel };
        match patience.ends(whom, self.up.progress() + self.down.progress()) {
            true => Poll::Ready(Err((Party::Proxy, Cause::Timeout))),
            false => Poll::Pending,
        }
    }

    /// Moves what can be moved. True if a direction has just come to its end.
    fn pass_on(&mut self, cx: &mut Context<'_>, connection: &Connection) -> bool {
        let context = &connection.worker.context;
        let (client, upstream) = (&connection.carrier, &self.upstream.carrier);
        let mut is_over = false;
        if !self.up_over
            && let Poll::Ready(ended) = self.up.poll(cx, context, (client, upstream))
        {
            is_over = true;
            match ended {
                Ok(()) => {
                    // It may be gone already; then reading from it says so.
                    let _ = upstream.shutdown_write();
                }
                Err(PumpError::Source(cause)) => self.broken = Some((Party::Client, cause)),
                Err(PumpError::Sink(cause)) => {
                    self.up.give_up();
                    self.deaf = self.deaf.or(Some((Party::Upstream, cause)));
                }
            }
            self.up_over = true;
        }
        if !self.down_over
            && self.broken.is_none()
            && let Poll::Ready(ended) = self.down.poll(cx, context, (upstream, client))
        {
            is_over = true;
            match ended {
                Ok(()) => {
                    let _ = client.shutdown_write();
                }
                Err(PumpError::Source(cause)) => self.broken = Some((Party::Upstream, cause)),
                Err(PumpError::Sink(cause)) => {
                    self.down.give_up();
                    self.deaf = self.deaf.or(Some((Party::Client, cause)));
                }
            }
            self.down_over = true;
        }
        let moved = |way: &Way| Moved { bytes: way.payload(), messages: 0 };
        self.entry.moved(moved(&self.up), moved(&self.down));
        is_over
    }

    /// What becomes of the client's connection.
    fn after(&self) -> After {
        match self.deaf {
            // What it still sends to an upstream that is gone must not cost it the last words.
            Some((Party::Upstream, _)) if self.down_over => After::Linger,
            _ => After::Close,
        }
    }
}
