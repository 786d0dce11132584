//! A request body taken whole before an endpoint is chosen.
//!
//! What always holds: an endpoint is only chosen for a request that is here to its last byte, so a
//! slow client keeps nobody waiting; the client's limits and time limits are those of any request;
//! the upstream is told the length, however the client sent the body.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::Poll;

use net::buffer::Buffer;
use wire::head::{Framing, Version};

use super::SpooledBody;
use crate::carrier::Carrier;
use crate::decide::Matched;
use crate::drain::{Left, body_left};
use crate::exchange::Inbound;
use crate::forward::{Broken, Patience, Pump, PumpError, Waiting};
use crate::local::Rest;
use crate::log::{Cause, Party, Phase};
use crate::send::write_all;

/// A request body that was taken off the client's connection.
#[derive(Debug)]
pub struct TakenRequest {
    body: Carrier,
    len: u64,
    /// How many of the early bytes were part of it.
    early_used: usize,
    /// Bytes behind it that were read into another buffer.
    excess: RefCell<Option<Buffer>>,
}

impl TakenRequest {
    /// Where it is read from.
    pub fn body(&self) -> &Carrier {
        &self.body
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// It has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// It is to be sent once more from its beginning.
    pub fn rewind(&self) {
        if let Carrier::Spooled(body) = &self.body {
            body.rewind();
        }
    }

    /// What is behind it on the client's connection.
    pub(crate) fn rest(&self) -> Rest {
        Rest { left: Left::Nothing(self.early_used), excess: self.excess.take() }
    }

    /// It cannot be read any more.
    pub(crate) fn broken(&self) -> Broken {
        broken_here(&self.body)
    }
}

/// A length that is more than may be taken.
pub(crate) fn is_too_long(framing: Framing, matched: &Matched<'_>) -> bool {
    let settings = &matched.proxy.buffering;
    match framing {
        Framing::Length(length) => settings.request && length > settings.max && !matched.upgrade,
        _ => false,
    }
}

/// The site wants the body of the request taken whole, and it is not there already.
pub(crate) fn wants_request(inbound: &Inbound<'_>, matched: &Matched<'_>) -> bool {
    matched.proxy.buffering.request
        && !matched.upgrade
        // By the route that passed the request on.
        && inbound.taken.get().is_none()
        && match inbound.head.framing {
            Framing::None => false,
            // One that came with its head goes out with it as it is.
            Framing::Length(_) => !matches!(body_left(inbound), Left::Nothing(_)),
            Framing::Chunked | Framing::UntilClose => true,
        }
}

/// Takes the body of the request whole.
///
/// # Errors
/// The client is at fault, or the temporary file.
pub(crate) async fn take_request(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    patience: &mut Patience<'_>,
) -> Result<(), Broken> {
    let worker = &inbound.connection.worker;
    let client = &inbound.connection.carrier;
    let settings = &matched.proxy.buffering;
    let blame_client = |cause| Broken::new(Party::Client, Phase::Send, cause);
    let head = inbound.head;
    if head.expect_continue && inbound.early.is_empty() && head.version != Version::Http10 {
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        write_all(client, patience, &[go_on]).await.map_err(blame_client)?;
        patience.renew();
    }
    let max = matched.route.guards.max_body().unwrap_or(u64::MAX).min(settings.max);
    let body = Carrier::Spooled(Box::new(SpooledBody::kept(settings, worker)));
    let mut pump = Pump::new(head.framing, false, Vec::new(), inbound.early, &worker.context)
        .with_payload_max(Some(max));
    let taken = poll_fn(|cx| match pump.poll(cx, client, &body) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending if patience.ends(Waiting::ClientToSend, pump.progress()) => {
            Poll::Ready(Err(PumpError::Source(Cause::Timeout)))
        }
        Poll::Pending => Poll::Pending,
    });
    taken.await.map_err(|error| match error {
        PumpError::Source(cause) => blame_client(cause),
        PumpError::Sink(_) => broken_here(&body),
    })?;
    patience.renew();
    let len = pump.payload();
    let early_used = inbound.early.len() - pump.early_left();
    let excess = RefCell::new(pump.take_parts().1);
    let taken = Box::new(TakenRequest { body, len, early_used, excess });
    // It is taken once, at the beginning.
    let _first = inbound.taken.set(taken);
    Ok(())
}

/// The temporary file failed, which is nobody's fault but ours.
fn broken_here(body: &Carrier) -> Broken {
    let fault = match body {
        Carrier::Spooled(body) => body.take_fault(),
        _ => None,
    };
    Broken {
        detail: fault.map(|fault| fault.to_string()).unwrap_or_default(),
        ..Broken::new(Party::Proxy, Phase::Send, Cause::Internal)
    }
}
