//! Text functions of Flink.

use super::native::{Arg, Memo, Native, map_text, text, texts};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use eddyline_common::{SqlError, SqlState};
use regex::Regex;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::partial("regexp_extract", &[Arg::Text, Arg::Text], &[Arg::BigInt], text, regexp_extract),
    Native::partial("split_index", &[Arg::Text, Arg::Any, Arg::BigInt], &[], text, split_index),
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
            let texts: StringArray = codes.as_primitive::<Int64Type>().iter().map(|c| c.and_then(code)).collect();
            Arc::new(texts) as ArrayRef
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
