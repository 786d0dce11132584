//! The listeners of a snapshot.
//!
//! A listener has a number for as long as it is listened at, whatever snapshots say of it meanwhile:
//! connections know it by that. What always holds: a number stands for one address only.

use std::slice::Iter;

use super::Listener;

/// Listeners, found by their numbers.
#[derive(Debug, Default)]
pub struct Listeners {
    /// As the configuration has them.
    all: Vec<Listener>,
    /// Where each number is among them.
    places: Vec<Option<usize>>,
}

impl Listeners {
    /// The listener with this number, if there is one.
    pub fn get(&self, number: usize) -> Option<&Listener> {
        self.all.get((*self.places.get(number)?)?)
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> Iter<'_, Listener> {
        self.all.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Takes them out, to be given other numbers.
    pub(crate) fn take(&mut self) -> Vec<Listener> {
        self.places.clear();
        std::mem::take(&mut self.all)
    }

    /// Adds one with the number that it has.
    pub(crate) fn add(&mut self, listener: Listener) {
        let number = listener.number;
        if self.places.len() <= number {
            self.places.resize(number + 1, None);
        }
        if let Some(place) = self.places.get_mut(number) {
            *place = Some(self.all.len());
        }
        self.all.push(listener);
    }
}

impl FromIterator<Listener> for Listeners {
    /// Numbers them in their order.
    fn from_iter<I: IntoIterator<Item = Listener>>(listeners: I) -> Self {
        let mut numbered = Self::default();
        for (number, listener) in listeners.into_iter().enumerate() {
            numbered.add(Listener { number, ..listener });
        }
        numbered
    }
}

impl<'a> IntoIterator for &'a Listeners {
    type Item = &'a Listener;
    type IntoIter = Iter<'a, Listener>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
