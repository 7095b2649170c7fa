//! AND and OR of queries, where a right side that may fail is behind a left one that guards it (`WHERE k <> 0 AND 10 / k > 2`): it is evaluated for those rows alone
//! that the left side lets through, if evaluating it for all of them fails. What cannot fail stays as it is: DataFusion knows more of that. What sorts, windows and
//! aggregates compute is in projections by now.

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use eddyline_planner::functions::lazy::LazyLogic;
use std::sync::Arc;

/// The rule. It comes after joins are chosen.
#[derive(Debug)]
pub struct Guards;

impl PhysicalOptimizerRule for Guards {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let guarded = plan.transform_up(|node| {
            Ok(match guarded(&node)? {
                Some(guarded) => Transformed::yes(guarded),
                None => Transformed::no(node),
            })
        })?;
        Ok(guarded.data)
    }

    fn name(&self) -> &str {
        "Guards"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The node with such expressions in the place of its own; `None` if none of them may fail.
fn guarded(node: &Arc<dyn ExecutionPlan>) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        let Some(predicate) = lazy(filter.predicate())? else { return Ok(None) };
        return Ok(Some(Arc::new(FilterExecBuilder::from(filter).with_predicate(predicate).build()?)));
    }
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        return projected(projection);
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let Some(filter) = of_pairs(join.filter())? else { return Ok(None) };
        return join.builder().with_filter(Some(filter)).build_exec().map(Some);
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let Some(filter) = of_pairs(join.filter())? else { return Ok(None) };
        return Ok(Some(Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?)));
    }
    Ok(None)
}

fn projected(projection: &ProjectionExec) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let mut changed = false;
    let mut exprs = Vec::with_capacity(projection.expr().len());
    for ProjectionExpr { expr, alias } in projection.expr() {
        let lazy = lazy(expr)?;
        changed |= lazy.is_some();
        exprs.push(ProjectionExpr::new(lazy.unwrap_or_else(|| expr.clone()), alias.clone()));
    }
    if !changed {
        return Ok(None);
    }
    let schema = projection.schema();
    let projection = ProjectionExec::try_new_with_schema_metadata(exprs, projection.input().clone(), schema.as_ref())?;
    Ok(Some(Arc::new(projection)))
}

/// A join's condition on pairs.
fn of_pairs(filter: Option<&JoinFilter>) -> DfResult<Option<JoinFilter>> {
    let Some(filter) = filter else { return Ok(None) };
    let lazy = lazy(filter.expression())?;
    Ok(lazy.map(|expr| JoinFilter::new(expr, filter.column_indices().to_vec(), filter.schema().clone())))
}

fn lazy(expr: &Arc<dyn PhysicalExpr>) -> DfResult<Option<Arc<dyn PhysicalExpr>>> {
    let lazy = expr.clone().transform_up(|expr| {
        let logic = expr.downcast_ref::<BinaryExpr>().filter(|binary| matches!(binary.op(), Operator::And | Operator::Or));
        let Some(logic) = logic else { return Ok(Transformed::no(expr)) };
        if !may_fail(logic.right())? {
            return Ok(Transformed::no(expr));
        }
        let lazy: Arc<dyn PhysicalExpr> = Arc::new(LazyLogic::new(logic.left().clone(), *logic.op(), logic.right().clone()));
        Ok(Transformed::yes(lazy))
    })?;
    Ok(lazy.transformed.then_some(lazy.data))
}

fn may_fail(expr: &Arc<dyn PhysicalExpr>) -> DfResult<bool> {
    expr.exists(|e| {
        let computes = e.downcast_ref::<BinaryExpr>().is_some_and(|binary| binary.op().is_numerical_operators());
        Ok(computes || e.is::<CastExpr>() || e.is::<ScalarFunctionExpr>())
    })
}
