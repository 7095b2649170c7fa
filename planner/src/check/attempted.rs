//! The query of a view as the view's job takes it: a row on which an expression fails is left out where it does, and the others go on. Only what can
//! fail changes, so that the rest is optimised as ever.
//!
//! - A projection, an aggregate, window functions and a limit's order go over rows on which their expressions succeed; so do the keys of a join, on each side.
//! - Conditions, also those of a join's pairs, are not true where they fail.
//!
//! It does not know of results that fail: a sum that does not fit its type, a subquery for a value with several rows.

use crate::functions::attempt;
use crate::optimize;
use crate::walk::{Walk, WalkPlan};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Expr, Filter, Join, Limit, LogicalPlan, Operator, Projection, Sort, Window, lit};
use std::sync::Arc;

/// A bound plan that leaves such rows out. One with a subquery that names columns of the query around it stays as it is: it may have to run row by row, which is
/// found out when it is planned.
pub fn attempted(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    if optimize::correlation::names_outer(&plan)? {
        return Ok(plan);
    }
    let attempted = optimize::settle(plan)?.up_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) => conditional(filter),
        LogicalPlan::Projection(projection) => projected(projection),
        LogicalPlan::Aggregate(aggregate) => aggregated(aggregate),
        LogicalPlan::Window(window) => windowed(window),
        LogicalPlan::Limit(limit) => limited(limit),
        LogicalPlan::Join(join) => joined(join),
        other => Ok(Transformed::no(other)),
    });
    attempted.map(|t| t.data)
}

fn conditional(filter: Filter) -> DfResult<Transformed<LogicalPlan>> {
    let schema = filter.input.schema().clone();
    let predicate = condition(filter.predicate, &schema)?;
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
}

fn projected(projection: Projection) -> DfResult<Transformed<LogicalPlan>> {
    let failing: Vec<Expr> = projection.expr.iter().filter(|e| may_fail(e)).cloned().collect();
    if failing.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let Projection { expr, input, schema, .. } = projection;
    let exprs = expr.into_iter().map(|e| if may_fail(&e) { value(e, input.schema()) } else { Ok(e) }).collect::<DfResult<Vec<_>>>()?;
    let projection = Projection::try_new_with_schema(exprs, succeeding(input, failing)?, schema)?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

/// The expression's value under its name. Should the optimiser bring the projection below the condition on its rows, it does not fail there.
fn value(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    match expr {
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(attempt::value(*alias.expr, schema)?);
            Ok(Expr::Alias(alias))
        }
        other => {
            let (relation, name) = other.qualified_name();
            Ok(attempt::value(other, schema)?.alias_qualified(relation, name))
        }
    }
}

fn aggregated(aggregate: Aggregate) -> DfResult<Transformed<LogicalPlan>> {
    let failing = failing_within(aggregate.group_expr.iter().chain(&aggregate.aggr_expr))?;
    if failing.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let aggregate = Aggregate::try_new_with_schema(succeeding(input, failing)?, group_expr, aggr_expr, schema)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
}

fn windowed(window: Window) -> DfResult<Transformed<LogicalPlan>> {
    let failing = failing_within(window.window_expr.iter())?;
    if failing.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let input = succeeding(window.input, failing)?;
    Ok(Transformed::yes(LogicalPlan::Window(Window { input, ..window })))
}

fn limited(limit: Limit) -> DfResult<Transformed<LogicalPlan>> {
    let input = ordered(&limit.input)?;
    Ok(Transformed::yes(LogicalPlan::Limit(Limit { input, ..limit })))
}

/// The rows of which a limit takes the first. An order that is below no limit is evaluated by no job.
fn ordered(plan: &Arc<LogicalPlan>) -> DfResult<Arc<LogicalPlan>> {
    Ok(match plan.as_ref() {
        LogicalPlan::Sort(Sort { expr, input, fetch }) => {
            let failing = failing_within(expr.iter().map(|by| &by.expr))?;
            let input = succeeding(input.clone(), failing)?;
            Arc::new(LogicalPlan::Sort(Sort { expr: expr.clone(), input, fetch: *fetch }))
        }
        // Of what is ordered by columns that are not shown.
        LogicalPlan::Projection(Projection { expr, input, schema, .. }) => {
            let projection = Projection::try_new_with_schema(expr.clone(), ordered(input)?, schema.clone())?;
            Arc::new(LogicalPlan::Projection(projection))
        }
        _ => plan.clone(),
    })
}

