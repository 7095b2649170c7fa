//! A message type against columns: for each of its fields what the column that wants it holds, found once per schema, so that
//! reading a record looks nothing up by name.

use super::schema::{Field as SchemaField, Label, Message as SchemaMessage, MessageId, Scalar, Schema, Type, nearest_of};
use eddyline_common::SqlType;
use std::sync::Arc;

/// How to read one message.
#[derive(Debug)]
pub struct MessagePlan {
    pub fields: Vec<FieldPlan>,
    /// Field numbers below `NUMBERS_MAX`: one more than the field's place here, 0 for one that is passed over.
    dense: Vec<u16>,
    /// The others, ascending.
    sparse: Vec<(u32, u16)>,
}

/// Field numbers are small, and found in a table.
const NUMBERS_MAX: u32 = 256;

#[derive(Debug)]
pub struct FieldPlan {
    pub number: u32,
    pub name: String,
    /// The column or the field of the row that takes it. `None`: it is watched because it is of a `oneof`.
    pub target: Option<usize>,
    pub shape: Shape,
    pub absent: Absent,
    /// The fields of the same `oneof`, by their places: of them the last counts.
    pub others: Vec<u16>,
}

#[derive(Debug)]
pub enum Shape {
    One(Value),
    List(Value),
    Map(MapPlan),
}

#[derive(Debug)]
pub struct MapPlan {
    pub key: Value,
    pub value: Value,
    /// What stands for a key or a value that an entry lacks.
    pub absent_key: Absent,
    pub absent_value: Absent,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar(Scalar),
    /// Names of an enum's numbers.
    Name(Arc<super::schema::Enum>),
    Number,
    Message(Arc<MessagePlan>),
    /// A message of one field `value`, which says no more than whether there is one.
    Wrapped(Scalar),
    Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Absent {
    Null,
    Refused,
    Number(i64),
    /// Beyond a bigint.
    Large(i128),
    Float(f64),
    Boolean(bool),
    Text(String),
    Bytes(Vec<u8>),
    /// A message without fields on the wire.
    Empty,
}

/// What a column, or a field of one, wants of a message.
pub struct Want<'a> {
    pub name: &'a str,
    pub ty: &'a SqlType,
    pub target: usize,
}

impl MessagePlan {
    /// The place of a field here.
    #[inline]
    pub fn place(&self, number: u32) -> Option<usize> {
        let found = match self.dense.get(number as usize) {
            Some(0) => return None,
            Some(place) => *place - 1,
            None if number < NUMBERS_MAX => return None,
            None => self.sparse.binary_search_by_key(&number, |(n, _)| *n).ok().map(|at| self.sparse[at].1)?,
        };
        Some(found as usize)
    }
}

/// Plans messages of one schema.
pub struct Planner<'a> {
    pub schema: &'a Schema,
    /// Whether what is absent has its declared default.
    pub reads_defaults: bool,
    /// Whether a column that the message has no field for is an error, or NULL.
    pub strict: bool,
}

