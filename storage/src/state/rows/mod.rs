//! Many rows under a key: a multiset of rows, grouped by key, each row an entry of its own in the operator's state. Joins,
//! Top-N, OVER windows and sessions keep their input in it.
//!
//! A row is three byte strings, one after the other: the **key** it is found by, the **order** of the row among those of its
//! key (may be empty), and the **row** itself. All three together identify it; they compare as bytes (`common::key`), and no key
//! is the beginning of another. To a row belong its *weight*, and, if the owner wants one, a *mark*: a number of the owner's that
//! is kept with it (how many rows it matches, say). What rows of one key have in common is their **head**: how many there
//! are, and the sum of their weights.
//!
//! # Parts
//! - `values`: the columns beside both tables, their durable form, and the list that binds rows to their head
//! - `chunk`: rows as they are handed out: bytes, weights now and before the step, marks
//! - `order`: the rows in memory of a key in their order
//! - `scan`: all rows of a key, or those from a position on, page by page from memory and store
//! - `windows`: the keys of one window
//! - `retention`: which keys have rows of which time, for dropping them when the watermark has passed
//! - `spans`: the rows in memory of a span of time, for the same
//! - `forget`: rows or keys that were not touched for their time to live
//!
//! # Life of a step
//! `add` any number of times; then look at what changed (`touched_heads`, `touched_rows`), at heads (`lookup`, `weight`) and at
//! rows (`scan`, `range`), set marks; then `settle`, which removes what has weight 0 and gives memory back. Slots of heads
//! and rows are valid from where they are handed out to `settle`.
//!
//! # Cost
//! A changed row writes itself and its head at a checkpoint, however many rows the key has. A key of up to
//! `RESIDENT_ROWS_MAX` rows is loaded as a whole when it is scanned; a larger one is read in pages that do not stay in memory.
//!
//! # Invariants
//! 1. A head is in memory while any of its rows is; its `resident` rows are exactly those in its list.
//! 2. `rows` of a head counts its rows in memory and in the store, so `resident == rows` says that the store need not be asked.

mod chunk;
mod forget;
mod order;
mod retention;
mod scan;
mod spans;
mod values;
mod windows;

pub use chunk::RowChunk;
pub use forget::RowTtl;
pub use scan::Cursor;

use super::space::StateSpace;
use super::table::{NO_SLOT, Shards, StateCounters, StateTable, TableShape};
use super::ttl::Ttl;
use eddyline_common::key::KeyRows;
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError, StateTableId};
use retention::Retention;
use values::{Heads, NONE, Values};

/// Up to so many rows of a key become resident together.
const RESIDENT_ROWS_MAX: u64 = if cfg!(test) { 8 } else { 1024 };
/// For so many rows, and keys, memory is kept from one step to the next.
const TOUCHED_KEPT: usize = 1 << 15;
/// How many kinds of its operator's state space one multiset takes.
pub const ROW_KINDS: u8 = 3;

#[derive(Clone, Copy, Debug, Default)]
pub struct RowShape {
    /// `range` and `range_back` are available.
    pub ordered: bool,
    /// Rows have orders though `scan` alone reads them, which knows none: nothing is kept in order for that.
    pub orders: bool,
    /// Keys begin with a window end; whole windows are dropped by `drop_window`.
    pub expiry: bool,
    /// Rows have marks.
    pub marks: bool,
    /// Orders begin with a time: rows are dropped by `drop_before`, in steps of this many microseconds.
    pub retention_micros: Option<i64>,
    /// Rows or keys are forgotten by `forget_expired`.
    pub ttl: Option<RowTtl>,
}

/// Rows to add, column by column of the same length.
#[derive(Clone, Copy)]
pub struct RowBatch<'a> {
    pub keys: &'a KeyRows,
    /// `None`: empty for every row.
    pub orders: Option<&'a KeyRows>,
    pub rows: &'a KeyRows,
    /// `None`: +1 for every row.
    pub weights: Option<&'a [i64]>,
}

