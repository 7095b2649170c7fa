//! Casts that depend on the session's time zone, of text to JSON, and of texts of a type of their own, replaced by functions of ours once types are known.
//! The zone becomes a constant of the plan, so a materialized view keeps the one it was created under. All other casts
//! that PostgreSQL does in its own way are replaced after coercion (`crate::casts`). On the way lists of values are set apart (`value_lists`), and calls
//! that would make texts of bytes are refused (`decoded`).

use super::decoded;
use super::value_lists::apart;
use crate::casts::TO_TEXT;
use crate::error::into_datafusion;
use crate::expr::call;
use crate::functions::checked::rewrite_expressions;
use crate::functions::typed::{field_of, type_of};
use crate::functions::{YEARS, text_types};
use crate::walk::Walk;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::{Between, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast};
use eddyline_common::types::TYPE_METADATA_KEY;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

/// Functions of a time whose fields are read off the session's clock.
const OF_LOCAL_TIME: &[&str] = &["date_part", "date_format", "to_char", YEARS];
/// Those that give a time again.
const TO_LOCAL_TIME: &[&str] = &["date_trunc", "eddyline_floor", "eddyline_ceil"];

/// Operators that compare.
pub(super) const COMPARISONS: &[Operator] = &[
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::IsDistinctFrom,
    Operator::IsNotDistinctFrom,
];

pub fn in_plan(plan: LogicalPlan, zone: &str) -> DfResult<LogicalPlan> {
    rewrite_expressions(plan, &|e, schema| e.up(|e| one(e, schema, zone)?.transform_data(apart)))
}

pub fn in_expr(expr: Expr, schema: &DFSchema, zone: &str) -> DfResult<Expr> {
    expr.up(|e| one(e, schema, zone)?.transform_data(apart)).map(|t| t.data)
}

