//! Functions of dates and times: zones, patterns, calendar units.

use super::amended::{columns, result};
use super::casts::strictly;
use super::intervals::{intervals, length_of};
use super::native::{Arg, Memo, Native, map_rows, map_text, text, texts};
use super::pattern::{DEFAULT, Pattern};
use super::{ADD_CLOCK, PART, YEARS};
use crate::error::into_datafusion;
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::*;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::time::{MICROS_PER_DAY, MICROS_PER_SECOND};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::cmp::Ordering;
use std::str::FromStr;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::total("timezone", &[Arg::Text, Arg::Time], &[], other_kind, timezone),
    Native::total("eddyline_instant", &[Arg::Text, Arg::Text], &[], instants, instant),
    Native::partial("eddyline_try_instant", &[Arg::Text, Arg::Text], &[], instants, try_instant),
    Native::total("date_format", &[Arg::Time, Arg::Text], &[], text, date_format),
    Native::total("to_char", &[Arg::TimeOrNumber, Arg::Text], &[], text, to_char),
    Native::total("eddyline_time_of", &[Arg::Text, Arg::Text], &[], times, time_of_java),
    Native::total("eddyline_time_of_pg", &[Arg::Text, Arg::Text], &[], times, time_of_postgres),
    Native::total("to_timestamp", &[Arg::Any], &[], time_or_instant, to_timestamp),
    Native::total("to_timestamp_ltz", &[Arg::Any], &[Arg::BigInt], instants, to_timestamp_ltz),
    Native::total("eddyline_instant_of", &[Arg::Text, Arg::Text, Arg::Text], &[], instants, instant_of),
    Native::total("convert_tz", &[Arg::Text, Arg::Text, Arg::Text], &[], text, convert_tz),
    Native::total("unix_timestamp", &[Arg::TextOrTime, Arg::Text, Arg::Text], &[], bigint, unix_timestamp),
    Native::total("eddyline_seconds", &[Arg::Time], &[], bigint, seconds),
    Native::total("from_unixtime", &[Arg::BigInt, Arg::Text, Arg::Text], &[], text, from_unixtime),
    Native::total("timestampdiff", &[Arg::Text, Arg::Time, Arg::Time], &[], |_| SqlType::Integer, timestampdiff),
    Native::total("timestampadd", &[Arg::Text, Arg::BigInt, Arg::Any], &[], third, timestampadd),
    Native::total(ADD_CLOCK, &[Arg::Text, Arg::BigInt, Arg::Moment], &[], clock_type, timestampadd),
    Native::total("eddyline_ceil", &[Arg::Text, Arg::Any], &[], second, ceil_to),
    Native::total("eddyline_floor", &[Arg::Text, Arg::Any], &[], second, floor_to),
    Native::total(PART, &[Arg::Text, Arg::Any], &[], |_| SqlType::Double, part),
    Native::partial("overlaps", &[Arg::Moment; 4], &[], |_| SqlType::Boolean, overlaps),
    Native::total(YEARS, &[Arg::Text, Arg::Any], &[], |_| SqlType::Integer, years),
    Native::total("age", &[Arg::Time, Arg::Time], &[], |_| SqlType::Interval, age),
    Native::total(
        "make_interval",
        &[Arg::BigInt, Arg::BigInt, Arg::BigInt, Arg::BigInt, Arg::BigInt, Arg::BigInt, Arg::Number],
        &[],
        |_| SqlType::Interval,
        make_interval,
    ),
    Native::total(
        "make_timestamp",
        &[Arg::BigInt, Arg::BigInt, Arg::BigInt, Arg::BigInt, Arg::BigInt, Arg::Number],
        &[],
        times,
        make_timestamp,
    ),
    Native::total("make_time", &[Arg::BigInt, Arg::BigInt, Arg::Number], &[], |_| SqlType::Time, make_time),
    Native::total("isfinite", &[Arg::Any], &[], |_| SqlType::Boolean, isfinite),
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
        Some(DataType::Time32(_) | DataType::Time64(_)) => SqlType::Time,
        _ => SqlType::Timestamp,
    }
}

