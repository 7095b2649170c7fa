//! Rows of system relations, set column by column by name. What a row does not set has its type's resting
//! value: false, zero or an empty `"char"` in `pg_catalog`, null elsewhere. Small tables only: values are boxed.

use super::spec::{self, RelationSpec};
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Float32Type, Int16Type, Int32Type, Int64Type};
use eddyline_common::postgres::procs;
use eddyline_common::types::TYPE_METADATA_KEY;
use eddyline_common::{Result, SqlError};
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    /// Integers, oids, microseconds.
    Int(i64),
    Float(f64),
    Text(String),
    Ints(Vec<i64>),
    /// An int2vector or oidvector, whose subscripts begin at zero.
    Vector(Vec<i64>),
    Texts(Vec<String>),
}

macro_rules! value_from {
    ($($ty:ty => $make:expr),* $(,)?) => { $(impl From<$ty> for Value { fn from(v: $ty) -> Value { $make(v) } })* };
}

value_from! {
    bool => Value::Bool,
    i64 => Value::Int,
    i32 => |v| Value::Int(v as i64),
    i16 => |v| Value::Int(v as i64),
    u32 => |v| Value::Int(v as i64),
    usize => |v| Value::Int(v as i64),
    f64 => Value::Float,
    &str => |v: &str| Value::Text(v.to_string()),
    &String => |v: &String| Value::Text(v.clone()),
    String => Value::Text,
    Vec<i64> => Value::Ints,
    Vec<String> => Value::Texts,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl Value {
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(v) => Some(*v),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Bool(v) => Some(*v as i64),
            Value::Float(v) => Some(*v as i64),
            _ => None,
        }
    }

    pub fn as_oid(&self) -> Option<u32> {
        self.as_int().and_then(|v| u32::try_from(v).ok())
    }

    pub fn as_text(&self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text.clone()),
            Value::Int(v) => Some(v.to_string()),
            Value::Float(v) => Some(v.to_string()),
            Value::Bool(v) => Some(if *v { "t" } else { "f" }.to_string()),
            _ => None,
        }
    }

    pub fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true)) || matches!(self, Value::Text(t) if t == "t" || t == "true")
    }

    /// One value of a column of the field's type, for functions.
    pub fn of_field(array: &ArrayRef, row: usize, field: &Field) -> Value {
        let vector = field.metadata().get(TYPE_METADATA_KEY).is_some_and(|mark| mark.ends_with("vector"));
        match Value::from_array(array, row) {
            Value::Ints(items) if vector => Value::Vector(items),
            other => other,
        }
    }

    /// One value of an array, for functions.
    pub fn from_array(array: &ArrayRef, row: usize) -> Value {
        if array.is_null(row) || matches!(array.data_type(), DataType::Null) {
            return Value::Null;
        }
        let int = |ty: &DataType| arrow::compute::cast(&array.slice(row, 1), ty);
        match array.data_type() {
            DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
            ty if ty.is_integer() => match int(&DataType::Int64) {
                Ok(wide) => Value::Int(wide.as_primitive::<Int64Type>().value(0)),
                Err(_) => Value::Null,
            },
            ty if ty.is_floating() || matches!(ty, DataType::Decimal128(_, _)) => match int(&DataType::Float64) {
                Ok(wide) => Value::Float(wide.as_primitive::<arrow::datatypes::Float64Type>().value(0)),
                Err(_) => Value::Null,
            },
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                let values = (0..items.len()).map(|i| Value::from_array(&items, i));
                match items.data_type().is_integer() {
                    true => Value::Ints(values.filter_map(|v| v.as_int()).collect()),
                    false => Value::Texts(values.filter_map(|v| v.as_text()).collect()),
                }
            }
            _ => match arrow::compute::cast(&array.slice(row, 1), &DataType::Utf8) {
                Ok(text) => Value::Text(text.as_string::<i32>().value(0).to_string()),
                Err(_) => Value::Null,
            },
        }
    }
}

pub struct Rows {
    spec: Arc<RelationSpec>,
    resting: Vec<Value>,
    columns: Vec<Vec<Value>>,
}

impl Rows {
    pub fn new(spec: Arc<RelationSpec>) -> Rows {
        let resting = spec.columns.iter().map(|c| if spec.schema == "pg_catalog" { resting(c.ty) } else { Value::Null }).collect();
        let columns = spec.columns.iter().map(|_| Vec::new()).collect();
        Rows { spec, resting, columns }
    }

