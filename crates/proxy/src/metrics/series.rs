//! The numbers of what is counted: dense, the same for the same labels through every reload.
//!
//! What always holds: a number belongs to one set of labels for as long as any snapshot refers to it;
//! no kind has more numbers than its bound, what comes after that is counted as "other"; a number that
//! gets other labels has another owner, by which every worker knows to begin at nought again.

use std::collections::HashMap;
use std::sync::Arc;

/// Most series of one kind; what there is beyond that is counted together as "other". One worker's
/// counts of a route are some 500 bytes.
pub const SERIES_MAX: usize = 4096;

/// Series of one kind that nobody refers to any more and that are kept in case they come back. Beyond
/// that their numbers are given to others: memory does not grow with reloads.
const RETIRED_MAX: usize = 256;

/// The number of what found no number of its own.
const OTHER: u32 = 0;
/// The number of what belongs to none: requests that no site took.
const NONE: u32 = 1;
/// The label of what found no number of its own.
const OTHER_LABEL: &str = "other";

/// What a series is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A site: its name.
    Site,
    /// A route: site and path. Requests that no route takes have an empty path.
    Route,
    /// A pool: site and name.
    Pool,
    /// An entry of a pool, with all addresses of its name: site, pool and URL.
    Member,
    /// A listener: its address.
    Listener,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Site, Self::Route, Self::Pool, Self::Member, Self::Listener];

    /// Names of the labels, in order.
    #[must_use]
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Site => &["site"],
            Self::Route => &["site", "route"],
            Self::Pool => &["site", "pool"],
            Self::Member => &["site", "pool", "endpoint"],
            Self::Listener => &["listener"],
        }
    }
}

/// Where one thing is counted. A snapshot's parts carry it; it is handed out by
/// [`Live::series`](crate::live::Live::series).
#[derive(Debug, Clone)]
pub struct Series {
    pub(super) number: u32,
    /// Differs between all series of a kind that ever were.
    pub(super) owner: u32,
    /// Says that somebody refers to it.
    _held: Option<Arc<()>>,
}

impl Default for Series {
    /// That of what belongs to none.
    fn default() -> Self {
        Self { number: NONE, owner: NONE, _held: None }
    }
}

/// One series as the registry knows it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its number.
    pub number: u32,
    /// Who has the number at present.
    pub owner: u32,
    /// Values of its labels, in the order of [`Kind::labels`].
    pub labels: Arc<[String]>,
    /// A snapshot refers to it.
    pub in_use: bool,
}

/// All series.
#[derive(Debug, Default)]
pub struct Registry {
    kinds: HashMap<Kind, Numbers>,
}

/// The numbers of one kind.
#[derive(Debug)]
struct Numbers {
    by_labels: HashMap<Arc<[String]>, u32>,
    /// By number.
    taken: Vec<Taken>,
    next_owner: u32,
    /// Where numbers that nobody refers to are looked for next.
    cursor: usize,
    /// How many numbers there are to be before those that nobody refers to are counted again.
    count_at: usize,
}

#[derive(Debug)]
struct Taken {
    labels: Arc<[String]>,
    owner: u32,
    held: Arc<()>,
}

impl Registry {
    /// The series of these labels, made if it is new.
    pub fn series(&mut self, kind: Kind, labels: &[&str]) -> Series {
        let numbers = self.kinds.entry(kind).or_insert_with(|| Numbers::new(kind));
        numbers.series(labels)
    }

    /// Every series of a kind.
    #[must_use]
    pub fn known(&self, kind: Kind) -> Vec<Known> {
        match self.kinds.get(&kind) {
            Some(numbers) => numbers.known(),
            None => Numbers::new(kind).known(),
        }
    }
}

impl Numbers {
    fn new(kind: Kind) -> Self {
        let labels = |label: &str| kind.labels().iter().map(|_| label.to_owned()).collect();
        let taken = |(owner, label): (u32, &str)| Taken {
            labels: labels(label),
            owner,
            held: Arc::default(),
        };
        let taken: Vec<Taken> = [(OTHER, OTHER_LABEL), (NONE, "")].map(taken).into();
        let by_labels = HashMap::from([(Arc::clone(&taken[1].labels), NONE)]);
        Self { by_labels, taken, next_owner: NONE + 1, cursor: 2, count_at: RETIRED_MAX }
    }

    fn series(&mut self, labels: &[&str]) -> Series {
        let labels: Arc<[String]> = labels.iter().map(|&label| label.to_owned()).collect();
        let number = match self.by_labels.get(&labels) {
            Some(number) => *number,
            None => self.number_for(labels),
        };
        match self.taken.get(number as usize) {
            Some(Taken { owner, held, .. }) => {
                Series { number, owner: *owner, _held: Some(Arc::clone(held)) }
            }
            None => Series::default(),
        }
    }

