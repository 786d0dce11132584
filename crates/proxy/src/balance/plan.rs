//! Which members can be used now, and the tables by which one of them is found.
//!
//! A plan is made when something lasting has changed (health, addresses, an ejection or its end, a
//! weight that grows) and is immutable: a request only looks things up. What changes with every
//! request (members that are full, or were tried already) is asked of each candidate in turn.

mod weigh;

pub use weigh::{Chance, Weighed};

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use config::model::{Balance, FailOpen, HashTable};
use net::timer::Tick;

use super::ketama::Ring;
use super::load::Load;
use super::modulo::Modulo;
use super::node::{Node, WHOLE};
use super::peak_ewma::{self, Cost};
use super::{Ask, Member, Tried};
use super::{
    bounded_load, least_connections, maglev, random, round_robin, weighted, weighted_random,
};

/// How often a weight that grows is looked at.
const GROWTH: Duration = Duration::from_millis(500);

/// The members that can be used, by tier.
#[derive(Debug)]
pub(super) struct Plan {
    /// The epoch it was made in.
    pub(super) epoch: u64,
    /// It has to be made anew at this time, even if nothing happens.
    valid_until: Option<Tick>,
    tiers: Vec<Tier>,
    /// Those left out because of failures, for requests that all others have failed; only where the
    /// operator wants them asked rather than nobody.
    left_out: Vec<u16>,
    /// A member that failed gets one request first. Not where nothing else is left.
    pub(super) probes: bool,
}

/// Members of one priority.
#[derive(Debug)]
struct Tier {
    /// The indices of those in the table, in declared order.
    members: Vec<u16>,
    /// Their weights in hundredths, as far as they have them at present; 0 for one that cannot be
    /// used.
    weights: Vec<u32>,
    usable: usize,
    table: Arc<Table>,
}

/// What a method has to look things up in.
#[derive(Debug)]
enum Table {
    RoundRobin,
    Order(weighted::Sequence),
    LeastConnections,
    Random,
    WeightedRandom(weighted_random::Table),
    PeakEwma,
    Modulo(Modulo),
    /// With what the ring was made of. It holds those that cannot be used, too: they are passed over,
    /// so that it is not made anew whenever a member goes or comes back.
    Ketama(Ring, Vec<Named>),
    Maglev(maglev::Table),
}

/// A member as consistent hashing sees it, and keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    name: String,
    weight: u32,
    share: u32,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// This member.
    Member(usize),
    /// This one, which is left out, since all others were tried.
    LeftOut(usize),
    /// There are members, and all have as many requests as they may.
    Full,
    /// There is none.
    Nothing,
}

impl Plan {
    /// The plan for `members` at `now`, with the tables of `old` where nothing changed.
    pub(super) fn new(
        balance: &Balance,
        fail_open: FailOpen,
        members: &[Member],
        epoch: u64,
        now: Tick,
        old: Option<&Plan>,
    ) -> Self {
        let alone = members.iter().filter(|member| member.is_wanted()).count() == 1;
        let any = members.iter().any(|member| member.is_usable(alone, now));
        let open = !any && fail_open != FailOpen::Never;
        let is_open = |member: &Member| open && member.is_open(fail_open);
        let share = |member: &Member| match member.is_usable(alone, now) || is_open(member) {
            true => member.share(now),
            false => 0,
        };
        let wanted = members.iter().zip(0u16..).filter(|(member, _)| member.is_wanted());
        let shares: Vec<(u16, &Member, u32)> =
            wanted.map(|(member, index)| (index, member, share(member))).collect();
        let mut tiers: Vec<(u8, u16)> = shares
            .iter()
            .filter(|(_, _, share)| *share > 0)
            .map(|(_, member, _)| member.tier())
            .collect();
        tiers.sort_unstable();
        tiers.dedup();
        let tiers = tiers.into_iter().map(|tier| {
            let of_tier = shares.iter().filter(|(_, member, _)| member.tier() == tier);
            Tier::new(balance, of_tier.copied().collect(), old)
        });
        let tiers = tiers.filter(|tier| tier.usable > 0).collect();
        let grows = shares.iter().any(|(_, _, share)| (1..100).contains(share));
        let growth = grows.then(|| now.after(GROWTH));
        let changes = members.iter().filter_map(|member| member.next_change(now)).chain(growth);
        let left_out =
            shares.iter().filter(|(_, member, share)| *share == 0 && member.state.is_up());
        let left_out =
            left_out.filter(|_| fail_open != FailOpen::Never).map(|(index, ..)| *index).collect();
        Self { epoch, valid_until: changes.min(), tiers, left_out, probes: !alone && !open }
    }

