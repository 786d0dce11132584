//! One request and its response.
//!
//! The file to read first: [`exchange`] takes a request whose head is complete, makes it canonical,
//! lets [`decide`](crate::decide) say what becomes of it, and carries that out: forwarded to an
//! upstream, answered from a file, or answered by Ravelin itself. One log line follows, whatever
//! happened.
//!
//! What always holds: the head stays where it is until the exchange is over, so everything
//! (matching, forwarding, logging) refers to the same bytes; a connection persists only if the whole
//! request was taken off it.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Instant;

use config::model::Outcome;
use net::buffer::Buffer;
use net::clock;
use net::prefetch::prefetch;
use net::timer::unix_millis;
use wire::field::FieldId;
use wire::forwarded::client_address;
use wire::head::{Framing, RequestHead, Version};
use wire::host::Host;
use wire::request_id::is_valid_request_id;
use wire::target::{Form, Target, TargetError, parse_target};

use crate::balance::Member;
use crate::buffering::TakenRequest;
use crate::carrier::Carrier;
use crate::connection::Connection;
use crate::connections::Seat;
use crate::decide::{Action, Decision, Request, Trace, decide, passed_on};
use crate::drain::{Left, body_left};
use crate::files::Answer;
use crate::filters::{ConnectionSays, Edits};
use crate::forward::{Forwarded, Kept};
use crate::guards::{Answered, Lines, Proved, Stop};
use crate::local::{Refusal, Reply, Rest};
use crate::log::{Cause, Ended, Party, Phase, Record};
use crate::routes::Fields;
use crate::snapshot::{Site, Snapshot};
use crate::traces::{SpanId, Traced};
use crate::worker::{Heads, Scratch, Worker};
use crate::{forward, guards, local, respond};

/// Bytes of a head that [`Inbound::recall`] asks for: most texts that are told are there.
const RECALLED_MAX: usize = 512;

/// What an exchange leaves behind.
#[derive(Debug)]
pub struct Done {
    /// What becomes of the client connection.
    pub after: After,
    /// How many bytes of the buffer with the head belonged to this request.
    pub consumed: usize,
    /// Bytes of the next request that were read into another buffer.
    pub excess: Option<Buffer>,
}

/// What becomes of a client connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The next request may follow.
    Persist,
    /// It ends; the request was read whole.
    Close,
    /// It ends while the client may still be sending.
    Linger,
    /// It ends so that the client cannot take the response for complete.
    Reset,
}

/// A request as the steps of an exchange see it.
pub struct Inbound<'a> {
    /// The client's connection.
    pub connection: &'a Connection,
    /// The snapshot in force when the request began.
    pub snapshot: &'a Snapshot,
    /// Index over the head.
    pub head: &'a RequestHead,
    /// The bytes it was parsed from.
    pub bytes: &'a [u8],
    /// Bytes read behind the head: body, or the next request.
    pub early: &'a [u8],
    /// The target, with the canonical path.
    pub target: Target<'a>,
    /// When the exchange began, if somebody wants to know how long it took.
    pub started: Option<Instant>,
    /// The body, if it was taken whole before it is passed on.
    pub taken: OnceCell<Box<TakenRequest>>,
    /// What attempts have taken of the body, if it may have to be sent again.
    pub kept: OnceCell<Box<Kept>>,
    /// What its guards have to say in the response, whatever that is.
    pub lines: RefCell<Lines>,
    /// What it has proved.
    pub proved: Proved,
    /// Values of fields of its response that the access log shows.
    pub shown: RefCell<Vec<Vec<u8>>>,
    /// The trace it belongs to, if requests are traced.
    pub traced: Option<&'a Traced<'a>>,
}

