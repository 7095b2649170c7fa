//! What a join emits of left rows and the right rows that they were matched with: pairs that pass the residual condition, and with an outer
//! join the left rows without one. Its output only grows, unless its pairs have weights.

use crate::expr::{NowHandle, Predicate};
use crate::operator::StepContext;
use crate::operators::scan::assemble;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{not, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use eddyline_common::{ChangeBatch, Result, SqlError};
use eddyline_planner::plan::{Expr, JoinKind};
use std::sync::Arc;

pub(super) struct Matched {
    pub outer: bool,
    both: SchemaRef,
    output: SchemaRef,
    residual: Option<Predicate>,
}

/// The types that both sides' keys are compared by.
pub(super) fn key_types(keys: &[Vec<usize>; 2], inputs: &[SchemaRef; 2]) -> Result<Vec<DataType>> {
    let [left, right] = [0, 1]
        .map(|side| keys[side].iter().map(|k| inputs[side].fields().get(*k).map(|f| f.data_type().clone())).collect::<Option<Vec<_>>>());
    left.filter(|left| right.as_ref() == Some(left)).ok_or_else(|| SqlError::internal("a join compares keys of different types"))
}

impl Matched {
    /// `kind` is Inner or Left; `residual` is over the left columns and then the right ones.
    pub(super) fn new(
        kind: JoinKind,
        inputs: &[SchemaRef; 2],
        output: SchemaRef,
        residual: Option<&Expr>,
        now: &NowHandle,
    ) -> Result<Self> {
        let both: Vec<_> = inputs.iter().flat_map(|input| input.fields().iter().cloned()).collect();
        if output.fields().len() != both.len() || !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return Err(SqlError::internal("a join of versions does not fit its inputs"));
        }
        let both = Arc::new(Schema::new(both));
        let residual = residual.map(|e| Predicate::new(e, &both, now)).transpose()?;
        Ok(Matched { outer: kind == JoinKind::Left, both, output, residual })
    }

    /// Pairs by their rows, in order; which left rows are in one that passes is noted.
    pub(super) fn pairs(
        &self,
        left: &ChangeBatch,
        right: &[ArrayRef],
        rows: (Vec<u32>, Vec<u32>),
        matched: &mut [bool],
        ctx: &mut StepContext,
    ) -> Result<Option<ChangeBatch>> {
        self.weighted_pairs(left, right, rows, None, matched, ctx)
    }

    /// The same with a weight for each pair; `None`: each is there once.
    pub(super) fn weighted_pairs(
        &self,
        left: &ChangeBatch,
        right: &[ArrayRef],
        (left_rows, right_rows): (Vec<u32>, Vec<u32>),
        weights: Option<Vec<i64>>,
        matched: &mut [bool],
        ctx: &mut StepContext,
    ) -> Result<Option<ChangeBatch>> {
        if left_rows.is_empty() {
            return Ok(None);
        }
        let (left_at, right_at) = (UInt32Array::from(left_rows.clone()), UInt32Array::from(right_rows));
        let mut columns = left.rows.columns().iter().map(|c| take(c, &left_at, None)).collect::<Result<Vec<_>, _>>()?;
        columns.extend(right.iter().map(|c| take(c, &right_at, None)).collect::<Result<Vec<_>, _>>()?);
        let Some(residual) = &self.residual else {
            left_rows.iter().for_each(|row| matched[*row as usize] = true);
            let rows = assemble(&self.output, columns, left_rows.len())?;
            return Ok(Some(ChangeBatch { rows, weights: weights.map(Int64Array::from) }));
        };
        let rows = assemble(&self.both, columns, left_rows.len())?;
        let once = vec![1; if weights.is_none() { rows.num_rows() } else { 0 }];
        let passing = residual.passing(&rows, weights.as_ref().unwrap_or(&once), ctx)?;
        passing.iter().for_each(|at| matched[left_rows[*at as usize] as usize] = true);
        let passed = ChangeBatch { rows, weights: weights.map(Int64Array::from) }.take(&UInt32Array::from(passing))?;
        let (columns, count) = (passed.rows.columns().to_vec(), passed.num_rows());
        Ok(if count > 0 { Some(passed.with_rows(assemble(&self.output, columns, count)?)) } else { None })
    }

    /// Left rows that match nothing, each as often as it is there.
    pub(super) fn alone(&self, left: &ChangeBatch, rows: impl Iterator<Item = u32>) -> Result<ChangeBatch> {
        let copies = rows.flat_map(|row| std::iter::repeat_n(row, left.weight(row as usize).max(0) as usize));
        let at = UInt32Array::from_iter_values(copies);
        self.widened(&ChangeBatch::insertions(left.rows.clone()).take(&at)?)
    }

    /// Left rows that match nothing, with their weights.
    pub(super) fn widened(&self, left: &ChangeBatch) -> Result<ChangeBatch> {
        let (mut columns, rows) = (left.rows.columns().to_vec(), left.num_rows());
        let width = columns.len();
        columns.extend(self.output.fields()[width..].iter().map(|f| new_null_array(f.data_type(), rows)));
        Ok(left.with_rows(assemble(&self.output, columns, rows)?))
    }
}

/// The rows in which none of some columns is null, and the others if there are any.
pub(super) fn without_nulls(changes: &ChangeBatch, columns: &[usize]) -> Result<(ChangeBatch, Option<ChangeBatch>)> {
    let of = |column: &usize| changes.rows.column(*column).logical_nulls();
    let nulls = columns.iter().fold(None, |all: Option<NullBuffer>, c| NullBuffer::union(all.as_ref(), of(c).as_ref()));
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return Ok((changes.clone(), None)) };
    let valid = BooleanArray::new(nulls.into_inner(), None);
    Ok((changes.filter(&valid)?, Some(changes.filter(&not(&valid)?)?)))
}

/// The columns of a batch that make a key.
pub(super) fn columns_at(changes: &ChangeBatch, at: &[usize]) -> Vec<ArrayRef> {
    at.iter().map(|column| changes.rows.column(*column).clone()).collect()
}
