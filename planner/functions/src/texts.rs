//! Text functions of Flink, and PostgreSQL's where DataFusion's differ; those over regular expressions are in `regexes`.

use super::bounded::check_regexp_replace;
use super::native::{Arg, Native, map_lists, map_rows, map_text, text, text_array, texts};
use super::{LIKE_ESCAPE, SIMILAR_TO, VALUES};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray, new_null_array};
use datafusion::arrow::compute::{cast, interleave};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::fmt::Write;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::total("chr", &[Arg::BigInt], &[], text, chr),
    Native::total("length", &[Arg::TextOrBytes], &[], |_| SqlType::Integer, length),
    Native::total("octet_length", &[Arg::TextOrBytes], &[], |_| SqlType::Integer, octet_length),
    Native::total(SIMILAR_TO, &[Arg::Text], &[Arg::Text], text, similar_to),
    Native::total(LIKE_ESCAPE, &[Arg::Text, Arg::Text], &[], text, like_escape),
    Native::partial("split_index", &[Arg::Text, Arg::Any, Arg::BigInt], &[], text, split_index),
    Native::total("split", &[Arg::Text, Arg::Text], &[], text_array, split),
    Native::total("locate", &[Arg::Text, Arg::Text], &[Arg::BigInt], |_| SqlType::Integer, locate),
    Native::partial("elt", &[Arg::BigInt, Arg::TextOrBytes], &[Arg::TextOrBytes; 62], type_of_items, elt),
    Native::partial("is_alpha", &[Arg::Any], &[], |_| SqlType::Boolean, is_alpha),
    Native::partial("is_digit", &[Arg::Any], &[], |_| SqlType::Boolean, is_digit),
    Native::partial("is_decimal", &[Arg::Any], &[], |_| SqlType::Boolean, is_decimal),
    Native::total(VALUES, &[Arg::Text], &[Arg::Text; 63], text, values),
];

/// Whether a text is a regular expression.
pub fn check_regex(text: &str) -> Result<(), SqlError> {
    super::regexes::compiled(text).map(drop)
}

/// Whether a text is a pattern of `SIMILAR TO` under an escape.
pub fn check_similar(pattern: &str, escape: Option<&str>) -> Result<(), SqlError> {
    let mut regex = String::new();
    write_regex(pattern, escape_character(escape.unwrap_or("\\"))?, &mut regex);
    check_regex(&regex)
}

/// The character of a code. Texts hold no NUL.
fn chr(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    const TOO_LARGE: SqlState = SqlState("54000");
    let codes = args[0].as_primitive::<Int64Type>();
    map_text(args, |row, out| {
        let code = codes.value(row);
        let error = |state, message: String| Err(SqlError::new(state, message));
        match u32::try_from(code) {
            Ok(0) => error(TOO_LARGE, "null character not permitted".to_string()),
            Ok(code @ 0xD800..=0xDFFF) => error(TOO_LARGE, format!("requested character not valid for encoding: {code}")),
            _ if code < 0 => error(SqlState::INVALID_PARAMETER, "character number must be positive".to_string()),
            code => match code.ok().and_then(char::from_u32) {
                Some(character) => {
                    out.push(character);
                    Ok(true)
                }
                None => error(TOO_LARGE, format!("requested character too large for encoding: {}", codes.value(row))),
            },
        }
    })
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
    check_regexp_replace(&args)?;
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

/// Flink's `SPLIT(text, separator)`: an empty text has no parts, an empty separator parts the letters.
fn split(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (values, separators) = (texts(&args[0]), texts(&args[1]));
    map_lists(args, |row, items| {
        let (value, separator) = (values.value(row), separators.value(row));
        match separator {
            _ if value.is_empty() => {}
            "" => value.chars().for_each(|c| items.append_value(c.encode_utf8(&mut [0; 4]))),
            _ => value.split(separator).for_each(|part| items.append_value(part)),
        }
        Ok(true)
    })
}

/// `LOCATE(part, text [, from])`: where a part begins, counted in letters from 1; 0 if it is not there.
fn locate(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (parts, values) = (texts(&args[0]), texts(&args[1]));
    let from = args.get(2).map(|from| from.as_primitive::<Int64Type>());
    let places: Int32Array = map_rows(args, |row| {
        let (value, skipped) = (values.value(row), from.map_or(0, |from| from.value(row).saturating_sub(1).max(0)));
        let start = value.char_indices().map(|(at, _)| at).chain([value.len()]).nth(usize::try_from(skipped).unwrap_or(usize::MAX));
        let found = start.and_then(|start| Some(start + value[start..].find(parts.value(row))?));
        Ok(Some(found.map_or(0, |at| value[..at].chars().count() as i32 + 1)))
    })?;
    Ok(Arc::new(places))
}

/// Bytes if any of the items behind the first argument are.
fn type_of_items(types: &[DataType]) -> SqlType {
    if types.iter().skip(1).any(DataType::is_binary) { SqlType::Bytes } else { SqlType::Text }
}

/// `ELT(n, item, ...)`: the nth item, or null.
fn elt(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let types: Vec<DataType> = args.iter().map(|a| a.data_type().clone()).collect();
    let ty = type_of_items(&types).to_arrow();
    let items = args[1..].iter().map(|item| cast(item, &ty)).collect::<Result<Vec<_>, _>>()?;
    let nothing = new_null_array(&ty, 1);
    let indices = args[0].as_primitive::<Int64Type>();
    let one = |row: usize| {
        let index = indices.is_valid(row).then(|| indices.value(row)).and_then(|index| usize::try_from(index).ok());
        index.filter(|index| (1..=items.len()).contains(index)).map_or((0, 0), |index| (index, row))
    };
    let chosen: Vec<(usize, usize)> = (0..indices.len()).map(one).collect();
    let columns: Vec<&dyn Array> = std::iter::once(nothing.as_ref()).chain(items.iter().map(|item| item.as_ref())).collect();
    Ok(interleave(&columns, &chosen)?)
}

/// Whether a value is a text that passes a test; a number is what `numbers` says, and nothing else passes, null neither.
fn is_text(args: &[ArrayRef], numbers: bool, test: fn(&str) -> bool) -> Result<ArrayRef, SqlError> {
    let rows = args[0].len();
    let passed: BooleanArray = match args[0].data_type() {
        ty if ty.is_string() => {
            let values = cast(&args[0], &DataType::Utf8)?;
            texts(&values).iter().map(|text| Some(text.is_some_and(test))).collect()
        }
        ty if ty.is_numeric() && numbers => (0..rows).map(|row| Some(args[0].is_valid(row))).collect(),
        _ => std::iter::repeat_n(Some(false), rows).collect(),
    };
    Ok(Arc::new(passed))
}

fn is_alpha(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    is_text(args, false, |text| !text.is_empty() && text.chars().all(char::is_alphabetic))
}

fn is_digit(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let whole = args[0].data_type().is_integer();
    is_text(args, whole, |text| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()))
}

fn is_decimal(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    is_text(args, true, |text| {
        let text = text.trim();
        text.chars().all(|c| !c.is_alphabetic() || matches!(c, 'e' | 'E')) && text.parse::<f64>().is_ok()
    })
}

/// Several values as one, null if one of them is: no two lists of values give the same.
fn values(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    map_text(args, |row, out| {
        for text in args.iter().map(|column| texts(column).value(row)) {
            write!(out, "{}:{text}", text.len()).expect("a string grows");
        }
        Ok(true)
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