impl<'a> Inbound<'a> {
    /// The value of the first field of this id; empty if there is none.
    pub fn value(&self, id: FieldId) -> &'a [u8] {
        self.find(id).unwrap_or_default()
    }

    /// Has what will be told of the exchange come from memory while its response leaves: since it was
    /// written, other requests have had the processor's cache.
    pub fn recall(&self, record: &Record<'_>) {
        if self.started.is_some() {
            prefetch(record);
            prefetch(record.client_text);
            prefetch(self.bytes.get(..RECALLED_MAX).unwrap_or(self.bytes));
        }
    }

    /// The host and port as the client named them.
    pub fn authority(&self) -> &'a [u8] {
        self.head.host.map(|host| host.of(self.bytes)).unwrap_or_default()
    }

    /// The client uses TLS, as far as is known: to Ravelin, or to a trusted peer that says so.
    pub fn is_secure(&self) -> bool {
        self.connection.tls.is_some()
            || self.peer_trusted()
                && self.value(FieldId::XForwardedProto).eq_ignore_ascii_case(b"https")
    }

    /// Where its body is read from.
    pub fn body(&self) -> &Carrier {
        self.taken.get().map_or(&self.connection.carrier, |taken| taken.body())
    }

    /// How the length of its body is known there.
    pub fn framing(&self) -> Framing {
        self.taken.get().map_or(self.head.framing, |taken| Framing::Length(taken.len()))
    }

    /// What is left of it on the client's connection, if no attempt is under way.
    pub(crate) fn rest(&self) -> Rest {
        match (self.taken.get(), self.kept.get()) {
            (Some(taken), _) => taken.rest(),
            (None, Some(kept)) if kept.has_taken() => Rest::of(Left::TooMuch),
            (None, _) => Rest::of(body_left(self)),
        }
    }

    /// The request's method is HEAD.
    pub fn is_head(&self) -> bool {
        self.head.method.of(self.bytes) == b"HEAD"
    }

    /// The connection may outlive this exchange, as far as the client, the listener and the worker are
    /// concerned.
    pub fn may_persist(&self) -> bool {
        self.head.keep_alive
            && self.snapshot.keeps_alive(self.connection.listener)
            && !self.connection.ends()
    }

    /// Microseconds since the exchange began.
    pub fn elapsed(&self) -> Option<u64> {
        self.started.map(|started| clock::lately().duration_since(started).as_micros() as u64)
    }

    /// What to tell the client of its connection.
    pub fn says(&self, persist: bool) -> ConnectionSays {
        match (persist, self.head.version) {
            (_, Version::Http2) | (true, Version::Http11) => ConnectionSays::Nothing,
            (false, _) => ConnectionSays::Close,
            (true, Version::Http10) => ConnectionSays::KeepAlive,
        }
    }

    /// The peer is a proxy whose word about the client counts.
    pub fn peer_trusted(&self) -> bool {
        is_trusted(self.connection, self.snapshot)
    }

    /// The client's address: the right-most of X-Forwarded-For and the peer that is not trusted.
    /// `None` for a peer on a Unix socket.
    pub fn client_ip(&self) -> Option<IpAddr> {
        let peer = self.connection.client.ip()?;
        let trusted = &self.snapshot.trusted_proxies;
        if trusted.is_empty() {
            return Some(peer);
        }
        let said = self.head.fields.iter().filter(|field| field.id == FieldId::XForwardedFor);
        let said = said.map(|field| field.value.of(self.bytes));
        let trusted = |ip| trusted.iter().any(|net| net.contains(&ip));
        Some(client_address(peer, said, trusted))
    }

    /// Makes sure that the request has an id: the client's if it is fit to be one, else a new one.
    pub fn ensure_id(&self, id: &mut Vec<u8>) {
        if !id.is_empty() {
            return;
        }
        let sent = self.value(FieldId::XRequestId);
        match is_valid_request_id(sent) {
            true => id.extend_from_slice(sent),
            false => self.connection.worker.new_request_id(id),
        }
    }

    /// An attempt at `member` begins; its span.
    pub(crate) fn begin_attempt(&self, member: &Member) -> SpanId {
        let Some(traced) = self.traced else { return SpanId::default() };
        let random = self.connection.worker.next_random();
        traced.begin_attempt(&member.url, self.elapsed().unwrap_or(0), random)
    }

    /// The attempt at `member` was answered with a status, or failed.
    pub(crate) fn attempt_ended(&self, member: &Member, how: Result<u16, &'static str>) {
        if let Some(traced) = self.traced {
            traced.attempt_ended(&member.url, self.elapsed().unwrap_or(0), how);
        }
    }

    /// Takes note of what the access log shows of the response whose head this text begins with.
    pub(crate) fn note_response(&self, head: &[u8]) {
        let log = &self.connection.worker.access_log;
        if log.shows_response_fields() {
            crate::log::note_fields(&log.response_fields(), head, &mut self.shown.borrow_mut());
        }
    }

    /// The value of the first field of this id.
    pub fn find(&self, id: FieldId) -> Option<&'a [u8]> {
        self.head.get(id).map(|field| field.value.of(self.bytes))
    }
}

