//! Keys: rows of columns encoded as bytes that compare like the rows. One encoding serves grouping
//! in memory, exchange routing, state and view identity; it is durable, so it is ours and versioned
//! (`KEY_VERSION`). It knows nothing of what the key is for.
//!
//! A column is one tag byte (0 = null, which sorts first; 1 = value) and then
//! - integers, dates, times, timestamps: big-endian with the sign bit flipped;
//! - floats: as integers that sort the same; -0.0 becomes 0.0 and every NaN the same NaN, above +inf;
//! - booleans: one byte; decimals: 16 bytes like integers;
//! - text and bytes: content with 0x00 written as 0x00 0xFF, ended by 0x00 0x00;
//! - structs: their columns; lists: each item after a 0x01 byte, ended by 0x00; maps: as lists of their entries.

use crate::error::{Result, SqlError};
use crate::types::SqlType;
use arrow::array::*;
use arrow::datatypes::*;
use arrow::error::ArrowError;
use std::borrow::Cow;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Changes whenever the encoding does.
pub const KEY_VERSION: u32 = 1;

/// How many virtual shards routing hashes keys into.
pub const VSHARDS: usize = 256;

const NULL: u8 = 0;
const VALUE: u8 = 1;

pub fn hash64(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Wide enough to stand for the key itself: at 10^9 keys a collision has probability under 10^-20.
pub fn hash128(key: &[u8]) -> u128 {
    xxh3_128(key)
}

/// The virtual shard of a key hash; the worker is `vshard * workers / VSHARDS`.
pub fn vshard(hash: u64) -> u8 {
    (hash >> 56) as u8
}

pub fn worker_of(vshard: u8, workers: usize) -> usize {
    vshard as usize * workers / VSHARDS
}

/// Many encoded keys in one buffer; reused from batch to batch.
#[derive(Clone, Debug, Default)]
pub struct KeyRows {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyRows {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn row(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.data[start..self.ends[index]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.row(i))
    }

    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }

    /// Appends one key, the concatenation of `parts`.
    pub fn push(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.data.extend_from_slice(part));
        self.ends.push(self.data.len());
    }
}

/// Encodes and decodes keys of fixed column types.
#[derive(Clone, Debug)]
pub struct KeyCodec {
    types: Vec<DataType>,
    exact: bool,
}

impl KeyCodec {
    /// Fails with 0A000 for a type that cannot be compared (maps, unions).
    pub fn new(types: Vec<DataType>) -> Result<Self> {
        types.iter().try_for_each(|ty| check_type(ty, false))?;
        Ok(KeyCodec { types, exact: false })
    }

    /// For the identity of rows as wholes: maps are the same if they have the same entries in the same order.
    pub fn rows(types: Vec<DataType>) -> Result<Self> {
        types.iter().try_for_each(|ty| check_type(ty, true))?;
        Ok(KeyCodec { types, exact: false })
    }

    /// For bytes that rows come back from: floats keep their bits, so that what is equal may differ (-0.0 and 0.0).
    pub fn exact(types: Vec<DataType>) -> Result<Self> {
        Ok(KeyCodec { exact: true, ..KeyCodec::rows(types)? })
    }

    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Replaces the content of `out` by one key per row. `columns` have the codec's types and one
    /// length, `rows` (given because a key may have no columns).
    pub fn encode(&self, columns: &[ArrayRef], rows: usize, out: &mut KeyRows) {
        assert_eq!(columns.len(), self.types.len(), "a column for every key type");
        out.data.clear();
        out.ends.clear();
        let encoders: Vec<ColumnEncoder> = columns.iter().map(|c| ColumnEncoder::new(c.as_ref(), self.exact, NULL)).collect();
        out.ends.reserve(rows);
        for row in 0..rows {
            for encoder in &encoders {
                encoder.encode(row, &mut out.data);
            }
            out.ends.push(out.data.len());
        }
    }

    /// The columns back from keys.
    pub fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let mut builders: Vec<ColumnDecoder> = self.types.iter().map(ColumnDecoder::new).collect();
        for mut key in keys {
            for builder in &mut builders {
                builder.decode(&mut key)?;
            }
            if !key.is_empty() {
                return Err(truncated());
            }
        }
        builders.into_iter().map(|b| b.finish()).collect()
    }
}

