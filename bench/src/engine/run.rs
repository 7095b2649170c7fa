//! One job driven through all of its input as the coordinator would: one step at a time, each with as many batches as a cut
//! takes, frozen between two steps when a checkpoint is due.

use super::cases::{Batches, Case, Sink};
use super::catalog::BenchCatalog;
use super::checkpoints::Checkpoints;
use crate::Result;
use crate::server::Backend;
use arrow::array::{ArrayRef, TimestampMicrosecondArray};
use arrow::compute::max;
use eddyline_common::kv::KeyValueStore;
use eddyline_common::runtime::SystemThreads;
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{ChangeBatch, Epoch, RelationId, TaggedBatch, Timestamp};
use eddyline_executor::{Engine, EngineConfig, EngineEvent, JobSpec, StateBackend, Step, StepDone, StepInput};
use eddyline_planner::catalog::{ErrorPolicy, Relation, RelationKind};
use eddyline_planner::plan::{ChangelogMode, Op, StreamPlan};
use eddyline_storage::kv::RocksKv;
use eddyline_storage::view::{SegmentDir, Snapshot, View, ViewKey};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// One step's input; the coordinator's `CUT_BYTES_MAX`.
const CUT_BYTES_MAX: usize = 16 << 20;
/// The server's default for operator state of one view in memory.
const STATE_CACHE_BYTES: usize = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Harness {
    pub workers: usize,
    pub backend: Backend,
    pub runtime: Handle,
    /// What the optimiser is to leave out.
    pub disabled_rules: Vec<&'static str>,
}

pub struct Outcome {
    pub elapsed: Duration,
    pub rows_in: u64,
    pub rows_out: u64,
    pub late: usize,
    pub rejected: usize,
    pub steps: usize,
    pub checkpoints: usize,
    /// Bytes of operator state after the last step.
    pub state_bytes: u64,
    pub view: Content,
}

/// What the job's view holds after the last step.
pub struct Content {
    pub columns: Vec<Column>,
    view: Option<Arc<View>>,
    epoch: Epoch,
}

impl Content {
    pub fn rows(&self) -> Result<Snapshot> {
        let view = self.view.as_ref().ok_or("rows were only counted")?;
        Ok(view.snapshot(self.epoch, None)?)
    }
}

impl Harness {
    /// Everything is set up before the clock starts; it stops when the last step is done.
    pub fn run(&self, case: &Case, sink: Sink, input: &Batches) -> Result<Outcome> {
        let dir = tempfile::tempdir()?;
        let kv: Arc<dyn KeyValueStore> = Arc::new(RocksKv::open(&dir.path().join("kv"), None, STATE_CACHE_BYTES)?);
        let backend = match self.backend {
            Backend::Memory => StateBackend::Memory,
            Backend::Rocksdb => StateBackend::Rocksdb,
        };
        let threads = Arc::new(SystemThreads);
        let engine = Engine::start(EngineConfig { workers: self.workers, backend, cache_bytes: STATE_CACHE_BYTES, threads }, kv.clone());
        let mut catalog = BenchCatalog::without(self.disabled_rules.clone());
        let sources = case.inputs.iter().map(|input| catalog.create(&input.create(1))).collect::<Result<Vec<_>>>()?;
        let relation = catalog.create(&case.create_view())?;
        let plan = plan_of(&relation)?;
        let view = match sink {
            Sink::Counter => None,
            Sink::View => {
                let segments = SegmentDir::open(&dir.path().join("views"))?;
                Some(View::new(arrow_schema(&relation.columns), view_key(&relation, &plan), self.workers, Some(segments))?)
            }
        };
        let spec = JobSpec {
            job: relation.id,
            plan: Arc::new(plan),
            view: view.clone(),
            inputs: sources.iter().map(|source| (source.id, arrow_schema(&source.columns))).collect(),
            on_error: ErrorPolicy::Stop,
            parallelism: None,
            rejects: None,
            lookups: BTreeMap::new(),
            restore: None,
        };
        engine.create_job(spec)?;
        let cuts = cuts(input);
        let checkpoints = self.checkpoints(&engine, kv, view.clone(), dir.path())?;
        let watermarks = vec![Timestamp::MIN; sources.len()];
        let sources = sources.iter().map(|source| source.id).collect();
        let mut drive = Drive { engine: &engine, case, sources, job: relation.id, checkpoints, watermarks };
        let mut outcome = drive.all(&cuts)?;
        outcome.view = Content { columns: relation.columns.clone(), view, epoch: Epoch(cuts.len() as u64) };
        Ok(outcome)
    }

    fn checkpoints(&self, engine: &Engine, kv: Arc<dyn KeyValueStore>, view: Option<Arc<View>>, dir: &Path) -> Result<Checkpoints> {
        Checkpoints::start(kv, engine.gate().clone(), view, dir, self.runtime.clone())
    }
}

