//! Values from clients to Arrow columns: parameters of Bind (text and binary) and fields of COPY. One
//! builder per column; a parameter is a column of one row. Text forms are those PostgreSQL accepts with
//! `DateStyle = ISO`. A value that does not fit its type is 22P02, 22003 or 22P03, naming the type.

use super::encode::{POSTGRES_EPOCH_DAYS, POSTGRES_EPOCH_MICROS};
use super::parse;
use crate::time::MICROS_PER_DAY;
use crate::{Result, SqlError, SqlState, SqlType};
use arrow::array::NullBufferBuilder;
use arrow::array::timezone::Tz;
use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::*;
use bytes::Buf;
use std::sync::Arc;

const BAD_BINARY: SqlState = SqlState("22P03");

/// Julian day 0, which is 24 November 4714 BC: in days since 2000, as the binary forms count. PostgreSQL has none before it.
const FIRST_DAY: i32 = -2_451_545;
const FIRST_MICROS: i64 = FIRST_DAY as i64 * MICROS_PER_DAY;

/// Up to the end of PostgreSQL's Julian days, since 2000.
const DAYS_END: i32 = 2_145_031_949;

/// Of an array, as in PostgreSQL.
const DIMENSIONS_MAX: i32 = 6;

/// One value as an array of one row; `None` is null. What names no zone is of `zone`.
pub fn value(bytes: Option<&[u8]>, binary: bool, ty: &SqlType, zone: Tz) -> Result<ArrayRef> {
    let mut column = ColumnBuilder::new(ty)?.in_zone(zone);
    match bytes {
        None => column.append_null(),
        Some(bytes) if binary => column.append_binary(bytes)?,
        Some(bytes) => column.append_text(utf8(bytes)?)?,
    }
    column.finish()
}

/// The text of a binary uuid.
pub fn uuid_text(bytes: &[u8]) -> Result<String> {
    let value = u128::from_be_bytes(fixed(bytes).ok_or_else(|| SqlError::new(BAD_BINARY, "incorrect binary data format for type uuid"))?);
    let digits = format!("{value:032x}");
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

pub fn utf8(bytes: &[u8]) -> Result<&str> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| SqlError::new(SqlState::BAD_CHARACTER, "invalid byte sequence for encoding \"UTF8\""))?;
    match text.contains('\0') {
        true => Err(SqlError::new(SqlState::BAD_CHARACTER, "invalid byte sequence for encoding \"UTF8\": 0x00")),
        false => Ok(text),
    }
}

/// Collects values of one SQL type.
pub struct ColumnBuilder {
    ty: SqlType,
    values: Values,
    /// Of texts that name none; UTC if there is none here.
    zone: Option<Tz>,
}

enum Values {
    Null(usize),
    Bool(BooleanBuilder),
    I16(Int16Builder),
    I32(Int32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    List { items: Box<ColumnBuilder>, lengths: Vec<usize>, nulls: NullBufferBuilder },
}

impl ColumnBuilder {
    pub fn new(ty: &SqlType) -> Result<Self> {
        let values = match ty {
            SqlType::Null => Values::Null(0),
            SqlType::Boolean => Values::Bool(BooleanBuilder::new()),
            SqlType::SmallInt => Values::I16(Int16Builder::new()),
            SqlType::Integer => Values::I32(Int32Builder::new()),
            SqlType::BigInt => Values::I64(Int64Builder::new()),
            SqlType::Real => Values::F32(Float32Builder::new()),
            SqlType::Double => Values::F64(Float64Builder::new()),
            SqlType::Decimal { .. } => Values::Decimal(Decimal128Builder::new().with_data_type(ty.to_arrow())),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json => Values::Text(StringBuilder::new()),
            SqlType::Bytes => Values::Bytes(BinaryBuilder::new()),
            SqlType::Date => Values::Date(Date32Builder::new()),
            SqlType::Time => Values::Time(Time64MicrosecondBuilder::new()),
            SqlType::Timestamp | SqlType::TimestampTz => {
                Values::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(ty.to_arrow()))
            }
            SqlType::Interval => Values::Interval(IntervalMonthDayNanoBuilder::new()),
            SqlType::Array(item) => {
                Values::List { items: Box::new(ColumnBuilder::new(item)?), lengths: Vec::new(), nulls: NullBufferBuilder::new(0) }
            }
            SqlType::Struct(_) | SqlType::Map(_, _) => {
                return Err(SqlError::unsupported(format!("values of type {ty} cannot be sent by a client"))
                    .with_hint("Send the fields and build the value in the statement."));
            }
        };
        Ok(ColumnBuilder { ty: ty.clone(), values, zone: None })
    }

