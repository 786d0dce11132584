//! What one worker remembers of files.
//!
//! A result is trusted for [`TRUSTED_MS`]; then the file system is looked at again, and the result
//! goes on if nothing changed. The cache holds every kind of result: missing files too, which is
//! what a single-page application is asked for all the time.
//!
//! Paths come from clients, so everything is bounded. What to drop is decided by the clock
//! algorithm: a hand goes around, spares what was used since it last came by, and takes the first
//! that was not. A hit writes one flag, and a client that asks for many things once cannot drive
//! out what is asked for again and again.

use super::ClockMs;
use super::lookup::{Found, Resolution};
use super::root::Directory;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// Milliseconds for which a result is used without a look at the file system.
const TRUSTED_MS: u64 = 1000;

/// Results of one worker.
const ENTRIES_MAX: usize = 4096;

/// Octets of content, lines and paths of one worker's results.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Descriptors that one worker keeps open for files too large for memory; a quarter of the common
/// limit of 1024 a process.
const DESCRIPTORS_MAX: usize = 256;

/// Octets of a path that is remembered. No sensible file is named by a longer one.
const PATH_MAX: usize = 1024;

/// Octets that a result costs besides what it holds: slot, map entry, evidence.
const ENTRY_COST: usize = 512;

/// The files one worker knows. Shared by all sites; not shared between workers.
#[derive(Debug)]
pub struct FileCache {
    index: HashMap<Rc<[u8]>, usize>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
    descriptors: usize,
    /// Reused for building keys.
    key: Vec<u8>,
    random: RandomState,
    boundaries: u64,
}

#[derive(Debug)]
struct Slot {
    key: Rc<[u8]>,
    found: Found,
    seen: ClockMs,
    used: bool,
    bytes: usize,
    descriptors: usize,
}

/// Who asks for a path: paths of requests begin with a slash, configured ones do not, so that
/// they do not meet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    /// The file server.
    pub(super) server: u64,
    /// The canonical path of a request, or a configured one.
    pub(super) path: &'a [u8],
}

impl Default for FileCache {
    fn default() -> Self {
        Self::new()
    }
}

impl FileCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
            bytes: 0,
            descriptors: 0,
            key: Vec::new(),
            random: RandomState::new(),
            boundaries: 0,
        }
    }

    /// The result for `key` if it can be trusted at `now`.
    pub(super) fn fresh(&mut self, key: Key<'_>, now: ClockMs) -> Option<Resolution> {
        let slot = self.slot(key)?;
        slot.used = true;
        (now.saturating_sub(slot.seen) < TRUSTED_MS).then(|| slot.found.resolution.clone())
    }

    /// The result for `key`, if there is one and the file system still looks the same.
    pub(super) fn renewed(
        &mut self,
        key: Key<'_>,
        directory: &Directory,
        now: ClockMs,
    ) -> Option<Resolution> {
        let slot = self.slot(key)?;
        if !slot.found.holds(directory) {
            return None;
        }
        slot.seen = now;
        Some(slot.found.resolution.clone())
    }

    /// Remembers a result in place of an older one.
    pub(super) fn insert(&mut self, key: Key<'_>, found: Found, now: ClockMs) {
        if let Some(index) = self.position(key) {
            self.remove(index);
        }
        if key.path.len() > PATH_MAX || !found.is_lasting() {
            return;
        }
        let (bytes, descriptors) = cost(&found);
        let bytes = bytes.saturating_add(key.path.len()).saturating_add(ENTRY_COST);
        while !self.slots.is_empty() && self.is_full(bytes, descriptors) {
            self.evict();
        }
        let key: Rc<[u8]> = self.key.as_slice().into();
        self.index.insert(Rc::clone(&key), self.slots.len());
        self.slots.push(Slot { key, found, seen: now, used: false, bytes, descriptors });
        self.bytes = self.bytes.saturating_add(bytes);
        self.descriptors = self.descriptors.saturating_add(descriptors);
    }

    /// A delimiter for a multipart body that whoever wrote the files could not foresee.
    pub(super) fn boundary(&mut self) -> u64 {
        self.boundaries = self.boundaries.wrapping_add(1);
        self.random.hash_one(self.boundaries)
    }

    fn slot(&mut self, key: Key<'_>) -> Option<&mut Slot> {
        let index = self.position(key)?;
        self.slots.get_mut(index)
    }

    /// Leaves the key in `self.key`.
    fn position(&mut self, key: Key<'_>) -> Option<usize> {
        self.key.clear();
        self.key.extend_from_slice(&key.server.to_ne_bytes());
        self.key.extend_from_slice(key.path);
        self.index.get(self.key.as_slice()).copied()
    }

    fn is_full(&self, bytes: usize, descriptors: usize) -> bool {
        self.slots.len() >= ENTRIES_MAX
            || self.bytes.saturating_add(bytes) > BYTES_MAX
            || descriptors > 0 && self.descriptors.saturating_add(descriptors) > DESCRIPTORS_MAX
    }

    fn evict(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            match self.slots.get_mut(self.hand) {
                Some(slot) if slot.used => slot.used = false,
                _ => return self.remove(self.hand),
            }
            self.hand += 1;
        }
    }

    fn remove(&mut self, index: usize) {
        if index >= self.slots.len() {
            return;
        }
        let slot = self.slots.swap_remove(index);
        self.index.remove(&slot.key);
        self.bytes = self.bytes.saturating_sub(slot.bytes);
        self.descriptors = self.descriptors.saturating_sub(slot.descriptors);
        if let Some(moved) = self.slots.get(index) {
            self.index.insert(Rc::clone(&moved.key), index);
        }
    }
}

