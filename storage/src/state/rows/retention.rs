//! Which keys have rows of which time: an entry per key and span of time, so that rows whose time the watermark has passed
//! are found without looking at others. Times are the beginning of the rows' orders. Rows in memory are found by their span
//! alone (`spans`); the entries lead to the heads, and to rows that are in the store only.
//!
//! Entry: end of the span (a value tag and eight order-preserving bytes), then the key; its value is a version byte.

use super::{KeyedRows, Shards, StateSpace, StateTable, TableShape};
use crate::state::NO_SLOT;
use crate::state::expiry::{END_BYTES, end_prefix};
use crate::state::present::Present;
use eddyline_common::key::KeyRows;
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError};

/// Rows loaded at once to be dropped, and keys that are dealt with together.
const PAGE_ROWS: usize = if cfg!(test) { 5 } else { 4096 };

/// Entries that are loaded together before each is removed: as many as the nearest cache has room for.
const WARMED: usize = 64;

pub(super) struct Retention {
    table: StateTable,
    present: Present,
    keys: KeyRows,
    rows: Vec<u32>,
    slots: Vec<u32>,
}

impl Retention {
    pub(super) fn open(space: &StateSpace, kind: u8) -> Result<Self> {
        let mut present = Present::default();
        let table = space.table(kind, TableShape { expiry: true, ordered: false }, &mut present)?;
        Ok(Retention { table, present, keys: KeyRows::default(), rows: Vec::new(), slots: Vec::new() })
    }

    /// Rows of a batch are new, each with the end of its span.
    pub(super) fn note(&mut self, fresh: &[(u32, i64)], keys: &KeyRows, shard: &dyn Fn(usize) -> u8) -> Result<()> {
        self.keys.clear();
        self.rows.clear();
        for (row, end) in fresh {
            self.keys.push(&[&end_prefix(*end), keys.row(*row as usize)]);
            self.rows.push(*row);
        }
        let rows = &self.rows;
        self.table.intern(&self.keys, Shards::Of(&|at| shard(rows[at] as usize)), &mut self.present, &mut self.slots)?;
        for slot in &self.slots {
            if self.present.enter(*slot) {
                self.table.mark_dirty(*slot);
            }
        }
        Ok(())
    }

    pub(super) fn maintain(&mut self) -> Result<()> {
        self.table.maintain(&mut self.present)
    }

    pub(super) fn freeze(&mut self) -> Result<SortedRun> {
        self.table.freeze(&mut self.present)
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes(&self.present)
    }
}

impl KeyedRows {
    /// Drops rows whose time is before `time`, in whole spans of `RowShape::retention_micros`: one that ends after `time`
    /// stays as it is. Between steps.
    pub fn drop_before(&mut self, time: i64) -> Result<()> {
        let Some(mut retention) = self.retention.take() else { return Ok(()) };
        let dropped = self.drop_spans(&mut retention, time);
        self.retention = Some(retention);
        dropped?;
        self.maintain()
    }

    fn drop_spans(&mut self, retention: &mut Retention, time: i64) -> Result<()> {
        while let Some(end) = self.values.first_span().filter(|end| *end <= time) {
            for slots in self.values.span_slots(end).to_vec().chunks(WARMED) {
                self.rows.warm(slots);
                for slot in slots {
                    let head = self.values.head_of(*slot);
                    self.remove_row(*slot, head);
                    self.heads.mark_dirty(head);
                }
            }
        }
        while let Some(end) = retention.table.first_end().filter(|end| *end <= time) {
            loop {
                for entries in retention.table.window_slots(end).chunks(PAGE_ROWS) {
                    self.drop_of_keys(retention, entries, end)?;
                }
                retention.maintain()?;
                if !retention.table.load_window(end, &mut retention.present)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Drops what else there is before `end` of the keys of some entries, and the entries.
    fn drop_of_keys(&mut self, retention: &mut Retention, entries: &[u32], end: i64) -> Result<()> {
        let (mut keys, mut heads) = (KeyRows::default(), Vec::new());
        entries.iter().for_each(|entry| keys.push(&[&retention.table.key(*entry)[END_BYTES..]]));
        self.lookup(&keys, Shards::Of(&|at| retention.table.shard(entries[at])), &mut heads)?;
        for (at, (entry, head)) in entries.iter().zip(heads).enumerate() {
            if at % WARMED == 0 {
                retention.table.warm(&entries[at..entries.len().min(at + WARMED)]);
            }
            if head != NO_SLOT {
                if !self.values.is_resident(head) {
                    self.drop_stored(head, Some(&[keys.row(at), &end_prefix(end)].concat()))?;
                }
                self.remove_head_if_empty(head);
            }
            retention.table.remove(*entry, &mut retention.present);
        }
        self.rows.maintain(&mut self.values)
    }

    /// Drops all rows of one key; between steps.
    pub fn drop_key(&mut self, key: &[u8], shard: u8) -> Result<()> {
        let (mut keys, mut heads) = (KeyRows::default(), Vec::new());
        keys.push(&[key]);
        self.lookup(&keys, Shards::Of(&|_| shard), &mut heads)?;
        let [head] = heads[..] else { return Err(SqlError::internal("one key has one head")) };
        if head == NO_SLOT {
            return Ok(());
        }
        for slot in self.values.rows_of(head).collect::<Vec<_>>() {
            self.remove_row(slot, head);
        }
        self.drop_stored(head, None)?;
        self.remove_head_if_empty(head);
        self.rows.maintain(&mut self.values)
    }

    /// Drops the rows of one key that are in the store only and below `stop`.
    fn drop_stored(&mut self, head: u32, stop: Option<&[u8]>) -> Result<()> {
        while !self.values.is_resident(head) {
            let slots = self.load_page(head, stop)?;
            if slots.is_empty() {
                break;
            }
            slots.into_iter().for_each(|slot| self.remove_row(slot, head));
            self.rows.maintain(&mut self.values)?;
        }
        Ok(())
    }

    /// Loads some of the rows that are in the store only and below `stop`.
    fn load_page(&mut self, head: u32, stop: Option<&[u8]>) -> Result<Vec<u32>> {
        let (mut keys, mut slots, shard) = (KeyRows::default(), Vec::new(), self.heads.shard(head));
        let key = self.heads.key(head);
        self.rows.scan_stored(key, key, shard, &mut |row, _| {
            let more = stop.is_none_or(|stop| row < stop) && keys.len() < PAGE_ROWS;
            if more {
                keys.push(&[row]);
            }
            Ok(more)
        })?;
        self.rows.lookup(&keys, Shards::Of(&|_| shard), &mut self.values, &mut slots)?;
        for slot in &slots {
            self.link(*slot, head)?;
        }
        Ok(slots)
    }
}