    /// Texts of a `timestamptz` that name no zone are of this one, not of UTC.
    pub fn in_zone(mut self, zone: Tz) -> Self {
        if let Values::List { items, lengths, nulls } = self.values {
            self.values = Values::List { items: Box::new(items.in_zone(zone)), lengths, nulls };
        }
        self.zone = Some(zone);
        self
    }

    pub fn append_null(&mut self) {
        match &mut self.values {
            Values::Null(n) => *n += 1,
            Values::Bool(b) => b.append_null(),
            Values::I16(b) => b.append_null(),
            Values::I32(b) => b.append_null(),
            Values::I64(b) => b.append_null(),
            Values::F32(b) => b.append_null(),
            Values::F64(b) => b.append_null(),
            Values::Decimal(b) => b.append_null(),
            Values::Text(b) => b.append_null(),
            Values::Bytes(b) => b.append_null(),
            Values::Date(b) => b.append_null(),
            Values::Time(b) => b.append_null(),
            Values::Timestamp(b) => b.append_null(),
            Values::Interval(b) => b.append_null(),
            Values::List { lengths, nulls, .. } => {
                lengths.push(0);
                nulls.append_null();
            }
        }
    }

    pub fn append_text(&mut self, text: &str) -> Result<()> {
        let trimmed = text.trim();
        match &mut self.values {
            Values::Null(_) => return Err(parse::invalid("unknown", text)),
            Values::Bool(b) => b.append_value(parse::boolean(trimmed)?),
            Values::I16(b) => b.append_value(parse::integer(trimmed, "smallint")?),
            Values::I32(b) => b.append_value(parse::integer(trimmed, "integer")?),
            Values::I64(b) => b.append_value(parse::integer(trimmed, "bigint")?),
            Values::F32(b) => b.append_value(parse::float4(trimmed)?),
            Values::F64(b) => b.append_value(parse::float8(trimmed)?),
            Values::Decimal(b) => {
                let SqlType::Decimal { precision, scale } = self.ty else { return Err(parse::invalid("numeric", text)) };
                b.append_value(parse::decimal(trimmed, precision, scale)?);
            }
            Values::Text(b) => append_text(b, text, &self.ty)?,
            Values::Bytes(b) => b.append_value(parse::bytea(text)?),
            Values::Date(b) => b.append_value(parse::date(trimmed)?),
            Values::Time(b) => b.append_value(parse::time(trimmed)?),
            Values::Timestamp(b) => b.append_value(match self.ty {
                SqlType::TimestampTz => parse::timestamptz(trimmed, self.zone.as_ref())?,
                _ => parse::timestamp(trimmed)?,
            }),
            Values::Interval(b) => b.append_value(parse::interval(trimmed)?),
            Values::List { items, lengths, nulls } => {
                let elements = parse::array(trimmed)?;
                lengths.push(elements.len());
                nulls.append_non_null();
                for element in elements {
                    match element {
                        Some(text) => items.append_text(&text).map_err(|error| no_item(error, &text, &items.ty))?,
                        None => items.append_null(),
                    }
                }
            }
        }
        Ok(())
    }

