//! Which conditions of a join are its keys. A join's keys take nulls for equal all together or not at all, so keys of `=` and keys of IS NOT DISTINCT FROM
//! are never of one join: where it has some of `=`, the others stay conditions on its pairs. Rules that move conditions between joins do not look
//! at how these take nulls, so an inner join has no keys of IS NOT DISTINCT FROM while they run, and what they have lifted of these conditions goes back to the joins behind
//! them. In plans that run once too.

use super::corrected::{Corrected, Correction};
use crate::casts;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, NullEquality, Result as DfResult};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator, binary_expr};
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// Keys of `=`, in the place of DataFusion's rule.
pub type EqualKeys = Corrected<ExtractEquijoinPredicate>;

impl Correction for ExtractEquijoinPredicate {
    fn corrected(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let mut join = match plan {
            LogicalPlan::Join(join) => join,
            other => return Ok(Transformed::no(other)),
        };
        let nulls_equal = join.null_equality == NullEquality::NullEqualsNull;
        if nulls_equal && join.join_type != JoinType::Inner {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let mut conditions = join.filter.take().map_or_else(Vec::new, split_conjunction_owned);
        if nulls_equal {
            let keys = std::mem::take(&mut join.on);
            conditions.extend(keys.into_iter().map(|(l, r)| binary_expr(l, Operator::IsNotDistinctFrom, r)));
            join.null_equality = NullEquality::NullEqualsNothing;
        }
        let (later, now): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(takes_nulls_for_equal);
        join.filter = conjunction(now);
        let mut keyed = self.rewrite(LogicalPlan::Join(join), config)?;
        if let LogicalPlan::Join(join) = &mut keyed.data {
            join.filter = conjunction(join.filter.take().into_iter().chain(later));
        }
        keyed.transformed |= nulls_equal;
        Ok(named(keyed))
    }
}

/// A cast has the name of what is cast, which is a column of the same input: as a key it is given one of its own, as DataFusion gives its own casts. Other rules take it away again.
fn named(mut keyed: Transformed<LogicalPlan>) -> Transformed<LogicalPlan> {
    if let LogicalPlan::Join(join) = &mut keyed.data {
        for key in join.on.iter_mut().flat_map(|(left, right)| [left, right]).filter(|key| casts::is_call(key)) {
            let name = key.to_string();
            *key = std::mem::take(key).alias(name);
            keyed.transformed = true;
        }
    }
    keyed
}

fn takes_nulls_for_equal(condition: &Expr) -> bool {
    matches!(condition, Expr::BinaryExpr(BinaryExpr { op: Operator::IsNotDistinctFrom, .. }))
}

/// Keys of IS NOT DISTINCT FROM for joins that have no others: the last rule of a pass.
#[derive(Debug, Default)]
pub struct NullEqualKeys(ExtractEquijoinPredicate);

impl OptimizerRule for NullEqualKeys {
    fn name(&self) -> &str {
        "extract_null_equal_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let keyed = match &plan {
            // Keys of `=` come first here too.
            LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNothing => self.0.rewrite(plan, config)?,
            _ => Transformed::no(plan),
        };
        // Keys that are there lose their names to rules before.
        Ok(named(keyed))
    }
}

/// Puts conditions of IS NOT DISTINCT FROM that are above inner joins into these, before the rule that makes keys of them. The one that removes cross joins lifts them;
/// where conditions are pushed down, nothing is left of that.
#[derive(Debug, Default)]
pub struct NullEqualConditions(PushDownFilter);

impl OptimizerRule for NullEqualConditions {
    fn name(&self) -> &str {
        "push_down_null_equal_conditions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let filter = match plan {
            LogicalPlan::Filter(filter) if is_over_inner_join(&filter.input) => filter,
            other => return Ok(Transformed::no(other)),
        };
        let (below, above): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(compares_columns);
        let Some(below) = conjunction(below) else { return Ok(Transformed::no(LogicalPlan::Filter(filter))) };
        let (above, pushed) = match Arc::unwrap_or_clone(filter.input) {
            LogicalPlan::Filter(inner) => {
                let below = LogicalPlan::Filter(Filter::try_new(below, inner.input)?);
                (conjunction([inner.predicate].into_iter().chain(above)), below)
            }
            input => (conjunction(above), self.0.rewrite(LogicalPlan::Filter(Filter::try_new(below, Arc::new(input))?), config)?.data),
        };
        Ok(Transformed::yes(match above {
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(pushed))?),
            None => pushed,
        }))
    }
}

fn is_over_inner_join(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => is_over_inner_join(&filter.input),
        LogicalPlan::Projection(projection) => is_over_inner_join(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_over_inner_join(&alias.input),
        LogicalPlan::Join(join) => join.join_type == JoinType::Inner,
        _ => false,
    }
}

fn compares_columns(condition: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsNotDistinctFrom, right }) = condition else { return false };
    !condition.is_volatile() && !left.column_refs().is_empty() && !right.column_refs().is_empty()
}
