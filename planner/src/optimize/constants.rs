//! DataFusion's simplification, but for constants with marks of their types: it takes two that differ in these alone for different values, so that of `a = 1 AND a <> 1` it would leave the
//! first half. Where they are compared they lose the marks before, and what comes to such a constant, as `'orders'::regclass` does, is one before. And but for a long CASE (`long_case`). It does not know what else is simplified.

use super::corrected::{Corrected, Correction};
use super::{fold_constant, long_case, repeated};
use crate::bind::subquery;
use crate::functions::checked::rewrite_own;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// In the place of DataFusion's rule.
pub type Simplify = Corrected<SimplifyExpressions>;

impl Correction for SimplifyExpressions {
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let is_plain = |expr: &Expr| !expr.any(is_marked) && long_case::is_short(expr);
        let plain = changed(plan, is_plain, |expr| expr.up(unmarked)?.transform_data(long_case::hidden))?;
        let simplified = self.rewrite(plain.data, config)?;
        let shown = simplified.transform_data(|plan| changed(plan, long_case::is_short, long_case::shown))?;
        let mut simplified = shown.transform_data(repeated::once)?;
        simplified.transformed |= plain.transformed;
        Ok(simplified)
    }
}

/// A node whose own expressions are changed, names kept, if there is something to change in any of them.
fn changed(
    plan: LogicalPlan,
    stays: fn(&Expr) -> bool,
    change: fn(Expr) -> DfResult<Transformed<Expr>>,
) -> DfResult<Transformed<LogicalPlan>> {
    let mut all_stay = true;
    plan.each_own(|expr| {
        all_stay &= stays(expr);
        Ok(TreeNodeRecursion::Continue)
    })?;
    if all_stay { Ok(Transformed::no(plan)) } else { rewrite_own(plan, &change) }
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
