//! Constants that a function can do nothing with: patterns, regular expressions, paths, zones and units that no row could be worked on by. Whoever binds a
//! statement asks. It knows functions by their name in the registry, and nothing of expressions.

use super::pattern::Pattern;
use super::times::{check_unit, zone_of};
use super::{ADD_CLOCK, REGEXP_MATCHES, SIMILAR_TO, hashes, json, texts};
use datafusion::arrow::compute::kernels::cast_utils::IntervalUnit;
use eddyline_common::{SqlError, SqlState, postgres};
use std::str::FromStr;

/// What is wrong with the constants among a call's arguments, as they are written, and with which of them.
pub fn wrong(function: &str, given: &[Option<&str>]) -> Option<(usize, SqlError)> {
    given.iter().enumerate().find_map(|(at, text)| Some((at, check((*text)?, function, at, given).err()?)))
}

fn check(text: &str, function: &str, at: usize, given: &[Option<&str>]) -> Result<(), SqlError> {
    match (function, at) {
        ("date_format" | "from_unixtime", 1) => Pattern::java_shown(text).map(drop),
        ("eddyline_time_of" | "eddyline_instant_of" | "unix_timestamp", 1) => Pattern::java(text).map(drop),
        ("eddyline_time_of_pg", 1) => Pattern::postgres(text).map(drop),
        // One of a number has digits.
        ("to_char", 1) if !text.contains(['0', '9']) => Pattern::postgres(text).map(drop),
        ("timezone", 0) | ("eddyline_instant_of" | "unix_timestamp" | "from_unixtime", 2) | ("convert_tz", 1 | 2) => {
            zone_of(text).map(drop)
        }
        ("timestampdiff" | "timestampadd" | ADD_CLOCK | "eddyline_ceil" | "eddyline_floor", 0) => check_unit(text),
        ("date_part", 0) if !is_part(text) => Err(not_recognized(text)),
        ("date_trunc", 0) if !is_truncated(text) => Err(not_recognized(text)),
        ("split_part", 2) if text == "0" => Err(SqlError::new(SqlState::INVALID_PARAMETER, "field position must not be zero")),
        ("json_value" | "json_query", 1) => json::check_path(text),
        ("jsonb_path_exists" | "jsonb_path_query_first" | "jsonb_path_query_array", 1) => json::check_jsonpath(text),
        ("json_get_path" | "json_get_path_text", 1) => postgres::parse::array(text.trim()).map(drop),
        ("to_timestamp_ltz", 1) if !matches!(text, "0" | "3" | "6") => {
            Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("the precision of to_timestamp_ltz() is 0, 3 or 6, not {text}")))
        }
        ("sha2", 1) => hashes::check_bits(text),
        (SIMILAR_TO, 0) => texts::check_similar(text, given.get(1).copied().flatten()),
        ("str_to_map", 1 | 2) => texts::check_regex(text),
        (
            "regexp"
            | "regexp_extract"
            | "regexp_extract_all"
            | "regexp_substr"
            | "regexp_split_to_array"
            | "regexp_like"
            | "regexp_match"
            | REGEXP_MATCHES
            | "regexp_replace"
            | "regexp_count"
            | "regexp_instr",
            1,
        ) => {
            let flags = given.get(flags_at(function)).copied().flatten();
            // Under the flag `x` blanks and comments are no part of it.
            if flags.is_some_and(|flags| flags.contains('x')) { Ok(()) } else { texts::check_regex(text) }
        }
        _ => Ok(()),
    }
}

/// Whether a name is of a part that `date_part` gives.
fn is_part(name: &str) -> bool {
    const OTHERS: [&str; 7] = ["isoyear", "qtr", "quarter", "doy", "dow", "isodow", "epoch"];
    let name = name.trim_matches(['\'', '"']);
    match IntervalUnit::from_str(name) {
        Ok(unit) => !matches!(unit, IntervalUnit::Century | IntervalUnit::Decade),
        Err(_) => OTHERS.contains(&name.to_lowercase().as_str()),
    }
}

/// Whether a name is of a unit that `date_trunc` takes, which may be in the plural.
fn is_truncated(name: &str) -> bool {
    let lower = name.to_lowercase();
    check_unit(&lower).is_ok() && !lower.starts_with("sql_tsi_") || matches!(lower.as_str(), "millennia" | "centuries")
}

fn not_recognized(unit: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, format!("unit \"{unit}\" not recognized"))
}

/// The argument that has the flags of a regular expression.
fn flags_at(function: &str) -> usize {
    match function {
        "regexp_like" | "regexp_match" | "regexp_split_to_array" | REGEXP_MATCHES => 2,
        "regexp_replace" | "regexp_count" => 3,
        "regexp_instr" => 5,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_that_never_work_are_told_with_their_place() {
        let state = |function: &str, given: &[Option<&str>]| wrong(function, given).map(|(at, error)| (at, error.state.0));
        assert_eq!(state("date_format", &[None, Some("YYYYww")]), Some((1, "22023")));
        assert_eq!(state("date_format", &[None, Some("yyyy-MM-dd")]), None);
        assert_eq!(state("regexp_like", &[Some("("), Some("(?=x)")]), Some((1, "2201B")));
        assert_eq!(state("regexp_like", &[None, Some("a # ("), Some("x")]), None);
        assert_eq!(state("regexp_substr", &[None, Some("(")]), Some((1, "2201B")));
        assert_eq!(state("regexp_instr", &[None, Some("a # ("), None, None, Some("0"), Some("x")]), None);
        assert_eq!(state("json_value", &[Some("$["), Some("$.a[")]), Some((1, "22023")));
        assert_eq!(state("convert_tz", &[None, Some("UTC"), Some("Nowhere")]), Some((2, "22023")));
        assert_eq!(state(SIMILAR_TO, &[Some("(a")]), Some((0, "2201B")));
        assert_eq!(state("to_timestamp_ltz", &[None, Some("4")]), Some((1, "22023")));
        assert_eq!(state("upper", &[Some("(")]), None);
        for unit in ["year", "DOW", "'epoch'", "nanosecond"] {
            assert_eq!(state("date_part", &[Some(unit)]), None, "{unit}");
        }
        for unit in ["week", "Hours", "centuries", "decade", "millennium"] {
            assert_eq!(state("date_trunc", &[Some(unit)]), None, "{unit}");
        }
        assert_eq!((state("date_part", &[Some("century")]), state("date_trunc", &[Some("dow")])), (Some((0, "22023")), Some((0, "22023"))));
    }
}
