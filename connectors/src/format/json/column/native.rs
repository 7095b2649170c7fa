//! Values that other formats than JSON bring: text of a CSV field, typed values of a binary format.

use super::super::fault::{Fault, not_of, wrong};
use super::super::numbers::NumberFault;
use super::super::times::{day, instant};
use super::{ColumnBuffer, Values};
use eddyline_common::SqlType;
use eddyline_common::time::MICROS_PER_DAY;

/// A value as a binary format has it. Times are in microseconds, dates in days.
#[derive(Clone, Copy, Debug)]
pub enum Native<'a> {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Since 1970.
    Days(i64),
    /// Microseconds since midnight, and since 1970.
    TimeOfDay(i64),
    Instant(i64),
    Decimal {
        unscaled: i128,
        scale: i8,
    },
}

/// The fields of a row under construction.
pub struct Children<'a> {
    names: &'a [String],
    columns: &'a mut [ColumnBuffer],
    len: usize,
}

impl Children<'_> {
    /// The field of a number.
    #[inline]
    pub fn at(&mut self, index: usize) -> Option<&mut ColumnBuffer> {
        self.columns.get_mut(index)
    }

    /// The field of a name, unless it has been put already.
    pub fn find(&mut self, name: &str) -> Option<&mut ColumnBuffer> {
        let exact = self.names.iter().position(|n| n == name);
        let at = exact.or_else(|| self.names.iter().position(|n| n.eq_ignore_ascii_case(name)))?;
        let len = self.len;
        self.columns.get_mut(at).filter(|column| column.len() == len)
    }
}

/// An unscaled number in decimal digits.
fn decimal(unscaled: i128, scale: i8) -> String {
    format!("{unscaled}e{}", -(scale as i32))
}

/// A day or a time that a type does not have.
#[cold]
fn beyond(ty: &SqlType, count: i64) -> Fault {
    not_of(ty, &count.to_string(), NumberFault::Range)
}

impl ColumnBuffer {
    /// A value written as text. A nested type's text is JSON.
    pub fn put_text(&mut self, text: &str) -> Result<(), Fault> {
        self.push_text(text)?;
        self.valid.append(true);
        Ok(())
    }

    pub fn put_native(&mut self, value: Native) -> Result<(), Fault> {
        match (value, &mut self.values) {
            (Native::Text(text), _) => return self.put_text(text),
            (Native::Boolean(value), _) => self.push_boolean(value)?,
            (Native::Bytes(bytes), Values::Binary(values)) => values.push(bytes),
            (Native::Bytes(_), _) => return Err(wrong(&self.ty, "bytes")),
            (Native::Integer(value), Values::BigInt(values)) => values.push(value),
            (Native::Integer(value), Values::Integer(values)) => {
                values.push(i32::try_from(value).map_err(|_| not_of(&self.ty, &value.to_string(), NumberFault::Range))?);
            }
            (Native::Integer(value), Values::SmallInt(values)) => {
                values.push(i16::try_from(value).map_err(|_| not_of(&self.ty, &value.to_string(), NumberFault::Range))?);
            }
            (Native::Float(value), Values::Double(values)) => values.push(value),
            (Native::Float(value), Values::Real(_)) if value.is_finite() && (value as f32).is_infinite() => {
                return Err(not_of(&self.ty, &value.to_string(), NumberFault::Range));
            }
            (Native::Float(value), Values::Real(values)) => values.push(value as f32),
            (Native::Days(days), Values::Date(values)) => values.push(day(days).ok_or_else(|| beyond(&self.ty, days))?),
            (Native::TimeOfDay(micros), Values::Time(values)) => match (0..MICROS_PER_DAY).contains(&micros) {
                true => values.push(micros),
                false => return Err(beyond(&self.ty, micros)),
            },
            (Native::Instant(micros), Values::Timestamp(values)) => values.push(instant(micros).ok_or_else(|| beyond(&self.ty, micros))?),
            (Native::Days(days), Values::Timestamp(values)) => {
                values.push(days.checked_mul(MICROS_PER_DAY).and_then(instant).ok_or_else(|| beyond(&self.ty, days))?);
            }
            (Native::Days(number) | Native::TimeOfDay(number) | Native::Instant(number), Values::BigInt(values)) => values.push(number),
            (Native::Days(_) | Native::TimeOfDay(_) | Native::Instant(_), _) => return Err(wrong(&self.ty, "a time")),
            (Native::Decimal { unscaled, scale }, _) => return self.put_text(&decimal(unscaled, scale)),
            // Nine digits and more have room before the point.
            (Native::Integer(value), Values::Decimal { values, precision, scale: 0 })
                if *precision >= 19 || value.unsigned_abs() < 1_000_000_000 && *precision >= 9 =>
            {
                values.push(value.into());
            }
            // The rest is rare enough to go by way of text.
            (Native::Integer(value), _) => return self.put_text(&value.to_string()),
            (Native::Float(value), _) => return self.put_text(&value.to_string()),
        }
        self.valid.append(true);
        Ok(())
    }

