//! Pre-aggregation: makes few rows of many, before they are exchanged for an aggregate. What a batch has of rows that are equal in the key
//! columns adds as much to it as these do (all weights together n; of a column that is summed, s the sum, and m the weights where
//! it is not null):
//! - a row of weight 1 with every s and every extreme;
//! - rows with zeros in the place of sums for the rest of n, a column null once its m is used up; mostly that is one row.
//!
//! Without merged columns there is one row, of weight n. Nothing is kept between batches, so what comes out has the tag of what went in, and late rows
//! are left as they are. A batch of which not much would be saved passes as it is, and so do some behind it, twice as many each time.
//! Knows no aggregate, and no other worker.

use super::aggregate::split_late;
use crate::operator::{Operator, StepContext};
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, DynComparator, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, make_comparator,
};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, SchemaRef};
use eddyline_common::key::{KeyCodec, KeyRows, hash64};
use eddyline_common::{ChangeBatch, Result, SqlError, TaggedBatch, Timestamp};
use eddyline_planner::plan::{LateRows, Merge};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::sync::Arc;

/// Batches that pass before another attempt, at most.
const PAUSE_MAX: u32 = 64;
/// Of fewer rows there is nothing to save.
const ROWS_MIN: usize = 4;

pub struct PreAggregate {
    merged: Vec<(usize, Merge)>,
    window: Option<LateRows>,
    /// The columns in which rows that become one are equal.
    keys: Vec<usize>,
    codec: KeyCodec,
    alone: bool,
    /// How many batches to let pass, and how many it were after the last attempt that saved nothing.
    passing: u32,
    pause: u32,
    encoded: KeyRows,
    by_key: HashTable<u32>,
    /// The group of each row of a batch, and the first row of each group.
    groups: Vec<u32>,
    firsts: Vec<u32>,
}

impl PreAggregate {
    /// `alone`: all rows stay on one worker anyway.
    pub fn new(keys: Vec<usize>, merged: Vec<(usize, Merge)>, window: Option<LateRows>, input: &SchemaRef, alone: bool) -> Result<Self> {
        let fits = |(column, merge): &(usize, Merge)| match input.fields().get(*column).map(|field| field.data_type()) {
            Some(ty) => *merge != Merge::Sum || matches!(ty, DataType::Int64 | DataType::Decimal128(_, _)),
            None => false,
        };
        if !merged.iter().all(fits) || keys.iter().any(|c| *c >= input.fields().len()) {
            return Err(SqlError::internal("a column that cannot be merged before its aggregate"));
        }
        let codec = KeyCodec::exact(keys.iter().map(|c| input.field(*c).data_type().clone()).collect())?;
        Ok(PreAggregate {
            merged,
            window,
            keys,
            codec,
            alone,
            passing: 0,
            pause: 0,
            encoded: KeyRows::default(),
            by_key: HashTable::new(),
            groups: Vec::new(),
            firsts: Vec::new(),
        })
    }

    /// Numbers groups of rows as they come; false if there are so many that little would be saved.
    fn number(&mut self, changes: &ChangeBatch) -> bool {
        let rows = changes.num_rows();
        let groups_max = rows / if self.merged.is_empty() { 2 } else { 4 };
        self.groups.clear();
        self.firsts.clear();
        if self.keys.is_empty() {
            self.groups.resize(rows, 0);
            self.firsts.push(0);
            return true;
        }
        let columns: Vec<ArrayRef> = self.keys.iter().map(|c| changes.rows.column(*c).clone()).collect();
        self.codec.encode(&columns, rows, &mut self.encoded);
        self.by_key.clear();
        let PreAggregate { encoded, by_key, groups, firsts, .. } = self;
        for row in 0..rows {
            let key = encoded.row(row);
            let of = |group: &u32, firsts: &[u32]| encoded.row(firsts[*group as usize] as usize);
            let entry = by_key.entry(hash64(key), |group| of(group, firsts) == key, |group| hash64(of(group, firsts)));
            groups.push(match entry {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(_) if firsts.len() == groups_max => return false,
                Entry::Vacant(entry) => {
                    entry.insert(firsts.len() as u32);
                    firsts.push(row as u32);
                    firsts.len() as u32 - 1
                }
            });
        }
        true
    }

