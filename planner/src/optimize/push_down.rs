//! DataFusion's push-down of filters, but for what it gets wrong. An aggregate without GROUP BY, or with an empty grouping set, has a row where its input has none, so no
//! condition may go below one. A condition that names no column (one of a join that is false whatever the rows are, or one on an outer query's row) would be let through.
//! Below an ASOF join go those on its left side alone.

use crate::bind::asof::is_over;
use crate::bind::chosen::{Choice, ChosenJoin};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// It takes the place of DataFusion's rule, and has its name.
#[derive(Debug, Default)]
pub struct PushDown(PushDownFilter);

impl OptimizerRule for PushDown {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Filter(filter) if is_over_single_row(&filter.input) => Ok(Transformed::no(plan)),
            LogicalPlan::Filter(filter) => match below_nearest(filter)? {
                Some(pushed) => Ok(Transformed::yes(pushed)),
                None => self.0.rewrite(plan, config),
            },
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// A condition on an ASOF join with what is said of the left side alone below it, if anything is.
fn below_nearest(filter: &Filter) -> DfResult<Option<LogicalPlan>> {
    let LogicalPlan::Extension(extension) = filter.input.as_ref() else { return Ok(None) };
    let join = extension.node.as_any().downcast_ref::<ChosenJoin>();
    let Some(join) = join.filter(|join| matches!(join.choice, Choice::Nearest { .. })) else { return Ok(None) };
    let of_left = |e: &Expr| !e.is_volatile() && !e.column_refs().is_empty() && is_over(e, join.left.schema());
    let (below, above): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate.clone()).into_iter().partition(of_left);
    let Some(below) = conjunction(below) else { return Ok(None) };
    let joined = join.of_filtered(below)?;
    Ok(Some(match conjunction(above) {
        Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(joined))?),
        None => joined,
    }))
}

/// Whether nothing but conditions, which the rule would put together, is over such an aggregate. A condition on one with grouping sets stays whole: none goes below.
fn is_over_single_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => is_over_single_row(&filter.input),
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => matches!(group_expr.as_slice(), [] | [Expr::GroupingSet(_)]),
        _ => false,
    }
}
