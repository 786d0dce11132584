//! Bytes both ways after an upgrade.
//!
//! What always holds: a tunnel exists only after a 101 that names the protocol the client asked for;
//! what the client sent ahead of it goes first; what a side said before it took nothing more arrives;
//! a tunnel in which nothing moves for its idle time ends; while nothing moves it holds no buffer.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use config::model::Timeouts;
use net::buffer::Buffer;

use super::way::Way;
use super::{Held, Patience, PumpError, Waiting};
use crate::carrier::Carrier;
use crate::connections::Moved;
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
    let Taken { connection, mut buffer, lead } = taken;
    buffer.consume(heads.response.len);
    let context = &inbound.connection.worker.context;
    let mut patience = Patience::new(inbound.connection, &inbound.snapshot.limits, timeouts);
    patience.unbounded();
    let mut ways = Ways {
        up: Way::new(Vec::new(), inbound.early, context),
        down: Way::new(lead, &buffer, context),
        up_over: false,
        down_over: false,
        deaf: None,
        patience,
        held,
    };
    drop(buffer);
    Box::pin(async move {
        let (client, upstream) = (&inbound.connection.carrier, &connection.carrier);
        let ended = poll_fn(|cx| ways.poll(cx, client, upstream)).await;
        if let Err((by, cause)) = ended {
            record.ended = failed(by, Phase::Tunnel, cause);
        }
        record.request_bytes = ways.up.payload();
        record.response_bytes = ways.down.payload();
        let consumed = inbound.head.len + inbound.early.len();
        Done { after: ways.after(), consumed, excess: None }
    })
}

/// A tunnel's two directions.
struct Ways<'a> {
    /// From the client to the upstream.
    up: Way<'a>,
    /// From the upstream to the client.
    down: Way<'a>,
    up_over: bool,
    down_over: bool,
    /// A side that takes nothing more, and why.
    deaf: Option<(Party, Cause)>,
    patience: Patience<'a>,
    held: Held<'a>,
}

impl Ways<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &Carrier,
        upstream: &Carrier,
    ) -> Poll<Result<(), (Party, Cause)>> {
        let Self { up, down, up_over, down_over, deaf, patience, held } = self;
        if !*up_over {
            match up.poll(cx, client, upstream) {
                Poll::Ready(Ok(())) => {
                    *up_over = true;
                    // It may be gone already; then reading from it says so.
                    let _ = upstream.shutdown_write();
                }
                Poll::Ready(Err(PumpError::Source(cause))) => {
                    return Poll::Ready(Err((Party::Client, cause)));
                }
                Poll::Ready(Err(PumpError::Sink(cause))) => {
                    *up_over = true;
                    up.give_up();
                    *deaf = deaf.or(Some((Party::Upstream, cause)));
                }
                Poll::Pending => {}
            }
        }
        if !*down_over {
            match down.poll(cx, upstream, client) {
                Poll::Ready(Ok(())) => {
                    *down_over = true;
                    let _ = client.shutdown_write();
                }
                Poll::Ready(Err(PumpError::Source(cause))) => {
                    return Poll::Ready(Err((Party::Upstream, cause)));
                }
                Poll::Ready(Err(PumpError::Sink(cause))) => {
                    *down_over = true;
                    down.give_up();
                    *deaf = deaf.or(Some((Party::Client, cause)));
                }
                Poll::Pending => {}
            }
        }
        if *up_over && *down_over {
            return Poll::Ready(deaf.map_or(Ok(()), Err));
        }
        let moved = |way: &Way<'_>| Moved { bytes: way.payload(), messages: 0 };
        held.seat.moved(moved(up), moved(down));
        if held.seat.asked_to_close().is_some() {
            return Poll::Ready(Err((Party::Proxy, Cause::Aborted)));
        }
        let whom = if *up_over || *down_over { Waiting::TunnelEnd } else { Waiting::Tunnel };
        match patience.ends(whom, up.progress() + down.progress()) {
            true => Poll::Ready(Err((Party::Proxy, Cause::Timeout))),
            false => Poll::Pending,
        }
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
