//! PostgreSQL's functions over jsonb, those behind its operators, and the lists that its functions returning sets are unnested from. What is given as json is
//! taken apart as it is written, what is given as jsonb as that is shown.

use super::super::native::{Arg, Native, boolean, json, map_rows, map_text, text, text_array, texts};
use super::document::{self, Document};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListBuilder, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use eddyline_common::{SqlError, SqlState, SqlType, postgres};
use std::sync::Arc;

const TWO: &[Arg] = &[Arg::Text, Arg::Text];
const AND_ANY: &[Arg] = &[Arg::Text, Arg::Any];

pub const FUNCTIONS: &[Native] = &[
    Native::total("jsonb_contains", TWO, &[], boolean, |args| of_two(args, |a, b| a.contains(b))),
    Native::total("jsonb_contained", TWO, &[], boolean, |args| of_two(args, |a, b| b.contains(a))),
    Native::total("jsonb_exists", TWO, &[], boolean, exists),
    Native::total("jsonb_exists_any", AND_ANY, &[], boolean, |args| exists_of(args, false)),
    Native::total("jsonb_exists_all", AND_ANY, &[], boolean, |args| exists_of(args, true)),
    Native::total("jsonb_concat", TWO, &[], json, concat),
    Native::total("jsonb_delete", AND_ANY, &[], json, delete),
    Native::total("jsonb_strip_nulls", &[Arg::Text], &[], json, |args| map(args, |document, out| document.without_nulls().write(out))),
    Native::total("jsonb_pretty", &[Arg::Text], &[], text, |args| map(args, |document, out| document.write_pretty(0, out))),
    Native::total("jsonb_delete_path", AND_ANY, &[], json, delete_path),
    Native::total("jsonb_insert", &[Arg::Text, Arg::Any, Arg::Text], &[Arg::Any], json, insert),
    Native::total("jsonb_set", &[Arg::Text, Arg::Any, Arg::Text], &[Arg::Any], json, set),
    Native::total("eddyline_json_elements", &[Arg::Text], &[], documents, |args| elements(args, Form::Json)),
    Native::total("eddyline_jsonb_elements", &[Arg::Text], &[], documents, |args| elements(args, Form::Jsonb)),
    Native::total("eddyline_json_elements_text", &[Arg::Text], &[], text_array, |args| elements(args, Form::JsonText)),
    Native::total("eddyline_jsonb_elements_text", &[Arg::Text], &[], text_array, |args| elements(args, Form::JsonbText)),
    Native::total("eddyline_json_keys", &[Arg::Text], &[], text_array, |args| keys(args, Form::Json)),
    Native::total("eddyline_jsonb_keys", &[Arg::Text], &[], text_array, |args| keys(args, Form::Jsonb)),
    Native::total("eddyline_json_values", &[Arg::Text], &[], documents, |args| values(args, Form::Json)),
    Native::total("eddyline_jsonb_values", &[Arg::Text], &[], documents, |args| values(args, Form::Jsonb)),
    Native::total("eddyline_json_values_text", &[Arg::Text], &[], text_array, |args| values(args, Form::JsonText)),
    Native::total("eddyline_jsonb_values_text", &[Arg::Text], &[], text_array, |args| values(args, Form::JsonbText)),
];

fn documents(_: &[DataType]) -> SqlType {
    SqlType::Array(Box::new(SqlType::Json))
}

/// How parts of a document are given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    JsonText,
    Jsonb,
    JsonbText,
}

impl Form {
    fn is_written(self) -> bool {
        matches!(self, Form::Json | Form::JsonText)
    }

    /// A part in this form; `false` for JSON null as text.
    fn write(self, part: &str, out: &mut String) -> Result<bool, SqlError> {
        match (self, document::parse(part)?) {
            (Form::JsonbText, value) => return Ok(value.write_text(out)),
            (Form::Jsonb, value) => value.write(out),
            (Form::JsonText, Document::Null) => return Ok(false),
            (Form::JsonText, Document::Text(text)) => out.push_str(&text),
            (Form::Json | Form::JsonText, _) => out.push_str(part),
        }
        Ok(true)
    }
}

fn map(args: &[ArrayRef], write: fn(Document, &mut String)) -> Result<ArrayRef, SqlError> {
    let given = texts(&args[0]);
    map_text(args, |row, out| {
        write(document::parse(given.value(row))?, out);
        Ok(true)
    })
}

