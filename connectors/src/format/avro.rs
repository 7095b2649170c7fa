//! Avro records (specification 1.12, binary encoding): each one datum of a record schema.
//!
//! `avro`: the schema is the option `avro.schema`, or follows from the columns as Flink derives it: fields in the columns'
//! order, those that may be NULL a union of null and their type. `avro-confluent`: a record says by a number which schema of
//! a registry it was written with, and a schema may refer to others there. Fields go to columns by name, as in JSON; what no
//! column wants is skipped by its schema. A source that declares no columns has those of its schema (`describe`).
//!
//! Hand-written: values go straight into columns, and a writer's schema is resolved against columns rather than against a
//! reader's schema.

mod datum;
mod describe;
mod schema;

pub use describe::describe;

use super::registry::{Kept, Registered, Registry, schema_number};
use super::rows::RowBuilder;
use super::{PayloadColumn, PayloadParser};
use datum::Reader;
use eddyline_common::{Result, SqlError, SqlState, options};
use schema::{Schema, TypeId};
use std::collections::BTreeMap;

fn invalid(why: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER, why)
}

/// The schema that the options say.
fn declared(options: &BTreeMap<String, String>) -> Result<Option<Schema>> {
    let Some(text) = options.get(options::AVRO_SCHEMA) else { return Ok(None) };
    Schema::parse(text, &[]).map(Some).map_err(|why| invalid(format!("option \"{}\": {why}", options::AVRO_SCHEMA)))
}

/// A writer's schema against the columns: the fields of the record in turn, with the column that wants each.
struct Layout {
    schema: Schema,
    fields: Vec<(TypeId, Option<usize>)>,
}

impl Layout {
    fn new(schema: Schema, columns: &[PayloadColumn], wanted: &[usize]) -> Result<Layout, String> {
        let find = |name: &str| {
            let exact = wanted.iter().find(|c| columns[**c].external_name == name);
            exact.or_else(|| wanted.iter().find(|c| columns[**c].external_name.eq_ignore_ascii_case(name))).copied()
        };
        let fields: Vec<_> = match (schema.fields(), wanted) {
            (Ok(fields), _) => fields.iter().map(|(name, ty)| (*ty, find(name))).collect(),
            // A bare value, as keys often are, is that of the only column.
            (Err(_), [only]) => vec![(schema.root, Some(*only))],
            (Err(why), _) => return Err(why),
        };
        Ok(Layout { schema, fields })
    }

    fn read(&self, bytes: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        let mut reader = Reader::new(&self.schema, bytes);
        for (ty, column) in &self.fields {
            match column {
                Some(column) => row.put(*column, |buffer| reader.read(*ty, Some(buffer), 0))?,
                None => reader.read(*ty, None, 0).map_err(|fault| fault.in_column("(unused)"))?,
            }
        }
        if reader.is_at_end() { Ok(()) } else { Err("malformed Avro: more after the end of the record".to_string()) }
    }
}

/// Records of one schema.
pub struct AvroParser {
    layout: Layout,
}

impl AvroParser {
    pub fn new(options: &BTreeMap<String, String>, columns: &[PayloadColumn], wanted: &[usize]) -> Result<Self> {
        let schema = match declared(options)? {
            Some(schema) => schema,
            None => Schema::of_columns(wanted.iter().map(|c| &columns[*c]))?,
        };
        Ok(AvroParser { layout: Layout::new(schema, columns, wanted).map_err(invalid)? })
    }

    /// Of records' keys, which the option's schema does not describe.
    pub fn of_key(columns: &[PayloadColumn], wanted: &[usize]) -> Result<Self> {
        Self::new(&BTreeMap::new(), columns, wanted)
    }
}

impl PayloadParser for AvroParser {
    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        self.layout.read(payload, row)
    }
}

/// Records that name their schema in a registry: a zero byte, the schema's number in four bytes, the datum.
pub struct ConfluentParser {
    registry: Registry,
    wanted: Vec<usize>,
    layouts: Kept<u32, Layout>,
}

impl ConfluentParser {
    pub fn new(options: &BTreeMap<String, String>, wanted: &[usize]) -> Result<Self> {
        Ok(ConfluentParser { registry: Registry::new(options, "avro-confluent")?, wanted: wanted.to_vec(), layouts: Kept::default() })
    }
}

/// A registry's schema, with those it refers to.
fn registered(schema: Registered) -> Result<Schema, String> {
    if schema.kind == "AVRO" { Schema::parse(&schema.text, &schema.imported) } else { Err(format!("it is of type {}", schema.kind)) }
}

impl PayloadParser for ConfluentParser {
    fn prepare(&mut self, payload: &[u8], columns: &[PayloadColumn]) -> Result<()> {
        let Ok(number) = schema_number(payload) else { return Ok(()) };
        if !self.layouts.has(&number) {
            let schema = self.registry.schema(number)?.and_then(registered);
            let layout = schema.and_then(|schema| Layout::new(schema, columns, &self.wanted));
            self.layouts.keep(number, layout.map_err(|why| format!("schema {number}: {why}")));
        }
        Ok(())
    }

    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        self.layouts.get(&schema_number(payload)?)?.read(&payload[5..], row)
    }
}

#[cfg(test)]
mod tests;
