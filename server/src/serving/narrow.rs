//! The rules that can change a plan over one relation: without joins, aggregates, set operations and subqueries most of DataFusion's
//! rules find nothing, and looking for it takes longer than a look-up by key does. It does not know what the plan reads.

use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::push_down_limit::PushDownLimit;
use eddyline_planner::walk::{Walk, WalkPlan};
use eddyline_planner::{Operands, Projections, PushDown, Simplify};
use std::sync::Arc;

/// In an order in which one pass does what can be done.
pub fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(Simplify::default()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateLimit::new()),
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDown::default()),
        Arc::new(Projections::default()),
        Arc::new(Operands),
    ]
}

/// Whether `rules` are all that the plan needs.
pub fn reads_one_relation(plan: &LogicalPlan) -> Result<bool> {
    let mut one = true;
    plan.each(|node| {
        one &= match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Values(_) => no_subquery(node)?,
            _ => false,
        };
        Ok(if one { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(one)
}

fn no_subquery(node: &LogicalPlan) -> Result<bool> {
    let mut none = true;
    node.each_own(|expr| {
        none &= !expr.any(|e| {
            matches!(
                e,
                Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::OuterReferenceColumn(..)
            )
        });
        Ok(if none { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(none)
}
