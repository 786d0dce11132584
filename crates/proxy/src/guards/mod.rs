//! What a request has to pass before anything is done for it.

pub mod access;
pub mod cors;
pub mod rate_limit;
