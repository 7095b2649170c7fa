//! Times as patterns show them: written, and read again. What a pattern says is `pattern`'s to know.

use super::{local, micros, naive, out_of_range, typed, utc, zone_of};
use crate::intervals::intervals;
use crate::native::{Memo, map_rows, map_text, texts};
use crate::number_patterns;
use crate::pattern::{DEFAULT, Pattern};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::DataType;
use eddyline_common::time::MICROS_PER_SECOND;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

fn formatted(args: &[ArrayRef], parse: fn(&str) -> Result<Pattern, SqlError>) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (micros(&args[0])?, texts(&args[1]));
    let mut pattern = Memo::new();
    map_text(args, |row, out| {
        pattern.get(patterns.value(row), parse)?.format(naive(values.value(row))?, out);
        Ok(true)
    })
}

pub(super) fn date_format(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    formatted(args, Pattern::java_shown)
}

pub(super) fn to_char(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    match args[0].data_type() {
        number if number.is_numeric() => number_patterns::to_char(args),
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
pub(super) fn instant_by(text: &str, pattern: &Pattern, zone: &Tz) -> Result<i64, SqlError> {
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

pub(super) fn time_of_java(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    times_of(args, Pattern::java)
}

pub(super) fn time_of_postgres(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    times_of(args, Pattern::postgres)
}

/// `TO_TIMESTAMP_LTZ(text, pattern, zone)`.
pub(super) fn instant_of(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns, zones) = (texts(&args[0]), texts(&args[1]), texts(&args[2]));
    let (mut pattern, mut zone) = (Memo::new(), Memo::new());
    let instants: TimestampMicrosecondArray = map_rows(args, |row| {
        let pattern = pattern.get(patterns.value(row), Pattern::java)?;
        instant_by(values.value(row), pattern, zone.get(zones.value(row), zone_of)?).map(Some)
    })?;
    Ok(Arc::new(instants.with_data_type(SqlType::TimestampTz.to_arrow())))
}

/// `CONVERT_TZ(text, from, to)`: a time as the clock of one zone shows it, as that of another does.
pub(super) fn convert_tz(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, from, to) = (texts(&args[0]), texts(&args[1]), texts(&args[2]));
    let (pattern, mut own, mut other) = (Pattern::java(DEFAULT)?, Memo::new(), Memo::new());
    map_text(args, |row, out| {
        let at = utc(time_of(values.value(row), &pattern)?, own.get(from.value(row), zone_of)?)?;
        pattern.format(naive(local(at, other.get(to.value(row), zone_of)?)?)?, out);
        Ok(true)
    })
}
