//! One column under construction: values of one SQL type from JSON tokens, which can be cut back to a former length
//! (a record that fails halfway, a field given twice). Nested types hold columns in turn. Other formats put
//! their values in through `native`; `check` passes over values that nobody reads, `meant` takes those of which a schema says more.

mod check;
mod meant;
mod native;

pub use native::Native;

use super::binary::parse_binary;
use super::cursor::{Cursor, Number, RawString};
use super::fault::{Fault, not_of, wrong};
use super::fields::FieldMap;
use super::numbers::{NumberFault, parse_decimal, parse_float, parse_integer};
use super::times::{NumberUnit, day, micros_of_number, parse_date, parse_time, parse_timestamp};
use arrow::array::{ArrayRef, BooleanBufferBuilder, new_null_array};
use arrow::array::{BinaryArray, BooleanArray, Decimal128Array, ListArray, MapArray, PrimitiveArray, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Fields, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use arrow::datatypes::{Date32Type, Time64MicrosecondType, TimestampMicrosecondType};
use eddyline_common::postgres::parse::fitting;
use eddyline_common::{Result as SqlResult, SqlError, SqlType};
use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;

/// Values of variable length, end to end.
struct Bytes {
    /// Starts with 0; one more than values.
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl Bytes {
    fn new() -> Self {
        Bytes { offsets: vec![0], data: Vec::new() }
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.offsets.push(self.data.len() as i32);
    }

    fn get(&self, index: usize) -> &[u8] {
        &self.data[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.data.truncate(self.offsets[len] as usize);
    }

    fn shorten_last(&mut self, len: usize) {
        let last = self.offsets.len() - 1;
        self.offsets[last] = self.offsets[last - 1] + len as i32;
        self.data.truncate(self.offsets[last] as usize);
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        // The next batch will be about as large.
        let next = Bytes { offsets: Vec::with_capacity(self.offsets.len()), data: Vec::with_capacity(self.data.len()) };
        let done = std::mem::replace(self, next);
        self.offsets.push(0);
        (OffsetBuffer::new(ScalarBuffer::from(done.offsets)), Buffer::from_vec(done.data))
    }
}

enum Values {
    Boolean(BooleanBufferBuilder),
    SmallInt(Vec<i16>),
    Integer(Vec<i32>),
    BigInt(Vec<i64>),
    Real(Vec<f32>),
    Double(Vec<f64>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Text(Bytes),
    Json(Bytes),
    Binary(Bytes),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    List {
        offsets: Vec<i32>,
        items: Box<ColumnBuffer>,
    },
    Struct {
        map: FieldMap,
        names: Vec<String>,
        children: Vec<ColumnBuffer>,
    },
    Map {
        offsets: Vec<i32>,
        keys: Box<ColumnBuffer>,
        items: Box<ColumnBuffer>,
    },
    /// Of the type of a bare NULL.
    Nothing,
}

pub struct ColumnBuffer {
    ty: SqlType,
    values: Values,
    valid: BooleanBufferBuilder,
    /// What a number in a time's place counts.
    unit: NumberUnit,
}

impl ColumnBuffer {
    /// `name` is the column's, for errors.
    pub fn new(name: &str, ty: &SqlType, unit: NumberUnit) -> SqlResult<Self> {
        let child = |ty: &SqlType| ColumnBuffer::new(name, ty, unit).map(Box::new);
        let values = match ty {
            SqlType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            SqlType::SmallInt => Values::SmallInt(vec![]),
            SqlType::Integer => Values::Integer(vec![]),
            SqlType::BigInt => Values::BigInt(vec![]),
            SqlType::Real => Values::Real(vec![]),
            SqlType::Double => Values::Double(vec![]),
            SqlType::Decimal { precision, scale } => Values::Decimal { values: vec![], precision: *precision, scale: *scale },
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid => Values::Text(Bytes::new()),
            SqlType::Json => Values::Json(Bytes::new()),
            SqlType::Bytes => Values::Binary(Bytes::new()),
            SqlType::Date => Values::Date(vec![]),
            SqlType::Time => Values::Time(vec![]),
            SqlType::Timestamp | SqlType::TimestampTz => Values::Timestamp(vec![]),
            SqlType::Array(item) => Values::List { offsets: vec![0], items: child(item)? },
            SqlType::Struct(fields) => Values::Struct {
                map: FieldMap::new(fields.iter().map(|(name, _)| name.as_str())),
                names: fields.iter().map(|(name, _)| name.clone()).collect(),
                children: fields.iter().map(|(_, ty)| ColumnBuffer::new(name, ty, unit)).collect::<SqlResult<_>>()?,
            },
            SqlType::Map(key, item) if !matches!(**key, SqlType::Array(_) | SqlType::Struct(_) | SqlType::Map(..)) => {
                Values::Map { offsets: vec![0], keys: child(key)?, items: child(item)? }
            }
            SqlType::Null => Values::Nothing,
            SqlType::Interval | SqlType::Map(..) => {
                return Err(SqlError::unsupported(format!("column \"{name}\" of type {ty} cannot be read from a record")));
            }
        };
        Ok(ColumnBuffer { ty: ty.clone(), values, valid: BooleanBufferBuilder::new(0), unit })
    }

    pub fn len(&self) -> usize {
        self.valid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn last_is_null(&self) -> bool {
        !self.is_empty() && !self.valid.get_bit(self.len() - 1)
    }

    /// Cuts blanks off the newest text that are behind so many characters; false if it is longer than that all the same.
    pub fn limit_last(&mut self, characters: u32) -> bool {
        let Values::Text(bytes) = &mut self.values else { return true };
        let Some(last) = (bytes.offsets.len() - 1).checked_sub(1) else { return true };
        let text = bytes.get(last);
        // So many bytes are no more characters.
        if text.len() <= characters as usize {
            return true;
        }
        let Some(fits) = std::str::from_utf8(text).ok().and_then(|text| fitting(text, characters)).map(str::len) else { return false };
        bytes.shorten_last(fits);
        true
    }

    pub fn truncate(&mut self, len: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::SmallInt(values) => values.truncate(len),
            Values::Integer(values) | Values::Date(values) => values.truncate(len),
            Values::BigInt(values) | Values::Time(values) | Values::Timestamp(values) => values.truncate(len),
            Values::Real(values) => values.truncate(len),
            Values::Double(values) => values.truncate(len),
            Values::Decimal { values, .. } => values.truncate(len),
            Values::Text(bytes) | Values::Json(bytes) | Values::Binary(bytes) => {
                if bytes.offsets.len() > len + 1 {
                    bytes.truncate(len);
                }
            }
            Values::List { offsets, items } => {
                offsets.truncate(len + 1);
                items.truncate(offsets.last().map_or(0, |end| *end as usize));
            }
            Values::Struct { children, .. } => children.iter_mut().for_each(|child| child.truncate(len)),
            Values::Map { offsets, keys, items } => {
                offsets.truncate(len + 1);
                let end = offsets.last().map_or(0, |end| *end as usize);
                keys.truncate(end);
                items.truncate(end);
            }
            Values::Nothing => {}
        }
        self.valid.truncate(len.min(self.valid.len()));
    }

    pub fn push_null(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::SmallInt(values) => values.push(0),
            Values::Integer(values) | Values::Date(values) => values.push(0),
            Values::BigInt(values) | Values::Time(values) | Values::Timestamp(values) => values.push(0),
            Values::Real(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Text(bytes) | Values::Json(bytes) | Values::Binary(bytes) => bytes.push(&[]),
            Values::List { offsets, items } => offsets.push(items.len() as i32),
            Values::Struct { children, .. } => children.iter_mut().for_each(ColumnBuffer::push_null),
            Values::Map { offsets, keys, .. } => offsets.push(keys.len() as i32),
            Values::Nothing => {}
        }
        self.valid.append(false);
    }

    /// Takes the value at the cursor. After a fault the column may hold a part of it: truncate.
    #[inline]
    pub fn push<'a>(&mut self, cursor: &mut Cursor<'a>, depth: usize) -> Result<(), Fault> {
        let first = cursor.peek();
        if first == b'n' {
            cursor.literal("null")?;
            self.push_null();
            return Ok(());
        }
        match (first, &mut self.values) {
            (_, Values::Json(bytes)) => bytes.push(cursor.skip_value(depth)?.as_bytes()),
            (b'"', Values::Text(bytes)) => match cursor.string()? {
                RawString { raw, escaped: false } => bytes.push(raw.as_bytes()),
                string => bytes.push(without_nul(&string.unescape()?)?),
            },
            (b'"', _) => {
                let text = cursor.string()?.unescape()?;
                self.push_text(&text)?;
            }
            (b'-' | b'0'..=b'9', _) => {
                let number = cursor.number()?;
                self.push_number(number)?;
            }
            (b't' | b'f', _) => {
                cursor.literal(if first == b't' { "true" } else { "false" })?;
                self.push_boolean(first == b't')?;
            }
            (b'{' | b'[', _) => return self.push_nested(cursor, first, depth),
            _ => return Err(Fault::Malformed(cursor.malformed("not a JSON value"))),
        }
        self.valid.append(true);
        Ok(())
    }

    #[inline]
    fn push_number(&mut self, number: Number) -> Result<(), Fault> {
        let text = number.text;
        let integer = || match number.integer {
            Some(value) => Ok(value),
            None => parse_integer(text),
        };
        match &mut self.values {
            Values::BigInt(values) => values.push(integer().map_err(|f| not_of(&self.ty, text, f))?),
            Values::Integer(values) => values.push(narrow(&self.ty, text, integer())?),
            Values::SmallInt(values) => values.push(narrow(&self.ty, text, integer())?),
            Values::Double(values) => values.push(parse_float(text).ok_or_else(|| not_of(&self.ty, text, NumberFault::Malformed))?),
            Values::Real(values) => values.push(real(&self.ty, text)?),
            Values::Decimal { values, precision, scale } => match number.integer {
                Some(value) if *scale >= 0 && value.unsigned_abs() < 1_000_000_000 && *precision >= *scale as u8 + 9 => {
                    values.push(value as i128 * 10i128.pow(*scale as u32));
                }
                _ => values.push(parse_decimal(text, *precision, *scale).map_err(|f| not_of(&self.ty, text, f))?),
            },
            Values::Timestamp(values) => {
                values.push(micros_of_number(text, self.unit).ok_or_else(|| not_of(&self.ty, text, NumberFault::Range))?)
            }
            // Days since the epoch, as change data capture writes dates.
            Values::Date(values) => {
                let days = integer().map_err(|fault| not_of(&self.ty, text, fault))?;
                values.push(day(days).ok_or_else(|| not_of(&self.ty, text, NumberFault::Range))?);
            }
            Values::Text(bytes) => bytes.push(text.as_bytes()),
            Values::Nothing => {}
            _ => return Err(wrong(&self.ty, "a number")),
        }
        Ok(())
    }

    fn push_boolean(&mut self, value: bool) -> Result<(), Fault> {
        match &mut self.values {
            Values::Boolean(values) => values.append(value),
            Values::Text(bytes) => bytes.push(if value { b"true" } else { b"false" }),
            Values::Nothing => {}
            _ => return Err(wrong(&self.ty, "a boolean")),
        }
        Ok(())
    }

    /// A value of another type than text, held in a string.
    fn push_text(&mut self, text: &str) -> Result<(), Fault> {
        let ty = &self.ty;
        let bad = || not_of(ty, text, NumberFault::Malformed);
        match &mut self.values {
            Values::Boolean(values) => match text {
                "true" | "TRUE" | "True" => values.append(true),
                "false" | "FALSE" | "False" => values.append(false),
                _ => return Err(bad()),
            },
            Values::BigInt(values) => values.push(parse_integer(text).map_err(|f| not_of(ty, text, f))?),
            Values::Integer(values) => values.push(narrow(ty, text, parse_integer(text))?),
            Values::SmallInt(values) => values.push(narrow(ty, text, parse_integer(text))?),
            Values::Double(values) => values.push(parse_float(text).ok_or_else(bad)?),
            Values::Real(values) => values.push(real(ty, text)?),
            Values::Decimal { values, precision, scale } => {
                values.push(parse_decimal(text, *precision, *scale).map_err(|f| not_of(ty, text, f))?);
            }
            Values::Date(values) => values.push(parse_date(text).ok_or_else(bad)?),
            Values::Time(values) => values.push(parse_time(text).ok_or_else(bad)?),
            Values::Timestamp(values) => values.push(parse_timestamp(text).or_else(|| number_in_text(text, self.unit)).ok_or_else(bad)?),
            Values::Text(bytes) | Values::Json(bytes) => bytes.push(without_nul(text)?),
            Values::Binary(bytes) => {
                bytes.push(&parse_binary(text).ok_or_else(|| Fault::value("neither base64 nor \\x and hexadecimal digits"))?)
            }
            Values::Nothing => {}
            Values::List { .. } | Values::Struct { .. } | Values::Map { .. } => return Err(wrong(ty, "a string")),
        }
        Ok(())
    }

    fn push_nested<'a>(&mut self, cursor: &mut Cursor<'a>, first: u8, depth: usize) -> Result<(), Fault> {
        let len = self.len();
        match (first, &mut self.values) {
            (b'[', Values::List { offsets, items }) => {
                let start = items.len();
                cursor.read_elements(|cursor| {
                    let index = items.len() - start;
                    items.push(cursor, depth + 1).map_err(|fault| fault.below(|| format!("[{index}]")))
                })?;
                offsets.push(items.len() as i32);
            }
            (b'{', Values::Struct { map, names, children }) => {
                map.read_object(cursor, |index, cursor| {
                    let child = &mut children[index];
                    child.truncate(len);
                    child.push(cursor, depth + 1).map_err(|fault| fault.below(|| format!(".{}", names[index])))
                })?;
                children.iter_mut().filter(|child| child.len() == len).for_each(ColumnBuffer::push_null);
            }
            (b'{', Values::Map { offsets, keys, items }) => {
                // Of an entry given twice the last counts: look before pushing.
                let (mut entries, mut known) = (Vec::new(), HashMap::new());
                cursor.read_members(|key, cursor| -> Result<(), Fault> {
                    let key = key.unescape()?;
                    match known.get(&key) {
                        Some(index) => entries[*index] = (key, *cursor),
                        None => {
                            known.insert(key.clone(), entries.len());
                            entries.push((key, *cursor));
                        }
                    }
                    cursor.skip_value(depth + 1)?;
                    Ok(())
                })?;
                for (key, mut value) in entries {
                    keys.push_text(&key).map_err(|fault| fault.below(|| format!(".{key}")))?;
                    keys.valid.append(true);
                    items.push(&mut value, depth + 1).map_err(|fault| fault.below(|| format!(".{key}")))?;
                }
                offsets.push(keys.len() as i32);
            }
            (_, Values::Text(bytes)) => bytes.push(cursor.skip_value(depth)?.as_bytes()),
            (_, Values::Nothing) => cursor.skip_value(depth).map(drop)?,
            _ => {
                cursor.skip_value(depth)?; // malformed comes first
                return Err(wrong(&self.ty, if first == b'[' { "an array" } else { "an object" }));
            }
        }
        self.valid.append(true);
        Ok(())
    }

    /// The column as an array; the buffer is empty afterwards.
    pub fn finish(&mut self) -> SqlResult<ArrayRef> {
        let len = self.len();
        let nulls = Some(NullBuffer::new(self.valid.finish())).filter(|nulls| nulls.null_count() > 0);
        let data_type = self.ty.to_arrow();
        let array: ArrayRef = match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::SmallInt(values) => primitive::<Int16Type>(values, nulls, data_type),
            Values::Integer(values) => primitive::<Int32Type>(values, nulls, data_type),
            Values::BigInt(values) => primitive::<Int64Type>(values, nulls, data_type),
            Values::Real(values) => primitive::<Float32Type>(values, nulls, data_type),
            Values::Double(values) => primitive::<Float64Type>(values, nulls, data_type),
            Values::Date(values) => primitive::<Date32Type>(values, nulls, data_type),
            Values::Time(values) => primitive::<Time64MicrosecondType>(values, nulls, data_type),
            Values::Timestamp(values) => primitive::<TimestampMicrosecondType>(values, nulls, data_type),
            Values::Decimal { values, .. } => {
                Arc::new(Decimal128Array::new(ScalarBuffer::from(take(values)), nulls).with_data_type(data_type))
            }
            Values::Text(bytes) | Values::Json(bytes) => {
                let (offsets, data) = bytes.finish();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Values::Binary(bytes) => {
                let (offsets, data) = bytes.finish();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::List { offsets, items } => {
                let DataType::List(field) = data_type else { return Err(SqlError::internal("an array column of another type")) };
                let offsets = std::mem::replace(offsets, vec![0]);
                Arc::new(ListArray::try_new(field, OffsetBuffer::new(ScalarBuffer::from(offsets)), items.finish()?, nulls)?)
            }
            Values::Struct { children, .. } => {
                let DataType::Struct(fields) = data_type else { return Err(SqlError::internal("a struct column of another type")) };
                let arrays = children.iter_mut().map(ColumnBuffer::finish).collect::<SqlResult<Vec<_>>>()?;
                Arc::new(if fields.is_empty() {
                    StructArray::new_empty_fields(len, nulls)
                } else {
                    StructArray::try_new(fields, arrays, nulls)?
                })
            }
            Values::Map { offsets, keys, items } => {
                let DataType::Map(field, sorted) = data_type else { return Err(SqlError::internal("a map column of another type")) };
                let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])));
                let entries = StructArray::try_new(entry_fields(&field), vec![keys.finish()?, items.finish()?], None)?;
                Arc::new(MapArray::try_new(field, offsets, entries, nulls, sorted)?)
            }
            Values::Nothing => new_null_array(&DataType::Null, len),
        };
        Ok(array)
    }
}

