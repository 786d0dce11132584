//! Passing a response on by way of memory and a temporary file, so that the upstream need not wait
//! for the client.
//!
//! What always holds: the upstream is done with when its response is here and the request is sent,
//! however much of it the client has yet to take; each side is waited for by its own time limit; what
//! the upstream broke off never ends cleanly for the client.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use net::buffer::Buffer;
use wire::head::Framing;

use super::attempt::{Call, Work};
use super::reach::Reached;
use super::reply::{Relayed, begin_reply, release};
use super::sending::Sending;
use super::wait::ClientWatch;
use super::{Blocked, Pump, PumpError, Waiting};
use crate::buffering::SpooledBody;
use crate::carrier::Carrier;
use crate::log::{Cause, Party};

/// How often the two sides take turns before other tasks have theirs: in each at most some hundred
/// kilobytes to a megabyte move.
const ROUNDS_MAX: u32 = 4;

/// The response on its way in from the upstream.
struct Intake<'a> {
    /// Until the upstream is done with.
    reached: Option<Reached<'a>>,
    pump: Option<Pump<'a>>,
    /// How it ended, once it has.
    end: Option<Result<(), Cause>>,
}

/// Passes a final response on; `buffer` begins with its head.
pub(super) async fn relay_buffered<'r>(
    call: Call<'r, '_>,
    reached: Reached<'r>,
    sending: &mut Sending<'r>,
    mut buffer: Buffer,
    work: &mut Work<'_, '_, '_>,
) -> Relayed {
    let Call { inbound, matched, .. } = call;
    let worker = &inbound.connection.worker;
    let client = &inbound.connection.carrier;
    let (outlet, lead) = begin_reply(call, reached.member, sending, work.heads, &mut buffer);
    let Work { heads, patience, record, .. } = work;
    let framing = heads.response.framing;
    let may_keep = heads.response.keep_alive && !heads.interim_at_fault;
    let body = Carrier::Spooled(Box::new(SpooledBody::passing(&matched.proxy.buffering, worker)));
    let pump = Pump::new(framing, false, Vec::new(), &[], &worker.context)
        .with_buffer(buffer)
        .with_payload_max(matched.route.max_response_size);
    let mut intake = Intake { reached: Some(reached), pump: Some(pump), end: None };
    // What has come already goes out together with the head.
    let first = poll_fn(|cx| {
        intake.poll(cx, &body);
        intake.end_upstream(call, sending, may_keep);
        let mut first = worker.context.buffers.get();
        let count = body.try_read(first.spare_mut()).unwrap_or(0);
        first.advance(count);
        Poll::Ready(first)
    })
    .await;
    let framing = match framing {
        Framing::Chunked => Framing::UntilClose,
        framing => framing,
    };
    let mut reply =
        Pump::new(framing, outlet.chunked, lead, &[], &worker.context).with_buffer(first);
    let deadline = worker.context.timers.deadline();
    let mut upstream_patience = patience.beside(&deadline);
    let mut watch = ClientWatch::new();
    let result = poll_fn(|cx| {
        let _woken_by_it = deadline.poll_expired(cx);
        let mut rounds = 0;
        loop {
            let before = intake.progress() + reply.progress();
            if let Some(reached) = &intake.reached {
                sending.drive(cx, inbound, &reached.connection.carrier);
            }
            intake.poll(cx, &body);
            intake.end_upstream(call, sending, may_keep);
            if intake.has_failed() && reply.is_unsent() {
                return Poll::Ready(Err(PumpError::Source(Cause::Closed)));
            }
            if let Poll::Ready(result) = reply.poll(cx, &body, client) {
                return Poll::Ready(result);
            }
            // What one side did gives the other something to do.
            if intake.progress() + reply.progress() == before {
                break;
            }
            rounds += 1;
            if rounds == ROUNDS_MAX {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if sending.over && watch.is_gone(cx, client) {
            return Poll::Ready(Err(PumpError::Sink(Cause::Closed)));
        }
        let moved = intake.progress() + sending.progress();
        if !intake.waits_for_upstream() {
            upstream_patience.renew();
        } else if upstream_patience.ends(Waiting::UpstreamToSend, moved) {
            intake.fails(Cause::Timeout, &body);
            cx.waker().wake_by_ref();
        }
        match reply.blocked() {
            Blocked::OnSource => patience.renew(),
            Blocked::OnSink => {
                if patience.ends(Waiting::ClientToReceive, reply.progress()) {
                    return Poll::Ready(Err(PumpError::Sink(Cause::Timeout)));
                }
            }
        }
        Poll::Pending
    })
    .await;
    record.response_bytes = reply.payload();
    let unsent = reply.is_unsent();
    heads.spare = reply.take_parts().0;
    if let Carrier::Spooled(body) = &body
        && let Some(fault) = body.take_fault()
    {
        let site = &matched.site.name;
        worker.error_log.warn(format_args!("site {site:?}: buffering a response: {fault}"));
    }
    let error = result.err().map(|error| match (error, intake.end) {
        (PumpError::Sink(cause), _) => (Party::Client, cause),
        (PumpError::Source(_), Some(Err(cause))) => (Party::Upstream, cause),
        // What was here cannot be read any more.
        (PumpError::Source(_), _) => (Party::Proxy, Cause::Internal),
    });
    let after = outlet.after(error.is_none());
    Relayed { after, error, unsent }
}

impl Intake<'_> {
    /// Takes what the upstream has sent.
    fn poll(&mut self, cx: &mut Context<'_>, body: &Carrier) {
        if self.end.is_some() {
            return;
        }
        let (Some(reached), Some(pump)) = (&self.reached, &mut self.pump) else { return };
        match pump.poll(cx, &reached.connection.carrier, body) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.end = Some(Ok(())),
            Poll::Ready(Err(PumpError::Source(cause) | PumpError::Sink(cause))) => {
                self.fails(cause, body);
            }
        }
    }

    /// The upstream has broken off.
    fn fails(&mut self, cause: Cause, body: &Carrier) {
        self.end = Some(Err(cause));
        if let Carrier::Spooled(body) = body {
            body.fail(io::ErrorKind::UnexpectedEof);
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.end, Some(Err(_)))
    }

    /// Lets go of the upstream when nothing more is to come from it or to go to it.
    fn end_upstream(&mut self, call: Call<'_, '_>, sending: &Sending<'_>, may_keep: bool) {
        let Some(end) = self.end.filter(|end| sending.over || end.is_err()) else { return };
        let Some(reached) = self.reached.take() else { return };
        let excess = self.pump.take().and_then(|mut pump| pump.take_parts().1);
        let reusable = end.is_ok()
            && sending.is_whole()
            && excess.is_none()
            && may_keep
            && !reached.connection.carrier.delimits();
        release(call, reached, reusable);
    }

    /// It is the upstream's turn.
    fn waits_for_upstream(&self) -> bool {
        self.end.is_none()
            && self.pump.as_ref().is_some_and(|pump| pump.blocked() == Blocked::OnSource)
    }

    /// Grows with every byte that is taken, until the upstream is done with.
    fn progress(&self) -> u64 {
        self.pump.as_ref().map_or(0, Pump::progress)
    }
}
