//! Descriptor sets, as `protoc --include_imports -o` writes them: themselves messages of `descriptor.proto`, of which only
//! what reading needs is taken.

use super::escapes::unescaped;
use super::schema::{EnumDefinition, FieldDefinition, FileDefinition, Label, MessageDefinition, Named, Scalar};
use super::wire::{BYTES, Fields, Occurrence, Read, Span, VARINT};
use crate::format::json::Fault;

/// Messages within messages.
const DEPTH_MAX: usize = 64;

/// The files of a set, the imported ones first.
pub fn files(set: &[u8]) -> Result<Vec<FileDefinition>, String> {
    let mut files = Vec::new();
    let read = each(Span::of_record(set), |field| {
        if field.number == 1 {
            files.push(file(message(&field)?)?);
        }
        Ok(())
    });
    read.map_err(|fault| format!("not a descriptor set: {}", fault.in_column("")))?;
    if files.is_empty() {
        return Err("not a descriptor set: it has no file".to_string());
    }
    Ok(files)
}

fn each<'a>(span: Span<'a>, mut field: impl FnMut(Occurrence<'a>) -> Read<()>) -> Read<()> {
    let mut fields = Fields::new(span);
    while let Some(occurrence) = fields.read()? {
        field(occurrence)?;
    }
    Ok(())
}

#[cold]
fn unexpected<T>(field: &Occurrence) -> Read<T> {
    Err(Fault::Malformed(format!("field {} is of another kind", field.number)))
}

fn message<'a>(field: &Occurrence<'a>) -> Read<Span<'a>> {
    if field.wire == BYTES { Ok(field.value) } else { unexpected(field) }
}

fn text(field: &Occurrence) -> Read<String> {
    match std::str::from_utf8(message(field)?.bytes) {
        Ok(text) => Ok(text.to_string()),
        Err(_) => unexpected(field),
    }
}

fn number(field: &Occurrence) -> Read<i64> {
    if field.wire == VARINT { Ok(Fields::new(field.value).varint()? as i64) } else { unexpected(field) }
}

fn file(span: Span) -> Read<FileDefinition> {
    let mut file = FileDefinition::default();
    let mut syntax = String::new();
    each(span, |field| {
        match field.number {
            1 => file.name = text(&field)?,
            2 => file.package = text(&field)?,
            12 => syntax = text(&field)?,
            _ => {}
        }
        Ok(())
    })?;
    if !matches!(syntax.as_str(), "" | "proto2" | "proto3") {
        return Err(Fault::Malformed(format!("file {} has the syntax {syntax}, which is not supported", file.name)));
    }
    let is_proto3 = syntax == "proto3";
    // What follows from the syntax, which may come last.
    each(span, |field| {
        match field.number {
            4 => file.messages.push(message_type(message(&field)?, is_proto3, 0)?),
            5 => file.enums.push(enum_type(message(&field)?)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(file)
}

fn message_type(span: Span, is_proto3: bool, depth: usize) -> Read<MessageDefinition> {
    if depth > DEPTH_MAX {
        return Err(Fault::Malformed("nested too deep".to_string()));
    }
    let mut definition = MessageDefinition::default();
    each(span, |field| {
        match field.number {
            1 => definition.name = text(&field)?,
            2 => definition.fields.push(field_of(message(&field)?, is_proto3)?),
            3 => definition.messages.push(message_type(message(&field)?, is_proto3, depth + 1)?),
            4 => definition.enums.push(enum_type(message(&field)?)?),
            7 => each(message(&field)?, |option| {
                if option.number == 7 {
                    definition.is_map_entry = number(&option)? != 0;
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(definition)
}

fn field_of(span: Span, is_proto3: bool) -> Read<FieldDefinition> {
    let (mut name, mut type_name, mut default) = (String::new(), String::new(), None);
    let (mut tag, mut label, mut kind, mut oneof, mut proto3_optional) = (0, 1, 0, None, false);
    each(span, |field| {
        match field.number {
            1 => name = text(&field)?,
            3 => tag = number(&field)?,
            4 => label = number(&field)?,
            5 => kind = number(&field)?,
            6 => type_name = text(&field)?,
            7 => default = Some(text(&field)?),
            9 => oneof = u32::try_from(number(&field)?).ok(),
            17 => proto3_optional = number(&field)? != 0,
            _ => {}
        }
        Ok(())
    })?;
    let label = match label {
        2 => Label::Required,
        3 => Label::Repeated,
        _ => Label::Optional,
    };
    let ty = match scalar(kind) {
        Some(scalar) => Named::Scalar(scalar),
        None => Named::Type(type_name),
    };
    let number = u32::try_from(tag).map_err(|_| Fault::Malformed(format!("field {name} has no number")))?;
    let has_presence = label != Label::Repeated && (!is_proto3 || proto3_optional || oneof.is_some());
    // Bytes are written with escapes, texts as they are.
    let default = match (default, &ty) {
        (Some(text), Named::Scalar(Scalar::Bytes)) => {
            Some(unescaped(&text).map_err(|why| Fault::Malformed(format!("the default of field {name} has {why}")))?)
        }
        (default, _) => default.map(String::into_bytes),
    };
    // The `oneof` that an optional field of proto3 is of is nobody's.
    let oneof = oneof.filter(|_| !proto3_optional);
    Ok(FieldDefinition { name, number, label, ty, has_presence, oneof, default })
}

fn scalar(kind: i64) -> Option<Scalar> {
    Some(match kind {
        1 => Scalar::Double,
        2 => Scalar::Float,
        3 => Scalar::Int64,
        4 => Scalar::Uint64,
        5 => Scalar::Int32,
        6 => Scalar::Fixed64,
        7 => Scalar::Fixed32,
        8 => Scalar::Bool,
        9 => Scalar::String,
        12 => Scalar::Bytes,
        13 => Scalar::Uint32,
        15 => Scalar::Sfixed32,
        16 => Scalar::Sfixed64,
        17 => Scalar::Sint32,
        18 => Scalar::Sint64,
        _ => return None,
    })
}

fn enum_type(span: Span) -> Read<EnumDefinition> {
    let mut definition = EnumDefinition::default();
    each(span, |field| {
        match field.number {
            1 => definition.name = text(&field)?,
            2 => {
                let mut value = (String::new(), 0);
                each(message(&field)?, |part| {
                    match part.number {
                        1 => value.0 = text(&part)?,
                        2 => value.1 = number(&part)? as i32,
                        _ => {}
                    }
                    Ok(())
                })?;
                definition.values.push(value);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(definition)
}
