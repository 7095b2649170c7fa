//! Functions of numbers that DataFusion has not, or without PostgreSQL's errors; and intervals times numbers.

use super::arguments::{columns, result};
use super::checked::out_of_range;
use super::native::{Arg, Native, map_text, no_such_function, text};
use crate::error::into_datafusion;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int32Array, IntervalMonthDayNanoArray};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options, unary};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType,
};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::fmt::Write;
use std::sync::Arc;

pub const TIMES: &str = "eddyline_interval_times";
pub const OVER: &str = "eddyline_interval_over";

pub const FUNCTIONS: &[Native] = &[
    Native::total("sign", &[Arg::Number], &[], sign_type, sign),
    Native::total(super::APPROXIMATE, &[Arg::Number], &[], |_| SqlType::Double, approximate),
    Native::total("to_hex", &[Arg::Number], &[], text, to_hex),
    Native::total("div", &[Arg::Number, Arg::Number], &[], |_| SqlType::Decimal { precision: 38, scale: 0 }, div),
    Native::total("width_bucket", &[Arg::Number, Arg::Number, Arg::Number, Arg::BigInt], &[], |_| SqlType::Integer, width_bucket),
    Native::total("scale", &[Arg::Number], &[], |_| SqlType::Integer, scale),
    Native::total("min_scale", &[Arg::Number], &[], |_| SqlType::Integer, min_scale),
    Native::partial("num_nulls", &[Arg::Any], &[Arg::Any; 63], |_| SqlType::Integer, num_nulls),
    Native::partial("num_nonnulls", &[Arg::Any], &[Arg::Any; 63], |_| SqlType::Integer, num_nonnulls),
    Native::total(TIMES, &[Arg::Any, Arg::Number], &[], |_| SqlType::Interval, times),
    Native::total(OVER, &[Arg::Any, Arg::Number], &[], |_| SqlType::Interval, over),
];

const DAYS_PER_MONTH: f64 = 30.0;
const NANOS_PER_DAY: f64 = 86_400e9;

/// Of a numeric it is one; of what else is a number it is a double.
fn sign_type(types: &[DataType]) -> SqlType {
    match types {
        [DataType::Decimal128(_, _)] => SqlType::Decimal { precision: 1, scale: 0 },
        _ => SqlType::Double,
    }
}

