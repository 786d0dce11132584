//! Upstream connections: made, kept idle for reuse, taken again.

mod connect;
mod http2;
mod pool;
mod tls;

pub use connect::{ConnectError, connect};
pub use http2::{Http2Pool, Place};
pub use pool::IdlePool;
pub use tls::TlsConfigs;

use std::cell::Cell;

use net::stream::Stream;
use net::timer::Tick;

use crate::carrier::Carrier;
use crate::carrier::http2_client::ClientStream;
use crate::live::Lease;

/// A connection that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub stream: Stream,
    /// How long it may be kept.
    pub lease: Lease,
}

impl From<Stream> for Opened {
    /// One that may be kept for ever.
    fn from(stream: Stream) -> Self {
        Self { stream, lease: Lease::default() }
    }
}

/// A connection to an endpoint, in use by one exchange. In a box from its beginning: it goes from hand to
/// hand with each request.
#[derive(Debug)]
pub struct UpstreamConnection {
    /// What the request and the response travel on.
    pub carrier: Carrier,
    /// It carried an earlier exchange, so its peer may have closed it meanwhile.
    pub reused: bool,
    /// Its last response was too long for an ordinary buffer and not for a bulk one, so the next is
    /// read into such a one at once: it takes one write instead of two.
    pub reads_bulk: Cell<bool>,
    established: Tick,
    lease: Lease,
}

impl UpstreamConnection {
    /// A connection that was just made, for one exchange at a time.
    pub fn new(opened: Opened) -> Box<Self> {
        let Opened { stream, lease } = opened;
        let carrier = Carrier::Socket(stream);
        Self::boxed(carrier, false, lease)
    }

    /// A place on a connection that carries many exchanges.
    pub fn shared(place: Place) -> Box<Self> {
        let reused = place.is_reused();
        let carrier = Carrier::Http2Client(Box::new(ClientStream::new(place)));
        Self::boxed(carrier, reused, Lease::default())
    }

    fn boxed(carrier: Carrier, reused: bool, lease: Lease) -> Box<Self> {
        let established = Tick::now();
        Box::new(Self { carrier, reused, reads_bulk: Cell::new(false), established, lease })
    }
}