/// The loop under the clock.
struct Drive<'a> {
    engine: &'a Engine,
    case: &'a Case,
    /// By the input's place, as `watermarks`.
    sources: Vec<RelationId>,
    job: RelationId,
    checkpoints: Checkpoints,
    watermarks: Vec<Timestamp>,
}

impl Drive<'_> {
    fn all(&mut self, cuts: &[Batches]) -> Result<Outcome> {
        let view = Content { columns: Vec::new(), view: None, epoch: Epoch::ZERO };
        let elapsed = Duration::ZERO;
        let mut outcome =
            Outcome { elapsed, rows_in: 0, rows_out: 0, late: 0, rejected: 0, steps: 0, checkpoints: 0, state_bytes: 0, view };
        let begun = Instant::now();
        for (i, cut) in cuts.iter().enumerate() {
            let epoch = Epoch(i as u64 + 1);
            self.step(epoch, cut);
            let done = self.step_done()?;
            outcome.rows_in += done.rows_in;
            outcome.rows_out += done.rows_out;
            outcome.state_bytes = done.state_bytes;
            outcome.late += done.late.iter().map(|s| s.changes.num_rows()).sum::<usize>();
            outcome.rejected += done.rejected.iter().map(|s| s.changes.num_rows()).sum::<usize>();
            self.checkpoints.vacuum_if_due(epoch);
            if let Some(id) = self.checkpoints.begin_if_due(epoch)? {
                self.engine.freeze(self.job, id)?;
            }
        }
        outcome.elapsed = begun.elapsed();
        outcome.steps = cuts.len();
        outcome.checkpoints = self.checkpoints.finish()?;
        Ok(outcome)
    }

    fn step(&mut self, epoch: Epoch, cut: &Batches) {
        let inputs = (0..self.sources.len()).map(|place| self.input(place, cut)).collect();
        self.engine.step(Step { job: self.job, epoch, now: Timestamp(0), inputs });
    }

    /// What a cut holds of one input.
    fn input(&mut self, place: usize, cut: &Batches) -> StepInput {
        let arrival_watermark = self.watermarks[place];
        let rows: Vec<_> = cut.iter().filter(|(of, _)| *of == place).map(|(_, rows)| rows).collect();
        if let Some((column, delay)) = self.case.inputs[place].watermark {
            let newest = rows.iter().filter_map(|rows| newest(rows.column(column))).max();
            self.watermarks[place] = arrival_watermark.max(newest.map_or(Timestamp::MIN, |t| Timestamp(t - delay)));
        }
        let tagged = rows.into_iter().map(|rows| TaggedBatch {
            changes: ChangeBatch::insertions(rows.clone()),
            arrival_watermark,
            now: Timestamp(0),
        });
        StepInput { relation: self.sources[place], batches: tagged.collect(), watermark: self.watermarks[place] }
    }

    /// Waits for the step; what a freeze before it gave is handed on meanwhile.
    fn step_done(&mut self) -> Result<StepDone> {
        loop {
            match self.engine.events().recv_timeout(PATIENCE).map_err(|e| format!("the engine does not answer: {e}"))? {
                EngineEvent::StepDone(done) => return Ok(done),
                EngineEvent::StepsDone(_) => return Err("one job was stepped".into()),
                EngineEvent::Frozen { checkpoint, runs, .. } => self.checkpoints.write(checkpoint, runs)?,
                EngineEvent::JobFailed { epoch, error, .. } => return Err(format!("the job failed at epoch {epoch}: {error}").into()),
            }
        }
    }
}

fn newest(column: &ArrayRef) -> Option<i64> {
    column.as_any().downcast_ref::<TimestampMicrosecondArray>().and_then(max)
}

/// The batches in cuts, each in the order the connectors delivered them.
fn cuts(input: &Batches) -> Vec<Batches> {
    let mut cuts = Vec::new();
    let mut batches = Vec::new();
    let mut bytes = 0;
    for (place, rows) in input {
        bytes += ChangeBatch::insertions(rows.clone()).bytes();
        batches.push((*place, rows.clone()));
        if bytes >= CUT_BYTES_MAX {
            cuts.push(std::mem::take(&mut batches));
            bytes = 0;
        }
    }
    if !batches.is_empty() {
        cuts.push(batches);
    }
    cuts
}

fn plan_of(relation: &Relation) -> Result<StreamPlan> {
    match &relation.kind {
        RelationKind::MaterializedView { plan, .. } => Ok(plan.clone()),
        _ => Err(format!("{} is not a materialized view", relation.name).into()),
    }
}

/// How the server identifies the rows of a view.
fn view_key(relation: &Relation, plan: &StreamPlan) -> ViewKey {
    match &plan.output_node().op {
        Op::Materialize { key } if !key.is_empty() => ViewKey::Keyed(key.clone()),
        _ if relation.mode == ChangelogMode::Append => ViewKey::Append,
        _ => ViewKey::Multiset,
    }
}
