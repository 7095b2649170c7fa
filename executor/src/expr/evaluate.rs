//! Evaluation over change batches. A batch that fails is halved until the failing rows are found; those are rejected with
//! their weights and the others evaluated, so that the fate of a row does not depend on the batch it comes in. Pieces are copies: some of Arrow's
//! kernels look at all that is in a slice's buffers.

use crate::expr::compile::{compile, compile_as};
use crate::expr::special::NowHandle;
use crate::operator::StepContext;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState};
use eddyline_planner::functions::failed::{arrow_error, evaluation_error, is_row_error};
use eddyline_planner::plan::Expr;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Columns computed from rows, in the types of the output schema.
pub struct Projection {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
}

impl Projection {
    pub fn new(exprs: &[Expr], input: &SchemaRef, output: SchemaRef, now: &NowHandle) -> Result<Self> {
        if exprs.len() != output.fields().len() {
            return Err(SqlError::internal("a projection has another number of columns than its node"));
        }
        let exprs = exprs.iter().zip(output.fields()).map(|(e, f)| compile_as(e, f.data_type(), input, now)).collect::<Result<_>>()?;
        Ok(Projection { exprs, output })
    }

    /// The projected rows, without those that were rejected. Fails on an error that is not a row's, or by policy.
    pub fn evaluate(&self, changes: &ChangeBatch, ctx: &mut StepContext) -> Result<ChangeBatch> {
        evaluate_rows(changes, &self.output, &|piece| Ok(piece.with_rows(self.project(&piece.rows)?)), ctx)
    }

    /// All rows or an error.
    pub fn project(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.exprs.len());
        for (expr, field) in self.exprs.iter().zip(self.output.fields()) {
            let value = expr.evaluate(rows).map_err(evaluation_error)?;
            let column = value.into_array(rows.num_rows()).map_err(evaluation_error)?;
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(not_null_violation(field.name()));
            }
            columns.push(marked(column, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(self.output.clone(), columns, &options).map_err(SqlError::internal)
    }
}

/// The same values with what the type says of a list's items: of several lists a function gives the type of the first.
fn marked(column: ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    if column.data_type() == ty || !column.data_type().equals_datatype(ty) {
        return Ok(column);
    }
    arrow::compute::cast(&column, ty).map_err(arrow_error)
}

fn not_null_violation(column: &str) -> SqlError {
    SqlError::new(SqlState::NOT_NULL_VIOLATION, format!("null value in column \"{column}\" violates not-null constraint"))
}

/// A condition on rows.
pub struct Predicate {
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    none: ChangeBatch,
}

impl Predicate {
    pub fn new(expr: &Expr, input: &SchemaRef, now: &NowHandle) -> Result<Self> {
        let expr = compile(expr, input, now)?;
        match expr.data_type(input).map_err(evaluation_error)? {
            DataType::Boolean | DataType::Null => Ok(Predicate { expr, schema: input.clone(), none: ChangeBatch::empty(input.clone()) }),
            other => Err(SqlError::new(SqlState::DATATYPE_MISMATCH, format!("a condition must be boolean, not {other}"))),
        }
    }

    /// The rows for which the condition is true, without those that were rejected.
    pub fn filter(&self, changes: &ChangeBatch, ctx: &mut StepContext) -> Result<ChangeBatch> {
        evaluate_rows(changes, &self.schema, &|piece| self.keep(piece), ctx)
    }