fn second(types: &[DataType]) -> SqlType {
    calendar_type(types.get(1))
}

/// A date becomes a timestamp.
fn clock_type(types: &[DataType]) -> SqlType {
    match third(types) {
        SqlType::Date => SqlType::Timestamp,
        ty => ty,
    }
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

pub(super) fn out_of_range() -> SqlError {
    SqlError::new(SqlState("22008"), "timestamp out of range")
}

pub(super) fn naive(micros: i64) -> Result<NaiveDateTime, SqlError> {
    DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc()).ok_or_else(out_of_range)
}

/// Wall-clock micros of an instant.
pub(super) fn local(micros: i64, zone: &Tz) -> Result<i64, SqlError> {
    let offset = zone.offset_from_utc_datetime(&naive(micros)?).fix().local_minus_utc();
    micros.checked_add(i64::from(offset) * 1_000_000).ok_or_else(out_of_range)
}

/// The instant of a wall-clock time: the earlier of two, and past a gap as far as the clock was put forward.
pub(super) fn utc(micros: i64, zone: &Tz) -> Result<i64, SqlError> {
    let at = naive(micros)?;
    let found = zone.offset_from_local_datetime(&at).earliest();
    let offset = match found {
        Some(offset) => offset.fix(),
        None => zone.offset_from_local_datetime(&(at - TimeDelta::hours(3))).earliest().ok_or_else(out_of_range)?.fix(),
    };
    micros.checked_sub(i64::from(offset.local_minus_utc()) * 1_000_000).ok_or_else(out_of_range)
}

/// Microseconds of a timestamp column of either kind, or of times of day.
pub(super) fn micros(array: &ArrayRef) -> Result<Int64Array, SqlError> {
    if let DataType::Time32(_) | DataType::Time64(_) = array.data_type() {
        let times = cast(array, &DataType::Time64(TimeUnit::Microsecond))?;
        return Ok(cast(&times, &DataType::Int64)?.as_primitive::<Int64Type>().clone());
    }
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
    formatted(args, Pattern::java_shown)
}

fn to_char(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    match args[0].data_type() {
        number if number.is_numeric() => super::number_patterns::to_char(args),
        DataType::Interval(_) => interval_shown(args),
        _ => formatted(args, Pattern::postgres),
    }
}

fn interval_shown(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (intervals(&args[0])?, texts(&args[1]));
    let mut pattern = Memo::new();
    map_text(args, |row, out| {
        pattern.get(patterns.value(row), Pattern::postgres)?.format_interval(values.value(row), out)?;
        Ok(true)
    })
}

fn not_by_pattern(text: &str) -> SqlError {
    SqlError::new(SqlState("22007"), format!("invalid value for the pattern of a date or time: \"{text}\""))
}

/// The time that a text shows by a pattern.
fn time_of(text: &str, pattern: &Pattern) -> Result<i64, SqlError> {
    pattern.parse(text).map(|at| at.and_utc().timestamp_micros()).ok_or_else(|| not_by_pattern(text))
}

/// The instant that a text shows by a pattern, in a zone where it has no offset.
fn instant_by(text: &str, pattern: &Pattern, zone: &Tz) -> Result<i64, SqlError> {
    let (at, offset) = pattern.parse_with_offset(text).ok_or_else(|| not_by_pattern(text))?;
    let micros = at.and_utc().timestamp_micros();
    match offset {
        Some(seconds) => micros.checked_sub(i64::from(seconds) * MICROS_PER_SECOND).ok_or_else(out_of_range),
        None => utc(micros, zone),
    }
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
        return strictly(&args[0], &SqlType::Timestamp.to_arrow());
    }
    let seconds: ArrayRef = Arc::new(Int64Array::from_value(0, args[0].len()));
    to_timestamp_ltz(&[args[0].clone(), seconds])
}

/// `TO_TIMESTAMP_LTZ(text, pattern, zone)`.
fn instant_of(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns, zones) = (texts(&args[0]), texts(&args[1]), texts(&args[2]));
    let (mut pattern, mut zone) = (Memo::new(), Memo::new());
    let instants: TimestampMicrosecondArray = map_rows(args, |row| {
        let pattern = pattern.get(patterns.value(row), Pattern::java)?;
        instant_by(values.value(row), pattern, zone.get(zones.value(row), zone_of)?).map(Some)
    })?;
    Ok(Arc::new(instants.with_data_type(SqlType::TimestampTz.to_arrow())))
}

