//! Intervals as PostgreSQL compares them: by their length, in which a month has 30 days and a day 24 hours. And how far one time is from another: so
//! many days, and the time that is left.

use super::native::{Arg, Native};
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray};
use datafusion::arrow::compute::{cast, unary};
use datafusion::arrow::datatypes::{IntervalMonthDayNano, IntervalMonthDayNanoType, TimestampMicrosecondType};
use eddyline_common::time::MICROS_PER_DAY;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

pub const LENGTH: &str = "eddyline_interval_length";
pub const SINCE: &str = "eddyline_time_since";
pub const DAYS_OF: &str = "eddyline_interval_days";
pub const CLOCK_OF: &str = "eddyline_interval_clock";

pub const FUNCTIONS: &[Native] = &[
    Native::total(LENGTH, &[Arg::Any], &[], |_| SqlType::BigInt, length),
    Native::total(SINCE, &[Arg::Time, Arg::Time], &[], |_| SqlType::Interval, since),
    Native::total(DAYS_OF, &[Arg::Any], &[], |_| SqlType::Interval, days_of),
    Native::total(CLOCK_OF, &[Arg::Any], &[], |_| SqlType::Interval, clock_of),
];

const DAYS_PER_MONTH: i64 = 30;
const NANOS_PER_MICRO: i64 = 1_000;

fn out_of_range() -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "interval out of range")
}

/// Intervals of any kind in the one that columns have.
fn intervals(array: &ArrayRef) -> Result<IntervalMonthDayNanoArray, SqlError> {
    Ok(cast(array, &SqlType::Interval.to_arrow())?.as_primitive::<IntervalMonthDayNanoType>().clone())
}

/// Microseconds; those of more than 292,000 years are too many.
fn length(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let micros = |interval: IntervalMonthDayNano| {
        let days = i64::from(interval.months) * DAYS_PER_MONTH + i64::from(interval.days);
        let micros = days.checked_mul(MICROS_PER_DAY).and_then(|micros| micros.checked_add(interval.nanoseconds / NANOS_PER_MICRO));
        micros.ok_or_else(out_of_range)
    };
    let lengths = intervals(&args[0])?.iter().map(|interval| interval.map(micros).transpose()).collect::<Result<Int64Array, SqlError>>()?;
    Ok(Arc::new(lengths))
}

/// The first time less the second.
fn since(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (to, from) = (args[0].as_primitive::<TimestampMicrosecondType>(), args[1].as_primitive::<TimestampMicrosecondType>());
    let one = |(to, from): (Option<i64>, Option<i64>)| {
        let (Some(to), Some(from)) = (to, from) else { return Ok(None) };
        let micros = to.checked_sub(from).ok_or_else(out_of_range)?;
        let days = i32::try_from(micros / MICROS_PER_DAY).map_err(|_| out_of_range())?;
        Ok(Some(IntervalMonthDayNano::new(0, days, micros % MICROS_PER_DAY * NANOS_PER_MICRO)))
    };
    let between: IntervalMonthDayNanoArray = to.iter().zip(from.iter()).map(one).collect::<Result<_, SqlError>>()?;
    Ok(Arc::new(between))
}

fn part(args: &[ArrayRef], of: fn(IntervalMonthDayNano) -> IntervalMonthDayNano) -> Result<ArrayRef, SqlError> {
    Ok(Arc::new(unary::<_, _, IntervalMonthDayNanoType>(&intervals(&args[0])?, of)))
}

/// The months and days of an interval, which the calendar says the length of.
fn days_of(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    part(args, |interval| IntervalMonthDayNano::new(interval.months, interval.days, 0))
}

/// The rest of it.
fn clock_of(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    part(args, |interval| IntervalMonthDayNano::new(0, 0, interval.nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::TimestampMicrosecondArray;

    fn interval(months: i32, days: i32, nanos: i64) -> ArrayRef {
        Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(months, days, nanos)]))
    }

    #[test]
    fn intervals_of_one_length_are_equal() {
        let length_of = |i: ArrayRef| length(&[i]).unwrap();
        assert_eq!(&length_of(interval(0, 1, 0)), &length_of(interval(0, 0, 86_400_000_000_000)));
        assert_eq!(&length_of(interval(1, -30, 0)), &length_of(interval(0, 0, 0)));
        assert!(length(&[interval(i32::MAX, 0, 0)]).is_err());
    }

    #[test]
    fn what_is_between_two_times_has_days() {
        let time = |micros: i64| Arc::new(TimestampMicrosecondArray::from(vec![micros])) as ArrayRef;
        let hour = 3_600_000_000;
        assert_eq!(&since(&[time(49 * hour), time(0)]).unwrap(), &interval(0, 2, hour * NANOS_PER_MICRO));
        assert_eq!(&since(&[time(0), time(49 * hour)]).unwrap(), &interval(0, -2, -hour * NANOS_PER_MICRO));
    }
}
