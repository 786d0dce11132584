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