fn one(expr: Expr, schema: &DFSchema, zone: &str) -> DfResult<Transformed<Expr>> {
    decoded::check(&expr, schema)?;
    let local = |e: Expr| function("timezone", vec![zone_of(zone), e]);
    Ok(match expr {
        Expr::Cast(Cast { expr, field }) => match cast(&expr, &field, schema, zone, false)? {
            Some(replaced) => Transformed::yes(replaced),
            None => bare(&field).update_data(|field| Expr::Cast(Cast { expr, field })),
        },
        Expr::TryCast(TryCast { expr, field }) => match cast(&expr, &field, schema, zone, true)? {
            Some(replaced) => Transformed::yes(replaced),
            None => bare(&field).update_data(|field| Expr::TryCast(TryCast { expr, field })),
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if COMPARISONS.contains(&op) => {
            let (left, right) = match (has_zone(&left, schema), has_zone(&right, schema)) {
                (Some(true), Some(false)) => (left, Box::new(local(*right)?)),
                (Some(false), Some(true)) => (Box::new(local(*left)?), right),
                _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            };
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Between(Between { expr, negated, low, high }) if has_zone(&expr, schema) == Some(true) => {
            let bound = |e: Box<Expr>| {
                Ok::<_, datafusion::common::DataFusionError>(match has_zone(&e, schema) {
                    Some(false) => Box::new(local(*e)?),
                    _ => e,
                })
            };
            Transformed::yes(Expr::Between(Between { expr, negated, low: bound(low)?, high: bound(high)? }))
        }
        Expr::ScalarFunction(call) => {
            let name = call.func.name();
            let again = TO_LOCAL_TIME.contains(&name);
            let at = call.args.iter().position(|a| has_zone(a, schema) == Some(true));
            match at {
                Some(at) if again || OF_LOCAL_TIME.contains(&name) => {
                    let ScalarFunction { func, mut args } = call;
                    args[at] = local(args[at].clone())?;
                    let called = Expr::ScalarFunction(ScalarFunction { func, args });
                    Transformed::yes(if again { local(called)? } else { called })
                }
                _ => Transformed::no(Expr::ScalarFunction(call)),
            }
        }
        other => Transformed::no(other),
    })
}

/// For a date or timestamp: whether it is one with a time zone.
fn has_zone(expr: &Expr, schema: &DFSchema) -> Option<bool> {
    match type_of(expr, schema).ok()? {
        DataType::Timestamp(_, zone) => Some(zone.is_some()),
        DataType::Date32 | DataType::Date64 => Some(false),
        _ => None,
    }
}

fn zone_of(zone: &str) -> Expr {
    Expr::Literal(ScalarValue::Utf8(Some(zone.to_string())), None)
}

fn function(name: &str, args: Vec<Expr>) -> DfResult<Expr> {
    call(name, args).map_err(into_datafusion)
}

/// What stands for `CAST(expr AS field)`, if that is not DataFusion's own cast.
fn cast(expr: &Expr, field: &Field, schema: &DFSchema, zone: &str, safe: bool) -> DfResult<Option<Expr>> {
    let Ok(own) = field_of(expr, schema) else { return Ok(None) };
    let (Some(from), Some(to)) = (SqlType::from_field(&own), SqlType::from_field(field)) else { return Ok(None) };
    let value = || expr.clone();
    if from != to && from != SqlType::Null && matches!(to, SqlType::Uuid | SqlType::Varchar(_) | SqlType::Char(_)) {
        return Ok(text_types::call(as_text(value(), &from, schema, zone)?, &to, false, safe));
    }
    if own.metadata().get(TYPE_METADATA_KEY).is_some_and(|mark| mark == "regproc") && to == SqlType::Text {
        // Its text is a name.
        return function(TO_TEXT, vec![value()]).map(Some);
    }
    if let (SqlType::SmallInt | SqlType::Integer | SqlType::BigInt, SqlType::Bytes) = (&from, &to) {
        // DataFusion would give the bytes as they are in memory.
        return Err(into_datafusion(SqlError::new(SqlState("42846"), format!("cannot cast type {from} to bytea"))));
    }
    let from = from.unlimited();
    let local = || function("timezone", vec![zone_of(zone), value()]);
    let replaced = match (from, to) {
        (SqlType::TimestampTz, SqlType::Timestamp) | (SqlType::Timestamp | SqlType::Date, SqlType::TimestampTz) => local()?,
        (SqlType::TimestampTz, to @ (SqlType::Date | SqlType::Time)) => Expr::Cast(Cast::new(Box::new(local()?), to.to_arrow())),
        (SqlType::TimestampTz, SqlType::Text) => function(TO_TEXT, vec![value(), zone_of(zone)])?,
        (SqlType::Text, SqlType::TimestampTz) => {
            function(if safe { "eddyline_try_instant" } else { "eddyline_instant" }, vec![value(), zone_of(zone)])?
        }
        (SqlType::Text, SqlType::Json) => function(if safe { "eddyline_try_json" } else { "eddyline_json" }, vec![value()])?,
        _ => return unmarked(value(), &own, field, safe),
    };
    Ok(Some(replaced))
}

/// A cast of a text whose field says more of it than that. All of that is left behind; DataFusion would hand it on.
fn unmarked(value: Expr, own: &Field, to: &Field, safe: bool) -> DfResult<Option<Expr>> {
    let is_marked = |field: &Field| field.metadata().contains_key(TYPE_METADATA_KEY);
    if *own.data_type() != DataType::Utf8 || !is_marked(own) || is_marked(to) {
        return Ok(None);
    }
    let text = function(TO_TEXT, vec![value])?;
    Ok(Some(match to.data_type() {
        DataType::Utf8 => text,
        ty if safe => Expr::TryCast(TryCast::new(Box::new(text), ty.clone())),
        ty => Expr::Cast(Cast::new(Box::new(text), ty.clone())),
    }))
}

/// The field of a cast that stays, without the name that it has while names are bound (`types::cast_field`): a cast to a field of a name is never left out, and may be null.
fn bare(field: &FieldRef) -> Transformed<FieldRef> {
    match field.name().is_empty() || !field.metadata().is_empty() {
        true => Transformed::no(field.clone()),
        false => Transformed::yes(Arc::new(field.as_ref().clone().with_name(""))),
    }
}

/// Any value's text.
fn as_text(expr: Expr, from: &SqlType, schema: &DFSchema, zone: &str) -> DfResult<Expr> {
    if from.to_arrow() == DataType::Utf8 {
        return Ok(expr);
    }
    in_expr(Expr::Cast(Cast::new(Box::new(expr), DataType::Utf8)), schema, zone)
}

/// What is stored of a text in a column of this type.
pub fn stored_text(text: Expr, ty: &SqlType) -> DfResult<Expr> {
    match ty {
        SqlType::Json => function("eddyline_json", vec![text]),
        ty => Ok(text_types::call(text.clone(), ty, true, false).unwrap_or(text)),
    }
}

/// What is stored in a column of this type, of a value of its Arrow type or of another.
pub fn stored(expr: Expr, ty: &SqlType, schema: &DFSchema, zone: &str) -> DfResult<Expr> {
    let (_, field) = expr.to_field(schema)?;
    let own = field.data_type();
    let is_checked = match ty {
        SqlType::Uuid | SqlType::Varchar(_) | SqlType::Char(_) => true,
        SqlType::Json => SqlType::from_field(&field) != Some(SqlType::Json),
        _ => false,
    };
    if is_checked && !own.is_null() {
        let from = SqlType::from_arrow(own).unwrap_or(SqlType::Text);
        return stored_text(as_text(expr, &from, schema, zone)?, ty);
    }
    match *own == ty.to_arrow() {
        true => Ok(expr),
        false => in_expr(Expr::Cast(Cast { expr: Box::new(expr), field: Arc::new(ty.field("", true)) }), schema, zone),
    }
}
