//! JSON values of which the record's schema says what they mean, into columns that have a value of that kind. A column of another
//! type takes them as they are written, and so does any column what is written otherwise than its meaning is.

use super::super::binary::parse_binary;
use super::super::connect::Meaning;
use super::super::cursor::Cursor;
use super::super::fault::{Fault, not_of};
use super::super::numbers::{NumberFault, big_endian, parse_integer};
use super::{ColumnBuffer, Native, Values, without_nul};
use eddyline_common::time::MICROS_PER_DAY;

impl ColumnBuffer {
    /// Takes the value at the cursor. After a fault the column may hold a part of it: truncate.
    pub fn push_meant(&mut self, cursor: &mut Cursor, meaning: &Meaning, depth: usize) -> Result<(), Fault> {
        let (first, is_numeric) = (cursor.peek(), is_numeric(&self.values));
        match (meaning, first, &mut self.values) {
            (Meaning::Day, b'-' | b'0'..=b'9', Values::Timestamp(_))
            | (Meaning::TimeOfDay(_), b'-' | b'0'..=b'9', Values::Time(_))
            | (Meaning::Instant(_), b'-' | b'0'..=b'9', Values::Timestamp(_) | Values::Date(_)) => self.push_time(cursor, meaning),
            (Meaning::Decimal(scale), b'"', _) if is_numeric => {
                let unscaled = unscaled(&cursor.string()?.unescape()?)?;
                self.push_decimal(unscaled, *scale)
            }
            (Meaning::VariableDecimal, b'{', _) if is_numeric => {
                let (unscaled, scale) = variable_decimal(cursor, depth)?;
                self.push_decimal(unscaled, scale)
            }
            (Meaning::Document, b'"', Values::Json(bytes)) => {
                let text = cursor.string()?.unescape()?;
                let mut inner = Cursor::new(&text);
                if inner.skip_value(depth).is_err() || !inner.at_end() {
                    return Err(Fault::value("the string holds no JSON"));
                }
                bytes.push(without_nul(&text)?);
                self.valid.append(true);
                Ok(())
            }
            (Meaning::Array(item), b'[', Values::List { offsets, items }) => {
                let start = items.len();
                cursor.read_elements(|cursor| {
                    let index = items.len() - start;
                    items.push_meant(cursor, item, depth + 1).map_err(|fault| fault.below(|| format!("[{index}]")))
                })?;
                offsets.push(items.len() as i32);
                self.valid.append(true);
                Ok(())
            }
            _ => self.push(cursor, depth),
        }
    }

    fn push_time(&mut self, cursor: &mut Cursor, meaning: &Meaning) -> Result<(), Fault> {
        let number = cursor.number()?;
        let value = number.integer.map_or_else(|| parse_integer(number.text), Ok).map_err(|fault| not_of(&self.ty, number.text, fault))?;
        let native = match meaning {
            Meaning::TimeOfDay(unit) => unit.micros(value).filter(|micros| (0..MICROS_PER_DAY).contains(micros)).map(Native::TimeOfDay),
            Meaning::Instant(unit) => unit.micros(value).map(|micros| match &self.values {
                Values::Date(_) => Native::Days(micros.div_euclid(MICROS_PER_DAY)),
                _ => Native::Instant(micros),
            }),
            _ => value.checked_mul(MICROS_PER_DAY).map(Native::Instant),
        };
        self.put_native(native.ok_or_else(|| not_of(&self.ty, number.text, NumberFault::Range))?)
    }

    fn push_decimal(&mut self, unscaled: i128, scale: i8) -> Result<(), Fault> {
        match &self.values {
            Values::Text(_) => self.put_text(&digits(unscaled, scale)),
            _ => self.put_native(Native::Decimal { unscaled, scale }),
        }
    }
}

/// Whether a column's values may be decimals. A text has their digits.
fn is_numeric(values: &Values) -> bool {
    let is_float = matches!(values, Values::Real(_) | Values::Double(_));
    let is_whole = matches!(values, Values::SmallInt(_) | Values::Integer(_) | Values::BigInt(_));
    is_float || is_whole || matches!(values, Values::Decimal { .. } | Values::Text(_))
}

fn unscaled(text: &str) -> Result<i128, Fault> {
    let bytes = parse_binary(text).ok_or_else(|| Fault::value("a decimal's bytes are not in base64"))?;
    big_endian(&bytes).ok_or_else(|| Fault::value("a decimal of more than 38 digits"))
}

/// `{"scale": 2, "value": "..."}`
fn variable_decimal(cursor: &mut Cursor, depth: usize) -> Result<(i128, i8), Fault> {
    let (mut scale, mut value) = (None, None);
    cursor.read_members(|name, cursor| -> Result<(), Fault> {
        let first = cursor.peek();
        match (name.raw, first) {
            ("scale", b'-' | b'0'..=b'9') => scale = cursor.number()?.integer.and_then(|scale| i8::try_from(scale).ok()),
            ("value", b'"') => value = Some(unscaled(&cursor.string()?.unescape()?)?),
            _ => {
                cursor.skip_value(depth + 1)?;
            }
        }
        Ok(())
    })?;
    value.zip(scale).ok_or_else(|| Fault::value("a decimal without its scale or value"))
}

/// A decimal as it is written, without an exponent.
fn digits(unscaled: i128, scale: i8) -> String {
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        let zeros = if unscaled == 0 { 0 } else { places };
        return format!("{unscaled}{}", "0".repeat(zeros));
    }
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_as_they_are_written() {
        for (unscaled, scale, text) in [(12_345, 2, "123.45"), (-5, 2, "-0.05"), (0, 2, "0.00"), (7, 0, "7"), (-7, -2, "-700")] {
            assert_eq!(digits(unscaled, scale), text);
        }
    }
}
