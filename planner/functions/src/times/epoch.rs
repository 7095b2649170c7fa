//! Times as numbers since 1970: of seconds, of milliseconds or of microseconds.

use super::shown::instant_by;
use super::{local, micros, naive, out_of_range, typed, utc, zone_of};
use crate::casts::strictly;
use crate::native::{Memo, map_rows, map_text, texts};
use crate::pattern::Pattern;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use eddyline_common::time::MICROS_PER_SECOND;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

pub(super) fn to_timestamp(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    if !args[0].data_type().is_numeric() {
        return strictly(&args[0], &SqlType::Timestamp.to_arrow());
    }
    let seconds: ArrayRef = Arc::new(Int64Array::from_value(0, args[0].len()));
    to_timestamp_ltz(&[args[0].clone(), seconds])
}

/// `TO_TIMESTAMP_LTZ(number [, digits])`: seconds (0 digits), milliseconds (3, as without) or microseconds (6). Of a text: its time in UTC, if it names no
/// other zone.
pub(super) fn to_timestamp_ltz(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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
pub(super) fn seconds(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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
pub(super) fn unix_timestamp(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
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
pub(super) fn from_unixtime(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns, zones) = (args[0].as_primitive::<Int64Type>(), texts(&args[1]), texts(&args[2]));
    let (mut pattern, mut zone) = (Memo::new(), Memo::new());
    map_text(args, |row, out| {
        let at = values.value(row).checked_mul(1_000_000).ok_or_else(out_of_range)?;
        let at = local(at, zone.get(zones.value(row), zone_of)?)?;
        pattern.get(patterns.value(row), Pattern::java_shown)?.format(naive(at)?, out);
        Ok(true)
    })
}
