//! Functions of dates and times, and what they all stand on: wall-clock times and instants as microseconds, zones.
//!
//! - `zones`: from the one kind of time to the other
//! - `shown`: by patterns; `epoch`: as numbers since 1970; `made`: of numbers
//! - `units`: calendar units; `parts`: what is asked of one time; `between`: of two

mod between;
mod epoch;
mod made;
mod parts;
mod shown;
mod units;
mod zones;

pub use made::make_date;
pub(super) use units::add_months;
pub use units::{check_unit, date_bin, date_trunc, is_of_clock};

use super::native::{Arg, Native, text};
use super::{ADD_CLOCK, PART, YEARS};
use between::{age, overlaps};
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use eddyline_common::postgres::parse;
use eddyline_common::{SqlError, SqlState, SqlType};
use epoch::{from_unixtime, seconds, to_timestamp, to_timestamp_ltz, unix_timestamp};
use made::{make_interval, make_time, make_timestamp};
use parts::{isfinite, part, years};
use shown::{convert_tz, date_format, instant_of, time_of_java, time_of_postgres, to_char};
use std::str::FromStr;
use std::sync::Arc;
use units::{ceil_to, floor_to, timestampadd, timestampdiff};
use zones::{instant, timezone, try_instant};

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

/// PostgreSQL's of seconds, an instant; Flink's of text, a time without a zone.
fn time_or_instant(types: &[DataType]) -> SqlType {
    if types.first().is_some_and(DataType::is_numeric) { SqlType::TimestampTz } else { SqlType::Timestamp }
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

/// The instant of a wall-clock time.
pub(super) fn utc(micros: i64, zone: &Tz) -> Result<i64, SqlError> {
    parse::instant(micros, zone).ok_or_else(out_of_range)
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
