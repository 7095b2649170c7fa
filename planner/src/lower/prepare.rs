//! Rewrites of a bound streaming query before it is optimised, while it still shows what the user wrote.
//!
//! - DISTINCT ON keeps the rows whose number within their group is 1.
//! - Aggregates for which the order of rows matters, and that do not say one, take their rows by event time.
//! - Subqueries that stand for a value have one (`one_row`).

use super::calls::{takes_order_by, unaliased};
use super::one_row::with_one_row;
use crate::bind::RelationSource;
use crate::bind::window::{WINDOW_COLUMNS, WindowAssign};
use crate::functions::registry;
use crate::walk::Walk;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{Aggregate, Distinct, DistinctOn, Expr, ExprFunctionExt, Extension, LogicalPlan, LogicalPlanBuilder, lit};

pub fn prepare(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    with_one_row(plan.up(rewrite)?.data)
}

fn rewrite(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => by_event_time(aggregate),
        LogicalPlan::Distinct(Distinct::On(distinct)) => first_of_each(distinct),
        other => Ok(Transformed::no(other)),
    }
}

fn first_of_each(distinct: DistinctOn) -> DfResult<Transformed<LogicalPlan>> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, .. } = distinct;
    let number = Expr::from(WindowFunction::new(registry().udwf("row_number")?, vec![]));
    let number = number.partition_by(on_expr).order_by(sort_expr.unwrap_or_default()).build()?;
    let column = Expr::Column(Column::new_unqualified(number.schema_name().to_string()));
    let plan = LogicalPlanBuilder::from(input).window(vec![number])?.filter(column.eq(lit(1u64)))?.project(select_expr)?.build()?;
    Ok(Transformed::yes(plan))
}

fn by_event_time(aggregate: Aggregate) -> DfResult<Transformed<LogicalPlan>> {
    let unordered = |e: &Expr| match unaliased(e) {
        Expr::AggregateFunction(f) => takes_order_by(f.func.name()) && f.params.order_by.is_empty() && !f.params.distinct,
        _ => false,
    };
    let time = match aggregate.aggr_expr.iter().any(unordered) {
        true => event_time(&aggregate.input),
        false => None,
    };
    let Some(time) = time else { return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))) };
    let calls = aggregate
        .aggr_expr
        .iter()
        .map(|e| match unaliased(e) {
            Expr::AggregateFunction(f) if unordered(e) => {
                let mut f = f.clone();
                f.params.order_by = vec![Sort::new(Expr::Column(time.clone()), true, false)];
                Expr::AggregateFunction(f).alias(e.schema_name().to_string())
            }
            _ => e.clone(),
        })
        .collect();
    let Aggregate { input, group_expr, schema, .. } = aggregate;
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new_with_schema(input, group_expr, calls, schema)?)))
}

/// The column of a plan that is event time, if it passes one through.
pub fn event_time(plan: &LogicalPlan) -> Option<Column> {
    let output = |index: usize| plan.schema().columns().get(index).cloned();
    match plan {
        LogicalPlan::TableScan(scan) => {
            let relation = &scan.source.downcast_ref::<RelationSource>()?.relation;
            let stored = *relation.time_columns.first()?;
            let index = match &scan.projection {
                Some(columns) => columns.iter().position(|c| *c == stored)?,
                None => stored,
            };
            output(index)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let index = alias.input.schema().maybe_index_of_column(&event_time(&alias.input)?)?;
            output(index)
        }
        LogicalPlan::Filter(filter) => event_time(&filter.input),
        LogicalPlan::Projection(projection) => {
            let time = Expr::Column(event_time(&projection.input)?);
            output(projection.expr.iter().position(|e| *unaliased(e) == time)?)
        }
        LogicalPlan::Extension(Extension { node }) => event_time(&node.as_any().downcast_ref::<WindowAssign>()?.input),
        LogicalPlan::Aggregate(aggregate) => {
            let ends = |e: &Expr| matches!(unaliased(e), Expr::Column(c) if c.name == WINDOW_COLUMNS[2]);
            output(aggregate.group_expr.iter().position(ends)?)
        }
        _ => None,
    }
}
