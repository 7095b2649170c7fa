//! What a materialized view cannot hold yet, found on the bound plan, before any rewrite but that of LATERAL hides what the user
//! wrote. One sentence names the construct, a hint says what to do instead.

use super::arrival;
use crate::optimize::correlation::first_misread;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use eddyline_common::{Result, SqlError};

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

const SUBQUERY_HINT: &str = "Write it as a join, or compute it in a view of its own.";
const LATERAL_LIMIT_HINT: &str =
    "Let it name the query around it in equalities with its own columns only, in WHERE or its select list, and join it ON TRUE.";

fn refused(what: &str, hint: &str) -> DfResult<()> {
    let error = SqlError::unsupported(format!("{what} is not supported in a materialized view")).with_hint(hint);
    Err(DataFusionError::External(Box::new(error)))
}

fn node_supported(node: &LogicalPlan) -> DfResult<()> {
    match node {
        LogicalPlan::Filter(filter) => split_conjunction(&filter.predicate).into_iter().try_for_each(in_subqueries_supported),
        LogicalPlan::RecursiveQuery(_) => refused("WITH RECURSIVE", "Run the recursive query as a SELECT."),
        _ => Ok(()),
    }
}

fn expr_supported(expr: &Expr) -> DfResult<()> {
    match expr {
        Expr::SetComparison(_) => refused("ANY or ALL over a subquery", "Compute the set in a view of its own."),
        Expr::Unnest(_) => refused("UNNEST in this place", "Unnest in FROM, or as an item of the select list."),
        Expr::Placeholder(_) => refused("a parameter", "Write the value into the statement."),
        _ => Ok(()),
    }
}

/// `IN (SELECT ...)` somewhere within a condition is joined as true or false; where it matters that it may be unknown, it is
/// refused.
fn in_subqueries_supported(condition: &Expr) -> DfResult<()> {
    match condition {
        Expr::InSubquery(_) | Expr::Exists(_) => Ok(()),
        Expr::Not(inner) if matches!(inner.as_ref(), Expr::InSubquery(_) | Expr::Exists(_)) => Ok(()),
        other => embedded_supported(other),
    }
}

fn embedded_supported(condition: &Expr) -> DfResult<()> {
    match condition {
        Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => {
            embedded_supported(&binary.left)?;
            embedded_supported(&binary.right)
        }
        Expr::InSubquery(subquery) if !subquery.negated => Ok(()),
        other if other.any(|e| matches!(e, Expr::InSubquery(_))) => {
            refused("NOT IN (SELECT ...), or IN (SELECT ...) within another expression than AND and OR,", "Use EXISTS or NOT EXISTS.")
        }
        _ => Ok(()),
    }
}

/// Refuses subqueries that no join stands for, on the optimised plan.
pub fn check_unnested(plan: &LogicalPlan) -> Result<()> {
    let checked = plan.each(|node| {
        match node {
            LogicalPlan::Subquery(subquery) if subquery.subquery.any(|node| matches!(node, LogicalPlan::Limit(_))) => {
                refused("LIMIT in this lateral subquery", LATERAL_LIMIT_HINT)?;
            }
            LogicalPlan::Subquery(_) => refused("this lateral subquery", SUBQUERY_HINT)?,
            _ => {}
        }
        node.each_own(|expr| {
            expr.each(|e| {
                match e {
                    Expr::ScalarSubquery(_) => refused("this scalar subquery", SUBQUERY_HINT)?,
                    Expr::InSubquery(_) => refused("IN (SELECT ...) in this place", SUBQUERY_HINT)?,
                    Expr::Exists(_) => refused("EXISTS in this place", SUBQUERY_HINT)?,
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
