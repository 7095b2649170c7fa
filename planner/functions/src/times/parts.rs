//! What is asked of one time, or of an interval: its parts that have a fraction, its years, whether it is one.

use super::{micros, naive};
use crate::native::texts;
use chrono::Datelike;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit};
use eddyline_common::time::{MICROS_PER_DAY, MICROS_PER_SECOND};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

/// Seconds of a year and of a month in the epoch of an interval.
const SECONDS_PER_YEAR: f64 = 365.25 * 86_400.0;
const SECONDS_PER_MONTH: f64 = 30.0 * 86_400.0;

/// The parts of `EXTRACT` that have a fraction: of a time, a time of day, an interval or the difference of two times.
pub(super) fn part(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let units = texts(&args[0]);
    let strict = CastOptions { safe: false, ..Default::default() };
    let values: Vec<Option<IntervalMonthDayNano>> = match args[1].data_type() {
        DataType::Interval(_) => {
            let intervals = cast(&args[1], &SqlType::Interval.to_arrow())?;
            intervals.as_primitive::<IntervalMonthDayNanoType>().iter().collect()
        }
        DataType::Duration(_) => spans(&cast(&args[1], &DataType::Duration(TimeUnit::Microsecond))?, false)?,
        DataType::Time32(_) | DataType::Time64(_) => spans(&cast(&args[1], &DataType::Time64(TimeUnit::Microsecond))?, false)?,
        DataType::Timestamp(_, _) => spans(&(Arc::new(micros(&args[1])?) as ArrayRef), true)?,
        _ => spans(&cast(&cast_with_options(&args[1], &SqlType::Timestamp.to_arrow(), &strict)?, &DataType::Int64)?, true)?,
    };
    let one = |row: usize| match values[row] {
        Some(value) if units.is_valid(row) => part_of(units.value(row), value).map(Some),
        _ => Ok(None),
    };
    Ok(Arc::new((0..values.len()).map(one).collect::<Result<Float64Array, SqlError>>()?))
}

/// Microseconds as days and a rest; those of a time have a rest above zero.
fn spans(micros: &ArrayRef, of_time: bool) -> Result<Vec<Option<IntervalMonthDayNano>>, SqlError> {
    let micros = cast(micros, &DataType::Int64)?;
    let split = |micros: i64| match of_time {
        true => (micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY)),
        false => (micros / MICROS_PER_DAY, micros % MICROS_PER_DAY),
    };
    let span = |micros: i64| {
        let (days, rest) = split(micros);
        IntervalMonthDayNano::new(0, days as i32, rest * 1_000)
    };
    Ok(micros.as_primitive::<Int64Type>().iter().map(|micros| micros.map(span)).collect())
}

fn part_of(unit: &str, value: IntervalMonthDayNano) -> Result<f64, SqlError> {
    let micros = value.nanoseconds / 1_000;
    let of_minute = micros % (60 * MICROS_PER_SECOND);
    Ok(match unit {
        "epoch" => {
            let months = f64::from(value.months / 12) * SECONDS_PER_YEAR + f64::from(value.months % 12) * SECONDS_PER_MONTH;
            let whole = i64::from(value.days) * MICROS_PER_DAY;
            months + whole.checked_add(micros).map_or(f64::NAN, |micros| micros as f64) / 1e6
        }
        "second" => of_minute as f64 / 1e6,
        "millisecond" => of_minute as f64 / 1e3,
        "microsecond" => of_minute as f64,
        _ => return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("unit \"{unit}\" is not a unit of time"))),
    })
}

/// `EXTRACT(DECADE | CENTURY | MILLENNIUM FROM x)`: there is no century 0; those of an interval are as many as it has in full.
pub(super) fn years(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let units = texts(&args[0]);
    let of_interval = matches!(args[1].data_type(), DataType::Interval(_));
    let years: Vec<Option<i32>> = match of_interval {
        true => {
            let intervals = cast(&args[1], &SqlType::Interval.to_arrow())?;
            intervals.as_primitive::<IntervalMonthDayNanoType>().iter().map(|v| v.map(|v| v.months / 12)).collect()
        }
        false => micros(&args[1])?.iter().map(|v| v.map(|v| naive(v).map(|at| at.year())).transpose()).collect::<Result<_, SqlError>>()?,
    };
    let one = |row: usize| {
        let (Some(year), true) = (years[row], units.is_valid(row)) else { return Ok(None) };
        let size = match units.value(row) {
            "decade" => 10,
            "century" => 100,
            "millennium" => 1_000,
            unit => return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("unit \"{unit}\" is not one of years"))),
        };
        Ok(Some(match year {
            year if of_interval => year / size,
            year if size == 10 => year.div_euclid(size),
            1.. => (year - 1) / size + 1,
            _ => (year + size - 1).div_euclid(size) - 1,
        }))
    };
    Ok(Arc::new((0..years.len()).map(one).collect::<Result<Int32Array, SqlError>>()?))
}

/// Times without an end are not kept here.
pub(super) fn isfinite(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let finite = |row: usize| args[0].is_valid(row).then_some(true);
    Ok(Arc::new((0..args[0].len()).map(finite).collect::<BooleanArray>()))
}
