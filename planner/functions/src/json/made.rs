//! JSON of values: `to_json` and kin, objects and arrays built of values, and what the aggregates of JSON are made of: a text for each item, collected by
//! `array_agg`, and one text of all. The first argument of each function says the style, the second the zone in which times are shown. It does not know jsonb's
//! form, which `document` has.

use super::super::arguments::{result, rows};
use super::super::casts::{to_text, word, zone};
use super::super::shaped::shaped;
use super::document::{self, quote};
use crate::error::into_datafusion;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StringArray, StringBuilder, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, Signature, Volatility};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

/// What the names of these functions begin with.
pub const PREFIX: &str = "eddyline_json_";
/// `(style, zone, value)`: a value. A null is none.
pub const VALUE: &str = "eddyline_json_value";
/// `(style, zone, key, value, ...)`
pub const OBJECT: &str = "eddyline_json_object";
/// `(style, zone, value, ...)`
pub const ARRAY: &str = "eddyline_json_array";
/// `(style, zone, value)`: an item of an array that is aggregated.
pub const ITEM: &str = "eddyline_json_item";
/// `(style, zone, key, value)`: a field of an object that is aggregated.
pub const FIELD: &str = "eddyline_json_field";
/// `(style, zone, items)`: the array of a list of items.
pub const ITEMS: &str = "eddyline_json_items";
/// `(style, zone, values)`: the array of a list of values.
pub const LISTED: &str = "eddyline_json_listed";
/// `(style, zone, fields)`: the object of a list of fields.
pub const FIELDS: &str = "eddyline_json_fields";

const NAMES: [&str; 8] = [VALUE, OBJECT, ARRAY, ITEM, FIELD, ITEMS, LISTED, FIELDS];

pub fn functions() -> impl Iterator<Item = ScalarUDF> {
    NAMES.into_iter().map(|name| shaped(name, Signature::variadic_any(Volatility::Immutable), shape, made))
}

/// How JSON is written, and whether fields and items that are null are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// As json_build_object and kin do.
    Json,
    /// The same, each item on a line of its own.
    Lines,
    Jsonb,
    /// Without blanks, as rows are written.
    Row,
    /// The same, without what is null.
    Absent,
}

impl Style {
    fn of(word: &str) -> Result<Style, SqlError> {
        Ok(match word {
            "json" => Style::Json,
            "lines" => Style::Lines,
            "jsonb" => Style::Jsonb,
            "row" => Style::Row,
            "absent" => Style::Absent,
            other => return Err(SqlError::internal(format!("JSON has no style {other}"))),
        })
    }

    fn comma(self) -> &'static str {
        if matches!(self, Style::Row | Style::Absent) { "," } else { ", " }
    }

    fn colon(self) -> &'static str {
        if matches!(self, Style::Row | Style::Absent) { ":" } else { " : " }
    }

    /// What has been written, in this style.
    fn finish(self, out: &mut String) -> Result<(), SqlError> {
        if self == Style::Jsonb {
            let document = document::parse(&std::mem::take(out))?;
            document.write(out);
        }
        Ok(())
    }
}

fn shape(name: &'static str, args: ReturnFieldArgs) -> DfResult<FieldRef> {
    let nullable = !matches!(name, OBJECT | ARRAY) && args.arg_fields.get(2).is_none_or(|field| field.is_nullable());
    // Items and fields are parts, which may have blanks in front or no braces around them.
    let ty = if matches!(name, ITEM | FIELD) { SqlType::Text } else { SqlType::Json };
    Ok(Arc::new(ty.field(name, nullable || name == FIELD)))
}

fn made(name: &'static str, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let rows = rows(&args);
    let style = Style::of(word(args.args.first()).unwrap_or("row")).map_err(into_datafusion)?;
    let shown_in = zone(args.args.get(1)).map_err(into_datafusion)?;
    let mut columns = Vec::with_capacity(args.args.len());
    for (arg, field) in args.args.iter().zip(&args.arg_fields).skip(2) {
        columns.push(Column::of(&arg.to_array(rows)?, field, shown_in).map_err(into_datafusion)?);
    }
    result(make(name, style, &columns, rows).map_err(into_datafusion)?, &args)
}

