//! Times with fewer digits behind the second than microseconds: cast to such a type, or written to a column of it. It does not know of columns.

use super::native::{Arg, Native};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::unary;
use datafusion::arrow::datatypes::{DataType, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType};
use eddyline_common::postgres::encode::POSTGRES_EPOCH_MICROS;
use eddyline_common::{SqlError, SqlType};
use std::sync::Arc;

/// A time, and how many digits of it are kept.
pub const TIME_PRECISION: &str = "eddyline_time_precision";

pub const FUNCTIONS: &[Native] = &[Native::total(TIME_PRECISION, &[Arg::Any, Arg::BigInt], &[], same_type, round_times)];

fn same_type(types: &[DataType]) -> SqlType {
    types.first().and_then(SqlType::from_arrow).unwrap_or(SqlType::Timestamp)
}

/// The microseconds in a unit of so many digits; `None` for as many as there are.
pub fn unit(digits: i64) -> Option<i64> {
    let zeros = 6 - u32::try_from(digits).ok().filter(|digits| *digits < 6)?;
    Some(10i64.pow(zeros))
}

fn round_times(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let digits = args[1].as_primitive::<Int64Type>();
    let digits = digits.iter().flatten().next();
    Ok(digits.map_or_else(|| args[0].clone(), |digits| rounded_to(&args[0], digits)))
}

/// Times rounded to so many digits behind the second; others as they are.
pub fn rounded_to(times: &ArrayRef, digits: i64) -> ArrayRef {
    let Some(unit) = unit(digits) else { return times.clone() };
    match times.data_type() {
        DataType::Time64(TimeUnit::Microsecond) => {
            let times = times.as_primitive::<Time64MicrosecondType>();
            Arc::new(unary::<_, _, Time64MicrosecondType>(times, |time| rounded(time, unit)))
        }
        ty @ DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = times.as_primitive::<TimestampMicrosecondType>();
            Arc::new(unary::<_, _, TimestampMicrosecondType>(times, |time| moment(time, unit)).with_data_type(ty.clone()))
        }
        _ => times.clone(),
    }
}

/// Half of a unit goes away from the beginning of 2000, as in PostgreSQL. The infinities stay.
fn moment(time: i64, unit: i64) -> i64 {
    match time.checked_sub(POSTGRES_EPOCH_MICROS) {
        Some(since) if time != i64::MAX => rounded(since, unit).saturating_add(POSTGRES_EPOCH_MICROS),
        _ => time,
    }
}

/// Half of a unit goes away from zero.
fn rounded(micros: i64, unit: i64) -> i64 {
    let rest = micros % unit;
    let whole = micros - rest;
    if rest.abs() >= unit - rest.abs() { whole.saturating_add(unit * micros.signum()) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, TimestampMicrosecondArray};

    #[test]
    fn halves_go_away_from_2000() {
        let at = |micros: i64| POSTGRES_EPOCH_MICROS + micros;
        for (time, digits, expected) in
            [(1_499, 3, 1_000), (1_500, 3, 2_000), (-1_500, 3, -2_000), (-1_499, 3, -1_000), (499_999, 0, 0), (500_000, 0, 1_000_000)]
        {
            assert_eq!(moment(at(time), unit(digits).unwrap()), at(expected), "{time} to {digits} digits");
        }
        assert_eq!((moment(i64::MAX, 1_000), moment(i64::MIN, 1_000)), (i64::MAX, i64::MIN));
        assert_eq!((unit(6), unit(9), unit(-1), unit(5)), (None, None, None, Some(10)));
    }

    #[test]
    fn zones_stay() {
        let times = TimestampMicrosecondArray::from(vec![Some(1), None]).with_timezone("+00:00");
        let digits = Int64Array::from(vec![0, 0]);
        let result = round_times(&[Arc::new(times.clone()), Arc::new(digits)]).unwrap();
        assert_eq!(result.data_type(), &SqlType::TimestampTz.to_arrow());
        assert_eq!(result.as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>(), [Some(0), None]);
    }
}
