//! DISTINCT ON whose order names a column twice, in one spelling or another. What is sorted by already adds nothing, and DataFusion asserts that nothing is there again.

use crate::walk::WalkPlan;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

/// Leaves what is named first of every order.
pub fn rewrite(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plan = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Distinct(Distinct::On(mut distinct)) => {
            let is_shorter = distinct.sort_expr.as_mut().is_some_and(keep_first);
            let node = LogicalPlan::Distinct(Distinct::On(distinct));
            Ok(if is_shorter { Transformed::yes(node) } else { Transformed::no(node) })
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// Whether something was there again.
fn keep_first(order: &mut Vec<Sort>) -> bool {
    let length = order.len();
    let mut seen: Vec<Expr> = Vec::with_capacity(length);
    order.retain(|by| {
        let is_new = !seen.contains(&by.expr);
        seen.push(by.expr.clone());
        is_new
    });
    order.len() < length
}
