//! The request on its way to the upstream.

use std::task::{Context, Poll};

use config::model::UpstreamAddress;
use wire::field::FieldId;
use wire::head::Framing;

use super::kept::kept;
use super::reach::Reached;
use super::{Blocked, Pump, PumpError};
use crate::balance::Member;
use crate::carrier::Carrier;
use crate::decide::Matched;
use crate::drain::Left;
use crate::exchange::Inbound;
use crate::filters::{RequestHeadParts, Told, write_request_head};
use crate::local::Rest;
use crate::log::Cause;
use crate::worker::Heads;

/// The request on its way to the upstream.
pub(super) struct Sending<'a> {
    pump: Pump<'a>,
    /// Nothing more is to be done: all of it is sent, or the upstream takes no more.
    pub(super) over: bool,
    /// The upstream took no more.
    refused: Option<Cause>,
}

impl<'a> Sending<'a> {
    /// Nothing of it is sent yet.
    pub(super) fn new(pump: Pump<'a>) -> Self {
        Self { pump, over: false, refused: None }
    }

    /// All of it was sent.
    pub(super) fn is_whole(&self) -> bool {
        self.over && self.refused.is_none()
    }

    /// It will be made anew: gives the memory of its head back.
    pub(super) fn give_back(&mut self, heads: &mut Heads) {
        heads.out = self.pump.take_parts().0;
    }

    /// Not a byte was read or written.
    pub(super) fn is_untouched(&self) -> bool {
        self.pump.is_untouched()
    }

    /// What is left of the request on the client's connection.
    pub(super) fn rest(&mut self, inbound: &Inbound<'_>, heads: &mut Heads) -> Rest {
        if inbound.taken.get().is_some() {
            heads.out = self.pump.take_parts().0;
            return inbound.rest();
        }
        self.pump.abandon();
        let whole = self.pump.source_done();
        let early_used = inbound.early.len() - self.pump.early_left();
        let untouched = self.pump.is_untouched();
        let (lead, excess) = self.pump.take_parts();
        heads.out = lead;
        // What is behind the body has to be passed on whole, or the connection is out of step.
        let behind_is_lost = inbound.kept.get().is_some_and(|kept| kept.has_more());
        match (whole, untouched) {
            (true, _) if behind_is_lost => Rest::of(Left::TooMuch),
            (true, _) => Rest { left: Left::Nothing(early_used), excess },
            (false, true) => inbound.rest(),
            (false, false) => Rest::of(Left::TooMuch),
        }
    }

    /// All of it was taken off the client's connection.
    pub(super) fn source_done(&self, inbound: &Inbound<'_>) -> bool {
        inbound.taken.get().is_some() || self.pump.source_done()
    }

    /// It can be made anew: nothing was taken of its body, or what was taken is kept.
    pub(super) fn is_repeatable(&self, inbound: &Inbound<'_>) -> bool {
        inbound.taken.get().is_some() || self.pump.is_repeatable()
    }

    /// Bytes of its body that the client has sent.
    pub(super) fn payload(&self, inbound: &Inbound<'_>) -> u64 {
        inbound.taken.get().map_or_else(|| self.pump.payload(), |taken| taken.len())
    }

    /// Moves what can be moved of the request. Not `None` if where it comes from is to blame for an
    /// end to it.
    pub(super) fn drive(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &Inbound<'_>,
        upstream: &Carrier,
    ) -> Option<Cause> {
        if self.over {
            return None;
        }
        match self.pump.poll(cx, inbound.body(), upstream) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.over = true,
            Poll::Ready(Err(PumpError::Sink(cause))) => {
                // The upstream may have answered before it stopped reading.
                self.over = true;
                self.refused = Some(cause);
            }
            Poll::Ready(Err(PumpError::Source(cause))) => {
                self.over = true;
                self.refused = Some(cause);
                return Some(cause);
            }
        }
        None
    }

    /// Whom it waits for; only meaningful after it was driven and is not over.
    pub(super) fn blocked(&self) -> Blocked {
        self.pump.blocked()
    }

    /// Grows with every byte read or written.
    pub(super) fn progress(&self) -> u64 {
        self.pump.progress()
    }
}

