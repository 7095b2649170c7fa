//! ASOF joins: each left row with the right row of its key that is nearest to it in an order. The rewriter puts a mark into the condition of the
//! join (`mark_joins`). In a view the join that has the mark becomes a node of its own (`ChosenJoin`). In a SELECT it becomes plain relational algebra: a right row is
//! nearest from its own place up to that of its neighbour, which a window function gives, and the left row lies between.

use super::chosen::{Choice, ChosenJoin};
use super::{Mode, marked};
use crate::error::into_datafusion;
use crate::functions::{ASOF, registry};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, JoinType, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{BinaryExpr, Sort, WindowFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder, Operator, lit};
use datafusion::sql::sqlparser::ast::{self as sql, JoinConstraint, JoinOperator};
use eddyline_common::SqlError;
use std::sync::Arc;

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
pub fn rewrite(plan: LogicalPlan, mode: Mode) -> DfResult<LogicalPlan> {
    marked::replace_joins(plan, ASOF, |join| {
        let parts = Parts::of(join)?;
        match mode {
            Mode::Streaming => parts.node(),
            Mode::Batch => parts.relational(),
        }
    })
}

fn mark(e: &Expr) -> Option<&Expr> {
    marked::argument(e, ASOF)
}

fn refuse<T>(message: &str, hint: &str) -> DfResult<T> {
    Err(into_datafusion(SqlError::unsupported(message).with_hint(hint)))
}

/// Whether an expression is over columns of a schema alone.
pub fn is_over(e: &Expr, schema: &DFSchema) -> bool {
    e.column_refs().iter().all(|column| schema.has_column(column))
}

/// What a join and its mark say.
struct Parts {
    left: Arc<LogicalPlan>,
    right: Arc<LogicalPlan>,
    join_type: JoinType,
    /// How a left row's place is to that of a right row.
    op: Operator,
    of_left: Expr,
    of_right: Expr,
    /// The right sides of the equalities.
    keys: Vec<Expr>,
    equalities: Vec<Expr>,
    of_left_alone: Vec<Expr>,
    of_right_alone: Vec<Expr>,
}

impl Parts {
    fn of(join: Join) -> DfResult<Parts> {
        let Join { left, right, on, filter, join_type, .. } = join;
        let (marks, rest): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.unwrap_or_default()).into_iter().partition(|e| mark(e).is_some());
        let Some((op, of_left, of_right)) = marks.first().and_then(mark).and_then(|e| comparison(e, left.schema(), right.schema())) else {
            return refuse(
                "MATCH_CONDITION compares something of the left side with something of the right one",
                "Write MATCH_CONDITION (a.ts >= b.ts).",
            );
        };
        let keys = on.iter().map(|(_, r)| r.clone()).collect();
        let equalities = on.into_iter().map(|(l, r)| l.eq(r)).collect();
        let (of_left_alone, of_right_alone) = Default::default();
        let mut parts = Parts { left, right, join_type, op, of_left, of_right, keys, equalities, of_left_alone, of_right_alone };
        for condition in rest {
            match key(&condition, parts.left.schema(), parts.right.schema()) {
                Some(key) => {
                    parts.keys.push(key);
                    parts.equalities.push(condition);
                }
                None if is_over(&condition, parts.right.schema()) => parts.of_right_alone.push(condition),
                None if is_over(&condition, parts.left.schema()) => parts.of_left_alone.push(condition),
                None => {
                    return refuse("an ASOF join is ON equalities, and on conditions over one side", "Put other conditions into WHERE.");
                }
            }
        }
        Ok(parts)
    }

    /// The right columns by which rows in one place are told apart.
    fn order(&self) -> Vec<Expr> {
        let ordered = |ty: &DataType| !matches!(ty, DataType::Struct(_) | DataType::Map(_, _));
        let columns = self.right.schema().iter().filter(|(_, field)| ordered(field.data_type()));
        columns.map(|(q, f)| Expr::Column(Column::from((q, f)))).collect()
    }

    fn node(self) -> DfResult<LogicalPlan> {
        let order = self.order();
        let Parts { left, right, join_type, op, of_left, of_right, equalities, of_left_alone, of_right_alone, .. } = self;
        let right = filtered(right, conjunction(of_right_alone))?;
        let (left, of_left_alone) = match join_type {
            JoinType::Inner => (filtered(left, conjunction(of_left_alone))?, vec![]),
            _ => (left, of_left_alone),
        };
        let condition = conjunction(equalities.into_iter().chain(of_left_alone)).unwrap_or_else(|| lit(true));
        let compared = Expr::BinaryExpr(BinaryExpr::new(Box::new(of_left), op, Box::new(of_right)));
        Ok(ChosenJoin::try_new([left, right], join_type, condition, Choice::Nearest { compared, order })?.into_plan())
    }

    fn relational(self) -> DfResult<LogicalPlan> {
        let columns = self.right.schema().columns();
        let others = self.order();
        let Parts { left, right, join_type, op, of_left, of_right, keys, equalities, of_left_alone, of_right_alone } = self;
        let candidates = conjunction(of_right_alone.into_iter().chain([of_right.clone().is_not_null()]));
        let rows = LogicalPlanBuilder::from(filtered(right, candidates)?.as_ref().clone());
        // Of rows in one place the last one counts, by all that they have.
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
        let conditions = equalities.into_iter().chain(of_left_alone).chain([own, other.or(next().is_null())]);
        let output: Vec<Expr> = left.schema().columns().into_iter().chain(columns).map(Expr::Column).collect();
        LogicalPlanBuilder::from(left.as_ref().clone()).join_on(rows, join_type, conditions)?.project(output)?.build()
    }
}

fn filtered(plan: Arc<LogicalPlan>, condition: Option<Expr>) -> DfResult<Arc<LogicalPlan>> {
    match condition {
        Some(condition) => LogicalPlanBuilder::from(plan.as_ref().clone()).filter(condition)?.build().map(Arc::new),
        None => Ok(plan),
    }
}

/// How the left side of a comparison is to the right one.
pub fn comparison(e: &Expr, left: &DFSchema, right: &DFSchema) -> Option<(Operator, Expr, Expr)> {
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
