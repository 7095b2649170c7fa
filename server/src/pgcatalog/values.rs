//! Functions of values alone: subscripts, JSON, `format`, sizes in words. They know nothing of the catalog.

use super::describe;
use super::rows::Value;
use eddyline_common::{SqlError, SqlState};

/// The subscripts of a one-dimensional array, which begin at 1, and of a vector, which begin at 0.
pub fn bounds(array: &Value) -> Option<std::ops::RangeInclusive<i64>> {
    let (first, length) = match array {
        Value::Ints(items) => (1, items.len()),
        Value::Texts(items) => (1, items.len()),
        Value::Vector(items) => (0, items.len()),
        _ => return None,
    };
    (length > 0).then(|| first..=first + length as i64 - 1)
}

/// A value as JSON.
pub fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(v) => (*v).into(),
        Value::Int(v) => (*v).into(),
        Value::Float(v) => (*v).into(),
        Value::Text(v) => v.as_str().into(),
        Value::Ints(items) | Value::Vector(items) => items.as_slice().into(),
        Value::Texts(items) => items.as_slice().into(),
    }
}

/// An object of alternating keys and values.
pub fn json_build_object(args: &[Value]) -> Result<Value, SqlError> {
    if !args.len().is_multiple_of(2) {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, "argument list must have even number of elements"));
    }
    let pairs = args.chunks(2).map(|pair| match pair[0].as_text() {
        Some(key) => Ok(format!("{} : {}", serde_json::Value::from(key), json_of(&pair[1]))),
        None => Err(SqlError::new(SqlState::INVALID_PARAMETER, "argument 1: key must not be null")),
    });
    Ok(format!("{{{}}}", pairs.collect::<Result<Vec<_>, _>>()?.join(", ")).into())
}

/// `format('%s %I %L', ...)`.
pub fn format_text(args: &[Value]) -> Result<Value, SqlError> {
    let Some(pattern) = args.first().and_then(Value::as_text) else { return Ok(Value::Null) };
    let (mut text, mut chars, mut next) = (String::new(), pattern.chars(), 1);
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let kind = chars.next();
        if kind == Some('%') {
            text.push('%');
            continue;
        }
        let value = args.get(next).ok_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, "too few arguments for format()"))?.as_text();
        next += 1;
        match (kind, value) {
            (Some('s'), value) => text.push_str(&value.unwrap_or_default()),
            (Some('I'), Some(value)) => text.push_str(&describe::quote_ident(&value)),
            (Some('L'), Some(value)) => text.push_str(&describe::quote_literal(&value)),
            (Some('L'), None) => text.push_str("NULL"),
            (Some('I'), None) => return Err(SqlError::new(SqlState("22004"), "null values cannot be formatted as an SQL identifier")),
            _ => {
                return Err(SqlError::new(SqlState::INVALID_PARAMETER, "unrecognized format() type specifier")
                    .with_hint("For a single \"%\" use \"%%\"; the specifiers are %s, %I and %L."));
            }
        }
    }
    Ok(text.into())
}

/// Bytes in the largest unit that keeps some digits.
pub fn size_pretty(bytes: i64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
        if value.abs() < 10_240.0 || unit == "TB" {
            return format!("{:.0} {unit}", value);
        }
        value /= 1024.0;
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size_pretty(10), "10 bytes");
        assert_eq!(size_pretty(1 << 20), "1024 kB");
    }

    #[test]
    fn patterns_are_filled_in() {
        let args = ["%s %I %L %%", "a", "B", "c'd"].map(Value::from);
        assert_eq!(format_text(&args), Ok(Value::from("a \"B\" 'c''d' %")));
        assert!(format_text(&["%s".into()]).is_err());
    }
}
