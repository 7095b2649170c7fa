//! Regular expressions: Flink's functions of them that DataFusion has not, and PostgreSQL's. It does not know what Java or PostgreSQL have beyond the `regex`
//! crate (look-around, back references), which are errors.

use super::REGEXP_MATCHES;
use super::native::{Arg, Memo, Native, map_lists, map_rows, map_text, text, text_array, texts};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use eddyline_common::{SqlError, SqlState, SqlType};
use regex::Regex;
use std::borrow::Cow;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::total("regexp", &[Arg::Text, Arg::Text], &[], |_| SqlType::Boolean, regexp),
    Native::partial("regexp_extract", &[Arg::Text, Arg::Text], &[Arg::BigInt], text, extract),
    Native::partial("regexp_extract_all", &[Arg::Text, Arg::Text], &[Arg::BigInt], text_array, extract_all),
    Native::partial("regexp_substr", &[Arg::Text, Arg::Text], &[Arg::BigInt, Arg::BigInt, Arg::Text, Arg::BigInt], text, substr),
    Native::total("regexp_count", &[Arg::Text, Arg::Text], &[Arg::BigInt, Arg::Text], |_| SqlType::Integer, count),
    Native::total("regexp_instr", &[Arg::Text, Arg::Text], &INSTR_OPTIONS, |_| SqlType::Integer, instr),
    Native::total(REGEXP_MATCHES, &[Arg::Text, Arg::Text], &[Arg::Text], text_arrays, matches),
    Native::total("regexp_split_to_array", &[Arg::Text, Arg::Text], &[Arg::Text], text_array, split_to_array),
];

fn text_arrays(_: &[DataType]) -> SqlType {
    SqlType::Array(Box::new(SqlType::Array(Box::new(SqlType::Text))))
}

/// Where to start, which match, whether its end is asked for, flags, which group.
const INSTR_OPTIONS: [Arg; 5] = [Arg::BigInt, Arg::BigInt, Arg::BigInt, Arg::Text, Arg::BigInt];

pub fn compiled(pattern: &str) -> Result<Regex, SqlError> {
    Regex::new(pattern).map_err(|e| invalid_regex(&e))
}

fn invalid_regex(error: &regex::Error) -> SqlError {
    super::words::invalid_regex(&error.to_string())
        .unwrap_or_else(|| SqlError::new(SqlState("2201B"), format!("invalid regular expression: {error}")))
}

/// A pattern with PostgreSQL's flags in front.
pub(super) fn with_flags<'p>(pattern: &'p str, flags: &str) -> Result<Cow<'p, str>, SqlError> {
    let mut set = String::new();
    for flag in flags.chars() {
        match flag {
            'i' | 'x' | 's' => set.push(flag),
            'm' | 'n' => set.push('m'),
            'c' => set.retain(|flag| flag != 'i'),
            _ => return Err(invalid(format!("invalid regular expression option: \"{flag}\""))),
        }
    }
    Ok(if set.is_empty() { Cow::Borrowed(pattern) } else { Cow::Owned(format!("(?{set}){pattern}")) })
}

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, message)
}

/// Flink's `REGEXP(text, regex)`: whether it matches anywhere. An empty one never does.
fn regexp(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let mut regex = Memo::new();
    let found: BooleanArray = map_rows(args, |row| {
        let pattern = patterns.value(row);
        Ok(Some(!pattern.is_empty() && regex.get(pattern, compiled)?.is_match(values.value(row))))
    })?;
    Ok(Arc::new(found))
}

/// `REGEXP_EXTRACT(text, regex [, group])`: the match, or null; group 0, the default, is all of it.
fn extract(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let groups = args.get(2).map(|g| g.as_primitive::<Int64Type>());
    let mut regex = Memo::new();
    map_text(args, |row, out| {
        let regex: &Regex = regex.get(patterns.value(row), compiled)?;
        let group = groups.map_or(0, |g| g.value(row));
        let found = usize::try_from(group).ok().and_then(|group| regex.captures(values.value(row))?.get(group));
        out.push_str(found.map_or("", |m| m.as_str()));
        Ok(found.is_some())
    })
}

/// `REGEXP_EXTRACT_ALL(text, regex [, group])`: a group of every match, the first if none is named; null if there is no such group.
fn extract_all(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let groups = args.get(2).map(|g| g.as_primitive::<Int64Type>());
    let mut regex = Memo::new();
    map_lists(args, |row, items| {
        let regex: &Regex = regex.get(patterns.value(row), compiled)?;
        let group = usize::try_from(groups.map_or(1, |g| g.value(row))).ok().filter(|group| *group < regex.captures_len());
        let Some(group) = group else { return Ok(false) };
        for found in regex.captures_iter(values.value(row)) {
            items.append_option(found.get(group).map(|m| m.as_str()));
        }
        Ok(true)
    })
}

/// `regexp_substr(text, regex [, start [, n [, flags [, group]]]])`: the nth match from a character on, or a group of it.
fn substr(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let flags = args.get(4).map(texts);
    let mut regex = Memo::new();
    map_text(args, |row, out| {
        let number = |at, name, least| number(args, at, row, name, least);
        let (start, nth, group) = (number(2, "start", 1)?, number(3, "n", 1)?, number(5, "subexpr", 0)?);
        let pattern = with_flags(patterns.value(row), flags.map_or("", |f| f.value(row)))?;
        let regex: &Regex = regex.get(&pattern, compiled)?;
        let value = values.value(row);
        let rest = from_letter(value, start);
        let found = rest.and_then(|rest| regex.captures_iter(rest).nth(nth - 1)).and_then(|found| found.get(group));
        out.push_str(found.map_or("", |m| m.as_str()));
        Ok(found.is_some())
    })
}

