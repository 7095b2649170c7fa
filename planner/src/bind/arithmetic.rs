//! Operands of `+`, `-`, `*`, `/`, `%`, of comparisons with intervals, and of the operators that ask whether one array contains another. As in PostgreSQL a literal in quotes, or a parameter, takes the
//! type that the operator wants beside the other side, a date that an interval moves is a timestamp, one that a number of days moves is a date, and the days
//! between two of them are an integer.

use super::common::{is_interval, literal_as};
use super::matching::is_text_literal;
use super::operands::parameter_as;
use crate::functions::typed::{field_of, type_of};
use crate::functions::{INTERVAL_TIMES, registry};
use datafusion::arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Cast, Expr, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use eddyline_common::SqlType;

#[derive(Debug)]
pub struct Arithmetic;

impl ExprPlanner for Arithmetic {
    fn plan_binary_op(&self, binary: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::*;
        if !matches!(binary.op, Plus | Minus | Multiply | Divide | Modulo | AtArrow | ArrowAt | Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            return Ok(PlannerResult::Original(binary));
        }
        let RawBinaryExpr { op, left, right } = binary;
        let (left, right) = match (is_open(&left), is_open(&right)) {
            (true, false) => (beside(left, &op, &right, schema), right),
            (false, true) => {
                let right = beside(right, &op, &left, schema);
                (left, right)
            }
            _ => (left, right),
        };
        // What cannot be typed is reported by the binder, with its place.
        let (Ok(from), Ok(to)) = (type_of(&left, schema), type_of(&right, schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        if op == Minus && from == DataType::Date32 && to == DataType::Date32 {
            return Ok(PlannerResult::Planned(Expr::Cast(Cast::new(Box::new(left - right), DataType::Int32))));
        }
        if let Some(date) = by_days(&op, (&left, &from), (&right, &to))? {
            return Ok(PlannerResult::Planned(date));
        }
        let (left, right) = moved(&op, (left, &from), (right, &to));
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}

/// Whether it is beside another value that something gets its type: a literal in quotes, or a parameter of which nothing else tells it.
fn is_open(expr: &Expr) -> bool {
    is_text_literal(expr) || matches!(expr, Expr::Placeholder(Placeholder { field: None, .. }))
}

fn beside(open: Expr, op: &BinaryOperator, other: &Expr, schema: &DFSchema) -> Expr {
    let Some(field) = field_of(other, schema).ok().and_then(|field| wanted(op, &field)) else { return open };
    match SqlType::from_field(&field) {
        Some(ty) if matches!(open, Expr::Placeholder(_)) => parameter_as(open, ty),
        _ => literal_as(open, &field),
    }
}

fn wanted(op: &BinaryOperator, other: &Field) -> Option<Field> {
    use BinaryOperator::*;
    let of = |ty: SqlType| Some(ty.field("", true));
    match (op, other.data_type()) {
        (AtArrow | ArrowAt, DataType::List(_)) => Some(other.clone()),
        (AtArrow | ArrowAt, _) => None,
        // Other comparisons are gone through once the plan is bound (`alternatives`); the binder would refuse these.
        (Eq | NotEq | Lt | LtEq | Gt | GtEq, ty) if is_interval(ty) => of(SqlType::Interval),
        (Eq | NotEq | Lt | LtEq | Gt | GtEq, _) => None,
        (_, number) if number.is_numeric() => Some(other.clone()),
        (Multiply | Divide, ty) if is_interval(ty) => of(SqlType::Double),
        (Plus, DataType::Timestamp(_, _) | DataType::Time64(_)) => of(SqlType::Interval),
        (Plus | Minus, ty) if is_interval(ty) => of(SqlType::Interval),
        (Minus, DataType::Timestamp(_, _) | DataType::Time64(_) | DataType::Date32) => Some(other.clone()),
        _ => None,
    }
}

/// A date and a number of days, which is an expression: DataFusion has it cast to an interval, which a view cannot and which has no room for many days.
fn by_days(op: &BinaryOperator, (left, from): (&Expr, &DataType), (right, to): (&Expr, &DataType)) -> Result<Option<Expr>> {
    let (date, days) = match op {
        BinaryOperator::Plus | BinaryOperator::Minus if *from == DataType::Date32 && to.is_signed_integer() => (left, right),
        BinaryOperator::Plus if from.is_signed_integer() && *to == DataType::Date32 => (right, left),
        _ => return Ok(None),
    };
    let is_literal = |days: &Expr| matches!(days, Expr::Literal(..));
    if is_literal(days) || matches!(days, Expr::Negative(days) if is_literal(days)) {
        return Ok(None);
    }
    let day = lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 1, 0))));
    let days = registry().udf(INTERVAL_TIMES)?.call(vec![day, days.clone()]);
    let midnight = Expr::Cast(Cast::new(Box::new(date.clone()), SqlType::Timestamp.to_arrow()));
    let time = if *op == BinaryOperator::Minus { midnight - days } else { midnight + days };
    Ok(Some(Expr::Cast(Cast::new(Box::new(time), DataType::Date32))))
}

/// Both sides, with a date that the other moves as a timestamp.
fn moved(op: &BinaryOperator, (left, from): (Expr, &DataType), (right, to): (Expr, &DataType)) -> (Expr, Expr) {
    let midnight = |date: Expr| Expr::Cast(Cast::new(Box::new(date), SqlType::Timestamp.to_arrow()));
    match op {
        BinaryOperator::Plus | BinaryOperator::Minus if *from == DataType::Date32 && is_interval(to) => (midnight(left), right),
        BinaryOperator::Plus if is_interval(from) && *to == DataType::Date32 => (left, midnight(right)),
        _ => (left, right),
    }
}
