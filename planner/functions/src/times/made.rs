//! Times and intervals that are made of numbers.

use super::typed;
use crate::error::into_datafusion;
use chrono::NaiveDate;
use datafusion::arrow::array::{ArrayRef, AsArray, IntervalMonthDayNanoArray, Time64MicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, IntervalMonthDayNano};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::time::MICROS_PER_SECOND;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

/// `make_date`: the year before the first is -1. Whatever is wrong with it, there is no such day.
pub fn make_date(of: &ScalarUDF, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let fault = || into_datafusion(SqlError::new(SqlState("22008"), "date field value out of range"));
    let counted = |year: i32| if year == 0 { Err(fault()) } else { Ok(year + i32::from(year < 0)) };
    args.args[0] = match &args.args[0] {
        ColumnarValue::Scalar(ScalarValue::Int32(Some(year))) => ColumnarValue::Scalar(ScalarValue::Int32(Some(counted(*year)?))),
        ColumnarValue::Array(years) => match years.as_primitive_opt::<Int32Type>() {
            Some(years) => ColumnarValue::Array(Arc::new(years.try_unary::<_, Int32Type, _>(counted)?)),
            None => ColumnarValue::Array(years.clone()),
        },
        null => null.clone(),
    };
    of.invoke_with_args(args).map_err(|_| fault())
}

fn number_at(column: &ArrayRef, row: usize) -> i64 {
    column.as_primitive::<Int64Type>().value(row)
}

/// Microseconds of seconds with a fraction.
fn micros_of_seconds(column: &ArrayRef) -> Result<Vec<Option<i64>>, SqlError> {
    let seconds = cast(column, &DataType::Float64)?;
    let micros = |seconds: f64| (seconds * 1e6).round() as i64;
    Ok(seconds.as_primitive::<Float64Type>().iter().map(|seconds| seconds.map(micros)).collect())
}

/// Of years, months, weeks, days, hours, minutes and seconds.
pub(super) fn make_interval(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let seconds = micros_of_seconds(&args[6])?;
    let one = |row: usize| {
        let Some(seconds) = seconds[row].filter(|_| args.iter().all(|a| a.is_valid(row))) else { return Ok(None) };
        let at = |i: usize| i128::from(number_at(&args[i], row));
        let months = i32::try_from(at(0) * 12 + at(1)).ok();
        let days = i32::try_from(at(2) * 7 + at(3)).ok();
        let nanos = i64::try_from(((at(4) * 60 + at(5)) * 60_000_000 + i128::from(seconds)) * 1_000).ok();
        match (months, days, nanos) {
            (Some(months), Some(days), Some(nanos)) => Ok(Some(IntervalMonthDayNano::new(months, days, nanos))),
            _ => Err(SqlError::new(SqlState("22008"), "interval out of range")),
        }
    };
    Ok(Arc::new((0..seconds.len()).map(one).collect::<Result<IntervalMonthDayNanoArray, SqlError>>()?))
}

/// Of a year, a month, a day, an hour, a minute and seconds.
pub(super) fn make_timestamp(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let seconds = micros_of_seconds(&args[5])?;
    let one = |row: usize| {
        let Some(seconds) = seconds[row].filter(|_| args.iter().all(|a| a.is_valid(row))) else { return Ok(None) };
        let at = |i: usize| number_at(&args[i], row);
        let unsigned = |i: usize| u32::try_from(at(i)).ok();
        let date = i32::try_from(at(0)).ok().zip(unsigned(1)).zip(unsigned(2));
        let date = date.and_then(|((year, month), day)| NaiveDate::from_ymd_opt(year, month, day));
        let fits = (0..24).contains(&at(3)) && (0..60).contains(&at(4)) && (0..=60 * MICROS_PER_SECOND).contains(&seconds);
        let Some(date) = date.filter(|_| fits) else {
            return Err(SqlError::new(SqlState("22008"), "date/time field value out of range"));
        };
        let midnight = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros();
        Ok(Some(midnight + (at(3) * 60 + at(4)) * 60 * MICROS_PER_SECOND + seconds))
    };
    typed((0..seconds.len()).map(one), SqlType::Timestamp)
}

/// Of an hour, a minute and seconds.
pub(super) fn make_time(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let seconds = micros_of_seconds(&args[2])?;
    let one = |row: usize| {
        let Some(seconds) = seconds[row].filter(|_| args.iter().all(|a| a.is_valid(row))) else { return Ok(None) };
        let (hour, minute) = (number_at(&args[0], row), number_at(&args[1], row));
        let is_in_range = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0..=60 * MICROS_PER_SECOND).contains(&seconds);
        let time = is_in_range.then(|| (hour * 60 + minute) * 60 * MICROS_PER_SECOND + seconds);
        // A day ends at 24:00:00.
        let time = time.filter(|time| *time <= 24 * 60 * 60 * MICROS_PER_SECOND);
        time.map(Some).ok_or_else(|| SqlError::new(SqlState("22008"), "time field value out of range"))
    };
    Ok(Arc::new((0..seconds.len()).map(one).collect::<Result<Time64MicrosecondArray, SqlError>>()?))
}
