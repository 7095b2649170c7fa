//! A segment: immutable rows born at one epoch, and when each of them died. Its rows are in memory until it is frozen, and in
//! a mapped file from then on; a reader takes them as they are at that moment and may keep them.
//!
//! Deaths are written by whoever holds the shard's lock and read without it. A reader at E only needs the deaths up to E,
//! which happened before it started, so plain relaxed loads and stores suffice.

use super::file::{Place, SegmentDir};
use super::secondary::Sorted;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use eddyline_common::{Result, bytes_of};
use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The `died` epoch of a live row.
pub(super) const LIVE: u64 = u64::MAX;

pub(super) struct Segment {
    /// Names the segment in its shard while it is listed there; used again afterwards.
    pub slot: u32,
    pub born: u64,
    rows: RwLock<Rows>,
    len: usize,
    row_bytes: usize,
    /// Allocated at the first death.
    died: OnceLock<Box<[AtomicU64]>>,
    dead: AtomicUsize,
    first_death: AtomicU64,
    last_death: AtomicU64,
    /// Its rows in the order of secondary indexes.
    pub sorted: Sorted,
}

/// The rows and where they are.
struct Rows {
    batch: RecordBatch,
    at: Home,
}

enum Home {
    /// In memory, counted in the directory's tail if the view has one.
    Memory(Option<Arc<SegmentDir>>),
    File(Place),
    /// The segment is not listed any more; the rows are whoever's who still reads them, and counted in the directory.
    Nowhere(Option<Arc<SegmentDir>>),
}

impl Home {
    /// Rows of this home leave it.
    fn leave(&self, rows: usize, bytes: usize) {
        match self {
            Home::Memory(Some(dir)) => dir.tail_shrank(bytes),
            Home::File(place) => place.file.uncover(rows),
            Home::Memory(None) | Home::Nowhere(_) => {}
        }
    }
}

/// How much of a segment a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visible {
    Nothing,
    Everything,
    /// What the mask says.
    Masked,
}

impl Segment {
    /// A segment in memory; `dir` is where the view would freeze it.
    pub(super) fn new(slot: u32, rows: RecordBatch, born: u64, dir: Option<Arc<SegmentDir>>) -> Self {
        let row_bytes = bytes_of(&rows);
        if let Some(dir) = &dir {
            dir.tail_grew(row_bytes);
        }
        Self::at(slot, rows, row_bytes, born, Home::Memory(dir))
    }

    /// A segment whose rows are in a file.
    pub(super) fn frozen(slot: u32, rows: RecordBatch, born: u64, place: Place) -> Self {
        place.file.cover(rows.num_rows());
        let row_bytes = bytes_of(&rows);
        Self::at(slot, rows, row_bytes, born, Home::File(place))
    }