fn doubles(array: &ArrayRef) -> Result<Float64Array, SqlError> {
    Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn sign(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if matches!(args[0].data_type(), DataType::Decimal128(_, _)) {
        let signs = unary::<_, _, Decimal128Type>(args[0].as_primitive::<Decimal128Type>(), i128::signum);
        return Ok(Arc::new(signs.with_precision_and_scale(1, 0)?));
    }
    let sign = |v: f64| if v == 0.0 || v.is_nan() { v } else { v.signum() };
    Ok(Arc::new(unary::<_, _, Float64Type>(&doubles(&args[0])?, sign)))
}

/// `abs`, `gcd` and `lcm`: of the smallest integer of a type there may be none.
pub fn of_integers(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let name = SqlType::from_arrow(&args.args[0].data_type()).filter(|_| args.args[0].data_type().is_integer());
    of.invoke_with_args(args).map_err(|error| match name {
        Some(ty) => out_of_range(&ty.to_string()),
        None => error,
    })
}

/// What `round` takes: as DataFusion's, but a number of places that is a bigint stays one. So does a literal, of which alone it is known before the call how many digits are left.
pub fn round_types(of: &ScalarUDF, given: &[DataType]) -> DfResult<Vec<DataType>> {
    let fields: Vec<FieldRef> = given.iter().map(|ty| Arc::new(Field::new("", ty.clone(), true))).collect();
    let mut types: Vec<DataType> = fields_with_udf(&fields, of)?.iter().map(|field| field.data_type().clone()).collect();
    if let ([_, DataType::Int64], [_, places]) = (given, types.as_mut_slice()) {
        *places = DataType::Int64;
    }
    Ok(types)
}

/// `round`: of two doubles as near, the even one; a numeric goes away from zero.
pub fn round(of: &ScalarUDF, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    if let [_, places] = args.args.as_mut_slice() {
        *places = places.cast_to(&DataType::Int32, None)?;
    }
    let [value] = args.args.as_slice() else { return of.invoke_with_args(args) };
    let column: ArrayRef = match value.data_type() {
        DataType::Float32 => Arc::new(unary::<_, _, Float32Type>(columns(&args)?[0].as_primitive::<Float32Type>(), f32::round_ties_even)),
        DataType::Float64 => Arc::new(unary::<_, _, Float64Type>(columns(&args)?[0].as_primitive::<Float64Type>(), f64::round_ties_even)),
        _ => return of.invoke_with_args(args),
    };
    result(column, &args)
}

pub fn sqrt(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    for value in columns(&args)? {
        refuse(&value, |v| (v < 0.0).then(|| SqlError::new(SqlState("2201F"), "cannot take square root of a negative number")))?;
    }
    of.invoke_with_args(args)
}

/// `ln` and `log` with a base or without.
pub fn logarithm(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let fault = |v: f64| match v {
        0.0 => Some(SqlError::new(SqlState("2201E"), "cannot take logarithm of zero")),
        v if v < 0.0 => Some(SqlError::new(SqlState("2201E"), "cannot take logarithm of a negative number")),
        _ => None,
    };
    for value in columns(&args)? {
        refuse(&value, fault)?;
    }
    of.invoke_with_args(args)
}

pub fn power(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let given = columns(&args)?;
    let (bases, exponents) = (doubles(&given[0]).map_err(into_datafusion)?, doubles(&given[1]).map_err(into_datafusion)?);
    for (base, exponent) in bases.iter().zip(exponents.iter()) {
        let fault = match (base, exponent) {
            (Some(base), Some(exponent)) if base == 0.0 && exponent < 0.0 => "zero raised to a negative power is undefined",
            (Some(base), Some(exponent)) if base < 0.0 && base.is_finite() && exponent.is_finite() && exponent.fract() != 0.0 => {
                "a negative number raised to a non-integer power yields a complex result"
            }
            _ => continue,
        };
        return Err(into_datafusion(SqlError::new(SqlState("2201F"), fault)));
    }
    of.invoke_with_args(args)
}

/// The first fault of a number in a column.
fn refuse(column: &ArrayRef, fault: impl Fn(f64) -> Option<SqlError>) -> DfResult<()> {
    let fault = doubles(column).map_err(into_datafusion)?.iter().flatten().find_map(fault);
    fault.map_or(Ok(()), |error| Err(into_datafusion(error)))
}

/// A negative number as the complement of its own width.
fn to_hex(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let narrow = matches!(args[0].data_type(), DataType::Int16 | DataType::Int32);
    let numbers = cast(&args[0], if narrow { &DataType::Int32 } else { &DataType::Int64 })?;
    map_text(args, |row, out| {
        let written = match narrow {
            true => write!(out, "{:x}", numbers.as_primitive::<Int32Type>().value(row)),
            false => write!(out, "{:x}", numbers.as_primitive::<Int64Type>().value(row)),
        };
        written.expect("a string grows");
        Ok(true)
    })
}

/// A quotient without its fraction.
fn div(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let whole = args.iter().all(|a| a.data_type().is_integer());
    let ty = DataType::Decimal128(38, if whole { 0 } else { 9 });
    let options = CastOptions { safe: false, ..Default::default() };
    let (left, right) = (cast_with_options(&args[0], &ty, &options)?, cast_with_options(&args[1], &ty, &options)?);
    let one = |(left, right): (Option<i128>, Option<i128>)| match (left, right) {
        (Some(_), Some(0)) => Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")),
        (Some(left), Some(right)) => Ok(Some(left / right)),
        _ => Ok(None),
    };
    let pairs = left.as_primitive::<Decimal128Type>().iter().zip(right.as_primitive::<Decimal128Type>().iter());
    let quotients: Decimal128Array = pairs.map(one).collect::<Result<_, SqlError>>()?;
    Ok(Arc::new(quotients.with_precision_and_scale(38, 0)?))
}

/// Which of so many equal parts between two bounds a number is in: 0 before the first, one more than there are behind the last.
fn width_bucket(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, from, to) = (doubles(&args[0])?, doubles(&args[1])?, doubles(&args[2])?);
    let counts = args[3].as_primitive::<Int64Type>();
    let fault = |message: &str| Err(SqlError::new(SqlState("2201G"), message));
    let one = |row: usize| {
        if args.iter().any(|a| a.is_null(row)) {
            return Ok(None);
        }
        let (value, from, to, count) = (values.value(row), from.value(row), to.value(row), counts.value(row));
        match i32::try_from(count).ok().and_then(|count| count.checked_add(1)) {
            _ if count <= 0 => fault("count must be greater than zero"),
            _ if from == to => fault("lower bound cannot equal upper bound"),
            _ if value.is_nan() || !from.is_finite() || !to.is_finite() => fault("operand and bounds must be numbers"),
            Some(_) => Ok(Some((((value - from) / (to - from) * count as f64).floor() + 1.0).clamp(0.0, count as f64 + 1.0) as i32)),
            None => Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "integer out of range")),
        }
    };
    Ok(Arc::new((0..values.len()).map(one).collect::<Result<Int32Array, SqlError>>()?))
}

