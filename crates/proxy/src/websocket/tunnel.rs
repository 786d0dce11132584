//! A WebSocket from its handshake to its end: two directions, and what concerns both.
//!
//! How it ends:
//!
//! | what happens | the client gets | the upstream gets |
//! |---|---|---|
//! | one side sends a close frame | that of the upstream | that of the client |
//! | the client breaks a rule | 1002, 1007, 1008 or 1009 | 1011 |
//! | the upstream breaks a rule | 1011 | 1002, 1007 or 1009 |
//! | the client's connection ends without a close frame | | 1001 |
//! | the upstream's connection does | 1011 | |
//! | idle or old | 1001 | 1001 |
//! | Ravelin stops | 1012 | 1012 |
//! | an operator ends it | 1012 or what they say | the same |
//! | a side does not answer a ping | 1011 | 1011 |
//!
//! What always holds: of a side that breaks a rule the other is told first, and what that still has to
//! say arrives before the close frame, as it would without Ravelin; after a close frame each side has
//! a bounded time for its own; where a connection ends inside a frame the other cannot be told and
//! just ends, too.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use config::model::Level;
use net::buffer::Buffer;
use net::timer::Tick;
use net::worker::{Life, WorkerContext};
use wire::field::FieldId;
use wire::head::ResponseHead;
use wire::websocket::{ControlFrame, Fault, Reserved, Rules, Scanner, Sender};

use super::direction::{Direction, Event, Sink, Source};
use super::rate::Bucket;
use super::watch::{Look, Seen, SideSeen, Watch, Why};
use super::{Settings, Side};
use crate::carrier::Carrier;
use crate::connection::{Connection, linger_on};
use crate::exchange::{After, Done, Inbound, failed};
use crate::forward::{Held, Taken};
use crate::log::{Cause, Ended, Party, Phase, Record};
use crate::worker::Heads;

/// How long a side has for its close frame, and to take ours, when Ravelin ends the WebSocket.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// How long one side has to say what it still has to say before the other is told that it broke a
/// rule.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a side may be silent that owes the other an answer to its close frame.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Passes frames both ways until both sides are done. All that lasts is made before the future, which
/// has it once then; what an `async fn` is given it has twice.
pub(crate) fn tunnel<'r>(
    inbound: &'r Inbound<'_>,
    taken: Taken,
    (settings, idle, held): (&'r Settings, Duration, Held<'r>),
    heads: &'r mut Heads,
    record: &'r mut Record<'_>,
    request_id: &'r [u8],
) -> Pin<Box<dyn Future<Output = Done> + 'r>> {
    let Taken { connection, buffer, mut lead } = taken;
    // Its memory stays for as long as the tunnel does.
    lead.shrink_to_fit();
    let worker = &*inbound.connection.worker;
    let directions = directions(inbound, settings, (buffer, lead), &heads.response);
    let idle = settings.model.idle_timeout.unwrap_or(idle);
    let watch = Watch::new(&settings.model, idle, Tick::now(), worker.next_random());
    let mut tunnel = Tunnel::new(inbound.connection, settings, directions, watch, held);
    Box::pin(async move {
        let (client, upstream) = (&inbound.connection.carrier, &connection.carrier);
        poll_fn(|cx| {
            let polled = tunnel.poll(cx, client, upstream);
            tunnel.held.seat.moved(tunnel.up.moved(), tunnel.down.moved());
            polled
        })
        .await;
        tunnel.explain(inbound, request_id);
        record.ended = tunnel.ended.unwrap_or_default();
        record.request_bytes = tunnel.up.passed();
        record.response_bytes = tunnel.down.passed();
        let tunnel_is_whole = !tunnel.is_cut || tunnel.down.sink() == Sink::Closed;
        let upstream_may_talk = tunnel.upstream_may_talk();
        let after = tunnel.after();
        heads.spare = tunnel.down.end();
        if tunnel_is_whole || !client.delimits() {
            // It may be gone already. A stream that is only dropped is reset; a connection is not to
            // wait for what the upstream still has to say to nobody.
            let _ = client.shutdown_write();
        }
        if upstream_may_talk {
            let worker = &inbound.connection.worker;
            let deadline = &inbound.connection.deadline;
            Box::pin(linger_on(upstream, deadline, &worker.context)).await;
        } else {
            let _ = upstream.shutdown_write();
        }
        let consumed = inbound.head.len + inbound.early.len();
        Done { after, consumed, excess: None }
    })
}

