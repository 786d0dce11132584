//! The retry budget: further attempts are a share of live requests, so that they never double an
//! outage.
//!
//! What always holds: a further attempt is allowed only if those of the last ten seconds, this one
//! included, are within the share of the requests of the same time, or those of this second are
//! within the minimum.

use net::timer::Tick;

use super::rolling::Rolling;

/// Time over which the share is taken, in seconds.
const WINDOW: u32 = 10;
/// The budget is never reset.
const GENERATION: u8 = 0;

/// The retry budget of a pool, shared by all workers.
#[derive(Debug)]
pub struct Budget {
    share: u32,
    minimum: u32,
    requests: Rolling,
    retries: Rolling,
}

impl Budget {
    /// A budget of `share` per cent of live requests, and `minimum` a second in any case.
    pub fn new(share: u32, minimum: u32) -> Self {
        Self { share, minimum, requests: Rolling::new(WINDOW), retries: Rolling::new(WINDOW) }
    }

    /// A request has come; not to be told of its further attempts.
    pub fn request(&self, now: Tick) {
        self.requests.add(GENERATION, now);
    }

    /// Asks for a further attempt, and counts it if it is allowed.
    pub fn try_retry(&self, now: Tick) -> bool {
        let requests = self.requests.sum(GENERATION, now);
        let share = requests.saturating_mul(u64::from(self.share)) / 100;
        self.retries.add_if(GENERATION, now, |earlier, this_second| {
            this_second < u64::from(self.minimum) || earlier + this_second < share
        })
    }
}
