//! DataFusion's push-down of filters, but for what it gets wrong. An aggregate without GROUP BY, or with an empty grouping set, has a row where its input has none, so no
//! condition may go below one. A condition that names no column (one of a join that is false whatever the rows are, or one on an outer query's row) would be let through.
//! Below an ASOF join go those on its left side alone. And comparisons of one column with constants are made one: it takes `2 = a` for another than `a = 2`, and `2 < a` for one that lets 2 through, so
//! that constants come to the right side first, and lose what marks their types.
//!
//! Where conditions are not pushed down, those above joins without keys go down all the same: with them such a join may have keys, or a side of few rows, and without there is no plan.

use super::corrected::{Corrected, Correction};
use crate::bind::asof::is_over;
use crate::bind::chosen::{Choice, ChosenJoin};
use crate::walk::Walk;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, Filter, LogicalPlan, Operator};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// In the place of DataFusion's rule.
pub type PushDown = Corrected<PushDownFilter>;

impl Correction for PushDownFilter {
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let plan = match plan {
            LogicalPlan::Filter(filter) => LogicalPlan::Filter(settled(filter)?),
            other => other,
        };
        match &plan {
            LogicalPlan::Filter(filter) if is_over_single_row(&filter.input) => Ok(Transformed::no(plan)),
            LogicalPlan::Filter(filter) => match below_nearest(filter)? {
                Some(pushed) => Ok(Transformed::yes(pushed)),
                None => self.rewrite(plan, config),
            },
            _ => self.rewrite(plan, config),
        }
    }
}

/// The push-down that a plan may need, which no setting switches off.
#[derive(Debug, Default)]
pub struct PushDownToKeyless(PushDown);

impl OptimizerRule for PushDownToKeyless {
    fn name(&self) -> &str {
        "push_down_filter_to_keyless_joins"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let is_needed = match &plan {
            LogicalPlan::Filter(filter) => is_over_keyless(&filter.input),
            LogicalPlan::Join(join) => join.on.is_empty(),
            _ => false,
        };
        if is_needed { self.0.rewrite(plan, config) } else { Ok(Transformed::no(plan)) }
    }
}

/// Whether a condition on a plan may reach a join without keys.
fn is_over_keyless(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => is_over_keyless(&filter.input),
        LogicalPlan::Projection(projection) => is_over_keyless(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_over_keyless(&alias.input),
        LogicalPlan::Join(join) => join.on.is_empty() || is_over_keyless(&join.left) || is_over_keyless(&join.right),
        _ => false,
    }
}

/// A condition, and those right below it, whose comparisons have their constants on the right, and those are plain: an oid is the same number as a function's.
fn settled(filter: Filter) -> DfResult<Filter> {
    let input = match filter.input.as_ref() {
        LogicalPlan::Filter(below) => Arc::new(LogicalPlan::Filter(settled(below.clone())?)),
        _ => filter.input,
    };
    Filter::try_new(filter.predicate.up(compared)?.data, input)
}

fn compared(mut expr: Expr) -> DfResult<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &mut expr else { return Ok(Transformed::no(expr)) };
    if !matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq) {
        return Ok(Transformed::no(expr));
    }
    if let (Expr::Literal(..), Some(turned)) = (left.as_ref(), op.swap()) {
        std::mem::swap(left, right);
        *op = turned;
    }
    for side in [left, right] {
        if let Expr::Literal(_, mark) = side.as_mut() {
            *mark = None;
        }
    }
    Ok(Transformed::yes(expr))
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
