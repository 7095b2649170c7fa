//! Text functions of Flink, and PostgreSQL's where DataFusion's differ.

use super::native::{Arg, Memo, Native, map_text, text, texts};
use super::{LIKE_ESCAPE, SIMILAR_TO};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::{SqlError, SqlState, SqlType};
use regex::Regex;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::partial("regexp_extract", &[Arg::Text, Arg::Text], &[Arg::BigInt], text, regexp_extract),
    Native::total("length", &[Arg::TextOrBytes], &[], |_| SqlType::Integer, length),
    Native::total("octet_length", &[Arg::TextOrBytes], &[], |_| SqlType::Integer, octet_length),
    Native::total(SIMILAR_TO, &[Arg::Text], &[Arg::Text], text, similar_to),
    Native::total(LIKE_ESCAPE, &[Arg::Text, Arg::Text], &[], text, like_escape),
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
    super::words::invalid_regex(&error.to_string())
        .unwrap_or_else(|| SqlError::new(SqlState("2201B"), format!("invalid regular expression: {error}")))
}

/// Letters of a text, bytes of a bytea.
fn length(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    match args[0].as_string_opt::<i32>() {
        Some(texts) => Ok(Arc::new(texts.iter().map(|text| text.map(|text| text.chars().count() as i32)).collect::<Int32Array>())),
        None => octet_length(args),
    }
}

fn octet_length(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let bytes = cast(&args[0], &DataType::Binary)?;
    let lengths: Int32Array = bytes.as_binary::<i32>().iter().map(|bytes| bytes.map(|bytes| bytes.len() as i32)).collect();
    Ok(Arc::new(lengths))
}

/// The regular expression that stands for a pattern of `SIMILAR TO`, by its escape: a backslash if none is given, none if empty.
fn similar_to(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (patterns, escapes) = (texts(&args[0]), args.get(1).map(texts));
    map_text(args, |row, out| {
        write_regex(patterns.value(row), escape_character(escapes.map_or("\\", |e| e.value(row)))?, out);
        Ok(true)
    })
}

/// What follows ESCAPE: the empty text is that there is none.
fn escape_character(text: &str) -> Result<Option<char>, SqlError> {
    let mut characters = text.chars();
    let character = characters.next();
    match characters.next() {
        None => Ok(character),
        Some(_) => {
            let error = SqlError::new(SqlState("22025"), "invalid escape string");
            Err(error.with_hint("Escape string must be empty or one character."))
        }
    }
}

/// `LIKE_ESCAPE(pattern, escape)`: the pattern whose escape is a backslash, the only one that LIKE itself knows.
fn like_escape(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (patterns, escapes) = (texts(&args[0]), texts(&args[1]));
    map_text(args, |row, out| {
        write_backslashes(patterns.value(row), escape_character(escapes.value(row))?, out);
        Ok(true)
    })
}

/// A backslash that is no escape becomes one that is escaped.
fn write_backslashes(pattern: &str, escape: Option<char>, out: &mut String) {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            _ if Some(c) == escape => {
                out.push('\\');
                out.extend(chars.next());
            }
            '\\' => out.push_str("\\\\"),
            _ => out.push(c),
        }
    }
}

/// All of a text has to match, over the ends of lines.
fn write_regex(pattern: &str, escape: Option<char>, out: &mut String) {
    out.push_str("^(?s:");
    let (mut chars, mut in_class) = (pattern.chars().peekable(), false);
    while let Some(c) = chars.next() {
        match c {
            _ if Some(c) == escape => match chars.next() {
                // Classes such as `\d` can be written so.
                Some(c) if c.is_ascii_alphanumeric() => out.extend(['\\', c]),
                Some(c) => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                None => {}
            },
            ']' if in_class => {
                in_class = false;
                out.push(c);
            }
            '[' if in_class && chars.peek() == Some(&':') => {
                // A class of POSIX's, up to its own bracket.
                out.push(c);
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '\\' | '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            _ if in_class => out.push(c),
            '[' => {
                in_class = true;
                out.push(c);
            }
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '\\' | '.' | '^' | '$' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out.push_str(")$");
}

/// `regexp_replace`: `\&` in what comes instead is all that matched, which is group 0.
pub fn regexp_replace(of: &ScalarUDF, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let replaced = match &args.args[2] {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))) => Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(with_group(text))))),
        ColumnarValue::Array(column) if *column.data_type() == DataType::Utf8 => {
            let texts: StringArray = texts(column).iter().map(|text| text.map(with_group)).collect();
            Some(ColumnarValue::Array(Arc::new(texts)))
        }
        _ => None,
    };
    if let Some(replaced) = replaced {
        args.args[2] = replaced;
    }
    of.invoke_with_args(args)
}

