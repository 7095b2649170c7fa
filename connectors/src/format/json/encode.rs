//! JSON records from Arrow columns: a batch's columns are bound once to typed writers; rows are then written straight into
//! a buffer, with no allocation per value. What it writes, the decoder beside it reads back as it was, but for infinite
//! times and dates, which it does not take.
//!
//! - Fields are in the order of the columns; NULL is `null`.
//! - Times are `2024-01-31 23:59:59.123` (`sql`) or `2024-01-31T23:59:59.123` (`iso-8601`), with a `Z` behind a timestamptz;
//!   `infinity` and `-infinity` as they are.
//! - Bytes are base64, intervals text, decimals numbers with all their digits; NaN and infinities are strings.

use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::*;
use bytes::{BufMut, BytesMut};
use eddyline_common::postgres::text;
use eddyline_common::{Result, SqlError, SqlType, options};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    Sql,
    Iso,
}

impl Times {
    pub fn of(options: &BTreeMap<String, String>) -> Times {
        if options.get(options::JSON_TIMES).is_some_and(|v| v == "iso-8601") { Times::Iso } else { Times::Sql }
    }
}

/// Writes some columns of a batch as objects.
#[derive(Clone, Debug)]
pub struct JsonEncoder {
    columns: Vec<usize>,
    /// Per column `"name":`.
    names: Vec<Vec<u8>>,
    types: Vec<SqlType>,
    times: Times,
}

impl JsonEncoder {
    /// For fields of these names and types, which are the batch's columns of these numbers.
    pub fn new(fields: impl Iterator<Item = (usize, String, SqlType)>, times: Times) -> Self {
        let mut encoder = JsonEncoder { columns: vec![], names: vec![], types: vec![], times };
        for (column, name, ty) in fields {
            encoder.columns.push(column);
            encoder.names.push(field_name(&name));
            encoder.types.push(ty);
        }
        encoder
    }

    pub fn bind<'a>(&'a self, batch: &'a RecordBatch) -> Result<JsonRows<'a>> {
        let column = |(column, ty): (&usize, &SqlType)| Value::new(batch.column(*column).as_ref(), ty, self.times);
        let values = self.columns.iter().zip(&self.types).map(column).collect::<Result<_>>()?;
        Ok(JsonRows { names: &self.names, values })
    }
}

/// A batch's rows, ready to be written.
pub struct JsonRows<'a> {
    names: &'a [Vec<u8>],
    values: Vec<Value<'a>>,
}

impl JsonRows<'_> {
    /// The row as an object, on one line.
    pub fn write(&self, row: usize, out: &mut BytesMut) {
        object(self.names, &self.values, row, out);
    }

    /// One of the fields, without its name.
    pub fn write_field(&self, field: usize, row: usize, out: &mut BytesMut) {
        self.values[field].write(row, out);
    }
}

fn object(names: &[Vec<u8>], values: &[Value], row: usize, out: &mut BytesMut) {
    out.put_u8(b'{');
    for (index, (name, value)) in names.iter().zip(values).enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.put_slice(name);
        value.write(row, out);
    }
    out.put_u8(b'}');
}

fn field_name(name: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    string(name, &mut out);
    out.put_u8(b':');
    out.to_vec()
}

/// One column's values.
struct Value<'a> {
    array: &'a dyn Array,
    kind: Kind<'a>,
    times: Times,
}