/// A row that this step changed.
#[derive(Clone, Copy, Debug)]
pub struct TouchedRow {
    pub slot: u32,
    pub head: u32,
    /// Its weight before the step.
    pub old: i64,
    /// The next touched row of the same head, `NO_SLOT` after the last.
    pub next: u32,
}

/// A key of which this step changed rows.
#[derive(Clone, Copy, Debug)]
pub struct TouchedHead {
    pub head: u32,
    /// The sum of its rows' weights before the step.
    pub old_weight: i64,
    /// The first of its touched rows.
    pub first: u32,
}

pub struct KeyedRows {
    id: StateTableId,
    heads: StateTable,
    rows: StateTable,
    values: Values,
    retention: Option<Retention>,
    ttl: Option<(Ttl, RowTtl)>,
    touched: Vec<TouchedRow>,
    touched_heads: Vec<TouchedHead>,
    /// Memory at the end of the last step.
    bytes: usize,
    keys: KeyRows,
    head_slots: Vec<u32>,
    slots: Vec<u32>,
    /// Rows of a batch that are new, and the end of their span where rows have one.
    fresh: Vec<(u32, i64)>,
}

impl KeyedRows {
    /// Takes the kinds `kind .. kind + ROW_KINDS` of the space.
    pub fn open(space: &StateSpace, kind: u8, shape: RowShape) -> Result<Self> {
        let mut values = Values::new(shape);
        let rows = space.table(kind, TableShape { expiry: shape.expiry, ordered: false }, &mut values)?;
        let heads = space.table(kind + 1, TableShape { expiry: shape.expiry, ordered: false }, &mut Heads(&mut values))?;
        let retention = shape.retention_micros.map(|_| Retention::open(space, kind + 2)).transpose()?;
        let open = |ttl: RowTtl| -> Result<_> { Ok((Ttl::open(space, kind, ttl.micros())?, ttl)) };
        let ttl = shape.ttl.map(open).transpose()?;
        let mut table = KeyedRows {
            id: space.id(),
            heads,
            rows,
            values,
            retention,
            ttl,
            touched: Vec::new(),
            touched_heads: Vec::new(),
            bytes: 0,
            keys: KeyRows::default(),
            head_slots: Vec::new(),
            slots: Vec::new(),
            fresh: Vec::new(),
        };
        table.link_restored()?;
        table.count_bytes();
        Ok(table)
    }

    /// Binds rows that were loaded when the table was opened to their heads.
    fn link_restored(&mut self) -> Result<()> {
        for slot in 0..self.rows.slots() as u32 {
            if !self.rows.is_live(slot) {
                continue;
            }
            let key = self.rows.key(slot).get(..self.values.key_length(slot));
            let head = key.and_then(|key| self.heads.find(key));
            let head = head.ok_or_else(|| SqlError::corrupt("a stored row has no head"))?;
            self.link(slot, head)?;
        }
        Ok(())
    }

    /// Binds a row that is in memory to its head.
    fn link(&mut self, slot: u32, head: u32) -> Result<()> {
        self.values.link(slot, head, self.rows.key(slot))?;
        if self.values.wants_tree(head) {
            self.values.plant_tree(head, |slot| self.rows.key(slot));
        }
        Ok(())
    }

