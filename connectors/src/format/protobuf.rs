//! Protocol Buffers records: each one message, whose fields go to columns by name.
//!
//! The message type is known beforehand, from a descriptor set or the text of a `.proto` file (`Parser`), or each record says
//! by a number which schema of a registry it was written with, and by a path which message of it (`RegistryParser`). Either way
//! the type is planned against the columns once. What no column wants is passed over by its wire type.
//!
//! - `schema`: message types; `descriptor` and `source`: where they come from; `escapes`: in their texts
//! - `plan`: a message type against columns; `wire`, `decode`: records by a plan; `encode`: records from columns
//! - `describe`: columns from a message type

mod decode;
mod describe;
mod descriptor;
mod encode;
mod escapes;
mod plan;
mod schema;
mod source;
mod wire;

pub use describe::describe;
pub use encode::{ProtobufEncoder, ProtobufRows};

use super::json::parse_binary;
use super::registry::{Kept, Registered, Registry, schema_number};
use super::rows::RowBuilder;
use super::{PayloadColumn, PayloadParser};
use decode::Decoder;
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use plan::{MessagePlan, Planner, Want};
use schema::{FileDefinition, MessageId, Schema};
use std::collections::BTreeMap;
use wire::{Fields, Span, zigzag};

fn invalid(why: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, why)
}

/// The message type that options say, if they say it without a registry.
fn declared(options: &BTreeMap<String, String>) -> Result<Option<(Schema, MessageId)>> {
    let files = match (options.get(options::PROTOBUF_DESCRIPTOR_SET), options.get(options::PROTOBUF_SCHEMA)) {
        (Some(_), Some(_)) => {
            let message = format!("option \"{}\" and a descriptor exclude each other", options::PROTOBUF_SCHEMA);
            return Err(invalid(message));
        }
        (Some(set), None) => parse_binary(set)
            .ok_or_else(|| "neither base64 nor \\x and hexadecimal digits".to_string())
            .and_then(|set| descriptor::files(&set).map_err(|why| format!("{why}; write it with protoc --include_imports -o FILE"))),
        (None, Some(text)) => source::file("the schema", text).map(with_well_known),
        (None, None) => return Ok(None),
    };
    let option = if options.contains_key(options::PROTOBUF_SCHEMA) { options::PROTOBUF_SCHEMA } else { options::PROTOBUF_DESCRIPTOR_SET };
    let schema = files.and_then(|files| Schema::new(&files)).map_err(|why| invalid(format!("option \"{option}\": {why}")))?;
    let message = options.get(options::PROTOBUF_MESSAGE).map(String::as_str);
    let id = schema.find(message).map_err(|why| {
        let error = SqlError::new(SqlState::UNDEFINED_OBJECT, why);
        if message.is_none() { error.with_hint(format!("Write {} = '...'.", options::PROTOBUF_MESSAGE)) } else { error }
    })?;
    Ok(Some((schema, id)))
}

/// The message type that the options say; an error if they leave it to a registry.
fn declared_only(options: &BTreeMap<String, String>) -> Result<(Schema, MessageId)> {
    declared(options)?.ok_or_else(|| {
        invalid("format \"protobuf\" needs a message type").with_hint(format!(
            "Give {}, {} or schema.registry.",
            options::PROTOBUF_DESCRIPTOR,
            options::PROTOBUF_SCHEMA
        ))
    })
}

/// The options of a record's key, which is a message of its own.
pub(super) fn options_of_key(options: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut of_key = options.clone();
    if options.contains_key(options::REGISTRY_URL) {
        of_key.remove(options::PROTOBUF_MESSAGE);
        return Ok(of_key);
    }
    let missing = || {
        invalid("keys of format \"protobuf\" need a message type")
            .with_hint(format!("Give {}, or another key.format.", options::PROTOBUF_KEY_MESSAGE))
    };
    let message = options.get(options::PROTOBUF_KEY_MESSAGE).ok_or_else(missing)?;
    of_key.insert(options::PROTOBUF_MESSAGE.to_string(), message.clone());
    Ok(of_key)
}

/// Behind the types that come with Protocol Buffers.
fn with_well_known(file: FileDefinition) -> Vec<FileDefinition> {
    let own = source::file("google/protobuf", source::WELL_KNOWN).expect("the types of Protocol Buffers parse");
    if file.package == own.package { vec![file] } else { vec![own, file] }
}

fn plan(
    schema: &Schema,
    message: MessageId,
    options: &BTreeMap<String, String>,
    columns: &[PayloadColumn],
    wanted: &[usize],
    strict: bool,
) -> Result<MessagePlan, String> {
    let want = |c: &usize| Want { name: &columns[*c].external_name, ty: &columns[*c].ty, target: *c };
    let wants: Vec<Want> = wanted.iter().map(want).collect();
    let reads_defaults = options::boolean(options, options::PROTOBUF_DEFAULTS);
    Planner { schema, reads_defaults, strict }.message(message, &wants)
}

