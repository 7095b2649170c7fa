//! Pairs of rows from many keys, until they are worth decoding: two pools of rows and, as indices into them, the pairs. Rows
//! that were scanned although the step did not change them are noted with how many rows they match.

use super::Join;
use super::output::Alone;
use super::side::Side;
use crate::operator::StepContext;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use eddyline_common::Result;
use eddyline_storage::state::{NO_SLOT, RowChunk};
use std::ops::Range;

/// Pairs that are tested and emitted together: enough to amortise it, few enough for the cache.
pub(super) const PAIRS: usize = if cfg!(test) { 12 } else { 16 * 1024 };
/// Rows of a pool that are decoded together.
const POOL_ROWS: usize = if cfg!(test) { 20 } else { 16 * 1024 };

/// Rows of one key that a scan found, as a range of their side's pool.
pub(super) struct Scanned {
    pub side: usize,
    pub head: u32,
    pub rows: Range<usize>,
    /// Weights that match each of the rows, before and after the step, if no residual condition decides.
    pub matches: [i64; 2],
}

pub(super) struct Pairs {
    /// Left columns, then right ones.
    schema: SchemaRef,
    pub pools: [RowChunk; 2],
    rows: [Vec<u32>; 2],
    changes: Vec<i64>,
    scanned: Vec<Scanned>,
    /// By side and touched row of the step: the weights that match it, before and after. With a residual condition only.
    pub touched_matches: [Vec<[i64; 2]>; 2],
}

impl Pairs {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let touched_matches = Default::default();
        Pairs { schema, pools: Default::default(), rows: Default::default(), changes: Vec::new(), scanned: Vec::new(), touched_matches }
    }

    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= PAIRS || self.pools.iter().any(|pool| pool.len() >= POOL_ROWS)
    }

    /// Every row of one range with every row of another. `all`: also those that change nothing, which tell who matches whom.
    pub(super) fn cross(&mut self, left: Range<usize>, right: Range<usize>, all: bool) {
        let [left_pool, right_pool] = &self.pools;
        for l in left {
            let (old, new) = (left_pool.old_weights()[l], left_pool.weights()[l]);
            for r in right.clone() {
                let change = new * right_pool.weights()[r] - old * right_pool.old_weights()[r];
                if change != 0 || all {
                    self.rows[0].push(l as u32);
                    self.rows[1].push(r as u32);
                    self.changes.push(change);
                }
            }
        }
    }

    pub(super) fn note_scanned(&mut self, scanned: Scanned) {
        if !scanned.rows.is_empty() {
            self.scanned.push(scanned);
        }
    }

    fn clear(&mut self) {
        self.pools.iter_mut().for_each(RowChunk::clear);
        self.rows.iter_mut().for_each(Vec::clear);
        self.changes.clear();
        self.scanned.clear();
    }
}

impl Join {
    /// Tests the collected pairs, emits those that match and what scanned rows show on their own, and starts anew.
    pub(super) fn flush(&mut self, ctx: &mut StepContext) -> Result<()> {
        let pairs = &self.pairs;
        if pairs.changes.is_empty() && pairs.scanned.is_empty() {
            self.pairs.clear();
            return Ok(());
        }
        let mut columns = [Vec::new(), Vec::new()];
        for (side, columns) in columns.iter_mut().enumerate() {
            if self.kind.shows_pairs() || self.residual.is_some() || self.kind.shows_alone(side) {
                *columns = self.sides[side].layout.columns(&pairs.pools[side])?;
            }
        }
        let mut matches = [Vec::new(), Vec::new()];
        if self.residual.is_some() {
            self.keep_matching(&columns, ctx)?;
            for side in 0..2 {
                if self.kind.shows_alone(side) {
                    matches[side] = self.count_matches(side);
                }
            }
        }
        for side in 0..2 {
            if self.kind.shows_alone(side) {
                self.show_scanned(side, &columns[side], &matches[side], ctx)?;
            }
        }
        if self.kind.shows_pairs() {
            self.pairs.drop_unchanged();
            let Pairs { rows: [left, right], changes, .. } = &mut self.pairs;
            if !changes.is_empty() {
                self.output.emit_pairs([&columns[0], &columns[1]], [left, right], std::mem::take(changes), ctx)?;
            }
        }
        self.pairs.clear();
        Ok(())
    }

