//! Entries that come and go, each with a number of its own and a place that is used again.

use std::rc::Rc;

/// The entries. The number of places is that of the most there were at once.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<Rc<T>>>,
    vacant: Vec<usize>,
    /// How many there have been.
    numbers: u64,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), vacant: Vec::new(), numbers: 0 }
    }
}

impl<T> Slab<T> {
    /// Adds what `make` makes of a number and a place.
    pub(super) fn add(&mut self, make: impl FnOnce(u64, usize) -> T) -> Rc<T> {
        self.numbers += 1;
        let slot = self.vacant.pop().unwrap_or(self.places.len());
        let entry = Rc::new(make(self.numbers, slot));
        match self.places.get_mut(slot) {
            Some(place) => *place = Some(Rc::clone(&entry)),
            None => self.places.push(Some(Rc::clone(&entry))),
        }
        entry
    }

    /// Takes out what is at a place.
    pub(super) fn remove(&mut self, slot: usize) -> Option<Rc<T>> {
        let removed = self.places.get_mut(slot)?.take();
        if removed.is_some() {
            self.vacant.push(slot);
        }
        removed
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    /// All of them, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<T>> {
        self.places.iter().flatten()
    }
}
