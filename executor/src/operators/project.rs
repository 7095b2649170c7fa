//! Project: columns computed from each row.

use crate::expr::Projection;
use crate::operator::{Operator, StepContext};
use eddyline_common::{Result, TaggedBatch, Timestamp};

pub struct Project {
    projection: Projection,
}

impl Project {
    pub fn new(projection: Projection) -> Self {
        Project { projection }
    }
}

impl Operator for Project {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        let changes = self.projection.evaluate(&batch.changes, ctx)?;
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
    use crate::testing::{binary, column, context, int, net, schema, split, weighted};
    use eddyline_common::SqlType;
    use eddyline_planner::catalog::ErrorPolicy;
    use eddyline_planner::plan::{BinaryOp, Expr};

    fn project(exprs: &[Expr]) -> Project {
        let columns: Vec<(String, SqlType)> = (0..exprs.len()).map(|i| (format!("c{i}"), SqlType::BigInt)).collect();
        let output = schema(&columns.iter().map(|(n, t)| (n.as_str(), t.clone())).collect::<Vec<_>>());
        Project::new(Projection::new(exprs, &schema(&[("a", SqlType::BigInt)]), output, &NowHandle::default()).unwrap())
    }

    #[test]
    fn computes_under_any_splitting_and_rejects_with_weights() {
        let schema = schema(&[("a", SqlType::BigInt)]);
        let rows: Vec<(Vec<i64>, i64)> = (0..500).map(|i| (vec![i % 10], if i % 7 == 0 { -1 } else { 1 })).collect();
        for seed in 0..10 {
            let mut project = project(&[binary(BinaryOp::Divide, int(60), column(0)), column(0)]);
            let mut ctx = context();
            for piece in split(weighted(&schema, &rows, 0), seed) {
                project.push(0, piece, &mut ctx).unwrap();
            }
            let good: Vec<_> = rows.iter().filter(|(r, _)| r[0] != 0).map(|(r, w)| (vec![60 / r[0], r[0]], *w)).collect();
            let out_schema = ctx.take_output();
            let expected = weighted(&out_schema[0].changes.schema(), &good, 0);
            assert_eq!(net(&out_schema), net(&[expected]));
            let rejected: i64 = ctx.take_rejected().iter().map(|(_, c)| (0..c.num_rows()).map(|i| c.weight(i)).sum::<i64>()).sum();
            assert_eq!(rejected, rows.iter().filter(|(r, _)| r[0] == 0).map(|(_, w)| w).sum::<i64>());
        }
    }

    #[test]
    fn stops_by_policy() {
        let schema = schema(&[("a", SqlType::BigInt)]);
        let mut ctx = StepContext::new(eddyline_common::Epoch(1), Timestamp(0), Timestamp::MIN, ErrorPolicy::Stop);
        let mut project = project(&[binary(BinaryOp::Plus, column(0), int(1))]);
        let error = project.push(0, weighted(&schema, &[(vec![1], 1), (vec![i64::MAX], 1)], 0), &mut ctx).unwrap_err();
        assert_eq!(error.state.0, "22003");
    }
}
