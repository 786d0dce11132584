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

mod attempt;
mod attempts;
mod buffered;
mod hedge;
mod kept;
mod mirror;
mod patience;
mod property;
mod pump;
mod reach;
mod reply;
mod sending;
mod tunnel;
mod wait;
mod way;

pub use kept::Kept;
pub(crate) use mirror::mirror;
pub use patience::{Patience, Waiting, no_upstream_timeouts};
pub use pump::{Blocked, Pump, PumpError};
pub(crate) use tunnel::{Taken, TunnelSlot};

use std::pin::Pin;
use std::time::Duration;

use config::model::{Outcome, Timeouts};
use wire::head::{Framing, Upgrade};

use self::attempt::{Answered, Call, Lost, Underway, Work, attempt};
pub(crate) use self::attempts::wait_out;
use self::attempts::{Attempts, Flight, Reason};
use self::buffered::relay_buffered;
use self::hedge::{hedged, hedges_after};
use self::reply::{Leads, Relayed, relay, response_lead};
use self::sending::Sending;
use crate::balance::Member;
use crate::boxed::boxed;
use crate::buffering;
use crate::connection::Connection;
use crate::connections::{self, TunnelSeat};
use crate::decide::Matched;
use crate::drain::Left;
use crate::exchange::{After, Done, Inbound, failed};
use crate::files::Answer;
use crate::filters::Edits;
use crate::local::{self, Reply, Rest};
use crate::log::{Cause, Failure, Party, Phase, Record};
use crate::recorder::Exchange;
use crate::respond;
use crate::send::write_all;
use crate::websocket::{self, Denied, Place};
use crate::worker::Heads;

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

    /// How the request ended, as routes call it.
    fn outcome(&self) -> Outcome {
        match (self.by, self.cause.class()) {
            (Party::Client, _) => Outcome::ClientError,
            (_, Cause::Timeout) => Outcome::Timeout,
            (_, Cause::CircuitOpen) => Outcome::CircuitOpen,
            (_, Cause::NoEndpoint | Cause::Unresolved) => Outcome::NoEndpoint,
            _ => Outcome::Unreachable,
        }
    }

    /// The status that tells the client.
    fn status(&self) -> u16 {
        match (self.by, self.cause.class()) {
            (Party::Client, Cause::Timeout) => 408,
            (Party::Client, Cause::Malformed) => 400,
            (Party::Client, Cause::Limit) => 413,
            (Party::Client, _) => 499,
            (_, Cause::Timeout) => 504,
            (_, Cause::NoEndpoint | Cause::Unresolved | Cause::CircuitOpen) => 503,
            (Party::Proxy, Cause::Internal) => 500,
            _ => 502,
        }
    }
}

/// What became of a request that was to be forwarded.
pub enum Forwarded<'a> {
    /// The client has its answer, or none is possible.
    Done(Done),
    /// The client has got nothing, and the route of this index takes over.
    Next(usize),
    /// It has become a tunnel.
    Tunnel(Box<Tunnel<'a>>),
}

/// A tunnel that is open on the upstream's side. It may last for hours, so what led to it is no part
/// of it.
pub struct Tunnel<'a> {
    taken: Taken,
    /// What holds for WebSockets of its route.
    sockets: Option<&'a websocket::Settings>,
    timeout: &'a Timeouts,
    place: Option<Box<Place>>,
    flight: Flight<'a>,
}

/// What a tunnel has for as long as it lasts.
pub(crate) struct Held<'a> {
    /// Its place in the list of those that are open.
    pub(crate) seat: TunnelSeat,
    /// Counts it where sockets are counted.
    _place: Option<Box<Place>>,
    /// Counts it at its endpoint.
    _flight: Flight<'a>,
}

