//! What a CREATE must know before it is planned: the descriptor's content, so that nothing depends on the file afterwards, and
//! the columns of a message type where none are declared. Here, and only here, files and the registry are asked for them.

use super::plan::{Value, well_known};
use super::schema::{Field, Label, MessageId, Scalar, Schema, Type};
use super::{declared_only, invalid, registered};
use crate::format::registry::{Registry, base64};
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use std::collections::BTreeMap;
use std::io::Read;

/// A descriptor set, which the catalog keeps.
const DESCRIPTOR_BYTES_MAX: u64 = 4 << 20;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Options that the statement has beside those it says.
    pub options: BTreeMap<String, String>,
    /// Empty unless they were asked for.
    pub columns: Vec<(String, SqlType)>,
}

/// Of canonical options. Blocks; 08006 while a registry is away, which is given some ten seconds for each schema that it is asked for.
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
    let of_topic = || options.get(options::TOPIC).map(|topic| format!("{topic}-value"));
    let subject = options.get(options::PROTOBUF_SUBJECT).cloned().or_else(of_topic).unwrap_or_default();
    let unusable = |why: String| {
        SqlError::new(SqlState::UNDEFINED_OBJECT, format!("the columns cannot be taken from subject \"{subject}\" of the registry: {why}"))
            .with_hint(format!("Declare the columns, or name another subject with {}.", options::PROTOBUF_SUBJECT))
    };
    let schema = registered(Registry::new(options, "protobuf")?.newest(&subject)?).map_err(unusable)?;
    let message = match options.get(options::PROTOBUF_MESSAGE) {
        Some(name) => schema.find(Some(name)),
        // As a record that names no other: the file's first.
        None => schema.at_path(&[0]),
    };
    let message = message.map_err(unusable)?;
    Ok((schema, message))
}

/// What may follow from a message type that says nothing of columns: messages that are used twice are there twice.
const DEPTH_MAX: usize = 64;
const FIELDS_MAX: usize = 10_000;

/// On the way through a message type: the messages around a field, and how many fields there were.
#[derive(Default)]
struct Walk {
    around: Vec<MessageId>,
    fields: usize,
}

fn columns(schema: &Schema, id: MessageId, walk: &mut Walk) -> Result<Vec<(String, SqlType)>, String> {
    let message = schema.message(id);
    if walk.around.contains(&id) {
        return Err(format!("a column of message {}, which holds itself, is not supported", message.name));
    }
    walk.fields += message.fields.len();
    if walk.around.len() >= DEPTH_MAX || walk.fields > FIELDS_MAX {
        return Err(format!(
            "message {} has more than {FIELDS_MAX} fields, or messages in each other more than {DEPTH_MAX} deep",
            message.name
        ));
    }
    walk.around.push(id);
    let typed = |field: &Field, walk: &mut Walk| {
        let ty = column(schema, field, walk).map_err(|why| format!("field {}: {why}", field.name))?;
        let is_outermost = walk.around.len() == 1;
        // Fields of rows are folded, as declared ones are; a column's spelling is kept for the record.
        Ok::<_, String>((if is_outermost { field.name.clone() } else { field.name.to_lowercase() }, ty))
    };
    let columns = message.fields.iter().map(|field| typed(field, walk)).collect();
    walk.around.pop();
    columns
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