impl Planner<'_> {
    pub fn message(&self, id: MessageId, wants: &[Want]) -> Result<MessagePlan, String> {
        let message = self.schema.message(id);
        let mut fields: Vec<FieldPlan> = Vec::new();
        let mut taken: Vec<&SchemaField> = Vec::new();
        for want in wants {
            let Some(field) = find(message, want.name) else {
                if self.strict {
                    return Err(no_field(message, want.name));
                }
                continue;
            };
            if taken.iter().any(|t| t.number == field.number) {
                return Err(format!("two columns are for the field {}", field.name));
            }
            let (shape, absent) = self.field(field, want.ty).map_err(|why| format!("column {}: {why}", want.name))?;
            let (number, name) = (field.number, field.name.clone());
            fields.push(FieldPlan { number, name, target: Some(want.target), shape, absent, others: vec![] });
            taken.push(field);
        }
        watch_oneofs(message, &mut fields, &mut taken);
        let (mut dense, mut sparse) = (Vec::new(), Vec::new());
        for (place, field) in fields.iter().enumerate() {
            let place = u16::try_from(place).ok().filter(|place| *place < u16::MAX).ok_or("too many fields")?;
            if field.number < NUMBERS_MAX {
                let needed = field.number as usize + 1;
                dense.resize(needed.max(dense.len()), 0);
                dense[field.number as usize] = place + 1;
            } else {
                sparse.push((field.number, place));
            }
        }
        sparse.sort();
        Ok(MessagePlan { fields, dense, sparse })
    }

    fn field(&self, field: &SchemaField, ty: &SqlType) -> Result<(Shape, Absent), String> {
        if field.label != Label::Repeated {
            let value = self.value(&field.ty, ty)?;
            let absent = self.absent(field, &value)?;
            return Ok((Shape::One(value), absent));
        }
        if let Some((key, value)) = self.schema.map_entry(field) {
            let SqlType::Map(key_ty, value_ty) = ty else { return Err(format!("a map, which is no {ty}")) };
            let (key, value) = (self.value(&key.ty, key_ty)?, self.value(&value.ty, value_ty)?);
            let plan = MapPlan { absent_key: zero(&key), absent_value: zero(&value), key, value };
            return Ok((Shape::Map(plan), Absent::Empty));
        }
        let SqlType::Array(item) = ty else { return Err(format!("a repeated field, which is no {ty}")) };
        Ok((Shape::List(self.value(&field.ty, item)?), Absent::Empty))
    }

    fn value(&self, ty: &Type, column: &SqlType) -> Result<Value, String> {
        let is_nested = matches!(column, SqlType::Struct(_) | SqlType::Array(_) | SqlType::Map(..));
        match ty {
            Type::Scalar(_) | Type::Enum(_) if is_nested => Err(format!("a single value, which is no {column}")),
            Type::Scalar(scalar) => Ok(Value::Scalar(*scalar)),
            Type::Enum(id) if matches!(column, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_)) => {
                Ok(Value::Name(Arc::new(self.schema.enums[*id].clone())))
            }
            Type::Enum(_) => Ok(Value::Number),
            Type::Missing(name) => Err(format!("the type {name} is not defined; is the file with it included?")),
            Type::Message(id) => {
                let message = self.schema.message(*id);
                match (column, well_known(message)) {
                    (SqlType::Struct(fields), _) => {
                        let wants: Vec<Want> = fields.iter().enumerate().map(|(target, (name, ty))| Want { name, ty, target }).collect();
                        Ok(Value::Message(Arc::new(self.message(*id, &wants)?)))
                    }
                    (_, Some(known)) if !is_nested => Ok(known),
                    _ => Err(format!("a message {}, which is no {column}; declare it as a row", message.name)),
                }
            }
        }
    }

    fn absent(&self, field: &SchemaField, value: &Value) -> Result<Absent, String> {
        if field.label == Label::Required {
            return Ok(Absent::Refused);
        }
        let is_message = matches!(value, Value::Message(_) | Value::Wrapped(_) | Value::Timestamp);
        if field.has_presence && (!self.reads_defaults || is_message || field.oneof.is_some()) {
            return Ok(Absent::Null);
        }
        let zero = match (&field.ty, value) {
            // The first value there is.
            (Type::Enum(id), _) => {
                let all = &self.schema.enums[*id];
                let named = field.default.as_deref().and_then(|name| all.number_of(std::str::from_utf8(name).ok()?));
                let number = named.or_else(|| all.values.first().map(|(_, number)| *number)).unwrap_or(0);
                return Ok(match value {
                    Value::Name(names) => Absent::Text(names.name_of(number).map_or_else(|| number.to_string(), str::to_string)),
                    _ => Absent::Number(number as i64),
                });
            }
            _ => zero(value),
        };
        let Some(default) = field.default.as_deref() else { return Ok(zero) };
        let shown = String::from_utf8_lossy(default);
        let bad = || format!("the default {shown} of field {} is none of its type", field.name);
        let text = std::str::from_utf8(default).map_err(|_| bad());
        Ok(match zero {
            Absent::Number(_) => {
                let number: i128 = text?.parse().map_err(|_| bad())?;
                i64::try_from(number).map_or(Absent::Large(number), Absent::Number)
            }
            Absent::Float(_) => Absent::Float(text?.parse().map_err(|_| bad())?),
            Absent::Boolean(_) => Absent::Boolean(text? == "true"),
            Absent::Text(_) => Absent::Text(text?.to_string()),
            Absent::Bytes(_) => Absent::Bytes(default.to_vec()),
            other => other,
        })
    }
}

