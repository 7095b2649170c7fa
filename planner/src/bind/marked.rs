//! Joins whose condition has a mark of the rewriter (`functions::as_of`): what the mark says, and another plan in the join's place. It does not know what
//! any mark means.

use crate::walk::{Walk, WalkPlan};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};

/// The argument of the mark, if the expression is one.
pub fn argument<'a>(e: &'a Expr, mark: &str) -> Option<&'a Expr> {
    match e {
        Expr::ScalarFunction(f) if f.func.name() == mark => f.args.first(),
        _ => None,
    }
}

/// Replaces every join whose condition has the mark.
pub fn replace_joins(plan: LogicalPlan, mark: &str, mut replace: impl FnMut(Join) -> DfResult<LogicalPlan>) -> DfResult<LogicalPlan> {
    let has_mark = |condition: &Expr| condition.any(|e| argument(e, mark).is_some());
    let rewritten = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if join.filter.as_ref().is_some_and(has_mark) => replace(join).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    });
    rewritten.map(|t| t.data)
}
