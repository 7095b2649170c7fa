//! DISTINCT ON and its order. DataFusion compares the two item by item, in their spellings' order; PostgreSQL wants what ON names before all else in the order,
//! however it is spelled, repeated and arranged. So what ON names is put in front of the order while names have no meaning yet, and when they have one,
//! the order that was written is compared with it and takes its place. What is sorted by already adds nothing.

use super::common::sorted;
use super::grouping::at_position;
use crate::error::into_datafusion;
use crate::walk::WalkPlan;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Distinct, DistinctOn, Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast;
use eddyline_common::{SqlError, SqlState};

/// Puts what ON names in front of the query's order. It is there twice, which no other order has: a plan may have been rewritten before. A number in ON is a position.
pub fn name_first(select: &mut ast::Select, order: &mut Option<ast::OrderBy>) {
    let ast::Select { distinct: Some(ast::Distinct::On(on)), projection, .. } = select else { return };
    for named in on.iter_mut() {
        if let Some(item) = at_position(named, projection) {
            *named = item.clone();
        }
    }
    let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(order), .. }) = order else { return };
    let Some(first) = order.first().cloned() else { return };
    let named: Vec<ast::OrderByExpr> = on.iter().chain(on.iter()).map(|e| ast::OrderByExpr { expr: e.clone(), ..first.clone() }).collect();
    order.splice(..0, named);
}

/// Gives every DISTINCT ON the order that was written.
pub fn rewrite(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plan = plan.up_with_subqueries(|node| match node {
        LogicalPlan::Distinct(Distinct::On(mut distinct)) => {
            arrange(&mut distinct)?;
            let named = distinct.on_expr.len();
            for by in distinct.sort_expr.iter_mut().flatten().skip(named) {
                by.expr = sorted(by.expr.clone(), distinct.input.schema())?.data;
            }
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::On(distinct))))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// Lets the order begin with what ON names, and ON follow it.
fn arrange(distinct: &mut DistinctOn) -> DfResult<()> {
    let DistinctOn { on_expr: on, sort_expr, .. } = distinct;
    let named = on.len();
    keep_first(on, |e| e);
    let Some(order) = sort_expr else { return Ok(()) };
    let is_twice = order.len() >= 2 * named && (0..named).all(|at| order[at].expr == order[named + at].expr);
    if !is_twice {
        return Ok(());
    }
    order.drain(..2 * named);
    keep_first(order, |by| &by.expr);
    let leading = order.iter().take_while(|by| on.contains(&by.expr)).count();
    let is_whole = leading == on.len() && !order[leading..].iter().any(|by| on.contains(&by.expr));
    if !is_whole && leading < order.len() {
        let message = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions";
        return Err(into_datafusion(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message)));
    }
    let missing: Vec<Sort> =
        on.iter().filter(|e| !order.iter().any(|by| by.expr == **e)).map(|e| Sort::new(e.clone(), true, false)).collect();
    order.extend(missing);
    *on = order[..on.len()].iter().map(|by| by.expr.clone()).collect();
    Ok(())
}

/// Leaves of equal items the first.
fn keep_first<T>(items: &mut Vec<T>, expr: impl Fn(&T) -> &Expr) {
    let mut seen: Vec<Expr> = Vec::with_capacity(items.len());
    items.retain(|item| {
        let is_new = !seen.contains(expr(item));
        seen.push(expr(item).clone());
        is_new
    });
}
