//! A request forwarded to an upstream, and its response back to the client.
//!
//! [`forward`] reads top-down: reach an endpoint, send the request while waiting for the response
//! head, pass the response on. Both bodies move at once when they have to, driven by the one task of
//! the client's connection.
//!
//! What always holds: an upstream connection is kept only if the whole request went over it and the
//! whole response came back, with not one byte more; a request is sent a second time only if the
//! first cannot have been acted upon or acting twice is harmless; a response that breaks off never
//! ends cleanly for the client.

mod attempts;
mod buffered;
mod patience;
mod pump;
mod reach;
mod sending;
mod tunnel;
mod wait;

pub use patience::{Patience, Waiting, no_upstream_timeouts};
pub use pump::{Blocked, Pump, PumpError};

use std::future::poll_fn;
use std::task::Poll;

use net::buffer::Buffer;
use wire::head::{Framing, ResponseHead, Upgrade, Version};

use self::attempts::{Attempts, Reason, is_idempotent};
use self::buffered::relay_buffered;
use self::reach::{Reached, reach};
use self::sending::{Begun, Sending, send_request};
use self::wait::{Awaited, ClientWatch, await_response};
use crate::balance::Member;
use crate::buffering;
use crate::decide::Matched;
use crate::drain::Left;
use crate::exchange::{After, Done, Inbound, failed};
use crate::files::Answer;
use crate::filters::{ConnectionSays, ResponseHeadParts, write_informational, write_response_head};
use crate::local::{self, Reply, Rest};
use crate::log::{Cause, Failure, Party, Phase, Record};
use crate::respond;
use crate::send::write_all;
use crate::worker::Heads;

/// Interim (1xx) responses passed on for one request; an upstream that sends more is at fault.
const INTERIM_MAX: usize = 8;

/// Why there is no response to pass on.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Who is to blame.
    pub by: Party,
    /// What was being done.
    pub phase: Phase,
    /// What went wrong.
    pub cause: Cause,
    /// The system's words for it, if there are any.
    pub detail: String,
    /// Seconds after which the client may come again, if that is known.
    pub retry_after: Option<u64>,
}

impl Broken {
    /// Without words of the system.
    pub fn new(by: Party, phase: Phase, cause: Cause) -> Self {
        Self { by, phase, cause, detail: String::new(), retry_after: None }
    }

    /// The status that tells the client.
    fn status(&self) -> u16 {
        match (self.by, self.cause) {
            (Party::Client, Cause::Timeout) => 408,
            (Party::Client, Cause::Malformed) => 400,
            (Party::Client, Cause::Limit) => 413,
            (Party::Client, _) => 499,
            (_, Cause::Timeout) => 504,
            (_, Cause::NoEndpoint | Cause::Unresolved) => 503,
            (Party::Proxy, Cause::Internal) => 500,
            _ => 502,
        }
    }
}

