//! The contract between a worker and an operator. One instance of an operator serves one worker's shard of one job.
//!
//! An operator is correct for any splitting and any order of a step's batches, transient negative counts included. It
//! knows nothing of workers, exchanges, threads or of other nodes: what leaves it goes into the `StepContext`.

use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Epoch, Result, SqlError, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::catalog::ErrorPolicy;
use std::sync::Arc;

/// Makes a job runnable again on the worker of one of its operators, from any thread; never blocks.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// One operator of one job on one worker. An error ends the job, a panic too; neither touches another job.
pub trait Operator: Send {
    /// One batch of this step on input `port`. Never called with an empty batch. Stateless operators emit at once;
    /// stateful ones hold their output back until `finish`, so that it is net.
    fn push(&mut self, port: usize, batch: TaggedBatch, ctx: &mut StepContext) -> Result<()>;

    /// Every batch of the step has been pushed; `watermark` is the minimum over the inputs, after the step. Called
    /// once per step, and again while `unfinished`; also when nothing was pushed, so it must be cheap without work.
    fn finish(&mut self, watermark: Timestamp, ctx: &mut StepContext) -> Result<()>;

    /// The last `finish` emitted much and has more: it is called again, as it was, once what it emitted has been worked off.
    fn unfinished(&self) -> bool {
        false
    }

    /// Somebody outside has to answer before `finish` can go on. Until then it is not called; whoever answers wakes the job (`Wake`).
    fn waits(&self) -> bool {
        false
    }

    /// What it has given to the disk in this step is too much at present: nothing of the job goes on until it has become less.
    fn is_behind(&self) -> bool {
        false
    }

    /// Dirty state since the last freeze, as entries for the durable store: any number of runs per table, not sorted.
    /// Called between steps.
    fn freeze(&mut self) -> Result<Vec<(StateTableId, SortedRun)>> {
        Ok(Vec::new())
    }

    /// State has outgrown the memory that all operators share: gives back what is over this one's share. Called between
    /// steps.
    fn shrink(&mut self) -> Result<()> {
        Ok(())
    }

    /// When the operator has something to do although nothing comes: at the first step whose `now` is not before this.
    /// Asked between steps.
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }

    /// The watermark at which it closes something next; where time is processing time, that is a timer. Asked between steps.
    fn next_close(&self) -> Option<Timestamp> {
        None
    }

    /// Memory held between steps.
    fn state_bytes(&self) -> usize {
        0
    }
}

/// What an operator sees of the current step, and where its output goes.
#[derive(Debug)]
pub struct StepContext {
    pub epoch: Epoch,
    /// The `now` of the epoch that the step leads to.
    pub now: Timestamp,
    /// Watermark of this node before the step (the minimum over its inputs).
    pub start_watermark: Timestamp,
    on_error: ErrorPolicy,
    output: Vec<TaggedBatch>,
    late: Vec<ChangeBatch>,
    forgotten: Vec<ChangeBatch>,
    rejected: Vec<(String, ChangeBatch)>,
}

impl StepContext {
    pub fn new(epoch: Epoch, now: Timestamp, start_watermark: Timestamp, on_error: ErrorPolicy) -> Self {
        StepContext {
            epoch,
            now,
            start_watermark,
            on_error,
            output: Vec::new(),
            late: Vec::new(),
            forgotten: Vec::new(),
            rejected: Vec::new(),
        }
    }

    /// Output of a stateful operator: its rows came about in this step, so they carry the watermark at its start and its `now`.
    pub fn emit(&mut self, changes: ChangeBatch) {
        let (arrival_watermark, now) = (self.start_watermark, self.now);
        self.emit_tagged(TaggedBatch { changes, arrival_watermark, now });
    }

    /// Output of a stateless operator, which keeps the tag of the batch it came from.
    pub fn emit_tagged(&mut self, batch: TaggedBatch) {
        if !batch.changes.is_empty() {
            self.output.push(batch);
        }
    }

    /// Input rows that would have touched dropped state.
    pub fn late(&mut self, changes: ChangeBatch) {
        if !changes.is_empty() {
            self.late.push(changes);
        }
    }

    /// What would be taken away from state that was forgotten; the columns may be fewer than the input's.
    pub fn forgotten(&mut self, changes: ChangeBatch) {
        if !changes.is_empty() {
            self.forgotten.push(changes);
        }
    }

    /// Input rows that cannot be evaluated, with their weights: a retraction rejected with -1 takes back the rejection
    /// of its row. Fails with `error` itself when the job's policy is to stop.
    pub fn reject(&mut self, changes: ChangeBatch, error: SqlError) -> Result<()> {
        match self.on_error {
            ErrorPolicy::Stop => Err(error),
            ErrorPolicy::Reject => {
                if !changes.is_empty() {
                    self.rejected.push((error.message, changes));
                }
                Ok(())
            }
        }
    }

    pub fn take_output(&mut self) -> Vec<TaggedBatch> {
        std::mem::take(&mut self.output)
    }

    pub fn take_late(&mut self) -> Vec<ChangeBatch> {
        std::mem::take(&mut self.late)
    }

    pub fn take_forgotten(&mut self) -> Vec<ChangeBatch> {
        std::mem::take(&mut self.forgotten)
    }

    pub fn take_rejected(&mut self) -> Vec<(String, ChangeBatch)> {
        std::mem::take(&mut self.rejected)
    }
}
