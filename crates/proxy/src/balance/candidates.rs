//! The members a hash leads to, best first and each once, for when the best one cannot take the
//! request.
//!
//! Nothing is allocated for the first candidate, nor for any other in pools of up to
//! [`INLINE_MEMBERS`].

use super::hash;

/// Members whose having been seen is noted without allocation.
const INLINE_MEMBERS: usize = 256;
const INLINE_WORDS: usize = INLINE_MEMBERS / 64;
/// Rehashes for each member until the remaining ones are taken in order. Members of equal weight
/// are nearly all found by then; those of little weight may not be.
const REHASHES_PER_MEMBER: u64 = 4;

/// The items of `members`, each the first time it comes.
pub(super) fn distinct(members: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
    let mut seen = Seen::default();
    let mut last = None;
    members.filter(move |&index| {
        // Noted only when another one is asked for, so that the first one costs nothing.
        if let Some(last) = last {
            seen.insert(last);
        }
        let new = !seen.contains(index);
        last = new.then_some(index);
        new
    })
}

/// Where `choose` sends `hash`, then where it sends the hashes that follow from it, then those of
/// `members` that were not among these. `members` has to hold all that `choose` gives.
pub(super) fn by_rehash(
    hash: u64,
    members: &[u32],
    choose: impl Fn(u64) -> Option<usize>,
) -> impl Iterator<Item = usize> {
    let count = members.len() as u64;
    let start = hash.checked_rem(count).unwrap_or(0) as usize;
    let (before, after) = members.split_at(start);
    let rest = after.iter().chain(before).map(|&index| index as usize);
    let rehashes =
        (0..count.saturating_mul(REHASHES_PER_MEMBER)).map(move |r| hash::again(hash, r));
    let hashed = std::iter::once(hash).chain(rehashes).filter_map(choose);
    distinct(hashed.chain(rest)).take(members.len())
}

/// A set of indices.
#[derive(Default)]
struct Seen {
    inline: [u64; INLINE_WORDS],
    more: Vec<u64>,
}

impl Seen {
    fn contains(&self, index: usize) -> bool {
        let (word, bit) = (index / 64, 1 << (index % 64));
        let words =
            self.inline.get(word).or_else(|| self.more.get(word.wrapping_sub(INLINE_WORDS)));
        words.is_some_and(|word| word & bit != 0)
    }

    fn insert(&mut self, index: usize) {
        let (word, bit) = (index / 64, 1 << (index % 64));
        if let Some(word) = self.inline.get_mut(word) {
            *word |= bit;
            return;
        }
        let word = word - INLINE_WORDS;
        if word >= self.more.len() {
            self.more.resize(word + 1, 0);
        }
        if let Some(word) = self.more.get_mut(word) {
            *word |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_comes_once_in_the_order_of_its_first_time() {
        let order: Vec<_> = distinct([7, 7, 300, 2, 7, 300, 9999, 2, 0].into_iter()).collect();
        assert_eq!(order, [7, 300, 2, 9999, 0]);
    }

    #[test]
    fn rehashing_reaches_every_member_that_is_there() {
        for count in [0u32, 1, 2, 5, 63, 64, 65, 256, 257, 1000] {
            let members: Vec<u32> = (0..count).map(|index| index * 2).collect();
            let choose = |hash: u64| Some(hash.checked_rem(u64::from(count))? as usize * 2);
            let mut order: Vec<_> = by_rehash(12_345, &members, choose).collect();
            assert_eq!(order.first().copied(), choose(12_345));
            order.sort_unstable();
            assert!(order.into_iter().eq(members.iter().map(|&index| index as usize)), "{count}");
        }
    }

    #[test]
    fn a_member_no_hash_leads_to_comes_last() {
        let order: Vec<_> = by_rehash(5, &[0, 1, 2], |hash| Some((hash % 2) as usize)).collect();
        assert_eq!(order.len(), 3);
        assert_eq!(order.last(), Some(&2));
    }
}