/// Forwards the request and passes the response on.
pub async fn forward<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'a>,
    heads: &mut Heads,
    request_id: &mut Vec<u8>,
    record: &mut Record<'a>,
) -> Done {
    if let Some(status) = refused_unsent(inbound, matched) {
        record.ended = failed(Party::Client, Phase::Decide, Cause::Limit);
        let reply = reply(matched, status, Rest::of(Left::TooMuch));
        let response = local::respond(inbound, reply, &mut heads.out, request_id, record);
        return Box::pin(response).await;
    }
    if matched.proxy.wants_request_id {
        inbound.ensure_id(request_id);
    }
    let mut patience =
        Patience::new(inbound.connection, &inbound.snapshot.limits, &matched.proxy.timeout);
    if let Err(broken) = buffering::take_request(inbound, matched, &mut patience).await {
        let rest = Rest::of(Left::TooMuch);
        return Box::pin(give_up(inbound, matched, broken, rest, heads, request_id, record)).await;
    }
    let mut attempts = match Attempts::new(inbound, matched) {
        Ok(attempts) => attempts,
        Err(broken) => {
            let rest = inbound.rest();
            let given_up = give_up(inbound, matched, broken, rest, heads, request_id, record);
            return Box::pin(given_up).await;
        }
    };
    let mut fresh_only = false;
    let mut begun: Option<Begun<'_>> = None;
    let (broken, rest) = loop {
        let reached = reach(inbound, matched, &mut attempts, fresh_only, &patience, record).await;
        let sending = reached.and_then(|reached| {
            let sending = match begun.take() {
                None => send_request(inbound, matched, &reached, heads, request_id),
                Some(sent) if sent.fits(&reached) => {
                    sent.send_again(inbound, matched, &reached, request_id)
                }
                Some(sent) => return Err(begun.insert(sent).why.clone()),
            };
            Ok((reached, sending))
        });
        let (reached, mut sending) = match sending {
            Ok(reached) => reached,
            Err(broken) => {
                let rest = match begun {
                    Some(sent) => sent.sending.rest(inbound, heads),
                    None => inbound.rest(),
                };
                break (broken, rest);
            }
        };
        let awaited =
            response_head(inbound, matched, &reached, &mut sending, heads, &mut patience, record)
                .await;
        let buffer = match awaited {
            Ok(buffer) => buffer,
            Err(awaited) if is_lost(inbound, &reached, &sending, &awaited) && !fresh_only => {
                fresh_only = true;
                attempts.took_back();
                let idle = &inbound.connection.worker.idle;
                idle.borrow_mut().distrust(reached.member.endpoint.id);
                patience.renew();
                heads.out = sending.pump.into_parts().0;
                continue;
            }
            Err(Awaited { broken, may_send_again }) => {
                let carrier = &reached.connection.carrier;
                let refused = may_send_again && carrier.was_refused();
                let reason = if refused { Reason::Refused } else { Reason::of(broken.cause) };
                let repeatable = sending.is_repeatable(inbound);
                let body = if refused && !repeatable { carrier.take_sent() } else { None };
                let intact = repeatable || body.is_some();
                let member = reached.member;
                drop(reached);
                if broken.by == Party::Upstream {
                    // One that says in order that it takes no more (GOAWAY) has not failed.
                    if !refused {
                        attempts.failed(inbound, member, reason, broken.cause);
                    }
                    if attempts.again(inbound, reason, intact).await {
                        patience.renew();
                        match body {
                            Some(body) => begun = Some(Begun { sending, body, why: broken }),
                            None => heads.out = sending.pump.into_parts().0,
                        }
                        continue;
                    }
                }
                record.request_bytes = sending.payload(inbound);
                break (broken, sending.rest(inbound, heads));
            }
        };
        let status = heads.response.status;
        attempts.answered(inbound, reached.member, status);
        if attempts.retries(status) {
            let intact = sending.is_repeatable(inbound);
            if attempts.again(inbound, Reason::Status(status), intact).await {
                patience.renew();
                heads.out = sending.pump.into_parts().0;
                continue;
            }
        }
        attempts.end(inbound, Some(status));
        attempts.stick(inbound, reached.member, heads, &buffer);
        record.status = heads.response.status;
        if heads.response.status == 101 {
            if !(matched.upgrade && heads.response.upgrade == Upgrade::WebSocket) {
                let rest = sending.rest(inbound, heads);
                let broken = Broken::new(Party::Upstream, Phase::FirstByte, Cause::Malformed);
                break (broken, rest);
            }
            let lead = response_lead(inbound, matched, heads, &buffer, false, true, request_id);
            let taken = tunnel::Taken { connection: reached.connection, buffer, lead };
            let tunnel = tunnel::tunnel(inbound, taken, &mut patience, heads, record);
            return Box::pin(tunnel).await;
        }
        let member = reached.member;
        let relayed = match buffering::wants_response(matched, &heads.response, &buffer) {
            false => {
                relay(
                    inbound,
                    matched,
                    reached,
                    &mut sending,
                    buffer,
                    heads,
                    &mut patience,
                    request_id,
                    record,
                )
                .await
            }
            true => {
                Box::pin(relay_buffered(
                    inbound,
                    matched,
                    reached,
                    &mut sending,
                    buffer,
                    heads,
                    &mut patience,
                    request_id,
                    record,
                ))
                .await
            }
        };
        if let Some((by @ (Party::Upstream | Party::Proxy), cause)) = relayed.error
            && relayed.unsent
        {
            // The client has not seen a byte, so it can still be served, or be told.
            let intact = sending.is_repeatable(inbound);
            if by == Party::Upstream {
                attempts.failed(inbound, member, Reason::of(cause), cause);
                if attempts.again(inbound, Reason::of(cause), intact).await {
                    patience.renew();
                    heads.out = sending.pump.into_parts().0;
                    continue;
                }
            }
            record.request_bytes = sending.payload(inbound);
            let rest = sending.rest(inbound, heads);
            break (Broken::new(by, Phase::Transfer, cause), rest);
        }
        if let Some((Party::Upstream, cause)) = relayed.error {
            attempts.failed(inbound, member, Reason::of(cause), cause);
        }
        return finish(inbound, matched, member, sending, relayed, heads, request_id, record);
    };
    if broken.by == Party::Upstream {
        attempts.end(inbound, None);
    }
    // Few requests need this, so it is no part of every request's memory.
    Box::pin(give_up(inbound, matched, broken, rest, heads, request_id, record)).await
}

