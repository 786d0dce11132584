//! A response on its way to the client, as fast as the client takes it.
//!
//! What always holds: a response that breaks off never ends cleanly for the client; an upstream
//! connection is kept only if the whole request went over it and the whole response came back, with
//! not one byte more.

use std::future::poll_fn;
use std::task::Poll;

use config::model::UpstreamAddress;
use net::buffer::Buffer;
use wire::head::{Framing, ResponseHead, Version};

use super::attempt::{Call, Work};
use super::reach::Reached;
use super::sending::Sending;
use super::wait::ClientWatch;
use super::{Blocked, Pump, PumpError, Waiting};
use crate::balance::Member;
use crate::buffering;
use crate::decide::Matched;
use crate::exchange::{After, Inbound};
use crate::filters::{ConnectionSays, PublicPath, ResponseHeadParts, write_response_head};
use crate::log::{Cause, Party};
use crate::upstream::FirstRead;
use crate::worker::Heads;

/// Passes a final response on; `buffer` begins with its head.
pub(super) async fn relay<'r>(
    call: Call<'r, '_>,
    reached: Reached<'r>,
    sending: &mut Sending<'r>,
    mut buffer: Buffer,
    work: &mut Work<'_, '_, '_>,
) -> Relayed {
    let inbound = call.inbound;
    let framing = work.heads.response.framing;
    let (outlet, lead) = begin_reply(call, reached.member, sending, work.heads, &mut buffer);
    let context = &inbound.connection.worker.context;
    let mut reply = Pump::new(framing, outlet.chunked, lead, &[], context)
        .with_buffer(buffer)
        .with_head_and_body_at_once()
        .with_payload_max(call.matched.route.max_response_size);
    let client = &inbound.connection.carrier;
    let Work { heads, patience, record, .. } = work;
    let mut source = Some(reached);
    let mut watch = ClientWatch::new();
    let result = poll_fn(|cx| {
        let moved = match &source {
            Some(reached) => {
                let upstream = &reached.connection.carrier;
                sending.drive(cx, inbound, upstream);
                reply.poll_source(cx, upstream, client)
            }
            None => Poll::Ready(Ok(())),
        };
        // The upstream is let go before the client can have seen all, and however slow that one is.
        if sending.over
            && matches!(moved, Poll::Ready(Ok(())))
            && let Some(reached) = source.take()
        {
            let_go(call, reached, sending, &reply, heads);
        }
        let moved = match moved {
            Poll::Ready(Ok(())) => reply.poll_rest(cx, client),
            moved => moved,
        };
        match moved {
            Poll::Ready(result) => return Poll::Ready(result),
            Poll::Pending if sending.over && watch.is_gone(cx, client) => {
                return Poll::Ready(Err(PumpError::Sink(Cause::Closed)));
            }
            Poll::Pending => {}
        }
        let (whom, late) = match reply.blocked() {
            Blocked::OnSource => (Waiting::UpstreamToSend, PumpError::Source(Cause::Timeout)),
            Blocked::OnSink => (Waiting::ClientToReceive, PumpError::Sink(Cause::Timeout)),
        };
        // An upstream that takes the request while it answers is not silent.
        match patience.ends(whom, reply.progress() + sending.progress()) {
            true => Poll::Ready(Err(late)),
            false => Poll::Pending,
        }
    })
    .await;
    record.response_bytes = reply.payload();
    let unsent = reply.is_unsent();
    heads.spare = reply.take_parts().0;
    let after = outlet.after(result.is_ok());
    let error = result.err().map(|error| match error {
        PumpError::Source(cause) => (Party::Upstream, cause),
        PumpError::Sink(cause) => (Party::Client, cause),
    });
    Relayed { after, error, unsent }
}

/// Lets go of an upstream whose whole response has been taken, and that gets no more of the request: its
/// connection may have another exchange, and its place is another request's.
fn let_go(
    call: Call<'_, '_>,
    reached: Reached<'_>,
    sending: &Sending<'_>,
    reply: &Pump<'_>,
    heads: &Heads,
) {
    let head = &heads.response;
    let (client, upstream) = (&call.inbound.connection.carrier, &reached.connection.carrier);
    let may_splice = matches!(head.framing, Framing::Length(_))
        && client.plain().is_some()
        && upstream.plain().is_some();
    let length = head.len as u64 + reply.payload();
    reached.connection.first_read.set(FirstRead::of(length, may_splice));
    let reusable = sending.is_whole()
        && !reply.has_excess()
        && head.keep_alive
        && !heads.interim_at_fault
        && !upstream.delimits();
    release(call, reached, reusable);
}

/// How a response was passed on.
pub(super) struct Relayed {
    pub(super) after: After,
    /// Who broke it off, and why.
    pub(super) error: Option<(Party, Cause)>,
    /// Not a byte of it has reached the client.
    pub(super) unsent: bool,
}

