//! One life of the process under test: an engine, its key-value store and the views, without server or log. What it takes
//! into its grave is everything but checkpoints.

use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::runtime::SystemThreads;
use eddyline_common::{Epoch, RelationId, StateTableId, TaggedBatch, Timestamp};
use eddyline_executor::{Engine, EngineConfig, EngineEvent, JobProgress, JobSpec, StateBackend, StepDone};
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_planner::plan::{ChangelogMode, Op, StreamPlan};
use eddyline_planner::table_plan;
use eddyline_storage::kv::{MemoryKv, RocksKv};
use eddyline_storage::state::StateCounters;
use eddyline_storage::view::{SegmentDir, View, ViewCheckpoint, ViewFile, ViewKey, ViewManifest};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const MEBIBYTE: usize = 1 << 20;
/// No step of these sizes takes this long.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub workers: usize,
    pub backend: StateBackend,
}

/// Where state is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Memory,
    Rocks,
}

pub struct Process {
    pub engine: Engine,
    pub kv: Arc<dyn KeyValueStore>,
    segments: Arc<SegmentDir>,
    /// In order of creation.
    pub jobs: BTreeMap<RelationId, Job>,
    pub workers: usize,
}

pub struct Job {
    pub relation: Arc<Relation>,
    pub inputs: Vec<RelationId>,
    pub view: Arc<View>,
    pub stepped: Epoch,
    /// Epochs at which its content is that of its query.
    pub exact: BTreeSet<Epoch>,
    pub progress: JobProgress,
    /// What it emitted in this life.
    pub output: Vec<Emitted>,
    pub output_watermark: Timestamp,
    /// Summed weights of the rows that it took.
    pub taken: i64,
    pub late: i64,
    pub rejected: i64,
    /// The newest epoch to which the view was vacuumed.
    pub vacuumed: Epoch,
}

pub struct Emitted {
    pub epoch: Epoch,
    pub batches: Vec<TaggedBatch>,
    pub watermark: Timestamp,
}

/// A job's durable form.
#[derive(Clone)]
pub struct Image {
    pub progress: JobProgress,
    pub view: ViewManifest,
    pub output_watermark: Timestamp,
    pub taken: i64,
    pub late: i64,
    pub rejected: i64,
}

/// By name.
pub type Files = HashMap<String, ViewFile>;

/// Work of all lives of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub state: StateCounters,
    pub disk_reads: u64,
    pub steps: u64,
    pub checks: u64,
    /// Times that every row a view took was found: accepted, late or rejected.
    pub accounted: u64,
    pub late: u64,
    pub rejected: u64,
    pub kills: u64,
    pub checkpoints: u64,
    pub abandoned: u64,
}

impl Process {
    pub fn start(mode: Mode, store: Store, dir: &Path, image: Option<&PathBuf>) -> Process {
        let kv: Arc<dyn KeyValueStore> = match (store, image) {
            (Store::Rocks, _) => Arc::new(RocksKv::open(&dir.join("live"), image.map(PathBuf::as_path), MEBIBYTE).unwrap()),
            (Store::Memory, None) => Arc::new(MemoryKv::new()),
            (Store::Memory, Some(image)) => Arc::new(MemoryKv::open(image).unwrap()),
        };
        let config = EngineConfig { workers: mode.workers, backend: mode.backend, cache_bytes: MEBIBYTE, threads: Arc::new(SystemThreads) };
        let segments = SegmentDir::open(&dir.join("views")).unwrap();
        Process { engine: Engine::start(config, kv.clone()), kv, segments, jobs: BTreeMap::new(), workers: mode.workers }
    }

