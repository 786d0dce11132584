//! Until when each key has spent what it may: a table of bounded size that all workers share.
//!
//! Its memory comes a page at a time, when the first key belongs there: most limits of most sites never
//! meet as many clients as they could remember.
//!
//! An entry is one word of 128 bits, the key's hash and a time, so that it is read and replaced as a
//! whole, without a lock. A key may be in any of the eight places of one set; which set, and what
//! stands for the key, comes out of a hash whose secret nobody outside of the process knows, so that
//! nobody can choose keys that meet those of others.
//!
//! The time is that at which the key will have its whole burst again (the "theoretical arrival time" of
//! GCRA, less what one request takes). An entry whose time has come says nothing any more and may be
//! forgotten. When a set has no such entry, that one is forgotten whose time comes first, which is the
//! one furthest from its limit: whoever floods the table with new keys pushes out those of its own
//! flood before one that is held back, unless each of them has spent as much. A key that is held back is
//! forgotten only where all other places of its set have times that come later still.
//!
//! What always holds: a request is admitted by one exchange of one word, so no two workers give away
//! the same room. Two workers that meet a new key at once would both put it at the same place, because
//! the place whose time comes first is the same for both, and one of them sees that it is taken; times
//! only grow as long as a set has an entry whose time has come.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use portable_atomic::AtomicU128;

use super::rate::{Rate, Verdict};

/// Places that a key may be at.
const WAYS: usize = 8;
/// Sets of a page, which has 4 KiB then.
const PAGE_SETS: usize = 32;

/// The table of one limit.
#[derive(Debug)]
pub struct Table {
    pages: Box<[OnceLock<Box<[Set]>>]>,
    /// How many sets there are in all pages; a power of two.
    sets: usize,
    secret: RandomState,
}

/// Two cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set([AtomicU128; WAYS]);

/// An entry; all zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Never 0.
    key: u64,
    /// In nanoseconds.
    time: u64,
}

impl Entry {
    fn of(word: u128) -> Self {
        Self { key: (word >> 64) as u64, time: word as u64 }
    }

    fn word(self) -> u128 {
        u128::from(self.key) << 64 | u128::from(self.time)
    }
}

impl Table {
    /// A table for at least so many keys.
    pub fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(WAYS).next_power_of_two();
        let pages = (0..sets.div_ceil(PAGE_SETS)).map(|_| OnceLock::new()).collect();
        Self { pages, sets, secret: RandomState::new() }
    }

    /// How many keys it has room for.
    pub fn capacity(&self) -> usize {
        self.sets * WAYS
    }

    /// What stands for a key.
    pub fn key(&self, of: &[u8]) -> Key {
        Key(self.secret.hash_one(of).max(1))
    }

    /// What stands for a key of this kind.
    pub fn key_of_parts(&self, kind: u8, of: &[u8]) -> Key {
        Key(self.secret.hash_one((kind, of)).max(1))
    }

    /// Whether a request of this key would be admitted at `now`, in nanoseconds since some beginning,
    /// if it may wait for `patience` more.
    pub fn look(&self, key: Key, rate: &Rate, now: u64, patience: u64) -> Verdict {
        let (page, set) = self.place(key);
        let found = page.get().map_or(0, |page| find(&page[set], key).time);
        rate.verdict(found, now, patience)
    }

    /// Admits a request of this key if the rate allows, and remembers it.
    pub fn take(&self, key: Key, rate: &Rate, now: u64, patience: u64) -> Verdict {
        let (page, set) = self.place(key);
        let page_sets = || (0..self.sets.min(PAGE_SETS)).map(|_| Set::default()).collect();
        let set = &page.get_or_init(page_sets)[set];
        loop {
            let place = find(set, key);
            let verdict = rate.verdict(place.time, now, patience);
            let Verdict::Admitted { until, .. } = verdict else { return verdict };
            let entry = Entry { key: key.0, time: until };
            // Nothing else is read or written under the protection of this word.
            let swapped = place.word.compare_exchange_weak(
                place.seen,
                entry.word(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if swapped.is_ok() {
                return verdict;
            }
        }
    }

    /// The page that the key's set is on, and which of its sets that is.
    fn place(&self, key: Key) -> (&OnceLock<Box<[Set]>>, usize) {
        let index = (key.0 >> 32) as usize & (self.sets - 1);
        (&self.pages[index / PAGE_SETS], index % PAGE_SETS)
    }
}

/// The key's place in its set, or the one to put it at.
fn find(set: &Set, key: Key) -> Place<'_> {
    let [first, rest @ ..] = &set.0;
    let seen = first.load(Ordering::Relaxed);
    let mut least = Place { word: first, seen, time: Entry::of(seen).time };
    if Entry::of(seen).key == key.0 {
        return least;
    }
    for word in rest {
        let seen = word.load(Ordering::Relaxed);
        let entry = Entry::of(seen);
        let place = Place { word, seen, time: entry.time };
        if entry.key == key.0 {
            return place;
        }
        if entry.time < least.time {
            least = place;
        }
    }
    // What is there is another's.
    Place { time: 0, ..least }
}