    /// Adds weights to rows. `shards` is by row of the batch; equal keys have equal shards.
    pub fn add(&mut self, batch: RowBatch, shards: Shards) -> Result<()> {
        let RowBatch { keys, orders, rows, weights } = batch;
        self.heads.intern(keys, shards, &mut Heads(&mut self.values), &mut self.head_slots)?;
        self.keys.clear();
        for row in 0..keys.len() {
            self.keys.push(&[keys.row(row), orders.map_or(&[][..], |o| o.row(row)), rows.row(row)]);
        }
        let (heads, head_slots) = (&self.heads, &self.head_slots);
        let shard = |row: usize| heads.shard(head_slots[row]);
        self.rows.intern(&self.keys, Shards::Of(&shard), &mut self.values, &mut self.slots)?;
        match &mut self.ttl {
            Some((ttl, RowTtl::Rows(_))) => ttl.touch(&self.keys, Shards::Of(&shard))?,
            Some((ttl, RowTtl::Keys(_))) => ttl.touch(keys, Shards::Of(&shard))?,
            None => {}
        }
        self.fresh.clear();
        for row in 0..keys.len() {
            let (slot, head) = (self.slots[row], self.head_slots[row]);
            if self.values.head_of(slot) == NONE {
                // A row that was fetched from the store has a weight.
                let is_new = self.values.weight(slot) == 0;
                if is_new {
                    self.values.begin(slot, head, keys.row(row).len(), orders.map_or(0, |o| o.row(row).len()));
                }
                self.link(slot, head)?;
                if is_new {
                    self.fresh.push((row as u32, self.values.span_end(slot)));
                }
            }
            self.touch(slot, head);
            let weight = weights.map_or(1, |w| w[row]);
            self.values.add_weight(slot, head, weight);
        }
        match &mut self.retention {
            Some(retention) => retention.note(&self.fresh, keys, &|row| self.heads.shard(self.head_slots[row])),
            None => Ok(()),
        }
    }

    #[inline]
    fn touch(&mut self, slot: u32, head: u32) {
        if self.values.touched_row(slot) != NONE {
            return;
        }
        self.rows.mark_dirty(slot);
        let at = match self.values.touched_head(head) {
            NONE => {
                self.heads.mark_dirty(head);
                self.values.set_touched_head(head, self.touched_heads.len() as u32);
                self.touched_heads.push(TouchedHead { head, old_weight: self.values.head_weight(head), first: NONE });
                self.touched_heads.len() - 1
            }
            at => at as usize,
        };
        let of_head = &mut self.touched_heads[at];
        let next = std::mem::replace(&mut of_head.first, self.touched.len() as u32);
        self.values.set_touched_row(slot, self.touched.len() as u32);
        self.touched.push(TouchedRow { slot, head, old: self.values.weight(slot), next });
    }

    /// Forgets of touched rows those that weigh what they did before the step, so that nobody looks at them for nothing.
    pub fn forget_unchanged(&mut self) {
        // A row that came and went is still to be removed.
        let is_unchanged = |values: &Values, row: &TouchedRow| row.old != 0 && values.weight(row.slot) == row.old;
        if !self.touched.iter().any(|row| is_unchanged(&self.values, row)) {
            return;
        }
        for touched in std::mem::take(&mut self.touched_heads) {
            self.values.set_touched_head(touched.head, NONE);
            let mut next = touched.first;
            let mut kept = TouchedHead { first: NONE, ..touched };
            while next != NONE {
                let row = &mut self.touched[next as usize];
                let after = row.next;
                if is_unchanged(&self.values, row) {
                    self.values.set_touched_row(row.slot, NONE);
                } else {
                    row.next = std::mem::replace(&mut kept.first, next);
                }
                next = after;
            }
            if kept.first != NONE {
                self.values.set_touched_head(kept.head, self.touched_heads.len() as u32);
                self.touched_heads.push(kept);
            }
        }
        // Positions change: the lists are threaded anew.
        let rows = std::mem::take(&mut self.touched);
        for head in &mut self.touched_heads {
            let mut next = std::mem::replace(&mut head.first, NONE);
            while next != NONE {
                let row = rows[next as usize];
                next = row.next;
                self.values.set_touched_row(row.slot, self.touched.len() as u32);
                self.touched.push(TouchedRow { next: head.first, ..row });
                head.first = self.touched.len() as u32 - 1;
            }
        }
    }

    /// The head of every key, `NO_SLOT` for a key without rows.
    pub fn lookup(&mut self, keys: &KeyRows, shards: Shards, out: &mut Vec<u32>) -> Result<()> {
        self.heads.lookup(keys, shards, &mut Heads(&mut self.values), out)
    }

    pub fn key(&self, head: u32) -> &[u8] {
        self.heads.key(head)
    }

    pub fn shard(&self, head: u32) -> u8 {
        self.heads.shard(head)
    }

