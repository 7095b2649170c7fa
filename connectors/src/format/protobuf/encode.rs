//! Messages from Arrow columns: a batch's columns are bound once to typed values; rows are then written straight into a buffer, with
//! no allocation per value. What it writes, the decoder beside it reads back as it was.
//!
//! NULL is an absent field. What a field cannot hold (a number out of its range, a text that is no name of its enum, NULL within an
//! array) is an error, as nothing may be left out.

use super::plan::{find, no_field, well_known};
use super::schema::{Enum, Field, Label, MessageId, Scalar, Schema, Type};
use super::wire::{BYTES, FIXED32, FIXED64, VARINT, wire_of};
use arrow::array::{Array, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::*;
use bytes::{BufMut, BytesMut};
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use std::fmt::Display;
use std::sync::Arc;

/// Writes some columns of a batch as messages of one type.
#[derive(Clone, Debug)]
pub struct ProtobufEncoder {
    fields: Arc<[FieldEncoder]>,
}

#[derive(Debug)]
struct FieldEncoder {
    /// The batch's column, or the row's field.
    column: usize,
    name: String,
    number: u32,
    is_required: bool,
    form: Form,
}

#[derive(Debug)]
enum Form {
    One(Item),
    List(Item),
    Map(Item, Item),
}

#[derive(Debug)]
enum Item {
    Scalar(Scalar),
    Enum(Arc<Enum>),
    Message(Vec<FieldEncoder>),
    Wrapped(Scalar),
    Timestamp,
}

/// A column of a batch: its number, its field's name, its type.
pub type Column<'a> = (usize, &'a str, &'a SqlType);

impl ProtobufEncoder {
    pub fn new(schema: &Schema, message: MessageId, columns: &[Column]) -> Result<Self, String> {
        Ok(ProtobufEncoder { fields: fields(schema, message, columns)?.into() })
    }

    pub fn bind<'a>(&'a self, batch: &'a RecordBatch) -> Result<ProtobufRows<'a>> {
        let fields = self.fields.iter().map(|field| Bound::new(field, batch.column(field.column).as_ref()));
        Ok(ProtobufRows { fields: fields.collect::<Result<_>>()? })
    }
}

fn fields(schema: &Schema, id: MessageId, columns: &[Column]) -> Result<Vec<FieldEncoder>, String> {
    let message = schema.message(id);
    let mut encoders: Vec<FieldEncoder> = Vec::new();
    for (column, name, ty) in columns {
        let field = find(message, name).ok_or_else(|| no_field(message, name))?;
        if encoders.iter().any(|e| e.number == field.number) {
            return Err(format!("two columns are for the field {}", field.name));
        }
        let form = form(schema, field, ty).map_err(|why| format!("column {name}: {why}"))?;
        let (name, number, is_required) = (name.to_string(), field.number, field.label == Label::Required);
        encoders.push(FieldEncoder { column: *column, name, number, is_required, form });
    }
    let lacks = message.fields.iter().find(|f| f.label == Label::Required && encoders.iter().all(|e| e.number != f.number));
    match lacks {
        Some(field) => Err(format!("the required field {} of message {} has no column", field.name, message.name)),
        None => Ok(encoders),
    }
}

fn form(schema: &Schema, field: &Field, ty: &SqlType) -> Result<Form, String> {
    if field.label != Label::Repeated {
        return Ok(Form::One(item(schema, &field.ty, ty)?));
    }
    if let Some((key, value)) = schema.map_entry(field) {
        let SqlType::Map(key_ty, value_ty) = ty else { return Err(format!("a map, which is no {ty}")) };
        return Ok(Form::Map(item(schema, &key.ty, key_ty)?, item(schema, &value.ty, value_ty)?));
    }
    let SqlType::Array(of) = ty else { return Err(format!("a repeated field, which is no {ty}")) };
    Ok(Form::List(item(schema, &field.ty, of)?))
}

fn item(schema: &Schema, field: &Type, ty: &SqlType) -> Result<Item, String> {
    match field {
        Type::Scalar(scalar) if holds(*scalar, ty) => Ok(Item::Scalar(*scalar)),
        Type::Enum(id) if is_text(ty) || holds(Scalar::Int32, ty) => Ok(Item::Enum(Arc::new(schema.enums[*id].clone()))),
        Type::Missing(name) => Err(format!("the type {name} is not defined; is the file with it included?")),
        Type::Message(id) => match (ty, well_known(schema.message(*id))) {
            (SqlType::Struct(of), _) => {
                let columns: Vec<Column> = of.iter().enumerate().map(|(at, (name, ty))| (at, name.as_str(), ty)).collect();
                Ok(Item::Message(fields(schema, *id, &columns)?))
            }
            (SqlType::Timestamp | SqlType::TimestampTz, Some(super::plan::Value::Timestamp)) => Ok(Item::Timestamp),
            (_, Some(super::plan::Value::Wrapped(scalar))) if holds(scalar, ty) => Ok(Item::Wrapped(scalar)),
            _ => Err(format!("a message {}, which is no {ty}", schema.message(*id).name)),
        },
        Type::Scalar(scalar) => Err(format!("{ty} does not fit a field of type {}; cast it", format!("{scalar:?}").to_lowercase())),
        Type::Enum(_) => Err(format!("{ty} does not fit an enum; cast it to text")),
    }
}

fn is_text(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid)
}