/// Row by row to a boolean; a row with a null argument is null.
fn map_bool(args: &[ArrayRef], mut f: impl FnMut(usize) -> Result<bool, SqlError>) -> Result<ArrayRef, SqlError> {
    let answers: BooleanArray = map_rows(args, |row| f(row).map(Some))?;
    Ok(Arc::new(answers))
}

fn of_two(args: &[ArrayRef], holds: fn(&Document, &Document) -> bool) -> Result<ArrayRef, SqlError> {
    let (left, right) = (texts(&args[0]), texts(&args[1]));
    map_bool(args, |row| Ok(holds(&document::parse(left.value(row))?, &document::parse(right.value(row))?)))
}

fn exists(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (given, key) = (texts(&args[0]), texts(&args[1]));
    map_bool(args, |row| Ok(document::parse(given.value(row))?.has(key.value(row))))
}

/// Whether any, or each, of the keys is there.
fn exists_of(args: &[ArrayRef], each: bool) -> Result<ArrayRef, SqlError> {
    let given = texts(&args[0]);
    map_bool(args, |row| {
        let document = document::parse(given.value(row))?;
        let keys = texts_of(&args[1], row)?;
        let mut keys = keys.iter().flatten();
        Ok(if each { keys.all(|key| document.has(key)) } else { keys.any(|key| document.has(key)) })
    })
}

/// An array of texts in a row, or what such an array is in quotes.
pub(super) fn texts_of(column: &ArrayRef, row: usize) -> Result<Vec<Option<String>>, SqlError> {
    if let Some(written) = column.as_string_opt::<i32>() {
        return postgres::parse::array(written.value(row).trim());
    }
    let items = column.as_list_opt::<i32>().map(|list| list.value(row)).ok_or_else(|| no_texts(column.data_type()))?;
    let items = cast(&items, &DataType::Utf8)?;
    Ok(texts(&items).iter().map(|item| item.map(String::from)).collect())
}

fn no_texts(ty: &DataType) -> SqlError {
    let shown = SqlType::from_arrow(ty).map_or_else(|| ty.to_string(), |ty| ty.to_string());
    SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("{shown} is no array of texts")).with_hint("Write ARRAY['a', 'b'] or '{a,b}'.")
}

fn concat(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (left, right) = (texts(&args[0]), texts(&args[1]));
    map_text(args, |row, out| {
        document::parse(left.value(row))?.followed_by(document::parse(right.value(row))?).write(out);
        Ok(true)
    })
}

/// `jsonb - key`, `jsonb - index` and `jsonb - keys`.
fn delete(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let given = texts(&args[0]);
    let refused = |what: &str| SqlError::new(SqlState::INVALID_PARAMETER, format!("cannot delete from {what}"));
    let indices = if args[1].data_type().is_numeric() { Some(cast(&args[1], &DataType::Int64)?) } else { None };
    let key = args[1].as_string_opt::<i32>();
    map_text(args, |row, out| {
        let mut document = document::parse(given.value(row))?;
        if !matches!(document, Document::Array(_) | Document::Object(_)) {
            return Err(refused("scalar"));
        }
        match (&indices, key) {
            (Some(indices), _) => {
                let Document::Array(items) = &mut document else { return Err(refused("object using integer index")) };
                if let Some(at) = place(indices.as_primitive::<Int64Type>().value(row), items.len()) {
                    items.remove(at);
                }
            }
            (None, Some(key)) => without(&mut document, &[Some(key.value(row).to_string())]),
            (None, None) => without(&mut document, &texts_of(&args[1], row)?),
        }
        document.write(out);
        Ok(true)
    })
}

fn without(document: &mut Document, keys: &[Option<String>]) {
    let is_named = |name: &String| keys.iter().flatten().any(|key| key == name);
    match document {
        Document::Object(fields) => fields.retain(|(key, _)| !is_named(key)),
        Document::Array(items) => items.retain(|item| !matches!(item, Document::Text(text) if is_named(text))),
        _ => {}
    }
}

/// Where an index points among so many items, from the end if it is negative.
fn place(index: i64, items: usize) -> Option<usize> {
    let index = if index < 0 { index + items as i64 } else { index };
    usize::try_from(index).ok().filter(|at| *at < items)
}

/// How a value is put where a path leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    /// In the place of what is there.
    Replace,
    /// There, whether there is something or not.
    Set,
    /// Beside what is there.
    Before,
    Behind,
}