    /// Time alone has not made it wrong.
    pub(super) fn is_valid(&self, now: Tick) -> bool {
        self.valid_until.is_none_or(|until| now < until)
    }

    /// The member for a request: of the first tier that has one which was not tried yet; if all were
    /// tried, one that is left out, where that may be, or one of the first tier again. It is none of
    /// those `refused`.
    pub(super) fn find(
        &self,
        balance: &Balance,
        members: &[Member],
        ask: &Ask,
        tried: &Tried,
        refused: &[usize],
    ) -> Found {
        let full = Cell::new(false);
        let is_full = |index: usize| members.get(index).is_none_or(Member::is_full);
        let has_room = |index: usize| {
            let is_full = is_full(index);
            full.set(full.get() || is_full);
            !is_full
        };
        for tier in &self.tiers {
            let fits = |index: usize| {
                !tried.contains(index) && !refused.contains(&index) && has_room(index)
            };
            match tier.find(balance, members, ask, fits) {
                Some(index) => return Found::Member(index),
                None if full.get() => return Found::Full,
                None => {}
            }
        }
        if tried.is_empty() {
            return Found::Nothing;
        }
        let mut left_out = self.left_out.iter().map(|&index| usize::from(index));
        let fits =
            |index: &usize| !tried.contains(*index) && !refused.contains(index) && !is_full(*index);
        if let Some(index) = left_out.find(fits) {
            return Found::LeftOut(index);
        }
        for tier in &self.tiers {
            let fits = |index: usize| !refused.contains(&index) && has_room(index);
            match tier.find(balance, members, ask, fits) {
                Some(index) => return Found::Member(index),
                None if full.get() => return Found::Full,
                None => {}
            }
        }
        Found::Nothing
    }
}

impl Tier {
    /// `shares`: index, member, and per cent of its weight that it has.
    fn new(balance: &Balance, mut shares: Vec<(u16, &Member, u32)>, old: Option<&Plan>) -> Self {
        let by_hash = matches!(balance, Balance::Hash { .. });
        if !by_hash {
            // Tables of hashes know of all: what one would have does not change when it leaves.
            shares.retain(|(_, _, share)| *share > 0);
        }
        // One that an operator weighs at run time is weighed against the others.
        let is_weighed = shares.iter().any(|(_, member, _)| member.state.given_weight().is_some());
        let weigh = |member: &Member| match balance {
            Balance::RoundRobin | Balance::Random if !is_weighed => member.weight().min(1),
            _ => member.weight(),
        };
        // An entry without weight gets nothing, unless none that can be used has any.
        let weightless = shares.iter().all(|(_, member, share)| *share == 0 || weigh(member) == 0);
        let weigh = |member: &Member| if weightless { 1 } else { weigh(member) };
        shares.retain(|(_, member, _)| weigh(member) > 0);
        let weights: Vec<u32> =
            shares.iter().map(|(_, member, share)| weigh(member).saturating_mul(*share)).collect();
        let members: Vec<u16> = shares.iter().map(|(index, ..)| *index).collect();
        let usable = weights.iter().filter(|&&weight| weight > 0).count();
        let named = |&(_, member, share): &(u16, &Member, u32)| Named {
            name: member.name(),
            weight: weigh(member),
            share,
        };
        let named: Vec<Named> = shares.iter().filter(|_| by_hash).map(named).collect();
        let before = old.into_iter().flat_map(|plan| &plan.tiers);
        let is_same = |tier: &&Tier| match &*tier.table {
            Table::Ketama(_, of) => {
                of.iter().cloned().eq(named.iter().cloned().map(Named::on_ring))
            }
            _ => !by_hash && tier.members == members && tier.weights == weights,
        };
        let same = before.filter(is_same).map(|tier| Arc::clone(&tier.table)).next();
        let table = same.unwrap_or_else(|| Arc::new(Table::new(balance, named, &shares, &weights)));
        Self { members, weights, usable, table }
    }

