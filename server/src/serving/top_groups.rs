//! DataFusion's rule by which groups that an ORDER BY with a LIMIT leaves out are left out while they are made, but not where groups have floats: it compares these so that NaN is neither
//! better nor worse than any other, and would take the place of groups that are among the first, or end the query. It does not know what is grouped.

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::topk_aggregation::TopKAggregation;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use std::sync::Arc;

/// It takes the place of DataFusion's rule, and has its name.
#[derive(Debug, Default)]
pub struct TopGroups(TopKAggregation);

impl PhysicalOptimizerRule for TopGroups {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        if groups_floats(&plan) { Ok(plan) } else { self.0.optimize(plan, config) }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Whether it is anywhere in the plan.
fn groups_floats(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let is_one = plan.is::<AggregateExec>() && plan.schema().fields().iter().any(|field| field.data_type().is_floating());
    is_one || plan.children().into_iter().any(groups_floats)
}
