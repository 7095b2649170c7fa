//! Kafka topics as sources, and as sinks (`sink`). Partitions are assigned by hand and progress is ours: nothing is committed to Kafka.
//!
//! Invariants: only committed records are read (`isolation.level=read_committed`), so that a range read again gives
//! the same records; a position only moves over offsets that were delivered or that Kafka said are holes.

mod asking;
mod client;
mod identity;
mod properties;
mod queue;
mod reader;
mod record;
mod sink;
mod startup;
mod watch;

use client::Settings;
use eddyline_common::connector::*;
use eddyline_common::{Result, SqlError, SqlState};
use record::RecordLayout;
pub use sink::KafkaSink;
use std::sync::Arc;

pub struct KafkaConnector {
    settings: Arc<Settings>,
    layout: Arc<RecordLayout>,
}

impl KafkaConnector {
    pub fn new(spec: &SourceSpec) -> Result<Self> {
        let settings = Settings::new(spec)?;
        let layout = RecordLayout::new(spec, &settings.topic)?;
        Ok(KafkaConnector { settings: Arc::new(settings), layout: Arc::new(layout) })
    }
}

impl SourceConnector for KafkaConnector {
    fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
        startup::resolve(&self.settings)
    }

    fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
        startup::present(&self.settings).map(Some)
    }

    fn remember(&self, notes: &[SourceNote]) -> Result<()> {
        self.settings.identity.remember(notes)
    }

    fn read(&self, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.start(&self.layout, ranges, sink)
    }

    fn read_columns(&self, ranges: Vec<PartitionRange>, kept: &[bool], sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.start(&Arc::new(self.layout.keeping(kept)), ranges, sink)
    }
}

impl KafkaConnector {
    fn start(&self, layout: &Arc<RecordLayout>, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        if let Some(range) = ranges.iter().find(|range| range.partition.0 < 0 || range.start.0 < 0) {
            let message = format!("there is no partition {} or offset {}", range.partition, range.start);
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, message));
        }
        Ok(Box::new(reader::KafkaReader::start(self.settings.clone(), layout, ranges, sink)?))
    }
}
