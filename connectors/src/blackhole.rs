//! A sink that takes everything and keeps nothing: for measuring, and for trying out.

use eddyline_common::connector::*;
use eddyline_common::{ChangeBatch, Result};
use std::sync::Arc;

pub struct Blackhole;

struct Nothing(Option<u64>);

impl SinkConnector for Blackhole {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn open(&self, _after: u64, _monitor: Arc<dyn SinkMonitor>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Nothing(None)))
    }
}

impl SinkWriter for Nothing {
    /// There are no records: the changes are counted.
    fn write(&mut self, step: SinkStep, changes: &ChangeBatch) -> Result<u64> {
        self.0 = Some(step.number);
        Ok(changes.weights.as_ref().map_or(changes.num_rows() as u64, |weights| weights.values().iter().map(|w| w.unsigned_abs()).sum()))
    }

    fn flush(&mut self, _all: bool) -> Result<Option<u64>> {
        Ok(self.0)
    }
}
