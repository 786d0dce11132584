//! Bounded load: a key goes where its hash leads unless that member has more than its share in
//! flight, then to the next one (Mirrokni et al., "Consistent Hashing with Bounded Loads", 2016).

use super::load::Load;

/// Below it there would not be room for all requests.
const PERCENT_MIN: u32 = 100;

/// The first of `candidates` with less in flight than `percent` of its fair share of all requests,
/// the new one included: ceil(percent × (total in flight + 1) × weight / total weight).
///
/// `load` tells how busy each of `members` is, `None` for one that takes no part. If every candidate
/// has reached its bound, because others take part that are not candidates, the first one.
pub(super) fn choose(
    percent: u32,
    members: usize,
    load: impl Fn(usize) -> Option<Load>,
    candidates: impl Iterator<Item = usize>,
) -> Option<usize> {
    let bound = Bound::new(percent, (0..members).filter_map(&load));
    let mut first = None;
    for index in candidates {
        let Some(load) = load(index) else { continue };
        if bound.allows(load) {
            return Some(index);
        }
        first = first.or(Some(index));
    }
    first
}

/// How much members may have in flight.
struct Bound {
    percent: u32,
    /// Requests in flight of all members.
    in_flight: u64,
    /// Weight of all members; 0 if they count the same.
    weight: u64,
    members: u64,
}

impl Bound {
    fn new(percent: u32, loads: impl Iterator<Item = Load>) -> Self {
        let percent = percent.max(PERCENT_MIN);
        let none = Self { percent, in_flight: 0, weight: 0, members: 0 };
        loads.fold(none, |bound, load| Self {
            percent,
            in_flight: bound.in_flight + u64::from(load.in_flight),
            weight: bound.weight + u64::from(load.weight),
            members: bound.members + 1,
        })
    }

    /// A member as busy as that may have one more. (A whole number is less than the ceiling of a
    /// fraction when it is less than the fraction.)
    fn allows(&self, load: Load) -> bool {
        let (weight, of) = match self.weight {
            0 => (1, self.members),
            of => (load.weight, of),
        };
        let has = u128::from(load.in_flight) * 100 * u128::from(of);
        let may = u128::from(self.percent) * u128::from(self.in_flight + 1) * u128::from(weight);
        has < may
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash;
    use super::super::ketama::Ring;
    use super::super::node::tests::{names, weighted};
    use super::*;

    /// Requests begin and end at random, with keys of which one is far more common than the rest.
    #[test]
    fn no_member_ever_has_more_than_its_bound() {
        const PERCENT: u32 = 125;
        let weights = [1u32, 2, 3, 4];
        let names = names(4);
        let ring = Ring::new(&weighted(&names, &weights));
        let mut in_flight = [0u32; 4];
        let mut running: Vec<usize> = Vec::new();
        let mut first_choices = 0;
        for step in 0..50_000 {
            let random = hash::again(3, step);
            let wanted = 10 + step % 200;
            if running.len() as u64 > wanted {
                let ended = running.swap_remove((random % running.len() as u64) as usize);
                in_flight[ended] -= 1;
                continue;
            }
            let key = if random.is_multiple_of(2) { 1 } else { random };
            let load =
                |index: usize| Some(Load { in_flight: in_flight[index], weight: weights[index] });
            let chosen = choose(PERCENT, 4, load, ring.candidates(key)).unwrap();
            let total = in_flight.iter().sum::<u32>() + 1;
            in_flight[chosen] += 1;
            let bound = (PERCENT * total * weights[chosen]).div_ceil(100 * 10);
            assert!(in_flight[chosen] <= bound, "{in_flight:?}: {chosen} beyond {bound}");
            first_choices += u64::from(ring.candidates(key).next() == Some(chosen));
            running.push(chosen);
        }
        assert!(first_choices > 10_000, "{first_choices}");
    }

    fn choose_of(percent: u32, loads: &[(u32, u32)], candidates: &[usize]) -> Option<usize> {
        let load =
            |index: usize| loads.get(index).map(|&(in_flight, weight)| Load { in_flight, weight });
        choose(percent, loads.len(), load, candidates.iter().copied())
    }

    #[test]
    fn the_bound_is_rounded_up() {
        // ceil(1.25 × 4 / 3) = 2
        assert_eq!(choose_of(125, &[(1, 1), (1, 1), (1, 1)], &[2, 0, 1]), Some(2));
        assert_eq!(choose_of(125, &[(0, 1), (1, 1), (2, 1)], &[2, 0, 1]), Some(0));
    }

    #[test]
    fn a_factor_below_one_counts_as_one() {
        assert_eq!(choose_of(0, &[(1, 1), (0, 1)], &[0, 1]), Some(1));
        assert_eq!(choose_of(0, &[(0, 1), (0, 1)], &[0, 1]), Some(0));
    }

    #[test]
    fn when_all_candidates_are_full_the_first_one_is_chosen() {
        assert_eq!(choose_of(125, &[(9, 1), (8, 1), (0, 1)], &[1, 0]), Some(1));
        assert_eq!(choose_of(125, &[(9, 1)], &[5]), None);
        assert_eq!(choose_of(125, &[], &[]), None);
    }

    #[test]
    fn without_any_weight_all_are_equal() {
        assert_eq!(choose_of(100, &[(1, 0), (0, 0)], &[0, 1]), Some(1));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let full = (u32::MAX, u32::MAX);
        assert_eq!(choose_of(u32::MAX, &[full, full], &[1, 0]), Some(1));
    }
}
