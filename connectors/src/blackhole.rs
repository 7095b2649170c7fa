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
    fn write(&mut self, step: SinkStep, _changes: &ChangeBatch) -> Result<()> {
        self.0 = Some(step.number);
        Ok(())
    }

    fn flush(&mut self, _all: bool) -> Result<Option<u64>> {
        Ok(self.0)
    }
}
