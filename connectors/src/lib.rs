//! Connectors and formats: what brings records in from outside, generators that make them up, what takes rows out, and tables outside
//! that are looked up. Depends on `eddyline-common` only; knows nothing of cuts, jobs, views or SQL text. The contract is
//! `eddyline_common::connector`, the options are `eddyline_common::options`.

pub mod blackhole;
mod changes;
pub mod datagen;
pub mod filesystem;
pub mod format;
mod generator;
pub mod kafka;
pub mod nexmark;
pub mod postgres;
mod print;
pub mod testing;
mod threads;
mod write_only;

use eddyline_common::connector::{LookupConnector, SinkColumn, SinkConnector, SinkMode, SinkSpec, SourceConnector, SourceSpec};
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use std::sync::Arc;

/// The connector of a source whose options are canonical. Checks options and columns; contacts nobody.
pub fn open(spec: &SourceSpec) -> Result<Box<dyn SourceConnector>> {
    match spec.options.get(options::CONNECTOR).map(String::as_str) {
        Some("kafka" | "upsert-kafka") => Ok(Box::new(kafka::KafkaConnector::new(spec)?)),
        Some("filesystem") => Ok(Box::new(filesystem::FileConnector::new(spec)?)),
        Some("datagen") => Ok(Box::new(datagen::connector(spec)?)),
        Some("nexmark") => Ok(Box::new(nexmark::connector(spec)?)),
        Some("postgres") => Ok(Box::new(postgres::LookedUp::new(spec)?)),
        Some(connector @ ("blackhole" | "print")) => Ok(Box::new(write_only::WriteOnly::new(connector))),
        Some(other) => Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unknown connector \"{other}\""))),
        None => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("source \"{}\" has no connector", spec.name))),
    }
}

/// One job's way to a table that is looked up, whose options are canonical. Checks options and columns; contacts nobody.
pub fn open_lookup(spec: &SourceSpec) -> Result<Arc<dyn LookupConnector>> {
    match spec.options.get(options::CONNECTOR).map(String::as_str) {
        Some("postgres") => Ok(Arc::new(postgres::PostgresTable::new(spec)?)),
        _ => Err(SqlError::internal(format!("\"{}\" is no table that is looked up", spec.name))),
    }
}

/// Has the external system make the place that rows are to be written to, if it makes such places by itself.
pub fn prepare_place(options: &std::collections::BTreeMap<String, String>) -> Result<()> {
    let column = SinkColumn { external_name: "value".to_string(), ty: SqlType::Text };
    let spec = SinkSpec {
        name: String::new(),
        incarnation: String::new(),
        options: options.clone(),
        columns: vec![column],
        key: vec![0],
        mode: SinkMode::Append,
    };
    open_sink(&spec)?.check()
}

/// The connector of a sink whose options are canonical. Checks options and columns; contacts nobody.
pub fn open_sink(spec: &SinkSpec) -> Result<Box<dyn SinkConnector>> {
    match spec.options.get(options::CONNECTOR).map(String::as_str) {
        Some("kafka" | "upsert-kafka") => Ok(Box::new(kafka::KafkaSink::new(spec)?)),
        Some("filesystem") => Ok(Box::new(filesystem::FilesystemSink::new(spec)?)),
        Some("blackhole") => Ok(Box::new(blackhole::Blackhole)),
        Some("print") => Ok(Box::new(print::Print::new(spec))),
        Some(other) => Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("connector \"{other}\" cannot be written to"))),
        None => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("sink \"{}\" has no connector", spec.name))),
    }
}
