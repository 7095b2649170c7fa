//! The order of the rows of a key that are in memory. A few are put in order when somebody asks; where there are many, they are kept in
//! order as they come and go. A tree's entries are what follows the key. It does not know what is in the store only.

use super::KeyedRows;
use super::values::NONE;
use crate::state::ordered::{ENTRY_BYTES, Ordered};
use std::cmp::Ordering;

/// Above this many rows a key has a tree, so that nobody sorts more at once...
const MANY: u32 = if cfg!(test) { 4 } else { 32 };
/// ...and below this many it has none any more.
const FEW: u32 = if cfg!(test) { 2 } else { 16 };

/// The trees of keys with many rows.
#[derive(Default)]
pub(super) struct Trees {
    trees: Vec<Ordered>,
    free: Vec<u32>,
    bytes: usize,
}

impl Trees {
    /// A key with so many rows in memory, and this tree (`NONE`: no tree), is to get one.
    pub(super) fn is_due(tree: u32, rows: u32) -> bool {
        tree == NONE && rows > MANY
    }

    /// Adds a tree of entries with their slots.
    pub(super) fn plant<'a>(&mut self, entries: impl Iterator<Item = (&'a [u8], u32)>) -> u32 {
        let tree = self.free.pop().unwrap_or_else(|| {
            self.trees.push(Ordered::default());
            self.trees.len() as u32 - 1
        });
        entries.for_each(|(entry, slot)| self.insert(tree, entry, slot));
        tree
    }

    pub(super) fn insert(&mut self, tree: u32, entry: &[u8], slot: u32) {
        self.trees[tree as usize].insert(entry, slot);
        self.bytes += bytes_of(entry);
    }

    /// Takes out an entry; `NONE` if the tree is gone with it, since only so many are left.
    pub(super) fn remove(&mut self, tree: u32, entry: &[u8], left: u32) -> u32 {
        let of = &mut self.trees[tree as usize];
        of.remove(entry);
        self.bytes -= bytes_of(entry);
        if left >= FEW {
            return tree;
        }
        self.bytes -= of.from(&[]).map(|(entry, _)| bytes_of(entry)).sum::<usize>();
        *of = Ordered::default();
        self.free.push(tree);
        NONE
    }

    pub(super) fn get(&self, tree: u32) -> Option<&Ordered> {
        self.trees.get(tree as usize)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Memory of an entry.
fn bytes_of(entry: &[u8]) -> usize {
    ENTRY_BYTES + entry.len()
}

impl KeyedRows {
    /// The first rows of a key in memory at or after `start`, which begins with the key.
    pub(super) fn resident_from(&self, head: u32, start: &[u8], limit: usize) -> Vec<u32> {
        if let Some(tree) = self.values.tree(head) {
            return tree.from(&start[self.key(head).len()..]).take(limit).map(|(_, slot)| slot).collect();
        }
        self.first(head, limit, |entry| entry >= start, |a, b| a.cmp(b))
    }

    /// The last rows of a key in memory before `end`, which begins with the key, from the last back to the first.
    pub(super) fn resident_before(&self, head: u32, end: &[u8], limit: usize) -> Vec<u32> {
        if let Some(tree) = self.values.tree(head) {
            return tree.before(&end[self.key(head).len()..]).rev().take(limit).map(|(_, slot)| slot).collect();
        }
        self.first(head, limit, |entry| entry < end, |a, b| b.cmp(a))
    }

    /// Of the wanted rows of a key in memory the first ones by an order of their entries.
    fn first(&self, head: u32, limit: usize, wanted: impl Fn(&[u8]) -> bool, order: impl Fn(&[u8], &[u8]) -> Ordering) -> Vec<u32> {
        let by = |a: &u32, b: &u32| order(self.rows.key(*a), self.rows.key(*b));
        let mut slots: Vec<u32> = self.values.rows_of(head).filter(|slot| wanted(self.rows.key(*slot))).collect();
        if limit < slots.len() {
            slots.select_nth_unstable_by(limit, by);
            slots.truncate(limit);
        }
        slots.sort_unstable_by(by);
        slots
    }
}