/// The peer of this connection is a trusted proxy.
fn is_trusted(connection: &Connection, snapshot: &Snapshot) -> bool {
    let trusted = &snapshot.trusted_proxies;
    let peer = connection.client.ip();
    !trusted.is_empty() && peer.is_some_and(|peer| trusted.iter().any(|net| net.contains(&peer)))
}

/// The trace of a request with this head, if requests are traced. In a box: few are.
fn traced<'s>(
    connection: &Connection,
    snapshot: &'s Snapshot,
    head: (&RequestHead, &[u8]),
) -> Option<Box<Traced<'s>>> {
    let settings = snapshot.traces.as_ref()?;
    let trusted = || is_trusted(connection, snapshot);
    Some(Box::new(Traced::of(settings, head, trusted, || connection.worker.next_random())))
}

/// Serves the request whose head is at the front of `buffer`.
pub async fn exchange(connection: &Connection, buffer: &[u8], scratch: &mut Scratch) -> Done {
    let worker = &connection.worker;
    let snapshot = connection.snapshot();
    let _under_way = connection.seat.begins(&snapshot);
    let Scratch { request: head, heads, request_id, head_micros } = scratch;
    let (bytes, early) = buffer.split_at_checked(head.len).unwrap_or((buffer, &[]));
    let method = head.method.of(bytes);
    let (target, fault) = target_of(head, bytes, &snapshot);
    let traced = traced(connection, &snapshot, (head, bytes));
    let inbound = Inbound {
        connection,
        snapshot: &snapshot,
        head,
        bytes,
        early,
        target,
        started: worker.observes().then(clock::lately),
        taken: OnceCell::new(),
        kept: OnceCell::new(),
        lines: RefCell::default(),
        proved: Proved::default(),
        shown: RefCell::default(),
        traced: traced.as_deref(),
    };
    request_id.clear();
    let mut line = Line::new(connection, inbound.started);
    let record = &mut line.record;
    if inbound.started.is_some() {
        describe(&inbound, *head_micros, record);
    }
    let host = Host::parse(inbound.authority()).ok();
    let host = host.as_ref().map_or("", Host::name);
    let request = Request {
        listener: connection.listener,
        method,
        host,
        authority: inbound.authority(),
        path: &inbound.target.path,
        query: inbound.target.query,
        fields: Fields::of(head, bytes),
        secure: inbound.is_secure(),
        policy: connection.tls.as_ref().map(|tls| tls.policy),
        upgrade: head.upgrade,
    };
    let trace = &mut Trace::off();
    let met = decide(&snapshot, &request, trace);
    let site = met.as_ref().map(|met| met.site);
    record.site = site.map_or("", |site| &site.name);
    record.site_at = site;
    if let Some(met) = &met {
        record.target = guards::loggable(met, fault.is_some(), record.target);
    }
    // Before any route: an authority asks for it at the path it chose (RFC 8555 §8.3).
    let challenge = worker.challenges.answer(&inbound.target.path);
    let mut round = match met {
        Some(met) if fault.is_none() && challenge.is_none() => Round::first(met),
        met => {
            let action = met.as_ref().map(|met| &met.action);
            let here = Here { action, site, host, fault, challenge };
            let done = Box::pin(here.answer(&inbound, heads, request_id, record)).await;
            line.write(request_id, &inbound.shown);
            return done;
        }
    };
    let done = loop {
        connection.seat.met(round.met.site, round.met.route);
        record.target = guards::loggable(&round.met, false, record.target);
        if round.is_guarded() {
            let asked = guarded(&inbound, &request, &round, request_id, record, trace);
            match Box::pin(asked).await {
                Guarded::Passed => {}
                Guarded::Next(next) => {
                    round = next;
                    continue;
                }
                Guarded::Answered(answered) => {
                    let met = &round.met;
                    let stopped = stopped(&inbound, *answered, met, heads, request_id, record);
                    break Box::pin(stopped).await;
                }
                Guarded::Left => break left(&inbound, record),
            }
        }
        let Action::Proxy(matched) = round.met.action else {
            let action = Some(&round.met.action);
            let here = Here { action, site, host, fault: None, challenge: None };
            break Box::pin(here.answer(&inbound, heads, request_id, record)).await;
        };
        let matched = matched.split(&inbound, &request);
        forward::mirror(&inbound, &matched, &request);
        record.route = Some(&matched.route.name);
        (record.route_at, record.pool) = (Some(matched.route), Some(matched.pool));
        match forward::forward(&inbound, &matched, heads, request_id, record).await {
            Forwarded::Done(done) => break done,
            Forwarded::Tunnel(tunnel) => {
                worker.metrics.socket_opened(&matched.route.series);
                break tunnel.run(&inbound, heads, record, request_id).await;
            }
            Forwarded::Next(next) => {
                round = Round::passed_on(passed_on(matched.site, next, &request));
            }
        }
    };
    line.write(request_id, &inbound.shown);
    done
}