    /// Adds a row. Every name is a column of the relation.
    pub fn add<const N: usize>(&mut self, values: [(&str, Value); N]) {
        for (column, resting) in self.columns.iter_mut().zip(&self.resting) {
            column.push(resting.clone());
        }
        for (name, value) in values {
            self.set_last(name, value);
        }
    }

    /// Sets a column of the row added last.
    pub fn set_last(&mut self, name: &str, value: Value) {
        let at = self.spec.columns.iter().position(|c| c.name == name);
        let at = at.unwrap_or_else(|| panic!("{} has no column {name}", self.spec.name));
        *self.columns[at].last_mut().expect("a row was added") = value;
    }

    pub fn finish(self) -> Result<RecordBatch> {
        let rows = self.columns.first().map_or(0, Vec::len);
        let arrays =
            self.columns.iter().zip(self.spec.arrow.fields()).map(|(values, field)| array(values, field)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.spec.arrow.clone(), arrays, &options)?)
    }
}

fn resting(ty: &str) -> Value {
    match ty {
        "bool" => Value::Bool(false),
        "int2" | "int4" | "int8" | "oid" | "xid" | "regproc" | "float4" | "float8" => Value::Int(0),
        "char" => Value::Text(String::new()),
        _ => Value::Null,
    }
}

/// Values as an array of the field's type; a value of another kind is null.
pub fn array(values: &[Value], field: &Field) -> Result<ArrayRef> {
    let ints = || values.iter().map(Value::as_int);
    let texts = || values.iter().map(Value::as_text);
    let int_lists = || {
        values.iter().map(|v| match v {
            Value::Ints(items) | Value::Vector(items) => Some(items.iter().map(|i| Some(*i)).collect::<Vec<_>>()),
            _ => None,
        })
    };
    Ok(match field.data_type() {
        DataType::Boolean => {
            Arc::new(values.iter().map(|v| if *v == Value::Null { None } else { Some(v.is_true()) }).collect::<BooleanArray>())
        }
        DataType::Int16 => Arc::new(ints().map(|v| v.map(|v| v as i16)).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(ints().map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
        DataType::Int64 if is_proc(field) => Arc::new(values.iter().map(proc_oid).collect::<Int64Array>()),
        DataType::Int64 => Arc::new(ints().collect::<Int64Array>()),
        DataType::Float32 => Arc::new(ints().map(|v| v.map(|v| v as f32)).collect::<Float32Array>()),
        DataType::Float64 => Arc::new(ints().map(|v| v.map(|v| v as f64)).collect::<Float64Array>()),
        DataType::Utf8 => Arc::new(texts().collect::<StringArray>()),
        ty @ DataType::Timestamp(_, _) => Arc::new(ints().collect::<TimestampMicrosecondArray>().with_data_type(ty.clone())),
        DataType::Binary => Arc::new(texts().map(|t| t.map(String::into_bytes)).collect::<BinaryArray>()),
        DataType::List(item) => match item.data_type() {
            DataType::Int16 => Arc::new(ListArray::from_iter_primitive::<Int16Type, _, _>(
                int_lists().map(|l| l.map(|l| l.into_iter().map(|i| i.map(|i| i as i16)).collect::<Vec<_>>())),
            )),
            DataType::Int32 => Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                int_lists().map(|l| l.map(|l| l.into_iter().map(|i| i.map(|i| i as i32)).collect::<Vec<_>>())),
            )),
            DataType::Int64 => Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(int_lists())),
            DataType::Float32 => Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(
                int_lists().map(|l| l.map(|l| l.into_iter().map(|i| i.map(|i| i as f32)).collect::<Vec<_>>())),
            )),
            _ => {
                let mut builder = ListBuilder::new(StringBuilder::new());
                for value in values {
                    match value {
                        Value::Texts(items) => builder.append_value(items.iter().map(|t| Some(t.as_str()))),
                        _ => builder.append_null(),
                    }
                }
                Arc::new(builder.finish())
            }
        },
        other => return Err(SqlError::internal(format!("a system relation has no columns of type {other}"))),
    })
}

fn is_proc(field: &Field) -> bool {
    field.metadata().get(TYPE_METADATA_KEY).is_some_and(|mark| mark == "regproc")
}

/// A function by its oid or by its name.
fn proc_oid(value: &Value) -> Option<i64> {
    match value {
        Value::Text(name) => procs::oid_of(name).map(i64::from),
        other => other.as_int(),
    }
}

/// An array of values in a built-in type.
pub fn array_of(values: &[Value], ty: &str) -> Result<ArrayRef> {
    array(values, &spec::field("", ty))
}