/// A hash of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

struct Place<'a> {
    word: &'a AtomicU128,
    seen: u128,
    /// That of the key; 0 if it is not there yet.
    time: u64,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn admits(table: &Table, name: &[u8], rate: &Rate, now: u64) -> bool {
        matches!(table.take(table.key(name), rate, now, 0), Verdict::Admitted { .. })
    }

    #[test]
    fn keys_are_counted_apart_and_remembered() {
        let table = Table::new(1024);
        let rate = Rate::new(1, Duration::from_secs(1), 3);
        for name in [&b"one"[..], b"other"] {
            let admitted = (0..10).filter(|_| admits(&table, name, &rate, SECOND)).count();
            assert_eq!(admitted, 3);
        }
        assert!(admits(&table, b"one", &rate, 2 * SECOND));
        assert!(!admits(&table, b"one", &rate, 2 * SECOND));
    }

    #[test]
    fn looking_takes_nothing() {
        let table = Table::new(8);
        let rate = Rate::new(1, Duration::from_secs(1), 1);
        let key = table.key(b"x");
        for _ in 0..5 {
            assert!(matches!(table.look(key, &rate, 0, 0), Verdict::Admitted { .. }));
        }
        assert!(admits(&table, b"x", &rate, 0));
        assert!(matches!(table.look(key, &rate, 0, 0), Verdict::Refused { .. }));
    }

    #[test]
    fn memory_is_taken_for_keys_that_have_come() {
        let table = Table::new(65_536);
        let rate = Rate::new(1, Duration::from_secs(1), 1);
        let taken = |table: &Table| table.pages.iter().filter(|page| page.get().is_some()).count();
        assert!(matches!(table.look(table.key(b"x"), &rate, 0, 0), Verdict::Admitted { .. }));
        assert_eq!(taken(&table), 0);
        assert!(admits(&table, b"x", &rate, SECOND));
        assert!(!admits(&table, b"x", &rate, SECOND));
        assert_eq!(taken(&table), 1);
        assert_eq!(table.pages.len() * PAGE_SETS * size_of::<Set>(), 1 << 20);
    }

    #[test]
    fn capacity_is_what_was_asked_for_or_a_little_more() {
        assert_eq!(Table::new(1).capacity(), 8);
        assert_eq!(Table::new(65_536).capacity(), 65_536);
        assert_eq!(Table::new(65_537).capacity(), 131_072);
        assert_eq!(size_of::<Set>(), 128);
    }

    /// The clock stands still, so exactly the burst may pass, whoever asks.
    #[test]
    fn threads_share_a_burst_exactly() {
        const THREADS: usize = 8;
        for round in 0..50u64 {
            let table = Table::new(64);
            let rate = Rate::new(1, Duration::from_secs(3600), 1000);
            let admitted = AtomicUsize::new(0);
            // Several keys, so that they are put into the table while others look.
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        for turn in 0..4 * 500 {
                            let name = (turn % 4u64).to_le_bytes();
                            if admits(&table, &name, &rate, SECOND + round) {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), 4 * 1000);
        }
    }

    /// A set is full of entries whose time has come, and threads bring the same new key at once: it
    /// gets one entry, or its burst would be given away twice.
    #[test]
    fn a_new_key_of_many_threads_gets_one_entry() {
        const THREADS: usize = 4;
        const ROUNDS: u64 = 2000;
        let table = Table::new(1);
        let rate = Rate::new(1, Duration::from_secs(1), 2);
        let admitted: Vec<AtomicUsize> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
        let barrier = std::sync::Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (table, admitted, barrier, rate) = (&table, &admitted, &barrier, &rate);
                scope.spawn(move || {
                    for (round, admitted) in (0..ROUNDS).zip(admitted) {
                        barrier.wait();
                        let now = (round + 1) * 10 * SECOND;
                        // One of its own too, so that the places are in motion.
                        admits(table, &[thread as u8], rate, now);
                        for _ in 0..3 {
                            if admits(table, &round.to_le_bytes(), rate, now) {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        for (round, admitted) in admitted.into_iter().enumerate() {
            assert_eq!(admitted.into_inner(), 2, "round {round}");
        }
    }

    /// Each thread reads a clock that all of them push on, as workers read clocks that differ a
    /// little; in the end no more than the rate and one burst may have passed.
    #[test]
    fn never_more_than_the_rate_and_a_burst() {
        let table = Table::new(64);
        let (per_second, burst) = (1000, 50);
        let rate = Rate::new(per_second, Duration::from_secs(1), burst);
        let clock = AtomicU64::new(SECOND);
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (table, rate, clock, admitted) = (&table, &rate, &clock, &admitted);
                scope.spawn(move || {
                    for _ in 0..20_000u64 {
                        let now = clock.fetch_add(17_000 + thread, Ordering::Relaxed);
                        if admits(table, b"k", rate, now) {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let passed = clock.into_inner() - SECOND;
        let allowed = u64::from(burst) + passed * u64::from(per_second) / SECOND;
        let admitted = admitted.into_inner();
        assert!(admitted <= allowed, "{admitted} of {allowed}");
        assert!(admitted + 2 >= allowed, "{admitted} of {allowed}: room was lost");
    }

    /// A flood of new keys, many times the table's size, while some clients are at their limit and
    /// others keep well within it.
    #[test]
    fn a_flood_of_keys_frees_nobody_and_holds_nobody_back() {
        let table = Table::new(4096);
        let rate = Rate::new(60, Duration::from_secs(60), 10);
        let name = |kind: u8, n: u32| [&[kind][..], &n.to_le_bytes()].concat();
        let mut now = SECOND;
        let (mut freed, mut held_back, mut asked) = (0, 0, 0);
        // Ten that are at their limit.
        for n in 0..10 {
            while admits(&table, &name(b'g', n), &rate, now) {}
        }
        let mut next = 0u32;
        for _ in 0..200 {
            // Ten thousand others in a tenth of a second, each once.
            for _ in 0..10_000 {
                assert!(admits(&table, &name(b'f', next), &rate, now), "a new key is admitted");
                next += 1;
            }
            now += SECOND / 10;
            for n in 0..10 {
                // The greedy go on: one a second is theirs.
                freed += usize::from(admits(&table, &name(b'g', n), &rate, now));
                // One in two seconds.
                if asked % 20 == 0 {
                    held_back += usize::from(!admits(&table, &name(b'm', n), &rate, now));
                }
            }
            asked += 1;
        }
        assert_eq!(held_back, 0, "the modest are always admitted");
        assert_eq!(freed, 10 * 20, "the greedy get their rate in twenty seconds and no more");
    }

    #[test]
    fn keys_of_another_process_fall_elsewhere() {
        let (one, other) = (Table::new(8), Table::new(8));
        let same = (0..64u32).filter(|n| one.key(&n.to_le_bytes()) == other.key(&n.to_le_bytes()));
        assert_eq!(same.count(), 0);
    }
}
