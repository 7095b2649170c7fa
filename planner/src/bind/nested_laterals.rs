//! LATERAL subqueries inside a join that stands on the right of another one, as in `a JOIN LATERAL (...) x JOIN c ON ... ON ...`, which name columns of the left one. The binder leaves such a subquery alone in
//! the inner join, where there is no outer row. So the inner join as a whole becomes what is asked of each left row, and the subquery is an input of it. It does not know what is asked.

use super::outer::is_lateral;
use crate::walk::WalkPlan;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, JoinType, Result as DfResult, Spans};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Subquery, SubqueryAlias};
use std::sync::Arc;

pub fn in_plan(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let asked = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if is_nested(&join) => lateral(join).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    });
    asked.map(|t| t.data)
}

fn is_nested(join: &Join) -> bool {
    let takes_rows = matches!(join.join_type, JoinType::Inner | JoinType::Left);
    takes_rows && matches!(join.right.as_ref(), LogicalPlan::Join(_)) && names_columns(&join.right, join.left.schema())
}

/// Whether a LATERAL subquery among the inputs of joins names columns of a left side.
fn names_columns(side: &LogicalPlan, left: &DFSchema) -> bool {
    match side {
        LogicalPlan::Join(join) => names_columns(&join.left, left) || names_columns(&join.right, left),
        LogicalPlan::SubqueryAlias(alias) if is_lateral(side) => names_columns(&alias.input, left),
        LogicalPlan::Subquery(subquery) => {
            subquery.outer_ref_columns.iter().any(|e| matches!(e, Expr::OuterReferenceColumn(_, column) if left.has_column(column)))
        }
        _ => false,
    }
}

fn lateral(join: Join) -> DfResult<LogicalPlan> {
    let subquery = input(Arc::unwrap_or_clone(join.right))?;
    let outer_ref_columns = subquery.all_out_ref_exprs();
    let right = LogicalPlan::Subquery(Subquery { subquery: Arc::new(subquery), outer_ref_columns, spans: Spans::new() });
    Ok(LogicalPlan::Join(Join { right: Arc::new(right), ..join }))
}

/// An input of a query: a LATERAL subquery there is one as any other, unless it is asked of the rows beside it.
fn input(side: LogicalPlan) -> DfResult<LogicalPlan> {
    match side {
        LogicalPlan::Join(join) => {
            let right = if names_columns(&join.right, join.left.schema()) {
                join.right
            } else {
                Arc::new(input(Arc::unwrap_or_clone(join.right))?)
            };
            let left = Arc::new(input(Arc::unwrap_or_clone(join.left))?);
            Ok(LogicalPlan::Join(Join { left, right, ..join }))
        }
        LogicalPlan::SubqueryAlias(SubqueryAlias { input: aliased, alias, .. }) if matches!(aliased.as_ref(), LogicalPlan::Subquery(_)) => {
            SubqueryAlias::try_new(Arc::new(input(Arc::unwrap_or_clone(aliased))?), alias).map(LogicalPlan::SubqueryAlias)
        }
        LogicalPlan::Subquery(subquery) => Ok(Arc::unwrap_or_clone(subquery.subquery)),
        other => Ok(other),
    }
}
