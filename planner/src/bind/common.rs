//! What values become before they are compared, or before one of them is taken (CASE, COALESCE, UNION), where PostgreSQL's choice is not DataFusion's: beside a float a numeric is
//! a float too, intervals are compared by their length, and a date beside a timestamp is one. And what a literal in quotes becomes beside a time or an interval.

use super::operands::cast_literal;
use crate::error::into_datafusion;
use crate::expr::call;
use crate::functions::typed::type_of;
use crate::functions::{INTERVAL_LENGTH, TIME_SINCE};
use crate::optimize::fold_constant;
use crate::types::cast_field;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::type_coercion::binary::{comparison_coercion, type_union_resolution};
use datafusion::logical_expr::{Cast, Expr, lit};
use eddyline_common::SqlType;
use eddyline_common::postgres::parse;
use eddyline_common::time::MICROS_PER_DAY;
use std::sync::Arc;

pub fn is_interval(ty: &DataType) -> bool {
    matches!(ty, DataType::Interval(_) | DataType::Duration(_))
}

fn is_date(ty: &DataType) -> bool {
    matches!(ty, DataType::Date32)
}

fn is_wall_clock(ty: &DataType) -> bool {
    matches!(ty, DataType::Timestamp(TimeUnit::Microsecond, None))
}

fn is_moment(ty: &DataType) -> bool {
    is_date(ty) || matches!(ty, DataType::Timestamp(TimeUnit::Microsecond, _))
}

fn is_real(ty: &DataType) -> bool {
    matches!(ty, DataType::Float32)
}

pub fn cast_to(expr: Expr, ty: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), ty))
}

fn function(name: &str, args: Vec<Expr>) -> DfResult<Expr> {
    call(name, args).map_err(into_datafusion)
}

/// Values as they are compared with each other; `None` where DataFusion does it right.
pub fn compared(values: &[Expr], types: &[DataType]) -> DfResult<Option<Vec<Expr>>> {
    let any = |is: fn(&DataType) -> bool| types.iter().any(is);
    let all = |is: fn(&DataType) -> bool| types.iter().all(|ty| is(ty) || ty.is_null());
    if any(is_interval) && all(is_interval) {
        return each(values, types, |value, _| function(INTERVAL_LENGTH, vec![value]));
    }
    if any(is_date) && any(is_wall_clock) && all(|ty| is_date(ty) || is_wall_clock(ty)) {
        return dates(values, types);
    }
    let mixed = any(DataType::is_decimal) || any(is_real) && !all(is_real);
    if any(DataType::is_floating) && all(DataType::is_numeric) && mixed {
        return each(values, types, |value, ty| Ok(float(value, ty, &DataType::Float64)));
    }
    Ok(None)
}

/// The type that two numbers of different types are compared as, where one of them is a numeric, or a real beside something else; others are DataFusion's to widen.
pub fn compared_number(left: &DataType, right: &DataType) -> Option<DataType> {
    let any = |is: fn(&DataType) -> bool| is(left) || is(right);
    let mixed = any(DataType::is_decimal) || any(is_real);
    if left == right || !left.is_numeric() || !right.is_numeric() || !mixed {
        return None;
    }
    if any(DataType::is_floating) { Some(DataType::Float64) } else { comparison_coercion(left, right) }
}

fn each(values: &[Expr], types: &[DataType], convert: impl Fn(Expr, &DataType) -> DfResult<Expr>) -> DfResult<Option<Vec<Expr>>> {
    let one = |(value, ty): (&Expr, &DataType)| if ty.is_null() { Ok(value.clone()) } else { convert(value.clone(), ty) };
    values.iter().zip(types).map(one).collect::<DfResult<_>>().map(Some)
}

