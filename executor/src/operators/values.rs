//! Values: constant rows, emitted once in the life of a job, on one worker.

use crate::expr::literal_column;
use crate::operator::{Operator, StepContext};
use crate::operators::scan::assemble;
use arrow::datatypes::SchemaRef;
use eddyline_common::types::Column;
use eddyline_common::{ChangeBatch, Result, SqlError, TaggedBatch, Timestamp};
use eddyline_planner::plan::Literal;

/// `None` once the rows are out.
pub struct Values(Option<ChangeBatch>);

impl Values {
    /// `pending` is whether this worker has to emit the rows at all, and has not done so in an earlier step.
    pub fn new(rows: &[Vec<Literal>], columns: &[Column], output: &SchemaRef, pending: bool) -> Result<Self> {
        if rows.iter().any(|row| row.len() != columns.len()) {
            return Err(SqlError::internal("a row of constants has another number of columns than its node"));
        }
        let arrays = columns.iter().enumerate().map(|(i, c)| literal_column(&c.ty, rows.iter().map(|r| &r[i]))).collect::<Result<_>>()?;
        let batch = ChangeBatch::insertions(assemble(output, arrays, rows.len())?);
        Ok(Values(pending.then_some(batch)))
    }
}

impl Operator for Values {
    fn push(&mut self, _port: usize, _batch: TaggedBatch, _ctx: &mut StepContext) -> Result<()> {
        Err(SqlError::internal("constants have no input"))
    }

    fn finish(&mut self, _watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        if let Some(changes) = self.0.take() {
            // Nothing closes before the constants are in, so none of them is ever late.
            ctx.emit_tagged(TaggedBatch { changes, arrival_watermark: Timestamp::MIN, now: ctx.now });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, rows_of, schema};
    use eddyline_common::SqlType;
    use eddyline_planner::plan::LiteralValue;

    #[test]
    fn emits_once() {
        let literal = |v| Literal { ty: SqlType::BigInt, value: LiteralValue::Int(v) };
        let columns = [Column::new("a", SqlType::BigInt, true)];
        let output = schema(&[("a", SqlType::BigInt)]);
        let mut values = Values::new(&[vec![literal(1)], vec![literal(2)]], &columns, &output, true).unwrap();
        let mut ctx = context();
        values.finish(Timestamp::MAX, &mut ctx).unwrap();
        assert_eq!(rows_of(&ctx.take_output()), vec![(vec![1], 1), (vec![2], 1)]);
        values.finish(Timestamp::MAX, &mut ctx).unwrap();
        assert!(ctx.take_output().is_empty());
        let mut restored = Values::new(&[vec![literal(1)]], &columns, &output, false).unwrap();
        restored.finish(Timestamp::MAX, &mut ctx).unwrap();
        assert!(ctx.take_output().is_empty());
    }
}