/// The direction of the client's frames, and that of the upstream's.
fn directions<'r>(
    inbound: &'r Inbound<'_>,
    settings: &Settings,
    (mut buffer, lead): (Buffer, Vec<u8>),
    head: &ResponseHead,
) -> (Direction<'r>, Direction<'r>) {
    let worker = &*inbound.connection.worker;
    let context = &worker.context;
    let model = &settings.model;
    let extensions = head.fields.iter().filter(|f| f.id == FieldId::SecWebSocketExtensions);
    let reserved = Reserved::of(extensions.map(|field| field.value.of(&buffer)));
    buffer.consume(head.len);
    let scanner = |sender, max: Option<u64>| {
        Scanner::new(Rules { sender, reserved, message_max: max.unwrap_or(u64::MAX) })
    };
    let early = (!inbound.early.is_empty()).then(|| {
        let mut buffer = context.buffers.get();
        if inbound.early.len() > buffer.capacity() {
            buffer.grow();
        }
        // What came with one read fits into the largest buffer there is.
        buffer.append(inbound.early);
        buffer
    });
    let bucket = model.messages.as_ref().map(|rate| Bucket::new(rate, Tick::now()));
    let up = Direction::new(
        scanner(Sender::Client, model.client_message_max),
        bucket,
        worker.next_random().to_le_bytes(),
        Vec::new(),
        early,
        context,
    );
    let down = Direction::new(
        scanner(Sender::Server, model.server_message_max),
        None,
        worker.next_random().to_le_bytes(),
        lead,
        Some(buffer),
        context,
    );
    (up, down)
}

/// A WebSocket.
struct Tunnel<'a> {
    connection: &'a Connection,
    settings: &'a Settings,
    /// From the client to the upstream.
    up: Direction<'a>,
    /// From the upstream to the client.
    down: Direction<'a>,
    watch: Watch,
    /// What it has for as long as it lasts; at its seat an operator asks for its end.
    held: Held<'a>,
    stage: Stage,
    /// The side that broke a rule and has not been told yet.
    offender: Option<(Side, Fault)>,
    /// How it ended, if not well.
    ended: Option<Ended>,
    /// Words for that.
    why: &'static str,
    /// The side that takes nothing more, and why, while it may have something to say.
    deaf: Option<(Side, Cause)>,
    /// Nothing more can be done.
    is_cut: bool,
    /// The upstream's connection has ended after its close frame, and the client has not seen it.
    upstream_left: bool,
    begun: bool,
}

/// How far its end has come.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// It is open.
    Open,
    /// A side has sent a close frame, and the other owes its answer; so many bytes had moved when the
    /// deadline was set.
    Answer(u64),
    /// The upstream has closed and left, and the client's answer may still come.
    Left,
    /// A side takes nothing more, and what it had said before that is still read; so many bytes had
    /// moved when the deadline was set.
    Rest(u64),
    /// Ravelin ends it; the deadline is for all that is left.
    Closing,
}