impl<'a> Tunnel<'a> {
    /// Passes on what comes from either side: bytes, or frames if the route says something about them.
    pub fn run<'r>(
        self,
        inbound: &'r Inbound<'_>,
        heads: &'r mut Heads,
        record: &'r mut Record<'_>,
        request_id: &'r [u8],
    ) -> Pin<Box<dyn Future<Output = Done> + 'r>>
    where
        'a: 'r,
    {
        let Self { taken, sockets, timeout, place, flight } = self;
        let sockets = sockets.filter(|sockets| sockets.model.needs_frames());
        let seat = sit_down(inbound, sockets.is_some(), record, request_id);
        let held = Held { seat, _place: place, _flight: flight };
        match sockets {
            Some(sockets) => {
                let with = (sockets, timeout.tunnel, held);
                websocket::tunnel(inbound, taken, with, heads, record, request_id)
            }
            None => tunnel::tunnel(inbound, taken, (timeout, held), heads, record),
        }
    }
}

/// Enters a tunnel into the list of those that are open.
fn sit_down(
    inbound: &Inbound<'_>,
    framed: bool,
    record: &Record<'_>,
    request_id: &[u8],
) -> TunnelSeat {
    let Connection { seat, deadline, .. } = inbound.connection;
    seat.tunnels();
    let exchange = Exchange::of(&Record { request_id, ..*record });
    connections::enter_tunnel(seat, &exchange, framed, deadline)
}

/// Forwards the request and passes the response on; in a box that a tunnel outlives.
pub fn forward<'r, 'a>(
    inbound: &'r Inbound<'a>,
    matched: &'r Matched<'a>,
    heads: &'r mut Heads,
    request_id: &'r mut Vec<u8>,
    record: &'r mut Record<'a>,
) -> Pin<Box<impl Future<Output = Forwarded<'a>> + use<'r, 'a>>> {
    Box::into_pin(boxed(|| forwarded(inbound, matched, heads, request_id, record)))
}

async fn forwarded<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'a>,
    heads: &mut Heads,
    request_id: &mut Vec<u8>,
    record: &mut Record<'a>,
) -> Forwarded<'a> {
    if let Some((status, cause)) = refused_unsent(inbound, matched) {
        record.ended = failed(Party::Client, Phase::Decide, cause);
        let edits = matched.route.response(Outcome::ClientError);
        let reply = reply(matched, status, edits, Rest::of(Left::TooMuch));
        let response = local::respond(inbound, reply, &mut heads.out, request_id, record);
        return Forwarded::Done(Box::pin(response).await);
    }
    let sockets = matched.route.websocket.as_ref();
    let place = match sockets.map(|sockets| websocket::admit(inbound, sockets, matched.upgrade)) {
        Some(Err(denied)) => {
            let denied = deny(inbound, matched, *denied, heads, request_id, record);
            return Box::pin(denied).await;
        }
        Some(Ok(place)) => place,
        None => None,
    };
    if matched.route.wants_request_id {
        inbound.ensure_id(request_id);
    }
    match serve(inbound, matched, place, heads, request_id, record).await {
        Ok(forwarded) => forwarded,
        // Few requests need this, so it is no part of every request's memory.
        Err(given_up) => {
            let next = matched.route.next(given_up.broken.outcome());
            if let Some(next) = next.filter(|_| given_up.intact) {
                return Forwarded::Next(next);
            }
            let GivenUp { broken, rest, .. } = *given_up;
            let given_up = give_up(inbound, matched, broken, rest, heads, request_id, record);
            Forwarded::Done(Box::pin(given_up).await)
        }
    }
}

/// Answers a request that may not have, or has to be, a WebSocket.
async fn deny<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'a>,
    denied: Denied,
    heads: &mut Heads,
    request_id: &mut Vec<u8>,
    record: &mut Record<'a>,
) -> Forwarded<'a> {
    if let Some(next) = matched.route.next(denied.outcome) {
        return Forwarded::Next(next);
    }
    record.ended = failed(Party::Client, Phase::Decide, denied.cause);
    let edits = matched.route.response(denied.outcome);
    let rest = inbound.rest();
    let reply = Reply { answer: denied.answer, site: Some(matched.site), edits, rest };
    Forwarded::Done(local::respond(inbound, reply, &mut heads.out, request_id, record).await)
}

