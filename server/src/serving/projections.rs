//! Where the projections of a physical plan go. DataFusion moves them below the nodes that pass rows on, so that these have less to carry; but below a filter, and out of the
//! condition of a join, they would be computed for rows that the condition keeps from them: `SELECT k, (a + b) / k FROM t WHERE k <> 0` divided by zero.

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, remove_unnecessary_projections, try_embed_projection};
use std::sync::Arc;

/// It takes the place of DataFusion's rule, and has its name.
#[derive(Debug)]
pub struct Projections;

impl PhysicalOptimizerRule for Projections {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_down(moved)?.data)
    }

    fn name(&self) -> &str {
        "ProjectionPushdown"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn moved(node: Arc<dyn ExecutionPlan>) -> DfResult<Transformed<Arc<dyn ExecutionPlan>>> {
    let computed = node.downcast_ref::<ProjectionExec>().filter(|projection| computes(projection));
    match computed.and_then(|projection| Some((projection, projection.input().downcast_ref::<FilterExec>()?))) {
        // The filter need not pass on what it alone reads.
        Some((projection, filter)) => {
            let embedded = try_embed_projection(projection, filter)?.filter(|embedded| embedded.schema() == node.schema());
            Ok(embedded.map_or_else(|| Transformed::no(node.clone()), Transformed::yes))
        }
        None => remove_unnecessary_projections(node),
    }
}

fn computes(projection: &ProjectionExec) -> bool {
    projection.expr().iter().any(|projected| !projected.expr.is::<Column>() && !projected.expr.is::<Literal>())
}
