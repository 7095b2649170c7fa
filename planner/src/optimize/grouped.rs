//! DataFusion's removal of what is grouped by and follows from columns that are grouped by as well. It computes that above the groups, and fails where it has the name of such a column, as
//! `ts::date` beside `ts` does: there it stays. It does not know what follows from what.

use super::corrected::{Corrected, Correction};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Aggregate, LogicalPlan};
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::collections::HashSet;

/// In the place of DataFusion's rule.
pub type GroupedOnce = Corrected<EliminateGroupByConstant>;

impl Correction for EliminateGroupByConstant {
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if has_one_name_twice(aggregate) => Ok(Transformed::no(plan)),
            _ => self.rewrite(plan, config),
        }
    }
}

fn has_one_name_twice(aggregate: &Aggregate) -> bool {
    let mut seen = HashSet::new();
    !aggregate.group_expr.iter().all(|expr| seen.insert(expr.schema_name().to_string()))
}
