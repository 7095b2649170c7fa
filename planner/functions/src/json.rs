//! JSON: PostgreSQL's access operators as functions, and Flink's `JSON_VALUE` and `JSON_QUERY`. Text that is no JSON is
//! an error of the row for the operators, and for Flink's functions what their clause ON ERROR says, or null.
//!
//! - `document`: JSON as jsonb has it; `jsonb`: PostgreSQL's functions over it; `jsonpath`: those that follow a path
//! - `made`: JSON of values; `path`: ways into documents; `flink`: what else Flink asks of them

mod document;
mod flink;
mod jsonb;
mod jsonpath;
pub mod made;
mod path;

use super::native::{Arg, Memo, Native, json, map_text, text, texts};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use eddyline_common::{SqlError, SqlState, SqlType, postgres};
pub use flink::FUNCTIONS as OF_FLINK;
pub use jsonb::FUNCTIONS as OF_JSONB;
pub use jsonpath::{FUNCTIONS as OF_JSONPATH, check as check_jsonpath};
use serde_json::Value;
use std::sync::Arc;

/// Of ON EMPTY and of ON ERROR what it says, and the value that DEFAULT names.
const CLAUSES: &[Arg] = &[Arg::Text; 4];
/// Behind these, what WRAPPER says.
const CLAUSES_AND_WRAPPER: &[Arg] = &[Arg::Text; 5];

/// Of a path as many as anybody writes one by one.
const STEPS: &[Arg] = &[Arg::Text; 16];

pub const FUNCTIONS: &[Native] = &[
    Native::partial("json_value", &[Arg::Text, Arg::Text], CLAUSES, text, json_value),
    Native::partial("json_query", &[Arg::Text, Arg::Text], CLAUSES_AND_WRAPPER, text, json_query),
    Native::partial("json_get", &[Arg::Text, Arg::Any], &[], json, get_json),
    Native::partial("json_get_text", &[Arg::Text, Arg::Any], &[], text, get_text),
    Native::partial("json_get_path", &[Arg::Text, Arg::TextOrList], &[], json, get_path_json),
    Native::partial("json_get_path_text", &[Arg::Text, Arg::TextOrList], &[], text, get_path_text),
    Native::partial("json_extract_path", &[Arg::Text], STEPS, json, |args| along(args, any_json)),
    Native::partial("json_extract_path_text", &[Arg::Text], STEPS, text, |args| along(args, write_text)),
    Native::partial("jsonb_extract_path", &[Arg::Text], STEPS, json, |args| along(args, any_json)),
    Native::partial("jsonb_extract_path_text", &[Arg::Text], STEPS, text, |args| along(args, write_text)),
    Native::total("jsonb_typeof", &[Arg::Text], &[], text, type_of),
    Native::total("json_typeof", &[Arg::Text], &[], text, type_of),
    Native::total("jsonb_array_length", &[Arg::Text], &[], |_| SqlType::Integer, array_length),
    Native::total("json_array_length", &[Arg::Text], &[], |_| SqlType::Integer, array_length),
    Native::total("eddyline_json", &[Arg::Text], &[], json, checked),
    Native::partial("eddyline_try_json", &[Arg::Text], &[], json, if_json),
];

