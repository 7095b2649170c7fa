//! Text functions of Flink, and values as PostgreSQL shows them.

use super::native::{Arg, Memo, Native, map_text, text, texts};
use super::times::zone_of;
use bytes::BytesMut;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::*;
use eddyline_common::{SqlError, SqlState, text as shown};
use regex::Regex;

pub const FUNCTIONS: &[Native] = &[
    Native::partial("regexp_extract", &[Arg::Text, Arg::Text], &[Arg::BigInt], text, regexp_extract),
    Native::partial("split_index", &[Arg::Text, Arg::Any, Arg::BigInt], &[], text, split_index),
    Native::total("eddyline_text", &[Arg::Any], &[Arg::Text], text, to_text),
];

/// `REGEXP_EXTRACT(text, regex [, group])`: the match, or null; group 0, the default, is all of it.
fn regexp_extract(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let groups = args.get(2).map(|g| g.as_primitive::<Int64Type>());
    let mut regex = Memo::new();
    map_text(args, |row, out| {
        let regex = regex.get(patterns.value(row), |pattern| Regex::new(pattern).map_err(|e| invalid_regex(&e)))?;
        let group = groups.map_or(0, |g| g.value(row));
        let found = usize::try_from(group).ok().and_then(|group| regex.captures(values.value(row))?.get(group));
        out.push_str(found.map_or("", |m| m.as_str()));
        Ok(found.is_some())
    })
}

fn invalid_regex(error: &regex::Error) -> SqlError {
    let line = error.to_string();
    let reason = line.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
    SqlError::new(SqlState("2201B"), format!("invalid regular expression: {reason}"))
}

/// `SPLIT_INDEX(text, separator, index)` with an index from 0; the separator is a text or a character's code.
fn split_index(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let separators = match args[1].data_type().is_numeric() {
        true => {
            let codes = cast(&args[1], &DataType::Int64)?;
            let code = |c: i64| u32::try_from(c).ok().and_then(char::from_u32).map(String::from);
            let texts: datafusion::arrow::array::StringArray =
                codes.as_primitive::<Int64Type>().iter().map(|c| c.and_then(code)).collect();
            std::sync::Arc::new(texts) as ArrayRef
        }
        false => cast(&args[1], &DataType::Utf8)?,
    };
    let args = [args[0].clone(), separators, args[2].clone()];
    let (values, separators, indices) = (texts(&args[0]), texts(&args[1]), args[2].as_primitive::<Int64Type>());
    map_text(&args, |row, out| {
        let (value, separator) = (values.value(row), separators.value(row));
        let index = usize::try_from(indices.value(row)).ok();
        let found = match index {
            Some(index) if !value.is_empty() && !separator.is_empty() => value.split(separator).nth(index),
            _ => None,
        };
        out.push_str(found.unwrap_or_default());
        Ok(found.is_some())
    })
}

/// A value as PostgreSQL shows it, a timestamptz in the zone that is the second argument, a constant.
fn to_text(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = normal(&args[0])?;
    let zones = args.get(1).map(texts);
    let mut zone = Memo::new();
    let mut bytes = BytesMut::new();
    let args = [values.clone()];
    map_text(&args, |row, out| {
        bytes.clear();
        match values.data_type() {
            DataType::Float32 => shown::float4(values.as_primitive::<Float32Type>().value(row), &mut bytes),
            DataType::Float64 => shown::float8(values.as_primitive::<Float64Type>().value(row), &mut bytes),
            DataType::Binary => shown::hex(values.as_binary::<i32>().value(row), &mut bytes),
            DataType::Date32 => shown::date(values.as_primitive::<Date32Type>().value(row), &mut bytes),
            DataType::Time64(_) => shown::time(values.as_primitive::<Time64MicrosecondType>().value(row), &mut bytes),
            DataType::Interval(_) => shown::interval(values.as_primitive::<IntervalMonthDayNanoType>().value(row), &mut bytes),
            DataType::Timestamp(_, None) => shown::timestamp(values.as_primitive::<TimestampMicrosecondType>().value(row), &mut bytes),
            DataType::Timestamp(_, Some(_)) => {
                let zone = zone.get(zones.map_or("UTC", |z| z.value(row)), zone_of)?;
                shown::timestamptz(values.as_primitive::<TimestampMicrosecondType>().value(row), zone, &mut bytes);
            }
            _ => bytes.extend_from_slice(texts(&values).value(row).as_bytes()),
        }
        out.push_str(&String::from_utf8_lossy(&bytes));
        Ok(true)
    })
}

/// The values in the one width and unit that their SQL type has; what Arrow shows as PostgreSQL does, as text.
fn normal(values: &ArrayRef) -> Result<ArrayRef, SqlError> {
    let ty = eddyline_common::SqlType::from_arrow(values.data_type()).map(|ty| ty.to_arrow());
    let ty = match ty {
        Some(ty @ (DataType::Float32 | DataType::Float64 | DataType::Binary | DataType::Date32 | DataType::Time64(_))) => ty,
        Some(ty @ (DataType::Interval(_) | DataType::Timestamp(_, _))) => ty,
        _ => DataType::Utf8,
    };
    Ok(cast(values, &ty)?)
}
