//! What stands in a source's place for a table that can only be written to.

use eddyline_common::connector::*;
use eddyline_common::{Result, SqlError};
use std::sync::Arc;

pub struct WriteOnly {
    connector: String,
}

impl WriteOnly {
    pub fn new(connector: &str) -> Self {
        WriteOnly { connector: connector.to_string() }
    }

    fn refused<T>(&self) -> Result<T> {
        Err(SqlError::unsupported(format!("a table of connector \"{}\" can only be written to", self.connector)))
    }
}

impl SourceConnector for WriteOnly {
    fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
        Ok(Vec::new())
    }

    fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
        self.refused()
    }

    fn read(&self, _ranges: Vec<PartitionRange>, _sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.refused()
    }
}
