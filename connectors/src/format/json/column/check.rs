//! Values that nobody reads: whether a JSON value is one that its column takes, without making it. Only usual spellings are known here. Of any
//! other `push` decides, so that what is refused, and in which words, is the same whoever reads.

use super::super::binary::parse_binary;
use super::super::cursor::{Cursor, Number};
use super::super::numbers::parse_decimal;
use super::super::times::{day, parse_date, parse_time, parse_timestamp};
use super::{ColumnBuffer, Values};

/// A number of so many characters and without an exponent is below the greatest real, 3.4e38.
const REAL_CHARS_MAX: usize = 38;

impl ColumnBuffer {
    /// Passes over the value at the cursor and notes that there is one, if it is surely one that `push` takes. If not, nothing has happened. For
    /// a column that holds the row under construction at most, and is not finished.
    #[inline]
    pub fn pass(&mut self, cursor: &mut Cursor, depth: usize) -> bool {
        let mut ahead = *cursor;
        if !self.takes(&mut ahead, depth) {
            return false;
        }
        *cursor = ahead;
        if self.is_empty() {
            self.valid.append(false);
        }
        true
    }

    /// Whether `push` takes the value at the cursor, and leaves the cursor behind it as this does. False says nothing.
    fn takes(&mut self, cursor: &mut Cursor, depth: usize) -> bool {
        let first = cursor.peek();
        if first == b'n' {
            return cursor.literal("null").is_ok();
        }
        match (first, &mut self.values) {
            (b'"', Values::Text(_)) => cursor.string().is_ok_and(|string| string.check().is_ok() && !string.may_have_nul()),
            (_, Values::Text(_) | Values::Json(_) | Values::Nothing) => cursor.skip_value(depth).is_ok(),
            (b'"', _) => cursor.string().is_ok_and(|string| !string.escaped && self.takes_text(string.raw)),
            (b'-' | b'0'..=b'9', _) => cursor.number().is_ok_and(|number| self.takes_number(number)),
            (b't', Values::Boolean(_)) => cursor.literal("true").is_ok(),
            (b'f', Values::Boolean(_)) => cursor.literal("false").is_ok(),
            (b'[', Values::List { items, .. }) => cursor.read_elements(|cursor| sure(items.takes(cursor, depth + 1))).is_ok(),
            (b'{', Values::Struct { map, children, .. }) => {
                map.read_object(cursor, |index, cursor| sure(children[index].takes(cursor, depth + 1))).is_ok()
            }
            (b'{', Values::Map { keys, items, .. }) => {
                let entries = cursor.read_members(|key, cursor| {
                    let mut value = *cursor;
                    cursor.skip_value(depth + 1)?;
                    sure(!key.escaped && keys.takes_text(key.raw) && items.takes(&mut value, depth + 1))
                });
                entries.is_ok()
            }
            _ => false,
        }
    }

    /// Whether `push_number` takes it.
    #[inline]
    fn takes_number(&self, number: Number) -> bool {
        match &self.values {
            Values::BigInt(_) => number.integer.is_some(),
            Values::Integer(_) => number.integer.is_some_and(|value| i32::try_from(value).is_ok()),
            Values::Date(_) => number.integer.is_some_and(|value| day(value).is_some()),
            Values::SmallInt(_) => number.integer.is_some_and(|value| i16::try_from(value).is_ok()),
            // Every number of JSON is one, if need be infinite.
            Values::Double(_) => true,
            Values::Real(_) => number.text.len() <= REAL_CHARS_MAX && !number.text.contains(['e', 'E']),
            Values::Decimal { precision, scale, .. } => parse_decimal(number.text, *precision, *scale).is_ok(),
            Values::Timestamp(_) => number.integer.is_some_and(|value| self.unit.micros(value).is_some()),
            _ => false,
        }
    }

