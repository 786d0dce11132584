//! Choosing an endpoint of a pool.
//!
//! A [`Balancer`] keeps a [`Plan`](plan::Plan) of the members that can be used now; each method is one
//! file with a function or a table over their indices and weights. A turn is a number taken from one
//! counter that all workers share, which makes round robin and weighted round robin exact for the
//! whole process without a lock.
//!
//! What always holds: a member that is down, drained, ejected or failing gets no new request while
//! another can be used; the first tier with a usable member gets all requests; what one request has
//! tried is tried again only when nothing else is left.

mod bounded_load;
mod candidates;
mod hash;
mod ketama;
mod least_connections;
mod load;
mod maglev;
mod member;
mod modulo;
mod node;
mod peak_ewma;
mod plan;
mod random;
mod round_robin;
mod weighted;
mod weighted_random;

pub use member::{Member, MemberState};

use std::sync::Arc;

use arc_swap::ArcSwap;
use config::model::{Balance, HashKey, PoolSettings};
use net::timer::Tick;

use self::plan::{Found, Plan};
use crate::health::max_fails::Turn;
use crate::live::Epoch;
use crate::pool::PoolState;

/// Members that one request remembers to have tried; there are never more attempts.
pub const TRIED_MAX: usize = 16;

/// The members of a pool and how one is chosen.
#[derive(Debug)]
pub struct Balancer {
    members: Vec<Member>,
    balance: Balance,
    fail_open: bool,
    pool: Arc<PoolState>,
    epoch: Arc<Epoch>,
    plan: ArcSwap<Plan>,
}

/// What a choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Of the property that the method hashes; see [`Balancer::hash_key`].
    pub hash: u64,
    /// Evenly distributed.
    pub random: u64,
    /// The request's turn, the same for all its attempts: a further one goes to the next member and
    /// does not disturb the turns of others.
    pub turn: usize,
    /// The present.
    pub now: Tick,
}

/// What a request may do next.
#[derive(Debug, Clone, Copy)]
pub enum Choice<'a> {
    /// Go to this member.
    Member(&'a Member, Trial),
    /// Wait: every member that could be used has as many requests as it may.
    Full,
    /// Nothing: no member can be used.
    Nothing,
}

/// Whether a request tries a member that had failed, and nobody else does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// The members that one request has tried.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    indices: [u16; TRIED_MAX],
    count: usize,
}

impl Balancer {
    /// A balancer over `members`, which must not be empty, taking turns by `pool`; `epoch` tells when what is
    /// known of them has changed.
    pub fn new(
        settings: &PoolSettings,
        members: Vec<Member>,
        pool: Arc<PoolState>,
        epoch: Arc<Epoch>,
    ) -> Self {
        let balance = settings.balance.clone();
        let fail_open = settings.fail_open;
        let (current, now) = (epoch.current(), Tick::now());
        let plan = Plan::new(&balance, fail_open, &members, current, now, None);
        let plan = ArcSwap::from_pointee(plan);
        Self { members, balance, fail_open, pool, epoch, plan }
    }

    /// The members, of each entry in declared order all that it may have.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The property of a request that [`Ask::hash`] is the hash of; `None` if none is needed.
    pub fn hash_key(&self) -> Option<&HashKey> {
        match &self.balance {
            Balance::Hash { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Takes a turn for a request, where the method goes by turns.
    pub fn take_turn(&self) -> usize {
        match &self.balance {
            Balance::RoundRobin | Balance::Weighted | Balance::LeastConnections => {
                self.pool.turn.take()
            }
            _ => 0,
        }
    }

    /// The method goes by latency, which has to be measured then.
    pub fn wants_latency(&self) -> bool {
        self.balance == Balance::PeakEwma
    }

    /// The member for a request.
    pub fn choose(&self, ask: &Ask, tried: &Tried) -> Choice<'_> {
        let plan = self.plan.load();
        match plan.epoch == self.epoch.current() && plan.is_valid(ask.now) {
            true => self.choose_by(&plan, ask, tried),
            false => self.choose_by(&self.renew(&plan, ask.now), ask, tried),
        }
    }

    fn choose_by(&self, plan: &Plan, ask: &Ask, tried: &Tried) -> Choice<'_> {
        let mut passed_over: Option<Tried> = None;
        loop {
            let tried = passed_over.as_ref().unwrap_or(tried);
            let index = match plan.find(&self.balance, &self.members, ask, tried) {
                Found::Member(index) => index,
                Found::Full => return Choice::Full,
                Found::Nothing => return Choice::Nothing,
            };
            let Some(member) = self.members.get(index) else { return Choice::Nothing };
            match member.probe(ask.now) {
                _ if !plan.probes => return Choice::Member(member, Trial::No),
                Turn::Free => return Choice::Member(member, Trial::No),
                Turn::Probe => return Choice::Member(member, Trial::Yes),
                // All that is left is being tried by others.
                Turn::Refused if tried.contains(index) => return Choice::Member(member, Trial::No),
                Turn::Refused => {
                    let mut more = tried.clone();
                    more.add(index);
                    passed_over = Some(more);
                }
            }
        }
    }

    /// The member at `index`, if a client that sticks to it may go there and it was not tried yet.
    pub fn keeper(&self, index: usize, tried: &Tried, now: Tick) -> Option<&Member> {
        let member = self.members.get(index).filter(|_| !tried.contains(index))?;
        let fits = member.may_keep_clients(!self.may_leave_out(), now) && !member.is_full();
        fits.then_some(member)
    }

    /// There is a member that can be used now and was not tried yet.
    pub fn has_another(&self, tried: &Tried, now: Tick) -> bool {
        let alone = !self.may_leave_out();
        let another = |(index, member): (usize, &Member)| {
            !tried.contains(index) && member.is_usable(alone, now)
        };
        self.members.iter().enumerate().any(another)
    }

    /// There is more than one member, so that one which fails can be left out.
    pub fn may_leave_out(&self) -> bool {
        self.members.iter().filter(|member| member.is_wanted()).count() > 1
    }

    /// The index of a member of this balancer.
    pub fn index_of(&self, member: &Member) -> Option<usize> {
        self.members.iter().position(|one| std::ptr::eq(one, member))
    }

    /// Makes a new plan. Workers that come at the same time may each make one; they are the same.
    fn renew(&self, old: &Plan, now: Tick) -> Arc<Plan> {
        let epoch = self.epoch.current();
        let plan = Plan::new(&self.balance, self.fail_open, &self.members, epoch, now, Some(old));
        let plan = Arc::new(plan);
        self.plan.store(Arc::clone(&plan));
        plan
    }
}

impl Ask {
    /// The hash of a property; the same on every machine.
    pub fn hash_of(property: &[u8]) -> u64 {
        hash::of(property)
    }
}

impl Tried {
    /// Remembers a member by its index.
    pub fn add(&mut self, index: usize) {
        if let (Some(place), Ok(index)) = (self.indices.get_mut(self.count), u16::try_from(index)) {
            *place = index;
            self.count += 1;
        }
    }

    /// None was tried.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn contains(&self, index: usize) -> bool {
        self.indices.iter().take(self.count).any(|&tried| usize::from(tried) == index)
    }
}