fn parse(text: &str) -> Result<Value, SqlError> {
    serde_json::from_str(text)
        .map_err(|e| SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type json").with_detail(format!("{e}.")))
}

/// A value without quotes; `false` for JSON null.
fn write_text(value: &Value, out: &mut String) -> bool {
    match value {
        Value::Null => return false,
        Value::String(text) => out.push_str(text),
        other => write_json(other, out),
    }
    true
}

/// What `write` makes of a value; a text with a NUL is none.
fn written(value: &Value, out: &mut String, write: fn(&Value, &mut String) -> bool) -> Result<bool, SqlError> {
    let is_there = write(value, out);
    if out.as_bytes().contains(&0) {
        let error = SqlError::new(SqlState("22P05"), "unsupported Unicode escape sequence");
        return Err(error.with_detail("\\u0000 cannot be converted to text."));
    }
    Ok(is_there)
}

fn write_json(value: &Value, out: &mut String) {
    out.push_str(&value.to_string());
}

/// `json -> key` and `json ->> key`: a field by name or an item by number, from the end if negative.
fn get(args: &[ArrayRef], write: fn(&Value, &mut String) -> bool) -> Result<ArrayRef, SqlError> {
    let by_number = args[1].data_type().is_numeric();
    let keys = cast(&args[1], if by_number { &DataType::Int64 } else { &DataType::Utf8 })?;
    let args = [args[0].clone(), keys];
    let values = texts(&args[0]);
    map_text(&args, |row, out| {
        let value = parse(values.value(row))?;
        let found = match by_number {
            true => item(&value, args[1].as_primitive::<Int64Type>().value(row)),
            false => value.as_object().and_then(|o| o.get(texts(&args[1]).value(row))),
        };
        found.map_or(Ok(false), |v| written(v, out, write))
    })
}

fn item(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    let index = if index < 0 { index + items.len() as i64 } else { index };
    items.get(usize::try_from(index).ok()?)
}

fn any_json(value: &Value, out: &mut String) -> bool {
    write_json(value, out);
    true
}

fn wrapped(value: &Value, out: &mut String) -> bool {
    out.push('[');
    write_json(value, out);
    out.push(']');
    true
}

fn get_json(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    get(args, any_json)
}

fn get_text(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    get(args, write_text)
}

/// `json #> '{a,0,b}'` and `#>>`.
fn get_path(args: &[ArrayRef], write: fn(&Value, &mut String) -> bool) -> Result<ArrayRef, SqlError> {
    let (values, paths) = (texts(&args[0]), args[1].as_string_opt::<i32>());
    let mut path = Memo::new();
    map_text(args, |row, out| {
        let given;
        let steps: &[Option<String>] = match paths {
            Some(paths) => path.get(paths.value(row), |text| postgres::parse::array(text.trim()))?,
            None => {
                given = jsonb::texts_of(&args[1], row)?;
                &given
            }
        };
        let value = parse(values.value(row))?;
        let found = steps.iter().try_fold(&value, |value, step| part(value, step.as_deref()?));
        found.map_or(Ok(false), |v| written(v, out, write))
    })
}

/// Where a step of a path in text leads to.
fn part<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    if value.is_array() { item(value, step.parse().ok()?) } else { value.get(step) }
}

/// `json_extract_path(json, step, ...)`.
fn along(args: &[ArrayRef], write: fn(&Value, &mut String) -> bool) -> Result<ArrayRef, SqlError> {
    map_text(args, |row, out| {
        let value = parse(texts(&args[0]).value(row))?;
        let found = args[1..].iter().try_fold(&value, |value, step| part(value, texts(step).value(row)));
        found.map_or(Ok(false), |v| written(v, out, write))
    })
}

fn get_path_json(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    get_path(args, any_json)
}

fn get_path_text(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    get_path(args, write_text)
}

fn type_of(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    map_text(args, |row, out| {
        out.push_str(match parse(values.value(row))? {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        });
        Ok(true)
    })
}

fn array_length(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    let length = |row: usize| match parse(values.value(row))? {
        Value::Array(items) => Ok(items.len() as i64),
        _ => Err(SqlError::new(SqlState::INVALID_PARAMETER, "cannot get array length of a non-array")),
    };
    let lengths = (0..values.len()).map(|row| if values.is_null(row) { Ok(None) } else { length(row).map(Some) });
    let lengths: Int64Array = lengths.collect::<Result<_, SqlError>>()?;
    Ok(cast(&(Arc::new(lengths) as ArrayRef), &DataType::Int32)?)
}

/// Text that is JSON, as it is.
fn checked(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    for value in values.iter().flatten() {
        postgres::parse::json(value)?;
    }
    Ok(args[0].clone())
}

/// Text that is JSON; null for any other.
fn if_json(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    map_text(args, |row, out| {
        out.push_str(values.value(row));
        Ok(postgres::parse::json(values.value(row)).is_ok())
    })
}

/// Whether a text is a path that is understood.
pub fn check_path(text: &str) -> Result<(), SqlError> {
    path::parse(text).map(drop)
}