/// A request that is turned down before anything is sent: too large, or too many bytes sent ahead
/// of an upgrade.
fn refused_unsent(inbound: &Inbound<'_>, matched: &Matched<'_>) -> Option<u16> {
    match (inbound.head.framing, inbound.snapshot.max_request_size) {
        (Framing::Length(length), Some(max)) if length > max => return Some(413),
        _ => {}
    }
    if buffering::is_too_long(inbound, matched) {
        return Some(413);
    }
    let too_early = matched.upgrade && inbound.early.len() > inbound.snapshot.limits.early_upgrade;
    too_early.then_some(400)
}

/// A kept connection was closed by the upstream, as it does with idle ones, at the moment when the
/// request came; it can go over a new one.
fn is_lost(
    inbound: &Inbound<'_>,
    reached: &Reached<'_>,
    sending: &Sending<'_>,
    awaited: &Awaited,
) -> bool {
    let has_body = inbound.head.framing != Framing::None && inbound.taken.get().is_none();
    let replayable = is_idempotent(inbound) && !has_body;
    reached.connection.reused
        && awaited.may_send_again
        && !reached.connection.carrier.was_refused()
        && (replayable || sending.pump.is_untouched())
}

/// Waits for the final response head, passing interim ones on. The buffer begins with the head.
async fn response_head(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    reached: &Reached<'_>,
    sending: &mut Sending<'_>,
    heads: &mut Heads,
    patience: &mut Patience<'_>,
    record: &mut Record<'_>,
) -> Result<Buffer, Awaited> {
    let mut buffer: Option<Buffer> = None;
    heads.interim_at_fault = false;
    let malformed = |what: &str| Broken {
        detail: what.to_owned(),
        ..Broken::new(Party::Upstream, Phase::FirstByte, Cause::Malformed)
    };
    for passed_on in 0..=INTERIM_MAX {
        let upstream = &reached.connection.carrier;
        let head = &mut heads.response;
        let awaited = await_response(inbound, upstream, sending, head, &mut buffer, patience).await;
        // An upstream that sent an interim response did not close an idle connection.
        awaited.map_err(|awaited| match passed_on {
            0 => awaited,
            _ => Awaited::final_(awaited.broken),
        })?;
        let Some(mut bytes) = buffer.take() else { break };
        if record.times.first_byte.is_none() {
            record.times.first_byte = inbound.elapsed();
        }
        if !head.is_interim() {
            let asked_for = matched.upgrade && head.upgrade == Upgrade::WebSocket;
            return match head.status == 101 && !asked_for {
                true => Err(Awaited::final_(malformed("a protocol switch nobody asked for"))),
                false => Ok(bytes),
            };
        }
        if passed_on == INTERIM_MAX {
            break;
        }
        if !head.keep_alive {
            heads.interim_at_fault = true;
        }
        if inbound.head.version != Version::Http10 {
            heads.spare.clear();
            write_informational(head, &bytes, &mut heads.spare);
            let client = &inbound.connection.carrier;
            write_all(client, patience, &[&heads.spare]).await.map_err(|cause| {
                Awaited::final_(Broken::new(Party::Client, Phase::FirstByte, cause))
            })?;
            patience.renew();
        }
        bytes.consume(head.len);
        buffer = Some(bytes);
    }
    Err(Awaited::final_(malformed("too many interim responses")))
}

