//! Sending the request while waiting for the response head.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use net::buffer::Buffer;
use wire::head::{HeadLimits, Parse, ResponseHead};

use super::attempt::{Call, Underway};
use super::{Blocked, Broken, Patience, Waiting};
use crate::carrier::Carrier;
use crate::exchange::Inbound;
use crate::log::{Cause, Party, Phase};
use crate::upstream::{FirstRead, UpstreamConnection};

/// Bounds on a response head: upstreams are trusted a little more than clients.
const RESPONSE_HEAD_LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024 - 1, fields: 200 };

/// Why no response head came.
pub(super) struct Awaited {
    pub(super) broken: Broken,
    /// The upstream closed without a byte, as it does with an idle connection.
    pub(super) may_send_again: bool,
}

impl Awaited {
    /// There is nothing to be tried again.
    pub(super) fn final_(broken: Broken) -> Box<Self> {
        Box::new(Self { broken, may_send_again: false })
    }
}

/// Waits until `buffer` begins with a response head, and indexes it in `head`.
pub(super) async fn await_response(
    call: Call<'_, '_>,
    underway: &mut Underway<'_, '_>,
    head: &mut ResponseHead,
    buffer: &mut Option<Buffer>,
    patience: &mut Patience<'_>,
) -> Result<(), Box<Awaited>> {
    let Call { inbound, attempts, .. } = call;
    let Underway { reached, sending } = underway;
    let upstream = &reached.connection.carrier;
    let to_head = inbound.is_head();
    let taken = inbound.taken.get().is_some();
    let client = &inbound.connection.carrier;
    let mut watch = ClientWatch::new();
    let mut scanned = 0;
    // A head may be there already, behind an interim one.
    let mut look = buffer.is_some();
    poll_fn(|cx| {
        if let Some(cause) = sending.drive(cx, inbound, upstream) {
            let broken = match inbound.taken.get() {
                Some(taken) => taken.broken(),
                None => Broken::new(Party::Client, Phase::Send, cause),
            };
            return Poll::Ready(Err(Awaited::final_(broken)));
        }
        let failed = loop {
            if let Some(bytes) = buffer.as_ref().filter(|bytes| look && !bytes.is_empty()) {
                match head.parse(bytes, scanned, &RESPONSE_HEAD_LIMITS, to_head) {
                    Ok(Parse::Complete) => return Poll::Ready(Ok(())),
                    Ok(Parse::Partial) => scanned = bytes.len(),
                    Err(error) => {
                        let cause = match error.is_too_large() {
                            true => Cause::HeadTooLarge,
                            false => Cause::Malformed,
                        };
                        let mut broken = Broken::new(Party::Upstream, Phase::FirstByte, cause);
                        broken.detail = error.to_string();
                        return Poll::Ready(Err(Awaited::final_(broken)));
                    }
                }
            }
            look = true;
            match read(cx, &reached.connection, inbound, buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Some(error),
                Poll::Pending => break None,
            }
        };
        // Not before: whoever has a response by now need not ask.
        if (sending.over || taken) && watch.is_gone(cx, client) {
            let broken = Broken::new(Party::Client, Phase::FirstByte, Cause::Closed);
            return Poll::Ready(Err(Awaited::final_(broken)));
        }
        if let Some(error) = failed {
            let silent = buffer.as_ref().is_none_or(|bytes| bytes.is_empty());
            return Poll::Ready(Err(lost(error, silent)));
        }
        let received = buffer.as_ref().map_or(0, |bytes| bytes.len()) as u64;
        let (whom, by, phase) = match (sending.over, sending.blocked()) {
            (true, _) if received > 0 => {
                (Waiting::UpstreamToSend, Party::Upstream, Phase::FirstByte)
            }
            (true, _) => (Waiting::UpstreamToAnswer, Party::Upstream, Phase::FirstByte),
            (false, Blocked::OnSource) if !taken => {
                (Waiting::ClientToSend, Party::Client, Phase::Send)
            }
            (false, _) => (Waiting::UpstreamToReceive, Party::Upstream, Phase::Send),
        };
        let moved = received + sending.progress();
        let is_down = sending.over && received == 0 && !reached.member.state.is_up();
        if is_down && attempts.leaves(inbound, patience, sending.is_repeatable(inbound)) {
            let mut broken = Broken::new(by, phase, Cause::Down);
            broken.detail = "found down by active checks meanwhile".to_owned();
            return Poll::Ready(Err(Awaited::final_(broken)));
        }
        match patience.ends(whom, moved) {
            true => Poll::Ready(Err(Awaited::final_(Broken::new(by, phase, Cause::Timeout)))),
            false => Poll::Pending,
        }
    })
    .await
}

/// Reads from the upstream once, into a buffer that is only taken when there is something.
fn read(
    cx: &mut Context<'_>,
    upstream: &UpstreamConnection,
    inbound: &Inbound<'_>,
    buffer: &mut Option<Buffer>,
) -> Poll<io::Result<()>> {
    let UpstreamConnection { carrier, first_read, .. } = upstream;
    let buffers = &inbound.connection.worker.context.buffers;
    loop {
        if carrier.poll_read_ready(cx)?.is_pending() {
            return Poll::Pending;
        }
        let bytes = buffer.get_or_insert_with(|| match first_read.get() {
            FirstRead::Bulk => buffers.get_bulk(),
            FirstRead::Ordinary | FirstRead::Head => buffers.get(),
        });
        if !bytes.make_room() && !bytes.grow() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let mut room = bytes.spare_mut();
        if first_read.get() == FirstRead::Head {
            let len = room.len().min(FirstRead::HEAD_ROOM);
            room = &mut room[..len];
        }
        match carrier.try_read(room) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                bytes.advance(count);
                return Poll::Ready(Ok(()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

fn lost(error: io::Error, silent: bool) -> Box<Awaited> {
    let cause = Cause::of(&error);
    let mut broken = Broken::new(Party::Upstream, Phase::FirstByte, cause);
    broken.detail = error.to_string();
    Box::new(Awaited { broken, may_send_again: silent })
}

/// Notices that a client has gone while it should only be waiting.
pub(super) struct ClientWatch {
    watching: bool,
}

impl ClientWatch {
    pub(super) fn new() -> Self {
        Self { watching: true }
    }

    /// The client has closed or reset its connection. A client that sends more (its next request)
    /// is no longer watched: what it sends stays in the kernel until its turn.
    pub(super) fn is_gone(&mut self, cx: &mut Context<'_>, client: &Carrier) -> bool {
        if let Carrier::Http2Server(stream) = client {
            return stream.poll_gone(cx).is_ready();
        }
        while self.watching && client.poll_read_ready(cx).is_ready() {
            match client.try_peek() {
                Ok(0) => return true,
                Ok(_) => self.watching = false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        false
    }
}
