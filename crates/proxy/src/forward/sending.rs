//! The request on its way to the upstream: made, moved, and where it was refused, made again.

use std::task::{Context, Poll};

use config::model::UpstreamAddress;
use wire::field::FieldId;
use wire::head::Framing;

use super::reach::Reached;
use super::{Blocked, Broken, Pump, PumpError};
use crate::carrier::Carrier;
use crate::decide::Matched;
use crate::drain::Left;
use crate::exchange::Inbound;
use crate::filters::{RequestHeadParts, write_request_head};
use crate::local::Rest;
use crate::log::Cause;
use crate::worker::Heads;

/// The request on its way to the upstream.
pub(super) struct Sending<'a> {
    /// What goes out before anything the pump moves: a head and part of a body.
    prefix: Vec<u8>,
    /// How much of it is the head.
    prefix_head: usize,
    /// How much of it is sent.
    prefix_sent: usize,
    pub(super) pump: Pump<'a>,
    /// Nothing more is to be done: all of it is sent, or the upstream takes no more.
    pub(super) over: bool,
    /// The upstream took no more.
    pub(super) refused: Option<Cause>,
}

impl Sending<'_> {
    /// All of it was sent.
    pub(super) fn is_whole(&self) -> bool {
        self.over && self.refused.is_none()
    }

    /// What is left of the request on the client's connection.
    pub(super) fn rest(mut self, inbound: &Inbound<'_>, heads: &mut Heads) -> Rest {
        if inbound.taken.get().is_some() {
            heads.out = self.pump.into_parts().0;
            return inbound.rest();
        }
        self.pump.abandon();
        let whole = self.pump.source_done();
        let early_used = inbound.early.len() - self.pump.early_left();
        let untouched = self.pump.is_untouched();
        let (lead, excess) = self.pump.into_parts();
        heads.out = lead;
        match (whole, untouched) {
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
        while let Some(rest) = self.prefix.get(self.prefix_sent..).filter(|rest| !rest.is_empty()) {
            match upstream.poll_write(cx, rest) {
                Poll::Ready(Ok(count @ 1..)) => self.prefix_sent += count,
                Poll::Pending => return None,
                Poll::Ready(result) => {
                    self.over = true;
                    self.refused = Some(result.map_or_else(|e| Cause::of(&e), |_| Cause::Closed));
                    return None;
                }
            }
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
        match self.prefix_sent < self.prefix.len() {
            true => Blocked::OnSink,
            false => self.pump.blocked(),
        }
    }

    /// Grows with every byte read or written.
    pub(super) fn progress(&self) -> u64 {
        self.prefix_sent as u64 + self.pump.progress()
    }
}

/// A request that an upstream took part of, and surely did nothing with.
pub(super) struct Begun<'a> {
    pub(super) sending: Sending<'a>,
    /// What it took of the body.
    pub(super) body: Vec<u8>,
    /// How it was refused.
    pub(super) why: Broken,
}

impl<'a> Begun<'a> {
    /// The rest of the body, as it comes from the pump, can go to the endpoint that was reached.
    pub(super) fn fits(&self, reached: &Reached<'_>) -> bool {
        reached.connection.carrier.delimits()
    }

    /// The same request for the endpoint that was reached: the head anew, what was taken of the body,
    /// then the rest.
    pub(super) fn send_again(
        self,
        inbound: &Inbound<'a>,
        matched: &Matched<'_>,
        reached: &Reached<'_>,
        request_id: &[u8],
    ) -> Sending<'a> {
        let mut prefix = Vec::new();
        request_head(inbound, matched, reached, request_id, &mut prefix);
        let prefix_head = prefix.len();
        prefix.extend_from_slice(&self.body);
        // The body that was to be sent again, and was not.
        let Sending { prefix: before, prefix_head: head, prefix_sent: sent, pump, .. } =
            self.sending;
        prefix.extend_from_slice(before.get(sent.max(head)..).unwrap_or_default());
        Sending { prefix, prefix_head, prefix_sent: 0, pump, over: false, refused: None }
    }
}

/// Makes the request ready to go to the endpoint that was reached.
pub(super) fn send_request<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'_>,
    reached: &Reached<'_>,
    heads: &mut Heads,
    request_id: &[u8],
) -> Sending<'a> {
    let mut out = std::mem::take(&mut heads.out);
    out.clear();
    request_head(inbound, matched, reached, request_id, &mut out);
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
    let pump = Pump::new(framing, chunked, out, early, context)
        .with_payload_max(inbound.snapshot.max_request_size);
    let prefix = Vec::new();
    Sending { prefix, prefix_head: 0, prefix_sent: 0, pump, over: false, refused: None }
}

/// Writes the head for the endpoint that was reached.
fn request_head(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    reached: &Reached<'_>,
    request_id: &[u8],
    out: &mut Vec<u8>,
) {
    let member = reached.member;
    let parts = RequestHeadParts {
        head: inbound.head,
        bytes: inbound.bytes,
        path: &inbound.target.path,
        query: inbound.target.query,
        route: matched.route,
        proxy: matched.proxy,
        base_path: &member.base_path,
        authority: inbound.authority(),
        absolute_form: inbound.target.authority.is_some(),
        endpoint_host: match &member.endpoint.address {
            UpstreamAddress::Tcp { .. } => &member.endpoint.label,
            UpstreamAddress::Unix(_) => "localhost",
        },
        client: &inbound.connection.client,
        peer_trusted: inbound.peer_trusted(),
        secure: inbound.connection.tls.is_some(),
        certificate_lines: match matched.proxy.client_auth {
            true => &inbound.connection.certificate_lines,
            false => &[],
        },
        port: inbound.connection.port(),
        length: inbound.taken.get().map(|taken| taken.len()),
        upgrade: matched.upgrade,
        te_trailers: reached.connection.carrier.delimits() && wants_trailers(inbound),
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