/// `CONVERT_TZ(text, from, to)`: a time as the clock of one zone shows it, as that of another does.
fn convert_tz(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, from, to) = (texts(&args[0]), texts(&args[1]), texts(&args[2]));
    let (pattern, mut own, mut other) = (Pattern::java(DEFAULT)?, Memo::new(), Memo::new());
    map_text(args, |row, out| {
        let at = utc(time_of(values.value(row), &pattern)?, own.get(from.value(row), zone_of)?)?;
        pattern.format(naive(local(at, other.get(to.value(row), zone_of)?)?)?, out);
        Ok(true)
    })
}

/// `TO_TIMESTAMP_LTZ(number [, digits])`: seconds (0 digits), milliseconds (3, as without) or microseconds (6). Of a text: its time in UTC, if it names no
/// other zone.
fn to_timestamp_ltz(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if args.len() == 1 && args[0].data_type().is_string() {
        return strictly(&args[0], &SqlType::TimestampTz.to_arrow());
    }
    if !args[0].data_type().is_numeric() && !args[0].data_type().is_null() {
        return Err(SqlError::unsupported("to_timestamp_ltz() of anything but a number or a text is not supported")
            .with_hint("Write CAST(x AS TIMESTAMP_LTZ), or TO_TIMESTAMP_LTZ(text, 'yyyy-MM-dd HH:mm:ss.SSS')."));
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
        let convert = |row: usize| {
            if null(row) {
                return Ok(None);
            }
            // The infinities are the ends of the range; no other value comes to one, and NaN to nothing.
            let (value, micros) = (values.value(row), values.value(row) * factor(row)? as f64);
            let is_time = value.is_infinite() || micros.abs() < i64::MAX as f64;
            if is_time { Ok(Some(micros as i64)) } else { Err(out_of_range()) }
        };
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

/// `UNIX_TIMESTAMP(time)`, of a time that is read off the clock of a zone unless it is an instant.
fn unix_time(values: &ArrayRef, zones: &ArrayRef) -> Result<ArrayRef, SqlError> {
    if let DataType::Timestamp(_, Some(_)) = values.data_type() {
        return seconds(std::slice::from_ref(values));
    }
    let (values, zones) = (micros(values)?, texts(zones));
    let mut zone = Memo::new();
    let convert = |row: usize| {
        if values.is_null(row) || zones.is_null(row) {
            return Ok(None);
        }
        Ok(Some(utc(values.value(row), zone.get(zones.value(row), zone_of)?)?.div_euclid(MICROS_PER_SECOND)))
    };
    Ok(Arc::new((0..values.len()).map(convert).collect::<Result<Int64Array, SqlError>>()?))
}

/// `UNIX_TIMESTAMP(text, pattern)` in a zone.
fn unix_timestamp(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if args[0].data_type().is_temporal() {
        return unix_time(&args[0], &args[2]);
    }
    let (values, patterns, zones) = (texts(&args[0]), texts(&args[1]), texts(&args[2]));
    let (mut pattern, mut zone) = (Memo::new(), Memo::new());
    let seconds: Int64Array = map_rows(args, |row| {
        let pattern = pattern.get(patterns.value(row), Pattern::java)?;
        let at = instant_by(values.value(row), pattern, zone.get(zones.value(row), zone_of)?)?;
        Ok(Some(at.div_euclid(MICROS_PER_SECOND)))
    })?;
    Ok(Arc::new(seconds))
}

/// `FROM_UNIXTIME(seconds, pattern)` in a zone.
fn from_unixtime(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns, zones) = (args[0].as_primitive::<Int64Type>(), texts(&args[1]), texts(&args[2]));
    let (mut pattern, mut zone) = (Memo::new(), Memo::new());
    map_text(args, |row, out| {
        let at = values.value(row).checked_mul(1_000_000).ok_or_else(out_of_range)?;
        let at = local(at, zone.get(zones.value(row), zone_of)?)?;
        pattern.get(patterns.value(row), Pattern::java_shown)?.format(naive(at)?, out);
        Ok(true)
    })
}

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

pub(super) fn add_months(at: NaiveDateTime, months: i64) -> Option<NaiveDateTime> {
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
fn ceil_to(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    rounded(args, true)
}

/// `FLOOR(time TO unit)`.
fn floor_to(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    rounded(args, false)
}

/// Seconds of a year and of a month in the epoch of an interval.
const SECONDS_PER_YEAR: f64 = 365.25 * 86_400.0;
const SECONDS_PER_MONTH: f64 = 30.0 * 86_400.0;

/// The parts of `EXTRACT` that have a fraction: of a time, a time of day, an interval or the difference of two times.
fn part(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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
fn years(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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

/// Whether two spans of time have a moment in common. They begin with the earlier of their times and stop short of the later one, unless that is the same;
/// of a time that is not there it may not be known, as in PostgreSQL.
fn overlaps(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let times = args.iter().map(micros).collect::<Result<Vec<_>, _>>()?;
    let at = |i: usize, row: usize| times[i].is_valid(row).then(|| times[i].value(row));
    let one = |row: usize| {
        let (from, to) = span_of(at(0, row), at(1, row))?;
        let (other_from, other_to) = span_of(at(2, row), at(3, row))?;
        let behind = |start: i64, end: Option<i64>, own_end: Option<i64>| match end {
            Some(end) if start < end => Some(true),
            Some(_) => own_end.map(|_| false),
            None => None,
        };
        match from.cmp(&other_from) {
            Ordering::Greater => behind(from, other_to, to),
            Ordering::Less => behind(other_from, to, other_to),
            Ordering::Equal => to.and(other_to).map(|_| true),
        }
    };
    Ok(Arc::new((0..times[0].len()).map(one).collect::<BooleanArray>()))
}

/// The earlier of two times and the later one, which is not known of one alone.
fn span_of(a: Option<i64>, b: Option<i64>) -> Option<(i64, Option<i64>)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.min(b), Some(a.max(b)))),
        (a, b) => a.or(b).map(|known| (known, None)),
    }
}

