//! What goes into a job and what comes out: its specification, a step, progress, results. Also the parts of a running
//! job and step that its workers share; a worker takes a lock here once per step, never per batch.

use crate::exchange::Transit;
use crate::operators::match_recognize;
use crate::placement::Placement;
use crate::rejects;
use arrow::datatypes::SchemaRef;
use crossbeam_channel::Sender;
use eddyline_common::connector::{LookupConnector, OnTrouble};
use eddyline_common::kv::SortedRun;
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, SqlError, StateTableId, TaggedBatch, Timestamp};
use eddyline_planner::catalog::ErrorPolicy;
use eddyline_planner::plan::{Op, StreamPlan};
use eddyline_storage::view::View;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Output of a step that a worker hands on. Who reads a view of which more comes in one step finds it in the view's rows.
const OUTPUT_BYTES_MAX: usize = 256 << 20;

/// A job to be created.
#[derive(Clone)]
pub struct JobSpec {
    pub job: RelationId,
    pub plan: Arc<StreamPlan>,
    /// `None`: a sink, or the rows are only counted.
    pub view: Option<Arc<View>>,
    /// Where rejected rows are kept; see [`crate::rejects`]. `None`: they are given with each step.
    pub rejects: Option<Arc<View>>,
    /// The stored columns of every relation the plan reads.
    pub inputs: BTreeMap<RelationId, SchemaRef>,
    pub on_error: ErrorPolicy,
    /// So many workers at most do its work; `None`: all.
    pub parallelism: Option<u32>,
    /// The tables outside that its plan looks rows up in.
    pub lookups: BTreeMap<RelationId, JobLookup>,
    /// The job goes on from here, and its state is in the key-value store.
    pub restore: Option<JobProgress>,
}

/// A job's way to a table outside.
#[derive(Clone)]
pub struct JobLookup {
    pub connector: Arc<dyn LookupConnector>,
    pub on_trouble: OnTrouble,
}

/// How far a job has come. Part of every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    pub epoch: Epoch,
    /// Its first step is done: constants have been emitted.
    pub started: bool,
    /// By input relation, after `epoch`.
    pub watermarks: BTreeMap<RelationId, Timestamp>,
    /// Of `epoch`.
    #[serde(default)]
    pub now: Timestamp,
    /// Its content changes at the first epoch whose `now` is not before this, whatever comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_timer: Option<Timestamp>,
}

/// One step: the changes of a job's inputs up to an epoch. Relations without news may be left out.
#[derive(Clone, Debug)]
pub struct Step {
    pub job: RelationId,
    pub epoch: Epoch,
    /// Of `epoch`'s cut.
    pub now: Timestamp,
    pub inputs: Vec<StepInput>,
}

#[derive(Clone, Debug)]
pub struct StepInput {
    pub relation: RelationId,
    pub batches: Vec<TaggedBatch>,
    /// The relation's watermark after the step.
    pub watermark: Timestamp,
}

pub enum EngineEvent {
    StepDone(StepDone),
    /// Of jobs whose steps were begun together.
    StepsDone(Vec<StepDone>),
    /// In the step to `epoch`, or in a freeze after it. The job does nothing any more; it waits to be dropped.
    JobFailed {
        job: RelationId,
        epoch: Epoch,
        error: SqlError,
    },
    /// Any number of runs per state table, not sorted; see `SortedRun::merge`.
    Frozen {
        job: RelationId,
        checkpoint: u64,
        runs: Vec<(StateTableId, SortedRun)>,
    },
}

#[derive(Debug)]
pub struct StepDone {
    pub job: RelationId,
    pub epoch: Epoch,
    /// Changes of the job's relation, tagged for what reads it; net among those of one tag, but for what a step that is applied in pieces
    /// takes back of them. Empty for a job without a view that is no sink.
    pub output: Vec<TaggedBatch>,
    /// It is too much to be handed on: `output` is empty, and the view has it.
    pub is_left_out: bool,
    pub watermark: Timestamp,
    pub late: Vec<SideRows>,
    /// Those for which the job has no view.
    pub rejected: Vec<SideRows>,
    /// How many rows came to the rejected ones, for which the job has a view.
    pub rejections: u64,
    /// Input rows.
    pub rows_in: u64,
    /// Those that came to the operator that had most of them.
    pub rows_most: u64,
    /// Rows of `output`; for a job without a view those that were counted.
    pub rows_out: u64,
    /// Time the workers spent on the step, all of them together.
    pub busy_micros: u64,
    pub state_bytes: u64,
    /// The most that was on its way between workers at a time, of one exchange.
    pub transit_bytes_max: usize,
    pub progress: JobProgress,
}

