//! Processing time: rows go on as they are, under a watermark that is the `now` they came with. So no row is late, and what is below in the plan
//! closes its windows as the clock goes.

use crate::operator::{Operator, StepContext};
use eddyline_common::{Result, TaggedBatch, Timestamp};

pub struct ProcessingTime;

impl Operator for ProcessingTime {
    fn push(&mut self, _port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()> {
        ctx.emit_tagged(TaggedBatch { arrival_watermark: batch.now, ..batch });
        Ok(())
    }

    fn finish(&mut self, _watermark: Timestamp, _ctx: &mut StepContext) -> Result<()> {
        Ok(())
    }
}