    pub fn append_binary(&mut self, mut bytes: &[u8]) -> Result<()> {
        let ty = &self.ty;
        let wrong = || SqlError::new(BAD_BINARY, format!("incorrect binary data format for type {ty}"));
        match &mut self.values {
            Values::Null(_) => return Err(wrong()),
            Values::Bool(b) => b.append_value(fixed::<1>(bytes).ok_or_else(wrong)?[0] != 0),
            Values::I16(b) => b.append_value(i16::from_be_bytes(fixed(bytes).ok_or_else(wrong)?)),
            Values::I32(b) => b.append_value(i32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?)),
            // Oids have four bytes and no SQL type of their own.
            Values::I64(b) if bytes.len() == 4 => b.append_value(u32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?) as i64),
            Values::I64(b) => b.append_value(i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?)),
            Values::F32(b) => b.append_value(f32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?)),
            Values::F64(b) => b.append_value(f64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?)),
            Values::Decimal(b) => {
                let SqlType::Decimal { precision, scale } = self.ty else { return Err(wrong()) };
                b.append_value(parse::decimal(&numeric_text(bytes).ok_or_else(wrong)?, precision, scale)?);
            }
            Values::Text(b) => {
                if self.ty == SqlType::Json && bytes.first() == Some(&1) {
                    bytes.advance(1);
                }
                match (&self.ty, bytes.len()) {
                    (SqlType::Uuid, 16) => b.append_value(uuid_text(bytes)?),
                    _ => append_text(b, utf8(bytes)?, &self.ty)?,
                }
            }
            Values::Bytes(b) => b.append_value(bytes),
            // The ends of the ranges are the infinities, over there as here.
            Values::Date(b) => b.append_value(match i32::from_be_bytes(fixed(bytes).ok_or_else(wrong)?) {
                infinity @ (i32::MIN | i32::MAX) => infinity,
                day if !(FIRST_DAY..DAYS_END).contains(&day) => return Err(beyond("date")),
                day => day + POSTGRES_EPOCH_DAYS,
            }),
            Values::Time(b) => b.append_value(match i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?) {
                time @ 0..=MICROS_PER_DAY => time,
                _ => return Err(beyond("time")),
            }),
            Values::Timestamp(b) => b.append_value(match i64::from_be_bytes(fixed(bytes).ok_or_else(wrong)?) {
                infinity @ (i64::MIN | i64::MAX) => infinity,
                time if time < FIRST_MICROS => return Err(beyond("timestamp")),
                time => time.checked_add(POSTGRES_EPOCH_MICROS).ok_or_else(|| beyond("timestamp"))?,
            }),
            Values::Interval(b) => {
                if bytes.len() != 16 {
                    return Err(wrong());
                }
                let (micros, days, months) = (bytes.get_i64(), bytes.get_i32(), bytes.get_i32());
                b.append_value(IntervalMonthDayNano::new(months, days, micros.checked_mul(1000).ok_or_else(wrong)?));
            }
            Values::List { items, lengths, nulls } => {
                lengths.push(binary_array(bytes, items)?.ok_or_else(wrong)?);
                nulls.append_non_null();
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<ArrayRef> {
        Ok(match self.values {
            Values::Null(n) => Arc::new(NullArray::new(n)),
            Values::Bool(mut b) => Arc::new(b.finish()),
            Values::I16(mut b) => Arc::new(b.finish()),
            Values::I32(mut b) => Arc::new(b.finish()),
            Values::I64(mut b) => Arc::new(b.finish()),
            Values::F32(mut b) => Arc::new(b.finish()),
            Values::F64(mut b) => Arc::new(b.finish()),
            Values::Decimal(mut b) => Arc::new(b.finish()),
            Values::Text(mut b) => Arc::new(b.finish()),
            Values::Bytes(mut b) => Arc::new(b.finish()),
            Values::Date(mut b) => Arc::new(b.finish()),
            Values::Time(mut b) => Arc::new(b.finish()),
            Values::Timestamp(mut b) => Arc::new(b.finish()),
            Values::Interval(mut b) => Arc::new(b.finish()),
            Values::List { items, lengths, mut nulls } => {
                let field = Arc::new(items.ty.field("item", true));
                Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items.finish()?, nulls.finish())?)
            }
        })
    }
}

/// A value of a type whose values are texts.
fn append_text(builder: &mut StringBuilder, text: &str, ty: &SqlType) -> Result<()> {
    match ty {
        SqlType::Uuid => builder.append_value(parse::uuid(text.trim())?),
        SqlType::Varchar(length) | SqlType::Char(length) => builder.append_value(parse::limited(text, *length, ty)?),
        SqlType::Json => {
            parse::json(text)?;
            builder.append_value(text);
        }
        _ => builder.append_value(text),
    }
    Ok(())
}

/// What is wrong with an item that may be an array itself.
fn no_item(error: SqlError, text: &str, ty: &SqlType) -> SqlError {
    match text.starts_with('{') && *ty != SqlType::Json {
        true => error.with_hint(format!("An array of arrays is of another type: {ty}[][].")),
        false => error,
    }
}