enum Kind<'a> {
    Null,
    Bool(&'a BooleanArray),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Decimal(&'a [i128], i8),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i64]),
    Timestamp(&'a [i64], bool),
    Interval(&'a [IntervalMonthDayNano]),
    List(&'a [i32], Box<Value<'a>>),
    Struct(Vec<Vec<u8>>, Vec<Value<'a>>),
    Map(&'a [i32], Box<Value<'a>>, Box<Value<'a>>),
}

impl<'a> Value<'a> {
    fn new(array: &'a dyn Array, ty: &SqlType, times: Times) -> Result<Self> {
        if *array.data_type() != ty.to_arrow() && !matches!(ty, SqlType::Array(_) | SqlType::Struct(_) | SqlType::Map(_, _)) {
            return Err(SqlError::internal(format!("a column of type {ty} comes as {}", array.data_type())));
        }
        let kind = match ty {
            SqlType::Null => Kind::Null,
            SqlType::Boolean => Kind::Bool(array.as_boolean()),
            SqlType::SmallInt => Kind::I16(array.as_primitive::<Int16Type>().values()),
            SqlType::Integer => Kind::I32(array.as_primitive::<Int32Type>().values()),
            SqlType::BigInt => Kind::I64(array.as_primitive::<Int64Type>().values()),
            SqlType::Real => Kind::F32(array.as_primitive::<Float32Type>().values()),
            SqlType::Double => Kind::F64(array.as_primitive::<Float64Type>().values()),
            SqlType::Decimal { scale, .. } => Kind::Decimal(array.as_primitive::<Decimal128Type>().values(), *scale),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid => Kind::Text(array.as_string()),
            SqlType::Json => Kind::Json(array.as_string()),
            SqlType::Bytes => Kind::Bytes(array.as_binary()),
            SqlType::Date => Kind::Date(array.as_primitive::<Date32Type>().values()),
            SqlType::Time => Kind::Time(array.as_primitive::<Time64MicrosecondType>().values()),
            SqlType::Timestamp => Kind::Timestamp(array.as_primitive::<TimestampMicrosecondType>().values(), false),
            SqlType::TimestampTz => Kind::Timestamp(array.as_primitive::<TimestampMicrosecondType>().values(), true),
            SqlType::Interval => Kind::Interval(array.as_primitive::<IntervalMonthDayNanoType>().values()),
            SqlType::Array(item) => {
                let list = array.as_list::<i32>();
                Kind::List(list.value_offsets(), Box::new(Value::new(list.values().as_ref(), item, times)?))
            }
            SqlType::Struct(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                let values = columns.map(|(c, (_, ty))| Value::new(c.as_ref(), ty, times)).collect::<Result<_>>()?;
                Kind::Struct(fields.iter().map(|(name, _)| field_name(name)).collect(), values)
            }
            SqlType::Map(key, value) => {
                let map = array.as_map();
                let keys = Value::new(map.keys().as_ref(), key, times)?;
                Kind::Map(map.value_offsets(), Box::new(keys), Box::new(Value::new(map.values().as_ref(), value, times)?))
            }
        };
        Ok(Value { array, kind, times })
    }

    fn write(&self, row: usize, out: &mut BytesMut) {
        if matches!(self.kind, Kind::Null) || self.array.is_null(row) {
            return out.put_slice(b"null");
        }
        match &self.kind {
            Kind::Null => {}
            Kind::Bool(a) => out.put_slice(if a.value(row) { b"true" } else { b"false" }),
            Kind::I16(v) => text::integer(v[row] as i64, out),
            Kind::I32(v) => text::integer(v[row] as i64, out),
            Kind::I64(v) => text::integer(v[row], out),
            Kind::F32(v) if !v[row].is_finite() => quoted(out, |out| text::float4(v[row], out)),
            Kind::F64(v) if !v[row].is_finite() => quoted(out, |out| text::float8(v[row], out)),
            Kind::F32(v) => text::float4(v[row], out),
            Kind::F64(v) => text::float8(v[row], out),
            Kind::Decimal(v, scale) => text::decimal(v[row], *scale, out),
            Kind::Text(a) => string(a.value(row), out),
            Kind::Json(a) => one_line(a.value(row), out),
            Kind::Bytes(a) => quoted(out, |out| base64(a.value(row), out)),
            Kind::Date(v) => quoted(out, |out| text::date(v[row], out)),
            Kind::Time(v) => quoted(out, |out| text::time(v[row], out)),
            Kind::Timestamp(v, zoned) => quoted(out, |out| {
                let begin = out.len();
                text::timestamp(v[row], out);
                if self.times == Times::Iso
                    && let Some(space) = out[begin..].iter().position(|b| *b == b' ')
                {
                    out[begin + space] = b'T';
                }
                if *zoned && !out[begin..].ends_with(b"infinity") {
                    out.put_u8(b'Z');
                }
            }),
            Kind::Interval(v) => quoted(out, |out| text::interval(v[row], out)),
            Kind::List(offsets, items) => {
                out.put_u8(b'[');
                for (index, item) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if index > 0 {
                        out.put_u8(b',');
                    }
                    items.write(item, out);
                }
                out.put_u8(b']');
            }
            Kind::Struct(names, values) => object(names, values, row, out),
            Kind::Map(offsets, keys, values) => {
                out.put_u8(b'{');
                for (index, entry) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if index > 0 {
                        out.put_u8(b',');
                    }
                    keys.write_key(entry, out);
                    out.put_u8(b':');
                    values.write(entry, out);
                }
                out.put_u8(b'}');
            }
        }
    }

    /// As the name of a field.
    fn write_key(&self, row: usize, out: &mut BytesMut) {
        let begin = out.len();
        self.write(row, out);
        if out[begin] != b'"' {
            let value = out.split_off(begin);
            string(&String::from_utf8_lossy(&value), out);
        }
    }
}

fn quoted(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(b'"');
    write(out);
    out.put_u8(b'"');
}

/// A JSON string.
pub fn string(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.put_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.put_slice(b"\\u00");
                out.put_slice(&[HEX[(other >> 4) as usize], HEX[(other & 15) as usize]]);
            }
        }
    }
    out.put_slice(&bytes[from..]);
    out.put_u8(b'"');
}

