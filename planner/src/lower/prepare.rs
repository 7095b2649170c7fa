//! Rewrites of a bound query before it is optimised, while it still shows what the user wrote: of one that keeps running, and of one that runs once as far as
//! their results would differ.
//!
//! - DISTINCT ON keeps the rows whose number within their group is 1, in its order. That comes before subqueries become joins, and so do aggregates that take the order of a subquery: a
//!   join has no order.
//! - Aggregates for which the order of rows matters, and that do not say one, take their rows as a subquery sorts them (`sorted`), or by event time; the others have no order.
//!   Lists of DISTINCT values are in the order of the values.
//! - Subqueries that stand for a value have one (`one_row`).

use super::calls::{ignores_order_by, takes_order_by, unaliased};
use super::one_row::with_one_row;
use super::sorted;
use crate::bind::window::{WINDOW_COLUMNS, WindowAssign};
use crate::bind::{RelationSource, items_over};
use crate::catalog::{Catalog, Relation};
use crate::functions::registry;
use crate::walk::WalkPlan;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{AggregateFunction, Sort, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, ExprFunctionExt, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, TableScan, lit,
};
use std::sync::Arc;

pub fn prepare(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let ordered = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => {
            let time = event_time(&aggregate.input);
            by_event_time(aggregate, time, ByValue::Never)
        }
        other => Ok(Transformed::no(other)),
    });
    with_one_row(ordered?.data)
}

/// What orders mean, before LATERAL and correlated subqueries become joins.
pub fn with_orders(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let ordered = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Distinct(Distinct::On(distinct)) => first_of_each(distinct),
        LogicalPlan::Aggregate(aggregate) => sorted::said(aggregate)?.map_data(|aggregate| Ok(LogicalPlan::Aggregate(aggregate))),
        other => Ok(Transformed::no(other)),
    });
    Ok(ordered?.data)
}

/// Where the values themselves are an order of the last resort.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByValue {
    /// The operators of a view see to it on their own.
    Never,
    BehindAnOrder,
    Always,
}

/// Aggregates of a query that runs once take their rows in the order in which a view takes them, where there is one: without it in the order in which they come.
pub fn in_order(plan: LogicalPlan, catalog: &dyn Catalog) -> DfResult<LogicalPlan> {
    let scanned = |scan: &TableScan| catalog.relation(scan.table_name.schema(), scan.table_name.table());
    let ordered = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => {
            let time = time_of(&aggregate.input, &scanned);
            by_event_time(aggregate, time, ByValue::BehindAnOrder)
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(ordered?.data)
}

/// The same for the query of a view, whose aggregates always have an order.
pub fn in_order_of_values(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let ordered = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => by_event_time(aggregate, None, ByValue::Always),
        other => Ok(Transformed::no(other)),
    });
    Ok(ordered?.data)
}

fn first_of_each(distinct: DistinctOn) -> DfResult<Transformed<LogicalPlan>> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, .. } = distinct;
    let number = Expr::from(WindowFunction::new(registry().udwf("row_number")?, vec![]));
    let order = sort_expr.unwrap_or_default();
    let number = number.partition_by(on_expr).order_by(order.clone()).build()?;
    let column = Expr::Column(Column::new_unqualified(number.schema_name().to_string()));
    let firsts = LogicalPlanBuilder::from(input).window(vec![number])?.filter(column.eq(lit(1i64)))?.build()?;
    let (items, firsts) = items_over(select_expr, Arc::new(firsts))?;
    let firsts = LogicalPlanBuilder::from(firsts);
    // A LIMIT takes them in their order.
    let ordered = if order.is_empty() { firsts } else { firsts.sort(order)? };
    Ok(Transformed::yes(ordered.project(items)?.build()?))
}