    /// Leaves the pairs that pass the residual condition.
    fn keep_matching(&mut self, columns: &[Vec<ArrayRef>; 2], ctx: &mut StepContext) -> Result<()> {
        let (Some(residual), pairs) = (&self.residual, &mut self.pairs) else { return Ok(()) };
        if pairs.changes.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(pairs.schema.fields().len());
        for (columns, rows) in columns.iter().zip(&pairs.rows) {
            let rows = UInt32Array::from(rows.clone());
            for column in columns {
                all.push(take(column, &rows, None)?);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.changes.len()));
        let rows = RecordBatch::try_new_with_options(pairs.schema.clone(), all, &options)?;
        let passing = residual.passing(&rows, &pairs.changes, ctx)?;
        for rows in &mut pairs.rows {
            *rows = passing.iter().map(|at| rows[*at as usize]).collect();
        }
        pairs.changes = passing.iter().map(|at| pairs.changes[*at as usize]).collect();
        Ok(())
    }

    /// By row of a side's pool: the weights of the rows it is paired with, before and after the step. Adds to those of rows
    /// that the step changed.
    fn count_matches(&mut self, side: usize) -> Vec<[i64; 2]> {
        let pairs = &mut self.pairs;
        let (own, other) = (&pairs.pools[side], &pairs.pools[1 - side]);
        let mut matches = vec![[0, 0]; own.len()];
        for (row, partner) in pairs.rows[side].iter().zip(&pairs.rows[1 - side]) {
            let weights = [other.old_weights()[*partner as usize], other.weights()[*partner as usize]];
            let matches = match own.touched()[*row as usize] {
                NO_SLOT => &mut matches[*row as usize],
                touched => &mut pairs.touched_matches[side][touched as usize],
            };
            matches[0] += weights[0];
            matches[1] += weights[1];
        }
        matches
    }

    /// What the scanned rows of a side that the step did not change show on their own, now that the rows they match changed.
    fn show_scanned(&mut self, side: usize, columns: &[ArrayRef], matches: &[[i64; 2]], ctx: &mut StepContext) -> Result<()> {
        let (mut changes, mut marks) = (Vec::new(), Vec::new());
        let Join { pairs, sides, output, residual, .. } = self;
        let (Side { rows, .. }, pool) = (&mut sides[side], &pairs.pools[side]);
        for scanned in pairs.scanned.iter().filter(|scanned| scanned.side == side) {
            marks.clear();
            for row in scanned.rows.clone() {
                if pool.touched()[row] != NO_SLOT {
                    continue;
                }
                let mut matching = scanned.matches;
                if residual.is_some() {
                    let mark = pool.marks()[row];
                    let new = mark + matches[row][1] - matches[row][0];
                    if new != mark {
                        marks.push((row, new));
                    }
                    matching = [mark, new];
                }
                let weight = pool.weights()[row];
                output.alone_changes(row as u32, Alone { matches: matching, weights: [weight, weight] }, &mut changes);
            }
            if !marks.is_empty() {
                rows.set_marks(scanned.head, pool, &marks)?;
            }
        }
        output.emit_alone(side, columns, &changes, ctx)
    }
}

impl Pairs {
    fn drop_unchanged(&mut self) {
        if self.changes.iter().all(|change| *change != 0) {
            return;
        }
        let changes = &self.changes;
        for rows in &mut self.rows {
            let mut at = 0;
            rows.retain(|_| {
                at += 1;
                changes[at - 1] != 0
            });
        }
        self.changes.retain(|change| *change != 0);
    }
}
