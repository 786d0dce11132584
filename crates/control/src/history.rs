//! What was served, since when, by whose order, and what was different: the last snapshots.
//!
//! Kept are the texts too, so that any of them can be served again whatever became of the files. What
//! always holds: there are at most [`ENTRIES_MAX`] entries with [`BYTES_MAX`] bytes of text in all; the one
//! in force, the one that a rollback leads to and the one that is tried out are always among them, even if these
//! alone have more bytes; what may be shown (`diff`) has nothing secret in it.

mod diff;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use config::Sources;

use crate::orders::Author;

/// Entries that are kept.
pub const ENTRIES_MAX: usize = 32;

/// Bytes of texts and differences that are kept, over all entries: ample for configurations of some
/// hundred sites. Larger ones have fewer entries.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The last snapshots, those that were refused among them.
#[derive(Debug, Default)]
pub struct History {
    entries: VecDeque<Entry>,
    /// The number of the last snapshot.
    generation: u64,
    /// The number of the one in force.
    in_force: u64,
}

/// One attempt to serve something.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The number of the snapshot; `None` if it was refused before it was one.
    pub generation: Option<u64>,
    /// When, in milliseconds since 1970.
    pub unix_millis: u64,
    /// By whose order.
    pub author: Author,
    /// What the order was.
    pub cause: Cause,
    /// How it went.
    pub outcome: Outcome,
    /// Why it went so: what was wrong with it, or what the canary showed. May be empty.
    pub reason: String,
    /// What is different from what was in force, as a unified diff without secrets.
    pub diff: String,
    /// The texts, to be served again; with secrets, so not to be shown.
    pub texts: Texts,
}

/// Why something was to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The process was started.
    Start,
    /// The files were read again.
    Reload,
    /// Somebody gave the texts.
    Apply,
    /// This generation was to be served again.
    Rollback(u64),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was put in force.
    Applied,
    /// It cannot be served.
    Refused,
    /// It is tried out on some connections.
    Canary,
    /// It was tried out, and is not served any more.
    Withdrawn,
}

/// The texts of a configuration, with secrets and without. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Texts(Arc<[Text]>);

/// The text of one file.
#[derive(Debug, Clone)]
pub struct Text {
    /// The name of the file.
    pub path: PathBuf,
    /// Its content as it is.
    pub content: Arc<[u8]>,
    /// Its content without what is secret; `None` if that is not known, because it could not be read.
    pub shown: Option<Arc<str>>,
}

impl Outcome {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Canary => "canary",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Cause {
    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Apply => "apply",
            Self::Rollback(_) => "rollback",
        }
    }
}

impl Texts {
    /// These files. `sources` has them as they may be shown, in the same order; `None` if what is secret in
    /// them is not known.
    pub fn new(files: Vec<(PathBuf, Vec<u8>)>, sources: Option<&Sources>) -> Self {
        let shown: Vec<Option<Arc<str>>> = match sources {
            Some(sources) => sources.iter().map(|source| Some(source.shown().into())).collect(),
            None => Vec::new(),
        };
        let mut shown = shown.into_iter();
        let text = |(path, content): (PathBuf, Vec<u8>)| Text {
            path,
            content: content.into(),
            shown: shown.next().flatten(),
        };
        Self(files.into_iter().map(text).collect())
    }

    /// Each text.
    pub fn iter(&self) -> impl Iterator<Item = &Text> {
        self.0.iter()
    }

    /// The files, as [`config::load`] takes them.
    pub fn files(&self) -> Vec<(PathBuf, Arc<[u8]>)> {
        self.0.iter().map(|text| (text.path.clone(), Arc::clone(&text.content))).collect()
    }

    /// They are these files as they are.
    pub fn are(&self, files: &[(PathBuf, Vec<u8>)]) -> bool {
        self.0.len() == files.len()
            && self
                .0
                .iter()
                .zip(files)
                .all(|(text, (path, content))| text.path == *path && *text.content == **content)
    }

    /// Both have the same files with the same contents.
    pub fn same_as(&self, other: &Self) -> bool {
        self.files() == other.files()
    }

    /// The same, sharing memory with `other` where a text is the same.
    fn sharing(self, other: &Self) -> Self {
        let shared = |text: &Text| {
            let same = other.0.iter().find(|one| {
                one.path == text.path && one.content == text.content && one.shown == text.shown
            });
            same.unwrap_or(text).clone()
        };
        Self(self.0.iter().map(shared).collect())
    }
}

impl Entry {
    /// An attempt that is made now.
    pub fn new(cause: Cause, author: Author, texts: Texts) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            generation: None,
            unix_millis: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            author,
            cause,
            outcome: Outcome::Refused,
            reason: String::new(),
            diff: String::new(),
            texts,
        }
    }
}

impl History {
    /// The entries, the oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The number of the snapshot in force; 0 before the first.
    pub fn in_force(&self) -> u64 {
        self.in_force
    }