    /// Fewer rows that say the same; `None` if they would not be much fewer, or a sum does not fit.
    fn merge(&mut self, changes: &ChangeBatch) -> Result<Option<ChangeBatch>> {
        if !self.number(changes) {
            return Ok(None);
        }
        let of =
            Groups { of_rows: &self.groups, number: self.firsts.len(), weights: changes.weights.as_ref().map(|w| w.values().as_ref()) };
        let totals = of.weights(|_| true);
        let mut columns = Vec::with_capacity(self.merged.len());
        for (column, merge) in &self.merged {
            match Merged::of(changes.rows.column(*column), *merge, &of)? {
                Some(merged) => columns.push(merged),
                None => return Ok(None),
            }
        }
        let mut few = Few::default();
        let mut open = Vec::with_capacity(columns.len());
        for (group, first) in self.firsts.iter().enumerate() {
            few.add(*first, group, totals[group], &columns, &mut open);
        }
        if few.rows.len() >= changes.num_rows() {
            return Ok(None);
        }
        few.into_changes(changes, &self.merged, columns).map(Some)
    }
}

impl Operator for PreAggregate {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        if self.alone || batch.changes.num_rows() < ROWS_MIN {
            ctx.emit_tagged(batch);
            return Ok(());
        }
        if self.passing > 0 {
            self.passing -= 1;
            ctx.emit_tagged(batch);
            return Ok(());
        }
        let TaggedBatch { changes, arrival_watermark, now } = batch;
        let tagged = |changes| TaggedBatch { changes, arrival_watermark, now };
        let (late, changes) = match self.window {
            Some(LateRows { end, allowed_lateness }) => split_late(changes, end, allowed_lateness, arrival_watermark)?,
            None => (None, changes),
        };
        late.into_iter().for_each(|late| ctx.emit_tagged(tagged(late)));
        if changes.num_rows() < ROWS_MIN {
            if !changes.is_empty() {
                ctx.emit_tagged(tagged(changes));
            }
            return Ok(());
        }
        match self.merge(&changes)? {
            Some(few) => {
                self.pause = 0;
                ctx.emit_tagged(tagged(few));
            }
            None => {
                self.pause = (self.pause * 2).clamp(1, PAUSE_MAX);
                self.passing = self.pause;
                ctx.emit_tagged(tagged(changes));
            }
        }
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
}

/// Which row of a batch is in which group, and how much it counts.
struct Groups<'a> {
    of_rows: &'a [u32],
    number: usize,
    /// `None`: all +1.
    weights: Option<&'a [i64]>,
}

impl Groups<'_> {
    #[inline]
    fn weight(&self, row: usize) -> i64 {
        self.weights.map_or(1, |weights| weights[row])
    }

    /// The weights of each group's rows, together.
    fn weights(&self, counts: impl Fn(usize) -> bool) -> Vec<i64> {
        let mut sums = vec![0; self.number];
        (0..self.of_rows.len()).filter(|row| counts(*row)).for_each(|row| sums[self.of_rows[row] as usize] += self.weight(row));
        sums
    }

    /// The row of each group that no other one is better than, of those that have a value.
    fn best(&self, values: &ArrayRef, better: impl Fn(usize, usize) -> bool) -> Vec<Option<u32>> {
        let mut best = vec![None; self.number];
        for row in (0..self.of_rows.len()).filter(|row| values.is_valid(*row)) {
            let best = &mut best[self.of_rows[row] as usize];
            if best.is_none_or(|at| better(row, at as usize)) {
                *best = Some(row as u32);
            }
        }
        best
    }
}

/// A merged column by groups.
struct Merged {
    lead: Lead,
    /// Where how many values there are counts, and some are null: the weights of those that are not.
    present: Option<Vec<i64>>,
}

enum Lead {
    Sums(Vec<i128>),
    /// Rows whose value stands for the group's.
    Rows(Vec<Option<u32>>),
}

impl Merged {
    /// `None` if a sum does not fit its type.
    fn of(values: &ArrayRef, merge: Merge, of: &Groups) -> Result<Option<Merged>> {
        let compare = || -> Result<DynComparator> { Ok(make_comparator(values, values, SortOptions::default())?) };
        let lead = match merge {
            Merge::Sum => match sums(values, of) {
                Some(sums) => Lead::Sums(sums),
                None => return Ok(None),
            },
            Merge::Count => Lead::Rows(of.best(values, |_, _| false)),
            Merge::Min => {
                let compare = compare()?;
                Lead::Rows(of.best(values, |a, b| compare(a, b).is_lt()))
            }
            Merge::Max => {
                let compare = compare()?;
                Lead::Rows(of.best(values, |a, b| compare(a, b).is_gt()))
            }
        };
        let counts = matches!(merge, Merge::Sum | Merge::Count) && values.null_count() > 0;
        Ok(Some(Merged { lead, present: counts.then(|| of.weights(|row| values.is_valid(row))) }))
    }

    /// Whether a group adds something in this column, beyond how many rows it has.
    fn adds(&self, group: usize) -> bool {
        let counted = self.present.as_ref().is_some_and(|present| present[group] != 0);
        counted || matches!(&self.lead, Lead::Sums(sums) if sums[group] != 0)
    }
}