fn joined(join: Join) -> DfResult<Transformed<LogicalPlan>> {
    let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
    let (left_keys, right_keys) = (failing_within(left_keys.iter())?, failing_within(right_keys.iter())?);
    let filter = match join.filter {
        Some(filter) => Some(condition(filter, &join.left.schema().join(join.right.schema())?)?),
        None => None,
    };
    let (left, right) = (succeeding(join.left, left_keys)?, succeeding(join.right, right_keys)?);
    Ok(Transformed::yes(LogicalPlan::Join(Join { left, right, filter, ..join })))
}

/// The rows on which the expressions succeed.
fn succeeding(input: Arc<LogicalPlan>, failing: Vec<Expr>) -> DfResult<Arc<LogicalPlan>> {
    if failing.is_empty() {
        return Ok(input);
    }
    let succeed = attempt::succeed(failing, input.schema())?;
    Ok(Arc::new(LogicalPlan::Filter(Filter::try_new(succeed, input)?)))
}

/// Each part of a conjunction by itself, so that the optimiser finds the others: it is not true where any of them is not.
fn condition(predicate: Expr, schema: &DFSchema) -> DfResult<Expr> {
    let parts = split_conjunction_owned(predicate).into_iter();
    let parts = parts.map(|part| if may_fail(&part) { attempt::condition(part, schema) } else { test(part, schema) });
    let all = conjunction(parts.collect::<DfResult<Vec<_>>>()?);
    Ok(all.unwrap_or_else(|| lit(true)))
}

/// A condition with a subquery in it: rows are left out on which what is compared with the subquery fails.
fn test(part: Expr, schema: &DFSchema) -> DfResult<Expr> {
    let mut failing = Vec::new();
    let part = part.down(|e| match e {
        e if may_fail(&e) => {
            failing.push(e.clone());
            Ok(Transformed::new(attempt::value(e, schema)?, true, TreeNodeRecursion::Jump))
        }
        // It depends on the row what of them is evaluated.
        Expr::Case(_) => Ok(Transformed::new(e, false, TreeNodeRecursion::Jump)),
        Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. }) => Ok(Transformed::new(e, false, TreeNodeRecursion::Jump)),
        other => Ok(Transformed::no(other)),
    })?;
    if failing.is_empty() {
        return Ok(part.data);
    }
    Ok(attempt::succeed(failing, schema)?.and(part.data))
}

/// What may fail of what is evaluated row by row: arguments of aggregates and window functions, and what is around none.
fn failing_within<'a>(exprs: impl Iterator<Item = &'a Expr>) -> DfResult<Vec<Expr>> {
    let mut failing = Vec::new();
    for expr in exprs {
        expr.each(|e| match e {
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) | Expr::GroupingSet(_) | Expr::Alias(_) => Ok(TreeNodeRecursion::Continue),
            other => {
                failing.extend(may_fail(other).then(|| other.clone()));
                Ok(TreeNodeRecursion::Jump)
            }
        })?;
    }
    Ok(failing)
}

/// Whether a row may make it fail, and it can be attempted: subqueries are no functions of a row, and what has no columns is the same for all.
fn may_fail(expr: &Expr) -> bool {
    !expr.column_refs().is_empty() && expr.any(|e| !never_fails(e)) && !expr.any(is_no_function)
}

fn never_fails(expr: &Expr) -> bool {
    use Operator::*;
    match expr {
        Expr::BinaryExpr(binary) => {
            matches!(binary.op, And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
        }
        Expr::ScalarFunction(call) => call.func.name() == attempt::ATTEMPT,
        Expr::Alias(_) | Expr::Column(_) | Expr::Literal(..) | Expr::Not(_) | Expr::IsNull(_) | Expr::IsNotNull(_) => true,
        Expr::IsTrue(_) | Expr::IsFalse(_) | Expr::IsUnknown(_) => true,
        Expr::IsNotTrue(_) | Expr::IsNotFalse(_) | Expr::IsNotUnknown(_) => true,
        Expr::Between(_) | Expr::InList(_) | Expr::Case(_) | Expr::TryCast(_) => true,
        _ => false,
    }
}

fn is_no_function(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_)
            | Expr::GroupingSet(_)
            | Expr::Unnest(_)
    )
}