fn with_group(text: &str) -> String {
    text.replace("\\&", "\\0")
}

/// `concat`: a boolean stays one until then.
pub fn concat_types(of: &ScalarUDF, given: &[DataType]) -> DfResult<Vec<DataType>> {
    let mut types = of.coerce_types(given)?;
    for (ty, given) in types.iter_mut().zip(given) {
        if *given == DataType::Boolean && ty.is_string() {
            *ty = DataType::Boolean;
        }
    }
    Ok(types)
}

/// A boolean is `t` or `f` in it.
pub fn concat(of: &ScalarUDF, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let letter = |truth: bool| if truth { "t" } else { "f" };
    for arg in &mut args.args {
        let spelled = match arg {
            ColumnarValue::Scalar(ScalarValue::Boolean(truth)) => {
                ColumnarValue::Scalar(ScalarValue::Utf8(truth.map(|t| letter(t).to_string())))
            }
            ColumnarValue::Array(column) if *column.data_type() == DataType::Boolean => {
                let texts: StringArray = column.as_boolean().iter().map(|truth| truth.map(letter)).collect();
                ColumnarValue::Array(Arc::new(texts))
            }
            _ => continue,
        };
        *arg = spelled;
    }
    of.invoke_with_args(args)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_similar_to_become_regular_expressions() {
        for (pattern, escape, regex) in [
            ("a%_", Some('\\'), "^(?s:a.*.)$"),
            ("(a|b)+", Some('\\'), "^(?s:(?:a|b)+)$"),
            ("1.5$", Some('\\'), r"^(?s:1\.5\$)$"),
            (r"a\%b", Some('\\'), "^(?s:a%b)$"),
            ("a#%b", Some('#'), "^(?s:a%b)$"),
            (r"a\b", None, r"^(?s:a\\b)$"),
            ("[a-c%_]x", Some('\\'), "^(?s:[a-c%_]x)$"),
            ("[[:alpha:]]{2}", Some('\\'), "^(?s:[[:alpha:]]{2})$"),
        ] {
            let mut out = String::new();
            write_regex(pattern, escape, &mut out);
            assert_eq!(out, regex, "{pattern}");
        }
    }

    #[test]
    fn patterns_of_like_get_backslashes_for_their_escape() {
        for (pattern, escape, expected) in [
            ("a/%b%", "/", r"a\%b%"),
            ("a//b", "/", r"a\/b"),
            (r"a\b", "/", r"a\\b"),
            (r"a/\b", "/", r"a\\b"),
            ("a%%b", "%", r"a\%b"),
            ("aé_", "é", r"a\_"),
            (r"a\%b", "\\", r"a\%b"),
            (r"a\%b", "", r"a\\%b"),
            ("a/", "/", "a\\"),
        ] {
            let mut out = String::new();
            write_backslashes(pattern, escape_character(escape).unwrap(), &mut out);
            assert_eq!(out, expected, "{pattern} ESCAPE {escape}");
        }
        assert_eq!(escape_character("//").unwrap_err().state.0, "22025");
    }

    #[test]
    fn a_pattern_or_an_escape_that_is_null_gives_null() {
        let column = |texts: [Option<&str>; 3]| Arc::new(StringArray::from_iter(texts)) as ArrayRef;
        let patterns = column([Some("a/%"), None, Some("a")]);
        let escaped = like_escape(&[patterns, column([Some("/"), Some("/"), None])]).unwrap();
        assert_eq!(texts(&escaped).iter().collect::<Vec<_>>(), [Some(r"a\%"), None, None]);
    }
}
