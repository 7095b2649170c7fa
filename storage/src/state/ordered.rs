//! Slots in the order of their keys. The first bytes of a key lie in the tree's nodes, so that most comparisons follow no pointer. It does not know what keys mean.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A node's share of an entry beside the key's own bytes: nodes are two thirds full.
pub(super) const ENTRY_BYTES: usize = (size_of::<Entry>() + size_of::<u32>()) * 3 / 2;

#[derive(Default)]
pub(super) struct Ordered(BTreeMap<Entry, u32>);

#[derive(PartialEq, Eq)]
struct Entry {
    /// The first bytes as a number that is ordered as they are; those that are missing are zero.
    head: u128,
    key: Box<[u8]>,
}

impl Entry {
    fn new(key: &[u8]) -> Self {
        const BYTES: usize = size_of::<u128>();
        let mut head = [0; BYTES];
        let known = key.len().min(BYTES);
        head[..known].copy_from_slice(&key[..known]);
        Entry { head: u128::from_be_bytes(head), key: key.into() }
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ordered {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn insert(&mut self, key: &[u8], slot: u32) {
        self.0.insert(Entry::new(key), slot);
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.0.remove(&Entry::new(key));
    }

    /// Keys from `start` on, with their slots.
    pub(super) fn from<'a>(&'a self, start: &[u8]) -> impl DoubleEndedIterator<Item = (&'a [u8], u32)> + use<'a> {
        self.range(Bound::Included(Entry::new(start)), Bound::Unbounded)
    }

    /// Keys before `end`, with their slots.
    pub(super) fn before<'a>(&'a self, end: &[u8]) -> impl DoubleEndedIterator<Item = (&'a [u8], u32)> + use<'a> {
        self.range(Bound::Unbounded, Bound::Excluded(Entry::new(end)))
    }

    fn range(&self, start: Bound<Entry>, end: Bound<Entry>) -> impl DoubleEndedIterator<Item = (&[u8], u32)> {
        self.0.range((start, end)).map(|(entry, slot)| (entry.key.as_ref(), *slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_order_is_that_of_the_bytes() {
        let bytes: Vec<Vec<u8>> = (0..4000u32)
            .map(|i| {
                let hash = i.wrapping_mul(2_654_435_761);
                let length = (hash >> 27) as usize;
                (0..length).map(|at| if hash >> at & 5 == 0 { 0 } else { (hash >> (at % 8)) as u8 & 3 }).collect()
            })
            .collect();
        let mut ordered = Ordered::default();
        bytes.iter().enumerate().for_each(|(slot, key)| ordered.insert(key, slot as u32));
        let sorted: BTreeSet<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        assert!(sorted.len() > 1000, "the keys differ");
        let all = |from: &[u8]| ordered.from(from).map(|(key, _)| key.to_vec()).collect::<Vec<_>>();
        assert_eq!(all(&[]), sorted.iter().map(|key| key.to_vec()).collect::<Vec<_>>());
        for key in bytes.iter().take(200) {
            let (before, from): (Vec<&[u8]>, Vec<&[u8]>) = sorted.iter().partition(|other| **other < key.as_slice());
            assert_eq!(ordered.before(key).map(|(key, _)| key).collect::<Vec<_>>(), before);
            assert_eq!(ordered.from(key).map(|(key, _)| key).collect::<Vec<_>>(), from);
        }
        bytes.iter().for_each(|key| ordered.remove(key));
        assert_eq!(ordered.len(), 0);
    }
}