    fn at(slot: u32, batch: RecordBatch, row_bytes: usize, born: u64, at: Home) -> Self {
        Segment {
            slot,
            born,
            len: batch.num_rows(),
            row_bytes,
            rows: RwLock::new(Rows { batch, at }),
            died: OnceLock::new(),
            dead: AtomicUsize::new(0),
            first_death: AtomicU64::new(LIVE),
            last_death: AtomicU64::new(0),
            sorted: Sorted::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Costs a few reference counts, not a copy.
    pub(super) fn rows(&self) -> RecordBatch {
        self.rows.read().batch.clone()
    }

    /// Where the rows are, if they are frozen.
    pub(super) fn place(&self) -> Option<Place> {
        match &self.rows.read().at {
            Home::File(place) => Some(place.clone()),
            Home::Memory(_) | Home::Nowhere(_) => None,
        }
    }

    /// The rows are in a file now, or in another one than before.
    pub(super) fn freeze(&self, batch: RecordBatch, place: Place) {
        debug_assert_eq!(batch.num_rows(), self.len, "a frozen segment has the same rows");
        place.file.cover(self.len);
        let before = std::mem::replace(&mut *self.rows.write(), Rows { batch, at: Home::File(place) });
        before.at.leave(self.len, self.row_bytes);
    }

    /// The segment is not listed any more; `dir` is the view's.
    pub(super) fn retire(&self, dir: Option<&Arc<SegmentDir>>) {
        dir.inspect(|dir| dir.held_grew(self.row_bytes));
        let before = std::mem::replace(&mut self.rows.write().at, Home::Nowhere(dir.cloned()));
        before.leave(self.len, self.row_bytes);
    }

    /// Rows that died at any epoch.
    pub(super) fn dead(&self) -> usize {
        self.dead.load(Ordering::Acquire)
    }

    /// Size of the rows, wherever they are.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Memory of the segment: rows in a file take none.
    pub(super) fn bytes(&self) -> usize {
        let rows = if self.place().is_none() { self.row_bytes } else { 0 };
        rows + self.died.get().map_or(0, |d| d.len() * size_of::<AtomicU64>()) + self.sorted.bytes()
    }

    pub(super) fn died(&self, row: usize) -> u64 {
        self.died.get().map_or(LIVE, |died| died[row].load(Ordering::Relaxed))
    }

    /// Marks a live row dead. The caller holds the shard's lock.
    pub(super) fn kill(&self, row: u32, epoch: u64) {
        let died = self.died.get_or_init(|| (0..self.len()).map(|_| AtomicU64::new(LIVE)).collect());
        died[row as usize].store(epoch, Ordering::Relaxed);
        if epoch < self.first_death.load(Ordering::Relaxed) {
            self.first_death.store(epoch, Ordering::Relaxed);
        }
        if epoch > self.last_death.load(Ordering::Relaxed) {
            self.last_death.store(epoch, Ordering::Relaxed);
        }
        // After the rest: whoever sees the count sees an epoch at least as late as every death in it.
        self.dead.store(self.dead.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(super) fn visible(&self, epoch: u64) -> Visible {
        let dead = self.dead();
        if self.born > epoch || (dead == self.len() && self.last_death.load(Ordering::Relaxed) <= epoch) {
            Visible::Nothing
        } else if self.first_death.load(Ordering::Relaxed) > epoch {
            Visible::Everything
        } else {
            Visible::Masked
        }
    }

    /// Which of `len` rows from `offset` die after `epoch`, if ever.
    pub(super) fn outlives(&self, epoch: u64, offset: usize, len: usize) -> BooleanBuffer {
        self.deaths(offset, len, |died| died > epoch)
    }

    /// Which of `len` rows from `offset` have a `died` epoch that passes the test.
    pub(super) fn deaths(&self, offset: usize, len: usize, test: impl Fn(u64) -> bool) -> BooleanBuffer {
        match self.died.get() {
            None if test(LIVE) => BooleanBuffer::new_set(len),
            None => BooleanBuffer::new_unset(len),
            Some(died) => {
                let died = &died[offset..offset + len];
                BooleanBuffer::collect_bool(len, |row| test(died[row].load(Ordering::Relaxed)))
            }
        }
    }

    /// Whether any row may have died in `(after, to]`.
    pub(super) fn may_die_in(&self, after: u64, to: u64) -> bool {
        self.first_death.load(Ordering::Relaxed) <= to && self.last_death.load(Ordering::Relaxed) > after
    }

    /// How many rows a reader at `epoch` sees.
    pub(super) fn count_at(&self, epoch: u64) -> usize {
        if self.born > epoch {
            return 0;
        }
        let dead = self.dead();
        if self.last_death.load(Ordering::Relaxed) <= epoch {
            return self.len() - dead;
        }
        self.len() - self.count_dead(epoch)
    }

    /// How many rows died at or before `epoch`.
    pub(super) fn count_dead(&self, epoch: u64) -> usize {
        if self.first_death.load(Ordering::Relaxed) > epoch {
            return 0;
        }
        self.died.get().map_or(0, |died| died.iter().filter(|d| d.load(Ordering::Relaxed) <= epoch).count())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Files outlive their view's process: the next one may find them useful.
        match &self.rows.get_mut().at {
            Home::Memory(Some(dir)) => dir.tail_shrank(self.row_bytes),
            Home::Nowhere(Some(dir)) => dir.held_shrank(self.row_bytes),
            Home::Memory(None) | Home::Nowhere(None) | Home::File(_) => {}
        }
    }
}

/// A batch from columns; also without columns.
pub(super) fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))?)
}

pub(super) fn take(rows: &RecordBatch, indices: &dyn Array) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(|c| compute::take(c, indices, None)).collect::<Result<Vec<_>, _>>()?;
    batch_of(&rows.schema(), columns, indices.len())
}

/// The rows of `keep`; without copying if that is all of them.
pub(super) fn filter(rows: &RecordBatch, keep: BooleanBuffer) -> Result<RecordBatch> {
    if keep.count_set_bits() == rows.num_rows() {
        return Ok(rows.clone());
    }
    Ok(compute::filter_record_batch(rows, &BooleanArray::new(keep, None))?)
}
