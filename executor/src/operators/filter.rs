//! Filter: the rows for which a condition is true.

use crate::expr::Predicate;
use crate::operator::{Operator, StepContext};
use eddyline_common::{Result, TaggedBatch, Timestamp};

pub struct Filter {
    predicate: Predicate,
}

impl Filter {
    pub fn new(predicate: Predicate) -> Self {
        Filter { predicate }
    }
}

impl Operator for Filter {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let changes = self.predicate.filter(&batch.changes, ctx)?;
        ctx.emit_tagged(TaggedBatch { changes, ..batch });
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::NowHandle;
    use crate::testing::{batch, binary, column, context, int, net, schema, split, weighted};
    use eddyline_common::SqlType;
    use eddyline_planner::plan::{BinaryOp, Expr};

    fn filter(expr: &Expr) -> Filter {
        Filter::new(Predicate::new(expr, &schema(&[("a", SqlType::BigInt), ("b", SqlType::BigInt)]), &NowHandle::default()).unwrap())
    }

    #[test]
    fn keeps_weights_and_tags_under_any_splitting() {
        let schema = schema(&[("a", SqlType::BigInt), ("b", SqlType::BigInt)]);
        let rows: Vec<(Vec<i64>, i64)> = (0..200).map(|i| (vec![i % 17, i], if i % 3 == 0 { -1 } else { 1 })).collect();
        let expected: Vec<_> = rows.iter().filter(|(r, _)| r[0] < 5).cloned().collect();
        for seed in 0..10 {
            let mut filter = filter(&binary(BinaryOp::Lt, column(0), int(5)));
            let mut ctx = context();
            for piece in split(weighted(&schema, &rows, 3), seed) {
                filter.push(0, piece, &mut ctx).unwrap();
            }
            let out = ctx.take_output();
            assert!(out.iter().all(|b| b.arrival_watermark == Timestamp(3)));
            assert_eq!(net(&out), net(&[weighted(&schema, &expected, 3)]));
        }
    }

    #[test]
    fn rejects_failing_rows_alone() {
        let schema = schema(&[("a", SqlType::BigInt), ("b", SqlType::BigInt)]);
        let condition = binary(BinaryOp::Gt, binary(BinaryOp::Divide, int(10), column(0)), int(2));
        let mut ctx = context();
        filter(&condition).push(0, batch(&schema, &[&[1, 1], &[0, 2], &[9, 3], &[2, 4]], 0), &mut ctx).unwrap();
        assert_eq!(net(&ctx.take_output()), vec![(vec![1, 1], 1), (vec![2, 4], 1)]);
        let rejected = ctx.take_rejected();
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].0, "division by zero");
        assert_eq!(rejected[0].1.num_rows(), 1);
    }

    #[test]
    fn and_guards_the_right_side_in_every_batch() {
        let schema = schema(&[("a", SqlType::BigInt), ("b", SqlType::BigInt)]);
        let guard = binary(BinaryOp::NotEq, column(0), int(0));
        let condition = binary(BinaryOp::And, guard, binary(BinaryOp::GtEq, binary(BinaryOp::Divide, int(10), column(0)), int(5)));
        let rows: Vec<(Vec<i64>, i64)> = (0..1000).map(|i| (vec![i % 4, i], 1)).collect();
        for seed in 0..10 {
            let mut ctx = context();
            let mut filter = filter(&condition);
            for piece in split(weighted(&schema, &rows, 0), seed) {
                filter.push(0, piece, &mut ctx).unwrap();
            }
            assert!(ctx.take_rejected().is_empty());
            assert_eq!(ctx.take_output().iter().map(|b| b.changes.num_rows()).sum::<usize>(), 500);
        }
    }
}
