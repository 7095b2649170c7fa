//! Connectors and formats: what brings records in from outside and generators that make them up. Depends on
//! `eddyline-common` only; knows nothing of cuts, jobs, views or SQL text. The contract is
//! `eddyline_common::connector`, the options are `eddyline_common::options`.

pub mod datagen;
pub mod filesystem;
pub mod format;
mod generator;
pub mod kafka;
pub mod nexmark;
pub mod testing;

use eddyline_common::connector::{SourceConnector, SourceSpec};
use eddyline_common::{Result, SqlError, SqlState, options};

/// The connector of a source whose options are canonical. Checks options and columns; contacts nobody.
pub fn open(spec: &SourceSpec) -> Result<Box<dyn SourceConnector>> {
    match spec.options.get(options::CONNECTOR).map(String::as_str) {
        Some("kafka" | "upsert-kafka") => Ok(Box::new(kafka::KafkaConnector::new(spec)?)),
        Some("filesystem") => Ok(Box::new(filesystem::FileConnector::new(spec)?)),
        Some("datagen") => Ok(Box::new(datagen::DatagenConnector::new(spec)?)),
        Some("nexmark") => Ok(Box::new(nexmark::NexmarkConnector::new(spec)?)),
        Some(other) => Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unknown connector \"{other}\""))),
        None => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("source \"{}\" has no connector", spec.name))),
    }
}
