//! The path of a request.
//!
//! `listener -> connection -> exchange: decide -> filters -> balance -> upstream -> forward -> log`
//!
//! These words are the module names. [`exchange`] is the file to read first: one request and its
//! response, as straight-line async code. Nothing here takes a lock, sends on a channel, spawns a
//! task or registers a timer for a request on the HTTP/1 path.
#![forbid(unsafe_code)]

pub mod auth;
pub mod balance;
mod boxed;
pub mod buffering;
pub mod carrier;
pub mod challenges;
pub mod connection;
pub mod connections;
mod copy;
pub mod decide;
mod drain;
pub mod exchange;
pub mod explain;
pub mod files;
pub mod filters;
pub mod forward;
pub mod guards;
pub mod health;
pub mod listener;
pub mod live;
mod local;
pub mod log;
pub mod metrics;
pub mod pool;
pub mod proxy_status;
pub mod recorder;
mod redirect;
mod respond;
pub mod routes;
mod send;
pub mod serving;
pub mod snapshot;
pub mod sticky;
pub mod traces;
pub mod upstream;
pub mod websocket;
pub mod worker;

pub use explain::explain;