/// Every value as often as its row counts, added up by group.
fn sums(values: &ArrayRef, of: &Groups) -> Option<Vec<i128>> {
    let mut sums = vec![0i128; of.number];
    match values.data_type() {
        DataType::Int64 => {
            let numbers = values.as_primitive::<Int64Type>();
            for row in (0..numbers.len()).filter(|row| numbers.is_valid(*row)) {
                sums[of.of_rows[row] as usize] += numbers.value(row) as i128 * of.weight(row) as i128;
            }
            sums.iter().all(|sum| i64::try_from(*sum).is_ok()).then_some(sums)
        }
        _ => {
            let numbers = values.as_primitive::<Decimal128Type>();
            for row in (0..numbers.len()).filter(|row| numbers.is_valid(*row)) {
                let sum = &mut sums[of.of_rows[row] as usize];
                *sum = sum.checked_add(numbers.value(row).checked_mul(of.weight(row) as i128)?)?;
            }
            Some(sums)
        }
    }
}

/// What a cell of the few rows holds of its group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Lead,
    /// Nothing but that there is a value.
    Filler,
    Null,
}

#[derive(Default)]
struct Few {
    /// A row of the batch that has the group's keys, the group, and the weight.
    rows: Vec<u32>,
    groups: Vec<u32>,
    weights: Vec<i64>,
    /// Row by row, as many as there are merged columns.
    cells: Vec<Cell>,
}

impl Few {
    fn push(&mut self, first: u32, group: usize, weight: i64) {
        self.rows.push(first);
        self.groups.push(group as u32);
        self.weights.push(weight);
    }

    /// The rows of one group, of so much weight. `open` is for the columns with nulls: how often each is still there.
    fn add(&mut self, first: u32, group: usize, total: i64, columns: &[Merged], open: &mut Vec<(i64, usize)>) {
        if total == 0 && !columns.iter().any(|column| column.adds(group)) {
            return;
        }
        if columns.is_empty() {
            return self.push(first, group, total);
        }
        self.push(first, group, 1);
        open.clear();
        for (at, column) in columns.iter().enumerate() {
            let there = column.present.is_none() || column.adds(group);
            self.cells.push(if there { Cell::Lead } else { Cell::Null });
            open.extend(column.present.as_ref().map(|present| (present[group] - there as i64, at)));
        }
        open.sort_unstable();
        let mut used = 0;
        for at in 0..=open.len() {
            let next = open.get(at).map_or(total - 1, |(left, _)| *left);
            if next != used {
                self.push(first, group, next - used);
                let is_open = |column: usize| open[at..].iter().any(|(_, open)| *open == column);
                let there = |(at, column): (usize, &Merged)| column.present.is_none() || is_open(at);
                self.cells.extend(columns.iter().enumerate().map(|column| if there(column) { Cell::Filler } else { Cell::Null }));
                used = next;
            }
        }
    }

    fn into_changes(self, of: &ChangeBatch, merged: &[(usize, Merge)], columns: Vec<Merged>) -> Result<ChangeBatch> {
        let rows = UInt32Array::from(self.rows);
        let width = columns.len();
        let cells = |at: usize| self.cells.iter().skip(at).step_by(width).zip(&self.groups);
        let mut arrays = Vec::with_capacity(of.rows.num_columns());
        for (column, values) in of.rows.columns().iter().enumerate() {
            let Some(at) = merged.iter().position(|(merged, _)| *merged == column) else {
                arrays.push(take(values, &rows, None)?);
                continue;
            };
            arrays.push(match &columns[at].lead {
                Lead::Sums(sums) => summed(
                    values.data_type(),
                    cells(at).map(|(cell, group)| match cell {
                        Cell::Lead => Some(sums[*group as usize]),
                        Cell::Filler => Some(0),
                        Cell::Null => None,
                    }),
                ),
                Lead::Rows(of) => {
                    let rows = cells(at).map(|(cell, group)| of[*group as usize].filter(|_| *cell != Cell::Null));
                    take(values, &UInt32Array::from_iter(rows), None)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let rows = RecordBatch::try_new_with_options(of.rows.schema(), arrays, &options)?;
        Ok(ChangeBatch::with_weights(rows, Int64Array::from(self.weights)))
    }
}

fn summed(ty: &DataType, sums: impl Iterator<Item = Option<i128>>) -> ArrayRef {
    match ty {
        // They were seen to fit.
        DataType::Int64 => Arc::new(Int64Array::from_iter(sums.map(|sum| sum.map(|sum| sum as i64)))),
        _ => Arc::new(Decimal128Array::from_iter(sums).with_data_type(ty.clone())),
    }
}

#[cfg(test)]
mod tests;