fn cost(found: &Found) -> (usize, usize) {
    let Resolution::File(resource) = &found.resolution else { return (0, 0) };
    resource.representations().map(|representation| representation.cost()).fold(
        (0, 0),
        |(bytes, descriptors), (more_bytes, more_descriptors)| {
            (bytes.saturating_add(more_bytes), descriptors.saturating_add(more_descriptors))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> Found {
        Found { resolution: Resolution::Refused(404), evidence: Vec::new(), settled: true }
    }

    fn key(path: &str) -> Key<'_> {
        Key { server: 1, path: path.as_bytes() }
    }

    #[test]
    fn a_flood_of_paths_is_bounded_and_spares_what_is_in_use() {
        let mut cache = FileCache::new();
        cache.insert(key("/hot"), missing(), 0);
        for number in 0..3 * ENTRIES_MAX {
            cache.insert(key(&format!("/cold/{number}")), missing(), 0);
            assert!(cache.fresh(key("/hot"), 0).is_some(), "driven out by {number}");
        }
        assert_eq!(cache.slots.len(), ENTRIES_MAX);
        assert_eq!(cache.index.len(), ENTRIES_MAX);
        for (position, slot) in cache.slots.iter().enumerate() {
            assert_eq!(cache.index.get(&slot.key), Some(&position));
        }
        let expected: usize = cache.slots.iter().map(|slot| slot.bytes).sum();
        assert_eq!(cache.bytes, expected);
    }

    #[test]
    fn long_paths_and_our_own_trouble_are_not_remembered() {
        let mut cache = FileCache::new();
        let long = format!("/{}", "a".repeat(PATH_MAX));
        cache.insert(key(&long), missing(), 0);
        let resolution = Resolution::Refused(503);
        cache.insert(key("/busy"), Found { resolution, ..missing() }, 0);
        assert!(cache.slots.is_empty() && cache.index.is_empty());
    }

    #[test]
    fn servers_do_not_see_each_others_files() {
        let mut cache = FileCache::new();
        cache.insert(key("/a"), missing(), 0);
        assert!(cache.fresh(Key { server: 2, path: b"/a" }, 0).is_none());
        assert!(cache.fresh(key("/a"), 0).is_some());
        assert!(cache.fresh(key("/a"), TRUSTED_MS).is_none(), "trusted for too long");
    }

    #[test]
    fn boundaries_differ() {
        let mut cache = FileCache::new();
        assert_ne!(cache.boundary(), cache.boundary());
    }
}
