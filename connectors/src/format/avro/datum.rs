//! Avro's binary encoding, read into columns or skipped.

use super::schema::{Schema, Type, TypeId};
use crate::format::json::numbers::big_endian;
use crate::format::json::{ColumnBuffer, Fault, Native};
use eddyline_common::time::MICROS_PER_SECOND;

/// Nesting of a datum.
const DEPTH_MAX: usize = 64;

pub struct Reader<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    at: usize,
    /// Of all arrays and maps so far.
    items: u64,
}

type Read<T> = Result<T, Fault>;

impl<'a> Reader<'a> {
    pub fn new(schema: &'a Schema, bytes: &'a [u8]) -> Self {
        Reader { schema, bytes, at: 0, items: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    #[cold]
    fn malformed<T>(&self, what: &str) -> Read<T> {
        Err(Fault::Malformed(format!("malformed Avro at byte {}: {what}", self.at)))
    }

    fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        match self.bytes.get(self.at..self.at.saturating_add(len)) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => self.malformed("the record ends early"),
        }
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.try_into().or_else(|_| self.malformed("the record ends early"))
    }

    /// A zigzag number of variable length.
    fn long(&mut self) -> Read<i64> {
        let mut value: u64 = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array::<1>()?;
            let bits = (byte & 0x7F) as u64;
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        self.malformed("a number of more than 64 bits")
    }

    fn sized(&mut self) -> Read<&'a [u8]> {
        let len = self.long()?;
        match usize::try_from(len) {
            Ok(len) => self.take(len),
            Err(_) => self.malformed("a negative length"),
        }
    }

    fn text(&mut self) -> Read<&'a str> {
        let bytes = self.sized()?;
        std::str::from_utf8(bytes).or_else(|_| self.malformed("a string that is not UTF-8"))
    }

    /// Reads a value of a type into a column, or past it.
    pub fn read(&mut self, ty: TypeId, column: Option<&mut ColumnBuffer>, depth: usize) -> Read<()> {
        if depth > DEPTH_MAX {
            return self.malformed("nested too deep");
        }
        let native = match self.schema.get(ty) {
            Type::Null => {
                if let Some(column) = column {
                    column.push_null();
                }
                return Ok(());
            }
            Type::Union(branches) => {
                let branch = self.long()?;
                let Some(branch) = usize::try_from(branch).ok().and_then(|b| branches.get(b)) else {
                    return self.malformed("a branch that the union does not have");
                };
                return self.read(*branch, column, depth + 1);
            }
            Type::Record(fields) => return self.record(fields, column, depth),
            Type::Array(item) => return self.items(*item, column, depth),
            Type::Map(value) => return self.entries(*value, column, depth),
            Type::Boolean => {
                let [byte] = self.array::<1>()?;
                Native::Boolean(byte != 0)
            }
            Type::Int | Type::Long => Native::Integer(self.long()?),
            Type::Float => Native::Float(f32::from_le_bytes(self.array()?).into()),
            Type::Double => Native::Float(f64::from_le_bytes(self.array()?)),
            Type::Bytes => Native::Bytes(self.sized()?),
            Type::String => Native::Text(self.text()?),
            Type::Fixed(size) => Native::Bytes(self.take(*size)?),
            Type::Enum(symbols) => {
                let symbol = self.long()?;
                match usize::try_from(symbol).ok().and_then(|s| symbols.get(s)) {
                    Some(symbol) => Native::Text(symbol),
                    None => return self.malformed("a symbol that the enum does not have"),
                }
            }
            Type::Date => Native::Days(self.long()?),
            Type::TimeOfDay { per_second } => Native::TimeOfDay(self.micros(*per_second)?),
            Type::Instant { per_second, .. } => Native::Instant(self.micros(*per_second)?),
            Type::Decimal { scale, size, .. } => {
                let bytes = match size {
                    Some(size) => self.take(*size)?,
                    None => self.sized()?,
                };
                let Some(unscaled) = big_endian(bytes) else { return self.malformed("a decimal of more than 128 bits") };
                Native::Decimal { unscaled, scale: *scale }
            }
        };
        column.map_or(Ok(()), |column| column.put_native(native))
    }

    fn micros(&mut self, per_second: i64) -> Read<i64> {
        let count = self.long()?;
        let micros = if per_second > MICROS_PER_SECOND {
            Some(count.div_euclid(per_second / MICROS_PER_SECOND))
        } else {
            count.checked_mul(MICROS_PER_SECOND / per_second)
        };
        micros.map_or_else(|| self.malformed("a time out of range"), Ok)
    }

    fn record(&mut self, fields: &'a [(String, TypeId)], column: Option<&mut ColumnBuffer>, depth: usize) -> Read<()> {
        let Some(column) = column else {
            return fields.iter().try_for_each(|(_, ty)| self.read(*ty, None, depth + 1));
        };
        column.put_struct(|children| {
            for (name, ty) in fields {
                match children.find(name) {
                    Some(child) => self.read(*ty, Some(child), depth + 1).map_err(|fault| fault.below(|| format!(".{name}")))?,
                    None => self.read(*ty, None, depth + 1)?,
                }
            }
            Ok(())
        })
    }

    /// How many items the next block of an array or map has; 0 at the end.
    fn block(&mut self) -> Read<u64> {
        let count = self.long()?;
        if count < 0 {
            self.long()?; // the block's bytes, for skipping
        }
        let count = count.unsigned_abs();
        self.items = self.items.saturating_add(count);
        // Every item takes a byte at least, but for nulls, of which nobody writes so many.
        if self.items > self.bytes.len() as u64 { self.malformed("more items than the record has bytes") } else { Ok(count) }
    }

    fn items(&mut self, item: TypeId, column: Option<&mut ColumnBuffer>, depth: usize) -> Read<()> {
        let mut read_all = |mut items: Option<&mut ColumnBuffer>| {
            loop {
                let count = self.block()?;
                if count == 0 {
                    return Ok(());
                }
                for _ in 0..count {
                    self.read(item, items.as_deref_mut(), depth + 1)?;
                }
            }
        };
        match column {
            None => read_all(None),
            Some(column) => column.put_list(|items| read_all(Some(items))),
        }
    }

    fn entries(&mut self, value: TypeId, column: Option<&mut ColumnBuffer>, depth: usize) -> Read<()> {
        let Some(column) = column else {
            loop {
                let count = self.block()?;
                if count == 0 {
                    return Ok(());
                }
                for _ in 0..count {
                    self.text()?;
                    self.read(value, None, depth + 1)?;
                }
            }
        };
        column.put_map(|keys, items| {
            loop {
                let count = self.block()?;
                if count == 0 {
                    return Ok(());
                }
                for _ in 0..count {
                    keys.put_text(self.text()?)?;
                    self.read(value, Some(items), depth + 1)?;
                }
            }
        })
    }
}
