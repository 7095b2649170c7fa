//! DataFusion's simplification, but for constants with marks of their types: it takes two that differ in these alone for different values, so that of `a = 1 AND a <> 1` it would leave the
//! first half. Where they are compared they lose the marks before. It does not know what else is simplified.

use crate::walk::{Walk, WalkPlan};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// It takes the place of DataFusion's rule, and has its name.
#[derive(Debug, Default)]
pub struct Simplify(SimplifyExpressions);

impl OptimizerRule for Simplify {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let names = NamePreserver::new(&plan);
        let plain = plan.map_own(|expr| {
            if !expr.any(is_marked) {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            Ok(expr.up(unmarked)?.update_data(|expr| name.restore(expr)))
        })?;
        let mut simplified = self.0.rewrite(plain.data, config)?;
        simplified.transformed |= plain.transformed;
        Ok(simplified)
    }
}

/// Whether a constant is compared that has a mark.
fn is_marked(expr: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return false };
    let is_compared = matches!(op, Operator::Eq | Operator::NotEq);
    let has_mark = |side: &Expr| matches!(side, Expr::Literal(_, Some(_)));
    is_compared && (has_mark(left) || has_mark(right))
}

/// A comparison whose constants are plain ones: an oid is the same number as a function's.
fn unmarked(mut expr: Expr) -> DfResult<Transformed<Expr>> {
    if !is_marked(&expr) {
        return Ok(Transformed::no(expr));
    }
    if let Expr::BinaryExpr(BinaryExpr { left, right, .. }) = &mut expr {
        for side in [left, right] {
            if let Expr::Literal(_, mark) = side.as_mut() {
                *mark = None;
            }
        }
    }
    Ok(Transformed::yes(expr))
}
