//! What a CREATE must know before it is planned: the descriptor's content, so that nothing depends on the file afterwards, and
//! the columns of a message type where none are declared.

use super::plan::{Value, well_known};
use super::schema::{Field, Label, MessageId, Scalar, Schema, Type};
use super::{declared_only, invalid, registered};
use crate::format::describe::{Description, Walk, newest};
use crate::format::registry::base64;
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use std::collections::BTreeMap;
use std::io::Read;

/// A descriptor set, which the catalog keeps.
const DESCRIPTOR_BYTES_MAX: u64 = 4 << 20;

/// Of canonical options. Blocks where a registry is asked.
pub fn describe(options: &BTreeMap<String, String>, wants_columns: bool) -> Result<Description> {
    let mut description = Description::default();
    let mut all = options.clone();
    if let Some(path) = options.get(options::PROTOBUF_DESCRIPTOR) {
        if options.contains_key(options::PROTOBUF_DESCRIPTOR_SET) {
            let (a, b) = (options::PROTOBUF_DESCRIPTOR, options::PROTOBUF_DESCRIPTOR_SET);
            return Err(invalid(format!("options \"{a}\" and \"{b}\" exclude each other")));
        }
        let set = base64(&read(path)?);
        description.options.insert(options::PROTOBUF_DESCRIPTOR_SET.to_string(), set.clone());
        all.insert(options::PROTOBUF_DESCRIPTOR_SET.to_string(), set);
    }
    if wants_columns {
        let (schema, message) = if all.contains_key(options::REGISTRY_URL) { of_registry(&all)? } else { declared_only(&all)? };
        description.columns = columns(&schema, message, &mut Walk::default())
            .map_err(|why| SqlError::unsupported(why).with_hint("Declare the columns that are wanted."))?;
    }
    Ok(description)
}

fn read(path: &str) -> Result<Vec<u8>> {
    let local = path.strip_prefix("file://").unwrap_or(path);
    if local.contains("://") {
        return Err(SqlError::unsupported(format!("a descriptor at \"{path}\" is not supported"))
            .with_hint("Name a file of the server's, or give a schema registry."));
    }
    let failed = |e: std::io::Error| {
        let state = if e.kind() == std::io::ErrorKind::NotFound { SqlState("58P01") } else { SqlState::IO_ERROR };
        SqlError::new(state, format!("the descriptor \"{path}\" cannot be read: {e}"))
    };
    // Reading of anything else may never end.
    if !std::fs::metadata(local).map_err(failed)?.is_file() {
        return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("the descriptor \"{path}\" is not a regular file")));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(local).and_then(|file| file.take(DESCRIPTOR_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > DESCRIPTOR_BYTES_MAX {
        return Err(SqlError::new(SqlState::LIMIT_EXCEEDED, format!("the descriptor \"{path}\" is larger than 4 MiB")));
    }
    Ok(bytes)
}

/// The newest schema of the topic's values.
fn of_registry(options: &BTreeMap<String, String>) -> Result<(Schema, MessageId)> {
    newest(options, "protobuf", |schema| {
        let schema = registered(schema)?;
        let message = match options.get(options::PROTOBUF_MESSAGE) {
            Some(name) => schema.find(Some(name))?,
            // As a record that names no other: the file's first.
            None => schema.at_path(&[0])?,
        };
        Ok((schema, message))
    })
}

fn columns(schema: &Schema, id: MessageId, walk: &mut Walk) -> Result<Vec<(String, SqlType)>, String> {
    let message = schema.message(id);
    walk.within(id, message.fields.len(), ("message", &message.name), |walk| {
        let typed = |field: &Field| {
            let ty = column(schema, field, walk).map_err(|why| format!("field {}: {why}", field.name))?;
            Ok::<_, String>((walk.name(&field.name), ty))
        };
        message.fields.iter().map(typed).collect()
    })
}

fn column(schema: &Schema, field: &Field, walk: &mut Walk) -> Result<SqlType, String> {
    if field.label != Label::Repeated {
        return value(schema, &field.ty, walk);
    }
    if let Some((key, item)) = schema.map_entry(field) {
        return Ok(SqlType::Map(Box::new(value(schema, &key.ty, walk)?), Box::new(value(schema, &item.ty, walk)?)));
    }
    Ok(SqlType::Array(Box::new(value(schema, &field.ty, walk)?)))
}

fn value(schema: &Schema, ty: &Type, walk: &mut Walk) -> Result<SqlType, String> {
    Ok(match ty {
        Type::Scalar(scalar) => of_scalar(*scalar),
        Type::Enum(_) => SqlType::Text,
        Type::Missing(name) => return Err(format!("the type {name} is not defined; is the file with it included?")),
        Type::Message(id) => match well_known(schema.message(*id)) {
            Some(Value::Wrapped(scalar)) => of_scalar(scalar),
            Some(_) => SqlType::TimestampTz,
            None => SqlType::Struct(columns(schema, *id, walk)?),
        },
    })
}

fn of_scalar(scalar: Scalar) -> SqlType {
    match scalar {
        Scalar::Double => SqlType::Double,
        Scalar::Float => SqlType::Real,
        Scalar::Int32 | Scalar::Sint32 | Scalar::Sfixed32 => SqlType::Integer,
        Scalar::Int64 | Scalar::Sint64 | Scalar::Sfixed64 | Scalar::Uint32 | Scalar::Fixed32 => SqlType::BigInt,
        Scalar::Uint64 | Scalar::Fixed64 => SqlType::Decimal { precision: 20, scale: 0 },
        Scalar::Bool => SqlType::Boolean,
        Scalar::String => SqlType::Text,
        Scalar::Bytes => SqlType::Bytes,
    }
}