    /// The sum of the weights of the key's rows; 0 for `NO_SLOT`.
    pub fn weight(&self, head: u32) -> i64 {
        if head == NO_SLOT { 0 } else { self.values.head_weight(head) }
    }

    /// The same before this step.
    pub fn old_weight(&self, head: u32) -> i64 {
        match self.touched_head(head) {
            Some(touched) => touched.old_weight,
            None => self.weight(head),
        }
    }

    /// Rows of the key, those that are gone with the end of this step included; 0 for `NO_SLOT`.
    pub fn row_count(&self, head: u32) -> u64 {
        if head == NO_SLOT { 0 } else { self.values.row_count(head) }
    }

    /// Keys that this step changed, each once.
    pub fn touched_heads(&self) -> &[TouchedHead] {
        &self.touched_heads
    }

    /// Rows that this step changed, each once; those of one key by `TouchedRow::next`.
    pub fn touched_rows(&self) -> &[TouchedRow] {
        &self.touched
    }

    pub fn touched_head(&self, head: u32) -> Option<&TouchedHead> {
        if head == NO_SLOT {
            return None;
        }
        self.touched_heads.get(self.values.touched_head(head) as usize)
    }

    /// Appends a touched row.
    pub fn push_touched(&self, touched: u32, out: &mut RowChunk) {
        self.push_slot(self.touched[touched as usize].slot, out);
    }

    /// Sets the mark of a touched row.
    pub fn set_touched_mark(&mut self, touched: u32, mark: i64) {
        self.values.set_mark(self.touched[touched as usize].slot, mark);
    }

    pub fn touched_mark(&self, touched: u32) -> i64 {
        self.values.mark(self.touched[touched as usize].slot)
    }

    /// Takes away rows of one head that were handed out in this step, by their positions in `chunk`: they weigh nothing now.
    pub fn take_away(&mut self, head: u32, chunk: &RowChunk, rows: &[usize]) -> Result<()> {
        self.keys.clear();
        for at in rows {
            match chunk.slot(*at) {
                NO_SLOT => self.keys.push(&[chunk.key(*at)]),
                slot => self.empty(slot, head),
            }
        }
        if self.keys.is_empty() {
            return Ok(());
        }
        self.make_resident(head)?;
        for slot in std::mem::take(&mut self.slots) {
            self.empty(slot, head);
        }
        Ok(())
    }

    fn empty(&mut self, slot: u32, head: u32) {
        self.touch(slot, head);
        self.values.add_weight(slot, head, -self.values.weight(slot));
    }

    /// Loads the rows of `keys` that are in the store only, of one head; `slots` are theirs.
    fn make_resident(&mut self, head: u32) -> Result<()> {
        let shard = self.heads.shard(head);
        self.rows.intern(&self.keys, Shards::Of(&|_| shard), &mut self.values, &mut self.slots)?;
        for at in 0..self.slots.len() {
            if self.values.head_of(self.slots[at]) == NONE {
                self.link(self.slots[at], head)?;
            }
        }
        Ok(())
    }

    /// Sets marks of rows of one head that were handed out in this step: `changes` are positions in `chunk` with the
    /// new mark.
    pub fn set_marks(&mut self, head: u32, chunk: &RowChunk, changes: &[(usize, i64)]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.keys.clear();
        let mut marks = Vec::new();
        for (at, mark) in changes {
            match chunk.slot(*at) {
                NO_SLOT => {
                    self.keys.push(&[chunk.key(*at)]);
                    marks.push(*mark);
                }
                slot => {
                    self.values.set_mark(slot, *mark);
                    self.rows.mark_dirty(slot);
                }
            }
        }
        self.make_resident(head)?;
        for (slot, mark) in self.slots.iter().zip(marks) {
            self.values.set_mark(*slot, mark);
            self.rows.mark_dirty(*slot);
        }
        Ok(())
    }