/// What an operator of a job has done since the job is here, over all workers. A worker adds to it once per step.
#[derive(Debug, Default)]
pub struct OperatorStats {
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    /// Time the workers spent in it, all of them together.
    pub busy_nanos: AtomicU64,
    pub state_bytes: AtomicU64,
}

/// One worker's part of that since its last step.
#[derive(Debug, Default)]
pub(crate) struct OperatorPart {
    pub rows_in: u64,
    pub rows_out: u64,
    pub busy_nanos: u64,
    /// As it was last added.
    state_bytes: u64,
}

impl OperatorPart {
    pub(crate) fn add_to(&mut self, stats: &OperatorStats, state_bytes: u64) {
        stats.rows_in.fetch_add(self.rows_in, Ordering::Relaxed);
        stats.rows_out.fetch_add(self.rows_out, Ordering::Relaxed);
        stats.busy_nanos.fetch_add(self.busy_nanos, Ordering::Relaxed);
        // Wraps when it shrinks; the sum over all workers never does.
        stats.state_bytes.fetch_add(state_bytes.wrapping_sub(self.state_bytes), Ordering::Relaxed);
        *self = OperatorPart { state_bytes, ..Default::default() };
    }
}

/// Rows that an operator could not take.
#[derive(Clone, Debug)]
pub struct SideRows {
    /// Index of the operator in the plan.
    pub node: usize,
    pub reason: String,
    /// In the columns of the operator's input.
    pub changes: ChangeBatch,
}

/// The watermark of every node at a point of progress: that of its relation for a scan, mostly the minimum over inputs else.
pub(crate) fn node_watermarks(plan: &StreamPlan, progress: &JobProgress) -> Vec<Timestamp> {
    let mut watermarks: Vec<Timestamp> = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let watermark = match &node.op {
            Op::Scan { relation, .. } => progress.watermarks.get(relation).copied().unwrap_or(Timestamp::MIN),
            Op::Values { .. } => {
                if progress.started {
                    Timestamp::MAX
                } else {
                    Timestamp::MIN
                }
            }
            Op::ProcessingTime { .. } => progress.now,
            Op::MatchRecognize { within, .. } => match_recognize::behind(watermarks[node.inputs[0]], *within),
            // What is looked up does not hold time back.
            Op::LookupJoin { .. } => watermarks[node.inputs[0]],
            _ => node.inputs.iter().map(|i| watermarks[*i]).min().unwrap_or(Timestamp::MIN),
        };
        watermarks.push(watermark);
    }
    watermarks
}

/// What comes out depends on the row alone, wherever it is worked on.
fn is_stateless(op: &Op) -> bool {
    match op {
        Op::Scan { .. }
        | Op::Filter { .. }
        | Op::Project { .. }
        | Op::WindowAssign { .. }
        | Op::Unnest { .. }
        | Op::PreAggregate { .. }
        | Op::Union
        | Op::Materialize { .. }
        | Op::Sink { .. } => true,
        // Constants are emitted by one worker; processing time is a timer.
        Op::Values { .. } | Op::ProcessingTime { .. } => false,
        Op::Exchange { .. }
        | Op::JoinExchange { .. }
        | Op::Normalize { .. }
        | Op::Aggregate { .. }
        | Op::Join { .. }
        | Op::LookupJoin { .. }
        | Op::ExternalLookup { .. }
        | Op::TemporalJoin { .. }
        | Op::AsofJoin { .. }
        | Op::TopN { .. }
        | Op::Over { .. }
        | Op::SessionAssign { .. }
        | Op::MatchRecognize { .. }
        | Op::TemporalFilter { .. } => false,
    }
}

/// What the workers of one job share.
pub(crate) struct JobShared {
    pub job: RelationId,
    pub plan: Arc<StreamPlan>,
    pub placement: Placement,
    stops_on_error: AtomicBool,
    /// By node of the plan.
    pub operators: Arc<[OperatorStats]>,
    pub transit: Transit,
    /// How much of its output goes into events, if any does.
    pub keeps_output: Option<usize>,
    /// Nothing is kept between steps, and no row has to be on a certain worker: one of them can take a step alone.
    pub is_stateless: bool,
    rejects: Option<Arc<View>>,
    events: Sender<EngineEvent>,
    failed: AtomicBool,
    in_step: AtomicBool,
    /// The epoch of the last step that was begun.
    epoch: AtomicU64,
    progress: Mutex<JobProgress>,
}

