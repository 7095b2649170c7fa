//! A rule of DataFusion's, but for what it gets wrong: it keeps its name and its order, so that it stands where DataFusion's own does. It does not know what is wrong.

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// What is done in the place of a rule's `rewrite`, which it may call.
pub trait Correction: OptimizerRule {
    /// As `OptimizerRule::rewrite`.
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>>;
}

/// A rule in whose place its correction is.
#[derive(Debug, Default)]
pub struct Corrected<R>(R);

impl<R: Correction> OptimizerRule for Corrected<R> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        self.0.corrected(plan, config)
    }
}
