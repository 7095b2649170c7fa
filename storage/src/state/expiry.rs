//! Slots by the window end that their key begins with, and which shards may hold further entries of a window in the
//! store only. The end is the key's first column: a value tag and eight order-preserving bytes.

use eddyline_common::key::VSHARDS;
use eddyline_common::{Result, SqlError};
use std::collections::BTreeMap;

/// Bytes of the key that are the window end.
pub(super) const END_BYTES: usize = 9;

#[derive(Debug, Default)]
struct Window {
    slots: Vec<u32>,
    /// A bit per shard.
    stored: [u64; VSHARDS / 64],
}

#[derive(Debug, Default)]
pub(super) struct Expiry {
    windows: BTreeMap<i64, Window>,
    /// Where each slot is in its window's list.
    positions: Vec<u32>,
}

/// The window end that `key` begins with.
pub(super) fn end_of(key: &[u8]) -> Result<i64> {
    match key.split_first_chunk::<END_BYTES>() {
        Some(([1, bytes @ ..], _)) => Ok((u64::from_be_bytes(*bytes) ^ (1 << 63)) as i64),
        _ => Err(SqlError::internal("a window's state has a key without a window end")),
    }
}

pub(super) fn end_prefix(end: i64) -> [u8; END_BYTES] {
    let mut prefix = [1; END_BYTES];
    prefix[1..].copy_from_slice(&(end as u64 ^ (1 << 63)).to_be_bytes());
    prefix
}

impl Expiry {
    pub(super) fn resize(&mut self, slots: usize) {
        self.positions.resize(slots, 0);
    }

    pub(super) fn insert(&mut self, end: i64, slot: u32) {
        let slots = &mut self.windows.entry(end).or_default().slots;
        self.positions[slot as usize] = slots.len() as u32;
        slots.push(slot);
    }

    pub(super) fn remove(&mut self, end: i64, slot: u32) {
        let Some(window) = self.windows.get_mut(&end) else { return };
        let at = self.positions[slot as usize] as usize;
        window.slots.swap_remove(at);
        if let Some(moved) = window.slots.get(at) {
            self.positions[*moved as usize] = at as u32;
        }
        self.drop_if_empty(end);
    }

    fn drop_if_empty(&mut self, end: i64) {
        if self.windows.get(&end).is_some_and(|w| w.slots.is_empty() && w.stored == [0; VSHARDS / 64]) {
            self.windows.remove(&end);
        }
    }

    pub(super) fn mark_stored(&mut self, end: i64, shard: u8) {
        self.windows.entry(end).or_default().stored[shard as usize / 64] |= 1 << (shard % 64);
    }

    pub(super) fn unmark_stored(&mut self, end: i64, shard: u8) {
        if let Some(window) = self.windows.get_mut(&end) {
            window.stored[shard as usize / 64] &= !(1 << (shard % 64));
        }
        self.drop_if_empty(end);
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.windows.first_key_value().map(|(end, _)| *end)
    }

    pub(super) fn slots(&self, end: i64) -> &[u32] {
        self.windows.get(&end).map_or(&[], |w| &w.slots)
    }

    pub(super) fn first_stored(&self, end: i64) -> Option<u8> {
        let stored = &self.windows.get(&end)?.stored;
        stored.iter().enumerate().find(|(_, bits)| **bits != 0).map(|(i, bits)| (i * 64) as u8 + bits.trailing_zeros() as u8)
    }
}