    /// The entry with this number, if it is still kept.
    pub fn get(&self, generation: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.generation == Some(generation))
    }

    /// The one that was in force before the one that is: what a rollback leads to. Going back twice is
    /// going back to where it was.
    pub fn before(&self) -> Option<u64> {
        let in_force = self.get(self.in_force)?;
        let mut before = self.entries.iter().rev().filter(|entry| {
            entry.outcome == Outcome::Applied && !entry.texts.same_as(&in_force.texts)
        });
        before.next()?.generation
    }

    /// What is different between what is in force and these texts.
    pub fn diff(&self, texts: &Texts) -> String {
        let nothing = Texts::default();
        let old = self.get(self.in_force).map_or(&nothing, |entry| &entry.texts);
        diff::of_texts(old, texts)
    }

    /// The snapshot of this entry is in force from now on; its number.
    pub fn applied(&mut self, entry: Entry) -> u64 {
        let number = self.push(entry, Outcome::Applied);
        self.in_force = number;
        self.make_room();
        number
    }

    /// The snapshot of this entry is tried out from now on; its number.
    pub fn tried(&mut self, entry: Entry) -> u64 {
        self.push(entry, Outcome::Canary)
    }

    /// What was tried out is in force from now on, or not served any more.
    pub fn settled(&mut self, generation: u64, outcome: Outcome, reason: &str) {
        let entry = self.entries.iter_mut().find(|entry| entry.generation == Some(generation));
        if let Some(entry) = entry {
            entry.outcome = outcome;
            reason.clone_into(&mut entry.reason);
        }
        if outcome == Outcome::Applied {
            self.in_force = generation;
        }
    }

    /// This attempt has failed.
    pub fn refused(&mut self, mut entry: Entry, reason: &str) {
        reason.clone_into(&mut entry.reason);
        // They are of no use to anybody.
        entry.texts = Texts::default();
        entry.outcome = Outcome::Refused;
        self.entries.push_back(entry);
        self.make_room();
    }

    fn push(&mut self, mut entry: Entry, outcome: Outcome) -> u64 {
        self.generation += 1;
        entry.generation = Some(self.generation);
        entry.outcome = outcome;
        for known in self.entries.iter().rev() {
            entry.texts = entry.texts.sharing(&known.texts);
        }
        self.entries.push_back(entry);
        self.make_room();
        self.generation
    }

    /// Forgets entries that are needed least.
    fn make_room(&mut self) {
        while self.entries.len() > ENTRIES_MAX || self.bytes() > BYTES_MAX {
            let Some(least) = self.least_needed() else { return };
            self.entries.remove(least);
        }
    }

    /// The oldest that was refused; else the oldest whose texts were applied again later; else the oldest. Not
    /// the newest, the one in force, the one that a rollback leads to, or the one that is tried out.
    fn least_needed(&self) -> Option<usize> {
        let kept = [Some(self.in_force), self.before()];
        let is_needed = |entry: &Entry| {
            let is_kept = entry.generation.is_some() && kept.contains(&entry.generation);
            is_kept || entry.outcome == Outcome::Canary
        };
        let comes_again = |at: usize, entry: &Entry| {
            let mut newer = self.entries.iter().skip(at + 1);
            newer.any(|it| it.outcome == Outcome::Applied && it.texts.same_as(&entry.texts))
        };
        let older = self.entries.len().saturating_sub(1);
        let may_go = || self.entries.iter().take(older).enumerate().filter(|it| !is_needed(it.1));
        let (at, _) = may_go()
            .find(|(_, entry)| entry.outcome == Outcome::Refused)
            .or_else(|| may_go().find(|(at, entry)| comes_again(*at, entry)))
            .or_else(|| may_go().next())?;
        Some(at)
    }

    /// Each shared text is counted once.
    fn bytes(&self) -> usize {
        let mut seen: Vec<*const u8> = Vec::new();
        let mut bytes = 0;
        for entry in &self.entries {
            bytes += entry.diff.len() + entry.reason.len();
            for text in entry.texts.iter() {
                let at = text.content.as_ptr();
                if !seen.contains(&at) {
                    seen.push(at);
                    bytes += text.content.len() + text.shown.as_ref().map_or(0, |it| it.len());
                }
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use config::{Options, load};

    use super::*;

    fn texts(content: &str) -> Texts {
        let files = vec![(PathBuf::from("ravelin.toml"), content.as_bytes().to_vec())];
        let loaded = load(&files, &Options::default());
        Texts::new(files, Some(&loaded.sources))
    }

    fn entry(content: &str) -> Entry {
        Entry::new(Cause::Reload, Author::new("signal"), texts(content))
    }

    #[test]
    fn going_back_twice_is_going_back_to_where_it_was() {
        let mut history = History::default();
        assert_eq!(history.before(), None);
        let first = history.applied(entry("a"));
        let second = history.applied(entry("b"));
        assert_eq!((history.before(), history.in_force()), (Some(first), second));
        let third = history.applied(entry("a"));
        assert_eq!(history.before(), Some(second));
        assert_eq!(history.in_force(), third);
    }

    #[test]
    fn what_was_refused_or_withdrawn_is_told_and_never_gone_back_to() {
        let mut history = History::default();
        let first = history.applied(entry("a"));
        history.refused(entry("b"), "no such upstream");
        let canary = history.tried(entry("c"));
        history.settled(canary, Outcome::Withdrawn, "more errors");
        assert_eq!(history.in_force(), first);
        assert_eq!(history.before(), None);
        let told: Vec<(&str, &str)> =
            history.entries().map(|it| (it.outcome.as_str(), it.reason.as_str())).collect();
        assert_eq!(
            told,
            [("applied", ""), ("refused", "no such upstream"), ("withdrawn", "more errors")]
        );
        let canary = history.tried(entry("c"));
        history.settled(canary, Outcome::Applied, "as good");
        assert_eq!((history.in_force(), history.before()), (canary, Some(first)));
    }

    #[test]
    fn the_oldest_are_forgotten_but_not_the_one_in_force() {
        let mut history = History::default();
        let first = history.applied(entry("a"));
        for number in 0..ENTRIES_MAX * 2 {
            history.refused(entry(&format!("{number}")), "no");
        }
        assert_eq!(history.entries().count(), ENTRIES_MAX);
        assert!(history.get(first).is_some());
    }

    #[test]
    fn what_a_rollback_leads_to_is_kept_whatever_comes_after() {
        let mut history = History::default();
        let first = history.applied(entry("a"));
        history.applied(entry("b"));
        for number in 0..ENTRIES_MAX * 2 {
            history.refused(entry(&format!("{number}")), "no");
            history.applied(entry("b"));
            assert_eq!(history.before(), Some(first));
        }
        assert_eq!(history.entries().count(), ENTRIES_MAX);
        // However large both are.
        let large = "#".repeat(BYTES_MAX / 2);
        let one = history.applied(entry(&format!("{large}1")));
        let two = history.applied(entry(&format!("{large}2")));
        assert_eq!((history.before(), history.in_force()), (Some(one), two));
        history.refused(entry("c"), "no");
        assert_eq!(history.before(), Some(one));
        assert!(history.get(one).is_some_and(|entry| entry.texts.iter().count() == 1));
    }

    #[test]
    fn what_was_served_outlives_what_was_refused_or_came_again() {
        let mut history = History::default();
        let mut served: Vec<u64> =
            (0..10).map(|it| history.applied(entry(&format!("{it}")))).collect();
        for number in 0..ENTRIES_MAX * 2 {
            history.refused(entry(&format!("{number}")), "no");
        }
        for _ in 0..ENTRIES_MAX * 2 {
            history.applied(entry("again"));
        }
        assert!(served.iter().all(|number| history.get(*number).is_some()));
        // Of what is different each time, the oldest goes.
        served.extend((10..ENTRIES_MAX).map(|it| history.applied(entry(&format!("{it}")))));
        history.applied(entry("last"));
        assert!(history.get(1).is_none());
        assert_eq!(history.entries().count(), ENTRIES_MAX);
    }

    #[test]
    fn one_that_is_tried_out_is_kept_until_it_is_settled() {
        let mut history = History::default();
        let first = history.applied(entry("a"));
        let canary = history.tried(entry("b"));
        for number in 0..ENTRIES_MAX * 2 {
            history.refused(entry(&format!("{number}")), "no");
        }
        assert!(history.get(canary).is_some_and(|entry| entry.outcome == Outcome::Canary));
        history.settled(canary, Outcome::Applied, "as good");
        assert_eq!((history.in_force(), history.before()), (canary, Some(first)));
    }

    #[test]
    fn texts_have_a_bound_and_equal_ones_are_kept_once() {
        let mut history = History::default();
        let large = "#".repeat(BYTES_MAX / 3);
        for _ in 0..10 {
            history.applied(entry(&large));
        }
        assert_eq!(history.entries().count(), 10);
        for number in 0..10 {
            history.applied(entry(&format!("{large}{number}")));
        }
        assert!(history.entries().count() < 3, "{}", history.entries().count());
        assert!(history.get(history.in_force()).is_some());
    }

    #[test]
    fn differences_show_no_secrets() {
        let with = |password: &str, port: u16| {
            format!(
                "[[sites]]\nname = \"a\"\nhostname = \"a\"\nport = {port}\nstatic_dir = \"x\"\n\
                 auth = {{ type = \"basic\", users = {{ ann = \"plain:{password}\" }} }}\n"
            )
        };
        let mut history = History::default();
        history.applied(entry(&with("swordfish", 8080)));
        let diff = history.diff(&texts(&with("tunafish1", 8081)));
        assert!(diff.contains("-port = 8080\n+port = 8081\n"), "{diff}");
        assert!(!diff.contains("fish"), "{diff}");
        let diff = history.diff(&texts(&with("tunafish1", 8080)));
        assert!(diff.contains("secret") && !diff.contains("fish"), "{diff}");
    }
}