/// `jsonb_set(document, path, value [, whether what is missing is made])`.
fn set(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    put_in("jsonb_set", args, |makes| if makes == Some(false) { Put::Replace } else { Put::Set })
}

/// `jsonb_insert(document, path, value [, whether behind what is there])`.
fn insert(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    put_in("jsonb_insert", args, |behind| if behind == Some(true) { Put::Behind } else { Put::Before })
}

fn put_in(name: &str, args: &[ArrayRef], how: fn(Option<bool>) -> Put) -> Result<ArrayRef, SqlError> {
    let (given, values) = (texts(&args[0]), texts(&args[2]));
    let flags = match args.get(3).map(|flags| flags.as_boolean_opt()) {
        Some(None) => {
            return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("the fourth argument of {name}() must be a boolean")));
        }
        flags => flags.flatten(),
    };
    map_text(args, |row, out| {
        let mut document = document::parse(given.value(row))?;
        if !matches!(document, Document::Array(_) | Document::Object(_)) {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "cannot set path in scalar"));
        }
        let path = texts_of(&args[1], row)?;
        let value = document::parse(values.value(row))?;
        put(&mut document, &path, 1, value, how(flags.map(|flags| flags.value(row))))?;
        document.write(out);
        Ok(true)
    })
}

/// What is wrong with a step of a path, which is so far into the whole.
fn wrong_step(position: usize, state: SqlState, what: &str) -> SqlError {
    SqlError::new(state, format!("path element at position {position} is {what}"))
}

/// The index that a step into an array is.
fn index_of(step: &str, position: usize) -> Result<i64, SqlError> {
    step.trim().parse().map_err(|_| wrong_step(position, SqlState::INVALID_TEXT, &format!("not an integer: \"{step}\"")))
}

/// `jsonb #- path`.
fn delete_path(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let given = texts(&args[0]);
    map_text(args, |row, out| {
        let mut document = document::parse(given.value(row))?;
        if !matches!(document, Document::Array(_) | Document::Object(_)) {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "cannot delete path in scalar"));
        }
        take(&mut document, &texts_of(&args[1], row)?, 1)?;
        document.write(out);
        Ok(true)
    })
}

/// Takes away what a path leads to, if there is something.
fn take(document: &mut Document, path: &[Option<String>], position: usize) -> Result<(), SqlError> {
    let Some((step, rest)) = path.split_first() else { return Ok(()) };
    let Some(step) = step else { return Err(wrong_step(position, SqlState("22004"), "null")) };
    let within = match document {
        Document::Object(fields) if rest.is_empty() => {
            fields.retain(|(key, _)| key != step);
            return Ok(());
        }
        Document::Object(fields) => fields.iter_mut().find(|(key, _)| key == step).map(|(_, value)| value),
        Document::Array(items) => match place(index_of(step, position)?, items.len()) {
            Some(at) if rest.is_empty() => {
                items.remove(at);
                return Ok(());
            }
            Some(at) => items.get_mut(at),
            None => None,
        },
        _ => None,
    };
    within.map_or(Ok(()), |within| take(within, rest, position + 1))
}