/// Dates beside timestamps. Constants at midnight become dates instead, so that a column of dates is compared as it is.
fn dates(values: &[Expr], types: &[DataType]) -> DfResult<Option<Vec<Expr>>> {
    let day = |(value, ty): (&Expr, &DataType)| if is_wall_clock(ty) { midnight(value) } else { None };
    let days: Vec<Option<Expr>> = values.iter().zip(types).map(day).collect();
    if types.iter().zip(&days).all(|(ty, day)| !is_wall_clock(ty) || day.is_some()) {
        return Ok(Some(values.iter().zip(days).map(|(value, day)| day.unwrap_or_else(|| value.clone())).collect()));
    }
    each(values, types, |value, ty| Ok(if is_date(ty) { cast_to(value, SqlType::Timestamp.to_arrow()) } else { value }))
}

/// The day of a constant at its very begin.
fn midnight(expr: &Expr) -> Option<Expr> {
    if !expr.column_refs().is_empty() {
        return None;
    }
    let Ok(Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), None), _)) = fold_constant(expr.clone()) else { return None };
    let day = i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok()?;
    (micros.rem_euclid(MICROS_PER_DAY) == 0).then(|| lit(ScalarValue::Date32(Some(day))))
}

/// The type of which one of several values is: a float, if there are floats and numerics.
pub fn float_of(types: &[DataType]) -> Option<DataType> {
    let any = |is: fn(&DataType) -> bool| types.iter().any(is);
    let mixed = any(DataType::is_decimal) && any(DataType::is_floating) && types.iter().all(|ty| ty.is_numeric() || ty.is_null());
    mixed.then(|| widest_float(types))
}

fn widest_float(types: &[DataType]) -> DataType {
    if types.contains(&DataType::Float64) { DataType::Float64 } else { DataType::Float32 }
}

/// What of which one of several values is, none of them null. Of numbers it is a float, if one is, or else what holds the digits of all; of times one with a zone, or else one with a
/// clock. It is `None` if the values are nothing in common.
pub fn common_field(fields: &[FieldRef]) -> Option<FieldRef> {
    let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
    let ty = common_type(&types)?;
    let known: Vec<SqlType> = fields.iter().filter_map(|field| SqlType::from_field(field)).collect();
    if let Some(text) = common_text(&known) {
        return Some(Arc::new(cast_field(&text)));
    }
    // One that is there says more than its type.
    let found = fields.iter().find(|field| *field.data_type() == ty).cloned();
    Some(found.unwrap_or_else(|| Arc::new(Field::new("", ty, true))))
}

fn common_type(types: &[DataType]) -> Option<DataType> {
    let all = |is: fn(&DataType) -> bool| types.iter().all(is);
    if types.iter().any(DataType::is_floating) && all(DataType::is_numeric) {
        return Some(widest_float(types));
    }
    if all(is_moment) {
        return types.iter().max_by_key(|ty| (!is_date(ty), !is_date(ty) && !is_wall_clock(ty))).cloned();
    }
    type_union_resolution(types)
}

/// Texts of several limits: as many characters as the longest has, or else any number of them.
fn common_text(types: &[SqlType]) -> Option<SqlType> {
    let (first, others) = types.split_first()?;
    if !types.iter().all(SqlType::is_text) || others.iter().all(|ty| ty == first) {
        return None;
    }
    let lengths = types.iter().map(|ty| if let SqlType::Char(length) = ty { Some(*length) } else { None });
    let longest = lengths.collect::<Option<Vec<u32>>>().and_then(|lengths| lengths.into_iter().max());
    Some(longest.map_or(SqlType::Text, SqlType::Char))
}