    /// The indices of the rows for which the condition is true. Rows that fail are rejected with their `weights`.
    pub fn passing(&self, rows: &RecordBatch, weights: &[i64], ctx: &mut StepContext) -> Result<Vec<u32>> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        // Indices travel as weights do.
        let indices = Int64Array::from_iter_values(0..rows.num_rows() as i64);
        let changes = ChangeBatch::with_weights(rows.clone(), indices);
        let indices = |kept: &ChangeBatch| (0..kept.num_rows()).map(|row| kept.weight(row) as u32).collect::<Vec<_>>();
        match self.keep(&changes) {
            Err(error) if is_row_error(&error) => {}
            outcome => return outcome.map(|kept| indices(&kept)),
        }
        let mut search = Search { evaluate: &|piece| self.keep(piece), changes: &changes, good: Vec::new(), bad: BTreeMap::new() };
        search.halve(0, changes.num_rows())?;
        let Search { good, bad, .. } = search;
        for (_, (error, rows)) in bad {
            let weights = Int64Array::from_iter_values(rows.iter().map(|row| weights[*row as usize]));
            let failed = changes.take(&UInt32Array::from(rows)).map_err(arrow_error)?;
            ctx.reject(ChangeBatch::with_weights(failed.rows, weights), error)?;
        }
        Ok(good.iter().flat_map(indices).collect())
    }

    /// For which rows the condition is true. Fails if it does for any of them.
    pub fn holds(&self, rows: &RecordBatch) -> Result<BooleanBuffer> {
        let value = self.expr.evaluate(rows).map_err(evaluation_error)?;
        let mask = value.into_array(rows.num_rows()).map_err(evaluation_error)?;
        Ok(match mask.as_boolean_opt() {
            Some(mask) => mask.nulls().map_or_else(|| mask.values().clone(), |nulls| mask.values() & nulls.inner()),
            None => BooleanBuffer::new_unset(rows.num_rows()),
        })
    }

    fn keep(&self, changes: &ChangeBatch) -> Result<ChangeBatch> {
        let value = self.expr.evaluate(&changes.rows).map_err(evaluation_error)?;
        let mask = value.into_array(changes.num_rows()).map_err(evaluation_error)?;
        let Some(mask) = mask.as_boolean_opt() else { return Ok(self.none.clone()) };
        if mask.null_count() == 0 && !mask.has_false() {
            return Ok(changes.clone());
        }
        if !mask.has_true() {
            return Ok(self.none.clone());
        }
        changes.filter(mask).map_err(arrow_error)
    }
}

type Evaluate<'a> = &'a dyn Fn(&ChangeBatch) -> Result<ChangeBatch>;

fn evaluate_rows(changes: &ChangeBatch, output: &SchemaRef, evaluate: Evaluate, ctx: &mut StepContext) -> Result<ChangeBatch> {
    match evaluate(changes) {
        Err(error) if is_row_error(&error) => {}
        outcome => return outcome,
    }
    let mut search = Search { evaluate, changes, good: Vec::new(), bad: BTreeMap::new() };
    search.halve(0, changes.num_rows())?;
    for (_, (error, rows)) in search.bad {
        ctx.reject(changes.take(&UInt32Array::from(rows)).map_err(arrow_error)?, error)?;
    }
    ChangeBatch::concat(output, &search.good).map_err(arrow_error)
}

/// The state of a search for failing rows.
struct Search<'a> {
    evaluate: Evaluate<'a>,
    changes: &'a ChangeBatch,
    good: Vec<ChangeBatch>,
    /// By primary line, so that rows that fail for one reason make one batch.
    bad: BTreeMap<String, (SqlError, Vec<u32>)>,
}

impl Search<'_> {
    /// `start..start + length` failed together.
    fn halve(&mut self, start: usize, length: usize) -> Result<()> {
        let half = length / 2;
        for (start, length) in [(start, half), (start + half, length - half)] {
            if length == 0 {
                continue;
            }
            let rows = UInt32Array::from_iter_values(start as u32..(start + length) as u32);
            match (self.evaluate)(&self.changes.take(&rows).map_err(arrow_error)?) {
                Ok(piece) => self.good.push(piece),
                Err(error) if !is_row_error(&error) => return Err(error),
                Err(error) if length == 1 => {
                    self.bad.entry(error.message.clone()).or_insert_with(|| (error, Vec::new())).1.push(start as u32);
                }
                Err(_) => self.halve(start, length)?,
            }
        }
        Ok(())
    }
}
