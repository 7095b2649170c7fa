//! Functions of numbers that DataFusion has not, and intervals times numbers.

use super::native::{Arg, Native};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, IntervalMonthDayNanoArray};
use datafusion::arrow::compute::{cast, unary};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

pub const TIMES: &str = "eddyline_interval_times";
pub const OVER: &str = "eddyline_interval_over";

pub const FUNCTIONS: &[Native] = &[
    Native::total("sign", &[Arg::Number], &[], number, sign),
    Native::total(super::APPROXIMATE, &[Arg::Number], &[], |_| SqlType::Double, approximate),
    Native::total(TIMES, &[Arg::Any, Arg::Number], &[], |_| SqlType::Interval, times),
    Native::total(OVER, &[Arg::Any, Arg::Number], &[], |_| SqlType::Interval, over),
];

const DAYS_PER_MONTH: f64 = 30.0;
const NANOS_PER_DAY: f64 = 86_400e9;

/// A numeric stays one; what else is a number becomes a double.
fn number(types: &[DataType]) -> SqlType {
    match types.first().and_then(SqlType::from_arrow) {
        Some(decimal @ SqlType::Decimal { .. }) => decimal,
        _ => SqlType::Double,
    }
}

fn doubles(array: &ArrayRef) -> Result<Float64Array, SqlError> {
    Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn sign(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if let DataType::Decimal128(precision, scale) = args[0].data_type() {
        let one = 10i128.pow((*scale).max(0) as u32);
        let signs = unary::<_, _, Decimal128Type>(args[0].as_primitive::<Decimal128Type>(), |v| v.signum() * one);
        return Ok(Arc::new(signs.with_precision_and_scale(*precision, *scale)?));
    }
    let sign = |v: f64| if v == 0.0 || v.is_nan() { v } else { v.signum() };
    Ok(Arc::new(unary::<_, _, Float64Type>(&doubles(&args[0])?, sign)))
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
    fn sums_in_another_order_look_the_same() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![0.1 + 0.2, 0.3, -1e-17, f64::INFINITY, 123_456_789.123]));
        let rounded = approximate(&[values]).unwrap();
        let rounded = rounded.as_primitive::<Float64Type>();
        assert_eq!(rounded.value(0), rounded.value(1));
        assert_eq!(rounded.value(2), 0.0);
        assert!(rounded.value(3).is_infinite() && rounded.value(4) != 123_456_788.0);
    }
}