    /// Ends a step: no slot is held any more, rows of weight 0 are gone. A negative weight means that something was
    /// retracted that was never there.
    pub fn settle(&mut self) -> Result<()> {
        if self.touched.iter().any(|touched| self.values.weight(touched.slot) < 0) {
            return Err(SqlError::internal("rows were retracted that were never there"));
        }
        let rows = std::mem::take(&mut self.touched);
        for touched in &rows {
            self.values.set_touched_row(touched.slot, NONE);
            if self.values.weight(touched.slot) == 0 {
                self.remove_row(touched.slot, touched.head);
            }
        }
        let heads = std::mem::take(&mut self.touched_heads);
        for touched in &heads {
            self.values.set_touched_head(touched.head, NONE);
            self.remove_head_if_empty(touched.head);
        }
        (self.touched, self.touched_heads) = (emptied(rows), emptied(heads));
        self.maintain()
    }

    fn remove_row(&mut self, slot: u32, head: u32) {
        self.values.end(slot, head);
        self.rows.remove(slot, &mut self.values);
    }

    fn remove_head_if_empty(&mut self, head: u32) {
        if self.values.row_count(head) == 0 {
            self.heads.remove(head, &mut Heads(&mut self.values));
        } else {
            self.heads.mark_dirty(head);
        }
    }

    /// Drops every row of the windows that end at or before `end`. Tables with `RowShape::expiry` only; between steps.
    pub fn drop_windows(&mut self, end: i64) -> Result<()> {
        while let Some(first) = self.rows.first_end().filter(|first| *first <= end) {
            loop {
                for slot in self.rows.window_slots(first) {
                    let head = self.values.head_of(slot);
                    if head != NONE {
                        self.values.end(slot, head);
                    }
                    self.rows.remove(slot, &mut self.values);
                }
                self.rows.maintain(&mut self.values)?;
                if !self.rows.load_window(first, &mut self.values)? {
                    break;
                }
            }
        }
        while let Some(first) = self.heads.first_end().filter(|first| *first <= end) {
            loop {
                for slot in self.heads.window_slots(first) {
                    self.heads.remove(slot, &mut Heads(&mut self.values));
                }
                self.heads.maintain(&mut Heads(&mut self.values))?;
                if !self.heads.load_window(first, &mut Heads(&mut self.values))? {
                    break;
                }
            }
        }
        self.maintain()
    }

    /// The earliest window end that has rows. Tables with `RowShape::expiry` only.
    pub fn first_window(&self) -> Option<i64> {
        self.rows.first_end()
    }

    /// Gives back memory that is over this table's share; between steps.
    pub fn maintain(&mut self) -> Result<()> {
        // Twice, so that each knows what the others have, and heads whose rows left can leave too.
        for _ in 0..2 {
            self.rows.maintain(&mut self.values)?;
            self.heads.maintain(&mut Heads(&mut self.values))?;
            if let Some(retention) = &mut self.retention {
                retention.maintain()?;
            }
            if let Some((ttl, _)) = &mut self.ttl {
                ttl.maintain()?;
            }
        }
        self.count_bytes();
        Ok(())
    }

    fn count_bytes(&mut self) {
        let retention = self.retention.as_ref().map_or(0, Retention::bytes);
        let ttl = self.ttl.as_ref().map_or(0, |(ttl, _)| ttl.bytes());
        self.bytes = self.rows.bytes(&self.values) + self.heads.bytes(&Heads(&mut self.values)) + retention + ttl;
    }

    /// Memory at the end of the last step.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        let mut runs = vec![(self.id, self.rows.freeze(&mut self.values)?), (self.id, self.heads.freeze(&mut Heads(&mut self.values))?)];
        if let Some(retention) = &mut self.retention {
            runs.push((self.id, retention.freeze()?));
        }
        if let Some((ttl, _)) = &mut self.ttl {
            runs.extend(ttl.freeze()?);
        }
        Ok(runs)
    }

    /// What happened since the table was opened.
    pub fn counters(&self) -> StateCounters {
        let mut counters = self.rows.counters();
        counters += self.heads.counters();
        counters
    }
}

/// For the next step, with room for as much as most steps change.
fn emptied<T>(mut touched: Vec<T>) -> Vec<T> {
    touched.clear();
    touched.shrink_to(TOUCHED_KEPT);
    touched
}

#[cfg(test)]
mod tests;
