//! Bytes to messages and back: HTTP/1 heads and bodies, request targets and hosts, WebSocket
//! frames, and the fields whose syntax Ravelin has to understand. No I/O, no clock, no tokio.
//!
//! It stands at the bottom of the path of a request: the connection drivers hand it what they read
//! and write what it says. Every function here works on bytes that a stranger chose, so none of
//! them panics, none of them looks at more than it is given, and everything that can grow has a
//! named bound. What can be read in two ways is refused.
//!
//! | module | what |
//! |---|---|
//! | [`field`] | fields as places in a buffer, the names Ravelin knows |
//! | [`head`] | request and response heads; the one decision on message length |
//! | [`body`] | bodies by length, chunked, until close |
//! | [`target`] | request targets and the canonical path |
//! | [`host`] | `Host` values |
//! | [`forwarded`] | the client's address, `Forwarded` |
//! | [`range`], [`date`], [`etag`] | what static files and caches need |
//! | [`websocket`] | handshake key and frame headers |
//! | [`request_id`] | `X-Request-ID` |
//! | [`text`] | which characters do more than to be shown |

#![forbid(unsafe_code)]

pub mod body;
pub mod date;
pub mod etag;
pub mod field;
pub mod forwarded;
pub mod head;
pub mod host;
pub mod proxy_protocol;
pub mod range;
pub mod request_id;
pub mod target;
pub mod text;
mod token;
pub mod trace_context;
pub mod websocket;
