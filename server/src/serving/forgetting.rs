//! What must not be known of rows. A node passes rows on and forgets what is known of them, where DataFusion would draw wrong conclusions:
//!
//! - Above an outer join. It takes over what it knows of both sides; but a column that is constant on the side that may be missing is null where that side is, so a sort
//!   or a rank by it is needed.
//! - Below a union. It knows no columns of a union to be equal, whatever it knows of the inputs; so it leaves a column out of their sorts that equals another, and then refuses
//!   the plan, whose union is not sorted by both.
//! - Below an aggregate with grouping sets. It takes its rows to be sorted as those of its input are, a single row by everything; but a column is null in the sets that it is not part of.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SendableRecordBatchStream,
    replace_children_if_necessary,
};
use std::fmt;
use std::sync::Arc;

/// The rule. It comes after joins are chosen, and before sorts are left out.
#[derive(Debug)]
pub struct Forget;

impl PhysicalOptimizerRule for Forget {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|node| {
            if is_outer_join(&node) && !node.equivalence_properties().constants().is_empty() {
                return Ok(Transformed::yes(forgetting(node)));
            }
            if node.is::<UnionExec>() && node.children().into_iter().any(has_equal_columns) {
                let inputs = node.children().into_iter().map(|input| forgetting(input.clone())).collect();
                return Ok(Transformed::yes(UnionExec::try_new(inputs)?));
            }
            if has_grouping_sets(&node) {
                let input = forgetting(node.children()[0].clone());
                return Ok(Transformed::yes(replace_children_if_necessary(node, vec![input])?));
            }
            Ok(Transformed::no(node))
        })?;
        Ok(changed.data)
    }

    fn name(&self) -> &str {
        "Forget"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn forgetting(node: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(Forgetting::new(node))
}

fn has_equal_columns(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.equivalence_properties().eq_group().iter().any(|class| class.iter().count() > 1)
}

fn has_grouping_sets(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<AggregateExec>().is_some_and(|aggregate| aggregate.group_expr().has_grouping_set())
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
