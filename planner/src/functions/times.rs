//! Functions of dates and times: zones, patterns, calendar units.

use super::native::{Arg, Memo, Native, map_text, text, texts};
use super::pattern::Pattern;
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int32Array, Int64Array, TimestampMicrosecondArray};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::*;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::str::FromStr;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::total("timezone", &[Arg::Text, Arg::Time], &[], other_kind, timezone),
    Native::total("eddyline_instant", &[Arg::Text, Arg::Text], &[], instants, instant),
    Native::partial("eddyline_try_instant", &[Arg::Text, Arg::Text], &[], instants, try_instant),
    Native::total("date_format", &[Arg::Time, Arg::Text], &[], text, date_format),
    Native::total("to_char", &[Arg::Time, Arg::Text], &[], text, to_char),
    Native::total("eddyline_time_of", &[Arg::Text, Arg::Text], &[], times, time_of_java),
    Native::total("eddyline_time_of_pg", &[Arg::Text, Arg::Text], &[], times, time_of_postgres),
    Native::total("to_timestamp", &[Arg::Any], &[], time_or_instant, to_timestamp),
    Native::total("to_timestamp_ltz", &[Arg::Any], &[Arg::BigInt], instants, to_timestamp_ltz),
    Native::total("unix_timestamp", &[Arg::Text, Arg::Text, Arg::Text], &[], bigint, unix_timestamp),
    Native::total("eddyline_seconds", &[Arg::Time], &[], bigint, seconds),
    Native::total("from_unixtime", &[Arg::BigInt, Arg::Text, Arg::Text], &[], text, from_unixtime),
    Native::total("timestampdiff", &[Arg::Text, Arg::Time, Arg::Time], &[], |_| SqlType::Integer, timestampdiff),
    Native::total("timestampadd", &[Arg::Text, Arg::BigInt, Arg::Any], &[], third, timestampadd),
    Native::total("eddyline_ceil", &[Arg::Text, Arg::Any], &[], second, ceil_to),
    Native::total("eddyline_floor", &[Arg::Text, Arg::Any], &[], second, floor_to),
];

fn bigint(_: &[DataType]) -> SqlType {
    SqlType::BigInt
}

fn times(_: &[DataType]) -> SqlType {
    SqlType::Timestamp
}

fn instants(_: &[DataType]) -> SqlType {
    SqlType::TimestampTz
}

/// A timestamp for a timestamptz and the reverse.
fn other_kind(types: &[DataType]) -> SqlType {
    match types.get(1) {
        Some(DataType::Timestamp(_, Some(_))) => SqlType::Timestamp,
        _ => SqlType::TimestampTz,
    }
}

fn calendar_type(ty: Option<&DataType>) -> SqlType {
    match ty {
        Some(DataType::Date32) => SqlType::Date,
        Some(DataType::Timestamp(_, Some(_))) => SqlType::TimestampTz,
        _ => SqlType::Timestamp,
    }
}

fn second(types: &[DataType]) -> SqlType {
    calendar_type(types.get(1))
}

fn third(types: &[DataType]) -> SqlType {
    calendar_type(types.get(2))
}

/// A zone by its name, or by its offset from Greenwich in hours.
pub fn zone_of(name: &str) -> Result<Tz, SqlError> {
    let hours = name.parse::<i32>().ok().map(|hours| format!("{hours:+03}:00"));
    Tz::from_str(hours.as_deref().unwrap_or(name))
        .map_err(|_| SqlError::new(SqlState::INVALID_PARAMETER, format!("time zone \"{name}\" not recognized")))
}

fn out_of_range() -> SqlError {
    SqlError::new(SqlState("22008"), "timestamp out of range")
}

fn naive(micros: i64) -> Result<NaiveDateTime, SqlError> {
    DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc()).ok_or_else(out_of_range)
}

/// Wall-clock micros of an instant.
fn local(micros: i64, zone: &Tz) -> Result<i64, SqlError> {
    let offset = zone.offset_from_utc_datetime(&naive(micros)?).fix().local_minus_utc();
    micros.checked_add(i64::from(offset) * 1_000_000).ok_or_else(out_of_range)
}

/// The instant of a wall-clock time: the earlier of two, and past a gap as far as the clock was put forward.
fn utc(micros: i64, zone: &Tz) -> Result<i64, SqlError> {
    let at = naive(micros)?;
    let found = zone.offset_from_local_datetime(&at).earliest();
    let offset = match found {
        Some(offset) => offset.fix(),
        None => zone.offset_from_local_datetime(&(at - TimeDelta::hours(3))).earliest().ok_or_else(out_of_range)?.fix(),
    };
    micros.checked_sub(i64::from(offset.local_minus_utc()) * 1_000_000).ok_or_else(out_of_range)
}

