//! Units of time: how many lie between two times, times moved by some, and the unit that holds a time.

use super::{calendar_type, micros, naive, out_of_range, typed};
use crate::arguments::{columns, result};
use crate::error::into_datafusion;
use crate::intervals::{intervals, length_of};
use crate::native::{Memo, texts};
use chrono::{Datelike, Months, NaiveDate, NaiveDateTime};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int32Array, Time64MicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::time::{MICROS_PER_DAY, MICROS_PER_SECOND};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

const MONTHS_PER_CENTURY: i64 = 1_200;
const MICROS_PER_HOUR: i64 = 3_600 * MICROS_PER_SECOND;

/// A unit of time: so many months, or so many microseconds.
#[derive(Clone, Copy)]
enum Unit {
    Months(i64),
    Micros(i64),
}

fn unit(name: &str) -> Result<Unit, SqlError> {
    let lower = name.to_lowercase();
    let lower = lower.strip_prefix("sql_tsi_").unwrap_or(&lower);
    Ok(match lower.strip_suffix('s').unwrap_or(lower) {
        "millennium" => Unit::Months(12_000),
        "century" => Unit::Months(MONTHS_PER_CENTURY),
        "decade" => Unit::Months(120),
        "year" => Unit::Months(12),
        "quarter" => Unit::Months(3),
        "month" => Unit::Months(1),
        "week" => Unit::Micros(7 * MICROS_PER_DAY),
        "day" => Unit::Micros(MICROS_PER_DAY),
        "hour" => Unit::Micros(3_600_000_000),
        "minute" => Unit::Micros(60_000_000),
        "second" => Unit::Micros(1_000_000),
        "millisecond" => Unit::Micros(1_000),
        "microsecond" => Unit::Micros(1),
        _ => return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("unit \"{name}\" is not a unit of time"))),
    })
}

/// A unit that a time of day is rounded to.
fn unit_of_day(name: &str) -> Result<Unit, SqlError> {
    match unit(name)? {
        Unit::Micros(size) if size <= MICROS_PER_HOUR => Ok(Unit::Micros(size)),
        _ => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("unit \"{name}\" not supported for type time without time zone"))),
    }
}

/// Whether a name is of a unit of time.
pub fn check_unit(name: &str) -> Result<(), SqlError> {
    unit(name).map(|_| ())
}

/// Whether a unit is shorter than a day: a date to which some are added becomes a timestamp.
pub fn is_of_clock(name: &str) -> bool {
    matches!(unit(name), Ok(Unit::Micros(size)) if size < MICROS_PER_DAY)
}

/// Whole units from one time to another, towards zero.
pub(super) fn timestampdiff(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (units, from, to) = (texts(&args[0]), micros(&args[1])?, micros(&args[2])?);
    let mut known = Memo::new();
    let convert = |row: usize| {
        if units.is_null(row) || from.is_null(row) || to.is_null(row) {
            return Ok(None);
        }
        let whole = match *known.get(units.value(row), unit)? {
            Unit::Micros(size) => to.value(row).checked_sub(from.value(row)).ok_or_else(out_of_range)? / size,
            Unit::Months(size) => months_between(naive(from.value(row))?, naive(to.value(row))?) / size,
        };
        i32::try_from(whole).map(Some).map_err(|_| SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "integer out of range"))
    };
    Ok(Arc::new((0..from.len()).map(convert).collect::<Result<Int32Array, SqlError>>()?))
}

fn months_between(from: NaiveDateTime, to: NaiveDateTime) -> i64 {
    let count = |t: NaiveDateTime| i64::from(t.year()) * 12 + i64::from(t.month0());
    let rest = |t: NaiveDateTime| (t.day(), t.time());
    let months = count(to) - count(from);
    match months {
        1.. if rest(to) < rest(from) => months - 1,
        ..=-1 if rest(to) > rest(from) => months + 1,
        _ => months,
    }
}

pub(crate) fn add_months(at: NaiveDateTime, months: i64) -> Option<NaiveDateTime> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { at.checked_sub_months(count) } else { at.checked_add_months(count) }
}

pub(super) fn timestampadd(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (units, counts, values) = (texts(&args[0]), args[1].as_primitive::<Int64Type>(), micros(&args[2])?);
    let mut known = Memo::new();
    let convert = |row: usize| {
        if args.iter().any(|a| a.is_null(row)) {
            return Ok(None);
        }
        let (count, value) = (counts.value(row), values.value(row));
        let moved = match *known.get(units.value(row), unit)? {
            Unit::Micros(size) => count.checked_mul(size).and_then(|by| value.checked_add(by)),
            Unit::Months(size) => {
                let at = naive(value)?;
                count.checked_mul(size).and_then(|by| add_months(at, by)).map(|t| t.and_utc().timestamp_micros())
            }
        };
        moved.map(Some).ok_or_else(out_of_range)
    };
    in_type_of(&args[2], (0..values.len()).map(convert))
}