impl<'a> Tunnel<'a> {
    fn new(
        connection: &'a Connection,
        settings: &'a Settings,
        (up, down): (Direction<'a>, Direction<'a>),
        watch: Watch,
        held: Held<'a>,
    ) -> Self {
        Self {
            connection,
            settings,
            up,
            down,
            watch,
            held,
            stage: Stage::Open,
            offender: None,
            ended: None,
            why: "",
            deaf: None,
            is_cut: false,
            upstream_left: false,
            begun: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, client: &Carrier, upstream: &Carrier) -> Poll<()> {
        if !self.begun {
            self.begun = true;
            // Once is enough for the deadline to wake this task.
            let _ = self.connection.deadline.poll_expired(cx);
            self.look(client, upstream);
        }
        loop {
            if let Poll::Ready(event) = self.up.poll(cx, client, upstream) {
                self.happened(Side::Client, event);
                continue;
            }
            if let Poll::Ready(event) = self.down.poll(cx, upstream, client) {
                self.happened(Side::Upstream, event);
                continue;
            }
            if self.is_over() {
                return Poll::Ready(());
            }
            if self.upstream_left && self.down.sink() == Sink::Closed {
                self.upstream_left = false;
                // It may be gone already; then reading from it says so.
                let _ = client.shutdown_write();
            }
            let open = matches!(self.stage, Stage::Open);
            if let Some(status) = self.held.seat.asked_to_close().filter(|_| open) {
                self.close_both(Why::Asked(status));
                continue;
            }
            let stops = open && self.stops() && !self.watch.is_draining();
            if !(stops || self.connection.deadline.expired()) {
                return Poll::Pending;
            }
            match self.stage {
                Stage::Open => self.look(client, upstream),
                Stage::Answer(_) | Stage::Left | Stage::Rest(_) | Stage::Closing => self.late(),
            }
        }
    }

    fn context(&self) -> &WorkerContext {
        &self.connection.worker.context
    }

    /// The worker ends. While it only gives way to another process, tunnels stay.
    fn stops(&self) -> bool {
        self.context().life() == Life::Stops
    }

    /// Nothing more comes from either side, and nothing more is to be sent to either.
    fn is_over(&self) -> bool {
        let done = |one: &Direction<'_>| one.source() != Source::Open && one.is_sent();
        self.is_cut || done(&self.up) && done(&self.down)
    }

    /// The direction of a side's frames, and that of the frames for it.
    fn of(&mut self, side: Side) -> (&mut Direction<'a>, &mut Direction<'a>) {
        match side {
            Side::Client => (&mut self.up, &mut self.down),
            Side::Upstream => (&mut self.down, &mut self.up),
        }
    }

    /// Something came of the frames of `side`.
    fn happened(&mut self, side: Side, event: Event) {
        match event {
            Event::Closed => self.closed(side),
            Event::Fault(fault) => self.faulty(side, fault),
            Event::Ended(cause) => self.gone(side, cause),
            Event::Left => self.left(side),
            Event::SinkLost(cause) => {
                self.deaf = Some((side.other(), cause));
                if matches!(self.stage, Stage::Open) {
                    self.stage = Stage::Rest(self.moved());
                    self.connection.deadline.set(CLOSE_TIME);
                }
            }
        }
    }

    /// `side` has sent a close frame.
    fn closed(&mut self, side: Side) {
        if self.offender.is_some_and(|(offender, _)| offender != side) {
            return self.tell_offender();
        }
        if matches!(self.stage, Stage::Open | Stage::Rest(_)) {
            self.stage = Stage::Answer(self.moved());
            self.connection.deadline.set(ANSWER_TIME);
        }
    }

    /// The connection of `side` has ended after its close frame. An upstream that does not wait for
    /// the answer has failed the WebSocket, maybe inside a frame of the client's in which no answer
    /// can be seen. A client may have said only that it sends nothing more.
    fn left(&mut self, side: Side) {
        if side == Side::Upstream && matches!(self.stage, Stage::Answer(_)) {
            self.upstream_left = true;
            self.stage = Stage::Left;
            self.connection.deadline.set(LAST_WORDS);
        }
    }

    /// `side` has sent what it must not.
    fn faulty(&mut self, side: Side, fault: Fault) {
        let (_, for_it) = self.of(side);
        for_it.hold_close();
        // The other has broken one before: this side's last words to it end here.
        if self.offender.is_some_and(|(offender, _)| offender != side) {
            return self.tell_offender();
        }
        let (_, for_it) = self.of(side);
        // It has its close frame already, or the other has said all it had to say.
        let at_once = for_it.sink() != Sink::Open || for_it.source() != Source::Open;
        let cause = match fault {
            Fault::TooLong => Cause::Limit,
            Fault::TooMany => Cause::MessageRate,
            _ => Cause::Malformed,
        };
        self.failed(side.party(), cause, fault.reason());
        self.offender = Some((side, fault));
        let reason = match fault {
            Fault::TooLong => "the other side sent a message that is too large",
            Fault::TooMany => "the other side sent too many messages",
            _ => "the other side broke the WebSocket protocol",
        };
        self.send_close(side.other(), 1011, reason);
        if at_once {
            return self.tell_offender();
        }
        self.stage = Stage::Closing;
        self.connection.deadline.set(LAST_WORDS);
    }

    /// Tells the side that broke a rule so. What the other had to say is on its way.
    fn tell_offender(&mut self) {
        let Some((side, fault)) = self.offender.take() else { return };
        let model = &self.settings.model;
        let max = match side {
            Side::Client => model.client_message_max,
            Side::Upstream => model.server_message_max,
        };
        let reason: Cow<'_, str> = match (fault, max) {
            (Fault::TooLong, Some(max)) => format!("message larger than {max} bytes").into(),
            _ => fault.reason().into(),
        };
        self.send_close(side, fault.status(), &reason);
        self.stage = Stage::Closing;
        self.connection.deadline.set(CLOSE_TIME);
    }