/// There is no response to pass on. In a box, so that results that seldom are one do not have its size.
struct GivenUp {
    broken: Broken,
    /// What is left of the request on the client's connection.
    rest: Rest,
    /// The whole request can still be served in another way.
    intact: bool,
}

impl GivenUp {
    /// With a request that cannot be served any more.
    fn for_good(broken: Broken, rest: Rest) -> Box<Self> {
        Box::new(Self { broken, rest, intact: false })
    }
}

/// Makes attempts until one of them has answered and the client has got something of that.
async fn serve<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'a>,
    place: Option<Box<Place>>,
    heads: &mut Heads,
    request_id: &[u8],
    record: &mut Record<'a>,
) -> Result<Forwarded<'a>, Box<GivenUp>> {
    let limits = &inbound.snapshot.limits;
    let mut patience = Patience::new(inbound.connection, limits, &matched.pool.settings.timeout);
    if buffering::wants_request(inbound, matched) {
        let taken = Box::pin(buffering::take_request(inbound, matched, &mut patience)).await;
        taken.map_err(|broken| GivenUp::for_good(broken, Rest::of(Left::TooMuch)))?;
    }
    let permit = match Attempts::permit(inbound, matched) {
        Ok(permit) => permit,
        Err(broken) => {
            return Err(Box::new(GivenUp { broken, rest: inbound.rest(), intact: true }));
        }
    };
    let attempts = Attempts::new(inbound, matched, permit);
    let call = Call { inbound, matched, attempts: &attempts, request_id };
    let mut work = Work {
        heads,
        patience: &mut patience,
        record,
        sent_to: None,
        waits: true,
        holds_interim: false,
        interim: Vec::new(),
        place,
    };
    loop {
        let mut answered = answer(call, &mut work).await?;
        let outcome = matched.route.outcome_of(answered.status);
        if let Some(next) = matched.route.next(outcome)
            && answered.underway.sending.is_repeatable(inbound)
        {
            attempts.end(inbound, Some(answered.status), work.micros());
            answered.underway.sending.give_back(work.heads);
            return Ok(Forwarded::Next(next));
        }
        if let Some(forwarded) = pass_on(call, answered, &mut work).await? {
            return Ok(forwarded);
        }
    }
}

/// Makes attempts until one has an answer for the client.
async fn answer<'r, 'a>(
    call: Call<'r, 'a>,
    work: &mut Work<'_, '_, 'a>,
) -> Result<Answered<'r, 'a>, Box<GivenUp>> {
    let Call { inbound, attempts, .. } = call;
    loop {
        let attempted = match hedges_after(&call) {
            None => attempt(call, work).await,
            Some(after) => Box::pin(hedged(call, after, work)).await,
        };
        let pause = match attempted {
            Ok(mut answered) => {
                let (member, status) = (answered.underway.reached.member, answered.status);
                attempts.answered(inbound, member, status, work.micros());
                match another_instead(call, &answered, work) {
                    None => return Ok(answered),
                    Some(pause) => {
                        answered.underway.sending.give_back(work.heads);
                        pause
                    }
                }
            }
            Err(lost) => {
                attempts.lost(inbound, &lost);
                match another_after(call, &lost, work) {
                    None => return Err(lost.give_up(call, work)),
                    Some(pause) => {
                        if let Some(mut sending) = lost.sending {
                            sending.give_back(work.heads);
                        }
                        pause
                    }
                }
            }
        };
        begin_again(call, pause, work).await?;
    }
}

/// Whether another attempt is made in place of passing on a response with a status that is a reason
/// for it, and after which time.
fn another_instead(
    call: Call<'_, '_>,
    answered: &Answered<'_, '_>,
    work: &Work<'_, '_, '_>,
) -> Option<Duration> {
    let Call { inbound, attempts, .. } = call;
    if !attempts.retries(answered.status) {
        return None;
    }
    let intact = answered.underway.sending.is_repeatable(inbound);
    attempts.again(inbound, work.patience, Reason::Status(answered.status), intact)
}