/// Numerics and integers; a double has no digits of its own.
fn exact(name: &str, array: &ArrayRef) -> Result<(Decimal128Array, u32), SqlError> {
    match array.data_type() {
        DataType::Decimal128(_, scale) => Ok((array.as_primitive::<Decimal128Type>().clone(), u32::try_from(*scale).unwrap_or(0))),
        ty if ty.is_integer() => Ok((cast(array, &DataType::Decimal128(38, 0))?.as_primitive::<Decimal128Type>().clone(), 0)),
        ty => Err(no_such_function(name, std::slice::from_ref(ty))),
    }
}

/// How many digits a numeric has behind the point.
fn scale(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, scale) = exact("scale", &args[0])?;
    Ok(Arc::new(values.iter().map(|value| value.map(|_| scale as i32)).collect::<Int32Array>()))
}

/// How many of them it needs.
fn min_scale(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, scale) = exact("min_scale", &args[0])?;
    let needed = |value: i128| (0..scale).rev().take_while(|left| value % 10i128.pow(scale - left) == 0).last().unwrap_or(scale) as i32;
    Ok(Arc::new(values.iter().map(|value| value.map(needed)).collect::<Int32Array>()))
}

fn num_nulls(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    Ok(counted(args, |is_null| is_null))
}

fn num_nonnulls(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    Ok(counted(args, |is_null| !is_null))
}

/// How many arguments of a row pass a test.
fn counted(args: &[ArrayRef], counts: fn(bool) -> bool) -> ArrayRef {
    let nulls: Vec<_> = args.iter().map(|a| a.logical_nulls()).collect();
    let one = |row: usize| nulls.iter().filter(|column| counts(column.as_ref().is_some_and(|n| n.is_null(row)))).count() as i32;
    Arc::new(Int32Array::from_iter_values((0..args[0].len()).map(one)))
}

/// To ten digits; next to nothing is nothing.
fn approximate(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let round = |v: f64| match v {
        v if !v.is_finite() => v,
        v if v.abs() < 1e-9 => 0.0,
        v => format!("{v:.9e}").parse().unwrap_or(v),
    };
    Ok(Arc::new(unary::<_, _, Float64Type>(&doubles(&args[0])?, round)))
}

fn times(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    scaled(args, |_| Ok(()), |part, factor| part * factor)
}

fn over(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let nonzero = |divisor: f64| match divisor == 0.0 {
        true => Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")),
        false => Ok(()),
    };
    scaled(args, nonzero, |part, divisor| part / divisor)
}

