//! Functions of values alone: subscripts, `format`, names in parts, sizes in words. They know nothing of the catalog.

use super::describe;
use super::rows::Value;
use eddyline_common::{SqlError, SqlState};
use std::iter::Peekable;
use std::str::Chars;

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
    let (mut text, mut chars, mut next) = (String::new(), pattern.chars().peekable(), 1);
    while let Some(c) = chars.next() {
        if c != '%' || chars.next_if_eq(&'%').is_some() {
            text.push(c);
            continue;
        }
        let specifier = Specifier::read(&mut chars)?;
        let at = specifier.position.unwrap_or(next);
        let value = args.get(at).ok_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, "too few arguments for format()"))?;
        next = at + 1;
        let (shown, width) = (shown_as(specifier.kind, value.as_text())?, specifier.width);
        text.push_str(&if specifier.left { format!("{shown:<width$}") } else { format!("{shown:>width$}") });
    }
    Ok(text.into())
}

/// `%[position$][-][width]kind`, behind its first sign.
struct Specifier {
    position: Option<usize>,
    /// The value stands at the left of its width.
    left: bool,
    width: usize,
    kind: char,
}

impl Specifier {
    fn read(chars: &mut Peekable<Chars>) -> Result<Specifier, SqlError> {
        let invalid = |message: &str| SqlError::new(SqlState::INVALID_PARAMETER, message);
        let mut position = number(chars);
        let mut width = None;
        if position.is_some() && chars.next_if_eq(&'$').is_none() {
            // It was the width.
            width = position.take();
        }
        if position == Some(0) {
            return Err(invalid("format specifies argument 0, but arguments are numbered from 1"));
        }
        let mut left = false;
        while width.is_none() && chars.next_if_eq(&'-').is_some() {
            left = true;
        }
        let width = width.or_else(|| number(chars)).unwrap_or(0);
        if width > FORMAT_WIDTH_MAX {
            return Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "number is out of range"));
        }
        let kind = chars.next().ok_or_else(|| invalid("unterminated format() type specifier").with_hint(LONE_PERCENT))?;
        Ok(Specifier { position, left, width, kind })
    }
}

/// Letters that a value may be brought to: what `std::fmt` can.
const FORMAT_WIDTH_MAX: usize = u16::MAX as usize;
const LONE_PERCENT: &str = "For a single \"%\" use \"%%\"; the specifiers are %s, %I and %L.";

/// The digits that come next.
fn number(chars: &mut Peekable<Chars>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        number = Some(number.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize));
    }
    number
}

fn shown_as(kind: char, value: Option<String>) -> Result<String, SqlError> {
    match (kind, value) {
        ('s', value) => Ok(value.unwrap_or_default()),
        ('I', Some(value)) => Ok(describe::quote_ident(&value)),
        ('L', Some(value)) => Ok(describe::quote_literal(&value)),
        ('L', None) => Ok("NULL".to_string()),
        ('I', None) => Err(SqlError::new(SqlState("22004"), "null values cannot be formatted as an SQL identifier")),
        (other, _) => {
            let message = format!("unrecognized format() type specifier \"{other}\"");
            Err(SqlError::new(SqlState::INVALID_PARAMETER, message).with_hint(LONE_PERCENT))
        }
    }
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

/// How many bytes a size is that is written with a unit.
pub fn size_bytes(text: &str) -> Result<i64, SqlError> {
    const UNITS: [(&str, i32); 7] = [("bytes", 0), ("b", 0), ("kb", 1), ("mb", 2), ("gb", 3), ("tb", 4), ("pb", 5)];
    let invalid = || SqlError::new(SqlState::INVALID_PARAMETER, format!("invalid size: \"{text}\""));
    let size = text.trim();
    let digits = size.find(|c: char| c.is_alphabetic() || c.is_whitespace()).unwrap_or(size.len());
    let (number, unit) = size.split_at(digits);
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let unit = unit.trim().to_lowercase();
    let power = match unit.as_str() {
        "" => 0,
        unit => UNITS
            .iter()
            .find(|(known, _)| *known == unit)
            .map(|(_, power)| *power)
            .ok_or_else(|| invalid().with_hint("Valid units are \"bytes\", \"B\", \"kB\", \"MB\", \"GB\", \"TB\", and \"PB\"."))?,
    };
    let bytes = (number * 1024f64.powi(power)).round();
    // The first double that is no bigint.
    match bytes.abs() < 2f64.powi(63) {
        true => Ok(bytes as i64),
        false => Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "bigint out of range")),
    }
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
    fn values_are_formatted() {
        let format = |args: &[&str]| {
            let args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
            format_text(&args).map(|text| text.as_text().unwrap_or_default()).map_err(|error| error.state.0)
        };
        assert_eq!(format(&["%2$s %1$s %%", "a", "b"]), Ok("b a %".to_string()));
        assert_eq!(format(&["|%-5s|%5s|", "a", "b"]), Ok("|a    |    b|".to_string()));
        assert_eq!(format(&["|%1$-6I|", "a b"]), Ok("|\"a b\" |".to_string()));
        assert_eq!(format(&["%s %3$s %s", "a", "b", "c", "d"]), Ok("a c d".to_string()));
        for wrong in ["%2$s", "%0$s", "%", "%5", "%y"] {
            assert_eq!(format(&[wrong, "a"]), Err("22023"), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read() {
        let read = |text| size_bytes(text).map_err(|error| error.state.0);
        assert_eq!([read("10 kB"), read("1.5GB"), read(" -1 "), read("7 bytes")], [Ok(10_240), Ok(1_610_612_736), Ok(-1), Ok(7)]);
        assert_eq!([read("x"), read("1 xb"), read("9000000 TB"), read("")], [Err("22023"), Err("22023"), Err("22003"), Err("22023")]);
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