/// What a request has met: the route that takes it, or the one that took over last.
struct Round<'a> {
    met: Decision<'a>,
    /// Another route passed the request on to this one.
    passed_on: bool,
    /// It did so because the request could not prove enough, so it need not prove that here.
    excused: bool,
}

impl<'a> Round<'a> {
    fn first(met: Decision<'a>) -> Self {
        Self { met, passed_on: false, excused: false }
    }

    fn passed_on(met: Decision<'a>) -> Self {
        Self { met, passed_on: true, excused: false }
    }

    /// There is something to be asked before the action; most routes have nothing.
    fn is_guarded(&self) -> bool {
        self.passed_on
            || guards::has_any(&self.met)
            || matches!(self.met.action, Action::Malformed(..) | Action::Redirect(..))
    }
}

/// What guards made of a request.
enum Guarded<'a> {
    /// It goes on.
    Passed,
    /// Another route takes over.
    Next(Round<'a>),
    /// It is answered with this.
    Answered(Box<Answered>),
    /// Its client left while it waited for its time.
    Left,
}

/// Asks the guards of what a request has met, in their order, and what of it is settled before its
/// action.
async fn guarded<'a>(
    inbound: &'a Inbound<'a>,
    request: &Request<'_>,
    round: &Round<'a>,
    request_id: &mut Vec<u8>,
    record: &mut Record<'a>,
    trace: &mut Trace,
) -> Guarded<'a> {
    let met = &round.met;
    let answered = match guards::check(inbound, request, met, round.passed_on, trace) {
        Some(Stop::Held(hold)) => {
            let began = inbound.started.map(|_| Instant::now());
            let stayed = Box::pin(guards::wait(inbound, hold)).await;
            record.times.held = began.map(|began| began.elapsed().as_micros() as u64);
            if !stayed {
                return Guarded::Left;
            }
            None
        }
        Some(Stop::Answered(answered)) => Some(answered),
        None => None,
    };
    let answered = match answered {
        None if guards::asks_for_credentials(met) => {
            Box::pin(asked(inbound, round, request_id, record, trace)).await
        }
        answered => answered,
    };
    if let Some(answered) = answered {
        // What is too long for one route is so before anything was proved to it; to go on with it
        // elsewhere would make its bound none.
        let goes_on = answered.answer.status != 413;
        return match met.next(answered.outcome, request).filter(|_| goes_on) {
            Some(next) => {
                let excused = answered.outcome == Outcome::Unauthorized;
                Guarded::Next(Round { excused, ..Round::passed_on(next) })
            }
            None => Guarded::Answered(Box::new(answered)),
        };
    }
    let outcome = match met.action {
        Action::Malformed(..) => Outcome::ClientError,
        Action::Redirect(..) => Outcome::Redirected,
        _ => return Guarded::Passed,
    };
    let next = met.next(outcome, request);
    next.map_or(Guarded::Passed, |next| Guarded::Next(Round::passed_on(next)))
}

