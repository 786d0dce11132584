//! Texts, and which of them another one begins with, found without looking at all of them.

use std::collections::{BTreeSet, HashMap};

/// Texts with something beside each of them.
#[derive(Debug)]
pub(crate) struct Prefixes<T> {
    by_text: HashMap<String, Vec<T>>,
    lengths: BTreeSet<usize>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { by_text: HashMap::new(), lengths: BTreeSet::new() }
    }
}

impl<T> Prefixes<T> {
    /// Adds a text.
    pub(crate) fn add(&mut self, text: &str, beside: T) {
        self.lengths.insert(text.len());
        self.by_text.entry(text.to_owned()).or_default().push(beside);
    }

    /// What stands beside a text, in the order it was added.
    pub(crate) fn at(&self, text: &str) -> &[T] {
        self.by_text.get(text).map_or(&[], Vec::as_slice)
    }

    /// The texts that `text` begins with, itself among them, the longest first.
    pub(crate) fn of(&self, text: &str) -> impl Iterator<Item = (&str, &[T])> {
        self.lengths.range(..=text.len()).rev().filter_map(|length| {
            let (text, beside) = self.by_text.get_key_value(text.get(..*length)?)?;
            Some((text.as_str(), beside.as_slice()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_comes_first_and_others_do_not_come() {
        let mut prefixes = Prefixes::default();
        for (index, text) in ["/a", "/ab", "/", "/a", "/é", "/abcd", "/b"].iter().enumerate() {
            prefixes.add(text, index);
        }
        let of = |text| prefixes.of(text).map(|(text, at)| (text.to_owned(), at.to_vec()));
        let found: Vec<_> = of("/abc").collect();
        let is = |text: &str, at: &[usize]| (text.to_owned(), at.to_vec());
        assert_eq!(found, [is("/ab", &[1]), is("/a", &[0, 3]), is("/", &[2])]);
        assert_eq!(of("/é").collect::<Vec<_>>(), [is("/é", &[4]), is("/", &[2])]);
        assert_eq!(of("").count(), 0);
        assert_eq!((prefixes.at("/a"), prefixes.at("/abc")), (&[0, 3][..], &[][..]));
    }
}