/// Puts a value where a path leads to, of which the last step only may lead to nothing. `position` is of the path's first step in the whole.
fn put(document: &mut Document, path: &[Option<String>], position: usize, value: Document, how: Put) -> Result<(), SqlError> {
    let Some((step, rest)) = path.split_first() else { return Ok(()) };
    let Some(step) = step else { return Err(wrong_step(position, SqlState("22004"), "null")) };
    let beside = matches!(how, Put::Before | Put::Behind);
    let makes = how != Put::Replace;
    let within = match document {
        Document::Object(fields) => match fields.iter().position(|(key, _)| key == step) {
            Some(_) if rest.is_empty() && beside => {
                let error = SqlError::new(SqlState::INVALID_PARAMETER, "cannot replace existing key");
                return Err(error.with_hint("jsonb_set() replaces the value of a key."));
            }
            Some(at) => &mut fields[at].1,
            None if rest.is_empty() && makes => {
                fields.push((step.clone(), value));
                *document = document::object(std::mem::take(fields));
                return Ok(());
            }
            None => return Ok(()),
        },
        Document::Array(items) => {
            let index = index_of(step, position)?;
            match place(index, items.len()) {
                Some(at) if rest.is_empty() && beside => {
                    items.insert(at + usize::from(how == Put::Behind), value);
                    return Ok(());
                }
                Some(at) => &mut items[at],
                None if rest.is_empty() && makes => {
                    let at = if index < 0 { 0 } else { items.len() };
                    items.insert(at, value);
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
        _ => return Ok(()),
    };
    if rest.is_empty() {
        *within = value;
        return Ok(());
    }
    put(within, rest, position + 1, value, how)
}

/// Row by row to a list; a null is none.
fn map_list(
    args: &[ArrayRef],
    item: SqlType,
    mut f: impl FnMut(&str, &mut ListBuilder<StringBuilder>) -> Result<(), SqlError>,
) -> Result<ArrayRef, SqlError> {
    let given = texts(&args[0]);
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(Arc::new(item.field("item", true)));
    for value in given {
        if let Some(value) = value {
            f(value, &mut lists)?;
        }
        lists.append(value.is_some());
    }
    Ok(Arc::new(lists.finish()))
}

fn parts_of(form: Form) -> SqlType {
    match form {
        Form::Json | Form::Jsonb => SqlType::Json,
        Form::JsonText | Form::JsonbText => SqlType::Text,
    }
}

fn append(part: &str, form: Form, lists: &mut ListBuilder<StringBuilder>) -> Result<(), SqlError> {
    let mut out = String::new();
    let is_there = form.write(part, &mut out)?;
    lists.values().append_option(is_there.then_some(out));
    Ok(())
}

/// The items of an array.
fn elements(args: &[ArrayRef], form: Form) -> Result<ArrayRef, SqlError> {
    map_list(args, parts_of(form), |value, lists| match document::items(value)? {
        Some(items) => items.into_iter().try_for_each(|item| append(item, form, lists)),
        None => Err(no_array(value, form)),
    })
}

fn no_array(value: &str, form: Form) -> SqlError {
    let is_object = value.trim_start().starts_with('{');
    let message = match (form, is_object) {
        (Form::Json, true) => "cannot call json_array_elements on a non-array",
        (Form::Json, false) => "cannot call json_array_elements on a scalar",
        (Form::JsonText, true) => "cannot call json_array_elements_text on a non-array",
        (Form::JsonText, false) => "cannot call json_array_elements_text on a scalar",
        (_, true) => "cannot extract elements from an object",
        (_, false) => "cannot extract elements from a scalar",
    };
    SqlError::new(SqlState::INVALID_PARAMETER, message)
}

/// The fields of an object: as they are written, or those of a jsonb.
fn fields(value: &str, form: Form) -> Result<Option<Vec<(String, String)>>, SqlError> {
    if form.is_written() {
        let fields = document::fields(value)?;
        return Ok(fields.map(|fields| fields.into_iter().map(|(key, part)| (key, part.to_string())).collect()));
    }
    let Document::Object(fields) = document::parse(value)? else { return Ok(None) };
    let shown = |value: Document| {
        let mut out = String::new();
        value.write(&mut out);
        out
    };
    Ok(Some(fields.into_iter().map(|(key, value)| (key, shown(value))).collect()))
}

/// The names of an object's fields.
fn keys(args: &[ArrayRef], form: Form) -> Result<ArrayRef, SqlError> {
    map_list(args, SqlType::Text, |value, lists| match fields(value, form)? {
        Some(fields) => {
            fields.into_iter().for_each(|(key, _)| lists.values().append_value(key));
            Ok(())
        }
        None => {
            let name = if form == Form::Json { "json_object_keys" } else { "jsonb_object_keys" };
            Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("cannot call {name} on {}", shown_kind(value))))
        }
    })
}

fn shown_kind(value: &str) -> &'static str {
    if value.trim_start().starts_with('[') { "an array" } else { "a scalar" }
}

/// The values of an object's fields.
fn values(args: &[ArrayRef], form: Form) -> Result<ArrayRef, SqlError> {
    map_list(args, parts_of(form), |value, lists| match fields(value, form)? {
        Some(fields) => fields.into_iter().try_for_each(|(_, part)| append(&part, form, lists)),
        None => Err(no_object(value, form)),
    })
}

fn no_object(value: &str, form: Form) -> SqlError {
    let message = match (form, shown_kind(value)) {
        (Form::Jsonb, _) => "cannot call jsonb_each on a non-object",
        (Form::JsonbText, _) => "cannot call jsonb_each_text on a non-object",
        (_, "an array") => "cannot deconstruct an array as an object",
        _ => "cannot deconstruct a scalar",
    };
    SqlError::new(SqlState::INVALID_PARAMETER, message)
}
