//! DataFusion's removal of what is grouped by and follows from columns that are grouped by as well. It computes that above the groups, and fails where it has the name of such a column, as
//! `ts::date` beside `ts` does: there it stays. It does not know what follows from what.

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Aggregate, LogicalPlan};
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::collections::HashSet;

/// It takes the place of DataFusion's rule, and has its name.
#[derive(Debug, Default)]
pub struct GroupedOnce(EliminateGroupByConstant);

impl OptimizerRule for GroupedOnce {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if has_one_name_twice(aggregate) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

fn has_one_name_twice(aggregate: &Aggregate) -> bool {
    let mut seen = HashSet::new();
    !aggregate.group_expr.iter().all(|expr| seen.insert(expr.schema_name().to_string()))
}