/// Whether a field has a form for values of a type; a number may still be out of its range.
fn holds(scalar: Scalar, ty: &SqlType) -> bool {
    match scalar {
        Scalar::Double => matches!(ty, SqlType::Real | SqlType::Double),
        Scalar::Float => matches!(ty, SqlType::Real),
        Scalar::Bool => matches!(ty, SqlType::Boolean),
        Scalar::String => is_text(ty) || matches!(ty, SqlType::Json),
        Scalar::Bytes => matches!(ty, SqlType::Bytes),
        _ => matches!(ty, SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Decimal { scale: 0, .. }),
    }
}

/// A batch's rows, ready to be written.
pub struct ProtobufRows<'a> {
    fields: Vec<Bound<'a>>,
}

impl ProtobufRows<'_> {
    /// The row as a message.
    pub fn write(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        self.fields.iter().try_for_each(|field| field.write(row, out))
    }
}

/// A field and its values.
struct Bound<'a> {
    field: &'a FieldEncoder,
    array: &'a dyn Array,
    values: Parts<'a>,
}

enum Parts<'a> {
    One(Values<'a>),
    List(&'a [i32], &'a dyn Array, Values<'a>),
    Map(&'a [i32], Values<'a>, &'a dyn Array, Values<'a>),
}

/// Values of an array without their nulls.
enum Values<'a> {
    Bool(&'a BooleanArray),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    Decimal(&'a [i128]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Message(Vec<Bound<'a>>),
}

impl<'a> Values<'a> {
    fn new(item: &'a Item, array: &'a dyn Array) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int16 => Values::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Values::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Values::I64(array.as_primitive::<Int64Type>().values()),
            DataType::Decimal128(..) => Values::Decimal(array.as_primitive::<Decimal128Type>().values()),
            DataType::Float32 => Values::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Values::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::I64(array.as_primitive::<TimestampMicrosecondType>().values()),
            DataType::Utf8 => Values::Text(array.as_string()),
            DataType::Binary => Values::Bytes(array.as_binary()),
            DataType::Struct(_) => {
                let Item::Message(fields) = item else { return Err(SqlError::internal("a row comes for a single value")) };
                let parts = array.as_struct();
                let bound = fields.iter().map(|field| Bound::new(field, parts.column(field.column).as_ref()));
                Values::Message(bound.collect::<Result<_>>()?)
            }
            other => return Err(SqlError::internal(format!("a column for a message comes as {other}"))),
        })
    }

    fn integer(&self, row: usize) -> Result<i128> {
        match self {
            Values::I16(values) => Ok(values[row].into()),
            Values::I32(values) => Ok(values[row].into()),
            Values::I64(values) => Ok(values[row].into()),
            Values::Decimal(values) => Ok(values[row]),
            _ => Err(SqlError::internal("a column for a number is none")),
        }
    }

    /// The value behind its tag.
    fn put(&self, scalar: Scalar, row: usize, out: &mut BytesMut) -> Result<()> {
        match (self, scalar) {
            (Values::Bool(values), _) => out.put_u8(values.value(row).into()),
            (Values::F32(values), Scalar::Float) => out.put_f32_le(values[row]),
            (Values::F32(values), _) => out.put_f64_le(values[row].into()),
            (Values::F64(values), _) => out.put_f64_le(values[row]),
            (Values::Text(values), _) => put_bytes(values.value(row).as_bytes(), out),
            (Values::Bytes(values), _) => put_bytes(values.value(row), out),
            _ => put_integer(scalar, self.integer(row)?, out)?,
        }
        Ok(())
    }
}

impl<'a> Bound<'a> {
    fn new(field: &'a FieldEncoder, array: &'a dyn Array) -> Result<Self> {
        let values = match &field.form {
            Form::One(item) => Parts::One(Values::new(item, array)?),
            Form::List(item) => {
                let list = array.as_list::<i32>();
                Parts::List(list.value_offsets(), list.values().as_ref(), Values::new(item, list.values().as_ref())?)
            }
            Form::Map(key, value) => {
                let map = array.as_map();
                let keys = Values::new(key, map.keys().as_ref())?;
                Parts::Map(map.value_offsets(), keys, map.values().as_ref(), Values::new(value, map.values().as_ref())?)
            }
        };
        Ok(Bound { field, array, values })
    }

