//! Outer joins of which too much is believed. DataFusion takes over what it knows of both sides of a join; but a column that is constant on the side that may be missing is null
//! where that side is, so a sort or a rank by it is needed. A node above such a join passes its rows on and forgets what is known of them.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SendableRecordBatchStream,
};
use std::fmt;
use std::sync::Arc;

/// The rule. It comes after joins are chosen, and before sorts are left out.
#[derive(Debug)]
pub struct ForgetConstants;

impl PhysicalOptimizerRule for ForgetConstants {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let forgetting = plan.transform_up(|node| {
            if !is_outer_join(&node) || node.equivalence_properties().constants().is_empty() {
                return Ok(Transformed::no(node));
            }
            let forgetting: Arc<dyn ExecutionPlan> = Arc::new(Forgetting::new(node));
            Ok(Transformed::yes(forgetting))
        })?;
        Ok(forgetting.data)
    }

    fn name(&self) -> &str {
        "ForgetConstants"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn is_outer_join(node: &Arc<dyn ExecutionPlan>) -> bool {
    let hash = node.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let nested = || node.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type());
    let merge = || node.downcast_ref::<SortMergeJoinExec>().map(|join| join.join_type());
    matches!(hash.or_else(nested).or_else(merge), Some(JoinType::Left | JoinType::Right | JoinType::Full))
}

/// The rows of its input, of which nothing is known but how they are partitioned.
#[derive(Debug)]
struct Forgetting {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Forgetting {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let nothing = EquivalenceProperties::new(input.schema());
        let partitioning = input.output_partitioning().clone();
        let properties = PlanProperties::new(nothing, partitioning, input.pipeline_behavior(), input.boundedness());
        Forgetting { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Forgetting {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Forgetting")
    }
}

impl ExecutionPlan for Forgetting {
    fn name(&self) -> &str {
        "Forgetting"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Forgetting::new(children.swap_remove(0))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
