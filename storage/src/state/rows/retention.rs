//! Which keys have rows of which time: an entry per key and span of time, so that rows whose time the watermark has passed
//! are found without looking at others. Times are the beginning of the rows' orders.
//!
//! Entry: end of the span (a value tag and eight order-preserving bytes), then the key; its value is a version byte.

use super::{KeyedRows, Shards, StateSpace, StateTable, TableShape};
use crate::state::expiry::{END_BYTES, end_of, end_prefix};
use crate::state::present::Present;
use crate::state::table::successor;
use eddyline_common::Result;
use eddyline_common::key::KeyRows;
use eddyline_common::kv::SortedRun;

/// Rows loaded at once to be dropped.
const PAGE_ROWS: usize = 4096;

pub(super) struct Retention {
    table: StateTable,
    present: Present,
    step: i64,
    keys: KeyRows,
    rows: Vec<u32>,
    slots: Vec<u32>,
}

impl Retention {
    pub(super) fn open(space: &StateSpace, kind: u8, step: i64) -> Result<Self> {
        assert!(step > 0, "time goes on");
        let mut present = Present::default();
        let table = space.table(kind, TableShape { expiry: true, ordered: false }, &mut present)?;
        Ok(Retention { table, present, step, keys: KeyRows::default(), rows: Vec::new(), slots: Vec::new() })
    }

    /// Rows of a batch are new.
    pub(super) fn note(&mut self, fresh: &[u32], keys: &KeyRows, orders: &KeyRows, shard: &dyn Fn(usize) -> u8) -> Result<()> {
        self.keys.clear();
        self.rows.clear();
        for row in fresh {
            let time = end_of(orders.row(*row as usize))?;
            let end = time.div_euclid(self.step).saturating_add(1).saturating_mul(self.step);
            self.keys.push(&[&end_prefix(end), keys.row(*row as usize)]);
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
        while let Some(end) = retention.table.first_end().filter(|end| *end <= time) {
            loop {
                for slot in retention.table.window_slots(end) {
                    let key = retention.table.key(slot)[END_BYTES..].to_vec();
                    self.drop_rows(&key, retention.table.shard(slot), end)?;
                    retention.table.remove(slot, &mut retention.present);
                }
                retention.maintain()?;
                if !retention.table.load_window(end, &mut retention.present)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Drops the rows of one key whose time is before `end`.
    fn drop_rows(&mut self, key: &[u8], shard: u8, end: i64) -> Result<()> {
        self.drop_below(key, shard, Some(&[key, &end_prefix(end)].concat()))
    }

    /// Drops all rows of one key. Tables with `RowShape::ordered` only; between steps.
    pub fn drop_key(&mut self, key: &[u8], shard: u8) -> Result<()> {
        self.drop_below(key, shard, successor(key).as_deref())
    }

    /// Drops the rows of one key that are below `stop`.
    fn drop_below(&mut self, key: &[u8], shard: u8, stop: Option<&[u8]>) -> Result<()> {
        let (mut keys, mut heads) = (KeyRows::default(), Vec::new());
        keys.push(&[key]);
        self.lookup(&keys, Shards::Of(&|_| shard), &mut heads)?;
        let head = heads[0];
        if head == crate::state::NO_SLOT {
            return Ok(());
        }
        loop {
            let below = |slot: &u32| stop.is_none_or(|stop| self.rows.key(*slot) < stop);
            let resident = self.rows.resident_from(key, key).take_while(below);
            for slot in resident.collect::<Vec<_>>() {
                self.remove_row(slot, head);
            }
            self.rows.maintain(&mut self.values)?;
            if self.values.is_resident(head) || !self.load_page(key, stop, head)? {
                break;
            }
        }
        self.remove_head_if_empty(head);
        Ok(())
    }

    /// Loads some of the rows that are in the store only and below `stop`; false if there are none.
    fn load_page(&mut self, key: &[u8], stop: Option<&[u8]>, head: u32) -> Result<bool> {
        let (mut keys, shard) = (KeyRows::default(), self.heads.shard(head));
        self.rows.scan_stored(key, key, shard, &mut |row, _| {
            let more = stop.is_none_or(|stop| row < stop) && keys.len() < PAGE_ROWS;
            if more {
                keys.push(&[row]);
            }
            Ok(more)
        })?;
        let mut slots = Vec::new();
        self.rows.lookup(&keys, Shards::Of(&|_| shard), &mut self.values, &mut slots)?;
        slots.iter().for_each(|slot| self.values.link(*slot, head));
        Ok(!keys.is_empty())
    }
}
