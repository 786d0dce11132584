//! How long an exchange waits for whom.
//!
//! One deadline a connection stands for all its time limits: at each moment the exchange waits for
//! one side to do one thing, and the deadline is moved when that changes or when the side did
//! something. An upstream must do *something* within its time, as nginx means it; a client must keep
//! up a least rate, so that a byte now and then does not hold a connection for ever.

use std::time::Duration;

use config::model::{Limits, Timeouts};
use net::timer::Deadline;

/// Whom an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The client, to send more of the request body.
    ClientToSend,
    /// The client, to take more of the response.
    ClientToReceive,
    /// The upstream, to send more of the response.
    UpstreamToSend,
    /// The upstream, to take more of the request.
    UpstreamToReceive,
    /// Either side of a tunnel.
    Tunnel,
}

/// The time limits of an exchange without an upstream.
pub fn no_upstream_timeouts() -> Timeouts {
    let none = Duration::MAX;
    Timeouts { connect: none, read: none, write: none, tunnel: none }
}

/// The patience of one exchange.
#[derive(Debug)]
pub struct Patience<'a> {
    deadline: &'a Deadline,
    limits: &'a Limits,
    timeouts: &'a Timeouts,
    /// Whom the deadline is set for, and how many bytes had moved when it was.
    mark: Option<(Waiting, u64)>,
}

impl<'a> Patience<'a> {
    /// Patience by these limits.
    pub fn new(deadline: &'a Deadline, limits: &'a Limits, timeouts: &'a Timeouts) -> Self {
        Self { deadline, limits, timeouts, mark: None }
    }

    /// Waits for `whom` after `moved` bytes have moved in all. True when patience has ended.
    pub fn ends(&mut self, whom: Waiting, moved: u64) -> bool {
        let by_rate = matches!(whom, Waiting::ClientToSend | Waiting::ClientToReceive);
        match self.mark {
            Some((marked, bytes)) if marked == whom && (by_rate || bytes == moved) => {
                if !self.deadline.expired() {
                    return false;
                }
                if !by_rate || moved.saturating_sub(bytes) < self.least_bytes() {
                    return true;
                }
            }
            _ => {}
        }
        self.mark = Some((whom, moved));
        self.deadline.set(self.time_for(whom));
        false
    }

    /// Forgets whom it waited for: the next wait starts anew.
    pub fn renew(&mut self) {
        self.mark = None;
    }

    fn time_for(&self, whom: Waiting) -> Duration {
        match whom {
            Waiting::ClientToSend | Waiting::ClientToReceive => self.limits.body_grace,
            Waiting::UpstreamToSend => self.timeouts.read,
            Waiting::UpstreamToReceive => self.timeouts.write,
            Waiting::Tunnel => self.timeouts.tunnel,
        }
    }

    /// What a client must have moved within the grace time.
    fn least_bytes(&self) -> u64 {
        self.limits.body_min_rate.saturating_mul(self.limits.body_grace.as_secs().max(1))
    }
}
