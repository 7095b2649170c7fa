//! DataFusion's way to count distinct values: by groups of them, and groups of these groups. Sums would be sums of sums then: of a bigint those of the first groups must fit one, though only the
//! whole sum has to, and a numeric is widened twice. So it is for DISTINCT alone, of one argument, and for extremes beside it.

use super::corrected::{Corrected, Correction};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// In the place of DataFusion's rule.
pub type SingleDistinct = Corrected<SingleDistinctToGroupBy>;

impl Correction for SingleDistinctToGroupBy {
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(Aggregate { aggr_expr, .. }) if !aggr_expr.iter().all(goes_by_groups) => Ok(Transformed::no(plan)),
            _ => self.rewrite(plan, config),
        }
    }
}

/// Whether an aggregate is the same of groups of rows as of the rows, or of distinct values.
fn goes_by_groups(call: &Expr) -> bool {
    let Expr::AggregateFunction(call) = call else { return false };
    match call.params.distinct {
        true => call.params.args.len() == 1,
        false => matches!(call.func.name(), "min" | "max"),
    }
}