/// Calls for which the order of rows matters get the event time as their order if they have none, and behind it the values themselves. The others lose theirs, which
/// DataFusion would sort for, or fail.
fn by_event_time(aggregate: Aggregate, time: Option<Column>, by_value: ByValue) -> DfResult<Transformed<LogicalPlan>> {
    let ordered = sorted::said(aggregate)?;
    let mut changed = ordered.transformed;
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = ordered.data;
    let said = orders(&aggr_expr);
    let calls = aggr_expr
        .into_iter()
        .map(|e| {
            let Expr::AggregateFunction(call) = unaliased(&e) else { return e };
            let mut order = each_once(&call.params.order_by);
            if ignores_order_by(call.func.name()) {
                order.clear();
            }
            if takes_order_by(call.func.name()) && !call.params.distinct {
                let missing = time.as_ref().filter(|_| order.is_empty());
                order.extend(missing.map(|time| Sort::new(Expr::Column(time.clone()), true, false)));
                let is_last = by_value == ByValue::Always || by_value == ByValue::BehindAnOrder && !order.is_empty();
                let value = value_of(call, &input).filter(|value| is_last && order.iter().all(|sort| sort.expr != *value));
                order.extend(value.map(|value| Sort::new(value, true, true)));
            } else if order.is_empty() {
                order.extend(of_distinct(call, &input).filter(|sort| !said.contains(&Sort::new(sort.expr.clone(), false, true))));
            }
            if order == call.params.order_by {
                return e;
            }
            changed = true;
            let mut call = call.clone();
            call.params.order_by = order;
            Expr::AggregateFunction(call).alias(e.schema_name().to_string())
        })
        .collect();
    let aggregate = LogicalPlan::Aggregate(Aggregate::try_new_with_schema(input, group_expr, calls, schema)?);
    Ok(if changed { Transformed::yes(aggregate) } else { Transformed::no(aggregate) })
}

/// An order without what it says again, of which DataFusion fails.
fn each_once(order: &[Sort]) -> Vec<Sort> {
    let mut kept: Vec<Sort> = Vec::with_capacity(order.len());
    for by in order {
        if kept.iter().all(|known| known.expr != by.expr) {
            kept.push(by.clone());
        }
    }
    kept
}

/// What the calls are sorted by first. DataFusion would turn two that are opposite the same way.
fn orders(calls: &[Expr]) -> Vec<Sort> {
    let first = |e: &Expr| match unaliased(e) {
        Expr::AggregateFunction(call) => call.params.order_by.first().cloned(),
        _ => None,
    };
    calls.iter().filter_map(first).collect()
}

/// The order of a list of distinct values that says none. A text of what is no text has its own.
fn of_distinct(call: &AggregateFunction, input: &LogicalPlan) -> Option<Sort> {
    let value = value_of(call, input).filter(|_| call.params.distinct)?;
    let is_list = match call.func.name() {
        "array_agg" => true,
        "string_agg" => value.get_type(input.schema()).is_ok_and(|ty| ty == DataType::Utf8),
        _ => false,
    };
    is_list.then(|| Sort::new(value, true, false))
}

/// What the call aggregates, if it can be sorted by.
fn value_of(call: &AggregateFunction, input: &LogicalPlan) -> Option<Expr> {
    let value = call.params.args.first()?;
    let ty = value.get_type(input.schema()).ok()?;
    (!ty.is_nested() && !ty.is_null()).then(|| value.clone())
}

/// The column of a plan that is event time, if it passes one through.
pub fn event_time(plan: &LogicalPlan) -> Option<Column> {
    time_of(plan, &|scan| Some(scan.source.downcast_ref::<RelationSource>()?.relation.clone()))
}

/// The same of any plan, where `scanned` knows what is scanned.
fn time_of(plan: &LogicalPlan, scanned: &dyn Fn(&TableScan) -> Option<Arc<Relation>>) -> Option<Column> {
    let output = |index: usize| plan.schema().columns().get(index).cloned();
    match plan {
        LogicalPlan::TableScan(scan) => {
            let stored = *scanned(scan)?.time_columns.first()?;
            let index = match &scan.projection {
                Some(columns) => columns.iter().position(|c| *c == stored)?,
                None => stored,
            };
            output(index)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let index = alias.input.schema().maybe_index_of_column(&time_of(&alias.input, scanned)?)?;
            output(index)
        }
        LogicalPlan::Filter(filter) => time_of(&filter.input, scanned),
        LogicalPlan::Projection(projection) => {
            let time = Expr::Column(time_of(&projection.input, scanned)?);
            output(projection.expr.iter().position(|e| *unaliased(e) == time)?)
        }
        LogicalPlan::Extension(Extension { node }) => time_of(&node.as_any().downcast_ref::<WindowAssign>()?.input, scanned),
        LogicalPlan::Aggregate(aggregate) => {
            let ends = |e: &Expr| matches!(unaliased(e), Expr::Column(c) if c.name == WINDOW_COLUMNS[2]);
            output(aggregate.group_expr.iter().position(ends)?)
        }
        _ => None,
    }
}