/// The bytes of a text. PostgreSQL's texts hold no NUL, and no client can be sent one; in a string of JSON only an escape makes one.
fn without_nul(text: &str) -> Result<&[u8], Fault> {
    match text.as_bytes().contains(&0) {
        true => Err(Fault::value("the text has a NUL character, which no text can hold")),
        false => Ok(text.as_bytes()),
    }
}

fn entry_fields(entries: &Field) -> Fields {
    match entries.data_type() {
        DataType::Struct(fields) => fields.clone(),
        _ => Fields::empty(),
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>, data_type: DataType) -> ArrayRef {
    let next = Vec::with_capacity(values.len());
    let values = std::mem::replace(values, next);
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls).with_data_type(data_type))
}

fn narrow<T: TryFrom<i64>>(ty: &SqlType, text: &str, value: Result<i64, NumberFault>) -> Result<T, Fault> {
    let value = value.map_err(|fault| not_of(ty, text, fault))?;
    T::try_from(value).map_err(|_| not_of(ty, text, NumberFault::Range))
}

fn real(ty: &SqlType, text: &str) -> Result<f32, Fault> {
    let value = parse_float(text).ok_or_else(|| not_of(ty, text, NumberFault::Malformed))?;
    let narrow = value as f32;
    if value.is_finite() && narrow.is_infinite() { Err(not_of(ty, text, NumberFault::Range)) } else { Ok(narrow) }
}

/// A string of digits long enough to be an epoch time and nothing else.
fn number_in_text(text: &str, unit: NumberUnit) -> Option<i64> {
    let digits = if unit == NumberUnit::Seconds { 9 } else { 12 };
    (text.len() >= digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| micros_of_number(text, unit))?
}
