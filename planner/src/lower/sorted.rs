//! The order that a subquery in FROM gives its rows, for aggregates that take them in an order and say none. PostgreSQL's take rows as they come; a view's rows come in any order, and
//! DataFusion leaves out a sort that nothing asks for, so the order becomes that of the call. DISTINCT ON has one, too. It does not know in what order rows are that this one leaves equal.

use super::calls::{takes_order_by, unaliased};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Aggregate, Distinct, DistinctOn, Expr, Filter, Limit, LogicalPlan, Projection, SubqueryAlias};
use std::sync::Arc;

/// What a column is called that is sorted by and not selected, with its number behind.
const COLUMN: &str = "__sorted";

/// The aggregates with the order of their input.
pub(super) fn said(aggregate: Aggregate) -> DfResult<Transformed<Aggregate>> {
    let says_none = |e: &Expr| match unaliased(e) {
        Expr::AggregateFunction(call) => takes_order_by(call.func.name()) && !call.params.distinct && call.params.order_by.is_empty(),
        _ => false,
    };
    if !aggregate.aggr_expr.iter().any(says_none) {
        return Ok(Transformed::no(aggregate));
    }
    let Some((input, order)) = sorted(&aggregate.input)? else { return Ok(Transformed::no(aggregate)) };
    let Aggregate { group_expr, aggr_expr, schema, .. } = aggregate;
    let with_order = |e: Expr| match unaliased(&e) {
        Expr::AggregateFunction(call) if says_none(&e) => {
            let mut call = call.clone();
            call.params.order_by.clone_from(&order);
            Expr::AggregateFunction(call).alias(e.schema_name().to_string())
        }
        _ => e,
    };
    let calls = aggr_expr.into_iter().map(with_order).collect();
    Aggregate::try_new_with_schema(Arc::new(input), group_expr, calls, schema).map(Transformed::yes)
}

/// A plan whose rows are sorted, with all that they are sorted by among its columns.
fn sorted(plan: &LogicalPlan) -> DfResult<Option<(LogicalPlan, Vec<Sort>)>> {
    Ok(match plan {
        LogicalPlan::Sort(sort) => Some((plan.clone(), sort.expr.clone())),
        LogicalPlan::Limit(limit) => {
            sorted(&limit.input)?.map(|(input, order)| (LogicalPlan::Limit(Limit { input: Arc::new(input), ..limit.clone() }), order))
        }
        LogicalPlan::Filter(filter) => match sorted(&filter.input)? {
            Some((input, order)) => {
                let kept = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
                Some((LogicalPlan::Filter(kept), order))
            }
            None => None,
        },
        LogicalPlan::Projection(projection) => match sorted(&projection.input)? {
            Some((input, order)) => Some(selected(projection.expr.clone(), input, order)?),
            None => None,
        },
        LogicalPlan::SubqueryAlias(alias) => match sorted(&alias.input)? {
            Some((input, order)) => {
                let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
                let (input, order) = selected(columns, input, order)?;
                let places: Vec<Option<usize>> = order.iter().map(|by| place(&input, &by.expr)).collect();
                let named = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?);
                let order = order.into_iter().zip(places);
                let order = order.filter_map(|(by, place)| Some(Sort { expr: column(&named, place?), ..by })).collect();
                Some((named, order))
            }
            None => None,
        },
        LogicalPlan::Distinct(Distinct::On(DistinctOn { on_expr, select_expr, sort_expr: Some(order), input, .. }))
            if !order.is_empty() =>
        {
            let (items, places) = with_keys(select_expr.clone(), order);
            let firsts = DistinctOn::try_new(on_expr.clone(), items, Some(order.clone()), input.clone())?;
            let firsts = LogicalPlan::Distinct(Distinct::On(firsts));
            let order = at_places(order.clone(), places, &firsts);
            Some((firsts, order))
        }
        _ => None,
    })
}

/// The items over a plan, and behind them what it is sorted by and is none of them; the order is of columns then.
fn selected(items: Vec<Expr>, input: LogicalPlan, order: Vec<Sort>) -> DfResult<(LogicalPlan, Vec<Sort>)> {
    let (items, places) = with_keys(items, &order);
    let selected = LogicalPlan::Projection(Projection::try_new(items, Arc::new(input))?);
    let order = at_places(order, places, &selected);
    Ok((selected, order))
}

/// The items, behind them what is sorted by and is none of them, and where each key is.
fn with_keys(mut items: Vec<Expr>, order: &[Sort]) -> (Vec<Expr>, Vec<usize>) {
    let mut places = Vec::with_capacity(order.len());
    for by in order {
        let place = items.iter().position(|item| *unaliased(item) == by.expr).unwrap_or(items.len());
        if place == items.len() {
            items.push(by.expr.clone().alias(format!("{COLUMN}_{place}")));
        }
        places.push(place);
    }
    (items, places)
}

/// The order by the columns that its keys are.
fn at_places(order: Vec<Sort>, places: Vec<usize>, plan: &LogicalPlan) -> Vec<Sort> {
    order.into_iter().zip(places).map(|(by, place)| Sort { expr: column(plan, place), ..by }).collect()
}

fn column(plan: &LogicalPlan, place: usize) -> Expr {
    Expr::Column(Column::from(plan.schema().qualified_field(place)))
}

/// Which column of a plan an expression is.
fn place(plan: &LogicalPlan, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => plan.schema().maybe_index_of_column(column),
        _ => None,
    }
}