/// The response head as the client gets it.
fn response_lead(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    heads: &mut Heads,
    bytes: &[u8],
    persist: bool,
    upgraded: bool,
    request_id: &[u8],
) -> Vec<u8> {
    let head = &heads.response;
    let mut lead = std::mem::take(&mut heads.spare);
    lead.clear();
    let parts = ResponseHeadParts {
        head,
        bytes,
        edits: &matched.proxy.response,
        via: matched.proxy.forwarding.via,
        hides_buffering: buffering::hides_field(matched, head, bytes),
        chunked: goes_out_chunked(inbound, head),
        connection: match upgraded {
            true => ConnectionSays::Upgrade,
            false => inbound.says(persist),
        },
        date_line: &inbound.connection.worker.date_line(),
        cookie_line: &heads.cookie,
        request_id,
    };
    write_response_head(&parts, &mut lead);
    lead
}

fn goes_out_chunked(inbound: &Inbound<'_>, head: &ResponseHead) -> bool {
    inbound.head.version == Version::Http11
        && matches!(head.framing, Framing::Chunked | Framing::UntilClose)
}

/// How a response goes out to the client.
struct Outlet {
    chunked: bool,
    /// It ends with the connection.
    until_close: bool,
    /// Bytes were sent ahead of an upgrade that did not happen; they are not a request.
    stray: bool,
    /// The client's connection may carry another request.
    persist: bool,
}

fn outlet(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    head: &ResponseHead,
    sending: &Sending<'_>,
) -> Outlet {
    let chunked = goes_out_chunked(inbound, head);
    let until_close = !chunked
        && !inbound.connection.carrier.delimits()
        && matches!(head.framing, Framing::Chunked | Framing::UntilClose);
    let stray = matched.upgrade && !inbound.early.is_empty();
    let persist = inbound.may_persist() && !until_close && !stray && sending.source_done(inbound);
    Outlet { chunked, until_close, stray, persist }
}