/// How one column of an order sorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ColumnOrder {
    pub descending: bool,
    pub nulls_first: bool,
}

/// After every value: what a null is written as when nulls come last.
const LATE_NULL: u8 = 2;

/// Encodes orders: bytes that compare as ORDER BY does. They are not decoded; a row that is ordered carries its columns
/// beside them. A column is a tag (0 or 2 = null, 1 = value) and then its key's bytes, complemented if it is descending. A
/// null within a list or struct is 2, larger than everything, as in PostgreSQL.
#[derive(Clone, Debug)]
pub struct OrderCodec {
    types: Vec<DataType>,
    orders: Vec<ColumnOrder>,
}

impl OrderCodec {
    /// Fails with 0A000 for a type that cannot be compared.
    pub fn new(columns: Vec<(DataType, ColumnOrder)>) -> Result<Self> {
        let (types, orders): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        types.iter().try_for_each(|ty| check_type(ty, false))?;
        Ok(OrderCodec { types, orders })
    }

    /// As `KeyCodec::encode`.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize, out: &mut KeyRows) {
        assert_eq!(columns.len(), self.types.len(), "a column for every order");
        out.clear();
        let encoders: Vec<ColumnEncoder> = columns.iter().map(|c| ColumnEncoder::new(c.as_ref(), false, LATE_NULL)).collect();
        for row in 0..rows {
            for (encoder, order) in encoders.iter().zip(&self.orders) {
                let start = out.data.len();
                encoder.encode(row, &mut out.data);
                if out.data[start] == NULL {
                    out.data[start] = if order.nulls_first { NULL } else { LATE_NULL };
                } else if order.descending {
                    out.data[start + 1..].iter_mut().for_each(|byte| *byte = !*byte);
                }
            }
            out.ends.push(out.data.len());
        }
    }

    /// How many bytes of an order are those of its first column.
    pub fn first_len(&self, order: &[u8]) -> Result<usize> {
        let (Some(ty), Some(column)) = (self.types.first(), self.orders.first()) else { return Ok(0) };
        let (tag, value) = order.split_first().ok_or_else(truncated)?;
        let complement = if column.descending { u8::MAX } else { 0 };
        Ok(1 + if *tag == VALUE { value_len(ty, value, complement)? } else { 0 })
    }
}

/// How many bytes a value has behind its tag. All of them were written with these bits turned round, the tags of parts too.
fn value_len(ty: &DataType, bytes: &[u8], complement: u8) -> Result<usize> {
    use DataType::*;
    let at = |at: usize| bytes.get(at).map(|byte| byte ^ complement).ok_or_else(truncated);
    let part = |ty: &DataType, from: usize| -> Result<usize> {
        Ok(from + 1 + if at(from)? == VALUE { value_len(ty, &bytes[from + 1..], complement)? } else { 0 })
    };
    let mut len = 0;
    match ty {
        Null => {}
        Boolean => len = 1,
        Int32 | Date32 => len = 4,
        Decimal128(_, _) | Interval(_) => len = 16,
        Utf8 | Binary => {
            while (at(len)?, at(len + 1)?) != (0, 0) {
                len += if at(len)? == 0 { 2 } else { 1 };
            }
            len += 2;
        }
        List(item) => {
            while at(len)? == VALUE {
                len = part(item.data_type(), len + 1)?;
            }
            len += 1;
        }
        Struct(fields) => {
            for field in fields {
                len = part(field.data_type(), len)?;
            }
        }
        _ => len = 8,
    }
    if len <= bytes.len() { Ok(len) } else { Err(truncated()) }
}

fn check_type(ty: &DataType, maps: bool) -> Result<()> {
    use DataType::*;
    match ty {
        Null
        | Boolean
        | Int8
        | Int16
        | Int32
        | Int64
        | UInt8
        | UInt16
        | UInt32
        | UInt64
        | Float32
        | Float64
        | Decimal128(_, _)
        | Utf8
        | Binary
        | Date32
        | Time64(_)
        | Timestamp(_, _)
        | Interval(IntervalUnit::MonthDayNano) => Ok(()),
        List(item) => check_type(item.data_type(), maps),
        Map(entries, _) if maps => check_type(entries.data_type(), maps),
        Struct(fields) => fields.iter().try_for_each(|f| check_type(f.data_type(), maps)),
        other => {
            let name = SqlType::from_arrow(other).map_or_else(|| other.to_string(), |ty| ty.to_string());
            Err(SqlError::unsupported(format!("a column of type {name} cannot be part of a key")))
        }
    }
}

