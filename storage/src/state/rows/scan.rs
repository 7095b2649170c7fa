//! The rows of a key, from memory and store. What is in the store only is read in pages and does not become resident, unless
//! the key has few rows.
//!
//! Rows that this step removed are handed out too, with weight 0 and their old weight.

use super::chunk::RowParts;
use super::values::NONE;
use super::{KeyedRows, RESIDENT_ROWS_MAX, RowChunk};
use crate::state::NO_SLOT;
use eddyline_common::Result;

/// Where a scan of a key is. Valid until `settle`; marks may be set and nothing may be added meanwhile.
#[derive(Debug)]
pub struct Cursor {
    head: u32,
    /// The next row in memory.
    next: u32,
    /// Where to go on in the store; `None`: nothing is left there.
    stored: Option<Vec<u8>>,
}

impl KeyedRows {
    /// Begins a scan over all rows of a key, in no order. `NO_SLOT` has none.
    pub fn scan(&mut self, head: u32) -> Result<Cursor> {
        if head == NO_SLOT {
            return Ok(Cursor { head, next: NONE, stored: None });
        }
        self.load_if_few(head)?;
        let stored = if self.values.is_resident(head) { None } else { Some(self.heads.key(head).to_vec()) };
        Ok(Cursor { head, next: self.values.first_of(head), stored })
    }

    fn load_if_few(&mut self, head: u32) -> Result<()> {
        if self.values.is_resident(head) || self.values.row_count(head) > RESIDENT_ROWS_MAX {
            return Ok(());
        }
        let mut loaded = Vec::new();
        self.rows.load_prefix(self.heads.key(head), self.heads.shard(head), &mut self.values, &mut loaded)?;
        loaded.into_iter().try_for_each(|slot| self.link(slot, head))
    }

    /// Appends up to `limit` more rows. False when there are no more.
    pub fn next_rows(&mut self, cursor: &mut Cursor, limit: usize, out: &mut RowChunk) -> Result<bool> {
        let full = out.len() + limit;
        while cursor.next != NONE && out.len() < full {
            self.push_slot(cursor.next, out);
            cursor.next = self.values.next_of(cursor.next);
        }
        if cursor.next != NONE {
            return Ok(true);
        }
        let Some(start) = &cursor.stored else { return Ok(false) };
        if out.len() == full {
            return Ok(true);
        }
        let (key, shard) = (self.heads.key(cursor.head), self.heads.shard(cursor.head));
        let (mut next, values) = (None, &self.values);
        self.rows.scan_stored(key, start, shard, &mut |key, value| {
            if out.len() == full {
                next = Some(key.to_vec());
                return Ok(false);
            }
            push_stored(values, key, value, out)?;
            Ok(true)
        })?;
        cursor.stored = next;
        Ok(cursor.stored.is_some())
    }

    /// Appends up to `limit` rows of a key in order, from the first at or after `start`: an order, or an order and a row, or
    /// nothing for the first of all. Rows after a given one are those from its bytes and one zero byte on. Tables with
    /// `RowShape::ordered` only.
    pub fn range(&mut self, head: u32, start: &[u8], limit: usize, out: &mut RowChunk) -> Result<()> {
        if head == NO_SLOT || limit == 0 {
            return Ok(());
        }
        self.load_if_few(head)?;
        let start = [self.heads.key(head), start].concat();
        let resident = self.resident_from(head, &start, limit);
        self.page(head, &start, false, resident, limit, out)
    }

    /// Appends up to `limit` rows of a key from the last before `end` back to the first: an order, or an order and a row. Tables
    /// with `RowShape::ordered` only.
    pub fn range_back(&mut self, head: u32, end: &[u8], limit: usize, out: &mut RowChunk) -> Result<()> {
        if head == NO_SLOT || limit == 0 || end.is_empty() {
            return Ok(());
        }
        self.load_if_few(head)?;
        let end = [self.heads.key(head), end].concat();
        let resident = self.resident_before(head, &end, limit);
        self.page(head, &end, true, resident, limit, out)
    }

    /// Rows from a bound on, or before it and `back`: those in memory, which are given as they follow each other, and those of the store between them.
    fn page(&mut self, head: u32, bound: &[u8], back: bool, resident: Vec<u32>, limit: usize, out: &mut RowChunk) -> Result<()> {
        if self.values.is_resident(head) {
            resident.into_iter().for_each(|slot| self.push_slot(slot, out));
            return Ok(());
        }
        let precedes = |key: &[u8], other: &[u8]| if back { key > other } else { key < other };
        // Those of the store that come before the last of memory, if that fills the page.
        let last = resident.last().filter(|_| resident.len() == limit).map(|slot| self.rows.key(*slot).to_vec());
        let mut stored: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| -> Result<bool> {
            if stored.len() == limit || last.as_deref().is_some_and(|last| precedes(last, key)) {
                return Ok(false);
            }
            stored.push((key.to_vec(), value.to_vec()));
            Ok(true)
        };
        let (prefix, shard) = (self.heads.key(head), self.heads.shard(head));
        if back {
            self.rows.scan_stored_back(prefix, bound, shard, &mut visit)?;
        } else {
            self.rows.scan_stored(prefix, bound, shard, &mut visit)?;
        }
        let (mut resident, mut stored) = (resident.into_iter().peekable(), stored.into_iter().peekable());
        for _ in 0..limit {
            let stored_first = match (resident.peek(), stored.peek()) {
                (None, None) => break,
                (Some(slot), Some((key, _))) => precedes(key.as_slice(), self.rows.key(*slot)),
                (_, stored) => stored.is_some(),
            };
            if !stored_first {
                resident.next().into_iter().for_each(|slot| self.push_slot(slot, out));
            } else if let Some((key, value)) = stored.next() {
                push_stored(&self.values, &key, &value, out)?;
            }
        }
        Ok(())
    }

    pub(super) fn push_slot(&self, slot: u32, out: &mut RowChunk) {
        let (values, touched) = (&self.values, self.values.touched_row(slot));
        let weight = values.weight(slot);
        let old = if touched == NONE { weight } else { self.touched[touched as usize].old };
        let parts = RowParts { start: values.row_start(slot), weight, old, mark: values.mark(slot), slot, touched };
        out.push(self.rows.key(slot), parts);
    }
}

fn push_stored(values: &super::Values, key: &[u8], value: &[u8], out: &mut RowChunk) -> Result<()> {
    let stored = values.parse(value)?;
    let start = stored.key_length + stored.order_length;
    let (weight, mark) = (stored.weight, stored.mark);
    out.push(key, RowParts { start, weight, old: weight, mark, slot: NO_SLOT, touched: NO_SLOT });
    Ok(())
}
