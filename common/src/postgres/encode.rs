//! Arrow columns to `DataRow` messages. A batch's columns are each bound once to a typed writer; rows are
//! then written straight into the connection's buffer, with no allocation per value. Text forms are
//! PostgreSQL's with `DateStyle = ISO`, `IntervalStyle = postgres`, `bytea_output = hex`, and the
//! shortest digits that read back the same for floats. It knows nothing of statements or sockets.

use super::procs;
use super::text;
use super::types::{self, wire_type};
use crate::time::MICROS_PER_DAY;
use crate::{Result, SqlError, SqlType};
use arrow::array::timezone::Tz;
use arrow::array::*;
use arrow::datatypes::*;
use bytes::{BufMut, BytesMut};
use std::sync::Arc;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's binary times begin.
pub const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days of the same.
pub const POSTGRES_EPOCH_DAYS: i32 = 10_957;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

impl Format {
    pub fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}

/// How the columns of one result are to be written.
#[derive(Clone, Debug)]
pub struct RowFormat {
    pub schema: SchemaRef,
    pub formats: Vec<Format>,
    pub zone: Tz,
}

impl RowFormat {
    /// Everything as text.
    pub fn text(schema: SchemaRef, zone: Tz) -> Self {
        let formats = vec![Format::Text; schema.fields().len()];
        RowFormat { schema, formats, zone }
    }

    /// Everything in binary.
    pub fn binary(schema: SchemaRef, zone: Tz) -> Self {
        let formats = vec![Format::Binary; schema.fields().len()];
        RowFormat { schema, formats, zone }
    }

    /// Binds a batch's columns to their writers. Columns that are not in Eddyline's own form of their
    /// type are converted, column by column.
    pub fn bind<'a>(&'a self, batch: &'a RecordBatch) -> Result<RowWriter<'a>> {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (column, field) in batch.columns().iter().zip(self.schema.fields()) {
            columns.push((bring_home(column)?, field.clone(), wire_type(field).oid));
        }
        Ok(RowWriter { columns, formats: &self.formats, zone: self.zone })
    }
}

/// What a column of texts holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    Plain,
    Json,
    Uuid,
    /// Shown with blanks up to so many characters.
    Padded(u32),
}

fn texts(field: &Field) -> Texts {
    match SqlType::from_field(field) {
        Some(SqlType::Json) => Texts::Json,
        Some(SqlType::Uuid) => Texts::Uuid,
        Some(SqlType::Char(length)) => Texts::Padded(length),
        _ => Texts::Plain,
    }
}

fn item_of(list: &DataType) -> Option<&FieldRef> {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::ListView(item) => Some(item),
        _ => None,
    }
}

fn fields_of(row: &DataType) -> Option<&Fields> {
    match row {
        DataType::Struct(fields) => Some(fields),
        _ => None,
    }
}

fn bring_home(column: &ArrayRef) -> Result<ArrayRef> {
    let home = types::canonical(column.data_type());
    if column.data_type().equals_datatype(&home) || matches!(home, DataType::Map(_, _)) {
        return Ok(column.clone());
    }
    if matches!(column.data_type(), DataType::Timestamp(_, _)) && matches!(home, DataType::Timestamp(TimeUnit::Microsecond, _)) {
        return Ok(arrow::compute::cast(column, &home)?);
    }
    if let (DataType::Duration(_), DataType::Interval(_)) = (column.data_type(), &home) {
        let micros = arrow::compute::cast(column, &DataType::Duration(TimeUnit::Microsecond))?;
        let micros = micros.as_primitive::<DurationMicrosecondType>();
        let in_days = |v: i64| IntervalMonthDayNano::new(0, (v / MICROS_PER_DAY) as i32, v % MICROS_PER_DAY * 1000);
        let intervals = micros.iter().map(|v| v.map(in_days));
        return Ok(Arc::new(intervals.collect::<IntervalMonthDayNanoArray>()));
    }
    // A value that its SQL type cannot hold is an error, not a null.
    let strict = arrow::compute::CastOptions { safe: false, ..Default::default() };
    Ok(arrow::compute::cast_with_options(column, &home, &strict)?)
}

/// The columns of one batch, ready to be written row by row.
pub struct RowWriter<'a> {
    /// With what was declared of them: arrays forget in places what their items are besides their Arrow type.
    columns: Vec<(ArrayRef, FieldRef, u32)>,
    formats: &'a [Format],
    zone: Tz,
}

