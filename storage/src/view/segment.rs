//! A segment: immutable rows born at one epoch, and when each of them died.
//!
//! Deaths are written by whoever holds the shard's lock and read without it. A reader at E only needs the deaths up to E,
//! which happened before it started, so plain relaxed loads and stores suffice.

use super::persist::Persisted;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use eddyline_common::Result;
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The `died` epoch of a live row.
pub(super) const LIVE: u64 = u64::MAX;

pub(super) struct Segment {
    /// Names the segment in its shard while it is listed there; used again afterwards.
    pub slot: u32,
    pub rows: RecordBatch,
    pub born: u64,
    /// Allocated at the first death.
    died: OnceLock<Box<[AtomicU64]>>,
    dead: AtomicUsize,
    first_death: AtomicU64,
    last_death: AtomicU64,
    row_bytes: usize,
    /// Where the rows are in durable files. Touched by the maintenance thread alone.
    pub persisted: Mutex<Option<Persisted>>,
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
    pub(super) fn new(slot: u32, rows: RecordBatch, born: u64) -> Self {
        Segment {
            slot,
            row_bytes: memory_of(&rows),
            rows,
            born,
            died: OnceLock::new(),
            dead: AtomicUsize::new(0),
            first_death: AtomicU64::new(LIVE),
            last_death: AtomicU64::new(0),
            persisted: Mutex::new(None),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Rows that died at any epoch.
    pub(super) fn dead(&self) -> usize {
        self.dead.load(Ordering::Acquire)
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.row_bytes + self.died.get().map_or(0, |d| d.len() * size_of::<AtomicU64>())
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

/// Memory that these rows describe, whatever buffers they share.
pub(super) fn memory_of(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(c.get_array_memory_size())).sum()
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
