//! What an ASOF join shows: left rows beside right ones, or, if it is an outer join, beside nulls; as bytes, until they are worth decoding.

use crate::layout::RowLayout;
use crate::operator::StepContext;
use crate::operators::scan::assemble;
use arrow::array::{ArrayRef, Int64Array, new_null_array};
use arrow::datatypes::SchemaRef;
use eddyline_common::key::KeyRows;
use eddyline_common::{ChangeBatch, Result, SqlError};
use eddyline_planner::plan::JoinKind;

/// Rows emitted in one batch.
pub(super) const OUTPUT_ROWS: usize = if cfg!(test) { 5 } else { 16 * 1024 };

pub(super) struct Output {
    outer: bool,
    schema: SchemaRef,
    /// A right row that is null in every column, as it is stored.
    nothing: Vec<u8>,
    left: KeyRows,
    right: KeyRows,
    weights: Vec<i64>,
    /// Rows emitted since somebody began to count.
    pub emitted: usize,
}

impl Output {
    pub(super) fn new(kind: JoinKind, inputs: &[SchemaRef; 2], schema: SchemaRef) -> Result<Self> {
        let [left, right] = [0, 1].map(|side| inputs[side].fields().len());
        if schema.fields().len() != left + right || !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return Err(SqlError::internal("the columns of an ASOF join do not fit its inputs"));
        }
        Ok(Output {
            outer: kind == JoinKind::Left,
            schema,
            nothing: vec![0; right],
            left: KeyRows::default(),
            right: KeyRows::default(),
            weights: Vec::new(),
            emitted: 0,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }

    /// A left row with its right row and its weight, before the step and after it.
    pub(super) fn change(&mut self, left: &[u8], right: [Option<&[u8]>; 2], weights: [i64; 2]) {
        let ([before, after], [old, new]) = (right, weights);
        if before == after {
            return self.push(left, after, new - old);
        }
        self.push(left, before, -old);
        self.push(left, after, new);
    }

    fn push(&mut self, left: &[u8], right: Option<&[u8]>, weight: i64) {
        if weight == 0 || right.is_none() && !self.outer {
            return;
        }
        self.left.push(&[left]);
        self.right.push(&[right.unwrap_or(&self.nothing)]);
        self.weights.push(weight);
    }

    pub(super) fn flush(&mut self, layouts: [&RowLayout; 2], ctx: &mut StepContext) -> Result<()> {
        let weights = std::mem::take(&mut self.weights);
        let mut columns = layouts[0].decode(&self.left)?;
        columns.extend(layouts[1].decode(&self.right)?);
        self.left.clear();
        self.right.clear();
        self.emit(columns, weights, ctx)
    }

    /// Left rows that match nothing.
    pub(super) fn emit_unmatched(&mut self, changes: ChangeBatch, ctx: &mut StepContext) -> Result<()> {
        let rows = changes.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let weights = (0..rows).map(|row| changes.weight(row)).collect();
        let mut columns = changes.rows.columns().to_vec();
        let width = columns.len();
        columns.extend(self.schema.fields()[width..].iter().map(|f| new_null_array(f.data_type(), rows)));
        self.emit(columns, weights, ctx)
    }

    fn emit(&mut self, columns: Vec<ArrayRef>, weights: Vec<i64>, ctx: &mut StepContext) -> Result<()> {
        self.emitted += weights.len();
        let rows = assemble(&self.schema, columns, weights.len())?;
        ctx.emit(ChangeBatch::with_weights(rows, Int64Array::from(weights)));
        Ok(())
    }
}