/// Microseconds of a timestamp column of either kind.
fn micros(array: &ArrayRef) -> Result<Int64Array, SqlError> {
    let ty = DataType::Timestamp(TimeUnit::Microsecond, None);
    let plain = match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => cast(array, &DataType::Timestamp(*unit, None))?,
        _ => array.clone(),
    };
    Ok(cast(&cast(&plain, &ty)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn typed(values: impl Iterator<Item = Result<Option<i64>, SqlError>>, ty: SqlType) -> Result<ArrayRef, SqlError> {
    let values: TimestampMicrosecondArray = values.collect::<Result<_, _>>()?;
    Ok(Arc::new(values.with_data_type(ty.to_arrow())))
}

/// `x AT TIME ZONE zone`: a wall-clock time to an instant, an instant to a wall-clock time.
fn timezone(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (zones, values) = (texts(&args[0]), micros(&args[1])?);
    let from_instant = matches!(args[1].data_type(), DataType::Timestamp(_, Some(_)));
    let mut zone = Memo::new();
    let convert = |row: usize| {
        if zones.is_null(row) || values.is_null(row) {
            return Ok(None);
        }
        let zone = zone.get(zones.value(row), zone_of)?;
        let convert = if from_instant { local } else { utc };
        convert(values.value(row), zone).map(Some)
    };
    typed((0..values.len()).map(convert), if from_instant { SqlType::Timestamp } else { SqlType::TimestampTz })
}

/// Text with or without an offset to an instant; one without is in the zone.
fn instant(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    parse_instants(args, false)
}

fn try_instant(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    parse_instants(args, true)
}

fn parse_instants(args: &[ArrayRef], safe: bool) -> Result<ArrayRef, SqlError> {
    let zones = texts(&args[1]);
    let name = zones.iter().flatten().next().unwrap_or("UTC");
    let hours = name.parse::<i32>().ok().map(|hours| format!("{hours:+03}:00"));
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some(hours.as_deref().unwrap_or(name).into()));
    let parsed = cast_with_options(&args[0], &zoned, &CastOptions { safe, ..Default::default() })?;
    Ok(cast(&parsed, &SqlType::TimestampTz.to_arrow())?)
}

fn formatted(args: &[ArrayRef], parse: fn(&str) -> Result<Pattern, SqlError>) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (micros(&args[0])?, texts(&args[1]));
    let mut pattern = Memo::new();
    map_text(args, |row, out| {
        pattern.get(patterns.value(row), parse)?.format(naive(values.value(row))?, out);
        Ok(true)
    })
}

fn date_format(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    formatted(args, Pattern::java)
}

fn to_char(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    formatted(args, Pattern::postgres)
}

/// The time that a text shows by a pattern.
fn time_of(text: &str, pattern: &Pattern) -> Result<i64, SqlError> {
    pattern
        .parse(text)
        .map(|at| at.and_utc().timestamp_micros())
        .ok_or_else(|| SqlError::new(SqlState("22007"), format!("invalid value for the pattern of a date or time: \"{text}\"")))
}

fn times_of(args: &[ArrayRef], parse: fn(&str) -> Result<Pattern, SqlError>) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let mut pattern = Memo::new();
    let convert = |row: usize| {
        if values.is_null(row) || patterns.is_null(row) {
            return Ok(None);
        }
        time_of(values.value(row), pattern.get(patterns.value(row), parse)?).map(Some)
    };
    typed((0..values.len()).map(convert), SqlType::Timestamp)
}

fn time_of_java(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    times_of(args, Pattern::java)
}

fn time_of_postgres(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    times_of(args, Pattern::postgres)
}

/// PostgreSQL's of seconds, an instant; Flink's of text, a time without a zone.
fn time_or_instant(types: &[DataType]) -> SqlType {
    if types.first().is_some_and(DataType::is_numeric) { SqlType::TimestampTz } else { SqlType::Timestamp }
}

fn to_timestamp(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if !args[0].data_type().is_numeric() {
        return Ok(cast_with_options(&args[0], &SqlType::Timestamp.to_arrow(), &CastOptions { safe: false, ..Default::default() })?);
    }
    let seconds: ArrayRef = Arc::new(Int64Array::from_value(0, args[0].len()));
    to_timestamp_ltz(&[args[0].clone(), seconds])
}

