//! What Ravelin says about its work: one access-log line a request, and an error log for people.
//!
//! Last station of a request's path. The worker that served the request turns a [`Record`] into
//! bytes in its own [`AccessLog`] buffer and hands whole blocks to a [`Sink`]; a writer thread
//! outside of the data path drains the sink. What always holds here: nothing in this module waits,
//! and what finds the sink full is dropped and counted, never queued without a bound.
//!
//! All times are UTC.

mod access;
#[cfg(test)]
mod documentation;
mod ended;
mod error;
mod escape;
mod format;
mod json;
mod own;
pub mod reasons;
mod record;
mod sampling;
mod sink;
mod stamp;

pub use access::{AccessLog, AccessSettings, BLOCK_BYTES};
pub use ended::{Cause, Ended, Party, Phase};
pub use error::{ErrorLog, Failure, Message, RECENT_MAX};
pub(crate) use own::note_fields;
pub use record::{Record, Times};
pub use sink::{
    Block, ERROR_QUEUE_BLOCKS, Losses, Order, QUEUE_BLOCKS, Sink, Source, Total, sink, sink_of,
};
pub use stamp::{Utc, rfc3339};
pub use wire::text::steers;
