//! Bodies that rest here between the client and the upstream, so that neither waits for the other.
//!
//! A request body may be taken whole before an endpoint is chosen: then a slow client holds no
//! upstream connection, and the request can be sent again. A response may be read as fast as the
//! upstream gives it: then the upstream's connection is free again while a slow client still takes
//! what it sent. Both are off unless the configuration says so, or, for a response, the upstream.

mod body;
mod request;
mod response;
mod spool;
mod temporary;

pub use body::SpooledBody;
pub use request::TakenRequest;
pub(crate) use request::{is_too_long, take_request, wants_request};
pub(crate) use response::{hides_field, wants_response};
pub use spool::{Reading, Spool, SpoolError, SpoolMemory, WORKER_MEMORY_MAX};