/// `TO_TIMESTAMP_LTZ(number [, digits])`: seconds (0 digits), milliseconds (3, as without) or microseconds (6).
fn to_timestamp_ltz(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if !args[0].data_type().is_numeric() && !args[0].data_type().is_null() {
        return Err(SqlError::unsupported("to_timestamp_ltz() of anything but a number is not supported")
            .with_hint("Cast the text to TIMESTAMP_LTZ."));
    }
    let digits = args.get(1).map(|d| d.as_primitive::<Int64Type>());
    let factor = |row: usize| match digits.map_or(3, |d| d.value(row)) {
        0 => Ok(1_000_000),
        3 => Ok(1_000),
        6 => Ok(1),
        other => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("the precision of to_timestamp_ltz() is 0, 3 or 6, not {other}"))),
    };
    let null = |row: usize| args.iter().any(|a| a.is_null(row));
    if args[0].data_type().is_floating() || matches!(args[0].data_type(), DataType::Decimal128(_, _)) {
        let values = cast(&args[0], &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let convert = |row: usize| if null(row) { Ok(None) } else { Ok(Some((values.value(row) * factor(row)? as f64) as i64)) };
        return typed((0..values.len()).map(convert), SqlType::TimestampTz);
    }
    let values = cast(&args[0], &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    let convert = |row: usize| match null(row) {
        true => Ok(None),
        false => values.value(row).checked_mul(factor(row)?).map(Some).ok_or_else(out_of_range),
    };
    typed((0..values.len()).map(convert), SqlType::TimestampTz)
}

/// Seconds since 1970 of an instant.
fn seconds(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = micros(&args[0])?;
    Ok(Arc::new(values.iter().map(|v| v.map(|v| v.div_euclid(1_000_000))).collect::<Int64Array>()))
}

/// `UNIX_TIMESTAMP(text, pattern)` in a zone.
fn unix_timestamp(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns, zones) = (texts(&args[0]), texts(&args[1]), texts(&args[2]));
    let (mut pattern, mut zone) = (Memo::new(), Memo::new());
    let convert = |row: usize| {
        if args.iter().any(|a| a.is_null(row)) {
            return Ok(None);
        }
        let at = time_of(values.value(row), pattern.get(patterns.value(row), Pattern::java)?)?;
        Ok(Some(utc(at, zone.get(zones.value(row), zone_of)?)?.div_euclid(1_000_000)))
    };
    Ok(Arc::new((0..values.len()).map(convert).collect::<Result<Int64Array, SqlError>>()?))
}

/// `FROM_UNIXTIME(seconds, pattern)` in a zone.
fn from_unixtime(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns, zones) = (args[0].as_primitive::<Int64Type>(), texts(&args[1]), texts(&args[2]));
    let (mut pattern, mut zone) = (Memo::new(), Memo::new());
    map_text(args, |row, out| {
        let at = values.value(row).checked_mul(1_000_000).ok_or_else(out_of_range)?;
        let at = local(at, zone.get(zones.value(row), zone_of)?)?;
        pattern.get(patterns.value(row), Pattern::java)?.format(naive(at)?, out);
        Ok(true)
    })
}

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
        "century" => Unit::Months(1_200),
        "decade" => Unit::Months(120),
        "year" => Unit::Months(12),
        "quarter" => Unit::Months(3),
        "month" => Unit::Months(1),
        "week" => Unit::Micros(7 * 86_400_000_000),
        "day" => Unit::Micros(86_400_000_000),
        "hour" => Unit::Micros(3_600_000_000),
        "minute" => Unit::Micros(60_000_000),
        "second" => Unit::Micros(1_000_000),
        "millisecond" => Unit::Micros(1_000),
        "microsecond" => Unit::Micros(1),
        _ => return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("unit \"{name}\" is not a unit of time"))),
    })
}

/// Whole units from one time to another, towards zero.
fn timestampdiff(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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

fn add_months(at: NaiveDateTime, months: i64) -> Option<NaiveDateTime> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { at.checked_sub_months(count) } else { at.checked_add_months(count) }
}

fn timestampadd(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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

/// Timestamps in the type that a column of dates or timestamps has.
fn in_type_of(column: &ArrayRef, values: impl Iterator<Item = Result<Option<i64>, SqlError>>) -> Result<ArrayRef, SqlError> {
    match calendar_type(Some(column.data_type())) {
        SqlType::Date => {
            let days = values.map(|v| v.map(|v| v.map(|v| v.div_euclid(86_400_000_000) as i32)));
            Ok(Arc::new(days.collect::<Result<Date32Array, SqlError>>()?))
        }
        ty => typed(values, ty),
    }
}

/// The start of the unit that holds a time.
fn floor(micros: i64, unit: Unit) -> Result<i64, SqlError> {
    // The day of the week that 1970 began with is the fourth after a Monday.
    const MONDAY: i64 = -3 * 86_400_000_000;
    match unit {
        Unit::Micros(size) if size == 7 * 86_400_000_000 => Ok((micros - MONDAY).div_euclid(size) * size + MONDAY),
        Unit::Micros(size) => Ok(micros.div_euclid(size) * size),
        Unit::Months(size) => {
            let at = naive(micros)?;
            let first = (i64::from(at.year()) * 12 + i64::from(at.month0())).div_euclid(size) * size;
            let date = NaiveDate::from_ymd_opt(first.div_euclid(12) as i32, first.rem_euclid(12) as u32 + 1, 1).ok_or_else(out_of_range)?;
            Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
        }
    }
}

fn rounded(args: &[ArrayRef], up: bool) -> Result<ArrayRef, SqlError> {
    let (units, values) = (texts(&args[0]), micros(&args[1])?);
    let mut known = Memo::new();
    let convert = |row: usize| {
        if units.is_null(row) || values.is_null(row) {
            return Ok(None);
        }
        let (unit, value) = (*known.get(units.value(row), unit)?, values.value(row));
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
fn ceil_to(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    rounded(args, true)
}

/// `FLOOR(time TO unit)`.
fn floor_to(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    rounded(args, false)
}