/// A value as what `common_field` gave for it and others; `None` if it is that already, or becomes it by itself.
pub fn widened(value: &Expr, own: &Field, to: &FieldRef) -> Option<Expr> {
    let (from, ty) = (own.data_type(), to.data_type());
    let both = |is: fn(&DataType) -> bool| is(from) && is(ty);
    let are_texts = |from: SqlType, to: SqlType| from.is_text() && to.is_text() && from != to;
    if from == ty {
        let differ = SqlType::from_field(own).zip(SqlType::from_field(to)).is_some_and(|(from, to)| are_texts(from, to));
        return differ.then(|| Expr::Cast(Cast { expr: Box::new(value.clone()), field: to.clone() }));
    }
    if ty.is_floating() && (from.is_decimal() || from.is_floating()) {
        return Some(float(value.clone(), from, ty));
    }
    (both(DataType::is_numeric) || both(is_moment)).then(|| cast_to(value.clone(), ty.clone()))
}

/// A float or a numeric as a float.
pub fn float(value: Expr, ty: &DataType, to: &DataType) -> Expr {
    if ty == to || !(ty.is_decimal() || ty.is_floating()) {
        return value;
    }
    let exact = match &value {
        Expr::Literal(ScalarValue::Decimal128(Some(digits), _, scale), _) => format!("{digits}e{}", -i16::from(*scale)).parse::<f64>().ok(),
        _ => None,
    };
    match exact {
        Some(exact) if *to == DataType::Float64 => lit(exact),
        _ => cast_to(value, to.clone()),
    }
}

/// One time less another; `None` if these are no times, or both dates.
pub fn difference(left: &Expr, right: &Expr, schema: &DFSchema) -> DfResult<Option<Expr>> {
    let (Ok(from), Ok(to)) = (type_of(left, schema), type_of(right, schema)) else { return Ok(None) };
    let is_timestamp = |ty: &DataType| matches!(ty, DataType::Timestamp(_, _));
    let is_moment = |ty: &DataType| is_timestamp(ty) || matches!(ty, DataType::Date32 | DataType::Date64);
    if !is_moment(&from) || !is_moment(&to) || !(is_timestamp(&from) || is_timestamp(&to)) {
        return Ok(None);
    }
    let has_zone = |ty: &DataType| matches!(ty, DataType::Timestamp(_, Some(_)));
    let either = has_zone(&from) || has_zone(&to);
    let instant = |e: &Expr, ty: &DataType| match either && !has_zone(ty) {
        true => cast_to(e.clone(), SqlType::TimestampTz.to_arrow()),
        false => e.clone(),
    };
    function(TIME_SINCE, vec![instant(left, &from), instant(right, &to)]).map(Some)
}

/// What an average of intervals is taken of: lengths, whose average is an interval again.
pub fn averaged(args: &[Expr], schema: &DFSchema) -> DfResult<Option<Vec<Expr>>> {
    match args {
        [arg] if matches!(type_of(arg, schema), Ok(DataType::Interval(_))) => {
            let length = function(INTERVAL_LENGTH, vec![arg.clone()])?;
            Ok(Some(vec![cast_to(length, DataType::Duration(TimeUnit::Microsecond))]))
        }
        _ => Ok(None),
    }
}

/// What a value is sorted by.
pub fn sorted(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    match type_of(&expr, schema) {
        Ok(DataType::Interval(_)) => function(INTERVAL_LENGTH, vec![expr]).map(Transformed::yes),
        _ => Ok(Transformed::no(expr)),
    }
}

/// Whether a literal in quotes is read as a time or an interval beside one.
pub fn is_temporal(ty: &DataType) -> bool {
    use DataType::*;
    matches!(ty, Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(_, _) | Interval(_) | Duration(_))
}

/// A literal in quotes as a value of a field's type.
pub fn literal_as(expr: Expr, to: &Field) -> Expr {
    let ty = SqlType::from_field(to);
    if let (Some(SqlType::TimestampTz), Some(text)) = (&ty, quoted(&expr)) {
        return instant(text);
    }
    match ty {
        Some(ty) if is_temporal(to.data_type()) => cast_literal(expr, &ty.field("", true)),
        _ => cast_literal(expr, to),
    }
}

/// The text of a literal in quotes.
pub fn quoted(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text),
        _ => None,
    }
}

