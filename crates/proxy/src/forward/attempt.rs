//! One attempt: an endpoint is chosen and reached, the request sent, the response head awaited.
//!
//! What always holds: an attempt has one endpoint; a kept connection that its upstream closed at the
//! moment when the request came is replaced by a new one to the same endpoint, and does not count as
//! a failure.

use std::time::Instant;

use net::buffer::Buffer;
use net::timer::Tick;
use wire::head::{Upgrade, Version};

use super::attempts::{Attempts, Next, Reason, SentTo, is_idempotent};
use super::reach::{Reached, open_in_time, ready_connection};
use super::sending::{Sending, request_pump};
use super::wait::{Awaited, await_response};
use super::{Broken, Patience};
use crate::balance::Member;
use crate::boxed::boxed;
use crate::decide::Matched;
use crate::exchange::Inbound;
use crate::filters::write_informational;
use crate::log::{Cause, Party, Phase, Record};
use crate::metrics::{Metrics, Series};
use crate::send::write_all;
use crate::upstream::ConnectError;
use crate::websocket::Place;
use crate::worker::Heads;

/// Interim (1xx) responses passed on for one request; an upstream that sends more is at fault.
const INTERIM_MAX: usize = 8;

/// What is the same for all attempts of a request.
#[derive(Clone, Copy)]
pub(super) struct Call<'r, 'a> {
    pub(super) inbound: &'r Inbound<'a>,
    pub(super) matched: &'r Matched<'a>,
    pub(super) attempts: &'r Attempts<'a>,
    pub(super) request_id: &'r [u8],
}

/// What one attempt works with.
pub(super) struct Work<'w, 'p, 'a> {
    pub(super) heads: &'w mut Heads,
    pub(super) patience: &'w mut Patience<'p>,
    pub(super) record: &'w mut Record<'a>,
    pub(super) sent_to: Option<SentTo<'a>>,
    /// It may wait for a place at an endpoint.
    pub(super) waits: bool,
    /// It may be one of two at the same time: interim responses are held until it is known whose
    /// response the client gets.
    pub(super) holds_interim: bool,
    /// Interim responses that the client has not got yet.
    pub(super) interim: Vec<Vec<u8>>,
    /// The place among the open WebSockets of the route, if they are counted.
    pub(super) place: Option<Box<Place>>,
}

/// A request on its way to the endpoint that was reached. In a box: it is large, and goes from hand to
/// hand.
pub(super) struct Underway<'r, 'a> {
    pub(super) reached: Reached<'a>,
    pub(super) sending: Sending<'r>,
}

/// A response has begun.
pub(super) struct Answered<'r, 'a> {
    pub(super) underway: Box<Underway<'r, 'a>>,
    /// Begins with the response head, which is indexed in the attempt's [`Heads`].
    pub(super) buffer: Buffer,
    pub(super) status: u16,
}

/// No response has come. In a box, so that results that seldom are one do not have its size.
pub(super) struct Lost<'a> {
    pub(super) broken: Broken,
    /// Where the request went, if it got that far, and how that failed.
    pub(super) failed: Option<(&'a Member, Reason)>,
    /// What was sent of it.
    pub(super) sending: Option<Sending<'a>>,
    /// How long that took, where somebody goes by it.
    pub(super) micros: Option<u64>,
}

impl<'a> Work<'_, '_, 'a> {
    /// How long the last attempt has taken, where somebody goes by it.
    pub(super) fn micros(&self) -> Option<u64> {
        self.sent_to.map(SentTo::micros)
    }

    fn lost<'r>(
        &self,
        broken: Broken,
        failed: Option<(&'r Member, Reason)>,
        sending: Option<Sending<'r>>,
    ) -> Box<Lost<'r>> {
        Box::new(Lost { broken, failed, sending, micros: self.micros() })
    }
}

/// Makes one attempt.
pub(super) async fn attempt<'r, 'a>(
    call: Call<'r, 'a>,
    work: &mut Work<'_, '_, 'a>,
) -> Result<Answered<'r, 'a>, Box<Lost<'r>>>
where
    'a: 'r,
{
    let Call { inbound, matched, attempts, request_id } = call;
    let chosen = match attempts.next(inbound, work.waits) {
        Next::Member(member, flight) => Ok((member, flight)),
        // Few requests wait, so the steps of that are no part of every request's memory.
        Next::Full => Box::pin(attempts.wait(inbound, work.patience, work.waits)).await,
        Next::Nothing => Err(attempts.nothing()),
    };
    work.record.times.queue = attempts.queued();
    let (member, mut flight) = chosen.map_err(|broken| work.lost(broken, None, None))?;
    attempts.tries(member);
    work.record.attempts = attempts.made();
    work.record.endpoint = &member.url;
    work.record.member = Some(member);
    inbound.connection.seat.tries(matched.pool, member);
    let span = inbound.begin_attempt(member);
    let _counted = Counted::new(inbound, member);
    let began = Tick::now();
    work.sent_to = attempts.wants_latency().then(|| SentTo { member, began: Instant::now() });
    let mut fresh_only = false;
    loop {
        work.record.times.connect = None;
        let connection = match ready_connection(inbound, member, fresh_only) {
            Some(connection) => connection,
            None => {
                let opened = Box::pin(open_in_time(call, member, work)).await;
                opened.map_err(|error| unreached(error, member, began, work))?
            }
        };
        work.record.reused = connection.reused;
        let mut underway = boxed(|| {
            let reached = Reached { member, connection, flight, span };
            let pump = request_pump(inbound, matched, &reached, work.heads, request_id);
            Underway { reached, sending: Sending::new(pump) }
        });
        match response_head(call, &mut underway, work).await {
            Ok(buffer) => {
                let status = work.heads.response.status;
                return Ok(Answered { underway, buffer, status });
            }
            Err(awaited) if !fresh_only && is_lost(inbound, &underway, &awaited) => {
                fresh_only = true;
                let idle = &inbound.connection.worker.idle;
                idle.borrow_mut().distrust(member.endpoint.id);
                underway.sending.give_back(work.heads);
                work.patience.renew();
                flight = underway.reached.flight;
            }
            Err(awaited) => {
                let Awaited { broken, may_send_again } = *awaited;
                let Underway { reached, sending } = *underway;
                let refused = may_send_again && reached.connection.carrier.was_refused();
                let reason = match broken.cause {
                    _ if refused => Reason::Refused,
                    Cause::Timeout | Cause::Down if work.patience.is_cut_short(began) => {
                        Reason::Expired
                    }
                    cause => Reason::of(cause),
                };
                let cause = match (refused, broken.cause) {
                    (true, Cause::Reset) => Cause::Goaway,
                    (_, cause) => cause,
                };
                let broken = Broken { cause, ..broken };
                return Err(work.lost(broken, Some((member, reason)), Some(sending)));
            }
        }
    }
}

