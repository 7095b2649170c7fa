//! Subqueries that stand for a value and may have no row. DataFusion takes the value to be null only if the subquery's column may be, and folds what is asked of it
//! accordingly; so it goes through a function that may give null. It does not know how the subquery is run.

use super::alternatives::recomputed;
use super::outer;
use crate::functions::checked::rewrite_own;
use crate::functions::{OR_NULL, registry};
use crate::walk::Walk;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{Expr, LogicalPlan};

pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let mut any = false;
    outer::transform_up(plan, |node, _| {
        let node = node.transform_data(|node| rewrite_own(node, &or_null))?;
        // What may be null may be so for all nodes above.
        any |= node.transformed;
        if any { recomputed(node.data) } else { Ok(node.data) }
    })
}

fn or_null(expr: Expr) -> DfResult<Transformed<Expr>> {
    expr.down(|e| match e {
        Expr::ScalarSubquery(subquery) if never_null(&subquery.subquery) && !has_a_row(&subquery.subquery) => {
            let value = registry().udf(OR_NULL)?.call(vec![Expr::ScalarSubquery(subquery)]);
            Ok(Transformed::new(value, true, TreeNodeRecursion::Jump))
        }
        // A view's query has been gone through before.
        Expr::ScalarFunction(call) if call.func.name() == OR_NULL => {
            Ok(Transformed::new(Expr::ScalarFunction(call), false, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })
}

/// Whether an expression is a subquery that may have none, whatever DataFusion says of its value.
pub fn may_have_no_row(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(subquery) if !has_a_row(&subquery.subquery))
}

/// Whether the value is not null in any row that there is.
fn never_null(plan: &LogicalPlan) -> bool {
    plan.schema().fields().first().is_some_and(|field| !field.is_nullable())
}

/// Whether a plan has a row whatever it reads.
fn has_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => has_a_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_a_row(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        LogicalPlan::Values(_) => true,
        _ => false,
    }
}