    /// A new number, one that nobody refers to any more, or that of all others.
    fn number_for(&mut self, labels: Arc<[String]>) -> u32 {
        let count = self.taken.len();
        let number = match count < SERIES_MAX && !self.has_enough_retired() {
            true => count,
            false => {
                let all = (self.cursor..count).chain(2..self.cursor);
                let is_free = |number: &usize| {
                    self.taken.get(*number).is_some_and(|one| Arc::strong_count(&one.held) == 1)
                };
                let Some(free) = all.into_iter().find(is_free) else { return OTHER };
                self.cursor = free + 1;
                free
            }
        };
        let owner = self.next_owner;
        // Four billion series later two might be taken for one; none lives that long.
        self.next_owner = owner.wrapping_add(1).max(NONE + 1);
        let taken = Taken { labels: Arc::clone(&labels), owner, held: Arc::default() };
        match self.taken.get_mut(number) {
            Some(old) => {
                self.by_labels.remove(&old.labels);
                *old = taken;
            }
            None => self.taken.push(taken),
        }
        self.by_labels.insert(labels, number as u32);
        number as u32
    }

    /// There are as many that nobody refers to as are kept.
    fn has_enough_retired(&mut self) -> bool {
        if self.taken.len() < self.count_at {
            return false;
        }
        let is_retired = |one: &&Taken| Arc::strong_count(&one.held) == 1;
        let retired = self.taken.iter().skip(2).filter(is_retired).count();
        // It takes so many new ones at least until there are enough.
        self.count_at = self.taken.len() + RETIRED_MAX.saturating_sub(retired);
        retired >= RETIRED_MAX
    }

    fn known(&self) -> Vec<Known> {
        let known = |(number, taken): (usize, &Taken)| Known {
            number: number as u32,
            owner: taken.owner,
            labels: Arc::clone(&taken.labels),
            in_use: Arc::strong_count(&taken.held) > 1,
        };
        self.taken.iter().enumerate().map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels_of(registry: &Registry, series: &Series) -> Vec<String> {
        let known = registry.known(Kind::Site);
        known[series.number as usize].labels.to_vec()
    }

    #[test]
    fn the_same_labels_have_the_same_number() {
        let mut registry = Registry::default();
        let one = registry.series(Kind::Route, &["main", "/api"]);
        let other = registry.series(Kind::Route, &["main", "/"]);
        let again = registry.series(Kind::Route, &["main", "/api"]);
        assert_eq!((one.number, one.owner), (again.number, again.owner));
        assert_ne!(one.number, other.number);
        assert_eq!(
            registry.series(Kind::Site, &["main"]).number,
            one.number,
            "each kind has its own"
        );
        assert_eq!(registry.series(Kind::Site, &[""]).number, NONE);
    }

    #[test]
    fn series_that_come_and_go_do_not_grow_without_end() {
        let mut registry = Registry::default();
        let kept = registry.series(Kind::Site, &["kept"]);
        for round in 0..20 {
            let name = |index: usize| format!("site {round} {index}");
            let held: Vec<Series> =
                (0..100).map(|index| registry.series(Kind::Site, &[&name(index)])).collect();
            // Those that went last are known when they come back.
            let first = held[0].clone();
            drop(held);
            let again = registry.series(Kind::Site, &[&name(0)]);
            assert_eq!((again.number, again.owner), (first.number, first.owner));
        }
        let known = registry.known(Kind::Site).len();
        assert!(known <= RETIRED_MAX + 200, "{known}");
        assert_eq!(labels_of(&registry, &kept), ["kept"]);
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted_together_until_a_number_is_free() {
        let mut registry = Registry::default();
        let name = |index: usize| format!("site {index}");
        let mut held: Vec<Series> =
            (2..SERIES_MAX).map(|index| registry.series(Kind::Site, &[&name(index)])).collect();
        let one_more = registry.series(Kind::Site, &["one more"]);
        assert_eq!(labels_of(&registry, &one_more), ["other"]);
        let gone = held.remove(5);
        let (number, owner) = (gone.number, gone.owner);
        // A request of an old snapshot still refers to it.
        let late = gone.clone();
        drop(gone);
        assert_eq!(registry.series(Kind::Site, &["one more"]).number, OTHER);
        drop(late);
        let one_more = registry.series(Kind::Site, &["one more"]);
        assert_eq!(one_more.number, number);
        assert_ne!(one_more.owner, owner);
        assert_eq!(labels_of(&registry, &one_more), ["one more"]);
        assert_eq!(registry.series(Kind::Site, &[&name(7)]).number, OTHER, "its number is taken");
    }
}
