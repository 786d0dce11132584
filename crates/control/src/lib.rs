//! What watches and steers, beside the path of requests: the log writers, name resolution,
//! health checks, certificates, what credentials are checked with.
//!
//! Everything here runs on threads and a runtime of its own and reaches the workers only through
//! what `proxy` offers for it: a bounded queue for log blocks, published addresses and health for
//! endpoints.
#![forbid(unsafe_code)]

pub mod admin;
pub mod auth;
pub mod canary;
pub mod certificates;
pub mod endpoints;
pub mod health;
pub mod history;
pub mod metrics;
pub mod orders;
pub mod resolve;
mod stats_page;
pub mod stream;
pub mod text_commands;
pub mod tracing;
pub mod watch_config;
pub mod writer;