/// Makes the request ready to go to the endpoint that was reached.
pub(super) fn request_pump<'a>(
    inbound: &'a Inbound<'a>,
    matched: &Matched<'a>,
    reached: &Reached<'_>,
    heads: &mut Heads,
    request_id: &[u8],
) -> Pump<'a> {
    let mut out = std::mem::take(&mut heads.out);
    out.clear();
    let te_trailers = reached.connection.carrier.delimits() && wants_trailers(inbound);
    let traced = inbound.traced.map(|traced| Told {
        parent: traced.for_upstream(reached.span),
        drops_state: traced.drops_state(),
    });
    let told = (te_trailers, traced.unwrap_or_default());
    request_head(inbound, matched, reached.member, told, request_id, &mut out);
    // What follows an upgrade request belongs to the other protocol, if there will be one.
    let mut early = if matched.upgrade { &[] } else { inbound.early };
    if let Some(taken) = inbound.taken.get() {
        taken.rewind();
        early = &[];
    }
    let framing = inbound.framing();
    let unknown_length = matches!(framing, Framing::Chunked | Framing::UntilClose);
    let chunked = unknown_length && !reached.connection.carrier.delimits();
    let context = &inbound.connection.worker.context;
    Pump::new(framing, chunked, out, early, context)
        .with_payload_max(matched.route.guards.max_body())
        .with_trailers_of(&matched.route.request)
        .with_kept(kept(inbound, matched, reached.member))
}

/// Writes the head of a copy of the request for a member, over a connection of its own.
pub(super) fn write_copy_head(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    member: &Member,
    out: &mut Vec<u8>,
) {
    request_head(inbound, matched, member, (false, Told::default()), &[], out);
    out.truncate(out.len().saturating_sub(b"\r\n".len()));
    out.extend_from_slice(b"Connection: close\r\n\r\n");
}

/// Writes the head for the endpoint that was reached.
fn request_head(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    member: &Member,
    (te_trailers, traced): (bool, Told),
    request_id: &[u8],
    out: &mut Vec<u8>,
) {
    let parts = RequestHeadParts {
        head: inbound.head,
        bytes: inbound.bytes,
        path: &inbound.target.path,
        query: inbound.target.query,
        route: matched.route,
        preserve_host: member.preserve_host.unwrap_or(matched.route.forwarding.preserve_host),
        base_path: &member.base_path,
        authority: inbound.authority(),
        absolute_form: inbound.target.authority.is_some(),
        endpoint_host: match &member.endpoint.address {
            UpstreamAddress::Tcp { .. } => &member.endpoint.label,
            UpstreamAddress::Unix(_) => "localhost",
        },
        client: &inbound.connection.client,
        told_before: &inbound.connection.told_before,
        client_ip: match matched.route.tells_client() {
            true => inbound.client_ip(),
            false => None,
        },
        peer_trusted: inbound.peer_trusted(),
        secure: inbound.connection.tls.is_some(),
        certificate_lines: match matched.proxy.client_auth {
            true => &inbound.connection.certificate_lines,
            false => &[],
        },
        proved_lines: &inbound.proved.lines.borrow(),
        port: inbound.connection.port(),
        length: inbound.taken.get().map(|taken| taken.len()),
        upgrade: matched.upgrade,
        te_trailers,
        traced,
        sticky: matched.pool.sticky.as_ref(),
        request_id,
    };
    write_request_head(&parts, out);
}

/// The client says that it takes trailers (RFC 9110 §10.1.4).
fn wants_trailers(inbound: &Inbound<'_>) -> bool {
    let codings = inbound.value(FieldId::Te).split(|byte| *byte == b',');
    codings.into_iter().any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}