    /// The connection of `side` has ended without a close frame.
    fn gone(&mut self, side: Side, cause: Option<Cause>) {
        let deaf = self.deaf.take_if(|(deaf, _)| *deaf == side);
        let cause = cause.or(deaf.map(|(_, cause)| cause));
        let in_order = match self.stage {
            // That clients just go away is daily life.
            Stage::Open | Stage::Rest(_) => side == Side::Client && cause.is_none(),
            Stage::Answer(_) | Stage::Left | Stage::Closing => true,
        };
        if !in_order {
            let words = "its connection ended without a close frame";
            self.failed(side.party(), cause.unwrap_or(Cause::Closed), words);
        }
        let (from_it, for_it) = self.of(side);
        // A client that only says that it sends nothing more can still be told something.
        if side == Side::Upstream || cause.is_some() {
            for_it.lose_sink();
        }
        let told_by_itself = for_it.source() != Source::Open;
        let inside_frame = from_it.is_inside_frame() && from_it.sink() == Sink::Open;
        if inside_frame {
            self.is_cut = true;
            return;
        }
        if self.offender.is_some_and(|(offender, _)| offender != side) {
            return self.tell_offender();
        }
        if told_by_itself {
            return; // it has sent its own close frame, or is gone as well
        }
        match side {
            Side::Client => self.send_close(Side::Upstream, 1001, "the client is gone"),
            Side::Upstream => self.send_close(Side::Client, 1011, "the upstream is gone"),
        }
        self.stage = Stage::Closing;
        self.connection.deadline.set(CLOSE_TIME);
    }

    /// Has a look at the times while it is open.
    fn look(&mut self, client: &Carrier, upstream: &Carrier) {
        let seen = Seen {
            passed: self.moved(),
            client: side_seen(client, &self.up, &self.down),
            upstream: side_seen(upstream, &self.down, &self.up),
            stopping: self.stops(),
        };
        let Look { ping_client, ping_upstream, close, next } = self.watch.look(Tick::now(), &seen);
        if let Some(why) = close {
            return self.close_both(why);
        }
        if ping_client {
            let ping = ControlFrame::ping(&self.up.token(), None);
            self.down.send_ping(ping);
        }
        if ping_upstream {
            let ping = ControlFrame::ping(&self.down.token(), Some(self.mask()));
            self.up.send_ping(ping);
        }
        self.connection.deadline.set(next);
    }

    fn close_both(&mut self, why: Why) {
        let (by, cause) = match why {
            Why::Idle => (Party::Proxy, Cause::Timeout),
            Why::Age => (Party::Proxy, Cause::Limit),
            Why::Stop | Why::Asked(_) => (Party::Proxy, Cause::Aborted),
            Why::Silent(side) => (side.party(), Cause::Timeout),
        };
        self.failed(by, cause, why.reason());
        self.send_close(Side::Client, why.status(), why.reason());
        self.send_close(Side::Upstream, why.status(), why.reason());
        self.stage = Stage::Closing;
        self.connection.deadline.set(CLOSE_TIME);
    }