/// Whether another attempt is made after one that was lost, and after which time.
fn another_after(call: Call<'_, '_>, lost: &Lost<'_>, work: &Work<'_, '_, '_>) -> Option<Duration> {
    let Call { inbound, attempts, .. } = call;
    let (_, reason) = lost.failed.filter(|_| lost.broken.by == Party::Upstream)?;
    let intact = lost.sending.as_ref().is_none_or(|sending| sending.is_repeatable(inbound));
    attempts.again(inbound, work.patience, reason, intact)
}

/// Waits for the time of another attempt.
async fn begin_again(
    call: Call<'_, '_>,
    pause: Duration,
    work: &mut Work<'_, '_, '_>,
) -> Result<(), Box<GivenUp>> {
    work.interim.clear();
    if !pause.is_zero() {
        let waited = Box::pin(wait_out(call.inbound, pause)).await;
        waited.map_err(|broken| GivenUp::for_good(broken, call.inbound.rest()))?;
    }
    work.patience.renew();
    Ok(())
}

impl Lost<'_> {
    /// No further attempt follows.
    fn give_up(self, call: Call<'_, '_>, work: &mut Work<'_, '_, '_>) -> Box<GivenUp> {
        let inbound = call.inbound;
        if self.broken.by == Party::Upstream {
            call.attempts.end(inbound, None, self.micros);
        }
        let intact = self.broken.by != Party::Client
            && self.sending.as_ref().is_none_or(|sending| sending.is_repeatable(inbound));
        let rest = match self.sending {
            Some(mut sending) => {
                work.record.request_bytes = sending.payload(inbound);
                sending.rest(inbound, work.heads)
            }
            None => inbound.rest(),
        };
        Box::new(GivenUp { broken: self.broken, rest, intact })
    }
}

/// Passes an answer on. `None` if that failed before the client got anything of it, and another
/// attempt may be made.
async fn pass_on<'r, 'a>(
    call: Call<'r, 'a>,
    answered: Answered<'r, 'a>,
    work: &mut Work<'_, '_, 'a>,
) -> Result<Option<Forwarded<'a>>, Box<GivenUp>> {
    let Call { inbound, matched, attempts, .. } = call;
    let Answered { mut underway, buffer, status } = answered;
    let member = underway.reached.member;
    inbound.recall(work.record);
    attempts.end(inbound, Some(status), work.micros());
    attempts.stick(inbound, member, work.heads, &buffer);
    work.record.status = status;
    if !work.interim.is_empty() {
        let passed = Box::pin(pass_interim_on(call, work)).await;
        passed.map_err(|broken| GivenUp::for_good(broken, Rest::of(Left::TooMuch)))?;
    }
    if status == 101 {
        if !(matched.upgrade && work.heads.response.upgrade == Upgrade::WebSocket) {
            let broken = Broken::new(Party::Upstream, Phase::FirstByte, Cause::BadUpgrade);
            return Err(GivenUp::for_good(broken, underway.sending.rest(inbound, work.heads)));
        }
        let lead = response_lead(call, member, work.heads, &buffer, Leads::Tunnel);
        let Underway { reached, .. } = *underway;
        let taken = Taken { connection: reached.connection, buffer, lead };
        return Ok(Some(Forwarded::Tunnel(Box::new(Tunnel {
            taken,
            sockets: matched.route.websocket.as_ref(),
            timeout: &matched.pool.settings.timeout,
            place: work.place.take(),
            flight: reached.flight,
        }))));
    }
    // It will be no WebSocket, and its place is free before the client knows.
    work.place = None;
    if is_too_long(matched, work.heads.response.framing) {
        let broken = Broken::new(Party::Upstream, Phase::Transfer, Cause::Limit);
        return Err(GivenUp::for_good(broken, underway.sending.rest(inbound, work.heads)));
    }
    let (reached, sending) = (underway.reached, &mut underway.sending);
    let relayed = match buffering::wants_response(matched, &work.heads.response, &buffer) {
        false => relay(call, reached, sending, buffer, work).await,
        true => Box::pin(relay_buffered(call, reached, sending, buffer, work)).await,
    };
    let Some((by @ (Party::Upstream | Party::Proxy), cause)) = relayed.error else {
        return Ok(Some(Forwarded::Done(finish(call, member, sending, relayed, work))));
    };
    let reason = Reason::of(cause);
    // One that is too long is none of the endpoint's failures, and another's is no shorter.
    let failed = cause != Cause::Limit;
    if by == Party::Upstream && failed {
        attempts.failed(inbound, member, reason, cause, work.micros());
    }
    if !relayed.unsent {
        return Ok(Some(Forwarded::Done(finish(call, member, sending, relayed, work))));
    }
    // The client has not seen a byte, so it can still be served, or be told.
    let intact = by == Party::Upstream && failed && sending.is_repeatable(inbound);
    if let Some(pause) = attempts.again(inbound, work.patience, reason, intact) {
        sending.give_back(work.heads);
        begin_again(call, pause, work).await?;
        return Ok(None);
    }
    work.record.request_bytes = sending.payload(inbound);
    let broken = Broken::new(by, Phase::Transfer, cause);
    Err(Box::new(GivenUp { broken, rest: sending.rest(inbound, work.heads), intact }))
}