/// The instant that a text means. One without a zone is in the session's.
pub fn instant(text: &str) -> Expr {
    let zoned = SqlType::TimestampTz.to_arrow();
    match (parse::timestamptz(text.trim(), None), parse::names_zone(text.trim())) {
        (Ok(_), false) => cast_to(cast_to(lit(text), SqlType::Timestamp.to_arrow()), zoned),
        (Ok(micros), true) => lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("+00:00".into()))),
        (Err(_), _) => cast_to(lit(text), zoned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_beside_a_float_is_one() {
        let half = lit(ScalarValue::Decimal128(Some(5), 2, 1));
        let types = [DataType::Float64, DataType::Decimal128(2, 1)];
        let both = compared(&[lit(1.0), half.clone()], &types).unwrap().unwrap();
        assert_eq!(both, vec![lit(1.0), lit(0.5)]);
        assert_eq!(compared(&[lit(1), half], &[DataType::Int32, DataType::Decimal128(2, 1)]).unwrap(), None);
        assert_eq!(float_of(&[DataType::Float32, DataType::Decimal128(2, 1)]), Some(DataType::Float32));
        assert_eq!(float_of(&[DataType::Float64, DataType::Int32]), None);
    }

    #[test]
    fn one_of_several_values_is_of_one_type() {
        let numeric = |precision, scale| SqlType::Decimal { precision, scale };
        let common = |types: &[SqlType]| {
            let fields: Vec<FieldRef> = types.iter().map(|ty| Arc::new(ty.field("x", true))).collect();
            common_field(&fields).and_then(|field| SqlType::from_field(&field))
        };
        for (types, expected) in [
            (vec![SqlType::Integer, numeric(2, 1)], numeric(11, 1)),
            (vec![numeric(38, 9), SqlType::SmallInt], numeric(38, 9)),
            (vec![SqlType::SmallInt, SqlType::BigInt, SqlType::Integer], SqlType::BigInt),
            (vec![SqlType::BigInt, SqlType::Real], SqlType::Real),
            (vec![numeric(10, 2), SqlType::Real, SqlType::Double], SqlType::Double),
            (vec![SqlType::Date, SqlType::Timestamp], SqlType::Timestamp),
            (vec![SqlType::TimestampTz, SqlType::Date, SqlType::Timestamp], SqlType::TimestampTz),
            (vec![SqlType::Char(4), SqlType::Text], SqlType::Text),
            (vec![SqlType::Char(4), SqlType::Char(6), SqlType::Char(2)], SqlType::Char(6)),
            (vec![SqlType::Varchar(3), SqlType::Varchar(3)], SqlType::Varchar(3)),
        ] {
            assert_eq!(common(&types), Some(expected), "{types:?}");
        }
        assert_eq!(common(&[]), None);
    }

    #[test]
    fn what_is_of_the_common_type_stays() {
        let field = |ty: SqlType| Arc::new(ty.field("x", true));
        let widened = |own: SqlType, to: SqlType| widened(&lit(1), &field(own), &field(to));
        assert_eq!(widened(SqlType::Integer, SqlType::Integer), None);
        assert_eq!(widened(SqlType::Text, SqlType::Uuid), None);
        assert_eq!(widened(SqlType::Integer, SqlType::Double), Some(cast_to(lit(1), DataType::Float64)));
        assert!(widened(SqlType::Char(4), SqlType::Text).is_some());
    }

    #[test]
    fn numbers_are_widened_where_datafusion_does_not() {
        use DataType::*;
        assert_eq!(compared_number(&Decimal128(38, 9), &Decimal128(10, 2)), Some(Decimal128(38, 9)));
        assert_eq!(compared_number(&Float64, &Decimal128(10, 2)), Some(Float64));
        assert_eq!(compared_number(&Int32, &Decimal128(10, 2)), Some(Decimal128(12, 2)));
        assert_eq!((compared_number(&Int64, &Int32), compared_number(&Utf8, &Int32)), (None, None));
    }
}