    /// The time for something that was to come is over.
    fn late(&mut self) {
        if self.offender.is_some() {
            return self.tell_offender();
        }
        if let (Stage::Rest(moved), Some((side, cause))) = (self.stage, self.deaf) {
            let now = self.moved();
            if moved != now {
                self.stage = Stage::Rest(now);
                return self.connection.deadline.set(CLOSE_TIME);
            }
            let (from_it, _) = self.of(side);
            from_it.end_source();
            return self.gone(side, Some(cause));
        }
        if let Stage::Answer(moved) = self.stage {
            let now = self.moved();
            if moved != now {
                self.stage = Stage::Answer(now);
                return self.connection.deadline.set(ANSWER_TIME);
            }
            let waited_for = match self.up.source() {
                Source::Open => Party::Client,
                _ => Party::Upstream,
            };
            self.failed(waited_for, Cause::Timeout, "no answer to a close frame");
        }
        self.is_cut = true;
    }

    fn send_close(&mut self, side: Side, status: u16, reason: &str) {
        let mask = (side == Side::Upstream).then(|| self.mask());
        let frame = ControlFrame::close(status, reason, mask);
        self.of(side).1.send_close(frame);
    }

    /// A key that masks a frame for the upstream. It need not be a secret: masks are there so that
    /// nobody can choose what is on the wire (RFC 6455 §10.3), and these frames are Ravelin's.
    fn mask(&self) -> [u8; 4] {
        (self.connection.worker.next_random() as u32).to_le_bytes()
    }

    /// Grows while bytes of frames are taken or are written: a slow side takes long for what is already in
    /// hand.
    fn moved(&self) -> u64 {
        let moved = |one: &Direction<'_>| one.passed().saturating_add(one.frames_end());
        moved(&self.up).saturating_add(moved(&self.down))
    }

    fn failed(&mut self, by: Party, cause: Cause, why: &'static str) {
        if self.ended.is_none() {
            self.ended = Some(failed(by, Phase::Tunnel, cause));
            self.why = why;
        }
    }

    /// Tells those who look for a fault why it ended.
    fn explain(&self, inbound: &Inbound<'_>, request_id: &[u8]) {
        let Some(Ended::Failed { by, .. }) = self.ended else { return };
        let log = &self.connection.worker.error_log;
        if log.enabled(Level::Debug) {
            let (by, why) = (by.as_str(), self.why);
            let path = inbound.target.path.escape_ascii();
            let client = inbound.client_ip().map(|ip| format!(" client={ip}")).unwrap_or_default();
            let id = match request_id {
                [] => String::new(),
                id => format!(" id={}", id.escape_ascii()),
            };
            log.debug(format_args!("WebSocket at {path} ended by {by}: {why}{client}{id}"));
        }
    }

    /// What becomes of the client's connection.
    fn after(&self) -> After {
        match (self.down.sink(), self.up.source()) {
            // It was cut inside a frame or before its close frame: there is nothing to lose.
            (Sink::Open | Sink::Lost, _) | (_, Source::Ended) => After::Close,
            (Sink::Closed, _) => After::Linger,
        }
    }

    /// The upstream was sent a close frame and may still be sending, so that to close at once could
    /// lose it.
    fn upstream_may_talk(&self) -> bool {
        let talks = matches!(self.down.source(), Source::Open | Source::Faulty);
        talks && self.up.sink() == Sink::Closed
    }
}

/// What has happened at a side, which `carrier` reaches.
fn side_seen(carrier: &Carrier, from_it: &Direction<'_>, for_it: &Direction<'_>) -> SideSeen {
    let written = for_it.written();
    let taken = carrier.taken(written);
    // A stream of a connection with others says only that not all is taken.
    let is_under_way = |end| taken.is_some_and(|taken| carrier.delimits() || taken < end);
    let ping = for_it.ping_written();
    SideSeen {
        read: from_it.read(),
        taken: taken.unwrap_or(written),
        is_unread: from_it.is_blocked(),
        is_full: for_it.is_blocked(),
        ping_waits: for_it.ping_waits(),
        ping_written: ping.map(|(at, _)| at),
        ping_is_under_way: ping.is_some_and(|(_, end)| is_under_way(end)),
        frames_are_under_way: is_under_way(for_it.frames_end()),
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }

    fn party(self) -> Party {
        match self {
            Self::Client => Party::Client,
            Self::Upstream => Party::Upstream,
        }
    }
}