/// Asks a request for what it has to prove; the answer if it cannot.
async fn asked<'a>(
    inbound: &'a Inbound<'a>,
    round: &Round<'a>,
    request_id: &mut Vec<u8>,
    record: &mut Record<'a>,
    trace: &mut Trace,
) -> Option<Answered> {
    let refused = guards::authenticate(inbound, &round.met, round.excused, trace).await;
    record.user = inbound.proved.user.get().map_or(&[], |user| &**user);
    let (answered, why) = refused?;
    inbound.ensure_id(request_id);
    let refusal = Refusal { status: answered.answer.status, cause: Cause::Denied, why };
    let connection = inbound.connection;
    local::explain_refusal(&connection.worker, &connection.client, &refusal, request_id);
    Some(answered)
}

/// Answers a request that a guard let go no further.
async fn stopped<'a>(
    inbound: &Inbound<'a>,
    answered: Answered,
    met: &Decision<'a>,
    heads: &mut Heads,
    request_id: &mut Vec<u8>,
    record: &mut Record<'a>,
) -> Done {
    let Answered { answer, cause, outcome, rest } = answered;
    if let Some(cause) = cause {
        record.ended = failed(Party::Client, Phase::Decide, cause);
    }
    record.route = met.route.map(|route| &*route.name);
    record.route_at = met.route;
    let reply = Reply { answer, site: Some(met.site), edits: met.edits(outcome), rest };
    local::respond(inbound, reply, &mut heads.out, request_id, record).await
}

/// The client has left while its request waited for its time.
fn left(inbound: &Inbound<'_>, record: &mut Record<'_>) -> Done {
    record.ended = failed(Party::Client, Phase::Decide, Cause::Closed);
    record.status = 499;
    Done { after: After::Close, consumed: inbound.head.len, excess: None }
}

/// A request that is answered here.
struct Here<'h, 'a> {
    action: Option<&'h Action<'a>>,
    site: Option<&'a Site>,
    host: &'h str,
    fault: Option<TargetError>,
    challenge: Option<String>,
}

impl<'a> Here<'_, 'a> {
    async fn answer(
        self,
        inbound: &Inbound<'a>,
        heads: &mut Heads,
        request_id: &mut Vec<u8>,
        record: &mut Record<'a>,
    ) -> Done {
        let reply = self.reply(inbound, request_id, record);
        local::respond(inbound, reply, &mut heads.out, request_id, record).await
    }

    fn reply(
        self,
        inbound: &Inbound<'a>,
        request_id: &mut Vec<u8>,
        record: &mut Record<'a>,
    ) -> Reply<'a> {
        let site = self.site;
        let edits = match self.action {
            Some(Action::Local(route, _)) => route.response(Outcome::Success),
            Some(Action::Redirect(route, ..)) => route.response(Outcome::Redirected),
            Some(Action::Malformed(route, _)) => route.response(Outcome::ClientError),
            _ => site.map_or(&*NO_EDITS, |site| &site.response),
        };
        if let Some(
            Action::Local(route, _) | Action::Redirect(route, ..) | Action::Malformed(route, _),
        ) = self.action
        {
            record.route = Some(&route.name);
            record.route_at = Some(route);
        }
        let malformed = match (self.fault, self.action) {
            (Some(fault), _) => Some((fault, Phase::Head, Rest::of(Left::TooMuch))),
            (None, Some(Action::Malformed(_, fault))) if self.challenge.is_none() => {
                Some((*fault, Phase::Decide, inbound.rest()))
            }
            _ => None,
        };
        if let Some((fault, phase, rest)) = malformed {
            record.ended = failed(Party::Client, phase, Cause::Malformed);
            inbound.ensure_id(request_id);
            let refusal = Refusal { status: 400, cause: Cause::Malformed, why: fault.reason() };
            let connection = inbound.connection;
            local::explain_refusal(&connection.worker, &connection.client, &refusal, request_id);
            return Reply { answer: Answer::error(400), site, edits, rest };
        }
        let answer = match self.challenge {
            Some(answer) => respond::challenge(answer),
            None => local::answer(inbound, self.action, site, self.host),
        };
        Reply { answer, site, edits, rest: inbound.rest() }
    }
}