/// Keeps the upstream connection for the next exchange, if it is fit for that.
pub(super) fn release(call: Call<'_, '_>, reached: Reached<'_>, reusable: bool) {
    let Call { inbound, matched, .. } = call;
    // What told of one client is no other's.
    let own = reached.member.endpoint.transport.proxy_protocol.is_some();
    if reusable && !own {
        let id = reached.member.endpoint.id;
        let idle = &inbound.connection.worker.idle;
        idle.borrow_mut().put(id, reached.connection, &matched.pool.settings.idle);
    }
}

/// How a response goes out to the client.
pub(super) struct Outlet {
    pub(super) chunked: bool,
    /// It ends with the connection.
    pub(super) until_close: bool,
    /// Bytes were sent ahead of an upgrade that did not happen; they are not a request.
    pub(super) stray: bool,
    /// The client's connection may carry another request.
    pub(super) persist: bool,
}

/// How the response goes out, and its head; `buffer` holds the body's first bytes afterwards.
pub(super) fn begin_reply(
    call: Call<'_, '_>,
    member: &Member,
    sending: &Sending<'_>,
    heads: &mut Heads,
    buffer: &mut Buffer,
) -> (Outlet, Vec<u8>) {
    let outlet = outlet(call, &heads.response, sending);
    let lead = response_lead(call, member, heads, buffer, Leads::Body(&outlet));
    buffer.consume(heads.response.len);
    (outlet, lead)
}

fn outlet(call: Call<'_, '_>, head: &ResponseHead, sending: &Sending<'_>) -> Outlet {
    let Call { inbound, matched, .. } = call;
    let chunked = goes_out_chunked(inbound, head);
    let until_close = !chunked
        && !inbound.connection.carrier.delimits()
        && matches!(head.framing, Framing::Chunked | Framing::UntilClose);
    let stray = matched.upgrade && !inbound.early.is_empty();
    let persist = inbound.may_persist() && !until_close && !stray && sending.source_done(inbound);
    Outlet { chunked, until_close, stray, persist }
}

impl Outlet {
    /// What becomes of the client's connection after a response that is `whole` or not.
    pub(super) fn after(&self, whole: bool) -> After {
        match whole {
            true if self.until_close || self.stray => After::Linger,
            true if self.persist => After::Persist,
            true => After::Close,
            // The client sees too few bytes or no last chunk; what lasts until close needs a reset.
            false if self.until_close => After::Reset,
            false => After::Close,
        }
    }
}

/// What comes behind a response head.
pub(super) enum Leads<'o> {
    /// The body.
    Body(&'o Outlet),
    /// Bytes both ways.
    Tunnel,
}

/// The response head as the client gets it.
pub(super) fn response_lead(
    call: Call<'_, '_>,
    member: &Member,
    heads: &mut Heads,
    bytes: &[u8],
    to: Leads<'_>,
) -> Vec<u8> {
    let Call { inbound, matched, request_id, .. } = call;
    let head = &heads.response;
    let mut lead = std::mem::take(&mut heads.spare);
    lead.clear();
    if let Some(says) = &matched.site.proxy_status {
        says.of_forwarded(member, head.status, &mut inbound.lines.borrow_mut().status);
    }
    let parts = ResponseHeadParts {
        head,
        bytes,
        edits: matched.route.response(matched.route.outcome_of(head.status)),
        via: matched.route.forwarding.via,
        public_path: public_path(matched, member),
        hides_buffering: buffering::hides_field(matched, head, bytes),
        chunked: goes_out_chunked(inbound, head),
        connection: match to {
            Leads::Tunnel => ConnectionSays::Upgrade,
            Leads::Body(outlet) => inbound.says(outlet.persist),
        },
        date_line: &inbound.connection.worker.date_line(),
        cookie_line: &heads.cookie,
        lines: &inbound.lines.borrow(),
        request_id,
    };
    write_response_head(&parts, &mut lead);
    inbound.note_response(&lead);
    lead
}

/// Where the upstream's URLs are in public, on a route that tells its clients so.
fn public_path<'a>(matched: &'a Matched<'_>, member: &'a Member) -> Option<PublicPath<'a>> {
    let prefix = matched.route.public_prefix.as_deref()?;
    let port = match &member.endpoint.address {
        UpstreamAddress::Tcp { port, .. } => *port,
        UpstreamAddress::Unix(_) => 0,
    };
    Some(PublicPath {
        prefix,
        base_path: &member.base_path,
        host: member.endpoint.host(),
        port,
        secure: member.endpoint.transport.tls.is_some(),
    })
}

fn goes_out_chunked(inbound: &Inbound<'_>, head: &ResponseHead) -> bool {
    inbound.head.version == Version::Http11
        && matches!(head.framing, Framing::Chunked | Framing::UntilClose)
}