/// The parser that the options ask for.
pub(super) fn parser(options: &BTreeMap<String, String>, columns: &[PayloadColumn], wanted: &[usize]) -> Result<Box<dyn PayloadParser>> {
    if options.contains_key(options::REGISTRY_URL) {
        return Ok(Box::new(RegistryParser::new(options, wanted)?));
    }
    let (schema, message) = declared_only(options)?;
    let plan = plan(&schema, message, options, columns, wanted, true).map_err(|why| SqlError::new(SqlState::DATATYPE_MISMATCH, why))?;
    Ok(Box::new(Parser { plan, decoder: Decoder::default() }))
}

/// An encoder of fields that are a batch's columns of these numbers.
pub(super) fn encoder(options: &BTreeMap<String, String>, fields: &[(usize, String, SqlType)]) -> Result<ProtobufEncoder> {
    let needed = || {
        invalid("what is written in format \"protobuf\" needs a message type").with_hint(format!(
            "Give {} or {}: a registry is read only.",
            options::PROTOBUF_DESCRIPTOR,
            options::PROTOBUF_SCHEMA
        ))
    };
    let (schema, message) = declared(options)?.ok_or_else(needed)?;
    let columns: Vec<encode::Column> = fields.iter().map(|(column, name, ty)| (*column, name.as_str(), ty)).collect();
    ProtobufEncoder::new(&schema, message, &columns).map_err(|why| SqlError::new(SqlState::DATATYPE_MISMATCH, why))
}

/// Records of one message type.
struct Parser {
    plan: MessagePlan,
    decoder: Decoder,
}

impl PayloadParser for Parser {
    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        self.decoder.read(&self.plan, Span::of_record(payload), row)
    }
}

/// Records that name their schema in a registry: a zero byte, the schema's number in four bytes, the path of the message in the
/// schema's file, the message.
struct RegistryParser {
    registry: Registry,
    options: BTreeMap<String, String>,
    wanted: Vec<usize>,
    schemas: Kept<u32, Schema>,
    plans: Kept<(u32, Vec<u64>), MessagePlan>,
    decoder: Decoder,
    /// The path of the record at hand. Kept for its memory.
    key: (u32, Vec<u64>),
}

/// Messages within messages that a path may lead through.
const PATH_MAX: u64 = 32;

impl RegistryParser {
    fn new(options: &BTreeMap<String, String>, wanted: &[usize]) -> Result<Self> {
        Ok(RegistryParser {
            registry: Registry::new(options, "protobuf")?,
            options: options.clone(),
            wanted: wanted.to_vec(),
            schemas: Kept::default(),
            plans: Kept::default(),
            decoder: Decoder::default(),
            key: (0, Vec::new()),
        })
    }

    /// Takes the schema's number and the message's path into `key`; where the message begins.
    fn read_head(&mut self, payload: &[u8]) -> Result<usize, String> {
        let (number, path) = &mut self.key;
        *number = schema_number(payload)?;
        path.clear();
        let mut fields = Fields::from(Span::of_record(payload), 5);
        let mut next = || fields.varint().map(zigzag).map_err(|fault| fault.in_column(""));
        let len = next()?;
        match u64::try_from(len) {
            // The file's first message, of which most have only one.
            Ok(0) => path.push(0),
            Ok(len) if len <= PATH_MAX => {
                for _ in 0..len {
                    path.push(next()? as u64);
                }
            }
            _ => return Err("the record's path to its message is none".to_string()),
        }
        Ok(fields.position())
    }

    fn plan(&self, columns: &[PayloadColumn]) -> Result<MessagePlan, String> {
        let (number, path) = &self.key;
        let schema = self.schemas.get(number)?;
        let message = schema.at_path(path)?;
        if let Some(wanted) = self.options.get(options::PROTOBUF_MESSAGE) {
            let name = &schema.message(message).name;
            if schema.find(Some(wanted)) != Ok(message) {
                return Err(format!("the record is a message {name}, not {wanted}"));
            }
        }
        plan(schema, message, &self.options, columns, &self.wanted, false)
    }
}

/// A registry's schema, with those it imports.
fn registered(schema: Registered) -> Result<Schema, String> {
    if schema.kind != "PROTOBUF" {
        return Err(format!("it is of type {}", schema.kind));
    }
    let main = source::file("the schema", &schema.text)?;
    let mut files = with_well_known(main);
    let main = files.pop();
    for (name, text) in &schema.imported {
        let file = source::file(name, text).map_err(|why| format!("{name}: {why}"))?;
        files.extend(Some(file).filter(|file| file.package != "google.protobuf"));
    }
    files.extend(main);
    Schema::new(&files)
}

impl PayloadParser for RegistryParser {
    fn prepare(&mut self, payload: &[u8], columns: &[PayloadColumn]) -> Result<()> {
        if self.read_head(payload).is_err() || self.plans.has(&self.key) {
            return Ok(());
        }
        let number = self.key.0;
        if !self.schemas.has(&number) {
            self.schemas.keep(number, self.registry.schema(number)?.and_then(registered));
        }
        let plan = self.plan(columns).map_err(|why| format!("schema {number}: {why}"));
        self.plans.keep(self.key.clone(), plan);
        Ok(())
    }

    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        let begins = self.read_head(payload)?;
        let plan = self.plans.get(&self.key)?;
        self.decoder.read(plan, Span::of_record(payload).part(begins, payload.len()), row)
    }
}

#[cfg(test)]
mod tests;
