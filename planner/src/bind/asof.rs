//! ASOF joins: each left row with the right row of its key that is nearest to it in an order. The rewriter puts a mark into the condition of the
//! join (`mark_joins`), which becomes plain relational algebra here: a right row is nearest from its own place up to that of its neighbour, which a
//! window function gives, and the left row lies between. So it follows every change of both sides, and a SELECT runs it too.

use super::marked;
use crate::error::into_datafusion;
use crate::functions::{ASOF, registry};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{BinaryExpr, Sort, WindowFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::sql::sqlparser::ast::{self as sql, JoinConstraint, JoinOperator};
use eddyline_common::SqlError;

/// The order of a right row's neighbour.
const NEIGHBOUR: &str = "__asof_neighbour";
/// What `ASOF LEFT JOIN ... MATCH_CONDITION (c)` has as its condition: a call of this with c.
pub const LEFT: &str = "__asof_left";

/// Makes ASOF joins of a FROM list joins whose condition has a mark.
pub fn mark_joins(select: &mut sql::Select) {
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        let JoinOperator::AsOf { match_condition, constraint } = &join.join_operator else { continue };
        let (nearest, outer) = match match_condition {
            sql::Expr::Function(f) if f.name.to_string() == LEFT => match super::rewrite::arguments(f).as_slice() {
                [nearest] => ((*nearest).clone(), true),
                _ => continue,
            },
            other => (other.clone(), false),
        };
        let mark = super::rewrite::call(ASOF, vec![nearest]);
        let condition = match constraint {
            JoinConstraint::On(on) => {
                let on = Box::new(sql::Expr::Nested(Box::new(on.clone())));
                sql::Expr::BinaryOp { left: on, op: sql::BinaryOperator::And, right: Box::new(mark) }
            }
            JoinConstraint::None => mark,
            _ => continue,
        };
        let constraint = JoinConstraint::On(condition);
        join.join_operator = if outer { JoinOperator::Left(constraint) } else { JoinOperator::Inner(constraint) };
    }
}

/// Replaces every join whose condition has the mark.
pub fn rewrite(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    marked::replace_joins(plan, ASOF, nearest)
}

fn mark(e: &Expr) -> Option<&Expr> {
    marked::argument(e, ASOF)
}

fn refuse<T>(message: &str, hint: &str) -> DfResult<T> {
    Err(into_datafusion(SqlError::unsupported(message).with_hint(hint)))
}

/// Whether an expression is over columns of a schema alone.
fn is_over(e: &Expr, schema: &DFSchema) -> bool {
    e.column_refs().iter().all(|column| schema.has_column(column))
}

fn nearest(join: Join) -> DfResult<LogicalPlan> {
    let Join { left, right, on, filter, join_type, .. } = join;
    let (marks, rest): (Vec<Expr>, Vec<Expr>) =
        split_conjunction_owned(filter.unwrap_or_default()).into_iter().partition(|e| mark(e).is_some());
    let Some((op, of_left, of_right)) = marks.first().and_then(mark).and_then(|e| comparison(e, left.schema(), right.schema())) else {
        return refuse(
            "MATCH_CONDITION compares something of the left side with something of the right one",
            "Write MATCH_CONDITION (a.ts >= b.ts).",
        );
    };
    let (mut keys, mut conditions, mut of_right_alone) = (Vec::new(), Vec::new(), Vec::new());
    for (l, r) in on {
        keys.push(r.clone());
        conditions.push(l.eq(r));
    }
    for condition in rest {
        match key(&condition, left.schema(), right.schema()) {
            Some(key) => {
                keys.push(key);
                conditions.push(condition);
            }
            None if is_over(&condition, right.schema()) => of_right_alone.push(condition),
            None if is_over(&condition, left.schema()) => conditions.push(condition),
            None => return refuse("an ASOF join is ON equalities, and on conditions over one side", "Put other conditions into WHERE."),
        }
    }
    let columns = right.schema().columns();
    let candidates = conjunction(of_right_alone.into_iter().chain([of_right.clone().is_not_null()]));
    let mut rows = LogicalPlanBuilder::from(right.as_ref().clone());
    if let Some(candidates) = candidates {
        rows = rows.filter(candidates)?;
    }
    // Of rows in one place the last one counts, by all that they have.
    let ordered = |field: &DataType| !matches!(field, DataType::Struct(_) | DataType::Map(_, _));
    let others = right.schema().iter().filter(|(_, field)| ordered(field.data_type())).map(|(q, f)| Expr::Column(Column::from((q, f))));
    let order: Vec<Sort> = [of_right.clone()].into_iter().chain(others).map(|e| Sort::new(e, true, false)).collect();
    let before = matches!(op, Operator::GtEq | Operator::Gt);
    let neighbour = Expr::from(WindowFunction::new(registry().udwf(if before { "lead" } else { "lag" })?, vec![of_right.clone()]));
    let neighbour = neighbour.partition_by(keys).order_by(order).build()?;
    let found = Expr::Column(Column::new_unqualified(neighbour.schema_name().to_string()));
    let exprs: Vec<Expr> = columns.iter().cloned().map(Expr::Column).chain([found.alias(NEIGHBOUR)]).collect();
    let rows = rows.window(vec![neighbour])?.project(exprs)?.build()?;
    let next = || Expr::Column(Column::new_unqualified(NEIGHBOUR));
    let (own, other) = match op {
        Operator::GtEq => (of_left.clone().gt_eq(of_right), of_left.lt(next())),
        Operator::Gt => (of_left.clone().gt(of_right), of_left.lt_eq(next())),
        Operator::LtEq => (of_left.clone().lt_eq(of_right), of_left.gt(next())),
        _ => (of_left.clone().lt(of_right), of_left.gt_eq(next())),
    };
    conditions.extend([own, other.or(next().is_null())]);
    let output: Vec<Expr> = left.schema().columns().into_iter().chain(columns).map(Expr::Column).collect();
    LogicalPlanBuilder::from(left.as_ref().clone()).join_on(rows, join_type, conditions)?.project(output)?.build()
}

/// How the left side of a comparison is to the right one.
fn comparison(e: &Expr, left: &DFSchema, right: &DFSchema) -> Option<(Operator, Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op, right: b }) = e else { return None };
    let turned = match op {
        Operator::GtEq => Operator::LtEq,
        Operator::Gt => Operator::Lt,
        Operator::LtEq => Operator::GtEq,
        Operator::Lt => Operator::Gt,
        _ => return None,
    };
    let names = |e: &Expr| !e.column_refs().is_empty();
    match (names(a) && names(b), is_over(a, left) && is_over(b, right), is_over(b, left) && is_over(a, right)) {
        (true, true, _) => Some((*op, a.as_ref().clone(), b.as_ref().clone())),
        (true, _, true) => Some((turned, b.as_ref().clone(), a.as_ref().clone())),
        _ => None,
    }
}

/// The right side of an equality between both.
fn key(e: &Expr, left: &DFSchema, right: &DFSchema) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) = e else { return None };
    let names = |e: &Expr| !e.column_refs().is_empty();
    match (is_over(a, left) && is_over(b, right), is_over(b, left) && is_over(a, right)) {
        _ if !names(a) || !names(b) => None,
        (true, _) => Some(b.as_ref().clone()),
        (_, true) => Some(a.as_ref().clone()),
        _ => None,
    }
}
