//! What a materialized view cannot hold yet, found on the bound plan, before any rewrite hides what the user
//! wrote. One sentence names the construct, a hint says what to do instead.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan};
use eddyline_common::{Result, SqlError};

/// Refuses with 0A000 what the lowering has no operator for.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    let checked = plan.apply(|node| {
        node_supported(node)?;
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                expr_supported(e)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    });
    checked.map(|_| ()).map_err(|e| crate::error::from_datafusion(e, None))
}

fn refused(what: &str, hint: &str) -> DfResult<()> {
    let error = SqlError::unsupported(format!("{what} is not supported in a materialized view")).with_hint(hint);
    Err(DataFusionError::External(Box::new(error)))
}

fn node_supported(node: &LogicalPlan) -> DfResult<()> {
    match node {
        LogicalPlan::Join(_) => refused("a join", "Create a view per side and join them in a SELECT."),
        LogicalPlan::Unnest(_) => refused("UNNEST", "Unnest in the SELECT that reads the view."),
        LogicalPlan::RecursiveQuery(_) => refused("WITH RECURSIVE", "Run the recursive query as a SELECT."),
        LogicalPlan::Subquery(_) => refused("a lateral subquery", "Write the subquery without references to other tables."),
        _ => Ok(()),
    }
}

fn expr_supported(expr: &Expr) -> DfResult<()> {
    match expr {
        Expr::ScalarSubquery(_) => refused("a scalar subquery", "Compute the value in a view of its own."),
        Expr::InSubquery(_) => refused("IN (SELECT ...)", "Compute the set in a view of its own."),
        Expr::Exists(_) => refused("EXISTS", "Compute the set in a view of its own."),
        Expr::SetComparison(_) => refused("ANY or ALL over a subquery", "Compute the set in a view of its own."),
        Expr::Unnest(_) => refused("UNNEST", "Unnest in the SELECT that reads the view."),
        Expr::Placeholder(_) => refused("a parameter", "Write the value into the statement."),
        _ => Ok(()),
    }
}
