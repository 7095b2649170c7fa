//! What Flink asks of a text that may be JSON: whether it is, and of which kind; whether a path leads to anything; and texts in quotes as JSON has them.

use super::super::native::{Arg, Memo, Native, boolean, map_rows, map_text, text, text_array, texts};
use super::{document, path};
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, ListBuilder, StringBuilder};
use eddyline_common::{SqlError, SqlState, SqlType, postgres};
use serde_json::Value;
use std::fmt::Write;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::total("eddyline_is_json_value", &[Arg::Text], &[], boolean, |args| is_json(args, |_| true)),
    Native::total("eddyline_is_json_scalar", &[Arg::Text], &[], boolean, |args| is_json(args, |first| !matches!(first, b'{' | b'['))),
    Native::total("eddyline_is_json_array", &[Arg::Text], &[], boolean, |args| is_json(args, |first| first == b'[')),
    Native::total("eddyline_is_json_object", &[Arg::Text], &[], boolean, |args| is_json(args, |first| first == b'{')),
    Native::partial("json_exists", &[Arg::Text, Arg::Text], &[Arg::Text], boolean, exists),
    Native::total("json_quote", &[Arg::Text], &[], text, quote),
    Native::total("json_unquote", &[Arg::Text], &[], text, unquote),
    Native::partial("eddyline_json_texts", &[Arg::Text], &[], text_array, items),
];

/// Whether a text is JSON that begins so.
fn is_json(args: &[ArrayRef], begins: fn(u8) -> bool) -> Result<ArrayRef, SqlError> {
    let is_one = |text: &str| {
        let first = text.trim_start().as_bytes().first().copied();
        postgres::parse::json(text).is_ok() && first.is_some_and(begins)
    };
    let answers: BooleanArray = texts(&args[0]).iter().map(|text| text.map(is_one)).collect();
    Ok(Arc::new(answers))
}

/// `JSON_EXISTS(json, path [, what an error gives])`: JSON null is nothing.
fn exists(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (given, paths) = (texts(&args[0]), texts(&args[1]));
    let on_error = args.get(2).map(texts);
    let mut memo = Memo::new();
    let answers: BooleanArray = map_rows(&args[..2], |row| {
        let path = memo.get(paths.value(row), path::parse)?;
        let failed = |state: SqlState, message: &str| match on_error.filter(|word| word.is_valid(row)).map(|word| word.value(row)) {
            Some("true") => Ok(Some(true)),
            Some("unknown") => Ok(None),
            Some("error") => Err(SqlError::new(state, message)),
            _ => Ok(Some(false)),
        };
        let Ok(document) = serde_json::from_str::<Value>(given.value(row)) else {
            return failed(SqlState::INVALID_TEXT, "invalid input syntax for type json");
        };
        match path.follow(&document) {
            Some(value) => Ok(Some(!value.is_null())),
            None if path.lax => Ok(Some(false)),
            None => failed(SqlState("2203A"), "the JSON path leads to nothing"),
        }
    })?;
    Ok(Arc::new(answers))
}

/// Of a text a JSON string in ASCII, as Flink writes it.
fn quote(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let given = texts(&args[0]);
    map_text(args, |row, out| {
        out.push('"');
        for unit in given.value(row).encode_utf16() {
            match char::from_u32(u32::from(unit)) {
                Some(c @ ('"' | '\\' | '/')) => out.extend(['\\', c]),
                Some('\u{8}') => out.push_str("\\b"),
                Some('\u{c}') => out.push_str("\\f"),
                Some('\n') => out.push_str("\\n"),
                Some('\r') => out.push_str("\\r"),
                Some('\t') => out.push_str("\\t"),
                Some(c @ ' '..='~') => out.push(c),
                _ => write!(out, "\\u{unit:04x}").expect("a string grows"),
            }
        }
        out.push('"');
        Ok(true)
    })
}

/// What a JSON string says; any other text as it is.
fn unquote(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let given = texts(&args[0]);
    map_text(args, |row, out| {
        match serde_json::from_str::<Value>(given.value(row)) {
            Ok(Value::String(text)) if !text.contains('\0') => out.push_str(&text),
            _ => out.push_str(given.value(row)),
        }
        Ok(true)
    })
}

/// The items of a JSON array as a list of texts; null for any other JSON.
fn items(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let mut lists = ListBuilder::new(StringBuilder::new()).with_field(Arc::new(SqlType::Text.field("item", true)));
    for value in texts(&args[0]) {
        let items = value.map(document::items).transpose()?.flatten();
        for item in items.iter().flatten() {
            lists.values().append_option(match document::parse(item)? {
                document::Document::Null => None,
                document::Document::Text(text) => Some(text),
                _ => Some(item.to_string()),
            });
        }
        lists.append(items.is_some());
    }
    Ok(Arc::new(lists.finish()))
}