fn make(name: &str, style: Style, columns: &[Column], rows: usize) -> Result<ArrayRef, SqlError> {
    let mut texts = StringBuilder::with_capacity(rows, rows * 16);
    let mut text = String::new();
    for row in 0..rows {
        text.clear();
        let is_there = match (name, columns) {
            (VALUE, [value]) => write_value(value, row, &mut text),
            (OBJECT, fields) => object(style, fields, row, &mut text)?,
            (ARRAY, items) => array(style, items, row, &mut text),
            (ITEM, [value]) => item(style, value, row, &mut text),
            (FIELD, [key, value]) => field(style, key, value, row, &mut text)?,
            (ITEMS, [list]) => items(style, list, true, row, &mut text)?,
            (LISTED, [list]) => items(style, list, false, row, &mut text)?,
            (FIELDS, [list]) => fields(style, list, row, &mut text)?,
            (name, columns) => return Err(SqlError::internal(format!("{name} was given {} values", columns.len()))),
        };
        if is_there {
            if !matches!(name, ITEM | FIELD) {
                style.finish(&mut text)?;
            }
            texts.append_value(&text);
        } else {
            texts.append_null();
        }
    }
    Ok(Arc::new(texts.finish()))
}

fn write_value(value: &Column, row: usize, out: &mut String) -> bool {
    let is_there = !value.is_null(row);
    if is_there {
        value.write(row, out);
    }
    is_there
}

fn object(style: Style, columns: &[Column], row: usize, out: &mut String) -> Result<bool, SqlError> {
    out.push('{');
    for (i, pair) in columns.chunks(2).enumerate() {
        let [key, value] = pair else { return Err(odd()) };
        if key.is_null(row) {
            return Err(null_key(style, 2 * i + 1));
        }
        if style == Style::Absent && value.is_null(row) {
            continue;
        }
        out.push_str(if out.len() > 1 { style.comma() } else { "" });
        key.write_key(row, out)?;
        out.push_str(style.colon());
        value.write(row, out);
    }
    out.push('}');
    Ok(true)
}

fn odd() -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, "argument list must have even number of elements")
        .with_hint("The arguments must consist of alternating keys and values.")
}

fn null_key(style: Style, argument: usize) -> SqlError {
    match style {
        Style::Json => SqlError::new(SqlState::INVALID_PARAMETER, format!("argument {argument} cannot be null"))
            .with_hint("Object keys should be text."),
        _ => SqlError::new(SqlState::INVALID_PARAMETER, format!("argument {argument}: key must not be null")),
    }
}

fn array(style: Style, columns: &[Column], row: usize, out: &mut String) -> bool {
    out.push('[');
    for value in columns.iter().filter(|value| style != Style::Absent || !value.is_null(row)) {
        out.push_str(if out.len() > 1 { style.comma() } else { "" });
        value.write(row, out);
    }
    out.push(']');
    true
}

/// An item that is a row or an array stands on a line of its own, as in PostgreSQL.
fn item(style: Style, value: &Column, row: usize, out: &mut String) -> bool {
    if value.is_null(row) {
        return false;
    }
    if style == Style::Lines || style == Style::Json && matches!(value, Column::List(..) | Column::Row(..)) {
        out.push_str("\n ");
    }
    value.write(row, out);
    true
}

fn field(style: Style, key: &Column, value: &Column, row: usize, out: &mut String) -> Result<bool, SqlError> {
    if key.is_null(row) {
        return Ok(false);
    }
    key.write_key(row, out)?;
    out.push_str(style.colon());
    if style == Style::Absent && value.is_null(row) {
        // A field that is left out is not one without a name.
        out.clear();
        return Ok(true);
    }
    value.write(row, out);
    Ok(true)
}

/// `[1, 2]` of a list of items, or of values that are not written yet.
fn items(style: Style, list: &Column, are_written: bool, row: usize, out: &mut String) -> Result<bool, SqlError> {
    let Some((places, items)) = list.parts(row)? else { return Ok(false) };
    out.push('[');
    for place in places.filter(|place| style != Style::Absent || !items.is_null(*place)) {
        let is_first = out.len() == 1;
        out.push_str(if is_first { "" } else { style.comma() });
        match items {
            Column::Quoted(parts) if are_written && parts.is_valid(place) => {
                let part = parts.value(place);
                out.push_str(if is_first { part.trim_start() } else { part });
            }
            values => values.write(place, out),
        }
    }
    out.push(']');
    Ok(true)
}

