//! Ways into a JSON document, as Flink writes them: `$.a['b'][0]`, `$.a[*].b`. It does not know what is done with what they lead to.

use eddyline_common::{SqlError, SqlState};
use serde_json::Value;
use std::borrow::Cow;

/// One step of a JSON path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(i64),
    /// All items of an array, or all fields of an object.
    All,
}

/// A way into a document. What a lax path does not find is empty; for a strict one, as is any that does not say, it is an error.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    pub lax: bool,
    steps: Vec<Step>,
}

/// `$.a['b'][0]`, with `lax` or `strict` in front or not.
pub fn parse(path: &str) -> Result<Path, SqlError> {
    let bad = || {
        SqlError::new(SqlState::INVALID_PARAMETER, format!("the JSON path \"{path}\" is not supported"))
            .with_hint("A path is made of $, .field, ['field'], [index], [*] and .*.")
    };
    let text = path.trim();
    let lax = text.starts_with("lax ");
    let text = text.strip_prefix("lax ").or_else(|| text.strip_prefix("strict ")).unwrap_or(text).trim_start();
    let mut rest = text.strip_prefix('$').ok_or_else(bad)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = match rest.strip_prefix('.') {
            Some(field) => named(field),
            None => rest.strip_prefix('[').and_then(bracketed),
        }
        .ok_or_else(bad)?;
        steps.push(step);
        rest = after;
    }
    Ok(Path { lax, steps })
}

/// A step behind a point, and what comes behind it.
fn named(text: &str) -> Option<(Step, &str)> {
    if let Some((name, after)) = quoted(text) {
        return Some((Step::Field(name.to_string()), after));
    }
    let (name, after) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
    match name {
        "" => None,
        "*" => Some((Step::All, after)),
        name => Some((Step::Field(name.to_string()), after)),
    }
}

/// A step in brackets, of which the first is read, and what comes behind it.
fn bracketed(text: &str) -> Option<(Step, &str)> {
    let text = text.trim_start();
    if let Some((name, after)) = quoted(text) {
        return Some((Step::Field(name.to_string()), after.trim_start().strip_prefix(']')?));
    }
    let (inner, after) = text.split_once(']')?;
    let step = match inner.trim() {
        "*" => Step::All,
        index => Step::Item(index.parse().ok()?),
    };
    Some((step, after))
}

/// A name in quotes of either kind, and what comes behind it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

impl Path {
    /// What it leads to: of a path with `*` an array of all that it finds, `None` if there is nothing even in front of that.
    pub fn follow<'a>(&self, document: &'a Value) -> Option<Cow<'a, Value>> {
        let first = self.steps.iter().position(|step| *step == Step::All).unwrap_or(self.steps.len());
        let (single, several) = self.steps.split_at(first);
        let value = single.iter().try_fold(document, one)?;
        if several.is_empty() {
            return Some(Cow::Borrowed(value));
        }
        let mut found = vec![value];
        for step in several {
            found = found.into_iter().flat_map(|value| each(value, step)).collect();
        }
        Some(Cow::Owned(Value::Array(found.into_iter().cloned().collect())))
    }
}

fn one<'a>(value: &'a Value, step: &Step) -> Option<&'a Value> {
    match step {
        Step::Field(name) => value.as_object()?.get(name),
        Step::Item(index) => super::item(value, *index),
        Step::All => None,
    }
}

fn each<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match (step, value) {
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(fields)) => fields.values().collect(),
        (step, value) => one(value, step).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let field = |name: &str| Step::Field(name.to_string());
        assert_eq!(parse("$").unwrap(), Path { lax: false, steps: vec![] });
        let steps = vec![field("a"), field("b"), Step::Item(0), field("c d")];
        assert_eq!(parse("lax $.a.b[0]['c d']").unwrap(), Path { lax: true, steps });
        let steps = vec![field("a.b"), field("c]d"), Step::All, Step::All, field("e.f"), Step::Item(-1)];
        assert_eq!(parse("$[\"a.b\"]['c]d'][*].*.\"e.f\"[ -1 ]").unwrap(), Path { lax: false, steps });
        for bad in ["a", "$.", "$[x]", "$..a", "$[0", "$['a'", "$a", "$['a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_with_all_items_leads_to_an_array() {
        let document: Value = serde_json::from_str(r#"{"a": [{"b": 1}, {"c": 2}, 3, {"b": [4]}]}"#).unwrap();
        let found = |path: &str| parse(path).unwrap().follow(&document).map(|value| value.to_string());
        assert_eq!(found("$.a[*].b").unwrap(), "[1,[4]]");
        assert_eq!(found("$.a[1].*").unwrap(), "[2]");
        assert_eq!(found("$.a[2][*]").unwrap(), "[]");
        assert_eq!(found("$.x[*]"), None);
        assert_eq!(found("$.a[3].b[0]").unwrap(), "4");
    }
}
