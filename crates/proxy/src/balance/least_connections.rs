//! Least connections: the fewest requests in flight for its weight; ties go round.

use super::load::Load;

/// The index of the least busy of `members`, of which `load` tells how busy each is and `None` for
/// one that is not to be chosen. Of equals the first one from `turn` on wins.
pub(super) fn choose(
    members: usize,
    turn: usize,
    load: impl Fn(usize) -> Option<Load>,
) -> Option<usize> {
    let start = turn.checked_rem(members)?;
    let mut least: Option<(usize, Load)> = None;
    for index in (start..members).chain(0..start) {
        let Some(load) = load(index) else { continue };
        if least.is_none_or(|(_, least)| load.is_less_than(&least)) {
            least = Some((index, load));
        }
    }
    least.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose_of(turn: usize, loads: &[(u32, u32)]) -> Option<usize> {
        choose(loads.len(), turn, |index| {
            let (in_flight, weight) = loads[index];
            Some(Load { in_flight, weight })
        })
    }

    #[test]
    fn the_fewest_in_flight_wins_whatever_the_turn() {
        for turn in 0..6 {
            assert_eq!(choose_of(turn, &[(3, 1), (1, 1), (2, 1)]), Some(1));
        }
    }

    #[test]
    fn ties_go_round() {
        let order: Vec<_> = (0..6).map(|turn| choose_of(turn, &[(1, 1), (1, 1), (1, 1)])).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2].map(Some));
    }

    #[test]
    fn requests_that_stay_are_spread_by_weight() {
        let mut loads = [(0, 5), (0, 1), (0, 2)];
        for turn in 0..80 {
            let index = choose_of(turn, &loads).unwrap();
            loads[index].0 += 1;
        }
        assert_eq!(loads, [(50, 5), (10, 1), (20, 2)]);
    }

    #[test]
    fn weight_zero_is_chosen_only_among_its_like() {
        assert_eq!(choose_of(0, &[(0, 0), (1000, 1)]), Some(1));
        assert_eq!(choose_of(0, &[(5, 0), (4, 0)]), Some(1));
    }

    #[test]
    fn what_may_not_be_chosen_is_not() {
        let load = |index| (index != 0).then_some(Load { in_flight: index as u32, weight: 1 });
        assert_eq!(choose(3, 0, load), Some(1));
        assert_eq!(choose(3, 0, |_| None), None);
        assert_eq!(choose(0, 7, load), None);
    }
}