/// `{ "a" : 1, "b" : 2 }` of a list of fields.
fn fields(style: Style, list: &Column, row: usize, out: &mut String) -> Result<bool, SqlError> {
    let Some((places, Column::Quoted(parts))) = list.parts(row)? else { return Ok(false) };
    out.push_str(if style == Style::Json { "{ " } else { "{" });
    let begin = out.len();
    for place in places {
        if parts.is_null(place) {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "field name must not be null"));
        }
        let part = parts.value(place);
        out.push_str(if out.len() > begin && !part.is_empty() { style.comma() } else { "" });
        out.push_str(part);
    }
    out.push_str(if style == Style::Json { " }" } else { "}" });
    Ok(true)
}

/// A column, by how its values are written.
enum Column {
    Null,
    Bool(BooleanArray),
    /// Numbers, and what else is in quotes only if it is no number (`NaN`).
    Number(StringArray),
    /// Times with a date, whose parts a T stands between.
    Moment(StringArray),
    /// JSON, as it is.
    Json(StringArray),
    Quoted(StringArray),
    List(ListArray, Box<Column>),
    Row(StructArray, Vec<(String, Column)>),
    Map(MapArray, Box<(Column, Column)>),
}

impl Column {
    fn of(values: &ArrayRef, field: &Field, zone: Tz) -> Result<Column, SqlError> {
        let text = || to_text(values, field, zone).map(|texts| texts.as_string::<i32>().clone());
        let ty = SqlType::from_field(field).unwrap_or(SqlType::Text);
        Ok(match (values.data_type(), ty) {
            (DataType::Null, _) => Column::Null,
            (DataType::Boolean, _) => Column::Bool(values.as_boolean().clone()),
            (DataType::Utf8, SqlType::Json) => Column::Json(text()?),
            (DataType::Utf8, SqlType::Char(length)) => {
                let width = length as usize;
                Column::Quoted(text()?.iter().map(|value| value.map(|value| format!("{value:<width$}"))).collect())
            }
            (DataType::Timestamp(..), _) => Column::Moment(text()?),
            (ty, _) if ty.is_numeric() => Column::Number(text()?),
            (DataType::List(inner), _) => {
                let list = values.as_list::<i32>();
                let items = Column::of(list.values(), declared_item(field).unwrap_or(inner), zone)?;
                Column::List(list.clone(), Box::new(items))
            }
            (DataType::Struct(inner), _) => {
                let rows = values.as_struct();
                let columns = rows.columns().iter().zip(inner);
                let columns = columns.map(|(column, field)| Ok((field.name().clone(), Column::of(column, field, zone)?)));
                Column::Row(rows.clone(), columns.collect::<Result<_, SqlError>>()?)
            }
            (DataType::Map(entries, _), _) => {
                let map = values.as_map();
                let of = |column: &ArrayRef, at: usize| match entries.data_type() {
                    DataType::Struct(fields) => Column::of(column, &fields[at], zone),
                    other => Err(SqlError::internal(format!("a map has entries of type {other}"))),
                };
                Column::Map(map.clone(), Box::new((of(map.keys(), 0)?, of(map.values(), 1)?)))
            }
            _ => Column::Quoted(text()?),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Null => true,
            Column::Bool(values) => values.is_null(row),
            Column::Number(texts) | Column::Moment(texts) | Column::Json(texts) | Column::Quoted(texts) => texts.is_null(row),
            Column::List(lists, _) => lists.is_null(row),
            Column::Row(rows, _) => rows.is_null(row),
            Column::Map(maps, _) => maps.is_null(row),
        }
    }

    fn write(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            return out.push_str("null");
        }
        match self {
            Column::Null => {}
            Column::Bool(values) => out.push_str(if values.value(row) { "true" } else { "false" }),
            Column::Number(texts) => match texts.value(row) {
                number if number.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()) => out.push_str(number),
                other => quote(other, out),
            },
            Column::Moment(texts) => quote(&moment(texts.value(row)), out),
            Column::Json(texts) => out.push_str(texts.value(row)),
            Column::Quoted(texts) => quote(texts.value(row), out),
            Column::List(lists, items) => {
                out.push('[');
                let offsets = lists.value_offsets();
                for (i, item) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    items.write(item, out);
                }
                out.push(']');
            }
            Column::Row(_, columns) => {
                out.push('{');
                for (i, (name, column)) in columns.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    quote(name, out);
                    out.push(':');
                    column.write(row, out);
                }
                out.push('}');
            }
            Column::Map(maps, entries) => {
                out.push('{');
                let offsets = maps.value_offsets();
                for (i, entry) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    entries.0.write_quoted(entry, out);
                    out.push(':');
                    entries.1.write(entry, out);
                }
                out.push('}');
            }
        }
    }

    /// A scalar as the name of a field.
    fn write_key(&self, row: usize, out: &mut String) -> Result<(), SqlError> {
        if matches!(self, Column::Json(_) | Column::List(..) | Column::Row(..) | Column::Map(..)) {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "key value must be scalar, not array, composite, or json"));
        }
        self.write_quoted(row, out);
        Ok(())
    }

    fn write_quoted(&self, row: usize, out: &mut String) {
        let mut text = String::new();
        self.write(row, &mut text);
        if text.starts_with('"') { out.push_str(&text) } else { quote(&text, out) }
    }

    /// Where the items of a row's list are, and what they are; `None` for null.
    fn parts(&self, row: usize) -> Result<Option<(std::ops::Range<usize>, &Column)>, SqlError> {
        match self {
            _ if self.is_null(row) => Ok(None),
            Column::List(lists, items) => {
                let offsets = lists.value_offsets();
                Ok(Some((offsets[row] as usize..offsets[row + 1] as usize, items.as_ref())))
            }
            _ => Err(SqlError::new(SqlState::DATATYPE_MISMATCH, "an array is wanted")),
        }
    }
}