/// Passes a final response on.
#[allow(clippy::too_many_arguments, reason = "what one call needs has many owners")]
async fn relay<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'a>,
    reached: Reached<'a>,
    sending: &mut Sending<'a>,
    mut buffer: Buffer,
    heads: &mut Heads,
    patience: &mut Patience<'_>,
    request_id: &[u8],
    record: &mut Record<'a>,
) -> Relayed {
    let framing = heads.response.framing;
    let Outlet { chunked, until_close, stray, persist } =
        outlet(inbound, matched, &heads.response, sending);
    let lead = response_lead(inbound, matched, heads, &buffer, persist, false, request_id);
    buffer.consume(heads.response.len);
    let context = &inbound.connection.worker.context;
    let mut reply = Pump::new(framing, chunked, lead, &[], context).with_buffer(buffer);
    let client = &inbound.connection.carrier;
    let upstream = &reached.connection.carrier;
    let mut watch = ClientWatch::new();
    let result = poll_fn(|cx| {
        sending.drive(cx, inbound, upstream);
        match reply.poll(cx, upstream, client) {
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
    let (spare, excess) = reply.into_parts();
    heads.spare = spare;
    let whole = result.is_ok() && sending.is_whole() && excess.is_none();
    let after = Relayed::after(result.is_ok(), until_close, stray, persist);
    let reusable = whole
        && heads.response.keep_alive
        && !heads.interim_at_fault
        && !reached.connection.carrier.delimits();
    release(inbound, matched, reached, reusable);
    let error = result.err().map(|error| match error {
        PumpError::Source(cause) => (Party::Upstream, cause),
        PumpError::Sink(cause) => (Party::Client, cause),
    });
    Relayed { after, error, unsent }
}

/// How a response was passed on.
struct Relayed {
    after: After,
    /// Who broke it off, and why.
    error: Option<(Party, Cause)>,
    /// Not a byte of it has reached the client.
    unsent: bool,
}

impl Relayed {
    /// What becomes of the client's connection.
    fn after(whole: bool, until_close: bool, stray: bool, persist: bool) -> After {
        match whole {
            true if until_close || stray => After::Linger,
            true if persist => After::Persist,
            true => After::Close,
            // The client sees too few bytes or no last chunk; what lasts until close needs a reset.
            false if until_close => After::Reset,
            false => After::Close,
        }
    }
}

/// Keeps the upstream connection for the next exchange, if it is fit for that.
fn release(inbound: &Inbound<'_>, matched: &Matched<'_>, reached: Reached<'_>, reusable: bool) {
    // What told of one client is no other's.
    let own = reached.member.endpoint.transport.proxy_protocol.is_some();
    if reusable && !own {
        let id = reached.member.endpoint.id;
        let idle = &inbound.connection.worker.idle;
        idle.borrow_mut().put(id, reached.connection, matched.proxy.idle);
    }
}

/// Says what becomes of the client's connection, now that the response is through or broken off.
#[allow(clippy::too_many_arguments, reason = "what one call needs has many owners")]
fn finish<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'a>,
    member: &Member,
    sending: Sending<'a>,
    relayed: Relayed,
    heads: &mut Heads,
    request_id: &[u8],
    record: &mut Record<'a>,
) -> Done {
    record.request_bytes = sending.payload(inbound);
    let consumed = inbound.head.len;
    if let Some((by, cause)) = relayed.error {
        record.ended = failed(by, Phase::Transfer, cause);
        if by != Party::Client {
            let broken = Broken::new(by, Phase::Transfer, cause);
            tell(inbound, matched, Some(member), &broken, None, request_id);
        }
        let consumed = consumed + inbound.early.len();
        return Done { after: relayed.after, consumed, excess: None };
    }
    match sending.rest(inbound, heads) {
        Rest { left: Left::Nothing(early), excess } => {
            Done { after: relayed.after, consumed: consumed + early, excess }
        }
        _ => Done { after: After::Linger, consumed, excess: None },
    }
}

/// Answers a request that got no response, and says why in the log.
async fn give_up<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'a>,
    broken: Broken,
    rest: Rest,
    heads: &mut Heads,
    request_id: &mut Vec<u8>,
    record: &mut Record<'a>,
) -> Done {
    let status = broken.status();
    record.ended = failed(broken.by, broken.phase, broken.cause);
    record.status = status;
    if broken.by != Party::Client {
        inbound.ensure_id(request_id);
        let member = matched.pool.balancer.members().iter().find(|m| m.url == record.endpoint);
        tell(inbound, matched, member, &broken, Some(status), request_id);
    }
    if status == 499 {
        return Done { after: After::Close, consumed: inbound.head.len, excess: None };
    }
    let mut reply = reply(matched, status, rest);
    if let Some(seconds) = broken.retry_after {
        reply.answer = respond::unavailable(seconds);
    }
    local::respond(inbound, reply, &mut heads.out, request_id, record).await
}

/// An error in place of the upstream's response.
fn reply<'a>(matched: &Matched<'a>, status: u16, rest: Rest) -> Reply<'a> {
    let edits = &matched.proxy.response;
    Reply { answer: Answer::error(status), site: Some(matched.site), edits, rest }
}

/// Writes a line about a failure that the operator may want to look into.
fn tell(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    member: Option<&Member>,
    broken: &Broken,
    answered: Option<u16>,
    request_id: &[u8],
) {
    inbound.connection.worker.error_log.failure(&Failure {
        endpoint: member.map_or("", |member| &member.url),
        pool: &matched.pool.name,
        site: &matched.site.name,
        by: broken.by,
        phase: broken.phase,
        cause: broken.cause,
        detail: &broken.detail,
        answered,
        method: inbound.head.method.of(inbound.bytes),
        target: inbound.head.target.of(inbound.bytes),
        request_id,
    });
}
