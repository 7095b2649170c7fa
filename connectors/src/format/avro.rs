//! Avro records (specification 1.12, binary encoding): each one datum of a record schema.
//!
//! `avro`: the schema is the option `avro.schema`, or follows from the columns as Flink derives it: fields in the columns'
//! order, those that may be NULL a union of null and their type. `avro-confluent`: a record says by a number which schema of
//! a registry it was written with. Fields go to columns by name, as in JSON; what no column wants is skipped by its schema.
//!
//! Hand-written: values go straight into columns, and a writer's schema is resolved against columns rather than against a
//! reader's schema.

mod datum;
mod schema;

use super::registry::{Registered, Registry, schema_number};
use super::rows::RowBuilder;
use super::{PayloadColumn, PayloadParser};
use datum::Reader;
use eddyline_common::{Result, SqlError, SqlState, options};
use schema::{Schema, Type};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A writer's schema against the columns: for each field of the record, the column that wants it.
struct Layout {
    schema: Arc<Schema>,
    columns: Vec<Option<usize>>,
}

impl Layout {
    fn new(schema: Arc<Schema>, columns: &[PayloadColumn], wanted: &[usize]) -> Result<Layout, String> {
        let Type::Record(fields) = schema.root() else { return Err("the Avro schema is not of a record".to_string()) };
        let find = |name: &str| {
            let exact = wanted.iter().find(|c| columns[**c].external_name == name);
            exact.or_else(|| wanted.iter().find(|c| columns[**c].external_name.eq_ignore_ascii_case(name))).copied()
        };
        let columns = fields.iter().map(|(name, _)| find(name)).collect();
        Ok(Layout { schema, columns })
    }

    fn read(&self, bytes: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        let Type::Record(fields) = self.schema.root() else { return Err("the Avro schema is not of a record".to_string()) };
        let mut reader = Reader::new(&self.schema, bytes);
        for ((_, ty), column) in fields.iter().zip(&self.columns) {
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
        let invalid = |why: String| SqlError::new(SqlState::INVALID_PARAMETER, why);
        let schema = match options.get(options::AVRO_SCHEMA) {
            Some(text) => Schema::parse(text).map_err(|why| invalid(format!("option \"{}\": {why}", options::AVRO_SCHEMA)))?,
            None => Schema::of_columns(wanted.iter().map(|c| &columns[*c]))?,
        };
        Ok(AvroParser { layout: Layout::new(Arc::new(schema), columns, wanted).map_err(invalid)? })
    }
}

impl PayloadParser for AvroParser {
    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        self.layout.read(payload, row)
    }
}

/// Records that name their schema in a registry: a zero byte, the schema's number in four bytes, the datum.
pub struct ConfluentParser {
    registry: Arc<Registry>,
    wanted: Vec<usize>,
    layouts: HashMap<u32, Result<Layout, String>>,
}

impl ConfluentParser {
    pub fn new(options: &BTreeMap<String, String>, wanted: &[usize]) -> Result<Self> {
        Ok(ConfluentParser {
            registry: Arc::new(Registry::new(options, "avro-confluent")?),
            wanted: wanted.to_vec(),
            layouts: HashMap::new(),
        })
    }
}

fn text_of(schema: Registered) -> Result<String, String> {
    if schema.kind == "AVRO" { Ok(schema.text) } else { Err(format!("it is of type {}", schema.kind)) }
}

impl PayloadParser for ConfluentParser {
    fn prepare(&mut self, payload: &[u8], columns: &[PayloadColumn]) -> Result<()> {
        let Ok(number) = schema_number(payload) else { return Ok(()) };
        if let std::collections::hash_map::Entry::Vacant(entry) = self.layouts.entry(number) {
            let schema = self.registry.schema(number)?.and_then(text_of);
            let parsed = schema.and_then(|text| Schema::parse(&text)).and_then(|s| Layout::new(Arc::new(s), columns, &self.wanted));
            entry.insert(parsed.map_err(|why| format!("schema {number}: {why}")));
        }
        Ok(())
    }

    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        let number = schema_number(payload)?;
        let layout = self.layouts.get(&number).ok_or_else(|| format!("schema {number} was not asked for"))?;
        layout.as_ref().map_err(String::clone)?.read(&payload[5..], row)
    }
}

#[cfg(test)]
mod tests;
