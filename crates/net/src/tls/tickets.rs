//! Keys for session tickets (RFC 5077, RFC 8446 §4.6.1).
//!
//! What always holds: all workers use the same keys, which roll every six hours and are forgotten
//! after twelve; connections under different policies have different keys, so that no session gets
//! from one to the other; where clients show certificates there are no tickets at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::server::ProducesTickets;

use super::PolicyId;

/// The ticket keys of a process. Keep it across reloads, or returning clients shake hands in full.
#[derive(Debug, Default)]
pub struct Tickets {
    keys: Mutex<HashMap<PolicyId, Arc<dyn ProducesTickets>>>,
}

impl Tickets {
    /// No keys yet; they are made as policies ask for them.
    pub fn new() -> Self {
        Self::default()
    }

    /// The keys for a policy. `None` if there is no randomness to be had.
    pub(super) fn for_policy(&self, policy: PolicyId) -> Option<Arc<dyn ProducesTickets>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = keys.get(&policy) {
            return Some(Arc::clone(known));
        }
        let made = rustls::crypto::aws_lc_rs::Ticketer::new().ok()?;
        keys.insert(policy, Arc::clone(&made));
        Some(made)
    }
}