/// What a declared list says of its items: arrays forget in places what these are besides their Arrow type.
fn declared_item(field: &Field) -> Option<&FieldRef> {
    match field.data_type() {
        DataType::List(item) => Some(item),
        _ => None,
    }
}

/// `2020-01-01T10:00:00+00:00` of `2020-01-01 10:00:00+00`.
fn moment(shown: &str) -> String {
    let (time, era) = match shown.strip_suffix(" BC") {
        Some(time) => (time, " BC"),
        None => (shown, ""),
    };
    let Some((date, clock)) = time.split_once(' ') else { return shown.to_string() };
    let has_bare_hours = clock.rfind(['+', '-']).is_some_and(|sign| clock.len() - sign == 3);
    format!("{date}T{clock}{}{era}", if has_bare_hours { ":00" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Int32Array;

    fn column(values: ArrayRef, ty: SqlType) -> Column {
        Column::of(&values, &ty.field("x", true), crate::zone_of("+00:00").unwrap()).unwrap()
    }

    #[test]
    fn moments_have_a_t_and_minutes_in_their_zone() {
        assert_eq!(moment("2020-01-01 10:00:00"), "2020-01-01T10:00:00");
        assert_eq!(moment("2020-01-01 10:00:00.5+00"), "2020-01-01T10:00:00.5+00:00");
        assert_eq!(moment("2020-01-01 10:00:00-03:30"), "2020-01-01T10:00:00-03:30");
        assert_eq!(moment("0044-03-15 10:00:00+00 BC"), "0044-03-15T10:00:00+00:00 BC");
        assert_eq!(moment("-infinity"), "-infinity");
    }

    #[test]
    fn objects_and_arrays_have_the_blanks_of_their_style() {
        let key = || column(Arc::new(StringArray::from(vec!["a\"b"])), SqlType::Text);
        let columns = [key(), column(Arc::new(Int32Array::from(vec![1])), SqlType::Integer), key(), Column::Null];
        for (style, shown) in
            [(Style::Json, r#"{"a\"b" : 1, "a\"b" : null}"#), (Style::Row, r#"{"a\"b":1,"a\"b":null}"#), (Style::Absent, r#"{"a\"b":1}"#)]
        {
            let mut out = String::new();
            object(style, &columns, 0, &mut out).unwrap();
            assert_eq!(out, shown);
        }
        let mut out = String::new();
        object(Style::Jsonb, &columns, 0, &mut out).unwrap();
        Style::Jsonb.finish(&mut out).unwrap();
        assert_eq!(out, r#"{"a\"b": null}"#);
        assert_eq!(object(Style::Json, &columns[..3], 0, &mut String::new()).unwrap_err().state.0, "22023");
        let json = column(Arc::new(StringArray::from(vec![r#"{"x":1}"#])), SqlType::Json);
        let mut out = String::new();
        array(Style::Json, &[json, Column::Null], 0, &mut out);
        assert_eq!(out, r#"[{"x":1}, null]"#);
    }
}