/// Has the other fields of each `oneof` that is wanted in part watched.
fn watch_oneofs<'a>(message: &'a SchemaMessage, fields: &mut Vec<FieldPlan>, taken: &mut Vec<&'a SchemaField>) {
    let wanted: Vec<u32> = taken.iter().filter_map(|field| field.oneof).collect();
    for field in message.fields.iter().filter(|f| f.oneof.is_some_and(|oneof| wanted.contains(&oneof))) {
        if taken.iter().all(|t| t.number != field.number) {
            let (number, name, shape) = (field.number, field.name.clone(), Shape::One(Value::Number));
            fields.push(FieldPlan { number, name, target: None, shape, absent: Absent::Null, others: vec![] });
            taken.push(field);
        }
    }
    for (place, plan) in fields.iter_mut().enumerate() {
        let Some(oneof) = taken[place].oneof else { continue };
        let others = taken.iter().enumerate().filter(|(at, f)| *at != place && f.oneof == Some(oneof));
        plan.others = others.map(|(at, _)| at as u16).collect();
    }
}

/// What a field without presence is where it is absent.
fn zero(value: &Value) -> Absent {
    match value {
        Value::Scalar(Scalar::Double | Scalar::Float) => Absent::Float(0.0),
        Value::Scalar(Scalar::Bool) => Absent::Boolean(false),
        Value::Scalar(Scalar::String) => Absent::Text(String::new()),
        Value::Scalar(Scalar::Bytes) => Absent::Bytes(vec![]),
        Value::Scalar(_) | Value::Number => Absent::Number(0),
        Value::Name(names) => Absent::Text(names.name_of(0).unwrap_or("0").to_string()),
        Value::Message(_) | Value::Wrapped(_) | Value::Timestamp => Absent::Empty,
    }
}

/// The messages of Protocol Buffers' own that a single column holds.
pub fn well_known(message: &SchemaMessage) -> Option<Value> {
    let scalar = match message.name.strip_prefix("google.protobuf.")? {
        "Timestamp" => return Some(Value::Timestamp),
        "DoubleValue" => Scalar::Double,
        "FloatValue" => Scalar::Float,
        "Int64Value" => Scalar::Int64,
        "UInt64Value" => Scalar::Uint64,
        "Int32Value" => Scalar::Int32,
        "UInt32Value" => Scalar::Uint32,
        "BoolValue" => Scalar::Bool,
        "StringValue" => Scalar::String,
        "BytesValue" => Scalar::Bytes,
        _ => return None,
    };
    Some(Value::Wrapped(scalar))
}

/// By exactly its name, else without regard to case.
pub fn find<'a>(message: &'a SchemaMessage, name: &str) -> Option<&'a SchemaField> {
    let exact = message.fields.iter().find(|f| f.name == name);
    exact.or_else(|| message.fields.iter().find(|f| f.name.eq_ignore_ascii_case(name)))
}

#[cold]
pub fn no_field(message: &SchemaMessage, name: &str) -> String {
    let names: Vec<&str> = message.fields.iter().map(|f| f.name.as_str()).collect();
    match nearest_of(name, &names) {
        Some(meant) => format!("message {} has no field {name}; perhaps {meant} is meant", message.name),
        None => format!("message {} has no field {name}", message.name),
    }
}