impl RowWriter<'_> {
    /// Writes `DataRow` messages for rows `start..`, until `rows` of them are written or `out` has
    /// grown to `high_water` bytes. Returns how many it wrote.
    pub fn write_rows(&self, start: usize, rows: usize, high_water: usize, out: &mut BytesMut) -> Result<usize> {
        self.write_messages(b'D', start, rows, high_water, out)
    }

    /// The same as `CopyData` messages, whose tuples in binary look like rows.
    pub fn write_tuples(&self, start: usize, rows: usize, high_water: usize, out: &mut BytesMut) -> Result<usize> {
        self.write_messages(b'd', start, rows, high_water, out)
    }

    fn write_messages(&self, kind: u8, start: usize, rows: usize, high_water: usize, out: &mut BytesMut) -> Result<usize> {
        let writers: Vec<ValueWriter> = self
            .columns
            .iter()
            .zip(self.formats)
            .map(|((c, field, oid), f)| ValueWriter::new(c.as_ref(), field, *oid, *f, self.zone))
            .collect();
        for row in start..start + rows {
            let begin = out.len();
            out.put_u8(kind);
            out.put_i32(0);
            out.put_i16(writers.len() as i16);
            for writer in &writers {
                writer.field(row, out);
            }
            let length = i32::try_from(out.len() - begin - 1).map_err(|_| SqlError::unsupported("a row is larger than 2 GiB"))?;
            out[begin + 1..begin + 5].copy_from_slice(&length.to_be_bytes());
            if out.len() >= high_water {
                return Ok(row + 1 - start);
            }
        }
        Ok(rows)
    }

    /// Text writers over the columns, for COPY.
    pub fn text_writers(&self) -> Vec<ValueWriter<'_>> {
        self.columns.iter().map(|(c, field, oid)| ValueWriter::new(c.as_ref(), field, *oid, Format::Text, self.zone)).collect()
    }
}

/// One column's values in one format.
pub struct ValueWriter<'a> {
    array: &'a dyn Array,
    kind: Kind<'a>,
    format: Format,
    zone: Tz,
}

