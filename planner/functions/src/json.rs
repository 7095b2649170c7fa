//! JSON: PostgreSQL's access operators as functions, and Flink's `JSON_VALUE` and `JSON_QUERY`. Text that is no JSON is
//! an error of the row for the operators, and for Flink's functions what their clause ON ERROR says, or null.

use super::native::{Arg, Memo, Native, json, map_text, text, texts};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use eddyline_common::{SqlError, SqlState, SqlType, postgres};
use serde_json::Value;
use std::sync::Arc;

/// Of ON EMPTY and of ON ERROR what it says, and the value that DEFAULT names.
const CLAUSES: &[Arg] = &[Arg::Text; 4];
/// Behind these, what WRAPPER says.
const CLAUSES_AND_WRAPPER: &[Arg] = &[Arg::Text; 5];

pub const FUNCTIONS: &[Native] = &[
    Native::partial("json_value", &[Arg::Text, Arg::Text], CLAUSES, text, json_value),
    Native::partial("json_query", &[Arg::Text, Arg::Text], CLAUSES_AND_WRAPPER, text, json_query),
    Native::partial("json_get", &[Arg::Text, Arg::Any], &[], json, get_json),
    Native::partial("json_get_text", &[Arg::Text, Arg::Any], &[], text, get_text),
    Native::partial("json_get_path", &[Arg::Text, Arg::Text], &[], json, get_path_json),
    Native::partial("json_get_path_text", &[Arg::Text, Arg::Text], &[], text, get_path_text),
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
        Ok(found.is_some_and(|v| write(v, out)))
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
    let (values, paths) = (texts(&args[0]), texts(&args[1]));
    let mut path = Memo::new();
    map_text(args, |row, out| {
        let steps = path.get(paths.value(row), |text| postgres::parse::array(text.trim()))?;
        let value = parse(values.value(row))?;
        let found = steps.iter().try_fold(&value, |value, step| match (value, step.as_deref()?) {
            (Value::Array(_), step) => item(value, step.parse().ok()?),
            (other, step) => other.get(step),
        });
        Ok(found.is_some_and(|v| write(v, out)))
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

/// One step of a JSON path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(i64),
}

/// A way into a document. What a lax path does not find is empty; for a strict one, as is any that does not say, it is an error.
#[derive(Debug, PartialEq, Eq)]
struct Path {
    lax: bool,
    steps: Vec<Step>,
}

/// `$.a['b'][0]`, with `lax` or `strict` in front or not.
fn path(path: &str) -> Result<Path, SqlError> {
    let bad = || {
        SqlError::new(SqlState::INVALID_PARAMETER, format!("the JSON path \"{path}\" is not supported"))
            .with_hint("A path is made of $, .field, ['field'] and [index].")
    };
    let text = path.trim();
    let lax = text.starts_with("lax ");
    let text = text.strip_prefix("lax ").or_else(|| text.strip_prefix("strict ")).unwrap_or(text).trim_start();
    let mut rest = text.strip_prefix('$').ok_or_else(bad)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let name = after[..end].trim_matches('"');
            if name.is_empty() || name == "*" {
                return Err(bad());
            }
            steps.push(Step::Field(name.to_string()));
            rest = &after[end..];
        } else {
            let (inner, after) = rest.strip_prefix('[').and_then(|r| r.split_once(']')).ok_or_else(bad)?;
            let inner = inner.trim();
            let quoted = |q: char| inner.strip_prefix(q).and_then(|t| t.strip_suffix(q));
            steps.push(match quoted('\'').or_else(|| quoted('"')) {
                Some(name) => Step::Field(name.to_string()),
                None => Step::Item(inner.parse().map_err(|_| bad())?),
            });
            rest = after;
        }
    }
    Ok(Path { lax, steps })
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
        let path = memo.get(paths.value(row), path)?;
        let Ok(document) = serde_json::from_str::<Value>(values.value(row)) else {
            return on_error.give(row, out, (SqlState::INVALID_TEXT, "invalid input syntax for type json"));
        };
        let found = path.steps.iter().try_fold(&document, |value, step| match step {
            Step::Field(name) => value.as_object()?.get(name),
            Step::Item(index) => item(value, *index),
        });
        match found {
            Some(value) if !value.is_null() && (wanted.fits)(value) => Ok((wanted.write)(value, out)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let field = |name: &str| Step::Field(name.to_string());
        assert_eq!(path("$").unwrap(), Path { lax: false, steps: vec![] });
        let steps = vec![field("a"), field("b"), Step::Item(0), field("c d")];
        assert_eq!(path("lax $.a.b[0]['c d']").unwrap(), Path { lax: true, steps });
        for bad in ["a", "$.", "$[x]", "$.*", "$[0"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