/// What one time is after another in years, months, days and time; a day that is missing is one of the earlier time's month.
fn age(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (later, earlier) = (micros(&args[0])?, micros(&args[1])?);
    let one = |(later, earlier): (Option<i64>, Option<i64>)| match (later, earlier) {
        (Some(later), Some(earlier)) if later >= earlier => symbolic(later, earlier).map(Some),
        (Some(later), Some(earlier)) => {
            let positive = symbolic(earlier, later)?;
            Ok(Some(IntervalMonthDayNano::new(-positive.months, -positive.days, -positive.nanoseconds)))
        }
        _ => Ok(None),
    };
    Ok(Arc::new(later.iter().zip(earlier.iter()).map(one).collect::<Result<IntervalMonthDayNanoArray, SqlError>>()?))
}

fn symbolic(later: i64, earlier: i64) -> Result<IntervalMonthDayNano, SqlError> {
    let (to, from) = (naive(later)?, naive(earlier)?);
    let mut months = (to.year() - from.year()) * 12 + to.month() as i32 - from.month() as i32;
    let mut days = to.day() as i32 - from.day() as i32;
    let mut micros = later.rem_euclid(MICROS_PER_DAY) - earlier.rem_euclid(MICROS_PER_DAY);
    if micros < 0 {
        micros += MICROS_PER_DAY;
        days -= 1;
    }
    if days < 0 {
        days += i32::from(from.num_days_in_month());
        months -= 1;
    }
    Ok(IntervalMonthDayNano::new(months, days, micros * 1_000))
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
fn make_interval(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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
fn make_timestamp(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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
fn make_time(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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

/// Times without an end are not kept here.
fn isfinite(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let finite = |row: usize| args[0].is_valid(row).then_some(true);
    Ok(Arc::new((0..args[0].len()).map(finite).collect::<BooleanArray>()))
}
