//! What a join shows: pairs, rows of one side with nulls for the other, rows of the left side alone, or with a mark.

use crate::operator::StepContext;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use eddyline_common::{ChangeBatch, Result, SqlError};
use eddyline_planner::plan::{ChangelogMode, JoinKind};

/// What is emitted before what is below in the plan gets its turn.
const EMIT_ROWS: usize = if cfg!(test) { 8 } else { 256 * 1024 };
const EMIT_BYTES: usize = 16 << 20;

pub(super) struct Output {
    kind: JoinKind,
    /// Number of columns of each side.
    widths: [usize; 2],
    schema: SchemaRef,
    append: bool,
    /// Rows and bytes emitted since much of it was told of.
    emitted: (usize, usize),
}

/// How many rows matched a row before and after the step, and its own weights.
#[derive(Clone, Copy)]
pub(super) struct Alone {
    pub matches: [i64; 2],
    pub weights: [i64; 2],
}

impl Output {
    pub(super) fn new(kind: JoinKind, inputs: &[SchemaRef; 2], schema: SchemaRef, mode: ChangelogMode) -> Result<Self> {
        let widths = [inputs[0].fields().len(), inputs[1].fields().len()];
        let width = match kind {
            JoinKind::Semi | JoinKind::Anti => widths[0],
            JoinKind::Mark => widths[0] + 1,
            _ => widths[0] + widths[1],
        };
        if schema.fields().len() != width {
            return Err(SqlError::internal("a join's columns do not fit its inputs"));
        }
        Ok(Output { kind, widths, schema, append: mode == ChangelogMode::Append, emitted: (0, 0) })
    }

    /// Much was emitted since it last said so: what is below in the plan is to get its turn.
    pub(super) fn has_emitted_much(&mut self) -> bool {
        let (rows, bytes) = self.emitted;
        let is_much = rows >= EMIT_ROWS || bytes >= EMIT_BYTES;
        if is_much {
            self.emitted = (0, 0);
        }
        is_much
    }

    /// Pairs of rows by their indices, with the changes of their weights, none zero.
    pub(super) fn emit_pairs(
        &mut self,
        columns: [&[ArrayRef]; 2],
        rows: [&[u32]; 2],
        changes: Vec<i64>,
        ctx: &mut StepContext,
    ) -> Result<()> {
        let mut all = taken(columns[0], rows[0])?;
        all.extend(taken(columns[1], rows[1])?);
        self.emit(all, changes, ctx)
    }

    /// The changes that rows of one side bring about on their own: (row, change, mark).
    pub(super) fn alone_changes(&self, row: u32, alone: Alone, out: &mut Vec<(u32, i64, bool)>) {
        let shown = |when: usize, matched: bool| if (alone.matches[when] > 0) == matched { alone.weights[when] } else { 0 };
        let mut push = |matched: bool| {
            let change = shown(1, matched) - shown(0, matched);
            if change != 0 {
                out.push((row, change, matched));
            }
        };
        match self.kind {
            JoinKind::Semi => push(true),
            JoinKind::Mark => {
                push(true);
                push(false);
            }
            _ => push(false),
        }
    }

    /// Emits what `alone_changes` collected for rows of `side`.
    pub(super) fn emit_alone(
        &mut self,
        side: usize,
        columns: &[ArrayRef],
        changes: &[(u32, i64, bool)],
        ctx: &mut StepContext,
    ) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let rows: Vec<u32> = changes.iter().map(|(row, ..)| *row).collect();
        let own = taken(columns, &rows)?;
        let marks = || BooleanArray::from(changes.iter().map(|(.., mark)| *mark).collect::<Vec<_>>());
        let all = self.extended(side, own, rows.len(), marks);
        self.emit(all, changes.iter().map(|(_, change, _)| *change).collect(), ctx)
    }

    /// Rows of `side` that match nothing.
    pub(super) fn emit_unmatched(&mut self, side: usize, changes: ChangeBatch, ctx: &mut StepContext) -> Result<()> {
        let rows = changes.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let all = self.extended(side, changes.rows.columns().to_vec(), rows, || BooleanArray::from(vec![false; rows]));
        let weights = changes.weights.map_or_else(|| vec![1; rows], |w| w.values().to_vec());
        self.emit(all, weights, ctx)
    }

    /// One side's columns with what stands for the other side.
    fn extended(&self, side: usize, own: Vec<ArrayRef>, rows: usize, marks: impl FnOnce() -> BooleanArray) -> Vec<ArrayRef> {
        let nulls =
            |columns: std::ops::Range<usize>| columns.map(|c| new_null_array(self.schema.field(c).data_type(), rows)).collect::<Vec<_>>();
        match (self.kind, side) {
            (JoinKind::Semi | JoinKind::Anti, _) => own,
            (JoinKind::Mark, _) => own.into_iter().chain([std::sync::Arc::new(marks()) as ArrayRef]).collect(),
            (_, 0) => [own, nulls(self.widths[0]..self.widths[0] + self.widths[1])].concat(),
            _ => [nulls(0..self.widths[0]), own].concat(),
        }
    }

    fn emit(&mut self, columns: Vec<ArrayRef>, changes: Vec<i64>, ctx: &mut StepContext) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(changes.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let once = changes.iter().all(|change| *change == 1);
        let changes = match (self.append, once) {
            (true, true) => ChangeBatch::insertions(rows),
            (true, false) => repeated(rows, &changes)?,
            (false, _) => ChangeBatch::with_weights(rows, Int64Array::from(changes)),
        };
        self.emitted.0 += changes.num_rows();
        self.emitted.1 += changes.bytes();
        ctx.emit(changes);
        Ok(())
    }
}

/// In an append-only stream a row that is there twice comes twice.
fn repeated(rows: RecordBatch, times: &[i64]) -> Result<ChangeBatch> {
    if times.iter().any(|times| *times < 0) {
        return Err(SqlError::internal("an append-only join has a retraction"));
    }
    let indices = times.iter().enumerate().flat_map(|(row, times)| std::iter::repeat_n(row as u32, *times as usize));
    Ok(ChangeBatch::insertions(rows).take(&UInt32Array::from_iter_values(indices))?)
}

/// The columns at `rows`; as they are if that is all of them in order.
fn taken(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let all = columns.first().is_none_or(|c| c.len() == rows.len()) && rows.iter().enumerate().all(|(at, row)| at == *row as usize);
    if all {
        return Ok(columns.to_vec());
    }
    let rows = UInt32Array::from(rows.to_vec());
    Ok(columns.iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?)
}