/// Each part of an interval by a number. As in PostgreSQL what is left of a month becomes days, 30 in one, and what is left of a
/// day becomes time.
fn scaled(args: &[ArrayRef], check: impl Fn(f64) -> Result<(), SqlError>, by: impl Fn(f64, f64) -> f64) -> Result<ArrayRef, SqlError> {
    let intervals = cast(&args[0], &SqlType::Interval.to_arrow())?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let numbers = doubles(&args[1])?;
    let one = |(interval, number): (Option<IntervalMonthDayNano>, Option<f64>)| {
        let (Some(interval), Some(number)) = (interval, number) else { return Ok(None) };
        check(number)?;
        let months = by(interval.months as f64, number);
        // Microseconds of a day are the smallest part that counts.
        let rounded = |v: f64| (v * 1e6).round() / 1e6;
        let days_of_months = rounded(months.fract() * DAYS_PER_MONTH);
        let days = by(interval.days as f64, number);
        let mut whole_days = days.trunc() + days_of_months.trunc();
        let mut rest = rounded((days.fract() + days_of_months.fract()) * 86_400.0) / 86_400.0;
        if rest.abs() >= 1.0 {
            whole_days += rest.trunc();
            rest = rest.fract();
        }
        let nanos = ((by(interval.nanoseconds as f64, number) + rest * NANOS_PER_DAY) / 1e3).round() * 1e3;
        let fits = months.abs() <= i32::MAX as f64 && whole_days.abs() <= i32::MAX as f64 && nanos.abs() <= i64::MAX as f64;
        match fits {
            true => Ok(Some(IntervalMonthDayNano::new(months.trunc() as i32, whole_days as i32, nanos as i64))),
            false => Err(SqlError::new(SqlState("22008"), "interval out of range")),
        }
    };
    let result: IntervalMonthDayNanoArray = intervals.iter().zip(numbers.iter()).map(one).collect::<Result<_, SqlError>>()?;
    Ok(Arc::new(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(months: i32, days: i32, seconds: f64) -> ArrayRef {
        Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(months, days, (seconds * 1e9) as i64)]))
    }

    #[test]
    fn parts_of_an_interval_go_down_as_in_postgres() {
        let number = |v: f64| Arc::new(Float64Array::from(vec![v])) as ArrayRef;
        for (given, factor, expected) in [
            (interval(0, 1, 0.0), 2.0, interval(0, 2, 0.0)),
            (interval(0, 1, 0.0), 1.5, interval(0, 1, 43_200.0)),
            (interval(1, 0, 0.0), 1.5, interval(1, 15, 0.0)),
            (interval(1, 0, 0.0), -0.5, interval(0, -15, 0.0)),
            (interval(0, 0, 1.0), 0.1, interval(0, 0, 0.1)),
            (interval(1, 2, 3.0), 3.0, interval(3, 6, 9.0)),
        ] {
            assert_eq!(&times(&[given.clone(), number(factor)]).unwrap(), &expected, "{given:?} * {factor}");
        }
        assert_eq!(&over(&[interval(0, 1, 0.0), number(2.0)]).unwrap(), &interval(0, 0, 43_200.0));
        assert!(over(&[interval(0, 1, 0.0), number(0.0)]).is_err());
        assert!(times(&[interval(2_000_000_000, 0, 0.0), number(9.0)]).is_err());
    }

    #[test]
    fn a_numeric_needs_no_zeros_at_its_end() {
        let of = |value: i128| Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(10, 4).unwrap()) as ArrayRef;
        let needed = |value: i128| min_scale(&[of(value)]).unwrap().as_primitive::<Int32Type>().value(0);
        assert_eq!([84_100, 80_000, 12_345, 0].map(needed), [2, 0, 4, 0]);
        assert_eq!(scale(&[of(84_100)]).unwrap().as_primitive::<Int32Type>().value(0), 4);
    }

    #[test]
    fn sums_in_another_order_look_the_same() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![0.1 + 0.2, 0.3, -1e-17, f64::INFINITY, 123_456_789.123]));
        let rounded = approximate(&[values]).unwrap();
        let rounded = rounded.as_primitive::<Float64Type>();
        assert_eq!(rounded.value(0), rounded.value(1));
        assert_eq!(rounded.value(2), 0.0);
        assert!(rounded.value(3).is_infinite() && rounded.value(4) != 123_456_788.0);
    }
}
