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
pub(crate) use policy::{Asked, Refused, judge};
pub(crate) use tunnel::{Taken, tunnel};

use std::sync::Arc;

use config::model;

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
    /// A place for one more WebSocket of a client. `Ok(None)` if nobody counts them.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(&self, client: Option<std::net::IpAddr>) -> Result<Option<Box<Place>>, Full> {
        let model::WebSocket { max_open, max_open_per_address, .. } = self.model;
        if max_open.is_none() && max_open_per_address.is_none() {
            return Ok(None);
        }
        let place = self.open.enter(client, max_open, max_open_per_address);
        place.map(|place| Some(Box::new(place))).ok_or(Full)
    }
}

/// As many WebSockets are open as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;