    /// The first candidate that `fits`, in the order of the method.
    fn find(
        &self,
        balance: &Balance,
        members: &[Member],
        ask: &Ask,
        fits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let count = self.members.len();
        let index = |position: usize| self.members.get(position).map(|&index| usize::from(index));
        let load = |position: usize| {
            let member = members.get(index(position)?)?;
            let weight = self.weights.get(position).copied().filter(|&weight| weight > 0)?;
            Some(Load { in_flight: member.endpoint.in_flight(), weight })
        };
        let fits_at = |position: &usize| index(*position).is_some_and(&fits);
        let position = match &*self.table {
            Table::RoundRobin => self.from(round_robin::choose(count, ask.turn)?, fits_at),
            Table::Order(sequence) => self.from(sequence.choose(ask.turn)?, fits_at),
            Table::Random => self.from(random::choose(count, ask.random)?, fits_at),
            Table::WeightedRandom(table) => self.from(table.choose(ask.random)?, fits_at),
            Table::LeastConnections => least_connections::choose(count, ask.turn, |position| {
                load(position).filter(|_| fits_at(&position))
            }),
            Table::PeakEwma => {
                let cost = |position: usize| {
                    let member = index(position).and_then(|index| members.get(index));
                    let cost = member.map_or(u64::MAX, |member| {
                        member.state.latency.cost(member.endpoint.in_flight(), ask.now)
                    });
                    let full = !fits_at(&position);
                    let weight = self.weights.get(position).copied().unwrap_or_default();
                    Cost { cost: if full { u64::MAX } else { cost }, weight }
                };
                self.from(peak_ewma::choose(count, ask.random, cost)?, fits_at)
            }
            Table::Modulo(table) => {
                let candidates = table.candidates(ask.hash).filter(fits_at);
                bounded(balance, count, load, candidates)
            }
            Table::Ketama(ring, _) => {
                let usable = |position: &usize| self.weights.get(*position) > Some(&0);
                let candidates = ring.candidates(ask.hash).filter(usable).filter(fits_at);
                bounded(balance, count, load, candidates)
            }
            Table::Maglev(table) => {
                let candidates = table.candidates(ask.hash).filter(fits_at);
                bounded(balance, count, load, candidates)
            }
        };
        index(position?)
    }

    /// The first position that fits, from `first` on and around.
    fn from(&self, first: usize, fits: impl Fn(&usize) -> bool) -> Option<usize> {
        (first..self.members.len()).chain(0..first.min(self.members.len())).find(fits)
    }
}

/// The first candidate, or the first with room below the bound where there is one.
fn bounded(
    balance: &Balance,
    count: usize,
    load: impl Fn(usize) -> Option<Load>,
    mut candidates: impl Iterator<Item = usize>,
) -> Option<usize> {
    match balance {
        Balance::Hash { bounded_load: Some(percent), .. } => {
            bounded_load::choose(*percent, count, load, candidates)
        }
        _ => candidates.next(),
    }
}

impl Table {
    /// `named`: only where members are found by hash.
    fn new(
        balance: &Balance,
        named: Vec<Named>,
        shares: &[(u16, &Member, u32)],
        weights: &[u32],
    ) -> Self {
        let starting = shares.iter().any(|(_, _, share)| *share < 100);
        let uneven = starting || weights.windows(2).any(|pair| pair.first() != pair.last());
        match balance {
            Balance::RoundRobin if uneven => Self::Order(weighted::Sequence::new(weights)),
            Balance::RoundRobin => Self::RoundRobin,
            Balance::Weighted => Self::Order(weighted::Sequence::new(weights)),
            Balance::LeastConnections => Self::LeastConnections,
            Balance::Random if uneven => Self::WeightedRandom(weighted_random::Table::new(weights)),
            Balance::Random => Self::Random,
            Balance::WeightedRandom => Self::WeightedRandom(weighted_random::Table::new(weights)),
            Balance::PeakEwma => Self::PeakEwma,
            Balance::Hash { table: HashTable::Modulo, .. } => Self::Modulo(Modulo::new(weights)),
            Balance::Hash { table: HashTable::Ketama, .. } => {
                let named: Vec<Named> = named.into_iter().map(Named::on_ring).collect();
                let ring = Ring::new(&nodes(&named));
                Self::Ketama(ring, named)
            }
            Balance::Hash { table: HashTable::Maglev, .. } => {
                Self::Maglev(maglev::Table::new(&nodes(&named)))
            }
        }
    }
}

fn nodes(named: &[Named]) -> Vec<Node<'_>> {
    let nodes = named.iter().map(|named| Node {
        name: named.name.as_bytes(),
        weight: named.weight,
        share: named.share,
    });
    nodes.collect()
}

impl Named {
    /// The same if it can be used.
    fn on_ring(self) -> Self {
        let share = if self.share == 0 { WHOLE } else { self.share };
        Self { share, ..self }
    }
}
