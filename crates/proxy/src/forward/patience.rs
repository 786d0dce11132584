//! How long an exchange waits for whom.
//!
//! One deadline a connection stands for all its time limits: at each moment the exchange waits for
//! one side to do one thing, and the deadline is moved when that changes or when the side did
//! something. An upstream must do *something* within its time, as nginx means it; a client must keep
//! up a least rate, so that a byte now and then does not hold a connection for ever.

use std::time::Duration;

use config::model::{Limits, Timeouts};
use net::timer::{Deadline, Tick};

use crate::connection::Connection;

/// Whom an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The client, to send more of the request body.
    ClientToSend,
    /// The client, to take more of the response.
    ClientToReceive,
    /// The upstream, to begin its response.
    UpstreamToAnswer,
    /// The upstream, to send more of the response.
    UpstreamToSend,
    /// The upstream, to take more of the request.
    UpstreamToReceive,
    /// Either side of a tunnel.
    Tunnel,
    /// The side of a tunnel that has not closed, after the other has.
    TunnelEnd,
}

/// The time limits of an exchange without an upstream.
pub fn no_upstream_timeouts() -> Timeouts {
    let none = Duration::MAX;
    Timeouts {
        connect: none,
        first_byte: none,
        read: none,
        write: none,
        tunnel: none,
        request: None,
    }
}

/// The idle time of a tunnel is watched in so many parts, so that the deadline need not be moved for
/// every message. A tunnel ends at most one part late.
const TUNNEL_PARTS: u32 = 8;

/// Whoever waits for a response has a look so often at whether it makes sense to go on waiting.
const LOOK: Duration = Duration::from_secs(1);

/// How long one side of a tunnel may go on in silence when the other has closed: the peer it talked
/// to is most likely gone.
const TUNNEL_END: Duration = Duration::from_secs(30);

/// The patience of one exchange.
pub struct Patience<'a> {
    connection: &'a Connection,
    deadline: &'a Deadline,
    limits: &'a Limits,
    timeouts: &'a Timeouts,
    /// Whom the deadline is set for, and how many bytes had moved when it was.
    mark: Option<(Waiting, u64)>,
    /// Since when, where that takes several deadlines.
    since: Tick,
    /// How many times in a row the deadline passed and too little had moved.
    quiet: u32,
    /// How many bytes the client's system had taken when the deadline last passed.
    taken: Option<u64>,
    /// When the whole exchange has to be over.
    until: Option<Tick>,
}

impl<'a> Patience<'a> {
    /// Patience by these limits.
    pub fn new(connection: &'a Connection, limits: &'a Limits, timeouts: &'a Timeouts) -> Self {
        let now = Tick::now();
        let until = timeouts.request.map(|time| now.after(time));
        let deadline = &connection.deadline;
        let (since, quiet) = (now, 0);
        Self {
            connection,
            deadline,
            limits,
            timeouts,
            mark: None,
            since,
            quiet,
            taken: None,
            until,
        }
    }

    /// What wakes the task when somebody takes too long.
    pub fn deadline(&self) -> &'a Deadline {
        self.deadline
    }

    /// The time for the whole exchange is over.
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Tick::now() >= until)
    }

    /// The time for the whole exchange is over, and what was begun then had less than half of it: it
    /// is not to blame.
    pub fn is_cut_short(&self, began: Tick) -> bool {
        let whole = self.timeouts.request.unwrap_or(Duration::MAX);
        self.is_over() && Tick::now().since(began) < whole / 2
    }

    /// `time`, or what is left for the whole exchange if that is less.
    pub fn within(&self, time: Duration) -> Duration {
        self.until.map_or(time, |until| time.min(until.since(Tick::now())))
    }

    /// The exchange has become a tunnel, which the time for the whole does not bind.
    pub fn unbounded(&mut self) {
        self.until = None;
        self.renew();
    }

    /// Patience of the same exchange with somebody else at the same time, by a deadline of its own
    /// that wakes the same task.
    pub fn beside<'b>(&self, deadline: &'b Deadline) -> Patience<'b>
    where
        'a: 'b,
    {
        Patience { deadline, mark: None, quiet: 0, taken: None, ..*self }
    }

    /// Waits for `whom` after `moved` bytes have moved in all. True when patience has ended.
    pub fn ends(&mut self, whom: Waiting, moved: u64) -> bool {
        if self.is_over() {
            return true;
        }
        let moved = match whom {
            Waiting::ClientToSend => moved + self.connection.carrier.arriving(),
            _ => moved,
        };
        let moves_on = matches!(
            whom,
            Waiting::UpstreamToAnswer | Waiting::UpstreamToSend | Waiting::UpstreamToReceive
        );
        match self.mark {
            Some((marked, bytes)) if marked == whom && !(moves_on && bytes != moved) => {
                if !self.deadline.expired() {
                    return false;
                }
                if whom == Waiting::UpstreamToAnswer {
                    return self.has_no_answer();
                }
                let since = moved.saturating_sub(bytes);
                let (enough, quiet_max) = match whom {
                    Waiting::ClientToSend => (since >= self.least_bytes(), 1),
                    Waiting::ClientToReceive => {
                        (since >= self.least_bytes() || self.client_takes(moved), 1)
                    }
                    Waiting::Tunnel | Waiting::TunnelEnd => (since > 0, TUNNEL_PARTS),
                    Waiting::UpstreamToAnswer
                    | Waiting::UpstreamToSend
                    | Waiting::UpstreamToReceive => (false, 1),
                };
                self.quiet = if enough { 0 } else { self.quiet + 1 };
                if self.quiet >= quiet_max {
                    return true;
                }
            }
            _ => {
                self.since = Tick::now();
                self.quiet = 0;
                self.taken = None;
            }
        }
        self.mark = Some((whom, moved));
        self.deadline.set(self.within(self.time_for(whom)));
        false
    }

    /// The time for an answer is over; else the next look is due in a while.
    fn has_no_answer(&self) -> bool {
        let waited = Tick::now().since(self.since);
        let Some(left) =
            self.timeouts.first_byte.checked_sub(waited).filter(|left| !left.is_zero())
        else {
            return true;
        };
        self.deadline.set(self.within(left.min(LOOK)));
        false
    }

    /// The client keeps up the least rate, though the kernel takes nothing more for it: that waits
    /// until a good part of a send buffer of up to megabytes is free, for which a client on an honest
    /// but slow line needs longer than its grace. How much it takes is known from the second look on.
    fn client_takes(&mut self, moved: u64) -> bool {
        let Some(taken) = self.connection.carrier.taken(moved) else { return false };
        let before = self.taken.replace(taken);
        before.is_none_or(|before| taken.saturating_sub(before) >= self.least_bytes())
    }

    /// Forgets whom it waited for: the next wait starts anew.
    pub fn renew(&mut self) {
        self.mark = None;
    }

    fn time_for(&self, whom: Waiting) -> Duration {
        match whom {
            Waiting::ClientToSend | Waiting::ClientToReceive => self.limits.body_grace,
            Waiting::UpstreamToAnswer => self.timeouts.first_byte.min(LOOK),
            Waiting::UpstreamToSend => self.timeouts.read,
            Waiting::UpstreamToReceive => self.timeouts.write,
            Waiting::Tunnel => self.timeouts.tunnel / TUNNEL_PARTS,
            Waiting::TunnelEnd => self.timeouts.tunnel.min(TUNNEL_END) / TUNNEL_PARTS,
        }
    }

    /// What a client must have moved within the grace time.
    fn least_bytes(&self) -> u64 {
        self.limits.body_min_rate.saturating_mul(self.limits.body_grace.as_secs().max(1))
    }
}
