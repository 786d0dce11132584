//! TLS: handshakes, what they settle, and the bytes afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "../common/mod.rs"]
mod common;
mod support;

mod bytes;
mod clients;
mod handshake;
mod hostile;
mod identity;
mod openssl;
mod policy;
mod resumption;