/// For responses of no site.
static NO_EDITS: LazyLock<Edits> = LazyLock::new(Edits::default);

/// The record of one request. It is handed in even if the exchange is cut off in the middle: at the end
/// of the worker, or by a panic.
struct Line<'a> {
    record: Record<'a>,
    /// Whom to tell; nobody any more when that is done.
    worker: Option<&'a Worker>,
    seat: &'a Seat,
    started: Option<Instant>,
    /// It is among those under way in metrics.
    counted: bool,
}

impl<'a> Line<'a> {
    fn new(connection: &'a Connection, started: Option<Instant>) -> Self {
        let Connection { worker, seat, .. } = connection;
        let counted = started.is_some() && worker.metrics.begun();
        let worker = started.map(|_| &**worker);
        Self { record: Record::UNKNOWN, worker, seat, started, counted }
    }

    fn write(&mut self, request_id: &'a [u8], shown: &RefCell<Vec<Vec<u8>>>) {
        let Some(worker) = self.worker.take() else { return };
        self.over(worker);
        self.record.request_id = request_id;
        match &shown.borrow()[..] {
            [] => worker.finished(&self.record),
            response_fields => worker.finished(&Record { response_fields, ..self.record }),
        }
    }

    fn over(&mut self, worker: &Worker) {
        if self.counted {
            worker.metrics.ended();
        }
        let micros = self.started.map_or(0, |began| (clock::now() - began).as_micros() as u64);
        self.record.times.over(micros);
        self.seat.passed(self.record.request_bytes, self.record.response_bytes);
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Some(worker) = self.worker {
            let phase = match self.record.status {
                0 => Phase::FirstByte,
                101 => Phase::Tunnel,
                _ => Phase::Transfer,
            };
            let cause = match std::thread::panicking() {
                true => Cause::Panic,
                false => Cause::Aborted,
            };
            self.over(worker);
            self.record.ended = failed(Party::Proxy, phase, cause);
            worker.finished(&self.record);
        }
    }
}

/// An [`Ended`] that names who, when and why.
pub fn failed(by: Party, phase: Phase, cause: Cause) -> Ended {
    Ended::Failed { by, phase, cause }
}

/// The target of a request, and what is wrong with it.
fn target_of<'a>(
    head: &RequestHead,
    bytes: &'a [u8],
    snapshot: &Snapshot,
) -> (Target<'a>, Option<TargetError>) {
    let (method, target) = (head.method.of(bytes), head.target.of(bytes));
    match parse_target(method, target, snapshot.allow_encoded_slashes) {
        Ok(target) => (target, None),
        Err(fault) => (root_target(), Some(fault)),
    }
}

/// Stands in for a target that is none, in a request that is refused.
fn root_target() -> Target<'static> {
    Target { form: Form::Origin, path: b"/".into(), query: None, authority: None, scheme: None }
}

/// Records what is known of a request once its head is there.
fn describe<'a>(inbound: &Inbound<'a>, head_micros: u64, record: &mut Record<'a>) {
    inbound.connection.describe(record);
    record.wall_us = (unix_millis() * 1000).saturating_sub(head_micros);
    if inbound.peer_trusted() {
        let (client, peer) = (inbound.client_ip(), &inbound.connection.client);
        if client != peer.ip() {
            // Behind a trusted proxy, these are the proxy's.
            (record.client, record.client_text, record.client_port) = (client, &[], 0);
        }
    }
    record.method = inbound.head.method.of(inbound.bytes);
    record.target = inbound.head.target.of(inbound.bytes);
    record.version = match inbound.head.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2.0",
    };
    record.referer = inbound.value(FieldId::Referer);
    record.user_agent = inbound.value(FieldId::UserAgent);
    record.host = inbound.authority();
    record.head = Some((inbound.head, inbound.bytes));
    record.traced = inbound.traced;
    record.times.head = Some(head_micros);
    if let Some(started) = inbound.started {
        inbound.connection.times_of_opening(started, &mut record.times);
    }
}
