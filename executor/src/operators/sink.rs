//! Sink: the end of a sink's plan. Makes the step's changes net and passes them on, old rows before new ones; it keeps
//! nothing. What becomes of them outside is not its affair.

use crate::operator::{Operator, StepContext};
use crate::operators::materialize::{net_converter, settle};
use crate::operators::pending::Pending;
use crate::operators::scan::rename;
use arrow::datatypes::SchemaRef;
use arrow::row::RowConverter;
use eddyline_common::{Result, TaggedBatch, Timestamp};

pub struct Sink {
    output: SchemaRef,
    /// `None` if the input is net already.
    net: Option<RowConverter>,
    pending: Pending,
}

impl Sink {
    /// `input_is_net`: within a step, no row comes both with a positive and with a negative weight.
    pub fn new(output: SchemaRef, input_is_net: bool) -> Result<Self> {
        let net = if input_is_net { None } else { Some(net_converter(&output)?) };
        Ok(Sink { output, net, pending: Pending::default() })
    }
}

impl Operator for Sink {
    fn push(&mut self, _port: usize, batch: TaggedBatch, _ctx: &mut StepContext) -> Result<()> {
        self.pending.push(TaggedBatch { changes: rename(batch.changes, &self.output)?, ..batch })
    }

    fn finish(&mut self, _watermark: Timestamp, ctx: &mut StepContext) -> Result<()> {
        let pending = self.pending.take().into_iter().map(|batch| batch.changes).collect();
        let settled = settle(&self.output, self.output.fields().len(), self.net.as_ref(), pending)?;
        settled.into_iter().for_each(|changes| ctx.emit(changes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, context, net, schema};
    use eddyline_common::SqlType;

    #[test]
    fn a_steps_changes_leave_net_and_old_rows_first() {
        let schema = schema(&[("k", SqlType::BigInt), ("v", SqlType::BigInt)]);
        let mut sink = Sink::new(schema.clone(), false).unwrap();
        let mut ctx = context();
        sink.push(0, batch(&schema, &[&[1, 10], &[2, 20]], 1), &mut ctx).unwrap();
        let mut gone = batch(&schema, &[&[1, 10], &[3, 30]], 2);
        gone.changes = gone.changes.negate();
        sink.push(0, gone, &mut ctx).unwrap();
        sink.push(0, batch(&schema, &[&[1, 11]], 1), &mut ctx).unwrap();
        assert!(ctx.take_output().is_empty());
        sink.finish(Timestamp(5), &mut ctx).unwrap();
        let out = ctx.take_output();
        assert_eq!(net(&out), vec![(vec![1, 11], 1), (vec![2, 20], 1), (vec![3, 30], -1)]);
        let weights: Vec<i64> =
            out.iter().flat_map(|b| (0..b.changes.num_rows()).map(|r| b.changes.weight(r)).collect::<Vec<_>>()).collect();
        assert_eq!(weights, [-1, 1, 1]);
        sink.finish(Timestamp(6), &mut ctx).unwrap();
        assert!(ctx.take_output().is_empty());
    }
}
