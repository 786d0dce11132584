//! WebSockets whose frames are looked at: limits, keep-alive pings, ages, and orderly ends.
//!
//! Why it exists: a tunnel is a pipe for bytes (`forward/tunnel.rs`), which is all that most routes
//! need and costs least. Where a route says something about messages, ages or silence, the two
//! [directions](direction) of the tunnel follow the frames while they pass.
//!
//! What always holds: a peer's close status and reason arrive as they were sent; a side that breaks
//! the rules is told so by a close frame, and so is the other; no connection ends in a way that loses
//! the close frame on it; for a frame nothing is allocated, and no timer is set.

mod direction;
mod open;
mod policy;
mod rate;
mod tunnel;
mod watch;

pub use open::{OpenSockets, Place};
pub(crate) use tunnel::tunnel;

use std::sync::Arc;

use config::model::{self, Outcome};
use wire::field::FieldId;
use wire::head::RequestHead;

use self::policy::{Asked, Refused, judge};
use crate::exchange::Inbound;
use crate::files::Answer;
use crate::log::Cause;
use crate::respond;

/// Who is at an end of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Upstream,
}

/// What holds for the WebSockets of a route.
#[derive(Debug)]
pub struct Settings {
    /// As the configuration says it.
    pub model: model::WebSocket,
    /// Those that are open.
    pub open: Arc<OpenSockets>,
}

impl Settings {
    /// Settings of a route whose open WebSockets are these.
    pub fn new(model: model::WebSocket, open: Arc<OpenSockets>) -> Self {
        Self { model, open }
    }

    /// Its open WebSockets are counted, so they have to be known beyond a reload.
    pub fn counts(model: &model::WebSocket) -> bool {
        model.max_open.is_some() || model.max_open_per_address.is_some()
    }
}

/// Why a request does not go on to the upstream.
pub(crate) struct Denied {
    /// What it is answered.
    pub(crate) answer: Answer,
    /// For the log.
    pub(crate) cause: Cause,
    /// How it ends at its route.
    pub(crate) outcome: Outcome,
}

/// Whether a request may go on by a route with these settings; `upgrade` says that it asks for a
/// WebSocket, which then has the place that is returned for as long as it lasts, if they are counted.
pub(crate) fn admit(
    inbound: &Inbound<'_>,
    settings: &Settings,
    upgrade: bool,
) -> Result<Option<Box<Place>>, Box<Denied>> {
    let model = &settings.model;
    let judged = judged(model, inbound.head, inbound.bytes, (inbound.is_secure(), upgrade));
    let denied = match judged {
        Ok(()) if !(upgrade && Settings::counts(model)) => return Ok(None),
        Ok(()) => {
            let client = inbound.client_ip();
            let (max, max_each) = (model.max_open, model.max_open_per_address);
            if let Some(place) = settings.open.enter(client, max, max_each) {
                return Ok(Some(Box::new(place)));
            }
            Denied {
                answer: respond::unavailable(respond::RETRY_AFTER),
                cause: Cause::Sockets,
                outcome: Outcome::RateLimited,
            }
        }
        Err(refused) => denied(refused),
    };
    Err(Box::new(denied))
}

/// Why a request may not go on by what its fields say, without counting it: for those who explain.
pub(crate) fn look(
    settings: &Settings,
    head: &RequestHead,
    bytes: &[u8],
    (secure, upgrade): (bool, bool),
) -> Option<Denied> {
    judged(&settings.model, head, bytes, (secure, upgrade)).err().map(denied)
}

fn judged(
    model: &model::WebSocket,
    head: &RequestHead,
    bytes: &[u8],
    (secure, upgrade): (bool, bool),
) -> Result<(), Refused> {
    let mut origins = head.fields.iter().filter(|field| field.id == FieldId::Origin);
    let asked = Asked {
        upgrade,
        origin: origins.next().map(|field| field.value.of(bytes)),
        several: origins.next().is_some(),
        authority: head.host.map(|host| host.of(bytes)).unwrap_or_default(),
        secure,
    };
    judge(model, &asked)
}

fn denied(refused: Refused) -> Denied {
    match refused {
        Refused::NotAsked => Denied {
            answer: respond::websocket_required(),
            cause: Cause::Unsupported,
            outcome: Outcome::ClientError,
        },
        Refused::Origin => {
            Denied { answer: Answer::error(403), cause: Cause::Origin, outcome: Outcome::Denied }
        }
    }
}