/// `regexp_count(text, regex [, start [, flags]])`.
fn count(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let flags = args.get(3).map(texts);
    let mut regex = Memo::new();
    let counts: Int32Array = map_rows(args, |row| {
        let pattern = with_flags(patterns.value(row), flags.map_or("", |f| f.value(row)))?;
        let regex: &Regex = regex.get(&pattern, compiled)?;
        let rest = from_letter(values.value(row), number(args, 2, row, "start", 1)?);
        Ok(Some(rest.map_or(0, |rest| regex.find_iter(rest).count() as i32)))
    })?;
    Ok(Arc::new(counts))
}

/// `regexp_instr(text, regex [, start [, n [, end [, flags [, group]]]]])`: where the nth match begins, or what follows it, counted in letters from 1; 0 if there
/// is none.
fn instr(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let flags = args.get(5).map(texts);
    let mut regex = Memo::new();
    let places: Int32Array = map_rows(args, |row| {
        let number = |at, name, least| number(args, at, row, name, least);
        let (start, nth, end, group) = (number(2, "start", 1)?, number(3, "n", 1)?, number(4, "endoption", 0)?, number(6, "subexpr", 0)?);
        if end > 1 {
            return Err(invalid(format!("invalid value for parameter \"endoption\": {end}")));
        }
        let pattern = with_flags(patterns.value(row), flags.map_or("", |f| f.value(row)))?;
        let regex: &Regex = regex.get(&pattern, compiled)?;
        let rest = from_letter(values.value(row), start);
        let place = rest.and_then(|rest| {
            let found = regex.captures_iter(rest).nth(nth - 1)?.get(group)?;
            let letters = rest[..if end == 1 { found.end() } else { found.start() }].chars().count();
            Some((start + letters) as i32)
        });
        Ok(Some(place.unwrap_or(0)))
    })?;
    Ok(Arc::new(places))
}

/// An option that is a number, or the least that it may be.
fn number(args: &[ArrayRef], at: usize, row: usize, name: &str, least: i64) -> Result<usize, SqlError> {
    match args.get(at).map_or(least, |a| a.as_primitive::<Int64Type>().value(row)) {
        given if given < least => Err(invalid(format!("invalid value for parameter \"{name}\": {given}"))),
        given => Ok(usize::try_from(given).unwrap_or(usize::MAX)),
    }
}

/// What of a text begins at its nth letter; nothing if it ends before.
fn from_letter(text: &str, nth: usize) -> Option<&str> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(nth - 1).map(|from| &text[from..])
}

/// What `regexp_matches(text, regex [, flags])` is a set of: of the first match, or under the flag `g` of each, its groups, or all of it if there are none.
fn matches(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let flags = args.get(2).map(texts);
    let mut regex = Memo::new();
    let mut lists = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for row in 0..values.len() {
        if args.iter().any(|a| a.is_null(row)) {
            lists.append(false);
            continue;
        }
        let flags = flags.map_or("", |f| f.value(row));
        let count = if flags.contains('g') { usize::MAX } else { 1 };
        let pattern = with_flags(patterns.value(row), &flags.replace('g', ""))?;
        let regex: &Regex = regex.get(&pattern, compiled)?;
        for found in regex.captures_iter(values.value(row)).take(count) {
            let groups = lists.values();
            let first = usize::from(found.len() > 1);
            (first..found.len()).for_each(|group| groups.values().append_option(found.get(group).map(|m| m.as_str())));
            groups.append(true);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

/// `regexp_split_to_array(text, regex [, flags])`.
fn split_to_array(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, patterns) = (texts(&args[0]), texts(&args[1]));
    let flags = args.get(2).map(texts);
    let mut regex = Memo::new();
    map_lists(args, |row, items| {
        let pattern = with_flags(patterns.value(row), flags.map_or("", |f| f.value(row)))?;
        pieces(regex.get(&pattern, compiled)?, values.value(row)).into_iter().for_each(|piece| items.append_value(piece));
        Ok(true)
    })
}

/// What lies between matches. An empty match at either end of the text, or right behind another match, is none, as in PostgreSQL.
fn pieces<'t>(regex: &Regex, text: &'t str) -> Vec<&'t str> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    for found in regex.find_iter(text) {
        if !found.is_empty() || (found.start() > from && found.end() < text.len()) {
            pieces.push(&text[from..found.start()]);
            from = found.end();
        }
    }
    pieces.push(&text[from..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_as_in_postgres() {
        for (regex, text, expected) in [
            ("", "abc", vec!["a", "b", "c"]),
            (r"\s*", "the fox", vec!["t", "h", "e", "f", "o", "x"]),
            (",", ",a,,b,", vec!["", "a", "", "b", ""]),
            (",", "", vec![""]),
            ("x", "abc", vec!["abc"]),
        ] {
            assert_eq!(pieces(&Regex::new(regex).unwrap(), text), expected, "{regex} in {text}");
        }
    }
}
