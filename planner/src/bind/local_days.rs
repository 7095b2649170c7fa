//! Days and months that are added to an instant are those of the session's clock, which may be put forward or back meanwhile: the instant's local time is moved by them, and what that is an instant of by
//! the rest of the interval. Like a cast's, the zone becomes a constant of the plan. Conditions of a view are left as they are: they tell how long its state is kept, and that must not depend on a zone.

use super::Mode;
use crate::error::into_datafusion;
use crate::expr::call;
use crate::functions::checked::schema_of_inputs;
use crate::functions::typed::type_of;
use crate::functions::{INTERVAL_CLOCK, INTERVAL_DAYS};
use crate::optimize::fold_constant;
use crate::walk::{Walk, WalkPlan};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, lit};

/// Zones whose clocks stay as they are, and are those of instants.
const OF_INSTANTS: &[&str] = &["utc", "etc/utc", "gmt", "z", "+00:00", "0"];

pub fn in_plan(plan: LogicalPlan, zone: &str, mode: Mode) -> DfResult<LogicalPlan> {
    if is_of_instants(zone) {
        return Ok(plan);
    }
    let moved = plan.up_with_subqueries(|node| {
        if mode == Mode::Streaming && !matches!(node, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(node));
        }
        let schema = schema_of_inputs(&node)?;
        let names = NamePreserver::new(&node);
        node.map_own(|expr| {
            let name = names.save(&expr);
            Ok(expr.up(|e| moved(e, &schema, zone))?.update_data(|e| name.restore(e)))
        })
    });
    moved.map(|t| t.data)
}

pub fn in_expr(expr: Expr, schema: &DFSchema, zone: &str, mode: Mode) -> DfResult<Expr> {
    if mode == Mode::Streaming || is_of_instants(zone) {
        return Ok(expr);
    }
    expr.up(|e| moved(e, schema, zone)).map(|t| t.data)
}

/// Whether a zone's clock shows the time of instants.
pub(super) fn is_of_instants(zone: &str) -> bool {
    OF_INSTANTS.contains(&zone.to_ascii_lowercase().as_str())
}

fn moved(expr: Expr, schema: &DFSchema, zone: &str) -> DfResult<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else { return Ok(Transformed::no(expr)) };
    let (at, by) = match (op, type_of(left, schema), type_of(right, schema)) {
        (Operator::Plus | Operator::Minus, Ok(DataType::Timestamp(_, Some(_))), Ok(DataType::Interval(_))) => (left, right),
        (Operator::Plus, Ok(DataType::Interval(_)), Ok(DataType::Timestamp(_, Some(_)))) => (right, left),
        _ => return Ok(Transformed::no(expr)),
    };
    if is_without_days(by) {
        return Ok(Transformed::no(expr));
    }
    let function = |name: &str, args: Vec<Expr>| call(name, args).map_err(into_datafusion);
    let part = |name: &str| function(name, vec![by.as_ref().clone()]);
    let by_part = |e: Expr, part: Expr| Expr::BinaryExpr(BinaryExpr::new(Box::new(e), *op, Box::new(part)));
    let local = function("timezone", vec![lit(zone), at.as_ref().clone()])?;
    let day = function("timezone", vec![lit(zone), by_part(local, part(INTERVAL_DAYS)?)])?;
    Ok(Transformed::yes(by_part(day, part(INTERVAL_CLOCK)?)))
}

/// Whether an interval is known to be of nothing but hours and less.
fn is_without_days(interval: &Expr) -> bool {
    if matches!(interval, Expr::ScalarFunction(call) if call.func.name() == INTERVAL_CLOCK) {
        return true;
    }
    if !interval.column_refs().is_empty() {
        return false;
    }
    match fold_constant(interval.clone()) {
        Ok(Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _)) => interval.months == 0 && interval.days == 0,
        _ => false,
    }
}
