//! What a request would find, for those who ask: nothing is taken, no member is tried.

use config::model::Balance;
use net::timer::Tick;

use super::{Ask, Found, Member, Plan, Table, Tried};

/// What a method sees in the members.
#[derive(Debug, Clone, Default)]
pub struct Weighed {
    /// Of each member, in the order of the balancer.
    pub members: Vec<Chance>,
    /// The member that the next request would go to, where the method leaves nothing to chance.
    pub next: Option<usize>,
    /// There are usable members, and all have as many requests as they may.
    pub full: bool,
}

/// What a method sees in a member.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chance {
    /// A request may be sent to it now.
    pub is_candidate: bool,
    /// Its weight among the candidates in hundredths, as far as it has it at present.
    pub weight: u32,
    /// How likely it is to have the next request, from 0 to 1, or how often it has one in the long run;
    /// `None` where that cannot be said.
    pub share: Option<f64>,
    /// What the method goes by: requests in flight for a weight, expected microseconds. The least has
    /// the request.
    pub score: Option<f64>,
}

impl Plan {
    /// What a request with this `ask` would find. `ask.random` is not looked at.
    pub(in crate::balance) fn weigh(
        &self,
        balance: &Balance,
        members: &[Member],
        ask: &Ask,
    ) -> Weighed {
        let mut weighed =
            Weighed { members: vec![Chance::default(); members.len()], ..Weighed::default() };
        let has_room = |index: usize| members.get(index).is_some_and(|member| !member.is_full());
        let fitting = |tier: &super::Tier| {
            let weights = tier.members.iter().map(|&index| usize::from(index)).zip(&tier.weights);
            weights
                .filter(|(_, weight)| **weight > 0)
                .map(|(index, weight)| (index, *weight))
                .collect::<Vec<_>>()
        };
        // The first tier with somebody who is not full; one that is full makes others wait.
        let Some(tier) = self.tiers.first() else { return weighed };
        let all = fitting(tier);
        let free: Vec<(usize, u32)> =
            all.iter().copied().filter(|(index, _)| has_room(*index)).collect();
        weighed.full = free.is_empty() && !all.is_empty();
        let total: f64 = free.iter().map(|(_, weight)| f64::from(*weight)).sum();
        for (index, weight) in &free {
            let (Some(chance), Some(member)) =
                (weighed.members.get_mut(*index), members.get(*index))
            else {
                continue;
            };
            chance.is_candidate = true;
            chance.weight = *weight;
            let weight = f64::from(*weight);
            match &*tier.table {
                Table::LeastConnections => {
                    chance.score = Some(f64::from(member.endpoint.in_flight()) * 100.0 / weight);
                }
                Table::PeakEwma => {
                    let cost = member.state.latency.cost(member.endpoint.in_flight(), ask.now);
                    chance.score = Some(cost as f64 * 100.0 / weight);
                }
                Table::Modulo(_) | Table::Ketama(..) | Table::Maglev(_) => {}
                _ => chance.share = Some(if total > 0.0 { weight / total } else { 0.0 }),
            }
        }
        let by_chance =
            matches!(&*tier.table, Table::Random | Table::WeightedRandom(_) | Table::PeakEwma);
        if free.len() == 1 || !by_chance {
            weighed.next = match self.find(balance, members, ask, &Tried::default(), &[]) {
                Found::Member(index) | Found::LeftOut(index) => Some(index),
                Found::Full | Found::Nothing => None,
            };
        }
        if !by_chance && matches!(balance, Balance::Hash { .. } | Balance::LeastConnections) {
            for (index, chance) in weighed.members.iter_mut().enumerate() {
                let is_next = weighed.next == Some(index);
                chance.share = chance.is_candidate.then_some(if is_next { 1.0 } else { 0.0 });
            }
        }
        weighed
    }
}

impl Member {
    /// Why no request, or not every one, goes to it at `now`; `None` if nothing speaks against it.
    /// `alone`: it is the only one of its pool, so failures of requests do not count.
    pub fn why_not(&self, alone: bool, now: Tick) -> Option<String> {
        use config::model::UpstreamState;
        let seconds = |until: Tick| format!("{:.1} s more", until.since(now).as_secs_f64());
        let who = if self.state.steered().is_some() { "an operator" } else { "the configuration" };
        if !self.endpoint.is_known() {
            return Some("its name has no address".to_owned());
        }
        match self.wanted() {
            UpstreamState::Down => return Some(format!("taken out by {who}")),
            UpstreamState::Drain => {
                return Some(format!("draining, as {who} wants it: only for who sticks to it"));
            }
            UpstreamState::Up => {}
        }
        if !self.state.is_up() {
            let last = self.state.standing.last();
            let failure = last.and_then(|last| last.failure.clone());
            return Some(match failure {
                Some(failure) => format!("down by health checks: {failure}"),
                None => "down by health checks".to_owned(),
            });
        }
        let (max, time) = (self.max_fails, self.fail_timeout);
        if !alone {
            if let Some(until) = self.state.stats.until(now) {
                return Some(format!("ejected as it stands out, {}", seconds(until)));
            }
            if let Some(until) = self.state.fails.until(now, max, time) {
                return Some(format!("left out after {max} failures, {}", seconds(until)));
            }
            if self.state.fails.is_being_tried() {
                return Some("it had failed, and one request is trying it".to_owned());
            }
        }
        let in_flight = self.endpoint.in_flight();
        if let Some(max) = self.max_conns.filter(|max| in_flight >= *max) {
            return Some(format!("full: {in_flight} of {max} requests in flight"));
        }
        None
    }
}
