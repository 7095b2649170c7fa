//! What a materialized view cannot hold yet, found on the bound plan, before any rewrite but that of LATERAL hides what the user
//! wrote. One sentence names the construct, a hint says what to do instead.

use super::arrival;
use crate::optimize::correlation::first_misread;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};
use eddyline_common::{Result, SqlError};

/// Functions that say something of who calls them. What they say to the one who makes a view would stay for all.
const OF_SESSION: [&str; 12] = [
    "current_role",
    "current_setting",
    "current_user",
    "inet_client_addr",
    "pg_backend_pid",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_my_temp_schema",
    "session_user",
    "txid_current",
    "txid_current_if_assigned",
    "user",
];

/// Refuses with 0A000 what the lowering has no operator for.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    let misread = first_misread(plan).and_then(|what| match what {
        Some(what) => refused(&format!("{what} in a subquery that names columns of the query around it"), SUBQUERY_HINT),
        None => Ok(()),
    });
    misread.map_err(|e| crate::error::from_datafusion(e, None))?;
    let checked = plan.each_with_subqueries(|node| {
        node_supported(node)?;
        arrival::check(node)?;
        node.each_own(|expr| {
            expr.each(|e| {
                expr_supported(e)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    });
    checked.map(|_| ()).map_err(|e| crate::error::from_datafusion(e, None))
}

const SUBQUERY_HINT: &str = "Write it as a join, or with EXISTS, or compute it in a view of its own.";
const LATERAL_HINT: &str =
    "Let it name the query around it in equalities with its own columns only, in WHERE or its select list, and join it ON TRUE.";

fn refused(what: &str, hint: &str) -> DfResult<()> {
    let error = SqlError::unsupported(format!("{what} is not supported in a materialized view")).with_hint(hint);
    Err(DataFusionError::External(Box::new(error)))
}

fn node_supported(node: &LogicalPlan) -> DfResult<()> {
    match node {
        LogicalPlan::RecursiveQuery(_) => refused("WITH RECURSIVE", "Run the recursive query as a SELECT."),
        _ => Ok(()),
    }
}

fn expr_supported(expr: &Expr) -> DfResult<()> {
    match expr {
        Expr::SetComparison(_) => refused("ANY or ALL over a subquery", "Compute the set in a view of its own."),
        Expr::Unnest(_) => refused("UNNEST in this place", "Unnest in FROM, or as an item of the select list."),
        Expr::Placeholder(_) => refused("a parameter", "Write the value into the statement."),
        Expr::ScalarFunction(call) if OF_SESSION.contains(&call.func.name()) => {
            refused(&format!("function {}()", call.func.name()), "It tells of a session: call it in the queries that read the view.")
        }
        _ => Ok(()),
    }
}

/// Refuses subqueries that no join stands for, on the optimised plan.
pub fn check_unnested(plan: &LogicalPlan) -> Result<()> {
    check_subqueries(plan, |_| true)?;
    check_conditions(plan)
}

/// Refuses conditions on a query further out than the one around: DataFusion joins them where that query's columns are not.
fn check_conditions(plan: &LogicalPlan) -> Result<()> {
    let checked = plan.each(|node| {
        if !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_)) {
            return Ok(TreeNodeRecursion::Continue);
        }
        let inputs = node.inputs();
        let is_there = |column: &Column| inputs.iter().any(|input| input.schema().has_column(column));
        node.each_own(|expr| {
            if !expr.column_refs().into_iter().all(is_there) {
                refused("this reference to an outer query", SUBQUERY_HINT)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(TreeNodeRecursion::Continue)
    });
    checked.map(|_| ()).map_err(|e| crate::error::from_datafusion(e, None))
}

/// Refuses correlated subqueries, on a plan that the optimiser failed on: of those that it makes no join of it may have lost a column.
pub fn check_correlated(plan: &LogicalPlan) -> Result<()> {
    check_subqueries(plan, |subquery| !subquery.outer_ref_columns.is_empty())
}

fn check_subqueries(plan: &LogicalPlan, refuses: fn(&Subquery) -> bool) -> Result<()> {
    let checked = plan.each(|node| {
        if let LogicalPlan::Subquery(subquery) = node
            && refuses(subquery)
        {
            let has_limit = subquery.subquery.any(|node| matches!(node, LogicalPlan::Limit(_)));
            refused(if has_limit { "LIMIT in this lateral subquery" } else { "this lateral subquery" }, LATERAL_HINT)?;
        }
        node.each_own(|expr| {
            expr.each(|e| {
                match e {
                    Expr::ScalarSubquery(subquery) if refuses(subquery) => refused("this scalar subquery", SUBQUERY_HINT)?,
                    Expr::InSubquery(within) if refuses(&within.subquery) => refused("IN (SELECT ...) in this place", SUBQUERY_HINT)?,
                    Expr::Exists(exists) if refuses(&exists.subquery) => refused("EXISTS in this place", SUBQUERY_HINT)?,
                    Expr::OuterReferenceColumn(_, _) => refused("this reference to an outer query", SUBQUERY_HINT)?,
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    });
    checked.map(|_| ()).map_err(|e| crate::error::from_datafusion(e, None))
}