    /// An array whose items are put by `fill`.
    pub fn put_list(&mut self, fill: impl FnOnce(&mut ColumnBuffer) -> Result<(), Fault>) -> Result<(), Fault> {
        let Values::List { offsets, items } = &mut self.values else { return Err(wrong(&self.ty, "an array")) };
        fill(items)?;
        offsets.push(items.len() as i32);
        self.valid.append(true);
        Ok(())
    }

    /// A map whose keys and values are put by `fill`.
    pub fn put_map(&mut self, fill: impl FnOnce(&mut ColumnBuffer, &mut ColumnBuffer) -> Result<(), Fault>) -> Result<(), Fault> {
        let Values::Map { offsets, keys, items } = &mut self.values else { return Err(wrong(&self.ty, "a map")) };
        fill(keys, items)?;
        offsets.push(keys.len() as i32);
        self.valid.append(true);
        Ok(())
    }

    /// A row whose fields are put by `fill`; those it does not put are NULL.
    pub fn put_struct(&mut self, fill: impl FnOnce(&mut Children) -> Result<(), Fault>) -> Result<(), Fault> {
        let len = self.len();
        let Values::Struct { names, children, .. } = &mut self.values else { return Err(wrong(&self.ty, "a record")) };
        fill(&mut Children { names, columns: children, len })?;
        children.iter_mut().filter(|child| child.len() == len).for_each(ColumnBuffer::push_null);
        self.valid.append(true);
        Ok(())
    }

    /// An array of values written as text.
    pub fn put_texts<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
        let Values::List { offsets, items } = &mut self.values else { return Err(wrong(&self.ty, "a list")) };
        for (index, text) in texts.enumerate() {
            items.put_text(text.trim()).map_err(|fault| fault.below(|| format!("[{index}]")))?;
        }
        offsets.push(items.len() as i32);
        self.valid.append(true);
        Ok(())
    }

    /// Whether two values are surely equal. Nested values never are: nobody identifies rows by them.
    pub fn are_equal(&self, a: usize, b: usize) -> bool {
        if !self.valid.get_bit(a) || !self.valid.get_bit(b) {
            return self.valid.get_bit(a) == self.valid.get_bit(b);
        }
        match &self.values {
            Values::Boolean(values) => values.get_bit(a) == values.get_bit(b),
            Values::SmallInt(values) => values[a] == values[b],
            Values::Integer(values) | Values::Date(values) => values[a] == values[b],
            Values::BigInt(values) | Values::Time(values) | Values::Timestamp(values) => values[a] == values[b],
            Values::Decimal { values, .. } => values[a] == values[b],
            Values::Real(values) => values[a].to_bits() == values[b].to_bits(),
            Values::Double(values) => values[a].to_bits() == values[b].to_bits(),
            Values::Text(bytes) | Values::Json(bytes) | Values::Binary(bytes) => bytes.get(a) == bytes.get(b),
            Values::List { .. } | Values::Struct { .. } | Values::Map { .. } | Values::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::times::NumberUnit;
    use super::*;

    #[test]
    fn times_and_floats_are_those_of_their_types() {
        let refused = |ty: SqlType, value: Native| {
            let mut column = ColumnBuffer::new("c", &ty, NumberUnit::default()).unwrap();
            column.put_native(value).err().map(|fault| fault.in_column("c"))
        };
        for (ty, good, bad) in [
            (SqlType::Time, Native::TimeOfDay(MICROS_PER_DAY - 1), Native::TimeOfDay(MICROS_PER_DAY)),
            (SqlType::Time, Native::TimeOfDay(0), Native::TimeOfDay(-1)),
            (SqlType::Date, Native::Days(2_145_042_905), Native::Days(2_145_042_906)),
            (SqlType::Date, Native::Days(-2_440_588), Native::Days(-2_440_589)),
            (SqlType::Date, Native::Days(i32::MAX.into()), Native::Days(i64::MAX)),
            (SqlType::Timestamp, Native::Instant(i64::MAX - 1), Native::Instant(i64::MAX)),
            (SqlType::Timestamp, Native::Days(-2_440_588), Native::Days(-2_440_589)),
            (SqlType::Real, Native::Float(3.4e38), Native::Float(1e39)),
            (SqlType::Real, Native::Float(f64::INFINITY), Native::Float(-1e39)),
        ] {
            assert_eq!(refused(ty.clone(), good), None, "{good:?}");
            assert!(refused(ty.clone(), bad).is_some_and(|why| why.contains(&format!("is out of range for {ty}"))), "{bad:?}");
        }
    }
}
