//! Functions of values alone: subscripts, `format`, names in parts, sizes in words. They know nothing of the catalog.

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

/// `parse_ident`: the parts of a name with dots, those without quotes in lower case. What stands behind a whole name is an error if `strict`.
pub fn parse_ident(text: &str, strict: bool) -> Result<Vec<String>, SqlError> {
    let wrong = || SqlError::new(SqlState::INVALID_PARAMETER, format!("string is not a valid identifier: \"{text}\""));
    let (mut parts, mut rest) = (Vec::new(), text.trim_start());
    loop {
        let (part, behind) = identifier(rest).ok_or_else(wrong)?;
        parts.push(part);
        let behind = behind.trim_start();
        match behind.strip_prefix('.') {
            Some(next) => rest = next.trim_start(),
            None if strict && !behind.is_empty() => return Err(wrong()),
            None => return Ok(parts),
        }
    }
}

/// The identifier that a text begins with, and what is behind it.
fn identifier(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (mut part, mut rest) = (String::new(), quoted);
        loop {
            let (inside, behind) = rest.split_once('"')?;
            part.push_str(inside);
            match behind.strip_prefix('"') {
                Some(next) => {
                    part.push('"');
                    rest = next;
                }
                None => return (!part.is_empty()).then_some((part, behind)),
            }
        }
    }
    let inner = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let end = text.find(|c: char| !inner(c)).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    let first = part.chars().next()?;
    (first.is_alphabetic() || first == '_').then(|| (part.to_lowercase(), rest))
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
    fn names_come_apart_at_their_dots() {
        let parts = |text, strict| parse_ident(text, strict).map(|parts| parts.join("|"));
        assert_eq!(parts("Public.\"My.\"\"T\"", true), Ok("public|My.\"T".to_string()));
        assert_eq!(parts(" a . b ", true), Ok("a|b".to_string()));
        assert_eq!(parts("f(int)", false), Ok("f".to_string()));
        for wrong in ["f(int)", "a.", ".a", "1a", "", "\"a", "\"\""] {
            let error = parts(wrong, true).unwrap_err();
            assert_eq!(error.message, format!("string is not a valid identifier: \"{wrong}\""));
        }
    }

    #[test]
    fn patterns_are_filled_in() {
        let args = ["%s %I %L %%", "a", "B", "c'd"].map(Value::from);
        assert_eq!(format_text(&args), Ok(Value::from("a \"B\" 'c''d' %")));
        assert!(format_text(&["%s".into()]).is_err());
    }
}
