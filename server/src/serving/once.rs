//! Joins by nested loops that hold more than memory takes. DataFusion would read their left side anew then, to spill it. But a plan runs once: parts of it panic at the second
//! time, and what would come of it is wrong for some kinds of joins (unmatched rows of the left side, once for each partition of the right one). So the left side says no when
//! it is read again, and the query ends for want of memory.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream, replace_children_if_necessary,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The rule. It comes last: nothing is to be placed between a join and its left side any more.
#[derive(Debug)]
pub struct Once;

impl PhysicalOptimizerRule for Once {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|node| {
            if !node.is::<NestedLoopJoinExec>() {
                return Ok(Transformed::no(node));
            }
            let mut sides: Vec<Arc<dyn ExecutionPlan>> = node.children().into_iter().cloned().collect();
            sides[0] = Arc::new(ReadOnce::new(sides[0].clone()));
            Ok(Transformed::yes(replace_children_if_necessary(node, sides)?))
        })?;
        Ok(changed.data)
    }

    fn name(&self) -> &str {
        "Once"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The rows of its input, which is one partition, once.
#[derive(Debug)]
struct ReadOnce {
    input: Arc<dyn ExecutionPlan>,
    is_read: AtomicBool,
}

impl ReadOnce {
    fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        ReadOnce { input, is_read: AtomicBool::new(false) }
    }
}

impl DisplayAs for ReadOnce {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ReadOnce")
    }
}

impl ExecutionPlan for ReadOnce {
    fn name(&self) -> &str {
        "ReadOnce"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    /// A new plan, of which nothing has been read.
    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(ReadOnce::new(children.swap_remove(0))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if self.is_read.swap(true, Ordering::Relaxed) {
            return Err(DataFusionError::ResourcesExhausted("What a join by nested loops holds of one side does not fit".to_string()));
        }
        self.input.execute(partition, context)
    }
}
