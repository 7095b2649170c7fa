//! DataFusion's simplification, but for constants with marks of their types: it takes two that differ in these alone for different values, so that of `a = 1 AND a <> 1` it would leave the
//! first half. Where they are compared they lose the marks before, and what comes to such a constant, as `'orders'::regclass` does, is one before. And but for a long CASE (`long_case`). It does not know what else is simplified.

use super::corrected::{Corrected, Correction};
use super::{fold_constant, long_case, repeated};
use crate::bind::subquery;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// In the place of DataFusion's rule.
pub type Simplify = Corrected<SimplifyExpressions>;

impl Correction for SimplifyExpressions {
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let names = NamePreserver::new(&plan);
        let plain = plan.map_own(|expr| {
            if !expr.any(is_marked) && long_case::is_short(&expr) {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            let plain = expr.up(unmarked)?.transform_data(long_case::hidden)?;
            Ok(plain.update_data(|expr| name.restore(expr)))
        })?;
        let simplified = self.rewrite(plain.data, config)?;
        let shown = |expr: Expr| {
            if long_case::is_short(&expr) {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            Ok(long_case::shown(expr)?.update_data(|expr| name.restore(expr)))
        };
        let mut simplified = simplified.transform_data(|plan| plan.map_own(shown))?.transform_data(repeated::once)?;
        simplified.transformed |= plain.transformed;
        Ok(simplified)
    }
}

/// Whether a constant is compared that has a mark.
fn is_marked(expr: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return false };
    matches!(op, Operator::Eq | Operator::NotEq) && (has_mark(left) || has_mark(right))
}

fn has_mark(side: &Expr) -> bool {
    let varies = |e: &Expr| {
        matches!(e, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::Placeholder(_))
            || subquery(e).is_some()
            || e.is_volatile_node()
    };
    match side {
        Expr::Literal(_, mark) => mark.is_some(),
        other => !other.any(varies) && other.to_field(&DFSchema::empty()).is_ok_and(|(_, field)| !field.metadata().is_empty()),
    }
}

/// A comparison whose constants are plain ones: an oid is the same number as a function's. What is no constant yet for want of a value stays as it is.
fn unmarked(mut expr: Expr) -> DfResult<Transformed<Expr>> {
    let mut changed = false;
    if let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &mut expr
        && matches!(op, Operator::Eq | Operator::NotEq)
    {
        for side in [left, right].into_iter().filter(|side| has_mark(side)) {
            if let Ok(Expr::Literal(value, _)) = fold_constant((**side).clone()) {
                **side = Expr::Literal(value, None);
                changed = true;
            }
        }
    }
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}
