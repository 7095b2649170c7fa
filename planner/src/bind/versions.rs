//! Queries that keep the newest row of each key, `ROW_NUMBER() OVER (PARTITION BY key ORDER BY time DESC) = 1`, as the right side of a temporal join: what they keep one after the other are the
//! versions of a row, and these are the rows that they read. Of what such a query keeps, the join would see but the last of several versions that come together.

use crate::lower::{event_time, unaliased};
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::logical_plan::SubqueryAlias;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, Projection, Window};
use std::sync::Arc;

/// All versions, in the columns of the query that keeps the newest ones.
pub struct Versions {
    pub plan: LogicalPlan,
    pub key: Vec<Column>,
    pub time: Column,
}

/// The versions of which a query keeps the newest ones; `None` for any other query.
pub fn of_newest(plan: &LogicalPlan) -> DfResult<Option<Versions>> {
    let Some(found) = found(plan)?.filter(|found| found.newest) else { return Ok(None) };
    let columns = found.plan.schema().columns();
    let key = found.key.iter().map(|at| columns[*at].clone()).collect();
    Ok(Some(Versions { key, time: columns[found.time].clone(), plan: found.plan }))
}

/// Versions in the columns of a part of the query, by their places.
struct Found {
    plan: LogicalPlan,
    key: Vec<usize>,
    time: usize,
    /// Of the row's number, which is 1 here.
    rank: Option<usize>,
    /// The part keeps the newest ones alone.
    newest: bool,
}

fn found(plan: &LogicalPlan) -> DfResult<Option<Found>> {
    match plan {
        LogicalPlan::Window(window) => numbered(window),
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(found) = found(&alias.input)? else { return Ok(None) };
            let plan = SubqueryAlias::try_new(Arc::new(found.plan), alias.alias.clone())?;
            Ok(Some(Found { plan: LogicalPlan::SubqueryAlias(plan), ..found }))
        }
        LogicalPlan::Filter(filter) => {
            let is_first = |found: &Found| found.rank.is_some_and(|rank| is_first(&filter.predicate, rank, filter.input.schema()));
            let found = found(&filter.input)?.filter(|found| !found.newest && is_first(found));
            Ok(found.map(|found| Found { newest: true, ..found }))
        }
        LogicalPlan::Projection(projection) => {
            let Some(found) = found(&projection.input)? else { return Ok(None) };
            let place = |at: usize| projection.expr.iter().position(|e| column_at(e, projection.input.schema()) == Some(at));
            let key: Option<Vec<usize>> = found.key.iter().map(|at| place(*at)).collect();
            let (Some(key), Some(time)) = (key, place(found.time)) else { return Ok(None) };
            let rank = found.rank.and_then(place);
            let plan = Projection::try_new_with_schema(projection.expr.clone(), Arc::new(found.plan), projection.schema.clone())?;
            Ok(Some(Found { plan: LogicalPlan::Projection(plan), key, time, rank, newest: found.newest }))
        }
        _ => Ok(None),
    }
}

/// The rows that a window numbers by their event time, from the last one of each key on: each has been the first.
fn numbered(window: &Window) -> DfResult<Option<Found>> {
    let input: &DFSchema = window.input.schema();
    let [call] = window.window_expr.as_slice() else { return Ok(None) };
    let Expr::WindowFunction(call) = unaliased(call) else { return Ok(None) };
    let ([by], "row_number") = (call.params.order_by.as_slice(), call.fun.name()) else { return Ok(None) };
    let time = event_time(&window.input).and_then(|time| input.maybe_index_of_column(&time));
    let Some(time) = time.filter(|time| !by.asc && column_at(&by.expr, input) == Some(*time)) else { return Ok(None) };
    let key: Option<Vec<usize>> = call.params.partition_by.iter().map(|e| column_at(e, input)).collect();
    let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(None) };
    let rank = input.fields().len();
    let number = window.schema.field(rank);
    let one = Expr::Literal(ScalarValue::new_one(number.data_type())?, None).alias(number.name());
    let exprs = input.columns().into_iter().map(Expr::Column).chain([one]).collect();
    let plan = Projection::try_new_with_schema(exprs, window.input.clone(), window.schema.clone())?;
    Ok(Some(Found { plan: LogicalPlan::Projection(plan), key, time, rank: Some(rank), newest: false }))
}

fn is_first(predicate: &Expr, rank: usize, schema: &DFSchema) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = predicate else { return false };
    let is_rank = |e: &Expr| column_at(uncast(e), schema) == Some(rank);
    let is_one = |e: &Expr| matches!(uncast(e), Expr::Literal(ScalarValue::Int64(Some(1)) | ScalarValue::Int32(Some(1)), _));
    match op {
        Operator::Eq => is_rank(left) && is_one(right) || is_one(left) && is_rank(right),
        Operator::LtEq => is_rank(left) && is_one(right),
        _ => false,
    }
}

/// An expression without casts, which change no small whole number.
fn uncast(e: &Expr) -> &Expr {
    match e {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}

fn column_at(e: &Expr, schema: &DFSchema) -> Option<usize> {
    let Expr::Column(column) = unaliased(e) else { return None };
    schema.maybe_index_of_column(column)
}