fn truncated() -> SqlError {
    SqlError::corrupt("a stored key is damaged")
}

fn float_bits(value: f64, exact: bool) -> u64 {
    let value = if exact {
        value
    } else if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::NAN
    } else {
        value
    };
    let bits = value.to_bits();
    if bits >> 63 == 0 { bits ^ (1 << 63) } else { !bits }
}

fn float_from_bits(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits ^ (1 << 63) } else { !bits })
}

enum ColumnEncoder<'a> {
    Null,
    Bool(&'a BooleanArray),
    /// Anything that is an i64 inside.
    I64(&'a [i64], Option<&'a arrow::buffer::NullBuffer>),
    I32(&'a [i32], Option<&'a arrow::buffer::NullBuffer>),
    Narrow(Vec<i64>, Option<arrow::buffer::NullBuffer>),
    U64(&'a UInt64Array),
    /// Floats as they are, or all zeros and all NaNs as one.
    F32(&'a Float32Array, bool),
    F64(&'a Float64Array, bool),
    I128(&'a Decimal128Array),
    Interval(&'a IntervalMonthDayNanoArray),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    /// A list or a map: its offsets, its items or entries, and the tag of a null among them.
    List {
        of: &'a dyn Array,
        offsets: &'a [i32],
        items: Box<ColumnEncoder<'a>>,
        null: u8,
    },
    /// A struct, its fields, and the tag of a null among them.
    Struct(&'a StructArray, Vec<ColumnEncoder<'a>>, u8),
}

impl<'a> ColumnEncoder<'a> {
    fn new(array: &'a dyn Array, exact: bool, null: u8) -> Self {
        use DataType::*;
        match array.data_type() {
            Null => ColumnEncoder::Null,
            Boolean => ColumnEncoder::Bool(array.as_boolean()),
            Int64 => ColumnEncoder::I64(array.as_primitive::<Int64Type>().values(), array.nulls()),
            Timestamp(TimeUnit::Microsecond, _) => {
                ColumnEncoder::I64(array.as_primitive::<TimestampMicrosecondType>().values(), array.nulls())
            }
            Time64(TimeUnit::Microsecond) => ColumnEncoder::I64(array.as_primitive::<Time64MicrosecondType>().values(), array.nulls()),
            Int32 => ColumnEncoder::I32(array.as_primitive::<Int32Type>().values(), array.nulls()),
            Date32 => ColumnEncoder::I32(array.as_primitive::<Date32Type>().values(), array.nulls()),
            Int8 | Int16 | UInt8 | UInt16 | UInt32 | Timestamp(_, _) | Time64(_) => {
                let wide = arrow::compute::cast(array, &Int64).expect("an integer of 64 bits holds it");
                let wide = wide.as_primitive::<Int64Type>();
                ColumnEncoder::Narrow(wide.values().to_vec(), array.nulls().cloned())
            }
            UInt64 => ColumnEncoder::U64(array.as_primitive()),
            Float32 => ColumnEncoder::F32(array.as_primitive(), exact),
            Float64 => ColumnEncoder::F64(array.as_primitive(), exact),
            Decimal128(_, _) => ColumnEncoder::I128(array.as_primitive()),
            Interval(IntervalUnit::MonthDayNano) => ColumnEncoder::Interval(array.as_primitive()),
            Utf8 => ColumnEncoder::Text(array.as_string()),
            Binary => ColumnEncoder::Bytes(array.as_binary()),
            List(_) => {
                let list = array.as_list::<i32>();
                let items = Box::new(ColumnEncoder::new(list.values().as_ref(), exact, null));
                ColumnEncoder::List { of: list, offsets: list.value_offsets(), items, null }
            }
            Map(_, _) => {
                let map = array.as_map();
                let items = Box::new(ColumnEncoder::new(map.entries(), exact, null));
                ColumnEncoder::List { of: map, offsets: map.value_offsets(), items, null }
            }
            Struct(_) => {
                let array = array.as_struct();
                let fields = array.columns().iter().map(|c| ColumnEncoder::new(c.as_ref(), exact, null)).collect();
                ColumnEncoder::Struct(array, fields, null)
            }
            other => unreachable!("the codec refuses {other}"),
        }
    }

    #[inline]
    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        fn put<const N: usize>(valid: bool, bytes: [u8; N], out: &mut Vec<u8>) {
            if valid {
                out.push(VALUE);
                out.extend_from_slice(&bytes);
            } else {
                out.push(NULL);
            }
        }
        let i64_bytes = |v: i64| (v as u64 ^ (1 << 63)).to_be_bytes();
        match self {
            ColumnEncoder::Null => out.push(NULL),
            ColumnEncoder::Bool(a) => put(a.is_valid(row), [a.value(row) as u8], out),
            ColumnEncoder::I64(v, nulls) => put(nulls.is_none_or(|n| n.is_valid(row)), i64_bytes(v[row]), out),
            ColumnEncoder::I32(v, nulls) => put(nulls.is_none_or(|n| n.is_valid(row)), (v[row] as u32 ^ (1 << 31)).to_be_bytes(), out),
            ColumnEncoder::Narrow(v, nulls) => put(nulls.as_ref().is_none_or(|n| n.is_valid(row)), i64_bytes(v[row]), out),
            ColumnEncoder::U64(a) => put(a.is_valid(row), a.value(row).to_be_bytes(), out),
            ColumnEncoder::F32(a, exact) => put(a.is_valid(row), float_bits(a.value(row) as f64, *exact).to_be_bytes(), out),
            ColumnEncoder::F64(a, exact) => put(a.is_valid(row), float_bits(a.value(row), *exact).to_be_bytes(), out),
            ColumnEncoder::I128(a) => put(a.is_valid(row), (a.value(row) as u128 ^ (1 << 127)).to_be_bytes(), out),
            ColumnEncoder::Interval(a) => {
                let v = a.value(row);
                put(a.is_valid(row), (v.months as u32 ^ (1 << 31)).to_be_bytes(), out);
                if a.is_valid(row) {
                    out.extend_from_slice(&(v.days as u32 ^ (1 << 31)).to_be_bytes());
                    out.extend_from_slice(&i64_bytes(v.nanoseconds));
                }
            }
            ColumnEncoder::Text(a) => put_bytes(a.is_valid(row), a.value(row).as_bytes(), out),
            ColumnEncoder::Bytes(a) => put_bytes(a.is_valid(row), a.value(row), out),
            ColumnEncoder::List { of, offsets, items, null } => {
                if of.is_null(row) {
                    return out.push(NULL);
                }
                out.push(VALUE);
                for item in offsets[row] as usize..offsets[row + 1] as usize {
                    out.push(VALUE);
                    items.encode_part(item, *null, out);
                }
                out.push(NULL);
            }
            ColumnEncoder::Struct(a, fields, null) => {
                if a.is_null(row) {
                    return out.push(NULL);
                }
                out.push(VALUE);
                fields.iter().for_each(|f| f.encode_part(row, *null, out));
            }
        }
    }

    /// As `encode`, with another tag for null.
    fn encode_part(&self, row: usize, null: u8, out: &mut Vec<u8>) {
        let start = out.len();
        self.encode(row, out);
        if out[start] == NULL {
            out[start] = null;
        }
    }
}

fn put_bytes(valid: bool, bytes: &[u8], out: &mut Vec<u8>) {
    if !valid {
        return out.push(NULL);
    }
    out.push(VALUE);
    let mut rest = bytes;
    while let Some(zero) = rest.iter().position(|b| *b == 0) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[0, 0xFF]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 0]);
}

/// Decodes one column by way of scalar builders; the type decides which.
struct ColumnDecoder {
    ty: DataType,
    kind: DecoderKind,
}

enum DecoderKind {
    Null(usize),
    Bool(BooleanBuilder),
    I64(Vec<i64>, NullBufferBuilder),
    U64(UInt64Builder),
    F64(Float64Builder),
    I128(Vec<i128>, NullBufferBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    List { items: Box<ColumnDecoder>, ends: Vec<i32>, count: i32, nulls: NullBufferBuilder },
    Struct { fields: Vec<ColumnDecoder>, nulls: NullBufferBuilder },
}

impl ColumnDecoder {
    fn new(ty: &DataType) -> Self {
        use DataType::*;
        let kind = match ty {
            Null => DecoderKind::Null(0),
            Boolean => DecoderKind::Bool(BooleanBuilder::new()),
            UInt64 => DecoderKind::U64(UInt64Builder::new()),
            Float32 | Float64 => DecoderKind::F64(Float64Builder::new()),
            Decimal128(_, _) => DecoderKind::I128(Vec::new(), NullBufferBuilder::new(0)),
            Interval(_) => DecoderKind::Interval(IntervalMonthDayNanoBuilder::new()),
            Utf8 => DecoderKind::Text(StringBuilder::new()),
            Binary => DecoderKind::Bytes(BinaryBuilder::new()),
            List(item) | Map(item, _) => DecoderKind::List {
                items: Box::new(ColumnDecoder::new(item.data_type())),
                ends: vec![0],
                count: 0,
                nulls: NullBufferBuilder::new(0),
            },
            Struct(fields) => DecoderKind::Struct {
                fields: fields.iter().map(|f| ColumnDecoder::new(f.data_type())).collect(),
                nulls: NullBufferBuilder::new(0),
            },
            _ => DecoderKind::I64(Vec::new(), NullBufferBuilder::new(0)),
        };
        ColumnDecoder { ty: ty.clone(), kind }
    }

    fn decode(&mut self, key: &mut &[u8]) -> Result<()> {
        let valid = take::<1>(key)? == [VALUE];
        if !valid {
            self.append_null();
            return Ok(());
        }
        let four_byte = matches!(self.ty, DataType::Int32 | DataType::Date32);
        match &mut self.kind {
            DecoderKind::Null(n) => *n += 1,
            DecoderKind::Bool(b) => b.append_value(take::<1>(key)? == [1]),
            DecoderKind::I64(values, nulls) => {
                let value = if four_byte { (u32::from_be_bytes(take(key)?) ^ (1 << 31)) as i32 as i64 } else { take_i64(key)? };
                values.push(value);
                nulls.append_non_null();
            }
            DecoderKind::U64(b) => b.append_value(u64::from_be_bytes(take(key)?)),
            DecoderKind::F64(b) => b.append_value(float_from_bits(u64::from_be_bytes(take(key)?))),
            DecoderKind::I128(values, nulls) => {
                values.push((u128::from_be_bytes(take(key)?) ^ (1 << 127)) as i128);
                nulls.append_non_null();
            }
            DecoderKind::Interval(b) => {
                let months = (u32::from_be_bytes(take(key)?) ^ (1 << 31)) as i32;
                let days = (u32::from_be_bytes(take(key)?) ^ (1 << 31)) as i32;
                b.append_value(IntervalMonthDayNano::new(months, days, take_i64(key)?));
            }
            DecoderKind::Text(b) => {
                let bytes = take_bytes(key)?;
                b.append_value(std::str::from_utf8(&bytes).map_err(|_| truncated())?);
            }
            DecoderKind::Bytes(b) => b.append_value(take_bytes(key)?),
            DecoderKind::List { items, ends, count, nulls } => {
                while take::<1>(key)? == [VALUE] {
                    items.decode(key)?;
                    *count += 1;
                }
                ends.push(*count);
                nulls.append_non_null();
            }
            DecoderKind::Struct { fields, nulls } => {
                fields.iter_mut().try_for_each(|f| f.decode(key))?;
                nulls.append_non_null();
            }
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match &mut self.kind {
            DecoderKind::Null(n) => *n += 1,
            DecoderKind::Bool(b) => b.append_null(),
            DecoderKind::I64(values, nulls) => {
                values.push(0);
                nulls.append_null();
            }
            DecoderKind::U64(b) => b.append_null(),
            DecoderKind::F64(b) => b.append_null(),
            DecoderKind::I128(values, nulls) => {
                values.push(0);
                nulls.append_null();
            }
            DecoderKind::Interval(b) => b.append_null(),
            DecoderKind::Text(b) => b.append_null(),
            DecoderKind::Bytes(b) => b.append_null(),
            DecoderKind::List { ends, count, nulls, .. } => {
                ends.push(*count);
                nulls.append_null();
            }
            DecoderKind::Struct { fields, nulls } => {
                fields.iter_mut().for_each(|f| f.append_null());
                nulls.append_null();
            }
        }
    }

    fn finish(self) -> Result<ArrayRef> {
        let array: ArrayRef = match self.kind {
            DecoderKind::Null(n) => Arc::new(NullArray::new(n)),
            DecoderKind::Bool(mut b) => Arc::new(b.finish()),
            DecoderKind::I64(values, mut nulls) => {
                let array = Int64Array::new(values.into(), nulls.finish());
                match &self.ty {
                    DataType::Int64 => Arc::new(array),
                    DataType::Timestamp(TimeUnit::Microsecond, tz) => {
                        Arc::new(array.reinterpret_cast::<TimestampMicrosecondType>().with_timezone_opt(tz.clone()))
                    }
                    DataType::Time64(TimeUnit::Microsecond) => Arc::new(array.reinterpret_cast::<Time64MicrosecondType>()),
                    DataType::Date32 => Arc::new(Date32Array::from_iter(array.iter().map(|v| v.map(|v| v as i32)))),
                    ty => arrow::compute::cast(&array, ty)?,
                }
            }
            DecoderKind::U64(mut b) => Arc::new(b.finish()),
            DecoderKind::F64(mut b) => arrow::compute::cast(&b.finish(), &self.ty)?,
            DecoderKind::I128(values, mut nulls) => Arc::new(Decimal128Array::new(values.into(), nulls.finish()).with_data_type(self.ty)),
            DecoderKind::Interval(mut b) => Arc::new(b.finish()),
            DecoderKind::Text(mut b) => Arc::new(b.finish()),
            DecoderKind::Bytes(mut b) => Arc::new(b.finish()),
            DecoderKind::List { items, ends, mut nulls, .. } => {
                let (offsets, items, nulls) = (arrow::buffer::OffsetBuffer::new(ends.into()), items.finish()?, nulls.finish());
                match &self.ty {
                    DataType::List(field) => Arc::new(ListArray::try_new(field.clone(), offsets, items, nulls)?),
                    DataType::Map(field, sorted) => {
                        Arc::new(MapArray::try_new(field.clone(), offsets, items.as_struct().clone(), nulls, *sorted)?)
                    }
                    _ => return Err(truncated()),
                }
            }
            DecoderKind::Struct { fields, mut nulls } => {
                let DataType::Struct(types) = &self.ty else { return Err(truncated()) };
                let columns = fields.into_iter().map(|f| f.finish()).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new(types.clone(), columns, nulls.finish()).map_err(|e: ArrowError| SqlError::from(e))?)
            }
        };
        Ok(array)
    }
}

fn take<const N: usize>(key: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = key.split_first_chunk::<N>().ok_or_else(truncated)?;
    *key = rest;
    Ok(*head)
}

fn take_i64(key: &mut &[u8]) -> Result<i64> {
    Ok((u64::from_be_bytes(take(key)?) ^ (1 << 63)) as i64)
}

/// Borrowed unless a zero byte is among them.
fn take_bytes<'a>(key: &mut &'a [u8]) -> Result<Cow<'a, [u8]>> {
    let all: &'a [u8] = key;
    if let Some(zero) = all.iter().position(|b| *b == 0)
        && all.get(zero + 1) == Some(&0)
    {
        let bytes = &all[..zero];
        *key = &all[zero + 2..];
        return Ok(Cow::Borrowed(bytes));
    }
    let mut bytes = Vec::new();
    loop {
        let zero = key.iter().position(|b| *b == 0).ok_or_else(truncated)?;
        bytes.extend_from_slice(&key[..zero]);
        let escape = *key.get(zero + 1).ok_or_else(truncated)?;
        *key = &key[zero + 2..];
        if escape == 0 {
            return Ok(Cow::Owned(bytes));
        }
        bytes.push(0);
    }
}

#[cfg(test)]
mod tests;