fn beyond(ty: &str) -> SqlError {
    SqlError::new(SqlState("22008"), format!("{ty} out of range"))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// Appends the items of a binary array; `None` for a damaged one, and for one of more dimensions than the type has.
fn binary_array(mut bytes: &[u8], items: &mut ColumnBuilder) -> Result<Option<usize>> {
    if bytes.len() < 12 {
        return Ok(None);
    }
    let (dimensions, _has_nulls, _element) = (bytes.get_i32(), bytes.get_i32(), bytes.get_u32());
    if dimensions == 0 {
        return Ok(Some(0));
    }
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) || bytes.len() < 8 * dimensions as usize {
        return Ok(None);
    }
    let mut counts = Vec::new();
    for _ in 0..dimensions {
        let (count, _lower_bound) = (bytes.get_i32(), bytes.get_i32());
        counts.push(count.max(0) as usize);
    }
    // Otherwise each item has bytes of its own, so that there are no more than these can say.
    if counts.contains(&0) {
        return Ok(Some(0));
    }
    Ok(binary_items(&mut bytes, &counts, items)?.then_some(counts[0]))
}

/// Appends as many items as the first of the counts says, which are arrays if there are more; false if there are not as many.
fn binary_items(bytes: &mut &[u8], counts: &[usize], items: &mut ColumnBuilder) -> Result<bool> {
    let Some((count, inner)) = counts.split_first() else { return Ok(false) };
    for _ in 0..*count {
        if let Some(length) = inner.first() {
            let Values::List { items, lengths, nulls } = &mut items.values else { return Ok(false) };
            if !binary_items(bytes, inner, items)? {
                return Ok(false);
            }
            lengths.push(*length);
            nulls.append_non_null();
            continue;
        }
        if bytes.len() < 4 {
            return Ok(false);
        }
        match bytes.get_i32() {
            -1 => items.append_null(),
            length if length >= 0 && bytes.len() >= length as usize => {
                items.append_binary(&bytes[..length as usize])?;
                bytes.advance(length as usize);
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// PostgreSQL's binary numeric as decimal text; `None` for NaN, infinities and damaged ones.
fn numeric_text(mut bytes: &[u8]) -> Option<String> {
    if bytes.len() < 8 {
        return None;
    }
    let (digits, weight, sign, scale) = (bytes.get_u16() as usize, bytes.get_i16() as i32, bytes.get_u16(), bytes.get_u16() as usize);
    if bytes.len() != digits * 2 || !matches!(sign, 0 | 0x4000) || weight.unsigned_abs() > 64 || scale > 256 {
        return None;
    }
    let groups: Vec<u16> = (0..digits).map(|_| bytes.get_u16()).collect();
    let group = |at: i32| usize::try_from(at).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let mut text = String::from(if sign == 0 { "" } else { "-" });
    text.push('0');
    (0..=weight).for_each(|at| text.push_str(&format!("{:04}", group(at))));
    text.push('.');
    let fraction: String = (0..scale.div_ceil(4) as i32).map(|i| format!("{:04}", group(weight + 1 + i))).collect();
    text.push_str(&fraction[..scale.min(fraction.len())]);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_times_are_those_that_postgres_has() {
        let zone = "+00:00".parse().unwrap();
        let read = |bytes: &[u8], ty: SqlType| value(Some(bytes), true, &ty, zone).map_err(|e| e.state);
        let beyond = SqlState("22008");
        for (first, ty) in [(FIRST_MICROS, SqlType::Timestamp), (FIRST_MICROS, SqlType::TimestampTz), (0, SqlType::Time)] {
            assert!(read(&first.to_be_bytes(), ty.clone()).is_ok(), "{ty}");
            assert_eq!(read(&(first - 1).to_be_bytes(), ty).err(), Some(beyond));
        }
        assert!(read(&FIRST_DAY.to_be_bytes(), SqlType::Date).is_ok());
        assert_eq!(read(&(FIRST_DAY - 1).to_be_bytes(), SqlType::Date).err(), Some(beyond));
        assert_eq!(read(&DAYS_END.to_be_bytes(), SqlType::Date).err(), Some(beyond));
        assert_eq!(read(&(MICROS_PER_DAY + 1).to_be_bytes(), SqlType::Time).err(), Some(beyond));
        for infinity in [i64::MIN, i64::MAX] {
            assert!(read(&infinity.to_be_bytes(), SqlType::Timestamp).is_ok());
        }
        assert_eq!(read(&(i64::MAX - 1).to_be_bytes(), SqlType::Timestamp).err(), Some(beyond));
    }
}