/// There is no connection to `member`.
fn unreached<'r>(
    error: ConnectError,
    member: &'r Member,
    began: Tick,
    work: &Work<'_, '_, '_>,
) -> Box<Lost<'r>> {
    let broken = Broken::new(Party::Upstream, Phase::Connect, error.cause);
    let broken = Broken { detail: error.detail, ..broken };
    let reason = match error.cause {
        Cause::Timeout if work.patience.is_cut_short(began) => Reason::Expired,
        _ => Reason::Connect,
    };
    work.lost(broken, Some((member, reason)), None)
}

/// Counts an attempt when it ends: with a response head, without one, or dropped because nobody waits
/// for it any more.
struct Counted<'c> {
    metrics: &'c Metrics,
    member: &'c Series,
}

impl<'c> Counted<'c> {
    fn new(inbound: &'c Inbound<'_>, member: &'c Member) -> Self {
        Self { metrics: &inbound.connection.worker.metrics, member: &member.series }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.attempted(self.member);
    }
}

/// A kept connection was closed by the upstream, as it does with idle ones, at the moment when the
/// request came; it can go over a new one.
fn is_lost(inbound: &Inbound<'_>, underway: &Underway<'_, '_>, awaited: &Awaited) -> bool {
    let Underway { reached, sending } = underway;
    let replayable = is_idempotent(inbound) && sending.is_repeatable(inbound);
    reached.connection.reused
        && awaited.may_send_again
        && !reached.connection.carrier.was_refused()
        && (replayable || sending.is_untouched())
}

/// Waits for the final response head, passing interim ones on. The buffer begins with the head.
async fn response_head(
    call: Call<'_, '_>,
    underway: &mut Underway<'_, '_>,
    work: &mut Work<'_, '_, '_>,
) -> Result<Buffer, Box<Awaited>> {
    let Call { inbound, matched, .. } = call;
    let mut buffer: Option<Buffer> = None;
    work.heads.interim_at_fault = false;
    let malformed = |cause: Cause, what: &str| Broken {
        detail: what.to_owned(),
        ..Broken::new(Party::Upstream, Phase::FirstByte, cause)
    };
    for passed_on in 0..=INTERIM_MAX {
        let head = &mut work.heads.response;
        let awaited = await_response(call, underway, head, &mut buffer, work.patience).await;
        // An upstream that sent an interim response did not close an idle connection.
        awaited.map_err(|awaited| match passed_on {
            0 => awaited,
            _ => Awaited::final_(awaited.broken),
        })?;
        let Some(mut bytes) = buffer.take() else { break };
        if work.record.times.first_byte.is_none() {
            work.record.times.first_byte = inbound.elapsed();
        }
        if !head.is_interim() {
            let asked_for = matched.upgrade && head.upgrade == Upgrade::WebSocket;
            return match head.status == 101 && !asked_for {
                true => Err(Awaited::final_(malformed(
                    Cause::BadUpgrade,
                    "a protocol switch nobody asked for",
                ))),
                false => Ok(bytes),
            };
        }
        if passed_on == INTERIM_MAX {
            break;
        }
        if !head.keep_alive {
            work.heads.interim_at_fault = true;
        }
        let len = head.len;
        pass_interim_on(inbound, &bytes, work).await?;
        bytes.consume(len);
        // The final response may take long.
        buffer = Some(bytes).filter(|bytes| !bytes.is_empty());
    }
    Err(Awaited::final_(malformed(Cause::Malformed, "too many interim responses")))
}

/// Passes an interim response on (RFC 9110 §15.2), now or when the final one is.
async fn pass_interim_on(
    inbound: &Inbound<'_>,
    bytes: &[u8],
    work: &mut Work<'_, '_, '_>,
) -> Result<(), Box<Awaited>> {
    if inbound.head.version == Version::Http10 {
        return Ok(());
    }
    let heads = &mut *work.heads;
    heads.spare.clear();
    write_informational(&heads.response, bytes, &mut heads.spare);
    if work.holds_interim {
        work.interim.push(heads.spare.clone());
        return Ok(());
    }
    let client = &inbound.connection.carrier;
    let written = write_all(client, work.patience, &[&heads.spare]).await;
    written
        .map_err(|cause| Awaited::final_(Broken::new(Party::Client, Phase::FirstByte, cause)))?;
    work.patience.renew();
    Ok(())
}
