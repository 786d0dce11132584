//! Bytes both ways after an upgrade.
//!
//! What always holds: a tunnel exists only after a 101 that names the protocol the client asked for;
//! what the client sent ahead of it goes first; what a side said before it took nothing more arrives;
//! a tunnel in which nothing moves for its idle time ends; while nothing moves it holds no buffer.

use std::future::poll_fn;
use std::task::Poll;

use net::buffer::Buffer;
use wire::head::Framing;

use super::{Patience, Pump, PumpError, Waiting};
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

/// Moves bytes until both sides are done or one breaks.
pub(super) async fn tunnel(
    inbound: &Inbound<'_>,
    taken: Taken,
    (patience, seat): (&mut Patience<'_>, &connections::Tunnel),
    heads: &mut Heads,
    record: &mut Record<'_>,
) -> Done {
    let Taken { connection, mut buffer, lead } = taken;
    buffer.consume(heads.response.len);
    let context = &inbound.connection.worker.context;
    let client = &inbound.connection.carrier;
    let upstream = &connection.carrier;
    let mut up = Pump::new(Framing::UntilClose, false, Vec::new(), inbound.early, context);
    let mut down = Pump::new(Framing::UntilClose, false, lead, &[], context).with_buffer(buffer);
    let (mut up_over, mut down_over) = (false, false);
    // A side that takes nothing more, and why.
    let mut deaf = None;
    patience.unbounded();
    let ended = poll_fn(|cx| {
        if !up_over {
            match up.poll(cx, client, upstream) {
                Poll::Ready(Ok(())) => {
                    up_over = true;
                    // It may be gone already; then reading from it says so.
                    let _ = upstream.shutdown_write();
                }
                Poll::Ready(Err(PumpError::Source(cause))) => {
                    return Poll::Ready(Err((Party::Client, cause)));
                }
                Poll::Ready(Err(PumpError::Sink(cause))) => {
                    up_over = true;
                    deaf = deaf.or(Some((Party::Upstream, cause)));
                }
                Poll::Pending => {}
            }
        }
        if !down_over {
            match down.poll(cx, upstream, client) {
                Poll::Ready(Ok(())) => {
                    down_over = true;
                    let _ = client.shutdown_write();
                }
                Poll::Ready(Err(PumpError::Source(cause))) => {
                    return Poll::Ready(Err((Party::Upstream, cause)));
                }
                Poll::Ready(Err(PumpError::Sink(cause))) => {
                    down_over = true;
                    deaf = deaf.or(Some((Party::Client, cause)));
                }
                Poll::Pending => {}
            }
        }
        if up_over && down_over {
            return Poll::Ready(deaf.map_or(Ok(()), Err));
        }
        let moved = |pump: &Pump<'_>| Moved { bytes: pump.payload(), messages: 0 };
        seat.moved(moved(&up), moved(&down));
        if seat.asked_to_close().is_some() {
            return Poll::Ready(Err((Party::Proxy, Cause::Aborted)));
        }
        let whom = if up_over || down_over { Waiting::TunnelEnd } else { Waiting::Tunnel };
        match patience.ends(whom, up.progress() + down.progress()) {
            true => Poll::Ready(Err((Party::Proxy, Cause::Timeout))),
            false => Poll::Pending,
        }
    })
    .await;
    if let Err((by, cause)) = ended {
        record.ended = failed(by, Phase::Tunnel, cause);
    }
    record.request_bytes = up.payload();
    record.response_bytes = down.payload();
    heads.spare = down.take_parts().0;
    // What the client still sends to an upstream that is gone must not cost it the last words.
    let after = match deaf {
        Some((Party::Upstream, _)) if down_over => After::Linger,
        _ => After::Close,
    };
    Done { after, consumed: inbound.head.len + inbound.early.len(), excess: None }
}
