//! What operands mean by the types beside them, as in PostgreSQL: an untyped literal that is compared takes the other
//! side's type, and subscripts of the catalog's vectors (`int2vector`, `oidvector`) begin at zero.

use super::matching::check_operands;
use crate::functions::{INTERVAL_OVER, INTERVAL_TIMES, registry};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use eddyline_common::SqlType;
use eddyline_common::types::TYPE_METADATA_KEY;
use std::sync::Arc;

#[derive(Debug)]
pub struct Operands;

impl ExprPlanner for Operands {
    fn plan_binary_op(&self, binary: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::*;
        if matches!(binary.op, Multiply | Divide)
            && let Some(scaled) = scaled_interval(&binary, schema)?
        {
            return Ok(PlannerResult::Planned(scaled));
        }
        if !matches!(binary.op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            return Ok(PlannerResult::Original(binary));
        }
        let RawBinaryExpr { op, left, right } = binary;
        let left = typed_as(left, &right, schema)?;
        let right = typed_as(right, &left, schema)?;
        // What cannot be typed is reported by the binder, with its place.
        if let (Ok((_, left_field)), Ok((_, right_field))) = (left.to_field(schema), right.to_field(schema)) {
            check_operands(&op, (&left, &left_field), (&right, &right_field))?;
        }
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }

    fn plan_field_access(&self, access: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let field = access.expr.to_field(schema)?.1;
        let is_vector = field.metadata().get(TYPE_METADATA_KEY).is_some_and(|mark| mark.ends_with("vector"));
        Ok(match access {
            RawFieldAccessExpr { expr, field_access: GetFieldAccess::ListIndex { key } } if is_vector => {
                PlannerResult::Planned(array_element(expr, *key + lit(1i64)))
            }
            other => PlannerResult::Original(other),
        })
    }
}

/// An interval times a number, either way round, or by one.
fn scaled_interval(binary: &RawBinaryExpr, schema: &DFSchema) -> Result<Option<Expr>> {
    // What cannot be typed is reported by the binder, with its place.
    let (Ok(left), Ok(right)) = (binary.left.get_type(schema), binary.right.get_type(schema)) else { return Ok(None) };
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

/// A text literal as what stands beside it, where DataFusion would compare both as texts or not at all.
fn typed_as(expr: Expr, beside: &Expr, schema: &DFSchema) -> Result<Expr> {
    if !matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _)) {
        return Ok(expr);
    }
    let field = beside.to_field(schema)?.1;
    match (SqlType::from_field(&field), &expr) {
        (Some(uuid @ SqlType::Uuid), _) => {
            return Ok(Expr::Cast(Cast { expr: Box::new(expr), field: Arc::new(uuid.field("", true)) }));
        }
        // Blanks at its end mean nothing beside a character(n).
        (Some(SqlType::Char(_)), Expr::Literal(ScalarValue::Utf8(Some(text)), _)) => return Ok(lit(text.trim_end_matches(' '))),
        _ => {}
    }
    let target = field.data_type().clone();
    let takes = target.is_integer() || target.is_floating() || matches!(target, DataType::Boolean | DataType::List(_) | DataType::Binary);
    Ok(if takes { Expr::Cast(Cast::new(Box::new(expr), target)) } else { expr })
}
