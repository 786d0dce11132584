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

use net::buffer::{BUFFER_SIZE, BULK_BUFFER_SIZE};
use net::splice::SPLICE_WORTH;
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

/// How a response is read first; a guess by the one before it on the same connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FirstRead {
    /// Into an ordinary buffer.
    #[default]
    Ordinary,
    /// Into a bulk buffer: the response fits into one, and needs one write instead of two.
    Bulk,
    /// Little more than its head: the rest goes through a pipe, and is not to be copied.
    Head,
}

impl FirstRead {
    /// How much is read first where no more than a head is wanted: it holds most of them.
    pub const HEAD_ROOM: usize = 2048;
    /// Of a response of so many bytes enough is left then for a pipe.
    const SPLICED: usize = Self::HEAD_ROOM + SPLICE_WORTH;

    /// For a response of so many bytes that could go through a pipe, or could not.
    pub fn of(length: u64, may_splice: bool) -> Self {
        match usize::try_from(length) {
            Ok(..=BUFFER_SIZE) => Self::Ordinary,
            Ok(Self::SPLICED..) if may_splice => Self::Head,
            Ok(..=BULK_BUFFER_SIZE) => Self::Bulk,
            _ => Self::Ordinary,
        }
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
    /// How the next response is best read first.
    pub first_read: Cell<FirstRead>,
    established: Tick,
    lease: Lease,
}

impl UpstreamConnection {
    /// A connection that was just made, for one exchange at a time.
    pub fn new(opened: Opened) -> Box<Self> {
        let Opened { stream, lease } = opened;
        let carrier = Carrier::Socket(stream);
        Self::made(carrier, false, lease)
    }

    /// A place on a connection that carries many exchanges.
    pub fn shared(place: Place) -> Box<Self> {
        let reused = place.is_reused();
        let carrier = Carrier::Http2Client(Box::new(ClientStream::new(place)));
        Self::made(carrier, reused, Lease::default())
    }

    fn made(carrier: Carrier, reused: bool, lease: Lease) -> Box<Self> {
        let established = Tick::now();
        Box::new(Self { carrier, reused, first_read: Cell::default(), established, lease })
    }
}
