//! Intervals as PostgreSQL compares them: by their length, in which a month has 30 days and a day 24 hours; its `justify_` functions, which make the one of the other. And how far one time is from another: so
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
    Native::total("justify_hours", &[Arg::Interval], &[], |_| SqlType::Interval, |args| justified(args, hours_to_days)),
    Native::total("justify_days", &[Arg::Interval], &[], |_| SqlType::Interval, |args| justified(args, days_to_months)),
    Native::total("justify_interval", &[Arg::Interval], &[], |_| SqlType::Interval, |args| justified(args, in_full)),
];

const DAYS_PER_MONTH: i64 = 30;
pub(super) const NANOS_PER_MICRO: i64 = 1_000;

fn out_of_range() -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "interval out of range")
}

/// Intervals of any kind in the one that columns have.
pub(super) fn intervals(array: &ArrayRef) -> Result<IntervalMonthDayNanoArray, SqlError> {
    Ok(cast(array, &SqlType::Interval.to_arrow())?.as_primitive::<IntervalMonthDayNanoType>().clone())
}

/// How long an interval is, in microseconds.
pub(super) fn length_of(interval: IntervalMonthDayNano) -> i128 {
    let days = i64::from(interval.months) * DAYS_PER_MONTH + i64::from(interval.days);
    i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(interval.nanoseconds / NANOS_PER_MICRO)
}

/// Microseconds; those of more than 292,000 years are too many.
fn length(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let micros = |interval| i64::try_from(length_of(interval)).map_err(|_| out_of_range());
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

/// An interval whose parts have room for what goes from one to the other.
#[derive(Clone, Copy)]
struct Parts {
    months: i64,
    days: i64,
    micros: i64,
}

impl Parts {
    fn with_days_of_hours(self) -> Parts {
        Parts { days: self.days + self.micros / MICROS_PER_DAY, micros: self.micros % MICROS_PER_DAY, ..self }
    }

    fn with_months_of_days(self) -> Parts {
        Parts { months: self.months + self.days / DAYS_PER_MONTH, days: self.days % DAYS_PER_MONTH, ..self }
    }

    /// Days and time of one sign.
    fn with_days_as_time(self) -> Parts {
        match (self.days.signum(), self.micros.signum()) {
            (1, -1) => Parts { days: self.days - 1, micros: self.micros + MICROS_PER_DAY, ..self },
            (-1, 1) => Parts { days: self.days + 1, micros: self.micros - MICROS_PER_DAY, ..self },
            _ => self,
        }
    }

    /// Months and what is left of one sign.
    fn with_months_as_days(self, rest: i64) -> Parts {
        match (self.months.signum(), rest.signum()) {
            (1, -1) => Parts { months: self.months - 1, days: self.days + DAYS_PER_MONTH, ..self },
            (-1, 1) => Parts { months: self.months + 1, days: self.days - DAYS_PER_MONTH, ..self },
            _ => self,
        }
    }
}

fn hours_to_days(parts: Parts) -> Parts {
    parts.with_days_of_hours().with_days_as_time()
}

fn days_to_months(parts: Parts) -> Parts {
    let parts = parts.with_months_of_days();
    parts.with_months_as_days(parts.days)
}

fn in_full(parts: Parts) -> Parts {
    let parts = parts.with_days_of_hours().with_months_of_days();
    let rest = if parts.days == 0 { parts.micros } else { parts.days };
    parts.with_months_as_days(rest).with_days_as_time()
}

fn justified(args: &[ArrayRef], by: fn(Parts) -> Parts) -> Result<ArrayRef, SqlError> {
    let one = |interval: IntervalMonthDayNano| {
        let (months, days) = (i64::from(interval.months), i64::from(interval.days));
        let parts = by(Parts { months, days, micros: interval.nanoseconds / NANOS_PER_MICRO });
        let (months, days) = (i32::try_from(parts.months), i32::try_from(parts.days));
        let (Ok(months), Ok(days)) = (months, days) else { return Err(SqlError::new(SqlState("22008"), "interval out of range")) };
        Ok(IntervalMonthDayNano::new(months, days, parts.micros * NANOS_PER_MICRO))
    };
    let given = intervals(&args[0])?;
    let justified = given.iter().map(|interval| interval.map(one).transpose()).collect::<Result<IntervalMonthDayNanoArray, SqlError>>()?;
    Ok(Arc::new(justified))
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
    fn parts_go_up_and_have_one_sign() {
        let hour = 3_600_000_000_000;
        let cases: [(fn(Parts) -> Parts, ArrayRef, ArrayRef); 7] = [
            (hours_to_days, interval(0, 0, 27 * hour), interval(0, 1, 3 * hour)),
            (hours_to_days, interval(0, 2, -hour), interval(0, 1, 23 * hour)),
            (days_to_months, interval(0, 35, 0), interval(1, 5, 0)),
            (days_to_months, interval(1, -1, 0), interval(0, 29, 0)),
            (in_full, interval(1, 0, -hour), interval(0, 29, 23 * hour)),
            (in_full, interval(0, 33, 27 * hour), interval(1, 4, 3 * hour)),
            (in_full, interval(-1, 1, hour), interval(0, -28, -23 * hour)),
        ];
        for (by, given, wanted) in cases {
            assert_eq!(&justified(&[given], by).unwrap(), &wanted);
        }
        assert!(justified(&[interval(i32::MAX, 30, 0)], days_to_months).is_err());
    }

    #[test]
    fn what_is_between_two_times_has_days() {
        let time = |micros: i64| Arc::new(TimestampMicrosecondArray::from(vec![micros])) as ArrayRef;
        let hour = 3_600_000_000;
        assert_eq!(&since(&[time(49 * hour), time(0)]).unwrap(), &interval(0, 2, hour * NANOS_PER_MICRO));
        assert_eq!(&since(&[time(0), time(49 * hour)]).unwrap(), &interval(0, -2, -hour * NANOS_PER_MICRO));
    }
}