/// A JSON value as it is; line ends in it can only be white space.
fn one_line(json: &str, out: &mut BytesMut) {
    let begin = out.len();
    out.put_slice(json.as_bytes());
    out[begin..].iter_mut().filter(|b| matches!(**b, b'\n' | b'\r')).for_each(|b| *b = b' ');
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | *byte as u32) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let known = digit <= chunk.len();
            out.put_u8(if known { DIGITS[(word >> (18 - 6 * digit) & 63) as usize] } else { b'=' });
        }
    }
}

/// UTC, for forms that ask for a zone.
pub fn utc() -> Tz {
    "+00:00".parse().expect("UTC is a time zone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{column, decoder};
    use crate::format::{PayloadColumn, Record};
    use arrow::array::*;
    use eddyline_common::Column;
    use eddyline_common::types::arrow_schema;
    use std::sync::Arc;

    fn columns() -> Vec<(Column, ArrayRef)> {
        let named = |name: &str, ty: SqlType| Column::new(name, ty, true);
        let list = |values: Vec<Option<Vec<Option<i64>>>>| ListArray::from_iter_primitive::<Int64Type, _, _>(values);
        let ts = |zone: bool| {
            let array = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None]);
            Arc::new(if zone { array.with_timezone("+00:00") } else { array }) as ArrayRef
        };
        let decimal = Decimal128Array::from(vec![Some(-1234567), None]).with_precision_and_scale(10, 2).unwrap();
        vec![
            (named("b", SqlType::Boolean), Arc::new(BooleanArray::from(vec![Some(true), None]))),
            (named("i", SqlType::Integer), Arc::new(Int32Array::from(vec![Some(-7), None]))),
            (named("l", SqlType::BigInt), Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
            (named("f", SqlType::Double), Arc::new(Float64Array::from(vec![Some(0.1), None]))),
            (named("m", SqlType::Decimal { precision: 10, scale: 2 }), Arc::new(decimal)),
            (named("Text \"q\"", SqlType::Text), Arc::new(StringArray::from(vec![Some("a\"\\\n\u{1}é"), None]))),
            (named("bytes", SqlType::Bytes), Arc::new(BinaryArray::from(vec![Some(&b"\x00\xffab"[..]), None]))),
            (named("d", SqlType::Date), Arc::new(Date32Array::from(vec![Some(19_000), None]))),
            (named("t", SqlType::Time), Arc::new(Time64MicrosecondArray::from(vec![Some(3_600_000_001), None]))),
            (named("ts", SqlType::Timestamp), ts(false)),
            (named("tz", SqlType::TimestampTz), ts(true)),
            (named("list", SqlType::Array(Box::new(SqlType::BigInt))), Arc::new(list(vec![Some(vec![Some(1), None, Some(3)]), None]))),
        ]
    }

    fn round_trip(times: Times) {
        let columns = columns();
        let schema = arrow_schema(&columns.iter().map(|(c, _)| c.clone()).collect::<Vec<_>>());
        let batch = RecordBatch::try_new(schema, columns.iter().map(|(_, a)| a.clone()).collect()).unwrap();
        let fields = columns.iter().enumerate().map(|(i, (c, _))| (i, c.name.clone(), c.ty.clone()));
        let encoder = JsonEncoder::new(fields, times);
        let rows = encoder.bind(&batch).unwrap();
        let payload: Vec<PayloadColumn> = columns.iter().map(|(c, _)| column(&c.name, c.ty.clone())).collect();
        let mut decoder = decoder(&[("format", "json"), ("json.fail-on-missing-field", "true")], &payload, false).unwrap();
        for row in 0..2 {
            let mut out = BytesMut::new();
            rows.write(row, &mut out);
            decoder.push(Record::of(&out)).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)));
        }
        for (back, (column, array)) in decoder.finish().unwrap().columns.iter().zip(&columns) {
            assert_eq!(back.to_data(), array.to_data(), "{}", column.name);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        round_trip(Times::Sql);
        round_trip(Times::Iso);
    }

    #[test]
    fn spellings() {
        let ty = SqlType::Timestamp;
        let schema = arrow_schema(&[Column::new("ts", ty.clone(), true), Column::new("j", SqlType::Json, true)]);
        let ts = TimestampMicrosecondArray::from(vec![1_700_000_000_000_000]);
        let json = StringArray::from(vec!["{\"a\":\n 1}"]);
        let batch = RecordBatch::try_new(schema, vec![Arc::new(ts), Arc::new(json)]).unwrap();
        let fields = [(0, "ts".to_string(), ty), (1, "j".to_string(), SqlType::Json)];
        let written = |times| {
            let mut out = BytesMut::new();
            JsonEncoder::new(fields.clone().into_iter(), times).bind(&batch).unwrap().write(0, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(written(Times::Sql), r#"{"ts":"2023-11-14 22:13:20","j":{"a":  1}}"#);
        assert_eq!(written(Times::Iso), r#"{"ts":"2023-11-14T22:13:20","j":{"a":  1}}"#);
    }

    #[test]
    fn infinite_times_have_no_zone() {
        let (zoned, date) = (SqlType::TimestampTz, SqlType::Date);
        let schema = arrow_schema(&[Column::new("tz", zoned.clone(), true), Column::new("d", date.clone(), true)]);
        let times = TimestampMicrosecondArray::from(vec![i64::MAX, i64::MIN, 1_700_000_000_000_000]).with_timezone("+00:00");
        let dates = Date32Array::from(vec![i32::MAX, i32::MIN, 19_000]);
        let batch = RecordBatch::try_new(schema, vec![Arc::new(times), Arc::new(dates)]).unwrap();
        let fields = [(0, "tz".to_string(), zoned), (1, "d".to_string(), date)];
        for (times, finite) in [(Times::Sql, "2023-11-14 22:13:20Z"), (Times::Iso, "2023-11-14T22:13:20Z")] {
            let encoder = JsonEncoder::new(fields.clone().into_iter(), times);
            let rows = encoder.bind(&batch).unwrap();
            let written = |row| {
                let mut out = BytesMut::new();
                rows.write_field(0, row, &mut out);
                rows.write_field(1, row, &mut out);
                String::from_utf8(out.to_vec()).unwrap()
            };
            assert_eq!(written(0), r#""infinity""infinity""#);
            assert_eq!(written(1), r#""-infinity""-infinity""#);
            assert_eq!(written(2), format!("\"{finite}\"\"2022-01-08\""));
        }
        let mut decoder = decoder(&[("format", "json")], &[column("tz", SqlType::TimestampTz)], false).unwrap();
        assert!(decoder.push(Record::of(br#"{"tz":"infinity"}"#)).is_err(), "sources do not take them");
    }
}