impl JobShared {
    pub(crate) fn new(spec: &JobSpec, workers: usize, events: Sender<EngineEvent>) -> Self {
        JobShared {
            placement: Placement::new(spec.job, spec.parallelism, workers),
            job: spec.job,
            plan: spec.plan.clone(),
            stops_on_error: AtomicBool::new(spec.on_error == ErrorPolicy::Stop),
            operators: spec.plan.nodes.iter().map(|_| OperatorStats::default()).collect(),
            transit: Transit::new(spec.plan.nodes.len()),
            keeps_output: match (&spec.view, &spec.plan.output_node().op) {
                (Some(_), _) => Some(OUTPUT_BYTES_MAX),
                (None, Op::Sink { .. }) => Some(usize::MAX),
                (None, _) => None,
            },
            is_stateless: spec.plan.nodes.iter().all(|node| is_stateless(&node.op)),
            rejects: spec.rejects.clone(),
            events,
            failed: AtomicBool::new(false),
            in_step: AtomicBool::new(false),
            epoch: AtomicU64::new(spec.restore.as_ref().map_or(0, |r| r.epoch.0)),
            progress: Mutex::new(spec.restore.clone().unwrap_or_default()),
        }
    }

    pub(crate) fn on_error(&self) -> ErrorPolicy {
        if self.stops_on_error.load(Ordering::Relaxed) { ErrorPolicy::Stop } else { ErrorPolicy::Reject }
    }

