//! What a step touched, with the results before it, and from that the net changes at its end.

use crate::accumulators::{Output, unfit};
use crate::operator::StepContext;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{SortOptions, interleave, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use eddyline_common::{ChangeBatch, Result, SqlError, SqlType};
use std::collections::VecDeque;
use std::sync::Arc;

/// The slots that one batch was the first of its step to touch.
#[derive(Default)]
pub(super) struct Chunk {
    pub slots: Vec<u32>,
    /// Their group columns in output order, if they were taken from the input.
    pub groups: Option<Vec<ArrayRef>>,
    pub old_weights: Vec<i64>,
    pub old: Vec<Output>,
}

#[derive(Default)]
pub(super) struct Memo {
    chunks: VecDeque<Chunk>,
    touched: Vec<bool>,
}

impl Memo {
    /// The slots not touched before in this step, each once, and the rows they first appear in.
    pub(super) fn touch(&mut self, slots: &[u32], capacity: usize) -> (Vec<u32>, Vec<u32>) {
        self.touched.resize(capacity, false);
        let (mut new, mut rows) = (Vec::new(), Vec::new());
        for (row, slot) in slots.iter().enumerate() {
            let touched = &mut self.touched[*slot as usize];
            if !*touched {
                *touched = true;
                new.push(*slot);
                rows.push(row as u32);
            }
        }
        (new, rows)
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.chunks.push_back(chunk);
    }

    /// The next chunk whose changes are told. The step has ended when there is none.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        chunk.slots.iter().for_each(|slot| self.touched[*slot as usize] = false);
        Some(chunk)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// When a group is there regardless of its weight.
#[derive(Clone, Copy)]
pub(super) struct Presence {
    /// It is the group of an empty key,
    pub always: bool,
    /// and was there before the step.
    pub existed: bool,
}

/// What a group shows.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Nothing,
    Row,
    /// A result does not fit its type, so the row is rejected.
    Rejected,
}

impl Chunk {
    /// Emits `-old +new` where they differ, and the same for rejected rows.
    pub(super) fn emit_changes(
        &self,
        presence: Presence,
        weights: &[i64],
        new: &[Output],
        groups: &[ArrayRef],
        schema: &SchemaRef,
        ctx: &mut StepContext,
    ) -> Result<()> {
        let rows = self.slots.len();
        let changed = self.changed(new)?;
        let (old_unfit, new_unfit) = (out_of_range(&self.old, rows), out_of_range(new, rows));
        let shown = |there: bool, unfit: &Option<(BooleanBuffer, SqlError)>, i: usize| match unfit {
            _ if !there => Shown::Nothing,
            Some((unfit, _)) if unfit.value(i) => Shown::Rejected,
            _ => Shown::Row,
        };
        // Indices into (old, new) with their weights.
        let (mut emitted, mut rejected) = (Picked::default(), Picked::default());
        #[allow(clippy::needless_range_loop)] // `i` indexes several columns side by side
        for i in 0..rows {
            let before = shown(self.old_weights[i] > 0 || presence.always && presence.existed, &old_unfit, i);
            let after = shown(weights[i] > 0 || presence.always, &new_unfit, i);
            if before == after && !changed.value(i) {
                continue;
            }
            for (shown, side) in [(before, 0), (after, 1)] {
                match shown {
                    Shown::Nothing => {}
                    Shown::Row => emitted.push(side, i),
                    Shown::Rejected => rejected.push(side, i),
                }
            }
        }
        if !emitted.is_empty() {
            ctx.emit(emitted.changes(groups, &self.old, new, schema)?);
        }
        if !rejected.is_empty() {
            let changes = rejected.changes(groups, &self.old, new, &nullable(schema))?;
            let reason =
                new_unfit.or(old_unfit).map_or_else(|| SqlError::internal("a row was rejected without a reason"), |(_, reason)| reason);
            ctx.reject(changes, reason)?;
        }
        Ok(())
    }

    /// Where any result differs.
    fn changed(&self, new: &[Output]) -> Result<BooleanBuffer> {
        let mut changed = BooleanBuffer::new_unset(self.slots.len());
        for (old, new) in self.old.iter().zip(new) {
            changed = &changed | &differ(&old.values, &new.values)?;
        }
        Ok(changed)
    }
}

fn differ(old: &ArrayRef, new: &ArrayRef) -> Result<BooleanBuffer> {
    if let (Some(old), Some(new)) =
        (old.as_primitive_opt::<arrow::datatypes::Int64Type>(), new.as_primitive_opt::<arrow::datatypes::Int64Type>())
        && old.null_count() + new.null_count() == 0
    {
        let (old, new) = (old.values(), new.values());
        return Ok(BooleanBuffer::collect_bool(old.len(), |i| old[i] != new[i]));
    }
    if super::is_flat(old.data_type()) {
        return Ok(distinct(old, new)?.values().clone());
    }
    let compare = arrow::array::make_comparator(old, new, SortOptions::default())?;
    Ok(BooleanBuffer::collect_bool(old.len(), |i| compare(i, i).is_ne()))
}

/// Rows to emit: (0 for old and 1 for new, index).
#[derive(Default)]
struct Picked {
    rows: Vec<(usize, usize)>,
}

impl Picked {
    fn push(&mut self, side: usize, row: usize) {
        self.rows.push((side, row));
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn changes(&self, groups: &[ArrayRef], old: &[Output], new: &[Output], schema: &SchemaRef) -> Result<ChangeBatch> {
        let indices = UInt32Array::from_iter_values(self.rows.iter().map(|(_, row)| *row as u32));
        let mut columns = groups.iter().map(|g| take(g, &indices, None)).collect::<Result<Vec<_>, _>>()?;
        for (old, new) in old.iter().zip(new) {
            columns.push(interleave(&[old.values.as_ref(), new.values.as_ref()], &self.rows)?);
        }
        let weights = Int64Array::from_iter_values(self.rows.iter().map(|(side, _)| 2 * *side as i64 - 1));
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        Ok(ChangeBatch::with_weights(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?, weights))
    }
}

/// The rows with a result that does not fit its type, and the error that says so.
pub(crate) fn out_of_range(results: &[Output], rows: usize) -> Option<(BooleanBuffer, SqlError)> {
    let first = results.iter().find(|result| result.out_of_range.is_some())?;
    let error = SqlType::from_arrow(first.values.data_type()).map_or_else(|| SqlError::internal("a result has no type"), |ty| unfit(&ty));
    let mut any = BooleanBuffer::new_unset(rows);
    for result in results {
        if let Some(unfit) = &result.out_of_range {
            any = &any | unfit;
        }
    }
    Some((any, error))
}

/// The same columns, all nullable: what does not fit is shown as null.
pub(crate) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}