/// Passes on the interim responses that came before it was known whose response the client gets.
async fn pass_interim_on(call: Call<'_, '_>, work: &mut Work<'_, '_, '_>) -> Result<(), Broken> {
    let client = &call.inbound.connection.carrier;
    for interim in std::mem::take(&mut work.interim) {
        let written = write_all(client, work.patience, &[&interim]).await;
        written.map_err(|cause| Broken::new(Party::Client, Phase::FirstByte, cause))?;
    }
    work.patience.renew();
    Ok(())
}

/// The response is known to be longer than the route passes on.
fn is_too_long(matched: &Matched<'_>, framing: Framing) -> bool {
    match (framing, matched.route.max_response_size) {
        (Framing::Length(length), Some(max)) => length > max,
        _ => false,
    }
}

/// A request that is turned down before anything is sent: too large, or too many bytes sent ahead
/// of an upgrade.
fn refused_unsent(inbound: &Inbound<'_>, matched: &Matched<'_>) -> Option<(u16, Cause)> {
    if buffering::is_too_long(inbound.head.framing, matched) {
        return Some((413, Cause::Limit));
    }
    let too_early = matched.upgrade && inbound.early.len() > inbound.snapshot.limits.early_upgrade;
    too_early.then_some((400, Cause::EarlyUpgrade))
}

/// Says what becomes of the client's connection, now that the response is through or broken off.
fn finish(
    call: Call<'_, '_>,
    member: &Member,
    sending: &mut Sending<'_>,
    relayed: Relayed,
    work: &mut Work<'_, '_, '_>,
) -> Done {
    let Call { inbound, matched, request_id, .. } = call;
    work.record.request_bytes = sending.payload(inbound);
    let consumed = inbound.head.len;
    if let Some((by, cause)) = relayed.error {
        work.record.ended = failed(by, Phase::Transfer, cause);
        if by != Party::Client {
            let broken = Broken::new(by, Phase::Transfer, cause);
            tell(inbound, matched, Some(member), &broken, None, request_id);
        }
        let consumed = consumed + inbound.early.len();
        return Done { after: relayed.after, consumed, excess: None };
    }
    match sending.rest(inbound, work.heads) {
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
    // That the circuit is open was told when it opened.
    if broken.by != Party::Client && broken.cause != Cause::CircuitOpen {
        inbound.ensure_id(request_id);
        let member = matched.pool.balancer.members().iter().find(|m| m.url == record.endpoint);
        tell(inbound, matched, member, &broken, Some(status), request_id);
    }
    if status == 499 {
        return Done { after: After::Close, consumed: inbound.head.len, excess: None };
    }
    let mut reply = reply(matched, status, matched.route.response(broken.outcome()), rest);
    if let Some(seconds) = broken.retry_after {
        reply.answer = respond::unavailable(seconds);
    }
    local::respond(inbound, reply, &mut heads.out, request_id, record).await
}

/// An error in place of the upstream's response.
fn reply<'a>(matched: &Matched<'a>, status: u16, edits: &'a Edits, rest: Rest) -> Reply<'a> {
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