enum Kind<'a> {
    Null,
    Bool(&'a BooleanArray),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    /// Int64 inside, four bytes on the wire.
    Oid(&'a [i64]),
    /// The same, with a name as its text.
    Proc(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Decimal(&'a [i128], i8),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Uuid(&'a StringArray),
    Padded(&'a StringArray, u32),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i64]),
    Timestamp(&'a [i64]),
    TimestampTz(&'a [i64]),
    Interval(&'a [IntervalMonthDayNano]),
    /// `vector`: prints its items with spaces between (int2vector, oidvector).
    List {
        list: &'a ListArray,
        items: Box<ValueWriter<'a>>,
        element: u32,
        vector: bool,
    },
    Struct {
        fields: Vec<(ValueWriter<'a>, u32)>,
    },
    Map {
        map: &'a MapArray,
        keys: Box<ValueWriter<'a>>,
        values: Box<ValueWriter<'a>>,
        quoted: bool,
    },
}

impl<'a> ValueWriter<'a> {
    fn new(array: &'a dyn Array, field: &Field, oid: u32, format: Format, zone: Tz) -> Self {
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Boolean => Kind::Bool(array.as_boolean()),
            DataType::Int16 => Kind::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Kind::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 if oid == types::REGPROC => Kind::Proc(array.as_primitive::<Int64Type>().values()),
            DataType::Int64 if !matches!(oid, types::INT8) => Kind::Oid(array.as_primitive::<Int64Type>().values()),
            DataType::Int64 => Kind::I64(array.as_primitive::<Int64Type>().values()),
            DataType::Float32 => Kind::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Kind::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Decimal128(_, scale) => Kind::Decimal(array.as_primitive::<Decimal128Type>().values(), *scale),
            DataType::Utf8 => match texts(field) {
                Texts::Plain => Kind::Text(array.as_string()),
                Texts::Json => Kind::Json(array.as_string()),
                Texts::Uuid => Kind::Uuid(array.as_string()),
                Texts::Padded(length) => Kind::Padded(array.as_string(), length),
            },
            DataType::Binary => Kind::Bytes(array.as_binary()),
            DataType::Date32 => Kind::Date(array.as_primitive::<Date32Type>().values()),
            DataType::Time64(TimeUnit::Microsecond) => Kind::Time(array.as_primitive::<Time64MicrosecondType>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, None) => Kind::Timestamp(array.as_primitive::<TimestampMicrosecondType>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                Kind::TimestampTz(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => Kind::Interval(array.as_primitive::<IntervalMonthDayNanoType>().values()),
            DataType::List(own) => {
                let item = item_of(field.data_type()).unwrap_or(own);
                let list = array.as_list::<i32>();
                let vector = matches!(oid, types::INT2VECTOR | types::OIDVECTOR);
                let element = match oid {
                    types::OIDVECTOR => types::OID,
                    oid => types::element_of(oid).unwrap_or_else(|| wire_type(item).oid),
                };
                let items = ValueWriter::new(list.values().as_ref(), item, element, format, zone);
                Kind::List { list, items: Box::new(items), element, vector }
            }
            DataType::Struct(own) => {
                let fields = fields_of(field.data_type()).filter(|fields| fields.len() == own.len()).unwrap_or(own);
                let columns = array.as_struct().columns().iter().zip(fields);
                let fields = columns.map(|(column, field)| {
                    let oid = wire_type(field).oid;
                    (ValueWriter::new(column.as_ref(), field, oid, format, zone), oid)
                });
                Kind::Struct { fields: fields.collect() }
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let plain = Field::new("", DataType::Utf8, true);
                let text = |a: &'a ArrayRef| Box::new(ValueWriter::new(a.as_ref(), &plain, types::TEXT, Format::Text, zone));
                let quoted = !map.values().data_type().is_numeric() && !matches!(map.values().data_type(), DataType::Boolean);
                Kind::Map { map, keys: text(map.keys()), values: text(map.values()), quoted }
            }
            other => unreachable!("{other} is brought to another form first"),
        };
        ValueWriter { array, kind, format, zone }
    }

    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.array.is_null(row)
    }

    /// The value with its length in front, or -1 for null.
    fn field(&self, row: usize, out: &mut BytesMut) {
        if self.is_null(row) {
            return out.put_i32(-1);
        }
        let begin = out.len();
        out.put_i32(0);
        match self.format {
            Format::Text => self.text(row, out),
            Format::Binary => self.binary(row, out),
        }
        let length = (out.len() - begin - 4) as i32;
        out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// The value's text, which is not null.
    pub fn text(&self, row: usize, out: &mut BytesMut) {
        match &self.kind {
            Kind::Null => {}
            Kind::Bool(a) => out.put_u8(if a.value(row) { b't' } else { b'f' }),
            Kind::I16(v) => text::integer(v[row] as i64, out),
            Kind::I32(v) => text::integer(v[row] as i64, out),
            Kind::I64(v) | Kind::Oid(v) => text::integer(v[row], out),
            Kind::Proc(v) => match procs::name_of(v[row]) {
                Some(name) => out.put_slice(name.as_bytes()),
                None => text::integer(v[row], out),
            },
            Kind::F32(v) => text::float4(v[row], out),
            Kind::F64(v) => text::float8(v[row], out),
            Kind::Decimal(v, scale) => text::decimal(v[row], *scale, out),
            Kind::Text(a) | Kind::Json(a) | Kind::Uuid(a) => out.put_slice(a.value(row).as_bytes()),
            Kind::Padded(a, length) => padded(a.value(row), *length, out),
            Kind::Bytes(a) => text::hex(a.value(row), out),
            Kind::Date(v) => text::date(v[row], out),
            Kind::Time(v) => text::time(v[row], out),
            Kind::Timestamp(v) => text::timestamp(v[row], out),
            Kind::TimestampTz(v) => text::timestamptz(v[row], &self.zone, out),
            Kind::Interval(v) => text::interval(v[row], out),
            Kind::List { list, items, vector, .. } => {
                let offsets = list.value_offsets();
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                match vector {
                    true => text::vector(items, range, out),
                    false => text::array(items, range, out),
                }
            }
            Kind::Struct { fields } => text::record(fields.iter().map(|(f, _)| f), row, out),
            Kind::Map { map, keys, values, quoted } => {
                let offsets = map.value_offsets();
                text::map(keys, values, *quoted, offsets[row] as usize..offsets[row + 1] as usize, out);
            }
        }
    }

    /// The items of these values, if those are arrays with as many items in each: who writes them, how many one has, and where they are.
    fn of_one_length(&self, rows: std::ops::Range<usize>) -> Option<(&ValueWriter<'a>, usize, std::ops::Range<usize>)> {
        let Kind::List { list, items, .. } = &self.kind else { return None };
        let offsets = list.value_offsets();
        let length = |row: usize| (offsets[row + 1] - offsets[row]) as usize;
        let each = rows.clone().next().map(length).filter(|each| *each > 0)?;
        let is_even = rows.clone().all(|row| !self.is_null(row) && length(row) == each);
        is_even.then(|| (items.as_ref(), each, offsets[rows.start] as usize..offsets[rows.end] as usize))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List { .. })
    }

    fn binary(&self, row: usize, out: &mut BytesMut) {
        match &self.kind {
            Kind::Null => {}
            Kind::Bool(a) => out.put_u8(a.value(row) as u8),
            Kind::I16(v) => out.put_i16(v[row]),
            Kind::I32(v) => out.put_i32(v[row]),
            Kind::I64(v) => out.put_i64(v[row]),
            Kind::Oid(v) | Kind::Proc(v) => out.put_u32(v[row] as u32),
            Kind::F32(v) => out.put_f32(v[row]),
            Kind::F64(v) => out.put_f64(v[row]),
            Kind::Decimal(v, scale) => numeric(v[row], *scale, out),
            Kind::Text(a) => out.put_slice(a.value(row).as_bytes()),
            Kind::Padded(a, length) => padded(a.value(row), *length, out),
            Kind::Uuid(a) => match u128::from_str_radix(&a.value(row).replace('-', ""), 16) {
                Ok(value) => out.put_u128(value),
                // Not one of ours: its reader says what is wrong with it.
                Err(_) => out.put_slice(a.value(row).as_bytes()),
            },
            Kind::Json(a) => {
                out.put_u8(1);
                out.put_slice(a.value(row).as_bytes());
            }
            Kind::Map { .. } => {
                out.put_u8(1);
                self.text(row, out);
            }
            Kind::Bytes(a) => out.put_slice(a.value(row)),
            // The ends of the ranges are the infinities, over there as here.
            Kind::Date(v) => out.put_i32(match v[row] {
                i32::MAX => i32::MAX,
                day => day.saturating_sub(POSTGRES_EPOCH_DAYS),
            }),
            Kind::Time(v) => out.put_i64(v[row]),
            Kind::Timestamp(v) | Kind::TimestampTz(v) => out.put_i64(match v[row] {
                i64::MAX => i64::MAX,
                time => time.saturating_sub(POSTGRES_EPOCH_MICROS),
            }),
            Kind::Interval(v) => {
                out.put_i64(v[row].nanoseconds / 1000);
                out.put_i32(v[row].days);
                out.put_i32(v[row].months);
            }
            Kind::List { list, items, element, .. } => {
                let offsets = list.value_offsets();
                binary_array(items, *element, offsets[row] as usize..offsets[row + 1] as usize, out);
            }
            Kind::Struct { fields } => {
                out.put_i32(fields.len() as i32);
                for (field, oid) in fields {
                    out.put_u32(*oid);
                    field.field(row, out);
                }
            }
        }
    }
}

fn padded(text: &str, length: u32, out: &mut BytesMut) {
    out.put_slice(text.as_bytes());
    out.put_bytes(b' ', (length as usize).saturating_sub(text.chars().count()));
}

/// An array, of more dimensions where its items are arrays of one length. Ragged ones have no binary form in PostgreSQL: their items are
/// written as arrays one by one.
fn binary_array(items: &ValueWriter, element: u32, range: std::ops::Range<usize>, out: &mut BytesMut) {
    let (mut items, mut length, mut range) = (items, range.len(), range);
    let (begin, mut dimensions) = (out.len(), 0i32);
    out.put_i64(0);
    out.put_u32(element);
    while length > 0 {
        out.put_i32(length as i32);
        out.put_i32(1);
        dimensions += 1;
        match items.of_one_length(range.clone()) {
            Some((inner, each, within)) => (items, length, range) = (inner, each, within),
            None => break,
        }
    }
    let has_nulls = range.clone().any(|i| items.is_null(i));
    out[begin..begin + 4].copy_from_slice(&dimensions.to_be_bytes());
    out[begin + 4..begin + 8].copy_from_slice(&i32::from(has_nulls).to_be_bytes());
    range.for_each(|i| items.field(i, out));
}

/// PostgreSQL's binary numeric: base-10000 digits, weight of the first, sign, digits after the point.
fn numeric(unscaled: i128, scale: i8, out: &mut BytesMut) {
    const BASE: u128 = 10_000;
    let display_scale = scale.max(0) as u16;
    // Align the point to a boundary of four decimal digits.
    let padding = (4 - (scale as i32).rem_euclid(4)) as u32 % 4;
    let fraction_groups = (scale as i32 + padding as i32) / 4;
    let magnitude = unscaled.unsigned_abs();
    let mut digits = [0i16; 12];
    let mut count = 0;
    // The lowest group holds fewer digits than four when padded: take it off first, so nothing overflows.
    let first = 10u128.pow(4 - padding);
    let mut rest = magnitude / first;
    digits[count] = ((magnitude % first) * 10u128.pow(padding)) as i16;
    count += 1;
    while rest > 0 {
        digits[count] = (rest % BASE) as i16;
        rest /= BASE;
        count += 1;
    }
    let mut low = 0;
    while low < count && digits[low] == 0 {
        low += 1;
    }
    while count > low && digits[count - 1] == 0 {
        count -= 1;
    }
    let weight = if count == low { 0 } else { count as i32 - 1 - fraction_groups };
    out.put_i16((count - low) as i16);
    out.put_i16(weight as i16);
    out.put_u16(if unscaled < 0 { 0x4000 } else { 0 });
    out.put_u16(display_scale);
    digits[low..count].iter().rev().for_each(|d| out.put_i16(*d));
}
