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

impl Window {
    fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.stored == [0; VSHARDS / 64]
    }
}

#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// By end: where its window is among `lists`.
    windows: BTreeMap<i64, u32>,
    lists: Vec<Window>,
    /// Of `lists`, those that are no window's.
    spare: Vec<u32>,
    /// The window that was asked for last: entries come and go in the order of time, so it mostly is the next one, too.
    last: Option<(i64, u32)>,
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
        let slots = &mut self.made(end).slots;
        let at = slots.len() as u32;
        slots.push(slot);
        self.positions[slot as usize] = at;
    }

    pub(super) fn remove(&mut self, end: i64, slot: u32) {
        let at = self.positions[slot as usize] as usize;
        let Some(window) = self.window_mut(end) else { return };
        window.slots.swap_remove(at);
        let moved = window.slots.get(at).copied();
        let is_empty = window.is_empty();
        if let Some(moved) = moved {
            self.positions[moved as usize] = at as u32;
        }
        if is_empty {
            self.drop_window(end);
        }
    }

    fn window(&self, end: i64) -> Option<&Window> {
        self.windows.get(&end).map(|at| &self.lists[*at as usize])
    }

    fn window_mut(&mut self, end: i64) -> Option<&mut Window> {
        let at = match self.last {
            Some((last, at)) if last == end => at,
            _ => *self.windows.get(&end)?,
        };
        self.last = Some((end, at));
        Some(&mut self.lists[at as usize])
    }

    fn made(&mut self, end: i64) -> &mut Window {
        let at = match self.last {
            Some((last, at)) if last == end => at,
            _ => *self.windows.entry(end).or_insert_with(|| {
                self.spare.pop().unwrap_or_else(|| {
                    self.lists.push(Window::default());
                    self.lists.len() as u32 - 1
                })
            }),
        };
        self.last = Some((end, at));
        &mut self.lists[at as usize]
    }

    fn drop_window(&mut self, end: i64) {
        if let Some(at) = self.windows.remove(&end) {
            self.lists[at as usize] = Window::default();
            self.spare.push(at);
            self.last = None;
        }
    }

    pub(super) fn mark_stored(&mut self, end: i64, shard: u8) {
        self.made(end).stored[shard as usize / 64] |= 1 << (shard % 64);
    }

    pub(super) fn unmark_stored(&mut self, end: i64, shard: u8) {
        let Some(window) = self.window_mut(end) else { return };
        window.stored[shard as usize / 64] &= !(1 << (shard % 64));
        if window.is_empty() {
            self.drop_window(end);
        }
    }

    pub(super) fn first(&self) -> Option<i64> {
        self.windows.first_key_value().map(|(end, _)| *end)
    }

    pub(super) fn slots(&self, end: i64) -> &[u32] {
        self.window(end).map_or(&[], |window| &window.slots)
    }

    pub(super) fn first_stored(&self, end: i64) -> Option<u8> {
        let stored = &self.window(end)?.stored;
        stored.iter().enumerate().find(|(_, bits)| **bits != 0).map(|(i, bits)| (i * 64) as u8 + bits.trailing_zeros() as u8)
    }
}
