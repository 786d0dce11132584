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
mod steering;
mod weighted;
mod weighted_random;

pub use member::{Member, MemberState, WEIGHT_MAX};
pub use plan::{Chance, Weighed};

use std::sync::Arc;

use arc_swap::ArcSwap;
use config::model::{Balance, FailOpen, HashKey, HashTable, PoolSettings, StickyMode};
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
    fail_open: FailOpen,
    pool: Arc<PoolState>,
    epoch: Arc<Epoch>,
    method: Planned,
    /// Finds the member of a client that is kept by the hash of a cookie.
    ring: Option<Planned>,
}

/// A method and its present plan.
#[derive(Debug)]
struct Planned {
    balance: Balance,
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
        now: Tick,
    ) -> Self {
        for member in &members {
            member.endpoint.is_used_by(&pool, member.max_conns.is_some());
        }
        epoch.wakes(&pool);
        let (fail_open, current) = (settings.fail_open, epoch.current());
        let planned = |balance: Balance| {
            let plan = Plan::new(&balance, fail_open, &members, current, now, None);
            Planned { balance, plan: ArcSwap::from_pointee(plan) }
        };
        let method = planned(settings.balance.clone());
        let ring = ring(settings).map(planned);
        Self { members, fail_open, pool, epoch, method, ring }
    }

    /// The members, of each entry in declared order all that it may have.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How often endpoints have changed their addresses.
    pub fn moves(&self) -> u64 {
        self.epoch.moves()
    }

    /// The property of a request that [`Ask::hash`] is the hash of; `None` if none is needed.
    pub fn hash_key(&self) -> Option<&HashKey> {
        match &self.method.balance {
            Balance::Hash { key, .. } => Some(key),
            _ => None,
        }
    }

    /// How one is chosen.
    pub fn method(&self) -> &Balance {
        &self.method.balance
    }

    /// What the next request with this hash would find at `now`. Nothing is taken and no member tried.
    pub fn weigh(&self, hash: u64, now: Tick) -> Weighed {
        self.weigh_by(&self.method.balance, hash, now)
    }

    fn weigh_by(&self, balance: &Balance, hash: u64, now: Tick) -> Weighed {
        let epoch = self.epoch.current();
        let plan = Plan::new(balance, self.fail_open, &self.members, epoch, now, None);
        let ask = Ask { hash, random: 0, turn: self.pool.turn.next(), now };
        plan.weigh(balance, &self.members, &ask)
    }

    /// Whether a client that sticks to the member at this index would go there at `now`.
    pub fn would_keep(&self, index: usize, now: Tick) -> bool {
        let alone = !self.may_leave_out();
        let member = self.members.get(index);
        member.is_some_and(|member| member.may_keep_clients(alone, now) && !member.is_full())
    }

    /// The member that clients whose cookie has this hash would go to at `now`, where they are kept
    /// that way.
    pub fn would_keep_by_hash(&self, hash: u64, now: Tick) -> Option<usize> {
        self.weigh_by(&self.ring.as_ref()?.balance, hash, now).next
    }

    /// Takes a turn for a request, where the method goes by turns.
    pub fn take_turn(&self) -> usize {
        match &self.method.balance {
            Balance::RoundRobin | Balance::Weighted | Balance::LeastConnections => {
                self.pool.turn.take()
            }
            _ => 0,
        }
    }

    /// The method goes by latency, which has to be measured then.
    pub fn wants_latency(&self) -> bool {
        self.method.balance == Balance::PeakEwma
    }

    /// The member for every request, where there is but one and it can be used and has room: nothing is to
    /// be chosen then.
    pub fn only(&self, now: Tick) -> Option<&Member> {
        match &self.members[..] {
            [member] if member.is_usable(true, now) && !member.is_full() => {
                // It is asked whatever the turn, but a success after this ends what had failed.
                let _ = member.probe(now);
                Some(member)
            }
            _ => None,
        }
    }

    /// The member for a request.
    pub fn choose(&self, ask: &Ask, tried: &Tried) -> Choice<'_> {
        self.choose_by(&self.method, ask, tried)
    }

    fn choose_by(&self, planned: &Planned, ask: &Ask, tried: &Tried) -> Choice<'_> {
        let plan = planned.plan.load();
        match plan.epoch == self.epoch.current() && plan.is_valid(ask.now) {
            true => self.look_up(&planned.balance, &plan, ask, tried),
            false => {
                self.look_up(&planned.balance, &self.renew(planned, &plan, ask.now), ask, tried)
            }
        }
    }

    fn look_up(&self, balance: &Balance, plan: &Plan, ask: &Ask, tried: &Tried) -> Choice<'_> {
        // Members that others are trying at this moment.
        let mut refused: Vec<usize> = Vec::new();
        loop {
            let index = match plan.find(balance, &self.members, ask, tried, &refused) {
                Found::Member(index) => index,
                Found::LeftOut(index) => return self.at(index),
                Found::Full => return Choice::Full,
                Found::Nothing => break,
            };
            let Some(member) = self.members.get(index) else { return Choice::Nothing };
            match member.probe(ask.now) {
                _ if !plan.probes => return Choice::Member(member, Trial::No),
                Turn::Free => return Choice::Member(member, Trial::No),
                Turn::Probe => return Choice::Member(member, Trial::Yes),
                Turn::Refused => refused.push(index),
            }
        }
        if refused.is_empty() || self.fail_open == FailOpen::Never {
            return Choice::Nothing;
        }
        match plan.find(balance, &self.members, ask, tried, &[]) {
            Found::Member(index) | Found::LeftOut(index) => self.at(index),
            Found::Full => Choice::Full,
            Found::Nothing => Choice::Nothing,
        }
    }

    fn at(&self, index: usize) -> Choice<'_> {
        self.members.get(index).map_or(Choice::Nothing, |member| Choice::Member(member, Trial::No))
    }

    /// The member at `index`, if a client that sticks to it may go there and it was not tried yet.
    pub fn keeper(&self, index: usize, tried: &Tried, now: Tick) -> Option<(&Member, Trial)> {
        let member = self.members.get(index).filter(|_| !tried.contains(index))?;
        let alone = !self.may_leave_out();
        let fits = member.may_keep_clients(alone, now) && !member.is_full();
        // One that had failed is tried by one request first, also if all its clients stick to it.
        match fits.then(|| if alone { Turn::Free } else { member.probe(now) })? {
            Turn::Free => Some((member, Trial::No)),
            Turn::Probe => Some((member, Trial::Yes)),
            Turn::Refused => None,
        }
    }

    /// The member that keeps clients whose cookie has this hash: the next on the ring that can be
    /// used and was not tried yet. `None` if clients are not kept that way, or there is no such.
    pub fn keeper_by_hash(&self, hash: u64, tried: &Tried, now: Tick) -> Option<(&Member, Trial)> {
        let ask = Ask { hash, random: 0, turn: 0, now };
        match self.choose_by(self.ring.as_ref()?, &ask, tried) {
            Choice::Member(member, trial) => Some((member, trial)),
            Choice::Full | Choice::Nothing => None,
        }
    }

    /// There is a member that was not tried yet and can be used now, or is asked rather than nobody.
    pub fn has_another(&self, tried: &Tried, now: Tick) -> bool {
        let alone = !self.may_leave_out();
        let usable = |member: &Member| member.is_usable(alone, now);
        let none = || !self.members.iter().any(usable);
        let open =
            |member: &Member| member.is_open(self.fail_open) && (member.state.is_up() || none());
        let fits = |member: &Member| usable(member) || open(member);
        let mut members = self.members.iter().enumerate();
        members.any(|(index, member)| !tried.contains(index) && fits(member))
    }

    /// A member can be used and has room.
    pub fn has_free_member(&self, now: Tick) -> bool {
        let alone = !self.may_leave_out();
        self.members.iter().any(|member| member.is_usable(alone, now) && !member.is_full())
    }

    /// When, after `now`, a member can be used again because time has passed; `None` if that cannot
    /// be.
    pub fn next_change(&self, now: Tick) -> Option<Tick> {
        self.members.iter().filter_map(|member| member.next_change(now)).min()
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
    fn renew(&self, planned: &Planned, old: &Plan, now: Tick) -> Arc<Plan> {
        let (balance, epoch) = (&planned.balance, self.epoch.current());
        let plan = Plan::new(balance, self.fail_open, &self.members, epoch, now, Some(old));
        let plan = Arc::new(plan);
        planned.plan.store(Arc::clone(&plan));
        plan
    }
}

/// How clients are kept by the hash of a cookie, where they are.
fn ring(settings: &PoolSettings) -> Option<Balance> {
    match &settings.sticky.as_ref()?.mode {
        StickyMode::ConsistentHash { application } => Some(Balance::Hash {
            key: HashKey::Cookie(application.clone()),
            table: HashTable::Ketama,
            bounded_load: None,
        }),
        StickyMode::Cookie { .. } | StickyMode::ApplicationCookie { .. } => None,
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
