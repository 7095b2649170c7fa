//! PostgreSQL's `jsonb_path_exists`, `jsonb_path_query_first` and `jsonb_path_query_array`, over paths of keys and subscripts. As in its lax mode a key looks
//! into the items of an array, and a subscript takes what is no array for an array of it alone. Filters, methods, arithmetic and strict paths are refused. It does not know
//! Flink's paths (`path`).

use super::super::native::{Arg, Memo, Native, boolean, json, map_rows, map_text, texts};
use super::document::{self, Document};
use datafusion::arrow::array::{ArrayRef, BooleanArray};
use eddyline_common::SqlError;
use std::sync::Arc;

const TWO: &[Arg] = &[Arg::Text, Arg::Text];

pub const FUNCTIONS: &[Native] = &[
    Native::total("jsonb_path_exists", TWO, &[], boolean, exists),
    Native::partial("jsonb_path_query_first", TWO, &[], json, first),
    Native::total("jsonb_path_query_array", TWO, &[], json, all),
];

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    /// `.*`
    Keys,
    Item(usize),
    Last,
    /// `[*]`
    Items,
}

/// Whether a path is one that can be followed.
pub fn check(path: &str) -> Result<(), SqlError> {
    parse(path).map(drop)
}

fn parse(path: &str) -> Result<Vec<Step>, SqlError> {
    let bad = || {
        SqlError::unsupported(format!("the JSON path \"{path}\" is not supported"))
            .with_hint("A path is made of $, .key, .\"key\", .*, [index], [last] and [*].")
    };
    let text = path.trim();
    let text = text.strip_prefix("lax ").unwrap_or(text).trim_start();
    let mut rest = text.strip_prefix('$').ok_or_else(bad)?.trim_start();
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('.') {
            Some(key) => key_of(key.trim_start()),
            None => rest.strip_prefix('[').and_then(subscript),
        }
        .ok_or_else(bad)?;
        steps.push(step);
        rest = after.trim_start();
    }
    Ok(steps)
}

/// The key that a text begins with, and what is behind it.
fn key_of(text: &str) -> Option<(Step, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (key, after) = quoted.split_once('"')?;
        return (!key.contains('\\')).then(|| (Step::Key(key.to_string()), after));
    }
    if let Some(after) = text.strip_prefix('*') {
        return Some((Step::Keys, after));
    }
    let (key, after) = text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()));
    key.chars().next().filter(|first| !first.is_ascii_digit())?;
    Some((Step::Key(key.to_string()), after))
}

/// What stands in brackets, of which the first is read, and what is behind them.
fn subscript(text: &str) -> Option<(Step, &str)> {
    let (inner, after) = text.split_once(']')?;
    let step = match inner.trim() {
        "*" => Step::Items,
        "last" => Step::Last,
        index => Step::Item(index.parse().ok()?),
    };
    Some((step, after))
}

/// All that a path leads to.
fn follow<'a>(steps: &[Step], document: &'a Document) -> Vec<&'a Document> {
    steps.iter().fold(vec![document], |found, step| found.into_iter().flat_map(|value| each(value, step)).collect())
}

fn each<'a>(value: &'a Document, step: &Step) -> Vec<&'a Document> {
    match (step, value) {
        (Step::Key(_) | Step::Keys, Document::Array(items)) => items.iter().flat_map(|item| of_object(item, step)).collect(),
        (Step::Key(_) | Step::Keys, value) => of_object(value, step),
        (Step::Items, Document::Array(items)) => items.iter().collect(),
        (Step::Item(at), Document::Array(items)) => items.get(*at).into_iter().collect(),
        (Step::Last, Document::Array(items)) => items.last().into_iter().collect(),
        (Step::Item(0) | Step::Last | Step::Items, value) => vec![value],
        (Step::Item(_), _) => vec![],
    }
}

fn of_object<'a>(value: &'a Document, step: &Step) -> Vec<&'a Document> {
    match (step, value) {
        (Step::Key(key), value) => value.get(key).into_iter().collect(),
        (Step::Keys, Document::Object(fields)) => fields.iter().map(|(_, value)| value).collect(),
        _ => vec![],
    }
}

fn exists(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (given, paths) = (texts(&args[0]), texts(&args[1]));
    let mut path = Memo::new();
    let found: BooleanArray = map_rows(args, |row| {
        let steps = path.get(paths.value(row), parse)?;
        Ok(Some(!follow(steps, &document::parse(given.value(row))?).is_empty()))
    })?;
    Ok(Arc::new(found))
}

fn first(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (given, paths) = (texts(&args[0]), texts(&args[1]));
    let mut path = Memo::new();
    map_text(args, |row, out| {
        let document = document::parse(given.value(row))?;
        let found = follow(path.get(paths.value(row), parse)?, &document);
        found.first().into_iter().for_each(|value| value.write(out));
        Ok(!found.is_empty())
    })
}

fn all(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let (given, paths) = (texts(&args[0]), texts(&args[1]));
    let mut path = Memo::new();
    map_text(args, |row, out| {
        let document = document::parse(given.value(row))?;
        let found = follow(path.get(paths.value(row), parse)?, &document);
        Document::Array(found.into_iter().cloned().collect()).write(out);
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lax_path_looks_into_arrays() {
        let found = |document: &str, path: &str| {
            let (document, mut out) = (document::parse(document).unwrap(), String::new());
            Document::Array(follow(&parse(path).unwrap(), &document).into_iter().cloned().collect()).write(&mut out);
            out
        };
        let several = r#"{"a": [{"b": 1}, {"b": 2}]}"#;
        assert_eq!(
            [found(several, "$.a.b"), found(several, "lax $.a[*].b"), found(several, "$.a[last].\"b\"")],
            ["[1, 2]", "[1, 2]", "[2]"]
        );
        assert_eq!([found(r#"{"a": 5}"#, "$.a[0]"), found(r#"{"a": 5}"#, "$.a[1]"), found(r#"{"a": 5}"#, "$.a[*]")], ["[5]", "[]", "[5]"]);
        assert_eq!(found(r#"[{"a": 1}, {"a": 2}]"#, "$.*"), "[1, 2]");
        assert_eq!([found(r#"[[{"a": 1}], [2]]"#, "$.a"), found(r#"[[{"a": 1}], [2]]"#, "$[*].a")], ["[]", "[1]"]);
        for refused in ["$.a ? (@ > 1)", "strict $.a", "$.a.size()", "$.**", "a", "$[-1]", "$.a + 1", "$."] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }
}
