//! Where the live rows of a shard are: from the hash of a row's identity to its location. Several rows with one identity
//! (a multiset) are kept as a set of locations, so that any of them is found, taken and moved in logarithmic time.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;
use std::collections::{BTreeSet, HashMap};

/// A row of a shard: the slot of its segment, and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    pub slot: u32,
    pub row: u32,
}

/// Not a location: the entry's locations are in `Index::many`.
const MANY: Location = Location { slot: u32::MAX, row: u32::MAX };

struct Entry {
    /// Halves of the 128-bit hash; not one `u128`, whose alignment would make an entry a third larger.
    low: u64,
    high: u64,
    at: Location,
}

#[derive(Default)]
pub(super) struct Index {
    table: HashTable<Entry>,
    many: HashMap<u128, BTreeSet<Location>>,
    /// Locations in `many`.
    many_rows: usize,
}

fn halves(hash: u128) -> (u64, u64) {
    (hash as u64, (hash >> 64) as u64)
}

impl Index {
    pub(super) fn reserve(&mut self, more: usize) {
        self.table.reserve(more, |e| e.low);
    }

    /// Adds the only row with this identity; false if there is one.
    pub(super) fn insert_unique(&mut self, hash: u128, at: Location) -> bool {
        let (low, high) = halves(hash);
        match self.table.entry(low, |e| e.low == low && e.high == high, |e| e.low) {
            TableEntry::Occupied(_) => false,
            TableEntry::Vacant(entry) => {
                entry.insert(Entry { low, high, at });
                true
            }
        }
    }

    /// Adds one more row with this identity.
    pub(super) fn insert(&mut self, hash: u128, at: Location) {
        let (low, high) = halves(hash);
        match self.table.entry(low, |e| e.low == low && e.high == high, |e| e.low) {
            TableEntry::Occupied(mut entry) => {
                let first = std::mem::replace(&mut entry.get_mut().at, MANY);
                let rows = self.many.entry(hash).or_default();
                if first != MANY {
                    self.many_rows += rows.insert(first) as usize;
                }
                self.many_rows += rows.insert(at) as usize;
            }
            TableEntry::Vacant(entry) => {
                entry.insert(Entry { low, high, at });
            }
        }
    }

    pub(super) fn get(&self, hash: u128) -> Option<Location> {
        let (low, high) = halves(hash);
        let at = self.table.find(low, |e| e.low == low && e.high == high)?.at;
        if at != MANY { Some(at) } else { self.many.get(&hash).and_then(|rows| rows.last().copied()) }
    }

    /// How many rows have this identity.
    pub(super) fn count(&self, hash: u128) -> usize {
        let (low, high) = halves(hash);
        match self.table.find(low, |e| e.low == low && e.high == high) {
            None => 0,
            Some(entry) if entry.at != MANY => 1,
            Some(_) => self.many.get(&hash).map_or(0, |rows| rows.len()),
        }
    }

    /// Takes out a row with this identity, the one added last as far as that is known.
    pub(super) fn remove(&mut self, hash: u128) -> Option<Location> {
        let (low, high) = halves(hash);
        let entry = self.table.find_entry(low, |e| e.low == low && e.high == high).ok()?;
        if entry.get().at != MANY {
            return Some(entry.remove().0.at);
        }
        let rows = self.many.get_mut(&hash).expect("an entry for many rows has them");
        let at = rows.pop_last();
        self.many_rows -= at.is_some() as usize;
        if rows.is_empty() {
            self.many.remove(&hash);
            entry.remove();
        }
        at
    }

    /// The row at `from`, which is live, is now at `to`.
    pub(super) fn relocate(&mut self, hash: u128, from: Location, to: Location) {
        let (low, high) = halves(hash);
        let entry = self.table.find_mut(low, |e| e.low == low && e.high == high).expect("a live row is in the index");
        if entry.at != MANY {
            assert_eq!(entry.at, from, "the index knows where a live row is");
            entry.at = to;
            return;
        }
        let rows = self.many.get_mut(&hash).expect("an entry for many rows has them");
        assert!(rows.remove(&from), "the index knows where a live row is");
        rows.insert(to);
    }

    pub(super) fn bytes(&self) -> usize {
        /// A B-tree node is filled by two thirds or more on average.
        const SET_ENTRY_BYTES: usize = size_of::<Location>() * 3 / 2;
        self.table.allocation_size() + self.many_rows * SET_ENTRY_BYTES
    }
}