    pub fn create(&mut self, relation: &Arc<Relation>, inputs: &dyn Fn(RelationId) -> Arc<Relation>, restore: Option<(&Image, &Files)>) {
        let plan = plan_of(relation);
        let schema = eddyline_common::types::arrow_schema(&relation.columns);
        let (key, dir) = (view_key(relation, &plan), Some(self.segments.clone()));
        let view = match restore {
            None => View::new(schema, key, self.workers, dir).unwrap(),
            Some((image, files)) => {
                // Rows are mapped where views are frozen, as in the server.
                let mut fetch = |name: &str| {
                    let (file, place) = (&files[name], self.segments.path_of(name));
                    if file.path.is_none() {
                        return Ok(file.bytes.clone());
                    }
                    if !place.exists() {
                        std::fs::write(place, &file.bytes).unwrap();
                    }
                    self.segments.map(name)
                };
                View::restore(schema, key, self.workers, dir, &image.view, &mut fetch).unwrap()
            }
        };
        let read = plan.inputs();
        let schemas = read.iter().map(|id| (*id, eddyline_common::types::arrow_schema(&inputs(*id).columns))).collect();
        let (on_error, parallelism) = match &relation.kind {
            RelationKind::MaterializedView { options, .. } => (options.on_error, options.parallelism),
            _ => Default::default(),
        };
        let progress = restore.map(|(image, _)| image.progress.clone());
        let spec = JobSpec {
            job: relation.id,
            plan: Arc::new(plan),
            view: Some(view.clone()),
            inputs: schemas,
            on_error,
            parallelism,
            rejects: None,
            lookups: BTreeMap::new(),
            restore: progress.clone(),
        };
        self.engine.create_job(spec).unwrap_or_else(|e| panic!("{}: {e}", relation.sql));
        let image = restore.map(|(image, _)| image);
        let epoch = progress.as_ref().map_or(Epoch::ZERO, |p| p.epoch);
        let job = Job {
            relation: relation.clone(),
            inputs: read,
            view,
            stepped: epoch,
            exact: progress.iter().map(|p| p.epoch).collect(),
            progress: progress.unwrap_or_default(),
            output: Vec::new(),
            output_watermark: image.map_or(Timestamp::MIN, |i| i.output_watermark),
            taken: image.map_or(0, |i| i.taken),
            late: image.map_or(0, |i| i.late),
            rejected: image.map_or(0, |i| i.rejected),
            vacuumed: epoch,
        };
        self.jobs.insert(relation.id, job);
    }

    pub fn next_step(&self) -> StepDone {
        match self.next_event() {
            EngineEvent::StepDone(done) => done,
            EngineEvent::JobFailed { job, epoch, error } => {
                panic!("job failed at epoch {epoch}: {error:?}\n{}", self.jobs[&job].relation.sql)
            }
            EngineEvent::StepsDone(_) => panic!("one job steps at a time"),
            EngineEvent::Frozen { .. } => panic!("nothing was to be frozen"),
        }
    }

    fn next_event(&self) -> EngineEvent {
        self.engine.events().recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("the engine does not answer: {e}"))
    }

    /// The state of all jobs, as runs for the store.
    pub fn freeze(&self, checkpoint: u64) -> Vec<(StateTableId, SortedRun)> {
        let mut frozen = Vec::new();
        self.jobs.keys().for_each(|job| self.engine.freeze(*job, checkpoint).unwrap());
        for _ in 0..self.jobs.len() {
            match self.next_event() {
                EngineEvent::Frozen { runs, checkpoint: answered, .. } => {
                    assert_eq!(answered, checkpoint);
                    frozen.extend(runs);
                }
                EngineEvent::JobFailed { error, .. } => panic!("a freeze failed: {error:?}"),
                EngineEvent::StepDone(_) | EngineEvent::StepsDone(_) => panic!("no step was under way"),
            }
        }
        SortedRun::merge(frozen)
    }

    /// The views as they were at `epoch`, as files that `known` lacks.
    pub fn image(&self, epoch: Epoch, known: &BTreeMap<RelationId, Image>) -> BTreeMap<RelationId, ViewCheckpoint> {
        let nothing = ViewManifest::default();
        let one = |(id, job): (&RelationId, &Job)| {
            let known = known.get(id).map_or(&nothing, |image| &image.view);
            (*id, job.view.checkpoint(epoch, known).unwrap())
        };
        self.jobs.iter().map(one).collect()
    }

    pub fn add_to(&self, totals: &mut Totals) {
        totals.state += self.engine.gate().counters();
        totals.disk_reads += self.kv.disk_reads();
    }
}

fn plan_of(relation: &Relation) -> StreamPlan {
    match &relation.kind {
        RelationKind::MaterializedView { plan, .. } => {
            // What runs is what was persisted.
            let text = serde_json::to_string(plan).unwrap();
            let read: StreamPlan = serde_json::from_str(&text).unwrap();
            assert_eq!(*plan, read, "a plan survives its durable form");
            read
        }
        _ => table_plan(relation),
    }
}

fn view_key(relation: &Relation, plan: &StreamPlan) -> ViewKey {
    let Op::Materialize { key } = &plan.output_node().op else { panic!("a plan ends with a Materialize") };
    match (key.is_empty(), relation.mode) {
        (false, _) => ViewKey::Keyed(key.clone()),
        (true, ChangelogMode::Append) => ViewKey::Append,
        (true, ChangelogMode::Retract) => ViewKey::Multiset,
    }
}
