//! Calls of window functions that come to the same once they are simplified, as `SUM(1 + 1)` and `SUM(2)` do: one of them is computed, and the others are its column. DataFusion would take the
//! call for an expression that any projection can compute. It does not know what makes two calls the same.

use crate::walk::Walk;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Window};
use std::sync::Arc;

/// A window without repeated calls, and the columns that it had above it.
pub fn once(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Window(window) = plan else { return Ok(Transformed::no(plan)) };
    let (mut calls, mut places): (Vec<&Expr>, Vec<usize>) = Default::default();
    for call in &window.window_expr {
        let is_same = |known: &&Expr| plain(known) == plain(call) && !call.any(Expr::is_volatile_node);
        let place = calls.iter().position(is_same).unwrap_or(calls.len());
        if place == calls.len() {
            calls.push(call);
        }
        places.push(place);
    }
    if calls.len() == places.len() {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let own = window.input.schema().fields().len();
    let over = Window::try_new(calls.into_iter().cloned().collect(), window.input.clone())?;
    let columns = (0..own).chain(places.into_iter().map(|place| own + place)).zip(window.schema.iter());
    let columns = columns.map(|(at, (qualifier, field))| {
        let column = Column::from(over.schema.qualified_field(at));
        let is_as_it_was = column.relation.as_ref() == qualifier && column.name == *field.name();
        let column = Expr::Column(column);
        if is_as_it_was { column } else { column.alias_qualified(qualifier.cloned(), field.name()) }
    });
    let columns = columns.collect();
    let projection = Projection::try_new_with_schema(columns, Arc::new(LogicalPlan::Window(over)), window.schema)?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

fn plain(call: &Expr) -> &Expr {
    match call {
        Expr::Alias(alias) => plain(&alias.expr),
        other => other,
    }
}