/// Timestamps in the type that a column of dates, timestamps or times of day has.
fn in_type_of(column: &ArrayRef, values: impl Iterator<Item = Result<Option<i64>, SqlError>>) -> Result<ArrayRef, SqlError> {
    match calendar_type(Some(column.data_type())) {
        SqlType::Date => {
            let days = values.map(|v| v.map(|v| v.map(|v| v.div_euclid(MICROS_PER_DAY) as i32)));
            Ok(Arc::new(days.collect::<Result<Date32Array, SqlError>>()?))
        }
        SqlType::Time => {
            let times = values.map(|v| v.map(|v| v.map(|v| v.rem_euclid(MICROS_PER_DAY))));
            Ok(Arc::new(times.collect::<Result<Time64MicrosecondArray, SqlError>>()?))
        }
        ty => typed(values, ty),
    }
}

/// The start of the unit that holds a time, as Flink has it: weeks begin on Sunday, centuries and millennia with a year 1.
fn floor(micros: i64, unit: Unit) -> Result<i64, SqlError> {
    // The day of the week that 1970 began with is the fourth after a Sunday.
    const SUNDAY: i64 = -4 * MICROS_PER_DAY;
    match unit {
        Unit::Micros(size) if size == 7 * MICROS_PER_DAY => Ok((micros - SUNDAY).div_euclid(size) * size + SUNDAY),
        Unit::Micros(size) => Ok(micros.div_euclid(size) * size),
        Unit::Months(size) => {
            let at = naive(micros)?;
            let year_one = if size >= MONTHS_PER_CENTURY { 12 } else { 0 };
            let months = i64::from(at.year()) * 12 + i64::from(at.month0());
            let first = (months - year_one).div_euclid(size) * size + year_one;
            let date = NaiveDate::from_ymd_opt(first.div_euclid(12) as i32, first.rem_euclid(12) as u32 + 1, 1).ok_or_else(out_of_range)?;
            Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
        }
    }
}

fn rounded(args: &[ArrayRef], up: bool) -> Result<ArrayRef, SqlError> {
    let (units, values) = (texts(&args[0]), micros(&args[1])?);
    let of_day = calendar_type(Some(args[1].data_type())) == SqlType::Time;
    let known_unit = if of_day { unit_of_day } else { unit };
    let mut known = Memo::new();
    let convert = |row: usize| {
        if units.is_null(row) || values.is_null(row) {
            return Ok(None);
        }
        let (unit, value) = (*known.get(units.value(row), known_unit)?, values.value(row));
        let start = floor(value, unit)?;
        if !up || start == value {
            return Ok(Some(start));
        }
        let next = match unit {
            Unit::Micros(size) => start.checked_add(size),
            Unit::Months(size) => add_months(naive(start)?, size).map(|t| t.and_utc().timestamp_micros()),
        };
        next.map(Some).ok_or_else(out_of_range)
    };
    in_type_of(&args[1], (0..values.len()).map(convert))
}

/// `CEIL(time TO unit)`.
pub(super) fn ceil_to(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    rounded(args, true)
}

/// `FLOOR(time TO unit)`.
pub(super) fn floor_to(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    rounded(args, false)
}

/// `date_trunc`: units of many years begin with a year 1, but for decades; a unit may be in the plural.
pub fn date_trunc(of: &ScalarUDF, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let unit = match &args.args[0] {
        ColumnarValue::Scalar(unit) => unit.try_as_str().flatten().map(str::to_lowercase),
        ColumnarValue::Array(_) => None,
    };
    let Some(unit) = unit else { return of.invoke_with_args(args) };
    let unit = unit.strip_suffix('s').unwrap_or(&unit).to_string();
    let (years, first) = match unit.as_str() {
        "millennium" | "millennia" => (1_000, 1),
        "century" | "centurie" => (100, 1),
        "decade" => (10, 0),
        _ => {
            args.args[0] = ColumnarValue::Scalar(ScalarValue::Utf8(Some(unit)));
            return of.invoke_with_args(args);
        }
    };
    let given = columns(&args)?;
    let truncated = years_floor(&given[1], years, first).map_err(into_datafusion)?;
    result(cast(&truncated, args.return_field.data_type())?, &args)
}

/// The start of so many years, counted from a first one, that hold a time.
fn years_floor(times: &ArrayRef, years: i32, first: i32) -> Result<ArrayRef, SqlError> {
    let convert = |micros: Option<i64>| {
        let Some(micros) = micros else { return Ok(None) };
        let year = (naive(micros)?.year() - first).div_euclid(years) * years + first;
        let start = NaiveDate::from_ymd_opt(year, 1, 1).ok_or_else(out_of_range)?;
        Ok(Some(start.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros()))
    };
    let zoned = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    typed(micros(times)?.iter().map(convert), if zoned { SqlType::TimestampTz } else { SqlType::Timestamp })
}

/// `date_bin`: a stride of days and less, ahead.
pub fn date_bin(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let strides = match &args.args[0] {
        ColumnarValue::Scalar(stride) => stride.to_array()?,
        ColumnarValue::Array(strides) => strides.clone(),
    };
    for stride in intervals(&strides).map_err(into_datafusion)?.iter().flatten() {
        let fault = match stride.months {
            0 if length_of(stride) > 0 => continue,
            0 => SqlError::new(SqlState("22008"), "stride must be greater than zero"),
            _ => SqlError::unsupported("timestamps cannot be binned into intervals containing months or years"),
        };
        return Err(into_datafusion(fault));
    }
    of.invoke_with_args(args)
}
