//! A request on its way: the steps of `proxy`'s `forward::attempts`, one at a time, so that other
//! requests come between them as they do on several workers.

use std::pin::Pin;

use net::timer::Tick;
use proxy::balance::{Member, MemberState, Tried};
use proxy::health::breaker::Permit;
use proxy::live::InFlight;
use proxy::pool::{InPool, Place, Pool, Queue};
use tokio::sync::futures::Notified;

pub(super) struct Request<'a> {
    pub(super) pool: &'a Pool,
    /// Which of the pools.
    pub(super) index: usize,
    pub(super) permit: Option<Permit>,
    /// The round of trials of the breaker that the permit belongs to.
    pub(super) round: Option<u64>,
    pub(super) hash: u64,
    pub(super) turn: usize,
    pub(super) tried: Tried,
    pub(super) tried_indices: Vec<usize>,
    pub(super) made: u32,
    /// Sending it twice does no harm.
    pub(super) idempotent: bool,
    /// The client leaves then.
    pub(super) leaves: u64,
    pub(super) began: Tick,
    pub(super) step: Step<'a>,
    pub(super) place: Option<Place<'a>>,
    pub(super) news: Option<Pin<Box<Notified<'a>>>>,
    /// Until it leaves the queue.
    pub(super) patient_until: Tick,
    pub(super) ended: Option<Ended>,
}

pub(super) enum Step<'a> {
    Arrive,
    /// Looks whether the pool has room.
    Look,
    Choose,
    /// Takes a place at the member.
    TakeMember(&'a Member, Option<&'a MemberState>),
    /// Takes a place in the pool.
    TakePool(&'a Member, Option<&'a MemberState>, InFlight<'a>),
    Queue,
    /// Asks for news before it looks once more.
    Listen,
    /// Nothing to do before this.
    Wait(Tick),
    Fly(Flight<'a>, Tick, Response),
    /// The member has answered; the body goes on until then.
    Body(Flight<'a>, Tick),
    Pause(Tick),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    Status(u16),
    NoConnection,
    Reset,
    Timeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Answered(u16),
    Failed,
    /// No member, or no patience, or turned away.
    Unserved,
    ClientGone,
}

/// As in `forward::attempts`.
pub(super) struct Flight<'a> {
    pub(super) member: &'a Member,
    pub(super) in_flight: Option<InFlight<'a>>,
    pub(super) in_pool: Option<InPool<'a>>,
    pub(super) queue: Option<&'a Queue>,
    pub(super) probe: Option<&'a MemberState>,
    pub(super) started: Tick,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.in_flight = None;
        self.in_pool = None;
        if let Some(state) = self.probe {
            state.trial_abandoned();
        }
        if let Some(queue) = self.queue {
            queue.leave_room();
        }
    }
}

impl<'a> Request<'a> {
    pub(super) fn new(pool: &'a Pool, index: usize, now: Tick) -> Self {
        Self {
            pool,
            index,
            permit: None,
            round: None,
            hash: 0,
            turn: 0,
            tried: Tried::default(),
            tried_indices: Vec::new(),
            made: 0,
            idempotent: true,
            leaves: u64::MAX,
            began: now,
            step: Step::Arrive,
            place: None,
            news: None,
            patient_until: now,
            ended: None,
        }
    }

    /// When it goes on by itself, if that is later.
    pub(super) fn until(&self) -> Option<Tick> {
        let until = match &self.step {
            Step::Wait(again) => (*again).min(self.patient_until),
            Step::Fly(_, until, _) | Step::Body(_, until) | Step::Pause(until) => *until,
            _ => return None,
        };
        Some(until.min(Tick::from(self.leaves)))
    }
}