    fn write(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        let field = self.field;
        if self.array.is_null(row) {
            return if field.is_required { Err(bad(&field.name, "null, but the field is required")) } else { Ok(()) };
        }
        let within = |error: SqlError| bad(&field.name, error.message);
        let places = |offsets: &[i32]| offsets[row] as usize..offsets[row + 1] as usize;
        match (&self.values, &field.form) {
            (Parts::One(values), Form::One(item)) => put_item(field.number, item, values, row, out).map_err(within),
            (Parts::List(offsets, array, values), Form::List(item)) => {
                let places = places(offsets);
                if places.clone().any(|place| array.is_null(place)) {
                    return Err(bad(&field.name, "null in an array, which a repeated field cannot hold"));
                }
                match item {
                    Item::Scalar(scalar) if wire_of(*scalar) != BYTES && !places.is_empty() => {
                        put_tag(field.number, BYTES, out);
                        nested(out, |out| places.clone().try_for_each(|place| values.put(*scalar, place, out))).map_err(within)
                    }
                    _ => places.clone().try_for_each(|place| put_item(field.number, item, values, place, out)).map_err(within),
                }
            }
            (Parts::Map(offsets, keys, array, values), Form::Map(key, value)) => places(offsets)
                .try_for_each(|place| {
                    if array.is_null(place) {
                        return Err(bad("value", "null in a map, which a message cannot hold"));
                    }
                    put_tag(field.number, BYTES, out);
                    nested(out, |out| {
                        put_item(1, key, keys, place, out)?;
                        put_item(2, value, values, place, out)
                    })
                })
                .map_err(within),
            _ => Err(SqlError::internal("a field is bound to values of another form")),
        }
    }
}

#[cold]
fn bad(name: &str, what: impl Display) -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("column {name}: {what}"))
}

fn put_item(number: u32, item: &Item, values: &Values, row: usize, out: &mut BytesMut) -> Result<()> {
    match (item, values) {
        (Item::Scalar(scalar), _) => {
            put_tag(number, wire_of(*scalar), out);
            values.put(*scalar, row, out)
        }
        (Item::Enum(names), Values::Text(texts)) => {
            let name = texts.value(row);
            let value = names.number_of(name).or_else(|| name.parse().ok());
            let value = value.ok_or_else(|| SqlError::new(SqlState::INVALID_TEXT, format!("\"{name}\" is no name of the enum")))?;
            put_tag(number, VARINT, out);
            put_integer(Scalar::Int32, value.into(), out)
        }
        (Item::Enum(_), _) => {
            put_tag(number, VARINT, out);
            put_integer(Scalar::Int32, values.integer(row)?, out)
        }
        (Item::Message(_), Values::Message(fields)) => {
            put_tag(number, BYTES, out);
            nested(out, |out| fields.iter().try_for_each(|field| field.write(row, out)))
        }
        (Item::Message(_), _) => Err(SqlError::internal("a message comes as a single value")),
        (Item::Wrapped(scalar), _) => {
            put_tag(number, BYTES, out);
            nested(out, |out| {
                put_tag(1, wire_of(*scalar), out);
                values.put(*scalar, row, out)
            })
        }
        (Item::Timestamp, _) => {
            let micros = i64::try_from(values.integer(row)?).map_err(SqlError::internal)?;
            put_tag(number, BYTES, out);
            nested(out, |out| {
                put_tag(1, VARINT, out);
                put_varint(micros.div_euclid(1_000_000) as u64, out);
                put_tag(2, VARINT, out);
                put_varint(micros.rem_euclid(1_000_000) as u64 * 1_000, out);
                Ok(())
            })
        }
    }
}

fn put_varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_tag(number: u32, wire: u8, out: &mut BytesMut) {
    put_varint((number as u64) << 3 | wire as u64, out);
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    put_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// What `write` writes, behind its length.
fn nested(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> Result<()>) -> Result<()> {
    let begin = out.len();
    write(out)?;
    let end = out.len();
    put_varint((end - begin) as u64, out);
    // The length is behind what it is of: the two change places.
    let len = out.len() - end;
    out[begin..].rotate_right(len);
    Ok(())
}

fn put_integer(scalar: Scalar, value: i128, out: &mut BytesMut) -> Result<()> {
    let range = || SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{value} is out of the field's range"));
    let signed = || i64::try_from(value).map_err(|_| range());
    let unsigned = || u64::try_from(value).map_err(|_| range());
    let narrow = || i32::try_from(value).map_err(|_| range());
    let narrow_unsigned = || u32::try_from(value).map_err(|_| range());
    let zigzag = |value: i64| (value << 1 ^ value >> 63) as u64;
    match scalar {
        Scalar::Int32 => put_varint(narrow()? as i64 as u64, out),
        Scalar::Int64 => put_varint(signed()? as u64, out),
        Scalar::Uint32 => put_varint(narrow_unsigned()?.into(), out),
        Scalar::Uint64 => put_varint(unsigned()?, out),
        Scalar::Sint32 => put_varint(zigzag(narrow()?.into()), out),
        Scalar::Sint64 => put_varint(zigzag(signed()?), out),
        Scalar::Fixed32 => out.put_u32_le(narrow_unsigned()?),
        Scalar::Fixed64 => out.put_u64_le(unsigned()?),
        Scalar::Sfixed32 => out.put_i32_le(narrow()?),
        Scalar::Sfixed64 => out.put_i64_le(signed()?),
        _ => return Err(SqlError::internal("a number comes for a field that holds none")),
    }
    debug_assert!(matches!(wire_of(scalar), VARINT | FIXED32 | FIXED64));
    Ok(())
}
