//! Rows as a multiset hands them out: their bytes one after the other, and columns of what belongs to them. A chunk is filled,
//! read, cleared and filled again. It knows nothing of where its rows came from.

use eddyline_common::key::KeyRows;

#[derive(Default)]
pub struct RowChunk {
    keys: KeyRows,
    starts: Vec<u32>,
    weights: Vec<i64>,
    olds: Vec<i64>,
    marks: Vec<i64>,
    slots: Vec<u32>,
    touched: Vec<u32>,
}

/// One row's columns.
pub(super) struct RowParts {
    /// Where the row itself begins within its key.
    pub start: u32,
    pub weight: i64,
    pub old: i64,
    pub mark: i64,
    pub slot: u32,
    pub touched: u32,
}

impl RowChunk {
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub fn clear(&mut self) {
        self.keys.clear();
        self.starts.clear();
        self.weights.clear();
        self.olds.clear();
        self.marks.clear();
        self.slots.clear();
        self.touched.clear();
    }

    /// Key, order and row in one piece.
    pub fn key(&self, at: usize) -> &[u8] {
        self.keys.row(at)
    }

    /// The row alone.
    pub fn row(&self, at: usize) -> &[u8] {
        &self.keys.row(at)[self.starts[at] as usize..]
    }

    /// Weights as of now.
    pub fn weights(&self) -> &[i64] {
        &self.weights
    }

    /// Weights before the step.
    pub fn old_weights(&self) -> &[i64] {
        &self.olds
    }

    pub fn marks(&self) -> &[i64] {
        &self.marks
    }

    /// Positions among the step's touched rows; `NO_SLOT` for a row that the step did not change.
    pub fn touched(&self) -> &[u32] {
        &self.touched
    }

    /// `NO_SLOT` for a row that is in the store only.
    pub(super) fn slot(&self, at: usize) -> u32 {
        self.slots[at]
    }

    pub(super) fn push(&mut self, key: &[u8], parts: RowParts) {
        self.keys.push(&[key]);
        self.starts.push(parts.start);
        self.weights.push(parts.weight);
        self.olds.push(parts.old);
        self.marks.push(parts.mark);
        self.slots.push(parts.slot);
        self.touched.push(parts.touched);
    }
}