/// What a function is after.
struct Wanted {
    fits: fn(&Value) -> bool,
    write: fn(&Value, &mut String) -> bool,
    /// What is wrong with a value that does not fit.
    misfit: (SqlState, &'static str),
}

const SCALAR: Wanted = Wanted {
    fits: |value| !value.is_object() && !value.is_array(),
    write: write_text,
    misfit: (SqlState("2203F"), "the JSON path leads to an object or an array, not to a scalar"),
};
const NESTED: Wanted = Wanted {
    fits: |value| value.is_object() || value.is_array(),
    write: any_json,
    misfit: (SqlState("22038"), "the JSON path leads to a scalar, not to an object or an array"),
};
/// Any value, in an array.
const WRAPPED: Wanted = Wanted { fits: |_| true, write: wrapped, ..NESTED };
/// Any value, in an array unless it is one.
const AN_ARRAY: Wanted =
    Wanted { write: |value, out| if value.is_array() { any_json(value, out) } else { wrapped(value, out) }, ..WRAPPED };

/// What a clause ON EMPTY or ON ERROR says, which may be another thing in every row.
struct Otherwise<'a> {
    word: Option<&'a StringArray>,
    value: Option<&'a StringArray>,
}

impl<'a> Otherwise<'a> {
    /// The clause whose arguments begin at `at`.
    fn of(args: &'a [ArrayRef], at: usize) -> Self {
        Otherwise { word: args.get(at).map(texts), value: args.get(at + 1).map(texts) }
    }

    fn give(&self, row: usize, out: &mut String, (state, message): (SqlState, &str)) -> Result<bool, SqlError> {
        let of = |column: Option<&'a StringArray>| column.filter(|c| c.is_valid(row)).map(|c| c.value(row));
        let given = match of(self.word) {
            Some("error") => return Err(SqlError::new(state, message)),
            Some("default") => of(self.value),
            Some("empty array") => Some("[]"),
            Some("empty object") => Some("{}"),
            _ => None,
        };
        out.push_str(given.unwrap_or_default());
        Ok(given.is_some())
    }
}

/// What a path leads to, or what the clauses say where that is nothing. `wanted` is by row.
fn at_path(args: &[ArrayRef], wanted: impl Fn(usize) -> &'static Wanted) -> Result<ArrayRef, SqlError> {
    const EMPTY: (SqlState, &str) = (SqlState("22035"), "no JSON value is found at the path");
    let (values, paths) = (texts(&args[0]), texts(&args[1]));
    let (on_empty, on_error) = (Otherwise::of(args, 2), Otherwise::of(args, 4));
    let mut memo = Memo::new();
    map_text(&args[..2], |row, out| {
        let wanted = wanted(row);
        let path = memo.get(paths.value(row), path::parse)?;
        let Ok(document) = serde_json::from_str::<Value>(values.value(row)) else {
            return on_error.give(row, out, (SqlState::INVALID_TEXT, "invalid input syntax for type json"));
        };
        let found = path.follow(&document);
        match found.as_deref() {
            Some(value) if !value.is_null() && (wanted.fits)(value) => written(value, out, wanted.write).or_else(|error| {
                out.clear();
                on_error.give(row, out, (error.state, error.message.as_str()))
            }),
            Some(Value::Null) => on_empty.give(row, out, EMPTY),
            _ if path.lax => on_empty.give(row, out, EMPTY),
            Some(_) => on_error.give(row, out, wanted.misfit),
            None => on_error.give(row, out, (SqlState("2203A"), "the JSON path leads to nothing")),
        }
    })
}

/// A scalar as text; an object or array is none.
fn json_value(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    at_path(args, |_| &SCALAR)
}

/// An object or array as JSON; a scalar is none unless there is an array around it.
fn json_query(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let wrapper = args.get(2 + CLAUSES.len()).map(texts);
    at_path(args, |row| match wrapper.filter(|wrapper| wrapper.is_valid(row)).map(|wrapper| wrapper.value(row)) {
        Some("unconditional") => &WRAPPED,
        Some("conditional") => &AN_ARRAY,
        _ => &NESTED,
    })
}