    /// Whether `push_text` takes it.
    fn takes_text(&self, text: &str) -> bool {
        match &self.values {
            Values::Text(_) | Values::Json(_) | Values::Nothing => true,
            Values::BigInt(_) => text.parse::<i64>().is_ok(),
            Values::Integer(_) => text.parse::<i32>().is_ok(),
            Values::SmallInt(_) => text.parse::<i16>().is_ok(),
            Values::Decimal { precision, scale, .. } => parse_decimal(text, *precision, *scale).is_ok(),
            Values::Date(_) => parse_date(text).is_some(),
            Values::Time(_) => parse_time(text).is_some(),
            Values::Timestamp(_) => parse_timestamp(text).is_some(),
            Values::Binary(_) => parse_binary(text).is_some(),
            _ => false,
        }
    }
}

/// Ends the walk over a nested value of which something is not sure.
fn sure(taken: bool) -> Result<(), String> {
    if taken { Ok(()) } else { Err(String::new()) }
}

#[cfg(test)]
mod tests {
    use super::super::NumberUnit;
    use super::*;
    use eddyline_common::SqlType::{self, *};

    /// Whether a value is passed over, and how much of it.
    fn passed(ty: &SqlType, text: &str) -> (bool, bool) {
        let mut column = ColumnBuffer::new("x", ty, NumberUnit::Millis).unwrap();
        let mut cursor = Cursor::new(text);
        let passed = column.pass(&mut cursor, 1);
        assert_eq!(column.len(), usize::from(passed), "it is noted that there is a value: {ty} {text}");
        (passed, cursor.at_end())
    }

    #[test]
    fn usual_values_are_passed_over() {
        let row = Struct(vec![("a".into(), BigInt), ("b".into(), Text)]);
        for (ty, texts) in [
            (Text, vec![r#""x""#, r#""a\nb""#, "1", "true", "{\"a\": [1]}", "null"]),
            (Json, vec!["{\"a\": [1]}", "1e9"]),
            (BigInt, vec!["-17", "\"17\"", " 1"]),
            (Integer, vec!["2147483647"]),
            (SmallInt, vec!["-32768"]),
            (Double, vec!["1", "-1.5e300", "1e999"]),
            (Real, vec!["1.25"]),
            (Decimal { precision: 10, scale: 2 }, vec!["12.345", "\"12.3\""]),
            (Boolean, vec!["true", "false", "null"]),
            (Date, vec!["\"2015-07-15\"", "17000"]),
            (Time, vec!["\"01:02:03\""]),
            (Timestamp, vec!["\"2015-07-15 00:00:01.250\"", "1436918400000"]),
            (Bytes, vec!["\"aGk=\""]),
            (Array(Box::new(BigInt)), vec!["[]", "[1, null, 3]"]),
            (row.clone(), vec!["{}", r#"{"b": "x", "c": {}, "A": 1}"#]),
            (Map(Box::new(Text), Box::new(row)), vec![r#"{"k": {"a": 1}, "l": null}"#]),
        ] {
            for text in texts {
                assert_eq!(passed(&ty, text), (true, true), "{ty} {text}");
            }
        }
    }

    #[test]
    fn of_what_is_not_sure_nothing_is_taken() {
        for (ty, text) in [
            (BigInt, "1.0"),
            (BigInt, "9223372036854775808"),
            (BigInt, "true"),
            (SmallInt, "40000"),
            (Real, "1e39"),
            (Timestamp, r#""2015-07-15\u0020""#),
            (Timestamp, "\"tomorrow\""),
            (Boolean, "\"true\""),
            (Text, "\"a"),
            (Text, r#""\q""#),
            (Text, r#""a\u0000""#),
            (Array(Box::new(BigInt)), "[1, 2"),
            (Array(Box::new(BigInt)), "[1, true]"),
            (Map(Box::new(BigInt), Box::new(Text)), r#"{"x": "y"}"#),
        ] {
            assert_eq!(passed(&ty, text), (false, false), "{ty} {text}");
        }
    }
}