    /// For the steps that begin from now on.
    pub(crate) fn set_on_error(&self, policy: ErrorPolicy) {
        self.stops_on_error.store(policy == ErrorPolicy::Stop, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Reports the first failure; true if this is the first.
    pub(crate) fn fail(&self, error: SqlError) -> bool {
        let first = !self.failed.swap(true, Ordering::AcqRel);
        if first {
            tracing::warn!(job = %self.job, %error, "job failed");
            self.send(EngineEvent::JobFailed { job: self.job, epoch: Epoch(self.epoch.load(Ordering::Acquire)), error });
        }
        first
    }

    /// A receiver that is gone belongs to an engine that is being dropped.
    pub(crate) fn send(&self, event: EngineEvent) {
        let _ = self.events.send(event);
    }
}

/// One step while the workers are at it.
pub(crate) struct StepRun {
    pub shared: Arc<JobShared>,
    pub epoch: Epoch,
    pub now: Timestamp,
    /// By node, before and after the step.
    pub before: Vec<Timestamp>,
    pub after: Vec<Timestamp>,
    /// After it; taken when it ends.
    progress: Mutex<JobProgress>,
    parts: Mutex<StepPart>,
    /// Workers that have not ended it.
    running: AtomicUsize,
}

/// What one worker, and in the end all of them, contribute to a step's result.
#[derive(Default)]
pub(crate) struct StepPart {
    output: Vec<TaggedBatch>,
    output_bytes: usize,
    is_left_out: bool,
    pub late: Vec<SideRows>,
    pub rejected: Vec<SideRows>,
    pub rows_in: u64,
    pub rows_most: u64,
    pub rows_out: u64,
    pub busy_micros: u64,
    pub state_bytes: u64,
    pub next_timer: Option<Timestamp>,
}

impl StepPart {
    /// Keeps output, up to a bound: if it is more, all of it is left out.
    pub(crate) fn hand_on(&mut self, output: Vec<TaggedBatch>, bytes_max: usize) {
        self.output_bytes += output.iter().map(|b| b.changes.bytes()).sum::<usize>();
        self.is_left_out |= self.output_bytes > bytes_max;
        self.output.extend(output);
        if self.is_left_out {
            self.output = Vec::new();
        }
    }

    fn add(&mut self, part: StepPart) {
        self.output.extend(part.output);
        self.is_left_out |= part.is_left_out;
        self.late.extend(part.late);
        self.rejected.extend(part.rejected);
        self.rows_in += part.rows_in;
        self.rows_most += part.rows_most;
        self.rows_out += part.rows_out;
        self.busy_micros += part.busy_micros;
        self.state_bytes += part.state_bytes;
        self.next_timer = self.next_timer.into_iter().chain(part.next_timer).min();
        if self.is_left_out {
            self.output = Vec::new();
        }
    }
}

impl StepRun {
    /// Starts a step on so many workers; the job has none in flight.
    pub(crate) fn new(shared: Arc<JobShared>, step: &Step, workers: usize) -> Self {
        assert!(!shared.in_step.swap(true, Ordering::AcqRel), "a job has one step in flight at most");
        let before = shared.progress.lock();
        // The steps of a backfill share the epoch that it reads up to.
        assert!(step.epoch >= before.epoch, "epochs of a job never decrease");
        shared.epoch.store(step.epoch.0, Ordering::Release);
        let mut progress =
            JobProgress { epoch: step.epoch, started: true, watermarks: before.watermarks.clone(), now: step.now, next_timer: None };
        for input in &step.inputs {
            let watermark = progress.watermarks.entry(input.relation).or_insert(Timestamp::MIN);
            *watermark = input.watermark.max(*watermark);
        }
        let (watermarks, after) = (node_watermarks(&shared.plan, &before), node_watermarks(&shared.plan, &progress));
        drop(before);
        StepRun {
            epoch: step.epoch,
            now: step.now,
            before: watermarks,
            after,
            progress: Mutex::new(progress),
            shared,
            parts: Mutex::new(StepPart::default()),
            running: AtomicUsize::new(workers),
        }
    }

    /// A worker is done. The last one closes the step and has it to report.
    pub(crate) fn complete(&self, part: StepPart) -> Result<Option<StepDone>> {
        let mut parts = self.parts.lock();
        parts.add(part);
        if self.running.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(None);
        }
        let mut all = std::mem::take(&mut *parts);
        drop(parts);
        let rejections = match &self.shared.rejects {
            Some(view) => rejects::apply(view, self.epoch, &std::mem::take(&mut all.rejected))?,
            None => 0,
        };
        let progress = JobProgress { next_timer: all.next_timer, ..std::mem::take(&mut *self.progress.lock()) };
        self.shared.progress.lock().clone_from(&progress);
        self.shared.in_step.store(false, Ordering::Release);
        Ok(Some(StepDone {
            job: self.shared.job,
            epoch: self.epoch,
            output: all.output,
            is_left_out: all.is_left_out,
            watermark: self.after[self.shared.plan.output],
            late: all.late,
            rejected: all.rejected,
            rejections,
            rows_in: all.rows_in,
            rows_most: all.rows_most,
            rows_out: all.rows_out,
            busy_micros: all.busy_micros,
            state_bytes: all.state_bytes,
            transit_bytes_max: self.shared.transit.take_most(),
            progress,
        }))
    }
}

/// One freeze while the workers are at it.
pub(crate) struct FreezeRun {
    shared: Arc<JobShared>,
    checkpoint: u64,
    runs: Mutex<Vec<(StateTableId, SortedRun)>>,
    running: AtomicUsize,
}

impl FreezeRun {
    pub(crate) fn new(shared: Arc<JobShared>, checkpoint: u64, workers: usize) -> Self {
        assert!(!shared.in_step.load(Ordering::Acquire), "a job is frozen between its steps");
        FreezeRun { shared, checkpoint, runs: Mutex::default(), running: AtomicUsize::new(workers) }
    }

    pub(crate) fn job(&self) -> RelationId {
        self.shared.job
    }

    pub(crate) fn complete(&self, frozen: Vec<(StateTableId, SortedRun)>) {
        let mut runs = self.runs.lock();
        runs.extend(frozen);
        if self.running.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let runs = std::mem::take(&mut *runs);
        self.shared.send(EngineEvent::Frozen { job: self.shared.job, checkpoint: self.checkpoint, runs });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch, schema};
    use eddyline_common::SqlType;

    #[test]
    fn too_much_output_of_any_worker_is_left_out_as_a_whole() {
        let schema = schema(&[("k", SqlType::BigInt)]);
        let rows = || vec![batch(&schema, &[&[1], &[2]], 0)];
        let bytes = rows()[0].changes.bytes();
        let (mut all, mut small, mut large) = (StepPart::default(), StepPart::default(), StepPart::default());
        small.hand_on(rows(), bytes);
        large.hand_on(rows(), bytes);
        large.hand_on(rows(), bytes);
        assert_eq!((small.output.len(), small.is_left_out, large.output.len(), large.is_left_out), (1, false, 0, true));
        all.add(large);
        all.add(small);
        assert!(all.is_left_out && all.output.is_empty());
    }
}
