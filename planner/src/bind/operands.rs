//! What operands mean by the types beside them, as in PostgreSQL: an untyped literal that is compared takes the other
//! side's type, and subscripts of the catalog's vectors (`int2vector`, `oidvector`) begin at zero.

use super::matching::check_operands;
use super::{alternatives, any, json};
use crate::functions::typed::{field_of, type_of};
use crate::functions::{INTERVAL_OVER, INTERVAL_TIMES, QUOTIENT, registry};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::expr::{Cast, Placeholder, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use eddyline_common::SqlType;
use eddyline_common::postgres::procs;
use eddyline_common::types::TYPE_METADATA_KEY;
use std::sync::Arc;

/// Digits of a numeric.
pub const MAX_PRECISION: u8 = 38;

#[derive(Debug)]
pub struct Operands;

impl ExprPlanner for Operands {
    fn plan_binary_op(&self, binary: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::*;
        let RawBinaryExpr { op, left, right } = binary;
        let binary = RawBinaryExpr { op, left: settled(left, schema)?, right: settled(right, schema)? };
        if any::is_marked(&binary.op) {
            return any::planned(binary.left, binary.right, schema).map(PlannerResult::Planned);
        }
        if let Some(call) = json::operator(&binary, schema)? {
            return Ok(PlannerResult::Planned(call));
        }
        if matches!(binary.op, Multiply | Divide)
            && let Some(scaled) = scaled_interval(&binary, schema)?
        {
            return Ok(PlannerResult::Planned(scaled));
        }
        if binary.op == Divide
            && let Some(quotient) = quotient(&binary, schema)?
        {
            return Ok(PlannerResult::Planned(quotient));
        }
        if binary.op == StringConcat
            && let Some(list) = beside_null(&binary, schema)
        {
            return Ok(PlannerResult::Planned(list));
        }
        if !matches!(binary.op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            return Ok(PlannerResult::Original(binary));
        }
        let RawBinaryExpr { op, left, right } = binary;
        // What cannot be typed is reported by the binder, with its place.
        let (Ok(left_field), Ok(right_field)) = (field_of(&left, schema), field_of(&right, schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        check_operands(&op, (&left, &left_field), (&right, &right_field))?;
        let (left, right) = (typed_as(left, &right_field), typed_as(right, &left_field));
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }

    fn plan_field_access(&self, access: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        // A vector that is cast to an array begins where it did.
        let source = if let Expr::Cast(cast) = &access.expr { cast.expr.as_ref() } else { &access.expr };
        let field = source.to_field(schema)?.1;
        let is_vector = field.metadata().get(TYPE_METADATA_KEY).is_some_and(|mark| mark.ends_with("vector"));
        Ok(match access {
            RawFieldAccessExpr { expr, field_access: GetFieldAccess::ListIndex { key } } if is_vector => {
                PlannerResult::Planned(array_element(expr, *key + lit(1i64)))
            }
            // DataFusion would call another aggregate, which nobody wrote.
            RawFieldAccessExpr { expr: expr @ Expr::AggregateFunction(_), field_access: GetFieldAccess::ListIndex { key } }
                if matches!(field.data_type(), DataType::List(_)) =>
            {
                PlannerResult::Planned(array_element(expr, *key))
            }
            other => PlannerResult::Original(other),
        })
    }
}

/// A CASE that begins with a literal in quotes is of the type of its other branches.
fn settled(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    if matches!(expr, Expr::Case(_)) { Ok(alternatives::in_expr(expr, schema)?.data) } else { Ok(expr) }
}

/// The array that a null is put to: there the null is an array too, and one of nothing.
fn beside_null(binary: &RawBinaryExpr, schema: &DFSchema) -> Option<Expr> {
    let is_null = |expr: &Expr| matches!(expr, Expr::Literal(ScalarValue::Null, _));
    let list = match (is_null(&binary.left), is_null(&binary.right)) {
        (false, true) => &binary.left,
        (true, false) => &binary.right,
        _ => return None,
    };
    matches!(type_of(list, schema), Ok(DataType::List(_))).then(|| list.clone())
}

/// An interval times a number, either way round, or by one.
fn scaled_interval(binary: &RawBinaryExpr, schema: &DFSchema) -> Result<Option<Expr>> {
    // What cannot be typed is reported by the binder, with its place.
    let (Ok(left), Ok(right)) = (type_of(&binary.left, schema), type_of(&binary.right, schema)) else { return Ok(None) };
    let interval = |ty: &DataType| matches!(ty, DataType::Interval(_) | DataType::Duration(_));
    let number = |ty: &DataType| ty.is_numeric() || ty.is_null();
    let (name, interval, number) = match (&binary.op, interval(&left), interval(&right)) {
        (BinaryOperator::Multiply, true, false) if number(&right) => (INTERVAL_TIMES, &binary.left, &binary.right),
        (BinaryOperator::Multiply, false, true) if number(&left) => (INTERVAL_TIMES, &binary.right, &binary.left),
        (BinaryOperator::Divide, true, false) if number(&right) => (INTERVAL_OVER, &binary.left, &binary.right),
        _ => return Ok(None),
    };
    let udf = registry().udf(name)?;
    Ok(Some(Expr::ScalarFunction(ScalarFunction::new_udf(udf, vec![interval.clone(), number.clone()]))))
}

/// A division of numerics, or of a numeric and an integer: DataFusion cuts the last digit off, and Arrow's type has few digits.
fn quotient(binary: &RawBinaryExpr, schema: &DFSchema) -> Result<Option<Expr>> {
    // What cannot be typed is reported by the binder, with its place.
    let (Ok(left), Ok(right)) = (type_of(&binary.left, schema), type_of(&binary.right, schema)) else { return Ok(None) };
    let numeric = |ty: &DataType| matches!(ty, DataType::Decimal128(_, _));
    let exact = |ty: &DataType| numeric(ty) || ty.is_signed_integer();
    if !(numeric(&left) || numeric(&right)) || !exact(&left) || !exact(&right) {
        return Ok(None);
    }
    Ok(Some(registry().udf(QUOTIENT)?.call(vec![binary.left.clone(), binary.right.clone()])))
}

/// A text literal as what it is compared with, where DataFusion would compare both as texts or not at all.
pub fn typed_as(expr: Expr, beside: &Field) -> Expr {
    let target = beside.data_type();
    let takes = target.is_numeric() || matches!(target, DataType::Boolean | DataType::List(_) | DataType::Binary);
    let is_text = SqlType::from_field(beside).is_some_and(|ty| matches!(ty, SqlType::Uuid | SqlType::Char(_)));
    if takes || is_text { cast_literal(expr, beside) } else { expr }
}

/// A text literal as a value of a field's type; whatever else as it is.
pub fn cast_literal(expr: Expr, to: &Field) -> Expr {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &expr else { return expr };
    if let Some(oid) = proc_oid(text, to) {
        return lit(i64::from(oid));
    }
    match SqlType::from_field(to) {
        // Blanks at its end mean nothing beside a character(n).
        Some(SqlType::Char(_)) => lit(text.trim_end_matches(' ')),
        Some(SqlType::Decimal { precision, scale }) => cast_to(decimal_of(text, precision, scale), expr),
        Some(SqlType::Text | SqlType::Varchar(_) | SqlType::Json | SqlType::Null) | None => expr,
        Some(ty) if ty.to_arrow() == *to.data_type() => cast_to(ty, expr),
        Some(_) => Expr::Cast(Cast::new(Box::new(expr), to.data_type().clone())),
    }
}

/// A parameter that nothing tells the type of, as one of the type; whatever else as it is.
pub fn parameter_as(expr: Expr, ty: SqlType) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) => {
            Expr::Placeholder(Placeholder::new_with_field(id, Some(Arc::new(ty.field("", true)))))
        }
        other => other,
    }
}

/// The function of a name beside a `regproc`.
fn proc_oid(name: &str, beside: &Field) -> Option<u32> {
    let is_proc = beside.metadata().get(TYPE_METADATA_KEY).is_some_and(|mark| mark == "regproc") && beside.data_type().is_integer();
    if is_proc { procs::oid_of(name) } else { None }
}

fn cast_to(ty: SqlType, expr: Expr) -> Expr {
    Expr::Cast(Cast { expr: Box::new(expr), field: Arc::new(ty.field("", true)) })
}

/// The type beside a number in quotes, or one that holds all digits of the number.
fn decimal_of(text: &str, precision: u8, scale: i8) -> SqlType {
    let number = text.trim().trim_start_matches(['-', '+']);
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse::<i32>().map_or(0, i64::from);
    let (whole, fraction) = (whole.len() as i64 + exponent, (fraction.len() as i64 - exponent).max(0));
    let fits = whole <= precision as i64 - scale as i64 && fraction <= scale as i64;
    match i8::try_from(fraction) {
        Ok(digits) if !fits && digits <= MAX_PRECISION as i8 => SqlType::Decimal { precision: MAX_PRECISION, scale: scale.max(digits) },
        _ => SqlType::Decimal { precision, scale },
    }
}
